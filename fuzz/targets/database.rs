//! The queue.db of somebody who is no friend, with mail in every state: any value in any column of any row, of any type,
//! or octets of the file itself. Whatever the queue is asked then, and whatever it is asked to do, comes to an end without
//! a panic, and what is shown of it is clean; housekeeping leaves nothing behind that `verify` says it mends; and the
//! message whose rows nobody has touched flows.
//!
//! Where the input begins with 0xFC housekeeping comes before the tasks, too. Where it begins, or goes on, with 0xFD the
//! tables have lost their types, and what is sound need not flow. Parts follow each other, with 0xFE between them. One of
//! rows is table, column, row and type in an octet each, and the value behind them; where the first octet is 0xFF it is of
//! the file: a place in three octets, and what is put there.

#![no_main]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use rusqlite::types::Value;
use smtpmta::clock::{Clock, Stamp};
use smtpmta::console::{screen, verdict};
use smtpmta::domain_list::next_hop::NextHop;
use smtpmta::domain_list::pace::Unlimited;
use smtpmta::outbound::outcome::{Outcome, Reason};
use smtpmta::smtp::path::{Mailbox, ReversePath};
use smtpmta::smtp::reply::EnhancedCode;
use smtpmta::work_queue::id::MessageId;
use smtpmta::work_queue::retry::RetryPolicy;
use smtpmta::work_queue::{
    Arrival, Choice, Claim, Content, Converted, Delivery, Finding, HopId, Kind, Mended, Origin, QueueError,
    Retry, Round, Routed, Settlement, Silence, Terms, Verdict, Way, WorkQueue, verify,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// So often housekeeping may come until nothing is left for it.
const HOUSEKEEPINGS: usize = 4;

/// What may be changed, how a row of it is found, and of which message it is.
const TABLES: [(&str, &str, &str); 9] = [
    ("message", "id", "id"),
    ("content", "message", "message"),
    ("recipient", "message, n", "message"),
    ("next_hop", "id", "0"),
    ("domain_list", "id", "0"),
    ("event", "message, stamp", "message"),
    ("statistic", "name", "0"),
    ("marker", "name", "0"),
    ("state", "number", "0"),
];

/// A database as it may be found, and the columns of its tables.
struct Template {
    strict: Vec<u8>,
    /// The same without the types of its columns.
    loose: Vec<u8>,
    /// A message that nobody touches.
    sound: MessageId,
    columns: Vec<Vec<String>>,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let spool = folder("template");
    let sound = fill(&WorkQueue::open(&spool, clock()).expect("a new queue"));
    let file = spool.join("queue.db");
    let db = Connection::open(&file).expect("it is there");
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE")
        .expect("it is one file");
    assert!(judged(&spool).is_some_and(|found| found.is_in_order()));
    let strict = fs::read(&file).expect("it can be read");
    // Whoever makes a database of his own does not keep to our types.
    let statements = "PRAGMA writable_schema = ON; \
        UPDATE sqlite_schema SET sql = replace(replace(replace(sql, 'STRICT, WITHOUT', 'WITHOUT'), ' STRICT', ''), \
          ' NOT NULL', '') WHERE type = 'table'; \
        PRAGMA writable_schema = RESET";
    db.execute_batch(statements).expect("it can be loosened");
    let columns: [Vec<String>; 9] = TABLES.map(|(table, ..)| {
        let mut query = db
            .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))
            .expect("SQL");
        let names = query.query_map([], |row| row.get(0)).expect("rows");
        names.collect::<Result<_, _>>().expect("names")
    });
    drop(db);
    let loose = fs::read(&file).expect("it can be read");
    let _ = fs::remove_dir_all(&spool);
    Template {
        strict,
        loose,
        sound,
        columns: columns.into(),
    }
});

fuzz_target!(|data: &[u8]| {
    let spool = folder("spool");
    let file = spool.join("queue.db");
    let (mends_first, data) = begins(data, 0xFC);
    let (is_loose, data) = begins(data, 0xFD);
    let template = if is_loose {
        &TEMPLATE.loose
    } else {
        &TEMPLATE.strict
    };
    fs::write(&file, damaged(template, data)).expect("a database can be written");
    change(&file, data);
    judged(&spool);
    match WorkQueue::open(&spool, clock()) {
        Ok(queue) => {
            let is_whole = !is_loose && parts(data).all(|part| part.first() != Some(&0xFF));
            if mends_first {
                mend(&queue, is_whole);
            }
            use_it(&queue, is_whole);
            mend(&queue, is_whole);
            look(&queue);
            queue.close();
            judged(&spool);
        }
        Err(error) => _ = check(Err::<(), _>(error)),
    }
    let _ = fs::remove_dir_all(&spool);
});

/// A folder of this name, in memory where there is such a place, and empty.
fn folder(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    let folder = place.join(format!("smtpmta-fuzz-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

fn clock() -> Clock {
    Clock::manual(Stamp(1_700_000_000_000_000))
}

/// Mail in every state that a queue can leave behind; gives the last message, which waits for its conversion.
fn fill(queue: &WorkQueue) -> MessageId {
    let put = |from: &str, to: &[&str]| {
        let to = to.iter().map(|to| to.parse::<Mailbox>().expect("an address"));
        let from = Some(from).filter(|from| !from.is_empty());
        let from = ReversePath(from.map(|from| from.parse().expect("an address")));
        let content = Content::from_bytes(b"Subject: x\r\n\r\nbody\r\n".to_vec());
        let id = queue.message_id();
        queue
            .put(Arrival::new(id, Origin::Session, from, to, content))
            .expect("a message");
        id
    };
    for _ in 0..2 {
        put("bob@example.org", &["jane@a.example", "amy@b.example"]);
        put("", &["jane@a.example"]);
        put("bob@example.org", &["jane@c.example"]);
    }
    convert(queue);
    // On a list, refused, put off, and in the row of a next hop that does not answer.
    for list in queue.claim(claim(&[0, 1, 2], 10)).expect("lists").lists {
        let first = queue.list_messages(list.id).expect("messages").remove(0);
        let outcomes = first.recipients.iter().map(|recipient| {
            let outcome = match recipient.n {
                0 => Outcome::GiveUp(Reason::here(EnhancedCode(5, 1, 1), "no such user")),
                _ => Outcome::TryLater(Reason::here(EnhancedCode(4, 2, 1), "later")),
            };
            (recipient.n, outcome)
        });
        let settlement = Settlement {
            list: list.id,
            id: first.id,
            null_sender: first.reverse_path.0.is_none(),
            host: "mx.example[192.0.2.1]:25".to_owned(),
            tls: None,
            host_reports: false,
            is_delivery: false,
            outcomes: outcomes.collect(),
            retry: retry(),
        };
        queue.settle(Arc::new(settlement)).wait().expect("an outcome");
        if list.next_hop.to_string() == "c.example" {
            let silence = Silence {
                list: list.id,
                host: String::new(),
                reason: Reason::here(EnhancedCode(4, 4, 1), "cannot connect"),
                retry: retry(),
            };
            queue.back_off(&silence).expect("a back-off");
            queue.end_list(list.id).expect("its end");
        }
    }
    put("bob@example.org", &["bob@example.org"]);
    let last = put("bob@example.org", &["jane@d.example"]);
    queue.close();
    last
}

fn convert(queue: &WorkQueue) {
    let waiting = check(queue.waiting_inbound(queue.now(), 1000)).unwrap_or_default();
    let converted = waiting.iter().map(|message| Converted {
        id: message.id,
        null_sender: message.reverse_path.0.is_none(),
        structure: None,
        deliveries: message
            .recipients
            .iter()
            .map(|to| (to.n, Delivery::PassOn))
            .collect(),
    });
    check(queue.converted(converted.collect()));
    let waiting = check(queue.waiting_in_box(queue.now(), 1000)).unwrap_or_default();
    let routed = waiting.iter().map(|message| Routed {
        id: message.id,
        structure: None,
        content: None,
        ways: message
            .recipients
            .iter()
            .map(|to| (to.n, Way::Hop(hop_of(&to.path))))
            .collect(),
        null_sender: message.reverse_path.0.is_none(),
    });
    check(queue.routed(routed.collect()));
}

fn hop_of(path: &Mailbox) -> NextHop {
    NextHop::Domain(path.domain().to_owned())
}

fn retry() -> RetryPolicy {
    RetryPolicy {
        schedule: vec![5 * MINUTE],
        expire: 5 * DAY,
    }
}

fn claim(handlers: &[usize], waiting_room: usize) -> Claim {
    Claim {
        handlers: handlers.to_vec(),
        lingering: HashMap::new(),
        waiting_room,
        waiting: HashSet::new(),
        busy: HashMap::new(),
        per_next_hop: 20,
        limits: HashMap::new(),
        spare: 100,
        silent: HashSet::new(),
        ripe: (0..100).map(HopId).collect(),
        terms: Terms {
            list_messages: 100,
            tokens: Arc::new(Unlimited),
            router: Arc::new(|path, _| hop_of(path)),
        },
    }
}

/// Whether the input begins so, and what is behind that.
fn begins(data: &[u8], octet: u8) -> (bool, &[u8]) {
    match data.strip_prefix(&[octet]) {
        Some(data) => (true, data),
        None => (false, data),
    }
}

fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|octet| *octet == 0xFE)
}

/// The file, with what the input puts into it.
fn damaged(template: &[u8], data: &[u8]) -> Vec<u8> {
    let mut octets = template.to_vec();
    for part in parts(data) {
        if let [0xFF, high, middle, low, patch @ ..] = part {
            let place = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
            let place = place % octets.len();
            let room = (octets.len() - place).min(patch.len());
            octets[place..place + room].copy_from_slice(&patch[..room]);
        }
    }
    octets
}

/// The rows, with what the input puts into them. What SQLite refuses stays as it is.
fn change(file: &Path, data: &[u8]) {
    let Ok(db) = Connection::open(file) else {
        return;
    };
    for part in parts(data) {
        let [table, column, row, kind, value @ ..] = part else {
            continue;
        };
        if *table == 0xFF {
            continue;
        }
        let at = usize::from(*table) % TABLES.len();
        let (table, key, message) = TABLES[at];
        let columns = &TEMPLATE.columns[at];
        let column = &columns[usize::from(*column) % columns.len()];
        let sound = TEMPLATE.sound.0;
        let one = format!("SELECT {key} FROM {table} WHERE {message} <> {sound} LIMIT 1 OFFSET {row}");
        let value = match kind % 6 {
            0 => Value::Null,
            1 => Value::Integer(
                value
                    .iter()
                    .take(8)
                    .fold(0, |number, octet| number << 8 | i64::from(*octet)),
            ),
            2 => Value::Text(String::from_utf8_lossy(value).into_owned()),
            3 => Value::Blob(value.to_vec()),
            4 => Value::Real(
                value
                    .iter()
                    .take(8)
                    .fold(0.5, |number, octet| number * 256.0 - f64::from(*octet)),
            ),
            _ => {
                let sql = format!("DELETE FROM {table} WHERE ({key}) = ({one})");
                let _ = db.execute(&sql, []);
                continue;
            }
        };
        if value == Value::Integer(TEMPLATE.sound.0) {
            continue;
        }
        // Text that is none: only a cast lets it in.
        let cast = if kind % 12 == 8 { "CAST(? AS TEXT)" } else { "?" };
        let value = match value {
            Value::Text(_) if kind % 12 == 8 => Value::Blob(part[4..].to_vec()),
            value => value,
        };
        let sql = format!("UPDATE {table} SET {column} = {cast} WHERE ({key}) = ({one})");
        let done = db.execute(&sql, [&value]);
        if std::env::var_os("TELL").is_some() {
            eprintln!("{sql}, row {row}, {value:?}: {done:?}");
        }
    }
}

/// What an answer holds, if there is one. What the queue says of an error is clean.
fn check<T>(answer: Result<T, QueueError>) -> Option<T> {
    match answer {
        Ok(found) => Some(found),
        Err(error) => {
            assert!(!matches!(error, QueueError::Panicked), "a verb panicked");
            let told = error.to_string();
            assert!(!told.is_empty() && !told.contains(char::is_control), "{told:?}");
            if std::env::var_os("TELL").is_some() {
                eprintln!("{told}");
            }
            None
        }
    }
}

/// What is shown to an operator has lines, and nothing else that a terminal would obey.
fn shown(screen: &screen::Screen) {
    let text = &screen.text;
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let _ = screen.json.to_string();
}

/// What `smtpmta verify` says of the queue in this folder.
fn judged(spool: &Path) -> Option<Verdict> {
    let found = check(verify(spool, true))?;
    shown(&verdict::verdict(&found));
    Some(found)
}

/// Housekeeping comes again and again, and then all is right, or put aside, of which `verify` says that it will be.
fn mend(queue: &WorkQueue, is_whole: bool) {
    let is_through = || check(queue.mend()).is_none_or(|mended| mended == Mended::default());
    let is_through = (0..HOUSEKEEPINGS).any(|_| is_through());
    if !is_whole {
        return;
    }
    assert!(is_through, "there is no end of mending");
    let found = judged(queue.spool()).expect("the tables can be read");
    let of = |kinds: &'static [Kind]| {
        let findings = found.findings.iter();
        findings.filter(|finding| kinds.contains(&finding.kind))
    };
    // It goes by the contents: a message without one is put aside when its turn comes.
    let is_found = |finding: &&Finding| {
        let mut lost = of(&[Kind::Content]);
        lost.all(|lost| !finding.place.starts_with(&lost.place))
    };
    let left: Vec<_> = of(&[Kind::Rows, Kind::Kept, Kind::NextHop])
        .filter(is_found)
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}

/// All that the tasks and the operator do with a queue.
fn use_it(queue: &WorkQueue, is_whole: bool) {
    look(queue);
    convert(queue);
    if is_whole {
        // Whatever the others hold, this one flows.
        let waits =
            check(queue.waiting_inbound(queue.now(), 1000)).expect("the inbound work queue can be read");
        assert!(waits.iter().all(|message| message.id != TEMPLATE.sound));
        let waits = check(queue.waiting_in_box(queue.now(), 1000)).expect("SMTP.BOX can be read");
        assert!(waits.iter().all(|message| message.id != TEMPLATE.sound));
    }
    let mut is_listed = false;
    let mut passes = 0;
    while let Some(claimed) = check(queue.claim(claim(&[0, 1, 2], 2))) {
        passes += 1;
        if claimed.lists.is_empty() && claimed.rerouted == 0 || passes > 20 {
            break;
        }
        for list in claimed.lists {
            let messages = list
                .contents
                .clone()
                .or_else(|| check(queue.list_messages(list.id)));
            for message in messages.unwrap_or_default() {
                is_listed |= message.id == TEMPLATE.sound;
                read(queue, message.id);
                let later = |n| (n, Outcome::TryLater(Reason::here(EnhancedCode(4, 2, 1), "later")));
                let settlement = Settlement {
                    list: list.id,
                    id: message.id,
                    null_sender: message.reverse_path.0.is_none(),
                    host: String::new(),
                    tls: None,
                    host_reports: false,
                    is_delivery: false,
                    outcomes: message.recipients.iter().map(|to| later(to.n)).collect(),
                    retry: retry(),
                };
                check(queue.settle(Arc::new(settlement)).wait());
            }
            check(queue.end_list(list.id));
        }
    }
    assert!(is_listed || !is_whole, "what is sound does not flow");
    for due in check(queue.awaiting_report(50)).unwrap_or_default() {
        read(queue, due.id);
    }
    check(queue.awaiting_success_report(50));
    check(queue.delayed(queue.now().plus(DAY)));
    let mut round = Some(Round::default());
    for _ in 0..100 {
        match round.filter(|round| !round.is_done) {
            Some(begun) => round = check(queue.expire(queue.now().plus(DAY), begun)),
            None => break,
        }
    }
    check(queue.make_up_for(DAY));
    check(queue.retry(&Retry::Everything, "root"));
    check(queue.forget(Duration::ZERO));
    check(queue.sweep(queue.message_id()));
    check(queue.compact());
}

fn look(queue: &WorkQueue) {
    let now = queue.now();
    if let Some(listing) = check(queue.listing(&Choice::default(), 1000)) {
        shown(&screen::listing(&listing, now));
    }
    if let Some((rows, hops)) = check(queue.queue_rows(1000)) {
        shown(&screen::queue(&rows, hops, now));
    }
    if let Some(rows) = check(queue.list_rows(1000)) {
        shown(&screen::lists(&rows, now));
    }
    if let Some(rows) = check(queue.hop_rows(1000)) {
        let rows: Vec<_> = rows.into_iter().map(|row| (row, Default::default())).collect();
        shown(&screen::hops(&rows, now));
    }
    if let Some(counters) = check(queue.statistics()) {
        shown(&screen::statistics(&counters));
    }
    check(queue.next_due(now));
    check(queue.next_inbound_due());
    check(queue.lists());
    check(queue.lists_in_hand());
}

/// The content of a message, if it is there.
fn read(queue: &WorkQueue, id: MessageId) {
    if let Some(mut content) = check(queue.content(id)) {
        let mut octets = Vec::new();
        let _ = (&mut content).take(1 << 20).read_to_end(&mut octets);
    }
}
