//! Frames built by etherparse, in what carries them.

use etherparse::{IpNumber, PacketBuilder};
use vswitch_fuzz::{tagged, tunnel_vni};
use vswitch_sys::vnet::{
    F_NEEDS_CSUM, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_UDP_TUNNEL_IPV4, TunnelHdr, VnetHdr,
};

use crate::Seeds;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A TCP or UDP frame, and where its transport header begins.
struct Built {
    name: String,
    bytes: Vec<u8>,
    is_tcp: bool,
    is_v4: bool,
    transport: u16,
}

/// One frame of each kind, with sequence number `seq` and identification as it stands.
fn built(seq: u32, payload: &[u8]) -> Vec<Built> {
    let mut all = Vec::new();
    for (is_v4, is_tcp) in [(true, true), (true, false), (false, true), (false, false)] {
        let ethernet = PacketBuilder::ethernet2(MACS.0, MACS.1);
        let ip = if is_v4 {
            ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        } else {
            ethernet.ipv6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xfd; 16], 64)
        };
        let mut bytes = Vec::new();
        if is_tcp {
            let tcp = ip.tcp(40_000, 80, seq, 1024).ack(77);
            tcp.options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).expect("12 bytes").write(&mut bytes, payload)
        } else {
            ip.udp(40_000, 53).write(&mut bytes, payload)
        }
        .expect("a short packet");
        let name = format!("{}{}", if is_tcp { "tcp" } else { "udp" }, if is_v4 { 4 } else { 6 });
        all.push(Built { name, bytes, is_tcp, is_v4, transport: if is_v4 { 34 } else { 54 } });
    }
    all
}

fn arp() -> Vec<u8> {
    let mut frame = [[0xff; 6], MACS.0].concat();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(MACS.0);
    frame.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    frame
}

fn ping() -> Vec<u8> {
    let mut frame = Vec::new();
    let ip = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    ip.icmpv4_echo_request(1, 2).write(&mut frame, b"ping").expect("a short packet");
    frame
}

/// UDP behind IPv6 destination options.
fn options() -> Vec<u8> {
    let mut frame = built(1, b"behind options").remove(3).bytes;
    let len = u16::from_be_bytes([frame[18], frame[19]]) + 8;
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame[20] = IpNumber::IPV6_DESTINATION_OPTIONS.0;
    frame.splice(54..54, [UDP, 0, 1, 4, 0, 0, 0, 0]);
    frame
}

impl Built {
    /// The header that a kernel puts before it: a checksum owed, or a cut into segments of `segment` bytes.
    fn header(&self, shift: u16, segment: Option<u16>) -> VnetHdr {
        let gso_type = match (segment, self.is_tcp, self.is_v4) {
            (None, ..) => GSO_NONE,
            (Some(_), true, true) => GSO_TCPV4,
            (Some(_), true, false) => GSO_TCPV6,
            (Some(_), false, _) => GSO_UDP_L4,
        };
        VnetHdr {
            flags: F_NEEDS_CSUM,
            gso_type,
            hdr_len: 0,
            gso_size: segment.unwrap_or(0),
            csum_start: self.transport + shift,
            csum_offset: if self.is_tcp { 16 } else { 6 },
        }
    }

    /// The frame with its checksum owed: the field holds the sum of the pseudo-header.
    fn owed(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let at = usize::from(self.transport);
        let protocol = if self.is_tcp { TCP } else { UDP };
        let len = (bytes.len() - at) as u16;
        let addresses = if self.is_v4 { 26..34 } else { 22..54 };
        let sum = vswitch_fuzz::checksum(&[&bytes[addresses], &[0, protocol], &len.to_be_bytes()]);
        let field = at + if self.is_tcp { 16 } else { 6 };
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// As `Read` reads it.
fn read(more: u16, header: &VnetHdr, frame: &[u8]) -> Vec<u8> {
    [&more.to_le_bytes()[..], &(frame.len() as u16).to_le_bytes(), &header.to_bytes(), frame].concat()
}

/// Reads of all kinds: plain, owed, super-frames small and of nearly 64 KiB, with a tag and without.
fn reads() -> Vec<(String, Vec<u8>)> {
    let mut all = vec![
        ("arp".to_owned(), read(0, &VnetHdr::default(), &arp())),
        ("ping".to_owned(), read(0, &VnetHdr::default(), &ping())),
        ("options".to_owned(), read(0, &VnetHdr::default(), &options())),
    ];
    for built in built(0xffff_ff00, &[0x5a; 100]) {
        let Built { name, bytes, .. } = &built;
        all.push((format!("{name}-plain"), read(0, &VnetHdr::default(), bytes)));
        all.push((format!("{name}-owed"), read(0, &built.header(0, None), &built.owed())));
        all.push((format!("{name}-super"), read(0, &built.header(0, Some(30)), &built.owed())));
        all.push((format!("{name}-large"), read(20_000, &built.header(0, Some(1400)), &built.owed())));
        let tagged = tagged(&built.owed(), 0x600a);
        all.push((format!("{name}-tagged"), read(1000, &built.header(4, Some(100)), &tagged)));
        // A sum that would be stored in the tag, and among the addresses once that is off.
        let forged = VnetHdr { csum_start: 16, csum_offset: 0, ..built.header(0, None) };
        all.push((format!("{name}-forged"), read(0, &forged, &tagged)));
    }
    all
}

pub(crate) fn ethernet() -> Seeds {
    let tags = [0x6001_u16, 1, 0x0fff, 0].map(u16::to_le_bytes).concat();
    let mut all: Vec<_> = built(1, b"payload").into_iter().map(|built| (built.name, built.bytes)).collect();
    all.extend([("arp".to_owned(), arp()), ("ping".to_owned(), ping())]);
    let single = tagged(&arp(), 0x6001);
    all.extend([("tagged".to_owned(), single.clone()), ("double".to_owned(), tagged(&single, 0x2014))]);
    all.extend([("priority".to_owned(), tagged(&ping(), 0xe000)), ("stub".to_owned(), single[..17].to_vec())]);
    ("ethernet", all.into_iter().map(|(name, bytes)| (name, [&tags[..], &bytes].concat())).collect())
}

pub(crate) fn vnet() -> Seeds {
    ("vnet", reads())
}

pub(crate) fn cut() -> Seeds {
    let mtu = 1500_u16.to_le_bytes();
    let mut all: Vec<_> = reads().into_iter().map(|(name, bytes)| (name, [&mtu[..], &bytes].concat())).collect();
    // Segments that follow each other, frames of several flows.
    let next = |n: u32| built(n * 100, &[7; 100]).remove(2);
    let stream: Vec<u8> = (0..4).map(next).flat_map(|built| read(0, &built.header(0, None), &built.owed())).collect();
    let flows: Vec<u8> =
        built(1, &[9; 200]).iter().flat_map(|built| read(0, &built.header(0, Some(90)), &built.owed())).collect();
    all.extend(
        [("stream", stream), ("flows", flows)].map(|(name, bytes)| (name.to_owned(), [&mtu[..], &bytes].concat())),
    );
    ("cut", all)
}

/// As `Datagrams` reads it.
fn receive(datagrams: &[Vec<u8>], stride: usize, tos: u8, from: u8, header: &VnetHdr) -> Vec<u8> {
    let bytes = datagrams.concat();
    let lengths = [(bytes.len() as u16).to_le_bytes(), (stride as u16).to_le_bytes()].concat();
    [&lengths, &[tos, from][..], &header.to_bytes(), &bytes].concat()
}

fn datagram(frame: &[u8]) -> Vec<u8> {
    [&vtep::encode(tunnel_vni()), frame].concat()
}

pub(crate) fn vxlan() -> Seeds {
    let mtu = 1500_u16.to_le_bytes();
    let one = |frame: &[u8], tos, from| receive(&[datagram(frame)], 0, tos, from, &VnetHdr::default());
    let mut all = vec![
        ("arp".to_owned(), one(&arp(), 0, 2)),
        ("marked".to_owned(), one(&ping(), 3, 2)),
        ("stranger".to_owned(), one(&ping(), 0, 0)),
        ("tag".to_owned(), one(&tagged(&arp(), 10), 0, 2)),
        ("short".to_owned(), receive(&[vec![8, 0, 0]], 0, 0, 2, &VnetHdr::default())),
        ("strange".to_owned(), receive(&[vec![0; 30]], 0, 0, 2, &VnetHdr::default())),
    ];
    for kind in 0..4 {
        // A stream's segments in one train, the last shorter; then again with a checksum that nobody completed.
        let segments: Vec<_> =
            (0..4).map(|n| built(n * 100, &[3; 100][..if n == 3 { 50 } else { 100 }]).remove(kind)).collect();
        let name = segments[0].name.clone();
        let datagrams: Vec<_> = segments.iter().map(|segment| datagram(&segment.bytes)).collect();
        all.push((format!("{name}-train"), receive(&datagrams, datagrams[0].len(), 0, 2, &VnetHdr::default())));
        let owed = datagram(&segments[0].owed());
        all.push((format!("{name}-owed"), receive(std::slice::from_ref(&owed), 0, 0, 2, &VnetHdr::default())));
        all.push((
            format!("{name}-debts"),
            receive(std::slice::from_ref(&owed), 0, 0, 2, &segments[0].header(0, Some(30))),
        ));
        // The same, with checksums put right whatever changes.
        all.push((format!("{name}-right"), receive(&datagrams, datagrams[0].len(), 0, 130, &VnetHdr::default())));
        // A super-frame that the kernel handed over uncut: the stride is that of the datagrams inside.
        all.push((format!("{name}-uncut"), receive(&[owed], 25, 0, 2, &VnetHdr::default())));
    }
    ("vxlan", all.into_iter().map(|(name, bytes)| (name, [&mtu[..], &bytes].concat())).collect())
}

pub(crate) fn uplink() -> Seeds {
    let mut all: Vec<_> = Vec::new();
    for (name, bytes) in reads() {
        for is_v6 in [0, 1] {
            all.push((format!("wrap{}-{name}", 4 + 2 * is_v6), [&[1, is_v6, 0xb8], &bytes[..]].concat()));
        }
    }
    for built in built(1, &[0x5a; 100]) {
        let outer = |payload: &[u8]| {
            let mut bytes = Vec::new();
            let ip = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4([192, 0, 2, 2], [192, 0, 2, 1], 64);
            ip.udp(50_000, 4789).write(&mut bytes, payload).expect("a short packet");
            bytes
        };
        let inside = 14 + 20 + 8 + 8;
        let mut vnet = built.header(inside, Some(30));
        vnet.gso_type |= GSO_UDP_TUNNEL_IPV4;
        let header = TunnelHdr { vnet, outer_transport: 34, inner_network: inside + 14 };
        let whole = [&[0], &header.to_bytes()[..], &outer(&datagram(&built.owed()))].concat();
        all.push((format!("super-{}", built.name), whole));
        let train: Vec<u8> = [datagram(&built.bytes), datagram(&built.bytes)].concat();
        let vnet = VnetHdr {
            flags: F_NEEDS_CSUM,
            gso_type: GSO_UDP_L4,
            hdr_len: 42,
            gso_size: (train.len() / 2) as u16,
            csum_start: 34,
            csum_offset: 6,
        };
        let header = TunnelHdr { vnet, ..TunnelHdr::default() };
        all.push((format!("train-{}", built.name), [&[0], &header.to_bytes()[..], &outer(&train)].concat()));
    }
    ("uplink", all)
}

/// Bytes that mean nothing until the fuzzer has looked.
pub(crate) fn switch() -> Seeds {
    let mut word = 1_u64;
    let mut bytes = |len: usize| -> Vec<u8> {
        let next = || {
            // Knuth's multiplier: any generator will do, as long as it is the same tomorrow.
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (word >> 56) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    };
    ("switch", [50, 100, 200, 500, 1000].map(|len| (format!("random-{len}"), bytes(len))).to_vec())
}
