//! Packets of an uplink: what is unwrapped lies inside the packet and says what etherparse says; what is wrapped
//! unwraps to the same.
//!
//! Input: which way (1). Unwrapped: the packet behind its virtio header (24). Wrapped: IPv6 or not (1), TOS (1), then
//! a read (see `Read`).
#![no_main]

use std::net::{IpAddr, SocketAddr};

use arbitrary::Unstructured;
use etherparse::{InternetSlice, SlicedPacket, TransportSlice};
use libfuzzer_sys::fuzz_target;
use vswitch_core::{Checksum, Offload};
use vswitch_fuzz::{Offsets, Read, is_correct, tag_len, tunnel_vni, untagged};
use vswitch_sys::vnet::TUNNEL_HDR_LEN;
use vtep::{HEADER_LEN, MAX_SEGMENTS, Outer, outer_len, parse, parse_outer, uplink};

fuzz_target!(|data: &[u8]| {
    let Some((way, rest)) = data.split_first() else { return };
    if way % 2 == 0 { unwrap(rest) } else { wrap(rest) }
});

fn unwrap(bytes: &[u8]) {
    let packet = bytes.get(TUNNEL_HDR_LEN..).unwrap_or_default();
    let outer = parse_outer(packet);
    if let Some(outer) = &outer {
        assert!(outer.payload.end <= packet.len());
        judge_outer(packet, outer);
    }
    let Some((received, debts)) = uplink::unwrap(bytes) else { return };
    let outer = outer.expect("what has no outer headers is not unwrapped");
    assert_eq!((received.from, received.tos), (outer.from, outer.tos));
    let payload = bytes.get(received.at..received.at + received.len).expect("the payload lies in the packet");
    assert_eq!(payload, &packet[outer.payload]);
    assert!(received.stride > 0 || received.len == 0);
    assert!(received.stride <= received.len.max(1));

    let frame = payload.get(HEADER_LEN..).unwrap_or_default();
    if let Checksum::Partial { start, offset } = debts.checksum {
        assert!(usize::from(start) + usize::from(offset) + 2 <= frame.len(), "{debts:?}");
    }
    if let Some(gso) = debts.gso {
        assert!(
            frame.len().saturating_sub(gso.header.into()).div_ceil(gso.segment.into()) <= MAX_SEGMENTS,
            "{debts:?}"
        );
    }
}

/// Compares with etherparse where that can read the packet.
fn judge_outer(packet: &[u8], outer: &Outer) {
    let Ok(SlicedPacket { net: Some(net), transport: Some(TransportSlice::Udp(udp)), .. }) =
        SlicedPacket::from_ethernet(packet)
    else {
        return;
    };
    let (from, tos) = match net {
        InternetSlice::Ipv4(ip) => {
            let header = ip.header();
            (IpAddr::from(header.source()), header.dcp().value() << 2 | header.ecn().value())
        }
        InternetSlice::Ipv6(ip) => (IpAddr::from(ip.header().source()), ip.header().traffic_class()),
        InternetSlice::Arp(_) => panic!("UDP over ARP"),
    };
    assert_eq!((outer.from, outer.tos), (SocketAddr::new(from, udp.source_port()), tos));
    assert_eq!(&packet[outer.payload.clone()], udp.payload());
}

fn wrap(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok((is_v6, tos, read)) = input.arbitrary::<(bool, u8, Read)>() else { return };
    let Some(frame) = read.frame() else { return };
    let ends: [&str; 2] =
        if is_v6 { ["[2001:db8::1]:50000", "[2001:db8::2]:4789"] } else { ["192.0.2.1:50000", "192.0.2.2:4789"] };
    let [from, to]: [SocketAddr; 2] = ends.map(|end| end.parse().expect("an address"));
    let bare = untagged(frame.bytes());
    let tag = tag_len(frame.bytes());

    let mut out = vec![0xee; 3];
    let Some(skip) = uplink::wrap(&mut out, &frame, 0, tunnel_vni(), (from, to), tos) else {
        assert_eq!(out, [0xee; 3], "what is not wrapped leaves nothing");
        return;
    };
    out.drain(..3);
    out.extend_from_slice(&frame.bytes()[skip..]);

    let (received, debts) = uplink::unwrap(&out).expect("what is wrapped can be unwrapped");
    assert_eq!((received.from, received.tos), (from, tos));
    let payload = &out[received.at..received.at + received.len];
    assert_eq!(parse(payload), Ok(tunnel_vni()));
    assert_eq!(payload[HEADER_LEN..], bare);
    assert_eq!(received.stride, received.len);
    assert_eq!(Some(debts), frame.offload.shifted(if tag > 0 { -4 } else { 0 }));

    // With nothing owed the packet is complete as it stands; over IPv4 the outer checksum is zero, which is none.
    if debts == Offload::default() && is_v6 {
        let packet = &out[TUNNEL_HDR_LEN..];
        assert!(is_correct(packet, Offsets { ip: 14, transport: outer_len(to.ip()) - 8 }));
    }
}
