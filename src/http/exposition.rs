//! Metrics in the text format of Prometheus, version 0.0.4. Pure: facts in, text out.
//!
//! One table says which there are, and smtpmta(8) and the dashboard in `etc/` are compared with it. Never has more series
//! for all that strangers write: of next hops only the largest have names.

use std::fmt::{Display, Write as _};

use super::facts::{Facts, QueueFacts, Standing};
use crate::metrics::Counted;
use crate::tasks::Task;

/// Next hops that have names.
pub const NAMED_HOPS: usize = 20;

/// The name of all others; of a next hop that has it, too.
const OTHER: &str = "other";

/// A metric.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    samples: fn(&Facts, &mut Samples<'_>),
}

const fn counter(name: &'static str, help: &'static str, samples: fn(&Facts, &mut Samples<'_>)) -> Metric {
    Metric {
        name,
        kind: "counter",
        help,
        samples,
    }
}

const fn gauge(name: &'static str, help: &'static str, samples: fn(&Facts, &mut Samples<'_>)) -> Metric {
    Metric {
        name,
        kind: "gauge",
        help,
        samples,
    }
}

const fn histogram(name: &'static str, help: &'static str, samples: fn(&Facts, &mut Samples<'_>)) -> Metric {
    Metric {
        name,
        kind: "histogram",
        help,
        samples,
    }
}

/// All metrics, in the order in which they are told.
pub static METRICS: &[Metric] = &[
    gauge(
        "smtpmta_build_info",
        "The version, as a label; always 1.",
        |_, samples| {
            samples.with(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        },
    ),
    gauge(
        "smtpmta_start_time_seconds",
        "When the MTA was started, in seconds since 1970.",
        |facts, samples| samples.plain(micros(facts.started.0.unsigned_abs())),
    ),
    gauge(
        "smtpmta_healthy",
        "1 if /healthz says that all is well, else 0.",
        |facts, samples| samples.plain(u8::from(facts.troubles().is_empty())),
    ),
    gauge(
        "smtpmta_task_up",
        "1 if the task runs, 0 if it is stopped or could not be started.",
        |facts, samples| {
            for task in &facts.staff.tasks {
                let up = u8::from(task.standing == Standing::Runs);
                samples.with(&[("task", &task.task.to_string())], up);
            }
        },
    ),
    gauge(
        "smtpmta_task_missing",
        "1 if the task should run and could not be started, else 0.",
        |facts, samples| {
            for task in &facts.staff.tasks {
                let missing = u8::from(task.standing == Standing::Missing);
                samples.with(&[("task", &task.task.to_string())], missing);
            }
        },
    ),
    gauge(
        "smtpmta_handlers",
        "Session handlers that have been started, by what they do.",
        |facts, samples| {
            for (direction, is_one) in DIRECTIONS {
                for (state, busy) in [("busy", true), ("idle", false)] {
                    let handlers = facts.staff.handlers.iter();
                    let such = handlers.filter(|row| row.busy == busy && is_one(row.task));
                    samples.with(&[("direction", direction), ("state", state)], such.count());
                }
            }
        },
    ),
    gauge(
        "smtpmta_handlers_limit",
        "How many session handlers there may be; 0 while their controller is stopped.",
        |facts, samples| {
            for ((direction, _), places) in DIRECTIONS.iter().zip(facts.staff.places) {
                samples.with(&[("direction", direction)], places);
            }
        },
    ),
    counter(
        "smtpmta_messages_accepted_total",
        "Messages put into the work queue: by clients, by programs, and reports of our own.",
        |facts, samples| count(facts, samples, "SMTP.MessagesProcessed"),
    ),
    counter(
        "smtpmta_recipients_accepted_total",
        "Recipients of these messages, as they were named.",
        |facts, samples| count(facts, samples, "Mail.AcceptedRecipients"),
    ),
    counter(
        "smtpmta_alias_recipients_total",
        "Recipients that came of aliases.",
        |facts, samples| count(facts, samples, "Mail.RecipientsOfAliases"),
    ),
    counter(
        "smtpmta_recipients_total",
        "Recipients that came to this end; dead ones may still be brought back by an operator.",
        |facts, samples| {
            let Ok(queue) = &facts.queue else { return };
            for (outcome, name) in [
                ("transmitted", "Mail.TransferredRecipients"),
                ("delivered", "Mail.Delivered"),
                ("expanded", "Mail.Expanded"),
                ("failed", "Mail.Failed"),
                ("dead", "Mail.Dead"),
            ] {
                samples.with(&[("outcome", outcome)], positive(queue, name));
            }
        },
    ),
    counter(
        "smtpmta_messages_transmitted_total",
        "Transactions in which a next hop took a message.",
        |facts, samples| count(facts, samples, "Mail.Transferred"),
    ),
    counter(
        "smtpmta_recipients_deferred_total",
        "Attempts for a recipient that ended with: later.",
        |facts, samples| count(facts, samples, "Mail.Deferred"),
    ),
    counter(
        "smtpmta_recipients_given_up_total",
        "Recipients that were given up, and whose senders are told.",
        |facts, samples| count(facts, samples, "Mail.TotalFailures"),
    ),
    counter(
        "smtpmta_reports_total",
        "Reports to senders.",
        |facts, samples| {
            let Ok(queue) = &facts.queue else { return };
            for (kind, name) in [
                ("failure", "Mail.Reports"),
                ("delay", "Mail.DelayNotices"),
                ("success", "Mail.SuccessReports"),
            ] {
                samples.with(&[("kind", kind)], positive(queue, name));
            }
        },
    ),
    counter(
        "smtpmta_domain_lists_total",
        "Domain lists that were made.",
        |facts, samples| count(facts, samples, "SMTP.Lists"),
    ),
    counter(
        "smtpmta_next_hop_failures_total",
        "Times that a next hop did not answer for any message.",
        |facts, samples| count(facts, samples, "SMTP.HopFailures"),
    ),
    gauge(
        "smtpmta_queue_recipients",
        "Recipients in the work queue by state; of WQ_PENDING_CONVERSION, WQ_PENDING_REPORT, WQ_HELD and WQ_DEAD at most \
         10000 are counted.",
        |facts, samples| {
            let Ok(queue) = &facts.queue else { return };
            for (state, recipients) in &queue.gauges.states {
                samples.with(&[("state", state.name())], recipients);
            }
        },
    ),
    gauge(
        "smtpmta_next_hops",
        "Next hops for which something waits or is on its way; and those of them that do not answer, and are left alone \
         for now.",
        |facts, samples| {
            let Ok(queue) = &facts.queue else { return };
            samples.with(&[("state", "all")], queue.gauges.all_hops);
            samples.with(&[("state", "backing_off")], queue.gauges.backing_off);
        },
    ),
    gauge(
        "smtpmta_next_hop_recipients",
        "Recipients that wait for a next hop, or are on their way there, for the 20 with most; all others together are \
         other.",
        hop_recipients,
    ),
    histogram(
        "smtpmta_queue_age_seconds",
        "The ages of the messages of all recipients that wait for next hops, or are on their way there, as they are now: \
         it goes up and down.",
        |facts, samples| {
            if let Some(ages) = &facts.ages {
                samples.histogram(&ages.counted(), |seconds| seconds.to_string());
            }
        },
    ),
    gauge(
        "smtpmta_queue_oldest_seconds",
        "The age of the oldest of these messages; 0 if there is none.",
        |facts, samples| {
            if let Some(ages) = &facts.ages {
                let age = ages.all.oldest.map(|id| facts.at.since(id.arrived()).as_secs());
                samples.plain(age.unwrap_or(0));
            }
        },
    ),
    histogram(
        "smtpmta_acceptance_seconds",
        "From the last octet of a message that a client sent until its 250, since the start.",
        |facts, samples| samples.histogram(&facts.measured.acceptance, micros),
    ),
    histogram(
        "smtpmta_transmission_seconds",
        "From the arrival of a message until a next hop has taken it, since the start.",
        |facts, samples| samples.histogram(&facts.measured.transmission, micros),
    ),
    histogram(
        "smtpmta_local_delivery_seconds",
        "From the arrival of a message until it is in a mailbox, since the start.",
        |facts, samples| samples.histogram(&facts.measured.local_delivery, micros),
    ),
    histogram(
        "smtpmta_commit_group_size",
        "Pieces of work that share a commit of the work queue, since the start.",
        |facts, samples| samples.histogram(&facts.measured.group, |size| size.to_string()),
    ),
];

/// Whether a task is one of these.
type IsOne = fn(Task) -> bool;

/// The directions, and whether a task is a handler of each.
const DIRECTIONS: [(&str, IsOne); 2] = [
    ("inbound", |task| matches!(task, Task::InboundHandler(_))),
    ("outbound", |task| matches!(task, Task::OutboundHandler(_))),
];

/// All that there is to tell.
#[must_use]
pub fn exposition(facts: &Facts) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let (name, kind, help) = (metric.name, metric.kind, metric.help);
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let mut samples = Samples {
            name,
            text: &mut text,
        };
        (metric.samples)(facts, &mut samples);
    }
    text
}

/// The samples of a metric, as they are written.
struct Samples<'t> {
    name: &'static str,
    text: &'t mut String,
}

impl Samples<'_> {
    fn plain(&mut self, value: impl Display) {
        self.with(&[], value);
    }

    fn with(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.write("", labels, value);
    }

    /// Buckets, sum and count; `shown` says how a bound, and the sum, are written.
    fn histogram(&mut self, counted: &Counted, shown: fn(u64) -> String) {
        for (bound, count) in &counted.up_to {
            self.write("_bucket", &[("le", &shown(*bound))], count);
        }
        self.write("_bucket", &[("le", "+Inf")], counted.count);
        self.write("_sum", &[], shown(counted.sum));
        self.write("_count", &[], counted.count);
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (place, (name, value)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for sign in value.chars() {
                match sign {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    sign => self.text.push(sign),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// A counter of `show stat`; nothing where the queue can not be read: 0 would be taken for a new beginning.
fn count(facts: &Facts, samples: &mut Samples<'_>, name: &str) {
    if let Ok(queue) = &facts.queue {
        samples.plain(positive(queue, name));
    }
}

fn positive(queue: &QueueFacts, name: &str) -> i64 {
    queue.counter(name).max(0)
}

fn hop_recipients(facts: &Facts, samples: &mut Samples<'_>) {
    let Ok(queue) = &facts.queue else { return };
    let mut named: Vec<(&str, u64)> = Vec::new();
    let mut others = queue.gauges.outbound;
    for hop in queue.gauges.hops.iter().take(NAMED_HOPS) {
        // A series must not come twice, whatever names others have written into the database.
        let is_known = named.iter().any(|(name, _)| *name == hop.next_hop);
        if !is_known && hop.next_hop != OTHER {
            named.push((&hop.next_hop, hop.recipients));
            others = others.saturating_sub(hop.recipients);
        }
    }
    named.push((OTHER, others));
    for (name, recipients) in named {
        samples.with(&[("next_hop", name)], recipients);
    }
}

/// Microseconds as seconds.
fn micros(time: u64) -> String {
    let (seconds, rest) = (time / 1_000_000, time % 1_000_000);
    let text = format!("{seconds}.{rest:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::facts;
    use super::*;

    #[test]
    fn what_strangers_call_their_hosts_stays_a_label_and_no_series_comes_twice() {
        let mut facts = facts("a\\\"\n} 1\nother");
        let text = exposition(&facts);
        let hops = "smtpmta_next_hop_recipients{next_hop=\"a\\\\\\\"\\n} 1\\nother\"} 30\n\
                    smtpmta_next_hop_recipients{next_hop=\"a.example\"} 7\n\
                    smtpmta_next_hop_recipients{next_hop=\"other\"} 5\n";
        assert!(text.contains(hops), "{text}");
        let Ok(queue) = &mut facts.queue else { panic!() };
        queue.gauges.hops[0].next_hop = OTHER.to_owned();
        queue.gauges.hops.push(queue.gauges.hops[1].clone());
        let text = exposition(&facts);
        let hops: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("smtpmta_next_hop_recipients"))
            .collect();
        assert_eq!(
            hops,
            [
                "smtpmta_next_hop_recipients{next_hop=\"a.example\"} 7",
                "smtpmta_next_hop_recipients{next_hop=\"other\"} 35",
            ]
        );
    }

    #[test]
    fn tasks_handlers_states_and_ages_are_told_by_their_names() {
        let text = exposition(&facts("x"));
        for line in [
            "smtpmta_build_info{version=\"",
            "smtpmta_start_time_seconds 5\n",
            "smtpmta_healthy 1\n",
            "smtpmta_task_up{task=\"drt\"} 0\n",
            "smtpmta_task_missing{task=\"drt\"} 0\n",
            "smtpmta_handlers{direction=\"inbound\",state=\"busy\"} 1\n",
            "smtpmta_handlers{direction=\"outbound\",state=\"idle\"} 1\n",
            "smtpmta_handlers_limit{direction=\"outbound\"} 50\n",
            "smtpmta_messages_accepted_total 1234\n",
            "smtpmta_recipients_total{outcome=\"transmitted\"} 0\n",
            "smtpmta_queue_recipients{state=\"WQ_PENDING_XMIT\"} 40\n",
            "smtpmta_next_hops{state=\"backing_off\"} 2\n",
            "smtpmta_queue_age_seconds_bucket{le=\"300\"} 40\n",
            "smtpmta_queue_age_seconds_bucket{le=\"+Inf\"} 42\n",
            "smtpmta_queue_age_seconds_sum 400\n",
            "smtpmta_queue_oldest_seconds 90\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn of_a_queue_that_can_not_be_read_no_number_is_made_up() {
        let mut facts = facts("x");
        facts.queue = Err("disk I/O error".to_owned());
        facts.ages = None;
        let text = exposition(&facts);
        assert!(text.contains("\nsmtpmta_healthy 0\n"), "{text}");
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for name in ["_total", "queue_", "next_hop"] {
            assert!(!samples.iter().any(|line| line.contains(name)), "{name}: {text}");
        }
    }

    #[test]
    fn seconds_are_written_without_an_exponent() {
        let told = [0, 1, 100, 2_500_000, 432_000_000_000].map(micros);
        assert_eq!(told, ["0", "0.000001", "0.0001", "2.5", "432000"]);
    }
}
