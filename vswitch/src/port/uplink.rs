//! VXLAN by an uplink: super-frames leave and enter the host uncut, and their checksums are the business of whoever cuts
//! them.
//!
//! The sockets stay beside it. They take what the uplink's programs let pass (fragments, IP options), lead to remotes
//! behind other interfaces than the underlay's, and send small frames, which leave many at a time.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use vswitch_api::Carried;
use vswitch_core::wire::vlan::TAG_LEN;
use vswitch_core::{Frame, Offload};
use vswitch_sys::vnet::TUNNEL_HDR_LEN;
use vswitch_sys::{Inbox, Uplink};
use vtep::{EncapDrop, Failure, MAX_MERGED_SEGMENTS, Segments, SendDrop, flow_hash, lane, largest_inner_frame, uplink};

use super::carrier::{Carrier, Entrance, Parcel, Pushed, Receipt};
use super::sockets::Sockets;
use crate::takeover::Name;

/// Bytes after which a receipt takes no more: what fits the cache.
const BYTES: usize = 256 * 1024;

/// An uplink, the sockets beside it, and what waits to be sent.
#[derive(Debug)]
pub(super) struct UplinkCarrier {
    sockets: Sockets,
    /// `None` once its interface was deleted or set down: the sockets carry all then.
    uplink: Option<Uplink>,
    /// Whether it is the one to tell what the interface dropped, which counts for all its queues together.
    is_first: bool,
    /// What it had dropped when last asked: a count never runs backwards.
    dropped: Cell<u64>,
    local: IpAddr,
    lanes: Vec<Lane>,
    headers: Vec<u8>,
    /// Bytes of frames: which frame of the batch, and where in it.
    pieces: Vec<(usize, Range<usize>)>,
    waiting: Vec<Waiting>,
}

/// One source port.
#[derive(Debug)]
struct Lane {
    port: u16,
    /// A super-frame of it waits: what follows must not leave before.
    follows: bool,
}

/// A frame that waits to leave by the uplink.
#[derive(Debug)]
struct Waiting {
    to: SocketAddr,
    headers: Range<usize>,
    /// Which of the pieces follow.
    pieces: Range<usize>,
}

/// Why a packet does not stand in the inbox.
enum Stop {
    Empty,
    /// It is no VXLAN of ours, or its virtio header makes no sense.
    Malformed,
    Failed(io::Error),
}

impl UplinkCarrier {
    pub(super) fn boxed(sockets: Sockets, uplink: Uplink, local: IpAddr, is_first: bool) -> Box<dyn Carrier> {
        let lanes = sockets.lane_ports().into_iter().map(|port| Lane { port, follows: false }).collect();
        Box::new(Self {
            sockets,
            uplink: Some(uplink),
            is_first,
            dropped: Cell::new(0),
            local,
            lanes,
            headers: Vec::new(),
            pieces: Vec::new(),
            waiting: Vec::new(),
        })
    }

    /// Goes on by the sockets alone.
    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(%error, "the uplink's interface was deleted or set down: VXLAN goes by UDP sockets until a restart");
        self.uplink = None;
    }

    /// Puts the frame in line for the uplink; false where it must be cut instead.
    fn enqueue(&mut self, parcel: &Parcel<'_>, tail: &[(usize, Range<usize>)], lane: usize) -> bool {
        let &Parcel { index, frame, vni, to, .. } = parcel;
        let bytes = frame.bytes();
        let from = self.headers.len();
        let source = SocketAddr::new(self.local, self.lanes[lane].port);
        let more = tail.iter().map(|(_, range)| range.len()).sum();
        let tos = vtep::outer_tos(bytes, false);
        let Some(skip) = uplink::wrap(&mut self.headers, frame, more, vni, (source, to), tos) else { return false };
        let first = self.pieces.len();
        if tail.is_empty() {
            self.pieces.push((index, skip..bytes.len()));
        } else {
            // The headers of joined frames are not in the batch.
            self.headers.extend_from_slice(&bytes[skip..]);
            self.pieces.extend_from_slice(tail);
        }
        let (headers, pieces) = (from..self.headers.len(), first..self.pieces.len());
        self.waiting.push(Waiting { to, headers, pieces });
        self.lanes[lane].follows = true;
        true
    }
}

impl Carrier for UplinkCarrier {
    fn kind(&self) -> Carried {
        if self.uplink.is_some() { Carried::Uplink } else { Carried::Udp }
    }

    fn entrances(&self) -> Vec<(Entrance, RawFd)> {
        let mut entrances = self.sockets.entrances();
        entrances.extend(self.uplink.iter().map(|uplink| (Entrance::Uplink, uplink.as_raw_fd())));
        entrances
    }

    fn receive(
        &mut self,
        entrance: Entrance,
        inbox: &mut Inbox,
        debts: &mut Vec<Offload>,
        malformed: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Receipt> {
        if entrance == Entrance::Socket {
            return self.sockets.receive(entrance, inbox, debts, malformed);
        }
        inbox.clear();
        debts.clear();
        let Some(uplink) = &self.uplink else { return Ok(Receipt::default()) };
        let mut bytes = 0;
        for _ in 0..inbox.slots() {
            let outcome = inbox.fill(|room| {
                let len = uplink.read(room).map_err(|error| match error.kind() {
                    io::ErrorKind::WouldBlock => Stop::Empty,
                    _ => Stop::Failed(error),
                })?;
                let packet = &room[..len.min(room.len())];
                let Some((received, owed)) = uplink::unwrap(packet) else {
                    malformed(packet.get(TUNNEL_HDR_LEN..).unwrap_or_default());
                    return Err(Stop::Malformed);
                };
                debts.push(owed);
                bytes += len;
                Ok(received)
            });
            match outcome {
                Ok(_) if bytes >= BYTES => break,
                Ok(_) => {}
                Err(Stop::Malformed) => {}
                Err(Stop::Empty) => return Ok(Receipt::default()),
                Err(Stop::Failed(error)) => {
                    self.give_up(&error);
                    return Ok(Receipt::default());
                }
            }
        }
        Ok(Receipt { more: true })
    }

    fn dropped(&self) -> u64 {
        match self.uplink.as_ref().filter(|_| self.is_first).map(Uplink::dropped) {
            Some(Ok(Some(dropped))) => self.dropped.set(dropped),
            Some(Err(error)) => tracing::debug!(%error, "the uplink does not tell what it dropped"),
            Some(Ok(None)) | None => {}
        }
        self.dropped.get() + self.sockets.dropped()
    }

    fn dropped_before(&self) -> u64 {
        if self.uplink.is_some() { 0 } else { self.dropped.get() }
    }

    fn descriptors(&self, worker: u16) -> io::Result<Vec<(Name, OwnedFd)>> {
        let mut all = self.sockets.descriptors(worker)?;
        if let Some(uplink) = &self.uplink {
            let (queue, [divert, forward]) = uplink.try_clone()?;
            all.push((Name::Uplink(worker), queue));
            if self.is_first {
                all.extend([(Name::Divert, divert), (Name::Forward, forward)]);
            }
        }
        Ok(all)
    }

    fn is_silent(&self) -> bool {
        self.uplink.is_some()
    }

    fn check(&mut self) {
        // Set down, it swallows what comes in, and no read fails.
        if let Some(Ok(false)) = self.uplink.as_ref().map(Uplink::is_up) {
            self.give_up(&io::Error::from(io::ErrorKind::NetworkDown));
        }
    }

    fn push(&mut self, parcel: &Parcel<'_>) -> Result<Pushed, EncapDrop> {
        let &Parcel { frame, to, mtu, on_underlay, .. } = parcel;
        if !on_underlay || self.uplink.is_none() {
            return self.sockets.push(parcel);
        }
        let is_small = frame.offload.gso.is_none();
        // Where nothing waits here it follows nothing, and its flow need not be known: the sockets will ask for it.
        if is_small && self.waiting.is_empty() {
            return self.sockets.push(parcel);
        }
        let lane = lane(flow_hash(frame.bytes()), self.lanes.len());
        if is_small && !self.lanes[lane].follows {
            return self.sockets.push(parcel);
        }
        if Segments::untagged(frame)?.longest() > largest_inner_frame(to.ip(), mtu.into()) {
            return Err(EncapDrop::TooBig);
        }
        match self.enqueue(parcel, &[], lane) {
            true => Ok(Pushed::Waits),
            false if self.lanes[lane].follows => Ok(Pushed::FlushFirst),
            false => self.sockets.push(parcel),
        }
    }

    fn joins(&self) -> bool {
        self.uplink.is_some()
    }

    fn push_joined(&mut self, parcel: &Parcel<'_>, tail: &[(usize, Range<usize>)]) -> bool {
        let &Parcel { frame, to, mtu, on_underlay, .. } = parcel;
        let lane = lane(flow_hash(frame.bytes()), self.lanes.len());
        self.uplink.is_some()
            && on_underlay
            && joined_len(frame) <= largest_inner_frame(to.ip(), mtu.into())
            && self.enqueue(parcel, tail, lane)
    }

    fn send(&mut self, to: IpAddr, datagram: &[u8]) -> io::Result<()> {
        self.sockets.send(to, datagram)
    }

    fn waiting(&self) -> usize {
        self.sockets.waiting() + self.waiting.len()
    }

    fn flush(&mut self, frames: &[Frame], failures: &mut Vec<Failure>) {
        // What waits here came after all of its flow that waits there.
        self.sockets.flush(frames, failures);
        let mut gone = None;
        for Waiting { to, headers, pieces } in self.waiting.drain(..) {
            let pieces = &self.pieces[pieces];
            let mut slices = [IoSlice::new(&[]); 1 + MAX_MERGED_SEGMENTS];
            slices[0] = IoSlice::new(&self.headers[headers]);
            for (slice, (frame, range)) in slices[1..].iter_mut().zip(pieces) {
                *slice = IoSlice::new(&frames[*frame].bytes()[range.clone()]);
            }
            let written = self.uplink.as_ref().map(|uplink| uplink.write(&slices[..=pieces.len()]));
            if let Some(Err(error)) = written {
                let why = reason(&error);
                gone = gone.or(Some(error).filter(|_| why == SendDrop::Unreachable));
                failures.extend(pieces.iter().map(|&(frame, _)| Failure { frame, to, why }));
            }
        }
        self.headers.clear();
        self.pieces.clear();
        if let Some(error) = gone {
            self.give_up(&error);
        }
        self.lanes.iter_mut().for_each(|lane| lane.follows = false);
    }
}

/// Bytes of the longest of the frames that were joined behind `head`, without their tag.
fn joined_len(head: &Frame) -> usize {
    let tag = if head.tag().is_some() { TAG_LEN } else { 0 };
    head.len() - tag + head.offload.gso.map_or(0, |gso| usize::from(gso.segment))
}

fn reason(error: &io::Error) -> SendDrop {
    match error.raw_os_error() {
        Some(nix::libc::EAGAIN | nix::libc::ENOBUFS | nix::libc::ENOMEM) => SendDrop::QueueFull,
        Some(nix::libc::EIO | nix::libc::EBADFD) => SendDrop::Unreachable,
        _ => SendDrop::Refused,
    }
}
