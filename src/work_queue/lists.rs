//! The outbound work queue as Domain List Processing sees it: what is pending becomes lists, a list is
//! locked when a handler gets it, each recipient is settled on its own, and what is left goes back.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::conversion::give_up;
use super::damage::{hold, mailbox_in, reverse_path_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::retry::RetryPolicy;
use super::states::State;
use super::{Pending, WorkQueue};
use crate::clock::Stamp;
use crate::domain_list::gather::Gather;
use crate::domain_list::next_hop::NextHop;
use crate::outbound::outcome::{Outcome, Reason};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::EnhancedCode;

/// Names a domain list: the reference ID that osesctl gives to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(pub i64);

impl fmt::Display for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a next hop in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopId(pub i64);

/// A domain list: frozen, and never sorted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainList {
    /// Its reference ID.
    pub id: ListId,
    /// Where it goes.
    pub hop: HopId,
    /// Where it goes, in words that outbound understands.
    pub next_hop: NextHop,
    /// Messages on it.
    pub messages: usize,
    /// Recipients of these messages on it.
    pub recipients: usize,
    /// The handler that has it; its rows are locked then.
    pub handler: Option<usize>,
}

/// What one pass of Domain List Processing may do.
#[derive(Clone)]
pub struct Claim {
    /// Handlers that are reserved for the lists of this pass, in this order.
    pub handlers: Vec<usize>,
    /// How many lists may be made beyond those, to wait for a handler.
    pub waiting_room: usize,
    /// Next hops that have a list waiting already: their mail stays pending until it has gone.
    pub waiting: HashSet<HopId>,
    /// How many lists of a next hop are in the hands of handlers.
    pub busy: HashMap<HopId, usize>,
    /// At most so many of them together.
    pub per_next_hop: usize,
    /// At most so many messages on a list.
    pub list_messages: usize,
    /// The next hop of a recipient, as the configuration says now: nothing about the way is frozen.
    pub router: Arc<dyn Fn(&Mailbox) -> NextHop + Send + Sync>,
}

/// A message on a list, with those of its recipients that are on it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMessage {
    /// The message.
    pub id: MessageId,
    /// Whom to tell when delivery fails.
    pub reverse_path: ReversePath,
    /// Octets of its content.
    pub size: u64,
    /// Whether the content has octets above 127.
    pub eight_bit: bool,
    /// In the order of RCPT; they travel in one transaction.
    pub recipients: Vec<ListedRecipient>,
}

/// A recipient on a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecipient {
    /// Its number in the message.
    pub n: u32,
    /// Whom it is.
    pub path: Mailbox,
}

/// How the recipients of one message on a list fared.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The list they were on.
    pub list: ListId,
    /// The message.
    pub id: MessageId,
    /// Whether there is nobody to tell of a failure.
    pub null_sender: bool,
    /// The host that was spoken to, `name[address]:port`; empty where none was reached.
    pub host: String,
    /// The end of this attempt for each of them.
    pub outcomes: Vec<(u32, Outcome)>,
    /// When to try again.
    pub retry: RetryPolicy,
}

/// How often each end occurred in a settlement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Taken by the next hop.
    pub transmitted: usize,
    /// To be tried again.
    pub deferred: usize,
    /// Given up: there is work for the delivery report task.
    pub given_up: usize,
}

impl WorkQueue {
    /// One pass of Domain List Processing: gives each next hop that is due at most one list. Empty when
    /// there is nothing to do, or no room.
    ///
    /// # Errors
    /// When the database refused: everything is pending as before.
    pub fn claim(&self, claim: Claim) -> Result<Vec<DomainList>, QueueError> {
        let now = self.now();
        self.store
            .write(move |ledger| make_lists(ledger, &claim, now))
            .wait()
    }

    /// Gives a list that waited to handler `handler`: from this commit on its rows are locked.
    ///
    /// # Errors
    /// When the database refused: the list waits as before.
    pub fn lock_list(&self, list: ListId, handler: usize) -> Result<(), QueueError> {
        self.store
            .write(move |ledger| lock_list(ledger, list, handler))
            .wait()
    }

    /// The messages of a list that are not settled yet, in their order.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn list_messages(&self, list: ListId) -> Result<Vec<ListedMessage>, QueueError> {
        let rows = self.store.read(|db| {
            ledger::rows(
                db,
                "SELECT r.message, r.n, r.path, m.reverse_path, m.size, m.eight_bit \
                 FROM recipient r JOIN message m ON m.id = r.message \
                 WHERE r.list = ? AND r.state = 3 ORDER BY r.message, r.n",
                [list.0],
                |row| {
                    let id = MessageId(row.get(0)?);
                    let (n, size, eight_bit) = (row.get(1)?, row.get(4)?, row.get(5)?);
                    let (Some(path), Some(reverse_path)) = (mailbox_in(row, 2), reverse_path_in(row, 3))
                    else {
                        return Ok(Err(id));
                    };
                    let recipients = vec![ListedRecipient { n, path }];
                    Ok(Ok(ListedMessage {
                        id,
                        reverse_path,
                        size,
                        eight_bit,
                        recipients,
                    }))
                },
            )
        })?;
        let damaged: Vec<MessageId> = rows
            .iter()
            .filter_map(|row| row.as_ref().err())
            .copied()
            .collect();
        let rows: Vec<ListedMessage> = rows
            .into_iter()
            .flatten()
            .filter(|row| !damaged.contains(&row.id))
            .collect();
        self.hold_damaged(damaged)?;
        let mut messages: Vec<ListedMessage> = Vec::new();
        for row in rows {
            match messages.last_mut() {
                Some(message) if message.id == row.id => message.recipients.extend(row.recipients),
                _ => messages.push(row),
            }
        }
        Ok(messages)
    }

    /// Records how the recipients of one message fared. The answer comes with the commit; the caller may go on
    /// in the meantime.
    pub fn settle(&self, settlement: Settlement) -> Pending<Settled> {
        let now = self.now();
        self.store.write(move |ledger| settle(ledger, &settlement, now))
    }

    /// Takes a list apart: what is not settled goes back to pending, as it was.
    ///
    /// # Errors
    /// When the database refused; the next start finds the list and does it then.
    pub fn end_list(&self, list: ListId) -> Result<(), QueueError> {
        self.store
            .write(move |ledger| end_list(ledger, list, "released"))
            .wait()
    }

    /// When the next recipient falls due, of those that are on no list.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn next_due(&self) -> Result<Option<Stamp>, QueueError> {
        self.store.read(|db| {
            let sql = "SELECT due FROM next_hop WHERE due IS NOT NULL ORDER BY due LIMIT 1";
            ledger::row(db, sql, [], |row| row.get(0).map(Stamp))
        })
    }

    /// After a crash: every list is taken apart (promise 3).
    pub(super) fn recover(&self) -> Result<(), QueueError> {
        let lists = self
            .store
            .write(|ledger| {
                let lists = ledger.rows("SELECT id FROM domain_list", [], |row| row.get(0).map(ListId))?;
                for list in &lists {
                    end_list(ledger, *list, "recovered")?;
                }
                Ok(lists.len())
            })
            .wait()?;
        if lists > 0 {
            log::warn!(
                "{lists} domain lists were in hand when the MTA stopped: their messages are pending again"
            );
        }
        Ok(())
    }
}

/// Notes that the next hop `name` has a recipient that is due at `due`; gives its number.
pub(super) fn now_due(ledger: &Ledger<'_>, name: &str, due: Stamp) -> Result<i64, QueueError> {
    let id = ledger.row(
        "INSERT INTO next_hop (name, due, used_at) VALUES (?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET due = min(ifnull(due, excluded.due), excluded.due) RETURNING id",
        (name, due.0, ledger.now().0),
        |row| row.get(0),
    )?;
    id.ok_or(QueueError::Database(rusqlite::Error::QueryReturnedNoRows))
}

/// Works out anew when a next hop is due.
fn refresh_due(ledger: &Ledger<'_>, hop: HopId) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE next_hop SET due = (SELECT min(next_attempt) FROM recipient \
         WHERE hop = ?1 AND state = 2 AND list IS NULL) WHERE id = ?1",
        [hop.0],
    )?;
    Ok(())
}

fn make_lists(ledger: &mut Ledger<'_>, claim: &Claim, now: Stamp) -> Result<Vec<DomainList>, QueueError> {
    let room = claim.handlers.len() + claim.waiting_room;
    let due = ledger.rows(
        "SELECT id, name FROM next_hop WHERE due IS NOT NULL AND due <= ? ORDER BY due, used_at LIMIT ?",
        (now.0, room + claim.waiting.len()),
        |row| Ok((HopId(row.get(0)?), row.get::<_, String>(1)?)),
    )?;
    let mut handlers = claim.handlers.iter().copied();
    let mut waiting_room = claim.waiting_room;
    let mut lists = Vec::new();
    for (hop, name) in due.into_iter().filter(|(hop, _)| !claim.waiting.contains(hop)) {
        let may_go = claim.busy.get(&hop).copied().unwrap_or(0) < claim.per_next_hop;
        let handler = if may_go { handlers.next() } else { None };
        if handler.is_none() {
            if waiting_room == 0 {
                continue;
            }
            waiting_room -= 1;
        }
        let next_hop = NextHop::from_name(&name);
        if let Some(list) = make_list(ledger, claim, now, hop, next_hop, handler)? {
            lists.push(list);
        }
    }
    Ok(lists)
}

fn make_list(
    ledger: &mut Ledger<'_>,
    claim: &Claim,
    now: Stamp,
    hop: HopId,
    next_hop: NextHop,
    handler: Option<usize>,
) -> Result<Option<DomainList>, QueueError> {
    let mut gather = Gather::new(claim.list_messages);
    let mut strayed = Vec::new();
    let mut damaged = Vec::new();
    {
        let mut statement = ledger.db().prepare_cached(
            "SELECT message, n, path FROM recipient \
             WHERE hop = ? AND state = 2 AND list IS NULL AND next_attempt <= ? ORDER BY next_attempt, message, n",
        )?;
        let mut rows = statement.query((hop.0, now.0))?;
        while let Some(row) = rows.next()? {
            let (id, n) = (MessageId(row.get(0)?), row.get::<_, u32>(1)?);
            let Some(path) = mailbox_in(row, 2) else {
                damaged.push(id);
                continue;
            };
            let goes_to = (claim.router)(&path);
            if goes_to != next_hop {
                strayed.push((id, n, goes_to));
            } else if !gather.take(id, n) {
                break;
            }
            if strayed.len() >= Gather::MOST_RECIPIENTS {
                break;
            }
        }
    }
    damaged.dedup();
    damaged.into_iter().try_for_each(|id| hold(ledger, id))?;
    for (id, n, goes_to) in strayed {
        let name = goes_to.to_string();
        let other = now_due(ledger, &name, Stamp::EPOCH)?;
        ledger.run(
            "UPDATE recipient SET hop = ? WHERE message = ? AND n = ?",
            (other, id.0, n),
        )?;
        ledger.record(id, Some(n), "rerouted", &name)?;
    }
    let list = if gather.recipients().is_empty() {
        None
    } else {
        let made = DomainList {
            id: ListId(0),
            hop,
            next_hop,
            messages: gather.messages(),
            recipients: gather.recipients().len(),
            handler,
        };
        Some(write_list(ledger, made, gather.recipients())?)
    };
    ledger.run(
        "UPDATE next_hop SET used_at = ? WHERE id = ?",
        (ledger.now().0, hop.0),
    )?;
    refresh_due(ledger, hop)?;
    Ok(list)
}

fn write_list(
    ledger: &mut Ledger<'_>,
    mut list: DomainList,
    recipients: &[(MessageId, u32)],
) -> Result<DomainList, QueueError> {
    ledger.run(
        "INSERT INTO domain_list (hop, messages, recipients, handler, made_at) VALUES (?, ?, ?, ?, ?)",
        (
            list.hop.0,
            list.messages,
            list.recipients,
            list.handler,
            ledger.now().0,
        ),
    )?;
    list.id = ListId(ledger.db().last_insert_rowid());
    let state = if list.handler.is_some() {
        State::LockedForXmit
    } else {
        State::PendingXmit
    };
    debug_assert!(State::PendingXmit.may_become(state));
    let story = match list.handler {
        Some(handler) => format!(
            "list {} for {}, given to oseshlr{handler}",
            list.id, list.next_hop
        ),
        None => format!(
            "list {} for {}, which waits for a handler",
            list.id, list.next_hop
        ),
    };
    let mut told = None;
    for (id, n) in recipients {
        ledger.run(
            "UPDATE recipient SET list = ?, state = ? WHERE message = ? AND n = ?",
            (list.id.0, state.number(), id.0, n),
        )?;
        if told.replace(*id) != Some(*id) {
            ledger.record(*id, None, "listed", &story)?;
        }
    }
    ledger.count("SMTP.Lists", 1);
    Ok(list)
}

fn lock_list(ledger: &mut Ledger<'_>, list: ListId, handler: usize) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE domain_list SET handler = ? WHERE id = ?",
        (handler, list.0),
    )?;
    let messages = ledger.rows(
        "SELECT DISTINCT message FROM recipient WHERE list = ? AND state = 2",
        [list.0],
        |row| row.get(0).map(MessageId),
    )?;
    ledger.run(
        "UPDATE recipient SET state = 3 WHERE list = ? AND state = 2",
        [list.0],
    )?;
    let story = format!("list {list} given to oseshlr{handler}");
    for id in messages {
        ledger.record(id, None, "locked", &story)?;
    }
    Ok(())
}

fn end_list(ledger: &mut Ledger<'_>, list: ListId, what: &'static str) -> Result<(), QueueError> {
    let hop = ledger.row("SELECT hop FROM domain_list WHERE id = ?", [list.0], |row| {
        row.get(0).map(HopId)
    })?;
    let messages = ledger.rows(
        "SELECT DISTINCT message FROM recipient WHERE list = ?",
        [list.0],
        |row| row.get(0).map(MessageId),
    )?;
    ledger.run(
        "UPDATE recipient SET state = 2, list = NULL WHERE list = ?",
        [list.0],
    )?;
    for id in &messages {
        ledger.record(*id, None, what, &format!("list {list} ended before its turn"))?;
    }
    ledger.run("DELETE FROM domain_list WHERE id = ?", [list.0])?;
    match hop {
        Some(hop) if !messages.is_empty() => refresh_due(ledger, hop),
        _ => Ok(()),
    }
}

fn settle(ledger: &mut Ledger<'_>, settlement: &Settlement, now: Stamp) -> Result<Settled, QueueError> {
    let id = settlement.id;
    let mut settled = Settled::default();
    for (n, outcome) in &settlement.outcomes {
        let row = ledger.row(
            "SELECT attempts, hop FROM recipient WHERE message = ? AND n = ? AND list = ? AND state = 3",
            (id.0, n, settlement.list.0),
            |row| Ok((row.get::<_, u32>(0)?, HopId(row.get(1)?))),
        )?;
        // It may have been removed by the operator meanwhile.
        let Some((attempts, hop)) = row else { continue };
        match outcome {
            Outcome::Delivered(reply) => {
                ledger.run(
                    "UPDATE recipient SET state = ?, list = NULL, settled_at = ?, attempts = attempts + 1, \
                     last_host = ? WHERE message = ? AND n = ?",
                    (State::Transmitted.number(), now.0, &settlement.host, id.0, n),
                )?;
                let story = format!("{} said: {reply}", settlement.host);
                ledger.record(id, Some(*n), "transmitted", &story)?;
                settled.transmitted += 1;
            }
            Outcome::TryLater(reason) => {
                attempted(ledger, settlement, *n)?;
                match settlement.retry.next_attempt(id.arrived(), attempts + 1, now) {
                    Some(next) => {
                        defer(ledger, settlement, *n, hop, reason, next)?;
                        settled.deferred += 1;
                    }
                    None => {
                        let expired = expired(reason);
                        give_up(
                            ledger,
                            id,
                            *n,
                            State::LockedForXmit,
                            settlement.null_sender,
                            &expired,
                        )?;
                        settled.given_up += 1;
                    }
                }
            }
            Outcome::GiveUp(reason) => {
                attempted(ledger, settlement, *n)?;
                give_up(
                    ledger,
                    id,
                    *n,
                    State::LockedForXmit,
                    settlement.null_sender,
                    reason,
                )?;
                settled.given_up += 1;
            }
        }
    }
    if settled.transmitted > 0 {
        ledger.count("Mail.Transferred", 1);
        ledger.count(
            "Mail.TransferredRecipients",
            i64::try_from(settled.transmitted).unwrap_or(0),
        );
        settle_if_done(ledger, id)?;
    }
    Ok(settled)
}

fn attempted(ledger: &Ledger<'_>, settlement: &Settlement, n: u32) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE recipient SET attempts = attempts + 1, last_host = ? WHERE message = ? AND n = ?",
        (&settlement.host, settlement.id.0, n),
    )?;
    Ok(())
}

fn defer(
    ledger: &mut Ledger<'_>,
    settlement: &Settlement,
    n: u32,
    hop: HopId,
    reason: &Reason,
    next: Stamp,
) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE recipient SET state = ?, list = NULL, next_attempt = ?, last_status = ?, last_error = ? \
         WHERE message = ? AND n = ?",
        (
            State::PendingXmit.number(),
            next.0,
            reason.status.to_string(),
            &reason.text,
            settlement.id.0,
            n,
        ),
    )?;
    ledger.run(
        "UPDATE next_hop SET due = min(ifnull(due, ?1), ?1), last_error = ?2, error_at = ?3 WHERE id = ?4",
        (next.0, &reason.text, ledger.now().0, hop.0),
    )?;
    let story = format!("{}; next attempt {next}", reason.text);
    ledger.record(settlement.id, Some(n), "deferred", &story)?;
    ledger.count("Mail.Deferred", 1);
    Ok(())
}

/// The reason of a recipient whose time is over.
pub(super) fn expired(last: &Reason) -> Reason {
    Reason {
        status: EnhancedCode(5, 4, 7),
        text: format!(
            "the message could not be delivered in time; the last attempt ended so: {}",
            last.text
        ),
        reply: last.reply.clone(),
    }
}

/// A message whose last recipient has been settled leaves the queue, and its content with it.
pub(super) fn settle_if_done(ledger: &mut Ledger<'_>, id: MessageId) -> Result<(), QueueError> {
    let left = ledger.run(
        "UPDATE message SET left_at = ?1, inbound_due = NULL, box_due = NULL WHERE id = ?2 AND left_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?2 AND state < 10)",
        (ledger.now().0, id.0),
    )?;
    if left > 0 && ledger.run("DELETE FROM content WHERE message = ?", [id.0])? == 0 {
        let file = ledger.row("SELECT file FROM message WHERE id = ?", [id.0], |row| row.get(0))?;
        ledger.discard(file.flatten());
    }
    Ok(())
}
