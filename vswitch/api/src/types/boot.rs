//! Which run of a kernel something belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BadValue;

/// A boot of a host, told from all others: what `/proc/sys/kernel/random/boot_id` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(u128);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

impl FromStr for BootId {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::BootId(text.to_owned());
        let digits: String = text.split('-').collect();
        let boot = u128::from_str_radix(&digits, 16).map(Self).map_err(|_| bad())?;
        // Written as the kernel does, and not otherwise.
        if boot.to_string() == text { Ok(boot) } else { Err(bad()) }
    }
}

impl TryFrom<String> for BootId {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<BootId> for String {
    fn from(boot: BootId) -> Self {
        boot.to_string()
    }
}
