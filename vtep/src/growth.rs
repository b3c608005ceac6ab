//! What may be merged with what: a segment whose checksums are correct, and a super-frame that may grow by it.

use vswitch_core::wire::vlan::TAG_LEN;
use vswitch_core::{Checksum, Frame, Gso, GsoKind};

use crate::checksum::Sum;
use crate::cut::{CWR, FIN, PSH};
use crate::inner::{ETHERNET_LEN, Ip, TCP, Version, get16, get32, put};

/// Segments in a super-frame at most; also bounds the slices of the write that hands it over.
pub const MAX_MERGED_SEGMENTS: usize = 64;

/// Bytes of an IP packet at most.
const MAX_PACKET: usize = 65_535;
/// TCP flags that speak against merging a segment.
const SYN_RST_URG: u8 = 0x02 | 0x04 | 0x20;
const ACK: u8 = 0x10;
/// Don't fragment, in the seventh octet of an IPv4 header.
const DF: u8 = 0x40;

/// What the transport header of a frame allows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    /// It may be merged.
    Segment(Segment),
    /// The checksum field holds the pseudo-header's sum alone: a kernel on this machine sent it over a virtual device
    /// and left the rest to hardware that is not there. A UDP socket gets such frames as they are, super-frames uncut.
    Owed {
        /// Bytes before the payload.
        headers: usize,
        /// Where the checksum field lies in the transport header.
        field: usize,
    },
    /// It passes as it is.
    Opaque,
}

/// A TCP or UDP frame that is whole, and whose checksums are correct.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) headers: usize,
    payload: usize,
    /// 0 for UDP.
    seq: u32,
    flags: u8,
    /// 0 for IPv6.
    id: u16,
}

/// A frame that may grow, or has grown, to a super-frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    ip: Ip,
    is_tcp: bool,
    headers: usize,
    /// Payload bytes of each segment but the last.
    segment: usize,
    pub(crate) segments: usize,
    /// Bytes from the IP header to the end of the payload.
    packet: usize,
    /// The sequence number that must come next (TCP).
    seq: u32,
    /// The IPv4 identification of the latest segment, and by how much it grows.
    id: u16,
    step: Option<u16>,
    /// FIN and PSH of the latest segment.
    last_flags: u8,
    /// Nothing may follow.
    is_closed: bool,
}

impl Transport {
    /// Judges the transport header of `frame`. `ip` is plain, and 8 bytes of transport are there. A checksum that
    /// `checksum` says is owed needs no verifying: nobody has computed it yet.
    #[inline]
    pub(crate) fn inspect(frame: &[u8], ip: &Ip, checksum: Checksum) -> Self {
        let (at, is_tcp) = (ip.transport, ip.protocol == TCP);
        if ip.end != frame.len() {
            return Self::Opaque;
        }
        let field = if is_tcp { 16 } else { 6 };
        let (headers, seq, flags) = if is_tcp {
            let Some(header) = frame.get(at..).and_then(<[u8]>::first_chunk::<20>) else { return Self::Opaque };
            (at + usize::from(header[12] >> 4) * 4, get32(header, 4), header[13])
        } else {
            // Without a checksum there is nothing to verify.
            if usize::from(get16(frame, at + 4)) != frame.len() - at || get16(frame, at + 6) == 0 {
                return Self::Opaque;
            }
            (at + 8, 0, ACK)
        };
        let (Some(payload), Ok(len)) = (frame.len().checked_sub(headers), u16::try_from(frame.len() - at)) else {
            return Self::Opaque;
        };
        if headers < at + field + 2 {
            return Self::Opaque;
        }
        match checksum {
            Checksum::Complete => {
                let pseudo = Sum::pseudo_header(ip.addresses(frame), ip.protocol, len);
                // Asked first: one owed frame in 65,536 happens to sum up as if it were complete.
                if frame[at + field..at + field + 2] == pseudo.partial() {
                    return Self::Owed { headers, field };
                }
                if !pseudo.plus(Sum::of(&frame[at..])).is_valid() {
                    return Self::Opaque;
                }
            }
            Checksum::Partial { start, offset } => {
                if (usize::from(start), usize::from(offset)) != (at, field) {
                    return Self::Opaque;
                }
            }
        }
        let id = match ip.version {
            Version::V4 if !Sum::of(&frame[ip.at..at]).is_valid() => return Self::Opaque,
            Version::V4 => get16(frame, ip.at + 4),
            Version::V6 => 0,
        };
        if payload == 0 || flags & (SYN_RST_URG | CWR) != 0 || flags & ACK == 0 {
            return Self::Opaque;
        }
        Self::Segment(Segment { headers, payload, seq, flags, id })
    }
}

impl Growth {
    /// That of a frame which is `segment`.
    pub(crate) fn begin(ip: Ip, segment: &Segment) -> Self {
        Self {
            ip,
            is_tcp: ip.protocol == TCP,
            headers: segment.headers,
            segment: segment.payload,
            segments: 1,
            packet: segment.headers - ip.at + segment.payload,
            seq: segment.end(),
            id: segment.id,
            step: None,
            last_flags: 0,
            is_closed: segment.flags & (FIN | PSH) != 0,
        }
    }

    /// Whether `segment` in `frame` is the next one, with headers that cutting would give it.
    #[inline]
    pub(crate) fn takes(&self, head: &[u8], frame: &[u8], ip: &Ip, segment: &Segment) -> bool {
        let (at, transport) = (ip.at, ip.transport);
        let options = transport + 20..segment.headers;
        let same_ip = match ip.version {
            // Version, length and TOS; DF; TTL and protocol.
            Version::V4 => {
                let step = segment.id.wrapping_sub(self.id);
                // RFC 6864 4.1: what may not be fragmented needs no identification of its own.
                let counts = step == 1 || (step == 0 && frame[at + 6] & DF != 0);
                counts
                    && self.step.is_none_or(|known| known == step)
                    && same::<2>(head, frame, at)
                    && same::<4>(head, frame, at + 6)
            }
            // Version, class and label; next header and hop limit.
            Version::V6 => same::<4>(head, frame, at) && same::<2>(head, frame, at + 6),
        };
        let same_transport = !self.is_tcp
            || (segment.seq == self.seq
                // Acknowledgement and length of the header; window; urgent pointer and options.
                && same::<5>(head, frame, transport + 8)
                && same::<2>(head, frame, transport + 14)
                && same::<2>(head, frame, transport + 18)
                && head.get(options.clone()).is_some_and(|head| *head == frame[options])
                && (head[transport + 13] ^ segment.flags) & !(FIN | PSH) == 0);
        !self.is_closed
            && same_ip
            && segment.headers == self.headers
            && segment.payload <= self.segment
            && self.packet + segment.payload <= MAX_PACKET
            && same_transport
    }

    /// Adds `segment`.
    #[inline]
    pub(crate) fn extend(&mut self, segment: &Segment) {
        if self.ip.version == Version::V4 {
            self.step = Some(segment.id.wrapping_sub(self.id));
        }
        self.id = segment.id;
        self.seq = segment.end();
        self.segments += 1;
        self.packet += segment.payload;
        self.last_flags = segment.flags & (FIN | PSH);
        self.is_closed = self.last_flags != 0 || segment.payload < self.segment || self.segments == MAX_MERGED_SEGMENTS;
    }

    /// Gives `head` the lengths and flags of the whole, and the debts of a super-frame.
    pub(crate) fn patch(self, head: &mut Frame) {
        let Self { ip, is_tcp, headers, segment, packet, last_flags, .. } = self;
        let bytes = head.bytes_mut();
        let (start, transport_len) = (ip.transport, short(packet - (ip.transport - ip.at)));
        match ip.version {
            Version::V4 => {
                put(bytes, ip.at + 2, short(packet).to_be_bytes());
                put(bytes, ip.at + 10, [0; 2]);
                let sum = Sum::of(&bytes[ip.at..ip.transport]).complete();
                put(bytes, ip.at + 10, sum);
            }
            Version::V6 => put(bytes, ip.at + 4, transport_len.to_be_bytes()),
        }
        let offset = if is_tcp {
            bytes[start + 13] |= last_flags;
            16
        } else {
            put(bytes, start + 4, transport_len.to_be_bytes());
            6
        };
        let partial = Sum::pseudo_header(ip.addresses(bytes), ip.protocol, transport_len).partial();
        put(bytes, start + usize::from(offset), partial);
        head.offload.checksum = Checksum::Partial { start: short(start), offset };
        head.offload.gso = Some(Gso { kind: kind(&ip), segment: short(segment), header: short(headers), ecn: false });
    }
}

impl Segment {
    /// The sequence number behind it.
    #[inline]
    fn end(&self) -> u32 {
        self.seq.wrapping_add(u32::try_from(self.payload).unwrap_or(u32::MAX))
    }
}

/// What super-frames of this packet's transport are.
pub(crate) fn kind(ip: &Ip) -> GsoKind {
    match (ip.protocol, ip.version) {
        (TCP, Version::V4) => GsoKind::TcpV4,
        (TCP, Version::V6) => GsoKind::TcpV6,
        _ => GsoKind::Udp,
    }
}

/// Whether `frame` has the Ethernet header, protocol, addresses and ports of `head`. `ip` is plain, so that nothing
/// stands between the headers, and addresses stand beside ports.
#[inline]
pub(crate) fn same_flow(head: &[u8], frame: &[u8], ip: &Ip) -> bool {
    let same_ends = match ip.version {
        Version::V4 => same::<1>(head, frame, ip.at + 9) && same::<12>(head, frame, ip.at + 12),
        Version::V6 => same::<1>(head, frame, ip.at + 6) && same::<36>(head, frame, ip.at + 8),
    };
    let same_tag = ip.at == ETHERNET_LEN || same::<TAG_LEN>(head, frame, ETHERNET_LEN);
    same_ends && same::<ETHERNET_LEN>(head, frame, 0) && same_tag
}

/// A length within a packet, none of which is longer than [`MAX_PACKET`].
pub(crate) fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Whether both hold the same `N` bytes at `at`.
#[inline]
pub(crate) fn same<const N: usize>(head: &[u8], frame: &[u8], at: usize) -> bool {
    let bytes = |of: &[u8]| of.get(at..).and_then(<[u8]>::first_chunk::<N>).copied();
    bytes(head).is_some_and(|head| Some(head) == bytes(frame))
}
