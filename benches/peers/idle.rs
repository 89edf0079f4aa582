//! Sessions that have said EHLO and then nothing: opened, held, asked at the end whether they are still there.
//!
//! Their clients have many addresses, 250 sessions each, for servers that count by address.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// How long a server may take over one reply.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sessions that are held until this is dropped.
#[derive(Debug)]
pub struct Idle {
    sessions: Vec<BufReader<TcpStream>>,
}

impl Idle {
    /// Opens `count` of them.
    ///
    /// # Errors
    /// Why there are fewer.
    pub fn open(target: SocketAddr, count: usize) -> Result<Idle, String> {
        let mut sessions = Vec::with_capacity(count);
        for number in 0..count {
            let session = open(target, number).map_err(|error| format!("idle session {number}: {error}"))?;
            sessions.push(session);
        }
        Ok(Idle { sessions })
    }

    /// Asks every tenth of them with NOOP.
    ///
    /// # Errors
    /// When one does not answer.
    pub fn ask(&mut self) -> Result<(), String> {
        for (number, session) in self.sessions.iter_mut().enumerate().step_by(10) {
            say(session, b"NOOP\r\n").map_err(|error| format!("idle session {number} is gone: {error}"))?;
        }
        Ok(())
    }
}

fn open(target: SocketAddr, number: usize) -> io::Result<BufReader<TcpStream>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let client = Ipv4Addr::new(127, 0, 1 + (number / 250) as u8, 1 + (number % 250) as u8);
    socket.bind(&SocketAddr::from((client, 0)).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&target.into(), PATIENCE)?;
    // No more room than a reply needs: ten thousand of them are in our own memory.
    let mut session = BufReader::with_capacity(512, TcpStream::from(socket));
    hear(&mut session)?;
    say(&mut session, b"EHLO idle.example\r\n")?;
    Ok(session)
}

fn say(session: &mut BufReader<TcpStream>, command: &[u8]) -> io::Result<()> {
    session.get_mut().write_all(command)?;
    hear(session)
}

/// A reply, which must be 2xx.
fn hear(session: &mut BufReader<TcpStream>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        if session.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        if line.starts_with('2') {
            return Ok(());
        }
        return Err(io::Error::other(line.trim_end().to_owned()));
    }
}
