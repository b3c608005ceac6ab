//! Who says of himself which address he has: the sender of an ARP packet, or of neighbour discovery.

use core::net::IpAddr;

use super::arp;
use super::ethernet::{Ethernet, HEADER_LEN};
use super::ipv6::{self, Payload};
use super::neighbour::Message;
use super::vlan::TAG_LEN;
use crate::addr::MacAddr;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// The addresses that the sender of `frame` says it has: in ARP, or as a host that solicits or advertises a neighbour (RFC
/// 4861). `None` for all else, and where it has no address yet.
#[must_use]
pub fn speaker(frame: &[u8]) -> Option<(MacAddr, IpAddr)> {
    let header = Ethernet::parse(frame).ok()?;
    let at = HEADER_LEN + if header.tag.is_some() { TAG_LEN } else { 0 };
    let packet = frame.get(at..)?;
    match *frame.get(at - 2..at)?.first_chunk()? {
        ARP => {
            let arp::Sender { mac, ip, .. } = arp::Sender::parse(packet)?;
            (mac.is_station() && !ip.is_unspecified()).then_some((mac, ip.into()))
        }
        IPV6 => {
            let sender = ipv6::Sender::parse(packet)?;
            let Payload::Icmp { message, is_fragment: false } = sender.payload else { return None };
            let ip = match Message::parse(message)? {
                Message::Solicitation { .. } => sender.source,
                Message::Advertisement { target, .. } => target,
                _ => return None,
            };
            (header.source().is_station() && !ip.is_unspecified() && !ip.is_multicast())
                .then_some((header.source(), ip.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn frame(tag: bool, ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
        let tag: &[u8] = if tag { &[0x81, 0, 0, 9] } else { &[] };
        [&[0xff; 6], &MAC[..], tag, &ethertype, packet].concat()
    }

    fn arp(ip: [u8; 4]) -> Vec<u8> {
        [&[0, 1, 8, 0, 6, 4, 0, 1], &MAC[..], &ip, &[0; 6], &[10, 0, 0, 2]].concat()
    }

    /// Neighbour discovery of `kind` from fd00::7, about fd00::9.
    fn discovery(kind: u8) -> Vec<u8> {
        let ip = |last: u8| [&[0xfd][..], &[0; 14], &[last]].concat();
        let head = [0x60, 0, 0, 0, 0, 24, 58, 255];
        [&head[..], &ip(7), &ip(9), &[kind, 0, 0, 0, 0, 0, 0, 0], &ip(9)].concat()
    }

    #[test]
    fn who_speaks() {
        let table = [
            ("ARP", frame(false, ARP, &arp([10, 0, 0, 7])), Some("10.0.0.7")),
            ("ARP with a tag", frame(true, ARP, &arp([10, 0, 0, 7])), Some("10.0.0.7")),
            ("an ARP probe", frame(false, ARP, &arp([0; 4])), None),
            ("ARP cut short", frame(false, ARP, &arp([10, 0, 0, 7])[..27]), None),
            ("a solicitation", frame(false, IPV6, &discovery(135)), Some("fd00::7")),
            ("an advertisement", frame(true, IPV6, &discovery(136)), Some("fd00::9")),
            ("an echo request", frame(false, IPV6, &discovery(128)), None),
            ("IPv4", frame(false, [8, 0], &[0x45; 40]), None),
            ("nothing", Vec::new(), None),
        ];
        for (what, frame, ip) in table {
            let expected = ip.map(|ip| (MacAddr(MAC), ip.parse().unwrap()));
            assert_eq!(speaker(&frame), expected, "{what}");
        }
    }
}
