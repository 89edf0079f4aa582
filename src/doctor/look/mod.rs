//! Where doctor looks: each look asks the system, DNS or a host, and gives what the pure files make of that.
//!
//! Each has a few seconds, and none changes anything.

mod machine;
mod network;
mod papers;
mod reader;
mod relaying;
mod spool;

use std::path::PathBuf;

use super::exposure::Exposure;
use super::finding::Finding;
use super::reader::Reader;
use super::spool::Mta;
use crate::config::Config;
use crate::dns::resolver::Resolver;

pub(super) use reader::reader;
pub(super) use spool::mta;

/// Whom doctor looks at.
pub(super) struct Patient {
    /// By this configuration.
    pub config: Config,
    /// The file that it was read from, if it was.
    pub file: Option<PathBuf>,
    /// As whom the MTA reads files once it runs, where that is known.
    pub reader: Option<Reader>,
    /// `--to`.
    pub to: Option<String>,
    /// Whom it meets.
    pub exposure: Exposure,
    /// The MTA on its spool.
    pub mta: Mta,
    /// Asks the DNS servers.
    pub resolver: Resolver,
}

/// A look, and what is said of it where it comes to no end.
type Look = (&'static str, fn(&Patient) -> Vec<Finding>);

/// All of them, in the order in which their findings are told.
pub(super) const LOOKS: [Look; 13] = [
    ("hostname", network::names),
    ("resolver", network::resolver),
    ("port", network::entrances),
    ("way out", network::ways_out),
    ("clock", machine::clock),
    ("disk", machine::disks),
    ("descriptors", machine::limits),
    ("certificate", papers::papers),
    ("relaying", relaying::relaying),
    ("spool", spool::ground),
    ("queue", spool::queue),
    ("mail-dir", spool::mailboxes),
    ("mta", machine::process),
];
