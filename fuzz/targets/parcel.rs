//! The file that `queue import` reads, from somebody who is no friend: what is refused is refused in clean words, with a
//! place that is in the file. What is not says the same when it is written again, and read from wherever a message ends;
//! it comes into a work queue, once, which is in order then; and all of that can be exported again, and is what came.
//!
//! Whoever makes such a file by hand makes its sums fit, and so they are made here, with the end line; where the input
//! begins with 0xFD the file is what stands behind it, as it is.

#![no_main]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use libfuzzer_sys::fuzz_target;
use smtpmta::clock::{Clock, Stamp};
use smtpmta::console::{screen, trace, verdict};
use smtpmta::work_queue::parcel::{Head, Letter, Packer, Parcel, ParcelError};
use smtpmta::work_queue::states::State;
use smtpmta::work_queue::{Choice, ExportId, Moved, WorkQueue, pack, staged, verify};

fuzz_target!(|data: &[u8]| {
    let file = match data.strip_prefix(&[0xFD]) {
        Some(file) => file.to_vec(),
        None => made_to_fit(data),
    };
    match read(&file) {
        Ok((head, things)) => {
            written_again(&file, &head, &things);
            brought_in(&file, &head, &things);
        }
        Err(error) => {
            let told = error.to_string();
            if std::env::var_os("TELL").is_some() {
                eprintln!("{told}");
            }
            assert!(!told.is_empty() && !told.contains(char::is_control), "{told:?}");
            let ParcelError::Wrong { at, .. } = error else {
                panic!("memory can be read: {told}");
            };
            assert!(at <= file.len() as u64, "{told}");
        }
    }
});

/// A message, its content, and where it ends in the file.
struct Thing {
    letter: Letter,
    content: Vec<u8>,
    end: u64,
}

/// The file, with sums that fit, and an end line that says what it holds.
fn made_to_fit(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut sum, mut sums) = (Context::new(&SHA256), Context::new(&SHA256));
    let (mut messages, mut recipients) = (0, 0);
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.iter().position(|octet| *octet == b'\n');
        let (line, behind) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = behind;
        if line.starts_with(b"sum ") {
            let told = std::mem::replace(&mut sum, Context::new(&SHA256)).finish();
            sums.update(told.as_ref());
            out.extend(format!("sum {}\n", HEXLOWER.encode(told.as_ref())).into_bytes());
            continue;
        }
        if line.starts_with(b"end ") {
            let told = HEXLOWER.encode(sums.clone().finish().as_ref());
            let end = format!(r#"end {{"messages":{messages},"recipients":{recipients},"sum":"{told}"}}"#);
            out.extend(end.into_bytes());
            out.push(b'\n');
            continue;
        }
        let words = String::from_utf8_lossy(line);
        messages += u64::from(words.starts_with("message "));
        recipients += u64::from(words.starts_with("recipient ") && !words.contains("expanded"));
        // What stands in content is no line of ours.
        let size = words
            .strip_prefix("content ")
            .and_then(|size| size.trim_end().parse().ok());
        let size = size.map_or(0, |size: usize| size.saturating_add(1).min(rest.len()));
        let (content, behind) = rest.split_at(size);
        rest = behind;
        for octets in [line, content] {
            sum.update(octets);
            out.extend_from_slice(octets);
        }
    }
    out
}

/// All of a file that is whole.
fn read(file: &[u8]) -> Result<(Head, Vec<Thing>), ParcelError> {
    let mut parcel = Parcel::open(file)?;
    let mut things = Vec::new();
    while let Some(letter) = parcel.next_letter()? {
        let mut content = Vec::new();
        parcel.content(|piece| {
            content.extend_from_slice(piece);
            Ok::<(), ParcelError>(())
        })?;
        assert_eq!(letter.size, content.len() as u64);
        things.push(Thing {
            letter,
            content,
            end: parcel.at(),
        });
    }
    let recipients = things.iter().map(|thing| thing.letter.moving()).sum();
    assert_eq!(parcel.counted(), (things.len() as u64, recipients));
    Ok((parcel.head().clone(), things))
}

/// Whatever way it is written down, it says the same; and so does the rest of it, from wherever a message ends.
fn written_again(file: &[u8], head: &Head, things: &[Thing]) {
    let mut packer = Packer::begin(Vec::new(), head).expect("a head");
    for Thing { letter, content, .. } in things {
        packer.add(letter, &mut &**content).expect("a message");
    }
    let (again, ..) = packer.finish().expect("an end");
    let (other_head, others) = read(&again).expect("we wrote it");
    assert_eq!(&other_head, head);
    assert_eq!(others.len(), things.len());
    for (other, thing) in others.iter().zip(things) {
        assert_eq!((&other.letter, &other.content), (&thing.letter, &thing.content));
    }
    for (place, thing) in things.iter().enumerate() {
        let mut parcel = Parcel::open(Cursor::new(file)).expect("it is whole");
        parcel.skip_to(thing.end).expect("it has so many octets");
        let left = parcel.check().expect("it is whole").0;
        assert_eq!(left, (things.len() - place - 1) as u64);
    }
}

/// It comes into a work queue, once, and goes out again as it came.
fn brought_in(file: &[u8], head: &Head, things: &[Thing]) {
    let spool = folder();
    let queue = WorkQueue::open(&spool, Clock::manual(Stamp(1_700_000_000_000_000))).expect("a new queue");
    fs::write(staged(&spool, head.export), file).expect("a file can be written");
    let recipients = things.iter().map(|thing| thing.letter.moving() as usize).sum();
    let came = Moved {
        messages: things.len(),
        recipients,
        is_done: true,
        ..Moved::default()
    };
    assert_eq!(queue.take_in(head.export, 0, "root").expect("it is whole"), came);
    let known = Moved {
        known: things.len(),
        is_done: true,
        ..Moved::default()
    };
    assert_eq!(queue.take_in(head.export, 0, "root").expect("it is whole"), known);
    let verdict = verify(&spool, true).expect("the tables can be read");
    assert!(verdict.is_in_order(), "{verdict:#?}");
    shown(&verdict::verdict(&verdict));
    let everything = Choice::default();
    let listing = queue.listing(&everything, 1000).expect("it can be read");
    shown(&screen::listing(&listing, queue.now()));
    let traces = listing
        .rows
        .iter()
        .map(|row| queue.trace(row.id).expect("it can be read"));
    let traces: Vec<_> = traces.map(|trace| trace.expect("it is there")).collect();
    shown(&trace::traces(&traces, false, queue.now()));
    let other = ExportId(!head.export.0);
    let done = queue.put_aside(other, Path::new("/moved"), &everything, "root");
    assert_eq!(done.expect("it is sound").recipients, recipients);
    assert!(queue.seal(other, false).expect("it is sound").is_done);
    let head = Head {
        export: other,
        ..head.clone()
    };
    let (again, packed) = pack(&spool, &head, Vec::new()).expect("all of it is there");
    assert_eq!(packed.recipients, recipients as u64);
    let (_, others) = read(&again).expect("we wrote it");
    assert_eq!(sorted(&others), sorted(things));
    assert!(queue.end_export(other, "root").expect("it is sound").is_done);
    let verdict = verify(&spool, true).expect("the tables can be read");
    assert!(verdict.is_in_order(), "{verdict:#?}");
    queue.close();
    let _ = fs::remove_dir_all(&spool);
}

/// What of messages is the same in another spool: recipients have other numbers there, and messages may have other IDs. An
/// alias of which nobody came stays behind, and so does the moment at which somebody was given up who waits again.
fn sorted(things: &[Thing]) -> Vec<String> {
    let told = |Thing { letter, content, .. }: &Thing| {
        let Letter {
            from,
            numbers,
            texts,
            recipients,
            ..
        } = letter;
        let is_meant = |alias: u32| recipients.iter().any(|person| person.parent == Some(alias));
        let mut people = recipients.clone();
        people.retain(|person| person.state != State::Expanded || is_meant(person.n));
        let places: Vec<u32> = people.iter().map(|person| person.n).collect();
        let place = |n: u32| {
            (0..)
                .zip(&places)
                .find(|(_, of)| **of == n)
                .map(|(place, _)| place)
        };
        for person in &mut people {
            person.n = place(person.n).expect("its own");
            person.parent = person.parent.and_then(place);
            if !matches!(person.state, State::Dead | State::Expanded) {
                person.settled = None;
            }
        }
        format!("{from} {numbers:?} {texts:?} {people:?} {content:?}")
    };
    let mut told: Vec<String> = things.iter().map(told).collect();
    told.sort_unstable();
    told
}

/// An empty folder, in memory where there is such a place.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    let folder = place.join(format!("smtpmta-fuzz-{}-import", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// What is shown to an operator has lines, and nothing else that a terminal would obey.
fn shown(screen: &screen::Screen) {
    let text = &screen.text;
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let _ = screen.json.to_string();
}
