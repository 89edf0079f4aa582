//! What becomes of a message that was taken for good when it was left, and is more than the MTA lets in: its sender is
//! told. That happens where sendmail(1) goes by another configuration, or by that of before.
//!
//! The report stands in the place of the message, and has its ID. Never decides what is too much.

use super::slip::{Excess, Slip};
use crate::conversion::to_internet::{Completer, Facts};
use crate::delivery_report::report::{Kind, Original, Report, ReportedRecipient};
use crate::smtp::dsn::EnvelopeId;
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::EnhancedCode;
use crate::work_queue::id::MessageId;
use crate::work_queue::outcome::Reason;
use crate::work_queue::{Arrival, Content, Origin};

/// How a message could not be let in.
#[derive(Debug)]
pub(super) struct Undeliverable<'m> {
    /// The ID under which it was taken.
    pub(super) id: MessageId,
    /// Who sent what to whom.
    pub(super) slip: &'m Slip,
    /// What was too much.
    pub(super) excess: Excess,
    /// How it begins, as it was left.
    pub(super) begin: &'m [u8],
    /// `--hostname`.
    pub(super) hostname: &'m str,
    /// The present date, as RFC 5322 3.3 writes it.
    pub(super) date: &'m str,
}

impl Excess {
    /// The sentence for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Excess::Size => "the message is larger than --max-message-size",
            Excess::Recipients => "the message has more recipients than --max-recipients",
        }
    }

    fn reason(self) -> Reason {
        let status = match self {
            // RFC 3463 3.4, 3.6.
            Excess::Size => EnhancedCode(5, 3, 4),
            Excess::Recipients => EnhancedCode(5, 5, 3),
        };
        Reason::here(status, self.words())
    }
}

impl Undeliverable<'_> {
    /// The report to its sender; `None` if there is nobody to be told.
    pub(super) fn report(&self) -> Option<Arrival> {
        let Undeliverable { slip, id, date, .. } = *self;
        let sender = slip.from.0.as_ref()?;
        let reason = self.excess.reason();
        // RFC 3461 4.1: who said NEVER, or not FAILURE, does not want to hear of it.
        let wants = slip
            .to
            .iter()
            .filter(|to| to.notify.is_none_or(|notify| notify.failure));
        let originals: Vec<(&Mailbox, Option<String>)> = wants
            .map(|to| {
                let original = to.original.as_ref();
                (&to.path, original.map(|original| original.in_ascii().decoded()))
            })
            .collect();
        if originals.is_empty() {
            return None;
        }
        let recipients: Vec<_> = originals
            .iter()
            .map(|(address, original)| ReportedRecipient {
                address,
                expanded_from: None,
                original_recipient: original.as_deref(),
                success: None,
                reason: &reason,
                remote_mta: None,
                last_attempt: None,
                is_held: false,
            })
            .collect();
        let envelope_id = slip.envelope_id.as_ref().map(EnvelopeId::decoded);
        let mut addresses = slip.to.iter().map(|to| &to.path).chain(&slip.from.0);
        let report = Report {
            kind: Kind::Bounce,
            id,
            about: id,
            hostname: self.hostname,
            date,
            arrival: date,
            sender,
            envelope_id: envelope_id.as_deref(),
            recipients: &recipients,
            utf8: addresses.any(Mailbox::needs_utf8),
            original: Original::Headers(&self.header()),
        };
        let content = Content::from_bytes(report.content().octets);
        Some(Arrival {
            // Then the report names its recipient in UTF-8, in the envelope and in To.
            utf8: !sender.to_string().is_ascii(),
            ..Arrival::new(id, Origin::Report, ReversePath(None), [sender.clone()], content)
        })
    }

    /// Its header as it would have gone, without Bcc; cut at a line where it does not end in what there is.
    fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        let mut completer = Completer::new(Facts {
            date: self.date.to_owned(),
            hostname: self.hostname.to_owned(),
            id: self.id,
            sender: self.slip.from.clone(),
        });
        completer.feed(self.begin, &mut header);
        let end = memchr::memmem::find(&header, b"\r\n\r\n").map(|at| at + 2);
        let end = end.or_else(|| memchr::memrchr(b'\n', &header).map(|at| at + 1));
        header.truncate(end.unwrap_or(0));
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, begin: &str) -> Option<String> {
        let undeliverable = Undeliverable {
            id: MessageId(1),
            slip: &Slip::parse(&format!("smtpmta maildrop 1\n{text}")).unwrap(),
            excess: Excess::Size,
            begin: begin.as_bytes(),
            hostname: "mta.test",
            date: "Mon, 30 Nov 2026 12:00:00 +0000",
        };
        let arrival = undeliverable.report()?;
        assert_eq!((arrival.id, arrival.origin), (MessageId(1), Origin::Report));
        assert_eq!(arrival.reverse_path, ReversePath(None));
        Some(arrival.recipients[0].path.to_string())
    }

    #[test]
    fn whoever_wants_to_hear_of_failures_is_told_and_nobody_else() {
        for (from, to, told) in [
            ("bob@mta.test", "<amy@a.test>", Some("bob@mta.test")),
            ("", "<amy@a.test>", None),
            ("bob@mta.test", "<amy@a.test> NOTIFY=NEVER", None),
            (
                "bob@mta.test",
                "<amy@a.test> NOTIFY=NEVER\nto <eve@a.test>",
                Some("bob@mta.test"),
            ),
        ] {
            let text = format!("from <{from}>\nto {to}\n");
            assert_eq!(report(&text, "A: b\n\n").as_deref(), told, "{text}");
        }
    }

    #[test]
    fn the_header_comes_back_without_its_blind_recipients() {
        let header = |begin: &str| {
            let undeliverable = Undeliverable {
                id: MessageId(1),
                slip: &Slip::parse("smtpmta maildrop 1\nfrom <>\nto <a@b.test>\n").unwrap(),
                excess: Excess::Recipients,
                begin: begin.as_bytes(),
                hostname: "mta.test",
                date: "",
            };
            String::from_utf8(undeliverable.header()).unwrap()
        };
        let whole = header("Subject: a\nBcc: eve\n joe\nX: y\n\nbody\n");
        assert!(whole.starts_with("Subject: a\r\nX: y\r\n"), "{whole}");
        assert!(!whole.contains("eve") && !whole.contains("joe") && !whole.contains("body"));
        assert_eq!(header("Subject: a\nX: y"), "Subject: a\r\n");
        assert_eq!(header(""), "");
    }
}
