//! Reads the files that the configuration names, as the MTA would.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Patient, reader};
use crate::accounts::Accounts;
use crate::aliases::Aliases;
use crate::doctor::finding::Finding;
use crate::doctor::machine::now;
use crate::doctor::papers::{self, Certificate, Paper, Reading};
use crate::doctor::reader::Reader;
use crate::outbound::logins::Logins;
use crate::tls::identity::Identity;
use crate::tls::trust::Trust;
use crate::tls::validity;

/// Certificate and key, accounts, aliases, logins, and whom we trust.
pub(super) fn papers(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let as_whom = patient.reader.as_ref();
    let first_domain = config.local_domains.first().map_or("", String::as_str);
    let mut findings = Vec::new();
    match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => {
            let cert_file = paper("tls-cert", cert, as_whom, |_| Ok(()));
            let key_file = paper("tls-key", key, as_whom, |_| Ok(()));
            if [&cert_file, &key_file]
                .iter()
                .all(|file| file.read != Reading::Forbidden)
            {
                let found = certificate(cert, key, &config.hostname);
                findings.extend(papers::certificate(
                    Some(&found),
                    &config.hostname,
                    now(),
                    patient.exposure,
                ));
            }
            findings.extend([cert_file, key_file].iter().flat_map(papers::paper));
        }
        _ => findings.extend(papers::certificate(
            None,
            &config.hostname,
            now(),
            patient.exposure,
        )),
    }
    type Reads<'r> = &'r dyn Fn(&Path) -> Result<(), String>;
    let readers: [(&'static str, _, Reads<'_>); 5] = [
        // What is in it was read before doctor began.
        ("config", &patient.file, &|_| Ok(())),
        ("accounts", &config.accounts, &|path| {
            said(Accounts::read(path, first_domain))
        }),
        ("aliases", &config.aliases, &|path| {
            said(Aliases::read(path, &config.local_domains))
        }),
        ("relay-auth", &config.relay_auth, &|path| said(Logins::read(path))),
        ("tls-ca", &config.tls_ca, &|path| said(Trust::read(path))),
    ];
    for (option, path, read) in readers {
        let file = path.as_ref().map(|path| paper(option, path, as_whom, read));
        findings.extend(file.iter().flat_map(papers::paper));
    }
    findings
}

fn said<T>(read: Result<T, impl std::fmt::Display>) -> Result<(), String> {
    // Some tell all that is wrong, a line each.
    read.map(drop)
        .map_err(|wrong| wrong.to_string().lines().collect::<Vec<_>>().join("; "))
}

fn certificate(cert: &Path, key: &Path, hostname: &str) -> Result<Certificate, String> {
    let identity = Identity::read(cert, key).map_err(|wrong| wrong.to_string())?;
    Ok(Certificate {
        validity: validity::validity(identity.end_entity()),
        covers: validity::covers(identity.end_entity(), hostname),
    })
}

fn paper(
    option: &'static str,
    path: &Path,
    as_whom: Option<&Reader>,
    read: impl Fn(&Path) -> Result<(), String>,
) -> Paper {
    // A pipe would keep us waiting for who writes to it; what reads it says that it is none.
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    let forbidden = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    let is_forbidden = match is_file {
        true => File::open(path).is_err_and(forbidden),
        false => fs::metadata(path).is_err_and(forbidden),
    };
    let barrier = as_whom.and_then(|reader| {
        let way = reader::way(path);
        reader.barrier(&way).map(|step| (reader.clone(), step.clone()))
    });
    Paper {
        barrier,
        option,
        path: path.to_owned(),
        mode: fs::metadata(path).ok().map(|found| found.mode()),
        read: match is_forbidden {
            true => Reading::Forbidden,
            false => read(path).map_or_else(Reading::Wrong, |()| Reading::Sound),
        },
    }
}
