//! The schema of `queue.db`: made where there is none, and brought from every released version to ours, in
//! place and in one transaction.
//!
//! Never touches what a newer version wrote, and knows nothing of what the rows mean.

use rusqlite::Connection;

use super::error::QueueError;
use crate::crash_point::{CrashPoint, reach};

/// The schema that this version writes; `user_version` of the database.
pub(super) const VERSION: i64 = 5;

/// The tables of a database that is made anew.
const TABLES: &str = include_str!("schema.sql");

/// The views, made anew with every upgrade.
const VIEWS: &str = include_str!("views.sql");

/// The tables of what moves between spools: see there.
const MOVING: &str = include_str!("moving.sql");

/// What leads from each released version, beginning with 1, to the next.
const UPGRADES: [&str; VERSION as usize - 1] = [
    include_str!("upgrade-2.sql"),
    include_str!("upgrade-3.sql"),
    include_str!("upgrade-4.sql"),
    include_str!("upgrade-5.sql"),
];

/// Makes the schema in an empty database, and upgrades an older one. Either it is all done, or nothing.
///
/// # Errors
/// When the database is of a newer version than ours, or refused.
pub(super) fn bring_up(db: &Connection) -> Result<(), QueueError> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found == VERSION {
        return bring_up_moving(db);
    }
    let behind = usize::try_from(found).ok().filter(|_| found < VERSION);
    let Some(behind) = behind else {
        return Err(QueueError::Newer {
            found,
            known: VERSION,
        });
    };
    // Whatever fails leaves the transaction open, and closing the database undoes it.
    db.execute_batch("BEGIN IMMEDIATE")?;
    match behind.checked_sub(1) {
        None => db.execute_batch(TABLES)?,
        Some(done) => UPGRADES[done..]
            .iter()
            .try_for_each(|step| db.execute_batch(step))?,
    }
    db.execute_batch(MOVING)?;
    db.execute_batch(VIEWS)?;
    db.pragma_update(None, "user_version", VERSION)?;
    reach(CrashPoint::SchemaWritten);
    db.execute_batch("COMMIT")?;
    reach(CrashPoint::SchemaCommitted);
    if behind > 0 {
        log::info!("queue.db upgraded from schema {found} to {VERSION}");
    }
    Ok(())
}

/// Makes the tables of what moves between spools in a database that lacks them.
fn bring_up_moving(db: &Connection) -> Result<(), QueueError> {
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('export', 'put_aside', 'import', 'brought_in')";
    let there: i64 = db.query_row(sql, [], |row| row.get(0))?;
    if there < 4 {
        db.execute_batch("BEGIN IMMEDIATE")?;
        db.execute_batch(MOVING)?;
        db.execute_batch("COMMIT")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_1: &str = include_str!("../../tests/fixtures/queue-v1.sql");
    const VERSION_2: &str = include_str!("../../tests/fixtures/queue-v2.sql");
    const VERSION_3: &str = include_str!("../../tests/fixtures/queue-v3.sql");
    const VERSION_4: &str = include_str!("../../tests/fixtures/queue-v4.sql");

    fn written_by(version: &str) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(version).unwrap();
        db
    }

    /// Everything that the database says of its own form, without comments, and with one blank for any.
    fn form(db: &Connection) -> Vec<String> {
        let words = |sql: String| {
            let lines = sql
                .lines()
                .map(|line| line.split("--").next().unwrap_or_default());
            let text = lines
                .collect::<Vec<_>>()
                .join(" ")
                .replace(',', " , ")
                .replace(')', " ) ");
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let mut query = db
            .prepare("SELECT type, name, ifnull(sql, '') FROM sqlite_schema ORDER BY type, name")
            .unwrap();
        let rows = query.query_map([], |row| {
            let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
            Ok(format!("{kind} {name}: {}", words(row.get(2)?)))
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn an_upgraded_database_has_the_form_of_a_new_one() {
        let new = Connection::open_in_memory().unwrap();
        bring_up(&new).unwrap();
        for old in [VERSION_1, VERSION_2, VERSION_3, VERSION_4] {
            let old = written_by(old);
            assert_ne!(form(&old), form(&new));
            bring_up(&old).unwrap();
            assert_eq!(form(&old), form(&new));
            let version: i64 = old
                .pragma_query_value(None, "user_version", |row| row.get(0))
                .unwrap();
            assert_eq!(version, VERSION);
            bring_up(&old).unwrap();
        }
    }

    #[test]
    fn an_upgrade_that_fails_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let db = Connection::open(file.path()).unwrap();
        db.execute_batch(VERSION_1).unwrap();
        // Somebody's own table is in the way of the last view.
        db.execute_batch("DROP VIEW history; CREATE TABLE history (x)")
            .unwrap();
        let before = form(&db);
        bring_up(&db).unwrap_err();
        drop(db);
        let db = Connection::open(file.path()).unwrap();
        assert_eq!(form(&db), before);
        let version: i64 = db
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, 1);
    }

    #[test]
    fn a_newer_database_is_left_alone() {
        let db = written_by(VERSION_1);
        db.pragma_update(None, "user_version", VERSION + 1).unwrap();
        let error = bring_up(&db).unwrap_err();
        assert_eq!(
            error.to_string(),
            "queue.db was written by a newer smtpmta (schema 6, this version knows up to 5)"
        );
        assert!(db.is_autocommit());
    }
}
