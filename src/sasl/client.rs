//! How we prove who we are to another host: the client's side of PLAIN, LOGIN and SCRAM-SHA-256.
//!
//! An exchange is a value without a socket, as on the other side. Never says a password by itself: whoever begins an
//! exchange has seen to it that nobody listens.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, pbkdf2};

use super::{Mechanism, base64};
use crate::accounts::{hmac_sha256, sha256};

/// More iterations than a host may ask of us: a second of a processor.
const MOST_ITERATIONS: u32 = 2_000_000;

/// A longer nonce than a host may give us: with it the answer stays a line of usual length.
const LONGEST_NONCE: usize = 512;

/// An exchange that we have begun.
pub struct ClientExchange {
    user: String,
    password: String,
    state: State,
}

enum State {
    /// Everything has been said: the host's verdict is due.
    Said,
    /// LOGIN asks for the name, then for the password.
    LoginName,
    LoginPassword,
    /// SCRAM: the first message has been sent, with this nonce.
    ScramFirst {
        bare: String,
        nonce: String,
    },
    /// And the proof; the host has to prove itself by this.
    ScramFinal {
        signature: [u8; 32],
    },
}

/// Neither name nor password, nor what is made of them.
impl fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientExchange(…)")
    }
}

impl ClientExchange {
    /// The mechanism to use of those that a host offers; `None` if we know none of them. A host whose certificate was
    /// verified may have the password, which works with every account; another one gets only a proof where it can.
    #[must_use]
    pub fn choose(offered: &[Mechanism], is_verified: bool) -> Option<Mechanism> {
        let order = if is_verified {
            [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256]
        } else {
            [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login]
        };
        order.into_iter().find(|mechanism| offered.contains(mechanism))
    }

    /// Begins an exchange; and the initial response, where the mechanism has one (RFC 4954 4). `nonce` is printable,
    /// without a comma, and never used before.
    #[must_use]
    pub fn begin(
        mechanism: Mechanism,
        user: &str,
        password: &str,
        nonce: &str,
    ) -> (ClientExchange, Option<Vec<u8>>) {
        let (state, initial) = match mechanism {
            Mechanism::Plain => (State::Said, Some(format!("\0{user}\0{password}").into_bytes())),
            Mechanism::Login => (State::LoginName, None),
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                let prepared = stringprep::saslprep(user).unwrap_or(user.into());
                let bare = format!("n={},r={nonce}", prepared.replace('=', "=3D").replace(',', "=2C"));
                let initial = format!("n,,{bare}").into_bytes();
                let nonce = nonce.to_owned();
                (State::ScramFirst { bare, nonce }, Some(initial))
            }
        };
        let exchange = ClientExchange {
            user: user.to_owned(),
            password: password.to_owned(),
            state,
        };
        (exchange, initial)
    }

    /// What to answer to a challenge; `None` where the exchange has to be broken off.
    pub fn respond(&mut self, challenge: &[u8]) -> Option<Vec<u8>> {
        let (state, response) = match &self.state {
            State::Said => return None,
            State::LoginName => (State::LoginPassword, self.user.clone().into_bytes()),
            State::LoginPassword => (State::Said, self.password.clone().into_bytes()),
            State::ScramFirst { bare, nonce } => self.prove(bare, nonce, str::from_utf8(challenge).ok()?)?,
            State::ScramFinal { signature } => {
                let verifier = str::from_utf8(challenge).ok()?.strip_prefix("v=")?;
                let theirs = base64::decode(verifier.split(',').next()?.as_bytes())?;
                constant_time::verify_slices_are_equal(&theirs, signature).ok()?;
                (State::Said, Vec::new())
            }
        };
        self.state = state;
        Some(response)
    }

    /// Whether the host may say now that we are who we say: with SCRAM only after it has proved itself.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Said)
    }

    /// client-final-message (RFC 5802 7), and what proves the host.
    fn prove(&self, bare: &str, nonce: &str, server_first: &str) -> Option<(State, Vec<u8>)> {
        let mut attributes = server_first.split(',');
        let both = attributes.next()?.strip_prefix("r=")?;
        let salt = base64::decode(attributes.next()?.strip_prefix("s=")?.as_bytes())?;
        let iterations: u32 = attributes.next()?.strip_prefix("i=")?.parse().ok()?;
        let is_fresh = both.starts_with(nonce) && (nonce.len() + 1..=LONGEST_NONCE).contains(&both.len());
        if !is_fresh || salt.is_empty() || iterations > MOST_ITERATIONS {
            return None;
        }
        let password = stringprep::saslprep(&self.password).unwrap_or(self.password.as_str().into());
        let mut salted = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            NonZeroU32::new(iterations)?,
            &salt,
            password.as_bytes(),
            &mut salted,
        );
        let without_proof = format!("c=biws,r={both}");
        let said = format!("{bare},{server_first},{without_proof}");
        let client_key = hmac_sha256(&salted, b"Client Key");
        let mut proof = hmac_sha256(&sha256(&client_key), said.as_bytes());
        proof
            .iter_mut()
            .zip(client_key)
            .for_each(|(octet, key)| *octet ^= key);
        let signature = hmac_sha256(&hmac_sha256(&salted, b"Server Key"), said.as_bytes());
        let response = format!("{without_proof},p={}", base64::encode(&proof));
        Some((State::ScramFinal { signature }, response.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(mechanism: Mechanism) -> (ClientExchange, Option<Vec<u8>>) {
        ClientExchange::begin(mechanism, "user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    }

    #[test]
    fn plain_says_everything_at_once_and_login_when_it_is_asked() {
        let (mut plain, initial) = begin(Mechanism::Plain);
        assert_eq!(initial.as_deref(), Some(&b"\0user\0pencil"[..]));
        assert!(plain.is_complete() && plain.respond(b"").is_none());
        let (mut login, initial) = begin(Mechanism::Login);
        assert_eq!(initial, None);
        assert_eq!(login.respond(b"Username:").as_deref(), Some(&b"user"[..]));
        assert!(!login.is_complete());
        assert_eq!(login.respond(b"Password:").as_deref(), Some(&b"pencil"[..]));
        assert!(login.is_complete() && login.respond(b"?").is_none());
    }

    /// The example of RFC 7677 3.
    #[test]
    fn scram_proves_us_and_has_the_host_prove_itself() {
        let server_first =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (mut scram, initial) = begin(Mechanism::ScramSha256);
        assert_eq!(initial.as_deref(), Some(&b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"[..]));
        let proof = scram.respond(server_first).unwrap();
        assert_eq!(
            String::from_utf8(proof).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.is_complete());
        let verifier = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(scram.respond(verifier).as_deref(), Some(&b""[..]));
        assert!(scram.is_complete());
    }

    #[test]
    fn a_host_that_does_not_prove_itself_is_not_believed() {
        let server_first = b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (mut scram, _) = begin(Mechanism::ScramSha256);
        scram.respond(server_first).unwrap();
        assert!(
            scram
                .respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
                .is_none()
        );
        assert!(!scram.is_complete());
        for wrong in [
            &b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"[..],
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            b"\xff",
        ] {
            let (mut scram, _) = begin(Mechanism::ScramSha256);
            assert!(scram.respond(wrong).is_none(), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn a_proof_is_given_rather_than_the_password_unless_the_host_is_verified() {
        let all = [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256];
        assert_eq!(ClientExchange::choose(&all, false), Some(Mechanism::ScramSha256));
        assert_eq!(ClientExchange::choose(&all, true), Some(Mechanism::Plain));
        assert_eq!(
            ClientExchange::choose(&[Mechanism::Login], false),
            Some(Mechanism::Login)
        );
        assert_eq!(ClientExchange::choose(&[Mechanism::ScramSha256Plus], true), None);
    }
}
