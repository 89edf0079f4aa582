//! Every word that a session handler says, in one place.
//!
//! What the seed says it says word for word. Never repeats what a client sent, and never decides anything.
//! Replies carry their enhanced codes here; the session takes them off for clients that said HELO.

use std::fmt::Display;

use crate::inbound::step::StoreRefusal;
use crate::sasl::Mechanism;
use crate::smtp::command::{CommandError, Stage, VERBS, Verb};
use crate::smtp::data::ContentFault;
use crate::smtp::line::LineFault;
use crate::smtp::path::PathError;
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::work_queue::id::MessageId;

/// RFC 3463 3.6: an invalid command, a syntax error, invalid arguments.
const PROTOCOL: EnhancedCode = EnhancedCode(5, 5, 1);
const SYNTAX: EnhancedCode = EnhancedCode(5, 5, 2);
const ARGUMENTS: EnhancedCode = EnhancedCode(5, 5, 4);

/// The first words, before the client has said any.
#[must_use]
pub fn greeting(hostname: &str) -> Reply {
    Reply::new(220, format!("{hostname} ESMTP smtpmta Service Ready"))
}

/// To HELO.
#[must_use]
pub fn helo(hostname: &str) -> Reply {
    Reply::new(250, hostname)
}

/// What EHLO names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers {
    /// SIZE (RFC 1870), octets.
    pub max_message_size: u64,
    /// LIMITS RCPTMAX (RFC 9422).
    pub max_recipients: usize,
    /// STARTTLS.
    pub starttls: bool,
    /// AUTH, unless there are none.
    pub mechanisms: Vec<Mechanism>,
}

/// To EHLO: our name and what we offer.
#[must_use]
#[inline(never)]
pub fn ehlo(hostname: &str, offers: &Offers) -> Reply {
    let mut lines = Vec::with_capacity(13);
    lines.push(hostname.to_owned());
    lines.push("PIPELINING".to_owned());
    lines.push(["SIZE ", &offers.max_message_size.to_string()].concat());
    for keyword in [
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "DSN",
        "ENHANCEDSTATUSCODES",
    ] {
        lines.push(keyword.to_owned());
    }
    lines.push(["LIMITS RCPTMAX=", &offers.max_recipients.to_string()].concat());
    if offers.starttls {
        lines.push("STARTTLS".to_owned());
    }
    if !offers.mechanisms.is_empty() {
        let names: Vec<&str> = offers.mechanisms.iter().map(|m| m.name()).collect();
        lines.push(format!("AUTH {}", names.join(" ")));
    }
    lines.push("HELP".to_owned());
    Reply::multiline(250, None, lines)
}

/// To MAIL.
#[must_use]
pub fn sender_ok() -> Reply {
    Reply::with_status(250, EnhancedCode(2, 1, 0), "OK")
}

/// To RCPT.
#[must_use]
pub fn recipient_ok() -> Reply {
    Reply::with_status(250, EnhancedCode(2, 1, 5), "OK")
}

/// To RSET and NOOP.
#[must_use]
pub fn ok() -> Reply {
    Reply::with_status(250, EnhancedCode(2, 0, 0), "OK")
}

/// To DATA.
#[must_use]
pub fn start_content() -> Reply {
    Reply::new(354, "Enter Mail, end by a line with only '.'")
}

/// After the commit: from here on the message is ours. The ID is for clients that said EHLO.
#[must_use]
pub fn stored(id: Option<MessageId>) -> Reply {
    let text = match id {
        Some(id) => format!("Message received OK. {id}"),
        None => "Message received OK.".to_owned(),
    };
    Reply::with_status(250, EnhancedCode(2, 6, 0), text)
}

/// To QUIT.
#[must_use]
pub fn goodbye() -> Reply {
    Reply::with_status(221, EnhancedCode(2, 0, 0), "Goodbye")
}

/// To VRFY: who is here is nobody's business (RFC 5321 7.3).
#[must_use]
pub fn cannot_verify() -> Reply {
    Reply::with_status(
        252,
        EnhancedCode(2, 0, 0),
        "Cannot VRFY user; send mail to find out",
    )
}

/// To HELP: the verbs that we offer now.
#[must_use]
pub fn help(offers: &Offers) -> Reply {
    let is_offered = |verb: &&Verb| match verb.name {
        "STARTTLS" => offers.starttls,
        "AUTH" => !offers.mechanisms.is_empty(),
        _ => verb.is_offered(),
    };
    let verbs: Vec<&str> = VERBS.iter().filter(is_offered).map(|verb| verb.name).collect();
    let lines = vec!["smtpmta knows these commands:".to_owned(), verbs.join(" ")];
    Reply::multiline(214, Some(EnhancedCode(2, 0, 0)), lines)
}

/// To a chunk that is not the last: so many octets have come.
#[must_use]
pub fn chunk_ok(octets: u64) -> Reply {
    Reply::with_status(
        250,
        EnhancedCode(2, 0, 0),
        format!("OK, {octets} octets received"),
    )
}

/// To STARTTLS: the last reply in clear.
#[must_use]
pub fn start_tls() -> Reply {
    Reply::with_status(220, EnhancedCode(2, 0, 0), "Ready to start TLS")
}

/// To an answer of the client's that needs another one: `text` is in base64.
#[must_use]
pub fn challenge(text: &str) -> Reply {
    Reply::new(334, text)
}

/// To the end of an AUTH that went well.
#[must_use]
pub fn logged_in() -> Reply {
    Reply::with_status(235, EnhancedCode(2, 7, 0), "Authentication successful")
}

/// To a line that is no command, or one of `verb` that is wrong.
#[must_use]
pub fn refuse_command(error: CommandError, verb: Option<&Verb>) -> Reply {
    match error {
        CommandError::Control => Reply::with_status(500, SYNTAX, "Control character in the line"),
        CommandError::Unknown => Reply::with_status(500, SYNTAX, "Unknown command"),
        CommandError::NotOffered => not_implemented(),
        CommandError::NotAscii => Reply::with_status(501, SYNTAX, "Only ASCII is accepted here"),
        CommandError::NotUtf8 => Reply::with_status(501, SYNTAX, "Neither ASCII nor UTF-8"),
        // RFC 6531 3.5.
        CommandError::Sender(PathError::NotAscii) | CommandError::Recipient(PathError::NotAscii) => {
            Reply::with_status(
                553,
                EnhancedCode(5, 6, 7),
                "An address outside ASCII needs SMTPUTF8",
            )
        }
        CommandError::Arguments => match verb {
            Some(verb) => Reply::with_status(501, ARGUMENTS, format!("Syntax: {}", verb.syntax)),
            None => Reply::with_status(501, ARGUMENTS, "Bad arguments"),
        },
        CommandError::Sender(error) => refuse_path(EnhancedCode(5, 1, 7), "Bad sender", error),
        CommandError::Recipient(error) => refuse_path(EnhancedCode(5, 1, 3), "Bad recipient", error),
        CommandError::UnknownParameter => Reply::with_status(555, ARGUMENTS, "Unknown parameter"),
        CommandError::BadParameter => Reply::with_status(501, ARGUMENTS, "Bad value of a parameter"),
    }
}

fn refuse_path(status: EnhancedCode, whose: &str, error: PathError) -> Reply {
    Reply::with_status(501, status, format!("{whose}: {error}"))
}

/// To what is no line.
#[must_use]
pub fn refuse_line(fault: LineFault) -> Reply {
    let text = match fault {
        LineFault::TooLong => "Line too long",
        LineFault::BareCr => "Bare CR in the line; end lines with CRLF",
        LineFault::BareLf => "Bare LF in the line; end lines with CRLF",
    };
    Reply::with_status(500, SYNTAX, text)
}

/// To a verb that is not allowed at this stage.
#[must_use]
pub fn out_of_sequence(verb: &Verb, stage: Stage) -> Reply {
    let text = match stage {
        Stage::Greeted => "Say HELO or EHLO first",
        Stage::Ready => "Give MAIL first",
        Stage::Chunks => "The message has begun; go on with BDAT or say RSET",
        Stage::Mail | Stage::Recipients if verb.name == "MAIL" => "Sender already given",
        Stage::Mail | Stage::Recipients if verb.stages.contains(&Stage::Ready) => {
            "Not while a message is under way"
        }
        Stage::Mail | Stage::Recipients => "No valid recipients",
    };
    Reply::with_status(503, PROTOCOL, text)
}

/// To a recipient that is not ours, from a client that may not relay.
#[must_use]
pub fn relaying_denied() -> Reply {
    Reply::with_status(550, EnhancedCode(5, 7, 1), "relaying denied")
}

/// To a recipient that would be ours, if there were one of that name.
#[must_use]
pub fn no_such_user() -> Reply {
    Reply::with_status(550, EnhancedCode(5, 1, 1), "No such user here")
}

/// To BDAT where no content can come: its octets have been taken in and thrown away.
#[must_use]
pub fn chunk_out_of_sequence(stage: Stage) -> Reply {
    let text = match stage {
        Stage::Greeted => "Say EHLO first",
        Stage::Ready => "Give MAIL first",
        Stage::Mail | Stage::Recipients => "No valid recipients",
        Stage::Chunks => "An earlier chunk of this message was refused",
    };
    Reply::with_status(503, PROTOCOL, text)
}

/// To DATA for a message that was announced as BINARYMIME (RFC 3030 3).
#[must_use]
pub fn binary_by_bdat() -> Reply {
    Reply::with_status(503, PROTOCOL, "BINARYMIME comes by BDAT")
}

/// To DATA that was not the last command of its group (RFC 2920 3.1).
#[must_use]
pub fn out_of_step() -> Reply {
    Reply::with_status(
        554,
        EnhancedCode(5, 5, 0),
        "Wait for 354 before you send content; goodbye",
    )
}

/// To more than a greeting before ours.
#[must_use]
pub fn spoke_too_early() -> Reply {
    Reply::new(554, "Wait for the greeting before you speak; goodbye")
}

/// To what browsers say.
#[must_use]
pub fn not_smtp() -> Reply {
    Reply::with_status(554, EnhancedCode(5, 5, 0), "This is SMTP; goodbye")
}

/// To a command that needs an option which was not given.
#[must_use]
pub fn not_implemented() -> Reply {
    Reply::with_status(502, PROTOCOL, "Command not implemented")
}

/// To STARTTLS in TLS.
#[must_use]
pub fn tls_already() -> Reply {
    Reply::with_status(503, PROTOCOL, "TLS is active already")
}

/// To MAIL in clear, where users send from (RFC 3207 4).
#[must_use]
pub fn tls_first() -> Reply {
    Reply::with_status(530, EnhancedCode(5, 7, 0), "Must issue a STARTTLS command first")
}

/// To MAIL from nobody, where users send from (RFC 4954 6).
#[must_use]
pub fn login_first() -> Reply {
    Reply::with_status(530, EnhancedCode(5, 7, 0), "Authentication required")
}

/// To AUTH in clear (RFC 4954 4).
#[must_use]
pub fn encryption_required() -> Reply {
    Reply::with_status(
        538,
        EnhancedCode(5, 7, 11),
        "Encryption required; give STARTTLS first",
    )
}

/// To AUTH with a mechanism that is not offered.
#[must_use]
pub fn unknown_mechanism() -> Reply {
    Reply::with_status(504, ARGUMENTS, "Authentication mechanism not offered")
}

/// To what should be base64.
#[must_use]
pub fn bad_base64() -> Reply {
    Reply::with_status(501, SYNTAX, "Not base64")
}

/// To base64 that says what the mechanism does not know.
#[must_use]
pub fn bad_response() -> Reply {
    Reply::with_status(501, SYNTAX, "Malformed authentication")
}

/// To a line of an authentication that is none (RFC 4954 4).
#[must_use]
pub fn bad_exchange_line() -> Reply {
    Reply::with_status(
        500,
        EnhancedCode(5, 5, 6),
        "Authentication line too long or malformed",
    )
}

/// To `*`.
#[must_use]
pub fn login_cancelled() -> Reply {
    Reply::with_status(501, EnhancedCode(5, 7, 0), "Authentication cancelled")
}

/// To AUTH from somebody who has logged in.
#[must_use]
pub fn login_already() -> Reply {
    Reply::with_status(503, PROTOCOL, "You are logged in already")
}

/// To a wrong password, and to the right one of nobody.
#[must_use]
pub fn login_failed() -> Reply {
    Reply::with_status(535, EnhancedCode(5, 7, 8), "Authentication credentials invalid")
}

/// To a sender that is not one of the user's own addresses.
#[must_use]
pub fn not_your_address() -> Reply {
    Reply::with_status(
        553,
        EnhancedCode(5, 7, 1),
        "That sender address is not yours to use",
    )
}

/// To content that has passed too many hosts.
#[must_use]
pub fn loops(hops: usize) -> Reply {
    let text = format!("The message has passed {hops} hosts: it loops");
    Reply::with_status(554, EnhancedCode(5, 4, 6), text)
}

/// To one recipient more than `--max-recipients` (RFC 5321 4.5.3.1.10).
#[must_use]
pub fn too_many_recipients() -> Reply {
    Reply::with_status(452, EnhancedCode(4, 5, 3), "Too many recipients")
}

/// To more octets than `--max-message-size`, announced or sent.
#[must_use]
pub fn too_big(max_message_size: u64) -> Reply {
    let text = format!("Message too big, the limit is {max_message_size} octets");
    Reply::with_status(552, EnhancedCode(5, 3, 4), text)
}

/// At the end of content in which another host could see another end.
#[must_use]
pub fn refuse_content(fault: ContentFault) -> Reply {
    let text = match fault {
        ContentFault::BareCr | ContentFault::BareLf => format!("Refused: {fault}; end lines with CRLF"),
        ContentFault::Nul => format!("Refused: {fault}"),
    };
    Reply::with_status(550, EnhancedCode(5, 6, 0), text)
}

/// At the end of content that could not be stored: the message stays the client's.
#[must_use]
pub fn not_stored(refusal: StoreRefusal) -> Reply {
    match refusal {
        StoreRefusal::OutOfSpace => {
            Reply::with_status(452, EnhancedCode(4, 3, 1), "Out of space, try again later")
        }
        StoreRefusal::QueueTrouble => {
            Reply::with_status(451, EnhancedCode(4, 3, 0), "Queue trouble, try again later")
        }
    }
}

/// To silence.
#[must_use]
pub fn timed_out(hostname: &str) -> Reply {
    service_closes(hostname, EnhancedCode(4, 4, 2), "You took too long, goodbye")
}

/// When the MTA stops.
#[must_use]
pub fn stopping(hostname: &str) -> Reply {
    service_closes(hostname, EnhancedCode(4, 3, 2), "Service stops, try again later")
}

/// To a client whose place others need more.
#[must_use]
pub fn evicted(hostname: &str) -> Reply {
    service_closes(
        hostname,
        EnhancedCode(4, 3, 2),
        "Busy, and you say nothing; try again later",
    )
}

/// To one failed login too many.
#[must_use]
pub fn too_many_failed_logins(hostname: &str) -> Reply {
    service_closes(hostname, EnhancedCode(4, 7, 0), "Too many failed logins, goodbye")
}

/// To one bad command too many.
#[must_use]
pub fn too_many_bad_commands(hostname: &str) -> Reply {
    service_closes(hostname, EnhancedCode(4, 7, 0), "Too many bad commands, goodbye")
}

/// In place of the greeting, to a client with `--max-sessions-per-client` sessions already.
#[must_use]
pub fn too_many_sessions(hostname: &str) -> Reply {
    service_closes(
        hostname,
        EnhancedCode(4, 7, 0),
        "Too many sessions from your address",
    )
}

/// In place of the greeting, where the system has run out of something.
#[must_use]
pub fn out_of_resources(hostname: &str) -> Reply {
    service_closes(
        hostname,
        EnhancedCode(4, 3, 2),
        "Out of resources, try again later",
    )
}

/// RFC 5321 4.2.3: a 421 names the host that closes.
fn service_closes(hostname: &str, status: EnhancedCode, why: impl Display) -> Reply {
    Reply::with_status(421, status, format!("{hostname} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers() -> Offers {
        Offers {
            max_message_size: 1000,
            max_recipients: 100,
            starttls: true,
            mechanisms: Vec::new(),
        }
    }

    #[test]
    fn the_seeds_words_are_kept() {
        let said = [
            helo("enaic.lotus.com"),
            Reply {
                enhanced: None,
                ..sender_ok()
            },
            start_content(),
            Reply {
                enhanced: None,
                ..stored(None)
            },
            Reply {
                enhanced: None,
                ..goodbye()
            },
        ];
        let expected = [
            "250 enaic.lotus.com",
            "250 OK",
            "354 Enter Mail, end by a line with only '.'",
            "250 Message received OK.",
            "221 Goodbye",
        ];
        assert_eq!(said.map(|reply| reply.to_string()), expected);
    }

    #[test]
    fn the_class_of_every_enhanced_code_is_that_of_its_reply() {
        let errors = [
            CommandError::Control,
            CommandError::Unknown,
            CommandError::NotOffered,
            CommandError::NotAscii,
            CommandError::Arguments,
            CommandError::Sender(PathError::NoAt),
            CommandError::Recipient(PathError::NoAt),
            CommandError::UnknownParameter,
            CommandError::BadParameter,
        ];
        let mut replies = vec![
            sender_ok(),
            recipient_ok(),
            ok(),
            stored(Some(MessageId(1))),
            goodbye(),
            cannot_verify(),
            help(&offers()),
            relaying_denied(),
            no_such_user(),
            chunk_out_of_sequence(Stage::Mail),
            binary_by_bdat(),
            out_of_step(),
            not_smtp(),
            not_implemented(),
            tls_already(),
            tls_first(),
            login_first(),
            encryption_required(),
            unknown_mechanism(),
            bad_base64(),
            bad_response(),
            bad_exchange_line(),
            login_cancelled(),
            login_already(),
            login_failed(),
            not_your_address(),
            loops(101),
            chunk_ok(1),
            start_tls(),
            logged_in(),
            evicted("h"),
            too_many_failed_logins("h"),
            out_of_resources("h"),
            not_stored(StoreRefusal::QueueTrouble),
            too_many_recipients(),
            too_big(1),
            timed_out("h"),
            stopping("h"),
            too_many_bad_commands("h"),
            too_many_sessions("h"),
            refuse_content(ContentFault::BareCr),
            not_stored(StoreRefusal::OutOfSpace),
            refuse_line(LineFault::TooLong),
            out_of_sequence(&VERBS[2], Stage::Mail),
        ];
        replies.extend(errors.map(|error| refuse_command(error, Some(&VERBS[2]))));
        for reply in replies {
            let status = reply.enhanced.unwrap();
            assert_eq!(u16::from(status.0), reply.code / 100, "{reply}");
        }
    }

    #[test]
    fn help_lists_what_is_offered_and_nothing_else() {
        assert_eq!(
            help(&offers()).lines[1],
            "HELO EHLO STARTTLS MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"
        );
    }
}
