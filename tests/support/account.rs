//! What became of a load, by what lies in the Maildirs and what the next hops were given: what was lost, what came twice,
//! and whether it might.
//!
//! Only what was sent before a crash and was not settled then may come again.

#![allow(dead_code)] // each test uses what it needs

use std::collections::{HashMap, HashSet};
use std::fs;

use rusqlite::Connection;

use super::load::{ALIAS, Letter, TOKEN};
use super::sink::Sink;
use super::world::{PATIENCE, World, files};

/// Mailboxes that letters are for.
const MAILBOXES: [&str; 2] = ["jdoe@mta.test", "amy@mta.test"];

/// A recipient of a letter: its sender, which is a name for it, and whom it is for.
pub type Errand = (String, String);

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
        let sql = "SELECT m.reverse_path, r.path FROM recipient r JOIN message m ON m.id = r.message \
                   WHERE r.state < 4";
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
    /// Recipients to whom a letter came more than once, as it may.
    pub doubled: usize,
    /// What came, and may not have come; or came otherwise than it was sent.
    pub wrong: Vec<String>,
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
        for (number, hop) in hops.iter().enumerate() {
            account.hop((number, hop), &known, (crashes, excused), &mut copies);
        }
        for letter in letters {
            account.letter(letter, &copies);
            account.reports(letter, world);
        }
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
        copies: &mut HashMap<Errand, usize>,
    ) {
        let taken: Vec<_> = hop.look(|seen| {
            let messages = seen.messages.iter().enumerate();
            let taken = messages.filter(|(_, message)| message.is_accepted());
            taken
                .map(|(place, message)| (place, message.recipients.clone(), message.content.clone()))
                .collect()
        });
        let mut before: HashSet<(usize, Errand)> = HashSet::new();
        for (place, recipients, content) in taken {
            let Some(letter) = self.is_whole(&content, known, false) else {
                continue;
            };
            let life = life(crashes, number, place);
            for to in recipients {
                let errand = (letter.sender(), to);
                if !before.insert((life, errand.clone())) && !excused.contains(&errand) {
                    self.wrong
                        .push(format!("{errand:?} was sent twice without a crash"));
                }
                let was_sent = copies.contains_key(&errand);
                if was_sent && life > 0 && !crashes[life - 1].allows(&errand) {
                    self.wrong.push(format!(
                        "{errand:?} was sent again, and had been settled before the crash"
                    ));
                }
                *copies.entry(errand).or_default() += 1;
            }
        }
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
    /// not at all.
    fn letter(&mut self, letter: &Letter, copies: &HashMap<Errand, usize>) {
        let times = |to: &str| copies.get(&(letter.sender(), to.to_owned()));
        let is_taken = letter.acknowledged || letter.reached().iter().any(|to| times(to).is_some());
        for to in letter.reached() {
            match times(to) {
                None if is_taken => self.lost.push(format!("{letter:?} did not reach {to}")),
                None | Some(1) => {}
                Some(_) => self.doubled += 1,
            }
        }
        for to in letter.refused() {
            if times(to).is_some() {
                self.wrong
                    .push(format!("{letter:?} reached {to}, which had refused it"));
            }
        }
    }

    /// Whether the sender has heard what it has to hear, once.
    fn reports(&mut self, letter: &Letter, world: &World) {
        let mut told: HashMap<(String, News), usize> = HashMap::new();
        for octets in world.letters(&letter.sender()) {
            let text = String::from_utf8_lossy(&octets);
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
    }
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
    let domains = files(&world.spool().join("mail"));
    let mailboxes = domains.iter().flat_map(|domain| files(domain));
    mailboxes.map(|mailbox| files(&mailbox.join("tmp")).len()).sum()
}
