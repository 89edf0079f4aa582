//! Whole exchanges in PLAIN and LOGIN; those of SCRAM are beside it.

use super::*;
use proptest::prelude::*;

fn context() -> Context {
    let text = b"bob:{PLAIN}pencil\ncarol@b.example:{PLAIN}crayon\ndave:";
    Context {
        accounts: Arc::new(Accounts::parse(text, "accounts", "a.example").unwrap()),
        bindings: Bindings::default(),
        entropy: [7; 32],
    }
}

fn begin(mechanism: Mechanism, initial: Option<&[u8]>) -> Progress {
    Exchange::new(mechanism, context()).begin(initial)
}

/// What comes out, with every check done; challenges by their text.
fn outcome(progress: Progress) -> String {
    match progress {
        Progress::Challenge(_, text) => format!("? {}", String::from_utf8(text).unwrap()),
        Progress::Check(check) => outcome(check.run()),
        Progress::Done(login) => login.address.to_string(),
        Progress::Failed => "failed".into(),
        Progress::Malformed => "malformed".into(),
    }
}

fn respond(progress: Progress, response: &[u8]) -> Progress {
    match progress {
        Progress::Challenge(exchange, _) => exchange.respond(response),
        other => panic!("no challenge: {other:?}"),
    }
}

#[test]
fn mechanisms_are_found_by_name_and_offered_as_they_can_be_used() {
    for mechanism in Mechanism::ALL {
        assert_eq!(
            Mechanism::from_name(&mechanism.name().to_lowercase()),
            Some(mechanism)
        );
    }
    assert_eq!(Mechanism::from_name("CRAM-MD5"), None);
    let offered = |text: &str, bindings: &Bindings| {
        let accounts = Accounts::parse(text.as_bytes(), "accounts", "a.example").unwrap();
        let names: Vec<_> = Mechanism::offered(&accounts, bindings)
            .map(Mechanism::name)
            .collect();
        names.join(" ")
    };
    let exporter = Bindings {
        exporter: Some([1; 32]),
        server_end_point: Vec::new(),
    };
    assert_eq!(
        offered("bob:{PLAIN}x", &exporter),
        "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"
    );
    assert_eq!(
        offered("bob:{PLAIN}x", &Bindings::default()),
        "SCRAM-SHA-256 PLAIN LOGIN"
    );
    let sha = "bob:$5$xyz$xa9bZQqN39Pft.2nUTlTLhku1.DF/xqs4Rp4cj2NJbD";
    assert_eq!(offered(sha, &exporter), "PLAIN LOGIN");
}

#[test]
fn plain_is_one_message_with_or_without_a_challenge() {
    let message = b"\0bob\0pencil";
    assert_eq!(outcome(begin(Mechanism::Plain, Some(message))), "bob@a.example");
    let asked = begin(Mechanism::Plain, None);
    assert_eq!(outcome(asked.clone()), "? ");
    assert_eq!(outcome(respond(asked, message)), "bob@a.example");
}

#[test]
fn plain_lets_nobody_act_for_somebody_else() {
    for (message, expected) in [
        (&b"bob\0bob\0pencil"[..], "bob@a.example"),
        (b"BOB@A.example\0bob\0pencil", "bob@a.example"),
        (b"bob@a.example\0Bob@a.example\0pencil", "bob@a.example"),
        (b"\0carol@b.example\0crayon", "carol@b.example"),
        (b"carol@b.example\0bob\0pencil", "failed"),
        (b"carol@b.example\0bob\0crayon", "failed"),
        (b"\0bob\0crayon", "failed"),
        (b"\0dave\0", "failed"),
        (b"\0\0pencil", "failed"),
        (b"\0bob\0", "failed"),
        (b"\0bob\0pencil\0", "malformed"),
        (b"\0\0bob\0pencil", "malformed"),
        (b"bob\0pencil", "malformed"),
        (b"", "malformed"),
        (b"\0b\xf6b\0pencil", "malformed"),
    ] {
        assert_eq!(
            outcome(begin(Mechanism::Plain, Some(message))),
            expected,
            "{message:?}"
        );
    }
}

#[test]
fn login_asks_twice_or_once_after_an_initial_response() {
    let asked = begin(Mechanism::Login, None);
    assert_eq!(outcome(asked.clone()), "? Username:");
    let asked = respond(asked, b"bob");
    assert_eq!(outcome(asked.clone()), "? Password:");
    assert_eq!(outcome(respond(asked.clone(), b"pencil")), "bob@a.example");
    assert_eq!(outcome(respond(asked.clone(), b"Pencil")), "failed");
    assert_eq!(outcome(respond(asked.clone(), b"")), "failed");
    assert_eq!(outcome(respond(asked, b"pencil\0")), "malformed");
    let asked = begin(Mechanism::Login, Some(b"bob"));
    assert_eq!(outcome(asked.clone()), "? Password:");
    assert_eq!(outcome(respond(asked, b"pencil")), "bob@a.example");
    assert_eq!(
        outcome(respond(begin(Mechanism::Login, Some(b"")), b"pencil")),
        "failed"
    );
    assert_eq!(outcome(begin(Mechanism::Login, Some(b"b\xf6b"))), "malformed");
}

#[test]
fn a_check_tells_the_name_and_nothing_else() {
    let check = begin(Mechanism::Plain, Some(b"\0bob\0pencil"));
    assert_eq!(format!("{check:?}"), "Check(Check(\"bob\", …))");
    let asked = begin(Mechanism::Login, Some(b"bob"));
    assert!(!format!("{:?}", respond(asked, b"pencil")).contains("pencil"));
}

proptest! {
    #[test]
    fn no_message_is_beyond_reading(
        first in proptest::collection::vec(any::<u8>(), 0..40),
        second in "[nyp=a,rc]{0,20}",
    ) {
        for mechanism in Mechanism::ALL {
            for response in [&first[..], second.as_bytes()] {
                let progress = begin(mechanism, Some(response));
                prop_assert!(!matches!(progress, Progress::Done(_)));
            }
        }
    }
}
