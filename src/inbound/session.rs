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
use crate::inbound::step::{ContentEnd, Input, Secured, Step, Steps, StoreRefusal};
use crate::sasl::Exchange;
use crate::smtp::command::{self, Command, CommandError, MailParameters, RcptParameters, Stage, Verb};
use crate::smtp::line::{LineFault, MAX_COMMAND_LINE};
use crate::smtp::path::{ForwardPath, PathError, ReversePath};
use crate::smtp::reply::Reply;
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

/// One dialogue. It is small: every move copies it, and of its stack an idle session keeps what a move has touched.
#[derive(Debug)]
pub struct Session {
    known: Box<Known>,
    state: State,
}

/// What is known of a client, whatever state its dialogue is in.
#[derive(Debug)]
struct Known {
    settings: Arc<SessionSettings>,
    client: Client,
    tls: Option<Box<Secured>>,
    /// How many exchanges have used its random octets.
    exchanges: u32,
    login: Option<Arc<Login>>,
    patience: Patience,
    /// A message has been stored.
    is_proven: bool,
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
    /// A chunk that is nobody's is on its way.
    Skipping(Box<Skipped>),
    /// The commit is on its way.
    Storing(Hello),
    /// Nothing is said any more.
    Closed,
}

/// What follows a chunk that is nobody's.
#[derive(Debug)]
struct Skipped {
    then: State,
    reply: Reply,
    blame: Blame,
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
        let known = Known {
            settings,
            client,
            tls: None,
            exchanges: 0,
            login: None,
            patience: Patience::default(),
            is_proven: false,
        };
        Session {
            known: Box::new(known),
            state: State::Greeted,
        }
    }

    /// Takes what happened, gives the session after it and what to do. An input that does not fit (content
    /// where none was asked for, anything after the end) changes nothing and asks for nothing.
    #[must_use]
    pub fn advance(mut self, input: Input<'_>) -> (Session, Steps) {
        // The codes are the client's to have from the reply after its EHLO on; that reply has none.
        let has_codes = self.state.hello().is_some_and(|hello| hello.extended);
        let state = std::mem::replace(&mut self.state, State::Closed);
        let mut answer = self.known.next(state, input);
        self.state = answer.0;
        if !has_codes {
            answer.1.drop_codes();
        }
        (self, answer.1)
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
            _ if self.known.is_proven => Worth::Proven,
            State::Greeted | State::Ready(_) | State::Authenticating(..) if self.known.login.is_none() => {
                Worth::Nothing
            }
            _ => Worth::Promise,
        }
    }

    /// `--max-message-size`: no more octets of content than these need to be kept.
    #[must_use]
    pub fn max_message_size(&self) -> u64 {
        self.known.settings.max_message_size
    }

    /// Whether the message on its way comes from a user, so that what is missing in its header is added (RFC 6409
    /// 8).
    #[must_use]
    pub fn is_submission(&self) -> bool {
        self.known.login.is_some()
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
        let known = &self.known;
        Some(ReceivedFacts {
            helo: &transaction.hello.name,
            client: known.client.address,
            client_name: None,
            hostname: &known.settings.hostname,
            extended: transaction.hello.extended,
            tls: known
                .tls
                .as_ref()
                .map(|tls| (tls.facts.version, tls.facts.cipher)),
            authenticated: known.login.is_some(),
            utf8: transaction.utf8(),
            only_recipient: transaction.recipients.only_one(),
        })
    }
}

impl Known {
    fn next(&mut self, state: State, input: Input<'_>) -> Move {
        match (state, input) {
            (State::Closed, _) => (State::Closed, Steps::default()),
            (State::Storing(hello), Input::Stored(result)) => self.settle(hello, result),
            // A commit on its way is always waited for: only its result says whose the message is.
            (state @ State::Storing(_), _) => (state, Steps::default()),
            (State::CheckingPassword(hello), Input::Checked(progress)) => self.proceed(hello, progress),
            (state @ State::CheckingPassword(_), _) => (state, Steps::default()),
            (State::StartingTls | State::Greeted, Input::TlsStarted(tls)) => self.begin_anew(tls),
            (state, Input::Connected(early)) => self.welcome(state, early),
            (state, Input::Timeout) => self.end(&state, replies::timed_out),
            (state, Input::Evicted) => self.end(&state, replies::evicted),
            (state, Input::Stopping) => self.end(&state, replies::stopping),
            (state, Input::NotSmtp) => self.end(&state, |_| replies::not_smtp()),
            (State::Content(transaction, part), Input::Content(end)) => self.judge(transaction, part, end),
            (State::Skipping(skipped), Input::Skipped) => self.pass_over(skipped),
            (state @ (State::Content(..) | State::Skipping(..) | State::StartingTls), _) => {
                (state, Steps::default())
            }
            (State::Authenticating(hello, exchange), Input::Line { line, .. }) => {
                self.respond(hello, exchange, line)
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
                | Input::TlsStarted(_)
                | Input::Checked(_),
            ) => (state, Steps::default()),
        }
    }

    /// The client has called.
    #[inline(never)]
    fn welcome(&self, state: State, early: &[u8]) -> Move {
        match is_harmless(early) {
            true => (state, say(replies::greeting(&self.settings.hostname))),
            false => close(&state, replies::spoke_too_early()),
        }
    }

    /// The end, whatever the client was about.
    #[inline(never)]
    fn end(&self, state: &State, why: fn(&str) -> Reply) -> Move {
        close(state, why(&self.settings.hostname))
    }

    /// TLS has begun: what was said before it is forgotten (RFC 3207 4.2).
    fn begin_anew(&mut self, tls: Box<Secured>) -> Move {
        self.tls = Some(tls);
        self.exchanges = 0;
        self.login = None;
        (State::Greeted, Steps::default())
    }

    #[inline(never)]
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

    /// Does what a command asks for; whether it may be given here, the table of verbs has said. What the verbs do is
    /// never a part of this frame: the deepest one would be paid for by all.
    fn obey(&mut self, state: State, verb: &Verb, command: Command, followed: bool) -> Move {
        match (command, state) {
            (Command::Helo(name), state) => {
                let hello = Hello {
                    name,
                    extended: false,
                };
                self.greet(state, hello)
            }
            (Command::Ehlo(name), state) => self.greet(state, Hello { name, extended: true }),
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
            (Command::Rset, state) => self.reset(state),
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
    #[inline(never)]
    fn greet(&mut self, state: State, hello: Hello) -> Move {
        let hostname = &self.settings.hostname;
        let reply = match hello.extended {
            true => replies::ehlo(hostname, &self.offers()),
            false => replies::helo(hostname),
        };
        let has_chunks = state.has_chunks();
        let answer = self.chat(State::Ready(hello), reply);
        if has_chunks { discarding(answer) } else { answer }
    }

    /// RSET: the same without a new name.
    #[inline(never)]
    fn reset(&mut self, state: State) -> Move {
        let has_chunks = state.has_chunks();
        let answer = self.chat(state.without_transaction(), replies::ok());
        if has_chunks { discarding(answer) } else { answer }
    }

    /// STARTTLS: the answer to it is the last one in clear.
    #[inline(never)]
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
    #[inline(never)]
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
    #[inline(never)]
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
    #[inline(never)]
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
    #[inline(never)]
    fn receive_chunk(&mut self, state: State, size: u64, last: bool) -> Move {
        match state {
            State::Transaction(mut transaction) if transaction.can_have_content() => {
                transaction.chunks = Chunks::Some;
                let part = if last { Part::Last } else { Part::Chunk };
                (
                    State::Content(transaction, part),
                    Steps::from(Step::ReceiveChunk(size)),
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
                    State::Skipping(Box::new(Skipped { then, reply, blame })),
                    Steps::from(Step::Skip(size)),
                )
            }
        }
    }

    /// The last octet of a message or a chunk has come: either it can be stored or goes on, or its transaction is
    /// over.
    #[inline(never)]
    fn judge(&mut self, mut transaction: Box<Transaction>, part: Part, end: ContentEnd) -> Move {
        match (transaction.judge(&self.settings, end), part) {
            (Ok(()), Part::Chunk) => (State::Transaction(transaction), say(replies::chunk_ok(end.size))),
            (Ok(()), Part::Last) => {
                let (hello, envelope) = transaction.into_envelope(self.login.clone());
                (
                    State::Storing(hello),
                    Steps::from(Step::Store(Box::new(envelope))),
                )
            }
            (Err(refusal), Part::Chunk) => {
                transaction.chunks = Chunks::Failed(refusal.clone());
                match self.refuse(State::Transaction(transaction), refusal) {
                    // Which forgets the content by itself.
                    closed @ (State::Closed, _) => closed,
                    answer => discarding(answer),
                }
            }
            (Err(refusal), Part::Last) => discarding(self.refuse(State::Ready(transaction.hello), refusal)),
        }
    }

    /// A chunk that is nobody's has come.
    #[inline(never)]
    fn pass_over(&mut self, skipped: Box<Skipped>) -> Move {
        let Skipped { then, reply, blame } = *skipped;
        match blame {
            Blame::Counts => self.refuse(then, reply),
            Blame::None => (then, say(reply)),
        }
    }

    /// The commit has returned: its own result is what the client hears.
    #[inline(never)]
    fn settle(&mut self, hello: Hello, result: Result<MessageId, StoreRefusal>) -> Move {
        match result {
            Ok(id) => {
                self.patience.renew();
                self.is_proven = true;
                let reply = replies::stored(hello.extended.then_some(id));
                (State::Ready(hello), say(reply))
            }
            Err(refusal) => discarding((State::Ready(hello), say(replies::not_stored(refusal)))),
        }
    }

    /// A command that is good and brings no message any further: one too many is the last.
    #[inline(never)]
    fn chat(&mut self, state: State, reply: Reply) -> Move {
        let verdict = self.patience.junk();
        self.answer(state, reply, verdict)
    }

    /// A bad command: said so, counted, and one too many is the last.
    #[inline(never)]
    fn refuse(&mut self, state: State, reply: Reply) -> Move {
        let verdict = self.patience.bad();
        self.answer(state, reply, verdict)
    }

    fn answer(&mut self, state: State, reply: Reply, verdict: Verdict) -> Move {
        match verdict {
            Verdict::Answer(pause) if pause.is_zero() => (state, say(reply)),
            Verdict::Answer(pause) => (state, Steps::from([Step::Pause(pause), Step::Reply(reply)])),
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
            State::Skipping(skipped) => skipped.then.stage(),
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
            State::Skipping(skipped) => skipped.then.hello(),
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
    Steps::from(Step::Reply(reply))
}

/// Forget the content first.
fn discarding(mut answer: Move) -> Move {
    answer.1.put_first(Step::Discard);
    answer
}

/// The last words; content that was on its way is forgotten.
#[inline(never)]
fn close(state: &State, reply: Reply) -> Move {
    let steps = Steps::from([Step::Reply(reply), Step::Close]);
    let has_content = matches!(state, State::Content(..)) || state.has_chunks();
    let last = (State::Closed, steps);
    if has_content { discarding(last) } else { last }
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
