//! The dialogue of a session handler with its client, from greeting to goodbye (RFC 5321 3 and 4).
//!
//! Each state owns what is known in it, and every move consumes the session. Never touches a socket, a
//! clock or the queue: it is told what happened, and answers with the steps that the handler does.

use std::net::IpAddr;
use std::sync::Arc;

use crate::accounts::{Accounts, Login};
use crate::inbound::front::Front;
use crate::inbound::received::ReceivedFacts;
use crate::inbound::recipients::{Decision, RecipientPolicy};
use crate::inbound::replies;
use crate::inbound::step::{ContentEnd, Input, Step, Steps, StoreRefusal};
use crate::sasl::Exchange;
use crate::smtp::command::{self, Command, CommandError, MailParameters, RcptParameters, Stage, Verb};
use crate::smtp::line::{LineFault, MAX_COMMAND_LINE};
use crate::smtp::path::{ForwardPath, PathError, ReversePath};
use crate::smtp::reply::Reply;
use crate::tls::handshake::TlsFacts;
use crate::work_queue::id::MessageId;
use patience::{Patience, Verdict};
use transaction::{Chunks, Transaction};

mod authentication;
mod patience;
mod transaction;

/// What all sessions have in common, until a refresh.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// `--hostname`.
    pub hostname: String,
    /// `--max-message-size`, octets.
    pub max_message_size: u64,
    /// `--max-recipients`.
    pub max_recipients: usize,
    /// `--max-hops`.
    pub max_hops: usize,
    /// Who is here.
    pub policy: RecipientPolicy,
    /// `--accounts`: who may log in.
    pub accounts: Option<Arc<Accounts>>,
    /// `--tls-cert` and `--tls-key` are there: STARTTLS is offered.
    pub offers_tls: bool,
    /// `--any-sender`: who has logged in may send from any address.
    pub any_sender: bool,
}

/// Who has called, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Our own address in this connection.
    pub called: IpAddr,
    /// The listener.
    pub front: Front,
    /// Whether it may send to any domain without a login (`--relay-from`).
    pub may_relay: bool,
}

/// One dialogue.
#[derive(Debug)]
pub struct Session {
    settings: Arc<SessionSettings>,
    client: Client,
    tls: Option<TlsFacts>,
    /// Random octets for this connection, and how many exchanges have used them.
    entropy: ([u8; 32], u32),
    login: Option<Arc<Login>>,
    patience: Patience,
    /// A message has been stored.
    is_proven: bool,
    state: State,
}

/// What a client has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Nothing: it may never say anything.
    Nothing,
    /// It has logged in, or has begun a message.
    Promise,
    /// A message has been stored.
    Proven,
}

/// How far the dialogue has come, with all that is known by then.
#[derive(Debug)]
enum State {
    /// No HELO or EHLO yet, or none since TLS began.
    Greeted,
    /// The client may shake hands now.
    StartingTls,
    /// Waiting for MAIL.
    Ready(Hello),
    /// AUTH was given, and the client is to answer a challenge.
    Authenticating(Hello, Box<Exchange>),
    /// A password is being looked at.
    CheckingPassword(Hello),
    /// MAIL was given, with RCPT or without, or a chunk and not the last.
    Transaction(Box<Transaction>),
    /// DATA or BDAT was given and content is on its way; whether all of it is.
    Content(Box<Transaction>, Part),
    /// A chunk that is nobody's is on its way; what comes after it, and whether the client should have known.
    Skipping(Box<State>, Reply, Blame),
    /// The commit is on its way.
    Storing(Hello),
    /// Nothing is said any more.
    Closed,
}

/// Whether an answer that refuses is the client's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    Counts,
    /// It could not know: an earlier part was refused after this one had been sent.
    None,
}

/// Which part of its content a message is getting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Up to the line with only a dot, or up to the end of the last chunk: the rest.
    Last,
    /// A chunk, after which another one comes.
    Chunk,
}

/// What the client said of itself.
#[derive(Debug)]
struct Hello {
    name: String,
    /// EHLO, not HELO.
    extended: bool,
}

/// A move: the state after it, and what to do.
type Move = (State, Steps);

impl Session {
    /// A session with a client that has just called.
    #[must_use]
    pub fn new(settings: Arc<SessionSettings>, client: Client) -> Session {
        Session {
            settings,
            client,
            tls: None,
            entropy: ([0; 32], 0),
            login: None,
            patience: Patience::default(),
            is_proven: false,
            state: State::Greeted,
        }
    }

    /// Takes what happened, gives the session after it and what to do. An input that does not fit (content
    /// where none was asked for, anything after the end) changes nothing and asks for nothing.
    #[must_use]
    pub fn advance(mut self, input: Input<'_>) -> (Session, Steps) {
        // The codes are the client's to have from the reply after its EHLO on; that reply has none.
        let has_codes = self.hello().is_some_and(|hello| hello.extended);
        let state = std::mem::replace(&mut self.state, State::Closed);
        let (state, steps) = self.next(state, input);
        self.state = state;
        let steps = if has_codes {
            steps
        } else {
            steps.map_replies(|reply| Reply {
                enhanced: None,
                ..reply
            })
        };
        (self, steps)
    }

    fn next(&mut self, state: State, input: Input<'_>) -> Move {
        let hostname = &self.settings.hostname;
        match (state, input) {
            (State::Closed, _) => (State::Closed, Steps::default()),
            (State::Storing(hello), Input::Stored(result)) => self.settle(hello, result),
            // A commit on its way is always waited for: only its result says whose the message is.
            (state @ State::Storing(_), _) => (state, Steps::default()),
            (State::CheckingPassword(hello), Input::Checked(progress)) => self.proceed(hello, progress),
            (state @ State::CheckingPassword(_), _) => (state, Steps::default()),
            (State::StartingTls | State::Greeted, Input::TlsStarted { facts, entropy }) => {
                self.entropy = (entropy, 0);
                self.begin_anew(facts)
            }
            (state, Input::Connected(early)) => match is_harmless(early) {
                true => (state, say(replies::greeting(hostname))),
                false => close(&state, replies::spoke_too_early()),
            },
            (state, Input::Timeout) => close(&state, replies::timed_out(hostname)),
            (state, Input::NotSmtp) => close(&state, replies::not_smtp()),
            (state, Input::Evicted) => close(&state, replies::evicted(hostname)),
            (state, Input::Stopping) => close(&state, replies::stopping(hostname)),
            (State::Content(transaction, part), Input::Content(end)) => self.judge(transaction, part, end),
            (State::Skipping(then, reply, Blame::Counts), Input::Skipped) => self.refuse(*then, reply),
            (State::Skipping(then, reply, Blame::None), Input::Skipped) => (*then, say(reply)),
            (state @ (State::Content(..) | State::Skipping(..) | State::StartingTls), _) => {
                (state, Steps::default())
            }
            (State::Authenticating(hello, exchange), Input::Line { line, .. }) => {
                self.respond(hello, *exchange, line)
            }
            (State::Authenticating(hello, _), Input::BadLine(_)) => {
                self.refuse(State::Ready(hello), replies::bad_exchange_line())
            }
            (state, Input::Line { line, followed }) => self.obey_line(state, line, followed),
            (state, Input::BadLine(fault)) => self.refuse(state, replies::refuse_line(fault)),
            (
                state,
                Input::Content(_)
                | Input::Skipped
                | Input::Stored(_)
                | Input::TlsStarted { .. }
                | Input::Checked(_),
            ) => (state, Steps::default()),
        }
    }

    /// Whether the dialogue is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether what comes next may hold a secret, and must not be in any log.
    #[must_use]
    pub fn hears_secrets(&self) -> bool {
        matches!(self.state, State::Authenticating(..))
    }

    /// What the client has shown so far for which its place should be kept.
    #[must_use]
    pub fn worth(&self) -> Worth {
        match self.state {
            _ if self.is_proven => Worth::Proven,
            State::Greeted | State::Ready(_) | State::Authenticating(..) if self.login.is_none() => {
                Worth::Nothing
            }
            _ => Worth::Promise,
        }
    }

    /// `--max-message-size`: no more octets of content than these need to be kept.
    #[must_use]
    pub fn max_message_size(&self) -> u64 {
        self.settings.max_message_size
    }

    /// Whether the message on its way comes from a user, so that what is missing in its header is added (RFC 6409
    /// 8).
    #[must_use]
    pub fn is_submission(&self) -> bool {
        self.login.is_some()
    }

    /// Whether the chunk on its way is the last one of its message.
    #[must_use]
    pub fn receives_last(&self) -> bool {
        matches!(self.state, State::Content(_, Part::Last))
    }

    /// Whether the content on its way may be any octets (BINARYMIME).
    #[must_use]
    pub fn receives_binary(&self) -> bool {
        matches!(&self.state, State::Content(transaction, _) if transaction.is_binary())
    }

    /// What the Received line of the message on its way tells; `None` outside content. The client's verified
    /// name is the handler's to add.
    #[must_use]
    pub fn received_facts(&self) -> Option<ReceivedFacts<'_>> {
        let State::Content(transaction, _) = &self.state else {
            return None;
        };
        Some(ReceivedFacts {
            helo: &transaction.hello.name,
            client: self.client.address,
            client_name: None,
            hostname: &self.settings.hostname,
            extended: transaction.hello.extended,
            tls: self.tls.as_ref().map(|tls| (tls.version, tls.cipher)),
            authenticated: self.login.is_some(),
            utf8: transaction.utf8(),
            only_recipient: transaction.recipients.only_one(),
        })
    }

    fn hello(&self) -> Option<&Hello> {
        self.state.hello()
    }

    /// TLS has begun: what was said before it is forgotten (RFC 3207 4.2).
    fn begin_anew(&mut self, facts: TlsFacts) -> Move {
        self.tls = Some(facts);
        self.login = None;
        (State::Greeted, Steps::default())
    }

    fn obey_line(&mut self, state: State, line: &[u8], followed: bool) -> Move {
        if is_another_protocol(line) {
            return close(&state, replies::not_smtp());
        }
        let (verb, arguments) = match command::find(line) {
            Ok(found) => found,
            Err(error) => return self.refuse(state, replies::refuse_command(error, None)),
        };
        if line.len() + "\r\n".len() > MAX_COMMAND_LINE && verb.name != "AUTH" {
            return self.refuse(state, replies::refuse_line(LineFault::TooLong));
        }
        let stage = state.stage();
        if !verb.stages.contains(&stage) {
            return self.refuse(state, replies::out_of_sequence(verb, stage));
        }
        match verb.parse(arguments) {
            Ok(command) => self.obey(state, verb, command, followed),
            // What should be content would be taken for commands.
            Err(error) if verb.name == "BDAT" => close(&state, replies::refuse_command(error, Some(verb))),
            Err(error) => self.refuse(state, replies::refuse_command(error, Some(verb))),
        }
    }

    /// Does what a command asks for; whether it may be given here, the table of verbs has said.
    fn obey(&mut self, state: State, verb: &Verb, command: Command, followed: bool) -> Move {
        match (command, state) {
            (Command::Helo(name), state) => {
                let hello = Hello {
                    name,
                    extended: false,
                };
                self.greet(state, hello, replies::helo(&self.settings.hostname))
            }
            (Command::Ehlo(name), state) => {
                let hello = Hello { name, extended: true };
                let reply = replies::ehlo(&self.settings.hostname, &self.offers());
                self.greet(state, hello, reply)
            }
            (Command::StartTls, State::Ready(hello)) => self.start_tls(hello),
            (Command::Auth { mechanism, initial }, State::Ready(hello)) => {
                self.authenticate(hello, &mechanism, initial.as_deref())
            }
            (Command::Mail { from, parameters }, State::Ready(hello)) => self.begin(hello, from, parameters),
            (Command::Rcpt { to, parameters }, State::Transaction(transaction)) => {
                self.add(transaction, to, parameters)
            }
            (Command::Data, State::Transaction(transaction)) if transaction.stage() == Stage::Recipients => {
                self.receive(transaction, followed)
            }
            (Command::Bdat { size, last }, state) => self.receive_chunk(state, size, last),
            (Command::Rset, state) => {
                let discard = state.has_chunks();
                let state = state.without_transaction();
                let (state, steps) = self.chat(state, replies::ok());
                (state, if discard { discarding(steps) } else { steps })
            }
            (Command::Noop, state) => self.chat(state, replies::ok()),
            (Command::Vrfy, state) => self.chat(state, replies::cannot_verify()),
            (Command::Help, state) => self.chat(state, replies::help(&self.offers())),
            (Command::Quit, state) => close(&state, replies::goodbye()),
            (
                Command::StartTls
                | Command::Auth { .. }
                | Command::Mail { .. }
                | Command::Rcpt { .. }
                | Command::Data,
                state,
            ) => {
                let reply = replies::out_of_sequence(verb, state.stage());
                self.refuse(state, reply)
            }
        }
    }

    /// HELO or EHLO: whatever transaction there was is over.
    fn greet(&mut self, state: State, hello: Hello, reply: Reply) -> Move {
        let discard = state.has_chunks();
        let (state, steps) = self.chat(State::Ready(hello), reply);
        (state, if discard { discarding(steps) } else { steps })
    }

    /// STARTTLS: the answer to it is the last one in clear.
    fn start_tls(&mut self, hello: Hello) -> Move {
        let refusal = if !self.settings.offers_tls {
            replies::not_implemented()
        } else if self.tls.is_some() {
            replies::tls_already()
        } else {
            let steps = Steps::from([Step::Reply(replies::start_tls()), Step::StartTls]);
            return (State::StartingTls, steps);
        };
        self.refuse(State::Ready(hello), refusal)
    }

    /// MAIL: a transaction, unless the client may not, or itself says that its message will not fit.
    fn begin(&mut self, hello: Hello, reverse_path: ReversePath, parameters: MailParameters) -> Move {
        let limit = self.settings.max_message_size;
        let refusal = if self.client.front.demands_login() && self.tls.is_none() {
            replies::tls_first()
        } else if self.client.front.demands_login() && self.login.is_none() {
            replies::login_first()
        } else if !self.may_send_as(&reverse_path) {
            replies::not_your_address()
        } else if parameters.auth && self.settings.accounts.is_none() {
            replies::refuse_command(CommandError::UnknownParameter, None)
        } else if parameters.size.is_some_and(|size| size > limit) {
            replies::too_big(limit)
        } else {
            let transaction = Transaction::new(hello, reverse_path, parameters);
            return (
                State::Transaction(Box::new(transaction)),
                say(replies::sender_ok()),
            );
        };
        self.refuse(State::Ready(hello), refusal)
    }

    /// Who has logged in sends from its own addresses. The null path is nobody's: reports of a user's programs
    /// come from it.
    fn may_send_as(&self, reverse_path: &ReversePath) -> bool {
        match (&self.login, &reverse_path.0) {
            (Some(login), Some(sender)) if !self.settings.any_sender => {
                self.settings.policy.is_address_of(sender, &login.address)
            }
            _ => true,
        }
    }

    /// RCPT: one more recipient, if we take mail for it and there is room.
    fn add(&mut self, mut transaction: Box<Transaction>, to: ForwardPath, said: RcptParameters) -> Move {
        if said.utf8 && !transaction.utf8() {
            let error = CommandError::Recipient(PathError::NotAscii);
            return self.refuse(
                State::Transaction(transaction),
                replies::refuse_command(error, None),
            );
        }
        let may_relay = self.client.may_relay || self.login.is_some();
        let limit = self.settings.max_recipients;
        let refusal = match self.settings.policy.decide(to, self.client.called, may_relay) {
            Decision::Accept { mailbox, is_local } => {
                let reply = match transaction.add(mailbox, is_local, said, limit) {
                    Ok(()) => replies::recipient_ok(),
                    Err(_) => replies::too_many_recipients(),
                };
                return (State::Transaction(transaction), say(reply));
            }
            Decision::RelayingDenied => replies::relaying_denied(),
            Decision::NoSuchUser => replies::no_such_user(),
        };
        self.refuse(State::Transaction(transaction), refusal)
    }

    /// DATA. It has to be the last of its group (RFC 2920 3.1): what came with it was sent by somebody who did not
    /// care what we say to it, or whom somebody else makes say it.
    fn receive(&mut self, transaction: Box<Transaction>, followed: bool) -> Move {
        if transaction.is_binary() {
            return self.refuse(State::Transaction(transaction), replies::binary_by_bdat());
        }
        if followed {
            return close(&State::Transaction(transaction), replies::out_of_step());
        }
        (
            State::Content(transaction, Part::Last),
            Steps::from([Step::Reply(replies::start_content()), Step::ReceiveContent]),
        )
    }

    /// BDAT: its octets come in any case, wanted or not (RFC 3030 2).
    fn receive_chunk(&mut self, state: State, size: u64, last: bool) -> Move {
        match state {
            State::Transaction(mut transaction) if transaction.can_have_content() => {
                transaction.chunks = Chunks::Some;
                let part = if last { Part::Last } else { Part::Chunk };
                (
                    State::Content(transaction, part),
                    Steps::from([Step::ReceiveChunk(size)]),
                )
            }
            state => {
                let (reply, blame) = match &state {
                    State::Transaction(transaction) => match &transaction.chunks {
                        Chunks::Failed(refusal) => (refusal.clone(), Blame::None),
                        _ => (replies::chunk_out_of_sequence(state.stage()), Blame::Counts),
                    },
                    _ => (replies::chunk_out_of_sequence(state.stage()), Blame::Counts),
                };
                let then = if last { state.without_transaction() } else { state };
                (
                    State::Skipping(Box::new(then), reply, blame),
                    Steps::from([Step::Skip(size)]),
                )
            }
        }
    }

    /// The last octet of a message or a chunk has come: either it can be stored or goes on, or its transaction is
    /// over.
    fn judge(&mut self, mut transaction: Box<Transaction>, part: Part, end: ContentEnd) -> Move {
        match (transaction.judge(&self.settings, end), part) {
            (Ok(()), Part::Chunk) => (State::Transaction(transaction), say(replies::chunk_ok(end.size))),
            (Ok(()), Part::Last) => {
                let (hello, envelope) = transaction.into_envelope(self.login.clone());
                (
                    State::Storing(hello),
                    Steps::from([Step::Store(Box::new(envelope))]),
                )
            }
            (Err(refusal), Part::Chunk) => {
                transaction.chunks = Chunks::Failed(refusal.clone());
                match self.refuse(State::Transaction(transaction), refusal) {
                    // Which forgets the content by itself.
                    (State::Closed, steps) => (State::Closed, steps),
                    (state, steps) => (state, discarding(steps)),
                }
            }
            (Err(refusal), Part::Last) => {
                let (state, steps) = self.refuse(State::Ready(transaction.hello), refusal);
                (state, discarding(steps))
            }
        }
    }

    /// The commit has returned: its own result is what the client hears.
    fn settle(&mut self, hello: Hello, result: Result<MessageId, StoreRefusal>) -> Move {
        let steps = match result {
            Ok(id) => {
                self.patience.renew();
                self.is_proven = true;
                say(replies::stored(hello.extended.then_some(id)))
            }
            Err(refusal) => discarding(say(replies::not_stored(refusal))),
        };
        (State::Ready(hello), steps)
    }

    /// A command that is good and brings no message any further: one too many is the last.
    fn chat(&mut self, state: State, reply: Reply) -> Move {
        let verdict = self.patience.junk();
        self.answer(state, reply, verdict)
    }

    /// A bad command: said so, counted, and one too many is the last.
    fn refuse(&mut self, state: State, reply: Reply) -> Move {
        let verdict = self.patience.bad();
        self.answer(state, reply, verdict)
    }

    fn answer(&mut self, state: State, reply: Reply, verdict: Verdict) -> Move {
        match verdict {
            Verdict::Answer(pause) if pause.is_zero() => (state, say(reply)),
            Verdict::Answer(pause) => (state, say(reply).behind(Step::Pause(pause))),
            Verdict::Close => close(&state, replies::too_many_bad_commands(&self.settings.hostname)),
        }
    }

    /// What EHLO names, in the state that the session is in.
    fn offers(&self) -> replies::Offers {
        replies::Offers {
            max_message_size: self.settings.max_message_size,
            max_recipients: self.settings.max_recipients,
            starttls: self.settings.offers_tls && self.tls.is_none(),
            mechanisms: self.mechanisms(),
        }
    }
}

impl State {
    fn stage(&self) -> Stage {
        match self {
            State::Transaction(transaction) | State::Content(transaction, _) => transaction.stage(),
            State::Ready(_) | State::Storing(_) | State::Authenticating(..) | State::CheckingPassword(_) => {
                Stage::Ready
            }
            State::Skipping(then, ..) => then.stage(),
            State::Greeted | State::StartingTls | State::Closed => Stage::Greeted,
        }
    }

    fn hello(&self) -> Option<&Hello> {
        match self {
            State::Ready(hello)
            | State::Storing(hello)
            | State::Authenticating(hello, _)
            | State::CheckingPassword(hello) => Some(hello),
            State::Transaction(transaction) | State::Content(transaction, _) => Some(&transaction.hello),
            State::Skipping(then, ..) => then.hello(),
            State::Greeted | State::StartingTls | State::Closed => None,
        }
    }

    /// Whether content has come that no message has yet.
    fn has_chunks(&self) -> bool {
        matches!(self, State::Transaction(transaction) if transaction.chunks != Chunks::None)
    }

    fn without_transaction(self) -> State {
        match self {
            State::Transaction(transaction) => State::Ready(transaction.hello),
            other => other,
        }
    }
}

fn say(reply: Reply) -> Steps {
    Steps::from([Step::Reply(reply)])
}

/// Forget the content first.
fn discarding(steps: Steps) -> Steps {
    steps.behind(Step::Discard)
}

/// The last words; content that was on its way is forgotten.
fn close(state: &State, reply: Reply) -> Move {
    let steps = Steps::from([Step::Reply(reply), Step::Close]);
    let has_content = matches!(state, State::Content(..)) || state.has_chunks();
    (State::Closed, if has_content { discarding(steps) } else { steps })
}

/// What browsers say, and who is made to talk to us by a web page (RFC 9110 9.1): to answer each line of it would be
/// to obey one of them in the end.
fn is_another_protocol(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] = [
        b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI",
    ];
    let word = line.split(|octet| *octet == b' ').next().unwrap_or_default();
    METHODS.iter().any(|method| method.eq_ignore_ascii_case(word))
}

/// Whether what came before our greeting does no harm: nothing, or a single command that begins no message. A client
/// that says more has not heard us, and would not hear a refusal either.
fn is_harmless(early: &[u8]) -> bool {
    const VERBS: [&[u8]; 4] = [b"HELO", b"EHLO", b"NOOP", b"QUIT"];
    let Some(line) = early.strip_suffix(b"\r\n") else {
        return early.is_empty();
    };
    let word = line.split(|octet| *octet == b' ').next().unwrap_or_default();
    !line.contains(&b'\n') && VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests;
