//! The ID that names a message everywhere, and the stamps of history: one clock-like counter.
//!
//! Unique and rising even when the clock stands still or is set back, so that a new row is always the
//! last of its table.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{Stamp, Watch};

/// Names a message everywhere: in the reply, the Received line, the log, the queue and the reports.
/// Sixteen hexadecimal digits of the microsecond in which it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub i64);

impl MessageId {
    /// When the message arrived.
    #[must_use]
    pub fn arrived(self) -> Stamp {
        Stamp(self.0)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// The word is not sixteen hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(word: &str) -> Result<MessageId, NotAnId> {
        if word.len() != 16 || !word.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NotAnId);
        }
        i64::from_str_radix(word, 16).map(MessageId).map_err(|_| NotAnId)
    }
}

/// Gives stamps that are unique and rising: the clock's microsecond, or one more than the last.
#[derive(Debug)]
pub struct Stamps {
    watch: Arc<Watch>,
    last: AtomicI64,
}

impl Stamps {
    /// A counter that gives nothing up to and including `last`.
    #[must_use]
    pub fn after(last: Stamp, watch: Arc<Watch>) -> Stamps {
        Stamps {
            watch,
            last: AtomicI64::new(last.0),
        }
    }

    /// What the clock shows, which may be earlier than what was given before.
    pub fn moment(&self) -> Stamp {
        self.watch.now()
    }

    /// How far that is certain.
    pub fn certain(&self) -> Stamp {
        self.watch.moment().certain
    }

    /// A stamp later than every other one given so far.
    pub fn next(&self) -> Stamp {
        let now = self.watch.shows().0;
        let before = self
            .last
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(after(last, now)))
            .unwrap_or_else(|last| last);
        Stamp(after(before, now))
    }

    /// An ID that no other message has.
    pub fn message_id(&self) -> MessageId {
        MessageId(self.next().0)
    }
}

/// The clock's microsecond, or one more than the last. Where there is no more the database was tampered with, and the
/// clock is all there is: what is given twice is refused there.
fn after(last: i64, now: i64) -> i64 {
    last.checked_add(1).map_or(now, |next| now.max(next))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn stamps_and_ids_rise_and_are_unique_while_the_clock_is_set_back_and_forward() {
        let begin = Stamp(1_000_000_000_000_000);
        let clock = Clock::manual(begin);
        let stamps = Stamps::after(begin, Arc::new(Watch::new(clock.clone(), None)));
        let mut last = begin;
        let moves = [
            begin,
            begin.plus(DAY),
            begin,
            begin.minus(DAY),
            Stamp::EPOCH,
            begin.plus(DAY / 2),
            begin.plus(2 * DAY),
        ];
        for at in moves {
            clock.set(at);
            for _ in 0..1000 {
                let (stamp, id) = (stamps.next(), stamps.message_id());
                assert!(last < stamp && stamp < id.arrived(), "{last:?} {stamp:?} {id:?}");
                last = id.arrived();
            }
        }
        // And it follows the clock again as soon as that has caught up.
        assert!(last.since(begin.plus(2 * DAY)) < Duration::from_secs(1));
    }

    #[test]
    fn behind_the_last_stamp_of_all_the_clock_is_followed_again() {
        let clock = Clock::manual(Stamp(1_000_000_000_000_000));
        let stamps = Stamps::after(Stamp(i64::MAX), Arc::new(Watch::new(clock.clone(), None)));
        assert_eq!(stamps.next(), clock.now());
        assert!(stamps.next() > clock.now());
    }
}
