//! A clock of its own for the MTA, which a test sets forward and back while it runs: libfaketime, loaded before the
//! system's library. Timers, which nobody can set, stay those of the machine.

#![allow(dead_code)] // each test uses what it needs

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::shim::PRELOAD;

/// Set where a test that can not set the clock must fail, as `.ci/run` does.
const MUST_SET_CLOCK: &str = "SMTPMTA_MUST_SET_CLOCK";

/// Debian's, for programs with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// The clock.
#[derive(Clone, Debug)]
pub struct OtherClock {
    faketime: PathBuf,
    /// Says how far it is from the machine's.
    file: PathBuf,
}

impl OtherClock {
    /// A clock that shows what the machine's shows; kept in a file of `folder`. `None` where the library is missing: this
    /// says so past the test's capture, and the test has to end without having looked at anything.
    ///
    /// # Panics
    /// Where it is missing and [`MUST_SET_CLOCK`] is set.
    #[track_caller]
    pub fn in_folder(folder: &Path) -> Option<OtherClock> {
        let Some(library) = library() else {
            assert!(
                env::var_os(MUST_SET_CLOCK).is_none(),
                "{LIBRARY} is missing: apt-get install faketime"
            );
            // Not `eprintln`, which nobody sees of a test that passes.
            let _ = writeln!(
                io::stderr(),
                "\nNOT TESTED: what becomes of mail when the clock is set. {LIBRARY} is missing: apt-get install faketime"
            );
            return None;
        };
        let clock = OtherClock {
            faketime: library,
            file: folder.join("clock"),
        };
        clock.set("+0");
        Some(clock)
    }

    /// Sets it: `+1d` is a day ahead of the machine's, `-1d` a day behind, `+0` as that.
    pub fn set(&self, to: &str) {
        // Whoever reads it finds one or the other.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{to}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// The environment of a program that goes by this clock.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            (PRELOAD, self.faketime.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ]
    }

    /// What the library leaves behind of the process with this ID.
    pub fn litter(pid: u32) -> Vec<PathBuf> {
        let names = [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")];
        names.map(|name| Path::new("/dev/shm").join(name)).into()
    }
}

/// Where the library is, if it is anywhere.
fn library() -> Option<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/lib/faketime")];
    let architectures = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.extend(architectures.map(|folder| folder.path().join("faketime")));
    folders
        .into_iter()
        .map(|folder| folder.join(LIBRARY))
        .find(|library| library.exists())
}
