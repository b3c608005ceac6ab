//! The answer to a frame that does not fit: ICMP fragmentation needed (RFC 1191) or ICMPv6 packet too big (RFC 4443 3.2).
//!
//! The switch has no address of its own, so the answer bears the destination's: the sender's stack looks only at the
//! quoted packet. A sender without DF gets it too, since a switch cannot fragment for it.

use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet,
    IpProtocol, Ipv4Packet, Ipv6Packet,
};
use vswitch_core::Frame;
use vswitch_core::wire::vlan::TAG_LEN;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const ICMP: usize = 8;
/// IPv4: the header and 8 bytes tell the flow (RFC 792); more helps tunnels, 576 in all is the classic bound.
const QUOTE_V4: usize = 576 - IPV4 - ICMP;
/// IPv6: as much as fits the least MTU (RFC 4443 3.2).
const QUOTE_V6: usize = 1280 - IPV6 - ICMP;

/// The frame that tells the sender of `refused` to send packets of at most `mtu` bytes; it goes out on the port that
/// `refused` came in on. `None` where no answer may be given: to a group, to a fragment other than the first, to an
/// ICMP error, to anything but IP.
pub(crate) fn answer(refused: &Frame, mtu: u16) -> Option<Frame> {
    let tag = refused.tag();
    let bytes = refused.bytes();
    let behind_macs = if tag.is_some() { 12 + TAG_LEN } else { 12 };
    let ethertype = u16::from_be_bytes(bytes.get(behind_macs..behind_macs + 2)?.try_into().ok()?);
    let packet = bytes.get(behind_macs + 2..)?;
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    let (source, destination) = (frame.src_addr(), frame.dst_addr());
    if !source.is_unicast() || !destination.is_unicast() {
        return None;
    }
    let ethertype = EthernetProtocol::from(ethertype);
    let answer = match ethertype {
        EthernetProtocol::Ipv4 => answer_v4(packet, mtu)?,
        EthernetProtocol::Ipv6 => answer_v6(packet, mtu)?,
        _ => return None,
    };
    let mut out = vec![0; ETHERNET + answer.len()];
    write_ethernet(&mut out, destination, source, ethertype);
    out[ETHERNET..].copy_from_slice(&answer);
    let mut out = Frame::from_bytes(&out);
    out.retag(tag);
    Some(out)
}

fn write_ethernet(out: &mut [u8], from: EthernetAddress, to: EthernetAddress, ethertype: EthernetProtocol) {
    let mut frame = EthernetFrame::new_unchecked(out);
    frame.set_src_addr(from);
    frame.set_dst_addr(to);
    frame.set_ethertype(ethertype);
}

fn answer_v4(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    // `new_checked` would want the whole packet; only the head of a super-frame may be here.
    let header = packet.get(..IPV4)?;
    let refused = Ipv4Packet::new_unchecked(header);
    let (from, to) = (refused.src_addr(), refused.dst_addr());
    let header_len = usize::from(refused.header_len());
    if refused.version() != 4 || header_len < IPV4 || refused.frag_offset() != 0 || !answerable_v4(from, to) {
        return None;
    }
    if refused.next_header() == IpProtocol::Icmp {
        // Only the queries may be answered (RFC 1122 3.2.2).
        let message = Icmpv4Message::from(*packet.get(header_len)?);
        if !matches!(message, Icmpv4Message::EchoRequest | Icmpv4Message::EchoReply) {
            return None;
        }
    }
    let quote = &packet[..packet.len().min(QUOTE_V4)];
    let total = IPV4 + ICMP + quote.len();
    let mut out = vec![0; total];
    let mut ip = Ipv4Packet::new_unchecked(&mut out[..]);
    ip.set_version(4);
    ip.set_header_len(20);
    ip.set_total_len(u16::try_from(total).ok()?);
    ip.set_dont_frag(true);
    ip.set_hop_limit(64);
    ip.set_next_header(IpProtocol::Icmp);
    ip.set_src_addr(to);
    ip.set_dst_addr(from);
    ip.fill_checksum();
    out[IPV4 + ICMP..].copy_from_slice(quote);
    let mut icmp = Icmpv4Packet::new_unchecked(&mut out[IPV4..]);
    icmp.set_msg_type(Icmpv4Message::DstUnreachable);
    icmp.set_msg_code(4);
    out[IPV4 + 6..IPV4 + 8].copy_from_slice(&mtu.to_be_bytes()); // RFC 1191 4
    Icmpv4Packet::new_unchecked(&mut out[IPV4..]).fill_checksum();
    Some(out)
}

fn answerable_v4(from: core::net::Ipv4Addr, to: core::net::Ipv4Addr) -> bool {
    let station = |ip: core::net::Ipv4Addr| !ip.is_multicast() && !ip.is_broadcast() && !ip.is_unspecified();
    station(from) && station(to)
}

fn answer_v6(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let header = packet.get(..IPV6)?;
    let refused = Ipv6Packet::new_unchecked(header);
    let (from, to) = (refused.src_addr(), refused.dst_addr());
    if refused.version() != 6 || from.is_multicast() || from.is_unspecified() || to.is_multicast() {
        return None;
    }
    // ICMPv6 errors have the high bit of the type clear (RFC 4443 2.1).
    if refused.next_header() == IpProtocol::Icmpv6 && packet.get(IPV6)? & 0x80 == 0 {
        return None;
    }
    let quote = &packet[..packet.len().min(QUOTE_V6)];
    let payload = ICMP + quote.len();
    let mut out = vec![0; IPV6 + payload];
    let mut ip = Ipv6Packet::new_unchecked(&mut out[..]);
    ip.set_version(6);
    ip.set_payload_len(u16::try_from(payload).ok()?);
    ip.set_next_header(IpProtocol::Icmpv6);
    ip.set_hop_limit(64);
    ip.set_src_addr(to);
    ip.set_dst_addr(from);
    out[IPV6 + ICMP..].copy_from_slice(quote);
    let mut icmp = Icmpv6Packet::new_unchecked(&mut out[IPV6..]);
    icmp.set_msg_type(Icmpv6Message::PktTooBig);
    icmp.set_msg_code(0);
    icmp.set_pkt_too_big_mtu(u32::from(mtu));
    icmp.fill_checksum(&to, &from);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::{Ipv4Address, Ipv6Address};
    use vswitch_core::Tag;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

    fn ethernet(to: [u8; 6], ethertype: u16, packet: &[u8]) -> Frame {
        let mut bytes = [&to[..], &A, &ethertype.to_be_bytes()].concat();
        bytes.extend_from_slice(packet);
        Frame::from_bytes(&bytes)
    }

    fn udp_v4(fragment: u16, protocol: u8) -> Vec<u8> {
        let mut packet = vec![0u8; 1600];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&1600u16.to_be_bytes());
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        (packet[8], packet[9]) = (64, protocol);
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
        packet
    }

    #[test]
    fn ipv4_gets_fragmentation_needed() {
        let mut refused = ethernet(B, 0x0800, &udp_v4(0x4000, 17));
        refused.retag(Some(Tag::from_bits(0x600a)));
        let mut answer = answer(&refused, 1450).unwrap();
        assert_eq!(answer.tag(), Some(Tag::from_bits(0x600a)));
        answer.retag(None);
        assert_eq!(answer.bytes()[..12], [A, B].concat());
        let ip = Ipv4Packet::new_checked(&answer.bytes()[14..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!((ip.src_addr(), ip.dst_addr()), (Ipv4Address::new(10, 0, 0, 2), Ipv4Address::new(10, 0, 0, 1)));
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!((icmp.msg_type(), icmp.msg_code()), (Icmpv4Message::DstUnreachable, 4));
        assert_eq!(ip.payload()[6..8], 1450u16.to_be_bytes());
        assert_eq!(icmp.data()[..20], refused.bytes()[18..38]);
        assert_eq!(ip.total_len(), 576);
    }

    #[test]
    fn ipv6_gets_packet_too_big() {
        let mut packet = vec![0u8; 1600];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&1560u16.to_be_bytes());
        (packet[6], packet[7]) = (17, 64);
        (packet[8], packet[23]) = (0xfd, 1);
        (packet[24], packet[39]) = (0xfd, 2);
        let answer = answer(&ethernet(B, 0x86dd, &packet), 1430).unwrap();
        let ip = Ipv6Packet::new_checked(&answer.bytes()[14..]).unwrap();
        assert_eq!(ip.dst_addr(), Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
        assert_eq!((icmp.msg_type(), icmp.pkt_too_big_mtu()), (Icmpv6Message::PktTooBig, 1430));
        assert_eq!(answer.len(), 14 + 1280);
    }

    #[test]
    fn no_answer() {
        let mut icmp_error = udp_v4(0, 1);
        icmp_error[20] = 3;
        let cases = [
            ("a group", ethernet([0xff; 6], 0x0800, &udp_v4(0, 17))),
            ("a later fragment", ethernet(B, 0x0800, &udp_v4(100, 17))),
            ("an ICMP error", ethernet(B, 0x0800, &icmp_error)),
            ("not IP", ethernet(B, 0x0806, &udp_v4(0, 17))),
            ("cut short", ethernet(B, 0x0800, &udp_v4(0, 17)[..19])),
            ("nothing but addresses", ethernet(B, 0x86dd, &[])),
        ];
        for (what, frame) in cases {
            assert!(answer(&frame, 1450).is_none(), "{what}");
        }
    }
}
