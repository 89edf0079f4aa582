//! `smtpmta backup`: copies of a spool in which mail comes and goes, and of one that a crash has left; each is in order,
//! and can be started.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use smtpmta::crash_point::CrashPoint;
use smtpmta::maildrop::{Draft, Slip};

use crate::support::client::{Client, big_letter, letter};
use crate::support::shim::{self, Fault, Faults, RENAME, SYNC, WRITE};
use crate::support::sink::{Sink, Stage};
use crate::support::traffic::{Account, Fate, bring_one, times};
use crate::support::world::{Answer, PATIENCE, World, eventually, files};

/// What the next hop does not take for now.
const STAYS: &str = "stays";

/// Octets of a message that has a file of its own.
const LARGE: usize = 70_000;

/// A world of which no MTA has been loaded, whose spool is to be a copy.
fn world_of_copy(next_hop: &Sink) -> World {
    let relay = next_hop.address().to_string();
    World::without_mta(&["--relay-host", &relay, "--retry-schedule", "1s"])
}

/// Copies the spool of one world to that of another.
#[track_caller]
fn copy(from: &World, to: &World) -> Answer {
    let answer = from.ask(&format!("backup {}", to.spool().display()));
    assert_eq!((answer.status, answer.complaint.as_str()), (0, ""), "{answer:?}");
    assert_eq!(answer.text.lines().count(), 1, "{answer:?}");
    answer
}

/// The copy is in order, with nothing in it that nobody needs.
#[track_caller]
fn is_in_order(copy: &World) {
    let verdict = copy.ask("verify --account");
    assert_eq!(verdict.status, 0, "{verdict:?}");
    assert!(!verdict.text.contains("note:"), "{verdict:?}");
}

/// The command in a process of its own, in which calls fail to order.
fn command(world: &World, target: &Path, orders: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtpmta"));
    command
        .args(["-c", &world.path("empty.conf"), "-s"])
        .arg(world.spool())
        .arg("backup")
        .arg(target)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(orders) = orders {
        command
            .env(shim::PRELOAD, shim::library())
            .env("SHIM_ORDERS", orders);
    }
    command
}

/// The names of what there is in the folder of a world that is no part of it.
fn copies_in(world: &World) -> Vec<String> {
    let folder = world.spool().parent().unwrap().to_owned();
    let names = files(&folder).into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        name.contains("copy").then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The content files of a spool.
fn content(spool: &Path) -> Vec<PathBuf> {
    let mut files = files(&spool.join("content"));
    files.retain(|file| file.is_file());
    files.sort_unstable();
    files
}

/// Clients end with this, whatever becomes of the test.
struct Whistle<'t>(&'t AtomicBool);

impl Drop for Whistle<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Brings large messages until it is over, of which one in four is not taken by its next hop for now.
fn bring(world: &World, number: usize, is_over: &AtomicBool, taken: &Mutex<HashSet<String>>) {
    let mut client = Client::of(world);
    for turn in 0.. {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let kind = if turn % 4 == 3 { STAYS } else { "goes" };
        let name = format!("{kind}.{number}.{turn}@ibm.com");
        let (fate, _) = bring_one(&mut client, &name, &big_letter(&name, LARGE));
        assert_eq!(fate, Fate::Acknowledged, "{name}");
        taken.lock().unwrap().insert(name);
    }
}

#[test]
fn each_copy_that_is_made_while_large_mail_comes_and_goes_has_all_that_waited_and_can_be_started() {
    for round in 0..times(2, 20) {
        let (sink, other) = (Sink::start(), Sink::start());
        sink.order(&format!("rcpt[{STAYS}.*]=451 4.3.0 later"));
        let relay = sink.address().to_string();
        let world = World::load(&["--relay-host", &relay, "--retry-schedule", "1s"]);
        let mut copied = world_of_copy(&other);
        let (is_over, taken) = (AtomicBool::new(false), Mutex::new(HashSet::new()));
        let (before, arrived) = thread::scope(|scope| {
            let whistle = Whistle(&is_over);
            for number in 0..3 {
                let (world, is_over, taken) = (&world, &is_over, &taken);
                scope.spawn(move || bring(world, number, is_over, taken));
            }
            eventually("mail under way", || {
                let so_far = taken.lock().unwrap().len();
                if so_far > 20 + 10 * (round % 4) {
                    Ok(())
                } else {
                    Err(so_far)
                }
            });
            let before = taken.lock().unwrap().clone();
            copy(&world, &copied);
            // What has arrived by now need not be in it.
            let arrived = Account::arrived(&sink);
            drop(whistle);
            (before, arrived)
        });
        is_in_order(&copied);
        copied.start();
        copied.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
        let again = Account::arrived(&other);
        let lost: Vec<_> = before
            .iter()
            .filter(|name| !arrived.contains_key(*name) && !again.contains_key(*name))
            .collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        assert!(again.keys().any(|name| name.starts_with(STAYS)), "{again:?}");
        copied.terminate();
        is_in_order(&copied);
        // The original went on as if nothing had been.
        assert_eq!(world.ask("verify --account").status, 0);
        eventually("files of what has left to go", || {
            let (there, named) = (
                content(&world.spool()).len().to_string(),
                world.sql("SELECT count(*) FROM message WHERE file IS NOT NULL AND left_at IS NULL"),
            );
            if there == named {
                Ok(())
            } else {
                Err((there, named))
            }
        });
    }
}

/// Mail of both kinds waits in a spool: its next hop is not there.
fn world_that_waits() -> (Sink, World) {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "451 4.3.0 later");
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    let mut client = Client::of(&world);
    for (to, content) in [
        ("small@ibm.com", letter("small@ibm.com")),
        ("large@ibm.com", big_letter("large@ibm.com", LARGE)),
    ] {
        client.mail("bsmith@mta.test", &[to], &content);
    }
    world.wait_for_sql(
        "SELECT count(*) FROM outbound_work_queue WHERE attempts = 1 AND list IS NULL",
        "2",
    );
    (sink, world)
}

#[test]
fn where_no_mta_runs_what_a_crash_left_in_the_log_is_copied_too_and_stays_as_it_is() {
    let (_sink, mut world) = world_that_waits();
    world.kill();
    let spool = world.spool();
    let read = || ["queue.db", "queue.db-wal"].map(|file| fs::read(spool.join(file)).unwrap());
    let before = read();
    assert!(!before[1].is_empty(), "there is a log");
    let other = Sink::start();
    let mut copied = world_of_copy(&other);
    let answer = copy(&world, &copied);
    let told = ": 2 messages, 2 of them in the queue, 2 recipients, 1 content files, ";
    assert!(answer.text.contains(told), "{answer:?}");
    assert!(read() == before, "the original was changed");
    is_in_order(&copied);
    copied.start();
    let answer = copied.ask("queue retry");
    assert_eq!(answer.status, 0, "{answer:?}");
    copied.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
    let arrived = Account::arrived(&other);
    assert_eq!(arrived.len(), 2, "{arrived:?}");
    // The copy has ended what is in the original still.
    assert_eq!(content(&spool).len(), 1);
}

#[test]
fn a_copy_is_for_its_owner_alone_and_what_was_removed_can_be_brought_back_in_it() {
    let (_sink, world) = world_that_waits();
    let id = world.sql("SELECT id FROM outbound_work_queue WHERE recipient = 'large@ibm.com'");
    world.tell(&format!("queue delete {id}"));
    let other = Sink::start();
    let mut copied = world_of_copy(&other);
    // An empty folder may be there.
    fs::create_dir(copied.spool()).unwrap();
    copy(&world, &copied);
    let spool = copied.spool();
    assert_eq!((mode(&spool), mode(&spool.join("content"))), (0o700, 0o700));
    assert_eq!(mode(&spool.join("queue.db")), 0o600);
    let files = content(&spool);
    assert_eq!((files.len(), mode(&files[0])), (1, 0o600));
    copied.start();
    copied.tell(&format!("queue undelete {id}"));
    copied.tell(&format!("queue release {id}"));
    other.wait_for(
        |seen| {
            seen.accepted()
                .any(|message| message.recipients == ["large@ibm.com"])
        },
        PATIENCE,
    );
}

#[test]
fn what_lies_in_the_maildrop_is_copied_whether_it_was_taken_or_not_and_arrives_once() {
    for point in [CrashPoint::DropTaken, CrashPoint::DropCommitted] {
        let mut world = World::without_mta(&["--poll-interval", "5m"]);
        let spool = world.spool();
        let leave = |to: &str| {
            let slip = format!("smtpmta maildrop 1\nfrom <bob@mta.test>\nto <{to}@mta.test>\n");
            let mut draft = Draft::begin(&spool).unwrap();
            draft.write(b"Subject: x\n\nHello\n").unwrap();
            draft.leave(&Slip::parse(&slip).unwrap()).unwrap();
        };
        world.start();
        world.terminate();
        leave("amy");
        world.crash_at_start(point, 1);
        leave("eve");
        let maildrop = spool.join("maildrop");
        // What is not taken in is not copied either, and a pipe is not waited for.
        std::os::unix::fs::symlink(world.path("empty.conf"), maildrop.join("mail-0")).unwrap();
        nix::unistd::mkfifo(&maildrop.join("mail-1"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let other = Sink::start();
        let mut copied = world_of_copy(&other);
        copy(&world, &copied);
        is_in_order(&copied);
        let lying = files(&copied.spool().join("maildrop"));
        let expected = if point == CrashPoint::DropTaken { 2 } else { 1 };
        assert_eq!(lying.len(), expected, "{point:?}: {lying:?}");
        copied.start();
        for address in ["amy@mta.test", "eve@mta.test"] {
            copied.wait_for_letters(address, 1);
        }
        copied.wait_for_sql("SELECT count(*), count(left_at) FROM message", "2|2");
        assert!(files(&copied.spool().join("maildrop")).is_empty());
    }
}

#[test]
fn what_is_there_already_is_left_alone_and_so_is_everything_where_there_is_no_spool() {
    let world = World::without_mta(&[]);
    let target = world.path("copy");
    let none = world.ask(&format!("backup {target}"));
    assert_eq!(none.status, 66, "{none:?}");
    assert!(none.complaint.contains("queue.db"), "{none:?}");
    let (_sink, world) = world_that_waits();
    let folder = world.path("copy");
    fs::create_dir(&folder).unwrap();
    let file = world.write("copy/mine", "of an earlier day");
    for taken in [&folder, &file] {
        let refused = world.ask(&format!("backup {taken}"));
        assert_eq!((refused.status, refused.text.as_str()), (1, ""), "{refused:?}");
        assert!(refused.complaint.contains("is there already"), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "of an earlier day");
    let nowhere = world.ask(&format!("backup {}", world.path("no/such/copy")));
    assert_eq!(nowhere.status, 75, "{nowhere:?}");
    assert_eq!(copies_in(&world), ["copy"]);
    for wrong in ["backup", "backup one two"] {
        assert_eq!(world.ask(wrong).status, 64, "{wrong}");
    }
}

#[test]
fn one_that_is_told_to_stop_leaves_nothing_behind() {
    let (_sink, world) = world_that_waits();
    // Somebody removes content files, and does not come to an end.
    let alone = File::open(world.spool().join("content")).unwrap();
    alone.lock().unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let target = PathBuf::from(world.path("copy"));
        let child = command(&world, &target, None).spawn().unwrap();
        eventually("a copy that has begun", || match copies_in(&world) {
            names if names.is_empty() => Err(()),
            names => {
                assert!(names[0].starts_with("copy.partial-"), "{names:?}");
                Ok(())
            }
        });
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(75), "{signal}: {said}");
        assert!(said.contains("told to stop"), "{signal}: {said}");
        assert!(copies_in(&world).is_empty(), "{signal}");
    }
}

#[test]
fn one_that_can_not_be_written_leaves_nothing_behind_and_says_why() {
    let (_sink, world) = world_that_waits();
    let orders = PathBuf::from(world.path("orders"));
    let faults = Faults::new(&orders);
    let target = PathBuf::from(world.path("copy"));
    let on = ".partial-";
    let whole = [
        (Fault::of(WRITE, Errno::ENOSPC).on(on).after(3), "full"),
        (Fault::of(SYNC, Errno::EIO).on(on), "error 5"),
        // The last of it: it is whole, and gets its name.
        (Fault::of(RENAME, Errno::EIO).on("copy$"), "error 5"),
    ];
    for (fault, why) in whole {
        faults.order(&[fault]);
        let Output { status, stderr, .. } = command(&world, &target, Some(&orders)).output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(75), "{fault:?}: {said}");
        assert!(said.contains(why), "{fault:?}: {said}");
        assert!(faults.struck() > 0, "{fault:?}");
        assert!(copies_in(&world).is_empty(), "{fault:?}");
    }
    faults.behave();
    let run = command(&world, &target, Some(&orders)).output().unwrap();
    assert!(run.status.success(), "{run:?}");
}

#[test]
fn on_another_file_system_content_is_copied() {
    let (_sink, world) = world_that_waits();
    let orders = PathBuf::from(world.path("orders"));
    let faults = Faults::new(&orders);
    faults.order(&[Fault::of(RENAME, Errno::EXDEV).on("/content/")]);
    let other = Sink::start();
    let copied = world_of_copy(&other);
    let target = copied.spool();
    let run = command(&world, &target, Some(&orders)).output().unwrap();
    assert!(run.status.success() && faults.struck() == 1, "{run:?}");
    let (theirs, ours) = (content(&world.spool()).remove(0), content(&target).remove(0));
    assert_ne!(
        fs::metadata(&theirs).unwrap().ino(),
        fs::metadata(&ours).unwrap().ino()
    );
    assert_eq!(fs::read(&theirs).unwrap(), fs::read(&ours).unwrap());
    assert_eq!(mode(&ours), 0o600);
    is_in_order(&copied);
    // On the same one it is the same file.
    faults.behave();
    let linked = PathBuf::from(world.path("copy"));
    let run = command(&world, &linked, None).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let ours = content(&linked).remove(0);
    assert_eq!(
        fs::metadata(&theirs).unwrap().ino(),
        fs::metadata(&ours).unwrap().ino()
    );
}

#[test]
fn content_that_the_original_lacks_is_told_of_and_all_else_is_copied() {
    let (_sink, world) = world_that_waits();
    fs::remove_file(content(&world.spool()).remove(0)).unwrap();
    let target = world.path("copy");
    let answer = world.ask(&format!("backup {target}"));
    assert_eq!(answer.status, 65, "{answer:?}");
    let told = "\n1 content files of messages in the queue are missing in the original, too";
    assert!(answer.text.contains(told), "{answer:?}");
    let verdict = world.ask(&format!("verify {target}"));
    assert!(
        verdict.status == 65 && verdict.text.contains(" is missing; "),
        "{verdict:?}"
    );
}

#[test]
fn a_link_in_the_place_of_content_is_not_followed_and_one_who_copies_is_told() {
    let (_sink, world) = world_that_waits();
    let secret = world.write("secret", "of somebody who may read more");
    let letter = content(&world.spool()).remove(0);
    fs::remove_file(&letter).unwrap();
    std::os::unix::fs::symlink(secret, &letter).unwrap();
    let target = world.path("copy");
    let refused = world.ask(&format!("backup {target}"));
    let name = letter.file_name().unwrap().to_str().unwrap();
    assert!(
        refused.status != 0 && refused.complaint.contains(name),
        "{refused:?}"
    );
    assert_eq!(copies_in(&world), [""; 0]);
}
