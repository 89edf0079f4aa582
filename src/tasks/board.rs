//! The board on which the primary tasks write what they are doing, for `show tasks`.

use std::borrow::Cow;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Task;

/// One line for each primary task. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Vec<(Task, Cow<'static, str>)>>>);

impl Board {
    /// `task` is doing this now.
    pub fn write(&self, task: Task, doing: impl Into<Cow<'static, str>>) {
        let mut lines = self.0.lock();
        let doing = doing.into();
        match lines.iter_mut().find(|(t, _)| *t == task) {
            Some(line) => line.1 = doing,
            None => lines.push((task, doing)),
        }
    }

    /// What `task` wrote last.
    #[must_use]
    pub fn line(&self, task: Task) -> Option<String> {
        self.0
            .lock()
            .iter()
            .find(|(t, _)| *t == task)
            .map(|(_, doing)| doing.to_string())
    }
}
