//! Markup in the making: what the program itself says is taken as it is, and everything else becomes text in it.
//!
//! That nobody forgets it is seen to by the compiler: [`Markup::raw`] takes only what stands in the program.

/// A piece of HTML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markup(String);

/// A text is shown as far as this; the longest that is of use is what a host has said.
const LONGEST: usize = 400;

impl Markup {
    /// Markup of our own.
    pub fn raw(&mut self, markup: &'static str) -> &mut Markup {
        self.0.push_str(markup);
        self
    }

    /// What anybody may have written, as text, or as the value of an attribute between double quotes. Signs that control
    /// something, or the direction in which a line runs, are left out.
    pub fn text(&mut self, text: &str) -> &mut Markup {
        let mut signs = text.chars().filter(|c| is_shown(*c));
        for sign in signs.by_ref().take(LONGEST) {
            match sign {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                sign => self.0.push(sign),
            }
        }
        if signs.next().is_some() {
            self.0.push('…');
        }
        self
    }

    /// A number.
    pub fn number(&mut self, number: u64) -> &mut Markup {
        self.text(&grouped(number))
    }

    /// All of another piece.
    pub fn add(&mut self, other: &Markup) -> &mut Markup {
        self.0.push_str(&other.0);
        self
    }

    /// The piece, made.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Whether a sign may stand on a page: it controls nothing. Those that are left out above U+0100 turn a line around, or
/// are not seen at all.
fn is_shown(sign: char) -> bool {
    let is_hidden = matches!(
        sign,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !sign.is_control() && !is_hidden
}

/// A number in groups of three digits, with a thin space that does not break between them.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        let mut markup = Markup::default();
        markup.text(text);
        markup.into_string()
    }

    #[test]
    fn whatever_text_says_it_stays_text() {
        assert_eq!(
            text("</td><script>alert('x')</script>&amp;\" onload=\"y"),
            "&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp;&quot; onload=&quot;y"
        );
        assert_eq!(text("a\u{1b}[2J\r\nb\u{202e}c\u{200b}d\0é€\u{9b}"), "a[2Jbcdé€");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(text(&"x".repeat(LONGEST)), "x".repeat(LONGEST));
        assert_eq!(text(&"<".repeat(LONGEST + 1)), "&lt;".repeat(LONGEST) + "…");
    }

    #[test]
    fn numbers_are_read_in_groups() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1\u{202f}000");
        assert_eq!(grouped(12_345_678), "12\u{202f}345\u{202f}678");
    }
}
