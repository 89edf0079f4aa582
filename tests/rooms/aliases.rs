//! Aliases and accounts of the live MTA: who gets what, and what a refresh changes.

use std::fs;

use crate::support::client::{Client, letter};
use crate::support::world::World;

/// A world with these two files.
fn world(accounts: &str, aliases: &str) -> World {
    let mut world = World::without_mta(&[]);
    fs::create_dir_all(world.spool()).unwrap();
    let (accounts_file, aliases_file) = (world.spool().join("accounts"), world.spool().join("aliases"));
    fs::write(&accounts_file, accounts).unwrap();
    fs::write(&aliases_file, aliases).unwrap();
    world.configure(&format!(
        "accounts {}\naliases {}\n",
        accounts_file.display(),
        aliases_file.display()
    ));
    world.start();
    world
}

#[test]
fn an_alias_is_taken_and_everybody_it_stands_for_gets_the_letter_once() {
    let world = world("bob:\ncarol:\n", "staff: bob, carol\nall: staff, bob+all\n");
    let mut client = Client::of(&world);
    client.mail(
        "ann@a.example",
        &["all@mta.test", "carol@mta.test"],
        &letter("Hello"),
    );
    world.wait_for_letters("carol@mta.test", 1);
    world.wait_for_letters("bob@mta.test", 2);
    world.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
    assert_eq!(
        world.sql("SELECT recipient || ': ' || text FROM history WHERE event = 'expanded'"),
        "all@mta.test: bob@mta.test, carol@mta.test, bob+all@mta.test"
    );
    assert!(client.say("MAIL FROM:<ann@a.example>").starts_with("250"));
    assert!(client.say("RCPT TO:<nobody@mta.test>").starts_with("550 5.1.1"));
    assert!(client.say("RCPT TO:<STAFF+x@mta.test>").starts_with("250"));
}

#[test]
fn the_mailbox_behind_an_alias_gets_its_letter_whoever_is_named_first() {
    let world = world("bob:\ncarol:\ndave:\n", "bob: carol\nteam: \\bob, dave\n");
    let mut client = Client::of(&world);
    client.mail(
        "ann@a.example",
        &["team@mta.test", "bob@mta.test"],
        &letter("one"),
    );
    client.mail(
        "ann@a.example",
        &["bob@mta.test", "team@mta.test"],
        &letter("two"),
    );
    client.mail(
        "ann@a.example",
        &["team@mta.test", "dave@mta.test"],
        &letter("three"),
    );
    for (name, letters) in [("bob", 3), ("carol", 2), ("dave", 3)] {
        world.wait_for_letters(&format!("{name}@mta.test"), letters);
    }
    world.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
    assert_eq!(world.letters("dave@mta.test").len(), 3);
    assert_eq!(world.letters("bob@mta.test").len(), 3);
}

#[test]
fn a_refresh_reads_the_aliases_again_and_wrong_ones_change_nothing() {
    let world = world("bob:\ncarol:\n", "boss: bob\n");
    let aliases = world.spool().join("aliases");
    fs::write(&aliases, "boss: |cat\n").unwrap();
    let answer = world.ask("tell refresh");
    assert_eq!(answer.status, 78);
    let told = format!("{}{}", answer.text, answer.complaint);
    let expected = format!(
        "{}:1: \"|cat\": expected an address; an alias never runs a program",
        aliases.display()
    );
    assert!(told.contains(&expected), "{told}");
    Client::of(&world).mail("ann@a.example", &["boss@mta.test"], &letter("Hello"));
    world.wait_for_letters("bob@mta.test", 1);
    fs::write(&aliases, "boss: carol\n").unwrap();
    world.tell("refresh");
    Client::of(&world).mail("ann@a.example", &["boss@mta.test"], &letter("Hello"));
    world.wait_for_letters("carol@mta.test", 1);
    assert_eq!(world.letters("bob@mta.test").len(), 1);
}
