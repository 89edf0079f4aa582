//! imsgcnv and omsgcnv: conversion of what came from the Internet, and of what goes there.
//!
//! Never changes content that is only relayed, and never speaks to a peer.

pub mod field;
pub mod from_internet;
pub mod inbound_task;
pub mod outbound_task;
pub mod to_internet;

use std::time::Duration;

/// Messages that a conversion task takes in hand at once.
const BATCH: usize = 200;

/// What has been converted is recorded at least this often.
const SLICE: Duration = Duration::from_secs(1);

/// When a conversion that met trouble is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// How often it is tried again before an operator has to look.
const MOST_AGAIN: u32 = 100;
