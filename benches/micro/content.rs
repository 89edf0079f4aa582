//! Content that goes by: dots off and on, chunks, and the watch over the header. In pieces as a handler reads them.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use smtpmta::inbound::header::HeaderWatch;
use smtpmta::smtp::data::{ChunkChecker, Decoder, Encoder};

use crate::letters::{Form, Letter};

/// Octets of a read.
const PIECE: usize = 16 * 1024;

const LETTERS: [Letter; 4] = [
    Letter {
        form: Form::Plain,
        size: 4 << 10,
    },
    Letter {
        form: Form::Dots,
        size: 4 << 10,
    },
    Letter {
        form: Form::Plain,
        size: 1 << 20,
    },
    Letter {
        form: Form::Dots,
        size: 1 << 20,
    },
];

/// After DATA: dots off, faults and the end found.
#[divan::bench(args = LETTERS)]
fn decoder(bencher: Bencher<'_, '_>, letter: Letter) {
    let wire = letter.on_the_wire();
    bencher.counter(BytesCount::new(wire.len())).bench_local(|| {
        let mut decoder = Decoder::new();
        for piece in wire.chunks(PIECE) {
            decoder.decode(piece, &mut |slice| _ = black_box(slice));
        }
        assert!(decoder.fault().is_none());
    });
}

/// After BDAT: faults found.
#[divan::bench(args = LETTERS)]
fn chunk_checker(bencher: Bencher<'_, '_>, letter: Letter) {
    let content = letter.content();
    bencher.counter(BytesCount::new(content.len())).bench_local(|| {
        let mut checker = ChunkChecker::text();
        content.chunks(PIECE).for_each(|piece| checker.check(piece));
        assert!(checker.fault_at_end().is_none());
    });
}

/// Received fields counted. Nothing is looked at behind the header.
#[divan::bench(args = [LETTERS[0], LETTERS[2]])]
fn header_watch(bencher: Bencher<'_, '_>, letter: Letter) {
    let content = letter.content();
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        watch(HeaderWatch::relay(), &content);
    });
}

/// The same, and Date and Message-ID looked for.
#[divan::bench(args = [LETTERS[0], LETTERS[2]])]
fn header_watch_of_a_submission(bencher: Bencher<'_, '_>, letter: Letter) {
    let content = letter.content();
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        let date = "Mon, 23 Nov 2026 10:00:00 +0000";
        watch(HeaderWatch::submission(date, "<1@univac.com>"), &content);
    });
}

fn watch(mut watch: HeaderWatch, content: &[u8]) {
    for piece in content.chunks(PIECE) {
        watch.feed(piece, &mut |slice| _ = black_box(slice));
    }
    watch.finish(&mut |slice| _ = black_box(slice));
    assert_eq!(watch.received_fields(), 0);
}

/// On its way out: dots on, and the end. Into a buffer that is used again, as the outbound handler does.
#[divan::bench(args = LETTERS)]
fn encoder(bencher: Bencher<'_, '_>, letter: Letter) {
    let content = letter.content();
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(content.len())).bench_local(|| {
        let mut encoder = Encoder::new();
        for piece in content.chunks(PIECE) {
            out.clear();
            encoder.encode(piece, &mut out);
            black_box(&out);
        }
        encoder.finish(&mut out);
    });
}
