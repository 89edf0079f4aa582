//! imsgcnv with a directory: aliases, accounts, and what is not here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::accounts::Accounts;
use crate::aliases::Aliases;
use crate::clock::{Clock, Stamp};
use crate::smtp::path::ReversePath;
use crate::work_queue::states::State;
use crate::work_queue::tests::other_program::OtherProgram;
use crate::work_queue::{Arrival, Choice, Content, THRESHOLD};

struct World {
    folder: TempDir,
    clock: Clock,
    task: InboundConversion,
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn world(accounts: &str, aliases: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let local_domains = vec!["lotus.com".to_owned(), "iris.com".to_owned()];
    let file = folder.path().join("aliases");
    fs::write(&file, aliases).unwrap();
    let directory = Directory {
        accounts: Some(Arc::new(
            Accounts::parse(accounts.as_bytes(), "accounts", "lotus.com").unwrap(),
        )),
        aliases: Aliases::read(&file, &local_domains).unwrap(),
        local_domains,
    };
    let clock = Clock::manual(Stamp(1_000_000_000_000_000));
    let task = InboundConversion {
        queue: WorkQueue::open(folder.path(), clock.clone()).unwrap(),
        bells: Bells::default(),
        board: Board::default(),
        directory: Latest::new(Arc::new(directory)),
        mailboxes: Mailboxes {
            template: format!("{}/mail/%d/%u", folder.path().display()),
            hostname: "mx.lotus.com".to_owned(),
            spool: folder.path().to_owned(),
        },
        lmtp: None,
        retry: RetryPolicy {
            schedule: vec![Duration::from_secs(300)],
            expire: Duration::from_secs(3600),
        },
        max_hops: 100,
        poll_interval: Duration::from_secs(30),
        doubted: AtomicI64::default(),
    };
    task.board.begin(Task::InboundConversion);
    World { folder, clock, task }
}

impl World {
    /// Brings a message, and converts it.
    fn convert(&self, to: &[&str]) {
        self.put(1, to);
        self.task.drain(&Stop::default()).unwrap();
        assert_eq!(self.task.queue.next_inbound_due().unwrap(), None);
    }

    /// Brings a message with so many Received lines.
    fn put(&self, received: usize, to: &[&str]) {
        let trace = "Received: x\r\n".repeat(received);
        let content = format!("{trace}Subject: s\r\n\r\nhello\r\n");
        let arrival = Arrival::new(
            self.task.queue.message_id(),
            Origin::Session,
            ReversePath(Some(mailbox("ann@a.example"))),
            to.iter().map(|to| mailbox(to)),
            Content::from_bytes(content.into_bytes()),
        );
        self.task.queue.put(arrival).unwrap();
    }

    /// Brings a large message; gives the file with its content.
    fn put_large(&self, to: &str) -> PathBuf {
        let id = self.task.queue.message_id();
        let mut content = self.task.queue.content_writer(id);
        content.write(b"Subject: s\r\n\r\n").unwrap();
        content.write(&vec![b'x'; THRESHOLD]).unwrap();
        let arrival = Arrival::new(
            id,
            Origin::Session,
            ReversePath(Some(mailbox("ann@a.example"))),
            [mailbox(to)],
            content.finish().unwrap(),
        );
        self.task.queue.put(arrival).unwrap();
        self.folder.path().join("content").join(id.to_string())
    }

    /// Lets the task work, and waits until it would work again; for how long. `None` if nothing waits.
    fn drain_and_wait(&self) -> Option<Duration> {
        self.task.drain(&Stop::default()).unwrap();
        let due = self.task.queue.next_inbound_due().unwrap()?;
        let pause = due.since(self.task.queue.now());
        self.clock.advance(pause);
        Some(pause)
    }

    /// Delivered-To of what is in a mailbox.
    fn mail(&self, mailbox: &str) -> Vec<String> {
        let folder = self.folder.path().join("mail").join(mailbox).join("new");
        let read = |entry: fs::DirEntry| fs::read_to_string(entry.path()).unwrap();
        let delivered_to = |text: String| {
            let line = text.lines().nth(1).unwrap_or_default();
            line.trim_start_matches("Delivered-To: ").to_owned()
        };
        let mut found: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| delivered_to(read(entry.unwrap())))
            .collect();
        found.sort();
        found
    }

    /// Who was passed on to SMTP.BOX.
    fn passed_on(&self) -> Vec<String> {
        let waiting = self.task.queue.waiting_in_box(Stamp(i64::MAX), 10).unwrap();
        let recipients = waiting.into_iter().flat_map(|message| message.recipients);
        recipients.map(|recipient| recipient.path.to_string()).collect()
    }

    fn counted(&self, what: &str) -> i64 {
        let counters = self.task.queue.statistics().unwrap();
        let counted = counters.iter().find(|(name, _)| name == what);
        counted.map_or(0, |(_, count)| *count)
    }

    /// The files in a part of a mailbox.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("mail").join(part)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Converts what waits while another program has the database locked; `meanwhile` is done when the queue has refused
    /// to record what was done. It is locked until then, and until the task has ended if that was told to stop.
    fn drain_while_locked(&self, stop: &Stop, meanwhile: impl FnOnce()) -> Result<(), QueueError> {
        let other = OtherProgram::of(&self.task.queue);
        other.lock();
        let is_refused = || {
            let line = self.task.board.line(Task::InboundConversion);
            line.is_some_and(|line| line.starts_with("Waiting for the work queue"))
        };
        std::thread::scope(|scope| {
            let drains = scope.spawn(|| self.task.drain(stop));
            while !is_refused() && !drains.is_finished() {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            meanwhile();
            if !stop.is_given() {
                other.unlock();
                // As a message does that comes now.
                self.task.bells.imsgcnv.kick();
            }
            drains.join().unwrap()
        })
    }

    /// Converts what waits; if that should not come to an end, it is told to stop.
    fn drain(&self) -> Result<(), QueueError> {
        let (stop, until) = (Stop::default(), Instant::now() + Duration::from_secs(20));
        std::thread::scope(|scope| {
            let drains = scope.spawn(|| self.task.drain(&stop));
            while !drains.is_finished() {
                if Instant::now() >= until {
                    stop.give();
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            drains.join().unwrap()
        })
    }

    /// Somebody reads the only message in a mailbox.
    fn read(&self, mailbox: &str) {
        let letter = self.files(&format!("{mailbox}/new")).remove(0);
        let name = letter.file_name().unwrap().to_str().unwrap();
        let folder = self.folder.path().join("mail").join(mailbox).join("cur");
        fs::rename(&letter, folder.join(format!("{name}:2,S"))).unwrap();
    }
}

#[test]
fn an_alias_reaches_all_it_stands_for_in_one_go() {
    let world = world(
        "bob:\ncarol:\n",
        "staff: bob, carol+s, dave@b.example\nboss: staff\n",
    );
    world.convert(&["boss@iris.com", "bob@lotus.com"]);
    assert_eq!(world.mail("lotus.com/bob"), ["bob@lotus.com"]);
    assert_eq!(world.mail("lotus.com/carol"), ["carol+s@lotus.com"]);
    assert_eq!(world.counted("Mail.Expanded"), 1);
    assert_eq!(world.passed_on(), ["dave@b.example"]);
    assert!(world.task.bells.omsgcnv.heard().try_recv().is_ok());
}

#[test]
fn what_the_task_would_pass_on_as_a_whole_is_passed_on_as_it_comes_and_nothing_else_is() {
    let limited = || {
        let mut world = world("bob:\n", "staff: bob\nout: x@b.example\n");
        world.task.max_hops = 2;
        world
    };
    for (received, to, passes) in [
        (1, &["x@b.example", "y@c.example"][..], true),
        // Ours is among them.
        (3, &["x@b.example"], true),
        (4, &["x@b.example"], false),
        (1, &["x@b.example", "bob@lotus.com"], false),
        (1, &["out@lotus.com"], false),
        (1, &["gone@iris.com"], false),
        (1, &["x%b.example@lotus.com"], false),
    ] {
        let (by_task, at_once) = (limited(), limited());
        by_task.put(received, to);
        by_task.task.drain(&Stop::default()).unwrap();
        let _attendance = at_once.task.attend();
        at_once.put(received, to);
        let waits = at_once.task.queue.next_inbound_due().unwrap().is_some();
        assert_eq!(by_task.passed_on() == to, passes, "{received} {to:?}");
        assert_eq!(!waits, passes, "{received} {to:?}");
        assert_eq!(at_once.passed_on() == to, passes, "{received} {to:?}");
    }
    // And by the latest directory.
    let world = limited();
    let _attendance = world.task.attend();
    let directory = Directory {
        local_domains: vec!["b.example".to_owned()],
        ..(*world.task.directory.take()).clone()
    };
    world.task.directory.replace(Arc::new(directory));
    world.put(1, &["x@b.example"]);
    assert!(world.task.queue.next_inbound_due().unwrap().is_some());
}

#[test]
fn an_alias_that_keeps_a_copy_is_delivered_and_not_expanded_again() {
    let world = world("bob:\n", "bob: bob, bob@b.example\n");
    world.convert(&["Bob+x@lotus.com"]);
    assert_eq!(world.mail("lotus.com/bob"), ["bob@lotus.com"]);
    assert_eq!(world.passed_on(), ["bob@b.example"]);
}

#[test]
fn mail_comes_into_the_mailbox_of_the_account_and_names_its_recipient() {
    let world = world("Bob:\ndave+x:\n*@iris.com:\n", "");
    world.convert(&[
        "bob@lotus.com",
        "BOB+lists@lotus.com",
        "dave+X@lotus.com",
        "any@iris.com",
        "postmaster@lotus.com",
    ]);
    assert_eq!(
        world.mail("lotus.com/bob"),
        ["BOB+lists@lotus.com", "bob@lotus.com"]
    );
    assert_eq!(world.mail("lotus.com/dave+x"), ["dave+X@lotus.com"]);
    assert_eq!(world.mail("iris.com/%2A"), ["any@iris.com"]);
    assert_eq!(world.mail("lotus.com/postmaster"), ["postmaster@lotus.com"]);
}

#[test]
fn who_is_not_here_is_given_up_and_the_others_get_their_mail() {
    let world = world("bob:\n", "staff: bob, gone\n");
    world.convert(&["staff@lotus.com", "nobody@lotus.com", "bob%b.example@lotus.com"]);
    assert_eq!(world.mail("lotus.com/bob"), ["bob@lotus.com"]);
    assert!(world.task.bells.drt.heard().try_recv().is_ok());
    let due = world.task.queue.awaiting_report(10).unwrap().remove(0);
    let given_up: Vec<String> = due.recipients.iter().map(|r| r.path.to_string()).collect();
    assert_eq!(
        given_up,
        ["nobody@lotus.com", "bob%b.example@lotus.com", "gone@lotus.com"]
    );
    assert_eq!(due.recipients[0].reason.status, EnhancedCode(5, 1, 1));
    assert_eq!(due.recipients[2].expanded_from, Some(mailbox("staff@lotus.com")));
}

#[test]
fn what_the_queue_refuses_to_record_is_recorded_later_and_not_delivered_again() {
    let world = world("bob:\n", "");
    world.put(1, &["bob@lotus.com", "x@b.example"]);
    let drained = world.drain_while_locked(&Stop::default(), || {
        // Somebody reads it, and does not keep it.
        let letter = world.files("lotus.com/bob/new").remove(0);
        fs::remove_file(letter).unwrap();
    });
    drained.unwrap();
    assert_eq!(world.counted("Mail.Delivered"), 1);
    assert_eq!(world.passed_on(), ["x@b.example"]);
    world.task.drain(&Stop::default()).unwrap();
    assert!(world.files("lotus.com/bob/new").is_empty());
}

#[test]
fn a_stop_is_not_kept_waiting_by_what_can_not_be_recorded_and_the_next_task_finds_that_in_the_mailbox() {
    let world = world("bob:\n", "");
    world.put(1, &["bob@lotus.com"]);
    let stop = Stop::default();
    // Were it not for the stop this would wait for ever.
    let drained = world.drain_while_locked(&stop, || stop.give());
    assert!(matches!(drained, Err(QueueError::Locked)), "{drained:?}");
    assert_eq!(world.counted("Mail.Delivered"), 0);
    world.read("lotus.com/bob");
    world.task.drain(&Stop::default()).unwrap();
    assert_eq!(world.counted("Mail.Delivered"), 1);
    assert!(world.files("lotus.com/bob/new").is_empty());
    assert_eq!(world.files("lotus.com/bob/cur").len(), 1);
}

#[test]
fn a_task_that_is_told_to_stop_still_records_what_it_can() {
    let world = world("bob:\n", "");
    world.put(1, &["bob@lotus.com"]);
    let waiting = world.task.queue.waiting_inbound(Stamp(i64::MAX), 1).unwrap();
    let done = world.task.convert(&waiting[0], &world.task.directory.take());
    let stop = Stop::default();
    stop.give();
    world.task.record(vec![done], &[], &stop).unwrap();
    assert_eq!(world.counted("Mail.Delivered"), 1);
}

#[test]
fn a_message_of_which_nothing_can_be_recorded_keeps_no_other_from_it_and_nobody_waits_for_it() {
    let world = world("bob:\ncarol:\n", "");
    let other = OtherProgram::of(&world.task.queue);
    // Not even that it is held.
    other.refuse_changes("bob@lotus.com", None);
    world.put(1, &["bob@lotus.com"]);
    world.put(1, &["carol@lotus.com"]);
    world.drain().unwrap_err();
    assert_eq!(world.counted("Mail.Delivered"), 1);
    world.read("lotus.com/bob");
    other.allow_changes();
    world.drain().unwrap();
    assert_eq!(world.counted("Mail.Delivered"), 2);
    assert!(world.files("lotus.com/bob/new").is_empty());
    // But that.
    other.refuse_changes("bob@lotus.com", Some(State::Held));
    world.put(1, &["bob@lotus.com"]);
    world.put(1, &["carol@lotus.com"]);
    world.drain().unwrap();
    assert_eq!(world.counted("Mail.Delivered"), 3);
    assert_eq!(world.task.queue.next_inbound_due().unwrap(), None);
    assert_eq!(other.count(State::Held), 1);
}

/// As it is where descriptors are short, or a disk has trouble: the file is there, and can not be opened. What gives it
/// back.
fn hide(file: &Path) -> impl FnOnce() + use<> {
    let (file, aside) = (file.to_owned(), file.with_extension("aside"));
    fs::rename(&file, &aside).unwrap();
    symlink(&file, &file).unwrap();
    move || fs::rename(&aside, &file).unwrap()
}

#[test]
fn a_content_that_can_not_be_opened_for_two_hundred_attempts_is_delivered_when_it_can() {
    let mut world = world("bob:\n", "");
    world.task.retry.expire = Duration::from_secs(30 * 24 * 3600);
    let give_back = hide(&world.put_large("bob@lotus.com"));
    for attempt in 0..200 {
        let pause = world.drain_and_wait().expect("it waits");
        // The schedule is five minutes, and a little more.
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(330));
        assert!((least..=most).contains(&pause), "attempt {attempt}: {pause:?}");
        assert!(attempt > 0 || pause == least, "the first time it is tried soon");
    }
    give_back();
    assert_eq!(world.drain_and_wait(), None);
    assert_eq!(world.mail("lotus.com/bob"), ["bob@lotus.com"]);
}

#[test]
fn a_content_that_can_not_be_opened_in_time_is_given_up_and_one_that_is_lost_is_held_at_once() {
    let world = world("bob:\n", "");
    let _give_back = hide(&world.put_large("bob@lotus.com"));
    let mut waited = Duration::ZERO;
    while let Some(pause) = world.drain_and_wait() {
        waited += pause;
    }
    assert_eq!(waited.as_secs(), 3600, "all its time, and no more");
    assert!(world.task.bells.drt.heard().try_recv().is_ok());
    let due = world.task.queue.awaiting_report(10).unwrap();
    assert_eq!(due[0].recipients[0].reason.status, EnhancedCode(4, 3, 0));
    fs::remove_file(world.put_large("bob@lotus.com")).unwrap();
    assert_eq!(world.drain_and_wait(), None);
    let listing = world.task.queue.listing(&Choice::default(), 10).unwrap();
    assert!(
        listing.rows[1]
            .last_error
            .as_deref()
            .unwrap()
            .starts_with("the content is lost: ")
    );
}
