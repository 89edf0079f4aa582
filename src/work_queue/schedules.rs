//! The writer's group commit and the shared sync of a folder, with threads that take turns in thousands of orders: all of
//! it as in the program, and only what is written to is a list of numbers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::QueueError;
use super::folder::ContentFolder;
use super::intake::{Deputized, Intake};
use super::ledger::Counts;
use super::writer::{Book, Durability, Writer};
use crate::sync::{Time, bounded, dice, in_many_orders, step, thread};
use crate::tasks::bell::{Bell, Stop};

const ORDERS: usize = 1000;

const AN_HOUR: Duration = Duration::from_secs(3600);

/// What a commit that fails ends with.
type Failure = fn() -> QueueError;

/// A disk that may fail.
#[derive(Clone, Default)]
struct Disk {
    written: Arc<Mutex<Vec<u32>>>,
    /// What commits end with, but for those that succeed.
    failures: Arc<Mutex<Vec<Failure>>>,
    /// Somebody else has it, and keeps it.
    is_locked: Arc<AtomicBool>,
    is_closed: Arc<Mutex<bool>>,
}

impl Disk {
    /// How often `number` is on it.
    fn has(&self, number: u32) -> usize {
        self.written
            .lock()
            .unwrap()
            .iter()
            .filter(|n| **n == number)
            .count()
    }
}

impl Book for Disk {
    type Ledger<'l> = Vec<u32>;

    fn write(
        &mut self,
        _durability: Durability,
        _counts: &Counts,
        work: &mut dyn FnMut(&mut Vec<u32>) -> Result<(), QueueError>,
    ) -> Result<Counts, QueueError> {
        assert!(!*self.is_closed.lock().unwrap());
        let mut open = Vec::new();
        step();
        if self.is_locked.load(Ordering::SeqCst) {
            return Err(failed(rusqlite::ffi::SQLITE_BUSY));
        }
        work(&mut open)?;
        // On its way to the disk.
        step();
        let failure = if dice(3) == 0 {
            self.failures.lock().unwrap().pop()
        } else {
            None
        };
        if let Some(failure) = failure {
            return Err(failure());
        }
        self.written.lock().unwrap().append(&mut open);
        step();
        Ok(Counts::from([("Written", 1)]))
    }

    fn make_room(&mut self) -> bool {
        step();
        dice(2) == 0
    }

    fn tidy_up(&mut self) {}

    fn spare_content(&mut self, _: bool) {}

    fn close(self, _: &Counts) {
        *self.is_closed.lock().unwrap() = true;
    }
}

fn failed(code: i32) -> QueueError {
    QueueError::Database(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(code),
        None,
    ))
}

/// A writer at work, and what it writes to.
fn writer(most: usize) -> (Arc<Intake<Disk>>, Disk, thread::JoinHandle<()>) {
    let (intake, disk) = (Arc::new(Intake::new(most)), Disk::default());
    let writer = Writer {
        book: disk.clone(),
        intake: Arc::clone(&intake),
    };
    (intake, disk, thread::spawn(move || writer.run()))
}

fn put(intake: &Intake<Disk>, number: u32, kicks: Vec<Bell>) -> super::hopper::Pending<u32> {
    let write = move |open: &mut Vec<u32>| {
        open.push(number);
        Ok(number)
    };
    intake.put(Durability::Synced, kicks, write)
}

#[test]
fn nobody_is_answered_before_his_commit_and_everybody_is() {
    for time in [Time::StandsStill, Time::Passes] {
        in_many_orders(ORDERS / 2, time, || {
            // A hopper that is full now and then.
            let (intake, disk, writing) = writer(2);
            let clients: Vec<_> = (0..3)
                .map(|client| {
                    let (intake, disk) = (Arc::clone(&intake), disk.clone());
                    thread::spawn(move || {
                        for number in [10 * client, 10 * client + 1] {
                            assert_eq!(put(&intake, number, vec![]).wait().unwrap(), number);
                            assert_eq!(disk.has(number), 1, "answered before the commit");
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            intake.hopper().close();
            writing.join().unwrap();
            assert!(*disk.is_closed.lock().unwrap());
            assert_eq!(disk.written.lock().unwrap().len(), 6);
        });
    }
}

#[test]
fn who_hears_that_it_failed_finds_nothing_of_it_and_nobody_else_fails_with_him() {
    in_many_orders(ORDERS, Time::Passes, || {
        let (intake, disk, writing) = writer(4);
        *disk.failures.lock().unwrap() = vec![
            || failed(rusqlite::ffi::SQLITE_FULL),
            || failed(rusqlite::ffi::SQLITE_BUSY),
            || failed(rusqlite::ffi::SQLITE_IOERR),
        ];
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let (intake, disk) = (Arc::clone(&intake), disk.clone());
                thread::spawn(move || {
                    let refused = intake.put(Durability::Unsynced, vec![], |_: &mut Vec<u32>| {
                        Err::<(), _>(QueueError::Panicked)
                    });
                    let pending = put(&intake, client, vec![]);
                    assert!(refused.wait().is_err());
                    let answer = pending.wait();
                    assert_eq!(disk.has(client), usize::from(answer.is_ok()), "{answer:?}");
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        intake.hopper().close();
        writing.join().unwrap();
    });
}

#[test]
fn the_end_answers_all_who_came_before_it_and_turns_away_who_comes_later() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (intake, disk, writing) = writer(1);
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let (intake, disk) = (Arc::clone(&intake), disk.clone());
                thread::spawn(move || {
                    let answer = put(&intake, client, vec![]).wait();
                    let turned_away = matches!(answer, Err(QueueError::Stopped));
                    assert!(answer.is_ok() || turned_away, "{answer:?}");
                    assert_eq!(disk.has(client), usize::from(!turned_away));
                })
            })
            .collect();
        intake.hopper().close();
        writing.join().unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

#[test]
fn a_writer_that_is_locked_out_comes_to_its_end_although_everybody_asks_again_and_again() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (intake, disk, writing) = writer(4);
        disk.is_locked.store(true, Ordering::SeqCst);
        let first = put(&intake, 0, vec![]);
        intake.hopper().close();
        let insist = |number| {
            let intake = Arc::clone(&intake);
            thread::spawn(
                move || while !matches!(put(&intake, number, vec![]).wait(), Err(QueueError::Stopped)) {},
            )
        };
        let clients: Vec<_> = (1..4).map(insist).collect();
        writing.join().unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert!(matches!(first.wait(), Err(QueueError::Locked)));
        assert!(disk.written.lock().unwrap().is_empty());
    });
}

/// Three who each put a number, from 0 on, and let this bell ring.
fn clients(intake: &Arc<Intake<Disk>>, bell: &Bell) -> Vec<thread::JoinHandle<u32>> {
    let client = |number| {
        let (intake, bell) = (Arc::clone(intake), bell.clone());
        thread::spawn(move || put(&intake, number, vec![bell]).wait().unwrap())
    };
    (0..3).map(client).collect()
}

#[test]
fn a_task_that_is_kicked_by_the_writer_finds_what_was_written_and_misses_nothing() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (intake, disk, writing) = writer(4);
        let (bell, stop) = (Bell::default(), Stop::default());
        let clients = clients(&intake, &bell);
        while disk.written.lock().unwrap().len() < 3 {
            bell.rest(&stop, AN_HOUR);
        }
        clients
            .into_iter()
            .for_each(|client| assert!(client.join().unwrap() < 3));
        intake.hopper().close();
        writing.join().unwrap();
    });
}

/// What a task does that leaves a deputy with the writer while it rests, like osesctl: gives the pass that was made.
fn rest(intake: &Intake<Disk>, bell: &Bell, stop: &Stop, pass: u32) -> Option<u32> {
    let (made, for_us) = bounded(1);
    let has_made = Arc::new(AtomicBool::new(false));
    let deed = move |open: &mut Vec<u32>| {
        if has_made.load(Ordering::SeqCst) {
            return Ok(Deputized::default());
        }
        open.push(pass);
        let (made, has_made) = (made.clone(), Arc::clone(&has_made));
        let hand_out = move || {
            has_made.store(true, Ordering::SeqCst);
            made.try_send(pass).is_err()
        };
        Ok(Deputized {
            is_through: dice(2) == 0,
            then: Some(Box::new(hand_out)),
        })
    };
    let ticket = intake.deputize(bell.clone(), Arc::new(deed));
    bell.rest(stop, AN_HOUR);
    intake.withdraw(ticket);
    for_us.recv().ok()
}

#[test]
fn what_a_deputy_does_is_done_once_and_known_or_not_done() {
    for time in [Time::StandsStill, Time::Passes] {
        in_many_orders(ORDERS / 2, time, || {
            let (intake, disk, writing) = writer(4);
            *disk.failures.lock().unwrap() = vec![|| failed(rusqlite::ffi::SQLITE_BUSY)];
            let (bell, stop) = (Bell::default(), Stop::default());
            let client = {
                let (intake, bell) = (Arc::clone(&intake), bell.clone());
                thread::spawn(move || {
                    for number in 0..2 {
                        while put(&intake, number, vec![bell.clone()]).wait().is_err() {}
                    }
                })
            };
            let mut made = Vec::new();
            for pass in 100.. {
                if disk.has(0) + disk.has(1) == 2 {
                    break;
                }
                made.extend(rest(&intake, &bell, &stop, pass));
            }
            client.join().unwrap();
            intake.hopper().close();
            writing.join().unwrap();
            let written = disk.written.lock().unwrap();
            let passes: Vec<_> = written.iter().copied().filter(|number| *number >= 100).collect();
            assert_eq!(made, passes);
        });
    }
}

#[test]
fn a_bell_rings_for_whatever_no_deputy_has_seen() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (intake, disk, writing) = writer(4);
        let (bell, stop) = (Bell::default(), Stop::default());
        let clients = clients(&intake, &bell);
        let seen = Arc::new(Mutex::new(0));
        let look = {
            let (seen, disk) = (Arc::clone(&seen), disk.clone());
            move || {
                let mut seen = seen.lock().unwrap();
                *seen = disk.written.lock().unwrap().len();
                *seen
            }
        };
        while *seen.lock().unwrap() < 3 {
            look();
            let by_deputy = look.clone();
            let deed = move |_: &mut Vec<u32>| {
                let look = by_deputy.clone();
                // Who waits has to hear of the last one.
                let then = move || look() < 3;
                Ok(Deputized {
                    is_through: true,
                    then: Some(Box::new(then)),
                })
            };
            let ticket = intake.deputize(bell.clone(), Arc::new(deed));
            if *seen.lock().unwrap() < 3 {
                bell.rest(&stop, AN_HOUR);
            }
            intake.withdraw(ticket);
        }
        clients
            .into_iter()
            .for_each(|client| assert_eq!(disk.has(client.join().unwrap()), 1));
        intake.hopper().close();
        writing.join().unwrap();
    });
}

#[test]
fn a_transport_that_is_still_ending_does_not_take_away_what_its_successor_has_left() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let (intake, disk, writing) = writer(4);
        let bell = Bell::default();
        let leave = |pass: u32| {
            let write = move |open: &mut Vec<u32>| {
                open.push(pass);
                Ok(Deputized::default())
            };
            intake.deputize(bell.clone(), Arc::new(write))
        };
        let before = leave(100);
        let after = leave(200);
        let ending = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || intake.withdraw(before))
        };
        put(&intake, 0, vec![bell.clone()]).wait().unwrap();
        intake.withdraw(after);
        put(&intake, 1, vec![bell.clone()]).wait().unwrap();
        ending.join().unwrap();
        intake.hopper().close();
        writing.join().unwrap();
        assert_eq!(*disk.written.lock().unwrap(), [0, 200, 1]);
    });
}

#[test]
fn whoever_hears_that_the_folder_is_synced_finds_his_file_in_it() {
    in_many_orders(ORDERS, Time::StandsStill, || {
        let folder = Arc::new(ContentFolder::below(Path::new("/nowhere")));
        let (there, on_disk) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let handlers: Vec<_> = (0..3)
            .map(|name| {
                let (folder, there, on_disk) =
                    (Arc::clone(&folder), Arc::clone(&there), Arc::clone(&on_disk));
                thread::spawn(move || {
                    there.lock().unwrap().push(name);
                    let sync = || {
                        let seen = there.lock().unwrap().clone();
                        step();
                        if dice(4) == 0 {
                            return Err(std::io::Error::other("no space"));
                        }
                        *on_disk.lock().unwrap() = seen;
                        Ok(())
                    };
                    let synced = folder.sync_by(sync);
                    assert!(synced.is_err() || on_disk.lock().unwrap().contains(&name));
                })
            })
            .collect();
        handlers.into_iter().for_each(|handler| handler.join().unwrap());
    });
}
