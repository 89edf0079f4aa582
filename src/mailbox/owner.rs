//! Whose a mailbox is, where the MTA runs as root: that of the first folder on the way to it that is neither root's nor the
//! MTA's own.
//!
//! What is done to the mailbox is done with the rights of its owner, for this thread alone: so files and folders are the
//! owner's, its quota counts, and no link that it lays leads anywhere that it could not go itself. Never asks who the users
//! of the system are, and never has more rights than before.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, absolute};

use nix::unistd::{Gid, Uid};

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
    /// it was looked at, so that nobody else can have changed it since.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(mailbox: &Path) -> io::Result<Option<Owner>> {
        let we = Uid::effective();
        if !we.is_root() {
            return Ok(None);
        }
        let mailbox = absolute(mailbox)?;
        let mut way: Vec<&Path> = mailbox.ancestors().collect();
        way.reverse();
        for folder in way {
            let looked = fs::symlink_metadata(folder).and_then(|found| {
                // A link of ours leads where we want.
                let is_followed = found.is_symlink() && found.uid() == we.as_raw();
                if is_followed {
                    fs::metadata(folder)
                } else {
                    Ok(found)
                }
            });
            match looked {
                Ok(found) if found.uid() == we.as_raw() => {}
                Ok(found) => {
                    return Ok(Some(Owner {
                        user: Uid::from_raw(found.uid()),
                        group: Gid::from_raw(found.gid()),
                    }));
                }
                // What is missing is made, and is ours; what is in the way is told of by whoever makes it.
                Err(error) if is_no_folder(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// From now on this thread has the owner's rights to files, until the guard is dropped.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn act(self) -> io::Result<Acting> {
        // Dropped, it undoes whatever came of this.
        let acting = Acting;
        if switch(self.user, self.group) {
            Ok(acting)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
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

/// Other systems have no rights for one thread.
#[cfg(not(target_os = "linux"))]
fn switch(user: Uid, group: Gid) -> bool {
    user == Uid::effective() && group == Gid::effective()
}
