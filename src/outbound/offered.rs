//! What the peer offers in its answer to EHLO (RFC 5321 4.1.1.1): only what stands here is ever used.
//!
//! Never decides what to do with an offer: that is the session's.

use crate::sasl::Mechanism;
use crate::smtp::reply::Reply;

/// The extensions that the peer named and that we know. After HELO: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): the largest message that the peer takes, in octets; 0 where it names no limit.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binary_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// AUTH (RFC 4954): those of its mechanisms that we know.
    pub auth: Vec<Mechanism>,
}

impl Offered {
    /// Reads the list: a keyword for each line after the first, which greets. Unknown ones are passed over.
    #[must_use]
    pub fn by(reply: &Reply) -> Offered {
        let mut offered = Offered::default();
        for line in reply.lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            // Before RFC 2554 AUTH was followed by an equals sign.
            let keyword = match keyword.split_once('=') {
                Some(("AUTH", first)) => {
                    offered.auth.extend(Mechanism::from_name(first));
                    "AUTH"
                }
                _ => &keyword,
            };
            match keyword {
                "PIPELINING" => offered.pipelining = true,
                // RFC 1870 4: the number may be missing. One that cannot be read is no limit either: the
                // peer still judges the SIZE parameter.
                "SIZE" => offered.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "8BITMIME" => offered.eight_bit_mime = true,
                "ENHANCEDSTATUSCODES" => offered.enhanced_status_codes = true,
                "CHUNKING" => offered.chunking = true,
                "BINARYMIME" => offered.binary_mime = true,
                "SMTPUTF8" => offered.smtp_utf8 = true,
                "DSN" => offered.dsn = true,
                "STARTTLS" => offered.starttls = true,
                "AUTH" => offered.auth.extend(words.filter_map(Mechanism::from_name)),
                _ => {}
            }
        }
        offered
    }

    /// Whether content without lines is taken: as BINARYMIME, which needs BDAT (RFC 3030 3).
    #[must_use]
    pub fn takes_binary(&self) -> bool {
        self.chunking && self.binary_mime
    }

    /// The limit that a message of `size` octets is over, if it is over one.
    #[must_use]
    pub fn limit_below(&self, size: u64) -> Option<u64> {
        self.size.filter(|&limit| limit != 0 && size > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(lines: &[&str]) -> Offered {
        Offered::by(&Reply {
            code: 250,
            enhanced: None,
            lines: lines.iter().map(|line| (*line).to_string()).collect(),
        })
    }

    #[test]
    fn every_known_keyword_is_read_in_any_case() {
        let all = offered(&[
            "mx.example.org greets you",
            "pipelining",
            "Size 1000",
            "8BitMIME",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
            "BinaryMime",
            "SMTPUTF8",
            "DSN",
            "starttls",
            "AUTH scram-sha-256 X-OURS",
            "auth=Plain",
            "XSOMETHING else",
        ]);
        assert_eq!(
            all,
            Offered {
                pipelining: true,
                size: Some(1000),
                eight_bit_mime: true,
                enhanced_status_codes: true,
                chunking: true,
                binary_mime: true,
                smtp_utf8: true,
                dsn: true,
                starttls: true,
                auth: vec![Mechanism::ScramSha256, Mechanism::Plain],
            }
        );
    }

    #[test]
    fn the_greeting_line_offers_nothing() {
        assert_eq!(offered(&["PIPELINING"]), Offered::default());
    }

    #[test]
    fn size_without_a_readable_number_and_size_zero_are_no_limit() {
        for line in ["SIZE", "SIZE 0", "SIZE much", "SIZE 99999999999999999999999"] {
            let offered = offered(&["hello", line]);
            assert_eq!(offered.size, Some(0), "{line}");
            assert_eq!(offered.limit_below(u64::MAX), None, "{line}");
        }
    }

    #[test]
    fn a_message_as_large_as_the_limit_is_not_over_it() {
        let offered = offered(&["hello", "SIZE 1000"]);
        assert_eq!(offered.limit_below(1000), None);
        assert_eq!(offered.limit_below(1001), Some(1000));
        assert_eq!(Offered::default().limit_below(u64::MAX), None);
    }
}
