//! Where local recipients find their mail: who is here, and the Maildir of each mailbox.

pub mod directory;
pub mod maildir;
pub mod place;

use std::io::Read;
use std::path::PathBuf;

use crate::smtp::path::{Mailbox, ReversePath};
use crate::work_queue::id::MessageId;
use maildir::{Delivery, MaildirError};

/// The local mailboxes, as the configuration says.
#[derive(Clone, Debug)]
pub struct Mailboxes {
    /// `--mail-dir`.
    pub template: String,
    /// `--hostname`.
    pub hostname: String,
}

impl Mailboxes {
    /// Puts a message into the mailbox that takes the mail of its recipient `n`, on the disk when this
    /// returns; where.
    ///
    /// # Errors
    /// When it could not be stored: nothing of it is in the mailbox then.
    pub fn deliver(
        &self,
        id: MessageId,
        n: u32,
        reverse_path: &ReversePath,
        recipient: &Mailbox,
        mailbox: &Mailbox,
        content: impl Read,
    ) -> Result<PathBuf, MaildirError> {
        let (template, hostname) = (&self.template, &self.hostname);
        Delivery {
            template,
            recipient,
            mailbox,
            reverse_path,
            id,
            number: n.into(),
            hostname,
        }
        .deliver(content)
    }
}
