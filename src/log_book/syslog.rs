//! The system's log: each line is a datagram to the socket of its daemon, in the form of RFC 3164 as syslog(3) of the C
//! library gives it.
//!
//! Never gives up: while there is no daemon, or it does not read, lines are said to wait, and the scribe, behind which
//! they wait, asks again.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::Level;
use nix::errno::Errno;

use super::record;
use super::sink::{Form, Line, Taken};

/// The facility of mail (RFC 3164 4.1.1).
const MAIL: u8 = 2 << 3;

/// How long a daemon that does not read may keep the scribe.
const PATIENCE: Duration = Duration::from_secs(1);

/// After a refusal nobody is asked again before that.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The way to the daemon.
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    refused: Option<Instant>,
}

impl Syslog {
    pub(super) fn new(path: &Path) -> Syslog {
        Syslog {
            path: path.to_owned(),
            socket: None,
            refused: None,
        }
    }

    pub(super) fn put(&mut self, first: Option<&Line>, batch: &[Line], form: Form) -> Taken {
        let told = first.is_none_or(|line| self.tell(line, form));
        let mut lines = 0;
        if told {
            lines = batch.iter().take_while(|line| self.tell(line, form)).count();
        }
        Taken {
            told,
            lines,
            is_away: lines < batch.len() || !told,
        }
    }

    /// Whether the daemon has this line, or never will.
    fn tell(&mut self, line: &Line, form: Form) -> bool {
        if self.refused.is_some_and(|refused| refused.elapsed() < PAUSE) {
            return false;
        }
        let packet = packet(line, form, std::process::id());
        // A daemon that has been started anew has another socket of the same name.
        let sent = match self.send(&packet) {
            Err(error) if !is_full(&error) => {
                self.socket = None;
                self.send(&packet)
            }
            sent => sent,
        };
        match sent {
            Ok(()) => true,
            // It would never get through, nor would any behind it.
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => true,
            Err(_) => {
                self.refused = Some(Instant::now());
                false
            }
        }
    }

    fn send(&mut self, packet: &str) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(&self.path)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket
            }
        };
        let sent = socket.send(packet.as_bytes());
        self.socket = Some(socket);
        sent.map(drop)
    }
}

/// Whether somebody is there who does not read just now.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        || error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

/// `<22>Nov 23 19:20:01 smtpmta[123]: iseshlr0 id=…`: facility and severity say the level.
fn packet(line: &Line, form: Form, pid: u32) -> String {
    let text = line.text.trim_end_matches('\n');
    let at = line.at.unwrap_or_default();
    let told = match form {
        Form::Plain => record::without_level(text),
        Form::Json => record::json(&at.to_rfc3339(), text),
    };
    let priority = MAIL | severity(record::level(text));
    format!("<{priority}>{} smtpmta[{pid}]: {told}", at.to_syslog())
}

/// RFC 3164 4.1.1: err, warning, info, debug.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;

    fn line(level: &str) -> Line {
        Line {
            at: Some(Stamp(1_700_000_000_123_456)),
            text: format!("iseshlr0 {level} id=0006 stored\n"),
        }
    }

    #[test]
    fn a_packet_has_facility_mail_and_the_severity_of_its_level_and_names_us_before_the_task() {
        for (level, priority) in [
            ("ERROR", "<19>"),
            ("WARN", "<20>"),
            ("INFO", "<22>"),
            ("DEBUG", "<23>"),
            ("TRACE", "<23>"),
        ] {
            let packet = packet(&line(level), Form::Plain, 42);
            assert!(packet.starts_with(&format!("{priority}Nov 1")), "{packet}");
            assert!(
                packet.ends_with(" smtpmta[42]: iseshlr0 id=0006 stored"),
                "{packet}"
            );
        }
        let packet = packet(&line("INFO"), Form::Json, 42);
        let (_, json) = packet.split_once("smtpmta[42]: ").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&json["id"], &json["msg"]), (&"0006".into(), &"stored".into()));
    }

    #[test]
    fn what_a_daemon_that_does_not_read_cannot_take_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path);
        let many: Vec<Line> = (0..2000).map(|_| line("INFO")).collect();
        let taken = syslog.put(None, &many, Form::Plain);
        assert!(taken.is_away && taken.lines < many.len(), "{taken:?}");
        drop(daemon);
    }
}
