//! The operator's terminal: a prompt, lines that can be edited, completed and called back, and what happens meanwhile above
//! the line that is being typed.
//!
//! Only where standard input and standard output are a terminal; where that can do nothing of this its lines are taken as
//! they come. Never obeys anything itself. What was typed is kept in memory, and nowhere else.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, read, tcgetpgrp};
use parking_lot::Mutex;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Context, Editor, ExternalPrinter, Helper};

use super::command::Command;
use super::completion::{Completion, complete};
use super::screen;
use super::server::{Request, ask, user, words_in};
use crate::log_book::scribe::Printer;
use crate::log_book::{self, record};

/// What stands before what is typed.
const PROMPT: &str = "> ";

/// How many commands can be called back.
const REMEMBERED: usize = 500;

/// How often it is looked whether we are in the foreground again.
const LOOK: Duration = Duration::from_secs(1);

/// How many lists a second are told of. More could not be read.
const MOST_LISTS: u32 = 20;

/// How the terminal was found; `None` while nobody talks at it.
static FOUND: Mutex<Option<Termios>> = Mutex::new(None);

/// The MTA ends: nobody is asked for another command.
static LEFT: AtomicBool = AtomicBool::new(false);

/// Somebody sees what is shown.
static WATCHED: AtomicBool = AtomicBool::new(false);

static METER: Mutex<Meter> = Mutex::new(Meter::NEW);

/// Takes commands from the terminal, if standard input is one.
///
/// # Errors
/// When the thread can not be started.
pub fn open(to_addin: Sender<Request>) -> io::Result<()> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    std::thread::Builder::new()
        .name("terminal".to_owned())
        .spawn(move || {
            // In the background each of these would stop the whole process, unless it is blocked: then reading fails.
            let signals = SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]);
            if let Err(error) = signals.thread_block() {
                return log::warn!("the terminal is not read: {error}");
            }
            match editor() {
                Some((mut editor, printer)) => {
                    talk(&mut editor, &printer, &to_addin);
                    keep(None);
                }
                None => {
                    for line in io::stdin().lock().lines().map_while(Result::ok) {
                        obey(&line, &to_addin);
                    }
                }
            }
        })?;
    Ok(())
}

/// Gives the terminal back as it was found, and what was being typed is given up: the MTA ends. May be called again.
pub fn leave() {
    LEFT.store(true, Ordering::SeqCst);
    let Some(found) = FOUND.lock().clone() else {
        return;
    };
    keep(None);
    let is_raw = |mode: &Termios| !mode.local_flags.contains(LocalFlags::ICANON);
    if in_foreground() && tcgetattr(io::stdin()).is_ok_and(|mode| is_raw(&mode)) && !is_raw(&found) {
        let mut out = io::stdout();
        let _ = out.write_all(b"\r\x1b[K\x1b[?2004l").and_then(|()| out.flush());
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &found);
    }
}

/// Says that a handler is through with a list to somebody who sits at the terminal, and to nobody else.
pub fn show_list(line: impl FnOnce() -> String) {
    if !WATCHED.load(Ordering::Relaxed) {
        return;
    }
    let Some(kept_back) = METER.lock().admit(Instant::now()) else {
        return;
    };
    if kept_back > 0 {
        log_book::say(&screen::not_shown(kept_back));
    }
    log_book::say(&line());
}

/// Lets what is said go above the line that is being typed; with `None` as if there was none.
fn keep(printer: Option<&Printer>) {
    WATCHED.store(printer.is_some(), Ordering::Relaxed);
    log_book::keep_terminal(printer.cloned());
}

/// Who edits lines; `None` where this is no terminal for it.
fn editor() -> Option<(Editor<Words, DefaultHistory>, Printer)> {
    let config = rustyline::Config::builder()
        .max_history_size(REMEMBERED)
        .ok()?
        .auto_add_history(true)
        .completion_type(CompletionType::List)
        .bracketed_paste(true)
        .build();
    let mut editor = Editor::<Words, DefaultHistory>::with_config(config).ok()?;
    editor.set_helper(Some(Words));
    let mut printer = editor.create_external_printer().ok()?;
    Some((editor, Printer::new(move |text| printer.print(text).is_ok())))
}

/// Asks for one command after the other, until the MTA ends or the terminal does.
fn talk(editor: &mut Editor<Words, DefaultHistory>, printer: &Printer, to_addin: &Sender<Request>) {
    while !LEFT.load(Ordering::SeqCst) {
        let is_kept = WATCHED.load(Ordering::Relaxed);
        if !in_foreground() {
            if is_kept {
                keep(None);
            }
            std::thread::park_timeout(LOOK);
            continue;
        }
        if !is_kept {
            *FOUND.lock() = tcgetattr(io::stdin()).ok();
            keep(Some(printer));
        }
        let ahead = typed_ahead();
        let (whole, begun) = ahead.rsplit_once('\n').unwrap_or(("", &ahead));
        for line in whole.lines() {
            if obey(line, to_addin) {
                return;
            }
        }
        match editor.readline_with_initial(PROMPT, (begun, "")) {
            Ok(line) => {
                if obey(&line, to_addin) {
                    return;
                }
            }
            Err(ReadlineError::Interrupted) => {
                // Whoever types it once more means the second one: by then the terminal is as it was.
                let _ = kill(Pid::this(), Signal::SIGINT);
                return;
            }
            // Somebody who has nothing more to say; or the terminal has gone.
            Err(ReadlineError::Eof) if tcgetattr(io::stdin()).is_ok() => log_book::say(&screen::goes_on()),
            Err(ReadlineError::Eof) => return,
            Err(ReadlineError::Signal(_)) => {}
            Err(_) if !in_foreground() => {}
            Err(error) => return log::warn!("the terminal is not read any more: {error}"),
        }
    }
}

/// What was typed when nobody asked. The editor reads all that has come at once, and then shows one letter of it for each
/// key that is hit, while it also waits for what is to be shown above the line.
fn typed_ahead() -> String {
    let Ok(found) = tcgetattr(io::stdin()) else {
        return String::new();
    };
    let mut mode = found.clone();
    mode.local_flags.remove(LocalFlags::ICANON);
    for limit in [SpecialCharacterIndices::VMIN, SpecialCharacterIndices::VTIME] {
        mode.control_chars[limit as usize] = 0;
    }
    let mut octets = [0; 4096];
    let count = tcsetattr(io::stdin(), SetArg::TCSANOW, &mode).and_then(|()| read(io::stdin(), &mut octets));
    let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &found);
    let text = String::from_utf8_lossy(&octets[..count.unwrap_or(0)]).replace('\r', "\n");
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// Has a command obeyed, and shows the answer; whether it was the last one.
fn obey(line: &str, to_addin: &Sender<Request>) -> bool {
    let words = words_in(line);
    if words.is_empty() {
        return false;
    }
    let quits = Command::parse(&words) == Ok(Command::Quit);
    let answer = ask(to_addin, words, false, user());
    // One by one: what is said is a line, and a line end in it would be shown as such.
    let clean = |line: &str| record::plain(line) + "\n";
    let text: String = answer.text.lines().map(clean).collect();
    let mut out = io::stdout();
    // Where nobody reads it nobody misses it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    quits
}

/// Whether we may read the terminal, and change it. Where it is not the one that controls us nobody keeps us from it.
fn in_foreground() -> bool {
    tcgetpgrp(io::stdin()).map_or(true, |group| group == getpgrp())
}

/// What Tab does.
struct Words;

impl Helper for Words {}
impl Highlighter for Words {}
impl Validator for Words {}

impl Hinter for Words {
    type Hint = String;
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        cursor: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(match complete(line.get(..cursor).unwrap_or_default()) {
            Completion::Nothing => (cursor, Vec::new()),
            Completion::Replace(at, text) => (at, vec![text]),
            // Said as everything is: the editor's own list would keep what happens from being shown until a key is hit.
            Completion::Choices(choices) => {
                log_book::say(&choices.join("  "));
                (cursor, Vec::new())
            }
        })
    }
}

/// Counts what is shown in a second.
#[derive(Debug)]
struct Meter {
    since: Option<Instant>,
    shown: u32,
    kept_back: u64,
}

impl Meter {
    const NEW: Meter = Meter {
        since: None,
        shown: 0,
        kept_back: 0,
    };

    /// Whether one more may be shown; how many were kept back before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1))
        {
            (self.since, self.shown) = (Some(now), 0);
        }
        if self.shown >= MOST_LISTS {
            self.kept_back += 1;
            return None;
        }
        self.shown += 1;
        Some(std::mem::take(&mut self.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_lists_are_shown_in_a_second_than_can_be_read_and_the_others_are_counted() {
        let mut meter = Meter::NEW;
        let began = Instant::now();
        let shown = (0..100).filter_map(|_| meter.admit(began));
        assert_eq!(shown.collect::<Vec<_>>(), vec![0; MOST_LISTS as usize]);
        let later = began + Duration::from_secs(1);
        assert_eq!(meter.admit(later), Some(100 - u64::from(MOST_LISTS)));
        assert_eq!(meter.admit(later), Some(0));
    }
}
