//! How many messages a second are accepted and relayed: until the sink has the last; and what one costs.

use std::time::{Duration, Instant};

use crate::ground::{Ground, ToolShare};
use crate::load::{self, Order};
use crate::message::Model;
use crate::row::{Goal, Of, Quantity, Reading, Row};
use crate::rows::accept::all_taken;
use crate::server::{Role, Server};
use crate::wait::pause;

const SESSIONS: usize = 50;

/// 4 KiB over 50 sessions.
#[derive(Debug)]
pub struct Relay;

impl Row for Relay {
    fn name(&self) -> &str {
        "relay"
    }

    fn quantities(&self) -> Vec<Quantity> {
        let rate = Goal {
            of: Of::Peers,
            at_least: 5.0,
            aim: 8.0,
            words: "5 ×, aim 8 ×",
        };
        let cost = Goal {
            of: Of::Peers,
            at_least: 6.0,
            aim: 15.0,
            words: "1/6, aim 1/15",
        };
        vec![
            Quantity {
                title: "relay 4 KiB, 50 sessions, messages/s".to_owned(),
                less_is_better: false,
                goal: Some(rate),
            },
            Quantity {
                title: "processor time per relayed message, ms".to_owned(),
                less_is_better: true,
                goal: Some(cost),
            },
        ]
    }

    fn measure(&self, ground: &Ground, server: &dyn Server) -> Result<Reading, String> {
        let running = ground.start(server, Role::Relay)?;
        let model = Model::new(4096, "sender@load.example", "recipient@sink.example", 1);
        let count = (server.pace() as f64 * ground.time.as_secs_f64().max(2.0)) as u64;
        // Nothing goes before: OpenSMTPD, once it has sent what it had, may wait ten seconds before it connects again.
        let order = Order::new(server.address(), model, SESSIONS, count);
        let (share, before, began) = (
            ToolShare::begin(),
            running.account.processor_time(),
            Instant::now(),
        );
        all_taken(&load::run(&order, |_, _| ())?)?;
        let tally = ground
            .sink
            .take(count, ground.time * 10 + Duration::from_secs(60));
        let tool = share.end();
        // What it does when the last has gone is its work, too.
        pause(Duration::from_millis(300));
        let spent = running.account.processor_time() - before;
        let Some(last) = tally
            .last
            .filter(|_| tally.messages == count && tally.broken == 0)
        else {
            return Err(format!(
                "{} of {count} relayed, {} broken",
                tally.messages, tally.broken
            ));
        };
        let rate = count as f64 / (last - began).as_secs_f64();
        Ok(Reading {
            values: vec![rate, spent.as_secs_f64() * 1000.0 / count as f64],
            tool,
        })
    }
}
