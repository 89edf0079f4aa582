//! imsgcnv: drains the inbound work queue. Reads what each message is, expands aliases, delivers to local
//! mailboxes, and passes on to SMTP.BOX what is for elsewhere.
//!
//! Never changes the content, and never decides who may relay: that was done at RCPT.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::from_internet::{Structure, StructureReader};
use super::{BATCH, Fate, SLICE};
use crate::latest::Latest;
use crate::mailbox::Mailboxes;
use crate::mailbox::directory::{Directory, Found};
use crate::smtp::path::Mailbox;
use crate::smtp::reply::EnhancedCode;
use crate::tasks::bell::{Bell, Bells, Stop};
use crate::tasks::board::Board;
use crate::tasks::table::LAST_RECORDS;
use crate::tasks::{Task, guarded};
use crate::work_queue::outcome::Reason;
use crate::work_queue::retry::RetryPolicy;
use crate::work_queue::{
    Addressee, Arrival, Attendance, Converted, Delivery, Origin, QueueError, Waiting, WaitingRecipient,
    WorkQueue,
};

/// What is read of a content at once.
const PIECE: usize = 64 * 1024;

/// The inbound message conversion task, and what it works with.
#[derive(Debug)]
pub struct InboundConversion {
    /// Where its messages are.
    pub queue: WorkQueue,
    /// Whom it kicks.
    pub bells: Bells,
    /// Where it says what it is doing.
    pub board: Board,
    /// Who is here.
    pub directory: Latest<Directory>,
    /// Where local recipients find their mail.
    pub mailboxes: Mailboxes,
    /// When a local delivery that failed is tried again.
    pub retry: RetryPolicy,
    /// `--max-hops`.
    pub max_hops: usize,
    /// `--poll-interval`.
    pub poll_interval: Duration,
    /// Messages with IDs up to this one may be in mailboxes without the queue's knowing: they came before the task, or
    /// what it did could not be recorded.
    pub doubted: AtomicI64,
}

impl InboundConversion {
    /// Works until it is told to stop.
    pub fn run(&self, stop: &Stop) {
        self.doubt_all();
        let _attendance = self.attend();
        while !stop.is_given() {
            self.board.write(Task::InboundConversion, "Converting");
            if let Err(error) = self.drain(stop) {
                log::error!("the inbound work queue could not be converted: {error}");
            }
            self.board.write(Task::InboundConversion, "Idle");
            let due = self.queue.next_inbound_due().ok().flatten();
            let until_due = due.map_or(self.poll_interval, |due| due.since(self.queue.now()));
            // A message that is due, and yet was not converted, waits for the next poll.
            let pause = if until_due.is_zero() {
                self.poll_interval
            } else {
                until_due.min(self.poll_interval)
            };
            self.bells.imsgcnv.rest(stop, pause);
        }
    }

    /// What only passes through is passed on by the session that brings it.
    fn attend(&self) -> Attendance<'_> {
        let (directory, max_hops) = (self.directory.clone(), self.max_hops);
        let read = move |arrival: &Arrival, content: &[u8]| {
            let directory = directory.take();
            let is_elsewhere = |recipient: &Addressee| !directory.is_local(&recipient.path);
            if !arrival.recipients.iter().all(is_elsewhere) {
                return None;
            }
            let structure = guarded(Task::InboundConversion, || Structure::of(content))?;
            (hosts_passed(arrival.origin, &structure) <= max_hops).then_some(structure)
        };
        self.queue.attend_inbound(self.bells.omsgcnv.clone(), read)
    }

    fn drain(&self, stop: &Stop) -> Result<(), QueueError> {
        while !stop.is_given() {
            let waiting = self.queue.waiting_inbound(self.queue.now(), BATCH)?;
            if waiting.is_empty() {
                return Ok(());
            }
            let directory = self.directory.take();
            let began = Instant::now();
            let in_time = |_: &&Waiting| !stop.is_given() && began.elapsed() < SLICE;
            let converted: Vec<Converted> = waiting
                .iter()
                .take_while(in_time)
                .map(|message| self.convert(message, &directory))
                .collect();
            let any = |wanted: fn(&Delivery) -> bool| {
                converted
                    .iter()
                    .flat_map(|c| &c.deliveries)
                    .any(|(_, delivery)| wanted(delivery))
            };
            let passed_on = any(|d| matches!(d, Delivery::PassOn));
            let given_up = any(|d| matches!(d, Delivery::GiveUp(_)));
            let kicks = passed_on.then(|| self.bells.omsgcnv.clone());
            let to_tell = self.record(converted, kicks.as_slice(), stop)?;
            if given_up || to_tell > 0 {
                self.bells.drt.kick();
            }
        }
        Ok(())
    }

    /// Records what was done, and asks the queue until it does that: what is in a mailbox would be delivered again. Stops
    /// asking when the queue is closed, a moment after the order to stop, and where it is no use. Gives how many good ends
    /// there are to tell of.
    fn record(&self, converted: Vec<Converted>, kicks: &[Bell], stop: &Stop) -> Result<usize, QueueError> {
        let mut unrecorded: Vec<_> = converted.into_iter().map(Arc::new).collect();
        let (mut refused_at, mut until) = (None::<Instant>, None::<Instant>);
        loop {
            let error = match self.queue.converted_and_kick(&mut unrecorded, kicks) {
                Ok(to_tell) => {
                    if let Some(at) = refused_at {
                        log::info!("what was converted is recorded, {:?} later", at.elapsed());
                        self.board.write(Task::InboundConversion, "Converting");
                    }
                    return Ok(to_tell);
                }
                Err(error) => error,
            };
            let is_locked = matches!(error, QueueError::Locked);
            let is_in_vain = unrecorded.is_empty() || matches!(error, QueueError::Stopped);
            if !is_in_vain {
                // What has rung until now brings no news.
                let _ = self.bells.imsgcnv.heard().try_recv();
                if refused_at.is_none() {
                    refused_at = Some(Instant::now());
                    let many = unrecorded.len();
                    log::error!(
                        "what became of {many} messages is recorded as soon as this has passed: {error}"
                    );
                    self.board
                        .write(Task::InboundConversion, "Waiting for the work queue");
                }
                // Whoever has it locked has been waited for already, and a stop would have to wait for that again. When
                // somebody could bring a message it is locked no longer.
                if is_locked {
                    self.bells.imsgcnv.rest(stop, self.poll_interval);
                } else {
                    stop.pause_after_trouble();
                }
            }
            if stop.is_given() && until.is_none() {
                until = Some(Instant::now() + LAST_RECORDS);
            }
            let is_over = until.is_some_and(|until| is_locked || Instant::now() >= until);
            if is_in_vain || is_over {
                self.doubt_all();
                tell_of_the_unrecorded(&unrecorded);
                return Err(error);
            }
        }
    }

    /// Of what has come so far nobody knows for certain whether it is in mailboxes.
    fn doubt_all(&self) {
        self.doubted.store(self.queue.message_id().0, Ordering::SeqCst);
    }

    fn convert(&self, message: &Waiting, directory: &Directory) -> Converted {
        let (structure, deliveries) = match guarded(Task::InboundConversion, || {
            self.look_at(message, directory)
        }) {
            Some(looked) => looked,
            None => {
                let reason = Reason::here(EnhancedCode(5, 3, 0), "conversion met an error in the program");
                (None, for_all(message, |_| Delivery::Hold(reason.clone())))
            }
        };
        Converted {
            id: message.id,
            null_sender: message.reverse_path.0.is_none(),
            structure,
            deliveries,
        }
    }

    fn look_at(&self, message: &Waiting, directory: &Directory) -> (Option<Structure>, Vec<(u32, Delivery)>) {
        let structure = match self.read_structure(message) {
            Ok(structure) => structure,
            Err(error) => {
                log::error!("id={} its content can not be read: {error}", message.id);
                return (
                    None,
                    for_all(message, |recipient| self.unread(message, recipient, &error)),
                );
            }
        };
        let passed = hosts_passed(message.origin, &structure);
        let deliveries = if passed > self.max_hops {
            // RFC 5321 6.3: so many Received lines are a loop.
            let text = format!("the message has passed {passed} hosts: it loops");
            let reason = Reason::here(EnhancedCode(5, 4, 6), &text);
            for_all(message, |_| Delivery::GiveUp(reason.clone()))
        } else {
            for_all(message, |recipient| {
                let path = &recipient.path;
                // What came of an alias is final.
                let found = match recipient.is_expanded {
                    true => directory.find_mailbox(path),
                    false => directory.find(path),
                };
                match found {
                    Found::Elsewhere => Delivery::PassOn,
                    Found::Alias => Delivery::Expand(directory.expand(path)),
                    Found::Mailbox(mailbox) => self.deliver(message, &structure, recipient, &mailbox),
                    Found::Unknown | Found::RelayTrick => Delivery::GiveUp(Reason::here(
                        EnhancedCode(5, 1, 1),
                        "there is no such mailbox here",
                    )),
                }
            })
        };
        (Some(structure), deliveries)
    }

    fn read_structure(&self, message: &Waiting) -> Result<Structure, QueueError> {
        let mut content = self.queue.content(message.id)?;
        let mut reader = StructureReader::default();
        // Most messages are much smaller than a piece: no need to clear a large one for each.
        let mut piece = vec![0; usize::try_from(message.size + 1).map_or(PIECE, |size| size.min(PIECE))];
        let mut size = 0;
        loop {
            match content.read(&mut piece) {
                Ok(0) if size == message.size => return Ok(reader.finish()),
                Ok(0) => {
                    return Err(QueueError::Cut {
                        size,
                        whole: message.size,
                    });
                }
                Ok(n) => {
                    size += n as u64;
                    reader.feed(&piece[..n]);
                }
                Err(error) => {
                    return Err(QueueError::File {
                        path: self.queue.spool().join("content"),
                        error,
                    });
                }
            }
        }
    }

    /// What to do with a recipient of a message whose content can not be read.
    fn unread(&self, message: &Waiting, recipient: &WaitingRecipient, error: &QueueError) -> Delivery {
        let reason = || Reason::here(EnhancedCode(4, 3, 0), &error.to_string());
        let moment = self.queue.moment();
        match Fate::after(error, recipient.attempts, message.id, &self.retry, moment) {
            Fate::Again(due) => Delivery::Later(reason(), due),
            Fate::TooLate => Delivery::GiveUp(reason()),
            Fate::Aside => {
                let text = format!("the content is lost: {error}");
                Delivery::Hold(Reason::here(EnhancedCode(5, 3, 0), &text))
            }
        }
    }

    fn deliver(
        &self,
        message: &Waiting,
        structure: &Structure,
        recipient: &WaitingRecipient,
        mailbox: &Mailbox,
    ) -> Delivery {
        let address = recipient.path.to_string();
        if structure.was_delivered_to(&address) {
            let reason = Reason::here(
                EnhancedCode(5, 4, 6),
                "it has been delivered to this address before: it loops",
            );
            return Delivery::GiveUp(reason);
        }
        // An attempt that failed may have come that far, too.
        let may_be_there = recipient.attempts > 0 || message.id.0 <= self.doubted.load(Ordering::SeqCst);
        let delivered = self
            .queue
            .content(message.id)
            .map_err(|e| e.to_string())
            .and_then(|content| {
                self.mailboxes
                    .deliver(message, recipient, mailbox, may_be_there, content)
                    .map_err(|e| e.to_string())
            });
        match delivered {
            Ok(place) => {
                log::info!("id={} to=<{address}> delivered {}", message.id, place.display());
                let age = self.queue.age(message.id);
                self.queue.metrics().local_delivery.add_time(age);
                Delivery::Delivered(place.display().to_string())
            }
            Err(text) => {
                log::warn!("id={} to=<{address}> not delivered: {text}", message.id);
                self.later(message, recipient, Reason::here(EnhancedCode(4, 2, 0), &text))
            }
        }
    }

    fn later(&self, message: &Waiting, recipient: &WaitingRecipient, reason: Reason) -> Delivery {
        let attempts = recipient.attempts.saturating_add(1);
        match self
            .retry
            .next_attempt(message.id.arrived(), attempts, self.queue.moment())
        {
            Some(next) => Delivery::Later(reason, next),
            None => Delivery::GiveUp(reason),
        }
    }
}

/// What will be delivered again.
fn tell_of_the_unrecorded(unrecorded: &[Arc<Converted>]) {
    let is_delivered = |message: &&Arc<Converted>| {
        let mut deliveries = message.deliveries.iter();
        deliveries.any(|(_, delivery)| matches!(delivery, Delivery::Delivered(_)))
    };
    for message in unrecorded.iter().filter(is_delivered) {
        log::warn!(
            "id={} is in a mailbox, and that is not recorded: if it is not found there again, it may come twice",
            message.id
        );
    }
}

/// How many hosts a message has passed, by its Received lines. Ours is among them, where a session brought it.
fn hosts_passed(origin: Origin, structure: &Structure) -> usize {
    structure
        .hops
        .saturating_sub(usize::from(origin == Origin::Session))
}

fn for_all(message: &Waiting, mut ends: impl FnMut(&WaitingRecipient) -> Delivery) -> Vec<(u32, Delivery)> {
    message
        .recipients
        .iter()
        .map(|recipient| (recipient.n, ends(recipient)))
        .collect()
}

#[cfg(test)]
mod tests;
