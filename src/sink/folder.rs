//! A folder in which a sink keeps what it has taken: `1.eml` as it came, and `1.env`, the envelope in words.
//!
//! Never writes over a file that is there. What did not come to its end leaves nothing behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// The folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// The number of the message that was stored last.
    last: Arc<Mutex<u64>>,
}

impl Folder {
    /// Opens the folder, and makes it where it is missing. Numbers go on behind those in it.
    ///
    /// # Errors
    /// It can neither be made nor read.
    pub fn open(path: &Path) -> io::Result<Folder> {
        fs::create_dir_all(path)?;
        let mut last = 0;
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.split('.').next()?.parse().ok());
            last = last.max(number.unwrap_or(0));
        }
        Ok(Folder {
            path: path.to_owned(),
            last: Arc::new(Mutex::new(last)),
        })
    }

    /// Begins a message of this session. One that was begun before in the same session has to be gone.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(&self, session: usize) -> io::Result<Draft> {
        let path = self.path.join(format!(".session-{session}.partial"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok(Draft {
            folder: self.clone(),
            path,
            file: BufWriter::new(file),
        })
    }
}

/// A message that is on its way in; gone when it is dropped.
#[derive(Debug)]
pub struct Draft {
    folder: Folder,
    path: PathBuf,
    file: BufWriter<File>,
}

impl Draft {
    /// Adds a piece.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)
    }

    /// Keeps the message, with its envelope beside it; gives its number.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self, envelope: &str) -> io::Result<u64> {
        self.file.flush()?;
        let mut last = self.folder.last.lock();
        let number = *last + 1;
        let beside = |kind| self.folder.path.join(format!("{number}.{kind}"));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(beside("env"))?;
        let kept = file
            .write_all(envelope.as_bytes())
            .and_then(|()| fs::rename(&self.path, beside("eml")));
        if let Err(error) = kept {
            // The number is the next one's.
            let _ = fs::remove_file(beside("env"));
            return Err(error);
        }
        *last = number;
        Ok(number)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has its name already where it was finished.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_numbered_on_and_what_is_not_finished_goes() {
        let place = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(place.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        for expected in 1..3 {
            let folder = Folder::open(place.path()).unwrap();
            let mut draft = folder.begin(0).unwrap();
            draft.write(b"Subject: a\r\n").unwrap();
            let other = folder.begin(1).unwrap();
            assert_eq!(draft.finish("from <>\n").unwrap(), expected);
            drop(other);
        }
        assert_eq!(names(), ["1.eml", "1.env", "2.eml", "2.env"]);
        assert_eq!(fs::read(place.path().join("2.eml")).unwrap(), b"Subject: a\r\n");
    }
}
