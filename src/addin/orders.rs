//! How the add-in task obeys: each command of the console, and its answer.

use std::collections::BTreeSet;
use std::path::Path;

use super::Addin;
use super::files::Files;
use crate::config::exit::Exit;
use crate::console::command::{Command, Part, What};
use crate::console::screen::{self, Screen};
use crate::console::server::{Answer, Request};
use crate::domain_list::next_hop::NextHop;
use crate::log_book;
use crate::work_queue::{QueueError, Retry};

/// Rows that a table of the console shows at most.
const ROWS: usize = 1000;

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
            Ok(Command::Show(what)) => match self.show(what) {
                Ok(screen) => done(shown(&screen, request.json)),
                Err(error) => Answer {
                    status: Exit::TryLater.status(),
                    text: format!("{error}\n"),
                },
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

    fn show(&self, what: What) -> Result<Screen, QueueError> {
        let now = self.queue.now();
        Ok(match what {
            What::Tasks => screen::tasks(&self.crew.primary_rows(), &self.crew.handler_rows()),
            What::Config => {
                let row =
                    |s: &crate::config::Setting| (s.name.to_owned(), s.value.clone(), s.origin.to_string());
                let settings: Vec<_> = self.invocation.settings.iter().map(row).collect();
                screen::config(&self.invocation.show(), &settings)
            }
            What::Stat => screen::statistics(&self.queue.statistics()?),
            What::Version => screen::version(),
            What::Queue => screen::queue(&self.queue.queue_rows(ROWS)?, now),
            What::Lists => screen::lists(&self.queue.list_rows(ROWS)?, now),
            What::Hops => {
                let rates = super::crew::rates(&self.invocation.config);
                let rows = self.queue.hop_rows(ROWS)?.into_iter().map(|row| {
                    let pace = self.crew.pace(row.hop, &row.next_hop, &rates);
                    (row, pace)
                });
                screen::hops(&rows.collect::<Vec<_>>(), now)
            }
        })
    }

    /// Makes messages due now, in a thread of its own, which answers.
    fn retry(&self, what: Retry, request: &Request) {
        let what = self.routed(what);
        let (queue, kick) = (self.queue.clone(), self.crew.outbound_bell());
        let (by, json, answer) = (request.by.clone(), request.json, request.answer.clone());
        let retry = move || {
            let answered = match queue.retry(&what, &by) {
                Ok(messages) => Answer {
                    status: if messages > 0 { Exit::Done } else { Exit::Refused }.status(),
                    text: shown(&screen::retried(messages), json),
                },
                Err(error) => Answer {
                    status: Exit::TryLater.status(),
                    text: format!("{error}\n"),
                },
            };
            kick.kick();
            // Whoever asked may have hung up.
            let _ = answer.send(answered);
        };
        if let Err(error) = std::thread::Builder::new()
            .name("queue-retry".to_owned())
            .spawn(retry)
        {
            let _ = request.answer.send(Answer {
                status: Exit::TryLater.status(),
                text: format!("{error}\n"),
            });
        }
    }

    /// Who names a domain means the next hop where its mail goes.
    fn routed(&self, what: Retry) -> Retry {
        let Retry::Hops(names) = what else {
            return what;
        };
        let router = self.invocation.config.router();
        let goes = |name: &String| match NextHop::from_name(&name.to_ascii_lowercase()) {
            NextHop::Domain(domain) => router.next_hop(&domain).to_string(),
            host => host.to_string(),
        };
        let routed: Vec<String> = names.iter().map(goes).collect();
        let hops: BTreeSet<String> = names.into_iter().chain(routed).collect();
        Retry::Hops(hops.into_iter().collect())
    }

    fn start(&mut self, part: Part) -> Answer {
        let mut text = String::new();
        let mut status = Exit::Done.status();
        for member in part.members() {
            self.resting.retain(|resting| resting != member);
            match self.crew.start(*member, &self.invocation.config) {
                Ok(true) => text.push_str(&format!("{member} started\n")),
                Ok(false) => text.push_str(&format!("{member} is running\n")),
                Err(error) => {
                    status = Exit::TryLater.status();
                    text.push_str(&format!("{member} could not be started: {error}\n"));
                }
            }
        }
        Answer { status, text }
    }

    fn stop_part(&mut self, part: Part) -> Answer {
        let mut text = String::new();
        for member in part.members().iter().rev() {
            text.push_str(&match self.crew.stop(*member) {
                None if self.resting.contains(member) => {
                    self.resting.retain(|resting| resting != member);
                    format!("{member} stays stopped after the housekeeping\n")
                }
                None => format!("{member} is not running\n"),
                Some(true) => format!("{member} stopped\n"),
                Some(false) => format!("{member} stops as soon as its sessions have ended\n"),
            });
        }
        done(text)
    }

    /// Reads the configuration again. If it is wrong, the old one stays as a whole. What the operator has
    /// stopped stays stopped (promise 6).
    pub(super) fn refresh(&mut self) -> Answer {
        let fresh = match self.invocation.reread() {
            Ok(fresh) => fresh,
            Err(wrong) => {
                let text = format!("{wrong}\nthe configuration stays as it was\n");
                return Answer {
                    status: Exit::Configuration.status(),
                    text,
                };
            }
        };
        let files = match Files::read(&fresh.config) {
            Ok(files) => files,
            Err(wrong) => {
                let text = format!("{wrong}\nthe configuration stays as it was\n");
                return Answer {
                    status: Exit::Configuration.status(),
                    text,
                };
            }
        };
        let reopen = |log_file: Option<&Path>| {
            if let Err(error) = log_book::reopen(log_file) {
                log::warn!("the log file could not be opened again: {error}");
            }
        };
        if fresh.config == self.invocation.config {
            reopen(fresh.config.log_file.as_deref());
            self.crew.take_files(files);
            let text = "the configuration has not changed; the files that it names have been read again\n";
            return done(text.to_owned());
        }
        if fresh.config.spool != self.invocation.config.spool {
            let text = "the spool can not be changed while the MTA runs; the configuration stays as it was\n";
            return Answer {
                status: Exit::Configuration.status(),
                text: text.to_owned(),
            };
        }
        if let Err(error) = self.crew.try_listen(&fresh.config) {
            let text = format!("{error}; the configuration stays as it was\n");
            return Answer {
                status: Exit::TryLater.status(),
                text,
            };
        }
        reopen(fresh.config.log_file.as_deref());
        log_book::set_level(fresh.config.log_level);
        self.invocation = fresh;
        self.crew.take_files(files);
        let mut text = "the configuration has been read again\n".to_owned();
        for member in Part::All.members() {
            if self.crew.stop(*member).is_none() {
                continue;
            }
            if let Err(error) = self.crew.start(*member, &self.invocation.config) {
                text.push_str(&format!("{member} could not be started: {error}\n"));
            }
        }
        done(text)
    }

    /// The seed's compaction: it needs the tasks out of the way, and is made only where it is worth that.
    pub(super) fn begin_compaction(&mut self) {
        match self.queue.is_worth_compacting() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return log::error!("housekeeping: {error}"),
        }
        if !self.resting.is_empty() {
            return;
        }
        let mut alone = true;
        for member in Part::All.members() {
            if let Some(ended) = self.crew.stop(*member) {
                self.resting.push(*member);
                alone &= ended;
            }
        }
        // Sessions that are still ending have outcomes to record: not while they do.
        if !alone || self.crew.is_ending() || !self.housekeeper.begin_compaction() {
            log::info!("housekeeping: the work queue is not compacted, as it is in use");
            self.end_compaction();
        }
    }

    /// Starts what the compaction has stopped. What the operator had stopped stays stopped (promise 6).
    pub(super) fn end_compaction(&mut self) {
        for member in std::mem::take(&mut self.resting) {
            if let Err(error) = self.crew.start(member, &self.invocation.config) {
                log::error!("{member} could not be started: {error}");
            }
        }
    }
}

fn shown(screen: &Screen, json: bool) -> String {
    match json {
        true => format!("{}\n", screen.json),
        false => screen.text.clone(),
    }
}

fn done(text: String) -> Answer {
    Answer {
        status: Exit::Done.status(),
        text,
    }
}
