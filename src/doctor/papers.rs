//! The files that the configuration names: certificate and key, accounts, aliases, logins. Pure: what was read in, findings
//! out.

use std::path::PathBuf;

use super::exposure::Exposure;
use super::finding::{Finding, Status};
use super::reader::{Reader, Step, unreadable};
use crate::clock::Stamp;

/// A certificate with less than this left should have been replaced: those that are renewed by themselves are then.
const SOON: i64 = 21;

const DAY: i64 = 86_400;

/// What is known of our certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The seconds since 1970 from which, and up to which it is good; `None` where it does not say that.
    pub validity: Option<(i64, i64)>,
    /// Whether it is for the hostname.
    pub covers: bool,
}

/// What is to be said of the certificate; `None` where the configuration has none.
#[must_use]
pub fn certificate(
    found: Option<&Result<Certificate, String>>,
    hostname: &str,
    now: Stamp,
    exposure: Exposure,
) -> Vec<Finding> {
    let certificate = match found {
        None if exposure.receives => {
            return vec![Finding::warning(
                "certificate",
                "none: whoever brings mail brings it in the clear",
                "get one for the hostname, and give it by --tls-cert and --tls-key",
            )];
        }
        None => {
            return vec![Finding::ok(
                "certificate",
                "none, and none is needed on the loopback",
            )];
        }
        Some(Err(wrong)) => {
            let advice = "put it right, or get another one: the MTA does not start with this one";
            return vec![Finding::error("certificate", wrong, advice)];
        }
        Some(Ok(certificate)) => certificate,
    };
    let mut findings = vec![days(certificate, now)];
    if !certificate.covers {
        findings.push(Finding::warning(
            "certificate",
            format!("it is not for {hostname}: hosts that look for that name do not trust it"),
            "get one with that name",
        ));
    }
    findings
}

fn days(certificate: &Certificate, now: Stamp) -> Finding {
    let now = now.0.div_euclid(1_000_000);
    let renew = "renew it, then `smtpmta tell refresh`";
    let Some((from, to)) = certificate.validity else {
        let what = "it does not say for how long it is good";
        return Finding::unknown("certificate", what, "openssl x509 -dates shows what it says");
    };
    let until = Stamp(to.saturating_mul(1_000_000)).to_console();
    let left = (to - now).div_euclid(DAY);
    if now < from {
        let what = format!(
            "it is not good before {}",
            Stamp(from.saturating_mul(1_000_000)).to_console()
        );
        Finding::error(
            "certificate",
            what,
            "see whether the clock is right, or get another one",
        )
    } else if now > to {
        Finding::error("certificate", format!("expired on {until}"), renew)
    } else if left < SOON {
        Finding::warning(
            "certificate",
            format!("{left} days left: it expires on {until}"),
            renew,
        )
    } else {
        Finding::ok("certificate", format!("{left} days left, until {until}"))
    }
}

/// A file that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    /// The option that names it.
    pub option: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Its mode, if it could be looked at.
    pub mode: Option<u32>,
    /// What came of reading it.
    pub read: Reading,
    /// What keeps the user of the MTA from it, if something does, and who that is.
    pub barrier: Option<(Reader, Step)>,
}

/// What came of reading a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is as it should be.
    Sound,
    /// Not for whoever asks.
    Forbidden,
    /// It is wrong: what, and where.
    Wrong(String),
}

/// Files whose content gives whoever reads it a way in.
const SECRETS: [&str; 2] = ["tls-key", "relay-auth"];

/// What is to be said of a file. What is wrong with a certificate is said elsewhere.
#[must_use]
pub fn paper(paper: &Paper) -> Vec<Finding> {
    let (option, path) = (paper.option, paper.path.display());
    let mut findings = Vec::new();
    if let Some((reader, barrier)) = &paper.barrier {
        findings.push(unreadable(option, &path.to_string(), reader, barrier));
    }
    match &paper.read {
        Reading::Wrong(wrong) => {
            let advice = "put it right: the MTA does not start with it, and a refresh keeps the old one";
            findings.push(Finding::error(option, wrong, advice));
        }
        // Of the user who asks that has been said.
        Reading::Forbidden if paper.barrier.is_some() => {}
        Reading::Forbidden => findings.push(Finding::unknown(
            option,
            format!("{path}: this user may not read it"),
            "ask as root, or as the user of the MTA",
        )),
        Reading::Sound => {}
    }
    let Some(mode) = paper.mode else {
        return findings;
    };
    let told = format!("{path} (mode {:04o})", mode & 0o7777);
    if mode & 0o022 != 0 {
        let status = if mode & 0o002 != 0 {
            Status::Error
        } else {
            Status::Warning
        };
        findings.push(Finding::of(
            status,
            option,
            format!("others may change {told}"),
            "chmod go-w it",
        ));
    }
    if mode & 0o004 != 0 {
        if SECRETS.contains(&option) {
            findings.push(Finding::error(
                option,
                format!("everybody may read {told}"),
                "chmod 640 or 600 it",
            ));
        } else if option == "accounts" {
            let what = format!("everybody may read {told}, and guess at passwords");
            findings.push(Finding::warning(option, what, "chmod 640 or 600 it"));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(option, told));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVES: Exposure = Exposure {
        receives: true,
        sends: true,
    };
    const LOOPBACK: Exposure = Exposure {
        receives: false,
        sends: true,
    };

    #[test]
    fn a_certificate_is_good_for_some_days_and_for_the_hostname() {
        let now = Stamp(1_800_000_000 * 1_000_000);
        let good = |from: i64, to: i64, covers| {
            Ok(Certificate {
                validity: Some((1_800_000_000 + from * DAY, 1_800_000_000 + to * DAY)),
                covers,
            })
        };
        use Status::{Error, Unknown, Warning};
        for (found, expected) in [
            (Some(good(-10, 21, true)), vec![Status::Ok]),
            (Some(good(-10, 20, true)), vec![Warning]),
            (Some(good(-10, 60, false)), vec![Status::Ok, Warning]),
            (Some(good(-10, -1, true)), vec![Error]),
            (Some(good(1, 60, true)), vec![Error]),
            (Some(Err("cert.pem: no".to_owned())), vec![Error]),
            (
                Some(Ok(Certificate {
                    validity: None,
                    covers: true,
                })),
                vec![Unknown],
            ),
            (None, vec![Warning]),
        ] {
            let findings = certificate(found.as_ref(), "mail.example.org", now, RECEIVES);
            let status: Vec<Status> = findings.iter().map(|finding| finding.status).collect();
            assert_eq!(status, expected, "{found:?}");
        }
        assert_eq!(
            certificate(None, "mail.example.org", now, LOOPBACK)[0].status,
            Status::Ok
        );
        let found = good(-10, 34, true);
        let told = &certificate(Some(&found), "mail.example.org", now, RECEIVES)[0].what;
        assert!(told.starts_with("34 days left, until 2027-0"), "{told}");
    }

    #[test]
    fn secrets_are_for_few_eyes() {
        let of = |option, mode| Paper {
            option,
            path: "/etc/it".into(),
            mode: Some(mode),
            read: Reading::Sound,
            barrier: None,
        };
        let read = |read| Paper {
            read,
            ..of("aliases", 0o644)
        };
        use Status::{Error, Unknown, Warning};
        for (file, expected) in [
            (of("tls-key", 0o600), vec![Status::Ok]),
            (of("tls-key", 0o640), vec![Status::Ok]),
            (of("tls-key", 0o644), vec![Error]),
            (of("relay-auth", 0o604), vec![Error]),
            (of("accounts", 0o644), vec![Warning]),
            (of("aliases", 0o644), vec![Status::Ok]),
            (of("aliases", 0o664), vec![Warning]),
            (of("aliases", 0o666), vec![Error]),
            (read(Reading::Forbidden), vec![Unknown]),
            (read(Reading::Wrong("line 3".to_owned())), vec![Error]),
        ] {
            let status: Vec<Status> = paper(&file).iter().map(|finding| finding.status).collect();
            assert_eq!(status, expected, "{file:?}");
        }
    }
}
