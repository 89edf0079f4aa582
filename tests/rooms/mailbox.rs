//! Local recipients find their mail in a Maildir.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::errno::Errno;

use crate::support::client::{Client, letter};
use crate::support::shim::{Fault, SYNC, WRITE};
use crate::support::world::{World, files};

#[test]
fn a_letter_is_in_new_with_its_envelope_on_top_and_the_line_ends_of_this_system() {
    let world = World::load(&[]);
    let id = Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("Hello"));
    let letters = world.wait_for_letters("jdoe@mta.test", 1);
    let text = String::from_utf8(letters[0].clone()).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("Return-Path: <bsmith@univac.com>"));
    assert_eq!(lines.next(), Some("Delivered-To: jdoe@mta.test"));
    assert_eq!(lines.next(), Some("Received: from univac.com ([127.0.0.1])"));
    assert!(
        lines.next().unwrap().ends_with(&format!("with ESMTP id {id}")),
        "{text}"
    );
    assert!(!text.contains('\r'));
    let sent = String::from_utf8(letter("Hello")).unwrap().replace('\r', "");
    assert!(text.ends_with(&sent), "{text}");
}

#[test]
fn a_maildir_has_its_three_folders_and_nothing_stays_in_tmp() {
    let world = World::load(&[]);
    for _ in 0..3 {
        Client::of(&world).mail("", &["jdoe@mta.test"], &letter("Hello"));
    }
    world.wait_for_letters("jdoe@mta.test", 3);
    world.wait_for_sql("SELECT count(*) FROM inbound_work_queue", "0");
    let mailbox = world.mailbox("jdoe@mta.test");
    for (folder, number) in [("tmp", 0), ("new", 3), ("cur", 0)] {
        assert_eq!(files(&mailbox.join(folder)).len(), number, "{folder}");
    }
    // Nobody else reads it.
    let mode = fs::metadata(&mailbox).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    let letters = world.letters("jdoe@mta.test");
    assert!(
        letters
            .iter()
            .all(|letter| letter.starts_with(b"Return-Path: <>\n"))
    );
}

#[test]
fn each_recipient_of_a_message_gets_a_letter_of_its_own() {
    let world = World::load(&["--local-domain", "mta.test", "--local-domain", "second.test"]);
    let to = [
        "jdoe@mta.test",
        "JDoe@Second.Test",
        "jdoe+list@mta.test",
        "postmaster",
    ];
    Client::of(&world).mail("bsmith@univac.com", &to, &letter("to many"));
    let delivered_to = |address, number| -> Vec<String> {
        let letters = world.wait_for_letters(address, number);
        let line = |letter: &Vec<u8>| String::from_utf8_lossy(letter).lines().nth(1).unwrap().to_owned();
        let mut lines: Vec<String> = letters.iter().map(line).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        delivered_to("jdoe@mta.test", 2),
        ["Delivered-To: jdoe+list@mta.test", "Delivered-To: jdoe@mta.test"]
    );
    assert_eq!(
        delivered_to("jdoe@second.test", 1),
        ["Delivered-To: JDoe@second.test"]
    );
    assert_eq!(
        delivered_to("postmaster@mta.test", 1),
        ["Delivered-To: postmaster@mta.test"]
    );
    world.wait_for_sql("SELECT count(*) FROM history WHERE event = 'delivered'", "4");
}

#[test]
fn a_mailbox_that_can_not_be_written_is_tried_again() {
    let world = World::load(&["--retry-schedule", "1s"]);
    let in_the_way = world.spool().join("mail");
    fs::write(&in_the_way, "a file where a folder should be").unwrap();
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("later"));
    let deferred = "SELECT count(*) > 0 FROM history WHERE event = 'deferred'";
    world.wait_for_sql(deferred, "1");
    assert_eq!(
        world.sql("SELECT state FROM inbound_work_queue"),
        "WQ_PENDING_CONVERSION"
    );
    fs::remove_file(&in_the_way).unwrap();
    world.wait_for_letters("jdoe@mta.test", 1);
}

#[test]
fn a_message_that_has_passed_too_many_hosts_goes_no_further() {
    let world = World::load(&["--max-hops", "3"]);
    let hop = b"Received: from a.test by b.test; Mon, 23 Nov 2026 10:00:00 +0000\r\n";
    // As many as it may have passed, and one more; in the body any number of such lines may stand.
    let content = |lines| [hop.repeat(lines), letter("round and round"), hop.repeat(9)].concat();
    Client::of(&world).mail("bsmith@mta.test", &["jdoe@mta.test"], &content(3));
    let refused = Client::of(&world).try_mail("bsmith@mta.test", &["jdoe@mta.test"], &content(4));
    assert!(refused.unwrap().starts_with("554 5.4.6"));
    assert_eq!(world.wait_for_letters("jdoe@mta.test", 1).len(), 1);
}

#[test]
fn what_was_read_in_a_message_can_be_asked_for_in_the_view() {
    let world = World::load(&[]);
    world.tell("smtpmta stop outbound");
    let content = "From: \"Smith, Bob\" <bsmith@univac.com>\r\nTo: jdoe@ibm.com\r\n\
                   Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@univac.com>\r\n\
                   Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n\
                   Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n\
                   Content-Disposition: attachment; filename=\"plan.pdf\"\r\n\r\nx\r\n--b--\r\n";
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], content.as_bytes());
    world.wait_for_sql(
        "SELECT sender, recipient, subject, message_id, attachments, hops FROM smtp_box",
        "bsmith@univac.com|jdoe@ibm.com|Grüße|<1@univac.com>|plan.pdf|1",
    );
}

#[test]
fn a_letter_whose_delivery_can_not_be_recorded_is_not_delivered_again_when_its_reader_takes_it_meanwhile() {
    let mut world = World::without_mta(&["--poll-interval", "1h"]);
    let faults = world.faults();
    world.start();
    let mailbox = world.mailbox("jdoe@mta.test");
    let (new, cur) = (mailbox.join("new"), mailbox.join("cur"));
    let deliver_while = |world: &World, calls, error| {
        world.tell("smtpmta stop inbound conversion");
        Client::of(world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("Hello"));
        faults.order(&[Fault::of(calls, error).on("queue.db")]);
        world.tell("smtpmta start inbound conversion");
        world.wait_for_task("imsgcnv", "Waiting for the work queue");
        let mut letters = files(&new);
        assert_eq!(letters.len(), 1);
        letters.remove(0)
    };
    let is_through = |world: &World, read: usize| {
        world.wait_for_sql("SELECT count(*) FROM inbound_work_queue", "0");
        assert_eq!((files(&new).len(), files(&cur).len()), (0, read));
    };
    fs::remove_file(deliver_while(&world, SYNC, Errno::EIO)).unwrap();
    faults.behave();
    is_through(&world, 0);
    // A stop can not wait for the disk.
    let filed = deliver_while(&world, WRITE, Errno::ENOSPC);
    let name = filed.file_name().unwrap().to_str().unwrap();
    fs::rename(&filed, cur.join(format!("{name}:2,S"))).unwrap();
    let (status, took) = world.terminate();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(world.said_of("may come twice").len(), 1);
    faults.behave();
    world.start();
    is_through(&world, 1);
    let delivered = "SELECT count(*) FROM history WHERE event = 'delivered'";
    assert_eq!(world.sql(delivered), "2");
    // What lasted was told once.
    assert_eq!(world.said_of("is recorded as soon as this has passed").len(), 2);
}
