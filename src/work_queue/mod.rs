//! The work queue: one SQLite database that anybody may open, one writer, group commit.
pub mod id;
