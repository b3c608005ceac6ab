//! Addresses with their prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::BadValue;

/// A host's address and the length of its subnet's prefix, like 10.0.0.2/24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

impl Cidr {
    /// The address with its prefix.
    ///
    /// # Errors
    /// Where no host can have it.
    pub fn new(net: IpNet) -> Result<Self, BadValue> {
        let ip = net.addr();
        let wide_v4 = ip.is_ipv4() && net.prefix_len() <= 30; // RFC 3021: a /31 has neither
        let why = match ip {
            _ if ip.is_unspecified() => "the unspecified address",
            _ if ip.is_multicast() => "a multicast address",
            _ if wide_v4 && ip == net.network() => "the address of its subnet",
            _ if wide_v4 && ip == net.broadcast() => "the broadcast address of its subnet",
            _ => return Ok(Self(net)),
        };
        Err(BadValue::NotHost(net, why))
    }

    /// Address and prefix.
    #[must_use]
    pub const fn net(self) -> IpNet {
        self.0
    }

    /// The address alone.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0.addr()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for Cidr {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
            (Ok(net), _) => Self::new(net),
            (Err(_), Ok(ip @ IpAddr::V4(_))) => Err(BadValue::NoPrefix(ip, 24, 32)),
            (Err(_), Ok(ip @ IpAddr::V6(_))) => Err(BadValue::NoPrefix(ip, 64, 128)),
            (Err(_), Err(_)) => Err(BadValue::AddressSyntax(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.0.to_string()
    }
}
