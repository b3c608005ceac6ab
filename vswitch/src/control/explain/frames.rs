//! Frames in a station's name: the question who has an address, and a packet from one to the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscRepr,
};
use vswitch_core::MacAddr;

/// EtherTypes.
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// For experiments of one's own (IEEE 802-2014 9.2.4): where nothing is known but MAC addresses.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

/// The link-local address of a host with this MAC address (RFC 4291 appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn ethernet(to: MacAddr, from: MacAddr, ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &ethertype, packet].concat();
    frame.resize(frame.len().max(60), 0); // the least that Ethernet carries
    frame
}

/// The question of `from`, which has one of `own`, who has `ip`.
pub(super) fn who_has(from: MacAddr, own: &[IpAddr], ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => {
            let own = own.iter().find_map(|own| if let IpAddr::V4(own) = own { Some(*own) } else { None });
            arp(from, own.unwrap_or(Ipv4Addr::UNSPECIFIED), ip)
        }
        IpAddr::V6(ip) => {
            let own = own.iter().find_map(|own| if let IpAddr::V6(own) = own { Some(*own) } else { None });
            solicitation(from, own.unwrap_or_else(|| link_local(from)), ip)
        }
    }
}

fn arp(from: MacAddr, own: Ipv4Addr, ip: Ipv4Addr) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(from.0),
        source_protocol_addr: own,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: ip,
    };
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut packet[..]));
    ethernet(MacAddr::BROADCAST, from, ARP, &packet)
}

fn solicitation(from: MacAddr, own: Ipv6Addr, ip: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = ip.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]); // RFC 4291 2.7.1
    let lladdr = Some(smoltcp::wire::RawHardwareAddress::from(EthernetAddress(from.0)));
    let icmp = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: ip, lladdr });
    let packet = ipv6(own, group, 255, &icmp);
    ethernet(MacAddr([0x33, 0x33, 0xff, a, b, c]), from, IPV6, &packet)
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, icmp: &Icmpv6Repr<'_>) -> Vec<u8> {
    let head = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit,
    };
    let mut packet = vec![0; head.buffer_len() + icmp.buffer_len()];
    let mut view = Ipv6Packet::new_unchecked(&mut packet[..]);
    head.emit(&mut view);
    icmp.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(view.payload_mut()), &ChecksumCapabilities::default());
    packet
}

/// A packet from one station to another: an echo request where both have an address of the same IP.
pub(super) fn packet(from: (MacAddr, &[IpAddr]), to: (MacAddr, &[IpAddr])) -> Vec<u8> {
    let mut both = from.1.iter().flat_map(|own| to.1.iter().map(move |other| (*own, *other)));
    both.find_map(|(own, other)| echo((from.0, own), (to.0, other), 0, 0))
        .unwrap_or_else(|| ethernet(to.0, from.0, EXPERIMENTAL, &[]))
}

/// An echo request; `None` where one has an IPv4 address and the other one of IPv6.
pub(super) fn echo(from: (MacAddr, IpAddr), to: (MacAddr, IpAddr), ident: u16, seq_no: u16) -> Option<Vec<u8>> {
    let caps = ChecksumCapabilities::default();
    match (from.1, to.1) {
        (IpAddr::V4(own), IpAddr::V4(other)) => {
            let icmp = Icmpv4Repr::EchoRequest { ident, seq_no, data: &[] };
            let head = Ipv4Repr {
                src_addr: own,
                dst_addr: other,
                next_header: IpProtocol::Icmp,
                payload_len: icmp.buffer_len(),
                hop_limit: 64,
            };
            let mut packet = vec![0; head.buffer_len() + icmp.buffer_len()];
            let mut view = Ipv4Packet::new_unchecked(&mut packet[..]);
            head.emit(&mut view, &caps);
            icmp.emit(&mut Icmpv4Packet::new_unchecked(view.payload_mut()), &caps);
            Some(ethernet(to.0, from.0, IPV4, &packet))
        }
        (IpAddr::V6(own), IpAddr::V6(other)) => {
            let icmp = Icmpv6Repr::EchoRequest { ident, seq_no, data: &[] };
            Some(ethernet(to.0, from.0, IPV6, &ipv6(own, other, 64, &icmp)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_core::wire::speaker;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

    #[test]
    fn questions_say_who_asks() {
        let v4 = "10.0.0.1".parse().unwrap();
        let v6 = "fd00::1".parse().unwrap();
        let table = [
            (vec![v4, v6], "10.0.0.2", Some(v4)),
            (vec![v4, v6], "fd00::2", Some(v6)),
            (vec![], "10.0.0.2", None),
            (vec![v4], "fd00::2", Some("fe80::ff:fe00:a".parse().unwrap())),
        ];
        for (own, ip, said) in table {
            let question = who_has(A, &own, ip.parse().unwrap());
            assert_eq!(speaker(&question), said.map(|said| (A, said)), "{own:?} asks for {ip}");
            assert_eq!(question[0] & 1, 1, "for many");
        }
    }

    #[test]
    fn packets_are_of_an_ip_that_both_have() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (v4, v6) = ([ip("10.0.0.1")], [ip("fd00::1")]);
        for (own, other, ethertype) in
            [(&v4[..], &v4[..], IPV4), (&v6, &v6, IPV6), (&v4, &v6, EXPERIMENTAL), (&[], &v4, EXPERIMENTAL)]
        {
            let packet = packet((A, own), (B, other));
            assert_eq!(packet[..12], [B.0, A.0].concat());
            assert_eq!(packet[12..14], ethertype, "{own:?} {other:?}");
        }
        let packet = packet((A, &v4), (B, &v4));
        assert!(Ipv4Packet::new_checked(&packet[14..]).unwrap().verify_checksum());
    }
}
