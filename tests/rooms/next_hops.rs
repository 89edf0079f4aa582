//! How next hops behave, and what becomes of mail: a table. Every row is a next hop of its own; all of them are served
//! by one MTA at once.
//!
//! A row is written as `smtpmta sink` would be started for it. Not here: who stalls (our deadlines are those of RFC
//! 5321 4.5.3.2, minutes; `tests/dialogues/outbound` has them without a clock).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use smtpmta::sink::options::{self, Asked};

use crate::support::client::{Client, letter, stuffed};
use crate::support::dns_server::DnsServer;
use crate::support::sink::{Sink, summary};
use crate::support::world::{World, eventually};

/// How long it may take from acceptance to the outcome. A machine with other things to do is no failure; a wait for
/// some deadline of the dialogue is.
const SOON: Duration = Duration::from_secs(20);

/// What becomes of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// The next hop has it.
    Transmitted,
    /// It is tried again later; how the status of the attempt begins.
    Deferred(String),
    /// The sender got a report; its status.
    Failed(String),
}

const HERE: Fate = Fate::Transmitted;

fn later(status: &str) -> Fate {
    Fate::Deferred(status.to_owned())
}

fn never(status: &str) -> Fate {
    Fate::Failed(status.to_owned())
}

/// A next hop, and a message to it.
#[derive(Debug)]
struct Row {
    /// The options of its hosts, the most preferred first: `fault rcpt=550 no | size 100`.
    hosts: Vec<String>,
    /// Local parts of the recipients, as they stand in RCPT, with what is to become of each.
    to: Vec<(String, Fate)>,
    /// What follows the reverse path.
    mail: &'static str,
    /// What follows each forward path.
    rcpt: &'static str,
    content: Vec<u8>,
    /// So many messages of it.
    messages: usize,
    /// How often a host takes a message.
    copies: usize,
}

/// A next hop of one host, and a message to one recipient there.
fn row(host: impl Into<String>, fate: Fate) -> Row {
    let copies = usize::from(fate == HERE);
    Row {
        hosts: vec![host.into()],
        to: vec![("jdoe".to_owned(), fate)],
        mail: "",
        rcpt: "",
        content: letter("row"),
        messages: 1,
        copies,
    }
}

impl Row {
    /// The next host, less preferred.
    fn then(mut self, host: &str) -> Row {
        self.hosts.push(host.to_owned());
        self
    }

    /// To these recipients.
    fn to(mut self, to: &[(&str, Fate)]) -> Row {
        self.to = to
            .iter()
            .map(|(to, fate)| ((*to).to_owned(), fate.clone()))
            .collect();
        self
    }

    fn copies(self, copies: usize) -> Row {
        Row { copies, ..self }
    }
}

/// A host that does what is right.
const GOOD: &str = "";
/// A host on which nobody listens.
const CLOSED: &str = "closed";

/// What is said at every stage in turn, and what becomes of the message then.
fn at_each_stage() -> Vec<Row> {
    let mut rows = Vec::new();
    let lost = || later("4.4.2");
    let confused = || later("4.5.0");
    for (stage, not_now, not_ever) in [
        // Another host may talk to us, or this one tomorrow.
        ("greeting", later("4.7.1"), later("4.3.2")),
        // After a 5xx HELO is tried.
        ("ehlo", later("4.7.1"), HERE),
        ("mail", later("4.7.1"), never("5.7.1")),
        ("rcpt", later("4.7.1"), never("5.7.1")),
        ("data", later("4.7.1"), never("5.7.1")),
        ("dot", later("4.7.1"), never("5.7.1")),
    ] {
        let at = |what: &str, fate: Fate| row(format!("fault {stage}={what}"), fate);
        rows.push(at("451 4.7.1 not now", not_now));
        rows.push(at("550 5.7.1 not ever", not_ever));
        rows.push(at("421 4.3.2 closing", later("4.3.2")));
        rows.push(at("drop", lost()));
        // A reset that early may already be seen by the call that connects.
        rows.push(at(
            "reset",
            if stage == "greeting" {
                later("4.4.")
            } else {
                lost()
            },
        ));
        rows.push(at("garbage", confused()));
        rows.push(at(r"550-two codes\n250 in one", confused()));
        // Nothing of it may be believed, whatever it grants.
        rows.push(at("199 what code is that", confused()));
        rows.push(at("slow:1", HERE));
        rows.push(at("late:20", HERE));
    }
    // What goes wrong after the last 250 is no business of the message.
    for what in ["drop", "reset", "garbage", "421 closing", "554 never", "stall"] {
        rows.push(row(format!("fault quit={what}"), HERE));
    }
    rows
}

fn special() -> Vec<Row> {
    vec![
        // Replies that come before they are due.
        row("fault ehlo=early", later("4.5.0")),
        row("fault mail=early", later("4.5.0")),
        row("fault dot=early", later("4.5.0")),
        row("fault content=250 2.0.0 I have it", later("4.5.0")),
        row("fault content=drop", later("4.4.2")),
        row("fault content=reset", later("4.4.2")),
        row("fault content=slow:1", HERE),
        // A good answer to the dot counts, whatever happens after it.
        row("fault dot=close-after", HERE),
        row("fault rcpt=close-after", later("4.4.2")),
        row("fault mail=close-after", later("4.4.2")),
        // Another host of the next hop is better than later.
        row(CLOSED, later("4.4.1")),
        row(CLOSED, HERE).then(GOOD),
        row("fault connect=drop", HERE).then(GOOD),
        row("fault greeting=554 5.3.2 go away", HERE).then(GOOD),
        row("fault greeting=421 4.3.2 busy", HERE).then(GOOD),
        row("fault greeting=garbage", HERE).then(GOOD),
        row("fault ehlo=refuse | fault helo=refuse", HERE).then(GOOD),
        row("fault ehlo=421 busy", HERE)
            .then("fault connect=drop")
            .then(GOOD),
        row("fault greeting=refuse", later("4.3.2")).then("fault greeting=refuse"),
        // What the first host says about the message is not asked of the second one.
        row("fault rcpt=550 5.1.1 nobody", never("5.1.1")).then(GOOD),
        row("fault dot=554 5.6.0 ugly", never("5.6.0")).then(GOOD),
        // Hosts that know little.
        row("no-ehlo", HERE),
        row("offer none", HERE),
        row("no-ehlo | fault helo=refuse", later("4.3.2")),
        row("no-ehlo | fault rcpt=550 nobody", never("5.0.0")),
        // SIZE: said beforehand, or found out.
        row("size 20", never("5.3.4")),
        // Without an enhanced code the class is all that is known.
        row("size 20 | offer PIPELINING", never("5.0.0")),
        row("fault mail=552 5.3.4 too big", never("5.3.4")),
        row("fault dot=552 5.3.4 too big", never("5.3.4")),
        // Not offered, and not needed.
        Row {
            rcpt: " NOTIFY=NEVER ORCPT=rfc822;x@y.example",
            mail: " RET=HDRS ENVID=e1",
            ..row("offer PIPELINING,SIZE,8BITMIME", HERE)
        },
        Row {
            rcpt: " NOTIFY=NEVER ORCPT=rfc822;x@y.example",
            mail: " RET=HDRS ENVID=e1",
            ..row(GOOD, HERE)
        },
        // Needed, and not offered.
        Row {
            mail: " SMTPUTF8",
            ..row("offer PIPELINING,8BITMIME", HERE).to(&[("jdoe", HERE), ("jörg", never("5.6.7"))])
        },
        Row {
            mail: " SMTPUTF8",
            ..row(GOOD, HERE).to(&[("jdoe", HERE), ("jörg", HERE)])
        },
        // Each recipient on its own.
        row("fault rcpt[b@*]=550 5.1.1 nobody", HERE).to(&[("a", HERE), ("b", never("5.1.1")), ("c", HERE)]),
        row("fault rcpt[b@*]=450 4.2.1 busy | fault rcpt[c@*]=553 no", HERE).to(&[
            ("a", HERE),
            ("b", later("4.2.1")),
            ("c", never("5.0.0")),
        ]),
        row("fault rcpt#2-=421 4.3.2 enough", later("4.3.2"))
            .to(&[("a", later("4.3.2")), ("b", later("4.3.2"))]),
        row("fault rcpt=refuse", never("5.1.1")).to(&[("a", never("5.1.1")), ("b", never("5.1.1"))]),
        row(
            "fault rcpt=refuse | fault data=354 go on all the same",
            never("5.1.1"),
        )
        .to(&[("a", never("5.1.1")), ("b", never("5.1.1"))]),
        // Those for whom there was no room go with the next transaction.
        row("max-recipients 2", HERE)
            .to(&[("a", HERE), ("b", HERE), ("c", HERE), ("d", HERE), ("e", HERE)])
            .copies(3),
        row("fault rcpt#3-=552 too many recipients", HERE).to(&[
            ("a", HERE),
            ("b", HERE),
            ("c", later("4.5.3")),
        ]),
        // RFC 5321 5.1.1 and common sense: whoever is named twice gets it once.
        row(GOOD, HERE).to(&[("a", HERE), ("a", HERE)]),
        // The basic code decides, whatever the enhanced one says.
        row("fault rcpt=450 5.1.1 contradiction", later("4.0.0")),
        row("fault rcpt=550 4.2.2 contradiction", never("5.0.0")),
        row("fault dot=250 5.0.0 contradiction", HERE),
        row("fault rcpt=250 4.2.2 contradiction", HERE),
        row("fault mail=550 nonsense.5.x code", never("5.0.0")),
        // Codes of the wrong class.
        row("fault mail=354 go on", later("4.5.0")),
        row("fault rcpt=354 go on", later("4.5.0")),
        row("fault data=250 2.0.0 OK", later("4.5.0")),
        row("fault dot=354 go on", later("4.5.0")),
        // A message or two, and then no more.
        Row {
            messages: 3,
            ..row("max-per-session 1", HERE).copies(3)
        },
        Row {
            messages: 3,
            ..row("max-per-session 2", HERE).copies(3)
        },
        Row {
            messages: 3,
            ..row("fault dot=close-after", HERE).copies(3)
        },
        // Without pipelining it takes longer, and nothing else.
        Row {
            messages: 3,
            ..row("offer SIZE,8BITMIME", HERE).copies(3)
        },
        // Hostile words.
        row(
            r"fault rcpt=550 5.1.1 \x1b[2J\x07\x00no\x0bbody\x7f\x9b",
            never("5.1.1"),
        ),
        row(
            r"fault dot=554 5.6.0 \xff\xfe\xc3 ugly \xe2\x80\xae",
            never("5.6.0"),
        ),
        row(
            r"fault mail=451 4.3.0 a\x0db\x0dFrom: forged@a.example",
            later("4.3.0"),
        ),
        row(
            format!("fault rcpt=550 5.1.1 {}", "long ".repeat(10_000)),
            later("4.5.0"),
        ),
        row(
            format!("fault rcpt=550 5.1.1 {}", "x".repeat(2_000)),
            never("5.1.1"),
        ),
        row(
            format!("fault rcpt={}550 5.1.1 nobody", r"550-5.1.1 many\n".repeat(90)),
            never("5.1.1"),
        ),
        row(
            format!(
                "fault rcpt={}550 5.1.1 nobody",
                r"550-5.1.1 many\n".repeat(10_000)
            ),
            never("5.1.1"),
        ),
        row(
            format!("fault dot={}250 2.0.0 OK", r"250-2.0.0 many\n".repeat(10_000)),
            HERE,
        ),
        row(
            r"fault rcpt=550-5.1.1 From: forged@a.example\n550-5.1.1 \n550 5.1.1 --boundary--",
            never("5.1.1"),
        ),
    ]
}

/// The hosts of all rows on one port, each with an address of its own: 127.1.row.host. `None` where an address is
/// taken; a host on which nobody listens is none.
fn hosts(rows: &[Row]) -> Option<Vec<Vec<Option<Sink>>>> {
    let mut port = 0;
    let mut all = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let mut hosts = Vec::new();
        for (host, options) in row.hosts.iter().enumerate() {
            if options == CLOSED {
                hosts.push(None);
                continue;
            }
            let sink = start(&address(number, host, port), options)?;
            port = sink.address().port();
            hosts.push(Some(sink));
        }
        all.push(hosts);
    }
    Some(all)
}

fn address(row: usize, host: usize, port: u16) -> String {
    format!("{}:{port}", ip(row, host))
}

fn ip(row: usize, host: usize) -> String {
    format!("127.1.{row}.{}", host + 1)
}

/// A sink of these options; `None` where the address is taken.
fn start(address: &str, options: &str) -> Option<Sink> {
    let words: Vec<String> = options
        .split(" | ")
        .filter(|option| !option.is_empty())
        .flat_map(|option| {
            let (name, value) = option.split_once(' ').unwrap_or((option, ""));
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            std::iter::once(format!("--{name}")).chain(value)
        })
        .collect();
    match options::parse(&words) {
        Ok(Asked::Run(settings)) => Sink::with(address, *settings).ok(),
        other => panic!("{options}: {other:?}"),
    }
}

/// What is known of a recipient: the last event, its text, and how long after acceptance it was.
#[derive(Clone, Debug)]
struct Story {
    event: String,
    text: String,
    after: Duration,
}

/// The stories of all recipients of all messages, and the stamps of acceptance.
fn stories(world: &World) -> HashMap<(String, String), Story> {
    let query = "SELECT id, coalesce(recipient, ''), stamp, event, replace(text, char(10), '<LF>') FROM history \
                 ORDER BY stamp";
    let mut begun = HashMap::new();
    let mut stories = HashMap::new();
    for line in world.sql(query).lines() {
        let cells: Vec<&str> = line.splitn(5, '|').collect();
        let [id, recipient, stamp, event, text] = cells[..] else {
            panic!("{line}")
        };
        let stamp: u64 = stamp.parse().unwrap();
        let first = *begun.entry(id.to_owned()).or_insert(stamp);
        if ["transmitted", "deferred", "given up", "failed", "dead"].contains(&event) {
            let story = Story {
                event: event.to_owned(),
                text: text.to_owned(),
                after: Duration::from_micros(stamp - first),
            };
            stories.insert((id.to_owned(), recipient.to_owned()), story);
        }
    }
    stories
}

/// A world whose next hops are these rows: row 7 is `r7.test`.
struct Table {
    world: World,
    hosts: Vec<Vec<Option<Sink>>>,
    _dns: DnsServer,
    /// The messages of each row.
    ids: Vec<Vec<String>>,
}

fn sender(row: usize) -> String {
    format!("r{row}@mta.test")
}

/// As the queue spells a recipient.
fn recipient(row: usize, local: &str) -> String {
    format!("{local}@r{row}.test")
}

impl Table {
    fn set(rows: &[Row], flags: &[&str]) -> Table {
        let hosts = (0..20)
            .find_map(|_| hosts(rows))
            .expect("a port that is free on all addresses");
        let port = hosts
            .iter()
            .flatten()
            .flatten()
            .next()
            .map_or(25, |sink| sink.address().port());
        let dns = DnsServer::start();
        for (number, hosts) in hosts.iter().enumerate() {
            for host in 0..hosts.len() {
                let name = format!("h{host}.r{number}.test");
                dns.mx(
                    &format!("r{number}.test"),
                    u16::try_from(10 * host).unwrap(),
                    &name,
                );
                dns.a(&name, &ip(number, host));
            }
        }
        let (dns_address, port) = (dns.address().to_string(), port.to_string());
        let own = [
            "--dns",
            &dns_address,
            "--smtp-port",
            &port,
            "--allow-next-hop",
            "127.0.0.0/8",
        ];
        let world = World::load(&[&own, flags].concat());
        // All of them at once, so that messages of one row share a list.
        world.tell("smtpmta stop outbound transport");
        let mut client = Client::of(&world);
        let ids = rows
            .iter()
            .enumerate()
            .map(|(number, row)| {
                (0..row.messages)
                    .map(|_| send(&mut client, number, row))
                    .collect()
            })
            .collect();
        world.tell("smtpmta start outbound transport");
        Table {
            world,
            hosts,
            _dns: dns,
            ids,
        }
    }

    /// Waits until every recipient is where it should be; then looks whether it is as it should be.
    fn check(&self, rows: &[Row]) {
        let wanted: Vec<(String, String, &Fate)> = rows
            .iter()
            .enumerate()
            .flat_map(|(number, row)| {
                let ids = &self.ids[number];
                ids.iter().flat_map(move |id| {
                    let to = row.to.iter();
                    to.map(move |(local, fate)| (id.clone(), recipient(number, local), fate))
                })
            })
            .collect();
        // Whoever is given up, and whoever is put off, will have another word said about it.
        let stories = eventually("an outcome for every recipient", || {
            let stories = stories(&self.world);
            let missing: Vec<_> = wanted
                .iter()
                .filter(|(id, recipient, fate)| {
                    let story = stories.get(&(id.clone(), recipient.clone()));
                    !story.is_some_and(|story| match fate {
                        Fate::Failed(_) => story.event != "given up",
                        Fate::Transmitted | Fate::Deferred(_) => true,
                    })
                })
                .map(|(_, recipient, _)| recipient.clone())
                .collect();
            if missing.is_empty() {
                Ok(stories)
            } else {
                Err(missing)
            }
        });
        // The reports are in their mailboxes.
        let waiting = "SELECT (SELECT count(*) FROM inbound_work_queue) + (SELECT count(*) FROM smtp_box)";
        self.world.wait_for_sql(waiting, "0");
        let mut wrong = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let found = self.differences(number, row, &stories);
            if !found.is_empty() {
                let shown: String = row.hosts.join(" || ").chars().take(200).collect();
                let seen: Vec<String> = self.hosts[number]
                    .iter()
                    .flatten()
                    .map(|host| host.look(summary))
                    .collect();
                let seen: String = seen.join("\n").chars().take(2000).collect();
                wrong.push(format!("row {number}: {shown}\n  {}\n{seen}", found.join("\n  ")));
            }
        }
        assert!(
            wrong.is_empty(),
            "{} rows are wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }

    fn differences(
        &self,
        number: usize,
        row: &Row,
        stories: &HashMap<(String, String), Story>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        let mut copies = 0;
        for host in self.hosts[number].iter().flatten() {
            host.look(|seen| {
                // To nobody is no message.
                for message in seen.accepted().filter(|message| !message.recipients.is_empty()) {
                    copies += 1;
                    for to in &message.recipients {
                        *taken.entry(to.clone()).or_default() += 1;
                    }
                }
            });
        }
        if copies != row.copies {
            wrong.push(format!("{copies} copies were taken, expected {}", row.copies));
        }
        for (local, fate) in &row.to {
            let to = recipient(number, local);
            for id in &self.ids[number] {
                let story = &stories[&(id.clone(), to.clone())];
                let Story { event, text, after } = story;
                let (expected, status) = match fate {
                    Fate::Transmitted => ("transmitted", None),
                    Fate::Deferred(status) => ("deferred", Some(status)),
                    Fate::Failed(status) => ("failed", Some(status)),
                };
                if event != expected {
                    wrong.push(format!("{to} {event}: {text}; expected {fate:?}"));
                }
                if *after > SOON {
                    wrong.push(format!("{to} took {after:?}"));
                }
                if let Fate::Deferred(status) = fate {
                    let query = format!(
                        "SELECT last_status FROM outbound_work_queue WHERE id = '{id}' AND recipient = '{to}'"
                    );
                    let got = self.world.sql(&query);
                    if !got.starts_with(status) {
                        wrong.push(format!("{to} deferred with {got}, expected {status}: {text}"));
                    }
                }
                if let (Fate::Failed(_), Some(status)) = (fate, status) {
                    wrong.extend(self.report(number, &to, status));
                }
            }
            let times = taken.get(&to).copied().unwrap_or(0);
            let right = if *fate == HERE {
                row.messages
            } else {
                times.min(row.copies)
            };
            if times != right {
                wrong.push(format!("{to} got it {times} times"));
            }
        }
        wrong
    }

    /// What is wrong with the report about `to`.
    fn report(&self, number: usize, to: &str, status: &str) -> Option<String> {
        let letters = self.world.letters(&sender(number));
        let about = |letter: &&Vec<u8>| {
            let text = String::from_utf8_lossy(letter).into_owned();
            text.contains(to) || !to.is_ascii()
        };
        let Some(letter) = letters.iter().find(about) else {
            return Some(format!("no report about {to}"));
        };
        let text = String::from_utf8_lossy(letter);
        (!text.contains(&format!("\nStatus: {status}\n"))).then(|| format!("no status {status} in\n{text}"))
    }
}

/// Sends the message of a row; its ID.
fn send(client: &mut Client, number: usize, row: &Row) -> String {
    let reply = client.say(&format!("MAIL FROM:<{}>{}", sender(number), row.mail));
    assert!(reply.starts_with("250 "), "{reply}");
    for (local, _) in &row.to {
        let reply = client.say(&format!("RCPT TO:<{}>{}", recipient(number, local), row.rcpt));
        assert!(reply.starts_with("250 "), "{reply}");
    }
    assert!(client.say("DATA").starts_with("354 "));
    client.send(&stuffed(&row.content)).unwrap();
    let reply = client.reply();
    let id = reply.strip_prefix("250 2.6.0 Message received OK. ");
    id.unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// Whether there is nothing in it that a terminal, a log or a mail program would take for anything but text.
fn is_clean(text: &str) -> bool {
    let is_hidden = |sign: char| sign.is_control() || ('\u{202a}'..='\u{202e}').contains(&sign);
    !text
        .chars()
        .any(|sign| is_hidden(sign) && sign != '\n' && sign != '\t')
}

#[test]
fn whatever_is_said_at_a_stage_each_recipient_gets_its_due() {
    let rows = at_each_stage();
    Table::set(&rows, &["--retry-schedule", "1h"]).check(&rows);
}

#[test]
fn next_hops_of_every_kind_are_put_up_with() {
    let rows = special();
    let table = Table::set(&rows, &["--retry-schedule", "1h"]);
    table.check(&rows);

    // Whatever they say is clean and bounded, wherever it is shown.
    for (column, view) in [
        ("text", "history"),
        ("last_error", "outbound_work_queue"),
        ("last_error", "next_hops"),
        ("reason", "dead_mail"),
    ] {
        // A line feed inside a text is no better than another control character.
        let query = format!("SELECT replace({column}, char(10), char(7)) FROM {view}");
        for line in table.world.sql(&query).lines() {
            assert!(is_clean(line) && line.len() <= 600, "{view}: {line:?}");
        }
    }
    let told = "SELECT count(*) FROM history WHERE event = 'given up' AND text LIKE '%no?body??%'";
    assert_eq!(table.world.sql(told), "1");
    for what in ["hops", "queue", "hops --json", "queue --json"] {
        let shown = table.world.show(what);
        assert!(is_clean(&shown), "{what}: {shown:?}");
    }
    for (number, row) in rows.iter().enumerate() {
        for letter in table.world.letters(&sender(number)) {
            let text = String::from_utf8(letter).unwrap_or_else(|_| panic!("{row:?}: not UTF-8"));
            assert!(is_clean(&text) && text.len() < 64 * 1024, "{row:?}: {text:?}");
            assert!(text.lines().all(|line| line.len() <= 998), "{row:?}: {text:?}");
            assert!(
                !text.lines().any(|line| line.starts_with("From: forged")),
                "{text}"
            );
        }
    }
}

/// Every way to fail, once, at every stage: the second attempt brings the message, and nobody gets it twice.
#[test]
fn what_fails_once_arrives_once() {
    let mut rows = Vec::new();
    for stage in [
        "connect", "greeting", "ehlo", "mail", "rcpt", "data", "content", "dot",
    ] {
        let mut whats = vec!["drop", "reset"];
        if stage != "connect" {
            whats.extend([
                "451 4.3.0 later",
                "421 4.3.2 closing",
                "garbage",
                r"451-two codes\n250 in one",
            ]);
        }
        // With the greeting there is none before it; before EHLO nothing can be granted, and after it all can.
        if ["ehlo", "mail", "rcpt", "data", "dot"].contains(&stage) {
            whats.push("early");
        }
        for what in whats {
            rows.push(row(format!("fault {stage}#1={what}"), HERE));
        }
    }
    let table = Table::set(&rows, &["--retry-schedule", "1s"]);
    table
        .world
        .wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    table.check(&rows);
    for (number, _) in rows.iter().enumerate() {
        assert!(table.world.letters(&sender(number)).is_empty());
    }
}
