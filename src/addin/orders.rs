//! How the add-in task obeys: each command of the console, and its answer.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::sync::Arc;

use super::files::Files;
use super::roster::STOPPED;
use super::{Addin, StartError};
use crate::config::Config;
use crate::config::exit::Exit;
use crate::config::flags::{self, AtRefresh, Opt};
use crate::console::command::{Command, Part, What};
use crate::console::hop;
use crate::console::screen::{self, Screen};
use crate::console::server::{Answer, Request};
use crate::console::trace;
use crate::console::why::{self, Surroundings};
use crate::domain_list::next_hop::NextHop;
use crate::domain_list::pace::Pace;
use crate::log_book::{self, Destination, Ready};
use crate::service::confinement;
use crate::service::owner::Owner;
use crate::tasks::Task;
use crate::transfer;
use crate::work_queue::id::MessageId;
use crate::work_queue::{ByHand, Choice, Order, QueueError, Retry, Step, Trace, WorkQueue};

/// Rows that a table of the console shows at most.
const ROWS: usize = 1000;

/// Recipients that `--dry-run` shows.
const SAMPLE: usize = 10;

/// Next hops that `queue age` shows, unless it is said how many.
const USUAL_AGES: usize = 20;

impl Addin {
    /// Does what `request` asks for and answers it; whether the MTA is to stop.
    pub(super) fn obey(&mut self, request: &Request) -> bool {
        let command = Command::parse(&request.words);
        let quit = command == Ok(Command::Quit);
        let answer = match command {
            Err(refusal) => Answer {
                status: refusal.exit().status(),
                text: format!("{refusal}\n"),
            },
            // A large queue takes its time: the others must not wait for it.
            Ok(Command::Retry(what)) => {
                self.retry(what, request);
                return false;
            }
            Ok(Command::ByHand(deed, choice)) => {
                self.by_hand(deed, self.with_routes(*choice), request);
                return false;
            }
            Ok(Command::Move(step)) => {
                self.step(step, request);
                return false;
            }
            Ok(Command::Preview(order, choice)) => {
                let choice = self.with_routes(*choice);
                self.aside("queue-dry-run", request, move |queue| {
                    let preview = queue.preview(&order, &choice, SAMPLE)?;
                    let exit = done_if(preview.done.recipients > 0);
                    Ok((exit, screen::preview(&order, &preview, queue.now())))
                });
                return false;
            }
            Ok(Command::Age(limit)) => {
                self.aside("queue-age", request, move |queue| {
                    let rows = queue.ages()?;
                    let exit = done_if(!rows.is_empty());
                    Ok((exit, screen::ages(&rows, limit.rows(USUAL_AGES))))
                });
                return false;
            }
            Ok(Command::Trace(id)) => {
                self.aside("trace", request, move |queue| {
                    let found: Vec<Trace> = queue.trace(id)?.into_iter().collect();
                    Ok((
                        done_if(!found.is_empty()),
                        trace::traces(&found, false, queue.now()),
                    ))
                });
                return false;
            }
            Ok(Command::Find(what, most)) => {
                self.aside("trace", request, move |queue| {
                    let mut ids = queue.find(&what, most.saturating_add(1))?;
                    let more = ids.len() > most;
                    ids.truncate(most);
                    let mut found = Vec::new();
                    for id in ids.into_iter().rev() {
                        found.extend(queue.trace(id)?);
                    }
                    Ok((
                        done_if(!found.is_empty()),
                        trace::traces(&found, more, queue.now()),
                    ))
                });
                return false;
            }
            Ok(Command::Why(id)) => {
                self.why(id, request);
                return false;
            }
            Ok(Command::Hop(name)) => match self.hop(&name) {
                Ok(screen) => done(shown(&screen, request.json)),
                Err(error) => later(&error),
            },
            Ok(Command::List(choice, rows)) => {
                let choice = self.with_routes(*choice);
                self.aside("queue-list", request, move |queue| {
                    let listing = queue.listing(&choice, rows)?;
                    let exit = done_if(!listing.rows.is_empty());
                    let screen = match choice.is_of_everything() {
                        true => screen::listing(&listing, queue.now()),
                        false => screen::matching(&listing, queue.now()),
                    };
                    Ok((exit, screen))
                });
                return false;
            }
            Ok(Command::Show(what, limit)) => match self.show(what, limit.rows(ROWS), request) {
                Some(Ok(screen)) => done(shown(&screen, request.json)),
                Some(Err(error)) => later(&error),
                None => return false,
            },
            Ok(Command::Quit) => done("SMTPMTA stops\n".to_owned()),
            Ok(Command::Start(part)) => self.start(part),
            Ok(Command::Stop(part)) => self.stop_part(part),
            Ok(Command::Refresh) => self.refresh(),
            Ok(Command::Housekeeping) => match self.housekeeper.begin(&self.invocation.config) {
                true => done("Housekeeping has begun\n".to_owned()),
                false => done("Housekeeping is at it already\n".to_owned()),
            },
        };
        // Whoever asked may have hung up.
        let _ = request.answer.send(answer);
        quit
    }

    /// What is to be shown; `None` where a thread of its own looks that up, and answers.
    fn show(&self, what: What, limit: usize, request: &Request) -> Option<Result<Screen, QueueError>> {
        let now = self.queue.now();
        Some(Ok(match what {
            What::Tasks => screen::tasks(&self.crew.task_rows(), &self.crew.handler_rows()),
            What::Config => {
                let row =
                    |s: &crate::config::Setting| (s.name.to_owned(), s.value.clone(), s.origin.to_string());
                let settings: Vec<_> = self.invocation.settings.iter().map(row).collect();
                screen::config(&self.invocation.show(), &settings)
            }
            What::Stat => {
                let counters = |queue: &WorkQueue| Ok((Exit::Done, screen::statistics(&queue.statistics()?)));
                self.aside("show-stat", request, counters);
                return None;
            }
            What::Version => screen::version(&self.confinement),
            What::Queue => {
                self.aside("show-queue", request, move |queue| {
                    let (rows, hops) = queue.queue_rows(limit)?;
                    Ok((Exit::Done, screen::queue(&rows, hops, now)))
                });
                return None;
            }
            What::Lists => match self.queue.list_rows(limit) {
                Ok(rows) => screen::lists(&rows, now),
                Err(error) => return Some(Err(error)),
            },
            What::Hops => {
                let rates = super::crew::rates(&self.invocation.config);
                let rows = match self.queue.hop_rows(limit) {
                    Ok(rows) => rows,
                    Err(error) => return Some(Err(error)),
                };
                let rows = rows.into_iter().map(|row| {
                    let pace = self.crew.pace(row.hop, &row.next_hop, &rates);
                    (row, pace)
                });
                screen::hops(&rows.collect::<Vec<_>>(), now)
            }
        }))
    }

    /// One next hop, and what would become of mail that came for it now.
    fn hop(&self, name: &str) -> Result<Screen, QueueError> {
        let config = &self.invocation.config;
        let rates = super::crew::rates(config);
        let state = self.queue.hop_state(name)?;
        let pace = match &state {
            Some(state) => self.crew.pace(state.row.hop, name, &rates),
            None => Pace::untouched(rates.of(&NextHop::from_name(name))),
        };
        let mut doing = self.crew.task_rows().into_iter();
        let is_stopped = doing.any(|(task, doing)| task == Task::OutboundController && doing == STOPPED);
        let handlers = self.crew.handler_rows();
        let is_outbound = |task| matches!(task, Task::OutboundHandler(_));
        let busy = handlers.iter().filter(|row| row.busy && is_outbound(row.task));
        let all_are_busy = busy.count() >= config.max_outbound_handlers;
        Ok(hop::hop(&hop::Facts {
            name,
            state: state.as_ref(),
            pace,
            per_next_hop: config.per_next_hop,
            is_stopped,
            all_are_busy,
            now: self.queue.now(),
        }))
    }

    /// Makes messages due now.
    fn retry(&self, what: Retry, request: &Request) {
        let what = match what {
            Retry::Hops(names) => Retry::Hops(self.routed(names)),
            Retry::Chosen(choice) => Retry::Chosen(self.with_routes(choice)),
            other => other,
        };
        let (by, kick) = (request.by.clone(), self.crew.outbound_bell());
        self.aside("queue-retry", request, move |queue| {
            let retried = queue.retry(&what, &by);
            kick.kick();
            let messages = retried?;
            Ok((done_if(messages > 0), screen::retried(messages)))
        });
    }

    /// Says what a message waits for.
    fn why(&self, id: MessageId, request: &Request) {
        let doing = self.crew.task_rows();
        let stopped = doing.into_iter().filter(|(_, doing)| doing == STOPPED);
        let around = Surroundings {
            stopped: stopped.map(|(task, _)| task).collect(),
            handlers: self.crew.handler_rows(),
            expires: id.arrived().plus(self.invocation.config.expire),
            now: self.queue.now(),
        };
        self.aside("why", request, move |queue| {
            let found = queue.trace(id)?;
            Ok((done_if(found.is_some()), why::why(found.as_ref(), &around)))
        });
    }

    /// Does this to recipients; whoever has more to do then is told.
    fn by_hand(&self, deed: ByHand, choice: Choice, request: &Request) {
        let (by, bells) = (request.by.clone(), self.crew.bells());
        self.aside("queue-by-hand", request, move |queue| {
            let done = queue.do_by_hand(deed.clone(), &choice, &by);
            match deed {
                ByHand::Release => {
                    bells.imsgcnv.kick();
                    bells.omsgcnv.kick();
                }
                ByHand::Bounce => bells.drt.kick(),
                ByHand::Route(_) => bells.osesctl.kick(),
                ByHand::Hold | ByHand::Delete | ByHand::Undelete | ByHand::PutAside(_) => {}
            }
            let done = done?;
            let exit = done_if(done.recipients + done.in_hand > 0);
            Ok((exit, screen::done(&Order::ByHand(deed), done)))
        });
    }

    /// Takes a step on the way of mail to another spool, or from one; whoever has more to do then is told.
    fn step(&self, step: Step, request: &Request) {
        let (by, bells, config) = (
            request.by.clone(),
            self.crew.bells(),
            self.invocation.config.clone(),
        );
        self.aside("queue-move", request, move |queue| {
            let taken = transfer::step(queue, &config, step, &by);
            bells.imsgcnv.kick();
            bells.omsgcnv.kick();
            taken
        });
    }

    /// Answers from the work queue, in a thread of its own: a large one takes its time, and the others must not wait for
    /// it.
    fn aside(
        &self,
        name: &str,
        request: &Request,
        work: impl FnOnce(&WorkQueue) -> Result<(Exit, Screen), QueueError> + Send + 'static,
    ) {
        let (queue, json, answer) = (self.queue.clone(), request.json, request.answer.clone());
        let work = move || {
            let answered = match work(&queue) {
                Ok((exit, screen)) => Answer {
                    status: exit.status(),
                    text: shown(&screen, json),
                },
                Err(error) => later(&error),
            };
            // Whoever asked may have hung up.
            let _ = answer.send(answered);
        };
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            let _ = request.answer.send(later(&error));
        }
    }

    /// Who names a domain means the next hop where its mail goes, too.
    fn routed(&self, names: Vec<String>) -> Vec<String> {
        transfer::routed(&self.invocation.config, names)
    }

    fn with_routes(&self, choice: Choice) -> Choice {
        Choice {
            hops: self.routed(choice.hops),
            ..choice
        }
    }

    fn start(&mut self, part: Part) -> Answer {
        let mut text = String::new();
        let mut status = Exit::Done.status();
        for member in part.members() {
            match self.crew.start_or_want(*member, &self.invocation.config) {
                Ok(true) => text.push_str(&format!("{member} started\n")),
                Ok(false) => text.push_str(&format!("{member} is running\n")),
                Err(error) => {
                    status = Exit::TryLater.status();
                    text.push_str(&not_started(*member, &error));
                }
            }
        }
        Answer { status, text }
    }

    fn stop_part(&mut self, part: Part) -> Answer {
        let mut text = String::new();
        for member in part.members().iter().rev() {
            text.push_str(&match self.crew.stop(*member) {
                None => format!("{member} is not running\n"),
                Some(true) => format!("{member} stopped\n"),
                Some(false) => format!("{member} stops as soon as its sessions have ended\n"),
            });
        }
        done(text)
    }

    /// Reads the configuration again. If it is wrong, the old one stays as a whole. What the operator has
    /// stopped stays stopped (promise 6); what runs goes on to, as soon as the system has what it takes.
    pub(super) fn refresh(&mut self) -> Answer {
        let fresh = match self.invocation.reread() {
            Ok(fresh) => fresh,
            Err(wrong) => return stays(Exit::Configuration, &format!("{wrong}\n")),
        };
        let files = match Files::read(&fresh.config) {
            Ok(files) => files,
            Err(wrong) => return stays(Exit::Configuration, &format!("{wrong}\n")),
        };
        let log = || log_book::ready(Destination::of(&fresh.config));
        if fresh.config == self.invocation.config {
            turn_log(log());
            self.crew.take_files(files);
            // Somebody else may have decided the same.
            self.invocation = fresh;
            let text = "the configuration has not changed; the files that it names have been read again\n";
            return done(text.to_owned() + &self.holds_later());
        }
        if let Some(wrong) = self.objection(&fresh.config) {
            return stays(Exit::Configuration, &format!("{wrong}; "));
        }
        let could_listen = self.crew.try_listen(&fresh.config);
        let socket = match could_listen.and_then(|()| self.onlookers.try_listen(&fresh.config)) {
            Ok(socket) => socket,
            Err(error) => return stays(Exit::TryLater, &format!("{error}; ")),
        };
        let goes_elsewhere = Destination::of(&fresh.config) != Destination::of(&self.invocation.config);
        match (log(), &fresh.config.log_file) {
            (Err(error), Some(file)) if goes_elsewhere => {
                let wrong = format!("log-file: {}: {error}; ", file.display());
                return stays(Exit::Configuration, &wrong);
            }
            (log, _) => turn_log(log),
        }
        log_book::set_level(fresh.config.log_level);
        self.invocation = fresh;
        self.crew.take_files(files);
        self.crew.guide_by(&self.invocation.config);
        self.maildrop.replace(Arc::new((&self.invocation.config).into()));
        let mut text = "the configuration has been read again\n".to_owned() + &self.holds_later();
        let mut status = Exit::Done.status();
        if let Err(error) = self.onlookers.follow(&self.invocation.config, socket) {
            status = Exit::TryLater.status();
            text.push_str(&not_started(Task::Http, &error));
        }
        for member in Part::All.members() {
            if self.crew.stop(*member).is_none() {
                continue;
            }
            if let Err(error) = self.crew.start_or_want(*member, &self.invocation.config) {
                status = Exit::TryLater.status();
                text.push_str(&not_started(*member, &error));
            }
        }
        Answer { status, text }
    }

    /// Why this process can not go on by `fresh`, although it is in order for one that starts, or would be but for who runs
    /// it.
    fn objection(&self, fresh: &Config) -> Option<String> {
        let mut fixed = flags::options().filter(|option| option.at_refresh == AtRefresh::Refused);
        if let Some(option) = fixed.find(|option| option.differs(&self.at_start, fresh)) {
            return Some(format!(
                "the {} can not be changed while the MTA runs",
                option.name
            ));
        }
        let before = &self.invocation.config;
        let mail = Some(&fresh.mail_dir).filter(|mail| **mail != before.mail_dir);
        if let Some(folder) = mail.and_then(|mail| confinement::mail_beyond(&self.places, mail)) {
            return Some(format!(
                "mail-dir: {} is none of the places that the MTA has left itself at its start (sandbox): it takes a \
                 restart",
                folder.display()
            ));
        }
        let owner = |of: &Config| (of.user.clone(), of.group.clone());
        let (user, group) = Some(owner(fresh)).filter(|new| *new != owner(before))?;
        let found = Owner::find(user.as_deref(), group.as_deref());
        found.err().map(|wrong| wrong.to_string())
    }

    /// A line for each option that differs from what the start has made of it for good.
    fn holds_later(&self) -> String {
        let differs = |option: &&Opt| option.differs(&self.at_start, &self.invocation.config);
        flags::options()
            .filter(|option| option.at_refresh == AtRefresh::NextStart)
            .filter(differs)
            .map(|option| format!("{} holds from the next start on\n", option.name))
            .collect()
    }
}

/// The answer to a refresh that has changed nothing, with why.
fn stays(exit: Exit, why: &str) -> Answer {
    Answer {
        status: exit.status(),
        text: format!("{why}the configuration stays as it was\n"),
    }
}

/// The log goes on there, if that can be.
fn turn_log(log: io::Result<Ready>) {
    match log {
        Ok(log) => log_book::turn_to(log),
        Err(error) => log::warn!("the log file could not be opened again: {error}"),
    }
}

/// The exit status of a command that matched something, or nothing.
fn done_if(matched: bool) -> Exit {
    if matched { Exit::Done } else { Exit::Refused }
}

/// The answer about a task that could not be started.
fn not_started(part: impl Display, error: &StartError) -> String {
    format!("{part} could not be started: {error}; it is tried again until it can\n")
}

fn shown(screen: &Screen, json: bool) -> String {
    match json {
        true => format!("{}\n", screen.json),
        false => screen.text.clone(),
    }
}

fn later(error: &dyn Error) -> Answer {
    Answer {
        status: Exit::TryLater.status(),
        text: format!("{error}\n"),
    }
}

fn done(text: String) -> Answer {
    Answer {
        status: Exit::Done.status(),
        text,
    }
}
