//! flags → configuration → log → run → exit status, and nothing else.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use smtpmta::accounts::passwd;
use smtpmta::addin::files::Files;
use smtpmta::clock::Clock;
use smtpmta::config::exit::Exit;
use smtpmta::config::{self, Command, Config, Invocation, defaults, manual};
use smtpmta::console::letter::{self, Part};
use smtpmta::dry_run::{self, DryRunError};
use smtpmta::log_book::Destination;
use smtpmta::service::Service;
use smtpmta::service::daemon::{self, Detached};
use smtpmta::transfer::{self, TransferError};
use smtpmta::work_queue::id::MessageId;
use smtpmta::work_queue::{BackupError, QueueError};
use smtpmta::{addin, console, crash_point, doctor, log_book, sendmail, sink, work_queue};

fn main() -> ExitCode {
    if sendmail::is_set_id() {
        return complain(
            Exit::NotAllowed,
            "smtpmta: started with the rights of two users, as by set-uid or set-gid: expected those of one",
        );
    }
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
        Command::Export(asked) => moved(
            "export",
            |config| transfer::export::export(config, asked),
            &invocation.config,
        ),
        Command::Import(asked) => moved(
            "import",
            |config| transfer::import::import(config, asked),
            &invocation.config,
        ),
        Command::Letter { id, part, json } => show(&invocation.config.spool, *id, *part, *json),
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
        Command::Route(asked) => {
            let done = dry_run::route::run(&invocation.config, asked, &mut io::stdout().lock());
            ended("route", done)
        }
        Command::Session(asked) => {
            let (mut input, mut out) = (io::stdin().lock(), io::stdout().lock());
            let done = dry_run::session::run(
                &invocation.config,
                *asked,
                &mut input,
                &mut out,
                &mut io::stderr().lock(),
            );
            ended("session", done)
        }
        Command::Doctor(asked) => match doctor::run(&invocation, asked, &mut io::stdout().lock()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                complain(Exit::TryLater, &format!("smtpmta: standard output: {error}"))
            }
            ended => ended.unwrap_or(Exit::Done).into(),
        },
        Command::Backup(folder) => backup(&invocation.config.spool, folder),
        Command::Sink(sink::options::Asked::Help) => print(&sink::options::help()),
        Command::Sink(sink::options::Asked::Run(settings)) => match sink::run((**settings).clone()) {
            Ok(()) => Exit::Done.into(),
            Err(wrong) => complain(wrong.exit(), &format!("smtpmta: sink: {wrong}")),
        },
        Command::Sendmail(asked) => {
            sendmail::run(&invocation.config, &invocation.origin("spool"), asked).into()
        }
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
    let is_others = command.is_some();
    let text = |word: std::ffi::OsString| match word.into_string() {
        // Programs hand over names in any charset, and a message must not be lost for one.
        Err(word) if is_others => Ok(word.to_string_lossy().into_owned()),
        text => text.map_err(|word| format!("smtpmta: {word:?}: expected text in UTF-8")),
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
    let readiness = if invocation.config.daemon {
        match daemon::detach() {
            Ok(Detached::Parent(status)) => return status.into(),
            Ok(Detached::Daemon(readiness)) => Some(readiness),
            Err(error) => return complain(Exit::TryLater, &format!("smtpmta: daemon: {error}")),
        }
    } else {
        None
    };
    // In this order: what only root may read, what only root may do, and the first thread.
    let files = Files::read(&invocation.config);
    let begun = Service::begin(&invocation).map_err(|wrong| (wrong.exit(), wrong.to_string()));
    match begun.and_then(|service| open_log(&invocation.config).map(|()| service)) {
        Ok(service) => {
            let exit = addin::run(invocation, files, service, readiness);
            console::terminal::leave();
            log_book::finish();
            exit.into()
        }
        Err((exit, wrong)) => {
            let status = complain(exit, &format!("smtpmta: {wrong}"));
            if let Some(readiness) = readiness {
                readiness.failed(exit);
            }
            status
        }
    }
}

/// Opens the log; or how the run ends, and why.
fn open_log(config: &Config) -> Result<(), (Exit, String)> {
    log_book::open(config.log_level, Destination::of(config)).map_err(|error| {
        let file = config.log_file.as_deref().unwrap_or(Path::new("standard error"));
        // Where the system has no thread left, the configuration is not at fault.
        let exit = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::OutOfMemory => Exit::TryLater,
            _ => Exit::Configuration,
        };
        (exit, format!("log-file: {}: {error}", file.display()))
    })
}

/// Asks the MTA that runs on this spool, and prints its answer.
fn ask(spool: &Path, verb: &str, words: &[String], json: bool) -> ExitCode {
    let words: Vec<String> = std::iter::once(verb.to_owned())
        .chain(words.iter().cloned())
        .collect();
    // What nobody would understand need not be asked.
    if let Err(refusal) = console::command::Command::parse(&words) {
        return complain(refusal.exit(), &refusal.to_string());
    }
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
        Err(error) if error.kind() == ErrorKind::PermissionDenied => complain(
            Exit::NotAllowed,
            &format!(
                "smtpmta: the MTA in {} may not be asked: {error}",
                spool.display()
            ),
        ),
        Err(error) => complain(
            Exit::NotRunning,
            &format!("smtpmta: no MTA is running in {}: {error}", spool.display()),
        ),
    }
}

/// Shows a message of the work queue in this folder.
fn show(spool: &Path, id: MessageId, part: Part, json: bool) -> ExitCode {
    let message = match work_queue::peruse(spool, id) {
        Ok(Some(message)) => message,
        Ok(None) => return complain(Exit::Refused, &format!("nothing is known of message {id}")),
        Err(error) => return unreadable("queue show", &error),
    };
    match letter::show(message, part, json, Clock::System.now(), &mut io::stdout().lock()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(Exit::TryLater, &format!("smtpmta: queue show: {error}"))
        }
        _ => Exit::Done.into(),
    }
}

/// Moves mail between spools, and prints what came of it.
fn moved(
    verb: &str,
    work: impl FnOnce(&Config) -> Result<String, TransferError>,
    config: &Config,
) -> ExitCode {
    if let Err(wrong) = crash_point::arm() {
        return complain(Exit::Usage, &wrong);
    }
    match work(config) {
        Ok(told) => print(&told),
        Err(wrong) => complain(wrong.exit, &format!("smtpmta: queue {verb}: {wrong}")),
    }
}

/// Says why a work queue can not be read.
fn unreadable(verb: &str, error: &QueueError) -> ExitCode {
    let exit = if error.is_missing() {
        Exit::NoInput
    } else {
        Exit::TryLater
    };
    complain(exit, &format!("smtpmta: {verb}: {error}"))
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
        Err(error) => unreadable("verify", &error),
    }
}

/// Says how a dry run has ended.
fn ended(name: &str, done: Result<Exit, DryRunError>) -> ExitCode {
    match done {
        Ok(exit) => exit.into(),
        Err(wrong) if wrong.exit() == Exit::Done => Exit::Done.into(),
        Err(wrong) => complain(wrong.exit(), &format!("smtpmta: {name}: {wrong}")),
    }
}

/// Copies the work queue to this folder, and prints what was copied. Whoever is told to stop leaves nothing behind.
fn backup(spool: &Path, folder: &Path) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if let Err(error) = flag::register(signal, Arc::clone(&stop)) {
            return complain(Exit::TryLater, &format!("smtpmta: backup: {error}"));
        }
    }
    let begun = Instant::now();
    match work_queue::backup(spool, folder, &|| stop.load(Ordering::SeqCst)) {
        Ok(copied) => {
            let printed = print(&console::screen::backed_up(&copied, folder, begun.elapsed()));
            match copied.missing {
                0 => printed,
                _ => Exit::Damaged.into(),
            }
        }
        Err(error) => {
            let exit = match &error {
                BackupError::Taken(_) => Exit::Refused,
                BackupError::Queue(error) if error.is_missing() => Exit::NoInput,
                BackupError::Queue(error) if error.is_damage() => Exit::Damaged,
                _ => Exit::TryLater,
            };
            complain(exit, &format!("smtpmta: backup: {error}"))
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
