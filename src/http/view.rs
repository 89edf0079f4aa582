//! Looks at the MTA for all who ask: gathers the facts, once a second at most, however many ask.
//!
//! Changes nothing, and nobody's work waits for it. What takes the longer the more mail there is, the ages of what waits, is
//! counted beside, and takes no more than a hundredth of the time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::exposition::NAMED_HOPS;
use super::facts::{Ages, Asked, Facts, Measured, QueueFacts, Staff};
use super::hour::{Hour, Traffic};
use super::page::TRACED;
use crate::clock::Stamp;
use crate::latest::Latest;
use crate::tasks::{Task, guarded};
use crate::work_queue::id::MessageId;
use crate::work_queue::{QueueError, WorkQueue};

/// What was seen is good for so long.
const FRESH: Duration = Duration::from_secs(1);

/// How long who asks waits for somebody else who looks.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ages are counted this often at most …
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// … and never before so many times has passed as it took.
const SHARE: u32 = 100;

/// How long who asks first waits for the ages: of a usual queue they are there by then.
const MOMENT: Duration = Duration::from_millis(100);

/// Next hops whose ages are kept.
const AGED_HOPS: usize = 100;

/// Tells who works.
type Roll = Box<dyn Fn() -> Staff + Send + Sync>;

/// What there is to see.
pub struct View {
    queue: WorkQueue,
    roll: Roll,
    hostname: Latest<String>,
    started: Stamp,
    hour: Mutex<Hour>,
    seen: Mutex<Seen>,
    looked: Condvar,
    counting: Mutex<Counting>,
    counted: Condvar,
}

/// What was seen last.
#[derive(Default)]
struct Seen {
    last: Option<(Instant, Arc<Facts>)>,
    /// Somebody looks just now.
    is_looking: bool,
}

/// The ages that were counted last.
#[derive(Default)]
struct Counting {
    last: Option<Ages>,
    /// When they may be counted again.
    due: Option<Instant>,
    /// They are being counted just now.
    runs: bool,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}

impl View {
    /// Of this queue, on a host of this name; `roll` tells who works.
    pub fn new(
        queue: WorkQueue,
        hostname: &str,
        roll: impl Fn() -> Staff + Send + Sync + 'static,
    ) -> Arc<View> {
        let started = queue.now();
        let hour = Hour::begin(Instant::now(), totals(&queue));
        Arc::new(View {
            queue,
            roll: Box::new(roll),
            hostname: Latest::new(Arc::new(hostname.to_owned())),
            started,
            hour: Mutex::new(hour),
            seen: Mutex::default(),
            looked: Condvar::new(),
            counting: Mutex::default(),
            counted: Condvar::new(),
        })
    }

    /// The host's name is this from now on.
    pub fn rename(&self, hostname: &str) {
        self.hostname.replace(Arc::new(hostname.to_owned()));
    }

    /// The host's name.
    #[must_use]
    pub fn hostname(&self) -> Arc<String> {
        self.hostname.take()
    }

    /// To be called once in a while, so that each minute gets what is its own; gives until when.
    #[must_use]
    pub fn tick(&self) -> Duration {
        let (now, totals) = (Instant::now(), totals(&self.queue));
        let mut hour = self.hour.lock();
        hour.tick(now, totals);
        hour.until_next(now)
    }

    /// The facts, as they are now or were a moment ago; `None` where it takes too long to find out.
    #[must_use]
    pub fn facts(self: &Arc<View>) -> Option<Arc<Facts>> {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.seen.lock();
        loop {
            if let Some((at, facts)) = &seen.last
                && at.elapsed() < FRESH
            {
                return Some(Arc::clone(facts));
            }
            if !seen.is_looking {
                break;
            }
            // What he sees is for all.
            if self.looked.wait_until(&mut seen, until).timed_out() {
                return None;
            }
        }
        seen.is_looking = true;
        drop(seen);
        let facts = guarded(Task::Http, || self.look()).map(Arc::new);
        let mut seen = self.seen.lock();
        seen.is_looking = false;
        seen.last = facts.clone().map(|facts| (Instant::now(), facts));
        drop(seen);
        self.looked.notify_all();
        facts
    }

    fn look(self: &Arc<View>) -> Facts {
        let ages = self.ages();
        let _ = self.tick();
        let (metrics, totals) = (self.queue.metrics(), totals(&self.queue));
        let measured = Measured {
            acceptance: metrics.acceptance.counted(),
            transmission: metrics.transmission.counted(),
            local_delivery: metrics.local_delivery.counted(),
            group: metrics.group.counted(),
        };
        Facts {
            at: self.queue.now(),
            started: self.started,
            hostname: self.hostname().to_string(),
            staff: (self.roll)(),
            queue: self.queue_facts().map_err(|error| error.to_string()),
            loss: self.queue.loss().map(|loss| loss.to_string()),
            ages,
            measured,
            minutes: self.hour.lock().minutes(totals),
        }
    }

    fn queue_facts(&self) -> Result<QueueFacts, QueueError> {
        Ok(QueueFacts {
            gauges: self.queue.gauges(NAMED_HOPS)?,
            counters: self.queue.counters()?,
            failures: self.queue.last_failures()?,
        })
    }

    /// The ages, as they were counted last; has them counted again, if it is time for that.
    fn ages(self: &Arc<View>) -> Option<Ages> {
        let mut counting = self.counting.lock();
        if !counting.runs && counting.due.is_none_or(|due| due <= Instant::now()) {
            counting.runs = true;
            drop(counting);
            let view = Arc::clone(self);
            let begun = std::thread::Builder::new()
                .name("http-ages".to_owned())
                .spawn(move || view.count_ages());
            counting = self.counting.lock();
            if let Err(error) = begun {
                log::debug!("the ages of what waits are not counted: {error}");
                counting.runs = false;
            }
        }
        if counting.runs && counting.last.is_none() {
            let _ = self.counted.wait_for(&mut counting, MOMENT);
        }
        counting.last.clone()
    }

    fn count_ages(&self) {
        let begun = Instant::now();
        let rows = guarded(Task::Http, || self.queue.ages());
        let took = begun.elapsed();
        let ages = rows.and_then(|rows| {
            let told = rows.inspect_err(|error| log::debug!("the ages of what waits: {error}"));
            told.ok().map(|rows| Ages::of(rows, AGED_HOPS, self.queue.now()))
        });
        let mut counting = self.counting.lock();
        counting.runs = false;
        counting.due = Some(Instant::now() + (took * SHARE).max(COUNT_EVERY));
        counting.last = ages;
        drop(counting);
        self.counted.notify_all();
    }

    /// What is known of the message whose ID somebody has written so.
    #[must_use]
    pub fn message(&self, id: Option<&str>) -> Asked {
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return Asked::Nothing;
        };
        let Ok(id) = id.parse::<MessageId>() else {
            return Asked::NoId;
        };
        match self.queue.begin_of_trace(id, TRACED) {
            Ok(Some(trace)) => Asked::Message(Box::new(trace), TRACED),
            Ok(None) => Asked::Unknown,
            Err(error) => Asked::Unreadable(error.to_string()),
        }
    }
}

/// What came and went since the start.
fn totals(queue: &WorkQueue) -> Traffic {
    let metrics = queue.metrics();
    Traffic {
        accepted: metrics.acceptance.count(),
        delivered: metrics.transmission.count() + metrics.local_delivery.count(),
    }
}
