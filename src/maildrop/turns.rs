//! In which order what was found in the maildrop is taken: users take turns, so that nobody waits until another one's
//! thousands are through. Pure.

use std::collections::{BTreeMap, VecDeque};

/// So many messages of one user are taken before it is the next one's turn.
const SHARE: usize = 25;

/// All of `found`, each with the user whose it is, in the order of turns.
pub(super) fn in_turns<T>(found: impl IntoIterator<Item = (u32, T)>) -> Vec<T> {
    let mut of: BTreeMap<u32, VecDeque<T>> = BTreeMap::new();
    for (uid, one) in found {
        of.entry(uid).or_default().push_back(one);
    }
    let mut order = Vec::new();
    while !of.is_empty() {
        for waiting in of.values_mut() {
            order.extend(waiting.drain(..waiting.len().min(SHARE)));
        }
        of.retain(|_, waiting| !waiting.is_empty());
    }
    order
}

/// Those that go, where no more than `most` may stay: of whoever has most.
pub(super) fn beyond<T>(most: usize, found: impl IntoIterator<Item = (u32, T)>) -> Vec<T> {
    let mut of: BTreeMap<u32, Vec<T>> = BTreeMap::new();
    let mut count = 0;
    for (uid, one) in found {
        of.entry(uid).or_default().push(one);
        count += 1;
    }
    let mut gone = Vec::new();
    while count > most {
        let Some(one) = of.values_mut().max_by_key(|had| had.len()).and_then(Vec::pop) else {
            break;
        };
        gone.push(one);
        count -= 1;
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_behind_all_that_another_one_has_left() {
        let of = |uid: u32, many: usize| (0..many).map(move |_| (uid, uid));
        let order = in_turns(of(7, 60).chain(of(9, 2)).chain(of(8, 30)));
        let expected = [(7, 25), (8, 25), (9, 2), (7, 25), (8, 5), (7, 10)];
        let expected: Vec<u32> = expected
            .into_iter()
            .flat_map(|(uid, many)| vec![uid; many])
            .collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn what_goes_is_of_whoever_has_most() {
        let of = |uid: u32, many: usize| (0..many).map(move |_| (uid, uid));
        let gone = beyond(10, of(1, 1).chain(of(2, 50)).chain(of(3, 4)));
        assert_eq!(gone, vec![2; 45]);
        assert!(beyond(10, of(1, 10)).is_empty());
    }
}
