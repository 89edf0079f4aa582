//! Where local recipients find their mail: which domains are ours, and the Maildir of each mailbox.

pub mod maildir;

use std::io::Read;
use std::path::PathBuf;

use crate::smtp::path::{Mailbox, ReversePath};
use crate::work_queue::id::MessageId;
use maildir::MaildirError;

/// The local mailboxes, as the configuration says.
#[derive(Clone, Debug)]
pub struct Mailboxes {
    /// `--local-domain`, lower case.
    pub local_domains: Vec<String>,
    /// `--mail-dir`.
    pub template: String,
    /// `--hostname`.
    pub hostname: String,
}

impl Mailboxes {
    /// Whether mail for `path` stays here.
    #[must_use]
    pub fn is_local(&self, path: &Mailbox) -> bool {
        self.local_domains.iter().any(|domain| domain == path.domain())
    }

    /// Puts a message into the mailbox of its recipient `n`, on the disk when this returns; where.
    ///
    /// # Errors
    /// When it could not be stored: nothing of it is in the mailbox then.
    pub fn deliver(
        &self,
        id: MessageId,
        n: u32,
        reverse_path: &ReversePath,
        recipient: &Mailbox,
        content: impl Read,
    ) -> Result<PathBuf, MaildirError> {
        // RFC 5321 4.4: the last host of all writes the reverse path into the message.
        let header = format!("Return-Path: <{reverse_path}>\r\nDelivered-To: {recipient}\r\n");
        todo!("{id} {n} {header} {}", content.bytes().count())
    }
}
