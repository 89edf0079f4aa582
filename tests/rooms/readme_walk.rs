//! README.md is walked through: every command of its blocks is run, in its order, in a home of its own, or stands in the
//! table of those that are not, with the reason.
//!
//! The lines are run as they stand, by a shell: where the README has a fixed port or a folder of the system, this world has
//! another one, and its `cargo run` is the program that was built for the tests.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::readme::{blocks, page};
use crate::support::client::{Client, letter};
use crate::support::daemon::Daemon;
use crate::support::dns_server::DnsServer;
use crate::support::world::{HOSTNAME, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_smtpmta");

/// How a command is run, and what is expected of it.
enum Step {
    /// Once: its exit status, and words of what it says.
    Do(i32, &'static str),
    /// Again and again until it is so: what it looks at comes by itself.
    Look(i32, &'static str),
    /// It runs on under this name, and says this when it is ready. Who had the name before is stopped.
    Start(&'static str, &'static str),
    /// It brings a letter to this recipient; where the program for it is missing, the test does.
    Mail(&'static str),
    /// A line of a crontab.
    Cron,
}

use Step::{Cron, Do, Look, Mail, Start};

/// The commands that are run, in the order of the README, by what they begin with.
const WALK: &[(&str, Step)] = &[
    ("cargo run --release", Start("first", "Listening on SMTP port")),
    (
        "printf 'Subject: Hello\\n\\nHello World\\n' | curl --crlf smtp://",
        Mail("me@mta.test"),
    ),
    (
        "swaks --server 127.0.0.1:2525 --from me@example.org --to me@$(hostname)",
        Mail("me@mta.test"),
    ),
    ("cat spool/mail/$(hostname)/me/new/*", Look(0, "Hello World")),
    (
        "sqlite3 -readonly -box spool/queue.db 'SELECT at, id, event",
        Look(0, "delivered"),
    ),
    (
        "target/release/smtpmta show tasks",
        Look(0, "SMTPMTA iseshlr0 Idle"),
    ),
    (
        "target/release/smtpmta show queue",
        Do(0, "The outbound work queue is empty"),
    ),
    (
        "target/release/smtpmta queue list",
        Look(1, "nothing in the work queues"),
    ),
    (
        "target/release/smtpmta show lists",
        Do(0, "There are no domain lists"),
    ),
    (
        "target/release/smtpmta show hops",
        Do(0, "No next hop has been used yet"),
    ),
    ("target/release/smtpmta show stat", Do(0, "Mail.")),
    ("target/release/smtpmta show config", Do(0, "hostname")),
    (
        "target/release/smtpmta show --json tasks",
        Do(0, "\"task\":\"omsgcnv\""),
    ),
    ("target/release/smtpmta doctor", Do(0, "strangers are refused")),
    ("target/release/smtpmta verify --account", Do(0, "in order")),
    ("target/release/smtpmta backup ./copy", Do(0, "2 messages")),
    ("target/release/smtpmta verify ./copy", Do(0, "in order")),
    (
        "30 2 * * * cd /backup && smtpmta -c /etc/smtpmta/smtpmta.conf backup new",
        Cron,
    ),
    (
        "cargo run --release -- --http 127.0.0.1:9125",
        Start("first", "Listening on HTTP port"),
    ),
    ("curl http://127.0.0.1:9125/healthz", Do(0, "ok")),
    (
        "target/release/smtpmta --spool ./spool/other",
        Start("other", "Listening on SMTP port"),
    ),
    (
        "cargo run --release -- --relay-host 127.0.0.1:2526",
        Start("first", "Listening on SMTP port"),
    ),
    (
        "target/release/smtpmta tell smtpmta stop outbound transport",
        Do(0, "stopped"),
    ),
    (
        "swaks --server 127.0.0.1:2525 --from me@example.org --to you@example.com --silent",
        Mail("you@example.com"),
    ),
    (
        "swaks --server 127.0.0.1:2525 --from me@example.org --to you@example.com --silent",
        Mail("you@example.com"),
    ),
    (
        "sqlite3 -readonly -box spool/queue.db 'SELECT id, state",
        Look(0, "WQ_PENDING_XMIT"),
    ),
    (
        "target/release/smtpmta tell smtpmta start outbound transport",
        Do(0, "started"),
    ),
    ("target/release/smtpmta show tasks", Look(0, "SMTPMTA oseshlr0 ")),
    (
        "sqlite3 -readonly -box spool/queue.db 'SELECT at, event, recipient, text",
        Look(0, "transmitted"),
    ),
    (
        "ls spool/other/mail/example.com/you/new",
        Look(0, "other.example"),
    ),
    (
        "target/release/smtpmta --relay-host 127.0.0.1:2526 route you@example.com --connect",
        Do(0, "RCPT TO:<you@example.com>"),
    ),
    (
        "printf 'EHLO there\\nMAIL FROM:<>\\nRCPT TO:<you@example.com>\\n' | target/release/smtpmta",
        Do(0, "550 5.7.1"),
    ),
    (
        "target/release/smtpmta sink --dialogue --fault 'rcpt[bob@*]=452'",
        Start("other", "listening on"),
    ),
    (
        "cargo run --release -- --relay-host 127.0.0.1:2526 --retry-schedule 5s",
        Start("first", "Listening on SMTP port"),
    ),
    (
        "swaks --server 127.0.0.1:2525 --from me@$(hostname) --to bob@example.com,",
        Mail("bob@example.com"),
    ),
    ("target/release/smtpmta show hops", Look(0, "127.0.0.1")),
    (
        "sqlite3 -readonly -box spool/queue.db 'SELECT at, event, recipient, text",
        Look(0, "bob@example.com"),
    ),
    ("openssl req -x509 -newkey ec", Do(0, "")),
    ("install -m 600 /dev/null accounts", Do(0, "")),
    (
        "target/release/smtpmta passwd me@example.org >> accounts",
        Do(0, ""),
    ),
    (
        "cargo run --release -- --local-domain example.org --accounts accounts",
        Start("first", "Listening on SMTP port"),
    ),
    (
        "swaks --server localhost:2587 --tls --tls-verify",
        Mail("me@example.org"),
    ),
    (
        "printf 'Subject: Hello\\n\\nHello World\\n' | curl --crlf smtps://",
        Mail("me@example.org"),
    ),
    ("cat spool/mail/example.org/me/new/*", Look(0, "Received: from ")),
    (
        "target/release/smtpmta passwd you@example.org >> accounts",
        Do(0, ""),
    ),
    ("target/release/smtpmta tell refresh", Do(0, "read again")),
    ("install -m 600 /dev/null relay-auth", Do(0, "")),
    (
        "echo 'smtp.example.net:587 user@example.net:password' >> relay-auth",
        Do(0, ""),
    ),
    (
        "cargo run --release -- --relay-host smtp.example.net:587 --relay-auth",
        Start("first", "Listening on SMTP port"),
    ),
    (
        "target/release/smtpmta passwd me@example.org >> /etc/dovecot/users",
        Do(0, ""),
    ),
    (
        "/usr/local/sbin/smtpmta --user smtpmta --spool /var/spool/smtpmta",
        Start("first", "Listening on SMTP port"),
    ),
    (
        "target/release/smtpmta --spool /var/spool/smtpmta --local-domain example.org",
        Do(0, "RCPT TO:<me+lists@example.org>"),
    ),
    (
        "swaks --server 127.0.0.1:2525 --from me@example.org --to me@example.org",
        Mail("me@example.org"),
    ),
    (
        "echo Hello | target/release/smtpmta --spool spool sendmail -F Me you@example.com",
        Do(0, ""),
    ),
    (
        "target/release/smtpmta --spool spool mailq",
        Do(0, "you@example.com"),
    ),
    (
        "target/release/smtpmta -c smtpmta.conf --check",
        Do(0, "the configuration is in order"),
    ),
    (
        "target/release/smtpmta -c smtpmta.conf",
        Start("first", "Listening on SMTP port"),
    ),
    (
        "target/release/smtpmta queue export --dry-run --all /root/moved",
        Do(0, "would be exported"),
    ),
    (
        "target/release/smtpmta queue export --all /root/moved",
        Do(0, "exported"),
    ),
    (
        "target/release/smtpmta queue import /root/moved",
        Do(0, "imported"),
    ),
    ("target/release/smtpmta verify --account", Do(0, "in order")),
    ("smtpmta --check", Do(0, "the configuration is in order")),
    ("smtpmta show tasks", Do(0, "SMTPMTA drt ")),
];

/// Commands that are not run here, by what they begin with, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("cargo test", "it is what runs this"),
    ("cargo build", "it has built what runs this"),
    ("cargo install", "it fetches a program from the Internet"),
    ("cargo deb", "it builds a package, and needs cargo-deb"),
    ("apt ", "it changes the system"),
    ("useradd ", "it changes the system"),
    ("install target/release/smtpmta ", "it changes the system"),
    (
        "install -m 640 -g dovecot ",
        "it changes the system, and needs the group of Dovecot",
    ),
    ("doveadm ", "it needs Dovecot"),
    ("ln -s /usr/local/sbin/smtpmta /usr/", "it changes the system"),
    ("scp ", "it needs a second machine"),
    (
        "etc/install.sh install",
        "it changes the system; rooms::install runs it into a folder",
    ),
    ("systemctl ", "it needs systemd"),
    ("tests/nothing-lost", "it takes three hours"),
    ("benches/peers.sh", "it installs other MTAs"),
];

/// Lines of the blocks that show what is said, not what to say, by what they begin with.
const SAID: &[&str] = &[
    "SMTPMTA ",
    "smtpmta sink: ",
    "┌",
    "│",
    "├",
    "└",
    "Received: ",
    "\t",
    "example.org.  MX",
];

/// Where the README listens; the program that listens there is that of the name.
const PORTS: [(&str, &str, usize); 5] = [
    (":2525", "first", 0),
    (":2587", "first", 1),
    (":2465", "first", 2),
    (":2526", "other", 0),
    (":9125", "first", 0),
];

/// All commands of the blocks, one a line, lines that a backslash continues with those behind it.
fn commands(page: &str) -> Vec<String> {
    let all = blocks(page, "").join("\n").replace("\\\n", " ");
    let lines = all
        .lines()
        .filter(|line| !SAID.iter().any(|begin| line.starts_with(begin)));
    let blanks = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.map(blanks).filter(|line| !line.is_empty()).collect()
}

/// Whether the shell finds this program.
fn is_there(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// The folder in which all of it is done.
struct Home {
    folder: TempDir,
    running: BTreeMap<&'static str, Daemon>,
    ports: BTreeMap<&'static str, SocketAddr>,
    lmtp: Option<(Daemon, SocketAddr)>,
}

impl Home {
    fn new(dns: &DnsServer) -> Home {
        let home = Home {
            folder: tempfile::tempdir().unwrap(),
            running: BTreeMap::new(),
            ports: BTreeMap::new(),
            lmtp: None,
        };
        for folder in ["bin", "target/release", "backup", "host"] {
            fs::create_dir_all(home.path(folder)).unwrap();
        }
        let here = home.folder.path().display().to_string();
        let usual = format!("hostname {HOSTNAME}\nlisten 127.0.0.1:0\ndns {}\n", dns.address());
        fs::write(home.path("usual.conf"), &usual).unwrap();
        fs::write(home.path("host.conf"), format!("{usual}spool {here}/spool\n")).unwrap();
        fs::write(home.path("smtpmta.conf"), blocks(&page(), "conf")[0]).unwrap();
        // What this machine is configured to be, and what it is called, is of no interest.
        let program = format!(
            "case \" $* \" in *\" -c \"*) exec {PROGRAM} \"$@\";; esac\nexec {PROGRAM} -c {here}/usual.conf \"$@\""
        );
        let cargo = format!("shift 2; [ \"$1\" = -- ] && shift; exec {here}/target/release/smtpmta \"$@\"");
        for (name, text) in [
            ("target/release/smtpmta", &program),
            ("bin/cargo", &cargo),
            ("bin/hostname", &format!("echo {HOSTNAME}")),
        ] {
            fs::write(home.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(home.path(name), Permissions::from_mode(0o755)).unwrap();
        }
        symlink(home.path("target/release/smtpmta"), home.path("bin/smtpmta")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The line with what this home has in place of the README's ports and folders. A port at which nobody listens is one
    /// that is to be opened.
    fn here(&self, line: &str) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        let mut line = line
            .replace("/root/moved", &at("moved"))
            .replace("/backup", &at("backup"))
            .replace("/etc/dovecot/users", &at("users"))
            .replace("/var/spool/smtpmta", &at("host/spool"))
            .replace(
                "/usr/local/sbin/smtpmta --user smtpmta",
                &at("target/release/smtpmta"),
            )
            .replace("/etc/smtpmta/smtpmta.conf", &at("host.conf"));
        if let Some((_, address)) = &self.lmtp {
            line = line.replace("/run/dovecot/lmtp", &address.to_string());
        }
        for (port, ..) in PORTS {
            let real = self.ports.get(port).map_or(0, SocketAddr::port);
            line = line.replace(port, &format!(":{real}"));
        }
        line
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(["-c", line])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it, with a password for who asks for one; its exit status, and all that it said.
    fn run(&self, line: &str) -> (Option<i32>, String) {
        let mut child = self.shell(line).spawn().unwrap();
        // Who asks for nothing needs nothing.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"secret\n");
        let said = child.wait_with_output().unwrap();
        let both = [said.stdout, said.stderr].concat();
        (said.status.code(), String::from_utf8_lossy(&both).into_owned())
    }

    #[track_caller]
    fn expect(&self, line: &str, status: i32, words: &str) -> Result<(), (Option<i32>, String)> {
        let (ended, said) = self.run(line);
        match ended == Some(status) && said.contains(words) {
            true => Ok(()),
            false => Err((ended, said)),
        }
    }

    fn stop(&mut self, name: &str) {
        if let Some(daemon) = self.running.remove(name) {
            daemon.signal(Signal::SIGTERM);
            let (status, said) = daemon.last_words();
            assert_eq!(status, Some(0), "{said}");
        }
        let of = |port: &str| {
            PORTS
                .iter()
                .any(|(known, whose, _)| *known == port && *whose == name)
        };
        self.ports.retain(|port, _| !of(port));
    }

    fn start(&mut self, name: &'static str, line: &str, ready: &str) {
        self.stop(name);
        let extra = match line {
            line if line.contains(" sink ") => " --listen 127.0.0.1:0",
            // Its own file says where to listen, and of whom nothing is asked here.
            line if line.contains(" -c ") => " --listen 127.0.0.1:0 --dns 127.0.0.1:1",
            _ => "",
        };
        let line = format!("exec {}{extra}", self.here(line));
        let daemon = Daemon::run(&mut self.shell(&line));
        let said = daemon.wait_for_line(ready);
        if ready.contains("HTTP") {
            self.ports
                .insert(":9125", said.rsplit(' ').next().unwrap().parse().unwrap());
        }
        let number = if line.contains("--listen-submissions") {
            3
        } else {
            1
        };
        let at = match said.starts_with("smtpmta sink: ") {
            true => vec![said.rsplit(' ').next().unwrap().parse().unwrap()],
            false => daemon.addresses(number),
        };
        let own = PORTS
            .iter()
            .filter(|(port, whose, _)| *whose == name && *port != ":9125");
        for (port, _, index) in own {
            self.ports.extend(at.get(*index).map(|at| (*port, *at)));
        }
        self.running.insert(name, daemon);
    }

    /// Brings a letter as the line says, where its program is there.
    fn bring(&self, line: &str, to: &str) {
        let program = if line.contains("| curl ") { "curl" } else { "swaks" };
        let knows_tls = || program == "curl" || self.run("perl -MNet::SSLeay -e 1").0 == Some(0);
        if is_there(program) && (!line.contains("--tls") || knows_tls()) {
            // curl asks the terminal, which a test has not.
            let line = self
                .here(line)
                .replace("--user me@example.org", "--user me@example.org:secret");
            let (status, said) = self.run(&line);
            assert_eq!(status, Some(0), "{line}\n{said}");
        } else {
            let mut client = Client::try_greet(self.ports[":2525"]).unwrap();
            client.mail("me@example.org", &[to], &letter("Hello World"));
        }
    }

    fn step(&mut self, line: &str, step: &Step) {
        let program = line.split_whitespace().next().unwrap();
        let is_ours = program.contains("smtpmta") || ["cargo", "printf", "echo"].contains(&program);
        match step {
            Start(name, ready) => self.start(name, line, ready),
            Mail(to) => self.bring(line, to),
            Cron => {
                let (_, line) = line.split_once("* * * ").unwrap();
                let line = self.here(&line.replace("\\%", "%"));
                assert_eq!(self.expect(&line, 0, ""), Ok(()), "{line}");
                assert_eq!(fs::read_dir(self.path("backup")).unwrap().count(), 1);
            }
            Do(..) if program == "openssl" && !is_there(program) => self.certify(),
            Do(..) | Look(..) if !is_ours && !is_there(program) => {}
            Do(status, words) => {
                let line = self.here(line);
                assert_eq!(self.expect(&line, *status, words), Ok(()), "{line}");
            }
            Look(status, words) => {
                let line = self.here(line);
                eventually(&line, || self.expect(&line, *status, words));
            }
        }
    }

    /// Makes the certificate that openssl would make.
    fn certify(&self) {
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        fs::write(self.path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }
}

#[test]
fn every_command_of_its_blocks_is_run_in_its_order_or_there_is_a_reason_why_not() {
    let dns = DnsServer::start();
    dns.a(HOSTNAME, "192.0.2.1").ptr("192.0.2.1", HOSTNAME);
    let mut home = Home::new(&dns);
    let mut walk = WALK.iter();
    for line in commands(&page()) {
        if NOT_HERE.iter().any(|(begin, _)| line.starts_with(begin)) {
            continue;
        }
        let (begin, step) = walk.next().unwrap_or(&("the end", Cron));
        assert!(
            line.starts_with(begin),
            "{line}\nis what the README says next, and WALK: {begin}"
        );
        if line.contains("--lmtp ") && home.lmtp.is_none() {
            // It stands for Dovecot.
            let words = ["sink", "--lmtp", "--listen", "127.0.0.1:0"].map(str::to_owned);
            let sink = Daemon::spawn(&words);
            let at = sink.wait_for_line("listening on");
            home.lmtp = Some((sink, at.rsplit(' ').next().unwrap().parse().unwrap()));
        }
        home.step(&line, step);
    }
    assert!(walk.next().is_none(), "WALK has commands that the README has not");
    let used = |begin: &str| commands(&page()).iter().any(|line| line.starts_with(begin));
    for (begin, why) in NOT_HERE {
        assert!(used(begin), "{begin} ({why}) stands in the README no more");
    }
    assert!(Path::new(&home.path("moved")).exists());
}
