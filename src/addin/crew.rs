//! The tasks that the add-in task starts and stops: what each of them needs, and how each is stopped.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use super::StartError;
use super::files::Files;
use super::roster::{self, Ending, Handlers, Roster, is_ending};
use super::wanted::Wanted;
use crate::clock::Clock;
use crate::config::Config;
use crate::console::command::Part;
use crate::console::screen;
use crate::conversion::inbound_task::InboundConversion;
use crate::conversion::outbound_task::OutboundConversion;
use crate::delivery_report::task::DeliveryReport;
use crate::dns::resolver::Resolver;
use crate::domain_list::guide::Guide;
use crate::domain_list::list::HopId;
use crate::domain_list::next_hop::NextHop;
use crate::domain_list::pace::{Pace, Rates};
use crate::http::facts::Staff;
use crate::inbound::client_name::ClientNames;
use crate::inbound::controller::{InboundController, Listener};
use crate::inbound::handler::InboundHandler;
use crate::inbound::reception::Reception;
use crate::latest::Latest;
use crate::log_book;
use crate::mailbox::Mailboxes;
use crate::mailbox::directory::Directory;
use crate::outbound::controller::OutboundController;
use crate::outbound::dispatch::Dispatch;
use crate::outbound::handler::OutboundHandler;
use crate::outbound::hosts::HostSettings;
use crate::outbound::logins::Logins;
use crate::outbound::security::SecurityRules;
use crate::service::ports::{Ports, fronts};
use crate::smtp::path::Mailbox;
use crate::tasks::Task;
use crate::tasks::bell::{Bell, Bells, Stop};
use crate::tasks::board::Board;
use crate::tasks::member::{Halt, Member};
use crate::tasks::table::HandlerRow;
use crate::tls::trust::Trust;
use crate::work_queue::retry::RetryPolicy;
use crate::work_queue::{Terms, WorkQueue};

/// How long the operator waits for a transport to stop before it goes on in the background.
const OPERATORS_PATIENCE: Duration = Duration::from_secs(2);

/// How long its sessions may take to finish what is on the wire.
const GRACE: Duration = Duration::from_secs(60);

/// The tasks that run, and what they share.
pub(super) struct Crew {
    queue: WorkQueue,
    /// Sockets that are open as long as the MTA runs.
    ports: Ports,
    bells: Bells,
    /// What each task is doing.
    pub(super) board: Board,
    running: BTreeMap<Part, Member<Handlers>>,
    /// What should run, too, and could not be started.
    wanted: Wanted,
    /// Handler tables whose sessions are still ending, each with the news that they have.
    ending: Vec<Ending>,
    /// The same for who looks on from another thread.
    roster: Latest<Roster>,
    /// The domain lists that wait and that handlers have, those of a transport that is still ending among them.
    dispatch: Dispatch,
    /// Where isesctl listened last: a port that was free to choose stays the same after a stop.
    bound: Vec<(SocketAddr, SocketAddr)>,
    /// Who is here, by the files that were read last.
    directory: Latest<Directory>,
    /// What inbound sessions begin with, by the same files.
    reception: Latest<Reception>,
    /// How we log in at other hosts, by the same files.
    logins: Latest<Logins>,
    /// Whom we trust where a host has to prove its name, by the same files.
    trust: Latest<Trust>,
}

/// `task` has come to its end.
fn tell_end(board: &Board, task: Task) {
    board.end(task);
    log_book::say(&screen::stopped(task));
}

impl Crew {
    pub(super) fn new(queue: WorkQueue, files: Files, ports: Ports) -> Crew {
        Crew {
            queue,
            ports,
            bells: Bells::default(),
            board: Board::default(),
            running: BTreeMap::new(),
            wanted: Wanted::default(),
            ending: Vec::new(),
            roster: Latest::new(Arc::default()),
            dispatch: Dispatch::default(),
            bound: Vec::new(),
            directory: Latest::new(files.directory),
            reception: Latest::new(files.reception),
            logins: Latest::new(files.logins),
            trust: Latest::new(files.trust),
        }
    }

    /// How a next hop is served just now.
    pub(super) fn pace(&self, hop: HopId, name: &str, rates: &Rates) -> Pace {
        self.dispatch.pace(hop, &NextHop::from_name(name), rates)
    }

    /// The doorbell of osesctl.
    pub(super) fn outbound_bell(&self) -> Bell {
        self.bells.osesctl.clone()
    }

    /// The doorbells of all tasks.
    pub(super) fn bells(&self) -> Bells {
        self.bells.clone()
    }

    /// From now on what begins goes by these files; what has begun goes on as it is.
    pub(super) fn take_files(&mut self, files: Files) {
        self.directory.replace(files.directory);
        self.reception.replace(files.reception);
        self.logins.replace(files.logins);
        self.trust.replace(files.trust);
    }

    /// From now on mail that an operator leads by hand goes as far as this configuration lets it, and what is no longer led
    /// goes as it says.
    pub(super) fn guide_by(&self, config: &Config) {
        let (directory, guide) = (self.directory.clone(), Guide::new(config));
        self.queue.be_guided(move |path, pin| {
            let is_local = directory.take().is_local(path);
            (!is_local).then(|| guide.next_hop(path.domain(), pin))
        });
    }

    /// Starts one task; `false` when it is running already.
    pub(super) fn start(&mut self, part: Part, config: &Config) -> Result<bool, StartError> {
        if self.running.contains_key(&part) {
            return Ok(false);
        }
        let member = match part {
            Part::OutboundConversion => self.start_omsgcnv(config),
            Part::OutboundTransport => self.start_osesctl(config),
            Part::InboundTransport => self.start_isesctl(config),
            Part::InboundConversion => self.start_imsgcnv(config),
            Part::DrTask => self.start_drt(config),
            Part::All | Part::Inbound | Part::Outbound => return Ok(false),
        }?;
        self.running.insert(part, member);
        self.post();
        Ok(true)
    }

    /// The same; if it can not be started now, it is wanted, and tried again until it can.
    pub(super) fn start_or_want(&mut self, part: Part, config: &Config) -> Result<bool, StartError> {
        let started = self.start(part, config);
        match &started {
            Ok(_) => _ = self.wanted.remove(part),
            Err(error) => {
                if let Some(task) = part.task() {
                    self.board.begin(task);
                    self.board.write(task, screen::not_started(&error.to_string()));
                }
                if self.wanted.insert(part, error.to_string(), Instant::now()) {
                    log::error!("{part} could not be started, and is tried again: {error}");
                }
            }
        }
        self.post();
        started
    }

    /// Tries again to start what could not be started, if it is time for that.
    pub(super) fn start_wanted(&mut self, config: &Config) {
        for part in self.wanted.due(Instant::now()) {
            if self.start_or_want(part, config).is_ok() {
                log::warn!("{part} has been started, after it could not be");
            }
        }
    }

    /// Until that is to be done; `None` where everything runs that should.
    pub(super) fn until_wanted(&self) -> Option<Duration> {
        self.wanted.until_next(Instant::now())
    }

    /// Stops one task, and its handlers; `None` when it is not running and should not, `Some(false)` when its sessions
    /// need longer than an operator waits.
    pub(super) fn stop(&mut self, part: Part) -> Option<bool> {
        let ended = self.end(part);
        self.post();
        ended
    }

    fn end(&mut self, part: Part) -> Option<bool> {
        let task = part.task()?;
        if self.wanted.remove(part) {
            self.board.stop(task);
            self.board.end(task);
            return Some(true);
        }
        let member = self.running.remove(&part)?;
        self.board.stop(task);
        let Some(handlers) = member.handlers().cloned() else {
            // Without sessions there is nobody to wait for; its successor must not meet it.
            let ended = member.halt(GRACE);
            tell_end(&self.board, task);
            return Some(ended);
        };
        // Given here, so that it holds even if the thread that waits can not be started.
        member.order_stop();
        let (tell, ended) = bounded(1);
        let board = self.board.clone();
        let halt = move || {
            member.halt(GRACE);
            tell_end(&board, task);
            let _ = tell.send(());
        };
        let waiting = std::thread::Builder::new()
            .name(format!("stop-{task}"))
            .spawn(halt);
        if let Err(error) = &waiting {
            log::error!("{task} is stopped without being waited for: {error}");
            // Who has sent a message may still hear what became of it.
            handlers.stop(OPERATORS_PATIENCE);
            tell_end(&self.board, task);
        }
        let in_time = waiting.is_ok() && ended.recv_timeout(OPERATORS_PATIENCE).is_ok();
        self.ending.retain(is_ending);
        if !in_time {
            self.ending.push((handlers, ended));
        }
        Some(in_time)
    }

    /// Whether isesctl could listen where `config` says, as far as it does not yet.
    pub(super) fn try_listen(&self, config: &Config) -> Result<(), StartError> {
        let known = |asked: &SocketAddr| {
            self.ports.has(*asked) || self.bound.iter().any(|(before, _)| before == asked)
        };
        for (_, address) in fronts(config).filter(|(_, asked)| !known(asked)) {
            // A port that is ours by another address is free once we have let go of it.
            let ours = self.bound.iter().any(|(_, bound)| bound.port() == address.port());
            match TcpListener::bind(address) {
                Err(error) if !ours => return Err(StartError::Listen(address, error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Stops everything, all at once; whether everything ended within `grace`.
    pub(super) fn stop_all(&mut self, grace: Duration) -> bool {
        type Stopping = Box<dyn FnOnce() -> bool + Send>;
        let members = std::mem::take(&mut self.running).into_values();
        let ending = std::mem::take(&mut self.ending).into_iter();
        let halts = members.map(|member| Box::new(move || member.halt(grace)) as Stopping);
        let ends = ending.map(|(handlers, _)| Box::new(move || handlers.stop(grace)) as Stopping);
        let stops: Vec<_> = halts.chain(ends).map(|stop| Mutex::new(Some(stop))).collect();
        let stop = |stop: &Mutex<Option<Stopping>>| {
            let stop = stop.lock().take();
            stop.is_none_or(|stop| stop())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = stops
                .iter()
                .filter_map(|one| std::thread::Builder::new().spawn_scoped(scope, || stop(one)).ok())
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or(false));
            let ended = joined.fold(true, |all, one| all & one);
            // Where the system has no threads left they are stopped one after the other.
            stops.iter().map(stop).fold(ended, |all, one| all & one)
        })
    }

    /// The tasks, and what each is doing.
    pub(super) fn task_rows(&self) -> Vec<(Task, String)> {
        roster::task_rows(&self.board)
    }

    /// The handlers that have been started.
    pub(super) fn handler_rows(&self) -> Vec<HandlerRow> {
        self.roster.take().handler_rows()
    }

    /// Who works, whenever somebody wants to know.
    pub(super) fn staff(&self) -> impl Fn() -> Staff + Send + Sync + use<> {
        let (roster, board) = (self.roster.clone(), self.board.clone());
        move || roster.take().staff(&board)
    }

    /// Says who works from now on.
    fn post(&self) {
        let handlers = self.running.values().filter_map(Member::handlers);
        self.roster.replace(Arc::new(Roster {
            running: self.running.keys().filter_map(|part| part.task()).collect(),
            wanted: self.wanted.parts().filter_map(Part::task).collect(),
            handlers: handlers.cloned().collect(),
            ending: self.ending.clone(),
        }));
    }

    fn start_omsgcnv(&self, config: &Config) -> Result<Member<Handlers>, StartError> {
        let task = OutboundConversion {
            queue: self.queue.clone(),
            bells: self.bells.clone(),
            board: self.board.clone(),
            directory: self.directory.clone(),
            guide: Guide::new(config),
            hostname: config.hostname.clone(),
            retry: retry(config),
            poll_interval: config.poll_interval,
        };
        self.spawn(Task::OutboundConversion, None, None, move |stop| task.run(stop))
    }

    fn start_imsgcnv(&self, config: &Config) -> Result<Member<Handlers>, StartError> {
        let task = InboundConversion {
            queue: self.queue.clone(),
            bells: self.bells.clone(),
            board: self.board.clone(),
            directory: self.directory.clone(),
            lmtp: config.lmtp.clone(),
            mailboxes: mailboxes(config, &self.queue),
            retry: retry(config),
            max_hops: config.max_hops,
            poll_interval: config.poll_interval,
            doubted: AtomicI64::default(),
        };
        self.spawn(Task::InboundConversion, None, None, move |stop| task.run(stop))
    }

    fn start_drt(&self, config: &Config) -> Result<Member<Handlers>, StartError> {
        let task = DeliveryReport {
            queue: self.queue.clone(),
            bells: self.bells.clone(),
            board: self.board.clone(),
            hostname: config.hostname.clone(),
            expire: config.expire,
            delay_warning: config.delay_warning,
            poll_interval: config.poll_interval,
        };
        self.spawn(Task::DeliveryReport, None, None, move |stop| task.run(stop))
    }

    fn start_osesctl(&self, config: &Config) -> Result<Member<Handlers>, StartError> {
        let dispatch = self.dispatch.clone();
        let guide = Guide::new(config);
        let terms = Terms {
            list_messages: config.list_messages,
            tokens: dispatch.tokens(rates(config)),
            router: Arc::new(move |path: &Mailbox, pin| guide.next_hop(path.domain(), pin)),
        };
        let handler = OutboundHandler {
            terms: terms.clone(),
            queue: self.queue.clone(),
            resolver: Arc::new(Resolver::new(&config.dns, Clock::System)),
            hosts: HostSettings::from(config),
            families: Arc::default(),
            hostname: config.hostname.clone(),
            security: SecurityRules::new(config, self.logins.clone()),
            trust: self.trust.clone(),
            retry: retry(config),
            dispatch: dispatch.clone(),
            per_next_hop: config.per_next_hop,
            bells: self.bells.clone(),
        };
        let bell = self.bells.osesctl.clone();
        let table = OutboundController::table(config.max_outbound_handlers, bell.clone(), handler);
        let controller = OutboundController {
            queue: self.queue.clone(),
            bell,
            board: self.board.clone(),
            say: log_book::say,
            poll_interval: config.poll_interval,
            terms,
            per_next_hop: config.per_next_hop,
            dispatch,
            table: table.clone(),
        };
        let handlers = Handlers::Outbound(table);
        self.spawn(Task::OutboundController, Some(handlers), None, move |stop| {
            controller.run(stop)
        })
    }

    fn start_isesctl(&mut self, config: &Config) -> Result<Member<Handlers>, StartError> {
        let listeners = self.bind(config)?;
        let handler = InboundHandler {
            queue: self.queue.clone(),
            imsgcnv: self.bells.imsgcnv.clone(),
            reception: self.reception.clone(),
            names: Arc::new(ClientNames::new(Arc::new(Resolver::new(
                &config.dns,
                Clock::System,
            )))),
            session_timeout: config.session_timeout,
        };
        let freed = Bell::default();
        let table = InboundController::table(config.max_inbound_handlers, freed.clone(), handler);
        let (wake, woken) = UnixStream::pair().map_err(StartError::System)?;
        let ports: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|l| l.socket.local_addr().ok())
            .collect();
        let controller = InboundController {
            listeners,
            wake: woken,
            freed,
            board: self.board.clone(),
            say: log_book::say,
            sessions_per_client: config.max_sessions_per_client,
            hostname: config.hostname.clone(),
            table: table.clone(),
        };
        let handlers = Handlers::Inbound(table);
        let member = self.spawn(Task::InboundController, Some(handlers), Some(wake), move |stop| {
            controller.run(stop)
        })?;
        for port in ports {
            log_book::say(&screen::said_by(
                Task::InboundController,
                &screen::listening_on(&port.to_string()),
            ));
        }
        Ok(member)
    }

    fn bind(&mut self, config: &Config) -> Result<Vec<Listener>, StartError> {
        let mut listeners = Vec::new();
        let mut bound = Vec::new();
        for (place, (front, asked)) in fronts(config).enumerate() {
            let again = self
                .bound
                .get(place)
                .filter(|(before, _)| *before == asked)
                .map_or(asked, |(_, got)| *got);
            let broken = |error| StartError::Listen(again, error);
            let listener = match self.ports.listener(front, asked).map_err(broken)? {
                Some(kept) => kept,
                None => Listener {
                    socket: TcpListener::bind(again).map_err(broken)?,
                    front,
                    is_kept: false,
                },
            };
            listener.socket.set_nonblocking(true).map_err(broken)?;
            bound.push((asked, listener.socket.local_addr().map_err(broken)?));
            listeners.push(listener);
        }
        self.bound = bound;
        Ok(listeners)
    }

    /// Starts the thread of a primary task. One that panics is started again.
    fn spawn(
        &self,
        task: Task,
        handlers: Option<Handlers>,
        wake: Option<UnixStream>,
        run: impl Fn(&Stop) + Send + 'static,
    ) -> Result<Member<Handlers>, StartError> {
        Member::start(task, &self.board, handlers, wake, run).map_err(StartError::System)
    }
}

fn mailboxes(config: &Config, queue: &WorkQueue) -> Mailboxes {
    Mailboxes {
        template: config.mail_dir.clone(),
        hostname: config.hostname.clone(),
        spool: queue.spool().to_owned(),
    }
}

/// `--hop-rate`, as `config` says.
pub(super) fn rates(config: &Config) -> Rates {
    Rates {
        rates: config.hop_rates.clone(),
        router: config.router(),
    }
}

fn retry(config: &Config) -> RetryPolicy {
    RetryPolicy {
        schedule: config.retry_schedule.clone(),
        expire: config.expire,
    }
}
