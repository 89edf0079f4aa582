//! What MIME content becomes for a next hop that takes only 7-bit lines: one that does not offer 8BITMIME
//! (RFC 6152 3) or BINARYMIME (RFC 3030 3).
//!
//! [`Plan`] is the door: it is made in one pass over the content, and tells the size; [`SevenBit`] is what comes out
//! in a second. The way through a message is that of `structure.rs`, which both go.
//!
//! What 7bit does not allow (RFC 2045 2.7: octets above 127, NUL, CR and LF that end no line, lines over 998) goes as
//! quoted-printable where it is text, else as base64. Header fields with octets above 127, which other MTAs let pass
//! as they are, go as encoded words (RFC 2047) and extended parameters (RFC 2231), their charset UTF-8 where they are
//! that and else unknown-8bit (RFC 1428); those of parts and of messages in messages, too (`eight_bit_field.rs`).
//! A part that is labelled quoted-printable or base64 and yet holds such octets keeps its label and is mended
//! (`mended.rs`): quoted-printable gets a code for each, and base64 loses them, which its decoders ignore anyway
//! (RFC 2045 6.8). A multipart has no such label (RFC 2045 6.4), so it counts for none; a message labelled so, and a
//! part in an encoding of somebody's own (x-uuencode), are refused if they are not 7-bit.
//! Everything else stays as it is, to the octet: fields, parts that are clean whatever their label says, delimiters.
//! So content that is 7-bit already comes out unchanged.
//!
//! What is no text for people (Received, Message-ID, References, List-Post and their kind) has a question mark for
//! each octet above 127 outside of comments: nobody is bounced for a trace. Only an address of the header in which
//! there are any, and a boundary, are refused. A DKIM signature over what changes breaks, fields like bodies.
//!
//! Pure and bounded: never touches a socket, a clock or the queue, and holds no more of a message than one header.
//! Never changes what a signature within vouches for (RFC 1847 2.1); encrypted parts and PKCS #7 are data like any
//! other, since what protects them is inside.

use std::fmt;

mod base64;
mod body;
mod eight_bit_field;
mod encoded_word;
mod field;
mod folding;
mod header;
mod lines;
mod mended;
mod parameters;
mod plan;
mod quoted_printable;
mod seven_bit;
mod structure;
mod structured;

pub use field::{is_name_octet, name as field_name};
pub use plan::Plan;
pub use seven_bit::SevenBit;

/// The longest line of 7bit content, without its CRLF (RFC 2045 2.7, RFC 5322 2.1.1).
const LONGEST_LINE: usize = 998;

/// In which form a section of a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    AsItIs,
    /// A multipart or a message with something in it that changes.
    SevenBit,
    QuotedPrintable,
    Base64,
    /// Quoted-printable as it is labelled, but for what is not.
    MendedQuotedPrintable,
    /// Base64 as it is labelled, but for what is not.
    MendedBase64,
    /// A preamble or an epilogue: nobody reads it, and it cannot be encoded.
    Dropped,
}

impl Coding {
    /// What Content-Transfer-Encoding says of it, if the header changes at all.
    fn name(self) -> Option<&'static str> {
        match self {
            Coding::AsItIs | Coding::MendedQuotedPrintable | Coding::MendedBase64 | Coding::Dropped => None,
            Coding::SevenBit => Some("7bit"),
            Coding::QuotedPrintable => Some("quoted-printable"),
            Coding::Base64 => Some("base64"),
        }
    }
}

/// Why content cannot become 7-bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsuitable {
    /// An address in a header field holds octets above 127: it needs SMTPUTF8 (RFC 6531 3.2), or is broken.
    EightBitField,
    /// A multipart's boundary does. RFC 2046 5.1.1 allows none.
    EightBitBoundary,
    /// A header field holds NUL, or a CR or LF that ends no line.
    BrokenField,
    /// A line of a header field is longer than 998 octets.
    LongField,
    /// A header is larger than 512 KiB.
    LargeHeader,
    /// There are more parts than anybody makes.
    TooManyParts,
    /// Something that would have to change is nested more than 50 deep.
    TooDeep,
    /// Something would have to change that a signature vouches for (RFC 1847 2.1).
    Signed,
    /// A message/partial or message/external-body is not 7-bit (RFC 2046 5.2.2, 5.2.3).
    Fragment,
    /// A message in a message says that it is quoted-printable or base64, or a part that it is in an encoding of
    /// somebody's own, and is not.
    Misencoded,
    /// A multipart has no parts, and yet something in it.
    NoParts,
}

impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsuitable::EightBitField => "an address in the header needs SMTPUTF8",
            Unsuitable::EightBitBoundary => "a boundary holds 8-bit octets",
            Unsuitable::BrokenField => "a header field holds NUL, or a bare CR or LF",
            Unsuitable::LongField => "a line of the header is longer than 998 octets",
            Unsuitable::LargeHeader => "a header is larger than 512 KiB",
            Unsuitable::TooManyParts => "it has too many parts",
            Unsuitable::TooDeep => "its parts are nested too deep",
            Unsuitable::Signed => "it is signed",
            Unsuitable::Fragment => "it has a message/partial or message/external-body that is not 7-bit",
            Unsuitable::Misencoded => "a part of it is not encoded as its header says",
            Unsuitable::NoParts => "it has a multipart without parts",
        })
    }
}

impl std::error::Error for Unsuitable {}

#[cfg(test)]
mod tests;
