//! The switch: ports, VLANs, the forwarding database, and the way of a frame through them.

pub mod explain;
pub mod fdb;
mod flood;
mod forward;
mod guard;
mod ingress;
mod port;
mod storm;
#[cfg(test)]
mod tests;
mod verdict;
mod vlan;

use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

pub use self::explain::{Explained, Step};
pub use self::fdb::{Counters, FdbChange, FdbEntry, FdbError, FdbEvent, FdbKind, Flapping, History, Limits, Moved};
pub use self::flood::Flood;
pub use self::forward::{ForwardDrop, SourceDrop};
pub use self::guard::{Guard, GuardDrop};
pub use self::port::{PortDrop, PortId};
pub use self::storm::{FloodKind, StormDrop};
pub use self::verdict::{Egress, Reason, Verdict};
pub use self::vlan::{PortMode, VlanDrop, VlanSet};

use self::fdb::Fdb;
use self::flood::Members;
use self::guard::Guards;
use self::ingress::Arrivals;
use self::storm::Storm;
use crate::addr::MacAddr;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// A VLAN-aware learning switch that neither holds frames nor moves them: it answers where they go.
///
/// The caller drives it:
/// 1. it adds ports;
/// 2. it hands in each frame with [`ingress`](Self::ingress), or [`ingress_remote`](Self::ingress_remote) where the
///    frame came out of the tunnel, and carries the [`Verdict`] out; better whole batches with
///    [`ingress_batch`](Self::ingress_batch) and [`ingress_remote_batch`](Self::ingress_remote_batch);
/// 3. it calls [`handle_timeout`](Self::handle_timeout) when the time of [`poll_timeout`](Self::poll_timeout) has come.
///
/// `now` must never go back. Configuration may change between frames, but a [`Flood`] must be carried out before.
///
/// Each worker has a [`sibling`](Self::sibling) of its own. Siblings share what they learn, static addresses and the
/// ageing time; ports with their guards and in which VLANs remotes are learned from are each one's own. The caller tells all of them, in
/// any order, and begins the next change once all know of the last: until then a sibling treats frames as before.
/// Their `now` must come from one clock, and [`handle_timeout`](Self::handle_timeout) on any of them does for all.
#[derive(Debug)]
pub struct Switch {
    ports: Vec<Option<PortMode>>,
    members: Members,
    guards: Guards,
    fdb: Fdb,
    /// VLANs in which addresses behind remotes are not learned.
    unlearned: VlanSet,
    storm: Storm,
    /// Storage for a batch, empty between batches.
    arrivals: Arrivals,
}

impl Switch {
    /// A switch without ports. `seed` makes its hashing unforeseeable: draw it at random.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            ports: Vec::new(),
            members: Members::new(),
            guards: Guards::default(),
            fdb: Fdb::new(limits, seed),
            unlearned: VlanSet::new(),
            storm: Storm::new(),
            arrivals: Arrivals::new(),
        }
    }

    /// A switch for another worker, with the same ports and settings, that shares this one's addresses.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self {
            ports: self.ports.clone(),
            members: self.members.clone(),
            guards: self.guards.clone(),
            fdb: self.fdb.sibling(),
            unlearned: self.unlearned.clone(),
            storm: self.storm.sibling(),
            arrivals: Arrivals::new(),
        }
    }

    /// Sets how long a learned address lasts unseen, [`fdb::DEFAULT_AGEING`] at first; `None` is for ever. To be set on
    /// every sibling: the time is shared, how often a stamp is renewed follows from it and is each one's own.
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

    /// Sets how many broadcasts, how many multicasts and how many frames to unknown stations a port, or a remote, may
    /// bring in a second, after a burst of a tenth of that; `None`, as at first, is no limit. A frame to an unknown station
    /// behind the only way out of a VLAN that learns nothing there does not count. To be set on every sibling:
    /// what a port has used is shared, the limit is each one's own.
    pub fn set_storm_limit(&mut self, limit: Option<NonZeroU32>) {
        self.storm.set_limit(limit);
    }

    /// Says that the frame of `flood` stands for `more` frames beside the first, as a super-frame does for those that it
    /// is cut to. It passes whole, and its port's next floods wait for as long as those would have taken, a second at most.
    pub fn charge_flood(&self, now: Instant, flood: &Flood, more: u32) {
        self.storm.charge(now, flood.ingress, flood.kind, more);
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
        if mode.is_remote() {
            self.guards.set(port, Guard::default());
        }
        self.members.add(port, &mode);
        self.storm.add_port(port);
        *slot = Some(mode);
        // Only its own residents can have come to a VLAN.
        if self.guards.has(port) {
            self.forget_strangers();
        }
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

    /// Says which addresses a local port may send from: frames that say they are from others are dropped, and those that
    /// come in on it must be given to [`Self::ingress`] whole. Takes effect at once; learned addresses that it makes wrong
    /// are forgotten. Returns false, and does nothing, where there is no such local port.
    ///
    /// MAC addresses that it names live on the port, in its VLANs: elsewhere they are neither learned nor let in, unless a
    /// guard allows them there too, and frames to them go to the port even before it spoke, where it is the only one.
    pub fn set_guard(&mut self, port: PortId, guard: Guard) -> bool {
        let is_local = self.port_mode(port).is_some_and(|mode| !mode.is_remote());
        if is_local {
            self.guards.set(port, guard);
            self.forget_strangers();
        }
        is_local
    }

    /// Forgets what was learned that guards make wrong.
    fn forget_strangers(&mut self) {
        let Self { guards, ports, fdb, .. } = self;
        if guards.are_none() {
            return;
        }
        let is_in = |port: PortId, vlan| matches!(ports.get(port.index()), Some(Some(mode)) if mode.is_member(vlan));
        fdb.forget(|vlan, mac, port| {
            let lives_elsewhere = || guards.homes(mac).any(|home| is_in(home, vlan)) && !guards.is_home(port, mac);
            guards.get(port).is_some_and(|guard| !guard.allows_mac(mac)) || lives_elsewhere()
        });
    }

    /// The local ports on which `mac` lives in `vlan`.
    #[inline]
    fn homes(&self, vlan: VlanId, mac: MacAddr) -> impl Iterator<Item = PortId> + '_ {
        self.guards.homes(mac).filter(move |&port| self.port_mode(port).is_some_and(|mode| mode.is_member(vlan)))
    }

    /// Removes a port with all its addresses; returns whether it was there.
    pub fn remove_port(&mut self, port: PortId) -> bool {
        let Some(mode) = self.ports.get_mut(port.index()).and_then(Option::take) else { return false };
        self.members.remove(port, &mode);
        self.guards.set(port, Guard::default());
        self.fdb.retain(port, |_| false);
        true
    }

    /// The mode of a port; `None` where there is no such port.
    #[must_use]
    pub fn port_mode(&self, port: PortId) -> Option<&PortMode> {
        self.ports.get(port.index())?.as_ref()
    }

    /// The ways out of a flooded frame, each port once, in ascending order.
    pub fn flood_targets(&self, flood: &Flood) -> impl Iterator<Item = Egress> + '_ {
        self.members.targets(*flood)
    }

    /// When to call [`Self::handle_timeout`]. The answer changes only when frames come in, on that call and with the
    /// configuration, a sibling's too; it may be early, never late.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.fdb.deadline()
    }

    /// Does what is due: forgets addresses that aged, lets those move again that were held for flapping. Work is bounded, and not done where a sibling is learning just now;
    /// where more is due, [`Self::poll_timeout`] stays in the past.
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

    /// Learns the addresses that another switch on the same clock had learned, and goes on counting from `counters`.
    /// Addresses behind ports that are not here, not in the VLAN, or kept from them by a guard, are left out, and so are
    /// static ones.
    pub fn fdb_restore(&mut self, mut entries: Vec<FdbEntry>, counters: Counters) {
        let is_member = |entry: &FdbEntry| self.port_mode(entry.port).is_some_and(|mode| mode.is_member(entry.vlan));
        entries.retain(|entry| entry.mac.is_station() && is_member(entry));
        // What was seen last ages last.
        entries.sort_unstable_by_key(|entry| match entry.kind {
            FdbKind::Static => Instant::default(),
            FdbKind::Learned { last_seen } => last_seen,
        });
        self.fdb.restore(entries, counters);
        self.forget_strangers();
    }

    /// What is known of an address.
    #[must_use]
    pub fn fdb_get(&self, vlan: VlanId, mac: MacAddr) -> Option<FdbEntry> {
        self.fdb.get(vlan, mac)
    }

    /// Since when a learned address is known, and how it moved; `None` where it is static or unknown.
    #[must_use]
    pub fn fdb_history(&self, vlan: VlanId, mac: MacAddr) -> Option<History> {
        self.fdb.history(vlan, mac)
    }

    /// All addresses, in no order.
    pub fn fdb_entries(&self) -> impl Iterator<Item = FdbEntry> {
        self.fdb.entries().into_iter()
    }

    /// The same, each with what [`Self::fdb_history`] tells.
    pub fn fdb_histories(&self) -> impl Iterator<Item = (FdbEntry, Option<History>)> {
        self.fdb.histories().into_iter()
    }

    /// The port an address is behind, as a frame to it finds it: at once, whatever siblings do. Where one of them changes
    /// the entry at this very moment the address counts as unknown, and a table that one of them made larger is only
    /// taken up with the next frame.
    #[must_use]
    #[inline]
    pub fn fdb_lookup(&self, vlan: VlanId, mac: MacAddr) -> Option<PortId> {
        self.fdb.lookup(self.fdb.probe(vlan, mac.to_u64()))
    }

    /// Begins to fetch what [`Self::fdb_lookup`] reads of an address, which is worth its while for many before the first.
    #[inline]
    pub fn fdb_look_ahead(&self, vlan: VlanId, mac: MacAddr) {
        self.fdb.look_ahead(self.fdb.probe(vlan, mac.to_u64()));
    }

    /// How many addresses there are, in all siblings together.
    #[must_use]
    pub fn fdb_len(&self) -> usize {
        self.fdb.len()
    }

    /// The addresses that moved too often and were held since the last call, in whichever sibling: the first few, how many
    /// there were is among the [`counters`](Self::counters). Costs next to nothing where there are none.
    #[must_use]
    pub fn take_flapping(&self) -> Vec<Flapping> {
        self.fdb.take_flapping()
    }

    /// Says whether what happens to addresses, in whichever sibling, is written down for [`Self::fdb_take_events`], as it is
    /// not at first. Frames to and from addresses that are known pay nothing for it.
    pub fn fdb_listen(&self, listens: bool) {
        self.fdb.listen(listens);
    }

    /// Puts what happened to addresses since the last call into `events`, instead of what was there: in order, the first
    /// 4096. Returns how many more events there were. Storage goes round: give the same vector again.
    pub fn fdb_take_events(&self, events: &mut Vec<FdbEvent>) -> u64 {
        self.fdb.take_events(events)
    }

    /// Ports that learned as many addresses as one may, and within the ageing time before `now` had one too many: an old
    /// one made room for it, or it was not learned.
    #[must_use]
    pub fn fdb_full_ports(&self, now: Instant) -> Vec<PortId> {
        self.fdb.full_ports(now)
    }

    /// What happened to addresses so far, in all siblings together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.fdb.counters()
    }
}
