//! flags → configuration → log → run → exit status, and nothing else.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use smtpmta::accounts::passwd;
use smtpmta::addin::files::Files;
use smtpmta::config::exit::Exit;
use smtpmta::config::{self, Command, Config, Invocation, defaults, manual};
use smtpmta::{addin, console, crash_point, log_book, sendmail, sink, work_queue};

fn main() -> ExitCode {
    let invocation = match arguments().map(|args| config::read(&args, defaults::machine_name)) {
        Ok(Ok(invocation)) => invocation,
        Ok(Err(wrong)) => return complain(wrong.exit(), &wrong.to_string()),
        Err(wrong) => return complain(Exit::Usage, &wrong),
    };
    match &invocation.command {
        Command::Help => print(&manual::help()),
        Command::Version => print(&manual::version()),
        Command::Check => match Files::read(&invocation.config) {
            Ok(_) => print(&in_order(&invocation)),
            Err(wrong) => complain(Exit::Configuration, &wrong.to_string()),
        },
        Command::Show { words, json } => ask(&invocation.config.spool, "show", words, *json),
        Command::Queue { words, json } => ask(&invocation.config.spool, "queue", words, *json),
        Command::About { verb, words, json } => ask(&invocation.config.spool, verb, words, *json),
        Command::Tell(words) => ask(&invocation.config.spool, "tell", words, false),
        Command::Passwd { scheme, address } => match passwd::line(*scheme, address.as_deref()) {
            Ok(line) => print(&line),
            Err(wrong) => complain(wrong.exit(), &format!("smtpmta: passwd: {wrong}")),
        },
        Command::Verify {
            folder,
            account,
            json,
        } => {
            let folder = folder.as_deref().unwrap_or(&invocation.config.spool);
            verify(folder, *account, *json)
        }
        Command::Sink(sink::options::Asked::Help) => print(&sink::options::help()),
        Command::Sink(sink::options::Asked::Run(settings)) => match sink::run((**settings).clone()) {
            Ok(()) => Exit::Done.into(),
            Err(wrong) => complain(wrong.exit(), &format!("smtpmta: sink: {wrong}")),
        },
        Command::Sendmail(asked) => sendmail::run(&invocation.config, asked).into(),
        Command::Run => run(invocation),
    }
}

/// The words of the command line, without the program's own name unless that is a command.
fn arguments() -> Result<Vec<String>, String> {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().and_then(|name| name.to_str());
    let command = program
        .filter(|name| sendmail::NAMES.contains(name))
        .map(|name| Ok(name.to_owned()));
    let text = |word: std::ffi::OsString| {
        word.into_string()
            .map_err(|word| format!("smtpmta: {word:?}: expected text in UTF-8"))
    };
    command.into_iter().chain(words.map(text)).collect()
}

fn in_order(invocation: &Invocation) -> String {
    match &invocation.file {
        Some(file) => format!("{}: the configuration is in order\n", file.display()),
        None => "the configuration is in order; no file was read\n".into(),
    }
}

/// Runs the MTA until it ends.
fn run(invocation: Invocation) -> ExitCode {
    if let Err(wrong) = crash_point::arm() {
        return complain(Exit::Usage, &wrong);
    }
    let Config {
        log_level, log_file, ..
    } = &invocation.config;
    if let Err(error) = log_book::open(*log_level, log_file.as_deref()) {
        let file = log_file.as_deref().unwrap_or(Path::new("standard error"));
        // Where the system has no thread left, the configuration is not at fault.
        let exit = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::OutOfMemory => Exit::TryLater,
            _ => Exit::Configuration,
        };
        return complain(exit, &format!("smtpmta: log-file: {}: {error}", file.display()));
    }
    let status = addin::run(invocation);
    log_book::finish();
    status
}

/// Asks the MTA that runs on this spool, and prints its answer.
fn ask(spool: &Path, verb: &str, words: &[String], json: bool) -> ExitCode {
    let words: Vec<String> = std::iter::once(verb.to_owned())
        .chain(words.iter().cloned())
        .collect();
    match console::client::ask(spool, &words, json) {
        Ok(answer) if answer.status == 0 => print(&answer.text),
        Ok(answer) => {
            let _ = io::stderr().write_all(answer.text.as_bytes());
            ExitCode::from(answer.status)
        }
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => complain(
            Exit::TryLater,
            &format!("smtpmta: the MTA in {} does not answer: {error}", spool.display()),
        ),
        Err(error) => complain(
            Exit::NotRunning,
            &format!("smtpmta: no MTA is running in {}: {error}", spool.display()),
        ),
    }
}

/// Looks the work queue in this folder through, and prints what was found.
fn verify(folder: &Path, account: bool, json: bool) -> ExitCode {
    match work_queue::verify(folder, account) {
        Ok(found) => {
            let screen = console::verdict::verdict(&found);
            let printed = match json {
                true => print(&format!("{}\n", screen.json)),
                false => print(&screen.text),
            };
            if found.is_in_order() {
                printed
            } else {
                Exit::Damaged.into()
            }
        }
        Err(error) => {
            let exit = if error.is_missing() {
                Exit::NoInput
            } else {
                Exit::TryLater
            };
            complain(exit, &format!("smtpmta: verify: {error}"))
        }
    }
}

/// Prints an answer. Somebody who reads only its head (`| head -1`) is no error.
fn print(answer: &str) -> ExitCode {
    match io::stdout()
        .write_all(answer.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(Exit::TryLater, &format!("smtpmta: standard output: {error}"))
        }
        _ => Exit::Done.into(),
    }
}

/// Says what is wrong, and how the run ends.
fn complain(exit: Exit, what: &str) -> ExitCode {
    // Where standard error is closed the status alone must do.
    let _ = writeln!(io::stderr(), "{what}");
    exit.into()
}
