//! What becomes of a recipient in each situation that DNS can be in: which host gets the mail, or with which
//! status it waits or fails.
//!
//! All of them at once: one message with a recipient for each. Two hosts take mail, nobody is at the others.

use std::collections::BTreeMap;

use domain::base::Rtype;

use super::relaying::two_sinks;
use crate::support::client::{Client, letter};
use crate::support::dns_server::{DnsServer, Fault};
use crate::support::sink::Sink;
use crate::support::world::{PATIENCE, World, eventually};

/// Takes mail.
const GOOD: &str = "127.0.0.2";
/// Takes mail, too.
const SECOND: &str = "127.0.0.3";
/// Nobody listens there.
const DEAD: &str = "127.0.0.7";
/// Where the MTA itself listens.
const OURS: &str = "127.0.0.9";

/// What DNS says of a domain, and what becomes of mail for it: the host that gets it, or `dead` (nobody is to be
/// told) or `later` and the status.
type Situation = (&'static str, fn(&DnsServer), &'static str);

const SITUATIONS: &[Situation] = &[
    // Which host.
    (
        "best.mx.test",
        |dns| {
            _ = dns
                .mx("best.mx.test", 20, "second.test")
                .mx("best.mx.test", 10, "good.test")
        },
        "good.test[127.0.0.2]",
    ),
    (
        "best-is-dead.mx.test",
        |dns| {
            dns.mx("best-is-dead.mx.test", 10, "dead.test");
            dns.mx("best-is-dead.mx.test", 20, "second.test");
        },
        "second.test[127.0.0.3]",
    ),
    (
        "third-address.mx.test",
        |dns| {
            dns.mx("third-address.mx.test", 10, "three.test");
            dns.a("three.test", DEAD)
                .a("three.test", "127.0.0.8")
                .a("three.test", SECOND);
        },
        "three.test[127.0.0.3]",
    ),
    (
        "behind-a-crowd.mx.test",
        |dns| {
            dns.mx("behind-a-crowd.mx.test", 10, "crowd.test");
            dns.mx("behind-a-crowd.mx.test", 20, "second.test");
            for i in 0..40 {
                dns.a("crowd.test", &format!("127.0.1.{i}"));
            }
        },
        "second.test[127.0.0.3]",
    ),
    (
        "all-dead.mx.test",
        |dns| _ = dns.mx("all-dead.mx.test", 10, "dead.test"),
        "later 4.4.1",
    ),
    (
        "no-mx.test",
        |dns| _ = dns.a("no-mx.test", GOOD),
        "no-mx.test[127.0.0.2]",
    ),
    (
        "UPPER.no-mx.test",
        |dns| _ = dns.a("upper.no-mx.test", GOOD),
        "upper.no-mx.test[127.0.0.2]",
    ),
    (
        "under_score.test",
        |dns| {
            _ = dns
                .mx("under_score.test", 1, "_mx.under_score.test")
                .a("_mx.under_score.test", GOOD)
        },
        "_mx.under_score.test[127.0.0.2]",
    ),
    (
        "a-domain-of-many-letters.a-domain-of-many-letters.a-domain-of-many-letters.a-domain-of-many-letters.\
         a-domain-of-many-letters.a-domain-of-many-letters.a-domain-of-many-letters.a-domain-of-many-letters.test",
        |dns| {
            let long = ["a-domain-of-many-letters"; 8].join(".") + ".test";
            dns.mx(&long, 10, "good.test");
        },
        "good.test[127.0.0.2]",
    ),
    // Families.
    (
        "only-aaaa.test",
        |dns| _ = dns.aaaa("only-aaaa.test", "::ffff:127.0.0.2"),
        "only-aaaa.test[127.0.0.2]",
    ),
    (
        "a-fails.test",
        |dns| {
            dns.aaaa("a-fails.test", "::ffff:127.0.0.2")
                .a("a-fails.test", SECOND);
            dns.fault("a-fails.test", Rtype::A, Fault::ServFail);
        },
        "a-fails.test[127.0.0.2]",
    ),
    (
        "aaaa-fails.test",
        |dns| {
            dns.a("aaaa-fails.test", GOOD);
            dns.fault("aaaa-fails.test", Rtype::AAAA, Fault::ServFail);
        },
        "aaaa-fails.test[127.0.0.2]",
    ),
    (
        "aaaa-is-silent.test",
        |dns| {
            dns.a("aaaa-is-silent.test", GOOD);
            dns.fault("aaaa-is-silent.test", Rtype::AAAA, Fault::Silence);
        },
        "aaaa-is-silent.test[127.0.0.2]",
    ),
    (
        "a-fails-without-aaaa.test",
        |dns| {
            dns.a("a-fails-without-aaaa.test", GOOD);
            dns.fault("a-fails-without-aaaa.test", Rtype::A, Fault::ServFail);
        },
        "later 4.4.3",
    ),
    // Null MX.
    (
        "null.test",
        |dns| _ = dns.mx("null.test", 0, ".").a("null.test", GOOD),
        "dead 5.1.10",
    ),
    (
        "null-and-another.test",
        |dns| {
            _ = dns
                .mx("null-and-another.test", 0, ".")
                .mx("null-and-another.test", 10, "good.test")
        },
        "good.test[127.0.0.2]",
    ),
    // Aliases.
    (
        "mx-is-alias.test",
        |dns| {
            _ = dns
                .mx("mx-is-alias.test", 10, "alias.test")
                .cname("alias.test", "good.test")
        },
        "alias.test[127.0.0.2]",
    ),
    (
        "alias-of-domain.test",
        |dns| _ = dns.cname("alias-of-domain.test", "best.mx.test"),
        "good.test[127.0.0.2]",
    ),
    (
        "alias-of-host.test",
        |dns| _ = dns.cname("alias-of-host.test", "good.test"),
        "alias-of-host.test[127.0.0.2]",
    ),
    (
        "alias-alone.test",
        |dns| {
            dns.cname("alias-alone.test", "best.mx.test");
            dns.fault("alias-alone.test", Rtype::MX, Fault::AliasAlone);
        },
        "good.test[127.0.0.2]",
    ),
    (
        "chain0.test",
        |dns| {
            (0..12).for_each(|i| _ = dns.cname(&format!("chain{i}.test"), &format!("chain{}.test", i + 1)));
            dns.mx("chain12.test", 10, "good.test");
        },
        "good.test[127.0.0.2]",
    ),
    (
        "dangling.test",
        |dns| _ = dns.cname("dangling.test", "gone.invalid"),
        "dead 5.1.2",
    ),
    (
        "loop.test",
        |dns| {
            _ = dns
                .cname("loop.test", "pool.test")
                .cname("pool.test", "loop.test")
        },
        "later 4.4.3",
    ),
    // What is no name of a host.
    (
        "mx-is-address.test",
        |dns| _ = dns.mx("mx-is-address.test", 10, GOOD),
        "127.0.0.2[127.0.0.2]",
    ),
    (
        "mx-is-literal.test",
        |dns| {
            _ = dns
                .mx("mx-is-literal.test", 10, "[127.0.0.2]")
                .mx("mx-is-literal.test", 20, "second.test")
        },
        "second.test[127.0.0.3]",
    ),
    (
        "mx-is-no-name.test",
        |dns| _ = dns.mx("mx-is-no-name.test", 10, "bad\\032name.test"),
        "dead 5.4.4",
    ),
    // Nothing there.
    ("nowhere.test", |_| (), "dead 5.1.2"),
    (
        "no-data.test",
        |dns| _ = dns.a("below.no-data.test", GOOD),
        "dead 5.1.2",
    ),
    (
        "one-gone.test",
        |dns| {
            _ = dns
                .mx("one-gone.test", 10, "gone.invalid")
                .mx("one-gone.test", 20, "second.test")
        },
        "second.test[127.0.0.3]",
    ),
    (
        "all-gone.test",
        |dns| {
            _ = dns
                .mx("all-gone.test", 10, "gone.invalid")
                .mx("all-gone.test", 20, "far.invalid")
        },
        "dead 5.4.4",
    ),
    // DNS fails. Where an MX may be, the domain's own address is none of ours.
    (
        "servfail.test",
        |dns| failing(dns, "servfail.test", Fault::ServFail),
        "later 4.4.3",
    ),
    (
        "refused.test",
        |dns| failing(dns, "refused.test", Fault::Refused),
        "later 4.4.3",
    ),
    (
        "notimp.test",
        |dns| failing(dns, "notimp.test", Fault::NotImp),
        "later 4.4.3",
    ),
    (
        "silent.test",
        |dns| failing(dns, "silent.test", Fault::Silence),
        "later 4.4.3",
    ),
    (
        "garbage.test",
        |dns| failing(dns, "garbage.test", Fault::Garbage),
        "later 4.4.3",
    ),
    (
        "broken.test",
        |dns| failing(dns, "broken.test", Fault::BrokenRecord),
        "later 4.4.3",
    ),
    (
        "other-name.test",
        |dns| failing(dns, "other-name.test", Fault::OtherName),
        "later 4.4.3",
    ),
    (
        "elsewhere.test",
        |dns| failing(dns, "elsewhere.test", Fault::ElsewhereOnly),
        "later 4.4.3",
    ),
    (
        "no-tcp.test",
        |dns| failing(dns, "no-tcp.test", Fault::TruncateAndHangUp),
        "later 4.4.3",
    ),
    (
        "truncated.test",
        |dns| failing(dns, "truncated.test", Fault::Truncate),
        "good.test[127.0.0.2]",
    ),
    (
        "no-edns.test",
        |dns| failing(dns, "no-edns.test", Fault::FormErrOnEdns),
        "good.test[127.0.0.2]",
    ),
    (
        "edns-lost.test",
        |dns| failing(dns, "edns-lost.test", Fault::SilenceOnEdns),
        "good.test[127.0.0.2]",
    ),
    (
        "forged.test",
        |dns| failing(dns, "forged.test", Fault::ForgedFirst),
        "good.test[127.0.0.2]",
    ),
    (
        "flooded.test",
        |dns| failing(dns, "flooded.test", Fault::ForgedFlood),
        "good.test[127.0.0.2]",
    ),
    (
        "one-sick.test",
        |dns| {
            _ = dns
                .mx("one-sick.test", 10, "sick.test")
                .mx("one-sick.test", 20, "second.test")
        },
        "second.test[127.0.0.3]",
    ),
    (
        "sick-and-gone.test",
        |dns| {
            _ = dns
                .mx("sick-and-gone.test", 20, "sick.test")
                .mx("sick-and-gone.test", 10, "gone.invalid")
        },
        "later 4.4.3",
    ),
    // Ourselves among them, by name and by address.
    (
        "we-are-best.test",
        |dns| {
            _ = dns
                .mx("we-are-best.test", 10, "mta.test")
                .mx("we-are-best.test", 20, "good.test")
        },
        "dead 5.4.6",
    ),
    (
        "we-are-second.test",
        |dns| {
            _ = dns
                .mx("we-are-second.test", 10, "good.test")
                .mx("we-are-second.test", 20, "mta.test")
        },
        "good.test[127.0.0.2]",
    ),
    (
        "alias-of-ours-is-best.test",
        |dns| {
            dns.mx("alias-of-ours-is-best.test", 10, "ours.test");
            dns.mx("alias-of-ours-is-best.test", 20, "good.test");
        },
        "dead 5.4.6",
    ),
    (
        "tie.test",
        |dns| {
            _ = dns
                .mx("tie.test", 10, "ours.test")
                .mx("tie.test", 10, "good.test")
        },
        "dead 5.4.6",
    ),
    (
        "better-is-dead.test",
        |dns| {
            dns.mx("better-is-dead.test", 10, "dead.test")
                .mx("better-is-dead.test", 20, "ours.test");
            dns.mx("better-is-dead.test", 30, "good.test");
        },
        "later 4.4.1",
    ),
    (
        "better-is-gone.test",
        |dns| {
            _ = dns
                .mx("better-is-gone.test", 10, "gone.invalid")
                .mx("better-is-gone.test", 20, "ours.test")
        },
        "later 4.4.4",
    ),
    ("ours.test", |dns| _ = dns.a("ours.test", OURS), "dead 5.4.6"),
    // A local domain is no host: who has its address decides.
    (
        "local-domain-as-mx.test",
        |dns| {
            _ = dns
                .mx("local-domain-as-mx.test", 10, "local.test")
                .a("local.test", GOOD)
        },
        "local.test[127.0.0.2]",
    ),
    // Where no mail may go.
    (
        "link-local.test",
        |dns| {
            _ = dns
                .a("link-local.test", "169.254.1.1")
                .aaaa("link-local.test", "fe80::1")
        },
        "dead 5.4.4",
    ),
    (
        "multicast-first.test",
        |dns| {
            dns.mx("multicast-first.test", 10, "multicast.test");
            dns.mx("multicast-first.test", 20, "second.test");
            dns.a("multicast.test", "224.0.0.1").aaaa("multicast.test", "::1");
        },
        "second.test[127.0.0.3]",
    ),
    (
        "unspecified.test",
        |dns| _ = dns.a("unspecified.test", "0.0.0.0"),
        "dead 5.4.4",
    ),
    // Address literals.
    ("[127.0.0.2]", |_| (), "[127.0.0.2][127.0.0.2]"),
    ("[127.0.0.9]", |_| (), "dead 5.4.6"),
    ("[169.254.1.1]", |_| (), "dead 5.4.4"),
    ("[IPv6:::1]", |_| (), "dead 5.4.4"),
];

/// A domain with an MX, for which the server misbehaves.
fn failing(dns: &DnsServer, domain: &str, fault: Fault) {
    dns.mx(domain, 10, "good.test").a(domain, SECOND);
    dns.fault(domain, Rtype::MX, fault);
}

/// What became of each recipient so far, by its domain; nothing of those that are still on their way.
fn fates(world: &World) -> BTreeMap<String, String> {
    let rows = world.sql(
        "SELECT recipient || ' ' || text FROM history WHERE event = 'transmitted' \
         UNION SELECT recipient || ' dead ' || last_status FROM dead_mail \
         UNION SELECT recipient || ' later ' || last_status FROM outbound_work_queue \
         WHERE state = 'WQ_PENDING_XMIT' AND attempts > 0",
    );
    let fate = |row: &str| {
        let (recipient, fate) = row.split_once(' ').unwrap();
        let domain = recipient.split_once('@').unwrap().1;
        let fate = match fate.split_once("]:") {
            Some((host, _)) => format!("{host}]"),
            None => fate.to_owned(),
        };
        (domain.to_ascii_lowercase(), fate)
    };
    rows.lines().map(fate).collect()
}

#[test]
fn each_situation_that_dns_can_be_in_ends_as_it_should() {
    let (good, _second) = two_sinks();
    let port = good.address().port().to_string();
    let dns = DnsServer::start();
    dns.a("good.test", GOOD)
        .a("second.test", SECOND)
        .a("dead.test", DEAD);
    for family in [Rtype::A, Rtype::AAAA] {
        dns.fault("sick.test", family, Fault::ServFail);
    }
    let mut expected = BTreeMap::new();
    for (domain, say, fate) in SITUATIONS {
        say(&dns);
        let twice = expected.insert(domain.to_ascii_lowercase(), (*fate).to_owned());
        assert_eq!(twice, None, "{domain}");
    }
    let world = World::load(
        &[
            // Nobody is at the first server.
            &["--dns", "127.0.0.1:1", "--dns", &dns.address().to_string()][..],
            &["--smtp-port", &port, "--allow-next-hop", "127.0.0.0/8"],
            &["--listen", "127.0.0.1:0", "--listen", &format!("{OURS}:{port}")],
            &["--local-domain", "mta.test", "--local-domain", "local.test"],
        ]
        .concat(),
    );
    let recipients: Vec<String> = SITUATIONS
        .iter()
        .map(|(domain, ..)| format!("jdoe@{domain}"))
        .collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    Client::of(&world).mail("", &recipients, &letter("many ways"));
    let fates = eventually("a fate for each recipient", || {
        let fates = fates(&world);
        if fates.len() == expected.len() {
            Ok(fates)
        } else {
            Err(fates)
        }
    });
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(domain, fate)| fates.get(*domain) != Some(*fate))
        .collect();
    let got = |domain: &String| fates.get(domain);
    let told: Vec<_> = wrong
        .iter()
        .map(|(domain, fate)| (domain, fate, got(domain)))
        .collect();
    assert!(wrong.is_empty(), "expected, and got: {told:#?}");
}

#[test]
fn a_domain_in_another_script_is_asked_for_and_sent_in_ascii() {
    let (good, _second) = two_sinks();
    let port = good.address().port().to_string();
    let dns = DnsServer::start();
    dns.a("xn--bcher-kva.test", GOOD);
    let server = dns.address().to_string();
    let world = World::load(&[
        "--dns",
        &server,
        "--smtp-port",
        &port,
        "--allow-next-hop",
        "127.0.0.0/8",
    ]);
    let mut client = Client::of(&world);
    for command in [
        "MAIL FROM:<bsmith@mta.test> SMTPUTF8",
        "RCPT TO:<jdoe@bücher.test>",
    ] {
        let reply = client.say(command);
        assert!(reply.starts_with("250 "), "{reply}");
    }
    assert!(client.say("DATA").starts_with("354 "));
    client
        .send(b"Subject: books\r\n\r\nHello World\r\n.\r\n")
        .unwrap();
    assert!(client.reply().starts_with("250 "));
    good.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    good.look(|seen| assert_eq!(seen.messages[0].recipients, ["jdoe@xn--bcher-kva.test"]));
}

#[test]
fn the_way_is_looked_up_anew_at_each_attempt() {
    let (good, _second) = two_sinks();
    let port = good.address().port().to_string();
    let dns = DnsServer::start();
    dns.set_ttl(0)
        .mx("moves.test", 10, "old.test")
        .a("old.test", DEAD);
    let server = dns.address().to_string();
    let own = [
        "--dns",
        &server,
        "--smtp-port",
        &port,
        "--allow-next-hop",
        "127.0.0.0/8",
    ];
    let world = World::load(&[&own[..], &["--retry-schedule", "1s"]].concat());
    Client::of(&world).mail(
        "bsmith@mta.test",
        &["jdoe@moves.test"],
        &letter("to the new host"),
    );
    eventually("a first attempt", || {
        let tried = world.sql("SELECT count(*) FROM history WHERE event = 'deferred'");
        if tried == "0" { Err(tried) } else { Ok(()) }
    });
    dns.a("new.test", GOOD)
        .remove("moves.test")
        .mx("moves.test", 10, "new.test");
    good.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
}

#[test]
fn a_relay_host_is_looked_up_by_its_addresses_and_mail_waits_while_it_is_not_found() {
    let (_good, second) = two_sinks();
    let port = second.address().port();
    let at_home = Sink::start();
    let dns = DnsServer::start();
    dns.mx("relay.test", 10, "good.test").a("good.test", GOOD);
    dns.a("relay.test", DEAD).a("relay.test", SECOND);
    let home = at_home.address().port();
    let routes = [
        format!("by-name.test=relay.test:{port}"),
        format!("at-home.test=localhost:{home}"),
        format!("nowhere.test=nowhere.invalid:{port}"),
    ];
    let routes: Vec<&str> = routes.iter().flat_map(|route| ["--route", route]).collect();
    let world = World::load(&[&["--dns", &dns.address().to_string()][..], &routes].concat());
    let to = ["jdoe@by-name.test", "jdoe@at-home.test", "jdoe@nowhere.test"];
    Client::of(&world).mail("", &to, &letter("by routes"));
    for sink in [&second, &at_home] {
        sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    }
    eventually("a fate for each", || {
        let fates = fates(&world);
        let later = fates.get("nowhere.test").map(String::as_str) == Some("later 4.4.3");
        if later && fates.len() == 3 {
            Ok(())
        } else {
            Err(fates)
        }
    });
}
