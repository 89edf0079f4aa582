//! The other end of the console: `smtpmta show …`, `smtpmta tell …` and `smtpmta queue …` ask the MTA that runs on the
//! spool.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::server::{Answer, LONGEST_REQUEST, line_of, reachable, too_long, user};

/// How long the MTA may take: it may be stopping a transport.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to do something to very many messages: it does not let other mail wait for that.
const PATIENCE_WITH_THE_QUEUE: Duration = Duration::from_secs(600);

/// Asks the MTA that runs on `spool`.
///
/// # Errors
/// When none runs there, or it does not answer.
pub fn ask(spool: &Path, words: &[String], json: bool) -> io::Result<Answer> {
    let is_about_the_queue = words.first().is_some_and(|word| word == "queue");
    let patience = match is_about_the_queue {
        true => PATIENCE_WITH_THE_QUEUE,
        false => PATIENCE,
    };
    ask_within(spool, words, json, patience)
}

/// The same, for as long as who asks wants to wait.
///
/// # Errors
/// As [`ask`].
pub fn ask_within(spool: &Path, words: &[String], json: bool, patience: Duration) -> io::Result<Answer> {
    let (path, _folder) = reachable(spool)?;
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    let json = if json { "--json " } else { "" };
    let words: Vec<String> = words
        .iter()
        .map(|word| word.replace(['\r', '\n', '\0'], " "))
        .collect();
    let line = line_of(&words).unwrap_or_default();
    let request = format!("{json}--by={} {line}\n", user());
    if request.len() as u64 > LONGEST_REQUEST {
        return Ok(too_long());
    }
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (status, text) = answer
        .split_once('\n')
        .unwrap_or(("75", "the MTA did not answer\n"));
    Ok(Answer {
        status: status.parse().unwrap_or(75),
        text: text.to_owned(),
    })
}
