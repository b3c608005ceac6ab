//! Prefixes of IP addresses (RFC 4632, RFC 4291 2.3).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::MacAddr;

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// Of IPv4.
    V4 {
        /// The first address; bits behind the prefix are zero.
        first: u32,
        /// Ones as long as the prefix.
        mask: u32,
    },
    /// Of IPv6.
    V6 {
        /// The first address; bits behind the prefix are zero.
        first: u128,
        /// Ones as long as the prefix.
        mask: u128,
    },
}

impl Prefix {
    /// The addresses that have the first `len` bits of `ip`; a length beyond 32, or 128, is that.
    #[must_use]
    pub const fn new(ip: IpAddr, len: u8) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let mask = !match u32::MAX.checked_shr(len as u32) {
                    Some(behind) => behind,
                    None => 0,
                };
                Self::V4 { first: ip.to_bits() & mask, mask }
            }
            IpAddr::V6(ip) => {
                let mask = !match u128::MAX.checked_shr(len as u32) {
                    Some(behind) => behind,
                    None => 0,
                };
                Self::V6 { first: ip.to_bits() & mask, mask }
            }
        }
    }

    /// `ip` alone.
    #[must_use]
    pub const fn host(ip: IpAddr) -> Self {
        Self::new(ip, 128)
    }

    /// The link-local address that a host makes of its MAC address (RFC 4291 appendix A).
    #[must_use]
    pub const fn link_local(mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        let octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f];
        Self::host(IpAddr::V6(Ipv6Addr::from_octets(octets)))
    }

    /// Whether `ip` is among them.
    #[must_use]
    #[inline]
    pub const fn contains_v4(self, ip: Ipv4Addr) -> bool {
        matches!(self, Self::V4 { first, mask } if ip.to_bits() & mask == first)
    }

    /// Whether `ip` is among them.
    #[must_use]
    #[inline]
    pub const fn contains_v6(self, ip: Ipv6Addr) -> bool {
        matches!(self, Self::V6 { first, mask } if ip.to_bits() & mask == first)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4 { first, mask } => write!(f, "{}/{}", Ipv4Addr::from_bits(first), mask.count_ones()),
            Self::V6 { first, mask } => write!(f, "{}/{}", Ipv6Addr::from_bits(first), mask.count_ones()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_prefix() {
        let table = [
            ("10.0.0.7", 24, "10.0.0.255", true),
            ("10.0.0.7", 24, "10.0.1.0", false),
            ("10.0.0.7", 32, "10.0.0.7", true),
            ("10.0.0.7", 32, "10.0.0.6", false),
            ("10.0.0.7", 0, "255.255.255.255", true),
            ("10.0.0.7", 0, "::", false),
            ("128.0.0.0", 1, "127.0.0.1", false),
            ("fd00::7", 64, "fd00::ffff:0:0:1", true),
            ("fd00::7", 64, "fd00:0:0:1::7", false),
            ("fd00::7", 128, "fd00::7", true),
            ("fd00::7", 128, "fd00::6", false),
            ("::", 0, "fe80::1", true),
            ("::", 0, "10.0.0.1", false),
            ("::ffff:10.0.0.1", 128, "10.0.0.1", false),
        ];
        for (ip, len, other, expected) in table {
            let prefix = Prefix::new(ip.parse().unwrap(), len);
            let contains = match other.parse().unwrap() {
                IpAddr::V4(other) => prefix.contains_v4(other),
                IpAddr::V6(other) => prefix.contains_v6(other),
            };
            assert_eq!(contains, expected, "{prefix:?} {other}");
        }
        let own = Prefix::link_local(MacAddr([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]));
        assert_eq!(own, Prefix::host("fe80::11:22ff:fe33:4455".parse().unwrap()));
    }
}
