//! The folders of the maildrop, its doorbell, and how a message is left there.
//!
//! Whoever leaves a message has no more rights than any user: the folder lets everybody make files, and nobody but its
//! owner look what there is. A file is its owner's; its group is that of the folder, so that the MTA can read it and others
//! can not. Never decides what becomes of a message.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::slip::{Slip, last_line};

/// Where messages are left, in the spool.
pub const FOLDER: &str = "maildrop";
/// Where the MTA has them while it takes them in.
pub const TAKEN: &str = "maildrop-taken";
/// The doorbell: a ring is a datagram.
const BELL: &str = "maildrop.sock";

/// What the name of a message begins with that is whole.
pub(super) const WHOLE: &str = "mail-";
/// And that of one which somebody still writes.
const BEGUN: &str = "new-";

/// How the name of something ends that is no message.
pub(super) const REFUSED: &str = ".refused";

/// The folder as it is made, before others are let in.
const CLOSED: u32 = 0o700;
/// Everybody may make files, and nobody removes those of others; whatever is made is of the folder's group.
const OPEN: u32 = 0o3733;
/// Through the spool everybody has to get to it, and may look at nothing.
const PASSAGE: u32 = 0o011;
/// Everybody may ring.
const ANYBODY_RINGS: u32 = 0o622;

/// What stands in the spool and was made while nobody else could get there: it is closed before they can.
const OURS: [&str; 4] = ["queue.db", "queue.db-wal", "queue.db-shm", "smtpmta.pid"];

/// A path for a socket is at most so long: `sun_path` on Linux, and less elsewhere.
const LONGEST_SOCKET_PATH: usize = 100;

/// Makes the folders, and lets others in. That is done once: what the owner of the spool changes afterwards stays so.
///
/// # Errors
/// When they can not be made, or the spool is somebody else's.
pub(super) fn open_to_all(spool: &Path) -> io::Result<()> {
    let folder = spool.join(FOLDER);
    for path in [&folder, &spool.join(TAKEN)] {
        match DirBuilder::new().mode(CLOSED).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    if fs::symlink_metadata(&folder)?.mode() & 0o7777 != CLOSED {
        return Ok(());
    }
    for name in OURS {
        match fs::set_permissions(spool.join(name), Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mode = fs::metadata(spool)?.mode() & 0o7777;
    fs::set_permissions(spool, Permissions::from_mode(mode | PASSAGE))?;
    // Last: who finds it so finds all of it done.
    fs::set_permissions(&folder, Permissions::from_mode(OPEN))?;
    sync(&folder)?;
    sync(spool)
}

/// Hangs up the doorbell. One that a crash left behind is replaced.
///
/// # Errors
/// When the socket can not be made.
pub(super) fn hang_bell(spool: &Path) -> io::Result<UnixDatagram> {
    let (path, _folder) = reachable(spool)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let bell = UnixDatagram::bind(&path)?;
    bell.set_nonblocking(true)?;
    fs::set_permissions(&path, Permissions::from_mode(ANYBODY_RINGS))?;
    Ok(bell)
}

/// Takes the doorbell down.
pub(super) fn take_bell_down(spool: &Path) {
    let _ = fs::remove_file(spool.join(BELL));
}

/// Rings. Where no MTA runs nobody hears it; it looks when it starts.
fn ring(spool: &Path) -> io::Result<()> {
    let (path, _folder) = reachable(spool)?;
    let socket = UnixDatagram::unbound()?;
    // Where many ring at once it is ringing already.
    socket.set_nonblocking(true)?;
    socket.send_to(b"\n", path).map(drop)
}

/// The way to the doorbell, whose path may be longer than the system allows; keep what comes with it open until it is
/// used.
fn reachable(spool: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = spool.join(BELL);
    if path.as_os_str().len() < LONGEST_SOCKET_PATH {
        return Ok((path, None));
    }
    // Who may not look into the spool may go through it.
    let folder = OpenOptions::new().read(true).custom_flags(PASS).open(spool)?;
    Ok((
        PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(BELL),
        Some(folder),
    ))
}

#[cfg(target_os = "linux")]
const PASS: i32 = OFlag::O_PATH.bits();
#[cfg(not(target_os = "linux"))]
const PASS: i32 = 0;

/// Whether a file of this name is a whole message, in either of the two folders.
pub(super) fn is_whole(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(WHOLE) || name.parse::<crate::work_queue::id::MessageId>().is_ok()
}

/// Opens a file that somebody else has put there. Never follows a link, and never waits for a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

/// Returns when every name in the folder is on the disk.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A message that is being written. Dropped before [`Draft::leave`], it leaves nothing behind.
#[derive(Debug)]
pub struct Draft {
    spool: PathBuf,
    /// What tells it from others, and nobody can guess.
    name: String,
    file: BufWriter<File>,
    size: u64,
    /// Where it is, until it has its place.
    begun: Option<PathBuf>,
}

impl Draft {
    /// Begins one in the maildrop of this spool.
    ///
    /// # Errors
    /// When there is no maildrop, or no file can be made there.
    pub fn begin(spool: &Path) -> io::Result<Draft> {
        let mut octets = [0; 16];
        aws_lc_rs::rand::fill(&mut octets)
            .map_err(|_| io::Error::other("the system has no random octets"))?;
        let name = data_encoding::HEXLOWER.encode(&octets);
        let path = spool.join(FOLDER).join(format!("{BEGUN}{name}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Draft {
            spool: spool.to_owned(),
            name,
            file: BufWriter::new(file),
            size: 0,
            begun: Some(path),
        })
    }

    /// Octets of content so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next piece of content, with line ends of any kind.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.size += piece.len() as u64;
        self.file.write_all(piece)
    }

    /// Leaves it to the MTA: when this returns it is on the disk, under a name that the MTA looks for.
    ///
    /// # Errors
    /// When that is not certain: then it is not there.
    pub fn leave(mut self, slip: &Slip) -> io::Result<()> {
        self.file.write_all(slip.text().as_bytes())?;
        self.file.write_all(last_line(self.size).as_bytes())?;
        self.file.flush()?;
        let folder = self.spool.join(FOLDER);
        let place = folder.join(format!("{WHOLE}{}", self.name));
        let file = self.file.get_ref();
        let_read(file, &folder)?;
        file.sync_all()?;
        if let Some(begun) = &self.begun {
            fs::rename(begun, &place)?;
        }
        self.begun = None;
        if let Err(error) = sync_names(&folder, self.file.get_ref()) {
            match fs::remove_file(&place) {
                // The MTA has been faster, and has it in the queue or on the disk.
                Err(gone) if gone.kind() == ErrorKind::NotFound => {}
                _ => return Err(error),
            }
        }
        let _ = ring(&self.spool);
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(begun) = &self.begun {
            let _ = fs::remove_file(begun);
        }
    }
}

/// Lets the owner of the folder read a file, and, if that can be, nobody else.
fn let_read(file: &File, folder: &Path) -> io::Result<()> {
    let (found, of_folder) = (file.metadata()?, fs::metadata(folder)?);
    let mode = if found.uid() == of_folder.uid() {
        0o600
    } else if found.gid() == of_folder.gid() {
        0o640
    } else {
        // There are file systems without groups for folders. Who does not know its name can not open it.
        0o644
    };
    file.set_permissions(Permissions::from_mode(mode))
}

/// Returns when the name of a file in this folder is on the disk. Who may not look into a folder can not sync it: then all
/// of its file system is.
fn sync_names(folder: &Path, file: &File) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => sync_file_system(file),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &File) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildrop::slip;
    use crate::smtp::path::Mailbox;

    fn slip() -> Slip {
        Slip::parse("smtpmta maildrop 1\nfrom <>\nto <amy@a.example>\n").unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// A spool as an MTA makes it, with files that all may read.
    fn spool() -> tempfile::TempDir {
        let spool = tempfile::tempdir().unwrap();
        fs::set_permissions(spool.path(), Permissions::from_mode(0o700)).unwrap();
        for name in OURS {
            let path = spool.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
        spool
    }

    #[test]
    fn others_get_to_the_maildrop_and_to_nothing_else() {
        let spool = spool();
        open_to_all(spool.path()).unwrap();
        assert_eq!(mode(spool.path()), 0o711);
        assert_eq!(mode(&spool.path().join(FOLDER)), OPEN);
        assert_eq!(mode(&spool.path().join(TAKEN)), CLOSED);
        for name in OURS {
            assert_eq!(mode(&spool.path().join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn what_the_owner_closes_stays_closed_and_what_was_begun_is_done() {
        let spool = spool();
        let maildrop = spool.path().join(FOLDER);
        // A crash came before it was opened.
        DirBuilder::new().mode(CLOSED).create(&maildrop).unwrap();
        open_to_all(spool.path()).unwrap();
        assert_eq!(mode(&maildrop), OPEN);
        fs::set_permissions(spool.path(), Permissions::from_mode(0o700)).unwrap();
        open_to_all(spool.path()).unwrap();
        assert_eq!(mode(spool.path()), 0o700);
    }

    #[test]
    fn a_message_is_there_as_a_whole_or_not_at_all() {
        let spool = spool();
        open_to_all(spool.path()).unwrap();
        let maildrop = spool.path().join(FOLDER);
        let mut draft = Draft::begin(spool.path()).unwrap();
        draft.write(b"Hello\n").unwrap();
        assert!(names(&maildrop).iter().all(|name| name.starts_with(BEGUN)));
        drop(draft);
        assert!(names(&maildrop).is_empty());
        let mut draft = Draft::begin(spool.path()).unwrap();
        draft.write(b"Hello\n").unwrap();
        draft.leave(&slip()).unwrap();
        let left = names(&maildrop);
        let path = maildrop.join(&left[0]);
        assert!(left.len() == 1 && is_whole(&path), "{left:?}");
        assert_eq!(mode(&path), 0o600);
        let file = open(&path).unwrap();
        let (read, size) = slip::of(&file, 100, slip::LONGEST).unwrap();
        assert_eq!((read, size), (slip(), 6));
        assert_eq!(slip().to[0].path, Mailbox::parse("amy@a.example").unwrap());
    }

    #[test]
    fn a_ring_is_heard_however_long_the_path_of_the_spool_is() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        for spool in [folder.path(), deep.as_path()] {
            assert!(ring(spool).is_err());
            let bell = hang_bell(spool).unwrap();
            assert_eq!(mode(&spool.join(BELL)), ANYBODY_RINGS);
            assert!(bell.recv(&mut [0; 8]).is_err());
            ring(spool).unwrap();
            assert_eq!(bell.recv(&mut [0; 8]).unwrap(), 1);
            drop(bell);
            assert!(ring(spool).is_err(), "nobody hears it");
            hang_bell(spool).unwrap();
            take_bell_down(spool);
            assert!(!spool.join(BELL).exists());
        }
    }
}
