//! Cutting a super-frame into segments, and paying the checksum a plain frame owes.
//!
//! A segment is headers of its own, written to a scratch buffer, and a range of the frame's payload, which stays where
//! it lies: it is read once, for its checksum. The tunnel sends segments as datagrams; a device that refused to cut
//! super-frames itself gets them one by one.
//!
//! Offload metadata comes from a container that can write what it likes, so nothing in it is believed: every offset is
//! checked against the bytes.

use std::ops::Range;

use thiserror::Error;
use vswitch_core::{Checksum, Frame, Gso, GsoKind};

use crate::checksum::Sum;
use crate::inner::{ETHERNET_LEN, Ip, MACS_LEN, TCP, UDP, UDP_LEN, Version, get16, get32, put, tag_len};

/// Segments of one super-frame at most: 64 KiB at 128 bytes each. More is an attack, a frame of one's own making that
/// turns into thousands here.
pub const MAX_SEGMENTS: usize = 512;

/// Where the checksum stands in a TCP and in a UDP header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
/// Flags in the fourteenth octet of a TCP header (RFC 9293 3.1, RFC 3168 6.1).
pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const CWR: u8 = 0x80;

/// The offload metadata does not fit the frame's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "offload metadata points outside the frame, does not match its headers, or asks for more than {MAX_SEGMENTS} segments"
)]
pub struct BadOffload;

/// Bytes before the payload of a TCP or UDP frame whose transport header begins at `transport`: what [`Gso::header`]
/// must say. The length a kernel puts in its virtio-net header is only a hint: it is that of the linear part of its
/// buffer, which may hold payload too.
#[must_use]
pub fn header_len(frame: &[u8], kind: GsoKind, transport: u16) -> Option<u16> {
    let at = usize::from(transport);
    let len = match kind {
        GsoKind::Udp => UDP_LEN,
        GsoKind::TcpV4 | GsoKind::TcpV6 => usize::from(frame.get(at + 12)? >> 4) * 4,
    };
    (len >= UDP_LEN && at + len <= frame.len()).then(|| u16::try_from(at + len).ok())?
}

/// The segments of a frame in order. A frame that is no super-frame is one segment.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    bytes: &'a [u8],
    /// Bytes of the tag left out of what is written.
    skip: usize,
    /// End of the headers that each segment gets a copy of.
    headers: usize,
    plan: Plan,
    /// First payload byte of the next segment; `None` once the last was written.
    next: Option<usize>,
}

#[derive(Clone, Debug)]
enum Plan {
    /// Nothing is owed.
    Whole,
    /// A checksum over everything from `start`, stored at `field`.
    Sum {
        start: usize,
        field: usize,
    },
    Gso(Super),
}

/// A validated super-frame: what its segments have in common.
#[derive(Clone, Debug)]
struct Super {
    segment: usize,
    ip: Ip,
    is_tcp: bool,
    /// Sum of the IPv4 header without length, identification and checksum.
    ip_sum: Sum,
    /// Sum of the pseudo-header without length and of the transport header without what differs from segment to segment.
    transport_sum: Sum,
    /// IPv4 identification of the next segment.
    id: u16,
    /// TCP sequence number of the next segment.
    seq: u32,
    /// TCP flags of the super-frame; CWR goes with the first segment.
    flags: u8,
}

impl<'a> Segments<'a> {
    /// The segments of `frame` as it stands, with its tag if it has one.
    ///
    /// # Errors
    /// The frame's offload metadata does not fit its bytes.
    #[inline]
    pub fn new(frame: &'a Frame) -> Result<Self, BadOffload> {
        Self::with_skip(frame, 0)
    }

    /// The segments of `frame` without its tag.
    ///
    /// # Errors
    /// The frame's offload metadata does not fit its bytes.
    #[inline]
    pub fn untagged(frame: &'a Frame) -> Result<Self, BadOffload> {
        Self::with_skip(frame, tag_len(frame.bytes()))
    }

    fn with_skip(frame: &'a Frame, skip: usize) -> Result<Self, BadOffload> {
        let bytes = frame.bytes();
        let (plan, headers) = match (frame.offload.gso, frame.offload.checksum) {
            (Some(gso), checksum) => (Plan::Gso(Super::new(bytes, gso, checksum)?), usize::from(gso.header)),
            // The Ethernet header is copied too: payload ranges then lie behind any tag.
            (None, Checksum::Complete) => (Plan::Whole, bytes.len().min(ETHERNET_LEN + skip)),
            (None, Checksum::Partial { start, offset }) => {
                let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
                if start < ETHERNET_LEN + tag_len(bytes) || field + 2 > bytes.len() {
                    return Err(BadOffload);
                }
                (Plan::Sum { start, field }, field + 2)
            }
        };
        Ok(Self { bytes, skip, headers, plan, next: Some(headers) })
    }

    /// Bytes of the longest segment.
    #[must_use]
    #[inline]
    pub fn longest(&self) -> usize {
        let payload = self.bytes.len() - self.headers;
        self.headers - self.skip
            + match &self.plan {
                Plan::Whole | Plan::Sum { .. } => payload,
                Plan::Gso(gso) => payload.min(gso.segment),
            }
    }

    /// Appends the headers of the next segment to `out`, complete with lengths and checksums, and returns where in the
    /// frame's bytes its payload lies.
    #[inline]
    pub fn write_next(&mut self, out: &mut Vec<u8>) -> Option<Range<usize>> {
        let from = self.next?;
        let to = match &self.plan {
            Plan::Whole | Plan::Sum { .. } => self.bytes.len(),
            Plan::Gso(gso) => self.bytes.len().min(from + gso.segment),
        };
        let is_last = to == self.bytes.len();
        self.next = (!is_last).then_some(to);

        let at = out.len();
        if self.skip == 0 {
            out.extend_from_slice(&self.bytes[..self.headers]);
        } else {
            out.extend_from_slice(&self.bytes[..MACS_LEN]);
            out.extend_from_slice(&self.bytes[MACS_LEN + self.skip..self.headers]);
        }
        // From here on the offsets of the frame hold behind the tag that was left out.
        let written = &mut out[at..];
        match &mut self.plan {
            Plan::Whole => {}
            Plan::Sum { start, field } => {
                let sum = Sum::of(&self.bytes[*start..]);
                let is_udp = *field - *start == UDP_CHECKSUM;
                put(written, *field - self.skip, if is_udp { sum.complete_nonzero() } else { sum.complete() });
            }
            Plan::Gso(gso) => gso.patch(written, self.skip, &self.bytes[from..to], is_last),
        }
        Some(from..to)
    }
}

impl Super {
    fn new(bytes: &[u8], gso: Gso, checksum: Checksum) -> Result<Self, BadOffload> {
        let ip = Ip::find(bytes).ok_or(BadOffload)?;
        let (protocol, field, versions): (_, _, &[Version]) = match gso.kind {
            GsoKind::TcpV4 => (TCP, TCP_CHECKSUM, &[Version::V4]),
            GsoKind::TcpV6 => (TCP, TCP_CHECKSUM, &[Version::V6]),
            GsoKind::Udp => (UDP, UDP_CHECKSUM, &[Version::V4, Version::V6]),
        };
        let at = ip.transport;
        let transport = u16::try_from(at).map_err(|_| BadOffload)?;
        let checksum_fits = match checksum {
            Checksum::Complete => true,
            Checksum::Partial { start, offset } => start == transport && usize::from(offset) == field,
        };
        let headers = header_len(bytes, gso.kind, transport).ok_or(BadOffload)?;
        let is_tcp = protocol == TCP;
        if !versions.contains(&ip.version)
            || ip.protocol != protocol
            || ip.fragment
            || ip.routed
            || !checksum_fits
            || headers != gso.header
            || (is_tcp && usize::from(headers) < at + 20)
        {
            return Err(BadOffload);
        }

        let (headers, segment) = (usize::from(headers), usize::from(gso.segment));
        let payload = bytes.len() - headers;
        let longest = headers - ip.at + payload.min(segment);
        if segment == 0 || payload.div_ceil(segment) > MAX_SEGMENTS || longest > usize::from(u16::MAX) {
            return Err(BadOffload);
        }

        let mut header = [0; 60];
        let header = &mut header[..headers - at];
        header.copy_from_slice(&bytes[at..headers]);
        put(header, field, [0; 2]);
        let (mut seq, mut flags) = (0, 0);
        if is_tcp {
            (seq, flags) = (get32(header, 4), header[13]);
            put(header, 4, [0; 4]);
            header[13] = 0;
        } else {
            put(header, 4, [0; 2]);
        }
        let transport_sum = Sum::pseudo_header(ip.addresses(bytes), protocol, 0).plus(Sum::of(header));

        let (mut ip_sum, mut id) = (Sum::ZERO, 0);
        if ip.version == Version::V4 {
            let mut header = [0; 60];
            let header = &mut header[..at - ip.at];
            header.copy_from_slice(&bytes[ip.at..at]);
            id = get16(header, 4);
            put(header, 2, [0; 4]);
            put(header, 10, [0; 2]);
            ip_sum = Sum::of(header);
        }
        Ok(Self { segment, ip, is_tcp, ip_sum, transport_sum, id, seq, flags })
    }

    /// Makes `headers`, a copy of the super-frame's without `skip` bytes of tag, those of the segment that carries
    /// `payload`.
    #[inline]
    fn patch(&mut self, headers: &mut [u8], skip: usize, payload: &[u8], is_last: bool) {
        let (ip, transport) = (self.ip.at - skip, self.ip.transport - skip);
        // Both fit: `new` measured the longest segment.
        let length = |from: usize| u16::try_from(headers.len() - from + payload.len()).unwrap_or(u16::MAX);
        let (ip_len, transport_len) = (length(ip), length(transport));
        match self.ip.version {
            Version::V4 => {
                put(headers, ip + 2, ip_len.to_be_bytes());
                put(headers, ip + 4, self.id.to_be_bytes());
                put(headers, ip + 10, self.ip_sum.word(ip_len).word(self.id).complete());
                self.id = self.id.wrapping_add(1);
            }
            Version::V6 => put(headers, ip + 4, (ip_len - 40).to_be_bytes()),
        }

        let sum = self.transport_sum.word(transport_len).plus(Sum::of(payload));
        if self.is_tcp {
            let flags = if is_last { self.flags } else { self.flags & !(FIN | PSH) };
            put(headers, transport + 4, self.seq.to_be_bytes());
            headers[transport + 13] = flags;
            let [a, b, c, d] = self.seq.to_be_bytes();
            let sum = sum.word(u16::from_be_bytes([a, b])).word(u16::from_be_bytes([c, d])).word(u16::from(flags));
            put(headers, transport + TCP_CHECKSUM, sum.complete());
            let advance = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            self.seq = self.seq.wrapping_add(advance);
            self.flags &= !CWR;
        } else {
            put(headers, transport + 4, transport_len.to_be_bytes());
            put(headers, transport + UDP_CHECKSUM, sum.word(transport_len).complete_nonzero());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Build, check, tagged};
    use proptest::prelude::*;
    use vswitch_core::{Offload, Tag};

    fn pieces(frame: &Frame, segments: Segments<'_>) -> Vec<Vec<u8>> {
        let (mut segments, mut scratch) = (segments, Vec::new());
        let mut all = Vec::new();
        while let Some(payload) = {
            scratch.clear();
            segments.write_next(&mut scratch)
        } {
            all.push([&scratch, &frame.bytes()[payload]].concat());
        }
        all
    }

    #[test]
    fn super_frames_at_every_boundary() {
        for build in [Build::tcp4(), Build::tcp6(), Build::udp4(), Build::udp6()] {
            let build = build.flags(0x10 | FIN | PSH | CWR);
            for len in [1, 2, 999, 1000, 1001, 1999, 2000, 2001, 2999, 3000, 64_000] {
                let build = build.clone().payload(&(0..=255).cycle().take(len).collect::<Vec<u8>>());
                let mut frame = build.frame(Some(1000));
                let expected = build.cut(1000);
                expected.iter().for_each(|segment| check(segment));
                assert_eq!(pieces(&frame, Segments::new(&frame).unwrap()), expected, "{len} bytes");
                let longest = expected.iter().map(Vec::len).max().unwrap();
                assert_eq!(Segments::new(&frame).unwrap().longest(), longest);

                frame.retag(Some(Tag::from_bits(0x6005)));
                assert_eq!(pieces(&frame, Segments::untagged(&frame).unwrap()), expected);
                assert_eq!(Segments::untagged(&frame).unwrap().longest(), longest);
                let expected: Vec<_> = expected.iter().map(|segment| tagged(segment, 0x6005)).collect();
                assert_eq!(pieces(&frame, Segments::new(&frame).unwrap()), expected);
            }
        }
    }

    #[test]
    fn a_checksum_owed_is_paid() {
        for build in [Build::tcp4(), Build::tcp6(), Build::udp4(), Build::udp6()] {
            for len in [0, 1, 7, 1400] {
                let build = build.clone().payload(&vec![0x5a; len]);
                let mut frame = build.frame(None);
                check(&pieces(&frame, Segments::new(&frame).unwrap())[0]);
                frame.retag(Some(Tag::from_bits(5)));
                check(&pieces(&frame, Segments::untagged(&frame).unwrap())[0]);
            }
        }
    }

    #[test]
    fn a_zero_udp_checksum_is_stored_as_ones() {
        let mut build = Build::udp4().payload(&[0, 0]);
        let bytes = build.bytes();
        // Adding the checksum itself to the payload makes the new sum all ones.
        build.payload = bytes[40..42].to_vec();
        let frame = build.frame(None);
        let sent = &pieces(&frame, Segments::new(&frame).unwrap())[0];
        assert_eq!(sent[40..42], [0xff, 0xff]);
        let frame = build.frame(Some(10));
        assert_eq!(&pieces(&frame, Segments::new(&frame).unwrap())[0], sent);
    }

    #[test]
    fn what_owes_nothing_passes() {
        for len in 0..40 {
            let frame = Frame::from_bytes(&vec![7; len]);
            assert_eq!(pieces(&frame, Segments::new(&frame).unwrap()), [vec![7; len]]);
        }
        let plain = Build::tcp4().payload(b"as it stands").bytes();
        let frame = Frame::from_bytes(&tagged(&plain, 9));
        assert_eq!(pieces(&frame, Segments::untagged(&frame).unwrap()), [plain]);
    }

    #[test]
    fn hostile_metadata() {
        type Twist = fn(&mut Frame);
        fn with(frame: &mut Frame, change: impl Fn(&mut Gso)) {
            change(frame.offload.gso.as_mut().unwrap());
        }
        let table: &[(&str, Twist)] = &[
            ("segment 0", |frame| with(frame, |gso| gso.segment = 0)),
            ("too many segments", |frame| with(frame, |gso| gso.segment = 3)),
            ("headers behind the end", |frame| with(frame, |gso| gso.header = 60_000)),
            ("headers too short", |frame| with(frame, |gso| gso.header -= 4)),
            ("headers too long", |frame| with(frame, |gso| gso.header += 4)),
            ("no headers", |frame| with(frame, |gso| gso.header = 0)),
            ("UDP that is TCP", |frame| with(frame, |gso| gso.kind = GsoKind::Udp)),
            ("IPv6 that is IPv4", |frame| with(frame, |gso| gso.kind = GsoKind::TcpV6)),
            ("start in the IP header", |frame| {
                frame.offload.checksum = Checksum::Partial { start: 33, offset: 16 };
            }),
            ("checksum field elsewhere", |frame| frame.offload.checksum = Checksum::Partial { start: 34, offset: 6 }),
            ("no IP", |frame| frame.bytes_mut()[12] = 0x88),
            ("version 6 in an IPv4 frame", |frame| frame.bytes_mut()[14] = 0x65),
            ("a fragment", |frame| frame.bytes_mut()[20] |= 0x20),
            ("another protocol", |frame| frame.bytes_mut()[23] = 1),
            ("TCP header of 16 bytes", |frame| {
                frame.bytes_mut()[46] = 0x40;
                with(frame, |gso| gso.header = 50);
            }),
            ("start in the Ethernet header", |frame| {
                frame.offload = Offload { checksum: Checksum::Partial { start: 13, offset: 0 }, gso: None };
            }),
            ("field behind the end", |frame| {
                let offset = u16::try_from(frame.len() - 35).unwrap();
                frame.offload = Offload { checksum: Checksum::Partial { start: 34, offset }, gso: None };
            }),
            ("start behind the end", |frame| {
                frame.offload = Offload { checksum: Checksum::Partial { start: 65_535, offset: 65_535 }, gso: None };
            }),
        ];
        let good = Build::tcp4().payload(&[1; 4000]).frame(Some(1000));
        assert!(Segments::new(&good).is_ok());
        for (what, twist) in table {
            let mut frame = good.clone();
            twist(&mut frame);
            assert_eq!(Segments::new(&frame).map(drop), Err(BadOffload), "{what}");
        }
    }

    #[test]
    fn an_ipv6_routing_header_is_refused_and_options_are_not() {
        let base = Build::udp6().payload(&[3; 300]).frame(Some(100));
        for (extension, accepted) in [(0, true), (60, true), (43, false), (44, false)] {
            let bytes = base.bytes();
            let with = [&bytes[..20], &[extension], &bytes[21..54], &[17, 0, 0, 0, 0, 0, 0, 0], &bytes[54..]].concat();
            let mut frame = Frame::from_bytes(&with);
            frame.offload = base.offload.shifted(8).unwrap();
            assert_eq!(Segments::new(&frame).is_ok(), accepted, "extension {extension}");
            if accepted {
                pieces(&frame, Segments::new(&frame).unwrap()).iter().for_each(|segment| check(segment));
            }
        }
    }

    #[test]
    fn header_lengths() {
        let tcp = Build::tcp4().payload(b"x").bytes();
        assert_eq!(header_len(&tcp, GsoKind::TcpV4, 34), Some(66));
        let udp = Build::udp6().payload(b"x").bytes();
        assert_eq!(header_len(&udp, GsoKind::Udp, 54), Some(62));
        for transport in [56, 63, 200, u16::MAX] {
            assert_eq!(header_len(&udp, GsoKind::Udp, transport), None, "{transport}");
        }
    }

    fn any_offload() -> impl Strategy<Value = Offload> {
        let small = prop_oneof![0_u16..200, any::<u16>()];
        let kind = prop_oneof![Just(GsoKind::TcpV4), Just(GsoKind::TcpV6), Just(GsoKind::Udp)];
        let gso = (kind, small.clone(), small.clone(), any::<bool>());
        let gso = prop::option::of(gso.prop_map(|(kind, segment, header, ecn)| Gso { kind, segment, header, ecn }));
        let checksum = prop_oneof![
            Just(Checksum::Complete),
            (small.clone(), small).prop_map(|(start, offset)| Checksum::Partial { start, offset })
        ];
        (checksum, gso).prop_map(|(checksum, gso)| Offload { checksum, gso })
    }

    proptest! {
        #[test]
        fn hostile_input_never_panics(
            build in prop_oneof![Just(Build::tcp4()), Just(Build::tcp6()), Just(Build::udp4()), Just(Build::udp6())],
            noise in prop::collection::vec((0_usize..120, any::<u8>()), 0..6),
            len in 0_usize..3000,
            cut in 0_usize..3200,
            offload in any_offload(),
            fitting in any::<bool>(),
            tag in any::<bool>(),
        ) {
            let good = build.payload(&vec![1; len]).frame(Some(100));
            let mut bytes = good.bytes().to_vec();
            bytes.truncate(cut);
            for (at, value) in noise {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let mut frame = Frame::from_bytes(&bytes);
            frame.offload = if fitting { good.offload } else { offload };
            if tag {
                frame.retag(Some(Tag::from_bits(5)));
            }
            for segments in [Segments::new(&frame), Segments::untagged(&frame)].into_iter().flatten() {
                let longest = segments.longest();
                let all = pieces(&frame, segments);
                prop_assert!(all.len() <= MAX_SEGMENTS);
                prop_assert_eq!(all.iter().map(Vec::len).max(), Some(longest));
            }
        }
    }
}
