//! What lies in the maildrop, for a copy of the spool: messages that were acknowledged, and are not in the database yet.
//!
//! While it is copied, and until the database is read, the MTA takes nothing in: so each message is in one of them. What was
//! taken and is in the database of the copy goes again. The copy has it all in its maildrop, where its owners' are still
//! their owners' if root copies. Never copies what would not be taken in, and never waits for a pipe.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rusqlite::{Connection, OpenFlags};

use super::backup::{BackupError, Copies};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::row;
use super::stay::Stay;
use super::verify::unchanging;
use crate::maildrop::{self, FOLDER, TAKEN, WHOLE};

/// A file that is larger, and of which less than half is on the disk, is no message: it would fill the disk of the copy.
const SPARSE: u64 = 64 << 20;

/// A message that was copied.
#[derive(Debug)]
pub(super) struct Lying {
    path: PathBuf,
    /// Under which ID it was taken, if it was.
    id: Option<MessageId>,
    octets: u64,
}

/// Keeps all where it lies; `None` where there is no maildrop.
pub(super) fn still(spool: &Path, is_told_to_stop: &dyn Fn() -> bool) -> Result<Option<Stay>, BackupError> {
    let folder = spool.join(TAKEN);
    match Stay::of(&folder, is_told_to_stop) {
        Ok(None) => Err(BackupError::Stopped),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        stay => Ok(stay.map_err(|error| QueueError::file(&folder, error))?),
    }
}

/// Copies what lies in the maildrop of this spool to that of the copy in `to`.
pub(super) fn copy(copies: &Copies<'_>, spool: &Path, to: &Path) -> Result<Vec<Lying>, BackupError> {
    let mut lying = Vec::new();
    let maildrop = spool.join(FOLDER);
    for folder in [&maildrop, &spool.join(TAKEN)] {
        let unreadable = |error| QueueError::file(folder, error);
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(unreadable)?,
        };
        let of_folder = match fs::metadata(&maildrop) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found.map_err(unreadable)?,
        };
        for entry in entries {
            copies.heed()?;
            let from = entry.map_err(unreadable)?.path();
            let name = from
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !maildrop::is_whole(&from) {
                continue;
            }
            let id = name.parse::<MessageId>().ok();
            let file = match maildrop::open(&from) {
                Ok(file) => file,
                Err(error) if is_no_message(&error) => continue,
                Err(error) => return Err(QueueError::file(&from, error).into()),
            };
            let found = file.metadata().map_err(|error| QueueError::file(&from, error))?;
            let is_hollow = found.len() > SPARSE && found.blocks().saturating_mul(512) < found.len() / 2;
            if is_hollow || maildrop::fault(&found, &of_folder).is_some() {
                continue;
            }
            let target = to.join(FOLDER);
            if lying.is_empty() {
                let made = DirBuilder::new().mode(0o700).create(&target);
                made.and_then(|()| copies.finish(&target))
                    .map_err(|error| BackupError::target(&target, error))?;
            }
            let path = target.join(match id {
                Some(id) => format!("{WHOLE}{id}"),
                None => name,
            });
            copies.copy_of(file, &from, &path)?;
            give(&path, found.uid(), copies).map_err(|error| BackupError::target(&path, error))?;
            let octets = found.len();
            lying.push(Lying { path, id, octets });
        }
    }
    Ok(lying)
}

/// Whether somebody else keeps us from opening a file: then it is none that would be taken in.
fn is_no_message(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO | Errno::EACCES | Errno::EPERM | Errno::EAGAIN)
    )
}

/// Gives a copy to whoever has left the original, as only root may: he is told of by its owner.
fn give(copy: &Path, uid: u32, copies: &Copies<'_>) -> io::Result<()> {
    let made = fs::metadata(copy)?;
    if uid == made.uid() || chown(copy, Some(uid), None).is_err() {
        return Ok(());
    }
    // Of the folder's group, by which the MTA reads it.
    let mode = if uid == copies.belongs.uid() { 0o600 } else { 0o640 };
    fs::set_permissions(copy, Permissions::from_mode(mode))
}

/// Removes of these what the database of the copy has; how many octets are left.
pub(super) fn settle(copy: &Path, lying: Vec<Lying>) -> Result<u64, BackupError> {
    if lying.is_empty() {
        return Ok(0);
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(unchanging(copy), flags)?;
    let mut octets = 0;
    for one in lying {
        let has = |id: MessageId| row(&db, "SELECT 1 FROM message WHERE id = ?", [id.0], |_| Ok(()));
        match one.id.map(has).transpose()?.flatten() {
            None => octets += one.octets,
            Some(()) => fs::remove_file(&one.path).map_err(|error| BackupError::target(&one.path, error))?,
        }
    }
    Ok(octets)
}
