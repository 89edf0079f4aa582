//! The inbound session, from each of its main states, with anything said to it in any reads.
//!
//! The first octet is the state: see `smtpmta_fuzz::stage::Stage`. 0xFE ends a read, 0xFD is something that happens.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta_fuzz::handler::Handler;
use smtpmta_fuzz::stage::Stage;

fuzz_target!(|data: &[u8]| {
    if let Some((choice, input)) = data.split_first() {
        Handler::play(Stage::of(*choice), input);
    }
});
