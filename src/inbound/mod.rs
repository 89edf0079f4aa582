//! isesctl and iseshlrN: accept connections, and speak SMTP with whoever calls.

pub mod controller;
pub mod handler;
pub mod replies;
pub mod session;
