//! What the tests of this room have in common: papers that were made a moment ago, and a client for them.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use super::identity::Identity;
use super::provider;

/// The name in every certificate here.
pub(crate) const NAME: &str = "mail.example.org";

/// A certificate and its key.
pub(crate) struct Papers {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

/// New papers, signed by themselves.
pub(crate) fn papers(algorithm: &'static SignatureAlgorithm) -> Papers {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::new([NAME.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Papers { certificate, key }
}

impl Papers {
    pub(crate) fn end_entity(&self) -> &[u8] {
        self.certificate.der()
    }

    pub(crate) fn identity(&self) -> Identity {
        let cabinet = Cabinet::new();
        let cert = cabinet.file("cert.pem", self.certificate.pem());
        let key = cabinet.file("key.pem", self.key.serialize_pem());
        Identity::read(&cert, &key).unwrap()
    }

    /// How a client calls that trusts these papers, and speaks these versions.
    pub(crate) fn client_config(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_slice(self.end_entity())).unwrap();
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

/// A folder for files.
pub(crate) struct Cabinet(TempDir);

impl Cabinet {
    pub(crate) fn new() -> Cabinet {
        Cabinet(TempDir::new().unwrap())
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Two ends of a connection: ours, and the client's.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (server, client)
}

/// A client that calls [`NAME`] over `stream`.
pub(crate) fn client(config: ClientConfig, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let connection = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    StreamOwned::new(connection, stream)
}

/// All that comes until the end, or until the connection breaks.
pub(crate) fn hear_out(mut stream: impl Read) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    heard
}
