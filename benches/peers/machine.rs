//! What it was measured on.

use std::fs;
use std::path::Path;

/// Processor, memory, kernel, system, the file system of `folder`, and the date, a line each.
pub fn describe(folder: &Path) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, start: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or("?")
            .trim_start_matches([' ', '\t', ':', '='])
            .trim_matches('"')
            .to_owned()
    };
    let memory: f64 = after(&read("/proc/meminfo"), "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        format!("date: {}", chrono::Utc::now().format("%Y-%m-%d %H:%M UTC")),
        format!(
            "processor: {}, {cores} cores",
            after(&read("/proc/cpuinfo"), "model name")
        ),
        format!("memory: {:.1} GiB", memory / 1024.0 / 1024.0),
        format!("kernel: {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("system: {}", after(&read("/etc/os-release"), "PRETTY_NAME")),
        format!("file system of the queues: {}", file_system(folder)),
    ]
}

/// Its type and device: of what is mounted there or nearest above.
fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [device, at, kind, options, ..] = words[..] else {
                return None;
            };
            folder
                .starts_with(at)
                .then(|| (at.len(), format!("{kind} on {device} ({options})")))
        })
        .max_by_key(|(length, _)| *length)
        .map_or("?".to_owned(), |(_, text)| text)
}
