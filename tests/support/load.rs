//! A mixed load: letters of many kinds from several sessions at once, each with a token of its own by which it is
//! known wherever it arrives, and of each whether its client has heard that it was taken.

#![allow(dead_code)] // each test uses what it needs

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::client::{Client, stuffed};
use super::world::World;

/// What stands before the token in the header.
pub const TOKEN: &str = "X-Token: ";

/// Clients that send at once.
const SESSIONS: usize = 4;

/// Lines of a large letter: 100 KiB.
const MANY_LINES: usize = 1500;

/// Pieces in which a client brings the content that takes its time.
pub const PIECES: usize = 6;

/// What a letter is about. mta.test is local, the other domains have next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For a mailbox.
    Local,
    /// For another host.
    Relayed,
    /// For mailboxes, and several at other hosts.
    Several,
    /// For several, and too large for the database.
    Large,
    /// Its next hops refuse some of its recipients.
    Refused,
    /// Its sender wants to hear that it arrived.
    Confirmed,
    /// For an alias of a mailbox and somebody elsewhere.
    Alias,
    /// From the null path, and its next hop refuses one of its recipients: nobody can be told.
    Null,
    /// For a host that is down, and will be there again.
    Waiting,
    /// For a host that is down for too long.
    Expiring,
    /// For a host that is down: an operator removes it.
    Removed,
    /// For several mailboxes behind an LMTP server, which answers for each: one of them is full.
    Divided,
}

/// Those that need no host to be down.
pub const USUAL: &[Kind] = &[
    Kind::Several,
    Kind::Refused,
    Kind::Local,
    Kind::Large,
    Kind::Relayed,
    Kind::Confirmed,
    Kind::Alias,
];

/// How the addresses of those end who are here.
pub const HERE: &str = "@mta.test";

/// For whom those letters are that an operator removes.
pub const REMOVED: &str = "jdoe@removed.test";

/// The alias of the letters.
pub const ALIAS: &str = "team@mta.test";
/// What it stands for, as the file says it.
pub const ALIASES: &str = "team: amy@mta.test, amy@far.test\n";

/// How the content of letters is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// DATA.
    Data,
    /// BDAT, in two chunks.
    Bdat,
    /// One as well as the other.
    Both,
    /// Neither: sendmail leaves them in the maildrop.
    Sendmail,
}

/// What somebody has damaged of a letter by hand while it waited, so that it is put aside. Not for letters of which a
/// sender has to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// All of it, before its conversion.
    Whole,
    /// What is for other hosts, when the rest had arrived.
    Elsewhere,
}

/// A letter, and what its client has heard of it.
#[derive(Clone, Debug)]
pub struct Letter {
    /// In it, and in nothing else.
    pub token: String,
    /// What it is about.
    pub kind: Kind,
    /// Whether the 250 after its content was heard.
    pub acknowledged: bool,
    /// What of it is put aside.
    pub spoiled: Option<Spoiled>,
    /// Whether an operator has seen it in the queue, and removed it.
    pub removed: bool,
}

impl Letter {
    /// From whom: a mailbox of its own, so that reports about it come together. Where it is from the null path it is known
    /// by that name all the same.
    pub fn sender(&self) -> String {
        format!("{}@mta.test", self.token)
    }

    /// Whom the client names.
    pub fn recipients(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Alias => vec![ALIAS],
            _ => [self.meant(), self.refused(), self.dead(), self.removed()].concat(),
        }
    }

    /// Where it has to arrive.
    pub fn reached(&self) -> Vec<&'static str> {
        let mut reached = self.meant();
        reached.retain(|to| !self.is_spoiled_for(to));
        reached
    }

    /// Who does not get it before an operator has looked at it.
    pub fn held(&self) -> Vec<&'static str> {
        let mut held = self.meant();
        held.retain(|to| self.is_spoiled_for(to));
        held
    }

    fn is_spoiled_for(&self, to: &str) -> bool {
        match self.spoiled {
            None => false,
            Some(Spoiled::Whole) => true,
            Some(Spoiled::Elsewhere) => !to.ends_with(HERE),
        }
    }

    /// Where it would arrive if nobody laid hands on it.
    fn meant(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Local => vec!["jdoe@mta.test"],
            Kind::Relayed => vec!["jdoe@near.test"],
            Kind::Several => vec![
                "jdoe@mta.test",
                "jdoe@near.test",
                "amy@mta.test",
                "amy@near.test",
                "jdoe@far.test",
            ],
            Kind::Large => vec!["jdoe@far.test", "jdoe@mta.test", "jdoe@near.test"],
            Kind::Refused | Kind::Null => vec!["jdoe@far.test"],
            Kind::Confirmed => self.confirmed(),
            Kind::Alias => vec!["amy@mta.test", "amy@far.test"],
            Kind::Waiting => vec!["jdoe@down.test"],
            Kind::Divided => vec!["amy@mta.test", "jdoe@mta.test"],
            Kind::Expiring | Kind::Removed => vec![],
        }
    }

    /// Of whom the sender has to hear that it did not arrive.
    pub fn refused(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Refused => vec!["gone@near.test", "gone@far.test"],
            Kind::Expiring => vec!["jdoe@down.test"],
            Kind::Divided => vec!["full@mta.test"],
            _ => vec![],
        }
    }

    /// Who does not get it, and of whom nobody can hear that.
    pub fn dead(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Null => vec!["gone@near.test"],
            _ => vec![],
        }
    }

    /// Who does not get it, since an operator removes it.
    pub fn removed(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Removed => vec![REMOVED],
            _ => vec![],
        }
    }

    /// Of whom the sender has to hear that it arrived.
    pub fn confirmed(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Confirmed => vec!["jdoe@mta.test", "jdoe@far.test"],
            _ => vec![],
        }
    }

    /// Header and body.
    pub fn content(&self) -> Vec<u8> {
        let (token, sender) = (&self.token, self.sender());
        let head = format!("From: {sender}\r\nSubject: {token}\r\n{TOKEN}{token}\r\n\r\n");
        let lines = if self.kind == Kind::Large { MANY_LINES } else { 3 };
        let body = format!("{token} {}\r\n", "x".repeat(60)).repeat(lines);
        [head, body].concat().into_bytes()
    }

    /// MAIL and RCPT.
    fn envelope(&self) -> Vec<u8> {
        let from = match self.kind {
            // By this the queue tells it from others.
            Kind::Null => format!("<> ENVID={}", self.token),
            _ => format!("<{}>", self.sender()),
        };
        let notify = match self.kind {
            Kind::Confirmed => " NOTIFY=SUCCESS",
            _ => "",
        };
        let mut commands = format!("MAIL FROM:{from}\r\n");
        for to in self.recipients() {
            commands += &format!("RCPT TO:<{to}>{notify}\r\n");
        }
        commands.into_bytes()
    }

    /// What sendmail is told of it.
    fn words(&self) -> Vec<String> {
        let mut words = match self.kind {
            Kind::Null => vec![
                "-f".to_owned(),
                "<>".to_owned(),
                "-V".to_owned(),
                self.token.clone(),
            ],
            _ => vec!["-f".to_owned(), self.sender()],
        };
        if self.kind == Kind::Confirmed {
            words.push("-Nsuccess".to_owned());
        }
        words.extend(["-i".to_owned(), "--".to_owned()]);
        words.extend(self.recipients().into_iter().map(str::to_owned));
        words
    }

    /// Sends it; gives the last reply.
    fn send(&self, client: &mut Client, by_chunks: bool) -> io::Result<String> {
        if !by_chunks {
            self.begin_data(client)?;
            client.send(&stuffed(&self.content()))?;
            return expect("250", client.try_reply()?);
        }
        let content = self.content();
        let (first, last) = content.split_at(content.len() / 3);
        let mut octets = self.envelope();
        for (chunk, word) in [(first, ""), (last, " LAST")] {
            octets.extend_from_slice(format!("BDAT {}{word}\r\n", chunk.len()).as_bytes());
            octets.extend_from_slice(chunk);
        }
        client.send(&octets)?;
        for _ in 0..self.recipients().len() + 2 {
            expect("250", client.try_reply()?)?;
        }
        expect("250", client.try_reply()?)
    }

    /// Gets as far as the word to go on with the content.
    fn begin_data(&self, client: &mut Client) -> io::Result<()> {
        client.send(&[&self.envelope()[..], b"DATA\r\n"].concat())?;
        for _ in 0..=self.recipients().len() {
            expect("250", client.try_reply()?)?;
        }
        expect("354", client.try_reply()?).map(drop)
    }

    /// Sends it with a pause before each piece of its content; gives the last reply.
    fn dribble(&self, client: &mut Client, pause: Duration) -> io::Result<String> {
        self.begin_data(client)?;
        let content = stuffed(&self.content());
        let (_silent, breath) = channel::<()>();
        for piece in content.chunks(content.len().div_ceil(PIECES)) {
            _ = breath.recv_timeout(pause);
            client.send(piece)?;
        }
        expect("250", client.try_reply()?)
    }
}

/// A reply that begins so; any other one ends the session.
fn expect(code: &str, reply: String) -> io::Result<String> {
    if reply.starts_with(code) {
        Ok(reply)
    } else {
        Err(io::Error::other(reply))
    }
}

/// The letters of a load, whoever failed while he looked at them.
fn lock(letters: &Mutex<Vec<Letter>>) -> MutexGuard<'_, Vec<Letter>> {
    letters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enters a letter that is about to be sent; its place.
fn enter(letters: &Mutex<Vec<Letter>>, letter: &Letter) -> usize {
    let mut letters = lock(letters);
    letters.push(letter.clone());
    letters.len() - 1
}

/// Sends letters of these kinds from several sessions at once, each of which goes on until it breaks off. `wave` tells
/// them from those sent before. They are in `letters` from the moment on in which sending begins.
pub fn send(address: SocketAddr, wave: usize, kinds: &[Kind], verb: Verb, letters: &Mutex<Vec<Letter>>) {
    let session = |session: usize| {
        let mut client = Client::try_greet(address)?;
        for turn in 0..kinds.len() {
            let letter = Letter {
                token: format!("w{wave}s{session}n{turn}"),
                kind: kinds[(session + turn) % kinds.len()],
                acknowledged: false,
                spoiled: None,
                removed: false,
            };
            let place = enter(letters, &letter);
            let by_chunks = match verb {
                Verb::Data => false,
                Verb::Bdat => true,
                Verb::Both | Verb::Sendmail => (session + turn / 2).is_multiple_of(2),
            };
            letter.send(&mut client, by_chunks)?;
            lock(letters)[place].acknowledged = true;
        }
        Ok::<(), io::Error>(())
    };
    let session = &session;
    thread::scope(|scope| {
        for number in 0..SESSIONS {
            // How far it came is told by the letters.
            scope.spawn(move || _ = session(number));
        }
    });
}

/// Leaves letters of these kinds in the maildrop of this world, several at once, whether its MTA runs or not. What ends
/// with 0 is acknowledged.
pub fn leave(world: &World, wave: usize, kinds: &[Kind], letters: &Mutex<Vec<Letter>>) {
    let leave = |user: usize| {
        for turn in 0..kinds.len() {
            let letter = Letter {
                token: format!("w{wave}u{user}n{turn}"),
                kind: kinds[(user + turn) % kinds.len()],
                acknowledged: false,
                spoiled: None,
                removed: false,
            };
            let place = enter(letters, &letter);
            let words = letter.words();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let status = world.leave(&words, &letter.content());
            lock(letters)[place].acknowledged = status == Some(0);
        }
    };
    let leave = &leave;
    thread::scope(|scope| (0..SESSIONS).for_each(|user| _ = scope.spawn(move || leave(user))));
}

/// Sends one letter from a client that takes its time: before each of its [`PIECES`] there is this pause.
pub fn dribble(address: SocketAddr, token: &str, pause: Duration, letters: &Mutex<Vec<Letter>>) {
    let letter = Letter {
        token: token.to_owned(),
        kind: Kind::Several,
        acknowledged: false,
        spoiled: None,
        removed: false,
    };
    let place = enter(letters, &letter);
    let sent = Client::try_greet(address).and_then(|mut client| letter.dribble(&mut client, pause));
    // Who was cut off has heard nothing of it.
    lock(letters)[place].acknowledged = sent.is_ok();
}
