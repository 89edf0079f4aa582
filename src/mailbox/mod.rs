//! Where local recipients find their mail.

pub mod maildir;
pub mod place;
