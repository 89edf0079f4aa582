//! What goes to the Internet, made of any octets: whole lines, the same wherever the reads fall, and complete.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::conversion::to_internet::{Completer, Facts};
use smtpmta::smtp::data::ChunkChecker;
use smtpmta::smtp::path::ReversePath;
use smtpmta::work_queue::id::MessageId;
use smtpmta_fuzz::reads::{joined, reads};

fuzz_target!(|data: &[u8]| {
    let whole = joined(data);
    let completed = complete(reads(data));
    assert_eq!(completed, complete([&*whole].into_iter()));
    assert_eq!(completed, complete(whole.chunks(1)));
    assert_eq!(completed, complete([&*completed].into_iter()), "not complete yet");
    assert!(completed.ends_with(b"\r\n"));
    if !whole.contains(&0) {
        let mut checker = ChunkChecker::text();
        checker.check(&completed);
        assert_eq!(checker.fault_at_end(), None);
    }
    let header = completed.windows(4).position(|octets| octets == b"\r\n\r\n");
    let header = completed[..header.unwrap_or(completed.len())].to_ascii_lowercase();
    for line in header.split(|octet| *octet == b'\n') {
        assert!(
            !line.starts_with(b"bcc:") && !line.starts_with(b"return-path:"),
            "{}",
            header.escape_ascii()
        );
    }
});

fn complete<'i>(reads: impl Iterator<Item = &'i [u8]>) -> Vec<u8> {
    let mut completer = Completer::new(Facts {
        date: "Mon, 1 Jan 2024 00:00:00 +0000".to_owned(),
        hostname: "mail.example.org".to_owned(),
        id: MessageId(1),
        sender: ReversePath("bob@example.org".parse().ok()),
    });
    let mut out = Vec::new();
    reads.for_each(|read| completer.feed(read, &mut out));
    completer.finish(&mut out);
    out
}
