//! The log of the live MTA: its form, its file, and the system's log.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::SIGUSR1;
use serde_json::Value;

use crate::support::client::{Client, letter};
use crate::support::sink::Sink;
use crate::support::world::{World, eventually};

/// The lines of a file; none where there is no file.
fn lines(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a file has a line with this word.
#[track_caller]
fn wait_for_line(path: &str, word: &str) {
    eventually(&format!("{word:?} in {path}"), || {
        let lines = lines(path);
        match lines.iter().any(|line| line.contains(word)) {
            true => Ok(()),
            false => Err(lines),
        }
    });
}

/// Ends what somebody else does, however this one ends.
struct End<'e>(&'e AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_log_that_is_moved_away_goes_on_in_a_new_file_and_no_line_is_lost_meanwhile() {
    let mut world = World::without_mta(&[]);
    let log = world.path("log");
    world.flag("--log-file", &log);
    world.start();
    let (sent, through) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut files = vec![log.clone()];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::of(&world);
            while !through.load(Ordering::Relaxed) {
                client.mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("logged"));
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _end = End(&through);
        let ways: [&dyn Fn(); 3] = [
            &|| world.daemon().signal(SIGUSR1),
            &|| drop(world.tell("refresh")),
            // By itself.
            &|| {},
        ];
        for (number, way) in ways.iter().enumerate() {
            wait_for_line(&log, " stored");
            let old = world.path(&format!("log.{number}"));
            fs::rename(&log, &old).unwrap();
            way();
            files.push(old);
        }
        wait_for_line(&log, " stored");
    });
    let (status, _) = world.terminate();
    assert_eq!(status, Some(0));
    let mut all: Vec<String> = files.iter().flat_map(|file| lines(file)).collect();
    // The start says so where a test's folder is in memory or in a container.
    all.retain(|line| !line.contains(" WARN the spool is "));
    let stored = all.iter().filter(|line| line.ends_with(" stored")).count();
    assert_eq!(stored, sent.load(Ordering::Relaxed));
    for line in &all {
        let mut words = line.split(' ');
        assert!(words.next().is_some_and(|moment| moment.len() == 23), "{line}");
        assert!(words.nth(1).is_some_and(|level| level == "INFO"), "{line}");
    }
}

#[test]
fn as_json_each_line_is_an_object_that_names_task_and_message_and_no_client_makes_lines_or_fields() {
    let sink = Sink::start();
    let mut world = World::without_mta(&["--log-json", "--log-level", "verbose"]);
    let log = world.path("log");
    world.flag("--log-file", &log);
    world.flag("--route", &format!("ibm.com={}", sink.address()));
    world.start();
    let forged = r#""x> id=0 task=none"@univac.com"#;
    let id = Client::of(&world).mail(forged, &["jdoe@ibm.com"], &letter("shown"));
    let mut client = Client::of(&world);
    for line in [
        &b"HELO a\x1b[2J\rb\r\n"[..],
        b"HELO a\x85b\r\n",
        b"NOOP {\"id\":\"0\"}\r\n",
    ] {
        client.send(line).unwrap();
        client.reply();
    }
    wait_for_line(&log, "transmitted 250");
    world.terminate();
    let told: Vec<Value> = lines(&log)
        .iter()
        .map(|line| {
            assert!(!line.chars().any(char::is_control), "{line:?}");
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        })
        .collect();
    for object in &told {
        let moment = object["ts"].as_str().unwrap();
        chrono::DateTime::parse_from_rfc3339(moment).unwrap_or_else(|error| panic!("{error}: {object}"));
        assert!(
            object["task"].is_string() && object["level"].is_string(),
            "{object}"
        );
        assert!(object["id"] != "0" && object["task"] != "none", "{object}");
    }
    let of = |words: &str| {
        let found = told
            .iter()
            .find(|object| object["msg"].as_str().unwrap().starts_with(words));
        found.unwrap_or_else(|| panic!("nobody said {words:?}: {told:#?}"))
    };
    let stored = of("stored");
    for (name, value) in [
        ("task", "iseshlr0"),
        ("level", "info"),
        ("id", &id),
        ("from", forged),
        ("client", "127.0.0.1"),
    ] {
        assert_eq!(stored[name], value, "{stored}");
    }
    assert_eq!(stored["recipients"], 1);
    assert!(stored["size"].as_u64().unwrap() > 10, "{stored}");
    let sent = of("transmitted 250");
    for (name, value) in [("task", "oseshlr0"), ("id", &id), ("to", "jdoe@ibm.com")] {
        assert_eq!(sent[name], value, "{sent}");
    }
    // Every line of both dialogues.
    for (words, task) in [
        ("C: MAIL FROM:", "iseshlr0"),
        ("S: 354 ", "iseshlr0"),
        ("C: EHLO mta.test", "oseshlr0"),
    ] {
        assert_eq!(of(words)["task"], task, "{words}");
    }
    assert_eq!(of("C: NOOP")["client"], "127.0.0.1");
}

/// What the system's log is told next that holds this word.
#[track_caller]
fn heard(daemon: &UnixDatagram, word: &str) -> String {
    let mut packet = [0; 8192];
    daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    loop {
        let length = daemon.recv(&mut packet).unwrap();
        let told = String::from_utf8_lossy(&packet[..length]).into_owned();
        if told.contains(word) {
            return told;
        }
    }
}

#[test]
fn the_systems_log_is_told_and_when_its_daemon_comes_late_or_is_started_anew_nothing_is_lost() {
    let mut world = World::without_mta(&["--syslog"]);
    let socket = world.path("socket");
    let socket = Path::new(&socket);
    world.environment("SMTPMTA_SYSLOG", socket.to_owned());
    world.start();
    let send = || {
        let id = Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("logged"));
        format!("id={id} ")
    };
    let first = send();
    let daemon = UnixDatagram::bind(socket).unwrap();
    // Whichever comes first: a client need not wait for the one to bring the other.
    let is_told = |word: &str, lines: &[String]| lines.iter().position(|line| line.contains(word));
    let mut lines = Vec::new();
    while is_told(" started, spool ", &lines).is_none() || is_told(" stored", &lines).is_none() {
        lines.push(heard(&daemon, ""));
    }
    let told = is_told(" stored", &lines)
        .map(|place| lines.swap_remove(place))
        .unwrap();
    assert!(told.starts_with("<22>"), "{told}");
    let (_, told) = told.split_once(" smtpmta[").unwrap();
    let (pid, told) = told.split_once("]: ").unwrap();
    assert!(pid.parse::<u32>().is_ok(), "{pid}");
    let form = format!("iseshlr0 {first}from=<bsmith@univac.com> recipients=1 size=");
    assert!(told.starts_with(&form) && told.ends_with(" stored"), "{told}");
    drop(daemon);
    let meanwhile = [send(), send()];
    fs::remove_file(socket).unwrap();
    let daemon = UnixDatagram::bind(socket).unwrap();
    for id in meanwhile {
        assert!(heard(&daemon, " stored").contains(&id));
    }
    let then = send();
    assert!(heard(&daemon, " stored").contains(&then));
    // Its last words are for somebody all the same.
    drop(daemon);
    let (status, took) = world.terminate();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(world.said_of("smtpmta stopped").len(), 1);
}
