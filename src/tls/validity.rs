//! For how long, and for which names, a certificate is good (RFC 5280 4.1.2.5).
//!
//! Pure. Never judges who made it: whoever asks has it from the operator.

use chrono::{DateTime, NaiveDate};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName};

use super::end_point::{FIRST_FIELD, SEQUENCE, take};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The seconds since 1970 from which, and up to which, the certificate in `der` is good. `None` where it does not say so
/// as RFC 5280 asks for.
#[must_use]
pub fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let (certificate, _) = take(SEQUENCE, der)?;
    let (body, _) = take(SEQUENCE, certificate)?;
    // TBSCertificate ::= SEQUENCE { version [0], serialNumber, signature, issuer, validity, ... }
    let body = take(FIRST_FIELD, body).map_or(body, |(_, rest)| rest);
    let (_, rest) = take(INTEGER, body)?;
    let (_, rest) = take(SEQUENCE, rest)?;
    let (_, rest) = take(SEQUENCE, rest)?;
    let (validity, _) = take(SEQUENCE, rest)?;
    let (from, rest) = moment(validity)?;
    let (to, _) = moment(rest)?;
    Some((from, to))
}

/// Whether the certificate in `der` is for the host of this name.
#[must_use]
pub fn covers(der: &[u8], host: &str) -> bool {
    let (der, Ok(name)) = (CertificateDer::from(der), ServerName::try_from(host)) else {
        return false;
    };
    ParsedCertificate::try_from(&der).is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

fn moment(from: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest, century) = match (take(UTC_TIME, from), take(GENERALIZED_TIME, from)) {
        // RFC 5280 4.1.2.5.1: from 1950 to 2049.
        (Some((text, rest)), _) => match number(text.get(..2)?)? {
            year @ 50.. => (text.get(2..)?, rest, 1900 + year),
            year => (text.get(2..)?, rest, 2000 + year),
        },
        (None, Some((text, rest))) => (text.get(4..)?, rest, number(text.get(..4)?)?),
        (None, None) => return None,
    };
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.len() == 10)?;
    let two = |at: usize| number(&digits[at..at + 2]);
    let day = NaiveDate::from_ymd_opt(i32::try_from(century).ok()?, two(0)?, two(2)?)?;
    let moment = day.and_hms_opt(two(4)?, two(6)?, two(8)?)?;
    Some((
        DateTime::from_timestamp(moment.and_utc().timestamp(), 0)?.timestamp(),
        rest,
    ))
}

fn number(digits: &[u8]) -> Option<u32> {
    let text = str::from_utf8(digits).ok()?;
    text.bytes()
        .all(|octet| octet.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(names: &[&str], from: (i32, u8, u8), to: (i32, u8, u8)) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_says_from_when_and_up_to_when_in_both_forms_of_time() {
        // The second moment is in the form for the years from 2050 on.
        let der = certificate(&["mail.example.org"], (1999, 12, 31), (2051, 2, 3));
        assert_eq!(validity(&der), Some((946_598_400, 2_558_995_200)));
        let der = certificate(&["mail.example.org"], (2026, 1, 1), (2026, 3, 1));
        assert_eq!(validity(&der), Some((1_767_225_600, 1_772_323_200)));
        for cut in 0..der.len().min(200) {
            // Whatever is cut off, nothing but a moment or none comes of it.
            let _ = validity(&der[..cut]);
        }
        assert_eq!(validity(b"nonsense"), None);
    }

    #[test]
    fn a_certificate_is_for_its_names_and_no_others() {
        let der = certificate(&["mail.example.org", "*.example.net"], (2026, 1, 1), (2027, 1, 1));
        for (host, is_covered) in [
            ("mail.example.org", true),
            ("a.example.net", true),
            ("example.org", false),
            ("a.b.example.net", false),
            ("not a name", false),
        ] {
            assert_eq!(covers(&der, host), is_covered, "{host}");
        }
        assert!(!covers(b"nonsense", "mail.example.org"));
    }
}
