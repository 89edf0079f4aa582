//! How one domain list is gathered from what is pending for a next hop: in the order in which it is due,
//! whole messages, up to a bound.

use std::collections::HashSet;
use std::hash::Hash;

/// A list holds at most so many recipients, whatever their messages: it fits into one short transaction.
pub const MOST_RECIPIENTS: usize = 5000;

/// A list in the making. Once it is finished nothing is added to it.
#[derive(Debug)]
pub struct Gather<M> {
    most_messages: usize,
    messages: HashSet<M>,
    recipients: Vec<(M, u32)>,
}

impl<M: Copy + Eq + Hash> Gather<M> {
    /// An empty list for at most `most_messages` messages.
    #[must_use]
    pub fn new(most_messages: usize) -> Gather<M> {
        Gather {
            most_messages,
            messages: HashSet::new(),
            recipients: Vec::new(),
        }
    }

    /// Takes recipient `n` of message `id`; `false` when the list is full without it.
    pub fn take(&mut self, id: M, n: u32) -> bool {
        let is_full = self.messages.len() >= self.most_messages && !self.messages.contains(&id);
        if is_full || self.recipients.len() >= MOST_RECIPIENTS {
            return false;
        }
        self.messages.insert(id);
        self.recipients.push((id, n));
        true
    }

    /// Messages on it.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// Recipients on it, in the order in which they were taken: those of a message that are due at different moments are
    /// not side by side.
    #[must_use]
    pub fn recipients(&self) -> &[(M, u32)] {
        &self.recipients
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_full_after_so_many_messages_but_takes_all_recipients_of_the_last() {
        let mut list = Gather::new(2);
        assert!(list.take(1, 0));
        assert!(list.take(2, 0));
        assert!(list.take(2, 1));
        assert!(!list.take(3, 0));
        assert_eq!((list.messages(), list.recipients().len()), (2, 3));
    }

    #[test]
    fn a_message_whose_recipients_are_due_at_different_moments_counts_once() {
        let mut list = Gather::new(2);
        assert!(list.take(1, 0) && list.take(2, 0) && list.take(1, 1));
        assert!(!list.take(3, 0));
        assert_eq!((list.messages(), list.recipients().len()), (2, 3));
    }

    #[test]
    fn a_list_is_full_after_so_many_recipients() {
        let mut list = Gather::new(100);
        let taken = (0..).take_while(|n| list.take(1, *n)).count();
        assert_eq!(taken, MOST_RECIPIENTS);
    }
}
