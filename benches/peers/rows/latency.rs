//! How long one message takes that comes alone: from the connecting until it is accepted, and until the sink has it.

use std::time::{Duration, Instant};

use crate::ground::Ground;
use crate::latencies::Latencies;
use crate::load::{self, Order};
use crate::message::Model;
use crate::row::{Goal, Of, Quantity, Reading, Row};
use crate::rows::accept::all_taken;
use crate::server::{Role, Server};

/// So many are sent before the measuring begins: they find processes that have yet to start.
const FIRST: u64 = 3;

/// So many are measured, however slow it is.
const FEWEST: u64 = 7;

/// 4 KiB; the next one comes when the sink has the one before.
#[derive(Debug)]
pub struct Latency;

impl Row for Latency {
    fn name(&self) -> &str {
        "latency"
    }

    fn quantities(&self) -> Vec<Quantity> {
        let goal = Goal {
            of: Of::Peers,
            at_least: 1.5,
            aim: 2.5,
            words: "1/1.5, aim 1/2.5",
        };
        vec![
            Quantity {
                title: "one message alone, accepted, median ms".to_owned(),
                less_is_better: true,
                goal: None,
            },
            Quantity {
                title: "one message alone, at the sink, median ms".to_owned(),
                less_is_better: true,
                goal: Some(goal),
            },
        ]
    }

    fn measure(&self, ground: &Ground, server: &dyn Server) -> Result<Reading, String> {
        let _running = ground.start(server, Role::Prompt)?;
        let model = Model::new(4096, "sender@load.example", "recipient@sink.example", 1);
        let order = Order {
            per_connection: 1,
            ..Order::new(server.address(), model, 1, 1)
        };
        let (mut accepted, mut sunk) = (Latencies::default(), Latencies::default());
        let began = Instant::now();
        let most = if ground.quick { 40 } else { 150 };
        for number in 0..FIRST + most {
            let sums = load::run(&order, |_, _| ())?;
            all_taken(&sums)?;
            let tally = ground.sink.take(1, Duration::from_secs(30));
            if tally.messages != 1 || tally.ages.count() != 1 {
                return Err(format!("message {number} did not come to the sink"));
            }
            if number >= FIRST {
                accepted.join(&sums.latencies);
                sunk.join(&tally.ages);
            }
            if sunk.count() >= FEWEST && began.elapsed() > ground.time * 5 {
                break;
            }
        }
        Ok(Reading {
            values: vec![accepted.percentile(0.5), sunk.percentile(0.5)],
            tool: None,
        })
    }
}
