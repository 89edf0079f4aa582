//! The matrix: every row of every server, again and again, with another order each time; then the table.
//!
//! Never takes a value of a server that did not do all that it had to: such a cell is told of, and left out.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::ground::Ground;
use crate::machine;
use crate::options::Options;
use crate::path::LongPath;
use crate::row::{Reading, Row};
use crate::rows;
use crate::server::Server;
use crate::servers::{exim::Exim, opensmtpd::OpenSmtpd, postfix::Postfix, smtpmta::Smtpmta};
use crate::sink::Sink;
use crate::table::{self, Column, Measured, short};

/// The round trip of the long path.
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// Where everything is relayed to.
const SINK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2600);

/// Runs what the options ask for.
///
/// # Errors
/// Why it could not be run, or how many cells have failed.
pub fn run(words: &[String]) -> Result<(), String> {
    let options = Options::read(
        words,
        &["home", "rows", "reps", "peers", "smtpmta", "results"],
        &["quick", "write"],
    )?;
    let began = Instant::now();
    let quick = options.has("quick");
    let home = PathBuf::from(
        options
            .text("home")
            .ok_or("run needs --home, the folder of the peers")?,
    );
    let sink = Sink::start(SINK).map_err(|error| format!("sink at {SINK}: {error}"))?;
    let path = LongPath::on_standard_input(ROUND_TRIP).map_err(|error| format!("tun: {error}"))?;
    let time = Duration::from_secs_f64(if quick { 1.0 } else { 4.0 });
    let ground = Ground {
        home,
        sink,
        path,
        time,
        quick,
    };

    let rows = chosen_rows(&options)?;
    let servers = chosen_servers(&options, &ground.home)?;
    let reps: usize = options.value("reps")?.unwrap_or(if quick { 1 } else { 5 });
    let (measured, complaints) = measure_all(&ground, &rows, &servers, reps);

    let text = report(&ground, &servers, &measured, &complaints, reps, began.elapsed());
    println!("\n{text}");
    let whole = !quick && !options.has("rows") && !options.has("peers");
    if whole || options.has("write") {
        let results = options
            .text("results")
            .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md"));
        fs::write(results, text).map_err(|error| format!("{results}: {error}"))?;
        println!("written to {results}");
    }
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(format!("{} cells have failed", complaints.len()))
    }
}

fn chosen_rows(options: &Options) -> Result<Vec<Box<dyn Row>>, String> {
    let all = rows::all();
    let Some(names) = options.text("rows") else {
        let quick = options.has("quick");
        return Ok(all.into_iter().filter(|row| !quick || row.is_quick()).collect());
    };
    let names: Vec<&str> = names.split(',').collect();
    if let Some(name) = names
        .iter()
        .find(|name| !all.iter().any(|row| row.name().starts_with(**name)))
    {
        let known: Vec<&str> = all.iter().map(|row| row.name()).collect();
        return Err(format!("--rows {name}: not known; there are {}", known.join(" ")));
    }
    // The beginning of a name stands for all that begin so.
    Ok(all
        .into_iter()
        .filter(|row| names.iter().any(|name| row.name().starts_with(name)))
        .collect())
}

/// Ours and the peers, in the order of the columns.
fn chosen_servers(options: &Options, home: &Path) -> Result<Vec<Box<dyn Server>>, String> {
    let mut servers: Vec<Box<dyn Server>> = Vec::new();
    for (number, build) in options
        .text("smtpmta")
        .unwrap_or(env!("CARGO_BIN_EXE_smtpmta"))
        .split(',')
        .enumerate()
    {
        let (name, binary) = match build.split_once('=') {
            Some((name, binary)) => (name.to_owned(), binary),
            None if number == 0 => ("smtpmta".to_owned(), build),
            None => (format!("smtpmta-{}", number + 1), build),
        };
        let binary = Path::new(binary)
            .canonicalize()
            .map_err(|error| format!("{binary}: {error}"))?;
        servers.push(Box::new(Smtpmta::new(&name, &binary, number as u16, home, SINK)));
    }
    for peer in options
        .text("peers")
        .unwrap_or("postfix,exim,opensmtpd")
        .split(',')
    {
        servers.push(match peer {
            "postfix" => Box::new(Postfix::new(home, SINK)),
            "exim" => Box::new(Exim::new(home, SINK)),
            "opensmtpd" => Box::new(OpenSmtpd::new(home, SINK)),
            "none" => continue,
            other => {
                return Err(format!(
                    "--peers {other}: not known; there are postfix exim opensmtpd none"
                ));
            }
        });
    }
    Ok(servers)
}

fn measure_all(
    ground: &Ground,
    rows: &[Box<dyn Row>],
    servers: &[Box<dyn Server>],
    reps: usize,
) -> (Vec<Measured>, Vec<String>) {
    let mut complaints = Vec::new();
    let mut measured: Vec<Measured> = rows
        .iter()
        .map(|row| Measured {
            quantities: row.quantities(),
            readings: vec![Vec::new(); servers.len()],
            ceiling: Vec::new(),
        })
        .collect();
    for rep in 0..reps {
        for number in order(rows.len(), rep) {
            let (row, results) = (&rows[number], &mut measured[number]);
            let began = Instant::now();
            if let Some(outcome) = row.ceiling(ground) {
                let name = format!("{}, round {}, load alone", row.name(), rep + 1);
                results
                    .ceiling
                    .extend(told(&name, began, outcome, &mut complaints));
            }
            // Position alone can move a value by a third.
            for turn in 0..servers.len() {
                let place = (turn + rep + number) % servers.len();
                let server = &*servers[place];
                if row.takes(server) {
                    let name = format!("{}, round {}, {}", row.name(), rep + 1, server.name());
                    let began = Instant::now();
                    let outcome = row.measure(ground, server);
                    results.readings[place].extend(told(&name, began, outcome, &mut complaints));
                }
            }
        }
    }
    (measured, complaints)
}

/// The order of so many rows in this round. What a machine did before moves a value, too: in each round a row has other
/// rows before it.
fn order(rows: usize, round: usize) -> impl Iterator<Item = usize> {
    let is_coprime = |stride: &usize| {
        let (mut a, mut b) = (*stride, rows);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let stride = (1..).filter(is_coprime).nth(round).unwrap_or(1);
    (0..rows).map(move |place| (place * stride + round) % rows)
}

fn told(
    name: &str,
    began: Instant,
    outcome: Result<Reading, String>,
    complaints: &mut Vec<String>,
) -> Option<Reading> {
    match outcome {
        Ok(reading) => {
            let values: Vec<String> = reading.values.iter().copied().map(short).collect();
            println!(
                "{name}: {}  ({:.1} s)",
                values.join(", "),
                began.elapsed().as_secs_f64()
            );
            Some(reading)
        }
        Err(error) => {
            println!("{name}: FAILED: {error}");
            complaints.push(format!("{name}: {error}"));
            None
        }
    }
}

fn report(
    ground: &Ground,
    servers: &[Box<dyn Server>],
    measured: &[Measured],
    complaints: &[String],
    reps: usize,
    took: Duration,
) -> String {
    let columns: Vec<Column> = servers
        .iter()
        .map(|server| Column {
            name: server.name().to_owned(),
            ours: server.is_ours(),
            durable: server.is_durable(),
        })
        .collect();
    let mut text = "# smtpmta beside its peers\n\nWritten by `benches/peers.sh`; README.md says how, and what each line \
                    means.\n\n"
        .to_owned();
    for line in machine::describe(&ground.home) {
        text += &format!("- {line}\n");
    }
    for server in servers {
        let note = if server.is_durable() {
            ""
        } else {
            " (syncs nothing before its 250)"
        };
        text += &format!("- {}: {}{note}\n", server.name(), server.version());
    }
    text += &format!(
        "- rounds: {reps}, in {:.0} minutes; each value is a median (least–most)\n\n",
        took.as_secs_f64() / 60.0
    );
    text += &table::render(&columns, measured);
    if !complaints.is_empty() {
        text += "\nLeft out:\n\n";
        for complaint in complaints {
            text += &format!("- {complaint}\n");
        }
    }
    text
}
