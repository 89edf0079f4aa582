//! Asks the system for the time, room on disks, limits, and the process of the MTA.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Uid;
use rustix::fs::statvfs;

use super::Patient;
use super::reader::user_name;
use crate::console::{client, screen};
use crate::doctor::finding::Finding;
use crate::doctor::machine::{self, Disk, Limit, Timekeeper};
use crate::doctor::spool::{self, Mta};
use crate::mailbox::place::common_folder;
use crate::service::confinement::Confinement;
use crate::work_queue;
use crate::work_queue::ground::kind_at;

/// Programs that keep the clock right, as /proc names them: of their names no more than 15 octets.
const TIMEKEEPERS: [&str; 6] = [
    "chronyd",
    "ntpd",
    "systemd-timesyn",
    "ntp-daemon",
    "openntpd",
    "ptp4l",
];

/// What systemd-timesyncd makes when the clock is right.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// How long the MTA may take to answer: it may be stopping a transport.
const ASKING: Duration = Duration::from_secs(5);

/// What says that this is a container.
const OF_CONTAINERS: [&str; 3] = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];

/// The clock.
pub(super) fn clock(patient: &Patient) -> Vec<Finding> {
    let glance = work_queue::glance(&patient.config.spool, 0);
    let last = glance.ok().and_then(|glance| glance.last_moment);
    vec![machine::clock(machine::now(), last, &timekeeper())]
}

fn timekeeper() -> Timekeeper {
    if Path::new(SYNCHRONIZED).exists() {
        return Timekeeper::Program("systemd-timesyncd".to_owned());
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|process| fs::read_to_string(process.path().join("comm")).ok());
    let mut keepers = names.filter(|name| TIMEKEEPERS.contains(&name.trim_end()));
    match keepers.next() {
        Some(name) => Timekeeper::Program(name.trim_end().to_owned()),
        None if OF_CONTAINERS.iter().any(|path| Path::new(path).exists()) => Timekeeper::Host,
        None => Timekeeper::Nobody,
    }
}

/// The disks of spool, mail and log; each once.
pub(super) fn disks(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let mail = common_folder(&config.mail_dir);
    let mut places = vec![("spool", config.spool.clone()), ("mail", mail)];
    places.extend(config.log_file.as_ref().map(|path| ("log", path.clone())));
    let mut disks: Vec<(u64, Disk)> = Vec::new();
    let mut findings = Vec::new();
    for (of, path) in places {
        match disk(of, &path) {
            Ok((device, _)) if disks.iter().any(|(known, _)| *known == device) => {
                let known = disks.iter_mut().find(|(known, _)| *known == device);
                known.into_iter().for_each(|(_, disk)| disk.of.push(of));
            }
            Ok(found) => disks.push(found),
            Err(error) => findings.push(Finding::unknown(
                "disk",
                format!("{of} in {}: {error}", path.display()),
                "ask as root, or as the user of the MTA",
            )),
        }
    }
    let told = disks
        .iter()
        .map(|(_, disk)| machine::disk(disk, config.max_message_size));
    told.chain(findings).collect()
}

/// The disk on which `path` is, or will be, with the number by which the system knows it.
fn disk(of: &'static str, path: &Path) -> std::io::Result<(u64, Disk)> {
    use std::os::unix::fs::MetadataExt;
    let here = PathBuf::from(".");
    let place = path
        .ancestors()
        .map(|place| {
            if place.as_os_str().is_empty() {
                here.as_path()
            } else {
                place
            }
        })
        .find(|place| place.exists())
        .unwrap_or(&here);
    let device = fs::metadata(place)?.dev();
    let room = statvfs(place)?;
    let disk = Disk {
        of: vec![of],
        path: place.to_owned(),
        kind: kind_at(place)?,
        free: room.f_bavail.saturating_mul(room.f_frsize),
        size: room.f_blocks.saturating_mul(room.f_frsize),
        // Some file systems make room for them as they come, and count none.
        files: (room.f_files > 0).then_some(room.f_favail),
    };
    Ok((device, disk))
}

/// Descriptors and threads: of the MTA that runs, else of this process, as which one would be started.
pub(super) fn limits(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let process = match patient.mta {
        Mta::Runs(Some(pid)) => pid.to_string(),
        _ => "self".to_owned(),
    };
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap_or_default();
    let of = |name, resource| {
        let own = || getrlimit(resource).ok().map(|(soft, _)| Some(soft));
        machine::limit(&limits, name).or_else(own).flatten()
    };
    // Root is not bound by its number of processes.
    let of_user = match Uid::effective().is_root() {
        true => None,
        false => of("Max processes", Resource::RLIMIT_NPROC),
    };
    vec![
        machine::descriptors(of("Max open files", Resource::RLIMIT_NOFILE), config),
        machine::threads(of_user, of_group(&process), config),
    ]
}

/// How many threads the control group of a process may have, the ones above it heeded.
fn of_group(process: &str) -> Limit {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let folder = root.join(group);
    let above = folder.ancestors().take_while(|folder| folder.starts_with(root));
    let limits = above.filter_map(|folder| {
        fs::read_to_string(folder.join("pids.max"))
            .ok()?
            .trim()
            .parse()
            .ok()
    });
    limits.min()
}

/// The process of the MTA, as the system shows it and as it says itself.
pub(super) fn process(patient: &Patient) -> Vec<Finding> {
    let spool = &patient.config.spool;
    let mut findings = vec![spool::mta(&patient.mta, spool)];
    let Mta::Runs(pid) = patient.mta else {
        return findings;
    };
    let read = |name: &str| {
        let read = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/{name}")).ok());
        read.unwrap_or_default()
    };
    let told = confinement(spool);
    findings.extend(machine::process(
        pid,
        (&read("status"), &read("limits")),
        told.as_ref().map_err(String::as_str),
        user_name,
    ));
    findings
}

/// What the MTA says that it can not do; or why it does not say it.
fn confinement(spool: &Path) -> Result<Confinement, String> {
    let words = ["show".to_owned(), "version".to_owned()];
    let answer = client::ask_within(spool, &words, true, ASKING).map_err(|error| error.to_string())?;
    if answer.status != 0 {
        return Err(answer.text.trim_end().to_owned());
    }
    let facts = serde_json::from_str(&answer.text).unwrap_or_default();
    screen::in_force(&facts).ok_or_else(|| "it is of an older version".to_owned())
}
