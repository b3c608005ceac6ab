//! MAC addresses of stations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BadValue;

/// A MAC address that one station may own: neither multicast nor all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address with these octets, in transmission order.
    ///
    /// # Errors
    /// Where it is multicast or zero.
    pub fn new(octets: [u8; 6]) -> Result<Self, BadValue> {
        let mac = Self(octets);
        match octets {
            [0, 0, 0, 0, 0, 0] => Err(BadValue::MacZero),
            [first, ..] if first & 1 != 0 => Err(BadValue::MacMulticast(mac.to_string())),
            _ => Ok(mac),
        }
    }

    /// The octets in transmission order.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let syntax = || BadValue::MacSyntax(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut pairs = text.split(separator);
        for octet in &mut octets {
            let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(syntax)?;
        }
        if pairs.next().is_some() {
            return Err(syntax());
        }
        Self::new(octets)
    }
}

impl TryFrom<String> for Mac {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}
