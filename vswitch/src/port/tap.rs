//! A TAP port: one queue of the device in the container's namespace, frame by frame with its virtio-net header.

use std::io::{self, IoSlice};

use vswitch_core::{Checksum, Frame, Gso, GsoKind};
use vswitch_sys::vnet::{VNET_HDR_LEN, VnetHdr};
use vswitch_sys::{Offloads, TapQueue};
use vtep::{Parts, Segments, vnet};

use crate::drops::PortDrop;

/// Room for the largest frame a TAP gives: a 64 KiB packet (BIG TCP stays off on a TAP), Ethernet and a tag.
pub(crate) const FRAME_CAPACITY: usize = 65_536 + 64;

/// Pieces of one write at most: header and head in one, the rest of a frame, and the payloads merged behind it.
const SLICES: usize = 2 + vtep::MAX_MERGED_SEGMENTS;

/// A TAP port as one worker sees it.
#[derive(Debug)]
pub(crate) struct TapPort {
    queue: TapQueue,
    /// What the kernel behind it takes undone.
    offloads: Offloads,
    /// Largest packet (layer 3) that may leave here, in bytes.
    mtu: u16,
    /// Set once the device is gone for good.
    lost: bool,
    /// What is left of a super-frame of too many segments for one turn.
    parts: Option<Box<Parts>>,
}

/// What came of reading once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Frame,
    /// Its header was nonsense.
    Malformed,
    /// Nothing there until the poll says so.
    Empty,
    /// The device is gone.
    Lost,
}

/// Scratch to cut super-frames in, for devices that take none.
#[derive(Debug, Default)]
pub(crate) struct Scissors {
    flat: Option<Frame>,
    headers: Vec<u8>,
}

impl Scissors {
    /// Cuts the super-frame `head`, with `tail` behind it, into frames that owe nothing; `take` gets headers and payload of
    /// each, until it fails.
    pub(crate) fn cut<'a>(
        &mut self,
        head: &Frame,
        tail: impl Iterator<Item = &'a [u8]>,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), PortDrop>,
    ) -> Result<(), PortDrop> {
        let Self { flat, headers } = self;
        let whole = flat.get_or_insert_with(|| Frame::with_capacity(FRAME_CAPACITY));
        let mut fits = whole.assign(head.bytes());
        for piece in tail {
            fits &= whole.append(piece);
        }
        if !fits {
            return Err(PortDrop::BadOffload);
        }
        whole.offload = head.offload;
        let mut segments = Segments::new(whole).map_err(|_| PortDrop::BadOffload)?;
        headers.clear();
        while let Some(payload) = segments.write_next(headers) {
            take(headers, &whole.bytes()[payload])?;
            headers.clear();
        }
        Ok(())
    }
}

impl TapPort {
    pub(crate) fn new(queue: TapQueue, offloads: Offloads, mtu: u16) -> Self {
        Self { queue, offloads, mtu, lost: false, parts: None }
    }

    pub(crate) fn queue(&self) -> &TapQueue {
        &self.queue
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(crate) fn mtu(&self) -> u16 {
        self.mtu
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    /// Reads one frame, or super-frame, or the next part of one, into `frame`.
    pub(crate) fn read(&mut self, frame: &mut Frame) -> Read {
        if self.read_part(frame) {
            return Read::Frame;
        }
        if let Err(error) = frame.fill_with(VNET_HDR_LEN, |room| self.queue.read(room)) {
            return match error.kind() {
                io::ErrorKind::Interrupted => self.read(frame),
                io::ErrorKind::WouldBlock => Read::Empty,
                // EBADFD: its namespace was deleted. An interface that is merely down reads EAGAIN.
                _ => {
                    self.lost = true;
                    Read::Lost
                }
            };
        }
        let Some(header) = VnetHdr::decode(frame.before(VNET_HDR_LEN)) else { return Read::Malformed };
        match vnet::offload(&header, frame.bytes()) {
            Some(offload) => {
                frame.offload = offload;
                Read::Frame
            }
            None => self.read_in_parts(&header, frame),
        }
    }

    /// Reads the next part of a super-frame that was begun into `frame`; false where none is left.
    pub(crate) fn read_part(&mut self, frame: &mut Frame) -> bool {
        let Some(parts) = &mut self.parts else { return false };
        let is_more = parts.next(frame);
        if !is_more {
            self.parts = None;
        }
        is_more
    }

    /// Whether a super-frame was begun; it may be all read.
    pub(crate) fn has_parts(&self) -> bool {
        self.parts.is_some()
    }

    /// Puts the first part of what was read into `frame`.
    #[cold]
    fn read_in_parts(&mut self, header: &VnetHdr, frame: &mut Frame) -> Read {
        let Some(mut parts) = Parts::new(header, frame.bytes()) else { return Read::Malformed };
        if !parts.next(frame) {
            return Read::Malformed;
        }
        self.parts = Some(Box::new(parts));
        Read::Frame
    }

    /// Writes `head`, and `tail` behind it, as one frame where the device takes it so, else in segments.
    pub(crate) fn write<'a>(
        &mut self,
        head: &mut Frame,
        tail: impl Iterator<Item = &'a [u8]> + Clone,
        scissors: &mut Scissors,
    ) -> Result<(), PortDrop> {
        self.accepts(head, tail.clone().map(<[u8]>::len).sum())?;
        if self.takes(head) { self.write_whole(head, tail) } else { self.write_segments(head, tail, scissors) }
    }

    /// Whether `head`, with `payload` bytes behind it, may be written at all.
    #[inline]
    pub(crate) fn accepts(&self, head: &Frame, payload: usize) -> Result<(), PortDrop> {
        if self.lost {
            return Err(PortDrop::PortLost);
        }
        if packet_len(head, payload) > usize::from(self.mtu) {
            return Err(PortDrop::TooBig);
        }
        Ok(())
    }

    /// Asks the kernel whether the device is gone: for one that nobody reads just now.
    pub(crate) fn is_gone(&self) -> bool {
        self.queue.interface().is_err()
    }

    /// Whether frames may be joined for this port without being cut again before it.
    pub(crate) fn takes_super_frames(&self) -> bool {
        let Offloads { checksum, tso4, tso6, tso_ecn: _, uso } = self.offloads;
        checksum && tso4 && tso6 && uso
    }

    fn takes(&self, frame: &Frame) -> bool {
        let Offloads { checksum, tso4, tso6, tso_ecn, uso } = self.offloads;
        match frame.offload.gso {
            None => checksum || frame.offload.checksum == Checksum::Complete,
            Some(Gso { kind: GsoKind::TcpV4, ecn, .. }) => tso4 && (tso_ecn || !ecn),
            Some(Gso { kind: GsoKind::TcpV6, ecn, .. }) => tso6 && (tso_ecn || !ecn),
            Some(Gso { kind: GsoKind::Udp, .. }) => uso,
        }
    }

    fn write_whole<'a>(&mut self, head: &mut Frame, tail: impl Iterator<Item = &'a [u8]>) -> Result<(), PortDrop> {
        if !vnet::header(&head.offload).encode(head.before(VNET_HDR_LEN)) {
            return Err(PortDrop::Refused); // no headroom left, which no tag of ours can use up
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(head.with_before(VNET_HDR_LEN));
        let mut used = 1;
        for piece in tail {
            let Some(slice) = slices.get_mut(used) else { return Err(PortDrop::BadOffload) };
            *slice = IoSlice::new(piece);
            used += 1;
        }
        let written = match &slices[..used] {
            [whole] => self.queue.write(whole),
            pieces => self.queue.write_vectored(pieces),
        };
        written.map(drop).map_err(|error| self.refused(&error))
    }

    fn write_segments<'a>(
        &mut self,
        head: &Frame,
        tail: impl Iterator<Item = &'a [u8]>,
        scissors: &mut Scissors,
    ) -> Result<(), PortDrop> {
        let nothing_owed = [0; VNET_HDR_LEN];
        scissors.cut(head, tail, |headers, payload| {
            let pieces = [&nothing_owed[..], headers, payload].map(IoSlice::new);
            self.queue.write_vectored(&pieces).map(drop).map_err(|error| self.refused(&error))
        })
    }

    fn refused(&mut self, error: &io::Error) -> PortDrop {
        match error.raw_os_error() {
            Some(nix::libc::EIO) => PortDrop::InterfaceDown,
            Some(nix::libc::EBADFD) => {
                self.lost = true;
                PortDrop::PortLost
            }
            Some(nix::libc::EINVAL) => PortDrop::Refused,
            _ => PortDrop::QueueFull,
        }
    }
}

/// Bytes of the packet (layer 3) that reaches a wire: of the largest segment, where the frame is a super-frame.
/// `payload` bytes lie behind `head`.
fn packet_len(head: &Frame, payload: usize) -> usize {
    const ETHERNET: usize = 14;
    let tag = if head.tag().is_some() { vswitch_core::wire::vlan::TAG_LEN } else { 0 };
    let whole = head.len() + payload;
    let longest = match head.offload.gso {
        Some(gso) => whole.min(usize::from(gso.header) + usize::from(gso.segment)),
        None => whole,
    };
    longest.saturating_sub(ETHERNET + tag)
}
