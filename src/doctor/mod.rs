//! `smtpmta doctor`: looks for what keeps mail from flowing, or lets in who should stay out, in the process of the command,
//! by the configuration, with an MTA that runs or without.
//!
//! What is to be said is worked out by pure files; `look` asks the machine, DNS and hosts, each for a few seconds at most,
//! side by side. What could not be looked at is said, and not guessed. Nothing is changed, nothing queued; only the greeting
//! of a next hop is read.

pub mod exposure;
pub mod finding;
mod look;
pub mod machine;
pub mod names;
pub mod network;
pub mod papers;
pub mod reader;
pub mod relaying;
pub mod spool;

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::clock::Clock;
use crate::config::Invocation;
use crate::config::exit::Exit;
use crate::console::diagnosis::diagnosis;
use crate::dns::client::Patience;
use crate::dns::resolver::Resolver;
use exposure::Exposure;
use finding::{Finding, Status};
use look::Patient;

/// How long all of it may take. Each look has its own, shorter time; this is for what the system does not let go, as a file
/// system that is far away.
const IN_ALL: Duration = Duration::from_secs(30);

/// How long DNS servers may take.
const DNS: Patience = Patience {
    per_try: Duration::from_secs(2),
    in_all: Duration::from_secs(5),
};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--to`: try the hosts of this domain.
    pub to: Option<String>,
    /// `--json`.
    pub json: bool,
}

/// Looks, and prints what was found on `out`.
///
/// # Errors
/// When `out` takes nothing.
pub fn run(invocation: &Invocation, asked: &Asked, out: &mut dyn Write) -> io::Result<Exit> {
    let findings = examine(invocation, asked, IN_ALL);
    let screen = diagnosis(&findings);
    match asked.json {
        true => writeln!(out, "{}", screen.json)?,
        false => out.write_all(screen.text.as_bytes())?,
    }
    out.flush()?;
    Ok(
        match findings.iter().any(|finding| finding.status == Status::Error) {
            true => Exit::Refused,
            false => Exit::Done,
        },
    )
}

/// All that was found within this time, in the order of the looks.
fn examine(invocation: &Invocation, asked: &Asked, patience: Duration) -> Vec<Finding> {
    let config = &invocation.config;
    let until = Instant::now() + patience;
    let mta = look::mta(&config.spool);
    let patient = Arc::new(Patient {
        config: config.clone(),
        file: invocation.file.clone(),
        reader: look::reader(&mta, config),
        to: asked.to.clone(),
        exposure: Exposure::of(config),
        mta,
        resolver: Resolver::with_patience(&config.dns, Clock::System, DNS),
    });
    let begun: Vec<(&'static str, Receiver<Vec<Finding>>)> = look::LOOKS
        .iter()
        .map(|(check, look)| {
            let (to_us, findings) = bounded(1);
            let patient = Arc::clone(&patient);
            // One for which there is no thread is one that says nothing, and is told of below.
            let _ = thread::Builder::new().name((*check).to_owned()).spawn(move || {
                let _ = to_us.send(look(&patient));
            });
            (*check, findings)
        })
        .collect();
    let findings = begun.into_iter().flat_map(|(check, findings)| {
        findings.recv_deadline(until).unwrap_or_else(|_| {
            let what = format!("no answer within {} s", patience.as_secs());
            vec![Finding::unknown(
                check,
                what,
                "see what the system waits for, and ask again",
            )]
        })
    });
    findings.collect()
}
