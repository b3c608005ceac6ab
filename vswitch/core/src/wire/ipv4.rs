//! The IPv4 header (RFC 791 3.1), as far as it tells who sends.

use core::net::Ipv4Addr;

const IGMP: u8 = 2;
const UDP: u8 = 17;
/// Ports of a DHCP client and of a server (RFC 2131 4.1).
const CLIENT_TO_SERVER: [u8; 4] = [0, 68, 0, 67];

/// What an IPv4 packet says of who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) source: Ipv4Addr,
    /// Whether a host asks for an address by DHCP, in a packet that is whole.
    pub(crate) asks_dhcp: bool,
    /// Whether a host says which groups it listens to, in a packet that is whole.
    pub(crate) is_igmp: bool,
}

impl Sender {
    /// Reads the packet at the start of `bytes`; `None` where it is no IPv4 header or cut short.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<20>()?;
        let len = usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || len < header.len() {
            return None;
        }
        let &[.., s0, s1, s2, s3, _, _, _, _] = header;
        let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        let asks_dhcp = header[9] == UDP && !is_fragment && bytes.get(len..)?.starts_with(&CLIENT_TO_SERVER);
        let is_igmp = header[9] == IGMP && !is_fragment;
        Some(Self { source: Ipv4Addr::new(s0, s1, s2, s3), asks_dhcp, is_igmp })
    }
}
