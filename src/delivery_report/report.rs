//! The text of a delivery report: a bounce, a delay notice, or the confirmation that a sender asked for (RFC
//! 3461 6, RFC 3462, RFC 3464, RFC 6533).
//!
//! Plain words for people, fields for programs, and the original's header or all of it. Never decides whether
//! a report is due: whoever writes one for the null sender has made a mistake before coming here.

use memchr::{memchr2, memmem};

use crate::smtp::dsn::to_utf8_xtext;
use crate::smtp::path::Mailbox;
use crate::work_queue::id::MessageId;
use crate::work_queue::outcome::{Reason, Success};

/// How many recipients are spelled out in one report.
const MOST_RECIPIENTS: usize = 100;
/// The longest header of an original that goes along, in octets.
const LONGEST_HEADER: usize = 64 * 1024;
/// The longest line, without its end (RFC 5322 2.1.1).
const LONGEST_LINE: usize = 998;
/// Where lines are folded.
const WIDTH: usize = 76;
/// The longest diagnostic, in characters.
const LONGEST_DIAGNOSTIC: usize = 2000;

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Delivery has failed for good.
    Bounce,
    /// Delivery is late.
    Delay {
        /// The date until which it is tried, or kept if it is held, as RFC 5322 3.3 writes it.
        retry_until: &'a str,
    },
    /// All went well, and the sender had asked to hear of it.
    Success,
}

/// A recipient that a report is about.
#[derive(Clone, Copy, Debug)]
pub struct ReportedRecipient<'a> {
    /// The address that was tried.
    pub address: &'a Mailbox,
    /// The alias that the client named, where this address came of it.
    pub expanded_from: Option<&'a Mailbox>,
    /// The recipient as the sender first wrote it: `type;address`, decoded (ORCPT, RFC 3461 4.2).
    pub original_recipient: Option<&'a str>,
    /// The good end that it came to; `None` if it was not reached.
    pub success: Option<Success>,
    /// Why it was not reached. Of a good end: its status, and the reply of the host that took it.
    pub reason: &'a Reason,
    /// The name of the host that said so, where one did.
    pub remote_mta: Option<&'a str>,
    /// The date of the last attempt, as RFC 5322 3.3 writes it.
    pub last_attempt: Option<&'a str>,
    /// Put aside for an operator: it is late, and not tried by itself.
    pub is_held: bool,
}

/// How much of the message goes along.
#[derive(Clone, Copy, Debug)]
pub enum Original<'a> {
    /// Its header: what is given is cut at the first empty line.
    Headers(&'a [u8]),
    /// All of it.
    Message(&'a [u8]),
}

/// Everything that a report says.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Bounce or delay notice.
    pub kind: Kind<'a>,
    /// The ID of the report itself.
    pub id: MessageId,
    /// The ID of the message that it is about.
    pub about: MessageId,
    /// Our name.
    pub hostname: &'a str,
    /// The present date, as RFC 5322 3.3 writes it.
    pub date: &'a str,
    /// When the message arrived, likewise.
    pub arrival: &'a str,
    /// The envelope's sender, who gets the report.
    pub sender: &'a Mailbox,
    /// The sender's own ID of the envelope, decoded (ENVID, RFC 3461 4.4).
    pub envelope_id: Option<&'a str>,
    /// Whom it is about. The first 100 are spelled out.
    pub recipients: &'a [ReportedRecipient<'a>],
    /// Whether the message came with SMTPUTF8.
    pub utf8: bool,
    /// What goes along of the message.
    pub original: Original<'a>,
}

/// A report that is ready for SMTP.BOX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Header and body, with CRLF. Lines hold at most 998 octets, save for those of an original that goes
    /// along in full.
    pub octets: Vec<u8>,
    /// Whether the original brought octets above 127 along, so that the next hop needs 8BITMIME.
    pub eight_bit: bool,
}

impl Report<'_> {
    /// Writes the report.
    #[must_use]
    pub fn content(&self) -> Content {
        let original = self.original();
        let eight_bit = !original.is_ascii();
        let boundary = self.boundary(&original);
        let encoding = if eight_bit {
            "Content-Transfer-Encoding: 8bit\r\n"
        } else {
            ""
        };
        // RFC 6533 5: a header in UTF-8 has types of its own.
        let about_original = match (self.original, self.utf8 && eight_bit) {
            (Original::Headers(_), false) => {
                "Content-Description: Header of the message\r\nContent-Type: text/rfc822-headers"
            }
            (Original::Headers(_), true) => {
                "Content-Description: Header of the message\r\nContent-Type: message/global-headers"
            }
            (Original::Message(_), false) => {
                "Content-Description: The message\r\nContent-Type: message/rfc822"
            }
            (Original::Message(_), true) => {
                "Content-Description: The message\r\nContent-Type: message/global"
            }
        };
        let mut text = self.header();
        text += &format!(
            "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n\
             {encoding}\r\n\
             This is a delivery report in MIME format (RFC 3464).\r\n\r\n\
             --{boundary}\r\n\
             Content-Description: Explanation\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\r\n"
        );
        text += &self.explanation();
        text += &format!(
            "\r\n--{boundary}\r\n\
             Content-Description: Delivery status\r\n\
             Content-Type: message/delivery-status\r\n\r\n"
        );
        text += &self.status();
        text += &format!("\r\n--{boundary}\r\n{about_original}\r\n{encoding}\r\n");
        let mut octets = text.into_bytes();
        octets.extend_from_slice(&original);
        octets.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        Content { octets, eight_bit }
    }

    fn spelled_out(&self) -> &[ReportedRecipient<'_>] {
        &self.recipients[..self.recipients.len().min(MOST_RECIPIENTS)]
    }

    fn header(&self) -> String {
        let Report {
            id,
            hostname,
            date,
            sender,
            ..
        } = self;
        let title = match self.kind {
            Kind::Bounce => "DELIVERY FAILURE",
            Kind::Delay { .. } => "DELIVERY DELAYED",
            Kind::Success => "DELIVERY CONFIRMATION",
        };
        let mut header = format!(
            "Date: {date}\r\nFrom: Mail Delivery Subsystem <MAILER-DAEMON@{hostname}>\r\nTo: {sender}\r\n"
        );
        fold(
            &mut header,
            "",
            &format!("Subject: {title}: {}", self.in_short()),
            " ",
        );
        header += &format!(
            "Message-ID: <{id}@{hostname}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        );
        header
    }

    /// The reason, if all recipients have the same one; else how many there are.
    fn in_short(&self) -> String {
        const LONGEST: usize = 100;
        let is_success = self.kind == Kind::Success;
        let concerned = || {
            let wanted = |r: &&ReportedRecipient<'_>| r.success.is_some() == is_success;
            self.recipients.iter().filter(wanted)
        };
        let mut reasons = concerned().map(ReportedRecipient::words);
        match reasons.next() {
            Some(first) if reasons.all(|other| other == first) => {
                let text = ascii(first);
                match text.get(LONGEST..) {
                    Some(rest) if !rest.is_empty() => format!("{}...", text[..LONGEST].trim_end()),
                    _ => text,
                }
            }
            _ if is_success => format!("{} recipients were reached", concerned().count()),
            _ => format!("{} recipients were not reached", concerned().count()),
        }
    }

    /// What people read.
    fn explanation(&self) -> String {
        const INDENT: &str = "      ";
        let Report {
            about,
            hostname,
            arrival,
            ..
        } = self;
        let whom = match self.recipients.len() {
            1 => "the recipient below".to_owned(),
            many => format!("the {many} recipients below"),
        };
        let mut text = format!("This is the mail system at {hostname}.\r\n\r\n");
        let (what, attached) = (
            match self.kind {
                Kind::Bounce if self.recipients.iter().any(|r| r.success.is_some()) => {
                    format!("Your message could not be delivered to all of {whom}. It is not tried again.")
                }
                Kind::Bounce => {
                    format!("Your message could not be delivered to {whom}. It is not tried again.")
                }
                Kind::Delay { retry_until } if self.recipients.iter().all(|r| r.is_held) => format!(
                    "Your message has not reached {whom} yet. You need not send it again: it has been put aside \
                     here for an operator to look at, and is kept until {retry_until}."
                ),
                Kind::Delay { retry_until } => format!(
                    "Your message has not reached {whom} yet. You need not send it again: \
                     it is tried until {retry_until}."
                ),
                Kind::Success => format!("As you asked, you are told what became of your message to {whom}."),
            },
            match self.original {
                Original::Headers(_) => "the header of your message",
                Original::Message(_) => "your message",
            },
        );
        fold(&mut text, "", &what, "");
        for recipient in self.spelled_out() {
            text += "\r\n";
            fold(
                &mut text,
                "  ",
                &format!("<{}>", address(recipient.address).1),
                "  ",
            );
            if let Some(other) = recipient.addressed_as() {
                fold(
                    &mut text,
                    INDENT,
                    &format!("which you addressed as {other}"),
                    INDENT,
                );
            }
            if let Some(host) = recipient.remote_mta {
                fold(&mut text, INDENT, &format!("at {host}:"), INDENT);
            }
            fold(&mut text, INDENT, recipient.words(), INDENT);
        }
        let more = self.recipients.len() - self.spelled_out().len();
        if more > 0 {
            text += &format!("\r\nand {more} more recipients.\r\n");
        }
        text += &format!("\r\nMessage ID: {about}\r\nArrived:    {arrival}\r\n\r\n");
        let help = format!(
            "The operator of {hostname} finds everything that happened to the message under this ID. What \
             follows is for programs, and then comes {attached}."
        );
        fold(&mut text, "", &help, "");
        text
    }

    /// What programs read (RFC 3464 2).
    fn status(&self) -> String {
        let mut fields = String::new();
        let field = |fields: &mut String, text: &str| fold(fields, "", text, " ");
        // Not folded: its blanks count, and it is short.
        if let Some(envelope_id) = self.envelope_id {
            fields += &format!("Original-Envelope-Id: {}\r\n", ascii(envelope_id));
        }
        field(&mut fields, &format!("Reporting-MTA: dns; {}", self.hostname));
        field(&mut fields, &format!("Arrival-Date: {}", self.arrival));
        field(&mut fields, &format!("X-Smtpmta-Queue-ID: {}", self.about));
        for recipient in self.spelled_out() {
            fields += "\r\n";
            // Not folded: a quoted local part may hold spaces, and each of them counts.
            if let Some((kind, original)) = recipient.original_recipient.and_then(|o| o.split_once(';')) {
                fields += &format!("Original-Recipient: {}; {}\r\n", ascii(kind), ascii(original));
            }
            let (kind, address) = address(recipient.address);
            fields += &format!("Final-Recipient: {kind}; {address}\r\n");
            let action = match (recipient.success, self.kind) {
                (Some(Success::Delivered), _) => "delivered",
                (Some(Success::Relayed), _) => "relayed",
                (Some(Success::Expanded), _) => "expanded",
                (None, Kind::Delay { .. }) => "delayed",
                (None, _) => "failed",
            };
            field(&mut fields, &format!("Action: {action}"));
            let status = recipient.reason.status;
            // RFC 3463 2: nothing is final as long as it is only late.
            let class = if action == "delayed" { 4 } else { status.0 };
            field(&mut fields, &format!("Status: {class}.{}.{}", status.1, status.2));
            if let Some(host) = recipient.remote_mta {
                field(&mut fields, &format!("Remote-MTA: dns; {host}"));
            }
            if recipient.success.is_none() || recipient.reason.reply.is_some() {
                field(
                    &mut fields,
                    &format!("Diagnostic-Code: {}", diagnostic(recipient.reason)),
                );
            }
            if let Some(date) = recipient.last_attempt {
                field(&mut fields, &format!("Last-Attempt-Date: {date}"));
            }
            if let Kind::Delay { retry_until } = self.kind
                && !recipient.is_held
            {
                field(&mut fields, &format!("Will-Retry-Until: {retry_until}"));
            }
        }
        fields
    }

    /// The octets of the original that go along, with CRLF at the end of each line.
    fn original(&self) -> Vec<u8> {
        let (mut rest, longest_line) = match self.original {
            Original::Headers(content) => (&content[..content.len().min(LONGEST_HEADER)], LONGEST_LINE),
            Original::Message(content) => (content, usize::MAX),
        };
        let mut out = Vec::with_capacity(rest.len() + 2);
        while !rest.is_empty() {
            let end = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            if end == 0 && matches!(self.original, Original::Headers(_)) {
                break;
            }
            out.extend_from_slice(&rest[..end.min(longest_line)]);
            out.extend_from_slice(b"\r\n");
            let line_end = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
            rest = rest.get(end + line_end..).unwrap_or_default();
        }
        out
    }

    /// A boundary that does not occur in the original (RFC 2046 5.1.1).
    fn boundary(&self, original: &[u8]) -> String {
        let mut number = 0;
        loop {
            let boundary = format!("=_{}_{number}", self.id);
            if memmem::find(original, boundary.as_bytes()).is_none() {
                return boundary;
            }
            number += 1;
        }
    }
}

impl ReportedRecipient<'_> {
    /// The address that the sender knows, where it is another one.
    fn addressed_as(&self) -> Option<String> {
        let original = self
            .original_recipient
            .and_then(|original| original.split_once(';'));
        let known = match (original, self.expanded_from) {
            (Some((_, address)), _) => address.to_owned(),
            (None, Some(alias)) => address(alias).1,
            (None, None) => return None,
        };
        (known != address(self.address).1).then_some(known)
    }

    /// What became of it, in one line for people.
    fn words(&self) -> &str {
        match self.success {
            None => &self.reason.text,
            Some(Success::Delivered) => "It is in the mailbox.",
            Some(Success::Relayed) => "The next host took it. It sends no confirmations of its own.",
            Some(Success::Expanded) => "It stands for several recipients, and goes on to all of them.",
        }
    }
}

/// An address as reports write it, with its type: what is not ASCII in the form of RFC 6533 3.
fn address(mailbox: &Mailbox) -> (&'static str, String) {
    let address = mailbox.to_string();
    if address.is_ascii() {
        ("rfc822", address)
    } else {
        ("utf-8", to_utf8_xtext(&address))
    }
}

/// `smtp; 550 5.1.1 No such user` where a host replied; else our own words under a type of our own
/// (RFC 3464 2.1.2: `x-`).
fn diagnostic(reason: &Reason) -> String {
    let mut text = match &reason.reply {
        None => format!("X-Smtpmta; {}", reason.text),
        Some(reply) => {
            let enhanced = reply
                .enhanced
                .map(|code| format!(" {}.{}.{}", code.0, code.1, code.2));
            let words = reply.lines.join(" ");
            format!("smtp; {}{} {words}", reply.code, enhanced.unwrap_or_default())
        }
    };
    if let Some((end, _)) = text.char_indices().nth(LONGEST_DIAGNOSTIC) {
        text.truncate(end);
    }
    text
}

/// `text` with a space for each control and a question mark for what is not ASCII: what strangers said stays
/// on its line and keeps the report 7-bit.
fn ascii(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' '..='~' => c,
            _ if c.is_control() => ' ',
            _ => '?',
        })
        .collect()
}

/// Appends `text`, made [`ascii`], as lines that end with CRLF: the first begins with `first`, the others
/// with `next`. Breaks at spaces, and makes many of them one; a word longer than a line may be is cut.
fn fold(out: &mut String, first: &str, text: &str, next: &str) {
    let text = ascii(text);
    let mut line = first.to_owned();
    let mut empty = true;
    for mut word in text.split(' ').filter(|word| !word.is_empty()) {
        if !empty && line.len() + 1 + word.len() > WIDTH {
            *out += line.trim_end();
            *out += "\r\n";
            line = next.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        while line.len() + word.len() > LONGEST_LINE {
            let (start, rest) = word.split_at(LONGEST_LINE - line.len());
            *out += &line;
            *out += start;
            *out += "\r\n";
            line = next.to_owned();
            word = rest;
        }
        line.push_str(word);
        empty = false;
    }
    *out += line.trim_end();
    *out += "\r\n";
}

#[cfg(test)]
mod tests;
