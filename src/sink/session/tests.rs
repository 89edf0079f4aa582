//! The sink's dialogue without a socket: what is right to say, and what follows from what was said instead.

use super::*;
use crate::sink::settings::Settings;

fn session(settings: Settings) -> Session {
    let service = Service::new(settings).unwrap();
    let mut session = Session::new(Arc::new(service), [1; 32]);
    let greeting = session.greeting();
    assert_eq!(greeting.stages, [Stage::Greeting]);
    session.answered(Some(greeting.reply.code));
    session
}

/// What is said to a line, as it should be; what comes next.
fn say_to(session: &mut Session, line: &str) -> (String, Next) {
    match session.hear(Line::Whole(line.as_bytes()), false) {
        Heard::Answer(answer) => {
            let next = session.answered(Some(answer.reply.code));
            let mut octets = Vec::new();
            answer.reply.write_to(&mut octets, answer.enhanced);
            (String::from_utf8(octets).unwrap(), next)
        }
        Heard::Chunk(size) => (format!("chunk {size}"), Next::Line),
    }
}

/// Goes through lines, each with the beginning of its answer.
#[track_caller]
fn go_through(session: &mut Session, dialogue: &[(&str, &str)]) {
    for (line, expected) in dialogue {
        let (said, _) = say_to(session, line);
        assert!(said.starts_with(expected), "{line}: {said}");
    }
}

const HELLO: (&str, &str) = ("EHLO a.example", "250-");

#[test]
fn a_message_goes_through() {
    let mut session = session(Settings::default());
    go_through(
        &mut session,
        &[
            HELLO,
            ("MAIL FROM:<bob@a.example> SIZE=5 BODY=8BITMIME", "250 2.1.0 "),
            ("RCPT TO:<alice@b.example> NOTIFY=NEVER", "250 2.1.5 "),
        ],
    );
    assert_eq!(say_to(&mut session, "DATA").1, Next::Content);
    let envelope = session.envelope().unwrap();
    assert_eq!(envelope.reverse_path, "bob@a.example");
    assert_eq!(envelope.parameters, "SIZE=5 BODY=8BITMIME");
    assert_eq!(envelope.recipients[0].path, "alice@b.example");
    assert_eq!(envelope.recipients[0].parameters, "NOTIFY=NEVER");
    let answers = session.end_of_content(5, None);
    assert_eq!(session.settles(true), Some(true));
    let [answer] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!((answer.stages, answer.reply.code), (&[Stage::Dot][..], 250));
    assert_eq!(session.answered(Some(250)), Next::Line);
    assert_eq!(session.envelope(), None);
    assert_eq!(say_to(&mut session, "QUIT").1, Next::Close);
}

#[test]
fn commands_out_of_sequence_are_refused() {
    go_through(
        &mut session(Settings::default()),
        &[
            ("MAIL FROM:<>", "503 "),
            HELLO,
            ("RCPT TO:<a@b.example>", "503 "),
            ("DATA", "503 "),
            ("MAIL FROM:<>", "250 "),
            ("MAIL FROM:<>", "503 "),
            ("DATA", "554 "),
            ("RSET", "250 "),
            ("DATA", "503 "),
            ("STARTTLS", "502 "),
            ("AUTH PLAIN", "502 "),
            ("EXPN a", "502 "),
            ("NONSENSE", "500 "),
            ("MAIL FROM:bob", "501 "),
            ("NOOP", "250 "),
        ],
    );
}

#[test]
fn what_is_not_offered_is_not_understood() {
    let settings = Settings {
        offers: vec!["PIPELINING".to_owned()],
        ..Settings::default()
    };
    go_through(
        &mut session(settings),
        &[
            HELLO,
            ("MAIL FROM:<> SIZE=1", "555 That"),
            ("MAIL FROM:<> BODY=8BITMIME", "555 "),
            ("MAIL FROM:<> SMTPUTF8", "555 "),
            ("MAIL FROM:<> RET=HDRS", "555 "),
            ("BDAT 5 LAST", "502 "),
            ("MAIL FROM:<>", "250 OK"),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER", "555 "),
            // After HELO nothing is offered at all.
            ("HELO a.example", "250 sink.example"),
            ("MAIL FROM:<> SIZE=1", "555 "),
        ],
    );
}

#[test]
fn what_was_said_decides_and_not_what_was_right() {
    let mut session = session(Settings::default());
    go_through(&mut session, &[HELLO]);
    let mut hear = |line: &str, code| {
        assert!(matches!(
            session.hear(Line::Whole(line.as_bytes()), false),
            Heard::Answer(_)
        ));
        (
            session.answered(code),
            session.envelope().map(|envelope| envelope.recipients.len()),
        )
    };
    assert_eq!(hear("MAIL FROM:<>", Some(450)), (Next::Line, None));
    assert_eq!(hear("MAIL FROM:<>", None), (Next::Line, None));
    assert_eq!(hear("MAIL FROM:<>", Some(250)), (Next::Line, Some(0)));
    assert_eq!(hear("RCPT TO:<a@b.example>", Some(550)), (Next::Line, Some(0)));
    // Who is told to go ahead although nobody is left goes ahead.
    assert_eq!(hear("DATA", Some(354)), (Next::Content, Some(0)));
    session.end_of_content(0, None);
    assert_eq!(session.answered(Some(421)), Next::Close);
}

#[test]
fn limits_are_kept() {
    let settings = Settings {
        size: Some(10),
        max_recipients: 1,
        max_per_session: Some(1),
        ..Settings::default()
    };
    let mut session = session(settings);
    let (said, _) = say_to(&mut session, "EHLO a.example");
    assert!(said.contains("250-SIZE 10\r\n"), "{said}");
    go_through(
        &mut session,
        &[
            ("MAIL FROM:<> SIZE=11", "552 5.3.4 "),
            ("MAIL FROM:<> SIZE=10", "250 "),
            ("RCPT TO:<a@b.example>", "250 "),
            ("RCPT TO:<c@b.example>", "452 4.5.3 "),
            ("DATA", "354 "),
        ],
    );
    assert_eq!(session.end_of_content(11, None)[0].reply.code, 552);
    session.answered(Some(552));
    go_through(&mut session, &[("MAIL FROM:<>", "250 "), ("RSET", "250 ")]);
    session.end_of_content(1, None);
    session.answered(Some(250));
    assert_eq!(say_to(&mut session, "MAIL FROM:<>").1, Next::Close);
}

#[test]
fn chunks_are_taken_and_the_last_one_settles() {
    let mut session = session(Settings::default());
    let mut checker = ChunkChecker::text();
    go_through(
        &mut session,
        &[
            HELLO,
            ("MAIL FROM:<>", "250 "),
            ("RCPT TO:<a@b.example>", "250 "),
            ("BDAT 4", "chunk 4"),
        ],
    );
    checker.check(b"ab\r\n");
    let answer = session.end_of_chunk(&checker);
    assert_eq!((answer.stages, session.settles(true)), (&[Stage::Bdat][..], None));
    session.answered(Some(250));
    go_through(
        &mut session,
        &[
            ("DATA", "503 "),
            ("RCPT TO:<a@b.example>", "503 "),
            ("BDAT 1 LAST", "chunk 1"),
        ],
    );
    checker.check(b"\n");
    let answer = session.end_of_chunk(&checker);
    // A bare LF is as bad here as elsewhere.
    assert_eq!(
        (answer.stages, answer.reply.code),
        (&[Stage::Bdat, Stage::Dot][..], 550)
    );
    assert_eq!(session.settles(false), Some(false));
}

#[test]
fn after_a_chunk_that_was_refused_the_others_are_too() {
    let mut session = session(Settings::default());
    let checker = ChunkChecker::text();
    go_through(
        &mut session,
        &[
            HELLO,
            ("MAIL FROM:<>", "250 "),
            ("RCPT TO:<a@b.example>", "250 "),
            ("BDAT 0", "chunk 0"),
        ],
    );
    session.end_of_chunk(&checker);
    session.answered(Some(451));
    go_through(&mut session, &[("BDAT 0 LAST", "chunk 0")]);
    assert_eq!(session.end_of_chunk(&checker).reply.code, 503);
    session.answered(Some(503));
    go_through(&mut session, &[("MAIL FROM:<>", "250 ")]);
}

#[test]
fn who_goes_on_before_the_answer_is_sent_away() {
    for (offers, line, is_fine) in [
        (true, "MAIL FROM:<>", true),
        (true, "EHLO b.example", false),
        (true, "DATA", false),
        (true, "BDAT 5", true),
        (false, "MAIL FROM:<>", false),
        (false, "QUIT", true),
    ] {
        let mut session = session(Settings {
            offers: if offers {
                vec!["PIPELINING".into(), "CHUNKING".into()]
            } else {
                Vec::new()
            },
            ..Settings::default()
        });
        go_through(&mut session, &[("EHLO a.example", "250")]);
        let said = match session.hear(Line::Whole(line.as_bytes()), true) {
            Heard::Answer(answer) => answer.reply.code,
            Heard::Chunk(_) => 0,
        };
        assert_eq!(said != 554, is_fine, "{line}");
    }
}

#[test]
fn a_login_is_asked_for_and_taken() {
    let mut session = session(Settings {
        login: Some(("bob".to_owned(), "sesame".to_owned())),
        ..Settings::default()
    });
    let (said, _) = say_to(&mut session, "EHLO a.example");
    assert!(said.contains("AUTH PLAIN LOGIN"), "{said}");
    let plain = |password: &str| base64::encode(format!("\0bob\0{password}").as_bytes());
    go_through(
        &mut session,
        &[
            ("MAIL FROM:<>", "530 "),
            ("AUTH CRAM-MD5", "504 "),
            ("AUTH PLAIN !", "501 "),
            (&format!("AUTH PLAIN {}", plain("wrong")), "535 5.7.8 "),
            ("AUTH PLAIN", "334 "),
            ("*", "501 "),
            ("AUTH PLAIN", "334 "),
            (&plain("sesame"), "235 2.7.0 "),
            ("MAIL FROM:<> AUTH=<>", "250 "),
        ],
    );
}

#[test]
fn tls_is_offered_until_it_is_spoken_and_forgets_what_was_said() {
    let mut session = session(Settings {
        tls: Tls::Offered,
        require_tls: true,
        ..Settings::default()
    });
    let (said, _) = say_to(&mut session, "EHLO a.example");
    assert!(said.contains("STARTTLS"), "{said}");
    go_through(&mut session, &[("MAIL FROM:<>", "530 ")]);
    assert_eq!(say_to(&mut session, "STARTTLS").1, Next::Handshake);
    session.tls_started(Bindings::default());
    go_through(
        &mut session,
        &[
            ("MAIL FROM:<>", "503 "),
            HELLO,
            ("STARTTLS", "502 "),
            ("MAIL FROM:<>", "250 "),
        ],
    );
}

#[test]
fn who_was_turned_away_may_only_quit() {
    let service = Arc::new(Service::new(Settings::default()).unwrap());
    let mut session = Session::new(service, [1; 32]);
    session.greeting();
    session.answered(Some(554));
    go_through(&mut session, &[("EHLO a.example", "503 "), ("QUIT", "221 ")]);
}

proptest::proptest! {
    /// Whatever is said, and whatever is answered, goes on somehow.
    #[test]
    fn no_dialogue_confuses_it(
        dialogue in proptest::collection::vec(("(EHLO|MAIL|RCPT|DATA|BDAT|RSET|AUTH|STARTTLS|QUIT|x)[ -~]{0,20}", 0..600u16), 0..20)
    ) {
        let mut session = session(Settings::default());
        for (line, code) in dialogue {
            match session.hear(Line::Whole(line.as_bytes()), false) {
                Heard::Answer(_) => {}
                Heard::Chunk(_) => _ = session.end_of_chunk(&ChunkChecker::text()),
            }
            if session.answered(Some(code)) == Next::Content {
                session.end_of_content(0, None);
                session.answered(Some(code));
            }
        }
    }
}
