//! Values that nobody of ours wrote: the message that has one is held, or goes on without it, and the others flow.

use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;

use super::verify::copy_of;
use super::*;
use crate::work_queue::states::State;

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
        let rows = world.queue.listing(&Choice::default(), 10).unwrap().rows;
        let states: Vec<String> = rows.iter().map(|row| row.state.to_string()).collect();
        assert_eq!(states, [number.to_string(), "WQ_PENDING_CONVERSION".to_owned()]);
    }
    world.queue.mend().unwrap();
    assert_eq!(state(&world, bad), "WQ_HELD");
    assert_eq!(
        world.queue.listing(&Choice::default(), 10).unwrap().rows[0]
            .state
            .to_string(),
        "WQ_HELD"
    );
}

/// How many messages wait where a page is broken.
const MANY: usize = 500;

/// So many messages for two domains. Each row takes some room.
fn many() -> (World, Vec<MessageId>) {
    let world = World::new();
    let long = |domain: &str| format!("{}@{domain}", "x".repeat(60));
    let (from, to) = (long("example.org"), ["ibm.com", "lotus.com"].map(long));
    let all = (0..MANY)
        .map(|n| world.put(&from, &[to[n % 2].as_str()]))
        .collect();
    (world, all)
}

/// A work queue in which a page is broken. It will never be in order again: that is not looked at in its end.
struct Damaged {
    world: ManuallyDrop<World>,
    /// What stood on the page.
    table: &'static str,
    /// The messages of which some rows stood there.
    there: HashSet<MessageId>,
    /// Those of which some rows stood on one of the two pages beside it.
    beside: HashSet<MessageId>,
}

/// The same work queue, in which one page is broken of those on which the rows of `table` stand: `which` chooses it, of so
/// many.
fn with_a_broken_page(world: &World, table: &'static str, which: fn(usize) -> usize) -> Damaged {
    let folder = copy_of(world.folder.path());
    let path = folder.path().join("queue.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    let pages: Vec<(u64, usize)> = db
        .prepare("SELECT pageno, ncell FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path")
        .unwrap()
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    assert!(pages.len() > 6, "{table} stands on {} pages", pages.len());
    // Where its rows have no other key, one of them stands above each two pages.
    let (keys, above) = match table {
        "message" => ("SELECT id FROM message ORDER BY id", 0),
        "recipient" => ("SELECT message FROM recipient ORDER BY message, n", 1),
        _ => ("SELECT message FROM event ORDER BY message, stamp", 1),
    };
    let keys: Vec<MessageId> = db
        .prepare(keys)
        .unwrap()
        .query_map([], |row| row.get(0).map(MessageId))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    drop(db);
    let rows = |pages: &[(u64, usize)]| pages.iter().map(|(_, rows)| rows + above).sum::<usize>();
    assert_eq!(rows(&pages) - above, keys.len(), "{table}");
    let chosen = which(pages.len());
    let messages_on = |place: usize| {
        let before = rows(&pages[..place]);
        keys[before..before + pages[place].1].iter().copied()
    };
    let there = messages_on(chosen).collect();
    let beside = messages_on(chosen - 1).chain(messages_on(chosen + 1)).collect();
    let page = pages[chosen].0;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0x5a; 8192], (page - 1) * 8192).unwrap();
    let clock = world.clock.clone();
    let queue = WorkQueue::open(folder.path(), clock.clone()).unwrap();
    Damaged {
        world: ManuallyDrop::new(World { folder, queue, clock }),
        table,
        there,
        beside,
    }
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

/// How the only recipient of a message stands, where that can be read.
fn standing(world: &World, id: MessageId) -> Option<State> {
    let db = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    let number = db.query_row("SELECT state FROM recipient WHERE message = ?", [id.0], |row| {
        row.get::<_, i64>(0)
    });
    soundness::state(number.ok()?)
}

/// How many more messages may be in the way of a page that is broken: rows that stood elsewhere have moved to it, or to one
/// beside it.
const MOVED: usize = 10;

impl Damaged {
    /// Each message of `all` is `done`, or is passed over or held; and all are done of which no row stood on the page, but
    /// for a few. Where that makes rows longer in one of the tables `growing`, those on the pages beside it need not be:
    /// these have no room, and what is on them can not be spread over their neighbours.
    #[track_caller]
    fn are_all_but_few(
        &self,
        what: &str,
        growing: &[&str],
        all: &[MessageId],
        done: impl Fn(MessageId) -> bool,
    ) {
        let undone: Vec<MessageId> = all.iter().copied().filter(|id| !done(*id)).collect();
        for id in &undone {
            let is_passed_over = self.world.queue.store.broken().knows(*id);
            assert!(
                is_passed_over || standing(&self.world, *id) == Some(State::Held),
                "{}: {id} is not {what}, and neither passed over nor held",
                self.table
            );
        }
        let grows = growing.contains(&self.table);
        let in_the_way = |id: &&MessageId| self.there.contains(id) || grows && self.beside.contains(id);
        let others = undone.iter().filter(|id| !in_the_way(id)).count();
        assert!(
            others <= MOVED,
            "{}: {others} are not {what} of which no row stood there, nor of {} that did",
            self.table,
            self.there.len()
        );
    }
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

#[test]
fn messages_on_a_broken_page_are_passed_over_and_the_others_are_converted_and_sent() {
    let (world, all) = many();
    world.queue.close();
    for table in ["message", "recipient", "event"] {
        let damaged = with_a_broken_page(&world, table, middle);
        let world = &damaged.world;
        let mut carried = HashSet::new();
        for _ in 0..2 {
            world.convert();
            carry(world, &mut carried);
            damaged.are_all_but_few("sent", &["event"], &all, |id| carried.contains(&id));
            world.queue.mend().unwrap();
        }
        forget(world);
    }
}

#[test]
fn messages_on_a_page_that_breaks_while_they_are_on_lists_keep_no_others_from_being_sent() {
    let (world, all) = many();
    world.convert();
    assert_eq!(world.claim(&[0, 1], 0).len(), 2);
    world.queue.close();
    for table in ["message", "recipient", "event"] {
        let damaged = with_a_broken_page(&world, table, |_| 1);
        let world = &damaged.world;
        assert!(world.queue.lists().unwrap().is_empty(), "{table}");
        let mut carried = HashSet::new();
        carry(world, &mut carried);
        damaged.are_all_but_few("sent", &["event"], &all, |id| carried.contains(&id));
        forget(world);
    }
}

#[test]
fn next_hops_of_which_all_is_passed_over_keep_no_others_from_getting_their_turn() {
    let world = World::new();
    let put = |n| {
        let to = format!("{}@d{n}.example", "x".repeat(60));
        world.put("a@example.org", &[to.as_str()])
    };
    let all: Vec<MessageId> = (0..MANY).map(put).collect();
    world.convert();
    world.queue.close();
    let damaged = with_a_broken_page(&world, "recipient", middle);
    let world = &damaged.world;
    let mut carried = HashSet::new();
    carry(world, &mut carried);
    damaged.are_all_but_few("sent", &["event"], &all, |id| carried.contains(&id));
    let passed_over = world.queue.store.broken().count();
    assert!(
        carried.len() + passed_over >= MANY,
        "{} were sent, and {passed_over} are passed over",
        carried.len()
    );
    forget(world);
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
    let (world, all) = many();
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
        let damaged = with_a_broken_page(&world, table, middle);
        let world = &damaged.world;
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
        let has_failed = |id| standing(world, id) == Some(State::Failed);
        damaged.are_all_but_few("told of", &["message", "event"], &all, has_failed);
        let failed = all.iter().filter(|id| has_failed(**id)).count();
        assert_eq!(usize::try_from(told.1).unwrap(), failed, "{table}");
        forget(world);
    }
}

#[test]
fn the_time_of_messages_comes_to_its_end_although_some_stand_on_a_broken_page() {
    let (world, all) = many();
    world.convert();
    // A clock that is ahead at the start would be doubted.
    world.clock.advance(10 * MINUTE);
    world.queue.close();
    for table in ["message", "recipient", "event"] {
        let damaged = with_a_broken_page(&world, table, middle);
        let world = &damaged.world;
        let (mut late, mut reached) = (HashSet::new(), None);
        while let (dues, came_to, true) = world.queue.delayed(world.queue.now()).unwrap() {
            assert!(reached < Some(came_to), "{table}: it goes on");
            reached = Some(came_to);
            late.extend(dues.iter().map(|due| due.id));
            world.queue.report(Vec::new(), reached).unwrap();
        }
        damaged.are_all_but_few("late", &[], &all, |id| late.contains(&id));
        let given_up = world.expire(MINUTE);
        let has_ended = |id| standing(world, id) == Some(State::PendingReport);
        damaged.are_all_but_few("given up", &["recipient", "event"], &all, has_ended);
        assert_eq!(
            given_up,
            all.iter().filter(|id| has_ended(**id)).count(),
            "{table}"
        );
        forget(world);
    }
}
