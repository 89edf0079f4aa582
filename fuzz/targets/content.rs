//! Content in any reads: the decoder, the checker of chunks and the encoder, each against a reference that is too
//! simple to be wrong.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::smtp::data::{ChunkChecker, ContentFault, Decoder, Encoder};
use smtpmta_fuzz::reads::{joined, reads};

fuzz_target!(|data: &[u8]| {
    let whole = joined(data);
    check_decoder(data, &whole);
    check_chunks(data, &whole);
    check_encoder(data, &whole);
});

/// What came out of content, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    content: Vec<u8>,
    fault: Option<ContentFault>,
    consumed: usize,
    finished: bool,
}

/// RFC 5321 4.5.2, read aloud: the end is the first CRLF.CRLF, where what came before counts as CRLF; then a dot goes
/// at the start of each line, and a line starts after CRLF and nowhere else.
fn reference(input: &[u8]) -> Said {
    let wire = [b"\r\n", input].concat();
    let end = wire.windows(5).position(|octets| octets == b"\r\n.\r\n");
    let text = &wire[..end.map_or(wire.len(), |at| at + 2)];
    let mut content = Vec::new();
    for at in 2..text.len() {
        if text[at] != b'.' || text[at - 2..at] != *b"\r\n" {
            content.push(text[at]);
        }
    }
    Said {
        fault: first_fault(&text[2..], end.is_some()),
        content,
        consumed: end.map_or(input.len(), |at| at + 5 - 2),
        finished: end.is_some(),
    }
}

/// The first octet in the wrong place. A CR at the end is one if nothing follows.
fn first_fault(text: &[u8], is_all: bool) -> Option<ContentFault> {
    (0..text.len()).find_map(|at| match text[at] {
        0 => Some(ContentFault::Nul),
        b'\n' if at == 0 || text[at - 1] != b'\r' => Some(ContentFault::BareLf),
        b'\r' => match text.get(at + 1) {
            Some(b'\n') => None,
            Some(_) => Some(ContentFault::BareCr),
            None => is_all.then_some(ContentFault::BareCr),
        },
        _ => None,
    })
}

fn decoded<'i>(reads: impl Iterator<Item = &'i [u8]>) -> Said {
    let mut decoder = Decoder::new();
    let mut said = Said {
        content: Vec::new(),
        fault: None,
        consumed: 0,
        finished: false,
    };
    for read in reads {
        let decoded = decoder.decode(read, &mut |piece| {
            assert!(!piece.is_empty());
            said.content.extend_from_slice(piece);
        });
        assert!(decoded.consumed == read.len() || decoded.finished);
        assert!(!said.finished || decoded.consumed == 0, "taken after the end");
        said.consumed += decoded.consumed;
        said.finished |= decoded.finished;
        assert_eq!(decoder.size(), said.content.len() as u64);
    }
    said.fault = decoder.fault();
    said
}

fn check_decoder(data: &[u8], whole: &[u8]) {
    let mut expected = reference(whole);
    let said = decoded(reads(data));
    if !expected.finished {
        // What may still become the end is kept back: it is at most a dot and a CR.
        let held = expected.content.len() - said.content.len();
        let tail = expected.content.split_off(said.content.len());
        assert!(held <= 1 && b"\r".starts_with(&tail), "{tail:?} kept back");
    }
    assert_eq!(said, expected);
    assert_eq!(said, decoded([whole].into_iter()));
    assert_eq!(said, decoded(whole.chunks(1)));
    if said.finished && said.fault.is_none() {
        assert_eq!(
            first_fault(&said.content, true),
            None,
            "a fault that dots had hidden"
        );
    }
}

fn check_chunks(data: &[u8], whole: &[u8]) {
    for pieces in [reads(data).collect(), vec![whole], whole.chunks(1).collect()] {
        let (mut text, mut binary) = (ChunkChecker::text(), ChunkChecker::binary());
        for piece in pieces {
            text.check(piece);
            binary.check(piece);
        }
        assert_eq!(
            (text.size(), binary.size()),
            (whole.len() as u64, whole.len() as u64)
        );
        assert_eq!(text.fault(), first_fault(whole, false));
        assert_eq!(text.fault_at_end(), first_fault(whole, true));
        assert_eq!((binary.fault(), binary.fault_at_end()), (None, None));
    }
}

fn check_encoder(data: &[u8], whole: &[u8]) {
    let encoded = |pieces: Vec<&[u8]>| {
        let mut encoder = Encoder::new();
        let mut wire = Vec::new();
        pieces.iter().for_each(|piece| encoder.encode(piece, &mut wire));
        encoder.finish(&mut wire);
        wire
    };
    let wire = encoded(reads(data).collect());
    assert_eq!(wire, encoded(vec![whole]));
    assert_eq!(wire, encoded(whole.chunks(1).collect()));

    // Whoever reads it, however loosely, sees one message in it.
    let read = reference(&wire);
    assert!(
        read.finished && read.consumed == wire.len() && read.fault.is_none(),
        "{read:?}"
    );
    let loosely: Vec<u8> = wire
        .iter()
        .copied()
        .filter(|octet| !b"\r\0".contains(octet))
        .collect();
    let ends = loosely
        .split(|octet| *octet == b'\n')
        .filter(|line| line == b".")
        .count();
    assert_eq!(ends, 1, "another end for somebody else");

    let is_clean = first_fault(whole, true).is_none() && (whole.is_empty() || whole.ends_with(b"\r\n"));
    if is_clean {
        assert_eq!(read.content, whole);
    }
}
