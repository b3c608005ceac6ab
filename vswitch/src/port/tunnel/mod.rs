//! The tunnel port: frames to remote VTEPs and from them.

mod open;
mod strangers;
mod way;

use std::io;
use std::ops::Range;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use vswitch_api::Carried;
use vswitch_core::{Frame, Instant, Offload, PortId, VlanId};
use vswitch_sys::Inbox;
use vtep::{DatagramTrain, DecapDrop, Directory, Failure, Inbound, Merge, largest_inner_frame, oam};

pub(crate) use open::OpenError;
pub(crate) use strangers::Stranger;
pub(crate) use way::Remote;

use strangers::note_stranger;

use super::carrier::{Carrier, Entrance, Parcel, Pushed};
use super::desk::{Desk, OamDrop, Refused};
use crate::counters::Counters;
use crate::drops::{Drop, PortDrop};
use crate::observe::{Ends, Observer};
use crate::takeover::Name;
use crate::underlay::Underlay;

/// Trains received at once; a slot holds the largest.
const SLOTS: usize = 16;
/// The longest packet, behind an Ethernet and a virtio header where an uplink gives it.
const SLOT: usize = 65_536 + 64;
/// Datagrams that wait at most before they are sent: bounds what one turn holds, however many remotes a flood has.
const WAITING: usize = 4096;

/// The tunnel as one worker sees it.
#[derive(Debug)]
pub(crate) struct TunnelPort {
    carrier: Box<dyn Carrier>,
    underlay: Underlay,
    directory: Arc<Directory>,
    inbox: Inbox,
    /// What the frames in the inbox owe, slot by slot; empty where nobody knows.
    debts: Vec<Offload>,
    merge: Merge,
    /// How many of the frames received last were handed out.
    handed_out: usize,
    /// What concerns no remote in particular.
    counters: Counters,
    /// Who sent what was refused, of late.
    strangers: Vec<Stranger>,
    desk: Desk,
    /// What the last batch held of messages that peers sent and nobody took: whose, why, how many.
    refused: Vec<(PortId, OamDrop, u64)>,
}

impl TunnelPort {
    /// One for each of `carriers`.
    pub(crate) fn all(underlay: Underlay, carriers: Vec<Box<dyn Carrier>>) -> Vec<Self> {
        let longest_frame = largest_inner_frame(underlay.address, underlay.mtu.into());
        let tunnel = |carrier| Self {
            carrier,
            underlay,
            directory: Arc::default(),
            inbox: Inbox::new(SLOTS, SLOT),
            debts: Vec::new(),
            merge: Merge::new(longest_frame),
            handed_out: 0,
            counters: Counters::default(),
            strangers: Vec::new(),
            desk: Desk::default(),
            refused: Vec::new(),
        };
        carriers.into_iter().map(tunnel).collect()
    }

    /// Other descriptors of all that carries VXLAN here, named for worker number `worker`.
    pub(crate) fn descriptors(&self, worker: u16) -> io::Result<Vec<(Name, OwnedFd)>> {
        self.carrier.descriptors(worker)
    }

    /// What was counted, without what those descriptors tell themselves.
    pub(crate) fn own_counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.dropped_many(PortDrop::ReceiveQueueFull, self.carrier.dropped_before());
        counters
    }

    /// The way VXLAN takes.
    pub(crate) fn carried_by(&self) -> Carried {
        self.carrier.kind()
    }

    /// Where datagrams come in, each to be waited on.
    pub(crate) fn entrances(&self) -> Vec<(Entrance, RawFd)> {
        self.carrier.entrances()
    }

    pub(crate) fn set_directory(&mut self, directory: Arc<Directory>) {
        self.desk.retain(&directory);
        self.directory = directory;
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.dropped_many(PortDrop::ReceiveQueueFull, self.carrier.dropped());
        counters
    }

    /// Who answers probes here, and passes on answers to ours.
    pub(crate) const fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(crate) const fn desk_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }

    /// Who sent what was refused, the latest few.
    pub(crate) fn strangers(&self) -> &[Stranger] {
        &self.strangers
    }

    pub(crate) fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Receives one batch, takes the frames out and merges them; false once nothing is left to receive. What was received
    /// before must have been handed out: its payload lies in the same buffers.
    pub(crate) fn receive(&mut self, entrance: Entrance, mut observer: Option<&mut Observer>) -> bool {
        debug_assert!(!self.has_inbound());
        self.merge.clear();
        self.handed_out = 0;
        let counters = &mut self.counters;
        let mut malformed = |packet: &[u8]| {
            counters.rx_frames += 1;
            counters.dropped(PortDrop::BadOffload);
            if let Some(observer) = &mut observer {
                observer.see_tunnel(packet, std::iter::empty(), PortDrop::BadOffload);
            }
        };
        let receipt = match self.carrier.receive(entrance, &mut self.inbox, &mut self.debts, &mut malformed) {
            Ok(receipt) => receipt,
            Err(error) => {
                tracing::warn!(%error, "receiving VXLAN failed");
                return false;
            }
        };
        for slot in 0..self.inbox.len() {
            let Some(received) = self.inbox.get(slot) else { continue };
            let sender = received.from;
            let from = sender.ip().to_canonical();
            let debts = self.debts.get(slot).copied().unwrap_or_default();
            let bytes = self.inbox.bytes_mut(slot);
            let mut train = DatagramTrain { bytes, stride: received.stride, from, tos: received.tos, debts };
            let mut refused = None;
            self.merge.receive(slot, &mut train, &self.directory, |datagram, why| {
                let why = if why == DecapDrop::UnknownVni && oam::is_oam(datagram) {
                    match self.desk.take(sender, datagram, &self.directory) {
                        Ok(()) => return,
                        Err(Refused::Stranger) => Drop::Decap(DecapDrop::UnknownVtep),
                        Err(Refused::Peer(remote, why)) => {
                            note_refused(&mut self.refused, remote, why);
                            Drop::Oam(why)
                        }
                    }
                } else {
                    refused = Some(why);
                    Drop::Decap(why)
                };
                // What a peer's message counts is counted as that peer's.
                if !matches!(why, Drop::Oam(_)) {
                    self.counters.rx_frames += 1;
                    self.counters.dropped(why);
                }
                if let Some(observer) = &mut observer {
                    let ends = Ends { from, to: self.underlay.address, tos: received.tos };
                    observer.see_datagram(ends, datagram, why);
                }
            });
            if let Some(why @ (DecapDrop::UnknownVni | DecapDrop::UnknownVtep)) = refused {
                note_stranger(&mut self.strangers, from, self.inbox.bytes(slot), why);
            }
        }
        self.desk.answer(&mut *self.carrier);
        self.merge.finish();
        receipt.more
    }

    /// Messages that peers sent and nobody took, since this was last asked: whose, why, how many.
    #[inline]
    pub(crate) fn refused(&mut self) -> impl Iterator<Item = (PortId, OamDrop, u64)> {
        self.refused.drain(..)
    }

    /// Whether frames that were received are not handed out yet.
    pub(crate) fn has_inbound(&mut self) -> bool {
        self.handed_out < self.merge.finished().len()
    }

    /// Hands out the next frames that were received, `most` of them at most, and the buffers in which their payload lies.
    pub(crate) fn inbound(&mut self, most: usize) -> (&mut [Inbound], &Inbox) {
        let waiting = &mut self.merge.finished()[self.handed_out..];
        let next = waiting.len().min(most);
        self.handed_out += next;
        (&mut waiting[..next], &self.inbox)
    }

    /// Drops what was received from `remote` and not handed out: its number may become another's.
    pub(crate) fn forget(&mut self, remote: PortId, mut observer: Option<&mut Observer>) {
        for frame in self.merge.forget(remote, self.handed_out) {
            self.counters.rx_frames += 1;
            self.counters.dropped(DecapDrop::UnknownVtep);
            if let Some(observer) = &mut observer {
                let tail = frame.tail().iter().map(|piece| &self.inbox.bytes(piece.buffer)[piece.range.clone()]);
                observer.see_tunnel(frame.head.bytes(), tail, DecapDrop::UnknownVtep);
            }
        }
    }

    /// Encapsulates `frame`, number `index` of the batch, for `remote`; it leaves with the next [`Self::flush`].
    pub(crate) fn push(
        &mut self,
        now: Instant,
        index: usize,
        frame: &Frame,
        vlan: VlanId,
        remote: &mut Remote,
    ) -> Result<Pushed, Drop> {
        let parcel = self.parcel(now, index, frame, vlan, remote)?;
        self.carrier.push(&parcel).map_err(Drop::Encap)
    }

    /// Whether frames for a remote should be joined before they are pushed.
    pub(crate) fn joins(&self) -> bool {
        self.carrier.joins()
    }

    /// Encapsulates frames that were joined, the first of them number `index`: `head` stands before their payload, which
    /// lies in the batch as `tail` says. False where they must be pushed one by one.
    pub(crate) fn push_joined(
        &mut self,
        now: Instant,
        index: usize,
        (head, tail): (&Frame, &[(usize, Range<usize>)]),
        vlan: VlanId,
        remote: &mut Remote,
    ) -> bool {
        self.parcel(now, index, head, vlan, remote).is_ok_and(|parcel| self.carrier.push_joined(&parcel, tail))
    }

    fn parcel<'a>(
        &mut self,
        now: Instant,
        index: usize,
        frame: &'a Frame,
        vlan: VlanId,
        remote: &mut Remote,
    ) -> Result<Parcel<'a>, Drop> {
        let vni = self.directory.vni(vlan).ok_or(DecapDrop::UnknownVni)?;
        let on_underlay = !self.carrier.is_silent() || self.is_on_underlay(now, remote);
        Ok(Parcel { index, frame, vni, to: remote.to, mtu: self.path_mtu(now, remote), on_underlay })
    }

    /// Whether so much waits that it should leave before more is pushed.
    pub(crate) fn is_full(&self) -> bool {
        self.carrier.waiting() >= WAITING
    }

    /// Sends what was pushed; `failures` gets what did not leave.
    pub(crate) fn flush(&mut self, frames: &[Frame], failures: &mut Vec<Failure>) {
        if self.carrier.waiting() > 0 {
            self.carrier.flush(frames, failures);
        }
    }
}

/// Counts a message that nobody took. A batch is of as many senders as it has slots, at most.
#[cold]
fn note_refused(refused: &mut Vec<(PortId, OamDrop, u64)>, remote: PortId, why: OamDrop) {
    match refused.iter_mut().find(|(id, other, _)| (*id, *other) == (remote, why)) {
        Some((_, _, count)) => *count += 1,
        None => refused.push((remote, why, 1)),
    }
}
