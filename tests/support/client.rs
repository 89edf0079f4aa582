//! A client for tests: speaks SMTP as far as it is told to, one command at a time or many in one write.

#![allow(dead_code)] // each test uses what it needs

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::SupportedProtocolVersion;

use super::stream::Stream;
use super::world::{PATIENCE, World};

/// A small letter.
pub fn letter(subject: &str) -> Vec<u8> {
    format!(
        "From: Bob Smith <bsmith@univac.com>\r\nTo: jdoe@ibm.com\r\nSubject: {subject}\r\n\r\nHello World\r\n"
    )
    .into_bytes()
}

/// A letter of this many octets in its body.
pub fn big_letter(subject: &str, octets: usize) -> Vec<u8> {
    let line = [&[b'x'; 76][..], b"\r\n"].concat();
    [letter(subject), line.repeat(octets / line.len())].concat()
}

/// A session with an MTA.
pub struct Client {
    reader: BufReader<Stream>,
}

impl Client {
    /// Connects, and says and hears nothing yet.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap()
    }

    fn try_connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(Stream::Plain(stream));
        Ok(Client { reader })
    }

    /// Connects to the MTA of `world` and gets as far as the answer to EHLO.
    #[track_caller]
    pub fn of(world: &World) -> Client {
        Client::try_greet(world.address()).unwrap()
    }

    /// Connects and gets as far as the answer to EHLO.
    ///
    /// # Errors
    /// When it gets less far.
    pub fn try_greet(address: SocketAddr) -> io::Result<Client> {
        let mut client = Client::try_connect(address)?;
        let greeting = client.try_reply()?;
        client.send(b"EHLO univac.com\r\n")?;
        let hello = client.try_reply()?;
        if greeting.starts_with("220 ") && hello.starts_with("250") {
            Ok(client)
        } else {
            Err(io::Error::other(format!("{greeting}\n{hello}")))
        }
    }

    /// Goes on in TLS, of one of these versions.
    #[track_caller]
    pub fn begin_tls(self, versions: &[&'static SupportedProtocolVersion]) -> Client {
        self.try_tls(versions)
            .unwrap_or_else(|error| panic!("no TLS: {error}"))
    }

    /// The same, which may go wrong.
    ///
    /// # Errors
    /// When the server does not shake hands.
    pub fn try_tls(self, versions: &[&'static SupportedProtocolVersion]) -> io::Result<Client> {
        assert!(self.reader.buffer().is_empty(), "something was said before TLS");
        let Stream::Plain(socket) = self.reader.into_inner() else {
            panic!("TLS in TLS");
        };
        let reader = BufReader::new(Stream::begin_tls(socket, versions)?);
        Ok(Client { reader })
    }

    /// What it speaks over.
    pub fn stream(&self) -> &Stream {
        self.reader.get_ref()
    }

    /// What it speaks over; the session is the caller's from now on.
    pub fn into_stream(self) -> Stream {
        self.reader.into_inner()
    }

    /// What it speaks over, past what was heard and not read.
    pub fn stream_mut(&mut self) -> &mut Stream {
        self.reader.get_mut()
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next reply; the lines of a long one joined by LF.
    pub fn try_reply(&mut self) -> io::Result<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let more = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line);
            if !more {
                return Ok(lines.join("\n"));
            }
        }
    }

    /// The next reply, which must come.
    #[track_caller]
    pub fn reply(&mut self) -> String {
        self.try_reply()
            .unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(octets)
    }

    /// Says a command, and gives the reply.
    #[track_caller]
    pub fn say(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).unwrap();
        self.reply()
    }

    /// Sends a message: MAIL, RCPT and DATA in one write, the content in another. Gives the last reply that
    /// there was.
    ///
    /// # Errors
    /// When the connection broke: nobody knows whether the message was taken.
    pub fn try_mail(&mut self, from: &str, to: &[&str], content: &[u8]) -> io::Result<String> {
        let mut commands = format!("MAIL FROM:<{from}>\r\n");
        to.iter()
            .for_each(|to| commands += &format!("RCPT TO:<{to}>\r\n"));
        commands += "DATA\r\n";
        self.send(commands.as_bytes())?;
        let mut reply = String::new();
        for _ in 0..to.len() + 2 {
            reply = self.try_reply()?;
        }
        if !reply.starts_with("354") {
            return Ok(reply);
        }
        self.send(&stuffed(content))?;
        self.try_reply()
    }

    /// Sends a message that must be taken; gives its ID.
    #[track_caller]
    pub fn mail(&mut self, from: &str, to: &[&str], content: &[u8]) -> String {
        let reply = self.try_mail(from, to, content).unwrap();
        let id = reply.strip_prefix("250 2.6.0 Message received OK. ");
        id.unwrap_or_else(|| panic!("{from} to {to:?}: {reply}"))
            .to_owned()
    }

    /// Whether nothing has come that was not read.
    pub fn hears_nothing(&mut self) -> bool {
        let stream = self.reader.get_ref().socket();
        stream.set_nonblocking(true).unwrap();
        let heard = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        let silent = matches!(heard, Err(error) if error.kind() == ErrorKind::WouldBlock);
        silent && self.reader.buffer().is_empty()
    }

    /// Says nothing more, and gives all that still comes.
    pub fn rest(self) -> Vec<u8> {
        let _ = self.reader.get_ref().socket().shutdown(Shutdown::Write);
        self.hear_out()
    }

    /// Waits until the server hangs up; gives all that still comes.
    pub fn hear_out(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }
}

/// Content as it travels after DATA, with its final dot.
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + 5);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}
