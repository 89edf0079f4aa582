//! Where local recipients find their mail: who is here, and the Maildir of each mailbox.

pub mod directory;
pub mod maildir;
pub mod owner;
pub mod place;

use std::io::Read;
use std::path::PathBuf;

use crate::smtp::path::Mailbox;
use crate::work_queue::{Waiting, WaitingRecipient};
use maildir::{Delivery, MaildirError};

/// The local mailboxes, as the configuration says.
#[derive(Clone, Debug)]
pub struct Mailboxes {
    /// `--mail-dir`.
    pub template: String,
    /// `--hostname`.
    pub hostname: String,
    /// `--spool`.
    pub spool: PathBuf,
}

impl Mailboxes {
    /// Puts `content` of a message into the mailbox that takes the mail of its recipient, on the disk when this
    /// returns; where. Once, even if it `may_be_there` since a time of which the queue knows nothing.
    ///
    /// # Errors
    /// When it could not be stored: nothing of it is in the mailbox then.
    pub fn deliver(
        &self,
        message: &Waiting,
        recipient: &WaitingRecipient,
        mailbox: &Mailbox,
        may_be_there: bool,
        content: impl Read,
    ) -> Result<PathBuf, MaildirError> {
        Delivery {
            template: &self.template,
            spool: &self.spool,
            recipient: &recipient.path,
            mailbox,
            reverse_path: &message.reverse_path,
            id: message.id,
            number: recipient.n.into(),
            hostname: &self.hostname,
            binary: message.binary,
            may_be_there,
        }
        .deliver(content)
    }
}
