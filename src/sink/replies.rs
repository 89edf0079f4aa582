//! Every word that a sink says while it behaves.
//!
//! Never decides anything. Replies carry their enhanced codes here; the session takes them off where
//! ENHANCEDSTATUSCODES is not offered.

use super::service::Service;
use super::settings::Settings;
use crate::sasl::Bindings;
use crate::smtp::command::{CommandError, VERBS, Verb};
use crate::smtp::data::ContentFault;
use crate::smtp::line::LineFault;
use crate::smtp::reply::{EnhancedCode, Reply};

/// A reply of one line.
pub(super) fn say(code: u16, (subject, detail): (u16, u16), text: impl Into<String>) -> Reply {
    let class = u8::try_from(code / 100).unwrap_or(5);
    Reply::with_status(code, EnhancedCode(class, subject, detail), text)
}

pub(super) fn greeting(settings: &Settings) -> Reply {
    let protocol = if settings.lmtp { "LMTP" } else { "ESMTP" };
    Reply::new(220, format!("{} {protocol} smtpmta sink", settings.hostname))
}

/// To EHLO: what is offered, in the order of the settings.
pub(super) fn ehlo(service: &Service, encrypted: bool, bindings: &Bindings) -> Reply {
    let settings = &service.settings;
    let mut lines = vec![settings.hostname.clone()];
    for offer in &settings.offers {
        match settings.size {
            Some(size) if offer.eq_ignore_ascii_case("SIZE") => lines.push(format!("{offer} {size}")),
            _ => lines.push(offer.clone()),
        }
    }
    if settings.tls == super::settings::Tls::Offered && !encrypted {
        lines.push("STARTTLS".to_owned());
    }
    let mechanisms: Vec<&str> = service.mechanisms(bindings).iter().map(|m| m.name()).collect();
    if !mechanisms.is_empty() {
        lines.push(format!("AUTH {}", mechanisms.join(" ")));
    }
    Reply::multiline(250, None, lines)
}

pub(super) fn help() -> Reply {
    let verbs: Vec<&str> = VERBS
        .iter()
        .filter(|verb| verb.is_offered())
        .map(|verb| verb.name)
        .collect();
    say(214, (0, 0), verbs.join(" "))
}

/// To a line that is no command.
pub(super) fn no_line(fault: LineFault) -> Reply {
    say(
        500,
        (5, 2),
        match fault {
            LineFault::TooLong => "Line too long",
            LineFault::BareCr => "Bare CR in the line",
            LineFault::BareLf => "Bare LF in the line",
        },
    )
}

/// To a command that was not understood.
pub(super) fn not_understood(verb: Option<&Verb>, error: CommandError) -> Reply {
    match (error, verb) {
        (CommandError::Unknown | CommandError::Control, _) => say(500, (5, 1), "Unknown command"),
        (CommandError::NotOffered, _) => say(502, (5, 1), "Not offered"),
        (CommandError::UnknownParameter, _) => say(555, (5, 4), "Unknown parameter"),
        (CommandError::Sender(why), _) => say(501, (1, 7), format!("Bad sender: {why}")),
        (CommandError::Recipient(why), _) => say(501, (1, 3), format!("Bad recipient: {why}")),
        (_, Some(verb)) => say(501, (5, 4), format!("Syntax: {}", verb.syntax)),
        (_, None) => say(501, (5, 4), "Syntax error"),
    }
}

/// To content that nobody may pass on.
pub(super) fn bad_content(fault: ContentFault) -> Reply {
    say(550, (6, 0), format!("Refused: {fault}"))
}

pub(super) fn too_large(size: u64) -> Reply {
    say(552, (3, 4), format!("Messages are at most {size} octets long"))
}
