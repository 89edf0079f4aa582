//! Damage that no task would ever come across: housekeeping finds it, and whatever comes of it is told.

use super::*;

/// Breaks a world of three messages, has it mended, and gives how it stands then. The end of the world looks whether all
/// is in order.
fn mended(statement: &str) -> (World, Mended) {
    let world = World::new();
    world.put("a@example.org", &["a@lotus.com", "b@lotus.com"]);
    world.put("a@example.org", &["c@lotus.com"]);
    world.convert();
    world.put("a@example.org", &["d@lotus.com"]);
    world.sql_run(statement);
    let mended = world.queue.mend().unwrap();
    assert_eq!(world.queue.mend().unwrap(), Mended::default(), "once is enough");
    (world, mended)
}

const HELD: Mended = Mended { held: 1, mended: 0 };

#[test]
fn a_sound_queue_is_left_alone() {
    let (world, mended) = mended("SELECT 1");
    assert_eq!(mended, Mended::default());
    assert_eq!(world.states(), "WQ_PENDING_CONVERSION:1 WQ_PENDING_XMIT:3");
}

#[test]
fn a_recipient_in_a_state_that_there_is_none_of_is_held_and_the_others_go_on() {
    for state in [0, 7, 77] {
        let (world, mended) = mended(&format!(
            "UPDATE recipient SET state = {state} WHERE path = 'b@lotus.com'"
        ));
        assert_eq!(mended, HELD);
        assert_eq!(
            world.states(),
            "WQ_PENDING_CONVERSION:1 WQ_PENDING_XMIT:2 WQ_HELD:1"
        );
        assert_eq!(
            world.sql("SELECT text FROM history WHERE event = 'held' AND recipient = 'b@lotus.com'"),
            format!(
                "the rows of this message in queue.db are damaged: recipient 1: there is no state {state}"
            )
        );
        assert_eq!(world.claim(&[0], 0)[0].recipients, 2);
        let recipients = "SELECT group_concat(recipient) FROM outbound_work_queue WHERE state = 'WQ_HELD'";
        assert_eq!(world.sql(recipients), "b@lotus.com");
    }
}

#[test]
fn a_recipient_that_no_list_would_ever_take_is_held() {
    for damage in [
        "hop = NULL",
        "hop = 999",
        "list = 999",
        "state = 3",
        "attempts = -1",
    ] {
        let (world, mended) = mended(&format!(
            "UPDATE recipient SET {damage} WHERE path = 'b@lotus.com'"
        ));
        assert_eq!(mended.held, 1, "{damage}");
        assert_eq!(
            world.states(),
            "WQ_PENDING_CONVERSION:1 WQ_PENDING_XMIT:2 WQ_HELD:1",
            "{damage}"
        );
    }
}

#[test]
fn what_is_kept_about_rows_is_worked_out_anew_from_them() {
    let (world, mended) = mended(
        "UPDATE message SET inbound_due = NULL WHERE inbound_due IS NOT NULL; \
         UPDATE next_hop SET waiting = 100, oldest = NULL, due = NULL",
    );
    assert_eq!(mended, Mended { held: 0, mended: 2 });
    assert_eq!(
        world.queue.waiting_inbound(world.queue.now(), 10).unwrap().len(),
        1
    );
    assert_eq!(world.claim(&[0], 0)[0].recipients, 3);
}

#[test]
fn a_message_whose_sender_is_none_is_held_as_a_whole() {
    let (world, mended) = mended(
        "UPDATE message SET reverse_path = CAST(x'fffe' AS TEXT) \
         WHERE id = (SELECT message FROM recipient WHERE path = 'b@lotus.com')",
    );
    assert_eq!(mended, HELD);
    assert_eq!(
        world.states(),
        "WQ_PENDING_CONVERSION:1 WQ_PENDING_XMIT:1 WQ_HELD:2"
    );
}

#[test]
fn conversion_holds_what_it_finds_in_a_state_that_there_is_none_of() {
    let world = World::new();
    let odd = world.put("a@example.org", &["a@lotus.com"]);
    world.put("a@example.org", &["b@lotus.com"]);
    world.sql_run(&format!(
        "UPDATE recipient SET state = 9 WHERE message = {}",
        odd.0
    ));
    world.convert();
    assert_eq!(world.states(), "WQ_PENDING_XMIT:1 WQ_HELD:1");
}

#[test]
fn a_list_that_ends_sends_nothing_back_that_it_can_not_read() {
    let world = World::new();
    world.put("a@example.org", &["a@lotus.com", "b@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.sql_run("UPDATE recipient SET state = 99 WHERE n = 1");
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.states(), "WQ_PENDING_XMIT:1 WQ_HELD:1");
    assert_eq!(world.claim(&[0], 0)[0].recipients, 1);
}

#[test]
fn an_unknown_state_never_counts_as_an_end() {
    let world = World::new();
    let id = world.put("a@example.org", &["a@lotus.com", "b@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.sql_run("UPDATE recipient SET state = 99 WHERE n = 1");
    world.settle(&list, id, vec![(0, delivered())]);
    assert_eq!(world.sql("SELECT left_at IS NULL FROM message"), "1");
    world.queue.end_list(list.id).unwrap();
    assert_eq!(world.states(), "WQ_HELD:1 WQ_TRANSMITTED:1");
}

#[test]
fn the_end_of_its_time_finds_a_state_that_there_is_none_of() {
    let world = World::new();
    let odd = world.put("a@example.org", &["a@lotus.com"]);
    world.put("a@example.org", &["b@lotus.com"]);
    world.convert();
    world.sql_run(&format!(
        "UPDATE recipient SET state = 6000 WHERE message = {}",
        odd.0
    ));
    world.clock.advance(60 * MINUTE);
    assert_eq!(world.expire(MINUTE), 1);
    assert_eq!(world.states(), "WQ_PENDING_REPORT:1 WQ_HELD:1");
}

#[test]
fn numbers_that_none_can_be_hold_their_message_and_the_others_flow() {
    for damage in [
        "UPDATE message SET size = -1 WHERE id = (SELECT min(id) FROM message)",
        "UPDATE message SET origin = 300 WHERE id = (SELECT min(id) FROM message)",
        "UPDATE recipient SET attempts = -1 WHERE message = (SELECT min(id) FROM message)",
    ] {
        let world = World::new();
        world.put("a@example.org", &["a@lotus.com"]);
        world.put("a@example.org", &["b@lotus.com"]);
        world.sql_run(damage);
        world.convert();
        assert_eq!(world.states(), "WQ_PENDING_XMIT:1 WQ_HELD:1", "{damage}");
        world.sql_run("UPDATE message SET size = 20");
    }
}

#[test]
fn a_next_hop_whose_name_is_none_keeps_nobody_waiting() {
    let world = World::new();
    world.put("a@example.org", &["a@lotus.com"]);
    world.put("a@example.org", &["a@ibm.com"]);
    world.convert();
    world.sql_run("UPDATE next_hop SET name = CAST(x'fffe' AS TEXT) WHERE name = 'lotus.com'");
    let first = world.claim(&[0, 1], 0);
    assert_eq!(first.len(), 1, "the other one");
    assert_eq!(world.queue.queue_rows(10).unwrap().1, 2);
    assert_eq!(world.queue.hop_rows(10).unwrap().len(), 3);
    let second = world.claim(&[2], 0);
    assert_eq!(second[0].next_hop.to_string(), "lotus.com");
}

#[test]
fn while_somebody_else_has_the_database_locked_work_is_refused_and_nothing_of_it_is_done() {
    let world = World::new();
    let id = world.put("a@example.org", &["a@lotus.com"]);
    let other = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let arrival = |id| {
        let content = Content::from_bytes(b"x\r\n".to_vec());
        Arrival::new(
            id,
            Origin::Session,
            ReversePath(None),
            [mailbox("b@lotus.com")],
            content,
        )
    };
    let refused = world.queue.put(arrival(world.queue.message_id())).unwrap_err();
    assert!(matches!(refused, QueueError::Locked), "{refused}");
    assert!(refused.will_pass());
    // Who only reads is not kept from it.
    assert_eq!(
        world.queue.waiting_inbound(world.queue.now(), 10).unwrap()[0].id,
        id
    );
    other.execute_batch("COMMIT").unwrap();
    world.queue.put(arrival(world.queue.message_id())).unwrap();
    assert_eq!(world.states(), "WQ_PENDING_CONVERSION:2");
}

/// Fills a page in the middle of table content, that of a database which is closed, with garbage.
fn break_a_page_of_content(spool: &std::path::Path) {
    const PAGE: usize = 8192;
    let path = spool.join("queue.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'content'";
    let root: usize = db.query_row(root, [], |row| row.get(0)).unwrap();
    drop(db);
    let mut octets = std::fs::read(&path).unwrap();
    let page = &octets[(root - 1) * PAGE..root * PAGE];
    // An interior page of a table: its cells begin with the number of a page below it.
    assert_eq!(page[0], 5, "there are pages below it");
    let cells = usize::from(u16::from_be_bytes([page[3], page[4]]));
    let pointer = 12 + cells / 2 * 2;
    let cell = usize::from(u16::from_be_bytes([page[pointer], page[pointer + 1]]));
    let leaf = u32::from_be_bytes(page[cell..cell + 4].try_into().unwrap()) as usize;
    octets[(leaf - 1) * PAGE..leaf * PAGE].fill(0x5a);
    std::fs::write(&path, octets).unwrap();
}

#[test]
fn what_became_of_mail_is_recorded_although_a_page_of_content_is_broken() {
    let world = World::new();
    for _ in 0..60 {
        let content = Content::from_bytes(vec![b'x'; 2000]);
        let (id, to) = (world.queue.message_id(), [mailbox("b@lotus.com")]);
        let arrival = Arrival::new(id, Origin::Session, ReversePath(None), to, content);
        world.queue.put(arrival).unwrap();
    }
    world.queue.close();
    let copy = super::verify::copy_of(world.folder.path());
    break_a_page_of_content(copy.path());
    let queue = WorkQueue::open(copy.path(), world.clock.clone()).unwrap();
    let (mut whole, mut unreadable) = (0, 0);
    for message in queue.waiting_inbound(queue.now(), 100).unwrap() {
        let delivery = match queue.content(message.id) {
            Ok(_) => Delivery::Delivered("there".to_owned()),
            Err(error) => Delivery::Hold(Reason::here(EnhancedCode(5, 3, 0), &error.to_string())),
        };
        match &delivery {
            Delivery::Delivered(_) => whole += 1,
            _ => unreadable += 1,
        }
        let converted = Converted {
            id: message.id,
            null_sender: true,
            structure: None,
            deliveries: vec![(0, delivery)],
        };
        queue.converted(vec![converted]).unwrap();
    }
    assert!(unreadable > 0 && whole > 50, "{whole} of 60");
    assert!(queue.waiting_inbound(queue.now(), 100).unwrap().is_empty());
    queue.close();
    let db = rusqlite::Connection::open(copy.path().join("queue.db")).unwrap();
    let delivered = "SELECT count(*) FROM recipient WHERE state = 10";
    let delivered: i32 = db.query_row(delivered, [], |row| row.get(0)).unwrap();
    assert_eq!(delivered, whole, "the others are held");
    drop(db);
    let account = verify(copy.path(), true).unwrap().account;
    assert_eq!(account, None, "what can not be read is not accounted for");
}

#[test]
fn content_that_its_message_has_left_behind_is_removed() {
    let world = World::new();
    let id = world.put("a@example.org", &["a@lotus.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.settle(&list, id, vec![(0, delivered())]);
    world.queue.end_list(list.id).unwrap();
    world.sql_run(&format!("INSERT INTO content VALUES ({}, x'00')", id.0));
    assert_eq!(world.queue.mend().unwrap(), Mended { held: 0, mended: 1 });
    assert_eq!(world.sql("SELECT count(*) FROM content"), "0");
}

#[test]
fn a_next_hop_or_a_list_with_the_last_number_there_is_keeps_no_other_mail_from_going_on() {
    for table in ["next_hop", "domain_list"] {
        let world = World::new();
        let first = world.put("a@example.org", &["a@lotus.com"]);
        world.convert();
        let list = world.claim(&[0], 0).remove(0);
        world.sql_run(&format!("UPDATE {table} SET id = {} WHERE id = 1", i64::MAX));
        assert_eq!(world.queue.mend().unwrap().mended, 1);
        if table == "next_hop" {
            world.settle(&list, first, vec![(0, delivered())]);
            world.queue.end_list(list.id).unwrap();
        }
        world.put("a@example.org", &["b@elsewhere.example"]);
        world.convert();
        let lists = world.claim(&[0, 1], 0);
        let hops: Vec<String> = lists.iter().map(|list| list.next_hop.to_string()).collect();
        assert!(
            hops.contains(&"elsewhere.example".to_owned()),
            "{table}: {hops:?}"
        );
        for table in ["next_hop", "domain_list"] {
            let high = format!("SELECT count(*) FROM {table} WHERE id > 9");
            assert_eq!(world.sql(&high), "0", "{table}");
        }
        assert_eq!(world.queue.mend().unwrap(), Mended::default(), "{table}");
    }
}
