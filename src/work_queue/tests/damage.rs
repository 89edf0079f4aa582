//! Values that nobody of ours wrote: the message that has one is held, or goes on without it, and the others flow.

use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;

use super::verify::copy_of;
use super::*;

/// A message with something wrong, and one that is well.
fn two(world: &World) -> (MessageId, MessageId) {
    (
        world.put("a@example.org", &["x@lotus.com"]),
        world.put("a@example.org", &["x@ibm.com"]),
    )
}

fn state(world: &World, id: MessageId) -> String {
    world.sql(&format!(
        "SELECT s.name FROM recipient r JOIN state s ON s.number = r.state WHERE r.message = {}",
        id.0
    ))
}

/// Takes back what was tampered with, as far as it is still there.
fn take_back(world: &World) {
    world.sql_run(
        "UPDATE message SET size = 20, origin = 1, reverse_path = 'a@example.org'; \
         UPDATE recipient SET n = 0, path = 'x@lotus.com' WHERE n <> 0 OR path <> 'x@ibm.com'; \
         UPDATE recipient SET attempts = 1, notify = NULL",
    );
}

#[test]
fn a_message_that_can_not_be_read_is_held_before_its_conversion() {
    for damage in [
        "UPDATE message SET size = -1 WHERE id = ",
        "UPDATE message SET origin = 300 WHERE id = ",
        "UPDATE message SET reverse_path = CAST(x'c328' AS TEXT) WHERE id = ",
        "UPDATE recipient SET path = CAST(x'ff406d' AS TEXT) WHERE message = ",
        "UPDATE recipient SET n = -1 WHERE message = ",
    ] {
        let world = World::new();
        let (bad, good) = two(&world);
        world.sql_run(&format!("{damage}{}", bad.0));
        world.convert();
        assert_eq!(state(&world, bad), "WQ_HELD", "{damage}");
        assert_eq!(state(&world, good), "WQ_PENDING_XMIT", "{damage}");
        take_back(&world);
    }
}

#[test]
fn a_message_that_can_not_be_read_is_held_when_it_is_listed() {
    for damage in [
        "UPDATE message SET size = -1 WHERE id = ",
        "UPDATE recipient SET path = CAST(x'ff406d' AS TEXT) WHERE message = ",
    ] {
        let world = World::new();
        let (bad, good) = two(&world);
        world.convert();
        world.sql_run(&format!("{damage}{}", bad.0));
        for list in world.claim(&[0, 1], 0) {
            for message in world.queue.list_messages(list.id).unwrap() {
                world.settle(&list, message.id, vec![(0, delivered())]);
            }
            world.queue.end_list(list.id).unwrap();
        }
        assert_eq!(state(&world, bad), "WQ_HELD", "{damage}");
        assert_eq!(state(&world, good), "WQ_TRANSMITTED", "{damage}");
        take_back(&world);
    }
}

#[test]
fn a_message_of_which_something_can_not_be_read_is_on_no_list() {
    let world = World::new();
    let bad = world.put(
        "a@example.org",
        &["x@lotus.com", "y@lotus.com", "far@lotus.com", "z@lotus.com"],
    );
    let good = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    // One of them goes elsewhere by now.
    world.sql_run(&format!(
        "UPDATE recipient SET path = 'far@ibm.com' WHERE message = {0} AND n = 2; \
         UPDATE recipient SET path = CAST(x'ff406d' AS TEXT) WHERE message = {0} AND n = 3",
        bad.0
    ));
    let lists = world.claim(&[0, 1], 0);
    assert_eq!((lists.len(), lists[0].messages, lists[0].recipients), (1, 1, 1));
    assert_eq!(world.queue.list_messages(lists[0].id).unwrap()[0].id, good);
    assert_eq!(world.states(), "WQ_MSG_LOCKED_FOR_XMIT:1 WQ_HELD:4");
    assert_eq!(world.sql("SELECT sum(waiting) FROM next_hop"), "0");
}

#[test]
fn counts_and_names_that_can_not_be_keep_nothing_from_going() {
    for damage in [
        "UPDATE recipient SET attempts = -5",
        "UPDATE recipient SET attempts = 99999999999",
        "UPDATE recipient SET notify = 300",
        "UPDATE next_hop SET failures = -1",
        "UPDATE next_hop SET name = CAST(x'ff2e' AS TEXT) WHERE name = 'lotus.com'",
    ] {
        let world = World::new();
        let (first, second) = two(&world);
        world.convert();
        world.sql_run(damage);
        for _ in 0..3 {
            for list in world.claim(&[0, 1], 0) {
                for message in world.queue.list_messages(list.id).unwrap() {
                    world.settle(&list, message.id, vec![(0, delivered())]);
                }
                world.queue.end_list(list.id).unwrap();
            }
        }
        for id in [first, second] {
            assert_eq!(state(&world, id), "WQ_TRANSMITTED", "{damage}");
        }
    }
}

#[test]
fn who_was_given_up_has_come_to_no_good_end_whatever_its_row_says() {
    let world = World::new();
    let id = world.put("a@example.org", &["x@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, id, vec![(0, never())]);
    world.queue.end_list(list.id).unwrap();
    world.sql_run("UPDATE recipient SET report_due = 1");
    assert!(world.queue.awaiting_success_report(10).unwrap().is_empty());
    let due = world.queue.awaiting_report(10).unwrap();
    assert_eq!((due.len(), due[0].recipients[0].success), (1, None));
    let news = News::Ends {
        failed: vec![0],
        reached: Vec::new(),
    };
    let telling = Telling::Unwanted;
    let notice = Notice {
        about: id,
        news,
        telling,
    };
    world.queue.report(vec![notice], None).unwrap();
    assert_eq!(world.states(), "WQ_FAILED:1");
    assert!(world.queue.awaiting_success_report(10).unwrap().is_empty());
    assert_eq!(world.sql("SELECT left_at IS NOT NULL FROM message"), "1");
}

#[test]
fn what_can_not_be_reported_keeps_no_other_report_back() {
    for (damage, reported) in [
        ("UPDATE recipient SET notify = 300 WHERE message = ", 2),
        ("UPDATE message SET size = -1 WHERE id = ", 1),
        (
            "UPDATE recipient SET last_error = CAST(x'ff' AS TEXT), last_reply = CAST(x'ff' AS TEXT) WHERE message = ",
            2,
        ),
    ] {
        let world = World::new();
        let (bad, good) = two(&world);
        world.convert();
        for list in world.claim(&[0, 1], 0) {
            let id = world.queue.list_messages(list.id).unwrap()[0].id;
            world.settle(&list, id, vec![(0, never())]);
            world.queue.end_list(list.id).unwrap();
        }
        world.sql_run(&format!("{damage}{}", bad.0));
        let due = world.queue.awaiting_report(10).unwrap();
        let ids: Vec<_> = due.iter().map(|due| due.id).collect();
        assert_eq!(ids.len(), reported, "{damage}");
        assert!(ids.contains(&good), "{damage}");
        assert_eq!(state(&world, bad) == "WQ_HELD", reported == 1, "{damage}");
        take_back(&world);
    }
}

#[test]
fn a_message_that_was_tried_more_often_than_can_be_counted_is_put_off_like_any_other() {
    let world = World::new();
    let (id, _) = two(&world);
    world.convert();
    world.sql_run("UPDATE recipient SET attempts = 4294967295");
    for list in world.claim(&[0, 1], 0) {
        let message = world.queue.list_messages(list.id).unwrap().remove(0);
        assert_eq!(world.settle(&list, message.id, vec![(0, later())]).deferred, 1);
        world.queue.end_list(list.id).unwrap();
    }
    assert_eq!(state(&world, id), "WQ_PENDING_XMIT");
    take_back(&world);
}

#[test]
fn a_state_that_there_is_none_of_is_listed_as_its_number() {
    let world = World::new();
    let (bad, _) = two(&world);
    for number in [77, 15, 9, 0, -3] {
        world.sql_run(&format!(
            "UPDATE recipient SET state = {number} WHERE message = {}",
            bad.0
        ));
        let rows = world.queue.listing(10).unwrap().rows;
        let states: Vec<String> = rows.iter().map(|row| row.state.to_string()).collect();
        assert_eq!(states, [number.to_string(), "WQ_PENDING_CONVERSION".to_owned()]);
    }
    world.queue.mend().unwrap();
    assert_eq!(state(&world, bad), "WQ_HELD");
    assert_eq!(
        world.queue.listing(10).unwrap().rows[0].state.to_string(),
        "WQ_HELD"
    );
}

/// How many messages wait where a page is broken.
const MANY: usize = 500;

/// So many messages for two domains. Each row takes some room.
fn many() -> World {
    let world = World::new();
    let long = |domain: &str| format!("{}@{domain}", "x".repeat(60));
    let (from, to) = (long("example.org"), ["ibm.com", "lotus.com"].map(long));
    for n in 0..MANY {
        world.put(&from, &[to[n % 2].as_str()]);
    }
    world
}

/// The same work queue, in which one page is broken of those on which the rows of `table` stand: `which` chooses it, of so
/// many. It will never be in order again: that is not looked at in its end.
fn with_a_broken_page(world: &World, table: &str, which: fn(usize) -> usize) -> ManuallyDrop<World> {
    let folder = copy_of(world.folder.path());
    let path = folder.path().join("queue.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    let pages: Vec<u64> = db
        .prepare("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path")
        .unwrap()
        .query_map([table], |row| row.get(0))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    drop(db);
    assert!(pages.len() > 6, "{table} stands on {} pages", pages.len());
    let page = pages[which(pages.len())];
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0x5a; 8192], (page - 1) * 8192).unwrap();
    let clock = world.clock.clone();
    let queue = WorkQueue::open(folder.path(), clock.clone()).unwrap();
    ManuallyDrop::new(World { folder, queue, clock })
}

/// The page in the midst.
fn middle(pages: usize) -> usize {
    pages / 2
}

/// Removes what is left of it.
fn forget(world: &World) {
    world.queue.close();
    std::fs::remove_dir_all(world.folder.path()).unwrap();
}

/// Sends all that can be listed, each message once. What can not be recorded is put aside.
fn carry(world: &World, carried: &mut HashSet<MessageId>) {
    loop {
        let lists = world.claim(&[0, 1], 0);
        if lists.is_empty() {
            return;
        }
        for list in lists {
            for message in world.queue.list_messages(list.id).unwrap() {
                assert!(carried.insert(message.id), "{} was sent twice", message.id);
                if let Err(error) = world.try_to_settle(&list, message.id, vec![(0, delivered())]) {
                    world.queue.put_aside_unrecorded(message.id, error).unwrap();
                }
            }
            world.queue.end_list(list.id).unwrap();
        }
    }
}

/// Those on the page that is broken are not among them, nor all of those beside it.
#[track_caller]
fn are_most(table: &str, what: &str, many: usize) {
    assert!(
        (MANY / 3..MANY).contains(&many),
        "{table}: {many} of {MANY} {what}"
    );
}

#[test]
fn messages_on_a_broken_page_are_passed_over_and_the_others_are_converted_and_sent() {
    let world = many();
    world.queue.close();
    for table in ["message", "recipient", "event"] {
        let world = with_a_broken_page(&world, table, middle);
        let mut carried = HashSet::new();
        for _ in 0..2 {
            world.convert();
            carry(&world, &mut carried);
            are_most(table, "sent", carried.len());
            world.queue.mend().unwrap();
        }
        forget(&world);
    }
}

#[test]
fn messages_on_a_page_that_breaks_while_they_are_on_lists_keep_no_others_from_being_sent() {
    let world = many();
    world.convert();
    assert_eq!(world.claim(&[0, 1], 0).len(), 2);
    world.queue.close();
    for table in ["message", "recipient", "event"] {
        let world = with_a_broken_page(&world, table, |_| 1);
        assert!(world.queue.lists().unwrap().is_empty(), "{table}");
        let mut carried = HashSet::new();
        carry(&world, &mut carried);
        are_most(table, "sent", carried.len());
        forget(&world);
    }
}

#[test]
fn next_hops_of_which_all_is_passed_over_keep_no_others_from_getting_their_turn() {
    let world = World::new();
    for n in 0..MANY {
        let to = format!("{}@d{n}.example", "x".repeat(60));
        world.put("a@example.org", &[to.as_str()]);
    }
    world.convert();
    world.queue.close();
    let world = with_a_broken_page(&world, "recipient", middle);
    let mut carried = HashSet::new();
    carry(&world, &mut carried);
    are_most("recipient", "sent", carried.len());
    let passed_over = world.queue.store.broken().count();
    assert!(
        carried.len() + passed_over >= MANY,
        "{} were sent, and {passed_over} are passed over",
        carried.len()
    );
    forget(&world);
}

#[test]
fn a_list_that_can_not_be_given_to_its_handler_is_taken_apart() {
    let world = ManuallyDrop::new(World::new());
    let (first, second) = two(&world);
    world.convert();
    let list = world.claim(&[], 1).remove(0);
    // Where history should be there is something else.
    world.sql_run(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'content') \
         WHERE name = 'event'; \
         PRAGMA schema_version = 1000",
    );
    assert!(!world.queue.lock_list(list.id, 0).unwrap());
    assert!(world.queue.lists().unwrap().is_empty());
    assert_eq!(state(&world, first), "WQ_HELD");
    assert_eq!(state(&world, second), "WQ_PENDING_XMIT");
    forget(&world);
}

#[test]
fn messages_on_a_broken_page_keep_nobody_from_being_told_of_the_others() {
    let world = many();
    world.convert();
    let mut lists = world.claim(&[0, 1], 0);
    while !lists.is_empty() {
        for list in lists {
            for message in world.queue.list_messages(list.id).unwrap() {
                world.settle(&list, message.id, vec![(0, never())]);
            }
            world.queue.end_list(list.id).unwrap();
        }
        lists = world.claim(&[0, 1], 0);
    }
    world.queue.close();
    for table in ["message", "recipient", "event"] {
        let world = with_a_broken_page(&world, table, middle);
        loop {
            let due = world.queue.awaiting_report(50).unwrap();
            if due.is_empty() {
                break;
            }
            let end = |due: &Due| Notice {
                about: due.id,
                news: News::Ends {
                    failed: vec![0],
                    reached: Vec::new(),
                },
                telling: Telling::Unwanted,
            };
            world.queue.report(due.iter().map(end).collect(), None).unwrap();
        }
        let counters = world.queue.statistics().unwrap();
        let told = counters.iter().find(|(name, _)| name == "Mail.Failed").unwrap();
        are_most(table, "told of", usize::try_from(told.1).unwrap());
        forget(&world);
    }
}

#[test]
fn the_time_of_messages_comes_to_its_end_although_some_stand_on_a_broken_page() {
    let world = many();
    world.convert();
    // A clock that is ahead at the start would be doubted.
    world.clock.advance(10 * MINUTE);
    world.queue.close();
    for table in ["message", "recipient", "event"] {
        let world = with_a_broken_page(&world, table, middle);
        let (mut late, mut reached) = (0, None);
        while let (dues, came_to, true) = world.queue.delayed(world.queue.now()).unwrap() {
            assert!(reached < Some(came_to), "{table}: it goes on");
            reached = Some(came_to);
            late += dues.len();
            world.queue.report(Vec::new(), reached).unwrap();
        }
        assert!(late > MANY / 3, "{table}: {late} are late");
        are_most(table, "given up", world.expire(MINUTE));
        forget(&world);
    }
}
