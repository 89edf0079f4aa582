//! Durations: `30s`, `5m`, `4h`, `5d`, and plain `0`.

use std::time::Duration;

use super::{Expected, Parsed, digits};

/// The units with their lengths in seconds, the longest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A duration between `least` and `most`.
///
/// # Errors
/// Says the range and the form.
pub fn parse(text: &str, least: Duration, most: Duration) -> Parsed<Duration> {
    plain(text)
        .filter(|duration| (least..=most).contains(duration))
        .ok_or_else(|| {
            let (least, most) = (self::text(least), self::text(most));
            Expected(format!(
                "a duration from {least} to {most}, such as 30s, 5m, 4h or 5d"
            ))
        })
}

/// Durations with blanks between them, at least one, at most 100.
///
/// # Errors
/// Says the range and the form.
pub fn schedule(text: &str, least: Duration, most: Duration) -> Parsed<Vec<Duration>> {
    let durations: Option<Vec<Duration>> = text
        .split_ascii_whitespace()
        .map(|word| plain(word).filter(|duration| (least..=most).contains(duration)))
        .collect();
    durations
        .filter(|durations| (1..=100).contains(&durations.len()))
        .ok_or_else(|| {
            let (least, most) = (self::text(least), self::text(most));
            Expected(format!(
                "durations from {least} to {most} with blanks between them, such as 5m 1h 4h"
            ))
        })
}

/// The shortest exact way to write a duration of whole seconds: `90m`, `5d`, `0`.
#[must_use]
pub fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    UNITS
        .iter()
        .find(|(_, length)| seconds != 0 && seconds.is_multiple_of(*length))
        .map_or_else(
            || "0".into(),
            |(unit, length)| format!("{}{unit}", seconds / length),
        )
}

fn plain(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit = text.chars().last()?;
    let length = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let number = digits(text.strip_suffix(unit)?)?;
    Some(Duration::from_secs(number.checked_mul(length)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONG: Duration = Duration::from_secs(u64::MAX);

    fn read(text: &str) -> Option<Duration> {
        parse(text, Duration::ZERO, LONG).ok()
    }

    #[test]
    fn each_unit_counts_its_seconds() {
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read("0s"), Some(Duration::ZERO));
        assert_eq!(read("30s"), Some(Duration::from_secs(30)));
        assert_eq!(read("5m"), Some(Duration::from_secs(300)));
        assert_eq!(read("4h"), Some(Duration::from_secs(14_400)));
        assert_eq!(read("5d"), Some(Duration::from_secs(432_000)));
    }

    #[test]
    fn what_is_not_a_number_and_a_unit_is_no_duration() {
        for wrong in [
            "",
            "5",
            "s",
            "-5s",
            "+5s",
            "5 s",
            "5S",
            "5min",
            "1.5h",
            "1h30m",
            "5µ",
            "99999999999999999999s",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(read("213503982334602d"), None); // more seconds than fit
    }

    #[test]
    fn the_range_is_told_in_the_same_form() {
        let told = parse("2h", Duration::from_secs(1), Duration::from_secs(3600)).unwrap_err();
        assert_eq!(
            told.to_string(),
            "expected a duration from 1s to 1h, such as 30s, 5m, 4h or 5d"
        );
    }

    #[test]
    fn a_schedule_is_never_empty() {
        let second = Duration::from_secs(1);
        assert_eq!(
            schedule(" 5m\t1h ", second, LONG),
            Ok(vec![second * 300, second * 3600])
        );
        assert!(schedule("", second, LONG).is_err());
        assert!(schedule("5m 0", second, LONG).is_err());
        assert!(schedule("5m,15m", second, LONG).is_err());
        assert!(schedule(&"5m ".repeat(101), second, LONG).is_err());
    }

    proptest! {
        #[test]
        fn every_duration_of_whole_seconds_is_read_back(seconds in any::<u64>()) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(read(&text(duration)), Some(duration));
        }
    }
}
