//! The maildrop: a folder of the spool in which every user of this machine may leave messages, whether the MTA runs or
//! not. What sendmail(1) leaves there the MTA takes into SMTP.BOX.
//!
//! A message is one file: its content as it came, then a [`Slip`] that says from whom and for whom it is, then a line that
//! says how long the content is. It is written under a name that nobody looks at, synced, and gets a name that the MTA
//! looks for; when that is on the disk, too, the message is the MTA's. Which user left it is said by the file's owner, and
//! by nobody else.
//!
//! Nothing that lies there is trusted, and nothing there stops anybody: what is no message is put aside.

mod collector;
mod folder;
mod slip;
mod telling;
mod turns;
mod undeliverable;
mod users;

pub use collector::{Collector, Settings};
pub use folder::{Draft, FOLDER, TAKEN};
pub(crate) use folder::{WHOLE, fault, is_whole, open};
pub use slip::{BadSlip, Slip};

use std::path::Path;
use std::{fs, io};

use slip::Limits;

/// What is shown of a message: it may be anybody's.
const SHOWN: Limits = Limits {
    size: u64::MAX,
    recipients: 1000,
};

/// A message that lies in the maildrop of a spool, or was taken from there and is not in the queue yet.
#[derive(Debug)]
pub struct Left {
    /// From whom, and for whom.
    pub slip: Slip,
    /// Octets of the content.
    pub size: u64,
    /// When it was left there, in seconds since 1970.
    pub at: i64,
}

/// Shows the messages that lie in the maildrop of this spool to `show`, in no order, until it says that this is enough.
///
/// # Errors
/// When the folder can not be looked into: only its owner may.
pub fn walk(spool: &Path, mut show: impl FnMut(&Left) -> bool) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    for folder in [spool.join(FOLDER), spool.join(TAKEN)] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if !folder::is_whole(&path) {
                continue;
            }
            // It may be taken in at this moment, and what is no message is the MTA's to tell of.
            let Ok(file) = folder::open(&path) else { continue };
            let Ok(found) = slip::of(&file, SHOWN) else {
                continue;
            };
            let at = file.metadata().map_or(0, |found| found.mtime());
            let (slip, size) = (found.slip, found.size);
            if !show(&Left { slip, size, at }) {
                return Ok(());
            }
        }
    }
    Ok(())
}
