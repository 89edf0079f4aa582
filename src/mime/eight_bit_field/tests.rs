use mailparse::{MailAddr, MailHeader, ParsedContentType, parse_content_disposition, parse_header};
use proptest::prelude::*;

use super::*;

/// Writes a field, and checks what has to hold of all of them.
fn written(field: impl AsRef<[u8]>) -> Result<String, Unsuitable> {
    let field = field.as_ref();
    let mut out = b"before".to_vec();
    write(field, &mut out)?;
    let out = String::from_utf8(out.split_off(6)).unwrap();
    assert!(out.is_ascii(), "{out}");
    assert_eq!(out.ends_with("\r\n"), field.ends_with(b"\r\n"), "{out}");
    let lines: Vec<&str> = out.strip_suffix("\r\n").unwrap_or(&out).split("\r\n").collect();
    for line in &lines {
        assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{out}");
        let may_be_longer = line.trim_start().split(' ').any(|word| word.len() > 74);
        assert!(line.len() <= 78 || may_be_longer, "{} octets: {line}", line.len());
    }
    assert!(lines.iter().skip(1).all(|line| line.starts_with([' ', '\t'])));
    Ok(out)
}

fn all_of(cases: &[(&str, &str)]) {
    for (field, expected) in cases {
        assert_eq!(written(field).unwrap(), *expected, "{field}");
    }
}

#[test]
fn words_of_text_become_encoded_words() {
    all_of(&[
        ("Subject: Grüße\r\n", "Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n"),
        ("Subject:ü", "Subject: =?utf-8?B?w7w=?="),
        (
            "X-Any: an alle  für  (gü) und ab \r\n",
            "X-Any: an alle  =?utf-8?B?ZsO8ciAgKGfDvCk=?= und ab\r\n",
        ),
        (
            "Subject: a\r\n\tü\r\n ö\r\n b\r\n",
            "Subject: a\r\n\t=?utf-8?B?w7wgw7Y=?=\r\n b\r\n",
        ),
        // What stands between two encoded words is lost, unless it is in one.
        (
            "Comments: =?utf-8?q?a?= ü =?x?b?YQ==?= b\r\n",
            "Comments: =?utf-8?q?a?= =?utf-8?Q?_=C3=BC_?= =?x?b?YQ==?= b\r\n",
        ),
        (
            "Subject: =?utf-8?Q?ü?=",
            "Subject: =?utf-8?B?PT91dGYtOD9RP8O8Pz0=?=",
        ),
    ]);
    assert_eq!(
        written(b"Subject: Gr\xFC\xDFe an \xFC\r\n").unwrap(),
        "Subject: =?unknown-8bit?B?R3L832U=?= an =?unknown-8bit?Q?=FC?=\r\n"
    );
}

#[test]
fn long_text_is_folded() {
    let long = "Überraschung ".repeat(20);
    all_of(&[(
        &format!(
            "Subject: {}and so on until the line is long enough to be folded ü\r\n",
            &long[..70]
        ),
        "Subject: =?utf-8?Q?=C3=9Cberraschung_=C3=9Cberraschung_=C3=9Cberraschung_?=\r\n \
         =?utf-8?Q?=C3=9Cberraschung_=C3=9Cberraschung?= and so on until the line is\r\n \
         long enough to be folded =?utf-8?B?w7w=?=\r\n",
    )]);
}

#[test]
fn names_and_comments_of_addresses_are_encoded() {
    all_of(&[
        (
            "From: Jörg <j@example.org>\r\n",
            "From: =?utf-8?B?SsO2cmc=?= <j@example.org>\r\n",
        ),
        (
            "from: \"Jörg\"<j@example.org>",
            "from: =?utf-8?B?SsO2cmc=?= <j@example.org>",
        ),
        (
            "To: \"Müller, \\\"Jö\\\"\" B. Ö. <j@x>, Ann <a@x>,\r\n b@x (Bö (ü)ist\\) ö)\r\n",
            "To: =?utf-8?B?TcO8bGxlciwgIkrDtiI=?= B. =?utf-8?B?w5Yu?= <j@x>, Ann <a@x>,\r\n \
             b@x (=?utf-8?B?QsO2?= (=?utf-8?B?w7w=?=)ist\\) =?utf-8?B?w7Y=?=)\r\n",
        ),
        // As sloppy as they are.
        ("Cc: Müller, Ann <a@x>", "Cc: =?utf-8?Q?M=C3=BCller?= , Ann <a@x>"),
        ("Cc: jö@x <a@x>", "Cc: =?utf-8?B?asO2QHg=?= <a@x>"),
        (
            "Cc: J\"ö\"<a@x>(ü)",
            "Cc: =?utf-8?B?SsO2?= <a@x>(=?utf-8?B?w7w=?=)",
        ),
        ("Cc: \"Jö <a@x>", "Cc: =?utf-8?B?IkrDtg==?= <a@x>"),
        ("Bcc: Gäste:a@x,b@x;", "Bcc: =?utf-8?B?R8Okc3Rl?= :a@x,b@x;"),
        (
            "Resent-Cc: ü (ö) <a@x>",
            "Resent-Cc: =?utf-8?B?w7w=?= (=?utf-8?B?w7Y=?=) <a@x>",
        ),
        (
            "Reply-To: =?x?q?a?= ü <a@x>",
            "Reply-To: =?x?q?a?= =?utf-8?B?IMO8?= <a@x>",
        ),
        (
            "List-ID: Die Höhle <höhle.x>",
            "List-ID: Die =?utf-8?B?SMO2aGxl?= <h??hle.x>",
        ),
    ]);
}

#[test]
fn an_address_that_is_not_ascii_is_refused() {
    for field in [
        "From: jö@example.org",
        "From: j@exämple.org (x)",
        "From: J <jö@x>",
        "To: a@x, \"jö\"@x",
        "To: J <jö",
        "Resent-To: a@x, Gäste: ö@x;",
    ] {
        assert_eq!(written(field), Err(Unsuitable::EightBitField), "{field}");
    }
}

#[test]
fn what_is_no_text_gets_question_marks_but_for_its_comments() {
    all_of(&[
        (
            "Received: from hö (hü [::1]) by x;\r\n\ttoday (ö)\r\n",
            "Received: from h?? (=?utf-8?B?aMO8?= [::1]) by x;\r\n\ttoday (=?utf-8?B?w7Y=?=)\r\n",
        ),
        ("Message-ID: <ö@x>", "Message-ID: <??@x>"),
        ("References: <a@x>\r\n <ö@x>", "References: <a@x>\r\n <??@x>"),
        (
            "List-Post: <mailto:ö@x> (ö)",
            "List-Post: <mailto:??@x> (=?utf-8?B?w7Y=?=)",
        ),
        (
            "Authentication-Results: x; r=\"(ö)\"",
            "Authentication-Results: x; r=\"(??)\"",
        ),
        ("Date: (ö) today", "Date: (=?utf-8?B?w7Y=?=) today"),
        ("From mö now\r\n", "From m?? now\r\n"),
    ]);
}

#[test]
fn parameters_are_extended() {
    all_of(&[
        (
            "Content-Disposition: attachment; filename=\"Grüße.txt\"; size=1\r\n",
            "Content-Disposition: attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.txt;\r\n size=1\r\n",
        ),
        (
            "Content-Type: text/plain;\r\n\tName = die Grüße \\ .txt ; (ü)charset=utf-8 (ü)",
            "Content-Type: text/plain; name*=utf-8''die%20Gr%C3%BC%C3%9Fe%20%5C%20.txt; (\r\n \
             =?utf-8?B?w7w=?=)charset=utf-8 (=?utf-8?B?w7w=?=)",
        ),
        (
            "Content-Disposition: attachment; filename=\"ü\"; filename*=utf-8''%C3%BC",
            "Content-Disposition: attachment; filename=\"??\"; filename*=utf-8''%C3%BC",
        ),
        (
            "Content-Type: text/plön; ü=ü; x*=ü; y",
            "Content-Type: text/pl??n; ??=??; x*=??; y",
        ),
        (
            "Content-Type: a/b; boundary=ü",
            "Content-Type: a/b; boundary*=utf-8''%C3%BC",
        ),
        (
            "Content-Type: multipart/x; boundary=b; x=ü;",
            "Content-Type: multipart/x; boundary=b; x*=utf-8''%C3%BC;",
        ),
    ]);
    assert_eq!(
        written(b"Content-Disposition: x; filename=\xFC").unwrap(),
        "Content-Disposition: x; filename*=unknown-8bit''%FC"
    );
    for field in [
        "boundary=ü",
        "BOUNDARY = \"ü\"",
        "boundary*0=ü",
        "x=y; boundary*=ü",
    ] {
        let field = format!("Content-Type: Multipart/mixed; {field}");
        assert_eq!(written(&field), Err(Unsuitable::EightBitBoundary), "{field}");
    }
}

#[test]
fn no_line_is_too_long_however_little_white_space_there_is() {
    for (start, unit) in [
        ("To: ", "(ü)"),
        ("To: ", "ü,"),
        ("To: ", "((ü)"),
        ("To: ", "\"ü\""),
        ("To: (", "ü)"),
        ("To: ü", ")"),
        ("To: (ü", "()"),
        ("To: ü", ","),
        ("To: ü <a@x>", "<a@x>"),
        ("To: (ü) ", "a@x,"),
        ("Received: (ü)", "x"),
        ("Content-Type: a/b; x=", "ü"),
        ("Content-Type: a/b", "; x=ü"),
        ("Subject: ", "ü"),
        ("Subject: ü", "          "),
        ("Subject: ü ", "x"),
    ] {
        let field = start.to_owned() + &unit.repeat((998 - start.len()) / unit.len());
        written(&field).unwrap_or_else(|reason| panic!("{reason}: {field}"));
        written(
            field
                .replace('ü', "\u{1}x")
                .into_bytes()
                .iter()
                .map(|&octet| if octet == 1 { 0xFC } else { octet })
                .collect::<Vec<u8>>(),
        )
        .unwrap();
    }
}

/// A field that another parser has read.
fn value(field: &str) -> String {
    let (header, _): (MailHeader<'_>, usize) = parse_header(field.as_bytes()).unwrap();
    // A fold behind the colon is white space to it.
    header.get_value().trim().to_owned()
}

fn parameters_of(field: &str) -> ParsedContentType {
    let disposition = parse_content_disposition(field.split_once(':').unwrap().1.trim());
    ParsedContentType {
        params: disposition.params,
        ..ParsedContentType::default()
    }
}

proptest! {
    #[test]
    fn text_reads_as_before(
        words in prop::collection::vec("[a-zA-Z.,;_=()\"üö\u{20ac}\u{1f600}]{1,30}", 1..30),
        name in "[A-Z]{1,60}",
    ) {
        let text = format!("{} ü", words.join(" ")).trim().to_owned();
        let out = written(format!("X-{name}: {text}\r\n")).unwrap();
        prop_assert_eq!(value(&out), text);
    }

    #[test]
    fn text_in_any_folds_has_the_same_words(pieces in prop::collection::vec("[a-züö]{1,30}|( |\t|\r\n ){1,3}", 1..30)) {
        let text = pieces.concat();
        let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let out = written(format!("X-Y: {text}ü\r\n")).unwrap();
        prop_assert_eq!(words(&value(&out)), words(&format!("{text}ü")));
    }

    #[test]
    fn names_read_as_before(
        names in prop::collection::vec(
            prop_oneof![
                "[a-zA-Zäöüß\u{1f600}]{1,40}( [a-zA-Zäöüß]{1,20}){0,5}".prop_map(|name| (name.clone(), name)),
                "[a-zA-Zäöüß,;:<>@.()]{1,40}( [a-zA-Zäöü,;:<>@]{1,20}){0,5}ü".prop_map(|name| (format!("\"{name}\""), name)),
            ],
            1..10,
        ),
        gap in "|\r\n| ",
    ) {
        let list: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(number, (written, _))| format!("{written}{}<u{number}@example.org>", gap.replace("\r\n", "\r\n ")))
            .collect();
        let field = format!("To: {}\r\n", list.join(", "));
        if !field.is_ascii() {
            let out = written(&field).unwrap();
            let (header, _) = parse_header(out.as_bytes()).unwrap();
            let read = mailparse::addrparse_header(&header).unwrap();
            prop_assert_eq!(read.len(), names.len());
            for (number, (read, (_, name))) in read.iter().zip(&names).enumerate() {
                let MailAddr::Single(read) = read else { panic!("{out}") };
                prop_assert_eq!(&read.addr, &format!("u{number}@example.org"));
                prop_assert_eq!(read.display_name.as_deref().unwrap(), name);
            }
        }
    }

    #[test]
    fn parameters_read_as_before(
        file in "[a-zA-Z0-9 '%*.;(),üöß\u{20ac}\u{1f600}]{0,200}ü",
        before in "|; x=y|; x=\"\\(; a\"",
        behind in "|;|; z=1|;\r\n z=\"1\"",
    ) {
        let out = written(format!("Content-Disposition: attachment{before}; filename=\"{file}\"{behind}\r\n")).unwrap();
        let read = parameters_of(&out);
        prop_assert_eq!(read.params.get("filename"), Some(&file), "{}", out);
        prop_assert_eq!(read.params.contains_key("z"), behind.contains('z'), "{}", out);
    }

    #[test]
    fn any_octets_become_ascii_or_are_refused(
        name in "Subject|To|List-Id|Content-Type|Received|X",
        pieces in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(vec!["ü", "x", "\"", "(", ")", "<", ">", ",", ";", ":", "@", "=", "\\", " ", "\r\n ", "\t", "=?x?q?a?=", "name"]).prop_map(|piece| piece.as_bytes().to_vec()),
            1 => any::<u8>().prop_filter("a line end", |octet| !b"\r\n".contains(octet)).prop_map(|octet| vec![octet]),
        ], 0..60),
    ) {
        let field = [name.as_bytes(), b": ", &pieces.concat(), "ü\r\n".as_bytes()].concat();
        let mut out = Vec::new();
        if write(&field, &mut out).is_ok() {
            prop_assert!(out.is_ascii() && out.starts_with(name.as_bytes()));
            let lines = String::from_utf8(out).unwrap();
            let lines = lines.strip_suffix("\r\n").unwrap();
            prop_assert!(lines.split("\r\n").skip(1).all(|line| line.starts_with([' ', '\t'])));
            prop_assert!(lines.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
        }
    }
}

#[test]
fn a_field_takes_time_in_proportion() {
    for unit in [
        "(", "\"", "<", "((", "\\\"", "(ü)", "ü,", "ü ", "ü", "\"ü\" ", "; x=ü", "; x*1=ü", "\r\n ü",
    ] {
        for name in ["To", "Subject", "Content-Type", "Received"] {
            let field = format!("{name}: ü {}", unit.repeat(500_000 / unit.len()));
            let mut out = Vec::new();
            let _ = write(field.as_bytes(), &mut out);
            assert!(out.len() <= 16 * field.len(), "{}", out.len());
        }
    }
}
