//! Where local recipients find their mail: which domains are ours, and the Maildir of each mailbox.

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
        let (template, hostname) = (&self.template, &self.hostname);
        Delivery {
            template,
            recipient,
            reverse_path,
            id,
            number: n.into(),
            hostname,
        }
        .deliver(content)
    }
}
