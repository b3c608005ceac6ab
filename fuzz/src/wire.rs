//! Frames, by their bytes.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use vswitch_core::Frame;
use vtep::{Inbound, Segments};

/// Bytes of a frame's outer tag: 4 or 0.
pub fn tag_len(frame: &[u8]) -> usize {
    if frame.len() >= 16 && frame[12..14] == [0x81, 0x00] { 4 } else { 0 }
}

/// The frame without its outer tag.
pub fn untagged(frame: &[u8]) -> Vec<u8> {
    match tag_len(frame) {
        0 => frame.to_vec(),
        len => [&frame[..12], &frame[12 + len..]].concat(),
    }
}

/// The frame, of at least 14 bytes, with one tag more.
pub fn tagged(frame: &[u8], bits: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00], &bits.to_be_bytes(), &frame[12..]].concat()
}

/// A received frame whole, its payload gathered from the buffers it lies in.
pub fn assembled(inbound: &mut Inbound, buffers: &[Vec<u8>]) -> Frame {
    let len = inbound.len();
    let (head, tails) = inbound.parts();
    let mut whole = Frame::with_capacity(len);
    assert!(whole.assign(head.bytes()), "a head longer than its frame");
    for tail in tails {
        assert!(whole.append(&buffers[tail.buffer][tail.range.clone()]), "pieces longer than their frame");
    }
    assert_eq!(whole.len(), len);
    whole.offload = head.offload;
    whole
}

/// The segments of a frame, each whole.
pub fn cut(mut segments: Segments<'_>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut head) = (Vec::new(), Vec::new());
    while let Some(payload) = segments.write_next(&mut head) {
        all.push([&head, &bytes[payload]].concat());
        head.clear();
    }
    all
}

/// Gives a TCP or UDP frame the checksums that its bytes ask for; another stays as it is. What a fuzzer changes would
/// else never be taken for what a sender meant.
pub fn repair(frame: &mut [u8]) {
    let Ok(SlicedPacket { net: Some(net), transport: Some(transport), .. }) = SlicedPacket::from_ethernet(frame) else {
        return;
    };
    let place = |part: &[u8]| part.as_ptr() as usize - frame.as_ptr() as usize;
    let header = match &net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((place(header.slice()) + 10, header.to_header().calc_header_checksum()))
        }
        _ => None,
    };
    let sum = match (&net, &transport) {
        (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).ok()
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).ok()
        }
        (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).ok()
        }
        (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            udp.to_header().calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).ok()
        }
        _ => return,
    };
    let field = match &transport {
        TransportSlice::Tcp(tcp) => place(tcp.slice()) + 16,
        TransportSlice::Udp(udp) => place(udp.slice()) + 6,
        _ => return,
    };
    for (at, sum) in header.into_iter().chain(sum.map(|sum| (field, sum))) {
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
