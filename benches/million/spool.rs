//! A spool full of mail that waits for hosts that are dead, made through the verbs of the work queue: what is in it
//! has come all the way that mail comes.
//!
//! Never starts an MTA.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smtpmta::clock::Clock;
use smtpmta::domain_list::list::DomainList;
use smtpmta::domain_list::next_hop::NextHop;
use smtpmta::domain_list::pace::Unlimited;
use smtpmta::smtp::path::{Mailbox, ReversePath};
use smtpmta::smtp::reply::{EnhancedCode, Reply};
use smtpmta::work_queue::outcome::{Outcome, Reason};
use smtpmta::work_queue::retry::RetryPolicy;
use smtpmta::work_queue::{
    Arrival, Claim, Content, Converted, Delivery, ListedMessage, Origin, QueueError, Routed, Settlement,
    Silence, Terms, Waiting, Way, WorkQueue,
};

/// One message in so many is for the next hop with the long row.
const ONE_IN: usize = 10;
/// The others are spread over so many next hops.
const HOPS: usize = 1000;
/// Of these, the last ones answer, and put each message off by itself; the others do not answer at all.
const ANSWERING: usize = 100;
/// Sessions that bring the mail: as many messages share a commit.
const SESSIONS: usize = 64;
/// Messages that are converted in one transaction.
const GROUP: usize = 1000;
/// Octets of the content of each message.
const SIZE: usize = 1024;
/// The host that is said to have been tried.
const HOST: &str = "192.0.2.9[192.0.2.9]";

/// Fills the folder `spool` with `messages` messages that wait, of one recipient each. None is due within a day.
///
/// # Errors
/// When the work queue refused.
pub fn fill(spool: &Path, messages: usize) -> Result<(), QueueError> {
    let queue = WorkQueue::open(spool, Clock::System)?;
    put(&queue, messages)?;
    convert(&queue)?;
    put_off(&queue)?;
    queue.close();
    Ok(())
}

/// Fills the folder `spool` with the history of `messages` messages that have been delivered.
///
/// # Errors
/// When the work queue refused.
pub fn fill_with_history(spool: &Path, messages: usize) -> Result<(), QueueError> {
    let queue = WorkQueue::open(spool, Clock::System)?;
    put(&queue, messages)?;
    convert(&queue)?;
    each_list(&queue, |list| settle(&queue, list, &delivered))?;
    queue.close();
    Ok(())
}

fn domain(n: usize) -> String {
    match n % ONE_IN {
        0 => "long-row.test".to_owned(),
        rest => format!("dead{:04}.test", (n / ONE_IN * (ONE_IN - 1) + rest - 1) % HOPS),
    }
}

fn put(queue: &WorkQueue, messages: usize) -> Result<(), QueueError> {
    let next = AtomicUsize::new(0);
    let session = || -> Result<(), QueueError> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= messages {
                return Ok(());
            }
            let to: Mailbox = format!("somebody{n}@{}", domain(n)).parse().expect("a path");
            let mut content =
                format!("Subject: message {n}\r\nFrom: <sender@example.org>\r\nTo: <{to}>\r\n\r\n");
            content.push_str(&"x".repeat(SIZE.saturating_sub(content.len() + 2)));
            content.push_str("\r\n");
            let sender = ReversePath("sender@example.org".parse().ok());
            queue.put(Arrival {
                client: "192.0.2.1".to_owned(),
                helo: "client.example".to_owned(),
                protocol: "ESMTP",
                ..Arrival::new(
                    queue.message_id(),
                    Origin::Session,
                    sender,
                    [to],
                    Content::from_bytes(content.into_bytes()),
                )
            })?;
        }
    };
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(session)).collect();
        sessions
            .into_iter()
            .try_for_each(|session| session.join().expect("a session does not panic"))
    })
}

/// As imsgcnv and omsgcnv do it.
fn convert(queue: &WorkQueue) -> Result<(), QueueError> {
    loop {
        let waiting = queue.waiting_inbound(queue.now(), GROUP)?;
        if waiting.is_empty() {
            break;
        }
        let passed = |w: &Waiting| Converted {
            id: w.id,
            null_sender: false,
            structure: None,
            deliveries: w.recipients.iter().map(|r| (r.n, Delivery::PassOn)).collect(),
        };
        queue.converted(waiting.iter().map(passed).collect())?;
    }
    loop {
        let waiting = queue.waiting_in_box(queue.now(), GROUP)?;
        if waiting.is_empty() {
            return Ok(());
        }
        let routed = |w: &Waiting| Routed {
            id: w.id,
            structure: None,
            content: None,
            ways: w
                .recipients
                .iter()
                .map(|r| (r.n, Way::Hop(hop_of(&r.path))))
                .collect(),
            null_sender: false,
        };
        queue.routed(waiting.iter().map(routed).collect())?;
    }
}

fn hop_of(path: &Mailbox) -> NextHop {
    NextHop::Domain(path.domain().to_owned())
}

/// As osesctl and its handlers do it: most next hops do not answer, and back off; the others put off what they are
/// given, message by message.
fn put_off(queue: &WorkQueue) -> Result<(), QueueError> {
    each_list(queue, |list| {
        let name = list.next_hop.to_string();
        let number = name
            .strip_prefix("dead")
            .and_then(|rest| rest[..4].parse::<usize>().ok());
        if number.is_some_and(|number| number >= HOPS - ANSWERING) {
            return settle(queue, list, &later);
        }
        let silence = Silence {
            list: list.id,
            host: HOST.to_owned(),
            reason: Reason::here(EnhancedCode(4, 4, 1), "192.0.2.9:25: no answer within 30 s"),
            retry: retry(),
        };
        queue.back_off(&silence).map(drop)
    })
}

/// Makes lists as long as something is due, and does `end` with each.
fn each_list(
    queue: &WorkQueue,
    end: impl Fn(&DomainList) -> Result<(), QueueError>,
) -> Result<(), QueueError> {
    loop {
        let claimed = queue.claim(Claim {
            lingering: HashMap::new(),
            handlers: (0..100).collect(),
            waiting_room: 0,
            waiting: HashSet::new(),
            busy: HashMap::new(),
            per_next_hop: 20,
            limits: HashMap::new(),
            spare: 100,
            silent: HashSet::new(),
            ripe: HashSet::new(),
            terms: Terms {
                list_messages: 100,
                tokens: Arc::new(Unlimited),
                router: Arc::new(|path, _| hop_of(path)),
            },
        })?;
        if claimed.lists.is_empty() {
            return Ok(());
        }
        for list in &claimed.lists {
            end(list)?;
            queue.end_list(list.id)?;
        }
    }
}

/// Ends every recipient on a list with `outcome`.
fn settle(queue: &WorkQueue, list: &DomainList, outcome: &dyn Fn() -> Outcome) -> Result<(), QueueError> {
    let settle = |message: &ListedMessage| {
        queue.settle(Arc::new(Settlement {
            list: list.id,
            id: message.id,
            null_sender: false,
            host: HOST.to_owned(),
            tls: None,
            host_reports: false,
            is_delivery: false,
            outcomes: message.recipients.iter().map(|r| (r.n, outcome())).collect(),
            retry: retry(),
        }))
    };
    let messages = queue.list_messages(list.id)?;
    let pending: Vec<_> = messages.iter().map(settle).collect();
    pending
        .into_iter()
        .try_for_each(|settled| settled.wait().map(drop))
}

fn later() -> Outcome {
    let text = "192.0.2.9:25 said: 450 4.2.0 come back later";
    Outcome::TryLater(Reason::here(EnhancedCode(4, 2, 0), text))
}

fn delivered() -> Outcome {
    Outcome::Delivered(Reply {
        code: 250,
        enhanced: None,
        lines: vec!["ok".to_owned()],
    })
}

fn retry() -> RetryPolicy {
    let day = Duration::from_secs(24 * 3600);
    RetryPolicy {
        schedule: vec![day],
        expire: 5 * day,
    }
}
