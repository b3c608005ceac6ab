//! The headers before a datagram, as they were in all that matters: the socket that took it has left them out.

use std::net::{IpAddr, Ipv6Addr};

/// Ethernet without addresses.
const MACS: [u8; 12] = [0; 12];
const UDP: u8 = 17;
const UDP_LEN: usize = 8;
const HOPS: u8 = 64;
/// Where programs look for VXLAN, whatever port it has here.
const VXLAN: u16 = 4789;

/// Between whom a datagram went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) tos: u8,
}

/// Makes `out` what stands before a datagram of `len` bytes: Ethernet, IP, UDP. Checksums are zero, MAC addresses and the
/// source port too: they are not known any more.
pub(super) fn write(out: &mut Vec<u8>, &Ends { from, to, tos }: &Ends, len: usize) {
    out.clear();
    out.extend_from_slice(&MACS);
    let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x08, 0x00, 0x45, tos]);
            out.extend_from_slice(&short(20 + UDP_LEN + len));
            out.extend_from_slice(&[0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[0x86, 0xdd, 0x60 | tos >> 4, tos << 4, 0, 0]);
            out.extend_from_slice(&short(UDP_LEN + len));
            out.extend_from_slice(&[UDP, HOPS]);
            out.extend_from_slice(&v6(from).octets());
            out.extend_from_slice(&v6(to).octets());
        }
    }
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&VXLAN.to_be_bytes());
    out.extend_from_slice(&short(UDP_LEN + len));
    out.extend_from_slice(&[0, 0]);
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpAddress, Ipv4Packet, Ipv6Packet, UdpPacket};

    use super::*;

    #[test]
    fn another_parser_finds_the_datagram() {
        for (from, to) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
            let ends = Ends { from: from.parse().unwrap(), to: to.parse().unwrap(), tos: 3 };
            let mut bytes = vec![7];
            write(&mut bytes, &ends, 5);
            bytes.extend_from_slice(b"12345");
            let frame = EthernetFrame::new_checked(&bytes).unwrap();
            let (source, payload, tos) = match frame.ethertype() {
                EthernetProtocol::Ipv4 => {
                    let ip = Ipv4Packet::new_checked(frame.payload()).unwrap();
                    (IpAddress::from(ip.src_addr()), ip.payload(), ip.ecn())
                }
                _ => {
                    let ip = Ipv6Packet::new_checked(frame.payload()).unwrap();
                    (IpAddress::from(ip.src_addr()), ip.payload(), ip.traffic_class())
                }
            };
            assert_eq!((IpAddr::from(source), tos), (ends.from, 3));
            let udp = UdpPacket::new_checked(payload).unwrap();
            assert_eq!((udp.dst_port(), udp.payload()), (4789, &b"12345"[..]));
        }
    }
}
