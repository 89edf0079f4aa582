//! A queue on the disk to measure with, and a crowd that puts messages into it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;

use smtpmta::clock::Clock;
use smtpmta::domain_list::next_hop::NextHop;
use smtpmta::domain_list::pace::Unlimited;
use smtpmta::smtp::path::{Mailbox, ReversePath};
use smtpmta::work_queue::id::MessageId;
use smtpmta::work_queue::{
    Arrival, Claim, Content, Converted, Delivery, HopId, Origin, Routed, Terms, Way, WorkQueue,
};

/// A queue in a folder of its own, beside what cargo builds: a disk, where `/tmp` may be none.
pub struct World {
    /// The queue.
    pub queue: WorkQueue,
    _folder: tempfile::TempDir,
}

impl World {
    /// An empty one.
    pub fn new() -> World {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        World {
            queue: WorkQueue::open(folder.path(), Clock::System).unwrap(),
            _folder: folder,
        }
    }
}

/// Puts a message into the queue as a session does, and waits for its commit.
pub fn put(queue: &WorkQueue, to: impl IntoIterator<Item = Mailbox>, content: &[u8]) -> MessageId {
    let id = queue.message_id();
    let from = ReversePath(Some("bsmith@univac.com".parse().unwrap()));
    let arrival = Arrival {
        client: "192.0.2.1".to_owned(),
        helo: "univac.com".to_owned(),
        protocol: "ESMTP",
        ..Arrival::new(
            id,
            Origin::Session,
            from,
            to,
            Content::from_bytes(content.to_vec()),
        )
    };
    queue.put(arrival).unwrap();
    id
}

/// The next hop of a recipient: its domain.
pub fn hop_of(path: &Mailbox) -> NextHop {
    NextHop::Domain(path.domain().to_owned())
}

/// As imsgcnv does it with what is not local.
pub fn convert(queue: &WorkQueue) {
    let waiting = queue.waiting_inbound(queue.now(), 1000).unwrap();
    let passed_on = waiting.iter().map(|message| Converted {
        id: message.id,
        null_sender: false,
        structure: None,
        deliveries: message
            .recipients
            .iter()
            .map(|to| (to.n, Delivery::PassOn))
            .collect(),
    });
    queue.converted(passed_on.collect()).unwrap();
}

/// As omsgcnv does it.
pub fn route(queue: &WorkQueue) {
    let waiting = queue.waiting_in_box(queue.now(), 1000).unwrap();
    let routed = waiting.iter().map(|message| Routed {
        id: message.id,
        structure: None,
        content: None,
        ways: message
            .recipients
            .iter()
            .map(|to| (to.n, Way::Hop(hop_of(&to.path))))
            .collect(),
        null_sender: false,
    });
    queue.routed(routed.collect()).unwrap();
}

/// A pass of Domain List Processing for so many free handlers.
pub fn claim(handlers: usize, list_messages: usize) -> Claim {
    Claim {
        handlers: (0..handlers).collect(),
        lingering: HashMap::new(),
        waiting_room: 0,
        waiting: HashSet::new(),
        busy: HashMap::new(),
        per_next_hop: 20,
        limits: HashMap::new(),
        spare: handlers,
        silent: HashSet::new(),
        ripe: (0..10).map(HopId).collect(),
        terms: Terms {
            list_messages,
            tokens: Arc::new(Unlimited),
            router: Arc::new(|path, _| hop_of(path)),
        },
    }
}

/// Threads that wait, as sessions do, and do something all at once.
pub struct Crowd {
    begin: Arc<Barrier>,
    end: Arc<Barrier>,
    goes_on: Arc<Mutex<bool>>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// So many, each of which does this when it is told to.
    pub fn of(number: usize, act: impl Fn() + Clone + Send + 'static) -> Crowd {
        let (begin, end) = (
            Arc::new(Barrier::new(number + 1)),
            Arc::new(Barrier::new(number + 1)),
        );
        let goes_on = Arc::new(Mutex::new(true));
        let spawn = |_| {
            let (begin, end, goes_on, act) = (begin.clone(), end.clone(), goes_on.clone(), act.clone());
            std::thread::spawn(move || {
                loop {
                    begin.wait();
                    if !*goes_on.lock().unwrap() {
                        return;
                    }
                    act();
                    end.wait();
                }
            })
        };
        Crowd {
            threads: (0..number).map(spawn).collect(),
            begin,
            end,
            goes_on,
        }
    }

    /// Lets them begin, and waits until all are done.
    pub fn act(&self) {
        self.begin.wait();
        self.end.wait();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        *self.goes_on.lock().unwrap() = false;
        self.begin.wait();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
