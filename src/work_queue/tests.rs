//! The work queue as its rooms use it, on a database of its own.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use tempfile::TempDir;

use super::outcome::Success;
use super::retry::RetryPolicy;
use super::*;
use crate::domain_list::next_hop::NextHop;
use crate::domain_list::pace::Unlimited;
use crate::outbound::outcome::{Outcome, Reason};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::tasks::bell::Bell;

mod backoff;
mod board;
mod by_hand;
mod clock;
mod compaction;
mod damage;
mod deputy;
mod expansion;
mod gauges;
mod housekeeping;
mod mending;
mod model;
mod moving;
pub(crate) mod other_program;
mod passage;
mod plans;
mod too_late;
mod verify;

const MINUTE: Duration = Duration::from_secs(60);

struct World {
    folder: TempDir,
    queue: WorkQueue,
    clock: Clock,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Stamp(1_000_000_000_000_000));
        let queue = WorkQueue::open(folder.path(), clock.clone()).unwrap();
        World { folder, queue, clock }
    }

    fn put(&self, from: &str, to: &[&str]) -> MessageId {
        self.put_asking(from, &to.iter().map(|to| (*to, None)).collect::<Vec<_>>())
    }

    /// As a client with NOTIFY.
    fn put_asking(&self, from: &str, to: &[(&str, Option<&str>)]) -> MessageId {
        let id = self.queue.message_id();
        let mut content = self.queue.content_writer(id);
        content.write(b"Subject: x\r\n\r\nbody\r\n").unwrap();
        let sender = if from.is_empty() {
            None
        } else {
            Some(mailbox(from))
        };
        let to = to.iter().map(|(to, notify)| Addressee {
            notify: notify.map(|words| words.parse().unwrap()),
            ..Addressee::from(mailbox(to))
        });
        let arrival = Arrival {
            client: "192.0.2.1".to_owned(),
            helo: "client.example".to_owned(),
            protocol: "ESMTP",
            ..Arrival::new(
                id,
                Origin::Session,
                ReversePath(sender),
                to,
                content.finish().unwrap(),
            )
        };
        self.queue.put(arrival).unwrap();
        id
    }

    /// As imsgcnv and omsgcnv do it with what is not local.
    fn convert(&self) {
        self.convert_and_kick(&Bell::default());
    }

    /// The same, for who rests.
    fn convert_and_kick(&self, bell: &Bell) {
        let waiting = self.queue.waiting_inbound(self.queue.now(), 1000).unwrap();
        let passed = |w: &Waiting| Converted {
            id: w.id,
            null_sender: w.reverse_path.0.is_none(),
            structure: None,
            deliveries: w.recipients.iter().map(|r| (r.n, Delivery::PassOn)).collect(),
        };
        self.queue
            .converted(waiting.iter().map(passed).collect())
            .unwrap();
        let waiting = self.queue.waiting_in_box(self.queue.now(), 1000).unwrap();
        let routed = |w: &Waiting| Routed {
            id: w.id,
            structure: None,
            content: None,
            ways: w
                .recipients
                .iter()
                .map(|r| (r.n, Way::Hop(r.pin.clone().unwrap_or_else(|| hop_of(&r.path)))))
                .collect(),
            null_sender: w.reverse_path.0.is_none(),
        };
        self.queue
            .routed_and_kick(waiting.iter().map(routed).collect(), vec![bell.clone()])
            .unwrap();
    }

    fn claim(&self, handlers: &[usize], waiting_room: usize) -> Vec<DomainList> {
        self.queue.claim(claim(handlers, waiting_room)).unwrap().lists
    }

    fn settle(&self, list: &DomainList, id: MessageId, outcomes: Vec<(u32, Outcome)>) -> Settled {
        self.try_to_settle(list, id, outcomes).unwrap()
    }

    fn try_to_settle(
        &self,
        list: &DomainList,
        id: MessageId,
        outcomes: Vec<(u32, Outcome)>,
    ) -> Result<Settled, QueueError> {
        let settlement = Settlement {
            list: list.id,
            id,
            null_sender: self.sql(&format!(
                "SELECT reverse_path = '' FROM message WHERE id = {}",
                id.0
            )) == "1",
            host: "mx.example[192.0.2.9]".to_owned(),
            tls: None,
            host_reports: false,
            is_delivery: false,
            outcomes,
            retry: RetryPolicy {
                schedule: vec![5 * MINUTE],
                expire: 60 * MINUTE,
            },
        };
        self.queue.settle(Arc::new(settlement)).wait()
    }

    /// As drt does it: a whole round. How many were given up.
    fn expire(&self, after: Duration) -> usize {
        let (cutoff, mut round) = (self.queue.moment().certain.minus(after), Round::default());
        while !round.is_done {
            round = self.queue.expire(cutoff, round).unwrap();
        }
        round.given_up
    }

    /// The one value that a query gives, as somebody with `sqlite3` would see it.
    fn sql(&self, query: &str) -> String {
        let db = rusqlite::Connection::open(self.folder.path().join("queue.db")).unwrap();
        db.query_row(query, [], |row| {
            row.get::<_, rusqlite::types::Value>(0).map(|value| match value {
                rusqlite::types::Value::Integer(n) => n.to_string(),
                rusqlite::types::Value::Text(text) => text,
                other => format!("{other:?}"),
            })
        })
        .unwrap()
    }

    /// As somebody who tampers.
    fn sql_run(&self, statement: &str) {
        let db = rusqlite::Connection::open(self.folder.path().join("queue.db")).unwrap();
        db.execute_batch(statement).unwrap();
    }

    fn states(&self) -> String {
        self.sql(
            "SELECT ifnull(group_concat(t, ' '), '') FROM (SELECT s.name || ':' || count(*) AS t \
                  FROM recipient r JOIN state s ON s.number = r.state GROUP BY s.number ORDER BY s.number)",
        )
    }
}

/// Whatever a test did: each next hop knows how much waits for it, and of no older message; and all is in order, by
/// whatever `verify` knows of.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.queue.close();
        let wrong = self.sql(
            "SELECT ifnull(group_concat(h.name || ': ' || h.waiting || ' since ' || ifnull(h.oldest, 'never')), '') \
             FROM next_hop h LEFT JOIN (SELECT hop, count(*) AS waiting, min(message) AS oldest FROM recipient \
               WHERE state = 2 AND list IS NULL GROUP BY hop) w ON w.hop = h.id \
             WHERE h.waiting <> ifnull(w.waiting, 0) OR w.waiting > 0 AND ifnull(h.oldest > w.oldest, 1)",
        );
        assert_eq!(wrong, "", "next hops that count wrongly");
        let verdict = verify(self.folder.path(), true).unwrap();
        assert!(verdict.is_in_order(), "{verdict:#?}");
    }
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

fn hop_of(path: &Mailbox) -> NextHop {
    NextHop::Domain(path.domain().to_owned())
}

/// A deputy of osesctl in this world, and what it makes until it is through; the bell rings for all of that.
fn deputize<'w>(
    world: &'w World,
    bell: &Bell,
    claim: impl Fn() -> Option<Claim> + Send + Sync + 'static,
) -> (Stand<'w>, Receiver<Claimed>) {
    let (made, for_us) = unbounded();
    let hand_out = move |claimed| made.send(claimed).is_err();
    (
        world
            .queue
            .stand_for_osesctl(bell.clone(), world.queue.now(), claim, hand_out),
        for_us,
    )
}

fn claim(handlers: &[usize], waiting_room: usize) -> Claim {
    Claim {
        handlers: handlers.to_vec(),
        lingering: HashMap::new(),
        waiting_room,
        waiting: HashSet::new(),
        busy: HashMap::new(),
        per_next_hop: 20,
        limits: HashMap::new(),
        spare: 100,
        silent: HashSet::new(),
        ripe: (0..100).map(HopId).collect(),
        terms: Terms {
            list_messages: 100,
            tokens: Arc::new(Unlimited),
            router: Arc::new(|path, pin| pin.cloned().unwrap_or_else(|| hop_of(path))),
        },
    }
}

fn said(code: u16, text: &str) -> Reply {
    Reply {
        code,
        enhanced: None,
        lines: vec![text.to_owned()],
    }
}

fn later() -> Outcome {
    Outcome::TryLater(Reason::here(EnhancedCode(4, 4, 1), "no answer"))
}

fn never() -> Outcome {
    Outcome::GiveUp(Reason::here(EnhancedCode(5, 1, 1), "no such user"))
}

fn delivered() -> Outcome {
    Outcome::Delivered(said(250, "ok"))
}

#[test]
fn a_message_goes_through_its_states_and_leaves_its_history() {
    let world = World::new();
    let id = world.put("a@example.org", &["b@lotus.com"]);
    assert_eq!(
        world.sql("SELECT state FROM inbound_work_queue"),
        "WQ_PENDING_CONVERSION"
    );
    world.convert();
    assert_eq!(
        world.sql("SELECT state FROM outbound_work_queue"),
        "WQ_PENDING_XMIT"
    );
    let lists = world.claim(&[0], 0);
    assert_eq!(
        world.sql("SELECT state || handler FROM outbound_work_queue"),
        "WQ_MSG_LOCKED_FOR_XMIT0"
    );
    let messages = world.queue.list_messages(lists[0].id).unwrap();
    assert_eq!(messages.iter().map(|m| m.id).collect::<Vec<_>>(), [id]);
    let mut content = String::new();
    world
        .queue
        .content(id)
        .unwrap()
        .read_to_string(&mut content)
        .unwrap();
    assert_eq!(content, "Subject: x\r\n\r\nbody\r\n");
    assert_eq!(world.settle(&lists[0], id, vec![(0, delivered())]).transmitted, 1);
    world.queue.end_list(lists[0].id).unwrap();
    assert_eq!(world.states(), "WQ_TRANSMITTED:1");
    assert_eq!(
        world.sql("SELECT count(*) FROM content"),
        "0",
        "the content goes with the last recipient"
    );
    assert_eq!(world.sql("SELECT count(*) FROM domain_lists"), "0");
    assert_eq!(
        world.sql("SELECT group_concat(event) FROM (SELECT event FROM history ORDER BY stamp)"),
        "accepted,converted,routed,listed,transmitted"
    );
}

#[test]
fn ten_messages_to_two_domains_make_two_lists_and_what_comes_later_makes_two_more() {
    let world = World::new();
    for n in 0..10 {
        world.put("a@example.org", &[["x@ibm.com", "x@lotus.com"][n % 2]]);
    }
    world.convert();
    let first = world.claim(&[0, 1], 10);
    assert_eq!(first.iter().map(|l| l.messages).collect::<Vec<_>>(), [5, 5]);
    for n in 0..6 {
        world.put("a@example.org", &[["x@iris.com", "x@lotus.com"][n % 2]]);
    }
    world.convert();
    let second = world.claim(&[], 10);
    assert_eq!(second.iter().map(|l| l.messages).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(world.states(), "WQ_PENDING_XMIT:6 WQ_MSG_LOCKED_FOR_XMIT:10");
    assert_eq!(
        world.sql("SELECT group_concat(state) FROM domain_lists"),
        "assigned,assigned,waiting,waiting"
    );
    world.queue.lock_list(second[0].id, 1).unwrap();
    assert_eq!(world.states(), "WQ_PENDING_XMIT:3 WQ_MSG_LOCKED_FOR_XMIT:13");
    assert!(
        world.claim(&[5], 10).is_empty(),
        "a list is frozen: nothing of it is listed again"
    );
}

#[test]
fn a_long_queue_becomes_lists_of_bounded_length_one_for_each_pass() {
    let world = World::new();
    for _ in 0..7 {
        world.put("a@example.org", &["x@lotus.com", "y@lotus.com"]);
    }
    world.convert();
    let mut lengths = Vec::new();
    loop {
        let lists = world
            .queue
            .claim(Claim {
                terms: Terms {
                    list_messages: 3,
                    tokens: Arc::new(Unlimited),
                    router: Arc::new(|path, _| hop_of(path)),
                },
                ..claim(&[0], 0)
            })
            .unwrap()
            .lists;
        let Some(list) = lists.first() else { break };
        lengths.push((list.messages, list.recipients));
    }
    assert_eq!(lengths, [(3, 6), (3, 6), (1, 2)]);
}

#[test]
fn a_next_hop_with_enough_sessions_gets_a_list_that_waits_and_no_second_one() {
    let world = World::new();
    world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let hop = world.claim(&[0], 0)[0].hop;
    world.put("a@example.org", &["x@lotus.com"]);
    world.put("a@example.org", &["x@ibm.com"]);
    world.convert();
    let busy = Claim {
        busy: HashMap::from([(hop, 1)]),
        per_next_hop: 1,
        ..claim(&[1, 2], 10)
    };
    let lists = world.queue.claim(busy.clone()).unwrap().lists;
    let by_name = |l: &DomainList| (l.next_hop.to_string(), l.handler);
    let mut named: Vec<_> = lists.iter().map(by_name).collect();
    named.sort();
    assert_eq!(
        named,
        [("ibm.com".to_owned(), Some(1)), ("lotus.com".to_owned(), None)]
    );
    world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let again = Claim {
        waiting: HashSet::from([hop]),
        ..busy
    };
    assert!(world.queue.claim(again).unwrap().lists.is_empty());
}

#[test]
fn each_recipient_is_settled_on_its_own() {
    let world = World::new();
    let id = world.put(
        "a@example.org",
        &["good@lotus.com", "late@lotus.com", "bad@lotus.com"],
    );
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    let outcomes = vec![(0, delivered()), (1, later()), (2, never())];
    let settled = world.settle(&list, id, outcomes);
    assert_eq!(
        settled,
        Settled {
            transmitted: 1,
            deferred: 1,
            given_up: 1,
            ..Settled::default()
        }
    );
    world.queue.end_list(list.id).unwrap();
    assert_eq!(
        world.states(),
        "WQ_PENDING_XMIT:1 WQ_PENDING_REPORT:1 WQ_TRANSMITTED:1"
    );
    assert!(world.claim(&[0], 0).is_empty(), "not before its time");
    let due = world.queue.next_due(world.queue.now()).unwrap().unwrap();
    let pause = due.since(world.queue.now());
    assert!(
        (5 * MINUTE..=5 * MINUTE + MINUTE / 2).contains(&pause),
        "{pause:?}"
    );
    world.clock.advance(pause);
    assert_eq!(world.claim(&[0], 0)[0].recipients, 1);
}

#[test]
fn the_report_and_the_end_of_the_recipient_are_one() {
    let world = World::new();
    let id = world.put("a@example.org", &["bad@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, id, vec![(0, never())]);
    world.queue.end_list(list.id).unwrap();
    let due = world.queue.awaiting_report(10).unwrap().remove(0);
    assert_eq!(
        (due.id, due.recipients[0].reason.status),
        (id, EnhancedCode(5, 1, 1))
    );
    let content = Content::from_bytes(b"a report".to_vec());
    let (report, to) = (world.queue.message_id(), [mailbox("a@example.org")]);
    let report = Arrival::new(report, Origin::Report, ReversePath(None), to, content);
    world
        .queue
        .report(
            vec![Notice {
                about: id,
                news: News::Ends {
                    failed: vec![0],
                    reached: Vec::new(),
                },
                telling: Telling::Report(Box::new(report)),
            }],
            None,
        )
        .unwrap();
    assert_eq!(world.states(), "WQ_PENDING_CONVERSION:1 WQ_FAILED:1");
    assert_eq!(
        world.sql("SELECT origin || ' ' || recipient FROM smtp_box"),
        "report a@example.org"
    );
    assert!(world.queue.awaiting_report(10).unwrap().is_empty());
}

/// The report of drt about these recipients, as a notice.
fn told(world: &World, about: MessageId, news: News) -> Notice {
    let content = Content::from_bytes(b"a report".to_vec());
    let (report, to) = (world.queue.message_id(), [mailbox("a@example.org")]);
    let report = Arrival::new(report, Origin::Report, ReversePath(None), to, content);
    let telling = Telling::Report(Box::new(report));
    Notice { about, news, telling }
}

#[test]
fn a_good_end_that_has_to_be_told_keeps_the_message_until_it_was_told() {
    let mut world = World::new();
    let asked = Some("SUCCESS,FAILURE");
    let to = [
        ("here@lotus.com", asked),
        ("there@lotus.com", asked),
        ("silent@lotus.com", None),
        ("never@lotus.com", Some("NEVER")),
    ];
    let id = world.put_asking("a@example.org", &to);
    let delivered_here = Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: vec![(0, Delivery::Delivered("mail/here".to_owned()))],
    };
    assert_eq!(world.queue.converted(vec![delivered_here]).unwrap(), 1);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    let outcomes = vec![(1, delivered()), (2, delivered()), (3, delivered())];
    let settled = world.settle(&list, id, outcomes);
    assert_eq!((settled.transmitted, settled.to_tell), (3, 1));
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.states(), "WQ_DELIVERED:1 WQ_TRANSMITTED:3");
    // A crash loses nothing of it.
    world.reopen();
    assert_eq!(
        world.sql("SELECT group_concat(recipient, ' ') FROM outbound_work_queue"),
        "here@lotus.com there@lotus.com"
    );
    assert_eq!(world.sql("SELECT count(*) FROM content"), "1");
    let due = world.queue.awaiting_success_report(10).unwrap().remove(0);
    let ends: Vec<_> = due
        .recipients
        .iter()
        .map(|r| (r.n, r.success.unwrap(), r.reason.reply.is_some()))
        .collect();
    assert_eq!(
        ends,
        [(0, Success::Delivered, false), (1, Success::Relayed, true)]
    );
    assert!(world.queue.awaiting_report(10).unwrap().is_empty());
    let notice = told(
        &world,
        id,
        News::Ends {
            failed: Vec::new(),
            reached: vec![0, 1],
        },
    );
    world.queue.report(vec![notice], None).unwrap();
    assert!(world.queue.awaiting_success_report(10).unwrap().is_empty());
    assert_eq!(
        world.sql(&format!(
            "SELECT left_at IS NOT NULL FROM message WHERE id = {}",
            id.0
        )),
        "1"
    );
    assert_eq!(
        world.sql("SELECT count(*) FROM history WHERE event = 'success notice'"),
        "2"
    );
    assert_eq!(world.sql("SELECT count(*) FROM smtp_box"), "1");
    // Told twice is not reported twice.
    let again = told(
        &world,
        id,
        News::Ends {
            failed: Vec::new(),
            reached: vec![0, 1],
        },
    );
    world.queue.report(vec![again], None).unwrap();
    assert_eq!(world.sql("SELECT count(*) FROM smtp_box"), "1");
}

#[test]
fn a_good_end_is_not_ours_to_tell_where_the_host_reports_or_nobody_can_be_told() {
    let world = World::new();
    let asked = [("x@lotus.com", Some("SUCCESS"))];
    let on = world.put_asking("a@example.org", &asked);
    let null = world.put_asking("", &asked);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    assert_eq!(world.settle(&list, null, vec![(0, delivered())]).to_tell, 0);
    let settlement = Settlement {
        list: list.id,
        id: on,
        null_sender: false,
        host: "mx.example[192.0.2.9]".to_owned(),
        tls: None,
        host_reports: true,
        is_delivery: false,
        outcomes: vec![(0, delivered())],
        retry: RetryPolicy {
            schedule: vec![MINUTE],
            expire: MINUTE,
        },
    };
    let settled = world.queue.settle(Arc::new(settlement)).wait().unwrap();
    assert_eq!((settled.transmitted, settled.to_tell), (1, 0));
    assert!(world.queue.awaiting_success_report(10).unwrap().is_empty());
    assert_eq!(
        world.sql("SELECT count(*) FROM message WHERE left_at IS NULL"),
        "0"
    );
}

#[test]
fn a_recipient_that_was_expanded_knows_what_the_client_named() {
    let world = World::new();
    let id = world.put("a@example.org", &["team@lotus.com", "x@ibm.com", "y@ibm.com"]);
    let db = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    db.execute("UPDATE recipient SET parent = 0 WHERE n = 2", [])
        .unwrap();
    world.convert();
    let mut named = Vec::new();
    for list in world.claim(&[0, 1], 0) {
        for recipient in world.queue.list_messages(list.id).unwrap().remove(0).recipients {
            named.push((recipient.n, recipient.expanded_from));
            world.settle(&list, id, vec![(recipient.n, never())]);
        }
    }
    named.sort_by_key(|(n, _)| *n);
    let team = || Some(mailbox("team@lotus.com"));
    assert_eq!(named, [(0, None), (1, None), (2, team())]);
    let due = world.queue.awaiting_report(10).unwrap().remove(0);
    let named: Vec<_> = due.recipients.into_iter().map(|r| r.expanded_from).collect();
    assert_eq!(named, [None, None, team()]);
    // It was named, after all.
    world.sql_run("UPDATE recipient SET parent = NULL");
}

#[test]
fn a_failure_that_nobody_wants_to_hear_of_ends_without_a_report() {
    let world = World::new();
    let id = world.put_asking("a@example.org", &[("x@lotus.com", Some("NEVER"))]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, id, vec![(0, never())]);
    world.queue.end_list(list.id).unwrap();
    let due = world.queue.awaiting_report(10).unwrap().remove(0);
    assert_eq!(due.recipients[0].notify, Some("NEVER".parse().unwrap()));
    let notice = Notice {
        about: id,
        news: News::Ends {
            failed: vec![0],
            reached: Vec::new(),
        },
        telling: Telling::Unwanted,
    };
    world.queue.report(vec![notice], None).unwrap();
    assert_eq!(world.states(), "WQ_FAILED:1");
    assert_eq!(
        world.sql("SELECT text FROM history WHERE event = 'failed'"),
        "no report wanted"
    );
    assert_eq!(world.sql("SELECT count(*) FROM content"), "0");
}

#[test]
fn a_damaged_sender_who_asked_for_success_keeps_nothing_waiting() {
    let world = World::new();
    let id = world.put_asking("a@example.org", &[("x@lotus.com", Some("SUCCESS"))]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    assert_eq!(world.settle(&list, id, vec![(0, delivered())]).to_tell, 1);
    world.queue.end_list(list.id).unwrap();
    let db = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    db.execute("UPDATE message SET reverse_path = 'no mailbox'", [])
        .unwrap();
    assert!(world.queue.awaiting_success_report(10).unwrap().is_empty());
    assert_eq!(world.sql("SELECT left_at IS NOT NULL FROM message"), "1");
}

#[test]
fn mail_from_the_null_path_is_never_reported_but_dead() {
    let world = World::new();
    let id = world.put("", &["bad@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, id, vec![(0, never())]);
    world.queue.end_list(list.id).unwrap();
    assert!(world.queue.awaiting_report(10).unwrap().is_empty());
    assert_eq!(
        world.sql("SELECT state || ' ' || reason FROM dead_mail"),
        "WQ_DEAD no such user"
    );
    assert_eq!(
        world.sql("SELECT count(*) FROM content"),
        "1",
        "it stays until an operator removes it"
    );
}

#[test]
fn the_time_of_a_message_ends_by_its_last_attempt_or_by_the_walk() {
    let world = World::new();
    let tried = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    world.clock.advance(60 * MINUTE);
    let list = world.claim(&[0], 0).remove(0);
    assert_eq!(world.settle(&list, tried, vec![(0, later())]).given_up, 1);
    world.queue.end_list(list.id).unwrap();
    world.put("a@example.org", &["x@ibm.com"]);
    world.convert();
    assert_eq!(world.expire(MINUTE), 0, "too young");
    world.clock.advance(2 * MINUTE);
    assert_eq!(world.expire(MINUTE), 1);
    assert_eq!(world.states(), "WQ_PENDING_REPORT:2");
    assert!(world.claim(&[0], 0).is_empty());
}

#[test]
fn a_delay_is_told_once_even_across_a_restart() {
    let mut world = World::new();
    let id = world.put("a@example.org", &["x@lotus.com"]);
    world.put("", &["x@lotus.com"]);
    world.convert();
    world.clock.advance(10 * MINUTE);
    let cutoff = world.queue.now().minus(5 * MINUTE);
    let (late, reached, _) = world.queue.delayed(cutoff).unwrap();
    assert_eq!(
        late.iter().map(|due| due.id).collect::<Vec<_>>(),
        [id],
        "nobody can be told of the other"
    );
    world.queue.report(Vec::new(), Some(reached)).unwrap();
    world.reopen();
    assert!(world.queue.delayed(cutoff).unwrap().0.is_empty());
}

#[test]
fn after_a_crash_what_was_locked_is_pending_again() {
    let world = World::new();
    world.put("a@example.org", &["x@lotus.com"]);
    world.put("a@example.org", &["x@ibm.com"]);
    world.convert();
    world.claim(&[0], 1);
    assert_eq!(world.states(), "WQ_PENDING_XMIT:1 WQ_MSG_LOCKED_FOR_XMIT:1");
    world.queue.recover().unwrap();
    assert_eq!(world.states(), "WQ_PENDING_XMIT:2");
    assert_eq!(world.claim(&[0, 1], 0).len(), 2);
}

#[test]
fn a_route_that_changed_moves_what_is_pending() {
    let world = World::new();
    world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let relay = NextHop::Host("relay.example".to_owned(), 25);
    let rerouted = relay.clone();
    let claim = Claim {
        terms: Terms {
            list_messages: 100,
            tokens: Arc::new(Unlimited),
            router: Arc::new(move |_, _| rerouted.clone()),
        },
        ..claim(&[0], 0)
    };
    assert!(
        world.queue.claim(claim.clone()).unwrap().lists.is_empty(),
        "the old next hop has nothing any more"
    );
    assert_eq!(world.queue.claim(claim).unwrap().lists[0].next_hop, relay);
}

#[test]
fn a_damaged_row_holds_its_message_and_the_others_flow() {
    let world = World::new();
    let bad = world.put("a@example.org", &["x@lotus.com"]);
    let worse = world.put("a@example.org", &["x@lotus.com"]);
    world.put("a@example.org", &["x@lotus.com"]);
    let db = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    db.execute(
        "UPDATE recipient SET path = CAST(x'ff40ff' AS TEXT) WHERE message = ?",
        [bad.0],
    )
    .unwrap();
    world.convert();
    db.execute(
        "UPDATE message SET reverse_path = 'no mailbox' WHERE id = ?",
        [worse.0],
    )
    .unwrap();
    let list = world.claim(&[0], 0).remove(0);
    assert_eq!(world.queue.list_messages(list.id).unwrap().len(), 1);
    assert_eq!(world.states(), "WQ_MSG_LOCKED_FOR_XMIT:1 WQ_HELD:2");
    assert_eq!(
        world.sql("SELECT count(*) FROM history WHERE event = 'held'"),
        "2"
    );
}

#[test]
fn a_message_whose_work_fails_fails_nobody_else_in_its_group() {
    let world = World::new();
    let id = world.put("a@example.org", &["x@lotus.com"]);
    let queue = world.queue.clone();
    let outcomes: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|n| {
                let queue = queue.clone();
                scope.spawn(move || {
                    let id = if n % 5 == 0 { id } else { queue.message_id() };
                    let content = Content::from_bytes(b"x\r\n".to_vec());
                    let to = [mailbox("x@lotus.com")];
                    let arrival = Arrival::new(id, Origin::Session, ReversePath(None), to, content);
                    queue.put(arrival).is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(
        outcomes.iter().filter(|stored| **stored).count(),
        16,
        "four have an ID that is taken"
    );
    assert_eq!(world.sql("SELECT count(*) FROM message"), "17");
}

#[test]
fn a_second_mta_is_kept_off_the_spool() {
    let world = World::new();
    let error = WorkQueue::open(world.folder.path(), Clock::System).unwrap_err();
    assert!(matches!(error, QueueError::InUse { .. }));
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
}

#[test]
fn housekeeping_forgets_what_left_long_ago_and_sweeps_up_files_without_a_row() {
    let world = World::new();
    let id = world.put("a@example.org", &["x@lotus.com"]);
    world.put("a@example.org", &["x@ibm.com"]);
    world.convert();
    let lists = world.claim(&[0, 1], 0);
    let list = lists
        .iter()
        .find(|l| l.next_hop.to_string() == "lotus.com")
        .unwrap();
    world.settle(list, id, vec![(0, delivered())]);
    world.clock.advance(30 * MINUTE);
    assert_eq!(world.queue.forget(60 * MINUTE).unwrap().messages, 0);
    world.clock.advance(31 * MINUTE);
    assert_eq!(world.queue.forget(60 * MINUTE).unwrap().messages, 1);
    assert_eq!(
        world.sql("SELECT count(*) FROM message"),
        "1",
        "what is in the queue stays"
    );
    assert_eq!(
        world.sql(&format!("SELECT count(*) FROM event WHERE message = {}", id.0)),
        "0"
    );
    let orphan = world
        .folder
        .path()
        .join("content")
        .join(world.queue.message_id().to_string());
    std::fs::write(&orphan, b"x").unwrap();
    // And where a crash left one half written.
    let first = world.queue.message_id();
    let nursery = world.folder.path().join(format!("content/new-{first}"));
    std::fs::create_dir(&nursery).unwrap();
    for id in [first, world.queue.message_id()] {
        std::fs::write(nursery.join(id.to_string()), b"x").unwrap();
    }
    assert_eq!(world.queue.sweep(first).unwrap().removed, 1, "it may be at work");
    assert!(!orphan.exists() && nursery.exists());
    assert_eq!(world.queue.sweep(world.queue.message_id()).unwrap().removed, 2);
    assert!(!nursery.exists());
}

#[test]
fn who_brought_a_message_and_what_it_asked_for_is_kept_and_shown() {
    let world = World::new();
    let id = world.queue.message_id();
    let content = Content::from_bytes(b"x\r\n".to_vec());
    let plain = Addressee::from(mailbox("plain@lotus.com"));
    let asking = Addressee {
        notify: Some("SUCCESS,DELAY".parse().unwrap()),
        original: Some("rfc822;first+2Bname@lotus.com".parse().unwrap()),
        ..Addressee::from(mailbox("b@lotus.com"))
    };
    let never = Addressee {
        notify: Some("NEVER".parse().unwrap()),
        ..Addressee::from(mailbox("c@lotus.com"))
    };
    let from = ReversePath(Some(mailbox("a@example.org")));
    let arrival = Arrival {
        login: Some("a@example.org".to_owned()),
        tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384".to_owned()),
        envelope_id: Some("QQ31".parse().unwrap()),
        ret: Some("HDRS".parse().unwrap()),
        body: Some(crate::smtp::command::Body::BinaryMime),
        utf8: true,
        ..Arrival::new(id, Origin::Session, from, [plain, asking, never], content)
    };
    world.queue.put(arrival).unwrap();
    let columns = "SELECT envid || ' ' || ret || ' ' || body || ' ' || utf8 FROM message";
    assert_eq!(world.sql(columns), "QQ31 HDRS 3 1");
    let notify = "SELECT group_concat(ifnull(notify, '-'), ' ') FROM \
                  (SELECT notify FROM inbound_work_queue ORDER BY n)";
    assert_eq!(world.sql(notify), "- SUCCESS,DELAY NEVER");
    assert_eq!(
        world.sql("SELECT group_concat(orcpt) FROM recipient"),
        "rfc822;first+2Bname@lotus.com"
    );
    assert_eq!(
        world.sql("SELECT DISTINCT login || ' ' || tls FROM inbound_work_queue"),
        "a@example.org TLSv1.3 TLS_AES_256_GCM_SHA384"
    );
    let story = world.sql("SELECT text FROM history");
    assert!(
        story.ends_with(" login=a@example.org tls=TLSv1.3 TLS_AES_256_GCM_SHA384"),
        "{story}"
    );
}

/// The spool of an earlier version whose MTA crashed.
fn spool_of(dump: &str, file: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(folder.path().join("queue.db")).unwrap();
    db.execute_batch(dump).unwrap();
    let content = folder.path().join(super::folder::FOLDER);
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join(file), [b'x'; 72_016]).unwrap();
    let clock = Clock::manual(Stamp(1_000_000_000_000_000));
    let queue = WorkQueue::open(folder.path(), clock.clone()).unwrap();
    World { folder, queue, clock }
}

#[test]
fn a_spool_of_version_1_is_taken_over_with_all_that_waits_in_it() {
    let dump = include_str!("../../tests/fixtures/queue-v1.sql");
    let world = spool_of(dump, "00038D7EA4C6803C");
    assert_eq!(
        world.states(),
        "WQ_PENDING_CONVERSION:3 WQ_PENDING_XMIT:4 WQ_PENDING_REPORT:1 WQ_HELD:1 WQ_DEAD:1 \
         WQ_TRANSMITTED:2 WQ_FAILED:1"
    );
    what_waits_goes_out(&world);
    assert_eq!(
        world.states(),
        "WQ_PENDING_REPORT:1 WQ_HELD:1 WQ_DEAD:1 WQ_TRANSMITTED:10 WQ_FAILED:1"
    );
}

#[test]
fn a_spool_of_version_2_is_taken_over_with_all_that_waits_in_it() {
    let dump = include_str!("../../tests/fixtures/queue-v2.sql");
    let world = spool_of(dump, "00038D7EA4C6803E");
    assert_eq!(
        world.states(),
        "WQ_PENDING_CONVERSION:3 WQ_PENDING_XMIT:4 WQ_PENDING_REPORT:1 WQ_HELD:1 WQ_DEAD:1 \
         WQ_TRANSMITTED:3 WQ_FAILED:1"
    );
    let told = world.queue.awaiting_success_report(10).unwrap();
    assert_eq!(told[0].recipients[0].path.to_string(), "told@lotus.com");
    what_waits_goes_out(&world);
    assert_eq!(
        world.states(),
        "WQ_PENDING_REPORT:1 WQ_HELD:1 WQ_DEAD:1 WQ_TRANSMITTED:11 WQ_FAILED:1"
    );
}

#[test]
fn a_spool_of_version_3_is_taken_over_with_all_that_waits_in_it() {
    three_and_later(include_str!("../../tests/fixtures/queue-v3.sql"));
}

#[test]
fn a_spool_of_version_4_is_taken_over_with_all_that_waits_in_it() {
    three_and_later(include_str!("../../tests/fixtures/queue-v4.sql"));
}

/// What is in both.
fn three_and_later(dump: &str) {
    let world = spool_of(dump, "00038D7EA4C6803E");
    assert_eq!(
        world.states(),
        "WQ_PENDING_CONVERSION:3 WQ_PENDING_XMIT:5 WQ_PENDING_REPORT:1 WQ_HELD:1 WQ_DEAD:1 \
         WQ_TRANSMITTED:3 WQ_FAILED:1"
    );
    let (rows, hops) = world.queue.queue_rows(10).unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.next_hop.as_str(),
                row.recipients,
                row.failures,
                row.oldest.0 % 1000,
            )
        })
        .collect();
    // The lists were taken apart at the start.
    let waiting = [
        ("ibm.com", 1, 0, 2),
        ("example.org", 1, 0, 55),
        ("dec.com", 1, 0, 60),
        ("lotus.com", 1, 0, 62),
        ("univac.com", 1, 1, 82),
    ];
    assert_eq!((rows.as_slice(), hops), (&waiting[..], 5));
    what_waits_goes_out(&world);
    assert_eq!(
        world.states(),
        "WQ_PENDING_REPORT:1 WQ_HELD:1 WQ_DEAD:1 WQ_TRANSMITTED:12 WQ_FAILED:1"
    );
    assert_eq!(
        world.sql("SELECT count(*) FROM next_hops WHERE failures > 0"),
        "0"
    );
}

/// What waits in the spool of an earlier version, and what is new, is delivered.
fn what_waits_goes_out(world: &World) {
    world.clock.advance(6 * MINUTE);
    world.convert();
    let new = world.put("ann@example.org", &["later@lotus.com"]);
    assert!(world.sql("SELECT max(id) FROM message") == new.0.to_string());
    world.convert();
    for list in world.claim(&[0, 1, 2, 3, 4], 0) {
        for message in world.queue.list_messages(list.id).unwrap() {
            let mut content = Vec::new();
            let mut reader = world.queue.content(message.id).unwrap();
            reader.read_to_end(&mut content).unwrap();
            assert_eq!(content.len() as u64, message.size);
            let outcomes = message.recipients.iter().map(|r| (r.n, delivered()));
            world.settle(&list, message.id, outcomes.collect());
        }
        world.queue.end_list(list.id).unwrap();
    }
    let due = world.queue.awaiting_report(10).unwrap();
    assert_eq!(due[0].recipients[0].path.to_string(), "bad@ibm.com");
}
