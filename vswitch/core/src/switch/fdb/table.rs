//! The memory of the forwarding database: a hash table whose entries also stand in lists, one for each port and kind.
//!
//! Open addressing: an entry stands in the bucket its hash names or, where that is full, in the next with a vacancy.
//! What a frame needs of an entry is 16 bytes and a bucket of four is a cache line, so a lookup costs one cache miss; the links of the lists, needed only on change, lie apart.
//! A removal closes the gap (no tombstones), so entries move and a [`SlotId`] holds only until the next change.

use alloc::vec::Vec;
use core::hash::Hasher;
use core::num::{NonZeroU32, NonZeroU64};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

use crate::addr::MacAddr;
use crate::switch::port::PortId;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// Slots of a bucket.
const WAYS: usize = 4;

/// Buckets of the first allocation.
const FIRST_BUCKETS: usize = 16;

/// VLAN and MAC address: 12 and 48 bits over a low bit that is always one, which leaves zero for "vacant".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(NonZeroU64);

impl Key {
    #[inline]
    pub(super) fn new(vlan: VlanId, mac: MacAddr) -> Self {
        Self(NonZeroU64::MIN | ((u64::from(vlan.get()) << 48 | mac.to_u64()) << 4))
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

/// Whether an entry was configured or seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Learned,
    Static,
}

/// Where an address is and since when: 16 bits of port, one of kind, and the high 47 bits of the time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Place(u64);

impl Place {
    const STATIC: u64 = 1 << 16;
    const PORT: u64 = Self::STATIC - 1;

    /// `now` is kept to 131 microseconds, rounded down.
    pub(super) fn learned(port: PortId, now: Instant) -> Self {
        Self(now.as_nanos() & !(Self::PORT | Self::STATIC) | u64::from(port.get()))
    }

    pub(super) fn fixed(port: PortId) -> Self {
        Self(Self::STATIC | u64::from(port.get()))
    }

    #[inline]
    pub(super) fn port(self) -> PortId {
        let [low, high, ..] = self.0.to_le_bytes();
        PortId::new(u16::from_le_bytes([low, high]))
    }

    #[inline]
    pub(super) const fn kind(self) -> Kind {
        if self.0 & Self::STATIC == 0 { Kind::Learned } else { Kind::Static }
    }

    /// When a learned address was last seen.
    #[inline]
    pub(super) const fn seen(self) -> Instant {
        Instant::from_nanos(self.0 & !(Self::PORT | Self::STATIC))
    }
}

/// Index of a slot, valid until the table changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(NonZeroU32);

impl SlotId {
    fn new(index: usize) -> Self {
        // There are fewer than 2^32 slots, see `Table::with_limit`.
        Self(u32::try_from(index + 1).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX))
    }

    #[inline]
    fn index(self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(usize::MAX) - 1
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: Option<Key>,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket([Slot; WAYS]);

impl Bucket {
    /// The slots that hold `key`, a bit each. Without a branch on any of them: no predictor could foresee which.
    #[inline]
    fn ways_of(&self, key: Option<Key>) -> u32 {
        self.0.iter().enumerate().fold(0, |ways, (way, slot)| ways | u32::from(slot.key == key) << way)
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.ways_of(None) == 0
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    before: Option<SlotId>,
    after: Option<SlotId>,
}

/// Ends and length of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    pub(super) first: Option<SlotId>,
    last: Option<SlotId>,
    pub(super) len: u32,
}

pub(super) struct Table {
    buckets: Vec<Bucket>,
    /// By slot.
    links: Vec<Link>,
    len: usize,
    /// Buckets of which `limit` entries fill two thirds.
    most_buckets: usize,
    /// By port.
    learned: Vec<List>,
    fixed: Vec<List>,
    seed: u64,
    multipliers: SharedSeed,
}

impl Table {
    /// A table for at most `limit` entries (2^31 where it is more); memory grows as they come.
    pub(super) fn with_limit(limit: u32, seed: u64) -> Self {
        let limit = usize::try_from(limit.min(1 << 31)).unwrap_or(usize::MAX / 64);
        Self {
            buckets: Vec::new(),
            links: Vec::new(),
            len: 0,
            most_buckets: (limit + limit / 2) / WAYS + 2,
            learned: Vec::new(),
            fixed: Vec::new(),
            seed,
            multipliers: SharedSeed::from_u64(seed),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<(SlotId, Place)> {
        let mut at = self.home(key);
        loop {
            let bucket = self.buckets.get(at)?;
            let ways = bucket.ways_of(Some(key));
            if ways != 0 {
                let way = usize::try_from(ways.trailing_zeros()).unwrap_or(0) % WAYS;
                return Some((SlotId::new(at * WAYS + way), bucket.0[way].place));
            }
            if !bucket.is_full() {
                return None;
            }
            at = self.next(at);
        }
    }

    pub(super) fn entry(&self, id: SlotId) -> Option<(Key, Place)> {
        let slot = self.slot(id);
        slot.key.map(|key| (key, slot.place))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (Key, Place)> + '_ {
        let slots = self.buckets.iter().flat_map(|bucket| &bucket.0);
        slots.filter_map(|slot| slot.key.map(|key| (key, slot.place)))
    }

    /// Lists of the learned entries by port, longest unseen first.
    pub(super) fn learned(&self) -> &[List] {
        &self.learned
    }

    /// Adds an entry, newest on its list. The key must be new.
    pub(super) fn insert(&mut self, key: Key, place: Place) {
        if (self.len + 1) * 3 > self.links.len() * 2 {
            self.grow();
        }
        let id = self.vacancy(key);
        *self.slot_mut(id) = Slot { key: Some(key), place };
        self.len += 1;
        self.append(id);
    }

    /// Gives an entry a new place, newest on the list of it.
    pub(super) fn set_place(&mut self, id: SlotId, place: Place) {
        self.unlink(id);
        self.slot_mut(id).place = place;
        self.append(id);
    }

    /// Removes an entry, and lets those that found its bucket full move up.
    pub(super) fn remove(&mut self, id: SlotId) {
        self.unlink(id);
        self.len -= 1;
        let mut gap = id;
        let mut at = gap.index() / WAYS;
        let mut overflowed = self.buckets[at].is_full();
        self.slot_mut(gap).key = None;
        while overflowed {
            at = self.next(at);
            overflowed = self.buckets[at].is_full();
            let gap_at = gap.index() / WAYS;
            let fits = |slot: &Slot| {
                slot.key.is_some_and(|key| self.distance(self.home(key), at) >= self.distance(gap_at, at))
            };
            if let Some(way) = self.buckets[at].0.iter().position(fits) {
                let filler = SlotId::new(at * WAYS + way);
                *self.slot_mut(gap) = *self.slot(filler);
                self.links[gap.index()] = self.links[filler.index()];
                self.relink(gap);
                self.slot_mut(filler).key = None;
                gap = filler;
            }
        }
    }

    /// Removes the entries of `port` and `kind` that `wanted` picks; returns how many.
    pub(super) fn remove_where(&mut self, port: PortId, kind: Kind, mut wanted: impl FnMut(Key) -> bool) -> u32 {
        let mut removed = 0;
        let mut next = self.lists(kind).get(port.index()).and_then(|list| list.first);
        while let Some(id) = next {
            let Some((key, _)) = self.entry(id) else { break };
            let after = self.links[id.index()].after;
            next = if wanted(key) {
                let after = after.and_then(|id| self.entry(id));
                self.remove(id);
                removed += 1;
                after.and_then(|(key, _)| self.find(key)).map(|(id, _)| id)
            } else {
                after
            };
        }
        removed
    }

    fn slot(&self, id: SlotId) -> &Slot {
        &self.buckets[id.index() / WAYS].0[id.index() % WAYS]
    }

    fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.buckets[id.index() / WAYS].0[id.index() % WAYS]
    }

    /// The bucket where probing for `key` starts: its hash scaled to the number of buckets. What the hash multiplies
    /// by is secret too, so a station cannot choose addresses that crowd in one place.
    #[inline]
    fn home(&self, key: Key) -> usize {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.multipliers);
        hasher.write_u64(key.0.get());
        let buckets = u128::try_from(self.buckets.len()).unwrap_or(0);
        usize::try_from((u128::from(hasher.finish()) * buckets) >> 64).unwrap_or(0)
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 < self.buckets.len() { bucket + 1 } else { 0 }
    }

    /// Steps from bucket `from` on to bucket `to`.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.buckets.len() - from }
    }

    /// The first vacant slot for `key`. There is one: a third of the slots stay vacant.
    fn vacancy(&self, key: Key) -> SlotId {
        let mut at = self.home(key);
        loop {
            if let Some(way) = self.buckets[at].0.iter().position(|slot| slot.key.is_none()) {
                return SlotId::new(at * WAYS + way);
            }
            at = self.next(at);
        }
    }

    /// Moves to a table half as large again. Homes keep their order, so both are walked from front to back.
    #[cold]
    fn grow(&mut self) {
        let buckets = (self.buckets.len() + self.buckets.len() / 2).min(self.most_buckets).max(FIRST_BUCKETS);
        let old = core::mem::replace(&mut self.buckets, alloc::vec![Bucket::default(); buckets]);
        let old_links = core::mem::replace(&mut self.links, alloc::vec![Link::default(); buckets * WAYS]);
        let mut moved: Vec<Option<SlotId>> = alloc::vec![None; old_links.len()];
        for (slot, moved) in old.iter().flat_map(|bucket| &bucket.0).zip(&mut moved) {
            let Some(key) = slot.key else { continue };
            let to = self.vacancy(key);
            *self.slot_mut(to) = *slot;
            *moved = Some(to);
        }
        let to = |id: Option<SlotId>| id.and_then(|id| moved[id.index()]);
        for (id, link) in moved.iter().zip(&old_links) {
            if let Some(id) = id {
                self.links[id.index()] = Link { before: to(link.before), after: to(link.after) };
            }
        }
        for list in self.learned.iter_mut().chain(&mut self.fixed) {
            (list.first, list.last) = (to(list.first), to(list.last));
        }
    }

    fn lists(&self, kind: Kind) -> &[List] {
        match kind {
            Kind::Learned => &self.learned,
            Kind::Static => &self.fixed,
        }
    }

    /// The list an entry at `place` stands in.
    fn list(&mut self, place: Place) -> &mut List {
        let lists = match place.kind() {
            Kind::Learned => &mut self.learned,
            Kind::Static => &mut self.fixed,
        };
        let port = place.port().index();
        if port >= lists.len() {
            lists.resize(port + 1, List::default());
        }
        &mut lists[port]
    }

    fn append(&mut self, id: SlotId) {
        let list = self.list(self.slot(id).place);
        let before = list.last.replace(id);
        list.len += 1;
        if before.is_none() {
            list.first = Some(id);
        }
        self.links[id.index()] = Link { before, after: None };
        if let Some(before) = before {
            self.links[before.index()].after = Some(id);
        }
    }

    fn unlink(&mut self, id: SlotId) {
        let Link { before, after } = self.links[id.index()];
        match before {
            Some(before) => self.links[before.index()].after = after,
            None => self.list(self.slot(id).place).first = after,
        }
        match after {
            Some(after) => self.links[after.index()].before = before,
            None => self.list(self.slot(id).place).last = before,
        }
        self.list(self.slot(id).place).len -= 1;
    }

    /// Tells the neighbours of an entry that it now stands in slot `id`.
    fn relink(&mut self, id: SlotId) {
        let Link { before, after } = self.links[id.index()];
        match before {
            Some(before) => self.links[before.index()].after = Some(id),
            None => self.list(self.slot(id).place).first = Some(id),
        }
        match after {
            Some(after) => self.links[after.index()].before = Some(id),
            None => self.list(self.slot(id).place).last = Some(id),
        }
    }
}
