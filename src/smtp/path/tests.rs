//! Mailboxes and paths, whole and broken.

use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> String {
    Mailbox::parse(text).unwrap().to_string()
}

#[test]
fn mailboxes_of_every_form_are_read_and_only_the_domain_loses_its_case() {
    assert_eq!(parsed("B.Smith@Univac.COM"), "B.Smith@univac.com");
    assert_eq!(parsed("!#$%&'*+-/=?^_`{|}~@a"), "!#$%&'*+-/=?^_`{|}~@a");
    assert_eq!(parsed(r#""a b@\"c"@Example.org"#), r#""a b@\"c"@example.org"#);
    assert_eq!(parsed(r#"""@example.org"#), r#"""@example.org"#);
    assert_eq!(parsed("a@[192.0.2.1]"), "a@[192.0.2.1]");
    assert_eq!(parsed("a@[ipv6:2001:DB8:0:0::1]"), "a@[IPv6:2001:db8::1]");
    assert_eq!(parsed("a@mail_out.example.org"), "a@mail_out.example.org");
    assert_eq!(parsed("a@012345678901"), "a@012345678901");
}

#[test]
fn broken_mailboxes_are_refused_with_what_is_wrong() {
    let long = |n| "x".repeat(n);
    for (text, error) in [
        ("", PathError::NoAt),
        ("jdoe", PathError::NoAt),
        ("@example.org", PathError::LocalPart),
        ("a..b@example.org", PathError::LocalPart),
        (".a@example.org", PathError::LocalPart),
        ("a b@example.org", PathError::LocalPart),
        (r#""a@example.org"#, PathError::LocalPart),
        (r#""a\"@example.org"#, PathError::LocalPart),
        (r#""a"b@example.org"#, PathError::NoAt),
        ("a@", PathError::Domain),
        ("a@b@c", PathError::Domain),
        ("a@example..org", PathError::Domain),
        ("a@example.org.", PathError::Domain),
        ("a@-example.org", PathError::Domain),
        ("a@127.0.0.1", PathError::Domain),
        ("a@[127.0.0.1", PathError::Domain),
        ("a@[300.0.0.1]", PathError::Domain),
        ("a@[IPv6:::1%lo]", PathError::Domain),
        ("a@[]", PathError::Domain),
        ("a@ex ample.org", PathError::Domain),
        ("jörg@example.org", PathError::NotAscii),
        ("a\r\nb@example.org", PathError::Control),
        ("\"a\0b\"@example.org", PathError::Control),
        (&format!("{}@b", long(65)), PathError::LocalPartTooLong),
        (&format!("a@{}", long(64)), PathError::Domain),
        (&format!("a@{}", "x.".repeat(128)), PathError::DomainTooLong),
        (&format!("{}@{}x", long(64), "x.".repeat(95)), PathError::TooLong),
    ] {
        assert_eq!(Mailbox::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn limits_are_reached_without_being_passed() {
    let local = "l".repeat(64);
    let domain = format!("{}xxx", "x.".repeat(93));
    assert_eq!(format!("<{local}@{domain}>").len(), 256);
    assert!(Mailbox::parse(&format!("{local}@{domain}")).is_ok());
}

#[test]
fn the_local_text_is_what_the_quotes_hold() {
    let text = |m: &str| Mailbox::parse(m).unwrap().local_text().into_owned();
    assert_eq!(text("jdoe@a"), "jdoe");
    assert_eq!(text(r#""jane doe"@a"#), "jane doe");
    assert_eq!(text(r#""a\"b\\c"@a"#), r#"a"b\c"#);
    assert_eq!(text(r#""\""@a"#), "\"");
}

#[test]
fn source_routes_are_read_and_dropped() {
    for path in [
        "<@one.example,@two.example:jdoe@three.example>",
        "<@[192.0.2.1],@[IPv6:::1]:jdoe@three.example>",
        "<@one.example:jdoe@three.example>",
    ] {
        let (reverse, rest) = ReversePath::take(path).unwrap();
        assert_eq!((reverse.to_string().as_str(), rest), ("jdoe@three.example", ""));
    }
    for path in [
        "<@one.example>",
        "<@one.example,two:a@b>",
        "<@one.example,@two>",
        "<@:a@b>",
    ] {
        assert_eq!(ForwardPath::take(path), Err(PathError::SourceRoute), "{path}");
    }
}

#[test]
fn a_path_ends_at_its_own_bracket_and_gives_what_follows() {
    let (path, rest) = ReversePath::take(r#"<"a>b"@example.org> SIZE=1"#).unwrap();
    assert_eq!(
        (path.to_string().as_str(), rest),
        (r#""a>b"@example.org"#, " SIZE=1")
    );
    assert_eq!(ReversePath::take("<>").unwrap(), (ReversePath(None), ""));
    assert_eq!(
        ForwardPath::take("<pOSTmaster>").unwrap(),
        (ForwardPath::Postmaster, "")
    );
    assert_eq!(ForwardPath::take("<>"), Err(PathError::NoAt));
    assert_eq!(ReversePath::take("a@b"), Err(PathError::NoBrackets));
    assert_eq!(ReversePath::take("<a@b"), Err(PathError::NoBrackets));
    assert_eq!(ReversePath::take("<\"a@b>"), Err(PathError::LocalPart));
}

#[test]
fn a_reverse_path_is_read_back_as_it_was_written() {
    for text in ["", "jdoe@example.org", r#""a b"@[IPv6:::1]"#] {
        assert_eq!(text.parse::<ReversePath>().unwrap().to_string(), text);
    }
    assert!("<>".parse::<ReversePath>().is_err());
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_read_back_unchanged(text in "[\"a-c\\\\.@<>: \\[\\]IPv6:0-9]{0,20}") {
        if let Ok(mailbox) = Mailbox::parse(&text) {
            prop_assert_eq!(mailbox.to_string().parse::<Mailbox>(), Ok(mailbox.clone()));
            let path = format!("<{mailbox}>");
            let taken = (ForwardPath::Mailbox(mailbox), "");
            prop_assert_eq!(ForwardPath::take(&path), Ok(taken));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
        let _ = Mailbox::parse(&text);
        let _ = ReversePath::take(&text);
        let _ = ForwardPath::take(&format!("<{text}"));
    }
}
