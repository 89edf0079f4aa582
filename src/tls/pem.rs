//! Certificates and keys in PEM form (RFC 7468), as certificate authorities and `openssl` write them.
//!
//! Never opens a file: what came out of one is handed in. Says what is wrong with it in the operator's words.

use std::fmt;

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What is wrong with the text of a certificate or key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemFault {
    /// Nothing is in it, or blanks only.
    Empty,
    /// It is DER, the binary form of the same things.
    Binary,
    /// No section in it begins with `-----BEGIN`.
    NotPem,
    /// A section is cut off, or is no base64.
    Damaged,
    /// It has other sections, but no certificate.
    NoCertificate,
    /// It has a key, but no certificate: perhaps the two files were exchanged.
    KeyInstead,
    /// It has other sections, but no private key.
    NoKey,
    /// It has certificates, but no private key: perhaps the two files were exchanged.
    CertificateInstead,
    /// It has more than one private key.
    ManyKeys,
    /// The key is encrypted with a password.
    Locked,
}

impl fmt::Display for PemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PemFault::Empty => "is empty",
            PemFault::Binary => {
                "is in binary form (DER); convert it to PEM, as with `openssl x509` or `openssl pkey`"
            }
            PemFault::NotPem => "is not in PEM form: no line begins with -----BEGIN",
            PemFault::Damaged => "is damaged: a section is cut off or is no base64",
            PemFault::NoCertificate => "has no certificate",
            PemFault::KeyInstead => "has a private key and no certificate; are the two files exchanged?",
            PemFault::NoKey => "has no private key",
            PemFault::CertificateInstead => {
                "has a certificate and no private key; are the two files exchanged?"
            }
            PemFault::ManyKeys => "has more than one private key",
            PemFault::Locked => {
                "is encrypted with a password, which nobody is there to enter; decrypt it, as with \
                                 `openssl pkey`"
            }
        })
    }
}

/// The certificates in `text`, in their order.
///
/// # Errors
/// There is none, or the text is damaged.
pub fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    let sections = sections(text)?;
    let has_key = sections.iter().any(|(kind, _)| is_key(*kind));
    let chain: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    match (chain.is_empty(), has_key || is_locked(text)) {
        (false, _) => Ok(chain),
        (true, true) => Err(PemFault::KeyInstead),
        (true, false) => Err(PemFault::NoCertificate),
    }
}

/// The private key in `text`: PKCS#8, PKCS#1 (RSA) or SEC1 (EC). Certificates and parameters may stand beside
/// it.
///
/// # Errors
/// There is none or more than one, it is encrypted, or the text is damaged.
pub fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemFault> {
    if is_locked(text) {
        return Err(PemFault::Locked);
    }
    let mut found = None;
    let mut has_certificate = false;
    for (kind, der) in sections(text)? {
        has_certificate |= kind == SectionKind::Certificate;
        if let Some(key) = PrivateKeyDer::from_pem(kind, der)
            && found.replace(key).is_some()
        {
            return Err(PemFault::ManyKeys);
        }
    }
    found.ok_or(if has_certificate {
        PemFault::CertificateInstead
    } else {
        PemFault::NoKey
    })
}

fn sections(text: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, PemFault> {
    if text.trim_ascii().is_empty() {
        return Err(PemFault::Empty);
    }
    if memchr::memmem::find(text, b"-----BEGIN ").is_none() {
        // A DER file begins with a SEQUENCE whose length takes more than one octet.
        return Err(match text {
            [0x30, length, ..] if *length >= 0x80 => PemFault::Binary,
            _ => PemFault::NotPem,
        });
    }
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|_| PemFault::Damaged)
}

fn is_key(kind: SectionKind) -> bool {
    matches!(
        kind,
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
    )
}

/// PKCS#8 says so in the label, the older forms in a header line.
fn is_locked(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"-----BEGIN ENCRYPTED PRIVATE KEY").is_some()
        || memchr::memmem::find(text, b"Proc-Type: 4,ENCRYPTED").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n";

    #[test]
    fn certificates_come_in_their_order_whatever_stands_between_them() {
        let other = CERTIFICATE.replace("AQID", "BAUG");
        let text = format!("subject=CN=mail\r\n{CERTIFICATE}{KEY}\n\nissuer\n{other}");
        let chain = chain(text.as_bytes()).unwrap();
        assert_eq!(chain[0].as_ref(), [1, 2, 3]);
        assert_eq!(chain[1].as_ref(), [4, 5, 6]);
    }

    #[test]
    fn all_three_forms_of_a_key_are_found() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let text = KEY.replace("PRIVATE KEY", label);
            let parameters = "-----BEGIN EC PARAMETERS-----\nBgg=\n-----END EC PARAMETERS-----\n";
            let text = format!("{parameters}{text}{CERTIFICATE}");
            assert_eq!(key(text.as_bytes()).unwrap().secret_der(), [1, 2, 3], "{label}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_called_by_its_name() {
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let request = "-----BEGIN CERTIFICATE REQUEST-----\nAQID\n-----END CERTIFICATE REQUEST-----\n";
        for (text, fault) in [
            (&b" \r\n"[..], PemFault::Empty),
            (b"\x30\x82\x01\x02\x03", PemFault::Binary),
            (b"hello", PemFault::NotPem),
            (b"-----BEGIN CERTIFICATE-----\nAQID\n", PemFault::Damaged),
            (
                b"-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n",
                PemFault::Damaged,
            ),
            (KEY.as_bytes(), PemFault::KeyInstead),
            (locked.as_bytes(), PemFault::KeyInstead),
            (request.as_bytes(), PemFault::NoCertificate),
        ] {
            assert_eq!(chain(text).unwrap_err(), fault);
        }
    }

    #[test]
    fn what_is_no_key_is_called_by_its_name() {
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let locked_before_pkcs8 = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n\
                                   AQID\n-----END RSA PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nAQID\n-----END PUBLIC KEY-----\n";
        for (text, fault) in [
            ("", PemFault::Empty),
            ("key", PemFault::NotPem),
            (CERTIFICATE, PemFault::CertificateInstead),
            (public, PemFault::NoKey),
            (locked, PemFault::Locked),
            (locked_before_pkcs8, PemFault::Locked),
            (&KEY.repeat(2), PemFault::ManyKeys),
        ] {
            assert_eq!(key(text.as_bytes()).unwrap_err(), fault);
        }
    }
}
