//! Where the headers inside a frame lie. Lenient: what does not parse is no IP, and the frame is carried all the same.

use vswitch_core::wire::vlan::{ETHERTYPE, TAG_LEN};

/// Bytes of an Ethernet header without tag.
pub(crate) const ETHERNET_LEN: usize = 14;
/// Both MAC addresses; a tag stands behind them.
pub(crate) const MACS_LEN: usize = 12;

/// EtherTypes of IP.
pub(crate) const IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const IPV6: [u8; 2] = [0x86, 0xdd];
/// Bytes of a UDP header.
pub(crate) const UDP_LEN: usize = 8;
/// Protocol numbers (IANA).
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Extension headers walked at most; more are legal and nobody sends them.
const MAX_EXTENSIONS: usize = 8;

/// The version of an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// An IP header in a frame, every offset counted from the frame's first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ip {
    pub(crate) version: Version,
    /// First byte of the IP header.
    pub(crate) at: usize,
    /// First byte behind the IP header and its extensions. May lie beyond the frame.
    pub(crate) transport: usize,
    /// What stands there.
    pub(crate) protocol: u8,
    /// End of the packet by its own length field. May lie beyond the frame, and before its end where there is padding.
    pub(crate) end: usize,
    /// Part of a fragmented packet: what stands at `transport` need not be a header.
    pub(crate) fragment: bool,
    /// An IPv6 routing header is present: the pseudo-header's destination is not the header's.
    pub(crate) routed: bool,
}

/// The 16 bits at `at`, which the caller knows to exist.
#[inline]
pub(crate) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32 bits at `at`, which the caller knows to exist.
#[inline]
pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Stores `value` at `at`, which the caller knows to exist.
#[inline]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// Bytes of the outer tag: 4 or 0.
#[inline]
pub(crate) fn tag_len(frame: &[u8]) -> usize {
    if frame.len() >= MACS_LEN + TAG_LEN && frame[MACS_LEN..ETHERNET_LEN] == ETHERTYPE { TAG_LEN } else { 0 }
}

impl Ip {
    /// The IP header behind the Ethernet header and at most one tag.
    #[inline]
    pub(crate) fn find(frame: &[u8]) -> Option<Self> {
        let at = ETHERNET_LEN + tag_len(frame);
        match *frame.get(at - 2..)?.first_chunk::<2>()? {
            IPV4 => Self::v4(frame, at),
            IPV6 => Self::v6(frame, at),
            _ => None,
        }
    }

    #[inline]
    fn v4(frame: &[u8], at: usize) -> Option<Self> {
        let header = frame.get(at..)?.first_chunk::<20>()?;
        let len = usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || len < 20 {
            return None;
        }
        Some(Self {
            version: Version::V4,
            at,
            transport: at + len,
            protocol: header[9],
            end: at + usize::from(get16(header, 2)),
            fragment: get16(header, 6) & 0x3fff != 0,
            routed: false,
        })
    }

    #[inline]
    fn v6(frame: &[u8], at: usize) -> Option<Self> {
        let header = frame.get(at..)?.first_chunk::<40>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let mut ip = Self {
            version: Version::V6,
            at,
            transport: at + 40,
            protocol: header[6],
            end: at + 40 + usize::from(get16(header, 4)),
            fragment: false,
            routed: false,
        };
        if ip.protocol != TCP && ip.protocol != UDP {
            ip.skip_extensions(frame);
        }
        Some(ip)
    }

    /// RFC 8200 section 4: hop-by-hop options, destination options, routing, fragment.
    fn skip_extensions(&mut self, frame: &[u8]) {
        for _ in 0..MAX_EXTENSIONS {
            let Some(&[next, units]) = frame.get(self.transport..self.transport + 2) else { return };
            let len = match self.protocol {
                0 | 43 | 60 => 8 * (usize::from(units) + 1),
                44 => 8,
                _ => return,
            };
            self.routed |= self.protocol == 43;
            self.fragment |= self.protocol == 44;
            self.protocol = next;
            self.transport += len;
        }
    }

    /// Source and destination address as they stand in the header.
    #[inline]
    pub(crate) fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        match self.version {
            Version::V4 => &frame[self.at + 12..self.at + 20],
            Version::V6 => &frame[self.at + 8..self.at + 40],
        }
    }

    /// DSCP and ECN: the TOS octet or traffic class.
    #[inline]
    pub(crate) fn traffic_class(&self, frame: &[u8]) -> u8 {
        match self.version {
            Version::V4 => frame[self.at + 1],
            Version::V6 => frame[self.at] << 4 | frame[self.at + 1] >> 4,
        }
    }

    /// Whether nothing stands between IP header and transport header: no option, no extension, no fragment.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let len = match self.version {
            Version::V4 => 20,
            Version::V6 => 40,
        };
        self.transport == self.at + len && !self.fragment
    }
}
