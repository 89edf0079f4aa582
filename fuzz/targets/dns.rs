//! What a DNS server sends back: any octets, and octets that pass for an answer to our question.
//!
//! The first octet says what was asked for, and how much of the answer is right already.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use smtpmta::dns::message::{self, Answer, Reading, Record};

/// Record types as they stand on the wire.
const TYPES: [u16; 4] = [1, 15, 28, 12];
/// Octets of a header.
const HEADER: usize = 12;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    if let Ok(text) = str::from_utf8(rest)
        && let Some(name) = message::name(text)
    {
        assert_eq!(message::name(&name.to_string()), Some(name));
    }
    if let Some(octets) = rest.first_chunk::<16>() {
        let _ = message::reverse_name(IpAddr::from(*octets));
    }
    let rtype = TYPES[usize::from(choice & 3)];
    let name = message::name("example.org").expect("this is a name");
    let question = message::question(0x0707, &name, rtype.into(), choice & 4 == 0);
    let mut octets = rest.to_vec();
    if choice & 8 == 0 {
        // Our ID and the bit that says "answer", and our question behind the header.
        octets.resize(octets.len().max(HEADER), 0);
        octets[..2].copy_from_slice(&question[..2]);
        octets[2] |= 0x80;
        octets[4..6].copy_from_slice(&[0, 1]);
        let end = HEADER + "\x07example\x03org\0".len() + 4;
        let asked = question[HEADER..end].to_vec();
        octets.splice(HEADER..HEADER, asked);
    }
    match message::read(&question, &octets) {
        Reading::Answer(Answer::Records(records), _) => {
            assert!(!records.is_empty());
            assert!(records.iter().all(|record| match (record, rtype) {
                (Record::Mx(..), 15) | (Record::Name(_), 12) => true,
                (Record::Address(address), 1) => address.is_ipv4(),
                (Record::Address(address), 28) => address.is_ipv6(),
                _ => false,
            }));
        }
        Reading::Answer(_, keep) => assert!(keep.as_secs() <= u64::from(u32::MAX / 2)),
        Reading::NotOurs | Reading::Truncated | Reading::Refusal(_) | Reading::Garbled(_) => {}
    }
});
