//! The example of RFC 7677, and a client that does all of it wrong once.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::pbkdf2;

use super::*;
use crate::accounts::Accounts;
use crate::sasl::Bindings;

/// The account of RFC 7677 3, whose keys another implementation worked out, and one in clear.
const FILE: &str = "user:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\nbob:{PLAIN}pencil\neve:";

fn bindings() -> Bindings {
    Bindings {
        exporter: Some([9; 32]),
        server_end_point: vec![3; 48],
    }
}

fn context(bindings: Bindings) -> Context {
    Context {
        accounts: Arc::new(Accounts::parse(FILE.as_bytes(), "accounts", "a.example").unwrap()),
        bindings,
        entropy: [7; 32],
    }
}

/// The challenge's text; the exchange with it.
fn challenged(progress: Progress) -> (Exchange, String) {
    match progress {
        Progress::Challenge(exchange, text) => (exchange, String::from_utf8(text).unwrap()),
        other => panic!("no challenge: {other:?}"),
    }
}

fn checked(progress: Progress) -> Progress {
    match progress {
        Progress::Check(check) => check.run(),
        other => panic!("no check: {other:?}"),
    }
}

/// A client: its last message, and what the server should say then.
fn answer(header: &str, binding: &[u8], bare: &str, challenge: &str, password: &str) -> (String, String) {
    let attribute = |name: &str| {
        let mut all = challenge.split(',');
        all.find_map(|attribute| attribute.strip_prefix(name)).unwrap()
    };
    let salt = base64::decode(attribute("s=").as_bytes()).unwrap();
    let iterations: NonZeroU32 = attribute("i=").parse().unwrap();
    let mut salted = [0; 32];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, iterations, &salt, password.as_bytes(), &mut salted);
    let bound = base64::encode(&[header.as_bytes(), binding].concat());
    let last = format!("c={bound},r={}", attribute("r="));
    let said = format!("{bare},{challenge},{last}");
    let key = hmac_sha256(&salted, b"Client Key");
    let signature = hmac_sha256(&sha256(&key), said.as_bytes());
    let proof: Vec<u8> = key
        .iter()
        .zip(signature)
        .map(|(octet, mask)| octet ^ mask)
        .collect();
    let server = hmac_sha256(&hmac_sha256(&salted, b"Server Key"), said.as_bytes());
    (
        format!("{last},p={}", base64::encode(&proof)),
        format!("v={}", base64::encode(&server)),
    )
}

/// A whole exchange; the login's address if all went well.
fn whole(context: Context, plus: bool, header: &str, binding: &[u8], bare: &str) -> Option<String> {
    let first = first(context, plus, format!("{header}{bare}").as_bytes());
    let Progress::Challenge(exchange, challenge) = first else {
        return None;
    };
    let challenge = String::from_utf8(challenge).unwrap();
    let (last, expected) = answer(header, binding, bare, &challenge, "pencil");
    let Progress::Check(check) = exchange.respond(last.as_bytes()) else {
        return None;
    };
    let Progress::Challenge(exchange, text) = check.run() else {
        return None;
    };
    assert_eq!(text, expected.as_bytes());
    assert_eq!(exchange.clone().respond(b"x"), Progress::Malformed);
    match exchange.respond(b"") {
        Progress::Done(login) => Some(login.address.to_string()),
        other => panic!("not done: {other:?}"),
    }
}

#[test]
fn the_example_of_rfc_7677_is_done_to_the_letter() {
    let progress = challenge(
        context(Bindings::default()),
        false,
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    );
    let (exchange, text) = challenged(progress);
    assert_eq!(
        text,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let (exchange, text) = challenged(checked(exchange.respond(last.as_bytes())));
    assert_eq!(text, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert!(matches!(exchange.respond(b""), Progress::Done(login) if login.address.local_part() == "user"));
}

#[test]
fn our_half_of_the_nonce_comes_from_the_entropy() {
    let (_, text) = challenged(first(context(Bindings::default()), false, b"n,,n=bob,r=abc"));
    assert!(
        text.starts_with("r=abcBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH,s="),
        "{text}"
    );
}

#[test]
fn a_nonce_may_be_as_long_as_its_challenge_fits_into_a_reply_with_the_longest_salt() {
    let file = format!(
        "bob:{{SCRAM-SHA-256}}10000000,{},{key},{key}",
        base64::encode(&[1; 64]),
        key = base64::encode(&[2; 32])
    );
    let context = || Context {
        accounts: Arc::new(Accounts::parse(file.as_bytes(), "accounts", "a.example").unwrap()),
        ..context(Bindings::default())
    };
    let message = |length| format!("n,,n=bob,r={}", "x".repeat(length));
    let (_, text) = challenged(first(context(), false, message(200).as_bytes()));
    let line = format!("334 {}\r\n", base64::encode(text.as_bytes()));
    assert!((450..=512).contains(&line.len()), "{}", line.len());
    assert_eq!(
        first(context(), false, message(201).as_bytes()),
        Progress::Malformed
    );
}

#[test]
fn a_proof_may_be_bound_to_the_connection() {
    let bob = Some("bob@a.example".to_owned());
    let plain = || context(Bindings::default());
    let bound = || context(bindings());
    let exporter = "p=tls-exporter,,";
    assert_eq!(whole(plain(), false, "n,,", b"", "n=bob,r=x"), bob);
    assert_eq!(whole(plain(), false, "y,,", b"", "n=bob,r=x"), bob);
    assert_eq!(whole(bound(), false, "n,,", b"", "n=bob,r=x"), bob);
    assert_eq!(whole(bound(), true, exporter, &[9; 32], "n=bob,r=x"), bob);
    assert_eq!(
        whole(bound(), true, "p=tls-server-end-point,,", &[3; 48], "n=bob,r=x"),
        bob
    );
    for (plus, header, binding) in [
        (false, "y,,", &b""[..]),           // our offer was taken out of EHLO
        (false, exporter, &[9; 32]),        // without PLUS
        (true, "n,,", b""),                 // PLUS without binding
        (true, "y,,", b""),                 //
        (true, exporter, &[8; 32]),         // another connection
        (true, exporter, b""),              //
        (true, "p=tls-unique,,", &[9; 32]), // not ours
        (true, "p=tls-server-end-point,,", &[9; 32]),
    ] {
        assert_eq!(
            whole(bound(), plus, header, binding, "n=bob,r=x"),
            None,
            "{plus} {header}"
        );
    }
    assert_eq!(whole(plain(), true, exporter, &[9; 32], "n=bob,r=x"), None);
    assert_eq!(
        whole(plain(), true, "p=tls-server-end-point,,", b"", "n=bob,r=x"),
        None
    );
}

#[test]
fn names_are_read_as_they_are_escaped() {
    let login = |header: &str, bare: &str| whole(context(Bindings::default()), false, header, b"", bare);
    let bob = Some("bob@a.example".to_owned());
    for (header, bare) in [
        ("n,,", "n=BOB@a.example,r=x"),
        ("n,,", "n=b\u{ad}ob,r=x"),
        ("n,a=bob,", "n=bob@A.EXAMPLE,r=x"),
        ("n,,", "n=bob,r=x,e=some,x=thing=else"),
    ] {
        assert_eq!(login(header, bare), bob, "{header}{bare}");
    }
    for (header, bare) in [
        ("n,a=user,", "n=bob,r=x"),
        ("n,,", "n=b\u{7}ob,r=x"),
        ("n,,", "n=bob=2C,r=x"),
    ] {
        assert_eq!(login(header, bare), None, "{header}{bare}");
    }
    assert_eq!(unescaped("a=2Cb=3Dc=3D"), Some("a,b=c=".into()));
}

#[test]
fn what_has_no_place_in_the_grammar_is_malformed() {
    for message in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=bob",
        "n,,n=bob,r=",
        "n,,n=,r=x",
        "n,,r=x,n=bob",
        "n,,m=ext,n=bob,r=x",
        "n,,n=bob,r=x,m=ext",
        "n,,n=bob,r=x,e",
        "n,,n=bob,r=x,e=",
        "n,,n=bob,r=x,1=y",
        "n,,n=bob,r=x,",
        "n,,n=bob,r=x y",
        "n,,n=bob,r=\u{e9}",
        "n,,n=bo=b,r=x",
        "n,,n=bob=2c,r=x",
        "n,,n=bob=,r=x",
        "n,,n=bo\0b,r=x",
        "n,bob,n=bob,r=x",
        "n,a=,n=bob,r=x",
        "x,,n=bob,r=x",
        "N,,n=bob,r=x",
        "p=,,n=bob,r=x",
        "p,,n=bob,r=x",
        "p=tls_unique,,n=bob,r=x",
        " n,,n=bob,r=x",
    ] {
        let progress = first(context(bindings()), false, message.as_bytes());
        assert_eq!(progress, Progress::Malformed, "{message:?}");
    }
    assert_eq!(
        first(context(bindings()), false, b"n,,n=b\xf6b,r=x"),
        Progress::Malformed
    );
}

#[test]
fn the_last_message_is_as_strict() {
    let (exchange, text) = challenged(first(context(Bindings::default()), false, b"n,,n=bob,r=x"));
    let (right, _) = answer("n,,", b"", "n=bob,r=x", &text, "pencil");
    let respond = |last: &str| exchange.clone().respond(last.as_bytes());
    assert!(matches!(checked(respond(&right)), Progress::Challenge(..)));
    let (bare, proof) = right.split_once(",p=").unwrap();
    for last in [
        "",
        bare,
        &format!("{bare},p="),
        &format!("{bare},p={proof}="),
        &format!("{bare},p=AAAA"),
        &format!("{bare},p={proof},e=x"),
        &format!("{bare},m=x,p={proof}"),
        &format!("{bare},p={}", proof.to_lowercase()),
        &format!(" {right}"),
        &format!("{right}\r\n"),
        &right.replace("c=biws", "c=biws="),
        &right.replace("c=biws,", ""),
        &right.replace("c=", "C="),
    ] {
        let progress = respond(last);
        let told = matches!(progress, Progress::Malformed) || matches!(progress, Progress::Check(_));
        assert!(
            told && !matches!(progress, Progress::Check(check) if check.clone().run() != Progress::Failed)
        );
    }
    for last in [
        right.replace("r=x", "r=y"),
        right.replace("BwcH,", "BwcI,"),
        right.replace("c=biws", "c=eSws"),
        right.replace("c=biws", "c="),
    ] {
        assert_eq!(respond(&last), Progress::Failed, "{last}");
    }
    // An extension that is passed over is part of what is proved.
    let progress = respond(&format!("{bare},e=x,p={proof}"));
    assert_eq!(checked(progress), Progress::Failed);
}

#[test]
fn a_stranger_fails_where_a_wrong_password_does() {
    for (name, password) in [
        ("bob", "Pencil"),
        ("user", "Pencil"),
        ("eve", "pencil"),
        ("nobody", "pencil"),
        ("*", ""),
        ("nobody@b.example", ""),
    ] {
        let bare = format!("n={name},r=x");
        let first = first(
            context(Bindings::default()),
            false,
            format!("n,,{bare}").as_bytes(),
        );
        let (exchange, text) = challenged(first);
        assert!(text.ends_with(",i=4096"), "{text}");
        let (last, _) = answer("n,,", b"", &bare, &text, password);
        let progress = exchange.respond(last.as_bytes());
        assert!(matches!(&progress, Progress::Check(check) if check.name() == name));
        assert_eq!(checked(progress), Progress::Failed, "{name}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let (exchange, text) = challenged(first(context(bindings()), false, b"n,,n=bob,r=x"));
    let (last, _) = answer("n,,", b"", "n=bob,r=x", &text, "pencil");
    let shown = format!("{exchange:?} {:?}", exchange.clone().respond(last.as_bytes()));
    assert!(
        shown.contains("bob") && !shown.contains("r=x") && !shown.contains("biws"),
        "{shown}"
    );
}
