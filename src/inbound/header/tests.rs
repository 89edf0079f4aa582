use super::*;
use proptest::prelude::*;

const DATE: &str = "Mon, 23 Nov 2026 19:20:01 +0000";
const ID: &str = "<0000000000001234@eniac.lotus.com>";

/// What both lines together look like.
const BOTH: &str = "Date: Mon, 23 Nov 2026 19:20:01 +0000\r\n\
                    Message-ID: <0000000000001234@eniac.lotus.com>\r\n";

fn submission() -> HeaderWatch {
    HeaderWatch::submission(DATE, ID)
}

/// What comes out of pieces, and the number of slices.
fn through<'a>(watch: &mut HeaderWatch, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, usize) {
    let (mut whole, mut slices) = (Vec::new(), 0);
    let mut out = |slice: &[u8]| {
        whole.extend_from_slice(slice);
        slices += 1;
    };
    for piece in pieces {
        watch.feed(piece, &mut out);
        assert!(watch.start.len() <= LONGEST_NAME);
    }
    watch.finish(&mut out);
    (whole, slices)
}

fn submitted(content: &str) -> String {
    let (whole, _) = through(&mut submission(), [content.as_bytes()]);
    String::from_utf8(whole).unwrap()
}

fn received(content: &str) -> usize {
    let mut watch = HeaderWatch::relay();
    through(&mut watch, [content.as_bytes()]);
    watch.received_fields()
}

#[test]
fn received_fields_are_counted_in_any_case_and_in_the_header_only() {
    let content = "Received: a\r\n\tReceived: folded\r\nRECEIVED:b\r\nreceived :c\r\nX-Received: d\r\n\
                   Received-SPF: e\r\n Received: folded\r\n\r\nReceived: body\r\n";
    assert_eq!(received(content), 3);
}

#[test]
fn the_count_stops_at_the_first_line_that_is_no_field() {
    for line in [
        "junk",
        "From a@b Mon Nov 23 19:20:01 2026",
        ": x",
        "é: x",
        "\rReceived: x",
    ] {
        let content = format!("Received: a\r\n{line}\r\nReceived: b\r\n\r\n");
        assert_eq!(received(&content), 1, "{line}");
    }
    assert_eq!(received(" folded without a field\r\nReceived: a\r\n"), 0);
    assert_eq!(received("From a@b Mon Nov 23\r\nReceived: a\r\n"), 0);
}

#[test]
fn a_name_is_as_long_as_a_line_at_most() {
    let content = |length| format!("{}: x\r\nReceived: a\r\n", "n".repeat(length));
    assert_eq!(received(&content(LONGEST_NAME)), 1);
    assert_eq!(received(&content(LONGEST_NAME + 1)), 0);
    assert_eq!(received(&"n".repeat(100_000)), 0);
}

#[test]
fn relayed_content_goes_through_in_as_many_slices_as_pieces() {
    let content = "Subject: x\r\nReceived: a\r\n\r\nbody\r\n".repeat(3);
    let mut watch = HeaderWatch::relay();
    let (whole, slices) = through(&mut watch, content.as_bytes().chunks(7));
    assert_eq!(whole, content.as_bytes());
    assert_eq!(slices, content.len().div_ceil(7));
    let found = (watch.received_fields(), watch.has_date(), watch.has_message_id());
    assert_eq!(found, (1, false, false));
}

#[test]
fn a_submission_gets_what_is_missing_at_the_end_of_its_header() {
    assert_eq!(
        submitted("Subject: x\r\n\ty\r\n\r\nbody\r\n"),
        format!("Subject: x\r\n\ty\r\n{BOTH}\r\nbody\r\n")
    );
    let (date, id) = BOTH.split_at(BOTH.find("Message-ID").unwrap());
    assert_eq!(
        submitted("MESSAGE-id: <x@y>\r\n\r\n"),
        format!("MESSAGE-id: <x@y>\r\n{date}\r\n")
    );
    assert_eq!(submitted("date :x\r\n\r\nb"), format!("date :x\r\n{id}\r\nb"));
}

#[test]
fn a_submission_that_has_both_is_left_alone() {
    for rest in [
        "\r\nbody\r\n",
        "junk\r\nbody\r\n",
        "",
        "Subject: x",
        "Subject",
        "\r",
    ] {
        let content = format!("Message-Id: <x@y>\r\nDate: x\r\n{rest}");
        assert_eq!(submitted(&content), content);
    }
}

#[test]
fn fields_that_only_look_like_the_missing_ones_do_not_stand_for_them() {
    let content = "Resent-Date: x\r\nX-Y: a\r\n Date: folded\r\n";
    assert_eq!(
        submitted(&format!("{content}\r\nDate: body\r\nMessage-ID: body\r\n")),
        format!("{content}{BOTH}\r\nDate: body\r\nMessage-ID: body\r\n")
    );
}

#[test]
fn content_without_a_header_gets_one_in_front() {
    for body in [
        "Hello,\r\nDate: x\r\n",
        " indented\r\n",
        "From a@b Mon Nov 23 19:20:01 2026\r\nSubject: x\r\n\r\n",
        "é\r\n",
        "no colon",
        "\rx",
        "\r",
    ] {
        assert_eq!(submitted(body), format!("{BOTH}\r\n{body}"), "{body:?}");
    }
    assert_eq!(submitted("\r\nbody\r\n"), format!("{BOTH}\r\nbody\r\n"));
}

#[test]
fn a_header_that_ends_without_an_empty_line_gets_one_behind_what_was_missing() {
    assert_eq!(
        submitted("Subject: x\r\nbody: not\rx\r\nbody\r\n"),
        format!("Subject: x\r\nbody: not\rx\r\n{BOTH}\r\nbody\r\n")
    );
    assert_eq!(
        submitted("Subject: x\r\nbo"),
        format!("Subject: x\r\n{BOTH}\r\nbo")
    );
}

#[test]
fn content_that_ends_within_its_header_gets_what_is_missing_at_its_end() {
    assert_eq!(submitted(""), BOTH);
    assert_eq!(submitted("Subject: x\r\n"), format!("Subject: x\r\n{BOTH}"));
    assert_eq!(submitted("Subject: x"), format!("Subject: x\r\n{BOTH}"));
    assert_eq!(submitted("Subject: x\r"), format!("Subject: x\r\n{BOTH}"));
    assert_eq!(
        submitted("Subject: x\r\n y"),
        format!("Subject: x\r\n y\r\n{BOTH}")
    );
}

#[test]
fn finishing_twice_adds_nothing() {
    let mut watch = submission();
    let mut whole = Vec::new();
    watch.feed(b"Subj", &mut |slice| whole.extend_from_slice(slice));
    watch.finish(&mut |slice| whole.extend_from_slice(slice));
    watch.finish(&mut |_| panic!("nothing is left"));
    assert_eq!(whole, format!("{BOTH}\r\nSubj").as_bytes());
}

/// A naive reading of a whole message: how many octets its header has, whether an empty line ends it, and
/// the names of its fields in lower case.
fn reference(content: &[u8]) -> (usize, bool, Vec<String>) {
    let (mut length, mut names) = (0, Vec::new());
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        if line == b"\n" || line == b"\r\n" {
            return (length, true, names);
        }
        if !names.is_empty() && line.starts_with(b" ") | line.starts_with(b"\t") {
            length += line.len();
            continue;
        }
        let Some(colon) = line.iter().position(|&octet| octet == b':') else {
            return (length, false, names);
        };
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        let name = name.trim_end_matches([' ', '\t']);
        if colon > LONGEST_NAME || name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic()) {
            return (length, false, names);
        }
        names.push(name.to_ascii_lowercase());
        length += line.len();
    }
    (length, false, names)
}

/// What a submission should become.
fn completed(content: &[u8]) -> Vec<u8> {
    let (length, empty_line, names) = reference(content);
    let (header, body) = content.split_at(length);
    let mut missing = BOTH.split_inclusive('\n').filter(|line| {
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        !names.contains(&name)
    });
    let missing: String = missing.by_ref().collect();
    if missing.is_empty() {
        return content.to_vec();
    }
    let mut whole = header.to_vec();
    if !whole.is_empty() && !whole.ends_with(b"\n") {
        if whole.ends_with(b"\r") {
            whole.pop();
        }
        whole.extend_from_slice(b"\r\n");
    }
    whole.extend_from_slice(missing.as_bytes());
    if !empty_line && !body.is_empty() {
        whole.extend_from_slice(b"\r\n");
    }
    [&whole, body].concat()
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let long = |length: usize| "n".repeat(length).into_bytes();
    let word = prop_oneof![
        12 => proptest::sample::select(vec![
            "Received", "rEcEiVeD", ":", ": ", "\r\n", "\r\n", "\r\n", "\r", "\n", " ", "\t", "x",
            "Date: x\r\n", "Message-ID: <a@b>\r\n", "Received: x\r\n", "Subject: x\r\n", "From ", "\r\n\r\n", "é", "\0",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        1 => (990usize..1005).prop_map(long),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(word, 0..16).prop_map(|words| words.concat())
}

/// `content` cut at these places.
fn cut<'a>(content: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = at.iter().map(|place| place % (content.len() + 1)).collect();
    places.extend([0, content.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &content[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn relayed_content_is_unchanged_and_counted_as_by_reading_the_whole(
        content in content(), at in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let mut watch = HeaderWatch::relay();
        let (whole, _) = through(&mut watch, cut(&content, &at));
        prop_assert_eq!(&whole, &content);
        let (_, _, names) = reference(&content);
        let count = |name| names.iter().filter(|known| *known == name).count();
        prop_assert_eq!(watch.received_fields(), count("received"));
        prop_assert_eq!(watch.has_date(), count("date") > 0);
        prop_assert_eq!(watch.has_message_id(), count("message-id") > 0);
    }

    #[test]
    fn a_submission_is_completed_alike_however_it_is_cut(
        content in content(), at in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let mut watch = submission();
        let (whole, _) = through(&mut watch, cut(&content, &at));
        prop_assert_eq!(&whole, &completed(&content));
        let (octets, _) = through(&mut submission(), content.chunks(1));
        prop_assert_eq!(&octets, &whole);
        prop_assert_eq!(watch.received_fields(), {
            let (_, _, names) = reference(&content);
            names.iter().filter(|name| *name == "received").count()
        });
    }
}
