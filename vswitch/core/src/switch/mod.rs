//! The switch: ports, VLANs, the forwarding database, and the way of a frame through them.

pub mod fdb;
mod flood;
mod forward;
mod port;
#[cfg(test)]
mod tests;
mod verdict;
mod vlan;

use alloc::vec::Vec;
use core::time::Duration;

pub use self::fdb::{Counters, FdbEntry, FdbError, FdbKind, Limits};
pub use self::flood::Flood;
pub use self::forward::{ForwardDrop, SourceDrop};
pub use self::port::{PortDrop, PortId};
pub use self::verdict::{Egress, Reason, Verdict};
pub use self::vlan::{PortMode, VlanDrop, VlanSet};

use self::fdb::Fdb;
use self::flood::Members;
use self::vlan::Classified;
use crate::addr::MacAddr;
use crate::time::Instant;
use crate::wire::ethernet::Ethernet;
use crate::wire::vlan::VlanId;

/// A VLAN-aware learning switch that neither holds frames nor moves them: it answers where they go.
///
/// The caller drives it:
/// 1. it adds ports;
/// 2. it hands in each frame with [`ingress`](Self::ingress), or [`ingress_remote`](Self::ingress_remote) where the
///    frame came out of the tunnel, and carries the [`Verdict`] out;
/// 3. it calls [`handle_timeout`](Self::handle_timeout) when the time of [`poll_timeout`](Self::poll_timeout) has come.
///
/// `now` must never go back. Configuration may change between frames, but a [`Flood`] must be carried out before.
#[derive(Debug)]
pub struct Switch {
    ports: Vec<Option<PortMode>>,
    members: Members,
    fdb: Fdb,
    /// VLANs in which addresses behind remotes are not learned.
    unlearned: VlanSet,
}

impl Switch {
    /// A switch without ports. `seed` makes its hashing unforeseeable: draw it at random.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self { ports: Vec::new(), members: Members::new(), fdb: Fdb::new(limits, seed), unlearned: VlanSet::new() }
    }

    /// Sets how long a learned address lasts unseen, [`fdb::DEFAULT_AGEING`] at first; `None` is for ever.
    pub fn set_ageing(&mut self, ageing: Option<Duration>) {
        self.fdb.set_ageing(ageing);
    }

    /// Sets whether addresses behind remotes are learned in `vlan`, as they are at first. Those on local ports always
    /// are. Addresses learned before stay until they age.
    pub fn set_learning(&mut self, vlan: VlanId, learning: bool) {
        if learning {
            self.unlearned.remove(vlan);
        } else {
            self.unlearned.insert(vlan);
        }
    }

    /// Adds a port, or gives the port that has this number another mode.
    ///
    /// Addresses, static ones too, that it has in VLANs it is no longer in are removed; all of them where it turns from
    /// a local port into a remote or back.
    pub fn add_port(&mut self, port: PortId, mode: PortMode) {
        if port.index() >= self.ports.len() {
            self.ports.resize(port.index() + 1, None);
        }
        let slot = &mut self.ports[port.index()];
        let turned = slot.as_ref().is_some_and(|old| old.is_remote() != mode.is_remote());
        self.fdb.retain(port, |vlan| !turned && mode.is_member(vlan));
        if let Some(old) = slot {
            self.members.remove(port, old);
        }
        self.members.add(port, &mode);
        *slot = Some(mode);
    }

    /// Gives a port another mode, as [`Self::add_port`] does; returns false, and does nothing, where there is no such
    /// port.
    pub fn set_port_mode(&mut self, port: PortId, mode: PortMode) -> bool {
        let known = self.port_mode(port).is_some();
        if known {
            self.add_port(port, mode);
        }
        known
    }

    /// Removes a port with all its addresses; returns whether it was there.
    pub fn remove_port(&mut self, port: PortId) -> bool {
        let Some(mode) = self.ports.get_mut(port.index()).and_then(Option::take) else { return false };
        self.members.remove(port, &mode);
        self.fdb.retain(port, |_| false);
        true
    }

    /// The mode of a port; `None` where there is no such port.
    #[must_use]
    pub fn port_mode(&self, port: PortId) -> Option<&PortMode> {
        self.ports.get(port.index())?.as_ref()
    }

    /// Decides on a frame that came in on a local port. `frame` starts with the destination address and may be only
    /// the head of the frame (18 bytes suffice).
    #[inline]
    pub fn ingress(&mut self, now: Instant, port: PortId, frame: &[u8]) -> Verdict {
        self.local(now, port, frame).unwrap_or_else(Verdict::Drop)
    }

    /// Decides on a frame that the remote `port` sent in `vlan`, after decapsulation.
    #[inline]
    pub fn ingress_remote(&mut self, now: Instant, port: PortId, vlan: VlanId, frame: &[u8]) -> Verdict {
        self.remote(now, port, vlan, frame).unwrap_or_else(Verdict::Drop)
    }

    /// The ways out of a flooded frame, each port once, in ascending order.
    pub fn flood_targets(&self, flood: &Flood) -> impl Iterator<Item = Egress> + '_ {
        self.members.targets(*flood)
    }

    /// When to call [`Self::handle_timeout`]. The answer changes only when frames come in, on that call and with the
    /// configuration; it may be early, never late.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.fdb.deadline()
    }

    /// Does what is due: forgets addresses that aged. Work is bounded; where more is due, [`Self::poll_timeout`] stays
    /// in the past.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.fdb.expire(now);
    }

    /// Makes an address static: it stays on `port`, whatever frames say, until it is removed. Replaces what was known
    /// of the address.
    ///
    /// # Errors
    /// Where no station can have the address, the port is not in the VLAN, or static addresses fill the table.
    pub fn fdb_add_static(&mut self, vlan: VlanId, mac: MacAddr, port: PortId) -> Result<(), FdbError> {
        if !mac.is_station() {
            return Err(FdbError::NotStation(mac));
        }
        let mode = self.port_mode(port).ok_or(FdbError::NoPort(port))?;
        if !mode.is_member(vlan) {
            return Err(FdbError::NotMember { port, vlan });
        }
        self.fdb.add_static(vlan, mac, port)
    }

    /// Removes an address, static or learned, and returns what was known of it.
    pub fn fdb_remove(&mut self, vlan: VlanId, mac: MacAddr) -> Option<FdbEntry> {
        self.fdb.remove(vlan, mac)
    }

    /// Forgets the learned addresses of a VLAN, of a port, of both, or all of them; returns how many.
    pub fn fdb_flush(&mut self, vlan: Option<VlanId>, port: Option<PortId>) -> u32 {
        self.fdb.flush(vlan, port)
    }

    /// What is known of an address.
    #[must_use]
    pub fn fdb_get(&self, vlan: VlanId, mac: MacAddr) -> Option<FdbEntry> {
        self.fdb.get(vlan, mac)
    }

    /// All addresses, in no order.
    pub fn fdb_entries(&self) -> impl Iterator<Item = FdbEntry> + '_ {
        self.fdb.entries()
    }

    /// How many addresses there are.
    #[must_use]
    pub fn fdb_len(&self) -> usize {
        self.fdb.len()
    }

    /// What happened to addresses so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.fdb.counters()
    }

    #[inline]
    fn local(&mut self, now: Instant, port: PortId, frame: &[u8]) -> Result<Verdict, Reason> {
        let mode = self.port_mode(port).filter(|mode| !mode.is_remote()).ok_or(PortDrop::UnknownPort)?;
        let header = Ethernet::parse(frame)?;
        let classified = Classified { is_double: header.is_double, ..mode.classify(header.tag)? };
        check_source(&header)?;
        self.fdb.learn(now, classified.vlan, header.source, port);
        self.forward(port, false, &header, classified)
    }

    #[inline]
    fn remote(&mut self, now: Instant, port: PortId, vlan: VlanId, frame: &[u8]) -> Result<Verdict, Reason> {
        let mode = self.port_mode(port).filter(|mode| mode.is_remote()).ok_or(PortDrop::UnknownPort)?;
        let header = Ethernet::parse(frame)?;
        let classified = mode.classify_remote(vlan, header.tag)?;
        check_source(&header)?;
        if !self.unlearned.contains(vlan) {
            self.fdb.learn(now, vlan, header.source, port);
        }
        self.forward(port, true, &header, classified)
    }

    #[inline]
    fn forward(
        &self,
        ingress: PortId,
        from_remote: bool,
        header: &Ethernet,
        frame: Classified,
    ) -> Result<Verdict, Reason> {
        // Neither groups nor zero are ever in the table.
        if let Some(port) = self.fdb.lookup(frame.vlan, header.destination)
            && let Some(mode) = self.port_mode(port)
        {
            if port == ingress {
                return Err(ForwardDrop::SamePort.into());
            }
            if from_remote && mode.is_remote() {
                return Err(ForwardDrop::SplitHorizon.into());
            }
            let tag = mode.is_tagged(frame.vlan).then_some(frame.tag);
            if frame.is_double && tag.is_none() {
                return Err(ForwardDrop::DoubleTag.into());
            }
            return Ok(Verdict::Unicast(Egress { port, vlan: frame.vlan, tag }));
        }
        if header.destination.is_bridge_reserved() {
            return Err(ForwardDrop::ReservedAddress.into());
        }
        let flood = Flood { ingress, from_remote, frame };
        if self.members.targets(flood).next().is_none() {
            return Err(ForwardDrop::NoMember.into());
        }
        Ok(Verdict::Flood(flood))
    }
}

#[inline]
fn check_source(header: &Ethernet) -> Result<(), SourceDrop> {
    if header.source.is_station() { Ok(()) } else { Err(SourceDrop::BadSource) }
}
