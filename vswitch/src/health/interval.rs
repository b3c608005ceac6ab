//! How often peers are probed, as people write it.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// From probe to probe, 100 ms to an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeInterval(pub(crate) Duration);

/// Why a text says no such interval.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("probe interval {0:?} is none: say 100ms to 1h, such as 500ms, 1s or 5m, or off")]
pub(crate) struct WrongInterval(String);

impl ProbeInterval {
    /// The interval that `text` writes; `None` for `off`.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, WrongInterval> {
        if text == "off" { Ok(None) } else { text.parse().map(Some) }
    }
}

impl FromStr for ProbeInterval {
    type Err = WrongInterval;
    fn from_str(text: &str) -> Result<Self, WrongInterval> {
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => 0,
        };
        let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
        let millis = millis.filter(|millis| (100..=3_600_000).contains(millis));
        millis.map(|millis| Self(Duration::from_millis(millis))).ok_or_else(|| WrongInterval(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_as_people_write_them() {
        for (text, millis) in [("100ms", 100), ("1s", 1000), ("90s", 90_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(ProbeInterval::parse(text), Ok(Some(ProbeInterval(Duration::from_millis(millis)))), "{text}");
        }
        assert_eq!(ProbeInterval::parse("off"), Ok(None));
        for text in
            ["", "1", "s", "99ms", "61m", "1.5s", "-1s", "1 s", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(ProbeInterval::parse(text), Err(WrongInterval(text.to_owned())));
        }
    }
}
