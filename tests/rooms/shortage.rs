//! The system is short of something while the MTA is told to stop tasks and to start them: whatever is to run runs again
//! by itself, as soon as the system has it, and nothing else does.
//!
//! What becomes of mail when calls fail is in `failing_calls.rs`. `tests/faults/shim.c` lets them fail here, too.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::SIGHUP;

use crate::support::client::{Client, letter};
use crate::support::shim::{CONNECT, Fault, Faults, OPEN, THREAD};
use crate::support::sink::Sink;
use crate::support::world::{PATIENCE, World, eventually};

/// The tasks that a refresh stops and starts.
const TASKS: [&str; 5] = ["omsgcnv", "osesctl", "isesctl", "imsgcnv", "drt"];

/// An MTA whose calls fail, and the next hop.
struct Trial {
    world: World,
    faults: Faults,
    sink: Sink,
    /// How often the configuration was changed.
    changes: usize,
}

impl Trial {
    /// Nothing fails yet.
    #[track_caller]
    fn begin() -> Trial {
        let sink = Sink::start();
        let mut world = World::without_mta(&["--relay-host", &sink.address().to_string()]);
        let faults = world.faults();
        world.start();
        world.daemon().wait_for_word(" started, spool ");
        Trial {
            world,
            faults,
            sink,
            changes: 0,
        }
    }

    /// The configuration has changed, and SIGHUP says so; what the log says of that.
    #[track_caller]
    fn refresh(&mut self) -> String {
        self.changes += 1;
        self.world
            .configure(&format!("max-recipients {}\n", 500 + self.changes));
        let mta = self.world.daemon();
        let (_, before) = mta.count_said(usize::MAX, "");
        mta.signal(SIGHUP);
        eventually("the refresh", || {
            let mut said = mta.said().into_iter().skip(before);
            said.find(|line| line.contains("refresh: ")).ok_or(())
        })
    }

    /// Whether this is what `show tasks` says of these tasks.
    #[track_caller]
    fn shows(&self, tasks: &[&str], doing: &str) -> bool {
        let screen = self.world.show("tasks");
        let line = |task: &&str| screen.contains(&format!("SMTPMTA {task} {doing}"));
        tasks.iter().all(line)
    }

    /// All tasks run, and mail flows: to a mailbox here, where clients have always found us, and elsewhere.
    #[track_caller]
    fn all_is_well(&self) {
        eventually("all tasks to run", || {
            let screen = self.world.show("tasks");
            let is_missing = |word: &&str| screen.contains(word);
            if ["Stopped", "Stopping", "Not started"].iter().any(is_missing) {
                Err(screen)
            } else {
                Ok(())
            }
        });
        let here = "jdoe@mta.test";
        let (letters, relayed) = (
            self.world.letters(here).len(),
            self.sink.look(|seen| seen.accepted().count()),
        );
        let mut client = Client::of(&self.world);
        client.mail("bsmith@univac.com", &[here, "jdoe@ibm.com"], &letter("flows"));
        self.world.wait_for_letters(here, letters + 1);
        self.sink
            .wait_for(|seen| seen.accepted().count() == relayed + 1, PATIENCE);
    }
}

#[test]
fn tasks_for_which_a_refresh_finds_no_threads_run_as_soon_as_there_are_some() {
    let mut trial = Trial::begin();
    trial.faults.order(&[Fault::of(THREAD, Errno::EAGAIN)]);
    let said = trial.refresh();
    assert!(said.contains("ERROR"), "{said}");
    for task in TASKS {
        let not_started = format!("{task} could not be started: ");
        assert!(said.contains(&not_started), "{said}");
    }
    // All of them are tried again, and not without a pause.
    let (began, before) = (Instant::now(), trial.faults.struck());
    eventually("two more trials", || match trial.faults.struck() - before {
        tried if tried >= 2 * TASKS.len() as u64 => Ok(()),
        tried => Err(tried),
    });
    assert!(began.elapsed() > Duration::from_millis(900));
    trial.faults.behave();
    trial.all_is_well();
    assert_eq!(trial.world.terminate().0, Some(0));
}

#[test]
fn a_listener_for_which_a_refresh_finds_no_descriptor_is_there_again_as_soon_as_there_is_one() {
    let mut trial = Trial::begin();
    for error in [Errno::EMFILE, Errno::ENFILE] {
        trial.faults.order(&[Fault::of(CONNECT, error)]);
        // Twice: what is wanted and does not run is started by a refresh, too.
        for _ in 0..2 {
            let said = trial.refresh();
            assert!(said.contains("ERROR"), "{error}: {said}");
            for task in TASKS {
                let not_started = said.contains(&format!("{task} could not be started: "));
                assert_eq!(not_started, task == "isesctl", "{error}: {said}");
            }
            assert!(trial.shows(&["isesctl"], "Not started, and tried again: can not listen on "));
        }
        assert_eq!(trial.world.ask("tell start inbound").status, 75);
        trial.faults.behave();
        trial.all_is_well();
    }
    assert_eq!(trial.world.terminate().0, Some(0));
}

#[test]
fn a_refresh_that_can_not_open_its_files_changes_nothing_and_the_next_one_can() {
    let mut trial = Trial::begin();
    trial.faults.order(&[Fault::of(OPEN, Errno::EMFILE)]);
    let said = trial.refresh();
    assert!(said.contains("ERROR"), "{said}");
    assert!(said.contains("the configuration stays as it was"), "{said}");
    trial.faults.behave();
    trial.all_is_well();
    let said = trial.refresh();
    assert!(said.contains("the configuration has been read again"), "{said}");
    trial.all_is_well();
    assert_eq!(trial.world.terminate().0, Some(0));
}

#[test]
fn what_the_operator_has_stopped_stays_so_when_a_shortage_is_over() {
    let mut trial = Trial::begin();
    trial.world.tell("stop drtask");
    trial.faults.order(&[Fault::of(CONNECT, Errno::EMFILE)]);
    let said = trial.refresh();
    assert!(said.contains("isesctl could not be started: "), "{said}");
    // It should run, and does not; now it should not.
    assert_eq!(trial.world.tell("stop inbound transport"), "isesctl stopped\n");
    assert_eq!(
        trial.world.tell("stop inbound transport"),
        "isesctl is not running\n"
    );
    trial.faults.behave();
    let stopped = ["isesctl", "drt"];
    let began = Instant::now();
    eventually("the time of another trial to be over", || {
        assert!(trial.shows(&stopped, "Stopped\n"));
        let waited = began.elapsed();
        if waited > Duration::from_millis(1500) {
            Ok(())
        } else {
            Err(waited)
        }
    });
    let said = trial.refresh();
    assert!(!said.contains("ERROR"), "{said}");
    assert!(trial.shows(&stopped, "Stopped\n"));
    trial.world.tell("start inbound transport");
    trial.world.tell("start drtask");
    trial.all_is_well();
    assert_eq!(trial.world.terminate().0, Some(0));
}
