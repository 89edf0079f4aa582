//! A body on its way out, in whatever form it goes.

use super::Coding;
use super::base64::Base64;
use super::mended::Mended;
use super::quoted_printable::QuotedPrintable;

/// Writes one body.
#[derive(Debug)]
pub(super) enum Body {
    AsItIs,
    QuotedPrintable(QuotedPrintable),
    Base64(Base64),
    Mended(Mended),
    Dropped,
}

impl Body {
    /// Begins a body.
    pub fn new(coding: Coding) -> Body {
        match coding {
            Coding::AsItIs | Coding::SevenBit => Body::AsItIs,
            Coding::QuotedPrintable => Body::QuotedPrintable(QuotedPrintable::default()),
            Coding::Base64 => Body::Base64(Base64::default()),
            Coding::MendedQuotedPrintable => Body::Mended(Mended::quoted_printable()),
            Coding::MendedBase64 => Body::Mended(Mended::base64()),
            Coding::Dropped => Body::Dropped,
        }
    }

    /// Appends a line or a part of one, without its line end.
    pub fn text(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match self {
            Body::AsItIs => out.extend_from_slice(octets),
            Body::QuotedPrintable(encoder) => encoder.text(octets, out),
            Body::Base64(encoder) => encoder.octets(octets, out),
            Body::Mended(mended) => mended.text(octets, out),
            Body::Dropped => {}
        }
    }

    /// Appends a line end.
    pub fn line_end(&mut self, out: &mut Vec<u8>) {
        match self {
            Body::AsItIs => out.extend_from_slice(b"\r\n"),
            Body::QuotedPrintable(encoder) => encoder.line_end(out),
            Body::Base64(encoder) => encoder.octets(b"\r\n", out),
            Body::Mended(mended) => mended.line_end(out),
            Body::Dropped => {}
        }
    }

    /// Ends the body; `ends_content`, if nothing follows it.
    pub fn finish(&mut self, ends_content: bool, out: &mut Vec<u8>) {
        match self {
            Body::QuotedPrintable(encoder) if ends_content => encoder.finish(out),
            Body::Base64(encoder) => encoder.finish(ends_content, out),
            _ => {}
        }
    }
}
