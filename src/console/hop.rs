//! `show hop NAME`: one next hop, and which list mail would join that came for it now. Pure: facts in, text out.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::screen::{Screen, clean, until};
use crate::clock::Stamp;
use crate::config::values::rate;
use crate::domain_list::pace::Pace;
use crate::work_queue::{HopState, ListRow};

/// What is known of a next hop.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// Its name.
    pub name: &'f str,
    /// What the queue knows of it.
    pub state: Option<&'f HopState>,
    /// How it is served just now.
    pub pace: Pace,
    /// `--per-next-hop`.
    pub per_next_hop: usize,
    /// osesctl has been stopped.
    pub is_stopped: bool,
    /// Every outbound session handler that there may be has a list.
    pub all_are_busy: bool,
    /// The clock of the queue.
    pub now: Stamp,
}

/// The next hop, a fact in a line.
#[must_use]
pub fn hop(facts: &Facts<'_>) -> Screen {
    let mut text = format!("{}\n", clean(facts.name));
    let mut line = |what: &str, value: &str| {
        let _ = writeln!(text, "  {what:<12}{}", clean(value));
    };
    let (pace, now) = (facts.pace, facts.now);
    let back_off = facts.state.and_then(|state| state.row.back_off);
    let error = facts.state.and_then(|state| state.row.last_error.as_ref());
    let lists = lists_of(facts);
    match facts.state {
        None => line("waiting", "nothing: no mail has gone there yet"),
        Some(HopState { waiting: 0, .. }) => line("waiting", "nothing"),
        Some(state) => {
            let next = until(now, state.row.due);
            line(
                "waiting",
                &format!("{}, next try {next}", counted(state.waiting, "recipient")),
            );
        }
    }
    for list in lists {
        line("list", &told(list));
    }
    if let Some(back_off) = back_off {
        let next = until(now, Some(back_off.next_probe));
        let failures = counted(back_off.failures.into(), "failure");
        line(
            "backs off",
            &format!("since {}, {failures} in a row, next probe {next}", back_off.since),
        );
    }
    if let Some((error, at)) = error {
        line("last error", &format!("{at}: {error}"));
    }
    if let Some((rate, free)) = pace.rate {
        line("rate", &format!("{}, {free} free", rate::words(&rate)));
    }
    if let Some(limit) = pace.limit {
        let learnt = "it has said that there were too many of us";
        line("sessions", &format!("{} of {limit}: {learnt}", pace.sessions));
    }
    let would_join = would_join(facts);
    line("would join", &would_join);
    let json = json!({
        "next_hop": facts.name, "is_known": facts.state.is_some(),
        "waiting": facts.state.map_or(0, |state| state.waiting),
        "next_attempt": facts.state.and_then(|state| state.row.due).map(Stamp::to_console),
        "lists": lists.iter().map(list_facts).collect::<Vec<_>>(),
        "failures": back_off.map_or(0, |back_off| back_off.failures),
        "down_since": back_off.map(|back_off| back_off.since.to_console()),
        "next_probe": back_off.map(|back_off| back_off.next_probe.to_console()),
        "last_error": error.map(|(text, _)| text), "last_error_at": error.map(|(_, at)| at.to_console()),
        "sessions": pace.sessions, "limit": pace.limit,
        "rate": pace.rate.map(|(rate, _)| rate::words(&rate)), "rate_free": pace.rate.map(|(_, free)| free),
        "osesctl_is_stopped": facts.is_stopped, "would_join": would_join,
    });
    Screen { text, json }
}

fn lists_of<'f>(facts: &Facts<'f>) -> &'f [ListRow] {
    let known = facts.state.map(|state| state.lists.as_slice());
    known.unwrap_or_default()
}

/// Which list a message joins that comes for it now. Lists are frozen: none that there is.
fn would_join(facts: &Facts<'_>) -> String {
    let lists = lists_of(facts);
    let back_off = facts.state.and_then(|state| state.row.back_off);
    let in_hand = lists.iter().filter(|list| list.handler.is_some()).count();
    let waits = lists.iter().find(|list| list.handler.is_none());
    let most = facts.pace.limit.unwrap_or(usize::MAX).min(facts.per_next_hop);
    if facts.is_stopped {
        return "none as long as osesctl is stopped".to_owned();
    }
    if let Some(back_off) = back_off {
        return match in_hand {
            0 => format!(
                "none before the next probe, {}",
                until(facts.now, Some(back_off.next_probe))
            ),
            _ => "none before the probe that is under way has been answered".to_owned(),
        };
    }
    match (waits, facts.pace.rate) {
        (_, Some((_, 0))) => "none before the rate lets one go".to_owned(),
        (Some(list), _) => format!("the one that is made when list {} has got its handler", list.list),
        _ if facts.all_are_busy => "a new one, which waits: all handlers are busy".to_owned(),
        _ if in_hand == 0 => "a new one, made at once".to_owned(),
        _ if in_hand >= most => format!(
            "a new one, when one of {} has ended",
            counted(in_hand as u64, "list")
        ),
        _ => "a new one, made at the latest when mail has gathered for half a second".to_owned(),
    }
}

fn told(list: &ListRow) -> String {
    let held_by = match list.handler {
        Some(n) => format!("oseshlr{n} has it"),
        None => "waits for a handler".to_owned(),
    };
    format!(
        "{} of {}, {} of {} to be settled, {held_by}",
        list.list,
        counted(list.messages.into(), "message"),
        list.unsettled,
        counted(list.recipients.into(), "recipient"),
    )
}

fn list_facts(list: &ListRow) -> Value {
    json!({
        "list": list.list, "handler": list.handler.map(|n| format!("oseshlr{n}")), "messages": list.messages,
        "recipients": list.recipients, "unsettled": list.unsettled, "made": list.made.to_console(),
    })
}

fn counted(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain_list::list::HopId;
    use crate::domain_list::pace::Rate;
    use crate::work_queue::{BackOff, HopRow};

    const NOW: Stamp = Stamp(1_000_000_000);

    fn state() -> HopState {
        HopState {
            row: HopRow {
                hop: HopId(1),
                next_hop: "a.test".to_owned(),
                due: Some(NOW.plus(Duration::from_secs(60))),
                lists: 0,
                last_error: None,
                used: NOW,
                back_off: None,
            },
            waiting: 2,
            lists: Vec::new(),
        }
    }

    fn list(list: i64, handler: Option<u32>) -> ListRow {
        ListRow {
            list,
            next_hop: "a.test".to_owned(),
            handler,
            messages: 1,
            recipients: 3,
            unsettled: 2,
            made: NOW,
        }
    }

    fn facts(state: Option<&HopState>) -> Facts<'_> {
        Facts {
            name: "a.test",
            state,
            pace: Pace::default(),
            per_next_hop: 2,
            is_stopped: false,
            all_are_busy: false,
            now: NOW,
        }
    }

    #[test]
    fn a_next_hop_is_told_a_fact_in_a_line() {
        let mut state = state();
        state.lists = vec![list(7, Some(3)), list(8, None)];
        let rate = Rate {
            messages: 60,
            per: Duration::from_secs(60),
        };
        let facts = Facts {
            pace: Pace {
                rate: Some((rate, 12)),
                limit: Some(1),
                sessions: 1,
            },
            ..facts(Some(&state))
        };
        assert_eq!(
            hop(&facts).text,
            "a.test\n  \
             waiting     2 recipients, next try in 60s\n  \
             list        7 of 1 message, 2 of 3 recipients to be settled, oseshlr3 has it\n  \
             list        8 of 1 message, 2 of 3 recipients to be settled, waits for a handler\n  \
             rate        60/1m, 12 free\n  \
             sessions    1 of 1: it has said that there were too many of us\n  \
             would join  the one that is made when list 8 has got its handler\n"
        );
        assert_eq!(hop(&facts).json["lists"][0]["handler"], "oseshlr3");
        let unknown = hop(&self::facts(None));
        assert_eq!(
            unknown.text,
            "a.test\n  waiting     nothing: no mail has gone there yet\n  would join  a new one, made at once\n"
        );
        assert_eq!(unknown.json["is_known"], false);
    }

    #[test]
    fn which_list_mail_would_join_follows_from_what_is_under_way() {
        let mut state = state();
        let joins = |facts: Facts<'_>| would_join(&facts);
        let stopped = Facts {
            is_stopped: true,
            ..facts(Some(&state))
        };
        assert_eq!(joins(stopped), "none as long as osesctl is stopped");
        assert_eq!(joins(facts(Some(&state))), "a new one, made at once");
        let busy = Facts {
            all_are_busy: true,
            ..facts(None)
        };
        assert_eq!(joins(busy), "a new one, which waits: all handlers are busy");
        let used_up = Rate {
            messages: 1,
            per: Duration::from_secs(1),
        };
        let mut limited = facts(Some(&state));
        limited.pace.rate = Some((used_up, 0));
        assert_eq!(joins(limited), "none before the rate lets one go");
        state.lists = vec![list(7, Some(0))];
        let gathers = "a new one, made at the latest when mail has gathered for half a second";
        assert_eq!(joins(facts(Some(&state))), gathers);
        state.lists.push(list(8, Some(1)));
        assert_eq!(
            joins(facts(Some(&state))),
            "a new one, when one of 2 lists has ended"
        );
        state.row.back_off = Some(BackOff {
            since: NOW,
            failures: 3,
            next_probe: NOW.plus(Duration::from_secs(300)),
        });
        let probing = "none before the probe that is under way has been answered";
        assert_eq!(joins(facts(Some(&state))), probing);
        state.lists.clear();
        assert_eq!(joins(facts(Some(&state))), "none before the next probe, in 5m");
        let told = hop(&facts(Some(&state))).text;
        assert!(told.contains("3 failures in a row, next probe in 5m\n"), "{told}");
    }
}
