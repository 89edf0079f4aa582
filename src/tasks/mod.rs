//! The tasks: their names, what each is doing, the doorbell, and the handler table.
//!
//! Knows how tasks are started, watched and stopped; never what they do.

pub mod bell;
pub mod board;
mod hatch;
pub mod member;
#[cfg(test)]
#[cfg(feature = "schedules")]
mod schedules;
pub mod table;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A task of the MTA. Its name is that of its thread, so that `ps -L` and `top -H` show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// `smtpmta`: the add-in task.
    Addin,
    /// `omsgcnv`: the outbound message conversion.
    OutboundConversion,
    /// `osesctl`: the outbound session controller.
    OutboundController,
    /// `isesctl`: the inbound session controller.
    InboundController,
    /// `imsgcnv`: the inbound message conversion.
    InboundConversion,
    /// `drt`: the delivery report task.
    DeliveryReport,
    /// `http`: answers those who look on, where there is `--http`.
    Http,
    /// `iseshlrN`: an inbound session handler.
    InboundHandler(usize),
    /// `oseshlrN`: an outbound session handler.
    OutboundHandler(usize),
}

impl Task {
    /// The primary tasks, in the order in which they start.
    pub const PRIMARY: [Task; 6] = [
        Task::Addin,
        Task::OutboundConversion,
        Task::OutboundController,
        Task::InboundController,
        Task::InboundConversion,
        Task::DeliveryReport,
    ];
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Addin => f.write_str("smtpmta"),
            Task::OutboundConversion => f.write_str("omsgcnv"),
            Task::OutboundController => f.write_str("osesctl"),
            Task::InboundController => f.write_str("isesctl"),
            Task::InboundConversion => f.write_str("imsgcnv"),
            Task::DeliveryReport => f.write_str("drt"),
            Task::Http => f.write_str("http"),
            Task::InboundHandler(n) => write!(f, "iseshlr{n}"),
            Task::OutboundHandler(n) => write!(f, "oseshlr{n}"),
        }
    }
}

/// Runs a piece of a task's work; the one place where a panic is caught. Gives `None` for one, after it has been
/// logged.
pub fn guarded<T>(task: Task, work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(panic) => {
            tell(task, &*panic);
            None
        }
    }
}

#[cold]
#[inline(never)]
fn tell(task: Task, panic: &(dyn Any + Send)) {
    let what = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    log::error!("{task} met an error in the program and gave up what it was doing: {what}");
}
