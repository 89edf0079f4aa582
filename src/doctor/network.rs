//! Whether DNS servers answer, whether clients get in, and whether we get out. Pure: what was tried in, findings out.

use std::net::SocketAddr;
use std::time::Duration;

use super::exposure::Exposure;
use super::finding::{Finding, Status};
use crate::dns::client::Failure;
use crate::dns::probe::Probe;
use crate::domain_list::next_hop::NextHop;
use crate::inbound::front::Front;

/// An answer that takes longer than this makes each message wait.
const SLOW: Duration = Duration::from_secs(1);

/// What is to be said of the DNS servers, which were tried in their order.
#[must_use]
pub fn resolver(tried: &[(SocketAddr, Result<Probe, Failure>)], exposure: Exposure) -> Vec<Finding> {
    const NAME_ONE: &str = "name one that does by --dns, or in /etc/resolv.conf";
    let answers: Vec<(&SocketAddr, &Probe)> = tried
        .iter()
        .filter_map(|(server, result)| Some((server, result.as_ref().ok()?)))
        .collect();
    let dead: Vec<String> = tried
        .iter()
        .filter_map(|(_, result)| Some(result.as_ref().err()?.to_string()))
        .collect();
    let Some((first, fastest)) = answers.first() else {
        let what = match dead.as_slice() {
            [] => "there is no DNS server".to_owned(),
            dead => dead.join("; "),
        };
        let what = format!("{what}: no host of another domain is found");
        return vec![Finding::of(
            exposure.weight_of_sending(),
            "resolver",
            what,
            NAME_ONE,
        )];
    };
    let took = fastest.took.as_millis();
    let answered = match dead.as_slice() {
        [] if fastest.took >= SLOW => {
            let what = format!("{first} takes {took} ms to answer");
            Finding::warning(
                "resolver",
                what,
                "name one that is nearer by --dns, or run one on this machine",
            )
        }
        [] => Finding::ok("resolver", format!("{first} answers in {took} ms")),
        dead => {
            let what = format!("{first} answers in {took} ms, but {}", dead.join("; "));
            Finding::warning(
                "resolver",
                what,
                "take those that do not answer out of --dns or /etc/resolv.conf",
            )
        }
    };
    let checks: Vec<String> = answers
        .iter()
        .filter(|(_, probe)| probe.is_authentic)
        .map(|(server, _)| server.to_string())
        .collect();
    let signed = match checks.len() == answers.len() {
        true => Finding::ok("dnssec", format!("{} checks signatures", checks.join(", "))),
        false => {
            let what = "not every DNS server says that it checks signatures (no AD bit for the root): \
                        without that nobody can tell answers from forged ones";
            let advice = "run a validating resolver on this machine, such as unbound, and name it by --dns";
            match exposure.sends {
                true => Finding::warning("dnssec", what, advice),
                false => Finding::ok("dnssec", format!("{what}; of no matter behind a relay host")),
            }
        }
    };
    vec![answered, signed]
}

/// What came of trying a listener of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// Port 0: whichever is free.
    Any,
    /// Nobody listens there, and we could.
    Free,
    /// Nobody listens there, and it is not for us: what the system said.
    Closed(String),
    /// Only root may listen there.
    Privileged,
    /// Somebody else listens there.
    Taken,
    /// Who listens there says this.
    Greets(String),
    /// Who listens there takes the connection; on this port the client speaks first.
    Takes,
    /// Who listens there takes the connection, and says nothing.
    Silent,
    /// Nobody is reached there, although an MTA runs: what the system said.
    Unreached(String),
}

/// The word for a kind of listener.
fn word(front: Front) -> &'static str {
    match front {
        Front::Relay => "smtp",
        Front::Submission => "submission",
        Front::Submissions => "submissions",
    }
}

/// What is to be said of a listener.
#[must_use]
pub fn entrance(front: Front, address: SocketAddr, entrance: &Entrance) -> Finding {
    let at = format!("{} {address}", word(front));
    let error = |what: String, advice: &str| Finding::error("port", what, advice);
    match entrance {
        Entrance::Any => Finding::ok("port", format!("{at}: whichever port is free")),
        Entrance::Free => Finding::ok("port", format!("{at}: free, and may be listened on")),
        Entrance::Takes => Finding::ok("port", format!("{at}: takes connections")),
        Entrance::Greets(line) if line.starts_with("220") => Finding::ok("port", format!("{at}: {line}")),
        Entrance::Greets(line) => Finding::warning(
            "port",
            format!("{at}: turns callers away: {line}"),
            "see `smtpmta show tasks` and the log for why",
        ),
        Entrance::Closed(said) => error(
            format!("{at}: can not be listened on: {said}"),
            "give --listen and its kin an address of this machine",
        ),
        Entrance::Privileged => error(
            format!("{at}: this user may not listen below port 1024"),
            "start as root with --user, or let the service manager pass the socket",
        ),
        Entrance::Taken => error(
            format!("{at}: another program listens there"),
            "find it with `ss -ltnp`, and stop it",
        ),
        Entrance::Silent => error(
            format!("{at}: takes connections, and greets nobody"),
            "all inbound handlers may be busy (`smtpmta show tasks`): raise --max-inbound-handlers, or see who holds them",
        ),
        Entrance::Unreached(said) => error(
            format!("{at}: the MTA runs, and nobody answers there: {said}"),
            "`smtpmta show tasks` says where it listens: restart it if it was started with another configuration, or \
             `smtpmta tell start inbound transport`",
        ),
    }
}

/// A next hop that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayOut {
    /// Its name.
    pub next_hop: String,
    /// Whom we reached there and what it said; or what went wrong, the last thing of several.
    pub result: Result<(String, String), Miss>,
}

/// Why nobody was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No host was found to be called.
    NoHost(String),
    /// A host was called, and did not answer.
    NoAnswer(String),
}

/// What is to be said of the next hops that were tried: somebody named them, or it is for them that most waits.
#[must_use]
pub fn ways_out(tried: &[WayOut], are_named: bool, port: u16) -> Vec<Finding> {
    if tried.is_empty() {
        let what = "nothing waits, and there is no relay host: no host was tried";
        return vec![Finding::unknown(
            "way out",
            what,
            "--to DOMAIN tries the hosts of a domain",
        )];
    }
    // That one host for which mail waits is down is what it waits for.
    let is_closed = tried.iter().all(|way| way.result.is_err()) && (are_named || tried.len() > 1);
    let told = |way: &WayOut| match &way.result {
        Ok((host, said)) if said.starts_with("220") => Finding::ok("way out", format!("{host}: {said}")),
        Ok((host, said)) => Finding::warning(
            "way out",
            format!("{host} turns us away: {said}"),
            "what it says is all that is known: see its administrator",
        ),
        Err(miss) => {
            let advice = match (miss, NextHop::from_name(&way.next_hop)) {
                (Miss::NoHost(_), _) => "see resolver, and whether that name is right".to_owned(),
                (_, NextHop::Host(..)) => {
                    "see whether that host is the right one, and lets this machine in".to_owned()
                }
                (_, NextHop::Lmtp(_)) => {
                    "see whether the server with the mailboxes runs, and lets this user in".to_owned()
                }
                (_, NextHop::Domain(_)) if is_closed => format!(
                    "many providers block port {port} for their customers: ask yours to open it, or send through \
                     --relay-host"
                ),
                (_, NextHop::Domain(domain)) => format!("`smtpmta route x@{domain}` tells more"),
            };
            let status = match is_closed {
                true => Status::Error,
                false => Status::Warning,
            };
            let (Miss::NoHost(wrong) | Miss::NoAnswer(wrong)) = miss;
            Finding::of(status, "way out", wrong, advice)
        }
    };
    tried.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::client::Trouble;

    const SENDS: Exposure = Exposure {
        receives: true,
        sends: true,
    };
    const RELAYS: Exposure = Exposure {
        receives: true,
        sends: false,
    };

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_server_that_answers_is_enough_and_one_that_checks_signatures_is_better() {
        let answer = |ms, is_authentic| {
            let took = Duration::from_millis(ms);
            Ok(Probe { took, is_authentic })
        };
        let silent = |server| {
            Err(Failure {
                server: Some(server),
                trouble: Trouble::Silence,
            })
        };
        let (one, two) = (at("127.0.0.1:53"), at("192.0.2.53:53"));
        let status = |tried: &[(SocketAddr, Result<Probe, Failure>)], exposure| {
            let found = resolver(tried, exposure);
            found.iter().map(|finding| finding.status).collect::<Vec<_>>()
        };
        use Status::{Error, Warning};
        for (tried, sends, relays) in [
            (
                vec![(one, answer(3, true))],
                vec![Status::Ok, Status::Ok],
                vec![Status::Ok, Status::Ok],
            ),
            (
                vec![(one, answer(3, false))],
                vec![Status::Ok, Warning],
                vec![Status::Ok, Status::Ok],
            ),
            (
                vec![(one, answer(1500, true))],
                vec![Warning, Status::Ok],
                vec![Warning, Status::Ok],
            ),
            (
                vec![(one, silent(one)), (two, answer(3, true))],
                vec![Warning, Status::Ok],
                vec![Warning, Status::Ok],
            ),
            (
                vec![(one, answer(3, true)), (two, answer(3, false))],
                vec![Status::Ok, Warning],
                vec![Status::Ok, Status::Ok],
            ),
            (
                vec![(one, silent(one)), (two, silent(two))],
                vec![Error],
                vec![Warning],
            ),
            (vec![], vec![Error], vec![Warning]),
        ] {
            assert_eq!(status(&tried, SENDS), sends, "{tried:?}");
            assert_eq!(status(&tried, RELAYS), relays, "{tried:?}");
        }
    }

    #[test]
    fn no_way_out_is_an_error_and_one_next_hop_that_is_down_is_a_warning() {
        let way = |result: Result<&str, &str>| WayOut {
            next_hop: "a.test".to_owned(),
            result: match result {
                Ok(said) => Ok(("mx.a.test[192.0.2.1]".to_owned(), said.to_owned())),
                Err(wrong) => Err(Miss::NoAnswer(wrong.to_owned())),
            },
        };
        use Status::{Error, Unknown, Warning};
        assert_eq!(ways_out(&[way(Err("timed out"))], true, 25)[0].status, Error);
        let (open, full, down) = (way(Ok("220 a")), way(Ok("554 no")), way(Err("timed out")));
        for (tried, expected) in [
            (vec![], vec![Unknown]),
            (vec![open.clone()], vec![Status::Ok]),
            (vec![full], vec![Warning]),
            (vec![down.clone()], vec![Warning]),
            (vec![down.clone(), open], vec![Warning, Status::Ok]),
            (vec![down.clone(), down], vec![Error, Error]),
        ] {
            let found = ways_out(&tried, false, 25);
            let status: Vec<Status> = found.iter().map(|finding| finding.status).collect();
            assert_eq!(status, expected, "{tried:?}");
        }
    }
}
