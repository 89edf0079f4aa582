//! The operator at a terminal: the live MTA on a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{SIGTERM, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;

use crate::support::client::{Client, letter};
use crate::support::sink::Sink;
use crate::support::world::{PATIENCE, eventually};

/// Keys.
const TAB: &str = "\t";
const ENTER: &str = "\r";
const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_U: &str = "\x15";

/// A terminal with an MTA at it.
struct Terminal {
    mta: Child,
    keys: File,
    /// The MTA's end, to see how it stands.
    line: OwnedFd,
    found: Termios,
    screen: Arc<(Mutex<String>, Condvar)>,
    /// Up to where the screen has been read.
    read: usize,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    fn load(folder: &Path, flags: &[&str]) -> Terminal {
        let ends = openpty(None, None).unwrap();
        let found = tcgetattr(&ends.slave).unwrap();
        let end = || Stdio::from(ends.slave.try_clone().unwrap());
        let mta = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
            .current_dir(folder)
            .args(["-n", "mta.test", "-l", "127.0.0.1:0", "--dns", "127.0.0.1:1"])
            .args(flags)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let mut shown = File::from(ends.master.try_clone().unwrap());
        let screen = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let writer = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // At the end of the last one that has the other end open reading fails.
            while let Ok(length) = shown.read(&mut buffer) {
                if length == 0 {
                    break;
                }
                let text = String::from_utf8_lossy(&buffer[..length]);
                writer.0.lock().unwrap().push_str(&text);
                writer.1.notify_all();
            }
        });
        Terminal {
            mta,
            keys: File::from(ends.master),
            line: ends.slave,
            found,
            screen,
            read: 0,
            reader: Some(reader),
        }
    }

    /// Waits until this is shown, past what has been waited for; gives what came before it.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut screen = self.screen.0.lock().unwrap();
        loop {
            let fresh = &screen[self.read..];
            if let Some(at) = fresh.find(text) {
                let before = fresh[..at].to_owned();
                self.read += at + text.len();
                return before;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{text:?} was not shown; but {:?}", &*screen);
            screen = self.screen.1.wait_timeout(screen, left).unwrap().0;
        }
    }

    /// Hits keys, one after the other.
    #[track_caller]
    fn hit(&mut self, keys: &str) {
        let mut rest = keys;
        while !rest.is_empty() {
            let length = if rest.starts_with(UP) { UP.len() } else { 1 };
            let (key, behind) = rest.split_at(length);
            self.put_in(key);
            eventually("a key that is read", || {
                let mut input = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
                let waiting = poll(&mut input, PollTimeout::ZERO).unwrap();
                if waiting == 0 { Ok(()) } else { Err(key.to_owned()) }
            });
            rest = behind;
        }
    }

    /// Hits keys all at once.
    fn put_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until a line is being typed.
    #[track_caller]
    fn wait_for_prompt(&mut self) {
        self.wait_for("> ");
        eventually("a terminal that gives each key", || {
            let mode = tcgetattr(&self.line).unwrap();
            match mode.local_flags.contains(LocalFlags::ICANON) {
                true => Err(mode.local_flags),
                false => Ok(()),
            }
        });
    }

    #[track_caller]
    fn address(&mut self) -> SocketAddr {
        self.wait_for("SMTPMTA isesctl Listening on SMTP port ");
        let port = self.wait_for("\r\n");
        port.parse().unwrap_or_else(|error| panic!("{error}: {port:?}"))
    }

    /// Waits until the MTA ends by itself, and looks how it leaves the terminal.
    #[track_caller]
    fn wait_for_end(&mut self) {
        self.wait_for("SMTPMTA smtpmta Stopped");
        let status = eventually("the end", || self.mta.try_wait().unwrap().ok_or(()));
        assert_eq!(status.code(), Some(0));
        assert_eq!(tcgetattr(&self.line).unwrap(), self.found);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.mta.kill();
        let _ = self.mta.wait();
        // The reader ends with the last one that has the other end open, which is us.
        self.line = File::open("/dev/null").unwrap().into();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[test]
fn at_a_terminal_commands_are_edited_completed_and_called_back_and_events_come_above_the_line() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let route = format!("ibm.com={}", sink.address());
    let mut terminal = Terminal::load(
        folder.path(),
        &["--route", &route, "--log-level", "informational"],
    );
    // Typed before there is a prompt.
    terminal.put_in("show version\rsho");
    let address = terminal.address();
    terminal.wait_for_prompt();
    let version = concat!("smtpmta ", env!("CARGO_PKG_VERSION"), "\r\n");
    assert!(terminal.screen.0.lock().unwrap().contains(version));
    terminal.hit(&format!("{TAB}ta{TAB}"));
    terminal.wait_for("> show tasks");
    terminal.hit(ENTER);
    terminal.wait_for("SMTPMTA smtpmta Running\r\n");
    terminal.wait_for_prompt();
    terminal.hit(UP);
    terminal.wait_for("> show tasks");
    terminal.hit(&format!("{CTRL_U}st{TAB}"));
    terminal.wait_for("start  stop\r\n");
    terminal.wait_for("> st");

    // What happens goes above what is being typed, the log's lines as well.
    terminal.hit(&format!("{CTRL_U}show ver"));
    terminal.wait_for("show ver");
    let mut client = Client::try_greet(address).unwrap();
    terminal.wait_for("SMTPMTA iseshlr0 Started\r\n");
    terminal.wait_for("> show ver");
    client.mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter("seen"));
    terminal.wait_for(&format!(
        "SMTPMTA oseshlr0 List 1 for {}: 1 of 1 recipients sent\r\n",
        sink.address()
    ));
    terminal.wait_for("> show ver");
    terminal.hit(&format!("sion{ENTER}"));
    terminal.wait_for(version);

    // What is typed is in no log, and the end of input ends nothing.
    terminal.wait_for_prompt();
    terminal.hit(CTRL_D);
    terminal.wait_for("SMTPMTA smtpmta goes on; quit stops it\r\n");
    terminal.wait_for_prompt();
    terminal.hit(&format!("quit{ENTER}"));
    terminal.wait_for("SMTPMTA stops\r\n");
    terminal.wait_for_end();
    let screen = terminal.screen.0.lock().unwrap();
    assert!(screen.contains(" stored\r\n"), "{screen}");
    assert!(
        !screen.contains("rustyline") && !screen.contains("KeyEvent"),
        "{screen}"
    );
}

#[test]
fn a_signal_and_ctrl_c_stop_the_mta_gracefully_and_the_terminal_is_given_back_as_it_was() {
    for is_typed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::load(folder.path(), &[]);
        terminal.wait_for(" started, spool ");
        terminal.wait_for_prompt();
        terminal.hit("half of a comm");
        terminal.wait_for("half of a comm");
        if is_typed {
            terminal.hit(CTRL_C);
        } else {
            let mta = Pid::from_raw(i32::try_from(terminal.mta.id()).unwrap());
            kill(mta, SIGTERM).unwrap();
        }
        terminal.wait_for_end();
    }
}
