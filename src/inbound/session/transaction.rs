//! A mail transaction: what MAIL, RCPT, DATA and BDAT have said of a message so far (RFC 5321 3.3, RFC 3030).

use std::sync::Arc;

use super::Hello;
use crate::accounts::Login;
use crate::inbound::recipients::{Full, Recipients};
use crate::inbound::step::{ContentEnd, Envelope};
use crate::inbound::{replies, session::SessionSettings};
use crate::smtp::command::{Body, MailParameters, RcptParameters, Stage};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::Reply;
use crate::work_queue::Addressee;

/// What the client said of a message.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) hello: Hello,
    pub(super) recipients: Recipients,
    reverse_path: ReversePath,
    parameters: MailParameters,
    pub(super) chunks: Chunks,
}

/// How far content has come by BDAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// There was none yet.
    None,
    /// There were some, and all of them were good so far.
    Some,
    /// One was refused, and with it the message: whatever follows is only taken in, and hears the same.
    Failed(Reply),
}

impl Transaction {
    pub(super) fn new(hello: Hello, reverse_path: ReversePath, parameters: MailParameters) -> Transaction {
        Transaction {
            hello,
            recipients: Recipients::default(),
            reverse_path,
            parameters,
            chunks: Chunks::None,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.chunks {
            Chunks::Some | Chunks::Failed(_) => Stage::Chunks,
            Chunks::None if self.recipients.is_empty() => Stage::Mail,
            Chunks::None => Stage::Recipients,
        }
    }

    /// Whether content may come: there is somebody to get it, and no part of it was refused.
    pub(super) fn can_have_content(&self) -> bool {
        !self.recipients.is_empty() && !matches!(self.chunks, Chunks::Failed(_))
    }

    /// SMTPUTF8 was given.
    pub(super) fn utf8(&self) -> bool {
        self.parameters.utf8
    }

    /// The content may be any octets, which only BDAT can carry.
    pub(super) fn is_binary(&self) -> bool {
        self.parameters.body == Some(Body::BinaryMime)
    }

    /// One more recipient.
    pub(super) fn add(
        &mut self,
        path: Mailbox,
        is_local: bool,
        parameters: RcptParameters,
        limit: usize,
    ) -> Result<(), Full> {
        let addressee = Addressee {
            path,
            notify: parameters.notify,
            original: parameters.original,
        };
        self.recipients.add(addressee, is_local, limit)
    }

    /// Whether a message whose content has come so far can be stored; if not, what the client hears.
    pub(super) fn judge(&self, settings: &SessionSettings, end: ContentEnd) -> Result<(), Reply> {
        if end.size > settings.max_message_size {
            Err(replies::too_big(settings.max_message_size))
        } else if let Some(fault) = end.fault {
            Err(replies::refuse_content(fault))
        } else if end.hops > settings.max_hops {
            Err(replies::loops(end.hops))
        } else {
            end.kept.map_err(replies::not_stored)
        }
    }

    /// The envelope of a message whose content is good.
    pub(super) fn into_envelope(self, login: Option<Arc<Login>>) -> (Hello, Envelope) {
        let envelope = Envelope {
            reverse_path: self.reverse_path,
            recipients: self.recipients.into_vec(),
            body: self.parameters.body,
            utf8: self.parameters.utf8,
            ret: self.parameters.ret,
            envelope_id: self.parameters.envelope_id,
            login,
        };
        (self.hello, envelope)
    }
}
