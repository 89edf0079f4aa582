//! TLS: certificates and keys from files, and connections that speak it.
//!
//! [`identity`] is who we are: a certificate with its key ([`pem`]) and what channel binding makes of it
//! ([`end_point`]); [`validity`] is for how long, and for whom; [`trust`] is who others have to be. [`wire`] is a connection that is plain or speaks TLS; below it are the [`handshake`] and
//! the `socket` with its deadlines. Nothing here knows SMTP.

pub mod end_point;
pub mod handshake;
pub mod identity;
pub mod pem;
mod socket;
pub mod trust;
pub mod validity;
pub mod wire;

#[cfg(test)]
pub(crate) mod trial;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// The cryptography that everything here works with. It is handed over by name, so that no other part of the
/// process can put another one in its place.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
