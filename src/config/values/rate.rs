//! Rates: `example.org=60/1m`, `.example.org=60/1m`, `*=1000/1h`.

use std::time::Duration;

use super::{Expected, Parsed, address, duration, whole};
use crate::domain_list::pace::Rate;

/// The most messages that a rate may speak of.
const MOST: u64 = 10_000_000;
/// The longest period.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A domain, `.domain` for what is below it, or `*`, then `=`, and how many messages in which time.
///
/// # Errors
/// Says the form.
pub fn hop_rate(text: &str) -> Parsed<(String, Rate)> {
    read(text).ok_or_else(|| {
        Expected(
            "DOMAIN=N/T with N from 1 to 10000000 and T from 1s to 1d, such as example.org=60/1m, \
             .example.org=60/1m or *=1000/1h"
                .into(),
        )
    })
}

fn read(text: &str) -> Option<(String, Rate)> {
    let (pattern, rate) = text.split_once('=')?;
    let pattern = match pattern {
        "*" => pattern.to_owned(),
        _ => address::pattern(pattern).ok()?,
    };
    let (messages, per) = rate.split_once('/')?;
    let messages = usize::try_from(whole(messages, 1, MOST).ok()?).ok()?;
    let per = duration::parse(per, Duration::from_secs(1), LONGEST).ok()?;
    Some((pattern, Rate { messages, per }))
}

/// What [`hop_rate`] reads back.
#[must_use]
pub fn text(pattern: &str, rate: &Rate) -> String {
    format!("{pattern}={}", words(rate))
}

/// The rate alone: `60/1m`.
#[must_use]
pub fn words(rate: &Rate) -> String {
    format!("{}/{}", rate.messages, duration::text(rate.per))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_again_in_one_spelling() {
        for (given, shown) in [
            ("Example.ORG=60/60s", "example.org=60/1m"),
            (".example.org=1/1s", ".example.org=1/1s"),
            ("*=1000/1h", "*=1000/1h"),
            ("[192.0.2.1]=5/1d", "[192.0.2.1]=5/1d"),
        ] {
            let (pattern, rate) = hop_rate(given).unwrap();
            assert_eq!(text(&pattern, &rate), shown);
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for wrong in [
            "",
            "example.org",
            "example.org=60",
            "example.org=60/0",
            "example.org=0/1m",
            "example.org=60/2d",
            "example.org=-1/1m",
            "=60/1m",
            "*.example.org=60/1m",
            ".=60/1m",
            "example.org=60/1m/1m",
        ] {
            assert!(hop_rate(wrong).is_err(), "{wrong:?}");
        }
    }
}
