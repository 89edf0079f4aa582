//! The memory of a session that has said EHLO and then nothing: all processes of the server with them, less without,
//! what is shared counted in part (PSS).

use std::time::Duration;

use crate::ground::Ground;
use crate::idle::Idle;
use crate::row::{Goal, Of, Quantity, Reading, Row};
use crate::running::Running;
use crate::server::{Role, Server};
use crate::wait::until;

/// So many sessions that the peers stand them all.
const FOR_ALL: usize = 1_000;

/// So many idle sessions.
#[derive(Debug)]
pub struct IdleMemory {
    /// How many.
    pub sessions: usize,
}

impl Row for IdleMemory {
    fn name(&self) -> &str {
        if self.sessions <= FOR_ALL {
            "idle-memory"
        } else {
            "idle-memory-10000"
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        vec![Quantity {
            title: format!("memory per idle session, {} of them, KiB", self.sessions),
            less_is_better: true,
            goal: Some(Goal {
                of: Of::Value,
                at_least: 40.0,
                aim: 12.0,
                words: "40 KiB, aim 12 KiB",
            }),
        }]
    }

    fn is_quick(&self) -> bool {
        self.sessions <= FOR_ALL
    }

    fn takes(&self, server: &dyn Server) -> bool {
        self.sessions <= FOR_ALL || server.is_ours()
    }

    fn measure(&self, ground: &Ground, server: &dyn Server) -> Result<Reading, String> {
        let running = ground.start(server, Role::Hold)?;
        // What a first session makes the server load belongs to no session.
        drop(Idle::open(server.address(), 1)?);
        let before = settled_memory(&running);
        let mut idle = Idle::open(server.address(), self.sessions)?;
        let after = settled_memory(&running);
        idle.ask()?;
        Ok(Reading {
            values: vec![(after - before) / self.sessions as f64],
            tool: None,
        })
    }
}

/// The memory, once it changes no more.
fn settled_memory(running: &Running) -> f64 {
    let mut last = running.account.memory();
    let mut same = 0;
    until(Duration::from_secs(5), || {
        crate::wait::pause(Duration::from_millis(150));
        let now = running.account.memory();
        same = if (now - last).abs() <= 0.002 * last {
            same + 1
        } else {
            0
        };
        last = now;
        same >= 3
    });
    last
}
