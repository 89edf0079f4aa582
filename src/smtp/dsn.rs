//! What a client may ask of delivery reports: NOTIFY, ORCPT, RET and ENVID (RFC 3461 4), and the xtext that
//! two of them are written in.
//!
//! Never decides whether a report is written: that is the delivery report task's.

use std::fmt;
use std::str::FromStr;

/// Longest ENVID on the wire, octets (RFC 3461 4.4).
const MAX_ENVELOPE_ID: usize = 100;
/// Longest ORCPT on the wire, octets (RFC 3461 4.2).
const MAX_ORIGINAL_RECIPIENT: usize = 500;

/// A value of one of the parameters is not what RFC 3461 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDsn;

impl fmt::Display for BadDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad value of a DSN parameter")
    }
}

impl std::error::Error for BadDsn {}

/// NOTIFY: of which ends of a recipient the sender wants to hear (RFC 3461 4.1). Without NOTIFY: failures,
/// and delays if the host reports them at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notify {
    /// It was delivered, or passed on to where no reports come from.
    pub success: bool,
    /// It was given up.
    pub failure: bool,
    /// It is late.
    pub delay: bool,
}

impl Notify {
    /// `NEVER`.
    pub const NEVER: Notify = Notify {
        success: false,
        failure: false,
        delay: false,
    };

    /// As one number for the queue: 1 success, 2 failure, 4 delay; 0 is never.
    #[must_use]
    pub fn bits(self) -> u8 {
        u8::from(self.success) | u8::from(self.failure) << 1 | u8::from(self.delay) << 2
    }

    /// What goes with each of the `targets` that an alias stands for (RFC 3461 5.2.7): everything to a
    /// single one; of several, none tells of success, since the alias itself is reported as expanded.
    #[must_use]
    pub fn for_expansion(self, targets: usize) -> Notify {
        Notify {
            success: self.success && targets == 1,
            ..self
        }
    }

    /// What [`Notify::bits`] gave.
    #[must_use]
    pub fn from_bits(bits: u8) -> Notify {
        Notify {
            success: bits & 1 != 0,
            failure: bits & 2 != 0,
            delay: bits & 4 != 0,
        }
    }
}

/// `NEVER`, or a list of the others, each at most once, in any case and order.
impl FromStr for Notify {
    type Err = BadDsn;

    fn from_str(text: &str) -> Result<Notify, BadDsn> {
        if text.eq_ignore_ascii_case("NEVER") {
            return Ok(Notify::NEVER);
        }
        let mut notify = Notify::NEVER;
        for word in text.split(',') {
            let place = match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => &mut notify.success,
                "FAILURE" => &mut notify.failure,
                "DELAY" => &mut notify.delay,
                _ => return Err(BadDsn),
            };
            if std::mem::replace(place, true) {
                return Err(BadDsn);
            }
        }
        Ok(notify)
    }
}

/// As it goes over the wire.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let said: Vec<&str> = words
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, word)| *word)
            .collect();
        f.write_str(if said.is_empty() { "NEVER" } else { "" })?;
        f.write_str(&said.join(","))
    }
}

/// RET: how much of the message a failure report brings back (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

impl FromStr for Return {
    type Err = BadDsn;

    fn from_str(text: &str) -> Result<Return, BadDsn> {
        if text.eq_ignore_ascii_case("FULL") {
            Ok(Return::Full)
        } else if text.eq_ignore_ascii_case("HDRS") {
            Ok(Return::Headers)
        } else {
            Err(BadDsn)
        }
    }
}

/// As it goes over the wire.
impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Return::Full => "FULL",
            Return::Headers => "HDRS",
        })
    }
}

/// ENVID: the sender's own name for the envelope, handed back in reports (RFC 3461 4.4). Kept in xtext.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvelopeId(String);

impl EnvelopeId {
    /// What it says, printable ASCII.
    #[must_use]
    pub fn decoded(&self) -> String {
        decoded(&self.0)
    }
}

impl FromStr for EnvelopeId {
    type Err = BadDsn;

    fn from_str(text: &str) -> Result<EnvelopeId, BadDsn> {
        if text.is_empty() || text.len() > MAX_ENVELOPE_ID || !is_printable_xtext(text) {
            return Err(BadDsn);
        }
        Ok(EnvelopeId(text.to_owned()))
    }
}

/// As it goes over the wire, in xtext.
impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// ORCPT: the recipient as the sender first wrote it, `type;address` (RFC 3461 4.2, RFC 6533 3). Kept as it
/// came: the address in xtext, or for `utf-8` in one of that type's own forms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginalRecipient(String);

impl OriginalRecipient {
    /// `type;address` with the address decoded, as reports write it.
    #[must_use]
    pub fn decoded(&self) -> String {
        match self.0.split_once(';') {
            Some((kind, address)) if !kind.eq_ignore_ascii_case("utf-8") => {
                format!("{kind};{}", decoded(address))
            }
            _ => self.0.clone(),
        }
    }

    /// Whether it may only be passed on together with SMTPUTF8 (RFC 6533 3).
    #[must_use]
    pub fn needs_utf8(&self) -> bool {
        !self.0.is_ascii()
    }

    /// The same for a host that knows no SMTPUTF8, and for reports of plain ASCII (RFC 6533 3).
    #[must_use]
    pub fn in_ascii(&self) -> OriginalRecipient {
        if !self.needs_utf8() {
            return self.clone();
        }
        let (kind, address) = self.0.split_once(';').unwrap_or_default();
        // A backslash in it begins what is embedded already.
        let parts: Vec<String> = address.split('\\').map(to_utf8_xtext).collect();
        OriginalRecipient(format!("{kind};{}", parts.join("\\")))
    }

    /// The recipient that a client gave in RCPT without ORCPT, as a relay may add it (RFC 3461 5.2.1);
    /// `None` where it is too long for that.
    #[must_use]
    pub fn of(recipient: &str) -> Option<OriginalRecipient> {
        let text = if recipient.is_ascii() {
            format!("rfc822;{}", to_xtext(recipient))
        } else {
            format!("utf-8;{}", to_utf8_xtext(recipient))
        };
        (text.len() <= MAX_ORIGINAL_RECIPIENT).then_some(OriginalRecipient(text))
    }
}

impl FromStr for OriginalRecipient {
    type Err = BadDsn;

    fn from_str(text: &str) -> Result<OriginalRecipient, BadDsn> {
        let (kind, address) = text.split_once(';').ok_or(BadDsn)?;
        let is_atom = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-.+_/".contains(&b))
        };
        let is_utf8_form = kind.eq_ignore_ascii_case("utf-8")
            && address
                .chars()
                .all(|c| !c.is_control() && !c.is_whitespace() && c != '=');
        if text.len() > MAX_ORIGINAL_RECIPIENT
            || address.is_empty()
            || !is_atom(kind)
            || !(is_utf8_form || is_printable_xtext(address))
        {
            return Err(BadDsn);
        }
        Ok(OriginalRecipient(text.to_owned()))
    }
}

/// As it goes over the wire.
impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3461 4: printable ASCII without `+`, `=` and space; `+` and two capital hexadecimal digits for others.
#[must_use]
pub fn is_xtext(text: &str) -> bool {
    xtext_octets(text).all(|octet| octet.is_some())
}

/// Puts a text into xtext.
#[must_use]
pub fn to_xtext(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut xtext, octet| {
            match octet {
                b'+' | b'=' => xtext.push_str(&format!("+{octet:02X}")),
                b'!'..=b'~' => xtext.push(char::from(octet)),
                _ => xtext.push_str(&format!("+{octet:02X}")),
            }
            xtext
        })
}

/// Puts an address into utf-8-addr-xtext, the ASCII form of type `utf-8` (RFC 6533 3): `jörg` is `j\x{F6}rg`.
#[must_use]
pub fn to_utf8_xtext(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut xtext, character| {
            match character {
                '!'..='~' if !matches!(character, '+' | '=' | '\\') => xtext.push(character),
                _ => xtext.push_str(&format!("\\x{{{:02X}}}", u32::from(character))),
            }
            xtext
        })
}

/// The octets that an xtext stands for; the first `None` is where it is none.
pub fn xtext_octets(text: &str) -> impl Iterator<Item = Option<u8>> {
    let mut octets = text.bytes();
    std::iter::from_fn(move || {
        let octet = octets.next()?;
        Some(match octet {
            b'+' => capital_hex(octets.next())
                .zip(capital_hex(octets.next()))
                .map(|(high, low)| high << 4 | low),
            b'=' => None,
            b'!'..=b'~' => Some(octet),
            _ => None,
        })
    })
}

fn capital_hex(octet: Option<u8>) -> Option<u8> {
    match octet? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        letter @ b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}

/// xtext that stands for printable ASCII, so that what it says can stand in a report's line.
fn is_printable_xtext(text: &str) -> bool {
    xtext_octets(text).all(|octet| matches!(octet, Some(b' '..=b'~')))
}

/// What a checked xtext says.
fn decoded(xtext: &str) -> String {
    xtext_octets(xtext)
        .map(|octet| char::from(octet.unwrap_or(b'?')))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn notify_is_never_or_a_list_without_doubles() {
        for (text, shown) in [
            ("never", "NEVER"),
            ("Failure", "FAILURE"),
            ("delay,SUCCESS", "SUCCESS,DELAY"),
            ("SUCCESS,FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"),
        ] {
            let notify: Notify = text.parse().unwrap();
            assert_eq!(notify.to_string(), shown);
            assert_eq!(Notify::from_bits(notify.bits()), notify);
        }
        for wrong in [
            "",
            "NEVER,FAILURE",
            "FAILURE,NEVER",
            "FAILURE,",
            ",",
            "SUCCESS,SUCCESS",
            "ALWAYS",
        ] {
            assert_eq!(wrong.parse::<Notify>(), Err(BadDsn), "{wrong:?}");
        }
    }

    #[test]
    fn ret_is_full_or_hdrs() {
        assert_eq!("full".parse(), Ok(Return::Full));
        assert_eq!("Hdrs".parse(), Ok(Return::Headers));
        assert_eq!("HEADERS".parse::<Return>(), Err(BadDsn));
    }

    #[test]
    fn an_envelope_id_is_xtext_of_up_to_100_octets() {
        assert_eq!("QQ+2B31+3D4".parse::<EnvelopeId>().unwrap().decoded(), "QQ+31=4");
        for wrong in [
            "",
            "a=b",
            "a+2",
            "a+zz",
            "a+2b",
            "a b",
            "a+0D+0Ab",
            "a+00",
            &"x".repeat(101),
        ] {
            assert!(wrong.parse::<EnvelopeId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_original_recipient_has_a_type_and_an_address() {
        let orcpt: OriginalRecipient = "rfc822;a+2Bb@Example.ORG".parse().unwrap();
        assert_eq!(orcpt.decoded(), "rfc822;a+b@Example.ORG");
        assert_eq!(orcpt.to_string(), "rfc822;a+2Bb@Example.ORG");
        let utf8: OriginalRecipient = "utf-8;jörg@example.org".parse().unwrap();
        assert!(utf8.needs_utf8());
        assert!(
            "utf-8;j\\x{F6}rg@example.org"
                .parse::<OriginalRecipient>()
                .is_ok()
        );
        for wrong in [
            "rfc822",
            "rfc822;",
            ";a@b",
            "rfc822;a b",
            "rfc822;jörg@b",
            "rfc822;a+0A",
        ] {
            assert!(wrong.parse::<OriginalRecipient>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_original_recipient_has_a_form_for_hosts_without_utf8() {
        let utf8: OriginalRecipient = "utf-8;jörg+x\\x{20}@grå.example".parse().unwrap();
        let ascii = utf8.in_ascii();
        assert_eq!(
            ascii.to_string(),
            "utf-8;j\\x{F6}rg\\x{2B}x\\x{20}@gr\\x{E5}.example"
        );
        assert_eq!(ascii.to_string().parse::<OriginalRecipient>(), Ok(ascii));
        for (path, added) in [
            ("a+b@example.org", "rfc822;a+2Bb@example.org"),
            ("\"a b\"@example.org", "rfc822;\"a+20b\"@example.org"),
            ("用户@example.org", "utf-8;\\x{7528}\\x{6237}@example.org"),
        ] {
            let original = OriginalRecipient::of(path).unwrap();
            assert_eq!(original.to_string(), added);
            assert_eq!(added.parse(), Ok(original));
        }
        assert_eq!(OriginalRecipient::of(&"ö".repeat(100)), None);
    }

    #[test]
    fn an_alias_hands_on_what_was_asked_but_several_targets_tell_of_no_success() {
        for (asked, one, many) in [
            ("SUCCESS,DELAY", "SUCCESS,DELAY", "DELAY"),
            ("SUCCESS", "SUCCESS", "NEVER"),
            ("FAILURE", "FAILURE", "FAILURE"),
            ("NEVER", "NEVER", "NEVER"),
        ] {
            let asked: Notify = asked.parse().unwrap();
            assert_eq!(asked.for_expansion(1).to_string(), one);
            assert_eq!(asked.for_expansion(2).to_string(), many);
        }
    }

    proptest! {
        #[test]
        fn xtext_says_what_was_put_into_it(text in ".{0,40}") {
            let xtext = to_xtext(&text);
            prop_assert!(is_xtext(&xtext));
            let back: Option<Vec<u8>> = xtext_octets(&xtext).collect();
            prop_assert_eq!(back.unwrap(), text.into_bytes());
        }

        #[test]
        fn whatever_is_taken_is_written_back_as_it_came(text in "[ -~]{0,60}") {
            if let Ok(id) = text.parse::<EnvelopeId>() {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Ok(orcpt) = text.parse::<OriginalRecipient>() {
                prop_assert_eq!(orcpt.to_string(), text);
            }
        }
    }
}
