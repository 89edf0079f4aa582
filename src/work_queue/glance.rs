//! A glance at a work queue, of an MTA that runs or of none: for who wants to know how things stand, and asks nobody.

use std::path::Path;

use super::error::QueueError;
use super::ledger::{self, LAST_MOMENT};
use super::verify;
use crate::clock::Stamp;
use crate::domain_list::next_hop::NextHop;

/// What is seen of a work queue at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// The latest that the clock is known to have shown.
    pub last_moment: Option<Stamp>,
    /// The next hops for which most waits, that first.
    pub waiting: Vec<NextHop>,
}

/// Looks at the work queue in the folder `spool`: at no more than so many next hops.
///
/// # Errors
/// When there is none, or it can not be read.
pub fn glance(spool: &Path, most: usize) -> Result<Glance, QueueError> {
    let db = verify::open(&spool.join("queue.db"))?;
    let sql = "SELECT value FROM marker WHERE name = ?";
    let last_moment = ledger::row(&db, sql, [LAST_MOMENT], |row| row.get(0).map(Stamp))?;
    let sql = "SELECT name FROM next_hop WHERE waiting > 0 ORDER BY waiting DESC, name LIMIT ?";
    let waiting: Vec<String> = ledger::rows(&db, sql, [most], |row| row.get(0))?;
    Ok(Glance {
        last_moment,
        waiting: waiting.iter().map(|name| NextHop::from_name(name)).collect(),
    })
}
