//! How mail moves from one spool to another: `smtpmta queue export` ([`export`]) and `smtpmta queue import` ([`import`]), in
//! the process of the command, which writes and reads the file.
//!
//! What is done to the work queue is done by the MTA that runs on the spool, step by step, or, where none runs, here. Never
//! ends a message before its file is on the disk, and never knows a table.

pub mod export;
pub mod import;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::config::exit::Exit;
use crate::console::command::Command;
use crate::console::screen::{self, Screen};
use crate::console::{client, server};
use crate::domain_list::next_hop::NextHop;
use crate::work_queue::{Moved, Order, PackError, QueueError, Step, TakeError, WorkQueue};

/// Recipients that `--dry-run` shows.
const SAMPLE: usize = 10;

/// Why mail has not moved, or not all of it.
#[derive(Debug)]
pub struct TransferError {
    /// How the run ends.
    pub exit: Exit,
    /// A sentence.
    what: String,
}

impl TransferError {
    fn of(exit: Exit, what: impl fmt::Display) -> TransferError {
        let what = what.to_string();
        TransferError { exit, what }
    }

    /// With more behind it.
    fn and(self, more: &str) -> TransferError {
        let what = self.what + more;
        TransferError { what, ..self }
    }

    fn file(path: &Path, error: &io::Error) -> TransferError {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NoInput,
            _ => Exit::TryLater,
        };
        TransferError::of(exit, format!("{}: {error}", shown(path)))
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for TransferError {}

impl From<QueueError> for TransferError {
    fn from(error: QueueError) -> TransferError {
        let exit = if error.is_missing() {
            Exit::NoInput
        } else if error.is_damage() {
            Exit::Damaged
        } else {
            Exit::TryLater
        };
        TransferError::of(exit, error)
    }
}

/// A path, as people may see it.
fn shown(path: &Path) -> String {
    let path = path.display().to_string();
    path.chars().filter(|c| !c.is_control()).collect()
}

/// Takes a step in this work queue; `config` says where mail for a domain goes, and `by` who wanted it.
///
/// # Errors
/// When the database refused.
pub fn step(queue: &WorkQueue, config: &Config, step: Step, by: &str) -> Result<(Exit, Screen), QueueError> {
    let moved = match step {
        Step::PutAside(export, file, mut choice) => {
            choice.hops = routed(config, std::mem::take(&mut choice.hops));
            let done = queue.put_aside(export, &file, &choice, by)?;
            Moved {
                messages: done.messages,
                recipients: done.recipients,
                in_hand: done.in_hand,
                ..Moved::default()
            }
        }
        Step::Seal(export, anyway) => queue.seal(export, anyway)?,
        Step::End(export) => queue.end_export(export, by)?,
        Step::Cancel(export) => queue.cancel_export(export, by)?,
        Step::Take(import, from) => match queue.take_in(import, from, by) {
            Ok(moved) => moved,
            Err(TakeError::Queue(error)) => return Err(error),
            Err(TakeError::Parcel(error)) => {
                let json = json!({ "error": error.to_string() });
                let text = format!("{error}\n");
                return Ok((Exit::Damaged, Screen { text, json }));
            }
        },
    };
    Ok((Exit::Done, screen::moved(&moved)))
}

/// Next hops by their names, and those where their mail goes: who names a domain means that, too.
pub fn routed(config: &Config, names: Vec<String>) -> Vec<String> {
    let router = config.router();
    let goes = |name: &String| match NextHop::from_name(&name.to_ascii_lowercase()) {
        NextHop::Domain(domain) => router.next_hop(&domain).to_string(),
        // A path is as it is.
        NextHop::Lmtp(_) => name.clone(),
        host => host.to_string(),
    };
    let routed: Vec<String> = names.iter().map(goes).collect();
    let hops: BTreeSet<String> = names.into_iter().chain(routed).collect();
    hops.into_iter().collect()
}

/// Who does it: the MTA that runs on the spool, or this process.
enum Hand<'c> {
    Running(&'c Config),
    Own(&'c Config, WorkQueue),
}

impl<'c> Hand<'c> {
    /// The one that can.
    ///
    /// # Errors
    /// When the work queue is not there, or can not be opened.
    fn of(config: &'c Config) -> Result<Hand<'c>, TransferError> {
        let spool = &config.spool;
        let database = spool.join("queue.db");
        let found = fs::metadata(&database).map_err(|error| TransferError::file(&database, &error))?;
        match client::ask(spool, &["show".to_owned(), "version".to_owned()], false) {
            Ok(_) => return Ok(Hand::Running(config)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(error) => {
                let what = format!("the MTA in {} does not answer: {error}", shown(spool));
                return Err(TransferError::of(Exit::TryLater, what));
            }
        }
        // What another user makes in there the MTA could not open.
        if found.uid() != geteuid().as_raw() {
            let what = format!(
                "no MTA is running in {}, which belongs to user {}: start it, or do this as that user",
                shown(spool),
                found.uid()
            );
            return Err(TransferError::of(Exit::NotRunning, what));
        }
        let queue = WorkQueue::open(spool, Clock::System)?;
        Ok(Hand::Own(config, queue))
    }

    /// Has this done; what was answered.
    ///
    /// # Errors
    /// When it was not done, in the words of who did not do it.
    fn ask(&self, words: &[String], json: bool) -> Result<String, TransferError> {
        match self {
            Hand::Running(config) => {
                let answer = client::ask(&config.spool, words, json).map_err(|error| {
                    let what = format!("the MTA in {}: {error}; do this again", shown(&config.spool));
                    TransferError::of(Exit::TryLater, what)
                })?;
                match answer.status {
                    0 => Ok(answer.text),
                    status => Err(TransferError::of(exit_of(status), said(&answer.text))),
                }
            }
            Hand::Own(config, queue) => {
                let command =
                    Command::parse(words).map_err(|refusal| TransferError::of(refusal.exit(), refusal))?;
                let (exit, screen) = match command {
                    Command::Move(step) => self::step(queue, config, step, &server::user())?,
                    Command::Preview(order, choice) => preview(queue, config, order, *choice)?,
                    _ => return Err(TransferError::of(Exit::Usage, "expected a step")),
                };
                let text = match json {
                    true => format!("{}\n", screen.json),
                    false => screen.text,
                };
                match exit {
                    Exit::Done => Ok(text),
                    exit => Err(TransferError::of(exit, said(&text))),
                }
            }
        }
    }

    /// Has a step taken.
    ///
    /// # Errors
    /// When it was not.
    fn take(&self, words: &[&str]) -> Result<Moved, TransferError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let text = self.ask(&words, true)?;
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let number = |name: &str| json[name].as_u64();
        let count = |name: &str| number(name).and_then(|number| usize::try_from(number).ok());
        match (count("messages"), json["done"].as_bool()) {
            (Some(messages), Some(is_done)) => Ok(Moved {
                messages,
                is_done,
                recipients: count("recipients").unwrap_or_default(),
                in_hand: count("in_hand").unwrap_or_default(),
                known: count("known").unwrap_or_default(),
                reached: number("reached").unwrap_or_default(),
            }),
            _ => Err(TransferError::of(
                Exit::TryLater,
                format!("expected a step to be taken: {text}"),
            )),
        }
    }

    /// It is over.
    fn done(self) {
        if let Hand::Own(_, queue) = self {
            queue.close();
        }
    }
}

fn preview(
    queue: &WorkQueue,
    config: &Config,
    order: Order,
    mut choice: crate::work_queue::Choice,
) -> Result<(Exit, Screen), QueueError> {
    choice.hops = routed(config, choice.hops);
    let preview = queue.preview(&order, &choice, SAMPLE)?;
    let exit = match preview.done.recipients {
        0 => Exit::Refused,
        _ => Exit::Done,
    };
    Ok((exit, screen::preview(&order, &preview, queue.now())))
}

/// What was said to a step that was not taken.
fn said(text: &str) -> String {
    let json: Value = serde_json::from_str(text).unwrap_or_default();
    let text = json["error"].as_str().unwrap_or(text);
    text.trim_end().to_owned()
}

fn exit_of(status: u8) -> Exit {
    [
        Exit::Refused,
        Exit::Usage,
        Exit::Damaged,
        Exit::NoInput,
        Exit::NotRunning,
    ]
    .into_iter()
    .find(|exit| exit.status() == status)
    .unwrap_or(Exit::TryLater)
}

/// The whole path of a file that is to be.
fn absolute(path: &Path) -> Result<PathBuf, TransferError> {
    let wrong = || TransferError::of(Exit::Usage, format!("{}: expected a file", shown(path)));
    if path.to_str().is_none_or(|text| text.contains(char::is_control)) || path.file_name().is_none() {
        return Err(wrong());
    }
    std::path::absolute(path).map_err(|_| wrong())
}

/// That a name is in the folder of `path`, or in it no more, is on the disk.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => File::open(above)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

impl From<PackError> for TransferError {
    fn from(error: PackError) -> TransferError {
        match error {
            PackError::Queue(error) => error.into(),
            error @ PackError::Content(..) => TransferError::of(Exit::Damaged, error),
            error @ PackError::File(_) => TransferError::of(Exit::TryLater, error),
        }
    }
}
