//! The schemes in which `smtpmta passwd` writes a password for the accounts file.
//!
//! Pure: the salt is given. Never reads what it wrote; that is `password`.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::{BASE64, BASE64_NOPAD};
use sha_crypt::{CustomizedPasswordHasher, ShaCrypt};

use super::scram::Keys;

/// Memory in KiB, passes and lanes of Argon2: OWASP's first choice.
const ARGON2: (u32, u32, u32) = (19_456, 2, 1);
/// Rounds of SHA-crypt: some hundredth of a second.
const ROUNDS: u32 = 100_000;
/// Iterations of SCRAM: the client has to do them as well, at each login.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(16_384).expect("it is not 0");

/// A scheme that can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Argon2id: for PLAIN and LOGIN.
    #[default]
    Argon2id,
    /// SHA-512-crypt, which crypt(3) knows, too.
    Sha512Crypt,
    /// SHA-256-crypt.
    Sha256Crypt,
    /// Keys with which SCRAM-SHA-256 works as well.
    ScramSha256,
    /// The password itself.
    Plain,
}

impl Scheme {
    /// Every scheme with its word on the command line.
    pub const WORDS: [(&'static str, Scheme); 5] = [
        ("argon2id", Scheme::Argon2id),
        ("sha512-crypt", Scheme::Sha512Crypt),
        ("sha256-crypt", Scheme::Sha256Crypt),
        ("scram-sha-256", Scheme::ScramSha256),
        ("plain", Scheme::Plain),
    ];

    /// The scheme of this word, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Scheme> {
        let known = Scheme::WORDS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word));
        known.map(|(_, scheme)| *scheme)
    }

    /// The second field of a line of the accounts file, for this password and a salt that was never used.
    ///
    /// # Errors
    /// When there is not the memory for it.
    pub fn field(self, password: &str, salt: [u8; 16]) -> Result<String, SchemeError> {
        match self {
            Scheme::Argon2id => argon2id(password, &salt),
            Scheme::Sha512Crypt => sha_crypt("SHA512-CRYPT", ShaCrypt::SHA512, password, &salt),
            Scheme::Sha256Crypt => sha_crypt("SHA256-CRYPT", ShaCrypt::SHA256, password, &salt),
            Scheme::ScramSha256 => {
                let keys = Keys::derive(password.as_bytes(), &salt, ITERATIONS);
                Ok(format!("{{SCRAM-SHA-256}}{}", keys.text()))
            }
            // A colon ends a field, and a carriage return may end a line.
            Scheme::Plain if password.contains(|c: char| c == ':' || c.is_control()) => {
                Ok(format!("{{PLAIN.b64}}{}", BASE64.encode(password.as_bytes())))
            }
            Scheme::Plain => Ok(format!("{{PLAIN}}{password}")),
        }
    }
}

/// A hash could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemeError;

impl std::fmt::Display for SchemeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the hash could not be made: there is not enough memory")
    }
}

impl std::error::Error for SchemeError {}

fn argon2id(password: &str, salt: &[u8]) -> Result<String, SchemeError> {
    let (memory, passes, lanes) = ARGON2;
    let params = Params::new(memory, passes, lanes, None).map_err(|_| SchemeError)?;
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut hash)
        .map_err(|_| SchemeError)?;
    Ok(format!(
        "{{ARGON2ID}}$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}",
        BASE64_NOPAD.encode(salt),
        BASE64_NOPAD.encode(&hash)
    ))
}

fn sha_crypt(name: &str, hasher: ShaCrypt, password: &str, salt: &[u8; 16]) -> Result<String, SchemeError> {
    // SHA-crypt takes the 16 letters of a salt as they are: 12 octets.
    let params = sha_crypt::Params::new(ROUNDS).map_err(|_| SchemeError)?;
    let hash = hasher
        .hash_password_customized(password.as_bytes(), &salt[..12], None, None, params)
        .map_err(|_| SchemeError)?;
    Ok(format!("{{{name}}}{hash}"))
}

#[cfg(test)]
mod tests {
    use super::super::password::Password;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (word, scheme) in Scheme::WORDS {
            assert_eq!(Scheme::from_word(&word.to_uppercase()), Some(scheme));
            for password in ["pencil", "Grüße: 1"] {
                let field = scheme.field(password, [7; 16]).unwrap();
                assert!(!field.contains(':'), "{field}");
                let begin = field.to_lowercase();
                assert!(begin.starts_with(&format!("{{{word}")), "{field}");
                let read = Password::parse(&field).unwrap();
                assert!(
                    read.matches(password.as_bytes()) && !read.matches(b"Pencil"),
                    "{field}"
                );
            }
        }
        assert_eq!(Scheme::from_word("md5"), None);
    }

    #[test]
    fn each_salt_gives_another_hash() {
        let (one, other) = ([1; 16], [2; 16]);
        for scheme in [Scheme::Sha256Crypt, Scheme::ScramSha256] {
            assert_ne!(scheme.field("x", one), scheme.field("x", other));
        }
    }
}
