//! Command lines, right and wrong.

use super::*;
use proptest::prelude::*;

fn mail_from(line: &str) -> Result<(String, MailParameters), CommandError> {
    match parse(line.as_bytes())? {
        Command::Mail { from, parameters } => Ok((from.to_string(), parameters)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn verbs_are_known_in_any_case_and_spaces_around_arguments_are_tolerated() {
    assert_eq!(
        parse(b"HELO univac.com"),
        Ok(Command::Helo("univac.com".to_owned()))
    );
    assert_eq!(
        parse(b"ehlo  [192.0.2.1] "),
        Ok(Command::Ehlo("[192.0.2.1]".to_owned()))
    );
    assert_eq!(parse(b"DaTa  "), Ok(Command::Data));
    assert_eq!(parse(b"NOOP anything at all"), Ok(Command::Noop));
    assert_eq!(parse(b"HELP MAIL"), Ok(Command::Help));
    assert_eq!(parse(b"vrfy postmaster"), Ok(Command::Vrfy));
}

#[test]
fn arguments_are_refused_where_there_must_be_none_and_asked_for_where_there_must_be_some() {
    for line in [
        "DATA now",
        "RSET all",
        "QUIT please",
        "HELO",
        "EHLO  ",
        "VRFY",
        "MAIL",
        "RCPT",
        "MAIL TO:<a@b>",
        "RCPT FROM:<a@b>",
        "MAIL FROM <a@b>",
        "MAIL FROM :<a@b>",
        "MAIL FROM:<a@b>SIZE=1",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(CommandError::Arguments), "{line}");
    }
}

#[test]
fn what_is_no_verb_is_unknown_and_what_is_not_offered_is_said_to_be_so() {
    for line in [
        "",
        " ",
        " NOOP",
        "FOO",
        "HELOX a",
        "MAIL:FROM",
        "DATA.",
        "h\u{e9}lo",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(CommandError::Unknown), "{line:?}");
    }
    for line in ["EXPN list", "STARTTLS", "auth plain", "BDAT 10 LAST"] {
        assert_eq!(parse(line.as_bytes()), Err(CommandError::NotOffered), "{line}");
    }
}

#[test]
fn control_characters_and_octets_above_127_are_refused() {
    for line in [
        &b"NOOP a\0"[..],
        b"NOOP\t",
        b"HELO a\x7f",
        b"MAIL FROM:<a\rb@c>",
        b"\x1b",
    ] {
        assert_eq!(parse(line), Err(CommandError::Control), "{line:?}");
    }
    for line in [&b"HELO \xff"[..], "MAIL FROM:<j\u{f6}rg@a>".as_bytes()] {
        assert_eq!(parse(line), Err(CommandError::NotAscii), "{line:?}");
    }
}

#[test]
fn mail_gives_its_path_and_what_was_said_about_the_message() {
    assert_eq!(
        mail_from("MAIL FROM:<>"),
        Ok((String::new(), MailParameters::default()))
    );
    assert_eq!(mail_from("mail from:   <a@B>").unwrap().0, "a@b");
    let (path, said) = mail_from("MAIL FROM:<a@b>  size=1000 Body=8bitmime ").unwrap();
    assert_eq!(path, "a@b");
    assert_eq!((said.size, said.body), (Some(1000), Some(Body::EightBitMime)));
    let huge = mail_from("MAIL FROM:<a@b> SIZE=99999999999999999999 BODY=7BIT")
        .unwrap()
        .1;
    assert_eq!((huge.size, huge.body), (Some(u64::MAX), Some(Body::SevenBit)));
}

#[test]
fn parameters_that_are_unknown_doubled_or_impossible_are_refused() {
    for parameter in ["FOO", "AUTH=<>", "RET=HDRS", "SMTPUTF8", "=", "SIZES=1"] {
        let line = format!("MAIL FROM:<a@b> {parameter}");
        assert_eq!(mail_from(&line), Err(CommandError::UnknownParameter), "{line}");
    }
    for parameter in [
        "SIZE",
        "SIZE=",
        "SIZE=-1",
        "SIZE=+1",
        "SIZE=999999999999999999999",
        "SIZE=1 SIZE=1",
        "BODY",
        "BODY=BINARYMIME",
        "BODY=7BIT BODY=7BIT",
    ] {
        let line = format!("MAIL FROM:<a@b> {parameter}");
        assert_eq!(mail_from(&line), Err(CommandError::BadParameter), "{line}");
    }
    let line = b"RCPT TO:<a@b> NOTIFY=NEVER";
    assert_eq!(parse(line), Err(CommandError::UnknownParameter));
}

#[test]
fn broken_paths_say_whose_they_are() {
    assert_eq!(
        parse(b"MAIL FROM:a@b"),
        Err(CommandError::Sender(PathError::NoBrackets))
    );
    assert_eq!(
        parse(b"RCPT TO:<>"),
        Err(CommandError::Recipient(PathError::NoAt))
    );
    assert_eq!(
        parse(b"RCPT TO:<postmaster>"),
        Ok(Command::Rcpt {
            to: ForwardPath::Postmaster
        })
    );
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(
        verb in "(MAIL FROM:|RCPT TO:|HELO|)",
        rest in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let _ = parse(&[verb.as_bytes(), &rest].concat());
    }
}
