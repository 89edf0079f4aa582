//! Commands: the verbs of RFC 5321 4.1, in one table, and what their arguments must look like.
//!
//! Never obeys a command and never words a refusal: those are `inbound::session` and `inbound::replies`.

use crate::smtp::path::{ForwardPath, PathError, ReversePath};

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
}

const ANY: &[Stage] = &[Stage::Greeted, Stage::Ready, Stage::Mail, Stage::Recipients];

/// The verbs that we know, in the order in which a dialogue meets them.
pub static VERBS: [Verb; 14] = [
    Verb::new("HELO", "HELO hostname", ANY, Some(helo)),
    Verb::new("EHLO", "EHLO hostname", ANY, Some(ehlo)),
    Verb::new(
        "MAIL",
        "MAIL FROM:<address> [SIZE=n] [BODY=7BIT|8BITMIME]",
        &[Stage::Ready],
        Some(mail),
    ),
    Verb::new(
        "RCPT",
        "RCPT TO:<address>",
        &[Stage::Mail, Stage::Recipients],
        Some(rcpt),
    ),
    Verb::new("DATA", "DATA", &[Stage::Recipients], Some(data)),
    Verb::new("RSET", "RSET", ANY, Some(rset)),
    Verb::new("NOOP", "NOOP [text]", ANY, Some(noop)),
    Verb::new("VRFY", "VRFY text", ANY, Some(vrfy)),
    Verb::new("HELP", "HELP [text]", ANY, Some(help)),
    Verb::new("QUIT", "QUIT", ANY, Some(quit)),
    Verb::new("EXPN", "EXPN text", ANY, None),
    Verb::new("STARTTLS", "STARTTLS", ANY, None),
    Verb::new("AUTH", "AUTH mechanism", ANY, None),
    Verb::new("BDAT", "BDAT size [LAST]", ANY, None),
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
        }
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
            Ok(text) if text.is_ascii() => parse(text),
            _ => Err(CommandError::NotAscii),
        }
    }
}

/// A command, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// HELO, with the name the client gives itself: printable, unchecked, never empty.
    Helo(String),
    /// EHLO, with the name the client gives itself: printable, unchecked, never empty.
    Ehlo(String),
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
    },
    /// DATA: content follows.
    Data,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE: octets of content, as the client reckons (RFC 1870).
    pub size: Option<u64>,
    /// BODY (RFC 6152).
    pub body: Option<Body>,
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
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (word, arguments) = line.split_at(end);
    VERBS
        .iter()
        .find(|verb| verb.name.as_bytes().eq_ignore_ascii_case(word))
        .map(|verb| (verb, without_spaces(arguments)))
        .ok_or(CommandError::Unknown)
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
    some(name).map(|name| Command::Helo(name.to_owned()))
}

fn ehlo(name: &str) -> Result<Command, CommandError> {
    some(name).map(|name| Command::Ehlo(name.to_owned()))
}

fn mail(arguments: &str) -> Result<Command, CommandError> {
    let path = after_keyword(arguments, "FROM:")?;
    let (from, rest) = ReversePath::take(path).map_err(CommandError::Sender)?;
    let parameters = mail_parameters(rest)?;
    Ok(Command::Mail { from, parameters })
}

fn rcpt(arguments: &str) -> Result<Command, CommandError> {
    let path = after_keyword(arguments, "TO:")?;
    let (to, rest) = ForwardPath::take(path).map_err(CommandError::Recipient)?;
    match parameters(rest)?.next() {
        None => Ok(Command::Rcpt { to }),
        Some(_) => Err(CommandError::UnknownParameter),
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

/// The parameters after a path, each with a space before it.
fn parameters(rest: &str) -> Result<impl Iterator<Item = &str>, CommandError> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(CommandError::Arguments);
    }
    Ok(rest.split(' ').filter(|parameter| !parameter.is_empty()))
}

fn mail_parameters(rest: &str) -> Result<MailParameters, CommandError> {
    let mut said = MailParameters::default();
    for parameter in parameters(rest)? {
        let (keyword, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if keyword.eq_ignore_ascii_case("SIZE") {
            set_once(&mut said.size, size(value))?;
        } else if keyword.eq_ignore_ascii_case("BODY") {
            set_once(&mut said.body, body(value))?;
        } else {
            return Err(CommandError::UnknownParameter);
        }
    }
    Ok(said)
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
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
