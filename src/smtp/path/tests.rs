//! Mailboxes and paths, whole and broken.

use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> String {
    Mailbox::parse(text).unwrap().to_string()
}

#[test]
fn mailboxes_of_every_form_are_read_and_only_the_domain_loses_its_case() {
    for (text, expected) in [
        ("B.Smith@Univac.COM", "B.Smith@univac.com"),
        ("!#$%&'*+-/=?^_`{|}~@a", "!#$%&'*+-/=?^_`{|}~@a"),
        ("0-9@localhost", "0-9@localhost"),
        (
            "user%other.example@relay.example",
            "user%other.example@relay.example",
        ),
        (
            "other.example!user@relay.example",
            "other.example!user@relay.example",
        ),
        ("-a-@b", "-a-@b"),
        ("a@mail_out.example.org", "a@mail_out.example.org"),
        ("a@3com.example", "a@3com.example"),
        ("a@b-c.1.d2", "a@b-c.1.d2"),
        ("a@0xbeehive.example", "a@0xbeehive.example"),
        // RFC 5321 4.1.2: qtextSMTP is 32-126 without quote and backslash, quoted-pairSMTP all of 32-126.
        (r#""a b@\"c"@Example.org"#, r#""a b@\"c"@example.org"#),
        (r#""a@b"@example.org"#, r#""a@b"@example.org"#),
        (r#""a\@b\ \\"@example.org"#, r#""a\@b\ \\"@example.org"#),
        (
            r#"" !#$%&'()*+,-./:;<=>?@[]^_`{|}~"@a"#,
            r#"" !#$%&'()*+,-./:;<=>?@[]^_`{|}~"@a"#,
        ),
        (r#""..a."@example.org"#, r#""..a."@example.org"#),
        (r#"""@example.org"#, r#"""@example.org"#),
        (r#"" "@example.org"#, r#"" "@example.org"#),
    ] {
        assert_eq!(parsed(text), expected, "{text:?}");
    }
}

#[test]
fn broken_mailboxes_are_refused_with_what_is_wrong() {
    for (text, error) in [
        ("", PathError::NoAt),
        ("jdoe", PathError::NoAt),
        (r#""jdoe""#, PathError::NoAt),
        (r#""jdoe"example.org"#, PathError::NoAt),
        (r#""a"b@example.org"#, PathError::NoAt),
        (r#""a"."b"@example.org"#, PathError::NoAt),
        ("@", PathError::LocalPart),
        ("@example.org", PathError::LocalPart),
        ("a..b@example.org", PathError::LocalPart),
        (".a@example.org", PathError::LocalPart),
        ("a.@example.org", PathError::LocalPart),
        (".@example.org", PathError::LocalPart),
        ("a b@example.org", PathError::LocalPart),
        (" a@example.org", PathError::LocalPart),
        ("a @example.org", PathError::LocalPart),
        ("a(comment)@example.org", PathError::LocalPart),
        ("(comment)a@example.org", PathError::LocalPart),
        ("a,b@example.org", PathError::LocalPart),
        ("a;b@example.org", PathError::LocalPart),
        ("a:b@example.org", PathError::LocalPart),
        ("a[b]@example.org", PathError::LocalPart),
        ("a<b>@example.org", PathError::LocalPart),
        (r"a\b@example.org", PathError::LocalPart),
        (r"a\@b@example.org", PathError::LocalPart),
        (r#"a"b@example.org"#, PathError::LocalPart),
        (r#"a"b"@example.org"#, PathError::LocalPart),
        (r#"a."b"@example.org"#, PathError::LocalPart),
        (r#"""#, PathError::LocalPart),
        (r#""a@example.org"#, PathError::LocalPart),
        (r#""a\"@example.org"#, PathError::LocalPart),
        (r#""a\"#, PathError::LocalPart),
        ("a@", PathError::Domain),
        ("a@@b", PathError::Domain),
        ("a@b@c", PathError::Domain),
        ("a@.", PathError::Domain),
        ("a@.example.org", PathError::Domain),
        ("a@example..org", PathError::Domain),
        ("a@example.org.", PathError::Domain),
        ("a@-example.org", PathError::Domain),
        ("a@example-.org", PathError::Domain),
        ("a@example.org-", PathError::Domain),
        ("a@ex ample.org", PathError::Domain),
        ("a@ example.org", PathError::Domain),
        ("a@example.org ", PathError::Domain),
        ("a@example.org(comment)", PathError::Domain),
        ("a@example.org:25", PathError::Domain),
        ("a@example,org", PathError::Domain),
        ("a@example%org", PathError::Domain),
        ("a@example/org", PathError::Domain),
        (r#"a@"example".org"#, PathError::Domain),
        ("a@#1", PathError::Domain),
        ("a\r\nb@example.org", PathError::Control),
        ("a\tb@example.org", PathError::Control),
        ("\"a\0b\"@example.org", PathError::Control),
        ("\"a\\\rb\"@example.org", PathError::Control),
        ("a\x7f@example.org", PathError::Control),
        ("a@example.org\n", PathError::Control),
        ("a@exam\x1bple.org", PathError::Control),
    ] {
        assert_eq!(Mailbox::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn limits_count_octets_and_are_reached_without_being_passed() {
    let labels = |octets: usize| {
        let mut domain = "x.".repeat(octets.div_ceil(2) - 1);
        domain.push_str(if octets.is_multiple_of(2) { "xx" } else { "x" });
        assert_eq!(domain.len(), octets);
        domain
    };
    let a = |octets| format!("a@{}", labels(octets));
    let local = |octets| "l".repeat(octets);
    let quoted = |octets: usize| format!("\"{}\"", "q".repeat(octets - 2));
    for (mailbox, expected) in [
        (format!("{}@b", local(64)), Ok(())),
        (format!("{}@b", local(65)), Err(PathError::LocalPartTooLong)),
        (format!("{}@b", quoted(64)), Ok(())),
        (format!("{}@b", quoted(65)), Err(PathError::LocalPartTooLong)),
        (format!("{}@b", "ö".repeat(32)), Ok(())),
        (format!("{}l@b", "ö".repeat(32)), Err(PathError::LocalPartTooLong)),
        (format!("a@{}", "x".repeat(63)), Ok(())),
        (format!("a@{}", "x".repeat(64)), Err(PathError::Domain)),
        (format!("a@b.{}.c", "x".repeat(64)), Err(PathError::Domain)),
        (a(252), Ok(())),
        (a(253), Err(PathError::TooLong)),
        (a(255), Err(PathError::TooLong)),
        (a(256), Err(PathError::DomainTooLong)),
        (format!("{}@{}", local(64), labels(189)), Ok(())),
        (format!("{}@{}", local(64), labels(190)), Err(PathError::TooLong)),
        // `xn--` and what follows it may be longer than the letters were, for a label and for a path.
        (format!("a@{}", "ö".repeat(32)), Ok(())),
        (format!("a@{}ö", "a".repeat(60)), Err(PathError::Domain)),
        (format!("a@{}xxxxxx", "ö.".repeat(31)), Err(PathError::TooLong)),
        (format!("a@{}x", "ö.".repeat(80)), Err(PathError::DomainTooLong)),
    ] {
        assert_eq!(Mailbox::parse(&mailbox).map(|_| ()), expected, "{mailbox}");
    }
    let path = format!("<{}@{}>", local(64), labels(189));
    assert_eq!(path.len(), 256);
    assert!(ReversePath::take(&path).is_ok());
    assert!(ForwardPath::take(&path).is_ok());
    let routed = |octets| format!("<@{}:a@b>", labels(octets));
    assert_eq!(routed(249).len(), 256);
    assert!(ReversePath::take(&routed(249)).is_ok());
    assert_eq!(ReversePath::take(&routed(250)), Err(PathError::TooLong));
    assert_eq!(ForwardPath::take(&routed(250)), Err(PathError::TooLong));
}

#[test]
fn local_parts_in_any_script_are_kept_as_they_came() {
    for local_part in [
        "jörg",
        "jo\u{308}rg", // not composed: relays do not normalise
        "用户",
        "δοκιμή.παράδειγμα",
        "Почта+метка",
        "अजय\u{200d}क",
        "می\u{200c}خواهم",
        "\"jörg müller\"",
        "\"用\\\"户\"",
        "😀",
        "\u{a0}",
        "\u{e000}",
        "\u{fffd}",
    ] {
        let mailbox = Mailbox::parse(&format!("{local_part}@Example.org")).unwrap();
        assert_eq!(mailbox.to_string(), format!("{local_part}@example.org"));
        assert_eq!(mailbox.local_part(), local_part);
        assert!(mailbox.needs_utf8());
    }
    assert!(!Mailbox::parse("jdoe@bücher.example").unwrap().needs_utf8());
    // RFC 6531 3.3 lets UTF-8 into qtextSMTP and not into quoted-pairSMTP.
    let backslash = Mailbox::parse("\"\\ö\"@example.org");
    assert_eq!(backslash, Err(PathError::LocalPart));
}

#[test]
fn nothing_that_hides_or_turns_text_is_let_into_an_address() {
    for hidden in [
        '\u{0}',
        '\u{9}',
        '\u{a}',
        '\u{d}',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{85}',
        '\u{9b}',
        '\u{9f}',
        '\u{61c}',
        '\u{200b}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{206f}',
        '\u{fdd0}',
        '\u{fdef}',
        '\u{feff}',
        '\u{fff9}',
        '\u{fffe}',
        '\u{ffff}',
        '\u{1fffe}',
        '\u{10ffff}',
    ] {
        for mailbox in [
            format!("a{hidden}b@example.org"),
            format!("\"a{hidden}b\"@example.org"),
            format!("a@exam{hidden}ple.org"),
        ] {
            assert_eq!(Mailbox::parse(&mailbox), Err(PathError::Control), "{mailbox:?}");
            let path = ForwardPath::take(&format!("<{mailbox}>")).map(|_| ());
            assert_eq!(path, Err(PathError::Control), "{mailbox:?}");
        }
    }
}

#[test]
fn the_local_text_is_what_the_quotes_hold() {
    let text = |m: &str| Mailbox::parse(m).unwrap().local_text().into_owned();
    assert_eq!(text("jdoe@a"), "jdoe");
    assert_eq!(text("\"\"@a"), "");
    assert_eq!(text("\"jörg \\@\"@a"), "jörg @");
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
        "<@bücher.example:jdoe@three.example>",
    ] {
        let (reverse, rest) = ReversePath::take(path).unwrap();
        assert_eq!((reverse.to_string().as_str(), rest), ("jdoe@three.example", ""));
        let (forward, rest) = ForwardPath::take(path).unwrap();
        assert_eq!((forward.to_string().as_str(), rest), ("jdoe@three.example", ""));
    }
    for (path, error) in [
        ("<@one.example>", PathError::SourceRoute),
        ("<@one.example,two:a@b>", PathError::SourceRoute),
        ("<@one.example,@two>", PathError::SourceRoute),
        ("<@one.example,:a@b>", PathError::SourceRoute),
        ("<@one.example, @two.example:a@b>", PathError::SourceRoute),
        ("<@:a@b>", PathError::SourceRoute),
        ("<@one..example:a@b>", PathError::SourceRoute),
        ("<@127.0.0.1:a@b>", PathError::SourceRoute),
        ("<@[127.0.0.1:a@b>", PathError::SourceRoute),
        ("<@one\0.example:a@b>", PathError::SourceRoute),
        ("<@one.example:>", PathError::NoAt),
        ("<@one.example:a>", PathError::NoAt),
        ("<@one.example:postmaster>", PathError::NoAt),
        ("<@one.example:@two.example:a@b>", PathError::LocalPart),
        ("<@one.example: a@b>", PathError::LocalPart),
    ] {
        assert_eq!(ForwardPath::take(path), Err(error), "{path}");
        assert_eq!(ReversePath::take(path), Err(error), "{path}");
    }
}

#[test]
fn a_path_ends_at_its_own_bracket_and_gives_what_follows() {
    for (path, expected, expected_rest) in [
        ("<a@b>", "a@b", ""),
        ("<a@b> SIZE=1", "a@b", " SIZE=1"),
        ("<a@b>SIZE=1", "a@b", "SIZE=1"),
        ("<a@b>>", "a@b", ">"),
        ("<a@b><c@d>", "a@b", "<c@d>"),
        (r#"<"a>b"@example.org> SIZE=1"#, r#""a>b"@example.org"#, " SIZE=1"),
        (r#"<"a\">b"@example.org>"#, r#""a\">b"@example.org"#, ""),
        (r#"<""@b> X="1>2""#, r#"""@b"#, r#" X="1>2""#),
        ("<jörg@b> SMTPUTF8", "jörg@b", " SMTPUTF8"),
        ("<@a:b@[IPv6:::1]>", "b@[IPv6:::1]", ""),
        ("<postmaster@b>", "postmaster@b", ""),
    ] {
        let (reverse, rest) = ReversePath::take(path).unwrap();
        assert_eq!((reverse.to_string().as_str(), rest), (expected, expected_rest));
        let (forward, rest) = ForwardPath::take(path).unwrap();
        assert_eq!((forward.to_string().as_str(), rest), (expected, expected_rest));
    }
}

#[test]
fn what_is_not_between_brackets_is_no_path() {
    for (path, error) in [
        ("", PathError::NoBrackets),
        ("a@b", PathError::NoBrackets),
        ("a@b>", PathError::NoBrackets),
        ("<a@b", PathError::NoBrackets),
        ("<", PathError::NoBrackets),
        (">", PathError::NoBrackets),
        (" <a@b>", PathError::NoBrackets),
        ("(comment)<a@b>", PathError::NoBrackets),
        ("Ann <a@b>", PathError::NoBrackets),
        ("\"<a@b>\"", PathError::NoBrackets),
        ("[a@b]", PathError::NoBrackets),
        ("<\"a@b>", PathError::LocalPart),
        ("<a\"@b>", PathError::LocalPart),
        ("<\"a\\\">@b>", PathError::LocalPart),
        ("<<a@b>>", PathError::LocalPart),
        ("<< a@b>>", PathError::LocalPart),
        ("< a@b>", PathError::LocalPart),
        ("<a@b >", PathError::Domain),
        ("< >", PathError::NoAt),
        ("<a>", PathError::NoAt),
        ("<a,b@c>", PathError::LocalPart),
        ("<a@b,c@d>", PathError::Domain),
        ("<a@b\0>", PathError::Control),
    ] {
        assert_eq!(ReversePath::take(path), Err(error), "{path:?}");
        assert_eq!(ForwardPath::take(path), Err(error), "{path:?}");
    }
}

#[test]
fn the_null_path_is_for_senders_and_the_bare_postmaster_for_recipients() {
    assert_eq!(ReversePath::take("<> X").unwrap(), (ReversePath(None), " X"));
    assert_eq!(ForwardPath::take("<>"), Err(PathError::NoAt));
    for path in ["<Postmaster>", "<postmaster>", "<POSTMASTER>", "<pOSTmaster>"] {
        assert_eq!(ForwardPath::take(path).unwrap(), (ForwardPath::Postmaster, ""));
        assert_eq!(ReversePath::take(path), Err(PathError::NoAt));
    }
    assert_eq!(ForwardPath::take("<Postmaster@>"), Err(PathError::Domain));
    assert_eq!(ForwardPath::take("<Postmaster >"), Err(PathError::NoAt));
    assert_eq!(ForwardPath::take("<\"Postmaster\">"), Err(PathError::NoAt));
}

#[test]
fn a_reverse_path_is_read_back_as_it_was_written() {
    for text in [
        "",
        "jdoe@example.org",
        r#""a b"@[IPv6:::1]"#,
        "jörg@xn--bcher-kva.example",
    ] {
        assert_eq!(text.parse::<ReversePath>().unwrap().to_string(), text);
    }
    assert!("<>".parse::<ReversePath>().is_err());
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_read_back_unchanged(
        text in "[\"a-c\\\\.@<>: \\[\\]IPv6:0-9öß例\u{ad}\u{3002}]{0,20}",
    ) {
        if let Ok(mailbox) = Mailbox::parse(&text) {
            prop_assert_eq!(mailbox.to_string().parse::<Mailbox>(), Ok(mailbox.clone()));
            let path = format!("<{mailbox}>");
            let taken = (ForwardPath::Mailbox(mailbox), "");
            prop_assert_eq!(ForwardPath::take(&path), Ok(taken));
        }
    }

    #[test]
    fn whatever_is_accepted_is_fit_for_a_log_and_has_an_ascii_domain(
        local_part in "\"?[a-z\u{0}-\u{ff}\\PC]{1,6}\"?",
        domain in "([a-z\u{80}-\u{ff}\\PC]{1,4}\\.)?[a-zéא例]{1,4}",
    ) {
        if let Ok(mailbox) = Mailbox::parse(&format!("{local_part}@{domain}")) {
            prop_assert!(!mailbox.to_string().chars().any(char::is_control));
            prop_assert!(mailbox.domain().is_ascii());
            prop_assert_eq!(mailbox.domain(), mailbox.domain().to_ascii_lowercase());
            prop_assert_eq!(mailbox.to_string().parse::<Mailbox>(), Ok(mailbox));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}", domain in "\\PC{0,10}(\\.\\PC{0,10}){0,3}") {
        let _ = Mailbox::parse(&text);
        let _ = Mailbox::parse(&format!("a@{domain}"));
        let _ = ReversePath::take(&text);
        let _ = ForwardPath::take(&format!("<{text}"));
        let _ = ForwardPath::take(&format!("<@{domain}:{text}"));
    }
}
