//! How SQLite goes about each statement of this room: by an index, however many messages there are.

use rusqlite::Connection;

use crate::work_queue::schema::bring_up;

/// Tables, by name or alias, that do not grow with the mail: a row for each next hop, list, counter, state or move.
const SMALL: [&str; 11] = [
    "sqlite_sequence",
    "sqlite_schema",
    "export",
    "import",
    "next_hop",
    "h",
    "domain_list",
    "l",
    "statistic",
    "state",
    "CONSTANT",
];

/// Indexes of what drt has yet to tell of: it is at work on that, and there is little of it.
const EXCEPTIONAL: [&str; 2] = ["INDEX recipient_report", "INDEX recipient_report_due"];

/// Every statement in the files of this room: its literals that begin with a verb of SQL.
fn statements() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/work_queue");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_for_tests = ["tests.rs", "other_program.rs"]
            .iter()
            .any(|name| path.ends_with(name));
        if path.extension().is_none_or(|ext| ext != "rs") || is_for_tests {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut rest = source;
        while let Some(begin) = rest.find('"') {
            rest = &rest[begin + 1..];
            let mut literal = String::new();
            let mut chars = rest.char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => match chars.next() {
                        Some((at, '\n')) => {
                            let blank = rest[at + 1..].len() - rest[at + 1..].trim_start().len();
                            chars.by_ref().take(blank).for_each(drop);
                        }
                        other => literal.extend(other.map(|(_, c)| c)),
                    },
                    c => literal.push(c),
                }
            }
            rest = &rest[end..];
            let verb = literal.split(' ').next().unwrap();
            if literal.contains(' ') && ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&verb) {
                found.push((file.clone(), literal));
            }
        }
    }
    found
}

/// What `EXPLAIN QUERY PLAN` says of a statement, line by line.
fn plan(db: &Connection, sql: &str) -> Vec<String> {
    let mut plan = db
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = plan.raw_query().mapped(|row| row.get(3));
    rows.collect::<Result<_, _>>().unwrap()
}

/// Why a step of a plan takes the longer the more mail there is; `None` if it does not.
fn drags(sql: &str, step: &str) -> Option<String> {
    let drags = if let Some(scan) = step.strip_prefix("SCAN ") {
        let table = scan.split(' ').next().unwrap();
        !SMALL.contains(&table)
            && !table.starts_with('(')
            && !scan.ends_with("-ROW VALUES CLAUSE")
            && !EXCEPTIONAL.iter().any(|index| scan.ends_with(index))
    } else {
        step.starts_with("USE TEMP B-TREE") && !sql.contains("message = ?") && !sql.contains("FROM next_hop")
    };
    drags.then(|| format!("{sql}\n    {step}"))
}

#[test]
fn no_statement_walks_through_the_mail() {
    let db = Connection::open_in_memory().unwrap();
    bring_up(&db).unwrap();
    let statements = statements();
    assert!(
        statements.len() > 100,
        "only {} statements were found",
        statements.len()
    );
    let mut dragging = Vec::new();
    for (file, sql) in &statements {
        let steps = plan(&db, sql);
        dragging.extend(
            steps
                .iter()
                .filter_map(|step| drags(sql, step))
                .map(|why| format!("{file}: {why}")),
        );
    }
    assert!(dragging.is_empty(), "{}", dragging.join("\n"));
    // It would be noticed.
    for sql in [
        "SELECT count(*) FROM recipient",
        "SELECT text FROM event ORDER BY stamp",
    ] {
        assert!(
            plan(&db, sql).iter().any(|step| drags(sql, step).is_some()),
            "{sql}"
        );
    }
}

/// Fills the tables as they may be when housekeeping looks at them: so many messages in the queue, of which so many go to
/// one next hop, and so many that have left it.
fn fill(db: &Connection, waiting: i64, at_one_hop: i64, left: i64) {
    let numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)";
    let run = |sql: &str, count: i64| {
        if count > 0 {
            db.execute(&sql.replace("NUMBERS", numbers), [count]).unwrap();
        }
    };
    let columns =
        "(id, inbound_due, reverse_path, origin, client, helo, protocol, size, eight_bit, file, left_at)";
    run(
        &format!(
            "NUMBERS INSERT INTO message {columns} SELECT n, iif(n % 5, NULL, 0), 'a@b.c', 1, '', '', '', 10, 0, \
             iif(n % 3, NULL, 'f'), NULL FROM n"
        ),
        waiting,
    );
    run(
        &format!(
            "NUMBERS INSERT INTO message {columns} SELECT n + 1000000, NULL, 'a@b.c', 1, '', '', '', 10, 0, NULL, n FROM n"
        ),
        left,
    );
    run(
        "NUMBERS INSERT INTO content SELECT n, x'00' FROM n WHERE n % 3 > 0",
        waiting,
    );
    run(
        "NUMBERS INSERT INTO next_hop (name, used_at, due) SELECT 'h' || n, n, iif(n % 2, n, NULL) FROM n",
        (waiting - at_one_hop).max(1),
    );
    run(
        "NUMBERS INSERT INTO recipient (message, n, path, state, in_box, hop) \
         SELECT n, 0, 'x@y.z', iif(n % 7, 2, 5 + n % 2), 0, 1 FROM n",
        at_one_hop,
    );
    if waiting > at_one_hop {
        let others = "NUMBERS INSERT OR IGNORE INTO recipient (message, n, path, state, in_box, hop, list, report_due) \
             SELECT n, 0, 'x@y.z', 1 + n % 4, 0, n, iif(n % 3, NULL, n % 5), iif(n % 11, NULL, 1) FROM n";
        run(others, waiting);
    }
    run(
        "NUMBERS INSERT INTO recipient (message, n, path, state, in_box, hop) SELECT n + 1000000, 0, 'x@y.z', 11, 0, 1 FROM n",
        left,
    );
    for what in ["accepted", "converted", "routed"] {
        let sql = format!(
            "NUMBERS INSERT INTO event (message, stamp, what, text) SELECT n + 1000000, n * 10 + {}, '{what}', '' FROM n",
            what.len()
        );
        run(&sql, left);
    }
    run(
        "NUMBERS INSERT INTO domain_list (hop, messages, recipients, made_at) SELECT n, 1, 1, n FROM n",
        5,
    );
}

/// So `PRAGMA optimize` is no part of housekeeping: at night the queue is nearly empty, and a million messages come in the
/// morning.
#[test]
fn what_sqlite_learns_of_a_queue_at_night_would_lead_statements_through_all_the_mail_of_the_day() {
    let plain = Connection::open_in_memory().unwrap();
    bring_up(&plain).unwrap();
    let db = Connection::open_in_memory().unwrap();
    bring_up(&db).unwrap();
    fill(&db, 20, 20, 3000);
    db.execute_batch("PRAGMA optimize").unwrap();
    let misled = statements()
        .into_iter()
        .filter(|(_, sql)| {
            let scans = |db: &Connection| {
                let steps = plan(db, sql);
                let mut scans = steps
                    .iter()
                    .map(|step| step.starts_with("SCAN h ") || step.contains("ANY("));
                scans.any(|scans| scans)
            };
            scans(&db) && !scans(&plain)
        })
        .count();
    assert!(misled > 2, "it would do no harm any more: {misled}");
}

#[test]
fn a_message_is_found_in_the_views_by_its_number() {
    let db = Connection::open_in_memory().unwrap();
    bring_up(&db).unwrap();
    for view in [
        "inbound_work_queue",
        "smtp_box",
        "outbound_work_queue",
        "dead_mail",
        "history",
    ] {
        let sql = format!("SELECT * FROM {view} WHERE message = 0x00038D7EA4C68000");
        let steps = plan(&db, &sql);
        assert!(
            !steps.iter().any(|step| step.starts_with("SCAN")),
            "{view}: {steps:?}"
        );
    }
}
