//! Whose a mailbox is, where the MTA runs as root: that of the first folder on the way to it that is neither root's nor the
//! MTA's own.
//!
//! What is done to the mailbox is done with the rights of its owner, for this thread alone: so files and folders are the
//! owner's, its quota counts, and no link that it lays leads anywhere that it could not go itself. Where the way is all
//! ours, it is done with our own rights: so nobody else may be able to change that way. Never has more rights than before.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf, absolute};

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};

/// So many links on a way are one that leads in circles.
pub const MOST_LINKS: u32 = 40;

/// Others may take away only what is theirs.
pub const STICKY: u32 = 0o1000;

/// User and group to whom a folder belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Uid,
    /// The group.
    pub group: Gid,
}

impl Owner {
    /// Whose `mailbox` is, if it is somebody else's and we may act for everybody. The way there is ours or root's as far as
    /// it was looked at, links of ours among it, and nobody else can change it: where others might make the next folder on
    /// it before us, as in `/tmp`, it is made here. In the `spool`, if that is ours, the way begins there: whoever could put
    /// another in its place had all of the queue.
    ///
    /// # Errors
    /// What the system says; where others may put what they like in the place of a folder of ours; where nobody knows
    /// what the owner may do.
    pub fn of(mailbox: &Path, spool: &Path) -> io::Result<Option<Owner>> {
        Owner::on_the_way(mailbox, spool, true)
    }

    /// The same as far as it is known beforehand: nothing is made.
    ///
    /// # Errors
    /// As [`Owner::of`].
    pub fn look(mailbox: &Path, spool: &Path) -> io::Result<Option<Owner>> {
        Owner::on_the_way(mailbox, spool, false)
    }

    fn on_the_way(mailbox: &Path, spool: &Path, makes: bool) -> io::Result<Option<Owner>> {
        let we = Uid::effective();
        if !we.is_root() {
            return Ok(None);
        }
        let (mailbox, spool) = (absolute(mailbox)?, absolute(spool)?);
        let is_ours = || fs::metadata(&spool).is_ok_and(|spool| spool.uid() == we.as_raw());
        // Without a link in it, since those are gone.
        let (mut here, rest) = match mailbox.strip_prefix(&spool) {
            Ok(rest) if is_ours() => (spool.clone(), rest),
            _ => (PathBuf::from("/"), mailbox.as_path()),
        };
        let mut way = parts(rest);
        let mut above = fs::metadata(&here)?;
        let mut links = 0;
        while let Some(part) = way.pop() {
            if above.uid() != we.as_raw() {
                return Owner::of_folder(&above).map(Some);
            }
            let is_open = above.is_dir() && may_be_changed(&above);
            // Nobody can change what is above.
            let is_ours_to_keep = !is_open || above.mode() & STICKY != 0 || part == "..";
            let part = here.join(part);
            let looked = match fs::symlink_metadata(&part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_open && is_ours_to_keep => {
                    if !makes {
                        return Ok(None);
                    }
                    make(&part).and_then(|()| fs::symlink_metadata(&part))
                }
                looked => looked,
            };
            let found = match looked {
                Ok(found) if found.uid() != we.as_raw() => return Owner::of_folder(&found).map(Some),
                Ok(found) if is_ours_to_keep => found,
                // What is missing is made, and is ours; what is in the way is told of by whoever makes it.
                Err(error) if is_no_folder(&error) && !is_open => return Ok(None),
                Err(error) if !is_no_folder(&error) => return Err(error),
                _ => return Err(can_be_changed(&here)),
            };
            if found.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                // A link of ours leads where we want, over as many folders as it likes.
                let target = here.join(fs::read_link(&part)?);
                way.extend(parts(&target));
                here = PathBuf::from("/");
                above = fs::symlink_metadata(&here)?;
            } else {
                (here, above) = (part, found);
            }
        }
        if above.is_dir() && may_be_changed(&above) {
            return Err(can_be_changed(&here));
        }
        Ok(None)
    }

    /// The owner of a folder, or of a link. The folder's group is only its owner's where he is in it: whoever makes a
    /// folder in one of a group's gets that group.
    fn of_folder(found: &Metadata) -> io::Result<Owner> {
        let (user, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
        let is_unknown = |group: Gid| known(Group::from_gid(group)).map(|found| found.is_none());
        let group = match known(User::from_uid(user))? {
            Some(known) if known.gid == group => group,
            Some(user) => match known(Group::from_gid(group))? {
                Some(found) if found.mem.contains(&user.name) => group,
                _ => user.gid,
            },
            // Nobody is in a group that nobody knows.
            None if is_unknown(group)? => group,
            None if is_unknown(Gid::from_raw(user.as_raw()))? => Gid::from_raw(user.as_raw()),
            None => {
                return Err(io::Error::other(format!(
                    "no user {user} is known here, so that nobody can tell whether he is in group {group}"
                )));
            }
        };
        Ok(Owner { user, group })
    }

    /// From now on this thread has the owner's rights to files, until the guard is dropped.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn act(self) -> io::Result<Acting> {
        // Dropped, it undoes whatever came of this.
        let acting = Acting;
        if leave_groups() && switch(self.user, self.group) {
            Ok(acting)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

/// Whether others may make files in a folder of root, and take away what is there but for what is sticky: everybody, or its
/// group, if that is not root's.
pub fn may_be_changed(folder: &Metadata) -> bool {
    folder.mode() & 0o002 != 0 || folder.mode() & 0o020 != 0 && folder.gid() != 0
}

/// What the system knows of a user or a group. Where there are no files of them it says that in many ways (getpwnam(3)).
fn known<T>(found: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => Ok(found?),
    }
}

/// The parts of a path, the last one first. What leads up again has to be looked at as well.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts
}

/// Makes a folder, if nobody else has made anything there meanwhile.
fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => Ok(()),
        // It outlives a power cut.
        Ok(()) => fs::File::open(folder.parent().unwrap_or(folder))?.sync_all(),
    }
}

fn can_be_changed(folder: &Path) -> io::Error {
    let folder = folder.display();
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{folder} is ours, and others may put in it what they like: expected one that they may not write to \
             (chmod go-w {folder}), or a mailbox that is its user's already"
        ),
    )
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// This thread has somebody else's rights.
#[derive(Debug)]
pub struct Acting;

impl Drop for Acting {
    fn drop(&mut self) {
        switch(Uid::effective(), Gid::effective());
    }
}

/// Whether this thread has the rights of these two now.
#[cfg(target_os = "linux")]
fn switch(user: Uid, group: Gid) -> bool {
    use nix::unistd::{setfsgid, setfsuid};
    // The group needs the rights that the user may not have. Each call says what held before: so the second one tells what
    // came of the first.
    setfsgid(group);
    setfsuid(user);
    setfsgid(group) == group && setfsuid(user) == user
}

/// Whether this thread is in no further groups now. Who started us may be in many, and root needs none of them.
#[cfg(target_os = "linux")]
fn leave_groups() -> bool {
    let is_in_none = || nix::unistd::getgroups().is_ok_and(|groups| groups.is_empty());
    is_in_none() || rustix::thread::set_thread_groups(&[]).is_ok()
}

/// Other systems have no rights for one thread.
#[cfg(not(target_os = "linux"))]
fn leave_groups() -> bool {
    true
}

/// Other systems have no rights for one thread.
#[cfg(not(target_os = "linux"))]
fn switch(user: Uid, group: Gid) -> bool {
    user == Uid::effective() && group == Gid::effective()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_are_no_files_of_users_nobody_is_known_and_trouble_is_trouble() {
        for says in [Errno::ENOENT, Errno::ESRCH, Errno::EBADF, Errno::EPERM] {
            assert_eq!(known::<()>(Err(says)).unwrap(), None);
        }
        assert_eq!(known(Ok(Some(1))).unwrap(), Some(1));
        assert!(known::<()>(Err(Errno::EIO)).is_err());
    }
}
