//! How a session comes to the point where messages may go: STARTTLS where it is wanted and offered, EHLO once more,
//! AUTH where we have a login (RFC 3207, RFC 4954).
//!
//! Never says a password where somebody may listen, and never goes on in the clear where TLS is required.

use super::{Due, End, Phase, Session, Step, send};
use crate::config::TlsLevel;
use crate::outbound::offered::Offered;
use crate::outbound::outcome::Reason;
use crate::sasl::base64;
use crate::sasl::client::ClientExchange;
use crate::smtp::reply::Reply;

impl Session {
    /// EHLO or HELO has been answered: what comes before messages may go.
    pub(super) fn introduce(&mut self, steps: &mut Vec<Step>) {
        let level = self.security.level;
        if self.tls.is_none() && level != TlsLevel::Never {
            if self.offered.starttls && !self.security.tls_failed {
                return self.command(Due::StartTls, "STARTTLS\r\n", steps);
            }
            if level.is_required() {
                return self.refuse(&Reason::no_tls(&self.peer), steps);
            }
        }
        if self.security.login.is_some() && self.exchange.is_none() {
            return self.log_in(steps);
        }
        self.phase = Phase::Open;
    }

    /// TLS is spoken: whatever the peer has said before is forgotten (RFC 3207 4.2).
    pub(super) fn begin_again(&mut self, verified: bool, steps: &mut Vec<Step>) {
        self.tls = Some(verified);
        self.offered = Offered::default();
        let line = format!("EHLO {}\r\n", self.hostname);
        self.command(Due::Ehlo, &line, steps);
    }

    /// Whether the connection, which is at its end before the peer has granted anything, may have been lost by TLS, and the
    /// peer may be spoken to without it. Where we have a login it is not worth trying: that is not said in the clear.
    pub(super) fn may_do_without_tls(&self) -> bool {
        let waits_for_tls = matches!(self.due.front(), None | Some((Due::StartTls, _)));
        let shaking_hands = self.tls.is_none() && self.offered.starttls && waits_for_tls;
        let would_do = self.security.login.is_none() || self.nobody_listens();
        (self.tls.is_some() || shaking_hands) && self.security.level == TlsLevel::May && would_do
    }

    fn log_in(&mut self, steps: &mut Vec<Step>) {
        let Some(login) = self.security.login.clone() else {
            return;
        };
        if self.tls.is_none() && !self.nobody_listens() {
            return self.refuse(&Reason::no_login(&self.peer, "it does not offer TLS"), steps);
        }
        let verified = self.tls == Some(true);
        let Some(mechanism) = ClientExchange::choose(&self.offered.auth, verified) else {
            let why = "it offers no mechanism of AUTH that we know";
            return self.refuse(&Reason::no_login(&self.peer, why), steps);
        };
        let (exchange, initial) =
            ClientExchange::begin(mechanism, &login.user, &login.password, &self.security.nonce);
        self.exchange = Some(exchange);
        let initial = initial.map(|octets| format!(" {}", base64::encode(&octets)));
        let line = format!("AUTH {}{}\r\n", mechanism.name(), initial.unwrap_or_default());
        self.command(Due::Auth, &line, steps);
    }

    /// Whether a login may be said without TLS: on this machine, or because the operator says so.
    fn nobody_listens(&self) -> bool {
        self.security.level == TlsLevel::Never || self.peer.address.ip().to_canonical().is_loopback()
    }

    /// The peer has answered in an exchange: with a challenge, or with yes. What is a no ends the session before it
    /// comes here.
    pub(super) fn authenticate(&mut self, reply: &Reply, steps: &mut Vec<Step>) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        if reply.code != 334 {
            if exchange.is_complete() {
                self.phase = Phase::Open;
            } else {
                let why = "it says that we are logged in, and has not proved that it knows us";
                self.refuse(&Reason::no_login(&self.peer, why), steps);
            }
            return;
        }
        let challenge = reply.lines.first().map(String::as_str).unwrap_or_default();
        let response =
            base64::decode(challenge.trim().as_bytes()).and_then(|octets| exchange.respond(&octets));
        match response {
            Some(response) => {
                let line = format!("{}\r\n", base64::encode(&response));
                self.command(Due::Auth, &line, steps);
            }
            None => {
                send(b"*\r\n", steps);
                let why = "its part of the exchange is not what it should be";
                self.refuse(&Reason::no_login(&self.peer, why), steps);
            }
        }
    }

    /// Whether the next reply is to AUTH, and what was said last belongs to that.
    #[must_use]
    pub fn is_logging_in(&self) -> bool {
        matches!(self.due.front(), Some((Due::Auth, _)))
    }

    /// The next reply as it may be shown and kept. There are hosts that repeat what they do not like: of an answer to
    /// AUTH with the password in it, as it is or as it was sent, the code alone is left.
    #[must_use]
    pub fn shown(&self, reply: Reply) -> Reply {
        let is_to_auth = self.is_logging_in();
        let Some(login) = self.security.login.as_ref().filter(|_| is_to_auth) else {
            return reply;
        };
        let plain = format!("\0{}\0{}", login.user, login.password);
        let secrets = [
            login.password.to_ascii_lowercase(),
            base64::encode(login.password.as_bytes()).to_ascii_lowercase(),
            base64::encode(plain.as_bytes()).to_ascii_lowercase(),
        ];
        let said = reply.lines.concat().to_ascii_lowercase();
        if secrets
            .iter()
            .any(|secret| said.contains(secret.trim_end_matches('=')))
        {
            let lines = vec!["(its words have our password in them)".to_owned()];
            return Reply { lines, ..reply };
        }
        reply
    }

    /// We do not go on with this peer, although it would.
    fn refuse(&mut self, reason: &Reason, steps: &mut Vec<Step>) {
        send(b"QUIT\r\n", steps);
        self.give_back(steps);
        self.close(End::Refused(reason.clone()), steps);
    }
}
