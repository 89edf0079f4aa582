//! The armour of an exchange in SMTP: base64, as RFC 4954 4 wants it.
//!
//! Strict: one text for each value. Never passes over blanks, and never adds what is missing.

use data_encoding::BASE64;

/// What a client says to give up (RFC 4954 4).
pub const CANCEL: &[u8] = b"*";

/// The line for these octets.
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    BASE64.encode(octets)
}

/// A response: the octets of a line, `None` if it is not base64. An empty line is an empty response.
#[must_use]
pub fn decode(line: &[u8]) -> Option<Vec<u8>> {
    // The decoder takes two texts behind each other, each with its padding.
    let padded_inside = line[..line.len().saturating_sub(2)].contains(&b'=');
    BASE64.decode(line).ok().filter(|_| !padded_inside)
}

/// The initial response behind AUTH, where a lone `=` is an empty one.
#[must_use]
pub fn decode_initial(word: &[u8]) -> Option<Vec<u8>> {
    match word {
        b"=" => Some(Vec::new()),
        b"" => None,
        word => decode(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_form_is_base64() {
        assert_eq!(decode(b"AGJvYgBwZW5jaWw="), Some(b"\0bob\0pencil".to_vec()));
        assert_eq!(decode(b""), Some(Vec::new()));
        for line in [
            &b"="[..],
            b"*",
            b"A",
            b"AA",
            b"AAA",
            b"AA=",
            b"AB==",
            b"AAB=",
            b"AAAA=",
            b"AAAA====",
            b" AAAA",
            b"AAAA ",
            b"AA AA",
            b"AA==AA==",
            b"AA-_",
            b"AA\0A",
            b"AAA\xff",
            b"AAAA\r",
        ] {
            assert_eq!(decode(line), None, "{line:?}");
        }
    }

    #[test]
    fn an_equals_sign_is_the_empty_initial_response() {
        assert_eq!(decode_initial(b"="), Some(Vec::new()));
        assert_eq!(decode_initial(b"AA=="), Some(vec![0]));
        assert_eq!(decode_initial(b""), None);
        assert_eq!(decode_initial(b"=="), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(octets in any::<Vec<u8>>()) {
            prop_assert_eq!(decode(encode(&octets).as_bytes()), Some(octets));
        }

        #[test]
        fn what_is_read_has_no_other_text(line in "[A-Za-z0-9+/=]{0,12}") {
            if let Some(octets) = decode(line.as_bytes()) {
                prop_assert_eq!(encode(&octets), line);
            }
        }
    }
}
