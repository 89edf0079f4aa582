//! Sizes in octets: `512K`, `50M`, `1G`, or a plain number; K is 1024.

use super::{Expected, Parsed, digits};

/// The units with their lengths in octets, the longest first.
const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// A size between `least` and `most` octets.
///
/// # Errors
/// Says the range and the form.
pub fn parse(text: &str, least: u64, most: u64) -> Parsed<u64> {
    plain(text)
        .filter(|octets| (least..=most).contains(octets))
        .ok_or_else(|| {
            let (least, most) = (self::text(least), self::text(most));
            Expected(format!("a size from {least} to {most}, such as 512K, 50M or 1G"))
        })
}

/// The shortest exact way to write a size: `50M`, `1000`.
#[must_use]
pub fn text(octets: u64) -> String {
    UNITS
        .iter()
        .find(|(_, length)| octets != 0 && octets.is_multiple_of(*length))
        .map_or_else(
            || octets.to_string(),
            |(unit, length)| format!("{}{unit}", octets / length),
        )
}

fn plain(text: &str) -> Option<u64> {
    let unit = text.chars().last()?.to_ascii_uppercase();
    match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, length)) => digits(&text[..text.len() - 1])?.checked_mul(*length),
        None => digits(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_unit_counts_its_octets() {
        for (text, octets) in [
            ("0", 0),
            ("1000", 1000),
            ("512K", 524_288),
            ("50M", 52_428_800),
            ("1g", 1 << 30),
        ] {
            assert_eq!(parse(text, 0, u64::MAX), Ok(octets), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number_and_a_unit_is_no_size() {
        for wrong in [
            "",
            "M",
            "-1M",
            "+1M",
            "1 M",
            "1MB",
            "1.5G",
            "1T",
            "1é",
            "99999999999999G",
        ] {
            assert!(parse(wrong, 0, u64::MAX).is_err(), "{wrong:?}");
        }
        let told = parse("2K", 1 << 20, 1 << 30).unwrap_err().to_string();
        assert_eq!(told, "expected a size from 1M to 1G, such as 512K, 50M or 1G");
    }

    proptest! {
        #[test]
        fn every_size_is_read_back(octets in any::<u64>()) {
            prop_assert_eq!(parse(&text(octets), 0, u64::MAX), Ok(octets));
        }
    }
}
