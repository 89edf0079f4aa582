//! Mail moves to another spool, step by step, with anything else between two of these: the file of an export holds what
//! the memory says, nobody touches that meanwhile, and all of it comes to the other spool, once for each export.

use std::collections::BTreeSet;
use std::path::Path;

use super::memory::Message;
use super::*;
use crate::work_queue::parcel::{Head, Letter, Parcel, ParcelError};

/// An export, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Export {
    /// Nothing is put aside for it any more.
    pub(super) is_sealed: bool,
    /// Its file, once that was written.
    pub(super) file: Option<Vec<u8>>,
    /// What is in its file has ended.
    pub(super) has_ended: bool,
    /// It came to the other spool.
    came: bool,
}

/// A recipient in the file of an export: number, path and standing, attempts, NOTIFY, and the alias of which it came.
type Packed = (u32, String, State, u32, Option<u8>, Option<u32>);

/// What a file holds.
fn read(file: &[u8]) -> Vec<(Letter, usize)> {
    let mut parcel = Parcel::open(file).unwrap();
    let mut letters = Vec::new();
    while let Some(letter) = parcel.next_letter().unwrap() {
        let mut octets = 0;
        let take = |piece: &[u8]| {
            octets += piece.len();
            Ok::<(), ParcelError>(())
        };
        parcel.content(take).unwrap();
        letters.push((letter, octets));
    }
    letters
}

/// What the file of `export` has to hold of a message.
fn expected(export: ExportId, message: &Message) -> Vec<Packed> {
    let moves = |member: &Member| member.aside.is_some_and(|(whose, _)| whose == export);
    let leaving = message.recipients.iter().filter(|member| moves(member));
    let aliases: BTreeSet<u32> = leaving.filter_map(|member| member.parent).collect();
    let mut packed = Vec::new();
    for (n, member) in (0..).zip(&message.recipients) {
        let (state, parent) = match member.aside {
            Some((whose, was @ (State::Held | State::Dead))) if whose == export => (was, member.parent),
            Some((whose, _)) if whose == export => (State::PendingConversion, member.parent),
            _ if aliases.contains(&n) => (State::Expanded, None),
            _ => continue,
        };
        packed.push((
            n,
            member.path.clone(),
            state,
            member.attempts,
            member.notify,
            parent,
        ));
    }
    packed
}

impl Machine {
    /// An operator puts some messages aside, for an export that has begun or for a new one.
    pub(super) fn put_aside(&mut self, dice: &mut Dice) {
        let begun: Vec<ExportId> = self.memory.exports.keys().copied().collect();
        let new = ExportId(self.memory.exports_begun + 1);
        let export = match dice.one_in(3) {
            true => new,
            false => dice.of(&begun).unwrap_or(new),
        };
        if export == new {
            self.memory.exports_begun += 1;
        }
        self.memory.exports.entry(export).or_default();
        let ids: Vec<_> = self.memory.messages.keys().copied().collect();
        let some: BTreeSet<MessageId> = (0..=dice.below(4)).filter_map(|_| dice.of(&ids)).collect();
        let some: Vec<_> = some.into_iter().collect();
        self.note((export, &some));
        let expected = self.memory.by_hand(&ByHand::PutAside(export), &some);
        let choice = Choice::of_messages(some);
        let done = self
            .world
            .queue
            .put_aside(export, Path::new("/tmp/moved"), &choice, "somebody");
        assert_eq!(done.unwrap(), expected);
    }

    /// The next step of an export is taken; some are taken a second time.
    pub(super) fn move_on(&mut self, dice: &mut Dice) {
        let begun: Vec<ExportId> = self.memory.exports.keys().copied().collect();
        let Some(export) = dice.of(&begun) else { return };
        self.note(export);
        let how_far = &self.memory.exports[&export];
        match (how_far.is_sealed, &how_far.file, how_far.has_ended) {
            (false, ..) => self.seal(export, dice.one_in(3)),
            (true, None, _) if dice.one_in(4) => self.seal(export, false),
            (true, None, _) => self.pack(export),
            (true, Some(_), false) if dice.one_in(4) => self.pack(export),
            (true, Some(_), false) => self.end_export(export),
            (true, Some(_), true) if dice.one_in(4) => self.end_export(export),
            (true, Some(_), true) => self.bring_in(export),
        }
    }

    fn seal(&mut self, export: ExportId, anyway: bool) {
        let relay = self.relay.load(Ordering::SeqCst);
        let usual = |path: &str| next_hop(&mailbox(path), relay);
        let expected = self.memory.seal(export, anyway, self.world.queue.now(), usual);
        assert_eq!(self.world.queue.seal(export, anyway).unwrap(), expected);
    }

    /// Written once or twice, it holds the same recipients: nobody touches these. History goes on for the others.
    fn pack(&mut self, export: ExportId) {
        let head = Head {
            export,
            host: "one.test".to_owned(),
            made: 0,
        };
        let (file, packed) = pack(self.world.folder.path(), &head, Vec::new()).unwrap();
        let mut found = Vec::new();
        for (letter, octets) in read(&file) {
            assert_eq!(letter.size, octets as u64);
            assert_eq!(
                letter.from.is_empty(),
                self.memory.messages[&letter.id].null_sender
            );
            let people = letter.recipients.into_iter().map(|person| {
                (
                    person.n,
                    person.path,
                    person.state,
                    person.attempts,
                    person.notify,
                    person.parent,
                )
            });
            found.push((letter.id, people.collect::<Vec<Packed>>()));
        }
        let messages = self.memory.messages.iter();
        let expected: Vec<_> = messages
            .map(|(id, message)| (*id, expected(export, message)))
            .filter(|(_, people)| !people.is_empty())
            .collect();
        assert_eq!(found, expected, "what the file of {export} holds");
        assert_eq!(packed.messages, expected.len() as u64);
        self.memory.exports.get_mut(&export).expect("it has begun").file = Some(file);
    }

    fn end_export(&mut self, export: ExportId) {
        let expected = self.memory.end_export(export);
        let ended = self.world.queue.end_export(export, "somebody").unwrap();
        assert_eq!(ended, expected);
    }

    /// An operator gives an export up, whatever has come of it.
    pub(super) fn give_up_export(&mut self, dice: &mut Dice) {
        let begun: Vec<ExportId> = self.memory.exports.keys().copied().collect();
        let Some(export) = dice.of(&begun) else { return };
        self.note(export);
        let expected = self.memory.cancel_export(export);
        let cancelled = self.world.queue.cancel_export(export, "somebody").unwrap();
        assert_eq!(cancelled, expected);
    }

    /// It comes to the other spool; a second time that has all of it.
    fn bring_in(&mut self, export: ExportId) {
        let known = self.memory.exports.get_mut(&export).expect("it has begun");
        let file = known.file.as_ref().expect("it was written");
        let letters = read(file);
        let there = self.there.get_or_insert_with(World::new);
        fs::write(staged(there.folder.path(), export), file).unwrap();
        let came = there.queue.take_in(export, 0, "somebody").unwrap();
        let is_new = !std::mem::replace(&mut known.came, true);
        let people = |letters: &[(Letter, usize)]| -> Vec<(String, u8)> {
            let people = letters.iter().flat_map(|(letter, _)| &letter.recipients);
            people
                .map(|person| (person.path.clone(), person.state.number()))
                .collect()
        };
        let counted = match is_new {
            true => (letters.len(), 0),
            false => (0, letters.len()),
        };
        assert_eq!(
            (came.messages, came.known, came.is_done),
            (counted.0, counted.1, true)
        );
        if is_new {
            self.moved.extend(people(&letters));
            self.moved.sort_unstable();
        }
        let db = rusqlite::Connection::open(there.folder.path().join("queue.db")).unwrap();
        let mut query = db
            .prepare("SELECT path, state FROM recipient ORDER BY path, state")
            .unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let there: Vec<(String, u8)> = rows.unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(there, self.moved, "who is in the other spool");
    }
}
