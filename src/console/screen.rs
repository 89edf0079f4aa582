//! Every line that the console shows. Pure: facts in, text out.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Stamp;
use crate::config::values::rate;
use crate::domain_list::pace::Pace;
use crate::service::confinement::Confinement;
use crate::tasks::Task;
use crate::tasks::table::HandlerRow;
use crate::work_queue::{
    AGES, AgeRow, ByHand, Copied, Done, HopRow, LAST_RUN, ListId, ListRow, Listing, Moved, Order, Preview,
    QueueRow,
};

/// An answer as text, and as JSON for programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Screen {
    /// Lines, each with its end.
    pub text: String,
    /// The same facts.
    pub json: Value,
}

/// What a task says: `SMTPMTA isesctl Listening …`.
#[must_use]
pub fn said_by(task: Task, what: &str) -> String {
    format!("SMTPMTA {task} {what}")
}

/// What isesctl does while it has room.
#[must_use]
pub fn listening_on(port: &str) -> String {
    format!("Listening on SMTP port {port}")
}

/// Where the status page is.
#[must_use]
pub fn looked_at_on(port: &str) -> String {
    format!("Listening on HTTP port {port}")
}

/// What isesctl does while all its handlers are busy.
#[must_use]
pub fn not_listening_on(port: &str) -> String {
    format!("Not listening on SMTP port {port}: all inbound session handlers are busy")
}

/// What isesctl says when a handler is available again.
#[must_use]
pub fn listening_again_on(port: &str) -> String {
    format!("Listening again on SMTP port {port}")
}

/// What a task does that could not be started.
#[must_use]
pub fn not_started(error: &str) -> String {
    format!("Not started, and tried again: {error}")
}

/// A task has been started.
#[must_use]
pub fn started(task: Task) -> String {
    said_by(task, "Started")
}

/// A task has been stopped.
#[must_use]
pub fn stopped(task: Task) -> String {
    said_by(task, "Stopped")
}

/// A note of the add-in task.
#[must_use]
pub fn addin_says(what: &str) -> String {
    said_by(Task::Addin, what)
}

/// A list is through; so many of its recipients have been sent their message.
#[must_use]
pub fn list_sent(handler: usize, list: ListId, next_hop: &str, sent: usize, recipients: usize) -> String {
    let task = Task::OutboundHandler(handler);
    said_by(
        task,
        &format!("List {list} for {next_hop}: {sent} of {recipients} recipients sent"),
    )
}

/// What was not shown, since it was too much to be read.
#[must_use]
pub fn not_shown(lines: u64) -> String {
    said_by(Task::OutboundController, &format!("{lines} lists more"))
}

/// What end of input means to the console.
#[must_use]
pub fn goes_on() -> String {
    addin_says("goes on; quit stops it")
}

/// `show version`: what runs, and what it can not do.
#[must_use]
pub fn version(confinement: &Confinement) -> Screen {
    let version = env!("CARGO_PKG_VERSION");
    Screen {
        text: format!("smtpmta {version}\nin force: {}\n", confinement.text()),
        json: json!({ "name": "smtpmta", "version": version, "in_force": confinement.facts() }),
    }
}

/// What the facts of `show version` say of that; `None` where they say nothing of it.
#[must_use]
pub fn in_force(facts: &Value) -> Option<Confinement> {
    Confinement::of_facts(facts.get("in_force")?)
}

/// `show tasks`: one line for each primary task, then one for each handler that has been started.
#[must_use]
pub fn tasks(primary: &[(Task, String)], handlers: &[HandlerRow]) -> Screen {
    let mut text = String::new();
    let mut json = Vec::new();
    for (task, doing) in primary {
        let _ = writeln!(text, "SMTPMTA {task} {doing}");
        json.push(json!({ "task": task.to_string(), "doing": doing }));
    }
    for row in handlers {
        let doing = handler_does(row);
        let since = row.since.as_secs();
        let _ = writeln!(text, "SMTPMTA {} {doing} (for {since}s)", row.task);
        json.push(json!({ "task": row.task.to_string(), "doing": doing, "seconds": since }));
    }
    Screen {
        text,
        json: Value::Array(json),
    }
}

/// What a handler is doing.
pub(crate) fn handler_does(row: &HandlerRow) -> &str {
    match (row.busy, row.doing.as_str()) {
        (false, _) => "Idle",
        (true, "") => "Busy",
        (true, doing) => doing,
    }
}

/// `show config`: every option, its value, and where that comes from. The text is a configuration file.
#[must_use]
pub fn config(text: &str, settings: &[(String, String, String)]) -> Screen {
    let row = |(name, value, origin): &(String, String, String)| json!({ "name": name, "value": value, "origin": origin });
    Screen {
        text: text.to_owned(),
        json: settings.iter().map(row).collect(),
    }
}

/// `show stat`. A moment is a number of seconds since 1970, which people are spared.
#[must_use]
pub fn statistics(counters: &[(String, i64)]) -> Screen {
    let mut text = String::new();
    for (name, value) in counters {
        let _ = match name.as_str() {
            LAST_RUN => writeln!(text, "{name} = {}", Stamp(value.saturating_mul(1_000_000))),
            _ => writeln!(text, "{} = {value}", clean(name)),
        };
    }
    let json = counters
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    Screen {
        text,
        json: Value::Object(json),
    }
}

/// `show queue`: what waits for each next hop, of which there are `hops`.
#[must_use]
pub fn queue(rows: &[QueueRow], hops: usize, now: Stamp) -> Screen {
    let mut table = Table::new([
        "Recipients",
        "Locked",
        "Oldest",
        "Next try",
        "State",
        "Next hop",
        "Last error",
    ]);
    let mut json = Vec::new();
    for row in rows {
        table.add([
            row.recipients.to_string(),
            row.locked.to_string(),
            age(now, row.oldest.arrived()),
            until(now, row.next_attempt),
            state(row, now).to_owned(),
            row.next_hop.clone(),
            row.last_error.clone().unwrap_or_default(),
        ]);
        json.push(json!({
            "next_hop": row.next_hop, "recipients": row.recipients, "locked": row.locked, "state": state(row, now),
            "oldest": row.oldest.to_string(), "oldest_seconds": now.since(row.oldest.arrived()).as_secs(),
            "next_attempt": row.next_attempt.map(Stamp::to_console), "last_error": row.last_error,
        }));
    }
    let mut text = table.text("The outbound work queue is empty.");
    match hops.saturating_sub(rows.len()) {
        0 => {}
        1 => text.push_str("and 1 next hop more\n"),
        more => {
            let _ = writeln!(text, "and {more} next hops more");
        }
    }
    Screen {
        text,
        json: Value::Array(json),
    }
}

/// How the mail for a next hop stands, in a word or two.
pub(crate) fn state(row: &QueueRow, now: Stamp) -> &'static str {
    match row.next_attempt {
        _ if row.locked > 0 => "sending",
        _ if row.failures > 0 => "backs off",
        Some(due) if due > now => "waits",
        _ => "due",
    }
}

/// `queue list`: what is in the work queues, recipient by recipient.
#[must_use]
pub fn listing(listing: &Listing, now: Stamp) -> Screen {
    mail(listing, "There is nothing in the work queues.", now)
}

/// `queue list` of what looks so.
#[must_use]
pub fn matching(listing: &Listing, now: Stamp) -> Screen {
    mail(listing, "Nothing in the work queues is like that.", now)
}

fn mail(listing: &Listing, nothing: &str, now: Stamp) -> Screen {
    let mut table = Table::new([
        "ID",
        "Age",
        "Size",
        "State",
        "Next try",
        "Sender",
        "Recipient",
        "Next hop",
        "Last error",
    ]);
    let mut json = Vec::new();
    for row in &listing.rows {
        let handler = row.handler.map(|n| format!("oseshlr{n}"));
        table.add([
            row.id.to_string(),
            age(now, row.id.arrived()),
            row.size.to_string(),
            row.state.to_string(),
            until(now, row.next_attempt),
            format!("<{}>", row.sender),
            format!("<{}>", row.recipient),
            way(row.next_hop.as_deref(), row.via.as_deref()).unwrap_or_else(|| "-".to_owned()),
            row.last_error.clone().unwrap_or_default(),
        ]);
        json.push(json!({
            "id": row.id.to_string(), "n": row.n, "arrived": row.id.arrived().to_console(),
            "age_seconds": now.since(row.id.arrived()).as_secs(), "size": row.size, "state": row.state.to_string(),
            "next_attempt": row.next_attempt.filter(|due| due.0 > 0).map(Stamp::to_console), "attempts": row.attempts,
            "sender": row.sender, "recipient": row.recipient, "next_hop": row.next_hop, "handler": handler,
            "last_error": row.last_error, "subject": row.subject, "via": row.via,
        }));
    }
    let mut text = table.text(nothing);
    if listing.more > 0 {
        let at_least = if listing.is_exact { "" } else { "at least " };
        let _ = writeln!(text, "and {at_least}{} more", listing.more);
    }
    Screen {
        text,
        json: json!({ "recipients": json, "more": listing.more, "more_is_exact": listing.is_exact }),
    }
}

/// A next hop, and whether that is where an operator leads mail by hand, `via`.
pub(super) fn way(next_hop: Option<&str>, via: Option<&str>) -> Option<String> {
    next_hop.map(|hop| match via == Some(hop) {
        true => format!("{hop} (by hand)"),
        false => hop.to_owned(),
    })
}

/// `queue age`: how many recipients of which age wait for each next hop, or are on their way there; at most `limit` next
/// hops, and all of them together.
#[must_use]
pub fn ages(rows: &[AgeRow], limit: usize) -> Screen {
    let mut heads = [const { String::new() }; AGES.len() + 3];
    heads[0] = "Recipients".to_owned();
    for (head, age) in heads[1..].iter_mut().zip(AGES) {
        *head = format!("<{age}m");
    }
    heads[AGES.len() + 1] = "older".to_owned();
    heads[AGES.len() + 2] = "Next hop".to_owned();
    let mut all = AgeRow {
        next_hop: "all".to_owned(),
        ..AgeRow::default()
    };
    for row in rows {
        for (sum, count) in all.counts.iter_mut().zip(row.counts) {
            *sum += count;
        }
    }
    let mut table = Table { rows: vec![heads] };
    for row in rows.iter().take(limit).chain((!rows.is_empty()).then_some(&all)) {
        let mut cells = [const { String::new() }; AGES.len() + 3];
        cells[0] = row.total().to_string();
        for (cell, count) in cells[1..].iter_mut().zip(row.counts) {
            *cell = count.to_string();
        }
        cells[AGES.len() + 2] = row.next_hop.clone();
        table.add(cells);
    }
    let mut text = table.text("Nothing waits for a next hop.");
    match rows.len().saturating_sub(limit) {
        0 => {}
        1 => text.push_str("1 next hop more is not shown\n"),
        more => {
            let _ = writeln!(text, "{more} next hops more are not shown");
        }
    }
    let facts = |row: &AgeRow| {
        let younger = AGES.iter().zip(row.counts);
        let younger: Vec<Value> = younger
            .map(|(age, count)| json!({ "younger_than_minutes": age, "recipients": count }))
            .collect();
        json!({ "next_hop": row.next_hop, "recipients": row.total(), "ages": younger, "older": row.counts[AGES.len()] })
    };
    Screen {
        text,
        json: rows.iter().take(limit).map(facts).collect(),
    }
}

/// `show lists`: the domain lists.
#[must_use]
pub fn lists(rows: &[ListRow], now: Stamp) -> Screen {
    let mut table = Table::new([
        "List",
        "Messages",
        "Recipients",
        "Unsettled",
        "Age",
        "Handler",
        "Next hop",
    ]);
    let mut json = Vec::new();
    for row in rows {
        let handler = row.handler.map(|n| format!("oseshlr{n}"));
        table.add([
            row.list.to_string(),
            row.messages.to_string(),
            row.recipients.to_string(),
            row.unsettled.to_string(),
            age(now, row.made),
            handler.clone().unwrap_or_else(|| "waiting".to_owned()),
            row.next_hop.clone(),
        ]);
        json.push(json!({
            "list": row.list, "next_hop": row.next_hop, "handler": handler, "messages": row.messages,
            "recipients": row.recipients, "unsettled": row.unsettled, "made": row.made.to_console(),
        }));
    }
    Screen {
        text: table.text("There are no domain lists."),
        json: Value::Array(json),
    }
}

/// `show hops`: the next hops.
#[must_use]
pub fn hops(rows: &[(HopRow, Pace)], now: Stamp) -> Screen {
    let mut table = Table::new([
        "Lists",
        "Next try",
        "Last used",
        "Failures",
        "Down for",
        "Sessions",
        "Rate",
        "Next hop",
        "Last error",
    ]);
    let mut json = Vec::new();
    for (row, pace) in rows {
        let (error, back_off) = (row.last_error.as_ref(), row.back_off);
        let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        table.add([
            row.lists.to_string(),
            until(now, row.due),
            age(now, row.used),
            or_dash(back_off.map(|back_off| back_off.failures.to_string())),
            or_dash(back_off.map(|back_off| age(now, back_off.since))),
            match pace.limit {
                Some(limit) => format!("{} of {limit}", pace.sessions),
                None => pace.sessions.to_string(),
            },
            or_dash(
                pace.rate
                    .map(|(rate, free)| format!("{}, {free} free", rate::words(&rate))),
            ),
            row.next_hop.clone(),
            error
                .map(|(text, at)| format!("{text} ({} ago)", age(now, *at)))
                .unwrap_or_default(),
        ]);
        json.push(json!({
            "next_hop": row.next_hop, "lists": row.lists, "next_attempt": row.due.map(Stamp::to_console),
            "last_used": row.used.to_console(), "last_error": error.map(|(text, _)| text),
            "last_error_at": error.map(|(_, at)| at.to_console()),
            "failures": back_off.map_or(0, |back_off| back_off.failures),
            "down_since": back_off.map(|back_off| back_off.since.to_console()),
            "next_probe": back_off.map(|back_off| back_off.next_probe.to_console()),
            "sessions": pace.sessions, "limit": pace.limit,
            "rate": pace.rate.map(|(rate, _)| rate::words(&rate)), "rate_free": pace.rate.map(|(_, free)| free),
        }));
    }
    Screen {
        text: table.text("No next hop has been used yet."),
        json: Value::Array(json),
    }
}

/// `queue retry`: how many messages are due now.
#[must_use]
pub fn retried(messages: usize) -> Screen {
    Screen {
        text: match messages {
            0 => "nothing that waits matched\n".to_owned(),
            1 => "1 message is due now\n".to_owned(),
            many => format!("{many} messages are due now\n"),
        },
        json: json!({ "messages": messages }),
    }
}

/// `queue hold` and its like: how many recipients of how many messages that was done to.
#[must_use]
pub fn done(order: &Order, done: Done) -> Screen {
    let (matching, word) = words_of(order);
    Screen {
        text: counts(order, done, matching, &word),
        json: done_in_numbers(order, done),
    }
}

/// `--dry-run`: how many it would be done to, and the first of them.
#[must_use]
pub fn preview(order: &Order, preview: &Preview, now: Stamp) -> Screen {
    let (matching, word) = words_of(order);
    let mut text = counts(order, preview.done, matching, &format!("would be {word}"));
    let sample = listing(
        &Listing {
            rows: preview.sample.clone(),
            more: preview.done.recipients.saturating_sub(preview.sample.len()),
            is_exact: true,
        },
        now,
    );
    if preview.done.recipients > 0 {
        text.push_str(&sample.text);
    }
    let mut json = done_in_numbers(order, preview.done);
    json["dry_run"] = json!(true);
    json["sample"] = sample.json["recipients"].clone();
    Screen { text, json }
}

/// How many they are, for programs.
fn done_in_numbers(order: &Order, done: Done) -> Value {
    let mut json =
        json!({ "messages": done.messages, "recipients": done.recipients, "in_hand": done.in_hand });
    if matches!(order, Order::ByHand(ByHand::Route(_))) {
        json["here"] = json!(done.here);
        json["barred"] = json!(done.barred);
    }
    json
}

/// How those stand to whom this can be done, and what is done to them.
fn words_of(order: &Order) -> (&'static str, String) {
    let (matching, word) = match order {
        Order::Retry => ("waits", "due now"),
        Order::ByHand(ByHand::Hold) => ("waits", "put aside"),
        Order::ByHand(ByHand::Bounce) => (
            "waits or is held",
            "given up: drt tells the sender, if there is one",
        ),
        Order::ByHand(ByHand::Release) => ("is held", "released"),
        Order::ByHand(ByHand::Delete) => ("is in the queue", "removed"),
        Order::ByHand(ByHand::Undelete) => ("was removed", "brought back, and held"),
        Order::ByHand(ByHand::PutAside(_)) => ("waits, is held or is dead", "exported"),
        Order::ByHand(ByHand::Route(Some(via))) => {
            return (
                "goes elsewhere, and not this way already,",
                format!("routed to {via}"),
            );
        }
        Order::ByHand(ByHand::Route(None)) => ("is routed by hand", "routed as the configuration says again"),
    };
    (matching, word.to_owned())
}

/// How many they are, and how many session handlers have in hand.
fn counts(order: &Order, done: Done, matching: &str, word: &str) -> String {
    let Done {
        messages,
        recipients,
        in_hand,
        here,
        barred,
    } = done;
    let counted = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let mut text = match recipients {
        0 => format!("nothing that {matching} matched\n"),
        _ => format!(
            "{} of {} {word}\n",
            counted(recipients, "recipient"),
            counted(messages, "message")
        ),
    };
    if in_hand > 0 {
        let what = match order {
            Order::ByHand(_) => "marked, and stopped before anything more is said of it",
            Order::Retry => "left as before",
        };
        let in_hand = counted(in_hand, "recipient");
        let _ = writeln!(text, "{in_hand} in the hands of session handlers: {what}");
    }
    if here > 0 {
        let here = counted(here, "recipient");
        let _ = writeln!(text, "{here} left as before: delivered here, and routed nowhere");
    }
    if barred > 0 {
        let barred = counted(barred, "recipient");
        let _ = writeln!(
            text,
            "{barred} left as before: --tls-outbound asks for more TLS for that domain than for this host"
        );
    }
    text
}

/// A step of `queue export` or `queue import`: read by the command alone.
#[must_use]
pub fn moved(moved: &Moved) -> Screen {
    let json = json!({
        "messages": moved.messages, "recipients": moved.recipients, "in_hand": moved.in_hand, "known": moved.known,
        "reached": moved.reached, "done": moved.is_done,
    });
    let text = format!("{json}\n");
    Screen { text, json }
}

/// `backup`: what was copied, and how long it took.
#[must_use]
pub fn backed_up(copied: &Copied, folder: &Path, took: Duration) -> String {
    let Copied {
        messages,
        in_queue,
        recipients,
        files,
        octets,
        missing,
    } = copied;
    let mut text = format!(
        "{}: {messages} messages, {in_queue} of them in the queue, {recipients} recipients, {files} content files, \
         {octets} octets, in {}.{:03} s\n",
        clean(&folder.display().to_string()),
        took.as_secs(),
        took.subsec_millis()
    );
    if *missing > 0 {
        let _ = writeln!(
            text,
            "{missing} content files of messages in the queue are missing in the original, too: smtpmta verify names them"
        );
    }
    text
}

/// What a row of the queue holds may be damaged, and a line must stay one.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// How long ago, in the largest unit that fits.
pub(crate) fn age(now: Stamp, then: Stamp) -> String {
    span(now.since(then).as_secs())
}

/// How long until then; a dash where there is nothing to wait for.
pub(crate) fn until(now: Stamp, then: Option<Stamp>) -> String {
    match then {
        None => "-".to_owned(),
        Some(then) if then <= now => "now".to_owned(),
        Some(then) => format!("in {}", span(then.since(now).as_secs())),
    }
}

pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Columns, as wide as what is in them; the last ones are left as they are.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(heads: [&str; N]) -> Table<N> {
        Table {
            rows: vec![heads.map(str::to_owned)],
        }
    }

    /// What is in the work queue others may have written: it says nothing to the terminal that shows it.
    pub(super) fn add(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| clean(&cell)));
    }

    pub(super) fn text(&self, when_empty: &str) -> String {
        if self.rows.len() == 1 {
            return format!("{when_empty}\n");
        }
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..N).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_list::next_hop::NextHop;
    use crate::work_queue::id::MessageId;
    use crate::work_queue::states::State;
    use crate::work_queue::{MailRow, Standing};
    use std::time::Duration;

    #[test]
    fn what_others_wrote_into_the_work_queue_says_nothing_to_the_terminal() {
        let mut table = Table::new(["Next hop"]);
        table.add(["a\u{1b}[2J\r\nb\u{9b}".to_owned()]);
        assert_eq!(table.text("none"), "Next hop\na[2Jb\n");
    }

    #[test]
    fn show_tasks_is_a_line_for_each_task_in_the_seeds_words() {
        let primary = [
            (Task::Addin, "Running".to_owned()),
            (Task::InboundController, listening_on("127.0.0.1:25")),
        ];
        let handler = HandlerRow {
            task: Task::InboundHandler(0),
            busy: false,
            doing: String::new(),
            since: Duration::from_secs(7),
        };
        assert_eq!(
            tasks(&primary, &[handler]).text,
            "SMTPMTA smtpmta Running\n\
             SMTPMTA isesctl Listening on SMTP port 127.0.0.1:25\n\
             SMTPMTA iseshlr0 Idle (for 7s)\n"
        );
    }

    fn mail_row() -> MailRow {
        let second = 1_000_000;
        MailRow {
            id: MessageId(10 * second),
            n: 0,
            size: 812,
            sender: String::new(),
            recipient: "b@example.org\nx".to_owned(),
            state: Standing::Known(State::PendingXmit),
            next_hop: Some("example.org".to_owned()),
            via: None,
            handler: None,
            next_attempt: Some(Stamp(400 * second)),
            attempts: 1,
            last_error: Some("no answer".to_owned()),
            subject: None,
        }
    }

    #[test]
    fn queue_list_is_a_line_for_each_recipient_and_says_how_many_more_there_are() {
        let second = 1_000_000;
        let mut begin = Listing {
            rows: vec![mail_row()],
            more: 7,
            is_exact: true,
        };
        assert_eq!(
            listing(&begin, Stamp(100 * second)).text,
            "ID                Age  Size  State            Next try  Sender  Recipient         Next hop     Last error\n\
             0000000000989680  90s  812   WQ_PENDING_XMIT  in 5m     <>      <b@example.orgx>  example.org  no answer\n\
             and 7 more\n"
        );
        begin.rows[0].via = Some("relay2.example:25".to_owned());
        assert!(
            !listing(&begin, Stamp(0)).text.contains("by hand"),
            "it does not go there"
        );
        begin.rows[0].next_hop = begin.rows[0].via.clone();
        let led = listing(&begin, Stamp(0));
        assert!(
            led.text.contains("  relay2.example:25 (by hand)  no answer\n"),
            "{}",
            led.text
        );
        assert_eq!(led.json["recipients"][0]["via"], "relay2.example:25");
        begin.is_exact = false;
        begin.rows[0].state = Standing::Unknown(77);
        let damaged = listing(&begin, Stamp(0));
        assert!(damaged.text.contains("  77  "), "{}", damaged.text);
        assert_eq!(damaged.json["recipients"][0]["state"], "77");
        assert!(
            listing(&begin, Stamp(0))
                .text
                .ends_with("\nand at least 7 more\n")
        );
        assert_eq!(
            listing(&Listing::default(), Stamp(0)).text,
            "There is nothing in the work queues.\n"
        );
        assert_eq!(
            matching(&Listing::default(), Stamp(0)).text,
            "Nothing in the work queues is like that.\n"
        );
    }

    #[test]
    fn show_stat_tells_a_moment_as_people_read_it_and_programs_its_seconds() {
        let counters = [("Housekeeping.LastRun", 1_764_460_800), ("Mail.Dead", 3)];
        let shown = statistics(&counters.map(|(name, value)| (name.to_owned(), value)));
        let moment = Stamp(1_764_460_800_000_000).to_console();
        assert_eq!(
            shown.text,
            format!("Housekeeping.LastRun = {moment}\nMail.Dead = 3\n")
        );
        assert_eq!(shown.json["Housekeeping.LastRun"], 1_764_460_800);
    }

    #[test]
    fn a_backup_is_a_line_and_what_the_original_lacks_is_another() {
        let mut copied = Copied {
            messages: 5133,
            in_queue: 13,
            recipients: 5302,
            files: 2,
            octets: 48_234_496,
            missing: 0,
        };
        let said = |copied: &Copied| backed_up(copied, Path::new("/b\u{1b}[2J"), Duration::from_millis(1041));
        let line = "/b[2J: 5133 messages, 13 of them in the queue, 5302 recipients, 2 content files, 48234496 octets, \
                    in 1.041 s\n";
        assert_eq!(said(&copied), line);
        copied.missing = 1;
        assert!(said(&copied).starts_with(&format!("{line}1 content files of messages in the queue")));
    }

    #[test]
    fn what_was_done_by_hand_is_counted_and_so_is_what_was_left_alone() {
        let some = |recipients, in_hand| Done {
            messages: 1,
            recipients,
            in_hand,
            ..Done::default()
        };
        let delete = Order::ByHand(ByHand::Delete);
        assert_eq!(
            done(&delete, some(2, 1)).text,
            "2 recipients of 1 message removed\n1 recipient in the hands of session handlers: marked, and stopped before \
             anything more is said of it\n"
        );
        let nothing = done(&Order::ByHand(ByHand::Release), Done::default());
        assert_eq!(nothing.text, "nothing that is held matched\n");
        assert_eq!(nothing.json["recipients"], 0);
        let route = Order::ByHand(ByHand::Route(Some(NextHop::from_name("relay2.example:25"))));
        let some = Done {
            here: 1,
            barred: 3,
            ..some(2, 0)
        };
        assert_eq!(
            done(&route, some).text,
            "2 recipients of 1 message routed to relay2.example:25\n\
             1 recipient left as before: delivered here, and routed nowhere\n\
             3 recipients left as before: --tls-outbound asks for more TLS for that domain than for this host\n"
        );
        assert_eq!(done(&route, some).json["barred"], 3);
    }

    #[test]
    fn a_dry_run_tells_how_many_and_shows_the_first_of_them() {
        let would = Preview {
            done: Done {
                messages: 2,
                recipients: 3,
                ..Done::default()
            },
            sample: vec![mail_row()],
        };
        let screen = preview(&Order::ByHand(ByHand::Hold), &would, Stamp(100_000_000));
        let mut lines = screen.text.lines();
        assert_eq!(
            lines.next(),
            Some("3 recipients of 2 messages would be put aside")
        );
        assert!(
            screen.text.contains("0000000000989680  90s  812"),
            "{}",
            screen.text
        );
        assert!(screen.text.ends_with("and 2 more\n"), "{}", screen.text);
        assert_eq!(screen.json["sample"][0]["id"], "0000000000989680");
        let nothing = preview(&Order::Retry, &Preview::default(), Stamp(0));
        assert_eq!(nothing.text, "nothing that waits matched\n");
    }

    #[test]
    fn queue_age_counts_by_next_hop_and_in_all() {
        let row = |next_hop: &str, young, old| {
            let mut row = AgeRow {
                next_hop: next_hop.to_owned(),
                ..AgeRow::default()
            };
            (row.counts[0], row.counts[AGES.len()]) = (young, old);
            row
        };
        let screen = ages(&[row("b.example", 40, 2), row("a.example", 1, 0)], 1);
        assert_eq!(
            screen.text,
            "Recipients  <5m  <10m  <20m  <40m  <80m  <160m  <320m  <640m  <1280m  older  Next hop\n\
             42          40   0     0     0     0     0      0      0      0       2      b.example\n\
             43          41   0     0     0     0     0      0      0      0       2      all\n\
             1 next hop more is not shown\n"
        );
        assert_eq!(screen.json[0]["ages"][0]["recipients"], 40);
        assert_eq!(screen.json[1], Value::Null);
        assert_eq!(ages(&[], 1).text, "Nothing waits for a next hop.\n");
    }

    #[test]
    fn show_queue_lines_its_columns_up() {
        let second = 1_000_000;
        let row = QueueRow {
            next_hop: "example.org".to_owned(),
            recipients: 12,
            locked: 2,
            oldest: MessageId(10 * second),
            next_attempt: Some(Stamp(400 * second)),
            last_error: None,
            failures: 0,
        };
        assert_eq!(
            queue(&[row], 3, Stamp(100 * second)).text,
            "Recipients  Locked  Oldest  Next try  State    Next hop     Last error\n\
             12          2       90s     in 5m     sending  example.org\n\
             and 2 next hops more\n"
        );
        assert_eq!(
            queue(&[], 0, Stamp(0)).text,
            "The outbound work queue is empty.\n"
        );
    }
}
