//! The one place where the time is read: a clock that tests can set, and the stamps it gives.
//!
//! Never read anywhere else, so that retry, expiry and reports can be tested without waiting.

mod watch;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, NaiveDateTime, SecondsFormat, Utc};

pub use watch::{DOUBT, Moment, TOLERANCE, Watch};

/// A moment: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub i64);

impl Stamp {
    /// Before every other moment: "due at once".
    pub const EPOCH: Stamp = Stamp(0);

    /// The moment `d` later; stays at the far end rather than wrapping.
    #[must_use]
    pub fn plus(self, d: Duration) -> Stamp {
        Stamp(
            self.0
                .saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// The moment `d` earlier; stays at the far end rather than wrapping.
    #[must_use]
    pub fn minus(self, d: Duration) -> Stamp {
        Stamp(
            self.0
                .saturating_sub(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this moment is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The date and time as RFC 5322 3.3 writes them, in the machine's time zone.
    #[must_use]
    pub fn to_rfc5322(self) -> String {
        self.utc().with_timezone(&Local).to_rfc2822()
    }

    /// The date and time as HTTP writes them (RFC 9110 5.6.7).
    #[must_use]
    pub fn to_http(self) -> String {
        self.utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// `2026-11-23 19:20:01`, in the machine's time zone, for the console.
    #[must_use]
    pub fn to_console(self) -> String {
        self.utc()
            .with_timezone(&Local)
            .format("%Y-%m-%d %H:%M:%S")
            .to_string()
    }

    /// `Mon Nov 23 19:20:01`, in the machine's time zone, as mailq shows it.
    #[must_use]
    pub fn to_mailq(self) -> String {
        let shown = self.utc().with_timezone(&Local);
        shown.format("%a %b %e %H:%M:%S").to_string()
    }

    /// `2026-11-23T19:20:01.123`, in the machine's time zone, for the log.
    #[must_use]
    pub fn to_log(self) -> String {
        self.utc()
            .with_timezone(&Local)
            .format("%Y-%m-%dT%H:%M:%S%.3f")
            .to_string()
    }

    /// `2026-11-23T19:20:01.123+01:00` (RFC 3339), in the machine's time zone, for programs that read the log.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.utc()
            .with_timezone(&Local)
            .to_rfc3339_opts(SecondsFormat::Millis, false)
    }

    /// `Nov 23 19:20:01` (RFC 3164 4.1.2), in the machine's time zone, for the system's log.
    #[must_use]
    pub fn to_syslog(self) -> String {
        self.utc()
            .with_timezone(&Local)
            .format("%b %e %H:%M:%S")
            .to_string()
    }

    /// Date and time in the machine's time zone.
    #[must_use]
    pub fn local(self) -> NaiveDateTime {
        self.utc().with_timezone(&Local).naive_local()
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_console())
    }
}

/// Tells the time: the system's, or one that a test moves by hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that stands still until it is moved.
    Manual(Arc<Hands>),
}

/// The hands of a clock that is moved by hand.
#[derive(Debug)]
pub struct Hands {
    /// What it shows.
    shows: AtomicI64,
    /// How much time has passed, whatever it shows.
    passed: AtomicI64,
}

/// Where the machine's steady clock is counted from.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock {
    /// A clock that shows `at` until [`Clock::advance`] or [`Clock::set`] moves it.
    #[must_use]
    pub fn manual(at: Stamp) -> Clock {
        Clock::Manual(Arc::new(Hands {
            shows: AtomicI64::new(at.0),
            passed: AtomicI64::new(0),
        }))
    }

    /// The present moment.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // this is the one place
    pub fn now(&self) -> Stamp {
        match self {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Stamp::EPOCH.plus(since)
            }
            Clock::Manual(hands) => Stamp(hands.shows.load(Ordering::SeqCst)),
        }
    }

    /// The present moment, and how much time has passed since some moment, which nobody can set.
    #[must_use]
    pub fn read(&self) -> (Stamp, Duration) {
        let passed = match self {
            Clock::System => BEGIN.elapsed(),
            Clock::Manual(hands) => Stamp(hands.passed.load(Ordering::SeqCst)).since(Stamp::EPOCH),
        };
        (self.now(), passed)
    }

    /// Lets time pass on a manual clock; the system's clock stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Clock::Manual(hands) = self {
            for hand in [&hands.shows, &hands.passed] {
                hand.store(Stamp(hand.load(Ordering::SeqCst)).plus(by).0, Ordering::SeqCst);
            }
        }
    }

    /// Sets a manual clock, while no time passes; the system's clock stays as it is.
    pub fn set(&self, to: Stamp) {
        if let Clock::Manual(hands) = self {
            hands.shows.store(to.0, Ordering::SeqCst);
        }
    }
}
