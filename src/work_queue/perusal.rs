//! A message for who wants to read it: of a work queue that an MTA runs on, or that none does. Reads, and changes nothing.

use std::path::Path;

use super::content_in;
use super::error::QueueError;
use super::folder::FOLDER;
use super::id::MessageId;
use super::trace::{Trace, traced};
use super::verify::open;
use crate::work_queue::ContentReader;

/// A message as it stands.
#[derive(Debug)]
pub struct Perusal {
    /// What is known of it.
    pub trace: Trace,
    /// What it says; `None` where that is kept no more.
    pub content: Option<ContentReader>,
}

/// Message `id` of the work queue in the folder `spool`; `None` where there is none.
///
/// # Errors
/// When there is no work queue, or it can not be read, or the content not.
pub fn peruse(spool: &Path, id: MessageId) -> Result<Option<Perusal>, QueueError> {
    let db = open(&spool.join("queue.db"))?;
    // All of it at one moment.
    let db = db.unchecked_transaction()?;
    let Some(trace) = traced(&db, id, usize::MAX >> 1)? else {
        return Ok(None);
    };
    let content = match content_in(&db, &spool.join(FOLDER), id) {
        Err(QueueError::NoContent) => None,
        content => Some(content?),
    };
    Ok(Some(Perusal { trace, content }))
}
