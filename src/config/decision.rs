//! Who decides what: the command line beats the file, option by option, and every value is checked.
//!
//! Pure. Never stops at the first thing that is wrong.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::flags::{self, Opt};
use super::problem::{Problem, quoted};
use super::suggestion::nearest;
use super::{Config, Origin, file};

/// A value that somebody gave.
pub(super) struct Given {
    pub option: &'static Opt,
    pub value: String,
    pub origin: Origin,
}

/// The values that won, by the name of their option; no list is empty.
pub(super) type Decisions = HashMap<&'static str, Vec<Given>>;

/// The values that the lines of a file give; what is wrong with its words goes to `problems`.
pub(super) fn given_by_file(text: &[u8], path: &Path, problems: &mut Vec<Problem>) -> Vec<Given> {
    let path = Arc::new(path.to_owned());
    let mut given: Vec<Given> = Vec::new();
    for line in file::lines(text) {
        let (number, name, value) = match line {
            Ok(line) => (line.number, line.name, Ok(line.value)),
            Err(broken) => (broken.number, broken.name, Err(broken.what)),
        };
        let origin = Origin::File(Arc::clone(&path), number);
        let mut wrong = |name: &str, what: String| {
            problems.push(Problem {
                origin: origin.clone(),
                option: name.to_owned(),
                what,
            });
        };
        let Some(option) = flags::options().find(|option| option.name == name) else {
            match value {
                Err(what) if name.is_empty() => wrong("", what.into()),
                _ => wrong("", unknown(&name)),
            }
            continue;
        };
        match value {
            _ if option.flag_only() => wrong(option.name, "stands on the command line only".into()),
            Err(what) => wrong(option.name, what.into()),
            Ok(None) if option.kind.bare() => given.push(Given {
                option,
                value: "on".into(),
                origin,
            }),
            Ok(value) => given.push(Given {
                option,
                value: value.unwrap_or_default(),
                origin,
            }),
        }
    }
    given
}

/// Why a first word is no option, with what was probably meant.
fn unknown(name: &str) -> String {
    let bare = name.trim_start_matches('-');
    let bare = bare.split(['=', ':']).next().unwrap_or(bare);
    if let Some(option) = flags::options().find(|option| option.name == bare && bare != name) {
        return format!(
            "{}: expected `{} value`, without dashes, = or :",
            quoted(name),
            option.name
        );
    }
    let known = flags::options()
        .filter(|option| !option.flag_only())
        .map(|option| option.name);
    match nearest(bare, known) {
        Some(meant) => format!("{}: no such option; did you mean {meant}?", quoted(name)),
        None => format!("{}: no such option", quoted(name)),
    }
}

/// Reads the given values into the configuration: the first of the two sources beats the second, option by
/// option, and both are checked. Gives the values that won.
pub(super) fn decide(
    config: &mut Config,
    sources: [Vec<Given>; 2],
    problems: &mut Vec<Problem>,
) -> Decisions {
    let mut decisions = Decisions::new();
    for source in sources {
        for group in by_option(source) {
            let name = group[0].option.name;
            let beaten = decisions.contains_key(name);
            let mut scratch = config.clone();
            if check_group(&group, if beaten { &mut scratch } else { config }, problems) && !beaten {
                decisions.insert(name, group);
            }
        }
    }
    decisions
}

/// The values of one source, those of one option together; no group is empty.
fn by_option(source: Vec<Given>) -> Vec<Vec<Given>> {
    let mut groups: Vec<Vec<Given>> = Vec::new();
    for given in source {
        match groups
            .iter_mut()
            .find(|group| group[0].option.name == given.option.name)
        {
            Some(group) => group.push(given),
            None => groups.push(vec![given]),
        }
    }
    groups
}

/// Checks the values that one source gives for one option while it reads them; says whether all are right.
/// One whose feature comes later is refused besides.
fn check_group(group: &[Given], config: &mut Config, problems: &mut Vec<Problem>) -> bool {
    let option = group[0].option;
    let before = problems.len();
    let problem = |given: &Given, what: String| {
        let origin = given.origin.clone();
        Problem {
            origin,
            option: option.name.to_owned(),
            what,
        }
    };
    let values: Vec<&str> = group.iter().map(|given| given.value.as_str()).collect();
    for (index, expected) in option.take(config, &values) {
        problems.push(problem(
            &group[index],
            format!("{}: {expected}", quoted(values[index])),
        ));
    }
    if !option.kind.repeatable() {
        for again in &group[1..] {
            let first = match &group[0].origin {
                Origin::File(_, line) => format!("; it stands on line {line} already"),
                _ => String::new(),
            };
            problems.push(problem(
                again,
                format!("{}: expected once{first}", quoted(&again.value)),
            ));
        }
    }
    problems.len() == before
}
