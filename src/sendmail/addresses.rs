//! Lists of addresses, as they stand in To, Cc and Bcc and on command lines (RFC 5322 3.4, and what 4.4 says of old
//! forms): names, comments, quoted strings, groups and routes go, addresses stay. Pure.

use std::fmt;

/// An address of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The local part, with its quotes if it has any.
    pub local: String,
    /// The domain, if there is one.
    pub domain: Option<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = match &self.domain {
            Some(domain) => format!("{}@{domain}", self.local),
            None => self.local.clone(),
        };
        // It may be anybody's, and is told on a terminal.
        write!(f, "{}", told.escape_debug())
    }
}

/// Why a list can not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadList(&'static str);

impl std::error::Error for BadList {}

impl fmt::Display for BadList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A piece of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    /// An atom, a quoted string or a literal, as it stands.
    Word(&'t str),
    /// One of the signs that have a meaning.
    Sign(char),
}

/// The addresses of a list, in their order; none of an empty list or group.
///
/// # Errors
/// When something in it is no address.
pub fn addresses(list: &str) -> Result<Vec<Address>, BadList> {
    let mut found = Vec::new();
    // What stands outside of angle brackets, and within them.
    let (mut outside, mut inside): (Vec<Token<'_>>, Option<Vec<Token<'_>>>) = (Vec::new(), None);
    let mut is_open = false;
    for token in tokens(list)? {
        match (token, &mut inside) {
            (Token::Sign('>'), Some(_)) if is_open => is_open = false,
            (Token::Sign('<'), Some(_)) => return Err(BadList("there is a < too many")),
            (token, Some(inside)) if is_open => inside.push(token),
            (Token::Sign(',' | ';'), _) => found.extend(address(&mut outside, inside.take())?),
            (Token::Sign('<'), None) => {
                inside = Some(Vec::new());
                is_open = true;
            }
            (Token::Sign('>'), _) => return Err(BadList("there is a > too many")),
            // What stood before it is the name of a group.
            (Token::Sign(':'), None) => outside.clear(),
            (_, Some(_)) => return Err(BadList("there is something behind a >")),
            (token, None) => outside.push(token),
        }
    }
    if is_open {
        return Err(BadList("there is a > missing"));
    }
    found.extend(address(&mut outside, inside)?);
    Ok(found)
}

/// The address that has come to its end; `None` between two commas.
fn address(outside: &mut Vec<Token<'_>>, inside: Option<Vec<Token<'_>>>) -> Result<Option<Address>, BadList> {
    let outside = std::mem::take(outside);
    let tokens = match inside {
        // RFC 5322 4.4: a route says the way, and is ignored.
        Some(inside) => match inside.iter().rposition(|token| *token == Token::Sign(':')) {
            Some(at) => inside[at + 1..].to_vec(),
            None => inside,
        },
        None if outside.is_empty() => return Ok(None),
        None => outside,
    };
    let is_word = |token: &Token<'_>| matches!(token, Token::Word(_));
    if tokens.windows(2).any(|two| two.iter().all(is_word)) {
        return Err(BadList("there is a comma missing, or < and > around an address"));
    }
    let at = tokens.iter().rposition(|token| *token == Token::Sign('@'));
    let text = |tokens: &[Token<'_>]| -> String {
        let mut text = String::new();
        for token in tokens {
            match token {
                Token::Word(word) => text.push_str(word),
                Token::Sign(sign) => text.push(*sign),
            }
        }
        text
    };
    let (local, domain) = match at {
        Some(at) => (text(&tokens[..at]), Some(text(&tokens[at + 1..]))),
        None => (text(&tokens), None),
    };
    if local.is_empty() {
        return Err(BadList("there is an address without a local part"));
    }
    Ok(Some(Address { local, domain }))
}

/// Cuts a list into pieces; white space and comments go.
fn tokens(list: &str) -> Result<Vec<Token<'_>>, BadList> {
    let mut tokens = Vec::new();
    let mut rest = list;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' => comment(rest).ok_or(BadList("there is a ) missing"))?,
            blank if blank.is_ascii_whitespace() => 1,
            '"' => {
                let length = quoted(rest).ok_or(BadList("there is a \" missing"))?;
                tokens.push(Token::Word(&rest[..length]));
                length
            }
            '[' => {
                let length = rest.find(']').ok_or(BadList("there is a ] missing"))? + 1;
                tokens.push(Token::Word(&rest[..length]));
                length
            }
            sign if is_sign(sign) => {
                tokens.push(Token::Sign(sign));
                1
            }
            _ => {
                let is_end = |c: char| c.is_ascii_whitespace() || "(\"[".contains(c) || is_sign(c);
                let length = rest.find(is_end).unwrap_or(rest.len());
                tokens.push(Token::Word(&rest[..length]));
                length
            }
        };
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn is_sign(character: char) -> bool {
    ",;:<>@.".contains(character)
}

/// The length of the comment at the front; comments may hold others.
fn comment(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(at + 1),
            ')' => depth -= 1,
            '\\' => _ = characters.next(),
            _ => {}
        }
    }
    None
}

/// The length of the quoted string at the front.
fn quoted(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some(at + 1),
            '\\' => _ = characters.next(),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(list: &str) -> Vec<String> {
        let found = addresses(list).unwrap_or_else(|bad| panic!("{list:?}: {bad}"));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_of_every_form_are_found() {
        for (list, expected) in [
            ("", &[][..]),
            (" \r\n ", &[]),
            ("root", &["root"]),
            ("a@b.example", &["a@b.example"]),
            ("a@b, c@d,e@f", &["a@b", "c@d", "e@f"]),
            (",,a@b,, c ,", &["a@b", "c"]),
            ("Bob Smith <bob@a.example>", &["bob@a.example"]),
            ("\"Smith, Bob\" <bob@a.example>, amy", &["bob@a.example", "amy"]),
            ("John Q. Public <jqp@a.example>", &["jqp@a.example"]),
            ("bob@a.example <bob@a.example>", &["bob@a.example"]),
            ("<bob@a.example> (Bob), <amy>", &["bob@a.example", "amy"]),
            ("bob@a.example (Bob (the (first)) \\) <x@y>)", &["bob@a.example"]),
            (
                "(one)bob(two)@(three)a(four).(five)example(six)",
                &["bob@a.example"],
            ),
            ("bob @ a . example", &["bob@a.example"]),
            ("bob@a\r\n .example", &["bob@a.example"]),
            ("undisclosed-recipients:;", &[]),
            ("A Group: bob@a, Amy <amy@b>; c@d", &["bob@a", "amy@b", "c@d"]),
            ("Friends:;, c@d", &["c@d"]),
            ("a@b; c@d;", &["a@b", "c@d"]),
            ("<@relay.example,@b.example:bob@a.example>", &["bob@a.example"]),
            (
                "bob@[192.0.2.1], amy@[IPv6:2001:db8::1]",
                &["bob@[192.0.2.1]", "amy@[IPv6:2001:db8::1]"],
            ),
            (
                "=?utf-8?Q?J=C3=B6rg?= <j@a>, Jörg <jörg@bü.example>",
                &["j@a", "jörg@bü.example"],
            ),
            ("x=y+z/5%b!c@d", &["x=y+z/5%b!c@d"]),
        ] {
            assert_eq!(read(list), expected, "{list:?}");
        }
        let quoted = addresses("\"a, \\\"b\\\"@<\"@c.example").unwrap();
        assert_eq!(quoted[0].local, "\"a, \\\"b\\\"@<\"");
        assert_eq!(quoted[0].domain.as_deref(), Some("c.example"));
    }

    #[test]
    fn what_is_no_address_is_told() {
        for list in [
            "Bob Smith",
            "bob@a.example amy@b.example",
            "Bob <bob@a.example",
            "Bob bob@a.example>",
            "<<bob@a.example>>",
            "<a@b> <c@d>",
            "<bob@a.example> Smith",
            "<>",
            "<@relay.example:>",
            "@a.example",
            "bob (the first",
            "\"bob@a.example",
            "bob@[192.0.2.1",
        ] {
            assert!(addresses(list).is_err(), "{list:?}");
        }
    }

    proptest! {
        #[test]
        fn no_list_stops_the_reader(list in "([a-c@<>,;:. \\x0c()\"\\\\\\[\\]]|ü|\r\n){0,60}") {
            let _ = addresses(&list);
        }
    }
}
