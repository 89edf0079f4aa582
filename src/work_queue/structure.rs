//! What a message is made of, as the queue records it in columns that people can query.
//!
//! Values only: `conversion::from_internet` reads them out of the content.

/// What a message is made of. Texts are UTF-8, at most 500 characters, clean of controls; empty where the
/// message has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Structure {
    /// The first Subject.
    pub subject: String,
    /// The first From.
    pub from: String,
    /// The first To.
    pub to: String,
    /// The first Message-ID, with its angle brackets.
    pub message_id: String,
    /// The first Date, as it stands.
    pub date: String,
    /// The number of Received fields in the whole header, for the loop check (RFC 5321 6.3).
    pub hops: usize,
    /// Whether any octet of header or body is above 127.
    pub eight_bit: bool,
    /// Whether any octet of the header, or of a part's header, is above 127: what came with SMTPUTF8 needs
    /// it then on its way on (RFC 6531 3.6).
    pub utf8_header: bool,
    /// The leaves of the MIME tree: 1 for a message that is not multipart.
    pub parts: usize,
    /// The file names of attachments, in their order: at most 100, each at most 200 characters.
    pub attachments: Vec<String>,
    /// The values of the topmost Delivered-To fields, at most 20.
    pub delivered_to: Vec<String>,
}
