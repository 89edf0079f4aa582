//! The file that tells the process ID to others: `--pid-file`.
//!
//! It is locked as long as the process runs, so that an ID that somebody else has by now deceives nobody. Scripts of root
//! send signals by it: it is never given to the MTA's user, and tells nothing before the MTA heeds signals.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::Uid;

use super::ServiceError;

/// No process ID is as long.
const LONGEST: u64 = 32;

/// The file, locked. It is removed when this is dropped; where its folder is somebody else's it is left behind empty.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Makes `path` ours, and empty.
    ///
    /// # Errors
    /// When it can not be made, is not ours or holds something else, or a process that runs has it locked.
    pub fn claim(path: &Path) -> Result<PidFile, ServiceError> {
        let wrong = |error: io::Error| ServiceError::File(path.to_owned(), error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(path)
            .map_err(wrong)?;
        let found = file.metadata().map_err(wrong)?;
        if !found.is_file() || found.uid() != Uid::effective().as_raw() {
            return Err(ServiceError::PidFile(path.to_owned(), "a file of who starts it"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServiceError::Running(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
        let mut text = Vec::new();
        (&file).take(LONGEST + 1).read_to_end(&mut text).map_err(wrong)?;
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
            file,
        })
    }

    /// Writes the ID of this process to it.
    ///
    /// # Errors
    /// When the disk is full, or the like.
    pub fn tell(&self) -> io::Result<()> {
        let id = format!("{}\n", std::process::id());
        self.file.write_all_at(id.as_bytes(), 0)
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
            let _ = self.file.set_len(0);
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
                wrong.to_string().ends_with("expected a file of who starts it"),
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
        let file = PidFile::claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert!(matches!(PidFile::claim(&path), Err(ServiceError::Running(_))));
        file.tell().unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        drop(file);
        assert!(!path.exists());
    }
}
