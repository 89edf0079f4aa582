//! Commands: the verbs of RFC 5321 4.1, in one table, and what their arguments must look like.
//!
//! Never obeys a command and never words a refusal: those are `inbound::session` and `inbound::replies`.

use std::net::Ipv6Addr;

use crate::smtp::dsn::{EnvelopeId, Notify, OriginalRecipient, Return, is_xtext};
use crate::smtp::path::{ForwardPath, PathError, ReversePath, address_literal};

/// Longest name that a client may give itself, octets: as long as a domain may be, and a literal's brackets.
const MAX_HOST_NAME: usize = 257;

/// How far a dialogue has come: what a verb may be preceded by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No HELO or EHLO yet.
    Greeted,
    /// HELO or EHLO was said, no transaction is open.
    Ready,
    /// A transaction has its reverse path and no recipient.
    Mail,
    /// A transaction has a recipient or more.
    Recipients,
    /// A part of the content has come, by BDAT.
    Chunks,
}

const ANY: &[Stage] = &[
    Stage::Greeted,
    Stage::Ready,
    Stage::Mail,
    Stage::Recipients,
    Stage::Chunks,
];

/// The verbs that we know, in the order in which a dialogue meets them.
pub static VERBS: [Verb; 14] = [
    Verb::new("HELO", "HELO hostname", ANY, Some(helo)),
    Verb::new("EHLO", "EHLO hostname", ANY, Some(ehlo)),
    Verb::new("STARTTLS", "STARTTLS", &[Stage::Ready], Some(starttls)),
    Verb::new("AUTH", "AUTH mechanism [initial-response]", &[Stage::Ready], Some(auth)),
    Verb::new(
        "MAIL",
        "MAIL FROM:<address> [SIZE=n] [BODY=7BIT|8BITMIME|BINARYMIME] [SMTPUTF8] [RET=FULL|HDRS] [ENVID=text]",
        &[Stage::Ready],
        Some(mail),
    )
    .utf8(),
    Verb::new(
        "RCPT",
        "RCPT TO:<address> [NOTIFY=NEVER|SUCCESS,FAILURE,DELAY] [ORCPT=type;address]",
        &[Stage::Mail, Stage::Recipients],
        Some(rcpt),
    )
    .utf8(),
    Verb::new("DATA", "DATA", &[Stage::Recipients], Some(data)),
    // What it announces has to be taken in wherever the dialogue stands: the session judges the stage.
    Verb::new("BDAT", "BDAT size [LAST]", ANY, Some(bdat)),
    Verb::new("RSET", "RSET", ANY, Some(rset)),
    Verb::new("NOOP", "NOOP [text]", ANY, Some(noop)).utf8(),
    Verb::new("VRFY", "VRFY text", ANY, Some(vrfy)).utf8(),
    Verb::new("HELP", "HELP [text]", ANY, Some(help)),
    Verb::new("QUIT", "QUIT", ANY, Some(quit)),
    Verb::new("EXPN", "EXPN text", ANY, None).utf8(),
];

type ReadArguments = fn(&str) -> Result<Command, CommandError>;

/// A row of the table of verbs.
#[derive(Debug)]
pub struct Verb {
    /// The verb in capitals.
    pub name: &'static str,
    /// How the whole command is written, for whoever got it wrong.
    pub syntax: &'static str,
    /// The stages of a dialogue in which it is allowed.
    pub stages: &'static [Stage],
    /// Reads the arguments; `None` for a verb that is known and not offered.
    parse: Option<ReadArguments>,
    /// Whether the arguments may be UTF-8 outside ASCII (RFC 6531 3).
    utf8: bool,
}

impl Verb {
    const fn new(
        name: &'static str,
        syntax: &'static str,
        stages: &'static [Stage],
        parse: Option<ReadArguments>,
    ) -> Verb {
        Verb {
            name,
            syntax,
            stages,
            parse,
            utf8: false,
        }
    }

    const fn utf8(mut self) -> Verb {
        self.utf8 = true;
        self
    }

    /// Whether we do what it asks for.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.parse.is_some()
    }

    /// Reads the arguments that [`find`] gave.
    ///
    /// # Errors
    /// When the verb is not offered, or the arguments are not what it takes.
    pub fn parse(&self, arguments: &[u8]) -> Result<Command, CommandError> {
        let parse = self.parse.ok_or(CommandError::NotOffered)?;
        match std::str::from_utf8(arguments) {
            Ok(text) if text.is_ascii() || self.utf8 => parse(text),
            Ok(_) => Err(CommandError::NotAscii),
            Err(_) => Err(CommandError::NotUtf8),
        }
    }
}

/// A command, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// HELO, with the name the client gives itself: one word that could be a host's.
    Helo(String),
    /// EHLO, with the name the client gives itself: one word that could be a host's.
    Ehlo(String),
    /// STARTTLS: the client wants to go on in TLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954 4).
    Auth {
        /// The name of a SASL mechanism, as it was given.
        mechanism: String,
        /// The initial response in base64, where there is one; `=` is an empty one.
        initial: Option<String>,
    },
    /// MAIL: opens a transaction.
    Mail {
        /// Whom to tell when delivery fails.
        from: ReversePath,
        /// What the client said about the message.
        parameters: MailParameters,
    },
    /// RCPT: one more recipient.
    Rcpt {
        /// Who it is for.
        to: ForwardPath,
        /// What the client said about the recipient.
        parameters: RcptParameters,
    },
    /// DATA: content follows.
    Data,
    /// BDAT: so many octets of content follow (RFC 3030 2).
    Bdat {
        /// How many; more than we can count is as many as we can.
        size: u64,
        /// Whether they are the last ones.
        last: bool,
    },
    /// RSET: forget the transaction.
    Rset,
    /// NOOP: nothing.
    Noop,
    /// VRFY: is there such a user?
    Vrfy,
    /// HELP: which verbs are there?
    Help,
    /// QUIT: the end.
    Quit,
}

/// What a client may say about a message in MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE: octets of content, as the client reckons (RFC 1870).
    pub size: Option<u64>,
    /// BODY (RFC 6152).
    pub body: Option<Body>,
    /// SMTPUTF8: addresses or header may be UTF-8 outside ASCII (RFC 6531 3.4).
    pub utf8: bool,
    /// RET (RFC 3461 4.3).
    pub ret: Option<Return>,
    /// ENVID (RFC 3461 4.4).
    pub envelope_id: Option<EnvelopeId>,
    /// AUTH: whom the client believes to be the author (RFC 4954 5). Taken, and not believed.
    pub auth: bool,
}

/// What a client may say about a recipient in RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// NOTIFY (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// ORCPT (RFC 3461 4.2).
    pub original: Option<OriginalRecipient>,
    /// The path or ORCPT is outside ASCII, which needs SMTPUTF8.
    pub utf8: bool,
}

/// What octets the content is said to hold (RFC 6152 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// ASCII only.
    SevenBit,
    /// Octets above 127 as well.
    EightBitMime,
    /// Any octets, without lines (RFC 3030 3).
    BinaryMime,
}

/// Why a line is no command. Holds nothing of what the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// A control character in the line.
    Control,
    /// No verb that we know.
    Unknown,
    /// A verb that we know and do not offer.
    NotOffered,
    /// Arguments outside ASCII.
    NotAscii,
    /// Arguments that are not UTF-8.
    NotUtf8,
    /// Arguments missing, too many or malformed: see [`Verb::syntax`].
    Arguments,
    /// A reverse path that is none.
    Sender(PathError),
    /// A forward path that is none.
    Recipient(PathError),
    /// A parameter of MAIL or RCPT that is none of ours.
    UnknownParameter,
    /// A parameter with a value it cannot have, or given twice.
    BadParameter,
}

/// The verb of a line without its CRLF, in any case, and its arguments without the spaces around them.
///
/// # Errors
/// When there is a control character anywhere, or no verb that we know.
pub fn find(line: &[u8]) -> Result<(&'static Verb, &[u8]), CommandError> {
    if line.iter().any(u8::is_ascii_control) {
        return Err(CommandError::Control);
    }
    let (verb, arguments) = split(line).ok_or(CommandError::Unknown)?;
    Ok((verb, without_spaces(arguments)))
}

/// The verb that a line begins with, and what stands behind it; `None` where it begins with none.
#[must_use]
pub fn split(line: &[u8]) -> Option<(&'static Verb, &[u8])> {
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (word, arguments) = line.split_at(end);
    let verb = VERBS
        .iter()
        .find(|verb| verb.name.as_bytes().eq_ignore_ascii_case(word))?;
    Some((verb, arguments))
}

/// A line without its CRLF as the log may tell it. Nothing of an authentication, and nothing that is no command: a password
/// may have got there by mistake.
#[must_use]
pub fn told(line: &[u8], is_secret: bool) -> String {
    match find(line) {
        Ok((verb, _)) if !is_secret && verb.name != "AUTH" => {
            String::from_utf8_lossy(line).escape_debug().to_string()
        }
        Ok((verb, _)) if !is_secret => format!("{} …", verb.name),
        _ => format!("({} octets)", line.len()),
    }
}

/// Reads a line without its CRLF, wherever the dialogue stands.
///
/// # Errors
/// As [`find`] and [`Verb::parse`].
pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
    let (verb, arguments) = find(line)?;
    verb.parse(arguments)
}

/// RFC 5321 4.1.1: trailing spaces are to be tolerated.
fn without_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

fn helo(name: &str) -> Result<Command, CommandError> {
    host_name(name).map(Command::Helo)
}

fn ehlo(name: &str) -> Result<Command, CommandError> {
    host_name(name).map(Command::Ehlo)
}

/// RFC 5321 4.1.3 has a domain or an address literal here. Real clients also say names with underscores, bare
/// addresses and literals without `IPv6:`, which harm nobody.
fn host_name(name: &str) -> Result<String, CommandError> {
    let is_label = |label: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(known)
    };
    let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_good = match inside {
        Some(inside) => address_literal(name).is_some() || inside.parse::<Ipv6Addr>().is_ok(),
        None => name.strip_suffix('.').unwrap_or(name).split('.').all(is_label),
    };
    if name.len() > MAX_HOST_NAME || !is_good {
        return Err(CommandError::Arguments);
    }
    Ok(name.to_owned())
}

fn starttls(arguments: &str) -> Result<Command, CommandError> {
    none(arguments).map(|()| Command::StartTls)
}

fn auth(arguments: &str) -> Result<Command, CommandError> {
    let mut words = arguments.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(CommandError::Arguments)?.to_owned();
    let initial = words.next().map(str::to_owned);
    match words.next() {
        None => Ok(Command::Auth { mechanism, initial }),
        Some(_) => Err(CommandError::Arguments),
    }
}

fn mail(arguments: &str) -> Result<Command, CommandError> {
    let path = after_keyword(arguments, "FROM:")?;
    let (from, rest) = ReversePath::take(path).map_err(CommandError::Sender)?;
    let parameters = mail_parameters(rest)?;
    if !path.is_ascii() && !parameters.utf8 {
        return Err(CommandError::Sender(PathError::NotAscii));
    }
    Ok(Command::Mail { from, parameters })
}

fn rcpt(arguments: &str) -> Result<Command, CommandError> {
    let path = after_keyword(arguments, "TO:")?;
    let (to, rest) = ForwardPath::take(path).map_err(CommandError::Recipient)?;
    let mut said = RcptParameters {
        utf8: !path.is_ascii(),
        ..RcptParameters::default()
    };
    for (keyword, value) in parameters(rest)? {
        match keyword.to_ascii_uppercase().as_str() {
            "NOTIFY" => set_once(&mut said.notify, value.and_then(|v| v.parse().ok()))?,
            "ORCPT" => set_once(&mut said.original, value.and_then(|v| v.parse().ok()))?,
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    Ok(Command::Rcpt { to, parameters: said })
}

fn bdat(arguments: &str) -> Result<Command, CommandError> {
    let mut words = arguments.split(' ').filter(|word| !word.is_empty());
    let size = words.next().and_then(size).ok_or(CommandError::Arguments)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(CommandError::Arguments),
    };
    match words.next() {
        None => Ok(Command::Bdat { size, last }),
        Some(_) => Err(CommandError::Arguments),
    }
}

fn data(arguments: &str) -> Result<Command, CommandError> {
    none(arguments).map(|()| Command::Data)
}

fn rset(arguments: &str) -> Result<Command, CommandError> {
    none(arguments).map(|()| Command::Rset)
}

fn noop(_: &str) -> Result<Command, CommandError> {
    Ok(Command::Noop)
}

fn vrfy(arguments: &str) -> Result<Command, CommandError> {
    some(arguments).map(|_| Command::Vrfy)
}

fn help(_: &str) -> Result<Command, CommandError> {
    Ok(Command::Help)
}

fn quit(arguments: &str) -> Result<Command, CommandError> {
    none(arguments).map(|()| Command::Quit)
}

fn none(arguments: &str) -> Result<(), CommandError> {
    arguments.is_empty().then_some(()).ok_or(CommandError::Arguments)
}

fn some(arguments: &str) -> Result<&str, CommandError> {
    Some(arguments)
        .filter(|text| !text.is_empty())
        .ok_or(CommandError::Arguments)
}

/// What follows `FROM:` or `TO:`. RFC 5321 3.3 allows no space before the path; too many clients send one.
fn after_keyword<'a>(arguments: &'a str, keyword: &str) -> Result<&'a str, CommandError> {
    match arguments.split_at_checked(keyword.len()) {
        Some((word, path)) if word.eq_ignore_ascii_case(keyword) => Ok(path.trim_start_matches(' ')),
        _ => Err(CommandError::Arguments),
    }
}

/// The parameters after a path, each with a space before it: its keyword, and its value if it has one.
fn parameters(rest: &str) -> Result<impl Iterator<Item = (&str, Option<&str>)>, CommandError> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(CommandError::Arguments);
    }
    let parameters = rest.split(' ').filter(|parameter| !parameter.is_empty());
    Ok(parameters.map(|parameter| match parameter.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (parameter, None),
    }))
}

fn mail_parameters(rest: &str) -> Result<MailParameters, CommandError> {
    let mut said = MailParameters::default();
    for (keyword, value) in parameters(rest)? {
        match keyword.to_ascii_uppercase().as_str() {
            "SIZE" => set_once(&mut said.size, value.and_then(size))?,
            "BODY" => set_once(&mut said.body, value.and_then(body))?,
            "RET" => set_once(&mut said.ret, value.and_then(|v| v.parse().ok()))?,
            "ENVID" => set_once(&mut said.envelope_id, value.and_then(|v| v.parse().ok()))?,
            "SMTPUTF8" => switch_once(&mut said.utf8, value.is_none())?,
            "AUTH" => switch_once(
                &mut said.auth,
                value.is_some_and(|v| !v.is_empty() && is_xtext(v)),
            )?,
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    Ok(said)
}

fn switch_once(place: &mut bool, is_good: bool) -> Result<(), CommandError> {
    if *place || !is_good {
        return Err(CommandError::BadParameter);
    }
    *place = true;
    Ok(())
}

fn set_once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), CommandError> {
    if place.is_some() || value.is_none() {
        return Err(CommandError::BadParameter);
    }
    *place = value;
    Ok(())
}

/// RFC 1870 3: up to twenty digits. A number that we cannot hold is too large for us in any case.
fn size(value: &str) -> Option<u64> {
    let is_number = (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| value.parse().unwrap_or(u64::MAX))
}

fn body(value: &str) -> Option<Body> {
    if value.eq_ignore_ascii_case("7BIT") {
        Some(Body::SevenBit)
    } else if value.eq_ignore_ascii_case("8BITMIME") {
        Some(Body::EightBitMime)
    } else if value.eq_ignore_ascii_case("BINARYMIME") {
        Some(Body::BinaryMime)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
