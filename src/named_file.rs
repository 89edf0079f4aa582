//! A file that the operator has named: read as a whole, if it is one.
//!
//! Never waits: a pipe that nobody writes to would stop whoever reads it for good.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// The octets of the file at `path`; one more than `most` of them, if it has more.
///
/// # Errors
/// Whatever the system says, and that it is not a regular file.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    let mut octets = Vec::new();
    file.take(most + 1).read_to_end(&mut octets)?;
    Ok(octets)
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
    }
}
