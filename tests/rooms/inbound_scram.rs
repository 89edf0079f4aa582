//! SCRAM with the live MTA: what it is bound to, and what strangers learn of it.

use std::thread;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64;
use rustls::version::{TLS12, TLS13};

use crate::support::client::Client;
use crate::support::scram::Scram;
use crate::support::submission::{ACCOUNTS, LOGGED_IN, PASSWORD, Port, REFUSED, USER, address, world};

const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// What a client binds its proof to.
#[derive(Clone, Copy)]
enum Data {
    None,
    Ours,
    OfAnotherConnection,
}

/// Mechanism, flag, data and password; of each line, one thing is wrong.
const ATTACKS: [(&str, &str, Data, &str); 7] = [
    // Somebody has taken PLUS out of our offers.
    ("SCRAM-SHA-256", "y", Data::None, PASSWORD),
    // Somebody speaks TLS with either of us.
    (PLUS, "p=tls-exporter", Data::OfAnotherConnection, PASSWORD),
    (
        PLUS,
        "p=tls-server-end-point",
        Data::OfAnotherConnection,
        PASSWORD,
    ),
    // A binding that we do not do.
    (PLUS, "p=tls-unique", Data::Ours, PASSWORD),
    // The name of the mechanism says one thing, the message another.
    (PLUS, "n", Data::None, PASSWORD),
    ("SCRAM-SHA-256", "p=tls-exporter", Data::Ours, PASSWORD),
    (PLUS, "p=tls-exporter", Data::Ours, "staple"),
];

#[test]
fn scram_is_bound_to_the_connection_and_refuses_what_somebody_in_the_middle_would_do() {
    let world = world(&[], ACCOUNTS);
    let certificate = digest(&SHA256, &Client::secure(&world, Port::Smtp).servers_certificate());
    let end_point = || Scram::bound("p=tls-server-end-point", certificate.as_ref(), USER, PASSWORD);
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let mut client = Client::connect(address(&world, Port::Submissions)).begin_tls(versions);
        client.reply();
        let offers = client.say("EHLO univac.com");
        assert!(
            offers.contains(&format!("AUTH {PLUS} SCRAM-SHA-256 ")),
            "{offers}"
        );
        assert_eq!(client.auth_scram(PLUS, end_point()), LOGGED_IN);
    }
    thread::scope(|scope| {
        for (mechanism, flag, data, password) in ATTACKS {
            let mut client = Client::secure(&world, Port::Submission);
            let data = match data {
                Data::None => Vec::new(),
                Data::Ours => client.tls_exporter().to_vec(),
                Data::OfAnotherConnection => vec![7; 32],
            };
            let scram = Scram::bound(flag, &data, USER, password);
            scope.spawn(move || assert_eq!(client.auth_scram(mechanism, scram), REFUSED, "{flag}"));
        }
    });
}

#[test]
fn a_stranger_is_asked_for_a_proof_like_anybody_else() {
    let world = world(&[], ACCOUNTS);
    let challenge = |user: &str| {
        let mut client = Client::secure(&world, Port::Submission);
        let scram = Scram::new("n", user, PASSWORD);
        let reply = client.say(&format!("AUTH SCRAM-SHA-256 {}", scram.first()));
        let text = reply.strip_prefix("334 ").unwrap_or_else(|| panic!("{reply}"));
        let text = String::from_utf8(BASE64.decode(text.as_bytes()).unwrap()).unwrap();
        let (_, salt_and_iterations) = text.split_once(",s=").unwrap();
        salt_and_iterations.to_owned()
    };
    let (user, stranger) = (challenge(USER), challenge("nobody@mta.test"));
    assert_eq!(user.len(), stranger.len());
    assert_eq!(challenge("nobody@mta.test"), stranger, "as an account's would be");
    assert_ne!(user, stranger);
}
