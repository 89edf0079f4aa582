//! The families of addresses, IPv6 and IPv4: which of them is broken on this machine just now.
//!
//! The time is given to it. Never forbids an address: one of a broken family is tried last, not never.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use parking_lot::Mutex;

/// How long a family that failed is thought broken. Then it comes first again, and the next failure is enough.
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// So many hosts in a row have to stay silent; a single one may be dead itself.
const SILENT_IN_A_ROW: u32 = 2;

/// What session handlers have learnt about both families. Shared by all of them; starts with no opinion.
#[derive(Debug, Default)]
pub struct Families {
    learnt: Mutex<[Learnt; 2]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Learnt {
    failures: u32,
    last: Option<Instant>,
}

impl Learnt {
    fn fails(&self, now: Instant) -> bool {
        let fresh = |last: Instant| now.saturating_duration_since(last) < MEMORY;
        self.failures >= SILENT_IN_A_ROW && self.last.is_some_and(fresh)
    }
}

/// What a connection that was tried says about its family.
enum Sign {
    Works,
    /// This machine has no way there at all.
    NoWay,
    /// The host, or the way to it, is silent.
    Silence,
    /// The trouble is of another kind: no descriptor left, and the like.
    Nothing,
}

impl Families {
    /// To be called after each attempt to connect to `address`, at `now`.
    pub fn note<T>(&self, address: IpAddr, made: &io::Result<T>, now: Instant) {
        // The way to ourselves says nothing about the network.
        if address.to_canonical().is_loopback() {
            return;
        }
        let learnt = &mut self.learnt.lock()[place(address)];
        match sign(made) {
            Sign::Nothing => {}
            Sign::Works => *learnt = Learnt::default(),
            Sign::NoWay => {
                learnt.failures = SILENT_IN_A_ROW;
                learnt.last = Some(now);
            }
            Sign::Silence => {
                learnt.failures = learnt.failures.saturating_add(1);
                learnt.last = Some(now);
            }
        }
    }

    /// Whether the family of `address` is broken while the other one is not: its turn comes last.
    #[must_use]
    pub fn is_broken(&self, address: IpAddr, now: Instant) -> bool {
        let learnt = *self.learnt.lock();
        let place = place(address);
        learnt[place].fails(now) && !learnt[1 - place].fails(now)
    }
}

fn place(address: IpAddr) -> usize {
    usize::from(address.to_canonical().is_ipv6())
}

fn sign<T>(made: &io::Result<T>) -> Sign {
    let Err(error) = made else { return Sign::Works };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT) => {
            Sign::NoWay
        }
        Some(Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::EACCES | Errno::EPERM) => Sign::Silence,
        _ => match error.kind() {
            ErrorKind::TimedOut => Sign::Silence,
            // It has come all the way back.
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Sign::Works,
            _ => Sign::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: &str = "2001:db8::1";
    const FOUR: &str = "192.0.2.1";

    /// A family, what became of a connection, and after how many seconds.
    fn learnt(happened: &[(&str, Option<Errno>, u64)]) -> (Families, Instant) {
        let (families, start) = (Families::default(), Instant::now());
        for (address, error, seconds) in happened {
            let made = error.map_or(Ok(()), |error| Err(error.into()));
            let at = start + Duration::from_secs(*seconds);
            families.note(address.parse().unwrap(), &made, at);
        }
        (families, start)
    }

    /// Whether IPv6 and IPv4 are broken after so many seconds.
    fn broken(happened: &[(&str, Option<Errno>, u64)], seconds: u64) -> (bool, bool) {
        let (families, start) = learnt(happened);
        let at = start + Duration::from_secs(seconds);
        let of = |address: &str| families.is_broken(address.parse().unwrap(), at);
        (of(SIX), of(FOUR))
    }

    #[test]
    fn a_machine_without_a_way_over_ipv6_knows_it_after_one_attempt() {
        for error in [Errno::ENETUNREACH, Errno::EADDRNOTAVAIL, Errno::EAFNOSUPPORT] {
            let happened = [(SIX, Some(error), 0)];
            assert_eq!(broken(&happened, 599), (true, false), "{error}");
            assert_eq!(broken(&happened, 600), (false, false), "{error}");
        }
    }

    #[test]
    fn two_silent_hosts_in_a_row_make_a_family_broken() {
        for error in [Errno::ETIMEDOUT, Errno::EHOSTUNREACH] {
            let once = [(SIX, Some(error), 0), (FOUR, None, 1)];
            assert_eq!(broken(&once, 1), (false, false));
            let twice = [once[0], once[1], (SIX, Some(error), 2)];
            assert_eq!(broken(&twice, 2), (true, false));
            let apart = [once[0], (SIX, None, 1), (SIX, Some(error), 2)];
            assert_eq!(broken(&apart, 2), (false, false));
        }
        let four = [
            (FOUR, Some(Errno::ETIMEDOUT), 0),
            (FOUR, Some(Errno::ETIMEDOUT), 1),
        ];
        assert_eq!(broken(&four, 2), (false, true));
    }

    #[test]
    fn after_its_time_one_more_failure_is_enough_and_a_success_ends_it() {
        let silence = Some(Errno::ETIMEDOUT);
        let again = [(SIX, silence, 0), (SIX, silence, 1), (SIX, silence, 1000)];
        assert_eq!(broken(&again, 1001), (true, false));
        let healed = [(SIX, silence, 0), (SIX, silence, 1), (SIX, None, 2)];
        assert_eq!(broken(&healed, 3), (false, false));
    }

    #[test]
    fn trouble_of_our_own_is_no_sign() {
        let happened = [(SIX, Some(Errno::EMFILE), 0), (SIX, Some(Errno::EMFILE), 1)];
        assert_eq!(broken(&happened, 1), (false, false));
    }

    #[test]
    fn a_refusal_shows_that_the_family_works() {
        let refused = [
            (SIX, Some(Errno::ETIMEDOUT), 0),
            (SIX, Some(Errno::ECONNREFUSED), 1),
            (SIX, Some(Errno::ETIMEDOUT), 2),
        ];
        assert_eq!(broken(&refused, 3), (false, false));
    }

    #[test]
    fn without_any_network_no_family_is_worse_than_the_other() {
        let offline = [
            (SIX, Some(Errno::ENETUNREACH), 0),
            (FOUR, Some(Errno::ENETUNREACH), 0),
        ];
        assert_eq!(broken(&offline, 1), (false, false));
    }

    #[test]
    fn a_timeout_of_our_own_is_silence_and_loopback_says_nothing() {
        let families = Families::default();
        let now = Instant::now();
        let silent: io::Result<()> = Err(ErrorKind::TimedOut.into());
        for address in ["::1", "127.0.0.1", "::ffff:127.0.0.1"] {
            for _ in 0..3 {
                families.note(address.parse().unwrap(), &silent, now);
            }
            assert!(!families.is_broken(address.parse().unwrap(), now));
        }
        families.note(SIX.parse().unwrap(), &silent, now);
        families.note("2001:db8::2".parse().unwrap(), &silent, now);
        assert!(families.is_broken(SIX.parse().unwrap(), now));
    }
}
