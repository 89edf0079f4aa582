//! Paths and mailboxes of any octets: what is read can be written down and read again as the same, and holds nothing
//! that a log or a terminal would not show.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use smtpmta::smtp::dsn::OriginalRecipient;
use smtpmta::smtp::path::{ForwardPath, Mailbox, PathError, ReversePath, address_literal};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(data) else {
        return Corpus::Reject;
    };
    if let Ok((path, rest)) = ReversePath::take(text) {
        assert!(text.ends_with(rest));
        assert_eq!(path.to_string().parse(), Ok(path.clone()));
        assert_eq!(
            ReversePath::take(&format!("<{path}>{rest}")),
            Ok((path.clone(), rest))
        );
        path.0.iter().for_each(check);
    }
    if let Ok((path, rest)) = ForwardPath::take(text) {
        assert!(text.ends_with(rest));
        assert_eq!(
            ForwardPath::take(&format!("<{path}>{rest}")),
            Ok((path.clone(), rest))
        );
        if let ForwardPath::Mailbox(mailbox) = &path {
            check(mailbox);
        }
    }
    if let Ok(mailbox) = Mailbox::parse(text) {
        assert!(text.starts_with(mailbox.local_part()));
        assert_eq!(
            ForwardPath::take(&format!("<{text}>")),
            Ok((ForwardPath::Mailbox(mailbox.clone()), ""))
        );
        check(&mailbox);
    }
    Corpus::Keep
});

fn check(mailbox: &Mailbox) {
    let text = mailbox.to_string();
    assert_eq!(Mailbox::parse(&text).as_ref(), Ok(mailbox));
    assert!(text.len() <= 254 && mailbox.local_part().len() <= 64 && mailbox.domain().len() <= 255);
    let is_hidden =
        |c: char| c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    assert!(!text.contains(is_hidden), "{text:?}");
    assert!(mailbox.local_part().is_ascii() != mailbox.needs_utf8());
    assert!(!mailbox.local_text().contains(is_hidden));

    let domain = mailbox.domain();
    assert!(
        domain.is_ascii() && !domain.contains([' ', '<', '>', '@', ',', ';', '"', '\\']),
        "{domain:?}"
    );
    assert!(!domain.bytes().any(|octet| octet.is_ascii_uppercase()) || domain.starts_with("[IPv6:"));
    assert_eq!(domain.starts_with('['), address_literal(domain).is_some());

    let canonical = mailbox.in_lower_case();
    assert_eq!(canonical.in_lower_case(), canonical);
    assert_eq!(canonical.domain(), mailbox.domain());
    check_again(&canonical);
    if let Some(plain) = mailbox.without_detail() {
        assert!(plain.local_text().len() < mailbox.local_text().len() && !plain.local_text().is_empty());
        check_again(&plain);
    }
    if let Some(original) = OriginalRecipient::of(&text) {
        assert_eq!(original.to_string().parse(), Ok(original.clone()));
        let ascii = original.in_ascii();
        assert!(!ascii.needs_utf8());
        // RFC 3461 has a limit for it, which the longer form may pass.
        if ascii.to_string().len() <= 500 {
            assert_eq!(ascii.to_string().parse(), Ok(ascii));
        }
    }
}

/// A form for comparisons may be longer than a mailbox may be, but nothing else is wrong with it.
fn check_again(mailbox: &Mailbox) {
    match Mailbox::parse(&mailbox.to_string()) {
        Ok(again) => assert_eq!(again, *mailbox),
        Err(error) => assert!(
            matches!(error, PathError::LocalPartTooLong | PathError::TooLong),
            "{mailbox}: {error}"
        ),
    }
}
