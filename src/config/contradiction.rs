//! Options that are right one by one and cannot hold together.
//!
//! Pure. Speaks up only where the operator decided something: defaults give way to one another in `defaults`.

use std::net::SocketAddr;

use super::Config;
use super::decision::Decisions;
use super::problem::{Problem, quoted};
use super::values::duration;

/// Adds what contradicts itself to `problems`.
pub(super) fn contradictions(config: &Config, decisions: &Decisions, problems: &mut Vec<Problem>) {
    let mut wrong = |option: &str, what: String| {
        // What nobody decided for good, because it was given twice or so, has its problem already.
        let Some(given) = decisions.get(option).and_then(|given| given.first()) else {
            return;
        };
        problems.push(Problem {
            origin: given.origin.clone(),
            option: option.to_owned(),
            what,
        });
    };
    if let Some(warning) = config.delay_warning.filter(|warning| *warning >= config.expire) {
        let (warning, expire) = (duration::text(warning), duration::text(config.expire));
        wrong(
            "delay-warning",
            format!("\"{warning}\": expected less than expire, which is {expire}"),
        );
    }
    match (&config.tls_cert, &config.tls_key) {
        (Some(_), None) => wrong("tls-cert", "expected tls-key beside it".into()),
        (None, Some(_)) => wrong("tls-key", "expected tls-cert beside it".into()),
        _ => {}
    }
    for (option, listeners) in [
        ("listen-submission", &config.listen_submission),
        ("listen-submissions", &config.listen_submissions),
    ] {
        if !listeners.is_empty() && (config.tls_cert.is_none() || config.accounts.is_none()) {
            wrong(option, "expected tls-cert, tls-key and accounts beside it".into());
        }
    }
    let listeners = [
        &config.listen,
        &config.listen_submission,
        &config.listen_submissions,
    ];
    let is_taken = |http: &SocketAddr| http.port() != 0 && listeners.into_iter().any(|of| of.contains(http));
    if let Some(http) = config.http.filter(is_taken) {
        wrong(
            "http",
            format!("\"{http}\": expected an address that is not listened at for mail"),
        );
    }
    if config.syslog && config.log_file.is_some() {
        wrong("syslog", "expected no log-file beside it".into());
    }
    let levels = config.tls_outbound.iter().map(|(domain, _)| domain.clone());
    let levels: Vec<String> = levels
        .map(|domain| domain.unwrap_or("a level for all".into()))
        .collect();
    twice("tls-outbound", &levels, decisions, problems);
    let patterns = config.tls_outbound.iter().map(|(pattern, _)| pattern.as_ref());
    rules_for_nobody("tls-outbound", patterns, config, decisions, problems);
    let patterns = config.hop_rates.iter().map(|(pattern, _)| Some(pattern));
    rules_for_nobody("hop-rate", patterns, config, decisions, problems);
    let domains: Vec<String> = config.routes.iter().map(|(domain, _)| domain.clone()).collect();
    twice("route", &domains, decisions, problems);
    let patterns: Vec<String> = config
        .hop_rates
        .iter()
        .map(|(pattern, _)| pattern.clone())
        .collect();
    twice("hop-rate", &patterns, decisions, problems);
    twice("listen", &fixed(&config.listen), decisions, problems);
    twice(
        "listen-submission",
        &fixed(&config.listen_submission),
        decisions,
        problems,
    );
    twice(
        "listen-submissions",
        &fixed(&config.listen_submissions),
        decisions,
        problems,
    );
}

/// Where all mail goes to the relay host, a rule for a domain without a route of its own would hold for nothing: who
/// asked for TLS must not believe to have it. `patterns` are those of the option's values, in their order.
fn rules_for_nobody<'c>(
    option: &str,
    patterns: impl Iterator<Item = Option<&'c String>>,
    config: &Config,
    decisions: &Decisions,
    problems: &mut Vec<Problem>,
) {
    let Some(relay_host) = &config.relay_host else {
        return;
    };
    let router = config.router();
    let given = decisions.get(option).into_iter().flatten();
    for (pattern, given) in patterns.zip(given) {
        let Some(pattern) = pattern.filter(|pattern| *pattern != "*") else {
            continue;
        };
        let mut hops = std::iter::once(relay_host).chain(config.routes.iter().map(|(_, host)| host));
        if !hops.any(|hop| router.names(pattern, hop)) {
            problems.push(Problem {
                origin: given.origin.clone(),
                option: option.to_owned(),
                what: format!(
                    "{}: expected a domain of a route, or the relay host, where this mail goes",
                    quoted(&given.value)
                ),
            });
        }
    }
}

/// Complains about every key that stands there already; empty ones may be many.
fn twice(option: &str, keys: &[String], decisions: &Decisions, problems: &mut Vec<Problem>) {
    let Some(given) = decisions.get(option) else {
        return;
    };
    for (index, (key, given)) in keys.iter().zip(given).enumerate() {
        if !key.is_empty() && keys[..index].contains(key) {
            let what = format!("{}: expected {key} once", quoted(&given.value));
            problems.push(Problem {
                origin: given.origin.clone(),
                option: option.to_owned(),
                what,
            });
        }
    }
}

/// The addresses that can be listened on only once; empty for those that take a free port.
fn fixed(listeners: &[SocketAddr]) -> Vec<String> {
    let key = |address: &SocketAddr| {
        if address.port() == 0 {
            String::new()
        } else {
            address.to_string()
        }
    };
    listeners.iter().map(key).collect()
}
