//! SMTPMTA, the add-in task: starts, stops and watches the others, obeys the operator, and sees to the
//! housekeeping.
//!
//! Everything that the operator's words change, this one thread changes, one command at a time. Never
//! touches a message.

mod crew;
pub mod files;
mod housekeeping;
mod onlookers;
mod orders;
mod roster;
mod wanted;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::clock::Clock;
use crate::config::exit::Exit;
use crate::config::{Config, Invocation};
use crate::console::command::Part;
use crate::console::screen;
use crate::console::server::{self, Request};
use crate::console::terminal;
use crate::crash_point::{CrashPoint, reach};
use crate::latest::Latest;
use crate::log_book;
use crate::maildrop::{self, Collector};
use crate::service::Service;
use crate::service::confinement::{Confinement, Place};
use crate::service::daemon::Readiness;
use crate::service::manager::Manager;
use crate::service::pid_file::PidFile;
use crate::tasks::Task;
use crate::work_queue::ground::Ground;
use crate::work_queue::{QueueError, WorkQueue};
use crew::Crew;
use files::{Files, FilesError};
use housekeeping::Housekeeper;
use onlookers::Onlookers;

/// How long sessions may take to end when the MTA stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long after the order to stop what is to be written may wait for another program that has the queue locked: whoever
/// brings a message then hears in time that it was not taken.
const WRITING: Duration = Duration::from_secs(4);

/// How often it is looked whether somebody has set the clock.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(5);

/// Why the MTA could not start.
#[derive(Debug)]
pub enum StartError {
    /// The work queue.
    Queue(QueueError),
    /// A listening socket.
    Listen(SocketAddr, io::Error),
    /// A file or socket beside the queue.
    File(PathBuf, io::Error),
    /// A thread, or the signals.
    System(io::Error),
    /// A file that the configuration names.
    Configuration(FilesError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Queue(error) => error.fmt(f),
            StartError::Listen(address, error) => write!(f, "can not listen on {address}: {error}"),
            StartError::File(path, error) => write!(f, "{}: {error}", path.display()),
            StartError::System(error) => write!(f, "can not start: {error}"),
            StartError::Configuration(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<QueueError> for StartError {
    fn from(error: QueueError) -> StartError {
        StartError::Queue(error)
    }
}

/// LOAD SMTPMTA: runs the MTA until it is told to stop. `files` are those that the configuration names, read while that was
/// allowed; who waits for `readiness` is told when mail is accepted.
#[must_use]
pub fn run(
    invocation: Invocation,
    files: Result<Files, FilesError>,
    service: Service,
    readiness: Option<Readiness>,
) -> Exit {
    let is_elsewhere = invocation.config.log_file.is_some() || invocation.config.syslog;
    let addin = match Addin::load(invocation, files, service) {
        Ok(addin) => addin,
        Err(error) => {
            log::error!("{error}");
            if is_elsewhere {
                // Whoever starts it looks here first.
                let _ = writeln!(io::stderr(), "smtpmta: {error}");
            }
            let exit = match error {
                StartError::Configuration(_) => Exit::Configuration,
                _ => Exit::TryLater,
            };
            if let Some(readiness) = readiness {
                readiness.failed(exit);
            }
            return exit;
        }
    };
    if let Some(readiness) = readiness
        && let Err(error) = log_book::redirected(|| readiness.ready())
    {
        log::warn!("the terminal is not let go of: {error}");
    }
    addin.work();
    Exit::Done
}

/// Says what is wrong with the place where the queue is kept. Nobody is kept from using it.
fn warn_of_ground(spool: &Path) {
    match Ground::of(spool) {
        Ok(ground) => {
            for objection in ground.objections() {
                log::warn!("{objection}; {}", objection.advice());
            }
        }
        Err(error) => log::warn!("{}: {error}", spool.display()),
    }
}

/// The add-in task.
struct Addin {
    invocation: Invocation,
    queue: WorkQueue,
    crew: Crew,
    onlookers: Onlookers,
    housekeeper: Housekeeper,
    /// Takes in what lies in the maildrop.
    collector: Collector,
    /// What it goes by.
    maildrop: Latest<maildrop::Settings>,
    requests: Receiver<Request>,
    signals: Receiver<i32>,
    pid_file: Option<PidFile>,
    /// What this process can not do.
    confinement: Confinement,
    /// The places that it has left itself; none where that is all that its user has.
    places: Vec<Place>,
    /// By what it was started: of some options that holds whatever a refresh reads.
    at_start: Config,
    /// What has started us, if it wants to know how we are.
    manager: Manager,
    /// Makes up for a clock that was set back.
    making_up: Option<JoinHandle<()>>,
}

impl Addin {
    /// Opens the queue and starts the tasks in their order. When this returns, the MTA accepts mail.
    fn load(
        invocation: Invocation,
        files: Result<Files, FilesError>,
        service: Service,
    ) -> Result<Addin, StartError> {
        let config = &invocation.config;
        let files = files.map_err(StartError::Configuration)?;
        let queue = WorkQueue::open(&config.spool, Clock::System)?;
        let started = queue.message_id();
        let signals = hear_signals(service.signals, queue.clone()).map_err(StartError::System)?;
        let mut pid_file = service.pid_file;
        if let Some(file) = &mut pid_file {
            // Whoever reads it may send any of them now.
            let told = file.tell();
            told.map_err(|error| StartError::File(file.path().to_owned(), error))?;
        }
        let (to_addin, requests) = unbounded();
        let broken = |e| StartError::File(config.spool.join(server::SOCKET), e);
        server::listen(&config.spool, to_addin.clone()).map_err(broken)?;
        let mut crew = Crew::new(queue.clone(), files, service.ports);
        crew.guide_by(config);
        let maildrop = Latest::new(Arc::new(maildrop::Settings::from(config)));
        let collector = Collector::start(queue.clone(), maildrop.clone(), crew.bells().omsgcnv);
        let collector = collector.map_err(StartError::System)?;
        crew.board.begin(Task::Addin);
        crew.board.write(Task::Addin, "Running");
        let mut onlookers = Onlookers::new(queue.clone(), &crew, config);
        let looked_at = onlookers.try_listen(config)?;
        for part in Part::All.members() {
            crew.start(*part, config)?;
        }
        // Nobody is told that all is well before it is.
        onlookers.follow(config, looked_at)?;
        if config.accounts.is_none() {
            let domains = config.local_domains.join(", ");
            let note = match &config.lmtp {
                Some(server) => format!("No accounts: {server} decides who of {domains} has a mailbox"),
                None => format!("No accounts: every local part of {domains} is a mailbox"),
            };
            log_book::say(&screen::addin_says(&note));
        }
        let housekeeper = Housekeeper::new(queue.clone(), started);
        if !config.daemon {
            terminal::open(to_addin).map_err(StartError::System)?;
        }
        log::info!(
            "smtpmta {} started, spool {}",
            env!("CARGO_PKG_VERSION"),
            config.spool.display()
        );
        warn_of_ground(&config.spool);
        if service.confinement != Confinement::none() {
            log::info!("in force: {}", service.confinement.text());
        }
        let at_start = config.clone();
        let manager = Manager::find();
        manager.ready();
        Ok(Addin {
            invocation,
            queue,
            crew,
            onlookers,
            housekeeper,
            collector,
            maildrop,
            requests,
            signals,
            pid_file,
            confinement: service.confinement,
            places: service.places,
            at_start,
            manager,
            making_up: None,
        })
    }

    /// Obeys until it is told to stop, and stops.
    fn work(mut self) {
        loop {
            self.follow_clock();
            let config = &self.invocation.config;
            self.crew.start_wanted(config);
            self.onlookers.start_wanted(config);
            if self.housekeeper.is_due(config) {
                self.housekeeper.begin(config);
            }
            self.manager.lives();
            let rest = self.housekeeper.until_next(config).min(LOOK_AT_CLOCK);
            let rest = self.manager.pause().map_or(rest, |pause| rest.min(pause));
            let wanted = [self.crew.until_wanted(), self.onlookers.until_wanted()];
            let time = after(wanted.into_iter().flatten().fold(rest, Duration::min));
            select! {
                recv(self.requests) -> request => {
                    let Ok(request) = request else { break };
                    let quit = self.obey(&request);
                    if quit {
                        break;
                    }
                }
                recv(self.signals) -> signal => match signal {
                    Ok(SIGHUP) => {
                        self.manager.reloading();
                        let answer = self.refresh();
                        self.manager.ready();
                        let level = if answer.status == 0 { log::Level::Info } else { log::Level::Error };
                        log::log!(level, "refresh: {}", answer.text.trim_end());
                    }
                    _ => break,
                },
                recv(time) -> _ => {}
            }
        }
        self.stop();
    }

    /// If the clock has been set back, what waits for a moment must not wait for that. A large queue takes its time, and so
    /// does one that refuses: the operator must not wait for it. What can not be begun now is found again at the next look.
    fn follow_clock(&mut self) {
        if self
            .making_up
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
        {
            return;
        }
        let Some(by) = self.queue.set_back() else {
            return;
        };
        let (queue, bells) = (self.queue.clone(), self.crew.bells());
        let make_up = move || {
            match queue.make_up_for(by) {
                Ok(moved) => log::info!(
                    "due {} s earlier: {moved} recipients and messages that wait",
                    by.as_secs()
                ),
                Err(error) => log::warn!("what waits is made due earlier at the next start: {error}"),
            }
            bells.kick_all();
        };
        let begun = std::thread::Builder::new()
            .name("clock".to_owned())
            .spawn(make_up);
        self.making_up = begun
            .inspect_err(|error| log::warn!("what waits is not due earlier yet: {error}"))
            .ok();
    }

    fn stop(mut self) {
        terminal::leave();
        self.manager.stopping();
        self.queue.hurry(WRITING);
        self.collector.order_stop();
        self.crew.board.stop(Task::Addin);
        log_book::say(&screen::addin_says("Stopping"));
        self.onlookers.close();
        if !self.crew.stop_all(GRACE) {
            log::warn!(
                "some sessions did not end in time; what they had in hand is sent again at the next start"
            );
        }
        self.collector.halt();
        reach(CrashPoint::TasksStopped);
        self.queue.close();
        let _ = std::fs::remove_file(self.invocation.config.spool.join(server::SOCKET));
        drop(self.pid_file);
        log_book::say(&screen::stopped(Task::Addin));
        log::info!("smtpmta stopped");
    }
}

/// The signals that the MTA obeys, on a channel: those of `signals`, and those that ask to stop. A second one that asks
/// to stop is obeyed here, whatever the add-in task is at; it may be at something that waits for the queue, so that the
/// first one hurries that.
fn hear_signals(mut signals: Signals, queue: WorkQueue) -> io::Result<Receiver<i32>> {
    for stop in [SIGTERM, SIGINT] {
        signals.add_signal(stop)?;
    }
    let (heard, receiver): (Sender<i32>, _) = unbounded();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut told_to_stop = false;
            for signal in signals.forever() {
                if signal == SIGUSR1 {
                    // At once, whatever the add-in task is at: who moves the log away waits for this.
                    match log_book::open_again() {
                        Ok(()) => log::info!("the log has been opened again"),
                        Err(error) => log::warn!("the log file could not be opened again: {error}"),
                    }
                    continue;
                }
                if signal != SIGHUP {
                    terminal::leave();
                }
                if signal != SIGHUP && std::mem::replace(&mut told_to_stop, true) {
                    // Whoever asks twice does not want to wait. Nothing accepted is lost: the next start finds it.
                    log::warn!("told to stop a second time: stopping at once");
                    log_book::finish();
                    std::process::exit(1);
                }
                if signal != SIGHUP {
                    queue.hurry(WRITING);
                }
                // When the add-in task is gone a second signal still counts.
                let _ = heard.send(signal);
            }
        })?;
    Ok(receiver)
}
