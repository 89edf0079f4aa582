//! Who we are to those who call: a certificate with its chain and its private key, from `--tls-cert` and
//! `--tls-key`.
//!
//! An identity never changes. After a refresh there is a new one, and sessions keep the one that they began
//! with.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ServerConfig, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::pem::{self, PemFault};
use super::{end_point, provider};
use crate::named_file;

/// How long a certificate or key file may be, octets. The longest chains take some 30 KiB.
const LONGEST_FILE: u64 = 1024 * 1024;

/// How many sessions of TLS 1.2 are remembered for clients that come back: some 200 octets each.
const REMEMBERED_SESSIONS: usize = 1024;

/// A certificate with its chain and key, and what TLS makes of them.
#[derive(Clone, Debug)]
pub struct Identity {
    config: Arc<ServerConfig>,
    end_entity: CertificateDer<'static>,
    end_point: Option<Vec<u8>>,
}

/// Why a pair of files is no identity.
#[derive(Debug)]
pub enum IdentityError {
    /// One of the two files.
    File {
        /// What it was to be.
        role: Role,
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// The key is not that of the first certificate.
    Mismatch {
        /// The certificates' file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Where in the file the certificate of this key stands, counted from 1, if it is there at all.
        belongs_to: Option<usize>,
    },
}

/// What a file was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `--tls-cert`: our certificate first, then its chain.
    Certificate,
    /// `--tls-key`: the private key.
    Key,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum FileFault {
    /// It can not be read.
    Unreadable(io::Error),
    /// It is longer than any certificate chain or key.
    TooLong,
    /// Its text.
    Text(PemFault),
    /// The first certificate in it is damaged, or not of X.509 version 3.
    UnfitCertificate(rustls::Error),
    /// The key is of a kind or a size that TLS can not use, or damaged.
    UnfitKey,
}

impl Identity {
    /// Reads the certificate chain in `cert` and the private key in `key`, both in PEM form; they may be one
    /// file.
    ///
    /// # Errors
    /// A file can not be read or is not what it was to be, or the key is not that of the first certificate.
    pub fn read(cert: &Path, key: &Path) -> Result<Identity, IdentityError> {
        let provider = provider();
        let text = read(Role::Certificate, cert)?;
        let chain = pem::chain(&text).map_err(|fault| Role::Certificate.fault(cert, fault.into()))?;
        let text = read(Role::Key, key)?;
        let signer = pem::key(&text)
            .map_err(|fault| Role::Key.fault(key, fault.into()))
            .and_then(|der| {
                let loaded = provider.key_provider.load_private_key(der);
                loaded.map_err(|_| Role::Key.fault(key, FileFault::UnfitKey))
            })?;
        match owner(&chain, &signer).map_err(|fault| Role::Certificate.fault(cert, fault))? {
            Some(0) => {}
            other => {
                return Err(IdentityError::Mismatch {
                    cert: cert.to_owned(),
                    key: key.to_owned(),
                    belongs_to: other.map(|place| place + 1),
                });
            }
        }
        let end_entity = chain[0].clone();
        Ok(Identity {
            end_point: end_point::binding(&end_entity),
            config: Arc::new(server_config(provider, CertifiedKey::new(chain, signer))),
            end_entity,
        })
    }

    /// The identity of this chain and key, for a certificate that stands in no file.
    ///
    /// # Errors
    /// The key can not be used, or is not that of the first certificate.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Identity, rustls::Error> {
        let provider = provider();
        let signer = provider.key_provider.load_private_key(key)?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match()?;
        let end_entity = certified.end_entity_cert()?.clone().into_owned();
        Ok(Identity {
            end_point: end_point::binding(&end_entity),
            config: Arc::new(server_config(provider, certified)),
            end_entity,
        })
    }

    /// How we answer a client that begins TLS.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Our certificate, DER.
    #[must_use]
    pub fn end_entity(&self) -> &[u8] {
        &self.end_entity
    }

    /// The channel binding `tls-server-end-point`; see [`end_point::binding`].
    #[must_use]
    pub fn server_end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }
}

fn read(role: Role, path: &Path) -> Result<Vec<u8>, IdentityError> {
    let text = named_file::read(path, LONGEST_FILE)
        .map_err(|error| role.fault(path, FileFault::Unreadable(error)))?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(role.fault(path, FileFault::TooLong));
    }
    Ok(text)
}

/// Where in the chain the certificate of this key stands. Only the first one has to be as TLS wants it: old
/// roots of X.509 version 1 do no harm at the end of a chain.
fn owner(
    chain: &[CertificateDer<'static>],
    signer: &Arc<dyn SigningKey>,
) -> Result<Option<usize>, FileFault> {
    let mut owner = None;
    for (place, certificate) in chain.iter().enumerate() {
        match CertifiedKey::new(vec![certificate.clone()], Arc::clone(signer)).keys_match() {
            Ok(()) => owner = owner.or(Some(place)),
            Err(rustls::Error::InconsistentKeys(_)) => {}
            Err(error) if place == 0 => return Err(FileFault::UnfitCertificate(error)),
            Err(_) => {}
        }
    }
    Ok(owner)
}

fn server_config(provider: Arc<CryptoProvider>, certified: CertifiedKey) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has cipher suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // Every suite that is offered is a good one, so the client's order decides: it knows whether its machine
    // does AES in hardware.
    config.ignore_client_order = false;
    // Session tickets made Outlook's servers hang up in the middle of STARTTLS, and mail was lost for weeks
    // (golang/go#70232: those came early, which is another thing than ours would be, but a whole handshake
    // costs less than to find out). TLS 1.2 can come back by session ID; TLS 1.3 knows tickets only.
    config.send_tls13_tickets = 0;
    config.max_tls13_tickets = 0;
    config.session_storage = ServerSessionMemoryCache::new(REMEMBERED_SESSIONS);
    // What a client says before its handshake is over can be said again by somebody else.
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config
}

impl Role {
    fn fault(self, path: &Path, fault: FileFault) -> IdentityError {
        IdentityError::File {
            role: self,
            path: path.to_owned(),
            fault,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Role::Certificate => "our certificate in PEM form, and after it those of its chain",
            Role::Key => "the private key of the certificate in PEM form, not encrypted",
        }
    }
}

impl From<PemFault> for FileFault {
    fn from(fault: PemFault) -> FileFault {
        FileFault::Text(fault)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Certificate => "TLS certificate file",
            Role::Key => "TLS key file",
        })
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileFault::Unreadable(error) => write!(f, "can not be read: {error}"),
            FileFault::TooLong => write!(f, "is longer than {LONGEST_FILE} octets"),
            FileFault::Text(fault) => fault.fmt(f),
            FileFault::UnfitCertificate(error) => write!(
                f,
                "begins with a certificate that TLS can not use: it is damaged, or not of X.509 version 3 \
                 ({error})"
            ),
            FileFault::UnfitKey => f.write_str(
                "has a private key that TLS can not use: it is damaged, or neither RSA of 2048 to 8192 bits, \
                 nor ECDSA with P-256, P-384 or P-521, nor Ed25519",
            ),
        }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::File { role, path, fault } => {
                let expected = role.expected();
                write!(f, "{role} {} {fault}; expected {expected}", path.display())
            }
            IdentityError::Mismatch {
                cert,
                key,
                belongs_to,
            } => {
                let (cert, key) = (cert.display(), key.display());
                match belongs_to {
                    Some(place) => write!(
                        f,
                        "the key in {key} belongs to certificate number {place} in {cert}; expected that \
                         certificate to be the first one"
                    ),
                    None => write!(
                        f,
                        "the key in {key} does not belong to the certificate in {cert}; expected the two \
                         to be a pair"
                    ),
                }
            }
        }
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests;
