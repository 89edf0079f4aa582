//! `trace`: the whole life of a message, from who brought it to where each recipient is. Pure: facts in, text out.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::screen::{Screen, clean, until, way};
use crate::clock::Stamp;
use crate::work_queue::states::State;
use crate::work_queue::{Event, Trace, Whereabouts};

/// These messages, one behind the other; `more` says that there are others.
#[must_use]
pub fn traces(traces: &[Trace], more: bool, now: Stamp) -> Screen {
    let mut text = traces
        .iter()
        .map(|trace| told(trace, now))
        .collect::<Vec<_>>()
        .join("\n");
    if more {
        let _ = writeln!(text, "\nthere are more before these; see --limit");
    }
    if traces.is_empty() {
        text = "nothing is known of such a message\n".to_owned();
    }
    Screen {
        text,
        json: traces.iter().map(facts).collect(),
    }
}

fn told(trace: &Trace, now: Stamp) -> String {
    let mut text = known(trace, now);
    for event in &trace.events {
        let _ = writeln!(text, "  {}  {}", event.at, clean(&happened(trace, event)));
    }
    text
}

/// What is known of a message, but for what happened to it.
pub(super) fn known(trace: &Trace, now: Stamp) -> String {
    let mut text = format!(
        "{} arrived {}, {} octets\n",
        trace.id,
        trace.id.arrived(),
        trace.size
    );
    let mut line = |what: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {what:<12}{}", clean(value));
        }
    };
    line("from", &format!("<{}>", trace.sender));
    line("brought by", &brought(trace));
    line("subject", trace.subject.as_deref().unwrap_or_default());
    line("message-id", trace.message_id.as_deref().unwrap_or_default());
    for recipient in &trace.recipients {
        line("to", &format!("<{}> {}", recipient.path, stands(recipient, now)));
    }
    text
}

/// Who brought it, and how.
pub(crate) fn brought(trace: &Trace) -> String {
    let mut told = format!("{} {}", trace.protocol, trace.client);
    if !trace.helo.is_empty() {
        let _ = write!(told, " ({})", trace.helo);
    }
    for (what, fact) in [("login", &trace.login), ("tls", &trace.tls)] {
        if let Some(fact) = fact {
            let _ = write!(told, ", {what} {fact}");
        }
    }
    told
}

/// How a recipient stands, in a few words.
pub(crate) fn stands(recipient: &Whereabouts, now: Stamp) -> String {
    let mut told = recipient.state.to_string();
    if recipient.state.known().is_some_and(State::is_end) {
        return told;
    }
    if let Some(hop) = way(recipient.next_hop.as_deref(), recipient.via.as_deref()) {
        let _ = write!(told, ", for {hop}");
    }
    match (recipient.list, recipient.handler) {
        (Some(list), Some(handler)) => _ = write!(told, ", list {list}, oseshlr{handler}"),
        (Some(list), None) => _ = write!(told, ", list {list} waits for a handler"),
        (None, _) if recipient.state.known() == Some(State::PendingXmit) => {
            _ = write!(told, ", next try {}", until(now, due(recipient)));
        }
        _ => {}
    }
    told
}

/// When a recipient that waits for its next hop is due.
pub(super) fn due(recipient: &Whereabouts) -> Option<Stamp> {
    let probe = recipient
        .back_off
        .as_ref()
        .map(|(back_off, _)| back_off.next_probe);
    Some(recipient.next_attempt.max(probe.unwrap_or_default()))
}

pub(crate) fn happened(trace: &Trace, event: &Event) -> String {
    let path = event.n.and_then(|n| {
        let of = trace.recipients.iter().find(|recipient| recipient.n == n);
        of.map(|recipient| format!("<{}> ", recipient.path))
    });
    format!("{:<12}{}{}", event.what, path.unwrap_or_default(), event.text)
}

/// The same for programs, with what happened to it.
pub(super) fn facts(trace: &Trace) -> Value {
    let recipient = |recipient: &Whereabouts| {
        json!({
            "n": recipient.n, "recipient": recipient.path, "state": recipient.state.to_string(),
            "next_hop": recipient.next_hop, "list": recipient.list,
            "handler": recipient.handler.map(|n| format!("oseshlr{n}")),
            "next_attempt": (recipient.state.known() == Some(State::PendingXmit) && recipient.list.is_none())
                .then(|| due(recipient).filter(|due| due.0 > 0).map(Stamp::to_console)).flatten(),
            "attempts": recipient.attempts, "last_attempt": recipient.attempted.map(Stamp::to_console),
            "last_error": recipient.last_error, "via": recipient.via,
        })
    };
    let event = |event: &Event| json!({ "at": event.at.to_console(), "stamp": event.at.0, "event": event.what, "n": event.n, "text": event.text });
    json!({
        "id": trace.id.to_string(), "arrived": trace.id.arrived().to_console(), "size": trace.size,
        "sender": trace.sender, "client": trace.client, "helo": trace.helo, "protocol": trace.protocol,
        "login": trace.login, "tls": trace.tls, "subject": trace.subject, "message_id": trace.message_id,
        "left": trace.left.map(Stamp::to_console),
        "recipients": trace.recipients.iter().map(recipient).collect::<Vec<_>>(),
        "events": trace.events.iter().map(event).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::work_queue::Standing;
    use crate::work_queue::id::MessageId;

    const SECOND: i64 = 1_000_000;

    /// A recipient in this state, which was tried once.
    pub(in crate::console) fn recipient(state: State) -> Whereabouts {
        Whereabouts {
            n: 0,
            path: "x@a.example".to_owned(),
            state: Standing::Known(state),
            in_box: false,
            next_hop: Some("a.example".to_owned()),
            via: None,
            list: None,
            handler: None,
            next_attempt: Stamp(400 * SECOND),
            attempts: 1,
            attempted: Some(Stamp(50 * SECOND)),
            last_error: Some("450 4.2.0 greylisted".to_owned()),
            back_off: None,
            export: None,
        }
    }

    #[test]
    fn a_trace_tells_who_brought_it_where_it_is_and_all_that_happened() {
        let at = |second: i64| Stamp(second * SECOND);
        let trace = Trace {
            id: MessageId(10 * SECOND),
            sender: "ann@b.example".to_owned(),
            client: "192.0.2.1".to_owned(),
            helo: "client.example".to_owned(),
            protocol: "ESMTPSA".to_owned(),
            login: Some("ann".to_owned()),
            tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384".to_owned()),
            size: 812,
            subject: Some("hello\u{1b}[2J\nworld".to_owned()),
            recipients: vec![recipient(State::PendingXmit)],
            events: vec![
                Event {
                    at: at(10),
                    what: "accepted".to_owned(),
                    n: None,
                    text: "from=<ann@b.example> to=1".to_owned(),
                },
                Event {
                    at: at(50),
                    what: "deferred".to_owned(),
                    n: Some(0),
                    text: "450 4.2.0 greylisted".to_owned(),
                },
            ],
            ..Trace::default()
        };
        let screen = traces(&[trace], false, at(100));
        assert_eq!(
            screen.text,
            format!(
                "0000000000989680 arrived {0}, 812 octets\n\
                 \x20 from        <ann@b.example>\n\
                 \x20 brought by  ESMTPSA 192.0.2.1 (client.example), login ann, tls TLSv1.3 TLS_AES_256_GCM_SHA384\n\
                 \x20 subject     hello[2Jworld\n\
                 \x20 to          <x@a.example> WQ_PENDING_XMIT, for a.example, next try in 5m\n\
                 \x20 {0}  accepted    from=<ann@b.example> to=1\n\
                 \x20 {1}  deferred    <x@a.example> 450 4.2.0 greylisted\n",
                at(10),
                at(50)
            )
        );
        assert_eq!(screen.json[0]["recipients"][0]["state"], "WQ_PENDING_XMIT");
        assert_eq!(screen.json[0]["events"][1]["n"], 0);
    }

    #[test]
    fn of_a_message_that_is_unknown_nothing_is_told() {
        let nothing = traces(&[], false, Stamp(0));
        assert_eq!(nothing.text, "nothing is known of such a message\n");
        assert_eq!(nothing.json, json!([]));
    }
}
