//! Domains of paths and address literals (RFC 5321 4.1.2, 4.1.3; U-labels RFC 6531 3.3).
//!
//! What comes out is ASCII in lower case, so that nobody else in the house ever compares two spellings of one
//! name. Never asks whether the domain exists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::PathError;

/// Longest domain in octets (RFC 5321 4.5.3.1.2).
const MAX_DOMAIN: usize = 255;
/// Longest label of a domain in octets, an A-label with its `xn--` (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

/// STD3: letters, digits and hyphens; and the underscore that real hosts have in their names.
const NOT_IN_HOST_NAMES: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

/// The address in a literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3); `None` for
/// anything else, literals with a tag of somebody else's among it: none has ever been registered.
#[must_use]
pub fn address_literal(domain: &str) -> Option<IpAddr> {
    const TAG: usize = "IPv6:".len();
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inside.get(..TAG) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            Ipv6Addr::from_str(&inside[TAG..]).ok().map(IpAddr::V6)
        }
        _ => Ipv4Addr::from_str(inside).ok().map(IpAddr::V4),
    }
}

/// `domain` in lower case, its U-labels as A-labels; an address literal in canonical form. Labels that are
/// `xn--` already stay as they are, even if they decode to nothing: a name in ASCII is a name.
pub(super) fn parse(domain: &str) -> Result<String, PathError> {
    if domain.len() > MAX_DOMAIN {
        return Err(PathError::DomainTooLong);
    }
    if domain.starts_with('[') {
        return match address_literal(domain) {
            Some(IpAddr::V4(address)) => Ok(format!("[{address}]")),
            Some(IpAddr::V6(address)) => Ok(format!("[IPv6:{address}]")),
            None => Err(PathError::Domain),
        };
    }
    let name = if domain.is_ascii() {
        domain.to_ascii_lowercase()
    } else if !domain
        .bytes()
        .all(|b| !b.is_ascii() || b == b'.' || is_label_octet(b))
    {
        // Normalised, `>` and the mark U+0338 behind it would be one letter, and pass.
        return Err(PathError::Domain);
    } else {
        // Lengths are checked below, in our own words.
        Uts46::new()
            .to_ascii(
                domain.as_bytes(),
                NOT_IN_HOST_NAMES,
                Hyphens::CheckFirstLast,
                DnsLength::Ignore,
            )
            .map_err(|_| PathError::Domain)?
            .into_owned()
    };
    if name.len() > MAX_DOMAIN {
        return Err(PathError::DomainTooLong);
    }
    if !name.split('.').all(is_label) || ends_in_a_number(&name) {
        return Err(PathError::Domain);
    }
    Ok(name)
}

/// RFC 5321 4.1.2 sub-domain, and the underscore.
fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(is_label_octet)
}

fn is_label_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_'
}

/// An address without its brackets is no domain, and must not become a next hop by the back door: resolvers
/// take `127.0.0.1`, `127.1`, `2130706433` and `0x7f000001` for the same host. No top-level domain is a
/// number (RFC 3696 2).
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => last.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests;
