//! A primary task that runs: its thread, the order to stop it, and the handlers that it gives work to.
//!
//! Never knows what the task does.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::bell::Stop;
use super::board::Board;
use super::table::HandlerTable;
use super::{Task, guarded};
use crate::sync::thread::{Builder, JoinHandle};

/// How long a task that panicked rests before it is started again.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// Handlers, as far as they can be stopped.
pub trait Halt {
    /// Stops them; whether all have ended within `grace` and a second.
    fn stop(&self, grace: Duration) -> bool;
}

impl<J: Send + 'static> Halt for HandlerTable<J> {
    fn stop(&self, grace: Duration) -> bool {
        HandlerTable::stop(self, grace)
    }
}

/// A task that runs.
pub struct Member<H> {
    task: Task,
    stop: Stop,
    thread: JoinHandle<()>,
    handlers: Option<H>,
    /// Dropped to wake a controller that waits for callers.
    wake: Option<UnixStream>,
}

impl<H> fmt::Debug for Member<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({})", self.task)
    }
}

impl<H> Member<H> {
    /// Starts the thread of `task`, which does `run` until it is told to stop, and again after a panic. `wake` is dropped
    /// to tell it so where it waits for something else than the order.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn start(
        task: Task,
        board: &Board,
        handlers: Option<H>,
        wake: Option<UnixStream>,
        run: impl Fn(&Stop) + Send + 'static,
    ) -> io::Result<Member<H>> {
        let stop = Stop::default();
        let heard = stop.clone();
        board.begin(task);
        let begun = Builder::new().name(task.to_string()).spawn(move || {
            while guarded(task, || run(&heard)).is_none() && !heard.is_given() {
                let _ = heard.heard().recv_timeout(PAUSE_AFTER_PANIC);
            }
        });
        let thread = begun.inspect_err(|_| {
            board.stop(task);
            board.end(task);
        })?;
        Ok(Member {
            task,
            stop,
            thread,
            handlers,
            wake,
        })
    }

    /// Its handlers.
    #[must_use]
    pub fn handlers(&self) -> Option<&H> {
        self.handlers.as_ref()
    }

    /// Tells it to stop, and waits for nothing.
    pub fn order_stop(&self) {
        self.stop.give();
    }
}

impl<H: Halt> Member<H> {
    /// Stops it, and its handlers within `grace`; whether all have ended.
    pub fn halt(self, grace: Duration) -> bool {
        self.stop.give();
        drop(self.wake);
        let ended = self.handlers.is_none_or(|handlers| handlers.stop(grace));
        // The controllers and the conversions stop between two steps, none of which waits for a peer.
        self.thread.join().is_ok() && ended
    }
}
