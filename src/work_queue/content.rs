//! The content of a message, whichever of its two homes it has: the database for small ones, a file
//! beside it for large ones.
//!
//! Written and read in pieces, so that a large message needs no more memory than a small one. Never
//! says that a message exists: only its row does.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::QueueError;
use super::folder::{ContentFolder, Draft};
use super::id::MessageId;
use crate::crash_point::{CrashPoint, reach};

/// Content of up to this many octets is a BLOB in the database.
pub const THRESHOLD: usize = 64 * 1024;

/// Takes content as it arrives. Dropped before [`ContentWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct ContentWriter {
    folder: Arc<ContentFolder>,
    name: String,
    buffer: Vec<u8>,
    file: Option<Draft>,
    size: u64,
    eight_bit: bool,
}

impl ContentWriter {
    /// A writer for the content of message `id`, whose file is in `folder` if it is large. A content that replaces
    /// the one that arrived has an `edition` of its own, given as late as the message's ID was early: the last part of
    /// a file's name tells when the file was begun.
    #[must_use]
    pub(super) fn new(
        folder: Arc<ContentFolder>,
        id: MessageId,
        edition: Option<MessageId>,
    ) -> ContentWriter {
        let name = match edition {
            None => id.to_string(),
            Some(edition) => format!("{id}.{edition}"),
        };
        ContentWriter {
            folder,
            name,
            buffer: Vec::new(),
            file: None,
            size: 0,
            eight_bit: false,
        }
    }

    /// Octets taken so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// When the file of a large message can not be written.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), QueueError> {
        self.size += piece.len() as u64;
        self.eight_bit = self.eight_bit || !piece.is_ascii();
        if self.buffer.len() + piece.len() <= THRESHOLD {
            self.buffer.extend_from_slice(piece);
            return Ok(());
        }
        self.spill(piece).map_err(|e| QueueError::file(&self.path(), e))
    }

    /// The place of the file.
    fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Moves what has gathered to the file.
    fn spill(&mut self, piece: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(draft) => &mut draft.file,
            none => &mut none.insert(self.folder.begin(&self.name)?).file,
        };
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        if piece.len() >= THRESHOLD {
            file.write_all(piece)?;
        } else {
            self.buffer.extend_from_slice(piece);
        }
        Ok(())
    }

    /// The whole content, on the disk if it is large: file and folder are synced, so that the commit of
    /// the row is all that is left to do.
    ///
    /// # Errors
    /// When the file can not be written or synced.
    pub fn finish(mut self) -> Result<Content, QueueError> {
        let home = match self.file.take() {
            None => Home::Database(self.buffer),
            Some(draft) => {
                let placed = place(draft, &self.buffer, &self.folder, self.path());
                Home::File(placed.map_err(|e| QueueError::file(&self.path(), e))?)
            }
        };
        Ok(Content {
            size: self.size,
            eight_bit: self.eight_bit,
            home,
        })
    }
}

/// Writes the rest of a file, and gives it its place, whatever happens to the machine then.
fn place(mut draft: Draft, rest: &[u8], folder: &ContentFolder, path: PathBuf) -> io::Result<Orphan> {
    draft.file.write_all(rest)?;
    reach(CrashPoint::ContentWritten);
    draft.file.sync_data()?;
    draft.place(&path)?;
    let orphan = Orphan(Some(path));
    folder.sync()?;
    reach(CrashPoint::ContentSynced);
    Ok(orphan)
}

/// Content that is complete, and belongs to no row yet. A file among them is removed with it, unless its
/// row was committed.
#[derive(Debug)]
pub struct Content {
    pub(super) size: u64,
    pub(super) eight_bit: bool,
    pub(super) home: Home,
}

impl Content {
    /// Content that is at hand as a whole, such as a report of our own: goes to the database.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Content {
        Content {
            size: bytes.len() as u64,
            eight_bit: !bytes.is_ascii(),
            home: Home::Database(bytes),
        }
    }

    /// Octets.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The name of its file, if it has one.
    pub(super) fn file_name(&self) -> Option<String> {
        match &self.home {
            Home::Database(_) => None,
            Home::File(orphan) => orphan
                .0
                .as_deref()
                .and_then(Path::file_name)
                .map(|n| n.to_string_lossy().into_owned()),
        }
    }

    /// Hands its file over to the row that is about to be committed.
    pub(super) fn adopt(&mut self) -> Adopted {
        match &mut self.home {
            Home::Database(_) => Adopted {
                name: None,
                path: None,
            },
            Home::File(_) => {
                let name = self.file_name();
                let Home::File(orphan) = &mut self.home else {
                    return Adopted { name, path: None };
                };
                Adopted {
                    name,
                    path: orphan.0.take(),
                }
            }
        }
    }
}

/// The file of a content whose row is being committed.
#[derive(Debug)]
pub(super) struct Adopted {
    /// Its name, for the row.
    pub(super) name: Option<String>,
    path: Option<PathBuf>,
}

impl Adopted {
    /// After the commit: a file whose row certainly is not there is removed. Where the row may be on the disk
    /// all the same, it stays for the sweep to judge.
    pub(super) fn settle<T>(self, committed: &Result<T, QueueError>) {
        if let (Some(path), Err(error)) = (self.path, committed)
            && !error.may_have_happened()
        {
            remove(&path);
        }
    }
}

/// Where content is on its way into the queue.
#[derive(Debug)]
pub(super) enum Home {
    Database(Vec<u8>),
    File(Orphan),
}

/// A file without a row: removed when dropped.
#[derive(Debug)]
pub(super) struct Orphan(Option<PathBuf>);

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            remove(&path);
        }
    }
}

/// Removes a content file. One that stays behind is found by the sweep, so that failing here loses nothing.
pub(super) fn remove(path: &Path) {
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        log::warn!("content {}: can not be removed: {e}", path.display());
    }
}

/// Reads content from its home.
#[derive(Debug)]
pub enum ContentReader {
    /// It was small, and is here.
    Bytes(io::Cursor<Vec<u8>>),
    /// It is large, and comes from its file.
    File(File),
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let file = match self {
            ContentReader::Bytes(bytes) => return bytes.read(buffer),
            ContentReader::File(file) => file,
        };
        loop {
            match file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> (tempfile::TempDir, Arc<ContentFolder>) {
        let spool = tempfile::tempdir().unwrap();
        let folder = Arc::new(ContentFolder::below(spool.path()));
        fs::create_dir(folder.path()).unwrap();
        (spool, folder)
    }

    #[test]
    fn small_content_stays_in_memory_and_large_content_goes_to_a_file() {
        let (_spool, folder) = spool();
        let mut writer = ContentWriter::new(Arc::clone(&folder), MessageId(7), None);
        writer.write(&[b'x'; THRESHOLD]).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        writer.write(b"yz").unwrap();
        let mut content = writer.finish().unwrap();
        assert_eq!(content.size(), THRESHOLD as u64 + 2);
        let adopted = content.adopt();
        assert_eq!(adopted.name.as_deref(), Some("0000000000000007"));
        drop(content);
        adopted.settle(&Ok(()));
        let stored = fs::read(folder.path().join("0000000000000007")).unwrap();
        assert!(stored.ends_with(b"xyz"));
        assert_eq!(stored.len(), THRESHOLD + 2);
    }

    #[test]
    fn content_that_no_row_names_leaves_no_file() {
        let (_spool, folder) = spool();
        for finished in [false, true] {
            let mut writer = ContentWriter::new(Arc::clone(&folder), MessageId(8), None);
            writer.write(&vec![b'x'; THRESHOLD * 3]).unwrap();
            if finished {
                drop(writer.finish().unwrap());
            } else {
                drop(writer);
            }
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
