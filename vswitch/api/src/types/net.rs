//! Prefixes of IP addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::BadValue;

/// All addresses that begin with the same bits, like 10.0.0.0/24; one address is a prefix of its whole length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Net(IpNet);

impl Net {
    /// `ip` alone.
    #[must_use]
    pub fn host(ip: IpAddr) -> Self {
        Self(ip.into())
    }

    /// Address and length.
    #[must_use]
    pub const fn net(self) -> IpNet {
        self.0
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for Net {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
            (Ok(net), _) if net.addr() == net.network() => Ok(Self(net)),
            (Ok(net), _) => Err(BadValue::BitsBehindPrefix(net, net.trunc(), net.addr())),
            (Err(_), Ok(ip)) => Ok(Self::host(ip)),
            (Err(_), Err(_)) => Err(BadValue::NetSyntax(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Net {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<Net> for String {
    fn from(net: Net) -> Self {
        net.0.to_string()
    }
}
