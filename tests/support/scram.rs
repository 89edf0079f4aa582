//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), with and without a binding to TLS.
//!
//! Written from the RFCs and sharing nothing with the server's side, so that the two check each other.

#![allow(dead_code)] // each test uses what it needs

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use data_encoding::BASE64;

/// An exchange.
pub struct Scram {
    password: String,
    /// `n,,` or `y,,` or `p=…,,`.
    header: String,
    /// The data of the binding.
    binding: Vec<u8>,
    bare: String,
    /// What the server will prove itself with.
    server_signature: Vec<u8>,
}

impl Scram {
    /// An exchange without a binding; `flag` is `n` or `y`.
    pub fn new(flag: &str, name: &str, password: &str) -> Scram {
        Scram::bound(flag, &[], name, password)
    }

    /// An exchange that is bound to `data`; `flag` is `p=` and the binding's name.
    pub fn bound(flag: &str, data: &[u8], name: &str, password: &str) -> Scram {
        Scram {
            password: password.to_owned(),
            header: format!("{flag},,"),
            binding: data.to_vec(),
            bare: format!("n={name},r=rOprNGfwEbeRWgbNEkqO"),
            server_signature: Vec::new(),
        }
    }

    /// The first message, in base64.
    pub fn first(&self) -> String {
        BASE64.encode(format!("{}{}", self.header, self.bare).as_bytes())
    }

    /// The last message, to what the server has answered to the first; both in base64.
    #[track_caller]
    pub fn last(&mut self, challenge: &str) -> String {
        let challenge = String::from_utf8(BASE64.decode(challenge.as_bytes()).unwrap()).unwrap();
        let value = |name: &str| {
            let mut all = challenge.split(',');
            all.find_map(|field| field.strip_prefix(name))
                .unwrap_or_else(|| panic!("no {name} in {challenge}"))
        };
        let (nonce, salt, iterations) = (value("r="), value("s="), value("i="));
        assert!(
            nonce.starts_with("rOprNGfwEbeRWgbNEkqO") && nonce.len() > 30,
            "{challenge}"
        );
        let salt = BASE64.decode(salt.as_bytes()).unwrap();
        let mut salted = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations.parse::<NonZeroU32>().unwrap(),
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let bound = [self.header.as_bytes(), &self.binding].concat();
        let without_proof = format!("c={},r={nonce}", BASE64.encode(&bound));
        let said = format!("{},{challenge},{without_proof}", self.bare);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let signature = sign(stored_key.as_ref(), said.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        self.server_signature = sign(&sign(&salted, b"Server Key"), said.as_bytes());
        BASE64.encode(format!("{without_proof},p={}", BASE64.encode(&proof)).as_bytes())
    }

    /// What the server says last, in base64, if it knows the password as well.
    pub fn servers_proof(&self) -> String {
        BASE64.encode(format!("v={}", BASE64.encode(&self.server_signature)).as_bytes())
    }
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
        .as_ref()
        .to_vec()
}
