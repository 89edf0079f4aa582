//! Names into addresses: MX, null MX, A and AAAA (RFC 5321 5.1); and addresses into names: PTR.
//!
//! [`resolver`] is the door: it asks the [`cache`] first and the [`client`] then, and follows aliases.
//! [`message`] is the grammar; [`servers`] says whom the client asks. Which of the hosts found here a list may go to is `outbound::hosts`.

pub mod cache;
pub mod client;
pub mod message;
pub mod probe;
pub mod resolver;
pub mod servers;

#[cfg(test)]
#[path = "../../tests/support/dns_server.rs"]
pub(crate) mod dns_server;
