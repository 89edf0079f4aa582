//! Who works: the tasks that run and those that should, and the handlers. For `show tasks`, and for who looks on while the
//! add-in task is at something else.
//!
//! Never starts or stops anything.

use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::http::facts::{Staff, Standing, TaskFacts};
use crate::inbound::caller::Caller;
use crate::tasks::Task;
use crate::tasks::board::Board;
use crate::tasks::member::Halt;
use crate::tasks::table::{HandlerRow, HandlerTable};
use crate::work_queue::DomainList;

/// What a task is doing that does not run.
pub(super) const STOPPED: &str = "Stopped";

/// The handlers of a controller.
#[derive(Clone)]
pub(super) enum Handlers {
    Inbound(HandlerTable<Box<Caller>>),
    Outbound(HandlerTable<DomainList>),
}

impl Handlers {
    fn rows(&self) -> Vec<HandlerRow> {
        match self {
            Handlers::Inbound(table) => table.rows(),
            Handlers::Outbound(table) => table.rows(),
        }
    }
}

impl Halt for Handlers {
    fn stop(&self, grace: Duration) -> bool {
        match self {
            Handlers::Inbound(table) => table.stop(grace),
            Handlers::Outbound(table) => table.stop(grace),
        }
    }
}

/// Handlers whose sessions are still ending, and the news that they have.
pub(super) type Ending = (Handlers, Receiver<()>);

/// Whether the news has not come yet.
pub(super) fn is_ending((_, ended): &Ending) -> bool {
    matches!(ended.try_recv(), Err(TryRecvError::Empty))
}

/// Who works at a moment.
#[derive(Default)]
pub(super) struct Roster {
    /// The tasks that run.
    pub(super) running: Vec<Task>,
    /// Those that should, and could not be started.
    pub(super) wanted: Vec<Task>,
    /// The handlers of those that run.
    pub(super) handlers: Vec<Handlers>,
    /// Those whose task has been stopped before.
    pub(super) ending: Vec<Ending>,
}

impl Roster {
    /// The handlers that have been started.
    pub(super) fn handler_rows(&self) -> Vec<HandlerRow> {
        let still_ending = self.ending.iter().filter(|ending| is_ending(ending));
        let still_ending = still_ending.map(|(handlers, _)| handlers);
        let all = self.handlers.iter().chain(still_ending);
        all.flat_map(Handlers::rows).collect()
    }

    /// Who works, for those who look on.
    pub(super) fn staff(&self, board: &Board) -> Staff {
        let standing = |task: &Task| match task {
            Task::Addin => Standing::Runs,
            task if self.running.contains(task) => Standing::Runs,
            task if self.wanted.contains(task) => Standing::Missing,
            _ => Standing::Stopped,
        };
        let facts = |task: &Task| TaskFacts {
            task: *task,
            standing: standing(task),
            doing: doing(board, *task),
        };
        let mut places = [0, 0];
        for handlers in &self.handlers {
            match handlers {
                Handlers::Inbound(table) => places[0] = table.places(),
                Handlers::Outbound(table) => places[1] = table.places(),
            }
        }
        Staff {
            tasks: Task::PRIMARY.iter().map(facts).collect(),
            handlers: self.handler_rows(),
            places,
        }
    }
}

/// The primary tasks, and `http` where it is wanted, and what each is doing.
pub(super) fn task_rows(board: &Board) -> Vec<(Task, String)> {
    let primary = Task::PRIMARY.iter().map(|task| (*task, doing(board, *task)));
    let looked_at = board.line(Task::Http).map(|line| (Task::Http, line));
    primary.chain(looked_at).collect()
}

fn doing(board: &Board, task: Task) -> String {
    board.line(task).unwrap_or_else(|| STOPPED.to_owned())
}
