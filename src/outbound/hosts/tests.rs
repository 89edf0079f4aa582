//! Hosts of next hops, as a DNS server of the test's own names them.

use super::*;
use crate::clock::Clock;
use crate::dns::client::Patience;
use crate::dns::dns_server::{DnsServer, Fault};
use domain::base::Rtype;
use std::time::Duration;

fn later(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn settings() -> HostSettings {
    HostSettings {
        hostname: "us.test".to_string(),
        listeners: vec!["192.0.2.99:2525".parse().unwrap()],
        smtp_port: 2525,
        allow_next_hop: Vec::new(),
    }
}

fn allowing(address: &str, prefix: u8) -> HostSettings {
    let block = Cidr::new(address.parse().unwrap(), prefix).unwrap();
    HostSettings {
        allow_next_hop: vec![block],
        ..settings()
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn host(name: &str, addresses: &[&str]) -> Candidate {
    Candidate {
        name: name.to_string(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn domain(name: &str) -> NextHop {
    NextHop::Domain(name.to_string())
}

fn ask_with(
    server: &DnsServer,
    next_hop: &NextHop,
    settings: &HostSettings,
) -> Result<Vec<Candidate>, NoHosts> {
    let resolver = Resolver::new(&[server.address()], Clock::System);
    let deadline = later(60);
    candidates(next_hop, &resolver, settings, deadline)
}

fn ask(server: &DnsServer, name: &str) -> Result<Vec<Candidate>, NoHosts> {
    ask_with(server, &domain(name), &settings())
}

type LookedUp<'l> = (u16, &'l str, Result<Vec<IpAddr>, DnsError>);

/// What is settled of hosts that were looked up so.
fn settled(looked_up: &[LookedUp<'_>]) -> Result<Vec<Candidate>, NoHosts> {
    let mx = |(preference, host, _): &LookedUp<'_>| Mx {
        preference: *preference,
        host: (*host).to_string(),
    };
    let hosts: Vec<Mx> = looked_up.iter().map(mx).collect();
    let found = |name: &str| looked_up.iter().find(|(_, host, _)| *host == name).unwrap();
    settle(&hosts, &settings(), later(60), None, |host, _| {
        found(host).2.clone()
    })
}

fn sleeps() -> Result<Vec<IpAddr>, DnsError> {
    Err(DnsError::Temporary("the server sleeps".to_string()))
}

#[test]
fn a_temporary_trouble_wins_over_permanent_ones() {
    let looked_up = [
        (10, "a", Err(DnsError::NoSuchDomain)),
        (10, "b", Ok(ips(&["127.0.0.1"]))),
        (10, "c", sleeps()),
    ];
    let trouble = NoHosts::Temporary("the server sleeps".to_string());
    assert_eq!(settled(&looked_up), Err(trouble));
    let refused = NoHosts::NotPublic("127.0.0.1".parse().unwrap());
    assert_eq!(settled(&looked_up[..2]), Err(refused));
    assert_eq!(settled(&looked_up[..1]), Err(NoHosts::NoAddress));
}

#[test]
fn where_we_are_among_them_only_better_hosts_count() {
    let better = (5, "a", Ok(ips(&["192.0.2.1"])));
    let gone = (5, "gone", Err(DnsError::NoSuchDomain));
    let sick = |preference| (preference, "sick", sleeps());
    let equal = (10, "b", Ok(ips(&["192.0.2.2"])));
    let worse = (20, "c", Ok(ips(&["192.0.2.3"])));
    let trouble = NoHosts::Temporary("the server sleeps".to_string());
    for us in [
        // By name, which is not even asked for, and by an address among others.
        (10, "US.test.", sleeps()),
        (10, "alias.test", Ok(ips(&["192.0.2.98", "192.0.2.99"]))),
    ] {
        let among = |others: &[&LookedUp<'static>], behind: &[&LookedUp<'static>]| {
            let list = [others, &[&us], behind].concat();
            settled(&list.into_iter().cloned().collect::<Vec<_>>())
        };
        let first = Ok(vec![host("a", &["192.0.2.1:2525"])]);
        assert_eq!(among(&[&better, &equal], &[&worse]), first);
        assert_eq!(among(&[&better], &[&equal, &worse]), first);
        assert_eq!(among(&[&equal], &[&worse]), Err(NoHosts::Ourselves));
        assert_eq!(among(&[&sick(10)], &[]), Err(NoHosts::Ourselves));
        assert_eq!(among(&[], &[]), Err(NoHosts::Ourselves));
        // The better ones may come back.
        assert_eq!(among(&[&sick(5)], &[&worse]), Err(trouble.clone()));
        assert_eq!(among(&[&gone], &[&worse]), Err(NoHosts::NoBetterHost));
    }
}

/// So many exchangers, each of another preference.
fn numbered(n: u16) -> Vec<Mx> {
    let mx = |preference| Mx {
        preference,
        host: format!("h{preference}"),
    };
    (0..n).map(mx).collect()
}

#[test]
fn hosts_and_addresses_are_bounded() {
    let mut asked = 0;
    let one_each = settle(&numbered(100), &settings(), later(60), None, |_, _| {
        asked += 1;
        Ok(vec![IpAddr::from([192, 0, 2, asked])])
    });
    assert_eq!(one_each.unwrap().len(), MOST_HOSTS);
    assert_eq!(usize::from(asked), MOST_HOSTS);

    asked = 0;
    let thirty_each = settle(&numbered(100), &settings(), later(60), None, |_, _| {
        asked += 1;
        Ok((0..30u8).map(|k| IpAddr::from([192, 0, asked, k])).collect())
    });
    let numbers: Vec<usize> = thirty_each
        .unwrap()
        .iter()
        .map(|host| host.addresses.len())
        .collect();
    assert_eq!(numbers.iter().sum::<usize>(), MOST_ADDRESSES);
    assert_eq!(numbers, [MOST_OF_ONE_HOST, MOST_OF_ONE_HOST]);
    assert_eq!(asked, 2);
}

#[test]
fn a_host_whose_dns_is_silent_leaves_time_for_the_others() {
    let (before, mut until) = (Instant::now(), Vec::new());
    let found = settle(
        &numbered(4),
        &settings(),
        before + Duration::from_secs(60),
        None,
        |_, end| {
            until.push((end - before).as_secs_f32());
            match until.len() {
                3 => Ok(ips(&["192.0.2.1"])),
                _ => sleeps(),
            }
        },
    );
    assert_eq!(found.unwrap().len(), 1);
    // Half of what is left as long as nobody is known; less for the rest.
    let [first, second, third, last] = until[..] else {
        panic!("{until:?}")
    };
    assert!(
        (29.0..40.0).contains(&first) && (29.0..40.0).contains(&second),
        "{until:?}"
    );
    assert!(third > 29.0 && last < 10.0, "{until:?}");
}

#[test]
fn hosts_that_are_gone_do_not_hide_the_next_one_for_a_long_while() {
    for (gone, expected) in [(99, 1), (100, 0)] {
        let mut asked = 0;
        let found = settle(&numbered(200), &settings(), later(60), None, |_, _| {
            asked += 1;
            match asked <= gone {
                true => Err(DnsError::NoSuchDomain),
                false => Ok(ips(&["192.0.2.1"])),
            }
        });
        match found {
            Ok(hosts) => assert_eq!(hosts.len(), expected),
            // Those that were not looked at may be there.
            Err(none) => assert!(expected == 0 && matches!(none, NoHosts::Temporary(_)), "{none}"),
        }
        assert_eq!(asked, MOST_NAMES);
    }
}

#[test]
fn a_reason_names_the_next_hop_and_stays_short() {
    let Outcome::GiveUp(reason) = NoHosts::NullMx.outcome(&domain("example.org")) else {
        panic!("a null MX is permanent");
    };
    assert_eq!(reason.status, EnhancedCode(5, 1, 10));
    assert_eq!(reason.text, "example.org: the domain takes no mail (null MX)");
    let Outcome::TryLater(reason) = NoHosts::Temporary("ä".repeat(999)).outcome(&domain("a.b")) else {
        panic!("temporary is temporary");
    };
    assert_eq!(reason.status, EnhancedCode(4, 4, 3));
    assert!(reason.text.len() <= Reason::LONGEST);
}

#[test]
fn a_domain_leads_to_its_exchangers() {
    let server = DnsServer::start();
    server
        .mx("example.org", 20, "b.test")
        .mx("example.org", 10, "a.test");
    server
        .a("a.test", "192.0.2.1")
        .aaaa("a.test", "2001:db8::1")
        .a("b.test", "192.0.2.2");
    assert_eq!(
        ask(&server, "example.org"),
        Ok(vec![
            host("a.test", &["[2001:db8::1]:2525", "192.0.2.1:2525"]),
            host("b.test", &["192.0.2.2:2525"]),
        ])
    );
}

#[test]
fn a_domain_without_mx_is_its_own_exchanger() {
    let server = DnsServer::start();
    server.a("example.org", "192.0.2.1");
    assert_eq!(
        ask(&server, "example.org"),
        Ok(vec![host("example.org", &["192.0.2.1:2525"])])
    );
}

#[test]
fn exchangers_without_address_are_skipped() {
    let server = DnsServer::start();
    server
        .mx("example.org", 10, "gone.test")
        .mx("example.org", 15, "sick.test");
    server.mx("example.org", 20, "b.test").a("b.test", "192.0.2.2");
    server.fault("sick.test", Rtype::A, Fault::ServFail);
    server.fault("sick.test", Rtype::AAAA, Fault::ServFail);
    assert_eq!(
        ask(&server, "example.org"),
        Ok(vec![host("b.test", &["192.0.2.2:2525"])])
    );
}

#[test]
fn destinations_that_can_never_exist_are_told_apart() {
    let server = DnsServer::start();
    server.mx("null.test", 0, ".").mx("bare.test", 10, "gone.test");
    server.mx("text.test", 10, "[192.0.2.1]");
    server
        .mx("us-first.test", 10, "us.test")
        .mx("us-first.test", 20, "b.test")
        .a("b.test", "192.0.2.2");
    server
        .cname("dangling.test", "gone.test")
        .aaaa("deep.below.test", "2001:db8::1");
    server.a("us.test", "192.0.2.3").a("loop.test", "127.0.0.1");
    for (name, expected) in [
        ("nowhere.test", NoHosts::NoSuchDomain),
        ("a..b", NoHosts::NoSuchDomain),
        ("dangling.test", NoHosts::NoSuchDomain),
        ("below.test", NoHosts::NeitherMxNorAddress),
        ("null.test", NoHosts::NullMx),
        ("bare.test", NoHosts::NoAddress),
        ("text.test", NoHosts::NoAddress),
        ("us-first.test", NoHosts::Ourselves),
        ("us.test", NoHosts::Ourselves),
        ("loop.test", NoHosts::NotPublic("127.0.0.1".parse().unwrap())),
        ("[127.0.0.1]", NoHosts::NotPublic("127.0.0.1".parse().unwrap())),
        ("[ipv6:::1]", NoHosts::NotPublic("::1".parse().unwrap())),
        ("[nonsense]", NoHosts::UnknownLiteral),
    ] {
        assert_eq!(ask(&server, name), Err(expected.clone()), "{name}");
        assert!(
            matches!(expected.outcome(&domain(name)), Outcome::GiveUp(_)),
            "{name}"
        );
    }
}

#[test]
fn a_failing_dns_is_no_reason_to_give_up() {
    let server = DnsServer::start();
    server
        .mx("mx.test", 10, "a.test")
        .a("a.test", "192.0.2.1")
        .a("own.test", "192.0.2.2");
    let patience = Patience {
        per_try: Duration::from_millis(50),
        in_all: Duration::from_millis(200),
    };
    let resolver = Resolver::with_patience(&[server.address()], Clock::System, patience);
    for fault in [
        Fault::ServFail,
        Fault::Refused,
        Fault::Silence,
        Fault::Garbage,
        Fault::BrokenRecord,
    ] {
        server.set_ttl(0);
        for (of, rtype) in [
            ("mx.test", Rtype::MX),
            ("a.test", Rtype::A),
            ("own.test", Rtype::A),
        ] {
            server.fault(of, rtype, fault);
            let asked = if of == "own.test" { of } else { "mx.test" };
            let deadline = later(60);
            let found = candidates(&domain(asked), &resolver, &settings(), deadline);
            server.repair(of, rtype);
            let outcome = found.unwrap_err().outcome(&domain(asked));
            assert!(matches!(outcome, Outcome::TryLater(_)), "{fault:?} for {of}");
        }
    }
}

#[test]
fn hosts_on_loopback_are_found_where_they_are_allowed() {
    let server = DnsServer::start();
    server
        .mx("example.org", 10, "a.test")
        .a("a.test", "127.0.0.1")
        .a("a.test", "169.254.0.1");
    let allowed = allowing("127.0.0.0", 8);
    assert_eq!(
        ask_with(&server, &domain("example.org"), &allowed),
        Ok(vec![host("a.test", &["127.0.0.1:2525"])])
    );
    assert_eq!(
        ask_with(&server, &domain("[127.0.0.1]"), &allowed),
        Ok(vec![host("[127.0.0.1]", &["127.0.0.1:2525"])])
    );
}

#[test]
fn a_host_that_the_operator_named_may_be_anywhere() {
    let server = DnsServer::start();
    server
        .a("relay.test", "127.0.0.1")
        .mx("relay.test", 10, "other.test");
    for (name, expected) in [
        ("Relay.test", host("relay.test", &["127.0.0.1:26"])),
        ("127.0.0.1", host("127.0.0.1", &["127.0.0.1:26"])),
        ("::1", host("::1", &["[::1]:26"])),
    ] {
        let next_hop = NextHop::Host(name.to_string(), 26);
        assert_eq!(ask_with(&server, &next_hop, &settings()), Ok(vec![expected]));
    }
}

#[test]
fn a_host_that_the_operator_misspelt_is_tried_later() {
    let server = DnsServer::start();
    for name in ["a..b".to_string(), "a".repeat(64)] {
        let next_hop = NextHop::Host(name.clone(), 25);
        let outcome = ask_with(&server, &next_hop, &settings())
            .unwrap_err()
            .outcome(&next_hop);
        assert!(matches!(outcome, Outcome::TryLater(_)), "{name}");
    }
}

#[test]
fn people_see_every_host_and_why_it_is_not_tried() {
    let server = DnsServer::start();
    for (preference, host) in [
        (20, "near.test"),
        (10, "a.test"),
        (40, "worse.test"),
        (30, "us.test"),
    ] {
        server.mx("example.org", preference, host);
    }
    server.mx("example.org", 15, "gone.test");
    server
        .a("a.test", "192.0.2.1")
        .a("near.test", "127.0.0.1")
        .a("worse.test", "192.0.2.4");
    let resolver = Resolver::new(&[server.address()], Clock::System);
    let look = |name: &str| seen(&domain(name), &resolver, &settings(), later(60));
    let (found, sights) = look("example.org");
    assert_eq!(found, Ok(vec![host("a.test", &["192.0.2.1:2525"])]));
    assert_eq!(sights.source, Some(Source::Mx));
    let addresses = |text: &str, standing| Sight::Addresses(vec![(text.parse().unwrap(), standing)]);
    let expected = [
        (10, "a.test", addresses("192.0.2.1", Standing::Fine)),
        (15, "gone.test", Sight::None(DnsError::NoSuchDomain)),
        (20, "near.test", addresses("127.0.0.1", Standing::NotPublic)),
        (30, "us.test", Sight::Ourselves),
        (40, "worse.test", Sight::NotAsked),
    ];
    let expected = expected.map(|(preference, host, sight)| (Some(preference), host.to_string(), sight));
    assert_eq!(sights.hosts, expected);

    server.a("own.test", "192.0.2.99").mx("null.test", 0, ".");
    let (found, sights) = look("own.test");
    assert_eq!(found, Err(NoHosts::Ourselves));
    assert_eq!(sights.source, Some(Source::Itself));
    assert_eq!(sights.hosts[0].2, addresses("192.0.2.99", Standing::Ourselves));
    assert_eq!(look("null.test"), (Err(NoHosts::NullMx), Sights::default()));
}
