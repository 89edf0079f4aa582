//! What became of a recipient at its next hop: derived once, here, from the class of the reply.
//!
//! The one owner of the policy of failure. Never decides when to try again: that is `work_queue::retry`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::smtp::reply::{EnhancedCode, Reply};
pub use crate::work_queue::outcome::{Outcome, Reason};

/// The host at the other end: the name under which it was found, and the address that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The MX name, or the name or address that the operator gave.
    pub name: String,
    /// Where the connection goes.
    pub address: Address,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// To a port of a host.
    Net(SocketAddr),
    /// To a socket of this machine, where an LMTP server listens.
    Socket(PathBuf),
}

impl Address {
    /// The address of the host.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Net(address) => Some(address.ip()),
            Address::Socket(_) => None,
        }
    }

    /// Whether it is this machine, and nothing that is said there goes over a wire.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Net(address)
    }
}

/// `mx.example.org[192.0.2.1]`, with the port where it is not 25; a socket by its path.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match &self.address {
            Address::Net(address) => address,
            Address::Socket(_) => return f.write_str(&self.name),
        };
        write!(f, "{}[{}]", self.name, address.ip())?;
        match address.port() {
            25 => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}

/// Where in the dialogue a reply is due: what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The connection itself.
    Greeting,
    /// EHLO.
    Ehlo,
    /// HELO, after EHLO was refused.
    Helo,
    /// LHLO (RFC 2033).
    Lhlo,
    /// STARTTLS.
    StartTls,
    /// AUTH, and what follows it.
    Auth,
    /// The first MAIL of the connection.
    Mail,
    /// A MAIL after another transaction.
    NextMail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The content and its final dot.
    Content,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Greeting => "the connection",
            Stage::Ehlo => "EHLO",
            Stage::Helo => "HELO",
            Stage::Lhlo => "LHLO",
            Stage::StartTls => "STARTTLS",
            Stage::Auth => "AUTH",
            Stage::Mail | Stage::NextMail => "MAIL FROM",
            Stage::Rcpt => "RCPT TO",
            Stage::Data => "DATA",
            Stage::Content => "end of DATA",
            Stage::Reset => "RSET",
            Stage::Quit => "QUIT",
        })
    }
}

/// What a reply means for that which it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Granted: go on.
    Fine,
    /// Whom it concerns is to be tried later; the connection stays.
    TryLater(Reason),
    /// Whom it concerns cannot be delivered; the connection stays.
    GiveUp(Reason),
    /// The connection is of no more use: everything unsettled is to be tried later.
    Ends(Reason),
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The peer closed the connection.
    Closed,
    /// The connection broke: the system's words.
    Broken(String),
    /// No answer within [`Session::deadline`](super::session::Session::deadline).
    Timeout,
    /// What came is not a reply: the parser's words.
    Garbage(String),
    /// TLS could not be begun: why not.
    Tls(String),
    /// Our own copy of the content cannot be read: the queue's words.
    Content(String),
}

/// Derives what `reply` means at `stage`: the one place where a reply becomes the fate of a recipient.
///
/// RFC 5321 4.3.2 and 4.2.1: the first digit decides, save for the codes that stand here.
#[must_use]
pub fn judge(peer: &Peer, stage: Stage, reply: &Reply) -> Verdict {
    let later = || Reason::said(peer, stage, reply, 4);
    match (stage, reply.code) {
        // Everything is settled by then: nothing hangs on the answer.
        (Stage::Quit, _) => Verdict::Fine,
        // RFC 5321 3.8: the peer closes, whatever it was asked.
        (_, 421) => Verdict::Ends(later()),
        // RFC 5321 4.5.3.1.10: "too many recipients" in the words of older hosts is a 452.
        // Unless it says that it means something else, such as a full mailbox.
        (Stage::Rcpt, 552) if reply.enhanced.is_none_or(|code| (code.1, code.2) == (5, 3)) => {
            Verdict::TryLater(later())
        }
        // Bad sequence, after our pipelining: the dialogue is confused, the message is not at fault.
        (Stage::NextMail, 503) => Verdict::Ends(later()),
        (Stage::Data, 300..400) => Verdict::Fine,
        (Stage::Data, 200..300) => Verdict::Ends(Reason::out_of_step(peer, stage, reply)),
        (_, 200..300) => Verdict::Fine,
        // RFC 4954 4: a challenge is an answer of its own.
        (Stage::Auth, 334) => Verdict::Fine,
        // The session goes on in the clear, if it may.
        (Stage::StartTls, 500..600) => Verdict::GiveUp(Reason::said(peer, stage, reply, 5)),
        // The session falls back to HELO.
        (Stage::Ehlo, 500..600) => Verdict::GiveUp(Reason::said(peer, stage, reply, 5)),
        // This host refuses to talk; another one of the next hop may not, so nothing is final.
        // A login that is refused is for the operator to put right.
        (
            Stage::Greeting | Stage::Ehlo | Stage::Helo | Stage::Lhlo | Stage::Auth | Stage::Reset,
            400..600,
        ) => Verdict::Ends(later()),
        (_, 400..500) => Verdict::TryLater(later()),
        (_, 500..600) => Verdict::GiveUp(Reason::said(peer, stage, reply, 5)),
        _ => Verdict::Ends(Reason::out_of_step(peer, stage, reply)),
    }
}

/// Whether a host said with this that it takes no more from us just now, so that fewer sessions fare better: 421, 450,
/// 451 or 452 with the status 4.3.2 (not accepting now), 4.4.5 (congestion), 4.7.0 or 4.7.28 (what hosts that count
/// say), or with words of that kind. A greylisted message and too many recipients of one are none of our pace.
#[must_use]
pub fn says_too_many(reason: &Reason) -> bool {
    const WORDS: [&str; 6] = [
        "too many",
        "too much mail",
        "rate limit",
        "ratelimit",
        "rate-limit",
        "throttl",
    ];
    let Some(reply) = reason
        .reply
        .as_ref()
        .filter(|reply| matches!(reply.code, 421 | 450..=452))
    else {
        return false;
    };
    let text = reply.lines.join(" ").to_ascii_lowercase();
    if ["greylist", "graylist", "recipient"]
        .iter()
        .any(|other| text.contains(other))
    {
        return false;
    }
    let status = reply.enhanced.map(|code| (code.0, code.1, code.2));
    matches!(status, Some((4, 3, 2) | (4, 4, 5) | (4, 7, 0 | 28)))
        || WORDS.iter().any(|word| text.contains(word))
        || (reply.code == 421 && text.contains("try again later"))
}

impl Reason {
    /// No connection to `peer` could be made: `why` in the system's words. 4.4.1.
    #[must_use]
    pub fn no_connection(peer: &Peer, why: &str) -> Reason {
        Reason::ours(
            EnhancedCode(4, 4, 1),
            &format!("cannot connect to {peer}: "),
            why,
            "",
        )
    }

    /// No reply came at `stage`: 4.4.2, or 4.5.0 for what is no SMTP, 4.3.0 where we are at fault.
    #[must_use]
    pub fn trouble(peer: &Peer, stage: Option<Stage>, trouble: &Trouble) -> Reason {
        let tail = match stage {
            Some(Stage::Greeting) => String::from(" (waiting for the greeting)"),
            Some(stage) => format!(" (waiting for the reply to {stage})"),
            None => String::new(),
        };
        let (status, head, why) = match trouble {
            Trouble::Closed => (EnhancedCode(4, 4, 2), format!("lost connection with {peer}"), ""),
            Trouble::Broken(why) => (
                EnhancedCode(4, 4, 2),
                format!("lost connection with {peer}: "),
                &**why,
            ),
            Trouble::Timeout => (
                EnhancedCode(4, 4, 2),
                format!("conversation with {peer} timed out"),
                "",
            ),
            Trouble::Garbage(why) => (
                EnhancedCode(4, 5, 0),
                format!("host {peer} broke the protocol: "),
                &**why,
            ),
            Trouble::Tls(why) => (
                // RFC 3463 3.8: a cryptographic failure.
                EnhancedCode(4, 7, 5),
                format!("TLS with {peer} failed: "),
                &**why,
            ),
            Trouble::Content(why) => {
                let head = String::from("the content cannot be read from the queue: ");
                return Reason::ours(EnhancedCode(4, 3, 0), &head, why, "");
            }
        };
        Reason::ours(status, &head, why, &tail)
    }

    /// TLS is required, and the peer does not offer it, or not any more after it failed. 4.7.4.
    #[must_use]
    pub fn no_tls(peer: &Peer) -> Reason {
        let text = format!("TLS is required, and host {peer} does not offer it");
        Reason::ours(EnhancedCode(4, 7, 4), "", &text, "")
    }

    /// There is a login for the peer, and it can not be used: `why`. 4.7.0.
    #[must_use]
    pub fn no_login(peer: &Peer, why: &str) -> Reason {
        let head = format!("cannot log in at {peer}: ");
        Reason::ours(EnhancedCode(4, 7, 0), &head, why, "")
    }

    /// The content has to be converted for the peer, and can not be: `why` (RFC 6152 3, RFC 3030 3). 5.6.3.
    #[must_use]
    pub fn unsuitable(peer: &Peer, why: &str) -> Reason {
        let head = format!("the content has to be converted for host {peer}, and cannot be: ");
        Reason::ours(EnhancedCode(5, 6, 3), &head, why, "")
    }

    /// The peer said beforehand that it takes no message of `size` octets (RFC 1870 6.1). 5.3.4.
    #[must_use]
    pub fn too_large(peer: &Peer, size: u64, limit: u64) -> Reason {
        let text = format!("message of {size} octets is larger than the {limit} that host {peer} takes");
        Reason::ours(EnhancedCode(5, 3, 4), "", &text, "")
    }

    /// `what` of the message can only be said with SMTPUTF8, which the peer does not offer (RFC 6531 3.2).
    /// 5.6.7.
    #[must_use]
    pub fn needs_utf8(peer: &Peer, what: &str) -> Reason {
        let text = format!("{what} needs SMTPUTF8, which host {peer} does not offer");
        Reason::ours(EnhancedCode(5, 6, 7), "", &text, "")
    }

    /// The peer spoke although nothing was asked: a 421 (its status, or 4.3.2), or a mistake (4.5.0).
    #[must_use]
    pub fn unasked(peer: &Peer, reply: Option<&Reply>) -> Reason {
        let said = reply.map(|reply| format!(": {reply}")).unwrap_or_default();
        let (status, head) = match reply {
            Some(Reply {
                code: 421, enhanced, ..
            }) => {
                let theirs = enhanced.filter(|status| status.0 == 4);
                (
                    theirs.unwrap_or(EnhancedCode(4, 3, 2)),
                    format!("host {peer} closed the connection"),
                )
            }
            _ => {
                let head = format!("host {peer} broke the protocol: it spoke before it was asked");
                (EnhancedCode(4, 5, 0), head)
            }
        };
        Reason {
            reply: reply.cloned(),
            ..Reason::ours(status, &head, &said, "")
        }
    }

    /// `reply` is none of the answers that there are to `stage`. 4.5.0.
    #[must_use]
    pub fn out_of_step(peer: &Peer, stage: Stage, reply: &Reply) -> Reason {
        let head = format!("host {peer} broke the protocol: it said ");
        let tail = format!(" (in reply to {stage})");
        let status = EnhancedCode(4, 5, 0);
        Reason {
            reply: Some(reply.clone()),
            ..Reason::ours(status, &head, &reply.to_string(), &tail)
        }
    }

    /// `reply` refused what `stage` asked. The status is the peer's if it is of `class`, else our own.
    pub(super) fn said(peer: &Peer, stage: Stage, reply: &Reply, class: u8) -> Reason {
        let status = reply
            .enhanced
            .filter(|code| code.0 == class)
            .unwrap_or(match (stage, reply.code) {
                (_, 421) | (Stage::Greeting | Stage::Ehlo | Stage::Helo | Stage::Lhlo, _) => {
                    EnhancedCode(class, 3, 2)
                }
                // RFC 4954 6: authentication credentials invalid.
                (Stage::Auth, _) => EnhancedCode(class, 7, 8),
                (Stage::Rcpt, 452 | 552) => EnhancedCode(class, 5, 3),
                (_, 503) => EnhancedCode(class, 5, 1),
                // RFC 4954 6, RFC 3207 4: not without TLS or a login.
                (_, 530) => EnhancedCode(class, 7, 0),
                _ => EnhancedCode(class, 0, 0),
            });
        let (head, tail) = match stage {
            Stage::Greeting => (format!("host {peer} refused to talk to us: "), String::new()),
            _ => (format!("host {peer} said: "), format!(" (in reply to {stage})")),
        };
        Reason {
            reply: Some(reply.clone()),
            ..Reason::ours(status, &head, &reply.to_string(), &tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer {
            name: "mx.example.org".to_string(),
            address: "192.0.2.1:25".parse::<SocketAddr>().unwrap().into(),
        }
    }

    fn verdict(stage: Stage, code: u16) -> Verdict {
        judge(&peer(), stage, &Reply::new(code, "text"))
    }

    /// `later 4.0.0`, as the table below writes it.
    fn word(verdict: Verdict) -> String {
        match verdict {
            Verdict::Fine => "fine".to_string(),
            Verdict::TryLater(reason) => format!("later {}", reason.status),
            Verdict::GiveUp(reason) => format!("give up {}", reason.status),
            Verdict::Ends(reason) => format!("ends {}", reason.status),
        }
    }

    #[test]
    fn every_stage_judges_every_class() {
        use Stage::{Content, Data, Ehlo, Greeting, Helo, Mail, NextMail, Quit, Rcpt, Reset};
        let (fine, later, give_up, step) = ("fine", "later 4.0.0", "give up 5.0.0", "ends 4.5.0");
        let (busy, reset) = ("ends 4.3.2", "ends 4.0.0");
        let table = [
            // stage, 250, 354, 421, 450, 550
            (Greeting, [fine, step, busy, busy, busy]),
            (Ehlo, [fine, step, busy, busy, "give up 5.3.2"]),
            (Helo, [fine, step, busy, busy, busy]),
            (Mail, [fine, step, busy, later, give_up]),
            (NextMail, [fine, step, busy, later, give_up]),
            (Rcpt, [fine, step, busy, later, give_up]),
            (Data, [step, fine, busy, later, give_up]),
            (Content, [fine, step, busy, later, give_up]),
            (Reset, [fine, step, busy, reset, reset]),
            (Quit, [fine, fine, fine, fine, fine]),
        ];
        for (stage, expected) in table {
            for (code, expected) in [250, 354, 421, 450, 550].into_iter().zip(expected) {
                assert_eq!(
                    word(verdict(stage, code)),
                    expected,
                    "{code} in reply to {stage:?}"
                );
            }
        }
    }

    #[test]
    fn a_host_that_has_enough_of_us_is_told_from_one_that_has_something_against_a_message() {
        let said = |code, status, text: &str| {
            let reply = Reply {
                code,
                enhanced: status,
                lines: vec![text.to_string()],
            };
            let (Verdict::TryLater(reason) | Verdict::GiveUp(reason) | Verdict::Ends(reason)) =
                judge(&peer(), Stage::Mail, &reply)
            else {
                panic!("{code}")
            };
            says_too_many(&reason)
        };
        for (code, status, text) in [
            (
                421,
                None,
                "Too many concurrent SMTP connections; please try again later.",
            ),
            (421, None, "mx Service busy, try again later"),
            (
                421,
                Some(EnhancedCode(4, 7, 0)),
                "[TSS04] Messages temporarily deferred",
            ),
            (421, Some(EnhancedCode(4, 3, 2)), "not now"),
            (450, Some(EnhancedCode(4, 7, 28)), "unusual"),
            (451, Some(EnhancedCode(4, 4, 5)), "busy"),
            (452, None, "Rate limit exceeded"),
        ] {
            assert!(said(code, status, text), "{code} {status:?} {text}");
        }
        for (code, status, text) in [
            (421, Some(EnhancedCode(4, 4, 2)), "timeout"),
            (450, Some(EnhancedCode(4, 2, 0)), "Greylisted, try again later"),
            (451, Some(EnhancedCode(4, 7, 0)), "greylisting in action"),
            (452, Some(EnhancedCode(4, 5, 3)), "too many recipients"),
            (452, Some(EnhancedCode(4, 2, 2)), "mailbox full"),
            (550, Some(EnhancedCode(5, 7, 0)), "rate limit"),
        ] {
            assert!(!said(code, status, text), "{code} {status:?} {text}");
        }
    }

    #[test]
    fn too_many_recipients_is_tried_later_in_both_its_codes() {
        assert_eq!(word(verdict(Stage::Rcpt, 452)), "later 4.5.3");
        assert_eq!(word(verdict(Stage::Rcpt, 552)), "later 4.5.3");
        assert_eq!(word(verdict(Stage::Content, 552)), "give up 5.0.0");
    }

    #[test]
    fn bad_sequence_is_held_against_the_dialogue_only_after_another_message() {
        assert_eq!(word(verdict(Stage::Mail, 503)), "give up 5.5.1");
        assert_eq!(word(verdict(Stage::NextMail, 503)), "ends 4.5.1");
    }

    #[test]
    fn the_status_is_the_peers_if_it_fits_the_class() {
        let said = |status| judge(&peer(), Stage::Rcpt, &Reply::with_status(550, status, "no"));
        assert_eq!(word(said(EnhancedCode(5, 1, 1))), "give up 5.1.1");
        assert_eq!(word(said(EnhancedCode(4, 1, 1))), "give up 5.0.0");
    }

    #[test]
    fn the_reason_says_who_said_what_to_what() {
        let reply = Reply::multiline(
            550,
            Some(EnhancedCode(5, 1, 1)),
            vec!["no such".to_string(), "user".to_string()],
        );
        let Verdict::GiveUp(reason) = judge(&peer(), Stage::Rcpt, &reply) else {
            panic!("not given up")
        };
        let text = "host mx.example.org[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO)";
        assert_eq!(reason.text, text);
        assert_eq!(reason.reply, Some(reply));
    }

    #[test]
    fn a_port_other_than_25_is_named() {
        let peer = Peer {
            name: "localhost".to_string(),
            address: "[::1]:2525".parse::<SocketAddr>().unwrap().into(),
        };
        let reason = Reason::no_connection(&peer, "Connection refused");
        assert_eq!(
            reason.text,
            "cannot connect to localhost[::1]:2525: Connection refused"
        );
        assert_eq!(reason.status, EnhancedCode(4, 4, 1));
    }

    #[test]
    fn the_text_is_one_clean_line_of_at_most_500_octets() {
        let lines = vec!["\u{1b}[31mred\r\n\u{9b}".to_string(), "\u{e9}".repeat(2000)];
        let peer = Peer {
            name: "x".repeat(2000),
            ..peer()
        };
        for stage in [Stage::Greeting, Stage::Rcpt] {
            let reply = Reply::multiline(450, None, lines.clone());
            let (Verdict::TryLater(reason) | Verdict::Ends(reason)) = judge(&peer, stage, &reply) else {
                panic!("not tried later")
            };
            assert!(
                reason.text.len() <= Reason::LONGEST,
                "{} octets",
                reason.text.len()
            );
            assert!(!reason.text.chars().any(char::is_control), "{}", reason.text);
        }
        let reply = Reply::multiline(450, None, lines);
        let text = Reason::out_of_step(&self::peer(), Stage::Rcpt, &reply).text;
        assert!(text.ends_with("... (in reply to RCPT TO)"), "{text}");
    }

    #[test]
    fn trouble_says_what_was_waited_for() {
        let about = |trouble| Reason::trouble(&peer(), Some(Stage::Content), &trouble);
        let lost = about(Trouble::Broken("Connection reset by peer".to_string()));
        assert_eq!(lost.status, EnhancedCode(4, 4, 2));
        let text = "lost connection with mx.example.org[192.0.2.1]: Connection reset by peer \
                    (waiting for the reply to end of DATA)";
        assert_eq!(lost.text, text);
        assert_eq!(about(Trouble::Closed).status, EnhancedCode(4, 4, 2));
        assert_eq!(about(Trouble::Timeout).status, EnhancedCode(4, 4, 2));
        assert_eq!(
            about(Trouble::Garbage("x".to_string())).status,
            EnhancedCode(4, 5, 0)
        );
        assert_eq!(
            about(Trouble::Content("x".to_string())).status,
            EnhancedCode(4, 3, 0)
        );
    }
}
