//! The values of options: text to value and back, so that what `show config` says can be read again.
//!
//! Pure. Never knows an option's name: bounds come from the table, and an error says what was expected.

pub mod address;
pub mod domain;
pub mod duration;
pub mod rate;
pub mod size;

use std::fmt;

/// What a value should have been: `a whole number from 1 to 100000`. Shown as `expected …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(pub String);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.0)
    }
}

/// What most values are made of: the value, or what was expected in its place.
pub type Parsed<T> = Result<T, Expected>;

/// A whole number between `least` and `most`, in decimal digits without a sign.
///
/// # Errors
/// Says the range.
pub fn whole(text: &str, least: u64, most: u64) -> Parsed<u64> {
    digits(text)
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Expected(format!("a whole number from {least} to {most}")))
}

/// A minute of the day as `HH:MM`, or `never`; the value counts minutes after midnight.
///
/// # Errors
/// Says the form.
pub fn time_of_day(text: &str) -> Parsed<Option<u32>> {
    if text == "never" {
        return Ok(None);
    }
    let minute = || {
        let (hours, minutes) = text.split_once(':')?;
        let two = |text: &str, below| {
            let number = u32::try_from(digits(text)?).ok()?;
            (text.len() == 2 && number < below).then_some(number)
        };
        Some(two(hours, 24)? * 60 + two(minutes, 60)?)
    };
    minute()
        .map(Some)
        .ok_or_else(|| Expected("a time from 00:00 to 23:59, or never".into()))
}

/// `HH:MM`, or `never`.
#[must_use]
pub fn time_of_day_text(minute: Option<u32>) -> String {
    minute.map_or_else(|| "never".into(), |m| format!("{:02}:{:02}", m / 60, m % 60))
}

/// A number in decimal digits and nothing else: Rust's own parser would also take `+5`.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_no_sign_no_blank_and_a_range() {
        assert_eq!(whole("1", 1, 10), Ok(1));
        assert_eq!(whole("10", 1, 10), Ok(10));
        for wrong in [
            "",
            "0",
            "11",
            "+5",
            "-5",
            " 5",
            "5 ",
            "0x5",
            "many",
            "99999999999999999999",
        ] {
            let told = whole(wrong, 1, 10).unwrap_err().to_string();
            assert_eq!(told, "expected a whole number from 1 to 10", "{wrong:?}");
        }
    }

    #[test]
    fn a_time_of_day_has_two_digits_on_each_side() {
        assert_eq!(time_of_day("01:00"), Ok(Some(60)));
        assert_eq!(time_of_day("23:59"), Ok(Some(1439)));
        assert_eq!(time_of_day("never"), Ok(None));
        for wrong in ["1:00", "24:00", "00:60", "0100", "01:0", "01:00:00", "+1:00", ""] {
            assert!(time_of_day(wrong).is_err(), "{wrong:?}");
        }
        for text in ["00:00", "01:00", "23:59", "never"] {
            assert_eq!(time_of_day_text(time_of_day(text).unwrap()), text);
        }
    }
}
