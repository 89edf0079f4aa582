//! Local mail with `--lmtp`: the server decides for each recipient, over TCP and over a socket of the machine, and what it
//! does not take now waits for it.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use smtpmta::sink::settings::Settings;

use crate::support::client::{Client, letter};
use crate::support::sink::{Message, Sink, Stage};
use crate::support::world::{PATIENCE, World};

const SENDER: &str = "bsmith@mta.test";
const NOBODY_WAITS: &str = "SELECT (SELECT count(*) FROM inbound_work_queue) + (SELECT count(*) FROM smtp_box) \
       + (SELECT count(*) FROM outbound_work_queue)";

/// A server that speaks LMTP, and offers what Dovecot does.
pub fn server() -> Sink {
    let offers = ["8BITMIME", "CHUNKING", "ENHANCEDSTATUSCODES", "PIPELINING"];
    let settings = Settings {
        lmtp: true,
        offers: offers.map(str::to_owned).to_vec(),
        ..Settings::default()
    };
    Sink::with("127.0.0.1:0", settings).unwrap()
}

/// Lets whoever connects to the socket `path` speak with `server`.
fn bridge(path: &Path, server: SocketAddr) {
    let listener = UnixListener::bind(path).unwrap();
    let carry = move |client: UnixStream| {
        let host = TcpStream::connect(server)?;
        let (mut from_client, mut to_host) = (client.try_clone()?, host.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from_client, &mut to_host);
            to_host.shutdown(Shutdown::Write)
        });
        let (mut from_host, mut to_client) = (host, client);
        io::copy(&mut from_host, &mut to_client)?;
        to_client.shutdown(Shutdown::Both)
    };
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            thread::spawn(move || carry(client));
        }
    });
}

fn delivered(message: &Message) -> String {
    message.delivered.join(" ")
}

#[test]
fn the_server_decides_for_each_recipient_of_a_message_and_none_gets_it_twice() {
    let server = server();
    for order in [
        "rcpt[nobody@*]=550 5.1.1 User doesn't exist",
        "dot[full@*]=552 5.2.2 Quota exceeded",
        "dot[busy@*]#1=452 4.2.2 Not just now",
    ] {
        server.order(order);
    }
    let mut world = World::without_mta(&["--lmtp", &server.address().to_string(), "--retry-schedule", "1s"]);
    let aliases = world.write("aliases", "staff: ann, nobody, Busy, bob+lists, full\n");
    world.flag("--aliases", &aliases);
    world.start();
    let id = Client::of(&world).mail(SENDER, &["staff@mta.test"], &letter("hello"));
    // The message, what waited of it, and the report.
    server.wait_for(|seen| seen.accepted().count() == 3, PATIENCE);
    world.wait_for_sql(NOBODY_WAITS, "0");
    server.look(|seen| {
        let mut got: Vec<String> = seen.accepted().map(delivered).collect();
        got.sort_unstable();
        assert_eq!(got, ["Busy@mta.test", "ann@mta.test bob+lists@mta.test", SENDER]);
        for message in seen.accepted() {
            let content = String::from_utf8_lossy(&message.content);
            let is_as_it_came = !content.contains("Return-Path:") && !content.contains("Delivered-To:");
            assert!(is_as_it_came, "{content}");
        }
        let report = seen.accepted().find(|message| delivered(message) == SENDER);
        let report = String::from_utf8_lossy(&report.unwrap().content).into_owned();
        for line in ["<nobody@mta.test>", "550 5.1.1", "<full@mta.test>", "552 5.2.2"] {
            assert!(report.contains(line), "{line}: {report}");
        }
        assert!(
            !report.contains("ann@mta.test") && !report.contains("Busy@"),
            "{report}"
        );
        let verbs: Vec<_> = seen.sessions[0].commands.iter().map(|line| &line[..4]).collect();
        let rcpts = ["RCPT"; 5];
        assert!(
            verbs.starts_with(&[&["LHLO", "MAIL"], &rcpts[..], &["DATA"]].concat()),
            "{verbs:?}"
        );
    });
    let told = world.ask(&format!("trace {id}")).text;
    let host = format!("127.0.0.1[127.0.0.1]:{}", server.address().port());
    for line in [
        "to          <ann@mta.test> WQ_DELIVERED",
        "to          <nobody@mta.test> WQ_FAILED",
        &format!("routed      lmtp:{}", server.address()),
        &format!("{host} said: 250 2.0.0 OK"),
        &format!("host {host} said: 452 4.2.2 Not just now (in reply to end of DATA)"),
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!world.spool().join("mail").exists(), "a Maildir was made");
    assert!(
        world.show("stat").contains("Mail.Delivered = 4"),
        "{}",
        world.show("stat")
    );
    let tried = world.run("route nobody@mta.test --connect", b"");
    assert_eq!(tried.status, 1, "{tried:?}");
    for line in [
        "delivered here, to nobody@mta.test by lmtp:",
        " -> LHLO mta.test\n",
        " <- 550 5.1.1 ",
    ] {
        assert!(tried.text.contains(line), "{line}: {}", tried.text);
    }
}

#[test]
fn what_was_sent_to_a_server_that_is_lost_in_the_middle_is_tried_again_for_those_without_an_answer() {
    let server = server();
    server.order("dot[carol@*]#1=drop");
    let lmtp = server.address().to_string();
    let world = World::load(&["--lmtp", &lmtp, "--retry-schedule", "1s"]);
    Client::of(&world).mail("x@a.test", &["bob@mta.test", "carol@mta.test"], &letter("hello"));
    server.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    server.look(|seen| {
        let got: Vec<String> = seen.messages.iter().map(delivered).collect();
        assert_eq!(got, ["bob@mta.test", "carol@mta.test"]);
    });
    world.wait_for_sql(NOBODY_WAITS, "0");
}

#[test]
fn mail_waits_for_a_socket_on_which_nobody_listens_and_goes_to_its_maildir_if_the_server_is_given_up() {
    let server = server();
    let mut world = World::without_mta(&[]);
    let socket = world.path("lmtp");
    world.configure(&format!("lmtp {socket}\nretry-schedule 1h\n"));
    world.start();
    let hop = format!("lmtp:{socket}");
    let first = Client::of(&world).mail("x@a.test", &["bob@mta.test"], &letter("first"));
    let second = Client::of(&world).mail("x@a.test", &["carol@mta.test"], &letter("second"));
    let waiting = "SELECT count(*) FROM outbound_work_queue WHERE state = 'WQ_PENDING_XMIT' AND last_error LIKE '%lmtp%'";
    world.wait_for_sql(waiting, "2");
    let why = world.ask(&format!("why {first}")).text;
    assert!(why.contains(&format!("cannot connect to {socket}: ")), "{why}");
    assert!(world.show("hops").contains(&hop), "{}", world.show("hops"));
    // Without the server they would come back to ourselves: they stay, and an operator decides.
    assert_eq!(world.terminate().0, Some(0));
    world.configure("retry-schedule 1h\n");
    world.start();
    let retried = world.ask(&format!("queue retry --hop {hop}"));
    assert_eq!(retried.status, 0, "{retried:?}");
    world.wait_for_sql("SELECT max(attempts) > 1 FROM outbound_work_queue", "1");
    for verb in ["hold", "release"] {
        assert_eq!(world.ask(&format!("queue {verb} {second}")).status, 0);
    }
    assert_eq!(world.wait_for_letters("carol@mta.test", 1).len(), 1);
    bridge(Path::new(&socket), server.address());
    assert_eq!(world.ask(&format!("queue retry {first}")).status, 0);
    server.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    assert_eq!(
        server.look(|seen| seen.accepted().map(delivered).collect::<Vec<_>>()),
        ["bob@mta.test"]
    );
    world.wait_for_sql(NOBODY_WAITS, "0");
    // Where nothing is answered, a stop waits no longer than for any other host.
    server.hang_at(Stage::Dot);
    // In the sandbox, too, the socket is there.
    world.configure(&format!("lmtp {socket}\nsandbox on\n"));
    assert_eq!(world.terminate().0, Some(0));
    world.start();
    Client::of(&world).mail("x@a.test", &["bob@mta.test"], &letter("third"));
    server.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    let (status, took) = world.terminate();
    assert!(status == Some(0) && took.as_secs() < 12, "{status:?} {took:?}");
}
