//! The last failures: what was put off or given up, for whoever looks on. They are the last ones of `history`, in which
//! nobody could find them without walking through it; after a start there are none yet.
//!
//! Never says anything of a transaction that was not committed.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::WorkQueue;
use super::damage::text_in;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger;
use crate::clock::Stamp;

/// So many are kept.
const MOST: usize = 20;

/// The words of history for what is a failure.
const FAILURES: [&str; 4] = ["deferred", "given up", "dead", "held"];

/// Something that history holds, and that somebody may have to look after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it was.
    pub at: Stamp,
    /// The message.
    pub id: MessageId,
    /// Its recipient; `None`: the message as a whole.
    pub n: Option<u32>,
    /// In a word.
    pub what: &'static str,
    /// In words.
    pub text: String,
}

/// The last of them, the latest last.
#[derive(Debug, Default)]
pub(super) struct LastFailures(Mutex<VecDeque<Failure>>);

impl LastFailures {
    /// These have been committed.
    pub(super) fn add(&self, failed: VecDeque<Failure>) {
        if failed.is_empty() {
            return;
        }
        let mut kept = self.0.lock();
        kept.extend(failed);
        let surplus = kept.len().saturating_sub(MOST);
        kept.drain(..surplus);
    }
}

/// Adds an event to those of a transaction, if it is a failure.
pub(super) fn note(
    failed: &mut VecDeque<Failure>,
    of: impl FnOnce() -> (Stamp, MessageId, Option<u32>),
    what: &'static str,
    text: &str,
) {
    if !FAILURES.contains(&what) {
        return;
    }
    if failed.len() == MOST {
        failed.pop_front();
    }
    let (at, id, n) = of();
    failed.push_back(Failure {
        at,
        id,
        n,
        what,
        text: text.to_owned(),
    });
}

impl WorkQueue {
    /// The last failures, the latest first, each with the recipient that it is about, where that is still known.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn last_failures(&self) -> Result<Vec<(Failure, Option<String>)>, QueueError> {
        let last: Vec<Failure> = self.store.failures().0.lock().iter().rev().cloned().collect();
        if last.is_empty() {
            return Ok(Vec::new());
        }
        self.store.read(|db| {
            let sql = "SELECT path FROM recipient WHERE message = ? AND n = ?";
            let with_path = |failure: Failure| -> Result<(Failure, Option<String>), QueueError> {
                let path = match failure.n {
                    Some(n) => ledger::row(db, sql, (failure.id.0, n), |row| Ok(text_in(row, 0)))?.flatten(),
                    None => None,
                };
                Ok((failure, path))
            };
            last.into_iter().map(with_path).collect()
        })
    }
}
