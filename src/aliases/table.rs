//! The aliases of a file, and what an address stands for in the end.
//!
//! Never changes after it was read. Never asks whether a mailbox exists, save when it is told how.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::target::Name;
use crate::smtp::path::Mailbox;

/// All aliases of a file. Clones share it. The default is none at all.
#[derive(Clone, Debug, Default)]
pub struct Aliases(pub(super) Arc<Table>);

/// Where a name stands, and what all of them stand for.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub local_domains: Vec<String>,
    pub entries: Vec<Entry>,
    pub places: HashMap<Name, usize>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it stands in the file.
    pub name: String,
    /// Where.
    pub line: usize,
    /// What it stands for, with what is included.
    pub targets: Vec<Leads>,
    /// Whether one of its targets could not be read.
    pub is_broken: bool,
}

/// A target, and where it leads.
#[derive(Debug)]
pub(super) struct Leads {
    /// The address.
    pub mailbox: Mailbox,
    /// Whether it is a mailbox even where an alias has this name.
    pub is_final: bool,
    /// What becomes of it.
    pub to: Place,
}

/// Whether a target is an alias itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is none.
    Mailbox,
    /// The entry that names it.
    Named(usize),
    /// The entry that takes what nothing names in its domain.
    Caught(usize),
}

/// An alias stands for more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Aliases {
    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// Whether this address is the name of an alias, word for word.
    #[must_use]
    pub fn names_exactly(&self, address: &Mailbox) -> bool {
        self.0.named(&address.in_lower_case()).is_some()
    }

    /// Whether this address is the name of an alias, or `user+detail` where `user` is.
    #[must_use]
    pub fn names(&self, address: &Mailbox) -> bool {
        self.0.named_or_detailed(address).is_some()
    }

    /// Whether there is a `@domain` for this address. It is for what nothing else names: neither another
    /// alias nor an account.
    #[must_use]
    pub fn catches(&self, address: &Mailbox) -> bool {
        self.0.caught(address).is_some()
    }

    /// What an address stands for in the end, through other aliases: each target once, in the order of the
    /// file; `None` if it is no alias. An alias that stands for itself, by whatever way, has itself as a
    /// mailbox among them. The detail of `user+detail` is dropped.
    #[must_use]
    pub fn expand(&self, address: &Mailbox) -> Option<Vec<Mailbox>> {
        self.expand_among(address, &|_| false)
    }

    /// As [`Aliases::expand`], where a `@domain` leaves alone what `is_account` says yes to.
    #[must_use]
    pub fn expand_among(
        &self,
        address: &Mailbox,
        is_account: &dyn Fn(&Mailbox) -> bool,
    ) -> Option<Vec<Mailbox>> {
        let table = &self.0;
        let entry = table
            .named_or_detailed(address)
            .or_else(|| table.caught(address).filter(|_| !is_account(address)))?;
        let (mut steps, all) = (usize::MAX, usize::MAX);
        table.follow(entry, is_account, all, &mut steps).ok()
    }
}

impl Table {
    fn is_local(&self, address: &Mailbox) -> bool {
        self.local_domains.iter().any(|domain| domain == address.domain())
    }

    /// The entry with this name. Expects it in lower case.
    fn named(&self, address: &Mailbox) -> Option<usize> {
        if self.places.is_empty() || !self.is_local(address) {
            return None;
        }
        if let Some(entry) = self.places.get(&Name::Mailbox(address.clone())) {
            return Some(*entry);
        }
        let first = self.local_domains.first()?;
        let everywhere = address.in_domain(first);
        self.places.get(&Name::Everywhere(everywhere)).copied()
    }

    fn named_or_detailed(&self, address: &Mailbox) -> Option<usize> {
        let address = address.in_lower_case();
        self.named(&address)
            .or_else(|| self.named(&address.without_detail()?))
    }

    fn caught(&self, address: &Mailbox) -> Option<usize> {
        if self.places.is_empty() || !self.is_local(address) {
            return None;
        }
        self.places
            .get(&Name::Domain(address.domain().to_owned()))
            .copied()
    }

    /// Where a target leads.
    pub(super) fn place(&self, target: &Mailbox) -> Place {
        let named = self.named_or_detailed(target).map(Place::Named);
        named
            .or_else(|| self.caught(target).map(Place::Caught))
            .unwrap_or(Place::Mailbox)
    }

    /// What an entry stands for in the end. Each entry on the way is followed once, so this ends; `steps` is
    /// how many targets may be looked at yet.
    ///
    /// # Errors
    /// When there are more than `most`, or the steps are used up.
    pub(super) fn follow(
        &self,
        entry: usize,
        is_account: &dyn Fn(&Mailbox) -> bool,
        most: usize,
        steps: &mut usize,
    ) -> Result<Vec<Mailbox>, TooMany> {
        let mut found = Vec::new();
        let mut known = HashSet::new();
        // The entries on the way down with the next target of each; and all that have been on it, or still
        // are.
        let mut way = vec![(entry, 0)];
        let mut on_the_way = HashMap::from([(entry, true)]);
        while let Some((at, next)) = way.last_mut() {
            let Some(target) = self.entries.get(*at).and_then(|entry| entry.targets.get(*next)) else {
                on_the_way.insert(*at, false);
                way.pop();
                continue;
            };
            *next += 1;
            *steps = steps.checked_sub(1).ok_or(TooMany)?;
            let to = match target.to {
                Place::Named(to) => Some(to),
                Place::Caught(to) if !is_account(&target.mailbox) => Some(to),
                Place::Caught(_) | Place::Mailbox => None,
            };
            let is_end = match to.map(|to| (to, on_the_way.get(&to))) {
                Some((to, None)) => {
                    on_the_way.insert(to, true);
                    way.push((to, 0));
                    false
                }
                // What leads back to where it comes from is meant as a mailbox.
                Some((_, Some(is_on_the_way))) => *is_on_the_way,
                None => true,
            };
            if is_end && known.insert(target.mailbox.in_lower_case()) {
                if found.len() >= most {
                    return Err(TooMany);
                }
                found.push(target.mailbox.clone());
            }
        }
        Ok(found)
    }
}
