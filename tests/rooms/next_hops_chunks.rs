//! Content in chunks, content that has to be converted, and the next host: each message arrives once, whatever happens
//! to those before and behind it. A table as in `next_hops`.

use crate::support::next_hops::{HERE, Row, Table, later, never, row};

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
    fn but(mut self, message: usize, fate: &crate::support::next_hops::Fate) -> Row {
        self.unlike
            .extend(["a%", "all"].map(|local| (message, local, fate.clone())));
        self.copies -= usize::from(*fate != HERE);
        self
    }

    /// But this one of its recipients does.
    fn but_for(mut self, message: usize, fate: &crate::support::next_hops::Fate) -> Row {
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
            with("content=slow:1").copies(BODIES.len()),
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
            // The dialogue is confused, and the message not at fault: it begins another session, where it is. If all
            // of it is on its way, and others behind it, they go on, and it waits.
            let goes_on = options == CHUNKS && ![0, 4].contains(&n);
            let fate = if goes_on { later("4.5.1") } else { never("5.5.1") };
            rows.push(with(&by_sender("503 5.5.1 out of sequence")).but(n, &fate));
        }
    }
    rows
}

#[test]
fn messages_of_every_size_arrive_once_with_their_own_envelopes() {
    let rows = chunks();
    Table::set(&rows, &["--retry-schedule", "1h"]).check(&rows);
}
