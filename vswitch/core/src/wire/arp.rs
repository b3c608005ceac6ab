//! ARP over Ethernet for IPv4 (RFC 826), and RARP (RFC 903), which has the same form.

use core::net::Ipv4Addr;

use crate::addr::MacAddr;

/// What an ARP packet says of who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) mac: MacAddr,
    pub(crate) ip: Ipv4Addr,
    /// Whether it asks. Who asks may have no address yet (RFC 5227 1.1).
    pub(crate) asks: bool,
}

impl Sender {
    /// Reads the packet at the start of `bytes`; `None` where it is cut short or of another form than Ethernet and IPv4.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        // Hardware type Ethernet, protocol type IPv4, lengths 6 and 4.
        let [0, 1, 8, 0, 6, 4, rest @ ..] = bytes.first_chunk::<28>()? else { return None };
        let &[op_hi, op_lo, m0, m1, m2, m3, m4, m5, i0, i1, i2, i3, ..] = rest;
        Some(Self {
            mac: MacAddr([m0, m1, m2, m3, m4, m5]),
            ip: Ipv4Addr::new(i0, i1, i2, i3),
            asks: matches!([op_hi, op_lo], [0, 1 | 3]),
        })
    }
}
