//! The golden dialogues of the inbound side, played against the pure session: no socket, no queue, and a
//! handler that is as dull as the real one: that of `smtpmta session`.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use smtpmta::accounts::Accounts;
use smtpmta::aliases::Aliases;
use smtpmta::inbound::front::Front;
use smtpmta::inbound::reception::Reception;
use smtpmta::inbound::recipients::RecipientPolicy;
use smtpmta::inbound::rehearsal::Rehearsal;
use smtpmta::inbound::session::{Client, SessionSettings};
use smtpmta::mailbox::directory::Directory;

use crate::support::dialogue::{Dialogue, Turn, matches, unescaped};

fn rehearsal_of(dialogue: &Dialogue) -> Rehearsal {
    let values = |name: &str| {
        let given = dialogue.options.iter().filter(|(option, _)| option == name);
        given.map(|(_, value)| value.clone()).collect::<Vec<String>>()
    };
    for (option, _) in &dialogue.options {
        let known = [
            "hostname",
            "local-domain",
            "max-recipients",
            "max-message-size",
            "max-hops",
            "accounts",
            "relay-from",
        ];
        assert!(
            known.contains(&option.as_str()),
            "{}: option {option}",
            dialogue.name
        );
    }
    let number = |name, default| {
        dialogue
            .option(name)
            .map_or(default, |value| value.parse().unwrap())
    };
    let hostname = dialogue
        .option("hostname")
        .expect("a transcript names its hostname")
        .to_owned();
    let mut local_domains = values("local-domain");
    if local_domains.is_empty() {
        local_domains.push(hostname.clone());
    }
    let accounts = dialogue.option("accounts").map(|text| {
        let text = unescaped(text).unwrap();
        Arc::new(Accounts::parse(&text, "accounts", &local_domains[0]).unwrap())
    });
    let settings = SessionSettings {
        hostname,
        max_message_size: number("max-message-size", 50 * 1024 * 1024),
        max_recipients: usize::try_from(number("max-recipients", 1000)).unwrap(),
        max_hops: usize::try_from(number("max-hops", 100)).unwrap(),
        policy: RecipientPolicy::new(Arc::new(Directory {
            local_domains,
            accounts: accounts.clone(),
            aliases: Aliases::default(),
        }))
        .unwrap(),
        accounts,
        offers_tls: false,
        any_sender: false,
    };
    let may_relay = dialogue.option("relay-from") != Some("none");
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = Client {
        address: localhost,
        called: localhost,
        front: Front::Relay,
        may_relay,
    };
    let reception = Reception {
        settings: Arc::new(settings),
        identity: None,
        relay_from: Vec::new(),
    };
    Rehearsal::begin(&reception, client)
}

/// Plays a transcript; every write of the client arrives in pieces of at most `step` octets.
fn play(dialogue: &Dialogue, step: usize) -> Result<(), String> {
    let mut rehearsal = rehearsal_of(dialogue);
    let mut said: VecDeque<String> = VecDeque::new();
    for turn in &dialogue.turns {
        let text = String::from_utf8(rehearsal.take_said()).map_err(|error| error.to_string())?;
        said.extend(text.split_terminator("\r\n").map(str::to_owned));
        match turn {
            Turn::Send(_) if !said.is_empty() => return Err(format!("not expected: {said:?}")),
            Turn::Send(octets) => octets.chunks(step).for_each(|piece| rehearsal.hear(piece)),
            Turn::Expect(expected) => match said.pop_front() {
                Some(got) if matches(expected, &got) => {}
                got => return Err(format!("expected {expected:?}, got {got:?}")),
            },
            Turn::Closed if rehearsal.is_over() && said.is_empty() => {}
            Turn::Closed => return Err(format!("not closed, {said:?}")),
        }
    }
    let rest = String::from_utf8_lossy(&rehearsal.take_said()).into_owned();
    if !(said.is_empty() && rest.is_empty()) {
        return Err(format!("not expected at the end: {said:?} {rest:?}"));
    }
    Ok(())
}

#[test]
fn the_pure_session_keeps_to_every_golden_dialogue() {
    let dialogues = Dialogue::all("inbound");
    assert!(dialogues.len() >= 15);
    let mut failures = Vec::new();
    for dialogue in &dialogues {
        for step in [usize::MAX, 7, 1] {
            if let Err(failure) = play(dialogue, step) {
                failures.push(format!("{} in pieces of {step}: {failure}", dialogue.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
