//! What a refresh takes over: each option of the table holds at once, or from the next start on, which is said, or is refused;
//! and what is wrong changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};
use smtpmta::config::flags::{self, AtRefresh, Opt};

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::world::{HOSTNAME, World, eventually};

/// The configuration that is refreshed, but for the option that is looked at.
const BASE: [(&str, &str); 5] = [
    ("hostname", HOSTNAME),
    ("listen", "127.0.0.1:0"),
    ("dns", "127.0.0.1:1"),
    ("relay-from", "none"),
    ("http", "127.0.0.1:0"),
];

/// Files that a refresh reads configuration in, so that what stands there is obeyed anew.
const READ_AGAIN: [&str; 10] = [
    "src/addin/crew.rs",
    "src/addin/files.rs",
    "src/addin/housekeeping.rs",
    "src/addin/onlookers.rs",
    "src/addin/orders.rs",
    "src/domain_list/guide.rs",
    "src/log_book.rs",
    "src/maildrop/collector.rs",
    "src/outbound/hosts.rs",
    "src/outbound/security.rs",
];

/// What is looked at.
#[derive(Clone, Copy)]
enum Look {
    /// What a client hears who greets, and offers a letter to several.
    Dialogue,
    /// What a second client hears at once.
    Second,
    /// Whether somebody takes a connection at the address that the row names.
    At,
    /// The metrics.
    Metrics,
    /// Next hops of what waits, after a letter to this recipient has been left.
    Led(&'static str),
    /// `show hop foreign.test`.
    Hop,
    /// What is in the file that the row names, or which folders are there.
    File,
    /// What the system's log gets.
    Syslog,
}

/// An option, the lines that give it another value, how that shows, and what is seen then and not before.
type Row = (&'static str, String, Look, String);

struct Stage {
    world: World,
    syslog: UnixDatagram,
}

impl Stage {
    fn begin() -> Stage {
        let mut world = World::without_mta(&[]);
        let syslog = UnixDatagram::bind(world.path("syslog")).unwrap();
        syslog.set_nonblocking(true).unwrap();
        world.environment("SMTPMTA_SYSLOG", world.path("syslog").into());
        configure(&world, "");
        world.start();
        Stage { world, syslog }
    }

    /// Where a task listens now, as `show tasks` tells.
    fn port(&self, task: &str) -> SocketAddr {
        // Where it has just been started it says so first.
        eventually(task, || {
            let tasks = self.world.show("tasks");
            let mut lines = tasks.lines();
            let line = lines.find(|line| line.starts_with(&format!("SMTPMTA {task} Listening")));
            let at = line.and_then(|line| line.split(' ').find_map(|word| word.parse().ok()));
            at.ok_or(tasks)
        })
    }

    fn look(&self, look: Look, lines: &str) -> String {
        // The last line names what the look is for.
        let named = lines
            .lines()
            .last()
            .unwrap_or_default()
            .split(' ')
            .next_back()
            .unwrap();
        let client = || Client::try_greet(self.port("isesctl"));
        match look {
            Look::Dialogue => dialogue(self.port("isesctl")),
            Look::Second => {
                let _first = client();
                let mut second = Client::connect(self.port("isesctl"));
                second.try_reply().unwrap_or_else(|error| error.to_string())
            }
            Look::At => match named.parse::<SocketAddr>().map(TcpStream::connect) {
                Ok(Ok(_)) => "taken".to_owned(),
                _ => String::new(),
            },
            Look::Metrics => {
                let mut stream = TcpStream::connect(self.port("http")).unwrap();
                std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
                std::io::read_to_string(stream).unwrap()
            }
            Look::Led(to) => {
                assert_eq!(self.world.leave(&[to], b"Subject: x\n\nx\n"), Some(0));
                self.world
                    .sql("SELECT DISTINCT next_hop FROM outbound_work_queue")
            }
            Look::Hop => self.world.show("hop foreign.test"),
            Look::File => {
                assert_eq!(self.world.leave(&["u@mta.test"], b"Subject: x\n\nx\n"), Some(0));
                dialogue(self.port("isesctl"));
                let file = Path::new(named.split('%').next().unwrap());
                let folder =
                    fs::read_dir(file).map(|all| all.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
                folder.map_or_else(
                    |_| fs::read_to_string(file).unwrap_or_default(),
                    |all| format!("{all:?}"),
                )
            }
            Look::Syslog => {
                dialogue(self.port("isesctl"));
                let mut text = [0; 4096];
                let length = self.syslog.recv(&mut text).unwrap_or(0);
                String::from_utf8_lossy(&text[..length]).into_owned()
            }
        }
    }
}

/// All that a client says and hears.
fn dialogue(at: SocketAddr) -> String {
    let mut client = Client::connect(at);
    let mut told = client.reply();
    for line in [
        "EHLO there",
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<u@mta.test>",
        "RCPT TO:<nobody@mta.test>",
        "RCPT TO:<u@new.test>",
        "RCPT TO:<x@foreign.test>",
        "DATA",
        "Received: one\r\nReceived: two\r\nReceived: three\r\n\r\nx\r\n.",
        "QUIT",
    ] {
        told += &format!("{line} -> {}", client.say(line));
    }
    told
}

/// The base, with these lines in place of those of the same options.
fn configure(world: &World, lines: &str) {
    let given: BTreeSet<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
    let rest = BASE.iter().filter(|(option, _)| !given.contains(option));
    let rest: String = rest
        .map(|(option, value)| format!("{option} {value}\n"))
        .collect();
    world.write("smtpmta.conf", format!("{rest}{lines}"));
}

/// A port where nobody listens.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn rows(world: &World) -> Vec<Row> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["mta.test".to_owned()]).unwrap();
    let cert = world.write("cert.pem", params.self_signed(&key).unwrap().pem());
    let key = world.write("key.pem", key.serialize_pem());
    let tls = format!("tls-cert {cert}\ntls-key {key}\n");
    let accounts = format!(
        "accounts {}\n",
        world.write("accounts", "u@mta.test:{PLAIN}secret\n")
    );
    let place = |name: &str| world.path(name);
    let line = |option: &str, value: &str| format!("{option} {value}\n");
    let (submission, submissions, listen, http) = (free(), free(), free(), free());
    let row = |option, lines: String, look, shows: &str| (option, lines, look, shows.to_owned());
    use Look::*;
    vec![
        row(
            "hostname",
            line("hostname", "other.test"),
            Dialogue,
            "220 other.test ",
        ),
        row(
            "max-message-size",
            line("max-message-size", "2048"),
            Dialogue,
            "SIZE 2048",
        ),
        row(
            "max-recipients",
            line("max-recipients", "7"),
            Dialogue,
            "RCPTMAX=7",
        ),
        row("max-hops", line("max-hops", "2"), Dialogue, "554 5.4.6"),
        row(
            "local-domain",
            line("local-domain", "new.test"),
            Dialogue,
            "RCPT TO:<u@new.test> -> 250",
        ),
        row(
            "relay-from",
            line("relay-from", "127.0.0.1"),
            Dialogue,
            "RCPT TO:<x@foreign.test> -> 250",
        ),
        row(
            "accounts",
            accounts.clone(),
            Dialogue,
            "RCPT TO:<nobody@mta.test> -> 550",
        ),
        row("tls-cert", tls.clone(), Dialogue, "STARTTLS"),
        row("tls-key", tls.clone(), Dialogue, "STARTTLS"),
        row(
            "max-sessions-per-client",
            line("max-sessions-per-client", "1"),
            Second,
            "421 ",
        ),
        row(
            "max-inbound-handlers",
            line("max-inbound-handlers", "7"),
            Metrics,
            "smtpmta_handlers_limit{direction=\"inbound\"} 7",
        ),
        row(
            "max-outbound-handlers",
            line("max-outbound-handlers", "9"),
            Metrics,
            "smtpmta_handlers_limit{direction=\"outbound\"} 9",
        ),
        row("http", line("http", &http.to_string()), At, "taken"),
        row(
            "listen-submission",
            tls.clone() + &accounts + &line("listen-submission", &submission.to_string()),
            At,
            "taken",
        ),
        row(
            "listen-submissions",
            tls + &accounts + &line("listen-submissions", &submissions.to_string()),
            At,
            "taken",
        ),
        row(
            "relay-host",
            line("relay-host", "127.0.0.1:9"),
            Led("x@foreign.test"),
            "127.0.0.1:9",
        ),
        row(
            "route",
            line("route", "foreign.test=127.0.0.1:10"),
            Led("x@foreign.test"),
            "127.0.0.1:10",
        ),
        row(
            "lmtp",
            line("lmtp", "127.0.0.1:11"),
            Led("u@mta.test"),
            "lmtp:127.0.0.1:11",
        ),
        row("hop-rate", line("hop-rate", "foreign.test=6/1m"), Hop, "6/1m"),
        row("mail-dir", line("mail-dir", &place("other/%u")), File, "other/u"),
        row(
            "log-level",
            format!("log-level verbose\nlog-file {}\n", place("log1")),
            File,
            "EHLO there",
        ),
        row("log-file", line("log-file", &place("log2")), File, " stored"),
        row(
            "log-json",
            format!("log-json\nlog-file {}\n", place("log3")),
            File,
            "{\"",
        ),
        row("syslog", line("syslog", "on"), Syslog, "smtpmta"),
        row("listen", line("listen", &listen.to_string()), At, "taken"),
    ]
}

#[test]
fn what_a_refresh_takes_over_shows_at_once() {
    let stage = Stage::begin();
    for (option, lines, look, shows) in rows(&stage.world) {
        let before = stage.look(look, &lines);
        assert!(!before.contains(&shows), "{option}: {before}");
        assert_eq!(
            flags::find(option).unwrap().at_refresh,
            AtRefresh::Holds,
            "{option}"
        );
        configure(&stage.world, &lines);
        assert_eq!(
            stage.world.tell("refresh"),
            "the configuration has been read again\n",
            "{option}"
        );
        eventually(&format!("{option}: {shows:?}"), || {
            let seen = stage.look(look, &lines);
            if seen.contains(&shows) { Ok(()) } else { Err(seen) }
        });
        configure(&stage.world, "");
        stage.world.tell("refresh");
    }
}

/// The name of the field that keeps an option, by the table's source.
fn field(option: &Opt) -> String {
    let table =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/flags.rs")).unwrap();
    let (_, behind) = table
        .split_once(&format!("Opt::new(\n                \"{}\",", option.name))
        .unwrap();
    let (_, field) = behind.split_once("c.").unwrap();
    field
        .split(|sign: char| !sign.is_alphanumeric() && sign != '_')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn what_a_refresh_takes_over_is_read_where_it_begins_anew_and_what_it_does_not_nowhere_there() {
    let read = |file: &&str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    // What the tests of these files do is of no interest.
    let product = |text: String| text.split("#[cfg(test)]").next().unwrap().to_owned();
    let anew: String = READ_AGAIN.iter().map(read).map(product).collect();
    // The door of the configuration has the router.
    let anew = anew + "config.router() config.routes config.relay_host config.lmtp";
    for option in flags::options().filter(|option| !option.flag_only()) {
        let field = field(option);
        let words = format!("config.{field}");
        let is_read = anew.match_indices(&words).any(|(at, _)| {
            !anew[at + words.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
        });
        let is_obeyed = option.at_refresh == AtRefresh::Holds;
        assert_eq!(
            is_read, is_obeyed,
            "{}: whether {words} is read at a refresh",
            option.name
        );
    }
}

#[test]
fn what_holds_from_the_next_start_on_is_said_as_long_as_it_is_so_and_a_new_spool_is_refused() {
    let mut world = World::without_mta(&[]);
    configure(&world, "");
    world.start();
    let values = [
        ("pid-file", world.path("pid")),
        ("daemon", "on".to_owned()),
        ("user", "nobody".to_owned()),
        ("group", "0".to_owned()),
        ("sandbox", "off".to_owned()),
    ];
    let told: BTreeSet<&str> = values.iter().map(|(option, _)| *option).collect();
    let of = |what| {
        flags::options()
            .filter(move |option| option.at_refresh == what)
            .map(|option| option.name)
    };
    assert_eq!(of(AtRefresh::NextStart).collect::<BTreeSet<_>>(), told);
    for (option, value) in &values {
        let said = format!("{option} holds from the next start on\n");
        // That a daemon logs elsewhere is another option's business.
        let lines = format!("{option} {value}\nlog-file {}\n", world.path("log"));
        configure(&world, &lines);
        assert_eq!(
            world.tell("refresh"),
            format!("the configuration has been read again\n{said}")
        );
        assert!(world.tell("refresh").ends_with(&said), "it is so still");
        configure(&world, "");
        assert_eq!(
            world.tell("refresh"),
            "the configuration has been read again\n",
            "{option}"
        );
    }
    assert!(!Path::new(&world.path("pid")).exists());
    assert_eq!(of(AtRefresh::Refused).collect::<Vec<_>>(), ["spool"]);
    let spool = |name: &str| {
        let base = "hostname mta.test\nlisten 127.0.0.1:0\ndns 127.0.0.1:1\n";
        world.write("own.conf", format!("{base}spool {}\n", world.path(name)))
    };
    let other = Daemon::spawn(&["-c".to_owned(), spool("one")]);
    other.wait_for_word(" started, spool ");
    spool("two");
    other.signal(Signal::SIGHUP);
    other.wait_for_word("the spool can not be changed while the MTA runs; the configuration stays as it was");
    assert!(!Path::new(&world.path("two")).exists());
}

#[test]
fn what_can_not_be_had_is_refused_as_a_whole_and_everything_stays_as_it_was() {
    let stage = Stage::begin();
    let world = &stage.world;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let before = (world.show("config"), stage.port("isesctl"));
    for (lines, status, wrong) in [
        (
            format!("listen {taken}\n"),
            75,
            format!("can not listen on {taken}"),
        ),
        (
            format!("http {taken}\n"),
            75,
            format!("can not listen on {taken}"),
        ),
        (
            format!("log-file {}\n", world.path("none/log")),
            78,
            format!("log-file: {}: No such file", world.path("none/log")),
        ),
        (
            "user no-such-user\n".to_owned(),
            78,
            "user: \"no-such-user\": no such user".to_owned(),
        ),
        ("group no-such-group\n".to_owned(), 78, "no such group".to_owned()),
        ("accounts none-there\n".to_owned(), 78, "none-there".to_owned()),
        (
            "max-recipients many\n".to_owned(),
            78,
            "max-recipients: \"many\"".to_owned(),
        ),
        (
            "tls-key key.pem\n".to_owned(),
            78,
            "expected tls-cert beside it".to_owned(),
        ),
    ] {
        // Something that would show if it were taken over.
        configure(world, &format!("{lines}max-hops 2\n"));
        let answer = world.ask("tell refresh");
        assert_eq!(answer.status, status, "{lines}: {answer:?}");
        assert!(answer.complaint.contains(&wrong), "{lines}: {answer:?}");
        assert!(
            answer.complaint.ends_with("the configuration stays as it was\n"),
            "{answer:?}"
        );
        assert_eq!((world.show("config"), stage.port("isesctl")), before, "{lines}");
        assert!(dialogue(before.1).contains("-> 250 2.6.0"), "{lines}");
    }
}
