//! A work queue that others damage: a message whose rows are broken is held and told of, and the others flow; no mail is
//! acknowledged into a file that nobody will find; and whatever happens to the files, nothing spins or crashes.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

use crate::support::client::{Client, big_letter, letter};
use crate::support::sink::Sink;
use crate::support::world::{PATIENCE, World, eventually};

/// Changes rows by hand, as somebody with `sqlite3` would.
#[track_caller]
fn tamper(world: &World, statement: &str) {
    let db = Connection::open(world.spool().join("queue.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    db.execute_batch(statement).unwrap();
}

/// A client brings a small letter; the reply to its end.
fn bring(world: &World, to: &str) -> String {
    let mail = Client::of(world).try_mail("bsmith@univac.com", &[to], &letter(to));
    mail.unwrap()
}

#[track_caller]
fn is_taken(world: &World, to: &str) {
    let reply = bring(world, to);
    assert!(reply.starts_with("250 2.6.0 "), "{to}: {reply}");
}

#[track_caller]
fn is_put_off(world: &World, to: &str) {
    let reply = bring(world, to);
    assert!(reply.starts_with("451 4.3.0 "), "{to}: {reply}");
}

/// Housekeeping begins, however long what it is at takes.
#[track_caller]
fn keep_house(world: &World) {
    eventually("housekeeping to begin", || {
        let said = world.tell("housekeeping");
        if said.contains("has begun") {
            Ok(())
        } else {
            Err(said)
        }
    });
}

#[test]
fn a_message_whose_rows_are_broken_is_held_and_told_of_and_the_others_flow() {
    let sink = Sink::start();
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    world.tell("smtpmta stop outbound transport");
    let mut client = Client::of(&world);
    let of = |name: &str| format!("(SELECT message FROM recipient WHERE path = '{name}@ibm.com')");
    let damages = [
        (
            "path",
            "UPDATE recipient SET path = CAST(x'ff40ff' AS TEXT) WHERE message = ",
            "its path is none",
        ),
        (
            "sender",
            "UPDATE message SET reverse_path = '<<>' WHERE id = ",
            "its reverse path is none",
        ),
        ("size", "UPDATE message SET size = -5 WHERE id = ", "size is -5"),
        (
            "blob",
            "DELETE FROM content WHERE message = ",
            "the content is not in queue.db",
        ),
        (
            "short",
            "UPDATE content SET bytes = substr(bytes, 1, 9) WHERE message = ",
            "the content has 9 octets",
        ),
        (
            "state",
            "UPDATE recipient SET state = 77 WHERE message = ",
            "there is no state 77",
        ),
        (
            "nowhere",
            "UPDATE recipient SET hop = 4711 WHERE message = ",
            "its next hop 4711 does not exist",
        ),
    ];
    let ids = damages
        .map(|(name, ..)| client.mail("bsmith@univac.com", &[&format!("{name}@ibm.com")], &letter(name)));
    let file = client.mail(
        "bsmith@univac.com",
        &["file@ibm.com"],
        &big_letter("file", 100_000),
    );
    client.mail("bsmith@univac.com", &["first@ibm.com"], &letter("first"));
    let waiting = (damages.len() + 2).to_string();
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", &waiting);
    for (name, statement, _) in damages {
        tamper(&world, &format!("{statement}{}", of(name)));
    }
    fs::remove_file(world.spool().join("content").join(&file)).unwrap();
    // Its mail goes by the configuration, and not by this.
    tamper(&world, "UPDATE next_hop SET name = CAST(x'fffe' AS TEXT)");
    world.tell("smtpmta start outbound transport");
    client.mail("bsmith@univac.com", &["last@ibm.com"], &letter("last"));
    sink.wait_for(|seen| seen.accepted().count() == 2, PATIENCE);
    keep_house(&world);
    let held = "SELECT count(*) FROM outbound_work_queue WHERE state = 'WQ_HELD'";
    world.wait_for_sql(held, &(damages.len() + 1).to_string());
    world.wait_for_sql(
        "SELECT count(*) FROM outbound_work_queue WHERE state <> 'WQ_HELD'",
        "0",
    );
    for ((.., why), id) in damages.iter().zip(&ids) {
        let told = format!("SELECT text FROM history WHERE id = '{id}' AND event = 'held'");
        let told = world.sql(&told);
        assert!(told.contains(why), "{id}: {told}");
    }
    let to: Vec<String> = sink.look(|seen| seen.accepted().map(|m| m.recipients[0].clone()).collect());
    assert_eq!(to.len(), 2, "{to:?}");
    for id in ids.iter().chain([&file]) {
        world.daemon().wait_for_word(&format!("id={id}"));
    }
    // All of it can be seen, however it is spelled.
    for command in ["show queue", "show hops", "queue list"] {
        let answer = world.ask(command);
        assert!(answer.status == 0 || answer.status == 1, "{command}: {answer:?}");
    }
}

#[test]
fn damage_that_is_done_before_conversion_holds_its_message_and_the_others_are_delivered() {
    let world = World::load(&[]);
    world.tell("smtpmta stop inbound conversion");
    let mut client = Client::of(&world);
    let damages = [
        (
            "state",
            "UPDATE recipient SET state = 0 WHERE message = ",
            "there is no state 0",
        ),
        (
            "origin",
            "UPDATE message SET origin = 999 WHERE id = ",
            "origin is 999",
        ),
        (
            "sender",
            "UPDATE message SET reverse_path = CAST(x'80' AS TEXT) WHERE id = ",
            "its reverse path is none",
        ),
        (
            "blob",
            "DELETE FROM content WHERE message = ",
            "the content is not in queue.db",
        ),
    ];
    for (name, ..) in damages {
        client.mail("bsmith@univac.com", &[&format!("{name}@mta.test")], &letter(name));
    }
    for (name, statement, _) in damages {
        tamper(
            &world,
            &format!("{statement}(SELECT message FROM recipient WHERE path = '{name}@mta.test')"),
        );
    }
    client.mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("sound"));
    world.tell("smtpmta start inbound conversion");
    world.wait_for_letters("jdoe@mta.test", 1);
    let held = "SELECT count(*) FROM inbound_work_queue WHERE state = 'WQ_HELD'";
    world.wait_for_sql(held, &damages.len().to_string());
    for (_, _, why) in damages {
        let told = format!("SELECT count(*) FROM history WHERE event = 'held' AND text LIKE '%{why}%'");
        assert_eq!(world.sql(&told), "1", "{why}");
    }
}

#[test]
fn nothing_is_acknowledged_into_a_queue_that_was_deleted_and_all_is_well_when_it_is_back() {
    let sink = Sink::start();
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    is_taken(&world, "before@mta.test");
    world.wait_for_letters("before@mta.test", 1);
    world.tell("smtpmta stop outbound transport");
    is_taken(&world, "jdoe@ibm.com");
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "1");
    let (queue, kept) = (world.spool().join("queue.db"), world.spool().join("kept"));
    fs::hard_link(&queue, &kept).unwrap();
    fs::remove_file(&queue).unwrap();
    is_put_off(&world, "meanwhile@mta.test");
    let told = world
        .daemon()
        .wait_for_word("queue.db was deleted, moved or replaced while it was open");
    assert!(told.contains("/proc/"), "{told}");
    // Something else in its place is no better, and is never opened.
    let others: [fn(&Path) -> std::io::Result<()>; 2] =
        [|path| fs::create_dir(path), |path| fs::write(path, b"")];
    for replace in others {
        replace(&queue).unwrap();
        is_put_off(&world, "meanwhile@mta.test");
        let _ = fs::remove_dir(&queue).or_else(|_| fs::remove_file(&queue));
    }
    // What is queued goes out.
    world.tell("smtpmta start outbound transport");
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    fs::rename(&kept, &queue).unwrap();
    is_taken(&world, "after@mta.test");
    world.wait_for_letters("after@mta.test", 1);
    world.daemon().wait_for_word("queue.db is where it was");
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    let verified = world.ask("verify --account");
    assert_eq!(verified.status, 0, "{verified:?}");
}

#[test]
fn what_is_in_a_log_that_was_deleted_comes_home_at_a_stop_in_good_order() {
    let mut world = World::load(&[]);
    world.tell("smtpmta stop inbound conversion");
    is_taken(&world, "jdoe@mta.test");
    fs::remove_file(world.spool().join("queue.db-wal")).unwrap();
    is_put_off(&world, "jdoe@mta.test");
    world.daemon().wait_for_word("queue.db-wal was deleted");
    assert_eq!(world.terminate().0, Some(0));
    world.start();
    world.wait_for_letters("jdoe@mta.test", 1);
    let verified = world.ask("verify --account");
    assert_eq!(verified.status, 0, "{verified:?}");
}

#[test]
fn a_queue_that_is_written_over_while_it_is_open_takes_no_mail_and_neither_spins_nor_crashes() {
    let mut world = World::load(&[]);
    for _ in 0..20 {
        is_taken(&world, "jdoe@mta.test");
    }
    world.wait_for_letters("jdoe@mta.test", 20);
    // So that it is all in the database, and not in its log.
    world.terminate();
    world.start();
    let queue = world.spool().join("queue.db");
    let file = fs::OpenOptions::new().write(true).open(&queue).unwrap();
    let half = usize::try_from(fs::metadata(&queue).unwrap().len() / 2).unwrap();
    file.write_all_at(&vec![0x5a; half.max(8192)], 0).unwrap();
    for _ in 0..3 {
        is_put_off(&world, "jdoe@mta.test");
    }
    world
        .daemon()
        .wait_for_word("something else has been written over queue.db");
    // It can still be spoken to, and has not much to say.
    assert!(world.show("version").starts_with("smtpmta "));
    assert!(world.show("tasks").contains("isesctl Listening"));
    let said = world.daemon().said();
    assert!(
        said.len() < 300,
        "{} lines: {:#?}",
        said.len(),
        &said[said.len() - 20..]
    );
    assert_eq!(world.terminate().0, Some(0));
}

#[test]
fn an_mta_whose_queue_is_a_folder_or_no_database_does_not_start_and_says_why() {
    let world = World::without_mta(&[]);
    let queue = world.spool().join("queue.db");
    fs::create_dir_all(&queue).unwrap();
    let (status, said) = world.another().last_words();
    assert!(
        status == Some(75) && said.contains("queue.db"),
        "{status:?}: {said}"
    );
    fs::remove_dir(&queue).unwrap();
    fs::write(&queue, [0x5a; 40_000]).unwrap();
    let (status, said) = world.another().last_words();
    assert!(
        status == Some(75) && said.contains("file is not a database"),
        "{status:?}: {said}"
    );
    assert_eq!(
        fs::read(&queue).unwrap(),
        [0x5a; 40_000],
        "whatever it is, it is left alone"
    );
}

#[test]
fn an_mta_whose_queue_is_read_only_does_not_start_and_says_why() {
    let mut world = World::load(&[]);
    is_taken(&world, "jdoe@mta.test");
    world.terminate();
    let queue = world.spool().join("queue.db");
    let change = |flag: &str| Command::new("chattr").arg(flag).arg(&queue).output();
    let mode = |mode| fs::set_permissions(&queue, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o444);
    // Root may write whatever the mode says; where it can not be kept from it there is nothing to see.
    let is_root = fs::OpenOptions::new().write(true).open(&queue).is_ok();
    if is_root && !change("+i").is_ok_and(|run| run.status.success()) {
        return;
    }
    let (status, said) = world.another().last_words();
    let _ = change("-i");
    mode(0o600);
    assert!(
        status == Some(75) && said.contains("readonly"),
        "{status:?}: {said}"
    );
    world.start();
    is_taken(&world, "jdoe@mta.test");
}
