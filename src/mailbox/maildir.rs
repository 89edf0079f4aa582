//! A recipient's Maildir: takes a message down in `tmp`, brings it to the disk, moves it to `new`.
//!
//! A message has the same file name each time it is delivered to the same recipient, so that a delivery that
//! is repeated finds what it has done, also where somebody has read the message since. Every failure is one to
//! try later. Never holds more than some buffers of the message, and never shows a reader a file that is not
//! whole.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use memchr::memchr;

use crate::crash_point::{CrashPoint, reach};
use crate::mailbox::owner::Owner;
use crate::mailbox::place::{common_folder, place};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::work_queue::id::MessageId;

/// How much of the message is in memory, in octets.
const BUFFER: usize = 32 * 1024;

/// The clock of a file system, a remote one among them, is behind that of the machine by no more than this.
const CLOCKS_DIFFER: Duration = Duration::from_secs(2);

/// One message for one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Where Maildirs are: `%d` is the mailbox's domain, `%u` its local part (see [`place`]).
    pub template: &'a str,
    /// The MTA's own folder, which may be above them.
    pub spool: &'a Path,
    /// The mailbox that it goes into.
    pub mailbox: &'a Mailbox,
    /// Whom it is for: the name of the mailbox, or one whose mail comes there.
    pub recipient: &'a Mailbox,
    /// Whom the envelope says it is from.
    pub reverse_path: &'a ReversePath,
    /// The message's ID.
    pub id: MessageId,
    /// The recipient's number in its message: two recipients of a message may share a Maildir.
    pub number: u64,
    /// Our name.
    pub hostname: &'a str,
    /// The content may be any octets, and is kept as it is (RFC 3030 3).
    pub binary: bool,
    /// It may have been delivered before, and been moved to `cur` since.
    pub may_be_there: bool,
}

/// Why a message was not delivered. Always worth another try.
#[derive(Debug)]
pub struct MaildirError {
    /// What could not be done: `create`, `write`, `sync`, `move to`.
    pub act: &'static str,
    /// The file or directory that it was about; `None` where the message's content could not be read.
    pub path: Option<PathBuf>,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for MaildirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "cannot {} {}: {}", self.act, path.display(), self.error),
            None => write!(f, "cannot {} the message: {}", self.act, self.error),
        }
    }
}

impl std::error::Error for MaildirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Says what was being done to which path when the system refused.
fn refused(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MaildirError {
    let path = path.to_owned();
    move |error| MaildirError {
        act,
        path: Some(path),
        error,
    }
}

impl Delivery<'_> {
    /// Delivers `content` (lines with CRLF, which become LF, unless it is binary) under Return-Path (RFC 5321 4.4)
    /// and Delivered-To, and gives the file. When it returns, the message outlives a power cut. Creates the
    /// Maildir where it is missing. Does nothing if the message is there already. Where we are root, it is done with the
    /// rights of the mailbox's [`Owner`].
    ///
    /// # Errors
    /// Whatever the system refuses, with the path. Nothing stays in `tmp`.
    pub fn deliver(&self, content: impl Read) -> Result<PathBuf, MaildirError> {
        let maildir = place(self.template, self.mailbox);
        let owner = Owner::of(&maildir, self.spool).map_err(refused("look up the owner of", &maildir))?;
        let acting = owner.map(Owner::act).transpose();
        let _acting = acting.map_err(refused("act for the owner of", &maildir))?;
        let name = self.file_name();
        let (new, cur) = (maildir.join("new"), maildir.join("cur"));
        let (arriving, arrived) = (maildir.join("tmp").join(&name), new.join(&name));
        // A crash may have come between the move and its way to the disk.
        if arrived.symlink_metadata().is_ok() {
            sync_directory(&new)?;
            return Ok(arrived);
        }
        if self.may_be_there
            && let Some(read) = self.find_read(&cur, &name).map_err(refused("read", &cur))?
        {
            sync_directory(&cur)?;
            return Ok(read);
        }
        create(&maildir)?;
        self.write(&arriving, content)
            .and_then(|()| fs::rename(&arriving, &arrived).map_err(refused("move to", &arrived)))
            .inspect_err(|_| {
                // What cannot be removed either, readers of Maildirs sweep from `tmp` after 36 hours.
                let _ = fs::remove_file(&arriving);
            })?;
        reach(CrashPoint::LetterMoved);
        sync_directory(&new)?;
        Ok(arrived)
    }

    /// The message in `cur`, where readers move what they have seen, with a colon and flags behind its name.
    fn find_read(&self, cur: &Path, name: &str) -> io::Result<Option<PathBuf>> {
        let changed = match cur.metadata().and_then(|cur| cur.modified()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            changed => changed?,
        };
        // There may be very much in it, but nothing that came after its last change.
        let arrived = u64::try_from(self.id.arrived().0).unwrap_or(0);
        if changed + CLOCKS_DIFFER < UNIX_EPOCH + Duration::from_micros(arrived) {
            return Ok(None);
        }
        let is_it = |other: &OsStr| {
            let flags = other.as_bytes().strip_prefix(name.as_bytes());
            flags.is_some_and(|flags| flags.is_empty() || flags.starts_with(b":"))
        };
        let mut entries = fs::read_dir(cur)?;
        let found = entries.find_map(|entry| match entry {
            Ok(entry) => is_it(&entry.file_name()).then(|| Ok(entry.path())),
            Err(error) => Some(Err(error)),
        });
        found.transpose()
    }

    /// `seconds.ID_number.hostname`: unique, and the same when the delivery is repeated.
    fn file_name(&self) -> String {
        // The two characters that a Maildir's names may not hold are written as its author says.
        let hostname = self.hostname.replace('/', "\\057").replace(':', "\\072");
        format!(
            "{}.{}_{}.{hostname}",
            self.id.arrived().0 / 1_000_000,
            self.id,
            self.number
        )
    }

    fn write(&self, path: &Path, mut content: impl Read) -> Result<(), MaildirError> {
        // What a crash left goes; a link that somebody laid there is not followed.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(refused("replace", path)(error));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(refused("create", path))?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let end = if self.binary { "\r\n" } else { "\n" };
        write!(
            out,
            "Return-Path: <{}>{end}Delivered-To: {}{end}",
            self.reverse_path, self.recipient
        )
        .map_err(refused("write", path))?;
        if self.binary {
            io::copy(&mut content, &mut out).map_err(refused("write", path))?;
        } else {
            copy_lines(content, &mut out, path)?;
        }
        let file = out
            .into_inner()
            .map_err(|error| refused("write", path)(error.into_error()))?;
        reach(CrashPoint::LetterWritten);
        file.sync_all().map_err(refused("sync", path))
    }
}

/// Copies with LF for each CRLF; a CR that stands alone stays.
fn copy_lines(mut content: impl Read, out: &mut impl Write, path: &Path) -> Result<(), MaildirError> {
    let mut buffer = vec![0; BUFFER];
    let mut held_cr = false;
    loop {
        let length = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(MaildirError {
                    act: "read",
                    path: None,
                    error,
                });
            }
        };
        write_lines(&buffer[..length], &mut held_cr, out).map_err(refused("write", path))?;
    }
    if held_cr {
        out.write_all(b"\r").map_err(refused("write", path))?;
    }
    Ok(())
}

fn write_lines(mut rest: &[u8], held_cr: &mut bool, out: &mut impl Write) -> io::Result<()> {
    while !rest.is_empty() {
        if std::mem::take(held_cr) && rest[0] != b'\n' {
            out.write_all(b"\r")?;
        }
        let cr = memchr(b'\r', rest);
        *held_cr = cr.is_some();
        out.write_all(&rest[..cr.unwrap_or(rest.len())])?;
        rest = cr.map_or(&[], |cr| &rest[cr + 1..]);
    }
    Ok(())
}

/// Creates the parts of a Maildir that are missing. `cur` comes last: where it is all else is on the disk. Where it is not,
/// a crash may have come between the making of a directory and its way to the disk, and a power cut would take the mail
/// along that is in it.
fn create(maildir: &Path) -> Result<(), MaildirError> {
    let is_complete = maildir.join("cur").is_dir();
    for part in ["tmp", "new"] {
        create_directory(&maildir.join(part))?;
    }
    if is_complete {
        return Ok(());
    }
    for above in maildir.ancestors() {
        let is_here = above.as_os_str().is_empty();
        match sync_directory(if is_here { Path::new(".") } else { above }) {
            // We can not have made anything in a directory that is closed to us.
            Err(refused) if refused.error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    create_directory(&maildir.join("cur"))
}

/// Creates a directory that its owner alone may enter, and what is missing above it, so that they outlive a
/// power cut.
fn create_directory(path: &Path) -> Result<(), MaildirError> {
    let create = || DirBuilder::new().mode(0o700).create(path);
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let created = match (create(), above) {
        (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            create_directory(above)?;
            create()
        }
        (created, _) => created,
    };
    match created {
        Ok(()) => sync_directory(above.unwrap_or(Path::new("."))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(refused("create", path)(error)),
    }
}

/// Makes the folder below which all Maildirs of `template` lie, where it is missing, as they are made themselves.
///
/// # Errors
/// What the system says.
pub fn make_folder(template: &str) -> Result<(), MaildirError> {
    let folder = common_folder(template);
    if folder.is_dir() {
        return Ok(());
    }
    let owner = Owner::of(&folder, Path::new("/")).map_err(refused("look up the owner of", &folder))?;
    let acting = owner.map(Owner::act).transpose();
    let _acting = acting.map_err(refused("act for the owner of", &folder))?;
    create_directory(&folder)
}

/// Never waits for anybody: its owner may have put something else in the place of a directory, such as a FIFO.
fn sync_directory(path: &Path) -> Result<(), MaildirError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NONBLOCK)
        .open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(refused("sync", path))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    struct World {
        directory: TempDir,
        template: String,
        recipient: Mailbox,
        mailbox: Mailbox,
        reverse_path: ReversePath,
        spool: PathBuf,
    }

    fn world() -> World {
        let directory = tempfile::tempdir().unwrap();
        World {
            template: format!("{}/mail/%d/%u", directory.path().display()),
            spool: PathBuf::from("/no/such/spool"),
            directory,
            recipient: Mailbox::parse("Bob@example.org").unwrap(),
            mailbox: Mailbox::parse("bob@example.org").unwrap(),
            reverse_path: ReversePath(Mailbox::parse("ann@example.net").into_iter().next()),
        }
    }

    impl World {
        fn delivery(&self, number: u64) -> Delivery<'_> {
            Delivery {
                template: &self.template,
                spool: &self.spool,
                recipient: &self.recipient,
                mailbox: &self.mailbox,
                reverse_path: &self.reverse_path,
                id: MessageId(1_795_458_001_000_042),
                number,
                hostname: "mx:1/2",
                binary: false,
                may_be_there: false,
            }
        }

        fn maildir(&self) -> PathBuf {
            self.directory.path().join("mail/example.org/bob")
        }

        fn names(&self, part: &str) -> Vec<String> {
            let entries = fs::read_dir(self.maildir().join(part)).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        }
    }

    #[test]
    fn below_a_folder_of_somebody_else_all_is_his_and_no_link_leads_where_he_may_not_go() {
        use std::os::unix::fs::{MetadataExt, chown, symlink};
        if !nix::unistd::Uid::effective().is_root() {
            return;
        }
        let world = world();
        let root = world.directory.path();
        // As /home: everybody may pass.
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        let home = root.join("mail/example.org");
        fs::create_dir_all(&home).unwrap();
        chown(&home, Some(4242), Some(4343)).unwrap();
        let file = world.delivery(0).deliver(&b"hello"[..]).unwrap();
        let maildir = world.maildir();
        for path in [
            &maildir,
            &maildir.join("tmp"),
            &maildir.join("cur"),
            &maildir.join("new"),
            &file,
        ] {
            let found = path.metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (4242, 4343), "{}", path.display());
        }
        // A link that the owner lays, to where only root may go.
        let secret = root.join("secret");
        fs::create_dir(&secret).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_dir_all(maildir.join("new")).unwrap();
        symlink(&secret, maildir.join("new")).unwrap();
        let refused = world.delivery(1).deliver(&b"hello"[..]).unwrap_err();
        assert_eq!(refused.error.kind(), io::ErrorKind::PermissionDenied, "{refused}");
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 0);
        // A folder of his in the place of one of ours is no way round.
        fs::remove_dir_all(&maildir).unwrap();
        symlink(&secret, &maildir).unwrap();
        chown(&home, Some(0), Some(0)).unwrap();
        nix::unistd::fchownat(
            nix::fcntl::AT_FDCWD,
            &maildir,
            Some(4242.into()),
            Some(4343.into()),
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .unwrap();
        assert!(world.delivery(2).deliver(&b"hello"[..]).is_err());
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 0);
        // And we are ourselves again.
        fs::write(secret.join("ours"), "").unwrap();
        assert_eq!(secret.join("ours").metadata().unwrap().uid(), 0);
    }

    /// One whose mailbox is in a folder of this mode.
    fn world_in_the_open(mode: u32) -> World {
        let mut world = world();
        let open = world.directory.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        world.template = format!("{}/mail/%u", open.display());
        world
    }

    #[test]
    fn a_folder_that_others_can_change_is_not_trusted_to_stay_ours() {
        use std::os::unix::fs::{MetadataExt, chown, symlink};
        if !nix::unistd::Uid::effective().is_root() {
            return;
        }
        // The mode of the folder above the mailbox; whether the mailbox is there before, and whose; whose the message is
        // then, if it is delivered.
        for (mode, there, delivered_to) in [
            (0o755, None, Some(0)),
            (0o1777, None, Some(0)),
            (0o1777, Some(0), Some(0)),
            (0o1777, Some(4242), Some(4242)),
            (0o777, None, None),
            (0o2775, None, None),
            (0o2775, Some(0), None),
            (0o2775, Some(4242), Some(4242)),
        ] {
            let mut world = world();
            let case = format!("{mode:o} {there:?}");
            let root = world.directory.path();
            fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
            // A link of ours is followed, and what is behind it looked at.
            let open = root.join("open");
            fs::create_dir(&open).unwrap();
            chown(&open, None, Some(4545)).unwrap();
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            symlink("open/../open/./", root.join("mail")).unwrap();
            world.template = format!("{}/mail/%u", root.display());
            let maildir = world.directory.path().join("open/bob");
            if let Some(user) = there {
                fs::create_dir(&maildir).unwrap();
                chown(&maildir, Some(user), Some(user)).unwrap();
            }
            // Twice: what we have made ourselves is as good as what we find.
            for number in 0..2 {
                match (world.delivery(number).deliver(&b"hello"[..]), delivered_to) {
                    (Ok(file), Some(user)) => {
                        for path in [&maildir, &maildir.join("new"), &file] {
                            assert_eq!(path.metadata().unwrap().uid(), user, "{case}");
                        }
                    }
                    (Err(refused), None) => {
                        let refused = refused.to_string();
                        assert!(
                            refused.contains("open is ours, and others may"),
                            "{case} {refused}"
                        );
                        assert_eq!(maildir.exists(), there.is_some(), "{case}");
                    }
                    (other, _) => panic!("{case}: {other:?}"),
                }
            }
        }
        // What others could put in the place of the spool they could put in that of the queue.
        let mut open = world_in_the_open(0o777);
        assert!(open.delivery(0).deliver(&b"hello"[..]).is_err());
        open.spool = open.directory.path().join("open/spool");
        fs::create_dir(&open.spool).unwrap();
        open.template = format!("{}/mail/%u", open.spool.display());
        let file = open.delivery(0).deliver(&b"hello"[..]).unwrap();
        assert_eq!(file.metadata().unwrap().uid(), 0);
        // Root's group is root.
        let open = world_in_the_open(0o775);
        chown(open.directory.path().join("open"), None, Some(0)).unwrap();
        open.delivery(0).deliver(&b"hello"[..]).unwrap();
        // The same holds for the mailbox itself.
        let world = world();
        fs::create_dir_all(world.maildir()).unwrap();
        fs::set_permissions(world.maildir(), fs::Permissions::from_mode(0o775)).unwrap();
        chown(world.maildir(), None, Some(4545)).unwrap();
        assert!(world.delivery(0).deliver(&b"hello"[..]).is_err());
        fs::set_permissions(world.maildir(), fs::Permissions::from_mode(0o755)).unwrap();
        world.delivery(0).deliver(&b"hello"[..]).unwrap();
    }

    #[test]
    fn no_link_leads_where_a_group_may_go_in_which_its_owner_is_not() {
        use std::os::unix::fs::{MetadataExt, chown, symlink};
        if !nix::unistd::Uid::effective().is_root() {
            return;
        }
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let (known, own) = (nobody.uid.as_raw(), nobody.gid.as_raw());
        // Whose the folder of the mailbox is; whose the secret's group is; and of which group what is delivered is without
        // a link.
        for (user, group, secret, delivered) in [
            // A group of this process.
            (4242, 4343, 4545, 4343),
            // One that the folder has, for who made it or what is above it, and not its owner.
            (4242, 0, 0, 4242),
            (known, 0, 0, own),
        ] {
            let world = world();
            let case = format!("{user}:{group} {secret}");
            let root = world.directory.path();
            fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
            let home = root.join("mail/example.org");
            fs::create_dir_all(&home).unwrap();
            chown(&home, Some(user), Some(group)).unwrap();
            let hidden = root.join("hidden");
            fs::create_dir(&hidden).unwrap();
            chown(&hidden, Some(0), Some(secret)).unwrap();
            fs::set_permissions(&hidden, fs::Permissions::from_mode(0o770)).unwrap();
            // This thread's alone, as after a login.
            let groups = [
                rustix::process::Gid::from_raw(0),
                rustix::process::Gid::from_raw(4545),
            ];
            rustix::thread::set_thread_groups(&groups).unwrap();
            let file = world.delivery(0).deliver(&b"hello"[..]).unwrap();
            assert_eq!(file.metadata().unwrap().gid(), delivered, "{case}");
            fs::remove_dir_all(world.maildir().join("new")).unwrap();
            symlink(&hidden, world.maildir().join("new")).unwrap();
            rustix::thread::set_thread_groups(&groups).unwrap();
            let refused = world.delivery(1).deliver(&b"hello"[..]);
            assert_eq!(fs::read_dir(&hidden).unwrap().count(), 0, "{case}");
            assert_eq!(
                refused.unwrap_err().error.kind(),
                io::ErrorKind::PermissionDenied,
                "{case}"
            );
        }
    }

    #[test]
    fn a_fifo_in_the_place_of_a_directory_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("new");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let (said, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || said.send(sync_directory(&fifo)));
        let refused = hears.recv_timeout(Duration::from_secs(5));
        let refused = refused.expect("it waits for somebody who writes").unwrap_err();
        assert_eq!(refused.error.kind(), io::ErrorKind::NotADirectory, "{refused}");
    }

    #[test]
    fn content_without_lines_stays_as_it_is() {
        let world = world();
        let content = b"Subject: s\r\n\r\n\xff\n.\n\r.\r\r\n\0";
        let binary = Delivery {
            binary: true,
            ..world.delivery(0)
        };
        let file = binary.deliver(&content[..]).unwrap();
        let head = b"Return-Path: <ann@example.net>\r\nDelivered-To: Bob@example.org\r\n";
        assert_eq!(fs::read(file).unwrap(), [&head[..], content].concat());
    }

    #[test]
    fn a_message_arrives_in_new_with_its_trace_fields() {
        let world = world();
        let file = world
            .delivery(0)
            .deliver(&b"Subject: s\r\n\r\nhello\r\n"[..])
            .unwrap();
        assert_eq!(
            file,
            world
                .maildir()
                .join("new/1795458001.000660F5A45BD66A_0.mx\\0721\\0572")
        );
        assert_eq!(
            fs::read_to_string(file).unwrap(),
            "Return-Path: <ann@example.net>\nDelivered-To: Bob@example.org\nSubject: s\n\nhello\n"
        );
        assert!(world.names("tmp").is_empty() && world.names("cur").is_empty());
    }

    #[test]
    fn the_null_path_is_written_as_such() {
        let mut world = world();
        world.reverse_path = ReversePath(None);
        let file = world.delivery(0).deliver(&b""[..]).unwrap();
        assert_eq!(
            fs::read_to_string(file).unwrap(),
            "Return-Path: <>\nDelivered-To: Bob@example.org\n"
        );
    }

    #[test]
    fn only_the_owner_may_read_it() {
        let world = world();
        let file = world.delivery(0).deliver(&b""[..]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        for directory in file.ancestors().skip(1).take(4) {
            assert_eq!(mode(directory), 0o700, "{}", directory.display());
        }
    }

    #[test]
    fn a_repeated_delivery_leaves_one_copy_and_another_recipient_makes_another() {
        let world = world();
        let first = world.delivery(0).deliver(&b"first\r\n"[..]).unwrap();
        assert_eq!(world.delivery(0).deliver(&b"again\r\n"[..]).unwrap(), first);
        assert!(fs::read_to_string(&first).unwrap().ends_with("first\n"));
        world.delivery(1).deliver(&b"second\r\n"[..]).unwrap();
        assert_eq!(world.names("new").len(), 2);
    }

    #[test]
    fn a_message_that_somebody_has_read_since_is_found_in_cur() {
        for flags in ["", ":2,", ":2,FS"] {
            let world = world();
            let again = Delivery {
                may_be_there: true,
                ..world.delivery(0)
            };
            let first = again.deliver(&b"x\r\n"[..]).unwrap();
            let cur = world.maildir().join("cur");
            let read = cur.join(format!("{}{flags}", again.file_name()));
            // Its name is the beginning of this one's.
            fs::write(cur.join(format!("{}.other:2,S", again.file_name())), "").unwrap();
            fs::rename(&first, &read).unwrap();
            // Whatever the time is here: read some seconds after it had arrived.
            let changed = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_795_458_001 + seconds);
            File::open(&cur).unwrap().set_modified(changed(5)).unwrap();
            assert_eq!(again.deliver(&b"x\r\n"[..]).unwrap(), read);
            assert!(world.names("new").is_empty() && world.names("tmp").is_empty());
            // It is not looked for where it can not be, nor where it has never been delivered.
            assert_eq!(world.delivery(0).deliver(&b"x\r\n"[..]).unwrap(), first);
            fs::remove_file(&first).unwrap();
            let earlier = UNIX_EPOCH + Duration::from_secs(1_795_457_000);
            File::open(&cur).unwrap().set_modified(earlier).unwrap();
            assert_eq!(again.deliver(&b"x\r\n"[..]).unwrap(), first);
        }
    }

    #[test]
    fn what_a_crash_left_in_tmp_is_replaced() {
        let world = world();
        let delivery = world.delivery(0);
        fs::create_dir_all(world.maildir().join("tmp")).unwrap();
        fs::write(
            world.maildir().join("tmp").join(delivery.file_name()),
            "half of a much longer mess",
        )
        .unwrap();
        let file = delivery.deliver(&b"x"[..]).unwrap();
        assert!(
            fs::read_to_string(file)
                .unwrap()
                .ends_with("Delivered-To: Bob@example.org\nx")
        );
    }

    #[test]
    fn a_content_that_breaks_off_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("bad disk"))
            }
        }
        let world = world();
        let error = world.delivery(0).deliver(b"half\r\n".chain(Broken)).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the message: bad disk");
        assert!(world.names("tmp").is_empty() && world.names("new").is_empty());
    }

    #[test]
    fn an_obstacle_is_named() {
        let world = world();
        let obstacle = world.directory.path().join("mail");
        fs::write(&obstacle, "").unwrap();
        let error = world.delivery(0).deliver(&b""[..]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot create {}", obstacle.display())),
            "{error}"
        );
        assert!(error.contains("Not a directory"), "{error}");
    }

    #[test]
    fn a_name_with_dots_and_slashes_stays_below() {
        let mut world = world();
        world.mailbox = Mailbox::parse("\"../../x\"@example.org").unwrap();
        let file = world.delivery(0).deliver(&b""[..]).unwrap();
        assert!(file.starts_with(world.directory.path().join("mail/example.org/%2E.%2F..%2Fx/new")));
    }

    proptest! {
        #[test]
        fn every_crlf_becomes_lf_and_nothing_else_changes(
            chunks in prop::collection::vec("[\r\nx]{0,6}", 0..8),
        ) {
            let (mut out, mut held_cr) = (Vec::new(), false);
            for chunk in &chunks {
                write_lines(chunk.as_bytes(), &mut held_cr, &mut out).unwrap();
            }
            if held_cr {
                out.push(b'\r');
            }
            prop_assert_eq!(String::from_utf8(out).unwrap(), chunks.concat().replace("\r\n", "\n"));
        }
    }
}
