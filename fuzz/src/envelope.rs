//! What a dialogue has come to, reckoned from what was said and answered alone: a second opinion on what the session
//! keeps, simple enough to be right.

use smtpmta::inbound::step::Envelope;
use smtpmta::smtp::command::{self, Body, Command};
use smtpmta::smtp::path::{ForwardPath, Mailbox, ReversePath};
use smtpmta::smtp::reply::Reply;

use crate::stage::{LOCAL_DOMAINS, MAX_RECIPIENTS, Stage};

/// What an input was, as far as its answer means something.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A command, if it was one.
    Command(Option<Command>),
    /// An answer to a challenge.
    Response,
    /// The last octet of a message, or of a chunk that is not the last.
    Content {
        /// Of a message.
        last: bool,
    },
    /// A message has been put away, or not.
    Stored {
        /// The commit went well.
        is_safe: bool,
    },
    /// Anything else.
    Other,
}

impl Heard {
    /// What a line is, outside an authentication.
    #[must_use]
    pub fn line(line: &[u8]) -> Heard {
        Heard::Command(command::parse(line).ok())
    }

    fn command(&self) -> Option<&Command> {
        match self {
            Heard::Command(command) => command.as_ref(),
            _ => None,
        }
    }

    /// Whether a reply grants a HELO or EHLO.
    #[must_use]
    pub fn grants_hello(&self, reply: &Reply) -> bool {
        reply.code == 250 && matches!(self.command(), Some(Command::Helo(_) | Command::Ehlo(_)))
    }
}

/// How far a dialogue has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// HELO was granted, or EHLO.
    pub extended: Option<bool>,
    /// TLS has begun.
    pub in_tls: bool,
    /// AUTH went well.
    pub logged_in: bool,
    /// A message is under way.
    pub transaction: Option<Transaction>,
}

/// What was granted of a message.
#[derive(Debug)]
pub struct Transaction {
    from: ReversePath,
    recipients: Vec<ForwardPath>,
    /// Its content may be any octets.
    pub is_binary: bool,
    /// A part of its content has come.
    has_chunks: bool,
    /// A chunk of it was refused.
    has_failed: bool,
}

impl Progress {
    /// TLS begins: everything else is forgotten (RFC 3207 4.2).
    pub fn tls_begins(&mut self) {
        *self = Progress {
            in_tls: true,
            ..Progress::default()
        };
    }

    /// Takes note of an answer.
    pub fn note(&mut self, heard: &Heard, reply: &Reply) {
        match (heard, reply.code) {
            (_, 235) => {
                assert!(
                    self.in_tls && !self.logged_in && self.extended.is_some(),
                    "a login out of place"
                );
                self.logged_in = true;
            }
            (Heard::Command(None), code) => assert!(code >= 400, "granted what is no command: {reply:?}"),
            (Heard::Command(Some(command)), code) => self.answered(command, code),
            (Heard::Stored { is_safe }, code) => {
                let is_told_so = if *is_safe { code == 250 } else { code / 100 == 4 };
                assert!(is_told_so, "said of a message: {reply:?}");
            }
            (Heard::Content { last: true }, code) => {
                assert!(code >= 400, "taken without a commit: {reply:?}");
                self.transaction = None;
            }
            (Heard::Content { last: false }, code) => {
                let transaction = self.transaction.as_mut().expect("a chunk comes after MAIL");
                transaction.has_failed |= code >= 400;
            }
            _ => {}
        }
    }

    /// A chunk is announced that nobody wants: the last one ends the message.
    pub fn skips(&mut self, heard: &Heard) {
        if matches!(heard.command(), Some(Command::Bdat { last: true, .. })) {
            self.transaction = None;
        }
    }

    fn answered(&mut self, command: &Command, code: u16) {
        match (command, code) {
            (Command::Helo(_), 250) => (self.extended, self.transaction) = (Some(false), None),
            (Command::Ehlo(_), 250) => (self.extended, self.transaction) = (Some(true), None),
            (Command::Rset, 250) => self.transaction = None,
            (Command::Mail { from, parameters }, 250) => {
                assert!(
                    self.extended.is_some() && self.transaction.is_none(),
                    "MAIL out of sequence"
                );
                self.transaction = Some(Transaction {
                    from: from.clone(),
                    recipients: Vec::new(),
                    is_binary: parameters.body == Some(Body::BinaryMime),
                    has_chunks: false,
                    has_failed: false,
                });
            }
            (Command::Mail { .. }, 503) => {
                assert!(
                    self.extended.is_none() || self.transaction.is_some(),
                    "MAIL is in sequence"
                );
            }
            (Command::Rcpt { .. }, 503) => assert!(self.can_go_on().is_none(), "RCPT is in sequence"),
            (Command::Rcpt { to, .. }, 250) => {
                let transaction = self.transaction.as_mut().expect("RCPT comes after MAIL");
                transaction.recipients.push(to.clone());
            }
            (Command::Data, 354) => {
                let transaction = self.transaction.as_ref().expect("DATA comes after MAIL");
                assert!(
                    !transaction.recipients.is_empty() && !transaction.is_binary,
                    "DATA out of sequence"
                );
            }
            _ => {}
        }
    }

    /// The transaction, if recipients may still be added.
    fn can_go_on(&self) -> Option<&Transaction> {
        self.transaction
            .as_ref()
            .filter(|transaction| !transaction.has_chunks)
    }

    /// A chunk is to be received.
    pub fn receives_chunk(&mut self) {
        let transaction = self.transaction.as_mut().expect("BDAT comes after MAIL");
        assert!(
            !transaction.has_failed && !transaction.recipients.is_empty(),
            "BDAT out of sequence"
        );
        transaction.has_chunks = true;
    }

    /// Checks an envelope that is to be stored, and ends its transaction.
    pub fn check(&mut self, envelope: &Envelope, stage: &Stage) {
        let said = self
            .transaction
            .take()
            .expect("a message is stored after MAIL and RCPT");
        assert!(!said.has_failed, "a part of it was refused");
        assert_eq!(envelope.reverse_path, said.from);
        let count = envelope.recipients.len();
        assert!(
            (1..=said.recipients.len().min(MAX_RECIPIENTS)).contains(&count),
            "{envelope:?}"
        );
        assert_eq!(envelope.login.is_some(), self.logged_in);
        assert!(self.logged_in || !stage.front.demands_login(), "mail from nobody");
        for recipient in &envelope.recipients {
            assert!(
                self.logged_in || stage.may_relay || is_one_of_ours(&recipient.path, stage),
                "relayed: {envelope:?}"
            );
            assert!(
                said.recipients.iter().any(|path| names(path, &recipient.path)),
                "{envelope:?}"
            );
        }
        if let (Some(login), Some(sender), false) =
            (&envelope.login, &envelope.reverse_path.0, stage.any_sender)
        {
            assert!(is_own_address(sender, &login.address), "{envelope:?}");
        }
    }
}

/// Whether `path` may have become this recipient.
fn names(path: &ForwardPath, recipient: &Mailbox) -> bool {
    match path {
        ForwardPath::Postmaster => recipient.to_string() == format!("postmaster@{}", LOCAL_DOMAINS[0]),
        ForwardPath::Mailbox(mailbox) if mailbox.domain().starts_with('[') => {
            mailbox.local_part() == recipient.local_part()
        }
        ForwardPath::Mailbox(mailbox) => mailbox == recipient,
    }
}

/// Whether mail for `recipient` stays here, and nothing in its name would send it on.
fn is_one_of_ours(recipient: &Mailbox, stage: &Stage) -> bool {
    let name = recipient.local_text().to_lowercase();
    let plain = name.split('+').next().unwrap_or_default();
    let known = match stage.accounts {
        None => true,
        // *@example.net takes everything.
        Some(false) if recipient.domain() == LOCAL_DOMAINS[1] => true,
        Some(_) => ["amy", "bob", "eve", "staff", "abuse", "postmaster"].contains(&plain),
    };
    known && LOCAL_DOMAINS.contains(&recipient.domain()) && !name.contains(['%', '!', '@'])
}

fn is_own_address(sender: &Mailbox, login: &Mailbox) -> bool {
    let name = sender.local_text().to_lowercase();
    let plain = name.split('+').next().unwrap_or_default();
    let is_alias = matches!(plain, "staff") || plain == "abuse" && login.local_part() == "bob";
    LOCAL_DOMAINS.contains(&sender.domain())
        && (is_alias || (plain == login.local_part() && sender.domain() == login.domain()))
}
