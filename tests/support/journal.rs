//! What a power cut leaves: the shim's journal of all that the MTA has done to a folder, and the folder as it may be
//! found afterwards if everything stops at one moment of it.
//!
//! What was synced by then is there. Of what was written to a file since its last sync each sector of the disk may be
//! as it was at any moment since, the last write may end anywhere, and the file's length may be that of any moment.
//! Names that were made, moved or removed since the last sync of their folder may be so or not, each for itself. What
//! a sync that failed should have brought to the disk never gets there, unless it is written again: the system believes
//! that it has done what it could.
//!
//! Knows nothing of mail.

#![allow(dead_code)] // each test uses what it needs

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Octets of an entry's head.
const HEAD: usize = 32;

/// A page of the system: what is written anew brings the rest of its page along.
const PAGE: usize = 4096;

/// Chance, which is the same again for the same seed.
#[derive(Clone, Debug)]
pub struct Luck(u64);

impl Luck {
    /// From this seed.
    pub fn new(seed: u64) -> Luck {
        Luck(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap() % end
    }
}

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// None of it is there.
    Lost,
    /// All of it is there.
    Kept,
    /// Each sector of so many octets, and each name, for itself.
    Torn(usize),
}

/// The end of a file that was being appended to.
#[derive(Clone, Copy, Debug)]
pub struct End<'n> {
    /// The name of the file.
    pub name: &'n str,
    /// So many of the writes since its last sync are there …
    pub writes: usize,
    /// … and so many octets of the next one.
    pub octets: usize,
    /// The file ends there, too, if it is longer than when it was synced; else what stood behind that before is still
    /// there.
    pub cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Debug)]
enum Deed {
    Write {
        file: usize,
        at: usize,
        octets: Range<usize>,
    },
    Cut {
        file: usize,
        length: usize,
    },
    Make(String, Node),
    Link(String, String),
    Move(String, String),
    Remove(String),
    /// A sync begins, ends or fails.
    Sync,
}

#[derive(Debug)]
struct Sync {
    began: usize,
    /// When, and whether it went well.
    ended: Option<(usize, bool)>,
}

impl Sync {
    /// Whether it had gone well before this moment.
    fn done(&self, by: usize) -> bool {
        self.ended.is_some_and(|(at, well)| well && at < by)
    }

    fn failed(&self, by: usize) -> bool {
        self.ended.is_some_and(|(at, well)| !well && at < by)
    }
}

/// The journal of a folder that was empty before.
#[derive(Debug)]
pub struct Journal {
    root: String,
    octets: Vec<u8>,
    deeds: Vec<Deed>,
    /// Where in the journal each entry ends.
    ends: Vec<u64>,
    /// What was done to the octets of each file: places in `deeds`.
    changes: Vec<Vec<usize>>,
    file_syncs: Vec<Vec<Sync>>,
    folder_syncs: HashMap<String, Vec<Sync>>,
}

impl Journal {
    /// Reads the journal of this folder. An entry that the end of the process has cut is left out.
    pub fn read(journal: &Path, root: &Path) -> Journal {
        let mut read = Journal {
            root: root.display().to_string(),
            octets: fs::read(journal).unwrap(),
            deeds: Vec::new(),
            ends: Vec::new(),
            changes: Vec::new(),
            file_syncs: Vec::new(),
            folder_syncs: HashMap::new(),
        };
        let mut reader = Reader::default();
        let mut at = 0;
        while let Some(next) = read.take(at, &mut reader) {
            at = next;
            read.ends.push(at as u64);
        }
        read
    }

    /// Takes the entry off that the end of the process has cut, so that another one may go on behind.
    pub fn complete(journal: &Path) {
        let octets = fs::read(journal).unwrap();
        let mut end = 0;
        while let Some(head) = octets.get(end..end + HEAD) {
            let part = |place: usize| u32::from_ne_bytes(head[place..place + 4].try_into().unwrap()) as usize;
            let next = end + HEAD + part(4) + part(8) + part(12);
            if next > octets.len() {
                break;
            }
            end = next;
        }
        let file = fs::OpenOptions::new().write(true).open(journal).unwrap();
        file.set_len(end as u64).unwrap();
    }

    /// Takes the entry that begins at `at`; where the next one begins.
    fn take(&mut self, at: usize, reader: &mut Reader) -> Option<usize> {
        let head = self.octets.get(at..at + HEAD)?;
        let small = |place: usize| u32::from_ne_bytes(head[place..place + 4].try_into().unwrap()) as usize;
        let large = |place: usize| u64::from_ne_bytes(head[place..place + 8].try_into().unwrap());
        let (kind, path, other, octets) = (small(0), small(4), small(8), small(12));
        let (inode, number) = (large(16), large(24));
        let place = usize::try_from(number).unwrap();
        let data = at + HEAD + path + other;
        let text = |from: usize, length: usize| {
            let text = self.octets.get(from..from + length)?;
            Some(String::from_utf8(text.to_vec()).unwrap())
        };
        let path_text = text(at + HEAD, path)?;
        let other_text = text(at + HEAD + path, other)?;
        self.octets.get(data..data + octets)?;
        let now = self.deeds.len();
        let deed = match kind {
            1 | 2 => {
                let file = *reader.files.get(&inode).expect("a file that was made before");
                self.changes[file].push(now);
                match kind {
                    1 => Deed::Write {
                        file,
                        at: place,
                        octets: data..data + octets,
                    },
                    _ => Deed::Cut { file, length: place },
                }
            }
            3 => {
                let sync = Sync {
                    began: now,
                    ended: None,
                };
                let file = match other_text.as_str() {
                    "/" => None,
                    _ => Some(*reader.files.get(&inode).expect("a file that was made before")),
                };
                let syncs = match file {
                    Some(file) => &mut self.file_syncs[file],
                    None => self.folder_syncs.entry(path_text.clone()).or_default(),
                };
                syncs.push(sync);
                reader.syncs.insert(number, (file, path_text, syncs.len() - 1));
                Deed::Sync
            }
            4 | 5 => {
                let (file, path, which) = reader.syncs.remove(&number).expect("a sync that had begun");
                let syncs = match file {
                    Some(file) => &mut self.file_syncs[file],
                    None => self.folder_syncs.get_mut(&path).unwrap(),
                };
                syncs[which].ended = Some((now, kind == 4));
                Deed::Sync
            }
            6 => {
                let file = self.changes.len();
                reader.files.insert(inode, file);
                self.changes.push(Vec::new());
                self.file_syncs.push(Vec::new());
                Deed::Make(path_text, Node::File(file))
            }
            7 => Deed::Make(path_text, Node::Folder),
            8 => Deed::Move(path_text, other_text),
            9 => Deed::Remove(path_text),
            10 => Deed::Link(path_text, other_text),
            other => panic!("an entry of kind {other}"),
        };
        self.deeds.push(deed);
        Some(data + octets)
    }

    /// How many things were done; a moment is the number of those before it.
    pub fn moments(&self) -> usize {
        self.deeds.len()
    }

    /// The first moment at which the journal had so many octets.
    pub fn moment_of(&self, length: u64) -> usize {
        self.ends.partition_point(|end| *end <= length)
    }

    /// The moments just before a sync of a file of this name ended: nothing of what it had to do is certain yet.
    pub fn before_syncs(&self, name: &str) -> Vec<usize> {
        let files = self.files_called(name).into_iter();
        let syncs = files.flat_map(|file| &self.file_syncs[file]);
        let mut moments: Vec<usize> = syncs.filter_map(|sync| sync.ended.map(|(at, _)| at)).collect();
        moments.sort_unstable();
        moments
    }

    /// How many syncs of files of this name have failed.
    pub fn failed_syncs(&self, name: &str) -> usize {
        let files = self.files_called(name).into_iter();
        let syncs = files.flat_map(|file| &self.file_syncs[file]);
        syncs.filter(|sync| sync.failed(usize::MAX)).count()
    }

    /// Where in the file of this name each write went that was not synced at this moment; nowhere, for what made the file
    /// shorter or longer.
    pub fn unsynced_writes(&self, name: &str, moment: usize) -> Vec<Range<usize>> {
        let file = self.files_called(name).into_iter().next_back();
        let Some(file) = file else { return Vec::new() };
        let pending = self.pending(file, moment);
        let place = |change: &usize| match &self.deeds[*change] {
            Deed::Write { at, octets, .. } => *at..at + octets.len(),
            _ => 0..0,
        };
        pending.iter().map(place).collect()
    }

    fn files_called(&self, name: &str) -> Vec<usize> {
        let made = |deed: &Deed| match deed {
            Deed::Make(path, Node::File(file)) if path.ends_with(&format!("/{name}")) => Some(*file),
            _ => None,
        };
        self.deeds.iter().filter_map(made).collect()
    }

    /// The changes of a file before this moment that no sync covers.
    fn pending(&self, file: usize, moment: usize) -> Vec<usize> {
        let floor = self.floor(file, moment);
        let changes = self.changes[file].iter().copied();
        changes
            .filter(|change| (floor..moment).contains(change))
            .collect()
    }

    /// What was done to a file before that is on the disk, but for what a failed sync has lost.
    fn floor(&self, file: usize, moment: usize) -> usize {
        let done = self.file_syncs[file].iter().filter(|sync| sync.done(moment));
        done.map(|sync| sync.began).max().unwrap_or(0)
    }

    /// Whether the first sync that should have covered this change failed.
    fn is_lost(&self, file: usize, change: usize, moment: usize) -> bool {
        let syncs = &self.file_syncs[file];
        let later = syncs.partition_point(|sync| sync.began <= change);
        syncs.get(later).is_some_and(|sync| sync.failed(moment))
    }

    /// Builds the folder as a power cut at this moment may leave it, in the empty folder `into`.
    pub fn image(&self, moment: usize, fate: Unsynced, end: Option<End<'_>>, luck: &mut Luck, into: &Path) {
        let names = self.names(moment, fate, luck);
        let mut there = BTreeSet::from([self.root.as_str()]);
        for (path, node) in &names {
            // A folder whose name is gone takes all below it along.
            if !path
                .rsplit_once('/')
                .is_some_and(|(above, _)| there.contains(above))
            {
                continue;
            }
            let place: PathBuf = into.join(path[self.root.len()..].trim_start_matches('/'));
            match node {
                Node::Folder => {
                    there.insert(path);
                    fs::create_dir(place).unwrap();
                }
                Node::File(file) => {
                    let end = end.filter(|end| path.ends_with(&format!("/{}", end.name)));
                    let octets = match end {
                        Some(end) => self.ended(*file, moment, end),
                        None => self.content(*file, moment, fate, luck),
                    };
                    fs::write(place, octets).unwrap();
                }
            }
        }
    }

    /// Which names there are.
    fn names(&self, moment: usize, fate: Unsynced, luck: &mut Luck) -> BTreeMap<String, Node> {
        let (mut live, mut left) = (BTreeMap::new(), BTreeMap::new());
        for (when, deed) in self.deeds[..moment].iter().enumerate() {
            let mut stays = |path: &str| {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let syncs = self.folder_syncs.get(folder).into_iter().flatten();
                let mut covering = syncs.filter(|sync| sync.began > when);
                covering.any(|sync| sync.done(moment))
                    || match fate {
                        Unsynced::Lost => false,
                        Unsynced::Kept => true,
                        Unsynced::Torn(_) => luck.below(2) == 0,
                    }
            };
            let (gone, made) = match deed {
                Deed::Make(path, node) => (None, Some((path, node.clone()))),
                Deed::Link(from, to) => (None, live.get(from).cloned().map(|node| (to, node))),
                Deed::Move(from, to) => (Some(from), live.get(from).cloned().map(|node| (to, node))),
                Deed::Remove(path) => (Some(path), None),
                Deed::Write { .. } | Deed::Cut { .. } | Deed::Sync => (None, None),
            };
            if let Some((path, node)) = made {
                if stays(path) {
                    left.insert(path.clone(), node.clone());
                }
                live.insert(path.clone(), node);
            }
            if let Some(path) = gone {
                live.remove(path);
                if stays(path) {
                    left.remove(path);
                }
            }
        }
        left
    }

    /// What of a file is certainly on the disk at this moment.
    fn synced(&self, file: usize, moment: usize) -> Vec<u8> {
        let floor = self.floor(file, moment);
        let mut octets = Vec::new();
        let mut lost: HashMap<usize, Vec<usize>> = HashMap::new();
        for change in self.changes[file]
            .iter()
            .copied()
            .filter(|change| *change < floor)
        {
            let pages = self.reach(change, octets.len(), PAGE);
            if self.is_lost(file, change, moment) {
                pages.for_each(|page| lost.entry(page).or_default().push(change));
                continue;
            }
            if !lost.is_empty() {
                for page in pages {
                    for earlier in lost.remove(&page).unwrap_or_default() {
                        self.apply(&mut octets, earlier, page * PAGE..(page + 1) * PAGE);
                    }
                }
            }
            self.apply(&mut octets, change, 0..usize::MAX);
        }
        octets
    }

    /// What a file holds after this moment.
    fn content(&self, file: usize, moment: usize, fate: Unsynced, luck: &mut Luck) -> Vec<u8> {
        let mut octets = self.synced(file, moment);
        let pending = self.pending(file, moment);
        let sector = match fate {
            Unsynced::Lost => return octets,
            Unsynced::Kept => {
                pending
                    .iter()
                    .for_each(|change| self.apply(&mut octets, *change, 0..usize::MAX));
                return octets;
            }
            Unsynced::Torn(_) if pending.is_empty() => return octets,
            Unsynced::Torn(sector) => sector,
        };
        let mut lengths = vec![octets.len()];
        let mut touched: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for change in &pending {
            let before = *lengths.last().unwrap();
            let reach = self.reach(*change, before, sector);
            reach.for_each(|sector| touched.entry(sector).or_default().push(*change));
            lengths.push(match &self.deeds[*change] {
                Deed::Write { at, octets, .. } => before.max(at + octets.len()),
                Deed::Cut { length, .. } => *length,
                _ => before,
            });
        }
        let length = lengths[luck.below(lengths.len())];
        // A write may break off within a sector, too.
        let torn = self.tear(*pending.last().unwrap(), luck);
        for (number, changes) in touched {
            let whole = number * sector..(number + 1) * sector;
            if let Some((change, tear)) = torn.filter(|(_, tear)| whole.contains(tear)) {
                let before = changes.iter().take_while(|earlier| **earlier < change);
                before.for_each(|earlier| self.apply(&mut octets, *earlier, whole.clone()));
                self.apply(&mut octets, change, whole.start..tear);
                continue;
            }
            let kept = luck.below(changes.len() + 1);
            changes[..kept]
                .iter()
                .for_each(|change| self.apply(&mut octets, *change, whole.clone()));
        }
        octets.resize(length, 0);
        octets
    }

    /// Where the last write breaks off, if it does.
    fn tear(&self, change: usize, luck: &mut Luck) -> Option<(usize, usize)> {
        match &self.deeds[change] {
            Deed::Write { at, octets, .. } if luck.below(2) == 0 => {
                Some((change, at + luck.below(octets.len())))
            }
            _ => None,
        }
    }

    /// What a file holds that ends so.
    fn ended(&self, file: usize, moment: usize, end: End<'_>) -> Vec<u8> {
        let mut octets = self.synced(file, moment);
        let pending = self.pending(file, moment);
        let synced = octets.len();
        let mut stops = synced;
        for (number, change) in pending.iter().enumerate() {
            let within = match &self.deeds[*change] {
                Deed::Write { at, .. } if number == end.writes => 0..at + end.octets,
                _ if number >= end.writes => break,
                _ => 0..usize::MAX,
            };
            self.apply(&mut octets, *change, within.clone());
            stops = match &self.deeds[*change] {
                Deed::Write { at, octets, .. } => within.end.min(at + octets.len()),
                _ => octets.len(),
            };
            if number == end.writes {
                break;
            }
        }
        if end.cut {
            // What is written over in place makes a file no shorter than it is known to be.
            octets.truncate(stops.max(synced));
        }
        octets
    }

    /// The sectors that a change touches in a file of this length.
    fn reach(&self, change: usize, length: usize, sector: usize) -> Range<usize> {
        match &self.deeds[change] {
            Deed::Write { at, octets, .. } => at / sector..(at + octets.len()).div_ceil(sector),
            Deed::Cut { length: new, .. } => new / sector..length.div_ceil(sector),
            _ => 0..0,
        }
    }

    /// Makes a change, as far as it is `within` these octets of the file.
    fn apply(&self, file: &mut Vec<u8>, change: usize, within: Range<usize>) {
        match &self.deeds[change] {
            Deed::Write { at, octets, .. } => {
                let (from, to) = ((*at).max(within.start), (at + octets.len()).min(within.end));
                if from >= to {
                    return;
                }
                if file.len() < to {
                    file.resize(to, 0);
                }
                let of = octets.start + (from - at)..octets.start + (to - at);
                file[from..to].copy_from_slice(&self.octets[of]);
            }
            Deed::Cut { length, .. } if within.end == usize::MAX => file.resize(*length, 0),
            Deed::Cut { length, .. } => {
                let (from, to) = ((*length).max(within.start), within.end.min(file.len()));
                if from < to {
                    file[from..to].fill(0);
                }
            }
            _ => {}
        }
    }
}

/// What is known while a journal is read.
#[derive(Default)]
struct Reader {
    /// Which file an inode is at present: one that is gone is given again.
    files: HashMap<u64, usize>,
    /// The syncs under way: their file or folder, and which of its syncs it is.
    syncs: HashMap<u64, (Option<usize>, String, usize)>,
}
