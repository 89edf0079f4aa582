//! The clock is set back, and rows are broken by hand: for the one nothing waits any longer, and of the other no more is
//! put aside than can not go on.

use super::*;
use crate::clock::TOLERANCE;

/// What may be done to the row of a recipient that stands so: no task can go on with it then.
fn damages(member: &Member) -> &'static [&'static str] {
    match member.state {
        State::PendingConversion => &["in_box = 7"],
        State::PendingXmit => &["hop = NULL", "hop = 999999999", "list = 999999999"],
        State::LockedForXmit => &["hop = NULL", "list = NULL", "list = 999999999"],
        _ => &[],
    }
}

impl Machine {
    /// The add-in task follows a clock that is set back; now and then the MTA is restarted before it could, and what it
    /// knows then is what was written down.
    pub(super) fn set_back(&mut self, dice: &mut Dice) {
        let far = &STEPS[2..];
        let by = far[dice.below(far.len())];
        self.world.clock.set(self.now().minus(by));
        let is_restarted = dice.one_in(4);
        if is_restarted {
            self.restart(dice.one_in(2));
        }
        let told = self.world.queue.set_back();
        self.note((by, told));
        assert!(
            told.is_none_or(|told| told <= by + TOLERANCE),
            "set back by {by:?}, and told of {told:?}"
        );
        assert!(
            is_restarted || told >= Some(by),
            "set back by {by:?}, and told of {told:?}"
        );
        let Some(by) = told else { return };
        let expected = self.memory.make_up_for(by, self.now());
        let moved = self.world.queue.make_up_for(by).unwrap();
        assert_eq!(moved, expected, "what waits no longer for that");
    }

    /// Housekeeping looks all rows through; now and then somebody has broken one of them.
    pub(super) fn mend(&mut self, dice: &mut Dice) {
        let broken = if dice.one_in(2) { self.damage(dice) } else { None };
        let mended = self.world.queue.mend().unwrap();
        match broken {
            Some((id, n)) => {
                assert_eq!(mended.held, 1, "{mended:?}");
                self.memory.hold(id, n);
            }
            None => assert_eq!(mended, Mended::default(), "all was sound"),
        }
        assert_eq!(
            self.world.queue.mend().unwrap(),
            Mended::default(),
            "once is enough"
        );
    }

    /// Breaks the row of a recipient that some task has to go on with, if there is one.
    fn damage(&mut self, dice: &mut Dice) -> Option<Place> {
        let at_work = self
            .memory
            .all()
            .filter(|(.., member)| !damages(member).is_empty());
        let at_work: Vec<_> = at_work
            .map(|(id, n, member)| ((id, n), damages(member)))
            .collect();
        let ((id, n), changes) = dice.of(&at_work)?;
        let change = dice.of(changes)?;
        self.note((id, n, change));
        // Whoever releases it can only go by that.
        let member = self.memory.member(id, n);
        match change {
            "hop = NULL" => (member.hop, member.in_box) = (None, false),
            "in_box = 7" => member.in_box = true,
            _ => {}
        }
        let sql = format!(
            "UPDATE recipient SET {change} WHERE message = {} AND n = {n}",
            id.0
        );
        self.audit.db.execute_batch(&sql).unwrap();
        Some((id, n))
    }
}
