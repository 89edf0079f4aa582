//! Reads an aliases file with all that it includes.
//!
//! All that is wrong is told, and nothing of the file holds then. Never reads more than its bounds, however
//! the files include each other.

use std::collections::hash_map::Entry as Known;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check;
use super::line::{self, Line};
use super::problem::AliasesError;
use super::table::{Aliases, Entry, Leads, Place, Table};
use super::target::{self, Target};
use crate::config::problem::quoted;
use crate::named_file;

/// How much an aliases file may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Octets, with all that is included.
    pub octets: usize,
    /// Targets and included files of all aliases together.
    pub targets: usize,
    /// Targets that one alias stands for in the end.
    pub at_once: usize,
    /// Targets that are looked at to find that out for all aliases.
    pub steps: usize,
}

/// For files that an operator has written.
const BOUNDS: Bounds = Bounds {
    octets: 64 << 20,
    targets: 1_000_000,
    at_once: 10_000,
    steps: 20_000_000,
};

/// How deep included files include others.
const DEEPEST: usize = 8;

/// Reads a file; may read one octet more than it is allowed to, so that it is seen to be too long.
pub(super) type ReadFile<'r> = dyn FnMut(&Path, usize) -> io::Result<Vec<u8>> + 'r;

impl Aliases {
    /// Reads the file, and what it includes. A target without a domain is in the first of `local_domains`;
    /// names are in these domains.
    ///
    /// # Errors
    /// Everything that is wrong with it, or why it cannot be read.
    pub fn read(path: &Path, local_domains: &[String]) -> Result<Aliases, AliasesError> {
        match read_file(path, BOUNDS.octets) {
            Ok(text) => Aliases::parse(&text, path, local_domains, &mut read_file),
            Err(error) => Err(AliasesError::whole(path, format!("cannot be read: {error}"))),
        }
    }

    /// Reads the text of a file that is called `path`. `read` gives the octets of an included file, and stops
    /// after one more than it is allowed.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(
        text: &[u8],
        path: &Path,
        local_domains: &[String],
        read: &mut dyn FnMut(&Path, usize) -> io::Result<Vec<u8>>,
    ) -> Result<Aliases, AliasesError> {
        Aliases::parse_within(BOUNDS, text, path, local_domains, read)
    }

    pub(super) fn parse_within(
        bounds: Bounds,
        text: &[u8],
        path: &Path,
        local_domains: &[String],
        read: &mut ReadFile<'_>,
    ) -> Result<Aliases, AliasesError> {
        let file = Arc::new(path.to_owned());
        let Some(octets_left) = bounds.octets.checked_sub(text.len()) else {
            return Err(AliasesError::whole(path, TOO_LONG.to_owned()));
        };
        let mut reader = Reader {
            first_domain: local_domains.first().cloned().unwrap_or_default(),
            folder: path.parent().map_or_else(PathBuf::new, Path::to_owned),
            table: Table {
                local_domains: local_domains.to_owned(),
                ..Table::default()
            },
            read,
            octets_left,
            most_targets: bounds.targets,
            targets_left: bounds.targets,
            wrong: AliasesError::default(),
        };
        for line in line::continued(text) {
            match line {
                Ok(line) => reader.line(&file, &line),
                Err(broken) => reader.wrong.add(&file, broken.number, broken.what),
            }
        }
        let Reader {
            mut table, mut wrong, ..
        } = reader;
        lead(&mut table);
        check::find_loops(&table, &file, &mut wrong);
        if wrong.is_empty() {
            // What leads in circles or was not read whole is not counted.
            check::find_crowds(&table, &file, bounds, &mut wrong);
        }
        if wrong.is_empty() {
            Ok(Aliases(Arc::new(table)))
        } else {
            Err(wrong)
        }
    }
}

const TOO_LONG: &str = "expected files of 64M at most, with all that is included";

fn read_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    named_file::read(path, most as u64)
}

struct Reader<'r> {
    first_domain: String,
    /// Where files are that are included by a relative path.
    folder: PathBuf,
    table: Table,
    read: &'r mut ReadFile<'r>,
    octets_left: usize,
    most_targets: usize,
    targets_left: usize,
    wrong: AliasesError,
}

impl Reader<'_> {
    fn line(&mut self, file: &Arc<PathBuf>, line: &Line) {
        let Some((word, rest)) = target::split_name(&line.text) else {
            let what = format!("{}: expected a name, a colon and targets", quoted(&line.text));
            self.wrong.add(file, line.number, what);
            return;
        };
        let mut entry = Entry {
            name: word.trim().to_owned(),
            line: line.number,
            targets: Vec::new(),
            is_broken: false,
        };
        let name = target::name(word, &self.table.local_domains)
            .map_err(|what| self.wrong.add(file, line.number, what));
        self.targets(file, line, rest, &mut entry, &mut Vec::new());
        if entry.targets.is_empty() && !entry.is_broken {
            let what = format!("{}: expected at least one target", quoted(&entry.name));
            self.wrong.add(file, line.number, what);
            entry.is_broken = true;
        }
        let Ok(name) = name else { return };
        match self.table.places.entry(name) {
            Known::Occupied(first) => {
                let first = self.table.entries.get(*first.get()).map_or(0, |entry| entry.line);
                let what = format!(
                    "{}: expected each name once; this one stands in line {first}, too",
                    quoted(&entry.name)
                );
                self.wrong.add(file, line.number, what);
            }
            Known::Vacant(free) => {
                free.insert(self.table.entries.len());
                self.table.entries.push(entry);
            }
        }
    }

    /// Adds the targets from octet `from` of a line on; `chain` are the included files that the line is in.
    fn targets(
        &mut self,
        file: &Arc<PathBuf>,
        line: &Line,
        from: usize,
        entry: &mut Entry,
        chain: &mut Vec<PathBuf>,
    ) {
        let domain = self.first_domain.clone();
        for (at, target) in target::targets(line.text.get(from..).unwrap_or_default(), &domain) {
            let Some(left) = self.targets_left.checked_sub(1) else {
                entry.is_broken = true;
                return;
            };
            self.targets_left = left;
            if left == 0 {
                let what = format!("expected fewer than {} targets in all", self.most_targets);
                self.wrong.add(file, line.number_at(from + at), what);
            }
            let added = match target {
                Ok(Target::Mailbox(mailbox)) => Ok(Some((mailbox, false))),
                Ok(Target::Final(mailbox)) => Ok(Some((mailbox, true))),
                Ok(Target::Include(path)) => self.include(&path, entry, chain).map(|()| None),
                Err(what) => Err(what),
            };
            match added {
                Ok(Some((mailbox, is_final))) => entry.targets.push(Leads {
                    mailbox,
                    is_final,
                    to: Place::Mailbox,
                }),
                Ok(None) => {}
                Err(what) => {
                    entry.is_broken = true;
                    self.wrong.add(file, line.number_at(from + at), what);
                }
            }
        }
    }

    fn include(&mut self, path: &Path, entry: &mut Entry, chain: &mut Vec<PathBuf>) -> Result<(), String> {
        let path = self.folder.join(path);
        let shown = quoted(&path.display().to_string());
        if chain.contains(&path) {
            return Err(format!("{shown}: expected a file that does not include itself"));
        }
        if chain.len() >= DEEPEST {
            return Err(format!(
                "{shown}: expected files that include others {DEEPEST} deep at most"
            ));
        }
        let text = (self.read)(&path, self.octets_left)
            .map_err(|error| format!("{shown} cannot be read: {error}"))?;
        self.octets_left = match self.octets_left.checked_sub(text.len()) {
            Some(left) => left,
            None => return Err(format!("{shown}: {TOO_LONG}")),
        };
        let file = Arc::new(path.clone());
        chain.push(path);
        for line in line::single(&text) {
            match line {
                Ok(line) => self.targets(&file, &line, 0, entry, chain),
                Err(broken) => {
                    entry.is_broken = true;
                    self.wrong.add(&file, broken.number, broken.what);
                }
            }
        }
        chain.pop();
        Ok(())
    }
}

/// Finds where the targets lead, now that all names are known.
fn lead(table: &mut Table) {
    let mut entries = std::mem::take(&mut table.entries);
    let targets = entries.iter_mut().flat_map(|entry| &mut entry.targets);
    for target in targets.filter(|target| !target.is_final) {
        target.to = table.place(&target.mailbox);
    }
    table.entries = entries;
}
