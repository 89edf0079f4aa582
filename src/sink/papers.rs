//! A certificate that is made up at the start, signed by itself: nobody has a reason to trust it.
//!
//! Never touches a file, and is another one each time.

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::settings::Flaw;
use crate::tls::identity::Identity;

/// The host that a certificate of the wrong name is for.
const ANOTHER_HOST: &str = "another-host.invalid";

/// An identity for a host of this name, with this flaw.
///
/// # Errors
/// In words: the name cannot stand in a certificate, or the system has no random octets.
pub fn identity(hostname: &str, flaw: Option<Flaw>) -> Result<Identity, String> {
    let name = match flaw {
        Some(Flaw::Name) => ANOTHER_HOST,
        _ => hostname,
    };
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(|error| error.to_string())?;
    params.distinguished_name.push(DnType::CommonName, name);
    match flaw {
        Some(Flaw::Expired) => {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        Some(Flaw::NotYet) => {
            params.not_before = date_time_ymd(2999, 1, 1);
            params.not_after = date_time_ymd(2999, 12, 31);
        }
        Some(Flaw::Name) | None => {}
    }
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Identity::from_der(vec![certificate.der().clone()], key.into()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_fit_for_tls_and_another_one() {
        let flaws = Flaw::WORDS.map(|(_, flaw)| Some(flaw));
        let made: Vec<Identity> = flaws
            .into_iter()
            .chain([None, None])
            .map(|flaw| identity("sink.example", flaw).unwrap())
            .collect();
        assert_ne!(made[3].end_entity(), made[4].end_entity());
        let names = |identity: &Identity, name: &str| {
            let octets = identity.end_entity();
            octets.windows(name.len()).any(|window| window == name.as_bytes())
        };
        assert!(names(&made[3], "sink.example") && !names(&made[2], "sink.example"));
        assert!(names(&made[2], ANOTHER_HOST));
    }
}
