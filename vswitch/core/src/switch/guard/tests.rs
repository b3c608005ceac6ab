use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ipv6FragmentHeader, LaxNetSlice, LaxSlicedPacket, PacketBuilder,
};
use proptest::prelude::*;
use smoltcp::wire::{
    Icmpv6Message, Icmpv6Packet, Icmpv6Repr, NdiscNeighborFlags, NdiscOption, NdiscOptionType, NdiscRepr,
    NdiscRouterFlags,
};

use super::*;
use crate::switch::{Limits, PortMode, Switch, Verdict};
use crate::time::Instant;
use crate::wire::vlan::VlanId;

const OWN: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x0a]);
const OTHER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x0b]);
const TO: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x0c]);

const OWN_V4: [u8; 4] = [10, 0, 0, 1];
const OTHER_V4: [u8; 4] = [10, 0, 0, 2];
const NO_V4: [u8; 4] = [0; 4];

const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const OWN_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x0a);
const OTHER_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x0b);
const NO_V6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

const OK: Option<&str> = None;
const MAC: Option<&str> = Some("spoofed_mac");
const IP: Option<&str> = Some("spoofed_ip");

fn guard(mac: bool, ip: bool) -> Guard {
    let prefixes = vec![Prefix::host(Ipv4Addr::from(OWN_V4).into()), Prefix::host(OWN_V6.into())];
    Guard::new(mac.then(|| vec![OWN]), ip.then_some(prefixes))
}

/// What becomes of `frame` on a trunk with `guard`: the reason it is dropped for.
fn judged(guard: &Guard, frame: &[u8]) -> Option<&'static str> {
    let mut switch = Switch::new(Limits { entries: 16, per_port: 8 }, 1);
    let vlans = || VlanId::all().collect();
    for port in 0..2 {
        switch.add_port(PortId::new(port), PortMode::Trunk { vlans: vlans(), native: VlanId::new(1) });
    }
    assert!(switch.set_guard(PortId::new(0), guard.clone()));
    match switch.ingress(Instant::default(), PortId::new(0), frame) {
        Verdict::Drop(why) => Some(why.name()),
        _ => None,
    }
}

fn ethernet(from: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&TO.0[..], &from.0, &ethertype.to_be_bytes(), payload].concat()
}

fn built<T>(build: impl FnOnce(&mut Vec<u8>) -> T) -> Vec<u8> {
    let mut frame = Vec::new();
    build(&mut frame);
    frame
}

fn udp4(mac: MacAddr, ip: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac.0, TO.0).ipv4(ip, [255; 4], 64).udp(ports.0, ports.1);
    built(|frame| builder.write(frame, &[7; 20]).unwrap())
}

/// A membership report, with the router alert option (RFC 3376 4).
fn igmp(mac: MacAddr, ip: [u8; 4]) -> Vec<u8> {
    let header = [0x46, 0xc0, 0, 40, 0, 0, 0, 0, 1, 2, 0, 0, ip[0], ip[1], ip[2], ip[3], 224, 0, 0, 22, 148, 4, 0, 0];
    ethernet(mac, 0x0800, &[&header[..], &[0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 224, 1, 1, 1]].concat())
}

fn udp6(mac: MacAddr, ip: Ipv6Addr) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac.0, TO.0).ipv6(ip.octets(), OTHER_V6.octets(), 64).udp(1, 2);
    built(|frame| builder.write(frame, &[7; 20]).unwrap())
}

fn arp(mac: MacAddr, operation: ArpOperation, sender: MacAddr, ip: [u8; 4]) -> Vec<u8> {
    let packet =
        ArpPacket::new(ArpHardwareId::ETHERNET, EtherType::IPV4, operation, &sender.0, &ip, &TO.0, &[10, 0, 0, 9]);
    let builder = PacketBuilder::ethernet2(mac.0, TO.0).arp(packet.unwrap());
    built(|frame| builder.write(frame).unwrap())
}

/// ICMPv6 behind `extensions`, the first of which is `next`; each names the one after it.
fn behind(mac: MacAddr, ip: Ipv6Addr, next: u8, extensions: &[u8], icmp: &[u8]) -> Vec<u8> {
    let len = u16::try_from(extensions.len() + icmp.len()).unwrap();
    let header = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[next, 255], &ip.octets(), &OTHER_V6.octets()].concat();
    ethernet(mac, 0x86dd, &[&header[..], extensions, icmp].concat())
}

fn icmp6(ip: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    behind(OWN, ip, 58, &[], message)
}

/// A message of neighbour discovery, as smoltcp writes it.
fn ndisc(message: NdiscRepr<'_>) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(message);
    let mut bytes = vec![0; message.buffer_len()];
    let (from, to) = (OWN_V6, OTHER_V6);
    message.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut bytes), &Default::default());
    bytes
}

fn link(mac: MacAddr) -> Option<smoltcp::wire::RawHardwareAddress> {
    Some(smoltcp::wire::EthernetAddress(mac.0).into())
}

fn solicit(target: Ipv6Addr, mac: Option<MacAddr>) -> Vec<u8> {
    ndisc(NdiscRepr::NeighborSolicit { target_addr: target, lladdr: mac.and_then(link) })
}

fn advert(target: Ipv6Addr, mac: Option<MacAddr>) -> Vec<u8> {
    let flags = NdiscNeighborFlags::OVERRIDE;
    ndisc(NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr: mac.and_then(link) })
}

fn router_advert(mac: MacAddr) -> Vec<u8> {
    ndisc(NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: smoltcp::time::Duration::from_secs(1800),
        reachable_time: smoltcp::time::Duration::ZERO,
        retrans_time: smoltcp::time::Duration::ZERO,
        lladdr: link(mac),
        mtu: None,
        prefix_info: None,
    })
}

fn redirect(mac: MacAddr) -> Vec<u8> {
    let (target_addr, dest_addr) = (OWN_LINK, OTHER_V6);
    ndisc(NdiscRepr::Redirect { target_addr, dest_addr, lladdr: link(mac), redirected_hdr: None })
}

fn echo() -> Vec<u8> {
    vec![128, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4]
}

/// An extension header of `next` with eight bytes.
fn extension(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment(next: u8, offset: u16) -> [u8; 8] {
    let header = Ipv6FragmentHeader::new(next.into(), offset.try_into().unwrap(), true, 7);
    header.to_bytes()
}

fn tagged(frame: &[u8], tag: [u8; 4]) -> Vec<u8> {
    [&frame[..12], &tag, &frame[12..]].concat()
}

/// `frame`, from EtherType on, behind a SNAP header.
fn in_snap(frame: &[u8]) -> Vec<u8> {
    ethernet(OWN, 0x0100, &[&[0xaa, 0xaa, 3, 0, 0, 0], &frame[12..]].concat())
}

type Case = (&'static str, Vec<u8>, Option<&'static str>, Option<&'static str>);

/// What it is, and the reason it is dropped for where MAC addresses are guarded, and where IP addresses are.
fn cases() -> Vec<Case> {
    use ArpOperation as Op;
    let long: Vec<u8> = (0..9).flat_map(|_| extension(60)).collect();
    let odd = |option: &[u8]| [&advert(OWN_V6, None)[..], option].concat();
    vec![
        ("IPv4", udp4(OWN, OWN_V4, (1, 2)), OK, OK),
        ("IPv4 from another MAC", udp4(OTHER, OWN_V4, (1, 2)), MAC, OK),
        ("IPv4 from another IP", udp4(OWN, OTHER_V4, (1, 2)), OK, IP),
        ("IPv4 from nobody", udp4(OWN, NO_V4, (1, 2)), OK, IP),
        ("a DHCP request", udp4(OWN, NO_V4, (68, 67)), OK, OK),
        ("a DHCP answer from nobody", udp4(OWN, NO_V4, (67, 68)), OK, IP),
        ("a DHCP request in fragments", fragmented(udp4(OWN, NO_V4, (68, 67))), OK, IP),
        ("IPv4 of another version", with(udp4(OWN, OWN_V4, (1, 2)), 14, 0x65), OK, IP),
        ("IPv4 with a short header", with(udp4(OWN, OWN_V4, (1, 2)), 14, 0x44), OK, IP),
        ("ARP request", arp(OWN, Op::REQUEST, OWN, OWN_V4), OK, OK),
        ("ARP reply", arp(OWN, Op::REPLY, OWN, OWN_V4), OK, OK),
        ("ARP probe", arp(OWN, Op::REQUEST, OWN, NO_V4), OK, OK),
        ("ARP reply from nobody", arp(OWN, Op::REPLY, OWN, NO_V4), OK, IP),
        ("ARP of another MAC", arp(OWN, Op::REPLY, OTHER, OWN_V4), MAC, OK),
        ("ARP from another MAC", arp(OTHER, Op::REPLY, OWN, OWN_V4), MAC, OK),
        ("IGMP from nobody", igmp(OWN, NO_V4), OK, OK),
        ("IGMP of another IP", igmp(OWN, OTHER_V4), OK, IP),
        ("IGMP from nobody, from another MAC", igmp(OTHER, NO_V4), MAC, OK),
        ("IGMP from nobody in fragments", fragmented(igmp(OWN, NO_V4)), OK, IP),
        ("IGMP from nobody, a later fragment", with(igmp(OWN, NO_V4), 21, 1), OK, IP),
        ("ICMP from nobody", with(igmp(OWN, NO_V4), 23, 1), OK, IP),
        ("ARP of another IP", arp(OWN, Op::REPLY, OWN, OTHER_V4), OK, IP),
        ("ARP request of another IP", arp(OWN, Op::REQUEST, OWN, OTHER_V4), OK, IP),
        ("ARP with long addresses", with(arp(OWN, Op::REPLY, OWN, OWN_V4), 18, 8), MAC, IP),
        ("RARP of another MAC", with(with(arp(OWN, Op(3), OTHER, NO_V4), 12, 0x80), 13, 0x35), MAC, OK),
        ("RARP request", with(with(arp(OWN, Op(3), OWN, NO_V4), 12, 0x80), 13, 0x35), OK, OK),
        ("IPv6", udp6(OWN, OWN_V6), OK, OK),
        ("IPv6 from another MAC", udp6(OTHER, OWN_V6), MAC, OK),
        ("IPv6 from another IP", udp6(OWN, OTHER_V6), OK, IP),
        ("IPv6 from nobody", udp6(OWN, NO_V6), OK, IP),
        ("IPv6 from a router's link-local address", udp6(OWN, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), OK, IP),
        ("IPv6 from a neighbour's link-local address", udp6(OWN, OTHER_LINK), OK, IP),
        ("IPv6 of another version", with(udp6(OWN, OWN_V6), 14, 0x45), MAC, IP),
        ("echo", icmp6(OWN_V6, &echo()), OK, OK),
        ("echo from another IP", icmp6(OTHER_V6, &echo()), OK, IP),
        ("duplicate address detection", icmp6(NO_V6, &solicit(OWN_V6, None)), OK, OK),
        ("duplicate address detection of another", icmp6(NO_V6, &solicit(OTHER_V6, None)), OK, IP),
        ("solicitation", icmp6(OWN_V6, &solicit(OTHER_V6, Some(OWN))), OK, OK),
        ("solicitation of another MAC", icmp6(OWN_V6, &solicit(OTHER_V6, Some(OTHER))), MAC, OK),
        ("solicitation from another IP", icmp6(OTHER_V6, &solicit(OWN_V6, Some(OWN))), OK, IP),
        ("advertisement", icmp6(OWN_V6, &advert(OWN_V6, Some(OWN))), OK, OK),
        ("advertisement without MAC", icmp6(OWN_V6, &advert(OWN_V6, None)), OK, OK),
        ("advertisement of another MAC", icmp6(OWN_V6, &advert(OWN_V6, Some(OTHER))), MAC, OK),
        ("advertisement of another IP", icmp6(OWN_V6, &advert(OTHER_V6, Some(OWN))), OK, IP),
        ("advertisement from nobody", icmp6(NO_V6, &advert(OWN_V6, Some(OWN))), OK, IP),
        ("router solicitation", icmp6(OWN_V6, &ndisc(NdiscRepr::RouterSolicit { lladdr: link(OWN) })), OK, OK),
        ("router solicitation from nobody", icmp6(NO_V6, &ndisc(NdiscRepr::RouterSolicit { lladdr: None })), OK, OK),
        (
            "router solicitation of another MAC",
            icmp6(OWN_V6, &ndisc(NdiscRepr::RouterSolicit { lladdr: link(OTHER) })),
            MAC,
            OK,
        ),
        ("router advertisement", icmp6(OWN_V6, &router_advert(OWN)), OK, IP),
        ("router advertisement of another MAC", icmp6(OWN_V6, &router_advert(OTHER)), MAC, IP),
        ("redirect", icmp6(OWN_V6, &redirect(OWN)), OK, IP),
        ("redirect to another MAC", icmp6(OWN_V6, &redirect(OTHER)), MAC, IP),
        ("MLD from nobody", behind(OWN, NO_V6, 0, &[58, 0, 5, 2, 0, 0, 1, 0], &[143, 0, 0, 0, 0, 0, 0, 0]), OK, OK),
        ("an MLD query from nobody", icmp6(NO_V6, &[130, 0, 0, 0, 0, 0, 0, 0]), OK, IP),
        ("an option without length", icmp6(OWN_V6, &odd(&[2, 0, 2, 0, 0, 0, 0, 0x0a])), MAC, IP),
        ("an option cut short", icmp6(OWN_V6, &odd(&[2, 1, 2, 0, 0, 0, 0])), MAC, IP),
        ("half an option", icmp6(OWN_V6, &odd(&[14])), MAC, IP),
        ("a long link option", icmp6(OWN_V6, &odd(&[[2, 2, 2, 0, 0, 0, 0, 0x0a], [0; 8]].concat())), MAC, IP),
        ("an option of another kind", icmp6(OWN_V6, &odd(&[14, 1, 9, 9, 9, 9, 9, 9])), OK, OK),
        ("a second link option", icmp6(OWN_V6, &odd(&[2, 1, 2, 0, 0, 0, 0, 0x0a, 2, 1, 2, 0, 0, 0, 0, 0x0b])), MAC, OK),
        ("options without end", icmp6(OWN_V6, &odd(&[14, 1, 0, 0, 0, 0, 0, 0].repeat(33))), MAC, IP),
        (
            "behind options",
            behind(OWN, OWN_V6, 60, &[extension(0), extension(58)].concat(), &advert(OWN_V6, Some(OTHER))),
            MAC,
            OK,
        ),
        (
            "behind options and routing",
            behind(OWN, OWN_V6, 0, &[extension(43), extension(58)].concat(), &advert(OTHER_V6, Some(OWN))),
            OK,
            IP,
        ),
        (
            "behind authentication",
            behind(OWN, OWN_V6, 51, &[&[58, 1, 0, 0][..], &[7; 8]].concat(), &advert(OTHER_V6, Some(OTHER))),
            MAC,
            IP,
        ),
        ("more extensions than anybody sends", behind(OWN, OWN_V6, 60, &long, &echo()), MAC, IP),
        ("fragmented echo", behind(OWN, OWN_V6, 44, &fragment(58, 0), &echo()), OK, OK),
        ("a later fragment", behind(OWN, OWN_V6, 44, &fragment(58, 100), &advert(OTHER_V6, Some(OTHER))), OK, OK),
        ("a later fragment from another IP", behind(OWN, OTHER_V6, 44, &fragment(58, 100), &[0; 8]), OK, IP),
        ("a fragmented advertisement", behind(OWN, OWN_V6, 44, &fragment(58, 0), &advert(OWN_V6, Some(OWN))), MAC, IP),
        ("a fragment of nothing", behind(OWN, OWN_V6, 44, &fragment(58, 0), &[]), MAC, IP),
        (
            "a fragment of a fragment",
            behind(OWN, OWN_V6, 44, &[fragment(44, 0), fragment(58, 0)].concat(), &echo()),
            MAC,
            IP,
        ),
        ("in a VLAN", tagged(&udp4(OWN, OWN_V4, (1, 2)), [0x81, 0, 0, 5]), OK, OK),
        ("another IP in a VLAN", tagged(&udp4(OWN, OTHER_V4, (1, 2)), [0x81, 0, 0, 5]), OK, IP),
        ("ARP with a priority", tagged(&arp(OWN, Op::REPLY, OTHER, OTHER_V4), [0x81, 0, 0xe0, 0]), MAC, IP),
        ("two tags", tagged(&tagged(&udp4(OWN, OWN_V4, (1, 2)), [0x81, 0, 0, 6]), [0x81, 0, 0, 5]), OK, IP),
        ("a service tag", tagged(&udp4(OWN, OWN_V4, (1, 2)), [0x88, 0xa8, 0, 5]), OK, IP),
        ("an old service tag", tagged(&udp4(OWN, OWN_V4, (1, 2)), [0x91, 0, 0, 5]), OK, IP),
        ("IPv4 in SNAP", in_snap(&udp4(OWN, OWN_V4, (1, 2))), OK, IP),
        ("ARP in SNAP", in_snap(&arp(OWN, Op::REPLY, OTHER, OTHER_V4)), OK, IP),
        ("IPv6 in SNAP", in_snap(&udp6(OWN, OWN_V6)), OK, IP),
        ("a tag in SNAP", in_snap(&tagged(&udp4(OWN, OWN_V4, (1, 2)), [0x81, 0, 0, 5])), OK, IP),
        ("AppleTalk in SNAP", ethernet(OWN, 20, &[0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b, 0, 0]), OK, OK),
        ("spanning tree's kind of frame", ethernet(OWN, 3, &[0x42, 0x42, 3]), OK, OK),
        ("what is neither", ethernet(OWN, 0x88b5, &[0x45, 0, 0, 0]), OK, OK),
        ("what is neither, from another", ethernet(OTHER, 0x88b5, &[]), MAC, OK),
        ("from a group", ethernet(MacAddr([1, 0, 0x5e, 0, 0, 1]), 0x88b5, &[]), MAC, Some("bad_source")),
    ]
}

fn with(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

/// The first fragment of an IPv4 packet.
fn fragmented(frame: Vec<u8>) -> Vec<u8> {
    with(frame, 20, 0x20)
}

#[test]
fn every_kind_of_claim() {
    for (what, frame, by_mac, by_ip) in cases() {
        let open = judged(&Guard::default(), &frame);
        assert!(matches!(open, None | Some("bad_source")), "{what}, without a guard: {open:?}");
        assert_eq!(judged(&guard(true, false), &frame), by_mac, "{what}, MAC guarded");
        // The link-local address of any MAC address is not allowed: there is none to go by.
        assert_eq!(judged(&guard(false, true), &frame), by_ip, "{what}, IP guarded");
        let both = judged(&guard(true, true), &frame);
        assert_eq!(both.is_some(), by_mac.or(by_ip).is_some(), "{what}, both guarded: {both:?}");
    }
}

#[test]
fn an_own_link_local_address_goes_with_the_mac_address() {
    let frames = [
        udp6(OWN, OWN_LINK),
        icmp6(OWN_LINK, &advert(OWN_LINK, Some(OWN))),
        icmp6(NO_V6, &solicit(OWN_LINK, None)),
        icmp6(OWN_LINK, &ndisc(NdiscRepr::RouterSolicit { lladdr: link(OWN) })),
    ];
    for frame in frames {
        assert_eq!(judged(&guard(true, true), &frame), OK, "{frame:02x?}");
        assert_eq!(judged(&guard(false, true), &frame), IP, "{frame:02x?}");
    }
}

#[test]
fn a_router_is_who_may_send_from_everywhere() {
    let all = Prefix::new(NO_V6.into(), 0);
    let (some, router) = (Guard::new(Some(vec![OWN]), Some(vec![Prefix::new(OWN_V6.into(), 1)])), {
        Guard::new(Some(vec![OWN]), Some(vec![all]))
    });
    for message in [router_advert(OWN), redirect(OWN)] {
        assert_eq!(judged(&some, &icmp6(OWN_LINK, &message)), IP);
        assert_eq!(judged(&router, &icmp6(OWN_LINK, &message)), OK);
    }
}

/// Cut anywhere, a frame of which nothing is allowed is not let by: its claim is there, or it cannot be told.
#[test]
fn nothing_slips_by_for_being_short() {
    for (what, frame, _, by_ip) in cases() {
        let (by_mac, by_ip_too) = (guard(true, false), guard(true, true));
        for len in 14..=frame.len() {
            let cut = &frame[..len];
            let claims = claims(cut);
            for guard in [&by_mac, &by_ip_too] {
                if judged(guard, cut).is_none() {
                    assert!(claims.iter().all(|claim| claim.is_allowed(guard)), "{what} of {len} bytes: {claims:?}");
                }
            }
            let is_ip = matches!(frame[12..14], [0x08, 0x00 | 0x06] | [0x86, 0xdd]);
            if is_ip && by_ip.is_some() && len < 14 + 28 {
                assert!(judged(&guard(false, true), cut).is_some(), "{what} of {len} bytes");
            }
        }
    }
}

/// What a frame says of its sender, as others read it.
#[derive(Debug)]
enum Claim {
    Mac(MacAddr),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Claim {
    fn is_allowed(&self, guard: &Guard) -> bool {
        match *self {
            Self::Mac(mac) => guard.allows_mac(mac),
            Self::V4(ip) => ip.is_unspecified() || guard.allows_v4(ip),
            Self::V6(ip) => ip.is_unspecified() || guard.allows_v6(ip),
        }
    }
}

/// Lets etherparse, and smoltcp for neighbour discovery, say what claims a frame makes.
fn claims(frame: &[u8]) -> Vec<Claim> {
    let mut claims = vec![Claim::Mac(MacAddr(*frame[6..].first_chunk().unwrap()))];
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return claims };
    match packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => claims.push(Claim::V4(ip.header().source_addr())),
        Some(LaxNetSlice::Ipv6(ip)) => claims.push(Claim::V6(ip.header().source_addr())),
        Some(LaxNetSlice::Arp(arp)) => {
            if let (Some(mac), Some(ip)) =
                (arp.sender_hw_addr().first_chunk(), arp.sender_protocol_addr().first_chunk::<4>())
            {
                claims.extend([Claim::Mac(MacAddr(*mac)), Claim::V4((*ip).into())]);
            }
        }
        None => {}
    }
    let Some(etherparse::TransportSlice::Icmpv6(icmp)) = packet.transport else { return claims };
    let Ok(icmp) = Icmpv6Packet::new_checked(icmp.slice()) else { return claims };
    if icmp.msg_type() == Icmpv6Message::NeighborAdvert {
        claims.push(Claim::V6(icmp.target_addr()));
    }
    let mut rest = if icmp.msg_type().is_ndisc() { icmp.payload() } else { &[] };
    while let Ok(option) = NdiscOption::new_checked(rest) {
        if matches!(option.option_type(), NdiscOptionType::SourceLinkLayerAddr | NdiscOptionType::TargetLinkLayerAddr)
            && option.data_len() == 1
        {
            let address = option.link_layer_addr();
            claims.extend(address.as_bytes().first_chunk().map(|mac| Claim::Mac(MacAddr(*mac))));
        }
        rest = &rest[usize::from(option.data_len()) * 8..];
    }
    claims
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    /// Whatever bytes of whatever frame change, what passes says nothing that is not allowed.
    #[test]
    fn what_passes_says_nothing_wrong(
        which: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        len: prop::sample::Index,
        is_cut: bool,
    ) {
        let cases = cases();
        let mut frame = which.get(&cases).1.clone();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if is_cut {
            frame.truncate(14 + len.index(frame.len() - 13));
        }
        for guard in [guard(true, false), guard(false, true), guard(true, true)] {
            if judged(&guard, &frame).is_none() {
                let claims = claims(&frame);
                let is_allowed = |claim: &Claim| claim.is_allowed(&guard);
                prop_assert!(claims.iter().all(is_allowed), "{:?}: {:02x?}", claims, frame);
            }
        }
    }

    #[test]
    fn noise_does_no_harm(frame in prop::collection::vec(any::<u8>(), 0..200), ethertype in 0..5_usize) {
        let mut frame = frame;
        if frame.len() > 14 {
            frame[6..12].copy_from_slice(&OWN.0);
            frame[12..14].copy_from_slice(&[[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0], [0, 9]][ethertype]);
        }
        judged(&guard(true, true), &frame);
    }
}

/// MAC addresses that live somewhere: neither learned nor let in elsewhere, and reached before they spoke.
#[test]
fn residents_live_where_they_live() {
    let vlan = |vid| VlanId::new(vid).unwrap();
    let [home, near, far] = [0, 1, 2].map(PortId::new);
    let frame = |to: MacAddr, from: MacAddr| [&to.0[..], &from.0, &[0x88, 0xb5]].concat();
    let now = Instant::default();
    let mut switch = Switch::new(Limits { entries: 16, per_port: 8 }, 1);
    switch.add_port(home, PortMode::Access(vlan(10)));
    switch
        .add_port(near, PortMode::Trunk { vlans: [vlan(10), vlan(20)].into_iter().collect(), native: Some(vlan(10)) });
    switch.add_port(far, PortMode::Remote { vlans: [vlan(10)].into_iter().collect() });
    // Learned before, at the wrong places.
    switch.ingress(now, near, &frame(TO, OWN));
    switch.ingress(now, home, &frame(TO, OTHER));
    switch.ingress(now, near, &frame(OTHER, TO));
    let mut sibling = switch.sibling();
    for worker in [&mut switch, &mut sibling] {
        assert!(worker.set_guard(home, Guard::new(Some(vec![OWN]), None)));
        assert!(!worker.set_guard(far, Guard::new(Some(vec![OTHER]), None)), "a remote has no guard");
    }
    let known: Vec<_> = switch.fdb_entries().map(|entry| (entry.mac, entry.port)).collect();
    assert_eq!(known, [(TO, near)]);

    let spoofed = Verdict::Drop(GuardDrop::SpoofedMac.into());
    for learning in [true, false] {
        for worker in [&mut switch, &mut sibling] {
            worker.set_learning(vlan(10), learning);
            assert_eq!(worker.ingress(now, near, &frame(TO, OWN)), spoofed);
            assert_eq!(worker.ingress_remote(now, far, vlan(10), &frame(TO, OWN)), spoofed);
            assert_eq!(worker.ingress(now, home, &frame(TO, OTHER)), spoofed);
            // In another VLAN it is anybody's.
            assert_ne!(worker.ingress(now, near, &tagged(&frame(TO, OWN), [0x81, 0, 0, 20])), spoofed);
            // It never spoke, and is no stranger.
            let Verdict::Unicast(way) = worker.ingress(now, near, &frame(OWN, TO)) else { panic!("flooded") };
            assert_eq!(way.port, home);
        }
    }
    // It may live at two places, and move between them.
    for worker in [&mut switch, &mut sibling] {
        assert!(worker.set_guard(near, Guard::new(Some(vec![TO, OWN]), None)));
    }
    for at in [home, near, home] {
        assert!(!matches!(switch.ingress(now, at, &frame(OTHER, OWN)), Verdict::Drop(_)));
        assert_eq!(switch.fdb_lookup(vlan(10), OWN), Some(at));
    }
    assert_eq!(switch.ingress_remote(now, far, vlan(10), &frame(TO, OWN)), spoofed);
    // A guard goes with its port, and with what made it one.
    assert!(switch.remove_port(home) && switch.set_guard(near, Guard::default()));
    assert_ne!(switch.ingress_remote(now, far, vlan(10), &frame(TO, OWN)), spoofed);
    switch.add_port(home, PortMode::Access(vlan(10)));
    assert_ne!(switch.ingress(now, home, &frame(TO, OTHER)), spoofed);
}

/// A port that comes to more VLANs takes its addresses along.
#[test]
fn residents_come_to_new_vlans() {
    let vlan = |vid| VlanId::new(vid).unwrap();
    let (home, near) = (PortId::new(0), PortId::new(1));
    let mut switch = Switch::new(Limits { entries: 16, per_port: 8 }, 1);
    switch.add_port(home, PortMode::Access(vlan(10)));
    switch.add_port(near, PortMode::Access(vlan(20)));
    switch.set_guard(home, Guard::new(Some(vec![OWN]), None));
    switch.ingress(Instant::default(), near, &ethernet(OWN, 0x88b5, &[]));
    assert_eq!(switch.fdb_lookup(vlan(20), OWN), Some(near));
    switch.set_port_mode(home, PortMode::Access(vlan(20)));
    assert_eq!(switch.fdb_lookup(vlan(20), OWN), None);
    let verdict = switch.ingress(Instant::default(), near, &ethernet(OWN, 0x88b5, &[]));
    assert_eq!(verdict, Verdict::Drop(GuardDrop::SpoofedMac.into()));
}

/// An address that lives on two ports may be on either, as long as it is learned on neither.
#[test]
fn residents_of_two_ports_are_looked_for_on_both() {
    let vlan = VlanId::new(10).unwrap();
    let ports = [0, 1, 2].map(PortId::new);
    let mut switch = Switch::new(Limits { entries: 16, per_port: 8 }, 1);
    for port in ports {
        switch.add_port(port, PortMode::Access(vlan));
    }
    for home in [ports[0], ports[1]] {
        switch.set_guard(home, Guard::new(Some(vec![OWN, OWN]), None));
    }
    let to_it = [&OWN.0[..], &TO.0, &[0x88, 0xb5]].concat();
    let Verdict::Flood(flood) = switch.ingress(Instant::default(), ports[2], &to_it) else { panic!("one was chosen") };
    assert_eq!(switch.flood_targets(&flood).map(|way| way.port).collect::<Vec<_>>(), [ports[0], ports[1]]);
    // In a VLAN where it has one home it goes there.
    switch.set_port_mode(ports[0], PortMode::Access(VlanId::new(20).unwrap()));
    switch.add_port(PortId::new(3), PortMode::Access(vlan));
    let verdict = switch.ingress(Instant::default(), ports[2], &to_it);
    assert!(matches!(verdict, Verdict::Unicast(way) if way.port == ports[1]), "{verdict:?}");
}

/// An address is not held on a port that has learned meanwhile that it may not use it.
#[test]
fn a_hold_knows_of_guards() {
    let vlan = VlanId::new(10).unwrap();
    let [one, before, other] = [0, 1, 2].map(PortId::new);
    let from_it = ethernet(OWN, 0x88b5, &[]);
    let mut switch = Switch::new(Limits { entries: 16, per_port: 8 }, 1);
    for port in [one, before, other] {
        switch.add_port(port, PortMode::Access(vlan));
    }
    for at in [before, one] {
        switch.ingress(Instant::default(), at, &from_it);
    }
    for home in [one, other] {
        switch.set_guard(home, Guard::new(Some(vec![OWN]), None));
    }
    for at in [other, one, other, one, other] {
        switch.ingress(Instant::default(), at, &from_it);
        assert_ne!(switch.fdb_lookup(vlan, OWN), Some(before));
    }
    let held = switch.fdb_get(vlan, OWN).unwrap();
    assert_eq!((held.port, held.flapping.map(|flapping| flapping.other)), (one, Some(other)));
}

/// What another switch learned is believed no more than what frames say.
#[test]
fn guards_hold_for_what_is_restored() {
    let vlan = VlanId::new(10).unwrap();
    let [home, near] = [0, 1].map(PortId::new);
    let switch = || {
        let mut switch = Switch::new(Limits { entries: 16, per_port: 8 }, 1);
        for port in [home, near] {
            switch.add_port(port, PortMode::Access(vlan));
        }
        switch
    };
    let mut first = switch();
    for (port, mac) in [(near, OWN), (near, TO), (home, OTHER)] {
        first.ingress(Instant::default(), port, &ethernet(mac, 0x88b5, &[]));
    }
    let mut next = switch();
    next.set_guard(home, Guard::new(Some(vec![OWN]), None));
    next.fdb_restore(first.fdb_entries().collect(), first.counters());
    let known: Vec<_> = next.fdb_entries().map(|entry| (entry.mac, entry.port)).collect();
    assert_eq!(known, [(TO, near)]);
    assert_eq!(next.counters(), first.counters());
}

#[test]
fn an_address_that_no_switch_forwards_to_lives_nowhere() {
    let (vlan, reserved) = (VlanId::new(10).unwrap(), MacAddr([0x01, 0x80, 0xc2, 0, 0, 3]));
    let mut switch = Switch::new(Limits { entries: 16, per_port: 8 }, 1);
    for port in [0, 1].map(PortId::new) {
        switch.add_port(port, PortMode::Access(vlan));
    }
    switch.set_guard(PortId::new(1), Guard::new(Some(vec![reserved]), None));
    let to_it = [&reserved.0[..], &OWN.0, &[0x88, 0xb5]].concat();
    let verdict = switch.ingress(Instant::default(), PortId::new(0), &to_it);
    assert!(matches!(verdict, Verdict::Drop(why) if why.name() == "reserved_address"), "{verdict:?}");
}
