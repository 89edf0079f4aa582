//! The power fails: whatever of what was not synced the disk has kept, and however torn, acknowledged mail is there
//! afterwards, or its outcome is.
//!
//! A live MTA works under the shim, which writes down all that it does to its files, and is killed in the middle, twice.
//! From that the disk is built as it may look after a power cut, at many moments and with much bad luck, and the work queue
//! is opened there. A client's 250 counts from the length that the journal had when the client heard it. What the next hop
//! had taken by then, and waits, would be sent twice: that is counted. What anybody could have read of as transmitted by
//! then, and what is transmitted by what was synced, never waits.
//!
//! `cargo test` lets the log end at some of the places where it may, and tries some hundred times. At each sector of each
//! write, and some thousand times:
//!
//! ```text
//! SMTPMTA_FULL=1 cargo test --test all power -- --nocapture
//! ```

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use rusqlite::{Connection, OpenFlags};
use smtpmta::clock::Clock;
use smtpmta::work_queue::{WorkQueue, verify};
use tempfile::TempDir;

use crate::support::client::{Client, big_letter, letter};
use crate::support::journal::{End, Journal, Luck, Unsynced};
use crate::support::shim::{self, Fault, Faults};
use crate::support::sink::{Rule, Sink, Stage};
use crate::support::trace::contains;
use crate::support::traffic::times;
use crate::support::world::{PATIENCE, World, files};

/// How many clients send at once.
const SESSIONS: usize = 4;

/// The MTA is killed when so many messages have been acknowledged.
const ACKNOWLEDGED: usize = 40;

/// Power cuts at moments and with luck of their own, or ten times as many.
const CUTS: usize = 300;

/// Messages on a list at most.
const LIST_MESSAGES: usize = 3;
/// Lists of the next hop that handlers have in hand at most.
const LISTS: usize = 2;
/// Recipients of a message whom the next hop takes at most.
const RECIPIENTS: usize = 2;
/// Promise 3: what was sent and not recorded may be sent twice, and nothing else may. That stood on a list that a handler
/// had in hand; who takes up another one has recorded all of the one before. Most often it is nobody, or one or two.
const IN_HAND: usize = LIST_MESSAGES * LISTS * RECIPIENTS;

/// Cuts that are looked at at once: each waits for its disk now and then.
const AT_ONCE: usize = 3;

/// How often it is read who has been sent to.
const READ_EVERY: Duration = Duration::from_millis(5);

/// The database.
const QUEUE: &str = "queue.db";
/// The write-ahead log.
const LOG: &str = "queue.db-wal";
/// Octets of the head of a frame in it, which is a write of its own; a page follows.
const FRAME_HEAD: usize = 24;
/// A disk writes so many octets, or none of them.
const SECTOR: usize = 512;
/// Syncs, of those that have most to do, at which the log may end in some sector of each write; in any of them, where
/// the whole is asked for, and at all syncs.
const LARGEST: usize = 3;
/// Ends of the log at one moment that are looked at together.
const TOGETHER: usize = 30;

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

/// A message, by its mark or its ID, and one of its recipients.
type Errand = (String, String);

/// A load, up to the moment at which the MTA was killed.
struct Load {
    journal: Journal,
    /// With the moment from which it is promised.
    sent: Vec<(usize, Sent)>,
    /// What the next hop has taken, by marks.
    taken: HashSet<Errand>,
    /// The same, with the moment behind which it was taken.
    taken_at: HashMap<Errand, usize>,
    /// What anybody could read of as transmitted, by IDs, with the moment from which he could.
    recorded: HashMap<Errand, usize>,
    /// The moment at which the MTA was started for the second time.
    second: usize,
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
    let (messages, lists) = (LIST_MESSAGES.to_string(), LISTS.to_string());
    let flags = [
        ["--relay-host", &sink],
        ["--route", "univac.com=127.0.0.1:1"],
        ["--list-messages", &messages],
        ["--per-next-hop", &lists],
    ];
    flags
        .as_flattened()
        .iter()
        .map(|flag| (*flag).to_owned())
        .collect()
}

fn world(sink: &Sink) -> World {
    let flags = flags(sink);
    World::without_mta(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What the next hop has taken, by marks; with the length that the journal had just before it said so.
fn taken(sink: &Sink) -> HashMap<Errand, u64> {
    let mut taken = HashMap::new();
    sink.look(|seen| {
        for message in seen.accepted() {
            let text = String::from_utf8_lossy(&message.content);
            let Some(mark) = text.lines().find_map(|line| line.strip_prefix("Subject: mark")) else {
                continue;
            };
            for to in &message.recipients {
                // The first time counts.
                taken
                    .entry((format!("mark{mark}"), to.clone()))
                    .or_insert(message.measured);
            }
        }
    });
    taken
}

/// Reads what has been transmitted, by IDs, until it is over; with the length that the journal had when it had been read.
/// A commit can be read as soon as it has been synced.
fn transmitted(world: &World, journal: &Path, over: &Receiver<()>) -> HashMap<Errand, u64> {
    let mut transmitted = HashMap::new();
    while over.recv_timeout(READ_EVERY) == Err(RecvTimeoutError::Timeout) {
        // While the MTA dies it may be that nobody can read.
        let Ok(rows) = world.query("SELECT id, recipient FROM history WHERE event = 'transmitted'") else {
            continue;
        };
        let length = fs::metadata(journal).unwrap().len();
        for (id, to) in rows.lines().filter_map(|row| row.split_once('|')) {
            transmitted
                .entry((id.to_owned(), to.to_owned()))
                .or_insert(length);
        }
    }
    transmitted
}

/// Sends until so many are acknowledged, and the MTA is killed; gives what was sent, and what was transmitted.
fn live(
    world: &World,
    life: usize,
    journal: &Path,
    faults: &Faults,
    (acknowledged, trouble): (usize, impl Fn(&Faults, usize)),
) -> (Vec<Sent>, HashMap<Errand, u64>) {
    let (tell, heard) = channel();
    let mut sent: Vec<Sent> = Vec::new();
    let recorded = thread::scope(|scope| {
        let (end, over) = channel();
        let reader = scope.spawn(move || transmitted(world, journal, &over));
        for session in 0..SESSIONS {
            let tell = tell.clone();
            scope.spawn(move || send(world, journal, life * SESSIONS + session, &tell));
        }
        drop(tell);
        while sent.len() < acknowledged {
            sent.push(heard.recv_timeout(PATIENCE).expect("the MTA takes mail"));
            trouble(faults, sent.len());
        }
        faults.order(&[Fault::of(shim::DIE, Errno::UnknownErrno)]);
        drop(end);
        reader.join().unwrap()
    });
    sent.extend(heard.try_iter());
    (sent, recorded)
}

/// Lets the MTA work until so many are acknowledged, with `trouble` each time that one was, and kills it; once more after
/// that.
fn load(acknowledged: usize, trouble: impl Fn(&Faults, usize)) -> Load {
    let sink = next_hop();
    let mut world = world(&sink);
    let faults = world.faults();
    let path = world.journal();
    sink.measure(&path);
    let root = world.spool().parent().unwrap().to_owned();
    let mut sent: Vec<Sent> = Vec::new();
    let mut recorded: HashMap<Errand, u64> = HashMap::new();
    let mut before = 0;
    for life in 0..2 {
        before = fs::metadata(&path).unwrap().len();
        world.start();
        let lived = live(&world, life, &path, &faults, (acknowledged, &trouble));
        sent.extend(lived.0);
        for (errand, length) in lived.1 {
            recorded.entry(errand).or_insert(length);
        }
        world.kill();
        faults.behave();
        Journal::complete(&path);
    }
    let journal = Journal::read(&path, &root);
    let second = journal.moment_of(before);
    let sent = sent.into_iter().map(|sent| (journal.moment_of(sent.heard), sent));
    let sent = sent.collect();
    let moments = |lengths: HashMap<Errand, u64>| -> HashMap<Errand, usize> {
        let moments = lengths.into_iter();
        moments
            .map(|(errand, length)| (errand, journal.moment_of(length)))
            .collect()
    };
    // Who was cut off in the middle has taken nothing; what is on its way is not looked at.
    sink.wait_for(|seen| seen.live().count() == 0, PATIENCE);
    let (taken_at, recorded) = (moments(taken(&sink)), moments(recorded));
    Load {
        sent,
        taken: taken_at.keys().cloned().collect(),
        taken_at,
        recorded,
        second,
        journal,
    }
}

/// What a spool says after a crash.
struct Found {
    /// Messages and recipients that wait for something.
    waiting: HashSet<Errand>,
    /// What has happened to messages and recipients.
    happened: HashSet<(String, String, String)>,
    /// The content of what waits.
    contents: HashMap<String, Vec<u8>>,
    /// The letters in the mailboxes of the two who are here.
    letters: HashMap<&'static str, Vec<Vec<u8>>>,
}

impl Found {
    /// Opens the queue, which recovers it, and looks. It is in order, and its account balances.
    fn in_spool(spool: &Path) -> Result<Found, String> {
        let queue = WorkQueue::open(spool, Clock::System).map_err(|error| error.to_string())?;
        let found = Found::look(spool, &queue);
        queue.close();
        let found = found?;
        let verdict = verify(spool, true).map_err(|error| error.to_string())?;
        if verdict.is_in_order() {
            Ok(found)
        } else {
            Err(format!("{verdict:#?}"))
        }
    }

    fn look(spool: &Path, queue: &WorkQueue) -> Result<Found, String> {
        let words = |error: rusqlite::Error| error.to_string();
        let db = Connection::open_with_flags(spool.join("queue.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let db = db.map_err(words)?;
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
    fn lost(&self, sent: &Sent, taken: &HashSet<Errand>) -> Option<String> {
        sent.to.iter().find_map(|to| self.lost_for(sent, to, taken))
    }

    fn lost_for(&self, sent: &Sent, to: &str, taken: &HashSet<Errand>) -> Option<String> {
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

    /// What has been transmitted.
    fn transmitted(&self) -> impl Iterator<Item = Errand> {
        let happened = self.happened.iter();
        let transmitted = happened.filter(|(_, _, event)| event == "transmitted");
        transmitted.map(|(id, to, _)| (id.clone(), to.clone()))
    }
}

/// A folder for what is left: in memory, where the system has a place for that. Nobody cuts its power.
fn folder() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Where the power was cut, and what of that is left.
type Cut<'n> = (usize, Unsynced, Option<End<'n>>, u64);

impl Load {
    /// Looks whether what was promised before this moment is there, and what could be read by then is not undone.
    fn judge(&self, moment: usize, spool: &Path) -> Result<Found, String> {
        let found = Found::in_spool(spool)?;
        let promised = || self.sent.iter().filter(|(since, _)| *since <= moment);
        let lost: Vec<String> = promised()
            .filter_map(|(_, sent)| found.lost(sent, &self.taken))
            .collect();
        if !lost.is_empty() {
            let of = promised().count();
            return Err(format!("{} of {of} are lost: {lost:#?}", lost.len()));
        }
        let recorded = self.recorded.iter().filter(|(_, since)| **since <= moment);
        let undone: Vec<_> = recorded
            .filter(|(errand, _)| found.waiting.contains(*errand))
            .collect();
        if !undone.is_empty() {
            return Err(format!(
                "it could be read that these are transmitted: {undone:#?}"
            ));
        }
        Ok(found)
    }

    /// What a power cut leaves; nothing, where nothing was promised by then.
    #[track_caller]
    fn left(&self, (moment, fate, end, seed): Cut<'_>) -> Option<Found> {
        let folder = folder();
        self.journal
            .image(moment, fate, end, &mut Luck::new(seed), folder.path());
        let spool = folder.path().join("spool");
        if !spool.exists() && !self.sent.iter().any(|(since, _)| *since <= moment) {
            return None;
        }
        let found = self.judge(moment, &spool).unwrap_or_else(|why| {
            let all = self.journal.moments();
            let kept: PathBuf = folder.keep();
            panic!("power cut at {moment} of {all}, {fate:?}, {end:?}, seed {seed}, see {kept:?}: {why}")
        });
        Some(found)
    }

    /// What is transmitted at this moment for certain: it is on the disk, whatever becomes of the rest.
    #[track_caller]
    fn certain(&self, moment: usize) -> HashSet<Errand> {
        let found = self.left((moment, Unsynced::Lost, None, 0));
        found.iter().flat_map(Found::transmitted).collect()
    }

    /// Cuts the power, and looks, also whether anybody waits again to whom the message is transmitted for certain. Gives how
    /// many wait again although the next hop had taken the message by then: they would be sent to twice, and are no more
    /// than were in hand then, and at the end of the life before.
    #[track_caller]
    fn cut(&self, cut: Cut<'_>, certain: &HashSet<Errand>) -> usize {
        let Some(found) = self.left(cut) else { return 0 };
        let undone: Vec<_> = found.waiting.intersection(certain).collect();
        assert!(
            undone.is_empty(),
            "power cut {cut:?}: they are transmitted for certain, and wait: {undone:#?}"
        );
        let marks: HashMap<&str, &str> = self
            .sent
            .iter()
            .map(|(_, sent)| (sent.id.as_str(), sent.mark.as_str()))
            .collect();
        let again = found.waiting.iter().filter(|(id, to)| {
            let taken = marks.get(id.as_str()).and_then(|mark| {
                let errand = ((*mark).to_owned(), to.clone());
                self.taken_at.get(&errand)
            });
            taken.is_some_and(|taken| *taken <= cut.0)
        });
        let again = again.count();
        let lives = 1 + usize::from(cut.0 > self.second);
        assert!(
            again <= lives * IN_HAND,
            "power cut {cut:?}: {again} would be sent to twice, and no more than {IN_HAND} were in hand at once"
        );
        again
    }
}

/// How many would be sent to twice after power cuts.
#[derive(Debug, Default)]
struct Doubles {
    cuts: usize,
    /// After all of them.
    all: usize,
    /// After one of them.
    most: usize,
}

impl Doubles {
    /// Does something with each piece of `work`, some at once, and adds up what it gives: of each cut how many that are.
    fn after<T: Sync>(work: &[T], cut: impl Fn(&T) -> Vec<usize> + Sync) -> Doubles {
        let (next, doubles) = (AtomicUsize::new(0), Mutex::new(Doubles::default()));
        let work = || {
            while let Some(piece) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                let doubled = cut(piece);
                let mut doubles = doubles.lock().unwrap();
                for doubled in doubled {
                    doubles.cuts += 1;
                    doubles.all += doubled;
                    doubles.most = doubles.most.max(doubled);
                }
            }
        };
        thread::scope(|scope| (0..AT_ONCE).for_each(|_| _ = scope.spawn(work)));
        let doubles = doubles.into_inner().unwrap();
        #[allow(clippy::print_stdout)] // the count
        {
            let Doubles { cuts, all, most } = doubles;
            println!(
                "{cuts} power cuts, {all} recipients to whom one would go again, {most} after one of them at most"
            );
        }
        doubles
    }
}

#[test]
fn whatever_a_power_cut_leaves_of_what_was_not_synced_acknowledged_mail_is_there() {
    // The log has to become long enough to be copied home.
    let load = load(2 * ACKNOWLEDGED, |_, _| {});
    let all = load.journal.moments();
    let syncs = load.journal.before_syncs(LOG);
    assert!(syncs.len() > 20);
    let copied = copies(&load);
    assert!(load.recorded.len() > 20, "{} transmitted", load.recorded.len());
    let seeds = seeds(CUTS);
    let doubles = Doubles::after(&seeds, |seed| {
        let mut luck = Luck::new(*seed);
        // While a sync is under way most is at stake.
        let moment = match seed % 5 {
            0 => luck.below(all + 1),
            1 | 2 => syncs[luck.below(syncs.len())],
            3 => copied[luck.below(copied.len())],
            _ => all,
        };
        let fate = match seed % 8 {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            2..5 => Unsynced::Torn(SECTOR),
            _ => Unsynced::Torn(4096),
        };
        let certain = match seed % 5 {
            1 | 3 => load.certain(moment),
            _ => HashSet::new(),
        };
        vec![load.cut((moment, fate, None, *seed), &certain)]
    });
    assert_eq!(doubles.cuts, seeds.len());
}

/// So many seeds, or ten times as many where the whole is asked for.
fn seeds(few: usize) -> Vec<u64> {
    (0..times(few, 10 * few) as u64).collect()
}

/// The moments just before a sync of the database ended, into which the log was being copied.
fn copies(load: &Load) -> Vec<usize> {
    let mut copied = load.journal.before_syncs(QUEUE);
    // It is made in other ways.
    let logged = load.journal.before_syncs(LOG);
    copied.retain(|moment| logged.first().is_some_and(|first| first < moment));
    assert!(!copied.is_empty(), "the log was never copied home");
    copied
}

/// Where the log may end at this moment: at each of its writes, and in the middle of each; and where it may end anywhere,
/// at each sector of the disk, within the head of a frame, and one octet behind it.
fn ends(load: &Load, moment: usize, anywhere: bool) -> Vec<End<'static>> {
    let mut ends = Vec::new();
    let writes = load.journal.unsynced_writes(LOG, moment);
    for (number, place) in writes.into_iter().enumerate() {
        let octets = place.len();
        let mut end = |octets, cut| {
            ends.push(End {
                name: LOG,
                writes: number,
                octets,
                cut,
            });
        };
        // What was there before may follow.
        let is_even = number % 2 == 0;
        for (octets, cut) in [(0, true), (0, false), (octets / 2, is_even)] {
            end(octets, cut);
        }
        if anywhere {
            let first = place.start.next_multiple_of(SECTOR);
            let sectors = (first..place.end).step_by(SECTOR);
            let sectors = sectors.map(|sector| sector - place.start);
            let within = match octets {
                FRAME_HEAD => &[1, 4, 8, 16, 20, 23][..],
                0 | 1 => &[],
                _ => &[1],
            };
            let places: Vec<usize> = sectors
                .filter(|octets| *octets > 0)
                .chain(within.iter().copied())
                .collect();
            // Of each write one, or all.
            let from = times(number % places.len().max(1), 0);
            let some = places.into_iter().skip(from).take(times(1, usize::MAX));
            some.for_each(|octets| end(octets, !is_even));
        }
    }
    ends
}

#[test]
fn wherever_the_log_ends_behind_its_last_sync_acknowledged_mail_is_there() {
    // The log has to become long enough to be copied home.
    let load = load(2 * ACKNOWLEDGED, |_, _| {});
    let mut syncs = load.journal.before_syncs(LOG);
    assert!(syncs.len() > 20);
    let mut copied = copies(&load);
    // Those at which most is at stake come first.
    let at_stake = |moment: &usize| Reverse(load.journal.unsynced_writes(LOG, *moment).len());
    syncs.sort_by_key(at_stake);
    copied.sort_by_key(at_stake);
    let (largest, others) = syncs.split_at(LARGEST);
    // Some of the others, or all of them.
    let step = others.len().div_ceil(times(LARGEST, others.len()));
    let others = others.iter().copied().step_by(step);
    let last = load.journal.moments();
    let everywhere = times(0, 1) == 1;
    let largest = largest.iter().map(|moment| (*moment, true, Unsynced::Kept));
    let others = others.chain([last]);
    let others = others.map(|moment| (moment, everywhere, Unsynced::Kept));
    // While the log is copied home none of that may have come there, or all, and in the log there may be more by then.
    let copied = copied.into_iter().take(times(2, usize::MAX));
    let copied = copied.flat_map(|moment| {
        let fates = [Unsynced::Kept, Unsynced::Lost];
        fates.map(|fate| (moment, everywhere, fate))
    });
    let pieces: Vec<(usize, Unsynced, Vec<Option<End<'_>>>)> = largest
        .chain(others)
        .chain(copied)
        .flat_map(|(moment, anywhere, fate)| {
            let ends = ends(&load, moment, anywhere).into_iter().map(Some);
            let ends: Vec<_> = ends.chain([None]).collect();
            let pieces: Vec<_> = ends
                .chunks(TOGETHER)
                .map(|some| (moment, fate, some.to_vec()))
                .collect();
            pieces
        })
        .collect();
    let doubles = Doubles::after(&pieces, |(moment, fate, ends)| {
        let certain = load.certain(*moment);
        let cuts = ends.iter();
        let cuts = cuts.map(|end| load.cut((*moment, *fate, *end, 0), &certain));
        cuts.collect()
    });
    assert!(doubles.cuts > 20, "{} ends", doubles.cuts);
}

/// Cuts the power behind syncs that failed: what they should have brought to the disk never gets there, although all
/// syncs after them go well.
fn cut_behind_failed_syncs(load: &Load) {
    let all = load.journal.moments();
    Doubles::after(&seeds(CUTS / 3), |seed| {
        let mut luck = Luck::new(*seed);
        let moment = match seed % 2 {
            0 => all,
            _ => luck.below(all + 1),
        };
        let fate = match seed % 4 {
            0 | 1 => Unsynced::Lost,
            _ => Unsynced::Torn(4096),
        };
        let certain = match seed % 4 {
            2 => load.certain(moment),
            _ => HashSet::new(),
        };
        vec![load.cut((moment, fate, None, *seed), &certain)]
    });
}

#[test]
fn a_sync_that_failed_takes_nothing_along_that_is_acknowledged_later() {
    let load = load(ACKNOWLEDGED, |faults, acknowledged| {
        if acknowledged % 20 == 1 {
            let fault = Fault::of(shim::SYNC, Errno::EIO).on("queue.db").times(1);
            let now_and_then = [0, 7, 12, 17, 25, 31, 38, 44].map(|place| fault.after(place));
            faults.order(&now_and_then);
        }
    });
    let failed = load.journal.failed_syncs(LOG);
    assert!(failed > 5, "{failed} syncs have failed");
    cut_behind_failed_syncs(&load);
}

#[test]
fn what_is_copied_home_is_on_the_disk_before_the_log_begins_anew_although_syncs_fail() {
    // The log has to become long enough to be copied.
    let load = load(2 * ACKNOWLEDGED, |faults, acknowledged| {
        if acknowledged % 5 == 1 {
            let fault = Fault::of(shim::SYNC, Errno::EIO).on("queue.db$").times(1);
            faults.order(&[fault]);
        }
    });
    assert!(load.journal.failed_syncs(QUEUE) > 0);
    cut_behind_failed_syncs(&load);
}

#[test]
fn what_a_power_cut_has_left_is_brought_to_its_end() {
    let load = load(ACKNOWLEDGED, |_, _| {});
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
        let again: HashSet<Errand> = taken(&sink).into_keys().collect();
        let all = load.taken.union(&again).cloned().collect();
        let found = Found::in_spool(&spool).unwrap();
        let lost = load.sent.iter().filter_map(|(_, sent)| found.lost(sent, &all));
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<String>::new());
        // Promise 3: what was sent and not recorded may be sent twice, and nothing else may. That was in hand at the end.
        let doubled = load.taken.intersection(&again).count();
        assert!(doubled <= IN_HAND, "{doubled} of {}", load.taken.len());
        // And nobody of whom it could be read that it was.
        let errands = load
            .sent
            .iter()
            .flat_map(|(_, sent)| sent.to.iter().map(move |to| (sent, *to)));
        let sent_again: Vec<_> = errands
            .filter(|(sent, to)| again.contains(&(sent.mark.clone(), (*to).to_owned())))
            .map(|(sent, to)| (sent.id.clone(), to.to_owned()))
            .filter(|errand| load.recorded.contains_key(errand))
            .collect();
        assert!(sent_again.is_empty(), "{sent_again:#?}");
    }
}
