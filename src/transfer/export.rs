//! `smtpmta queue export`: what is chosen is put aside, written to a file, and ended in this spool as soon as the file is on
//! the disk; each in turn, so that whoever was killed in the middle begins anew, and finishes it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use serde_json::json;

use super::{Hand, TransferError, absolute, shown, sync_folder_of};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::exit::Exit;
use crate::console::command;
use crate::crash_point::{CrashPoint, reach};
use crate::named_file;
use crate::work_queue::parcel::{Head, Parcel, ParcelError};
use crate::work_queue::{ExportId, PackError, Packed, is_finished_export, pack, unfinished_export};

/// How long session handlers have to let go of what they have in hand: a peer may hold one up for longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked whether they have.
const PAUSE: Duration = Duration::from_millis(50);

/// Octets that are written at once.
const PIECE: usize = 1 << 20;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What is chosen, in the words of the console.
    pub words: Vec<String>,
    /// Where it goes.
    pub file: PathBuf,
    /// `--cancel`: what was put aside for this file goes on.
    pub cancel: bool,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--json`.
    pub json: bool,
}

impl Asked {
    /// Understands the words behind `queue export`.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(words: &[String], json: bool) -> Result<Asked, String> {
        let mut asked = Asked {
            json,
            ..Asked::default()
        };
        for word in words {
            match word.to_ascii_lowercase().as_str() {
                "--cancel" => asked.cancel = true,
                "--dry-run" => asked.dry_run = true,
                _ => asked.words.push(word.clone()),
            }
        }
        let is_id = |word: &String| word.parse::<crate::work_queue::id::MessageId>().is_ok();
        let file = asked
            .words
            .pop()
            .filter(|word| !word.starts_with('-') && !is_id(word));
        let Some(file) = file.filter(|file| !file.is_empty()) else {
            return Err("queue export: expected a file that is to be made, as the last word".to_owned());
        };
        asked.file = file.into();
        if asked.cancel && (asked.dry_run || !asked.words.is_empty()) {
            return Err("queue export: --cancel: expected a file behind it, and nothing else".to_owned());
        }
        if !asked.cancel {
            command::Command::parse(&asked.console("preview", &[])).map_err(|refusal| refusal.to_string())?;
        }
        Ok(asked)
    }

    /// The words of a step that is about what is chosen.
    fn console(&self, verb: &str, more: &[&str]) -> Vec<String> {
        let begin = ["queue", "export", verb];
        let begin = begin.iter().chain(more).map(|word| (*word).to_owned());
        begin.chain(self.words.iter().cloned()).collect()
    }
}

/// Exports what is asked for; what is to be told of it.
///
/// # Errors
/// When it could not be done. Whoever asks for the same again finishes it.
pub fn export(config: &Config, asked: &Asked) -> Result<String, TransferError> {
    let file = absolute(&asked.file)?;
    let hand = Hand::of(config)?;
    let told = if asked.dry_run {
        hand.ask(&asked.console("preview", &[]), asked.json)
    } else if asked.cancel {
        cancel(&hand, config, asked, &file)
    } else {
        let export = Export {
            config,
            asked,
            hand: &hand,
            file: &file,
            kept: 0,
        };
        export
            .run()
            .map_err(|error| told_what_stays(error, config, &file))
    };
    hand.done();
    told
}

/// An export that has broken off leaves mail where it does not go on by itself.
fn told_what_stays(error: TransferError, config: &Config, file: &Path) -> TransferError {
    match unfinished_export(&config.spool, file) {
        Ok(Some(begun)) if !begun.is_ending => error.and(&format!(
            "; what was chosen is put aside for this export: ask for the same again to finish it, or let it go on with \
             queue export --cancel {}",
            shown(file)
        )),
        _ => error,
    }
}

/// Lets what was put aside for this file go on.
fn cancel(hand: &Hand<'_>, config: &Config, asked: &Asked, file: &Path) -> Result<String, TransferError> {
    let refused = |what: &str| TransferError::of(Exit::Refused, format!("{}: {what}", shown(file)));
    let begun = unfinished_export(&config.spool, file)?
        .ok_or_else(|| refused("there is no export to this file that is not finished"))?;
    if begun.is_ending || fs::symlink_metadata(file).is_ok() {
        return Err(refused(
            "this export is whole: ask for it again and it is finished, or remove the file if nobody has imported it",
        ));
    }
    let partial = Partial::open(file)?;
    let moved = hand.take(&["queue", "export", "cancel", &begun.id.to_string()])?;
    if !moved.is_done {
        return Err(refused("this export is being finished"));
    }
    partial.remove();
    Ok(match asked.json {
        true => format!(
            "{}\n",
            json!({ "file": shown(file), "messages": moved.messages, "recipients": moved.recipients })
        ),
        false => format!(
            "{}: given up; {} recipients of {} messages go on\n",
            shown(file),
            moved.recipients,
            moved.messages
        ),
    })
}

/// Of what is told.
#[derive(Clone, Copy, Debug)]
enum How {
    /// It has been exported.
    Now,
    /// It had been.
    Before,
    /// It had been named, and not all of it had ended.
    Rest,
}

/// An export under way.
struct Export<'e> {
    config: &'e Config,
    asked: &'e Asked,
    hand: &'e Hand<'e>,
    file: &'e Path,
    /// Recipients that session handlers did not let go of.
    kept: usize,
}

impl Export<'_> {
    fn run(mut self) -> Result<String, TransferError> {
        let file = self.file;
        let spool = &self.config.spool;
        let begun = unfinished_export(spool, file)?;
        if let Some(begun) = begun.filter(|begun| begun.is_ending) {
            // It was on the disk; since then it may have been taken away.
            let moved = self.end(begun.id)?;
            let packed = Packed {
                messages: moved.0,
                recipients: moved.1,
            };
            return Ok(self.told(begun.id, packed, How::Rest));
        }
        match fs::symlink_metadata(file) {
            Ok(_) => return self.go_on_with_file(begun.map(|begun| begun.id)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(TransferError::file(file, &error)),
        }
        let partial = Partial::open(file)?;
        let id = begun.map_or_else(ExportId::draw, |begun| begun.id);
        if !begun.is_some_and(|begun| begun.is_sealed) {
            self.put_aside(id)?;
        }
        let packed = self.write(id, &partial)?;
        if packed.messages == 0 {
            self.step("cancel", id)?;
            partial.remove();
            let kept = match self.kept {
                0 => String::new(),
                kept => format!("; {kept} recipients are in the hands of session handlers"),
            };
            let what = format!("nothing that waits, is held or is dead matched{kept}");
            return Err(TransferError::of(Exit::Refused, what));
        }
        partial.name(file)?;
        reach(CrashPoint::ExportNamed);
        self.end(id)?;
        Ok(self.told(id, packed, How::Now))
    }

    /// The file is there: it is that of the export that was begun, or of one that is finished, or somebody else's.
    fn go_on_with_file(&self, begun: Option<ExportId>) -> Result<String, TransferError> {
        let file = self.file;
        let taken = || {
            let what = format!(
                "{}: is there already: expected a file that is to be made",
                shown(file)
            );
            TransferError::of(Exit::Refused, what)
        };
        let unreadable = |error: std::io::Error| TransferError::file(file, &error);
        let opened = match named_file::open(file) {
            Err(error) if error.kind() == ErrorKind::Other => return Err(taken()),
            opened => opened.map_err(unreadable)?,
        };
        let mut parcel = Parcel::open(&opened).map_err(|_| taken())?;
        let id = parcel.head().export;
        let is_finished = is_finished_export(&self.config.spool, id)?;
        if begun != Some(id) && !is_finished {
            return Err(taken());
        }
        let broken =
            |error: ParcelError| TransferError::of(Exit::Damaged, format!("{}: {error}", shown(file)));
        let (messages, recipients) = parcel.check().map_err(broken)?;
        // It is whole, but its name may not be on the disk.
        opened
            .sync_all()
            .and_then(|()| sync_folder_of(file))
            .map_err(unreadable)?;
        let packed = Packed { messages, recipients };
        if is_finished {
            return Ok(self.told(id, packed, How::Before));
        }
        self.end(id)?;
        Ok(self.told(id, packed, How::Now))
    }

    fn step(&self, verb: &str, id: ExportId) -> Result<crate::work_queue::Moved, TransferError> {
        self.hand.take(&["queue", "export", verb, &id.to_string()])
    }

    /// Has what is chosen put aside, and waits until session handlers have let go of it; not for ever.
    fn put_aside(&mut self, id: ExportId) -> Result<(), TransferError> {
        let (name, file) = (id.to_string(), self.file.to_string_lossy().into_owned());
        let words = self.asked.console("put-aside", &[&name, &file]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.hand.take(&words)?;
        let until = Instant::now() + PATIENCE;
        loop {
            if self.step("seal", id)?.is_done {
                return Ok(());
            }
            if Instant::now() >= until {
                break;
            }
            std::thread::park_timeout(PAUSE);
        }
        let sealed = self.hand.take(&["queue", "export", "seal", &name, "anyway"])?;
        self.kept = sealed.in_hand;
        Ok(())
    }

    /// Writes the file, under another name.
    fn write(&self, id: ExportId, partial: &Partial) -> Result<Packed, TransferError> {
        let head = Head {
            export: id,
            host: self.config.hostname.clone(),
            made: Clock::System.now().0,
        };
        let broken = |error: std::io::Error| TransferError::file(&partial.path, &error);
        partial.file.set_len(0).map_err(broken)?;
        let out = BufWriter::with_capacity(PIECE, &partial.file);
        let (_, packed) = pack(&self.config.spool, &head, out).map_err(|error| match error {
            PackError::File(ParcelError::Io(error)) => broken(error),
            error => error.into(),
        })?;
        partial.file.sync_all().map_err(broken)?;
        reach(CrashPoint::ExportWritten);
        Ok(packed)
    }

    /// Ends what is in the file; how many messages and recipients those were.
    fn end(&self, id: ExportId) -> Result<(u64, u64), TransferError> {
        let moved = self.step("end", id)?;
        Ok((moved.messages as u64, moved.recipients as u64))
    }

    fn told(&self, id: ExportId, packed: Packed, how: How) -> String {
        let Packed { messages, recipients } = packed;
        if self.asked.json {
            let json = json!({
                "file": shown(self.file), "export": id.to_string(), "messages": messages, "recipients": recipients,
                "in_hand": self.kept,
            });
            return format!("{json}\n");
        }
        let how = match how {
            How::Now => "exported",
            How::Before => "had been exported before",
            How::Rest => "ended here; the file was made before",
        };
        let mut text = format!(
            "{}: {recipients} recipients of {messages} messages {how}\n",
            shown(self.file)
        );
        if self.kept > 0 {
            text.push_str(&format!(
                "{} recipients in the hands of session handlers: left there\n",
                self.kept
            ));
        }
        text
    }
}

/// A file that gets its name when it is whole. Nobody else writes it meanwhile.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn open(target: &Path) -> Result<Partial, TransferError> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = target.with_file_name(name);
        let broken = |error: std::io::Error| TransferError::file(&path, &error);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        options.custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default());
        let file = options.open(&path).map_err(broken)?;
        let busy = |what: &str| TransferError::of(Exit::TryLater, format!("{}: {what}", shown(&path)));
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy("is being written by another export")),
            Err(TryLockError::Error(error)) => return Err(broken(error)),
        }
        let ours = file.metadata().map_err(broken)?;
        if !ours.is_file() || ours.uid() != geteuid().as_raw() || ours.nlink() > 1 {
            return Err(busy("is there already, and no file of ours"));
        }
        // Whoever had it may have given it its name by now.
        let there = fs::symlink_metadata(&path).map_err(broken)?;
        match (there.dev(), there.ino()) == (ours.dev(), ours.ino()) {
            true => Ok(Partial { path, file }),
            false => Err(busy("was written by another export: ask again")),
        }
    }

    /// Gives it its name.
    fn name(self, target: &Path) -> Result<(), TransferError> {
        let broken = |error: std::io::Error| TransferError::file(target, &error);
        fs::rename(&self.path, target)
            .and_then(|()| sync_folder_of(target))
            .map_err(broken)
    }

    fn remove(self) {
        // What can not be removed is taken by the next export to that file.
        let _ = fs::remove_file(&self.path);
    }
}
