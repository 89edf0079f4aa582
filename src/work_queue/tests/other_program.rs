//! Another program that has the database open, for tests of those who use the work queue.

use rusqlite::Connection;

use crate::work_queue::WorkQueue;
use crate::work_queue::states::State;

/// The database as somebody else has it.
pub(crate) struct OtherProgram(Connection);

impl OtherProgram {
    /// Opens the database of `queue`.
    pub(crate) fn of(queue: &WorkQueue) -> OtherProgram {
        OtherProgram(Connection::open(queue.spool().join("queue.db")).unwrap())
    }

    /// Locks it: nobody else can write.
    pub(crate) fn lock(&self) {
        self.0.execute_batch("BEGIN IMMEDIATE").unwrap();
    }

    /// Lets others write again.
    pub(crate) fn unlock(&self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }

    /// From now on nothing can be changed in the rows of `recipient`; except that it may become `state`.
    pub(crate) fn refuse_changes(&self, recipient: &str, state: Option<State>) {
        let except = state.map_or(-1, |state| i64::from(state.number()));
        let trigger = format!(
            "CREATE TRIGGER refuses BEFORE UPDATE ON recipient \
             WHEN old.path = '{recipient}' AND new.state <> {except} BEGIN SELECT RAISE(ABORT, 'no'); END"
        );
        self.0.execute_batch(&trigger).unwrap();
    }

    /// And now it can.
    pub(crate) fn allow_changes(&self) {
        self.0.execute_batch("DROP TRIGGER refuses").unwrap();
    }

    /// How many recipients are in this state.
    pub(crate) fn count(&self, state: State) -> usize {
        let sql = "SELECT count(*) FROM recipient WHERE state = ?";
        self.0.query_row(sql, [state.number()], |row| row.get(0)).unwrap()
    }
}
