//! The dialogue of a session handler with its client, from greeting to goodbye (RFC 5321 3 and 4).
//!
//! Each state owns what is known in it, and every move consumes the session. Never touches a socket, a
//! clock or the queue: it is told what happened, and answers with the steps that the handler does.

use std::net::IpAddr;
use std::sync::Arc;

use crate::inbound::received::ReceivedFacts;
use crate::inbound::recipients::{Decision, RecipientPolicy, Recipients};
use crate::inbound::replies;
use crate::inbound::step::{Envelope, Input, Step, Steps, StoreRefusal};
use crate::smtp::command::{self, Body, Command, MailParameters, Stage, Verb};
use crate::smtp::data::ContentFault;
use crate::smtp::path::{ForwardPath, ReversePath};
use crate::smtp::reply::Reply;
use crate::work_queue::id::MessageId;

/// This many bad commands since the last message end a session.
const MAX_BAD_COMMANDS: u32 = 20;

/// What all sessions have in common, until a refresh.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// `--hostname`.
    pub hostname: String,
    /// `--max-message-size`, octets.
    pub max_message_size: u64,
    /// `--max-recipients`.
    pub max_recipients: usize,
    /// `--local-domain` and what follows from it.
    pub policy: RecipientPolicy,
}

/// One dialogue.
#[derive(Debug)]
pub struct Session {
    settings: Arc<SessionSettings>,
    client: IpAddr,
    may_relay: bool,
    bad_commands: u32,
    state: State,
}

/// How far the dialogue has come, with all that is known by then.
#[derive(Debug)]
enum State {
    /// No HELO or EHLO yet.
    Greeted,
    /// Waiting for MAIL.
    Ready(Hello),
    /// MAIL was given, with RCPT or without.
    Transaction(Transaction),
    /// DATA was given and content is on its way.
    Content(Transaction),
    /// The commit is on its way.
    Storing(Hello),
    /// Nothing is said any more.
    Closed,
}

/// What the client said of itself.
#[derive(Debug)]
struct Hello {
    name: String,
    /// EHLO, not HELO.
    extended: bool,
}

/// What the client said of a message.
#[derive(Debug)]
struct Transaction {
    hello: Hello,
    reverse_path: ReversePath,
    body: Option<Body>,
    recipients: Recipients,
}

/// A move: the state after it, and what to do.
type Move = (State, Steps);

impl Session {
    /// A session with a client that has just called from `client`. `may_relay` says whether it may send to
    /// any domain (`--relay-from`).
    #[must_use]
    pub fn new(settings: Arc<SessionSettings>, client: IpAddr, may_relay: bool) -> Session {
        Session {
            settings,
            client,
            may_relay,
            bad_commands: 0,
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
        let (state, steps) = match (state, input) {
            (State::Closed, _) => (State::Closed, Steps::default()),
            (State::Storing(hello), Input::Stored(result)) => self.settle(hello, result),
            // A commit on its way is always waited for: only its result says whose the message is.
            (state @ State::Storing(_), _) => (state, Steps::default()),
            (state, Input::Connected) => (state, say(replies::greeting(&self.settings.hostname))),
            (state, Input::Timeout) => close(&state, replies::timed_out(&self.settings.hostname)),
            (state, Input::Stopping) => close(&state, replies::stopping(&self.settings.hostname)),
            (State::Content(transaction), Input::ContentEnd { size, fault, kept }) => {
                self.judge_content(transaction, size, fault, kept)
            }
            (state @ State::Content(_), _) => (state, Steps::default()),
            (state, Input::Line(line)) => self.obey_line(state, line),
            (state, Input::BadLine(fault)) => self.refuse(state, replies::refuse_line(fault)),
            (state, Input::ContentEnd { .. } | Input::Stored(_)) => (state, Steps::default()),
        };
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

    /// Whether what comes next is content, not lines.
    #[must_use]
    pub fn receives_content(&self) -> bool {
        matches!(self.state, State::Content(_))
    }

    /// Whether the dialogue is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// `--max-message-size`: no more octets of content than these need to be kept.
    #[must_use]
    pub fn max_message_size(&self) -> u64 {
        self.settings.max_message_size
    }

    /// What the Received line of the message on its way tells; `None` outside content.
    #[must_use]
    pub fn received_facts(&self) -> Option<ReceivedFacts<'_>> {
        let State::Content(transaction) = &self.state else {
            return None;
        };
        Some(ReceivedFacts {
            helo: &transaction.hello.name,
            client: self.client,
            client_name: None,
            hostname: &self.settings.hostname,
            extended: transaction.hello.extended,
            tls: None,
            authenticated: false,
            utf8: false,
            only_recipient: transaction.recipients.only_one(),
        })
    }

    fn hello(&self) -> Option<&Hello> {
        match &self.state {
            State::Ready(hello) | State::Storing(hello) => Some(hello),
            State::Transaction(transaction) | State::Content(transaction) => Some(&transaction.hello),
            State::Greeted | State::Closed => None,
        }
    }

    fn obey_line(&mut self, state: State, line: &[u8]) -> Move {
        let (verb, arguments) = match command::find(line) {
            Ok(found) => found,
            Err(error) => return self.refuse(state, replies::refuse_command(error, None)),
        };
        let stage = state.stage();
        if !verb.stages.contains(&stage) {
            return self.refuse(state, replies::out_of_sequence(verb, stage));
        }
        match verb.parse(arguments) {
            Ok(command) => self.obey(state, verb, command),
            Err(error) => self.refuse(state, replies::refuse_command(error, Some(verb))),
        }
    }

    /// Does what a command asks for; whether it may be given here, the table of verbs has said.
    fn obey(&mut self, state: State, verb: &Verb, command: Command) -> Move {
        match (command, state) {
            (Command::Helo(name), _) => {
                let reply = replies::helo(&self.settings.hostname);
                (
                    State::Ready(Hello {
                        name,
                        extended: false,
                    }),
                    say(reply),
                )
            }
            (Command::Ehlo(name), _) => {
                let reply = replies::ehlo(&self.settings.hostname, self.settings.max_message_size);
                (State::Ready(Hello { name, extended: true }), say(reply))
            }
            (Command::Mail { from, parameters }, State::Ready(hello)) => self.begin(hello, from, parameters),
            (Command::Rcpt { to }, State::Transaction(transaction)) => self.add(transaction, to),
            (Command::Data, State::Transaction(transaction)) if !transaction.recipients.is_empty() => (
                State::Content(transaction),
                Steps::from([Step::Reply(replies::start_content()), Step::ReceiveContent]),
            ),
            (Command::Rset, state) => (state.without_transaction(), say(replies::ok())),
            (Command::Noop, state) => (state, say(replies::ok())),
            (Command::Vrfy, state) => (state, say(replies::cannot_verify())),
            (Command::Help, state) => (state, say(replies::help())),
            (Command::Quit, state) => close(&state, replies::goodbye()),
            (Command::Mail { .. } | Command::Rcpt { .. } | Command::Data, state) => {
                let reply = replies::out_of_sequence(verb, state.stage());
                self.refuse(state, reply)
            }
        }
    }

    /// MAIL: a transaction, unless the client itself says that it will not fit.
    fn begin(&mut self, hello: Hello, reverse_path: ReversePath, parameters: MailParameters) -> Move {
        let limit = self.settings.max_message_size;
        if parameters.size.is_some_and(|size| size > limit) {
            return (State::Ready(hello), say(replies::too_big(limit)));
        }
        let transaction = Transaction {
            hello,
            reverse_path,
            body: parameters.body,
            recipients: Recipients::default(),
        };
        (State::Transaction(transaction), say(replies::sender_ok()))
    }

    /// RCPT: one more recipient, if we take mail for it and there is room.
    fn add(&mut self, mut transaction: Transaction, to: ForwardPath) -> Move {
        let reply = match self.settings.policy.decide(to, self.may_relay) {
            Decision::RelayingDenied => replies::relaying_denied(),
            Decision::Accept(mailbox) => {
                match transaction.recipients.add(mailbox, self.settings.max_recipients) {
                    Ok(()) => replies::recipient_ok(),
                    Err(_) => replies::too_many_recipients(),
                }
            }
        };
        (State::Transaction(transaction), say(reply))
    }

    /// The last octet has come: either the message can be stored, or its transaction is over.
    fn judge_content(
        &mut self,
        transaction: Transaction,
        size: u64,
        fault: Option<ContentFault>,
        kept: Result<(), StoreRefusal>,
    ) -> Move {
        let limit = self.settings.max_message_size;
        let refusal = if size > limit {
            replies::too_big(limit)
        } else if let Some(fault) = fault {
            replies::refuse_content(fault)
        } else if let Err(refusal) = kept {
            replies::not_stored(refusal)
        } else {
            let envelope = Envelope {
                reverse_path: transaction.reverse_path,
                recipients: transaction.recipients.into_vec(),
                body: transaction.body,
            };
            return (
                State::Storing(transaction.hello),
                Steps::from([Step::Store(envelope)]),
            );
        };
        (
            State::Ready(transaction.hello),
            Steps::from([Step::Discard, Step::Reply(refusal)]),
        )
    }

    /// The commit has returned: its own result is what the client hears.
    fn settle(&mut self, hello: Hello, result: Result<MessageId, StoreRefusal>) -> Move {
        let steps = match result {
            Ok(id) => {
                self.bad_commands = 0;
                say(replies::stored(hello.extended.then_some(id)))
            }
            Err(refusal) => Steps::from([Step::Discard, Step::Reply(replies::not_stored(refusal))]),
        };
        (State::Ready(hello), steps)
    }

    /// A bad command: said so, counted, and one too many is the last.
    fn refuse(&mut self, state: State, reply: Reply) -> Move {
        self.bad_commands += 1;
        if self.bad_commands >= MAX_BAD_COMMANDS {
            return close(&state, replies::too_many_bad_commands(&self.settings.hostname));
        }
        (state, say(reply))
    }
}

impl State {
    fn stage(&self) -> Stage {
        match self {
            State::Transaction(transaction) if transaction.recipients.is_empty() => Stage::Mail,
            State::Transaction(_) | State::Content(_) => Stage::Recipients,
            State::Ready(_) | State::Storing(_) => Stage::Ready,
            State::Greeted | State::Closed => Stage::Greeted,
        }
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

/// The last words; content that was on its way is forgotten.
fn close(state: &State, reply: Reply) -> Move {
    let steps = match state {
        State::Content(_) => Steps::from([Step::Discard, Step::Reply(reply), Step::Close]),
        _ => Steps::from([Step::Reply(reply), Step::Close]),
    };
    (State::Closed, steps)
}

#[cfg(test)]
mod tests;
