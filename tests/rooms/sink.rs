//! `smtpmta sink` as a program: what it prints, what it stores, how it ends; and what goes wrong to order.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::version::TLS13;
use smtpmta::sink::options::TABLE;

use crate::support::client::Client;
use crate::support::world::{PATIENCE, World};

/// A sink that runs as a program of its own; killed when it is dropped.
struct Program {
    child: Child,
    console: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Program {
    #[track_caller]
    fn run(args: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
            .args(["sink", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut console = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        console.read_line(&mut line).unwrap();
        let address = line
            .strip_prefix("smtpmta sink: listening on ")
            .unwrap_or_else(|| panic!("{line:?}"));
        Program {
            address: address.trim().parse().unwrap(),
            child,
            console,
        }
    }

    fn call(&self) -> Caller {
        Caller::new(TcpStream::connect(self.address).unwrap())
    }

    /// What it prints up to its end, and its exit status.
    fn hear_out(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.console.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code())
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client.
struct Caller(BufReader<TcpStream>);

impl Caller {
    fn new(stream: TcpStream) -> Caller {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Caller(BufReader::new(stream))
    }

    /// The next reply, its lines in one; empty at the end.
    fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = Vec::new();
            if self.0.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                return reply;
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            reply += &line;
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
        }
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Says these lines one after the other; the beginning of each reply, the greeting first.
    fn say(&mut self, lines: &[&str]) -> Vec<String> {
        let short = |reply: String| reply.chars().take(3).collect::<String>();
        let mut replies = vec![short(self.reply())];
        for line in lines {
            self.send(&format!("{line}\r\n"));
            replies.push(short(self.reply()));
        }
        replies
    }
}

const MESSAGE: [&str; 5] = [
    "EHLO a.example",
    "MAIL FROM:<bob@a.example> BODY=8BITMIME",
    "RCPT TO:<alice@b.example>",
    "DATA",
    "Subject: x\r\n\r\n..dot\r\n.",
];

#[test]
fn a_message_is_taken_stored_and_told_and_after_enough_of_them_it_ends() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("got").display().to_string();
    let program = Program::run(&["--dir", &dir, "--max-messages", "1"]);
    let mut caller = program.call();
    assert_eq!(caller.say(&MESSAGE), ["220", "250", "250", "250", "354", "250"]);
    caller.send("QUIT\r\n");
    assert_eq!(caller.reply(), "221 2.0.0 Goodbye\r\n");
    drop(caller);
    let (told, status) = program.hear_out();
    assert_eq!(
        told,
        "message 1 (session 0): <bob@a.example> to <alice@b.example>, 20 octets: 250 2.0.0 OK, 20 octets\n\
         smtpmta sink: 1 sessions, 1 messages, 1 recipients, 20 octets\n"
    );
    assert_eq!(status, Some(0));
    let stored = fs::read_to_string(format!("{dir}/1.eml")).unwrap();
    assert_eq!(stored, "Subject: x\r\n\r\n.dot\r\n");
    let envelope = fs::read_to_string(format!("{dir}/1.env")).unwrap();
    for line in [
        "from <bob@a.example> BODY=8BITMIME\n",
        "to <alice@b.example>\n",
        "client 127.0.0.1:",
    ] {
        assert!(envelope.contains(line), "{envelope}");
    }
}

#[test]
fn a_signal_ends_it_with_the_sums_whoever_stalls() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let program = Program::run(&["--fault", "ehlo=stall", "--fault", "mail=drop@50", "--seed", "7"]);
        let mut caller = program.call();
        caller.reply();
        caller.send("EHLO a.example\r\n");
        // Another one is served meanwhile, and has been greeted when the first one stalls.
        assert_eq!(program.call().say(&["HELO a.example"]), ["220", "250"]);
        program.signal(signal);
        assert_eq!(caller.reply(), "");
        let (told, status) = program.hear_out();
        assert!(
            told.starts_with("smtpmta sink: lots are drawn with --seed 7\n"),
            "{told}"
        );
        assert!(told.contains("smtpmta sink: 2 sessions, 0 messages,"), "{told}");
        assert!(
            told.contains("smtpmta sink: to order: mail=drop@50: 0 of 0 times\n"),
            "{told}"
        );
        assert_eq!(status, Some(0));
    }
}

/// The number in front of these words.
#[track_caller]
fn number(told: &str, words: &str) -> usize {
    let before = told.split(words).next().unwrap_or_default();
    let last = before.rsplit(' ').next().unwrap_or_default();
    last.parse().unwrap_or_else(|_| panic!("{words:?} in {told}"))
}

#[test]
fn through_all_chaos_every_message_arrives_and_both_sides_account_for_the_same() {
    let program = Program::run(&["--chaos", "--seed", "11", "--quiet"]);
    let relay = program.address.to_string();
    let world = World::load(&["--relay-host", &relay, "--list-messages", "4"]);
    let mut client = Client::of(&world);
    for n in 0..60 {
        let content = format!(
            "Message-ID: <{n}@a.test>\r\nSubject: chaos\r\n\r\n{}",
            "xyz\r\n".repeat(n * 20)
        );
        client.mail(
            "bob@a.test",
            &["x@b.test", "y@c.test", "z@b.test"],
            content.as_bytes(),
        );
    }
    while world.sql("SELECT count(*) FROM outbound_work_queue") != "0" {
        world.ask("queue retry");
        let in_hand = "SELECT count(*) FROM outbound_work_queue WHERE state = 'WQ_MSG_LOCKED_FOR_XMIT'";
        world.wait_for_sql(in_hand, "0");
    }
    let verdict = world.ask("verify --account");
    assert!(
        verdict.text.contains(": in order") && verdict.text.contains("balances"),
        "{verdict:?}"
    );
    let transmitted = "SELECT count(*) FROM history WHERE event = 'transmitted'";
    assert_eq!(world.sql(transmitted), "180");
    drop(world);
    // The sums can be had before the end.
    let mut told = [String::new(), String::new()];
    let mut program = program;
    program.console.read_line(&mut told[0]).unwrap();
    assert_eq!(told[0], "smtpmta sink: lots are drawn with --seed 11\n");
    program.signal(Signal::SIGUSR1);
    program.console.read_line(&mut told[1]).unwrap();
    program.signal(Signal::SIGTERM);
    let (rest, status) = program.hear_out();
    assert_eq!(status, Some(0));
    assert!(
        rest.ends_with(&rest[rest.find(&told[1]).expect("the same sums at the end")..]),
        "{rest}"
    );
    let again = number(&rest, " recipients had the message already");
    assert_eq!(number(&told[1], " recipients,") - again, 180, "{told:?} {rest}");
    assert!(
        number(&rest, " faults in ") > 10 && rest.contains("--seed 11\n"),
        "{rest}"
    );
    assert!(
        rest.lines().filter(|line| line.contains("chaos: ")).count() > 5,
        "{rest}"
    );
}

#[test]
fn what_is_ordered_is_done() {
    for (order, replies) in [
        ("greeting=refuse", &["554", "503"][..]),
        ("greeting=drop", &["", ""]),
        ("connect=drop", &["", ""]),
        ("ehlo=502 5.5.1 what?", &["220", "502", "503"]),
        ("ehlo=defer", &["220", "421", ""]),
        ("mail=early", &["220", "250", "250", "250"]),
        ("mail[bob@*]=refuse", &["220", "250", "550", "503"]),
        ("mail[alice@*]=refuse", &["220", "250", "250", "250"]),
        ("rcpt=552 5.2.2 full", &["220", "250", "250", "552", "554"]),
        ("rcpt=slow:1", &["220", "250", "250", "250", "354", "250"]),
        ("data=late:1", &["220", "250", "250", "250", "354", "250"]),
        ("data=reset", &["220", "250", "250", "250", ""]),
        ("content=refuse", &["220", "250", "250", "250", "354", "554"]),
        ("content=drop", &["220", "250", "250", "250", "354", ""]),
        ("content=slow:1", &["220", "250", "250", "250", "354", "250"]),
        ("dot=early", &["220", "250", "250", "250", "354", "250"]),
        ("dot#2=drop", &["220", "250", "250", "250", "354", "250"]),
        ("dot=close-after", &["220", "250", "250", "250", "354", "250"]),
        (r"dot=250-a\n550 b", &["220", "250", "250", "250", "354", "250"]),
        (
            "dot=garbage",
            &["220", "250", "250", "250", "354", "\u{16}\u{3}\u{1}"],
        ),
    ] {
        let program = Program::run(&["--quiet", "--fault", order]);
        let mut caller = program.call();
        let lines = &MESSAGE[..replies.len() - 1];
        let said = if replies[0].is_empty() {
            vec![caller.reply(), caller.reply()]
        } else {
            caller.say(lines)
        };
        assert_eq!(said, replies, "{order}");
        if order == "dot=close-after" {
            assert_eq!(caller.reply(), "");
        }
    }
}

#[test]
fn a_drop_is_an_end_and_a_reset_is_none() {
    for (order, expected) in [
        ("mail=drop", None),
        ("mail=reset", Some(ErrorKind::ConnectionReset)),
    ] {
        let program = Program::run(&["--fault", order]);
        let mut caller = program.call();
        caller.say(&["EHLO a.example"]);
        caller.send("MAIL FROM:<>\r\n");
        let heard = caller.0.read(&mut [0]);
        assert_eq!(heard.err().map(|error| error.kind()), expected, "{order}");
    }
}

#[test]
fn a_handshake_can_fail_in_several_ways() {
    let program = Program::run(&[
        "--starttls",
        "--fault",
        "handshake#1=garbage",
        "--fault",
        "handshake#2=drop",
    ]);
    for heard in ["\u{16}\u{3}\u{1}", ""] {
        let mut caller = program.call();
        assert_eq!(caller.say(&["EHLO a.example", "STARTTLS"]), ["220", "250", "220"]);
        assert!(caller.reply().starts_with(heard));
    }
    let mut caller = program.call();
    caller.say(&["EHLO a.example", "STARTTLS"]);
    // This is no TLS: an alert comes, and then the end.
    caller.send("EHLO a.example\r\n");
    let mut alert = Vec::new();
    caller.0.read_to_end(&mut alert).unwrap();
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
}

#[test]
fn a_login_in_tls_is_asked_for_and_taken() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().display().to_string();
    let program = Program::run(&[
        "--starttls",
        "--require-tls",
        "--auth",
        "bob:sesame",
        "--hostname",
        "mx.sink.test",
        "--dir",
        &dir,
    ]);
    let mut client = Client::try_greet(program.address).unwrap();
    assert_eq!(
        client.say("MAIL FROM:<>"),
        "530 5.7.0 Must issue a STARTTLS command first"
    );
    assert_eq!(client.say("STARTTLS"), "220 2.0.0 Ready to start TLS");
    let mut client = client.begin_tls(&[&TLS13]);
    // What was said in the clear is forgotten.
    assert!(client.say("MAIL FROM:<>").starts_with("503 "));
    let hello = client.say("EHLO a.example");
    assert!(
        hello.contains("AUTH PLAIN LOGIN") && !hello.contains("STARTTLS"),
        "{hello}"
    );
    assert!(client.say("MAIL FROM:<>").starts_with("530 "));
    let login = BASE64.encode(b"\0bob\0sesame");
    assert_eq!(client.say(&format!("AUTH PLAIN {login}")), "235 2.7.0 Welcome");
    let reply = client.try_mail("", &["alice@b.example"], b"x\r\n").unwrap();
    assert_eq!(reply, "250 2.0.0 OK, 3 octets");
    let envelope = fs::read_to_string(place.path().join("1.env")).unwrap();
    assert!(envelope.contains("tls TLSv1.3 "), "{envelope}");
}

#[test]
fn tls_may_come_first() {
    let program = Program::run(&["--tls"]);
    let mut client = Client::connect(program.address).begin_tls(&[&TLS13]);
    assert!(client.reply().starts_with("220 "));
    assert!(client.say("EHLO a.example").starts_with("250-"));
}

#[test]
fn chunks_come_in_however_they_are_sent_and_can_go_wrong() {
    let sent = b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 5\r\nab\r\ncBDAT 3 LAST\r\nd\r\nRSET\r\n";
    for (order, replies) in [
        ("dot=drop@0", &["250", "250", "250", "250", "250"][..]),
        ("bdat#2=refuse", &["250", "250", "250", "554", "250"]),
        ("dot=defer", &["250", "250", "250", "451", "250"]),
        ("bdat#1=defer", &["250", "250", "451", "503", "250"]),
        ("bdat=drop", &["250", "250", ""]),
        ("content=drop", &["250", "250", ""]),
    ] {
        let program = Program::run(&["--fault", order]);
        let mut caller = program.call();
        caller.say(&["EHLO a.example"]);
        caller.0.get_mut().write_all(sent).unwrap();
        let heard: Vec<String> = replies
            .iter()
            .map(|_| caller.reply().chars().take(3).collect())
            .collect();
        assert_eq!(heard, replies, "{order}");
    }
}

#[test]
fn no_more_sessions_than_allowed_are_served_at_once() {
    let program = Program::run(&["--max-sessions", "1"]);
    let mut first = program.call();
    assert!(first.reply().starts_with("220 "));
    let mut second = program.call();
    second
        .0
        .get_ref()
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert_eq!(second.reply(), "");
    second.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    assert!(second.reply().starts_with("220 "));
}

#[test]
fn a_stalled_session_ends_with_its_client() {
    let program = Program::run(&["--max-sessions", "1", "--fault", "greeting#1=stall"]);
    drop(program.call());
    let began = Instant::now();
    assert!(program.call().reply().starts_with("220 "));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn it_tells_what_keeps_it_from_starting() {
    let run = |args: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
            .arg("sink")
            .args(args)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&run.stdout), "");
        (String::from_utf8(run.stderr).unwrap(), run.status.code())
    };
    let program = Program::run(&[]);
    let (told, status) = run(&["--listen", &program.address.to_string()]);
    assert!(
        told.starts_with("smtpmta: sink: can not listen on 127.0.0.1:"),
        "{told}"
    );
    assert_eq!(status, Some(75));
    let (told, status) = run(&[
        "--starttls",
        "--tls-cert",
        "/nonexistent/c",
        "--tls-key",
        "/nonexistent/k",
    ]);
    assert!(
        told.starts_with("smtpmta: sink: TLS certificate file /nonexistent/c can not be read"),
        "{told}"
    );
    assert_eq!(status, Some(78));
    let (told, status) = run(&["--fault", "rcpt=explode", "--size", "x"]);
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(
        told.contains("smtpmta: sink: --fault: \"rcpt=explode\": expected at the stage rcpt one of"),
        "{told}"
    );
    assert_eq!(status, Some(64));
}

#[test]
fn help_needs_no_configuration_and_the_manual_page_has_every_option() {
    let run = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
        .args(["-c", "/nonexistent/conf", "sink", "--help"])
        .output()
        .unwrap();
    assert!(run.status.success());
    let help = String::from_utf8(run.stdout).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/smtpmta-sink.8");
    let page = fs::read_to_string(page).unwrap();
    for row in TABLE {
        assert!(help.contains(&format!("  --{}", row.name)), "{}", row.name);
        let value = if row.value.is_empty() {
            String::new()
        } else {
            format!(" Ar {}", row.value)
        };
        let item = format!("\n.It Fl \\-{}{value}\n", row.name.replace('-', "\\-"));
        assert!(page.contains(&item), "{item:?} is not in the manual page");
    }
    let items = page.matches("\n.It Fl ").count();
    assert_eq!(items, TABLE.len());
}
