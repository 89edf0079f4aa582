//! How many messages a second are accepted, while nothing is sent: the peers hold what they take, our outbound transport
//! is stopped.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ground::{Ground, ToolShare};
use crate::load::{self, Order, Sums};
use crate::message::Model;
use crate::row::{Goal, Of, Quantity, Reading, Row};
use crate::server::{Role, Server};

/// The most octets that a cell takes, so that no disk cache is full: 1 GiB.
const MOST_OCTETS: usize = 1 << 30;

/// Accepting messages of one size over so many sessions.
#[derive(Debug)]
pub struct Accept {
    name: &'static str,
    size: usize,
    sessions: usize,
    per_connection: u64,
    goal: Goal,
    quick: bool,
}

impl Accept {
    /// Small messages, many per connection.
    pub fn many(name: &'static str, size: usize, sessions: usize) -> Accept {
        Accept::large(
            name,
            size,
            sessions,
            [6.0, 10.0],
            "6 ×, aim 10 × and 0.7 of the load alone",
        )
    }

    /// Many per connection, with a goal of their own.
    pub fn large(
        name: &'static str,
        size: usize,
        sessions: usize,
        goal: [f64; 2],
        words: &'static str,
    ) -> Accept {
        let [at_least, aim] = goal;
        let goal = Goal {
            of: Of::Peers,
            at_least,
            aim,
            words,
        };
        Accept {
            name,
            size,
            sessions,
            per_connection: u64::MAX,
            goal,
            quick: false,
        }
    }

    /// One per connection.
    pub fn one(
        name: &'static str,
        size: usize,
        sessions: usize,
        goal: [f64; 2],
        words: &'static str,
    ) -> Accept {
        Accept {
            per_connection: 1,
            ..Accept::large(name, size, sessions, goal, words)
        }
    }

    /// In the short run, too.
    pub fn quick(self) -> Accept {
        Accept { quick: true, ..self }
    }

    fn load(&self, target: SocketAddr, time: Duration) -> Result<Reading, String> {
        let model = Model::new(self.size, "sender@load.example", "recipient@sink.example", 1);
        let order = Order {
            per_connection: self.per_connection,
            ..Order::new(target, model, self.sessions, 2 * self.sessions as u64)
        };
        // Processes that are started for sessions are there when the measuring begins.
        all_taken(&load::run(&order, |_, _| ())?)?;
        let share = ToolShare::begin();
        let most = (MOST_OCTETS / self.size) as u64;
        let sums = load::run(
            &Order {
                count: most,
                time: Some(time),
                ..order
            },
            |_, _| (),
        )?;
        all_taken(&sums)?;
        Ok(Reading {
            values: vec![sums.rate()],
            tool: share.end(),
        })
    }
}

/// Complains if anything failed.
pub fn all_taken(sums: &Sums) -> Result<(), String> {
    match &sums.first_error {
        Some(error) => Err(format!("{} messages failed, the first: {error}", sums.errors)),
        None if sums.latencies.count() == 0 => Err("no message was taken".to_owned()),
        None => Ok(()),
    }
}

impl Row for Accept {
    fn name(&self) -> &str {
        self.name
    }

    fn quantities(&self) -> Vec<Quantity> {
        let size = if self.size < 1 << 20 {
            format!("{} KiB", self.size >> 10)
        } else {
            format!("{} MiB", self.size >> 20)
        };
        let sessions = if self.sessions == 1 {
            "one session".to_owned()
        } else {
            format!("{} sessions", self.sessions)
        };
        let each = if self.per_connection == 1 { "one" } else { "many" };
        let title = format!("accept {size}, {sessions}, {each} per connection, messages/s");
        vec![Quantity {
            title,
            less_is_better: false,
            goal: Some(self.goal),
        }]
    }

    fn is_quick(&self) -> bool {
        self.quick
    }

    fn measure(&self, ground: &Ground, server: &dyn Server) -> Result<Reading, String> {
        let mut running = ground.start(server, Role::Hold)?;
        let reading = self.load(server.address(), ground.time)?;
        if !running.is_alive() {
            return Err("the server has ended".to_owned());
        }
        match ground.sink.take(0, Duration::ZERO).messages {
            0 => Ok(reading),
            sent => Err(format!(
                "{sent} messages were relayed, which should have been held"
            )),
        }
    }

    fn ceiling(&self, ground: &Ground) -> Option<Result<Reading, String>> {
        ground.sink.take(0, Duration::ZERO);
        Some(self.load(ground.sink.address, ground.time))
    }
}
