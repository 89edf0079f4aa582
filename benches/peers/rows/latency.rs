//! How long one message takes that comes alone: from the connecting until it is accepted, and until the sink has it.

use std::time::Duration;

use crate::ground::Ground;
use crate::load::{self, Order};
use crate::message::Model;
use crate::row::{Goal, Of, Quantity, Reading, Row};
use crate::rows::accept::all_taken;
use crate::server::{Role, Server};

/// Messages a second: each is long over when the next comes.
const RATE: f64 = 12.5;

/// 4 KiB, one after the other.
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
        let count = (RATE * 1.6 * ground.time.as_secs_f64()) as u64;
        let order = Order {
            rate: Some(RATE),
            per_connection: 1,
            ..Order::new(server.address(), model, 1, 3)
        };
        let mut medians = Vec::new();
        // The first ones find processes that have yet to start.
        for count in [order.count, count] {
            let sums = load::run(
                &Order {
                    count,
                    ..order.clone()
                },
                |_, _| (),
            )?;
            all_taken(&sums)?;
            let tally = ground.sink.take(count, Duration::from_secs(30));
            if tally.messages != count || tally.ages.count() != count {
                return Err(format!("{} of {count} came to the sink", tally.messages));
            }
            medians = vec![sums.latencies.percentile(0.5), tally.ages.percentile(0.5)];
        }
        Ok(Reading {
            values: medians,
            tool: None,
        })
    }
}
