//! `smtpmta doctor`: what it says of a host that is in order, of one that is not, and of the MTA that runs.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;

use nix::unistd::{Uid, chown};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;
use smtpmta::work_queue::ground::{file_system, kind_at};

use crate::support::dns_server::DnsServer;
use crate::support::sink::Sink;
use crate::support::world::World;

/// What doctor says: of each check status and words.
struct Diagnosis {
    status: i32,
    checks: BTreeMap<String, Vec<(String, String)>>,
}

impl Diagnosis {
    /// Of this world, with these words before and behind the command.
    #[track_caller]
    fn of(world: &World, options: &str, words: &str) -> Diagnosis {
        let answer = world.run(&format!("{options} doctor --json {words}"), b"");
        assert_eq!(answer.complaint, "");
        let told: Value = serde_json::from_str(&answer.text).unwrap();
        let mut checks: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for check in told["checks"].as_array().unwrap() {
            let word = |name: &str| check[name].as_str().unwrap().to_owned();
            let is_well = check["status"] == "ok";
            assert_eq!(
                check["advice"].is_null(),
                is_well || word("advice").is_empty(),
                "{check}"
            );
            checks
                .entry(word("check"))
                .or_default()
                .push((word("status"), word("what")));
        }
        Diagnosis {
            status: answer.status,
            checks,
        }
    }

    /// It says this of a check, in these words among others.
    #[track_caller]
    fn says(&self, check: &str, status: &str, words: &str) {
        let told = self.checks.get(check);
        let found = told.is_some_and(|told| told.iter().any(|(s, what)| s == status && what.contains(words)));
        assert!(found, "{check} {status} {words:?} is not in {:?}", self.checks);
    }
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A certificate for this host that was good between these years, and its key.
fn certificate(world: &mut World, from: i32, to: i32) -> String {
    let mut params = CertificateParams::new(["mta.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    let key = KeyPair::generate().unwrap();
    let cert = world.write("cert.pem", params.self_signed(&key).unwrap().pem());
    let key = world.write("key.pem", key.serialize_pem());
    world.flag("--tls-cert", &cert);
    world.flag("--tls-key", &key);
    key
}

#[test]
fn a_running_mta_is_called_and_its_relay_host_tried_and_nothing_is_an_error() {
    let dns = DnsServer::start();
    dns.a("mta.test", "192.0.2.1")
        .ptr("192.0.2.1", "mta.test")
        .mx("mta.test", 10, "mta.test");
    let sink = Sink::start();
    let mut world = World::without_mta(&["--dns", &dns.address().to_string()]);
    world.flag("--relay-host", &sink.address().to_string());
    let key = certificate(&mut world, 2020, 2100);
    set_mode(&key, 0o640);
    fs::create_dir(world.spool()).unwrap();
    set_mode(world.spool(), 0o755);
    world.start();
    let at = world.address();
    let well = Diagnosis::of(&world, &format!("--listen {at}"), "");
    well.says("hostname", "ok", "mta.test");
    well.says("reverse", "ok", "192.0.2.1 is mta.test");
    well.says("mx", "ok", "mail for mta.test goes to mta.test");
    well.says("resolver", "ok", &dns.address().to_string());
    well.says("port", "ok", "220 mta.test ESMTP smtpmta");
    well.says("way out", "ok", "220 ");
    well.says("certificate", "ok", " days left, until 2100-01-01");
    well.says("tls-key", "ok", "(mode 0640)");
    well.says("relaying", "ok", "strangers are refused");
    well.says("queue", "ok", "in order: 0 messages");
    well.says(
        "spool",
        "warning",
        "others may see which files are in the spool (mode 0755)",
    );
    let pid = fs::read_to_string(world.spool().join("smtpmta.pid")).unwrap();
    well.says("mta", "ok", &format!("process {} runs on ", pid.trim()));
    for check in [
        "clock",
        "disk",
        "descriptors",
        "threads",
        "process",
        "no_new_privs",
        "landlock",
        "seccomp",
        "core dumps",
    ] {
        assert!(well.checks.contains_key(check), "{check}");
    }
    well.says(
        "landlock",
        "warning",
        "off: it may reach any file that its user may",
    );
    well.says("config", "ok", "smtpmta.conf");
    assert_eq!(well.status, 0, "{:?}", well.checks);
    // The start has said it, too.
    let logged = world.said_of("others may see which files are in the spool");
    assert!(logged.len() == 1 && logged[0].contains("chmod 711"), "{logged:?}");
    // Nobody listens where the configuration says, and its host for this domain is not there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ill = Diagnosis::of(
        &world,
        &format!("--listen {nobody} --route a.test=127.0.0.1:1"),
        "--to a.test",
    );
    ill.says(
        "port",
        "error",
        &format!("{nobody}: the MTA runs, and nobody answers there"),
    );
    ill.says("way out", "error", "127.0.0.1[127.0.0.1]:1: ");
    assert_eq!(ill.status, 1);
}

#[test]
fn what_is_wrong_is_an_error_each_and_nothing_is_made_for_the_asking() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    thread::spawn(move || taken.accept().map(drop));
    let mut world = World::without_mta(&["--relay-from", "0.0.0.0/0", "--listen", &at.to_string()]);
    let key = certificate(&mut world, 2020, 2021);
    set_mode(&key, 0o644);
    assert!(!world.spool().exists());
    let ill = Diagnosis::of(&world, "", "");
    ill.says("resolver", "error", "127.0.0.1:1 is not reached");
    ill.says("address", "unknown", "mta.test: ");
    ill.says("port", "error", "another program listens there");
    ill.says("way out", "unknown", "no host was tried");
    ill.says("certificate", "error", "expired on 2021-01-01");
    ill.says("tls-key", "error", "everybody may read ");
    ill.says("relaying", "error", "an open relay: a client at 192.0.2.1");
    ill.says("relay-from", "error", "0.0.0.0/0: everybody may send");
    ill.says("spool", "ok", "is not there yet");
    ill.says("queue", "ok", "there is none yet");
    ill.says("mta", "ok", "none runs on ");
    assert_eq!(ill.status, 1);
    assert!(!world.spool().exists());
    let accounts = world.write("accounts", "bob@mta.test:{WHAT}x\n");
    fs::create_dir(world.spool()).unwrap();
    fs::write(world.spool().join("queue.db"), "this is no database").unwrap();
    set_mode(world.spool(), 0o777);
    let worse = Diagnosis::of(&world, &format!("--accounts {accounts}"), "");
    worse.says("accounts", "error", &accounts);
    worse.says("relaying", "unknown", "not rehearsed");
    worse.says("spool", "error", "others may write into the spool");
    worse.says("queue", "error", "not in order: queue.db: ");
}

#[test]
fn what_the_running_mta_can_not_do_it_says_itself_and_so_is_what_a_refresh_can_not_read() {
    let mut world = World::without_mta(&["--sandbox", "on"]);
    let key = certificate(&mut world, 2020, 2100);
    set_mode(&key, 0o600);
    let is_root = Uid::effective().is_root();
    if is_root {
        world.flag("--user", "nobody");
        chown(Path::new(&world.path("")), Some(65534.into()), None).unwrap();
        // None runs yet, and the configuration says who will.
        let before = Diagnosis::of(&world, "", "");
        before.says("tls-key", "warning", "nobody may not read it (mode 0600)");
        assert!(!before.checks.contains_key("landlock"), "{:?}", before.checks);
    }
    world.start();
    let runs = Diagnosis::of(&world, "", "");
    let version: Value = serde_json::from_str(&world.ask("show version --json").text).unwrap();
    let said = world.show("version");
    for (check, word) in [
        ("no_new_privs", "no new privileges"),
        ("landlock", "Landlock"),
        ("seccomp", "seccomp"),
    ] {
        // As far as the kernel has it.
        match version["in_force"][check].as_str().unwrap() {
            "on" => runs.says(check, "ok", "on: "),
            why => runs.says(check, "warning", why),
        }
        assert!(
            said.lines()
                .any(|line| line.starts_with("in force: ") && line.contains(word)),
            "{said}"
        );
    }
    // Its user may write what he likes there.
    let pid = fs::read_to_string(world.spool().join("smtpmta.pid")).unwrap();
    for lie in ["1", ""] {
        fs::remove_file(world.spool().join("smtpmta.pid")).unwrap();
        match lie {
            "" => nix::unistd::mkfifo(&world.spool().join("smtpmta.pid"), nix::sys::stat::Mode::S_IRWXU)
                .unwrap(),
            lie => fs::write(world.spool().join("smtpmta.pid"), lie).unwrap(),
        }
        Diagnosis::of(&world, "", "").says("mta", "ok", &format!("process {} runs", pid.trim()));
    }
    if is_root {
        runs.says(
            "tls-key",
            "warning",
            "a refresh (SIGHUP) will not be able to read it again",
        );
        runs.says("tls-cert", "ok", "cert.pem");
        assert_eq!(world.ask("tell refresh").status, 78);
        // What doctor says is what is true.
        chown(Path::new(&key), Some(65534.into()), None).unwrap();
        Diagnosis::of(&world, "", "").says("tls-key", "ok", "(mode 0600)");
        assert_eq!(world.ask("tell refresh").status, 0);
    }
}

#[test]
fn a_spool_that_the_user_of_the_service_can_not_use_is_an_error() {
    if !Uid::effective().is_root() {
        return;
    }
    // A trial by root has made it.
    let mut world = World::load(&[]);
    world.terminate();
    let ours = Diagnosis::of(&world, "", "");
    assert!(
        ours.checks["spool"].iter().all(|(status, _)| status != "error"),
        "{:?}",
        ours.checks
    );
    Diagnosis::of(&world, "--user nobody", "").says("spool", "error", "queue.db");
    // Nor can root deliver where others may put something in the place of a mailbox.
    ours.says("mail-dir", "ok", "spool/mail");
    let open = world.path("open");
    fs::create_dir(&open).unwrap();
    set_mode(&open, 0o777);
    let ill = Diagnosis::of(&world, &format!("--mail-dir {open}/%u"), "");
    ill.says("mail-dir", "error", "open is ours, and others may");
}

#[test]
fn a_spool_that_does_not_last_is_warned_of() {
    let here = std::env::temp_dir();
    for place in [here.as_path(), Path::new("/dev/shm")] {
        let Ok(folder) = tempfile::tempdir_in(place) else {
            continue;
        };
        let words = match file_system(kind_at(folder.path()).unwrap()) {
            Some("tmpfs") => "the spool is in memory (tmpfs)",
            Some("overlay") => "the spool is on the overlay of a container",
            _ => continue,
        };
        let world = World::without_mta(&[]);
        if place == here {
            // Before the first start makes it, too.
            let before = Diagnosis::of(&world, "", "");
            before.says("spool", "ok", "is not there yet");
            before.says("spool", "warning", words);
        }
        symlink(folder.path(), world.spool()).unwrap();
        Diagnosis::of(&world, "", "").says("spool", "warning", words);
    }
}
