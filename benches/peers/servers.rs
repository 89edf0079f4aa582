//! The servers that are measured.

pub mod exim;
pub mod opensmtpd;
pub mod postfix;
pub mod smtpmta;
