//! `--http`: metrics for Prometheus, whether all is well, and the status page. For whoever looks on, with a browser or a
//! program; nothing can be changed from here.
//!
//! [`listener`] and [`view`] do the work: the one talks, the other looks. All else is pure: what was asked for, what the
//! answer is, and how it is written. What comes from mail, from peers or from whoever asks is only ever text in the
//! answer, and [`markup::Markup`] sees to that.

pub mod exposition;
pub mod facts;
pub mod hour;
pub mod listener;
pub mod markup;
pub mod page;
pub mod request;
pub mod response;
pub mod view;
