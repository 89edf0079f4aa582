//! The spool: whether it is there and ours, whether an MTA runs on it, and what a look through its queue has found. Pure.

use std::path::Path;

use super::finding::{Finding, Status};
use crate::work_queue::Verdict;
use crate::work_queue::ground::{Ground, Objection};

/// The MTA that runs on the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mta {
    /// It answers; its process, where that is known.
    Runs(Option<u32>),
    /// None does.
    None,
    /// Nobody tells us: why.
    Unknown(String),
}

/// What is to be said of the MTA.
#[must_use]
pub fn mta(mta: &Mta, spool: &Path) -> Finding {
    let spool = spool.display();
    match mta {
        Mta::Runs(Some(pid)) => Finding::ok("mta", format!("process {pid} runs on {spool}")),
        Mta::Runs(None) => Finding::ok("mta", format!("one runs on {spool}")),
        Mta::None => Finding::ok(
            "mta",
            format!("none runs on {spool}; what only one that runs can show was not looked at"),
        ),
        Mta::Unknown(why) => Finding::unknown(
            "mta",
            format!("whether one runs on {spool} is not known: {why}"),
            "ask as root, or as the user of the MTA",
        ),
    }
}

/// What is to be said of the spool; `Err` is what the system said of it, `None` that it is not there.
#[must_use]
pub fn ground(ground: Result<Option<&Ground>, &str>, spool: &Path) -> Vec<Finding> {
    let spool = spool.display();
    match ground {
        Ok(None) => vec![Finding::ok(
            "spool",
            format!("{spool} is not there yet: the first start makes it"),
        )],
        Err(said) => vec![Finding::unknown(
            "spool",
            format!("{spool}: {said}"),
            "ask as root, or as the user of the MTA",
        )],
        Ok(Some(ground)) => {
            let objections = ground.objections();
            if objections.is_empty() {
                return vec![Finding::ok(
                    "spool",
                    format!("{spool} (mode {:04o})", ground.mode),
                )];
            }
            objections.into_iter().map(objected).collect()
        }
    }
}

/// What is to be said of a spool that is still to be made, on a file system of this kind.
#[must_use]
pub fn future(kind: u32) -> Vec<Finding> {
    Ground::made_on(kind)
        .objections()
        .into_iter()
        .map(objected)
        .collect()
}

fn objected(objection: Objection) -> Finding {
    let status = if objection.is_grave() {
        Status::Error
    } else {
        Status::Warning
    };
    Finding::of(status, "spool", objection.to_string(), objection.advice())
}

/// What came of looking the queue through.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// There is none yet.
    Nothing,
    /// It can not be read: why; and whether it is for want of rights.
    Unreadable(String),
    /// What was found, and whether all was looked at.
    Seen(Verdict, bool),
}

/// What is to be said of that.
#[must_use]
pub fn queue(look: &Look) -> Vec<Finding> {
    const ALL_OF_IT: &str = "`smtpmta verify` looks through all of it";
    let (verdict, is_whole) = match look {
        Look::Nothing => return vec![Finding::ok("queue", "there is none yet")],
        Look::Unreadable(said) => {
            return vec![Finding::unknown(
                "queue",
                said,
                "ask as root, or as the user of the MTA",
            )];
        }
        Look::Seen(verdict, is_whole) => (verdict, is_whole),
    };
    let seen = format!(
        "{} messages, {} of them in the queue",
        verdict.messages, verdict.in_queue
    );
    let grave: Vec<_> = verdict
        .findings
        .iter()
        .filter(|finding| !finding.kind.is_harmless())
        .collect();
    let strays = verdict.findings.len() - grave.len();
    let strays = strays
        + verdict
            .more
            .iter()
            .filter(|(kind, _)| kind.is_harmless())
            .map(|(_, more)| more)
            .sum::<usize>();
    let mut findings = Vec::new();
    match grave.as_slice() {
        [first, ..] => findings.push(Finding::error(
            "queue",
            format!("not in order: {}: {} ({seen})", first.place, first.what),
            format!("{}; `smtpmta verify` tells all", first.kind.advice()),
        )),
        [] if *is_whole => findings.push(Finding::ok("queue", format!("in order: {seen}"))),
        [] => findings.push(Finding::unknown(
            "queue",
            format!("there was no time for all of it; in order as far as it was looked at ({seen})"),
            ALL_OF_IT,
        )),
    }
    if strays > 0 {
        // Housekeeping sees to these.
        findings.push(Finding::ok(
            "queue",
            format!("{strays} small things that mend themselves: `smtpmta verify` tells them"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work_queue::{Finding as Found, Kind};

    #[test]
    fn what_verify_finds_is_an_error_what_is_harmless_is_none_and_what_was_left_out_is_told() {
        let seen = |kinds: &[Kind], is_whole| {
            let found = |kind: &Kind| Found {
                kind: *kind,
                place: "there".to_owned(),
                what: "wrong".to_owned(),
            };
            let verdict = Verdict {
                findings: kinds.iter().map(found).collect(),
                ..Verdict::default()
            };
            Look::Seen(verdict, is_whole)
        };
        use Status::{Error, Unknown};
        for (look, expected) in [
            (Look::Nothing, vec![Status::Ok]),
            (Look::Unreadable("no".to_owned()), vec![Unknown]),
            (seen(&[], true), vec![Status::Ok]),
            (seen(&[], false), vec![Unknown]),
            (seen(&[Kind::StrayFile], true), vec![Status::Ok, Status::Ok]),
            (
                seen(&[Kind::Database, Kind::StrayFile], false),
                vec![Error, Status::Ok],
            ),
        ] {
            let status: Vec<Status> = queue(&look).iter().map(|finding| finding.status).collect();
            assert_eq!(status, expected, "{look:?}");
        }
    }

    #[test]
    fn grave_objections_to_a_spool_are_errors() {
        let sound = Ground {
            file_system: 0xef53,
            mode: 0o711,
            owner: 8,
            database: None,
            user: 8,
        };
        let worse = Ground {
            file_system: 0x0102_1994,
            mode: 0o777,
            ..sound
        };
        let spool = Path::new("/var/spool/smtpmta");
        use Status::{Error, Unknown, Warning};
        for (found, expected) in [
            (Ok(Some(&sound)), vec![Status::Ok]),
            (Ok(Some(&worse)), vec![Error, Warning, Warning]),
            (Ok(None), vec![Status::Ok]),
            (Err("Permission denied"), vec![Unknown]),
        ] {
            let status: Vec<Status> = ground(found, spool)
                .iter()
                .map(|finding| finding.status)
                .collect();
            assert_eq!(status, expected, "{found:?}");
        }
    }
}
