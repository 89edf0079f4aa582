//! Content that comes after BDAT (RFC 3030): in chunks whose sizes are known, without dots.
//!
//! Finds the faults that [`super::Decoder`] finds, so that no way in is wider than the other. Never adds what
//! a text may lack at its end: without CRLF there it is stored as it came.

use super::{ContentFault, Findings};

/// Looks at the content of one message while its chunks arrive.
///
/// Chunks may be cut anywhere, between CR and LF too.
#[derive(Debug)]
pub struct ChunkChecker {
    findings: Findings,
    is_text: bool,
    /// The last octet was a CR.
    after_cr: bool,
}

impl ChunkChecker {
    /// For a message in lines: BODY=7BIT or 8BITMIME, or no BODY.
    #[must_use]
    pub fn text() -> ChunkChecker {
        ChunkChecker {
            findings: Findings::default(),
            is_text: true,
            after_cr: false,
        }
    }

    /// For BODY=BINARYMIME, where any octet may stand anywhere.
    #[must_use]
    pub fn binary() -> ChunkChecker {
        ChunkChecker {
            is_text: false,
            ..ChunkChecker::text()
        }
    }

    /// Takes note of the next piece, of whichever chunk it is.
    pub fn check(&mut self, piece: &[u8]) {
        self.findings.size += piece.len() as u64;
        let mut rest = piece;
        // Only the first fault counts: after it there is nothing to find.
        while let Some(octet) = rest.first()
            && self.is_text
            && self.findings.fault.is_none()
        {
            if std::mem::take(&mut self.after_cr) {
                if *octet == b'\n' {
                    rest = &rest[1..];
                } else {
                    self.findings.blame(ContentFault::BareCr);
                }
                continue;
            }
            let (length, after_cr) = self.findings.look(rest);
            self.after_cr = after_cr;
            rest = &rest[length..];
        }
    }

    /// Octets of all chunks so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.findings.size
    }

    /// The first bare CR, bare LF or NUL so far. A CR at the very end is none yet.
    #[must_use]
    pub fn fault(&self) -> Option<ContentFault> {
        self.findings.fault
    }

    /// The first fault of the whole message, after its LAST chunk: there a CR at the end waits in vain.
    #[must_use]
    pub fn fault_at_end(&self) -> Option<ContentFault> {
        let waiting = self.after_cr.then_some(ContentFault::BareCr);
        self.findings.fault.or(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ContentFault::{BareCr, BareLf, Nul};

    fn checked(mut checker: ChunkChecker, chunks: &[&str]) -> ChunkChecker {
        for chunk in chunks {
            checker.check(chunk.as_bytes());
        }
        checker
    }

    #[test]
    fn dots_and_ends_of_chunks_mean_nothing() {
        for chunks in [
            &["a\r\n.\r\nb\r\n"][..],
            &["a\r", "\n.\r", "\n"],
            &["a", "", "\r", "", "\n"],
            &["no end of line"],
            &[""],
            &[],
        ] {
            let checker = checked(ChunkChecker::text(), chunks);
            let size: usize = chunks.iter().map(|chunk| chunk.len()).sum();
            assert_eq!(
                (checker.fault(), checker.fault_at_end()),
                (None, None),
                "{chunks:?}"
            );
            assert_eq!(checker.size(), size as u64);
        }
    }

    #[test]
    fn a_bare_cr_or_lf_or_a_nul_is_found_on_either_side_of_a_border() {
        for (chunks, fault) in [
            (&["a\nb"][..], BareLf),
            (&["a", "\nb"], BareLf),
            (&["\n"], BareLf),
            (&["a\r\n", "\n"], BareLf),
            (&["a\rb"], BareCr),
            (&["a\r", "b"], BareCr),
            (&["a\r", "\r\n"], BareCr),
            (&["a\r", "", "\0\n"], BareCr),
            (&["a\0b"], Nul),
            (&["a\r\n", "\0"], Nul),
            (&["a\0", "\n", "\r"], Nul),
        ] {
            let checker = checked(ChunkChecker::text(), chunks);
            assert_eq!(checker.fault(), Some(fault), "{chunks:?}");
            assert_eq!(checker.fault_at_end(), Some(fault), "{chunks:?}");
            let size: usize = chunks.iter().map(|chunk| chunk.len()).sum();
            assert_eq!(checker.size(), size as u64);
        }
    }

    #[test]
    fn a_cr_at_the_very_end_is_a_fault_only_there() {
        let checker = checked(ChunkChecker::text(), &["a\r\n", "b\r"]);
        assert_eq!((checker.fault(), checker.fault_at_end()), (None, Some(BareCr)));
        let checker = checked(ChunkChecker::text(), &["a\nb", "\r"]);
        assert_eq!(checker.fault_at_end(), Some(BareLf));
    }

    #[test]
    fn binary_content_is_only_counted() {
        let checker = checked(ChunkChecker::binary(), &["\0\r\r", "\n\n\0", "\r"]);
        assert_eq!((checker.fault(), checker.fault_at_end()), (None, None));
        assert_eq!(checker.size(), 7);
    }
}
