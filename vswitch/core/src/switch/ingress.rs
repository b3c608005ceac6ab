//! The way of frames through the switch: classify, check the source, learn, look up.
//!
//! A frame needs two entries of the forwarding database, each a cache line in memory that no cache holds where many
//! stations talk. A batch is therefore gone through twice: first every frame's VLAN and hashes are worked out and its
//! two lines asked for, which memory delivers many at a time, then each frame is decided on.

use alloc::vec::Vec;

use super::fdb::Probe;
use super::flood::Flood;
use super::forward::{ForwardDrop, SourceDrop};
use super::guard::GuardDrop;
use super::port::{PortDrop, PortId};
use super::storm::{FloodKind, StormDrop};
use super::verdict::{Egress, Reason, Verdict};
use super::vlan::Classified;
use super::{PortMode, Switch};
use crate::time::Instant;
use crate::wire::ethernet::Ethernet;
use crate::wire::vlan::VlanId;

/// Frames looked ahead for at once: a core has not many more cache misses under way, and its first cache holds what
/// they bring.
const AHEAD: usize = 32;

/// A frame that has been classified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) ingress: PortId,
    from_remote: bool,
    pub(super) frame: Classified,
    pub(super) source: Probe,
    pub(super) source_kind: SourceKind,
    pub(super) destination: Probe,
}

/// What is done about a source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    Learned,
    /// Learning is off.
    Ignored,
    /// No station's address.
    Bad,
}

impl Switch {
    /// Decides on a frame that came in on a local port. `frame` starts with the destination address and may be only
    /// the head of the frame (18 bytes suffice), unless the port has a guard.
    #[inline]
    pub fn ingress(&mut self, now: Instant, port: PortId, frame: &[u8]) -> Verdict {
        if self.guards.has(port) {
            return self.ingress_guarded(now, port, frame);
        }
        self.fdb.refresh();
        let arrival = self.local(port, frame);
        self.decide(now, &arrival)
    }

    /// Apart, so that ports without a guard pay nothing for those that have one.
    #[cold]
    #[inline(never)]
    fn ingress_guarded(&mut self, now: Instant, port: PortId, frame: &[u8]) -> Verdict {
        self.fdb.refresh();
        let arrival = self.guarded(port, frame);
        self.decide(now, &arrival)
    }

    /// Decides on a frame that the remote `port` sent in `vlan`, after decapsulation.
    #[inline]
    pub fn ingress_remote(&mut self, now: Instant, port: PortId, vlan: VlanId, frame: &[u8]) -> Verdict {
        self.fdb.refresh();
        let arrival = self.remote(port, vlan, frame);
        self.decide(now, &arrival)
    }

    /// Does what [`Self::ingress`] does to each of `frames` in turn, but faster where the addresses are many; `answer`
    /// gets the place of each among them and its verdict.
    #[inline]
    pub fn ingress_batch<'a>(
        &mut self,
        now: Instant,
        port: PortId,
        frames: impl IntoIterator<Item = &'a [u8]>,
        answer: impl FnMut(&Self, usize, Verdict),
    ) {
        if self.guards.has(port) {
            return self.ingress_batch_guarded(now, port, frames, answer);
        }
        let mut frames = frames.into_iter();
        self.batch(now, |switch| Some(switch.local(port, frames.next()?)), answer);
    }

    /// As [`Self::ingress_guarded`].
    #[cold]
    #[inline(never)]
    fn ingress_batch_guarded<'a>(
        &mut self,
        now: Instant,
        port: PortId,
        frames: impl IntoIterator<Item = &'a [u8]>,
        answer: impl FnMut(&Self, usize, Verdict),
    ) {
        let mut frames = frames.into_iter();
        self.batch(now, |switch| Some(switch.guarded(port, frames.next()?)), answer);
    }

    /// Does what [`Self::ingress_remote`] does to each of `frames` in turn, as [`Self::ingress_batch`] does.
    #[inline]
    pub fn ingress_remote_batch<'a>(
        &mut self,
        now: Instant,
        frames: impl IntoIterator<Item = (PortId, VlanId, &'a [u8])>,
        answer: impl FnMut(&Self, usize, Verdict),
    ) {
        let mut frames = frames.into_iter();
        let next = |switch: &Self| {
            let (port, vlan, frame) = frames.next()?;
            Some(switch.remote(port, vlan, frame))
        };
        self.batch(now, next, answer);
    }

    #[inline]
    fn batch(
        &mut self,
        now: Instant,
        mut next: impl FnMut(&Self) -> Option<Result<Arrival, Reason>>,
        mut answer: impl FnMut(&Self, usize, Verdict),
    ) {
        self.fdb.refresh();
        let mut arrivals = core::mem::take(&mut self.arrivals);
        let mut place = 0;
        loop {
            arrivals.clear();
            while arrivals.len() < AHEAD
                && let Some(arrival) = next(self)
            {
                arrivals.push(arrival);
            }
            // In a loop of its own, so short that a core has many of its reads under way.
            for arrival in arrivals.iter().flatten() {
                self.fdb.look_ahead(arrival.source);
                self.fdb.look_ahead(arrival.destination);
            }
            for arrival in &arrivals {
                let verdict = self.decide(now, arrival);
                answer(self, place, verdict);
                place += 1;
            }
            if arrivals.len() < AHEAD {
                break;
            }
        }
        self.arrivals = arrivals;
    }

    #[inline(always)]
    pub(super) fn local(&self, port: PortId, frame: &[u8]) -> Result<Arrival, Reason> {
        let mode = self.port_mode(port).filter(|mode| !mode.is_remote()).ok_or(PortDrop::UnknownPort)?;
        let header = Ethernet::parse(frame)?;
        let frame = Classified { is_double: header.is_double, ..mode.classify(header.tag)? };
        Ok(self.arrival(port, false, &header, frame, SourceKind::Learned))
    }

    /// As [`Self::local`], on a port that has a guard.
    #[cold]
    #[inline(never)]
    pub(super) fn guarded(&self, port: PortId, frame: &[u8]) -> Result<Arrival, Reason> {
        let arrival = self.local(port, frame)?;
        if let Some(guard) = self.guards.get(port) {
            guard.check(&Ethernet::parse(frame)?, frame)?;
        }
        Ok(arrival)
    }

    #[inline(always)]
    pub(super) fn remote(&self, port: PortId, vlan: VlanId, frame: &[u8]) -> Result<Arrival, Reason> {
        let mode = self.port_mode(port).filter(|mode| mode.is_remote()).ok_or(PortDrop::UnknownPort)?;
        let header = Ethernet::parse(frame)?;
        let frame = mode.classify_remote(vlan, header.tag)?;
        let is_learned = !self.unlearned.contains(vlan);
        Ok(self.arrival(port, true, &header, frame, if is_learned { SourceKind::Learned } else { SourceKind::Ignored }))
    }

    #[inline(always)]
    fn arrival(
        &self,
        ingress: PortId,
        from_remote: bool,
        header: &Ethernet,
        frame: Classified,
        source_kind: SourceKind,
    ) -> Arrival {
        Arrival {
            ingress,
            from_remote,
            frame,
            source: self.fdb.probe(frame.vlan, header.source),
            source_kind: if header.source().is_station() { source_kind } else { SourceKind::Bad },
            destination: self.fdb.probe(frame.vlan, header.destination),
        }
    }

    #[inline(always)]
    fn decide(&mut self, now: Instant, arrival: &Result<Arrival, Reason>) -> Verdict {
        let verdict = match arrival {
            Ok(arrival) => self.learn_and_forward(now, arrival),
            Err(reason) => Err(*reason),
        };
        verdict.unwrap_or_else(Verdict::Drop)
    }

    #[inline(always)]
    fn learn_and_forward(&mut self, now: Instant, arrival: &Arrival) -> Result<Verdict, Reason> {
        match arrival.source_kind {
            SourceKind::Bad => return Err(SourceDrop::BadSource.into()),
            _ if self.fdb.knows(now, arrival.source, arrival.ingress) => {}
            SourceKind::Learned => self.learn(now, arrival)?,
            SourceKind::Ignored => self.claim(arrival)?,
        }
        self.forward(now, arrival)
    }

    #[cold]
    #[inline(never)]
    fn learn(&mut self, now: Instant, arrival: &Arrival) -> Result<(), Reason> {
        self.claim(arrival)?;
        Ok(self.fdb.learn(now, arrival.source, arrival.ingress)?)
    }

    /// Refuses a source that lives on another port. No need to ask of one that is known on its own: what lives elsewhere is
    /// not learned, and what is static there may be there too.
    #[cold]
    #[inline(never)]
    pub(super) fn claim(&self, arrival: &Arrival) -> Result<(), Reason> {
        if self.guards.have_no_residents() {
            return Ok(());
        }
        let mac = arrival.source.mac();
        match self.homes(arrival.frame.vlan, mac).next() {
            Some(_) if !self.guards.is_home(arrival.ingress, mac) => Err(GuardDrop::SpoofedMac.into()),
            _ => Ok(()),
        }
    }

    /// The way to an address that nobody sent from yet, if it lives here on one port. One that lives on more, as a VRRP
    /// address does, may be on any of them.
    #[cold]
    #[inline(never)]
    fn forward_to_resident(&self, arrival: &Arrival) -> Option<Result<Verdict, Reason>> {
        let mut homes = self.homes(arrival.frame.vlan, arrival.destination.mac());
        let port = homes.next().filter(|_| homes.next().is_none())?;
        Some(unicast(arrival, port, self.port_mode(port)?))
    }

    #[inline(always)]
    fn forward(&self, now: Instant, arrival: &Arrival) -> Result<Verdict, Reason> {
        let admit = |flood: &Flood| self.storm.admit(now, flood.ingress, flood.kind);
        self.route(arrival, self.fdb.lookup(arrival.destination), admit)
    }

    /// The way of a frame whose destination was learned on the port `known`. `admit` says whether it may be flooded.
    #[inline(always)]
    pub(super) fn route(
        &self,
        arrival: &Arrival,
        known: Option<PortId>,
        admit: impl FnOnce(&Flood) -> Result<(), StormDrop>,
    ) -> Result<Verdict, Reason> {
        let &Arrival { ingress, from_remote, frame, destination, .. } = arrival;
        // Neither groups nor zero are ever in the table. A sibling may know of a port, or of its part in the VLAN,
        // what this switch is to be told yet or was told before it.
        if let Some(port) = known
            && let Some(mode) = self.port_mode(port).filter(|mode| mode.is_member(frame.vlan))
        {
            return unicast(arrival, port, mode);
        }
        if destination.mac().is_bridge_reserved() {
            return Err(ForwardDrop::ReservedAddress.into());
        }
        if !self.guards.have_no_residents()
            && let Some(verdict) = self.forward_to_resident(arrival)
        {
            return verdict;
        }
        let flood = Flood { ingress, from_remote, frame, kind: FloodKind::of(destination.mac()) };
        let mut targets = self.members.targets(flood);
        let only = targets.next().ok_or(ForwardDrop::NoMember)?;
        if flood.kind == FloodKind::UnknownUnicast && targets.next().is_none() && self.learns_nothing_of(only) {
            return Ok(Verdict::Unicast(only)); // it can be nowhere else, and costs no more than if it were known
        }
        admit(&flood)?;
        Ok(Verdict::Flood(flood))
    }

    /// Whether every station behind `way` stays unknown. Where it is learned what sends, a frame to a station that never
    /// does may be one that goes round, which the budget must end.
    fn learns_nothing_of(&self, way: Egress) -> bool {
        self.unlearned.contains(way.vlan) && self.port_mode(way.port).is_some_and(PortMode::is_remote)
    }
}

/// The verdict on a frame whose destination is behind `port`.
#[inline]
fn unicast(arrival: &Arrival, port: PortId, mode: &PortMode) -> Result<Verdict, Reason> {
    let frame = arrival.frame;
    if port == arrival.ingress {
        return Err(ForwardDrop::SamePort.into());
    }
    if arrival.from_remote && mode.is_remote() {
        return Err(ForwardDrop::SplitHorizon.into());
    }
    let tag = mode.is_tagged(frame.vlan).then_some(frame.tag);
    if frame.is_double && tag.is_none() {
        return Err(ForwardDrop::DoubleTag.into());
    }
    Ok(Verdict::Unicast(Egress { port, vlan: frame.vlan, tag }))
}

/// Storage for a batch's arrivals, empty between batches.
pub(super) type Arrivals = Vec<Result<Arrival, Reason>>;
