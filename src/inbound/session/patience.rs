//! How long a session puts up with a client that only makes mistakes, or only talks.
//!
//! Pure: counts, and says how long to wait before the next answer. Never waits itself.

use std::time::Duration;

/// This many bad commands since the last message end a session.
const MAX_BAD: u32 = 20;

/// From here on each further one is answered later than the one before.
const BAD_AT_ONCE: u32 = 10;

/// This many commands that bring no message any further are free; after that each counts as a bad one.
const MAX_JUNK: u32 = 100;

/// This many failed logins end a session.
const MAX_FAILED_LOGINS: u32 = 3;

/// The first pause, which doubles from mistake to mistake, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a client has used up of our patience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patience {
    bad: u32,
    junk: u32,
    failed_logins: u32,
}

/// What to do about one more mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer, after this pause.
    Answer(Duration),
    /// It was one too many.
    Close,
}

impl Patience {
    /// A message has been stored: the client is worth something.
    pub(super) fn renew(&mut self) {
        (self.bad, self.junk) = (0, 0);
    }

    /// A bad command.
    pub(super) fn bad(&mut self) -> Verdict {
        self.bad += 1;
        if self.bad >= MAX_BAD {
            return Verdict::Close;
        }
        Verdict::Answer(pause(self.bad.saturating_sub(BAD_AT_ONCE)))
    }

    /// A command that is good and brings no message any further.
    pub(super) fn junk(&mut self) -> Verdict {
        if self.junk < MAX_JUNK {
            self.junk += 1;
            return Verdict::Answer(Duration::ZERO);
        }
        self.bad()
    }

    /// A login that failed. Never forgotten in this session.
    pub(super) fn failed_login(&mut self) -> Verdict {
        self.failed_logins += 1;
        if self.failed_logins >= MAX_FAILED_LOGINS {
            return Verdict::Close;
        }
        Verdict::Answer(LONGEST_PAUSE)
    }
}

/// The pause before the answer to the mistake of this number beyond those that are answered at once.
fn pause(number: u32) -> Duration {
    match number {
        0 => Duration::ZERO,
        n => (FIRST_PAUSE * 2_u32.pow((n - 1).min(8))).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mistakes_are_answered_at_once_the_next_ones_later_and_later_and_the_last_one_closes() {
        let mut patience = Patience::default();
        let verdicts: Vec<Verdict> = (0..20).map(|_| patience.bad()).collect();
        assert!(
            verdicts[..10]
                .iter()
                .all(|v| *v == Verdict::Answer(Duration::ZERO))
        );
        let answer = |millis| Verdict::Answer(Duration::from_millis(millis));
        assert_eq!(
            verdicts[10..],
            [100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000]
                .map(answer)
                .into_iter()
                .chain([Verdict::Close])
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_message_renews_patience_and_junk_uses_it_up_slowly() {
        let mut patience = Patience::default();
        for _ in 0..MAX_JUNK + MAX_BAD - 1 {
            assert_ne!(patience.junk(), Verdict::Close);
        }
        assert_eq!(patience.junk(), Verdict::Close);
        patience.renew();
        assert_eq!(patience.junk(), Verdict::Answer(Duration::ZERO));
    }

    #[test]
    fn logins_may_fail_twice() {
        let mut patience = Patience::default();
        assert_eq!(patience.failed_login(), Verdict::Answer(LONGEST_PAUSE));
        patience.renew();
        assert_eq!(patience.failed_login(), Verdict::Answer(LONGEST_PAUSE));
        assert_eq!(patience.failed_login(), Verdict::Close);
    }
}
