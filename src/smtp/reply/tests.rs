//! Replies as they are written, and as a peer may send them.

use super::*;
use proptest::prelude::*;

fn written(reply: &Reply, enhanced: bool) -> String {
    let mut out = Vec::new();
    reply.write_to(&mut out, enhanced);
    String::from_utf8(out).unwrap()
}

fn read(lines: &[&str]) -> Result<Option<Reply>, ReplyError> {
    let mut parser = ReplyParser::new();
    let (last, before) = lines.split_last().unwrap();
    for line in before {
        assert_eq!(parser.feed(line.as_bytes())?, None);
    }
    parser.feed(last.as_bytes())
}

#[test]
fn the_enhanced_code_is_written_only_when_it_is_wanted() {
    let reply = Reply::with_status(250, EnhancedCode(2, 1, 0), "OK");
    assert_eq!(written(&reply, true), "250 2.1.0 OK\r\n");
    assert_eq!(written(&reply, false), "250 OK\r\n");
}

#[test]
fn every_line_but_the_last_has_a_hyphen() {
    let lines = vec!["first".to_owned(), "second".to_owned()];
    let reply = Reply::multiline(214, Some(EnhancedCode(2, 0, 0)), lines);
    assert_eq!(written(&reply, true), "214-2.0.0 first\r\n214 2.0.0 second\r\n");
    assert_eq!(written(&Reply::multiline(250, None, vec![]), true), "250 \r\n");
}

#[test]
fn long_and_dirty_text_is_cut_and_cleaned_when_it_is_written() {
    let reply = Reply::with_status(
        550,
        EnhancedCode(5, 0, 0),
        format!("a\r\nb\0é{}", "x".repeat(600)),
    );
    let line = written(&reply, true);
    assert_eq!(line.len(), 512);
    assert!(line.starts_with("550 5.0.0 a??b???xx"), "{line}");
    assert_eq!(line.matches("\r\n").count(), 1);
}

#[test]
fn a_reply_of_several_lines_is_put_together() {
    let reply = read(&["250-mail.example.org", "250-PIPELINING", "250 SIZE 1000"])
        .unwrap()
        .unwrap();
    assert_eq!(reply.lines, ["mail.example.org", "PIPELINING", "SIZE 1000"]);
    assert_eq!((reply.code, reply.enhanced), (250, None));
    assert_eq!(read(&["354"]).unwrap().unwrap(), Reply::new(354, ""));
}

#[test]
fn enhanced_codes_are_taken_off_every_line_if_their_class_is_the_replys() {
    let reply = read(&["550-5.1.1 No such", "550 5.1.1 user"]).unwrap().unwrap();
    assert_eq!(reply.enhanced, Some(EnhancedCode(5, 1, 1)));
    assert_eq!(reply.lines, ["No such", "user"]);
    assert_eq!(reply.to_string(), "550 5.1.1 No such user");
    for text in [
        "550 4.1.1 other class",
        "550 5.1 short",
        "550 5.1.1.1 long",
        "550 5.1.1x glued",
        "550 5.1234.1 wide",
        "354 3.0.0 no such class",
        "250 5.1.1",
    ] {
        let reply = read(&[text]).unwrap().unwrap();
        assert_eq!((reply.enhanced, reply.lines[0].as_str()), (None, &text[4..]));
    }
    assert_eq!(read(&["250 2.0.0"]).unwrap().unwrap().lines, [""]);
}

#[test]
fn what_is_no_reply_is_refused() {
    for line in ["", "25", "2x0 OK", "250+OK", "2500 OK", " 250 OK", "-250"] {
        assert_eq!(read(&[line]), Err(ReplyError::Malformed), "{line:?}");
    }
    assert_eq!(read(&["199 x"]), Err(ReplyError::Code(199)));
    assert_eq!(read(&["600 x"]), Err(ReplyError::Code(600)));
    assert_eq!(read(&["250-a", "251 b"]), Err(ReplyError::MixedCodes(250, 251)));
}

#[test]
fn of_a_long_reply_the_beginning_is_kept_and_the_end_is_found() {
    for (length, kept) in [(100, 100), (101, 100), (20_000, 100)] {
        let mut lines = vec!["250-a"; length];
        lines[length - 1] = "250 a";
        assert_eq!(read(&lines).unwrap().unwrap().lines.len(), kept, "{length}");
    }
    assert_eq!(read(&["250-a"; 20_001]), Err(ReplyError::TooManyLines));
    assert_eq!(
        read(&[&["250-a"; 200][..], &["550 a"]].concat()),
        Err(ReplyError::MixedCodes(250, 550))
    );
}

#[test]
fn a_peers_text_is_kept_short_and_clean() {
    let mut parser = ReplyParser::new();
    let reply = parser.feed(b"250 a\rb\x00c\xffd").unwrap().unwrap();
    assert_eq!(reply.lines, ["a?b?c?d"]);
    let long = format!("250 {}", "x".repeat(5000));
    assert_eq!(parser.feed(long.as_bytes()).unwrap().unwrap().lines[0].len(), 500);
}

proptest! {
    #[test]
    fn what_we_write_is_what_a_peer_reads(
        code in 200u16..=599,
        lines in proptest::collection::vec("[ -~&&[^0-9]]{0,80}", 1..5),
    ) {
        let reply = Reply::multiline(code, None, lines);
        let text = written(&reply, true);
        let mut parser = ReplyParser::new();
        let mut got = None;
        for line in text.split_terminator("\r\n") {
            got = parser.feed(line.as_bytes()).unwrap();
        }
        prop_assert_eq!(got, Some(reply));
    }

    #[test]
    fn no_line_makes_the_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = ReplyParser::new().feed(&line);
    }
}
