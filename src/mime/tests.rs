use std::cell::Cell;
use std::io::{Cursor, Read};
use std::rc::Rc;

use mailparse::{MailHeaderMap, ParsedMail, parse_mail};
use proptest::prelude::*;

use super::*;

/// Gives one octet at a time.
struct Trickle<'c>(&'c [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = 1.min(buffer.len());
        (&mut self.0).take(1).read(&mut buffer[..length])
    }
}

fn read(mut reader: impl Read) -> Vec<u8> {
    let mut out = Vec::new();
    reader.read_to_end(&mut out).unwrap();
    out
}

/// Converts content, and checks what has to hold of all that comes out.
fn converted(content: impl AsRef<[u8]>) -> Result<Vec<u8>, Unsuitable> {
    let content = content.as_ref();
    let plan = Plan::of(content).unwrap()?;
    let out = read(plan.apply(content));
    assert_eq!(plan.size(), out.len() as u64, "{}", out.escape_ascii());
    assert_eq!(plan.changes(), content != out);
    assert_eq!(out, read(plan.apply(Trickle(content))), "reads make a difference");
    let trickled = Plan::of(Trickle(content)).unwrap().unwrap();
    assert_eq!((&trickled.codings, trickled.size()), (&plan.codings, plan.size()));
    assert!(is_seven_bit(&out), "{}", out.escape_ascii());
    let again = Plan::of(&*out).unwrap().expect("what came out is suitable");
    assert!(!again.changes(), "not converted yet: {}", out.escape_ascii());
    assert_eq!(again.size(), plan.size());
    Ok(out)
}

/// RFC 2045 2.7, read aloud.
fn is_seven_bit(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let lines: Vec<&str> = text.split("\r\n").collect();
    content.is_ascii()
        && lines
            .iter()
            .all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0']))
}

fn text(content: &str) -> String {
    String::from_utf8(converted(lines(content)).unwrap())
        .unwrap()
        .replace("\r\n", "\n")
}

fn lines(content: &str) -> String {
    content.replace('\n', "\r\n")
}

#[test]
fn content_that_is_7bit_comes_out_as_it_is() {
    let long_header = format!("X: y\n{}\n\nb\n", "X: y\n".repeat(10_000));
    for content in [
        "",
        "\n",
        "no header at all",
        "Subject: header only",
        "Subject: header only\n",
        "Subject: s\n\nbody\n",
        "Content-Transfer-Encoding: 8bit\n\nlabelled too high\n",
        "Content-Type: multipart/signed; boundary=b\nContent-Transfer-Encoding: binary\n\np\n--b\n\na\n--b--\ne\n",
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n--b--",
        "Content-Type: multipart/mixed\n\n--b\n\nno boundary\n",
        "Content-Type: message/partial; id=1\n\nx\n",
        "Content-Transfer-Encoding: base64\n\nnot \x07 base64\n",
        &long_header,
    ] {
        let content = lines(content);
        assert_eq!(converted(&content).unwrap(), content.as_bytes(), "{content}");
    }
}

#[test]
fn text_becomes_quoted_printable_under_its_own_header() {
    assert_eq!(
        text(
            "Subject: s\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\nContent-Type: text/plain;\n charset=utf-8\nX: y\n\nGrüße\n.\n\nFrom here\nend \n"
        ),
        "Subject: s\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\nContent-Type: text/plain;\n charset=utf-8\nX: y\n\nGr=C3=BC=C3=9Fe\n=2E\n\n=46rom here\nend=20\n"
    );
}

#[test]
fn a_message_that_is_no_mime_becomes_mime() {
    // RFC 1428 3.
    assert_eq!(
        text("From mailbox\nSubject: s\n\nGrün"),
        "From mailbox\nSubject: s\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n\
         Content-Transfer-Encoding: quoted-printable\n\nGr=C3=BCn=\n"
    );
    assert_eq!(
        text("Subject: s\nContent-Type: TEXT/html\n\nü\n"),
        "Subject: s\nContent-Type: TEXT/html\nMIME-Version: 1.0\n\
         Content-Transfer-Encoding: quoted-printable\n\n=C3=BC\n"
    );
    assert_eq!(
        text("grün: no header\nX: y\n"),
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n\
         Content-Transfer-Encoding: quoted-printable\n\ngr=C3=BCn: no header\nX: y\n"
    );
}

#[test]
fn what_is_no_text_becomes_base64() {
    let header = "MIME-Version: 1.0\nContent-Type: application/x\nContent-Transfer-Encoding: ";
    assert_eq!(
        text(&format!(
            "{header}binary (c)\nContent-Transfer-Encoding: 8bit\n\nü\n"
        )),
        format!("{header}base64\n\nw7wNCg==\n")
    );
    for binary in ["a\rb", "a\0b", "a\r", "\rü\r\n"] {
        let content = format!("MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n{binary}");
        let out = converted(&content).unwrap();
        let parsed = parse_mail(&out).unwrap();
        assert_eq!(
            parsed
                .headers
                .get_first_value("Content-Transfer-Encoding")
                .unwrap(),
            "base64"
        );
        assert_eq!(parsed.get_body_raw().unwrap(), binary.as_bytes());
    }
    let content = b"Subject: s\r\n\r\nbare\nLF";
    let out = converted(content).unwrap();
    assert!(
        out.ends_with(b"base64\r\n\r\nYmFyZQpMRg==\r\n"),
        "{}",
        out.escape_ascii()
    );
}

#[test]
fn only_lines_over_998_octets_are_long() {
    let content = |length| format!("MIME-Version: 1.0\r\n\r\n{}\r\n", "x".repeat(length));
    assert_eq!(converted(content(998)).unwrap(), content(998).as_bytes());
    for length in [999, 20_000] {
        let out = converted(content(length)).unwrap();
        let body = parse_mail(&out).unwrap().get_body_raw().unwrap();
        assert_eq!(body, ["x".repeat(length).as_bytes(), b"\r\n"].concat());
    }
}

#[test]
fn each_part_changes_on_its_own() {
    assert_eq!(
        text(
            "Content-Type: multipart/mixed; boundary=\"a\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\n\
             preamble\n--a\n\nclean\n--a \t\nContent-Transfer-Encoding: 8bit\n\nü\n--a\nContent-Type: multipart/x; boundary=aa\n\n\
             --aa\nContent-Type: image/x\n\nü\n--aa--\nepilogue\n--a\n\nü\n--a--\nepilogue\n"
        ),
        "Content-Type: multipart/mixed; boundary=\"a\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\n\
         preamble\n--a\n\nclean\n--a \t\nContent-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=unknown-8bit\n\n=C3=BC\n--a\nContent-Type: multipart/x; boundary=aa\n\n\
         --aa\nContent-Type: image/x\nContent-Transfer-Encoding: base64\n\nw7w=\n--aa--\nepilogue\n--a\n\
         Content-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--a--\nepilogue\n"
    );
}

#[test]
fn messages_in_messages_change_inside() {
    assert_eq!(
        text(
            "MIME-Version: 1.0\nContent-Type: message/rfc822\nContent-Transfer-Encoding: binary\n\n\
             Subject: inner\nContent-Type: Multipart/Digest; boundary=d\n\n--d\n\nSubject: innermost\n\nü\n--d--\n"
        ),
        "MIME-Version: 1.0\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\n\
         Subject: inner\nContent-Type: Multipart/Digest; boundary=d\nMIME-Version: 1.0\n\n--d\n\nSubject: innermost\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n\
         Content-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--d--\n"
    );
}

#[test]
fn fields_that_are_not_7bit_are_encoded_wherever_they_are() {
    assert_eq!(
        text("Subject: ü\nContent-Transfer-Encoding: 8bit\nX: y \n\nclean\n"),
        "Subject: =?utf-8?B?w7w=?=\nContent-Transfer-Encoding: 8bit\nX: y \n\nclean\n"
    );
    assert_eq!(text("To: ü <a@x>"), "To: =?utf-8?B?w7w=?= <a@x>");
    assert_eq!(
        text(
            "Subject: ü\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n\
             From: ö <a@x>\nSubject: s\n t\n\nü\n--b\nContent-Disposition: inline; filename=ä\n--b\nX: ü\n\n--b--\n"
        ),
        "Subject: =?utf-8?B?w7w=?=\nContent-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\nContent-Type: message/rfc822\n\n\
         From: =?utf-8?B?w7Y=?= <a@x>\nSubject: s\n t\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n\
         Content-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--b\nContent-Disposition: inline; filename*=utf-8''%C3%A4\n--b\n\
         X: =?utf-8?B?w7w=?=\n\n--b--\n"
    );
}

#[test]
fn an_outer_delimiter_ends_what_is_inside() {
    assert_eq!(
        text(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n\
             --i\nContent-Type: text/plain\n\nü\n--o\nContent-Type: text/plain\n\n--i\nü\n--oo\n--o-- x"
        ),
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n\
         --i\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--o\n\
         Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=2D-i\n=C3=BC\n=2D-oo\n=2D-o-- x=\n"
    );
}

#[test]
fn a_delimiter_with_a_bare_cr_is_none() {
    let head =
        "MIME-Version: 1.0\r\nContent-Type: multipart/x; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\n";
    let out = converted(format!("{head}\r\n--b\r\r\n--b--\r\n")).unwrap();
    let base64 = "Content-Transfer-Encoding: base64\r\n\r\nLS1iDQ==\r\n--b--\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), format!("{head}{base64}"));
}

#[test]
fn what_nobody_reads_is_dropped_if_it_is_not_7bit() {
    assert_eq!(
        text(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\nprä\nambel\n--o\n\nx\n--o--\nübrig\n"
        ),
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n\n--o\n\nx\n--o--\n"
    );
}

#[test]
fn a_header_that_ends_without_an_empty_line_gets_one_if_its_body_changes() {
    assert_eq!(
        text(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n--o\nContent-Type: text/x\nno field, ü\n--o--\n"
        ),
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: text/x\n\
         Content-Transfer-Encoding: quoted-printable\n\nno field, =C3=BC\n--o--\n"
    );
}

#[test]
fn a_part_that_is_not_encoded_as_it_says_is_mended() {
    let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b=FC\n";
    let quoted_printable = "Content-Transfer-Encoding: Quoted-Printable";
    assert_eq!(
        text(&format!(
            "{head}{quoted_printable}\n\n--b=FC\n{quoted_printable}\nX: y\n\n=C3=BC =\nü\n--b=FCü \n\
             --b=FC\nContent-Type: image/x\nContent-Transfer-Encoding: base64\n\nZm9v\nYm\nFy\nFuß: y\n\
             ü--b=FC\n\n--b=FC\n{quoted_printable}\n\nclean = \n--b\n--b=FC--\n"
        )),
        format!(
            "{head}Content-Transfer-Encoding: 7bit\n\n--b=FC\n{quoted_printable}\nX: y\n\n=C3=BC =\n=C3=BC\n=2D-b=FC=C3=BC \n\
             --b=FC\nContent-Type: image/x\nContent-Transfer-Encoding: base64\n\nZm9v\nYm\nFy\nFu: y\n\
             b=FC\n\n--b=FC\n{quoted_printable}\n\nclean = \n--b\n--b=FC--\n"
        )
    );
    // What is left of the first line is no field.
    assert_eq!(
        text("Content-Transfer-Encoding: base64\nüX: y\n"),
        "Content-Transfer-Encoding: base64\n\nX: y\n"
    );
    for encoding in ["base64", "quoted-printable"] {
        let content = format!("Content-Transfer-Encoding: {encoding}\r\n\r\n");
        for body in [
            "x".repeat(30_000),
            "ü".repeat(10_000) + "--b",
            "=C3=BC".repeat(5000),
        ] {
            let out = converted(content.clone() + &body).unwrap();
            assert!(out.starts_with(content.as_bytes()));
        }
    }
}

#[test]
fn what_cannot_change_is_unsuitable() {
    let signed = "Content-Type: multipart/signed; boundary=s\n\n--s\n\nü\n--s\n\nsignature\n--s--\n";
    let clean = "Content-Type: multipart/signed; boundary=s\n\n--s\n\nu\n--s\n\nsignature\n--s--\n";
    let within =
        |part: &str| format!("Content-Type: multipart/mixed; boundary=b\n\n--b\n{part}\n--b\n\nü\n--b--\n");
    let mut deep = String::new();
    for level in 0..60 {
        deep += &format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n");
    }
    let many = "--b\n\n".repeat(200_000);
    let long = "x".repeat(991);
    for (content, reason) in [
        (signed.to_owned(), Some(Unsuitable::Signed)),
        (within(signed), Some(Unsuitable::Signed)),
        (within(clean), None),
        (
            format!("Content-Type: message/rfc822\n\n{signed}"),
            Some(Unsuitable::Signed),
        ),
        (
            signed.replace("\n\nü", "\nContent-Type: message/rfc822\n\n\nü"),
            Some(Unsuitable::Signed),
        ),
        ("Sübject: s\nSubject: ü\n\n".to_owned(), None),
        ("Subject: ü\n\n".to_owned(), None),
        (
            "From: jörg@example.org\n\n".to_owned(),
            Some(Unsuitable::EightBitField),
        ),
        (within("From: a@exämple.org\n"), Some(Unsuitable::EightBitField)),
        (
            signed.replace("\n\nü", "\nSubject: ü\n\nu"),
            Some(Unsuitable::Signed),
        ),
        (
            clean.replace("\n\nu", "\nContent-Type: message/rfc822\n\nSubject: ü\n\n"),
            Some(Unsuitable::Signed),
        ),
        (format!("Subject: ü\n{clean}"), None),
        (
            within("Content-Type: multipart/x; boundary=\"ü\"\n\n--u\n"),
            Some(Unsuitable::EightBitBoundary),
        ),
        (
            "Content-Type: multipart/x; boundary*=utf-8''%C3%BC\n\n--ü\n\nu\n--ü--\n".to_owned(),
            Some(Unsuitable::NoParts),
        ),
        (
            format!("X: {}\n", "ü x".repeat(120)).repeat(900) + "\n",
            Some(Unsuitable::LargeHeader),
        ),
        ("Subject: a\rb\n\n".to_owned(), Some(Unsuitable::BrokenField)),
        ("Subject: a\0b\n\n".to_owned(), Some(Unsuitable::BrokenField)),
        (format!("Subj: {long}x\n\n"), None),
        (format!("Subject: {long}\n\n"), Some(Unsuitable::LongField)),
        (
            format!("Subject: {}\n\n", "x".repeat(100_000)),
            Some(Unsuitable::LongField),
        ),
        (
            format!("{}\n", format!("X: {long}\n").repeat(600)),
            Some(Unsuitable::LargeHeader),
        ),
        (within(&format!("{deep}\nx")), None),
        (within(&format!("{deep}\nü")), Some(Unsuitable::TooDeep)),
        (
            format!("Content-Type: multipart/mixed; boundary=b\n\n{many}"),
            Some(Unsuitable::TooManyParts),
        ),
        (
            "Content-Type: message/partial\n\nü".to_owned(),
            Some(Unsuitable::Fragment),
        ),
        (
            within("Content-Type: message/external-body\n\nü"),
            Some(Unsuitable::Fragment),
        ),
        (
            "Content-Transfer-Encoding: x-uuencode\n\nü".to_owned(),
            Some(Unsuitable::Misencoded),
        ),
        (
            within("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nü"),
            Some(Unsuitable::Misencoded),
        ),
        (
            signed.replace("\n\nü", "\nContent-Transfer-Encoding: base64\n\nü"),
            Some(Unsuitable::Signed),
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\nYWJj\nü\n"
                .to_owned(),
            Some(Unsuitable::NoParts),
        ),
        (
            "Content-Type: multipart/mixed\n\n--b\n\nü\n--b--\n".to_owned(),
            Some(Unsuitable::NoParts),
        ),
        (
            "Content-Type: multipart/mixed; boundary=x\n\n--b\n\nü\n--b--\n".to_owned(),
            Some(Unsuitable::NoParts),
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\n\nü\n--b--\n".to_owned(),
            Some(Unsuitable::NoParts),
        ),
    ] {
        assert_eq!(converted(lines(&content)).err(), reason, "{content:.200}");
    }
}

#[test]
fn a_read_that_fails_fails() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    assert!(Plan::of(b"X: y\r\n".chain(Broken)).is_err());
    let plan = Plan::of("X: y\r\n\r\nü".as_bytes()).unwrap().unwrap();
    assert!(plan.apply(Broken).read(&mut [0; 10]).is_err());
}

/// Counts what is read.
struct Counted<R>(R, Rc<Cell<u64>>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.set(self.1.get() + length as u64);
        Ok(length)
    }
}

#[test]
fn large_content_is_not_held() {
    const LARGE: u64 = 20 << 20;
    let content = || {
        Cursor::new("Content-Type: application/x\r\n\r\n")
            .chain(std::io::repeat(0xFF).take(LARGE / 2))
            .chain(Cursor::new("\r\n"))
            .chain(std::io::repeat(b'-').take(LARGE / 2))
    };
    let plan = Plan::of(content()).unwrap().unwrap();
    let taken = Rc::new(Cell::new(0));
    let mut out = plan.apply(Counted(content(), Rc::clone(&taken)));
    let (mut given, mut piece) = (0, vec![0; 1 << 20]);
    loop {
        let length = out.read(&mut piece).unwrap() as u64;
        if length == 0 {
            break;
        }
        given += length;
        assert!(taken.get() < given + 100_000, "{} of {given}", taken.get());
    }
    assert_eq!(plan.size(), given);
    assert!(given > LARGE / 3 * 4);
}

/// A message as it is made, to be found again in what comes out.
#[derive(Clone, Debug)]
enum Tree {
    Leaf {
        content_type: Option<&'static str>,
        encoding: Option<&'static str>,
        body: Vec<u8>,
    },
    Multipart {
        subtype: &'static str,
        encoding: Option<&'static str>,
        filler: &'static str,
        closes: bool,
        parts: Vec<Tree>,
    },
    Message(Box<Tree>),
}

fn leaf() -> impl Strategy<Value = Tree> {
    let line = prop_oneof![
        "[a-z =.\t-]{0,90}",
        "\\PC{0,60}",
        Just("From here".to_owned()),
        Just(".".to_owned()),
        Just("--x".to_owned()),
        Just("ü ".repeat(500)),
        (997_usize..1001).prop_map(|length| "y".repeat(length)),
    ];
    let text = prop::collection::vec(line, 0..8).prop_map(|lines| lines.join("\r\n").into_bytes());
    let binary = prop::collection::vec(
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()],
        0..300,
    );
    let content_type = prop::option::of(prop::sample::select(vec![
        "text/plain; charset=utf-8",
        "TEXT/HTML",
        "application/octet-stream",
        "image/png; name=\"x\"",
        "message/delivery-status",
    ]));
    let encoding = prop::option::of(prop::sample::select(vec!["7bit", "8bit", "BINARY", "none"]));
    (content_type, encoding, prop_oneof![3 => text, 1 => binary]).prop_map(
        |(content_type, encoding, body)| Tree::Leaf {
            content_type,
            encoding,
            body,
        },
    )
}

fn tree() -> impl Strategy<Value = Tree> {
    leaf().prop_recursive(4, 16, 4, |inner| {
        let encoding = prop::option::of(prop::sample::select(vec!["7bit", "8bit", "binary"]));
        let subtype = prop::sample::select(vec!["mixed", "alternative", "digest"]);
        let filler = prop::sample::select(vec!["", "filler", "fillér\r\nmore"]);
        let parts = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            3 => (subtype, encoding, filler, any::<bool>(), parts).prop_map(
                |(subtype, encoding, filler, closes, parts)| Tree::Multipart { subtype, encoding, filler, closes, parts }
            ),
            1 => inner.prop_map(|tree| Tree::Message(Box::new(tree))),
        ]
    })
}

impl Tree {
    /// Writes it down, each multipart with a boundary of its own.
    fn write(&self, boundaries: &mut usize, out: &mut Vec<u8>) {
        let field = |name: &str, value: &Option<&str>| {
            value
                .map(|value| format!("{name}: {value}\r\n"))
                .unwrap_or_default()
        };
        match self {
            Tree::Leaf {
                content_type,
                encoding,
                body,
            } => {
                let content_type = content_type.or(Some("text/plain"));
                *out = [
                    std::mem::take(out),
                    field("Content-Transfer-Encoding", encoding).into_bytes(),
                    field("Content-Type", &content_type).into_bytes(),
                    b"\r\n".to_vec(),
                    body.clone(),
                ]
                .concat();
            }
            Tree::Multipart {
                subtype,
                encoding,
                filler,
                closes,
                parts,
            } => {
                *boundaries += 1;
                let boundary = format!("=_{boundaries}_=");
                let head = format!(
                    "Content-Type: multipart/{subtype};\r\n boundary=\"{boundary}\"\r\n{}\r\n{filler}",
                    field("Content-Transfer-Encoding", encoding)
                );
                out.extend_from_slice(head.as_bytes());
                for part in parts {
                    out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
                    part.write(boundaries, out);
                }
                if *closes {
                    out.extend_from_slice(format!("\r\n--{boundary}--\r\n{filler}").as_bytes());
                }
            }
            Tree::Message(inner) => {
                out.extend_from_slice(b"Content-Type: message/rfc822\r\n\r\nMIME-Version: 1.0\r\n");
                inner.write(boundaries, out);
            }
        }
    }

    /// The bodies of the leaves.
    fn bodies(&self) -> Vec<Vec<u8>> {
        match self {
            Tree::Leaf { body, .. } => vec![body.clone()],
            Tree::Multipart { parts, .. } => parts.iter().flat_map(Tree::bodies).collect(),
            Tree::Message(inner) => inner.bodies(),
        }
    }
}

/// The bodies of the leaves as mailparse sees them, decoded.
fn bodies(mail: &ParsedMail<'_>) -> Vec<Vec<u8>> {
    if mail.ctype.mimetype == "message/rfc822" {
        let inner = mail.get_body_raw().unwrap();
        return bodies(&parse_mail(&inner).unwrap());
    }
    if mail.subparts.is_empty() {
        return vec![mail.get_body_raw().unwrap()];
    }
    mail.subparts.iter().flat_map(bodies).collect()
}

proptest! {
    #[test]
    fn another_parser_finds_what_was_in_each_leaf(tree in tree()) {
        let mut content = b"MIME-Version: 1.0\r\nSubject: s\r\n".to_vec();
        tree.write(&mut 0, &mut content);
        let out = converted(&content).unwrap();
        prop_assert_eq!(bodies(&parse_mail(&out).unwrap()), tree.bodies());
    }

    #[test]
    fn what_is_mended_decodes_as_before(
        pieces in prop::collection::vec(("[ -~]{1,60}|\r\n", "[ü-ž]{0,3}"), 1..60),
        length in 1_usize..2000,
    ) {
        let whole: Vec<u8> = pieces.iter().flat_map(|(plain, _)| plain.bytes()).collect();
        let encoded = data_encoding::BASE64.encode(&whole);
        let mut strays = pieces.iter().map(|(_, stray)| stray.as_str()).cycle();
        let lines: String = encoded
            .as_bytes()
            .chunks(length)
            .flat_map(|line| [strays.next().unwrap(), str::from_utf8(line).unwrap(), strays.next().unwrap(), "\r\n"])
            .collect();
        let head = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        let out = converted([head, &lines].concat()).unwrap();
        prop_assert_eq!(parse_mail(&out).unwrap().get_body_raw().unwrap(), whole);

        let (body, lines): (Vec<String>, Vec<String>) = pieces
            .iter()
            .map(|(plain, stray)| {
                let code = plain.replace('=', "=3D").replace(' ', "=20");
                (format!("{plain}{stray}"), format!("{code}{stray}"))
            })
            .unzip();
        let head = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n";
        let out = converted([head, &lines.concat()].concat()).unwrap();
        prop_assert_eq!(parse_mail(&out).unwrap().get_body_raw().unwrap(), body.concat().into_bytes());
    }

    #[test]
    fn any_octets_are_converted_or_refused(
        pieces in prop::collection::vec(prop_oneof![
            Just(b"Content-Type: multipart/mixed; boundary=b\r\n".to_vec()),
            Just(b"Content-Type: multipart/signed; boundary=c\r\n".to_vec()),
            Just(b"Content-Type: message/rfc822\r\n".to_vec()),
            Just(b"Content-Type: application/x\r\n".to_vec()),
            Just(b"Content-Transfer-Encoding: 8bit\r\n".to_vec()),
            Just(b"Content-Transfer-Encoding: base64\r\n".to_vec()),
            Just(b"Content-Transfer-Encoding: quoted-printable\r\n".to_vec()),
            Just(b"Content-Transfer-Encoding: x-y\r\n".to_vec()),
            Just(b"=".to_vec()),
            Just(b"\xFF".to_vec()),
            Just(vec![0xFF; 9000]),
            Just(b"MIME-Version: 1.0\r\n".to_vec()),
            Just("Subject: a ü\r\n".as_bytes().to_vec()),
            Just("From: \"ü\" <a@b>\r\n".as_bytes().to_vec()),
            Just("Content-Type: multipart/x; name=ü; boundary=b\r\n".as_bytes().to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"--b\r\n".to_vec()),
            Just(b"--b--\r\n".to_vec()),
            Just(b"--c \r\n".to_vec()),
            Just(b"--".to_vec()),
            Just(b" ".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"text".to_vec()),
            Just(vec![b'x'; 999]),
            any::<u8>().prop_map(|octet| vec![octet]),
        ], 0..40),
    ) {
        let _ = converted(pieces.concat());
    }
}
