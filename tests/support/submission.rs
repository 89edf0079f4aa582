//! A world with a certificate and accounts: mail may be submitted there, and TLS is offered on every port.

#![allow(dead_code)] // each test uses what it needs

use std::net::SocketAddr;

use data_encoding::BASE64;
use rcgen::{CertificateParams, KeyPair};
use rustls::version::{TLS12, TLS13};

use super::client::Client;
use super::scram::Scram;
use super::world::{HOSTNAME, World};

/// Whoever logs in, unless the test says otherwise.
pub const USER: &str = "jdoe@mta.test";
/// The password of [`USER`].
pub const PASSWORD: &str = "correct horse";
/// The accounts file, unless the test says otherwise.
pub const ACCOUNTS: &str = "jdoe@mta.test:{PLAIN}correct horse\nbsmith@mta.test:{PLAIN}staple\n";

/// The reply to a name or a password that is wrong.
pub const REFUSED: &str = "535 5.7.8 Authentication credentials invalid";
/// The reply to those that are right.
pub const LOGGED_IN: &str = "235 2.7.0 Authentication successful";

/// The ports of a [`world`], in the order in which the MTA names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// `--listen`.
    Smtp,
    /// `--listen-submission`.
    Submission,
    /// `--listen-submissions`.
    Submissions,
}

/// A world that listens on every [`Port`], with these flags and these accounts.
#[track_caller]
pub fn world(flags: &[&str], accounts: &str) -> World {
    let mut world = world_without_mta(flags, accounts);
    world.start();
    world
}

/// The same, in which the MTA has not been loaded yet.
pub fn world_without_mta(flags: &[&str], accounts: &str) -> World {
    let mut world = World::without_mta(flags);
    issue(&world);
    for (name, file) in [("--tls-cert", "cert.pem"), ("--tls-key", "key.pem")] {
        let path = world.path(file);
        world.flag(name, &path);
    }
    let accounts = world.write("accounts", accounts);
    world.flag("--accounts", &accounts);
    world.flag("--listen-submission", "127.0.0.1:0");
    world.flag("--listen-submissions", "127.0.0.1:0");
    world
}

/// Puts a new certificate and its key in place of those that are there; gives the certificate, DER.
pub fn issue(world: &World) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([HOSTNAME.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    world.write("cert.pem", certificate.pem());
    world.write("key.pem", key.serialize_pem());
    certificate.der().to_vec()
}

/// Where a port is.
#[track_caller]
pub fn address(world: &World, port: Port) -> SocketAddr {
    world.daemon().addresses(3)[port as usize]
}

impl Client {
    /// A client that has begun TLS and got as far as the answer to EHLO.
    #[track_caller]
    pub fn secure(world: &World, port: Port) -> Client {
        let mut client = match port {
            Port::Submissions => {
                let client = Client::connect(address(world, port));
                let mut client = client.begin_tls(&[&TLS13, &TLS12]);
                let greeting = client.reply();
                assert!(greeting.starts_with("220 "), "{greeting}");
                client
            }
            Port::Smtp | Port::Submission => {
                let client = Client::try_greet(address(world, port)).unwrap();
                client.start_tls()
            }
        };
        let hello = client.say("EHLO univac.com");
        assert!(hello.starts_with("250-mta.test\n"), "{hello}");
        client
    }

    /// A client that has logged in.
    #[track_caller]
    pub fn logged_in(world: &World, port: Port, user: &str, password: &str) -> Client {
        let mut client = Client::secure(world, port);
        assert_eq!(client.auth_plain(user, password), LOGGED_IN);
        client
    }

    /// STARTTLS, and the handshake.
    #[track_caller]
    pub fn start_tls(mut self) -> Client {
        assert_eq!(self.say("STARTTLS"), "220 2.0.0 Ready to start TLS");
        self.begin_tls(&[&TLS13, &TLS12])
    }

    /// AUTH PLAIN with an initial response; gives the last reply.
    #[track_caller]
    pub fn auth_plain(&mut self, user: &str, password: &str) -> String {
        self.say(&format!("AUTH PLAIN {}", plain(user, password)))
    }

    /// AUTH LOGIN, question by question; gives the last reply.
    #[track_caller]
    pub fn auth_login(&mut self, user: &str, password: &str) -> String {
        assert_eq!(
            self.say("AUTH LOGIN"),
            format!("334 {}", BASE64.encode(b"Username:"))
        );
        let asked = self.say(&BASE64.encode(user.as_bytes()));
        assert_eq!(asked, format!("334 {}", BASE64.encode(b"Password:")));
        self.say(&BASE64.encode(password.as_bytes()))
    }

    /// AUTH with a mechanism of SCRAM; gives the last reply. The server must have proved itself before it
    /// says that all is well.
    #[track_caller]
    pub fn auth_scram(&mut self, mechanism: &str, mut scram: Scram) -> String {
        let reply = self.say(&format!("AUTH {mechanism} {}", scram.first()));
        let Some(challenge) = reply.strip_prefix("334 ") else {
            return reply;
        };
        let last = scram.last(challenge);
        let reply = self.say(&last);
        let Some(proof) = reply.strip_prefix("334 ") else {
            return reply;
        };
        assert_eq!(proof, scram.servers_proof());
        self.say("")
    }

    /// The data of the binding `tls-exporter` (RFC 9266).
    #[track_caller]
    pub fn tls_exporter(&self) -> [u8; 32] {
        let tls = self.stream().tls();
        tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""))
            .unwrap()
    }

    /// The certificate that the server has shown, DER.
    #[track_caller]
    pub fn servers_certificate(&self) -> Vec<u8> {
        let tls = self.stream().tls();
        tls.peer_certificates().unwrap()[0].to_vec()
    }
}

/// The only message of PLAIN, in base64.
pub fn plain(user: &str, password: &str) -> String {
    BASE64.encode(format!("\0{user}\0{password}").as_bytes())
}
