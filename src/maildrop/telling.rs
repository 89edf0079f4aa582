//! How much the log is told of what lies in the maildrop and is no good: anybody can leave any number of such files. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// So many are told one by one …
const FIRST: usize = 10;
/// … in this time; the others are counted, and told of when it is over.
const WHILE: Duration = Duration::from_secs(60);

/// Users whose names are told then.
const MOST_USERS: usize = 10;

/// What was told of late.
#[derive(Debug, Default)]
pub(super) struct Telling {
    since: Option<Instant>,
    told: usize,
    /// How many were not told, by the user whose they are.
    untold: BTreeMap<u32, u64>,
}

impl Telling {
    /// Whether to tell of one more, of this user; otherwise it has been counted.
    pub(super) fn may_tell(&mut self, uid: u32, now: Instant) -> bool {
        self.since.get_or_insert(now);
        if self.told < FIRST {
            self.told += 1;
            return true;
        }
        *self.untold.entry(uid).or_default() += 1;
        false
    }

    /// What is to be told of the others, if the time for that has come.
    pub(super) fn rest(&mut self, now: Instant) -> Option<String> {
        if now.duration_since(self.since?) < WHILE {
            return None;
        }
        let Telling { untold, .. } = std::mem::take(self);
        let files: u64 = untold.values().sum();
        if files == 0 {
            return None;
        }
        let mut of: Vec<(u32, u64)> = untold.into_iter().collect();
        of.sort_by_key(|(_, files)| std::cmp::Reverse(*files));
        let mut text = format!("files={files} users={} more were no good:", of.len());
        for (uid, files) in of.iter().take(MOST_USERS) {
            // A String takes everything.
            let _ = write!(text, " {files} of uid {uid},");
        }
        text.pop();
        if of.len() > MOST_USERS {
            text += " …";
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ones_are_told_and_the_others_counted() {
        let mut telling = Telling::default();
        let now = Instant::now();
        let later = now + WHILE;
        let told = |telling: &mut Telling, many: usize, uid| {
            (0..many).filter(|_| telling.may_tell(uid, now)).count()
        };
        assert_eq!(told(&mut telling, 30, 7), FIRST);
        assert_eq!(told(&mut telling, 3, 9), 0);
        assert_eq!(telling.rest(now), None);
        assert_eq!(
            telling.rest(later).as_deref(),
            Some("files=23 users=2 more were no good: 20 of uid 7, 3 of uid 9")
        );
        assert_eq!(telling.rest(later), None);
        assert!(telling.may_tell(9, later));
    }
}
