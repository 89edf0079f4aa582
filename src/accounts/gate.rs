//! The gate before the hashes: so many passwords are checked at once, and no more.
//!
//! A hash like Argon2 takes a processor and much memory for itself. Never decides who goes first.

use std::sync::LazyLock;

use parking_lot::{Condvar, Mutex};

/// One for the whole process, so that a refresh does not double it.
static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Gate::new(processors.max(2))
});

/// Waits until a password may be checked. The turn is over when the value is dropped.
pub(super) fn turn() -> Turn<'static> {
    GATE.turn()
}

struct Gate {
    free: Mutex<usize>,
    left: Condvar,
}

/// A place behind the gate.
pub(super) struct Turn<'g>(&'g Gate);

impl Gate {
    fn new(places: usize) -> Gate {
        Gate {
            free: Mutex::new(places),
            left: Condvar::new(),
        }
    }

    fn turn(&self) -> Turn<'_> {
        let mut free = self.free.lock();
        self.left.wait_while(&mut free, |free| *free == 0);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_than_its_places_are_behind_the_gate() {
        let (gate, inside, most) = (Gate::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _turn = gate.turn();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(*gate.free.lock(), 2);
    }
}
