//! Chaos: faults that nobody has ordered one by one. What goes wrong in a call, and in each of its transactions, is drawn
//! among all that the sink knows to do wrong, but for what would end a message's way for good: who tries again gets every
//! message through.
//!
//! Pure and repeatable: what goes wrong in the nth transaction of the nth call follows from the seed and these numbers
//! alone, whatever other sessions do meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::fault::Deed;
use super::faults::mixed;
use super::stage::Stage;

/// Of so many calls one has nothing wrong with it, from the first octet to the end of so many transactions: however the
/// lots fall, nobody who tries again does it in vain, and nobody brings all that he has in one call.
const HEALTHY: u64 = 4;
const HEALTHY_TRANSACTIONS: u64 = 10;

/// Of so many other calls one has something wrong with it that is about no message.
const BAD_CALLS: u64 = 3;

/// Of so many transactions, but for these, one has something wrong with it.
const BAD_TRANSACTIONS: u64 = 3;

/// How long a stall lasts in chaos; then the connection is closed. Nobody shall have to wait for his own patience to end.
pub const LONGEST_STALL: Duration = Duration::from_secs(1);

/// The longest pause before a reply, in milliseconds.
const LONGEST_LATE: u64 = 300;

/// The longest pause before each octet of a reply, or each piece of content, in milliseconds.
const LONGEST_SLOW: u64 = 5;

/// Recipients that are answered as they should be before something goes wrong with one, at most.
const MOST_SPARED: u64 = 3;

/// What a deed is called in `--fault`.
const WORDS: [&str; 10] = [
    "refuse",
    "defer",
    "drop",
    "reset",
    "stall",
    "slow",
    "late",
    "garbage",
    "early",
    "close-after",
];

/// A way to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mischief {
    /// The place of its stage among all.
    place: usize,
    word: &'static str,
}

impl Mischief {
    fn stage(self) -> Stage {
        Stage::ALL[self.place]
    }

    /// It belongs to a call, and not to one of its transactions. What is said before MAIL has come is said with the answer
    /// to EHLO.
    fn is_of_call(self) -> bool {
        match self.stage() {
            Stage::Mail => self.word == "early",
            Stage::Rcpt | Stage::Data | Stage::Content | Stage::Dot | Stage::Bdat | Stage::Rset => false,
            _ => true,
        }
    }

    /// It ends no message's way.
    fn is_survived(self) -> bool {
        match self.word {
            // Who is refused with a 5xx does not try again, unless that is about no message.
            "refuse" => matches!(
                self.stage(),
                Stage::Ehlo | Stage::Starttls | Stage::Rset | Stage::Quit
            ),
            // The command is sure to come. A reply more than there are commands puts a client that pipelines out of step for
            // good: it would take the answer to one message for that to another.
            "early" => matches!(self.stage(), Stage::Ehlo | Stage::Mail | Stage::Rcpt | Stage::Dot),
            _ => true,
        }
    }

    /// What is done, with pauses as the lot says.
    fn deed(self, lot: u64) -> Option<Deed> {
        let milliseconds = |most: u64| (1 + lot % most).to_string();
        let what = match self.word {
            "slow" => format!("slow:{}", milliseconds(LONGEST_SLOW)),
            "late" => format!("late:{}", milliseconds(LONGEST_LATE)),
            word => word.to_owned(),
        };
        Deed::at(self.stage(), &what).ok()
    }

    /// All that is possible and survived.
    fn all() -> impl Iterator<Item = Mischief> {
        let places = 0..Stage::ALL.len();
        let all = places.flat_map(|place| WORDS.map(|word| Mischief { place, word }));
        all.filter(|mischief| mischief.is_survived() && mischief.deed(0).is_some())
    }
}

/// As in `--fault`, without the milliseconds.
impl fmt::Display for Mischief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.stage(), self.word)
    }
}

/// What goes wrong in one call.
#[derive(Debug)]
pub struct Lots {
    seed: u64,
    is_healthy: bool,
    transactions: u64,
    of_call: Option<Plan>,
    of_transaction: Option<Plan>,
}

/// Something that is to go wrong once.
#[derive(Debug)]
struct Plan {
    mischief: Mischief,
    deed: Deed,
    /// So many occasions pass before.
    spared: u64,
}

impl Lots {
    /// What goes wrong in the call of this number, from 0, and what may in its transactions.
    #[must_use]
    pub fn of_call(seed: u64, call: u64) -> Lots {
        let seed = mixed(seed, 0, call);
        let is_healthy = call % HEALTHY == HEALTHY - 1;
        let mut lots = Lots {
            seed,
            is_healthy,
            transactions: 0,
            of_call: None,
            of_transaction: None,
        };
        if !is_healthy && mixed(seed, 1, 0).is_multiple_of(BAD_CALLS) {
            lots.of_call = lots.plan(2, 0, Mischief::is_of_call);
        }
        lots
    }

    /// One of those that are `possible`.
    fn plan(&self, place: u64, occasion: u64, possible: impl Fn(Mischief) -> bool) -> Option<Plan> {
        let all: Vec<Mischief> = Mischief::all().filter(|mischief| possible(*mischief)).collect();
        let lot = mixed(self.seed, place, occasion);
        let mischief = *all.get(usize::try_from(lot % all.len().max(1) as u64).ok()?)?;
        let spared = match mischief.stage() {
            Stage::Rcpt => mixed(self.seed, place + 1, occasion) % MOST_SPARED,
            _ => 0,
        };
        Some(Plan {
            mischief,
            deed: mischief.deed(mixed(self.seed, place + 2, occasion))?,
            spared,
        })
    }

    /// A transaction begins.
    fn begin_transaction(&mut self) {
        self.transactions += 1;
        let number = self.transactions;
        self.of_transaction = None;
        let is_healthy = self.is_healthy && number <= HEALTHY_TRANSACTIONS;
        if !is_healthy && mixed(self.seed, 5, number).is_multiple_of(BAD_TRANSACTIONS) {
            self.of_transaction = self.plan(6, number, |mischief| !mischief.is_of_call());
        }
    }

    /// What goes wrong at this stage, now.
    pub fn draw(&mut self, stage: Stage) -> Option<(Mischief, Deed)> {
        if stage == Stage::Mail {
            self.begin_transaction();
        }
        self.take(|plan| plan.mischief.stage() == stage && plan.deed != Deed::Early)
    }

    /// The stage whose reply is said together with the one at `stage`, if that is what goes wrong.
    pub fn draw_early(&mut self, stage: Stage) -> Option<(Mischief, Stage)> {
        let is_due = |plan: &Plan| plan.deed == Deed::Early && plan.mischief.stage().before() == Some(stage);
        self.take(is_due)
            .map(|(mischief, _)| (mischief, mischief.stage()))
    }

    fn take(&mut self, is_due: impl Fn(&Plan) -> bool) -> Option<(Mischief, Deed)> {
        for plan in [&mut self.of_call, &mut self.of_transaction] {
            match plan {
                Some(due) if is_due(due) && due.spared > 0 => due.spared -= 1,
                Some(due) if is_due(due) => return plan.take().map(|due| (due.mischief, due.deed)),
                _ => {}
            }
        }
        None
    }
}

/// What chaos has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Calls, those among them of which nobody was accepted.
    pub calls: u64,
    /// Transactions that were begun.
    pub transactions: u64,
    /// What went wrong, and how often.
    pub played: BTreeMap<Mischief, u64>,
}

impl Record {
    /// Notes that this went wrong.
    pub fn note(&mut self, mischief: Mischief) {
        *self.played.entry(mischief).or_default() += 1;
    }

    /// It in words, a line each.
    #[must_use]
    pub fn lines(&self, seed: u64) -> Vec<String> {
        let faults: u64 = self.played.values().sum();
        let mut lines = vec![format!(
            "chaos: {faults} faults in {} calls and {} transactions, --seed {seed}",
            self.calls, self.transactions
        )];
        let each = self.played.iter();
        lines.extend(each.map(|(mischief, times)| format!("chaos: {times} {mischief}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes wrong in a call with so many transactions of one recipient.
    fn played(lots: &mut Lots, transactions: usize) -> Vec<String> {
        let mut played = Vec::new();
        let mut meet = |lots: &mut Lots, stage| {
            played.extend(lots.draw(stage).map(|(mischief, _)| mischief.to_string()));
            played.extend(lots.draw_early(stage).map(|(mischief, _)| mischief.to_string()));
        };
        for stage in [
            Stage::Connect,
            Stage::Greeting,
            Stage::Ehlo,
            Stage::Helo,
            Stage::Starttls,
            Stage::Handshake,
            Stage::Auth,
        ] {
            meet(lots, stage);
        }
        for _ in 0..transactions {
            for stage in [
                Stage::Mail,
                Stage::Rcpt,
                Stage::Rcpt,
                Stage::Rcpt,
                Stage::Data,
                Stage::Content,
                Stage::Bdat,
                Stage::Dot,
                Stage::Rset,
            ] {
                meet(lots, stage);
            }
        }
        meet(lots, Stage::Quit);
        played
    }

    #[test]
    fn all_that_the_sink_knows_to_do_wrong_comes_about_but_for_what_ends_a_message() {
        let mut seen = std::collections::BTreeSet::new();
        for call in 0..4000 {
            seen.extend(played(&mut Lots::of_call(7, call), 3));
        }
        let all: std::collections::BTreeSet<String> = Mischief::all().map(|m| m.to_string()).collect();
        assert_eq!(seen, all);
        for (word, is_there) in [
            ("connect=drop", true),
            ("greeting=defer", true),
            ("greeting=refuse", false),
            ("ehlo=refuse", true),
            ("auth=refuse", false),
            ("mail=early", true),
            ("data=early", false),
            ("dot=early", true),
            ("rcpt=refuse", false),
            ("rcpt=defer", true),
            ("content=stall", true),
            ("dot=refuse", false),
            ("dot=garbage", true),
            ("bdat=slow", true),
            ("quit=close-after", true),
        ] {
            assert_eq!(all.contains(word), is_there, "{word}");
        }
        // Each stage goes wrong in some way, and each deed is done somewhere.
        assert!(
            Stage::ALL
                .iter()
                .all(|stage| all.iter().any(|m| m.starts_with(&format!("{stage}="))))
        );
        assert!(
            WORDS
                .iter()
                .all(|word| all.iter().any(|m| m.ends_with(&format!("={word}"))))
        );
        for mischief in Mischief::all().filter(|mischief| !mischief.is_of_call()) {
            let said = match mischief.deed(0) {
                Some(Deed::Say(said)) => said,
                _ => continue,
            };
            let is_rset = mischief.stage() == Stage::Rset;
            assert!(is_rset || !said.starts_with(b"5"), "{mischief}: {said:?}");
        }
    }

    #[test]
    fn every_fourth_call_begins_healthy_and_two_of_three_other_transactions_are() {
        let faults = |call, transactions| played(&mut Lots::of_call(7, call), transactions).len();
        for call in 0..400 {
            if call % 4 == 3 {
                assert_eq!(faults(call, 10), 0, "{call}");
            }
            let faults = faults(call, 100);
            assert!((10..60).contains(&faults), "{call}: {faults}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_lots_and_another_one_draws_others() {
        let run = |seed| -> Vec<_> {
            (0..50)
                .map(|call| played(&mut Lots::of_call(seed, call), 5))
                .collect()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn pauses_are_short() {
        for lot in 0..1000 {
            for deed in Mischief::all().filter_map(|mischief| mischief.deed(lot)) {
                match deed {
                    Deed::Late(pause) => assert!(pause <= Duration::from_millis(LONGEST_LATE)),
                    Deed::Slow(pause) => assert!(pause <= Duration::from_millis(LONGEST_SLOW)),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn what_was_done_is_told_in_the_words_that_would_order_it() {
        let mut record = Record {
            calls: 9,
            transactions: 20,
            ..Record::default()
        };
        let some = |word: &str| {
            Mischief::all()
                .find(|mischief| mischief.to_string() == word)
                .unwrap()
        };
        for word in ["rcpt=defer", "connect=reset", "rcpt=defer"] {
            record.note(some(word));
        }
        assert_eq!(
            record.lines(7),
            [
                "chaos: 3 faults in 9 calls and 20 transactions, --seed 7",
                "chaos: 1 connect=reset",
                "chaos: 2 rcpt=defer"
            ]
        );
    }
}
