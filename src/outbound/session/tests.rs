//! What the dialogues in `tests/dialogues/outbound` cannot show: deadlines, windows, whatever a peer may say.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::smtp::path::{Mailbox, ReversePath};

fn reply(code: u16, lines: &[&str]) -> Reply {
    let lines = lines.iter().map(|line| (*line).to_string()).collect();
    Reply::multiline(code, None, lines)
}

fn says(code: u16) -> Input {
    Input::Reply {
        reply: reply(code, &["text"]),
        more_at_hand: false,
    }
}

fn envelope(number: i64, recipients: u32) -> Envelope {
    let mailbox = |n: u32| Mailbox::parse(&format!("recipient{n}@example.org")).unwrap();
    let recipients = (0..recipients).map(|n| (RecipientKey(n), mailbox(n)));
    Envelope::new(MessageId(number), ReversePath(None), recipients, 1000)
}

fn connected() -> Session {
    let peer = Peer {
        name: "mx.example.org".to_string(),
        address: "[2001:db8::1]:25".parse::<std::net::SocketAddr>().unwrap().into(),
    };
    Session::new("mta.example.net", peer, Security::default(), 2)
}

/// A session that has just asked for its first message.
fn open(offers: &[&str]) -> Session {
    opened(connected(), offers)
}

fn opened(mut session: Session, offers: &[&str]) -> Session {
    session.advance(says(220));
    let mut lines = vec!["mx.example.org"];
    lines.extend(offers);
    let reply = reply(250, &lines);
    let steps = session.advance(Input::Reply {
        reply,
        more_at_hand: false,
    });
    assert_eq!(steps, [Step::WantMessage]);
    session
}

/// Stands for the code that grants whatever was asked.
const RIGHT: u16 = 0;

fn commands(steps: &[Step]) -> usize {
    let lines = |step: &Step| match step {
        Step::Send(octets) => octets.iter().filter(|&&b| b == b'\n').count(),
        _ => 0,
    };
    steps.iter().map(lines).sum()
}

#[test]
fn each_reply_is_awaited_as_long_as_the_rfc_says() {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let mut session = connected();
    assert_eq!(session.deadline(), minutes(5), "greeting");
    session = open(&[]);
    session.advance(Input::Message(envelope(1, 1)));
    assert_eq!(session.deadline(), minutes(5), "MAIL");
    session.advance(says(250));
    assert_eq!(session.deadline(), minutes(5), "RCPT");
    session.advance(says(250));
    assert_eq!(session.deadline(), minutes(2), "DATA");
    session.advance(says(354));
    assert_eq!(session.deadline(), minutes(10), "the final dot");
}

#[test]
fn what_goes_together_is_one_buffer() {
    let mut session = open(&["PIPELINING"]);
    let steps = session.advance(Input::Message(envelope(1, 3)));
    assert_eq!(steps.len(), 1);
    assert_eq!(commands(&steps), 5);
}

#[test]
fn a_thousand_recipients_travel_in_one_transaction_and_never_overrun_the_window() {
    let mut session = open(&["PIPELINING"]);
    let mut sent = commands(&session.advance(Input::Message(envelope(1, 1000))));
    assert!(sent > 500 && sent < 1000, "{sent} in the first write");
    let mut writes = 1;
    let mut answered = 0;
    let outcomes = loop {
        assert!(session.unanswered < WINDOW + 100);
        answered += 1;
        let code = match answered {
            1002 => 354,
            // The peer takes a hundred.
            n if n > 101 => 452,
            _ => 250,
        };
        let steps = session.advance(says(code));
        sent += commands(&steps);
        writes += usize::from(commands(&steps) > 0);
        if steps.contains(&Step::SendContent(MessageId(1))) {
            session.advance(Input::NoMore);
            let steps = session.advance(says(250));
            let [Step::Settle { outcomes, .. }] = &steps[..] else {
                panic!("{steps:?}")
            };
            break outcomes.clone();
        }
    };
    assert_eq!((sent, answered, writes), (1002, 1002, 2));
    let delivered = |(_, outcome): &&(RecipientKey, Outcome)| matches!(outcome, Outcome::Delivered(_));
    assert_eq!(outcomes.iter().filter(delivered).count(), 100);
    assert_eq!(outcomes.len(), 1000);
}

#[test]
fn a_message_that_was_not_asked_for_is_given_back() {
    let mut session = connected();
    let steps = session.advance(Input::Message(envelope(1, 1)));
    assert_eq!(steps, [Step::GiveBack(MessageId(1))]);
    session.advance(Input::Lost(Trouble::Closed));
    let steps = session.advance(Input::Message(envelope(2, 1)));
    assert_eq!(steps, [Step::GiveBack(MessageId(2))]);
}

#[test]
fn a_message_may_be_offered_later_than_it_was_asked_for() {
    let mut session = open(&["PIPELINING"]);
    session.advance(Input::Message(envelope(1, 1)));
    session.advance(says(250));
    session.advance(says(250));
    let steps = session.advance(says(354));
    assert_eq!(steps, [Step::SendContent(MessageId(1)), Step::WantMessage]);
    assert_eq!(
        session.advance(says(250)).len(),
        1,
        "settled, and not asked again"
    );
    assert!(!session.is_waiting());
    assert_eq!(commands(&session.advance(Input::Message(envelope(2, 1)))), 3);
    assert!(session.is_waiting());
}

#[test]
fn a_message_that_comes_after_quit_is_given_back() {
    let mut session = opened(
        Session {
            depth: 4,
            ..connected()
        },
        &["PIPELINING", "CHUNKING"],
    );
    session.advance(Input::Message(envelope(1, 1)));
    session.advance(Input::Message(envelope(2, 1)));
    // MAIL, RCPT, BDAT of the first one, RSET, and those of the second one, which the host has not looked at.
    let replies = [250, 354, 250, 250, 503, 503, 503];
    let steps: Vec<Step> = replies
        .into_iter()
        .flat_map(|code| session.advance(says(code)))
        .collect();
    let quit = Step::Send(b"QUIT\r\n".to_vec());
    assert_eq!(steps, [Step::GiveBack(MessageId(2)), quit]);
    assert_eq!(session.unanswered(), [MessageId(1)]);
    assert_eq!(
        session.advance(Input::Message(envelope(2, 1))),
        [Step::GiveBack(MessageId(2))]
    );
    let end = session.advance(says(221));
    assert!(
        matches!(
            &end[..],
            [
                Step::Settle {
                    message: MessageId(1),
                    ..
                },
                Step::Close(End::Broken(_))
            ]
        ),
        "{end:?}"
    );
}

#[test]
fn a_421_while_nothing_is_asked_ends_the_session() {
    let mut session = open(&[]);
    let steps = session.advance(says(421));
    let [Step::Close(End::Broken(reason))] = &steps[..] else {
        panic!("{steps:?}")
    };
    assert_eq!(
        reason.text,
        "host mx.example.org[2001:db8::1] closed the connection: 421 text"
    );
}

#[test]
fn nothing_follows_the_end() {
    let mut session = connected();
    session.advance(says(554));
    for input in [says(250), Input::NoMore, Input::Lost(Trouble::Closed)] {
        assert_eq!(session.advance(input), []);
    }
}

proptest! {
    /// Whatever a peer says: each recipient comes back once, nothing is delivered that was not sent and
    /// then accepted, and nothing happens after the end.
    #[test]
    fn no_recipient_is_lost_and_none_settled_twice(
        offers in prop::sample::subsequence(
            vec!["PIPELINING", "SIZE 999", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING", "BINARYMIME"], 0..=7,
        ),
        sizes in prop::collection::vec((0_u32..4, 990_u64..1010, any::<bool>(), any::<bool>()), 0..6),
        codes in prop::collection::vec(
            (prop::sample::select(vec![RIGHT, RIGHT, RIGHT, RIGHT, 250, 354, 421, 450, 452, 503, 550, 552]),
             prop::bool::weighted(0.05)),
            0..80,
        ),
        in_lmtp in any::<bool>(),
    ) {
        let mut list: VecDeque<Envelope> = (1..).zip(sizes).map(|(number, of)| {
            let (recipients, size, binary, utf8_header) = of;
            Envelope { size, binary, utf8_header, ..envelope(number, recipients) }
        }).collect();
        let mut session = opened(connected().in_lmtp(in_lmtp), &offers);
        // Of LMTP: how many were answered for with a yes, and how many are said to have it. Less once the peer is doubted.
        let (mut granted, mut delivered, mut doubted) = (0, 0, false);
        let mut inputs: VecDeque<Input> = codes.into_iter().map(|(code, more_at_hand)| {
            Input::Reply { reply: reply(code, &["text"]), more_at_hand }
        }).collect();
        inputs.push_front(list.pop_front().map_or(Input::NoMore, Input::Message));
        inputs.push_back(Input::Lost(Trouble::Closed));
        let (mut taken, mut sent, mut through) = (Vec::new(), HashSet::new(), Vec::new());
        let mut closed = false;
        while let Some(mut input) = inputs.pop_front() {
            let mut accepted = false;
            if let Input::Reply { reply, .. } = &mut input && reply.code == RIGHT {
                reply.code = match session.due.front() {
                    Some((Due::Data, _)) => 354,
                    Some((Due::Quit, _)) => 221,
                    _ => 250,
                };
            }
            match &input {
                Input::Message(envelope) => taken.push(envelope.message),
                Input::Reply { reply, .. } => {
                    accepted = (200..300).contains(&reply.code);
                    let about_one = matches!(session.due.front(), Some((Due::ContentFor(_), _)));
                    granted += usize::from(accepted && about_one);
                }
                _ => {}
            }
            let steps = session.advance(input);
            doubted |= session.doubted.is_some();
            for step in steps {
                prop_assert!(!closed, "after the end: {step:?}");
                match step {
                    Step::Send(_) => {}
                    Step::BeginTls => inputs.push_front(Input::TlsBegun { verified: false }),
                    Step::SendContent(message) | Step::SendBinary(message) => {
                        prop_assert!(sent.insert(message));
                    }
                    Step::Settle { message, outcomes } => {
                        let good = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Delivered(_)));
                        let good = good.count();
                        delivered += good;
                        if good > 0 {
                            prop_assert!((accepted || in_lmtp) && sent.contains(&message));
                        }
                        through.push(message);
                    }
                    Step::GiveBack(message) => {
                        prop_assert!(session.offered().chunking || !sent.contains(&message));
                        through.push(message);
                    }
                    Step::WantMessage => {
                        inputs.push_front(list.pop_front().map_or(Input::NoMore, Input::Message));
                    }
                    Step::Close(_) => closed = true,
                }
            }
        }
        prop_assert!(closed);
        prop_assert!(!in_lmtp || delivered == granted || doubted && delivered < granted);
        through.sort();
        prop_assert_eq!(taken, through);
    }

    /// A host that once says 354 where nobody waits for it: no message is settled by the answer to another one, whatever the
    /// host says to each of them, and as early as it may.
    #[test]
    fn one_reply_too_many_settles_no_message_by_the_answer_to_another(
        to_rcpt in prop::collection::vec(prop::sample::select(vec![250, 250, 250, 450, 550]), 6),
        to_content in prop::collection::vec(prop::sample::select(vec![250, 250, 451, 554]), 6),
        too_many_at in 0_usize..24,
        at_once in any::<bool>(),
    ) {
        let mut session = opened(Session { depth: 4, ..connected() }, &["PIPELINING", "CHUNKING"]);
        let mut list: VecDeque<Envelope> = (0..6).map(|number| envelope(number, 1)).collect();
        let (mut mails, mut replies, mut said) = (0, VecDeque::new(), 0);
        let mut was_granted = false;
        let mut input = Input::Message(list.pop_front().unwrap());
        let mut closed = false;
        while !closed {
            let mut next = None;
            for step in session.advance(input) {
                match step {
                    Step::Send(octets) => for line in String::from_utf8(octets).unwrap().lines() {
                        let message = usize::max(mails, 1) - 1;
                        let code = match &line[..4] {
                            "MAIL" => { mails += 1; 250 }
                            "RCPT" => { was_granted = to_rcpt[message] == 250; to_rcpt[message] }
                            "BDAT" if was_granted => to_content[message],
                            "BDAT" => 554,
                            "QUIT" => 221,
                            _ => 250,
                        };
                        replies.push_back(code);
                        said += 1;
                        if said == too_many_at {
                            replies.push_back(354);
                        }
                    },
                    Step::Settle { message, outcomes } => {
                        let number = usize::try_from(message.0).unwrap();
                        let (rcpt, content) = (to_rcpt[number], to_content[number]);
                        match &outcomes[0].1 {
                            Outcome::Delivered(_) => prop_assert!(rcpt == 250 && content == 250, "{message:?}"),
                            Outcome::GiveUp(_) => prop_assert!(rcpt == 550 || content == 554, "{message:?}"),
                            Outcome::TryLater(_) => {}
                        }
                    }
                    Step::WantMessage => next = Some(list.pop_front().map_or(Input::NoMore, Input::Message)),
                    Step::Close(_) => closed = true,
                    _ => {}
                }
            }
            input = next.unwrap_or_else(|| match replies.pop_front() {
                Some(code) => Input::Reply {
                    reply: reply(code, &["text"]),
                    more_at_hand: at_once && !replies.is_empty(),
                },
                None => Input::Lost(Trouble::Closed),
            });
        }
    }
}
