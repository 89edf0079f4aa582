//! drt: tells senders what became of their mail. A report goes into SMTP.BOX in the same transaction as the
//! end of the recipients that it is about.
//!
//! Never reports about a message from the null path: that is dead mail, and waits for an operator.

use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use super::report::{Kind, Original, Report, ReportedRecipient};
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};
use crate::smtp::dsn::{EnvelopeId, Notify, Return};
use crate::smtp::path::ReversePath;
use crate::tasks::Task;
use crate::tasks::bell::{Bells, Stop};
use crate::tasks::board::Board;
use crate::work_queue::states::State;
use crate::work_queue::{
    Arrival, Concerned, Content, Due, News, Notice, Origin, QueueError, Round, THRESHOLD, Telling, WorkQueue,
};

/// How long the attempt that falls due when the time of a message is over may take to be made.
const LAST_ATTEMPT: Duration = Duration::from_secs(600);

/// Messages that are reported about in one transaction.
const BATCH: usize = 50;

/// The delivery report task, and what it works with.
#[derive(Debug)]
pub struct DeliveryReport {
    /// Where its messages are.
    pub queue: WorkQueue,
    /// Whom it kicks.
    pub bells: Bells,
    /// Where it says what it is doing.
    pub board: Board,
    /// `--hostname`.
    pub hostname: String,
    /// `--expire`.
    pub expire: Duration,
    /// `--delay-warning`.
    pub delay_warning: Option<Duration>,
    /// `--poll-interval`.
    pub poll_interval: Duration,
}

impl DeliveryReport {
    /// Works until it is told to stop.
    pub fn run(&self, stop: &Stop) {
        while !stop.is_given() {
            self.board.write(Task::DeliveryReport, "Reporting");
            if let Err(error) = self.round(stop) {
                log::error!("delivery reports could not be made: {error}");
            }
            self.board.write(Task::DeliveryReport, "Idle");
            let pause = self.poll_interval.min(self.patience());
            self.bells.drt.rest(stop, pause);
        }
    }

    /// How often the walks through the messages that are late are made: often enough for the shortest of the
    /// times that they watch.
    fn patience(&self) -> Duration {
        let shortest = self
            .delay_warning
            .map_or(self.expire, |delay| delay.min(self.expire));
        (shortest / 10).max(Duration::from_millis(100))
    }

    fn round(&self, stop: &Stop) -> Result<(), QueueError> {
        // What keeps one of these from being done need not keep the others.
        let done = [
            self.report_failures(stop),
            self.report_successes(stop),
            self.report_delays(stop),
            self.expire(stop),
            self.queue.hold_what_could_not_be_held(),
        ];
        done.into_iter().collect()
    }

    fn report_failures(&self, stop: &Stop) -> Result<(), QueueError> {
        while !stop.is_given() {
            let due = self.queue.awaiting_report(BATCH)?;
            if due.is_empty() {
                return Ok(());
            }
            let mut notices = Vec::new();
            for mut due in due {
                let (about, wants) = (due.id, wants(|notify| notify.failure));
                let is_reached = |recipient: &Concerned| recipient.success.is_some();
                let (reached, failed): (Vec<_>, Vec<_>) = due.recipients.drain(..).partition(is_reached);
                // RFC 3461 4.1: who said NEVER, or not FAILURE, does not want to hear of it.
                let (told, untold): (Vec<_>, Vec<_>) = failed.into_iter().partition(wants);
                if !untold.is_empty() {
                    let (news, telling) = (ends(&untold, &[]), Telling::Unwanted);
                    notices.push(Notice { about, news, telling });
                }
                if !told.is_empty() {
                    // What went well is told by the way.
                    let news = ends(&told, &reached);
                    due.recipients = told.into_iter().chain(reached).collect();
                    let telling = self.write(&due, Kind::Bounce);
                    notices.push(Notice { about, news, telling });
                }
            }
            self.queue.report(notices, None)?;
            reach(CrashPoint::BounceCommitted);
            self.bells.omsgcnv.kick();
        }
        Ok(())
    }

    fn report_successes(&self, stop: &Stop) -> Result<(), QueueError> {
        while !stop.is_given() {
            let due = self.queue.awaiting_success_report(BATCH)?;
            if due.is_empty() {
                return Ok(());
            }
            let notices = due.iter().map(|due| Notice {
                about: due.id,
                news: ends(&[], &due.recipients),
                telling: self.write(due, Kind::Success),
            });
            self.queue.report(notices.collect(), None)?;
            reach(CrashPoint::SuccessCommitted);
            self.bells.omsgcnv.kick();
        }
        Ok(())
    }

    fn report_delays(&self, stop: &Stop) -> Result<(), QueueError> {
        let Some(delay) = self.delay_warning else {
            return Ok(());
        };
        while !stop.is_given() {
            let cutoff = self.queue.moment().certain.minus(delay);
            let (mut late, reached, more) = self.queue.delayed(cutoff)?;
            for due in &mut late {
                due.recipients.retain(wants(|notify| notify.delay));
            }
            late.retain(|due| !due.recipients.is_empty());
            let notice = |due: &Due| {
                let retry_until = due.id.arrived().plus(self.expire).to_rfc5322();
                let kind = Kind::Delay {
                    retry_until: &retry_until,
                };
                Notice {
                    about: due.id,
                    news: News::Late,
                    telling: self.write(due, kind),
                }
            };
            let notices: Vec<_> = late.iter().map(notice).collect();
            let any = !notices.is_empty();
            self.queue.report(notices, Some(reached))?;
            if any {
                reach(CrashPoint::DelayCommitted);
                self.bells.omsgcnv.kick();
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// The safety net below the retries: no message outlives its time, whatever keeps it from being tried. An
    /// attempt that falls due at the very end is let go first.
    fn expire(&self, stop: &Stop) -> Result<(), QueueError> {
        let now = self.queue.moment().certain;
        let cutoff = now.minus(self.expire + (self.expire / 10).min(LAST_ATTEMPT));
        let mut round = Round::default();
        while !stop.is_given() && !round.is_done {
            round = self.queue.expire(cutoff, round)?;
        }
        if round.given_up > 0 {
            reach(CrashPoint::ExpiryCommitted);
            self.report_failures(stop)
        } else {
            Ok(())
        }
    }

    /// The report about `due`.
    fn write(&self, due: &Due, kind: Kind<'_>) -> Telling {
        let Some(sender) = &due.reverse_path.0 else {
            return Telling::Nobody;
        };
        let id = self.queue.message_id();
        let original = self.original(due);
        // RFC 3461 4.3: only failures bring back more than the header, and never what has no lines.
        let whole = kind == Kind::Bounce
            && due.ret != Some(Return::Headers)
            && !due.binary
            && original.len() as u64 == due.size;
        let envelope_id = due.envelope_id.as_ref().map(EnvelopeId::decoded);
        let recipients: Vec<_> = due.recipients.iter().map(Facts::of).collect();
        let recipients: Vec<_> = recipients.iter().map(Facts::reported).collect();
        let report = Report {
            kind,
            id,
            about: due.id,
            hostname: &self.hostname,
            date: &self.queue.arrival(id).to_rfc5322(),
            arrival: &self.queue.arrival(due.id).to_rfc5322(),
            sender,
            envelope_id: envelope_id.as_deref(),
            recipients: &recipients,
            utf8: due.utf8,
            original: if whole {
                Original::Message(&original)
            } else {
                Original::Headers(&original)
            },
        };
        let content = Content::from_bytes(report.content().octets);
        log::info!("id={id} about={} to=<{sender}> report made", due.id);
        Telling::Report(Box::new(Arrival {
            client: Task::DeliveryReport.to_string(),
            // Then the report names its recipient in UTF-8, in the envelope and in To.
            utf8: !sender.to_string().is_ascii(),
            ..Arrival::new(id, Origin::Report, ReversePath(None), [sender.clone()], content)
        }))
    }

    /// The original as a whole if it is small, else its header, as far as it is small. A content that is
    /// lost must not keep the sender from being told.
    fn original(&self, due: &Due) -> Vec<u8> {
        let mut original = Vec::new();
        let read = self.queue.content(due.id).map(|content| {
            let most = THRESHOLD as u64;
            content.take(most).read_to_end(&mut original)
        });
        if !matches!(read, Ok(Ok(_))) {
            log::warn!("id={} its content can not be read for the report", due.id);
        }
        if due.size > original.len() as u64 {
            let end = memchr::memmem::find(&original, b"\r\n\r\n")
                .map(|at| at + 2)
                .or_else(|| {
                    // A header that does not end within the bound is cut at a line.
                    memchr::memrchr(b'\n', &original).map(|at| at + 1)
                });
            original.truncate(end.unwrap_or(0));
        }
        original
    }
}

/// Whether a sender wants to hear of the end of a recipient: what it said, or, as ever, failures and delays.
fn wants(said: fn(Notify) -> bool) -> impl Fn(&Concerned) -> bool {
    move |recipient| recipient.notify.is_none_or(said)
}

fn ends(failed: &[Concerned], reached: &[Concerned]) -> News {
    News::Ends {
        failed: numbers(failed),
        reached: numbers(reached),
    }
}

fn numbers(recipients: &[Concerned]) -> Vec<u32> {
    recipients.iter().map(|recipient| recipient.n).collect()
}

/// What a report says of a recipient, in its words.
struct Facts<'d> {
    recipient: &'d Concerned,
    original: Option<String>,
    remote_mta: Option<String>,
    last_attempt: Option<String>,
}

impl<'d> Facts<'d> {
    fn of(recipient: &'d Concerned) -> Facts<'d> {
        let original = recipient.original.as_ref();
        Facts {
            recipient,
            original: original.map(|original| original.in_ascii().decoded()),
            remote_mta: remote_mta(&recipient.host),
            last_attempt: recipient.last_attempt.map(Stamp::to_rfc5322),
        }
    }

    fn reported(&self) -> ReportedRecipient<'_> {
        ReportedRecipient {
            address: &self.recipient.path,
            expanded_from: self.recipient.expanded_from.as_ref(),
            original_recipient: self.original.as_deref(),
            success: self.recipient.success,
            reason: &self.recipient.reason,
            remote_mta: self.remote_mta.as_deref(),
            last_attempt: self.last_attempt.as_deref(),
            is_held: self.recipient.state == State::Held,
        }
    }
}

/// The name of the host that was tried last, out of `name[address]:port`; an address without a name as a literal.
fn remote_mta(host: &str) -> Option<String> {
    let name = host.rsplit_once('[').map_or(host, |(name, _)| name);
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Some(format!("[{address}]")),
        Ok(IpAddr::V6(address)) => Some(format!("[IPv6:{address}]")),
        Err(_) => Some(name.to_owned()).filter(|name| !name.is_empty()),
    }
}
