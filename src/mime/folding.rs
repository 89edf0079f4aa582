//! The words of a field that changes, put in lines again (RFC 5322 2.2.3, RFC 2047 2).
//!
//! Words that stay and the white space between them come out as they are, but for a fold more, and without what
//! stands at the end of a line. Never cuts a word that stays, however long it is.

use memchr::memrchr;

use super::encoded_word::{Charset, EncodedWords, is_encoded_word};

/// The longest line that is made, where it can be broken (RFC 2047 2).
const LONGEST_LINE: usize = 76;
/// What is a special alone may stand behind that (RFC 5322 2.1.1).
const LONGEST_WITH_SPECIAL: usize = 78;
/// An encoded word that has less room is put on a line of its own.
const ROOM_WORTH_FILLING: usize = 40;
/// White space that is longer is not kept at the start of a line.
const LONGEST_INDENT: usize = 30;

/// What stands before the place of the next word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// The name of the field.
    Name,
    Word,
    /// An encoded word that was there, or one of ours. A decoder drops the white space between two (RFC 2047 6.2).
    EncodedWord,
    Ours,
    /// A bracket of the comment that this is within.
    Bracket,
}

/// Writes one field.
#[derive(Debug)]
pub(super) struct Folding<'o> {
    out: &'o mut Vec<u8>,
    charset: Charset,
    /// The length of the line under way.
    column: usize,
    before: Before,
    /// White space that has not been written yet, with its folds.
    blank: Vec<u8>,
    /// Text that becomes encoded words; and the white space before it.
    text: Vec<u8>,
    lead: Vec<u8>,
}

impl<'o> Folding<'o> {
    /// A field that begins like this, up to its colon.
    pub fn behind(name: &[u8], charset: Charset, out: &'o mut Vec<u8>) -> Folding<'o> {
        out.extend_from_slice(name);
        Folding {
            out,
            charset,
            column: name.len(),
            before: Before::Name,
            blank: Vec::new(),
            text: Vec::new(),
            lead: Vec::new(),
        }
    }

    /// What the octets of the field stand for.
    pub fn charset(&self) -> Charset {
        self.charset
    }

    /// Takes white space, folded or not.
    pub fn blank(&mut self, blank: &[u8]) {
        self.blank.extend_from_slice(blank);
    }

    /// Takes a word or a special that stays as it is.
    pub fn word(&mut self, word: &[u8]) {
        let is_encoded = is_encoded_word(word);
        if is_encoded && !self.text.is_empty() {
            self.text.extend(unfolded(&self.blank));
        }
        self.end_text();
        self.keep_apart();
        self.emit(word);
        self.before = if is_encoded {
            Before::EncodedWord
        } else {
            Before::Word
        };
    }

    /// Takes text that has to be encoded, in place of a word. With other such text it becomes one, with the white
    /// space between.
    pub fn text(&mut self, text: &[u8]) {
        let is_first = self.text.is_empty();
        if !is_first || self.before == Before::EncodedWord {
            self.text.extend(unfolded(&self.blank));
        }
        if is_first {
            self.lead = std::mem::take(&mut self.blank);
            if self.lead.is_empty() && self.before != Before::Bracket {
                self.lead.push(b' ');
            }
        }
        self.blank.clear();
        self.text.extend_from_slice(text);
    }

    /// Takes a bracket of a comment: the outermost, or one within. Encoded words may touch it inside
    /// (RFC 2047 5 (2)).
    pub fn bracket(&mut self, bracket: u8, is_outermost: bool) {
        self.end_text();
        if is_outermost && bracket == b'(' {
            self.keep_apart();
        }
        self.emit(&[bracket]);
        self.before = if is_outermost && bracket == b')' {
            Before::Word
        } else {
            Before::Bracket
        };
    }

    /// Ends the field, but for its line end. White space behind it is dropped.
    pub fn finish(mut self) {
        self.end_text();
    }

    /// RFC 2047 5 (3): nothing in a phrase touches an encoded word.
    fn keep_apart(&mut self) {
        if self.before == Before::Ours && self.blank.is_empty() {
            self.blank.push(b' ');
        }
    }

    fn end_text(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.text);
        let mut blank = without_trailing(std::mem::take(&mut self.lead));
        let mut words = EncodedWords::of(&text, self.charset);
        loop {
            let mut room = LONGEST_LINE.saturating_sub(self.column_behind(&blank));
            if room < ROOM_WORTH_FILLING && !words.fit(room) {
                blank = fold(&blank);
                room = LONGEST_LINE.saturating_sub(self.column_behind(&blank));
            }
            let Some(word) = words.next(room) else {
                break;
            };
            self.put(&blank);
            self.put(&word);
            blank = b"\r\n ".to_vec();
        }
        self.before = Before::Ours;
    }

    /// Writes what stays, on a line of its own if need be.
    fn emit(&mut self, item: &[u8]) {
        let mut blank = without_trailing(std::mem::take(&mut self.blank));
        let longest = if item.len() == 1 {
            LONGEST_WITH_SPECIAL
        } else {
            LONGEST_LINE
        };
        let length = item
            .iter()
            .position(|&octet| octet == b'\r')
            .unwrap_or(item.len());
        let can_break = !blank.is_empty() || self.before != Before::Name;
        if can_break && !blank.contains(&b'\n') && self.column_behind(&blank) + length > longest {
            blank = fold(&blank);
        }
        self.put(&blank);
        self.put(item);
    }

    fn column_behind(&self, octets: &[u8]) -> usize {
        match memrchr(b'\n', octets) {
            Some(at) => octets.len() - at - 1,
            None => self.column + octets.len(),
        }
    }

    fn put(&mut self, octets: &[u8]) {
        self.column = self.column_behind(octets);
        self.out.extend_from_slice(octets);
    }
}

/// White space as the start of a line.
fn fold(blank: &[u8]) -> Vec<u8> {
    let keeps = (1..=LONGEST_INDENT).contains(&blank.len()) && !blank.contains(&b'\n');
    [&b"\r\n"[..], if keeps { blank } else { b" " }].concat()
}

/// White space without what stands at the end of a line.
fn without_trailing(blank: Vec<u8>) -> Vec<u8> {
    match memrchr(b'\n', &blank) {
        Some(at) => [b"\r\n", &blank[at + 1..]].concat(),
        None => blank,
    }
}

/// White space without its folds (RFC 5322 2.2.3).
fn unfolded(blank: &[u8]) -> impl Iterator<Item = &u8> {
    blank.iter().filter(|octet| !b"\r\n".contains(octet))
}
