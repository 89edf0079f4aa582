//! The sink: an SMTP server that takes mail for tests and trials, and misbehaves to order (`smtpmta sink`).
//!
//! [`session`] says what is right at each moment, [`faults`] what is ordered instead, `handler` says one of the two;
//! [`server`] is the sink as a whole, also for tests inside the process. Needs no configuration and no spool, and
//! shares nothing with the MTA but the grammar.

pub mod envelope;
pub mod fault;
pub mod faults;
pub mod folder;
mod handler;
pub mod options;
mod papers;
mod replies;
pub mod server;
pub mod service;
pub mod session;
pub mod settings;
pub mod stage;
pub mod stall;
pub mod terminal;
pub mod witness;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use folder::Folder;
use server::{Sink, StartError};
use settings::Settings;
use terminal::{Terminal, draws_lots, summary, tell};

/// How its own lines begin.
const OURS: &str = "smtpmta sink: ";

/// Runs a sink in the foreground until there were messages enough, or a signal ends it. Tells on standard output
/// where it listens, what comes, and the sums.
///
/// # Errors
/// It could not start.
pub fn run(settings: Settings) -> Result<(), StartError> {
    let open = |path: &PathBuf| Folder::open(path).map_err(|error| StartError::Folder(path.clone(), error));
    let folder = settings.dir.as_ref().map(open).transpose()?;
    let seed = settings.seed.unwrap_or_else(random_seed);
    // Before the first line is told: who has read it may send a signal.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(StartError::System)?;
    let terminal = Arc::new(Terminal::new(settings.telling, folder));
    let sink = Sink::start(settings, seed, Arc::clone(&terminal) as _)?;
    let stop = sink.stopper();
    let handle = signals.handle();
    let waiting = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            stop();
        }
    });
    let waiting = waiting.map_err(StartError::System)?;
    let ours = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().map(|line| format!("{OURS}{line}")).collect()
    };
    let listening = sink
        .addresses()
        .iter()
        .map(|address| format!("listening on {address}"));
    tell(&ours(listening.collect()));
    if draws_lots(&sink.orders()) {
        tell(&ours(vec![format!("lots are drawn with --seed {seed}")]));
    }
    sink.wait();
    handle.close();
    let _ = waiting.join();
    let orders = sink.orders();
    drop(sink);
    tell(&ours(summary(terminal.sums(), &orders)));
    Ok(())
}

/// A seed that no run before had.
fn random_seed() -> u64 {
    let mut octets = [0; 4];
    // Short enough to be typed. Without random octets it is the same seed each time, and told as well.
    let _ = aws_lc_rs::rand::fill(&mut octets);
    u64::from(u32::from_be_bytes(octets))
}
