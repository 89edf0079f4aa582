//! How next hops behave, and what becomes of mail: a table. Every row is a next hop of its own; all of them are served
//! by one MTA at once.
//!
//! A row is written as `smtpmta sink` would be started for it. Not here: who stalls (our deadlines are those of RFC
//! 5321 4.5.3.2, minutes; `tests/dialogues/outbound` has them without a clock).

use crate::support::client::Client;
use crate::support::next_hops::Fate;
use crate::support::next_hops::{CLOSED, GOOD, HERE, Row, Table, later, never, row, sender};

/// A host that takes no chunks, and so hears DATA.
const LINES: &str = "offer PIPELINING,SIZE,8BITMIME,SMTPUTF8,ENHANCEDSTATUSCODES,DSN";

/// What befalls a host that hears DATA.
fn of_lines(fault: &str) -> String {
    format!("{LINES} | fault {fault}")
}

/// What is said at every stage in turn, and what becomes of the message then: by hosts of these options, with these
/// stages of content.
fn at_each_stage(options: &str, stages: &[&'static str]) -> Vec<Row> {
    let mut rows = Vec::new();
    let lost = || later("4.4.2");
    let confused = || later("4.5.0");
    let mut all = vec![
        // Another host may talk to us, or this one tomorrow.
        ("greeting", later("4.7.1"), later("4.3.2")),
        // After a 5xx HELO is tried.
        ("ehlo", later("4.7.1"), HERE),
        ("mail", later("4.7.1"), never("5.7.1")),
        ("rcpt", later("4.7.1"), never("5.7.1")),
    ];
    all.extend(
        stages
            .iter()
            .map(|stage| (*stage, later("4.7.1"), never("5.7.1"))),
    );
    for (stage, not_now, not_ever) in all {
        let at = |what: &str, fate: Fate| row(format!("{options} | fault {stage}={what}"), fate);
        rows.push(at("451 4.7.1 not now", not_now));
        rows.push(at("550 5.7.1 not ever", not_ever));
        rows.push(at("421 4.3.2 closing", later("4.3.2")));
        rows.push(at("drop", lost()));
        // A reset that early may already be seen by the call that connects.
        rows.push(at(
            "reset",
            if stage == "greeting" {
                later("4.4.")
            } else {
                lost()
            },
        ));
        rows.push(at("garbage", confused()));
        rows.push(at(r"550-two codes\n250 in one", confused()));
        // Nothing of it may be believed, whatever it grants.
        rows.push(at("199 what code is that", confused()));
        rows.push(at("slow:1", HERE));
        rows.push(at("late:20", HERE));
    }
    // What goes wrong after the last 250 is no business of the message.
    for what in ["drop", "reset", "garbage", "421 closing", "554 never", "stall"] {
        rows.push(row(format!("{options} | fault quit={what}"), HERE));
    }
    rows
}

fn special() -> Vec<Row> {
    vec![
        // Replies that come before they are due.
        row("fault ehlo=early", later("4.5.0")),
        row("fault mail=early", later("4.5.0")),
        row(of_lines("dot=early"), later("4.5.0")),
        row(of_lines("content=250 2.0.0 I have it"), later("4.5.0")),
        row(of_lines("content=drop"), later("4.4.2")),
        row(of_lines("content=reset"), later("4.4.2")),
        row("fault content=slow:1", HERE),
        // Where content goes with the commands nobody can tell a reply that comes too early; it counts once.
        row("fault dot=early", HERE),
        row("fault content=250 2.0.0 I have it", HERE),
        row("fault content=drop", later("4.4.2")),
        row("fault content=reset", later("4.4.2")),
        row("fault content=slow:1", HERE),
        row("fault bdat=354 go on", later("4.5.0")),
        // A good answer to the dot counts, whatever happens after it.
        row("fault dot=close-after", HERE),
        row("fault rcpt=close-after", later("4.4.2")),
        row("fault mail=close-after", later("4.4.2")),
        // Another host of the next hop is better than later.
        row(CLOSED, later("4.4.1")),
        row(CLOSED, HERE).then(GOOD),
        row("fault connect=drop", HERE).then(GOOD),
        row("fault greeting=554 5.3.2 go away", HERE).then(GOOD),
        row("fault greeting=421 4.3.2 busy", HERE).then(GOOD),
        row("fault greeting=garbage", HERE).then(GOOD),
        row("fault ehlo=refuse | fault helo=refuse", HERE).then(GOOD),
        row("fault ehlo=421 busy", HERE)
            .then("fault connect=drop")
            .then(GOOD),
        row("fault greeting=refuse", later("4.3.2")).then("fault greeting=refuse"),
        // What the first host says about the message is not asked of the second one.
        row("fault rcpt=550 5.1.1 nobody", never("5.1.1")).then(GOOD),
        row("fault dot=554 5.6.0 ugly", never("5.6.0")).then(GOOD),
        // Hosts that know little.
        row("no-ehlo", HERE),
        row("offer none", HERE),
        row("no-ehlo | fault helo=refuse", later("4.3.2")),
        row("no-ehlo | fault rcpt=550 nobody", never("5.0.0")),
        // SIZE: said beforehand, or found out.
        row("size 20", never("5.3.4")),
        // Without an enhanced code the class is all that is known.
        row("size 20 | offer PIPELINING", never("5.0.0")),
        row("fault mail=552 5.3.4 too big", never("5.3.4")),
        row("fault dot=552 5.3.4 too big", never("5.3.4")),
        // Not offered, and not needed.
        Row {
            rcpt: " NOTIFY=NEVER ORCPT=rfc822;x@y.example",
            mail: " RET=HDRS ENVID=e1",
            ..row("offer PIPELINING,SIZE,8BITMIME", HERE)
        },
        Row {
            rcpt: " NOTIFY=NEVER ORCPT=rfc822;x@y.example",
            mail: " RET=HDRS ENVID=e1",
            ..row(GOOD, HERE)
        },
        // Needed, and not offered.
        Row {
            mail: " SMTPUTF8",
            ..row("offer PIPELINING,8BITMIME", HERE).to(&[("jdoe", HERE), ("jörg", never("5.6.7"))])
        },
        Row {
            mail: " SMTPUTF8",
            ..row(GOOD, HERE).to(&[("jdoe", HERE), ("jörg", HERE)])
        },
        // Each recipient on its own.
        row("fault rcpt[b@*]=550 5.1.1 nobody", HERE).to(&[("a", HERE), ("b", never("5.1.1")), ("c", HERE)]),
        row("fault rcpt[b@*]=450 4.2.1 busy | fault rcpt[c@*]=553 no", HERE).to(&[
            ("a", HERE),
            ("b", later("4.2.1")),
            ("c", never("5.0.0")),
        ]),
        row("fault rcpt#2-=421 4.3.2 enough", later("4.3.2"))
            .to(&[("a", later("4.3.2")), ("b", later("4.3.2"))]),
        row("fault rcpt=refuse", never("5.1.1")).to(&[("a", never("5.1.1")), ("b", never("5.1.1"))]),
        row(
            of_lines("rcpt=refuse | fault data=354 go on all the same"),
            never("5.1.1"),
        )
        .to(&[("a", never("5.1.1")), ("b", never("5.1.1"))]),
        // Those for whom there was no room go with the next transaction.
        row("max-recipients 2", HERE)
            .to(&[("a", HERE), ("b", HERE), ("c", HERE), ("d", HERE), ("e", HERE)])
            .copies(3),
        row("fault rcpt#3-=552 too many recipients", HERE).to(&[
            ("a", HERE),
            ("b", HERE),
            ("c", later("4.5.3")),
        ]),
        // RFC 5321 5.1.1 and common sense: whoever is named twice gets it once.
        row(GOOD, HERE).to(&[("a", HERE), ("a", HERE)]),
        // The basic code decides, whatever the enhanced one says.
        row("fault rcpt=450 5.1.1 contradiction", later("4.0.0")),
        row("fault rcpt=550 4.2.2 contradiction", never("5.0.0")),
        row("fault dot=250 5.0.0 contradiction", HERE),
        row("fault rcpt=250 4.2.2 contradiction", HERE),
        row("fault mail=550 nonsense.5.x code", never("5.0.0")),
        // Codes of the wrong class.
        row("fault mail=354 go on", later("4.5.0")),
        row("fault rcpt=354 go on", later("4.5.0")),
        row(of_lines("data=250 2.0.0 OK"), later("4.5.0")),
        row(of_lines("dot=354 go on"), later("4.5.0")),
        // A message or two, and then no more.
        Row {
            messages: 3,
            ..row("max-per-session 1", HERE).copies(3)
        },
        Row {
            messages: 3,
            ..row("max-per-session 2", HERE).copies(3)
        },
        Row {
            messages: 3,
            ..row("fault dot=close-after", HERE).copies(3)
        },
        // Without pipelining it takes longer, and nothing else.
        Row {
            messages: 3,
            ..row("offer SIZE,8BITMIME", HERE).copies(3)
        },
        // Hostile words.
        row(
            r"fault rcpt=550 5.1.1 \x1b[2J\x07\x00no\x0bbody\x7f\x9b",
            never("5.1.1"),
        ),
        row(
            r"fault dot=554 5.6.0 \xff\xfe\xc3 ugly \xe2\x80\xae",
            never("5.6.0"),
        ),
        row(
            r"fault mail=451 4.3.0 a\x0db\x0dFrom: forged@a.example",
            later("4.3.0"),
        ),
        row(
            format!("fault rcpt=550 5.1.1 {}", "long ".repeat(10_000)),
            later("4.5.0"),
        ),
        row(
            format!("fault rcpt=550 5.1.1 {}", "x".repeat(2_000)),
            never("5.1.1"),
        ),
        row(
            format!("fault rcpt={}550 5.1.1 nobody", r"550-5.1.1 many\n".repeat(90)),
            never("5.1.1"),
        ),
        row(
            format!(
                "fault rcpt={}550 5.1.1 nobody",
                r"550-5.1.1 many\n".repeat(10_000)
            ),
            never("5.1.1"),
        ),
        row(
            format!("fault dot={}250 2.0.0 OK", r"250-2.0.0 many\n".repeat(10_000)),
            HERE,
        ),
        row(
            r"fault rcpt=550-5.1.1 From: forged@a.example\n550-5.1.1 \n550 5.1.1 --boundary--",
            never("5.1.1"),
        ),
    ]
}

/// Whether there is nothing in it that a terminal, a log or a mail program would take for anything but text.
fn is_clean(text: &str) -> bool {
    let is_hidden = |sign: char| sign.is_control() || ('\u{202a}'..='\u{202e}').contains(&sign);
    !text
        .chars()
        .any(|sign| is_hidden(sign) && sign != '\n' && sign != '\t')
}

#[test]
fn whatever_is_said_at_a_stage_each_recipient_gets_its_due() {
    let rows = at_each_stage(LINES, &["data", "dot"]);
    Table::set(&rows, &["--retry-schedule", "1h"]).check(&rows);
}

#[test]
fn so_it_does_where_content_goes_in_chunks() {
    let rows = at_each_stage(
        "offer PIPELINING,SIZE,8BITMIME,ENHANCEDSTATUSCODES,CHUNKING",
        &["bdat", "dot"],
    );
    Table::set(&rows, &["--retry-schedule", "1h"]).check(&rows);
}

#[test]
fn next_hops_of_every_kind_are_put_up_with() {
    let rows = special();
    let table = Table::set(&rows, &["--retry-schedule", "1h"]);
    table.check(&rows);

    // Whatever they say is clean and bounded, wherever it is shown.
    for (column, view) in [
        ("text", "history"),
        ("last_error", "outbound_work_queue"),
        ("last_error", "next_hops"),
        ("reason", "dead_mail"),
    ] {
        // A line feed inside a text is no better than another control character.
        let query = format!("SELECT replace({column}, char(10), char(7)) FROM {view}");
        for line in table.world.sql(&query).lines() {
            assert!(is_clean(line) && line.len() <= 600, "{view}: {line:?}");
        }
    }
    let told = "SELECT count(*) FROM history WHERE event = 'given up' AND text LIKE '%no?body??%'";
    assert_eq!(table.world.sql(told), "1");
    for what in ["hops", "queue", "hops --json", "queue --json"] {
        let shown = table.world.show(what);
        assert!(is_clean(&shown), "{what}: {shown:?}");
    }
    for (number, row) in rows.iter().enumerate() {
        for letter in table.world.letters(&sender(number, 0)) {
            let text = String::from_utf8(letter).unwrap_or_else(|_| panic!("{row:?}: not UTF-8"));
            assert!(is_clean(&text) && text.len() < 64 * 1024, "{row:?}: {text:?}");
            assert!(text.lines().all(|line| line.len() <= 998), "{row:?}: {text:?}");
            assert!(
                !text.lines().any(|line| line.starts_with("From: forged")),
                "{text}"
            );
        }
    }
}

/// How many recipients went back without an outcome, and how many of those that wait have not been tried just once.
const UNTOLD: &str = "SELECT (SELECT count(*) FROM history WHERE event = 'released'), \
     (SELECT count(*) FROM outbound_work_queue WHERE attempts <> 1)";

/// The first host takes `a`, puts `b` off, and has no room for `c` in this transaction; what it says to `c` in the next
/// one, if there is one, is not better.
#[test]
fn what_a_host_puts_off_in_several_transactions_the_next_one_is_asked_to_take_in_one() {
    let busy = "offer PIPELINING,8BITMIME | fault rcpt[b@*]=450 4.2.1 busy \
                | fault rcpt[c@*]#1=452 4.5.3 too many | fault rcpt[c@*]=451 4.2.2 full";
    let leaves = format!("{busy} | fault mail#2-=421 4.3.2 closing | fault connect#2-=drop");
    let to = |b, c| [("a", HERE), ("b", b), ("c", c)];
    let moves = row(busy, HERE).to(&to(HERE, HERE)).copies(2);
    let eight_bit = "Subject: x\r\n\r\n\u{e4}\u{f6}\u{fc}\r\n".as_bytes().to_vec();
    let rows = [
        row(busy, HERE)
            .then(CLOSED)
            .to(&to(later("4.2.1"), later("4.2.2"))),
        // Nobody has asked it to take `c` again when it leaves.
        row(&leaves, HERE)
            .then(CLOSED)
            .to(&to(later("4.2.1"), later("4.4.1"))),
        moves.then(GOOD),
        // And as a whole in the form that it takes.
        Row {
            content: eight_bit,
            converted: true,
            ..row(busy, HERE)
                .then("offer PIPELINING,SIZE")
                .to(&to(HERE, HERE))
                .copies(2)
        },
        // Two hosts are asked, not more.
        row(busy, HERE)
            .then("fault rcpt=452 4.2.2 full")
            .then(GOOD)
            .to(&to(later("4.2.2"), later("4.2.2"))),
    ];
    let table = Table::set(&rows, &["--retry-schedule", "1h"]);
    table.check(&rows);
    assert_eq!(table.world.sql(UNTOLD), "0|0");
    let second = table.hosts[3][1].as_ref().unwrap();
    assert!(second.look(|seen| seen.accepted().all(|message| message.content.is_ascii())));
}

#[test]
fn content_that_can_not_be_read_just_now_costs_one_attempt_however_many_hosts_there_are() {
    // It would have to be converted for them, and so it is read before it is their turn.
    let seven_bit = "offer PIPELINING,SIZE";
    let rows = [row(seven_bit, HERE).then(seven_bit)];
    let table = Table::set(&rows, &["--retry-schedule", "1h"]);
    table.check(&rows);
    let world = &table.world;
    world.tell("smtpmta stop outbound transport");
    let content = ["Subject: x\r\n\r\n", &"\u{e4}\u{f6}\u{fc}\r\n".repeat(20_000)].concat();
    Client::of(world).mail("bsmith@univac.com", &["jdoe@r0.test"], content.as_bytes());
    world.wait_for_sql("SELECT state FROM outbound_work_queue", "WQ_PENDING_XMIT");
    let name = world.sql("SELECT file FROM outbound_work_queue");
    let file = world.spool().join("content").join(name);
    let aside = world.spool().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    world.tell("smtpmta start outbound transport");
    world.wait_for_sql("SELECT attempts FROM outbound_work_queue", "1");
    assert_eq!(world.sql(UNTOLD), "0|0");
    assert_eq!(
        world.sql("SELECT count(*) FROM history WHERE event = 'deferred'"),
        "1"
    );
    // And the message is as good as before.
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    world.ask("queue retry --hop r0.test");
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
}

/// Every way to fail, once, at every stage: the second attempt brings the message, and nobody gets it twice.
#[test]
fn what_fails_once_arrives_once() {
    let mut rows = Vec::new();
    let lines = [
        "connect", "greeting", "ehlo", "mail", "rcpt", "data", "content", "dot",
    ]
    .map(|stage| (LINES, stage));
    let chunks = ["rcpt", "content", "bdat", "dot"].map(|stage| ("offer PIPELINING,SIZE,CHUNKING", stage));
    for (options, stage) in lines.into_iter().chain(chunks) {
        let mut whats = vec!["drop", "reset"];
        if stage != "connect" {
            whats.extend([
                "451 4.3.0 later",
                "421 4.3.2 closing",
                "garbage",
                r"451-two codes\n250 in one",
            ]);
        }
        // With the greeting there is none before it; before EHLO nothing can be granted, and after it all can.
        if ["ehlo", "mail", "rcpt", "data", "dot"].contains(&stage) {
            whats.push("early");
        }
        for what in whats {
            rows.push(row(format!("{options} | fault {stage}#1={what}"), HERE));
        }
    }
    let table = Table::set(&rows, &["--retry-schedule", "1s"]);
    table
        .world
        .wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    table.check(&rows);
    for (number, _) in rows.iter().enumerate() {
        assert!(table.world.letters(&sender(number, 0)).is_empty());
    }
}
