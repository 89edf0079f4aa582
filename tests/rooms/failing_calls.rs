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
use crate::support::shim::{ACCEPT, CONNECT, Fault, Faults, OPEN, READ, RENAME, SYNC, THREAD, UNLINK, WRITE};
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

/// How many calls of a kind are let fail, one after the other: more than a message has.
const PLACES: i64 = 25;

/// A message and what was said to it.
struct Sent {
    mark: String,
    to: Vec<&'static str>,
    content: Vec<u8>,
    /// `None` where nobody knows.
    taken: Option<bool>,
}

/// An MTA whose calls fail, the next hop, and all that was sent.
struct Trial {
    world: World,
    faults: Faults,
    sink: Sink,
    sent: Vec<Sent>,
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
        for queue in ["inbound_work_queue", "smtp_box", "outbound_work_queue"] {
            self.world
                .wait_for_sql(&format!("SELECT count(*) FROM {queue}"), "0");
        }
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
                match sent.taken {
                    Some(true) => assert_eq!(count, 1, "{} was acknowledged, for {to}", sent.mark),
                    Some(false) => assert_eq!(count, 0, "{} was refused, for {to}", sent.mark),
                    None => assert!(count <= 1, "{} for {to}", sent.mark),
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

/// Lets these calls fail from the first, the second … on that the acceptance of a message needs; then one of them once,
/// wherever it happens to be made.
#[track_caller]
fn each_may_fail(calls: u32, on: &'static str, errors: &[Errno]) {
    let mut trial = Trial::begin();
    for error in errors {
        let fail_at = |place| Fault::of(calls, *error).on(on).after(place);
        let mut place = 0;
        loop {
            trial.wait_until_empty();
            trial.faults.order(&[fail_at(place)]);
            let reply = trial.send(&[HERE, THERE]);
            trial.faults.behave();
            if reply.starts_with("250 ") {
                break;
            }
            assert!(reply.starts_with("45"), "{error} from {place} on: {reply}");
            place += 1;
        }
        assert!(place > 0, "{error}: nothing of it is needed");
        let mut struck = 0;
        for place in 0..PLACES {
            trial.faults.order(&[fail_at(place).times(1)]);
            let reply = trial.send(&[HERE, THERE]);
            let is_known = reply.starts_with("250 ") || reply.starts_with("45");
            assert!(is_known, "{error} at {place}: {reply}");
            struck += trial.faults.struck();
        }
        assert!(struck > 0);
    }
    trial.end();
}

#[test]
fn each_write_to_the_queue_may_fail_once() {
    each_may_fail(WRITE, QUEUE, &[Errno::ENOSPC, Errno::EIO]);
}

#[test]
fn each_sync_of_the_queue_may_fail_once() {
    each_may_fail(SYNC, QUEUE, &[Errno::EIO, Errno::ENOSPC]);
}

#[test]
fn a_large_message_whose_file_can_not_be_written_is_refused_and_leaves_nothing() {
    let mut trial = Trial::begin();
    for (calls, error, places) in [
        (OPEN, Errno::EMFILE, 2),
        (OPEN, Errno::ENFILE, 2),
        (OPEN, Errno::ENOMEM, 2),
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

#[test]
fn a_next_hop_to_which_no_connection_can_be_made_for_want_of_anything_is_tried_again() {
    let mut trial = Trial::begin();
    for (place, error) in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS]
        .into_iter()
        .enumerate()
    {
        trial.faults.order(&[Fault::of(CONNECT, error)]);
        let worked = trial.world.daemon().processor_time();
        let began = Instant::now();
        let reply = trial.send(&[THERE]);
        assert!(reply.starts_with("250 "), "{error}: {reply}");
        let deferred = "SELECT count(*) FROM next_hops WHERE failures > 0";
        trial.world.wait_for_sql(deferred, "1");
        let (worked, took) = (trial.world.daemon().processor_time() - worked, began.elapsed());
        assert!(
            worked < Duration::from_millis(200) + took / 2,
            "{worked:?} within {took:?}"
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
        (WRITE, Errno::EIO),
        (SYNC, Errno::EIO),
        (RENAME, Errno::ENOMEM),
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
                .filter(|line| line.contains(" list ") && line.contains("ERROR"))
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
        assert!(trial.faults.struck() > 0);
    }
    trial.end();
}

#[test]
fn content_that_can_not_be_removed_holds_nobody_up_and_is_swept_up_at_the_next_start() {
    let mut trial = Trial::begin();
    trial.faults.order(&[Fault::of(UNLINK, Errno::EIO).on(CONTENT)]);
    assert!(trial.send_large(&[HERE, THERE]).starts_with("250 "));
    trial.wait_until_empty();
    eventually("a file that stays", || match trial.faults.struck() {
        1 => Ok(()),
        struck => Err(struck),
    });
    assert_eq!(trial.world.terminate().0, Some(0));
    let content = trial.world.spool().join("content");
    assert_eq!(files(&content).len(), 1);
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
