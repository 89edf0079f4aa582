//! The doorbell between rooms: `kick`. A ring while one is pending is the same ring; a ring that is lost
//! costs one poll interval, never a message.

use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Mutex, Receiver, Sender, bounded, first_of};

/// How long to wait before something is tried again that has just failed.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);
/// The same during a stop, which leaves little time.
const AT_LAST: Duration = Duration::from_millis(100);

/// One task's doorbell. Clones ring, and hear, the same bell.
#[derive(Clone, Debug)]
pub struct Bell {
    ring: Sender<()>,
    heard: Receiver<()>,
}

impl Default for Bell {
    fn default() -> Bell {
        let (ring, heard) = bounded(1);
        Bell { ring, heard }
    }
}

impl Bell {
    /// Rings, and never waits.
    pub fn kick(&self) {
        // Full: it is ringing already.
        let _ = self.ring.try_send(());
    }

    /// What the task waits on.
    #[must_use]
    pub fn heard(&self) -> &Receiver<()> {
        &self.heard
    }

    /// Waits until somebody rings, until the order to stop is given, and at most for `pause`; whether somebody rang, or a
    /// stop was ordered.
    pub fn rest(&self, stop: &Stop, pause: Duration) -> bool {
        first_of(&self.heard, &stop.heard, pause).is_some() || stop.is_given()
    }

    /// Whether it is the same bell.
    #[must_use]
    pub fn is(&self, other: &Bell) -> bool {
        self.heard.same_channel(&other.heard)
    }
}

/// The doorbells of the tasks that can be kicked, one each.
#[derive(Clone, Debug, Default)]
pub struct Bells {
    /// imsgcnv: there is something in the inbound work queue.
    pub imsgcnv: Bell,
    /// omsgcnv: there is something in SMTP.BOX.
    pub omsgcnv: Bell,
    /// osesctl: there is something in the outbound work queue.
    pub osesctl: Bell,
    /// drt: a recipient has been given up.
    pub drt: Bell,
}

impl Bells {
    /// Rings all of them: nobody knows for whom there is something.
    pub fn kick_all(&self) {
        [&self.imsgcnv, &self.omsgcnv, &self.osesctl, &self.drt]
            .into_iter()
            .for_each(Bell::kick);
    }
}

/// Tells a task to stop: once given, never taken back. Clones are the same order.
#[derive(Clone, Debug)]
pub struct Stop {
    given: Arc<Mutex<Option<Sender<()>>>>,
    heard: Receiver<()>,
}

impl Default for Stop {
    fn default() -> Stop {
        let (given, heard) = bounded(0);
        Stop {
            given: Arc::new(Mutex::new(Some(given))),
            heard,
        }
    }
}

impl Stop {
    /// Gives the order.
    pub fn give(&self) {
        self.given.lock().take();
    }

    /// Whether it has been given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.given.lock().is_none()
    }

    /// Waits a moment before something is tried again that has just failed: until the order is given, at most, and much
    /// less thereafter.
    pub fn pause_after_trouble(&self) {
        if self.is_given() {
            // Not on the order: once given, it would end every pause at once.
            std::thread::park_timeout(AT_LAST);
        } else {
            let _ = self.heard.recv_timeout(AFTER_TROUBLE);
        }
    }

    /// Becomes ready (disconnected) when the order is given.
    #[must_use]
    pub fn heard(&self) -> &Receiver<()> {
        &self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rings_are_heard_once_and_none_is_heard_without_one() {
        let bell = Bell::default();
        assert!(bell.heard().try_recv().is_err());
        bell.kick();
        bell.kick();
        assert!(bell.heard().try_recv().is_ok());
        assert!(bell.heard().try_recv().is_err());
    }

    #[test]
    fn a_stop_is_heard_by_every_clone_and_stays() {
        let stop = Stop::default();
        let other = stop.clone();
        assert!(!other.is_given());
        stop.give();
        assert!(other.is_given());
        assert!(other.heard().recv().is_err());
        assert!(other.heard().recv().is_err());
    }
}
