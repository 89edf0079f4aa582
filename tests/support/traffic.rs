//! Mail under way while the MTA is stopped, started and told other things: clients that bring messages and come back
//! when they lose their session, and the account of what they were told and what has arrived.
//!
//! Each message has a name of its own, in its subject, by which it is known: most are relayed, some are for a mailbox
//! here, and some are refused by the next hop, so that a report about them goes to a mailbox here. Never sleeps for longer than a client that finds
//! nobody at home waits before it comes again.

#![allow(dead_code)] // each test uses what it needs

use std::collections::{HashMap, HashSet};
use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::client::{Client, big_letter, letter, stuffed};
use super::sink::Sink;
use super::world::{PATIENCE, World};

/// Set to `1` where a test that repeats itself does so as often as the product is held to.
const FULL: &str = "SMTPMTA_FULL";

/// `many` times where the whole is asked for, else `few`.
pub fn times(few: usize, many: usize) -> usize {
    match env::var(FULL).as_deref() {
        Ok("1") => many,
        _ => few,
    }
}

/// The domain of those who are not here, and of all names.
const DOMAIN: &str = "ibm.com";
/// Who sends all of it, and gets the reports.
const SENDER: &str = "bsmith@mta.test";
/// Who gets what is for a mailbox here.
const HERE: &str = "jdoe@mta.test";
/// One in so many messages is kept in a file, one is for a mailbox here, and one is refused by the next hop.
const ONE_IN: usize = 16;
/// How long a client waits that found nobody at home.
const BREATH: Duration = Duration::from_millis(5);

/// How the names of messages begin that the next hop refuses.
const REFUSED: &str = "refused";

/// A next hop that refuses what it is meant to refuse.
pub fn next_hop() -> Sink {
    let sink = Sink::start();
    sink.order(&format!("rcpt[{REFUSED}.*]=550 5.1.1 no such user"));
    sink
}

/// What a client knows of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was told 250.
    Acknowledged,
    /// It was told something else, or the connection broke before its final dot.
    NotTaken,
    /// The connection broke behind its final dot: nobody knows.
    Open,
}

/// What clients were told, by the name of each message.
#[derive(Debug, Default)]
pub struct Account {
    /// Messages that were answered with 250.
    pub acknowledged: HashSet<String>,
    /// Messages that were not taken.
    pub not_taken: HashSet<String>,
    /// Messages without an answer.
    pub open: HashSet<String>,
    /// Sessions that ended although the client wanted to go on.
    pub lost_sessions: usize,
}

impl Account {
    /// Notes what became of a message.
    pub fn note(&mut self, name: String, fate: Fate) {
        let fates = match fate {
            Fate::Acknowledged => &mut self.acknowledged,
            Fate::NotTaken => &mut self.not_taken,
            Fate::Open => &mut self.open,
        };
        fates.insert(name);
    }

    /// How often the sink has each message, each with its own content.
    ///
    /// # Panics
    /// Where a content is not that of its recipient.
    #[track_caller]
    pub fn arrived(sink: &Sink) -> HashMap<String, usize> {
        sink.look(|seen| {
            let mut arrived = HashMap::new();
            for message in seen.accepted() {
                let to = message.recipients[0].clone();
                let subject = format!("\r\nSubject: {to}\r\n\r\nHello World\r\n");
                let is_its_own = memchr::memmem::find(&message.content, subject.as_bytes()).is_some();
                assert!(is_its_own, "the content of the message for {to} is not its own");
                *arrived.entry(to).or_default() += 1;
            }
            arrived
        })
    }

    /// The same, with what has come to a mailbox here: messages, and reports of those that were refused.
    #[track_caller]
    fn arrived_anywhere(world: &World, sink: &Sink) -> HashMap<String, usize> {
        let mut arrived = Account::arrived(sink);
        for (mailbox, field) in [(HERE, "Subject: "), (SENDER, "Final-Recipient: rfc822;")] {
            for letter in world.letters(mailbox) {
                let text = String::from_utf8_lossy(&letter);
                let name = text.lines().find_map(|line| line.strip_prefix(field));
                let name = name.unwrap_or_else(|| panic!("{mailbox} has got\n{text}")).trim();
                *arrived.entry(name.to_owned()).or_default() += 1;
            }
        }
        arrived
    }

    /// All is well: what was acknowledged has arrived, once, or has been reported; what was not taken has not; and what
    /// nobody knows has arrived once at most.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn balance(&self, world: &World, sink: &Sink) {
        let arrived = Account::arrived_anywhere(world, sink);
        let lost: Vec<_> = self
            .acknowledged
            .iter()
            .filter(|to| !arrived.contains_key(*to))
            .collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let twice: Vec<_> = arrived.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "arrived more than once: {twice:?}");
        let wrong: Vec<_> = self
            .not_taken
            .iter()
            .filter(|to| arrived.contains_key(*to))
            .collect();
        assert!(
            wrong.is_empty(),
            "not taken, said the MTA, and arrived: {wrong:?}"
        );
        let known = |to: &String| self.acknowledged.contains(to) || self.open.contains(to);
        let strange: Vec<_> = arrived.keys().filter(|to| !known(to)).collect();
        assert!(strange.is_empty(), "arrived, and nobody has sent it: {strange:?}");
    }
}

/// Clients at work.
pub struct Load {
    told: Receiver<(String, Fate)>,
    lost_sessions: AtomicUsize,
}

impl Load {
    /// Waits until this many more messages have been acknowledged.
    #[track_caller]
    pub fn wait_for(&self, account: &mut Account, messages: usize) {
        let enough = account.acknowledged.len() + messages;
        while account.acknowledged.len() < enough {
            let told = self.told.recv_timeout(PATIENCE);
            let (to, fate) = told.unwrap_or_else(|_| panic!("no message was answered for {PATIENCE:?}"));
            account.note(to, fate);
        }
    }
}

/// Ends the clients, whatever becomes of the test.
struct Whistle<'t>(&'t AtomicBool);

impl Drop for Whistle<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Does something while this many clients bring mail to `address`, named after `name`, which no other load of the same
/// account has. Gives what came of it, when the clients have ended.
#[track_caller]
pub fn under_load<T>(
    address: SocketAddr,
    name: &str,
    clients: usize,
    account: &mut Account,
    act: impl FnOnce(&Load, &mut Account) -> T,
) -> T {
    let is_over = AtomicBool::new(false);
    let (tell, told) = channel();
    let load = Load {
        told,
        lost_sessions: AtomicUsize::new(0),
    };
    let lost_sessions = &load.lost_sessions;
    let is_over = &is_over;
    let done = thread::scope(|scope| {
        let whistle = Whistle(is_over);
        for client in 0..clients {
            let (tell, name) = (tell.clone(), format!("{name}.{client}"));
            scope.spawn(move || bring(address, &name, &tell, is_over, lost_sessions));
        }
        drop(tell);
        let done = act(&load, account);
        drop(whistle);
        done
    });
    for (to, fate) in load.told.try_iter() {
        account.note(to, fate);
    }
    account.lost_sessions += load.lost_sessions.load(Ordering::SeqCst);
    done
}

/// Brings one message after the other until it is over.
fn bring(
    address: SocketAddr,
    name: &str,
    tell: &Sender<(String, Fate)>,
    is_over: &AtomicBool,
    lost_sessions: &AtomicUsize,
) {
    let (_silent, breath) = channel::<()>();
    let mut session: Option<Client> = None;
    let mut number = 0;
    while !is_over.load(Ordering::SeqCst) {
        let Some(client) = &mut session else {
            session = Client::try_greet(address).ok();
            if session.is_none() {
                let _ = breath.recv_timeout(BREATH);
            }
            continue;
        };
        // The name, and where it goes.
        let (name, to) = match number % ONE_IN {
            3 => (format!("here.{name}.{number}@{DOMAIN}"), Some(HERE)),
            5 => (format!("{REFUSED}.{name}.{number}@{DOMAIN}"), None),
            _ => (format!("{name}.{number}@{DOMAIN}"), None),
        };
        let content = match number % ONE_IN {
            7 => big_letter(&name, 100_000),
            _ => letter(&name),
        };
        number += 1;
        let (fate, goes_on) = bring_one(client, to.unwrap_or(&name), &content);
        if !goes_on {
            session = None;
            // The end of the test is the end of the MTA, too.
            lost_sessions.fetch_add(usize::from(!is_over.load(Ordering::SeqCst)), Ordering::SeqCst);
        }
        if tell.send((name, fate)).is_err() {
            return;
        }
    }
}

/// Brings one message; what it was told, and whether the session goes on.
pub fn bring_one(client: &mut Client, to: &str, content: &[u8]) -> (Fate, bool) {
    let commands = format!("MAIL FROM:<{SENDER}>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
    if client.send(commands.as_bytes()).is_err() {
        return (Fate::NotTaken, false);
    }
    let mut reply = String::new();
    for _ in 0..3 {
        match client.try_reply() {
            Ok(next) if !next.starts_with("421") => reply = next,
            _ => return (Fate::NotTaken, false),
        }
    }
    if !reply.starts_with("354") {
        return (Fate::NotTaken, true);
    }
    if client.send(&stuffed(content)).is_err() {
        return (Fate::Open, false);
    }
    match client.try_reply() {
        Ok(reply) if reply.starts_with("250 ") => (Fate::Acknowledged, true),
        Ok(reply) => (Fate::NotTaken, !reply.starts_with("421")),
        Err(_) => (Fate::Open, false),
    }
}
