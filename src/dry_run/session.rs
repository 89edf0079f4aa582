//! `smtpmta session`: what a client would hear from an MTA of this configuration. The client's part is read from
//! standard input, ours is printed.
//!
//! Each line is taken as if the client had waited for the answer to the one before.

use std::io::{self, BufRead, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr};

use memchr::memchr;

use super::DryRunError;
use crate::addin::files::Files;
use crate::config::Config;
use crate::config::exit::Exit;
use crate::inbound::front::Front;
use crate::inbound::rehearsal::Rehearsal;
use crate::inbound::session::Client;

/// Who calls, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `--client`: from this address.
    pub client: IpAddr,
    /// `--front`: a listener of this kind.
    pub front: Front,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            client: Ipv4Addr::LOCALHOST.into(),
            front: Front::Relay,
        }
    }
}

impl Asked {
    /// Each kind of listener with its word.
    pub const FRONTS: [(&'static str, Front); 3] = [
        ("smtp", Front::Relay),
        ("submission", Front::Submission),
        ("submissions", Front::Submissions),
    ];
}

/// Lets the client speak, up to the end of `input` or of the dialogue. What is not said to it goes to `notes`.
///
/// # Errors
/// When the configuration names a file that is wrong, or this cannot be read or written.
pub fn run(
    config: &Config,
    asked: Asked,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Exit, DryRunError> {
    let reception = Files::read(config)?.reception;
    if asked.front.begins_with_tls() && reception.identity.is_none() {
        return Err(DryRunError::NoCertificate);
    }
    let address = asked.client.to_canonical();
    let client = Client {
        address,
        called: called(config, asked.front),
        front: asked.front,
        may_relay: reception.relay_from.iter().any(|block| block.contains(address)),
    };
    let mut rehearsal = Rehearsal::begin(&reception, client);
    let mut ends = LineEnds::default();
    show(&mut rehearsal, out, notes)?;
    while !rehearsal.is_over() {
        let piece = match input.fill_buf() {
            Ok(octets) => {
                let piece = memchr(b'\n', octets).map_or(octets, |at| &octets[..=at]);
                ends.made_whole(piece)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        input.consume(piece.taken);
        rehearsal.hear(&piece.octets);
        show(&mut rehearsal, out, notes)?;
        if piece.taken == 0 {
            break;
        }
    }
    Ok(Exit::Done)
}

/// The address that a client of this listener calls. One that stands for all addresses is none, and the loopback is
/// nobody's in particular.
fn called(config: &Config, front: Front) -> IpAddr {
    let listeners = match front {
        Front::Relay => &config.listen,
        Front::Submission => &config.listen_submission,
        Front::Submissions => &config.listen_submissions,
    };
    let mut named = listeners.iter().map(|listener| listener.ip().to_canonical());
    let one = named.find(|address| !address.is_unspecified());
    one.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

fn show(rehearsal: &mut Rehearsal, out: &mut dyn Write, notes: &mut dyn Write) -> io::Result<()> {
    let said = rehearsal.take_said();
    for line in said.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        out.write_all(line)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    for note in rehearsal.take_notes() {
        writeln!(notes, "session: {note}")?;
    }
    Ok(())
}

/// Makes CRLF of every line end that is not: a terminal and a file have others.
#[derive(Debug, Default)]
struct LineEnds {
    /// The last octet so far.
    last: Option<u8>,
}

/// Octets as they would have come over a connection.
struct Piece {
    octets: Vec<u8>,
    /// Of so many.
    taken: usize,
}

impl LineEnds {
    /// A piece with at most one line end, which is its last octet; an empty one is the end of the input, which ends a line.
    fn made_whole(&mut self, piece: &[u8]) -> Piece {
        let mut octets = piece.to_vec();
        let before = |octets: &[u8]| {
            octets
                .len()
                .checked_sub(2)
                .map_or(self.last, |at| Some(octets[at]))
        };
        if piece.is_empty() && !matches!(self.last, None | Some(b'\n')) {
            octets = match self.last {
                Some(b'\r') => b"\n".to_vec(),
                _ => b"\r\n".to_vec(),
            };
        } else if piece.ends_with(b"\n") && before(piece) != Some(b'\r') {
            octets.insert(octets.len() - 1, b'\r');
        }
        self.last = octets.last().copied().or(self.last);
        Piece {
            octets,
            taken: piece.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client hears that says `said`, and what is noted, by this configuration.
    fn hears(config: &Config, asked: Asked, said: &str) -> (Vec<String>, String) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut input = said.as_bytes();
        run(config, asked, &mut input, &mut out, &mut notes).unwrap();
        let lines = String::from_utf8(out).unwrap();
        let lines = lines.lines().map(str::to_owned).collect();
        (lines, String::from_utf8(notes).unwrap())
    }

    fn from(address: &str) -> Asked {
        Asked {
            client: address.parse().unwrap(),
            ..Asked::default()
        }
    }

    #[test]
    fn line_ends_become_those_of_smtp_wherever_the_pieces_fall() {
        let mut ends = LineEnds::default();
        let pieces: [&[u8]; 8] = [b"a\n", b"b\r\n", b"c", b"\n", b"d\r", b"\n", b"e", b""];
        let whole: Vec<Vec<u8>> = pieces.iter().map(|piece| ends.made_whole(piece).octets).collect();
        assert_eq!(whole.concat(), b"a\r\nb\r\nc\r\nd\r\ne\r\n");
        assert_eq!(LineEnds::default().made_whole(b"").octets, b"");
        assert_eq!(LineEnds::default().made_whole(b"\n").octets, b"\r\n");
    }

    #[test]
    fn a_client_hears_what_its_address_is_let_do() {
        let config = Config::embedded("mta.test");
        let said = "HELO there\nMAIL FROM:<a@b.test>\nRCPT TO:<x@mta.test>\nRCPT TO:<x@c.test>\nDATA\nhello\n.\nQUIT";
        let (stranger, notes) = hears(&config, from("203.0.113.7"), said);
        assert_eq!(
            stranger,
            [
                "220 mta.test ESMTP smtpmta Service Ready",
                "250 mta.test",
                "250 OK",
                "250 OK",
                "550 relaying denied",
                "354 Enter Mail, end by a line with only '.'",
                "250 Message received OK.",
                "221 Goodbye",
            ]
        );
        assert_eq!(
            notes,
            "session: a message of 7 octets from <a@b.test> to 1 would be stored; it is thrown away, and nothing is \
             queued\n"
        );
        let (friend, _) = hears(&config, from("127.0.0.1"), said);
        assert_eq!(friend[4], "250 OK");
        // IPv4 in the dress of IPv6 is IPv4.
        let (dressed, _) = hears(&config, from("::ffff:127.0.0.1"), said);
        assert_eq!(dressed[4], "250 OK");
    }

    #[test]
    fn a_dialogue_ends_with_the_input_or_when_we_hang_up() {
        let config = Config::embedded("mta.test");
        let (lines, _) = hears(&config, Asked::default(), "");
        assert_eq!(lines.len(), 1);
        let (lines, _) = hears(&config, Asked::default(), "GET / HTTP/1.1\nQUIT\n");
        assert!(lines.len() == 2 && lines[1].starts_with("5"), "{lines:?}");
    }

    #[test]
    fn a_port_where_tls_comes_first_needs_a_certificate() {
        let asked = Asked {
            front: Front::Submissions,
            ..Asked::default()
        };
        let config = Config::embedded("mta.test");
        let ended = run(&config, asked, &mut &b""[..], &mut Vec::new(), &mut Vec::new());
        assert_eq!(ended.unwrap_err().exit(), Exit::Configuration);
    }
}
