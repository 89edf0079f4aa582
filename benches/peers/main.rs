//! Measures smtpmta beside other mail servers: a load, a counting sink, and the runner of the whole matrix.
//!
//! `cargo bench --bench peers -- SUBCOMMAND OPTIONS`; see README.md beside. Never part of the MTA, and never speaks to
//! any host but those it is told to, which are on the loopback.
#![allow(clippy::print_stdout, reason = "its tables and sums are for whoever runs it")]
#![allow(clippy::print_stderr, reason = "its complaints are for whoever runs it")]

mod account;
mod client;
mod ending;
mod ground;
mod idle;
mod latencies;
mod load;
mod machine;
mod matrix;
mod message;
mod options;
mod path;
mod row;
mod rows;
mod running;
mod server;
mod servers;
mod sink;
mod syslog;
mod table;
mod wait;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use latencies::Latencies;
use load::{Order, Sums};
use message::Model;
use options::Options;
use sink::Sink;

const USAGE: &str = "\
load   --target HOST:PORT [--sessions N] [--count N] [--seconds S] [--rate N] [--every S] [--size OCTETS]
       [--per-connection N] [--from ADDRESS] [--to ADDRESS] [--hosts N] [--most-errors N]
       Sends messages. --rate: so many a second, each counted from when it is due. --every: the sums of each S seconds.
       '#' in --to becomes a number below --hosts, another one for each message.
sink   [--listen HOST:PORT] [--every S] [--count N]
       Takes messages, and counts them.
run    --home FOLDER [--quick] [--rows NAME,...] [--peers NAME,...] [--reps N] [--smtpmta BIN | NAME=BIN,NAME=BIN]
       [--write] [--results FILE]
       Measures, as benches/peers.sh starts it.
";

fn main() -> ExitCode {
    // Cargo adds --bench of its own.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let (subcommand, words) = words
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let result = match subcommand {
        "load" => load(words),
        "sink" => sink(words),
        "run" => matrix::run(words),
        _ => {
            print!("{USAGE}");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn load(words: &[String]) -> Result<(), String> {
    let names = [
        "target",
        "sessions",
        "count",
        "seconds",
        "rate",
        "every",
        "size",
        "per-connection",
        "from",
        "to",
        "hosts",
        "most-errors",
    ];
    let options = Options::read(words, &names, &[])?;
    let target: SocketAddr = options.value("target")?.unwrap_or(([127, 0, 0, 1], 2525).into());
    let model = Model::new(
        options.value("size")?.unwrap_or(4096),
        options.text("from").unwrap_or("sender@load.example"),
        options.text("to").unwrap_or("recipient@sink.example"),
        options.value("hosts")?.unwrap_or(1),
    );
    let (seconds, rate): (Option<f64>, Option<f64>) = (options.value("seconds")?, options.value("rate")?);
    let count = match (options.value("count")?, seconds, rate) {
        (Some(count), ..) => count,
        // All that fall due within the time are sent, however late.
        (None, Some(seconds), Some(rate)) => (seconds * rate).round() as u64,
        (None, Some(_), None) => u64::MAX,
        (None, None, _) => 1000,
    };
    let order = Order {
        per_connection: options.value("per-connection")?.unwrap_or(u64::MAX),
        time: if rate.is_some() {
            None
        } else {
            seconds.map(Duration::from_secs_f64)
        },
        rate,
        every: options.value("every")?.map(Duration::from_secs_f64),
        most_errors: options.value("most-errors")?.unwrap_or(100),
        ..Order::new(target, model, options.value("sessions")?.unwrap_or(10), count)
    };
    let sums = load::run(&order, |since, part| println!("{}", sums_line(since, part)))?;
    println!("all: {}", sums_line(sums.took, &sums));
    if sums.errors > 0 {
        return Err(format!(
            "{} errors, the first: {}",
            sums.errors,
            sums.first_error.unwrap_or_default()
        ));
    }
    Ok(())
}

fn sums_line(since: Duration, sums: &Sums) -> String {
    let error = sums
        .first_error
        .as_ref()
        .map_or(String::new(), |error| format!(", the first: {error}"));
    format!(
        "{:.1} s: {} taken, {:.1}/s, {}, {} errors{error}",
        since.as_secs_f64(),
        sums.latencies.count(),
        sums.rate(),
        percentiles(&sums.latencies),
        sums.errors,
    )
}

fn percentiles(times: &Latencies) -> String {
    format!(
        "ms p50 {:.2} p90 {:.2} p99 {:.2} p99.9 {:.2} max {:.2}",
        times.percentile(0.5),
        times.percentile(0.9),
        times.percentile(0.99),
        times.percentile(0.999),
        times.longest(),
    )
}

fn sink(words: &[String]) -> Result<(), String> {
    let options = Options::read(words, &["listen", "every", "count"], &[])?;
    let address: SocketAddr = options.value("listen")?.unwrap_or(([127, 0, 0, 1], 2600).into());
    let every = Duration::from_secs_f64(options.value("every")?.unwrap_or(60.0));
    let count: u64 = options.value("count")?.unwrap_or(u64::MAX);
    let sink = Sink::start(address).map_err(|error| format!("{address}: {error}"))?;
    println!("sink: listening on {}", sink.address);
    let mut seen = 0;
    while seen < count {
        let tally = sink.take(count - seen, every);
        seen += tally.messages;
        println!(
            "{seen} in all; {} messages, {} octets, {} connections, {} open, {} at most, {} broken, age {}",
            tally.messages,
            tally.octets,
            tally.connections,
            tally.open,
            tally.most_open,
            tally.broken,
            percentiles(&tally.ages),
        );
    }
    Ok(())
}
