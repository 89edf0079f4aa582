//! Whether every alias leads somewhere, and to no more than it may.
//!
//! Pure. Never changes an alias.

use std::path::PathBuf;
use std::sync::Arc;

use super::problem::AliasesError;
use super::reader::Bounds;
use super::table::{Leads, Place, Table, TooMany};
use crate::config::problem::quoted;

/// How many names of a loop are told.
const TOLD_OF_LOOP: usize = 10;

/// Tells of aliases that lead to nothing but each other. One that names itself is a mailbox, and so is what
/// only a `@domain` would take: an account may stand before that.
pub(super) fn find_loops(table: &Table, file: &Arc<PathBuf>, wrong: &mut AliasesError) {
    let count = table.entries.len();
    let mut named_by: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut leads_somewhere = vec![false; count];
    let mut sure = Vec::new();
    for (at, entry) in table.entries.iter().enumerate() {
        let ends = |target: &Leads| !matches!(target.to, Place::Named(to) if to != at);
        if entry.is_broken || entry.targets.iter().any(ends) {
            leads_somewhere[at] = true;
            sure.push(at);
        }
        for target in &entry.targets {
            if let Place::Named(to) = target.to {
                named_by[to].push(at);
            }
        }
    }
    while let Some(to) = sure.pop() {
        for &at in &named_by[to] {
            if !std::mem::replace(&mut leads_somewhere[at], true) {
                sure.push(at);
            }
        }
    }
    let mut seen = leads_somewhere;
    for start in 0..count {
        let mut way = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| !std::mem::replace(&mut seen[*at], true)) {
            way.push(at);
            next = table.entries[at]
                .targets
                .iter()
                .find_map(|target| match target.to {
                    Place::Named(to) => Some(to),
                    _ => None,
                });
        }
        // The part of the way that comes again is the loop; what leads there only will do so when it is
        // mended.
        let begin = way.iter().position(|at| Some(*at) == next);
        if let Some([first, others @ ..]) = begin.map(|begin| &way[begin..]) {
            tell_loop(table, *first, others, file, wrong);
        }
    }
}

fn tell_loop(table: &Table, first: usize, others: &[usize], file: &Arc<PathBuf>, wrong: &mut AliasesError) {
    let first = &table.entries[first];
    let mut told: Vec<String> = others
        .iter()
        .take(TOLD_OF_LOOP)
        .map(|at| &table.entries[*at])
        .map(|entry| format!("{} (line {})", quoted(&entry.name), entry.line))
        .collect();
    if others.len() > TOLD_OF_LOOP {
        told.push("…".to_owned());
    }
    let name = quoted(&first.name);
    let what = format!(
        "{name}: expected a target that does not lead back, as {} to {name}",
        told.join(" to ")
    );
    wrong.add(file, first.line, what);
}

/// Tells of aliases that stand for too many.
pub(super) fn find_crowds(table: &Table, file: &Arc<PathBuf>, bounds: Bounds, wrong: &mut AliasesError) {
    let most = bounds.at_once;
    let mut steps = bounds.steps;
    for (at, entry) in table.entries.iter().enumerate() {
        let is_plain = entry.targets.iter().all(|target| target.to == Place::Mailbox);
        if is_plain && entry.targets.len() <= most {
            continue;
        }
        let Err(TooMany) = table.follow(at, &|_| false, most, &mut steps) else {
            continue;
        };
        let name = quoted(&entry.name);
        if steps == 0 {
            let what = format!("{name}: expected aliases that lead through fewer others");
            wrong.add(file, entry.line, what);
            return;
        }
        let what = format!("{name}: expected an alias for {most} targets at most, others followed");
        wrong.add(file, entry.line, what);
    }
}
