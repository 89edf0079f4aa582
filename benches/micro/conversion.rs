//! What imsgcnv reads in a message.

use divan::Bencher;
use divan::counter::ItemsCount;
use smtpmta::conversion::from_internet::StructureReader;

use crate::letters::{Form, Letter};

/// Octets of a read.
const PIECE: usize = 32 * 1024;

const LETTERS: [Letter; 4] = [
    Letter {
        form: Form::Plain,
        size: 4 << 10,
    },
    Letter {
        form: Form::Parts,
        size: 4 << 10,
    },
    Letter {
        form: Form::Plain,
        size: 1 << 20,
    },
    Letter {
        form: Form::Parts,
        size: 1 << 20,
    },
];

/// Header fields, parts and attachments.
#[divan::bench(args = LETTERS)]
fn structure_reader(bencher: Bencher<'_, '_>, letter: Letter) {
    let content = letter.content();
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        let mut reader = StructureReader::default();
        content.chunks(PIECE).for_each(|piece| reader.feed(piece));
        reader.finish()
    });
}
