//! Who has left a file in the maildrop: the system's names of its users.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};

/// How long the names of users are remembered, and of how many.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// See [`KNOWN_FOR`].
const MOST_KNOWN: usize = 1000;

/// The names of users, for a while: the system may have to ask other hosts for them.
#[derive(Debug, Default)]
pub(super) struct Names {
    since: Option<Instant>,
    known: HashMap<u32, String>,
}

impl Names {
    /// The owner of a file.
    pub(super) fn of(&mut self, uid: u32) -> Who {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > KNOWN_FOR || self.known.len() >= MOST_KNOWN {
            *self = Names::default();
        }
        let known = self.known.entry(uid);
        let name = known.or_insert_with(|| Who::of(uid).name).clone();
        Who { uid, name }
    }
}

/// The user who left a message.
pub(super) struct Who {
    pub(super) uid: u32,
    /// Fit for a Received line and the log.
    pub(super) name: String,
}

impl Who {
    /// The owner of a file. One whose name the system does not know, or who has a strange one, is known by number.
    pub(super) fn of(uid: u32) -> Who {
        let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let name = known.map(|user| user.name).filter(|name| is_name(name));
        Who {
            uid,
            name: name.unwrap_or_else(|| uid.to_string()),
        }
    }
}

/// Whether it can stand in a Received line and in the log.
fn is_name(name: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(fits)
}
