//! A peer's replies, line by line: what is put together is clean and bounded, and can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::outbound::outcome::{Peer, Stage, judge};
use smtpmta::smtp::reply::{Reply, ReplyParser};

const STAGES: [Stage; 10] = [
    Stage::Greeting,
    Stage::Ehlo,
    Stage::Helo,
    Stage::Mail,
    Stage::NextMail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Content,
    Stage::Reset,
    Stage::Quit,
];

fuzz_target!(|data: &[u8]| {
    let mut parser = ReplyParser::new();
    for line in data.split(|octet| *octet == b'\n') {
        match parser.feed(line) {
            Ok(Some(reply)) => {
                assert!(!parser.is_inside());
                check(&reply);
            }
            Ok(None) => assert!(parser.is_inside()),
            Err(error) => {
                assert!(!parser.is_inside());
                assert!(!error.to_string().contains(char::is_control));
            }
        }
    }
});

fn check(reply: &Reply) {
    assert!((200..=599).contains(&reply.code) && (1..=100).contains(&reply.lines.len()));
    assert!(
        reply
            .enhanced
            .is_none_or(|status| u16::from(status.0) == reply.code / 100)
    );
    let is_clean = |text: &str| {
        text.bytes()
            .all(|octet| octet == b' ' || octet.is_ascii_graphic())
    };
    assert!(reply.lines.iter().all(|line| line.len() <= 500 && is_clean(line)));
    assert!(is_clean(&reply.to_string()));

    let peer = Peer {
        name: "mx.example.org".to_owned(),
        address: std::net::SocketAddr::from(([192, 0, 2, 1], 25)).into(),
    };
    let _ = judge(&peer, STAGES[reply.to_string().len() % STAGES.len()], reply);

    let mut written = Vec::new();
    reply.write_to(&mut written, true);
    let mut parser = ReplyParser::new();
    let mut again = None;
    for line in written.split_inclusive(|octet| *octet == b'\n') {
        assert!(again.is_none() && line.len() <= 512);
        again = parser
            .feed(line.strip_suffix(b"\r\n").expect("a line has its end"))
            .expect("ours is good");
    }
    let again = again.expect("a whole reply");
    assert_eq!(
        (again.code, again.enhanced, again.lines.len()),
        (reply.code, reply.enhanced, reply.lines.len())
    );
    // A longer line is cut when the status goes before it.
    if reply.lines.iter().all(|line| line.len() <= 480) {
        assert_eq!(again, *reply);
    }
}
