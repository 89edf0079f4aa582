//! ARCHITECTURE.md is true: its table of states, its paths, and who imports whom; and what it says that a fuzz target needs
//! each of them has.

use std::fs;
use std::path::{Path, PathBuf};

use smtpmta::work_queue::states::State;

/// The words between backquotes, outside of blocks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

#[test]
fn the_table_of_states_is_the_one_of_the_code() {
    let page = page();
    let told: Vec<(&str, Vec<&str>)> = page
        .lines()
        .filter(|line| line.starts_with("| `WQ_"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            (quoted(cells[0])[0], quoted(cells[2]))
        })
        .collect();
    let expected: Vec<(&str, Vec<&str>)> = State::ALL
        .iter()
        .map(|state| {
            (
                state.name(),
                state.moves().iter().map(|next| next.name()).collect(),
            )
        })
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn every_path_that_is_named_exists() {
    let page = page();
    let paths: Vec<&str> = quoted(&page)
        .into_iter()
        .filter(|word| {
            let folder = ["src/", "tests/", "man/", ".ci/", "fuzz/"];
            folder.iter().any(|folder| word.starts_with(folder))
        })
        .collect();
    assert!(paths.len() > 50, "{paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "{path} does not exist");
    }
}

#[test]
fn every_function_that_is_named_exists() {
    let page = page();
    let named: Vec<&str> = quoted(&page)
        .into_iter()
        .filter(|word| !word.contains(char::is_whitespace))
        .filter_map(|word| word.rsplit_once("::").map(|(_, function)| function))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for function in named {
        let defined = lines_with(&root().join("src"), &format!("fn {function}"));
        assert!(!defined.is_empty(), "there is no function {function}");
    }
}

#[test]
fn every_room_of_the_library_is_on_the_map() {
    let page = page();
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for room in library.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let room = room.trim_end_matches(';');
        assert!(
            page.contains(&format!("src/{room}/")) || page.contains(&format!("src/{room}.rs")),
            "{room} is not on the map"
        );
    }
}

/// The lines of code of all files below `folder` that hold `word`.
fn lines_with(folder: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let hits = code.filter(|line| line.contains(word));
                found.extend(hits.map(|line| format!("{}: {}", path.display(), line.trim())));
            }
        }
    }
    found
}

#[test]
fn inbound_outbound_and_conversion_do_not_import_each_other() {
    let rooms = ["inbound", "outbound", "conversion"];
    for room in rooms {
        for other in rooms.into_iter().filter(|other| *other != room) {
            let imports = lines_with(&root().join("src").join(room), &format!("crate::{other}::"));
            assert!(imports.is_empty(), "{room} imports {other}: {imports:?}");
        }
    }
}

#[test]
fn no_room_but_the_work_queue_knows_the_database() {
    let strangers: Vec<_> = lines_with(&root().join("src"), "rusqlite")
        .into_iter()
        .filter(|line| !line.contains("/src/work_queue/"))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn every_fuzz_target_has_its_code_seeds_a_dictionary_and_a_row() {
    let fuzz = root().join("fuzz");
    let read = |name: &str| fs::read_to_string(fuzz.join(name)).unwrap();
    let manifest = read("Cargo.toml");
    // The first name is that of the crate.
    let names = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let mut targets: Vec<&str> = names.skip(1).collect();
    targets.sort_unstable();
    let page = read("README.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let mut told: Vec<&str> = cells.flat_map(quoted).collect();
    told.sort_unstable();
    assert_eq!(told, targets, "the table of fuzz/README.md");
    let code = fs::read_dir(fuzz.join("targets")).unwrap();
    let code = code.map(|entry| entry.unwrap().path());
    let code = code.filter(|path| path.is_file()).count();
    assert_eq!(code, targets.len(), "files in fuzz/targets");
    for target in targets {
        assert!(fuzz.join(format!("targets/{target}.rs")).is_file(), "{target}");
        assert!(fuzz.join(format!("dict/{target}.dict")).is_file(), "{target}");
        let seeds = fs::read_dir(fuzz.join("corpus").join(target)).map_or(0, Iterator::count);
        assert!(seeds > 10, "{target} has {seeds} seeds");
    }
}
