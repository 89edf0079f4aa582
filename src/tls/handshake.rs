//! The TLS handshake: done before a deadline or not at all, and what is known after it.
//!
//! Never goes on in the clear after it has failed.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use rustls::{AlertDescription, CipherSuite, Connection, InvalidMessage, ProtocolVersion};

use super::socket::{Socket, is_time_out};

/// How long a last word to the peer may take: an alert, or that we close.
pub(super) const LAST_WORD: Duration = Duration::from_secs(1);

/// What the handshake has agreed upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite as IANA calls it, like `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// The channel binding `tls-exporter` (RFC 9266). `None` with TLS 1.2: there it is safe only with an
    /// extended master secret (RFC 9266 4.2), and whether there is one can not be seen from here.
    pub exporter: Option<[u8; 32]>,
    /// The channel binding `tls-server-end-point` (RFC 5929 4.1). `None` where it is undefined for our
    /// certificate.
    pub server_end_point: Option<Vec<u8>>,
    /// The name by which the client has called us (RFC 6066 3), in lower case.
    pub server_name: Option<String>,
}

/// Why there is no TLS on a connection. It can not be used for anything else either.
#[derive(Debug)]
pub enum HandshakeError {
    /// The deadline has passed.
    TimedOut,
    /// The peer hung up in the middle.
    HungUp,
    /// What came was not TLS.
    NotTls,
    /// We can not agree with the peer; it has been told by an alert.
    Disagreed(rustls::Error),
    /// The peer has refused, with this alert.
    Refused(AlertDescription),
    /// The connection broke.
    Broken(io::Error),
    /// The connection speaks TLS already, or is over.
    OutOfPlace,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::TimedOut => f.write_str("the TLS handshake took too long"),
            HandshakeError::HungUp => f.write_str("the peer hung up during the TLS handshake"),
            HandshakeError::NotTls => f.write_str("the peer began something that is not TLS"),
            HandshakeError::Disagreed(error) => write!(f, "no TLS with this peer: {error}"),
            HandshakeError::Refused(alert) => write!(f, "the peer refused the TLS handshake: {alert:?}"),
            HandshakeError::Broken(error) => {
                write!(f, "the connection broke during the TLS handshake: {error}")
            }
            HandshakeError::OutOfPlace => {
                f.write_str("a TLS handshake was asked for on a connection that is past it")
            }
        }
    }
}

impl std::error::Error for HandshakeError {}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> HandshakeError {
        if is_time_out(&error) {
            HandshakeError::TimedOut
        } else {
            HandshakeError::Broken(error)
        }
    }
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> HandshakeError {
        match error {
            rustls::Error::AlertReceived(alert) => HandshakeError::Refused(alert),
            // The first octet of a record says what it is, and no other protocol's text begins with one of
            // those.
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => HandshakeError::NotTls,
            error => HandshakeError::Disagreed(error),
        }
    }
}

/// Goes through the handshake on either side. When this returns all that we had to say has gone out.
pub(super) fn shake(
    socket: &mut Socket,
    tls: &mut Connection,
    deadline: Instant,
) -> Result<(), HandshakeError> {
    loop {
        say_all(socket, tls, deadline)?;
        if !tls.is_handshaking() {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HandshakeError::TimedOut);
        }
        if tls.read_tls(&mut socket.listening(left))? == 0 {
            return Err(HandshakeError::HungUp);
        }
        if let Err(error) = tls.process_new_packets() {
            say_last(socket, tls);
            return Err(error.into());
        }
    }
}

/// Brings everything out that waits to be said.
pub(super) fn say_all(socket: &mut Socket, tls: &mut Connection, deadline: Instant) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut socket.speaking(deadline))?;
    }
    Ok(())
}

/// Says what there is still to say, if the peer takes it, and that nothing more will come.
pub(super) fn say_last(socket: &mut Socket, tls: &mut Connection) {
    // Best effort: the connection is given up whether the peer hears this or not.
    let _ = say_all(socket, tls, Instant::now() + LAST_WORD);
    socket.end();
}

/// What the handshake has agreed upon; `server_end_point` is that of the server's certificate.
pub(super) fn facts(tls: &Connection, server_end_point: Option<Vec<u8>>) -> Result<TlsFacts, rustls::Error> {
    let version = tls.protocol_version();
    let is_tls13 = version == Some(ProtocolVersion::TLSv1_3);
    // RFC 9266 2: this label, an empty context, 32 octets.
    let exporter = is_tls13
        .then(|| tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")))
        .transpose()?;
    Ok(TlsFacts {
        version: if is_tls13 { "TLSv1.3" } else { "TLSv1.2" },
        cipher: tls
            .negotiated_cipher_suite()
            .map_or("unknown", |suite| iana_name(suite.suite())),
        exporter,
        server_end_point,
        server_name: match tls {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        },
    })
}

/// The library puts `TLS13` before the names of TLS 1.3.
fn iana_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}
