//! Which recipients get a message again that they have already, by its Message-ID: what a client does that was told 250, and
//! did not hear it.
//!
//! Keeps no more than a number of each, and of so many.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::envelope::Envelope;

/// So many recipients are remembered. Those that come behind them are not looked for.
const MOST: usize = 1_000_000;

/// A header is read up to this length.
const LONGEST_HEADER: usize = 64 << 10;

/// The header of a message that is on its way in, as far as it is needed.
#[derive(Debug, Default)]
pub struct Header {
    octets: Vec<u8>,
    is_whole: bool,
}

impl Header {
    /// The next piece of content.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.is_whole {
            return;
        }
        // The end may lie across two pieces.
        let seen = self.octets.len().saturating_sub(3);
        let room = LONGEST_HEADER - self.octets.len();
        self.octets.extend_from_slice(&piece[..piece.len().min(room)]);
        let end = self.octets[seen..]
            .windows(4)
            .position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            self.octets.truncate(seen + end + 2);
        }
        self.is_whole = end.is_some() || self.octets.len() == LONGEST_HEADER;
    }

    /// What stands in its Message-ID field, if it has one.
    fn message_id(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.octets);
        let mut lines = text.split("\r\n");
        let name = "message-id:";
        let is_it = |line: &&str| {
            line.get(..name.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        };
        let mut value = lines.find(is_it)?.get(name.len()..)?.to_owned();
        for folded in lines.take_while(|line| line.starts_with([' ', '\t'])) {
            value.push_str(folded);
        }
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

/// Who has what.
#[derive(Debug, Default)]
pub struct Doubles {
    known: HashSet<u64>,
}

impl Doubles {
    /// Notes a message that was taken; how many of its recipients had it already.
    pub fn note(&mut self, header: &Header, envelope: &Envelope) -> u64 {
        let Some(id) = header.message_id() else { return 0 };
        let mut again = 0;
        for recipient in &envelope.recipients {
            let mut hasher = DefaultHasher::new();
            (&id, recipient.path.to_lowercase()).hash(&mut hasher);
            let number = hasher.finish();
            if self.known.contains(&number) {
                again += 1;
            } else if self.known.len() < MOST {
                self.known.insert(number);
            }
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::envelope::Recipient;

    fn header(pieces: &[&str]) -> Header {
        let mut header = Header::default();
        pieces.iter().for_each(|piece| header.feed(piece.as_bytes()));
        header
    }

    #[test]
    fn a_message_id_is_found_however_the_header_is_cut_and_folded_and_nowhere_else() {
        for (pieces, id) in [
            (
                &["Subject: x\r\nMessage-ID: <1@a>\r\n\r\nbody"][..],
                Some("<1@a>"),
            ),
            (&["MESSAGE-id:\r\n <1@a>\r\nX: y\r\n\r", "\nbody"], Some("<1@a>")),
            (&["Message", "-ID: <1", "@a>\r\n", "\r", "\n"], Some("<1@a>")),
            (&["Subject: x\r\n\r\nMessage-ID: <1@a>\r\n\r\n"], None),
            (&["Message-ID:\r\n\r\n"], None),
            (&["X-Message-ID: <1@a>\r\n\r\n"], None),
            (&["Mes"], None),
        ] {
            assert_eq!(header(pieces).message_id().as_deref(), id, "{pieces:?}");
        }
        let mut long = Header::default();
        for _ in 0..100 {
            long.feed(&[b'x'; 1000]);
        }
        assert_eq!(long.octets.len(), LONGEST_HEADER);
    }

    #[test]
    fn a_recipient_that_has_a_message_has_it_again_and_another_one_has_not() {
        let to = |paths: &[&str]| Envelope {
            recipients: paths
                .iter()
                .map(|path| Recipient {
                    path: (*path).to_owned(),
                    ..Recipient::default()
                })
                .collect(),
            ..Envelope::default()
        };
        let mut doubles = Doubles::default();
        let (one, other, none) = (
            header(&["Message-ID: <1@a>\r\n\r\n"]),
            header(&["Message-ID: <2@a>\r\n\r\n"]),
            header(&["Subject: x\r\n\r\n"]),
        );
        assert_eq!(doubles.note(&one, &to(&["x@a", "y@a"])), 0);
        assert_eq!(doubles.note(&one, &to(&["Y@A", "z@a"])), 1);
        assert_eq!(doubles.note(&other, &to(&["x@a"])), 0);
        assert_eq!(doubles.note(&none, &to(&["x@a"])), 0);
        assert_eq!(doubles.note(&none, &to(&["x@a"])), 0);
    }
}
