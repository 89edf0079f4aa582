//! The structure of a message of any octets: bounded, clean, and the same wherever the reads fall.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::conversion::from_internet::{Structure, StructureReader};
use smtpmta_fuzz::reads::{joined, reads};

fuzz_target!(|data: &[u8]| {
    let whole = joined(data);
    let found = Structure::of(&whole);
    assert_eq!(found, read(reads(data)));
    assert_eq!(found, read(whole.chunks(1)));
    let text = format!("{found:?}");
    assert!(!text.contains(char::is_control));
    assert!(text.len() <= 200_000, "{} octets", text.len());
});

fn read<'i>(reads: impl Iterator<Item = &'i [u8]>) -> Structure {
    let mut reader = StructureReader::default();
    reads.for_each(|read| reader.feed(read));
    reader.finish()
}
