//! `why`: what a message waits for, since when, until when, and what would free it; a sentence for all recipients that
//! stand alike. Pure: facts in, text out.

use std::fmt::Write as _;

use serde_json::json;

use super::screen::{Screen, clean, until, way};
use super::trace::due;
use crate::clock::Stamp;
use crate::tasks::Task;
use crate::tasks::table::HandlerRow;
use crate::work_queue::states::State;
use crate::work_queue::{Event, Trace, Whereabouts};

/// What there is to know of the MTA beside the message.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The tasks that are stopped.
    pub stopped: Vec<Task>,
    /// What the handlers are doing.
    pub handlers: Vec<HandlerRow>,
    /// When what has waited since then is given up.
    pub expires: Stamp,
    /// The present moment.
    pub now: Stamp,
}

/// What message `trace` waits for; `None`: there is no such message.
#[must_use]
pub fn why(trace: Option<&Trace>, around: &Surroundings) -> Screen {
    let Some(trace) = trace else {
        return Screen {
            text: "nothing is known of such a message: it never came, or its history has been forgotten\n"
                .to_owned(),
            json: json!([]),
        };
    };
    // In the order of the first recipient that stands so.
    let mut groups: Vec<(String, Vec<&Whereabouts>)> = Vec::new();
    for recipient in &trace.recipients {
        let reason = reason(trace, recipient, around);
        match groups.iter_mut().find(|(told, _)| *told == reason) {
            Some((_, alike)) => alike.push(recipient),
            None => groups.push((reason, vec![recipient])),
        }
    }
    let mut text = String::new();
    let mut json = Vec::new();
    for (reason, alike) in &groups {
        let who = match alike.as_slice() {
            [one] => format!("<{}>", one.path),
            [first, rest @ ..] if rest.len() == 1 => format!("<{}> and one other", first.path),
            [first, rest @ ..] => format!("<{}> and {} others", first.path, rest.len()),
            [] => String::new(),
        };
        let _ = writeln!(text, "{}", clean(&format!("{who}: {reason}")));
        let recipients: Vec<&str> = alike.iter().map(|recipient| recipient.path.as_str()).collect();
        json.push(json!({ "recipients": recipients, "why": reason }));
    }
    Screen {
        text,
        json: json!(json),
    }
}

/// Why a recipient is where it is.
fn reason(trace: &Trace, recipient: &Whereabouts, around: &Surroundings) -> String {
    let Some(state) = recipient.state.known() else {
        return format!(
            "its row in queue.db holds a state that there is none of, {}; smtpmta tell housekeeping puts it aside",
            recipient.state
        );
    };
    match state {
        State::PendingConversion => converting(trace, recipient, around),
        State::PendingXmit if recipient.list.is_some() => listed(recipient, around),
        State::PendingXmit => waiting(trace, recipient, around),
        State::LockedForXmit => sending(recipient, around),
        State::PendingReport => {
            let given_up = since(trace, recipient, "given up");
            let told = format!(
                "given up{given_up}{}, and drt is about to tell the sender",
                ended(recipient)
            );
            told + &stopped(around, Task::DeliveryReport, "drtask").unwrap_or_default()
        }
        State::Held => held(trace, recipient, around),
        State::Dead => format!(
            "dead{}{}: it could not be delivered, and there is no sender to be told; it stays until smtpmta queue \
             delete {} removes it",
            since(trace, recipient, "dead"),
            ended(recipient),
            trace.id
        ),
        State::Delivered | State::Transmitted | State::Expanded | State::Failed | State::Removed => {
            let (word, event) = match state {
                State::Delivered => ("it is in its mailbox", "delivered"),
                State::Transmitted => ("its next hop took it", "transmitted"),
                State::Expanded => (
                    "it is an alias, and has been replaced by what it stands for",
                    "expanded",
                ),
                State::Failed => (
                    "it could not be delivered, and the sender has been told, or wants no report",
                    "failed",
                ),
                _ => ("an operator removed it", "removed"),
            };
            let back = if state == State::Removed {
                format!("; smtpmta queue undelete {} brings it back", trace.id)
            } else {
                String::new()
            };
            format!(
                "{word}{}{}{back}",
                ended_at(trace, recipient, event),
                last(trace, recipient, event)
            )
        }
    }
}

/// Why it waits for its conversion.
fn converting(trace: &Trace, recipient: &Whereabouts, around: &Surroundings) -> String {
    let (task, part) = match recipient.in_box {
        true => (Task::OutboundConversion, "outbound conversion"),
        false => (Task::InboundConversion, "inbound conversion"),
    };
    let mut told = format!(
        "waits for its conversion by {task} since {}{}",
        last_move(trace, recipient),
        led_to(recipient)
    );
    if recipient.next_attempt > around.now {
        let _ = write!(
            told,
            ", next try {}{}",
            until(around.now, Some(recipient.next_attempt)),
            ended(recipient)
        );
    }
    told += &until_over(around);
    told + &stopped(around, task, part).unwrap_or_default()
}

/// Why it waits for its next hop.
fn waiting(trace: &Trace, recipient: &Whereabouts, around: &Surroundings) -> String {
    let hop = hop(recipient);
    let mut told = match &recipient.back_off {
        Some((back_off, error)) => format!(
            "its next hop {hop} does not answer since {}, {} in a row: {error}; the next probe goes {}, and one that is \
             answered lets all mail for it go",
            back_off.since,
            match back_off.failures {
                1 => "1 failure".to_owned(),
                many => format!("{many} failures"),
            },
            until(around.now, Some(back_off.next_probe))
        ),
        None if recipient.next_attempt > around.now => format!(
            "waits for its next attempt at {hop} {}{}",
            until(around.now, Some(recipient.next_attempt)),
            ended(recipient)
        ),
        None => format!(
            "is due for {hop} since {}, and waits for osesctl to put it on a list",
            recipient.next_attempt.max(trace.id.arrived())
        ),
    };
    told += &until_over(around);
    match stopped(around, Task::OutboundController, "outbound transport") {
        Some(stopped) => told + &stopped,
        None if due(recipient).is_some_and(|due| due > around.now) => {
            let back = match is_led(recipient) {
                true => format!(
                    ", smtpmta queue route {} --via none lets it go its usual way",
                    trace.id
                ),
                false => String::new(),
            };
            told + &format!("; smtpmta queue retry {} tries it now{back}", trace.id)
        }
        None => told,
    }
}

/// Why it is on a list and not on its way.
fn listed(recipient: &Whereabouts, around: &Surroundings) -> String {
    let list = recipient.list.unwrap_or_default();
    let hop = hop(recipient);
    let busy = around.handlers.iter().filter(|row| row.busy).count();
    let told = format!(
        "is on list {list} for {hop}, which waits for an outbound session handler: {busy} are busy, see smtpmta show \
         lists and --max-outbound-handlers"
    );
    told + &stopped(around, Task::OutboundController, "outbound transport").unwrap_or_default()
}

/// What is being done with it.
fn sending(recipient: &Whereabouts, around: &Surroundings) -> String {
    let hop = hop(recipient);
    let handler = recipient.handler.and_then(|number| usize::try_from(number).ok());
    let row = handler.and_then(|number| {
        let is_it = |row: &&HandlerRow| row.task == Task::OutboundHandler(number);
        around.handlers.iter().find(is_it)
    });
    match (row, handler) {
        (Some(row), _) if row.busy => format!(
            "is on its way to {hop}: {} is at it for {}s: {}",
            row.task,
            row.since.as_secs(),
            row.doing
        ),
        (_, Some(number)) => format!("is on its way to {hop}, in the hands of oseshlr{number}"),
        (_, None) => format!("is on its way to {hop}"),
    }
}

/// Where it goes.
fn hop(recipient: &Whereabouts) -> String {
    let known = way(recipient.next_hop.as_deref(), recipient.via.as_deref());
    known.unwrap_or_else(|| "its next hop".to_owned())
}

/// Whether it goes where an operator leads it by hand.
fn is_led(recipient: &Whereabouts) -> bool {
    recipient.via.is_some() && recipient.via == recipient.next_hop
}

/// Where it is to go, if an operator leads it by hand.
fn led_to(recipient: &Whereabouts) -> String {
    match is_led(recipient) {
        true => format!(", to {}", hop(recipient)),
        false => String::new(),
    }
}

/// How its last attempt ended.
fn ended(recipient: &Whereabouts) -> String {
    match &recipient.last_error {
        None => String::new(),
        Some(error) => match recipient.attempts {
            0 | 1 => format!(", the last attempt ended so: {error}"),
            many => format!(", the last of {many} attempts ended so: {error}"),
        },
    }
}

/// Until when it may wait.
fn until_over(around: &Surroundings) -> String {
    match around.expires > around.now {
        true => format!("; its time is over {}", around.expires),
        false => "; its time is over, and drt is about to give it up".to_owned(),
    }
}

/// Why a recipient is put aside.
fn held(trace: &Trace, recipient: &Whereabouts, around: &Surroundings) -> String {
    let since = since(trace, recipient, "held");
    if let Some(file) = &recipient.export {
        return format!(
            "put aside{since} to be exported to {file}, which is not finished; the same smtpmta queue export again \
             finishes it, smtpmta queue export --cancel {file} lets it go on"
        );
    }
    let history = last(trace, recipient, "held");
    // Where history could not be written its row says why.
    let why = match (history.as_str(), &recipient.last_error) {
        ("", Some(error)) => format!(": {error}"),
        _ => history,
    };
    format!(
        "put aside{since}{why}; smtpmta queue release {id} lets it go on{}, smtpmta queue delete {id} removes it{}",
        led_to(recipient),
        until_over(around),
        id = trace.id,
    )
}

/// What would help where a task does not run.
fn stopped(around: &Surroundings, task: Task, part: &str) -> Option<String> {
    let is_stopped = around.stopped.contains(&task);
    is_stopped.then(|| format!("; but {task} is stopped: smtpmta tell start {part} starts it"))
}

/// When it came to this end.
fn ended_at(trace: &Trace, recipient: &Whereabouts, what: &str) -> String {
    latest(trace, recipient, Some(what)).map_or(String::new(), |event| format!(" at {}", event.at))
}

/// When this last happened to it.
fn since(trace: &Trace, recipient: &Whereabouts, what: &str) -> String {
    latest(trace, recipient, Some(what)).map_or(String::new(), |event| format!(" since {}", event.at))
}

/// What history says of that.
fn last(trace: &Trace, recipient: &Whereabouts, what: &str) -> String {
    latest(trace, recipient, Some(what)).map_or(String::new(), |event| format!(": {}", event.text))
}

/// When something happened to it last.
fn last_move(trace: &Trace, recipient: &Whereabouts) -> Stamp {
    latest(trace, recipient, None).map_or(trace.id.arrived(), |event| event.at)
}

/// What happened to it last; or the last time that this did.
fn latest<'t>(trace: &'t Trace, recipient: &Whereabouts, what: Option<&str>) -> Option<&'t Event> {
    let is_it = |event: &&Event| is_about(event.n, recipient) && what.is_none_or(|what| event.what == what);
    trace.events.iter().rev().find(is_it)
}

fn is_about(n: Option<u32>, recipient: &Whereabouts) -> bool {
    n.is_none_or(|n| n == recipient.n)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::work_queue::id::MessageId;
    use crate::work_queue::{BackOff, Standing};

    const SECOND: i64 = 1_000_000;

    fn at(second: i64) -> Stamp {
        Stamp(second * SECOND)
    }

    fn around() -> Surroundings {
        Surroundings {
            stopped: Vec::new(),
            handlers: Vec::new(),
            expires: at(100_000),
            now: at(100),
        }
    }

    /// One that was never tried.
    fn recipient(state: State) -> Whereabouts {
        Whereabouts {
            next_attempt: at(0),
            attempts: 0,
            attempted: None,
            last_error: None,
            ..super::super::trace::tests::recipient(state)
        }
    }

    fn trace(recipients: Vec<Whereabouts>) -> Trace {
        let accepted = Event {
            at: at(10),
            what: "accepted".to_owned(),
            n: None,
            text: String::new(),
        };
        let held = Event {
            at: at(20),
            what: "held".to_owned(),
            n: Some(0),
            text: "by root".to_owned(),
        };
        Trace {
            id: MessageId(10 * SECOND),
            recipients,
            events: vec![accepted, held],
            ..Trace::default()
        }
    }

    /// What is said of a recipient in this state with this change.
    fn said(state: State, change: impl FnOnce(&mut Whereabouts), around: &Surroundings) -> String {
        let mut one = recipient(state);
        change(&mut one);
        let told = why(Some(&trace(vec![one])), around).text;
        let told = told
            .strip_prefix("<x@a.example>: ")
            .expect("whom it is about")
            .to_owned();
        told.strip_suffix('\n').expect("a line").to_owned()
    }

    #[test]
    fn each_state_has_its_sentence_with_what_would_free_it() {
        let around = around();
        let (over, ten, twenty) = (at(100_000), at(10), at(20));
        let same = |_: &mut Whereabouts| ();
        assert_eq!(
            said(State::Held, same, &around),
            format!(
                "put aside since {twenty}: by root; smtpmta queue release 0000000000989680 lets it go on, smtpmta queue \
                 delete 0000000000989680 removes it; its time is over {over}"
            )
        );
        let mut unwritten = trace(vec![recipient(State::Held)]);
        unwritten.recipients[0].last_error = Some("its rows are damaged".to_owned());
        unwritten.events.clear();
        let told = why(Some(&unwritten), &around).text;
        assert!(
            told.starts_with("<x@a.example>: put aside: its rows are damaged; "),
            "{told}"
        );
        let greylisted = |recipient: &mut Whereabouts| {
            recipient.next_attempt = at(400);
            recipient.attempts = 2;
            recipient.last_error = Some("450 greylisted".to_owned());
        };
        assert_eq!(
            said(State::PendingXmit, greylisted, &around),
            format!(
                "waits for its next attempt at a.example in 5m, the last of 2 attempts ended so: 450 greylisted; its time \
                 is over {over}; smtpmta queue retry 0000000000989680 tries it now"
            )
        );
        assert_eq!(
            said(State::PendingXmit, same, &around),
            format!(
                "is due for a.example since {ten}, and waits for osesctl to put it on a list; its time is over {over}"
            )
        );
        let led = |recipient: &mut Whereabouts| {
            greylisted(recipient);
            recipient.next_hop = Some("relay2.example:25".to_owned());
            recipient.via = recipient.next_hop.clone();
        };
        let told = said(State::PendingXmit, led, &around);
        assert!(
            told.starts_with("waits for its next attempt at relay2.example:25 (by hand) in 5m, ")
                && told.ends_with(
                    "tries it now, smtpmta queue route 0000000000989680 --via none lets it go its usual way"
                ),
            "{told}"
        );
        let told = said(State::Held, led, &around);
        assert!(
            told.contains("lets it go on, to relay2.example:25 (by hand), smtpmta queue delete"),
            "{told}"
        );
        let silent = |recipient: &mut Whereabouts| {
            let back_off = BackOff {
                since: at(20),
                failures: 3,
                next_probe: at(220),
            };
            recipient.back_off = Some((back_off, "connection refused".to_owned()));
        };
        let told = said(State::PendingXmit, silent, &around);
        assert!(
            told.starts_with(&format!(
                "its next hop a.example does not answer since {twenty}, 3 failures in a row: connection refused; the next \
                 probe goes in 2m"
            )),
            "{told}"
        );
        assert!(
            told.ends_with("queue retry 0000000000989680 tries it now"),
            "{told}"
        );
        let on_list = |recipient: &mut Whereabouts| recipient.list = Some(7);
        assert!(said(State::PendingXmit, on_list, &around).starts_with("is on list 7 for a.example"));
        assert!(said(State::Dead, same, &around).contains("queue delete 0000000000989680"));
        assert!(
            said(State::Removed, same, &around).ends_with("queue undelete 0000000000989680 brings it back")
        );
        assert!(said(State::PendingConversion, same, &around).contains("by imsgcnv since"));
        let unknown = said(
            State::Held,
            |recipient| recipient.state = Standing::Unknown(77),
            &around,
        );
        assert!(
            unknown.contains("77") && unknown.contains("tell housekeeping"),
            "{unknown}"
        );
    }

    #[test]
    fn a_task_that_is_stopped_is_named_with_the_words_that_start_it() {
        let stopped = Surroundings {
            stopped: vec![
                Task::OutboundController,
                Task::InboundConversion,
                Task::DeliveryReport,
            ],
            ..around()
        };
        for (state, words) in [
            (State::PendingXmit, "start outbound transport"),
            (State::PendingConversion, "start inbound conversion"),
            (State::PendingReport, "start drtask"),
        ] {
            let told = said(state, |_| (), &stopped);
            assert!(
                told.contains(" is stopped: smtpmta tell ") && told.contains(words),
                "{told}"
            );
        }
    }

    #[test]
    fn a_handler_at_work_is_quoted() {
        let around = Surroundings {
            handlers: vec![HandlerRow {
                task: Task::OutboundHandler(3),
                busy: true,
                doing: "Sending to mx.a.example".to_owned(),
                since: Duration::from_secs(7),
            }],
            ..around()
        };
        let in_hand = |recipient: &mut Whereabouts| (recipient.list, recipient.handler) = (Some(7), Some(3));
        assert_eq!(
            said(State::LockedForXmit, in_hand, &around),
            "is on its way to a.example: oseshlr3 is at it for 7s: Sending to mx.a.example"
        );
    }

    #[test]
    fn those_that_stand_alike_share_a_sentence() {
        let others = ["x@a.example", "y@a.example", "z@a.example"].map(|path| Whereabouts {
            path: path.to_owned(),
            ..recipient(State::PendingXmit)
        });
        let mut all = others.to_vec();
        all.push(Whereabouts {
            path: "w@a.example".to_owned(),
            ..recipient(State::Transmitted)
        });
        let screen = why(Some(&trace(all)), &around());
        assert_eq!(screen.text.lines().count(), 2, "{}", screen.text);
        assert!(
            screen.text.starts_with("<x@a.example> and 2 others: is due"),
            "{}",
            screen.text
        );
        assert_eq!(screen.json[0]["recipients"][2], "z@a.example");
        assert!(
            why(None, &around())
                .text
                .starts_with("nothing is known of such a message")
        );
    }
}
