//! The outbound work queue as Domain List Processing sees it: what is pending becomes lists, a list is
//! locked when a handler gets it, and what is left of it goes back.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use rusqlite::Connection;

use super::WorkQueue;
use super::damage::{hold, mailbox_in, number_in, reverse_path_in, sift, text_in, word_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::mending::mend;
use super::moves::{Change, now_due, refresh_due};
use super::states::State;
use super::writer::Durability;
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::gather::{Gather, MOST_RECIPIENTS};
use crate::domain_list::list::{DomainList, HopId, ListId, ListedMessage, ListedRecipient};
use crate::domain_list::next_hop::NextHop;
use crate::domain_list::pace::Tokens;
use crate::smtp::dsn::Notify;
use crate::smtp::path::Mailbox;

/// Lists come and go without a sync: after a crash each of them is taken apart anyway, and its messages are pending
/// again whether the disk knows of the list or not.
const MOVE: Durability = Durability::Unsynced;

/// A list of so few recipients is read as it is made: who has it in hand can begin at once. Of a longer one the writer
/// has no time to read.
const READ_AT_ONCE: usize = 4;

/// How often it is tried to make lists in one pass, where pages of the database are broken.
const MOST_CLAIMS: usize = 100;

/// In so many next hops all messages on broken pages are looked for at once.
const MOST_HOPS_AT_ONCE: usize = 100;

/// What one pass of Domain List Processing may do.
#[derive(Clone)]
pub struct Claim {
    /// Handlers that are reserved for the lists of this pass, in this order.
    pub handlers: Vec<usize>,
    /// Handlers that still have a connection to these next hops, and nothing in hand.
    pub lingering: HashMap<HopId, usize>,
    /// How many lists may be made beyond those, to wait for a handler.
    pub waiting_room: usize,
    /// Next hops that have a list waiting already: their mail stays pending until it has gone.
    pub waiting: HashSet<HopId>,
    /// How many lists of a next hop are in the hands of handlers.
    pub busy: HashMap<HopId, usize>,
    /// At most so many of them together.
    pub per_next_hop: usize,
    /// At most so many of these next hops together, as they have taught us.
    pub limits: HashMap<HopId, usize>,
    /// So many of the handlers may go to next hops that are silent; the rest is for the others.
    pub spare: usize,
    /// Next hops with several sessions and no answer yet.
    pub silent: HashSet<HopId>,
    /// Next hops whose mail has gathered for long enough to be frozen into a list that waits.
    pub ripe: HashSet<HopId>,
    /// How lists are made.
    pub terms: Terms,
}

/// How lists are made.
#[derive(Clone)]
pub struct Terms {
    /// At most so many messages on a list.
    pub list_messages: usize,
    /// How many messages may go to a next hop now. The tokens of a list that could not be recorded after all are lost.
    pub tokens: Arc<dyn Tokens>,
    /// The next hop of a recipient, as the configuration says now: nothing about the way is frozen.
    pub router: Arc<dyn Fn(&Mailbox) -> NextHop + Send + Sync>,
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Terms({} messages)", self.list_messages)
    }
}

/// What one pass of Domain List Processing did.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The lists that it made.
    pub lists: Vec<DomainList>,
    /// Those of them whose handler lingers.
    pub to_lingering: Vec<ListId>,
    /// Recipients that it found to go to another next hop now.
    pub rerouted: usize,
    /// Next hops whose mail is due and was not listed: it gathers.
    pub gathering: Vec<HopId>,
}

/// Next hops whose mail is noticed to gather at most: the others are looked at when these have moved on.
const MOST_GATHERING: usize = 100;

/// Recipients that one pass moves at most, and a list more: it is one short transaction.
const RECIPIENTS_A_PASS: usize = 5000;

impl WorkQueue {
    /// One pass of Domain List Processing: gives each next hop that is due at most one list. Empty when
    /// there is nothing to do, or no room.
    ///
    /// # Errors
    /// When the database refused: everything is pending as before.
    pub fn claim(&self, claim: Claim) -> Result<Claimed, QueueError> {
        let (now, mut claim) = (self.now(), Arc::new(claim));
        let mut is_sifted = false;
        for _ in 0..MOST_CLAIMS {
            let this = Arc::clone(&claim);
            let make = move |ledger: &mut Ledger<'_>| make_lists(ledger, &this, now);
            match self.store.write_as(MOVE, make).wait() {
                Err(error) if error.is_damage() => {}
                made => return made,
            }
            // The others can be listed without those that stand on the page that is broken …
            let most = claim.terms.list_messages;
            if !is_sifted
                && self.pass_over_due(now, most, MOST_HOPS_AT_ONCE, |db, ids| {
                    sift(db, ids).map(|(_, broken)| broken)
                })?
            {
                continue;
            }
            is_sifted = true;
            // … or beside it, where there is no room left: fewer at a time, down to the one that comes first.
            if most > 1 {
                let mut fewer = (*claim).clone();
                fewer.terms.list_messages = most / 2;
                claim = Arc::new(fewer);
            } else if !self.pass_over_due(now, 1, usize::MAX, |_, ids| Ok(ids))? {
                break;
            }
        }
        let make = move |ledger: &mut Ledger<'_>| make_lists(ledger, &claim, now);
        self.store.write_as(MOVE, make).wait()
    }

    /// Passes over those messages that `choose` names of the first `most` that are due for each next hop; whether there
    /// are any. Behind so many next hops, `enough`, it looks on only until there are.
    fn pass_over_due(
        &self,
        now: Stamp,
        most: usize,
        enough: usize,
        choose: impl Fn(&Connection, Vec<MessageId>) -> Result<Vec<MessageId>, QueueError>,
    ) -> Result<bool, QueueError> {
        let broken = self.store.broken();
        let chosen = self.store.read(|db| {
            let sql = "SELECT id FROM next_hop WHERE due IS NOT NULL AND due <= ? ORDER BY due, used_at";
            let hops: Vec<i64> = ledger::rows(db, sql, [now.0], |row| row.get(0))?;
            let mut chosen = Vec::new();
            for (looked_at, hop) in hops.into_iter().enumerate() {
                // Without those that were found the pass may come to its end.
                if looked_at >= enough && !chosen.is_empty() {
                    break;
                }
                // The index alone is read.
                let sql = "SELECT message FROM recipient \
                     WHERE hop = ? AND state = 2 AND list IS NULL AND next_attempt <= ? \
                     ORDER BY next_attempt, message, n LIMIT ?";
                let rows = (hop, now.0, most + broken.count());
                let mut ids = ledger::rows(db, sql, rows, |row| row.get(0).map(MessageId))?;
                ids.dedup();
                chosen.extend(choose(db, broken.without(ids, most))?);
            }
            Ok(chosen)
        })?;
        let any = !chosen.is_empty();
        self.pass_over(chosen);
        Ok(any)
    }

    /// A list of what is due for `hop`, for handler `handler`, which has just carried another one there; `None` when
    /// there is nothing.
    ///
    /// # Errors
    /// When the database refused: everything is pending as before.
    pub fn claim_more(
        &self,
        hop: HopId,
        next_hop: &NextHop,
        handler: usize,
        terms: &Terms,
    ) -> Result<Option<DomainList>, QueueError> {
        let (now, terms) = (self.now(), terms.clone());
        let chosen = Chosen {
            hop,
            next_hop: next_hop.clone(),
            handler: Some(handler),
            lingers: false,
            failures: 0,
        };
        let make = move |ledger: &mut Ledger<'_>| make_list(ledger, &terms, now, &chosen);
        self.store.write_as(MOVE, make).wait().map(|(list, _)| list)
    }

    /// Gives a list that waited to handler `handler`: from this commit on its rows are locked. A list that stands on a
    /// page that is broken is taken apart instead; whether it was given.
    ///
    /// # Errors
    /// When the database refused: the list waits as before.
    pub fn lock_list(&self, list: ListId, handler: usize) -> Result<bool, QueueError> {
        let lock = move |ledger: &mut Ledger<'_>| lock_list(ledger, list, handler);
        match self.store.write_as(MOVE, lock).wait() {
            Err(error) if error.is_damage() => {
                log::error!("list={list} can not be given to a handler, and is taken apart: {error}");
                self.end_list(list)?;
                Ok(false)
            }
            locked => {
                locked?;
                reach(CrashPoint::LockCommitted);
                Ok(true)
            }
        }
    }

    /// The messages of a list that are not settled yet, in their order.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn list_messages(&self, list: ListId) -> Result<Vec<ListedMessage>, QueueError> {
        let Listed { messages, damaged } = match self.store.read(|db| listed(db, list)) {
            Err(error) if error.is_damage() => {
                self.release_unreadable(list)?;
                self.store.read(|db| listed(db, list))?
            }
            found => found?,
        };
        self.hold_damaged(damaged)?;
        Ok(messages)
    }

    /// Takes off a list what can not be read.
    fn release_unreadable(&self, list: ListId) -> Result<(), QueueError> {
        let (_, unreadable) = self.store.read(|db| sift(db, messages_of(db, list)?))?;
        for id in &unreadable {
            self.release_damaged(list, *id, "released")?;
        }
        self.pass_over(unreadable);
        Ok(())
    }

    /// Lets a message go back from a list; one of which that can not be recorded is put aside.
    fn release_damaged(&self, list: ListId, id: MessageId, what: &'static str) -> Result<(), QueueError> {
        let release = move |ledger: &mut Ledger<'_>| release(ledger, list, id, what, "ended before its turn");
        match self.store.write_as(MOVE, release).wait() {
            Err(error) if error.is_damage() => self.put_aside_unrecorded(id, error),
            released => released,
        }
    }

    /// Takes a list apart: what is not settled goes back to pending, as it was.
    ///
    /// # Errors
    /// When the database refused; the next start finds the list and does it then.
    pub fn end_list(&self, list: ListId) -> Result<(), QueueError> {
        let ended = self
            .store
            .write_as(MOVE, move |ledger| {
                end_list(ledger, list, "released")?;
                reach(CrashPoint::ListEndWritten);
                Ok(())
            })
            .wait();
        match ended {
            Err(error) if error.is_damage() => self.end_damaged_list(list, "released")?,
            ended => ended?,
        }
        reach(CrashPoint::ListEndCommitted);
        Ok(())
    }

    /// The same, message by message: the page of one is broken, and that one is put aside.
    fn end_damaged_list(&self, list: ListId, what: &'static str) -> Result<(), QueueError> {
        for id in self.store.read(|db| messages_of(db, list))? {
            self.release_damaged(list, id, what)?;
        }
        let forget = move |ledger: &mut Ledger<'_>| {
            ledger
                .run("DELETE FROM domain_list WHERE id = ?", [list.0])
                .map(drop)
        };
        self.store.write_as(MOVE, forget).wait()
    }

    /// All lists that there are.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn lists(&self) -> Result<Vec<ListId>, QueueError> {
        self.store
            .read(|db| ledger::rows(db, "SELECT id FROM domain_list", [], |row| row.get(0).map(ListId)))
    }

    /// The lists that handlers have.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn lists_in_hand(&self) -> Result<Vec<ListId>, QueueError> {
        self.store.read(|db| {
            let sql = "SELECT id FROM domain_list WHERE handler IS NOT NULL";
            ledger::rows(db, sql, [], |row| row.get(0).map(ListId))
        })
    }

    /// Puts the recipients of message `id` on this list aside, for an operator to look at.
    ///
    /// # Errors
    /// When the database refused: nothing has changed.
    pub fn hold_listed(&self, list: ListId, id: MessageId, reason: &str) -> Result<(), QueueError> {
        let reason = reason.to_owned();
        self.store
            .write(move |ledger| {
                debug_assert!(State::LockedForXmit.may_become(State::Held));
                let held = ledger.run(
                    "UPDATE recipient SET state = 5, list = NULL, last_status = '5.3.0', last_error = ? \
                     WHERE message = ? AND list = ? AND state = 3",
                    (&reason, id.0, list.0),
                )?;
                if held > 0 {
                    log::error!("id={id} held: {reason}");
                    ledger.record(id, None, "held", &reason)?;
                }
                reach(CrashPoint::ListedHoldWritten);
                Ok(())
            })
            .wait()
            .inspect(|()| reach(CrashPoint::ListedHoldCommitted))
    }

    /// When the next recipient falls due after `after`, of those that are on no list.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn next_due(&self, after: Stamp) -> Result<Option<Stamp>, QueueError> {
        self.store.read(|db| {
            let sql = "SELECT due FROM next_hop WHERE due IS NOT NULL AND due > ? ORDER BY due LIMIT 1";
            ledger::row(db, sql, [after.0], |row| row.get(0).map(Stamp))
        })
    }

    /// After a crash: every list is taken apart (promise 3).
    pub(super) fn recover(&self) -> Result<(), QueueError> {
        let lists = Arc::new(self.lists()?);
        let found = lists.len();
        let all = Arc::clone(&lists);
        let take_apart = move |ledger: &mut Ledger<'_>| {
            all.iter()
                .try_for_each(|list| end_list(ledger, *list, "recovered"))?;
            reach(CrashPoint::RecoveryWritten);
            Ok(())
        };
        match self.store.write(take_apart).wait() {
            Err(error) if error.is_damage() => lists
                .iter()
                .try_for_each(|list| self.end_damaged_list(*list, "recovered"))?,
            recovered => recovered?,
        }
        reach(CrashPoint::RecoveryCommitted);
        if found > 0 {
            log::warn!(
                "{found} domain lists were in hand when the MTA stopped: their messages are pending again"
            );
        }
        Ok(())
    }
}

/// One pass of Domain List Processing.
pub(super) fn make_lists(ledger: &mut Ledger<'_>, claim: &Claim, now: Stamp) -> Result<Claimed, QueueError> {
    let mut claimed = Claimed::default();
    let mut recipients = 0;
    let (chosen, gathering) = choose(ledger, claim, now)?;
    claimed.gathering = gathering;
    for chosen in chosen {
        let (list, rerouted) = make_list(ledger, &claim.terms, now, &chosen)?;
        claimed.rerouted += rerouted;
        recipients += rerouted + list.as_ref().map_or(0, |list| list.recipients);
        if chosen.lingers {
            claimed.to_lingering.extend(list.as_ref().map(|list| list.id));
        }
        claimed.lists.extend(list);
        if recipients >= RECIPIENTS_A_PASS {
            break;
        }
    }
    Ok(claimed)
}

/// A next hop that gets a list in this pass.
struct Chosen {
    hop: HopId,
    next_hop: NextHop,
    handler: Option<usize>,
    /// That handler lingers.
    lingers: bool,
    /// How often in a row it has not answered. Above 0 its list is a probe: one message, that which is due longest.
    failures: u32,
}

/// The next hops that get a list, those that are due longest first, and those whose mail gathers instead. Those
/// that have enough in hand, or back off and have their probe under way, do not keep the others from being looked
/// at.
fn choose(ledger: &Ledger<'_>, claim: &Claim, now: Stamp) -> Result<(Vec<Chosen>, Vec<HopId>), QueueError> {
    let mut handlers = claim.handlers.iter().copied().peekable();
    let (mut waiting_room, mut spare) = (claim.waiting_room, claim.spare);
    let (mut chosen, mut gathering) = (Vec::new(), Vec::new());
    let mut statement = ledger.db().prepare_cached(
        "SELECT id, name, failures, \
           failures > 0 AND EXISTS (SELECT 1 FROM domain_list l WHERE l.hop = next_hop.id) \
         FROM next_hop WHERE due IS NOT NULL AND due <= ? ORDER BY due, used_at",
    )?;
    let mut rows = statement.query([now.0])?;
    while let Some(row) = rows.next()? {
        if gathering.len() >= MOST_GATHERING {
            break;
        }
        let (hop, is_probed) = (HopId(row.get(0)?), row.get(3)?);
        let failures = number_in(row, 2).unwrap_or(0);
        if claim.waiting.contains(&hop) || is_probed {
            continue;
        }
        // A name that is none is that of no recipient: what waits for it goes where it should.
        let next_hop = NextHop::from_name(&text_in(row, 1).unwrap_or_default());
        let most = claim
            .terms
            .tokens
            .free(hop, &next_hop)
            .min(claim.terms.list_messages);
        if most == 0 {
            continue;
        }
        // Where that can not be read it may have: a list will tell.
        let may_be_listed = match has_sound(ledger, hop, now) {
            Err(error) if error.is_damage() => true,
            sound => sound?,
        };
        if !may_be_listed {
            continue;
        }
        let lingering = claim.lingering.get(&hop).copied();
        if lingering.is_none() && handlers.peek().is_none() && waiting_room == 0 {
            gathering.push(hop);
            continue;
        }
        let busy = claim.busy.get(&hop).copied().unwrap_or(0);
        let first = lingering.is_some() || (busy == 0 && handlers.peek().is_some());
        if !first && !claim.ripe.contains(&hop) && !fills_a_list(ledger, most, hop, now)? {
            gathering.push(hop);
            continue;
        }
        let limit = claim.limits.get(&hop).copied().unwrap_or(usize::MAX);
        let may_go = busy < claim.per_next_hop.min(limit) && (spare > 0 || !claim.silent.contains(&hop));
        let fresh = if may_go && lingering.is_none() {
            handlers.next()
        } else {
            None
        };
        spare = spare.saturating_sub(usize::from(fresh.is_some()));
        let handler = lingering.or(fresh);
        if handler.is_none() {
            if waiting_room == 0 {
                gathering.push(hop);
                continue;
            }
            waiting_room -= 1;
        }
        chosen.push(Chosen {
            hop,
            next_hop,
            handler,
            lingers: lingering.is_some(),
            failures,
        });
    }
    Ok((chosen, gathering))
}

/// Whether some of what is due for a next hop is not passed over; or nothing is due after all, which is to be noted. The
/// index alone is read.
fn has_sound(ledger: &Ledger<'_>, hop: HopId, now: Stamp) -> Result<bool, QueueError> {
    let broken = ledger.broken();
    if broken.count() == 0 {
        return Ok(true);
    }
    let mut statement = ledger.db().prepare_cached(
        "SELECT message FROM recipient \
         WHERE hop = ? AND state = 2 AND list IS NULL AND next_attempt <= ? ORDER BY next_attempt, message, n",
    )?;
    let mut due = statement.query((hop.0, now.0))?;
    let mut is_nothing_due = true;
    while let Some(row) = due.next()? {
        if !broken.holds(MessageId(row.get(0)?)) {
            return Ok(true);
        }
        is_nothing_due = false;
    }
    Ok(is_nothing_due)
}

/// When the first next hop falls due, but for those of which all is passed over.
pub(super) fn first_due(ledger: &Ledger<'_>, now: Stamp) -> Result<Option<Stamp>, QueueError> {
    let mut statement = ledger
        .db()
        .prepare_cached("SELECT id, due FROM next_hop WHERE due IS NOT NULL ORDER BY due")?;
    let mut hops = statement.query([])?;
    while let Some(row) = hops.next()? {
        let due = Stamp(row.get(1)?);
        if has_sound(ledger, HopId(row.get(0)?), due.max(now))? {
            return Ok(Some(due));
        }
    }
    Ok(None)
}

/// Whether what is due for a next hop is enough for a list of `most` messages: then there is nothing to gather for.
fn fills_a_list(ledger: &Ledger<'_>, most: usize, hop: HopId, now: Stamp) -> Result<bool, QueueError> {
    let due: Option<usize> = ledger.row(
        "SELECT count(*) FROM (SELECT 1 FROM recipient \
         WHERE hop = ? AND state = 2 AND list IS NULL AND next_attempt <= ? LIMIT ?)",
        (hop.0, now.0, most),
        |row| row.get(0),
    )?;
    Ok(due.unwrap_or(0) >= most)
}

/// The list of a next hop, if there is anything for it; and how many recipients turned out to go elsewhere now.
fn make_list(
    ledger: &mut Ledger<'_>,
    terms: &Terms,
    now: Stamp,
    chosen: &Chosen,
) -> Result<(Option<DomainList>, usize), QueueError> {
    let Chosen {
        hop,
        ref next_hop,
        handler,
        failures,
        lingers: _,
    } = *chosen;
    let most = if failures > 0 { 1 } else { terms.list_messages };
    let most = most.min(terms.tokens.free(hop, next_hop));
    if most == 0 {
        return Ok((None, 0));
    }
    let (gather, strayed) = loop {
        let Gathered {
            gather,
            strayed,
            mut damaged,
        } = gather_due(ledger, (terms, now), chosen, most)?;
        damaged.dedup();
        let mut held = 0;
        for id in damaged {
            held += hold(ledger, id)?;
        }
        // Other recipients of the same messages were held with them.
        if held == 0 {
            break (gather, strayed);
        }
    };
    let rerouted = strayed.len();
    for (id, n, goes_to) in strayed {
        let name = goes_to.to_string();
        let other = now_due(ledger, &name, id, now)?;
        ledger.run(
            "UPDATE recipient SET hop = ?, next_attempt = ? WHERE message = ? AND n = ?",
            (other.0, now.0, id.0, n),
        )?;
        ledger.record(id, Some(n), "rerouted", &name)?;
    }
    let list = if gather.recipients().is_empty() {
        None
    } else {
        terms.tokens.take(hop, next_hop, gather.messages());
        let made = DomainList {
            id: ListId(0),
            hop,
            next_hop: next_hop.clone(),
            messages: gather.messages(),
            recipients: gather.recipients().len(),
            handler,
            contents: None,
        };
        Some(write_list(ledger, made, gather.recipients(), failures)?)
    };
    ledger.run(
        "UPDATE next_hop SET used_at = ? WHERE id = ?",
        (ledger.now().0, hop.0),
    )?;
    let listed = list.as_ref().map_or(0, |list| list.recipients);
    refresh_due(ledger, hop, Change::Gone(listed + rerouted))?;
    Ok((list, rerouted))
}

/// What is due for a next hop, as far as it is looked at in one go.
struct Gathered {
    /// What a list of it holds.
    gather: Gather<MessageId>,
    /// What goes elsewhere now, and where.
    strayed: Vec<(MessageId, u32, NextHop)>,
    /// Messages of which something can not be read.
    damaged: Vec<MessageId>,
}

/// Looks at what is due for a next hop, until there are `most` messages of it.
fn gather_due(
    ledger: &Ledger<'_>,
    (terms, now): (&Terms, Stamp),
    chosen: &Chosen,
    most: usize,
) -> Result<Gathered, QueueError> {
    let mut due = Gathered {
        gather: Gather::new(most),
        strayed: Vec::new(),
        damaged: Vec::new(),
    };
    // Where pages are broken only those rows are looked at that stand elsewhere.
    let is_sound = ledger.broken().count() == 0;
    let mut statement = ledger.db().prepare_cached(match is_sound {
        true => {
            "SELECT message, n, path FROM recipient \
             WHERE hop = ? AND state = 2 AND list IS NULL AND next_attempt <= ? ORDER BY next_attempt, message, n"
        }
        false => {
            "SELECT message, n FROM recipient \
             WHERE hop = ? AND state = 2 AND list IS NULL AND next_attempt <= ? ORDER BY next_attempt, message, n"
        }
    })?;
    let mut rows = statement.query((chosen.hop.0, now.0))?;
    while let Some(row) = rows.next()? {
        let id = MessageId(row.get(0)?);
        if !is_sound && ledger.broken().holds(id) {
            continue;
        }
        let path = match is_sound {
            true => mailbox_in(row, 2),
            false => path_of(ledger, id, row.get(1)?)?,
        };
        let (Some(n), Some(path)) = (number_in::<u32>(row, 1), path) else {
            due.damaged.push(id);
            if due.damaged.len() >= MOST_RECIPIENTS {
                break;
            }
            continue;
        };
        let goes_to = (terms.router)(&path);
        if goes_to != chosen.next_hop {
            due.strayed.push((id, n, goes_to));
        } else if !due.gather.take(id, n) {
            break;
        }
        if due.strayed.len() >= MOST_RECIPIENTS {
            break;
        }
    }
    Ok(due)
}

/// The path of a recipient; `None` where it is none.
fn path_of(ledger: &Ledger<'_>, id: MessageId, n: i64) -> Result<Option<Mailbox>, QueueError> {
    let sql = "SELECT path FROM recipient WHERE message = ? AND n = ?";
    let path = ledger.row(sql, (id.0, n), |row| Ok(mailbox_in(row, 0)))?;
    Ok(path.flatten())
}

/// The messages on a list. The index alone is read.
fn messages_of(db: &Connection, list: ListId) -> Result<Vec<MessageId>, QueueError> {
    let sql = "SELECT DISTINCT message FROM recipient WHERE list = ?";
    ledger::rows(db, sql, [list.0], |row| row.get(0).map(MessageId))
}

/// What a list holds.
struct Listed {
    messages: Vec<ListedMessage>,
    /// Messages of which something cannot be read.
    damaged: Vec<MessageId>,
}

/// What `list` holds that is not settled yet, in its order.
fn listed(db: &Connection, list: ListId) -> Result<Listed, QueueError> {
    let rows = ledger::rows(
        db,
        "SELECT r.message, r.n, r.path, m.reverse_path, m.size, m.eight_bit, m.body = 3, \
           m.utf8 AND m.utf8_header, m.envid, m.ret, p.path, r.notify, r.orcpt \
         FROM recipient r LEFT JOIN message m ON m.id = r.message \
           LEFT JOIN recipient p ON p.message = r.message AND p.n = r.parent \
         WHERE r.list = ? AND r.state = 3 ORDER BY r.message, r.n",
        [list.0],
        |row| {
            let id = MessageId(row.get(0)?);
            let (Some(path), Some(reverse_path)) = (mailbox_in(row, 2), reverse_path_in(row, 3)) else {
                return Ok(Err(id));
            };
            let (Some(n), Some(size)) = (number_in(row, 1), number_in(row, 4)) else {
                return Ok(Err(id));
            };
            let recipient = ListedRecipient {
                n,
                path,
                expanded_from: mailbox_in(row, 10),
                notify: number_in::<u8>(row, 11).map(Notify::from_bits),
                original: word_in(row, 12),
            };
            Ok(Ok(ListedMessage {
                id,
                reverse_path,
                size,
                eight_bit: row.get(5)?,
                binary: row.get(6)?,
                utf8_header: row.get(7)?,
                envelope_id: word_in(row, 8),
                ret: word_in(row, 9),
                recipients: vec![recipient],
            }))
        },
    )?;
    let damaged: Vec<MessageId> = rows
        .iter()
        .filter_map(|row| row.as_ref().err())
        .copied()
        .collect();
    let whole = rows.into_iter().flatten();
    let mut messages: Vec<ListedMessage> = Vec::new();
    for row in whole.filter(|row| !damaged.contains(&row.id)) {
        match messages.last_mut() {
            Some(message) if message.id == row.id => message.recipients.extend(row.recipients),
            _ => messages.push(row),
        }
    }
    Ok(Listed { messages, damaged })
}

fn write_list(
    ledger: &mut Ledger<'_>,
    mut list: DomainList,
    recipients: &[(MessageId, u32)],
    failures: u32,
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
    let fate = match list.handler {
        Some(handler) => format!("given to oseshlr{handler}"),
        None => "which waits for a handler".to_owned(),
    };
    let probe = match failures {
        0 => String::new(),
        1 => "the probe after a failure, ".to_owned(),
        many => format!("the probe after {many} failures in a row, "),
    };
    let story = format!("list {} for {}, {probe}{fate}", list.id, list.next_hop);
    let mut told = HashSet::new();
    for (id, n) in recipients {
        ledger.run(
            "UPDATE recipient SET list = ?, state = ? WHERE message = ? AND n = ?",
            (list.id.0, state.number(), id.0, n),
        )?;
        if told.insert(*id) {
            ledger.record(*id, None, "listed", &story)?;
        }
    }
    ledger.count("SMTP.Lists", 1);
    reach(CrashPoint::ListWritten);
    if list.handler.is_some() && recipients.len() <= READ_AT_ONCE {
        // The pages are at hand here; the handler would have to fetch them.
        let Listed { messages, damaged } = listed(ledger.db(), list.id)?;
        list.contents = damaged.is_empty().then_some(messages);
    }
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
    reach(CrashPoint::LockWritten);
    Ok(())
}

/// Lets what is left of message `id` on a list go back, as it was; `why` is said of the list.
pub(super) fn release(
    ledger: &mut Ledger<'_>,
    list: ListId,
    id: MessageId,
    what: &'static str,
    why: &str,
) -> Result<(), QueueError> {
    let hop = ledger.row("SELECT hop FROM domain_list WHERE id = ?", [list.0], |row| {
        row.get(0).map(HopId)
    })?;
    let left = ledger.run(
        "UPDATE recipient SET state = 2, list = NULL, next_attempt = min(next_attempt, ?) \
         WHERE message = ? AND +list = ? AND state IN (2, 3)",
        (ledger.moment().0, id.0, list.0),
    )?;
    ledger.record(id, None, what, &format!("list {list} {why}"))?;
    match hop {
        Some(hop) => refresh_due(ledger, hop, Change::More(left, id)),
        None => Ok(()),
    }
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
    let left = ledger.run(
        "UPDATE recipient SET state = 2, list = NULL, next_attempt = min(next_attempt, ?) \
         WHERE list = ? AND state IN (2, 3)",
        (ledger.moment().0, list.0),
    )?;
    // All on a list was due when it was made; with the clock set back since then it is still.
    for id in &messages {
        ledger.record(*id, None, what, &format!("list {list} ended before its turn"))?;
    }
    ledger.run("DELETE FROM domain_list WHERE id = ?", [list.0])?;
    if let (Some(hop), Some(oldest)) = (hop, messages.iter().min()) {
        refresh_due(ledger, hop, Change::More(left, *oldest))?;
    }
    // What can not go back, in a state that no list should hold.
    let odd = ledger.rows(
        "SELECT DISTINCT message FROM recipient WHERE list = ?",
        [list.0],
        |row| row.get(0).map(MessageId),
    )?;
    for id in odd {
        mend(ledger, id)?;
    }
    Ok(())
}
