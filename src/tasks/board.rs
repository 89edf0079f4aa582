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
    /// `task` is doing this now.
    pub fn write(&self, task: Task, doing: impl Into<Cow<'static, str>>) {
        self.0.lock().insert(task, doing.into());
    }

    /// `task` has come to its end, unless another one of its name has begun meanwhile.
    pub fn end(&self, task: Task) {
        let mut lines = self.0.lock();
        if lines.get(&task).is_some_and(|doing| doing == Self::STOPPING) {
            lines.remove(&task);
        }
    }

    /// What a task is doing while it is being stopped.
    pub const STOPPING: &'static str = "Stopping";

    /// What `task` wrote last; `None` if it does not run.
    #[must_use]
    pub fn line(&self, task: Task) -> Option<String> {
        self.0.lock().get(&task).map(ToString::to_string)
    }
}
