//! Every word that a session handler says, in one place.
//!
//! What the seed says it says word for word. Never repeats what a client sent, and never decides anything.
//! Replies carry their enhanced codes here; the session takes them off for clients that said HELO.

use std::fmt::Display;

use crate::inbound::step::StoreRefusal;
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

/// To EHLO: our name and what we offer. `max_message_size` in octets.
#[must_use]
pub fn ehlo(hostname: &str, max_message_size: u64) -> Reply {
    let lines = vec![
        hostname.to_owned(),
        "PIPELINING".to_owned(),
        format!("SIZE {max_message_size}"),
        "8BITMIME".to_owned(),
        "ENHANCEDSTATUSCODES".to_owned(),
        "HELP".to_owned(),
    ];
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

/// To HELP: the verbs that we offer.
#[must_use]
pub fn help() -> Reply {
    let verbs: Vec<&str> = VERBS
        .iter()
        .filter(|verb| verb.is_offered())
        .map(|verb| verb.name)
        .collect();
    let lines = vec!["smtpmta knows these commands:".to_owned(), verbs.join(" ")];
    Reply::multiline(214, Some(EnhancedCode(2, 0, 0)), lines)
}

/// To a line that is no command, or one of `verb` that is wrong.
#[must_use]
pub fn refuse_command(error: CommandError, verb: Option<&Verb>) -> Reply {
    match error {
        CommandError::Control => Reply::with_status(500, SYNTAX, "Control character in the line"),
        CommandError::Unknown => Reply::with_status(500, SYNTAX, "Unknown command"),
        CommandError::NotOffered => Reply::with_status(502, PROTOCOL, "Command not implemented"),
        CommandError::NotAscii => {
            Reply::with_status(501, EnhancedCode(5, 6, 7), "Only ASCII is accepted here")
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
        Stage::Mail | Stage::Recipients if verb.stages.contains(&Stage::Ready) => "Sender already given",
        Stage::Mail | Stage::Recipients => "No valid recipients",
    };
    Reply::with_status(503, PROTOCOL, text)
}

/// To a recipient that is not ours, from a client that may not relay.
#[must_use]
pub fn relaying_denied() -> Reply {
    Reply::with_status(550, EnhancedCode(5, 7, 1), "relaying denied")
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
    Reply::with_status(
        550,
        EnhancedCode(5, 6, 0),
        format!("Refused: {fault}; end lines with CRLF"),
    )
}

/// At the end of content that could not be stored: the message stays the client's.
#[must_use]
pub fn not_stored(refusal: StoreRefusal) -> Reply {
    let text = match refusal {
        StoreRefusal::OutOfSpace => "Out of space, try again later",
        StoreRefusal::QueueTrouble => "Queue trouble, try again later",
    };
    Reply::with_status(452, EnhancedCode(4, 3, 1), text)
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

/// RFC 5321 4.2.3: a 421 names the host that closes.
fn service_closes(hostname: &str, status: EnhancedCode, why: impl Display) -> Reply {
    Reply::with_status(421, status, format!("{hostname} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            help(),
            relaying_denied(),
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
            help().lines[1],
            "HELO EHLO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT"
        );
    }
}
