//! `smtpmta route`: where mail for an address would go, by the configuration alone and with what the MTA knows; and tried
//! as far as RCPT.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use data_encoding::BASE64;
use domain::base::Rtype;
use serde_json::Value;
use smtpmta::sink::settings::{Settings, Tls};

use super::relaying::two_sinks;
use crate::support::client::{Client, letter};
use crate::support::dns_server::{DnsServer, Fault};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{Answer, PATIENCE, World};

/// A port where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

/// `route` with these words; what it says, and its exit status, which is to be this.
#[track_caller]
fn route(world: &World, words: &str, status: i32) -> String {
    let Answer {
        status: got,
        text,
        complaint,
    } = world.run(&format!("route {words}"), b"");
    assert_eq!((got, complaint.as_str()), (status, ""), "{words}: {text}");
    text
}

#[track_caller]
fn facts(world: &World, words: &str, status: i32) -> Value {
    serde_json::from_str(&route(world, &format!("{words} --json"), status)).unwrap()
}

#[track_caller]
fn says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn the_hosts_of_an_address_are_told_though_no_mta_runs_and_nothing_is_made_for_that() {
    let dns = DnsServer::start();
    dns.mx("a.test", 20, "second.test").mx("a.test", 10, "first.test");
    dns.a("first.test", "192.0.2.1").a("second.test", "127.0.0.1");
    let world = World::without_mta(&["--dns", &dns.address().to_string()]);
    let told = route(&world, "X@A.test", 0);
    says(
        &told,
        &[
            "X@a.test\n  mail        goes to a.test\n\na.test\n",
            "  because     it is the domain itself",
            "  hosts       by MX",
            "  host        10 first.test: 192.0.2.1\n",
            "  host        20 second.test: 127.0.0.1 (not public",
            "  connects to first.test[192.0.2.1]\n",
            "  tls         may: ",
            "  login       none\n",
            &format!("  mta         none runs in {}\n", world.path("spool")),
        ],
    );
    let facts = facts(&world, "X@A.test", 0);
    let hop = &facts["next_hops"][0];
    assert_eq!(hop["hosts"][1]["addresses"][0]["standing"], "not public");
    assert_eq!(hop["connects_to"], serde_json::json!(["first.test[192.0.2.1]"]));
    assert_eq!((&hop["mta"], &hop["tls"]), (&Value::Null, &"may".into()));
    assert!(!world.spool().exists());
}

#[test]
fn every_end_of_an_address_has_its_words_and_its_exit_status() {
    let dns = DnsServer::start();
    dns.a("good.test", "192.0.2.1").mx("null.test", 0, ".");
    dns.fault("sick.test", Rtype::MX, Fault::ServFail);
    let mut world = World::without_mta(&["--dns", &dns.address().to_string()]);
    let accounts = world.write("accounts", "bob@mta.test:{PLAIN}x\n");
    let aliases = world.write("aliases", "team: bob, x@good.test\n");
    for (name, value) in [
        ("--accounts", accounts.as_str()),
        ("--aliases", &aliases),
        ("--route", "routed.test=127.0.0.1:2599"),
        ("--tls-outbound", "routed.test=must"),
    ] {
        world.flag(name, value);
    }
    let mailbox = format!("to bob@mta.test in {}", world.mailbox("bob@mta.test").display());
    for (address, status, lines) in [
        (
            "bob+x@mta.test",
            0,
            &["  mail        delivered here, ", &mailbox][..],
        ),
        ("postmaster", 0, &["postmaster@mta.test\n", "delivered here"]),
        ("no@mta.test", 1, &["  mail        refused: 550 5.1.1 "]),
        ("a%good.test@mta.test", 1, &["refused: 550 5.7.1 relaying denied"]),
        (
            "team@mta.test",
            0,
            &[
                "  alias       for 2 addresses\n",
                "  stands for  bob@mta.test: delivered here, ",
                "  stands for  x@good.test: goes to good.test\n",
                "\ngood.test\n",
                "  hosts       there is no MX: the domain itself\n",
            ],
        ),
        (
            "x@nowhere.test",
            1,
            &["there is no such domain; mail is returned\n"],
        ),
        ("x@null.test", 1, &["(null MX); mail is returned\n"]),
        (
            "x@[127.0.0.1]",
            1,
            &["is not that of a public host; mail is returned\n"],
        ),
        ("x@sick.test", 75, &["; mail waits, and is tried again\n"]),
        (
            "x@routed.test",
            0,
            &[
                "  mail        goes to 127.0.0.1:2599\n",
                "  because     the route for routed.test says so\n",
                "  connects to 127.0.0.1[127.0.0.1]:2599\n",
                "  tls         must: ",
            ],
        ),
    ] {
        says(&route(&world, address, status), lines);
    }
}

#[test]
fn the_running_mta_says_how_the_next_hop_stands_and_which_list_mail_would_join() {
    let world = World::load(&["--relay-host", NOBODY, "--hop-rate", "*=60/1m"]);
    let fresh = route(&world, "x@a.test", 0);
    says(
        &fresh,
        &[
            "  because     it is the relay host",
            "  waiting     nothing: no mail has gone there yet\n",
            "  rate        60/1m, 60 free\n",
            "  would join  a new one, made at once\n",
        ],
    );
    world.tell("smtpmta stop outbound transport");
    Client::of(&world).mail("b@mta.test", &["x@a.test"], &letter("waits"));
    world.wait_for_sql("SELECT sum(waiting) FROM next_hop", "1");
    says(
        &route(&world, "y@b.test", 0),
        &[
            "  waiting     1 recipient, next try now\n",
            "  would join  none as long as osesctl is stopped\n",
        ],
    );
    world.tell("smtpmta start outbound transport");
    world.wait_for_sql("SELECT failures FROM next_hop", "1");
    let down = route(&world, "y@b.test", 0);
    says(
        &down,
        &[
            "  backs off   since ",
            ", 1 failure in a row, next probe in ",
            "Connection refused",
            "  would join  none before the next probe, in ",
        ],
    );
    let hop = &facts(&world, "y@b.test", 0)["next_hops"][0];
    assert_eq!(
        (&hop["mta"]["failures"], &hop["mta"]["waiting"]),
        (&1.into(), &1.into())
    );
    says(&world.show(&format!("hop {NOBODY}")), &["backs off   since "]);
    assert_eq!(world.ask("show hop").status, 64);
}

#[test]
fn a_trial_goes_as_far_as_rcpt_and_shows_the_dialogue_but_no_secret() {
    let login = ("me".to_owned(), "sesame".to_owned());
    let settings = Settings {
        tls: Tls::Offered,
        login: Some(login),
        ..Settings::default()
    };
    let sink = Sink::with("127.0.0.1:0", settings).unwrap();
    let mut world = World::without_mta(&["--relay-host", &sink.address().to_string()]);
    let logins = world.write("logins", "me:sesame\n");
    fs::set_permissions(&logins, Permissions::from_mode(0o600)).unwrap();
    world.flag("--relay-auth", &logins);
    let told = route(&world, "x@a.test --connect --from b@mta.test", 0);
    says(
        &told,
        &[
            "  login       me\n",
            " tried with <x@a.test>\n",
            " <- 220 ",
            " -> EHLO mta.test\n",
            " -> STARTTLS\n",
            " -- TLS: TLSv1.3 ",
            " -- certificate: not good for 127.0.0.1, which nobody asks of it: ",
            " -> AUTH PLAIN (hidden)\n",
            " -> MAIL FROM:<b@mta.test>\n",
            " -> RCPT TO:<x@a.test>\n",
            " -> RSET\n",
            " -> QUIT\n",
            "\nmail for <x@a.test> would be taken: 250 ",
        ],
    );
    let secret = BASE64.encode(b"\0me\0sesame");
    assert!(!told.contains("sesame") && !told.contains(&secret), "{told}");
    sink.wait_for(|seen| seen.sessions.iter().any(|session| session.ended), PATIENCE);
    let said = sink.look(|seen| seen.sessions[0].commands.clone());
    let auth = format!("AUTH PLAIN {secret}");
    assert_eq!(
        said,
        [
            "EHLO mta.test",
            "STARTTLS",
            "EHLO mta.test",
            &auth,
            "MAIL FROM:<b@mta.test>",
            "RCPT TO:<x@a.test>",
            "RSET",
            "QUIT"
        ]
    );
    let facts = facts(&world, "x@a.test --connect", 0);
    let trial = &facts["trials"][0];
    assert_eq!(trial["outcome"]["outcome"], "taken");
    let null = serde_json::json!("MAIL FROM:<>");
    assert!(
        trial["lines"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line["text"] == null)
    );
    assert_eq!(sink.look(|seen| seen.messages.len()), 0);
    // Where TLS has to be good, this host is none.
    world.flag("--tls-outbound", "verify");
    let strict = route(&world, "x@a.test --connect", 75);
    says(&strict, &["would wait, and be tried again: TLS with 127.0.0.1"]);
}

#[test]
fn hosts_are_tried_in_turn_as_a_handler_does_it() {
    let (first, second) = two_sinks();
    let dns = DnsServer::start();
    dns.mx("a.test", 5, "dead.test").a("dead.test", "127.0.0.7");
    dns.mx("a.test", 10, "first.test").a("first.test", "127.0.0.2");
    dns.mx("a.test", 20, "second.test").a("second.test", "127.0.0.3");
    let (server, port) = (dns.address().to_string(), first.address().port().to_string());
    let world = World::without_mta(&[
        "--dns",
        &server,
        "--smtp-port",
        &port,
        "--allow-next-hop",
        "127.0.0.0/8",
    ]);
    first.on(Stage::Rcpt, "450 4.2.0 greylisted");
    let told = route(&world, "x@a.test --connect", 0);
    let places = [
        "-- connecting to dead.test[127.0.0.7]",
        "-- no connection: ",
        "-- connecting to first.test[127.0.0.2]",
        "<- 450 4.2.0 greylisted\n",
        "-- connecting to second.test[127.0.0.3]",
        "would be taken: 250 ",
    ]
    .map(|line| told.find(line));
    assert!(places[0].is_some() && places.is_sorted(), "{places:?}\n{told}");
    second.on(Stage::Rcpt, "450 4.2.0 greylisted, too");
    let waits = route(&world, "x@a.test --connect", 75);
    says(
        &waits,
        &["would wait, and be tried again: host second.test[127.0.0.3]"],
    );
    first.behave();
    first.on(Stage::Mail, "550 5.7.1 not you");
    let refused = route(&world, "x@a.test --connect", 1);
    says(&refused, &["would be returned: host first.test[127.0.0.2]"]);
    assert!(!refused.contains("connecting to second.test"), "{refused}");
}
