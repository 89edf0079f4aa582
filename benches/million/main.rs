//! What a queue with a million waiting messages costs, against an empty one: `cargo bench --bench million`, or with
//! `-- MESSAGES ROUNDS` behind it. `-- fill FOLDER MESSAGES` and `-- history FOLDER MESSAGES` only make a spool, of
//! messages that wait or of such that have left.
//!
//! Needs as much room on the disk as two such spools, 2 KiB a message each. The first one is kept in `target/tmp`. Never
//! leaves the machine.

#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod load;
mod mta;
mod spool;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mta::{Mta, Sink};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Fresh messages of one measurement.
const FRESH: usize = 20_000;
/// Sessions that bring them.
const SESSIONS: usize = 50;
/// How often a command is given to each MTA.
const ASKED: usize = 5;

/// The commands of the operator that are measured.
const COMMANDS: [&[&str]; 7] = [
    &["show", "queue"],
    &["queue", "list", "--limit", "50"],
    &["show", "stat"],
    &["show", "hops"],
    &["show", "lists"],
    &["show", "tasks"],
    &["queue", "retry", "--hop", "nowhere.test"],
];

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["fill", folder, messages] => Ok(spool::fill(Path::new(folder), messages.parse()?)?),
        ["history", folder, messages] => Ok(spool::fill_with_history(Path::new(folder), messages.parse()?)?),
        [] => compare(1_000_000, 5),
        [messages, rounds] => compare(messages.parse()?, rounds.parse()?),
        _ => Err("usage: [MESSAGES ROUNDS | fill FOLDER MESSAGES | history FOLDER MESSAGES]".into()),
    }
}

/// What was measured of one MTA, in rows that have their names.
type Row = (String, f64);

fn compare(messages: usize, rounds: usize) -> Outcome<()> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let full = folder.join(format!("million-{messages}"));
    if !full.exists() {
        let (begun, unfinished) = (Instant::now(), folder.join("million-unfinished"));
        let _ = std::fs::remove_dir_all(&unfinished);
        spool::fill(&unfinished, messages)?;
        std::fs::rename(&unfinished, &full)?;
        println!(
            "{messages} messages put into a spool in {:.0} s",
            begun.elapsed().as_secs_f64()
        );
    }
    let work = folder.join("million-work");
    let sink = Sink::start()?;
    let (mut empty, mut waiting) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Whoever comes first finds another machine than who comes second.
        let order = if round % 2 == 0 {
            [false, true]
        } else {
            [true, false]
        };
        for is_full in order {
            let _ = std::fs::remove_dir_all(&work);
            if is_full {
                copy(&full, &work)?;
            }
            let rows = measure(&work, &sink)?;
            if is_full {
                waiting.push(rows)
            } else {
                empty.push(rows)
            }
        }
    }
    std::fs::remove_dir_all(&work)?;
    report(messages, &empty, &waiting);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    let mut command = Command::new("cp");
    let copied = command
        .args(["-a", "--reflink=auto"])
        .arg(from)
        .arg(to)
        .status()?;
    // What is still on its way to the disk must not be in the way of what is measured.
    let synced = Command::new("sync").arg("--file-system").arg(to).status()?;
    if copied.success() && synced.success() {
        Ok(())
    } else {
        Err("the spool can not be copied".into())
    }
}

fn measure(spool: &Path, sink: &Sink) -> Outcome<Vec<Row>> {
    let mta = Mta::start(spool, sink, &[])?;
    let mut rows = vec![("start until it listens, ms".to_owned(), millis(mta.start))];
    for words in COMMANDS {
        let times: Outcome<Vec<f64>> = (0..ASKED).map(|_| Ok(millis(mta.ask(words)?.1))).collect();
        rows.push((format!("{}, ms", words.join(" ")), median(times?)));
    }
    let sent = mta.counter("Mail.Transferred")?;
    mta.ask(&["tell", "stop", "outbound"])?;
    let (begun, used) = (Instant::now(), mta.processor_time()?);
    let times = load::send(mta.address, SESSIONS, FRESH, "fresh.test")?;
    let rate = per_second(FRESH, begun.elapsed());
    rows.push(("accept, messages/s".to_owned(), rate));
    let used = mta.processor_time()?.saturating_sub(used);
    rows.push((
        "accept, processor time, ms/message".to_owned(),
        millis(used) / FRESH as f64,
    ));
    rows.push((
        "accept, longest, ms".to_owned(),
        times.last().copied().map_or(0.0, millis),
    ));
    mta.ask(&["tell", "start", "outbound"])?;
    mta.wait_for_transfers(sent + FRESH)?;
    let (begun, used) = (Instant::now(), mta.processor_time()?);
    load::send(mta.address, SESSIONS, FRESH, "fresh.test")?;
    mta.wait_for_transfers(sent + 2 * FRESH)?;
    let spent = mta.processor_time()?.saturating_sub(used);
    rows.push(("relay, messages/s".to_owned(), per_second(FRESH, begun.elapsed())));
    rows.push((
        "relay, processor time, ms/message".to_owned(),
        millis(spent) / FRESH as f64,
    ));
    Ok(rows)
}

/// The medians, with minimum and maximum, side by side.
fn report(messages: usize, empty: &[Vec<Row>], waiting: &[Vec<Row>]) {
    let cell = |runs: &[Vec<Row>], row: usize| {
        let values: Vec<f64> = runs.iter().map(|rows| rows[row].1).collect();
        let (least, most) = values.iter().fold((f64::MAX, 0.0_f64), |(least, most), value| {
            (least.min(*value), most.max(*value))
        });
        let middle = median(values);
        (
            middle,
            format!("{} ({}–{})", digits(middle), digits(least), digits(most)),
        )
    };
    println!("| | empty queue | {messages} waiting | ratio |\n|---|---|---|---|");
    for row in 0..empty.first().map_or(0, Vec::len) {
        let ((before, empty_cell), (after, full_cell)) = (cell(empty, row), cell(waiting, row));
        println!(
            "| {} | {empty_cell} | {full_cell} | {:.2} |",
            empty[0][row].0,
            after / before
        );
    }
}

fn digits(value: f64) -> String {
    let decimals = match value {
        ..1.0 => 3,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn per_second(messages: usize, time: Duration) -> f64 {
    messages as f64 / time.as_secs_f64()
}
