//! The messages of the load: a header of their own with the time at which each began, and a body that all share.
//!
//! Never longer or shorter than was asked for, once it is at least as long as the header.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The field that says when the message began, in nanoseconds since 1970.
pub const STAMP: &[u8] = b"X-Sent: ";

/// What messages of one load have in common.
#[derive(Clone, Debug)]
pub struct Model {
    from: String,
    to: String,
    hosts: u64,
    body: Arc<[u8]>,
}

impl Model {
    /// Messages of `size` octets with their header, from `from` to `to`; `#` in `to` becomes a number below `hosts`,
    /// another one for each message.
    pub fn new(size: usize, from: &str, to: &str, hosts: u64) -> Model {
        let mut model = Model {
            from: from.to_owned(),
            to: to.to_owned(),
            hosts: hosts.max(1),
            body: Arc::from(Vec::new()),
        };
        let length = size.saturating_sub(model.header(0, Instant::now()).len());
        let mut body = Vec::with_capacity(length + 80);
        while body.len() < length {
            // Lines of 78 octets; the last two never leave an LF alone.
            let line = (length - body.len()).min(78);
            let line = if length - body.len() - line == 1 {
                line - 1
            } else {
                line
            };
            body.extend(std::iter::repeat_n(b'x', line.saturating_sub(2)));
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b".\r\n");
        model.body = Arc::from(body);
        model
    }

    /// What the envelope commands of message `number` are, each with its CRLF.
    pub fn commands(&self, number: u64) -> [String; 3] {
        [
            format!("MAIL FROM:<{}>\r\n", self.from),
            format!("RCPT TO:<{}>\r\n", self.recipient(number)),
            "DATA\r\n".to_owned(),
        ]
    }

    fn recipient(&self, number: u64) -> String {
        self.to.replace('#', &(number % self.hosts).to_string())
    }

    /// The header of message `number`, which began at `began`, with the blank line. Its length is the same for all, as long as the
    /// recipients' are.
    pub fn header(&self, number: u64, began: Instant) -> Vec<u8> {
        let stamp = stamp().saturating_sub(u64::try_from(began.elapsed().as_nanos()).unwrap_or(0));
        let (from, to) = (&self.from, self.recipient(number));
        format!(
            "From: <{from}>\r\nTo: <{to}>\r\nDate: Wed, 25 Nov 2026 12:00:00 +0000\r\nSubject: load\r\n\
             X-Sent: {stamp:020}\r\nMessage-ID: <{stamp:020}.{number:012}@load.example>\r\n\r\n"
        )
        .into_bytes()
    }

    /// The body, and the dot that ends it.
    pub fn body(&self) -> Arc<[u8]> {
        Arc::clone(&self.body)
    }
}

/// Nanoseconds since 1970: load and sink may be two processes.
#[expect(clippy::disallowed_methods, reason = "no test sets the time of a measurement")]
fn stamp() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How long ago the message was sent whose content begins so; nothing if no stamp is there (yet).
pub fn age(beginning: &[u8]) -> Option<Duration> {
    let at = memchr::memmem::find(beginning, STAMP)? + STAMP.len();
    let digits = beginning.get(at..at + 20)?;
    let sent: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(Duration::from_nanos(stamp().saturating_sub(sent)))
}
