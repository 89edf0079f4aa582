//! The file that tells the process ID to others: `--pid-file`.
//!
//! It is locked as long as the process runs, so that an ID that somebody else has by now deceives nobody. Once written it
//! can not be written by the process: root's scripts send signals to whom it names, and what root has made stays root's.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::ServiceError;

/// The file, locked.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// For nothing but its lock, and open for reading alone.
    _lock: File,
}

impl PidFile {
    /// Writes the ID of this process to `path`.
    ///
    /// # Errors
    /// When it can not be written, or a process that runs has it locked.
    pub fn write(path: &Path) -> Result<PidFile, ServiceError> {
        let wrong = |error: io::Error| ServiceError::File(path.to_owned(), error);
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(flags)
            .open(path)
            .map_err(wrong)?;
        // Scripts of anybody read it.
        let _ = file.set_permissions(Permissions::from_mode(0o644));
        let lock = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServiceError::Running(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
        file.set_len(0).map_err(wrong)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(wrong)?;
        Ok(PidFile {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Removes it. Where its folder is somebody else's it is left behind empty, and where it is so itself, unlocked.
    pub fn remove(self) {
        if std::fs::remove_file(&self.path).is_err() {
            let _ = OpenOptions::new().write(true).truncate(true).open(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_it_names_is_not_the_process_to_change_and_one_that_runs_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let mut held = PidFile::write(&path).unwrap();
        assert!(held._lock.write_all(b"1\n").is_err());
        assert!(matches!(PidFile::write(&path), Err(ServiceError::Running(_))));
        let own = format!("{}\n", std::process::id());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), own);
        held.remove();
        assert!(!path.exists());
    }
}
