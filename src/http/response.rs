//! What is answered: a status, a kind of content, and the content itself; and how that is written. Pure.

use std::fmt::Write as _;

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Here it is.
    Ok,
    /// It is no request, or an ambiguous one.
    BadRequest,
    /// There is no such page.
    NotFound,
    /// Nothing can be changed here.
    MethodNotAllowed,
    /// It did not come in time.
    Timeout,
    /// It is meant for another host.
    Misdirected,
    /// Its head is too long.
    HeadTooLarge,
    /// Something is wrong, or too many ask at once.
    Unavailable,
    /// It is not HTTP/1.0 or 1.1.
    VersionNotSupported,
}

impl Status {
    /// Code and words.
    #[must_use]
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::Timeout => "408 Request Timeout",
            Status::Misdirected => "421 Misdirected Request",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What the content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A page.
    Html,
    /// Its looks.
    Css,
    /// Its script.
    Script,
    /// Its icon.
    Svg,
    /// Words.
    Text,
    /// Metrics in the text format of Prometheus.
    Metrics,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Html => "text/html; charset=utf-8",
            Kind::Css => "text/css; charset=utf-8",
            Kind::Script => "text/javascript; charset=utf-8",
            Kind::Svg => "image/svg+xml",
            Kind::Text => "text/plain; charset=utf-8",
            Kind::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// How the request ends.
    pub status: Status,
    /// What `content` is.
    pub kind: Kind,
    /// What is sent.
    pub content: String,
}

/// Nothing comes from elsewhere, nothing of what is written on the page is run, and no other page has it in a frame.
const HEAD: &str = "Connection: close\r\n\
    Cache-Control: no-store\r\n\
    Content-Security-Policy: default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\n";

impl Response {
    /// This content.
    #[must_use]
    pub fn of(kind: Kind, content: impl Into<String>) -> Response {
        Response {
            status: Status::Ok,
            kind,
            content: content.into(),
        }
    }

    /// A status, and its words.
    #[must_use]
    pub fn only(status: Status) -> Response {
        Response {
            status,
            kind: Kind::Text,
            content: format!("{}\n", status.line()),
        }
    }

    /// All that is sent, for whoever wants all of it or the head only. `date` is as HTTP writes it.
    #[must_use]
    pub fn octets(&self, head_only: bool, date: &str) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {}\r\nDate: {date}\r\n", self.status.line());
        let (kind, length) = (self.kind.name(), self.content.len());
        let _ = write!(text, "Content-Type: {kind}\r\nContent-Length: {length}\r\n");
        match self.status {
            Status::MethodNotAllowed => text.push_str("Allow: GET, HEAD\r\n"),
            Status::Unavailable => text.push_str("Retry-After: 5\r\n"),
            _ => {}
        }
        text.push_str(HEAD);
        text.push_str("\r\n");
        if !head_only {
            text.push_str(&self.content);
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_it_is_how_long_and_that_it_is_the_last_one() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let whole = String::from_utf8(Response::of(Kind::Text, "ok\n").octets(false, date)).unwrap();
        let (head, content) = whole.split_once("\r\n\r\n").unwrap();
        assert_eq!(content, "ok\n");
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(lines[0], "HTTP/1.1 200 OK");
        for line in [
            "Date: Sun, 06 Nov 1994 08:49:37 GMT",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Length: 3",
            "Connection: close",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: no-referrer",
        ] {
            assert!(lines.contains(&line), "{line}: {head}");
        }
        assert!(head.contains("\r\nContent-Security-Policy: default-src 'none'; style-src 'self'; "));
        assert!(!head.to_ascii_lowercase().contains("access-control-"), "{head}");
        let only = Response::of(Kind::Text, "ok\n").octets(true, date);
        assert_eq!(only, format!("{head}\r\n\r\n").into_bytes());
    }

    #[test]
    fn who_may_not_is_told_what_may_be_done_and_who_is_too_early_when_to_come_again() {
        let said = |status| String::from_utf8(Response::only(status).octets(false, "")).unwrap();
        assert!(said(Status::MethodNotAllowed).contains("\r\nAllow: GET, HEAD\r\n"));
        assert!(said(Status::Unavailable).contains("\r\nRetry-After: 5\r\n"));
        assert!(said(Status::NotFound).ends_with("\r\n\r\n404 Not Found\n"));
    }
}
