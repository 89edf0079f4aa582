//! What must hold of every reply that goes over the wire, whatever it answers.

use smtpmta::smtp::reply::Reply;

/// Longest reply line in octets, CRLF included (RFC 5321 4.5.3.1.5).
const LONGEST_LINE: usize = 512;

/// Checks a reply as it is written: whole lines of printable ASCII, none too long, none cut.
pub fn check_written(reply: &Reply) {
    let mut written = Vec::new();
    reply.write_to(&mut written, true);
    let text = String::from_utf8(written).expect("a reply is ASCII");
    let lines: Vec<&str> = text.split_inclusive("\r\n").collect();
    assert_eq!(lines.len(), reply.lines.len(), "{reply:?}");
    let status = reply
        .enhanced
        .map(|status| format!("{status} "))
        .unwrap_or_default();
    for (number, (line, said)) in lines.iter().zip(&reply.lines).enumerate() {
        assert!(line.len() <= LONGEST_LINE, "{line:?}");
        let line = line.strip_suffix("\r\n").expect("a line has its end");
        assert!(
            line.bytes()
                .all(|octet| octet == b' ' || octet.is_ascii_graphic()),
            "{line:?}"
        );
        let mark = if number + 1 == lines.len() { ' ' } else { '-' };
        assert_eq!(
            line,
            format!("{}{mark}{status}{said}", reply.code),
            "cut or changed"
        );
    }
}

/// Checks the codes of a reply: `has_codes` where the client has heard of ENHANCEDSTATUSCODES, `is_hello` for the
/// answer to a HELO or EHLO that was granted.
pub fn check_codes(reply: &Reply, has_codes: bool, is_hello: bool) {
    assert!((200..=599).contains(&reply.code), "{reply:?}");
    // RFC 2034 4: not the greeting, not the answers to HELO and EHLO, and nothing but 2xx, 4xx and 5xx.
    let needs_one = has_codes && !is_hello && reply.code / 100 != 3;
    match reply.enhanced {
        Some(status) if needs_one => assert_eq!(u16::from(status.0), reply.code / 100, "{reply:?}"),
        Some(_) => panic!("an enhanced code where none belongs: {reply:?}"),
        None => assert!(!needs_one, "no enhanced code: {reply:?}"),
    }
}
