//! What a process asks of the system, in the order in which it does: strace's record of an MTA, read back.
//!
//! Knows of calls only, never what they are about.

#![allow(dead_code)] // each test uses what it needs

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::Command;

/// Set where a test that can not trace must fail, as `.ci/run` does.
const MUST_TRACE: &str = "SMTPMTA_MUST_TRACE";

/// The calls that are recorded. Not every machine has each of them.
const CALLS: &str = "trace=fsync,fdatasync,?write,?pwrite64,?writev,?pwritev,?pwritev2,?sendto,?sendmsg,?sendmmsg,\
                     ?rename,?renameat,?renameat2";

/// One call, from its beginning to its end.
#[derive(Debug)]
pub struct Call {
    /// Such as `pwrite64`.
    pub name: String,
    /// The path of its descriptor, or `TCP:[…]` for a socket; empty for a call without one.
    pub on: String,
    /// The strings among its arguments.
    pub texts: Vec<Vec<u8>>,
    /// When it began: the number of a line in the record.
    pub began: usize,
    /// When it had ended, and the result. `None` if it never did.
    pub ended: Option<(usize, i64)>,
}

impl Call {
    /// All strings among its arguments: what is written.
    pub fn octets(&self) -> Vec<u8> {
        self.texts.concat()
    }

    /// Whether `needle` is in what it writes.
    pub fn holds(&self, needle: &str) -> bool {
        contains(&self.octets(), needle)
    }

    /// Whether it writes to something.
    pub fn writes(&self) -> bool {
        self.name.contains("write") || self.name.starts_with("send")
    }

    /// Whether it brings what has been written to the disk.
    pub fn syncs(&self) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync")
    }

    /// When it was done and had succeeded.
    pub fn done(&self) -> Option<usize> {
        self.ended.filter(|(_, result)| *result >= 0).map(|(at, _)| at)
    }
}

/// Whether `needle` is in `octets`.
pub fn contains(octets: &[u8], needle: &str) -> bool {
    memchr::memmem::find(octets, needle.as_bytes()).is_some()
}

/// Runs the program under strace, which writes to `record`. The program stays the child of whoever spawns this, and
/// its streams end no sooner than the record is complete.
pub fn under_strace(program: &str, record: &Path) -> Command {
    let mut command = Command::new("strace");
    // Strings as octets in hexadecimal, and all of them: nothing needs to be unescaped or guessed.
    command.args(["-D", "-f", "-yy", "-xx", "-s", "10000000", "-e", CALLS, "-o"]);
    command.arg(record).arg("--").arg(program);
    command
}

/// Runs the program under strace so that threads come late, as on a busy machine: all that one of its threads starts
/// after the first it has started. Milliseconds each.
pub fn with_late_threads(program: &str, by: u32) -> Command {
    let late = format!("inject=?clone,?clone3:delay_enter={by}000:when=2+");
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", "trace=?clone,?clone3", "-e", &late, "--", program]);
    command
}

/// Whether a process can be traced here. Where the system forbids it this says so past the test's capture, and the
/// test has to end without having looked at anything.
///
/// # Panics
/// Where strace fails for another reason than that it is missing or may not trace; and for any where [`MUST_TRACE`] is
/// set.
#[track_caller]
pub fn is_possible() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let refusal = match under_strace("true", &folder.path().join("record")).output() {
        Ok(run) if run.status.success() && run.stderr.is_empty() => return true,
        Ok(run) => String::from_utf8_lossy(&run.stderr).trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "it is missing: apt-get install strace".to_owned()
        }
        Err(error) => panic!("strace: {error}"),
    };
    let is_refused = ["ptrace", "missing"]
        .iter()
        .any(|why| refusal.to_lowercase().contains(why));
    assert!(
        is_refused && env::var_os(MUST_TRACE).is_none(),
        "strace can not trace: {refusal}"
    );
    // Not `eprintln`, which nobody sees of a test that passes.
    let _ = writeln!(
        io::stderr(),
        "\nNOT TESTED: that nothing is promised before it is on the disk. strace can not trace here: {refusal}"
    );
    false
}

/// Reads a record; the calls in the order in which they began.
///
/// # Panics
/// When it is not one.
#[track_caller]
pub fn read(record: &Path) -> Vec<Call> {
    let text = fs::read_to_string(record).unwrap();
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let (thread, event) = line.split_once(' ').expect("a thread and what it did");
        let event = event.trim_start();
        if event.starts_with("+++") || event.starts_with("---") {
            continue;
        }
        if event.starts_with("<... ") {
            let call = unfinished.remove(thread).expect("a call that had begun");
            calls[call].ended = result(event).map(|result| (at, result));
            continue;
        }
        let (name, arguments) = event.split_once('(').expect("a call");
        let ended = match arguments.ends_with("<unfinished ...>") {
            true => {
                unfinished.insert(thread, calls.len());
                None
            }
            false => result(event).map(|result| (at, result)),
        };
        calls.push(Call {
            name: name.to_owned(),
            on: descriptor(arguments),
            texts: strings(arguments),
            began: at,
            ended,
        });
    }
    calls
}

/// What stands behind the last equals sign; `None` for `?`, of a call that the end of its thread cut short.
fn result(event: &str) -> Option<i64> {
    let (_, result) = event.rsplit_once(" = ")?;
    result.split([' ', '<']).next()?.parse().ok()
}

/// What the first argument is a descriptor of: `6</the/path>, …`.
fn descriptor(arguments: &str) -> String {
    let first = arguments.trim_start_matches(|octet: char| octet.is_ascii_digit());
    match first
        .strip_prefix('<')
        .and_then(|rest| rest.split_once([',', ')', ' ']))
    {
        Some((target, _)) => String::from_utf8_lossy(&plain(target.trim_end_matches('>'))).into_owned(),
        None => String::new(),
    }
}

fn strings(arguments: &str) -> Vec<Vec<u8>> {
    arguments.split('"').skip(1).step_by(2).map(plain).collect()
}

/// The octets of `\x61\x62c`.
fn plain(text: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let (octet, more) = match rest {
            [b'\\', b'x', high, low, more @ ..] => (digit(*high) << 4 | digit(*low), more),
            _ => (*first, more),
        };
        octets.push(octet);
        rest = more;
    }
    octets
}

fn digit(octet: u8) -> u8 {
    let digit = char::from(octet).to_digit(16).expect("a hexadecimal digit");
    u8::try_from(digit).expect("below 16")
}

#[test]
fn a_record_is_read_back_call_by_call() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let text = "7 pwrite64(6<\\x2f\\x61>, \"\\x0a\\x62\", 2, 0) = 2\n\
                8 fsync(6<\\x2f\\x61> <unfinished ...>\n\
                7 writev(9<TCP:[127.0.0.1:25->127.0.0.1:99]>, [{iov_base=\"\\x63\", iov_len=1}, {iov_base=\"\\x64\", iov_len=1}], 2 <unfinished ...>\n\
                8 <... fsync resumed>)              = -1 EIO (Input/output error)\n\
                7 <... writev resumed>)             = 2\n\
                7 rename(\"\\x61\", \"\\x62\") = 0\n\
                8 +++ exited with 0 +++\n\
                7 fsync(6<\\x2f\\x61> <unfinished ...>\n\
                7 <... fsync resumed>)              = ?\n\
                7 +++ exited with 0 +++\n";
    fs::write(&record, text).unwrap();
    let calls = read(&record);
    let told: Vec<_> = calls
        .iter()
        .map(|call| {
            let name = (call.name.as_str(), call.on.as_str());
            (name, call.octets(), call.began, call.ended, call.done())
        })
        .collect();
    let socket = ("writev", "TCP:[127.0.0.1:25->127.0.0.1:99]");
    let expected = [
        (("pwrite64", "/a"), b"\nb".to_vec(), 0, Some((0, 2)), Some(0)),
        (("fsync", "/a"), vec![], 1, Some((3, -1)), None),
        (socket, b"cd".to_vec(), 2, Some((4, 2)), Some(4)),
        (("rename", ""), b"ab".to_vec(), 5, Some((5, 0)), Some(5)),
        (("fsync", "/a"), vec![], 7, None, None),
    ];
    assert_eq!(told, expected);
}
