//! The folder of content files: where they are begun, and how it is synced once for all who wait for it.
//!
//! Never syncs a file: each belongs to whoever writes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::content::remove;
use crate::sync::{Condvar, Mutex};

/// The folder of the content files, below the spool.
pub const FOLDER: &str = "content";

/// What the name of a nursery begins with.
const NURSERY: &str = "new-";

/// So many files are begun in one nursery.
const MOST_BORN: usize = 1000;

/// A folder whose names have to be on the disk.
#[derive(Debug)]
pub(super) struct ContentFolder {
    path: PathBuf,
    turns: Mutex<Turns>,
    over: Condvar,
    /// Whether files are begun in nurseries.
    scatters: bool,
    /// Where files are begun at present, as long as there are any, and how many were begun there.
    nursery: Mutex<(Weak<Nursery>, usize)>,
}

/// A folder in the folder in which files are written, until they get their place. It goes when they have gone.
///
/// ext4 puts a file near the folder in which it is made, and one without a journal walks past all those that were removed
/// there in the last minutes: where large mail comes and goes that would be most of its work. So there it is a new folder
/// each time, somewhere else on the disk. Other file systems have no need of it.
#[derive(Debug)]
struct Nursery(PathBuf);

impl Drop for Nursery {
    fn drop(&mut self) {
        // If it is not empty the next sweep takes it.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A file that has no place in the folder yet. It is removed if it gets none.
#[derive(Debug)]
pub(super) struct Draft {
    /// The file, open for writing.
    pub(super) file: File,
    path: Option<PathBuf>,
    nursery: Option<Arc<Nursery>>,
}

impl Draft {
    /// Gives the file its place.
    pub(super) fn place(mut self, at: &Path) -> io::Result<()> {
        if let (Some(path), Some(_)) = (&self.path, &self.nursery) {
            fs::rename(path, at)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            remove(path);
        }
    }
}

/// The name of the file that was begun first in the nursery of this name; `None` where it is no name of a nursery.
pub(super) fn first_born(name: &str) -> Option<&str> {
    name.strip_prefix(NURSERY)
}

/// Syncs of the folder, numbered from 1.
#[derive(Debug, Default)]
struct Turns {
    /// The last one that began.
    begun: u64,
    /// The last one that went well.
    done: u64,
    /// One is under way.
    busy: bool,
    /// So many wait for one to end.
    waiting: usize,
}

impl ContentFolder {
    /// The one of this spool.
    pub(super) fn below(spool: &Path) -> ContentFolder {
        ContentFolder {
            path: spool.join(FOLDER),
            turns: Mutex::default(),
            over: Condvar::new(),
            scatters: false,
            nursery: Mutex::default(),
        }
    }

    /// The same, which is there: its files are begun in nurseries if the file system scatters folders.
    pub(super) fn scattered(self) -> ContentFolder {
        ContentFolder {
            scatters: scatter(&self.path),
            ..self
        }
    }

    /// Begins a file that shall be called `name`.
    ///
    /// # Errors
    /// When it can not be made.
    pub(super) fn begin(&self, name: &str) -> io::Result<Draft> {
        let nursery = self.scatters.then(|| self.nursery(name)).transpose()?;
        let folder = nursery.as_deref().map_or(&self.path, |nursery| &nursery.0);
        let path = folder.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Draft {
            file,
            path: Some(path),
            nursery,
        })
    }

    /// Where a file called `name` may be begun.
    fn nursery(&self, name: &str) -> io::Result<Arc<Nursery>> {
        let mut current = self.nursery.lock();
        let (nursery, born) = &mut *current;
        if let Some(nursery) = nursery.upgrade()
            && *born < MOST_BORN
            && nursery.0.exists()
        {
            *born += 1;
            return Ok(nursery);
        }
        let path = self.path.join(format!("{NURSERY}{name}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        let nursery = Arc::new(Nursery(path));
        *current = (Arc::downgrade(&nursery), 1);
        Ok(nursery)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when every name that was in the folder before is on the disk. A sync that is under way may have missed
    /// it; those who come meanwhile wait for the next one together.
    ///
    /// # Errors
    /// When the sync that would have been ours to do failed.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.sync_by(|| File::open(&self.path)?.sync_all())
    }

    /// The same, by other means.
    pub(super) fn sync_by(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut turns = self.turns.lock();
        let ours = turns.begun + 1;
        while turns.busy && turns.done < ours {
            turns.waiting += 1;
            self.over.wait(&mut turns);
            turns.waiting -= 1;
        }
        if turns.done >= ours {
            return Ok(());
        }
        turns.begun += 1;
        turns.busy = true;
        let number = turns.begun;
        drop(turns);
        let synced = sync();
        let mut turns = self.turns.lock();
        turns.busy = false;
        if synced.is_ok() {
            turns.done = number;
        }
        drop(turns);
        self.over.notify_all();
        synced
    }
}

/// Asks the file system to put the folders in this one far from each other; whether it knows how to.
#[cfg(target_os = "linux")]
fn scatter(folder: &Path) -> bool {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

    let ask = |folder: File| {
        let flags = ioctl_getflags(&folder)?;
        if !flags.contains(IFlags::TOPDIR) {
            ioctl_setflags(&folder, flags | IFlags::TOPDIR)?;
        }
        Ok(())
    };
    File::open(folder).and_then(ask).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn scatter(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::thread::{self, JoinHandle};

    use crossbeam_channel::{Sender, bounded};

    use super::*;

    /// Starts so many who want the folder synced, and returns when all of them wait for the one that is under way.
    fn waiting(folder: &Arc<ContentFolder>, count: usize, synced: &Sender<()>) -> Vec<JoinHandle<()>> {
        let start = || {
            let (folder, synced) = (Arc::clone(folder), synced.clone());
            thread::spawn(move || {
                let sync = || synced.send(()).map_err(io::Error::other);
                folder.sync_by(sync).unwrap();
            })
        };
        let threads = (0..count).map(|_| start()).collect();
        while folder.turns.lock().waiting < count {
            thread::yield_now();
        }
        threads
    }

    #[test]
    fn those_who_come_during_a_sync_share_the_next_one() {
        let folder = Arc::new(ContentFolder::below(Path::new("/nowhere")));
        let (synced, syncs) = bounded(100);
        let mut others = Vec::new();
        let first = folder.sync_by(|| {
            others = waiting(&folder, 5, &synced);
            assert!(syncs.is_empty(), "nobody syncs beside us");
            Ok(())
        });
        first.unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(syncs.len(), 1);
    }

    #[test]
    fn one_whose_sync_fails_fails_nobody_else() {
        let folder = Arc::new(ContentFolder::below(Path::new("/nowhere")));
        let (synced, syncs) = bounded(100);
        let mut others = Vec::new();
        let first = folder.sync_by(|| {
            others = waiting(&folder, 3, &synced);
            Err(io::Error::other("no space"))
        });
        assert!(first.is_err());
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(syncs.len(), 1);
    }

    /// The names in a folder.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// A folder of a spool, whose files are begun in nurseries or not.
    fn folder(scatters: bool) -> (tempfile::TempDir, ContentFolder) {
        let spool = tempfile::tempdir().unwrap();
        let folder = ContentFolder::below(spool.path());
        fs::create_dir(folder.path()).unwrap();
        (spool, ContentFolder { scatters, ..folder })
    }

    #[test]
    fn a_file_gets_its_place_and_nothing_is_left_of_one_that_gets_none() {
        for (scatters, begun) in [(true, "new-1"), (false, "1")] {
            let (_spool, folder) = folder(scatters);
            let draft = folder.begin("1").unwrap();
            assert_eq!(names(folder.path()), [begun]);
            draft.place(&folder.path().join("1")).unwrap();
            assert_eq!(names(folder.path()), ["1"]);
            drop(folder.begin("2").unwrap());
            assert_eq!(names(folder.path()), ["1"]);
        }
    }

    #[test]
    fn files_are_begun_somewhere_else_from_time_to_time_and_where_that_was_tidied_up() {
        let (_spool, folder) = folder(true);
        let first = folder.begin("first").unwrap();
        for number in 1..MOST_BORN {
            drop(folder.begin(&number.to_string()).unwrap());
        }
        assert_eq!(names(folder.path()), ["new-first"]);
        let second = folder.begin("second").unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        drop(first);
        assert_eq!(
            names(folder.path()),
            ["new-second"],
            "the first has gone with its last file"
        );
        fs::remove_dir_all(folder.path().join("new-second")).unwrap();
        let _third = folder.begin("third").unwrap();
        assert_eq!(names(folder.path()), ["new-third"]);
        drop(second);
    }

    #[test]
    fn a_folder_that_is_not_there_can_not_be_synced() {
        assert!(ContentFolder::below(Path::new("/nowhere")).sync().is_err());
    }
}
