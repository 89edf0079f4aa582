//! What is asked for: the head of a request, as RFC 9112 has it. Pure.
//!
//! Never takes what several readers could take for different things: bare line feeds, folded lines, two Hosts. A body is
//! nobody's, since nothing here takes one.

use std::net::{IpAddr, SocketAddr};

use super::response::Status;

/// A head is at most so long.
pub const LONGEST_HEAD: usize = 8 << 10;

/// What ends it.
const END: &[u8] = b"\r\n\r\n";

/// With that.
const MOST_OCTETS: usize = LONGEST_HEAD + END.len();

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'o> {
    /// GET or HEAD, and HEAD is true.
    pub head_only: bool,
    /// Where, from `/` on and up to a question mark.
    pub path: &'o str,
    /// What stands behind the question mark.
    pub query: &'o str,
    /// Whom the client thinks that it speaks to, without the port; empty where it does not say.
    pub host: &'o str,
}

impl<'o> Asked<'o> {
    /// What stands in the octets that have come so far; `None` where more have to come.
    ///
    /// # Errors
    /// The status that says why it is not answered otherwise.
    pub fn parse(octets: &'o [u8]) -> Result<Option<Asked<'o>>, Status> {
        let longest = octets.len().min(MOST_OCTETS);
        let end = memchr::memmem::find(&octets[..longest], END);
        let head = &octets[..end.map_or(longest, |end| end + END.len())];
        let is_bare = |at: usize| head[at] == b'\n' && (at == 0 || head[at - 1] != b'\r');
        if (0..head.len()).any(is_bare) {
            return Err(Status::BadRequest);
        }
        let Some(end) = end else {
            return match longest {
                0..MOST_OCTETS => Ok(None),
                _ => Err(Status::HeadTooLarge),
            };
        };
        let head = std::str::from_utf8(&octets[..end]).map_err(|_| Status::BadRequest)?;
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let (method, target, is_old) = request_line(line)?;
        let mut hosts = Vec::new();
        for line in lines {
            let (name, value) = field(line)?;
            if name.eq_ignore_ascii_case("host") {
                hosts.push(value);
            }
        }
        // RFC 9112 3.2: one Host, whatever else there is.
        let host = match hosts[..] {
            [host] => host,
            [] if is_old => "",
            _ => return Err(Status::BadRequest),
        };
        let head_only = match method {
            "GET" => false,
            "HEAD" => true,
            _ => return Err(Status::MethodNotAllowed),
        };
        let (host, target) = match target.strip_prefix("http://") {
            // RFC 9112 3.2.2: what stands there counts, and not the field.
            Some(rest) => rest
                .find(['/', '?'])
                .map_or((rest, "/"), |at| (&rest[..at], &rest[at..])),
            None => (host, target),
        };
        let is_host = host.bytes().all(|octet| octet.is_ascii_graphic());
        if !target.starts_with('/') || !is_host {
            return Err(Status::BadRequest);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Some(Asked {
            head_only,
            path,
            query,
            host: without_port(host),
        }))
    }

    /// The value of `name` in the query, as a form writes it, without the blanks at its ends.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'o str> {
        let mut fields = self.query.split('&').filter_map(|field| field.split_once('='));
        let (_, mut value) = fields.find(|(known, _)| *known == name)?;
        for blank in ["+", "%20", "%09", "%0D", "%0A"] {
            value = value.trim_start_matches(blank).trim_end_matches(blank);
        }
        Some(value)
    }

    /// Whether the client may mean this listener, which is at `address`, on a machine of this name. A page of somebody else
    /// can have a name of its own looked up as an address of the machine on which its reader sits, and ask there as if it
    /// came from here. Where others reach us anyway, by whatever name, that is nothing to them.
    #[must_use]
    pub fn means(&self, address: IpAddr, hostname: &str) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        !address.is_loopback()
            || bare.is_empty()
            || bare.parse::<IpAddr>().is_ok()
            || bare.eq_ignore_ascii_case("localhost")
            || bare.eq_ignore_ascii_case(hostname)
    }
}

/// Method, target, and whether it is HTTP/1.0.
fn request_line(line: &str) -> Result<(&str, &str, bool), Status> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Status::BadRequest);
    };
    let is_old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ if version.starts_with("HTTP/") => return Err(Status::VersionNotSupported),
        _ => return Err(Status::BadRequest),
    };
    let is_target = !target.is_empty() && target.bytes().all(|octet| octet.is_ascii_graphic());
    if !is_token(method) || !is_target {
        return Err(Status::BadRequest);
    }
    Ok((method, target, is_old))
}

/// Name and value of a field.
fn field(line: &str) -> Result<(&str, &str), Status> {
    let (name, value) = line.split_once(':').ok_or(Status::BadRequest)?;
    let is_value = |c: char| c == '\t' || !c.is_control();
    if !is_token(name) || !value.chars().all(is_value) {
        return Err(Status::BadRequest);
    }
    Ok((name, value.trim_matches([' ', '\t'])))
}

/// RFC 9110 5.6.2.
fn is_token(word: &str) -> bool {
    let is_sign = |octet: u8| b"!#$%&'*+-.^_`|~".contains(&octet);
    !word.is_empty()
        && word
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || is_sign(octet))
}

/// A host of the form `name`, `name:port`, `[::1]:port`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) && !is_bare_v6(host) => name,
        _ => host,
    }
}

fn is_bare_v6(host: &str) -> bool {
    host.parse::<SocketAddr>().is_err() && host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Option<Asked<'_>>, Status> {
        Asked::parse(head.as_bytes())
    }

    #[test]
    fn a_request_is_understood_whatever_fields_it_has() {
        let head =
            "GET /?id=+000660F78485FBD7%20&x HTTP/1.1\r\nHost: [::1]:9125\r\nAccept: */*\r\nX:\r\n\r\n";
        let asked = parse(head).unwrap().unwrap();
        let expected = Asked {
            head_only: false,
            path: "/",
            query: "id=+000660F78485FBD7%20&x",
            host: "[::1]",
        };
        assert_eq!(asked, expected);
        assert_eq!(asked.value("id"), Some("000660F78485FBD7"));
        assert_eq!((asked.value("i"), asked.value("x")), (None, None));
        let asked = parse("HEAD http://a.example:80/metrics HTTP/1.1\r\nhost: b\r\n\r\nbody");
        let asked = asked.unwrap().unwrap();
        assert_eq!(
            (asked.head_only, asked.path, asked.host),
            (true, "/metrics", "a.example")
        );
        assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().host, "");
    }

    #[test]
    fn until_its_head_has_come_to_its_end_more_is_waited_for_but_not_for_ever() {
        let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), Ok(None), "{length}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(LONGEST_HEAD));
        assert_eq!(parse(&long), Err(Status::HeadTooLarge));
        assert_eq!(parse(&long[..LONGEST_HEAD + 4]), Err(Status::HeadTooLarge));
        assert_eq!(parse(&long[..LONGEST_HEAD + 3]), Ok(None));
        let just = "GET / HTTP/1.1\r\nHost: a\r\nX: ".to_owned();
        let just = just.clone() + &"x".repeat(LONGEST_HEAD - just.len());
        assert!(parse(&format!("{just}\r\n\r\n\n")).unwrap().is_some());
        assert_eq!(parse(&format!("{just}x\r\n\r\n")), Err(Status::HeadTooLarge));
    }

    #[test]
    fn what_is_no_request_or_could_be_taken_for_another_is_refused() {
        for (head, status) in [
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\nHost: a\n\n", Status::BadRequest),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("GET / SMTP\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("EHLO example.org\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Status::VersionNotSupported),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Status::MethodNotAllowed),
            (
                "DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                Status::MethodNotAllowed,
            ),
        ] {
            assert_eq!(parse(head), Err(status), "{head:?}");
        }
        assert_eq!(
            Asked::parse(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"),
            Err(Status::BadRequest)
        );
    }

    #[test]
    fn who_looks_a_name_of_its_own_up_as_this_machine_is_not_taken_for_somebody_on_it() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let means = |host: &str, address: IpAddr| {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            parse(&head).unwrap().unwrap().means(address, "mail.example.org")
        };
        for host in [
            "127.0.0.1:9125",
            "[::1]:9125",
            "localhost",
            "LocalHost:1",
            "mail.example.org:9125",
            "",
        ] {
            assert!(means(host, here), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9125",
            "localhost.evil.example",
            "[evil]",
        ] {
            assert!(!means(host, here), "{host}");
            assert!(means(host, "192.0.2.1".parse().unwrap()), "{host}");
        }
    }
}
