//! The file that tells the process ID to others: `--pid-file`.
//!
//! It is locked as long as the process runs, so that an ID that somebody else has by now deceives nobody.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::ServiceError;
use super::owner::Owner;

/// The file, locked.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes the ID of this process to `path`.
    ///
    /// # Errors
    /// When it can not be written, or a process that runs has it locked.
    pub fn write(path: &Path) -> Result<PidFile, ServiceError> {
        let wrong = |error: io::Error| ServiceError::File(path.to_owned(), error);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)
            .map_err(wrong)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServiceError::Running(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
        // Scripts of anybody read it.
        let _ = file.set_permissions(Permissions::from_mode(0o644));
        file.set_len(0).map_err(wrong)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(wrong)?;
        Ok(PidFile {
            path: path.to_owned(),
            file,
        })
    }

    /// From now on it is this user's.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn give_to(&self, owner: &Owner) -> Result<(), ServiceError> {
        fchown(&self.file, Some(owner.uid()), Some(owner.gid()))
            .map_err(|error| ServiceError::File(self.path.clone(), error))
    }

    /// Removes it; where its folder is somebody else's it is left behind empty.
    pub fn remove(self) {
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}
