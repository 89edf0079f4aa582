//! The grammar of SMTP that both directions share: commands, replies, paths, lines and content.
//!
//! Pure: bytes in, values out. Never touches a socket, a clock or a disk.

pub mod command;
pub mod data;
pub mod dsn;
pub mod line;
pub mod path;
pub mod reply;
