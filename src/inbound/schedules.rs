//! isesctl and its handlers, started and stopped as the add-in task does it, with threads that take turns in thousands of
//! orders. Sockets are real, and so is all but what sessions say.
//!
//! Where time stands still nothing helps who waits in vain: neither the next look at a table that is full, nor a pause.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::caller::Caller;
use super::controller::{InboundController, Listener};
use super::front::Front;
use crate::sync::{Time, dice, in_many_orders, let_threads_be_short, step, thread};
use crate::tasks::Task;
use crate::tasks::bell::{Bell, Stop};
use crate::tasks::board::Board;
use crate::tasks::member::Member;
use crate::tasks::table::{Desk, HandlerTable};

const ORDERS: usize = 1000;

const AN_HOUR: Duration = Duration::from_secs(3600);

/// Handlers, at most.
const PLACES: usize = 2;

/// The sessions that there were.
#[derive(Default)]
struct Sessions {
    /// How many there are at the moment, and how many there were at most.
    now: AtomicUsize,
    most: AtomicUsize,
    /// With whom, in their order.
    served: Mutex<Vec<SocketAddr>>,
}

impl Sessions {
    fn serve(&self, caller: &Caller, desk: &Desk) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        desk.write("Busy");
        step();
        self.served.lock().unwrap().push(caller.client);
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    /// Who was served, sorted.
    fn served(&self) -> Vec<SocketAddr> {
        let mut served = self.served.lock().unwrap().clone();
        served.sort_unstable();
        served
    }
}

/// An inbound transport that runs.
struct Transport {
    address: SocketAddr,
    sessions: Arc<Sessions>,
    table: HandlerTable<Box<Caller>>,
    controller: Member<HandlerTable<Box<Caller>>>,
}

impl Transport {
    fn start() -> Transport {
        let_threads_be_short(false);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let (freed, sessions) = (Bell::default(), Arc::<Sessions>::default());
        let here = Arc::clone(&sessions);
        let serve = move |caller: Box<Caller>, desk: &Desk| here.serve(&caller, desk);
        let table = HandlerTable::new(Task::InboundHandler, PLACES, freed.clone(), serve);
        let (wake, woken) = UnixStream::pair().unwrap();
        let board = Board::default();
        let controller = InboundController {
            listeners: vec![Listener {
                is_kept: false,
                socket,
                front: Front::Relay,
            }],
            wake: woken,
            freed,
            board: board.clone(),
            say: |_| {},
            sessions_per_client: 100,
            hostname: "mta.test".to_owned(),
            table: table.clone(),
        };
        let handlers = Some(table.clone());
        let run = move |stop: &Stop| controller.run(stop);
        let controller = Member::start(Task::InboundController, &board, handlers, Some(wake), run);
        Transport {
            address,
            sessions,
            table,
            controller: controller.unwrap(),
        }
    }

    /// Stops it; who was served by then.
    fn halt(self) -> Vec<SocketAddr> {
        if dice(2) == 0 {
            // As the operator has it stopped: the order comes first.
            self.controller.order_stop();
            step();
        }
        assert!(self.controller.halt(AN_HOUR), "handlers have outlived the stop");
        assert_eq!(self.sessions.now.load(Ordering::SeqCst), 0, "a session goes on");
        assert!(self.sessions.most.load(Ordering::SeqCst) <= PLACES);
        assert!(self.table.rows().len() <= PLACES);
        assert_eq!((self.table.busy(), self.table.has_room()), (0, true));
        assert_eq!(self.table.available(PLACES + 1).len(), PLACES, "a place is lost");
        self.sessions.served()
    }
}

/// Calls there, so often as somebody listens.
fn call(address: SocketAddr, times: usize) -> Vec<TcpStream> {
    let call = |_| {
        step();
        let caller = TcpStream::connect(address).ok()?;
        caller.set_nonblocking(true).unwrap();
        // It hangs up by RST: the system would remember thousands of calls for a minute.
        socket2::SockRef::from(&caller)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        Some(caller)
    };
    (0..times).filter_map(call).collect()
}

/// The addresses of these callers, sorted.
fn addresses(callers: &[TcpStream]) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> = callers.iter().map(|one| one.local_addr().unwrap()).collect();
    addresses.sort_unstable();
    addresses
}

/// All that a caller hears until it is hung up on.
fn hear_out(mut caller: &TcpStream) -> String {
    let (mut heard, mut piece) = (Vec::new(), [0; 256]);
    loop {
        match caller.read(&mut piece) {
            Ok(0) => return String::from_utf8(heard).unwrap(),
            Ok(octets) => heard.extend_from_slice(&piece[..octets]),
            // In the program it would wait in the kernel.
            Err(error) if error.kind() == ErrorKind::WouldBlock => shuttle::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn every_caller_is_served_once_and_never_more_at_a_time_than_there_are_places() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let transport = Transport::start();
        let callers = call(transport.address, 5);
        for caller in &callers {
            assert_eq!(hear_out(caller), "");
        }
        assert_eq!((callers.len(), transport.halt()), (5, addresses(&callers)));
    });
}

#[test]
fn a_stop_ends_whenever_it_comes_and_nobody_is_served_behind_it_or_twice() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let transport = Transport::start();
        let (address, sessions) = (transport.address, Arc::clone(&transport.sessions));
        let calling = thread::spawn(move || call(address, 4));
        let served = transport.halt();
        let callers = addresses(&calling.join().unwrap());
        assert_eq!(sessions.served(), served, "somebody was served after the stop");
        assert!(served.windows(2).all(|two| two[0] != two[1]), "{served:?}");
        assert!(served.iter().all(|one| callers.contains(one)), "{served:?}");
    });
}

#[test]
fn a_caller_for_whom_there_is_no_thread_hears_421_and_costs_no_place() {
    in_many_orders(ORDERS, Time::PassesBriefly, || {
        let transport = Transport::start();
        let_threads_be_short(true);
        let callers = call(transport.address, 4);
        let heard: Vec<String> = callers.iter().map(hear_out).collect();
        let served = transport.halt();
        for (caller, heard) in callers.iter().zip(heard) {
            let is_served = served.contains(&caller.local_addr().unwrap());
            assert_eq!(heard.starts_with("421 "), !is_served, "{heard:?}");
        }
    });
}
