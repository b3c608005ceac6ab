//! Consecutive segments of a flow become one super-frame again, so that everything behind the tunnel runs once for up
//! to 64 KiB.
//!
//! Only segments whose checksums were verified are merged, and only where cutting the result gives the same segments
//! back: the container cannot tell. The super-frame is a head, the first segment's headers with lengths of the whole,
//! and a tail of payload pieces that stay in the receive buffers. Its checksum is owed: the field holds the
//! pseudo-header's sum, which tells the kernel that the payload was verified.
//!
//! Flows may be interleaved: a small table holds those that are open. A flow that finds its place taken closes the one
//! there, which costs a merge and nothing else. Frames of a flow leave in the order they came in.

use std::ops::Range;

use vswitch_core::{Checksum, Frame, Gso, GsoKind, Offload, PortId, VlanId};

use crate::checksum::Sum;
use crate::cut::{CWR, FIN, PSH};
use crate::decap::{DatagramTrain, DecapDrop, Inner, decap};
use crate::entropy;
use crate::inner::{Ip, TCP, UDP, Version, get16, get32, put};
use crate::remotes::Directory;

/// Segments in a super-frame at most; also bounds the slices of the write that hands it over.
pub const MAX_MERGED_SEGMENTS: usize = 64;

/// Bytes of an IP packet at most.
const MAX_PACKET: usize = 65_535;
/// Bytes of a frame held in the head: all headers we parse, and what an ICMP error must quote.
const HEAD: usize = 160;
/// Flows open at a time.
const FLOWS: usize = 256;
/// TCP flags that speak against merging a segment.
const SYN_RST_URG: u8 = 0x02 | 0x04 | 0x20;
const ACK: u8 = 0x10;
/// Don't fragment, in the seventh octet of an IPv4 header.
const DF: u8 = 0x40;

/// What to merge; a transport whose super-frames the ports cannot take is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeOptions {
    /// TCP over IPv4 and IPv6.
    pub tcp: bool,
    /// UDP over both.
    pub udp: bool,
    /// Bytes of the longest frame the underlay carries ([`crate::largest_inner_frame`]). What is longer and owes its
    /// checksum is a super-frame that nobody cut.
    pub longest_frame: usize,
}

/// A piece of payload in a receive buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Which buffer: the number given to [`Merge::receive`].
    pub buffer: usize,
    /// Where in it.
    pub range: Range<usize>,
}

/// A frame or super-frame from a remote.
#[derive(Debug)]
pub struct Inbound {
    /// The switch's port that stands for the sender.
    pub remote: PortId,
    /// Its VLAN.
    pub vlan: VlanId,
    /// Its first bytes, all headers among them, with headroom for a device header and the offload debts.
    pub head: Frame,
    tail: Vec<Tail>,
    merged: Option<Merged>,
}

/// What is known of a super-frame while it grows.
#[derive(Clone, Copy, Debug)]
struct Merged {
    ip: Ip,
    is_tcp: bool,
    headers: usize,
    segment: usize,
    /// Bytes from the IP header to the end of the payload.
    packet: usize,
    /// FIN and PSH of the last segment.
    last_flags: u8,
}

/// A flow whose latest frame may still grow.
#[derive(Clone, Copy, Debug)]
struct Open {
    inbound: usize,
    segments: usize,
    /// The sequence number that must come next (TCP).
    seq: u32,
    /// The IPv4 identification of the latest segment, and by how much it grows.
    id: u16,
    step: Option<u16>,
    merged: Merged,
}

/// What the transport header of a frame allows.
#[derive(Clone, Copy, Debug)]
enum Transport {
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
struct Segment {
    headers: usize,
    payload: usize,
    /// 0 for UDP.
    seq: u32,
    flags: u8,
    /// 0 for IPv6.
    id: u16,
}

/// Merges the segments of a batch of received trains.
#[derive(Debug)]
pub struct Merge {
    options: MergeOptions,
    /// Grows to the largest batch seen; the first `used` belong to this one.
    inbound: Vec<Inbound>,
    used: usize,
    flows: Box<[Option<Open>]>,
    /// The place in `flows` of the latest frame.
    latest: usize,
}

impl Merge {
    /// An empty batch.
    #[must_use]
    pub fn new(options: MergeOptions) -> Self {
        Self { options, inbound: Vec::new(), used: 0, flows: vec![None; FLOWS].into_boxed_slice(), latest: 0 }
    }

    /// Takes the frames of a train, which lies in receive buffer number `buffer`; `dropped` hears of every datagram
    /// that is none of ours.
    pub fn receive(
        &mut self,
        buffer: usize,
        train: &mut DatagramTrain<'_>,
        directory: &Directory,
        mut dropped: impl FnMut(DecapDrop),
    ) {
        decap(train, directory, |bytes, inner| match inner {
            Ok(inner) => {
                if let Err(reason) = self.push(buffer, &bytes[inner.range.clone()], &inner) {
                    dropped(reason);
                }
            }
            Err(reason) => dropped(reason),
        });
    }

    /// The frames of the batch, in order of arrival; super-frames stand where their first segment came in. To be called
    /// when the last train of the batch was received.
    pub fn finish(&mut self) -> &mut [Inbound] {
        self.close_all();
        let batch = &mut self.inbound[..self.used];
        for inbound in batch.iter_mut() {
            if let Some(merged) = inbound.merged.take() {
                merged.patch(&mut inbound.head);
            }
        }
        batch
    }

    /// Forgets the batch and keeps the memory.
    pub fn clear(&mut self) {
        self.close_all();
        self.used = 0;
    }

    fn close_all(&mut self) {
        self.flows.fill(None);
    }

    fn push(&mut self, buffer: usize, frame: &[u8], inner: &Inner) -> Result<(), DecapDrop> {
        let ip = match Ip::find(frame) {
            Some(ip) if ip.protocol == TCP || ip.protocol == UDP || ip.fragment => ip,
            _ => {
                self.add(buffer, frame, inner);
                return Ok(());
            }
        };
        if !ip.is_plain() || frame.len() < ip.transport + 8 {
            // A fragment, options, extensions: it may belong to any open flow, and none may overtake it.
            self.close_all();
            self.add(buffer, frame, inner);
            return Ok(());
        }

        let place = self.place(frame, &ip, inner);
        self.latest = place;
        let segment = match Transport::inspect(frame, &ip) {
            Transport::Segment(segment) => Some(segment).filter(|_| self.options.takes(&ip)),
            Transport::Owed { headers, field } => {
                let offload = self.options.owed(frame, &ip, headers, field)?;
                self.flows[place] = None;
                let index = self.add(buffer, frame, inner);
                self.inbound[index].head.offload = offload;
                return Ok(());
            }
            Transport::Opaque => None,
        };
        if let (Some(open), Some(segment)) = (&mut self.flows[place], &segment)
            && let Some(inbound) = self.inbound.get_mut(open.inbound)
            && inbound.is_flow(frame, &ip, inner)
            && open.continues(inbound.head.bytes(), frame, &ip, segment)
        {
            let range = inner.range.start + segment.headers..inner.range.end;
            inbound.tail.push(Tail { buffer, range });
            let may_grow = open.extend(&ip, segment);
            inbound.merged = Some(open.merged);
            if !may_grow {
                self.flows[place] = None;
            }
            return Ok(());
        }
        let index = self.add(buffer, frame, inner);
        self.flows[place] = segment.and_then(|segment| Open::begin(index, ip, &segment));
        Ok(())
    }

    /// The flow's place in the table. Most frames belong to the flow of the one before.
    #[inline]
    fn place(&self, frame: &[u8], ip: &Ip, inner: &Inner) -> usize {
        match self.flows[self.latest].and_then(|open| self.inbound.get(open.inbound)) {
            Some(inbound) if inbound.is_flow(frame, ip, inner) => self.latest,
            _ => entropy::lane(entropy::hash_ip(frame, ip), FLOWS),
        }
    }

    /// Adds a frame of its own and returns its number.
    fn add(&mut self, buffer: usize, frame: &[u8], inner: &Inner) -> usize {
        let &Inner { ref range, vlan, remote } = inner;
        let index = self.used;
        if index == self.inbound.len() {
            let head = Frame::with_capacity(HEAD);
            self.inbound.push(Inbound { remote, vlan, head, tail: Vec::new(), merged: None });
        }
        let inbound = &mut self.inbound[index];
        (inbound.remote, inbound.vlan, inbound.merged) = (remote, vlan, None);
        inbound.tail.clear();
        let (head, tail) = frame.split_at(frame.len().min(HEAD));
        inbound.head.assign(head);
        if !tail.is_empty() {
            inbound.tail.push(Tail { buffer, range: range.start + HEAD..range.end });
        }
        self.used += 1;
        index
    }
}

impl MergeOptions {
    fn takes(self, ip: &Ip) -> bool {
        if ip.protocol == TCP { self.tcp } else { self.udp }
    }

    /// The debts of a frame whose checksum is owed.
    fn owed(self, frame: &[u8], ip: &Ip, headers: usize, field: usize) -> Result<Offload, DecapDrop> {
        let start = short(ip.transport);
        let checksum = Checksum::Partial { start, offset: short(field) };
        if frame.len() <= self.longest_frame {
            return Ok(Offload { checksum, gso: None });
        }
        if ip.protocol != TCP {
            return Err(DecapDrop::Uncut);
        }
        // The sender's segment size is lost; what fits its underlay is what it must have been, or less.
        let segment = short(self.longest_frame.saturating_sub(headers).max(1));
        Ok(Offload { checksum, gso: Some(Gso { kind: kind(ip), segment, header: short(headers), ecn: false }) })
    }
}

/// What super-frames of this packet's transport are.
fn kind(ip: &Ip) -> GsoKind {
    match (ip.protocol, ip.version) {
        (TCP, Version::V4) => GsoKind::TcpV4,
        (TCP, Version::V6) => GsoKind::TcpV6,
        _ => GsoKind::Udp,
    }
}

/// A length within a packet, none of which is longer than [`MAX_PACKET`].
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

impl Inbound {
    /// The pieces of payload that follow the head.
    #[must_use]
    pub fn tail(&self) -> &[Tail] {
        &self.tail
    }

    /// The head, to put headers before it, and the pieces of payload that follow it.
    pub fn parts(&mut self) -> (&mut Frame, &[Tail]) {
        (&mut self.head, &self.tail)
    }

    /// Bytes of head and tail.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.iter().map(|tail| tail.range.len()).sum::<usize>()
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the frame together into `frame`, for a target that cannot take it in pieces; `buffer` finds receive
    /// buffers by number. Returns false where `frame` is too small.
    pub fn gather<'a>(&self, buffer: impl Fn(usize) -> &'a [u8], frame: &mut Frame) -> bool {
        let pieces = self.tail.iter().map(|tail| buffer(tail.buffer).get(tail.range.clone()).unwrap_or_default());
        let copied = frame.fill_with(0, |room| {
            let mut at = 0;
            for piece in std::iter::once(self.head.bytes()).chain(pieces) {
                room.get_mut(at..at + piece.len()).ok_or(())?.copy_from_slice(piece);
                at += piece.len();
            }
            Ok::<_, ()>(at)
        });
        frame.offload = self.head.offload;
        copied.is_ok()
    }

    /// Whether `frame` has the addresses and ports of this one.
    #[inline]
    fn is_flow(&self, frame: &[u8], ip: &Ip, inner: &Inner) -> bool {
        // Addresses and ports stand side by side, since nothing stands between the headers.
        let head = self.head.bytes();
        let (protocol, ends) = match ip.version {
            Version::V4 => (ip.at + 9, ip.at + 12..ip.at + 24),
            Version::V6 => (ip.at + 6, ip.at + 8..ip.at + 44),
        };
        self.remote == inner.remote
            && self.vlan == inner.vlan
            && head[..ip.at] == frame[..ip.at]
            && head.get(protocol) == Some(&ip.protocol)
            && head.get(ends.clone()).is_some_and(|head| *head == frame[ends])
    }
}

impl Transport {
    /// Judges the transport header of `frame`. `ip` is plain, and 8 bytes of transport are there.
    #[inline]
    fn inspect(frame: &[u8], ip: &Ip) -> Self {
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
        let pseudo = Sum::pseudo_header(ip.addresses(frame), ip.protocol, len);
        if !pseudo.plus(Sum::of(&frame[at..])).is_valid() {
            let is_owed = frame[at + field..at + field + 2] == pseudo.partial();
            return if is_owed { Self::Owed { headers, field } } else { Self::Opaque };
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

impl Open {
    /// A flow whose first segment is frame number `inbound`; `None` where nothing may follow it.
    fn begin(inbound: usize, ip: Ip, segment: &Segment) -> Option<Self> {
        let merged = Merged {
            ip,
            is_tcp: ip.protocol == TCP,
            headers: segment.headers,
            segment: segment.payload,
            packet: segment.headers - ip.at + segment.payload,
            last_flags: 0,
        };
        let open = Self { inbound, segments: 1, seq: segment.end(), id: segment.id, step: None, merged };
        (segment.flags & (FIN | PSH) == 0).then_some(open)
    }

    /// Whether `segment` in `frame` is the next one, with headers that cutting would give it.
    #[inline]
    fn continues(&self, head: &[u8], frame: &[u8], ip: &Ip, segment: &Segment) -> bool {
        let (at, transport) = (ip.at, ip.transport);
        let same = |range: Range<usize>| head.get(range.clone()).is_some_and(|head| *head == frame[range]);
        let same_ip = match ip.version {
            // Version, length and TOS; DF; TTL and protocol.
            Version::V4 => {
                let step = segment.id.wrapping_sub(self.id);
                // RFC 6864 4.1: what may not be fragmented needs no identification of its own.
                let counts = step == 1 || (step == 0 && frame[at + 6] & DF != 0);
                counts && self.step.is_none_or(|known| known == step) && same(at..at + 2) && same(at + 6..at + 10)
            }
            // Version, class and label; next header and hop limit.
            Version::V6 => same(at..at + 4) && same(at + 6..at + 8),
        };
        let same_transport = !self.merged.is_tcp
            || (segment.seq == self.seq
                // Acknowledgement and length of the header; window; urgent pointer and options.
                && same(transport + 8..transport + 13)
                && same(transport + 14..transport + 16)
                && same(transport + 18..segment.headers)
                && (head[transport + 13] ^ segment.flags) & !(FIN | PSH) == 0);
        same_ip
            && segment.headers == self.merged.headers
            && segment.payload <= self.merged.segment
            && self.merged.packet + segment.payload <= MAX_PACKET
            && same_transport
    }

    /// Adds `segment`; returns whether another may follow.
    #[inline]
    fn extend(&mut self, ip: &Ip, segment: &Segment) -> bool {
        if ip.version == Version::V4 {
            self.step = Some(segment.id.wrapping_sub(self.id));
        }
        self.id = segment.id;
        self.seq = segment.end();
        self.segments += 1;
        self.merged.packet += segment.payload;
        self.merged.last_flags = segment.flags & (FIN | PSH);
        self.merged.last_flags == 0 && segment.payload == self.merged.segment && self.segments < MAX_MERGED_SEGMENTS
    }
}

impl Segment {
    /// The sequence number behind it.
    #[inline]
    fn end(&self) -> u32 {
        self.seq.wrapping_add(u32::try_from(self.payload).unwrap_or(u32::MAX))
    }
}

impl Merged {
    /// Gives `head` the lengths and flags of the whole, and the debts of a super-frame.
    fn patch(self, head: &mut Frame) {
        let Self { ip, is_tcp, headers, segment, packet, last_flags } = self;
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
