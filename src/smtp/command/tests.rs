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
    assert_eq!(parse(b"EXPN list"), Err(CommandError::NotOffered));
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
    for (line, error) in [
        (&b"HELO \xff"[..], CommandError::NotUtf8),
        ("EHLO j\u{f6}rg".as_bytes(), CommandError::NotAscii),
        (
            "MAIL FROM:<j\u{f6}rg@a>".as_bytes(),
            CommandError::Sender(PathError::NotAscii),
        ),
        (
            "MAIL FROM:<a@b\u{fc}cher.example> BODY=8BITMIME".as_bytes(),
            CommandError::Sender(PathError::NotAscii),
        ),
    ] {
        assert_eq!(parse(line), Err(error), "{line:?}");
    }
}

#[test]
fn smtputf8_lets_addresses_be_in_any_script() {
    let (path, said) = mail_from("MAIL FROM:<j\u{f6}rg@b\u{fc}cher.example> smtputf8").unwrap();
    assert_eq!(path, "j\u{f6}rg@xn--bcher-kva.example");
    assert!(said.utf8);
    let Ok(Command::Rcpt { parameters, .. }) = parse("RCPT TO:<j\u{f6}rg@a>".as_bytes()) else {
        panic!("no recipient")
    };
    assert!(parameters.utf8, "the session knows whether MAIL had SMTPUTF8");
}

#[test]
fn a_client_calls_itself_by_one_word_that_could_be_a_hosts_name() {
    for name in [
        "a.example",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        "my_host",
        "192.0.2.1",
        "localhost.",
    ] {
        assert_eq!(
            parse(format!("EHLO {name}").as_bytes()),
            Ok(Command::Ehlo(name.to_owned()))
        );
    }
    for name in ["[999.1.1.1]", "[IPv6:zz]", "a..b", "-a", "a-.b", "."] {
        let parsed = parse(format!("EHLO {name}").as_bytes());
        assert_eq!(parsed, Err(CommandError::Arguments), "{name}");
    }
    for name in ["a b", "a;b", "<a>", "\"a\"", "a@b", &"x".repeat(300)] {
        let parsed = parse(format!("EHLO {name}").as_bytes());
        assert_eq!(parsed, Err(CommandError::Arguments), "{name}");
    }
}

#[test]
fn what_dsn_asks_for_is_read() {
    let (_, said) = mail_from("MAIL FROM:<a@b> RET=hdrs ENVID=QQ+2B31").unwrap();
    assert_eq!(said.ret, Some(Return::Headers));
    assert_eq!(said.envelope_id.unwrap().decoded(), "QQ+31");
    let rcpt = parse(b"RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d");
    let Ok(Command::Rcpt { parameters, .. }) = rcpt else {
        panic!("{rcpt:?}")
    };
    assert_eq!(parameters.notify.unwrap().to_string(), "SUCCESS,DELAY");
    assert_eq!(parameters.original.unwrap().decoded(), "rfc822;c@d");
    for wrong in [
        "NOTIFY",
        "NOTIFY=",
        "NOTIFY=NEVER,DELAY",
        "ORCPT=a@b",
        "NOTIFY=DELAY NOTIFY=DELAY",
    ] {
        let line = format!("RCPT TO:<a@b> {wrong}");
        assert_eq!(parse(line.as_bytes()), Err(CommandError::BadParameter), "{line}");
    }
    assert_eq!(
        parse(b"RCPT TO:<a@b> SIZE=1"),
        Err(CommandError::UnknownParameter)
    );
}

#[test]
fn bdat_has_a_size_and_may_be_the_last() {
    let bdat = |size, last| Ok(Command::Bdat { size, last });
    assert_eq!(parse(b"BDAT 10"), bdat(10, false));
    assert_eq!(parse(b"bdat 0 last"), bdat(0, true));
    assert_eq!(parse(b"BDAT 99999999999999999999 LAST"), bdat(u64::MAX, true));
    for line in [
        "BDAT",
        "BDAT LAST",
        "BDAT -1",
        "BDAT 0x10",
        "BDAT 10 FIRST",
        "BDAT 10 LAST 1",
        "BDAT +1",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(CommandError::Arguments), "{line}");
    }
}

#[test]
fn auth_has_a_mechanism_and_perhaps_an_initial_response() {
    let auth = |mechanism: &str, initial: Option<&str>| {
        Ok(Command::Auth {
            mechanism: mechanism.to_owned(),
            initial: initial.map(str::to_owned),
        })
    };
    assert_eq!(parse(b"AUTH LOGIN"), auth("LOGIN", None));
    assert_eq!(parse(b"auth plain ="), auth("plain", Some("=")));
    for line in ["AUTH", "AUTH PLAIN a b", "STARTTLS now"] {
        assert_eq!(parse(line.as_bytes()), Err(CommandError::Arguments), "{line}");
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
    for parameter in ["FOO", "NOTIFY=NEVER", "=", "SIZES=1"] {
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
        "BODY=BINARY",
        "SMTPUTF8=",
        "SMTPUTF8 SMTPUTF8",
        "AUTH",
        "AUTH=a=b",
        "RET=ALL",
        "ENVID=a=b",
        "BODY=7BIT BODY=7BIT",
    ] {
        let line = format!("MAIL FROM:<a@b> {parameter}");
        assert_eq!(mail_from(&line), Err(CommandError::BadParameter), "{line}");
    }
    let line = b"RCPT TO:<a@b> RET=FULL";
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
            to: ForwardPath::Postmaster,
            parameters: RcptParameters::default(),
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
