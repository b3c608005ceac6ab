//! MAC addresses (IEEE 802-2014 8.2).

use core::fmt;

/// A 48-bit MAC address in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00, which no station may use as its source.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the group bit is set; true for broadcast too.
    #[must_use]
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this is ff:ff:ff:ff:ff:ff.
    #[must_use]
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether this is 00:00:00:00:00:00.
    #[must_use]
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.to_u64() == 0
    }

    /// Whether one station may own this address: neither a group nor all zero.
    #[must_use]
    #[inline]
    pub const fn is_station(self) -> bool {
        !self.is_multicast() && !self.is_zero()
    }

    /// Whether a bridge keeps frames to this group to itself: 01:80:C2:00:00:00 to 0F (IEEE 802.1Q-2022 8.6.3).
    #[must_use]
    #[inline]
    pub const fn is_bridge_reserved(self) -> bool {
        self.to_u64() >> 4 == 0x0180_c200_0000 >> 4
    }

    /// The address as the low 48 bits of a word, first octet highest.
    #[must_use]
    #[inline]
    pub const fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The address in the low 48 bits of `word`; the high 16 are ignored.
    #[must_use]
    #[inline]
    pub const fn from_u64(word: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_address() {
        let table = [
            ([0x02, 0, 0, 0, 0, 1], true, false),
            ([0; 6], false, false),
            ([0xff; 6], false, false),
            ([0x01, 0x00, 0x5e, 0, 0, 1], false, false),
            ([0x01, 0x80, 0xc2, 0, 0, 0x00], false, true),
            ([0x01, 0x80, 0xc2, 0, 0, 0x0f], false, true),
            ([0x01, 0x80, 0xc2, 0, 0, 0x10], false, false), // IS-IS: an ordinary group
        ];
        for (octets, station, reserved) in table {
            let mac = MacAddr(octets);
            assert_eq!(mac.is_station(), station, "{mac}");
            assert_eq!(mac.is_bridge_reserved(), reserved, "{mac}");
            assert_eq!(MacAddr::from_u64(mac.to_u64()), mac);
        }
    }
}
