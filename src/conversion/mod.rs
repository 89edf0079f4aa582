//! imsgcnv and omsgcnv: conversion of what came from the Internet, and of what goes there.
//!
//! Never changes content that is only relayed, and never speaks to a peer.

pub mod field;
pub mod from_internet;
pub mod inbound_task;
pub mod outbound_task;
pub mod to_internet;

use std::time::Duration;

use crate::clock::{Moment, Stamp};
use crate::work_queue::QueueError;
use crate::work_queue::id::MessageId;
use crate::work_queue::retry::RetryPolicy;

/// Messages that a conversion task takes in hand at once.
const BATCH: usize = 200;

/// What has been converted is recorded at least this often.
const SLICE: Duration = Duration::from_secs(1);

/// When a message whose content could not be read is tried again: after so long, then after twice as long, after three
/// times as long …
const AGAIN: Duration = Duration::from_secs(60);
/// … and in the end after so long. By the schedule of retries, where that is sooner.
const AGAIN_AT_LAST: Duration = Duration::from_secs(3600);

/// How often a content is tried again of which SQLite says that it is damaged: what a disk could not read once it may
/// read another time.
const MOST_DAMAGED: u32 = 3;

/// What becomes of a recipient whose message can not be worked on just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Trouble passes: it is tried again then.
    Again(Stamp),
    /// Trouble passes, and this has taken too long.
    TooLate,
    /// Damage stays: an operator has to look.
    Aside,
}

impl Fate {
    /// Of a recipient of message `id` that was tried `attempts` times before this `error` came of it.
    fn after(error: &QueueError, attempts: u32, id: MessageId, retry: &RetryPolicy, moment: Moment) -> Fate {
        if !error.will_pass() || (error.is_damage() && attempts >= MOST_DAMAGED) {
            return Fate::Aside;
        }
        let attempts = attempts.saturating_add(1);
        // Most of what keeps a content from being read is soon over.
        let soon = AGAIN.saturating_mul(attempts).min(AGAIN_AT_LAST);
        match retry.next_attempt(id.arrived(), attempts, moment) {
            Some(next) => Fate::Again(next.min(moment.shown.plus(soon))),
            None => Fate::TooLate,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            schedule: vec![Duration::from_secs(300), Duration::from_secs(4 * 3600)],
            expire: Duration::from_secs(5 * 24 * 3600),
        }
    }

    fn file(kind: io::ErrorKind) -> QueueError {
        QueueError::File {
            path: "content".into(),
            error: kind.into(),
        }
    }

    /// What becomes of a message of which nothing else was tried, minute after minute, until it is not tried again.
    fn course(error: &QueueError) -> (u32, Fate) {
        let id = MessageId(1_000_000_000_000_000);
        let mut now = id.arrived();
        let mut attempts = 0;
        loop {
            match Fate::after(error, attempts, id, &policy(), now.into()) {
                Fate::Again(then) => {
                    assert!(then > now && then.since(now) <= AGAIN_AT_LAST);
                    assert!(attempts > 0 || then.since(now) == AGAIN);
                    now = then;
                }
                end => return (attempts, end),
            }
            attempts += 1;
        }
    }

    #[test]
    fn what_keeps_a_content_from_being_read_and_passes_is_waited_for_as_long_as_its_message_has_time() {
        for passes in [
            file(io::ErrorKind::Other),
            file(io::ErrorKind::PermissionDenied),
            QueueError::Locked,
        ] {
            let (attempts, end) = course(&passes);
            assert_eq!(end, Fate::TooLate, "{passes}");
            // Often enough, and not so often that history would be full of it.
            assert!((100..300).contains(&attempts), "{passes}: {attempts} attempts");
        }
    }

    #[test]
    fn what_is_lost_is_put_aside_at_once_and_what_is_damaged_soon() {
        for lost in [
            QueueError::NoContent,
            QueueError::Panicked,
            QueueError::Cut { size: 1, whole: 2 },
            file(io::ErrorKind::NotFound),
        ] {
            assert_eq!(course(&lost), (0, Fate::Aside), "{lost}");
        }
        assert_eq!(course(&QueueError::damage()), (MOST_DAMAGED, Fate::Aside));
    }
}
