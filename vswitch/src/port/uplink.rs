//! VXLAN by an uplink: super-frames leave and enter the host uncut, and their checksums are the business of whoever cuts
//! them.
//!
//! The sockets stay beside it. They take what the uplink's programs let pass (fragments, IP options), lead to remotes
//! behind other interfaces than the underlay's, and send small frames, which leave many at a time.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, RawFd};

use vswitch_api::Carried;
use vswitch_core::{Frame, Offload};
use vswitch_sys::vnet::{
    F_NEEDS_CSUM, F_UDP_TUNNEL_CSUM, GSO_NONE, GSO_UDP_L4, GSO_UDP_TUNNEL_IPV4, GSO_UDP_TUNNEL_IPV6, TUNNEL_HDR_LEN,
    TunnelHdr, VnetHdr,
};
use vswitch_sys::{Inbox, Received, Uplink};
use vtep::{
    EncapDrop, Failure, HEADER_LEN, Outer, Segments, SendDrop, flow_hash, lane, largest_inner_frame, outer_len,
    parse_outer, write_outer,
};

use super::carrier::{Carrier, Entrance, Parcel, Receipt};
use super::sockets::Sockets;
use super::vnet;

const ETHERNET_LEN: usize = 14;
/// Bits beside the kind of a super-frame that stands in a tunnel.
const TUNNEL: u8 = GSO_UDP_TUNNEL_IPV4 | GSO_UDP_TUNNEL_IPV6;
/// Bytes after which a receipt takes no more: what fits the cache.
const BYTES: usize = 256 * 1024;

/// An uplink, the sockets beside it, and what waits to be sent.
#[derive(Debug)]
pub(super) struct UplinkCarrier {
    sockets: Sockets,
    uplink: Uplink,
    local: IpAddr,
    lanes: Vec<Lane>,
    headers: Vec<u8>,
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
    index: usize,
    to: SocketAddr,
    headers: Range<usize>,
    /// Bytes at the frame's end that follow; counted so, a tag pushed or popped meanwhile does not move them.
    back: usize,
}

/// Why a packet does not stand in the inbox.
enum Stop {
    Empty,
    /// It is no VXLAN of ours, or its virtio header makes no sense.
    Malformed,
    Failed(io::Error),
}

impl UplinkCarrier {
    pub(super) fn new(sockets: Sockets, uplink: Uplink, local: IpAddr) -> Self {
        let lanes = sockets.lane_ports().into_iter().map(|port| Lane { port, follows: false }).collect();
        Self { sockets, uplink, local, lanes, headers: Vec::new(), waiting: Vec::new() }
    }

    /// Puts the frame in line for the uplink; false where it must be cut instead.
    fn enqueue(&mut self, parcel: &Parcel<'_>, lane: usize) -> bool {
        let &Parcel { index, frame, vni, to, .. } = parcel;
        let bytes = frame.bytes();
        let from = self.headers.len();
        self.headers.extend_from_slice(&[0; TUNNEL_HDR_LEN]);
        let source = SocketAddr::new(self.local, self.lanes[lane].port);
        let tos = vtep::outer_tos(bytes, false);
        let tail = write_outer(&mut self.headers, frame, vni, source, to, tos).and_then(|skip| {
            let tag = skip.saturating_sub(12);
            let header = header(frame, tag, to.ip())?;
            self.headers[from..from + TUNNEL_HDR_LEN].copy_from_slice(&header.to_bytes());
            Some(bytes.len() - skip)
        });
        let Some(back) = tail else {
            self.headers.truncate(from);
            return false;
        };
        self.waiting.push(Waiting { index, to, headers: from..self.headers.len(), back });
        self.lanes[lane].follows = true;
        true
    }
}

impl Carrier for UplinkCarrier {
    fn kind(&self) -> Carried {
        Carried::Uplink
    }

    fn entrances(&self) -> Vec<(Entrance, RawFd)> {
        let mut entrances = self.sockets.entrances();
        entrances.push((Entrance::Uplink, self.uplink.as_raw_fd()));
        entrances
    }

    fn receive(&mut self, entrance: Entrance, inbox: &mut Inbox, debts: &mut Vec<Offload>) -> io::Result<Receipt> {
        if entrance == Entrance::Socket {
            return self.sockets.receive(entrance, inbox, debts);
        }
        inbox.clear();
        debts.clear();
        let (mut receipt, mut bytes) = (Receipt::default(), 0);
        for _ in 0..inbox.slots() {
            let outcome = inbox.fill(|room| {
                let len = self.uplink.read(room).map_err(|error| match error.kind() {
                    io::ErrorKind::WouldBlock => Stop::Empty,
                    _ => Stop::Failed(error),
                })?;
                let (received, owed) = parse(&room[..len.min(room.len())]).ok_or(Stop::Malformed)?;
                debts.push(owed);
                bytes += len;
                Ok(received)
            });
            match outcome {
                Ok(_) if bytes >= BYTES => break,
                Ok(_) => {}
                Err(Stop::Malformed) => receipt.malformed += 1,
                Err(Stop::Empty) => return Ok(receipt),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        Ok(Receipt { more: true, ..receipt })
    }

    fn dropped(&self) -> u64 {
        let here = self.uplink.dropped().unwrap_or_else(|error| {
            tracing::debug!(%error, "the uplink does not tell what it dropped");
            0
        });
        here + self.sockets.dropped()
    }

    fn is_silent(&self) -> bool {
        true
    }

    fn push(&mut self, parcel: &Parcel<'_>) -> Result<(), EncapDrop> {
        let &Parcel { frame, to, mtu, on_underlay, .. } = parcel;
        if !on_underlay {
            return self.sockets.push(parcel);
        }
        let lane = lane(flow_hash(frame.bytes()), self.lanes.len());
        if frame.offload.gso.is_none() && !self.lanes[lane].follows {
            return self.sockets.push(parcel);
        }
        if Segments::untagged(frame)?.longest() > largest_inner_frame(to.ip(), mtu.into()) {
            return Err(EncapDrop::TooBig);
        }
        if self.enqueue(parcel, lane) { Ok(()) } else { self.sockets.push(parcel) }
    }

    fn waiting(&self) -> usize {
        self.sockets.waiting() + self.waiting.len()
    }

    fn flush(&mut self, frames: &[Frame], failures: &mut Vec<Failure>) {
        // What waits here came after all of its flow that waits there.
        self.sockets.flush(frames, failures);
        for Waiting { index, to, headers, back } in self.waiting.drain(..) {
            let bytes = frames[index].bytes();
            let tail = &bytes[bytes.len().saturating_sub(back)..];
            let pieces = [&self.headers[headers], tail].map(IoSlice::new);
            if let Err(error) = self.uplink.write(&pieces) {
                failures.push(Failure { frame: index, to, why: reason(&error) });
            }
        }
        self.headers.clear();
        self.lanes.iter_mut().for_each(|lane| lane.follows = false);
    }
}

fn reason(error: &io::Error) -> SendDrop {
    match error.raw_os_error() {
        Some(nix::libc::EAGAIN | nix::libc::ENOBUFS | nix::libc::ENOMEM) => SendDrop::QueueFull,
        Some(nix::libc::EIO | nix::libc::EBADFD) => SendDrop::Unreachable,
        _ => SendDrop::Refused,
    }
}

/// The virtio header for `frame` without its `tag` bytes, behind the outer headers; `None` where no device could cut it.
fn header(frame: &Frame, tag: usize, to: IpAddr) -> Option<TunnelHdr> {
    let outer = outer_len(to) + HEADER_LEN;
    let shift = i16::try_from(outer).ok()? - i16::try_from(tag).ok()?;
    let mut vnet = vnet::header(&frame.offload.shifted(shift)?);
    let mut header = TunnelHdr::default();
    if vnet.gso_type != GSO_NONE {
        // Whoever cuts it looks for IP right behind the Ethernet header.
        let ethertype = frame.bytes().get(tag + 12..tag + ETHERNET_LEN)?;
        if ethertype != [0x08, 0x00] && ethertype != [0x86, 0xdd] {
            return None;
        }
        match to {
            IpAddr::V4(_) => vnet.gso_type |= GSO_UDP_TUNNEL_IPV4,
            IpAddr::V6(_) => {
                vnet.gso_type |= GSO_UDP_TUNNEL_IPV6;
                vnet.flags |= F_UDP_TUNNEL_CSUM; // no zero checksum over IPv6 (RFC 6936)
            }
        }
        header.outer_transport = u16::try_from(outer_len(to) - 8).ok()?;
        header.inner_network = u16::try_from(outer + ETHERNET_LEN).ok()?;
    }
    header.vnet = vnet;
    Some(header)
}

/// What a packet from the uplink is: a train of datagrams, or one, whose frame owes what the header says.
fn parse(bytes: &[u8]) -> Option<(Received, Offload)> {
    let TunnelHdr { vnet, .. } = TunnelHdr::decode(bytes)?;
    let packet = &bytes[TUNNEL_HDR_LEN..];
    let Outer { from, tos, payload } = parse_outer(packet)?;
    let frame = packet.get(payload.start + HEADER_LEN..payload.end).unwrap_or_default();
    let is_train = vnet.gso_type == GSO_UDP_L4;
    let inside = payload.start + HEADER_LEN;
    let owed = usize::from(vnet.csum_start).checked_sub(inside).filter(|_| vnet.flags & F_NEEDS_CSUM != 0);
    let debts = match owed {
        // A train's header speaks of the outer checksum, as that of a plain datagram may.
        _ if is_train => Offload::default(),
        None if vnet.gso_type == GSO_NONE => Offload::default(),
        start => {
            let csum_start = u16::try_from(start?).ok()?;
            vnet::offload(&VnetHdr { gso_type: vnet.gso_type & !TUNNEL, csum_start, ..vnet }, frame)?
        }
    };
    let (at, len) = (TUNNEL_HDR_LEN + payload.start, payload.len());
    let stride = if is_train { usize::from(vnet.gso_size).clamp(1, len.max(1)) } else { len };
    Some((Received { from, tos, stride, at, len, truncated: false }, debts))
}
