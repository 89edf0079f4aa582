//! What an accounts file says of a password: its hash, or itself.
//!
//! Pure, and slow on purpose. Never shown, whatever is asked for: `Debug` and errors name the scheme alone.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use sha_crypt::{PasswordVerifier, ShaCrypt};

use super::scram::{self, Keys};

/// The longest password in octets, given or kept. SHA-crypt takes a time that grows with the square of it.
pub const LONGEST: usize = 1024;
/// The most memory that Argon2 may use for one password, in KiB.
const MOST_MEMORY: u32 = 1 << 20;
/// The most memory times passes, in KiB: some seconds of a processor.
const MOST_WORK: u64 = 4 << 20;
/// The rounds that SHA-crypt may take.
const ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=10_000_000;

/// How the value behind the name of a scheme is to be read.
enum Form {
    /// `$id$…`, with one of these.
    Crypt(&'static [&'static str]),
    /// Keys of SCRAM-SHA-256.
    Scram,
    /// The password itself.
    Plain,
}

const ARGON2: &[&str] = &["argon2id", "argon2i"];
const SHA_CRYPT: &[&str] = &["6", "5"];
const ANY: &[&str] = &["argon2id", "argon2i", "6", "5"];

/// Hashes of other programs, which may be named. Between other dollars may stand a part of a password.
const ELSEWHERE: [&str; 14] = [
    "1", "2", "2a", "2b", "2x", "2y", "5", "6", "7", "y", "gy", "argon2d", "argon2i", "argon2id",
];

/// The schemes that are known, with Dovecot's names.
const SCHEMES: [(&str, Form); 9] = [
    ("ARGON2ID", Form::Crypt(ARGON2)),
    ("ARGON2I", Form::Crypt(ARGON2)),
    ("SHA512-CRYPT", Form::Crypt(SHA_CRYPT)),
    ("SHA256-CRYPT", Form::Crypt(SHA_CRYPT)),
    ("CRYPT", Form::Crypt(ANY)),
    ("SCRAM-SHA-256", Form::Scram),
    ("PLAIN", Form::Plain),
    ("CLEARTEXT", Form::Plain),
    ("CLEAR", Form::Plain),
];

/// The password of an account.
#[derive(PartialEq)]
pub(super) enum Password {
    /// None: nobody can log in with it.
    Locked,
    /// Itself, as [`scram::prepared`] gives it.
    Plain(Box<[u8]>),
    /// `$5$…` or `$6$…`, whole.
    ShaCrypt(Box<str>),
    /// An Argon2 hash.
    Argon2(Box<Argon2Hash>),
    /// Keys of SCRAM-SHA-256.
    Scram(Box<Keys>),
}

/// An Argon2 hash with all that it was made from, save for the password.
#[derive(PartialEq)]
pub(super) struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

impl Password {
    /// Reads the second field of a line.
    ///
    /// # Errors
    /// Says what was expected, without what was there.
    pub fn parse(field: &str) -> Result<Password, String> {
        if is_locked(field) {
            return Ok(Password::Locked);
        }
        let Some(rest) = field.strip_prefix('{') else {
            return crypt("", field, ANY);
        };
        let (scheme, value) = rest
            .split_once('}')
            .ok_or_else(|| format!("expected }} behind the name of a scheme; {}", known()))?;
        let (name, encoding) = match scheme.split_once('.') {
            Some((name, encoding)) => (name, Some(encoding)),
            None => (scheme, None),
        };
        let Some((name, form)) = SCHEMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            return Err(format!("{{{}}}: {}", shown(scheme), known()));
        };
        let value = decoded(name, value, encoding)?;
        match form {
            Form::Plain if value.len() > LONGEST => Err(format!(
                "{{{name}}}: expected a password of at most {LONGEST} octets"
            )),
            Form::Plain if value.is_empty() => Ok(Password::Locked),
            Form::Plain => Ok(Password::Plain(scram::prepared(&value).into())),
            form => {
                let text = str::from_utf8(&value)
                    .map_err(|_| format!("{{{name}}}: expected a hash in printable ASCII"))?;
                match form {
                    Form::Crypt(_) if *name == "CRYPT" && is_locked(text) => Ok(Password::Locked),
                    Form::Crypt(ids) => crypt(name, text, ids),
                    _ => Keys::parse(text).map(|keys| Password::Scram(Box::new(keys))),
                }
            }
        }
    }

    /// Whether there is a password that would be right.
    pub fn can_log_in(&self) -> bool {
        !matches!(self, Password::Locked)
    }

    /// Whether SCRAM-SHA-256 can be done with it.
    pub fn does_scram(&self) -> bool {
        matches!(self, Password::Plain(_) | Password::Scram(_))
    }

    /// Whether this is the password. Takes as long as the hash is meant to.
    pub fn matches(&self, password: &[u8]) -> bool {
        match self {
            Password::Locked => false,
            Password::Plain(kept) => {
                // Of hashes, so that the time says nothing of the length either.
                let (kept, given) = (scram::sha256(kept), scram::sha256(&scram::prepared(password)));
                constant_time::verify_slices_are_equal(&kept, &given).is_ok()
            }
            Password::ShaCrypt(hash) => ShaCrypt::default().verify_password(password, &**hash).is_ok(),
            Password::Argon2(hash) => hash.matches(password),
            Password::Scram(keys) => keys.matches(password),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Password::Locked => "Locked",
            Password::Plain(_) => "Plain(…)",
            Password::ShaCrypt(_) => "ShaCrypt(…)",
            Password::Argon2(_) => "Argon2(…)",
            Password::Scram(_) => "Scram(…)",
        })
    }
}

impl Argon2Hash {
    fn parse(text: &str) -> Option<Result<Argon2Hash, String>> {
        let parts = PasswordHash::new(text).ok()?;
        let algorithm = Algorithm::new(parts.algorithm).ok()?;
        // Argon2 1.0 wrote no version.
        let version = Version::try_from(parts.version.unwrap_or(Version::V0x10.into())).ok()?;
        let params = Params::try_from(&parts).ok()?;
        let (memory, passes) = (params.m_cost(), params.t_cost());
        if memory > MOST_MEMORY || u64::from(memory) * u64::from(passes) > MOST_WORK {
            return Some(Err(format!(
                "expected a hash whose cost is at most m={MOST_MEMORY} and {MOST_WORK} in m times t"
            )));
        }
        Some(Ok(Argon2Hash {
            algorithm,
            version,
            params,
            salt: parts.salt?.as_ref().into(),
            hash: parts.hash?.as_bytes().into(),
        }))
    }

    fn matches(&self, password: &[u8]) -> bool {
        let mut given = vec![0; self.hash.len()];
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        match argon2.hash_password_into(password, &self.salt, &mut given) {
            Ok(()) => constant_time::verify_slices_are_equal(&given, &self.hash).is_ok(),
            Err(error) => {
                log::warn!("a password could not be checked: {error}");
                false
            }
        }
    }
}

/// As in /etc/shadow: nothing, `!…`, `*…`, and the `x` of /etc/passwd.
fn is_locked(field: &str) -> bool {
    field.is_empty() || field.starts_with(['!', '*']) || field == "x"
}

/// A hash that says itself how it was made: `$id$…`.
fn crypt(scheme: &str, value: &str, ids: &[&str]) -> Result<Password, String> {
    let scheme = match scheme {
        "" => String::new(),
        scheme => format!("{{{scheme}}}: "),
    };
    let id = value
        .strip_prefix('$')
        .and_then(|rest| rest.split_once('$'))
        .map(|(id, _)| id);
    let Some(id) = id else {
        return Err(match &*scheme {
            "" => format!("expected {{SCHEME}} or $ in front of the password; {}", known()),
            scheme => format!("{scheme}expected a hash that begins with {}", begins(ids)),
        });
    };
    if !ids.contains(&id) {
        let id = if ELSEWHERE.contains(&id) { id } else { "…" };
        return Err(format!(
            "{scheme}${id}$: expected a hash that begins with {}",
            begins(ids)
        ));
    }
    match id {
        "argon2id" | "argon2i" => Argon2Hash::parse(value)
            .unwrap_or_else(|| Err(format!("expected ${id}$v=…$m=…,t=…,p=…$salt$hash")))
            .map(|hash| Password::Argon2(Box::new(hash)))
            .map_err(|what| format!("{scheme}{what}")),
        _ => sha_crypt_hash(id, value)
            .map(Password::ShaCrypt)
            .map_err(|what| format!("{scheme}{what}")),
    }
}

/// `$5$salt$hash` or `$6$rounds=N$salt$hash`, looked through so that checking cannot fail.
fn sha_crypt_hash(id: &str, value: &str) -> Result<Box<str>, String> {
    let form = || format!("expected ${id}$salt$hash or ${id}$rounds=…$salt$hash");
    let mut fields: Vec<&str> = value.split('$').skip(2).collect();
    if let Some(rounds) = fields.first().and_then(|first| first.strip_prefix("rounds=")) {
        let (fewest, most) = (ROUNDS.start(), ROUNDS.end());
        if !rounds.parse().is_ok_and(|rounds| ROUNDS.contains(&rounds)) {
            return Err(format!("expected rounds from {fewest} to {most}"));
        }
        fields.remove(0);
    }
    let [salt, hash] = fields[..] else {
        return Err(form());
    };
    // The last letter holds the few bits that are left over; others in it could never match.
    let (length, last) = match id {
        "6" => (86, "./01"),
        _ => (43, "./0123456789ABCD"),
    };
    let in_alphabet = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b))
    };
    let whole = hash.len() == length && in_alphabet(hash) && hash.ends_with(|end| last.contains(end));
    if salt.is_empty() || !in_alphabet(salt) || !whole {
        return Err(form());
    }
    Ok(value.into())
}

/// The value behind `{SCHEME.b64}` or `{SCHEME.hex}`.
fn decoded(name: &str, value: &str, encoding: Option<&str>) -> Result<Vec<u8>, String> {
    let Some(encoding) = encoding else {
        return Ok(value.into());
    };
    let (form, word) = match encoding.to_ascii_lowercase().as_str() {
        "b64" | "base64" => (BASE64, "base64"),
        "hex" => (HEXLOWER_PERMISSIVE, "hexadecimal"),
        _ => {
            return Err(format!(
                "{{{name}}}: expected .b64 or .hex behind the name, or nothing"
            ));
        }
    };
    form.decode(value.as_bytes())
        .map_err(|_| format!("{{{name}.{encoding}}}: expected {word} behind it"))
}

/// The name of a scheme, unless it has not the looks of one: then it may be a part of a password.
fn shown(name: &str) -> &str {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name.len() <= 24 && name.bytes().all(letter) {
        name
    } else {
        "…"
    }
}

fn known() -> String {
    let names: Vec<&str> = SCHEMES.iter().map(|(name, _)| *name).collect();
    format!("the schemes known are {}", names.join(", "))
}

fn begins(ids: &[&str]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("${id}$")).collect();
    ids.join(" or ")
}

#[cfg(test)]
mod tests;
