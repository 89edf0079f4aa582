//! Housekeeping beside mail that flows: what it forgets, in which steps, what it never touches, and what is noted down.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::work_queue::housekeeping::STEP_ROWS;
use crate::work_queue::stay::Stay;
use crate::work_queue::store::sweep_up;

/// Brings so many messages for these recipients to their good end, an hour ago.
fn history(world: &World, messages: usize, to: &[&str]) {
    let ids: Vec<MessageId> = (0..messages).map(|_| world.put("a@example.org", to)).collect();
    world.convert();
    loop {
        let lists = world.claim(&[0], 0);
        let Some(list) = lists.first() else { break };
        for message in world.queue.list_messages(list.id).unwrap() {
            let outcomes = message.recipients.iter().map(|r| (r.n, delivered()));
            world.settle(list, message.id, outcomes.collect());
        }
        world.queue.end_list(list.id).unwrap();
    }
    let left = "SELECT count(*) FROM message WHERE left_at IS NOT NULL";
    assert_eq!(world.sql(left), ids.len().to_string());
    world.clock.advance(60 * MINUTE);
}

/// From now on it is written down in which step a row of the history goes, and a message comes: by the sum that each step
/// of the forgetting ends with.
fn watch(world: &World) {
    let step = "(SELECT ifnull(max(value), 0) FROM statistic WHERE name = 'Forgotten.AcceptedRecipients')";
    let mut watch = "CREATE TABLE watched (step INTEGER, what TEXT);".to_owned();
    for table in ["event", "recipient", "message"] {
        watch += &format!(
            "CREATE TRIGGER gone_{table} AFTER DELETE ON {table} BEGIN INSERT INTO watched VALUES ({step}, 'gone'); END;"
        );
    }
    watch += &format!(
        "CREATE TRIGGER came AFTER INSERT ON message BEGIN INSERT INTO watched VALUES ({step}, 'came'); END;"
    );
    world.sql_run(&watch);
}

/// How much of this there was in each step.
fn watched(world: &World, what: &str) -> BTreeMap<i64, usize> {
    let db = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    let mut query = db
        .prepare("SELECT step, count(*) FROM watched WHERE what = ? GROUP BY step")
        .unwrap();
    let rows = query.query_map([what], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_long_history_is_forgotten_in_short_steps_between_which_mail_is_accepted() {
    let world = World::new();
    history(&world, 600, &["x@lotus.com"]);
    watch(&world);
    let (is_over, come) = (AtomicBool::new(false), AtomicUsize::new(0));
    let forgotten = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    world.put("a@example.org", &["y@lotus.com"]);
                    come.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while come.load(Ordering::SeqCst) < 10 {
            std::thread::yield_now();
        }
        let forgotten = world.queue.forget(30 * MINUTE);
        is_over.store(true, Ordering::SeqCst);
        forgotten.unwrap()
    });
    assert_eq!(forgotten.messages, 600);
    let (gone, came) = (watched(&world, "gone"), watched(&world, "came"));
    assert!(gone.len() >= 600 / 25, "{gone:?}");
    assert!(gone.values().all(|rows| *rows < STEP_ROWS), "{gone:?}");
    let last = *gone.keys().last().unwrap();
    assert!(
        came.keys().any(|step| (1..last).contains(step)),
        "none came in the midst of it: {came:?}"
    );
    assert_eq!(
        world.sql("SELECT count(*) FROM message WHERE left_at IS NULL"),
        come.into_inner().to_string()
    );
}

#[test]
fn messages_with_very_many_recipients_are_forgotten_one_by_one() {
    let world = World::new();
    let to: Vec<String> = (0..STEP_ROWS).map(|n| format!("u{n}@lotus.com")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    history(&world, 3, &to);
    watch(&world);
    assert_eq!(world.queue.forget(30 * MINUTE).unwrap().messages, 3);
    let gone = watched(&world, "gone");
    assert_eq!(gone.len(), 3, "{gone:?}");
}

#[test]
fn dead_and_held_mail_stays_however_old_and_what_was_removed_goes_with_its_content() {
    let world = World::new();
    // One that is dead in part, one that is held, one that was removed.
    let dead = world.put("", &["ok@lotus.com", "bad@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, dead, vec![(0, delivered()), (1, never())]);
    world.queue.end_list(list.id).unwrap();
    let held = world.put("a@example.org", &["held@lotus.com"]);
    let removed = world.put("a@example.org", &["removed@lotus.com"]);
    let large = world.queue.message_id();
    let mut content = world.queue.content_writer(large);
    content.write(&vec![b'x'; THRESHOLD + 1]).unwrap();
    let from = ReversePath(Some(mailbox("a@example.org")));
    let to = [mailbox("large@lotus.com")];
    let arrival = Arrival::new(large, Origin::Session, from, to, content.finish().unwrap());
    world.queue.put(arrival).unwrap();
    for (deed, ids) in [(ByHand::Hold, vec![held]), (ByHand::Delete, vec![removed, large])] {
        let choice = Choice::of_messages(ids);
        world.queue.do_by_hand(deed, &choice, "operator").unwrap();
    }
    let states = "WQ_HELD:1 WQ_DEAD:1 WQ_TRANSMITTED:1";
    world.clock.advance(400 * 24 * 60 * MINUTE);
    let files = || fs::read_dir(world.folder.path().join("content")).unwrap().count();
    assert_eq!((world.states(), files()), (format!("{states} WQ_REMOVED:2"), 1));
    let history = "SELECT count(*) FROM event WHERE message = ";
    let events: Vec<String> = [dead, held]
        .map(|id| world.sql(&format!("{history}{}", id.0)))
        .to_vec();
    let forgotten = world.queue.forget(Duration::ZERO).unwrap();
    assert_eq!((forgotten.messages, forgotten.removed), (2, 2));
    world.queue.mend().unwrap();
    world.queue.sweep(world.queue.message_id()).unwrap();
    world.queue.compact().unwrap();
    world.queue.shorten_log().unwrap();
    assert_eq!(world.states(), states);
    assert_eq!(
        [dead, held]
            .map(|id| world.sql(&format!("{history}{}", id.0)))
            .to_vec(),
        events
    );
    // Its content goes behind the commit.
    while files() > 0 {
        std::thread::yield_now();
    }
    for id in [dead, held] {
        assert!(world.queue.content(id).is_ok());
    }
}

#[test]
fn show_stat_tells_of_the_last_run_over_a_restart() {
    let mut world = World::new();
    assert_eq!(world.queue.last_housekeeping().unwrap(), None);
    history(&world, 2, &["x@lotus.com"]);
    let left = world.queue.last_housekeeping().unwrap().unwrap();
    assert!(
        left < world.queue.now(),
        "before the first run: what it would have found"
    );
    let tally = Tally {
        begun: Stamp(1_764_460_800_000_000),
        took: Duration::from_millis(812),
        forgotten: Forgotten {
            messages: 5,
            events: 30,
            removed: 1,
        },
        mended: Mended { held: 2, mended: 3 },
        swept: 4,
        given_back: 81_920,
        failed: 0,
    };
    for _ in 0..2 {
        world.queue.note_housekeeping(&tally).unwrap();
    }
    world.reopen();
    let told = world.queue.statistics().unwrap();
    let told: Vec<String> = told
        .iter()
        .filter_map(|(name, value)| Some(format!("{} {value}", name.strip_prefix("Housekeeping.")?)))
        .collect();
    assert_eq!(
        told,
        [
            "LastFailedParts 0",
            "LastForgotten 5",
            "LastForgottenHistory 30",
            "LastForgottenRemoved 1",
            "LastGivenBack 81920",
            "LastHeld 2",
            "LastMended 3",
            "LastMilliseconds 812",
            "LastRun 1764460800",
            "LastSweptFiles 4",
            "Runs 2",
        ]
    );
    assert_eq!(world.queue.last_housekeeping().unwrap(), Some(tally.begun));
}

#[test]
fn content_of_a_message_that_nobody_ever_heard_of_is_removed_and_what_is_left_of_a_lost_one_is_not() {
    let world = World::new();
    let known = world.put("a@example.org", &["x@lotus.com"]);
    world.sql_run("INSERT INTO content (message, bytes) VALUES (7, x'0102')");
    assert_eq!(world.queue.mend().unwrap(), Mended { held: 0, mended: 1 });
    assert_eq!(
        world.sql("SELECT group_concat(message) FROM content"),
        known.0.to_string()
    );
    // Its rows were lost, all but its history: the content may be all that there is to be saved.
    world.sql_run(
        "INSERT INTO content (message, bytes) VALUES (8, x'0102'); \
         INSERT INTO event (message, stamp, what, text) VALUES (8, 9, 'accepted', '')",
    );
    assert_eq!(world.queue.mend().unwrap(), Mended::default());
    assert_eq!(world.sql("SELECT count(*) FROM content"), "2");
    world.sql_run("DELETE FROM content WHERE message = 8; DELETE FROM event WHERE message = 8");
}

#[test]
fn the_database_of_an_earlier_version_keeps_its_gaps_and_nobody_waits_for_it_to_be_written_anew() {
    let world = World::new();
    world.sql_run("PRAGMA auto_vacuum = NONE; VACUUM");
    world
        .sql_run("CREATE TABLE day (mail BLOB); INSERT INTO day VALUES (zeroblob(24000000)); DROP TABLE day");
    let pages = "SELECT page_count || ' ' || auto_vacuum FROM pragma_page_count, pragma_auto_vacuum";
    let before = world.sql(pages);
    assert!(before.ends_with(" 0"), "{before}");
    assert_eq!(world.queue.compact().unwrap(), 0);
    assert_eq!(world.sql(pages), before);
}

#[test]
fn the_files_of_messages_that_leave_stay_as_long_as_somebody_copies_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["1", "2"].map(str::to_owned);
    for name in &names {
        fs::write(folder.path().join(name), b"x").unwrap();
    }
    let files = || fs::read_dir(folder.path()).unwrap().count();
    let sweep = || {
        let (discard, discarded) = unbounded();
        discard.send(names.to_vec()).unwrap();
        drop(discard);
        sweep_up(folder.path(), &discarded);
    };
    let stay = Stay::of(folder.path(), &|| false).unwrap();
    sweep();
    assert_eq!(files(), 2);
    drop(stay);
    sweep();
    assert_eq!(files(), 0);
}

#[test]
fn what_left_while_somebody_copied_the_spool_and_what_was_nobodys_goes_afterwards() {
    let world = World::new();
    let folder = world.folder.path().join("content");
    let large = |to: &str| {
        let id = world.queue.message_id();
        let mut content = world.queue.content_writer(id);
        content.write(&vec![b'x'; THRESHOLD + 1]).unwrap();
        let from = ReversePath(Some(mailbox("a@example.org")));
        let content = content.finish().unwrap();
        world
            .queue
            .put(Arrival::new(id, Origin::Session, from, [mailbox(to)], content))
            .unwrap();
        id
    };
    let files = || fs::read_dir(&folder).unwrap().count();
    let (leaves, stays) = (large("x@lotus.com"), large("y@ibm.com"));
    world.convert();
    let stay = Stay::of(&folder, &|| false).unwrap();
    let lists = world.claim(&[0, 1], 0);
    let list = lists.iter().find(|list| list.next_hop.to_string() == "lotus.com");
    world.settle(list.unwrap(), leaves, vec![(0, delivered())]);
    let orphan = world.queue.message_id();
    fs::write(folder.join(orphan.to_string()), b"x").unwrap();
    std::thread::scope(|scope| {
        let sweep = scope.spawn(|| world.queue.sweep(world.queue.message_id()).unwrap());
        // Long enough for a sweep that does not wait.
        std::thread::park_timeout(Duration::from_millis(100));
        assert!(!sweep.is_finished() && files() == 3, "nothing goes");
        drop(stay);
        assert_eq!(sweep.join().unwrap().kept, 1);
    });
    while files() > 1 {
        std::thread::yield_now();
    }
    assert!(world.queue.content(stays).is_ok());
}
