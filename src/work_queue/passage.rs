//! The passage: what imsgcnv and omsgcnv leave with the queue as long as they run, so that mail that came over SMTP and
//! only passes through is converted and routed by the session that brings it, and comes into the outbound work queue
//! with its acceptance: in one transaction instead of three.
//!
//! Says no more of a message than its task would, and the same things are recorded of it. What a task has to look at
//! longer waits for it: mail for here, aliases, loops, large content, and whatever comes while the task is stopped.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use super::WorkQueue;
use super::arrival::{Arrival, Origin};
use super::content::Home;
use super::structure::Structure;
use crate::domain_list::next_hop::NextHop;
use crate::smtp::path::Mailbox;
use crate::tasks::bell::Bell;

/// What stands in a content, if it is only to be passed on.
type Read = dyn Fn(&Arrival, &[u8]) -> Option<Structure> + Send + Sync;

/// Where a recipient goes, if that is elsewhere.
type Route = dyn Fn(&Mailbox) -> Option<NextHop> + Send + Sync;

/// What a task has left, and the bell of the next one.
struct Aid<T: ?Sized> {
    number: u64,
    does: Arc<T>,
    next: Bell,
}

impl<T: ?Sized> Aid<T> {
    /// What it takes to work without the lock.
    fn at_hand(&self) -> (Arc<T>, Bell) {
        (Arc::clone(&self.does), self.next.clone())
    }
}

/// The aids of both tasks, where they run.
#[derive(Default)]
pub(super) struct Passage(RwLock<Aids>);

#[derive(Default)]
struct Aids {
    last: u64,
    read: Option<Aid<Read>>,
    route: Option<Aid<Route>>,
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passage")
    }
}

/// How far a message is on its way when it comes into the queue.
#[derive(Debug)]
pub(super) enum Course {
    /// It waits for the conversion that its origin says.
    First,
    /// imsgcnv has no more to do: it is in SMTP.BOX.
    Box(Structure),
    /// Nor has omsgcnv: it is in the outbound work queue, each recipient for its next hop.
    Out(Structure, Vec<NextHop>),
}

/// What a task has left stays as long as this is not dropped, or replaced.
#[derive(Debug)]
#[must_use]
pub struct Attendance<'q> {
    passage: &'q Passage,
    number: u64,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let mut aids = self.passage.0.write();
        aids.read.take_if(|aid| aid.number == self.number);
        aids.route.take_if(|aid| aid.number == self.number);
    }
}

impl WorkQueue {
    /// imsgcnv runs: `read` gives what stands in the content of a message that arrives, if the message is only to be
    /// passed on. `omsgcnv` rings for what is in SMTP.BOX then.
    pub fn attend_inbound(
        &self,
        omsgcnv: Bell,
        read: impl Fn(&Arrival, &[u8]) -> Option<Structure> + Send + Sync + 'static,
    ) -> Attendance<'_> {
        self.attend(|aids, number| {
            aids.read = Some(Aid {
                number,
                does: Arc::new(read),
                next: omsgcnv,
            });
        })
    }

    /// omsgcnv runs: `route` gives the next hop of a recipient that is elsewhere. `osesctl` rings for what is in the
    /// outbound work queue then.
    pub fn attend_box(
        &self,
        osesctl: Bell,
        route: impl Fn(&Mailbox) -> Option<NextHop> + Send + Sync + 'static,
    ) -> Attendance<'_> {
        self.attend(|aids, number| {
            aids.route = Some(Aid {
                number,
                does: Arc::new(route),
                next: osesctl,
            });
        })
    }

    fn attend(&self, leave: impl FnOnce(&mut Aids, u64)) -> Attendance<'_> {
        let passage = self.store.passage();
        let mut aids = passage.0.write();
        aids.last += 1;
        let number = aids.last;
        leave(&mut aids, number);
        Attendance { passage, number }
    }
}

impl Passage {
    /// How far a message comes at once, and for whom there is something then, unless that is who the caller thinks.
    pub(super) fn course(&self, arrival: &Arrival) -> (Course, Option<Bell>) {
        match self.way(arrival) {
            Some((course, bell)) => (course, Some(bell)),
            None => (Course::First, None),
        }
    }

    fn way(&self, arrival: &Arrival) -> Option<(Course, Bell)> {
        let Home::Database(content) = &arrival.content.home else {
            return None;
        };
        if arrival.origin != Origin::Session {
            return None;
        }
        let (read, route) = {
            let aids = self.0.read();
            let (read, route) = (aids.read.as_ref(), aids.route.as_ref());
            (read.map(Aid::at_hand), route.map(Aid::at_hand))
        };
        let (read, omsgcnv) = read?;
        let structure = read(arrival, content)?;
        let routed = route.and_then(|(route, osesctl)| {
            let each = arrival.recipients.iter().map(|recipient| route(&recipient.path));
            Some((each.collect::<Option<Vec<_>>>()?, osesctl))
        });
        Some(match routed {
            Some((hops, osesctl)) => (Course::Out(structure, hops), osesctl),
            None => (Course::Box(structure), omsgcnv),
        })
    }
}
