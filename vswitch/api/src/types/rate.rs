//! How much a port may carry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BadValue;

/// The least rate, in bit/s.
const MIN_RATE: u64 = 1_000;
/// The greatest rate, in bit/s.
const MAX_RATE: u64 = 1_000_000_000_000;
/// Units of rates and of bytes: those of networks are decimal, those of memory are not. tc(8) reads both so.
const RATE_UNITS: [(char, u64); 4] = [('T', 1_000_000_000_000), ('G', 1_000_000_000), ('M', 1_000_000), ('k', 1_000)];
const BYTE_UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('k', 1 << 10)];

/// A rate, and how much may pass at once after a pause; written as `RATE[,BURST]`, like `10M` or `1.5G,256k`: the rate
/// in bit/s, 1k to 1T, the burst in bytes, up to 4 GiB.
///
/// A frame counts with all its bytes from the destination address on, and a super-frame with those of the frames that
/// it is cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RateLimit {
    rate: u64,
    burst: Option<u32>,
}

impl RateLimit {
    /// A limit of `rate` bit/s, and `burst` bytes at once; without one, [`Self::burst_bytes`] says how many.
    ///
    /// # Errors
    /// Where one of them is out of range.
    pub fn new(rate: u64, burst: Option<u64>) -> Result<Self, BadValue> {
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            return Err(BadValue::Rate(rate.to_string()));
        }
        let checked = |burst: u64| u32::try_from(burst).ok().filter(|&burst| burst > 0);
        let burst = burst.map(|burst| checked(burst).ok_or_else(|| BadValue::Burst(burst.to_string()))).transpose()?;
        Ok(Self { rate, burst })
    }

    /// Bits a second.
    #[must_use]
    pub const fn rate(self) -> u64 {
        self.rate
    }

    /// The burst that was asked for, in bytes.
    #[must_use]
    pub const fn burst(self) -> Option<u32> {
        self.burst
    }

    /// Bytes that pass at once: as asked for, else what the rate gives in 25 ms and at least a super-frame. Never less
    /// than the rate gives in 2 ms, which is how late a timer of milliseconds may be: the rate could not be reached.
    #[must_use]
    pub fn burst_bytes(self) -> u64 {
        let in_millis = |millis: u64| self.rate / 8 * millis / 1_000;
        let burst = self.burst.map_or_else(|| in_millis(25).max(1 << 16), u64::from);
        burst.max(in_millis(2))
    }
}

impl FromStr for RateLimit {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (rate, burst) = text.split_once(',').map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let plain = rate.trim_end_matches("bit");
        let bits = number(plain, &RATE_UNITS).ok_or_else(|| BadValue::Rate(rate.to_owned()))?;
        let bytes = |burst: &str| number(burst, &BYTE_UNITS).ok_or_else(|| BadValue::Burst(burst.to_owned()));
        Self::new(bits, burst.map(bytes).transpose()?).map_err(|error| match error {
            // As it was written.
            BadValue::Rate(_) => BadValue::Rate(rate.to_owned()),
            BadValue::Burst(_) => BadValue::Burst(burst.unwrap_or_default().to_owned()),
            other => other,
        })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.burst {
            None => shortest(self.rate, &RATE_UNITS),
            Some(burst) => shortest(self.rate, &RATE_UNITS) + "," + &shortest(burst.into(), &BYTE_UNITS),
        };
        f.pad(&text)
    }
}

impl TryFrom<String> for RateLimit {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<RateLimit> for String {
    fn from(limit: RateLimit) -> Self {
        limit.to_string()
    }
}

/// Reads `10`, `10M` and `1.5G`; `None` where it is none of that, or no whole number.
fn number(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let unit = units
        .iter()
        .find(|(letter, _)| text.ends_with([*letter, letter.to_ascii_lowercase(), letter.to_ascii_uppercase()]));
    let (digits, unit) = unit.map_or((text, 1), |(letter, unit)| (&text[..text.len() - letter.len_utf8()], *unit));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    // `parse` takes a plus sign.
    if whole.is_empty() || ![whole, part].concat().bytes().all(|byte| byte.is_ascii_digit()) || digits.ends_with('.') {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if part.is_empty() {
        return Some(whole);
    }
    let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let scaled = part.parse::<u64>().ok()?.checked_mul(unit)?;
    (scaled % scale == 0).then(|| whole.checked_add(scaled / scale))?
}

/// Writes what [`number`] reads as the same: in the greatest unit that takes at most three digits behind the point.
fn shortest(value: u64, units: &[(char, u64)]) -> String {
    for &(letter, unit) in units {
        let (whole, rest) = (value / unit, u128::from(value % unit) * 1_000);
        if whole == 0 || rest % u128::from(unit) != 0 {
            continue;
        }
        return match rest / u128::from(unit) {
            0 => format!("{whole}{letter}"),
            part => format!("{whole}.{}{letter}", format!("{part:03}").trim_end_matches('0')),
        };
    }
    value.to_string()
}

/// What a port may carry each way; nothing is limited at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// What it may send: the container's frames on their way in, as `rx` in statistics.
    pub rx: Option<RateLimit>,
    /// What it may be sent: frames to the container, as `tx` in statistics.
    pub tx: Option<RateLimit>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.rx.is_none() && self.tx.is_none()
    }
}

/// A limit, or the word `none`, which takes one away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LimitWord(pub Option<RateLimit>);

impl FromStr for LimitWord {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|limit| Self(Some(limit))) }
    }
}

impl TryFrom<String> for LimitWord {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<LimitWord> for String {
    fn from(LimitWord(limit): LimitWord) -> Self {
        limit.map_or_else(|| "none".to_owned(), Self::from)
    }
}
