//! What a work queue stands on: the file system of its spool, who owns it, and who else may come near. Asked at the start,
//! which logs what is wrong with it, and by `doctor`.
//!
//! [`Ground::objections`] is pure. Nothing here changes a mode, and nobody is kept from starting.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::statfs;
use nix::unistd::Uid;

/// What is known of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The kind of its file system: `f_type` of statfs(2), its lower 32 bits.
    pub file_system: u32,
    /// The mode of the folder, its lower 12 bits.
    pub mode: u32,
    /// Who owns the folder.
    pub owner: u32,
    /// The mode and the owner of `queue.db`, if there is one.
    pub database: Option<(u32, u32)>,
    /// As whom the MTA runs, or shall run.
    pub user: u32,
}

/// What is wrong with a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The file system is in memory.
    InMemory(&'static str),
    /// It is that of a container, and goes with it.
    OfContainer,
    /// It is another machine's: SQLite's log needs memory that is shared, and locks that hold.
    OfNetwork(&'static str),
    /// Others may write into the folder.
    Writable(u32),
    /// Others may see which files are in the folder.
    Listable(u32),
    /// Others may read the database: letters.
    Readable(u32),
    /// Others may write into the database.
    Changeable(u32),
    /// The folder, or the database, is somebody else's.
    Foreign {
        /// Which.
        what: &'static str,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: u32,
    },
}

/// File systems by their kind: those to which there is something to be said, and some more that have a name.
const FILE_SYSTEMS: [(u32, &str); 17] = [
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x6175_6673, "aufs"),
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6573_5546, "fuse"),
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
];

/// The name of a file system, where it has one here.
#[must_use]
pub fn file_system(kind: u32) -> Option<&'static str> {
    let known = FILE_SYSTEMS.iter().find(|(known, _)| *known == kind);
    known.map(|(_, name)| *name)
}

impl Ground {
    /// Looks at the spool, on which an MTA runs, or shall run, as the user who asks.
    ///
    /// # Errors
    /// When the folder can not be looked at.
    pub fn of(spool: &Path) -> io::Result<Ground> {
        let folder = fs::metadata(spool)?;
        let database = fs::metadata(spool.join("queue.db")).ok();
        Ok(Ground {
            file_system: kind_at(spool)?,
            mode: folder.mode() & 0o7777,
            owner: folder.uid(),
            database: database.map(|database| (database.mode() & 0o7777, database.uid())),
            user: Uid::effective().as_raw(),
        })
    }

    /// What the first start makes on a file system of this kind.
    #[must_use]
    pub fn made_on(file_system: u32) -> Ground {
        Ground {
            file_system,
            mode: 0o700,
            owner: 0,
            database: None,
            user: 0,
        }
    }

    /// What is wrong with it, the heaviest first.
    #[must_use]
    pub fn objections(&self) -> Vec<Objection> {
        const OTHERS_WRITE: u32 = 0o022;
        const OTHERS_READ: u32 = 0o044;
        let mut found = Vec::new();
        let (database, owner) = self.database.unwrap_or((0o600, self.owner));
        if self.mode & OTHERS_WRITE != 0 {
            found.push(Objection::Writable(self.mode));
        }
        if database & OTHERS_WRITE != 0 {
            found.push(Objection::Changeable(database));
        }
        // Whoever gets through the folder reads what may be read in it.
        if database & OTHERS_READ != 0 && self.mode & 0o011 != 0 {
            found.push(Objection::Readable(database));
        }
        for (what, owner) in [("the spool", self.owner), ("queue.db", owner)] {
            if owner != self.user {
                let user = self.user;
                found.push(Objection::Foreign { what, owner, user });
            }
        }
        match file_system(self.file_system) {
            Some(name @ ("tmpfs" | "ramfs")) => found.push(Objection::InMemory(name)),
            Some("overlay" | "aufs") => found.push(Objection::OfContainer),
            Some(name @ ("nfs" | "smb" | "cifs" | "smb2" | "9p" | "ceph" | "afs" | "fuse")) => {
                found.push(Objection::OfNetwork(name));
            }
            _ => {}
        }
        if self.mode & OTHERS_READ != 0 {
            found.push(Objection::Listable(self.mode));
        }
        found
    }
}

/// The kind of the file system at `path`.
///
/// # Errors
/// Whatever the system says.
pub fn kind_at(path: &Path) -> io::Result<u32> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // the kinds have 32 bits; the type is the system's
    Ok(statfs(path)?.filesystem_type().0 as u32)
}

impl Objection {
    /// Whether mail may be lost, read or forged by it, and not only in some places, or none is taken at all.
    #[must_use]
    pub fn is_grave(self) -> bool {
        match self {
            Objection::Writable(_) | Objection::Changeable(_) | Objection::Readable(_) => true,
            // Root may do it all.
            Objection::Foreign { user, .. } => user != 0,
            Objection::InMemory(_)
            | Objection::OfContainer
            | Objection::OfNetwork(_)
            | Objection::Listable(_) => false,
        }
    }

    /// What to do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Objection::InMemory(_) => "put --spool on a disk",
            Objection::OfContainer => "mount a volume for --spool",
            Objection::OfNetwork(_) => "put --spool on a disk of this machine",
            Objection::Writable(_) | Objection::Listable(_) => "chmod 711 it",
            Objection::Readable(_) | Objection::Changeable(_) => "chmod 600 it",
            Objection::Foreign { .. } => "chown it, or start the MTA as that user",
        }
    }
}

/// What is wrong, in a sentence without its end.
impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::InMemory(name) => {
                write!(
                    f,
                    "the spool is in memory ({name}): what waits in it does not outlive a reboot"
                )
            }
            Objection::OfContainer => f.write_str(
                "the spool is on the overlay of a container: what waits in it goes with the container",
            ),
            Objection::OfNetwork(name) => write!(
                f,
                "the spool is on {name}: SQLite's write-ahead log is not safe where another machine, or program, \
                 keeps the files"
            ),
            Objection::Writable(mode) => write!(f, "others may write into the spool (mode {mode:04o})"),
            Objection::Listable(mode) => {
                write!(f, "others may see which files are in the spool (mode {mode:04o})")
            }
            Objection::Readable(mode) => write!(f, "others may read queue.db (mode {mode:04o})"),
            Objection::Changeable(mode) => write!(f, "others may write into queue.db (mode {mode:04o})"),
            Objection::Foreign { what, owner, user } => {
                write!(f, "{what} belongs to the user of number {owner}, not to {user}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SOUND: Ground = Ground {
        file_system: 0xef53,
        mode: 0o711,
        owner: 8,
        database: Some((0o600, 8)),
        user: 8,
    };

    #[test]
    fn a_spool_on_a_disk_that_others_only_pass_through_is_sound_and_all_else_is_told() {
        use Objection::*;
        let ext4 = SOUND;
        let on = |file_system| Ground { file_system, ..ext4 };
        let with = |mode| Ground { mode, ..ext4 };
        let kept = |mode| Ground {
            database: Some((mode, 8)),
            ..ext4
        };
        let run_by = |user| Ground { user, ..ext4 };
        let foreign = |what| Foreign {
            what,
            owner: 8,
            user: 9,
        };
        for (ground, expected) in [
            (ext4, &[][..]),
            (with(0o700), &[]),
            (with(0o2711), &[]),
            (on(0x1234_5678), &[]),
            (on(0x9123_683e), &[]),
            (on(0x0102_1994), &[InMemory("tmpfs")]),
            (on(0x8584_58f6), &[InMemory("ramfs")]),
            (on(0x794c_7630), &[OfContainer]),
            (on(0x6969), &[OfNetwork("nfs")]),
            (with(0o755), &[Listable(0o755)]),
            (with(0o777), &[Writable(0o777), Listable(0o777)]),
            (with(0o1770), &[Writable(0o1770), Listable(0o1770)]),
            (kept(0o644), &[Readable(0o644)]),
            (kept(0o660), &[Changeable(0o660), Readable(0o660)]),
            (run_by(9), &[foreign("the spool"), foreign("queue.db")]),
        ] {
            assert_eq!(ground.objections(), expected, "{ground:?}");
        }
        // Nobody comes as far.
        let behind = Ground {
            mode: 0o700,
            ..kept(0o644)
        };
        assert_eq!(behind.objections(), []);
    }

    #[test]
    fn the_ground_of_a_folder_is_what_the_system_says_of_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let ground = Ground::of(folder.path()).unwrap();
        assert_eq!((ground.mode, ground.database), (0o711, None));
        assert!(ground.objections().iter().all(|objection| !objection.is_grave()));
        fs::write(folder.path().join("queue.db"), "").unwrap();
        assert!(Ground::of(folder.path()).unwrap().database.is_some());
        assert!(Ground::of(&folder.path().join("none")).is_err());
    }
}
