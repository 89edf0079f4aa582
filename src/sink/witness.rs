//! What happens in a sink, for whoever wants to know: the terminal, a folder, a test.
//!
//! Only words. A witness is told by the session's own thread, before the client can know.

use std::net::SocketAddr;

use super::envelope::Envelope;
use super::stage::Stage;
use crate::tls::handshake::TlsFacts;

/// Something that happened.
#[derive(Debug)]
pub enum Event<'e> {
    /// Somebody was accepted.
    Opened(SocketAddr),
    /// TLS began.
    Encrypted(&'e TlsFacts),
    /// There will be no TLS, for this reason.
    NotEncrypted(String),
    /// The client said this line, here without its CRLF.
    Heard(&'e [u8]),
    /// We are about to say this.
    Says(&'e [u8]),
    /// All that is due has been said, and now the client is waited for.
    Waits,
    /// A message's content is about to come.
    Begins(&'e Envelope),
    /// A piece of it.
    Piece(&'e [u8]),
    /// All of it is there; nothing was said to it yet.
    Arrived,
    /// In LMTP: it is about to be answered for one of its recipients.
    Delivers {
        /// This one.
        recipient: &'e str,
        /// That takes it.
        accepted: bool,
    },
    /// It is about to be answered; in LMTP for its last recipient.
    Settles {
        /// With this; in LMTP with what the last recipient heard that took it, if one did.
        reply: &'e [u8],
        /// Which takes it; in LMTP, for one of its recipients at least.
        accepted: bool,
    },
    /// Something is done wrong here, to order.
    Misbehaves(Stage),
    /// Nothing is said any more.
    Stalls(Stage),
    /// It goes on.
    GoesOn,
    /// The connection is over; what was not settled never will be.
    Ended,
}

/// Somebody who wants to know. The number is that of the session, in the order of acceptance, from 0.
pub trait Witness: Send + Sync {
    /// Takes note; never waits for anything that could wait for the sink.
    fn note(&self, session: usize, event: &Event<'_>);
}

/// Who wants to know nothing.
impl Witness for () {
    fn note(&self, _: usize, _: &Event<'_>) {}
}
