//! A stay: while somebody copies the spool no content file is removed, whatever becomes of its message.
//!
//! It is a lock on the folder of content files (flock(2)), which ends with the process that has it. Whoever copies shares
//! it with others, and has it before he reads the rows; whoever removes a file has it alone for that moment, after the
//! commit by which nobody needs the file. So each file that was read of is there until the stay ends. Never keeps mail
//! waiting.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait before it is tried again: who removes files has the lock for moments.
const PAUSE: Duration = Duration::from_millis(2);

/// All files of the folder stay until this is dropped.
#[derive(Debug)]
pub(super) struct Stay {
    _lock: File,
}

impl Stay {
    /// Keeps all files in `folder`. Waits for whoever removes some just now, or gives up when it is told to stop: `None`.
    ///
    /// # Errors
    /// When there is no such folder, or its file system has no such locks.
    pub(super) fn of(folder: &Path, is_told_to_stop: &dyn Fn() -> bool) -> io::Result<Option<Stay>> {
        let lock = File::open(folder)?;
        loop {
            match lock.try_lock_shared() {
                Ok(()) => return Ok(Some(Stay { _lock: lock })),
                Err(TryLockError::WouldBlock) if is_told_to_stop() => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::park_timeout(PAUSE),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

/// Whoever removes files of a folder, but none that somebody keeps.
#[derive(Debug)]
pub(super) struct Remover {
    folder: PathBuf,
    /// The folder, once it could be opened.
    lock: Option<File>,
}

impl Remover {
    /// For the files in `folder`.
    pub(super) fn of(folder: &Path) -> Remover {
        Remover {
            folder: folder.to_owned(),
            lock: None,
        }
    }

    /// Does what removes some files, unless they are kept, or it can not be known whether they are; whether it did.
    pub(super) fn unless_kept(&mut self, remove: impl FnOnce()) -> bool {
        if self.lock.is_none() {
            self.lock = match File::open(&self.folder) {
                Ok(folder) => Some(folder),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                // There is no descriptor left just now.
                Err(_) => return false,
            };
        }
        let locked = match self.lock.as_ref().map(File::try_lock) {
            Some(Err(TryLockError::WouldBlock)) => return false,
            Some(Ok(())) => true,
            // No folder, or a file system that has no such locks: nobody keeps anything.
            Some(Err(TryLockError::Error(_))) | None => false,
        };
        remove();
        if let Some(folder) = self.lock.as_ref().filter(|_| locked) {
            let _ = folder.unlock();
        }
        true
    }

    /// The same, as soon as they are not kept any more.
    pub(super) fn when_free(&mut self, remove: impl Fn()) {
        while !self.unless_kept(&remove) {
            std::thread::park_timeout(PAUSE * 50);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn nothing_is_removed_while_somebody_keeps_it_and_everything_before_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let (mut remover, removed) = (Remover::of(folder.path()), Cell::new(0));
        let remove = || removed.set(removed.get() + 1);
        assert!(remover.unless_kept(remove));
        let keep = || Stay::of(folder.path(), &|| false).unwrap().unwrap();
        let (one, other) = (keep(), keep());
        assert!(!remover.unless_kept(remove));
        drop(one);
        assert!(!remover.unless_kept(remove), "the other one keeps it still");
        drop(other);
        assert!(remover.unless_kept(remove));
        remover.when_free(remove);
        assert_eq!(removed.get(), 3);
    }

    #[test]
    fn who_waits_for_a_stay_hears_that_he_is_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let alone = File::open(folder.path()).unwrap();
        alone.lock().unwrap();
        assert!(Stay::of(folder.path(), &|| true).unwrap().is_none());
        assert!(Stay::of(&folder.path().join("none"), &|| false).is_err());
    }

    #[test]
    fn where_there_is_no_folder_nobody_keeps_anything() {
        let (mut remover, removed) = (Remover::of(Path::new("/nowhere/at/all")), Cell::new(false));
        assert!(remover.unless_kept(|| removed.set(true)) && removed.get());
    }
}
