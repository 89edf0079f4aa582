//! What the service manager is told, where there is one that listens: sd_notify(3). Nobody waits for it.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

/// The service manager.
#[derive(Debug)]
pub struct Manager {
    /// How often it wants to hear that all is well, if it does.
    pause: Option<Duration>,
}

impl Manager {
    /// As the environment says.
    #[must_use]
    pub fn find() -> Manager {
        Manager {
            // Twice as often as it has to be: one message may be late.
            pause: watchdog_enabled().map(|most| most / 2),
        }
    }

    /// Mail is accepted.
    pub fn ready(&self) {
        let _ = notify(&[NotifyState::Ready, NotifyState::Status("accepts mail")]);
    }

    /// The configuration is read again; [`ready`](Manager::ready) when that is done.
    pub fn reloading(&self) {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        let _ = notify(&states);
    }

    /// It stops.
    pub fn stopping(&self) {
        let _ = notify(&[NotifyState::Stopping]);
    }

    /// How often [`lives`](Manager::lives) is to be said.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.pause
    }

    /// All is well: the add-in task has come round.
    pub fn lives(&self) {
        if self.pause.is_some() {
            let _ = notify(&[NotifyState::Watchdog]);
        }
    }
}
