//! `route ADDRESS`: where mail for an address would go, and how. Pure: facts in, text out.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::screen::{Screen, clean};
use crate::config::TlsLevel;
use crate::dns::resolver::DnsError;
use crate::outbound::hosts::{Sight, Sights, Source, Standing};
use crate::outbound::outcome::Outcome;
use crate::outbound::trial::{Line, Who};
use crate::smtp::reply::Reply;

/// Where mail for an address would go.
#[derive(Clone, Debug)]
pub struct Route {
    /// The address.
    pub address: String,
    /// It is an alias.
    pub is_alias: bool,
    /// Each address that it comes to: those that an alias stands for, or itself.
    pub ends: Vec<(String, End)>,
    /// The next hops of those that are elsewhere, each once.
    pub ways: Vec<Way>,
    /// Next hops that were not looked at, since there are so many.
    pub more: usize,
}

/// What becomes of mail for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is delivered here.
    Mailbox {
        /// Into the mailbox of this name.
        name: String,
        /// Which is this folder.
        maildir: String,
    },
    /// It is delivered here, by a server that keeps the mailboxes.
    Server {
        /// Into the mailbox of this name, unless the server knows better.
        name: String,
        /// The server, as a next hop.
        next_hop: String,
    },
    /// It is not taken: what is said to a client. What an alias stands for is given up.
    Refused(Reply),
    /// It goes to this next hop.
    Elsewhere(String),
}

/// A next hop, and how it is reached.
#[derive(Clone, Debug)]
pub struct Way {
    /// Its name.
    pub next_hop: String,
    /// Why it is this one.
    pub because: Because,
    /// What was seen of its hosts.
    pub sights: Sights,
    /// Whom a handler would connect to, in this order; or what would become of the mail if there is nobody.
    pub peers: Result<Vec<String>, Outcome>,
    /// The families of addresses that come last, because this machine has no way to them.
    pub last: Vec<&'static str>,
    /// How much TLS.
    pub level: TlsLevel,
    /// As whom we would log in.
    pub login: Option<String>,
    /// What the MTA says of it that runs on the spool; or why it says nothing.
    pub mta: Result<Screen, String>,
}

/// Why a next hop is that of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is the `--lmtp` server, and the recipient is one of ours.
    Local,
    /// This `--route` says so.
    Route(String),
    /// It is the `--relay-host`.
    RelayHost,
    /// It is the domain itself.
    Itself,
}

/// What was tried of a next hop, and what came of it.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Its name.
    pub next_hop: String,
    /// For whom.
    pub recipient: String,
    /// What was said.
    pub lines: Vec<Line>,
    /// What a message would have met with.
    pub outcome: Outcome,
}

/// The route, a fact in a line.
#[must_use]
pub fn route(route: &Route) -> Screen {
    let mut text = format!("{}\n", clean(&route.address));
    if route.is_alias {
        text += &line(
            "alias",
            &format!("for {}", counted(route.ends.len(), "address", "addresses")),
        );
    }
    for (address, end) in &route.ends {
        let told = match end {
            End::Mailbox { name, maildir } => format!("delivered here, to {name} in {maildir}"),
            End::Server { name, next_hop } => format!("delivered here, to {name} by {next_hop}"),
            End::Refused(reply) if route.is_alias => format!("given up: {reply}"),
            End::Refused(reply) => format!("refused: {reply}"),
            End::Elsewhere(next_hop) => format!("goes to {next_hop}"),
        };
        match route.is_alias {
            true => text += &line("stands for", &format!("{address}: {told}")),
            false => text += &line("mail", &told),
        }
    }
    for way in &route.ways {
        let _ = write!(text, "\n{}", told(way));
    }
    if route.more > 0 {
        let more = counted(route.more, "next hop", "next hops");
        let _ = writeln!(text, "\n{more} more, not looked at");
    }
    Screen {
        text,
        json: facts(route),
    }
}

/// What came of a trial, in a line.
#[must_use]
pub fn outcome(tried: &Tried) -> String {
    let what = match &tried.outcome {
        Outcome::Delivered(reply) => format!("would be taken: {reply}"),
        Outcome::TryLater(reason) => format!("would wait, and be tried again: {}", reason.text),
        Outcome::GiveUp(reason) => format!("would be returned: {}", reason.text),
    };
    clean(&format!("mail for <{}> {what}", tried.recipient))
}

/// The facts of a route, with those of its trials.
#[must_use]
pub fn with_trials(mut facts: Value, trials: &[Tried]) -> Value {
    let line = |line: &Line| {
        let who = match line.who {
            Who::Host => "host",
            Who::Us => "we",
            Who::Nobody => "nobody",
        };
        json!({ "seconds": line.after.as_secs_f64(), "who": who, "text": line.text })
    };
    let trial = |tried: &Tried| {
        json!({
            "next_hop": tried.next_hop, "recipient": tried.recipient, "outcome": outcome_facts(&tried.outcome),
            "lines": tried.lines.iter().map(line).collect::<Vec<_>>(),
        })
    };
    facts["trials"] = trials.iter().map(trial).collect();
    facts
}

fn told(way: &Way) -> String {
    let mut text = format!("{}\n", clean(&way.next_hop));
    let because = match &way.because {
        Because::Route(pattern) => format!("the route for {pattern} says so"),
        Because::Local => "it keeps the mailboxes of our domains".to_owned(),
        Because::RelayHost => "it is the relay host, and there is no route".to_owned(),
        Because::Itself => "it is the domain itself: there is no route, and no relay host".to_owned(),
    };
    text += &line("because", &because);
    let source = match way.sights.source {
        Some(Source::Mx) => "by MX, the lowest preference first",
        Some(Source::Itself) => "there is no MX: the domain itself",
        Some(Source::Literal) => "the address in brackets",
        Some(Source::Operator) => "the one that the configuration names",
        None => "none",
    };
    text += &line("hosts", source);
    for (preference, name, sight) in &way.sights.hosts {
        let preference = preference.filter(|_| way.sights.source == Some(Source::Mx));
        let preference = preference.map(|number| format!("{number} ")).unwrap_or_default();
        text += &line("host", &format!("{preference}{name}: {}", seen(sight)));
    }
    match &way.peers {
        Ok(peers) => {
            text += &line("connects to", &peers.join(", "));
            for family in &way.last {
                text += &line("last", &format!("{family}: this machine has no way there"));
            }
        }
        Err(Outcome::GiveUp(reason)) => {
            text += &line("no way", &format!("{}; mail is returned", reason.text));
        }
        Err(Outcome::TryLater(reason)) => {
            text += &line(
                "no way",
                &format!("{}; mail waits, and is tried again", reason.text),
            );
        }
        Err(Outcome::Delivered(_)) => {}
    }
    let tls = match way.level {
        TlsLevel::Never => "never: everything goes in the clear",
        TlsLevel::May => "may: where it is offered, with any certificate; else in the clear",
        TlsLevel::Must => "must: with any certificate, or mail waits",
        TlsLevel::Verify => "verify: with a certificate that is good for the host's name, or mail waits",
    };
    text += &line("tls", tls);
    text += &line("login", way.login.as_deref().unwrap_or("none"));
    match &way.mta {
        // Its first line is the name of the next hop.
        Ok(screen) => text.extend(screen.text.split_inclusive('\n').skip(1)),
        Err(why) => text += &line("mta", why),
    }
    text
}

fn line(what: &str, value: &str) -> String {
    format!("  {what:<12}{}\n", clean(value))
}

fn seen(sight: &Sight) -> String {
    match sight {
        Sight::NotAsked => {
            "not looked up: there is enough before it, or it is no better than we are".to_owned()
        }
        Sight::Ourselves => "this is ourselves, by name".to_owned(),
        Sight::None(error) => error.to_string(),
        Sight::Addresses(addresses) => {
            let told = addresses.iter().map(|(address, standing)| match standing {
                Standing::Fine => address.to_string(),
                Standing::NotPublic => format!("{address} (not public, and allow-next-hop does not have it)"),
                Standing::Ourselves => format!("{address} (where we listen ourselves)"),
            });
            told.collect::<Vec<_>>().join(", ")
        }
    }
}

fn facts(route: &Route) -> Value {
    let end = |(address, end): &(String, End)| {
        let (what, mailbox, maildir, reply, next_hop) = match end {
            End::Mailbox { name, maildir } => ("mailbox", Some(name), Some(maildir), None, None),
            End::Server { name, next_hop } => ("mailbox", Some(name), None, None, Some(next_hop)),
            End::Refused(reply) => ("refused", None, None, Some(reply.to_string()), None),
            End::Elsewhere(next_hop) => ("elsewhere", None, None, None, Some(next_hop)),
        };
        json!({
            "address": address, "is": what, "mailbox": mailbox, "maildir": maildir, "reply": reply,
            "next_hop": next_hop,
        })
    };
    json!({
        "address": route.address, "is_alias": route.is_alias,
        "ends": route.ends.iter().map(end).collect::<Vec<_>>(),
        "next_hops": route.ways.iter().map(way_facts).collect::<Vec<_>>(), "more": route.more,
    })
}

fn way_facts(way: &Way) -> Value {
    let because = match &way.because {
        Because::Route(pattern) => json!({ "route": pattern }),
        Because::RelayHost => json!("relay host"),
        Because::Local => json!("lmtp"),
        Because::Itself => json!("domain"),
    };
    let source = way.sights.source.map(|source| match source {
        Source::Mx => "mx",
        Source::Itself => "domain",
        Source::Literal => "literal",
        Source::Operator => "configuration",
    });
    let host = |(preference, name, sight): &(Option<u16>, String, Sight)| {
        let addresses: Vec<Value> = match sight {
            Sight::Addresses(addresses) => addresses
                .iter()
                .map(|(address, standing)| json!({ "address": address.to_string(), "standing": word(*standing) }))
                .collect(),
            Sight::NotAsked | Sight::Ourselves | Sight::None(_) => Vec::new(),
        };
        let (looked_up, error) = match sight {
            Sight::NotAsked | Sight::Ourselves => (false, None),
            Sight::Addresses(_) => (true, None),
            Sight::None(error) => (true, Some(error)),
        };
        json!({
            "host": name, "preference": preference, "addresses": addresses, "is_looked_up": looked_up,
            "is_ourselves": *sight == Sight::Ourselves, "error": error.map(DnsError::to_string),
        })
    };
    json!({
        "next_hop": way.next_hop, "because": because, "source": source,
        "hosts": way.sights.hosts.iter().map(host).collect::<Vec<_>>(),
        "connects_to": way.peers.as_ref().ok(), "no_way": way.peers.as_ref().err().map(outcome_facts),
        "last": way.last, "tls": way.level.word(), "login": way.login,
        "mta": way.mta.as_ref().ok().map(|screen| &screen.json), "no_mta": way.mta.as_ref().err(),
    })
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Fine => "fine",
        Standing::NotPublic => "not public",
        Standing::Ourselves => "ourselves",
    }
}

fn outcome_facts(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Delivered(reply) => json!({ "outcome": "taken", "reply": reply.to_string() }),
        Outcome::TryLater(reason) => {
            json!({ "outcome": "later", "status": reason.status.to_string(), "text": reason.text })
        }
        Outcome::GiveUp(reason) => {
            json!({ "outcome": "returned", "status": reason.status.to_string(), "text": reason.text })
        }
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outbound::outcome::Reason;
    use crate::smtp::reply::EnhancedCode;

    fn way(next_hop: &str) -> Way {
        Way {
            next_hop: next_hop.to_owned(),
            because: Because::Itself,
            sights: Sights::default(),
            peers: Ok(vec!["mx.a.test[192.0.2.1]".to_owned()]),
            last: Vec::new(),
            level: TlsLevel::May,
            login: None,
            mta: Err("none runs in ./spool".to_owned()),
        }
    }

    fn only(address: &str, end: End) -> Route {
        Route {
            address: address.to_owned(),
            is_alias: false,
            ends: vec![(address.to_owned(), end)],
            ways: Vec::new(),
            more: 0,
        }
    }

    #[test]
    fn whoever_is_elsewhere_is_told_of_with_every_host_and_what_the_mta_says() {
        let addresses = |list: &[(&str, Standing)]| {
            let parsed = list
                .iter()
                .map(|(text, standing)| (text.parse().unwrap(), *standing));
            Sight::Addresses(parsed.collect())
        };
        let hosts = vec![
            (
                Some(10),
                "mx.a.test".to_owned(),
                addresses(&[("192.0.2.1", Standing::Fine), ("127.0.0.1", Standing::NotPublic)]),
            ),
            (
                Some(20),
                "gone.test".to_owned(),
                Sight::None(DnsError::NoSuchDomain),
            ),
            (Some(30), "us.test".to_owned(), Sight::Ourselves),
        ];
        let source = Some(Source::Mx);
        let mta = Screen {
            text: "a.test\n  waiting     nothing\n".to_owned(),
            json: json!({ "waiting": 0 }),
        };
        let way = Way {
            sights: Sights { source, hosts },
            last: vec!["IPv6"],
            login: Some("me".to_owned()),
            mta: Ok(mta),
            ..way("a.test")
        };
        let ways = vec![way];
        let route = Route {
            ways,
            ..only("x@a.test", End::Elsewhere("a.test".to_owned()))
        };
        let screen = super::route(&route);
        assert_eq!(
            screen.text,
            "x@a.test\n  \
             mail        goes to a.test\n\
             \n\
             a.test\n  \
             because     it is the domain itself: there is no route, and no relay host\n  \
             hosts       by MX, the lowest preference first\n  \
             host        10 mx.a.test: 192.0.2.1, 127.0.0.1 (not public, and allow-next-hop does not have it)\n  \
             host        20 gone.test: there is no such domain\n  \
             host        30 us.test: this is ourselves, by name\n  \
             connects to mx.a.test[192.0.2.1]\n  \
             last        IPv6: this machine has no way there\n  \
             tls         may: where it is offered, with any certificate; else in the clear\n  \
             login       me\n  \
             waiting     nothing\n"
        );
        let hop = &screen.json["next_hops"][0];
        assert_eq!(hop["hosts"][0]["addresses"][1]["standing"], "not public");
        assert_eq!(hop["hosts"][1]["error"], "there is no such domain");
        assert_eq!(hop["connects_to"][0], "mx.a.test[192.0.2.1]");
        assert_eq!(hop["mta"]["waiting"], 0);
    }

    #[test]
    fn an_alias_is_told_of_with_all_that_it_stands_for() {
        let end = |address: &str, end| (address.to_owned(), end);
        let reply = Reply::with_status(550, EnhancedCode(5, 1, 1), "no such user");
        let mailbox = End::Mailbox {
            name: "bob@mta.test".to_owned(),
            maildir: "/mail/bob".to_owned(),
        };
        let route = Route {
            is_alias: true,
            ends: vec![
                end("bob+x@mta.test", mailbox),
                end("no@mta.test", End::Refused(reply.clone())),
            ],
            more: 2,
            ..only("team@mta.test", End::Refused(reply.clone()))
        };
        assert_eq!(
            super::route(&route).text,
            "team@mta.test\n  \
             alias       for 2 addresses\n  \
             stands for  bob+x@mta.test: delivered here, to bob@mta.test in /mail/bob\n  \
             stands for  no@mta.test: given up: 550 5.1.1 no such user\n\
             \n\
             2 next hops more, not looked at\n"
        );
        let refused = super::route(&only("no@mta.test", End::Refused(reply)));
        assert_eq!(
            refused.text,
            "no@mta.test\n  mail        refused: 550 5.1.1 no such user\n"
        );
        assert_eq!(refused.json["ends"][0]["is"], "refused");
    }

    #[test]
    fn where_there_is_no_way_it_is_said_what_becomes_of_the_mail() {
        let reason = Reason::here(
            EnhancedCode(5, 1, 10),
            "a.test: the domain takes no mail (null MX)",
        );
        let mut way = way("a.test");
        way.peers = Err(Outcome::GiveUp(reason.clone()));
        let told = told(&way);
        assert!(
            told.contains("  no way      a.test: the domain takes no mail (null MX); mail is returned\n"),
            "{told}"
        );
        assert!(told.ends_with("  mta         none runs in ./spool\n"), "{told}");
        way.peers = Err(Outcome::TryLater(reason));
        assert!(super::told(&way).contains("; mail waits, and is tried again\n"));
        assert_eq!(way_facts(&way)["no_way"]["outcome"], "later");
    }

    #[test]
    fn trials_stand_behind_the_facts() {
        let tried = Tried {
            next_hop: "a.test".to_owned(),
            recipient: "x@a.test".to_owned(),
            lines: vec![Line {
                after: Duration::from_millis(5),
                who: Who::Host,
                text: "220 hello".to_owned(),
            }],
            outcome: Outcome::Delivered(Reply::new(250, "OK")),
        };
        assert_eq!(outcome(&tried), "mail for <x@a.test> would be taken: 250 OK");
        let json = with_trials(json!({ "address": "x@a.test" }), &[tried]);
        assert_eq!(json["trials"][0]["lines"][0]["text"], "220 hello");
        assert_eq!(json["trials"][0]["outcome"]["outcome"], "taken");
    }
}
