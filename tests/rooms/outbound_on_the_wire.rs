//! The outbound session over a real socket, against a sink that misbehaves: the handler's loop in small.

#![allow(clippy::unwrap_used)] // a broken test fails

use std::collections::VecDeque;
use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use smtpmta::outbound::outcome::{Outcome, Peer, Trouble};
use smtpmta::outbound::security::Security;
use smtpmta::outbound::session::{End, Input, Session, Step};
use smtpmta::outbound::transaction::{Envelope, RecipientKey};
use smtpmta::smtp::data::Encoder;
use smtpmta::smtp::path::{Mailbox, ReversePath};
use smtpmta::smtp::reply::ReplyParser;
use smtpmta::work_queue::id::MessageId;

use crate::support::sink::{Rule, Sink, Stage};

const SOON: Duration = Duration::from_secs(10);

/// What came out: a line for each recipient (`1.0 delivered`), and the end.
struct Run {
    settled: Vec<String>,
    end: End,
}

/// A list: for each message its recipients, and what it says.
type List = Vec<(Vec<&'static str>, Vec<u8>)>;

fn envelope(number: i64, recipients: &[&str], content: &[u8]) -> Envelope {
    let mailbox = |to: &&str| Mailbox::parse(to).unwrap();
    let recipients = (0..).map(RecipientKey).zip(recipients.iter().map(mailbox));
    Envelope::new(
        MessageId(number),
        ReversePath(None),
        recipients,
        content.len() as u64,
    )
}

/// The handler's loop: perform the steps, flush, read, feed.
fn send(sink: &Sink, list: &List, patience: Duration) -> Run {
    let stream = TcpStream::connect(sink.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let mut writer = BufWriter::new(stream);
    let peer = Peer {
        name: "sink.test".to_string(),
        address: sink.address().into(),
    };
    let mut session = Session::new("mta.test", peer, Security::default(), 2);
    let mut parser = ReplyParser::new();
    let mut received: Vec<u8> = Vec::new();
    let mut waiting = (0..)
        .zip(list)
        .map(|(number, (to, content))| envelope(number, to, content));
    let mut steps: VecDeque<Step> = VecDeque::new();
    let mut settled = Vec::new();
    // After a failed write nothing more is written; what else the session wants is still done.
    let mut can_write = true;
    loop {
        while let Some(step) = steps.pop_front() {
            let written = match step {
                Step::Send(octets) if can_write => writer.write_all(&octets),
                Step::SendContent(MessageId(number)) if can_write => {
                    let mut encoded = Vec::new();
                    let mut encoder = Encoder::new();
                    encoder.encode(&list[usize::try_from(number).unwrap()].1, &mut encoded);
                    encoder.finish(&mut encoded);
                    writer.write_all(&encoded)
                }
                Step::BeginTls => unreachable!("the sink offers no TLS"),
                Step::Send(_) | Step::SendContent(_) | Step::SendBinary(_) => Ok(()),
                Step::Settle {
                    message, outcomes, ..
                } => {
                    for (RecipientKey(key), outcome) in outcomes {
                        let word = match outcome {
                            Outcome::Delivered(_) => "delivered".to_string(),
                            Outcome::TryLater(reason) => format!("later {}", reason.status),
                            Outcome::GiveUp(reason) => format!("give up {}", reason.status),
                        };
                        settled.push(format!("{}.{key} {word}", message.0));
                    }
                    Ok(())
                }
                Step::GiveBack(message) => {
                    settled.push(format!("{} given back", message.0));
                    Ok(())
                }
                Step::WantMessage => {
                    let input = waiting.next().map_or(Input::NoMore, Input::Message);
                    steps.extend(session.advance(input));
                    Ok(())
                }
                Step::Close(end) => {
                    let _ = writer.flush();
                    return Run { settled, end };
                }
            };
            if let Err(error) = written {
                can_write = false;
                steps.extend(session.advance(Input::Lost(Trouble::Broken(error.to_string()))));
            }
        }
        let input = match writer.flush() {
            Err(error) => Some(Input::Lost(Trouble::Broken(error.to_string()))),
            Ok(()) => next_reply(
                &mut reader,
                &mut received,
                &mut parser,
                session.deadline().min(patience),
            ),
        };
        // Replies that came together are heard together, so that what they let us say goes in one write.
        let mut next = input;
        while let Some(input) = next {
            steps.extend(session.advance(input));
            next = buffered_reply(&mut received, &mut parser);
        }
    }
}

/// A reply of which all lines are at hand.
fn buffered_reply(received: &mut Vec<u8>, parser: &mut ReplyParser) -> Option<Input> {
    while let Some(end) = received.iter().position(|&octet| octet == b'\n') {
        let line: Vec<u8> = received.drain(..=end).collect();
        match parser.feed(line.strip_suffix(b"\r\n").unwrap_or(&line)) {
            Ok(None) => {}
            Ok(Some(reply)) => {
                return Some(Input::Reply {
                    reply,
                    more_at_hand: !received.is_empty(),
                });
            }
            Err(error) => return Some(Input::Lost(Trouble::Garbage(error.to_string()))),
        }
    }
    None
}

/// The next reply, or why there is none before the deadline.
fn next_reply(
    reader: &mut TcpStream,
    received: &mut Vec<u8>,
    parser: &mut ReplyParser,
    within: Duration,
) -> Option<Input> {
    let until = Instant::now() + within;
    loop {
        if let Some(input) = buffered_reply(received, parser) {
            return Some(input);
        }
        let left = until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        reader.set_read_timeout(Some(left)).unwrap();
        let mut chunk = [0; 4096];
        match reader.read(&mut chunk) {
            Ok(0) => return Some(Input::Lost(Trouble::Closed)),
            Ok(n) => received.extend_from_slice(&chunk[..n]),
            Err(_) if Instant::now() >= until => return Some(Input::Lost(Trouble::Timeout)),
            Err(error) => return Some(Input::Lost(Trouble::Broken(error.to_string()))),
        }
    }
}

fn three_messages() -> List {
    vec![
        (vec!["a@example.org", "b@example.org"], b"first\r\n".to_vec()),
        (
            vec!["c@example.org"],
            b".second\r\n..\r\n.\r\nlast, without an end".to_vec(),
        ),
        (vec!["d@example.org"], vec![b'x'; 300_000]),
    ]
}

#[test]
fn a_list_arrives_whole_with_and_without_pipelining() {
    for offers in [&["PIPELINING", "SIZE 0"][..], &["HELP"], &[]] {
        let sink = Sink::start();
        sink.offer(offers);
        if offers.is_empty() {
            sink.on(Stage::Ehlo, "502 5.5.1 What?");
        }
        let run = send(&sink, &three_messages(), SOON);
        assert_eq!(
            run.settled,
            ["0.0 delivered", "0.1 delivered", "1.0 delivered", "2.0 delivered"]
        );
        assert_eq!(run.end, End::Done);
        sink.wait_for(|seen| seen.sessions[0].ended, SOON);
        sink.look(|seen| {
            assert_eq!(seen.sessions.len(), 1);
            let content: Vec<_> = seen
                .accepted()
                .map(|message| message.content.as_slice())
                .collect();
            assert_eq!(content[0], b"first\r\n");
            assert_eq!(content[1], b".second\r\n..\r\n.\r\nlast, without an end\r\n");
            assert_eq!(content[2].len(), 300_002);
            assert_eq!(seen.messages[0].recipients, ["a@example.org", "b@example.org"]);
            assert_eq!(
                seen.messages[0].parameters,
                if offers.len() == 2 { "SIZE=7" } else { "" }
            );
        });
    }
}

#[test]
fn a_pipelined_list_costs_a_round_trip_for_each_message() {
    let sink = Sink::start();
    let list: List = (0..50)
        .map(|_| (vec!["a@example.org"], b"hello\r\n".to_vec()))
        .collect();
    assert_eq!(send(&sink, &list, SOON).settled.len(), 50);
    sink.wait_for(|seen| seen.sessions[0].ended, SOON);
    // Greeting, EHLO, the first MAIL; QUIT rides behind the last dot. Some room for cut writes.
    let turns = sink.look(|seen| seen.sessions[0].turns);
    assert!((50..60).contains(&turns), "{turns} turns");
}

#[test]
fn rules_are_obeyed_for_a_recipient_and_for_some_times() {
    let sink = Sink::start();
    sink.obey(Rule::say(Stage::Rcpt, "550 5.1.1 unknown").only_for("b@example.org"));
    sink.obey(Rule::say(Stage::Mail, "451 4.3.0 later").times(1));
    let run = send(&sink, &three_messages(), SOON);
    let expected = [
        "0.0 later 4.3.0",
        "0.1 later 4.3.0",
        "1.0 delivered",
        "2.0 delivered",
    ];
    assert_eq!(run.settled, expected);
    let run = send(&sink, &three_messages(), SOON);
    let expected = [
        "0.0 delivered",
        "0.1 give up 5.1.1",
        "1.0 delivered",
        "2.0 delivered",
    ];
    assert_eq!(run.settled, expected);
}

#[test]
fn a_refusal_at_each_stage_is_the_outcome() {
    for (stage, reply, expected) in [
        (Stage::Mail, "550 5.7.1 no", "0.0 give up 5.7.1"),
        (Stage::Rcpt, "450 4.2.1 no", "0.0 later 4.2.1"),
        (Stage::Data, "554 5.3.0 no", "0.0 give up 5.3.0"),
        (Stage::Data, "250 2.0.0 as you like", "0.0 later 4.5.0"),
        (
            Stage::Data,
            "354 go\r\n250 2.0.0 as good as done",
            "0.0 later 4.5.0",
        ),
        (Stage::Dot, "451 4.3.0 no", "0.0 later 4.3.0"),
        (Stage::Dot, "421 4.3.2 bye", "0.0 later 4.3.2"),
    ] {
        let sink = Sink::start();
        sink.on(stage, reply);
        let list: List = vec![(vec!["a@example.org"], b"hello\r\n".to_vec())];
        assert_eq!(send(&sink, &list, SOON).settled, [expected], "{stage:?}: {reply}");
        assert_eq!(sink.look(|seen| seen.accepted().count()), 0, "{stage:?}: {reply}");
    }
}

#[test]
fn a_dropped_connection_means_later_at_each_stage() {
    for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Content, Stage::Dot] {
        let sink = Sink::start();
        sink.drop_at(stage);
        let list: List = vec![(vec!["a@example.org"], vec![b'x'; 5_000_000])];
        assert_eq!(send(&sink, &list, SOON).settled, ["0.0 later 4.4.2"], "{stage:?}");
    }
    for stage in [Stage::Connect, Stage::Greeting, Stage::Ehlo] {
        let sink = Sink::start();
        sink.drop_at(stage);
        let run = send(&sink, &three_messages(), SOON);
        assert!(
            run.settled.is_empty() && matches!(run.end, End::Refused(_)),
            "{stage:?}"
        );
    }
    let sink = Sink::start();
    sink.drop_at(Stage::Quit);
    assert_eq!(send(&sink, &three_messages(), SOON).end, End::Done);
}

#[test]
fn who_hangs_goes_on_when_released() {
    use Stage::{Connect, Content, Data, Dot, Ehlo, Greeting, Mail, Quit, Rcpt};
    for stage in [Connect, Greeting, Ehlo, Mail, Rcpt, Data, Content, Dot, Quit] {
        let sink = Sink::start();
        sink.hang_at(stage);
        std::thread::scope(|scope| {
            let run = scope.spawn(|| send(&sink, &three_messages(), SOON));
            if stage != Connect {
                sink.wait_for(|seen| seen.hangs_at(stage), SOON);
            }
            sink.release();
            assert_eq!(run.join().unwrap().settled.len(), 4, "{stage:?}");
        });
    }
}

#[test]
fn who_hangs_for_too_long_is_left_and_the_sink_can_still_be_dropped() {
    let sink = Sink::start();
    sink.hang_at(Stage::Dot);
    let run = send(&sink, &three_messages(), Duration::from_millis(50));
    assert_eq!(
        run.settled,
        ["0.0 later 4.4.2", "0.1 later 4.4.2", "1 given back"]
    );
    assert!(sink.look(|seen| seen.hangs_at(Stage::Dot)));
}
