use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};

use super::*;
use crate::tls::trial::{Cabinet, NAME, papers};

/// What is said when these two files are no identity.
fn refusal(cert: &Path, key: &Path) -> String {
    Identity::read(cert, key).unwrap_err().to_string()
}

#[test]
fn an_identity_knows_its_certificate_and_binding() {
    let papers = papers(&PKCS_ECDSA_P256_SHA256);
    let identity = papers.identity();
    assert_eq!(identity.end_entity(), papers.end_entity());
    assert_eq!(
        identity.server_end_point(),
        end_point::binding(papers.end_entity()).as_deref()
    );
}

#[test]
fn keys_of_every_usual_kind_are_taken() {
    let cabinet = Cabinet::new();
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        papers(algorithm).identity();
    }
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let certificate = CertificateParams::new([NAME.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let cert = cabinet.file("cert.pem", certificate.pem());
    let key = cabinet.file("key.pem", key.serialize_pem());
    let identity = Identity::read(&cert, &key).unwrap();
    assert_eq!(identity.server_end_point().map(<[u8]>::len), Some(32));
}

#[test]
fn certificate_and_key_may_be_one_file() {
    let papers = papers(&PKCS_ECDSA_P256_SHA256);
    let both = papers.key.serialize_pem() + &papers.certificate.pem();
    let cabinet = Cabinet::new();
    let path = cabinet.file("both.pem", both);
    assert!(Identity::read(&path, &path).is_ok());
}

#[test]
fn no_tickets_and_no_early_data_are_given() {
    let config = papers(&PKCS_ECDSA_P256_SHA256).identity().server_config();
    assert_eq!(config.send_tls13_tickets, 0);
    assert!(!config.ticketer.enabled());
    assert_eq!(config.max_early_data_size, 0);
}

#[test]
fn a_key_of_somebody_else_is_refused_with_both_file_names() {
    let cabinet = Cabinet::new();
    let (ours, other) = (papers(&PKCS_ECDSA_P256_SHA256), papers(&PKCS_ECDSA_P256_SHA256));
    let cert = cabinet.file("cert.pem", ours.certificate.pem());
    let key = cabinet.file("key.pem", other.key.serialize_pem());
    assert_eq!(
        refusal(&cert, &key),
        format!(
            "the key in {} does not belong to the certificate in {}; expected the two to be a pair",
            key.display(),
            cert.display()
        )
    );
}

#[test]
fn a_key_of_another_kind_than_the_certificate_is_no_pair() {
    let cabinet = Cabinet::new();
    let cert = cabinet.file("cert.pem", papers(&PKCS_ECDSA_P256_SHA256).certificate.pem());
    let key = cabinet.file("key.pem", papers(&PKCS_ED25519).key.serialize_pem());
    assert!(refusal(&cert, &key).contains("does not belong to"));
}

#[test]
fn a_chain_in_the_wrong_order_says_where_our_certificate_stands() {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([NAME.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let cabinet = Cabinet::new();
    let key = cabinet.file("key.pem", key.serialize_pem());
    let right = cabinet.file("right.pem", certificate.pem() + &authority.pem());
    assert!(Identity::read(&right, &key).is_ok());
    let wrong = cabinet.file("wrong.pem", authority.pem() + &certificate.pem());
    let refusal = refusal(&wrong, &key);
    assert!(
        refusal.contains("belongs to certificate number 2 in"),
        "{refusal}"
    );
    assert!(
        refusal.contains("wrong.pem") && refusal.contains("key.pem"),
        "{refusal}"
    );
}

#[test]
fn a_file_that_is_missing_empty_or_too_long_is_named() {
    let cabinet = Cabinet::new();
    let papers = papers(&PKCS_ECDSA_P256_SHA256);
    let cert = cabinet.file("cert.pem", papers.certificate.pem());
    let key = cabinet.file("key.pem", papers.key.serialize_pem());
    let empty = cabinet.file("empty.pem", "");
    let long = cabinet.file("long.pem", vec![b'\n'; LONGEST_FILE as usize + 1]);
    let missing = cabinet.path("missing.pem");

    for (refusal, start, end) in [
        (
            refusal(&missing, &key),
            format!(
                "TLS certificate file {} can not be read: No such file or directory",
                missing.display()
            ),
            "expected our certificate in PEM form, and after it those of its chain",
        ),
        (
            refusal(&cert, &missing),
            format!("TLS key file {} can not be read:", missing.display()),
            "expected the private key of the certificate in PEM form, not encrypted",
        ),
        (
            refusal(&empty, &key),
            format!("TLS certificate file {} is empty;", empty.display()),
            "those of its chain",
        ),
        (
            refusal(&cert, &empty),
            format!("TLS key file {} is empty;", empty.display()),
            "not encrypted",
        ),
        (
            refusal(&long, &key),
            format!(
                "TLS certificate file {} is longer than 1048576 octets;",
                long.display()
            ),
            "those of its chain",
        ),
    ] {
        assert!(refusal.starts_with(&start), "{refusal}");
        assert!(refusal.ends_with(end), "{refusal}");
    }
    assert!(refusal(&cabinet.path(""), &key).contains("can not be read: expected a regular file"));
}

#[test]
fn files_that_were_exchanged_are_said_to_be() {
    let cabinet = Cabinet::new();
    let papers = papers(&PKCS_ECDSA_P256_SHA256);
    let cert = cabinet.file("cert.pem", papers.certificate.pem());
    let key = cabinet.file("key.pem", papers.key.serialize_pem());
    let said = refusal(&key, &cert);
    assert!(
        said.starts_with("TLS certificate file ") && said.contains("exchanged?"),
        "{said}"
    );
    let said = refusal(&cert, &cert);
    assert!(
        said.starts_with("TLS key file ") && said.contains("exchanged?"),
        "{said}"
    );
}

#[test]
fn der_is_told_from_pem_and_garbage_in_pem_is_noticed() {
    let cabinet = Cabinet::new();
    let papers = papers(&PKCS_ECDSA_P256_SHA256);
    let cert = cabinet.file("cert.pem", papers.certificate.pem());
    let key = cabinet.file("key.pem", papers.key.serialize_pem());
    let der = cabinet.file("cert.der", papers.end_entity());
    assert!(refusal(&der, &key).contains("cert.der is in binary form (DER)"));

    let garbage = "-----BEGIN CERTIFICATE-----\nAQIDBA==\n-----END CERTIFICATE-----\n";
    let damaged = cabinet.file("damaged.pem", garbage);
    assert!(refusal(&damaged, &key).contains("damaged.pem begins with a certificate that TLS can not use"));

    let garbage = garbage.replace("CERTIFICATE", "PRIVATE KEY");
    let damaged = cabinet.file("damaged.key", garbage);
    assert!(refusal(&cert, &damaged).contains("damaged.key has a private key that TLS can not use"));
}
