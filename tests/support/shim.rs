//! Calls of the MTA to the system that fail to order: a shim between it and the C library, compiled once for a run of
//! the tests, and the orders that it obeys while the MTA runs.
//!
//! Knows nothing of mail. What the shim writes down is read by `journal.rs`.

#![allow(dead_code)] // each test uses what it needs

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::errno::Errno;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");

/// Names what the loader takes before the C library (ld.so(8)).
pub const PRELOAD: &str = "LD_PRELOAD";

/// How many orders there may be at once; the shim says the same, as of all below.
const ORDERS: usize = 8;

/// Octets of an order.
const ORDER: usize = 128;

/// Where in an order it says how many calls it has struck.
const STRUCK: usize = 32;

/// Stands in place of an errno for a call that does half of what it should.
const SHORT: i32 = -1;

/// Stands there for a call that is made, and does not come back.
const HELD: i32 = -2;

/// write, pwrite, writev and send.
pub const WRITE: u32 = 1;
/// read, pread and recv.
pub const READ: u32 = 2;
/// fsync and fdatasync.
pub const SYNC: u32 = 4;
/// open and mkdir.
pub const OPEN: u32 = 8;
/// accept4.
pub const ACCEPT: u32 = 16;
/// socket and connect, of any family.
pub const CONNECT: u32 = 32;
/// pthread_create.
pub const THREAD: u32 = 64;
/// rename and link.
pub const RENAME: u32 = 128;
/// unlink and rmdir.
pub const UNLINK: u32 = 256;
/// ftruncate.
pub const CUT: u32 = 512;
/// No call: the process is killed where its journal says of everything whether it was done.
pub const DIE: u32 = 1024;

/// The shim, ready to be loaded. It takes the place of what an earlier run has left.
///
/// # Panics
/// Where it can not be compiled.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(folder).unwrap();
        let fresh = folder.join(format!("shim-{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-U_FORTIFY_SOURCE", "-Wall", "-o"])
            .args([&fresh, Path::new(SOURCE)])
            .args(["-ldl", "-lpthread"])
            .output();
        let compiled = compiled.expect("a C compiler, which is called cc: apt-get install gcc libc6-dev");
        let complaint = String::from_utf8_lossy(&compiled.stderr);
        assert!(
            compiled.status.success() && complaint.is_empty(),
            "{SOURCE} can not be compiled by cc:\n{complaint}"
        );
        // Whoever runs with the one before keeps it.
        let library = folder.join("shim.so");
        fs::rename(&fresh, &library).unwrap();
        library
    })
}

/// What happens to which calls.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    calls: u32,
    error: i32,
    on: &'static str,
    skip: i64,
    times: i64,
}

impl Fault {
    /// Every call of these kinds fails so.
    pub fn of(calls: u32, error: Errno) -> Fault {
        Fault {
            calls,
            error: error as i32,
            on: "",
            skip: 0,
            times: i64::MAX / 2,
        }
    }

    /// Every call of these kinds does no more than half of what it is asked to, one octet at least.
    pub fn short(calls: u32) -> Fault {
        Fault {
            error: SHORT,
            ..Fault::of(calls, Errno::UnknownErrno)
        }
    }

    /// Every call of these kinds does what it should, and comes back only when the order is called off: whatever happens
    /// meanwhile finds its thread there. For send, fsync and fdatasync.
    pub fn held(calls: u32) -> Fault {
        Fault {
            error: HELD,
            ..Fault::of(calls, Errno::UnknownErrno)
        }
    }

    /// Only where this stands in the path, or in what /proc calls the descriptor: `queue.db-wal`, `socket:[`. Of a
    /// connection to be made it is the name of the call: `socket`, or `connect`. Not for threads.
    pub fn on(self, on: &'static str) -> Fault {
        Fault { on, ..self }
    }

    /// Only so many times.
    pub fn times(self, times: i64) -> Fault {
        Fault { times, ..self }
    }

    /// Not the first `skip` times.
    pub fn after(self, skip: i64) -> Fault {
        Fault { skip, ..self }
    }

    fn octets(&self, armed: bool) -> [u8; ORDER] {
        let mut octets = [0; ORDER];
        octets[..4].copy_from_slice(&u32::from(armed).to_ne_bytes());
        octets[4..8].copy_from_slice(&self.calls.to_ne_bytes());
        octets[8..12].copy_from_slice(&self.error.to_ne_bytes());
        octets[16..24].copy_from_slice(&self.skip.to_ne_bytes());
        octets[24..STRUCK].copy_from_slice(&self.times.to_ne_bytes());
        octets[40..40 + self.on.len()].copy_from_slice(self.on.as_bytes());
        octets
    }
}

/// The orders that an MTA obeys.
#[derive(Debug)]
pub struct Faults(File);

impl Faults {
    /// No orders yet, in this file.
    pub fn new(file: &Path) -> Faults {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(file);
        let faults = Faults(file.unwrap());
        faults.behave();
        faults
    }

    /// From now on these calls fail, and no others.
    pub fn order(&self, faults: &[Fault]) {
        self.behave();
        for (place, fault) in faults.iter().enumerate() {
            self.put(place, 0, &fault.octets(false));
            self.put(place, 0, &1_u32.to_ne_bytes());
        }
    }

    /// From now on none fails.
    pub fn behave(&self) {
        let nothing = Fault::of(0, Errno::UnknownErrno).times(0).octets(false);
        for place in 0..ORDERS {
            self.put(place, 0, &0_u32.to_ne_bytes());
            self.put(place, 0, &nothing);
        }
    }

    /// How many calls have failed by the last order.
    pub fn struck(&self) -> u64 {
        let of = |place| {
            let mut octets = [0; 8];
            let at = place * ORDER + STRUCK;
            self.0.read_exact_at(&mut octets, at as u64).unwrap();
            u64::from_ne_bytes(octets)
        };
        (0..ORDERS).map(of).sum()
    }

    fn put(&self, place: usize, at: usize, octets: &[u8]) {
        let at = place * ORDER + at;
        self.0.write_all_at(octets, at as u64).unwrap();
    }
}
