//! Where to listen and where to connect: `ADDR:PORT`, `HOST[:PORT]`, `DOMAIN=HOST[:PORT]`.
//!
//! Never resolves a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Expected, Parsed, domain};
use crate::config::TlsLevel;
use crate::domain_list::next_hop::{LmtpServer, NextHop};

/// The port of SMTP (RFC 5321 4.5.4.2).
const SMTP: u16 = 25;
/// The port of DNS (RFC 1035 4.2).
const DNS: u16 = 53;

/// An address and a port to listen on, `127.0.0.1:25` or `[::1]:25`. Port 0 takes a free one.
///
/// # Errors
/// Says the form.
pub fn listener(text: &str) -> Parsed<SocketAddr> {
    text.parse()
        .map_err(|_| Expected("an IP address and a port, such as 127.0.0.1:2525 or [::]:25".into()))
}

/// A DNS server: an address, and 53 where no port is given.
///
/// # Errors
/// Says the form.
pub fn dns_server(text: &str) -> Parsed<SocketAddr> {
    let bare = || address(text).map(|address| SocketAddr::new(address, DNS));
    text.parse()
        .ok()
        .or_else(bare)
        .filter(|server| server.port() != 0)
        .ok_or_else(|| {
            Expected("an IP address with or without a port, such as 192.0.2.53 or [::1]:5353".into())
        })
}

/// A port that can be connected to.
///
/// # Errors
/// Says the range.
pub fn port(text: &str) -> Parsed<u16> {
    let number = super::whole(text, 1, u64::from(u16::MAX))?;
    u16::try_from(number).map_err(|_| Expected("a port".into()))
}

/// A host to send to: a name or an IP address (IPv6 in brackets), and 25 where no port is given.
///
/// # Errors
/// Says the form.
pub fn next_hop(text: &str) -> Parsed<NextHop> {
    let form =
        || Expected("HOST or HOST:PORT, such as mail.example.org:25, 192.0.2.1 or [2001:db8::1]:25".into());
    if let Some(address) = address(text) {
        return Ok(NextHop::Host(address.to_string(), SMTP));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, self::port(port).map_err(|_| form())?),
        None => (text, SMTP),
    };
    let host = match address(host) {
        Some(address) => address.to_string(),
        None => domain::name(host).map_err(|_| form())?,
    };
    Ok(NextHop::Host(host, port))
}

/// An LMTP server: the path of its socket, or a host with its port. In the words of others, too: `unix:PATH`,
/// `inet:HOST:PORT`.
///
/// # Errors
/// Says the form.
pub fn lmtp_server(text: &str) -> Parsed<LmtpServer> {
    let form =
        || Expected("/PATH of a socket or HOST:PORT, such as /run/dovecot/lmtp or 127.0.0.1:24".into());
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.starts_with('/') {
        // A path that is too long for a socket never names one.
        let is_name = std::os::unix::net::SocketAddr::from_pathname(path).is_ok();
        return is_name.then(|| LmtpServer::Socket(path.into())).ok_or_else(form);
    }
    let host = text.strip_prefix("inet:").unwrap_or(text);
    let has_port = address(host).is_none() && host.contains(':');
    match next_hop(host) {
        Ok(NextHop::Host(host, port)) if has_port => Ok(LmtpServer::Host(host, port)),
        _ => Err(form()),
    }
}

/// A route: a domain (or `.domain` for what is below it), `=`, and the host where its mail goes.
///
/// # Errors
/// Says the form.
pub fn route(text: &str) -> Parsed<(String, NextHop)> {
    let form = || Expected("DOMAIN=HOST[:PORT], such as example.org=mail.example.net:25".into());
    let (domain, host) = text.split_once('=').ok_or_else(form)?;
    Ok((
        pattern(domain).map_err(|_| form())?,
        next_hop(host).map_err(|_| form())?,
    ))
}

/// How much TLS: a level, or a domain (as in a route) or host, `=`, and its level.
///
/// # Errors
/// Says the form.
pub fn tls_level(text: &str) -> Parsed<(Option<String>, TlsLevel)> {
    let form = || {
        let words = TlsLevel::WORDS.map(|(word, _)| word).join(", ");
        Expected(format!(
            "one of {words}, or DOMAIN=LEVEL, such as example.org=must"
        ))
    };
    let (domain, word) = match text.rsplit_once('=') {
        Some((domain, word)) => (Some(pattern(domain).map_err(|_| form())?), word),
        None => (None, text),
    };
    Ok((domain, TlsLevel::from_word(word).ok_or_else(form)?))
}

/// A domain, or `.domain` for what is below it; or an address, with or without brackets.
pub(super) fn pattern(text: &str) -> Parsed<String> {
    match (text.strip_prefix('.'), address(text)) {
        (Some(name), _) => Ok(format!(".{}", domain::name(name)?)),
        (None, Some(address)) => Ok(address.to_string()),
        (None, None) => domain::addressed(text),
    }
}

/// An IPv4 address, or an IPv6 address in brackets: without them nobody can tell whether `::1:25` has a port.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Parsed<NextHop> {
        Ok(NextHop::Host(name.into(), port))
    }

    #[test]
    fn a_next_hop_is_a_name_or_an_address_and_port_25_where_none_is_given() {
        assert_eq!(next_hop("Mail.Example.org"), host("mail.example.org", 25));
        assert_eq!(next_hop("mail.example.org:587"), host("mail.example.org", 587));
        assert_eq!(next_hop("192.0.2.1"), host("192.0.2.1", 25));
        assert_eq!(next_hop("192.0.2.1:2525"), host("192.0.2.1", 2525));
        assert_eq!(next_hop("[2001:DB8::1]:2525"), host("2001:db8::1", 2525));
        assert_eq!(next_hop("[::1]"), host("::1", 25));
    }

    #[test]
    fn a_next_hop_with_a_broken_host_or_port_is_refused() {
        let wrongs = [
            "",
            ":25",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "a b",
            "[host]:25",
            "[192.0.2.1]:25",
            "a:b:c",
            "[::1",
            "::1]:25",
            "::1",
            "2001:db8::1:25",
            "192.0.2.300",
            "mail=x",
            "[]",
            "[]:25",
        ];
        for wrong in wrongs {
            assert!(next_hop(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_a_next_hop_shows_is_read_back() {
        for text in ["mail.example.org:25", "192.0.2.1:2525", "[2001:db8::1]:25"] {
            assert_eq!(next_hop(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_lmtp_server_is_a_socket_or_a_host_with_its_port() {
        for (text, shown) in [
            ("/run/dovecot/lmtp", "/run/dovecot/lmtp"),
            ("unix:/run/a:24", "/run/a:24"),
            ("127.0.0.1:24", "127.0.0.1:24"),
            ("inet:[::1]:24", "[::1]:24"),
            ("Mail.example.org:24", "mail.example.org:24"),
        ] {
            let server = lmtp_server(text).unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!(lmtp_server(shown), Ok(server));
        }
        let long = format!("/{}", "x".repeat(108));
        for wrong in [
            "",
            "lmtp",
            "run/lmtp",
            "127.0.0.1",
            "[::1]",
            "unix:x",
            "inet:/x",
            "::1:24",
            "a:b",
            &long,
        ] {
            assert!(lmtp_server(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_route_may_cover_what_is_below_a_domain() {
        assert_eq!(
            route("Example.ORG=[::1]:26"),
            Ok(("example.org".into(), NextHop::Host("::1".into(), 26)))
        );
        assert_eq!(
            route(".example.org=a"),
            Ok((".example.org".into(), NextHop::Host("a".into(), 25)))
        );
        for wrong in [
            "",
            "example.org",
            "=host",
            "example.org=",
            "..example.org=a",
            ".=a",
            "*.example.org=a",
            "a=b=c",
        ] {
            assert!(route(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn dns_servers_listen_on_port_53_unless_told_otherwise() {
        assert_eq!(dns_server("192.0.2.53").unwrap().to_string(), "192.0.2.53:53");
        assert_eq!(dns_server("[::1]").unwrap().to_string(), "[::1]:53");
        assert_eq!(
            dns_server("127.0.0.1:5353").unwrap().to_string(),
            "127.0.0.1:5353"
        );
        for wrong in [
            "",
            "dns.example.org",
            "192.0.2.53:",
            "192.0.2.53:0",
            "192.0.2.53:x",
        ] {
            assert!(dns_server(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_listener_needs_an_address_and_a_port() {
        assert_eq!(listener("127.0.0.1:0").unwrap().port(), 0);
        assert!(listener("[::]:25").is_ok());
        for wrong in [
            "25",
            ":25",
            "*:25",
            "localhost:25",
            "127.0.0.1",
            "::1:25x",
            "127.0.0.1:65536",
        ] {
            assert!(listener(wrong).is_err(), "{wrong:?}");
        }
    }
}
