//! Frames out: each segment becomes a VXLAN datagram, and datagrams of equal size to one remote become a train that
//! leaves in one send (`UDP_SEGMENT`).
//!
//! Nothing is copied but headers. Payload is named by its place in a frame and found again when the train is sent, so
//! the frames must stay as they are until then, but for their tag: see [`Trains::push`].

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::Range;

use vswitch_core::Frame;

use crate::cut::{BadOffload, Segments};
use crate::ecn;
use crate::entropy::{flow_hash, lane};
use crate::header::{HEADER_LEN, Vni, encode};
use crate::inner::ETHERNET_LEN;
use crate::outer::outer_len;

/// Datagrams in a train at most: what every kernel with `UDP_SEGMENT` takes (`UDP_MAX_SEGMENTS` was 64 until 6.9).
pub const MAX_TRAIN_DATAGRAMS: usize = 64;

/// Payload bytes of a train at most: an IPv4 packet of 65535 bytes less IP and UDP header.
pub const MAX_TRAIN_BYTES: usize = 65_507;

vswitch_core::drop_reasons! {
    /// Why a frame cannot be encapsulated.
    pub enum EncapDrop {
        /// The virtio header of a frame points outside of it or asks for what no kernel asks: the sender made it by hand.
        BadOffload => "bad_offload",
            "Nothing of a kernel's does this: look which program in the container writes raw frames with \
             `PACKET_VNET_HDR`.",
        /// The packet does not fit its way out: a port's MTU, or the underlay's less the encapsulation. Its sender was
        /// told by ICMP where that may be.
        TooBig => "too_big",
            "Make the sender's MTU smaller, or leave it to the switch (add the port without --mtu); `vsctl vtep \
             show` says what the underlay carries.",
    }
}

impl From<BadOffload> for EncapDrop {
    fn from(BadOffload: BadOffload) -> Self {
        Self::BadOffload
    }
}

/// The longest frame, Ethernet header included, that an underlay of `mtu` bytes carries to `to`: 36 bytes less over
/// IPv4, 56 over IPv6. A container's own MTU is 14 less.
#[must_use]
#[inline]
pub fn largest_inner_frame(to: IpAddr, mtu: usize) -> usize {
    let packet = outer_len(to.to_canonical()) - ETHERNET_LEN;
    mtu.saturating_sub(packet + HEADER_LEN)
}

/// Bytes of a datagram, named by where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Headers in the scratch buffer; the first piece of every datagram and of no other.
    Head {
        /// Which frame of the batch they are headers of.
        frame: usize,
        /// First byte.
        at: usize,
        /// Bytes.
        len: usize,
    },
    /// Payload in a frame of the batch.
    Payload {
        /// Which frame.
        frame: usize,
        /// Its first byte, counted back from the frame's end: a tag pushed or popped meanwhile does not move it.
        back: usize,
        /// Bytes.
        len: usize,
    },
}

/// Datagrams that leave one after the other: all of one size, but for the last, which may be shorter.
#[derive(Clone, Debug)]
pub struct Train {
    /// Where to.
    pub to: SocketAddr,
    /// The outer TOS octet or traffic class.
    pub tos: u8,
    /// Datagrams.
    pub count: usize,
    /// Bytes of each datagram but the last.
    pub stride: usize,
    /// Bytes of all.
    pub bytes: usize,
    /// A shorter datagram was appended: nothing may follow it.
    is_closed: bool,
    pieces: Range<usize>,
}

impl Train {
    /// The segment size to ask the kernel for; `None` for one datagram, which needs no cutting.
    #[must_use]
    pub fn segment(&self) -> Option<NonZeroU16> {
        if self.count > 1 { u16::try_from(self.stride).ok().and_then(NonZeroU16::new) } else { None }
    }
}

/// The datagrams of a batch, in trains, in lanes. One lane is one source port.
#[derive(Debug)]
pub struct Trains {
    lanes: Vec<Lane>,
    scratch: Vec<u8>,
    cut: Cut,
    waiting: usize,
    inherit_dscp: bool,
}

#[derive(Debug, Default)]
struct Lane {
    trains: Vec<Train>,
    pieces: Vec<Piece>,
}

/// The datagrams of the frame pushed last: a flood sends the same ones to every remote.
#[derive(Debug, Default)]
struct Cut {
    of: Option<(usize, Vni)>,
    longest: usize,
    lane: usize,
    tos: u8,
    datagrams: Vec<(Piece, Option<Piece>)>,
}

impl Trains {
    /// Trains for `lanes` source ports (at least one). The outer DSCP is zero unless `inherit_dscp`.
    #[must_use]
    pub fn new(lanes: usize, inherit_dscp: bool) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Self { lanes, scratch: Vec::new(), cut: Cut::default(), waiting: 0, inherit_dscp }
    }

    /// Appends `frame`, number `index` of the batch, as datagrams of network `vni` to `to` over an underlay of `mtu`
    /// bytes.
    ///
    /// The frame's tag is left out: the VNI says the VLAN. Frames may be retagged between `push` and sending, but
    /// nothing else about them may change until [`Self::clear`]. Pushing one frame to all its remotes in a row cuts it
    /// once.
    ///
    /// # Errors
    /// The frame is not sent, for the reason given.
    pub fn push(&mut self, index: usize, frame: &Frame, vni: Vni, to: SocketAddr, mtu: usize) -> Result<(), EncapDrop> {
        let limit = largest_inner_frame(to.ip(), mtu);
        if self.cut.of == Some((index, vni)) {
            if self.cut.longest > limit {
                return Err(EncapDrop::TooBig);
            }
        } else {
            self.cut(index, frame, vni, limit)?;
        }
        self.lanes[self.cut.lane].append(&self.cut, to);
        self.waiting += self.cut.datagrams.len();
        Ok(())
    }

    fn cut(&mut self, index: usize, frame: &Frame, vni: Vni, limit: usize) -> Result<(), EncapDrop> {
        let mut segments = Segments::untagged(frame)?;
        if segments.longest() > limit {
            return Err(EncapDrop::TooBig);
        }
        let bytes = frame.bytes();
        let cut = &mut self.cut;
        cut.of = Some((index, vni));
        cut.longest = segments.longest();
        cut.lane = lane(flow_hash(bytes), self.lanes.len());
        cut.tos = ecn::outer(bytes, self.inherit_dscp);
        cut.datagrams.clear();
        let vxlan = encode(vni);
        loop {
            let at = self.scratch.len();
            self.scratch.extend_from_slice(&vxlan);
            let Some(payload) = segments.write_next(&mut self.scratch) else {
                self.scratch.truncate(at);
                return Ok(());
            };
            let head = Piece::Head { frame: index, at, len: self.scratch.len() - at };
            let back = bytes.len() - payload.start;
            let payload = (!payload.is_empty()).then(|| Piece::Payload { frame: index, back, len: payload.len() });
            cut.datagrams.push((head, payload));
        }
    }

    /// Datagrams that wait to be sent.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        for lane in &mut self.lanes {
            lane.trains.clear();
            lane.pieces.clear();
        }
        self.scratch.clear();
        self.waiting = 0;
        self.cut.of = None;
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The trains of a lane, in the order in which they must leave.
    #[must_use]
    pub fn lane(&self, lane: usize) -> &[Train] {
        self.lanes.get(lane).map_or(&[], |lane| &lane.trains)
    }

    /// The pieces of a train of `lane`; those of a datagram begin with [`Piece::Head`].
    #[must_use]
    pub fn pieces(&self, lane: usize, train: &Train) -> &[Piece] {
        self.lanes.get(lane).and_then(|lane| lane.pieces.get(train.pieces.clone())).unwrap_or_default()
    }

    /// The bytes of a piece. Empty where `frames` are not those that were pushed.
    #[must_use]
    #[inline]
    pub fn resolve<'a>(&'a self, piece: Piece, frames: &'a [Frame]) -> IoSlice<'a> {
        let bytes = match piece {
            Piece::Head { at, len, .. } => self.scratch.get(at..at + len),
            Piece::Payload { frame, back, len } => frames.get(frame).and_then(|frame| {
                let at = frame.len().checked_sub(back)?;
                frame.bytes().get(at..at + len)
            }),
        };
        IoSlice::new(bytes.unwrap_or_default())
    }
}

impl Lane {
    fn append(&mut self, cut: &Cut, to: SocketAddr) {
        for &(head, payload) in &cut.datagrams {
            let len = head.len() + payload.map_or(0, |piece| piece.len());
            let from = self.pieces.len();
            self.pieces.push(head);
            self.pieces.extend(payload);
            let until = self.pieces.len();
            match self.trains.last_mut() {
                Some(train) if train.takes(len, to, cut.tos) => {
                    train.count += 1;
                    train.bytes += len;
                    train.is_closed = len < train.stride;
                    train.pieces.end = until;
                }
                _ => self.trains.push(Train {
                    to,
                    tos: cut.tos,
                    count: 1,
                    stride: len,
                    bytes: len,
                    is_closed: false,
                    pieces: from..until,
                }),
            }
        }
    }
}

impl Train {
    #[inline]
    fn takes(&self, len: usize, to: SocketAddr, tos: u8) -> bool {
        !self.is_closed
            && len <= self.stride
            && self.count < MAX_TRAIN_DATAGRAMS
            && self.bytes + len <= MAX_TRAIN_BYTES
            && self.tos == tos
            && self.to == to
    }
}

impl Piece {
    /// Bytes it names.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        match *self {
            Self::Head { len, .. } | Self::Payload { len, .. } => len,
        }
    }

    /// Whether it names no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
