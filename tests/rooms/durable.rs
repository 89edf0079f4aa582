//! Promise 1: no 250 comes before what it promises is on the disk. strace watches the order of writes, syncs and
//! replies of the live MTA.
//!
//! A message is on the disk when the frames of the write-ahead log that hold it, up to the one that commits them, have
//! been written, and a sync of the log that began after that has returned. Each message has words of its own in its
//! reverse path and in its lines, by which its frames are found.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use smtpmta::work_queue::THRESHOLD;

use crate::support::client::{Client, stuffed};
use crate::support::trace::{self, Call, contains};
use crate::support::world::{World, eventually, files};

/// How many clients send at once.
const SESSIONS: usize = 10;

/// A message that was acknowledged.
struct Sent {
    id: String,
    /// What is in its reverse path, and in every one of its lines, and nowhere else.
    mark: String,
    /// How many lines it has.
    lines: usize,
}

impl Sent {
    /// Octets of its content, but for what we put on top.
    fn size(&self) -> usize {
        line(&self.mark).len() * self.lines
    }
}

fn line(mark: &str) -> String {
    format!("body-{mark} {}\r\n", "x".repeat(60))
}

/// So many lines are twice as much as a message in the database may have.
fn lines_of_a_file() -> usize {
    2 * THRESHOLD / line("").len()
}

fn content(mark: &str, lines: usize) -> Vec<u8> {
    line(mark).repeat(lines).into_bytes()
}

fn from(mark: &str) -> String {
    format!("from-{mark}@univac.com")
}

const TO: &str = "jdoe@mta.test";

fn by_data(client: &mut Client, mark: &str, lines: usize) -> Sent {
    let id = client.mail(&from(mark), &[TO], &content(mark, lines));
    let mark = mark.to_owned();
    Sent { id, mark, lines }
}

/// Whole messages in one write, and only then the replies.
fn pipelined(client: &mut Client, marks: &[&str], lines: usize) -> Vec<Sent> {
    let mut octets = Vec::new();
    for mark in marks {
        let content = content(mark, lines);
        let begin = format!("MAIL FROM:<{}>\r\nRCPT TO:<{TO}>\r\n", from(mark));
        octets.extend_from_slice(begin.as_bytes());
        let (first, last) = content.split_at(content.len() / 3);
        for (chunk, word) in [(first, ""), (last, " LAST")] {
            octets.extend_from_slice(format!("BDAT {}{word}\r\n", chunk.len()).as_bytes());
            octets.extend_from_slice(chunk);
        }
    }
    client.send(&octets).unwrap();
    let sent = marks.iter().map(|mark| {
        for _ in 0..3 {
            assert!(client.reply().starts_with("250 2."));
        }
        Sent {
            id: acknowledged(&client.reply()),
            mark: (*mark).to_owned(),
            lines,
        }
    });
    sent.collect()
}

/// The end of one message and the whole next one in one write.
fn one_behind_the_other(client: &mut Client, marks: [&str; 2]) -> Vec<Sent> {
    let begin = |mark| format!("MAIL FROM:<{}>\r\nRCPT TO:<{TO}>\r\nDATA\r\n", from(mark)).into_bytes();
    let body = |mark| stuffed(&content(mark, 5));
    let [first, second] = marks;
    let mut sent = Vec::new();
    client.send(&begin(first)).unwrap();
    (0..3).for_each(|_| _ = client.reply());
    client.send(&[body(first), begin(second)].concat()).unwrap();
    sent.push(acknowledged(&client.reply()));
    (0..3).for_each(|_| _ = client.reply());
    client
        .send(&[body(second), b"QUIT\r\n".to_vec()].concat())
        .unwrap();
    sent.push(acknowledged(&client.reply()));
    let sent = sent.into_iter().zip(marks).map(|(id, mark)| Sent {
        id,
        mark: mark.to_owned(),
        lines: 5,
    });
    sent.collect()
}

#[track_caller]
fn acknowledged(reply: &str) -> String {
    let id = reply.strip_prefix("250 2.6.0 Message received OK. ");
    id.unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// Every way in.
fn send_all(world: &World) -> Vec<Sent> {
    let mut client = Client::of(world);
    let mut sent = vec![
        by_data(&mut client, "small", 1),
        by_data(&mut client, "page", 50),
        by_data(&mut client, "pages", lines_of_a_file() / 4),
        by_data(&mut client, "file", lines_of_a_file()),
    ];
    sent.extend(pipelined(&mut client, &["one", "two", "three"], 3));
    sent.extend(pipelined(&mut client, &["chunks"], lines_of_a_file()));
    sent.extend(one_behind_the_other(&mut client, ["end", "begin"]));
    let together = Barrier::new(SESSIONS);
    thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let together = &together;
                scope.spawn(move || {
                    let mut client = Client::of(world);
                    together.wait();
                    let send = |n| by_data(&mut client, &format!("session{session}message{n}-"), 20);
                    (0..3).map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        sent.extend(sessions.into_iter().flat_map(|session| session.join().unwrap()));
    });
    sent
}

/// One transaction in the write-ahead log.
#[derive(Default)]
struct Commit {
    /// When its first frame began to be written.
    began: usize,
    pages: Vec<u8>,
    /// When a sync of the log had returned that began after its last frame was written.
    synced: Option<usize>,
}

impl Commit {
    fn holds(&self, needle: &str) -> bool {
        contains(&self.pages, needle)
    }
}

/// What the record tells of the queue in the folder `spool`.
struct Record<'a> {
    spool: &'a Path,
    calls: Vec<Call>,
    /// Octets of a page of the database.
    page: usize,
    commits: Vec<Commit>,
}

impl Record<'_> {
    fn read<'a>(file: &Path, spool: &'a Path) -> Record<'a> {
        let calls = trace::read(file);
        let log = spool.join("queue.db-wal").display().to_string();
        let (mut commits, mut page) = (Vec::new(), 0);
        let mut open: Option<(Commit, bool)> = None;
        for call in calls.iter().filter(|call| call.on == log && call.writes()) {
            let octets = call.octets();
            match octets.len() {
                // The header of the log.
                32 => {
                    page = octets[8..12]
                        .iter()
                        .fold(0, |number, octet| number << 8 | usize::from(*octet))
                }
                // The header of a frame. Its second number is 0 but in the last frame of a transaction.
                24 => {
                    let is_last = octets[4..8] != [0; 4];
                    let begun = open.take().map(|(commit, _)| commit);
                    let began = call.began;
                    let commit = begun.unwrap_or_else(|| Commit {
                        began,
                        ..Commit::default()
                    });
                    open = Some((commit, is_last));
                }
                length if length == page => {
                    let (mut commit, is_last) = open.take().expect("a page has its header before it");
                    commit.pages.extend_from_slice(&octets);
                    if !is_last {
                        open = Some((commit, false));
                        continue;
                    }
                    let written = call.done().expect("a frame that was written");
                    let mut later = calls.iter().filter(|call| call.began > written);
                    commit.synced =
                        later.find_map(|call| (call.on == log && call.syncs()).then(|| call.done())?);
                    commits.push(commit);
                }
                other => {
                    panic!("SQLite writes its log in pieces of {other} octets, which this test can not read")
                }
            }
        }
        assert!(open.is_none(), "a transaction without an end");
        Record {
            spool,
            calls,
            page,
            commits,
        }
    }

    /// The one call that does this.
    #[track_caller]
    fn only(&self, what: &str, is_it: impl Fn(&Call) -> bool) -> &Call {
        let found: Vec<&Call> = self.calls.iter().filter(|call| is_it(call)).collect();
        assert_eq!(found.len(), 1, "{what}");
        found[0]
    }

    /// When what stands at this path was on the disk: a sync of it has returned that began after the moment
    /// `after`.
    fn synced(&self, path: &Path, after: usize) -> Option<usize> {
        let path = path.display().to_string();
        let mut syncs = self.calls.iter().filter(|call| call.on == path && call.syncs());
        syncs.find_map(|call| (call.began > after).then(|| call.done())?)
    }

    /// When all of a file had been written.
    #[track_caller]
    fn written(&self, path: &Path, sent: &Sent) -> usize {
        let name = path.display().to_string();
        let writes = || self.calls.iter().filter(|call| call.on == name && call.writes());
        let octets: Vec<u8> = writes().flat_map(Call::octets).collect();
        let lines = memchr::memmem::find_iter(&octets, &format!("body-{} ", sent.mark)).count();
        assert_eq!(lines, sent.lines, "{name}");
        writes().filter_map(Call::done).max().unwrap()
    }

    /// The first commit that holds this.
    #[track_caller]
    fn commit_of(&self, what: &str) -> &Commit {
        let commit = self.commits.iter().find(|commit| commit.holds(what));
        commit.unwrap_or_else(|| panic!("no commit holds {what}"))
    }

    /// Looks whether all of a message was on the disk when its 250 began to be written.
    #[track_caller]
    fn judge_acceptance(&self, sent: &Sent) {
        let (id, mark) = (&sent.id, &sent.mark);
        let words = format!("Message received OK. {id}\r\n");
        let reply = self.only(&words, |call| call.on.starts_with("TCP:") && call.holds(&words));
        let commit = self.commit_of(&format!("from-{mark}@"));
        if sent.size() > THRESHOLD {
            let folder = self.spool.join("content");
            let place = folder.join(id).display().to_string();
            // It may be written elsewhere, and get its place when it is whole.
            let moved = self
                .calls
                .iter()
                .find(|call| call.name.starts_with("rename") && call.holds(&place));
            let begun = |call: &&Call| {
                let path = Path::new(&call.on);
                call.writes() && path.starts_with(&folder) && path.ends_with(id)
            };
            let file = self.calls.iter().find(begun).map(|call| PathBuf::from(&call.on));
            let file = file.unwrap_or_else(|| panic!("{mark}: its file is not written"));
            let written = self.written(&file, sent);
            let synced = self.synced(&file, written);
            let placed = moved.map_or(written, |call| call.done().unwrap());
            let named = self.synced(&folder, placed);
            assert!(
                synced.is_some_and(|at| at < moved.map_or(commit.began, |call| call.began)),
                "{mark}: its file is not on the disk"
            );
            assert!(
                named.is_some_and(|at| at < commit.began),
                "{mark}: the name of its file is not on the disk"
            );
        } else {
            // A line may stand in two pages.
            let lines = memchr::memmem::find_iter(&commit.pages, &format!("body-{mark} ")).count();
            assert!(
                lines + sent.size() / (self.page - 100) >= sent.lines,
                "{mark}: {lines} of {}",
                sent.lines
            );
        }
        let synced = commit
            .synced
            .unwrap_or_else(|| panic!("{mark}: its commit never came to the disk"));
        assert!(
            synced < reply.began,
            "{mark} was acknowledged (line {}) before it was on the disk (line {synced})",
            reply.began
        );
    }

    /// Looks whether a letter was on the disk, under its name, when the queue forgot the message.
    #[track_caller]
    fn judge_delivery(&self, sent: &Sent, maildir: &Path) {
        let name = format!("{}_0.", sent.id);
        let moved = self.only(&name, |call| call.name.starts_with("rename") && call.holds(&name));
        let path = |at: usize| String::from_utf8(moved.texts[at].clone()).unwrap();
        let (arriving, arrived) = (path(0), path(1));
        let written = self.written(Path::new(&arriving), sent);
        let synced = self.synced(Path::new(&arriving), written);
        assert!(
            synced.is_some_and(|at| at < moved.began),
            "{}: moved before it is on the disk",
            sent.mark
        );
        assert!(arrived.starts_with(maildir.join("new").to_str().unwrap()));
        let named = self.synced(&maildir.join("new"), moved.done().unwrap());
        // The history says where it is.
        let forgotten = self.commit_of(&name).began;
        assert!(
            named.is_some_and(|at| at < forgotten),
            "{}: settled before it is in new",
            sent.mark
        );
    }
}

/// Sends everything to an MTA with these flags, and looks into the record.
#[track_caller]
fn nothing_is_promised_too_early(flags: &[&str]) {
    if !trace::is_possible() {
        return;
    }
    let mut world = World::without_mta(flags);
    let record = world.trace();
    world.start();
    let sent = send_all(&world);
    world.wait_for_sql("SELECT count(*) FROM inbound_work_queue", "0");
    assert_eq!(world.terminate().0, Some(0));
    let spool = world.spool();
    let record = Record::read(&record, &spool);
    let made = record.commits[0].began;
    let named = record
        .synced(&spool, made)
        .expect("the folder of the database is synced");
    let listens = record.only("the first word of isesctl", |call| {
        call.holds("Listening on SMTP port")
    });
    assert!(named < listens.began, "the database may have lost its name");
    for sent in &sent {
        record.judge_acceptance(sent);
        record.judge_delivery(sent, &world.mailbox(TO));
    }
}

#[test]
fn no_250_comes_before_its_message_is_on_the_disk_and_no_letter_leaves_the_queue_before_it_is_in_the_mailbox()
{
    nothing_is_promised_too_early(&[]);
}

#[test]
fn no_option_buys_speed_with_that() {
    // All that inbound transport and the queue are told, as far from the defaults as mail still comes in.
    nothing_is_promised_too_early(&[
        "--max-inbound-handlers",
        "11",
        "--max-sessions-per-client",
        "11",
        "--session-timeout",
        "1h",
        "--max-message-size",
        "1M",
        "--max-recipients",
        "1",
        "--max-hops",
        "1",
        "--any-sender",
        "--relay-from",
        "none",
        "--poll-interval",
        "1s",
        "--list-messages",
        "1",
        "--retry-schedule",
        "1s",
        "--expire",
        "1h",
        "--delay-warning",
        "0",
        "--housekeeping",
        "never",
        "--keep-history",
        "0s",
        "--log-level",
        "minimal",
    ]);
}

#[test]
fn a_large_message_that_comes_while_other_tasks_are_being_started_is_not_swept_up() {
    if !trace::is_possible() {
        return;
    }
    let mut world = World::without_mta(&[]);
    world.delay_threads(100);
    world.start();
    let mut client = Client::of(&world);
    let content = content("early", lines_of_a_file());
    let begin = format!(
        "MAIL FROM:<{}>\r\nRCPT TO:<{TO}>\r\nBDAT {} LAST\r\n",
        from("early"),
        content.len()
    );
    client.send(begin.as_bytes()).unwrap();
    let (first, rest) = content.split_at(content.len() - 10);
    client.send(first).unwrap();
    let folder = world.spool().join("content");
    eventually("the file of the message", || files(&folder).pop().ok_or(()));
    // The second begins when the first has ended.
    for _ in 0..2 {
        eventually("housekeeping to begin", || {
            let answer = world.ask("tell housekeeping");
            let has_begun = answer.text == "Housekeeping has begun\n";
            has_begun.then_some(()).ok_or(answer)
        });
    }
    client.send(rest).unwrap();
    (0..2).for_each(|_| assert!(client.reply().starts_with("250 2.1")));
    acknowledged(&client.reply());
    world.wait_for_letters(TO, 1);
}

#[test]
fn the_work_queue_is_told_no_option() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/work_queue");
    let files = fs::read_dir(room).unwrap().map(|entry| entry.unwrap().path());
    let texts: Vec<String> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    assert!(texts.len() > 20);
    for text in texts {
        assert!(!text.contains("crate::config") && !text.contains("env::var"));
    }
}
