//! The watch over a header, in any reads: relayed content goes through as it is, a submission gets what it lacks in one
//! place, and the reads make no difference.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::inbound::header::HeaderWatch;
use smtpmta_fuzz::reads::{joined, reads};

fuzz_target!(|data: &[u8]| {
    let whole = joined(data);
    let (relayed, seen) = watched(HeaderWatch::relay(), reads(data).collect());
    assert_eq!(relayed, whole);
    assert_eq!(seen, reference(&whole));
    assert_eq!(seen, watched(HeaderWatch::relay(), vec![&whole]).1);
    assert_eq!(seen, watched(HeaderWatch::relay(), whole.chunks(1).collect()).1);

    let (completed, in_submission) = watched(submission(), reads(data).collect());
    assert_eq!(in_submission, seen);
    assert_eq!(completed, watched(submission(), vec![&whole]).0);
    assert_eq!(completed, watched(submission(), whole.chunks(1).collect()).0);
    check_completed(&whole, &completed, seen);
    // Nothing is missing any more.
    let (again, (received, has_date, has_message_id)) = watched(submission(), vec![&completed]);
    assert_eq!(again, completed);
    assert_eq!((received, has_date, has_message_id), (seen.0, true, true));
});

/// Received fields, whether there was a Date, and a Message-ID.
type Seen = (usize, bool, bool);

/// RFC 5322 2.1, read aloud: fields, one for each line that begins with a name and a colon, up to the first line that
/// is neither that nor more of the field before.
fn reference(content: &[u8]) -> Seen {
    let (mut seen, mut in_field) = ((0, false, false), false);
    for line in content.split(|octet| *octet == b'\n') {
        if in_field && line.first().is_some_and(|octet| b" \t".contains(octet)) {
            continue;
        }
        let is_name = |octet: &u8| (33..=126).contains(octet) && *octet != b':';
        let length = line.iter().take_while(|octet| is_name(octet)).count();
        let rest = &line[length..];
        let blanks = rest.iter().take_while(|octet| b" \t".contains(octet)).count();
        // Nobody looks further for a colon than a line may be long.
        if length == 0 || rest.get(blanks) != Some(&b':') || length + blanks > 998 {
            break;
        }
        in_field = true;
        match line[..length].to_ascii_lowercase().as_slice() {
            b"received" => seen.0 += 1,
            b"date" => seen.1 = true,
            b"message-id" => seen.2 = true,
            _ => {}
        }
    }
    seen
}

fn submission() -> HeaderWatch {
    HeaderWatch::submission("Mon, 1 Jan 2024 00:00:00 +0000", "<1@mail.example.org>")
}

fn watched(mut watch: HeaderWatch, pieces: Vec<&[u8]>) -> (Vec<u8>, Seen) {
    let mut out = Vec::new();
    for piece in pieces {
        watch.feed(piece, &mut |piece| out.extend_from_slice(piece));
    }
    watch.finish(&mut |piece| out.extend_from_slice(piece));
    (
        out,
        (watch.received_fields(), watch.has_date(), watch.has_message_id()),
    )
}

/// All that came is still there, with one thing put in between.
fn check_completed(whole: &[u8], completed: &[u8], (_, has_date, has_message_id): Seen) {
    let added = completed.len() - whole.len();
    let same = whole
        .iter()
        .zip(completed)
        .take_while(|(one, other)| one == other)
        .count();
    let rest = whole.iter().rev().zip(completed.iter().rev());
    let same_at_end = rest.take_while(|(one, other)| one == other).count();
    assert!(same + same_at_end >= whole.len(), "something is lost");
    let date = if has_date {
        0
    } else {
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n".len()
    };
    let message_id = if has_message_id {
        0
    } else {
        "Message-ID: <1@mail.example.org>\r\n".len()
    };
    // And perhaps the end of a line before it, or an empty line after it.
    let lines = if date + message_id == 0 { 0..=0 } else { 0..=2 };
    assert!(lines.contains(&(added - date - message_id)), "{added} octets");
}
