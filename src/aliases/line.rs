//! The lines of an aliases file: what begins with white space continues the line before; comments and empty
//! lines are passed over, even between the two.
//!
//! Pure. Never knows what a line says.

use std::iter::Peekable;

/// Longest line in octets, with what continues it.
const MAX_LINE: usize = 64 << 10;

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The number of its first line in the file, counted from 1.
    pub number: usize,
    /// What it says, with an LF for each line that ended in it.
    pub text: String,
}

impl Line {
    /// The number of the line in the file that the octet `at` of the text stands in.
    pub(super) fn number_at(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        self.number + before.iter().filter(|octet| **octet == b'\n').count()
    }
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Its number in the file, counted from 1.
    pub number: usize,
    /// What was expected.
    pub what: String,
}

/// The lines of an aliases file.
pub(super) fn continued(text: &[u8]) -> impl Iterator<Item = Result<Line, Broken>> {
    let mut pieces = pieces(text).peekable();
    std::iter::from_fn(move || {
        loop {
            match pieces.next()? {
                Ok(Piece { text: "", .. }) => {}
                Ok(piece) if piece.continues() => {
                    while pieces.next_if(goes_on).is_some() {}
                    let what = "expected no white space before a line that continues none".to_owned();
                    return Some(Err(Broken {
                        number: piece.number,
                        what,
                    }));
                }
                Ok(piece) => return Some(joined(piece, &mut pieces)),
                Err(broken) => {
                    while pieces.next_if(goes_on).is_some() {}
                    return Some(Err(broken));
                }
            }
        }
    })
}

/// The lines of an included file: none continues another.
pub(super) fn single(text: &[u8]) -> impl Iterator<Item = Result<Line, Broken>> {
    pieces(text)
        .filter(|piece| !matches!(piece, Ok(Piece { text: "", .. })))
        .map(|piece| {
            piece.map(|piece| Line {
                number: piece.number,
                text: piece.text.to_owned(),
            })
        })
}

/// A line as the file has it, without its end; empty for one that says nothing.
struct Piece<'t> {
    number: usize,
    text: &'t str,
}

impl Piece<'_> {
    fn continues(&self) -> bool {
        self.text.starts_with([' ', '\t'])
    }
}

/// Whether a line belongs to the one before.
fn goes_on(piece: &Result<Piece<'_>, Broken>) -> bool {
    matches!(piece, Ok(piece) if piece.text.is_empty() || piece.continues())
}

fn joined<'t>(
    first: Piece<'t>,
    pieces: &mut Peekable<impl Iterator<Item = Result<Piece<'t>, Broken>>>,
) -> Result<Line, Broken> {
    let number = first.number;
    let mut octets = first.text.len();
    let mut text = first.text.to_owned();
    while let Some(Ok(piece)) = pieces.next_if(goes_on) {
        octets += piece.text.len();
        text.push('\n');
        if octets <= MAX_LINE {
            text.push_str(piece.text);
        }
    }
    if octets > MAX_LINE {
        return Err(too_long(number));
    }
    Ok(Line { number, text })
}

fn pieces(text: &[u8]) -> impl Iterator<Item = Result<Piece<'_>, Broken>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text); // some editors begin a file with a mark
    let numbered = text.split(|octet| *octet == b'\n').zip(1..);
    numbered.map(|(line, number)| {
        if line.len() > MAX_LINE {
            return Err(too_long(number));
        }
        let Ok(text) = str::from_utf8(line) else {
            let what = "expected text in UTF-8".to_owned();
            return Err(Broken { number, what });
        };
        let says = text.trim();
        let text = if says.is_empty() || says.starts_with('#') {
            ""
        } else {
            text.trim_end()
        };
        Ok(Piece { number, text })
    })
}

fn too_long(number: usize) -> Broken {
    let what =
        "expected a line of at most 64K with all that continues it; longer lists go into an :include: file";
    Broken {
        number,
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Vec<(usize, String)> {
        continued(text)
            .map(|line| match line {
                Ok(line) => (line.number, line.text),
                Err(broken) => (broken.number, format!("! {}", broken.what)),
            })
            .collect()
    }

    #[test]
    fn white_space_continues_and_comments_do_not_end_what_is_continued() {
        let text = b"\xef\xbb\xbf# all\r\na: b,\r\n c,\r\n  # not d\r\n\r\n\te\r\n\r\nf: g\n \nh: i";
        let lines: Vec<Line> = continued(text).map(Result::unwrap).collect();
        let texts: Vec<_> = lines
            .iter()
            .map(|line| (line.number, line.text.as_str()))
            .collect();
        assert_eq!(texts, [(2, "a: b,\n c,\n\n\n\te\n"), (8, "f: g\n"), (10, "h: i")]);
        let at = |word| lines[0].number_at(lines[0].text.find(word).unwrap());
        assert_eq!((at("b"), at("c"), at("e")), (2, 3, 6));
        assert_eq!(lines[0].number_at(1000), 2);
    }

    #[test]
    fn a_line_that_continues_none_is_told_once() {
        let told = read(b"\n # x\n a\n b\nc: d\n");
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].0, 3);
        assert!(told[0].1.starts_with("! expected no white space"), "{told:?}");
        assert_eq!(told[1], (5, "c: d\n".to_owned()));
    }

    #[test]
    fn long_lines_and_other_character_sets_are_told_and_the_rest_is_read() {
        let piece = format!("\n {}", "x".repeat(MAX_LINE / 2));
        let text = format!("a:{piece}{piece}{piece}\nb: c\nd: {}\nlast", "y".repeat(MAX_LINE));
        let told = read(text.as_bytes());
        assert_eq!(
            told.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [1, 5, 6, 7]
        );
        assert!(told[0].1.contains("at most 64K") && told[2].1.contains("at most 64K"));
        assert!(read(b"a: b\n \xff\n c\nd: e")[1].1.contains("UTF-8"));
        let text = [b"a:".to_vec(), vec![b'x'; MAX_LINE - 2]].concat();
        assert_eq!(read(&text)[0].1.len(), MAX_LINE);
    }

    #[test]
    fn lines_of_an_included_file_stand_alone() {
        let lines: Vec<_> = single(b"a\r\n# x\n\n b, c\n").map(Result::unwrap).collect();
        let texts: Vec<_> = lines.iter().map(|l| (l.number, l.text.as_str())).collect();
        assert_eq!(texts, [(1, "a"), (4, " b, c")]);
    }

    proptest! {
        #[test]
        fn no_file_is_beyond_reading(text in any::<Vec<u8>>()) {
            prop_assert!(continued(&text).count() <= text.len() + 1);
            prop_assert!(single(&text).count() <= text.len() + 1);
        }
    }
}
