//! Messages that stand on broken pages of the database: whoever looks for work passes them over, so that the others go
//! on without them.
//!
//! Kept in memory only, since nothing can be written there. Says nothing of how a message stands, and is found anew after
//! the next start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::id::MessageId;

/// How long a message is passed over that can not be read; the next time for twice as long. A disk that can not read
/// something may read it a moment later.
const PAUSE: Duration = Duration::from_secs(1);
/// It is passed over for no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1024);

/// How often it is looked further for messages that can be read, at once.
pub(super) const MOST_LOOKS: usize = 20;

/// How often those are forgotten that have not been found broken again.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// So many that could not be held are tried again at once.
const MOST_TRIED: usize = 20;

/// So many messages are told of, one by one.
const MOST_TOLD: usize = 1000;

/// Until when a message is passed over.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// This moment; and for how long the next time.
    Moment(Instant, Duration),
    /// It is held. That is tried at this moment; and for how long it is left alone then.
    Held(Instant, Duration),
}

/// The messages that are passed over.
#[derive(Default)]
pub(super) struct Broken(Mutex<Known>);

#[derive(Default)]
struct Known {
    messages: BTreeMap<MessageId, Until>,
    swept_at: Option<Instant>,
}

impl Known {
    /// Forgets those that nobody has come to again for the longest pause: they have gone, or can be read by now.
    fn sweep(&mut self, now: Instant) {
        let is_due = |at: Instant| now.saturating_duration_since(at) >= SWEEP_EVERY;
        if !self.swept_at.is_none_or(is_due) {
            return;
        }
        self.swept_at = Some(now);
        self.messages.retain(|_, until| match until {
            Until::Moment(until, _) => now < *until + LONGEST_PAUSE,
            Until::Held(..) => true,
        });
    }
}

impl Broken {
    /// Passes over a message that can not be read just now; whether somebody should hear of it.
    pub(super) fn pass_over(&self, id: MessageId) -> bool {
        let known = &mut self.0.lock().messages;
        let (pause, is_new) = match known.get(&id) {
            None => (PAUSE, true),
            Some(Until::Moment(_, pause)) => (*pause, false),
            Some(Until::Held(..)) => return false,
        };
        let until = Until::Moment(Instant::now() + pause, (pause * 2).min(LONGEST_PAUSE));
        known.insert(id, until);
        is_new && known.len() <= MOST_TOLD
    }

    /// Passes over a message of which something was done that can not be recorded, and must not be done again, until it is
    /// held.
    pub(super) fn pass_over_until_held(&self, id: MessageId) {
        let until = Until::Held(Instant::now() + PAUSE, PAUSE * 2);
        self.0.lock().messages.insert(id, until);
    }

    /// Some of those that could not be held and are to be tried again by now. The next time is later, and later each time.
    pub(super) fn to_be_held(&self, now: Instant) -> Vec<MessageId> {
        let known = &mut self.0.lock().messages;
        let due = known.iter_mut().filter_map(|(id, until)| match until {
            Until::Held(at, pause) if *at <= now => {
                *until = Until::Held(now + *pause, (*pause * 2).min(LONGEST_PAUSE));
                Some(*id)
            }
            _ => None,
        });
        due.take(MOST_TRIED).collect()
    }

    /// It is held: its state says that now.
    pub(super) fn is_held(&self, id: MessageId) {
        self.0.lock().messages.remove(&id);
    }

    /// Whether it is to be passed over now.
    pub(super) fn holds(&self, id: MessageId) -> bool {
        match self.0.lock().messages.get(&id) {
            None => false,
            Some(Until::Moment(until, _)) => Instant::now() < *until,
            Some(Until::Held(..)) => true,
        }
    }

    /// Whether it was passed over, and has not been forgotten since.
    #[cfg(test)]
    pub(super) fn knows(&self, id: MessageId) -> bool {
        self.0.lock().messages.contains_key(&id)
    }

    /// How many messages there are that were passed over: among so many more, what is looked for is found.
    pub(super) fn count(&self) -> usize {
        let mut known = self.0.lock();
        if !known.messages.is_empty() {
            known.sweep(Instant::now());
        }
        known.messages.len()
    }

    /// Those of `ids` that are not passed over, at most `limit`.
    pub(super) fn without(&self, mut ids: Vec<MessageId>, limit: usize) -> Vec<MessageId> {
        if self.count() > 0 {
            ids.retain(|id| !self.holds(*id));
        }
        ids.truncate(limit);
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_is_looked_at_again_after_a_moment_and_what_can_not_be_recorded_when_it_is_held() {
        let broken = Broken::default();
        let [first, second, third] = [1, 2, 3].map(MessageId);
        assert!(broken.pass_over(first) && !broken.pass_over(first));
        broken.pass_over_until_held(second);
        assert!(!broken.pass_over(second));
        assert_eq!(broken.without(vec![first, second, third], 9), [third]);
        assert_eq!((broken.holds(first), broken.count()), (true, 2));
        // Its time is over.
        let over = Until::Moment(Instant::now(), PAUSE * 4);
        broken.0.lock().messages.insert(first, over);
        assert_eq!(broken.without(vec![first, second, third], 9), [first, third]);
        assert_eq!(broken.without(vec![first, second, third], 1), [first]);
        assert!(!broken.pass_over(first), "it is told once");
        assert!(broken.holds(first));
    }

    #[test]
    fn what_could_not_be_held_is_tried_again_later_and_later_and_passed_over_until_it_is() {
        let broken = Broken::default();
        let all: Vec<MessageId> = (0..30).map(MessageId).collect();
        all.iter().for_each(|id| broken.pass_over_until_held(*id));
        let mut now = Instant::now() + PAUSE;
        let first = broken.to_be_held(now);
        assert_eq!(first, all[..MOST_TRIED]);
        assert_eq!(broken.to_be_held(now), all[MOST_TRIED..]);
        assert!(broken.to_be_held(now + PAUSE).is_empty());
        now += PAUSE * 2;
        assert_eq!(broken.to_be_held(now), first);
        assert_eq!(broken.to_be_held(now + PAUSE * 3), all[MOST_TRIED..]);
        assert!(all.iter().all(|id| broken.holds(*id)));
        broken.is_held(first[0]);
        assert!(!broken.holds(first[0]) && broken.holds(first[1]));
    }

    #[test]
    fn what_is_not_found_again_is_forgotten() {
        let broken = Broken::default();
        let [first, second, third] = [1, 2, 3].map(MessageId);
        assert!(broken.pass_over(first) && broken.pass_over(second));
        broken.pass_over_until_held(third);
        assert_eq!(broken.count(), 3);
        let later = Instant::now() + SWEEP_EVERY + LONGEST_PAUSE;
        let known = &mut *broken.0.lock();
        known.messages.insert(second, Until::Moment(later, PAUSE));
        known.swept_at = Some(later - PAUSE);
        known.sweep(later);
        assert_eq!(known.messages.len(), 3, "it was looked through a moment ago");
        known.sweep(later + SWEEP_EVERY);
        assert_eq!(
            known.messages.keys().copied().collect::<Vec<_>>(),
            [second, third]
        );
    }
}
