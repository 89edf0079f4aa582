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
    parse: Option<fn(&str) -> Result<Command, CommandError>>,
}

impl Verb {
    const fn new(
        name: &'static str,
        syntax: &'static str,
        stages: &'static [Stage],
        parse: Option<fn(&str) -> Result<Command, CommandError>>,
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mail_from(line: &str) -> Result<(String, MailParameters), CommandError> {
        match parse(line.as_bytes())? {
            Command::Mail { from, parameters } => Ok((from.to_string(), parameters)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn verbs_are_known_in_any_case_and_spaces_around_arguments_are_tolerated() {
        assert_eq!(
            parse(b"HELO univac.com"),
            Ok(Command::Helo("univac.com".to_owned()))
        );
        assert_eq!(
            parse(b"ehlo  [192.0.2.1] "),
            Ok(Command::Ehlo("[192.0.2.1]".to_owned()))
        );
        assert_eq!(parse(b"DaTa  "), Ok(Command::Data));
        assert_eq!(parse(b"NOOP anything at all"), Ok(Command::Noop));
        assert_eq!(parse(b"HELP MAIL"), Ok(Command::Help));
        assert_eq!(parse(b"vrfy postmaster"), Ok(Command::Vrfy));
    }

    #[test]
    fn arguments_are_refused_where_there_must_be_none_and_asked_for_where_there_must_be_some() {
        for line in [
            "DATA now",
            "RSET all",
            "QUIT please",
            "HELO",
            "EHLO  ",
            "VRFY",
            "MAIL",
            "RCPT",
            "MAIL TO:<a@b>",
            "RCPT FROM:<a@b>",
            "MAIL FROM <a@b>",
            "MAIL FROM :<a@b>",
            "MAIL FROM:<a@b>SIZE=1",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(CommandError::Arguments), "{line}");
        }
    }

    #[test]
    fn what_is_no_verb_is_unknown_and_what_is_not_offered_is_said_to_be_so() {
        for line in [
            "",
            " ",
            " NOOP",
            "FOO",
            "HELOX a",
            "MAIL:FROM",
            "DATA.",
            "h\u{e9}lo",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(CommandError::Unknown), "{line:?}");
        }
        for line in ["EXPN list", "STARTTLS", "auth plain", "BDAT 10 LAST"] {
            assert_eq!(parse(line.as_bytes()), Err(CommandError::NotOffered), "{line}");
        }
    }

    #[test]
    fn control_characters_and_octets_above_127_are_refused() {
        for line in [
            &b"NOOP a\0"[..],
            b"NOOP\t",
            b"HELO a\x7f",
            b"MAIL FROM:<a\rb@c>",
            b"\x1b",
        ] {
            assert_eq!(parse(line), Err(CommandError::Control), "{line:?}");
        }
        for line in [&b"HELO \xff"[..], "MAIL FROM:<j\u{f6}rg@a>".as_bytes()] {
            assert_eq!(parse(line), Err(CommandError::NotAscii), "{line:?}");
        }
    }

    #[test]
    fn mail_gives_its_path_and_what_was_said_about_the_message() {
        assert_eq!(
            mail_from("MAIL FROM:<>"),
            Ok((String::new(), MailParameters::default()))
        );
        assert_eq!(mail_from("mail from:   <a@B>").unwrap().0, "a@b");
        let (path, said) = mail_from("MAIL FROM:<a@b>  size=1000 Body=8bitmime ").unwrap();
        assert_eq!(path, "a@b");
        assert_eq!((said.size, said.body), (Some(1000), Some(Body::EightBitMime)));
        let huge = mail_from("MAIL FROM:<a@b> SIZE=99999999999999999999 BODY=7BIT")
            .unwrap()
            .1;
        assert_eq!((huge.size, huge.body), (Some(u64::MAX), Some(Body::SevenBit)));
    }

    #[test]
    fn parameters_that_are_unknown_doubled_or_impossible_are_refused() {
        for parameter in ["FOO", "AUTH=<>", "RET=HDRS", "SMTPUTF8", "=", "SIZES=1"] {
            let line = format!("MAIL FROM:<a@b> {parameter}");
            assert_eq!(mail_from(&line), Err(CommandError::UnknownParameter), "{line}");
        }
        for parameter in [
            "SIZE",
            "SIZE=",
            "SIZE=-1",
            "SIZE=+1",
            "SIZE=999999999999999999999",
            "SIZE=1 SIZE=1",
            "BODY",
            "BODY=BINARYMIME",
            "BODY=7BIT BODY=7BIT",
        ] {
            let line = format!("MAIL FROM:<a@b> {parameter}");
            assert_eq!(mail_from(&line), Err(CommandError::BadParameter), "{line}");
        }
        let line = b"RCPT TO:<a@b> NOTIFY=NEVER";
        assert_eq!(parse(line), Err(CommandError::UnknownParameter));
    }

    #[test]
    fn broken_paths_say_whose_they_are() {
        assert_eq!(
            parse(b"MAIL FROM:a@b"),
            Err(CommandError::Sender(PathError::NoBrackets))
        );
        assert_eq!(
            parse(b"RCPT TO:<>"),
            Err(CommandError::Recipient(PathError::NoAt))
        );
        assert_eq!(
            parse(b"RCPT TO:<postmaster>"),
            Ok(Command::Rcpt {
                to: ForwardPath::Postmaster
            })
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(
            verb in "(MAIL FROM:|RCPT TO:|HELO|)",
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = parse(&[verb.as_bytes(), &rest].concat());
        }
    }
}
