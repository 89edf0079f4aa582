//! `smtpmta queue import`: what an export holds is looked through as a whole, and then brought into the spool, each message
//! once, however often it is asked for.
//!
//! The spool gets a copy first, so that the MTA needs to read nothing else; it goes when all is done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process;

use serde_json::json;

use super::{Hand, TransferError, shown};
use crate::config::Config;
use crate::config::exit::Exit;
use crate::crash_point::{CrashPoint, reach};
use crate::named_file;
use crate::work_queue::parcel::{Parcel, ParcelError};
use crate::work_queue::{ExportId, staged};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The file.
    pub file: PathBuf,
    /// `--json`.
    pub json: bool,
}

/// Imports what is asked for; what is to be told of it.
///
/// # Errors
/// When the file is not what was written, and then nothing of it is brought in; or when it could not be brought in: whoever
/// asks for the same again brings in the rest.
pub fn import(config: &Config, asked: &Asked) -> Result<String, TransferError> {
    let hand = Hand::of(config)?;
    let copy = Copy::stage(config, &asked.file)?;
    reach(CrashPoint::ImportStaged);
    let (mut messages, mut recipients, mut known, mut from) = (0, 0, 0, 0);
    loop {
        let words = [
            "queue",
            "import",
            "take",
            &copy.export.to_string(),
            &from.to_string(),
        ];
        let moved = hand.take(&words)?;
        messages += moved.messages;
        recipients += moved.recipients;
        known += moved.known;
        if moved.is_done {
            break;
        }
        from = moved.reached;
    }
    drop(copy);
    hand.done();
    let file = shown(&asked.file);
    if asked.json {
        let json = json!({ "file": file, "messages": messages, "recipients": recipients, "known": known });
        return Ok(format!("{json}\n"));
    }
    let mut text = format!("{file}: {recipients} recipients of {messages} messages imported\n");
    if known > 0 {
        text.push_str(&format!("{known} messages had been imported before\n"));
    }
    Ok(text)
}

/// The spool's copy of an export, which is whole. It goes when it is dropped.
struct Copy {
    path: PathBuf,
    export: ExportId,
    /// Open, and locked: nobody else may take it for one that was left.
    _file: File,
}

impl Copy {
    /// Copies `file`, and looks it through meanwhile.
    fn stage(config: &Config, file: &Path) -> Result<Copy, TransferError> {
        let spool = &config.spool;
        let partial = Partial(spool.join(format!("import-{}.partial", process::id())));
        let unreadable = |error: io::Error| TransferError::file(file, &error);
        let broken = |error: io::Error| TransferError::file(spool, &error);
        let original = named_file::open(file).map_err(|error| match error.kind() {
            ErrorKind::Other => {
                let what = format!("{}: expected a file that queue export has made", shown(file));
                TransferError::of(Exit::Damaged, what)
            }
            _ => unreadable(error),
        })?;
        // One that was killed may have left it.
        let _ = fs::remove_file(&partial.0);
        let out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial.0)
            .map_err(broken)?;
        out.lock().map_err(broken)?;
        let mut tee = Tee {
            from: original,
            to: BufWriter::new(out),
            trouble: None,
        };
        let looked = Parcel::open(&mut tee).and_then(|mut parcel| {
            parcel.check()?;
            Ok(parcel.head().export)
        });
        if let Some(error) = tee.trouble {
            return Err(broken(error));
        }
        let export = looked.map_err(|error| match error {
            ParcelError::Io(error) => unreadable(error),
            error => TransferError::of(Exit::Damaged, format!("{}: {error}", shown(file))),
        })?;
        let out = tee.to.into_inner().map_err(|error| broken(error.into_error()))?;
        // Who does it for somebody else, as only root may, gives it to him.
        let owner = fs::metadata(spool.join("queue.db")).map_err(broken)?;
        let made = out.metadata().map_err(broken)?;
        if (made.uid(), made.gid()) != (owner.uid(), owner.gid()) {
            fchown(&out, Some(owner.uid()), Some(owner.gid())).map_err(broken)?;
        }
        let path = staged(spool, export);
        remove_left(&path).map_err(broken)?;
        match fs::hard_link(&partial.0, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let what = format!("{}: is being imported by somebody else just now", shown(file));
                return Err(TransferError::of(Exit::TryLater, what));
            }
            // There are file systems where a file has one name only.
            Err(_) => fs::rename(&partial.0, &path).map_err(broken)?,
            Ok(()) => {}
        }
        Ok(Copy {
            path,
            export,
            _file: out,
        })
    }
}

/// Removes a copy that somebody has left who was killed.
fn remove_left(path: &Path) -> io::Result<()> {
    let left = match named_file::open_no_link(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        left => left?,
    };
    // Nobody else removes it meanwhile, and what has taken its place is somebody's.
    let is_left = left.try_lock().is_ok();
    let (left, there) = (left.metadata()?, fs::symlink_metadata(path));
    let is_it = there.is_ok_and(|there| (there.dev(), there.ino()) == (left.dev(), left.ino()));
    if is_left && is_it {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// What is not whole. It goes when it is dropped; what is left of it says by its name what it is.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Copies what is read of it.
struct Tee<W> {
    from: File,
    to: W,
    /// What kept it from that.
    trouble: Option<io::Error>,
}

impl<W: Write> Read for Tee<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = self.from.read(buffer)?;
        match self.to.write_all(&buffer[..octets]) {
            Ok(()) => Ok(octets),
            Err(error) => {
                let kind = error.kind();
                self.trouble = Some(error);
                Err(kind.into())
            }
        }
    }
}
