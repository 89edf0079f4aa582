//! Mail for one host that is 100 ms away, over one session: how many round trips it takes.
//!
//! From the connection's first packet until the reply to the last message is back.

use std::time::Duration;

use crate::ground::Ground;
use crate::load::{self, Order};
use crate::message::Model;
use crate::row::{Goal, Of, Quantity, Reading, Row};
use crate::rows::accept::all_taken;
use crate::server::{Role, Server};
use crate::servers::postfix::Postfix;
use crate::wait::until;

/// How long all may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// To a Postfix.
#[derive(Debug)]
pub struct OverLongPath {
    /// Whether it offers CHUNKING.
    pub chunking: bool,
}

impl Row for OverLongPath {
    fn name(&self) -> &str {
        if self.chunking {
            "path-chunking"
        } else {
            "path-data"
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        let goal = if self.chunking {
            Goal {
                of: Of::Peers,
                at_least: 10.0,
                aim: 10.0,
                words: "10 ×, aim 12 round trips for 100 messages",
            }
        } else {
            Goal {
                of: Of::Value,
                at_least: 1.15,
                aim: 1.15,
                words: "1.15",
            }
        };
        let form = if self.chunking { "CHUNKING" } else { "DATA" };
        vec![Quantity {
            title: format!("4 KiB to one host 100 ms away, {form}, round trips per message"),
            less_is_better: true,
            goal: Some(goal),
        }]
    }

    fn is_quick(&self) -> bool {
        self.chunking
    }

    fn takes(&self, server: &dyn Server) -> bool {
        server.name() != "opensmtpd"
    }

    fn measure(&self, ground: &Ground, server: &dyn Server) -> Result<Reading, String> {
        let path = ground.path.as_ref().ok_or("there is no tun device")?;
        let far = ground.start(
            &Postfix::far_host(&ground.home),
            Role::FarHost {
                chunking: self.chunking,
            },
        )?;
        let log = far.log.as_ref().ok_or("the far host has no log")?;
        let running = ground.start(server, Role::Far)?;
        let count = if ground.quick { 20 } else { 100 };
        let model = Model::new(4096, "sender@load.example", "recipient@far.example", 1);
        all_taken(&load::run(
            &Order::new(server.address(), model, 1, count),
            |_, _| (),
        )?)?;

        path.take_begun();
        let before = log.marked().0;
        if before > 0 {
            return Err(format!("{before} messages were not held"));
        }
        let runner = server.release()?;
        let all_came = until(PATIENCE, || log.marked().0 >= count);
        if let Some(mut runner) = runner {
            until(Duration::from_secs(5), || {
                runner.try_wait().is_ok_and(|status| status.is_some())
            });
            let _ = runner.kill();
            let _ = runner.wait();
        }
        drop(running);
        let (came, last) = log.marked();
        let (Some(begun), Some(last), true) = (path.take_begun().0, last, all_came && came == count) else {
            return Err(format!("{came} of {count} came"));
        };
        let took = last + path.round_trip / 2 - begun;
        let round_trips = took.as_secs_f64() / path.round_trip.as_secs_f64();
        Ok(Reading {
            values: vec![round_trips / count as f64],
            tool: None,
        })
    }
}
