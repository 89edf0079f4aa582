use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, HandshakeKind, StreamOwned, SupportedProtocolVersion};

use super::*;
use crate::tls::trial::{Papers, client, hear_out, pair, papers};

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Long enough for everything that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what is expected not to happen.
const MOMENT: Duration = Duration::from_millis(60);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A wire that speaks TLS, and a client at the other end that has finished its handshake.
fn connected(papers: &Papers, version: &'static SupportedProtocolVersion) -> (Wire, TlsFacts, Client) {
    let (server, stream) = pair();
    let mut client = client(papers.client_config(&[version]), stream);
    let client = thread::spawn(move || {
        client.conn.complete_io(&mut client.sock).unwrap();
        client
    });
    let mut wire = Wire::plain(server);
    let facts = wire.accept_tls(&papers.identity(), soon()).unwrap();
    (wire, facts, client.join().unwrap())
}

fn ours() -> Papers {
    papers(&PKCS_ECDSA_P256_SHA256)
}

/// Reads `count` octets off the wire.
fn hear(wire: &mut Wire, count: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut buffer = vec![0; 5000];
    while heard.len() < count {
        match wire.read(&mut buffer, PATIENCE).unwrap() {
            Heard::Octets(n) => heard.extend_from_slice(&buffer[..n]),
            other => panic!("{other:?} after {} octets", heard.len()),
        }
    }
    heard
}

/// Octets that do not repeat soon.
fn long_text(size: usize) -> Vec<u8> {
    (0..size as u32).map(|n| (n ^ (n >> 7)) as u8).collect()
}

/// What the client's handshake comes to, and what ours does, before `deadline`.
fn handshake_with(
    deadline: Instant,
    talk: impl FnOnce(TcpStream) -> Vec<u8> + Send + 'static,
) -> (HandshakeError, Wire, Vec<u8>) {
    let (server, stream) = pair();
    let client = thread::spawn(move || talk(stream));
    let mut wire = Wire::plain(server);
    let error = wire.accept_tls(&ours().identity(), deadline).unwrap_err();
    // Whoever talks may wait for this.
    let _ = wire.stream().shutdown(Shutdown::Both);
    (error, wire, client.join().unwrap())
}

#[test]
fn a_plain_wire_reads_what_has_come_and_writes_all() {
    let (server, mut client) = pair();
    let mut wire = Wire::plain(server);
    let mut buffer = [0; 100];
    assert!(!wire.is_encrypted());
    assert_eq!(wire.read(&mut buffer, Duration::ZERO).unwrap(), Heard::Nothing);
    assert_eq!(wire.read(&mut buffer, MOMENT).unwrap(), Heard::Nothing);
    client.write_all(b"EHLO there\r\n").unwrap();
    assert_eq!(wire.read(&mut [], PATIENCE).unwrap(), Heard::Nothing);
    assert_eq!(wire.read(&mut buffer, PATIENCE).unwrap(), Heard::Octets(12));
    wire.write_all(b"250 here\r\n", soon()).unwrap();
    wire.close();
    assert_eq!(hear_out(&client), b"250 here\r\n");
    drop(client);
    assert_eq!(wire.read(&mut buffer, PATIENCE).unwrap(), Heard::HungUp);
}

#[test]
fn with_tls_1_3_both_ends_know_the_same_exporter() {
    let papers = ours();
    let (wire, facts, client) = connected(&papers, &TLS13);
    assert!(wire.is_encrypted());
    assert_eq!(facts.version, "TLSv1.3");
    assert_eq!(facts.cipher, "TLS_AES_256_GCM_SHA384");
    assert_eq!(facts.server_name.as_deref(), Some("mail.example.org"));
    let theirs = client
        .conn
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""))
        .unwrap();
    assert_eq!(facts.exporter, Some(theirs));
    let certificate = &client.conn.peer_certificates().unwrap()[0];
    let binding = crate::tls::end_point::binding(certificate);
    assert!(binding.is_some());
    assert_eq!(facts.server_end_point, binding);
}

#[test]
fn with_tls_1_2_there_is_the_end_point_and_no_exporter() {
    let papers = ours();
    let (_wire, facts, client) = connected(&papers, &TLS12);
    assert_eq!(facts.version, "TLSv1.2");
    assert_eq!(facts.cipher, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    assert_eq!(facts.exporter, None);
    let certificate = &client.conn.peer_certificates().unwrap()[0];
    assert_eq!(
        facts.server_end_point,
        crate::tls::end_point::binding(certificate)
    );
}

#[test]
fn ed25519_and_rsa_serve_as_well() {
    let (_wire, facts, _client) = connected(&papers(&PKCS_ED25519), &TLS13);
    assert_eq!(facts.server_end_point, None);
    let (_wire, facts, _client) = connected(&papers(&rcgen::PKCS_RSA_SHA256), &TLS12);
    assert_eq!(facts.cipher, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384");
    assert!(facts.server_end_point.is_some());
}

#[test]
fn a_client_that_offers_protocols_by_alpn_is_served() {
    let papers = ours();
    let (server, stream) = pair();
    let mut config = papers.client_config(&[&TLS13]);
    config.alpn_protocols = vec![b"smtp".to_vec(), b"h2".to_vec()];
    let mut client = client(config, stream);
    let client = thread::spawn(move || client.conn.complete_io(&mut client.sock).map(|_| ()));
    let mut wire = Wire::plain(server);
    wire.accept_tls(&papers.identity(), soon()).unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn tls_1_2_comes_back_by_session_id_and_tls_1_3_gets_no_ticket() {
    let papers = ours();
    let identity = papers.identity();
    for (version, again) in [(&TLS12, HandshakeKind::Resumed), (&TLS13, HandshakeKind::Full)] {
        let config = papers.client_config(&[version]);
        for expected in [HandshakeKind::Full, again] {
            let (server, stream) = pair();
            let mut client = client(config.clone(), stream);
            let talk = thread::spawn(move || {
                let mut greeting = [0; 3];
                client.read_exact(&mut greeting).unwrap();
                client.conn.handshake_kind()
            });
            let mut wire = Wire::plain(server);
            let facts = wire.accept_tls(&identity, soon()).unwrap();
            wire.write_all(b"220", soon()).unwrap();
            assert_eq!(talk.join().unwrap(), Some(expected));
            assert_eq!(facts.server_end_point.as_deref(), identity.server_end_point());
        }
    }
}

#[test]
fn much_goes_both_ways() {
    let papers = ours();
    for version in [&TLS12, &TLS13] {
        let (mut wire, _, mut client) = connected(&papers, version);
        let text = long_text(3_000_000);
        let expected = text.clone();
        let talk = thread::spawn(move || {
            client.write_all(&expected).unwrap();
            let mut heard = vec![0; expected.len()];
            client.read_exact(&mut heard).unwrap();
            assert!(heard == expected);
        });
        assert!(hear(&mut wire, text.len()) == text);
        wire.write_all(&text, soon()).unwrap();
        talk.join().unwrap();
    }
}

#[test]
fn what_the_client_says_while_we_write_is_there_afterwards() {
    let (mut wire, _, mut client) = connected(&ours(), &TLS13);
    let text = long_text(4_000_000);
    let (expected, count) = (text.clone(), text.len());
    let talk = thread::spawn(move || {
        client.write_all(b"NOOP\r\n").unwrap();
        let mut heard = vec![0; count];
        client.read_exact(&mut heard).unwrap();
        client.write_all(b"QUIT\r\n").unwrap();
        heard
    });
    wire.write_all(&text, soon()).unwrap();
    assert_eq!(hear(&mut wire, 12), b"NOOP\r\nQUIT\r\n");
    assert!(talk.join().unwrap() == expected);
}

#[test]
fn what_is_decrypted_is_read_without_the_socket() {
    let (mut wire, _, mut client) = connected(&ours(), &TLS13);
    assert_eq!(wire.waiting(), 0);
    client.write_all(b"MAIL RCPT DATA").unwrap();
    let mut buffer = [0; 5];
    assert_eq!(wire.read(&mut buffer, PATIENCE).unwrap(), Heard::Octets(5));
    assert_eq!(wire.waiting(), 9);
    wire.stream().shutdown(Shutdown::Read).unwrap();
    assert_eq!(wire.read(&mut buffer, Duration::ZERO).unwrap(), Heard::Octets(5));
    assert_eq!(wire.read(&mut buffer, Duration::ZERO).unwrap(), Heard::Octets(4));
    assert_eq!(wire.waiting(), 0);
    assert_eq!(wire.read(&mut buffer, PATIENCE).unwrap(), Heard::HungUp);
}

#[test]
fn words_that_come_with_the_end_of_the_handshake_wait_for_the_first_read() {
    let papers = ours();
    let (server, stream) = pair();
    let mut client = client(papers.client_config(&[&TLS13]), stream);
    // The client says this as soon as it may, together with its Finished.
    client.conn.writer().write_all(b"EHLO early\r\n").unwrap();
    let talk = thread::spawn(move || {
        client.conn.complete_io(&mut client.sock).unwrap();
        client
    });
    let mut wire = Wire::plain(server);
    wire.accept_tls(&papers.identity(), soon()).unwrap();
    let _client = talk.join().unwrap();
    assert_eq!(hear(&mut wire, 12), b"EHLO early\r\n");
}

#[test]
fn keys_are_changed_in_the_middle_of_the_talk() {
    let (mut wire, _, mut client) = connected(&ours(), &TLS13);
    let text = long_text(100_000);
    let sent = text.clone();
    let talk = thread::spawn(move || {
        for _ in 0..3 {
            client.conn.refresh_traffic_keys().unwrap();
            client.write_all(&sent).unwrap();
            let mut heard = vec![0; sent.len()];
            client.read_exact(&mut heard).unwrap();
            assert!(heard == sent);
        }
    });
    for _ in 0..3 {
        assert!(hear(&mut wire, text.len()) == text);
        wire.write_all(&text, soon()).unwrap();
    }
    talk.join().unwrap();
}

#[test]
fn the_end_is_the_end_announced_or_not() {
    let papers = ours();
    let mut buffer = [0; 100];
    for announced in [true, false] {
        let (mut wire, _, mut client) = connected(&papers, &TLS13);
        client.write_all(b"QUIT\r\n").unwrap();
        if announced {
            client.conn.send_close_notify();
            client.conn.complete_io(&mut client.sock).unwrap();
        }
        client.sock.shutdown(Shutdown::Write).unwrap();
        assert_eq!(wire.read(&mut buffer, PATIENCE).unwrap(), Heard::Octets(6));
        assert_eq!(wire.read(&mut buffer, PATIENCE).unwrap(), Heard::HungUp);
        assert_eq!(wire.read(&mut buffer, PATIENCE).unwrap(), Heard::HungUp);
        // Half of the connection is still there.
        wire.write_all(b"221 bye\r\n", soon()).unwrap();
        wire.close();
        let mut heard = String::new();
        // An end that was not announced would be an error here.
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "221 bye\r\n");
        assert!(!wire.is_encrypted());
        assert!(wire.write_all(b"more", soon()).is_err());
    }
}

#[test]
fn a_record_that_never_ends_is_nothing_heard() {
    let (mut wire, _, client) = connected(&ours(), &TLS13);
    let mut stream = client.sock;
    // The head of a record of 16 KiB, and then one octet after the other, faster than the wait.
    stream.write_all(&[0x17, 0x03, 0x03, 0x40, 0x00]).unwrap();
    let (enough, stop) = mpsc::channel::<()>();
    let talk = thread::spawn(move || {
        while stop.recv_timeout(MOMENT / 20) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = stream.write_all(&[0]);
        }
    });
    let began = Instant::now();
    assert_eq!(wire.read(&mut [0; 100], MOMENT).unwrap(), Heard::Nothing);
    let took = began.elapsed();
    drop(enough);
    talk.join().unwrap();
    assert!(took >= MOMENT && took < MOMENT * 50, "{took:?}");
}

#[test]
fn garbage_between_the_records_is_an_error_and_the_client_is_told() {
    let (mut wire, _, mut client) = connected(&ours(), &TLS13);
    client
        .sock
        .write_all(b"\x17\x03\x03\x00\x20................................")
        .unwrap();
    let error = wire.read(&mut [0; 100], PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(wire.read(&mut [0; 100], PATIENCE).unwrap(), Heard::HungUp);
    assert_eq!(
        wire.write_all(b"250 OK\r\n", soon()).unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    let told = client.read(&mut [0; 100]).unwrap_err().to_string();
    assert!(told.contains("alert"), "{told}");
}

#[test]
fn a_client_that_reads_nothing_or_too_slowly_does_not_stretch_the_deadline() {
    let text = vec![b'x'; 32 * 1024 * 1024];
    for encrypted in [false, true] {
        for reads in [false, true] {
            let (mut wire, mut client) = if encrypted {
                let (wire, _, client) = connected(&ours(), &TLS13);
                (wire, client.sock)
            } else {
                let (server, client) = pair();
                (Wire::plain(server), client)
            };
            let (enough, stop) = mpsc::channel::<()>();
            let talk = thread::spawn(move || {
                while stop.recv_timeout(MOMENT / 20) == Err(mpsc::RecvTimeoutError::Timeout) {
                    if reads {
                        let _ = client.read(&mut [0]);
                    }
                }
            });
            let began = Instant::now();
            let error = wire.write_all(&text, began + MOMENT * 2).unwrap_err();
            let took = began.elapsed();
            drop(enough);
            talk.join().unwrap();
            assert!(is_time_out(&error), "{error}");
            assert!(took < MOMENT * 50, "{took:?}");
        }
    }
}

#[test]
fn a_client_that_falls_silent_in_the_handshake_is_given_up_at_the_deadline() {
    let deadline = Instant::now() + MOMENT;
    let (error, mut wire, _) = handshake_with(deadline, hear_out);
    assert!(matches!(error, HandshakeError::TimedOut), "{error}");
    assert!(Instant::now() >= deadline);
    assert_eq!(error.to_string(), "the TLS handshake took too long");
    // Nothing goes on in the clear.
    assert!(wire.write_all(b"250 OK\r\n", soon()).is_err());
    assert_eq!(wire.read(&mut [0; 10], PATIENCE).unwrap(), Heard::HungUp);
    assert!(matches!(
        wire.accept_tls(&ours().identity(), soon()),
        Err(HandshakeError::OutOfPlace)
    ));
}

#[test]
fn a_handshake_octet_by_octet_does_not_stretch_the_deadline() {
    let began = Instant::now();
    let (enough, stop) = mpsc::channel::<()>();
    let (server, mut stream) = pair();
    let talk = thread::spawn(move || {
        // The head of a record with a client hello that never is whole.
        let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc]);
        while stop.recv_timeout(MOMENT / 20) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = stream.write_all(&[3]);
        }
    });
    let error = Wire::plain(server)
        .accept_tls(&ours().identity(), began + MOMENT)
        .unwrap_err();
    assert!(matches!(error, HandshakeError::TimedOut), "{error}");
    assert!(began.elapsed() < MOMENT * 50);
    drop(enough);
    talk.join().unwrap();
}

#[test]
fn http_on_the_tls_port_is_told_so_at_once() {
    let (error, _, heard) = handshake_with(soon(), |mut stream| {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n")
            .unwrap();
        hear_out(&stream)
    });
    assert!(matches!(error, HandshakeError::NotTls), "{error}");
    // A fatal alert.
    assert_eq!(&heard[..1], [0x15]);
    assert_eq!(heard[5], 2);
}

#[test]
fn a_handshake_that_is_cut_off_is_a_peer_that_hung_up() {
    let (error, ..) = handshake_with(soon(), |mut stream| {
        stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        hear_out(&stream)
    });
    assert!(matches!(error, HandshakeError::HungUp), "{error}");
}

#[test]
fn a_client_that_does_not_trust_us_says_so() {
    let stranger = ours();
    let (error, ..) = handshake_with(soon(), move |stream| {
        let mut client = client(stranger.client_config(&[&TLS13]), stream);
        client.conn.complete_io(&mut client.sock).unwrap_err();
        Vec::new()
    });
    assert!(matches!(error, HandshakeError::Refused(_)), "{error}");
}

#[test]
fn a_client_without_a_common_version_gets_an_alert() {
    let (error, _, heard) = handshake_with(soon(), |mut stream| {
        // A client hello of TLS 1.0 with one cipher suite and no extensions.
        let mut hello = vec![0x16, 0x03, 0x01, 0x00, 0x2d, 0x01, 0x00, 0x00, 0x29, 0x03, 0x01];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0x00, 0x2f, 1, 0]);
        stream.write_all(&hello).unwrap();
        hear_out(&stream)
    });
    assert!(matches!(error, HandshakeError::Disagreed(_)), "{error}");
    assert_eq!(heard[0], 0x15);
}
