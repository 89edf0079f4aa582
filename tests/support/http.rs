//! A client of `--http`, which says what it is told to and nothing else; and a reader of metrics that forgives nothing.

#![allow(dead_code)] // each test uses what it needs

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::world::{PATIENCE, World, eventually};

/// What was answered.
#[derive(Clone, Debug)]
pub struct Page {
    /// The code.
    pub status: u16,
    /// The lines of the head, the first among them.
    pub head: Vec<String>,
    /// The content.
    pub content: String,
}

impl Page {
    /// The value of a field of the head.
    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        let begin = format!("{name}: ");
        let mut values = self.head.iter().filter_map(|line| line.strip_prefix(&begin));
        let value = values.next().unwrap_or_else(|| panic!("{name}: {:?}", self.head));
        assert_eq!(values.next(), None, "{name} twice: {:?}", self.head);
        value
    }
}

/// Where the MTA of `world` answers those who look on, by `show tasks`.
#[track_caller]
pub fn address(world: &World) -> SocketAddr {
    eventually("a listener for HTTP", || {
        let screen = world.show("tasks");
        let line = screen
            .lines()
            .find_map(|line| line.strip_prefix("SMTPMTA http Listening on HTTP port "));
        line.and_then(|port| port.parse().ok()).ok_or(screen)
    })
}

/// Connects, and says nothing.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes until the other one hangs up.
#[track_caller]
pub fn hear(stream: &mut TcpStream) -> Page {
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    let text = String::from_utf8(octets).unwrap();
    let (head, content) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    let head: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    let status = head[0].strip_prefix("HTTP/1.1 ").unwrap().get(..3).unwrap();
    Page {
        status: status.parse().unwrap(),
        content: content.to_owned(),
        head,
    }
}

/// Says these octets and nothing more, and hears the answer.
#[track_caller]
pub fn say(address: SocketAddr, octets: &[u8]) -> Page {
    let mut stream = connect(address);
    // Who is turned away need not hear it all.
    let _ = stream.write_all(octets);
    let _ = stream.shutdown(Shutdown::Write);
    hear(&mut stream)
}

/// Gets a page.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Page {
    let page = say(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes(),
    );
    let length: usize = page.field("Content-Length").parse().unwrap();
    assert_eq!(page.content.len(), length, "{path}");
    page
}

/// A sample: what stands behind the name of its metric, its labels, its value.
pub type Sample = (String, Vec<(String, String)>, f64);

/// A metric, as it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its type.
    pub kind: String,
    /// In their order.
    pub samples: Vec<Sample>,
}

/// The metrics that stand in a text, by their names.
///
/// # Panics
/// Where the text is not just as the format 0.0.4 wants it.
#[track_caller]
pub fn metrics(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n') && !text.contains('\r') && !text.contains("\n\n"));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
            .expect(line);
        assert!(
            is_name(name) && !help.contains('\\') && help.ends_with('.'),
            "{line}"
        );
        let line = lines.next().unwrap();
        let kind = line
            .strip_prefix(&format!("# TYPE {name} "))
            .expect(line)
            .to_owned();
        let mut samples = Vec::new();
        let mut seen = HashSet::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').unwrap().0.to_owned();
            assert!(seen.insert(series), "twice: {line}");
            let rest = line.strip_prefix(name).expect(line);
            samples.push(sample(rest));
        }
        check(name, &kind, &samples);
        let known = families.insert(name.to_owned(), Family { kind, samples });
        assert!(known.is_none(), "{name} twice");
    }
    families
}

fn is_name(name: &str) -> bool {
    let mut signs = name.chars();
    signs.next().is_some_and(|sign| sign.is_ascii_alphabetic())
        && signs.all(|sign| sign.is_ascii_alphanumeric() || sign == '_')
}

/// What stands behind the name of a metric: perhaps more of the name, labels, value.
#[track_caller]
fn sample(rest: &str) -> Sample {
    let end = rest.find(['{', ' ']).unwrap();
    let (suffix, mut rest) = rest.split_at(end);
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(behind) = rest.strip_prefix('{') {
        rest = behind;
        loop {
            let (name, behind) = rest.split_once("=\"").expect(rest);
            assert!(
                is_name(name) && labels.iter().all(|(known, _)| known != name),
                "{rest}"
            );
            let mut value = String::new();
            let mut signs = behind.char_indices();
            let end = loop {
                match signs.next().expect(behind) {
                    (at, '"') => break at,
                    (_, '\\') => match signs.next().expect(behind).1 {
                        'n' => value.push('\n'),
                        sign @ ('\\' | '"') => value.push(sign),
                        sign => panic!("\\{sign} in {behind}"),
                    },
                    (_, sign) => value.push(sign),
                }
            };
            labels.push((name.to_owned(), value));
            rest = &behind[end + 1..];
            match rest.strip_prefix(',') {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect(rest);
    }
    let value: f64 = rest.strip_prefix(' ').expect(rest).parse().expect(rest);
    assert!(value.is_finite(), "{rest}");
    (suffix.to_owned(), labels, value)
}

/// What the type of a metric asks of its samples.
#[track_caller]
fn check(name: &str, kind: &str, samples: &[Sample]) {
    if kind != "histogram" {
        assert!(["counter", "gauge"].contains(&kind), "{name}: {kind}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        for (suffix, labels, value) in samples {
            assert!(
                suffix.is_empty() && labels.iter().all(|(label, _)| label != "le"),
                "{name}"
            );
            assert!(kind == "gauge" || *value >= 0.0, "{name}: {value}");
        }
        return;
    }
    let of = |wanted: &str| {
        let such = samples.iter().filter(|(suffix, _, _)| suffix == wanted);
        such.map(|(_, _, value)| *value).collect::<Vec<_>>()
    };
    if samples.is_empty() {
        return;
    }
    let (sums, counts, buckets) = (of("_sum"), of("_count"), of("_bucket"));
    assert_eq!((sums.len(), counts.len()), (1, 1), "{name}");
    assert_eq!(buckets.len() + 2, samples.len(), "{name}");
    assert!(buckets.is_sorted(), "{name} is not cumulative: {buckets:?}");
    assert_eq!(buckets.last(), counts.first(), "{name}");
    let bounds = samples.iter().filter(|(suffix, _, _)| suffix == "_bucket");
    let bounds: Vec<f64> = bounds
        .map(|(_, labels, _)| match &labels[..] {
            [(label, bound)] if label == "le" && bound == "+Inf" => f64::INFINITY,
            [(label, bound)] if label == "le" => bound.parse().unwrap(),
            other => panic!("{name}: {other:?}"),
        })
        .collect();
    assert!(bounds.windows(2).all(|two| two[0] < two[1]), "{name}: {bounds:?}");
    assert_eq!(bounds.last(), Some(&f64::INFINITY), "{name}");
}

/// The value of a sample, by the name of its metric with what is behind it, and its labels, if there is one.
pub fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let found = families.iter().find_map(|(family, told)| {
        let suffix = name.strip_prefix(family.as_str())?;
        let mut samples = told.samples.iter();
        samples.find(|(behind, its, _)| {
            behind == suffix
                && its.len() == labels.len()
                && its
                    .iter()
                    .zip(labels)
                    .all(|(its, wanted)| (its.0.as_str(), its.1.as_str()) == *wanted)
        })
    });
    found.map(|(_, _, value)| *value)
}
