//! The files that others wrote and no other target reads: certificates and keys in PEM, the logins of `relay-auth`, and
//! resolv.conf(5).
//!
//! The first octet says which: what is left of it when it is divided by three, so that `0`, `1` and `2` are they.

#![no_main]

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use smtpmta::dns::servers::system_servers;
use smtpmta::outbound::logins::Logins;
use smtpmta::sasl::base64;
use smtpmta::tls::end_point;
use smtpmta::tls::pem::{self, PemFault};

/// All that is ever said of logins: no word of it is out of the file, for that may be a password.
static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let wrong: [&[u8]; 3] = [b"secret", b"me:a\nme:b", b"\xff"];
    let told = wrong.map(|text| Logins::parse(text).expect_err("that is wrong").1);
    told.into_iter().collect()
});

/// As many servers as the C library takes.
const MOST_SERVERS: usize = 3;

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    match choice % 3 {
        0 => check_pem(text),
        1 => check_logins(text),
        _ => check_servers(text),
    }
});

/// A section of a file in PEM.
fn section(label: &str, der: &[u8]) -> String {
    let text = base64::encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// What was found is found again when it is written down, and below other text; and what is wrong with a file as a chain
/// agrees with what is wrong with it as a key.
fn check_pem(text: &[u8]) {
    let (chain, key) = (pem::chain(text), pem::key(text));
    let below = [&b"subject=CN=mail\n"[..], text].concat();
    if let Ok(certificates) = &chain {
        assert!(!certificates.is_empty());
        let sections = certificates.iter().map(|der| section("CERTIFICATE", der));
        let written: String = sections.collect();
        for text in [written.as_bytes(), &below[..]] {
            assert_eq!(pem::chain(text).as_ref(), Ok(certificates));
        }
        for der in certificates {
            let binding = end_point::binding(der);
            assert!(binding.is_none_or(|binding| (28..=64).contains(&binding.len())));
        }
    }
    if let Ok(key) = &key {
        let written = section("PRIVATE KEY", key.secret_der());
        for text in [written.as_bytes(), &below[..]] {
            let again = pem::key(text).expect("the same key");
            assert_eq!(again.secret_der(), key.secret_der());
        }
    }
    let agree = match (chain.err(), key.err()) {
        (Some(PemFault::KeyInstead), key) => {
            matches!(key, None | Some(PemFault::ManyKeys | PemFault::Locked))
        }
        (Some(PemFault::NoCertificate), key) => key == Some(PemFault::NoKey),
        (Some(fault), key) => key == Some(fault) || key == Some(PemFault::Locked),
        (None, key) => matches!(
            key,
            None | Some(PemFault::CertificateInstead | PemFault::ManyKeys | PemFault::Locked)
        ),
    };
    assert!(agree, "{:?}, and {:?}", pem::chain(text), pem::key(text).err());
}

/// A login is one that stands in the file, and its password is never shown.
fn check_logins(text: &[u8]) {
    let logins = match Logins::parse(text) {
        Ok(logins) => logins,
        Err((line, what)) => {
            let lines = text.split(|octet| *octet == b'\n').count();
            assert!((1..=lines).contains(&line), "line {line} of {lines}: {what}");
            assert!(KNOWN.contains(&what), "{what}");
            return;
        }
    };
    let text = str::from_utf8(text).expect("it was read");
    let lines = text.split('\n').map(str::trim);
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert_eq!(logins == Logins::default(), lines.is_empty());
    for line in &lines {
        let word = line.split_whitespace().next().unwrap_or_default();
        let bare = word.replace(['[', ']'], "").to_lowercase();
        let with_port = bare
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = with_port.unwrap_or((&*bare, 25));
        for is_relay_host in [false, true] {
            let Some(login) = logins.of(host, port, is_relay_host) else {
                continue;
            };
            let said = format!("{}:{}", login.user, login.password);
            assert!(lines.iter().any(|line| line.ends_with(&said)), "{said} in {text}");
            assert_eq!(format!("{login:?}"), format!("Login({:?}, …)", login.user));
        }
    }
}

/// The servers are those that the file names, read aloud; written down they are the same.
fn check_servers(text: &[u8]) {
    let servers = system_servers(text);
    assert!((1..=MOST_SERVERS).contains(&servers.len()), "{servers:?}");
    assert!(servers.iter().all(|server| server.port() == 53), "{servers:?}");
    // A zone may be none.
    if !text.contains(&b'%') {
        let mut named: Vec<IpAddr> = text.split(|octet| *octet == b'\n').filter_map(named).collect();
        named.truncate(MOST_SERVERS);
        if named.is_empty() {
            named.push(Ipv4Addr::LOCALHOST.into());
        }
        let found: Vec<IpAddr> = servers.iter().map(SocketAddr::ip).collect();
        assert_eq!(found, named);
    }
    let written: String = servers.iter().map(line).collect();
    assert_eq!(system_servers(written.as_bytes()), servers, "{written}");
}

/// The server that a line names.
fn named(line: &[u8]) -> Option<IpAddr> {
    let line = str::from_utf8(line).ok()?;
    let mut words = line.split(['#', ';']).next()?.split_whitespace();
    if words.next()? != "nameserver" {
        return None;
    }
    words.next()?.parse().ok()
}

/// The line for a server.
fn line(server: &SocketAddr) -> String {
    let text = server.to_string();
    let address = text.strip_suffix(":53").unwrap_or(&text);
    format!("nameserver {}\n", address.trim_matches(['[', ']']))
}
