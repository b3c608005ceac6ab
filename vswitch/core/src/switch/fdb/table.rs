//! The memory that all workers read: a hash table of buckets, each a cache line.
//!
//! Open addressing: an entry stands in the bucket its hash names or, where that is full, in the next with a vacancy. So a
//! lookup costs one cache miss, rarely more. A table that is too small is replaced by a larger one and stays as it was
//! then, until the last worker has let go of it.

use alloc::boxed::Box;
use core::hash::Hasher;
use core::num::{NonZeroU32, NonZeroU64};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

use super::bucket::{Bucket, Kind, Place, Sight, WAYS};
use crate::addr::MacAddr;
use crate::switch::port::PortId;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// VLAN and MAC address: 12 and 48 bits over a low bit that is always one, which leaves zero for "vacant".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(super) NonZeroU64);

impl Key {
    #[inline]
    pub(super) fn new(vlan: VlanId, mac: u64) -> Self {
        Self(NonZeroU64::MIN | ((u64::from(vlan.get()) << 48 | mac) << 4))
    }

    pub(super) fn mac(self) -> MacAddr {
        MacAddr::from_u64(self.0.get() >> 4)
    }

    pub(super) fn is_in(self, vlan: VlanId) -> bool {
        self.0.get() >> 52 == u64::from(vlan.get())
    }

    pub(super) fn vlan(self) -> VlanId {
        u16::try_from(self.0.get() >> 52).ok().and_then(VlanId::new).unwrap_or(VlanId::MIN)
    }
}

/// A key with its hash, which holds for tables of every size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(super) key: Key,
    pub(super) hash: u64,
}

impl Probe {
    /// The address.
    pub(crate) fn mac(self) -> MacAddr {
        self.key.mac()
    }
}

/// The hash of keys. What it multiplies by is secret too, so a station cannot choose addresses that crowd in one place.
#[derive(Clone, Debug)]
pub(super) struct Hashing {
    seed: u64,
    multipliers: SharedSeed,
}

impl Hashing {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, multipliers: SharedSeed::from_u64(seed) }
    }

    #[inline]
    pub(super) fn probe(&self, key: Key) -> Probe {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.multipliers);
        hasher.write_u64(key.0.get());
        Probe { key, hash: hasher.finish() }
    }
}

/// Log2 of the nanoseconds that stamps count in: 16.8 ms. A stamp comes round after 2.3 years, and is taken for the
/// nearest moment of its name: an age beyond 1.1 years is told, and believed, too low.
pub(super) const STAMP_SHIFT: u32 = 24;

impl Place {
    /// `now` is kept to a stamp, rounded down.
    pub(super) fn learned(port: PortId, now: Instant) -> Self {
        let [a, b, c, d, ..] = (now.as_nanos() >> STAMP_SHIFT).to_le_bytes();
        Self { port: port.get(), kind: Kind::Learned, seen: u32::from_le_bytes([a, b, c, d]) }
    }

    pub(super) fn fixed(port: PortId) -> Self {
        Self { port: port.get(), kind: Kind::Static, seen: 0 }
    }

    #[inline]
    pub(super) const fn port(self) -> PortId {
        PortId::new(self.port)
    }

    /// Nanoseconds from when a learned address was last seen to `now`; negative where another worker saw it later.
    #[inline]
    pub(super) fn age(self, now: Instant) -> i64 {
        const UNUSED: u32 = 32 - STAMP_SHIFT;
        ((now.as_nanos() << UNUSED).wrapping_sub(u64::from(self.seen) << (STAMP_SHIFT + UNUSED))).cast_signed()
            >> UNUSED
    }

    /// When a learned address was last seen, as told at about `now`.
    pub(super) fn seen(self, now: Instant) -> Instant {
        Instant::from_nanos(now.as_nanos().saturating_sub_signed(self.age(now)))
    }
}

/// Index of a slot: an entry stays in its slot until it is removed or the table grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(NonZeroU32);

impl SlotId {
    #[inline]
    pub(super) fn new(bucket: usize, way: usize) -> Self {
        // There are fewer than 2^32 slots, see `Store::with_limit`.
        let index = u32::try_from(bucket * WAYS + way + 1);
        Self(index.ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX))
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(usize::MAX) - 1
    }

    pub(super) fn bucket(self) -> usize {
        self.index() / WAYS
    }

    pub(super) fn way(self) -> usize {
        self.index() % WAYS
    }
}

/// What a reader finds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Entry(SlotId, Place),
    Absent,
    /// Another worker changes the place to look in right now.
    Unclear,
}

// One cache line: a lookup reads no second one. At most half of the slots are taken, which leaves 4 % of the entries beyond
// their own bucket, where it would be 8 % of two thirds; each costs a second miss. An entry and its links take 48 bytes
// in a full table and 60 in one that has just grown.
const _: () = assert!(size_of::<Bucket>() == 64);

#[derive(Debug)]
pub(super) struct Table(Box<[Bucket]>);

impl Table {
    pub(super) fn new(buckets: usize) -> Self {
        Self((0..buckets).map(|_| Bucket::new()).collect())
    }

    /// How many buckets there are. Tables only grow: it tells one from the next.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bucket(&self, id: SlotId) -> &Bucket {
        &self.0[id.bucket()]
    }

    /// Where `probe` is, if it stands in its own bucket, as almost all do, and nobody changes that just now.
    #[inline(always)]
    pub(super) fn hit(&self, probe: Probe) -> Option<Place> {
        self.0.get(self.home(probe))?.hit(probe.key.0)
    }

    pub(super) fn find(&self, probe: Probe) -> Found {
        let mut at = self.home(probe);
        for _ in 0..self.0.len() {
            match self.0[at].find(probe.key.0) {
                Sight::Here(way, place) => return Found::Entry(SlotId::new(at, way), place),
                Sight::Beyond => at = self.next(at),
                Sight::Absent => return Found::Absent,
                Sight::Unclear => return Found::Unclear,
            }
        }
        Found::Absent
    }

    /// Reads of the bucket where looking for `probe` starts, so that it is near when that is done.
    #[inline]
    pub(super) fn touch(&self, probe: Probe) {
        if let Some(bucket) = self.0.get(self.home(probe)) {
            core::hint::black_box(bucket.touch());
        }
    }

    /// The entries and where they stand. From here on: only for who alone may write.
    pub(super) fn entries(&self) -> impl Iterator<Item = (SlotId, Key, Place)> + '_ {
        let slots = self.0.iter().enumerate().flat_map(|(at, bucket)| (0..WAYS).map(move |way| (at, bucket, way)));
        slots.filter_map(|(at, bucket, way)| {
            let (key, place) = bucket.entry(way)?;
            Some((SlotId::new(at, way), Key(key), place))
        })
    }

    /// Puts a new key into the first vacancy; there must be one.
    pub(super) fn insert(&self, probe: Probe, place: Place) -> SlotId {
        let mut at = self.home(probe);
        loop {
            if let Some(way) = self.0[at].vacancy() {
                self.0[at].set(way, probe.key.0, place);
                return SlotId::new(at, way);
            }
            self.0[at].pass();
            at = self.next(at);
        }
    }

    /// Clears slot `id`, where the key of `probe` stands.
    pub(super) fn remove(&self, probe: Probe, id: SlotId) {
        self.bucket(id).clear(id.way());
        let mut at = self.home(probe);
        while at != id.bucket() {
            self.0[at].unpass();
            at = self.next(at);
        }
    }

    pub(super) fn entry(&self, id: SlotId) -> Option<(Key, Place)> {
        self.bucket(id).entry(id.way()).map(|(key, place)| (Key(key), place))
    }

    /// The bucket where probing starts: the hash scaled to the number of buckets.
    #[inline]
    fn home(&self, probe: Probe) -> usize {
        let buckets = u128::try_from(self.0.len()).unwrap_or(0);
        usize::try_from((u128::from(probe.hash) * buckets) >> 64).unwrap_or(0)
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 < self.0.len() { bucket + 1 } else { 0 }
    }
}
