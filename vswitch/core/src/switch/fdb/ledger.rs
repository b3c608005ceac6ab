//! Who may be in the table: learning, limits, eviction and ageing. One worker at a time holds this.

use alloc::vec::Vec;
use core::time::Duration;

use super::bucket::{Kind, Place};
use super::flap::{Flapping, Flaps, Step};
use super::journal::{FdbChange, FdbEvent, Journal, note};
use super::store::Store;
use super::table::{Key, SlotId};
use super::{Counters, DEFAULT_AGEING, FdbEntry, FdbError, FdbKind, History, Limits};
use crate::addr::MacAddr;
use crate::switch::forward::SourceDrop;
use crate::switch::port::PortId;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// Addresses one call of `expire` removes at most, so that it never holds up frames for long.
const EXPIRED_AT_ONCE: u32 = 1024;

/// What it comes to that a station sends from a port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lesson {
    /// The address is static: nothing is learned of it.
    Static,
    /// It is where it was.
    Seen(SlotId, Place),
    /// It flapped, and is held elsewhere.
    Held,
    /// It moves, or is held from now on.
    Moves {
        id: SlotId,
        from: PortId,
        /// What is remembered of that.
        step: Option<Step>,
        to: Place,
        room: Room,
    },
    /// It is new.
    New(Room),
}

/// Where there is room for one more address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Room {
    Free,
    /// Once this one is forgotten.
    Of(SlotId),
    None,
}

pub(super) struct Ledger {
    pub(super) store: Store,
    limits: Limits,
    ageing: Option<Duration>,
    /// No learned address ages before this; `None` where there is none that ages.
    deadline: Option<Instant>,
    flaps: Flaps,
    counters: Counters,
    /// What happens, while somebody listens.
    journal: Option<Journal>,
    /// The latest that was told: what stamps are near to.
    now: Instant,
}

impl Ledger {
    pub(super) fn new(limits: Limits, seed: u64) -> Self {
        let limits = Limits { entries: limits.entries.min(1 << 30), ..limits };
        Self {
            store: Store::with_limit(limits.entries, seed),
            limits,
            ageing: Some(DEFAULT_AGEING),
            deadline: None,
            flaps: Flaps::new(),
            counters: Counters::default(),
            journal: None,
            now: Instant::default(),
        }
    }

    /// Notes that the station of `key` sent from `port`, or says that it can not have.
    pub(super) fn learn(&mut self, now: Instant, key: Key, port: PortId) -> Result<(), SourceDrop> {
        self.now = self.now.max(now);
        match self.foresee(now, key, port) {
            Lesson::Static => {}
            Lesson::Seen(id, place) => self.store.set_place(id, place),
            Lesson::Held => return Err(SourceDrop::MacFlapping),
            Lesson::Moves { id, from, step, to, room } => {
                let held = step.and_then(|step| step.flapping());
                if let Some(step) = step {
                    self.flaps.take(step);
                }
                if !self.make(now, room, (key, port)) {
                    return Ok(());
                }
                self.store.set_place(id, to);
                let change = match held {
                    None => {
                        self.counters.moved += 1;
                        FdbChange::Moved { from }
                    }
                    Some(Flapping { other, until, .. }) => {
                        self.counters.flapping += 1;
                        FdbChange::Held { other, until }
                    }
                };
                note(&mut self.journal, Some(now), key, to.port(), change);
                if to.port() != port {
                    return Err(SourceDrop::MacFlapping);
                }
            }
            Lesson::New(room) => {
                if self.make(now, room, (key, port)) {
                    self.admit(now, key, port);
                }
            }
        }
        Ok(())
    }

    /// What it comes to that the station of `key` sends from `port`; nothing is done.
    pub(super) fn foresee(&self, now: Instant, key: Key, port: PortId) -> Lesson {
        match self.store.find(key) {
            Some((_, Place { kind: Kind::Static, .. })) => Lesson::Static,
            Some((id, place)) if place.port() == port => {
                Lesson::Seen(id, Place { kind: place.kind, ..Place::learned(port, now) })
            }
            Some((_, Place { kind: Kind::Held, .. })) => Lesson::Held,
            Some((id, place)) => self.foresee_move(now, (id, key), place.port(), port),
            None => Lesson::New(self.room_for_new(port)),
        }
    }

    /// A learned address moves to the port it was seen on, or is held where it was before it began to flap.
    fn foresee_move(&self, now: Instant, (id, key): (SlotId, Key), from: PortId, port: PortId) -> Lesson {
        let step = self.flaps.foresee(now, key, self.store.hash(key), from, port);
        let home = step.and_then(|step| step.home());
        let to = home.unwrap_or(port);
        let room =
            if to != from && self.learned_on(to) >= self.limits.per_port { self.room_of(to) } else { Room::Free };
        let kind = if home.is_some() { Kind::Held } else { Kind::Learned };
        Lesson::Moves { id, from, step, to: Place { kind, ..Place::learned(to, now) }, room }
    }

    fn room_for_new(&self, port: PortId) -> Room {
        if self.learned_on(port) >= self.limits.per_port {
            self.room_of(port)
        } else if self.store.len() < self.limit() {
            Room::Free
        } else {
            self.greediest(Some(port)).map_or(Room::None, |port| self.room_of(port))
        }
    }

    /// The room that the oldest learned address of `port` makes.
    fn room_of(&self, port: PortId) -> Room {
        self.store.learned().get(port.index()).and_then(|list| list.first).map_or(Room::None, Room::Of)
    }

    /// Makes room for the address of `newcomer` on that port; false, and counted, where there is none.
    fn make(&mut self, now: Instant, room: Room, newcomer: (Key, PortId)) -> bool {
        let (key, port) = newcomer;
        let is_full = !matches!(room, Room::Free) && self.learned_on(port) >= self.limits.per_port;
        match room {
            Room::Free => {}
            Room::Of(id) => self.evict(Some(now), id),
            Room::None => {
                self.counters.limited += 1;
                note(&mut self.journal, Some(now), key, port, FdbChange::Limited);
            }
        }
        if is_full {
            self.store.note_full(now, port); // not before: an empty list is not full
        }
        !matches!(room, Room::None)
    }

    fn evict(&mut self, at: Option<Instant>, id: SlotId) {
        self.lose(at, id, FdbChange::Evicted);
        self.counters.evicted += 1;
    }

    /// Removes an entry, which `change` is why.
    fn lose(&mut self, at: Option<Instant>, id: SlotId, change: FdbChange) {
        if self.journal.is_some()
            && let Some((key, place)) = self.store.entry(id)
        {
            note(&mut self.journal, at, key, place.port(), change);
        }
        self.store.remove(id);
    }

    /// Removes the entries of `port` and `kind` that `wanted` picks; returns how many.
    fn remove_where(&mut self, port: PortId, kind: Kind, wanted: impl Fn(Key) -> bool) -> u32 {
        let Self { store, journal, .. } = self;
        store.remove_where(port, kind, |key| {
            let is_wanted = wanted(key);
            if is_wanted {
                note(journal, None, key, port, FdbChange::Removed);
            }
            is_wanted
        })
    }

    /// Writes down what happens from now on, or no longer.
    pub(super) fn listen(&mut self, listens: bool) {
        self.journal = listens.then(Journal::default);
    }

    /// What happened since the last call goes to `events`, which are empty; how many more events there were.
    pub(super) fn take_events(&mut self, events: &mut Vec<FdbEvent>) -> u64 {
        self.journal.as_mut().map_or(0, |journal| journal.take(events))
    }

    /// Learns a new address, for which there is room.
    fn admit(&mut self, now: Instant, key: Key, port: PortId) {
        self.store.insert(key, Place::learned(port, now));
        self.counters.learned += 1;
        note(&mut self.journal, Some(now), key, port, FdbChange::Learned);
        if self.deadline.is_none() {
            self.deadline = self.ageing.map(|ageing| now + ageing);
        }
    }

    fn limit(&self) -> usize {
        usize::try_from(self.limits.entries).unwrap_or(usize::MAX)
    }

    fn learned_on(&self, port: PortId) -> u32 {
        self.store.learned().get(port.index()).map_or(0, |list| list.len)
    }

    /// Ports that had an address too many at their own limit, within the ageing time before `now`.
    pub(super) fn full_ports(&self, now: Instant) -> Vec<PortId> {
        let is_late = |at: Instant| self.ageing.is_none_or(|ageing| now.since(at) < ageing);
        let ports = (0..=u16::MAX).map(PortId::new).zip(self.store.learned());
        ports.filter(|(_, list)| list.full.is_some_and(is_late)).map(|(port, _)| port).collect()
    }

    /// The port with most learned addresses; `ingress` where it has as many.
    fn greediest(&self, ingress: Option<PortId>) -> Option<PortId> {
        let ports = (0..=u16::MAX).map(PortId::new).zip(self.store.learned());
        ports.max_by_key(|&(port, list)| (list.len, Some(port) == ingress)).map(|(port, _)| port)
    }

    pub(super) fn add_static(&mut self, key: Key, port: PortId) -> Result<(), FdbError> {
        if let Some((id, _)) = self.store.find(key) {
            self.store.set_place(id, Place::fixed(port));
        } else {
            if self.store.len() >= self.limit() {
                match self.greediest(None).map_or(Room::None, |port| self.room_of(port)) {
                    Room::Of(id) => self.evict(None, id),
                    Room::Free | Room::None => return Err(FdbError::Full { limit: self.limits.entries }),
                }
            }
            self.store.insert(key, Place::fixed(port));
        }
        note(&mut self.journal, None, key, port, FdbChange::Fixed);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<FdbEntry> {
        let found = self.store.find(key).map(|(id, place)| (id, self.told(key, place)));
        self.flaps.retain(|gone, _| gone != key);
        let (id, told) = found?;
        self.lose(None, id, FdbChange::Removed);
        Some(told)
    }

    pub(super) fn get(&self, key: Key) -> Option<FdbEntry> {
        self.store.find(key).map(|(_, place)| self.told(key, place))
    }

    pub(super) fn entries(&self) -> Vec<FdbEntry> {
        self.store.entries().map(|(key, place)| self.told(key, place)).collect()
    }

    fn told(&self, key: Key, place: Place) -> FdbEntry {
        let kind = match place.kind {
            Kind::Static => FdbKind::Static,
            Kind::Learned | Kind::Held => FdbKind::Learned { last_seen: place.seen(self.now) },
        };
        let flapping = if place.kind == Kind::Held { self.flaps.held(key, self.store.hash(key)) } else { None };
        FdbEntry { mac: key.mac(), vlan: key.vlan(), port: place.port(), kind, flapping }
    }

    /// Since when a learned address is known, and how it moved; `None` where it is not learned.
    pub(super) fn history(&self, key: Key) -> Option<History> {
        let (id, place) = self.store.find(key).filter(|(_, place)| place.kind != Kind::Static)?;
        let learned = Place { seen: self.store.learned_stamp(id), ..place }.seen(self.now);
        Some(History { learned, moved: self.flaps.moved(key, self.store.hash(key), learned) })
    }

    /// The key of an entry.
    pub(super) fn key(&self, id: SlotId) -> Option<Key> {
        self.store.entry(id).map(|(key, _)| key)
    }

    /// The addresses held since the last call, the first few of them.
    pub(super) fn take_flapping(&mut self) -> Vec<Flapping> {
        self.flaps.take_untold()
    }

    pub(super) const fn counters(&self) -> Counters {
        self.counters
    }

    /// Goes on counting from `counters`.
    pub(super) const fn set_counters(&mut self, counters: Counters) {
        self.counters = counters;
    }

    pub(super) fn flush(&mut self, vlan: Option<VlanId>, port: Option<PortId>) -> u32 {
        let wanted = |key: Key| vlan.is_none_or(|vlan| key.is_in(vlan));
        let flushed = match port {
            Some(port) => self.remove_where(port, Kind::Learned, wanted),
            None => {
                let ports = (0..=u16::MAX).take(self.store.learned().len()).map(PortId::new);
                ports.map(|port| self.remove_where(port, Kind::Learned, wanted)).sum()
            }
        };
        let Self { flaps, store, .. } = self;
        flaps.retain(|key, _| store.find(key).is_some());
        flushed
    }

    pub(super) fn forget(&mut self, is_wrong: impl Fn(VlanId, MacAddr, PortId) -> bool) {
        for port in (0..=u16::MAX).take(self.store.learned().len()).map(PortId::new) {
            self.remove_where(port, Kind::Learned, |key| is_wrong(key.vlan(), key.mac(), port));
        }
        let Self { flaps, store, .. } = self;
        // A hold would put the address back where it last stayed.
        flaps.retain(|key, home| store.find(key).is_some() && !is_wrong(key.vlan(), key.mac(), home));
    }

    pub(super) fn retain(&mut self, port: PortId, kept: impl Fn(VlanId) -> bool) {
        for kind in [Kind::Learned, Kind::Static] {
            self.remove_where(port, kind, |key| !kept(key.vlan()));
        }
        self.flaps.retain(|key, home| home != port || kept(key.vlan()));
    }

    pub(super) fn set_ageing(&mut self, ageing: Option<Duration>) {
        self.ageing = ageing;
        self.deadline = self.next_deadline();
    }

    /// When [`Self::expire`] next has something to do; may be early.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.flaps.deadline()).min()
    }

    /// Forgets what was not seen for the ageing time, and lets those move again that were held for long enough. What one
    /// call leaves undone keeps the deadline in the past.
    pub(super) fn expire(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let Self { flaps, store, journal, .. } = self;
        flaps.release(now, |key| {
            if let Some(place) = store.release(key) {
                note(journal, Some(now), key, place.port(), FdbChange::Released);
            }
        });
        let Some(ageing) = self.ageing else { return };
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut left = EXPIRED_AT_ONCE;
        for port in 0..self.store.learned().len() {
            while let Some((id, seen)) = self.oldest(port)
                && now.since(seen) >= ageing
                && left > 0
            {
                self.lose(Some(now), id, FdbChange::Aged);
                self.counters.aged += 1;
                left -= 1;
            }
        }
        self.deadline = self.next_deadline();
    }

    fn next_deadline(&self) -> Option<Instant> {
        let ageing = self.ageing?;
        (0..self.store.learned().len()).filter_map(|port| self.oldest(port)).map(|(_, seen)| seen + ageing).min()
    }

    /// The learned address of a port that was not seen for longest, and when it was.
    fn oldest(&self, port: usize) -> Option<(SlotId, Instant)> {
        let id = self.store.learned().get(port)?.first?;
        self.store.entry(id).map(|(_, place)| (id, place.seen(self.now)))
    }
}
