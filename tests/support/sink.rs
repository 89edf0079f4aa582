//! A next hop for tests: takes mail over SMTP on a loopback address, remembers it all, misbehaves to order.
//!
//! Never sleeps: a test waits for what it wants to see with [`Sink::wait_for`]. Strict about the end of
//! content, lenient about everything else.

#![allow(dead_code)] // each test uses what it needs
#![allow(clippy::unwrap_used)] // a sink that cannot work is a failed test

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Where a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the connection is accepted: a hang leaves it, and all others, in the kernel's backlog.
    Connect,
    /// Accepted, nothing said yet.
    Greeting,
    /// EHLO was read.
    Ehlo,
    /// HELO was read.
    Helo,
    /// MAIL was read.
    Mail,
    /// RCPT was read.
    Rcpt,
    /// DATA was read.
    Data,
    /// 354 was said, no content read yet. To hang and to drop only.
    Content,
    /// All of the content and its dot were read.
    Dot,
    /// RSET was read.
    Rset,
    /// QUIT was read.
    Quit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Say(String),
    Hang,
    Drop,
}

/// A misbehaviour: what to do at a stage, always unless it is narrowed. The first rule that fits counts.
#[derive(Clone, Debug)]
pub struct Rule {
    stage: Stage,
    act: Act,
    times: usize,
    recipient: Option<String>,
}

impl Rule {
    fn new(stage: Stage, act: Act) -> Rule {
        Rule {
            stage,
            act,
            times: usize::MAX,
            recipient: None,
        }
    }

    /// Says `reply` (without the last CRLF; it may have several lines, even several replies). What it grants
    /// or refuses goes by its first digit; after a 421 the sink closes.
    pub fn say(stage: Stage, reply: &str) -> Rule {
        Rule::new(stage, Act::Say(reply.to_string()))
    }

    /// Says nothing until [`Sink::release`], then goes on as if there were no such rule.
    pub fn hang(stage: Stage) -> Rule {
        Rule::new(stage, Act::Hang)
    }

    /// Closes the connection instead of an answer. What was answered before is still sent.
    pub fn drop(stage: Stage) -> Rule {
        Rule::new(stage, Act::Drop)
    }

    /// Only the next `times` times.
    pub fn times(self, times: usize) -> Rule {
        Rule { times, ..self }
    }

    /// Only for this recipient, as it stands between the angle brackets. For [`Stage::Rcpt`].
    pub fn only_for(self, recipient: &str) -> Rule {
        Rule {
            recipient: Some(recipient.to_string()),
            ..self
        }
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
    /// What was said to the dot; `None`: not yet, or never.
    pub reply: Option<String>,
}

impl Message {
    /// Whether the sink took responsibility.
    pub fn is_accepted(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.starts_with('2'))
    }
}

/// What the sink has seen.
#[derive(Debug, Default)]
pub struct State {
    /// Every connection, also those that are over.
    pub sessions: Vec<Session>,
    /// Every content that came up to its dot, in the order of these dots.
    pub messages: Vec<Message>,
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
}

#[derive(Default)]
struct Inner {
    state: State,
    rules: Vec<Rule>,
    offers: Vec<String>,
    /// Grows with each release, so that those who hang know.
    releases: u64,
    stopping: bool,
    sockets: HashMap<usize, TcpStream>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that failed in `wait_for` holds nothing half done.
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    /// What the rules want here; uses up a rule that is for some times only.
    fn act(&self, stage: Stage, recipient: &str) -> Option<Act> {
        let inner = &mut *self.lock();
        let fits =
            |rule: &Rule| rule.stage == stage && rule.recipient.as_ref().is_none_or(|only| only == recipient);
        let place = inner.rules.iter().position(fits)?;
        let rule = inner.rules.get_mut(place)?;
        let act = rule.act.clone();
        rule.times -= 1;
        if rule.times == 0 {
            inner.rules.remove(place);
        }
        Some(act)
    }

    /// Waits for a release; false when the sink stops instead.
    fn hang(&self, session: Option<usize>, stage: Stage) -> bool {
        let show = |inner: &mut Inner, at| {
            if let Some(session) = session.and_then(|number| inner.state.sessions.get_mut(number)) {
                session.hangs_at = at;
            }
        };
        let before = self.change(|inner| {
            show(inner, Some(stage));
            inner.releases
        });
        let mut inner = self
            .changed
            .wait_while(self.lock(), |inner| !inner.stopping && inner.releases == before)
            .unwrap();
        show(&mut inner, None);
        !inner.stopping
    }
}

/// The sink: listens from its start to its drop, which closes every connection and joins every thread.
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
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
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let for_acceptor = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name(format!("sink:{}", address.port()))
            .spawn(move || accept(&listener, &for_acceptor))
            .unwrap();
        let sink = Sink {
            address,
            shared,
            acceptor: Some(acceptor),
        };
        sink.offer(&["PIPELINING", "SIZE 0", "8BITMIME", "ENHANCEDSTATUSCODES"]);
        Ok(sink)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the answer to the next EHLO offers. To refuse EHLO: `sink.on(Stage::Ehlo, "502 no")`.
    pub fn offer(&self, keywords: &[&str]) {
        self.shared.lock().offers = keywords.iter().map(|keyword| (*keyword).to_string()).collect();
    }

    /// Adds a rule, behind those that there are.
    pub fn obey(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
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
        self.shared.change(|inner| {
            inner.rules.retain(|rule| rule.act != Act::Hang);
            inner.releases += 1;
        });
    }

    /// Forgets all rules, and lets everything go on that hangs.
    pub fn behave(&self) {
        self.shared.lock().rules.clear();
        self.release();
    }

    /// Looks at what has been seen so far.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.lock().state)
    }

    /// Waits until `is_so`.
    ///
    /// # Panics
    /// When it is not so `within` this time; shows what was seen instead.
    #[track_caller]
    pub fn wait_for(&self, is_so: impl Fn(&State) -> bool, within: Duration) {
        let until = Instant::now() + within;
        let mut inner = self.shared.lock();
        while !is_so(&inner.state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen = summary(&inner.state);
                drop(inner);
                panic!("the sink waited {within:?} in vain; it has seen:\n{seen}");
            }
            inner = self.shared.changed.wait_timeout(inner, left).unwrap().0;
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.change(|inner| {
            inner.stopping = true;
            for socket in inner.sockets.values() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// What a failed test shows.
fn summary(state: &State) -> String {
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

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        let act = shared.act(Stage::Connect, "");
        if act == Some(Act::Hang) {
            shared.hang(None, Stage::Connect);
        }
        if shared.lock().stopping {
            break;
        }
        if act == Some(Act::Drop) {
            continue;
        }
        let number = shared.change(|inner| {
            let number = inner.state.sessions.len();
            inner.state.sessions.push(Session {
                number,
                ..Session::default()
            });
            inner.sockets.insert(number, stream.try_clone().unwrap());
            number
        });
        let of_thread = Arc::clone(shared);
        threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
        threads.push(thread::spawn(move || {
            // An error is the client's end of the connection, or our own stop.
            let _ = Connection::new(stream, &of_thread, number).and_then(|mut connection| connection.serve());
            of_thread.change(|inner| {
                inner.sockets.remove(&number);
                inner.state.sessions[number].ended = true;
            });
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

#[derive(Default)]
struct Transaction {
    reverse_path: String,
    parameters: String,
    recipients: Vec<String>,
}

struct Connection<'a> {
    shared: &'a Shared,
    number: usize,
    reader: BufReader<TcpStream>,
    writer: BufWriter<TcpStream>,
}

/// The connection is over, by a rule.
fn over() -> io::Error {
    io::Error::other("over")
}

impl Connection<'_> {
    fn new(stream: TcpStream, shared: &Shared, number: usize) -> io::Result<Connection<'_>> {
        stream.set_nodelay(true)?;
        let reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
        Ok(Connection {
            shared,
            number,
            reader,
            writer: BufWriter::new(stream),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        if !self.answer(Stage::Greeting, "", "220 sink.test ESMTP")? {
            return self.writer.flush();
        }
        let mut transaction: Option<Transaction> = None;
        loop {
            let line = String::from_utf8_lossy(&self.line()?).trim_end().to_string();
            self.shared
                .change(|inner| inner.state.sessions[self.number].commands.push(line.clone()));
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            match (verb.to_ascii_uppercase().as_str(), &mut transaction) {
                ("EHLO", _) => {
                    let offers = self.shared.lock().offers.clone();
                    let mut reply = String::from("250-sink.test\r\n");
                    offers
                        .iter()
                        .for_each(|offer| reply += &format!("250-{offer}\r\n"));
                    self.answer(Stage::Ehlo, "", &(reply + "250 NOOP"))?;
                    transaction = None;
                }
                ("HELO", _) => {
                    self.answer(Stage::Helo, "", "250 sink.test")?;
                    transaction = None;
                }
                ("MAIL", None) => {
                    let (path, parameters) = path(argument);
                    if self.answer(Stage::Mail, "", "250 2.1.0 OK")? {
                        transaction = Some(Transaction {
                            reverse_path: path,
                            parameters,
                            recipients: Vec::new(),
                        });
                    }
                }
                ("RCPT", Some(transaction)) => {
                    let (path, _) = path(argument);
                    if self.answer(Stage::Rcpt, &path, "250 2.1.5 OK")? {
                        transaction.recipients.push(path);
                    }
                }
                ("DATA", open) => {
                    let default = match open {
                        None => "503 5.5.1 MAIL first",
                        Some(open) if open.recipients.is_empty() => "554 5.5.1 No valid recipients",
                        Some(_) => "354 Go ahead",
                    };
                    if self.answer(Stage::Data, "", default)? {
                        self.take_content(transaction.take().unwrap_or_default())?;
                    }
                }
                ("BDAT", Some(_)) => {
                    let (size, last) = argument.split_once(' ').unwrap_or((argument, ""));
                    assert_eq!(last, "LAST", "only whole messages in one chunk are understood");
                    let mut content = vec![0; size.parse().unwrap()];
                    self.reader.read_exact(&mut content)?;
                    self.end_content(transaction.take().unwrap_or_default(), content)?;
                }
                ("RSET", _) => {
                    self.answer(Stage::Rset, "", "250 2.0.0 OK")?;
                    transaction = None;
                }
                ("NOOP", _) => self.say("250 2.0.0 OK")?,
                ("MAIL" | "RCPT", _) => self.say("503 5.5.1 Bad sequence of commands")?,
                ("QUIT", _) => {
                    self.answer(Stage::Quit, "", "221 2.0.0 Goodbye")?;
                    return self.writer.flush();
                }
                _ => self.say("500 5.5.2 What?")?,
            }
        }
    }

    fn take_content(&mut self, transaction: Transaction) -> io::Result<()> {
        match self.shared.act(Stage::Content, "") {
            Some(Act::Hang) => self.hang(Stage::Content)?,
            Some(Act::Drop) => return self.drop_it(),
            Some(Act::Say(_)) | None => {}
        }
        let mut content = Vec::new();
        let mut at_line_start = true;
        loop {
            let line = self.line()?;
            if at_line_start && line == b".\r\n" {
                break;
            }
            let stuffed = at_line_start && line.starts_with(b".");
            content.extend_from_slice(&line[usize::from(stuffed)..]);
            // A bare LF ends no line: what follows it is neither a dot nor the end.
            at_line_start = line.ends_with(b"\r\n");
        }
        self.end_content(transaction, content)
    }

    fn end_content(&mut self, transaction: Transaction, content: Vec<u8>) -> io::Result<()> {
        let Transaction {
            reverse_path,
            parameters,
            recipients,
        } = transaction;
        let session = self.number;
        let place = self.shared.change(|inner| {
            let messages = &mut inner.state.messages;
            messages.push(Message {
                session,
                reverse_path,
                parameters,
                recipients,
                content,
                reply: None,
            });
            messages.len() - 1
        });
        // Noted before it is said: who has the 250 can rely on finding it here.
        let reply = self.reply(Stage::Dot, "", "250 2.0.0 OK")?;
        self.shared
            .change(|inner| inner.state.messages[place].reply = Some(reply.clone()));
        self.say(&reply)
    }

    /// Says what the rules want, or `default`; whether it was granted.
    fn answer(&mut self, stage: Stage, recipient: &str, default: &str) -> io::Result<bool> {
        let reply = self.reply(stage, recipient, default)?;
        self.say(&reply)?;
        Ok(reply.starts_with(if stage == Stage::Data { '3' } else { '2' }))
    }

    /// What to say, after all hanging.
    fn reply(&mut self, stage: Stage, recipient: &str, default: &str) -> io::Result<String> {
        loop {
            match self.shared.act(stage, recipient) {
                None => return Ok(default.to_string()),
                Some(Act::Say(reply)) => return Ok(reply),
                Some(Act::Hang) => self.hang(stage)?,
                Some(Act::Drop) => {
                    self.drop_it()?;
                    return Err(over());
                }
            }
        }
    }

    fn hang(&mut self, stage: Stage) -> io::Result<()> {
        self.writer.flush()?;
        if self.shared.hang(Some(self.number), stage) {
            Ok(())
        } else {
            Err(over())
        }
    }

    fn drop_it(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().shutdown(Shutdown::Both)?;
        Err(over())
    }

    fn say(&mut self, reply: &str) -> io::Result<()> {
        self.writer.write_all(reply.as_bytes())?;
        self.writer.write_all(b"\r\n")?;
        if reply.starts_with("421") {
            self.drop_it()
        } else {
            Ok(())
        }
    }

    /// The next line, with its end. All that is due is said before the client is waited for.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if !self.reader.buffer().contains(&b'\n') {
            if !self.writer.buffer().is_empty() {
                self.shared
                    .change(|inner| inner.state.sessions[self.number].turns += 1);
            }
            self.writer.flush()?;
        }
        match self.reader.read_until(b'\n', &mut line)? {
            0 => Err(over()),
            _ => Ok(line),
        }
    }
}

/// `FROM:<path> parameters`.
fn path(argument: &str) -> (String, String) {
    let inside = argument.split_once('<').map_or(argument, |(_, rest)| rest);
    let (path, parameters) = inside.rsplit_once('>').unwrap_or((inside, ""));
    (path.to_string(), parameters.trim().to_string())
}
