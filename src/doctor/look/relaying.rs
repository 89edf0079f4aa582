//! Rehearses what a stranger would hear who tries to send through us to another stranger.

use std::net::IpAddr;

use super::Patient;
use crate::addin::files::Files;
use crate::doctor::finding::Finding;
use crate::doctor::relaying::{self, Attempt, STRANGER, STRANGERS};
use crate::inbound::front::Front;
use crate::inbound::reception::Reception;
use crate::inbound::rehearsal::Rehearsal;
use crate::inbound::session::Client;

/// Nobody logs in, so no listener may take mail for others.
pub(super) fn relaying(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let files = match Files::read(config) {
        Ok(files) => files,
        Err(wrong) => {
            let what = format!("not rehearsed, since a file is wrong or not for this user: {wrong}");
            let what = what.lines().next().unwrap_or_default().to_owned();
            let mut findings = vec![Finding::unknown("relaying", what, "see above, and ask again")];
            findings.extend(relaying::networks(&config.relay_from));
            return findings;
        }
    };
    let domain = config.local_domains.first().map_or("", String::as_str);
    let fronts = [
        (Front::Relay, &config.listen),
        (Front::Submission, &config.listen_submission),
        (Front::Submissions, &config.listen_submissions),
    ];
    let senders = [
        format!("x@{STRANGER}"),
        format!("postmaster@{domain}"),
        String::new(),
    ];
    let mut attempts = Vec::new();
    for (front, listeners) in fronts {
        let Some(called) = listeners.first() else { continue };
        for client in STRANGERS {
            for from in &senders {
                attempts.extend(tried(
                    &files.reception,
                    (front, client, called.ip()),
                    from,
                    domain,
                ));
            }
        }
    }
    // Mail that stays here is no relayed mail, however its address looks.
    attempts.retain(|attempt| !stays_here(&files, &attempt.to));
    let mut findings = vec![relaying::rehearsed(&attempts)];
    findings.extend(relaying::networks(&config.relay_from));
    findings
}

/// What a client hears that tries each way in one session.
fn tried(
    reception: &Reception,
    (front, address, called): (Front, IpAddr, IpAddr),
    from: &str,
    domain: &str,
) -> Vec<Attempt> {
    let client = Client {
        address,
        called: called.to_canonical(),
        front,
        may_relay: reception.relay_from.iter().any(|block| block.contains(address)),
    };
    let ways = relaying::attempts(domain);
    let attempts = ways.into_iter().map(|to| {
        // Each in a session of its own: none ends for the mistakes of the others.
        let mut rehearsal = Rehearsal::begin(reception, client);
        for line in [format!("EHLO {STRANGER}"), format!("MAIL FROM:<{from}>")] {
            rehearsal.hear(format!("{line}\r\n").as_bytes());
        }
        rehearsal.take_said();
        rehearsal.hear(format!("RCPT TO:<{to}>\r\n").as_bytes());
        let said = String::from_utf8_lossy(&rehearsal.take_said()).into_owned();
        Attempt {
            front,
            client: address,
            from: from.to_owned(),
            to,
            reply: said.lines().last().unwrap_or_default().to_owned(),
        }
    });
    attempts.collect()
}

/// Whether an address that was given as a forward path is one of a mailbox here.
fn stays_here(files: &Files, to: &str) -> bool {
    let address = to.parse().ok();
    address.is_some_and(|address| {
        matches!(
            files.directory.find(&address),
            crate::mailbox::directory::Found::Mailbox(_) | crate::mailbox::directory::Found::Alias
        )
    })
}
