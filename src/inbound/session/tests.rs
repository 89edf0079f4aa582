//! What the golden dialogues cannot show: the steps, the envelope, and inputs that come at the wrong time.

use super::*;
use crate::aliases::Aliases;
use crate::mailbox::directory::Directory;
use crate::smtp::command::Body;
use crate::smtp::data::ContentFault;
use crate::smtp::line::LineFault;
use crate::tls::handshake::TlsFacts;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn session(may_relay: bool) -> Session {
    session_at(Front::Relay, may_relay)
}

fn session_at(front: Front, may_relay: bool) -> Session {
    let settings = SessionSettings {
        hostname: "eniac.lotus.com".to_owned(),
        max_message_size: 1000,
        max_recipients: 3,
        max_hops: 5,
        policy: RecipientPolicy::new(Arc::new(Directory {
            local_domains: vec!["eniac.lotus.com".to_owned()],
            accounts: None,
            aliases: Aliases::default(),
        }))
        .unwrap(),
        accounts: None,
        offers_tls: true,
        any_sender: false,
    };
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = Client {
        address: localhost,
        called: localhost,
        front,
        may_relay,
    };
    Session::new(Arc::new(settings), client)
}

/// The session after `lines`, and the steps of the last of them.
fn after(lines: &[&str]) -> (Session, Vec<Step>) {
    let mut session = session(false);
    let mut steps = Vec::new();
    for line in lines {
        (session, steps) = moved(session, said(line.as_bytes()));
    }
    (session, steps)
}

fn said(line: &[u8]) -> Input<'_> {
    Input::Line {
        line,
        followed: false,
    }
}

fn moved(session: Session, input: Input<'_>) -> (Session, Vec<Step>) {
    let (session, steps) = session.advance(input);
    (session, steps.into_iter().collect())
}

fn codes(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .map(|step| match step {
            Step::Reply(reply) => reply.to_string()[..3].to_owned(),
            other => format!("{other:?}")
                .split('(')
                .next()
                .unwrap_or_default()
                .to_owned(),
        })
        .collect()
}

const TO_CONTENT: [&str; 4] = [
    "EHLO univac.com",
    "MAIL FROM:<bsmith@univac.com> BODY=8BITMIME",
    "RCPT TO:<jdoe@eniac.lotus.com>",
    "DATA",
];

const GOOD: Input<'_> = Input::Content(ContentEnd {
    size: 1000,
    fault: None,
    hops: 5,
    kept: Ok(()),
});

#[test]
fn a_message_is_stored_with_its_envelope_and_answered_only_after_the_commit() {
    let (session, steps) = after(&TO_CONTENT);
    assert_eq!(codes(&steps), ["354", "ReceiveContent"]);
    assert!(session.received_facts().is_some());
    let (session, steps) = moved(session, GOOD);
    let [Step::Store(envelope)] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(envelope.reverse_path.to_string(), "bsmith@univac.com");
    assert_eq!(envelope.recipients[0].path.to_string(), "jdoe@eniac.lotus.com");
    assert_eq!(
        (envelope.recipients.len(), envelope.body),
        (1, Some(Body::EightBitMime))
    );
    assert!(session.received_facts().is_none());
    let (_, steps) = moved(session, Input::Stored(Ok(MessageId(0xABC))));
    let [Step::Reply(reply)] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(
        reply.to_string(),
        "250 2.6.0 Message received OK. 0000000000000ABC"
    );
}

#[test]
fn content_that_is_too_big_bad_or_not_kept_is_forgotten_and_the_session_goes_on() {
    let bad = |size, fault, kept| {
        Input::Content(ContentEnd {
            size,
            fault,
            hops: 0,
            kept,
        })
    };
    for (input, reply) in [
        (bad(1001, None, Ok(())), "552 5.3.4"),
        (
            bad(1001, Some(ContentFault::BareLf), Err(StoreRefusal::OutOfSpace)),
            "552 5.3.4",
        ),
        (bad(10, Some(ContentFault::BareCr), Ok(())), "550 5.6.0"),
        (bad(10, None, Err(StoreRefusal::OutOfSpace)), "452 4.3.1"),
    ] {
        let (session, steps) = moved(after(&TO_CONTENT).0, input);
        let [Step::Discard, Step::Reply(heard)] = steps.as_slice() else {
            panic!("{steps:?}")
        };
        assert!(heard.to_string().starts_with(reply), "{heard}");
        let (_, steps) = moved(session, said(b"MAIL FROM:<>"));
        assert_eq!(codes(&steps), ["250"]);
    }
}

#[test]
fn a_failed_commit_is_a_4xx_and_never_a_250() {
    let (session, _) = moved(after(&TO_CONTENT).0, GOOD);
    let (session, steps) = moved(session, Input::Stored(Err(StoreRefusal::QueueTrouble)));
    assert_eq!(codes(&steps), ["Discard", "451"]);
    assert!(!session.is_closed());
}

#[test]
fn a_commit_on_its_way_is_waited_for_whatever_else_happens() {
    let (session, _) = moved(after(&TO_CONTENT).0, GOOD);
    let (session, steps) = moved(session, Input::Stopping);
    assert!(steps.is_empty());
    let (session, steps) = moved(session, Input::Timeout);
    assert!(steps.is_empty());
    let (session, steps) = moved(session, Input::Stored(Ok(MessageId(1))));
    assert_eq!(codes(&steps), ["250"]);
    assert_eq!(codes(&moved(session, Input::Stopping).1), ["421", "Close"]);
}

#[test]
fn silence_and_the_end_of_service_close_with_421_and_forget_content() {
    for input in [|| Input::Timeout, || Input::Stopping, || Input::Evicted] {
        for lines in [&TO_CONTENT[..0], &TO_CONTENT[..1], &TO_CONTENT[..3]] {
            let (session, steps) = moved(after(lines).0, input());
            assert_eq!(codes(&steps), ["421", "Close"]);
            assert!(session.is_closed());
        }
        let (session, steps) = moved(after(&TO_CONTENT).0, input());
        assert_eq!(codes(&steps), ["Discard", "421", "Close"]);
        assert!(moved(session, said(b"NOOP")).1.is_empty());
    }
}

#[test]
fn the_twentieth_bad_command_is_the_last_and_a_stored_message_starts_the_count_anew() {
    let mut session = session(false);
    for count in 1..20 {
        let steps;
        (session, steps) = moved(session, Input::BadLine(LineFault::TooLong));
        let later = ["Pause", "500"];
        assert_eq!(codes(&steps), if count > 10 { &later[..] } else { &later[1..] });
    }
    for line in TO_CONTENT {
        session = moved(session, said(line.as_bytes())).0;
    }
    session = moved(session, GOOD).0;
    session = moved(session, Input::Stored(Ok(MessageId(1)))).0;
    for _ in 0..19 {
        session = moved(session, said(b"FOO")).0;
    }
    let (session, steps) = moved(session, said(b"DATA"));
    assert_eq!(codes(&steps), ["421", "Close"]);
    assert!(session.is_closed());
}

#[test]
fn the_facts_of_the_received_line_are_there_while_content_comes() {
    let (session, _) = after(&TO_CONTENT);
    let facts = session.received_facts().unwrap();
    assert_eq!(
        (facts.helo, facts.hostname, facts.extended),
        ("univac.com", "eniac.lotus.com", true)
    );
    assert_eq!(facts.only_recipient.unwrap().to_string(), "jdoe@eniac.lotus.com");
    assert!(after(&TO_CONTENT[..3]).0.received_facts().is_none());
    let two = [
        TO_CONTENT[0],
        TO_CONTENT[1],
        TO_CONTENT[2],
        "RCPT TO:<b@eniac.lotus.com>",
        "DATA",
    ];
    assert!(after(&two).0.received_facts().unwrap().only_recipient.is_none());
}

#[test]
fn lines_are_not_obeyed_while_content_comes() {
    let (session, _) = after(&TO_CONTENT);
    let (session, steps) = moved(session, said(b"QUIT"));
    assert!(steps.is_empty() && session.received_facts().is_some());
}

fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("HELO a".to_owned()),
        Just("EHLO a".to_owned()),
        "MAIL FROM:<(a@b)?>( SIZE=[0-9]{1,4})?",
        "RCPT TO:<[a-e]@(eniac.lotus.com|x)>",
        Just("DATA".to_owned()),
        Just("RSET".to_owned()),
        "\\PC{0,20}",
    ]
}

proptest! {
    #[test]
    fn no_dialogue_stores_a_message_without_a_local_recipient_or_with_more_than_the_limit(
        lines in proptest::collection::vec(any_line(), 0..60),
    ) {
        let mut session = session(false);
        for line in &lines {
            let mut steps;
            (session, steps) = moved(session, said(line.as_bytes()));
            if session.received_facts().is_some() {
                (session, steps) = moved(session, GOOD);
                let [Step::Store(envelope)] = steps.as_slice() else { panic!("{steps:?}") };
                prop_assert!((1..=3).contains(&envelope.recipients.len()));
                prop_assert!(envelope.recipients.iter().all(|r| r.path.domain() == "eniac.lotus.com"));
                (session, steps) = moved(session, Input::Stored(Ok(MessageId(1))));
            }
            prop_assert!(session.is_closed() || steps.iter().any(|step| matches!(step, Step::Reply(_))));
        }
    }
}

#[test]
fn data_is_the_last_of_its_group() {
    let (session, _) = after(&TO_CONTENT[..3]);
    let data = Input::Line {
        line: b"DATA",
        followed: true,
    };
    let (session, steps) = moved(session, data);
    assert_eq!(codes(&steps), ["554", "Close"]);
    assert!(session.is_closed());
}

#[test]
fn one_greeting_too_early_does_no_harm_and_a_message_too_early_does() {
    for early in ["", "EHLO univac.com\r\n", "quit\r\n"] {
        assert_eq!(
            codes(&moved(session(true), Input::Connected(early.as_bytes())).1),
            ["220"],
            "{early:?}"
        );
    }
    for early in [
        "EHLO a",
        "MAIL FROM:<>\r\n",
        "EHLO a\r\nMAIL FROM:<>\r\n",
        "GET / HTTP/1.1\r\n",
        "\x16\x03",
    ] {
        assert_eq!(
            codes(&moved(session(true), Input::Connected(early.as_bytes())).1),
            ["554", "Close"],
            "{early:?}"
        );
    }
}

#[test]
fn what_browsers_say_ends_the_session() {
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "CONNECT a:25 HTTP/1.1"] {
        assert_eq!(
            codes(&moved(session(true), said(line.as_bytes())).1),
            ["554", "Close"]
        );
    }
}

#[test]
fn chunks_make_a_message_and_one_that_is_refused_refuses_all() {
    let to_chunks = [TO_CONTENT[0], TO_CONTENT[1], TO_CONTENT[2], "BDAT 10"];
    let end = |fault| {
        Input::Content(ContentEnd {
            size: 10,
            fault,
            hops: 0,
            kept: Ok(()),
        })
    };
    let (session, steps) = after(&to_chunks);
    assert_eq!(codes(&steps), ["ReceiveChunk"]);
    let (session, steps) = moved(session, end(None));
    assert_eq!(codes(&steps), ["250"]);
    let (session, steps) = moved(session, said(b"DATA"));
    assert_eq!(codes(&steps), ["503"]);
    let (session, _) = moved(session, said(b"BDAT 0 LAST"));
    assert!(session.receives_last());
    assert_eq!(codes(&moved(session, end(None)).1), ["Store"]);

    let (session, steps) = moved(after(&to_chunks).0, end(Some(ContentFault::BareLf)));
    assert_eq!(codes(&steps), ["Discard", "550"]);
    let (session, steps) = moved(session, said(b"BDAT 5 LAST"));
    assert_eq!(codes(&steps), ["Skip"]);
    let (session, steps) = moved(session, Input::Skipped);
    assert_eq!(codes(&steps), ["550"]);
    assert_eq!(
        codes(&moved(session, said(b"MAIL FROM:<>")).1),
        ["250"],
        "it is over"
    );
}

#[test]
fn octets_that_were_announced_are_taken_in_whatever_the_stage() {
    for lines in [&TO_CONTENT[..0], &TO_CONTENT[..1], &TO_CONTENT[..2]] {
        let (session, steps) = moved(after(lines).0, said(b"BDAT 5 LAST"));
        assert_eq!(codes(&steps), ["Skip"]);
        let (session, steps) = moved(session, said(b"QUIT"));
        assert!(steps.is_empty(), "what comes is no command");
        assert_eq!(codes(&moved(session, Input::Skipped).1), ["503"]);
    }
    let unreadable = said(b"BDAT many");
    assert_eq!(
        codes(&moved(after(&TO_CONTENT[..3]).0, unreadable).1),
        ["501", "Close"]
    );
}

#[test]
fn where_users_submit_tls_comes_first_and_then_the_login() {
    let hello = said(b"EHLO univac.com");
    let (session, _) = moved(session_at(Front::Submission, true), hello);
    let (session, steps) = moved(session, said(b"MAIL FROM:<>"));
    let [Step::Reply(reply)] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(reply.to_string(), "530 5.7.0 Must issue a STARTTLS command first");
    let (session, steps) = moved(session, said(b"STARTTLS"));
    assert_eq!(codes(&steps), ["220", "StartTls"]);
    let (session, steps) = moved(session, said(b"RSET"));
    assert!(steps.is_empty(), "what was said in clear is not obeyed");
    let facts = TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384",
        exporter: Some([1; 32]),
        server_end_point: None,
        server_name: None,
    };
    let started = Input::TlsStarted(Box::new(Secured {
        facts,
        entropy: [2; 32],
    }));
    let (session, steps) = moved(session, started);
    assert!(steps.is_empty());
    let (session, steps) = moved(session, said(b"MAIL FROM:<>"));
    assert_eq!(codes(&steps), ["503"], "all is forgotten");
    let (session, _) = moved(session, said(b"EHLO univac.com"));
    let (session, steps) = moved(session, said(b"MAIL FROM:<>"));
    let [Step::Reply(reply)] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(reply.to_string(), "530 5.7.0 Authentication required");
    assert_eq!(codes(&moved(session, said(b"STARTTLS")).1), ["503"]);
}

#[test]
fn chunks_that_were_sent_before_the_refusal_cost_no_patience() {
    let (mut session, _) = after(&[TO_CONTENT[0], TO_CONTENT[1], TO_CONTENT[2], "BDAT 10"]);
    let too_big = Input::Content(ContentEnd {
        size: 2000,
        fault: None,
        hops: 0,
        kept: Ok(()),
    });
    session = moved(session, too_big).0;
    for _ in 0..50 {
        session = moved(session, said(b"BDAT 10")).0;
        let steps;
        (session, steps) = moved(session, Input::Skipped);
        assert_eq!(codes(&steps), ["552"]);
    }
    session = moved(session, said(b"BDAT 10 LAST")).0;
    let (session, _) = moved(session, Input::Skipped);
    assert_eq!(codes(&moved(session, said(b"MAIL FROM:<>")).1), ["250"]);
}

#[test]
fn a_message_without_recipients_is_over_with_its_last_chunk() {
    let (session, _) = after(&TO_CONTENT[..2]);
    let session = moved(session, said(b"BDAT 5 LAST")).0;
    let (session, steps) = moved(session, Input::Skipped);
    assert_eq!(codes(&steps), ["503"]);
    assert_eq!(codes(&moved(session, said(b"MAIL FROM:<>")).1), ["250"]);
}

#[test]
fn a_client_is_worth_what_it_has_shown() {
    assert_eq!(session(false).worth(), Worth::Nothing);
    assert_eq!(after(&TO_CONTENT[..1]).0.worth(), Worth::Nothing);
    assert_eq!(after(&TO_CONTENT[..2]).0.worth(), Worth::Promise);
    let (stored, _) = moved(
        moved(after(&TO_CONTENT).0, GOOD).0,
        Input::Stored(Ok(MessageId(1))),
    );
    assert_eq!(stored.worth(), Worth::Proven);
}

#[test]
fn the_last_straw_in_a_chunk_forgets_the_content_and_hangs_up() {
    let mut lines = TO_CONTENT[..3].to_vec();
    lines.extend(["NONSENSE"; 19]);
    let (session, _) = after(&lines);
    let (session, _) = moved(session, said(b"BDAT 5"));
    let fault = Input::Content(ContentEnd {
        size: 5,
        fault: Some(ContentFault::BareLf),
        hops: 0,
        kept: Ok(()),
    });
    let (session, steps) = moved(session, fault);
    assert_eq!(codes(&steps), ["Discard", "421", "Close"]);
    assert!(session.is_closed());
}
