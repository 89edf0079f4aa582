//! A message of any octets, for a peer that takes only 7-bit lines: 7-bit, as large as was said, the same wherever the
//! reads fall, and converted once; or refused. What is 7-bit already is not changed.

#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use smtpmta::mime::{Plan, Unsuitable};
use smtpmta_fuzz::reads::{joined, reads};

fuzz_target!(|data: &[u8]| {
    let whole = joined(data);
    let planned = plan(&*whole);
    match (plan(Reads::of(data)), plan(Reads(whole.chunks(1).collect()))) {
        (Ok(one), Ok(other)) => {
            let plan = planned.as_ref().expect("the same content");
            assert_eq!((one.size(), other.size()), (plan.size(), plan.size()));
        }
        (one, other) => assert_eq!(
            (one.err(), other.err()),
            (planned.as_ref().err().copied(), planned.as_ref().err().copied())
        ),
    }
    let Ok(plan_of_it) = planned else {
        let may_fail = !is_seven_bit(&whole);
        assert!(may_fail, "7-bit content is refused");
        return;
    };
    let out = read(plan_of_it.apply(&*whole));
    if std::env::var_os("TELL").is_some() {
        eprintln!("{}", String::from_utf8_lossy(&out));
    }
    assert_eq!(plan_of_it.size(), out.len() as u64);
    assert_eq!(out, read(plan_of_it.apply(Reads::of(data))));
    assert_eq!(out, read(plan_of_it.apply(Reads(whole.chunks(1).collect()))));
    assert!(is_seven_bit(&out), "{}", out.escape_ascii());
    assert_eq!(plan_of_it.changes(), !is_seven_bit(&whole));
    assert!(plan_of_it.changes() || out == whole);
    assert!(!whole.ends_with(b"\r\n") || out.ends_with(b"\r\n"));
    let again = plan(&*out).expect("what came out is suitable");
    assert!(!again.changes(), "not converted yet: {}", out.escape_ascii());
});

fn plan(content: impl Read) -> Result<Plan, Unsuitable> {
    Plan::of(content).expect("no read fails")
}

/// RFC 2045 2.7, read aloud.
fn is_seven_bit(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    content.is_ascii()
        && text
            .split("\r\n")
            .all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0']))
}

/// What comes in these reads.
struct Reads<'i>(std::collections::VecDeque<&'i [u8]>);

impl<'i> Reads<'i> {
    fn of(data: &'i [u8]) -> Reads<'i> {
        Reads(reads(data).collect())
    }
}

impl Read for Reads<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(first) = self.0.front_mut() else {
            return Ok(0);
        };
        let length = first.read(buffer)?;
        if first.is_empty() {
            self.0.pop_front();
        }
        Ok(length)
    }
}

/// Reads to the end, a few octets at a time.
fn read(mut content: impl Read) -> Vec<u8> {
    let (mut out, mut piece) = (Vec::new(), [0; 7]);
    loop {
        match content.read(&mut piece).expect("no read fails") {
            0 => return out,
            n => out.extend_from_slice(&piece[..n]),
        }
    }
}
