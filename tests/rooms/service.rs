//! The MTA as a service of the system: a daemon, with a user's rights alone, with what a service manager gives and wants to
//! know, and confined.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
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
    program_on(world, "spool", words)
}

/// The same on another spool.
fn program_on(world: &World, spool: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtpmta"));
    command
        .args(["-c", &world.path("smtpmta.conf"), "-s", &world.path(spool)])
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

/// What a process has said that is to end by itself.
fn ended(mut child: Child) -> Output {
    let _guard = Guard(Pid::from_raw(i32::try_from(child.id()).unwrap()));
    eventually("its end", || child.try_wait().unwrap().ok_or("it runs"));
    child.wait_with_output().unwrap()
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
    let (log, pid) = (world.path("log"), world.path("pid"));
    let words = ["-d", "--log-file", &log, "--pid-file", &pid, "-l", &address];
    let said = program(&world, &words).args(itself()).output().unwrap();
    assert_eq!(said.status.code(), Some(75), "{said:?}");
    assert!(!Path::new(&pid).exists(), "it names nobody");
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

/// Makes a folder of this user in `world`.
fn folder(world: &World, name: &str, mode: u32, owner: u32) {
    fs::create_dir_all(world.path(name)).unwrap();
    fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
    chown(Path::new(&world.path(name)), Some(owner.into()), None).unwrap();
}

/// Whose a file is, and its mode.
fn belongs(world: &World, name: &str) -> (u32, u32) {
    let found = fs::symlink_metadata(world.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    (found.uid(), found.mode() & 0o7777)
}

fn hears_that_the_log_was_moved(world: &World, daemon: &Guard, log: &str) {
    kill(daemon.0, Signal::SIGUSR1).unwrap();
    eventually("a log that was opened again", || {
        let log = fs::read_to_string(world.path(log)).unwrap_or_default();
        match log.contains("the log has been opened again") {
            true => Ok(()),
            false => Err(log),
        }
    });
}

#[test]
fn what_is_missing_in_folders_of_root_is_made_and_the_user_gets_the_spool_and_the_log_but_not_the_pid_file() {
    if !Uid::effective().is_root() {
        eprintln!("only root can become somebody else");
        return;
    }
    let world = World::without_mta(&[]);
    folder(&world, "", 0o755, 0);
    let (log, pid) = (world.path("log"), world.path("pid"));
    let words = ["-d", "--user", "nobody", "--log-file", &log, "--pid-file", &pid];
    let said = program_on(&world, "new/deeper/spool", &words).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let daemon = Guard(Pid::from_raw(
        fs::read_to_string(&pid).unwrap().trim().parse().unwrap(),
    ));
    for (name, owner, mode) in [
        ("new", 0, 0o755),
        ("new/deeper", 0, 0o755),
        ("new/deeper/spool", NOBODY, 0o711),
        ("log", NOBODY, 0o640),
        ("pid", 0, 0o644),
    ] {
        assert_eq!(belongs(&world, name), (owner, mode), "{name}");
    }
    // As logrotate's "create" does; nobody else could make it here.
    fs::rename(&log, world.path("log.1")).unwrap();
    fs::write(&log, "").unwrap();
    chown(Path::new(&log), Some(NOBODY.into()), None).unwrap();
    hears_that_the_log_was_moved(&world, &daemon, "log");
    let named = fs::File::open(&pid).unwrap();
    assert!(named.try_lock().is_err(), "it runs");
    ends(&daemon);
    // The user could not remove it, nor change it.
    named.try_lock().unwrap();
    assert_eq!(belongs(&world, "pid"), (0, 0o644));
}

#[test]
fn in_folders_of_the_user_root_makes_nothing_and_needs_no_right_to() {
    if !Uid::effective().is_root() {
        eprintln!("only root can become somebody else");
        return;
    }
    let world = World::without_mta(&[]);
    folder(&world, "", 0o755, 0);
    folder(&world, "roots", 0o755, 0);
    folder(&world, "users", 0o755, NOBODY);
    symlink(world.path("roots/made"), world.path("users/link")).unwrap();
    symlink(world.path("roots"), world.path("users/away")).unwrap();
    let [log, away, pid] = ["users/link", "users/away/made", "users/pid"].map(|name| world.path(name));
    for (spool, words) in [
        ("users/spool", ["--log-file", &log]),
        ("users/spool", ["--log-file", &away]),
        ("users/spool", ["--pid-file", &away]),
        ("users/away/made", ["--pid-file", &pid]),
    ] {
        let words = [&["--user", "nobody"][..], &words[..]].concat();
        let mut command = program_on(&world, spool, &words);
        let said = ended(command.stderr(Stdio::piped()).spawn().unwrap());
        assert!(!said.status.success(), "{spool} {words:?}");
        let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(complaint.contains("Permission denied"), "{complaint}");
        assert_eq!(
            fs::read_dir(world.path("roots")).unwrap().count(),
            0,
            "{spool} {words:?}"
        );
    }

    // With what a unit of systemd leaves to root it comes to the same.
    let log = world.path("users/log");
    let rights = "-all,+net_bind_service,+setuid,+setgid,+chown,+dac_read_search";
    let words = ["-d", "--user", "nobody", "--log-file", &log, "--pid-file", &pid];
    let direct = program_on(&world, "users/spool", &words);
    let said = Command::new("setpriv")
        .args(["--bounding-set", rights])
        .arg(direct.get_program())
        .args(direct.get_args())
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    let daemon = Guard(Pid::from_raw(
        fs::read_to_string(&pid).unwrap().trim().parse().unwrap(),
    ));
    for (name, mode) in [("users/log", 0o640), ("users/pid", 0o644), ("users/spool", 0o711)] {
        assert_eq!(belongs(&world, name), (NOBODY, mode), "{name}");
    }
    fs::rename(&log, world.path("users/log.1")).unwrap();
    hears_that_the_log_was_moved(&world, &daemon, "users/log");
    ends(&daemon);
    assert!(!Path::new(&pid).exists());
}

#[test]
fn the_pid_file_names_nobody_who_would_not_heed_a_signal() {
    let world = World::without_mta(&[]);
    let pid = world.path("pid");
    // The queue can not be opened yet.
    fs::create_dir(world.spool()).unwrap();
    let other = rusqlite::Connection::open(world.spool().join("queue.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut child = program(&world, &["--pid-file", &pid])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let daemon = Guard(Pid::from_raw(i32::try_from(child.id()).unwrap()));
    eventually("a PID file", || fs::metadata(&pid));
    kill(daemon.0, Signal::SIGHUP).unwrap();
    kill(daemon.0, Signal::SIGUSR1).unwrap();
    eventually("an MTA that looks at its queue", || {
        fs::metadata(world.spool().join("smtpmta.pid"))
    });
    assert_eq!(fs::read_to_string(&pid).unwrap(), "");
    other.execute_batch("ROLLBACK").unwrap();
    let named = format!("{}\n", child.id());
    eventually("a PID file that names it", || match fs::read_to_string(&pid) {
        Ok(text) if text == named => Ok(()),
        _ if child.try_wait().unwrap().is_some() => panic!("it has ended"),
        other => Err(other),
    });
    kill(daemon.0, Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!Path::new(&pid).exists());
}

/// Starts the MTA with this socket, as the service manager does: the first one is descriptor 3.
fn passing(world: &World, socket: OwnedFd, words: &[&str]) -> Child {
    let script =
        "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec \"$@\"";
    let direct = program(world, words);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, "sh"])
        .arg(direct.get_program())
        .args(direct.get_args())
        .stdin(Stdio::from(socket))
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn sockets_that_were_passed_are_listened_at_and_others_are_refused() {
    let world = World::without_mta(&[]);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let deaf = socket_without_listen();
    let deaf_at = TcpListener::from(deaf.try_clone().unwrap()).local_addr().unwrap();
    for (passed, listen, expected) in [
        (
            OwnedFd::from(socket.try_clone().unwrap()),
            "127.0.0.1:0".to_owned(),
            format!("\"{address}\": expected listen"),
        ),
        (
            deaf,
            deaf_at.to_string(),
            format!("\"{deaf_at}\": expected one that listens"),
        ),
    ] {
        let refused = ended(passing(&world, passed, &["-l", &listen]));
        assert_eq!(refused.status.code(), Some(78), "{refused:?}");
        let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(complaint.contains(&expected), "{complaint}");
    }

    let passed = OwnedFd::from(socket.try_clone().unwrap());
    let child = passing(&world, passed, &["-l", &address.to_string()]);
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

/// A socket that has its address and no more.
fn socket_without_listen() -> OwnedFd {
    let made = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    bind(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    made
}

#[test]
fn a_socket_for_both_families_that_was_passed_stands_for_both() {
    let Ok(socket) = TcpListener::bind("[::]:0") else {
        eprintln!("this machine has no IPv6");
        return;
    };
    let world = World::without_mta(&[]);
    let port = socket.local_addr().unwrap().port();
    let [v4, v6] = ["0.0.0.0", "[::]"].map(|all| format!("{all}:{port}"));
    let passed = OwnedFd::from(socket.try_clone().unwrap());
    let child = passing(&world, passed, &["-l", &v4, "-l", &v6]);
    let daemon = Guard(Pid::from_raw(i32::try_from(child.id()).unwrap()));
    // Both would wait here for an MTA that ends.
    drop(socket);
    for address in ["127.0.0.1", "[::1]", "127.0.0.1"] {
        let address = format!("{address}:{port}").parse().unwrap();
        assert!(greet(address).say("QUIT").starts_with("221"));
    }
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
