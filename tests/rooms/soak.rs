//! A soak: a mixed load for a while, and all that can befall an MTA meanwhile: kills, stops, refreshes, orders, calls of
//! the system that fail now and then or for seconds, do half of what they should or are interrupted, connections that
//! break, next hops that are slow, put off, hang up or hang, one that is down all the time, and clients that take their
//! time.
//!
//! In the end the account has to balance, and to say of each end how many came to it: what clients heard and what arrived
//! says that, file by file in the Maildirs and errand by errand at the next hops. By the rows of the queue, and what was
//! forgotten of them, it is exact at any moment, and so it is looked at behind each kill, too. The counters of `show stat`
//! are counted anew by the rows behind a kill: so there is a soak without any, in which they have to have counted it all.
//!
//! A few seconds long, or as long as one likes: `SMTPMTA_SOAK=1800 cargo test --test all soak`.

use std::collections::HashSet;
use std::env;
use std::fmt::Display;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::account::{Account, Crash, Sums, token, unfinished_letters};
use crate::support::chance::Chance;
use crate::support::doubles::Watch;
use crate::support::load::{self, ALIASES, Kind, Letter, REMOVED, Verb};
use crate::support::shim::{self, Fault, Faults};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{World, eventually};

/// How long the load goes on where nobody says.
const SHORT: Duration = Duration::from_secs(5);

/// What is sent with each wave.
const KINDS: &[Kind] = &[
    Kind::Several,
    Kind::Refused,
    Kind::Local,
    Kind::Relayed,
    Kind::Confirmed,
    Kind::Alias,
    Kind::Null,
];

/// Every so many waves large letters are among them, and where calls fail: some of these are made for them alone.
const LARGE_EVERY: usize = 10;

/// Every so many waves there are letters for a host that is down to the end …
const WAITING_EVERY: usize = 5;
/// … as long as there were no more waves than this.
const WAITING_BEFORE: usize = 50;

/// The next hops of these domains are there.
const UP: [&str; 2] = ["near.test", "far.test"];
/// The place of the one that is down.
const DOWN: usize = UP.len();

/// What those do beside what they should: each first rule whose turn it is. Who waits for the slowest of these, at any
/// moment, is hardly ever more than one.
const WHIMS: &[&str] = &[
    "rcpt[gone@*]=550 5.1.1 nobody",
    "rcpt=451 4.3.0 later@3",
    "rcpt=slow:20@1",
    "mail=421 4.3.2 not now@1",
    "content=slow:10@1",
    "dot=drop@1",
    "dot=close-after@3",
    "dot=late:2000@0.05",
    "dot=late:30@5",
    "greeting=late:2000@0.1",
    "greeting=late:30@5",
];

/// Where a next hop may hang for a while.
const HANGS_AT: &[&str] = &["greeting", "mail", "rcpt", "data", "content", "dot"];
/// In so many sessions of a hundred.
const HANGS_OFTEN: u32 = 20;
/// No longer than this: more than the two minutes that it has for the answer to DATA. Nor than a part of the whole.
const LONGEST_HANG: Duration = Duration::from_secs(150);

/// The database and its log.
const QUEUE: &str = "queue.db";
/// Large content.
const CONTENT: &str = "/content";
/// Mailboxes.
const MAIL: &str = "/mail/";
/// All of that.
const FILES: &str = "/spool/";
/// Connections.
const SOCKETS: &str = "socket:[";

/// Calls fail for no longer than this, and a second.
const LONGEST_SHORTAGE: Duration = Duration::from_secs(9);
/// So often clients come meanwhile.
const COME_EVERY: Duration = Duration::from_millis(300);

/// Clients that take their time, at most.
const DRIBBLERS: usize = 3;
/// The pause between the pieces of a letter that is in time, if only just.
const SLOW: Duration = Duration::from_millis(200);
/// The same, of one that is not.
const TOO_SLOW: Duration = Duration::from_millis(600);
/// How such a one is called.
const LATE: &str = "late";
/// How long the MTA waits for a client.
const SESSION_TIMEOUT: &str = "2s";

/// After so long everything that was put off has been tried again.
const AGAIN: Duration = Duration::from_secs(90);

/// The recipients to whom something is still to be done.
const UNDONE: &str = "SELECT count(*) FROM recipient WHERE state < 5 OR report_due IS NOT NULL";

/// The same, but for those whose host is down.
const UNDONE_HERE: &str = "SELECT count(*) FROM recipient WHERE (state < 5 OR report_due IS NOT NULL) \
                           AND path NOT IN ('jdoe@down.test', 'jdoe@removed.test')";

/// What an operator does something to at once, at most.
const AT_ONCE: usize = 20;

/// The counters of `show stat`, and the entries of the account that say the same.
const COUNTERS: &[(&str, &str)] = &[
    ("Mail.AcceptedRecipients", "accepted"),
    ("Mail.RecipientsOfAliases", "came_of_aliases"),
    ("Mail.Delivered", "delivered"),
    ("Mail.TransferredRecipients", "transmitted"),
    ("Mail.Expanded", "expanded"),
    ("Mail.Failed", "failed"),
    ("Mail.Removed", "removed"),
];

/// What may befall it in the middle of a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Kill,
    Stop,
    Refresh,
    Housekeeping,
    /// A part of it is stopped, and started again.
    Part,
    /// An operator lays hands on what waits.
    Hands,
    /// A few calls of the system fail.
    Faults,
    /// Calls of the system fail for a while.
    Shortage,
    /// A next hop hangs for a while.
    Hang,
    Nothing,
}

/// All that befalls it, each as often as it stands here before the first one comes again.
const EVENTS: &[Event] = &[
    Event::Kill,
    Event::Kill,
    Event::Kill,
    Event::Stop,
    Event::Stop,
    Event::Stop,
    Event::Refresh,
    Event::Refresh,
    Event::Housekeeping,
    Event::Housekeeping,
    Event::Part,
    Event::Part,
    Event::Hands,
    Event::Hands,
    Event::Faults,
    Event::Faults,
    Event::Faults,
    Event::Faults,
    Event::Shortage,
    Event::Hang,
    Event::Nothing,
    Event::Nothing,
];

/// Calls of the system that may fail.
#[derive(Clone, Copy)]
struct Trouble {
    fault: Fault,
    /// So many at once, at most.
    most: usize,
    /// They may do so for seconds.
    lasts: bool,
}

/// What may be the trouble in a soak of this length.
fn troubles(time: Duration) -> Vec<Trouble> {
    use Errno::{EAGAIN, ECONNRESET, EINTR, EIO, EMFILE, ENOMEM, ENOSPC};
    use shim::{ACCEPT, CONNECT, OPEN, READ, RENAME, SYNC, THREAD, UNLINK, WRITE};
    let lasting = |fault| Trouble {
        fault,
        most: 10,
        lasts: true,
    };
    // What is interrupted is done again at once: for ever, if that lasted.
    let interrupted = |calls, on| Trouble {
        fault: Fault::of(calls, EINTR).on(on),
        most: 300,
        lasts: false,
    };
    let mut troubles = vec![
        lasting(Fault::of(WRITE | SYNC, EIO).on(QUEUE)),
        lasting(Fault::of(WRITE | SYNC, ENOSPC).on(QUEUE)),
        // With EIO SQLite says the same as of a page that is damaged. Then content is left behind, which `verify` tells of,
        // and in the end a message is held for an operator: no account of a soak can balance with that.
        lasting(Fault::of(READ, ENOMEM).on(QUEUE)),
        lasting(Fault::of(WRITE | SYNC, EIO).on(CONTENT)),
        lasting(Fault::of(WRITE | SYNC, ENOSPC).on(CONTENT)),
        lasting(Fault::of(READ | OPEN, EIO).on(CONTENT)),
        lasting(Fault::of(WRITE | OPEN | RENAME, EIO).on(MAIL)),
        lasting(Fault::of(OPEN, EMFILE).on(MAIL)),
        lasting(Fault::of(UNLINK, EIO).on(FILES)),
        lasting(Fault::of(READ, ECONNRESET).on(SOCKETS)),
        lasting(Fault::of(WRITE, EIO).on(SOCKETS)),
        lasting(Fault::short(READ | WRITE).on(FILES)),
        lasting(Fault::short(READ | WRITE).on(SOCKETS)),
        interrupted(READ | WRITE | OPEN, FILES),
        interrupted(READ | WRITE, SOCKETS),
        lasting(Fault::of(ACCEPT, EMFILE)),
        lasting(Fault::of(CONNECT, ENOMEM)),
        lasting(Fault::of(THREAD, EAGAIN)),
    ];
    // Content that could not be opened is tried again a minute later: so long a short one does not take.
    if time > SHORT {
        troubles.push(lasting(Fault::of(OPEN | ACCEPT, EMFILE)));
    }
    troubles
}

/// What is sent with this wave, in which that happens.
fn kinds(wave: usize, event: Event) -> Vec<Kind> {
    let mut kinds = KINDS.to_vec();
    if wave.is_multiple_of(WAITING_EVERY) && wave < WAITING_BEFORE {
        kinds.push(Kind::Waiting);
        kinds.push(Kind::Removed);
    }
    if wave.is_multiple_of(LARGE_EVERY) || event == Event::Faults {
        kinds.push(Kind::Large);
    }
    kinds
}

/// A next hop that hangs.
struct Hang {
    hop: usize,
    until: Instant,
    /// An MTA that is told to stop has to wait for it.
    outlasts_stops: bool,
}

/// The MTA, its next hops, and what was sent.
struct Soak {
    world: World,
    faults: Faults,
    /// Those that are up, and the one that is down.
    hops: [Sink; 3],
    letters: Arc<Mutex<Vec<Letter>>>,
    crashes: Vec<Crash>,
    watch: Watch,
    chance: Chance,
    /// How long the load goes on.
    time: Duration,
    /// What may befall it, and what of that is yet to come before all of it comes again.
    events: (Vec<Event>, Vec<Event>),
    /// How often clients have come.
    loads: usize,
    hang: Option<Hang>,
    dribblers: Vec<JoinHandle<()>>,
}

impl Soak {
    fn begin(time: Duration, may_be_killed: bool) -> Soak {
        let hops = [Sink::start(), Sink::start(), Sink::start()];
        for hop in &hops[..DOWN] {
            WHIMS.iter().for_each(|whim| hop.order(whim));
        }
        hops[DOWN].drop_at(Stage::Greeting);
        let mut world = World::without_mta(&["--poll-interval", "1s", "--retry-schedule", "1s"]);
        let aliases = world.write("aliases", ALIASES);
        world.flag("--aliases", &aliases);
        world.flag("--keep-history", "2s");
        world.flag("--session-timeout", SESSION_TIMEOUT);
        for (domain, hop) in UP.iter().chain(&["down.test"]).zip(&hops) {
            world.flag("--route", &format!("{domain}={}", hop.address()));
        }
        world.flag("--route", &format!("removed.test={}", hops[DOWN].address()));
        let faults = world.faults();
        world.start();
        let events = EVENTS.iter().copied();
        let events = events.filter(|event| may_be_killed || *event != Event::Kill);
        Soak {
            world,
            faults,
            hops,
            letters: Arc::default(),
            crashes: Vec::new(),
            watch: Watch::default(),
            chance: Chance::begin(),
            time,
            events: (events.collect(), Vec::new()),
            loads: 0,
            hang: None,
            dribblers: Vec::new(),
        }
    }

    /// Sends a wave of letters, and has something happen in the middle of it.
    fn wave(&mut self, wave: usize) {
        let event = self.next_event();
        let (kinds, address, number) = (kinds(wave, event), self.world.address(), self.next_load());
        let letters = Arc::clone(&self.letters);
        let sent = || letters.lock().unwrap().len();
        self.dribble();
        let enough = sent() + 1 + self.chance.below(3 * kinds.len());
        thread::scope(|scope| {
            let load = scope.spawn(|| load::send(address, number, &kinds, Verb::Both, &letters));
            let begun = || (sent() >= enough || load.is_finished()).then_some(()).ok_or(());
            eventually("some letters to be sent", begun);
            self.befall(wave, event);
        });
        self.behave();
        if self.hang.as_ref().is_some_and(|hang| hang.until < Instant::now()) {
            self.release();
        }
        self.watch.look(&self.world, &self.hops, &self.crashes);
    }

    /// The number of the next load of letters.
    fn next_load(&mut self) -> usize {
        self.loads += 1;
        self.loads
    }

    fn next_event(&mut self) -> Event {
        let (all, left) = &mut self.events;
        if left.is_empty() {
            left.clone_from(all);
        }
        left.swap_remove(self.chance.below(left.len()))
    }

    fn befall(&mut self, wave: usize, event: Event) {
        let mut note = |what: &dyn Display| self.watch.note(format!("wave {wave}: {what}"));
        match event {
            Event::Kill => {
                note(&"it is killed");
                self.world.kill();
                self.verdict();
                self.crashes.push(Crash::look(&self.world, &self.hops));
                self.world.start();
            }
            Event::Stop => {
                note(&"SIGTERM");
                if self.hang.as_ref().is_some_and(|hang| !hang.outlasts_stops) {
                    self.release();
                }
                self.terminate();
                self.world.start();
            }
            Event::Refresh => {
                note(&"SIGHUP");
                self.world.daemon().signal(Signal::SIGHUP);
            }
            Event::Housekeeping => {
                note(&"tell housekeeping");
                self.world.ask("tell housekeeping");
            }
            Event::Part => {
                let parts = ["outbound", "inbound conversion", "outbound transport", "drtask"];
                let part = self.chance.one_of(&parts);
                for word in ["stop", "start"] {
                    note(&format!("tell {word} {part}"));
                    self.world.tell(&format!("smtpmta {word} {part}"));
                }
            }
            Event::Hands => {
                note(&"an operator holds, releases, removes and brings back");
                self.hold_and_release();
                self.remove();
            }
            Event::Faults => {
                let Trouble { fault, most, .. } = self.chance.one_of(&troubles(self.time));
                let times = 1 + i64::try_from(self.chance.below(most)).unwrap();
                let fault = fault.times(times);
                note(&format!("{fault:?}"));
                self.faults.order(&[fault]);
            }
            // Where there is time for many one of three is enough.
            Event::Shortage if self.time > SHORT && self.chance.below(3) > 0 => {}
            Event::Shortage => {
                let mut troubles = troubles(self.time);
                troubles.retain(|trouble| trouble.lasts);
                let fault = self.chance.one_of(&troubles).fault;
                let time = Duration::from_secs(1) + self.chance.upto(LONGEST_SHORTAGE.min(self.time / 20));
                note(&format!("for {time:?}: {fault:?}"));
                self.endure(fault, time);
            }
            Event::Hang if self.hang.is_some() => {}
            Event::Hang => {
                let (hop, stage) = (self.chance.below(DOWN), self.chance.one_of(HANGS_AT));
                let time = Duration::from_secs(1) + self.chance.upto(LONGEST_HANG.min(self.time / 10));
                note(&format!("next hop {hop} hangs for {time:?} at {stage}"));
                self.hops[hop].order(&format!("{stage}=stall@{HANGS_OFTEN}"));
                self.hang = Some(Hang {
                    hop,
                    until: Instant::now() + time,
                    outlasts_stops: self.chance.below(4) == 0,
                });
            }
            Event::Nothing => {}
        }
    }

    /// The messages for `to` that wait in the outbound work queue, some of them: their IDs, and their senders.
    fn waiting_for(&self, to: &str) -> Vec<(String, String)> {
        let waits = format!(
            "SELECT group_concat(id || ' ' || sender, ',') FROM (SELECT id, sender FROM outbound_work_queue \
             WHERE recipient = '{to}' LIMIT {AT_ONCE})"
        );
        let found = self.world.sql(&waits);
        let found = found.split(',').filter_map(|one| one.split_once(' '));
        found
            .map(|(id, sender)| (id.to_owned(), sender.to_owned()))
            .collect()
    }

    /// Has this done to messages, of which some may have gone meanwhile.
    fn by_hand(&self, verb: &str, messages: &[(String, String)]) {
        let ids: Vec<&str> = messages.iter().map(|(id, _)| id.as_str()).collect();
        let answer = self.world.ask(&format!("queue {verb} {}", ids.join(" ")));
        assert!([0, 1].contains(&answer.status), "{answer:?}");
    }

    /// Puts some of what waits for the host that is down aside, and lets it go on.
    fn hold_and_release(&self) {
        let waiting = self.waiting_for("jdoe@down.test");
        if !waiting.is_empty() {
            self.by_hand("hold", &waiting);
            self.by_hand("release", &waiting);
        }
    }

    /// Removes some of what is to be removed, brings it back, and removes it again; whether there was any.
    fn remove(&self) -> bool {
        let found = self.waiting_for(REMOVED);
        if found.is_empty() {
            return false;
        }
        let mut letters = self.letters.lock().unwrap();
        for letter in letters.iter_mut() {
            let sender = letter.sender();
            letter.removed |= found.iter().any(|(_, from)| *from == sender);
        }
        drop(letters);
        for verb in ["delete", "undelete", "delete"] {
            self.by_hand(verb, &found);
        }
        true
    }

    /// Lets a client come that takes its time, unless there are enough of these: some are in time, and some are not.
    fn dribble(&mut self) {
        self.dribblers.retain(|client| !client.is_finished());
        if self.dribblers.len() == DRIBBLERS {
            return;
        }
        let (name, pause) = self.chance.one_of(&[("slow", SLOW), (LATE, TOO_SLOW)]);
        let name = format!("{name}{}", self.next_load());
        let (address, letters) = (self.world.address(), Arc::clone(&self.letters));
        self.dribblers.push(thread::spawn(move || {
            load::dribble(address, &name, pause, &letters);
        }));
    }

    /// Lets calls fail for this time, while clients come; whoever comes then is served, without anybody's help.
    fn endure(&mut self, fault: Fault, time: Duration) {
        let (until, address) = (Instant::now() + time, self.world.address());
        let letters = Arc::clone(&self.letters);
        let kinds = [KINDS, &[Kind::Large]].concat();
        self.faults.order(&[fault]);
        thread::scope(|scope| {
            let (_silent, pause) = channel::<()>();
            while Instant::now() < until {
                let (number, letters, kinds) = (self.next_load(), &letters, &kinds);
                scope.spawn(move || load::send(address, number, kinds, Verb::Both, letters));
                _ = pause.recv_timeout(COME_EVERY);
            }
            self.behave();
        });
        let before = letters.lock().unwrap().len();
        eventually("mail to be taken again", || {
            load::send(address, self.next_load(), &[Kind::Local], Verb::Data, &letters);
            let letters = letters.lock().unwrap();
            let is_taken = letters[before..].iter().any(|letter| letter.acknowledged);
            is_taken.then_some(()).ok_or(())
        });
    }

    /// From now on no call fails.
    fn behave(&mut self) {
        let struck = self.faults.struck();
        if struck > 0 {
            self.watch
                .note(format!("{struck} calls have failed, and no more do"));
        }
        self.faults.behave();
    }

    /// From now on no next hop hangs.
    fn release(&mut self) {
        if let Some(Hang { hop, .. }) = self.hang.take() {
            self.watch.note(format!("next hop {hop} goes on"));
            self.hops[hop].release();
        }
    }

    /// Stops the MTA, which says in the database that it has come to its end: its counters are not counted anew.
    fn terminate(&mut self) {
        let (status, took) = self.world.terminate();
        self.watch.note(format!("it has ended, after {took:?}"));
        assert_eq!(status, Some(0));
        let running = "SELECT count(*) FROM marker WHERE name = 'running'";
        assert_eq!(self.world.sql(running), "0");
    }

    /// What `verify --account` says: the queue is in order.
    fn verdict(&self) -> Value {
        let answer = self.world.ask("verify --account --json");
        assert_eq!(answer.status, 0, "{answer:?}");
        serde_json::from_str(&answer.text).unwrap()
    }

    /// Waits until there are no such recipients. As long as they become fewer all is well, however many they are.
    fn drain(&self, undone: &str) {
        let (mut until, (_silent, pause)) = (Instant::now() + AGAIN, channel::<()>());
        let mut least = u64::MAX;
        while least > 0 && Instant::now() < until {
            let waits = self.world.query(undone).ok().and_then(|count| count.parse().ok());
            if let Some(waits) = waits.filter(|waits| *waits < least) {
                (least, until) = (waits, Instant::now() + AGAIN);
            }
            _ = pause.recv_timeout(Duration::from_millis(50));
        }
        self.world.wait_for_sql(undone, "0");
    }

    /// The counters of `show stat` say what the rows say, with nothing under way but what waits for a host that is down.
    fn counters_agree(&self) {
        eventually("the counters to say what the rows say", || {
            let counters: Value = serde_json::from_str(&self.world.ask("show --json stat").text).unwrap();
            let verdict = self.verdict();
            let account = &verdict["account"];
            // What never happened has no counter.
            let counter = |name: &str| counters[name].as_i64().unwrap_or(0);
            let lines = COUNTERS.iter();
            let lines = lines.map(|(name, entry)| (*name, counter(name), &account[entry]["database"]));
            let waiting = counter("Mail.TotalPending") + counter("Mail.OnLists");
            let here = [
                ("waiting", waiting, &account["waiting"]),
                ("Mail.Dead", counter("Mail.Dead"), &account["dead"]),
                ("Mail.Held", counter("Mail.Held"), &account["held"]),
            ];
            let all = lines.chain(here);
            let others: Vec<_> = all
                .filter(|(_, said, rows)| rows.as_i64() != Some(*said))
                .collect();
            if others.is_empty() {
                Ok(())
            } else {
                Err(format!("{others:?}"))
            }
        });
    }

    /// Lets everything come to its end, and looks whether all is well.
    fn end(mut self) {
        self.release();
        let dribblers = self.dribblers.drain(..);
        dribblers.for_each(|client| client.join().unwrap());
        self.drain(UNDONE_HERE);
        // A probe may have some of it in hand.
        eventually("nothing to be left that is to be removed", || {
            match self.remove() {
                true => Err("there was more of it"),
                false => Ok(()),
            }
        });
        self.counters_agree();
        self.terminate();
        let verdict_before = self.verdict();
        // What has waited all the time is there, and goes.
        self.hops[DOWN].behave();
        self.world.start();
        self.drain(UNDONE);
        self.world.wait_for_sql("SELECT count(*) FROM domain_list", "0");
        self.counters_agree();
        self.terminate();
        let verdict = self.verdict();
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
        let too_slow = letters.iter().filter(|letter| letter.token.starts_with(LATE));
        let waited_for: Vec<_> = too_slow.filter(|letter| letter.acknowledged).collect();
        assert!(waited_for.is_empty(), "{waited_for:?}");
        let waited = self.hops[DOWN].look(|seen| {
            let tokens = seen.accepted().map(|message| token(&message.content));
            tokens.collect::<HashSet<_>>().len()
        });
        let sums = account.sums;
        let sums_before = Sums {
            transmitted: sums.transmitted - waited,
            waiting: waited,
            ..sums
        };
        for (sums, verdict) in [(sums_before, &verdict_before), (sums, &verdict)] {
            assert!(sums.balance(), "{sums:?}");
            assert_eq!(sums.differences(verdict), Vec::<String>::new(), "{sums:?}");
        }
        let ends = [
            sums.delivered,
            sums.transmitted,
            sums.failed,
            sums.dead,
            sums.removed,
            waited,
        ];
        assert!(ends.iter().all(|end| *end > 0), "{ends:?}");
        #[allow(clippy::print_stdout)] // the account of a long run
        {
            println!(
                "{} letters, {} acknowledged, {} crashes, {} recipients to whom one came twice, {} of them since a session \
                 broke off before its answer, none lost, {waited} waited to the end\n{}",
                letters.len(),
                account.acknowledged,
                self.crashes.len(),
                account.doubled,
                excused.len(),
                self.world.ask("verify --account").text
            );
        }
    }
}

/// All of what may befall it does so at least once, however short it is.
fn soak(may_be_killed: bool) {
    let time = env::var("SMTPMTA_SOAK")
        .ok()
        .map(|text| text.parse::<u64>().unwrap());
    let time = time.map_or(SHORT, Duration::from_secs);
    let mut soak = Soak::begin(time, may_be_killed);
    let until = Instant::now() + time;
    let mut wave = 0;
    while wave < EVENTS.len() || Instant::now() < until {
        soak.wave(wave);
        wave += 1;
    }
    soak.end();
}

#[test]
fn whatever_befalls_it_the_account_balances() {
    soak(true);
}

#[test]
fn where_nobody_kills_it_its_counters_have_counted_all_of_it() {
    soak(false);
}
