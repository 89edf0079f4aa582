//! smtpmta-queue(5) says what `views.sql`, the states and the history say, and its queries work.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use smtpmta::work_queue::states::State;

const MAN_PAGE: &str = "man/smtpmta-queue.5";
const ROOM: &str = "src/work_queue";

/// An empty work queue in memory, made by the schema itself.
pub fn empty_queue() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    for part in ["schema.sql", "views.sql"] {
        db.execute_batch(&text(&format!("{ROOM}/{part}"))).unwrap();
    }
    db
}

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The part of the man page between this section's head and the next one's.
fn section(name: &str) -> String {
    let page = text(MAN_PAGE);
    let head = format!(".Sh {name}\n");
    let (_, rest) = page
        .split_once(&head)
        .unwrap_or_else(|| panic!("{MAN_PAGE}: expected {head}"));
    rest.split("\n.Sh ").next().unwrap().to_owned()
}

/// The words of every list item of this macro: `.It Va id , n` is two words.
fn items(section: &str, macro_name: &str) -> Vec<String> {
    let head = format!(".It {macro_name} ");
    section
        .lines()
        .filter_map(|line| line.strip_prefix(&head))
        .flat_map(|words| words.split(" , "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_view_and_every_column_stands_in_the_manual_in_its_order() {
    let db = empty_queue();
    let mut query = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY rowid")
        .unwrap();
    let views: Vec<String> = query
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let views_section = section("VIEWS");
    let told: Vec<(&str, &str)> = views_section
        .split(".Ss ")
        .skip(1)
        .map(|part| part.split_once('\n').unwrap())
        .collect();
    let mut names: Vec<&str> = told.iter().map(|(name, _)| *name).collect();
    let mut expected: Vec<&str> = views.iter().map(String::as_str).collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for (view, part) in told {
        let mut query = db.prepare("SELECT name FROM pragma_table_info(?)").unwrap();
        let columns: Vec<String> = query
            .query_map([view], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(items(part, "Va"), columns, "{view}");
    }
}

#[test]
fn every_state_stands_in_the_manual_in_its_order() {
    let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
    assert_eq!(items(&section("STATES"), "Dv"), names);
}

#[test]
fn every_event_of_history_stands_in_the_manual_and_no_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(ROOM);
    let source: String = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let told = items(&section("EVENTS"), "Cm");
    for event in &told {
        assert!(
            source.contains(&format!("\"{event}\"")),
            "{event} is never recorded"
        );
    }
    // What is recorded: the first literal of each call that is one or two plain words.
    for call in source.split("record(").skip(1) {
        let call = call.split(';').next().unwrap();
        let literals = call.split('"').skip(1).step_by(2);
        let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b' ');
        if let Some(event) = literals.into_iter().find(plain) {
            assert!(
                told.iter().any(|known| known == event),
                "{event} is not in the manual"
            );
        }
    }
}

#[test]
fn every_query_of_the_manual_can_be_asked() {
    let db = empty_queue();
    let examples = section("EXAMPLES");
    let queries: Vec<&str> = examples
        .split(".Bd -literal -offset indent\n")
        .skip(1)
        .map(|block| block.split(".Ed").next().unwrap())
        .collect();
    assert!(queries.len() > 5);
    for query in queries {
        let query = query.replace("\\(aq", "'").replace("\\-", "-");
        db.prepare(&query)
            .unwrap_or_else(|error| panic!("{query}{error}"));
    }
}
