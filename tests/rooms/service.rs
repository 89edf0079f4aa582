//! The MTA as a service of the system: a daemon, with a user's rights alone, with what a service manager gives and wants to
//! know, and confined.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, chown};

use crate::support::client::{Client, letter};
use crate::support::sink::Sink;
use crate::support::world::{PATIENCE, World, eventually, files};

/// The user who has nothing to do with the MTA.
const NOBODY: u32 = 65534;

/// That it stays who it is, which root has to say.
fn itself() -> &'static [&'static str] {
    match Uid::effective().is_root() {
        true => &["--user", "root"],
        false => &[],
    }
}

/// A process that is ended when the test is.
struct Guard(Pid);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// The call of the program on the spool of `world` and with these words.
fn program(world: &World, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtpmta"));
    command
        .args(["-c", &world.path("smtpmta.conf"), "-s", &world.path("spool")])
        .args(words)
        .stdin(Stdio::null());
    command
}

/// Goes to the background with these words; what the command said, and the daemon.
fn daemon(world: &World, words: &[&str]) -> (Output, Guard) {
    begin(world, program(world, &[]), words)
}

/// The same, by such a call of it.
fn begin(world: &World, mut command: Command, words: &[&str]) -> (Output, Guard) {
    let file = world.path("pid");
    command.args(["-d", "--pid-file", &file, "--log-file", &world.path("log")]);
    let said = command.args(words).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let pid = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    (said, Guard(Pid::from_raw(pid)))
}

/// Where it listens, as it said.
fn address(said: &Output) -> SocketAddr {
    let said = String::from_utf8_lossy(&said.stdout);
    let port = said
        .lines()
        .find_map(|line| line.split_once("Listening on SMTP port "));
    port.unwrap_or_else(|| panic!("{said}")).1.parse().unwrap()
}

/// A line of what the system says of a process.
fn status(daemon: &Guard, line: &str) -> String {
    let all = fs::read_to_string(format!("/proc/{}/status", daemon.0)).unwrap();
    let found = all.lines().find_map(|found| found.strip_prefix(line));
    let words: Vec<&str> = found.unwrap().split_whitespace().collect();
    words.join(" ")
}

fn greet(address: SocketAddr) -> Client {
    Client::try_greet(address).unwrap()
}

fn ends(daemon: &Guard) {
    kill(daemon.0, Signal::SIGTERM).unwrap();
    eventually("the end of the daemon", || match kill(daemon.0, None) {
        Err(_) => Ok(()),
        Ok(()) => Err("it runs"),
    });
}

#[test]
fn a_daemon_lets_go_of_who_started_it_when_it_accepts_mail() {
    let world = World::without_mta(&[]);
    // That its output has an end says that nobody holds it any more.
    let (said, daemon) = daemon(&world, itself());
    let mut client = greet(address(&said));
    client.mail("a@b.example", &["u@mta.test"], &letter("one"));
    for stream in 0..3 {
        let target = fs::read_link(format!("/proc/{}/fd/{stream}", daemon.0)).unwrap();
        assert_eq!(target, Path::new("/dev/null"));
    }
    // A session of its own, which it does not lead: it gets no terminal again.
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.0)).unwrap();
    let session: i32 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(session, daemon.0.as_raw());
    assert_ne!(session, nix::unistd::getsid(None).unwrap().as_raw());
    let again = program(&world, &["-d", "--pid-file", &world.path("pid")])
        .args(itself())
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(75), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("the process that it names runs"));
    ends(&daemon);
    assert!(!Path::new(&world.path("pid")).exists());
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert!(log.contains("smtpmta stopped"), "{log}");
}

#[test]
fn a_daemon_that_can_not_be_says_why_where_it_was_started() {
    let world = World::without_mta(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let log = world.path("log");
    let said = program(&world, &["-d", "--log-file", &log, "-l", &address])
        .args(itself())
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(75), "{said:?}");
    let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        complaint.contains(&format!("can not listen on {address}")),
        "{complaint}"
    );
    let said = program(&world, &["-d", "--user", "no-such-user"])
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(78), "{said:?}");
    assert_eq!(
        String::from_utf8_lossy(&said.stderr),
        "smtpmta: user: \"no-such-user\": no such user\n"
    );
}

#[test]
fn root_gives_up_its_rights_for_good_and_keeps_its_port() {
    if !Uid::effective().is_root() {
        eprintln!("only root can become somebody else");
        return;
    }
    let world = World::without_mta(&[]);
    // An address of this machine that nobody else listens at.
    let low = std::process::id().to_be_bytes();
    let port = format!("127.99.{}.{}:25", low[2], low[3].max(1));
    let refused = program(&world, &["-l", &port]).output().unwrap();
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("expected --user NAME"));

    // Only root gets to it, and it is read before.
    world.write("accounts", "u@mta.test:{PLAIN}secret\n");
    let accounts = world.path("accounts");
    fs::set_permissions(&accounts, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    chown(Path::new(&world.path("")), Some(NOBODY.into()), None).unwrap();
    let (said, daemon) = daemon(
        &world,
        &["-l", &port, "--user", "nobody", "--accounts", &accounts],
    );
    assert_eq!(status(&daemon, "Uid:"), "65534 65534 65534 65534");
    assert!(!status(&daemon, "Groups:").split(' ').any(|group| group == "0"));
    assert_eq!(status(&daemon, "NoNewPrivs:"), "1");
    assert_eq!(status(&daemon, "CapEff:"), "0000000000000000");
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.0)).unwrap();
    assert!(
        limits.contains("Max core file size        0                    0"),
        "{limits}"
    );

    let mut client = greet(address(&said));
    client.mail("a@b.example", &["u@mta.test"], &letter("one"));
    assert_eq!(world.wait_for_letters("u@mta.test", 1).len(), 1);
    drop(client);
    // Nobody could open the port again.
    assert!(world.tell("stop inbound transport").contains("stopped"));
    assert!(std::net::TcpStream::connect(&port).is_err());
    assert!(world.tell("start inbound transport").contains("started"));
    assert!(greet(port.parse().unwrap()).say("QUIT").starts_with("221"));
    // The accounts file can not be read any more: nothing changes.
    let answer = world.ask("tell refresh");
    assert_eq!(answer.status, 78, "{answer:?}");
    assert!(
        answer.complaint.contains("the configuration stays as it was"),
        "{answer:?}"
    );
    ends(&daemon);
}

#[test]
fn the_service_manager_hears_that_it_is_ready_reads_again_lives_and_stops() {
    let mut world = World::without_mta(&[]);
    let socket = UnixDatagram::bind(world.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    world.environment("NOTIFY_SOCKET", world.path("notify").into());
    world.environment("WATCHDOG_USEC", "200000".into());
    world.start();
    let hears = |wanted: &str| {
        let mut text = [0; 256];
        for _ in 0..1000 {
            let length = socket
                .recv(&mut text)
                .unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let heard = String::from_utf8_lossy(&text[..length]).into_owned();
            if heard.lines().any(|line| line == wanted) {
                return heard;
            }
        }
        panic!("it did not say {wanted}");
    };
    hears("READY=1");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    world.daemon().signal(Signal::SIGHUP);
    assert!(hears("RELOADING=1").contains("MONOTONIC_USEC="));
    hears("READY=1");
    assert_eq!(world.terminate().0, Some(0));
    hears("STOPPING=1");
}

#[test]
fn sockets_that_were_passed_are_listened_at_and_others_are_refused() {
    let world = World::without_mta(&[]);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let passing = |listen: &str| {
        // As the service manager does: the first one is descriptor 3.
        let script =
            "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec \"$@\"";
        let direct = program(&world, &["-l", listen]);
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script, "sh"])
            .arg(direct.get_program())
            .args(direct.get_args());
        let passed = socket.try_clone().unwrap();
        command
            .stdin(Stdio::from(OwnedFd::from(passed)))
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let refused = passing("127.0.0.1:0").wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        complaint.contains(&format!("\"{address}\": expected listen")),
        "{complaint}"
    );

    let child = passing(&address.to_string());
    let daemon = Guard(Pid::from_raw(i32::try_from(child.id()).unwrap()));
    // Who comes too early waits.
    let mut client = greet(address);
    client.mail("a@b.example", &["u@mta.test"], &letter("one"));
    assert!(client.say("QUIT").starts_with("221"));
    world.tell("stop inbound transport");
    world.tell("start inbound transport");
    assert!(greet(address).say("QUIT").starts_with("221"));
    kill(daemon.0, Signal::SIGTERM).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn confined_it_does_what_it_does_otherwise_and_reaches_nothing_else() {
    let next_hop = Sink::start();
    let relay = next_hop.address().to_string();
    let mut world = World::without_mta(&["--sandbox", "on", "--relay-host", &relay, "--http", "127.0.0.1:0"]);
    world.flag("--log-file", &world.path("log"));
    world.start();
    let mut client = Client::of(&world);
    let to = ["u@mta.test", "v@elsewhere.example"];
    client.mail("a@b.example", &to, &letter("one"));
    let big = crate::support::client::big_letter("two", 300_000);
    client.mail("a@b.example", &to, &big);
    assert_eq!(world.wait_for_letters("u@mta.test", 2).len(), 2);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    assert_eq!(world.leave(&["w@mta.test"], b"Subject: three\n\nleft\n"), Some(0));
    assert_eq!(world.wait_for_letters("w@mta.test", 1).len(), 1);
    assert!(world.tell("refresh").contains("has not changed"));
    world.tell("housekeeping");
    assert!(world.show("stat").contains("Mail.Transferred"));
    let log = fs::read_to_string(world.path("log")).unwrap();
    let confined =
        "in force: no new privileges; own files alone (Landlock); needed system calls alone (seccomp)";
    assert!(log.contains(confined), "{log}");

    // What the configuration did not name at the start is not there.
    let elsewhere = tempfile::tempdir().unwrap();
    let aliases = elsewhere.path().join("aliases");
    fs::write(&aliases, "x: u\n").unwrap();
    world.configure(&format!("aliases {}\n", aliases.display()));
    let answer = world.ask("tell refresh");
    assert_eq!(answer.status, 78, "{answer:?}");
    assert!(answer.complaint.contains("Permission denied"), "{answer:?}");
    world.configure("mail-dir /usr/%u\n");
    let answer = world.ask("tell refresh");
    assert_eq!(answer.status, 78, "{answer:?}");
    let elsewhere = "mail-dir: /usr is none of the places that the MTA has left itself";
    assert!(answer.complaint.contains(elsewhere), "{answer:?}");
    // Who is named is looked for all the same.
    world.configure("user nobody\n");
    assert!(
        world
            .tell("refresh")
            .contains("user holds from the next start on")
    );
    world.configure("user no-such-user\n");
    assert!(world.ask("tell refresh").complaint.contains("no such user"));
    let (status, took) = world.terminate();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(10));
}

#[test]
fn confined_it_has_made_the_folder_of_the_mail_and_is_in_no_group_of_who_started_it() {
    let world = World::without_mta(&[]);
    let mail = world.path("elsewhere/mail");
    let call = program(&world, &["--mail-dir", &format!("{mail}/%u")]);
    let call = match Uid::effective().is_root() {
        false => call,
        // As root is after a login, or by sudo.
        true => {
            let mut command = Command::new("setpriv");
            let program = [call.get_program()].into_iter().chain(call.get_args());
            command.args(["--groups", "0,4545"]).args(program);
            command
        }
    };
    let (said, daemon) = begin(&world, call, itself());
    if Uid::effective().is_root() {
        assert_eq!(status(&daemon, "Groups:"), "");
    }
    assert!(Path::new(&mail).is_dir());
    greet(address(&said)).mail("a@b.example", &["u@mta.test"], &letter("one"));
    let new = Path::new(&mail).join("u/new");
    eventually("the letter", || match files(&new).len() {
        1 => Ok(()),
        number => Err(number),
    });
    ends(&daemon);
}
