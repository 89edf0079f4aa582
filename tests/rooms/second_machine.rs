//! `smtpmta queue export` and `smtpmta queue import`: what waits moves from one spool to another, with an MTA on it or
//! without, and is there once, wherever the way was cut off.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::client::{Client, big_letter, letter};
use crate::support::sink::{Sink, Stage};
use crate::support::traffic;
use crate::support::world::{Answer, PATIENCE, World, eventually, files};

const SENDER: &str = "bsmith@univac.com";

/// Octets of a message that has a file of its own.
const LARGE: usize = 70_000;

/// An MTA that sends everything to `sink`.
fn world_to(sink: &Sink) -> World {
    World::without_mta(&["--relay-host", &sink.address().to_string()])
}

/// An MTA on which all waits: its next hop takes nothing.
fn world_that_waits() -> (Sink, World) {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "451 4.3.0 later");
    let mut world = world_to(&sink);
    world.start();
    (sink, world)
}

/// Asks, and is obeyed.
#[track_caller]
fn does(world: &World, words: &str) -> Answer {
    let answer = world.ask(words);
    assert_eq!(
        (answer.status, answer.complaint.as_str()),
        (0, ""),
        "{words}: {answer:?}"
    );
    answer
}

/// The queue is in order, and its account balances.
#[track_caller]
fn is_in_order(world: &World) {
    let verdict = world.ask("verify --account");
    assert_eq!(verdict.status, 0, "{verdict:?}");
}

/// The recipients of what a sink took.
fn arrived(sink: &Sink) -> Vec<String> {
    let mut arrived: Vec<String> = sink.look(|seen| {
        seen.accepted()
            .flat_map(|message| message.recipients.clone())
            .collect()
    });
    arrived.sort_unstable();
    arrived
}

/// What is left of exports and imports in a folder of a world, that has been named or not.
fn leftovers(world: &World) -> Vec<String> {
    let name = |path: std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let folders = [world.spool().parent().unwrap().to_owned(), world.spool()];
    let names = folders.iter().flat_map(|folder| files(folder)).map(name);
    names
        .filter(|name| name.contains(".partial") || name.starts_with("import-"))
        .collect()
}

#[test]
fn what_waits_moves_as_it_stands_and_is_delivered_by_the_other_machine_and_only_once() {
    let (first, second) = (Sink::start(), Sink::start());
    for (who, reply) in [("stays.*", "451 4.3.0 later"), ("dead.*", "550 5.1.1 nobody")] {
        first.order(&format!("rcpt[{who}]={reply}"));
    }
    let mut one = world_to(&first);
    let aliases = one.write(
        "aliases",
        "team@mta.test: goes.too@far.test, stays.alias@far.test\n",
    );
    one.configure(&format!("aliases {aliases}\n"));
    one.start();
    let mut client = Client::of(&one);
    for (command, reply) in [
        ("MAIL FROM:<bsmith@univac.com> RET=HDRS ENVID=QQ314", "250"),
        ("RCPT TO:<goes@far.test>", "250"),
        (
            "RCPT TO:<stays.1@far.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;else@far.test",
            "250",
        ),
        ("RCPT TO:<stays.bcc@far.test> NOTIFY=NEVER", "250"),
        ("RCPT TO:<team@mta.test>", "250"),
        ("DATA", "354"),
        ("To: somebody\r\n\r\nHello\r\n.", "250"),
    ] {
        assert!(client.say(command).starts_with(reply), "{command}");
    }
    let large = client.mail(SENDER, &["stays.large@far.test"], &big_letter("large", LARGE));
    client.mail("", &["dead.1@far.test"], &letter("dead"));
    one.wait_for_sql(
        "SELECT count(*) FROM recipient WHERE attempts = 1 AND list IS NULL",
        "7",
    );
    does(&one, "queue hold --to stays.bcc@*");
    let mut two = world_to(&second);
    two.start();
    two.tell("smtpmta stop outbound transport");
    let file = one.path("moved");
    let would = does(&one, &format!("queue export --dry-run --all {file}"));
    assert!(
        would
            .text
            .starts_with("5 recipients of 3 messages would be exported\n"),
        "{would:?}"
    );
    let told = does(&one, &format!("queue export --all {file}"));
    assert_eq!(
        told.text,
        format!("{file}: 5 recipients of 3 messages exported\n")
    );
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(one.ask("queue list").status, 1);
    let told = does(&two, &format!("queue import --json {file}"));
    let told: serde_json::Value = serde_json::from_str(&told.text).unwrap();
    assert_eq!((&told["messages"], &told["recipients"]), (&3.into(), &5.into()));
    two.wait_for_sql("SELECT count(*) FROM recipient WHERE state = 2", "3");
    assert_eq!(
        two.sql(
            "SELECT r.path, s.name, r.notify, r.orcpt, m.envid, m.ret FROM recipient r \
             JOIN message m ON m.id = r.message JOIN state s ON s.number = r.state ORDER BY m.id, r.n"
        ),
        "stays.1@far.test|WQ_PENDING_XMIT|5|rfc822;else@far.test|QQ314|HDRS\n\
         stays.bcc@far.test|WQ_HELD|0||QQ314|HDRS\n\
         team@mta.test|WQ_EXPANDED|||QQ314|HDRS\n\
         stays.alias@far.test|WQ_PENDING_XMIT|||QQ314|HDRS\n\
         stays.large@far.test|WQ_PENDING_XMIT||||\n\
         dead.1@far.test|WQ_DEAD||||"
    );
    // What happened there is known here, in its order.
    let trace = does(&two, &format!("trace {large}")).text;
    let place = |text: &str| trace.find(text).unwrap_or_else(|| panic!("{text}: {trace}"));
    assert!(place(": from=<bsmith@univac.com> to=1 size=") < place("451 4.3.0 later"));
    assert!(place("451 4.3.0 later") < place(&format!(", {large} there, by ")));
    two.tell("smtpmta start outbound transport");
    two.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "2");
    does(&two, "queue release --state held");
    two.wait_for_sql(
        "SELECT count(*) FROM recipient WHERE state < 10 AND state <> 6 OR report_due IS NOT NULL",
        "0",
    );
    // A second time, there and here, nothing comes of it.
    let told = does(&two, &format!("queue import {file}"));
    assert_eq!(
        told.text,
        format!("{file}: 0 recipients of 0 messages imported\n3 messages had been imported before\n")
    );
    let told = does(&one, &format!("queue export --all {file}"));
    assert!(
        told.text
            .contains("5 recipients of 3 messages had been exported before"),
        "{told:?}"
    );
    assert_eq!(
        arrived(&second),
        [
            // Who wants to hear of one that was reached, does.
            SENDER,
            "stays.1@far.test",
            "stays.alias@far.test",
            "stays.bcc@far.test",
            "stays.large@far.test"
        ]
    );
    assert_eq!(arrived(&first), ["goes.too@far.test", "goes@far.test"]);
    let content = |sink: &Sink| {
        let is_large = |content: &Vec<u8>| content.len() > LARGE;
        sink.look(|seen| seen.accepted().map(|m| m.content.clone()).find(is_large))
    };
    assert!(content(&second).unwrap().ends_with(&big_letter("large", LARGE)));
    for world in [&one, &two] {
        is_in_order(world);
        assert_eq!(leftovers(world), [""; 0]);
    }
    // Whoever wants it back has it back.
    one.tell(&format!("queue undelete {large}"));
    assert_eq!(does(&one, "queue list").text.matches("WQ_HELD").count(), 1);
}

#[test]
fn where_no_mta_runs_the_command_does_it_itself() {
    let (_first, mut one) = world_that_waits();
    let second = Sink::start();
    let mut two = world_to(&second);
    let file = one.path("moved");
    let none = two.ask(&format!("queue import {file}"));
    assert_eq!(none.status, 66, "{none:?}");
    Client::of(&one).mail(SENDER, &["x@far.test", "y@near.test"], &letter("moves"));
    one.wait_for_sql(
        "SELECT count(*) FROM recipient WHERE attempts = 1 AND list IS NULL",
        "2",
    );
    two.start();
    for world in [&mut one, &mut two] {
        assert_eq!(world.terminate().0, Some(0));
    }
    does(&one, &format!("queue export --to x@* {file}"));
    let nothing = one.ask(&format!("queue export --to x@* {file}2"));
    assert_eq!(nothing.status, 1, "{nothing:?}");
    assert!(
        nothing
            .complaint
            .contains("nothing that waits, is held or is dead matched"),
        "{nothing:?}"
    );
    does(&two, &format!("queue import {file}"));
    for world in [&one, &two] {
        is_in_order(world);
        assert_eq!(leftovers(world), [""; 0]);
    }
    two.start();
    second.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    assert_eq!(arrived(&second), ["x@far.test"]);
    assert_eq!(
        one.sql("SELECT recipient FROM outbound_work_queue"),
        "y@near.test"
    );
}

#[test]
fn what_is_on_the_wire_is_stopped_before_it_moves() {
    let sink = Sink::start();
    sink.hang_at(Stage::Rcpt);
    let mut one = world_to(&sink);
    one.start();
    Client::of(&one).mail(SENDER, &["x@far.test"], &letter("on the wire"));
    sink.wait_for(|seen| seen.hangs_at(Stage::Rcpt), PATIENCE);
    let file = one.path("moved");
    // Whichever comes first, it is not sent.
    does(&one, "queue hold --all");
    let told = std::thread::scope(|scope| {
        let exporting = scope.spawn(|| does(&one, &format!("queue export --all {file}")));
        one.wait_for_sql("SELECT count(*) FROM export", "1");
        sink.release();
        exporting.join().unwrap()
    });
    assert!(
        told.text.contains("1 recipients of 1 messages exported"),
        "{told:?}"
    );
    one.wait_for_sql("SELECT count(*) FROM domain_list", "0");
    assert_eq!(arrived(&sink), [""; 0]);
    is_in_order(&one);
}

#[test]
fn an_export_may_be_given_up_as_long_as_its_file_is_not_there() {
    let (first, one) = world_that_waits();
    let file = one.path("moved");
    Client::of(&one).mail(SENDER, &["x@far.test"], &letter("stays"));
    one.wait_for_sql(
        "SELECT count(*) FROM recipient WHERE attempts = 1 AND list IS NULL",
        "1",
    );
    let none = one.ask(&format!("queue export --cancel {file}"));
    assert_eq!(none.status, 1, "{none:?}");
    // Its folder is not there yet: all is put aside, and no file can be made.
    let nowhere = one.path("no/such/folder");
    assert_ne!(one.ask(&format!("queue export --all {nowhere}")).status, 0);
    assert_eq!(
        one.sql("SELECT count(*) FROM put_aside"),
        "0",
        "that is seen before"
    );
    let taken = one.write("taken", "of an earlier day");
    let refused = one.ask(&format!("queue export --all {taken}"));
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.complaint.contains("is there already"), "{refused:?}");
    #[cfg(debug_assertions)]
    {
        dies_at(&one, &format!("queue export --all {file}"), "export-written");
        let listed = one.ask("queue list");
        assert!(listed.text.contains("WQ_HELD"), "{listed:?}");
        assert_eq!(one.ask("queue release --all").status, 1, "nobody else touches it");
        first.behave();
        does(&one, &format!("queue export --cancel {file}"));
        first.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
        // One whose file is there is finished.
        first.on(Stage::Rcpt, "451 4.3.0 later");
        Client::of(&one).mail(SENDER, &["y@far.test"], &letter("moves"));
        dies_at(&one, &format!("queue export --all {file}"), "export-named");
        let refused = one.ask(&format!("queue export --cancel {file}"));
        assert!(
            refused.status == 1 && refused.complaint.contains("is whole"),
            "{refused:?}"
        );
        does(&one, &format!("queue export --all {file}"));
    }
    assert_eq!(leftovers(&one), [""; 0]);
    is_in_order(&one);
    drop(first);
}

#[test]
fn an_export_that_breaks_off_says_what_it_has_put_aside_and_so_does_why() {
    let (first, one) = world_that_waits();
    let file = one.path("moved");
    let id = Client::of(&one).mail(SENDER, &["x@far.test"], &big_letter("is cut", LARGE));
    one.wait_for_sql(
        "SELECT count(*) FROM recipient WHERE attempts = 1 AND list IS NULL",
        "1",
    );
    let content = files(&one.spool().join("content"))
        .into_iter()
        .find(|path| path.is_file());
    let content = content.unwrap();
    let whole = fs::read(&content).unwrap();
    fs::write(&content, &whole[1..]).unwrap();
    let broken = one.ask(&format!("queue export --all {file}"));
    let advice = format!("queue export --cancel {file}");
    assert!(
        broken.status == 65 && broken.complaint.contains(&advice),
        "{broken:?}"
    );
    let why = does(&one, &format!("why {id}")).text;
    assert!(
        why.contains(&format!("to be exported to {file}"))
            && why.contains(&advice)
            && !why.contains("release"),
        "{why}"
    );
    fs::write(&content, whole).unwrap();
    first.behave();
    does(&one, &advice);
    first.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    is_in_order(&one);
}

#[test]
fn an_import_waits_for_no_pipe_and_takes_away_no_copy_that_another_one_needs() {
    let (_first, one) = world_that_waits();
    let second = Sink::start();
    let mut two = world_to(&second);
    two.start();
    let pipe = one.path("pipe");
    nix::unistd::mkfifo(pipe.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(two.ask(&format!("queue import {pipe}")).status, 65);
    assert_eq!(one.ask(&format!("queue export --all {pipe}")).status, 1);
    Client::of(&one).mail(SENDER, &["x@far.test"], &letter("moves"));
    one.wait_for_sql(
        "SELECT count(*) FROM recipient WHERE attempts = 1 AND list IS NULL",
        "1",
    );
    let file = one.path("moved");
    does(&one, &format!("queue export --all {file}"));
    let id = one.sql("SELECT id FROM export");
    let copy = two.spool().join(format!("import-{id}"));
    let other = fs::File::create(&copy).unwrap();
    other.lock().unwrap();
    let refused = two.ask(&format!("queue import {file}"));
    assert!(
        refused.status == 75 && refused.complaint.contains("by somebody else"),
        "{refused:?}"
    );
    assert!(copy.exists());
    // It was killed.
    drop(other);
    does(&two, &format!("queue import {file}"));
    second.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    assert_eq!(leftovers(&two), [""; 0]);
}

#[test]
fn a_file_that_is_damaged_is_refused_with_its_place_and_leaves_nothing_behind() {
    let (_first, one) = world_that_waits();
    let file = one.path("moved");
    for n in 0..3 {
        Client::of(&one).mail(SENDER, &[&format!("x{n}@far.test")], &big_letter("moves", LARGE));
    }
    does(&one, &format!("queue export --all {file}"));
    let mut two = world_to(&_first);
    two.start();
    let whole = fs::read(&file).unwrap();
    let changed = |at: usize| {
        let mut file = whole.clone();
        file[at] ^= 1;
        file
    };
    for (damaged, told) in [
        (
            whole[..whole.len() - 1].to_vec(),
            "the file ends before its end line",
        ),
        (
            whole[..whole.len() / 2].to_vec(),
            "the file ends in the content of a message",
        ),
        (
            changed(whole.len() - 1000),
            "what stands before is not as it was written",
        ),
        (b"Hello\n".to_vec(), "this is no export of smtpmta"),
        (Vec::new(), "at octet 0: the file ends before its end line"),
    ] {
        let damaged = two.write("damaged", damaged);
        let refused = two.ask(&format!("queue import {damaged}"));
        assert_eq!(refused.status, 65, "{refused:?}");
        assert!(
            refused.complaint.contains(told) && refused.complaint.contains("damaged: at octet "),
            "{refused:?}"
        );
        assert_eq!(two.sql("SELECT count(*) FROM message"), "0");
        assert_eq!(two.sql("SELECT count(*) FROM import"), "0");
        assert_eq!(leftovers(&two), [""; 0]);
    }
    does(&two, &format!("queue import {file}"));
    assert_eq!(two.sql("SELECT count(*) FROM message"), "3");
}

/// Asks, in a process that dies at this point.
#[cfg(debug_assertions)]
#[track_caller]
fn dies_at(world: &World, words: &str, point: &str) {
    use std::os::unix::process::ExitStatusExt;
    let run = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
        .args(["-c", &world.path("empty.conf"), "-s"])
        .arg(world.spool())
        .args(words.split_whitespace())
        .env(smtpmta::crash_point::VARIABLE, point)
        .output()
        .unwrap();
    assert_eq!(run.status.signal(), Some(9), "{point} was not reached: {run:?}");
}

/// The way from one machine to another is cut off at each point; whoever asks for the same again finishes it.
#[cfg(debug_assertions)]
pub mod cut_off {
    use smtpmta::crash_point::CrashPoint;

    use super::*;

    /// Who dies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Who {
        Exporter,
        Importer,
        /// The MTA from which mail moves.
        One,
        /// The one to which it does.
        Two,
    }

    /// Each point of these verbs, and when it comes there for how many times.
    const CASES: [(CrashPoint, u32, Who); 13] = [
        (CrashPoint::ByHandWritten, 2, Who::One),
        (CrashPoint::ByHandCommitted, 2, Who::One),
        (CrashPoint::ExportSealed, 1, Who::One),
        (CrashPoint::ExportWritten, 1, Who::Exporter),
        (CrashPoint::ExportNamed, 1, Who::Exporter),
        (CrashPoint::ExportEndWritten, 2, Who::One),
        (CrashPoint::ExportEndCommitted, 1, Who::One),
        (CrashPoint::ExportEndCommitted, 4, Who::One),
        (CrashPoint::ImportStaged, 1, Who::Importer),
        (CrashPoint::ImportWritten, 2, Who::Two),
        (CrashPoint::ImportCommitted, 1, Who::Two),
        (CrashPoint::ImportCommitted, 2, Who::Two),
        (CrashPoint::ImportEnded, 1, Who::Two),
    ];

    /// Whether this point is tried here.
    pub fn tries(point: CrashPoint) -> bool {
        CASES.iter().any(|(tried, ..)| *tried == point)
    }

    /// Messages that move: more than are brought in, or end, at once.
    const MESSAGES: usize = 60;

    /// Asks in vain, for the MTA dies; it is started again.
    fn in_vain(world: &mut World, words: &str, point: CrashPoint, times: u32) {
        world.terminate();
        world.start_to_crash(point, times);
        let answer = world.ask(words);
        assert_ne!(answer.status, 0, "{point:?}: {answer:?}");
        let (status, _) = world.end(|_| {});
        assert_eq!(status, None, "{point:?} was not reached");
        is_in_order(world);
        world.start();
    }

    fn try_one((point, times, who): (CrashPoint, u32, Who)) {
        let (first, mut one) = world_that_waits();
        let second = Sink::start();
        let mut two = world_to(&second);
        two.start();
        let mut client = Client::of(&one);
        let mut sent = Vec::new();
        for n in 0..MESSAGES {
            let to = [format!("x{n}@far.test"), format!("y{n}@far.test")];
            let to: Vec<&str> = to
                .iter()
                .take(1 + usize::from(n % 10 == 0))
                .map(String::as_str)
                .collect();
            let content = if n == 7 {
                big_letter("large", LARGE)
            } else {
                letter("small")
            };
            client.mail(SENDER, &to, &content);
            sent.extend(to.iter().map(|to| (*to).to_owned()));
        }
        sent.sort_unstable();
        let file = one.path("moved");
        let (export, import) = (
            format!("queue export --all {file}"),
            format!("queue import {file}"),
        );
        match who {
            Who::Exporter => dies_at(&one, &export, point.name()),
            Who::One => in_vain(&mut one, &export, point, times),
            _ => {}
        }
        does(&one, &export);
        match who {
            Who::Importer => dies_at(&two, &import, point.name()),
            Who::Two => in_vain(&mut two, &import, point, times),
            _ => {}
        }
        does(&two, &import);
        two.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
        assert_eq!(arrived(&second), sent, "{point:?}");
        assert_eq!(arrived(&first), [""; 0], "{point:?}");
        for world in [&one, &two] {
            is_in_order(world);
            assert_eq!(leftovers(world), [""; 0], "{point:?}");
            assert_eq!(
                world.sql("SELECT (SELECT count(*) FROM put_aside) + count(*) FROM brought_in"),
                "0"
            );
        }
        let ends = |world: &World| {
            world.sql("SELECT count(*), state FROM recipient WHERE state >= 10 GROUP BY state")
        };
        assert_eq!(ends(&one), format!("{}|14", sent.len()));
        assert_eq!(ends(&two), format!("{}|11", sent.len()));
    }

    #[test]
    fn whoever_asks_again_after_a_crash_at_any_point_has_all_of_it_there_and_nothing_twice() {
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(case) = CASES.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
                        try_one(*case);
                    }
                });
            }
        });
    }
}

/// The command is killed at any moment, under load, again and again, until it comes to its end.
#[test]
fn killed_at_any_moment_it_comes_to_its_end_at_last() {
    let (_first, one) = world_that_waits();
    let second = Sink::start();
    let mut two = world_to(&second);
    two.start();
    let mut client = Client::of(&one);
    let messages = traffic::times(200, 2000);
    for n in 0..messages {
        client.mail(SENDER, &[&format!("x{n}@far.test")], &letter("moves"));
    }
    let file = one.path("moved");
    for (world, words) in [
        (&one, format!("queue export --all {file}")),
        (&two, format!("queue import {file}")),
    ] {
        let mut kills = 0;
        for patience in 1..200 {
            let mut child = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
                .args(["-c", &world.path("empty.conf"), "-s"])
                .arg(world.spool())
                .args(words.split_whitespace())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            // Each time it has a little longer.
            let (_silent, pause) = std::sync::mpsc::channel::<()>();
            let _ = pause.recv_timeout(std::time::Duration::from_millis(3 * patience));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            if status.success() {
                break;
            }
            kills += u32::from(status.code().is_none());
        }
        assert!(kills > 0, "{words}");
        does(world, &words);
    }
    eventually("all to arrive", || match arrived(&second).len() {
        arrived if arrived < messages => Err(arrived),
        _ => Ok(()),
    });
    two.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
    let mut arrived = arrived(&second);
    arrived.dedup();
    assert_eq!(
        (arrived.len(), second.look(|seen| seen.accepted().count())),
        (messages, messages)
    );
    for world in [&one, &two] {
        is_in_order(world);
    }
}
