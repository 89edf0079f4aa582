//! AUTH: a client shows who it is (RFC 4954). Only inside TLS.
//!
//! Whatever went wrong, an unknown user hears the same as a known one.

use std::sync::Arc;

use super::{Hello, Known, Move, State, Verdict, close, say};
use crate::accounts::{self, Login};
use crate::inbound::replies;
use crate::inbound::step::{Step, Steps};
use crate::sasl::{Bindings, Context, Exchange, Mechanism, Progress, base64};
use crate::tls::handshake::TlsFacts;

impl Known {
    /// The mechanisms that the client may use now, the best first.
    pub(super) fn mechanisms(&self) -> Vec<Mechanism> {
        match (&self.settings.accounts, &self.tls, &self.login) {
            (Some(accounts), Some(tls), None) => {
                Mechanism::offered(accounts, &bindings(&tls.facts)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// AUTH.
    #[inline(never)]
    pub(super) fn authenticate(&mut self, hello: Hello, mechanism: &str, initial: Option<&str>) -> Move {
        let refusal = match (&self.settings.accounts, &self.tls, &self.login) {
            (None, _, _) => replies::not_implemented(),
            (Some(_), None, _) => replies::encryption_required(),
            (Some(_), _, Some(_)) => replies::login_already(),
            (Some(accounts), Some(tls), None) => {
                let known = Mechanism::from_name(mechanism).filter(|m| self.mechanisms().contains(m));
                let initial = initial.map(|word| base64::decode_initial(word.as_bytes()));
                match (known, initial) {
                    (None, _) => replies::unknown_mechanism(),
                    (Some(_), Some(None)) => replies::bad_base64(),
                    (Some(mechanism), initial) => {
                        self.exchanges += 1;
                        let context = Context {
                            accounts: Arc::clone(accounts),
                            bindings: bindings(&tls.facts),
                            entropy: entropy_of(&tls.entropy, self.exchanges),
                        };
                        let exchange = Exchange::new(mechanism, context);
                        let progress = exchange.begin(initial.flatten().as_deref());
                        return self.proceed(hello, Box::new(progress));
                    }
                }
            }
        };
        self.refuse(State::Ready(hello), refusal)
    }

    /// The client's answer to a challenge.
    #[inline(never)]
    pub(super) fn respond(&mut self, hello: Hello, exchange: Box<Exchange>, line: &[u8]) -> Move {
        if line == base64::CANCEL {
            return self.refuse(State::Ready(hello), replies::login_cancelled());
        }
        match base64::decode(line) {
            Some(response) => {
                let progress = exchange.respond(&response);
                self.proceed(hello, Box::new(progress))
            }
            None => self.refuse(State::Ready(hello), replies::bad_base64()),
        }
    }

    #[inline(never)]
    pub(super) fn proceed(&mut self, hello: Hello, progress: Box<Progress>) -> Move {
        match *progress {
            Progress::Challenge(exchange, challenge) => {
                let reply = replies::challenge(&base64::encode(&challenge));
                (State::Authenticating(hello, Box::new(exchange)), say(reply))
            }
            Progress::Check(check) => (
                State::CheckingPassword(hello),
                Steps::from(Step::Check(Box::new(check))),
            ),
            Progress::Done(login) => self.log_in(hello, Some(login)),
            Progress::Failed => self.log_in(hello, None),
            Progress::Malformed => self.refuse(State::Ready(hello), replies::bad_response()),
        }
    }

    /// The end of an exchange.
    fn log_in(&mut self, hello: Hello, login: Option<Login>) -> Move {
        if let Some(login) = login {
            self.login = Some(Arc::new(login));
            return (State::Ready(hello), say(replies::logged_in()));
        }
        match self.patience.failed_login() {
            Verdict::Answer(pause) => (
                State::Ready(hello),
                Steps::from([Step::Pause(pause), Step::Reply(replies::login_failed())]),
            ),
            Verdict::Close => close(
                &State::Ready(hello),
                replies::too_many_failed_logins(&self.settings.hostname),
            ),
        }
    }
}

/// To what of the TLS connection a proof may be bound.
fn bindings(tls: &TlsFacts) -> Bindings {
    Bindings {
        exporter: tls.exporter,
        server_end_point: tls.server_end_point.clone().unwrap_or_default(),
    }
}

/// Octets for one exchange, which nobody can foresee and none before it has used.
fn entropy_of(entropy: &[u8; 32], exchange: u32) -> [u8; 32] {
    accounts::hmac_sha256(entropy, &exchange.to_be_bytes())
}
