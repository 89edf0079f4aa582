//! What a server costs: the processor time of all its processes, those that have ended too, and their memory.
//!
//! Counted by a control group (v1 cpuacct, or v2), where root may make one; else by what /proc says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where a server's processes are counted.
#[derive(Debug)]
pub struct Account {
    group: Option<Group>,
    root: Option<PathBuf>,
    /// Its first process, once it runs.
    pub child: u32,
}

#[derive(Debug)]
struct Group {
    folder: PathBuf,
    unified: bool,
}

impl Account {
    /// For the server of this name; a process is its own if it is in the group, or has its root there or below.
    pub fn new(name: &str, root: Option<&Path>) -> Account {
        let candidates = [
            ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", false),
            ("/sys/fs/cgroup", "cpu.stat", true),
        ];
        let group = candidates.iter().find_map(|(base, file, unified)| {
            let folder = Path::new(base).join(format!("smtpmta-bench.{}.{name}", own_number()));
            let made = Path::new(base).join("cgroup.procs").exists() && fs::create_dir_all(&folder).is_ok();
            if made && folder.join(file).exists() {
                return Some(Group {
                    folder,
                    unified: *unified,
                });
            }
            let _ = fs::remove_dir(&folder);
            None
        });
        Account {
            group,
            root: root.map(Path::to_owned),
            child: 0,
        }
    }

    /// `command`, so that all that comes of it is counted here.
    pub fn enter(&self, command: &Command) -> Command {
        let mut entering = Command::new("sh");
        match &self.group {
            // 0 is whoever writes.
            Some(group) => entering
                .args(["-c", "echo 0 > \"$0\" && exec \"$@\""])
                .arg(group.folder.join("cgroup.procs")),
            None => entering.args(["-c", "exec \"$@\"", "sh"]),
        };
        entering.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                entering.env(name, value);
            }
        }
        entering.stdin(Stdio::null());
        entering
    }

    /// The processor time so far.
    pub fn processor_time(&self) -> Duration {
        match &self.group {
            Some(group) if group.unified => {
                let text = fs::read_to_string(group.folder.join("cpu.stat")).unwrap_or_default();
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                Duration::from_micros(usage.and_then(|usage| usage.trim().parse().ok()).unwrap_or(0))
            }
            Some(group) => {
                let text = fs::read_to_string(group.folder.join("cpuacct.usage")).unwrap_or_default();
                Duration::from_nanos(text.trim().parse().unwrap_or(0))
            }
            None => self.processes().into_iter().map(times_of).sum(),
        }
    }

    /// The processes that run.
    pub fn processes(&self) -> Vec<u32> {
        if let Some(group) = &self.group {
            let text = fs::read_to_string(group.folder.join("cgroup.procs")).unwrap_or_default();
            return text.lines().filter_map(|line| line.parse().ok()).collect();
        }
        let Some(root) = &self.root else {
            return vec![self.child];
        };
        let Ok(all) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|id: &u32| {
                fs::read_link(format!("/proc/{id}/root")).is_ok_and(|link| link.starts_with(root))
            })
            .collect()
    }

    /// Their memory, in KiB: what is shared counts in part (PSS).
    pub fn memory(&self) -> f64 {
        self.processes().into_iter().map(memory_of).sum()
    }

    /// Removes the group, which must be empty.
    pub fn close(&self) {
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(&group.folder);
        }
    }
}

/// A number that no other run has: that of our namespace of processes.
fn own_number() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect()
}

/// Of a process and those of its children that have ended.
fn times_of(id: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    // USER_HZ is 100 on every Linux that has Debian.
    Duration::from_millis(ticks * 10)
}

fn memory_of(id: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0.0)
}
