//! Letters that a next hop took twice though no crash lies between: what is known of each, gathered while it is fresh,
//! and whether the MTA has said why it had to be.
//!
//! One word excuses a double: that of the log, between the two times, that all of the message had been sent and no answer
//! had come (RFC 5321 4.5.3.2.6). A host that hung may read the message long after that.

#![allow(dead_code)] // each test uses what it needs

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

use smtpmta::clock::{Clock, Stamp};

use super::account::{Crash, Errand, life, token};
use super::sink::{Message, Sink};
use super::world::World;

/// What the log says of a message that it can not but send again.
const EXCUSES: [&str; 2] = ["may come twice", "waiting for the reply to end of DATA"];

/// How many warnings and errors are shown.
const ALARMS: usize = 100;

/// How much of what befell the MTA is remembered.
const EVENTS: usize = 20;

/// Looks at what next hops take, and remembers what befalls the MTA.
#[derive(Default)]
pub struct Watch {
    events: VecDeque<String>,
    /// How far each next hop has been looked at.
    looked_at: Vec<LookedAt>,
    /// By which next hop each errand was done in each life, and in which place.
    done: HashMap<(Errand, usize), (usize, usize)>,
    /// What came twice.
    pub doubles: Vec<Double>,
}

/// How far a next hop has been looked at.
#[derive(Default)]
struct LookedAt {
    /// So many of its messages have been seen.
    upto: usize,
    /// Those among them, by their places, that had no answer then: it may hang.
    open: Vec<usize>,
}

/// One of the times that a letter came, with moments as the log has them.
struct Sending {
    /// When the host was ready for its content.
    begun: String,
    /// When the host had read all of it.
    arrived: String,
    how: String,
}

/// A letter that came twice to somebody.
#[derive(Debug)]
pub struct Double {
    /// Which, and to whom.
    pub errand: Errand,
    /// The line of the log that excuses it.
    pub excuse: Option<String>,
    /// All that is known of it.
    story: Vec<String>,
}

impl Watch {
    /// This is about to befall the MTA.
    pub fn note(&mut self, what: impl fmt::Display) {
        self.events
            .push_back(format!("{} {what}", Clock::System.now().to_log()));
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    /// Looks at what has been taken since the last time.
    pub fn look(&mut self, world: &World, hops: &[Sink], crashes: &[Crash]) {
        self.looked_at.resize_with(hops.len(), LookedAt::default);
        for (number, hop) in hops.iter().enumerate() {
            let LookedAt { upto, open } = std::mem::take(&mut self.looked_at[number]);
            let (looked_at, taken) = hop.look(|seen| {
                let is_open = |place: &usize| {
                    let message = &seen.messages[*place];
                    message.reply.is_none() && seen.sessions.get(message.session).is_some_and(|s| !s.ended)
                };
                let places = open.into_iter().chain(upto..seen.messages.len());
                let (open, answered): (Vec<usize>, Vec<usize>) = places.partition(is_open);
                let mut taken: Vec<(usize, Errand, String)> = Vec::new();
                for place in answered {
                    let message = &seen.messages[place];
                    if message.is_accepted() {
                        let errands = message.recipients.iter().map(|to| errand(message, to));
                        taken.extend(errands.map(|errand| (place, errand, id(message))));
                    }
                }
                let upto = seen.messages.len();
                (LookedAt { upto, open }, taken)
            });
            self.looked_at[number] = looked_at;
            for (place, errand, id) in taken {
                let life = life(crashes, number, place);
                let before = self.done.insert((errand.clone(), life), (number, place));
                if let Some(before) = before {
                    let mut sendings = [before, (number, place)].map(|(hop, place)| {
                        hops[hop].look(|seen| {
                            let message = &seen.messages[place];
                            Sending {
                                begun: message.begun.to_log(),
                                arrived: message.arrived.to_log(),
                                how: format!("next hop {hop}, message {place}: {}", told(message)),
                            }
                        })
                    });
                    sendings.sort_by(|one, other| one.begun.cmp(&other.begun));
                    let double = Double::of(errand, &id, sendings, world, &self.events);
                    self.doubles.push(double);
                }
            }
        }
    }

    /// Those that are excused.
    pub fn excused(&self) -> HashSet<Errand> {
        let excused = self.doubles.iter().filter(|double| double.excuse.is_some());
        excused.map(|double| double.errand.clone()).collect()
    }
}

impl Double {
    fn of(
        errand: Errand,
        id: &str,
        [first, again]: [Sending; 2],
        world: &World,
        events: &VecDeque<String>,
    ) -> Double {
        let log = world.said_of(id);
        let is_between = |line: &str| first.begun.as_str() <= line && line <= again.arrived.as_str();
        let is_excuse = |line: &&String| is_between(line) && EXCUSES.iter().any(|words| line.contains(words));
        let number = i64::from_str_radix(id, 16).unwrap_or(0);
        let history = format!("SELECT at, event, recipient, text FROM history WHERE message = {number}");
        let history = world.query(&history).unwrap_or_else(|error| error.to_string());
        let mut story = vec![first.how.clone(), again.how.clone()];
        story.push("- its history, as far as it is not forgotten:".to_owned());
        story.extend(history.lines().map(str::to_owned));
        story.push("- the log:".to_owned());
        story.extend(log.iter().cloned());
        story.push("- what befell the MTA:".to_owned());
        story.extend(events.iter().cloned());
        story.push("- its warnings and errors meanwhile:".to_owned());
        let is_alarm = |line: &&String| line.contains(" WARN ") || line.contains(" ERROR ");
        let alarms = world.said_of("");
        let alarms = alarms.iter().filter(is_alarm).filter(|line| is_between(line));
        story.extend(alarms.take(ALARMS).cloned());
        Double {
            excuse: log.iter().find(is_excuse).cloned(),
            errand,
            story,
        }
    }
}

impl fmt::Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, to) = &self.errand;
        writeln!(f, "{letter} came twice to {to}:")?;
        self.story.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

fn errand(message: &Message, to: &str) -> Errand {
    let token = token(&message.content).unwrap_or_default();
    (format!("{token}@mta.test"), to.to_owned())
}

/// The ID that our Received line names.
fn id(message: &Message) -> String {
    let text = String::from_utf8_lossy(&message.content[..message.content.len().min(4096)]);
    let id = text.split(" id ").nth(1).unwrap_or_default();
    id.chars().take_while(char::is_ascii_hexdigit).collect()
}

fn told(message: &Message) -> String {
    format!(
        "session {}, it began at {}, its end came at {}, answered at {} with {:?}",
        message.session,
        message.begun.to_log(),
        message.arrived.to_log(),
        message.answered.map(Stamp::to_log).unwrap_or_default(),
        message.reply.as_deref().unwrap_or_default()
    )
}
