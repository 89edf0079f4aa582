//! Content in chunks, content that has to be converted, and the next host: each message arrives once, whatever happens
//! to those before and behind it. A table as in `next_hops`.

use crate::support::next_hops::{CLOSED, Fate, GOOD, HERE, Row, Table, later, never, row};

/// From nothing to more than is sent before somebody is known to want it.
const BODIES: [usize; 8] = [0, 1, 64 << 10, 0, (128 << 10) + 1, 2 << 20, 1, 700];

/// Messages of every size, each from another sender to another recipient, beside one whom they share.
fn sizes(host: &str) -> Row {
    Row {
        bodies: BODIES.to_vec(),
        messages: BODIES.len(),
        ..row(host, HERE)
            .to(&[("a%", HERE), ("all", HERE)])
            .copies(BODIES.len())
    }
}

impl Row {
    /// But this message fares otherwise, for all.
    fn but(mut self, message: usize, fate: &Fate) -> Row {
        self.unlike
            .extend(["a%", "all"].map(|local| (message, local, fate.clone())));
        self.copies -= usize::from(*fate != HERE);
        self
    }

    /// But this one of its recipients does.
    fn but_for(mut self, message: usize, fate: &Fate) -> Row {
        self.unlike.push((message, "a%", fate.clone()));
        self
    }
}

const CHUNKS: &str = "offer PIPELINING,SIZE,ENHANCEDSTATUSCODES,CHUNKING";

fn chunks() -> Vec<Row> {
    let mut rows = Vec::new();
    for options in [
        CHUNKS,
        "offer SIZE,ENHANCEDSTATUSCODES,CHUNKING",
        "offer PIPELINING,SIZE,ENHANCEDSTATUSCODES",
    ] {
        let with = |fault: &str| sizes(&format!("{options} | fault {fault}"));
        rows.extend([
            sizes(options),
            sizes(&format!("starttls | {options}")),
            sizes(&format!("{options} | max-per-session 1")),
            sizes(&format!("{options} | max-per-session 3")),
            with("dot=late:5"),
            with("rset=550 5.5.1 what is that"),
            with("rset=drop"),
            with("rset=421 4.3.2 closing"),
        ]);
        // Two megabytes are not needed each time.
        let with = |fault: &str| {
            let mut row = with(fault);
            row.bodies[5] = 2 << 10;
            row
        };
        for n in 0..BODIES.len() {
            let refused = never("5.1.1");
            rows.push(with(&format!("rcpt[a{n}@*]=550 5.1.1 nobody")).but_for(n, &refused));
            // A pattern finds the message, wherever it stands in whichever session.
            let by_sender = |what: &str| format!("mail[*m{n}@*]={what}");
            rows.push(with(&by_sender("550 5.7.1 never")).but(n, &never("5.7.1")));
            rows.push(with(&by_sender("451 4.7.1 later")).but(n, &later("4.7.1")));
            // The dialogue is confused, and the message not at fault: it begins another session, where it is.
            rows.push(with(&by_sender("503 5.5.1 out of sequence")).but(n, &never("5.5.1")));
        }
        // It offers CHUNKING, and does not know BDAT: all goes with DATA.
        if options == CHUNKS {
            let unknown = ["500 5.5.2 what", "502 5.5.1 no such command", "503 5.5.1 not now"];
            rows.extend(unknown.map(|what| with(&format!("bdat={what}"))));
        }
    }
    rows
}

#[test]
fn messages_of_every_size_arrive_once_with_their_own_envelopes() {
    let rows = chunks();
    Table::set(&rows, &["--retry-schedule", "1h"]).check(&rows);
}

/// What befalls the third of several messages, at each stage of it.
fn the_third() -> Vec<Row> {
    let mut rows = Vec::new();
    for options in [CHUNKS, "offer SIZE,ENHANCEDSTATUSCODES,CHUNKING"] {
        let third = |stage: &str, what: &str, fate: Fate| {
            // Two recipients each.
            let times = if stage == "rcpt" { 5 } else { 3 };
            let mut row = sizes(&format!("{options} | fault {stage}#{times}={what}"));
            row.bodies[5] = 2 << 10;
            match (stage, &fate) {
                (_, Fate::Transmitted) => row,
                ("rcpt", Fate::Failed(_)) => row.but_for(2, &fate),
                _ => row.but(2, &fate),
            }
        };
        // It has not been looked at.
        for what in ["drop", "421 4.3.2 closing"] {
            rows.push(third("mail", what, HERE));
        }
        // Where others stand behind it on the wire they may go twice: what is no reply says nothing of them.
        if options != CHUNKS {
            rows.push(third("mail", "garbage", HERE));
            rows.push(third("dot", "garbage", later("4.5.0")));
        }
        rows.extend([
            third("mail", "503 5.5.1 out of sequence", HERE),
            third("rcpt", "drop", later("4.4.2")),
            third("rcpt", "421 4.3.2 closing", later("4.3.2")),
            third("rcpt", "554 5.7.1 no", never("5.7.1")),
            third("content", "drop", later("4.4.2")),
            third("content", "451 4.3.0 no room", later("4.3.0")),
            third("content", "554 5.6.0 ugly", never("5.6.0")),
            third("content", "421 4.3.2 closing", later("4.3.2")),
        ]);
        for stage in ["dot", "bdat"] {
            rows.extend([
                third(stage, "drop", later("4.4.2")),
                third(stage, "451 4.3.0 no room", later("4.3.0")),
                third(stage, "554 5.6.0 ugly", never("5.6.0")),
                third(stage, "354 go on", later("4.5.0")),
                third(stage, "421 4.3.2 closing", later("4.3.2")),
                third(stage, "close-after", HERE),
            ]);
        }
    }
    rows
}

#[test]
fn what_befalls_one_of_many_messages_leaves_the_others_alone() {
    let rows = the_third();
    Table::set(&rows, &["--retry-schedule", "1h"]).check(&rows);
}

const LINES: &str = "offer PIPELINING,SIZE,ENHANCEDSTATUSCODES";

/// A host that does not take a message, and one that does.
fn next_host() -> Vec<Row> {
    let mut rows = Vec::new();
    for (options, commands) in [
        (LINES, &["greeting", "ehlo", "mail", "rcpt", "data"][..]),
        (CHUNKS, &["greeting", "ehlo", "mail", "rcpt"][..]),
    ] {
        let then = |fault: &str, fate: Fate| {
            let mut row = row(format!("{options} | fault {fault}"), fate).then(GOOD);
            (row.messages, row.copies) = (3, 3 * row.copies);
            row
        };
        for stage in commands {
            for what in ["drop", "reset", "421 4.3.2 closing", "garbage"] {
                rows.push(then(&format!("{stage}={what}"), HERE));
            }
        }
        rows.extend([
            then("mail=451 4.3.0 later", HERE),
            then("rcpt=450 4.2.1 busy", HERE),
            then("dot=451 4.3.0 later", HERE),
            then("dot=421 4.3.2 closing", HERE),
            // It may have it, and has not said so.
            then("dot=drop", HERE),
            then("dot=garbage", HERE),
            // What it refuses it refuses for all.
            then("mail=550 5.7.1 no", never("5.7.1")),
            then("rcpt=550 5.1.1 no", never("5.1.1")),
            then("dot=550 5.6.0 no", never("5.6.0")),
        ]);
    }
    rows.extend([
        row("fault rcpt[b@*]=450 4.2.1 busy", HERE)
            .then(GOOD)
            .to(&[("a", HERE), ("b", HERE), ("c", HERE)])
            .copies(2),
        // Two are asked.
        row("fault rcpt=450 4.2.1 busy", later("4.2.2"))
            .then("fault rcpt=450 4.2.2 full")
            .then(GOOD),
        row("fault rcpt=450 4.2.1 busy", never("5.1.1"))
            .then("fault rcpt=550 5.1.1 no")
            .then(GOOD),
        // Hosts without a connection do not count.
        row(CLOSED, HERE)
            .then("fault rcpt=450 4.2.1 busy")
            .then(CLOSED)
            .then(GOOD),
        row(CLOSED, never("5.3.4")).then("size 20"),
        row("fault greeting=554 5.3.2 no", HERE)
            .then("fault greeting=554 5.3.2 no")
            .then("fault greeting=421 4.3.2 no")
            .then(GOOD),
    ]);
    rows
}

#[test]
fn the_next_host_takes_what_one_does_not_take_and_nothing_that_it_refused() {
    let rows = next_host();
    let table = Table::set(&rows, &["--retry-schedule", "1h"]);
    table.check(&rows);
    // A host that has said what it takes is no silence, whatever became of the one before it.
    let spoken = rows.iter().position(|row| row.hosts[1] == "size 20").unwrap();
    let failures = format!("SELECT failures FROM next_hop WHERE name = 'r{spoken}.test'");
    assert_eq!(table.world.sql(&failures), "0");
}

#[test]
fn twenty_hosts_that_put_everything_off_are_not_called_without_end() {
    let faults = [
        "fault mail=451 4.3.0 later",
        "fault rcpt=drop",
        "fault mail=421 4.3.2 closing",
        "fault dot=451 4.3.0 later",
        "fault dot=drop",
        "fault greeting=421 4.3.2 busy",
        "fault mail#1-=drop",
    ];
    let rows: Vec<Row> = faults
        .iter()
        .map(|fault| {
            let mut row = row(*fault, later("4."));
            (1..20).for_each(|_| row.hosts.push((*fault).to_owned()));
            row.messages = 30;
            row
        })
        .collect();
    let table = Table::set(&rows, &["--retry-schedule", "1h"]);
    table.check(&rows);
    for (fault, hosts) in faults.iter().zip(&table.hosts) {
        let calls = |host: &crate::support::sink::Sink| host.look(|seen| seen.sessions.len());
        let calls: Vec<usize> = hosts.iter().flatten().map(calls).collect();
        // A few more for connections that are lost with a message.
        assert!(calls.iter().sum::<usize>() <= 20 + 3, "{fault}: {calls:?}");
    }
}

/// Parts in parts, with every octet that is allowed: lines of 8-bit text, or none at all.
fn nested(is_binary: bool) -> Vec<u8> {
    let octets: Vec<u8> = if is_binary {
        (0..=255).cycle().take(3000).collect()
    } else {
        let all = (0x80..=0xff)
            .chain(0x20..0x7f)
            .cycle()
            .take(70 * 200)
            .collect::<Vec<u8>>();
        all.chunks(70).flat_map(|line| [line, b"\r\n"].concat()).collect()
    };
    let encoding = if is_binary { "binary" } else { "8bit" };
    let part = |kind: &str, body: &[u8]| {
        let header = format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        [header.as_bytes(), body].concat()
    };
    let multi = |boundary: &str, parts: &[Vec<u8>]| {
        let mut body = b"a preamble\r\n".to_vec();
        for part in parts {
            body.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
            body.extend_from_slice(part);
        }
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        part(&format!("multipart/mixed; boundary={boundary}"), &body)
    };
    let text = part(
        "text/plain; charset=utf-8",
        "Grüße, =20 und .\r\n.\r\n\r\n..Ende ".as_bytes(),
    );
    let inner = multi(
        "b2",
        &[
            text.clone(),
            part("application/octet-stream", &octets),
            text.clone(),
        ],
    );
    let message = part(
        "message/rfc822",
        &[b"Subject: inner\r\nMIME-Version: 1.0\r\n", &*inner].concat(),
    );
    let outer = multi("b1", &[text, message, part("image/x-ours", &octets)]);
    [
        b"From: a@mta.test\r\nSubject: outer\r\nMIME-Version: 1.0\r\n",
        &*outer,
    ]
    .concat()
}

/// What the parts say that have no parts themselves.
fn leaves(content: &[u8]) -> Vec<Vec<u8>> {
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|window| window == what);
    let (mut leaves, mut rest) = (Vec::new(), content);
    while let Some(at) = find(rest, b"\r\n--b") {
        let section = &rest[at + 2..];
        let end = find(section, b"\r\n--b").unwrap_or(section.len());
        rest = &section[end..];
        let Some(blank) = find(&section[..end], b"\r\n\r\n") else {
            continue;
        };
        let header = String::from_utf8_lossy(&section[..blank]).to_ascii_lowercase();
        let body = &section[blank + 4..end];
        if header.contains("multipart/") || header.contains("message/") || !header.contains("content-type") {
            continue;
        }
        leaves.push(match () {
            () if header.contains("encoding: base64") => {
                let signs: Vec<u8> = body
                    .iter()
                    .copied()
                    .filter(|sign| !sign.is_ascii_whitespace())
                    .collect();
                data_encoding::BASE64.decode(&signs).unwrap()
            }
            () if header.contains("encoding: quoted-printable") => unquoted(body),
            () => body.to_vec(),
        });
    }
    leaves
}

fn unquoted(mut text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        text = rest;
        if *first != b'=' {
            octets.push(*first);
        } else if let Some(rest) = text.strip_prefix(b"\r\n") {
            text = rest;
        } else {
            let digits = std::str::from_utf8(&text[..2]).unwrap();
            octets.push(u8::from_str_radix(digits, 16).unwrap());
            text = &text[2..];
        }
    }
    octets
}

#[test]
fn what_a_host_does_not_take_as_it_is_means_the_same_in_another_form() {
    let mut rows = Vec::new();
    for offers in [
        "offer PIPELINING,SIZE",
        "offer SIZE",
        "no-ehlo",
        "offer PIPELINING,SIZE,CHUNKING",
        "offer PIPELINING,SIZE,BINARYMIME",
        "offer PIPELINING,SIZE,8BITMIME,CHUNKING",
        "offer PIPELINING,SIZE,8BITMIME",
        "offer PIPELINING,SIZE,8BITMIME,CHUNKING,BINARYMIME",
    ] {
        for (is_binary, mail) in [(false, " BODY=8BITMIME"), (true, " BODY=BINARYMIME")] {
            let fits = if is_binary {
                "CHUNKING,BINARYMIME"
            } else {
                "8BITMIME"
            };
            rows.push(Row {
                mail,
                content: nested(is_binary),
                converted: !offers.contains(fits),
                messages: 3,
                ..row(offers, HERE).copies(3)
            });
        }
    }
    let table = Table::set(&rows, &["--retry-schedule", "1h"]);
    table.check(&rows);
    for (row, hosts) in rows.iter().zip(&table.hosts) {
        assert_eq!(leaves(&row.content).len(), 5);
        hosts[0].as_ref().unwrap().look(|seen| {
            for message in &seen.messages {
                assert!(
                    leaves(&message.content) == leaves(&row.content),
                    "{:?}",
                    row.hosts
                );
                let lines = || message.content.split(|octet| *octet == b'\n');
                if row.converted {
                    assert!(lines().all(|line| line.len() < 999), "{:?}", row.hosts);
                    let offers_8bit = row.hosts[0].contains("8BITMIME");
                    assert!(offers_8bit || message.content.is_ascii(), "{:?}", row.hosts);
                }
            }
        });
    }
}
