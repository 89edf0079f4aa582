//! The board on which the primary tasks write what they are doing, for `show tasks`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Task;

/// One line for each primary task. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<Task, Cow<'static, str>>>>);

impl Board {
    /// What a task is doing while it is being stopped.
    const STOPPING: &'static str = "Stopping";

    /// `task` begins.
    pub fn begin(&self, task: Task) {
        self.0.lock().insert(task, "Started".into());
    }

    /// `task` is doing this now. That it is being stopped stays to be seen, whatever it does meanwhile.
    pub fn write(&self, task: Task, doing: impl Into<Cow<'static, str>>) {
        let mut lines = self.0.lock();
        if lines.get(&task).is_some_and(|line| line != Self::STOPPING) {
            lines.insert(task, doing.into());
        }
    }

    /// `task` is being stopped.
    pub fn stop(&self, task: Task) {
        self.0.lock().insert(task, Self::STOPPING.into());
    }

    /// `task` has come to its end, unless another one of its name has begun meanwhile.
    pub fn end(&self, task: Task) {
        let mut lines = self.0.lock();
        if lines.get(&task).is_some_and(|line| line == Self::STOPPING) {
            lines.remove(&task);
        }
    }

    /// What `task` wrote last; `None` if it does not run.
    #[must_use]
    pub fn line(&self, task: Task) -> Option<String> {
        self.0.lock().get(&task).map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_being_stopped_is_seen_to_be_until_it_ends_or_another_begins() {
        let board = Board::default();
        let line = || board.line(Task::DeliveryReport);
        board.begin(Task::DeliveryReport);
        board.write(Task::DeliveryReport, "Reporting");
        assert_eq!(line().as_deref(), Some("Reporting"));
        board.stop(Task::DeliveryReport);
        board.write(Task::DeliveryReport, "Idle");
        assert_eq!(line().as_deref(), Some("Stopping"));
        board.end(Task::DeliveryReport);
        board.write(Task::DeliveryReport, "Idle");
        assert_eq!(line(), None, "a last word after the end is no beginning");
        board.begin(Task::DeliveryReport);
        board.end(Task::DeliveryReport);
        assert_eq!(line().as_deref(), Some("Started"));
    }
}
