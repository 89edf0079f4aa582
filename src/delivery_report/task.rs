//! drt: tells senders what became of their mail. A report goes into SMTP.BOX in the same transaction as the
//! end of the recipients that it is about.
//!
//! Never reports about a message from the null path: that is dead mail, and waits for an operator.

use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::select;

use super::report::{FailedRecipient, Kind, Original, Report};
use crate::smtp::path::ReversePath;
use crate::tasks::Task;
use crate::tasks::bell::{Bells, Stop};
use crate::tasks::board::Board;
use crate::work_queue::{Arrival, Content, Due, Notice, Origin, QueueError, THRESHOLD, WorkQueue};

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
            select! {
                recv(self.bells.drt.heard()) -> _ => {}
                recv(stop.heard()) -> _ => {}
                default(self.poll_interval.min(self.patience())) => {}
            }
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
        self.report_failures(stop)?;
        self.report_delays(stop)?;
        self.expire(stop)
    }

    fn report_failures(&self, stop: &Stop) -> Result<(), QueueError> {
        while !stop.is_given() {
            let due = self.queue.awaiting_report(BATCH)?;
            if due.is_empty() {
                return Ok(());
            }
            let notices = due.iter().map(|due| {
                let failed = due.recipients.iter().map(|r| r.n).collect();
                Notice {
                    about: due.id,
                    failed,
                    report: self.write(due, Kind::Bounce),
                }
            });
            self.queue.report(notices.collect(), None)?;
            self.bells.omsgcnv.kick();
        }
        Ok(())
    }

    fn report_delays(&self, stop: &Stop) -> Result<(), QueueError> {
        let Some(delay) = self.delay_warning else {
            return Ok(());
        };
        while !stop.is_given() {
            let (late, reached, more) = self.queue.delayed(self.queue.now().minus(delay))?;
            let notice = |due: &Due| {
                let retry_until = due.id.arrived().plus(self.expire).to_rfc5322();
                let report = self.write(
                    due,
                    Kind::Delay {
                        retry_until: &retry_until,
                    },
                );
                Notice {
                    about: due.id,
                    failed: Vec::new(),
                    report,
                }
            };
            let notices: Vec<_> = late.iter().map(notice).collect();
            let any = !notices.is_empty();
            self.queue.report(notices, Some(reached))?;
            if any {
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
        let cutoff = self.queue.now().minus(self.expire + self.expire / 10);
        let mut given_up = 0;
        while !stop.is_given() {
            let (step, more) = self.queue.expire(cutoff)?;
            given_up += step;
            if !more {
                break;
            }
        }
        if given_up > 0 {
            self.report_failures(stop)
        } else {
            Ok(())
        }
    }

    /// The report about `due`; `None` when nobody can be told.
    fn write(&self, due: &Due, kind: Kind<'_>) -> Option<Arrival> {
        let sender = due.reverse_path.0.as_ref()?;
        let id = self.queue.message_id();
        let original = self.original(due);
        let whole = original.len() as u64 == due.size;
        let hosts: Vec<Option<String>> = due.recipients.iter().map(|r| remote_mta(&r.host)).collect();
        let recipients: Vec<_> = due
            .recipients
            .iter()
            .zip(&hosts)
            .map(|(r, host)| FailedRecipient {
                address: &r.path,
                original_recipient: None,
                reason: &r.reason,
                remote_mta: host.as_deref(),
                last_attempt: None,
            })
            .collect();
        let report = Report {
            kind,
            id,
            about: due.id,
            hostname: &self.hostname,
            date: &id.arrived().to_rfc5322(),
            arrival: &due.id.arrived().to_rfc5322(),
            sender,
            envelope_id: None,
            recipients: &recipients,
            original: if whole {
                Original::Message(&original)
            } else {
                Original::Headers(&original)
            },
        };
        let content = Content::from_bytes(report.content().octets);
        log::info!("id={id} report about id={} to=<{sender}>", due.id);
        Some(Arrival {
            client: Task::DeliveryReport.to_string(),
            ..Arrival::new(id, Origin::Report, ReversePath(None), [sender.clone()], content)
        })
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

/// The name of the host that was tried last, out of `name[address]:port`; an address without a name as a literal.
fn remote_mta(host: &str) -> Option<String> {
    let name = host.rsplit_once('[').map_or(host, |(name, _)| name);
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Some(format!("[{address}]")),
        Ok(IpAddr::V6(address)) => Some(format!("[IPv6:{address}]")),
        Err(_) => Some(name.to_owned()).filter(|name| !name.is_empty()),
    }
}
