//! Who others have to be when we call them: anybody, or who they say they are.
//!
//! Opportunistic TLS keeps out those who only listen, and asks for no proof (RFC 7435); a certificate of version 1 or
//! one that has run out is better than no TLS. Never reads the system's certificates before somebody has to be verified.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pem::{self, PemFault};
use super::provider;
use crate::named_file;

/// How long a file of certificates may be, octets: those of a whole system take some 250 KiB.
const LONGEST_FILE: u64 = 16 << 20;

/// Whom we trust when a host has to prove its name.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// `--tls-ca`, and how we begin TLS by that; `None` is whom the system trusts.
    roots: Option<(Known, Arc<ClientConfig>)>,
}

/// What would be said of the certificate of a host that had to prove its name; `None` as long as there was none.
pub type Verdict = Option<Result<(), String>>;

/// What is wrong with the file of `--tls-ca`.
#[derive(Debug)]
pub struct TrustError {
    path: PathBuf,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Unreadable(io::Error),
    TooLong,
    Text(PemFault),
    Unfit(rustls::Error),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tls-ca: {}: ", self.path.display())?;
        match &self.fault {
            Fault::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Fault::TooLong => f.write_str("expected a file of 16M at most"),
            Fault::Text(fault) => fault.fmt(f),
            Fault::Unfit(error) => write!(f, "it has a certificate that cannot be used: {error}"),
        }
    }
}

impl std::error::Error for TrustError {}

impl Trust {
    /// Trust in the certificates in `file`, in PEM.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(file: &Path) -> Result<Trust, TrustError> {
        let wrong = |fault| TrustError {
            path: file.to_owned(),
            fault,
        };
        let text = named_file::read(file, LONGEST_FILE).map_err(|error| wrong(Fault::Unreadable(error)))?;
        if text.len() as u64 > LONGEST_FILE {
            return Err(wrong(Fault::TooLong));
        }
        let certificates = pem::chain(&text).map_err(|fault| wrong(Fault::Text(fault)))?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| wrong(Fault::Unfit(error)))?;
        }
        let issuers = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|_| wrong(Fault::Text(PemFault::NoCertificate)))?;
        let known = Known {
            issuers,
            certificates: certificates.into(),
        };
        let config = calling(Arc::new(known.strictly()));
        Ok(Trust {
            roots: Some((known, config)),
        })
    }

    /// How we begin TLS with a host that has to prove its name.
    #[must_use]
    pub fn in_the_name(&self) -> Arc<ClientConfig> {
        static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let system = || Arc::clone(SYSTEM.get_or_init(trusting_the_system));
        let named = self.roots.as_ref().map(|(_, config)| Arc::clone(config));
        named.unwrap_or_else(system)
    }

    /// How we begin TLS with anybody.
    #[must_use]
    pub fn in_anybody() -> Arc<ClientConfig> {
        static ANYBODY: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| calling(Arc::new(Anybody)));
        Arc::clone(&ANYBODY)
    }

    /// The same, with a note in `verdict` of what would be said of the certificate if the host had to prove its name.
    #[must_use]
    pub fn watching(&self, verdict: &Arc<Mutex<Verdict>>) -> Arc<ClientConfig> {
        let known = match &self.roots {
            Some((known, _)) => known.clone(),
            None => Known::of_the_system(),
        };
        calling(Arc::new(Judge {
            known,
            noted: Some(Arc::clone(verdict)),
        }))
    }
}

fn calling(verifier: Arc<dyn ServerCertVerifier>) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has cipher suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}

fn trusting_the_system() -> Arc<ClientConfig> {
    calling(Arc::new(Known::of_the_system().strictly()))
}

/// The certificates that the system trusts, and Mozilla's where it has none.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::warn!("certificates that the system trusts can not be read: {error}");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Certain issuers; and certain certificates themselves: who made one and signed it with its own key has no issuer to name.
#[derive(Clone, Debug)]
struct Known {
    issuers: Arc<WebPkiServerVerifier>,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Known {
    fn of_the_system() -> Known {
        let issuers = WebPkiServerVerifier::builder_with_provider(Arc::new(system_roots()), provider())
            .build()
            .expect("there are roots, and no lists of what was revoked");
        Known {
            issuers,
            certificates: Arc::default(),
        }
    }

    /// Nobody else is let in.
    fn strictly(&self) -> Judge {
        Judge {
            known: self.clone(),
            noted: None,
        }
    }
}

/// Takes every certificate, and does not look at what the host signs with it: there are certificates with which that
/// can not be checked, and nothing would follow from it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = provider().signature_verification_algorithms.supported_schemes();
        // Old hosts sign with nothing better.
        schemes.extend([
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
        ]);
        schemes
    }
}

/// Takes who is known, for the host's name; or everybody, as [`Anybody`] does, where it only notes what it would have said.
#[derive(Debug)]
struct Judge {
    known: Known,
    noted: Option<Arc<Mutex<Verdict>>>,
}

impl Judge {
    /// Says this; or notes it, unless the certificate has been found wanting before, and takes what there is.
    fn say<T>(&self, said: Result<T, rustls::Error>, taken: fn() -> T) -> Result<T, rustls::Error> {
        let Some(verdict) = &self.noted else { return said };
        let mut verdict = verdict.lock();
        if !matches!(*verdict, Some(Err(_))) {
            *verdict = Some(said.map(|_| ()).map_err(|error| error.to_string()));
        }
        Ok(taken())
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Known {
            issuers,
            certificates,
        } = &self.known;
        let said = match certificates.contains(end_entity) {
            true => Ok(ServerCertVerified::assertion()),
            false => issuers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        };
        self.say(said, ServerCertVerified::assertion)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let said = self
            .known
            .issuers
            .verify_tls12_signature(message, certificate, signed);
        self.say(said, HandshakeSignatureValid::assertion)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let said = self
            .known
            .issuers
            .verify_tls13_signature(message, certificate, signed);
        self.say(said, HandshakeSignatureValid::assertion)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self.noted {
            Some(_) => Anybody.supported_verify_schemes(),
            None => self.known.issuers.supported_verify_schemes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};

    use super::*;
    use crate::tls::handshake::HandshakeError;
    use crate::tls::identity::Identity;
    use crate::tls::trial::{Cabinet, NAME, pair, papers};
    use crate::tls::wire::Wire;

    /// How a handshake ends for us, who call `name`.
    fn call(identity: Identity, trust: Arc<ClientConfig>, name: &str) -> Result<(), HandshakeError> {
        let (server, client) = pair();
        let soon = Instant::now() + Duration::from_secs(30);
        let answer = std::thread::spawn(move || Wire::plain(server).accept_tls(&identity, soon).is_ok());
        let called = Wire::plain(client).begin_tls_with(name, trust, soon);
        let _ = answer.join();
        called.map(|_| ())
    }

    /// An identity for [`NAME`] by an issuer, and the issuer's certificate.
    fn issued() -> (Identity, String) {
        let mut issuer = CertificateParams::new([]).unwrap();
        issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = issuer.self_signed(&key).unwrap();
        let issuer = Issuer::new(issuer, key);
        let key = KeyPair::generate().unwrap();
        let ours = CertificateParams::new([NAME.to_owned()]).unwrap();
        let ours = ours.signed_by(&key, &issuer).unwrap();
        let cabinet = Cabinet::new();
        let cert = cabinet.file("cert.pem", ours.pem());
        let key = cabinet.file("key.pem", key.serialize_pem());
        (Identity::read(&cert, &key).unwrap(), certificate.pem())
    }

    #[test]
    fn anybody_is_somebody() {
        let papers = papers(&PKCS_ECDSA_P256_SHA256);
        assert!(call(papers.identity(), Trust::in_anybody(), "another.example").is_ok());
        assert!(call(papers.identity(), Trust::in_anybody(), "192.0.2.1").is_ok());
        assert!(call(papers.identity(), Trust::in_anybody(), "not_a.host..name").is_ok());
    }

    #[test]
    fn a_host_proves_its_name_by_an_issuer_that_is_trusted() {
        let cabinet = Cabinet::new();
        let (identity, issuer) = issued();
        let trust = Trust::read(&cabinet.file("ca.pem", issuer)).unwrap();
        assert!(call(identity.clone(), trust.in_the_name(), NAME).is_ok());
        assert!(call(identity, trust.in_the_name(), "another.example").is_err());
        let (stranger, _) = issued();
        assert!(call(stranger.clone(), trust.in_the_name(), NAME).is_err());
        assert!(call(stranger, Trust::default().in_the_name(), NAME).is_err());
    }

    #[test]
    fn whoever_watches_takes_anybody_and_hears_what_is_thought_of_him() {
        let cabinet = Cabinet::new();
        let (identity, issuer) = issued();
        let trust = Trust::read(&cabinet.file("ca.pem", issuer)).unwrap();
        let judged = |identity: &Identity, name| {
            let verdict = Arc::default();
            assert!(call(identity.clone(), trust.watching(&verdict), name).is_ok());
            let verdict = verdict.lock().take();
            verdict.expect("a certificate was seen")
        };
        assert_eq!(judged(&identity, NAME), Ok(()));
        assert!(judged(&identity, "another.example").is_err());
        let (stranger, _) = issued();
        let why = judged(&stranger, NAME).unwrap_err();
        assert!(
            why.contains("UnknownIssuer") || why.contains("BadSignature"),
            "{why}"
        );
    }

    #[test]
    fn a_certificate_that_is_known_itself_needs_no_issuer() {
        let cabinet = Cabinet::new();
        let ours = papers(&PKCS_ECDSA_P256_SHA256);
        let trust = Trust::read(&cabinet.file("ca.pem", ours.certificate.pem())).unwrap();
        assert!(call(ours.identity(), trust.in_the_name(), NAME).is_ok());
        let other = papers(&PKCS_ECDSA_P256_SHA256);
        assert!(call(other.identity(), trust.in_the_name(), NAME).is_err());
    }

    #[test]
    fn a_file_without_certificates_is_told() {
        let cabinet = Cabinet::new();
        let told = Trust::read(&cabinet.file("ca.pem", "nothing"))
            .unwrap_err()
            .to_string();
        assert!(told.starts_with("tls-ca: ") && told.contains("ca.pem"), "{told}");
        assert!(Trust::read(&cabinet.path("gone.pem")).is_err());
    }
}
