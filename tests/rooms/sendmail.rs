//! `sendmail`, `mailq` and `newaliases`, by links to the program of these names, as cron, PHP and people call them: with an
//! MTA that runs, without one, as another user, and with a crash in between.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use nix::unistd::Uid;
use smtpmta::crash_point::CrashPoint;

use crate::support::sink::Sink;
use crate::support::trace::{self, Call};
use crate::support::world::{Answer, PATIENCE, World, eventually, files};

/// The user who has nothing to do with the MTA.
const NOBODY: u32 = 65534;

/// A world whose configuration says where its spool is, so that programs need not.
fn world(flags: &[&str]) -> World {
    let mut world = World::without_mta(flags);
    // What is not rung for is not found.
    world.flag("--poll-interval", "5m");
    configure(&world, "");
    for name in ["sendmail", "mailq", "newaliases"] {
        symlink(env!("CARGO_BIN_EXE_smtpmta"), world.path(name)).unwrap();
    }
    world
}

fn configure(world: &World, lines: &str) {
    world.configure(&format!("spool {}\n{lines}", world.path("spool")));
}

/// The same, and the MTA has made its maildrop and has ended.
fn without_mta() -> World {
    let mut world = world(&[]);
    world.start();
    assert_eq!(world.terminate().0, Some(0));
    world
}

/// The call of a program by its name, with the configuration and these words.
fn program(world: &World, name: &str, words: &[&str]) -> Command {
    let mut command = Command::new(world.path(name));
    command.args(["-C", &world.path("smtpmta.conf")]).args(words);
    command
}

/// Runs it with this on its standard input.
fn run(mut command: Command, stdin: impl AsRef<[u8]>) -> Answer {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it has read that.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_ref());
    let run = child.wait_with_output().unwrap();
    Answer {
        status: run.status.code().expect("an exit status"),
        text: String::from_utf8(run.stdout).unwrap(),
        complaint: String::from_utf8(run.stderr).unwrap(),
    }
}

/// `sendmail`, which has to take the message without a word.
#[track_caller]
fn send(world: &World, words: &[&str], stdin: impl AsRef<[u8]>) {
    let answer = run(program(world, "sendmail", words), stdin);
    let said = (answer.status, &*answer.text, &*answer.complaint);
    assert_eq!(said, (0, "", ""), "{words:?}");
}

/// `mailq`, and what it shows.
#[track_caller]
fn mailq(world: &World) -> String {
    let answer = run(program(world, "mailq", &[]), "");
    assert_eq!((answer.status, &*answer.complaint), (0, ""));
    answer.text
}

/// The one letter in a mailbox, once it is there.
#[track_caller]
fn letter(world: &World, address: &str) -> String {
    let letters = world.wait_for_letters(address, 1);
    assert_eq!(letters.len(), 1);
    String::from_utf8(letters[0].clone()).unwrap()
}

/// What lies in the maildrop, and what was taken from there and is not in the queue.
fn left(world: &World) -> Vec<PathBuf> {
    let folders = ["maildrop", "maildrop-taken"].map(|name| files(&world.spool().join(name)));
    folders.concat()
}

#[track_caller]
fn wait_until_all_is_taken_in(world: &World) {
    eventually("an empty maildrop", || match left(world) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}

/// The name of whoever runs the test.
fn me() -> String {
    let user = nix::unistd::User::from_uid(Uid::current()).unwrap();
    user.map_or_else(|| Uid::current().to_string(), |user| user.name)
}

#[test]
fn what_cron_sends_arrives_with_all_that_a_message_needs() {
    let mut world = world(&[]);
    world.start();
    let output = "Subject: Cron <root> date\nTo: root\n\nMon\n.\n..\nTue";
    send(
        &world,
        &["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"],
        output,
    );
    let text = letter(&world, "root@mta.test");
    let me = me();
    assert!(
        text.contains(&format!("\nFrom: CronDaemon <{me}@mta.test>\n")),
        "{text}"
    );
    let received = format!(
        "Received: from {me} (uid {})\n\tby mta.test (smtpmta ",
        Uid::current()
    );
    assert!(text.contains(&received), "{text}");
    for field in ["\nDate: ", "\nMessage-ID: <0", "\nSubject: Cron <root> date\n"] {
        assert_eq!(text.matches(field).count(), 1, "{field:?} in {text}");
    }
    assert!(text.ends_with("\n\nMon\n.\n..\nTue\n"), "{text}");
    wait_until_all_is_taken_in(&world);
}

#[test]
fn recipients_of_the_header_get_the_message_and_nobody_learns_of_bcc() {
    let mut world = world(&[]);
    world.start();
    let message = "From: Bob <bob@mta.test>\r\nTo: \"Doe, Jane\" <jane@mta.test>, team: amy, (comment) \
                   eve@mta.test;\r\nBCC: joe@mta.test,\r\n\tkim\r\nSubject: all\r\n\r\nHello\r\n";
    // Whoever is named on the command line gets it, too, and nobody twice.
    send(&world, &["-oi", "-t", "--", "amy", "lee"], message);
    for name in ["jane", "amy", "eve", "joe", "kim", "lee"] {
        let text = letter(&world, &format!("{name}@mta.test"));
        assert!(
            text.contains("\nFrom: Bob <bob@mta.test>\n") && text.ends_with("\n\nHello\n"),
            "{text}"
        );
        let lower = text.to_ascii_lowercase();
        let mut lines = lower.lines().filter(|line| !line.starts_with("delivered-to:"));
        let is_blind = |line: &str| {
            ["bcc:", "joe", "kim", "lee"]
                .iter()
                .any(|word| line.contains(word))
        };
        assert!(!lines.any(is_blind), "{text}");
        assert_eq!(text.matches("\nFrom:").count(), 1, "{text}");
    }
    world.wait_for_sql("SELECT count(*) FROM message", "1");
}

#[test]
fn a_line_with_only_a_dot_ends_the_message_where_it_is_not_to_be_ignored() {
    let mut world = world(&[]);
    world.start();
    send(&world, &["amy"], "Hello\n.\nno more\n");
    assert!(letter(&world, "amy@mta.test").ends_with("\n\nHello\n"));
    send(&world, &["-ti"], "From x\nTo: eve\n\n.\nmore\0\r\n");
    let text = letter(&world, "eve@mta.test");
    assert!(text.ends_with("\n\n.\nmore\n"), "{text}");
}

#[test]
fn a_message_waits_for_an_mta_that_does_not_run() {
    let mut world = without_mta();
    send(
        &world,
        &["-f", "bob@x.example", "amy@mta.test"],
        "Subject: wait\n\nHello\n",
    );
    send(&world, &["-f", "<>", "eve"], "Hello\n");
    let listed = mailq(&world);
    assert_eq!(listed.matches("(maildrop) ").count(), 2, "{listed}");
    for shown in [
        "bob@x.example\n",
        "MAILER-DAEMON\n",
        " amy@mta.test\n",
        " eve@mta.test\n",
    ] {
        assert!(listed.contains(shown), "{shown:?} in {listed}");
    }
    assert!(listed.ends_with("\n-- 1 Kbytes in 2 Requests.\n"), "{listed}");
    world.start();
    let text = letter(&world, "amy@mta.test");
    assert!(text.starts_with("Return-Path: <bob@x.example>\n"), "{text}");
    letter(&world, "eve@mta.test");
    wait_until_all_is_taken_in(&world);
    world.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
    assert_eq!(mailq(&world), "Mail queue is empty\n");
}

#[test]
fn a_spool_on_which_no_mta_was_ever_started_is_left_alone() {
    let world = world(&[]);
    let answer = run(program(&world, "sendmail", &["amy"]), "Hello\n");
    assert_eq!(answer.status, 75, "{answer:?}");
    assert!(
        answer.complaint.contains("no MTA has been started there yet"),
        "{answer:?}"
    );
    assert!(!world.spool().exists());
    assert_eq!(run(program(&world, "mailq", &[]), "").status, 66);
}

#[test]
fn a_spool_below_the_current_folder_is_one_only_where_the_command_line_says_so() {
    let world = without_mta();
    let run_there = |name: &str, words: &[&str]| {
        let mut command = Command::new(world.path(name));
        command.current_dir(world.path("")).args(words);
        run(command, "Hello\n")
    };
    for (name, words) in [
        ("sendmail", &["-C", "empty.conf", "amy"][..]),
        ("sendmail", &["-C", "empty.conf", "-q"]),
        ("sendmail", &["-C", "empty.conf", "-bs"]),
        ("mailq", &["-C", "empty.conf"]),
    ] {
        let answer = run_there(name, words);
        assert_eq!(answer.status, 78, "{words:?}: {answer:?}");
        let told = "./spool: expected a configuration that names the spool";
        assert!(answer.complaint.contains(told), "{words:?}: {answer:?}");
    }
    assert!(left(&world).is_empty());
    // Latin-1 in an argument is no reason to refuse a message.
    let mut command = program(&world, "sendmail", &["-F"]);
    command.arg(std::ffi::OsStr::from_bytes(b"J\xf6rg")).arg("amy");
    assert_eq!(run(command, "Hello\n").status, 0);
    assert_eq!(left(&world).len(), 1);
}

#[test]
fn who_has_the_rights_of_two_users_is_refused() {
    if !Uid::effective().is_root() {
        return;
    }
    let world = without_mta();
    for id in ["--ruid", "--rgid"] {
        let mut command = Command::new("setpriv");
        command
            .args(["--keep-groups", id, "65534", &world.path("sendmail")])
            .args(["-C", &world.path("smtpmta.conf"), "amy"]);
        let answer = run(command, "Hello\n");
        assert_eq!(answer.status, 77, "{id}: {answer:?}");
    }
    assert!(left(&world).is_empty());
}

#[test]
fn another_user_sends_mail_and_sees_nothing_of_others() {
    if !Uid::effective().is_root() {
        // Nobody else can become another user.
        return;
    }
    let mut world = without_mta();
    fs::set_permissions(world.path(""), Permissions::from_mode(0o711)).unwrap();
    // Where the program was built others may not come.
    // By another process: what this one has open for writing its other tests' children have, too, and it can not be run.
    let copied = Command::new("cp")
        .args([env!("CARGO_BIN_EXE_smtpmta"), &world.path("program")])
        .status();
    assert!(copied.unwrap().success());
    for name in ["sendmail", "mailq"] {
        fs::remove_file(world.path(name)).unwrap();
        symlink(world.path("program"), world.path(name)).unwrap();
    }
    let as_nobody = |mut command: Command, stdin: &str| {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        run(command, stdin)
    };
    let send = |to: &str| as_nobody(program(&world, "sendmail", &["-f", "x@y.example", to]), "Hello\n");
    let sent = send("amy");
    assert_eq!((sent.status, &*sent.complaint), (0, ""));
    // The owner of the spool can read it, and no third one.
    let found = fs::metadata(&left(&world)[0]).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (NOBODY, 0o640));
    assert_eq!(found.gid(), fs::metadata(world.spool()).unwrap().gid());
    for secret in [
        "queue.db",
        "smtpmta.pid",
        "maildrop-taken/.",
        "content/.",
        "maildrop",
    ] {
        let path = world.spool().join(secret);
        let mut look = Command::new("head");
        look.arg(&path);
        if path.is_dir() {
            look = Command::new("ls");
            look.arg(&path);
        }
        let seen = as_nobody(look, "");
        assert!(seen.status != 0 && seen.text.is_empty(), "{secret}: {seen:?}");
    }
    world.start();
    let sent = as_nobody(
        program(&world, "sendmail", &["-f", "x@y.example", "eve"]),
        "Hello\n",
    );
    assert_eq!((sent.status, &*sent.complaint), (0, ""));
    for (program_name, words) in [("mailq", &[][..]), ("sendmail", &["-q"])] {
        let answer = as_nobody(program(&world, program_name, words), "");
        assert_eq!(answer.status, 77, "{program_name}: {answer:?}");
    }
    // Whatever is done to the socket: the MTA looks who asks.
    let socket = world.spool().join("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let answer = as_nobody(program(&world, "sendmail", &["-q"]), "");
    let told = "only root and the owner of the spool may ask the MTA";
    assert!(
        answer.status == 77 && answer.complaint.contains(told),
        "{answer:?}"
    );
    // Whom the operator lets read the database sees what is in it.
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        fs::set_permissions(world.spool().join(name), Permissions::from_mode(0o644)).unwrap();
    }
    let answer = as_nobody(program(&world, "mailq", &[]), "");
    assert_eq!((answer.status, &*answer.complaint), (0, ""));
    for address in ["amy@mta.test", "eve@mta.test"] {
        let text = letter(&world, address);
        assert!(text.contains("Received: from nobody (uid 65534)\n"), "{text}");
        assert!(text.contains("\nFrom: x@y.example\n"), "{text}");
    }
    assert_eq!(
        world.sql("SELECT DISTINCT client, helo, protocol, origin FROM message"),
        "nobody|uid 65534|local|2"
    );
    let id = world.sql("SELECT printf('%016X', max(id)) FROM message");
    let trace = world.ask(&format!("trace {id}"));
    assert!(trace.text.contains("local nobody (uid 65534)"), "{trace:?}");
}

#[test]
fn a_crash_between_maildrop_and_queue_loses_nothing_and_doubles_nothing() {
    for (point, in_queue) in [(CrashPoint::DropTaken, "0"), (CrashPoint::DropCommitted, "1")] {
        let mut world = world(&[]);
        world.start_to_crash(point, 1);
        send(&world, &["amy"], "Hello\n");
        assert_eq!(world.end(|_| {}).0, None, "{point:?} was not reached");
        assert_eq!(world.sql("SELECT count(*) FROM message"), in_queue, "{point:?}");
        let taken = files(&world.spool().join("maildrop-taken"));
        assert_eq!(taken.len(), 1, "{point:?}");
        world.start();
        wait_until_all_is_taken_in(&world);
        world.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
        letter(&world, "amy@mta.test");
        assert_eq!(world.sql("SELECT count(*) FROM message"), "1", "{point:?}");
    }
}

#[test]
fn a_message_and_its_name_are_on_the_disk_before_sendmail_ends() {
    if !trace::is_possible() {
        return;
    }
    let world = without_mta();
    let record = PathBuf::from(world.path("record"));
    let mut command = trace::under_strace(&world.path("sendmail"), &record);
    command.args(["-C", &world.path("smtpmta.conf"), "amy"]);
    assert_eq!(run(command, "Hello\n").status, 0);
    let calls = trace::read(&record);
    let is_file = |call: &Call| call.on.contains("/maildrop/new-");
    let written = calls.iter().rposition(|call| call.writes() && is_file(call));
    let synced = calls.iter().position(|call| call.syncs() && is_file(call));
    let named = calls.iter().position(|call| call.name.starts_with("rename"));
    let kept = calls
        .iter()
        .position(|call| call.syncs() && call.on.ends_with("/maildrop"));
    let order = [written, synced, named, kept];
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{order:?}: {calls:#?}"
    );
}

#[test]
fn all_that_many_leave_at_once_is_taken_in_once() {
    let mut world = world(&[]);
    world.start();
    let world = &world;
    thread::scope(|scope| {
        for sender in 0..4 {
            scope.spawn(move || {
                for number in 0..5 {
                    send(world, &["amy"], format!("Subject: {sender} {number}\n\nHello\n"));
                }
            });
        }
    });
    world.wait_for_letters("amy@mta.test", 20);
    wait_until_all_is_taken_in(world);
    assert_eq!(world.sql("SELECT count(*) FROM message"), "20");
}

#[test]
fn what_is_no_message_is_put_aside_and_said() {
    let mut world = without_mta();
    fs::write(world.spool().join("maildrop/mail-0"), "garbage").unwrap();
    send(&world, &["amy"], "Hello\n");
    world.start();
    letter(&world, "amy@mta.test");
    world
        .daemon()
        .wait_for_word("is no message from the maildrop, and put aside: it is cut off");
    let aside = left(&world);
    assert!(
        aside.len() == 1 && aside[0].to_string_lossy().ends_with(".refused"),
        "{aside:?}"
    );
}

#[test]
fn every_failure_has_its_status_and_leaves_nothing() {
    let world = without_mta();
    configure(&world, "max-message-size 10K\nmax-recipients 2\n");
    let large = "x".repeat(20_000);
    for (words, stdin, status, said) in [
        (
            &[][..],
            "Hello\n",
            64,
            "expected recipients behind the options, or -t",
        ),
        (&["-N", "always", "amy"], "", 64, "-N: \"always\": expected never"),
        (&["-f", "a b", "amy"], "", 64, "-f: a b: there is a comma missing"),
        (&["amy@-"], "Hello\n", 64, "amy@-: malformed domain"),
        (&["-bd"], "", 64, "the MTA is started as smtpmta"),
        (
            &["-t"],
            "Subject: x\n\nTo: amy\n",
            65,
            "no recipient in the header",
        ),
        (&["-t"], "To: a\nCc: b c\n\n", 65, "cc: there is a comma missing"),
        (&["-t"], "To: a, b, c\n\n", 65, "3 recipients: expected 2 at most"),
        (&["amy"], &large, 65, "the message is larger than 10240 octets"),
        (&["-bv", "bob%x@mta.test"], "", 67, ""),
        (&["-q"], "", 69, "does not answer"),
    ] {
        let answer = run(program(&world, "sendmail", words), stdin);
        assert_eq!(answer.status, status, "{words:?}: {answer:?}");
        assert!(answer.complaint.contains(said), "{words:?}: {answer:?}");
    }
    assert!(left(&world).is_empty());
    configure(&world, "max-recipients none\n");
    assert_eq!(run(program(&world, "sendmail", &["amy"]), "Hello\n").status, 78);
}

#[test]
fn a_dialogue_on_standard_input_leaves_a_message_too() {
    let mut world = without_mta();
    let said =
        "EHLO x\r\nMAIL FROM:<bob@x.example> RET=HDRS\r\nRCPT TO:<amy@mta.test> NOTIFY=NEVER\r\nDATA\r\n";
    let mut child = program(&world, "sendmail", &["-bs"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout)).map(Result::unwrap);
    let mut wait_for = |begin: &str| lines.find(|line| line.starts_with(begin)).unwrap();
    assert!(wait_for("220 ").starts_with("220 mta.test ESMTP"));
    for (line, answer) in said
        .split_inclusive('\n')
        .zip(["250 ", "250 2.1.0 ", "250 2.1.5 ", "354 "])
    {
        stdin.write_all(line.as_bytes()).unwrap();
        wait_for(answer);
    }
    stdin.write_all(b"Subject: x\r\n\r\n..\r\n.\r\n").unwrap();
    assert_eq!(wait_for("250 2.6.0"), "250 2.6.0 Message received OK.");
    stdin.write_all(b"QUIT\r\n").unwrap();
    wait_for("221 ");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(left(&world).len(), 1);
    world.start();
    let text = letter(&world, "amy@mta.test");
    assert!(text.starts_with("Return-Path: <bob@x.example>\n"), "{text}");
    assert!(text.ends_with("\n\n.\n"), "{text}");
    assert_eq!(
        world.sql("SELECT ret, notify FROM message JOIN recipient ON message = id"),
        "HDRS|0"
    );
}

#[test]
fn what_is_asked_of_reports_goes_with_the_message() {
    let mut world = world(&[]);
    world.start();
    let words = [
        "-N",
        "success,delay",
        "-R",
        "full",
        "-V",
        "a b",
        "-B7BIT",
        "-f",
        "bob",
        "amy",
    ];
    send(&world, &words, "Hello\n");
    letter(&world, "amy@mta.test");
    assert_eq!(
        world.sql("SELECT reverse_path, ret, envid, body, notify FROM message JOIN recipient ON message = id LIMIT 1"),
        "bob@mta.test|FULL|a+20b|1|5"
    );
    // The sender hears of it.
    letter(&world, "bob@mta.test");
}

#[test]
fn what_waits_is_shown_and_flushed() {
    let sink = Sink::start();
    let mut world = world(&["--relay-host", &sink.address().to_string()]);
    world.start();
    sink.order("rcpt=451 4.2.1 later");
    send(&world, &["-f", "bob@mta.test", "you@x.example"], "Hello\n");
    world.wait_for_sql("SELECT attempts FROM recipient", "1");
    let listed = mailq(&world);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(
        lines[0],
        "----Queue ID----- --Size-- ----Arrival Time---- -Sender/Recipient-------"
    );
    let id = world.sql("SELECT printf('%016X', id) FROM message");
    assert!(
        lines[1].starts_with(&format!("{id}  ")) && lines[1].ends_with(" bob@mta.test"),
        "{listed}"
    );
    assert!(lines[2].contains(" said: 451 4.2.1 later"), "{listed}");
    assert_eq!(lines[3].trim(), "you@x.example", "{listed}");
    assert_eq!(lines[5], "-- 1 Kbytes in 1 Request.", "{listed}");
    sink.behave();
    for words in [&[&*format!("-qI{id}")][..], &["-q"]] {
        assert_eq!(run(program(&world, "sendmail", words), "").status, 0, "{words:?}");
    }
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    assert_eq!(mailq(&world), "Mail queue is empty\n");
}

#[test]
fn addresses_are_verified_without_sending_anything() {
    let mut world = world(&[]);
    world.start();
    let answer = run(program(&world, "sendmail", &["-bv", "amy", "you@x.example"]), "");
    assert_eq!(answer.status, 0, "{answer:?}");
    assert_eq!(
        answer.text,
        "amy@mta.test... deliverable: mailer local, user amy@mta.test\n\
         you@x.example... deliverable: mailer esmtp, host x.example, user you@x.example\n"
    );
    assert!(left(&world).is_empty());
    assert_eq!(world.sql("SELECT count(*) FROM message"), "0");
}

#[test]
fn newaliases_checks_the_file_and_lets_the_mta_read_it() {
    let mut world = world(&[]);
    let aliases = world.write("aliases", "staff: amy\n");
    configure(&world, &format!("aliases {aliases}\n"));
    world.start();
    world.write("aliases", "staff: eve\nboss: staff\n");
    let answer = run(program(&world, "newaliases", &[]), "");
    assert_eq!(
        (answer.status, answer.text),
        (0, format!("{aliases}: 2 aliases\n")),
        "{}",
        answer.complaint
    );
    send(&world, &["boss"], "Hello\n");
    letter(&world, "eve@mta.test");
    world.write("aliases", "staff: |program\n");
    let answer = run(program(&world, "newaliases", &[]), "");
    assert_eq!(answer.status, 78, "{answer:?}");
    world.write("aliases", "");
    world.terminate();
    assert_eq!(run(program(&world, "newaliases", &[]), "").status, 0);
}
