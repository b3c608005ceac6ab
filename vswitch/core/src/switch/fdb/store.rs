//! What only the one who writes needs: entries also stand in lists, one for each port and kind.
//!
//! The links of the lists, needed only on change, lie apart from the table that workers read.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::bucket::{Kind, Place, WAYS};
use super::table::{Found, Hashing, Key, SlotId, Table};
use crate::switch::port::PortId;
use crate::time::Instant;

/// Buckets of the first allocation.
const FIRST_BUCKETS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    before: Option<SlotId>,
    after: Option<SlotId>,
    /// The stamp that a learned entry had at first.
    learned: u32,
}

/// Ends and length of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    pub(super) first: Option<SlotId>,
    last: Option<SlotId>,
    pub(super) len: u32,
    /// When it last had no room for one more, since it was empty.
    pub(super) full: Option<Instant>,
}

pub(super) struct Store {
    table: Arc<Table>,
    hashing: Hashing,
    /// By slot.
    links: Vec<Link>,
    len: usize,
    /// Buckets of which `limit` entries fill half.
    most_buckets: usize,
    /// By port.
    learned: Vec<List>,
    fixed: Vec<List>,
}

impl Store {
    /// Room for at most `limit` entries (2^30 where it is more); memory grows as they come.
    pub(super) fn with_limit(limit: u32, seed: u64) -> Self {
        let limit = usize::try_from(limit.min(1 << 30)).unwrap_or(usize::MAX / 64);
        Self {
            table: Arc::new(Table::new(0)),
            hashing: Hashing::new(seed),
            links: Vec::new(),
            len: 0,
            most_buckets: limit * 2 / WAYS + 2,
            learned: Vec::new(),
            fixed: Vec::new(),
        }
    }

    /// What workers read, as it is now.
    pub(super) const fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn find(&self, key: Key) -> Option<(SlotId, Place)> {
        match self.table.find(self.hashing.probe(key)) {
            Found::Entry(id, place) => Some((id, place)),
            Found::Absent | Found::Unclear => None, // never unclear: nobody else writes
        }
    }

    pub(super) fn entry(&self, id: SlotId) -> Option<(Key, Place)> {
        self.table.entry(id)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (Key, Place)> + '_ {
        self.table.entries().map(|(_, key, place)| (key, place))
    }

    /// The hash of `key`.
    pub(super) fn hash(&self, key: Key) -> u64 {
        self.hashing.probe(key).hash
    }

    /// The stamp that a learned entry had when it was learned.
    pub(super) fn learned_stamp(&self, id: SlotId) -> u32 {
        self.links.get(id.index()).map_or(0, |link| link.learned)
    }

    /// Lists of the learned entries by port, longest unseen first.
    pub(super) fn learned(&self) -> &[List] {
        &self.learned
    }

    /// Adds an entry, newest on its list. The key must be new.
    pub(super) fn insert(&mut self, key: Key, place: Place) {
        if (self.len + 1) * 2 > self.links.len() {
            self.grow();
        }
        let id = self.table.insert(self.hashing.probe(key), place);
        self.len += 1;
        self.links[id.index()].learned = place.seen;
        self.append(id, place);
    }

    /// Gives an entry a new place, newest on the list of it.
    pub(super) fn set_place(&mut self, id: SlotId, place: Place) {
        let Some((key, old)) = self.table.entry(id) else { return };
        self.unlink(id, old);
        let bucket = self.table.bucket(id);
        if (old.port, old.kind) == (place.port, place.kind) {
            bucket.renew(id.way(), place.seen);
        } else {
            bucket.set(id.way(), key.0, place);
        }
        self.append(id, place);
    }

    /// Lets a held entry move again, where it stands on its list; says where it is, if it was held.
    pub(super) fn release(&mut self, key: Key) -> Option<Place> {
        let (id, place) = self.find(key).filter(|(_, place)| place.kind == Kind::Held)?;
        self.table.bucket(id).set(id.way(), key.0, Place { kind: Kind::Learned, ..place });
        Some(place)
    }

    pub(super) fn remove(&mut self, id: SlotId) {
        let Some((key, place)) = self.table.entry(id) else { return };
        self.unlink(id, place);
        let list = self.list(place);
        if list.len == 0 {
            list.full = None;
        }
        self.len -= 1;
        self.table.remove(self.hashing.probe(key), id);
    }

    /// Notes that at `now` there was no room for one more learned entry of `port`.
    pub(super) fn note_full(&mut self, now: Instant, port: PortId) {
        self.list(Place::learned(port, now)).full = Some(now);
    }

    /// Removes the entries of `port` and `kind` that `wanted` picks; returns how many.
    pub(super) fn remove_where(&mut self, port: PortId, kind: Kind, mut wanted: impl FnMut(Key) -> bool) -> u32 {
        let mut removed = 0;
        let mut next = self.lists(kind).get(port.index()).and_then(|list| list.first);
        while let Some(id) = next {
            next = self.links[id.index()].after;
            if self.entry(id).is_some_and(|(key, _)| wanted(key)) {
                self.remove(id);
                removed += 1;
            }
        }
        removed
    }

    /// Moves to a table larger by a quarter. The old one stays as it is, for workers that still read it.
    #[cold]
    fn grow(&mut self) {
        let buckets = (self.table.len() + self.table.len() / 4).min(self.most_buckets).max(FIRST_BUCKETS);
        let table = Table::new(buckets);
        let mut links = alloc::vec![Link::default(); buckets * WAYS];
        let mut moved: Vec<Option<SlotId>> = alloc::vec![None; self.links.len()];
        for (id, key, place) in self.table.entries() {
            moved[id.index()] = Some(table.insert(self.hashing.probe(key), place));
        }
        let to = |id: Option<SlotId>| id.and_then(|id| moved[id.index()]);
        for (id, link) in moved.iter().zip(&self.links) {
            if let Some(id) = id {
                links[id.index()] = Link { before: to(link.before), after: to(link.after), learned: link.learned };
            }
        }
        for list in self.learned.iter_mut().chain(&mut self.fixed) {
            (list.first, list.last) = (to(list.first), to(list.last));
        }
        self.table = Arc::new(table);
        self.links = links;
    }

    fn lists(&self, kind: Kind) -> &[List] {
        match kind {
            Kind::Learned | Kind::Held => &self.learned,
            Kind::Static => &self.fixed,
        }
    }

    /// The list an entry at `place` stands in.
    fn list(&mut self, place: Place) -> &mut List {
        let lists = match place.kind {
            Kind::Learned | Kind::Held => &mut self.learned,
            Kind::Static => &mut self.fixed,
        };
        let port = place.port().index();
        if port >= lists.len() {
            lists.resize(port + 1, List::default());
        }
        &mut lists[port]
    }

    fn append(&mut self, id: SlotId, place: Place) {
        let list = self.list(place);
        let before = list.last.replace(id);
        list.len += 1;
        if before.is_none() {
            list.first = Some(id);
        }
        let link = &mut self.links[id.index()];
        (link.before, link.after) = (before, None);
        if let Some(before) = before {
            self.links[before.index()].after = Some(id);
        }
    }

    fn unlink(&mut self, id: SlotId, place: Place) {
        let Link { before, after, .. } = self.links[id.index()];
        match before {
            Some(before) => self.links[before.index()].after = after,
            None => self.list(place).first = after,
        }
        match after {
            Some(after) => self.links[after.index()].before = before,
            None => self.list(place).last = before,
        }
        self.list(place).len -= 1;
    }
}
