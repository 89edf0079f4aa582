//! A table of next hops: every row is a next hop of its own, with hosts as `smtpmta sink` would be started for them; all
//! of them are served by one MTA at once.
//!
//! Knows how to set the table and what every row has to satisfy; what the rows are is up to the tests.

#![allow(dead_code)] // each test uses what it needs
#![allow(clippy::unwrap_used)] // a table that cannot be set is a failed test

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use data_encoding::BASE64;
use smtpmta::sink::options::{self, Asked};

use super::client::{Client, letter, stuffed};
use super::dns_server::DnsServer;
use super::sink::{Sink, State, summary};
use super::world::{World, eventually};

/// How long it may take from acceptance to the outcome. A machine with other things to do is no failure; a wait for
/// some deadline of the dialogue is.
const SOON: Duration = Duration::from_secs(20);

/// How many recipients have not come to the outbound work queue.
const UNROUTED: &str = "SELECT (SELECT count(*) FROM inbound_work_queue) + (SELECT count(*) FROM smtp_box)";

/// What becomes of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The next hop has it.
    Transmitted,
    /// It is tried again later; how the status of the attempt begins.
    Deferred(String),
    /// The sender got a report; its status.
    Failed(String),
}

pub const HERE: Fate = Fate::Transmitted;

pub fn later(status: &str) -> Fate {
    Fate::Deferred(status.to_owned())
}

pub fn never(status: &str) -> Fate {
    Fate::Failed(status.to_owned())
}

/// A next hop, and a message to it.
#[derive(Debug)]
pub struct Row {
    /// The options of its hosts, the most preferred first: `fault rcpt=550 no | size 100`.
    pub hosts: Vec<String>,
    /// Local parts of the recipients, as they stand in RCPT, with what is to become of each.
    pub to: Vec<(String, Fate)>,
    /// What follows the reverse path.
    pub mail: &'static str,
    /// What follows each forward path.
    pub rcpt: &'static str,
    pub content: Vec<u8>,
    /// So many messages of it.
    pub messages: usize,
    /// How often a host takes a message.
    pub copies: usize,
    /// Recipients of single messages that fare otherwise: which message, who, how.
    pub unlike: Vec<(usize, &'static str, Fate)>,
    /// Octets of the bodies of these messages, in place of the content.
    pub bodies: Vec<usize>,
    /// The content arrives in another form.
    pub converted: bool,
    /// The level of `--tls-outbound` for it; empty: none is said.
    pub tls: &'static str,
    /// Whether the copies come over TLS; `None`: either way.
    pub encrypted: Option<bool>,
    /// The certificates of its hosts are in the file of `--tls-ca`.
    pub trusted: bool,
    /// Its first host is a route, and this is our login there.
    pub login: &'static str,
}

/// A next hop of one host, and a message to one recipient there.
pub fn row(host: impl Into<String>, fate: Fate) -> Row {
    let copies = usize::from(fate == HERE);
    Row {
        hosts: vec![host.into()],
        to: vec![("jdoe".to_owned(), fate)],
        mail: "",
        rcpt: "",
        content: letter("row"),
        messages: 1,
        copies,
        unlike: Vec::new(),
        bodies: Vec::new(),
        converted: false,
        tls: "",
        encrypted: None,
        trusted: false,
        login: "",
    }
}

impl Row {
    /// The next host, less preferred.
    pub fn then(mut self, host: &str) -> Row {
        self.hosts.push(host.to_owned());
        self
    }

    /// To these recipients.
    pub fn to(mut self, to: &[(&str, Fate)]) -> Row {
        self.to = to
            .iter()
            .map(|(to, fate)| ((*to).to_owned(), fate.clone()))
            .collect();
        self
    }

    pub fn copies(self, copies: usize) -> Row {
        Row { copies, ..self }
    }

    /// A `%` in the name of a recipient stands for the number of the message.
    fn recipients(&self, message: usize) -> Vec<(String, Fate)> {
        let other = |local: &str| {
            let mut unlike = self.unlike.iter();
            unlike.find(|(number, name, _)| *number == message && *name == local)
        };
        let to = self.to.iter();
        to.map(|(local, fate)| {
            let fate = other(local).map_or(fate, |(_, _, fate)| fate);
            (local.replace('%', &message.to_string()), fate.clone())
        })
        .collect()
    }

    /// What a message says: it tells which one it is.
    fn said(&self, row: usize, message: usize) -> Vec<u8> {
        let name = format!("X-Message: {row}.{message}.\r\n").into_bytes();
        match self.bodies.get(message) {
            None => [&name, &*self.content].concat(),
            Some(octets) => {
                let line = [&[b'x'; 76][..], b"\r\n"].concat();
                let mut body = line.repeat(octets / line.len() + 1);
                body.truncate(*octets);
                if body.last() == Some(&b'\r') {
                    body.pop();
                }
                [&name, &b"Subject: many\r\n\r\n"[..], &*body].concat()
            }
        }
    }
}

/// A host that does what is right.
pub const GOOD: &str = "";
/// A host on which nobody listens.
pub const CLOSED: &str = "closed";

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
            let options = options.replace("{name}", &name(number, host));
            let sink = start(&address(number, host, port), &options)?;
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

/// What DNS calls a host; `{name}` in its options.
fn name(row: usize, host: usize) -> String {
    format!("h{host}.r{row}.test")
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
pub struct Table {
    pub world: World,
    pub hosts: Vec<Vec<Option<Sink>>>,
    _dns: DnsServer,
    /// The messages of each row.
    pub ids: Vec<Vec<String>>,
}

pub fn sender(row: usize, message: usize) -> String {
    format!("r{row}m{message}@mta.test")
}

/// As the queue spells a recipient.
pub fn recipient(row: usize, local: &str) -> String {
    format!("{local}@r{row}.test")
}

impl Table {
    pub fn set(rows: &[Row], flags: &[&str]) -> Table {
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
                let name = name(number, host);
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
        let mut world = World::without_mta(&[&own, flags].concat());
        secure(&mut world, rows, &hosts, &port);
        world.start();
        // All of them at once, so that messages of one row share a list.
        world.tell("smtpmta stop outbound transport");
        let mut client = Client::of(&world);
        let ids = rows
            .iter()
            .enumerate()
            .map(|(number, row)| {
                (0..row.messages)
                    .map(|message| send(&mut client, number, message, row))
                    .collect()
            })
            .collect();
        // What comes behind a back-off waits without a word.
        world.wait_for_sql(UNROUTED, "0");
        world.tell("smtpmta start outbound transport");
        Table {
            world,
            hosts,
            _dns: dns,
            ids,
        }
    }

    /// Waits until every recipient is where it should be; then looks whether it is as it should be.
    pub fn check(&self, rows: &[Row]) {
        let wanted: Vec<(String, String, Fate)> = rows
            .iter()
            .enumerate()
            .flat_map(|(number, row)| {
                let ids = &self.ids[number];
                ids.iter().enumerate().flat_map(move |(message, id)| {
                    let to = row.recipients(message).into_iter();
                    to.map(move |(local, fate)| (id.clone(), recipient(number, &local), fate))
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
        self.world.wait_for_sql(UNROUTED, "0");
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
        let mut taken: BTreeMap<(usize, String), usize> = BTreeMap::new();
        let mut copies = 0;
        for host in self.hosts[number].iter().flatten() {
            host.look(|seen| {
                wrong.extend(wrong_dialogues(row, seen));
                // To nobody is no message.
                for message in seen.accepted().filter(|message| !message.recipients.is_empty()) {
                    copies += 1;
                    let is_it =
                        |which: &usize| contains(&message.content, &format!("X-Message: {number}.{which}."));
                    let Some(which) = (0..row.messages).find(is_it) else {
                        wrong.push(format!("a copy of no message: {message:?}"));
                        continue;
                    };
                    if message.reverse_path != sender(number, which) {
                        wrong.push(format!("message {which} came from {}", message.reverse_path));
                    }
                    if !row.converted && !ends_with(&message.content, &row.said(number, which)) {
                        wrong.push(format!("message {which} is not as it was sent"));
                    }
                    let over_tls = seen.sessions[message.session].tls.is_some();
                    if row.encrypted.is_some_and(|wanted| wanted != over_tls) {
                        wrong.push(format!("message {which} came over TLS: {over_tls}"));
                    }
                    for to in &message.recipients {
                        *taken.entry((which, to.clone())).or_default() += 1;
                    }
                }
            });
        }
        if copies != row.copies {
            wrong.push(format!("{copies} copies were taken, expected {}", row.copies));
        }
        for (message, id) in self.ids[number].iter().enumerate() {
            for (local, fate) in row.recipients(message) {
                let to = recipient(number, &local);
                let times = taken.get(&(message, to.clone())).copied().unwrap_or(0);
                wrong.extend(self.difference(
                    number,
                    message,
                    (&to, &fate),
                    &stories[&(id.clone(), to.clone())],
                ));
                if fate == HERE && times != 1 || times > row.copies {
                    wrong.push(format!("{to} got message {message} {times} times"));
                }
                if let (Fate::Transmitted, Some(over_tls)) = (&fate, row.encrypted) {
                    let text = &stories[&(id.clone(), to.clone())].text;
                    if text.contains(" over TLSv1.") != over_tls {
                        wrong.push(format!("{to}: the history does not say so of TLS: {text}"));
                    }
                }
            }
        }
        taken.retain(|(message, to), _| {
            let mut named = row.recipients(*message).into_iter();
            !named.any(|(local, _)| recipient(number, &local) == *to)
        });
        if !taken.is_empty() {
            wrong.push(format!("with recipients of other messages: {taken:?}"));
        }
        wrong
    }

    /// What is wrong with what became of a recipient.
    fn difference(
        &self,
        number: usize,
        message: usize,
        (to, fate): (&str, &Fate),
        story: &Story,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let id = &self.ids[number][message];
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
            wrong.extend(self.report(&sender(number, message), to, status));
        }
        wrong
    }

    /// What is wrong with the report about `to`.
    fn report(&self, sender: &str, to: &str, status: &str) -> Option<String> {
        let letters = self.world.letters(sender);
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

/// Says to the MTA what the rows want of TLS and logins.
fn secure(world: &mut World, rows: &[Row], hosts: &[Vec<Option<Sink>>], port: &str) {
    let (mut trusted, mut logins) = (String::new(), String::new());
    for (number, row) in rows.iter().enumerate() {
        if !row.tls.is_empty() {
            world.flag("--tls-outbound", &format!("r{number}.test={}", row.tls));
        }
        if !row.login.is_empty() {
            let host = format!("{}:{port}", name(number, 0));
            world.flag("--route", &format!("r{number}.test={host}"));
            logins += &format!("{host} {}\n", row.login);
        }
        let sinks = hosts[number].iter().flatten().filter(|_| row.trusted);
        for certificate in sinks.filter_map(Sink::certificate) {
            let text = BASE64.encode(&certificate);
            trusted += &format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        }
    }
    for (flag, file, text) in [
        ("--tls-ca", "trusted.pem", trusted),
        ("--relay-auth", "logins", logins),
    ] {
        if !text.is_empty() {
            let path = world.write(file, text);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            world.flag(flag, &path);
        }
    }
}

/// What a host heard that the level of its row forbids.
fn wrong_dialogues(row: &Row, seen: &State) -> Vec<String> {
    let said = |command: &str, in_the_clear: bool| {
        let mut sessions = seen.sessions.iter();
        sessions.any(|session| {
            let of_interest = !in_the_clear || session.tls.is_none();
            of_interest && session.commands.iter().any(|line| line.starts_with(command))
        })
    };
    let forbidden: &[(&str, bool)] = match row.tls {
        "must" | "verify" => &[("MAIL", true), ("AUTH", true)],
        "never" => &[("STARTTLS", false)],
        _ => &[],
    };
    let heard = forbidden
        .iter()
        .filter(|(command, in_the_clear)| said(command, *in_the_clear));
    heard
        .map(|(command, _)| format!("{} is the level, and it heard {command}", row.tls))
        .collect()
}

/// Whether it ends so; a last line without an end gets one after DATA.
fn ends_with(content: &[u8], said: &[u8]) -> bool {
    content.ends_with(said)
        || content
            .strip_suffix(b"\r\n")
            .is_some_and(|content| content.ends_with(said))
}

fn contains(content: &[u8], text: &str) -> bool {
    content
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Sends a message of a row; its ID.
fn send(client: &mut Client, number: usize, message: usize, row: &Row) -> String {
    let reply = client.say(&format!("MAIL FROM:<{}>{}", sender(number, message), row.mail));
    assert!(reply.starts_with("250 "), "{reply}");
    for (local, _) in row.recipients(message) {
        let reply = client.say(&format!("RCPT TO:<{}>{}", recipient(number, &local), row.rcpt));
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let content = row.said(number, message);
    if row.bodies.is_empty() && !row.mail.contains("BINARYMIME") {
        assert!(client.say("DATA").starts_with("354 "));
        client.send(&stuffed(&content)).unwrap();
    } else {
        // Its last line may have no end.
        client
            .send(format!("BDAT {} LAST\r\n", content.len()).as_bytes())
            .unwrap();
        client.send(&content).unwrap();
    }
    let reply = client.reply();
    let id = reply.strip_prefix("250 2.6.0 Message received OK. ");
    id.unwrap_or_else(|| panic!("{reply}")).to_owned()
}
