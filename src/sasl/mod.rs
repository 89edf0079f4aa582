//! SASL: how a client proves who it is (RFC 4422), in the mechanisms that SMTP clients know.
//!
//! An exchange is a value without a socket: it is given what the client said, and answers with what comes
//! next. Never checks a password by the way: that burns time, so it is a step of its own, [`Check`].

use std::fmt;
use std::sync::Arc;

pub mod base64;
mod check;
pub mod client;
mod login;
mod plain;
mod scram;

pub use check::Check;

use crate::accounts::{Accounts, Login};

/// A mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256-PLUS: bound to the TLS connection (RFC 7677, RFC 9266).
    ScramSha256Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN, which was never standardised.
    Login,
}

impl Mechanism {
    /// Every mechanism, the best first.
    pub const ALL: [Mechanism; 4] = [
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha256,
        Mechanism::Plain,
        Mechanism::Login,
    ];

    /// The name in EHLO and AUTH.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }

    /// The mechanism of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Mechanism> {
        let mut all = Mechanism::ALL.into_iter();
        all.find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// The mechanisms to offer over TLS to clients of these accounts, the best first. An exchange refuses
    /// clients that heard of fewer, so these and no others must be offered.
    pub fn offered(accounts: &Accounts, bindings: &Bindings) -> impl Iterator<Item = Mechanism> + use<> {
        let (scram, bound) = (accounts.offers_scram(), bindings.any());
        Mechanism::ALL
            .into_iter()
            .filter(move |mechanism| match mechanism {
                Mechanism::ScramSha256Plus => scram && bound,
                Mechanism::ScramSha256 => scram,
                Mechanism::Plain | Mechanism::Login => true,
            })
    }
}

/// To what of the TLS connection a client may bind its proof (RFC 5056).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    /// `tls-exporter` (RFC 9266).
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` (RFC 5929 4): the hash of our certificate; empty where there is none.
    pub server_end_point: Vec<u8>,
}

impl Bindings {
    /// Whether there is one.
    #[must_use]
    pub fn any(&self) -> bool {
        self.exporter.is_some() || !self.server_end_point.is_empty()
    }

    /// The data of the binding type with this name.
    fn data(&self, name: &str) -> Option<&[u8]> {
        match name {
            "tls-exporter" => self.exporter.as_ref().map(<[u8; 32]>::as_slice),
            "tls-server-end-point" => Some(&*self.server_end_point).filter(|data| !data.is_empty()),
            _ => None,
        }
    }
}

/// The exporter is secret, if only for as long as the connection lives.
impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bindings(…)")
    }
}

/// What an exchange is given at its begin.
#[derive(Clone)]
pub struct Context {
    /// Who may log in.
    pub accounts: Arc<Accounts>,
    /// What the TLS connection has to bind to.
    pub bindings: Bindings,
    /// Random octets, never used before.
    pub entropy: [u8; 32],
}

/// Of the same accounts, not of equal ones: secrets are not compared.
impl PartialEq for Context {
    fn eq(&self, other: &Context) -> bool {
        Arc::ptr_eq(&self.accounts, &other.accounts)
            && self.bindings == other.bindings
            && self.entropy == other.entropy
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({:?}, …)", self.accounts)
    }
}

/// One exchange, between two things that the client says.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    context: Context,
    state: State,
}

/// What the client is to say next.
#[derive(Clone, Debug, PartialEq)]
enum State {
    /// PLAIN: everything.
    Plain,
    /// LOGIN: the name.
    LoginName,
    /// LOGIN: the password, after this name.
    LoginPassword(String),
    /// SCRAM: the first message. `plus` is the mechanism's.
    ScramFirst { plus: bool },
    /// SCRAM: the last message.
    ScramFinal(scram::Challenged),
    /// Nothing, to what was the last word in the mechanism (RFC 4954 4).
    Nothing(Login),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Say this, in base64, and go on with what the client responds.
    Challenge(Exchange, Vec<u8>),
    /// Do this where it may take its time, and go on with what comes out.
    Check(Check),
    /// The client is who it says.
    Done(Login),
    /// It is not, or it is not the one that it wants to act for.
    Failed,
    /// What it said is not of the mechanism's form.
    Malformed,
}

impl Exchange {
    /// An exchange in which nothing was said.
    #[must_use]
    pub fn new(mechanism: Mechanism, context: Context) -> Exchange {
        let state = match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Login => State::LoginName,
            Mechanism::ScramSha256 => State::ScramFirst { plus: false },
            Mechanism::ScramSha256Plus => State::ScramFirst { plus: true },
        };
        Exchange { context, state }
    }

    /// Begins with the initial response, if the client gave one: `Some` of nothing where it gave `=`.
    #[must_use]
    pub fn begin(self, initial: Option<&[u8]>) -> Progress {
        match initial {
            Some(response) => self.respond(response),
            None if self.state == State::LoginName => Progress::Challenge(self, login::USERNAME.to_vec()),
            // The client speaks first: the challenge is empty (RFC 4954 4).
            None => Progress::Challenge(self, Vec::new()),
        }
    }

    /// Goes on with what the client responded to the challenge.
    #[must_use]
    pub fn respond(self, response: &[u8]) -> Progress {
        let Exchange { context, state } = self;
        match state {
            State::Plain => plain::message(context, response),
            State::LoginName => login::name(context, response),
            State::LoginPassword(name) => login::password(context, name, response),
            State::ScramFirst { plus } => scram::first(context, plus, response),
            State::ScramFinal(challenged) => scram::last(context, challenged, response),
            State::Nothing(login) if response.is_empty() => Progress::Done(login),
            State::Nothing(_) => Progress::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
