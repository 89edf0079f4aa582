//! The states of a recipient in the work queue and their legal moves: the one owner of both.
//!
//! `WQ_PENDING_XMIT` and `WQ_MSG_LOCKED_FOR_XMIT` are the seed's own names, the others are ours, in its
//! manner. Pure; never touches the database.

use std::fmt;

/// How a recipient of a message stands. The number is what `queue.db` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Waits for imsgcnv (in the inbound work queue) or omsgcnv (in SMTP.BOX).
    PendingConversion = 1,
    /// Waits in the outbound work queue, until its next attempt is due and a handler is free.
    PendingXmit = 2,
    /// On a domain list that a session handler has in hand.
    LockedForXmit = 3,
    /// Given up; the delivery report task has yet to tell the sender.
    PendingReport = 4,
    /// Put aside, until an operator releases it.
    Held = 5,
    /// Given up, and nobody can be told: kept until an operator removes it.
    Dead = 6,
    /// End: in a local mailbox.
    Delivered = 10,
    /// End: the next hop took it.
    Transmitted = 11,
    /// End: an alias, replaced by what it stands for.
    Expanded = 12,
    /// End: given up, and the sender has been told, or wants no report.
    Failed = 13,
    /// End: an operator removed it. Until housekeeping forgets its message it may be brought back.
    Removed = 14,
}

use State::{
    Dead, Delivered, Expanded, Failed, Held, LockedForXmit, PendingConversion, PendingReport, PendingXmit,
    Removed, Transmitted,
};

impl State {
    /// All of them, in the order of a recipient's life.
    pub const ALL: [State; 11] = [
        PendingConversion,
        PendingXmit,
        LockedForXmit,
        PendingReport,
        Held,
        Dead,
        Delivered,
        Transmitted,
        Expanded,
        Failed,
        Removed,
    ];

    /// The states that a recipient may go to from this one. Staying is a move too: a new attempt later.
    #[must_use]
    pub fn moves(self) -> &'static [State] {
        match self {
            PendingConversion => &[
                PendingConversion,
                PendingXmit,
                Delivered,
                Expanded,
                PendingReport,
                Dead,
                Held,
                Removed,
            ],
            PendingXmit => &[PendingXmit, LockedForXmit, PendingReport, Dead, Held, Removed],
            LockedForXmit => &[
                PendingXmit,
                Delivered,
                Transmitted,
                PendingReport,
                Dead,
                Held,
                Removed,
            ],
            PendingReport => &[Failed, Dead, Held, Removed],
            Held => &[PendingConversion, PendingXmit, PendingReport, Dead, Removed],
            Dead => &[PendingXmit, Removed],
            Removed => &[Held],
            Delivered | Transmitted | Expanded | Failed => &[],
        }
    }

    /// Whether a recipient in this state may go to `next`.
    #[must_use]
    pub fn may_become(self, next: State) -> bool {
        self.moves().contains(&next)
    }

    /// Whether the recipient has left the queue.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Delivered | Transmitted | Expanded | Failed | Removed)
    }

    /// The name that the views and the console show.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PendingConversion => "WQ_PENDING_CONVERSION",
            PendingXmit => "WQ_PENDING_XMIT",
            LockedForXmit => "WQ_MSG_LOCKED_FOR_XMIT",
            PendingReport => "WQ_PENDING_REPORT",
            Held => "WQ_HELD",
            Dead => "WQ_DEAD",
            Delivered => "WQ_DELIVERED",
            Transmitted => "WQ_TRANSMITTED",
            Expanded => "WQ_EXPANDED",
            Failed => "WQ_FAILED",
            Removed => "WQ_REMOVED",
        }
    }

    /// What `queue.db` holds for it.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_reached_from_every_state_that_is_not_one() {
        for state in State::ALL {
            assert_eq!(state.is_end(), state.number() >= Delivered.number(), "{state}");
            let is_final = state.moves().is_empty();
            assert_eq!(is_final, state.is_end() && state != Removed, "{state}");
            assert!(
                state.is_end() || state.may_become(Removed),
                "{state} can not be removed"
            );
        }
    }

    #[test]
    fn only_a_locked_recipient_is_transmitted_and_only_a_reported_one_fails() {
        for state in State::ALL {
            assert_eq!(state.may_become(Transmitted), state == LockedForXmit, "{state}");
            assert_eq!(state.may_become(Failed), state == PendingReport, "{state}");
        }
    }

    #[test]
    fn the_views_spell_every_state_as_it_is_spelled_here() {
        let schema = include_str!("schema.sql");
        for state in State::ALL {
            let row = format!("({}, '{}')", state.number(), state.name());
            assert!(schema.contains(&row), "schema.sql lacks {row}");
        }
    }
}
