//! The queue as a state machine: any verbs in any order, crashes among them, against a model in memory.
//!
//! After each verb the rows are those that the model holds, and every move that was made on the way is a legal one. So
//! nothing vanishes, and each end is reached once and only by what leads there.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::work_queue::id::MessageId;
use crate::work_queue::states::State;
use crate::work_queue::structure::Structure;
use audit::Audit;
use memory::{Member, Memory};

mod adversity;
mod arriving;
mod audit;
mod listing;
mod memory;
mod moving;
mod reporting;
mod settling;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a message may be tried.
const EXPIRE: Duration = DAY;

/// How long a recipient may be in somebody's hand.
const LEASE: Duration = DAY;

/// How late a message is of which its sender is told.
const LATE: Duration = Duration::from_secs(4 * 3600);

const SENDER: &str = "ann@example.org";

/// Whom messages are for. The second of each pair goes to the relay while there is one.
const PATHS: [&str; 5] = [
    "x@lotus.com",
    "y@lotus.com",
    "x@ibm.com",
    "Y@ibm.com",
    "x@dec.com",
];

const RELAYED: &str = "y@";

/// Where an operator leads mail by hand, or no longer; one of these is where it may go anyway.
const VIA: [Option<&str>; 3] = [Some("by-hand.example:25"), Some("relay.example:25"), None];

/// What a client says with NOTIFY.
const NOTIFY: [Option<&str>; 7] = [
    None,
    None,
    Some("SUCCESS"),
    Some("FAILURE"),
    Some("SUCCESS,FAILURE,DELAY"),
    Some("DELAY"),
    Some("NEVER"),
];

/// A recipient, by its message and its number.
type Place = (MessageId, u32);

/// How the time goes on.
const STEPS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_secs(1),
    Duration::from_secs(6 * 60),
    Duration::from_secs(20 * 60),
    Duration::from_secs(5 * 3600),
    DAY,
    Duration::from_secs(26 * 3600),
];

/// What is done next. How, is up to the dice that go with it.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A session brings a message; what only passes through comes further at once, as far as the tasks run.
    Put,
    /// imsgcnv, or omsgcnv, takes what waits, and is slow.
    LookInbound,
    LookInBox,
    /// They record what they did.
    Convert,
    Route,
    /// Domain List Processing.
    Claim,
    Lock,
    CarryOn,
    Settle,
    EndList,
    BackOff,
    HoldListed,
    /// An operator.
    Retry,
    Hold,
    Bounce,
    Release,
    Delete,
    Undelete,
    RouteByHand,
    Reroute,
    /// One who moves mail to another spool.
    PutAside,
    MoveOn,
    GiveUpExport,
    /// drt.
    Expire,
    TellDelays,
    ReportFailures,
    ReportSuccesses,
    /// Housekeeping.
    Forget,
    Sweep,
    Mend,
    /// The world.
    Wait,
    SetBack,
    Crash,
    Restart,
}

/// The deeds, each as often as it is named by its weight.
fn deed() -> impl Strategy<Value = Deed> {
    use Deed::*;
    prop_oneof![
        8 => Just(Put),
        1 => Just(LookInbound),
        1 => Just(LookInBox),
        7 => Just(Convert),
        7 => Just(Route),
        7 => Just(Claim),
        3 => Just(Lock),
        1 => Just(CarryOn),
        9 => Just(Settle),
        4 => Just(EndList),
        3 => Just(BackOff),
        1 => Just(HoldListed),
        2 => Just(Retry),
        2 => Just(Hold),
        1 => Just(Bounce),
        3 => Just(Release),
        2 => Just(Delete),
        2 => Just(Undelete),
        3 => Just(RouteByHand),
        1 => Just(Reroute),
        4 => Just(PutAside),
        7 => Just(MoveOn),
        1 => Just(GiveUpExport),
        2 => Just(Expire),
        2 => Just(TellDelays),
        3 => Just(ReportFailures),
        3 => Just(ReportSuccesses),
        1 => Just(Forget),
        1 => Just(Sweep),
        2 => Just(Mend),
        6 => Just(Wait),
        2 => Just(SetBack),
        1 => Just(Crash),
        1 => Just(Restart),
    ]
}

/// Numbers that decide what a deed leaves open: the same each time, and none by itself.
struct Dice {
    thrown: [u8; 8],
    at: usize,
}

impl Dice {
    /// A number below `sides`.
    fn below(&mut self, sides: usize) -> usize {
        let thrown = usize::from(self.thrown[self.at % self.thrown.len()]);
        self.at += 1;
        // Whoever throws more often than there are dice does not get the same again.
        (thrown + 37 * (self.at / self.thrown.len())) % sides
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == many - 1
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        match all.len() {
            0 => None,
            many => all.get(self.below(many)).cloned(),
        }
    }
}

/// The queue, and what it should hold.
struct Machine {
    world: World,
    audit: Audit,
    memory: Memory,
    /// What imsgcnv and omsgcnv have in hand.
    converting: Vec<Waiting>,
    routing: Vec<Waiting>,
    /// Whether there is a relay.
    relay: Arc<AtomicBool>,
    /// What was recorded last.
    settled: Option<Arc<Settlement>>,
    /// The spool to which mail moves, and who has to be in it, in which state.
    there: Option<World>,
    moved: Vec<(String, u8)>,
    /// What happened so far, for who has to understand a failure.
    story: Vec<String>,
}

fn policy() -> RetryPolicy {
    RetryPolicy {
        schedule: vec![5 * MINUTE, 15 * MINUTE],
        expire: EXPIRE,
    }
}

fn why() -> Reason {
    Reason::here(EnhancedCode(4, 0, 0), "the dice fell so")
}

/// A refusal, or a word of delay, of the host itself.
fn reply(code: u16) -> Reason {
    Reason {
        reply: Some(said(code, "the host said so")),
        ..why()
    }
}

fn next_hop(path: &Mailbox, relay: bool) -> NextHop {
    if relay && path.to_string().to_lowercase().starts_with(RELAYED) {
        NextHop::Host("relay.example".to_owned(), 25)
    } else {
        hop_of(path)
    }
}

impl Machine {
    fn new() -> Machine {
        let world = World::new();
        let audit = Audit::open(world.folder.path(), None);
        let machine = Machine {
            world,
            audit,
            memory: Memory::default(),
            converting: Vec::new(),
            routing: Vec::new(),
            relay: Arc::default(),
            settled: None,
            there: None,
            moved: Vec::new(),
            story: Vec::new(),
        };
        machine.guide();
        machine
    }

    /// The queue knows where mail goes that nobody leads by hand.
    fn guide(&self) {
        let relay = Arc::clone(&self.relay);
        self.world.queue.be_guided(move |path, pin| {
            let usual = || next_hop(path, relay.load(Ordering::SeqCst));
            Some(pin.cloned().unwrap_or_else(usual))
        });
    }

    fn now(&self) -> Stamp {
        self.world.queue.now()
    }

    /// After a crash in which much time passed it is not certain how much that was, for an hour.
    fn moment(&self) -> Moment {
        self.world.queue.moment()
    }

    fn note(&mut self, what: impl std::fmt::Debug) {
        self.story.push(format!("{what:?}"));
    }

    fn act(&mut self, deed: Deed, dice: &mut Dice) {
        self.note(deed);
        match deed {
            Deed::Put => self.put(dice),
            Deed::LookInbound => self.look_inbound(),
            Deed::LookInBox => self.look_in_box(),
            Deed::Convert => self.convert(dice),
            Deed::Route => self.route(dice),
            Deed::Claim => self.claim(dice),
            Deed::Lock => self.lock(dice),
            Deed::CarryOn => self.carry_on(dice),
            Deed::Settle => self.settle(dice),
            Deed::EndList => self.end_list(dice),
            Deed::BackOff => self.back_off(dice),
            Deed::HoldListed => self.hold_listed(dice),
            Deed::Retry => self.retry(dice),
            Deed::Hold => self.by_hand(ByHand::Hold, dice),
            Deed::Bounce => self.by_hand(ByHand::Bounce, dice),
            Deed::Release => self.by_hand(ByHand::Release, dice),
            Deed::Delete => self.by_hand(ByHand::Delete, dice),
            Deed::Undelete => self.by_hand(ByHand::Undelete, dice),
            Deed::RouteByHand => {
                let via = VIA[dice.below(VIA.len())].map(NextHop::from_name);
                self.by_hand(ByHand::Route(via), dice);
            }
            Deed::Reroute => drop(self.relay.fetch_xor(true, Ordering::SeqCst)),
            Deed::PutAside => self.put_aside(dice),
            Deed::MoveOn => self.move_on(dice),
            Deed::GiveUpExport => self.give_up_export(dice),
            Deed::Expire => self.expire(),
            Deed::TellDelays => self.tell_delays(),
            Deed::ReportFailures => self.report(true, dice),
            Deed::ReportSuccesses => self.report(false, dice),
            Deed::Forget => self.forget(),
            Deed::Sweep => self.sweep(),
            Deed::Mend => self.mend(dice),
            Deed::Wait => self.world.clock.advance(STEPS[dice.below(STEPS.len())]),
            Deed::SetBack => self.set_back(dice),
            Deed::Crash => self.restart(false),
            Deed::Restart => self.restart(true),
        }
    }

    /// Goes on in another folder with what was on the disk: at the end of the queue, or in the middle of it.
    fn restart(&mut self, in_order: bool) {
        if in_order {
            self.world.queue.close();
        }
        // While somebody reads, nobody copies the log home.
        self.audit
            .db
            .execute_batch("BEGIN; SELECT count(*) FROM message;")
            .unwrap();
        let (from, to) = (self.world.folder.path(), tempfile::tempdir().unwrap());
        fs::create_dir(to.path().join("content")).unwrap();
        let mut files = vec!["queue.db".to_owned(), "queue.db-wal".to_owned()];
        files.extend(
            self.audit
                .files()
                .into_iter()
                .map(|file| format!("content/{file}")),
        );
        for file in files {
            if from.join(&file).exists() {
                fs::copy(from.join(&file), to.path().join(&file)).unwrap();
            }
        }
        self.audit.db.execute_batch("COMMIT").unwrap();
        let clock = self.world.clock.clone();
        let queue = WorkQueue::open(to.path(), clock.clone()).unwrap();
        self.audit = Audit::open(to.path(), Some(&self.audit));
        self.world = World {
            folder: to,
            queue,
            clock,
        };
        self.guide();
        self.memory.restart(self.now());
        self.converting.clear();
        self.routing.clear();
        self.audit.look_closely(&self.world.queue, &self.memory);
    }

    /// Does one deed, and looks what came of it.
    fn step(&mut self, deed: Deed, dice: &mut Dice) {
        self.act(deed, dice);
        self.audit.look(&self.memory);
        let any_recalled = self.world.queue.any_recalled();
        assert_eq!(any_recalled, self.memory.any_recalled(), "whether handlers look");
    }
}

/// Tells how it came to a failure.
impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.story.join("\n"));
        }
    }
}

proptest! {
    // As many cases as PROPTEST_CASES in the environment says, else 256.
    #[test]
    fn any_verbs_in_any_order_make_legal_moves_only_and_lose_nothing(
        deeds in proptest::collection::vec((deed(), any::<[u8; 8]>()), 1..60),
    ) {
        let mut machine = Machine::new();
        for (deed, thrown) in deeds {
            machine.step(deed, &mut Dice { thrown, at: 0 });
        }
        let (world, memory) = (&machine.world, &machine.memory);
        machine.audit.look_closely(&world.queue, memory);
    }
}
