//! What a session begins with: its settings, our certificate, and the names of clients. A refresh puts another
//! reception in place for the sessions to come; those that have begun keep theirs.

use std::sync::Arc;

use super::session::SessionSettings;
use crate::config::cidr::Cidr;
use crate::tls::identity::Identity;

/// See the top.
#[derive(Clone, Debug)]
pub struct Reception {
    /// What sessions have in common.
    pub settings: Arc<SessionSettings>,
    /// Our certificate and key; `None` where there is no TLS.
    pub identity: Option<Arc<Identity>>,
    /// `--relay-from`.
    pub relay_from: Vec<Cidr>,
}
