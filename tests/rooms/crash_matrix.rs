//! Promise 3, at every crash point: the MTA dies there in the middle of a mixed load, is started again, and delivers
//! what waits. What clients heard acknowledged must all have arrived then, and nothing twice that may not. `verify
//! --account` has to find what the crash has left in order as it is, and in the end to say the same as clients and next
//! hops.
//!
//! What is damaged by hand for a crash, so that it is put aside, has to be there whole in the end, held.
//!
//! The table in `docs/CRASHES.md` is written by this test, with the figures of that run:
//! `UPDATE_GENERATED=1 cargo test --test all crash_matrix`, as `tests/nothing-lost` does it.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::Value;
use smtpmta::crash_point::CrashPoint;
use smtpmta::work_queue::id::MessageId;

use crate::rooms::lmtp;
use crate::rooms::second_machine::cut_off;
use crate::support::account::{Account, Crash, unfinished_letters};
use crate::support::load::{self, ALIASES, Kind, Spoiled, USUAL, Verb};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World, eventually, files};

/// Crashes that are tried at once: each waits for its disk most of the time.
const AT_ONCE: usize = 4;

/// How often the load is sent, if once is not enough to reach a point.
const WAVES: usize = 8;

/// Content files of nobody, that the sweep finds.
const ORPHAN: &str = "content/0000000000000007";

/// What waits in the queue, of whatever kind.
const WAITING: &str = "SELECT count(*) FROM message WHERE left_at IS NULL";

/// Recipients that are neither settled nor put aside.
const UNSETTLED: &str = "SELECT count(*) FROM recipient WHERE state < 5";

/// What waits for conversion, of whatever kind.
const UNCONVERTED: &str = "SELECT count(*) FROM recipient WHERE state = 1";

/// What next hops count.
const COUNTS: &str = "SELECT ifnull(sum(waiting), 0), count(due) FROM next_hop";

/// How long mail may take where some of it expires: that which does not has to get through a crash meanwhile.
const EXPIRE: &str = "10s";
/// When the load goes on that is beside the expiry: a moment before that, which is a tenth later.
const GOES_ON: Duration = Duration::from_millis(10_500);

/// What happens beside the load, so that a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// There is one outbound session handler, for short lists: they wait for it.
    Scarcity,
    /// A next hop keeps silent while much is acknowledged, and then does not answer until the crash.
    Outage,
    /// All mail is local, and an LMTP server takes it from one handler, as soon as much is acknowledged.
    Lmtp,
    /// The same, and senders are told of it soon.
    Delay,
    /// A next hop never answers, and mail expires soon.
    Expiry,
    /// A next hop did not answer, would be asked again in an hour, and the operator says to try it now.
    Retry(Whom),
    /// The same, and the operator holds some of what waits for it, releases it, removes it, and brings it back.
    Hands,
    /// The crash is in a start with a clock that was set back by a day while mail waited for moments.
    Setback,
    /// Somebody damages the rows of mail that waits.
    Damage(Harm),
    /// The operator asks for housekeeping.
    Housekeeping,
    /// The same, while outbound transport is stopped and mail waits for its next hops.
    QuietHousekeeping,
    /// The same, and the database has large gaps.
    Gaps,
    /// It is told to stop.
    Stop,
    /// The crash is in the start after another crash.
    Start,
    /// The crash is in the first start of all.
    FirstStart,
}

/// What the operator wants to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Everything,
    /// The next hop by its name.
    Hop,
    /// A message by its ID.
    Message,
}

/// What is damaged by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Paths that wait for their conversion.
    Path,
    /// Content that waits for its transmission: it has gone.
    Content,
    /// Mail waits for a next hop that does not exist, so that only housekeeping comes across it.
    Astray,
    /// Mail seems to wait for its conversion until tomorrow.
    Due,
    /// A next hop seems to have nothing to do until tomorrow, and counts wrongly.
    Count,
}

impl Harm {
    /// The task that waits while mail is damaged for it.
    fn task(self) -> &'static str {
        match self {
            Harm::Path | Harm::Due => "inbound conversion",
            Harm::Content | Harm::Astray | Harm::Count => "outbound transport",
        }
    }

    fn is_found_by_housekeeping(self) -> bool {
        matches!(self, Harm::Astray | Harm::Due | Harm::Count)
    }

    /// Letters of which kinds are damaged, one of each, and what is put aside of them.
    fn letters(self) -> (&'static [Kind], Option<Spoiled>) {
        match self {
            Harm::Path => (
                &[Kind::Several, Kind::Local, Kind::Large, Kind::Relayed],
                Some(Spoiled::Whole),
            ),
            Harm::Content => (
                &[Kind::Relayed, Kind::Several, Kind::Large],
                Some(Spoiled::Elsewhere),
            ),
            Harm::Astray => (&[Kind::Relayed], Some(Spoiled::Whole)),
            Harm::Due => (&[Kind::Local, Kind::Relayed, Kind::Large], None),
            Harm::Count => (&[], None),
        }
    }
}

/// Content that somebody has taken out of the queue, and will bring back.
enum Taken {
    /// That of this message.
    Blob(i64, Vec<u8>),
    /// A file, and where it is meanwhile.
    File(PathBuf, PathBuf),
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
const BOUNCES: &[Kind] = &[
    Kind::Refused,
    Kind::Several,
    Kind::Local,
    Kind::Large,
    Kind::Relayed,
];
/// Success notices are the only reports.
const SUCCESSES: &[Kind] = &[
    Kind::Confirmed,
    Kind::Several,
    Kind::Local,
    Kind::Large,
    Kind::Relayed,
];
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
/// Some of it waits for a host that is down for too long.
const EXPIRING: &[Kind] = &[
    Kind::Expiring,
    Kind::Several,
    Kind::Local,
    Kind::Expiring,
    Kind::Large,
    Kind::Confirmed,
];
/// All of it is for mailboxes behind an LMTP server, and so are the bounces.
const BY_LMTP: &[Kind] = &[Kind::Divided; 4];
/// What goes on beside what expires.
const GOING_ON: &[Kind] = &[
    Kind::Several,
    Kind::Local,
    Kind::Large,
    Kind::Confirmed,
    Kind::Relayed,
];

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
        Case::at(OpeningWritten, 1).beside(Beside::Start),
        Case::at(OpeningCommitted, 1).beside(Beside::Start),
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
        Case::at(DropTaken, 3).by(Verb::Sendmail, "sendmail"),
        Case::at(AcceptWritten, 14).by(Verb::Sendmail, "sendmail"),
        Case::at(AcceptCommitted, 14).by(Verb::Sendmail, "sendmail"),
        Case::at(DropCommitted, 14).by(Verb::Sendmail, "sendmail"),
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
        // Of each letter there are three answers.
        Case::at(ContentEndless, 3)
            .with(BY_LMTP, "LMTP")
            .beside(Beside::Lmtp),
        Case::at(ContentSent, 1)
            .with(BY_LMTP, "LMTP, before the answers")
            .beside(Beside::Lmtp),
        Case::at(ContentSent, 2)
            .with(BY_LMTP, "LMTP, between them")
            .beside(Beside::Lmtp),
        Case::at(OutcomeHeard, 3)
            .with(BY_LMTP, "LMTP")
            .beside(Beside::Lmtp),
        Case::at(OutcomeWritten, 3)
            .with(BY_LMTP, "LMTP")
            .beside(Beside::Lmtp),
        Case::at(OutcomeCommitted, 3)
            .with(BY_LMTP, "LMTP")
            .beside(Beside::Lmtp),
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
        Case::at(HopReleaseWritten, 1)
            .with(WITH_OUTAGE, "")
            .beside(Beside::Retry(Whom::Everything)),
        Case::at(HopReleaseCommitted, 1)
            .with(WITH_OUTAGE, "")
            .beside(Beside::Retry(Whom::Everything)),
        Case::at(RetryWritten, 1)
            .with(WITH_OUTAGE, "by next hop")
            .beside(Beside::Retry(Whom::Hop)),
        Case::at(RetryWritten, 1)
            .with(WITH_OUTAGE, "by ID")
            .beside(Beside::Retry(Whom::Message)),
        Case::at(RetryCommitted, 1)
            .with(WITH_OUTAGE, "by next hop")
            .beside(Beside::Retry(Whom::Hop)),
        Case::at(RetryCommitted, 1)
            .with(WITH_OUTAGE, "by ID")
            .beside(Beside::Retry(Whom::Message)),
        Case::at(ByHandWritten, 1)
            .with(WITH_OUTAGE, "queue hold")
            .beside(Beside::Hands),
        Case::at(ByHandWritten, 2)
            .with(WITH_OUTAGE, "queue release")
            .beside(Beside::Hands),
        Case::at(ByHandWritten, 3)
            .with(WITH_OUTAGE, "queue delete")
            .beside(Beside::Hands),
        Case::at(ByHandWritten, 4)
            .with(WITH_OUTAGE, "queue undelete")
            .beside(Beside::Hands),
        Case::at(ByHandCommitted, 1)
            .with(WITH_OUTAGE, "queue hold")
            .beside(Beside::Hands),
        Case::at(ByHandCommitted, 2)
            .with(WITH_OUTAGE, "queue release")
            .beside(Beside::Hands),
        Case::at(ByHandCommitted, 3)
            .with(WITH_OUTAGE, "queue delete")
            .beside(Beside::Hands),
        Case::at(ByHandCommitted, 4)
            .with(WITH_OUTAGE, "queue undelete")
            .beside(Beside::Hands),
        // There are three next hops, each with its back-off and what waits for it.
        Case::at(SetbackWritten, 1)
            .with(WITH_OUTAGE, "back-off")
            .beside(Beside::Setback),
        Case::at(SetbackWritten, 2)
            .with(WITH_OUTAGE, "next attempts")
            .beside(Beside::Setback),
        Case::at(SetbackWritten, 7)
            .with(WITH_OUTAGE, "conversion")
            .beside(Beside::Setback),
        Case::at(SetbackCommitted, 2)
            .with(WITH_OUTAGE, "next attempts")
            .beside(Beside::Setback),
        Case::at(SetbackCommitted, 7)
            .with(WITH_OUTAGE, "conversion")
            .beside(Beside::Setback),
        Case::at(MadeUpWritten, 1)
            .with(WITH_OUTAGE, "")
            .beside(Beside::Setback),
        Case::at(MadeUpCommitted, 1)
            .with(WITH_OUTAGE, "")
            .beside(Beside::Setback),
        Case::at(HoldWritten, 2).beside(Beside::Damage(Harm::Path)),
        Case::at(HoldCommitted, 1).beside(Beside::Damage(Harm::Path)),
        Case::at(ListedHoldWritten, 2).beside(Beside::Damage(Harm::Content)),
        Case::at(ListedHoldCommitted, 2).beside(Beside::Damage(Harm::Content)),
        Case::at(MendingWritten, 1)
            .with(USUAL, "put aside")
            .beside(Beside::Damage(Harm::Astray)),
        Case::at(MendingWritten, 2)
            .with(USUAL, "put right")
            .beside(Beside::Damage(Harm::Due)),
        Case::at(MendingWritten, 1)
            .with(USUAL, "next hop")
            .beside(Beside::Damage(Harm::Count)),
        Case::at(MendingCommitted, 1)
            .with(USUAL, "put aside")
            .beside(Beside::Damage(Harm::Astray)),
        Case::at(MendingCommitted, 2)
            .with(USUAL, "put right")
            .beside(Beside::Damage(Harm::Due)),
        Case::at(MendingCommitted, 1)
            .with(USUAL, "next hop")
            .beside(Beside::Damage(Harm::Count)),
        Case::at(FileDiscarded, 2),
        Case::at(ForgettingWritten, 5).beside(Beside::Housekeeping),
        Case::at(ForgettingCommitted, 1).beside(Beside::Housekeeping),
        Case::at(HopForgettingWritten, 1).beside(Beside::QuietHousekeeping),
        Case::at(HopForgettingCommitted, 1).beside(Beside::QuietHousekeeping),
        Case::at(OrphanFound, 1).beside(Beside::Housekeeping),
        Case::at(CompactionWritten, 8).beside(Beside::Gaps),
        Case::at(LogUncut, 1).beside(Beside::Gaps),
        Case::at(GroupWritten, 40),
        Case::at(GroupCommitted, 40),
        Case::at(TasksStopped, 1).beside(Beside::Stop),
        Case::at(ClosingWritten, 1).beside(Beside::Stop),
        Case::at(ClosingCommitted, 1).beside(Beside::Stop),
    ]
};

/// The next hops of a case, and what it is about.
struct Trial<'c> {
    case: &'c Case,
    world: World,
    /// near.test, far.test, down.test, and the LMTP server where there is one.
    hops: Vec<Sink>,
    letters: Mutex<Vec<load::Letter>>,
    crashes: Vec<Crash>,
    /// How the places begin at which `verify` may find something, for somebody has damaged them.
    damaged: Vec<String>,
    taken: Vec<Taken>,
    /// The IDs of messages that the operator does something to.
    in_hand: String,
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
        if case.beside == Beside::Outage {
            down.hang_at(Stage::Greeting);
        }
        down.drop_at(Stage::Greeting);
        let mut world = World::without_mta(&["--poll-interval", "1s", "--housekeeping", "never"]);
        let aliases = world.write("aliases", ALIASES);
        world.flag("--aliases", &aliases);
        for (domain, hop) in ["near.test", "far.test", "down.test"].iter().zip(&hops) {
            world.flag("--route", &format!("{domain}={}", hop.address()));
        }
        let more: &[(&str, &str)] = match case.beside {
            Beside::Scarcity => &[("-O", "1"), ("--list-messages", "2")],
            Beside::Lmtp => &[("-O", "1")],
            Beside::Delay => &[("--delay-warning", "1s")],
            Beside::Expiry => &[("--expire", EXPIRE)],
            Beside::Housekeeping | Beside::QuietHousekeeping | Beside::Gaps => &[("--keep-history", "0s")],
            _ => &[],
        };
        more.iter().for_each(|(name, value)| world.flag(name, value));
        let retries = match case.beside {
            Beside::Expiry | Beside::Retry(_) | Beside::Hands | Beside::Setback => "1h",
            _ => "1s",
        };
        world.flag("--retry-schedule", retries);
        let mut hops = Vec::from(hops);
        if case.beside == Beside::Lmtp {
            let server = lmtp::server();
            server.order("dot[full@*]=552 5.2.2 Quota exceeded");
            server.hang_at(Stage::Greeting);
            world.flag("--lmtp", &server.address().to_string());
            hops.push(server);
        }
        Trial {
            case,
            world,
            hops,
            letters: Mutex::default(),
            crashes: Vec::new(),
            damaged: Vec::new(),
            taken: Vec::new(),
            in_hand: String::new(),
        }
    }

    /// Crashes, starts again, waits for the end, and gives what became of the load.
    fn run(mut self) -> Account {
        let Case { point, times, .. } = *self.case;
        match self.case.beside {
            Beside::FirstStart => {
                self.world.crash_at_start(point, times);
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
                self.world.crash_at_start(point, times);
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
            Beside::Setback => {
                self.set_clock_back();
                self.world.crash_at_start(point, times);
                self.look();
                self.world.start();
            }
            beside => {
                self.world.start_to_crash(point, times);
                match beside {
                    Beside::Outage | Beside::Lmtp => self.release_until_it_crashes(),
                    Beside::Expiry => self.expire_until_it_crashes(),
                    Beside::Retry(whom) => self.retry_until_it_crashes(whom),
                    Beside::Hands => self.lay_hands_on_until_it_crashes(),
                    Beside::Damage(harm) => self.damage_until_it_crashes(harm),
                    _ => self.send_until_it_crashes(),
                }
                self.world.start();
            }
        }
        if self.case.beside != Beside::Expiry {
            self.hops[2].behave();
        }
        self.ask_again();
        eventually("all that was left in the maildrop to be taken in", || {
            let folders = ["maildrop", "maildrop-taken"];
            match folders.map(|name| files(&self.world.spool().join(name))).concat() {
                left if left.is_empty() => Ok(()),
                left => Err(left),
            }
        });
        self.world
            .wait_for_sql(WAITING, &self.spoiled().len().to_string());
        self.world.wait_for_sql(UNSETTLED, "0");
        self.bring_back();
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
        if verb == Verb::Sendmail {
            return load::leave(&self.world, wave, kinds, &self.letters);
        }
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
                return self.bury();
            }
        }
        panic!("it was not reached");
    }

    /// Lets the next hop that kept silent so far go on in the middle of the load, when the first half is acknowledged: only
    /// then can the point be reached.
    fn release_until_it_crashes(&mut self) {
        self.send(0);
        self.crash_beside(|trial| trial.hops.iter().for_each(Sink::release));
    }

    /// Lets some mail expire in the middle of the load.
    fn expire_until_it_crashes(&mut self) {
        let begun = Instant::now();
        self.send(0);
        eventually("the time of some mail to be nearly over", || {
            match begun.elapsed() {
                passed if passed >= GOES_ON => Ok(()),
                passed => Err(passed),
            }
        });
        for wave in 1.. {
            assert!(begun.elapsed() < GOES_ON + PATIENCE, "it was not reached");
            load::send(
                self.world.address(),
                wave,
                GOING_ON,
                self.case.verb,
                &self.letters,
            );
            if self.world.daemon().has_ended() {
                break;
            }
        }
        self.bury();
    }

    /// Lets the operator try what waits for a next hop that is up again, in the middle of the load.
    fn retry_until_it_crashes(&mut self, whom: Whom) {
        self.send(0);
        self.wait_for_back_off();
        self.hops[2].behave();
        let words = match whom {
            Whom::Everything => "queue retry".to_owned(),
            Whom::Hop => {
                let name = self.world.sql("SELECT name FROM next_hop WHERE failures > 0");
                format!("queue retry --hop {name}")
            }
            Whom::Message => {
                let waits = "SELECT id FROM outbound_work_queue WHERE recipient = 'jdoe@down.test' LIMIT 1";
                format!("queue retry {}", self.world.sql(waits))
            }
        };
        self.crash_beside(|trial| _ = trial.world.ask(&words));
    }

    /// Lets the operator do all that can be done to messages by hand, in the middle of the load.
    fn lay_hands_on_until_it_crashes(&mut self) {
        self.send(0);
        self.wait_for_back_off();
        let waits = "SELECT group_concat(id, ' ') FROM (SELECT id FROM outbound_work_queue \
                     WHERE recipient = 'jdoe@down.test' LIMIT 5)";
        self.in_hand = self.world.sql(waits);
        self.hops[2].behave();
        self.crash_beside(|trial| {
            for verb in ["hold", "release", "delete", "undelete"] {
                trial.world.ask(&format!("queue {verb} {}", trial.in_hand));
            }
        });
    }

    /// Waits until the next hop that is down backs off.
    fn wait_for_back_off(&self) {
        self.world
            .wait_for_sql("SELECT count(*) FROM next_hop WHERE retry_at IS NOT NULL", "1");
    }

    /// Has mail wait everywhere, and crashes; while nothing runs the clock is set back to where it belongs: when that mail
    /// came it was a day ahead.
    fn set_clock_back(&mut self) {
        self.world.start();
        self.send(0);
        self.wait_for_back_off();
        self.world.tell("smtpmta stop outbound transport");
        self.send(1);
        self.world.wait_for_sql(UNCONVERTED, "0");
        self.world.tell("smtpmta stop inbound conversion");
        self.send(2);
        self.hops[2].behave();
        self.world.kill();
        self.look();
        let tomorrow = self.tomorrow();
        self.world.tamper(&format!(
            "BEGIN; \
             UPDATE marker SET value = {tomorrow} WHERE name = 'last moment'; \
             UPDATE recipient SET next_attempt = {tomorrow} WHERE state IN (1, 2); \
             UPDATE message SET inbound_due = {tomorrow} WHERE inbound_due IS NOT NULL; \
             UPDATE message SET box_due = {tomorrow} WHERE box_due IS NOT NULL; \
             UPDATE next_hop SET due = {tomorrow} WHERE due IS NOT NULL; \
             UPDATE next_hop SET retry_at = {tomorrow} WHERE retry_at IS NOT NULL; \
             COMMIT"
        ));
    }

    /// This time tomorrow, as the queue has it.
    fn tomorrow(&self) -> String {
        self.world.sql("SELECT (strftime('%s', 'now') + 86400) * 1000000")
    }

    /// Brings mail up to where it can be damaged, damages some of it, and lets it go on in the middle of the load.
    fn damage_until_it_crashes(&mut self, harm: Harm) {
        let task = harm.task();
        self.world.tell(&format!("smtpmta stop {task}"));
        self.send(0);
        if task == "outbound transport" {
            self.world.wait_for_sql(UNCONVERTED, "0");
        }
        self.damage(harm);
        self.crash_beside(|trial| {
            trial.world.ask(&format!("tell smtpmta start {task}"));
            if harm.is_found_by_housekeeping() {
                trial.keep_house();
            }
        });
    }

    /// Damages mail that waits.
    fn damage(&mut self, harm: Harm) {
        let (kinds, spoiled) = harm.letters();
        let tomorrow = self.tomorrow();
        for kind in kinds {
            let sender = {
                let mut letters = self.letters.lock().unwrap();
                let mut letters = letters.iter_mut().filter(|letter| letter.acknowledged);
                let letter = letters.find(|letter| letter.kind == *kind).unwrap();
                letter.spoiled = spoiled;
                letter.sender()
            };
            let id = format!("SELECT id FROM message WHERE reverse_path = '{sender}'");
            let id: i64 = self.world.sql(&id).parse().unwrap();
            self.damaged.push(format!("message {}", MessageId(id)));
            match harm {
                Harm::Path => self.world.tamper(&format!(
                    "UPDATE recipient SET path = '<<>' WHERE message = {id} AND n = 0"
                )),
                Harm::Content => {
                    let taken = self.take_content(id);
                    self.taken.push(taken);
                }
                Harm::Astray => self
                    .world
                    .tamper(&format!("UPDATE recipient SET hop = 4711 WHERE message = {id}")),
                Harm::Due => self.world.tamper(&format!(
                    "UPDATE message SET inbound_due = {tomorrow} WHERE id = {id}"
                )),
                Harm::Count => {}
            }
        }
        if harm == Harm::Count {
            self.world.tamper(&format!(
                "UPDATE next_hop SET waiting = waiting + 3, due = {tomorrow} \
                 WHERE id = (SELECT hop FROM recipient WHERE path = 'jdoe@near.test' AND state = 2)"
            ));
        }
        if matches!(harm, Harm::Astray | Harm::Count) {
            self.damaged.push("next hop ".to_owned());
        }
    }

    fn take_content(&self, id: i64) -> Taken {
        let spool = self.world.spool();
        let file = self
            .world
            .sql(&format!("SELECT file FROM message WHERE id = {id}"));
        if file.is_empty() {
            let db = Connection::open(spool.join("queue.db")).unwrap();
            db.busy_timeout(PATIENCE).unwrap();
            let bytes = db.query_row("SELECT bytes FROM content WHERE message = ?", [id], |row| {
                row.get(0)
            });
            let deleted = db.execute("DELETE FROM content WHERE message = ?", [id]);
            assert_eq!(deleted, Ok(1));
            Taken::Blob(id, bytes.unwrap())
        } else {
            let (place, aside) = (
                spool.join("content").join(&file),
                spool.join(format!("taken-{file}")),
            );
            fs::rename(&place, &aside).unwrap();
            Taken::File(place, aside)
        }
    }

    /// Brings back what was taken.
    fn bring_back(&self) {
        for taken in &self.taken {
            match taken {
                Taken::Blob(id, bytes) => {
                    let db = Connection::open(self.world.spool().join("queue.db")).unwrap();
                    db.busy_timeout(PATIENCE).unwrap();
                    db.execute("INSERT INTO content (message, bytes) VALUES (?, ?)", (id, bytes))
                        .unwrap();
                }
                Taken::File(place, aside) => fs::rename(aside, place).unwrap(),
            }
        }
    }

    /// The letters of which something is put aside.
    fn spoiled(&self) -> Vec<load::Letter> {
        let letters = self.letters.lock().unwrap();
        letters
            .iter()
            .filter(|letter| letter.spoiled.is_some())
            .cloned()
            .collect()
    }

    /// Does something while the next wave is sent, and waits for the crash.
    fn crash_beside(&mut self, act: impl FnOnce(&Self) + Send) {
        let this = &*self;
        thread::scope(|scope| {
            scope.spawn(|| act(this));
            this.send(1);
        });
        eventually("the crash", || match self.world.daemon().has_ended() {
            true => Ok(()),
            false => Err("it runs"),
        });
        self.bury();
    }

    /// It is dead, killed, and leaves behind what it leaves behind.
    fn bury(&mut self) {
        let (status, _) = self.world.end(|_| {});
        assert_eq!(status, None, "it was not killed");
        self.look();
    }

    /// The crash may have come before the operator was obeyed.
    fn ask_again(&self) {
        match self.case.beside {
            Beside::Retry(_) => self.asks("queue retry"),
            Beside::Hands => {
                for verb in ["undelete", "release"] {
                    self.asks(&format!("queue {verb} {}", self.in_hand));
                }
                self.asks("queue retry");
            }
            Beside::Damage(harm) if harm.is_found_by_housekeeping() => {
                self.keep_house();
                self.world.wait_for_sql(COUNTS, "0|0");
            }
            _ => {}
        }
    }

    /// Has something done, or hears that there is nothing to be done.
    fn asks(&self, words: &str) {
        let answer = self.world.ask(words);
        assert!([0, 1].contains(&answer.status), "{answer:?}");
    }

    /// Whether an operator asks for something beside the load.
    fn has_operator(&self) -> bool {
        matches!(
            self.case.beside,
            Beside::Housekeeping | Beside::QuietHousekeeping | Beside::Gaps | Beside::Stop
        )
    }

    /// What the operator does.
    fn ask(&self) {
        if self.case.beside == Beside::Stop {
            return self.world.daemon().signal(Signal::SIGTERM);
        }
        fs::write(self.world.spool().join(ORPHAN), "nobody's").unwrap();
        if self.case.beside == Beside::QuietHousekeeping {
            self.world.tell("smtpmta stop outbound transport");
            self.world
                .wait_for_sql("SELECT count(*) > 0 FROM next_hop WHERE due IS NOT NULL", "1");
        }
        // To that one nothing has gone for long.
        self.world
            .tamper("INSERT OR IGNORE INTO next_hop (name, used_at) VALUES ('long.test', 1)");
        self.keep_house();
    }

    /// Has housekeeping begin, unless it dies before it answers.
    fn keep_house(&self) {
        // Its first sweep may be under way still.
        eventually("housekeeping to begin", || {
            let answer = self.world.ask("tell housekeeping");
            match answer.text.contains("has begun") || self.world.daemon().has_ended() {
                true => Ok(()),
                false => Err(answer),
            }
        });
    }

    /// Looks at what the crash has left, which is in order before anybody has put it right, but for what was damaged.
    fn look(&mut self) {
        if self.damaged.is_empty() {
            self.verdict();
        } else {
            let answer = self.world.ask("verify --account --json");
            let verdict: Value = serde_json::from_str(&answer.text).unwrap();
            assert_eq!(verdict["account"]["balances"], true, "{answer:?}");
            for finding in verdict["findings"].as_array().unwrap() {
                let place = finding["place"].as_str().unwrap();
                let is_known = self.damaged.iter().any(|damaged| place.starts_with(damaged));
                assert!(is_known || finding["harmless"] == true, "{finding}");
            }
        }
        self.crashes.push(Crash::look(&self.world, &self.hops));
    }

    /// What `verify --account` says: that the queue is in order.
    fn verdict(&self) -> Value {
        let answer = self.world.ask("verify --account --json");
        assert_eq!(answer.status, 0, "{answer:?}");
        serde_json::from_str(&answer.text).unwrap()
    }

    /// Nothing is damaged, locked or left behind, and nothing put aside but what was damaged.
    fn is_in_order(&self) {
        let spoiled = self.spoiled();
        let held: usize = spoiled.iter().map(|letter| letter.held().len()).sum();
        let large = spoiled.iter().filter(|letter| letter.kind == Kind::Large);
        let in_files = large.count();
        let (held, blobs) = (held.to_string(), (spoiled.len() - in_files).to_string());
        for (query, expected) in [
            ("PRAGMA integrity_check", "ok"),
            ("SELECT count(*) FROM recipient WHERE state < 10", held.as_str()),
            ("SELECT count(*) FROM recipient WHERE report_due IS NOT NULL", "0"),
            ("SELECT count(*) FROM content", blobs.as_str()),
            (COUNTS, "0|0"),
        ] {
            assert_eq!(self.world.sql(query), expected, "{query}");
        }
        // Its handler lets a list go when it has lingered.
        self.world.wait_for_sql("SELECT count(*) FROM domain_list", "0");
        eventually("content files to go", || {
            match files(&self.world.spool().join("content")) {
                left if left.len() == in_files => Ok(()),
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
            CASES.iter().any(|case| case.point == *point) || cut_off::tries(*point),
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
Where a point is about what an operator does, housekeeping, damaged rows, or a clock that was set back, that is done by
hand meanwhile; what is damaged and put aside has to be in the queue in the end, held, with all of its content.
`smtpmta verify --account` finds the queue in order as the crash has left it, and says in the end what clients, mailboxes
and next hops say: so many recipients accepted, so many of each end, nobody missing.

*Acknowledged* are the messages of which a client heard the 250 after the content, or whose sendmail ended with 0.
*Lost* is what did not arrive of these, letters and reports; the test fails if it is not 0. *Doubled* are the recipients
at other hosts, or behind an LMTP server, to whom a letter came twice: it had been sent, and the crash came before that
was on the disk. Nothing else comes twice; the test fails if a letter goes out again that had been settled, if one is in
a Maildir twice, or if a sender is told twice (whose mailbox is behind an LMTP server gets a report like any letter). The
figures in *acknowledged* and *doubled* are those of one run.

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

/// The page must say what was seen, but for those figures; it is written anew, with them, on demand.
fn compare(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(&path, page).unwrap();
    }
    let told = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        lasting(&told) == lasting(page),
        "{PAGE} is not what was seen: UPDATE_GENERATED=1 cargo test --test all crash_matrix"
    );
}
