//! The folder of content files: synced once for all who wait for it.
//!
//! Never syncs a file: each belongs to whoever writes it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::sync::{Condvar, Mutex};

/// The folder of the content files, below the spool.
pub const FOLDER: &str = "content";

/// A folder whose names have to be on the disk.
#[derive(Debug)]
pub(super) struct ContentFolder {
    path: PathBuf,
    turns: Mutex<Turns>,
    over: Condvar,
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
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
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

    #[test]
    fn a_folder_that_is_not_there_can_not_be_synced() {
        assert!(ContentFolder::below(Path::new("/nowhere")).sync().is_err());
    }
}
