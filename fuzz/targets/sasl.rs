//! Each mechanism, with any responses: an exchange ends, says nothing that would not fit into a line, and lets nobody
//! in but who has the password.
//!
//! The first octet is the mechanism, whether the accounts are known by keys only, and whether there is an initial
//! response; the others are the responses, with 0xFE between them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::sasl::{Bindings, Context, Exchange, Mechanism, Progress, base64};
use smtpmta_fuzz::stage::{ENTROPY, some_accounts, tls_facts};

/// The longest challenge in base64: a reply's line without `334 ` and CRLF.
const LONGEST: usize = 512 - 6;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let mechanism = Mechanism::ALL[usize::from(choice & 3)];
    let with_keys = choice & 4 != 0;
    let bindings = match choice & 8 {
        0 => Bindings {
            exporter: tls_facts().exporter,
            server_end_point: tls_facts().server_end_point.unwrap_or_default(),
        },
        _ => Bindings::default(),
    };
    let accounts = some_accounts(with_keys);
    let context = Context {
        accounts: accounts.clone(),
        bindings,
        entropy: ENTROPY,
    };
    let mut responses = rest.split(|octet| *octet == 0xFE);
    let initial = if choice & 16 == 0 { responses.next() } else { None };
    let mut progress = Exchange::new(mechanism, context).begin(initial);
    let (mut questions, mut was_checked) = (0, false);
    loop {
        progress = match progress {
            Progress::Challenge(exchange, challenge) => {
                questions += 1;
                assert!(questions <= 3, "an exchange without an end");
                let line = base64::encode(&challenge);
                assert!(line.len() <= LONGEST, "{} octets", line.len());
                assert_eq!(base64::decode(line.as_bytes()), Some(challenge));
                let Some(response) = responses.next() else { return };
                exchange.respond(response)
            }
            Progress::Check(check) => {
                assert!(!check.name().contains('\0'));
                was_checked = true;
                check.run()
            }
            Progress::Done(login) => {
                assert!(was_checked, "in without a check");
                assert!(accounts.addresses().any(|address| *address == login.address));
                assert!(accounts.login(&login.address.to_string()).is_some());
                return;
            }
            Progress::Failed | Progress::Malformed => return,
        };
    }
});
