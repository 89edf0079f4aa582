//! A work queue that others damage: a message whose rows are broken is held and told of, and the others flow; no mail is
//! acknowledged into a file that nobody will find; and whatever happens to the files, nothing spins or crashes.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rusqlite::Connection;

use crate::support::client::{Client, big_letter, letter};
use crate::support::shim::{Fault, OPEN};
use crate::support::sink::{Sink, Stage, State};
use crate::support::trace::contains;
use crate::support::world::{PATIENCE, World, eventually};

/// Changes rows by hand, as somebody with `sqlite3` would.
#[track_caller]
fn tamper(world: &World, statement: &str) {
    let db = Connection::open(world.spool().join("queue.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    db.execute_batch(statement).unwrap();
}

/// From now on content may be NULL, which nobody can write who leaves the schema as it is.
#[track_caller]
fn let_content_be_null(world: &World) {
    tamper(
        world,
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, 'BLOB NOT NULL', 'BLOB') WHERE name = 'content'",
    );
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

/// Waits until the log says of this message, as an error, that it is held, and why.
#[track_caller]
fn is_held_by_the_log(world: &World, id: &str, why: &str) {
    let (about, held) = (format!("id={id} "), format!("id={id} held: "));
    eventually(&format!("{held:?} and {why:?} in the log"), || {
        let mut said = world.daemon().said();
        said.retain(|line| line.contains(&about));
        let tells = |line: &String| line.contains(" ERROR ") && line.contains(&held) && line.contains(why);
        if said.iter().any(tells) { Ok(()) } else { Err(said) }
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
            "null",
            "UPDATE content SET bytes = NULL WHERE message = ",
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
    let_content_be_null(&world);
    for (name, statement, _) in damages {
        tamper(&world, &format!("{statement}{}", of(name)));
    }
    // Also what is in no state that there is.
    let listed = world.ask("queue list").text;
    let damaged = listed.lines().find(|line| line.contains("<state@ibm.com>"));
    assert!(damaged.is_some_and(|line| line.contains(" 77 ")), "{listed}");
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
        is_held_by_the_log(&world, id, why);
    }
    is_held_by_the_log(&world, &file, &format!("content/{file}"));
    let to: Vec<String> = sink.look(|seen| seen.accepted().map(|m| m.recipients[0].clone()).collect());
    assert_eq!(to.len(), 2, "{to:?}");
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
        (
            "null",
            "UPDATE content SET bytes = NULL WHERE message = ",
            "the content is not in queue.db",
        ),
    ];
    let ids = damages
        .map(|(name, ..)| client.mail("bsmith@univac.com", &[&format!("{name}@mta.test")], &letter(name)));
    let_content_be_null(&world);
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
        let same = damages.iter().filter(|(_, _, other)| *other == why).count();
        assert_eq!(world.sql(&told), same.to_string(), "{why}");
    }
    for ((.., why), id) in damages.iter().zip(&ids) {
        is_held_by_the_log(&world, id, why);
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
    if let Some(id) = starts_or_says_why(&mut world) {
        is_accounted_for(&world, &id);
    }
}

/// Octets of a page of the queue.
const PAGE: usize = 8192;

/// The pages on which the rows of a table of `queue` stand, in the order of the rows, and how many stand on each. The
/// first page of the file is 0.
fn leaves(queue: &Path, table: &str) -> Vec<(usize, usize)> {
    let db = Connection::open(queue).unwrap();
    let sql = "SELECT pageno - 1, ncell FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path";
    let mut leaves = db.prepare(sql).unwrap();
    let pages = leaves.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)));
    pages.unwrap().map(Result::unwrap).collect()
}

/// The IDs of the messages of which rows stand on these pages.
fn who_stands_on(queue: &Path, part: &Range<usize>) -> HashSet<String> {
    let db = Connection::open(queue).unwrap();
    let mut there = HashSet::new();
    for (table, key, order) in [
        ("message", "id", "id"),
        ("content", "message", "message"),
        ("recipient", "message", "message, n"),
        ("event", "message", "message, stamp"),
    ] {
        let mut keys = db
            .prepare(&format!(
                "SELECT printf('%016X', {key}) FROM {table} ORDER BY {order}"
            ))
            .unwrap();
        let mut keys = keys.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap);
        for (page, rows) in leaves(queue, table) {
            let on_it = keys.by_ref().take(rows);
            match part.contains(&page) {
                true => there.extend(on_it),
                false => on_it.for_each(drop::<String>),
            }
            // Of rows that are their own key one stands above each two pages.
            if order.contains(',') {
                keys.next();
            }
        }
        assert_eq!(keys.count(), 0, "{table}");
    }
    there
}

/// Whether the log says of this message, as an error, why it does not go on.
fn is_named_by_the_log(said: &[String], id: &str) -> bool {
    let name = format!("id={id} ");
    said.iter()
        .any(|line| line.contains(" ERROR ") && line.contains(&name))
}

/// The ID of what was taken; nothing where it was put off.
#[track_caller]
fn is_taken_or_put_off(world: &World, to: &str) -> Option<String> {
    let reply = bring(world, to);
    let id = reply.strip_prefix("250 2.6.0 Message received OK. ");
    assert!(id.is_some() || reply.starts_with("451 4.3.0 "), "{to}: {reply}");
    id.map(str::to_owned)
}

/// Whether the MTA can start on a queue that is damaged is up to what is damaged; if not, it says why. Gives the ID of
/// what it took.
#[track_caller]
fn starts_or_says_why(world: &mut World) -> Option<String> {
    match world.try_to_start() {
        Ok(()) => is_taken_or_put_off(world, "jdoe@mta.test"),
        Err((status, said)) => {
            assert!(
                status == Some(75) && said.contains("queue.db: "),
                "{status:?}: {said}"
            );
            None
        }
    }
}

/// What was taken has arrived, or waits, or the log says why not.
#[track_caller]
fn is_accounted_for(world: &World, id: &str) {
    eventually("what became of a message that was taken", || {
        let has_arrived = world
            .letters("jdoe@mta.test")
            .iter()
            .any(|letter| contains(letter, id));
        let waits = || world.ask("queue list").text.contains(id);
        match has_arrived || waits() || is_named_by_the_log(&world.daemon().said(), id) {
            true => Ok(()),
            false => Err(id.to_owned()),
        }
    });
}

/// What is to be seen of the mail that waits in a queue of which a part is written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// What stands elsewhere goes out, and the log names the others.
    Each,
    /// Nothing: all of it goes by pages that are broken, and the log says that.
    Nothing,
}

/// All mail waits for a host that puts it off, and is tried again after this time.
fn with_a_host_that_puts_off(retries: &str) -> (Sink, World) {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "450 4.2.1 later");
    let relay = sink.address().to_string();
    let world = World::load(&[
        "--relay-host",
        &relay,
        "--poll-interval",
        "1s",
        "--retry-schedule",
        retries,
    ]);
    (sink, world)
}

/// Writes garbage over a part of the queue, from this part of its pages on to that, while the MTA runs on it with mail
/// that waits. Gives how many went out.
#[track_caller]
fn a_part_is_written_over(part: fn(usize) -> Range<usize>, is_seen: Seen) -> usize {
    /// How many may stand beside it, where nothing can be written for want of room.
    const BESIDE: usize = 20;
    let (sink, mut world) = with_a_host_that_puts_off("5s");
    let mut client = Client::of(&world);
    let mut bring = |n| {
        let content = letter(&format!("mail {n}"));
        client.mail("bsmith@univac.com", &["jdoe@ibm.com"], &content)
    };
    let ids: Vec<String> = (0..200).map(&mut bring).collect();
    drop(client);
    let waits = "SELECT count(*) FROM outbound_work_queue WHERE attempts > 0 AND state = 'WQ_PENDING_XMIT'";
    world.wait_for_sql(waits, "200");
    // So that it is all in the database, and not in its log.
    world.terminate();
    let queue = world.spool().join("queue.db");
    let pages = usize::try_from(fs::metadata(&queue).unwrap().len()).unwrap() / PAGE;
    let part = part(pages);
    let there = who_stands_on(&queue, &part);
    world.start();
    let file = fs::OpenOptions::new().write(true).open(&queue).unwrap();
    let garbage = vec![0x5a; part.len() * PAGE];
    file.write_all_at(&garbage, (part.start * PAGE) as u64).unwrap();
    sink.behave();
    let taken: Vec<String> = (0..3)
        .filter_map(|_| is_taken_or_put_off(&world, "jdoe@mta.test"))
        .collect();
    let retried = world.ask("queue retry");
    assert!([0, 1, 75].contains(&retried.status), "{retried:?}");
    keep_house(&world);
    world.daemon().wait_for_word("malformed");
    let is_sent = |id: &String| sink.look(|seen| seen.accepted().any(|m| contains(&m.content, id)));
    match is_seen {
        Seen::Each => eventually("mail that goes out or is named", || {
            let said = world.daemon().said();
            match ids
                .iter()
                .find(|id| !is_sent(id) && !is_named_by_the_log(&said, id))
            {
                None => Ok(()),
                Some(id) => Err(id.clone()),
            }
        }),
        Seen::Nothing => {
            let word =
                "osesctl ERROR domain lists could not be made: queue.db: database disk image is malformed";
            world.daemon().wait_for_word(word);
        }
    }
    let (began, worked) = (Instant::now(), world.daemon().processor_time());
    let (_, lines) = world.daemon().count_said(0, "");
    eventually("three polls", || match began.elapsed() {
        watched if watched >= Duration::from_secs(3) => Ok(()),
        watched => Err(watched),
    });
    let (worked, took) = (world.daemon().processor_time() - worked, began.elapsed());
    assert!(worked < took / 2, "{worked:?} within {took:?}");
    let said = world.daemon().said();
    assert!(said.len() - lines < 300, "{:#?}", &said[said.len() - 30..]);
    assert!(world.show("tasks").contains("isesctl Listening"));
    nothing_came_twice(&sink);
    let sent = ids.iter().filter(|id| is_sent(id)).count();
    let beside = ids
        .iter()
        .filter(|id| !is_sent(id) && !there.contains(*id))
        .count();
    assert!(
        beside <= BESIDE || is_seen == Seen::Nothing,
        "{beside} beside it are still here, {} stand there",
        there.len()
    );
    let verified = world.ask("verify");
    assert!(
        verified.status == 65 && verified.text.contains("DAMAGE"),
        "{verified:?}"
    );
    taken.iter().for_each(|id| is_accounted_for(&world, id));
    assert_eq!(world.terminate().0, Some(0));
    if let Some(id) = starts_or_says_why(&mut world) {
        is_accounted_for(&world, &id);
    }
    sent
}

#[test]
fn a_queue_whose_second_half_is_written_over_puts_off_what_it_can_not_do_and_neither_spins_nor_crashes() {
    a_part_is_written_over(|pages| pages / 2..pages, Seen::Each);
}

#[test]
fn a_queue_of_which_only_the_beginning_and_the_second_half_are_left_puts_off_what_it_can_not_do() {
    let sent = a_part_is_written_over(|pages| 1..pages / 2, Seen::Nothing);
    assert_eq!(sent, 0);
}

#[test]
fn of_a_queue_whose_end_is_written_over_goes_out_what_stands_before_it() {
    let sent = a_part_is_written_over(|pages| pages - pages / 8..pages, Seen::Each);
    assert!(sent > 0);
}

/// No content has come to the next hop twice.
#[track_caller]
fn nothing_came_twice(sink: &Sink) {
    let mut arrived: Vec<Vec<u8>> = sink.look(|seen| seen.accepted().map(|m| m.content.clone()).collect());
    let all = arrived.len();
    arrived.sort();
    arrived.dedup();
    assert_eq!(arrived.len(), all, "of {all} some came twice");
}

/// Writes garbage over the second of the pages on which recipients stand, while no MTA runs; gives the IDs of the
/// messages that stood there. Most of what waits stands behind it.
#[track_caller]
fn one_page_is_written_over(world: &World) -> HashSet<String> {
    let queue = world.spool().join("queue.db");
    let pages = leaves(&queue, "recipient");
    assert!(pages.len() > 5, "{pages:?}");
    let page = pages[1].0;
    let there = who_stands_on(&queue, &(page..page + 1));
    let file = fs::OpenOptions::new().write(true).open(&queue).unwrap();
    file.write_all_at(&[0x5a; PAGE], (page * PAGE) as u64).unwrap();
    there
}

#[test]
fn messages_on_one_page_that_is_written_over_are_told_of_and_the_others_flow() {
    const MANY: usize = 400;
    /// How many may stand beside the page, where nothing can be written for want of room.
    const BESIDE: usize = 12;
    let (sink, mut world) = with_a_host_that_puts_off("1s");
    let mut client = Client::of(&world);
    let to = format!("{}@ibm.com", "x".repeat(60));
    let ids: Vec<String> = (0..MANY)
        .map(|n| client.mail("bsmith@univac.com", &[&to], &letter(&format!("mail {n}"))))
        .collect();
    drop(client);
    world.terminate();
    let there = one_page_is_written_over(&world);
    assert!(there.len() < MANY / 5, "{there:?}");
    sink.behave();
    world.start();
    let undone = || -> Vec<&String> {
        let arrived = |id: &String| sink.look(|seen| seen.accepted().any(|m| contains(&m.content, id)));
        ids.iter().filter(|id| !arrived(id)).collect()
    };
    let most = |seen: &State| seen.accepted().count() >= MANY - there.len() - BESIDE;
    sink.wait_for(most, PATIENCE);
    world
        .daemon()
        .wait_for_word("is passed over, since a page of queue.db");
    let mut last = (0, Instant::now());
    eventually("all that flows to be through", || {
        let arrived = sink.look(|seen| seen.accepted().count());
        if arrived != last.0 {
            last = (arrived, Instant::now());
        }
        match last.1.elapsed() {
            quiet if quiet >= Duration::from_millis(1500) => Ok(()),
            _ => Err(arrived),
        }
    });
    // It is said of each that is still here.
    let left = undone();
    let beside = left.iter().filter(|id| !there.contains(**id)).count();
    assert!(
        beside <= BESIDE,
        "{beside} beside the page, {} on it",
        there.len()
    );
    eventually("a word of each that does not go on", || {
        let said = world.daemon().said();
        match left.iter().find(|id| !is_named_by_the_log(&said, id)) {
            None => Ok(()),
            Some(id) => Err((*id).clone()),
        }
    });
    let (began, worked) = (Instant::now(), world.daemon().processor_time());
    // Who comes now is not kept waiting by those.
    for n in 1..=3 {
        is_taken(&world, "jdoe@mta.test");
        world.wait_for_letters("jdoe@mta.test", n);
        let id = Client::of(&world).mail("bsmith@univac.com", &["new@ibm.com"], &letter("new"));
        let arrived = |seen: &State| seen.accepted().any(|message| contains(&message.content, &id));
        sink.wait_for(arrived, PATIENCE);
    }
    keep_house(&world);
    eventually("two polls", || match began.elapsed() {
        watched if watched >= Duration::from_secs(2) => Ok(()),
        watched => Err(watched),
    });
    let (worked, took) = (world.daemon().processor_time() - worked, began.elapsed());
    assert!(worked < took / 2, "{worked:?} within {took:?}");
    nothing_came_twice(&sink);
    assert_eq!(world.terminate().0, Some(0));
    world.start();
    is_taken(&world, "jdoe@mta.test");
    world.wait_for_letters("jdoe@mta.test", 4);
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

#[track_caller]
fn does_not_start_for_reading_only(world: &World) {
    let (status, said) = world.another().last_words();
    assert!(
        status == Some(75) && said.contains("queue.db") && said.contains("readonly"),
        "{status:?}: {said}"
    );
}

#[test]
fn an_mta_whose_queue_is_read_only_does_not_start_and_says_why() {
    let mut world = World::without_mta(&[]);
    let faults = world.faults();
    world.start();
    is_taken(&world, "jdoe@mta.test");
    world.wait_for_letters("jdoe@mta.test", 1);
    world.terminate();
    // Who may not open a file to write to it opens it to read it.
    for error in [Errno::EACCES, Errno::EROFS] {
        let fault = Fault::of(OPEN, error).on("queue.db$").times(1);
        faults.order(&[fault]);
        does_not_start_for_reading_only(&world);
        assert_eq!(faults.struck(), 1);
    }
    faults.behave();
    let queue = world.spool().join("queue.db");
    let change = |flag: &str| Command::new("chattr").arg(flag).arg(&queue).output();
    let mode = |mode| fs::set_permissions(&queue, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o444);
    // Root may write whatever the mode says, and not everywhere can it be kept from that.
    let is_root = fs::OpenOptions::new().write(true).open(&queue).is_ok();
    if !is_root || change("+i").is_ok_and(|run| run.status.success()) {
        does_not_start_for_reading_only(&world);
    }
    let _ = change("-i");
    mode(0o600);
    world.start();
    is_taken(&world, "jdoe@mta.test");
    world.wait_for_letters("jdoe@mta.test", 2);
}

/// Somebody else has the queue locked until he is dropped.
#[track_caller]
fn lock(world: &World, how: &str) -> Connection {
    let db = Connection::open(world.spool().join("queue.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    db.execute_batch(how).unwrap();
    db
}

/// The MTA runs, and another program keeps its queue locked for longer than it waits for that.
fn locked_while_it_runs() {
    let sink = Sink::start();
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    world.tell("smtpmta stop outbound transport");
    is_taken(&world, "jdoe@ibm.com");
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "1");
    // The counters have been written: the writer has nothing to do.
    let counted = "SELECT value FROM statistic WHERE name = 'SMTP.MessagesProcessed'";
    world.wait_for_sql(counted, "1");
    let locked = lock(&world, "BEGIN IMMEDIATE");
    let (began, worked) = (Instant::now(), world.daemon().processor_time());
    is_put_off(&world, "meanwhile@mta.test");
    let (worked, took) = (world.daemon().processor_time() - worked, began.elapsed());
    assert!(took > Duration::from_secs(9), "it has waited for {took:?}");
    assert!(worked < took / 4, "{worked:?} within {took:?}");
    world.daemon().wait_for_word("locked by another program");
    // Who reads does not wait for that, and who writes waits for no restart.
    assert!(world.ask("queue list").text.contains("<jdoe@ibm.com>"));
    world.tell("smtpmta start outbound transport");
    drop(locked);
    is_taken(&world, "after@mta.test");
    world.wait_for_letters("after@mta.test", 1);
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    assert_eq!(world.letters("meanwhile@mta.test").len(), 0);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
}

/// Another program has the queue locked in this way when the MTA is started.
fn locked_at_a_start(how: &str) {
    let mut world = World::load(&[]);
    world.tell("smtpmta stop inbound conversion");
    is_taken(&world, "jdoe@mta.test");
    assert_eq!(world.terminate().0, Some(0));
    let locked = lock(&world, how);
    let (status, said) = world.another().last_words();
    assert!(
        status == Some(75) && said.contains("queue.db") && said.contains("locked"),
        "{how}: {status:?}: {said}"
    );
    drop(locked);
    world.start();
    world.wait_for_letters("jdoe@mta.test", 1);
}

#[test]
fn a_queue_that_another_program_keeps_locked_takes_no_mail_until_it_lets_go() {
    const EXCLUSIVE: &str = "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT";
    // Each of them is mostly waiting.
    thread::scope(|scope| {
        scope.spawn(locked_while_it_runs);
        scope.spawn(|| locked_at_a_start("BEGIN IMMEDIATE"));
        scope.spawn(|| locked_at_a_start(EXCLUSIVE));
    });
    // Nobody can have it for himself while the MTA has it open.
    let world = World::load(&[]);
    let db = Connection::open(world.spool().join("queue.db")).unwrap();
    db.busy_timeout(Duration::ZERO).unwrap();
    assert!(db.execute_batch(EXCLUSIVE).is_err());
    drop(db);
    is_taken(&world, "jdoe@mta.test");
    world.wait_for_letters("jdoe@mta.test", 1);
}
