//! What SCRAM-SHA-256 keeps of a password: salt, iterations, StoredKey and ServerKey (RFC 5802 3, RFC 7677).
//!
//! Values only. Never keeps the password, and never shows the keys.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use data_encoding::BASE64;

/// The iterations for a password that the file has in clear, and the fewest that are taken (RFC 7677 4).
pub(super) const FEWEST_ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not 0");
/// The most iterations that are taken from a file: some seconds of a processor.
const MOST_ITERATIONS: u32 = 10_000_000;
/// The longest salt that is taken from a file, in octets.
const LONGEST_SALT: usize = 64;

/// The keys of one account.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// What makes two equal passwords different; never empty.
    pub salt: Box<[u8]>,
    /// How often the hash is taken.
    pub iterations: NonZeroU32,
    /// The hash of what the client proves to have.
    pub stored_key: [u8; 32],
    /// With what the server proves itself.
    pub server_key: [u8; 32],
}

impl Keys {
    /// Reads `iterations,salt,StoredKey,ServerKey`, as Dovecot writes it.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Keys, String> {
        let fields: Vec<&str> = text.split(',').collect();
        let [iterations, salt, stored_key, server_key] = fields[..] else {
            return Err("{SCRAM-SHA-256}: expected iterations,salt,stored key,server key".into());
        };
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (FEWEST_ITERATIONS.get()..=MOST_ITERATIONS).contains(count))
            .and_then(NonZeroU32::new)
            .ok_or_else(|| {
                format!(
                    "{{SCRAM-SHA-256}}: expected {FEWEST_ITERATIONS} to {MOST_ITERATIONS} iterations in \
                     front"
                )
            })?;
        let salt = octets(salt)
            .filter(|salt| (1..=LONGEST_SALT).contains(&salt.len()))
            .ok_or_else(|| {
                format!("{{SCRAM-SHA-256}}: expected a salt of 1 to {LONGEST_SALT} octets in base64")
            })?;
        let key = |text, name| {
            octets(text)
                .and_then(|octets| octets.try_into().ok())
                .ok_or_else(|| format!("{{SCRAM-SHA-256}}: expected a {name} of 32 octets in base64"))
        };
        Ok(Keys {
            salt: salt.into(),
            iterations,
            stored_key: key(stored_key, "stored key")?,
            server_key: key(server_key, "server key")?,
        })
    }

    /// The keys that follow from a password, which is [`prepared`] first.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Keys {
        let mut salted = [0; 32];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, salt, &prepared(password), &mut salted);
        Keys {
            salt: salt.into(),
            iterations,
            stored_key: sha256(&hmac_sha256(&salted, b"Client Key")),
            server_key: hmac_sha256(&salted, b"Server Key"),
        }
    }

    /// Whether these are the keys of that password.
    pub fn matches(&self, password: &[u8]) -> bool {
        let given = Keys::derive(password, &self.salt, self.iterations);
        constant_time::verify_slices_are_equal(&given.stored_key, &self.stored_key).is_ok()
    }

    /// What [`Keys::parse`] reads.
    pub fn text(&self) -> String {
        format!(
            "{},{},{},{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(&self.stored_key),
            BASE64.encode(&self.server_key)
        )
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// A password in the form in which two are compared: SASLprep (RFC 4013), and as it is where that has no form
/// for it.
pub(super) fn prepared(password: &[u8]) -> Cow<'_, [u8]> {
    let text = str::from_utf8(password).ok();
    match text.and_then(|text| stringprep::saslprep(text).ok()) {
        Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        Some(Cow::Borrowed(_)) | None => Cow::Borrowed(password),
    }
}

/// HMAC with SHA-256 (RFC 5802 2.2: `HMAC(key, str)`).
#[must_use]
pub fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut octets = [0; 32];
    octets.copy_from_slice(tag.as_ref());
    octets
}

/// SHA-256 (RFC 5802 2.2: `H(str)`).
#[must_use]
pub fn sha256(text: &[u8]) -> [u8; 32] {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
    octets
}

fn octets(base64: &str) -> Option<Vec<u8>> {
    BASE64.decode(base64.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `doveadm pw -s SCRAM-SHA-256`, for `pencil`.
    const DOVEADM: &str = "4096,ZqM2gOw3BLAkg0K22Vn2zg==,BNifH/yGquGsJDiaR7SKPnOB8fMi/GjkBh6OwkRtl14=,\
                           0d6DMpsvC1zuSjbw3iXcJ7iHAb8O3r2yQPNtk9vY2Y8=";

    #[test]
    fn what_dovecot_writes_is_read_and_written_back() {
        let keys = Keys::parse(DOVEADM).unwrap();
        assert!(keys.matches(b"pencil") && !keys.matches(b"Pencil"));
        assert_eq!(keys.text(), DOVEADM);
        assert_eq!(Keys::derive(b"pencil", &keys.salt, keys.iterations), keys);
    }

    #[test]
    fn a_password_beyond_ascii_is_the_same_in_every_form() {
        let text = "4096,jL1U1Gtp72p38lY8A8MhNQ==,ol/xMQMyBT3vaEG2rFcuPc7Tn9s/AqNMZde9akWxNWg=,\
                    EO3fTBGGQWn18P/4eX9G9KGZ91dSRltO9IdfUxW/pfQ=";
        let keys = Keys::parse(text).unwrap();
        assert!(keys.matches("grüße".as_bytes()));
        assert!(keys.matches("gru\u{308}ße".as_bytes()));
        // SASLprep has no form for a control character or for what is no text.
        assert_eq!(*prepared(b"a\x07"), *b"a\x07");
        assert_eq!(*prepared(b"\xff"), *b"\xff");
    }

    #[test]
    fn broken_keys_are_told_without_showing_them() {
        let with = |at: usize, field: &str| {
            let mut fields: Vec<&str> = DOVEADM.split(',').collect();
            fields[at] = field;
            Keys::parse(&fields.join(",")).unwrap_err()
        };
        for told in [with(0, "4095"), with(0, "99999999"), with(0, "x"), with(0, "")] {
            assert!(told.contains("4096 to 10000000 iterations"), "{told}");
        }
        assert!(with(1, "").contains("salt") && with(1, "a===").contains("salt"));
        assert!(with(2, "AAAA").contains("stored key") && with(3, "*").contains("server key"));
        assert!(Keys::parse("4096,a,b").unwrap_err().contains("iterations,salt"));
        assert_eq!(format!("{:?}", Keys::parse(DOVEADM).unwrap()), "Keys(…)");
    }
}
