//! What the fuzz targets share: how an input becomes reads, and the inbound session with everything that must hold
//! of it, whatever a client says.
//!
//! Never part of smtpmta itself.

pub mod envelope;
pub mod handler;
pub mod reads;
pub mod replies;
pub mod stage;
