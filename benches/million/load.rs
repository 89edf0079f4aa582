//! A load of messages over a few connections that stay open, and how long each message took.
//!
//! Each message is MAIL, RCPT and DATA in one write and the content in another, as a client with PIPELINING does it.
//! Never sends a message again that failed.

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Octets of each message.
const SIZE: usize = 4096;

/// Sends `messages` messages over `sessions` connections, for somebody of `domain`; gives how long each took, in
/// ascending order.
///
/// # Errors
/// When a connection failed, or something was refused.
pub fn send(target: SocketAddr, sessions: usize, messages: usize, domain: &str) -> Result<Vec<Duration>> {
    let next = AtomicUsize::new(0);
    let session = || -> Result<Vec<Duration>> {
        let mut client = Client::connect(target)?;
        let mut times = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < messages {
            let begun = Instant::now();
            client.send(domain)?;
            times.push(begun.elapsed());
        }
        client.say("QUIT\r\n", 1)?;
        Ok(times)
    };
    let all: Result<Vec<Vec<Duration>>> = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..sessions).map(|_| scope.spawn(session)).collect();
        sessions
            .into_iter()
            .map(|session| session.join().expect("a session does not panic"))
            .collect()
    });
    let mut times = all?.concat();
    times.sort_unstable();
    Ok(times)
}

struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    content: String,
}

impl Client {
    fn connect(target: SocketAddr) -> Result<Client> {
        let writer = TcpStream::connect(target)?;
        writer.set_nodelay(true)?;
        let mut content = "Subject: a fresh one\r\n\r\n".to_owned();
        while content.len() < SIZE {
            content.push_str("A line of a message that is not read by anybody.\r\n");
        }
        content.push_str(".\r\n");
        let mut client = Client {
            reader: BufReader::new(writer.try_clone()?),
            writer,
            content,
        };
        client.say("", 1)?;
        client.say("EHLO client.example\r\n", 1)?;
        Ok(client)
    }

    fn send(&mut self, domain: &str) -> Result<()> {
        let envelope = format!("MAIL FROM:<fresh@example.org>\r\nRCPT TO:<somebody@{domain}>\r\nDATA\r\n");
        self.say(&envelope, 3)?;
        let content = std::mem::take(&mut self.content);
        let said = self.say(&content, 1);
        self.content = content;
        said
    }

    /// Writes `words` and reads so many replies, none of which may be a refusal.
    fn say(&mut self, words: &str, replies: usize) -> Result<()> {
        self.writer.write_all(words.as_bytes())?;
        let mut line = String::new();
        for _ in 0..replies {
            loop {
                line.clear();
                if self.reader.read_line(&mut line)? == 0 || !line.starts_with(['2', '3']) {
                    return Err(std::io::Error::other(format!("instead of a 2xx: {line:?}")));
                }
                if line.as_bytes().get(3) != Some(&b'-') {
                    break;
                }
            }
        }
        Ok(())
    }
}
