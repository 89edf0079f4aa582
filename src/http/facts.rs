//! What is shown: the facts of one moment, from which metrics, page and health are made. Pure.

use super::hour::Traffic;
use crate::clock::Stamp;
use crate::metrics::Counted;
use crate::tasks::Task;
use crate::tasks::table::HandlerRow;
use crate::work_queue::{AGES, AgeRow, Failure, Gauges, Trace};

/// Whether a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Runs,
    /// The operator has stopped it.
    Stopped,
    /// It should, and could not be started.
    Missing,
}

/// A primary task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFacts {
    /// Which.
    pub task: Task,
    /// Whether it runs.
    pub standing: Standing,
    /// What it is doing.
    pub doing: String,
}

/// Who works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staff {
    /// The primary tasks, in the order in which they start.
    pub tasks: Vec<TaskFacts>,
    /// The handlers that have been started.
    pub handlers: Vec<HandlerRow>,
    /// How many inbound and outbound handlers there may be; 0 where their controller does not run.
    pub places: [usize; 2],
}

/// How old what waits for next hops is, or is on its way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ages {
    /// All of it.
    pub all: AgeRow,
    /// By next hop, those with most first.
    pub hops: Vec<AgeRow>,
    /// When it was counted.
    pub at: Stamp,
}

impl Ages {
    /// As [`AgeRow`]s have it, of which `most` are kept.
    #[must_use]
    pub fn of(mut rows: Vec<AgeRow>, most: usize, at: Stamp) -> Ages {
        let mut all = AgeRow::default();
        for row in &rows {
            for (sum, count) in all.counts.iter_mut().zip(row.counts) {
                *sum += count;
            }
            all.seconds = all.seconds.saturating_add(row.seconds);
            all.oldest = all.oldest.into_iter().chain(row.oldest).min();
        }
        rows.truncate(most);
        Ages { all, hops: rows, at }
    }

    /// The same as a histogram, in seconds.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let mut count = 0;
        let up_to = AGES.iter().zip(self.all.counts).map(|(minutes, recipients)| {
            count += recipients;
            (minutes * 60, count)
        });
        Counted {
            up_to: up_to.collect(),
            count: self.all.total(),
            sum: self.all.seconds,
        }
    }
}

/// What is measured while mail flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// From the last octet of a message until its 250, microseconds.
    pub acceptance: Counted,
    /// From arrival until a next hop has it, microseconds.
    pub transmission: Counted,
    /// From arrival until a mailbox has it, microseconds.
    pub local_delivery: Counted,
    /// Pieces of work in a commit.
    pub group: Counted,
}

/// What the work queue tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// What is in it.
    pub gauges: Gauges,
    /// What was counted since it was made, by the names of `show stat`.
    pub counters: Vec<(String, i64)>,
    /// The last failures, the latest first, each with the recipient that it is about.
    pub failures: Vec<(Failure, Option<String>)>,
}

impl QueueFacts {
    /// What was counted under this name.
    #[must_use]
    pub fn counter(&self, name: &str) -> i64 {
        let counter = self.counters.iter().find(|(known, _)| known == name);
        counter.map_or(0, |(_, value)| *value)
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When that was.
    pub at: Stamp,
    /// When the MTA was started.
    pub started: Stamp,
    /// Its name.
    pub hostname: String,
    /// Who works.
    pub staff: Staff,
    /// What the work queue tells, or why it can not be read.
    pub queue: Result<QueueFacts, String>,
    /// Why nothing may be put into the work queue.
    pub loss: Option<String>,
    /// How old what waits is, if that has been counted yet.
    pub ages: Option<Ages>,
    /// What is measured.
    pub measured: Measured,
    /// The minutes of the last hour, the running one last.
    pub minutes: Vec<Traffic>,
}

impl Facts {
    /// What somebody has to look after: none of it is what an operator wanted so.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> = self.loss.iter().cloned().collect();
        if let Err(error) = &self.queue {
            troubles.push(format!("the work queue can not be read: {error}"));
        }
        let missing = self
            .staff
            .tasks
            .iter()
            .filter(|task| task.standing == Standing::Missing);
        troubles.extend(missing.map(|task| format!("{}: {}", task.task, task.doing)));
        troubles
    }
}

/// What somebody asked of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// Something that is no ID.
    NoId,
    /// This one, of which nothing is known.
    Unknown,
    /// This one, of which at most so many recipients and events are told.
    Message(Box<Trace>, usize),
    /// It can not be read.
    Unreadable(String),
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::work_queue::QueueRow;
    use crate::work_queue::id::MessageId;
    use crate::work_queue::states::State;
    use std::time::Duration;

    pub(in crate::http) const SECOND: i64 = 1_000_000;

    /// A day in the life of an MTA, with what strangers may have written everywhere.
    pub(in crate::http) fn facts(stranger: &str) -> Facts {
        let row = |name: &str, recipients| QueueRow {
            next_hop: name.to_owned(),
            recipients,
            locked: 1,
            oldest: MessageId(10 * SECOND),
            next_attempt: Some(Stamp(400 * SECOND)),
            last_error: Some(stranger.to_owned()),
            failures: 2,
        };
        let gauges = Gauges {
            states: vec![
                (State::PendingXmit, 40),
                (State::LockedForXmit, 2),
                (State::Held, 0),
            ],
            hops: vec![row(stranger, 30), row("a.example", 7)],
            all_hops: 5,
            backing_off: 2,
            outbound: 42,
        };
        let failure = Failure {
            at: Stamp(90 * SECOND),
            id: MessageId(10 * SECOND),
            n: Some(0),
            what: "deferred",
            text: stranger.to_owned(),
        };
        let task = |task, standing, doing: &str| TaskFacts {
            task,
            standing,
            doing: doing.to_owned(),
        };
        let handler = |task, busy| HandlerRow {
            task,
            busy,
            doing: stranger.to_owned(),
            since: Duration::from_secs(3),
        };
        let mut waits = AgeRow {
            next_hop: stranger.to_owned(),
            seconds: 400,
            oldest: Some(MessageId(10 * SECOND)),
            ..AgeRow::default()
        };
        (waits.counts[0], waits.counts[AGES.len()]) = (40, 2);
        Facts {
            at: Stamp(100 * SECOND),
            started: Stamp(5 * SECOND),
            hostname: "mail.example.org".to_owned(),
            staff: Staff {
                tasks: vec![
                    task(Task::Addin, Standing::Runs, "Running"),
                    task(Task::DeliveryReport, Standing::Stopped, "Stopped"),
                ],
                handlers: vec![
                    handler(Task::InboundHandler(0), true),
                    handler(Task::OutboundHandler(0), false),
                ],
                places: [100, 50],
            },
            queue: Ok(QueueFacts {
                gauges,
                counters: vec![("SMTP.MessagesProcessed".to_owned(), 1234)],
                failures: vec![(failure, Some(stranger.to_owned()))],
            }),
            loss: None,
            ages: Some(Ages::of(vec![waits], 20, Stamp(99 * SECOND))),
            measured: Measured::default(),
            minutes: vec![
                Traffic {
                    accepted: 7,
                    delivered: 3,
                };
                60
            ],
        }
    }

    #[test]
    fn what_the_operator_has_stopped_is_no_trouble_and_what_could_not_be_started_is() {
        let mut facts = facts("");
        assert_eq!(facts.troubles(), [""; 0]);
        facts.staff.tasks[0].standing = Standing::Missing;
        facts.staff.tasks[0].doing = "Not started, and tried again: no threads".to_owned();
        facts.queue = Err("disk I/O error".to_owned());
        facts.loss = Some("queue.db was deleted".to_owned());
        assert_eq!(
            facts.troubles(),
            [
                "queue.db was deleted",
                "the work queue can not be read: disk I/O error",
                "smtpmta: Not started, and tried again: no threads",
            ]
        );
    }

    #[test]
    fn ages_add_up_and_become_a_histogram_of_seconds() {
        let row = |young, old, first| {
            let mut row = AgeRow {
                seconds: 1000,
                oldest: Some(MessageId(first)),
                ..AgeRow::default()
            };
            (row.counts[0], row.counts[AGES.len()]) = (young, old);
            row
        };
        let ages = Ages::of(vec![row(5, 1, 20), row(2, 0, 10)], 1, Stamp(0));
        assert_eq!((ages.hops.len(), ages.all.oldest), (1, Some(MessageId(10))));
        let counted = ages.counted();
        assert_eq!((counted.count, counted.sum), (8, 2000));
        assert_eq!((counted.up_to[0], counted.up_to[8]), ((300, 7), (76_800, 7)));
    }
}
