//! What the two conversion tasks ask of the queue: the messages that wait for them, and what became of
//! each.

use std::ops::Range;
use std::slice;
use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::WorkQueue;
use super::arrival::Origin;
use super::broken::{Broken, MOST_LOOKS};
use super::content::{Content, Home};
use super::damage::{mailbox_in, number_in, reverse_path_in};
use super::error::QueueError;
use super::expansion::{Present, expand};
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::mending::Mended;
use super::moves::{Change, give_up, now_due, refresh_due, settle_if_done, success_due};
use super::outcome::{Reason, Success};
use super::pin::pin_in;
use super::states::State;
use super::structure::Structure;
use super::writer::Durability;
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::list::HopId;
use crate::domain_list::next_hop::NextHop;
use crate::smtp::path::{Mailbox, ReversePath};
use crate::tasks::bell::Bell;

/// How many recipients of a message imsgcnv gets at once: an alias may bring thousands, and what has been
/// delivered shall be recorded soon.
const MOST_AT_ONCE: i64 = 1000;

/// What history tells of a message that imsgcnv has passed on.
pub(super) const PASSED_ON: &str = "passed on to SMTP.BOX by imsgcnv";

/// How much history tells of the next hops of a message, in octets.
const MOST_TOLD: usize = 400;

/// A message that waits for conversion.
#[derive(Debug)]
pub struct Waiting {
    /// The message.
    pub id: MessageId,
    /// Whom to tell when delivery fails.
    pub reverse_path: ReversePath,
    /// Who brought it.
    pub origin: Origin,
    /// Octets of its content.
    pub size: u64,
    /// Whether the content may be any octets, without lines (RFC 3030 3).
    pub binary: bool,
    /// The recipients that wait, in the order of RCPT.
    pub recipients: Vec<WaitingRecipient>,
}

/// A recipient that waits for conversion.
#[derive(Debug)]
pub struct WaitingRecipient {
    /// Its number in the message.
    pub n: u32,
    /// Whom it is.
    pub path: Mailbox,
    /// How often its local delivery has been tried.
    pub attempts: u32,
    /// Whether it came of an alias, and is none itself whatever its name.
    pub is_expanded: bool,
    /// Where an operator leads it by hand.
    pub pin: Option<NextHop>,
}

/// What imsgcnv did for one recipient.
#[derive(Debug)]
pub enum Delivery {
    /// It is in the mailbox; where.
    Delivered(String),
    /// It is not ours: on to SMTP.BOX.
    PassOn,
    /// It is ours, and who keeps its mailbox is this next hop: into the outbound work queue.
    HandOver(NextHop),
    /// It is an alias, and stands for these in the end: at least one.
    Expand(Vec<Mailbox>),
    /// It could not be delivered now; try again then.
    Later(Reason, Stamp),
    /// It never can be delivered.
    GiveUp(Reason),
    /// It is put aside, for an operator to look at.
    Hold(Reason),
}

/// What imsgcnv did with one message.
#[derive(Debug)]
pub struct Converted {
    /// The message.
    pub id: MessageId,
    /// Whether there is nobody to tell of a failure: the reverse path is null.
    pub null_sender: bool,
    /// What it read in the content; `None` when it could not read it.
    pub structure: Option<Structure>,
    /// What became of each recipient that waited.
    pub deliveries: Vec<(u32, Delivery)>,
}

/// The way of a recipient from SMTP.BOX.
#[derive(Debug)]
pub enum Way {
    /// Into the outbound work queue, for this next hop.
    Hop(NextHop),
    /// It is one of ours: into the inbound work queue, for imsgcnv to deliver.
    Local,
    /// It could not be converted now; try again then.
    Later(Reason, Stamp),
    /// It is put aside, for an operator to look at.
    Hold(Reason),
}

/// What omsgcnv did with one message.
#[derive(Debug)]
pub struct Routed {
    /// The message.
    pub id: MessageId,
    /// What it read in the content, where that had not been done before.
    pub structure: Option<Structure>,
    /// The content in RFC form, where it had to be completed.
    pub content: Option<Content>,
    /// The way of each recipient that waited.
    pub ways: Vec<(u32, Way)>,
    /// Whether there is nobody to tell of a failure.
    pub null_sender: bool,
}

impl WorkQueue {
    /// Up to `limit` messages that wait for imsgcnv and are due, the longest due first.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn waiting_inbound(&self, now: Stamp, limit: usize) -> Result<Vec<Waiting>, QueueError> {
        self.waiting(Stage::Inbound, now, limit)
    }

    /// Up to `limit` messages that wait for omsgcnv and are due, the longest due first.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn waiting_in_box(&self, now: Stamp, limit: usize) -> Result<Vec<Waiting>, QueueError> {
        self.waiting(Stage::Box, now, limit)
    }

    /// When the next message falls due for imsgcnv.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn next_inbound_due(&self) -> Result<Option<Stamp>, QueueError> {
        self.store.read(|db| {
            let sql =
                "SELECT inbound_due FROM message WHERE inbound_due IS NOT NULL ORDER BY inbound_due LIMIT 1";
            ledger::row(db, sql, [], |row| row.get(0).map(Stamp))
        })
    }

    /// Records what imsgcnv did, in one transaction. Gives how many good ends the delivery report task has
    /// to tell of now.
    ///
    /// # Errors
    /// When it could not be recorded: the messages wait as before.
    pub fn converted(&self, messages: Vec<Converted>) -> Result<usize, QueueError> {
        let mut messages: Vec<_> = messages.into_iter().map(Arc::new).collect();
        self.converted_and_kick(&mut messages, &[])
    }

    /// The same; `kicks` ring as soon as it is recorded. What is recorded is taken out of `messages`, and what never will
    /// be, too: that message is held, or waits as before.
    ///
    /// # Errors
    /// When not all could be recorded. What is left of `messages` can be later, and waits as before.
    pub fn converted_and_kick(
        &self,
        messages: &mut Vec<Arc<Converted>>,
        kicks: &[Bell],
    ) -> Result<usize, QueueError> {
        match self.record_converted(messages, kicks) {
            Ok(told) => {
                messages.clear();
                Ok(told)
            }
            Err(error) if error.is_about_all() => Err(error),
            // Where the rows of one message can not be written the others' can.
            Err(_) => record_one_by_one(
                messages,
                |message| self.record_converted(slice::from_ref(message), kicks),
                |id| self.hold_damaged(vec![id]),
            ),
        }
    }

    /// Records it, or nothing of it.
    fn record_converted(&self, messages: &[Arc<Converted>], kicks: &[Bell]) -> Result<usize, QueueError> {
        let only_passed_on = messages
            .iter()
            .flat_map(|message| &message.deliveries)
            .all(|(_, delivery)| matches!(delivery, Delivery::PassOn | Delivery::HandOver(_)));
        // A mailbox that has the message already must not get it again; what is passed on can be passed on again.
        let durability = if only_passed_on {
            Durability::Unsynced
        } else {
            Durability::Synced
        };
        let messages = messages.to_vec();
        let record = move |ledger: &mut Ledger<'_>| {
            let told = messages.iter().map(|message| converted(ledger, message));
            let told = told.sum::<Result<usize, QueueError>>()?;
            reach(CrashPoint::ConversionWritten);
            Ok(told)
        };
        let told = self
            .store
            .write_and_kick(durability, kicks.to_vec(), record)
            .wait()?;
        reach(CrashPoint::ConversionCommitted);
        Ok(told)
    }

    /// Records what omsgcnv did, in one transaction.
    ///
    /// # Errors
    /// When it could not be recorded: the messages wait as before.
    pub fn routed(&self, messages: Vec<Routed>) -> Result<(), QueueError> {
        self.routed_and_kick(messages, Vec::new())
    }

    /// The same; `kicks` ring as soon as it is recorded.
    ///
    /// # Errors
    /// When it could not be recorded: the messages wait as before.
    pub fn routed_and_kick(&self, mut messages: Vec<Routed>, kicks: Vec<Bell>) -> Result<(), QueueError> {
        let adopted: Vec<_> = messages
            .iter_mut()
            .map(|m| m.content.as_mut().map(Content::adopt))
            .collect();
        let files: Vec<_> = adopted
            .iter()
            .map(|a| a.as_ref().and_then(|a| a.name.clone()))
            .collect();
        // Where the content is replaced the old one goes; what only gets a next hop can get it again.
        let durability = if messages.iter().any(|message| message.content.is_some()) {
            Durability::Synced
        } else {
            Durability::Unsynced
        };
        let messages: Arc<Vec<_>> = Arc::new(messages.into_iter().zip(files).collect());
        let record = |some: Range<usize>| {
            let messages = Arc::clone(&messages);
            let record = move |ledger: &mut Ledger<'_>| {
                messages[some.clone()]
                    .iter()
                    .try_for_each(|(message, file)| routed(ledger, message, file.as_deref()))?;
                reach(CrashPoint::RouteWritten);
                Ok(())
            };
            let committed = self
                .store
                .write_and_kick(durability, kicks.clone(), record)
                .wait();
            reach(CrashPoint::RouteCommitted);
            committed
        };
        let committed = record(0..messages.len());
        if !committed.as_ref().is_err_and(QueueError::is_damage) {
            for adopted in adopted.into_iter().flatten() {
                adopted.settle(&committed);
            }
            return committed;
        }
        // What only gets a next hop can get it again.
        let mut trouble = None::<QueueError>;
        for (n, adopted) in adopted.into_iter().enumerate() {
            let recorded = match trouble.as_ref().is_some_and(QueueError::is_about_all) {
                // It would fare no better: nothing of it was recorded with the others.
                true => None,
                false => Some(record(n..n + 1)),
            };
            if let Some(adopted) = adopted {
                adopted.settle(recorded.as_ref().unwrap_or(&committed));
            }
            if let Some(Err(error)) = recorded {
                let id = messages[n].0.id;
                trouble = self.pass_over_unrecorded(id, error).err().or(trouble);
            }
        }
        trouble.map_or(Ok(()), Err)
    }
}

impl WorkQueue {
    fn waiting(&self, stage: Stage, now: Stamp, limit: usize) -> Result<Vec<Waiting>, QueueError> {
        let broken = self.store.broken();
        let mut trouble = None;
        let mut messages = Vec::new();
        for _ in 0..MOST_LOOKS {
            let found = self.store.read(|db| waiting(db, stage, now, limit, broken))?;
            let is_through = found.unreadable.is_empty();
            self.hold_damaged(found.damaged)?;
            self.pass_over(found.unreadable);
            trouble = found.trouble.or(trouble);
            messages = found.messages;
            if is_through || !messages.is_empty() {
                break;
            }
        }
        if let Some(error) = trouble.filter(|_| messages.is_empty()) {
            return Err(error);
        }
        // Whatever its row says: none of its recipients waits.
        let idle = messages.iter().filter(|message| message.recipients.is_empty());
        self.mend_messages(idle.map(|message| message.id).collect(), &mut Mended::default())?;
        Ok(messages)
    }
}

/// Where messages wait for conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In the inbound work queue, for imsgcnv.
    Inbound,
    /// In SMTP.BOX, for omsgcnv.
    Box,
}

/// What waits for conversion.
#[derive(Debug, Default)]
struct Found {
    messages: Vec<Waiting>,
    /// Their rows hold what can not be.
    damaged: Vec<MessageId>,
    /// Their rows can not be read …
    unreadable: Vec<MessageId>,
    /// … for this.
    trouble: Option<QueueError>,
}

impl Found {
    fn not_read(&mut self, id: MessageId, error: QueueError) {
        self.unreadable.push(id);
        self.trouble = Some(error);
    }
}

/// Up to `limit` messages that wait there and are due, the longest due first, with their recipients that do. One of which
/// no recipient waits has none.
fn waiting(
    db: &Connection,
    stage: Stage,
    now: Stamp,
    limit: usize,
    broken: &Broken,
) -> Result<Found, QueueError> {
    let sql = match stage {
        Stage::Inbound => {
            "SELECT id, reverse_path, origin, size, body = 3 FROM message \
             WHERE inbound_due IS NOT NULL AND inbound_due <= ? ORDER BY inbound_due, id LIMIT ?"
        }
        Stage::Box => {
            "SELECT id, reverse_path, origin, size, body = 3 FROM message \
             WHERE box_due IS NOT NULL AND box_due <= ? ORDER BY box_due, id LIMIT ?"
        }
    };
    let mut found = Found::default();
    let rows = match ledger::rows(db, sql, (now.0, limit + broken.count()), message_in) {
        Err(error) if error.is_damage() => one_by_one(db, stage, now, limit, broken, &mut found)?,
        rows => rows?,
    };
    for message in rows {
        let message = match message {
            Ok(message) if found.messages.len() >= limit || broken.holds(message.id) => continue,
            Ok(message) => message,
            Err(id) => {
                found.damaged.push(id);
                continue;
            }
        };
        let id = message.id;
        match with_recipients(db, message, stage, now) {
            Ok(Err(error)) if error.is_damage() => found.not_read(id, error),
            Ok(message) => found.messages.push(message?),
            Err(id) => found.damaged.push(id),
        }
    }
    found.damaged.retain(|id| !broken.holds(*id));
    Ok(found)
}

/// The same messages, each looked at by itself: the page of one is broken. Without their recipients.
fn one_by_one(
    db: &Connection,
    stage: Stage,
    now: Stamp,
    limit: usize,
    broken: &Broken,
    found: &mut Found,
) -> Result<Vec<Result<Waiting, MessageId>>, QueueError> {
    // The index alone is read.
    let sql = match stage {
        Stage::Inbound => {
            "SELECT id FROM message WHERE inbound_due IS NOT NULL AND inbound_due <= ? \
             ORDER BY inbound_due, id LIMIT ?"
        }
        Stage::Box => {
            "SELECT id FROM message WHERE box_due IS NOT NULL AND box_due <= ? ORDER BY box_due, id LIMIT ?"
        }
    };
    let ids = ledger::rows(db, sql, (now.0, limit + broken.count()), |row| {
        row.get(0).map(MessageId)
    })?;
    let mut messages = Vec::new();
    for id in broken.without(ids, limit) {
        let sql = "SELECT id, reverse_path, origin, size, body = 3 FROM message WHERE id = ?";
        match ledger::row(db, sql, [id.0], message_in) {
            Err(error) if error.is_damage() => found.not_read(id, error),
            message => messages.extend(message?),
        }
    }
    Ok(messages)
}

/// The message in a row, without its recipients; its ID, if it is damaged.
fn message_in(row: &Row<'_>) -> rusqlite::Result<Result<Waiting, MessageId>> {
    let id = MessageId(row.get(0)?);
    let (Some(reverse_path), Some(origin), Some(size)) =
        (reverse_path_in(row, 1), number_in(row, 2), number_in(row, 3))
    else {
        return Ok(Err(id));
    };
    Ok(Ok(Waiting {
        id,
        reverse_path,
        origin: Origin::from_number(origin),
        size,
        binary: row.get(4)?,
        recipients: Vec::new(),
    }))
}

/// The message with its recipients that wait; its ID, if one of them is damaged.
fn with_recipients(
    db: &Connection,
    mut message: Waiting,
    stage: Stage,
    now: Stamp,
) -> Result<Result<Waiting, QueueError>, MessageId> {
    let (in_box, most) = match stage {
        Stage::Inbound => (0, MOST_AT_ONCE),
        Stage::Box => (1, -1),
    };
    let recipients = ledger::rows(
        db,
        "SELECT n, path, attempts, parent IS NOT NULL, pin FROM recipient \
         WHERE message = ? AND state = 1 AND in_box = ? AND next_attempt <= ? ORDER BY n LIMIT ?",
        (message.id.0, in_box, now.0, most),
        |row| {
            let is_expanded = row.get(3)?;
            let read = (number_in(row, 0), mailbox_in(row, 1), number_in(row, 2));
            let (Some(n), Some(path), Some(attempts)) = read else {
                return Ok(None);
            };
            let Ok(pin) = pin_in(row, 4) else {
                return Ok(None);
            };
            Ok(Some(WaitingRecipient {
                n,
                path,
                attempts,
                is_expanded,
                pin,
            }))
        },
    );
    match recipients.map(|recipients| recipients.into_iter().collect::<Option<Vec<_>>>()) {
        Ok(Some(recipients)) => {
            message.recipients = recipients;
            Ok(Ok(message))
        }
        Ok(None) => Err(message.id),
        Err(error) => Ok(Err(error)),
    }
}

/// Records each of `messages` on its own, after that failed for all of them together. What never can be recorded is held,
/// for it must not be delivered for ever; what may be later stays in `messages`.
fn record_one_by_one(
    messages: &mut Vec<Arc<Converted>>,
    record: impl Fn(&Arc<Converted>) -> Result<usize, QueueError>,
    hold: impl Fn(MessageId) -> Result<(), QueueError>,
) -> Result<usize, QueueError> {
    let (mut told, mut trouble) = (0, None::<QueueError>);
    messages.retain(|message| {
        // None of the others would fare better.
        if trouble.as_ref().is_some_and(QueueError::is_about_all) {
            return true;
        }
        let error = match record(message) {
            Ok(more) => {
                told += more;
                return false;
            }
            Err(error) if error.is_about_all() => error,
            Err(error) => {
                log::error!("id={} what became of it can not be recorded: {error}", message.id);
                // A disk that does not give back a page may do so later, and nobody has to look at the message for that.
                let held = if error.is_unreadable() {
                    Err(error)
                } else {
                    hold(message.id)
                };
                match held {
                    Ok(()) => return false,
                    Err(error) => error,
                }
            }
        };
        let may_be_later = error.is_about_all();
        trouble = Some(error);
        may_be_later
    });
    trouble.map_or(Ok(told), Err)
}

/// What imsgcnv did with one message: how many good ends there are to tell of.
fn converted(ledger: &mut Ledger<'_>, message: &Converted) -> Result<usize, QueueError> {
    let id = message.id;
    let mut to_tell = 0;
    let mut passed_on = 0;
    let mut ended = false;
    let mut present = None;
    let mut held = None;
    let mut ways = Ways::default();
    for (n, delivery) in &message.deliveries {
        match delivery {
            Delivery::Delivered(place) => {
                if end(ledger, id, *n, State::Delivered, None)? {
                    ledger.record(id, Some(*n), "delivered", place)?;
                    ledger.count("Mail.Delivered", 1);
                    to_tell += usize::from(success_due(ledger, id, *n, Success::Delivered, None)?);
                    ended = true;
                }
            }
            Delivery::PassOn => passed_on += pass(ledger, id, *n, false)?,
            Delivery::HandOver(hop) => lead(ledger, &mut ways, (id, *n), false, hop)?,
            Delivery::Expand(targets) => {
                let present = match &mut present {
                    Some(present) => present,
                    none => none.insert(Present::of(ledger, message)?),
                };
                to_tell += usize::from(expand(ledger, id, *n, targets, present)?);
                ended = true;
            }
            Delivery::Later(reason, due) => defer(ledger, id, *n, reason, *due)?,
            Delivery::GiveUp(reason) => {
                give_up(
                    ledger,
                    id,
                    *n,
                    State::PendingConversion,
                    message.null_sender,
                    reason,
                )?;
            }
            Delivery::Hold(reason) => held = put_aside(ledger, id, *n, reason)?.or(held),
        }
    }
    tell_of_held(id, held);
    if passed_on > 0 {
        ledger.record(id, None, "converted", PASSED_ON)?;
        reach(CrashPoint::PassOnWritten);
    }
    ways.record(ledger, id)?;
    write_structure(ledger, id, message.structure.as_ref())?;
    if ended {
        settle_if_done(ledger, id)?;
    }
    Ok(to_tell)
}

/// What omsgcnv did with one message; `file` holds its content, if that is new and large.
fn routed(ledger: &mut Ledger<'_>, message: &Routed, file: Option<&str>) -> Result<(), QueueError> {
    let id = message.id;
    if let Some(content) = &message.content {
        replace_content(ledger, id, content, file)?;
    }
    let mut ways = Ways::default();
    let mut held = None;
    for (n, way) in &message.ways {
        match way {
            Way::Hop(hop) => lead(ledger, &mut ways, (id, *n), true, hop)?,
            Way::Local => {
                if pass(ledger, id, *n, true)? > 0 {
                    let story = "local: passed to the inbound work queue by omsgcnv";
                    ledger.record(id, Some(*n), "converted", story)?;
                }
            }
            Way::Later(reason, due) => defer(ledger, id, *n, reason, *due)?,
            Way::Hold(reason) => held = put_aside(ledger, id, *n, reason)?.or(held),
        }
    }
    tell_of_held(id, held);
    ways.record(ledger, id)?;
    write_structure(ledger, id, message.structure.as_ref())
}

/// Puts a recipient that waits for conversion into the outbound work queue.
fn lead(
    ledger: &Ledger<'_>,
    ways: &mut Ways,
    (id, n): (MessageId, u32),
    in_box: bool,
    hop: &NextHop,
) -> Result<(), QueueError> {
    let (name, now) = (hop.to_string(), ledger.moment());
    let number = now_due(ledger, &name, id, now)?;
    let moved = ledger.run(
        "UPDATE recipient SET state = ?, hop = ?, next_attempt = ?, in_box = 0 \
         WHERE message = ? AND n = ? AND state = 1 AND in_box = ?",
        (State::PendingXmit.number(), number.0, now.0, id.0, n, in_box),
    )?;
    if moved == 0 {
        // Its time was over meanwhile, or it was put aside.
        return refresh_due(ledger, number, Change::Gone(1));
    }
    ways.tell(&name);
    Ok(())
}

/// The next hops of a message, as history tells of them.
#[derive(Debug, Default)]
pub(super) struct Ways {
    story: String,
}

impl Ways {
    /// Leads a recipient of message `id` to `hop`, and is about to tell of it: the number of that next hop.
    pub(super) fn lead(
        &mut self,
        ledger: &Ledger<'_>,
        id: MessageId,
        hop: &NextHop,
        now: Stamp,
    ) -> Result<HopId, QueueError> {
        let name = hop.to_string();
        let number = now_due(ledger, &name, id, now)?;
        self.tell(&name);
        Ok(number)
    }

    /// Them, if there are any.
    pub(super) fn story(&self) -> Option<&str> {
        (!self.story.is_empty()).then_some(self.story.as_str())
    }

    fn tell(&mut self, name: &str) {
        if self.story.len() < MOST_TOLD && !self.story.split(", ").any(|told| told == name) {
            self.story.push_str(if self.story.is_empty() { "" } else { ", " });
            self.story.push_str(name);
        }
    }

    /// Tells of them, if there are any.
    fn record(&self, ledger: &Ledger<'_>, id: MessageId) -> Result<(), QueueError> {
        self.story().map_or(Ok(()), |story| {
            ledger.record(id, None, "routed", story).map(|_| ())
        })
    }
}

/// Passes a recipient from one of the two queues that wait for conversion to the other.
fn pass(ledger: &Ledger<'_>, id: MessageId, n: u32, in_box: bool) -> Result<usize, QueueError> {
    ledger.run(
        "UPDATE recipient SET in_box = NOT ?1, next_attempt = 0 \
         WHERE message = ?2 AND n = ?3 AND state = 1 AND in_box = ?1",
        (in_box, id.0, n),
    )
}

/// Its conversion is to be tried again.
fn defer(
    ledger: &mut Ledger<'_>,
    id: MessageId,
    n: u32,
    reason: &Reason,
    due: Stamp,
) -> Result<(), QueueError> {
    let deferred = ledger.run(
        "UPDATE recipient SET attempts = attempts + 1, last_status = ?, last_error = ?, next_attempt = ?, \
         attempted_at = ? WHERE message = ? AND n = ? AND state = 1",
        (
            reason.status.to_string(),
            &reason.text,
            due.0,
            ledger.now().0,
            id.0,
            n,
        ),
    )?;
    if deferred > 0 {
        ledger.record(id, Some(n), "deferred", &reason.text)?;
    }
    Ok(())
}

/// Holds a recipient; gives the reason, if there was anything to hold.
pub(super) fn put_aside<'r>(
    ledger: &Ledger<'_>,
    id: MessageId,
    n: u32,
    reason: &'r Reason,
) -> Result<Option<&'r Reason>, QueueError> {
    if !end(ledger, id, n, State::Held, Some(reason))? {
        return Ok(None);
    }
    ledger.record(id, Some(n), "held", &reason.text)?;
    Ok(Some(reason))
}

/// Tells once of a message of which something is held, however many recipients that are.
pub(super) fn tell_of_held(id: MessageId, reason: Option<&Reason>) {
    if let Some(reason) = reason {
        log::error!("id={id} held: {}", reason.text);
    }
}

/// Works out anew for which conversion a message waits, and until when.
pub(super) fn refresh_conversion_due(ledger: &Ledger<'_>, id: MessageId) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE message SET \
         inbound_due = (SELECT min(next_attempt) FROM recipient WHERE message = ?1 AND state = 1 AND in_box = 0), \
         box_due = (SELECT min(next_attempt) FROM recipient WHERE message = ?1 AND state = 1 AND in_box = 1) \
         WHERE id = ?1",
        [id.0],
    )?;
    Ok(())
}

/// The same, and what was read in the content, if it was: one change of the row instead of two.
fn write_structure(
    ledger: &Ledger<'_>,
    id: MessageId,
    structure: Option<&Structure>,
) -> Result<(), QueueError> {
    let Some(structure) = structure else {
        return refresh_conversion_due(ledger, id);
    };
    ledger.run(
        "UPDATE message SET subject = ?2, header_from = ?3, header_to = ?4, message_id = ?5, date = ?6, \
         attachments = ?7, hops = ?8, utf8_header = ?9, \
         inbound_due = (SELECT min(next_attempt) FROM recipient WHERE message = ?1 AND state = 1 AND in_box = 0), \
         box_due = (SELECT min(next_attempt) FROM recipient WHERE message = ?1 AND state = 1 AND in_box = 1) \
         WHERE id = ?1",
        (
            id.0,
            &structure.subject,
            &structure.from,
            &structure.to,
            &structure.message_id,
            &structure.date,
            structure.attachments.join("\n"),
            structure.hops,
            structure.utf8_header,
        ),
    )?;
    Ok(())
}

fn replace_content(
    ledger: &mut Ledger<'_>,
    id: MessageId,
    content: &Content,
    file: Option<&str>,
) -> Result<(), QueueError> {
    let old: Option<Option<String>> = ledger.row(
        "SELECT file FROM message WHERE id = ? AND left_at IS NULL",
        [id.0],
        |row| row.get(0),
    )?;
    let Some(old) = old else {
        // It has left meanwhile, and nobody would ever remove this.
        ledger.discard(file.map(str::to_owned));
        return Ok(());
    };
    ledger.discard(old);
    ledger.run(
        "UPDATE message SET size = ?, file = ?, eight_bit = ? WHERE id = ?",
        (content.size, file, content.eight_bit, id.0),
    )?;
    match &content.home {
        Home::Database(bytes) => ledger.run(
            "INSERT OR REPLACE INTO content (message, bytes) VALUES (?, ?)",
            (id.0, bytes),
        )?,
        Home::File(_) => ledger.run("DELETE FROM content WHERE message = ?", [id.0])?,
    };
    Ok(())
}

/// Moves a recipient that waits for conversion to `state`; whether it was there to be moved.
pub(super) fn end(
    ledger: &Ledger<'_>,
    id: MessageId,
    n: u32,
    state: State,
    reason: Option<&Reason>,
) -> Result<bool, QueueError> {
    debug_assert!(State::PendingConversion.may_become(state));
    let changed = ledger.run(
        "UPDATE recipient SET state = ?, settled_at = ?, last_status = ifnull(?, last_status), \
         last_error = ifnull(?, last_error) WHERE message = ? AND n = ? AND state = 1",
        (
            state.number(),
            ledger.now().0,
            reason.map(|r| r.status.to_string()),
            reason.map(|r| r.text.as_str()),
            id.0,
            n,
        ),
    )?;
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn failed(code: i32) -> QueueError {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()
    }

    /// What is left of messages 1 to 4, which of them were held, and whether that went well, if `fails` says why one of
    /// them can not be recorded, and `can_hold` whether it can be held.
    fn left(fails: impl Fn(i64) -> Option<i32>, can_hold: bool) -> (Vec<i64>, Vec<i64>, Result<usize, i32>) {
        let message = |id| {
            Arc::new(Converted {
                id: MessageId(id),
                null_sender: false,
                structure: None,
                deliveries: Vec::new(),
            })
        };
        let mut messages: Vec<_> = (1..=4).map(message).collect();
        let held = std::cell::RefCell::new(Vec::new());
        let told = record_one_by_one(
            &mut messages,
            |message| fails(message.id.0).map_or(Ok(1), |code| Err(failed(code))),
            |id| {
                held.borrow_mut().push(id.0);
                can_hold.then_some(()).ok_or_else(|| failed(ffi::SQLITE_CORRUPT))
            },
        );
        let code = |error: QueueError| match error {
            QueueError::Database(error) => error.sqlite_extended_error_code().unwrap_or(0),
            _ => 0,
        };
        (
            messages.iter().map(|message| message.id.0).collect(),
            held.into_inner(),
            told.map_err(code),
        )
    }

    #[test]
    fn what_is_recorded_on_its_own_is_not_recorded_again_nor_is_what_never_can_be() {
        let second = |code: i32| move |id: i64| (id == 2).then_some(code);
        for odd in [
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_CONSTRAINT_TRIGGER,
            ffi::SQLITE_MISMATCH,
            ffi::SQLITE_ERROR,
        ] {
            assert_eq!(left(second(odd), true), (vec![], vec![2], Ok(3)), "{odd}");
            let in_vain = (vec![], vec![2], Err(ffi::SQLITE_CORRUPT));
            assert_eq!(left(second(odd), false), in_vain, "{odd}");
        }
        // One page of the disk: the message is well, and nobody waits for it.
        let unreadable = ffi::SQLITE_IOERR_READ;
        let waits = (vec![], vec![], Err(unreadable));
        assert_eq!(left(second(unreadable), true), waits);
        // What is about all stays to be recorded, with what comes behind it.
        for passes in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_READONLY,
        ] {
            let stays = (vec![2, 3, 4], vec![], Err(passes));
            assert_eq!(left(second(passes), true), stays, "{passes}");
        }
        assert_eq!(left(|_| None, true), (vec![], vec![], Ok(4)));
    }
}
