//! `verify`: what it finds, what it does not mind, and the account.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

/// The place and the words of each finding.
fn found(folder: &Path) -> Vec<String> {
    let verdict = verify(folder, false).unwrap();
    let told = verdict.findings.iter();
    told.map(|finding| format!("{:?} {}: {}", finding.kind, finding.place, finding.what))
        .collect()
}

/// Recipients in every state that comes of itself, and content in both its homes.
fn busy_world() -> World {
    let world = World::new();
    let sent = world.put_asking(
        "a@example.org",
        &[("b@lotus.com", Some("SUCCESS")), ("bad@lotus.com", None)],
    );
    let dead = world.put("", &["c@ibm.com", "late@ibm.com"]);
    world.convert();
    let lists = world.claim(&[0, 1], 0);
    let list_of = |name: &str| {
        lists
            .iter()
            .find(|list| list.next_hop.to_string() == name)
            .unwrap()
    };
    world.settle(list_of("lotus.com"), sent, vec![(0, delivered()), (1, never())]);
    world.settle(list_of("ibm.com"), dead, vec![(0, never()), (1, later())]);
    lists
        .iter()
        .for_each(|list| world.queue.end_list(list.id).unwrap());
    let id = world.queue.message_id();
    let mut content = world.queue.content_writer(id);
    content.write(&vec![b'x'; THRESHOLD + 1]).unwrap();
    let from = ReversePath(Some(mailbox("a@example.org")));
    let large = Arrival::new(
        id,
        Origin::Session,
        from,
        [mailbox("d@dec.com")],
        content.finish().unwrap(),
    );
    world.queue.put(large).unwrap();
    world.convert();
    world.claim(&[7], 0);
    world.put("a@example.org", &["waits@sun.com"]);
    world.convert();
    world.claim(&[], 1);
    world.put("a@example.org", &["new@dec.com", "newer@dec.com"]);
    world
}

#[test]
fn an_account_is_closed_with_its_last_counters_or_not_at_all() {
    let world = World::new();
    world.sql_run("CREATE TRIGGER full BEFORE INSERT ON statistic BEGIN SELECT RAISE(ABORT, 'no room'); END");
    world.put("a@example.org", &["a@lotus.com"]);
    world.queue.close();
    world.sql_run("DROP TRIGGER full");
    let account = verify(world.folder.path(), true).unwrap().account.unwrap();
    assert!(
        !account.counters_agree() && account.is_open,
        "the next start counts anew: {account:?}"
    );
}

#[test]
fn a_queue_at_work_is_in_order_and_so_is_what_is_left_of_it_at_the_end() {
    let world = busy_world();
    assert_eq!(
        world.states(),
        "WQ_PENDING_CONVERSION:2 WQ_PENDING_XMIT:2 WQ_MSG_LOCKED_FOR_XMIT:1 WQ_PENDING_REPORT:1 WQ_DEAD:1 \
         WQ_TRANSMITTED:1"
    );
    let verdict = verify(world.folder.path(), true).unwrap();
    assert!(verdict.is_in_order(), "{verdict:?}");
    assert_eq!(
        (verdict.messages, verdict.in_queue, verdict.recipients),
        (5, 5, 8)
    );
    let account = verdict.account.unwrap();
    assert_eq!((account.missing().0, account.waiting, account.dead), (0, 6, 1));
    assert!(account.is_open);
    world.queue.close();
    let account = verify(world.folder.path(), true).unwrap().account.unwrap();
    assert!(!account.is_open && account.counters_agree(), "{account:?}");
    assert_eq!(account.missing(), (0, 0));
}

#[test]
fn whatever_is_broken_is_found_where_it_is() {
    let locked = "(SELECT message FROM recipient WHERE state = 3)";
    let waiting = "(SELECT message FROM recipient WHERE path = 'waits@sun.com')";
    let new = "(SELECT message FROM recipient WHERE path = 'new@dec.com')";
    let sent = "(SELECT message FROM recipient WHERE path = 'b@lotus.com')";
    for (statement, expected) in [
        (
            format!("UPDATE recipient SET state = 77 WHERE message = {new} AND n = 1"),
            &["Rows", "recipient 1: there is no state 77"][..],
        ),
        (
            format!("UPDATE recipient SET path = CAST(x'ff40ff' AS TEXT) WHERE message = {new} AND n = 0"),
            &["Rows", "recipient 0: its path is none"],
        ),
        (
            format!("UPDATE message SET reverse_path = 'no mailbox' WHERE id = {new}"),
            &["Rows", ": its reverse path is none"],
        ),
        (
            format!("UPDATE message SET size = -1 WHERE id = {locked}"),
            &["Content", "octets", "Rows", ": size is -1"],
        ),
        (
            format!("UPDATE recipient SET list = NULL WHERE message = {locked}"),
            &["Rows", "it is WQ_MSG_LOCKED_FOR_XMIT, and is on no list"],
        ),
        (
            format!("UPDATE recipient SET list = 999 WHERE message = {waiting}"),
            &["Rows", "its list 999 does not exist"],
        ),
        (
            format!("UPDATE recipient SET hop = NULL WHERE message = {waiting}"),
            &["Rows", "has no next hop"],
        ),
        (
            "UPDATE domain_list SET handler = NULL WHERE handler = 7".to_owned(),
            &["Rows", "no handler has its list"],
        ),
        (
            format!("UPDATE recipient SET report_due = 1 WHERE message = {sent} AND n = 0"),
            &["Kept", "it is WQ_TRANSMITTED, and report_due is 1"],
        ),
        (
            format!("UPDATE message SET inbound_due = NULL WHERE id = {new}"),
            &["Kept", "inbound_due is NULL, and by its recipients 0"],
        ),
        (
            "UPDATE next_hop SET waiting = waiting + 5 WHERE name = 'ibm.com'".to_owned(),
            &["NextHop", "waiting is 6, and recipients that wait for it: 1"],
        ),
        (
            "UPDATE next_hop SET due = NULL WHERE name = 'ibm.com'".to_owned(),
            &["NextHop", "due is later than what waits for it"],
        ),
        (
            format!("DELETE FROM content WHERE message = {new}"),
            &["Content", "its content is missing"],
        ),
        (
            format!("UPDATE content SET bytes = x'00' WHERE message = {new}"),
            &["Content", "its content has 1 octets, and should have 20"],
        ),
        (
            format!("DELETE FROM recipient WHERE message = {new} AND n = 1"),
            &["Lost", "2 recipients were accepted, and there are rows of 1"],
        ),
        (
            format!("DELETE FROM recipient WHERE message = {new} AND n = 0"),
            &[
                "Lost",
                "recipient 0 is missing",
                "Lost",
                "2 recipients were accepted",
            ],
        ),
        (
            "DELETE FROM message WHERE inbound_due = 0".to_owned(),
            &[
                "Lost",
                "recipient 0: there is no such message",
                "Lost",
                "recipient 1: there is no such message",
                "Lost",
                "there is history of it, and no message",
                "Stray",
                "there is content of it, and no message",
            ],
        ),
        (
            "INSERT INTO content (message, bytes) SELECT id, x'00' FROM message WHERE file IS NOT NULL"
                .to_owned(),
            &["Stray", "besides its file"],
        ),
        (
            "UPDATE state SET name = 'WQ_LOST' WHERE number = 14".to_owned(),
            &["Schema", "the table state"],
        ),
        (
            "PRAGMA user_version = 3".to_owned(),
            &["Schema", "its schema is 3"],
        ),
    ] {
        // What is broken stays so: the end of a world looks for that.
        let world = busy_world();
        world.queue.close();
        let copy = copy_of(world.folder.path());
        rusqlite::Connection::open(copy.path().join("queue.db"))
            .unwrap()
            .execute_batch(&statement)
            .unwrap();
        let found = found(copy.path());
        let expected: Vec<_> = expected.chunks(2).collect();
        let fits = found.len() == expected.len()
            && found
                .iter()
                .zip(&expected)
                .all(|(found, words)| words.iter().all(|word| found.contains(word)));
        assert!(fits, "{statement}: {found:#?}");
        assert!(!verify(copy.path(), false).unwrap().is_in_order());
    }
}

/// A copy of a spool of which nobody has the database open, or whatever is on the disk of one that is open.
pub fn copy_of(spool: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("content")).unwrap();
    for folder in ["", "content"] {
        for entry in fs::read_dir(spool.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.path().join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    copy
}

#[test]
fn content_files_are_missed_and_measured_and_one_that_nobody_names_is_only_noted() {
    let world = busy_world();
    let copy = copy_of(world.folder.path());
    let content = copy.path().join("content");
    let file = fs::read_dir(&content).unwrap().next().unwrap().unwrap().path();
    fs::write(content.join("00038D7EA4C6FFFF"), b"x").unwrap();
    assert_eq!(
        found(copy.path()),
        ["StrayFile content/00038D7EA4C6FFFF: no message in the queue names it"]
    );
    assert!(verify(copy.path(), false).unwrap().is_in_order());
    fs::write(&file, b"cut").unwrap();
    assert!(found(copy.path())[0].contains("its content has 3 octets, and should have 65537"));
    fs::remove_file(&file).unwrap();
    let missing = found(copy.path()).remove(0);
    assert!(missing.starts_with("Content message "), "{missing}");
    assert!(
        missing.contains("its content file ") && missing.ends_with(" is missing"),
        "{missing}"
    );
}

#[test]
fn of_much_that_is_broken_a_part_is_told_and_the_rest_is_counted() {
    let world = World::new();
    let to: Vec<String> = (0..450).map(|n| format!("u{n}@lotus.com")).collect();
    world.put(
        "a@example.org",
        &to.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    for _ in 0..450 {
        world.put("a@example.org", &["b@ibm.com"]);
    }
    let copy = copy_of(world.folder.path());
    let db = rusqlite::Connection::open(copy.path().join("queue.db")).unwrap();
    db.execute_batch("UPDATE recipient SET state = 9; DELETE FROM content")
        .unwrap();
    drop(db);
    let verdict = verify(copy.path(), false).unwrap();
    let told = |kind| {
        verdict
            .findings
            .iter()
            .filter(|finding| finding.kind == kind)
            .count()
    };
    assert_eq!((told(Kind::Rows), told(Kind::Content)), (20, 20));
    assert!(verdict.more.contains(&(Kind::Rows, 880)), "{:?}", verdict.more);
    assert!(verdict.more.contains(&(Kind::Content, 431)), "{:?}", verdict.more);
    assert_eq!((verdict.messages, verdict.recipients), (451, 900));
}

#[test]
fn a_file_that_is_no_database_is_a_finding_and_none_at_all_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(verify(folder.path(), false).unwrap_err().is_missing());
    fs::create_dir(folder.path().join("queue.db")).unwrap();
    assert!(verify(folder.path(), false).unwrap_err().is_missing());
    fs::remove_dir(folder.path().join("queue.db")).unwrap();
    fs::write(folder.path().join("queue.db"), [b'x'; 100_000]).unwrap();
    let found = found(folder.path()).remove(0);
    assert!(
        found.starts_with("Database queue.db: file is not a database"),
        "{found}"
    );
}

#[test]
fn pages_that_were_written_over_are_found_and_the_rest_is_looked_at_all_the_same() {
    let world = World::new();
    for _ in 0..300 {
        world.put("a@example.org", &["b@ibm.com"]);
    }
    world.convert();
    world.queue.close();
    let copy = copy_of(world.folder.path());
    let path = copy.path().join("queue.db");
    let mut octets = fs::read(&path).unwrap();
    let (from, to) = (octets.len() / 2, octets.len() / 2 + 40_000);
    octets[from..to].fill(0x5a);
    fs::write(&path, octets).unwrap();
    let verdict = verify(copy.path(), false).unwrap();
    assert!(!verdict.is_in_order());
    assert_eq!(verdict.findings[0].kind, Kind::Database, "{verdict:?}");
}

#[test]
fn a_table_that_can_not_be_counted_after_a_crash_keeps_nobody_from_opening_the_rest() {
    let world = World::new();
    world.put("a@example.org", &["b@lotus.com"]);
    world.queue.close();
    let copy = copy_of(world.folder.path());
    let path = copy.path().join("queue.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("INSERT INTO marker VALUES ('running', 1)")
        .unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'recipient'";
    let root: usize = db.query_row(root, [], |row| row.get(0)).unwrap();
    drop(db);
    let mut octets = fs::read(&path).unwrap();
    octets[(root - 1) * 8192..root * 8192].fill(0x5a);
    fs::write(&path, octets).unwrap();
    let queue = WorkQueue::open(copy.path(), world.clock.clone()).unwrap();
    assert!(queue.waiting_inbound(queue.now(), 10).is_err());
    assert!(
        queue
            .statistics()
            .unwrap()
            .contains(&("Account.Crashes".to_owned(), 1))
    );
}

#[test]
fn what_was_forgotten_stays_in_the_account() {
    let world = busy_world();
    let new = world.put("a@example.org", &["b@apple.com", "c@apple.com"]);
    world.convert();
    for list in world.claim(&[8, 9], 0) {
        if list.next_hop.to_string() == "apple.com" {
            world.settle(&list, new, vec![(0, delivered()), (1, delivered())]);
        }
        world.queue.end_list(list.id).unwrap();
    }
    let before = verify(world.folder.path(), true).unwrap().account.unwrap();
    assert_eq!((before.missing().0, before.forgotten), (0, 0));
    world.clock.advance(10 * MINUTE);
    assert_eq!(world.queue.forget(MINUTE).unwrap().messages, 1);
    let account = verify(world.folder.path(), true).unwrap().account.unwrap();
    assert_eq!((account.missing().0, account.forgotten), (0, 2));
    let rows = |account: &Account| account.lines.iter().map(|line| line.rows).collect::<Vec<_>>();
    assert_eq!(rows(&account), rows(&before));
}

#[test]
fn after_a_crash_the_counters_are_counted_anew_and_the_account_is_exact() {
    let world = busy_world();
    // What was counted in the last second is not on the disk.
    let crashed = copy_of(world.folder.path());
    let before = verify(crashed.path(), true).unwrap();
    let account = before.account.as_ref().unwrap();
    assert!(
        !account.counters_agree() && account.is_open && before.is_in_order(),
        "{account:?}"
    );
    WorkQueue::open(crashed.path(), world.clock.clone())
        .unwrap()
        .close();
    let after = verify(crashed.path(), true).unwrap();
    let account = after.account.as_ref().unwrap();
    assert!(account.counters_agree() && !account.is_open, "{account:?}");
    assert_eq!((account.missing(), account.crashes), ((0, 0), 0));
}

#[test]
fn after_a_crash_of_a_large_queue_the_account_tells_what_its_counters_lack() {
    let world = World::new();
    for _ in 0..40 {
        world.put("a@example.org", &["b@lotus.com"]);
    }
    // Twice in a row.
    let mut crashed = copy_of(world.folder.path());
    for crashes in 1..3 {
        let queue = WorkQueue::open(crashed.path(), world.clock.clone()).unwrap();
        let again = copy_of(crashed.path());
        queue.close();
        let verdict = verify(crashed.path(), true).unwrap();
        let account = verdict.account.as_ref().unwrap();
        assert!(verdict.is_in_order() && !account.counters_agree(), "{account:?}");
        assert_eq!((account.missing(), account.crashes), ((0, -40), crashes));
        crashed = again;
    }
}

#[test]
fn a_recipient_without_a_row_is_missing_from_the_account() {
    let world = busy_world();
    world.queue.close();
    let copy = copy_of(world.folder.path());
    let db = rusqlite::Connection::open(copy.path().join("queue.db")).unwrap();
    db.execute_batch("DELETE FROM recipient WHERE path = 'newer@dec.com'")
        .unwrap();
    drop(db);
    let verdict = verify(copy.path(), true).unwrap();
    assert!(!verdict.is_in_order());
    assert_eq!(verdict.account.unwrap().missing(), (1, 1));
}

#[test]
fn who_has_little_time_hears_what_was_seen_in_it_and_that_it_is_not_all() {
    let world = busy_world();
    let whole = verify(world.queue.spool(), false).unwrap();
    let far = Instant::now() + Duration::from_secs(60);
    assert_eq!(verify_until(world.queue.spool(), far).unwrap(), (whole, true));
    let (nothing, is_whole) = verify_until(world.queue.spool(), Instant::now()).unwrap();
    assert!(
        !is_whole && nothing.messages == 0 && nothing.is_in_order(),
        "{nothing:?}"
    );
}

#[test]
fn a_glance_sees_for_whom_most_waits_and_what_the_clock_has_shown() {
    let world = World::new();
    world.put("a@example.org", &["one@sun.com", "two@sun.com", "one@dec.com"]);
    world.convert();
    let spool = world.queue.spool();
    let names = |most| {
        let waiting = glance(spool, most).unwrap().waiting;
        waiting.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(5), ["sun.com", "dec.com"]);
    assert_eq!(names(1), ["sun.com"]);
    assert!(glance(&spool.join("nowhere"), 1).unwrap_err().is_missing());
    world.queue.close();
    assert_eq!(glance(spool, 0).unwrap().last_moment, Some(world.queue.now()));
}
