//! `queue show`: a message, as somebody at a terminal may read it, or as it is.
//!
//! Writes as it reads, however large the message is. What others have written says nothing to the terminal, unless it is
//! asked for as it is.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde_json::json;

use super::screen::clean;
use super::trace::{facts, known};
use crate::clock::Stamp;
use crate::work_queue::Perusal;

/// What is shown of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The envelope and the header.
    Header,
    /// These, and the body.
    Body,
    /// The content alone, octet for octet.
    Raw,
}

/// So much of a line is taken at once.
const PIECE: u64 = 8 << 10;

/// So much of a header, and of a body in JSON, is shown.
const MOST: usize = 1 << 20;

/// Shows this part of a message on `out`; as JSON, where that is asked for.
///
/// # Errors
/// When the content can not be read, or `out` not be written to.
pub fn show(message: Perusal, part: Part, json: bool, now: Stamp, out: &mut dyn Write) -> io::Result<()> {
    let Perusal { trace, content } = message;
    let mut content = content.map(BufReader::new);
    if part == Part::Raw {
        if let Some(content) = &mut content {
            io::copy(content, out)?;
        }
        return out.flush();
    }
    let header = match &mut content {
        Some(content) => header(content)?,
        None => String::new(),
    };
    if json {
        let mut shown = facts(&trace);
        shown["content"] = json!(content.is_some());
        shown["header"] = json!(header);
        if let (Part::Body, Some(content)) = (part, &mut content) {
            let mut body = String::new();
            while body.len() < MOST
                && let Some(piece) = piece(content)?
            {
                body.push_str(&piece);
            }
            shown["body"] = json!(body);
        }
        writeln!(out, "{shown}")?;
        return out.flush();
    }
    out.write_all(known(&trace, now).as_bytes())?;
    match &mut content {
        None => writeln!(out, "\nits content is kept no more")?,
        Some(content) => {
            write!(out, "\n{header}")?;
            if part == Part::Body {
                writeln!(out)?;
                while let Some(piece) = piece(content)? {
                    out.write_all(piece.as_bytes())?;
                }
            }
        }
    }
    out.flush()
}

/// The header, without the line that ends it; what follows is left to be read.
fn header(content: &mut impl BufRead) -> io::Result<String> {
    let mut header = String::new();
    let mut begins = true;
    while header.len() < MOST
        && let Some(piece) = piece(content)?
    {
        if begins && piece == "\n" {
            break;
        }
        begins = piece.ends_with('\n');
        header.push_str(&piece);
    }
    Ok(header)
}

/// The next line, or a piece of one that is long, such as it may be shown; `None` at the end.
fn piece(content: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut octets = Vec::new();
    if content.by_ref().take(PIECE).read_until(b'\n', &mut octets)? == 0 {
        return Ok(None);
    }
    let ended = octets.ends_with(b"\n");
    let text = String::from_utf8_lossy(&octets);
    let mut shown: String = text.split('\t').map(clean).collect::<Vec<_>>().join("\t");
    if ended {
        shown.push('\n');
    }
    Ok(Some(shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work_queue::id::MessageId;
    use crate::work_queue::{ContentReader, Trace};

    const LETTER: &[u8] = b"Subject: hello\x1b[2J\r\nTo:\tx@a.example\r\n\r\nbody \xff\x07\r\n\r\nend";

    fn shown(content: Option<&[u8]>, part: Part, json: bool) -> Vec<u8> {
        let message = Perusal {
            trace: Trace {
                id: MessageId(10_000_000),
                sender: "a@b.example".to_owned(),
                size: 7,
                ..Trace::default()
            },
            content: content.map(|octets| ContentReader::Bytes(io::Cursor::new(octets.to_vec()))),
        };
        let mut out = Vec::new();
        show(message, part, json, Stamp(0), &mut out).unwrap();
        out
    }

    fn text(content: Option<&[u8]>, part: Part) -> String {
        String::from_utf8(shown(content, part, false)).unwrap()
    }

    #[test]
    fn a_message_is_shown_as_far_as_is_asked_and_says_nothing_to_the_terminal() {
        let header = text(Some(LETTER), Part::Header);
        assert!(header.starts_with("0000000000989680 arrived "), "{header}");
        assert!(header.contains("  from        <a@b.example>\n"), "{header}");
        assert!(
            header.ends_with("\n\nSubject: hello[2J\nTo:\tx@a.example\n"),
            "{header}"
        );
        let body = text(Some(LETTER), Part::Body);
        assert_eq!(body.strip_prefix(&header), Some("\nbody \u{fffd}\n\nend"));
        assert!(text(None, Part::Body).ends_with("\nits content is kept no more\n"));
    }

    #[test]
    fn a_message_as_it_is_is_given_octet_for_octet() {
        assert_eq!(shown(Some(LETTER), Part::Raw, false), LETTER);
        assert_eq!(shown(None, Part::Raw, false), b"");
    }

    #[test]
    fn programs_get_its_parts_by_name() {
        let json = |content, part| -> serde_json::Value {
            serde_json::from_slice(&shown(content, part, true)).unwrap()
        };
        let header = json(Some(LETTER), Part::Header);
        assert_eq!(header["header"], "Subject: hello[2J\nTo:\tx@a.example\n");
        assert_eq!(
            (&header["body"], &header["content"]),
            (&json!(null), &json!(true))
        );
        assert_eq!(json(Some(LETTER), Part::Body)["body"], "body \u{fffd}\n\nend");
        assert_eq!(json(None, Part::Body)["content"], false);
    }

    #[test]
    fn however_long_a_line_is_it_is_shown_in_pieces() {
        let long = [
            b"Subject: ".to_vec(),
            vec![b'x'; 100_000],
            b"\r\n\r\nbody".to_vec(),
        ]
        .concat();
        let header = text(Some(&long), Part::Header);
        assert!(header.ends_with("xx\n"), "the header has an end");
        let subject = header.split_once("Subject: ").unwrap().1;
        assert_eq!(subject.matches('x').count(), 100_000);
    }
}
