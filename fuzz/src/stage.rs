//! The main states in which a session is found, and the house that it belongs to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use smtpmta::accounts::Accounts;
use smtpmta::aliases::Aliases;
use smtpmta::inbound::front::Front;
use smtpmta::inbound::recipients::RecipientPolicy;
use smtpmta::inbound::session::{Client, SessionSettings};
use smtpmta::mailbox::directory::Directory;
use smtpmta::tls::handshake::TlsFacts;

/// `--hostname`.
pub const HOSTNAME: &str = "mail.example.org";
/// `--local-domain`, both.
pub const LOCAL_DOMAINS: [&str; 2] = ["example.org", "example.net"];
/// Small limits, so that they are reached.
pub const MAX_MESSAGE_SIZE: u64 = 1000;
/// See [`MAX_MESSAGE_SIZE`].
pub const MAX_RECIPIENTS: usize = 3;
/// See [`MAX_MESSAGE_SIZE`].
pub const MAX_HOPS: usize = 3;

/// The password of bob and eve is `pencil`; amy's is known as its keys only, so that SCRAM costs no derivation.
const ACCOUNTS: &str = "bob@example.org:{PLAIN}pencil\neve@example.net:{PLAIN}pencil\n*@example.net:\n";
/// See [`ACCOUNTS`].
const KEYS: &str = "amy@example.org:{SCRAM-SHA-256}4096,ZqM2gOw3BLAkg0K22Vn2zg==,\
                    BNifH/yGquGsJDiaR7SKPnOB8fMi/GjkBh6OwkRtl14=,0d6DMpsvC1zuSjbw3iXcJ7iHAb8O3r2yQPNtk9vY2Y8=\n\
                    bob@example.org:\n";
/// Aliases of people here and elsewhere.
const ALIASES: &str = "staff: bob, eve@example.net, jane@elsewhere.example\nabuse: bob\n";

static WITH_PASSWORDS: LazyLock<Arc<Accounts>> = LazyLock::new(|| accounts(ACCOUNTS));
static WITH_KEYS: LazyLock<Arc<Accounts>> = LazyLock::new(|| accounts(KEYS));

static SOME_ALIASES: LazyLock<Aliases> = LazyLock::new(|| {
    let local_domains = LOCAL_DOMAINS.map(str::to_owned);
    let no_files = &mut |_: &std::path::Path, _| Err(std::io::ErrorKind::NotFound.into());
    Aliases::parse(ALIASES.as_bytes(), "aliases".as_ref(), &local_domains, no_files)
        .expect("these aliases are good")
});

fn accounts(text: &str) -> Arc<Accounts> {
    Arc::new(Accounts::parse(text.as_bytes(), "accounts", LOCAL_DOMAINS[0]).expect("these accounts are good"))
}

/// Accounts with passwords in clear, or with nothing but keys of SCRAM.
#[must_use]
pub fn some_accounts(with_keys: bool) -> Arc<Accounts> {
    Arc::clone(if with_keys { &WITH_KEYS } else { &WITH_PASSWORDS })
}

/// How a dialogue begins, before the client says what the fuzzer made up.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Where the client has called.
    pub front: Front,
    /// TLS has begun, with STARTTLS or before the greeting.
    pub in_tls: bool,
    /// What the client has said by then, in this order; all of it is granted.
    pub said: &'static str,
    /// `--accounts`, if any: with passwords or with keys.
    pub accounts: Option<bool>,
    /// The client may send to any domain.
    pub may_relay: bool,
    /// `--authenticated-senders any`.
    pub any_sender: bool,
    /// The client speaks before the greeting.
    pub is_hasty: bool,
}

impl Stage {
    /// The stage that the first octet of an input asks for: three bits for the state, the others for options.
    #[must_use]
    pub fn of(choice: u8) -> Stage {
        let accounts = match choice >> 3 & 3 {
            0 | 1 => None,
            2 => Some(false),
            _ => Some(true),
        };
        let fresh = Stage {
            front: Front::Relay,
            in_tls: false,
            said: "",
            accounts,
            may_relay: choice & 0x20 != 0,
            any_sender: choice & 0x40 != 0,
            is_hasty: choice & 0x80 != 0,
        };
        let with_accounts = Some(accounts.unwrap_or(false));
        match choice & 7 {
            0 => fresh,
            1 => Stage {
                said: "EHLO client.example\r\n",
                ..fresh
            },
            2 => Stage {
                said: "EHLO client.example\r\nMAIL FROM:<jane@elsewhere.example>\r\nRCPT TO:<bob@example.org>\r\n",
                ..fresh
            },
            3 => Stage {
                said: "EHLO client.example\r\n",
                in_tls: true,
                accounts: with_accounts,
                ..fresh
            },
            4 => Stage {
                said: "EHLO client.example\r\nAUTH PLAIN AGJvYgBwZW5jaWw=\r\n",
                in_tls: true,
                accounts: Some(false),
                front: Front::Submission,
                ..fresh
            },
            5 => Stage {
                front: Front::Submission,
                accounts: with_accounts,
                ..fresh
            },
            6 => Stage {
                front: Front::Submissions,
                in_tls: true,
                accounts: with_accounts,
                ..fresh
            },
            _ => Stage {
                said: "EHLO client.example\r\nMAIL FROM:<> BODY=BINARYMIME SMTPUTF8\r\nRCPT TO:<bob@example.org>\r\n",
                ..fresh
            },
        }
    }

    /// What the session is set up with.
    #[must_use]
    pub fn settings(&self) -> Arc<SessionSettings> {
        let local_domains = LOCAL_DOMAINS.map(str::to_owned).to_vec();
        let accounts = self.accounts.map(some_accounts);
        let aliases = if accounts.is_some() {
            SOME_ALIASES.clone()
        } else {
            Aliases::default()
        };
        let directory = Directory {
            local_domains,
            accounts: accounts.clone(),
            aliases,
        };
        Arc::new(SessionSettings {
            hostname: HOSTNAME.to_owned(),
            max_message_size: MAX_MESSAGE_SIZE,
            max_recipients: MAX_RECIPIENTS,
            max_hops: MAX_HOPS,
            policy: RecipientPolicy::new(Arc::new(directory)).expect("there is a local domain"),
            accounts,
            offers_tls: true,
            any_sender: self.any_sender,
        })
    }

    /// Who calls.
    #[must_use]
    pub fn client(&self) -> Client {
        Client {
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            called: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 25)),
            front: self.front,
            may_relay: self.may_relay,
        }
    }
}

/// A handshake as it could have been, always the same.
#[must_use]
pub fn tls_facts() -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384",
        exporter: Some([7; 32]),
        server_end_point: Some(vec![9; 32]),
        server_name: None,
    }
}

/// "Random" octets, always the same.
pub const ENTROPY: [u8; 32] = [5; 32];
