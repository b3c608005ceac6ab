//! The forwarding database: behind which port is (VLAN, MAC)?
//!
//! Learning lets any station write into this table, so memory is bounded and the bound is fair: a port that is at its
//! own limit replaces its own oldest address, and when the whole table is full the port with most learned addresses
//! loses its oldest. A station that invents addresses thereby pushes out its own and nobody else's.
//!
//! Learned addresses of a port stand in the order last seen, so ageing and eviction look at the first only. To keep
//! the path of a frame short, an address seen again goes to the end only when its stamp is older than a granularity
//! of a 64th of the ageing time, at most one second: it ages up to that much early.
//!
//! Workers share the table. Looking up takes no lock, waits for nobody and writes nothing, so that no worker slows another
//! down (`bucket` says how). Changing it is for one at a time, under a lock. A frame never waits for that lock: where
//! another worker holds it just then, the frame is forwarded all the same and the station's next one teaches its address.
//! What the operator asks for waits, as long as a table takes to grow at most.
//!
//! A worker that has not noticed yet that the table grew reads the smaller one, as it was then: until its next frame or
//! batch, an address may be unknown to it, and flooded, or where it was before. That is no more than a frame meets that
//! came a batch earlier.

mod bucket;
mod entry;
mod flap;
mod foresee;
mod journal;
mod ledger;
mod shared;
mod store;
mod table;
#[cfg(test)]
mod tests;

/// The atomics of `bucket`.
mod atomic {
    pub(super) use core::hint::spin_loop;
    pub(super) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    /// Glances at a bucket before it counts as unclear: some microseconds, a hundred times what a change takes.
    pub(super) const TRIES: u32 = 64;
}

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;

use thiserror::Error;

use self::bucket::{Kind, Place};
pub use self::entry::{FdbEntry, FdbKind, History};
pub use self::flap::{Flapping, Moved};
pub(crate) use self::foresee::Foreseen;
pub use self::foresee::Source;
pub use self::journal::{FdbChange, FdbEvent};
use self::ledger::Ledger;
use self::shared::{NEVER, Shared, change};
pub(crate) use self::table::Probe;
use self::table::{Found, Hashing, Key, Table};
use super::forward::SourceDrop;
use super::port::PortId;
use crate::addr::MacAddr;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// How long an address lasts unseen unless set otherwise (IEEE 802.1Q-2022 table 8-6).
pub const DEFAULT_AGEING: Duration = Duration::from_secs(300);

/// Bounds of the forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Addresses in all, learned and static; at most 2^30.
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
    /// Times a learned address moved so often that it was held.
    pub flapping: u64,
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

/// One worker's hold on the forwarding database that all siblings share.
pub(crate) struct Fdb {
    shared: Arc<Shared>,
    /// What this worker reads: what `shared.published` was when it last looked.
    table: Arc<Table>,
    hashing: Hashing,
    /// Age of a stamp at which it is renewed, in nanoseconds: compared for each frame.
    granularity: i64,
}

impl Fdb {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        let ledger = Ledger::new(limits, seed);
        let table = Arc::clone(ledger.store.table());
        Self {
            shared: Arc::new(Shared::new(ledger)),
            table,
            hashing: Hashing::new(seed),
            granularity: granularity(Some(DEFAULT_AGEING)),
        }
    }

    /// Another worker's hold on the same.
    pub(crate) fn sibling(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        let table = Arc::clone(&shared.news.published.lock());
        Self { shared, table, hashing: self.hashing.clone(), granularity: self.granularity }
    }

    /// Takes up a table that grew meanwhile; once a frame or batch.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        // Relaxed: the lock orders what is read of the table itself.
        if self.shared.news.buckets.load(Ordering::Relaxed) != self.table.len() {
            self.take_published();
        }
    }

    #[cold]
    fn take_published(&mut self) {
        if let Some(published) = self.shared.news.published.try_lock() {
            self.table = Arc::clone(&published);
        }
    }

    /// What the other calls need to know of an address, given as a word.
    #[inline]
    pub(crate) fn probe(&self, vlan: VlanId, mac: u64) -> Probe {
        self.hashing.probe(Key::new(vlan, mac))
    }

    /// Begins to fetch what is known of an address from memory, and does not wait for it.
    #[inline]
    pub(crate) fn look_ahead(&self, probe: Probe) {
        self.table.touch(probe);
    }

    /// Whether nothing is to be learned of a station that sent from `port`; what is not clear at a glance is to be.
    #[inline]
    pub(crate) fn knows(&self, now: Instant, probe: Probe, port: PortId) -> bool {
        let is_known =
            |place: Place| place.port() == port && (place.kind == Kind::Static || place.age(now) < self.granularity);
        self.table.hit(probe).is_some_and(is_known)
    }

    /// Notes that a station sent from `port`, unless another worker writes just now; or says that it can not have.
    #[cold]
    pub(crate) fn learn(&mut self, now: Instant, probe: Probe, port: PortId) -> Result<(), SourceDrop> {
        match self.table.find(probe) {
            Found::Entry(_, place) if place.kind == Kind::Static => return Ok(()),
            Found::Entry(_, place) if place.port() == port && place.age(now) < self.granularity => return Ok(()),
            // Seen without the lock: a loop brings many of these, and must not keep others from learning.
            Found::Entry(_, place) if place.kind == Kind::Held && place.port() != port => {
                return Err(SourceDrop::MacFlapping);
            }
            Found::Unclear => return Ok(()),
            Found::Entry(..) | Found::Absent => {}
        }
        let Self { shared, table, .. } = self;
        let Some(ledger) = shared.ledger.try_lock() else { return Ok(()) };
        change(&shared.news, table, ledger, |ledger| ledger.learn(now, probe.key, port))
    }

    /// What is remembered of a learned address.
    pub(crate) fn history(&self, vlan: VlanId, mac: MacAddr) -> Option<History> {
        self.shared.ledger.lock().history(Key::new(vlan, mac.to_u64()))
    }

    /// The port of a station; `None` too where another worker changes the entry just now.
    #[inline]
    pub(crate) fn lookup(&self, probe: Probe) -> Option<PortId> {
        match self.table.hit(probe) {
            Some(place) => Some(place.port()),
            None => self.look_again(probe),
        }
    }

    #[cold]
    fn look_again(&self, probe: Probe) -> Option<PortId> {
        match self.table.find(probe) {
            Found::Entry(_, place) => Some(place.port()),
            Found::Absent | Found::Unclear => None,
        }
    }

    /// Makes an address static on `port`, whatever was known of it before.
    pub(crate) fn add_static(&mut self, vlan: VlanId, mac: MacAddr, port: PortId) -> Result<(), FdbError> {
        self.change(|ledger| ledger.add_static(Key::new(vlan, mac.to_u64()), port))
    }

    pub(crate) fn remove(&mut self, vlan: VlanId, mac: MacAddr) -> Option<FdbEntry> {
        self.change(|ledger| ledger.remove(Key::new(vlan, mac.to_u64())))
    }

    /// The addresses held since the last call, the first few of them.
    pub(crate) fn take_flapping(&self) -> Vec<Flapping> {
        let is_news = &self.shared.news.flapping;
        if is_news.load(Ordering::Relaxed)
            && let Some(mut ledger) = self.shared.ledger.try_lock()
        {
            is_news.store(false, Ordering::Relaxed);
            return ledger.take_flapping();
        }
        Vec::new()
    }

    /// Writes down what happens to addresses from now on, or no longer.
    pub(crate) fn listen(&self, listens: bool) {
        self.shared.ledger.lock().listen(listens);
    }

    /// What happened to addresses since the last call goes to `events`; how many more events there were.
    pub(crate) fn take_events(&self, events: &mut Vec<FdbEvent>) -> u64 {
        events.clear();
        self.shared.ledger.lock().take_events(events)
    }

    pub(crate) fn get(&self, vlan: VlanId, mac: MacAddr) -> Option<FdbEntry> {
        self.shared.ledger.lock().get(Key::new(vlan, mac.to_u64()))
    }

    pub(crate) fn entries(&self) -> Vec<FdbEntry> {
        self.shared.ledger.lock().entries()
    }

    /// The same, each with what is remembered of it.
    pub(crate) fn histories(&self) -> Vec<(FdbEntry, Option<History>)> {
        let ledger = self.shared.ledger.lock();
        let all = ledger.entries().into_iter();
        all.map(|entry| (entry, ledger.history(Key::new(entry.vlan, entry.mac.to_u64())))).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.shared.ledger.lock().store.len()
    }

    /// Ports that had an address too many at their own limit, within the ageing time before `now`.
    pub(crate) fn full_ports(&self, now: Instant) -> Vec<PortId> {
        self.shared.ledger.lock().full_ports(now)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.shared.ledger.lock().counters()
    }

    /// Learns what another table knew, in the order of the entries.
    pub(crate) fn restore(&mut self, entries: impl IntoIterator<Item = FdbEntry>, counters: Counters) {
        self.change(|ledger| {
            for FdbEntry { mac, vlan, port, kind, .. } in entries {
                if let FdbKind::Learned { last_seen } = kind {
                    let _ = ledger.learn(last_seen, Key::new(vlan, mac.to_u64()), port);
                }
            }
            ledger.set_counters(counters);
        });
    }

    /// Forgets the learned addresses of a VLAN, a port, both or all; returns how many.
    pub(crate) fn flush(&mut self, vlan: Option<VlanId>, port: Option<PortId>) -> u32 {
        self.change(|ledger| ledger.flush(vlan, port))
    }

    /// Forgets the learned addresses that `is_wrong` picks, by VLAN, address and port.
    pub(crate) fn forget(&mut self, is_wrong: impl Fn(VlanId, MacAddr, PortId) -> bool) {
        self.change(|ledger| ledger.forget(is_wrong));
    }

    /// Removes the addresses of `port`, static ones too, in VLANs that are not `kept`.
    pub(crate) fn retain(&mut self, port: PortId, kept: impl Fn(VlanId) -> bool) {
        self.change(|ledger| ledger.retain(port, kept));
    }

    pub(crate) fn set_ageing(&mut self, ageing: Option<Duration>) {
        self.granularity = granularity(ageing);
        self.change(|ledger| ledger.set_ageing(ageing));
    }

    /// When [`Self::expire`] next has something to do; may be early.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let nanos = self.shared.news.deadline.load(Ordering::Relaxed);
        (nanos != NEVER).then_some(Instant::from_nanos(nanos))
    }

    /// Forgets what was not seen for the ageing time. What is left undone, as where another worker writes just now,
    /// keeps the deadline in the past.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let Self { shared, table, .. } = self;
        if let Some(ledger) = shared.ledger.try_lock() {
            change(&shared.news, table, ledger, |ledger| ledger.expire(now));
        }
    }

    /// Does `work` once no other worker writes, and reads the newest table from then on.
    fn change<R>(&mut self, work: impl FnOnce(&mut Ledger) -> R) -> R {
        let Self { shared, table, .. } = self;
        change(&shared.news, table, shared.ledger.lock(), work)
    }
}

fn granularity(ageing: Option<Duration>) -> i64 {
    const MOST: i64 = 1_000_000_000;
    ageing.and_then(|ageing| i64::try_from((ageing / 64).as_nanos()).ok()).map_or(MOST, |nanos| nanos.min(MOST))
}

impl fmt::Debug for Fdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}
