//! Exercise #2: Spawning Inbound Session Handlers.

use crate::support::client::{Client, letter};
use crate::support::world::World;

const GREETING: &str = "220 enaic.lotus.com ESMTP smtpmta Service Ready";

fn world() -> World {
    let flags = [
        "--hostname",
        "enaic.lotus.com",
        "--local-domain",
        "eniac.lotus.com",
    ];
    World::load(&[&flags[..], &["--max-inbound-handlers", "3"]].concat())
}

#[test]
fn a_telnet_session_spawns_an_inbound_handler_and_sends_a_simple_message() {
    let world = world();
    assert_eq!(world.handlers("iseshlr"), [""; 0]);

    // "If you've entered all of the correct information, the MTA machine sends back the following response."
    let mut telnet = Client::connect(world.address());
    assert_eq!(telnet.reply(), GREETING);
    // "At this point, look at the server console of your MTA machine. A new Inbound Session Handler has been
    // spawned: iseshlr0."
    world.daemon().wait_for_line("SMTPMTA iseshlr0 Started");
    assert_eq!(world.handlers("iseshlr"), ["iseshlr0"]);

    // "Complete this session with the MTA by sending a simple message to a valid Notes user."
    for (typed, response) in [
        ("HELO univac.com", "250 enaic.lotus.com"),
        ("MAIL FROM:<bsmith@univac.com>", "250 OK"),
        ("RCPT TO:<jdoe@eniac.lotus.com>", "250 OK"),
        ("DATA", "354 Enter Mail, end by a line with only '.'"),
        ("\r\nHello World\r\n.", "250 Message received OK."),
        ("QUIT", "221 Goodbye"),
    ] {
        assert_eq!(telnet.say(typed), response, "{typed}");
    }
    assert_eq!(telnet.rest(), b"");
    let letters = world.wait_for_letters("jdoe@eniac.lotus.com", 1);
    assert!(letters[0].ends_with(b"\nHello World\n"));

    // The handler "returns to an available state", and is used again.
    world.wait_for_task("iseshlr0", "Idle");
    assert_eq!(Client::connect(world.address()).reply(), GREETING);
    assert_eq!(world.handlers("iseshlr"), ["iseshlr0"]);
    assert_eq!(world.daemon().count_lines("SMTPMTA iseshlr"), 1);
}

#[test]
fn the_fourth_telnet_session_waits_when_three_handlers_are_busy() {
    // "Try to start up several telnet sessions with the SMTP MTA (don't send any messages, just establish a
    // connection and leave it open). The default number of Inbound Session Handlers is 3."
    let world = world();
    let mut sessions: Vec<Client> = (0..3).map(|_| Client::connect(world.address())).collect();
    for session in &mut sessions {
        assert_eq!(session.reply(), GREETING);
    }
    assert_eq!(world.handlers("iseshlr"), ["iseshlr0", "iseshlr1", "iseshlr2"]);

    // "What type of message appears on the server console of the MTA?"
    let port = world.address();
    let line = world.daemon().wait_for_line("Not listening");
    let not_listening = format!("Not listening on SMTP port {port}: all inbound session handlers are busy");
    assert_eq!(line, format!("SMTPMTA isesctl {not_listening}"));
    assert_eq!(world.daemon().count_lines("Listening again"), 0);

    // "What type of response does your fourth telnet session receive?" None: the kernel holds it.
    let mut fourth = Client::connect(port);
    // While the others go on as if nothing were.
    let mut third = sessions.pop().unwrap();
    third.say("EHLO univac.com");
    third.mail(
        "bsmith@univac.com",
        &["jdoe@eniac.lotus.com"],
        &letter("meanwhile"),
    );
    assert!(fourth.hears_nothing());
    world.wait_for_task("isesctl", &not_listening);
    assert_eq!(world.handlers("iseshlr").len(), 3);

    // "… until an inbound session handler updates its status in the internal table as available."
    assert_eq!(third.say("QUIT"), "221 2.0.0 Goodbye");
    assert_eq!(fourth.reply(), GREETING);
    let line = world.daemon().wait_for_line("Listening again");
    assert_eq!(
        line,
        format!("SMTPMTA isesctl Listening again on SMTP port {port}")
    );
    assert_eq!(world.handlers("iseshlr"), ["iseshlr0", "iseshlr1", "iseshlr2"]);

    // When all have left there is room again, and the handlers wait for more.
    drop((fourth, sessions));
    world.wait_for_task("isesctl", "Listening on SMTP port");
    for handler in ["iseshlr0", "iseshlr1", "iseshlr2"] {
        world.wait_for_task(handler, "Idle");
    }
}

#[test]
fn stopping_inbound_transport_closes_the_port_and_starting_it_opens_the_same() {
    let world = world();
    let port = world.address();
    let mut telnet = Client::connect(port);
    assert_eq!(telnet.reply(), GREETING);

    world.tell("smtpmta stop inbound transport");
    assert!(telnet.reply().starts_with("421 "));
    world.wait_for_task("isesctl", "Stopped");
    assert_eq!(world.handlers("iseshlr"), [""; 0]);
    assert!(std::net::TcpStream::connect(port).is_err());

    world.tell("smtpmta start inbound transport");
    assert_eq!(world.handlers("iseshlr"), [""; 0]);
    assert_eq!(Client::connect(port).reply(), GREETING);
}
