//! The tasks that are to run, and could not be started, because the system was short of something: what is tried again, and
//! when.
//!
//! Never holds a task that runs, or one that the operator has stopped. Never starts anything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::console::command::Part;

/// How long after a trial the next one is made.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be started.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Why each could not be started when it was tried last.
    parts: BTreeMap<Part, String>,
    /// When that was.
    tried: Option<Instant>,
}

impl Wanted {
    /// `part` could not be started just now; whether the reason is another one than before.
    pub(super) fn insert(&mut self, part: Part, reason: String, now: Instant) -> bool {
        self.tried = Some(now);
        let is_known = self.parts.get(&part) == Some(&reason);
        self.parts.insert(part, reason);
        !is_known
    }

    /// `part` has been started, or is to be stopped; whether it was wanted.
    pub(super) fn remove(&mut self, part: Part) -> bool {
        self.parts.remove(&part).is_some()
    }

    /// All of them.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        self.parts.keys().copied()
    }

    /// Until the next trial; `None` where nothing is to be tried.
    pub(super) fn until_next(&self, now: Instant) -> Option<Duration> {
        let tried = self.tried.filter(|_| !self.parts.is_empty())?;
        Some((tried + PAUSE).saturating_duration_since(now))
    }

    /// What is to be tried now, in the order in which tasks start.
    pub(super) fn due(&self, now: Instant) -> Vec<Part> {
        if self.until_next(now).is_none_or(|pause| !pause.is_zero()) {
            return Vec::new();
        }
        let parts = Part::All.members().iter();
        parts
            .filter(|part| self.parts.contains_key(*part))
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_started_is_tried_once_in_a_while_in_the_order_in_which_tasks_start() {
        let (mut wanted, now) = (Wanted::default(), Instant::now());
        assert_eq!((wanted.until_next(now), wanted.due(now)), (None, Vec::new()));
        let reason = || "no threads".to_owned();
        for part in [Part::DrTask, Part::InboundTransport, Part::OutboundConversion] {
            assert!(wanted.insert(part, reason(), now));
        }
        assert_eq!(
            (wanted.until_next(now), wanted.due(now)),
            (Some(PAUSE), Vec::new())
        );
        let later = now + PAUSE;
        assert_eq!(wanted.until_next(later), Some(Duration::ZERO));
        let all = [Part::OutboundConversion, Part::InboundTransport, Part::DrTask];
        assert_eq!(wanted.due(later), all);
        assert!(!wanted.insert(Part::DrTask, reason(), later), "that is known");
        assert!(wanted.insert(Part::DrTask, "no memory".to_owned(), later));
        assert!(wanted.due(later).is_empty());
        assert_eq!(wanted.due(later + PAUSE), all);
    }

    #[test]
    fn what_was_started_or_stopped_is_not_tried_again() {
        let (mut wanted, now) = (Wanted::default(), Instant::now());
        wanted.insert(Part::DrTask, String::new(), now);
        assert!(wanted.remove(Part::DrTask));
        assert!(!wanted.remove(Part::DrTask));
        assert_eq!(wanted.until_next(now), None);
        assert!(wanted.due(now + PAUSE).is_empty());
    }
}
