//! What the machine has for an MTA: the time, room on its disks, descriptors and threads; and how a process of it is
//! guarded. Pure: facts and texts of /proc in, findings out.

use std::path::PathBuf;
use std::time::Duration;

use super::finding::{Finding, Status};
use crate::clock::{Clock, Stamp, TOLERANCE};
use crate::config::Config;
use crate::service::confinement::{BY_CONFIGURATION, Confinement};
use crate::work_queue::ground::file_system;

/// No clock of a machine that runs this is right before then: 2026-01-01.
const OLDEST: Stamp = Stamp(1_767_225_600_000_000);

/// Further behind than this the clock is plainly wrong.
const FAR: Duration = Duration::from_secs(3600);

/// Who sets the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timekeeper {
    /// This program, which says that the clock is right, if it says anything.
    Program(String),
    /// The machine that this container runs on.
    Host,
    /// Nobody whom we know.
    Nobody,
}

/// What is to be said of the clock.
#[must_use]
pub fn clock(now: Stamp, last: Option<Stamp>, keeper: &Timekeeper) -> Finding {
    const SET_IT: &str = "set it, and let chrony or systemd-timesyncd keep it right";
    let behind = last.map(|last| last.since(now)).unwrap_or_default();
    if now < OLDEST {
        return Finding::error("clock", format!("it shows {}", now.to_console()), SET_IT);
    }
    if behind > TOLERANCE {
        let status = if behind > FAR {
            Status::Error
        } else {
            Status::Warning
        };
        let what = format!(
            "it shows {}, {} s less than when the work queue was last in use",
            now.to_console(),
            behind.as_secs()
        );
        return Finding::of(status, "clock", what, SET_IT);
    }
    match keeper {
        Timekeeper::Program(name) => {
            Finding::ok("clock", format!("{}, kept right by {name}", now.to_console()))
        }
        Timekeeper::Host => Finding::ok(
            "clock",
            format!(
                "{}, that of the machine on which this container runs",
                now.to_console()
            ),
        ),
        Timekeeper::Nobody => Finding::warning(
            "clock",
            format!(
                "it shows {}, and nothing seems to keep it right",
                now.to_console()
            ),
            "install chrony or systemd-timesyncd",
        ),
    }
}

/// Room on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What is kept there.
    pub of: Vec<&'static str>,
    /// Where that is.
    pub path: PathBuf,
    /// The kind of the file system.
    pub kind: u32,
    /// Octets that are free for whoever asks.
    pub free: u64,
    /// Octets in all.
    pub size: u64,
    /// Files that there may be more, where they are counted.
    pub files: Option<u64>,
}

/// What is to be said of a disk on which messages of this size at most are kept.
#[must_use]
pub fn disk(disk: &Disk, max_message_size: u64) -> Finding {
    const MIB: u64 = 1 << 20;
    let kind = file_system(disk.kind)
        .map(|kind| format!(" ({kind})"))
        .unwrap_or_default();
    let percent = disk.free.saturating_mul(100) / disk.size.max(1);
    let mut what = format!(
        "{} in {}{kind}: {} free, {percent}%",
        disk.of.join(", "),
        disk.path.display(),
        size(disk.free)
    );
    if let Some(files) = disk.files {
        what += &format!(", {files} files more");
    }
    let wanted = max_message_size.saturating_mul(4).clamp(256 * MIB, 4096 * MIB);
    let files = disk.files.unwrap_or(u64::MAX);
    let status = if disk.free < (wanted / 4) || files < 1_000 {
        Status::Error
    } else if disk.free < wanted.max(1024 * MIB) || files < 20_000 {
        Status::Warning
    } else {
        Status::Ok
    };
    Finding::of(status, "disk", what, "make room: mail that finds none is put off")
}

fn size(octets: u64) -> String {
    match octets {
        octets if octets >= 10 << 30 => format!("{} GiB", octets >> 30),
        octets => format!("{} MiB", octets >> 20),
    }
}

/// How many of something there may be; `None` is any number.
pub type Limit = Option<u64>;

/// What is to be said of the descriptors that a process of this configuration may have.
#[must_use]
pub fn descriptors(limit: Limit, config: &Config) -> Finding {
    // A connection and a content file for each handler, the listeners, and what the queue and the log keep open.
    let wanted = 2 * handlers(config) + 64;
    let advice = format!(
        "raise it (`ulimit -n {0}`, LimitNOFILE={0}), or have fewer handlers",
        wanted.next_power_of_two()
    );
    enough("descriptors", "descriptors", limit, wanted, advice)
}

/// What is to be said of its threads: of the user's, and of those of its group of processes.
#[must_use]
pub fn threads(of_user: Limit, of_group: Limit, config: &Config) -> Finding {
    let wanted = handlers(config) + 64;
    let limit = [of_user, of_group].into_iter().flatten().min();
    let advice = format!(
        "raise it (`ulimit -u`, TasksMax={}), or have fewer handlers",
        wanted.next_power_of_two()
    );
    enough("threads", "threads", limit, wanted, advice)
}

fn handlers(config: &Config) -> u64 {
    (config.max_inbound_handlers + config.max_outbound_handlers) as u64
}

fn enough(check: &'static str, of: &str, limit: Limit, wanted: u64, advice: String) -> Finding {
    match limit {
        None => Finding::ok(
            check,
            format!("any number, of which the handlers may take {wanted}"),
        ),
        Some(limit) if limit >= wanted => {
            Finding::ok(check, format!("{limit}, of which the handlers may take {wanted}"))
        }
        Some(limit) => {
            let what = format!(
                "{limit} {of} at most, and all handlers at once take {wanted}: some callers have to wait"
            );
            Finding::warning(check, what, advice)
        }
    }
}

/// A limit from /proc/PID/limits, as it is in force; `None` where the text does not say it.
#[must_use]
pub fn limit(limits: &str, name: &str) -> Option<Limit> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// A field of /proc/PID/status; its first word.
#[must_use]
pub fn field<'t>(status: &'t str, name: &str) -> Option<&'t str> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()
}

/// The numbers in a field of /proc/PID/status.
#[must_use]
pub fn numbers(status: &str, name: &str) -> Vec<u32> {
    let mut fields = status
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let words = fields.next().unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// How the process of an MTA is guarded, by its /proc/PID/status and limits, and by what it says of itself, or why that is not
/// known; `user` names who runs it.
#[must_use]
pub fn process(
    pid: Option<u32>,
    (status, limits): (&str, &str),
    told: Result<&Confinement, &str>,
    user: impl Fn(u32) -> String,
) -> Vec<Finding> {
    let number = |name| field(status, name).and_then(|word| word.parse::<u32>().ok());
    let mut found = Vec::new();
    if let Some(pid) = pid {
        found.push(match number("Uid") {
            Some(0) => Finding::warning(
                "process",
                format!("{pid} runs as root: whoever takes it over has the machine"),
                "give it a user of its own: --user",
            ),
            Some(uid) => Finding::ok("process", format!("{pid} runs as {}", user(uid))),
            None => Finding::unknown("process", format!("{pid}: nobody tells as whom it runs"), ""),
        });
    }
    // Whoever has started it may have taken its rights, so that the system knows best; of a filter of calls it says only
    // that there is one, which may be that of a container.
    let rights = match number("NoNewPrivs") {
        Some(1) => Ok(Ok(())),
        Some(_) => Ok(Err("off".to_owned())),
        None => told.map(|told| told.no_new_privileges.clone()),
    };
    let calls = match (told, number("Seccomp")) {
        (Ok(told), _) => Ok(told.calls.clone()),
        (Err(_), Some(1 | 2)) => Ok(Ok(())),
        (Err(_), Some(_)) => Ok(Err("off".to_owned())),
        (Err(why), None) => Err(why),
    };
    found.extend([
        in_force(
            "no_new_privs",
            rights,
            "it gains no rights from any program",
            "a program that it were made to start could gain rights",
        ),
        in_force(
            "landlock",
            told.map(|told| told.files.clone()),
            "it reaches its own files alone",
            "it may reach any file that its user may",
        ),
        in_force(
            "seccomp",
            calls,
            "it may call of the system what it needs",
            "it may call anything of the system",
        ),
    ]);
    if pid.is_some() {
        found.push(match limit(limits, "Max core file size") {
            Some(Some(0)) => Finding::ok("core dumps", "off"),
            Some(_) => Finding::warning(
                "core dumps",
                "on: a crash would write mail and passwords to a file",
                "turn them off: `ulimit -c 0`, LimitCORE=0",
            ),
            None => Finding::unknown("core dumps", "the system does not tell", ""),
        });
    }
    found
}

/// What is to be said of a part of the confinement: what it keeps the MTA from, or lets it do.
fn in_force(
    check: &'static str,
    state: Result<Result<(), String>, &str>,
    with: &str,
    without: &str,
) -> Finding {
    match state {
        Ok(Ok(())) => Finding::ok(check, format!("on: {with}")),
        Ok(Err(off)) if off == "off" => Finding::warning(
            check,
            format!("off: {without}"),
            "start it with --sandbox on, or with a --user of its own",
        ),
        Ok(Err(why)) if why.starts_with(BY_CONFIGURATION) => Finding::warning(
            check,
            format!("not in force ({why}): {without}"),
            "have all that it writes to in folders of its own",
        ),
        Ok(Err(why)) => Finding::warning(
            check,
            format!("not in force ({why}): {without}"),
            "it is Linux that does this, from version 5.13 on with all of it turned on: use such a kernel, or \
             let the service manager confine it",
        ),
        Err(why) => Finding::unknown(
            check,
            format!("the MTA does not tell: {why}"),
            "ask as root, or as the user of the MTA; the log says it at the start, too",
        ),
    }
}

/// What the clock of this machine shows.
#[must_use]
pub fn now() -> Stamp {
    Clock::System.now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_wrong_and_one_that_nobody_keeps_may_be() {
        let now = Stamp(OLDEST.0 + 1_000_000_000_000);
        let kept = Timekeeper::Program("chronyd".to_owned());
        let earlier = |seconds: i64| Some(Stamp(now.0 - seconds * 1_000_000));
        for (at, last, keeper, expected) in [
            (now, None, &kept, Status::Ok),
            (now, earlier(86_400), &kept, Status::Ok),
            (now, None, &Timekeeper::Host, Status::Ok),
            (now, None, &Timekeeper::Nobody, Status::Warning),
            (now, earlier(-30), &kept, Status::Ok),
            (now, earlier(-120), &kept, Status::Warning),
            (now, earlier(-7200), &kept, Status::Error),
            (Stamp(0), None, &kept, Status::Error),
        ] {
            assert_eq!(clock(at, last, keeper).status, expected, "{last:?} {keeper:?}");
        }
    }

    #[test]
    fn room_is_told_and_wanted_by_the_largest_message() {
        const MIB: u64 = 1 << 20;
        let on = |free: u64, files| Disk {
            of: vec!["spool", "mail"],
            path: "/var/spool".into(),
            kind: 0xef53,
            free: free * MIB,
            size: 100 << 30,
            files,
        };
        let told = disk(&on(51_200, Some(1_000_000)), 50 * MIB);
        assert_eq!(
            told,
            Finding::ok(
                "disk",
                "spool, mail in /var/spool (ext4): 50 GiB free, 50%, 1000000 files more"
            )
        );
        for (room, largest, expected) in [
            (on(1024, None), 50, Status::Ok),
            (on(1023, None), 50, Status::Warning),
            (on(2000, None), 1000, Status::Warning),
            (on(63, None), 1, Status::Error),
            (on(51_200, Some(19_999)), 50, Status::Warning),
            (on(51_200, Some(999)), 50, Status::Error),
        ] {
            assert_eq!(disk(&room, largest * MIB).status, expected, "{room:?} {largest}");
        }
    }

    #[test]
    fn limits_are_compared_with_what_all_handlers_take() {
        let config = Config::embedded("mail.example.org");
        for (status, finding) in [
            (Status::Ok, descriptors(Some(464), &config)),
            (Status::Warning, descriptors(Some(463), &config)),
            (Status::Ok, descriptors(None, &config)),
            (Status::Ok, threads(None, Some(264), &config)),
            (Status::Warning, threads(None, Some(263), &config)),
            (Status::Warning, threads(Some(263), Some(1000), &config)),
        ] {
            assert_eq!(finding.status, status, "{finding:?}");
        }
    }

    #[test]
    fn proc_tells_how_a_process_is_guarded() {
        let status = |uid: u32, privileges: u8, seccomp: u8| {
            format!(
                "Name:\tsmtpmta\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNoNewPrivs:\t{privileges}\nSeccomp:\t{seccomp}\n\
                     Seccomp_filters:\t1\n"
            )
        };
        let limits = |core: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max core file size        {core}                    unlimited            bytes     \n\
                 Max open files            1024                 524288               files     \n"
            )
        };
        assert_eq!(limit(&limits("0"), "Max open files"), Some(Some(1024)));
        assert_eq!(limit(&limits("unlimited"), "Max core file size"), Some(None));
        assert_eq!(limit(&limits("0"), "Max nice priority"), None);
        let all = Confinement {
            no_new_privileges: Ok(()),
            files: Ok(()),
            calls: Ok(()),
        };
        let (none, silent) = (Confinement::none(), Err("it is busy"));
        let judge = |status: &str, limits: &str, told| {
            let found = process(Some(7), (status, limits), told, |uid| format!("user {uid}"));
            found
                .iter()
                .map(|finding| (finding.check, finding.status))
                .collect::<Vec<_>>()
        };
        let told = |statuses: [Status; 5]| {
            let checks = ["process", "no_new_privs", "landlock", "seccomp", "core dumps"];
            checks.into_iter().zip(statuses).collect::<Vec<_>>()
        };
        use Status::{Ok as Well, Unknown, Warning};
        for (status, core, confinement, expected) in [
            (status(8, 1, 2), "0", Ok(&all), [Well; 5]),
            (status(0, 0, 0), "unlimited", Ok(&none), [Warning; 5]),
            (String::new(), "", silent, [Unknown; 5]),
            // A container's filter is not ours, and a service manager's flag is as good as ours.
            (
                status(8, 1, 2),
                "0",
                Ok(&none),
                [Well, Well, Warning, Warning, Well],
            ),
            (status(8, 1, 2), "0", silent, [Well, Well, Unknown, Well, Well]),
            (String::new(), "0", Ok(&all), [Unknown, Well, Well, Well, Well]),
        ] {
            let limits = match core {
                "" => String::new(),
                core => limits(core),
            };
            assert_eq!(
                judge(&status, &limits, confinement),
                told(expected),
                "{status} {confinement:?}"
            );
        }
        let old = Confinement {
            files: Err("this kernel has none of it".to_owned()),
            ..all
        };
        // Without /proc there is still what it says of itself.
        let found = process(None, ("", ""), Ok(&old), |_| String::new());
        let told: Vec<(&str, Status)> = found
            .iter()
            .map(|finding| (finding.check, finding.status))
            .collect();
        assert_eq!(
            told,
            [("no_new_privs", Well), ("landlock", Warning), ("seccomp", Well)]
        );
        assert!(found[1].what.contains("this kernel has none of it"), "{found:?}");
    }
}
