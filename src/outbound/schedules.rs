//! Handlers that linger and lists that are given to them, with threads that take turns in thousands of orders.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::dispatch::Dispatch;
use crate::domain_list::list::{HopId, ListId, list};
use crate::sync::{Time, dice, in_many_orders, now, thread};
use crate::tasks::bell::Stop;

const ORDERS: usize = 1000;

const PER_NEXT_HOP: usize = 20;

fn soon() -> Instant {
    now() + Duration::from_millis(200)
}

/// Handlers that have carried a list to next hop 1, and linger; and what each of them is given.
struct Lingerers {
    dispatch: Dispatch,
    stop: Stop,
    given: Arc<Mutex<Vec<(usize, ListId)>>>,
}

impl Lingerers {
    fn new() -> Lingerers {
        Lingerers {
            dispatch: Dispatch::default(),
            stop: Stop::default(),
            given: Arc::default(),
        }
    }

    /// Handler `number` begins, and lingers after each list until it is given nothing.
    fn begin(&self, number: usize) -> thread::JoinHandle<()> {
        let (dispatch, stop, given) = (self.dispatch.clone(), self.stop.clone(), Arc::clone(&self.given));
        let mut through = list(i64::try_from(number).unwrap(), 1, Some(number));
        dispatch.with(|turns| turns.begin(&through));
        thread::spawn(move || {
            while let Some(next) = dispatch.linger(&through, number, PER_NEXT_HOP, soon(), &stop) {
                assert_eq!(next.handler, Some(number), "it is locked for another handler");
                given.lock().unwrap().push((number, next.id));
                dispatch.with(|turns| {
                    turns.begin(&next);
                    turns.end(&through, now());
                });
                through = next;
            }
            dispatch.with(|turns| turns.end(&through, now()));
        })
    }

    /// The lists that were given, and those that wait.
    fn all(&self) -> Vec<ListId> {
        let mut all: Vec<_> = self.given.lock().unwrap().iter().map(|(_, id)| *id).collect();
        while let Some(list) = self.dispatch.with(|turns| turns.next(PER_NEXT_HOP, true, now())) {
            all.push(list.id);
        }
        all.sort_unstable();
        all
    }

    /// osesctl makes a list: for who lingers, else it waits.
    fn make(&self, id: i64) {
        let lingering = self.dispatch.lingering().get(&HopId(1)).copied();
        let made = list(id, 1, lingering);
        match lingering {
            Some(_) => {
                let _ = self.dispatch.give(made, now());
            }
            None => self.dispatch.with(|turns| turns.wait(made, now())),
        }
    }
}

#[test]
fn a_list_that_is_given_to_who_lingers_is_taken_once_or_waits() {
    in_many_orders(ORDERS, Time::Passes, || {
        let lingerers = Lingerers::new();
        let handlers = [lingerers.begin(0), lingerers.begin(1)];
        for id in 10..14 {
            lingerers.make(id);
            if dice(4) == 0 {
                lingerers.dispatch.dismiss();
            }
        }
        if dice(2) == 0 {
            lingerers.stop.give();
        }
        handlers.into_iter().for_each(|handler| handler.join().unwrap());
        assert!(lingerers.dispatch.lingering().is_empty());
        assert_eq!(
            lingerers.all(),
            [10, 11, 12, 13].map(ListId),
            "lost, or taken twice"
        );
    });
}

#[test]
fn who_lingers_goes_when_it_has_to_although_no_time_passes() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let lingerers = Lingerers::new();
        let handlers = [lingerers.begin(0), lingerers.begin(1)];
        lingerers.make(10);
        lingerers.stop.give();
        handlers.into_iter().for_each(|handler| handler.join().unwrap());
        assert_eq!(lingerers.all(), [ListId(10)]);
    });
}
