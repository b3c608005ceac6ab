//! The tunnel port: frames to remote VTEPs and from them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use thiserror::Error;
use vswitch_api::Carried;
use vswitch_core::{Frame, Instant, Offload, PortId, VlanId};
use vswitch_sys::{Inbox, Netlink, NetlinkError, Uplink, UplinkError};
use vtep::{DatagramTrain, DecapDrop, Directory, Failure, Inbound, Merge, TunnelError, Vni, largest_inner_frame, oam};

use super::carrier::{Carrier, Entrance, Parcel, Pushed, UnderlayMode};
use super::desk::Desk;
use super::handed::{SocketSet, UplinkSet};
use super::sockets::Sockets;
use super::uplink::UplinkCarrier;

use crate::clock;
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
/// How long the way to a remote is believed where no error would tell of a change.
const WAY_LIFETIME: core::time::Duration = core::time::Duration::from_secs(1);
/// How long a path's MTU is believed, as long as the kernel does (`mtu_expires`, RFC 1191 6.3).
const PATH_MTU_LIFETIME: core::time::Duration = core::time::Duration::from_secs(600);

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
}

/// A sender of VXLAN whose datagram was refused: a peer of no VLAN that its VNI means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) from: IpAddr,
    pub(crate) vni: Vni,
    /// Whether the VNI is one of ours.
    pub(crate) knows_vni: bool,
    pub(crate) at: Instant,
}

/// A remote VTEP as one worker sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) to: SocketAddr,
    /// What the path there was found to carry, where that is less than the underlay's MTU, and until when.
    path_mtu: Option<(u16, Instant)>,
    /// Whether the way there leaves by the underlay's interface, and until when that is believed.
    on_underlay: Option<(bool, Instant)>,
}

impl Remote {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, path_mtu: None, on_underlay: None }
    }
}

/// Why there is no tunnel.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Sockets(#[from] TunnelError),
    #[error("--underlay uplink: {0}; --underlay udp works without")]
    Uplink(#[from] UplinkError),
    #[error("--underlay says otherwise, but VXLAN is carried by {0:?} already")]
    OtherWay(Carried),
}

impl TunnelPort {
    /// Opens the VTEP on `underlay`, once for each of `workers`. The kernel gives each of them a share of what comes, by a
    /// hash of the outer addresses and ports: what one flow sends comes to one worker.
    pub(crate) fn open(
        underlay: Underlay,
        port: u16,
        mode: UnderlayMode,
        workers: u16,
    ) -> Result<Vec<Self>, OpenError> {
        Ok(Self::all(underlay, carriers(underlay, port, mode, workers)?))
    }

    /// Goes on with the VTEP that another daemon opened on `underlay`. Its way of carrying VXLAN must be one that `mode`
    /// means.
    pub(crate) fn adopt(
        underlay: Underlay,
        port: u16,
        mode: UnderlayMode,
        (sockets, uplink): (Vec<SocketSet>, Option<UplinkSet>),
    ) -> Result<Vec<Self>, OpenError> {
        let wrong = match (mode, &uplink) {
            (UnderlayMode::Udp, Some(_)) => Some(Carried::Uplink),
            (UnderlayMode::Uplink, None) => Some(Carried::Udp),
            _ => None,
        };
        if let Some(carried) = wrong {
            return Err(OpenError::OtherWay(carried));
        }
        let sockets = Sockets::adopt(SocketAddr::new(underlay.address, port), sockets)?;
        let carriers = match uplink {
            None => by_sockets(sockets),
            Some((queues, programs)) => by_uplink(underlay, sockets, Uplink::adopt(underlay.index, queues, programs)?),
        };
        Ok(Self::all(underlay, carriers))
    }

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
                if why == DecapDrop::UnknownVni && oam::is_oam(datagram) {
                    self.desk.take(sender, datagram, &self.directory);
                    return;
                }
                self.counters.rx_frames += 1;
                self.counters.dropped(why);
                refused = Some(why);
                if let Some(observer) = &mut observer {
                    let ends = Ends { from, to: self.underlay.address, tos: received.tos };
                    observer.see_datagram(ends, datagram, why.into());
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

    /// Whether the way to `remote` leaves by the underlay's interface; asks the kernel where that was long ago.
    fn is_on_underlay(&mut self, now: Instant, remote: &mut Remote) -> bool {
        if let Some((known, until)) = remote.on_underlay
            && now < until
        {
            return known;
        }
        self.carrier.check();
        let index = self.learn_way(now, remote);
        let is_it = index == Some(self.underlay.index);
        remote.on_underlay = Some((is_it, now + WAY_LIFETIME));
        is_it
    }

    /// The largest packet inside that reaches `remote`.
    pub(crate) fn inner_mtu(&self, now: Instant, remote: &Remote) -> u16 {
        self.path_mtu(now, remote).saturating_sub(self.underlay.overhead())
    }

    fn path_mtu(&self, now: Instant, remote: &Remote) -> u16 {
        match remote.path_mtu {
            Some((mtu, until)) if now < until => mtu,
            _ => self.underlay.mtu,
        }
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

    /// Asks the kernel which interface the way to `remote` leaves by and what the path carries, and believes that for a
    /// while.
    pub(crate) fn learn_way(&self, now: Instant, remote: &mut Remote) -> Option<u32> {
        match kernel_way(self.underlay.address, remote.to.ip()) {
            Ok((index, mtu)) => {
                let narrow = mtu.filter(|&mtu| mtu < self.underlay.mtu);
                if let Some(mtu) = narrow.filter(|&mtu| remote.path_mtu.is_none_or(|(known, _)| known != mtu)) {
                    let remote = remote.to.ip();
                    tracing::info!(%remote, mtu, "the path to a remote carries less than the underlay");
                }
                remote.path_mtu = narrow.map(|mtu| (mtu, now + PATH_MTU_LIFETIME));
                Some(index)
            }
            Err(error) => {
                tracing::debug!(remote = %remote.to.ip(), %error, "the way to a remote cannot be told");
                None
            }
        }
    }
}

/// Remembers who sent what was refused. Bounded, and whoever forges senders pushes others out: it is for people to read.
#[cold]
#[inline(never)]
fn note_stranger(strangers: &mut Vec<Stranger>, from: IpAddr, datagram: &[u8], why: DecapDrop) {
    const MOST: usize = 16;
    let Ok(vni) = vtep::parse(datagram) else { return };
    let stranger = Stranger { from, vni, knows_vni: why == DecapDrop::UnknownVtep, at: clock::now() };
    if let Some(known) = strangers.iter_mut().find(|known| (known.from, known.vni) == (from, vni)) {
        *known = stranger;
    } else if strangers.len() < MOST {
        strangers.push(stranger);
    } else if let Some(oldest) = strangers.iter_mut().min_by_key(|known| known.at) {
        *oldest = stranger;
    }
}

/// Opens what carries VXLAN, once for each of `workers`.
fn carriers(
    underlay: Underlay,
    port: u16,
    mode: UnderlayMode,
    workers: u16,
) -> Result<Vec<Box<dyn Carrier>>, OpenError> {
    let local = SocketAddr::new(underlay.address, port);
    let sockets = Sockets::open(local, workers)?;
    if mode == UnderlayMode::Udp {
        return Ok(by_sockets(sockets));
    }
    match Uplink::open(underlay.index, local, workers) {
        Ok(uplinks) => {
            if let Some(uplink) = uplinks.first() {
                tracing::info!(interface = uplink.name(), "VXLAN super-frames leave and enter uncut");
            }
            Ok(by_uplink(underlay, sockets, uplinks))
        }
        Err(error) if mode == UnderlayMode::Uplink => Err(error.into()),
        Err(error) => {
            tracing::info!(%error, "VXLAN goes by UDP sockets: there is no uplink");
            Ok(by_sockets(sockets))
        }
    }
}

fn by_sockets(sockets: Vec<Sockets>) -> Vec<Box<dyn Carrier>> {
    sockets.into_iter().map(|one| Box::new(one) as Box<dyn Carrier>).collect()
}

fn by_uplink(underlay: Underlay, sockets: Vec<Sockets>, uplinks: Vec<Uplink>) -> Vec<Box<dyn Carrier>> {
    let queues = sockets.into_iter().zip(uplinks).enumerate();
    let carrier = |(number, (sockets, uplink))| UplinkCarrier::boxed(sockets, uplink, underlay.address, number == 0);
    queues.map(carrier).collect()
}

/// What the kernel's routing knows: the interface, and a path MTU learned from ICMP, else the MTU of the interface.
fn kernel_way(from: IpAddr, to: IpAddr) -> Result<(u32, Option<u16>), NetlinkError> {
    let netlink = Netlink::open()?;
    let route = netlink.route_from(from, to)?;
    let mtu = match route.mtu {
        Some(mtu) => Some(mtu),
        None => netlink.link_by_index(route.index)?.map(|link| link.mtu),
    };
    Ok((route.index, mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX))))
}
