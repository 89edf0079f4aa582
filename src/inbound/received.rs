//! The Received line: the trace that this host leaves on every message it takes (RFC 5321 4.4).
//!
//! Never reads the clock: the date is given. Never lets a client write a line of its own into the header.

use std::net::IpAddr;

use crate::smtp::path::Mailbox;
use crate::work_queue::id::MessageId;

/// Most octets of a client's own name that go into the line.
const MAX_HELO: usize = 255;

/// What a session knows about the message it is receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedFacts<'a> {
    /// The name that the client gave itself in HELO or EHLO.
    pub helo: &'a str,
    /// Where it called from.
    pub client: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// EHLO was said, not HELO.
    pub extended: bool,
    /// The recipient, if there is exactly one: of several, none learns about the others.
    pub only_recipient: Option<&'a Mailbox>,
}

impl ReceivedFacts<'_> {
    /// The Received line, folded, with its last CRLF. `date` as RFC 5322 3.3 writes it.
    #[must_use]
    pub fn line(&self, id: MessageId, date: &str) -> String {
        let helo: String = self.helo.chars().take(MAX_HELO).map(harmless).collect();
        let client = match self.client.to_canonical() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        let hostname = self.hostname;
        let version = env!("CARGO_PKG_VERSION");
        let protocol = if self.extended { "ESMTP" } else { "SMTP" };
        let recipient = match self.only_recipient {
            Some(mailbox) => format!("\r\n\tfor <{mailbox}>"),
            None => String::new(),
        };
        format!(
            "Received: from {helo} ({client})\r\n\
             \tby {hostname} (smtpmta {version}) with {protocol} id {id}{recipient};\r\n\
             \t{date}\r\n"
        )
    }
}

/// A client's name may hold anything printable; comments, quotes and addresses of its own must not get in.
fn harmless(character: char) -> char {
    if character.is_ascii_alphanumeric() || "-._:[]".contains(character) {
        character
    } else {
        '?'
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const DATE: &str = "Mon, 23 Nov 2026 19:20:01 +0000";

    fn facts() -> ReceivedFacts<'static> {
        ReceivedFacts {
            helo: "univac.com",
            client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            hostname: "eniac.lotus.com",
            extended: false,
            only_recipient: None,
        }
    }

    #[test]
    fn the_line_tells_who_by_whom_how_and_when() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            facts().line(MessageId(0x1234), DATE),
            format!(
                "Received: from univac.com ([192.0.2.1])\r\n\tby eniac.lotus.com (smtpmta {version}) \
                 with SMTP id 0000000000001234;\r\n\tMon, 23 Nov 2026 19:20:01 +0000\r\n"
            )
        );
    }

    #[test]
    fn a_single_recipient_is_named_and_the_protocol_is_that_of_the_hello() {
        let mailbox = Mailbox::parse("\"j doe\"@eniac.lotus.com").unwrap();
        let line = ReceivedFacts {
            extended: true,
            only_recipient: Some(&mailbox),
            ..facts()
        }
        .line(MessageId(1), DATE);
        assert!(line.contains(" with ESMTP id 0000000000000001\r\n\tfor <\"j doe\"@eniac.lotus.com>;\r\n"));
    }

    #[test]
    fn addresses_are_written_as_literals() {
        let from = |client| ReceivedFacts { client, ..facts() }.line(MessageId(1), DATE);
        assert!(from(IpAddr::V6(Ipv6Addr::LOCALHOST)).contains("([IPv6:::1])"));
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped();
        assert!(from(IpAddr::V6(mapped)).contains("([192.0.2.7])"));
    }

    #[test]
    fn a_clients_name_cannot_write_anything_but_a_name() {
        let helo = format!("a ([127.0.0.1]) <\"x\">;\r\n\té{}", "y".repeat(2000));
        let line = ReceivedFacts {
            helo: &helo,
            ..facts()
        }
        .line(MessageId(1), DATE);
        assert!(
            line.starts_with("Received: from a??[127.0.0.1]????x???????yyy"),
            "{line}"
        );
        assert_eq!(line.matches("\r\n").count(), 3);
        assert!(line.lines().all(|part| part.len() < 998));
    }
}
