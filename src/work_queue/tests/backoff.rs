//! A next hop that does not answer waits as a whole, and what is too old comes to its end whatever it waits for.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl World {
    fn policy() -> RetryPolicy {
        RetryPolicy {
            schedule: vec![5 * MINUTE, 15 * MINUTE],
            expire: 5 * DAY,
        }
    }

    /// As a handler does for whose list no host answered.
    fn silent(&self, list: &DomainList) {
        let silence = Silence {
            list: list.id,
            host: "mx.lotus.com[192.0.2.1]".to_owned(),
            reason: Reason::here(EnhancedCode(4, 4, 1), "cannot connect"),
            retry: World::policy(),
        };
        self.queue.back_off(&silence).unwrap();
        self.queue.end_list(list.id).unwrap();
    }

    /// `many` messages for lotus.com, ready to go.
    fn fill(&self, many: usize) {
        for _ in 0..many {
            self.put("a@example.org", &["x@lotus.com"]);
        }
        self.convert();
    }

    fn hop(&self, column: &str) -> String {
        self.sql(&format!(
            "SELECT ifnull({column}, '-') FROM next_hop WHERE name = 'lotus.com'"
        ))
    }

    pub(super) fn reopen(&mut self) {
        self.queue.close();
        let other = tempfile::tempdir().unwrap();
        let parked = WorkQueue::open(other.path(), self.clock.clone()).unwrap();
        drop(std::mem::replace(&mut self.queue, parked));
        self.queue = WorkQueue::open(self.folder.path(), self.clock.clone()).unwrap();
    }
}

#[test]
fn a_next_hop_that_does_not_answer_gets_one_message_an_interval_until_it_does() {
    let mut world = World::new();
    world.fill(300);
    let list = world.claim(&[0], 0).remove(0);
    assert_eq!(list.messages, 100);
    world.silent(&list);
    assert_eq!(world.states(), "WQ_PENDING_XMIT:300");
    assert_eq!(world.hop("failures"), "1");
    assert!(world.claim(&[0, 1], 10).is_empty());
    world.fill(1);
    assert!(world.claim(&[0, 1], 10).is_empty(), "what is new waits, too");

    // A restart changes nothing.
    world.clock.advance(4 * MINUTE);
    world.reopen();
    assert!(world.claim(&[0, 1], 10).is_empty());
    world.clock.advance(2 * MINUTE);
    let probe = world.claim(&[0, 1], 10);
    assert_eq!(probe.iter().map(|l| l.messages).collect::<Vec<_>>(), [1]);
    assert!(world.claim(&[1], 10).is_empty(), "one probe at a time");
    let probe = &probe[0];
    let first = world.queue.list_messages(probe.id).unwrap()[0].id;
    world.silent(probe);
    assert_eq!(world.hop("failures"), "2");
    world.clock.advance(14 * MINUTE);
    assert!(world.claim(&[0], 10).is_empty());

    // The next probe is another message, and any answer lets everything go.
    world.clock.advance(3 * MINUTE);
    let probe = world.claim(&[0], 10).remove(0);
    let second = world.queue.list_messages(probe.id).unwrap()[0].id;
    assert_ne!(first, second);
    let refused = Outcome::GiveUp(Reason {
        reply: Some(said(550, "no")),
        ..Reason::here(EnhancedCode(5, 1, 1), "550 no")
    });
    assert!(world.settle(&probe, second, vec![(0, refused)]).released);
    assert_eq!(
        (world.hop("failures"), world.hop("retry_at")),
        ("0".into(), "-".into())
    );
    let released: Vec<_> = (0..4)
        .flat_map(|_| world.claim(&[0], 0))
        .map(|l| l.messages)
        .collect();
    assert_eq!(released, [100, 100, 100]);
}

#[test]
fn the_rows_that_wait_are_not_touched_and_those_that_were_tried_say_why_they_wait() {
    let world = World::new();
    world.fill(101);
    let list = world.claim(&[0], 0).remove(0);
    world.silent(&list);
    assert_eq!(
        world.sql("SELECT count(*) || ' ' || max(attempts) FROM recipient WHERE attempted_at IS NOT NULL"),
        "100 1"
    );
    let story = world.sql("SELECT text FROM history WHERE event = 'deferred' LIMIT 1");
    assert!(
        story.starts_with("cannot connect; waits with all mail for its next hop, next probe "),
        "{story}"
    );
    // What people see of all of them: the next hop's error, and when its probe is due.
    assert_eq!(
        world.sql("SELECT count(*) || ' ' || last_status || ' ' || last_error FROM outbound_work_queue"),
        "101 4.4.1 cannot connect"
    );
    let columns = "SELECT failures || ' ' || (next_probe = next_attempt) || ' ' || last_error || \
                   (down_since IS NOT NULL) FROM next_hops";
    assert_eq!(world.sql(columns), "1 1 cannot connect1");
    let same = "SELECT count(DISTINCT next_attempt) || ' ' || (next_attempt = \
                (SELECT next_probe FROM next_hops)) FROM outbound_work_queue";
    assert_eq!(world.sql(same), "1 1");
}

#[test]
fn sessions_that_fail_side_by_side_count_once() {
    let world = World::new();
    world.fill(250);
    let lists: Vec<_> = (0..3).flat_map(|n| world.claim(&[n], 0)).collect();
    assert_eq!(lists.len(), 3);
    for list in &lists {
        world.silent(list);
    }
    assert_eq!(world.hop("failures"), "1");
    assert!(world.claim(&[0], 10).is_empty());
}

#[test]
fn a_session_that_began_before_the_failure_and_ends_after_the_answer_is_no_news() {
    let world = World::new();
    world.fill(300);
    let lists: Vec<_> = (0..3).flat_map(|n| world.claim(&[n], 0)).collect();
    world.silent(&lists[0]);
    assert_eq!(world.hop("failures"), "1");
    let id = world.queue.list_messages(lists[1].id).unwrap()[0].id;
    assert!(world.settle(&lists[1], id, vec![(0, delivered())]).released);
    world.silent(&lists[2]);
    assert_eq!(world.hop("failures"), "0");
    // What was on it goes its own way, and what the failure had kept goes at once.
    assert_eq!(world.claim(&[0], 0)[0].messages, 100);
    assert!(world.claim(&[0], 0).is_empty());
}

#[test]
fn a_probe_whose_message_was_lost_on_the_wire_is_a_failure_but_a_message_alone_is_not() {
    let world = World::new();
    world.fill(1);
    let list = world.claim(&[0], 0).remove(0);
    let id = world.queue.list_messages(list.id).unwrap()[0].id;
    world.settle(&list, id, vec![(0, later())]);
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.hop("failures"), "0", "it may be the message's fault");

    world.fill(2);
    let list = world.claim(&[0], 0).remove(0);
    world.silent(&list);
    world.clock.advance(5 * MINUTE + MINUTE / 2);
    let probe = world.claim(&[0], 0).remove(0);
    let id = world.queue.list_messages(probe.id).unwrap()[0].id;
    assert!(!world.settle(&probe, id, vec![(0, later())]).released);
    world.queue.end_list(probe.id).unwrap();
    assert_eq!(world.hop("failures"), "2");
    assert!(world.claim(&[0], 0).is_empty());
}

#[test]
fn another_next_hop_is_not_held_up() {
    let world = World::new();
    world.fill(200);
    let list = world.claim(&[0], 0).remove(0);
    world.silent(&list);
    world.put("a@example.org", &["x@ibm.com"]);
    world.convert();
    let lists = world.claim(&[0], 0);
    assert_eq!(
        lists.iter().map(|l| l.next_hop.to_string()).collect::<Vec<_>>(),
        ["ibm.com"]
    );
}

#[test]
fn what_waits_for_a_next_hop_that_is_down_expires_message_by_message_with_its_error() {
    let world = World::new();
    let old = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.silent(&list);
    world.clock.advance(5 * DAY);
    let new = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    assert_eq!(world.expire(5 * DAY), 1);
    let due = world.queue.awaiting_report(10).unwrap().remove(0);
    let recipient = &due.recipients[0];
    assert_eq!((due.id, recipient.reason.status), (old, EnhancedCode(5, 4, 7)));
    assert_eq!(
        recipient.reason.text,
        "the message could not be delivered in time; its next hop does not answer: cannot connect"
    );
    assert_eq!(recipient.last_attempt, Some(old.arrived()));
    // The new one lives, although its host has been down for days.
    let probe = world.claim(&[0], 0).remove(0);
    assert_eq!(world.queue.list_messages(probe.id).unwrap()[0].id, new);
    world.silent(&probe);
    assert_eq!(
        world.sql(&format!("SELECT state FROM recipient WHERE message = {}", new.0)),
        "2"
    );
}

#[test]
fn what_is_in_hand_ends_with_that_and_holds_the_walk_up_until_nobody_can_have_it_any_more() {
    let world = World::new();
    let first = world.put("a@example.org", &["x@lotus.com"]);
    world.put("a@example.org", &["x@ibm.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.put("a@example.org", &["x@iris.com"]);
    world.clock.advance(2 * MINUTE);
    assert_eq!(world.expire(MINUTE), 1, "the one that only waits");
    assert_eq!(
        world.states(),
        "WQ_PENDING_CONVERSION:1 WQ_MSG_LOCKED_FOR_XMIT:1 WQ_PENDING_REPORT:1"
    );
    assert_eq!(world.expire(MINUTE), 0);
    // Its attempt ends without an end for it: now it is too late.
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.expire(MINUTE), 1);
    assert_eq!(
        world.sql(&format!(
            "SELECT last_status FROM recipient WHERE message = {}",
            first.0
        )),
        "5.4.7"
    );
    world.clock.advance(DAY);
    assert_eq!(world.expire(MINUTE), 1, "no conversion takes a day");
    assert_eq!(world.states(), "WQ_PENDING_REPORT:3");
    assert!(
        world
            .queue
            .waiting_inbound(world.queue.now(), 10)
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        world.sql("SELECT count(*) FROM message WHERE inbound_due IS NOT NULL"),
        "0"
    );
}

#[test]
fn a_row_that_is_locked_far_longer_than_its_time_does_not_escape() {
    let world = World::new();
    world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.clock.advance(DAY);
    assert_eq!(world.expire(MINUTE), 0);
    world.clock.advance(2 * MINUTE);
    assert_eq!(world.expire(MINUTE), 1);
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.states(), "WQ_PENDING_REPORT:1");
}

#[test]
fn a_list_that_a_handler_has_is_found_and_one_that_waits_is_not() {
    let world = World::new();
    world.put("a@example.org", &["x@lotus.com", "x@ibm.com"]);
    world.convert();
    let lists = world.claim(&[0], 1);
    assert_eq!(lists.len(), 2);
    assert_eq!(world.queue.lists_in_hand().unwrap(), [lists[0].id]);
    world.queue.end_list(lists[0].id).unwrap();
    assert!(world.queue.lists_in_hand().unwrap().is_empty());
}

#[test]
fn what_is_held_is_late_too_and_expires_with_a_report() {
    let world = World::new();
    let id = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world
        .queue
        .hold_listed(list.id, id, "its content is cut")
        .unwrap();
    world.queue.end_list(list.id).unwrap();
    world.clock.advance(2 * MINUTE);
    let (late, ..) = world.queue.delayed(world.queue.now().minus(MINUTE)).unwrap();
    assert_eq!(
        (late[0].id, late[0].recipients[0].state),
        (id, states::State::Held)
    );
    assert_eq!(world.expire(MINUTE), 1);
    let due = world.queue.awaiting_report(10).unwrap().remove(0);
    assert_eq!(
        due.recipients[0].reason.text,
        "the message could not be delivered in time; it has been put aside: its content is cut"
    );
}

#[test]
fn a_sender_whose_mail_waits_for_a_next_hop_that_is_down_is_told_what_that_met() {
    let world = World::new();
    world.fill(1);
    world.silent(&world.claim(&[0], 0)[0]);
    let waits = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    world.clock.advance(2 * MINUTE);
    let (late, ..) = world.queue.delayed(world.queue.now().minus(MINUTE)).unwrap();
    let told = |due: &Due| {
        let recipient = &due.recipients[0];
        let reason = &recipient.reason;
        (
            recipient.host.clone(),
            reason.status,
            reason.text.clone(),
            recipient.last_attempt.is_some(),
        )
    };
    let (status, text) = (EnhancedCode(4, 4, 1), "cannot connect".to_owned());
    assert_eq!(
        told(&late[0]),
        ("mx.lotus.com[192.0.2.1]".to_owned(), status, text.clone(), true)
    );
    // It has not been tried itself, and no host is named that may have been another.
    assert_eq!(
        (late[1].id, told(&late[1])),
        (waits, (String::new(), status, text, false))
    );
}

#[test]
fn a_locked_recipient_is_late_too() {
    let world = World::new();
    let id = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    world.claim(&[0], 0);
    world.clock.advance(2 * MINUTE);
    let (late, ..) = world.queue.delayed(world.queue.now().minus(MINUTE)).unwrap();
    assert_eq!(late.iter().map(|due| due.id).collect::<Vec<_>>(), [id]);
}

#[test]
fn an_operator_makes_what_waits_for_a_next_hop_due_and_history_says_who() {
    let world = World::new();
    world.fill(1001);
    let list = world.claim(&[0], 0).remove(0);
    world.silent(&list);
    let other = world.put("a@example.org", &["x@ibm.com", "y@ibm.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, other, vec![(0, later()), (1, later())]);
    world.queue.end_list(list.id).unwrap();
    assert!(world.claim(&[0], 0).is_empty());

    world.sql_run("INSERT INTO next_hop (name, used_at) VALUES ('[IPv6:::1]', 0), ('mail.example:25', 0)");
    let hops = |name: &str| Retry::Hops(vec![name.to_owned()]);
    for name in ["[ipv6:::1]", "mail.example"] {
        assert_eq!(world.queue.hops_to_retry(&hops(name)).unwrap().len(), 1, "{name}");
    }
    assert_eq!(world.queue.retry(&hops("nobody.example"), "root").unwrap(), 0);
    assert_eq!(world.queue.retry(&hops("lotus.com"), "root").unwrap(), 1001);
    assert_eq!(world.hop("failures"), "0");
    assert_eq!(
        world.sql("SELECT count(*) || ' ' || text FROM history WHERE event = 'retried'"),
        "1001 due now, by root"
    );
    assert_eq!(world.claim(&[0], 0)[0].messages, 100);
    assert_eq!(
        world.queue.retry(&Retry::Messages(vec![other]), "ann").unwrap(),
        1
    );
    let lists = world.claim(&[1, 2], 0);
    let names: Vec<_> = lists.iter().map(|list| list.next_hop.to_string()).collect();
    assert_eq!(names, ["ibm.com", "lotus.com"]);
}

#[test]
fn everything_that_waits_can_be_made_due_at_once() {
    let world = World::new();
    world.fill(3);
    world.silent(&world.claim(&[0], 0)[0]);
    let greylisted = world.put("a@example.org", &["x@ibm.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, greylisted, vec![(0, later())]);
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.queue.retry(&Retry::Everything, "root").unwrap(), 4);
    assert_eq!(world.claim(&[0, 1], 0).len(), 2);
}

#[test]
fn a_message_that_is_retried_by_hand_is_the_next_probe_of_its_next_hop() {
    let world = World::new();
    world.fill(10);
    let last = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    world.silent(&world.claim(&[0], 0)[0]);
    assert_eq!(
        world.queue.retry(&Retry::Messages(vec![last]), "root").unwrap(),
        1
    );
    let probe = world.claim(&[0], 0).remove(0);
    let ids: Vec<_> = world
        .queue
        .list_messages(probe.id)
        .unwrap()
        .iter()
        .map(|m| m.id)
        .collect();
    assert_eq!(ids, [last]);
    assert_eq!(world.hop("failures"), "1", "it backs off until it answers");
}
