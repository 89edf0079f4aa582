//! A next hop for tests: `smtpmta sink` inside the process, which remembers it all, and misbehaves to order.
//!
//! Never sleeps: a test waits for what it wants to see with [`Sink::wait_for`].

#![allow(dead_code)] // each test uses what it needs
#![allow(clippy::unwrap_used)] // a sink that cannot work is a failed test

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smtpmta::clock::{Clock, Stamp};
use smtpmta::sink::envelope::Envelope;
use smtpmta::sink::fault::{Deed, Fault, Times};
use smtpmta::sink::server::{self, StartError};
use smtpmta::sink::settings::Settings;
pub use smtpmta::sink::stage::Stage;
use smtpmta::sink::witness::{Event, Witness};
use smtpmta::tls::handshake::TlsFacts;

/// A misbehaviour: what to do at a stage, always unless it is narrowed. The first rule that fits counts.
#[derive(Clone, Debug)]
pub struct Rule(Fault);

impl Rule {
    /// Says `reply` (without the last CRLF; it may have several lines, even several replies). What it grants
    /// or refuses goes by its first digit; after a 421 the sink closes.
    pub fn say(stage: Stage, reply: &str) -> Rule {
        Rule(Fault::new(stage, Deed::Say(format!("{reply}\r\n").into_bytes())))
    }

    /// Says nothing until [`Sink::release`], then goes on as if there were no such rule.
    pub fn hang(stage: Stage) -> Rule {
        Rule(Fault::new(stage, Deed::Stall))
    }

    /// Closes the connection instead of an answer. What was answered before is still sent.
    pub fn drop(stage: Stage) -> Rule {
        Rule(Fault::new(stage, Deed::Drop))
    }

    /// Only the first `times` times.
    pub fn times(self, times: u64) -> Rule {
        let times = Times { from: 1, to: times };
        Rule(Fault { times, ..self.0 })
    }

    /// Only for this recipient, as it stands between the angle brackets. For [`Stage::Rcpt`].
    pub fn only_for(self, recipient: &str) -> Rule {
        let only = Some(recipient.to_string());
        Rule(Fault { only, ..self.0 })
    }
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// In the order of acceptance, from 0: its place in [`State::sessions`].
    pub number: usize,
    /// Every command line, as it came, without its CRLF.
    pub commands: Vec<String>,
    /// How often the sink had said all that was due and waited for the client: at least the round trips, more
    /// only where the network cut a write into pieces.
    pub turns: usize,
    /// Where it hangs just now.
    pub hangs_at: Option<Stage>,
    /// What TLS agreed upon, where it was spoken.
    pub tls: Option<TlsFacts>,
    /// It is over.
    pub ended: bool,
}

/// One content that came up to its final dot.
#[derive(Clone, Debug)]
pub struct Message {
    /// Of which session.
    pub session: usize,
    /// Without angle brackets; empty for the null path.
    pub reverse_path: String,
    /// What followed the reverse path: `SIZE=812 BODY=8BITMIME`.
    pub parameters: String,
    /// The recipients that were granted, without angle brackets.
    pub recipients: Vec<String>,
    /// Without the dots that were stuffed, and without the final one.
    pub content: Vec<u8>,
    /// When it was about to come.
    pub begun: Stamp,
    /// When its end had come.
    pub arrived: Stamp,
    /// When that was answered.
    pub answered: Option<Stamp>,
    /// In LMTP: those whose mailboxes have it.
    pub delivered: Vec<String>,
    /// What was said to the dot; `None`: not yet, or never.
    pub reply: Option<String>,
    /// How many octets the file had just before that was said, of which [`Sink::measure`] knows.
    pub measured: u64,
    /// That was a 2xx.
    accepted: bool,
}

impl Message {
    /// Whether the sink took responsibility.
    pub fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// For whom: in LMTP those whose mailboxes have it, also where it broke off between two answers.
    pub fn taken_for(&self) -> &[String] {
        match self.accepted && self.delivered.is_empty() {
            true => &self.recipients,
            false => &self.delivered,
        }
    }
}

/// What the sink has seen.
#[derive(Debug, Default)]
pub struct State {
    /// Every connection, also those that are over.
    pub sessions: Vec<Session>,
    /// Every content that came up to its dot, in the order of these dots.
    pub messages: Vec<Message>,
    /// What is on its way in: since when, the envelope, and the content so far.
    incoming: HashMap<usize, (Stamp, Envelope, Vec<u8>)>,
    /// The message of each session that was not answered yet.
    unanswered: HashMap<usize, usize>,
    /// The file whose length is noted with each answer to a message.
    file: Option<PathBuf>,
}

impl State {
    /// The messages that were answered with a 2xx.
    pub fn accepted(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| message.is_accepted())
    }

    /// The sessions that are not over.
    pub fn live(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| !session.ended)
    }

    /// Whether some session hangs at `stage`.
    pub fn hangs_at(&self, stage: Stage) -> bool {
        self.live().any(|session| session.hangs_at == Some(stage))
    }

    fn note(&mut self, number: usize, event: &Event<'_>) {
        if let Event::Opened(_) = event {
            // The acceptor tells of them in their order.
            self.sessions.push(Session {
                number,
                ..Session::default()
            });
        }
        // Who hangs before it is accepted is no session yet.
        let Some(session) = self.sessions.get_mut(number) else {
            return;
        };
        match event {
            Event::Heard(line) => session.commands.push(String::from_utf8_lossy(line).into_owned()),
            Event::Waits => session.turns += 1,
            Event::Stalls(stage) => session.hangs_at = Some(*stage),
            Event::GoesOn => session.hangs_at = None,
            Event::Encrypted(facts) => session.tls = Some((*facts).clone()),
            Event::Ended => session.ended = true,
            Event::Begins(envelope) => {
                let incoming = (Clock::System.now(), (*envelope).clone(), Vec::new());
                self.incoming.insert(number, incoming);
            }
            Event::Piece(piece) => {
                if let Some((_, _, content)) = self.incoming.get_mut(&number) {
                    content.extend_from_slice(piece);
                }
            }
            Event::Arrived => {
                if let Some((begun, envelope, content)) = self.incoming.remove(&number) {
                    self.unanswered.insert(number, self.messages.len());
                    self.messages.push(Message {
                        session: number,
                        reverse_path: envelope.reverse_path,
                        parameters: envelope.parameters,
                        recipients: envelope.recipients.into_iter().map(|to| to.path).collect(),
                        content,
                        begun,
                        arrived: Clock::System.now(),
                        answered: None,
                        delivered: Vec::new(),
                        reply: None,
                        measured: 0,
                        accepted: false,
                    });
                }
            }
            Event::Delivers { recipient, accepted } => {
                let place = self.unanswered.get(&number);
                if let Some(message) = place
                    .and_then(|place| self.messages.get_mut(*place))
                    .filter(|_| *accepted)
                {
                    message.delivered.push((*recipient).to_owned());
                }
            }
            Event::Settles { reply, accepted } => {
                let measured = self.file.as_ref().and_then(|file| fs::metadata(file).ok());
                let place = self.unanswered.remove(&number);
                if let Some(message) = place.and_then(|place| self.messages.get_mut(place)) {
                    message.reply = Some(String::from_utf8_lossy(reply).trim_end().to_owned());
                    message.answered = Some(Clock::System.now());
                    message.measured = measured.map_or(0, |file| file.len());
                    message.accepted = *accepted;
                }
            }
            Event::Opened(_) | Event::NotEncrypted(_) | Event::Says(_) | Event::Misbehaves(_) => {}
        }
    }
}

#[derive(Default)]
struct Memory {
    state: Mutex<State>,
    changed: Condvar,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that failed in `wait_for` holds nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Memory {
    fn note(&self, session: usize, event: &Event<'_>) {
        self.lock().note(session, event);
        self.changed.notify_all();
    }
}

/// The sink: listens from its start to its drop, which closes every connection and joins every thread.
pub struct Sink {
    address: SocketAddr,
    memory: Arc<Memory>,
    server: server::Sink,
}

impl Sink {
    /// A sink on a free port of 127.0.0.1 that behaves, and offers PIPELINING, SIZE, 8BITMIME and
    /// ENHANCEDSTATUSCODES.
    pub fn start() -> Sink {
        Sink::listen("127.0.0.1:0")
    }

    /// The same on an address of the test's choice: `127.0.0.2:2526`.
    pub fn listen(address: &str) -> Sink {
        Sink::start_on(address).unwrap()
    }

    /// The same, where the address may be taken.
    ///
    /// # Errors
    /// When it is.
    pub fn start_on(address: &str) -> io::Result<Sink> {
        let few = ["PIPELINING", "SIZE 0", "8BITMIME", "ENHANCEDSTATUSCODES"];
        Sink::with(
            address,
            Settings {
                offers: few.map(str::to_owned).to_vec(),
                max_recipients: 100_000,
                max_sessions: 1000,
                ..Settings::default()
            },
        )
    }

    /// A sink of these settings, but for the address.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn with(address: &str, settings: Settings) -> io::Result<Sink> {
        let settings = Settings {
            listen: vec![address.parse().unwrap()],
            ..settings
        };
        let memory = Arc::new(Memory::default());
        match server::Sink::start(settings, 0, Arc::clone(&memory) as _) {
            Ok(server) => Ok(Sink {
                address: server.addresses()[0],
                memory,
                server,
            }),
            Err(StartError::Listen(_, error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What EHLO offers in sessions from now on. To refuse EHLO: `sink.on(Stage::Ehlo, "502 no")`.
    pub fn offer(&self, keywords: &[&str]) {
        let keywords = keywords.iter().map(|keyword| (*keyword).to_string());
        self.server.offer(keywords.collect());
    }

    /// Adds a rule, behind those that there are.
    pub fn obey(&self, rule: Rule) {
        self.server.order(rule.0);
    }

    /// Its certificate, DER, where it speaks TLS.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        self.server.certificate()
    }

    /// Adds an order in the words of `--fault`.
    pub fn order(&self, order: &str) {
        let fault = order
            .parse()
            .unwrap_or_else(|wrong| panic!("{order}: expected {wrong}"));
        self.server.order(fault);
    }

    /// From now on says `reply` at `stage`.
    pub fn on(&self, stage: Stage, reply: &str) {
        self.obey(Rule::say(stage, reply));
    }

    /// From now on hangs at `stage`, until [`Sink::release`].
    pub fn hang_at(&self, stage: Stage) {
        self.obey(Rule::hang(stage));
    }

    /// From now on closes the connection at `stage`.
    pub fn drop_at(&self, stage: Stage) {
        self.obey(Rule::drop(stage));
    }

    /// Lets everything go on that hangs, and forgets the rules to hang.
    pub fn release(&self) {
        self.server.retain(|fault| fault.deed != Deed::Stall);
        self.server.release();
    }

    /// Forgets all rules, and lets everything go on that hangs.
    pub fn behave(&self) {
        self.server.retain(|_| false);
        self.release();
    }

    /// From now on notes with each answer to a message how long this file is just before.
    pub fn measure(&self, file: &Path) {
        self.memory.lock().file = Some(file.to_owned());
    }

    /// Looks at what has been seen so far.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.memory.lock())
    }

    /// Waits until `is_so`.
    ///
    /// # Panics
    /// When it is not so `within` this time; shows what was seen instead.
    #[track_caller]
    pub fn wait_for(&self, is_so: impl Fn(&State) -> bool, within: Duration) {
        let until = Instant::now() + within;
        let mut state = self.memory.lock();
        while !is_so(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen = summary(&state);
                drop(state);
                panic!("the sink waited {within:?} in vain; it has seen:\n{seen}");
            }
            state = self.memory.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// What a failed test shows.
pub fn summary(state: &State) -> String {
    let mut lines = Vec::new();
    for Session {
        number,
        commands,
        hangs_at,
        ended,
        ..
    } in &state.sessions
    {
        lines.push(format!(
            "session {number}: hangs at {hangs_at:?}, ended: {ended}, {commands:?}"
        ));
    }
    for Message {
        session,
        reverse_path,
        recipients,
        content,
        reply,
        ..
    } in &state.messages
    {
        let size = content.len();
        lines.push(format!(
            "message in {session}: <{reverse_path}> to {recipients:?}, {size} octets: {reply:?}"
        ));
    }
    lines.join("\n")
}
