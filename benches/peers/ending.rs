//! The end of content after DATA: CRLF.CRLF, wherever the pieces in which it comes are cut (RFC 5321 4.1.1.4).
//!
//! Never takes anything else for an end.

use memchr::memmem::Finder;

/// What ends a message. The CRLF before the dot may be that of DATA.
const END: &[u8] = b"\r\n.\r\n";

/// Looks for the end in one message after the other.
#[derive(Debug)]
pub struct Ending {
    finder: Finder<'static>,
    /// The last octets that were seen, at most four, behind which an end may go on.
    tail: Vec<u8>,
}

impl Ending {
    /// At the beginning of a message.
    pub fn new() -> Ending {
        Ending {
            finder: Finder::new(END),
            tail: b"\r\n".to_vec(),
        }
    }

    /// How many octets of `piece` belong to the message, if it ends there. Then the next message begins.
    pub fn find(&mut self, piece: &[u8]) -> Option<usize> {
        let before = self.tail.len();
        self.tail
            .extend_from_slice(&piece[..piece.len().min(END.len() - 1)]);
        let end = match self.finder.find(&self.tail) {
            Some(at) => Some(at + END.len() - before),
            None => self.finder.find(piece).map(|at| at + END.len()),
        };
        if end.is_some() {
            self.tail.clear();
            self.tail.extend_from_slice(b"\r\n");
            return end;
        }
        if piece.len() >= END.len() - 1 {
            self.tail.clear();
            self.tail
                .extend_from_slice(&piece[piece.len() - (END.len() - 1)..]);
        } else {
            let surplus = self.tail.len().saturating_sub(END.len() - 1);
            self.tail.drain(..surplus);
        }
        None
    }
}
