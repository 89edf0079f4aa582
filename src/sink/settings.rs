//! What a sink is to be like. Every field is an option of `smtpmta sink`.
//!
//! Only values: [`super::options`] reads them, [`super::service`] makes of them what a session needs.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::fault::Fault;
use crate::sasl::Mechanism;

/// The extensions that are offered unless somebody says otherwise.
pub const OFFERS: [&str; 8] = [
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "DSN",
    "CHUNKING",
    "BINARYMIME",
];

/// What a sink is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--listen`: where; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// `--hostname`: its name.
    pub hostname: String,
    /// `--offer`: the lines of EHLO behind the first.
    pub offers: Vec<String>,
    /// `--lmtp`: LMTP is spoken, and not SMTP.
    pub lmtp: bool,
    /// Not `--no-ehlo`: whether EHLO is known at all.
    pub ehlo: bool,
    /// `--size`: the largest message that is taken; `None`: any.
    pub size: Option<u64>,
    /// `--max-recipients`: the most recipients of one message.
    pub max_recipients: usize,
    /// `--max-per-session`: messages, after which a session is ended with 421.
    pub max_per_session: Option<u64>,
    /// `--max-messages`: messages, after which the sink ends.
    pub max_messages: Option<u64>,
    /// `--max-sessions`: the most sessions at once.
    pub max_sessions: usize,
    /// `--dir`: where messages are stored; `None`: nowhere.
    pub dir: Option<PathBuf>,
    /// How much it tells.
    pub telling: Telling,
    /// How TLS comes in.
    pub tls: Tls,
    /// `--require-tls`: MAIL is refused in the clear.
    pub require_tls: bool,
    /// `--tls-cert` and `--tls-key`; `None`: a certificate that is made up at the start.
    pub papers: Option<(PathBuf, PathBuf)>,
    /// `--cert-flaw`: what is wrong with the certificate that is made up.
    pub flaw: Option<Flaw>,
    /// `--auth`: name and password, without which MAIL is refused.
    pub login: Option<(String, String)>,
    /// `--mechanisms`: how to log in, the best first.
    pub mechanisms: Vec<Mechanism>,
    /// `--fault`: what to do wrong.
    pub faults: Vec<Fault>,
    /// `--chaos`: something goes wrong now and then, without an order.
    pub chaos: bool,
    /// `--seed`: of the lots; `None`: another one each time.
    pub seed: Option<u64>,
}

/// How much a sink tells on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// `--quiet`: where it listens, and the sums at the end.
    Quiet,
    /// And a line for each message.
    Messages,
    /// `--dialogue`: and every line of every dialogue.
    Dialogue,
}

/// How TLS comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Never,
    /// `--starttls`: it is offered.
    Offered,
    /// `--tls`: from the first octet on.
    First,
}

/// What is wrong with a certificate that is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It was good until yesterday.
    Expired,
    /// It is good from tomorrow on.
    NotYet,
    /// It is for another host.
    Name,
}

impl Flaw {
    /// Every flaw with its word.
    pub const WORDS: [(&'static str, Flaw); 3] = [
        ("expired", Flaw::Expired),
        ("not-yet", Flaw::NotYet),
        ("name", Flaw::Name),
    ];
}

impl Default for Settings {
    /// What holds when nothing is said.
    fn default() -> Settings {
        Settings {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 2526))],
            hostname: "sink.example".to_owned(),
            offers: OFFERS.map(str::to_owned).to_vec(),
            lmtp: false,
            ehlo: true,
            size: None,
            max_recipients: 1000,
            max_per_session: None,
            max_messages: None,
            max_sessions: 100,
            dir: None,
            telling: Telling::Messages,
            tls: Tls::Never,
            require_tls: false,
            papers: None,
            flaw: None,
            login: None,
            mechanisms: vec![Mechanism::Plain, Mechanism::Login],
            faults: Vec::new(),
            chaos: false,
            seed: None,
        }
    }
}
