//! Replies: the three digits, the enhanced status code and the text (RFC 5321 4.2, RFC 2034, RFC 3463).

/// An enhanced status code, `class.subject.detail` (RFC 3463 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

/// One reply, ours or a peer's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// The three digits, 200 to 599.
    pub code: u16,
    /// The enhanced status code, where there is one.
    pub enhanced: Option<EnhancedCode>,
    /// The text, a string for each line, without code, enhanced code and line ends; never empty.
    pub lines: Vec<String>,
}
