//! The file that tells the process ID to others: `--pid-file`.
//!
//! It is locked as long as the process runs, so that an ID that somebody else has by now deceives nobody. Root's scripts
//! send signals to whom it names: it names nobody before signals are heeded, can not be written by the process any more
//! from then on, and what root has made stays root's.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::Uid;

use super::ServiceError;

/// No process ID is as long.
const LONGEST: u64 = 32;

/// The file, locked. It is removed when this is dropped. Where its folder is somebody else's it is left behind empty, and
/// where it is so itself and has told the ID, unlocked.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Open for writing until the ID is told.
    blank: Option<File>,
    /// For nothing but its lock, and open for reading alone.
    _lock: File,
}

impl PidFile {
    /// Makes `path` ours, and empty.
    ///
    /// # Errors
    /// When it can not be made, is not ours or holds something else, or a process that runs has it locked.
    pub fn claim(path: &Path) -> Result<PidFile, ServiceError> {
        let wrong = |error: io::Error| ServiceError::File(path.to_owned(), error);
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(flags)
            .open(path)
            .map_err(wrong)?;
        let lock = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(wrong)?;
        let found = file.metadata().map_err(wrong)?;
        if !found.is_file() || found.uid() != Uid::effective().as_raw() {
            return Err(ServiceError::PidFile(
                path.to_owned(),
                "a file of who starts it, or none: remove it",
            ));
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServiceError::Running(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
        let mut text = Vec::new();
        (&lock).take(LONGEST + 1).read_to_end(&mut text).map_err(wrong)?;
        let is_id = |octet: &u8| octet.is_ascii_digit() || *octet == b'\n';
        if found.len() > LONGEST || !text.iter().all(is_id) {
            let what = "a file with a process ID, an empty one, or none";
            return Err(ServiceError::PidFile(path.to_owned(), what));
        }
        // Scripts of anybody read it.
        let _ = file.set_permissions(Permissions::from_mode(0o644));
        file.set_len(0).map_err(wrong)?;
        Ok(PidFile {
            path: path.to_owned(),
            blank: Some(file),
            _lock: lock,
        })
    }

    /// Writes the ID of this process to it, once and for all.
    ///
    /// # Errors
    /// When the disk is full, or the like.
    pub fn tell(&mut self) -> io::Result<()> {
        let id = format!("{}\n", std::process::id());
        if let Some(file) = &mut self.blank {
            file.write_all(id.as_bytes())?;
        }
        self.blank = None;
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if std::fs::remove_file(&self.path).is_err() {
            let mut emptying = OpenOptions::new();
            emptying
                .write(true)
                .truncate(true)
                .custom_flags(OFlag::O_NOFOLLOW.bits());
            let _ = match &self.blank {
                Some(file) => file.set_len(0),
                None => emptying.open(&self.path).map(drop),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_is_no_pid_file_of_ours_is_left_as_it_is() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("pid");
        let long = "1".repeat(33);
        for (text, is_taken) in [
            ("", true),
            ("4711\n", true),
            ("precious\n", false),
            ("4711 and more\n", false),
            (long.as_str(), false),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let claimed = PidFile::claim(&path);
            assert_eq!(claimed.is_ok(), is_taken, "{text:?}");
            if let Err(wrong) = claimed {
                let expected = "expected a file with a process ID, an empty one, or none";
                assert!(wrong.to_string().ends_with(expected), "{wrong}");
                assert_eq!(wrong.exit(), crate::config::exit::Exit::Configuration);
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
                assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            }
        }
        fs::write(&path, "4711\n").unwrap();
        let link = world.path().join("link");
        symlink(&path, &link).unwrap();
        PidFile::claim(&link).unwrap_err();
        let fifo = world.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        PidFile::claim(&fifo).unwrap_err();
        if Uid::effective().is_root() {
            chown(&path, Some(65534), None).unwrap();
            let wrong = PidFile::claim(&path).unwrap_err();
            assert!(
                wrong
                    .to_string()
                    .ends_with("expected a file of who starts it, or none: remove it"),
                "{wrong}"
            );
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
    }

    #[test]
    fn it_tells_when_it_is_asked_to_and_goes_with_its_owner() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("pid");
        fs::write(&path, "4711\n").unwrap();
        let mut held = PidFile::claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        held.tell().unwrap();
        let own = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), own);
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn whom_it_names_is_not_the_process_to_change_and_one_that_runs_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let mut held = PidFile::claim(&path).unwrap();
        held.tell().unwrap();
        assert!(held.blank.is_none());
        assert!(held._lock.write_all(b"1\n").is_err());
        assert!(matches!(PidFile::claim(&path), Err(ServiceError::Running(_))));
        let own = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), own);
    }
}
