//! The forwarding database: behind which port is (VLAN, MAC)?
//!
//! Learning lets any station write into this table, so memory is bounded and the bound is fair: a port that is at its
//! own limit replaces its own oldest address, and when the whole table is full the port with most learned addresses
//! loses its oldest. A station that invents addresses thereby pushes out its own and nobody else's.
//!
//! Learned addresses of a port stand in the order last seen, so ageing and eviction look at the first only. To keep
//! the path of a frame short, an address seen again goes to the end only when its stamp is older than a granularity
//! of a 64th of the ageing time, at most one second: it ages up to that much early.

mod table;
#[cfg(test)]
mod tests;

use core::fmt;
use core::time::Duration;

use thiserror::Error;

use self::table::{Key, Kind, Place, SlotId, Table};
use super::port::PortId;
use crate::addr::MacAddr;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// How long an address lasts unseen unless set otherwise (IEEE 802.1Q-2022 table 8-6).
pub const DEFAULT_AGEING: Duration = Duration::from_secs(300);

/// Addresses one call of `expire` removes at most, so that it never holds up frames for long.
const EXPIRED_AT_ONCE: u32 = 1024;

/// Bounds of the forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Addresses in all, learned and static; at most 2^31.
    pub entries: u32,
    /// Learned addresses on one port.
    pub per_port: u32,
}

/// What happened to addresses, in numbers that only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Addresses seen for the first time.
    pub learned: u64,
    /// Learned addresses that showed up on another port.
    pub moved: u64,
    /// Learned addresses forgotten because they were not seen for the ageing time.
    pub aged: u64,
    /// Learned addresses that made room for others.
    pub evicted: u64,
    /// Frames whose source was not learned, or not moved, because there was nothing to evict.
    pub limited: u64,
}

/// An address in the forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The station's address.
    pub mac: MacAddr,
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The port it is behind.
    pub port: PortId,
    /// How the switch knows.
    pub kind: FdbKind,
}

/// How the switch knows an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdbKind {
    /// Configured: never moves, ages or makes room.
    Static,
    /// Seen as a source.
    Learned {
        /// When, to within the refresh granularity.
        last_seen: Instant,
    },
}

/// Why a static address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FdbError {
    /// No station can have the address.
    #[error("{0} is no station's address: it must not be all zero and the first octet must be even")]
    NotStation(MacAddr),
    /// The port does not exist.
    #[error("{0} does not exist: add it first")]
    NoPort(PortId),
    /// The port takes no part in the VLAN.
    #[error("{port} is not in VLAN {vlan}: add the VLAN to the port, or name a VLAN it is in")]
    NotMember {
        /// The port named.
        port: PortId,
        /// The VLAN named.
        vlan: VlanId,
    },
    /// Static addresses fill the table.
    #[error("static addresses fill all {limit} entries: remove one, or raise the limit")]
    Full {
        /// Entries there may be.
        limit: u32,
    },
}

/// The forwarding database.
pub(crate) struct Fdb {
    table: Table,
    limits: Limits,
    ageing: Option<Duration>,
    /// Age of a stamp at which it is renewed, in nanoseconds: compared for each frame.
    granularity: u64,
    /// No learned address ages before this; `None` where there is none that ages.
    deadline: Option<Instant>,
    counters: Counters,
}

impl Fdb {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        let limits = Limits { entries: limits.entries.min(1 << 31), ..limits };
        let ageing = Some(DEFAULT_AGEING);
        Self {
            table: Table::with_limit(limits.entries, seed),
            limits,
            ageing,
            granularity: granularity(ageing),
            deadline: None,
            counters: Counters::default(),
        }
    }

    /// Notes that a station in `vlan` sent from `port`.
    #[inline]
    pub(crate) fn learn(&mut self, now: Instant, vlan: VlanId, mac: MacAddr, port: PortId) {
        let key = Key::new(vlan, mac);
        match self.table.find(key) {
            Some((_, place)) if place.kind() == Kind::Static => {}
            Some((id, place)) if place.port() == port => {
                if now.as_nanos().saturating_sub(place.seen().as_nanos()) >= self.granularity {
                    self.table.set_place(id, Place::learned(port, now));
                }
            }
            Some((id, _)) => self.relocate(now, key, id, port),
            None => self.admit(now, key, port),
        }
    }

    /// The port of a station.
    #[inline]
    pub(crate) fn lookup(&self, vlan: VlanId, mac: MacAddr) -> Option<PortId> {
        self.table.find(Key::new(vlan, mac)).map(|(_, place)| place.port())
    }

    /// Moves a learned address to the port it was seen on.
    #[cold]
    fn relocate(&mut self, now: Instant, key: Key, id: SlotId, port: PortId) {
        let place = Place::learned(port, now);
        if self.learned_on(port) < self.limits.per_port {
            self.table.set_place(id, place);
        } else if self.evict_oldest(port) {
            // The eviction may have moved the entry.
            if let Some((id, _)) = self.table.find(key) {
                self.table.set_place(id, place);
            }
        } else {
            self.counters.limited += 1;
            return;
        }
        self.counters.moved += 1;
    }

    /// Learns a new address, if need be in place of another.
    #[cold]
    fn admit(&mut self, now: Instant, key: Key, port: PortId) {
        let room = if self.learned_on(port) >= self.limits.per_port {
            self.evict_oldest(port)
        } else {
            self.table.len() < self.limit() || self.evict_greediest(Some(port))
        };
        if !room {
            self.counters.limited += 1;
            return;
        }
        self.table.insert(key, Place::learned(port, now));
        self.counters.learned += 1;
        if self.deadline.is_none() {
            self.deadline = self.ageing.map(|ageing| now + ageing);
        }
    }

    fn limit(&self) -> usize {
        usize::try_from(self.limits.entries).unwrap_or(usize::MAX)
    }

    fn learned_on(&self, port: PortId) -> u32 {
        self.table.learned().get(port.index()).map_or(0, |list| list.len)
    }

    /// Forgets the oldest learned address of the port that has most; of `ingress` where it has as many.
    fn evict_greediest(&mut self, ingress: Option<PortId>) -> bool {
        let ports = (0..=u16::MAX).map(PortId::new).zip(self.table.learned());
        let greediest = ports.max_by_key(|&(port, list)| (list.len, Some(port) == ingress)).map(|(port, _)| port);
        greediest.is_some_and(|port| self.evict_oldest(port))
    }

    fn evict_oldest(&mut self, port: PortId) -> bool {
        let oldest = self.table.learned().get(port.index()).and_then(|list| list.first);
        if let Some(id) = oldest {
            self.table.remove(id);
            self.counters.evicted += 1;
        }
        oldest.is_some()
    }

    /// Makes an address static on `port`, whatever was known of it before.
    pub(crate) fn add_static(&mut self, vlan: VlanId, mac: MacAddr, port: PortId) -> Result<(), FdbError> {
        let key = Key::new(vlan, mac);
        if let Some((id, _)) = self.table.find(key) {
            self.table.set_place(id, Place::fixed(port));
            return Ok(());
        }
        if self.table.len() >= self.limit() && !self.evict_greediest(None) {
            return Err(FdbError::Full { limit: self.limits.entries });
        }
        self.table.insert(key, Place::fixed(port));
        Ok(())
    }

    pub(crate) fn remove(&mut self, vlan: VlanId, mac: MacAddr) -> Option<FdbEntry> {
        let key = Key::new(vlan, mac);
        let (id, place) = self.table.find(key)?;
        self.table.remove(id);
        Some(FdbEntry::new(key, place))
    }

    pub(crate) fn get(&self, vlan: VlanId, mac: MacAddr) -> Option<FdbEntry> {
        let key = Key::new(vlan, mac);
        self.table.find(key).map(|(_, place)| FdbEntry::new(key, place))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = FdbEntry> + '_ {
        self.table.entries().map(|(key, place)| FdbEntry::new(key, place))
    }

    pub(crate) const fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Forgets the learned addresses of a VLAN, a port, both or all; returns how many.
    pub(crate) fn flush(&mut self, vlan: Option<VlanId>, port: Option<PortId>) -> u32 {
        let wanted = |key: Key| vlan.is_none_or(|vlan| key.is_in(vlan));
        match port {
            Some(port) => self.table.remove_where(port, Kind::Learned, wanted),
            None => {
                let ports = (0..=u16::MAX).take(self.table.learned().len()).map(PortId::new);
                ports.map(|port| self.table.remove_where(port, Kind::Learned, wanted)).sum()
            }
        }
    }

    /// Removes the addresses of `port`, static ones too, in VLANs that are not `kept`.
    pub(crate) fn retain(&mut self, port: PortId, kept: impl Fn(VlanId) -> bool) {
        for kind in [Kind::Learned, Kind::Static] {
            self.table.remove_where(port, kind, |key| !kept(key.vlan()));
        }
    }

    pub(crate) fn set_ageing(&mut self, ageing: Option<Duration>) {
        self.ageing = ageing;
        self.granularity = granularity(ageing);
        self.deadline = self.next_deadline();
    }

    /// When [`Self::expire`] next has something to do; may be early.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Forgets what was not seen for the ageing time. What one call leaves undone keeps the deadline in the past.
    pub(crate) fn expire(&mut self, now: Instant) {
        let Some(ageing) = self.ageing else { return };
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut left = EXPIRED_AT_ONCE;
        for port in 0..self.table.learned().len() {
            while let Some((id, seen)) = self.oldest(port)
                && now.since(seen) >= ageing
                && left > 0
            {
                self.table.remove(id);
                self.counters.aged += 1;
                left -= 1;
            }
        }
        self.deadline = self.next_deadline();
    }

    fn next_deadline(&self) -> Option<Instant> {
        let ageing = self.ageing?;
        (0..self.table.learned().len()).filter_map(|port| self.oldest(port)).map(|(_, seen)| seen + ageing).min()
    }

    /// The learned address of a port that was not seen for longest, and when it was.
    fn oldest(&self, port: usize) -> Option<(SlotId, Instant)> {
        let id = self.table.learned().get(port)?.first?;
        self.table.entry(id).map(|(_, place)| (id, place.seen()))
    }
}

fn granularity(ageing: Option<Duration>) -> u64 {
    const MOST: u64 = 1_000_000_000;
    ageing.and_then(|ageing| u64::try_from((ageing / 64).as_nanos()).ok()).map_or(MOST, |nanos| nanos.min(MOST))
}

impl FdbEntry {
    fn new(key: Key, place: Place) -> Self {
        let kind = match place.kind() {
            Kind::Static => FdbKind::Static,
            Kind::Learned => FdbKind::Learned { last_seen: place.seen() },
        };
        Self { mac: key.mac(), vlan: key.vlan(), port: place.port(), kind }
    }
}

impl fmt::Debug for Fdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}
