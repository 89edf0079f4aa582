//! The golden dialogues of the inbound side, played against the live MTA, and what only a socket shows.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::client::{Client, letter};
use crate::support::dialogue::{Dialogue, Turn, matches, unescaped};
use crate::support::world::{World, eventually};

/// How many transcripts are played at once.
const PLAYERS: usize = 4;

/// Plays a transcript against an MTA of its own.
fn play(dialogue: &Dialogue) -> Result<(), String> {
    let mut world = World::without_mta(&[]);
    for (option, value) in &dialogue.options {
        let value = match option.as_str() {
            "accounts" => world.write(option, unescaped(value).unwrap()),
            _ => value.clone(),
        };
        world.flag(&format!("--{option}"), &value);
    }
    world.start();
    let mut client = Client::connect(world.address());
    for turn in &dialogue.turns {
        match turn {
            // What the server did not take because it had hung up, the transcript shows.
            Turn::Send(octets) => _ = client.send(octets),
            Turn::Expect(expected) => match client.line() {
                Ok(got) if matches(expected, &got) => {}
                got => return Err(format!("expected {expected:?}, got {got:?}")),
            },
            Turn::Closed => match client.line() {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
                got => return Err(format!("not closed: {got:?}")),
            },
        }
    }
    match client.rest().as_slice() {
        [] => Ok(()),
        more => Err(format!(
            "not expected at the end: {:?}",
            String::from_utf8_lossy(more)
        )),
    }
}

#[test]
fn the_live_mta_keeps_to_every_golden_dialogue() {
    let dialogues = Dialogue::all("inbound");
    assert!(dialogues.len() >= 15);
    // Some have pauses in them.
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while let Some(dialogue) = dialogues.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = play(dialogue) {
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("{}: {failure}", dialogue.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_message_whose_client_hangs_up_before_the_end_does_not_exist() {
    let world = World::load(&[]);
    let mut client = Client::of(&world);
    let from_to_data = b"MAIL FROM:<bsmith@univac.com>\r\nRCPT TO:<jdoe@mta.test>\r\nDATA\r\n";
    client.send(from_to_data).unwrap();
    client
        .send(&[b"x".repeat(70), b"\r\n".to_vec()].concat().repeat(10_000))
        .unwrap();
    for _ in 0..3 {
        client.reply();
    }
    drop(client);
    world.wait_for_task("iseshlr0", "Idle");
    assert_eq!(world.sql("SELECT count(*) FROM inbound_work_queue"), "0");
    assert_eq!(world.sql("SELECT count(*) FROM history"), "0");
    let content = world.spool().join("content");
    eventually("the content to be gone", || {
        let left = crate::support::world::files(&content);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn the_id_in_the_reply_names_the_message_in_the_received_line_and_in_the_history() {
    let world = World::load(&[]);
    let id = Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("one ID"));
    let letters = world.wait_for_letters("jdoe@mta.test", 1);
    let text = String::from_utf8(letters[0].clone()).unwrap();
    assert!(text.contains(&format!("with ESMTP id {id}\n")), "{text}");
    world.wait_for_sql(
        &format!("SELECT event FROM history WHERE id = '{id}' ORDER BY stamp"),
        "accepted\ndelivered",
    );
}

#[test]
fn a_client_that_is_not_let_relay_reaches_local_recipients_only() {
    let world = World::load(&["--relay-from", "none"]);
    let mut client = Client::of(&world);
    assert_eq!(client.say("MAIL FROM:<bsmith@univac.com>"), "250 2.1.0 OK");
    let refused = client.say("RCPT TO:<jdoe@ibm.com>");
    assert!(refused.starts_with("550 5.7.1 "), "{refused}");
    for local in ["jdoe@mta.test", "postmaster"] {
        assert_eq!(client.say(&format!("RCPT TO:<{local}>")), "250 2.1.5 OK");
    }
}

#[test]
fn a_client_with_too_many_sessions_is_turned_away_and_welcome_again_when_one_has_ended() {
    let world = World::load(&["--max-sessions-per-client", "2"]);
    let mut sessions = [Client::of(&world), Client::of(&world)];
    let turned_away = Client::connect(world.address()).reply();
    assert!(turned_away.starts_with("421 "), "{turned_away}");
    assert!(sessions[0].say("QUIT").starts_with("221 "));
    eventually("a seat", || {
        let greeting = Client::connect(world.address()).reply();
        if greeting.starts_with("220 ") {
            Ok(())
        } else {
            Err(greeting)
        }
    });
}

#[test]
fn a_silent_client_is_sent_away_when_its_time_is_over() {
    let world = World::load(&["--session-timeout", "1s"]);
    let mut client = Client::of(&world);
    let goodbye = client.reply();
    assert!(goodbye.starts_with("421 "), "{goodbye}");
    assert!(client.line().is_err());
}
