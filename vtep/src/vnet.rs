//! Between the kernel's virtio-net header and a frame's offload debts, with a tunnel around the frame or without.

use vswitch_core::{Checksum, Gso, GsoKind, Offload};
use vswitch_sys::vnet::{self, VnetHdr};

use crate::cut::{MAX_SEGMENTS, header_len};
use crate::inner::{ETHERNET_LEN, IPV4, IPV6, Ip, MACS_LEN, TCP, UDP, tag_len};

/// EtherTypes of ARP and RARP.
const ARP: [u8; 2] = [0x08, 0x06];
const RARP: [u8; 2] = [0x80, 0x35];
/// Below it an EtherType is a length (IEEE 802.3-2022 3.2.6), and what follows may be SNAP, in which IP can stand.
const LEAST_ETHERTYPE: u16 = 0x0600;
/// Protocols that carry packets with checksums of their own: IPv4, IPv6 and GRE (IANA).
const TUNNELS: [u8; 3] = [4, 41, 47];

/// The debts that `header` claims for `frame`; `None` where it points outside the frame or says what no kernel says.
///
/// `hdr_len` is only a hint (the kernel puts the length of its linear part there), so the end of the headers is read
/// from the transport header instead.
#[must_use]
pub fn offload(header: &VnetHdr, frame: &[u8]) -> Option<Offload> {
    // Whoever gets it whole must be able to cut it without turning it into thousands.
    claimed(header, frame).filter(|offload| {
        offload
            .gso
            .is_none_or(|gso| usize::try_from(gso.frames(frame.len())).is_ok_and(|frames| frames <= MAX_SEGMENTS))
    })
}

/// As [`offload`], of any number of segments.
pub(crate) fn claimed(header: &VnetHdr, frame: &[u8]) -> Option<Offload> {
    let kind = match header.gso_type & !vnet::GSO_ECN {
        vnet::GSO_NONE => None,
        vnet::GSO_TCPV4 => Some(GsoKind::TcpV4),
        vnet::GSO_TCPV6 => Some(GsoKind::TcpV6),
        vnet::GSO_UDP_L4 => Some(GsoKind::Udp),
        _ => return None,
    };
    if header.flags & vnet::F_NEEDS_CSUM == 0 {
        // Virtio 1.2 5.1.6.2: a super-frame always leaves its checksum to the device.
        return kind.is_none().then(Offload::default);
    }
    let (start, offset) = (header.csum_start, header.csum_offset);
    let field = usize::from(start) + usize::from(offset);
    // A sum stored among the addresses and the tag, where a tag's coming off may put it, would change them behind the
    // switch's back.
    if usize::from(start) < ETHERNET_LEN + tag_len(frame) || field + 2 > frame.len() || !may_owe(frame, start.into()) {
        return None;
    }
    let checksum = Checksum::Partial { start, offset };
    let Some(kind) = kind else { return Some(Offload { checksum, gso: None }) };
    if header.gso_size == 0 {
        return None;
    }
    let headers = header_len(frame, kind, start)?;
    let gso = Gso { kind, segment: header.gso_size, header: headers, ecn: header.gso_type & vnet::GSO_ECN != 0 };
    Some(Offload { checksum, gso: Some(gso) })
}

/// Whether a checksum may be owed from `start` on: a kernel leaves those of TCP and UDP, in a tunnel or not. Whoever pays
/// the debt writes where the sender of the frame said, so that elsewhere it could change an address after all checks: in
/// the IP header, in ARP, in neighbour discovery, or in the LLC header that makes a frame SNAP.
fn may_owe(frame: &[u8], start: usize) -> bool {
    match Ip::find(frame) {
        Some(ip) => start >= ip.transport && (matches!(ip.protocol, TCP | UDP) || TUNNELS.contains(&ip.protocol)),
        None => {
            let ethertype = frame.get(MACS_LEN + tag_len(frame)..).and_then(|rest| rest.first_chunk::<2>());
            ethertype.is_some_and(|&ethertype| {
                let is_length = u16::from_be_bytes(ethertype) < LEAST_ETHERTYPE;
                !is_length && ![IPV4, IPV6, ARP, RARP].contains(&ethertype)
            })
        }
    }
}

/// The header that tells the kernel of `offload`.
#[must_use]
pub fn header(offload: &Offload) -> VnetHdr {
    let mut header = VnetHdr::default();
    if let Checksum::Partial { start, offset } = offload.checksum {
        header.flags = vnet::F_NEEDS_CSUM;
        (header.csum_start, header.csum_offset) = (start, offset);
    }
    if let Some(gso) = offload.gso {
        header.gso_type = match gso.kind {
            GsoKind::TcpV4 => vnet::GSO_TCPV4,
            GsoKind::TcpV6 => vnet::GSO_TCPV6,
            GsoKind::Udp => vnet::GSO_UDP_L4,
        } | if gso.ecn { vnet::GSO_ECN } else { 0 };
        (header.hdr_len, header.gso_size) = (gso.header, gso.segment);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Build, tagged};
    use vswitch_core::{Frame, Tag};

    /// Where a TCP header says how long it is.
    const TCP_DATA_OFFSET: usize = 12;

    fn tcp_frame() -> Frame {
        let mut bytes = vec![0u8; 3000];
        bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
        bytes[34 + TCP_DATA_OFFSET] = 0x80; // 32 bytes of header
        Frame::from_bytes(&bytes)
    }

    #[test]
    fn a_super_frame_there_and_back() {
        let said = VnetHdr {
            flags: vnet::F_NEEDS_CSUM,
            gso_type: vnet::GSO_TCPV4 | vnet::GSO_ECN,
            hdr_len: 200, // the hint may be wrong
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        let debts = offload(&said, tcp_frame().bytes()).unwrap();
        assert_eq!(debts.gso, Some(Gso { kind: GsoKind::TcpV4, segment: 1448, header: 66, ecn: true }));
        assert_eq!(header(&debts), VnetHdr { hdr_len: 66, ..said });
    }

    #[test]
    fn hostile_headers_are_refused() {
        let good = VnetHdr {
            flags: vnet::F_NEEDS_CSUM,
            gso_type: vnet::GSO_TCPV4,
            hdr_len: 66,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        let cases = [
            ("checksum field past the end", VnetHdr { csum_start: 2990, ..good }),
            ("start at the maximum", VnetHdr { csum_start: u16::MAX, csum_offset: u16::MAX, ..good }),
            ("start inside Ethernet", VnetHdr { csum_start: 13, ..good }),
            ("no segment size", VnetHdr { gso_size: 0, ..good }),
            ("too many segments", VnetHdr { gso_size: 5, ..good }),
            ("segments without checksum", VnetHdr { flags: 0, ..good }),
            ("UFO, which is long gone", VnetHdr { gso_type: 3, ..good }),
            ("unknown type", VnetHdr { gso_type: 0x7f, ..good }),
        ];
        for (what, hostile) in cases {
            assert_eq!(offload(&hostile, tcp_frame().bytes()), None, "{what}");
        }
        // With the tag off, bytes 14 to 17 are addresses. What the switch does not know may owe from anywhere behind.
        let mut tagged = tcp_frame();
        tagged.bytes_mut()[12..14].copy_from_slice(&[0x88, 0xb5]);
        tagged.retag(Some(Tag::from_bits(10)));
        for (csum_start, accepted) in [(14, false), (17, false), (18, true)] {
            let said = VnetHdr { csum_start, gso_type: vnet::GSO_NONE, ..good };
            assert_eq!(offload(&said, tagged.bytes()).is_some(), accepted, "start at {csum_start} of a tagged frame");
        }
        let mut lying = tcp_frame();
        lying.bytes_mut()[34 + TCP_DATA_OFFSET] = 0xf0;
        let short = Frame::from_bytes(&lying.bytes()[..80]);
        assert_eq!(offload(&good, short.bytes()), None, "TCP header past the end");
    }

    #[test]
    fn a_checksum_is_owed_by_tcp_and_udp_only() {
        let owed =
            |start| VnetHdr { flags: vnet::F_NEEDS_CSUM, csum_start: start, csum_offset: 6, ..VnetHdr::default() };
        let with = |frame: &[u8], at: usize, byte| {
            let mut frame = frame.to_vec();
            frame[at] = byte;
            frame
        };
        let (v4, v6) = (Build::udp4().payload(&[0; 60]).bytes(), Build::udp6().payload(&[0; 60]).bytes());
        let ethertype = |frame: &[u8], [hi, lo]: [u8; 2]| with(&with(frame, 12, hi), 13, lo);
        let table = [
            ("UDP", v4.clone(), 34, true),
            ("UDP in a VLAN", tagged(&v4, 10), 38, true),
            ("UDP over IPv6", v6.clone(), 54, true),
            ("something in UDP", v4.clone(), 60, true),
            ("a packet in IPv4", with(&v4, 23, 4), 60, true),
            ("a packet in GRE", with(&v6, 20, 47), 60, true),
            ("the IPv4 header", v4.clone(), 33, false),
            ("the IPv4 source, in a VLAN", tagged(&v4, 10), 24, false),
            ("the IPv6 header", v6.clone(), 53, false),
            ("ICMP", with(&v4, 23, 1), 34, false),
            ("the target of an advertisement", with(&v6, 20, 58), 56, false),
            ("authentication", with(&v6, 20, 51), 54, false),
            ("IPv4 of another version", with(&v4, 14, 0x65), 34, false),
            ("the sender in ARP", ethertype(&v4, ARP), 22, false),
            ("the sender in RARP, in a VLAN", tagged(&ethertype(&v4, RARP), 10), 26, false),
            ("the head of SNAP", ethertype(&v4, [0, 60]), 14, false),
            ("a frame of IEEE 802.3, in a VLAN", tagged(&ethertype(&v4, [5, 0xff]), 10), 38, false),
            ("the least EtherType", ethertype(&v4, [6, 0]), 34, true),
            ("what the switch does not know", ethertype(&v4, [0x88, 0xa8]), 38, true),
        ];
        for (what, frame, start, expected) in table {
            assert_eq!(offload(&owed(start), &frame).is_some(), expected, "{what}");
        }
    }
}
