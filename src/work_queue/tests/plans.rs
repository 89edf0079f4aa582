//! How SQLite goes about each statement of this room: by an index, however many messages there are.

use rusqlite::Connection;

use crate::work_queue::schema::bring_up;

/// Tables that grow with the mail. The others have a row for each next hop, list or counter.
const LARGE: [&str; 4] = ["message", "content", "recipient", "event"];

/// Every statement in the files of this room: its literals that begin with a verb of SQL.
fn statements() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/work_queue");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "rs") || path.ends_with("tests.rs") {
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

fn print_all() {
    let db = Connection::open_in_memory().unwrap();
    bring_up(&db).unwrap();
    for (file, sql) in statements() {
        println!("{file}: {sql}\n        {}", plan(&db, &sql).join("\n        "));
    }
    for sql in ["SELECT count(*) FROM recipient WHERE state = 2 AND list IS NULL", "SELECT min(message) FROM recipient WHERE hop = ? AND state = 2 AND list IS NULL"] {
        println!("{sql}\n        {}", plan(&db, sql).join("\n        "));
    }
}
#[test]
fn print() { print_all() }
