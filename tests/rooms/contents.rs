//! What is only relayed is never changed: every octet arrives as it was sent, below our Received line.

use crate::support::client::{Client, big_letter, letter};
use crate::support::sink::{Sink, State};
use crate::support::world::{PATIENCE, World};

fn world_with(sink: &Sink) -> World {
    World::load(&["--relay-host", &sink.address().to_string()])
}

/// What the sink got of the only message, without our own line: the first, and those it is folded into.
#[track_caller]
fn relayed(seen: &State) -> Vec<u8> {
    let content = &seen.messages[0].content;
    assert!(content.starts_with(b"Received: from univac.com ([127.0.0.1])\r\n\tby mta.test "));
    let mut start = 0;
    loop {
        start += content[start..]
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .unwrap()
            + 2;
        if content.get(start) != Some(&b'\t') {
            return content[start..].to_vec();
        }
    }
}

/// Sends `content` through the MTA, and compares what arrives.
#[track_caller]
fn goes_through_unharmed(what: &str, content: &[u8]) {
    let sink = Sink::start();
    let world = world_with(&sink);
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], content);
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    let arrived = sink.look(relayed);
    let differs = arrived.iter().zip(content).position(|(got, sent)| got != sent);
    assert!(
        differs.is_none() && arrived.len() == content.len(),
        "{what}: {} octets of {}, first difference at {differs:?}",
        arrived.len(),
        content.len()
    );
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
}

#[test]
fn messages_of_every_form_go_through_unharmed() {
    // RFC 2045 2.8: 8-bit text holds no NUL, and no CR or LF of its own.
    let every_octet: Vec<u8> = (1..=255).filter(|octet| !b"\r\n".contains(octet)).collect();
    for (what, content) in [
        ("nothing at all", &b""[..]),
        ("an empty line", b"\r\n"),
        ("no header", b"\r\nHello World\r\n"),
        ("a line that is no header", b"Hello World\r\n"),
        ("no body", b"Subject: no body\r\n"),
        (
            "dots",
            b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.x\r\n. \r\n.\r\n",
        ),
        (
            "white lines",
            b"Subject: white \t\r\n \r\n\t\r\n\r\n \r\n\r\n\r\n",
        ),
        (
            "a header that is folded oddly",
            b"Subject:\r\n\t\r\n folded\r\nX\r\n: y\r\n\r\nz\r\n",
        ),
        (
            "8-bit header",
            "Subject: Gr\u{fc}\u{df}e\r\nFrom: \u{1f600}@univac.com\r\n\r\n\u{e4}\r\n".as_bytes(),
        ),
        ("broken MIME", BROKEN_MIME),
    ] {
        goes_through_unharmed(what, content);
    }
    goes_through_unharmed("every octet", &[b"\r\n", &every_octet[..], b"\r\n"].concat());
    let binary: Vec<u8> = every_octet.iter().rev().copied().cycle().take(100_000).collect();
    goes_through_unharmed(
        "a long binary line",
        &[b"Subject: long\r\n\r\n", &binary[..], b"\r\n"].concat(),
    );
    goes_through_unharmed(
        "a long header line",
        &[&b"X: ".repeat(50_000)[..], b"\r\n\r\nx\r\n"].concat(),
    );
}

const BROKEN_MIME: &[u8] = b"MIME-Version: 1.0\r\nMIME-Version: 2.0\r\n\
    Content-Type: multipart/mixed; boundary=\"never ends\r\nContent-Type: multipart/mixed; boundary=b\r\n\
    Content-Transfer-Encoding: base64\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n--b--\r\n--b\r\n\
    Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n=ZZ=\r\n--c--\r\n";

#[test]
fn a_message_of_ten_thousand_parts_goes_through_unharmed() {
    let part = b"--b\r\nContent-Type: text/plain; name=x.txt\r\nContent-Disposition: attachment\r\n\r\nx\r\n";
    let head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
    goes_through_unharmed("parts", &[head, &part.repeat(10_000)[..], b"--b--\r\n"].concat());
    let nested = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(10_000);
    goes_through_unharmed("nested parts", &nested);
}

#[test]
fn a_message_that_is_kept_in_a_file_goes_through_unharmed_and_the_file_goes_with_it() {
    let sink = Sink::start();
    let world = world_with(&sink);
    world.tell("smtpmta stop outbound transport");
    let content = big_letter("five megabytes", 5 << 20);
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], &content);
    world.wait_for_sql(
        "SELECT file IS NOT NULL, size > 5000000 FROM outbound_work_queue",
        "1|1",
    );
    let file = world
        .spool()
        .join("content")
        .join(world.sql("SELECT file FROM outbound_work_queue"));
    assert!(file.is_file(), "{}", file.display());
    world.tell("smtpmta start outbound transport");
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    assert!(sink.look(relayed) == content);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    crate::support::world::eventually(
        "the file to go",
        || if file.exists() { Err(&file) } else { Ok(()) },
    );
}

#[test]
fn a_host_that_takes_8_bit_is_told_of_it_and_gets_the_same_octets() {
    let eight_bit = "Subject: Hello\r\n\r\n\u{e4}\u{f6}\u{fc}\r\n".as_bytes();
    let sink = Sink::start();
    sink.offer(&["PIPELINING", "8BITMIME"]);
    let world = world_with(&sink);
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], eight_bit);
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    sink.look(|seen| {
        assert_eq!(seen.messages[0].parameters, "BODY=8BITMIME");
        assert_eq!(relayed(seen), eight_bit);
    });
}

#[test]
fn a_message_too_big_for_the_next_hop_is_bounced_before_it_is_sent() {
    let sink = Sink::start();
    sink.offer(&["SIZE 10000"]);
    let world = world_with(&sink);
    let mut client = Client::of(&world);
    client.mail(
        "bsmith@mta.test",
        &["jdoe@ibm.com"],
        &big_letter("too big", 20_000),
    );
    let report = world.wait_for_letters("bsmith@mta.test", 1).remove(0);
    assert!(String::from_utf8_lossy(&report).contains("Status: 5.3.4"));
    assert_eq!(sink.look(|seen| seen.messages.len()), 0);
    client.mail("bsmith@mta.test", &["jdoe@ibm.com"], &letter("small enough"));
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
}

#[test]
fn content_that_was_cut_is_held_and_never_sent_as_if_it_were_whole() {
    let sink = Sink::start();
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    world.tell("smtpmta stop outbound transport");
    world.tell("smtpmta stop inbound conversion");
    let large = [&letter("large")[..], &b"0123456789abcdef\r\n".repeat(10_000)].concat();
    let cut = || {
        let files = std::fs::read_dir(world.spool().join("content")).unwrap();
        for file in files.map(|file| file.unwrap().path()) {
            std::fs::OpenOptions::new()
                .write(true)
                .open(file)
                .unwrap()
                .set_len(1000)
                .unwrap();
        }
    };
    // One for here, cut before it is converted; one for elsewhere, cut before it is sent.
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &large);
    cut();
    world.tell("smtpmta start inbound conversion");
    world.wait_for_sql("SELECT state FROM inbound_work_queue", "WQ_HELD");
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], &large);
    world.wait_for_sql("SELECT state FROM outbound_work_queue", "WQ_PENDING_XMIT");
    cut();
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter("whole"));
    world.tell("smtpmta start outbound transport");
    world.wait_for_sql("SELECT state FROM outbound_work_queue", "WQ_HELD");
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    assert!(world.letters("jdoe@mta.test").is_empty());
    let reasons = "SELECT count(*) FROM history WHERE event = 'held' AND text LIKE '%1000 octets%'";
    assert_eq!(world.sql(reasons), "2");
}
