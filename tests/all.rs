//! The one integration binary; its rooms mirror those of `src/`.

// A test that cannot go on fails where it stands; clippy's own exception covers unit tests only.
#![allow(clippy::unwrap_used)]

mod support {
    pub mod account;
    pub mod browser;
    pub mod chance;
    pub mod client;
    pub mod daemon;
    pub mod dialogue;
    pub mod dns_server;
    pub mod doubles;
    pub mod http;
    pub mod journal;
    pub mod load;
    pub mod next_hops;
    pub mod other_clock;
    pub mod scram;
    pub mod shim;
    pub mod sink;
    pub mod stream;
    pub mod submission;
    pub mod trace;
    pub mod traffic;
    pub mod world;
}

mod exercises {
    mod one;
    mod three;
    mod two;
}

mod rooms {
    mod addin;
    mod aliases;
    mod architecture;
    mod backoff;
    mod backup;
    mod bad_configs;
    mod bounded;
    mod by_hand;
    mod clock;
    mod console;
    mod contents;
    // There are no crash points in a release.
    #[cfg(debug_assertions)]
    mod crash_matrix;
    mod damaged;
    mod doctor;
    mod dry_session;
    mod durable;
    mod failing_calls;
    mod generated;
    mod hosts;
    mod http;
    mod inbound_auth;
    mod inbound_dialogues;
    mod inbound_limits;
    mod inbound_live;
    mod inbound_scram;
    mod inbound_submission;
    mod inbound_tls;
    mod install;
    mod lingering;
    mod lmtp;
    mod logging;
    mod mailbox;
    mod manual_queue;
    mod measuring;
    mod next_hops;
    mod next_hops_chunks;
    mod next_hops_tls;
    mod outbound_dialogues;
    mod outbound_on_the_wire;
    mod outcomes;
    mod passwd;
    mod power;
    mod readme;
    mod readme_walk;
    mod refresh;
    mod relaying;
    mod reports;
    mod route;
    mod second_machine;
    mod sendmail;
    mod service;
    mod shortage;
    mod sink;
    mod soak;
    mod standing;
    mod stop_and_start;
    mod terminal;
    mod tracing;
    mod upgrade;
    mod verify;
}
