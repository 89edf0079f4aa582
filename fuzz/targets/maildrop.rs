//! What any user may leave in the maildrop, and what stands in To and Cc: a slip that is read says the same when it is
//! written down again, and an address that is found in a list is found again where it stands alone.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use smtpmta::maildrop::Slip;
use smtpmta::sendmail::addresses::addresses;
use smtpmta::smtp::path::Mailbox;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(data) else {
        return Corpus::Reject;
    };
    if let Ok(slip) = Slip::parse(text) {
        assert!(!slip.to.is_empty());
        assert_eq!(Slip::parse(&slip.text()), Ok(slip));
    }
    for address in addresses(text).unwrap_or_default() {
        let domain = address.domain.as_deref().unwrap_or("a.example");
        if let Ok(mailbox) = Mailbox::parse(&format!("{}@{domain}", address.local)) {
            let again = addresses(&mailbox.to_string()).unwrap_or_default();
            assert_eq!(again.len(), 1, "{mailbox}");
            assert_eq!(again[0].local, mailbox.local_part());
            assert_eq!(again[0].domain.as_deref(), Some(mailbox.domain()));
        }
    }
    Corpus::Keep
});
