//! The clock is set back and forward: nothing waits for longer, nothing comes to its end for it, and no moment is given
//! twice.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl World {
    fn set_back(&self, by: Duration) {
        self.clock.set(self.clock.now().minus(by));
    }

    fn set_forward(&self, by: Duration) {
        self.clock.set(self.clock.now().plus(by));
    }

    /// As the add-in task does it when it looks at the clock.
    fn follow(&self) -> Option<usize> {
        let by = self.queue.set_back()?;
        Some(self.queue.make_up_for(by).unwrap())
    }

    /// One message for lotus.com that has been put off for five minutes.
    fn put_off(&self) -> MessageId {
        let id = self.put("a@example.org", &["x@lotus.com"]);
        self.convert();
        self.put_off_again(id);
        id
    }

    fn put_off_again(&self, id: MessageId) {
        let list = self.claim(&[0], 0).remove(0);
        self.settle(&list, id, vec![(0, later())]);
        self.queue.end_list(list.id).unwrap();
    }

    fn stop_and_start(&mut self) {
        self.stop_and_start_after(|_| ());
    }

    /// The same; this happens to the clock meanwhile.
    fn stop_and_start_after(&mut self, happens: impl FnOnce(&Clock)) {
        self.queue.close();
        happens(&self.clock);
        let other = tempfile::tempdir().unwrap();
        let parked = WorkQueue::open(other.path(), self.clock.clone()).unwrap();
        drop(std::mem::replace(&mut self.queue, parked));
        self.queue = WorkQueue::open(self.folder.path(), self.clock.clone()).unwrap();
    }
}

#[test]
fn what_is_put_off_waits_no_longer_for_a_clock_that_was_set_back() {
    let world = World::new();
    world.put_off();
    world.set_back(DAY);
    assert_eq!(world.follow(), Some(1));
    assert!(world.claim(&[0], 0).is_empty(), "nor any shorter");
    world.clock.advance(4 * MINUTE);
    assert!(world.claim(&[0], 0).is_empty());
    world.clock.advance(2 * MINUTE);
    assert_eq!(world.claim(&[0], 0)[0].messages, 1);
    assert_eq!(world.follow(), None);
}

#[test]
fn what_was_due_and_not_yet_listed_is_due_still_in_its_order() {
    let world = World::new();
    let first = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    for _ in 0..250 {
        world.clock.advance(Duration::from_millis(1));
        world.put("a@example.org", &["x@lotus.com"]);
    }
    world.convert();
    world.set_back(DAY);
    assert!(world.claim(&[0], 0).is_empty(), "nobody has noticed yet");
    assert_eq!(world.follow(), Some(251));
    let list = world.claim(&[0], 0).remove(0);
    assert_eq!(list.messages, 100);
    assert_eq!(world.queue.list_messages(list.id).unwrap()[0].id, first);
    // And what comes next goes at once, although its ID is later than the clock.
    let next = world.put("a@example.org", &["x@ibm.com"]);
    assert!(next.arrived() > world.queue.now());
    assert_eq!(world.queue.arrival(next), world.queue.now());
    world.convert();
    let names = |list: &DomainList| list.next_hop.to_string();
    assert!(
        world
            .claim(&[1, 2], 0)
            .iter()
            .map(names)
            .any(|name| name == "ibm.com")
    );
}

#[test]
fn what_comes_after_a_clock_that_was_wrong_for_long_is_late_and_expires_at_its_time() {
    let world = World::new();
    // No message has come so far, and all walks have been made.
    let cutoff = world.queue.now().minus(4 * 60 * MINUTE);
    let (.., reached, _) = world.queue.delayed(cutoff).unwrap();
    world.queue.report(Vec::new(), Some(reached)).unwrap();
    assert_eq!(world.expire(5 * DAY), 0);
    world.set_back(30 * DAY);
    world.follow();
    let id = world.put_off();
    world.clock.advance(5 * 60 * MINUTE);
    let cutoff = world.queue.now().minus(4 * 60 * MINUTE);
    assert_eq!(world.queue.delayed(cutoff).unwrap().0[0].id, id);
    world.clock.advance(5 * DAY);
    assert_eq!(world.expire(5 * DAY), 1);
}

#[test]
fn a_clock_that_is_set_back_by_a_moment_is_waited_for() {
    let world = World::new();
    world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    world.set_back(MINUTE / 2);
    assert_eq!(world.follow(), None);
    assert!(world.claim(&[0], 0).is_empty());
    world.clock.advance(MINUTE / 2);
    assert_eq!(world.claim(&[0], 0).len(), 1);
}

#[test]
fn a_next_hop_that_backs_off_gets_its_probe_when_it_would_have_got_it() {
    let world = World::new();
    world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    let silence = Silence {
        list: list.id,
        host: String::new(),
        reason: Reason::here(EnhancedCode(4, 4, 1), "cannot connect"),
        retry: RetryPolicy {
            schedule: vec![5 * MINUTE],
            expire: 5 * DAY,
        },
    };
    world.queue.back_off(&silence).unwrap();
    world.queue.end_list(list.id).unwrap();
    world.set_back(DAY);
    world.follow();
    world.clock.advance(4 * MINUTE);
    assert!(world.claim(&[0], 0).is_empty());
    world.clock.advance(2 * MINUTE);
    assert_eq!(world.claim(&[0], 0).len(), 1);
}

#[test]
fn a_conversion_that_was_put_off_waits_no_longer_either() {
    let world = World::new();
    let (inbound, in_box) = (
        world.put("a@example.org", &["x@example.org"]),
        world.put("a@example.org", &["x@lotus.com"]),
    );
    let full = || Reason::here(EnhancedCode(4, 2, 2), "the disk is full");
    let due = world.queue.now().plus(5 * MINUTE);
    let converted = |id, delivery| Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: vec![(0, delivery)],
    };
    world
        .queue
        .converted(vec![
            converted(inbound, Delivery::Later(full(), due)),
            converted(in_box, Delivery::PassOn),
        ])
        .unwrap();
    let routed = Routed {
        id: in_box,
        structure: None,
        content: None,
        ways: vec![(0, Way::Later(full(), due))],
        null_sender: false,
    };
    world.queue.routed(vec![routed]).unwrap();
    world.set_back(DAY);
    assert_eq!(world.follow(), Some(2));
    let waiting = || {
        let now = world.queue.now();
        let inbound = world.queue.waiting_inbound(now, 10).unwrap().len();
        (inbound, world.queue.waiting_in_box(now, 10).unwrap().len())
    };
    world.clock.advance(4 * MINUTE);
    assert_eq!(waiting(), (0, 0));
    world.clock.advance(MINUTE);
    assert_eq!(waiting(), (1, 1));
}

#[test]
fn what_was_put_off_waits_no_longer_either_beside_another_recipient_that_is_due() {
    let world = World::new();
    let id = world.put("a@example.org", &["x@example.org", "y@example.org"]);
    let full = Reason::here(EnhancedCode(4, 2, 2), "the disk is full");
    let converted = |n, delivery| Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: vec![(n, delivery)],
    };
    let due = world.queue.now().plus(5 * MINUTE);
    let put_off = converted(0, Delivery::Later(full, due));
    world.queue.converted(vec![put_off]).unwrap();
    world.set_back(DAY);
    assert_eq!(world.follow(), Some(1));
    let delivered = converted(1, Delivery::Delivered("in a mailbox".to_owned()));
    world.queue.converted(vec![delivered]).unwrap();
    world.clock.advance(5 * MINUTE);
    let waiting = world.queue.waiting_inbound(world.queue.now(), 10).unwrap();
    assert_eq!(waiting[0].recipients[0].n, 0);
}

#[test]
fn what_was_in_hand_when_the_clock_was_set_back_is_due_when_it_is_released() {
    let world = World::new();
    world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.set_back(DAY);
    world.follow();
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.claim(&[0], 0).len(), 1);
}

#[test]
fn a_pass_that_is_left_with_the_writer_lists_only_what_is_due_by_the_clock() {
    let world = World::new();
    // Stamps go on rising: by them a day is over already.
    let last = world.queue.message_id();
    world.set_back(DAY);
    assert!(world.put_off() > last);
    let bell = Bell::default();
    let (deputy, made) = deputize(&world, &bell, || Some(claim(&[0, 1], 0)));
    world.put("a@example.org", &["x@ibm.com"]);
    world.convert_and_kick(&bell);
    drop(deputy);
    let lists = made.recv().unwrap().lists;
    let names: Vec<_> = lists.iter().map(|list| list.next_hop.to_string()).collect();
    assert_eq!(
        names,
        ["ibm.com"],
        "what has just failed is not tried again at once"
    );
}

#[test]
fn a_clock_that_is_wrong_for_a_minute_costs_one_attempt_and_no_message() {
    let world = World::new();
    let id = world.put_off();
    world.set_forward(10 * DAY);
    // All that waits is due, and is tried; its time, an hour, seems to be over.
    let list = world.claim(&[0], 0).remove(0);
    let settled = world.settle(&list, id, vec![(0, later())]);
    world.queue.end_list(list.id).unwrap();
    assert_eq!((settled.deferred, settled.given_up), (1, 0));
    assert!(world.claim(&[0], 0).is_empty(), "it is not tried again and again");
    assert_eq!(world.expire(60 * MINUTE), 0);
    let (late, ..) = world
        .queue
        .delayed(world.queue.moment().certain.minus(4 * MINUTE))
        .unwrap();
    assert!(late.is_empty(), "nobody is told that it is late");
    world.clock.advance(MINUTE);

    world.set_back(10 * DAY);
    assert_eq!(world.follow(), Some(1));
    assert!(world.claim(&[0], 0).is_empty());
    assert_eq!(world.expire(60 * MINUTE), 0);
    world.clock.advance(5 * MINUTE);
    world.put_off_again(id);
    assert_eq!(world.states(), "WQ_PENDING_XMIT:1");
    assert_eq!(world.sql("SELECT attempts FROM outbound_work_queue"), "3");
    // Its hour ends when it would have ended.
    world.clock.advance(60 * MINUTE);
    assert_eq!(world.expire(60 * MINUTE), 1);
}

#[test]
fn a_clock_that_stays_set_forward_is_believed_after_an_hour() {
    let world = World::new();
    world.put_off();
    world.set_forward(10 * DAY);
    let expire = || world.expire(5 * DAY);
    assert_eq!(expire(), 0);
    world.clock.advance(59 * MINUTE);
    assert_eq!(expire(), 0);
    world.clock.advance(MINUTE);
    assert_eq!(expire(), 1);
}

#[test]
fn a_day_forward_ends_nothing_that_has_more_than_a_day_left() {
    let world = World::new();
    world.put_off();
    world.clock.advance(DAY);
    world.set_forward(DAY);
    assert_eq!(world.expire(5 * DAY), 0);
    world.clock.advance(2 * 60 * MINUTE);
    assert_eq!(world.expire(5 * DAY), 0);
}

#[test]
fn what_has_left_is_not_forgotten_for_a_clock_that_is_wrong() {
    let world = World::new();
    let id = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, id, vec![(0, delivered())]);
    world.queue.end_list(list.id).unwrap();
    world.set_forward(10 * DAY);
    assert_eq!(world.queue.forget(7 * DAY).unwrap().messages, 0);
    world.set_back(10 * DAY);
    assert_eq!(world.queue.forget(7 * DAY).unwrap().messages, 0);
    world.clock.advance(8 * DAY);
    assert_eq!(world.queue.forget(7 * DAY).unwrap().messages, 1);
}

#[test]
fn over_a_restart_ids_and_history_go_on_rising_and_what_waits_waits_no_longer() {
    let mut world = World::new();
    let first = world.put_off();
    world.stop_and_start();
    world.set_back(DAY);
    // Nobody has looked at the clock before the end.
    world.stop_and_start();
    let second = world.put("a@example.org", &["x@ibm.com"]);
    assert!(second > first);
    world.convert();
    let order = "SELECT group_concat(event) FROM (SELECT event FROM history ORDER BY stamp)";
    assert_eq!(
        world.sql(order),
        "accepted,converted,routed,listed,deferred,accepted,converted,routed"
    );
    assert_eq!(
        world.sql("SELECT count(*) = count(DISTINCT stamp) FROM event"),
        "1"
    );
    assert_eq!(world.follow(), Some(1));
    world.clock.advance(6 * MINUTE);
    assert_eq!(world.claim(&[0, 1], 0).len(), 2);
    // And over a second one nothing is made up for twice.
    world.stop_and_start();
    assert_eq!(world.follow(), None);
}

/// Another program has the queue locked: nothing can be written.
fn lock(world: &World) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[test]
fn what_can_not_be_made_up_for_while_the_queue_is_locked_is_made_up_for_as_soon_as_it_is_not() {
    let world = World::new();
    world.put_off();
    world.set_back(DAY);
    let by = world.queue.set_back().unwrap();
    let other = lock(&world);
    std::thread::scope(|scope| {
        let making_up = scope.spawn(|| world.queue.make_up_for(by));
        // Each of these is refused after a while, and so is what was handed in before.
        for _ in 0..2 {
            let refused = world.queue.store.write(|_| Ok(())).wait();
            assert!(matches!(refused, Err(QueueError::Locked)), "{refused:?}");
        }
        assert!(!making_up.is_finished());
        assert_eq!(world.queue.set_back(), Some(DAY));
        drop(other);
        assert_eq!(making_up.join().unwrap().unwrap(), 1);
    });
    assert_eq!(world.queue.set_back(), None);
    assert!(world.claim(&[0], 0).is_empty());
    world.clock.advance(6 * MINUTE);
    assert_eq!(world.claim(&[0], 0)[0].messages, 1);
}

#[test]
fn what_was_made_up_for_before_the_queue_refused_is_not_made_up_for_twice() {
    let world = World::new();
    for _ in 0..150 {
        world.put("a@example.org", &["x@lotus.com"]);
        world.clock.advance(Duration::from_millis(1));
    }
    world.convert();
    let due = world.queue.now().plus(30 * MINUTE);
    world.sql_run(&format!("UPDATE recipient SET next_attempt = {}", due.0));
    // Of the second hundred one can not be written.
    world.sql_run(
        "CREATE TRIGGER refuses BEFORE UPDATE ON recipient \
         WHEN old.message = (SELECT id FROM message ORDER BY id LIMIT 1 OFFSET 120) \
         BEGIN SELECT raise(ABORT, 'no'); END",
    );
    world.set_back(DAY);
    let by = world.queue.set_back().unwrap();
    let earlier = format!(
        "SELECT count(*) FROM recipient WHERE next_attempt = {}",
        due.minus(DAY).0
    );
    std::thread::scope(|scope| {
        let making_up = scope.spawn(|| world.queue.make_up_for(by));
        while world.sql(&earlier) != "100" {
            assert!(!making_up.is_finished());
            std::thread::yield_now();
        }
        // Time enough to be refused many times.
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(300) {
            world.queue.store.write(|_| Ok(())).wait().unwrap();
        }
        world.sql_run("DROP TRIGGER refuses");
        assert_eq!(making_up.join().unwrap().unwrap(), 150);
    });
    assert_eq!(world.sql(&earlier), "150");
    assert_eq!(world.queue.set_back(), None);
}

#[test]
fn what_was_not_made_up_for_before_the_end_is_made_up_for_at_the_next_start() {
    let mut world = World::new();
    world.put_off();
    world.set_back(DAY);
    assert_eq!(world.queue.set_back(), Some(DAY));
    world.stop_and_start();
    assert_eq!(world.follow(), Some(1));
    assert_eq!(world.queue.set_back(), None);
    world.clock.advance(6 * MINUTE);
    assert_eq!(world.claim(&[0], 0).len(), 1);
}

/// Nobody is told that anything is late.
fn nothing_is_late(world: &World) {
    let cutoff = world.queue.moment().certain.minus(4 * 60 * MINUTE);
    assert!(world.queue.delayed(cutoff).unwrap().0.is_empty());
}

#[test]
fn a_start_with_a_clock_that_is_far_ahead_ends_nothing_for_an_hour_and_mail_flows() {
    let mut world = World::new();
    world.put_off();
    world.stop_and_start_after(|clock| clock.set(clock.now().plus(10 * DAY)));
    let expire = |world: &World| world.expire(5 * DAY);
    assert_eq!(expire(&world), 0);
    nothing_is_late(&world);
    // What is due by the clock is tried, and what is new goes out.
    let new = world.put("a@example.org", &["x@ibm.com"]);
    world.convert();
    for list in world.claim(&[0, 1], 0) {
        let id = world.queue.list_messages(list.id).unwrap()[0].id;
        let outcome = if id == new { delivered() } else { later() };
        let settled = world.settle(&list, id, vec![(0, outcome)]);
        assert_eq!(settled.given_up, 0);
        world.queue.end_list(list.id).unwrap();
    }
    assert_eq!(world.states(), "WQ_PENDING_XMIT:1 WQ_TRANSMITTED:1");
    // Whoever starts again in that hour knows no better, and waits for an hour again.
    world.clock.advance(59 * MINUTE);
    assert_eq!(expire(&world), 0);
    world.stop_and_start();
    assert_eq!(expire(&world), 0);
    world.clock.advance(59 * MINUTE);
    assert_eq!(expire(&world), 0);
    nothing_is_late(&world);
    world.clock.advance(MINUTE);
    assert_eq!(expire(&world), 1);
}

#[test]
fn a_clock_that_was_far_ahead_at_the_start_and_is_put_right_has_ended_nothing() {
    let mut world = World::new();
    let id = world.put_off();
    world.stop_and_start_after(|clock| clock.set(clock.now().plus(10 * DAY)));
    world.put_off_again(id);
    world.clock.advance(30 * MINUTE);
    assert_eq!(world.expire(DAY), 0);
    world.set_back(10 * DAY);
    assert_eq!(world.follow(), Some(1));
    assert_eq!(world.expire(DAY), 0);
    nothing_is_late(&world);
    world.clock.advance(6 * MINUTE);
    assert_eq!(world.claim(&[0], 0).len(), 1);
}

#[test]
fn a_queue_that_was_closed_for_long_goes_on_at_once_and_ends_what_is_too_old_after_an_hour() {
    let mut world = World::new();
    world.put_off();
    world.stop_and_start_after(|clock| clock.advance(3 * DAY));
    let list = world.claim(&[0], 0).remove(0);
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.expire(2 * DAY), 0);
    world.clock.advance(60 * MINUTE);
    assert_eq!(world.expire(2 * DAY), 1);
}

#[test]
fn a_start_after_a_moment_doubts_nothing() {
    let mut world = World::new();
    world.put_off();
    world.clock.advance(3 * DAY);
    world.stop_and_start_after(|clock| clock.advance(MINUTE));
    assert_eq!(world.queue.moment(), Moment::from(world.clock.now()));
    assert_eq!(world.expire(2 * DAY), 1);
}
