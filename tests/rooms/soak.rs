//! A soak: a mixed load for a while, and all that can befall an MTA meanwhile: kills, stops, refreshes, orders, calls of
//! the system that fail, next hops that are slow, put off and hang up. In the end the account has to balance: by what
//! clients heard and what arrived, and by `smtpmta verify --account`.
//!
//! A few seconds long, or as long as one likes: `SMTPMTA_SOAK=1800 cargo test --test all soak`.

use std::env;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::support::account::{Account, Crash, unfinished_letters};
use crate::support::doubles::Watch;
use crate::support::load::{self, ALIASES, Kind, Letter, Verb};
use crate::support::shim::{self, Fault, Faults};
use crate::support::sink::Sink;
use crate::support::world::{World, eventually};

/// How long the load goes on where nobody says.
const SHORT: Duration = Duration::from_secs(5);

/// What is sent, of which the last is large: it comes more seldom.
const KINDS: &[Kind] = &[
    Kind::Several,
    Kind::Refused,
    Kind::Local,
    Kind::Relayed,
    Kind::Confirmed,
    Kind::Alias,
    Kind::Large,
];

/// Every so many waves large letters are among them.
const LARGE_EVERY: usize = 10;

/// What next hops do beside what they should: each first rule whose turn it is.
const WHIMS: &[&str] = &[
    "rcpt[gone@*]=550 5.1.1 nobody",
    "rcpt=451 4.3.0 later@3",
    "mail=421 4.3.2 not now@1",
    "dot=drop@1",
    "dot=close-after@3",
    "dot=late:30@5",
    "greeting=late:30@5",
];

/// After so long everything that was put off has been tried again.
const AGAIN: Duration = Duration::from_secs(90);

/// What waits in the queue, of whatever kind.
const WAITING: &str = "SELECT count(*) FROM message WHERE left_at IS NULL";

/// Numbers by chance, the same ones for the same seed.
struct Chance(u64);

impl Chance {
    /// One below `most`.
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }
}

/// The MTA, its next hops, and what was sent.
struct Soak {
    world: World,
    faults: Faults,
    hops: [Sink; 2],
    letters: Mutex<Vec<Letter>>,
    crashes: Vec<Crash>,
    watch: Watch,
    chance: Chance,
}

impl Soak {
    fn begin(seed: u64) -> Soak {
        let hops = [Sink::start(), Sink::start()];
        for hop in &hops {
            WHIMS.iter().for_each(|whim| hop.order(whim));
        }
        let mut world = World::without_mta(&["--poll-interval", "1s", "--retry-schedule", "1s"]);
        let aliases = world.write("aliases", ALIASES);
        world.flag("--aliases", &aliases);
        world.flag("--keep-history", "2s");
        for (domain, hop) in ["near.test", "far.test"].iter().zip(&hops) {
            world.flag("--route", &format!("{domain}={}", hop.address()));
        }
        let faults = world.faults();
        world.start();
        Soak {
            world,
            faults,
            hops,
            letters: Mutex::default(),
            crashes: Vec::new(),
            watch: Watch::default(),
            chance: Chance(seed),
        }
    }

    /// Sends a wave of letters, and has something happen in the middle of it.
    fn wave(&mut self, wave: usize) {
        let large = usize::from(wave.is_multiple_of(LARGE_EVERY));
        let kinds = &KINDS[..KINDS.len() - 1 + large];
        let sent = || self.letters.lock().unwrap().len();
        let (address, letters, before) = (self.world.address(), &self.letters, sent());
        let enough = before + 1 + self.chance.below(3 * kinds.len());
        thread::scope(|scope| {
            let load = scope.spawn(move || load::send(address, wave, kinds, Verb::Both, letters));
            let begun = || (sent() >= enough || load.is_finished()).then_some(()).ok_or(());
            eventually("some letters to be sent", begun);
            let (chance, watch) = (&mut self.chance, &mut self.watch);
            match chance.below(8) {
                0 => {
                    watch.note(format!("wave {wave}: it is killed"));
                    self.world.kill();
                    self.crashes.push(Crash::look(&self.world, &self.hops));
                    self.world.start();
                }
                1 => {
                    watch.note(format!("wave {wave}: SIGTERM"));
                    let (status, took) = self.world.terminate();
                    watch.note(format!("it has ended, after {took:?}"));
                    assert_eq!(status, Some(0));
                    self.world.start();
                }
                2 => {
                    watch.note(format!("wave {wave}: SIGHUP"));
                    self.world.daemon().signal(Signal::SIGHUP);
                }
                3 => {
                    watch.note(format!("wave {wave}: tell housekeeping"));
                    self.world.ask("tell housekeeping");
                }
                4 => {
                    let part =
                        chance.one_of(&["outbound", "inbound conversion", "outbound transport", "drtask"]);
                    for word in ["stop", "start"] {
                        watch.note(format!("wave {wave}: tell {word} {part}"));
                        self.world.tell(&format!("smtpmta {word} {part}"));
                    }
                }
                5 | 6 => {
                    let fault = chance.one_of(&[
                        Fault::of(shim::WRITE | shim::SYNC, Errno::EIO).on("queue.db"),
                        Fault::of(shim::WRITE | shim::SYNC, Errno::ENOSPC).on("queue.db"),
                        Fault::of(shim::WRITE | shim::OPEN | shim::RENAME, Errno::EIO).on("/mail/"),
                        Fault::of(shim::OPEN | shim::ACCEPT, Errno::EMFILE),
                        Fault::of(shim::CONNECT, Errno::ENOMEM),
                        Fault::of(shim::THREAD, Errno::EAGAIN),
                    ]);
                    let fault = fault.times(1 + i64::try_from(chance.below(10)).unwrap());
                    watch.note(format!("wave {wave}: {fault:?}"));
                    self.faults.order(&[fault]);
                }
                _ => {}
            }
        });
        let struck = self.faults.struck();
        if struck > 0 {
            self.watch
                .note(format!("{struck} calls have failed, and no more do"));
        }
        self.faults.behave();
        self.watch.look(&self.world, &self.hops, &self.crashes);
    }

    /// Lets everything come to its end, and looks whether all is well.
    fn end(mut self) {
        // What could not be read for want of a descriptor is converted a minute later. As long as it becomes less all is
        // well, however much it is.
        let (mut until, (_silent, pause)) = (Instant::now() + AGAIN, channel::<()>());
        let mut least = u64::MAX;
        while least > 0 && Instant::now() < until {
            let waits = self
                .world
                .query(WAITING)
                .ok()
                .and_then(|count| count.parse().ok());
            if let Some(waits) = waits.filter(|waits| *waits < least) {
                (least, until) = (waits, Instant::now() + AGAIN);
            }
            _ = pause.recv_timeout(Duration::from_millis(50));
        }
        self.world.wait_for_sql(WAITING, "0");
        self.world.wait_for_sql("SELECT count(*) FROM domain_list", "0");
        let (status, _) = self.world.terminate();
        assert_eq!(status, Some(0));
        self.watch.look(&self.world, &self.hops, &self.crashes);
        let (excused, doubles) = (self.watch.excused(), &self.watch.doubles);
        assert_eq!(unfinished_letters(&self.world), 0);
        let letters = self.letters.lock().unwrap();
        let account = Account::of(&letters, &self.world, &self.hops, &self.crashes, &excused);
        assert!(account.acknowledged > 0);
        assert!(
            account.lost.is_empty() && account.wrong.is_empty(),
            "of {} letters, {} acknowledged, in {} crashes: {account:#?}\n{}",
            letters.len(),
            account.acknowledged,
            self.crashes.len(),
            doubles.iter().map(ToString::to_string).collect::<String>()
        );
        let verdict = self.world.ask("verify --account");
        assert_eq!(verdict.status, 0, "{verdict:?}");
        #[allow(clippy::print_stdout)] // the account of a long run
        {
            println!(
                "{} letters, {} acknowledged, {} crashes, {} recipients to whom one came twice, {} of them since a stop \
                 had to cut its session off, none lost\n{}",
                letters.len(),
                account.acknowledged,
                self.crashes.len(),
                account.doubled,
                excused.len(),
                verdict.text
            );
        }
    }
}

/// Says with what numbers it failed.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        #[allow(clippy::print_stderr)] // whoever reads of the failure wants to see it again
        if thread::panicking() {
            eprintln!("SMTPMTA_SEED={} was the seed", self.0);
        }
    }
}

#[test]
fn whatever_befalls_it_the_account_balances() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let time = number("SMTPMTA_SOAK").map_or(SHORT, Duration::from_secs);
    let seed = number("SMTPMTA_SEED").unwrap_or_else(|| std::process::id().into());
    let _told = Told(seed);
    let mut soak = Soak::begin(seed);
    let until = Instant::now() + time;
    for wave in 0.. {
        soak.wave(wave);
        if Instant::now() > until {
            break;
        }
    }
    soak.end();
}
