//! Housekeeping: once a day, and when the operator asks for it. Forgets mail that left long ago, mends what
//! is broken in the rows of the queue, sweeps up files that belong to nobody, compacts the database, and notes down what
//! it did. When the MTA was away at its time, or died in the midst of it, it is made up for after the next start.
//!
//! Works in threads of its own, one at a time: the add-in task stays there for the operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::clock::Stamp;
use crate::config::Config;
use crate::tasks::{Task, guarded};
use crate::work_queue::id::MessageId;
use crate::work_queue::{QueueError, Tally, WorkQueue};
use chrono::{Days, Local, NaiveDateTime, NaiveTime};

/// Sees to the housekeeping.
pub(super) struct Housekeeper {
    queue: WorkQueue,
    /// Content files that were begun before this belong to nobody who still writes them.
    started: MessageId,
    /// When it was last looked whether it is time.
    looked: NaiveDateTime,
    /// It has become time, and it has not begun.
    owed: bool,
    busy: Arc<AtomicBool>,
}

impl Housekeeper {
    /// A housekeeper, who begins by sweeping up what the last run left behind: content files that were begun before
    /// `started`, which must have been given before anybody could begin one in this run.
    pub(super) fn new(queue: WorkQueue, started: MessageId) -> Housekeeper {
        let keeper = Housekeeper {
            looked: last_of(&queue),
            queue,
            started,
            owed: false,
            busy: Arc::default(),
        };
        let queue = keeper.queue.clone();
        // The listeners have just been announced: this is no time to compact.
        keeper.work(move || {
            if let Err(error) = sweep(&queue, started) {
                log::error!("housekeeping: {error}");
            }
        });
        keeper
    }

    /// How long until the next housekeeping; a long time if there is none, and a short one if it could not begin yet.
    pub(super) fn until_next(&self, config: &Config) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        const SOON: Duration = Duration::from_millis(500);
        let Some(minutes) = config.housekeeping else {
            return DAY;
        };
        if self.owed {
            return SOON;
        }
        let now = Local::now().naive_local();
        (next(now, minutes) - now).to_std().unwrap_or(DAY)
    }

    /// Whether it has become time since it last began, or since the last one of an earlier run. A clock that is set makes it
    /// time once at most.
    pub(super) fn is_due(&mut self, config: &Config) -> bool {
        let now = Local::now().naive_local();
        let looked = std::mem::replace(&mut self.looked, now);
        let has_come = |minutes| next(looked, minutes) <= now;
        self.owed = config
            .housekeeping
            .is_some_and(|minutes| self.owed || has_come(minutes));
        self.owed
    }

    /// Begins, unless it is at it already; whether it did.
    pub(super) fn begin(&mut self, config: &Config) -> bool {
        let (queue, keep, started) = (self.queue.clone(), config.keep_history, self.started);
        let has_begun = self.work(move || keep_house(&queue, keep, started));
        self.owed &= !has_begun;
        has_begun
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

/// All of it, in small steps beside the mail that flows. A part that fails is told, and keeps nobody from the others.
fn keep_house(queue: &WorkQueue, keep: Duration, started: MessageId) {
    let since = Instant::now();
    let mut tally = Tally {
        begun: queue.now(),
        ..Tally::default()
    };
    let mut failed = 0;
    let mut told = |what: &str, error: QueueError| {
        failed += 1;
        // At a stop it ends as it is.
        if !matches!(error, QueueError::Stopped) {
            log::error!("housekeeping: {what}: {error}");
        }
    };
    match queue.forget(keep) {
        Ok(forgotten) => tally.forgotten = forgotten,
        Err(error) => told("what left long ago could not be forgotten", error),
    }
    match queue.mend() {
        Ok(mended) => tally.mended = mended,
        Err(error) => told("the work queue could not be looked through", error),
    }
    if tally.mended.held + tally.mended.mended > 0 {
        log::error!(
            "housekeeping: the work queue was damaged: {} messages held, {} rows put right",
            tally.mended.held,
            tally.mended.mended
        );
    }
    match sweep(queue, started) {
        Ok(removed) => tally.swept = removed,
        Err(error) => told("content that belongs to nobody could not be swept up", error),
    }
    match queue.compact() {
        Ok(octets) => tally.given_back = octets,
        Err(error) => told("the work queue could not be compacted", error),
    }
    if let Err(error) = queue.shorten_log() {
        told("the log of the work queue could not be shortened", error);
    }
    tally.failed = failed;
    tally.took = since.elapsed();
    match queue.note_housekeeping(&tally) {
        Ok(()) => log::info!("housekeeping: {tally}"),
        Err(QueueError::Stopped) => log::info!("housekeeping: ended by a stop"),
        Err(error) => log::error!("housekeeping: it could not be noted down what it did: {error}"),
    }
}

/// Removes content files that belong to nobody; how many.
fn sweep(queue: &WorkQueue, started: MessageId) -> Result<usize, QueueError> {
    let removed = queue.sweep(started)?.removed;
    if removed > 0 {
        log::info!("housekeeping: {removed} content files that belonged to nobody removed");
    }
    Ok(removed)
}

/// When housekeeping last was, or could have been; now, where nothing is known of the past.
fn last_of(queue: &WorkQueue) -> NaiveDateTime {
    let last = queue.last_housekeeping().unwrap_or_else(|error| {
        log::error!("housekeeping: it is not known when it last was: {error}");
        None
    });
    last.map_or_else(|| Local::now().naive_local(), Stamp::local)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_while_the_mta_was_away_is_due_once_after_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let queue = WorkQueue::open(folder.path(), crate::clock::Clock::System).unwrap();
        let mut config = Config::embedded("mail.example.org");
        config.housekeeping = Some(60);
        let keeper = || Housekeeper {
            queue: queue.clone(),
            started: queue.message_id(),
            looked: last_of(&queue),
            owed: false,
            // The first sweep is under way.
            busy: Arc::new(AtomicBool::new(true)),
        };
        assert!(!keeper().is_due(&config), "nothing is known of an earlier one");
        let begun = queue.now().minus(Duration::from_secs(2 * 24 * 3600));
        let tally = Tally {
            begun,
            ..Tally::default()
        };
        queue.note_housekeeping(&tally).unwrap();
        let mut late = keeper();
        assert!(late.is_due(&config));
        assert!(!late.begin(&config));
        assert!(late.is_due(&config), "it could not begin yet");
        late.busy.store(false, Ordering::SeqCst);
        assert!(late.begin(&config));
        while late.busy.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert!(
            !late.is_due(&config) && !keeper().is_due(&config),
            "once is enough"
        );
        queue.note_housekeeping(&tally).unwrap();
        config.housekeeping = None;
        assert!(!keeper().is_due(&config), "nobody wants it");
    }

    #[test]
    fn the_next_time_is_later_today_or_tomorrow_and_never_now() {
        let at = |text: &str| text.parse::<NaiveDateTime>().unwrap();
        let one = |now| next(at(now), 60).to_string();
        assert_eq!(one("2026-11-25T00:59:59.999"), "2026-11-25 01:00:00");
        assert_eq!(one("2026-11-25T01:00:00"), "2026-11-26 01:00:00");
        assert_eq!(one("2026-12-31T23:00:00"), "2027-01-01 01:00:00");
    }
}
