//! A regular file that somebody else has named, or may have put there.
//!
//! Never waits: a pipe that nobody writes to would stop whoever opens it for good.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// The octets of the file at `path`; one more than `most` of them, if it has more.
///
/// # Errors
/// Whatever the system says, and that it is not a regular file.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

/// The file at `path`, to be read.
///
/// # Errors
/// Whatever the system says, and that it is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlag::O_NONBLOCK)
}

/// The same, where a link is none: whoever may put one there may not have what it names.
///
/// # Errors
/// Whatever the system says, and that it is not a regular file.
pub fn open_no_link(path: &Path) -> io::Result<File> {
    open_with(path, OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW)
}

fn open_with(path: &Path, flags: OFlag) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        std::fs::write(&file, "twelve bytes").unwrap();
        assert_eq!(read(&file, 12).unwrap(), b"twelve bytes");
        assert_eq!(read(&file, 3).unwrap(), b"twel");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for wrong in [pipe.as_path(), folder.path(), Path::new("/dev/null")] {
            assert!(read(wrong, 10).is_err(), "{}", wrong.display());
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open(&link).is_ok() && open_no_link(&file).is_ok() && open_no_link(&link).is_err());
    }
}
