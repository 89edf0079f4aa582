//! What `doctor` prints: a line for each finding, and how many there are of each kind. Pure: facts in, text out.

use serde_json::{Map, Value, json};

use super::screen::{Screen, clean};
use crate::doctor::finding::{Finding, Status};

/// The lines, and the same facts.
#[must_use]
pub fn diagnosis(findings: &[Finding]) -> Screen {
    let width = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for Finding {
        check,
        status,
        what,
        advice,
    } in findings
    {
        let status = status.word();
        text += &format!("{status:7}  {check:width$}  {}", clean(what));
        if !advice.is_empty() {
            text += &format!("; {}", clean(advice));
        }
        text.push('\n');
    }
    let count = |status: Status| findings.iter().filter(|finding| finding.status == status).count();
    let told = Status::ALL.into_iter().filter(|status| count(*status) > 0);
    let told: Vec<String> = told
        .map(|status| match (status, count(status)) {
            (Status::Ok | Status::Unknown, count) => format!("{count} {}", status.word()),
            (_, 1) => format!("1 {}", status.word()),
            (_, count) => format!("{count} {}s", status.word()),
        })
        .collect();
    text += &format!("{}\n", told.join(", "));
    let counts: Map<String, Value> = Status::ALL
        .map(|status| (status.word().to_owned(), json!(count(status))))
        .into_iter()
        .collect();
    let worst = findings
        .iter()
        .map(|finding| finding.status)
        .max()
        .unwrap_or(Status::Ok);
    Screen {
        text,
        json: json!({
            "status": worst.word(),
            "counts": counts,
            "checks": findings.iter().map(facts).collect::<Vec<_>>(),
        }),
    }
}

fn facts(finding: &Finding) -> Value {
    json!({
        "check": finding.check,
        "status": finding.status.word(),
        "what": finding.what,
        "advice": match finding.advice.as_str() { "" => Value::Null, advice => json!(advice) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_and_what_others_said_says_nothing_to_the_terminal() {
        let screen = diagnosis(&[
            Finding::ok("hostname", "mail.example.org"),
            Finding::warning("mx", "a\u{1b}[2Jb", "do it"),
            Finding::error("port", "c", "d"),
            Finding::error("port", "e", "f"),
        ]);
        assert_eq!(
            screen.text,
            "ok       hostname  mail.example.org\n\
             warning  mx        a[2Jb; do it\n\
             error    port      c; d\n\
             error    port      e; f\n\
             2 errors, 1 warning, 1 ok\n"
        );
        assert_eq!(
            (&screen.json["status"], &screen.json["counts"]["error"]),
            (&"error".into(), &2.into())
        );
        assert_eq!(screen.json["checks"][0]["advice"], Value::Null);
        assert_eq!(screen.json["checks"][1]["status"], "warning");
    }
}
