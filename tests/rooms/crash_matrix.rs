//! Promise 3, at every crash point: the MTA dies there in the middle of a mixed load, is started again, and delivers
//! what waits. What clients heard acknowledged must all have arrived then, and nothing twice that may not. `verify
//! --account` has to find what the crash has left in order as it is, and in the end to say the same as clients and next
//! hops.
//!
//! The table in `docs/CRASHES.md` is written by this test: `UPDATE_GENERATED=1 cargo test --test all crash_matrix`, where
//! points or words have changed. Its figures are those of one run; for new ones, remove the page first.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::Value;
use smtpmta::crash_point::CrashPoint;

use crate::support::account::{Account, Crash, unfinished_letters};
use crate::support::load::{self, ALIASES, Kind, USUAL, Verb};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{World, eventually, files};

/// Crashes that are tried at once: each waits for its disk most of the time.
const AT_ONCE: usize = 4;

/// How often the load is sent, if once is not enough to reach a point.
const WAVES: usize = 8;

/// Content files of nobody, that the sweep finds.
const ORPHAN: &str = "content/0000000000000007";

/// What waits in the queue, of whatever kind.
const WAITING: &str = "SELECT count(*) FROM message WHERE left_at IS NULL";

/// What happens beside the load, so that a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// There is one outbound session handler, for short lists: they wait for it.
    Scarcity,
    /// A next hop does not answer until the crash.
    Outage,
    /// The same, and senders are told of it soon.
    Delay,
    /// A next hop never answers, and mail expires soon.
    Expiry,
    /// The operator asks for housekeeping.
    Housekeeping,
    /// The same, and the database has large gaps.
    Gaps,
    /// It is told to stop.
    Stop,
    /// The crash is in the start after another crash.
    Start,
    /// The crash is in the first start of all.
    FirstStart,
}

/// One crash to be tried.
struct Case {
    point: CrashPoint,
    /// It dies when it has come there so many times.
    times: u32,
    kinds: &'static [Kind],
    verb: Verb,
    beside: Beside,
    /// What is particular to this one, for the table.
    note: &'static str,
}

/// Bounces are the only reports.
const BOUNCES: &[Kind] = &[Kind::Refused, Kind::Several, Kind::Large];
/// Success notices are the only reports.
const SUCCESSES: &[Kind] = &[Kind::Confirmed, Kind::Local, Kind::Relayed];
/// Some of it waits for a host that is down.
const WITH_OUTAGE: &[Kind] = &[
    Kind::Several,
    Kind::Waiting,
    Kind::Refused,
    Kind::Waiting,
    Kind::Confirmed,
    Kind::Local,
    Kind::Large,
];
/// All of it waits for a host that is down for too long.
const EXPIRING: &[Kind] = &[Kind::Expiring, Kind::Expiring, Kind::Expiring];

impl Case {
    const fn at(point: CrashPoint, times: u32) -> Case {
        Case {
            point,
            times,
            kinds: USUAL,
            verb: Verb::Both,
            beside: Beside::Nothing,
            note: "",
        }
    }

    const fn by(self, verb: Verb, note: &'static str) -> Case {
        Case { verb, note, ..self }
    }

    const fn with(self, kinds: &'static [Kind], note: &'static str) -> Case {
        Case { kinds, note, ..self }
    }

    const fn beside(self, beside: Beside) -> Case {
        Case { beside, ..self }
    }
}

/// Every point, in the order in which a message meets them; some in more ways than one.
const CASES: &[Case] = {
    use CrashPoint::*;
    &[
        Case::at(SchemaWritten, 1).beside(Beside::FirstStart),
        Case::at(SchemaCommitted, 1).beside(Beside::FirstStart),
        Case::at(RecoveryWritten, 1).beside(Beside::Start),
        Case::at(RecoveryCommitted, 1).beside(Beside::Start),
        Case::at(ContentWritten, 3),
        Case::at(ContentSynced, 3),
        Case::at(AcceptWritten, 14).by(Verb::Data, "DATA"),
        Case::at(AcceptWritten, 14).by(Verb::Bdat, "BDAT"),
        Case::at(AcceptCommitted, 14).by(Verb::Data, "DATA"),
        Case::at(AcceptCommitted, 14).by(Verb::Bdat, "BDAT"),
        Case::at(AcceptReplied, 14).by(Verb::Data, "DATA"),
        Case::at(AcceptReplied, 14).by(Verb::Bdat, "BDAT"),
        Case::at(ExpansionWritten, 3),
        Case::at(LetterWritten, 10),
        Case::at(LetterMoved, 10),
        Case::at(PassOnWritten, 8),
        Case::at(ConversionWritten, 4),
        Case::at(ConversionCommitted, 4),
        Case::at(RouteWritten, 4),
        Case::at(RouteCommitted, 4),
        Case::at(ListWritten, 5),
        Case::at(ListCommitted, 3),
        Case::at(LockWritten, 2).beside(Beside::Scarcity),
        Case::at(LockCommitted, 2).beside(Beside::Scarcity),
        Case::at(ListInHand, 3),
        Case::at(ContentEndless, 10),
        Case::at(ContentSent, 10),
        Case::at(OutcomeHeard, 10),
        Case::at(OutcomeWritten, 10),
        Case::at(OutcomeCommitted, 6),
        Case::at(ListEndWritten, 3),
        Case::at(ListEndCommitted, 3),
        Case::at(BackOffWritten, 1)
            .with(WITH_OUTAGE, "")
            .beside(Beside::Outage),
        Case::at(BackOffCommitted, 1)
            .with(WITH_OUTAGE, "")
            .beside(Beside::Outage),
        Case::at(ReportWritten, 2).with(BOUNCES, "bounces"),
        Case::at(ReportWritten, 2).with(SUCCESSES, "success notices"),
        Case::at(BounceCommitted, 2),
        Case::at(SuccessCommitted, 2),
        Case::at(DelayCommitted, 1)
            .with(WITH_OUTAGE, "")
            .beside(Beside::Delay),
        Case::at(ExpiryWritten, 2)
            .with(EXPIRING, "")
            .beside(Beside::Expiry),
        Case::at(ExpiryCommitted, 1)
            .with(EXPIRING, "")
            .beside(Beside::Expiry),
        Case::at(FileDiscarded, 2),
        Case::at(ForgettingWritten, 5).beside(Beside::Housekeeping),
        Case::at(OrphanFound, 1).beside(Beside::Housekeeping),
        Case::at(CompactionWritten, 8).beside(Beside::Gaps),
        Case::at(LogUncut, 1).beside(Beside::Gaps),
        Case::at(GroupWritten, 40),
        Case::at(GroupCommitted, 40),
        Case::at(TasksStopped, 1).beside(Beside::Stop),
    ]
};

/// The next hops of a case, and what it is about.
struct Trial<'c> {
    case: &'c Case,
    world: World,
    /// near.test, far.test, down.test.
    hops: [Sink; 3],
    letters: Mutex<Vec<load::Letter>>,
    crashes: Vec<Crash>,
}

impl Trial<'_> {
    fn new(case: &Case) -> Trial<'_> {
        let hops = [Sink::start(), Sink::start(), Sink::start()];
        let [near, far, down] = &hops;
        far.offer(&[
            "PIPELINING",
            "SIZE 0",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
        ]);
        [near, far]
            .iter()
            .for_each(|hop| hop.order("rcpt[gone@*]=550 5.1.1 nobody"));
        down.drop_at(Stage::Greeting);
        let mut world = World::without_mta(&["--poll-interval", "1s", "--housekeeping", "never"]);
        let aliases = world.write("aliases", ALIASES);
        world.flag("--aliases", &aliases);
        for (domain, hop) in ["near.test", "far.test", "down.test"].iter().zip(&hops) {
            world.flag("--route", &format!("{domain}={}", hop.address()));
        }
        let more: &[(&str, &str)] = match case.beside {
            Beside::Scarcity => &[("-O", "1"), ("--list-messages", "2")],
            Beside::Delay => &[("--delay-warning", "1s")],
            Beside::Expiry => &[("--expire", "2s")],
            Beside::Housekeeping | Beside::Gaps => &[("--keep-history", "0s")],
            _ => &[],
        };
        more.iter().for_each(|(name, value)| world.flag(name, value));
        let retries = if case.beside == Beside::Expiry { "1h" } else { "1s" };
        world.flag("--retry-schedule", retries);
        Trial {
            case,
            world,
            hops,
            letters: Mutex::default(),
            crashes: Vec::new(),
        }
    }

    /// Crashes, starts again, waits for the end, and gives what became of the load.
    fn run(mut self) -> Account {
        let Case { point, times, .. } = *self.case;
        match self.case.beside {
            Beside::FirstStart => {
                self.world.crash_at_start(point);
                let left = self.world.ask("verify --account");
                let (status, said) = match point {
                    CrashPoint::SchemaWritten => (65, "its schema is 0, "),
                    _ => (0, "0 messages, "),
                };
                assert!(left.status == status && left.text.contains(said), "{left:?}");
                self.world.start();
                self.send(0);
            }
            Beside::Start => {
                self.world.start_to_crash(CrashPoint::ListInHand, 3);
                self.send_until_it_crashes();
                assert!(self.crashes[0].lists > 0, "there is nothing to recover");
                self.world.crash_at_start(point);
                self.look();
                self.world.start();
            }
            Beside::Gaps => {
                self.world.start();
                self.world.terminate();
                let db = Connection::open(self.world.spool().join("queue.db")).unwrap();
                let gaps = "CREATE TABLE gaps (bytes); INSERT INTO gaps VALUES (zeroblob(24 << 20)); DROP TABLE gaps";
                db.execute_batch(gaps).unwrap();
                drop(db);
                self.world.start_to_crash(point, times);
                self.send_until_it_crashes();
                self.world.start();
            }
            _ => {
                self.world.start_to_crash(point, times);
                self.send_until_it_crashes();
                self.world.start();
            }
        }
        if self.case.beside != Beside::Expiry {
            self.hops[2].behave();
        }
        self.world.wait_for_sql(WAITING, "0");
        self.is_in_order();
        assert_eq!(self.world.terminate().0, Some(0));
        let verdict = self.verdict();
        let letters = self.letters.lock().unwrap();
        let account = Account::of(&letters, &self.world, &self.hops, &self.crashes, &HashSet::new());
        if account.lost.is_empty() && account.wrong.is_empty() {
            let differences = account.sums.differences(&verdict);
            assert!(differences.is_empty(), "{differences:?}: {:?}", account.sums);
        }
        account
    }

    fn send(&self, wave: usize) {
        let Case { kinds, verb, .. } = *self.case;
        load::send(self.world.address(), wave, kinds, verb, &self.letters);
    }

    /// Sends one wave after the other until the MTA is dead.
    fn send_until_it_crashes(&mut self) {
        for wave in 0..WAVES {
            thread::scope(|scope| {
                if wave > 0 && self.has_operator() {
                    scope.spawn(|| self.ask());
                }
                self.send(wave);
            });
            // What the operator has asked for comes to the point, however little is left of the load.
            let is_asked = wave > 0 && self.has_operator();
            let is_dead = eventually("the crash, or the end of the load", || {
                if self.world.daemon().has_ended() {
                    return Ok(true);
                }
                match self.world.query(WAITING) {
                    Ok(none) if none == "0" && !is_asked => Ok(false),
                    waiting => Err(waiting),
                }
            });
            if is_dead {
                let (status, _) = self.world.end(|_| {});
                assert_eq!(status, None, "it was not killed");
                return self.look();
            }
        }
        panic!("it was not reached");
    }

    /// Whether an operator asks for something beside the load.
    fn has_operator(&self) -> bool {
        matches!(
            self.case.beside,
            Beside::Housekeeping | Beside::Gaps | Beside::Stop
        )
    }

    /// What the operator does.
    fn ask(&self) {
        if self.case.beside == Beside::Stop {
            return self.world.daemon().signal(Signal::SIGTERM);
        }
        fs::write(self.world.spool().join(ORPHAN), "nobody's").unwrap();
        // Its first sweep may be under way still; and it may not live to answer.
        eventually("housekeeping to begin", || {
            let answer = self.world.ask("tell housekeeping");
            match answer.text.contains("has begun") || self.world.daemon().has_ended() {
                true => Ok(()),
                false => Err(answer),
            }
        });
    }

    /// Looks at what the crash has left, which is in order before anybody has put it right.
    fn look(&mut self) {
        self.verdict();
        self.crashes.push(Crash::look(&self.world, &self.hops));
    }

    /// What `verify --account` says: that the queue is in order.
    fn verdict(&self) -> Value {
        let answer = self.world.ask("verify --account --json");
        assert_eq!(answer.status, 0, "{answer:?}");
        serde_json::from_str(&answer.text).unwrap()
    }

    /// Nothing is damaged, locked or left behind.
    fn is_in_order(&self) {
        for (query, expected) in [
            ("PRAGMA integrity_check", "ok"),
            ("SELECT count(*) FROM recipient WHERE state < 10", "0"),
            ("SELECT count(*) FROM recipient WHERE report_due IS NOT NULL", "0"),
            ("SELECT count(*) FROM content", "0"),
            ("SELECT ifnull(sum(waiting), 0), count(due) FROM next_hop", "0|0"),
        ] {
            assert_eq!(self.world.sql(query), expected, "{query}");
        }
        // Its handler lets a list go when it has lingered.
        self.world.wait_for_sql("SELECT count(*) FROM domain_list", "0");
        eventually("content files to go", || {
            match files(&self.world.spool().join("content")) {
                left if left.is_empty() => Ok(()),
                left => Err(left),
            }
        });
        assert_eq!(unfinished_letters(&self.world), 0);
    }
}

/// Tries all of them, some at once; what became of each, or how it failed.
fn try_all() -> Vec<Result<Account, String>> {
    let next = AtomicUsize::new(0);
    let results: Vec<_> = CASES.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((case, result)) = CASES
            .iter()
            .zip(&results)
            .nth(next.fetch_add(1, Ordering::SeqCst))
        {
            let tried = catch_unwind(AssertUnwindSafe(|| Trial::new(case).run()));
            let told = tried.map_err(|panic| match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(other) => other.downcast_ref::<&str>().unwrap_or(&"").to_string(),
            });
            *result.lock().unwrap() = Some(told);
        }
    };
    thread::scope(|scope| (0..AT_ONCE).for_each(|_| _ = scope.spawn(work)));
    let taken = results
        .into_iter()
        .map(|result| result.into_inner().unwrap().unwrap());
    taken.collect()
}

#[test]
fn no_crash_at_any_point_loses_what_was_acknowledged() {
    for point in CrashPoint::ALL {
        assert!(
            CASES.iter().any(|case| case.point == *point),
            "{point:?} is not tried"
        );
    }
    let mut troubles = Vec::new();
    let mut rows = Vec::new();
    for (case, result) in CASES.iter().zip(try_all()) {
        let name = format!("{} {}", case.point.name(), case.note);
        match result {
            Ok(account) => {
                for trouble in account.lost.iter().chain(&account.wrong) {
                    troubles.push(format!("{name}: {trouble}"));
                }
                if account.acknowledged == 0 {
                    troubles.push(format!("{name}: nothing was acknowledged"));
                }
                rows.push(row(case, &account));
            }
            Err(trouble) => troubles.push(format!("{name}: {trouble}")),
        }
    }
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
    compare(&format!("{HEAD}{}", rows.concat()));
}

#[test]
fn a_crash_point_that_does_not_exist_is_refused_at_the_start() {
    let mut world = World::without_mta(&[]);
    let (status, said) = world.crash_at("nowhere").last_words();
    assert_eq!(status, Some(64));
    assert!(
        said.contains("SMTPMTA_CRASH_AT: \"nowhere\": expected NAME"),
        "{said}"
    );
    assert!(said.contains("accept-committed, "), "{said}");
}

/// Where the table is.
const PAGE: &str = "docs/CRASHES.md";

/// What stands above it.
const HEAD: &str = "\
# What a crash costs

Written by `tests/rooms/crash_matrix.rs`, which tries each of these on every run of the tests: the MTA dies as if by
`kill -9` at a point of its work, in the middle of a mixed load of several sessions (local mail, mail for other hosts,
several recipients, aliases, letters of 100 KiB, bounces, success notices); it is started again, and delivers what waits.
`smtpmta verify --account` finds the queue in order as the crash has left it, and says in the end what clients, mailboxes
and next hops say: so many recipients accepted, so many of each end, nobody missing.

*Acknowledged* are the messages of which a client heard the 250 after the content. *Lost* is what did not arrive of
these, letters and reports; the test fails if it is not 0. *Doubled* are the recipients at other hosts to whom a letter
came twice: it had been sent, and the crash came before that was on the disk. Nothing else comes twice; the test fails if
a letter goes out again that had been settled, if one is in a mailbox twice, or if a sender is told twice. The figures in
*acknowledged* and *doubled* are those of one run.

| point | | what has happened by then, and what has not | acknowledged | lost | doubled |
|---|---|---|---:|---:|---:|
";

fn row(case: &Case, account: &Account) -> String {
    format!(
        "| `{}` | {} | {} | {} | {} | {} |\n",
        case.point.name(),
        case.note,
        case.point.told(),
        account.acknowledged,
        account.lost.len(),
        account.doubled
    )
}

/// The page without the figures that are others each time.
fn lasting(page: &str) -> Vec<String> {
    let lasting = |line: &str| match line.split('|').collect::<Vec<_>>()[..] {
        ["", point, note, told, _, lost, _, ""] => [point, note, told, lost].join("|"),
        _ => line.to_owned(),
    };
    page.lines().map(lasting).collect()
}

/// The page must say what was seen, but for those figures; it is written anew on demand.
fn compare(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let told = fs::read_to_string(&path).unwrap_or_default();
    if lasting(&told) == lasting(page) {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_GENERATED").is_some(),
        "{PAGE} is not what was seen: UPDATE_GENERATED=1 cargo test --test all crash_matrix"
    );
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, page).unwrap();
}
