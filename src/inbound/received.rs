//! The Received line: the trace that this host leaves on every message it takes (RFC 5321 4.4).
//!
//! Never reads the clock: the date is given. Never lets a client write a line of its own into the header, and
//! never tells who has logged in: that is between the sender and us.

use std::net::IpAddr;

use crate::smtp::path::Mailbox;
use crate::work_queue::id::MessageId;

/// Most octets of a client's own name that go into the line.
const MAX_NAME: usize = 255;

/// Lines are folded so that they have at most this many octets, unless one word alone is longer.
const FOLD_AT: usize = 77;

/// What a session knows about the message it is receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedFacts<'a> {
    /// The name that the client gave itself in HELO or EHLO.
    pub helo: &'a str,
    /// Where it called from.
    pub client: IpAddr,
    /// The name that DNS has for this address, if the address is one of that name.
    pub client_name: Option<&'a str>,
    /// Our name.
    pub hostname: &'a str,
    /// EHLO was said, not HELO.
    pub extended: bool,
    /// The version (`TLSv1.3`) and the registered name of the cipher suite (`TLS_AES_256_GCM_SHA384`), if the
    /// message came over TLS.
    pub tls: Option<(&'a str, &'a str)>,
    /// The client has logged in.
    pub authenticated: bool,
    /// MAIL had SMTPUTF8 (RFC 6531 3.4).
    pub utf8: bool,
    /// The recipient, if there is exactly one: of several, none learns about the others.
    pub only_recipient: Option<&'a Mailbox>,
}

impl ReceivedFacts<'_> {
    /// How the message came, in a word of IANA's "Mail Transmission Types" (RFC 3848, RFC 6531 4.3).
    ///
    /// There is no word for HELO over TLS, and none for HELO after AUTH: both are `SMTP`.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match (self.extended, self.utf8, self.tls.is_some(), self.authenticated) {
            (false, ..) => "SMTP",
            (true, false, false, false) => "ESMTP",
            (true, false, false, true) => "ESMTPA",
            (true, false, true, false) => "ESMTPS",
            (true, false, true, true) => "ESMTPSA",
            (true, true, false, false) => "UTF8SMTP",
            (true, true, false, true) => "UTF8SMTPA",
            (true, true, true, false) => "UTF8SMTPS",
            (true, true, true, true) => "UTF8SMTPSA",
        }
    }

    /// The Received line, folded, with its last CRLF. `date` as RFC 5322 3.3 writes it.
    #[must_use]
    pub fn line(&self, id: MessageId, date: &str) -> String {
        let mut line = Folded::new("Received: from");
        line.word(&some_name(self.helo));
        let literal = match self.client.to_canonical() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        match self.client_name {
            Some(name) => {
                line.word(&format!("({}", some_name(name)));
                line.word(&format!("{literal})"));
            }
            None => line.word(&format!("({literal})")),
        }

        line.fold();
        line.word(&format!("by {}", self.hostname));
        line.word(concat!("(smtpmta ", env!("CARGO_PKG_VERSION"), ")"));
        line.word(&format!("with {}", self.protocol()));
        if let Some((version, _)) = self.tls {
            line.word(&format!("({})", some_name(version)));
        }
        line.word(&format!("id {id}"));

        let recipient = self.only_recipient.map(Mailbox::to_string);
        let cipher = self.tls.map(|(_, cipher)| cipher);
        let recipient = recipient.filter(|mailbox| may_be_told(mailbox, self.utf8));
        let cipher = cipher.filter(|cipher| is_cipher_name(cipher));
        if recipient.is_some() || cipher.is_some() {
            line.fold();
        }
        if let Some(mailbox) = recipient {
            line.word(&format!("for <{mailbox}>"));
        }
        // RFC 8314 4.3: an additional clause, and these come last (RFC 5321 4.4).
        if let Some(cipher) = cipher {
            line.word(&format!("tls {cipher}"));
        }
        line.end_with(";");
        line.fold();
        line.word(date);
        line.end_with("\r\n");
        line.text
    }
}

/// A header field that grows word by word.
struct Folded {
    text: String,
    /// Where the last line begins.
    line: usize,
    /// The next word begins a line.
    due: bool,
}

impl Folded {
    fn new(start: &str) -> Folded {
        Folded {
            text: start.to_owned(),
            line: 0,
            due: false,
        }
    }

    /// Adds a word, on a new line if it does not fit any more, with room for one octet behind it.
    fn word(&mut self, word: &str) {
        let length = self.text.len() - self.line + " ".len() + word.len() + ";".len();
        if self.due || length > FOLD_AT {
            self.text += "\r\n";
            self.line = self.text.len();
            self.text.push('\t');
            self.due = false;
        } else {
            self.text.push(' ');
        }
        self.text += word;
    }

    /// The next word begins a line, whether it would fit or not.
    fn fold(&mut self) {
        self.due = true;
    }

    fn end_with(&mut self, end: &str) {
        self.text += end;
    }
}

/// A name that came from outside. It may hold anything; comments, quotes and addresses of its own must not
/// get into the line.
fn some_name(text: &str) -> String {
    let harmless = |character: char| {
        if character.is_ascii_alphanumeric() || "-._:[]".contains(character) {
            character
        } else {
            '?'
        }
    };
    text.chars().take(MAX_NAME).map(harmless).collect()
}

/// RFC 6531 3.7.3: an address beyond ASCII stands in a message only that may be such itself.
fn may_be_told(mailbox: &str, utf8: bool) -> bool {
    utf8 || mailbox.is_ascii()
}

/// RFC 8314 4.3: the name of a cipher suite is letters, digits and underscores.
fn is_cipher_name(cipher: &str) -> bool {
    cipher.starts_with(|first: char| first.is_ascii_alphabetic())
        && cipher.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const DATE: &str = "Mon, 23 Nov 2026 19:20:01 +0000";
    const TLS: Option<(&str, &str)> = Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384"));

    fn facts() -> ReceivedFacts<'static> {
        ReceivedFacts {
            helo: "univac.com",
            client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            client_name: None,
            hostname: "eniac.lotus.com",
            extended: false,
            tls: None,
            authenticated: false,
            utf8: false,
            only_recipient: None,
        }
    }

    /// The line of message 1234 (hexadecimal), our version as `V`.
    fn told(facts: ReceivedFacts) -> String {
        let line = facts.line(MessageId(0x1234), DATE);
        line.replace(
            concat!("(smtpmta ", env!("CARGO_PKG_VERSION"), ")"),
            "(smtpmta V)",
        )
    }

    #[test]
    fn the_line_tells_who_by_whom_how_and_when() {
        assert_eq!(
            told(facts()),
            "Received: from univac.com ([192.0.2.1])\r\n\
             \tby eniac.lotus.com (smtpmta V) with SMTP id 0000000000001234;\r\n\
             \tMon, 23 Nov 2026 19:20:01 +0000\r\n"
        );
    }

    #[test]
    fn a_verified_name_a_single_recipient_and_tls_have_their_places() {
        let mailbox = Mailbox::parse("\"j doe\"@eniac.lotus.com").unwrap();
        let line = told(ReceivedFacts {
            client_name: Some("mail.univac.com"),
            extended: true,
            tls: TLS,
            authenticated: true,
            only_recipient: Some(&mailbox),
            ..facts()
        });
        assert_eq!(
            line,
            "Received: from univac.com (mail.univac.com [192.0.2.1])\r\n\
             \tby eniac.lotus.com (smtpmta V) with ESMTPSA (TLSv1.3)\r\n\
             \tid 0000000000001234\r\n\
             \tfor <\"j doe\"@eniac.lotus.com> tls TLS_AES_256_GCM_SHA384;\r\n\
             \tMon, 23 Nov 2026 19:20:01 +0000\r\n"
        );
    }

    #[test]
    fn helo_over_tls_is_smtp_with_a_comment_and_a_clause() {
        let line = told(ReceivedFacts { tls: TLS, ..facts() }).replace("\r\n\t", " ");
        assert!(
            line.contains(" with SMTP (TLSv1.3) id 0000000000001234 tls TLS_AES_256_GCM_SHA384; Mon, "),
            "{line}"
        );
    }

    #[test]
    fn the_protocol_is_the_registered_word() {
        let words = [false, true].map(|utf8| {
            [None, TLS].map(|tls| {
                [false, true].map(|authenticated| {
                    let facts = ReceivedFacts {
                        tls,
                        authenticated,
                        utf8,
                        ..facts()
                    };
                    assert_eq!(facts.protocol(), "SMTP");
                    ReceivedFacts {
                        extended: true,
                        ..facts
                    }
                    .protocol()
                })
            })
        });
        assert_eq!(
            words,
            [
                [["ESMTP", "ESMTPA"], ["ESMTPS", "ESMTPSA"]],
                [["UTF8SMTP", "UTF8SMTPA"], ["UTF8SMTPS", "UTF8SMTPSA"]],
            ]
        );
    }

    #[test]
    fn addresses_are_written_as_literals() {
        let from = |client| told(ReceivedFacts { client, ..facts() });
        assert!(from(IpAddr::V6(Ipv6Addr::LOCALHOST)).contains("([IPv6:::1])"));
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped();
        assert!(from(IpAddr::V6(mapped)).contains("([192.0.2.7])"));
    }

    #[test]
    fn an_address_beyond_ascii_is_told_to_smtputf8_messages_only() {
        assert!(may_be_told("jdoe@eniac.lotus.com", false));
        assert!(!may_be_told("jürgen@eniac.lotus.com", false));
        assert!(may_be_told("jürgen@eniac.lotus.com", true));
    }

    #[test]
    fn what_is_no_name_of_a_cipher_is_left_out() {
        for cipher in ["", "TLS; x", "TLS_A(", "_A"] {
            let tls = Some(("TLSv1.3", cipher));
            let line = told(ReceivedFacts { tls, ..facts() });
            assert!(line.contains("id 0000000000001234;\r\n\tMon, "), "{line}");
        }
    }

    #[test]
    fn lines_are_folded_before_they_are_long() {
        let label = "a".repeat(60);
        let mailbox = Mailbox::parse(&format!("{label}@{label}")).unwrap();
        let line = told(ReceivedFacts {
            helo: &label,
            client: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            client_name: Some(&label),
            hostname: &label,
            extended: true,
            tls: Some(("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")),
            authenticated: true,
            utf8: true,
            only_recipient: Some(&mailbox),
        });
        let long: Vec<&str> = line.lines().filter(|part| part.len() >= 78).collect();
        assert_eq!(long, [format!("\tfor <{mailbox}>")]);
        assert!(line.lines().skip(1).all(|part| part.starts_with('\t')));
        assert!(line.contains(&format!("\r\n\t({label}\r\n\t[IPv6:2001:")));
    }

    #[test]
    fn a_clients_name_cannot_write_anything_but_a_name() {
        let evil = format!("a ([127.0.0.1]) <\"x\">;\r\n\té{}", "y".repeat(2000));
        for client_name in [None, Some(&evil[..])] {
            let line = told(ReceivedFacts {
                helo: &evil,
                client_name,
                tls: Some((&evil, &evil)),
                ..facts()
            });
            let name = format!("a??[127.0.0.1]????x???????{}", "y".repeat(MAX_NAME - 26));
            assert!(
                line.starts_with(&format!("Received: from\r\n\t{name}\r\n\t(")),
                "{line}"
            );
            assert_eq!(line.matches('(').count(), 3, "{line}");
            assert_eq!(line.matches(';').count(), 1, "{line}");
            assert!(line.lines().all(|part| part.len() <= MAX_NAME + 3));
            assert!(line.is_ascii());
        }
    }
}
