//! Gaps of the database go back to the disk while mail flows.

use super::*;

/// Gaps such as a busy day leaves behind, below the mail that `later` brings.
fn gaps_below(world: &World, later: impl FnOnce()) {
    let db = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    db.execute_batch("CREATE TABLE day (mail BLOB); INSERT INTO day VALUES (zeroblob(24000000))")
        .unwrap();
    later();
    db.execute_batch("DROP TABLE day").unwrap();
}

fn octets(world: &World, file: &str) -> u64 {
    std::fs::metadata(world.folder.path().join(file)).unwrap().len()
}

#[test]
fn gaps_are_given_back_while_others_write_and_no_letter_changes() {
    let world = World::new();
    let mut ids = Vec::new();
    gaps_below(&world, || {
        ids.extend((0..50).map(|_| world.put("a@example.org", &["x@lotus.com"])));
    });
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| world.queue.compact().unwrap());
        while !compacting.is_finished() {
            ids.push(world.put("a@example.org", &["x@lotus.com"]));
        }
        assert!(compacting.join().unwrap() > 20_000_000);
    });
    assert_eq!(world.sql("PRAGMA integrity_check"), "ok");
    for id in ids {
        let mut content = Vec::new();
        world
            .queue
            .content(id)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert_eq!(content, b"Subject: x\r\n\r\nbody\r\n");
    }
    assert!(
        octets(&world, "queue.db") < 4_000_000,
        "{}",
        octets(&world, "queue.db")
    );
    assert!(octets(&world, "queue.db-wal") < 4_000_000);
}

#[test]
fn a_few_gaps_are_kept_for_what_comes() {
    let world = World::new();
    let db = rusqlite::Connection::open(world.folder.path().join("queue.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE day (mail BLOB); INSERT INTO day VALUES (zeroblob(8000000)); DROP TABLE day",
    )
    .unwrap();
    assert_eq!(world.queue.compact().unwrap(), 0);
}

#[test]
fn a_spool_of_an_earlier_version_gives_its_gaps_back_too() {
    let world = spool_of(
        include_str!("../../../tests/fixtures/queue-v3.sql"),
        "00038D7EA4C6803E",
    );
    gaps_below(&world, || {});
    assert!(world.queue.compact().unwrap() > 20_000_000);
    what_waits_goes_out(&world);
}
