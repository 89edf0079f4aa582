//! What DNS answered a while ago: kept as long as its owner allows (RFC 1035 3.2.1, RFC 2308), and no longer.
//!
//! Pure: the time is given to it. Never keeps a failure, and never grows above its limit.

use std::collections::HashMap;
use std::time::Duration;

use domain::base::Rtype;

use super::message::{Answer, DnsName};
use crate::clock::Stamp;

/// The longest that records are kept, whatever their owner says: a day.
const LONGEST_POSITIVE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest that "there is none" is kept: somebody who repairs a domain should not wait for hours.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(15 * 60);

/// An answer of more records than this is not kept: hardly anybody needs them, and they might fill the memory.
const MOST_RECORDS: usize = 50;

/// Answers by name and type.
#[derive(Debug)]
pub struct Cache {
    entries: HashMap<(DnsName, Rtype), Entry>,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    from: Stamp,
    until: Stamp,
}

impl Entry {
    /// A clock that was set back makes an entry stale: it would live longer than its owner said.
    fn is_fresh(&self, now: Stamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl Cache {
    /// An empty cache that holds up to `limit` answers.
    #[must_use]
    pub fn new(limit: usize) -> Cache {
        Cache {
            entries: HashMap::new(),
            limit,
        }
    }

    /// The answer for this name and type, if one is kept and still fresh.
    #[must_use]
    pub fn find(&self, name: &DnsName, rtype: Rtype, now: Stamp) -> Option<Answer> {
        let entry = self.entries.get(&(name.clone(), rtype))?;
        entry.is_fresh(now).then(|| entry.answer.clone())
    }

    /// Keeps `answer` for `ttl`, within our own bounds; a `ttl` of zero is not kept, nor is what is very large.
    pub fn keep(&mut self, name: &DnsName, rtype: Rtype, answer: &Answer, ttl: Duration, now: Stamp) {
        let longest = match answer {
            Answer::Records(_) | Answer::Alias(_) => LONGEST_POSITIVE,
            Answer::NoData | Answer::NoSuchDomain => LONGEST_NEGATIVE,
        };
        let too_large = matches!(answer, Answer::Records(records) if records.len() > MOST_RECORDS);
        if ttl.is_zero() || too_large || self.limit == 0 {
            return;
        }
        let key = (name.clone(), rtype);
        if self.entries.len() >= self.limit && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let entry = Entry {
            answer: answer.clone(),
            from: now,
            until: now.plus(ttl.min(longest)),
        };
        self.entries.insert(key, entry);
    }

    /// Drops what is stale and, if that is less than a quarter, also the quarter that would be stale soonest:
    /// so a full cache is not walked through at every new name.
    fn make_room(&mut self, now: Stamp) {
        self.entries.retain(|_, entry| entry.is_fresh(now));
        let allowed = self.limit - self.limit.div_ceil(4);
        if self.entries.len() <= allowed {
            return;
        }
        let mut ends: Vec<Stamp> = self.entries.values().map(|entry| entry.until).collect();
        let mut excess = self.entries.len() - allowed;
        let (_, last_to_go, _) = ends.select_nth_unstable(excess - 1);
        let last_to_go = *last_to_go;
        self.entries.retain(|_, entry| {
            let goes = excess > 0 && entry.until <= last_to_go;
            excess -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::message::{Record, name};

    const START: Stamp = Stamp(1_000_000_000_000);

    fn n(text: &str) -> DnsName {
        name(text).unwrap()
    }

    fn after(seconds: u64) -> Stamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn alias() -> Answer {
        Answer::Alias(n("a.test"))
    }

    fn keep(cache: &mut Cache, of: &str, answer: &Answer, seconds: u64) {
        cache.keep(&n(of), Rtype::A, answer, Duration::from_secs(seconds), START);
    }

    #[test]
    fn an_answer_is_found_in_any_case_until_its_ttl_has_passed() {
        let mut cache = Cache::new(10);
        keep(&mut cache, "Example.org", &alias(), 60);
        assert_eq!(cache.find(&n("example.ORG"), Rtype::A, after(59)), Some(alias()));
        assert_eq!(cache.find(&n("example.org"), Rtype::A, after(60)), None);
        assert_eq!(cache.find(&n("example.org"), Rtype::MX, after(1)), None);
    }

    #[test]
    fn a_ttl_of_zero_is_not_kept() {
        let mut cache = Cache::new(10);
        keep(&mut cache, "example.org", &alias(), 0);
        assert_eq!(cache.find(&n("example.org"), Rtype::A, START), None);
    }

    #[test]
    fn negative_answers_are_kept_for_a_quarter_of_an_hour_at_most() {
        let mut cache = Cache::new(10);
        keep(&mut cache, "example.org", &Answer::NoSuchDomain, 86_400);
        assert!(cache.find(&n("example.org"), Rtype::A, after(899)).is_some());
        assert!(cache.find(&n("example.org"), Rtype::A, after(900)).is_none());
    }

    #[test]
    fn records_are_kept_for_a_day_at_most() {
        let mut cache = Cache::new(10);
        keep(&mut cache, "example.org", &alias(), 1_000_000);
        assert!(cache.find(&n("example.org"), Rtype::A, after(86_399)).is_some());
        assert!(cache.find(&n("example.org"), Rtype::A, after(86_400)).is_none());
    }

    #[test]
    fn very_many_records_are_not_kept() {
        let mut cache = Cache::new(10);
        let record = Record::Address([192, 0, 2, 1].into());
        for (number, kept) in [(MOST_RECORDS, true), (MOST_RECORDS + 1, false)] {
            keep(
                &mut cache,
                "example.org",
                &Answer::Records(vec![record.clone(); number]),
                60,
            );
            assert_eq!(cache.find(&n("example.org"), Rtype::A, START).is_some(), kept);
            cache = Cache::new(10);
        }
    }

    #[test]
    fn a_clock_set_back_makes_answers_stale() {
        let mut cache = Cache::new(10);
        keep(&mut cache, "example.org", &alias(), 60);
        let yesterday = START.minus(Duration::from_secs(86_400));
        assert_eq!(cache.find(&n("example.org"), Rtype::A, yesterday), None);
    }

    #[test]
    fn a_full_cache_drops_what_would_be_stale_soonest() {
        let mut cache = Cache::new(8);
        for i in 0..9 {
            keep(&mut cache, &format!("n{i}.test"), &alias(), 100 + i);
        }
        let found: Vec<bool> = (0..9)
            .map(|i| cache.find(&n(&format!("n{i}.test")), Rtype::A, START).is_some())
            .collect();
        assert_eq!(found, [false, false, true, true, true, true, true, true, true]);
    }

    #[test]
    fn equal_ends_and_small_limits_stay_within_the_limit() {
        for limit in 0..6 {
            let mut cache = Cache::new(limit);
            for i in 0..50 {
                keep(&mut cache, &format!("n{i}.test"), &alias(), 60);
                assert!(cache.entries.len() <= limit);
            }
            assert_eq!(cache.entries.is_empty(), limit == 0);
        }
    }
}
