//! The sink's side of a dialogue, as it should be: what each line is to be answered, and what follows from the answer
//! that was really given.
//!
//! Pure: no socket, no clock, no thread. Never misbehaves by itself. It says what is right, is told what was said
//! instead, and goes on from there: who was told 250 has been granted it.

use std::sync::Arc;

use super::envelope::{Envelope, Recipient, in_brackets};
use super::replies::{self, say};
use super::service::Service;
use super::settings::Tls;
use super::stage::Stage;
use crate::sasl::{Bindings, Context, Exchange, Mechanism, Progress, base64};
use crate::smtp::command::{self, Body, Command, MailParameters, RcptParameters};
use crate::smtp::data::{ChunkChecker, ContentFault};
use crate::smtp::line::Line;
use crate::smtp::reply::Reply;

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The stages that this is: orders for any of them hold. Empty where nothing can go wrong to order.
    pub stages: &'static [Stage],
    /// The address in question.
    pub about: String,
    /// What is right to say.
    pub reply: Reply,
    /// Whether enhanced codes go with it.
    pub enhanced: bool,
}

/// What to do about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Answer it.
    Answer(Answer),
    /// Take in a chunk of so many octets, and then call [`Session::end_of_chunk`].
    Chunk(u64),
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The client's next line.
    Line,
    /// Content up to its dot, and then [`Session::end_of_content`].
    Content,
    /// The TLS handshake, and then [`Session::tls_started`].
    Handshake,
    /// The end.
    Close,
}

/// What the answer that is due decides, if it grants it.
#[derive(Debug)]
enum Move {
    Nothing,
    Greeting,
    Hello {
        esmtp: bool,
    },
    StartTls,
    Challenge(Box<Exchange>),
    Login,
    Mail(Envelope),
    Recipient(Recipient),
    Content,
    Chunk,
    Message,
    /// In LMTP: the message, for the recipient at this place.
    Delivery(usize),
    Reset,
    Close,
}

/// Who has said what so far.
#[derive(Debug)]
pub struct Session {
    service: Arc<Service>,
    /// The greeting was no 220: RFC 5321 3.1 leaves QUIT alone.
    turned_away: bool,
    /// Whether it was EHLO, once it was said.
    hello: Option<bool>,
    encrypted: bool,
    bindings: Bindings,
    entropy: [u8; 32],
    exchange: Option<Box<Exchange>>,
    logged_in: bool,
    envelope: Option<Envelope>,
    /// Octets of chunks so far, of the message in hand.
    chunks: Option<u64>,
    /// A chunk was refused: the others have to be, up to RSET (RFC 3030 2).
    chunk_refused: bool,
    /// The chunk that is being taken in is the last one.
    last_chunk: bool,
    messages: u64,
    /// In LMTP: the message was taken for one of its recipients so far.
    taken: bool,
    pending: Move,
}

impl Session {
    /// A session in which nothing was said. `entropy` is for SCRAM.
    #[must_use]
    pub fn new(service: Arc<Service>, entropy: [u8; 32]) -> Session {
        Session {
            service,
            turned_away: false,
            hello: None,
            encrypted: false,
            bindings: Bindings::default(),
            entropy,
            exchange: None,
            logged_in: false,
            envelope: None,
            chunks: None,
            chunk_refused: false,
            last_chunk: false,
            messages: 0,
            taken: false,
            pending: Move::Nothing,
        }
    }

    /// What is to be said first.
    pub fn greeting(&mut self) -> Answer {
        self.pending = Move::Greeting;
        let reply = replies::greeting(&self.service.settings);
        self.at(&[Stage::Greeting], "", reply)
    }

    /// The envelope of the message that is under way.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        self.envelope.as_ref()
    }

    /// Whether the answer that is due settles a message; and whether it is taken then, if this answer is a yes or not.
    #[must_use]
    pub fn settles(&self, accepted: bool) -> Option<bool> {
        match self.pending {
            Move::Message => Some(accepted),
            Move::Delivery(place) => self.is_last(place).then_some(accepted || self.taken),
            _ => None,
        }
    }

    /// In LMTP: the recipient for whom the answer that is due takes a message or not.
    #[must_use]
    pub fn delivers_to(&self) -> Option<&str> {
        match self.pending {
            Move::Delivery(place) => self.recipient_at(place),
            _ => None,
        }
    }

    fn recipient_at(&self, place: usize) -> Option<&str> {
        let recipient = self.envelope.as_ref()?.recipients.get(place)?;
        Some(&recipient.path)
    }

    fn is_last(&self, place: usize) -> bool {
        self.recipient_at(place + 1).is_none()
    }

    /// Whether a message comes in chunks, and more of it may come.
    #[must_use]
    pub fn is_in_chunks(&self) -> bool {
        self.chunks.is_some()
    }

    /// Takes a line. `more_at_hand`: the client has sent something behind it already.
    pub fn hear(&mut self, line: Line<'_>, more_at_hand: bool) -> Heard {
        self.pending = Move::Nothing;
        let line = match line {
            Line::Whole(line) => line,
            Line::Bad(fault) => return Heard::Answer(self.at(&[], "", replies::no_line(fault))),
        };
        if let Some(exchange) = self.exchange.take() {
            return Heard::Answer(self.respond(*exchange, line));
        }
        // The grammar of LHLO is that of EHLO (RFC 2033 4.1), which LMTP does not know.
        let line = match (self.service.settings.lmtp, line.get(..4)) {
            (true, Some(verb)) if verb.eq_ignore_ascii_case(b"LHLO") => &[b"EHLO", &line[4..]].concat(),
            (true, Some(verb))
                if [b"EHLO", b"HELO"]
                    .iter()
                    .any(|smtp| verb.eq_ignore_ascii_case(*smtp)) =>
            {
                return Heard::Answer(self.at(&[], "", say(500, (5, 1), "LMTP is spoken here: say LHLO")));
            }
            _ => line,
        };
        let found = command::find(line);
        let verb = found.as_ref().ok().map(|(verb, _)| *verb);
        match found.and_then(|(verb, arguments)| verb.parse(arguments)) {
            Ok(command) if more_at_hand && !self.may_go_on_behind(&command) => {
                self.pending = Move::Close;
                let reply = say(554, (5, 0), "You went on before I answered");
                Heard::Answer(self.at(&[], "", reply))
            }
            Ok(Command::Bdat { size, last }) if self.service.offers("CHUNKING") => {
                self.last_chunk = last;
                Heard::Chunk(size)
            }
            Ok(command) => Heard::Answer(self.obey(command, line)),
            Err(error) => Heard::Answer(self.at(&[], "", replies::not_understood(verb, error))),
        }
    }

    /// RFC 2920 3.1: what may stand before the end of a group, where groups are offered at all.
    fn may_go_on_behind(&self, command: &Command) -> bool {
        let grouped = self.hello == Some(true) && self.service.offers("PIPELINING");
        match command {
            // The chunk itself.
            Command::Bdat { .. } => true,
            // Whoever takes its leave needs no answer.
            Command::Quit => true,
            Command::Mail { .. } | Command::Rcpt { .. } | Command::Rset => grouped,
            _ => false,
        }
    }

    fn obey(&mut self, command: Command, line: &[u8]) -> Answer {
        let hostname = self.service.settings.hostname.clone();
        match command {
            Command::Quit => {
                self.pending = Move::Close;
                self.at(&[Stage::Quit], "", say(221, (0, 0), "Goodbye"))
            }
            _ if self.turned_away => self.at(&[], "", say(503, (5, 1), "There is no service here")),
            Command::Ehlo(_) if !self.service.settings.ehlo => {
                self.at(&[Stage::Ehlo], "", say(502, (5, 1), "EHLO is not known here"))
            }
            Command::Ehlo(_) => {
                self.pending = Move::Hello { esmtp: true };
                let reply = replies::ehlo(&self.service, self.encrypted, &self.bindings);
                self.at(&[Stage::Ehlo], "", reply)
            }
            Command::Helo(_) => {
                self.pending = Move::Hello { esmtp: false };
                self.at(&[Stage::Helo], "", Reply::new(250, hostname))
            }
            Command::StartTls => self.start_tls(),
            Command::Auth { mechanism, initial } => self.authenticate(&mechanism, initial.as_deref()),
            Command::Mail { parameters, .. } => self.mail(&parameters, line),
            Command::Rcpt { parameters, .. } => self.recipient(&parameters, line),
            Command::Data => self.data(),
            Command::Bdat { .. } => self.at(&[], "", say(502, (5, 1), "CHUNKING is not offered")),
            Command::Rset => {
                self.pending = Move::Reset;
                self.at(&[Stage::Rset], "", say(250, (0, 0), "OK"))
            }
            Command::Noop => self.at(&[], "", say(250, (0, 0), "OK")),
            Command::Vrfy => self.at(&[], "", say(252, (0, 0), "Send mail and find out")),
            Command::Help => self.at(&[], "", replies::help()),
        }
    }

    fn start_tls(&mut self) -> Answer {
        let offered = self.service.settings.tls == Tls::Offered || self.service.offers("STARTTLS");
        if self.encrypted || !offered {
            return self.at(&[], "", say(502, (5, 1), "STARTTLS is not offered"));
        }
        if self.hello.is_none() || self.envelope.is_some() {
            return self.out_of_sequence();
        }
        self.pending = Move::StartTls;
        self.at(&[Stage::Starttls], "", say(220, (0, 0), "Ready to start TLS"))
    }

    fn authenticate(&mut self, mechanism: &str, initial: Option<&str>) -> Answer {
        let offered = self.service.mechanisms(&self.bindings);
        let Some(accounts) = &self.service.accounts else {
            return self.at(&[], "", say(502, (5, 1), "AUTH is not offered"));
        };
        if self.hello != Some(true) || self.envelope.is_some() || self.logged_in {
            return self.out_of_sequence();
        }
        let Some(mechanism) = Mechanism::from_name(mechanism).filter(|known| offered.contains(known)) else {
            return self.at(&[Stage::Auth], "", say(504, (5, 4), "Unknown mechanism"));
        };
        let initial = initial.map(|word| base64::decode_initial(word.as_bytes()));
        if initial == Some(None) {
            return self.at(&[Stage::Auth], "", say(501, (5, 2), "That is no base64"));
        }
        let context = Context {
            accounts: Arc::clone(accounts),
            bindings: self.bindings.clone(),
            entropy: self.entropy,
        };
        let progress = Exchange::new(mechanism, context).begin(initial.flatten().as_deref());
        self.proceed(progress)
    }

    fn respond(&mut self, exchange: Exchange, line: &[u8]) -> Answer {
        if line == base64::CANCEL {
            return self.at(&[Stage::Auth], "", say(501, (7, 0), "Cancelled"));
        }
        match base64::decode(line) {
            Some(response) => {
                let progress = exchange.respond(&response);
                self.proceed(progress)
            }
            None => self.at(&[Stage::Auth], "", say(501, (5, 2), "That is no base64")),
        }
    }

    fn proceed(&mut self, progress: Progress) -> Answer {
        let reply = match progress {
            Progress::Challenge(exchange, challenge) => {
                self.pending = Move::Challenge(Box::new(exchange));
                let reply = Reply::new(334, base64::encode(&challenge));
                // What goes wrong goes wrong at the end of an exchange: a challenge is not the answer to AUTH.
                return self.at(&[], "", reply);
            }
            Progress::Check(check) => {
                // The one password of a sink is known in the clear: nothing to wait for.
                let progress = check.run();
                return self.proceed(progress);
            }
            Progress::Done(_) => {
                self.pending = Move::Login;
                say(235, (7, 0), "Welcome")
            }
            Progress::Failed => say(535, (7, 8), "Authentication failed"),
            Progress::Malformed => say(501, (5, 2), "That is not how the mechanism goes"),
        };
        self.at(&[Stage::Auth], "", reply)
    }

    fn mail(&mut self, said: &MailParameters, line: &[u8]) -> Answer {
        let settings = &self.service.settings;
        if self.hello.is_none() || self.envelope.is_some() {
            return self.out_of_sequence();
        }
        let (reverse_path, parameters) = in_brackets(line);
        let refusal = if settings.max_per_session.is_some_and(|most| self.messages >= most) {
            Some(say(421, (3, 2), "Enough for one session"))
        } else if settings.require_tls && !self.encrypted {
            Some(say(530, (7, 0), "Must issue a STARTTLS command first"))
        } else if self.service.accounts.is_some() && !self.logged_in {
            Some(say(530, (7, 0), "Authentication required"))
        } else if !self.understands(said) {
            Some(say(555, (5, 4), "That parameter is not offered"))
        } else {
            match (settings.size, said.size) {
                (Some(most), Some(size)) if size > most => Some(replies::too_large(most)),
                _ => None,
            }
        };
        let reply = refusal.unwrap_or_else(|| say(250, (1, 0), "OK"));
        let answer = self.at(&[Stage::Mail], &reverse_path, reply);
        self.pending = Move::Mail(Envelope {
            reverse_path,
            parameters,
            body: said.body,
            recipients: Vec::new(),
        });
        answer
    }

    /// Whether every parameter belongs to something that was offered.
    fn understands(&self, said: &MailParameters) -> bool {
        let offers = |keyword| self.hello == Some(true) && self.service.offers(keyword);
        let body = match said.body {
            None => true,
            Some(Body::SevenBit) => offers("8BITMIME") || offers("BINARYMIME"),
            Some(Body::EightBitMime) => offers("8BITMIME"),
            Some(Body::BinaryMime) => offers("BINARYMIME") && offers("CHUNKING"),
        };
        body && (said.size.is_none() || offers("SIZE"))
            && (!said.utf8 || offers("SMTPUTF8"))
            && (said.ret.is_none() && said.envelope_id.is_none() || offers("DSN"))
            && (!said.auth || self.service.accounts.is_some() || offers("AUTH"))
    }

    fn recipient(&mut self, said: &RcptParameters, line: &[u8]) -> Answer {
        let Some(envelope) = &self.envelope else {
            return self.out_of_sequence();
        };
        let has_dsn = said.notify.is_some() || said.original.is_some();
        let (path, parameters) = in_brackets(line);
        let most = self.service.settings.max_recipients;
        let reply = if self.chunks.is_some() {
            return self.out_of_sequence();
        } else if has_dsn && !(self.hello == Some(true) && self.service.offers("DSN")) {
            say(555, (5, 4), "DSN is not offered")
        } else if said.utf8 && !self.service.offers("SMTPUTF8") {
            say(553, (6, 7), "SMTPUTF8 is not offered")
        } else if envelope.recipients.len() >= most {
            say(452, (5, 3), format!("At most {most} recipients"))
        } else {
            say(250, (1, 5), "OK")
        };
        let answer = self.at(&[Stage::Rcpt], &path, reply);
        self.pending = Move::Recipient(Recipient { path, parameters });
        answer
    }

    fn data(&mut self) -> Answer {
        let reply = match &self.envelope {
            None => say(503, (5, 1), "MAIL first"),
            Some(_) if self.chunks.is_some() => return self.out_of_sequence(),
            Some(envelope) if envelope.body == Some(Body::BinaryMime) => {
                say(503, (5, 1), "BINARYMIME needs BDAT")
            }
            // RFC 2033 4.2.
            Some(envelope) if envelope.recipients.is_empty() && self.service.settings.lmtp => {
                say(503, (5, 1), "No valid recipients")
            }
            Some(envelope) if envelope.recipients.is_empty() => say(554, (5, 1), "No valid recipients"),
            Some(_) => Reply::new(354, "Go ahead"),
        };
        self.pending = Move::Content;
        self.at(&[Stage::Data], "", reply)
    }

    /// After the dot: so many octets have come, and this was wrong with them. In LMTP that is said for each recipient.
    pub fn end_of_content(&mut self, size: u64, fault: Option<ContentFault>) -> Vec<Answer> {
        let reply = self.judge(size, fault);
        match &self.envelope {
            Some(envelope) if self.service.settings.lmtp => {
                self.pending = Move::Delivery(0);
                let recipients = envelope.recipients.iter();
                recipients
                    .map(|to| self.at(&[Stage::Dot], &to.path, reply.clone()))
                    .collect()
            }
            _ => {
                self.pending = Move::Message;
                vec![self.at(&[Stage::Dot], "", reply)]
            }
        }
    }

    /// After the octets of a chunk: what has come in all chunks of the message.
    pub fn end_of_chunk(&mut self, checker: &ChunkChecker) -> Answer {
        let (size, fault) = (checker.size(), checker.fault());
        let is_refused = match &self.envelope {
            None => true,
            Some(envelope) => envelope.recipients.is_empty() || self.chunk_refused,
        };
        if is_refused || self.turned_away {
            // Unless a message is under way there is nothing to be settled.
            self.chunk_refused = self.envelope.is_some();
            if self.last_chunk {
                // The last chunk ends the message, whoever refused it.
                self.forget();
            }
            return self.at(
                &[Stage::Bdat],
                "",
                say(503, (5, 1), "No message under way, or it was refused"),
            );
        }
        self.chunks = Some(size);
        if self.last_chunk {
            self.pending = Move::Message;
            let reply = self.judge(size, checker.fault_at_end());
            return self.at(&[Stage::Bdat, Stage::Dot], "", reply);
        }
        self.pending = Move::Chunk;
        let reply = self.judge(size, fault);
        self.at(&[Stage::Bdat], "", reply)
    }

    fn judge(&self, size: u64, fault: Option<ContentFault>) -> Reply {
        match (self.service.settings.size, fault) {
            (Some(most), _) if size > most => replies::too_large(most),
            (_, Some(fault)) => replies::bad_content(fault),
            _ => say(250, (0, 0), format!("OK, {size} octets")),
        }
    }

    /// What follows from the answer that was really given. `code` is its first three digits; `None`: it had none.
    pub fn answered(&mut self, code: Option<u16>) -> Next {
        let class = code.unwrap_or(0) / 100;
        let granted = class == 2;
        match std::mem::replace(&mut self.pending, Move::Nothing) {
            _ if code == Some(421) => return Next::Close,
            Move::Close => return Next::Close,
            Move::Greeting => self.turned_away = class > 3,
            Move::Hello { esmtp } if granted => {
                self.hello = Some(esmtp);
                self.forget();
            }
            Move::StartTls if granted => return Next::Handshake,
            Move::Challenge(exchange) => self.exchange = (class == 3).then_some(exchange),
            Move::Login if granted => self.logged_in = true,
            Move::Mail(envelope) if granted => self.envelope = Some(envelope),
            Move::Recipient(recipient) if granted => {
                if let Some(envelope) = &mut self.envelope {
                    envelope.recipients.push(recipient);
                }
            }
            Move::Content if class == 3 => {
                // Who is told to go ahead has a message under way, whatever was wrong before.
                self.envelope.get_or_insert_default();
                return Next::Content;
            }
            Move::Chunk => self.chunk_refused |= !granted,
            Move::Message => {
                self.messages += u64::from(granted);
                self.forget();
            }
            Move::Delivery(place) => {
                self.taken |= granted;
                if self.is_last(place) {
                    self.messages += u64::from(self.taken);
                    self.forget();
                } else {
                    self.pending = Move::Delivery(place + 1);
                }
            }
            Move::Reset if granted => self.forget(),
            _ => {}
        }
        Next::Line
    }

    /// The client speaks TLS from now on: all that it said before is forgotten (RFC 3207 4.2).
    pub fn tls_started(&mut self, bindings: Bindings) {
        self.encrypted = true;
        self.bindings = if self
            .service
            .settings
            .mechanisms
            .contains(&Mechanism::ScramSha256Plus)
        {
            bindings
        } else {
            // A client that could bind would take it for an attack that nothing is offered to bind to.
            Bindings::default()
        };
        self.hello = None;
        self.forget();
    }

    fn forget(&mut self) {
        self.envelope = None;
        self.taken = false;
        self.chunks = None;
        self.chunk_refused = false;
    }

    fn out_of_sequence(&self) -> Answer {
        self.at(&[], "", say(503, (5, 1), "Bad sequence of commands"))
    }

    fn at(&self, stages: &'static [Stage], about: &str, reply: Reply) -> Answer {
        Answer {
            stages,
            about: about.to_owned(),
            reply,
            enhanced: self.hello == Some(true) && self.service.offers("ENHANCEDSTATUSCODES"),
        }
    }
}

#[cfg(test)]
mod tests;
