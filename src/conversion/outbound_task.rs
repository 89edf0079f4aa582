//! omsgcnv: drains SMTP.BOX. Completes the RFC form of what was submitted on this machine, works out the
//! next hop of every recipient, and rings osesctl.
//!
//! Never changes content that came over SMTP.

use std::io::Read;
use std::time::{Duration, Instant};

use super::from_internet::{Structure, StructureReader};
use super::to_internet::{Completer, Facts};
use super::{AGAIN_AT_LAST, BATCH, Fate, SLICE};
use crate::domain_list::guide::Guide;
use crate::domain_list::next_hop::NextHop;
use crate::latest::Latest;
use crate::mailbox::directory::Directory;
use crate::smtp::path::Mailbox;
use crate::smtp::reply::EnhancedCode;
use crate::tasks::bell::{Bells, Stop};
use crate::tasks::board::Board;
use crate::tasks::{Task, guarded};
use crate::work_queue::outcome::Reason;
use crate::work_queue::retry::RetryPolicy;
use crate::work_queue::{Attendance, Content, Origin, QueueError, Routed, Waiting, Way, WorkQueue};

/// The outbound message conversion task, and what it works with.
#[derive(Debug)]
pub struct OutboundConversion {
    /// Where its messages are.
    pub queue: WorkQueue,
    /// Whom it kicks.
    pub bells: Bells,
    /// Where it says what it is doing.
    pub board: Board,
    /// Who is here. The same as imsgcnv has, so that the two never pass a message to and fro.
    pub directory: Latest<Directory>,
    /// The next hop of a domain, and of what is led by hand.
    pub guide: Guide,
    /// `--hostname`.
    pub hostname: String,
    /// When a message is tried again whose content could not be read.
    pub retry: RetryPolicy,
    /// `--poll-interval`.
    pub poll_interval: Duration,
}

impl OutboundConversion {
    /// Works until it is told to stop.
    pub fn run(&self, stop: &Stop) {
        let _attendance = self.attend();
        while !stop.is_given() {
            self.board.write(Task::OutboundConversion, "Converting");
            if let Err(error) = self.drain(stop) {
                log::error!("SMTP.BOX could not be converted: {error}");
            }
            self.board.write(Task::OutboundConversion, "Idle");
            self.bells.omsgcnv.rest(stop, self.poll_interval);
        }
    }

    /// What came over SMTP and goes elsewhere gets its next hops from the session that brings it.
    fn attend(&self) -> Attendance<'_> {
        let (directory, router) = (self.directory.clone(), self.guide.router.clone());
        let route = move |path: &Mailbox| {
            let is_local = directory.take().is_local(path);
            (!is_local).then(|| router.next_hop(path.domain()))
        };
        self.queue.attend_box(self.bells.osesctl.clone(), route)
    }

    fn drain(&self, stop: &Stop) -> Result<(), QueueError> {
        while !stop.is_given() {
            let waiting = self.queue.waiting_in_box(self.queue.now(), BATCH)?;
            if waiting.is_empty() {
                return Ok(());
            }
            let began = Instant::now();
            let in_time = |_: &&Waiting| !stop.is_given() && began.elapsed() < SLICE;
            let routed: Vec<Routed> = waiting
                .iter()
                .take_while(in_time)
                .map(|message| self.convert(message))
                .collect();
            let any =
                |wanted: fn(&Way) -> bool| routed.iter().flat_map(|r| &r.ways).any(|(_, way)| wanted(way));
            let kicks = [
                (any(|w| matches!(w, Way::Hop(_))), &self.bells.osesctl),
                (any(|w| matches!(w, Way::Local)), &self.bells.imsgcnv),
            ];
            let wanted = kicks.into_iter().filter(|(wanted, _)| *wanted);
            let kicks = wanted.map(|(_, bell)| bell.clone()).collect();
            self.queue.routed_and_kick(routed, kicks)?;
        }
        Ok(())
    }

    fn convert(&self, message: &Waiting) -> Routed {
        let completed = match message.origin {
            // What came over SMTP is relayed as it is.
            Origin::Session => Ok((None, None)),
            Origin::Local | Origin::Report => guarded(Task::OutboundConversion, || self.complete(message))
                .unwrap_or(Err(QueueError::Panicked))
                .map(|(content, structure)| (Some(content), Some(structure))),
        };
        let (content, structure, trouble) = match completed {
            Ok((content, structure)) => (content, structure, None),
            Err(error) => (None, None, Some(error)),
        };
        let directory = self.directory.take();
        let way = |path: &Mailbox, pin: Option<&NextHop>, attempts: u32| match &trouble {
            Some(error) => self.set_aside(message, error, attempts),
            None if directory.is_local(path) => Way::Local,
            None => Way::Hop(self.guide.next_hop(path.domain(), pin)),
        };
        Routed {
            id: message.id,
            structure,
            content,
            ways: message
                .recipients
                .iter()
                .map(|r| (r.n, way(&r.path, r.pin.as_ref(), r.attempts)))
                .collect(),
            null_sender: message.reverse_path.0.is_none(),
        }
    }

    /// What to do with a message that can not be brought into Internet form: trouble passes, damage does not.
    fn set_aside(&self, message: &Waiting, error: &QueueError, attempts: u32) -> Way {
        let text = format!("the message could not be brought into Internet form: {error}");
        log::error!("id={} {text}", message.id);
        let moment = self.queue.moment();
        let later = |due| Way::Later(Reason::here(EnhancedCode(4, 3, 0), &text), due);
        match Fate::after(error, attempts, message.id, &self.retry, moment) {
            Fate::Again(due) => later(due),
            // drt gives up what nobody has in hand any more.
            Fate::TooLate => later(moment.shown.plus(AGAIN_AT_LAST)),
            Fate::Aside => Way::Hold(Reason::here(EnhancedCode(5, 3, 0), &text)),
        }
    }

    /// The content in RFC 5322 form, and what it says.
    fn complete(&self, message: &Waiting) -> Result<(Content, Structure), QueueError> {
        let mut content = self.queue.content(message.id)?;
        let mut writer = self.queue.rewritten_content_writer(message.id);
        let mut structure = StructureReader::default();
        let mut completer = Completer::new(Facts {
            date: self.queue.arrival(message.id).to_rfc5322(),
            hostname: self.hostname.clone(),
            id: message.id,
            sender: message.reverse_path.clone(),
        });
        let mut piece = vec![0; 64 * 1024];
        let mut out = Vec::new();
        let broken = |error| QueueError::File {
            path: self.queue.spool().join("content"),
            error,
        };
        loop {
            let n = content.read(&mut piece).map_err(broken)?;
            if n == 0 {
                break;
            }
            completer.feed(&piece[..n], &mut out);
            structure.feed(&out);
            writer.write(&out)?;
            out.clear();
        }
        completer.finish(&mut out);
        structure.feed(&out);
        writer.write(&out)?;
        Ok((writer.finish()?, structure.finish()))
    }
}
