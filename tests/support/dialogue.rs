//! Golden dialogues: transcripts that are played against the pure session and against the live daemon.
//!
//! A transcript is a text file of lines:
//!
//! ```text
//! # a comment, anywhere
//! O: max-recipients 2           an option, as in the configuration file; before everything else
//! O: accounts bob:{PLAIN}x\n    the same, for a file: what is in it
//! EHLO                          the client says EHLO, and gets the usual answer
//! C: HELO univac.com            the client sends this and CRLF
//! C| QUIT\n                     the client sends exactly this; \r \n \0 \t \\ and \xHH are octets
//! C* 3000 x                     the same, so many times over
//! S: 250 OK                     the server answers this line; <ID> stands for a message's ID
//! S* 20 250 OK                  the same, so many times over
//! CLOSED                        the server has hung up
//! ```
//!
//! Client lines without a server line between them go out in one write. All that the server says must be
//! in the transcript, in order. Every transcript names the hostname it needs.

use std::fs;
use std::path::Path;

/// A transcript.
#[derive(Debug)]
pub struct Dialogue {
    /// The file's name without its ending.
    pub name: String,
    /// Options that the server runs with, `(name, value)`.
    pub options: Vec<(String, String)>,
    /// Who does what, in order.
    pub turns: Vec<Turn>,
}

/// One turn of a dialogue.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// The client sends these octets in one write.
    Send(Vec<u8>),
    /// The server answers this line.
    Expect(String),
    /// The server has hung up.
    Closed,
}

impl Dialogue {
    /// Every transcript in `tests/dialogues/<folder>`, by name.
    pub fn all(folder: &str) -> Vec<Dialogue> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/dialogues")
            .join(folder);
        let mut dialogues: Vec<Dialogue> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
            .map(|path| {
                let name = path.file_stem().unwrap().to_str().unwrap();
                Dialogue::parse(name, &fs::read_to_string(&path).unwrap())
            })
            .collect();
        dialogues.sort_by(|one, other| one.name.cmp(&other.name));
        dialogues
    }

    /// Reads a transcript; panics with the line that is none.
    pub fn parse(name: &str, text: &str) -> Dialogue {
        let mut dialogue = Dialogue {
            name: name.to_owned(),
            options: Vec::new(),
            turns: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}.txt:{}: {line:?}", number + 1);
            let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            match mark {
                _ if line.is_empty() || line.starts_with('#') => {}
                "O:" => {
                    let (option, value) = rest.split_once(' ').unwrap_or_else(|| panic!("{place}"));
                    assert!(dialogue.turns.is_empty(), "an option after a turn: {place}");
                    dialogue.options.push((option.to_owned(), value.to_owned()));
                }
                "C:" => dialogue.send(format!("{rest}\r\n").as_bytes()),
                "C|" => dialogue.send(&unescaped(rest).unwrap_or_else(|| panic!("bad escape: {place}"))),
                "C*" => {
                    let (times, text) = rest.split_once(' ').unwrap_or_else(|| panic!("{place}"));
                    let times = times.parse().unwrap_or_else(|_| panic!("no number: {place}"));
                    let octets = unescaped(text).unwrap_or_else(|| panic!("bad escape: {place}"));
                    dialogue.send(&octets.repeat(times));
                }
                "S:" => dialogue.turns.push(Turn::Expect(rest.to_owned())),
                "S*" => {
                    let (times, text) = rest.split_once(' ').unwrap_or_else(|| panic!("{place}"));
                    let times = times.parse().unwrap_or_else(|_| panic!("no number: {place}"));
                    let said = std::iter::repeat_with(|| Turn::Expect(text.to_owned()));
                    dialogue.turns.extend(said.take(times));
                }
                _ if line == "EHLO" => dialogue.greet(),
                _ if line == "CLOSED" => dialogue.turns.push(Turn::Closed),
                _ => panic!("not a line of a transcript: {place}"),
            }
        }
        dialogue
    }

    /// The last value given for an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let given = self.options.iter().rev().find(|(option, _)| option == name);
        given.map(|(_, value)| value.as_str())
    }

    /// EHLO, and the answer of a host without TLS.
    fn greet(&mut self) {
        self.send(b"EHLO univac.com\r\n");
        let size = self.option("max-message-size").unwrap_or("52428800");
        let most = self.option("max-recipients").unwrap_or("1000");
        let host = self.option("hostname").expect("a transcript names its hostname");
        let answer = format!(
            "250-{host}\n250-PIPELINING\n250-SIZE {size}\n250-8BITMIME\n250-SMTPUTF8\n250-CHUNKING\n\
             250-BINARYMIME\n250-DSN\n250-ENHANCEDSTATUSCODES\n250-LIMITS RCPTMAX={most}\n250 HELP"
        );
        let said = answer.lines().map(|line| Turn::Expect(line.to_owned()));
        self.turns.extend(said.collect::<Vec<_>>());
    }

    fn send(&mut self, octets: &[u8]) {
        if let Some(Turn::Send(before)) = self.turns.last_mut() {
            before.extend_from_slice(octets);
        } else {
            self.turns.push(Turn::Send(octets.to_vec()));
        }
    }
}

/// Whether a line of the server is the one that the transcript has; `<ID>` stands for any message ID.
pub fn matches(expected: &str, got: &str) -> bool {
    match expected.split_once("<ID>") {
        None => expected == got,
        Some((before, after)) => got
            .strip_prefix(before)
            .and_then(|rest| rest.split_at_checked(16))
            .is_some_and(|(id, rest)| id.bytes().all(|b| b.is_ascii_hexdigit()) && rest == after),
    }
}

/// What stands in a transcript for these octets.
pub fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            octets.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        octets.push(match characters.next()? {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let digits: String = characters.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(octets)
}

#[test]
fn a_transcript_is_read_as_its_lines_say() {
    let text =
        "# story\nO: hostname a.example\n\nC: NOOP\nC| Q\\x41\\r\nC* 3 ab\\n\nS: 250 OK <ID>.\nCLOSED\n";
    let dialogue = Dialogue::parse("story", text);
    assert_eq!(dialogue.option("hostname"), Some("a.example"));
    assert_eq!(
        dialogue.turns[0],
        Turn::Send(b"NOOP\r\nQA\rab\nab\nab\n".to_vec())
    );
    assert_eq!(
        dialogue.turns[1..],
        [Turn::Expect("250 OK <ID>.".to_owned()), Turn::Closed]
    );
    assert!(matches("250 OK <ID>.", "250 OK 0123456789ABCDEF."));
    assert!(!matches("250 OK <ID>.", "250 OK 0123456789ABCDEFG."));
    assert!(!matches("250 OK", "250 OK "));
}
