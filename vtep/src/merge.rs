//! Consecutive segments of a flow become one super-frame again, so that everything behind the tunnel runs once for up
//! to 64 KiB.
//!
//! Only segments whose checksums were verified are merged, and only where cutting the result gives the same segments
//! back (but for an IPv4 identification that stood still under DF, which means nothing: RFC 6864). The super-frame is a head, the first segment's headers with lengths of the whole,
//! and a tail of payload pieces that stay in the receive buffers. Its checksum is owed: the field holds the
//! pseudo-header's sum, which tells the kernel that the payload was verified.
//!
//! Flows may be interleaved: a small table finds the latest frame of each. A flow that finds its place taken pushes the
//! other out, which costs a merge and nothing else. Frames of a flow leave in the order they came in.

use std::ops::Range;

use vswitch_core::{Checksum, Frame, Gso, Offload, PortId, VlanId};

use crate::cut::MAX_SEGMENTS;
use crate::decap::{DatagramTrain, DecapDrop, Inner, decap};
use crate::entropy;
use crate::growth::{Growth, Transport, kind, same_flow, short};
use crate::header::HEADER_LEN;
use crate::inner::{Ip, TCP, UDP};
use crate::remotes::Directory;

/// Bytes of a frame held in the head: all headers we parse, and what an ICMP error must quote.
const HEAD: usize = 160;
/// Flows open at a time.
const FLOWS: usize = 256;
/// No frame's number.
const NONE: usize = usize::MAX;

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
    /// Where it began a flow: what may follow.
    growth: Option<Growth>,
}

/// Merges the segments of a batch of received trains.
#[derive(Debug)]
pub struct Merge {
    /// Bytes of the longest frame the underlay carries. What is longer and owes its checksum is a super-frame that
    /// nobody cut.
    longest_frame: usize,
    /// Grows to the largest batch seen; the first `used` belong to this one.
    inbound: Vec<Inbound>,
    used: usize,
    /// Nothing may follow frames with a number below.
    closed: usize,
    /// The number of each flow's latest frame in this batch, by the flow's hash; [`NONE`] where there was none.
    flows: Box<[usize; FLOWS]>,
    /// The place in `flows` of the latest frame.
    latest: usize,
}

impl Merge {
    /// An empty batch, from an underlay that carries frames of at most `longest_frame` bytes
    /// ([`crate::largest_inner_frame`]).
    #[must_use]
    pub fn new(longest_frame: usize) -> Self {
        Self { longest_frame, inbound: Vec::new(), used: 0, closed: 0, flows: Box::new([NONE; FLOWS]), latest: 0 }
    }

    /// Takes the frames of a train, which lies in receive buffer number `buffer`; `dropped` gets every datagram that is
    /// none of ours.
    pub fn receive(
        &mut self,
        buffer: usize,
        train: &mut DatagramTrain<'_>,
        directory: &Directory,
        mut dropped: impl FnMut(&[u8], DecapDrop),
    ) {
        decap(train, directory, |bytes, inner| match inner {
            Ok(inner) => {
                if let Err(reason) = self.push(buffer, &bytes[inner.range.clone()], &inner) {
                    dropped(&bytes[inner.range.start - HEADER_LEN..inner.range.end], reason);
                }
            }
            Err(reason) => dropped(bytes, reason),
        });
    }

    /// The frames of the batch, in order of arrival; super-frames stand where their first segment came in. To be called
    /// when the last train of the batch was received.
    pub fn finish(&mut self) -> &mut [Inbound] {
        self.close_all();
        let batch = &mut self.inbound[..self.used];
        for inbound in batch.iter_mut() {
            if let Some(growth) = inbound.growth.take().filter(|growth| growth.segments > 1) {
                growth.patch(&mut inbound.head);
            }
        }
        batch
    }

    /// What [`Self::finish`] gave, again.
    pub fn finished(&mut self) -> &mut [Inbound] {
        &mut self.inbound[..self.used]
    }

    /// Takes the frames of `remote` out of a finished batch, those numbered `from` and more; returns them.
    pub fn forget(&mut self, remote: PortId, from: usize) -> &[Inbound] {
        let before = self.used;
        self.used = from.min(before);
        for index in self.used..before {
            if self.inbound[index].remote != remote {
                self.inbound.swap(self.used, index);
                self.used += 1;
            }
        }
        &self.inbound[self.used..before]
    }

    /// Forgets the batch and keeps the memory.
    pub fn clear(&mut self) {
        (self.used, self.closed) = (0, 0);
        self.flows.fill(NONE);
    }

    fn close_all(&mut self) {
        self.closed = self.used;
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
            if inner.segment.is_some() {
                return Err(DecapDrop::Uncut);
            }
            // A fragment, options, extensions: it may belong to any open flow, and none may overtake it.
            self.close_all();
            self.add(buffer, frame, inner);
            return Ok(());
        }

        let (place, is_known) = self.place(frame, &ip, inner);
        self.latest = place;
        if inner.debts.gso.is_some() {
            self.flows[place] = self.add(buffer, frame, inner);
            return Ok(());
        }
        let segment = match Transport::inspect(frame, &ip, inner.debts.checksum) {
            Transport::Segment(segment) => Some(segment),
            Transport::Owed { headers, field } => {
                let offload = self.owed(frame, &ip, headers, field, inner.segment)?;
                self.flows[place] = self.add(buffer, frame, inner);
                self.inbound[self.flows[place]].head.offload = offload;
                return Ok(());
            }
            Transport::Opaque => None,
        };
        if inner.segment.is_some() {
            return Err(DecapDrop::Uncut);
        }
        if is_known
            && let Some(segment) = &segment
            && let Inbound { head, tail, growth: Some(growth), .. } = &mut self.inbound[self.flows[place]]
            && growth.takes(head.bytes(), frame, &ip, segment)
        {
            tail.push(Tail { buffer, range: inner.range.start + segment.headers..inner.range.end });
            growth.extend(segment);
            return Ok(());
        }
        let index = self.add(buffer, frame, inner);
        self.flows[place] = index;
        self.inbound[index].growth = segment.map(|segment| Growth::begin(ip, &segment));
        Ok(())
    }

    /// The flow's place in the table, and whether its latest frame stands there and may grow. Most frames belong to the
    /// flow of the one before.
    #[inline]
    fn place(&self, frame: &[u8], ip: &Ip, inner: &Inner) -> (usize, bool) {
        let is_known = |place: usize| {
            let index = self.flows[place];
            (self.closed..self.used).contains(&index) && self.inbound[index].is_flow(frame, ip, inner)
        };
        if is_known(self.latest) {
            return (self.latest, true);
        }
        let place = entropy::lane(entropy::hash_ip(frame, ip), FLOWS);
        (place, is_known(place))
    }

    /// Adds a frame of its own and returns its number.
    fn add(&mut self, buffer: usize, frame: &[u8], inner: &Inner) -> usize {
        let &Inner { ref range, vlan, remote, segment: _, debts } = inner;
        let index = self.used;
        if index == self.inbound.len() {
            let head = Frame::with_capacity(HEAD);
            self.inbound.push(Inbound { remote, vlan, head, tail: Vec::new(), growth: None });
        }
        let inbound = &mut self.inbound[index];
        (inbound.remote, inbound.vlan, inbound.growth) = (remote, vlan, None);
        inbound.tail.clear();
        let (head, tail) = frame.split_at(frame.len().min(HEAD));
        inbound.head.assign(head);
        inbound.head.offload = debts;
        if !tail.is_empty() {
            inbound.tail.push(Tail { buffer, range: range.start + HEAD..range.end });
        }
        self.used += 1;
        index
    }

    /// The debts of a frame whose checksum is owed. `segment`: the payload of each datagram in a UDP super-frame.
    fn owed(
        &self,
        frame: &[u8],
        ip: &Ip,
        headers: usize,
        field: usize,
        segment: Option<u16>,
    ) -> Result<Offload, DecapDrop> {
        let start = short(ip.transport);
        let checksum = Checksum::Partial { start, offset: short(field) };
        let segment = match (segment, ip.protocol) {
            (Some(segment), UDP) => segment,
            (None, _) if frame.len() <= self.longest_frame => return Ok(Offload { checksum, gso: None }),
            // The sender's segment size is lost; what fits its underlay is what it must have been, or less.
            (None, TCP) => short(self.longest_frame.saturating_sub(headers).max(1)),
            _ => return Err(DecapDrop::Uncut),
        };
        if (frame.len() - headers).div_ceil(usize::from(segment).max(1)) > MAX_SEGMENTS {
            return Err(DecapDrop::Uncut);
        }
        Ok(Offload { checksum, gso: Some(Gso { kind: kind(ip), segment, header: short(headers), ecn: false }) })
    }
}

impl Inbound {
    /// The head, to put headers before it, and the pieces of payload that follow it.
    pub fn parts(&mut self) -> (&mut Frame, &[Tail]) {
        (&mut self.head, &self.tail)
    }

    /// The pieces of payload that follow the head.
    #[must_use]
    pub fn tail(&self) -> &[Tail] {
        &self.tail
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

    /// Whether `frame` has the addresses and ports of this one.
    #[inline]
    fn is_flow(&self, frame: &[u8], ip: &Ip, inner: &Inner) -> bool {
        self.remote == inner.remote && self.vlan == inner.vlan && same_flow(self.head.bytes(), frame, ip)
    }
}
