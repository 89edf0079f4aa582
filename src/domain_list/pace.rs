//! How fast a next hop may be served: `--hop-rate`. Each message that goes to it takes a token, and gives it back a
//! period later, so that in no such period, wherever it begins, more go than the operator allows.
//!
//! Pure: moments are given. Never waits, and never knows what the messages are.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use super::list::HopId;
use super::next_hop::{NextHop, Router};

/// So many messages in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub messages: usize,
    /// The period.
    pub per: Duration,
}

/// `--hop-rate`: a domain, `.domain` for what is below it, a host, or `*` for every next hop, each with its rate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// As they were given.
    pub rates: Vec<(String, Rate)>,
    /// Who knows where the mail of a domain goes.
    pub router: Router,
}

impl Rates {
    /// The rate for `hop`: that of the most special pattern that names it.
    #[must_use]
    pub fn of(&self, hop: &NextHop) -> Option<Rate> {
        let names = |pattern: &str| pattern == "*" || self.router.names(pattern, hop);
        let named = self.rates.iter().filter(|(pattern, _)| names(pattern));
        let special = |pattern: &str| (pattern != "*", !pattern.starts_with('.'), pattern.len());
        named
            .max_by_key(|(pattern, _)| special(pattern))
            .map(|(_, rate)| *rate)
    }
}

/// Who says how many messages may go to a next hop now.
pub trait Tokens: fmt::Debug + Send + Sync {
    /// How many may go now.
    fn free(&self, hop: HopId, next_hop: &NextHop) -> usize;
    /// So many go.
    fn take(&self, hop: HopId, next_hop: &NextHop, messages: usize);
}

/// No limit for anybody.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl Tokens for Unlimited {
    fn free(&self, _: HopId, _: &NextHop) -> usize {
        usize::MAX
    }

    fn take(&self, _: HopId, _: &NextHop, _: usize) {}
}

/// Tokens that were taken close together come back together: so many parts of a period are told apart.
const PARTS: u32 = 60;

/// Tokens of one next hop that have not come back yet, those taken first in front.
#[derive(Debug, Default)]
struct Window(VecDeque<Taken>);

/// Tokens that come back together.
#[derive(Debug)]
struct Taken {
    first: Instant,
    last: Instant,
    tokens: usize,
}

impl Window {
    fn free(&mut self, rate: Rate, now: Instant) -> usize {
        while self.0.front().is_some_and(|taken| taken.last + rate.per <= now) {
            self.0.pop_front();
        }
        let taken = self.0.iter().map(|taken| taken.tokens).sum();
        rate.messages.saturating_sub(taken)
    }

    fn take(&mut self, rate: Rate, tokens: usize, now: Instant) {
        match self.0.back_mut() {
            Some(taken) if now < taken.first + rate.per / PARTS => {
                taken.last = now;
                taken.tokens += tokens;
            }
            _ => self.0.push_back(Taken {
                first: now,
                last: now,
                tokens,
            }),
        }
    }

    /// When the next tokens come back, if any are out.
    fn ready(&self, rate: Rate) -> Option<Instant> {
        self.0.front().map(|taken| taken.last + rate.per)
    }
}

/// The tokens of all next hops that have a rate. One for all transports that follow each other; a new start of the MTA
/// begins with none taken.
#[derive(Debug, Default)]
pub struct Paces {
    windows: HashMap<HopId, (Rate, Window)>,
    wanting: HashSet<HopId>,
}

impl Paces {
    /// How many messages may go to `hop`, whose rate is `rate`, at `now`. One that may have none is remembered, until
    /// [`Paces::begin_pass`].
    pub fn free(&mut self, hop: HopId, rate: Option<Rate>, now: Instant) -> usize {
        let Some(rate) = rate else {
            self.windows.remove(&hop);
            return usize::MAX;
        };
        let free = match self.windows.get_mut(&hop) {
            Some((known, window)) => {
                *known = rate;
                window.free(rate, now)
            }
            None => rate.messages,
        };
        if free == 0 {
            self.wanting.insert(hop);
        }
        free
    }

    /// As [`Paces::free`], for whoever only looks.
    pub fn look(&mut self, hop: HopId, rate: Rate, now: Instant) -> usize {
        let window = self.windows.get_mut(&hop);
        window.map_or(rate.messages, |(_, window)| window.free(rate, now))
    }

    /// `messages` go to `hop`.
    pub fn take(&mut self, hop: HopId, rate: Option<Rate>, messages: usize, now: Instant) {
        if let Some(rate) = rate {
            let (known, window) = self.windows.entry(hop).or_insert((rate, Window::default()));
            *known = rate;
            window.take(rate, messages, now);
        }
    }

    /// A pass looks at all next hops anew: those that want tokens are those that it meets. Windows with nothing in
    /// them are forgotten.
    pub fn begin_pass(&mut self, now: Instant) {
        self.wanting.clear();
        self.windows
            .retain(|_, (rate, window)| window.free(*rate, now) < rate.messages);
    }

    /// How long until the first of those that want tokens gets some.
    #[must_use]
    pub fn until_ready(&self, now: Instant) -> Option<Duration> {
        let ready = self.wanting.iter().filter_map(|hop| {
            let (rate, window) = self.windows.get(hop)?;
            window.ready(*rate)
        });
        Some(ready.min()?.saturating_duration_since(now))
    }
}

/// How a next hop is served just now, for `show hops`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Its rate, and how many messages may go at once.
    pub rate: Option<(Rate, usize)>,
    /// How many sessions it takes, as far as it has taught us.
    pub limit: Option<usize>,
    /// Lists of it that handlers have.
    pub sessions: usize,
}

impl Pace {
    /// That of a next hop to which nothing has gone yet, where so many may.
    #[must_use]
    pub fn untouched(rate: Option<Rate>) -> Pace {
        Pace {
            rate: rate.map(|rate| (rate, rate.messages)),
            limit: None,
            sessions: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: HopId = HopId(1);

    fn rate(messages: usize, seconds: u64) -> Option<Rate> {
        let per = Duration::from_secs(seconds);
        Some(Rate { messages, per })
    }

    #[test]
    fn in_no_period_go_more_messages_than_allowed() {
        let (mut paces, start) = (Paces::default(), Instant::now());
        let (rate, at) = (rate(10, 60), |seconds| start + Duration::from_secs(seconds));
        assert_eq!(paces.free(HOP, rate, at(0)), 10);
        paces.take(HOP, rate, 4, at(0));
        paces.take(HOP, rate, 6, at(30));
        assert_eq!(paces.free(HOP, rate, at(59)), 0);
        assert_eq!(paces.until_ready(at(59)), Some(Duration::from_secs(1)));
        assert_eq!(paces.free(HOP, rate, at(60)), 4);
        paces.take(HOP, rate, 4, at(60));
        assert_eq!(paces.free(HOP, rate, at(89)), 0);
        assert_eq!(paces.free(HOP, rate, at(90)), 6);
    }

    #[test]
    fn tokens_that_are_taken_close_together_are_kept_as_one() {
        let (mut paces, start) = (Paces::default(), Instant::now());
        let rate = rate(100_000, 60);
        for milliseconds in 0..60_000 {
            paces.take(HOP, rate, 1, start + Duration::from_millis(milliseconds));
        }
        assert!(paces.windows[&HOP].1.0.len() <= 61);
        assert_eq!(paces.free(HOP, rate, start + Duration::from_secs(61)), 41_000);
    }

    #[test]
    fn only_those_that_want_tokens_are_waited_for_and_what_is_over_is_forgotten() {
        let (mut paces, start) = (Paces::default(), Instant::now());
        let rate = rate(1, 60);
        paces.take(HOP, rate, 1, start);
        assert_eq!(paces.until_ready(start), None, "nobody asks for more");
        assert_eq!(paces.free(HOP, rate, start), 0);
        assert!(paces.until_ready(start).is_some());
        paces.begin_pass(start);
        assert_eq!(paces.until_ready(start), None);
        paces.begin_pass(start + Duration::from_secs(60));
        assert!(paces.windows.is_empty());
        assert_eq!(paces.free(HOP, None, start), usize::MAX);
    }

    #[test]
    fn a_next_hop_goes_by_the_most_special_pattern_that_it_fits() {
        let patterns = [
            "*",
            ".example.org",
            ".deep.example.org",
            "example.org",
            "[192.0.2.1]",
        ];
        let numbered = patterns.iter().zip(1..);
        let rates = Rates {
            rates: numbered
                .filter_map(|(pattern, n)| Some(((*pattern).to_owned(), rate(n, 1)?)))
                .collect(),
            router: Router::default(),
        };
        let of = |hop: &str| rates.of(&NextHop::from_name(hop)).map(|rate| rate.messages);
        assert_eq!(of("example.net"), Some(1));
        assert_eq!(of("a.example.org"), Some(2));
        assert_eq!(of("a.deep.example.org"), Some(3));
        assert_eq!(of("example.org"), Some(4));
        assert_eq!(of("example.org:2525"), Some(4));
        assert_eq!(of("192.0.2.1:25"), Some(5));
        assert_eq!(of("notexample.org"), Some(1));
        assert_eq!(Rates::default().of(&NextHop::from_name("example.org")), None);
    }
}
