//! A row of the table: what is measured of each server, in which unit, and what is to be reached.
//!
//! A new row is a file in `rows/` with this trait, and a line in `rows::all`.

use crate::ground::Ground;
use crate::server::Server;

/// What a goal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Our value divided by that of the best durable peer; where less is better, theirs by ours.
    Peers,
    /// Our value.
    Value,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Of what.
    pub of: Of,
    /// The least.
    pub at_least: f64,
    /// What would be good.
    pub aim: f64,
    /// Both in words.
    pub words: &'static str,
}

/// One line of a row.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// What it is, with its unit.
    pub title: String,
    /// Whether less is better.
    pub less_is_better: bool,
    /// What is to be reached.
    pub goal: Option<Goal>,
}

/// What was measured of one server.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// A value for each quantity of the row.
    pub values: Vec<f64>,
    /// How much of one processor our own load and sink took meanwhile.
    pub tool: Option<f64>,
}

/// A row.
pub trait Row {
    /// The name by which it is chosen.
    fn name(&self) -> &str;

    /// Its lines.
    fn quantities(&self) -> Vec<Quantity>;

    /// Whether it is measured of this server.
    fn takes(&self, _server: &dyn Server) -> bool {
        true
    }

    /// Whether it belongs to the short run.
    fn is_quick(&self) -> bool {
        true
    }

    /// Starts the server afresh, and measures.
    ///
    /// # Errors
    /// Why there is no value: a server that did not start, or did not do all that it had to.
    fn measure(&self, ground: &Ground, server: &dyn Server) -> Result<Reading, String>;

    /// The same of the load alone, against the sink, which stores nothing; if that makes sense.
    fn ceiling(&self, _ground: &Ground) -> Option<Result<Reading, String>> {
        None
    }
}
