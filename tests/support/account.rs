//! What became of a load, by what lies in the Maildirs and what the next hops were given: what was lost, what came twice,
//! and whether it might; and what the account of the work queue has to say of it.
//!
//! Only what was sent before a crash and was not settled then may come again. An LMTP server is a next hop, too: what it
//! takes is in a mailbox, and letters as well as reports may come to it again like to any other.

#![allow(dead_code)] // each test uses what it needs

use std::collections::{HashMap, HashSet};
use std::fs;

use rusqlite::Connection;
use serde_json::Value;

use super::load::{ALIAS, HERE, Kind, Letter, TOKEN};
use super::sink::Sink;
use super::world::{PATIENCE, World, files};

/// Mailboxes that letters are for.
const MAILBOXES: [&str; 2] = ["jdoe@mta.test", "amy@mta.test"];

/// A recipient of a letter: its sender, which is a name for it, and whom it is for.
pub type Errand = (String, String);

/// The sender of all our reports, where an LMTP server is given them.
const REPORTER: &str = HERE;

/// What came to the mailboxes behind LMTP servers: for whom, and the octets of a report, or nothing but the errand of a
/// letter.
type Post = HashSet<(Errand, Vec<u8>)>;

/// What stood in the queue when the MTA died.
pub struct Crash {
    /// Whatever had not come to its end.
    unsettled: HashSet<Errand>,
    /// Lists that there were.
    pub lists: usize,
    /// How many messages each next hop had been given by then.
    given: Vec<usize>,
}

impl Crash {
    /// Looks at what a process that has died left behind, and does not touch it.
    pub fn look(world: &World, hops: &[Sink]) -> Crash {
        let copy = tempfile::tempdir().unwrap();
        for name in ["queue.db", "queue.db-wal"] {
            fs::copy(world.spool().join(name), copy.path().join(name)).unwrap();
        }
        let db = Connection::open(copy.path().join("queue.db")).unwrap();
        // What comes from the null path names itself in its envelope, but for our own reports.
        let sql = "SELECT iif(m.reverse_path = '', ifnull(m.envid, '') || '@mta.test', m.reverse_path), r.path \
                   FROM recipient r JOIN message m ON m.id = r.message WHERE r.state < 4";
        let mut query = db.prepare(sql).unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        // What is on the wire still arrives.
        let given = |hop: &Sink| {
            hop.wait_for(|seen| seen.live().count() == 0, PATIENCE);
            hop.look(|seen| seen.messages.len())
        };
        Crash {
            unsettled: rows.map(Result::unwrap).collect(),
            lists: db
                .query_row("SELECT count(*) FROM domain_list", [], |row| row.get(0))
                .unwrap(),
            given: hops.iter().map(given).collect(),
        }
    }

    /// Whether this recipient may be sent to, whatever was sent before.
    fn allows(&self, (letter, to): &Errand) -> bool {
        [to, ALIAS]
            .into_iter()
            .any(|to| self.unsettled.contains(&(letter.clone(), to.to_owned())))
    }
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Account {
    /// Letters of which the client heard that they were taken.
    pub acknowledged: usize,
    /// What is missing of these.
    pub lost: Vec<String>,
    /// Recipients to whom a letter, or by LMTP a report, came more than once, as it may.
    pub doubled: usize,
    /// What came, and may not have come; or came otherwise than it was sent.
    pub wrong: Vec<String>,
    /// What the account of the work queue has to say of all that.
    pub sums: Sums,
}

/// Recipients, by how they came into the queue and what became of them, as those know who sent the letters, and those who
/// got them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Named by clients with letters that were taken; and one for each report that came.
    pub accepted: usize,
    /// For whom aliases in these stand.
    pub of_aliases: usize,
    /// Files in the Maildirs, and what LMTP servers have for each mailbox, however often it came.
    pub delivered: usize,
    /// Those at other hosts to whom a letter came, however often.
    pub transmitted: usize,
    /// The aliases.
    pub expanded: usize,
    /// Of whom a sender had to hear that they do not get it.
    pub failed: usize,
    /// Of whom nobody could hear that.
    pub dead: usize,
    /// Who has yet to get it.
    pub waiting: usize,
    /// Who does not get it before an operator has looked at it.
    pub held: usize,
    /// Who does not get it since an operator has removed it.
    pub removed: usize,
}

impl Sums {
    /// Adds what a letter brought that was taken, as far as it is known by the letter itself.
    fn take(&mut self, letter: &Letter) {
        self.accepted += letter.recipients().len();
        if letter.kind == Kind::Alias {
            self.of_aliases += letter.reached().len();
            self.expanded += 1;
        }
        self.failed += letter.refused().len();
        self.dead += letter.dead().len();
        self.held += letter.held().len();
        self.removed += letter.removed().len();
    }

    /// Whether whoever came in is somewhere.
    pub fn balance(&self) -> bool {
        let ended = self.delivered + self.transmitted + self.expanded + self.failed + self.removed;
        self.accepted + self.of_aliases == ended + self.dead + self.waiting + self.held
    }

    /// What the verdict of `verify --account --json` says otherwise, by the rows or by the counters; nothing where all is
    /// well. No crash may be left of which it knows too little.
    pub fn differences(&self, verdict: &Value) -> Vec<String> {
        let account = &verdict["account"];
        let lines = [
            ("accepted", self.accepted),
            ("came_of_aliases", self.of_aliases),
            ("delivered", self.delivered),
            ("transmitted", self.transmitted),
            ("expanded", self.expanded),
            ("failed", self.failed),
            ("removed", self.removed),
            ("missing", 0),
        ];
        let of_both = lines.into_iter().flat_map(move |(name, sum)| {
            let by = move |column: &str| (format!("{name} by the {column}"), &account[name][column], sum);
            ["database", "counters"].map(by)
        });
        let here = [
            ("waiting", self.waiting),
            ("held", self.held),
            ("dead", self.dead),
            ("crashes", 0),
        ];
        let of_one = here.map(move |(name, sum)| (name.to_owned(), &account[name], sum));
        let all = of_both.chain(of_one);
        all.filter(|(_, said, sum)| said.as_u64() != Some(*sum as u64))
            .map(|(name, said, sum)| format!("{name}: {said}, and it has to be {sum}"))
            .collect()
    }
}

impl Account {
    /// Of all `letters` of a load that has come to its end, after these crashes. What is `excused` may have come twice
    /// without one.
    pub fn of(
        letters: &[Letter],
        world: &World,
        hops: &[Sink],
        crashes: &[Crash],
        excused: &HashSet<Errand>,
    ) -> Account {
        let mut account = Account {
            acknowledged: letters.iter().filter(|letter| letter.acknowledged).count(),
            ..Account::default()
        };
        let known: HashMap<&str, &Letter> = letters.iter().map(|l| (l.token.as_str(), l)).collect();
        let mut copies: HashMap<Errand, usize> = HashMap::new();
        account.mailboxes(world, &known, &mut copies);
        let mut post = Post::new();
        for (number, hop) in hops.iter().enumerate() {
            let came = (&mut copies, &mut post);
            account.hop((number, hop), &known, (crashes, excused), came);
        }
        for letter in letters {
            let told = account.reports(letter, world, &post);
            account.letter(letter, &copies, told > 0);
            account.aside(letter, &copies, world);
            account.sums.accepted += told;
        }
        account.sums.delivered = letters_in(world, "new") + post.len();
        account.sums.transmitted = copies.keys().filter(|(_, to)| !to.ends_with(HERE)).count();
        account
    }

    /// Counts the letters in the Maildirs: a file has the same name each time, and so none can be there twice.
    fn mailboxes(
        &mut self,
        world: &World,
        known: &HashMap<&str, &Letter>,
        copies: &mut HashMap<Errand, usize>,
    ) {
        for mailbox in MAILBOXES {
            for octets in world.letters(mailbox) {
                let Some(letter) = self.is_whole(&octets, known, true) else {
                    continue;
                };
                let times = copies.entry((letter.sender(), mailbox.to_owned())).or_default();
                *times += 1;
                if *times > 1 {
                    self.wrong.push(format!("{} is in {mailbox} twice", letter.token));
                }
            }
        }
    }

    /// Counts what a next hop took. Between two crashes nothing goes twice that is not excused; behind one, only what was
    /// not settled.
    fn hop(
        &mut self,
        (number, hop): (usize, &Sink),
        known: &HashMap<&str, &Letter>,
        (crashes, excused): (&[Crash], &HashSet<Errand>),
        (copies, post): (&mut HashMap<Errand, usize>, &mut Post),
    ) {
        let mut before: HashSet<(usize, Errand, Vec<u8>)> = HashSet::new();
        hop.look(|seen| {
            for (place, message) in seen.messages.iter().enumerate() {
                let (takers, is_lmtp) = (message.taken_for(), !message.delivered.is_empty());
                if takers.is_empty() {
                    continue;
                }
                // One sender may be told of several things.
                let (sender, told) = if is_lmtp && message.reverse_path.is_empty() {
                    (REPORTER.to_owned(), message.content.clone())
                } else if let Some(letter) = self.is_whole(&message.content, known, false) {
                    (letter.sender(), Vec::new())
                } else {
                    continue;
                };
                let life = life(crashes, number, place);
                for to in takers {
                    let errand = (sender.clone(), to.clone());
                    let is_first = before.insert((life, errand.clone(), told.clone()));
                    if !is_first && !excused.contains(&errand) {
                        self.wrong
                            .push(format!("{errand:?} was sent twice without a crash"));
                    }
                    let was_posted = is_lmtp && !post.insert((errand.clone(), told.clone()));
                    let was_sent = is_first && (was_posted || copies.contains_key(&errand));
                    if was_sent && life > 0 && !crashes[life - 1].allows(&errand) {
                        self.wrong.push(format!(
                            "{errand:?} was sent again, and had been settled before the crash"
                        ));
                    }
                    match told.is_empty() {
                        true => *copies.entry(errand).or_default() += 1,
                        false => self.doubled += usize::from(was_posted),
                    }
                }
            }
        });
    }

    /// The letter that these octets are, if they end as it does; what we put on top does not matter.
    fn is_whole<'l>(
        &mut self,
        octets: &[u8],
        known: &HashMap<&str, &'l Letter>,
        has_bare_lines: bool,
    ) -> Option<&'l Letter> {
        let letter = token(octets).and_then(|token| known.get(token.as_str()).copied());
        let is_whole = letter.is_some_and(|letter| {
            let mut content = letter.content();
            if has_bare_lines {
                content.retain(|octet| *octet != b'\r');
            }
            octets.ends_with(&content)
        });
        if !is_whole {
            let seen = String::from_utf8_lossy(&octets[..octets.len().min(500)]);
            self.wrong
                .push(format!("something arrived that nobody sent: {seen}"));
        }
        letter.filter(|_| is_whole)
    }

    /// Whether a letter is where it has to be, and nowhere else. One that was not acknowledged is taken as a whole, or
    /// not at all; if its sender was told of it, it was taken.
    fn letter(&mut self, letter: &Letter, copies: &HashMap<Errand, usize>, is_told_of: bool) {
        let times = |to: &str| copies.get(&(letter.sender(), to.to_owned()));
        let has_come = letter.reached().iter().any(|to| times(to).is_some());
        let is_taken = letter.acknowledged || has_come || is_told_of || letter.removed;
        if is_taken {
            self.sums.take(letter);
        }
        if is_taken && !letter.removed && !letter.removed().is_empty() {
            self.lost
                .push(format!("{letter:?} was not there for the operator to remove"));
        }
        for to in letter.reached() {
            match times(to) {
                None if is_taken => self.lost.push(format!("{letter:?} did not reach {to}")),
                None | Some(1) => {}
                Some(_) => self.doubled += 1,
            }
        }
        for to in [letter.refused(), letter.dead(), letter.removed()].concat() {
            if times(to).is_some() {
                self.wrong
                    .push(format!("{letter:?} reached {to}, and should not have"));
            }
        }
    }

    /// Whether what was spoiled of a letter is in the queue, held, with all of its content, and has come to nobody.
    fn aside(&mut self, letter: &Letter, copies: &HashMap<Errand, usize>, world: &World) {
        let held = letter.held();
        if held.is_empty() {
            return;
        }
        for to in &held {
            if copies.contains_key(&(letter.sender(), (*to).to_owned())) {
                self.wrong
                    .push(format!("{letter:?} reached {to}, although it was damaged"));
            }
        }
        let (recipients, content) = put_aside(world, &letter.sender());
        if recipients != held.len() {
            let of = held.len();
            self.lost.push(format!(
                "{letter:?}: of {of} who do not get it {recipients} are held"
            ));
        }
        if !content.ends_with(&letter.content()) {
            self.lost
                .push(format!("{letter:?} is held, and its content is not whole"));
        }
    }

    /// Whether the sender has heard what it has to hear, once; how many reports it got.
    fn reports(&mut self, letter: &Letter, world: &World, post: &Post) -> usize {
        let mut told: HashMap<(String, News), usize> = HashMap::new();
        let mut reports = world.letters(&letter.sender());
        let to_sender = (REPORTER.to_owned(), letter.sender());
        let by_lmtp = post.iter().filter(|(errand, _)| *errand == to_sender);
        reports.extend(by_lmtp.map(|(_, report)| report.clone()));
        for octets in &reports {
            let text = String::from_utf8_lossy(octets);
            let mut to = "";
            for line in text.lines() {
                if let Some(recipient) = line.strip_prefix("Final-Recipient: rfc822; ") {
                    to = recipient;
                }
                if let Some(action) = line.strip_prefix("Action: ") {
                    *told.entry((to.to_owned(), News::of(action))).or_default() += 1;
                }
            }
        }
        for (news, recipients) in [
            (News::Failed, letter.refused()),
            (News::Reached, letter.confirmed()),
        ] {
            for to in recipients {
                if letter.acknowledged && !told.contains_key(&(to.to_owned(), news)) {
                    self.lost
                        .push(format!("{letter:?}: nobody was told of {to}: {news:?}"));
                }
            }
        }
        for ((to, news), times) in told {
            let is_due = match news {
                News::Failed => letter.refused().contains(&&*to),
                News::Reached => letter.confirmed().contains(&&*to),
                // Who waits for a crash to be over may have to wait long.
                News::Delayed => true,
            };
            if times > 1 || !is_due {
                let wrong = format!("{letter:?}: it was told {times} times of {to}: {news:?}");
                self.wrong.push(wrong);
            }
        }
        reports.len()
    }
}

/// How many recipients of the message from this sender are held, and its content.
fn put_aside(world: &World, sender: &str) -> (usize, Vec<u8>) {
    let db = Connection::open(world.spool().join("queue.db")).unwrap();
    let sql = "SELECT (SELECT count(*) FROM recipient r WHERE r.message = m.id AND r.state = 5), m.file, c.bytes \
               FROM message m LEFT JOIN content c ON c.message = m.id WHERE m.reverse_path = ? AND m.left_at IS NULL";
    let mut query = db.prepare(sql).unwrap();
    let mut rows = query.query([sender]).unwrap();
    let Some(row) = rows.next().unwrap() else {
        return (0, Vec::new());
    };
    let (file, bytes): (Option<String>, Option<Vec<u8>>) = (row.get(1).unwrap(), row.get(2).unwrap());
    let content = match file {
        Some(file) => fs::read(world.spool().join("content").join(file)).unwrap_or_default(),
        None => bytes.unwrap_or_default(),
    };
    (row.get(0).unwrap(), content)
}

/// Behind how many crashes next hop `number` was given its message in this place.
pub fn life(crashes: &[Crash], number: usize, place: usize) -> usize {
    let before = crashes.iter().filter(|crash| crash.given[number] <= place);
    before.count()
}

/// What a report says of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum News {
    Failed,
    Delayed,
    Reached,
}

impl News {
    fn of(action: &str) -> News {
        match action {
            "failed" => News::Failed,
            "delayed" => News::Delayed,
            _ => News::Reached,
        }
    }
}

/// The token in the header of a letter.
pub fn token(octets: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&octets[..octets.len().min(4096)]);
    text.lines()
        .find_map(|line| line.strip_prefix(TOKEN).map(str::to_owned))
}

/// The files that are still in the `tmp` of some Maildir.
pub fn unfinished_letters(world: &World) -> usize {
    letters_in(world, "tmp")
}

/// The files in this folder of all Maildirs.
fn letters_in(world: &World, folder: &str) -> usize {
    let domains = files(&world.spool().join("mail"));
    let mailboxes = domains.iter().flat_map(|domain| files(domain));
    mailboxes.map(|mailbox| files(&mailbox.join(folder)).len()).sum()
}
