//! Domains as the operator writes them: lower-cased, one spelling for each.
//!
//! Never asks DNS, never reads what came over the wire (that is `smtp::path`).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Expected, Parsed};

/// The name of a host or domain: labels of letters, digits and hyphens (RFC 1123 2.1); a dot at the end is
/// taken off.
///
/// # Errors
/// Says the form, and that other scripts are written in their `xn--` form.
pub fn name(text: &str) -> Parsed<String> {
    if !text.is_ascii() {
        return Err(Expected(
            "a domain in ASCII (other letters in their xn-- form)".into(),
        ));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let valid = name.len() <= 253 && name.split('.').all(is_label);
    // A name whose last label is a number is a mistyped address (RFC 1123 2.1).
    let number = name
        .rsplit('.')
        .next()
        .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if valid && !number {
        Ok(name)
    } else {
        Err(Expected("a name such as mail.example.org".into()))
    }
}

/// A domain that mail can be addressed to: a name, or an address literal with its brackets (RFC 5321 4.1.3).
///
/// # Errors
/// Says both forms.
pub fn addressed(text: &str) -> Parsed<String> {
    let Some(literal) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return name(text);
    };
    if let Ok(address) = literal.parse::<Ipv4Addr>() {
        return Ok(format!("[{address}]"));
    }
    match literal.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address.parse::<Ipv6Addr>().ok(),
        _ => None,
    }
    .map(|address| format!("[IPv6:{address}]"))
    .ok_or_else(|| Expected("an address literal such as [192.0.2.1] or [IPv6:2001:db8::1]".into()))
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_and_lose_a_dot_at_the_end() {
        assert_eq!(name("Mail.Example.ORG."), Ok("mail.example.org".into()));
        assert_eq!(name("localhost"), Ok("localhost".into()));
        assert_eq!(name("3com.example"), Ok("3com.example".into()));
        assert_eq!(name("xn--bcher-kva.example"), Ok("xn--bcher-kva.example".into()));
    }

    #[test]
    fn what_dns_could_not_hold_is_no_name() {
        let label = "a".repeat(64);
        let name_too_long = "a.".repeat(127) + "a";
        let wrongs = [
            "",
            ".",
            "a..b",
            ".a",
            "-a.b",
            "a-.b",
            "a_b",
            "a b",
            "a@b",
            "192.0.2.1",
            "1",
            &label,
            &name_too_long,
        ];
        for wrong in wrongs {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
        assert!(name("bücher.example").unwrap_err().to_string().contains("xn--"));
    }

    #[test]
    fn an_address_literal_keeps_its_brackets() {
        assert_eq!(addressed("[192.0.2.1]"), Ok("[192.0.2.1]".into()));
        assert_eq!(addressed("[ipv6:2001:DB8::1]"), Ok("[IPv6:2001:db8::1]".into()));
        assert_eq!(addressed("Example.org"), Ok("example.org".into()));
        for wrong in [
            "[]",
            "[::1]",
            "[192.0.2.1",
            "[IPv6:192.0.2.1]",
            "[example.org]",
            "[é6:::1]",
        ] {
            assert!(addressed(wrong).is_err(), "{wrong:?}");
        }
    }
}
