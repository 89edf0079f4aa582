//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: a proof that one has the password, without the password, and the
//! server's own proof (RFC 5802, RFC 7677; bindings to TLS: RFC 5929, RFC 9266).
//!
//! Strict: what the grammar of RFC 5802 7 has no place for is no message. Never tells which half was wrong.

use std::fmt;

use aws_lc_rs::constant_time;
use data_encoding::BASE64_NOPAD;

use super::check::Check;
use super::{Context, Exchange, Progress, State, base64};
use crate::accounts::{hmac_sha256, sha256};

/// Octets of our half of the nonce.
const NONCE: usize = 24;
/// The longest half that a client may add, in octets: with the longest salt the challenge has to fit into a line of 512
/// octets, in base64. Clients make some 24 of them.
const LONGEST_NONCE: usize = 200;

/// What we know when we have challenged.
#[derive(Clone, PartialEq)]
pub(super) struct Challenged {
    /// The login name, prepared.
    name: String,
    /// What `c=` must say: the GS2 header and the data of the binding.
    bound: Vec<u8>,
    /// Both halves.
    nonce: String,
    /// What has been said, with the commas, as it goes into the proof (RFC 5802 3: AuthMessage).
    said: String,
}

/// What the client proves.
#[derive(Clone, PartialEq)]
pub(super) struct Proof {
    name: String,
    said: String,
    proof: [u8; 32],
}

impl fmt::Debug for Challenged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenged({:?}, …)", self.name)
    }
}

/// The client's first message, in parts (RFC 5802 7: client-first-message).
struct First<'m> {
    flag: Flag<'m>,
    /// Whom the client wants to act for.
    acts_for: Option<String>,
    /// Everything before `bare`.
    header: &'m str,
    name: String,
    nonce: &'m str,
    /// client-first-message-bare.
    bare: &'m str,
}

/// What the client says of channel binding (RFC 5802 6).
#[derive(Clone, Copy, PartialEq)]
enum Flag<'m> {
    /// `n`: it does none.
    None,
    /// `y`: it would, but thinks that we do none.
    NotOffered,
    /// `p=`: it does this one.
    Bound(&'m str),
}

/// The first message: answers with salt, iterations and nonce.
pub(super) fn first(context: Context, plus: bool, message: &[u8]) -> Progress {
    let nonce = BASE64_NOPAD.encode(&context.entropy[..NONCE]);
    challenge(context, plus, message, &nonce)
}

/// As [`first`], with our half of the nonce.
fn challenge(context: Context, plus: bool, message: &[u8], our_nonce: &str) -> Progress {
    let Some(first) = str::from_utf8(message).ok().and_then(First::parse) else {
        return Progress::Malformed;
    };
    let binding = match (plus, first.flag) {
        (true, Flag::Bound(name)) => context.bindings.data(name),
        (false, Flag::None) => Some(&[][..]),
        // Who took our offer out of EHLO made the client say so (RFC 5802 6).
        (false, Flag::NotOffered) if !context.bindings.any() => Some(&[][..]),
        _ => None,
    };
    let (Some(binding), Ok(name)) = (binding, stringprep::saslprep(&first.name)) else {
        return Progress::Failed;
    };
    let another = |acts_for: String| !context.accounts.same_login(&acts_for, &name);
    if first.acts_for.is_some_and(another) {
        return Progress::Failed;
    }
    let salt = context.accounts.scram_salt(&name);
    let nonce = format!("{}{our_nonce}", first.nonce);
    let answer = format!("r={nonce},s={},i={}", base64::encode(&salt.salt), salt.iterations);
    let state = State::ScramFinal(Challenged {
        name: name.into_owned(),
        bound: [first.header.as_bytes(), binding].concat(),
        nonce,
        said: format!("{},{answer},", first.bare),
    });
    Progress::Challenge(Exchange { context, state }, answer.into_bytes())
}

/// The last message: a proof, to be checked.
pub(super) fn last(context: Context, challenged: Challenged, message: &[u8]) -> Progress {
    let Some((bare, bound, nonce, proof)) = str::from_utf8(message).ok().and_then(parse_final) else {
        return Progress::Malformed;
    };
    if bound != challenged.bound || nonce != challenged.nonce {
        return Progress::Failed;
    }
    let proof = Proof {
        name: challenged.name,
        said: challenged.said + bare,
        proof,
    };
    Progress::Check(Check::proof(context, proof))
}

impl Proof {
    /// The login name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks it, and gives our own proof if it holds (RFC 5802 3).
    pub fn check(self, context: Context) -> Progress {
        let keys = context.accounts.scram_keys(&self.name);
        let signature = hmac_sha256(&keys.stored_key, self.said.as_bytes());
        let mut client_key = self.proof;
        for (octet, mask) in client_key.iter_mut().zip(signature) {
            *octet ^= mask;
        }
        let holds = constant_time::verify_slices_are_equal(&sha256(&client_key), &keys.stored_key).is_ok();
        let signature = hmac_sha256(&keys.server_key, self.said.as_bytes());
        match keys.login.filter(|_| holds) {
            Some(login) => {
                let state = State::Nothing(login);
                let last = format!("v={}", base64::encode(&signature));
                Progress::Challenge(Exchange { context, state }, last.into_bytes())
            }
            None => Progress::Failed,
        }
    }
}

impl First<'_> {
    fn parse(message: &str) -> Option<First<'_>> {
        let (flag, rest) = message.split_once(',')?;
        let (acts_for, bare) = rest.split_once(',')?;
        let flag = match flag {
            "n" => Flag::None,
            "y" => Flag::NotOffered,
            flag => Flag::Bound(flag.strip_prefix("p=").filter(|name| is_binding_name(name))?),
        };
        let acts_for = match acts_for {
            "" => None,
            acts_for => Some(unescaped(acts_for.strip_prefix("a=")?)?),
        };
        let mut attributes = bare.split(',');
        // An `m=` in front would be an extension that we must know (RFC 5802 5.1).
        let name = unescaped(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes
            .next()?
            .strip_prefix("r=")
            .filter(|nonce| is_printable(nonce) && nonce.len() <= LONGEST_NONCE)?;
        attributes.all(is_extension).then_some(First {
            flag,
            acts_for,
            header: message.strip_suffix(bare)?,
            name,
            nonce,
            bare,
        })
    }
}

/// The last message without its proof, what it says of the binding, its nonce, and the proof (RFC 5802 7:
/// client-final-message).
fn parse_final(message: &str) -> Option<(&str, Vec<u8>, &str, [u8; 32])> {
    let (bare, proof) = message.rsplit_once(",p=")?;
    let mut attributes = bare.split(',');
    let bound = base64::decode(attributes.next()?.strip_prefix("c=")?.as_bytes())?;
    let nonce = attributes
        .next()?
        .strip_prefix("r=")
        .filter(|nonce| is_printable(nonce))?;
    let proof = base64::decode(proof.as_bytes())?.try_into().ok()?;
    attributes
        .all(is_extension)
        .then_some((bare, bound, nonce, proof))
}

/// saslname: a comma and an equals sign are written `=2C` and `=3D`. Never empty.
fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('=');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (sign, rest) = match piece.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        name.push(sign);
        name += rest;
    }
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

/// attr-val: a letter, `=`, and something. Those that we do not know may be passed over, except for `m`.
fn is_extension(text: &str) -> bool {
    let octets = text.as_bytes();
    octets.len() > 2
        && octets[0].is_ascii_alphabetic()
        && octets[0] != b'm'
        && octets[1] == b'='
        && !octets.contains(&0)
}

/// printable: visible ASCII, and no comma. Never empty.
fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

/// cb-name.
fn is_binding_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
}

#[cfg(test)]
mod tests;
