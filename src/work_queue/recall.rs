//! What an operator wants done to messages while session handlers have them in hand: who has one of these stops before
//! the next thing that would be said of it, and lets it be done then.
//!
//! Kept in memory only, since the mark is of no more use when the handler is gone. Never speaks to a handler: they look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::WorkQueue;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::lists::release;
use super::moving::ExportId;
use super::operator::{ByHand, Done, do_by_hand};
use super::pin::Lead;
use super::states::State;
use crate::domain_list::list::ListId;

/// So many messages are marked at most: who wants more stops the outbound transport first.
const MOST: usize = 10_000;

/// What is to be done to a message, and to which of its recipients.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) deed: ByHand,
    /// These alone; `None`: all.
    pub(super) only: Option<Vec<u32>>,
    /// Who wants it.
    pub(super) by: String,
}

impl Mark {
    /// Does it to message `id`.
    fn carry_out(&self, ledger: &mut Ledger<'_>, lead: &Lead, id: MessageId) -> Result<Done, QueueError> {
        let is_meant = |n: u32, _: State| self.only.as_ref().is_none_or(|only| only.contains(&n));
        do_by_hand(ledger, (lead, &self.deed), id, &is_meant, &self.by)
    }
}

/// The messages that are marked.
#[derive(Debug, Default)]
pub(super) struct Recalls {
    /// Whether there are any: nearly always there are none, and everybody looks.
    any: AtomicBool,
    marks: Mutex<HashMap<MessageId, Mark>>,
}

impl Recalls {
    /// Marks a message; the last mark counts. Whether there was room for it.
    pub(super) fn mark(&self, id: MessageId, mark: Mark) -> bool {
        let mut marks = self.marks.lock();
        let has_room = marks.len() < MOST || marks.contains_key(&id);
        if has_room {
            marks.insert(id, mark);
            self.any.store(true, Ordering::SeqCst);
        }
        has_room
    }

    fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    fn holds(&self, id: MessageId) -> bool {
        self.any() && self.marks.lock().contains_key(&id)
    }

    fn mark_of(&self, id: MessageId) -> Option<Mark> {
        match self.any() {
            true => self.marks.lock().get(&id).cloned(),
            false => None,
        }
    }

    /// Those that are marked now.
    fn all(&self) -> Vec<(MessageId, Mark)> {
        match self.any() {
            true => self
                .marks
                .lock()
                .iter()
                .map(|(id, mark)| (*id, mark.clone()))
                .collect(),
            false => Vec::new(),
        }
    }

    /// How many are marked for this export.
    pub(super) fn count_for(&self, export: ExportId) -> usize {
        let is_for = |mark: &&Mark| mark.deed == ByHand::PutAside(export);
        match self.any() {
            true => self.marks.lock().values().filter(is_for).count(),
            false => 0,
        }
    }

    /// None is marked for this export any more.
    pub(super) fn forget_for(&self, export: ExportId) {
        if !self.any() {
            return;
        }
        let mut marks = self.marks.lock();
        marks.retain(|_, mark| mark.deed != ByHand::PutAside(export));
        self.any.store(!marks.is_empty(), Ordering::SeqCst);
    }

    /// A message is marked no more.
    pub(super) fn forget(&self, id: MessageId) {
        if !self.any() {
            return;
        }
        let mut marks = self.marks.lock();
        marks.remove(&id);
        self.any.store(!marks.is_empty(), Ordering::SeqCst);
    }
}

impl WorkQueue {
    /// Whether an operator wants something done to any message that a session handler has in hand.
    #[must_use]
    pub fn any_recalled(&self) -> bool {
        self.store.recalls().any()
    }

    /// Whether that is so of message `id`: nothing more is to be said of it.
    #[must_use]
    pub fn is_recalled(&self, id: MessageId) -> bool {
        self.store.recalls().holds(id)
    }

    /// Does to message `id` what an operator wanted: what is left of it on `list` goes back, and that is done to it, or
    /// neither. Nothing where nobody wants anything, as nearly always.
    ///
    /// # Errors
    /// When the database refused: it is wanted as before.
    pub fn carry_out_recall(
        &self,
        list: ListId,
        id: MessageId,
    ) -> Result<Option<(ByHand, Done)>, QueueError> {
        let Some(mark) = self.store.recalls().mark_of(id) else {
            return Ok(None);
        };
        let (deed, lead) = (mark.deed.clone(), self.store.guidance().at_hand());
        let carry_out = move |ledger: &mut Ledger<'_>| {
            let is_listed = "SELECT 1 FROM recipient WHERE message = ? AND +list = ? LIMIT 1";
            if ledger.row(is_listed, (id.0, list.0), |_| Ok(()))?.is_some() {
                let why = "goes on without it: an operator stopped it";
                release(ledger, list, id, "released", why)?;
            }
            mark.carry_out(ledger, &*lead, id)
        };
        let done = self.store.write(carry_out).wait()?;
        self.store.recalls().forget(id);
        Ok(Some((deed, done)))
    }

    /// The same for all that no handler has in hand any more: their lists ended without them.
    ///
    /// # Errors
    /// When the database refused: what is left is wanted as before.
    pub fn carry_out_free_recalls(&self) -> Result<(), QueueError> {
        let in_hand = "SELECT 1 FROM recipient WHERE message = ? AND state = 3 LIMIT 1";
        for (id, mark) in self.store.recalls().all() {
            let is_in_hand = self
                .store
                .read(|db| ledger::row(db, in_hand, [id.0], |_| Ok(())))?;
            if is_in_hand.is_some() {
                continue;
            }
            let lead = self.store.guidance().at_hand();
            let carry_out = move |ledger: &mut Ledger<'_>| mark.carry_out(ledger, &*lead, id);
            // Another handler may have it by now, and looks.
            if self.store.write(carry_out).wait()?.in_hand == 0 {
                self.store.recalls().forget(id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(by: &str) -> Mark {
        Mark {
            deed: ByHand::Hold,
            only: None,
            by: by.to_owned(),
        }
    }

    #[test]
    fn a_message_is_marked_until_that_is_carried_out() {
        let recalls = Recalls::default();
        let [first, second] = [1, 2].map(MessageId);
        assert!(!recalls.any() && recalls.mark_of(first).is_none());
        assert!(recalls.mark(first, mark("ann")) && recalls.mark(first, mark("bob")));
        assert!(recalls.mark(second, mark("ann")));
        assert!(recalls.any() && recalls.holds(first) && !recalls.holds(MessageId(3)));
        assert_eq!(recalls.mark_of(first).map(|mark| mark.by).as_deref(), Some("bob"));
        recalls.forget(first);
        assert!(!recalls.holds(first) && recalls.any());
        assert_eq!(recalls.all().len(), 1);
        recalls.forget(second);
        assert!(!recalls.any() && !recalls.holds(second) && recalls.all().is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_marks_and_no_more() {
        let recalls = Recalls::default();
        let most = i64::try_from(MOST).unwrap();
        assert!((0..most).all(|id| recalls.mark(MessageId(id), mark("ann"))));
        assert!(!recalls.mark(MessageId(most), mark("ann")));
        assert!(recalls.mark(MessageId(0), mark("bob")));
    }
}
