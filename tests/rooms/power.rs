//! The power fails: whatever of what was not synced the disk has kept, and however torn, acknowledged mail is there
//! afterwards, or its outcome is.
//!
//! A live MTA works under the shim, which writes down all that it does to its files, and is killed in the middle, twice.
//! From that the disk is built as it may look after a power cut, at many moments and with much bad luck, and the work queue
//! is opened there. A client's 250 counts from the length that the journal had when the client heard it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::errno::Errno;
use rusqlite::{Connection, OpenFlags};
use smtpmta::clock::Clock;
use smtpmta::work_queue::WorkQueue;

use crate::support::client::{Client, big_letter, letter};
use crate::support::journal::{End, Journal, Luck, Unsynced};
use crate::support::shim::{self, Fault, Faults};
use crate::support::sink::{Rule, Sink, Stage};
use crate::support::trace::contains;
use crate::support::world::{PATIENCE, World, files};

/// How many clients send at once.
const SESSIONS: usize = 4;

/// The MTA is killed when so many messages have been acknowledged.
const ACKNOWLEDGED: usize = 40;

/// Power cuts at moments and with luck of their own.
const CUTS: u64 = 300;

/// Recipients that may have been sent to, and not recorded, at any moment: those of a few short lists. Most often it is
/// none, or one or two.
const IN_HAND: usize = 12;

/// A local sender and recipient.
const HERE: &str = "jdoe@mta.test";
/// A local sender who is told that a message was refused.
const SENDER: &str = "bsmith@mta.test";
/// Whom the next hop refuses.
const REFUSED: &str = "refused@ibm.com";
/// Whose next hop is down.
const DOWN: &str = "down@univac.com";

/// A message that was acknowledged.
#[derive(Debug)]
struct Sent {
    id: String,
    /// Stands in the content, and in no other.
    mark: String,
    to: Vec<&'static str>,
    content: Vec<u8>,
    /// As it stands in a mailbox.
    filed: Vec<u8>,
    /// Octets of the journal when the 250 was heard.
    heard: u64,
}

/// A load, up to the moment at which the MTA was killed.
struct Load {
    journal: Journal,
    /// With the moment from which it is promised.
    sent: Vec<(usize, Sent)>,
    /// What the next hop has taken: marks and recipients.
    taken: HashSet<(String, String)>,
}

fn letters(session: usize, number: usize) -> (&'static str, Vec<&'static str>, Vec<u8>, String) {
    let mark = format!("mark{session}x{number}x");
    let (from, to) = match number % 5 {
        0 => ("ann@univac.com", vec![HERE]),
        1 => ("ann@univac.com", vec!["a@ibm.com"]),
        2 => ("ann@univac.com", vec![HERE, "b@lotus.com"]),
        3 => (SENDER, vec!["a@ibm.com", REFUSED, "c@iris.com"]),
        _ => ("ann@univac.com", vec![DOWN, HERE]),
    };
    let content = match number % 5 {
        2 => big_letter(&mark, 100_000),
        _ => letter(&mark),
    };
    (from, to, content, mark)
}

/// Sends until the MTA is gone.
fn send(world: &World, journal: &Path, session: usize, heard: &Sender<Sent>) {
    let Ok(mut client) = Client::try_greet(world.address()) else {
        return;
    };
    for number in 0.. {
        let (from, to, content, mark) = letters(session, number);
        match client.try_mail(from, &to, &content) {
            Ok(reply) => {
                let length = fs::metadata(journal).unwrap().len();
                if let Some(id) = reply.strip_prefix("250 2.6.0 Message received OK. ") {
                    let sent = Sent {
                        id: id.to_owned(),
                        mark,
                        to,
                        filed: String::from_utf8_lossy(&content)
                            .replace("\r\n", "\n")
                            .into_bytes(),
                        content,
                        heard: length,
                    };
                    let _ = heard.send(sent);
                } else {
                    assert!(reply.starts_with('4'), "{reply}");
                }
            }
            Err(_) => return,
        }
    }
}

/// A next hop that takes all but one recipient.
fn next_hop() -> Sink {
    let sink = Sink::start();
    sink.obey(Rule::say(Stage::Rcpt, "550 5.1.1 no such user").only_for(REFUSED));
    sink
}

fn flags(sink: &Sink) -> Vec<String> {
    let sink = sink.address().to_string();
    let flags = ["--relay-host", &sink, "--route", "univac.com=127.0.0.1:1"];
    flags.map(str::to_owned).to_vec()
}

fn world(sink: &Sink) -> World {
    let flags = flags(sink);
    World::without_mta(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What the next hop has taken.
fn taken(sink: &Sink) -> HashSet<(String, String)> {
    sink.look(|seen| {
        let marks = |content: &[u8]| {
            let text = String::from_utf8_lossy(content);
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: mark"));
            subject.map(|rest| format!("mark{rest}"))
        };
        let taken = seen.accepted().filter_map(|message| {
            let mark = marks(&message.content)?;
            Some(
                message
                    .recipients
                    .iter()
                    .map(move |to| (mark.clone(), to.clone())),
            )
        });
        taken.flatten().collect()
    })
}

/// Sends until so many are acknowledged, and the MTA is killed.
fn live(
    world: &World,
    life: usize,
    journal: &Path,
    faults: &Faults,
    trouble: impl Fn(&Faults, usize),
) -> Vec<Sent> {
    let (tell, heard) = channel();
    let mut sent: Vec<Sent> = Vec::new();
    thread::scope(|scope| {
        for session in 0..SESSIONS {
            let tell = tell.clone();
            scope.spawn(move || send(world, journal, life * SESSIONS + session, &tell));
        }
        drop(tell);
        while sent.len() < ACKNOWLEDGED {
            sent.push(heard.recv_timeout(PATIENCE).expect("the MTA takes mail"));
            trouble(faults, sent.len());
        }
        faults.order(&[Fault::of(shim::DIE, Errno::UnknownErrno)]);
    });
    sent.extend(heard.try_iter());
    sent
}

/// Lets the MTA work, with `trouble` each time that a message was acknowledged, and kills it; once more after that.
fn load(trouble: impl Fn(&Faults, usize)) -> Load {
    let sink = next_hop();
    let mut world = world(&sink);
    let faults = world.faults();
    let path = world.journal();
    let root = world.spool().parent().unwrap().to_owned();
    let mut sent: Vec<Sent> = Vec::new();
    for life in 0..2 {
        world.start();
        sent.extend(live(&world, life, &path, &faults, &trouble));
        world.kill();
        faults.behave();
        Journal::complete(&path);
    }
    let journal = Journal::read(&path, &root);
    let sent = sent.into_iter().map(|sent| (journal.moment_of(sent.heard), sent));
    let sent = sent.collect();
    // Who was cut off in the middle has taken nothing; what is on its way is not looked at.
    sink.wait_for(|seen| seen.live().count() == 0, PATIENCE);
    Load {
        journal,
        sent,
        taken: taken(&sink),
    }
}

/// What a spool says after a crash.
struct Found {
    /// Messages and recipients that wait for something.
    waiting: HashSet<(String, String)>,
    /// What has happened to messages and recipients.
    happened: HashSet<(String, String, String)>,
    /// The content of what waits.
    contents: HashMap<String, Vec<u8>>,
    /// The letters in the mailboxes of the two who are here.
    letters: HashMap<&'static str, Vec<Vec<u8>>>,
}

impl Found {
    /// Opens the queue, which recovers it, and looks.
    fn in_spool(spool: &Path) -> Result<Found, String> {
        let queue = WorkQueue::open(spool, Clock::System).map_err(|error| error.to_string())?;
        let found = Found::look(spool, &queue);
        queue.close();
        found
    }

    fn look(spool: &Path, queue: &WorkQueue) -> Result<Found, String> {
        let words = |error: rusqlite::Error| error.to_string();
        let db = Connection::open_with_flags(spool.join("queue.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let db = db.map_err(words)?;
        let judgement: String = db
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .map_err(words)?;
        if judgement != "ok" {
            return Err(judgement);
        }
        let rows = |sql: &str| -> rusqlite::Result<Vec<(String, String, String)>> {
            let mut statement = db.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        };
        let waiting = rows(
            "SELECT id, recipient, state FROM inbound_work_queue \
             UNION ALL SELECT id, recipient, state FROM smtp_box \
             UNION ALL SELECT id, recipient, state FROM outbound_work_queue",
        )
        .map_err(words)?;
        if let Some(astray) = waiting
            .iter()
            .find(|(_, _, state)| state == "WQ_MSG_LOCKED_FOR_XMIT" || state == "WQ_HELD")
        {
            return Err(format!("{astray:?}"));
        }
        let happened = rows("SELECT id, ifnull(recipient, ''), event FROM history").map_err(words)?;
        let mut contents = HashMap::new();
        for (id, _, _) in &waiting {
            let mut content = Vec::new();
            let read = queue
                .content(id.parse().unwrap())
                .map_err(|error| format!("{id}: {error}"))
                .and_then(|mut from| from.read_to_end(&mut content).map_err(|error| error.to_string()));
            read?;
            contents.insert(id.clone(), content);
        }
        let mailbox = |address: &'static str| {
            let user = address.split_once('@').unwrap().0;
            let new = files(&spool.join("mail/mta.test").join(user).join("new"));
            (address, new.iter().map(|file| fs::read(file).unwrap()).collect())
        };
        Ok(Found {
            waiting: waiting.into_iter().map(|(id, to, _)| (id, to)).collect(),
            happened: happened.into_iter().collect(),
            contents,
            letters: HashMap::from([mailbox(HERE), mailbox(SENDER)]),
        })
    }

    /// Why this message is lost; `None` if it is not.
    fn lost(&self, sent: &Sent, taken: &HashSet<(String, String)>) -> Option<String> {
        sent.to.iter().find_map(|to| self.lost_for(sent, to, taken))
    }

    fn lost_for(&self, sent: &Sent, to: &str, taken: &HashSet<(String, String)>) -> Option<String> {
        let name = || format!("{} {} to {to}", sent.id, sent.mark);
        if self.waiting.contains(&(sent.id.clone(), to.to_owned())) {
            let content = &self.contents[&sent.id];
            return (!content.ends_with(&sent.content))
                .then(|| format!("{}: its content is not whole", name()));
        }
        let has = |event: &str| {
            let key = (sent.id.clone(), to.to_owned(), event.to_owned());
            self.happened.contains(&key)
        };
        let told = || {
            let reports = self.contents.values().chain(&self.letters[SENDER]);
            reports
                .into_iter()
                .any(|report| contains(report, &sent.mark) && contains(report, REFUSED))
        };
        let is_well = match to {
            HERE => {
                has("delivered")
                    && self.letters[HERE]
                        .iter()
                        .any(|letter| letter.ends_with(&sent.filed))
            }
            REFUSED => has("failed") && told(),
            _ => has("transmitted") && taken.contains(&(sent.mark.clone(), to.to_owned())),
        };
        (!is_well).then(|| format!("{}: neither it nor its outcome is there", name()))
    }
}

impl Load {
    /// Looks whether what was promised before this moment is there. Gives how many messages would be sent again.
    fn judge(&self, moment: usize, spool: &Path) -> Result<usize, String> {
        let found = Found::in_spool(spool)?;
        let promised = || self.sent.iter().filter(|(since, _)| *since <= moment);
        let lost: Vec<String> = promised()
            .filter_map(|(_, sent)| found.lost(sent, &self.taken))
            .collect();
        if !lost.is_empty() {
            let of = promised().count();
            return Err(format!("{} of {of} are lost: {lost:#?}", lost.len()));
        }
        let ids: HashMap<&str, &Sent> = self
            .sent
            .iter()
            .map(|(_, sent)| (sent.id.as_str(), sent))
            .collect();
        let again = found.waiting.iter().filter(|(id, to)| {
            let mark = ids.get(id.as_str()).map(|sent| sent.mark.clone());
            mark.is_some_and(|mark| self.taken.contains(&(mark, to.clone())))
        });
        Ok(again.count())
    }

    /// Cuts the power at this moment, and looks.
    #[track_caller]
    fn cut(&self, moment: usize, fate: Unsynced, end: Option<End<'_>>, seed: u64) -> usize {
        let folder = tempfile::tempdir().unwrap();
        self.journal
            .image(moment, fate, end, &mut Luck::new(seed), folder.path());
        let spool = folder.path().join("spool");
        if !spool.exists() && !self.sent.iter().any(|(since, _)| *since <= moment) {
            return 0;
        }
        self.judge(moment, &spool).unwrap_or_else(|why| {
            let all = self.journal.moments();
            let kept: PathBuf = folder.keep();
            panic!("power cut at {moment} of {all}, {fate:?}, {end:?}, seed {seed}, see {kept:?}: {why}")
        })
    }
}

#[test]
fn whatever_a_power_cut_leaves_of_what_was_not_synced_acknowledged_mail_is_there() {
    let load = load(|_, _| {});
    let all = load.journal.moments();
    let syncs = load.journal.before_syncs("queue.db-wal");
    assert!(syncs.len() > 20);
    for seed in 0..CUTS {
        let mut luck = Luck::new(seed);
        // While a sync is under way most is at stake.
        let moment = match seed % 3 {
            0 => luck.below(all + 1),
            1 => syncs[luck.below(syncs.len())],
            _ => all,
        };
        let fate = match seed % 8 {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            2..5 => Unsynced::Torn(512),
            _ => Unsynced::Torn(4096),
        };
        load.cut(moment, fate, None, seed);
    }
}

#[test]
fn wherever_the_log_ends_behind_its_last_sync_acknowledged_mail_is_there() {
    let load = load(|_, _| {});
    let mut syncs = load.journal.before_syncs("queue.db-wal");
    // Those at which most is at stake.
    syncs.sort_by_key(|moment| load.journal.unsynced_writes("queue.db-wal", *moment).len());
    let last = load.journal.moments();
    let mut tried = 0;
    for moment in syncs.into_iter().rev().take(3).chain([last]) {
        let writes = load.journal.unsynced_writes("queue.db-wal", moment);
        for (number, octets) in writes.iter().copied().enumerate() {
            // At the boundary, and within. What was there before may follow.
            for (octets, cut) in [(0, true), (0, false), (octets / 2, number % 2 == 0)] {
                let end = End {
                    name: "queue.db-wal",
                    writes: number,
                    octets,
                    cut,
                };
                load.cut(moment, Unsynced::Kept, Some(end), 0);
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried} ends");
}

/// Cuts the power behind syncs that failed: what they should have brought to the disk never gets there, although all
/// syncs after them go well.
fn cut_behind_failed_syncs(load: &Load, cuts: u64) {
    let all = load.journal.moments();
    for seed in 0..cuts {
        let mut luck = Luck::new(seed);
        let moment = match seed % 2 {
            0 => all,
            _ => luck.below(all + 1),
        };
        let fate = match seed % 4 {
            0 | 1 => Unsynced::Lost,
            _ => Unsynced::Torn(4096),
        };
        load.cut(moment, fate, None, seed);
    }
}

#[test]
fn a_sync_that_failed_takes_nothing_along_that_is_acknowledged_later() {
    let load = load(|faults, acknowledged| {
        if acknowledged % 20 == 1 {
            let fault = Fault::of(shim::SYNC, Errno::EIO).on("queue.db").times(1);
            let now_and_then = [0, 7, 12, 17, 25, 31, 38, 44].map(|place| fault.after(place));
            faults.order(&now_and_then);
        }
    });
    let failed = load.journal.failed_syncs("queue.db-wal");
    assert!(failed > 5, "{failed} syncs have failed");
    cut_behind_failed_syncs(&load, CUTS / 3);
}

#[test]
fn what_is_copied_home_is_on_the_disk_before_the_log_begins_anew_although_syncs_fail() {
    let load = load(|faults, acknowledged| {
        if acknowledged % 5 == 1 {
            let fault = Fault::of(shim::SYNC, Errno::EIO).on("queue.db$").times(1);
            faults.order(&[fault]);
        }
    });
    assert!(load.journal.failed_syncs("queue.db") > 0);
    cut_behind_failed_syncs(&load, CUTS / 3);
}

#[test]
fn what_a_power_cut_has_left_is_brought_to_its_end() {
    let load = load(|_, _| {});
    let moment = load.journal.moments();
    for (seed, fate) in [(1, Unsynced::Lost), (2, Unsynced::Torn(512))] {
        let sink = next_hop();
        let mut world = world(&sink);
        let spool = world.spool();
        let root = spool.parent().unwrap();
        load.journal.image(moment, fate, None, &mut Luck::new(seed), root);
        world.start();
        // Reports begin where the others end, and go through all of it again.
        let queues = ["inbound_work_queue", "smtp_box", "outbound_work_queue"];
        for queue in queues.iter().chain(&queues) {
            let rest = format!("SELECT count(*) FROM {queue} WHERE recipient <> '{DOWN}'");
            world.wait_for_sql(&rest, "0");
        }
        assert_eq!(world.terminate().0, Some(0));
        let again = taken(&sink);
        let all = load.taken.union(&again).cloned().collect();
        let found = Found::in_spool(&spool).unwrap();
        let lost = load.sent.iter().filter_map(|(_, sent)| found.lost(sent, &all));
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<String>::new());
        // Promise 3: what was sent and not recorded may be sent twice, and nothing else may. That was in hand at the end.
        let doubled = load.taken.intersection(&again).count();
        assert!(doubled <= IN_HAND, "{doubled} of {}", load.taken.len());
    }
}
