//! Between the kernel's virtio-net header and a frame's offload debts, with a tunnel around the frame or without.

use vswitch_core::{Checksum, Gso, GsoKind, Offload};
use vswitch_sys::vnet::{self, VnetHdr};

use crate::cut::{MAX_SEGMENTS, header_len};
use crate::inner::{ETHERNET_LEN, tag_len};

/// The debts that `header` claims for `frame`; `None` where it points outside the frame or says what no kernel says.
///
/// `hdr_len` is only a hint (the kernel puts the length of its linear part there), so the end of the headers is read
/// from the transport header instead.
#[must_use]
pub fn offload(header: &VnetHdr, frame: &[u8]) -> Option<Offload> {
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
    if usize::from(start) < ETHERNET_LEN + tag_len(frame) || field + 2 > frame.len() {
        return None;
    }
    let checksum = Checksum::Partial { start, offset };
    let Some(kind) = kind else { return Some(Offload { checksum, gso: None }) };
    if header.gso_size == 0 {
        return None;
    }
    let headers = header_len(frame, kind, start)?;
    // Whoever gets it whole must be able to cut it without turning it into thousands.
    let payload = frame.len().saturating_sub(usize::from(headers));
    if payload.div_ceil(usize::from(header.gso_size)) > MAX_SEGMENTS {
        return None;
    }
    let gso = Gso { kind, segment: header.gso_size, header: headers, ecn: header.gso_type & vnet::GSO_ECN != 0 };
    Some(Offload { checksum, gso: Some(gso) })
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
    use vswitch_core::{Frame, Tag};

    /// Where a TCP header says how long it is.
    const TCP_DATA_OFFSET: usize = 12;

    fn tcp_frame() -> Frame {
        let mut bytes = vec![0u8; 3000];
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
        // With the tag off, bytes 14 to 17 are addresses.
        let mut tagged = tcp_frame();
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
}
