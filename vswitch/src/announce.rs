//! What a port that comes up says to its neighbours: gratuitous ARP (RFC 5227 3) and unsolicited neighbour advertisements
//! (RFC 4861 7.2.6).
//!
//! An address that was somewhere else a moment ago is in the caches of its neighbours with the MAC address it had there, for
//! a minute or more, and the MAC address in the tables of switches with the place it had. The kernel behind the port says
//! nothing unless asked to (`arp_notify`, `ndisc_notify`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet,
    Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};
use vswitch_core::{Frame, MacAddr};

/// All nodes on the link, and how Ethernet addresses them (RFC 2464 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: EthernetAddress = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);

const ETHERNET: usize = EthernetFrame::<&[u8]>::header_len();

/// The frames, untagged, that say that each of `addresses` is at `mac`.
pub(crate) fn frames(mac: MacAddr, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Frame> {
    let mac = EthernetAddress(mac.0);
    let frame = |address| match address {
        IpAddr::V4(address) => gratuitous_arp(mac, address),
        IpAddr::V6(address) => neighbour_advertisement(mac, address),
    };
    addresses.into_iter().map(frame).collect()
}

/// A frame from `from` to `to` with `len` bytes behind its header, which `emit` writes.
fn ethernet(
    from: EthernetAddress,
    to: EthernetAddress,
    ethertype: EthernetProtocol,
    len: usize,
    emit: impl FnOnce(&mut [u8]),
) -> Frame {
    let mut bytes = vec![0; ETHERNET + len];
    let header = EthernetRepr { src_addr: from, dst_addr: to, ethertype };
    header.emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
    emit(&mut bytes[ETHERNET..]);
    Frame::from_bytes(&bytes)
}

/// A request for the own address: unlike a reply, every host may take it for what it is (RFC 5227 3).
fn gratuitous_arp(mac: EthernetAddress, address: Ipv4Addr) -> Frame {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: address,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: address,
    };
    ethernet(mac, EthernetAddress::BROADCAST, EthernetProtocol::Arp, arp.buffer_len(), |bytes| {
        arp.emit(&mut ArpPacket::new_unchecked(bytes));
    })
}

fn neighbour_advertisement(mac: EthernetAddress, address: Ipv6Addr) -> Frame {
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: address,
        lladdr: Some(mac.into()),
    });
    let ip = Ipv6Repr {
        src_addr: address,
        dst_addr: ALL_NODES,
        next_header: IpProtocol::Icmpv6,
        payload_len: advertisement.buffer_len(),
        hop_limit: 255, // RFC 4861 7.1.2: anything less came over a router
    };
    let len = ip.buffer_len() + advertisement.buffer_len();
    ethernet(mac, ALL_NODES_MAC, EthernetProtocol::Ipv6, len, |bytes| {
        let mut packet = Ipv6Packet::new_unchecked(bytes);
        ip.emit(&mut packet);
        let mut packet = Icmpv6Packet::new_unchecked(packet.payload_mut());
        advertisement.emit(&ip.src_addr, &ip.dst_addr, &mut packet, &ChecksumCapabilities::default());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);

    #[test]
    fn an_ipv4_address_is_announced_by_arp() {
        let all = frames(MAC, ["10.0.0.1".parse().unwrap()]);
        let [frame] = &all[..] else { panic!("{all:?}") };
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xa, 8, 6,
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1,
        ];
        assert_eq!(frame.bytes(), expected);
    }

    #[test]
    fn an_ipv6_address_is_announced_by_an_advertisement_that_overrides() {
        let all = frames(MAC, ["10.0.0.1".parse().unwrap(), "fd00::a".parse().unwrap()]);
        let bytes = all[1].bytes();
        assert_eq!(bytes[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xa, 0x86, 0xdd]);
        let ip = Ipv6Packet::new_checked(&bytes[14..]).unwrap();
        let address: Ipv6Addr = "fd00::a".parse().unwrap();
        assert_eq!((ip.src_addr(), ip.dst_addr(), ip.hop_limit()), (address, ALL_NODES, 255));
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
        // RFC 4861 4.4: type, code, flags (override alone), the target, and its link-layer address (4.6.1).
        let rest = [&address.octets()[..], &[2, 1, 2, 0, 0, 0, 0, 0xa]].concat();
        assert_eq!((ip.payload()[0], ip.payload()[1], &ip.payload()[4..8]), (136, 0, &[0x20, 0, 0, 0][..]));
        assert_eq!(ip.payload()[8..], rest);
    }
}
