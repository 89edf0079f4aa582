//! A trial of a next hop: the session that a handler would have with it, as far as RCPT, every line of it told.
//!
//! Its opening is that of every session; what follows is MAIL, RCPT, RSET and QUIT. Never says DATA, never touches the
//! queue, and never tells a password or what is made of one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::Connection;
use super::families::Families;
use super::handler::nonce;
use super::offered::Offered;
use super::outcome::{Outcome, Peer, Reason, Stage, Trouble, Verdict, judge};
use super::security::Security;
use super::session::{End, Input, Session, Step};
use super::transaction::{Envelope, RecipientKey};
use crate::config::TlsLevel;
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::tls::trust::{self, Trust};
use crate::work_queue::id::MessageId;

/// How long an answer is waited for. Somebody is looking on.
const PATIENCE: Duration = Duration::from_secs(60);

/// After so long no further host is tried, and none is waited for any longer.
const TRYING: Duration = Duration::from_secs(2 * 60);

/// Who says a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The host.
    Host,
    /// We do.
    Us,
    /// Nobody: it is what happened.
    Nobody,
}

/// A line of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How long after the connection was begun.
    pub after: Duration,
    /// Who says it.
    pub who: Who,
    /// What is said, without its line end; nothing in it obeys a terminal.
    pub text: String,
}

/// `   0.012 <- 220 mail.example.org ESMTP`: seconds, `<-` the host, `->` we.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.who {
            Who::Host => "<-",
            Who::Us => "->",
            Who::Nobody => "--",
        };
        write!(f, "{:>8.3} {sign} {}", self.after.as_secs_f64(), self.text)
    }
}

/// What is tried, and with whose words.
#[derive(Debug)]
pub struct Trial<'t> {
    /// `--hostname`: the name in EHLO.
    pub hostname: &'t str,
    /// How the next hop is spoken to.
    pub security: Security,
    /// Whom we trust where a host has to prove its name.
    pub trust: &'t Trust,
    /// Which families of addresses work.
    pub families: &'t Families,
    /// For MAIL.
    pub from: ReversePath,
    /// For RCPT.
    pub to: Mailbox,
    /// Whether the peers speak LMTP.
    pub in_lmtp: bool,
}

impl Trial<'_> {
    /// Asks these peers in turn, as a handler does, until one takes the recipient or refuses it for good; `tell` hears
    /// each line as it is said. What comes of it is what a message would have met with as far as RCPT.
    pub fn run(&self, peers: Vec<Peer>, tell: &mut dyn FnMut(Line)) -> Outcome {
        let until = Instant::now() + TRYING;
        let mut last = None;
        for peer in peers {
            if last.is_some() && Instant::now() >= until {
                break;
            }
            match self.try_host(&peer, until, tell) {
                Outcome::TryLater(reason) => last = Some(reason),
                settled => return settled,
            }
        }
        let nobody = || Reason::here(EnhancedCode(4, 4, 1), "there was no host to try");
        Outcome::TryLater(last.unwrap_or_else(nobody))
    }

    fn try_host(&self, peer: &Peer, until: Instant, tell: &mut dyn FnMut(Line)) -> Outcome {
        let mut security = self.security.clone();
        loop {
            match self.visit(peer, &security, until, tell) {
                Ok(outcome) => return outcome,
                // Better in the clear than not at all, where the operator does not say otherwise.
                Err(End::WithoutTls(_)) if !security.tls_failed => security.tls_failed = true,
                Err(
                    End::Refused(reason)
                    | End::Broken(reason)
                    | End::WithoutTls(reason)
                    | End::WithoutChunks(reason),
                ) => return Outcome::TryLater(reason),
                Err(End::Done) => {
                    let what = format!("{peer}: the session ended before RCPT");
                    return Outcome::TryLater(Reason::here(EnhancedCode(4, 4, 2), &what));
                }
            }
        }
    }

    /// One connection.
    fn visit(
        &self,
        peer: &Peer,
        security: &Security,
        until: Instant,
        tell: &mut dyn FnMut(Line),
    ) -> Result<Outcome, End> {
        let began = Instant::now();
        let mut told = |who, text: String| {
            let after = began.elapsed();
            tell(Line { after, who, text });
        };
        let without = match security.tls_failed {
            true => ", without TLS this time",
            false => "",
        };
        told(Who::Nobody, format!("connecting to {peer}{without}"));
        let opened = Connection::open(peer);
        if let Some(ip) = peer.address.ip() {
            self.families.note(ip, &opened, Instant::now());
        }
        let connection = opened.map_err(|error| {
            told(Who::Nobody, format!("no connection: {error}"));
            End::Refused(Reason::no_connection(peer, &error.to_string()))
        })?;
        let security = Security {
            nonce: security.login.as_ref().map_or(String::new(), |_| nonce()),
            ..security.clone()
        };
        let mut visit = Visit {
            trial: self,
            level: security.level,
            session: Session::new(self.hostname, peer.clone(), security, 0).in_lmtp(self.in_lmtp),
            connection,
            peer,
            until,
            told: &mut told,
            is_response: false,
        };
        visit.open()?;
        visit.transact()
    }

    /// A message of which nothing is known but for whom it is.
    fn envelope(&self) -> Envelope {
        let recipient = (RecipientKey(0), self.to.clone());
        Envelope::new(MessageId(0), self.from.clone(), [recipient], 0)
    }
}

/// A session over a connection.
struct Visit<'v> {
    trial: &'v Trial<'v>,
    level: TlsLevel,
    session: Session,
    connection: Connection,
    peer: &'v Peer,
    until: Instant,
    told: &'v mut dyn FnMut(Who, String),
    /// What we say next answers a challenge of AUTH.
    is_response: bool,
}

impl Visit<'_> {
    /// All that comes before messages may go.
    fn open(&mut self) -> Result<(), End> {
        let input = self.hear();
        self.advance(input)
    }

    /// Goes on until the session wants a message, or ends.
    fn advance(&mut self, input: Input) -> Result<(), End> {
        let mut next = Some(input);
        loop {
            let input = match next.take() {
                Some(input) => input,
                None => self.hear(),
            };
            let (mut is_open, mut end) = (false, None);
            for step in self.session.advance(input) {
                match step {
                    Step::Send(octets) => self.say(&octets),
                    Step::BeginTls => next = Some(self.begin_tls()),
                    Step::WantMessage => is_open = true,
                    Step::Close(how) => end = Some(how),
                    // Of the messages that it has not been given.
                    Step::SendContent(_) | Step::SendBinary(_) | Step::Settle { .. } | Step::GiveBack(_) => {}
                }
            }
            if let Some(end) = end {
                let _ = self.connection.flush();
                if let End::Refused(reason) | End::Broken(reason) | End::WithoutTls(reason) = &end {
                    (self.told)(Who::Nobody, reason.text.clone());
                }
                return Err(end);
            }
            if is_open {
                return Ok(());
            }
        }
    }

    /// MAIL and RCPT, then RSET and QUIT.
    fn transact(&mut self) -> Result<Outcome, End> {
        let envelope = self.trial.envelope();
        let offered = Offered {
            // There is no message, and so it has no size.
            size: None,
            ..self.session.offered().clone()
        };
        let mut outcome = None;
        if !offered.smtp_utf8 {
            let to = self.trial.to.needs_utf8().then_some("the address");
            outcome = envelope
                .needs_utf8()
                .or(to)
                .map(|what| Outcome::GiveUp(Reason::needs_utf8(self.peer, what)));
        }
        let mail = (Stage::Mail, envelope.mail(&offered));
        let rcpt = envelope
            .recipients
            .iter()
            .map(|to| (Stage::Rcpt, envelope.rcpt(to, &offered)));
        for (stage, line) in std::iter::once(mail).chain(rcpt) {
            if outcome.is_some() {
                break;
            }
            let reply = match self.ask(&line) {
                Ok(reply) => reply,
                Err(trouble) => {
                    let reason = Reason::trouble(self.peer, Some(stage), &trouble);
                    (self.told)(Who::Nobody, reason.text.clone());
                    return Ok(Outcome::TryLater(reason));
                }
            };
            match judge(self.peer, stage, &reply) {
                Verdict::Fine if stage == Stage::Rcpt => outcome = Some(Outcome::Delivered(reply)),
                Verdict::Fine => {}
                Verdict::GiveUp(_) if self.session.is_about_ourselves(reply.code) => {
                    let reason = Reason::said(self.peer, stage, &reply, 4);
                    outcome = Some(Outcome::TryLater(reason));
                }
                Verdict::GiveUp(reason) => outcome = Some(Outcome::GiveUp(reason)),
                Verdict::TryLater(reason) => outcome = Some(Outcome::TryLater(reason)),
                Verdict::Ends(reason) => return Ok(Outcome::TryLater(reason)),
            }
        }
        // Nothing hangs on the rest.
        if self.ask("RSET\r\n").is_ok() {
            let _ = self.advance(Input::NoMore);
        }
        outcome.ok_or(End::Done)
    }

    fn ask(&mut self, line: &str) -> Result<Reply, Trouble> {
        self.say(line.as_bytes());
        self.connection.flush()?;
        let patience = self.patience();
        let (reply, _) = self.connection.reply(patience)?;
        self.tell_reply(&reply);
        Ok(reply)
    }

    fn hear(&mut self) -> Input {
        let patience = self.patience();
        let flushed = self.connection.flush();
        match flushed.and_then(|()| self.connection.reply(patience)) {
            Ok((reply, more_at_hand)) => {
                let shown = self.session.shown(reply.clone());
                self.tell_reply(&shown);
                Input::Reply { reply, more_at_hand }
            }
            Err(trouble) => Input::Lost(trouble),
        }
    }

    fn patience(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        self.session
            .deadline()
            .min(PATIENCE)
            .min(left.max(Duration::from_secs(1)))
    }

    fn begin_tls(&mut self) -> Input {
        let verdict = Arc::<Mutex<trust::Verdict>>::default();
        let is_asked_for = self.level == TlsLevel::Verify;
        let trust = match is_asked_for {
            true => self.trial.trust.in_the_name(),
            false => self.trial.trust.watching(&verdict),
        };
        let facts = match self.connection.begin_tls(self.peer, trust) {
            Ok(facts) => facts,
            Err(trouble) => return Input::Lost(trouble),
        };
        (self.told)(Who::Nobody, format!("TLS: {} {}", facts.version, facts.cipher));
        let name = &self.peer.name;
        let said = match verdict.lock().take() {
            _ if is_asked_for => format!("certificate: good for {name}"),
            Some(Ok(())) => format!("certificate: good for {name}, which nobody asks of it"),
            Some(Err(why)) => format!("certificate: not good for {name}, which nobody asks of it: {why}"),
            None => "certificate: none was shown".to_owned(),
        };
        (self.told)(Who::Nobody, clean(&said));
        Input::TlsBegun {
            verified: is_asked_for,
        }
    }

    /// Puts this into the write buffer, and tells it, but for what is between the host and us alone.
    fn say(&mut self, octets: &[u8]) {
        self.connection.send(octets);
        let text = String::from_utf8_lossy(octets);
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            let is_response = std::mem::take(&mut self.is_response);
            (self.told)(Who::Us, hidden(line, is_response));
        }
    }

    fn tell_reply(&mut self, reply: &Reply) {
        self.is_response = reply.code == 334;
        if self.is_response {
            return (self.told)(Who::Host, "334 (hidden)".to_owned());
        }
        let mut octets = Vec::new();
        reply.write_to(&mut octets, true);
        for line in String::from_utf8_lossy(&octets).split_terminator("\r\n") {
            (self.told)(Who::Host, line.trim_end().to_owned());
        }
    }
}

/// A line of ours as it may be seen: of AUTH no more than the mechanism.
fn hidden(line: &str, is_response: bool) -> String {
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        _ if is_response => "(hidden)".to_owned(),
        (Some("AUTH"), Some(mechanism), Some(_)) => format!("AUTH {mechanism} (hidden)"),
        _ => clean(line),
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_login_is_seen_but_its_mechanism() {
        assert_eq!(
            hidden("AUTH PLAIN AGJvYgBzZWNyZXQ=", false),
            "AUTH PLAIN (hidden)"
        );
        assert_eq!(hidden("AUTH LOGIN", false), "AUTH LOGIN");
        assert_eq!(hidden("c2VjcmV0", true), "(hidden)");
        assert_eq!(hidden("*", true), "(hidden)");
        assert_eq!(hidden("EHLO mta.test", false), "EHLO mta.test");
    }

    #[test]
    fn a_line_says_when_and_by_whom() {
        let line = |who, text: &str| {
            let (after, text) = (Duration::from_micros(12_345_678), text.to_owned());
            Line { after, who, text }.to_string()
        };
        assert_eq!(line(Who::Host, "250 OK"), "  12.346 <- 250 OK");
        assert_eq!(line(Who::Us, "QUIT"), "  12.346 -> QUIT");
        assert_eq!(line(Who::Nobody, "TLS"), "  12.346 -- TLS");
    }
}
