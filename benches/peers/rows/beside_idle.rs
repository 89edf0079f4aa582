//! Ten busy sessions with 10,000 idle ones beside them, against ten busy sessions alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::ground::Ground;
use crate::idle::Idle;
use crate::load::{self, Order};
use crate::message::Model;
use crate::row::{Goal, Of, Quantity, Reading, Row};
use crate::rows::accept::all_taken;
use crate::server::{Role, Server};

const BUSY: usize = 10;
const IDLE: usize = 10_000;

/// Which of the two comes first: another one each time, for all the rows of this kind.
static WITH_FIRST: AtomicBool = AtomicBool::new(false);

/// Ours only: no peer holds so many.
#[derive(Debug)]
pub struct BesideIdle;

impl BesideIdle {
    fn rate(&self, ground: &Ground, server: &dyn Server, idle: usize) -> Result<f64, String> {
        let _running = ground.start(server, Role::Hold)?;
        let mut idle = Idle::open(server.address(), idle)?;
        let model = Model::new(4096, "sender@load.example", "recipient@sink.example", 1);
        let warm = Order::new(server.address(), model, BUSY, 2 * BUSY as u64);
        all_taken(&load::run(&warm, |_, _| ())?)?;
        let time = Some(ground.time.max(Duration::from_secs(2)));
        let sums = load::run(
            &Order {
                count: u64::MAX,
                time,
                ..warm
            },
            |_, _| (),
        )?;
        all_taken(&sums)?;
        idle.ask()?;
        Ok(sums.rate())
    }
}

impl Row for BesideIdle {
    fn name(&self) -> &str {
        "beside-idle"
    }

    fn quantities(&self) -> Vec<Quantity> {
        vec![Quantity {
            title: "accept 4 KiB, 10 sessions, beside 10,000 idle ones: part of the rate without them"
                .to_owned(),
            less_is_better: false,
            goal: Some(Goal {
                of: Of::Value,
                at_least: 0.8,
                aim: 0.95,
                words: "0.8, aim 0.95",
            }),
        }]
    }

    fn takes(&self, server: &dyn Server) -> bool {
        server.is_ours()
    }

    fn measure(&self, ground: &Ground, server: &dyn Server) -> Result<Reading, String> {
        let with_first = WITH_FIRST.fetch_xor(true, Ordering::Relaxed);
        let first = self.rate(ground, server, if with_first { IDLE } else { 0 })?;
        let second = self.rate(ground, server, if with_first { 0 } else { IDLE })?;
        let part = if with_first {
            first / second
        } else {
            second / first
        };
        Ok(Reading {
            values: vec![part],
            tool: None,
        })
    }
}
