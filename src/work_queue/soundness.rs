//! What the rows of a sound message look like: the rules by which `verify` and housekeeping judge them.
//!
//! Pure: never reads a row, and never mends one.

use super::id::MessageId;
use super::states::State;

/// What is wrong, by what is to be done about it; the heaviest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The file is damaged, as SQLite sees it.
    Database,
    /// The tables are of another version, or not as they were made.
    Schema,
    /// Rows have gone that were there once.
    Lost,
    /// The content of a message is not there, or not all of it.
    Content,
    /// A message or recipient that no task can go on with.
    Rows,
    /// Something kept about rows is not what they say: when they fall due, whether the message has left.
    Kept,
    /// A next hop counts wrongly.
    NextHop,
    /// Content of a message that needs none.
    Stray,
    /// A content file that no row names.
    StrayFile,
}

impl Kind {
    /// Its name for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Database => "database",
            Kind::Schema => "schema",
            Kind::Rows => "rows",
            Kind::Kept => "kept",
            Kind::NextHop => "next_hop",
            Kind::Content => "content",
            Kind::Lost => "lost",
            Kind::Stray => "stray",
            Kind::StrayFile => "stray_file",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Kind::Database => {
                "stop the MTA, copy the spool, and save what can be read: see smtpmta-queue(5), DAMAGE"
            }
            Kind::Schema => "start the MTA of this version on it, which upgrades it, and verify it again",
            Kind::Rows => "tell housekeeping puts the message aside",
            Kind::Kept | Kind::NextHop => "tell housekeeping puts that right",
            Kind::Content => "the message is put aside when its turn comes; a backup may have the content",
            Kind::Lost => "what is missing can come from a backup only",
            Kind::Stray => "it delays nothing; tell housekeeping removes it if its message has left",
            Kind::StrayFile => "housekeeping sweeps it up, unless it is on its way in",
        }
    }

    /// Whether a queue may have this and be in order.
    #[must_use]
    pub fn is_harmless(self) -> bool {
        matches!(self, Kind::StrayFile)
    }
}

/// Whom a message is from, as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// The null path.
    Null,
    /// A mailbox.
    Mailbox,
    /// No path at all.
    Broken,
}

/// A message's row.
#[derive(Clone, Debug)]
pub(super) struct MessageRow {
    pub(super) id: MessageId,
    pub(super) sender: Sender,
    pub(super) has_left: bool,
    pub(super) inbound_due: Option<i64>,
    pub(super) box_due: Option<i64>,
    pub(super) size: i64,
    pub(super) origin: i64,
    pub(super) body: i64,
    /// The name of its content file, where it has one.
    pub(super) file: Option<String>,
}

/// A recipient's row, with what it points to.
#[derive(Clone, Debug)]
pub(super) struct RecipientRow {
    pub(super) n: i64,
    pub(super) has_path: bool,
    /// Where it is led by hand can not be read.
    pub(super) is_led_astray: bool,
    pub(super) state: i64,
    pub(super) in_box: i64,
    pub(super) hop: Option<i64>,
    /// The next hop exists.
    pub(super) has_hop: bool,
    pub(super) list: Option<i64>,
    /// The next hop of the list, where there is such a list.
    pub(super) list_hop: Option<i64>,
    /// A handler has the list.
    pub(super) list_in_hand: bool,
    pub(super) next_attempt: i64,
    pub(super) attempts: i64,
    pub(super) parent: Option<i64>,
    pub(super) report_due: Option<i64>,
    pub(super) notify: Option<i64>,
}

/// What the recipients of a message add up to.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    /// Rows that the client named, or drt.
    pub(super) named: i64,
    /// Rows that came of aliases.
    pub(super) of_aliases: i64,
    /// Rows that keep the message in the queue.
    unsettled: usize,
    /// Rows that an operator removed, and may bring back: the content is kept for them.
    pub(super) removed: usize,
    /// Of those that are not settled: what some task will go on with.
    pub(super) at_work: usize,
    /// The number that the next row has, if none is missing.
    next: i64,
    inbound_due: Option<i64>,
    box_due: Option<i64>,
}

/// The state of this number.
pub(super) fn state(number: i64) -> Option<State> {
    State::ALL
        .into_iter()
        .find(|state| i64::from(state.number()) == number)
}

impl MessageRow {
    /// What is wrong with it by itself.
    pub(super) fn fault(&self) -> Option<String> {
        if self.has_left {
            return None;
        }
        if self.sender == Sender::Broken {
            return Some("its reverse path is none".to_owned());
        }
        let numbers = [
            ("size", self.size, 0..=i64::MAX),
            ("origin", self.origin, 1..=3),
            ("body", self.body, 0..=3),
        ];
        out_of_range(&numbers)
    }
}

/// What is wrong with a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No task can go on with it, or would do the wrong thing.
    Stuck(String),
    /// Only with what drt has to tell of it.
    Report(String),
    /// Only with where it came from.
    Origin(String),
}

impl Fault {
    /// In words.
    pub(super) fn what(&self) -> &str {
        match self {
            Fault::Stuck(what) | Fault::Report(what) | Fault::Origin(what) => what,
        }
    }
}

impl RecipientRow {
    /// What is wrong with it. Little is asked of a message that has left, and of a recipient that has ended or is put
    /// aside: no task reads it any more, unless there is something to be told of it.
    pub(super) fn fault(&self, message: &MessageRow) -> Option<Fault> {
        let Some(state) = state(self.state) else {
            return Some(Fault::Stuck(format!("there is no state {}", self.state)));
        };
        if message.has_left {
            return None;
        }
        if let Some(misfit) = self.misfit(state) {
            return Some(Fault::Stuck(format!("it is {state}, and {misfit}")));
        }
        if state.is_end() || is_aside(state) {
            return self.report_fault(state, message.sender).map(Fault::Report);
        }
        self.unreadable()
            .map(Fault::Stuck)
            .or_else(|| self.report_fault(state, message.sender).map(Fault::Report))
            .or_else(|| self.parent_fault().map(Fault::Origin))
    }

    /// What no task can read.
    fn unreadable(&self) -> Option<String> {
        if !self.has_path {
            return Some("its path is none".to_owned());
        }
        if self.is_led_astray {
            return Some("its pin is no host".to_owned());
        }
        let most = i64::from(u32::MAX);
        // Where it is to be converted; otherwise nobody asks.
        let converts = state(self.state) == Some(State::PendingConversion);
        let in_box = if converts { self.in_box } else { 0 };
        out_of_range(&[
            ("n", self.n, 0..=most),
            ("attempts", self.attempts, 0..=most),
            ("in_box", in_box, 0..=1),
            ("notify", self.notify.unwrap_or(0), 0..=7),
        ])
    }

    /// What does not fit its state.
    fn misfit(&self, state: State) -> Option<String> {
        let goes = matches!(state, State::PendingXmit | State::LockedForXmit);
        if goes && !self.has_hop {
            return Some(match self.hop {
                None => "has no next hop".to_owned(),
                Some(hop) => format!("its next hop {hop} does not exist"),
            });
        }
        let Some(list) = self.list else {
            return (state == State::LockedForXmit).then(|| "is on no list".to_owned());
        };
        match self.list_hop {
            _ if !goes => Some(format!("is on list {list}")),
            None => Some(format!("its list {list} does not exist")),
            to if to != self.hop => Some(format!("its list {list} goes elsewhere")),
            _ if self.list_in_hand == (state == State::LockedForXmit) => None,
            _ if self.list_in_hand => Some(format!("a handler has its list {list}")),
            _ => Some(format!("no handler has its list {list}")),
        }
    }

    fn parent_fault(&self) -> Option<String> {
        let parent = self.parent?;
        (!(0..self.n).contains(&parent))
            .then(|| format!("the alias that it came of, {parent}, does not exist"))
    }

    /// What is wrong with the good end that drt has yet to tell of.
    fn report_fault(&self, state: State, sender: Sender) -> Option<String> {
        let due = self.report_due?;
        let fits = matches!(
            (due, state),
            (1, State::Delivered) | (2, State::Transmitted) | (3, State::Expanded)
        );
        if !fits {
            return Some(format!("it is {state}, and report_due is {due}"));
        }
        if sender == Sender::Null {
            return Some("there is nobody to be told of its good end".to_owned());
        }
        self.unreadable()
    }
}

impl Sum {
    /// Takes the next recipient, in the order of their numbers; says so if some are missing before it.
    pub(super) fn take(&mut self, row: &RecipientRow) -> Option<String> {
        let missing = (row.n > self.next).then(|| match row.n.saturating_sub(self.next) {
            1 => format!("recipient {} is missing", self.next),
            _ => format!("recipients {} to {} are missing", self.next, row.n - 1),
        });
        self.next = row.n.saturating_add(1);
        match row.parent {
            None => self.named += 1,
            Some(_) => self.of_aliases += 1,
        }
        let state = state(row.state);
        self.removed += usize::from(state == Some(State::Removed));
        let is_told = row.report_due.is_some();
        self.unsettled += usize::from(!state.is_some_and(State::is_end) || is_told);
        self.at_work += usize::from(!state.is_some_and(|state| state.is_end() || is_aside(state)) || is_told);
        if row.state == i64::from(State::PendingConversion.number()) {
            let due = match row.in_box {
                0 => &mut self.inbound_due,
                _ => &mut self.box_due,
            };
            *due = Some(due.map_or(row.next_attempt, |due| due.min(row.next_attempt)));
        }
        missing
    }

    /// Whether what is kept about them in the row of their message is what they say; what is not.
    pub(super) fn fault(&self, message: &MessageRow) -> Option<String> {
        if message.has_left {
            return (self.unsettled > 0).then(|| {
                format!(
                    "it has left, and recipients that are not settled: {}",
                    self.unsettled
                )
            });
        }
        if self.unsettled == 0 {
            return Some("all its recipients are settled, and it has not left".to_owned());
        }
        for (column, kept, due) in [
            ("inbound_due", message.inbound_due, self.inbound_due),
            ("box_due", message.box_due, self.box_due),
        ] {
            if kept != due {
                let [kept, due] = [kept, due].map(|due| due.map_or("NULL".to_owned(), |due| due.to_string()));
                return Some(format!("{column} is {kept}, and by its recipients {due}"));
            }
        }
        None
    }

    /// What history knows of more recipients than there are.
    pub(super) fn lost(&self, accepted: i64) -> Option<String> {
        (accepted != self.named).then(|| {
            format!(
                "{accepted} recipients were accepted, and there are rows of {}",
                self.named
            )
        })
    }
}

/// Whether a recipient in this state waits for an operator.
fn is_aside(state: State) -> bool {
    matches!(state, State::Held | State::Dead)
}

fn out_of_range(numbers: &[(&str, i64, std::ops::RangeInclusive<i64>)]) -> Option<String> {
    let wrong = numbers.iter().find(|(_, value, range)| !range.contains(value));
    wrong.map(|(column, value, _)| format!("{column} is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> MessageRow {
        MessageRow {
            id: MessageId(1),
            sender: Sender::Mailbox,
            has_left: false,
            inbound_due: None,
            box_due: None,
            size: 20,
            origin: 1,
            body: 0,
            file: None,
        }
    }

    /// A recipient in this state, as it should be.
    fn recipient(state: State) -> RecipientRow {
        let list = (state == State::LockedForXmit).then_some(3);
        RecipientRow {
            n: 0,
            has_path: true,
            is_led_astray: false,
            state: state.number().into(),
            in_box: 0,
            hop: Some(7),
            has_hop: true,
            list,
            list_hop: list.map(|_| 7),
            list_in_hand: list.is_some(),
            next_attempt: 0,
            attempts: 0,
            parent: None,
            report_due: None,
            notify: None,
        }
    }

    /// What is said of a recipient in this state with this change.
    fn said(state: State, change: impl FnOnce(&mut RecipientRow)) -> String {
        let mut row = recipient(state);
        change(&mut row);
        row.fault(&message())
            .map_or(String::new(), |fault| fault.what().to_owned())
    }

    #[test]
    fn a_sound_recipient_of_each_state_has_no_fault() {
        for state in State::ALL {
            assert_eq!(said(state, |_| ()), "", "{state}");
        }
        let waiting = said(State::PendingXmit, |row| {
            (row.list, row.list_hop) = (Some(3), Some(7));
        });
        assert_eq!(waiting, "");
        assert_eq!(said(State::Transmitted, |row| row.report_due = Some(2)), "");
    }

    #[test]
    fn what_does_not_fit_its_state_is_told() {
        use State::{Held, LockedForXmit, PendingConversion, PendingReport, PendingXmit, Transmitted};
        assert_eq!(said(Held, |row| row.state = 77), "there is no state 77");
        assert_eq!(
            said(PendingXmit, |row| (row.hop, row.has_hop) = (None, false)),
            "it is WQ_PENDING_XMIT, and has no next hop"
        );
        assert!(said(PendingXmit, |row| row.has_hop = false).ends_with("its next hop 7 does not exist"));
        assert!(said(LockedForXmit, |row| row.list = None).ends_with("is on no list"));
        assert!(said(LockedForXmit, |row| row.list_hop = None).ends_with("its list 3 does not exist"));
        assert!(said(LockedForXmit, |row| row.list_hop = Some(8)).ends_with("its list 3 goes elsewhere"));
        assert!(said(LockedForXmit, |row| row.list_in_hand = false).ends_with("no handler has its list 3"));
        assert!(said(Held, |row| row.list = Some(3)).ends_with("is on list 3"));
        assert!(said(Transmitted, |row| row.report_due = Some(1)).ends_with("report_due is 1"));
        assert!(said(PendingXmit, |row| row.parent = Some(0)).contains("the alias"));
        assert_eq!(said(PendingXmit, |row| row.attempts = -1), "attempts is -1");
        assert_eq!(said(PendingConversion, |row| row.in_box = 7), "in_box is 7");
        assert_eq!(said(PendingReport, |row| row.in_box = 7), "", "nobody asks");
        assert_eq!(said(PendingXmit, |row| row.has_path = false), "its path is none");
        assert_eq!(said(Held, |row| row.has_path = false), "", "somebody knows of it");
    }

    #[test]
    fn a_message_knows_when_its_recipients_fall_due_and_whether_it_is_through() {
        let mut sum = Sum::default();
        let mut later = recipient(State::PendingConversion);
        (later.n, later.next_attempt) = (1, 50);
        assert_eq!(sum.take(&recipient(State::Transmitted)), None);
        assert_eq!(sum.take(&later), None);
        let due = |inbound_due| MessageRow {
            inbound_due,
            ..message()
        };
        assert_eq!(sum.fault(&due(Some(50))), None);
        let told = sum.fault(&due(None)).unwrap();
        assert_eq!(told, "inbound_due is NULL, and by its recipients 50");
        let left = MessageRow {
            has_left: true,
            ..message()
        };
        assert!(sum.fault(&left).unwrap().contains("not settled: 1"));
        let mut settled = Sum::default();
        settled.take(&recipient(State::Transmitted));
        assert!(settled.fault(&message()).unwrap().contains("has not left"));
        assert_eq!(settled.fault(&left), None);
    }

    #[test]
    fn recipients_that_are_missing_are_missed_wherever_they_stood() {
        let mut sum = Sum::default();
        let mut third = recipient(State::Held);
        third.n = 2;
        assert_eq!(sum.take(&third).unwrap(), "recipients 0 to 1 are missing");
        assert_eq!(
            sum.lost(3).unwrap(),
            "3 recipients were accepted, and there are rows of 1"
        );
        assert_eq!(sum.lost(1), None);
    }
}
