//! The doorbell and the handler table, with threads that take turns in thousands of orders.
//!
//! Where time stands still a wait with a limit has none: a ring that is lost, or a handler that nobody wakes, is a
//! thread that waits for ever, and shuttle finds it.

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Task;
use super::bell::{Bell, Stop};
use super::hatch::hatch;
use super::table::{Desk, HandlerTable, Patience, Rest};
use crate::sync::{self, Time, dice, in_many_orders, let_threads_be_short, step, thread};

const ORDERS: usize = 1000;

const AN_HOUR: Duration = Duration::from_secs(3600);

/// Sessions, as a table has them served, and what came of them.
#[derive(Default)]
struct Sessions {
    /// How many there are at the moment, and how many there were at most.
    now: AtomicUsize,
    most: AtomicUsize,
    /// The jobs that were done, in their order.
    done: Mutex<Vec<usize>>,
    /// The handlers that have one.
    by: Mutex<Vec<usize>>,
}

impl Sessions {
    fn begin(&self, desk: &Desk) {
        self.most
            .fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let mut by = self.by.lock().unwrap();
        // An assertion here would be a panic of the session, which the table catches.
        if by.contains(&desk.number()) {
            self.most.store(usize::MAX, Ordering::SeqCst);
        }
        by.push(desk.number());
    }

    fn end(&self, job: usize, desk: &Desk) {
        self.by.lock().unwrap().retain(|number| *number != desk.number());
        self.done.lock().unwrap().push(job);
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    /// The jobs that were done, sorted.
    fn done(&self) -> Vec<usize> {
        let mut done = self.done.lock().unwrap().clone();
        done.sort_unstable();
        done
    }
}

/// A table with so many places, in which a session takes some steps.
fn table(places: usize) -> (HandlerTable<usize>, Bell, Arc<Sessions>) {
    let (freed, sessions) = (Bell::default(), Arc::new(Sessions::default()));
    let here = Arc::clone(&sessions);
    let serve = move |job: usize, desk: &Desk| {
        here.begin(desk);
        desk.write("Busy");
        step();
        here.end(job, desk);
    };
    let table = HandlerTable::new(Task::OutboundHandler, places, freed.clone(), serve);
    (table, freed, sessions)
}

/// What is left of `jobs` when a controller has handed them out, or has been told to stop.
fn hand_out(table: &HandlerTable<usize>, freed: &Bell, stop: &Stop, mut jobs: Vec<usize>) -> Vec<usize> {
    while !jobs.is_empty() && !stop.is_given() {
        let Some(number) = table.reserve() else {
            freed.rest(stop, AN_HOUR);
            continue;
        };
        if let Err((job, _)) = table.hand_over(number, jobs.remove(0)) {
            jobs.push(job);
        }
    }
    jobs
}

/// Nothing is under way, every place is there to be had, and there were never more sessions or handlers than places.
fn is_at_rest(table: &HandlerTable<usize>, sessions: &Sessions, places: usize) {
    assert!(sessions.most.load(Ordering::SeqCst) <= places);
    assert!(table.rows().len() <= places);
    assert_eq!((table.busy(), table.has_room()), (0, true));
    assert_eq!(table.available(places + 1).len(), places, "a place is lost");
}

#[test]
fn who_rings_is_heard_however_the_turns_fall() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (bell, stop, work) = (Bell::default(), Stop::default(), Arc::new(sync::Mutex::new(0)));
        let ringers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, work) = (bell.clone(), Arc::clone(&work));
                thread::spawn(move || {
                    for _ in 0..2 {
                        *work.lock() += 1;
                        bell.kick();
                    }
                })
            })
            .collect();
        // A task: looks, does what there is, and rests.
        let mut done = 0;
        while done < 4 {
            done += std::mem::take(&mut *work.lock());
            if done < 4 {
                bell.rest(&stop, AN_HOUR);
            }
        }
        ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
    });
}

#[test]
fn nobody_sleeps_through_a_stop() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (bell, stop) = (Bell::default(), Stop::default());
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let (bell, stop) = (bell.clone(), stop.clone());
                thread::spawn(move || {
                    while !stop.is_given() {
                        bell.rest(&stop, AN_HOUR);
                    }
                })
            })
            .collect();
        bell.kick();
        stop.give();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[test]
fn what_is_put_into_a_hatch_comes_out_once_or_is_given_back() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (hatch, taker) = hatch();
        let taking = thread::spawn(move || {
            let mut taken = Vec::new();
            // Its thread may end at any time.
            while let Some(job) = taker.take() {
                taken.push(Arc::clone(&job));
                if dice(4) == 0 {
                    break;
                }
            }
            taken
        });
        let jobs = [Arc::new(0), Arc::new(1), Arc::new(2)];
        let mut back = Vec::new();
        for job in &jobs {
            back.extend(hatch.put(Arc::clone(job)).err());
        }
        drop(hatch);
        let taken = taking.join().unwrap();
        for job in &jobs {
            let (came, went) = (taken.contains(job), back.contains(job));
            assert!(!(came && went), "{job} was given back, and taken");
            assert_eq!(Arc::strong_count(job), 1 + usize::from(came) + usize::from(went));
        }
        let in_order = taken.windows(2).all(|two| two[0] < two[1]);
        assert!(in_order, "{taken:?}");
    });
}

#[test]
fn there_are_never_more_handlers_than_places_and_every_job_is_done_once() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (table, freed, sessions) = table(2);
        let left = hand_out(&table, &freed, &Stop::default(), (0..5).collect());
        assert!(table.stop(AN_HOUR));
        assert_eq!((left, sessions.done()), (vec![], (0..5).collect()));
        is_at_rest(&table, &sessions, 2);
    });
}

#[test]
fn a_thread_that_the_system_refuses_costs_neither_a_job_nor_a_place() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let_threads_be_short(true);
        let (table, freed, sessions) = table(2);
        let left = hand_out(&table, &freed, &Stop::default(), (0..4).collect());
        assert!(table.stop(AN_HOUR));
        assert_eq!((left, sessions.done()), (vec![], (0..4).collect()));
        is_at_rest(&table, &sessions, 2);
    });
}

#[test]
fn a_stop_ends_whenever_it_comes_and_every_job_was_done_or_is_left() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let ((table, freed, sessions), stop) = (table(2), Stop::default());
        let controller = {
            let (table, stop) = (table.clone(), stop.clone());
            thread::spawn(move || hand_out(&table, &freed, &stop, (0..4).collect()))
        };
        // As the add-in task does it, whatever the controller is doing.
        stop.give();
        assert!(table.stop(AN_HOUR));
        let done = sessions.done();
        assert_eq!(
            sessions.now.load(Ordering::SeqCst),
            0,
            "a handler has outlived the stop"
        );
        let mut all = controller.join().unwrap();
        assert_eq!(sessions.done(), done, "a job was done after the stop");
        all.extend(done);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3], "lost, or done twice");
        is_at_rest(&table, &sessions, 2);
    });
}

/// A session that waits for a peer who never says a word, `rest`ing meanwhile.
fn wait_for_peer(desk: &Desk, rest: Rest) {
    let (mut ours, _peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let _lent = desk.lend(ours.as_raw_fd());
    if !desk.rest(rest) {
        return;
    }
    // In the program it sleeps in the kernel, until its socket is shut down.
    while matches!(ours.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock) {
        shuttle::thread::yield_now();
    }
}

/// A table of such sessions.
fn waiting_table(rest: Rest) -> (HandlerTable<usize>, Bell, Arc<Sessions>) {
    let (freed, sessions) = (Bell::default(), Arc::new(Sessions::default()));
    let here = Arc::clone(&sessions);
    let serve = move |job: usize, desk: &Desk| {
        here.begin(desk);
        wait_for_peer(desk, rest);
        here.end(job, desk);
    };
    let table = HandlerTable::new(Task::InboundHandler, 2, freed.clone(), serve);
    (table, freed, sessions)
}

#[test]
fn a_stop_wakes_whoever_waits_for_a_peer_without_using_its_patience() {
    in_many_orders(ORDERS / 4, Time::StandsStill, || {
        let (table, freed, sessions) = waiting_table(Rest::Waiting);
        hand_out(&table, &freed, &Stop::default(), vec![0, 1]);
        assert!(table.stop(AN_HOUR));
        assert_eq!(sessions.done(), [0, 1]);
        is_at_rest(&table, &sessions, 2);
    });
}

#[test]
fn a_stop_ends_even_if_a_session_would_not() {
    in_many_orders(ORDERS / 4, Time::Passes, || {
        let (table, freed, sessions) = waiting_table(Rest::Busy);
        hand_out(&table, &freed, &Stop::default(), vec![0, 1]);
        // Its patience may be over before they have ended, but they will.
        let _ = table.stop(AN_HOUR);
        while table.busy() > 0 {
            shuttle::thread::yield_now();
        }
        is_at_rest(&table, &sessions, 2);
    });
}

#[test]
fn who_makes_room_for_others_is_told_once_and_gives_its_place_back() {
    in_many_orders(ORDERS / 4, Time::Passes, || {
        let (table, freed, sessions) = waiting_table(Rest::Expendable);
        let (stop, evicted) = (Stop::default(), AtomicUsize::new(0));
        let at_once = Patience {
            newcomers: Duration::ZERO,
            unproven: Duration::ZERO,
            silent: AN_HOUR,
        };
        for job in 0..4 {
            let number = loop {
                match table.reserve() {
                    Some(number) => break number,
                    None if freed.rest(&stop, AN_HOUR) => {}
                    None => drop(evicted.fetch_add(table.evict(1, &at_once), Ordering::SeqCst)),
                }
            };
            table.hand_over(number, job).unwrap();
        }
        let told = evicted.load(Ordering::SeqCst);
        assert!((2..=4).contains(&told), "{told} were told to go");
        while !table.stop(AN_HOUR) {}
        assert_eq!(sessions.done(), [0, 1, 2, 3]);
        is_at_rest(&table, &sessions, 2);
    });
}
