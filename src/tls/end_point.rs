//! The channel binding `tls-server-end-point` (RFC 5929 4.1): a hash of the server's certificate, made with
//! the hash of that certificate's own signature.
//!
//! Reads no more of the certificate than the algorithm of its signature; never judges the certificate.

use aws_lc_rs::digest::{self, Algorithm, SHA224, SHA256, SHA384, SHA512, SHA512_256};

/// The binding for the certificate in `der`. `None` where RFC 5929 leaves it undefined: the signature uses no
/// hash of its own (Ed25519, Ed448, ML-DSA), or one that is not known here.
#[must_use]
pub fn binding(der: &[u8]) -> Option<Vec<u8>> {
    let hash = signature_hash(der)?;
    Some(digest::digest(hash, der).as_ref().to_vec())
}

/// The hash in the certificate's signature algorithm, and SHA-256 in place of MD5 and SHA-1.
fn signature_hash(der: &[u8]) -> Option<&'static Algorithm> {
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }   RFC 5280 4.1
    let (certificate, _) = take(SEQUENCE, der)?;
    let (_, rest) = take(SEQUENCE, certificate)?;
    let (algorithm, _) = take(SEQUENCE, rest)?;
    // AlgorithmIdentifier ::= SEQUENCE { algorithm OBJECT IDENTIFIER, parameters ANY OPTIONAL }
    let (name, parameters) = take(OBJECT_IDENTIFIER, algorithm)?;
    match name {
        RSASSA_PSS => pss_hash(parameters),
        _ => hash_of(name),
    }
}

/// RSASSA-PSS names its hash in the parameters (RFC 4055 3.1), SHA-1 if it does not.
fn pss_hash(parameters: &[u8]) -> Option<&'static Algorithm> {
    let (parameters, _) = take(SEQUENCE, parameters)?;
    match take(FIRST_FIELD, parameters) {
        Some((hash, _)) => {
            let (hash, _) = take(SEQUENCE, hash)?;
            let (name, _) = take(OBJECT_IDENTIFIER, hash)?;
            hash_of(name)
        }
        None => Some(&SHA256),
    }
}

/// The hash that an algorithm stands for: a signature's, or a hash's own name.
fn hash_of(name: &[u8]) -> Option<&'static Algorithm> {
    if let Some([last]) = name.strip_prefix(RSA) {
        return match last {
            // MD5 and SHA-1 are replaced.
            4 | 5 | 11 => Some(&SHA256),
            12 => Some(&SHA384),
            13 => Some(&SHA512),
            14 => Some(&SHA224),
            16 => Some(&SHA512_256),
            _ => None,
        };
    }
    if let Some(last) = name.strip_prefix(ECDSA) {
        return match last {
            // SHA-1 is replaced.
            [1] | [3, 2] => Some(&SHA256),
            [3, 1] => Some(&SHA224),
            [3, 3] => Some(&SHA384),
            [3, 4] => Some(&SHA512),
            _ => None,
        };
    }
    match name.strip_prefix(NIST_HASH) {
        Some([1]) => Some(&SHA256),
        Some([2]) => Some(&SHA384),
        Some([3]) => Some(&SHA512),
        Some([4]) => Some(&SHA224),
        Some([6]) => Some(&SHA512_256),
        _ if name == SHA1 => Some(&SHA256),
        _ => None,
    }
}

const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, explicit.
pub(super) const FIRST_FIELD: u8 = 0xa0;

/// 1.2.840.113549.1.1, which stands before every PKCS#1 signature.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.113549.1.1.10.
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// 1.2.840.10045.4, which stands before every ECDSA signature.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// 2.16.840.1.101.3.4.2, which stands before every hash of the SHA-2 family.
const NIST_HASH: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// 1.3.14.3.2.26.
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];

/// Takes one element of DER off `from`: what is in it, and what follows it.
pub(super) fn take(tag: u8, from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = from.split_first()?;
    if found != tag {
        return None;
    }
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // More than three octets of length is no certificate.
        0x81..=0x83 => {
            let (octets, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            let length = octets
                .iter()
                .fold(0, |length, octet| length << 8 | usize::from(*octet));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::trial;

    /// The shape of a certificate, with this signature algorithm.
    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let tbs = sequence(&[7; 200]);
        sequence(&[tbs, sequence(algorithm), vec![0x03, 0x02, 0x00, 0x01]].concat())
    }

    fn sequence(content: &[u8]) -> Vec<u8> {
        element(SEQUENCE, content)
    }

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let header = match length {
            0..=0x7f => vec![tag, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [&header, content].concat()
    }

    fn named(prefix: &[u8], last: &[u8]) -> Vec<u8> {
        element(OBJECT_IDENTIFIER, &[prefix, last].concat())
    }

    #[test]
    fn the_hash_is_that_of_the_signature_and_never_weaker_than_sha_256() {
        for (algorithm, hash) in [
            (named(RSA, &[4]), &SHA256),
            (named(RSA, &[5]), &SHA256),
            (named(RSA, &[11]), &SHA256),
            (named(RSA, &[12]), &SHA384),
            (named(RSA, &[13]), &SHA512),
            (named(ECDSA, &[1]), &SHA256),
            (named(ECDSA, &[3, 2]), &SHA256),
            (named(ECDSA, &[3, 3]), &SHA384),
            (named(ECDSA, &[3, 4]), &SHA512),
        ] {
            let der = certificate(&algorithm);
            assert_eq!(binding(&der).unwrap(), digest::digest(hash, &der).as_ref());
        }
    }

    #[test]
    fn rsassa_pss_names_its_hash_in_the_parameters() {
        let sha512 = element(FIRST_FIELD, &sequence(&named(NIST_HASH, &[3])));
        let der = certificate(&[named(RSA, &[10]), sequence(&sha512)].concat());
        assert_eq!(signature_hash(&der), Some(&SHA512));
        let der = certificate(&[named(RSA, &[10]), sequence(&[])].concat());
        assert_eq!(signature_hash(&der), Some(&SHA256));
    }

    #[test]
    fn a_signature_without_a_hash_of_its_own_has_no_binding() {
        let der = certificate(&named(&[], &[0x2b, 0x65, 0x70]));
        assert_eq!(binding(&der), None);
        assert_eq!(binding(trial::papers(&rcgen::PKCS_ED25519).end_entity()), None);
    }

    #[test]
    fn real_certificates_have_their_binding() {
        let papers = trial::papers(&rcgen::PKCS_ECDSA_P256_SHA256);
        let expected = digest::digest(&SHA256, papers.end_entity());
        assert_eq!(binding(papers.end_entity()).unwrap(), expected.as_ref());
        let papers = trial::papers(&rcgen::PKCS_ECDSA_P384_SHA384);
        let expected = digest::digest(&SHA384, papers.end_entity());
        assert_eq!(binding(papers.end_entity()).unwrap(), expected.as_ref());
    }

    #[test]
    fn a_certificate_that_is_cut_anywhere_has_no_binding_or_a_whole_one() {
        let der = certificate(&named(RSA, &[11]));
        for end in 0..der.len() {
            assert_eq!(binding(&der[..end]), None, "{end}");
        }
        assert_eq!(binding(&[0x30, 0x84, 1, 0, 0, 0]), None);
    }
}
