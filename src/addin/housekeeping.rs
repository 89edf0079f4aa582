//! Housekeeping: once a day, and when the operator asks for it. Forgets mail that left long ago, mends what
//! is broken in the rows of the queue, sweeps up files that belong to nobody, and compacts the database.
//!
//! Works in threads of its own, one at a time: the add-in task stays there for the operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::Config;
use crate::tasks::{Task, guarded};
use crate::work_queue::id::MessageId;
use crate::work_queue::{Mended, WorkQueue};
use chrono::{Days, Local, NaiveDateTime, NaiveTime};

/// Sees to the housekeeping.
pub(super) struct Housekeeper {
    queue: WorkQueue,
    /// Content files that were begun before this belong to nobody who still writes them.
    started: MessageId,
    /// When it was last looked whether it is time.
    looked: NaiveDateTime,
    busy: Arc<AtomicBool>,
}

impl Housekeeper {
    /// A housekeeper, who begins by sweeping up what the last run left behind: content files that were begun before
    /// `started`, which must have been given before anybody could begin one in this run.
    pub(super) fn new(queue: WorkQueue, started: MessageId) -> Housekeeper {
        let keeper = Housekeeper {
            queue,
            started,
            looked: Local::now().naive_local(),
            busy: Arc::default(),
        };
        let queue = keeper.queue.clone();
        // The listeners have just been announced: this is no time to compact.
        keeper.work(move || sweep(&queue, started));
        keeper
    }

    /// How long until the next housekeeping; a long time if there is none.
    pub(super) fn until_next(&self, config: &Config) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let Some(minutes) = config.housekeeping else {
            return DAY;
        };
        let now = Local::now().naive_local();
        (next(now, minutes) - now).to_std().unwrap_or(DAY)
    }

    /// Whether it has become time since this was last asked. A clock that is set makes it time once at most.
    pub(super) fn is_due(&mut self, config: &Config) -> bool {
        let now = Local::now().naive_local();
        let looked = std::mem::replace(&mut self.looked, now);
        config
            .housekeeping
            .is_some_and(|minutes| next(looked, minutes) <= now)
    }

    /// Begins, unless it is at it already; whether it did.
    pub(super) fn begin(&self, config: &Config) -> bool {
        let (queue, keep, started) = (self.queue.clone(), config.keep_history, self.started);
        self.work(move || {
            match queue.forget(keep) {
                Ok(0) => {}
                Ok(forgotten) => log::info!("housekeeping: {forgotten} messages forgotten"),
                Err(error) => log::error!("housekeeping: {error}"),
            }
            mend(&queue);
            sweep(&queue, started);
            match queue.compact() {
                Ok(0) => {}
                Ok(octets) => {
                    log::info!("housekeeping: {octets} octets of the work queue given back to the disk")
                }
                Err(error) => log::error!("housekeeping: the work queue could not be compacted: {error}"),
            }
        })
    }

    /// Does `work` in a thread of its own; whether it began.
    fn work(&self, work: impl FnOnce() + Send + 'static) -> bool {
        if self.busy.swap(true, Ordering::SeqCst) {
            return false;
        }
        let busy = Arc::clone(&self.busy);
        let work = move || {
            let _ = guarded(Task::Addin, work);
            busy.store(false, Ordering::SeqCst);
        };
        let begun = std::thread::Builder::new()
            .name("housekeeping".to_owned())
            .spawn(work);
        if let Err(error) = &begun {
            self.busy.store(false, Ordering::SeqCst);
            log::error!("housekeeping could not begin: {error}");
        }
        begun.is_ok()
    }
}

fn mend(queue: &WorkQueue) {
    match queue.mend() {
        Ok(Mended { held: 0, mended: 0 }) => {}
        Ok(Mended { held, mended }) => {
            log::error!(
                "housekeeping: the work queue was damaged: {held} messages held, {mended} rows put right"
            );
        }
        Err(error) => log::error!("housekeeping: the work queue could not be looked through: {error}"),
    }
}

/// The next moment after `now` that is so many minutes after midnight.
fn next(now: NaiveDateTime, minutes: u32) -> NaiveDateTime {
    let at = NaiveTime::from_num_seconds_from_midnight_opt(minutes * 60, 0).unwrap_or_default();
    let today = now.date().and_time(at);
    if today > now {
        today
    } else {
        today.checked_add_days(Days::new(1)).unwrap_or(today)
    }
}

fn sweep(queue: &WorkQueue, started: MessageId) {
    match queue.sweep(started) {
        Ok(swept) if swept.removed > 0 => {
            log::info!(
                "housekeeping: {} content files that belonged to nobody removed",
                swept.removed
            );
        }
        Ok(_) => {}
        Err(error) => log::error!("housekeeping: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_later_today_or_tomorrow_and_never_now() {
        let at = |text: &str| text.parse::<NaiveDateTime>().unwrap();
        let one = |now| next(at(now), 60).to_string();
        assert_eq!(one("2026-11-25T00:59:59.999"), "2026-11-25 01:00:00");
        assert_eq!(one("2026-11-25T01:00:00"), "2026-11-26 01:00:00");
        assert_eq!(one("2026-12-31T23:00:00"), "2027-01-01 01:00:00");
    }
}
