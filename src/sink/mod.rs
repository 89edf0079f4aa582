//! The sink: an SMTP server that takes mail for tests and trials, and misbehaves to order (`smtpmta sink`).
//!
//! [`session`] says what is right at each moment, [`faults`] what is ordered instead, [`chaos`] what goes wrong without
//! an order, `handler` says one of these;
//! [`server`] is the sink as a whole, also for tests inside the process. Needs no configuration and no spool, and
//! shares nothing with the MTA but the grammar.

pub mod chaos;
pub mod doubles;
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

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use folder::Folder;
use server::{Sink, StartError};
use settings::Settings;
use terminal::{Terminal, draws_lots, summary, tell};

/// How its own lines begin.
const OURS: &str = "smtpmta sink: ";

/// Runs a sink in the foreground until there were messages enough, or a signal ends it. Tells on standard output
/// where it listens, what comes, and the sums; these on SIGUSR1, too.
///
/// # Errors
/// It could not start.
pub fn run(settings: Settings) -> Result<(), StartError> {
    let open = |path: &PathBuf| Folder::open(path).map_err(|error| StartError::Folder(path.clone(), error));
    let folder = settings.dir.as_ref().map(open).transpose()?;
    let seed = settings.seed.unwrap_or_else(random_seed);
    // Before the first line is told: who has read it may send a signal.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(StartError::System)?;
    let has_chaos = settings.chaos;
    let terminal = Terminal::new(settings.telling, folder);
    let terminal = Arc::new(match has_chaos {
        true => terminal.watching_doubles(),
        false => terminal,
    });
    let sink = Sink::start(settings, seed, Arc::clone(&terminal) as _)?;
    let (stop, account) = (sink.stopper(), sink.accountant());
    let tell_sums = {
        let terminal = Arc::clone(&terminal);
        move || {
            let (orders, chaos) = account();
            let mut lines = summary(terminal.sums(), &orders);
            lines.extend(chaos.into_iter().flat_map(|chaos| chaos.lines(seed)));
            tell(&ours(lines));
        }
    };
    let handle = signals.handle();
    let on_signal = tell_sums.clone();
    let waiting = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => on_signal(),
                _ => return stop(),
            }
        }
    });
    let waiting = waiting.map_err(StartError::System)?;
    let listening = sink
        .addresses()
        .iter()
        .map(|address| format!("listening on {address}"));
    tell(&ours(listening.collect()));
    if has_chaos || draws_lots(&sink.orders()) {
        tell(&ours(vec![format!("lots are drawn with --seed {seed}")]));
    }
    sink.wait();
    handle.close();
    let _ = waiting.join();
    drop(sink);
    tell_sums();
    Ok(())
}

/// Lines of its own.
fn ours(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| format!("{OURS}{line}")).collect()
}

/// A seed that no run before had.
fn random_seed() -> u64 {
    let mut octets = [0; 4];
    // Short enough to be typed. Without random octets it is the same seed each time, and told as well.
    let _ = aws_lc_rs::rand::fill(&mut octets);
    u64::from(u32::from_be_bytes(octets))
}
