//! The spools of released versions: the MTA of this version takes them over, and delivers what waits in them.

use std::fs;

use rusqlite::Connection;
use smtpmta::clock::Clock;
use smtpmta::crash_point::CrashPoint;

use crate::support::sink::Sink;
use crate::support::world::{PATIENCE, World};

/// What every stamp in the fixture begins with: its mail arrived in 2001, and would be expired by now.
const IN_2001: &str = "1000000";

#[test]
fn a_spool_of_version_1_is_upgraded_and_its_mail_delivered() {
    let reports = ["ann@example.org", "ann@example.org"];
    is_taken_over(include_str!("../fixtures/queue-v1.sql"), "60", &reports, &WAITED);
}

#[test]
fn a_spool_of_version_2_is_upgraded_and_its_mail_delivered() {
    let reports = ["a@example.org", "ann@example.org", "ann@example.org"];
    is_taken_over(include_str!("../fixtures/queue-v2.sql"), "62", &reports, &WAITED);
}

#[test]
fn a_spool_of_version_3_is_upgraded_and_its_mail_delivered() {
    let reports = ["a@example.org", "ann@example.org", "ann@example.org"];
    let waited = [&WAITED[..], &["waits@univac.com"]].concat();
    is_taken_over(include_str!("../fixtures/queue-v3.sql"), "62", &reports, &waited);
}

#[test]
fn a_spool_of_version_4_is_upgraded_and_its_mail_delivered() {
    let reports = ["a@example.org", "ann@example.org", "ann@example.org"];
    let waited = [&WAITED[..], &["waits@univac.com"]].concat();
    is_taken_over(include_str!("../fixtures/queue-v4.sql"), "62", &reports, &waited);
}

/// It begins anew where it was, or is done.
#[cfg(debug_assertions)]
#[test]
fn an_upgrade_that_is_cut_off_by_a_crash_is_made_at_the_next_start() {
    use CrashPoint::{SchemaCommitted, SchemaWritten};
    let reports = ["ann@example.org", "ann@example.org"];
    let dump = include_str!("../fixtures/queue-v1.sql");
    let crashes = [SchemaWritten, SchemaWritten, SchemaCommitted];
    is_taken_over_after(&crashes, dump, "60", &reports, &WAITED);
}

/// What waits in each of them.
const WAITED: [&str; 6] = [
    "big@lotus.com",
    "late@ibm.com",
    "new@dec.com",
    "new@ibm.com",
    "new@lotus.com",
    "pending@dec.com",
];

/// The MTA takes this spool over and delivers what waits in it: for these recipients, two of one message, and reports
/// to these. The ID of the big message ends so.
fn is_taken_over(dump: &str, big: &str, reports: &[&str], waited: &[&str]) {
    is_taken_over_after(&[], dump, big, reports, waited);
}

/// The same, after so many starts that end in a crash.
fn is_taken_over_after(crashes: &[CrashPoint], dump: &str, big: &str, reports: &[&str], waited: &[&str]) {
    let sink = Sink::start();
    let mut world = World::without_mta(&["--relay-host", &sink.address().to_string()]);
    // A quarter of an hour ago, so that all retries are due.
    let now = Clock::System.now().minus(std::time::Duration::from_secs(1000));
    let lately = now.0.to_string()[..IN_2001.len()].to_owned();
    let spool = world.spool();
    fs::create_dir_all(spool.join("content")).unwrap();
    let id = |seconds: &str| {
        let id: i64 = format!("{seconds}0000000{big}").parse().unwrap();
        format!("{id:016X}")
    };
    let file = id(&lately);
    let dump = dump.replace(IN_2001, &lately).replace(&id(IN_2001), &file);
    let db = Connection::open(spool.join("queue.db")).unwrap();
    db.execute_batch(&dump).unwrap();
    drop(db);
    let content = [
        b"Subject: big\r\n\r\n".to_vec(),
        vec![b'x'; 71_998],
        b"\r\n".to_vec(),
    ]
    .concat();
    fs::write(spool.join("content").join(file), &content).unwrap();
    for point in crashes {
        world.crash_at_start(*point, 1);
    }
    world.start();
    // Those that waited, the report that was written, and those about recipients whose senders did not know yet.
    sink.wait_for(
        |seen| seen.accepted().count() == waited.len() - 1 + reports.len(),
        PATIENCE,
    );
    for view in ["inbound_work_queue", "smtp_box", "outbound_work_queue"] {
        world.wait_for_sql(
            &format!("SELECT count(*) FROM {view} WHERE state <> 'WQ_HELD'"),
            "0",
        );
    }
    sink.look(|seen| {
        let mut to: Vec<&str> = seen
            .accepted()
            .flat_map(|message| message.recipients.iter().map(String::as_str))
            .collect();
        to.sort_unstable();
        assert_eq!(to, [reports, waited].concat());
        let big = seen
            .messages
            .iter()
            .find(|m| m.recipients == ["big@lotus.com"])
            .unwrap();
        assert_eq!(big.content, content);
    });
    assert_eq!(world.sql("SELECT recipient FROM dead_mail"), "gone@ibm.com");
    assert_eq!(
        world.sql("SELECT recipient FROM outbound_work_queue"),
        "held@iris.com"
    );
    assert_eq!(world.sql("PRAGMA user_version"), "5");
}
