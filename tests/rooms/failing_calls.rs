//! The system refuses: no room on the disk, no descriptor, no thread, no memory, a disk that fails, calls that are cut
//! short; once, and for as long as it likes.
//!
//! Each time the client hears a 4xx or waits, and so does the recipient; what was acknowledged arrives once, what was
//! refused never; nobody tries again without a pause; and all goes on by itself as soon as the system does its part
//! again. `tests/faults/shim.c` lets the calls fail.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustls::version::TLS13;

use crate::support::client::{Client, big_letter, letter};
use crate::support::shim::{
    ACCEPT, CONNECT, CUT, Fault, Faults, OPEN, READ, RENAME, SYNC, THREAD, UNLINK, WRITE,
};
use crate::support::sink::{Sink, Stage};
use crate::support::submission::issue;
use crate::support::trace::contains;
use crate::support::world::{PATIENCE, World, eventually, files};

/// A sender.
const FROM: &str = "bsmith@univac.com";
/// A local recipient.
const HERE: &str = "jdoe@mta.test";
/// A recipient elsewhere.
const THERE: &str = "jdoe@ibm.com";

/// Everything below the spool.
const FILES: &str = "/spool/";
/// The database and its log.
const QUEUE: &str = "queue.db";
/// Large content.
const CONTENT: &str = "/content";
/// Mailboxes.
const MAIL: &str = "/mail/";
/// Connections.
const SOCKETS: &str = "socket:[";

/// Where mail waits, in the order in which it goes there.
const QUEUES: [&str; 3] = ["inbound_work_queue", "smtp_box", "outbound_work_queue"];

/// How long it is watched whether somebody tries again and again what fails.
const WATCHED: Duration = Duration::from_millis(200);
/// So many calls may fail in that time: a third of them do, if each of the tasks makes a trial or two.
const MOST_TRIALS: u64 = 40;
/// Before that, nothing fails for as long as this: whoever tries again pauses for longer.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// What the system counts of a processor's time, at least.
const TICK: Duration = Duration::from_millis(10);

/// A message and what was said to it.
struct Sent {
    mark: String,
    to: Vec<&'static str>,
    content: Vec<u8>,
    /// `None` where nobody knows.
    taken: Option<bool>,
    /// Its answer may have been lost on the way from the next hop: then it was sent again.
    may_come_twice: bool,
}

/// An MTA whose calls fail, the next hop, and all that was sent.
struct Trial {
    world: World,
    faults: Faults,
    sink: Sink,
    sent: Vec<Sent>,
    /// Connections break.
    is_rough: bool,
}

impl Trial {
    /// Nothing fails yet.
    #[track_caller]
    fn begin() -> Trial {
        let sink = Sink::start();
        let relay = sink.address().to_string();
        let flags = [
            "--relay-host",
            &relay,
            "--poll-interval",
            "1s",
            "--retry-schedule",
            "1s",
        ];
        let mut world = World::without_mta(&flags);
        let faults = world.faults();
        world.start();
        all_have_started(&world);
        let sent = Vec::new();
        Trial {
            world,
            faults,
            sink,
            sent,
            is_rough: false,
        }
    }

    /// The same, where connections are going to break.
    #[track_caller]
    fn begin_roughly() -> Trial {
        Trial {
            is_rough: true,
            ..Trial::begin()
        }
    }

    /// Sends a message in this session; what was said to it, empty where the connection broke.
    fn send_in(&mut self, client: std::io::Result<Client>, to: &[&'static str], octets: usize) -> String {
        let mark = format!("mark{}x", self.sent.len());
        let content = match octets {
            0 => letter(&mark),
            octets => big_letter(&mark, octets),
        };
        let reply = client.and_then(|mut client| client.try_mail(FROM, to, &content));
        self.sent.push(Sent {
            mark,
            to: to.to_vec(),
            content,
            taken: reply.as_ref().ok().map(|reply| reply.starts_with("250 ")),
            may_come_twice: self.is_rough,
        });
        reply.unwrap_or_default()
    }

    /// Sends a small message.
    fn send(&mut self, to: &[&'static str]) -> String {
        self.send_in(Client::try_greet(self.world.address()), to, 0)
    }

    /// Sends one whose content is a file.
    fn send_large(&mut self, to: &[&'static str]) -> String {
        self.send_in(Client::try_greet(self.world.address()), to, 100_000)
    }

    /// Waits until nothing waits any more.
    #[track_caller]
    fn wait_until_empty(&self) {
        for queue in QUEUES {
            self.world
                .wait_for_sql(&format!("SELECT count(*) FROM {queue}"), "0");
        }
    }

    /// Whether nothing waits: mail goes through these in their order.
    #[track_caller]
    fn is_empty(&self) -> bool {
        QUEUES
            .iter()
            .all(|queue| self.world.sql(&format!("SELECT count(*) FROM {queue}")) == "0")
    }

    /// Whether this may be said to who brings a message while things fail: that it is stored, or may come later; where
    /// connections break, nothing at all.
    fn may_say(&self, reply: &str) -> bool {
        let words = ["250 ", "451 4.3.0 ", "452 4.3.1 "];
        words.iter().any(|begin| reply.starts_with(begin)) || (self.is_rough && reply.is_empty())
    }

    /// Waits until one of the calls has failed that were ordered to.
    #[track_caller]
    fn wait_until_struck(&self, what: &str) {
        eventually(what, || match self.faults.struck() {
            0 => Err(()),
            _ => Ok(()),
        });
    }

    /// While it lasts nobody tries again without a pause.
    #[track_caller]
    fn watch(&self, what: &str) {
        // What comes at once is tried at once.
        let mut last = (self.faults.struck(), Instant::now());
        eventually(&format!("{what}: a pause between trials"), || {
            let struck = self.faults.struck();
            if struck != last.0 {
                last = (struck, Instant::now());
            }
            match last.1.elapsed() {
                pause if pause >= LEAST_PAUSE => Ok(()),
                _ => Err(struck),
            }
        });
        let (began, worked) = (Instant::now(), self.world.daemon().processor_time());
        let before = self.faults.struck();
        eventually("the time of a watch to be over", || match began.elapsed() {
            watched if watched >= WATCHED => Ok(()),
            watched => Err(watched),
        });
        let struck = self.faults.struck() - before;
        let (worked, took) = (self.world.daemon().processor_time() - worked, began.elapsed());
        // If others keep us from looking, it has had more time.
        let most = MOST_TRIALS * took.as_millis().div_ceil(WATCHED.as_millis()) as u64;
        assert!(
            struck <= most,
            "{what}: {struck} calls have failed within {took:?}"
        );
        assert!(
            worked < took / 4 + TICK,
            "{what}: it has worked for {worked:?} within {took:?}"
        );
    }

    /// How many errors that hold this word have been logged so far.
    fn errors(&self, word: &str) -> usize {
        let said = self.world.daemon().said();
        said.iter()
            .filter(|line| line.contains(word) && line.contains("ERROR"))
            .count()
    }

    /// The system does its part again: so does the MTA, without a restart, and keeps all that it has promised.
    #[track_caller]
    fn end(mut self) {
        self.faults.behave();
        let reply = eventually("a message that is taken", || {
            let reply = self.send(&[HERE, THERE]);
            if reply.starts_with("250 ") {
                Ok(reply)
            } else {
                Err(reply)
            }
        });
        assert!(reply.starts_with("250 2.6.0 "), "{reply}");
        self.wait_until_empty();
        let mut arrived: HashMap<(&str, &str), usize> = HashMap::new();
        let here = self.world.letters(HERE);
        for sent in &self.sent {
            let lines = String::from_utf8_lossy(&sent.content).replace("\r\n", "\n");
            let locals = here.iter().filter(|letter| contains(letter, &sent.mark));
            let count = locals
                .inspect(|letter| assert!(letter.ends_with(lines.as_bytes())))
                .count();
            arrived.insert((sent.mark.as_str(), HERE), count);
            let relayed = self.sink.look(|seen| {
                let of = seen
                    .accepted()
                    .filter(|message| contains(&message.content, &sent.mark));
                of.inspect(|message| assert!(message.content.ends_with(&sent.content)))
                    .count()
            });
            arrived.insert((sent.mark.as_str(), THERE), relayed);
            for to in &sent.to {
                let count = arrived[&(sent.mark.as_str(), *to)];
                // A letter has the same name in the mailbox each time.
                let may_be_more = sent.may_come_twice && *to == THERE;
                match sent.taken {
                    Some(true) if may_be_more => {
                        assert!(count >= 1, "{} was acknowledged, for {to}", sent.mark);
                    }
                    Some(true) => assert_eq!(count, 1, "{} was acknowledged, for {to}", sent.mark),
                    Some(false) => assert_eq!(count, 0, "{} was refused, for {to}", sent.mark),
                    None => assert!(count <= 1 || may_be_more, "{} for {to}", sent.mark),
                }
            }
        }
        assert_eq!(self.world.sql("PRAGMA integrity_check"), "ok");
        // Nobody was told that it failed.
        let ends = "SELECT count(*) FROM history WHERE event IN ('given up', 'failed', 'held')";
        assert_eq!(self.world.sql(ends), "0");
        let tmp = self.world.mailbox(HERE).join("tmp");
        assert_eq!(files(&tmp).len(), 0, "{tmp:?}");
        assert_eq!(self.world.terminate().0, Some(0));
    }
}

/// Waits until the last task runs, too: the listener tells of itself before that, and an MTA that can not start a task
/// ends.
#[track_caller]
fn all_have_started(world: &World) {
    world.daemon().wait_for_word(" started, spool ");
}

/// Looks at the pace of what fails: so many calls fail, each trial of so many at once, and between two trials there is
/// a pause.
#[track_caller]
fn fails_at_leisure(trial: &Trial, trials: u64, calls: u64, pause: Duration, what: impl FnOnce()) {
    let (began, worked) = (Instant::now(), trial.world.daemon().processor_time());
    let before = trial.faults.struck();
    what();
    eventually("calls that fail", || match trial.faults.struck() - before {
        struck if struck >= trials * calls => Ok(()),
        struck => Err(struck),
    });
    let (took, worked) = (began.elapsed(), trial.world.daemon().processor_time() - worked);
    let least = pause * u32::try_from(trials - 1).unwrap();
    assert!(
        took >= least,
        "{trials} trials within {took:?}: there is no pause"
    );
    assert!(worked < took / 2, "it has worked for {worked:?} within {took:?}");
}

/// Lets one of these calls fail once: that at place `first` of those that are made from the moment when a message is
/// brought, then the one at the place that is `next` to it, until a message comes through without. `then` is done after
/// each failure.
#[track_caller]
fn one_may_fail(
    trial: &mut Trial,
    fault: Fault,
    first: i64,
    next: impl Fn(i64) -> i64,
    then: impl Fn(&Trial),
) {
    let mut place = first;
    loop {
        trial.faults.order(&[fault.after(place).times(1)]);
        let reply = trial.send(&[HERE, THERE]);
        assert!(trial.may_say(&reply), "{fault:?} at {place}: {reply}");
        let came_through = eventually("a call that fails, or a message that comes through", || {
            match (trial.faults.struck() > 0, trial.is_empty()) {
                (true, _) => Ok(false),
                (false, true) => Ok(true),
                (false, false) => Err(trial.faults.struck()),
            }
        });
        if came_through {
            break;
        }
        then(trial);
        place = next(place);
    }
    trial.faults.behave();
    assert!(place > first, "{fault:?}: none of them is made");
}

/// Waits until all has gone out, and no session is kept open for more. Nothing has to wait for its time.
#[track_caller]
fn let_it_go(trial: &Trial) {
    eventually("a queue that is empty", || {
        if trial.is_empty() {
            return Ok(());
        }
        Err(trial.world.ask("queue retry"))
    });
    trial.sink.wait_for(|seen| seen.live().count() == 0, PATIENCE);
}

/// Lets these calls fail from the first, the second … on that the acceptance of a message needs; then one of them once,
/// wherever it happens to be made.
#[track_caller]
fn each_may_fail(calls: u32, on: &'static str, errors: &[Errno]) {
    let mut trial = Trial::begin();
    for error in errors {
        let fault = Fault::of(calls, *error).on(on);
        let mut needed = 0;
        loop {
            trial.wait_until_empty();
            trial.faults.order(&[fault.after(needed)]);
            let reply = trial.send(&[HERE, THERE]);
            trial.faults.behave();
            if reply.starts_with("250 ") {
                break;
            }
            assert!(reply.starts_with("45"), "{error} from {needed} on: {reply}");
            needed += 1;
        }
        assert!(needed > 0, "{error}: nothing of it is needed");
        trial.wait_until_empty();
        one_may_fail(&mut trial, fault, 0, |place| place + 1, |_| ());
    }
    trial.end();
}

/// Which calls fail, in which ways, and where.
type Row = (u32, &'static [Errno], &'static str);

/// Lets all of that happen while messages are brought, each once and then for a while. Who brings them hears that they
/// are stored, or may come later; nobody tries again without a pause; what comes afterwards is taken at once; and at the
/// end all is there that should be.
#[track_caller]
fn whatever_fails(mut trial: Trial, rows: &[Row]) {
    for &(calls, errors, on) in rows {
        for (error, lasts) in errors.iter().flat_map(|error| [(*error, false), (*error, true)]) {
            let what = format!(
                "{error} of {calls} on {on:?}, {}",
                if lasts { "lasting" } else { "once" }
            );
            let fault = Fault::of(calls, error).on(on);
            trial.faults.order(&[match (lasts, error) {
                (false, _) => fault.times(1),
                // What was interrupted is done again at once: that never lasts.
                (true, Errno::EINTR) => fault.times(20),
                (true, _) => fault,
            }]);
            let told = trial.errors("");
            let replies = [trial.send(&[HERE, THERE]), trial.send_large(&[HERE, THERE])];
            assert!(
                replies.iter().all(|reply| trial.may_say(reply)),
                "{what}: {replies:?}"
            );
            if replies.iter().any(|reply| reply.starts_with('4')) {
                eventually("what the operator is told", || match trial.errors("") - told {
                    0 => Err(what.clone()),
                    _ => Ok(()),
                });
            }
            trial.wait_until_struck(&what);
            if lasts && error != Errno::EINTR {
                trial.watch(&what);
            }
            trial.faults.behave();
            let reply = trial.send(&[HERE]);
            assert!(reply.starts_with("250 "), "after {what}: {reply}");
        }
    }
    trial.end();
}

#[test]
fn each_write_to_the_queue_may_fail_once() {
    each_may_fail(WRITE, QUEUE, &[Errno::EIO]);
}

#[test]
fn the_disk_may_be_full_at_each_write_to_the_queue() {
    each_may_fail(WRITE, QUEUE, &[Errno::ENOSPC]);
}

#[test]
fn each_sync_of_the_queue_may_fail_once() {
    each_may_fail(SYNC, QUEUE, &[Errno::EIO, Errno::ENOSPC]);
}

#[test]
fn whatever_fails_on_the_queue_does_no_more_than_put_mail_off() {
    use Errno::{EINTR, EIO, ENOMEM, ENOSPC};
    whatever_fails(
        Trial::begin(),
        &[
            (WRITE, &[ENOSPC, EIO, EINTR], QUEUE),
            (SYNC, &[EIO, ENOSPC, EINTR], QUEUE),
            (READ, &[ENOMEM, EINTR], QUEUE),
        ],
    );
}

#[test]
fn whatever_fails_on_large_content_does_no_more_than_put_mail_off() {
    use Errno::{EINTR, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC};
    whatever_fails(
        Trial::begin(),
        &[
            (OPEN, &[EMFILE, ENFILE, ENOMEM, ENOSPC, EIO, EINTR], CONTENT),
            (WRITE, &[ENOSPC, EIO, EINTR], CONTENT),
            (SYNC, &[EIO, ENOSPC, EINTR], CONTENT),
            (READ, &[EIO, ENOMEM, EINTR], CONTENT),
            (UNLINK, &[EIO, EINTR], CONTENT),
        ],
    );
}

#[test]
fn whatever_fails_in_a_mailbox_does_no_more_than_put_mail_off() {
    use Errno::{EINTR, EIO, EMFILE, ENOMEM, ENOSPC};
    whatever_fails(
        Trial::begin(),
        &[
            (OPEN, &[EMFILE, ENOMEM, ENOSPC, EIO, EINTR], MAIL),
            (WRITE, &[ENOSPC, EIO, EINTR], MAIL),
            (SYNC, &[EIO, ENOSPC, EINTR], MAIL),
            (RENAME, &[EIO, ENOSPC, EINTR], MAIL),
            (UNLINK, &[EIO, EINTR], MAIL),
        ],
    );
}

#[test]
fn while_the_file_system_is_read_only_mail_is_put_off() {
    let changes = WRITE | OPEN | CUT | RENAME | UNLINK;
    whatever_fails(
        Trial::begin(),
        &[(WRITE, &[Errno::EROFS], QUEUE), (changes, &[Errno::EROFS], FILES)],
    );
}

#[test]
fn while_no_file_at_all_can_be_opened_mail_is_put_off() {
    whatever_fails(Trial::begin(), &[(OPEN, &[Errno::EMFILE, Errno::ENFILE], "")]);
}

#[test]
fn while_nothing_can_be_read_from_a_connection_or_written_to_it_mail_waits() {
    use Errno::{EIO, ENOBUFS, ENOMEM};
    whatever_fails(
        Trial::begin_roughly(),
        &[
            (READ, &[EIO, ENOMEM, ENOBUFS], SOCKETS),
            (WRITE, &[EIO, ENOMEM, ENOBUFS], SOCKETS),
        ],
    );
}

#[test]
fn whichever_read_from_a_connection_fails_once_what_was_acknowledged_arrives() {
    let mut trial = Trial::begin_roughly();
    let fault = Fault::of(READ, Errno::EIO).on(SOCKETS);
    one_may_fail(&mut trial, fault, 0, |place| place + 1, let_it_go);
    trial.end();
}

#[test]
fn whichever_write_to_a_connection_fails_once_what_was_acknowledged_arrives() {
    // A host that takes nothing any more is listened to for some seconds.
    thread::scope(|scope| {
        for first in 0..3 {
            scope.spawn(move || {
                let mut trial = Trial::begin_roughly();
                let fault = Fault::of(WRITE, Errno::ENOBUFS).on(SOCKETS);
                one_may_fail(&mut trial, fault, first, |place| place + 3, let_it_go);
                trial.end();
            });
        }
    });
}

#[test]
fn a_connection_that_can_not_be_made_or_taken_once_costs_a_moment() {
    use Errno::{EADDRNOTAVAIL, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO};
    let mut trial = Trial::begin();
    for error in [EINTR, EADDRNOTAVAIL] {
        one_may_fail(
            &mut trial,
            Fault::of(CONNECT, error),
            0,
            |place| place + 1,
            let_it_go,
        );
        let_it_go(&trial);
    }
    for error in [EINTR, ECONNABORTED, EPROTO, EMFILE, ENFILE, ENOMEM, ENOBUFS] {
        one_may_fail(&mut trial, Fault::of(ACCEPT, error), 0, |place| place + 1, |_| ());
    }
    trial.end();
}

#[test]
fn content_that_can_not_be_read_for_a_while_is_waited_for_on_its_way_in_and_out() {
    let mut trial = Trial::begin();
    for (calls, error) in [(OPEN, Errno::EMFILE), (OPEN, Errno::EIO), (READ, Errno::EIO)] {
        trial.world.tell("smtpmta stop inbound conversion");
        let reply = trial.send_large(&[HERE]);
        assert!(reply.starts_with("250 "), "{error}: {reply}");
        trial.faults.order(&[Fault::of(calls, error).on(CONTENT)]);
        trial.world.tell("smtpmta start inbound conversion");
        let waits = "SELECT count(*) FROM inbound_work_queue WHERE last_error IS NOT NULL";
        trial.world.wait_for_sql(waits, "1");
        // The others are not kept waiting.
        let count = trial.sink.look(|seen| seen.accepted().count()) + 1;
        assert!(trial.send(&[HERE, THERE]).starts_with("250 "));
        trial
            .sink
            .wait_for(|seen| seen.accepted().count() == count, PATIENCE);
        trial.watch("content on its way in");
        trial.faults.behave();
        trial.wait_until_empty();

        trial.world.tell("smtpmta stop outbound transport");
        let reply = trial.send_large(&[THERE]);
        assert!(reply.starts_with("250 "), "{error}: {reply}");
        trial
            .world
            .wait_for_sql("SELECT count(*) FROM outbound_work_queue", "1");
        trial.faults.order(&[Fault::of(calls, error).on(CONTENT)]);
        trial.world.tell("smtpmta start outbound transport");
        let deferred =
            "SELECT count(*) FROM outbound_work_queue WHERE attempts > 0 AND last_error IS NOT NULL";
        trial.world.wait_for_sql(deferred, "1");
        trial.watch("content on its way out");
        trial.faults.behave();
        trial.wait_until_empty();
    }
    trial.end();
}

#[test]
fn a_full_disk_on_which_the_log_can_not_be_cut_either_is_no_worse() {
    let mut trial = Trial::begin();
    let full = Fault::of(WRITE, Errno::ENOSPC).on("queue.db-wal$");
    trial.faults.order(&[full, Fault::of(CUT, Errno::EIO).on(QUEUE)]);
    let replies = [trial.send(&[HERE, THERE]), trial.send_large(&[HERE, THERE])];
    assert!(
        replies.iter().all(|reply| reply.starts_with("452 4.3.1 ")),
        "{replies:?}"
    );
    trial
        .world
        .daemon()
        .wait_for_word("its log could not be copied home");
    trial.watch("a log that can not be cut");
    trial.faults.behave();
    let reply = trial.send(&[HERE, THERE]);
    assert!(reply.starts_with("250 "), "{reply}");
    trial.end();
}

#[test]
fn tasks_that_can_record_nothing_of_the_work_they_have_to_do_pause_between_their_trials() {
    // Of the first it is told once.
    let (conversion, lists) = (
        "is recorded as soon as this has passed",
        "lists could not be made",
    );
    for (calls, error) in [(WRITE, Errno::ENOSPC), (WRITE, Errno::EIO), (SYNC, Errno::EIO)] {
        let mut trial = Trial::begin();
        trial.world.tell("smtpmta stop outbound transport");
        assert!(trial.send(&[THERE]).starts_with("250 "));
        trial
            .world
            .wait_for_sql("SELECT count(*) FROM outbound_work_queue", "1");
        trial.world.tell("smtpmta stop inbound conversion");
        assert!(trial.send(&[HERE]).starts_with("250 "));
        trial.faults.order(&[Fault::of(calls, error).on(QUEUE)]);
        let (began, worked) = (Instant::now(), trial.world.daemon().processor_time());
        let wait_for_trials = |least: &[usize], words: &[&str]| {
            eventually("trials of tasks", || {
                let tried: Vec<usize> = words.iter().map(|word| trial.errors(word)).collect();
                if tried.iter().zip(least).all(|(tried, least)| tried >= least) {
                    Ok(())
                } else {
                    Err(tried)
                }
            });
        };
        trial.world.tell("smtpmta start inbound conversion");
        // Lists need no sync, unless one has failed.
        wait_for_trials(&[1], &[conversion]);
        trial.world.tell("smtpmta start outbound transport");
        wait_for_trials(&[1, 2], &[conversion, lists]);
        let (worked, took) = (trial.world.daemon().processor_time() - worked, began.elapsed());
        assert!(took > Duration::from_millis(900), "{error}: within {took:?}");
        assert!(worked < took / 2, "{error}: {worked:?} within {took:?}");
        let struck = trial.faults.struck();
        assert!(struck < MOST_TRIALS, "{error}: {struck} calls within {took:?}");
        trial.end();
    }
}

#[test]
fn an_operator_for_whom_there_is_no_thread_is_answered_and_obeyed_as_soon_as_there_is_one() {
    let trial = Trial::begin();
    for part in [
        "inbound conversion",
        "outbound conversion",
        "drtask",
        "inbound transport",
        "outbound transport",
    ] {
        trial.faults.order(&[Fault::of(THREAD, Errno::EAGAIN)]);
        assert!(trial.world.show("version").starts_with("smtpmta "));
        let counters = trial.world.ask("show stat");
        assert_eq!(counters.status, 75, "{counters:?}");
        trial.world.tell(&format!("smtpmta stop {part}"));
        let started = trial.world.ask(&format!("tell smtpmta start {part}"));
        assert_eq!(started.status, 75, "{part}: {started:?}");
        assert!(started.complaint.contains("could not be started"), "{started:?}");
        let tasks = trial.world.show("tasks");
        assert!(!tasks.contains(" Started\n"), "{part} does not run: {tasks}");
        trial.faults.behave();
        eventually("a start", || {
            let started = trial.world.ask(&format!("tell smtpmta start {part}"));
            if started.status == 0 { Ok(()) } else { Err(started) }
        });
    }
    let tasks = trial.world.show("tasks");
    assert!(!tasks.contains("Stopped"), "{tasks}");
    trial.end();
}

#[test]
fn a_large_message_whose_file_can_not_be_written_is_refused_and_leaves_nothing() {
    let mut trial = Trial::begin();
    for (calls, error, places) in [
        (OPEN, Errno::EMFILE, 2),
        (OPEN, Errno::ENFILE, 2),
        (OPEN, Errno::ENOMEM, 2),
        (OPEN, Errno::ENOSPC, 2),
        (OPEN, Errno::EIO, 2),
        (WRITE, Errno::ENOSPC, 2),
        (WRITE, Errno::EIO, 2),
        (SYNC, Errno::EIO, 2),
    ] {
        for place in 0..places {
            let fault = Fault::of(calls, error).on(CONTENT).after(place).times(1);
            trial.faults.order(&[fault]);
            let reply = trial.send_large(&[HERE, THERE]);
            assert_eq!(trial.faults.struck(), 1, "{error} at {place} of {calls}: {reply}");
            let full = error == Errno::ENOSPC;
            let expected = if full { "452 4.3.1 " } else { "451 4.3.0 " };
            assert!(
                reply.starts_with(expected),
                "{error} at {place} of {calls}: {reply}"
            );
        }
    }
    let left = files(&trial.world.spool().join("content"));
    assert_eq!(left.len(), 0, "{left:?}");
    trial.end();
}

#[test]
fn as_long_as_the_disk_takes_nothing_every_message_is_refused_and_none_is_after_that() {
    let mut trial = Trial::begin();
    for (calls, error, on, expected) in [
        (WRITE, Errno::ENOSPC, FILES, "452 4.3.1 "),
        (WRITE, Errno::EIO, QUEUE, "451 4.3.0 "),
        (SYNC, Errno::EIO, FILES, "451 4.3.0 "),
    ] {
        // Some of it is under way.
        trial.send(&[HERE, THERE]);
        trial.send_large(&[HERE, THERE]);
        trial.faults.order(&[Fault::of(calls, error).on(on)]);
        for _ in 0..3 {
            let replies = [trial.send(&[HERE]), trial.send_large(&[THERE])];
            assert!(
                replies.iter().all(|reply| reply.starts_with(expected)),
                "{error}: {replies:?}"
            );
        }
        trial.faults.behave();
        let reply = trial.send(&[HERE, THERE]);
        assert!(reply.starts_with("250 "), "{error}: {reply}");
    }
    trial.end();
}

#[test]
fn while_no_file_can_be_made_for_large_messages_small_ones_come_in() {
    let mut trial = Trial::begin();
    trial.faults.order(&[Fault::of(OPEN, Errno::EMFILE).on(CONTENT)]);
    for _ in 0..3 {
        let (large, small) = (trial.send_large(&[HERE]), trial.send(&[HERE, THERE]));
        assert!(large.starts_with("451 4.3.0 "), "{large}");
        assert!(small.starts_with("250 "), "{small}");
    }
    trial.end();
}

#[test]
fn callers_wait_while_the_system_has_no_descriptor_for_them() {
    let trial = Trial::begin();
    for error in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS] {
        trial.faults.order(&[Fault::of(ACCEPT, error)]);
        let mut caller = None;
        fails_at_leisure(&trial, 2, 1, Duration::from_millis(450), || {
            caller = Some(Client::connect(trial.world.address()));
        });
        let mut caller = caller.unwrap();
        assert!(caller.hears_nothing(), "{error}");
        trial.faults.behave();
        assert!(caller.reply().starts_with("220 "), "{error}");
    }
    trial.end();
}

#[test]
fn the_operator_waits_while_the_system_has_no_descriptor_for_him() {
    let trial = Trial::begin();
    trial.faults.order(&[Fault::of(ACCEPT, Errno::EMFILE)]);
    thread::scope(|scope| {
        // A call that had begun to wait for him before may still bring one in.
        let asking = scope.spawn(|| [0; 2].map(|_| trial.world.ask("show tasks").status));
        fails_at_leisure(&trial, 3, 1, Duration::from_millis(450), || ());
        assert!(!asking.is_finished());
        trial.faults.behave();
        assert_eq!(asking.join().unwrap(), [0, 0]);
    });
    trial.end();
}

#[test]
fn a_caller_for_whom_there_is_no_thread_hears_421_and_the_next_one_is_served() {
    let trial = Trial::begin();
    trial.faults.order(&[Fault::of(THREAD, Errno::EAGAIN)]);
    fails_at_leisure(&trial, 3, 1, Duration::from_millis(450), || {
        for _ in 0..3 {
            let said = Client::connect(trial.world.address()).reply();
            assert_eq!(said, "421 4.3.2 mta.test Out of resources, try again later");
        }
    });
    trial.end();
}

/// Calls until somebody is there to serve. Who is turned away hears why.
#[track_caller]
fn call(trial: &Trial) -> Client {
    loop {
        let mut caller = Client::connect(trial.world.address());
        let said = caller.reply();
        if said.starts_with("220 ") {
            assert!(caller.say("EHLO univac.com").starts_with("250"));
            return caller;
        }
        assert_eq!(said, "421 4.3.2 mta.test Out of resources, try again later");
    }
}

/// Lets a thread once not be started, from the start of the MTA to its end: that at place `first` of them, and then
/// always that which is `step` further on.
#[track_caller]
fn one_thread_may_not_be_started(first: i64, step: i64) {
    let mut trial = Trial::begin();
    assert_eq!(trial.world.terminate().0, Some(0));
    let mut place = first;
    loop {
        let fault = Fault::of(THREAD, Errno::EAGAIN).after(place).times(1);
        trial.faults.order(&[fault]);
        match trial.world.try_to_start() {
            Err((status, said)) => {
                assert_eq!((status, trial.faults.struck()), (Some(75), 1), "{place}: {said}");
                assert!(
                    said.contains("Resource temporarily unavailable"),
                    "{place}: {said}"
                );
            }
            Ok(()) => {
                let caller = call(&trial);
                let reply = trial.send_in(Ok(caller), &[HERE, THERE], 0);
                assert!(reply.starts_with("250 "), "{place}: {reply}");
                trial.wait_until_empty();
                assert_eq!(trial.world.terminate().0, Some(0), "{place}");
                if trial.faults.struck() == 0 {
                    break;
                }
            }
        }
        place += step;
    }
    // Those of the log, the queue, the console and all tasks, and two handlers.
    assert!(place >= 14, "there are but {place}");
    trial.faults.behave();
    trial.world.start();
    trial.end();
}

#[test]
fn whichever_thread_can_not_be_started_once_the_mta_ends_and_says_why_or_does_all_of_its_work() {
    // Each of them is mostly waiting.
    thread::scope(|scope| {
        for first in 0..3 {
            scope.spawn(move || one_thread_may_not_be_started(first, 3));
        }
    });
}

#[test]
fn a_handshake_for_which_there_is_no_thread_ends_its_session_alone() {
    let mut world = World::without_mta(&[]);
    issue(&world);
    for (name, file) in [("--tls-cert", "cert.pem"), ("--tls-key", "key.pem")] {
        let path = world.path(file);
        world.flag(name, &path);
    }
    let faults = world.faults();
    world.start();
    all_have_started(&world);
    let mut client = Client::of(&world);
    faults.order(&[Fault::of(THREAD, Errno::EAGAIN)]);
    assert_eq!(client.say("STARTTLS"), "220 2.0.0 Ready to start TLS");
    assert!(client.try_tls(&[&TLS13]).is_err());
    assert_eq!(faults.struck(), 1);
    faults.behave();
    let mut client = Client::of(&world).start_tls();
    assert!(client.say("EHLO univac.com").starts_with("250-"));
    client.mail(FROM, &[HERE], &letter("in TLS"));
}

#[test]
fn a_list_for_which_there_is_no_thread_waits() {
    let mut trial = Trial::begin();
    let client = Client::try_greet(trial.world.address());
    trial.faults.order(&[Fault::of(THREAD, Errno::EAGAIN)]);
    let reply = trial.send_in(client, &[THERE], 0);
    assert!(reply.starts_with("250 "), "{reply}");
    fails_at_leisure(&trial, 2, 1, Duration::from_millis(800), || ());
    trial
        .world
        .wait_for_sql("SELECT count(*) FROM outbound_work_queue WHERE attempts = 0", "1");
    trial.end();
}

/// While this call of those that make a connection fails in each of these ways, mail for a next hop waits; and it goes
/// out as soon as none fails.
#[track_caller]
fn no_connection_can_be_made(call: &'static str, errors: &[Errno]) {
    let mut trial = Trial::begin();
    for (place, error) in errors.iter().enumerate() {
        trial.faults.order(&[Fault::of(CONNECT, *error).on(call)]);
        let worked = trial.world.daemon().processor_time();
        let began = Instant::now();
        let reply = trial.send(&[THERE]);
        assert!(reply.starts_with("250 "), "{error} of {call}: {reply}");
        let deferred = "SELECT count(*) FROM next_hops WHERE failures > 0";
        trial.world.wait_for_sql(deferred, "1");
        assert!(trial.faults.struck() > 0, "{error} of {call}");
        let (worked, took) = (trial.world.daemon().processor_time() - worked, began.elapsed());
        assert!(
            worked < Duration::from_millis(200) + took / 2,
            "{error} of {call}: {worked:?} within {took:?}"
        );
        trial.faults.behave();
        let arrived = place + 1;
        trial
            .sink
            .wait_for(|seen| seen.accepted().count() == arrived, PATIENCE);
        trial.wait_until_empty();
        // The session is kept open for a moment, and would be gone on with.
        trial.sink.wait_for(|seen| seen.live().count() == 0, PATIENCE);
    }
    trial.end();
}

#[test]
fn a_next_hop_to_which_no_connection_can_be_made_for_want_of_anything_is_tried_again() {
    use Errno::{EADDRNOTAVAIL, EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    // Each of them is mostly waiting.
    thread::scope(|scope| {
        scope.spawn(|| no_connection_can_be_made("socket", &[EMFILE, ENFILE, ENOMEM, ENOBUFS]));
        scope.spawn(|| no_connection_can_be_made("connect", &[EADDRNOTAVAIL, EAGAIN, ENOMEM, ENOBUFS]));
    });
}

#[test]
fn a_letter_that_can_not_be_filed_is_tried_again_until_it_can() {
    let mut trial = Trial::begin();
    for (calls, error) in [
        (OPEN, Errno::EMFILE),
        (WRITE, Errno::ENOSPC),
        (SYNC, Errno::EIO),
        (RENAME, Errno::EIO),
    ] {
        trial.faults.order(&[Fault::of(calls, error).on(MAIL)]);
        let reply = trial.send(&[HERE]);
        assert!(reply.starts_with("250 "), "{error}: {reply}");
        let waits = "SELECT count(*) FROM inbound_work_queue WHERE last_error IS NOT NULL";
        trial.world.wait_for_sql(waits, "1");
        // The others are not kept waiting.
        let count = trial.sink.look(|seen| seen.accepted().count()) + 1;
        assert!(trial.send(&[THERE]).starts_with("250 "));
        trial
            .sink
            .wait_for(|seen| seen.accepted().count() == count, PATIENCE);
        if calls == OPEN {
            fails_at_leisure(&trial, 2, 1, Duration::from_millis(800), || ());
        }
        trial.faults.behave();
        trial.wait_until_empty();
    }
    trial.end();
}

#[test]
fn whichever_call_fails_once_while_a_letter_is_filed_it_is_there_once() {
    let mut trial = Trial::begin();
    for (calls, error) in [
        (OPEN, Errno::ENFILE),
        (OPEN, Errno::ENOSPC),
        (OPEN, Errno::EIO),
        (WRITE, Errno::EIO),
        (SYNC, Errno::EIO),
        (SYNC, Errno::ENOSPC),
        (RENAME, Errno::ENOMEM),
        (RENAME, Errno::EINTR),
        (UNLINK, Errno::EIO),
    ] {
        let mut place = 0;
        loop {
            let fault = Fault::of(calls, error).on(MAIL).after(place).times(1);
            trial.faults.order(&[fault]);
            let reply = trial.send(&[HERE]);
            assert!(reply.starts_with("250 "), "{error}: {reply}");
            let id = reply.rsplit(' ').next().unwrap();
            let seen = format!(
                "SELECT count(*) > 0 FROM history WHERE id = '{id}' AND event IN ('deferred', 'delivered')"
            );
            trial.world.wait_for_sql(&seen, "1");
            if trial.faults.struck() == 0 {
                break;
            }
            place += 1;
        }
        assert!(place > 0, "none of the calls failed");
    }
    trial.end();
}

#[test]
fn an_outcome_that_can_not_be_recorded_is_recorded_later_and_the_message_sent_but_once() {
    for (calls, error) in [(WRITE, Errno::ENOSPC), (SYNC, Errno::EIO)] {
        let mut trial = Trial::begin();
        trial.sink.hang_at(Stage::Dot);
        assert!(trial.send(&[THERE]).starts_with("250 "));
        trial.sink.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
        trial.faults.order(&[Fault::of(calls, error).on(QUEUE)]);
        trial.sink.release();
        let tried = |trial: &Trial| {
            let said = trial.world.daemon().said();
            said.iter()
                .filter(|line| line.contains(" list=") && line.contains("ERROR"))
                .count()
        };
        let (began, worked) = (Instant::now(), trial.world.daemon().processor_time());
        eventually("two trials to record it", || match tried(&trial) {
            tried if tried >= 2 => Ok(()),
            tried => Err(tried),
        });
        let took = began.elapsed();
        assert!(took > Duration::from_millis(900), "within {took:?}");
        assert!(trial.world.daemon().processor_time() - worked < took / 2);
        trial.end();
    }
}

#[test]
fn what_is_interrupted_or_done_by_halves_is_done_all_the_same() {
    let mut trial = Trial::begin();
    for faults in [
        [
            Fault::short(WRITE | READ).on(FILES),
            Fault::short(WRITE | READ).on(SOCKETS),
        ],
        [
            Fault::of(WRITE | READ | OPEN, Errno::EINTR).on(FILES).times(300),
            Fault::of(WRITE | READ, Errno::EINTR).on(SOCKETS).times(300),
        ],
    ] {
        trial.faults.order(&faults);
        for _ in 0..3 {
            let replies = [trial.send(&[HERE, THERE]), trial.send_large(&[HERE, THERE])];
            assert!(
                replies.iter().all(|reply| reply.starts_with("250 ")),
                "{faults:?}: {replies:?}"
            );
        }
        assert!(trial.faults.struck() > 50);
        trial.wait_until_empty();
    }
    trial.end();
}

#[test]
fn a_log_that_can_not_be_written_holds_nobody_up() {
    let mut trial = Trial::begin();
    for error in [Errno::ENOSPC, Errno::EIO, Errno::EAGAIN] {
        let times = if error == Errno::EAGAIN { 20 } else { i64::MAX / 2 };
        trial
            .faults
            .order(&[Fault::of(WRITE, error).on("pipe:[").times(times)]);
        for _ in 0..3 {
            assert!(trial.send(&[HERE, THERE]).starts_with("250 "));
        }
        trial.wait_until_empty();
        // It waits a moment for more to write.
        trial.wait_until_struck("a line of the log");
    }
    trial.end();
}

#[test]
fn content_that_can_not_be_removed_holds_nobody_up_and_is_swept_up_at_the_next_start() {
    let mut trial = Trial::begin();
    trial.faults.order(&[Fault::of(UNLINK, Errno::EIO).on(CONTENT)]);
    assert!(trial.send_large(&[HERE, THERE]).starts_with("250 "));
    trial.wait_until_empty();
    trial.world.daemon().wait_for_word("can not be removed");
    assert!(trial.faults.struck() > 0);
    assert_eq!(trial.world.terminate().0, Some(0));
    let content = trial.world.spool().join("content");
    // The folder in which it was begun stays, too.
    assert_eq!(files(&content).iter().filter(|path| path.is_file()).count(), 1);
    trial.faults.behave();
    trial.world.start();
    eventually("a folder that is empty", || match files(&content).len() {
        0 => Ok(()),
        left => Err(left),
    });
    trial.end();
}

#[test]
fn while_the_database_can_not_be_read_mail_comes_in_and_waits() {
    let mut trial = Trial::begin();
    for error in [Errno::EIO, Errno::ENOMEM] {
        assert!(trial.send(&[HERE, THERE]).starts_with("250 "));
        trial.wait_until_empty();
        trial.faults.order(&[Fault::of(READ, error).on(QUEUE)]);
        let replies = [trial.send(&[HERE, THERE]), trial.send_large(&[HERE, THERE])];
        assert!(
            replies.iter().all(|reply| reply.starts_with("250 ")),
            "{error}: {replies:?}"
        );
        // Each of the tasks looks for work once in a poll interval, and again after a moment.
        fails_at_leisure(&trial, 3, 4, Duration::from_millis(400), || ());
        trial.faults.behave();
        trial.wait_until_empty();
    }
    trial.end();
}

#[test]
fn an_mta_that_can_not_start_says_why_and_starts_when_it_can() {
    let mut trial = Trial::begin();
    assert!(trial.send(&[HERE, THERE]).starts_with("250 "));
    trial.wait_until_empty();
    assert_eq!(trial.world.terminate().0, Some(0));
    for (calls, error) in [(OPEN, Errno::EMFILE), (WRITE, Errno::ENOSPC)] {
        trial.faults.order(&[Fault::of(calls, error).on(QUEUE)]);
        let (status, said) = trial.world.another().last_words();
        assert!(status.is_some_and(|status| status != 0), "{error}: {said}");
        assert!(said.contains(QUEUE), "{error}: {said}");
    }
    trial.faults.behave();
    trial.world.start();
    trial.end();
}

/// Large letters, after which the log of the queue is so long that it is copied home.
#[track_caller]
fn fill_the_log(trial: &mut Trial) {
    for _ in 0..50 {
        let reply = trial.send_in(Client::try_greet(trial.world.address()), &[THERE], 50_000);
        assert!(reply.starts_with("250 "), "{reply}");
    }
}

#[test]
fn whatever_of_the_queue_can_not_be_opened_at_a_start_the_mta_ends_and_says_why_or_does_all_of_its_work() {
    let mut trial = Trial::begin();
    assert!(trial.send(&[HERE, THERE]).starts_with("250 "));
    trial.wait_until_empty();
    assert_eq!(trial.world.terminate().0, Some(0));
    for (calls, error, on, lasts) in [
        (OPEN, Errno::EMFILE, QUEUE, false),
        (OPEN, Errno::EMFILE, QUEUE, true),
        (CUT, Errno::EIO, FILES, false),
        (CUT, Errno::EIO, FILES, true),
    ] {
        let mut place = 0;
        loop {
            let what = format!(
                "{error} of {calls} at {place}, {}",
                if lasts { "lasting" } else { "once" }
            );
            let fault = Fault::of(calls, error).on(on).after(place);
            trial.faults.order(&[if lasts { fault } else { fault.times(1) }]);
            let mut is_last = false;
            match trial.world.try_to_start() {
                Err((status, said)) => {
                    assert_eq!(status, Some(75), "{what}: {said}");
                    let names = ["queue.db", "smtpmta.pid"];
                    assert!(names.iter().any(|name| said.contains(name)), "{what}: {said}");
                }
                Ok(()) => {
                    let reply = trial.send(&[HERE, THERE]);
                    assert!(trial.may_say(&reply), "{what}: {reply}");
                    is_last = trial.faults.struck() == 0;
                    trial.faults.behave();
                    if !lasts && !is_last {
                        fill_the_log(&mut trial);
                    }
                    trial.wait_until_empty();
                    assert_eq!(trial.world.terminate().0, Some(0), "{what}");
                    let left = trial.world.said_of("its log could not be copied home");
                    assert!(left.is_empty(), "{what}: {left:?}");
                }
            }
            if is_last {
                break;
            }
            place += if lasts { 2 } else { 1 };
        }
        assert!(place > 0, "{error} of {calls}: none is made");
    }
    trial.world.start();
    trial.end();
}
