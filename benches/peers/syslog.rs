//! The system's log of a chroot: takes what comes to /dev/log, and appends it to a file there.
//!
//! Costs less than any syslogd, and its time is not the server's. Knows when a line with a mark in it came last.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What a Postfix logs once for each message that it takes.
const MARK: &[u8] = b" message-id=";

/// Where programs look for it; Postfix has a chroot within the chroot.
const SOCKETS: [(&str, &str); 2] = [
    ("dev", "dev/log"),
    ("var/spool/postfix", "var/spool/postfix/dev/log"),
];

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    marked: Mutex<(u64, Option<Instant>)>,
}

/// A log that is being taken, until it is dropped.
#[derive(Debug)]
pub struct Syslog {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Syslog {
    /// Takes the log of the chroot at `root` into its `var/log/bench.log`, which begins anew.
    ///
    /// # Errors
    /// The system's.
    pub fn start(root: &Path) -> io::Result<Syslog> {
        let mut log = Syslog {
            shared: Arc::default(),
            threads: Vec::new(),
        };
        let file = Arc::new(Mutex::new(BufWriter::new(File::create(
            root.join("var/log/bench.log"),
        )?)));
        for (condition, socket) in SOCKETS {
            if !root.join(condition).is_dir() {
                continue;
            }
            let path = root.join(socket);
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            let _ = fs::remove_file(&path);
            let socket = UnixDatagram::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            let (shared, file) = (Arc::clone(&log.shared), Arc::clone(&file));
            let thread = std::thread::Builder::new().name("syslog".into());
            log.threads
                .push(thread.spawn(move || take(&socket, &shared, &file))?);
        }
        Ok(log)
    }

    /// How many lines with the mark there were, and when the last came.
    pub fn marked(&self) -> (u64, Option<Instant>) {
        *self.shared.marked.lock()
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn take(socket: &UnixDatagram, shared: &Shared, file: &Mutex<BufWriter<File>>) {
    let mut line = [0; 8192];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut line) else {
            continue;
        };
        let line = &line[..length];
        if memchr::memmem::find(line, MARK).is_some() {
            let mut marked = shared.marked.lock();
            *marked = (marked.0 + 1, Some(Instant::now()));
        }
        let mut file = file.lock();
        let _ = file.write_all(line).and_then(|()| file.write_all(b"\n"));
    }
}
