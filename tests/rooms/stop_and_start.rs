//! Stopping and starting, in whatever the MTA is at: in every phase of a session on both sides, again and again while
//! mail flows, and its parts in every order, one after the other or by turns. It always ends within ten seconds, nothing
//! that was acknowledged is lost, and nothing arrives twice but what promise 3 allows: a message whose final dot was sent
//! and not answered.
//!
//! `cargo test` repeats each a few times. The whole, 200 stops, 1000 refreshes, every order of the parts and many rows of
//! orders to them:
//!
//! ```text
//! SMTPMTA_FULL=1 cargo test --test all stop_and_start -- --nocapture
//! ```

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SIGHUP, SIGTERM};
use rusqlite::Connection;
use smtpmta::sink::settings::{Settings, Tls};

use crate::support::chance::Chance;
use crate::support::client::{Client, letter, stuffed};
use crate::support::shim::{Fault, SYNC, WRITE};
use crate::support::sink::{Sink, Stage, State};
use crate::support::submission::{
    ACCOUNTS, LOGGED_IN, PASSWORD, Port, USER, address, plain, world, world_without_mta,
};
use crate::support::traffic::{Account, Fate, Load, next_hop, times, under_load};
use crate::support::world::{PATIENCE, World, eventually};

/// A stop takes no longer, whoever hangs.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Clients that bring mail meanwhile.
const CLIENTS: usize = 4;

/// Messages that are acknowledged before the next thing is done.
const BETWEEN: usize = 10;

/// So long, and a little longer, a stop waits for sessions.
const PATIENCE_OF_A_STOP: Duration = Duration::from_millis(6200);

/// Messages of which a session can not have the outcomes of all on their way to the disk.
const MANY: usize = 30;

/// Outcomes that it has on their way there at most.
const UNRECORDED: usize = 16;

/// How we log in at a next hop that wants it: name and password.
const LOGIN: (&str, &str) = ("me", "sesame");

/// What a message received is answered with.
const RECEIVED: &str = "250 2.6.0 Message received OK. ";

#[track_caller]
fn is_stopped((status, took): (Option<i32>, Duration), when: &str) {
    assert_eq!(status, Some(0), "{when}");
    is_in_time(took, when);
}

#[track_caller]
fn is_in_time(took: Duration, what: &str) {
    assert!(took < STOP_WITHIN, "{what}: {took:?}");
}

/// Waits until nothing is left to be done.
#[track_caller]
fn drain(world: &World) {
    world.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
    assert_eq!(world.sql("PRAGMA integrity_check"), "ok");
    world.wait_for_sql("SELECT count(*) FROM domain_lists", "0");
}

/// Where a client is when the MTA is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It was greeted, and has said nothing.
    Connected,
    Greeted,
    Mail,
    Rcpt,
    /// In the middle of the content.
    Content,
    /// All has come but the final dot, which never does.
    BeforeTheDot,
    /// The final dot comes when the MTA is stopping.
    FinishesData,
    /// In the middle of a chunk.
    Chunk,
    /// One chunk has come, and not the last one.
    BetweenChunks,
    /// The last chunk comes when the MTA is stopping.
    FinishesChunks,
    /// It has its 250.
    Acknowledged,
    /// It has its 250, and has begun the next message.
    NextMessage,
    /// TLS was granted, and no handshake comes.
    Handshake,
    /// In TLS, and no EHLO comes.
    InTls,
    /// A password was asked for.
    Challenge,
    LoggedIn,
    /// In TLS, in the middle of the content.
    ContentInTls,
    /// In TLS, and the final dot comes when the MTA is stopping.
    FinishesInTls,
    /// In TLS, and it has its 250.
    AcknowledgedInTls,
}

impl Phase {
    const ALL: [Phase; 19] = [
        Phase::Connected,
        Phase::Greeted,
        Phase::Mail,
        Phase::Rcpt,
        Phase::Content,
        Phase::BeforeTheDot,
        Phase::FinishesData,
        Phase::Chunk,
        Phase::BetweenChunks,
        Phase::FinishesChunks,
        Phase::Acknowledged,
        Phase::NextMessage,
        Phase::Handshake,
        Phase::InTls,
        Phase::Challenge,
        Phase::LoggedIn,
        Phase::ContentInTls,
        Phase::FinishesInTls,
        Phase::AcknowledgedInTls,
    ];

    /// The recipient by which its message is known.
    fn to(self) -> String {
        format!("{self:?}@ibm.com").to_lowercase()
    }

    /// Whether the end of its message comes when the MTA is stopping.
    fn finishes(self) -> bool {
        let last = [Phase::FinishesData, Phase::FinishesChunks, Phase::FinishesInTls];
        last.contains(&self)
    }

    /// Whether its message is acknowledged at last.
    fn arrives(self) -> bool {
        let first = [Phase::Acknowledged, Phase::NextMessage, Phase::AcknowledgedInTls];
        self.finishes() || first.contains(&self)
    }

    /// A client that has come so far, with a message for `to`.
    #[track_caller]
    fn reach(self, world: &World, to: &str) -> Client {
        let smtp = address(world, Port::Smtp);
        match self {
            Phase::Connected => {
                let mut client = Client::connect(smtp);
                eventually("the greeting", || match client.hears_nothing() {
                    true => Err("nothing"),
                    false => Ok(()),
                });
                return client;
            }
            Phase::Handshake => {
                let mut client = Client::try_greet(smtp).unwrap();
                assert!(client.say("STARTTLS").starts_with("220 "));
                return client;
            }
            Phase::InTls => return Client::try_greet(smtp).unwrap().start_tls(),
            Phase::Challenge => {
                let mut client = Client::secure(world, Port::Submission);
                assert!(client.say("AUTH LOGIN").starts_with("334 "));
                return client;
            }
            Phase::LoggedIn => {
                let mut client = Client::secure(world, Port::Submissions);
                let login = format!("AUTH PLAIN {}", plain(USER, PASSWORD));
                assert_eq!(client.say(&login), LOGGED_IN);
                return client;
            }
            _ => {}
        }
        let mut client = match self {
            Phase::ContentInTls | Phase::FinishesInTls | Phase::AcknowledgedInTls => {
                Client::secure(world, Port::Smtp)
            }
            _ => Client::try_greet(smtp).unwrap(),
        };
        let (mail, rcpt) = ("MAIL FROM:<bsmith@univac.com>", format!("RCPT TO:<{to}>"));
        let mut say = |words: &str, code: &str| {
            let reply = client.say(words);
            assert!(reply.starts_with(code), "{self:?}: {words}: {reply}");
        };
        if self == Phase::Greeted {
            return client;
        }
        say(mail, "250 ");
        if self == Phase::Mail {
            return client;
        }
        say(&rcpt, "250 ");
        if self == Phase::Rcpt {
            return client;
        }
        let content = letter(to);
        let (first, rest) = content.split_at(content.len() / 2);
        match self {
            Phase::Content | Phase::ContentInTls => {
                say("DATA", "354 ");
                client.send(first).unwrap();
            }
            Phase::BeforeTheDot | Phase::FinishesData | Phase::FinishesInTls => {
                say("DATA", "354 ");
                client.send(&content).unwrap();
            }
            Phase::Chunk => {
                let begun = [format!("BDAT {} LAST\r\n", content.len()).as_bytes(), first].concat();
                client.send(&begun).unwrap();
            }
            Phase::BetweenChunks | Phase::FinishesChunks => {
                let mut begun = [format!("BDAT {}\r\n", first.len()).as_bytes(), first].concat();
                if self == Phase::FinishesChunks {
                    // In one write with the chunk before it: whoever has answered that has read this.
                    begun.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
                    begun.push(rest[0]);
                }
                client.send(&begun).unwrap();
                assert!(client.reply().starts_with("250 "), "{self:?}");
            }
            Phase::Acknowledged | Phase::NextMessage | Phase::AcknowledgedInTls => {
                say("DATA", "354 ");
                client.send(&stuffed(&content)).unwrap();
                assert!(client.reply().starts_with(RECEIVED), "{self:?}");
                if self == Phase::NextMessage {
                    say_more(&mut client, mail);
                }
            }
            other => unreachable!("{other:?}"),
        }
        client
    }

    /// What it still says when the MTA is stopping.
    fn finish(self, client: &mut Client, to: &str) {
        let content = letter(to);
        match self {
            Phase::FinishesData | Phase::FinishesInTls => client.send(b".\r\n").unwrap(),
            Phase::FinishesChunks => client.send(&content[content.len() / 2 + 1..]).unwrap(),
            _ => {}
        }
    }

    /// What it heard from there on is what became of its message; and whoever waits for nothing but an answer was told
    /// why there will be none.
    #[track_caller]
    fn was_told(self, heard: &[u8]) {
        let heard = String::from_utf8_lossy(heard);
        assert_eq!(
            heard.contains(RECEIVED),
            self.finishes(),
            "{self:?} heard {heard:?}"
        );
        let is_told = self != Phase::Handshake;
        assert!(!is_told || heard.contains("421 "), "{self:?} heard {heard:?}");
    }
}

#[track_caller]
fn say_more(client: &mut Client, words: &str) {
    let reply = client.say(words);
    assert!(reply.starts_with("250 "), "{words}: {reply}");
}

/// Stops the MTA while clients are in these phases, starts it again, and looks what has arrived.
fn stop_in(phases: &[Phase]) {
    let sink = Sink::start();
    let relay_host = sink.address().to_string();
    let mut world = world(&["--relay-host", &relay_host], ACCOUNTS);
    let reach = |phase: &Phase| (*phase, phase.reach(&world, &phase.to()));
    let mut clients: Vec<(Phase, Client)> = phases.iter().map(reach).collect();
    let mut heard = Vec::new();
    is_stopped(
        world.end(|mta| {
            mta.signal(SIGTERM);
            mta.wait_for_line("SMTPMTA smtpmta Stopping");
            for (phase, client) in &mut clients {
                phase.finish(client, &phase.to());
            }
            // All at once, for nobody must have to wait for another to be heard.
            for (phase, client) in clients {
                heard.push((phase, client.hear_out()));
            }
        }),
        &format!("{phases:?}"),
    );
    for (phase, rest) in &heard {
        phase.was_told(rest);
    }
    world.start();
    drain(&world);
    let arrived = Account::arrived(&sink);
    for phase in phases {
        let times = arrived.get(&phase.to()).copied().unwrap_or(0);
        assert_eq!(times, usize::from(phase.arrives()), "{phase:?}");
    }
}

#[test]
fn sigterm_ends_the_mta_with_a_client_in_every_phase_and_what_they_were_told_is_true() {
    stop_in(&Phase::ALL);
}

#[test]
fn sigterm_ends_the_mta_with_a_client_in_each_phase_alone() {
    // Who says nothing costs no time, so that a few of these are cheap; the others take the whole grace.
    let few = [Phase::Greeted, Phase::FinishesData, Phase::Handshake];
    let phases = match times(0, 1) {
        0 => &few[..],
        _ => &Phase::ALL[..],
    };
    phases.iter().for_each(|phase| stop_in(&[*phase]));
}

#[test]
fn sigterm_while_a_commit_is_held_up_leaves_no_client_without_a_true_answer() {
    let sink = Sink::start();
    let mut world = World::load(&["--relay-host", &sink.address().to_string()]);
    let mut client = Client::of(&world);
    let to = "waits@ibm.com";
    let commands = format!("MAIL FROM:<bsmith@univac.com>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
    client.send(commands.as_bytes()).unwrap();
    (0..3).for_each(|_| _ = client.reply());
    // Another program writes, and so the commit has to wait.
    let other = Connection::open(world.spool().join("queue.db")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    client.send(&stuffed(&letter(to))).unwrap();
    let mut reply = String::new();
    is_stopped(
        world.end(|mta| {
            mta.signal(SIGTERM);
            mta.wait_for_line("SMTPMTA smtpmta Stopping");
            assert!(client.hears_nothing());
            other.execute_batch("COMMIT").unwrap();
            reply = client.reply();
        }),
        "a commit is held up",
    );
    assert!(reply.starts_with(RECEIVED), "{reply}");
    drop(other);
    world.start();
    drain(&world);
    assert_eq!(Account::arrived(&sink).get(to), Some(&1));
}

/// Where a session with a next hop is left hanging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    stage: Stage,
    in_tls: bool,
}

impl Spot {
    /// Each stage, and the end of a message in TLS, too.
    const ALL: [Spot; Stage::ALL.len() + 1] = {
        let last = Spot {
            stage: Stage::Dot,
            in_tls: true,
        };
        let mut all = [last; Stage::ALL.len() + 1];
        let mut place = 0;
        while place < Stage::ALL.len() {
            all[place] = Spot::at(Stage::ALL[place]);
            place += 1;
        }
        all
    };

    /// At this stage, in the clear where that is possible.
    const fn at(stage: Stage) -> Spot {
        Spot {
            stage,
            in_tls: matches!(stage, Stage::Auth),
        }
    }

    /// A next hop that leads a session there, and leaves it alone.
    fn sink(self) -> Sink {
        let mut settings = Settings {
            offers: ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"]
                .map(str::to_owned)
                .to_vec(),
            max_sessions: 1000,
            ..Settings::default()
        };
        match self.stage {
            Stage::Bdat | Stage::Rset => settings.offers.push("CHUNKING".to_owned()),
            Stage::Auth => settings.login = Some((LOGIN.0.to_owned(), LOGIN.1.to_owned())),
            _ => {}
        }
        if self.in_tls || matches!(self.stage, Stage::Starttls | Stage::Handshake) {
            settings.tls = Tls::Offered;
        }
        let sink = Sink::with("127.0.0.1:0", settings).unwrap();
        hang(&sink, self.stage);
        sink
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stage, if self.in_tls { "-in-tls" } else { "" })
    }
}

/// A next hop that leads a session to `stage`, and there leaves it alone.
fn hanging_at(stage: Stage) -> Sink {
    Spot::at(stage).sink()
}

/// From now on it does so.
fn hang(sink: &Sink, stage: Stage) {
    match stage {
        Stage::Helo => sink.on(Stage::Ehlo, "502 5.5.1 no"),
        // Whatever became of the chunk without a recipient: RSET stands between it and the next message.
        Stage::Rset => sink.order("rcpt[first*]=450 4.2.1 later"),
        _ => {}
    }
    sink.hang_at(stage);
}

/// A next hop with a domain of its own that leaves sessions hanging.
struct Hanging {
    spot: Spot,
    sink: Sink,
    /// Whom letters were brought for.
    to: Vec<String>,
}

impl Hanging {
    /// One for each spot.
    fn at_all_spots() -> Vec<Hanging> {
        let at = |spot: Spot| Hanging {
            spot,
            sink: spot.sink(),
            to: Vec::new(),
        };
        Spot::ALL.map(at).into()
    }

    /// From its next start on the MTA of `world` reaches them all.
    fn are_reached_by(hops: &[Hanging], world: &mut World) {
        world.flag("--retry-schedule", "1s");
        let mut logins = String::new();
        for hop in hops {
            let address = hop.sink.address();
            world.flag("--route", &format!("{}={address}", hop.domain()));
            if hop.spot.stage == Stage::Auth {
                logins += &format!("{address} {}:{}\n", LOGIN.0, LOGIN.1);
            }
        }
        let file = world.write("logins", logins);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        world.flag("--relay-auth", &file);
    }

    fn domain(&self) -> String {
        format!("{}.test", self.spot)
    }

    /// Brings what leads a session to its spot; `name` tells it from what was brought before.
    #[track_caller]
    fn bring(&mut self, client: &mut Client, name: &str) {
        let which: &[&str] = match self.spot.stage {
            Stage::Rset => &["first", "second"],
            _ => &["first"],
        };
        for which in which {
            let to = format!("{which}{name}@{}", self.domain());
            client.mail("bsmith@univac.com", &[&to], &letter(&to));
            self.to.push(to);
        }
    }

    /// Waits until a session has come there.
    #[track_caller]
    fn wait_for_session(&self, world: &World) {
        if self.spot.stage == Stage::Connect {
            // Nobody has answered its call.
            let waits = "SELECT count(*) > 0 FROM outbound_work_queue \
                         WHERE state = 'WQ_MSG_LOCKED_FOR_XMIT' AND recipient LIKE '%@connect.test'";
            world.wait_for_sql(waits, "1");
        } else {
            let is_there = |seen: &State| {
                let mut hang = seen.live().filter(|one| one.hangs_at == Some(self.spot.stage));
                hang.any(|one| one.tls.is_some() == self.spot.in_tls)
            };
            self.sink.wait_for(is_there, PATIENCE);
        }
    }

    /// Waits until nothing waits for it any more.
    #[track_caller]
    fn wait_until_through(&self, world: &World) {
        let waits = format!(
            "SELECT count(*) FROM outbound_work_queue WHERE recipient LIKE '%@{}'",
            self.domain()
        );
        world.wait_for_sql(&waits, "0");
    }

    /// All has arrived that was brought, and nothing twice but what may; how much that is.
    #[track_caller]
    fn has_all(&self) -> usize {
        let most = match self.spot.stage {
            // The end of the message was sent, and not answered: where the host takes in no content, the system does,
            // and behind RSET the next message came in the same write.
            Stage::Content | Stage::Dot | Stage::Bdat | Stage::Rset => 2,
            _ => 1,
        };
        let arrived = Account::arrived(&self.sink);
        assert_eq!(arrived.len(), self.to.len(), "{}: {arrived:?}", self.spot);
        assert!(
            arrived.values().all(|times| (1..=most).contains(times)),
            "{}: {arrived:?}",
            self.spot
        );
        arrived.values().filter(|times| **times > 1).count()
    }
}

#[test]
fn sigterm_ends_the_mta_with_a_session_that_hangs_at_every_stage_and_nothing_is_sent_twice_but_what_may_be() {
    let mut hops = Hanging::at_all_spots();
    let good = Sink::start();
    let mut world = World::without_mta(&["--route", &format!("good.test={}", good.address())]);
    Hanging::are_reached_by(&hops, &mut world);
    world.start();
    world.tell("stop outbound transport");
    let mut client = Client::of(&world);
    hops.iter_mut().for_each(|hop| hop.bring(&mut client, ""));
    world.tell("start outbound transport");
    hops.iter().for_each(|hop| hop.wait_for_session(&world));
    // And one that is through with its message, and lingers.
    let to = "first@good.test";
    client.mail("bsmith@univac.com", &[to], &letter(to));
    good.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    is_stopped(world.terminate(), "sessions hang");

    // What hung goes on, for nobody.
    hops.iter().for_each(|hop| hop.sink.behave());
    world.start();
    drain(&world);
    hops.iter().for_each(|hop| _ = hop.has_all());
    assert_eq!(Account::arrived(&good).get(to), Some(&1));
    let waited = "SELECT count(*) FROM history WHERE event = 'given up'";
    assert_eq!(world.sql(waited), "0");
}

#[test]
fn a_message_that_is_begun_in_the_moment_of_a_stop_is_brought_to_its_end_and_not_sent_twice() {
    let (sink, other) = (hanging_at(Stage::Ehlo), hanging_at(Stage::Ehlo));
    let mut world = World::without_mta(&[]);
    for (domain, sink) in [("ibm.com", &sink), ("lotus.com", &other)] {
        world.flag("--route", &format!("{domain}={}", sink.address()));
    }
    let faults = world.faults();
    world.start();
    let mut client = Client::of(&world);
    let to = "first@ibm.com";
    for (to, sink) in [(to, &sink), ("other@lotus.com", &other)] {
        client.mail("bsmith@univac.com", &[to], &letter(to));
        sink.wait_for(|seen| seen.hangs_at(Stage::Ehlo), PATIENCE);
    }
    // The handler has waited for its host so far. It says MAIL, RCPT and DATA, and hears of nothing while the stop comes.
    faults.order(&[Fault::held(WRITE).on("socket:[").times(1)]);
    let turns = sink.look(|seen| seen.sessions[0].turns);
    sink.release();
    sink.wait_for(|seen| seen.sessions[0].turns > turns + 1, PATIENCE);
    let ended = world.end(|mta| {
        mta.signal(SIGTERM);
        // Those that wait for their hosts have been woken.
        other.wait_for(|seen| seen.live().count() == 0, PATIENCE);
        faults.behave();
    });
    is_stopped(ended, "a message has just been begun");
    assert_eq!(Account::arrived(&sink).get(to), Some(&1));
    other.release();
    world.start();
    drain(&world);
    for (to, sink) in [(to, &sink), ("other@lotus.com", &other)] {
        assert_eq!(Account::arrived(sink).get(to), Some(&1), "{to}");
    }
}

/// A next hop that says nothing to MAIL, and waits for its client to hang up.
struct Silent(TcpListener);

impl Silent {
    fn new() -> Silent {
        Silent(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Takes a call up to MAIL.
    #[track_caller]
    fn hear_mail(&self) -> BufReader<TcpStream> {
        let mut client = BufReader::new(self.0.accept().unwrap().0);
        client.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        for (reply, command) in [("220 silent.test\r\n", "EHLO "), ("250 silent.test\r\n", "MAIL ")] {
            client.get_ref().write_all(reply.as_bytes()).unwrap();
            let mut line = String::new();
            client.read_line(&mut line).unwrap();
            assert!(line.starts_with(command), "{line}");
        }
        client
    }
}

#[test]
fn what_was_sent_is_not_sent_again_although_the_disk_hangs_for_longer_than_a_stop_waits() {
    let (sink, silent) = (hanging_at(Stage::Dot), Silent::new());
    let mut world = World::without_mta(&["--poll-interval", "1s", "--retry-schedule", "1s"]);
    for (domain, address) in [("ibm.com", sink.address()), ("lotus.com", silent.address())] {
        world.flag("--route", &format!("{domain}={address}"));
    }
    let faults = world.faults();
    world.start();
    world.tell("stop outbound transport");
    let mut client = Client::of(&world);
    let to: Vec<_> = (0..MANY).map(|number| format!("to{number}@ibm.com")).collect();
    for to in to.iter().map(String::as_str).chain(["other@lotus.com"]) {
        client.mail("bsmith@univac.com", &[to], &letter(to));
    }
    world.tell("start outbound transport");
    sink.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    let mut other = silent.hear_mail();
    // No outcome comes to the disk. The handler goes on for a while, and then waits with the next message half said.
    faults.order(&[Fault::held(SYNC).on("queue.db")]);
    sink.release();
    let said = |to: &String| format!("RCPT TO:<{to}>");
    let half_said = |seen: &State| {
        let session = &seen.sessions[0];
        let taken = seen.accepted().count();
        let next = to
            .get(taken)
            .is_some_and(|to| session.commands.contains(&said(to)));
        taken > UNRECORDED && next && session.commands.last().is_some_and(|last| last == "DATA")
    };
    sink.wait_for(half_said, PATIENCE);
    sink.order("dot#1=late:500");
    let ended = world.end(|mta| {
        mta.signal(SIGTERM);
        // At the end of its patience the stop cuts all off from their hosts. Just then the disk comes back.
        other.read_to_end(&mut Vec::new()).unwrap();
        faults.behave();
    });
    is_stopped(ended, "the disk hangs");
    // Whatever it was sent at the last it takes.
    sink.wait_for(|seen| seen.live().count() == 0, PATIENCE);
    drop(silent);
    world.start();
    eventually("all to be sent", || {
        let arrived = Account::arrived(&sink);
        if arrived.len() == MANY {
            Ok(())
        } else {
            Err(arrived)
        }
    });
    world.wait_for_sql(
        "SELECT count(*) FROM outbound_work_queue WHERE recipient LIKE '%@ibm.com'",
        "0",
    );
    assert_eq!(world.terminate().0, Some(0));
    let arrived = Account::arrived(&sink);
    assert!(arrived.values().all(|times| *times == 1), "{arrived:?}");
}

#[test]
fn an_outcome_that_the_disk_refuses_is_recorded_at_the_last_moment_of_a_stop() {
    let sink = hanging_at(Stage::Dot);
    let mut world = World::without_mta(&["--relay-host", &sink.address().to_string()]);
    let faults = world.faults();
    world.start();
    let to = "first@ibm.com";
    Client::of(&world).mail("bsmith@univac.com", &[to], &letter(to));
    sink.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    faults.order(&[Fault::of(WRITE, Errno::EIO).on("queue.db")]);
    sink.release();
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    let ended = world.end(|mta| {
        mta.signal(SIGTERM);
        // So long any session is waited for.
        let (began, struck) = (Instant::now(), faults.struck());
        eventually("the outcome to be refused again and again", || {
            let tries = faults.struck() - struck;
            if began.elapsed() > PATIENCE_OF_A_STOP && tries > 10 {
                Ok(())
            } else {
                Err(tries)
            }
        });
        faults.behave();
    });
    is_stopped(ended, "the disk refuses");
    world.start();
    drain(&world);
    assert_eq!(Account::arrived(&sink).get(to), Some(&1));
    assert_eq!(
        world.sql("SELECT count(*) FROM history WHERE event = 'recovered'"),
        "0"
    );
}

/// An MTA of which all outcomes that a session can have on their way to the disk have been refused, and the disk is well
/// again; with its next hop, and those that it has letters for.
fn with_outcomes_refused() -> (World, Sink, Vec<String>) {
    let sink = hanging_at(Stage::Dot);
    let mut world = World::without_mta(&["--relay-host", &sink.address().to_string()]);
    let faults = world.faults();
    world.start();
    world.tell("stop outbound transport");
    let mut client = Client::of(&world);
    let to: Vec<_> = (0..MANY).map(|number| format!("to{number}@ibm.com")).collect();
    for to in &to {
        client.mail("bsmith@univac.com", &[to], &letter(to));
    }
    world.tell("start outbound transport");
    sink.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    faults.order(&[Fault::of(WRITE, Errno::EIO).on("queue.db")]);
    sink.release();
    sink.wait_for(|seen| seen.accepted().count() > UNRECORDED, PATIENCE);
    eventually("outcomes that are refused", || match faults.struck() {
        struck if struck > UNRECORDED as u64 => Ok(()),
        struck => Err(struck),
    });
    faults.behave();
    (world, sink, to)
}

#[track_caller]
fn all_have_arrived_once(sink: &Sink, to: &[String]) {
    let arrived = Account::arrived(sink);
    assert_eq!(arrived.len(), to.len());
    assert!(arrived.values().all(|times| *times == 1), "{arrived:?}");
}

#[test]
fn a_stop_finds_the_time_to_record_many_outcomes_that_the_disk_has_refused() {
    let (mut world, sink, to) = with_outcomes_refused();
    is_stopped(world.terminate(), "outcomes were refused");
    assert_eq!(world.sql("SELECT count(*) FROM domain_lists"), "0");
    world.start();
    drain(&world);
    all_have_arrived_once(&sink, &to);
}

#[test]
fn outcomes_that_were_refused_together_are_recorded_together() {
    let (world, sink, to) = with_outcomes_refused();
    let began = Instant::now();
    drain(&world);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(UNRECORDED as u64 / 2), "{took:?}");
    all_have_arrived_once(&sink, &to);
}

#[test]
fn sigterm_again_and_again_while_mail_flows_loses_nothing_and_doubles_nothing_but_what_may_be() {
    let sink = next_hop();
    let mut hops = Hanging::at_all_spots();
    hops.iter().for_each(|hop| hop.sink.behave());
    let mut world = world_without_mta(&["--relay-host", &sink.address().to_string()], ACCOUNTS);
    Hanging::are_reached_by(&hops, &mut world);
    world.start();
    let mut account = Account::default();
    // Beside the load a client is in some phase at each stop, and a session hangs at some spot.
    let stops = match times(0, 200) {
        // Nobody waits for these.
        0 => vec![
            (Phase::FinishesData, Spot::at(Stage::Ehlo)),
            (Phase::NextMessage, Spot::at(Stage::Greeting)),
            (Phase::FinishesInTls, Spot::at(Stage::Auth)),
            (Phase::FinishesChunks, Spot::at(Stage::Connect)),
        ],
        many => {
            let phases = Phase::ALL.into_iter().cycle();
            phases.zip(Spot::ALL.into_iter().cycle()).take(many).collect()
        }
    };
    for (round, &(phase, spot)) in stops.iter().enumerate() {
        if round > 0 {
            world.start();
        }
        let name = round.to_string();
        let hop = hops.iter_mut().find(|hop| hop.spot == spot).unwrap();
        // Whatever hung there at an earlier stop.
        hop.wait_until_through(&world);
        hang(&hop.sink, spot.stage);
        world.tell("stop outbound transport");
        hop.bring(&mut Client::of(&world), &name);
        world.tell("start outbound transport");
        hop.wait_for_session(&world);
        let to = format!("{phase:?}.{round}@ibm.com").to_lowercase();
        let (ended, heard) = under_load(world.address(), &name, CLIENTS, &mut account, |load, account| {
            load.wait_for(account, BETWEEN);
            let mut client = phase.reach(&world, &to);
            let mut heard = Vec::new();
            let ended = world.end(|mta| {
                mta.signal(SIGTERM);
                mta.wait_for_line("SMTPMTA smtpmta Stopping");
                phase.finish(&mut client, &to);
                heard = client.hear_out();
            });
            (ended, heard)
        });
        is_stopped(ended, &format!("stop {round}: {phase:?}, {spot}"));
        phase.was_told(&heard);
        let fate = if phase.arrives() {
            Fate::Acknowledged
        } else {
            Fate::NotTaken
        };
        account.note(to, fate);
        hop.sink.behave();
        assert_eq!(world.sql("PRAGMA quick_check"), "ok");
    }
    world.start();
    drain(&world);
    account.balance(&world, &sink);
    let doubled: usize = hops.iter().map(Hanging::has_all).sum();
    println!(
        "{} stops: {} acknowledged, {} not taken, {} without an answer; none lost, {doubled} doubled whose end a next hop \
         left unanswered",
        stops.len(),
        account.acknowledged.len(),
        account.not_taken.len(),
        account.open.len()
    );
}

/// Threads and descriptors.
fn held(world: &World) -> (usize, usize) {
    (world.daemon().threads(), world.daemon().descriptors())
}

/// What an MTA holds that has nothing to do, and has no handlers: a configuration that has changed starts them anew.
#[track_caller]
fn held_at_rest(world: &World) -> (usize, usize) {
    eventually("all handlers to be gone", || {
        let tasks = world.tasks();
        if tasks.len() == 6 { Ok(()) } else { Err(tasks) }
    });
    let mut before = (0, 0);
    eventually("the MTA to be at rest", || {
        let now = held(world);
        if std::mem::replace(&mut before, now) == now {
            Ok(now)
        } else {
            Err(now)
        }
    })
}

/// What the log says of a refresh.
const REFRESHED: &str = "refresh: ";

/// The configuration of `number`: every second one differs.
fn configure(world: &World, sink: &Sink, number: usize) -> String {
    let line = format!("max-recipients {}", 500 + number % 2);
    world.configure(&format!("relay-host {}\n{line}\n", sink.address()));
    line
}

/// Sends SIGHUP, and waits until it has been obeyed.
#[track_caller]
fn refresh(world: &World, line: &str) {
    let began = Instant::now();
    world.daemon().signal(SIGHUP);
    eventually(line, || {
        let config = world.show("config");
        if config.contains(line) {
            Ok(())
        } else {
            Err(config)
        }
    });
    is_in_time(began.elapsed(), line);
}

#[test]
fn sighup_again_and_again_while_mail_flows_loses_nothing_and_leaves_nothing_behind() {
    let sink = next_hop();
    let mut world = World::without_mta(&[]);
    configure(&world, &sink, 0);
    world.start();
    let mut account = Account::default();
    let port = world.address();
    // What is only made once is there from now on.
    under_load(port, "warm", CLIENTS, &mut account, |load, account| {
        load.wait_for(account, BETWEEN)
    });
    drain(&world);
    refresh(&world, &configure(&world, &sink, 1));
    let before = held_at_rest(&world);

    // The same configuration: nobody notices.
    let many = times(10, 500);
    account.lost_sessions = 0;
    under_load(port, "same", CLIENTS, &mut account, |load, account| {
        for _ in 0..many {
            let (_, from) = world.daemon().count_said(usize::MAX, REFRESHED);
            let began = Instant::now();
            world.daemon().signal(SIGHUP);
            load.wait_for(account, 1);
            eventually("the refresh", || {
                match world.daemon().count_said(from, REFRESHED) {
                    (0, lines) => Err(lines),
                    _ => Ok(()),
                }
            });
            is_in_time(began.elapsed(), "a refresh that changes nothing");
        }
        assert_eq!(account.not_taken.len() + account.open.len(), 0);
    });
    assert_eq!(account.lost_sessions, 0);

    // Another one each time: the transports begin anew, and clients hear 421 between two messages.
    under_load(port, "other", CLIENTS, &mut account, |load, account| {
        for number in 0..many {
            refresh(&world, &configure(&world, &sink, number));
            load.wait_for(account, 1);
        }
    });
    drain(&world);
    account.balance(&world, &sink);
    refresh(&world, &configure(&world, &sink, many));
    refresh(&world, &configure(&world, &sink, many + 1));
    let after = held_at_rest(&world);
    eventually("as few threads and descriptors as before", || {
        let now = held(&world);
        if now.0 <= before.0 && now.1 <= before.1 {
            Ok(())
        } else {
            Err((now, before))
        }
    });
    println!(
        "{} refreshes: {} acknowledged, {} not taken; none lost, none doubled; threads and descriptors {before:?}, \
         then {after:?}",
        2 * many,
        account.acknowledged.len(),
        account.not_taken.len()
    );
    is_stopped(world.terminate(), "after all");
}

/// What the operator can stop and start by itself.
const PARTS: [&str; 5] = [
    "inbound transport",
    "inbound conversion",
    "outbound transport",
    "outbound conversion",
    "drtask",
];

/// The order number `number` of the parts, of 120.
fn order(mut number: usize) -> Vec<&'static str> {
    let mut left = PARTS.to_vec();
    let mut order = Vec::new();
    while !left.is_empty() {
        order.push(left.remove(number % left.len()));
        number /= left.len() + 1;
    }
    order
}

#[test]
fn the_parts_are_stopped_and_started_in_every_order_while_mail_flows() {
    let all: std::collections::HashSet<_> = (0..120).map(order).collect();
    assert_eq!(all.len(), 120);

    let sink = next_hop();
    let mut world = World::load(&["--relay-host", &sink.address().to_string()]);
    let mut account = Account::default();
    let tell = |words: &str| {
        let began = Instant::now();
        world.tell(words);
        is_in_time(began.elapsed(), words);
    };
    let rounds = times(6, 120);
    under_load(
        world.address(),
        "parts",
        CLIENTS,
        &mut account,
        |load, account| {
            for round in 0..rounds {
                // Spread over all of them, and started in an order that has nothing to do with it.
                let (stops, starts) = (order(round * 120 / rounds), order((round * 77 + 31) % 120));
                load.wait_for(account, BETWEEN);
                stops.iter().for_each(|part| tell(&format!("stop {part}")));
                eventually("all parts to be stopped", || {
                    let screen = world.show("tasks");
                    if screen.matches(" Stopped\n").count() == 5 {
                        Ok(())
                    } else {
                        Err(screen)
                    }
                });
                starts.iter().for_each(|part| tell(&format!("start {part}")));
                assert_eq!(world.show("tasks").matches("Stopped").count(), 0, "{starts:?}");
            }
            for parts in ["outbound", "inbound", ""] {
                load.wait_for(account, BETWEEN);
                tell(&format!("stop {parts}"));
                tell(&format!("start {parts}"));
            }
            load.wait_for(account, BETWEEN);
        },
    );
    drain(&world);
    account.balance(&world, &sink);
    // What the operator has stopped stays so while the MTA runs, and not longer.
    tell("stop inbound transport");
    is_stopped(world.terminate(), "a part is stopped");
    println!(
        "{rounds} orders: {} acknowledged, {} not taken; none lost, none doubled",
        account.acknowledged.len(),
        account.not_taken.len()
    );
}

/// Orders of which each is to stop or to start some part.
const ORDERS: usize = 12;

/// Gives these orders, whatever runs, then has all parts run that do not. What is said to each order is true. While clients
/// are taken they go on in between.
#[track_caller]
fn obeys(world: &World, load: &Load, account: &mut Account, orders: &[(bool, usize)], chance: &mut Chance) {
    let mut runs = [true; PARTS.len()];
    let order = |starts: bool, part: usize, runs: &mut [bool; PARTS.len()]| {
        let words = format!("{} {}", if starts { "start" } else { "stop" }, PARTS[part]);
        let began = Instant::now();
        let said = world.tell(&words);
        is_in_time(began.elapsed(), &words);
        let told = match (runs[part], starts) {
            (true, true) => said.ends_with(" is running\n"),
            (false, true) => said.ends_with(" started\n"),
            (true, false) => said.contains(" stop"),
            (false, false) => said.ends_with(" is not running\n"),
        };
        assert!(told, "{words}: {said}; these ran: {runs:?}");
        runs[part] = starts;
    };
    for (starts, part) in orders {
        order(*starts, *part, &mut runs);
        if runs[0] && chance.below(2) == 0 {
            load.wait_for(account, 1 + chance.below(BETWEEN / 2));
        }
    }
    let mut left: Vec<usize> = (0..PARTS.len()).filter(|part| !runs[*part]).collect();
    while !left.is_empty() {
        order(true, left.swap_remove(chance.below(left.len())), &mut runs);
    }
    let tasks = world.show("tasks");
    let primary = ["smtpmta", "omsgcnv", "osesctl", "isesctl", "imsgcnv", "drt"];
    let stopped = primary.iter().filter(|task| {
        let line = format!("SMTPMTA {task} ");
        let doing = tasks.lines().find_map(|said| said.strip_prefix(&line));
        doing.is_none_or(|doing| doing.starts_with("Stop"))
    });
    assert_eq!(stopped.collect::<Vec<_>>(), Vec::<&&str>::new(), "{tasks}");
}

#[test]
fn whatever_orders_the_parts_are_given_in_a_row_what_is_said_is_true_and_nothing_is_lost_or_doubled() {
    let mut chance = Chance::begin();
    let sink = next_hop();
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    let mut account = Account::default();
    let rows = times(3, 120);
    for row in 0..rows {
        let order = |_| (chance.below(2) == 1, chance.below(PARTS.len()));
        let orders: Vec<(bool, usize)> = (0..ORDERS).map(order).collect();
        let name = format!("row{row}");
        under_load(world.address(), &name, CLIENTS, &mut account, |load, account| {
            load.wait_for(account, 1);
            obeys(&world, load, account, &orders, &mut chance);
            load.wait_for(account, BETWEEN);
        });
        // All of them work: each message needs one or another of them.
        drain(&world);
        account.balance(&world, &sink);
    }
    println!(
        "{rows} rows of {ORDERS} orders of seed {}: {} acknowledged, {} not taken; none lost, none doubled",
        chance.seed(),
        account.acknowledged.len(),
        account.not_taken.len()
    );
}

#[test]
fn a_stop_does_not_wait_for_another_program_that_keeps_the_queue_locked() {
    let sink = hanging_at(Stage::Dot);
    let mut world = World::load(&["--relay-host", &sink.address().to_string()]);
    let mut client = Client::of(&world);
    let sent = ["first@ibm.com", "second@ibm.com", "third@ibm.com"];
    for (place, to) in sent.iter().enumerate() {
        client.mail("bsmith@univac.com", &[to], &letter(to));
        let hang = |seen: &State| seen.live().filter(|one| one.hangs_at == Some(Stage::Dot)).count();
        sink.wait_for(|seen| hang(seen) == place + 1, PATIENCE);
    }
    world.tell("stop inbound conversion");
    let (here, coming) = ("jdoe@mta.test", "coming@ibm.com");
    client.mail("bsmith@univac.com", &[here], &letter(here));
    let commands = format!("MAIL FROM:<bsmith@univac.com>\r\nRCPT TO:<{coming}>\r\nDATA\r\n");
    client.send(commands.as_bytes()).unwrap();
    (0..3).for_each(|_| _ = client.reply());
    let other = Connection::open(world.spool().join("queue.db")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Outcomes, a letter that is in its mailbox, and one that comes: nothing of it can be recorded.
    sink.release();
    sink.wait_for(|seen| seen.accepted().count() == sent.len(), PATIENCE);
    world.tell("start inbound conversion");
    world.wait_for_letters(here, 1);
    client.send(&stuffed(&letter(coming))).unwrap();
    let mut reply = String::new();
    let ended = world.end(|mta| {
        mta.signal(SIGTERM);
        reply = client.reply();
    });
    is_stopped(ended, "the queue is locked");
    assert!(reply.starts_with("451 4.3.0 "), "{reply}");
    drop(other);
    world.start();
    drain(&world);
    let arrived = Account::arrived(&sink);
    for to in sent {
        // That a host took it is recorded nowhere.
        assert!(matches!(arrived.get(to), Some(1 | 2)), "{to}: {arrived:?}");
    }
    assert_eq!(arrived.get(coming), None);
    assert_eq!(world.letters(here).len(), 1);
    assert_eq!(world.terminate().0, Some(0));
}
