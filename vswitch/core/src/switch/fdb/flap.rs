//! Addresses that flap: that move from port to port and back faster than any station does.
//!
//! Two ports that are bridged together behind the switch send each other's broadcasts back, so that every station seems to
//! be behind each of them in turn, and frames to it go into the loop. Such an address is held for a while where it was
//! before it began to flap, and what bears it elsewhere is dropped: the station stays in touch, and its frames go round no
//! more. A station that really moves does so once or twice and is followed at once. Where it was before is where it last
//! stayed for [`HOLD`]: who borrows a silent station's address for a moment does not have it held at his own port.
//!
//! Only moves come here. What is remembered of them is bounded: four addresses to a place that a secret hash chooses,
//! where the newest takes over from the one that moved longest ago, if that is not held.

use alloc::vec::Vec;
use core::time::Duration;

use super::table::Key;
use crate::addr::MacAddr;
use crate::switch::port::PortId;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// So many moves within [`WINDOW`] are flapping: the fifth is not made.
pub(super) const MOVES: u8 = 5;
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// How long an address is held when it flaps for the first time. Each time it flaps again before it was quiet for as long
/// as it was held, that doubles, [`DOUBLINGS`] times at most.
pub(super) const HOLD: Duration = Duration::from_secs(10);
pub(super) const DOUBLINGS: u8 = 4;

const SETS: usize = 256;
const WAYS: usize = 4;
/// Addresses that wait to be told of; for more there is their number.
const UNTOLD: usize = 16;

/// An address that flapped and is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flapping {
    /// The address.
    pub mac: MacAddr,
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// Where it is held.
    pub port: PortId,
    /// The last port where it showed up beside.
    pub other: PortId,
    /// Until when it is held.
    pub until: Instant,
}

/// How a learned address moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// How often, as far as is remembered. Times that it showed up elsewhere and was held count too.
    pub times: u32,
    /// When last.
    pub at: Instant,
    /// Where it was before.
    pub from: PortId,
}

/// A move that may be made: what would be remembered, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    slot: usize,
    record: Record,
    is_new_hold: bool,
}

impl Step {
    /// Where the address is to be held instead of moving, if it flaps.
    pub(super) fn home(&self) -> Option<PortId> {
        self.is_new_hold.then_some(self.record.home)
    }

    /// The same with all that is told of it.
    pub(super) fn flapping(&self) -> Option<Flapping> {
        self.is_new_hold.then(|| self.record.flapping())
    }
}

/// What is remembered of an address that moved.
#[derive(Clone, Copy, Debug)]
struct Record {
    key: Key,
    /// Where it last stayed.
    home: PortId,
    other: PortId,
    /// Where it was before it moved last.
    before: PortId,
    /// When it moved last.
    moved: Instant,
    since: Instant,
    /// Since `since`.
    moves: u8,
    /// As long as it is remembered.
    moves_in_all: u32,
    /// How often it was held of late.
    holds: u8,
    is_held: bool,
    /// The end of its last hold.
    until: Instant,
}

impl Record {
    fn flapping(&self) -> Flapping {
        let Self { key, home, other, until, .. } = *self;
        Flapping { mac: key.mac(), vlan: key.vlan(), port: home, other, until }
    }

    /// How long the hold lasts that comes after `holds` others.
    fn hold(holds: u8) -> Duration {
        HOLD * (1 << holds.min(DOUBLINGS))
    }
}

/// The addresses that moved of late.
pub(super) struct Flaps {
    /// [`SETS`] times [`WAYS`]; nothing until an address moves.
    records: Vec<Option<Record>>,
    /// When the next hold ends; may be early.
    deadline: Option<Instant>,
    untold: Vec<Flapping>,
}

impl Flaps {
    pub(super) const fn new() -> Self {
        Self { records: Vec::new(), deadline: None, untold: Vec::new() }
    }

    /// What comes of it that `key` shows up on `to` instead of `from`; `None` where it cannot be remembered, for all that
    /// could make room are held.
    pub(super) fn foresee(&self, now: Instant, key: Key, hash: u64, from: PortId, to: PortId) -> Option<Step> {
        let (slot, known) = self.slot(key, hash)?;
        let mut record = known.unwrap_or(Record {
            key,
            home: from,
            other: to,
            before: from,
            moved: now,
            since: now,
            moves: 0,
            moves_in_all: 0,
            holds: 0,
            is_held: false,
            until: Instant::default(),
        });
        if now.since(record.moved) > HOLD {
            record.home = from;
        }
        if now.since(record.since) > WINDOW {
            (record.since, record.moves) = (now, 0);
        }
        (record.moved, record.before) = (now, from);
        record.moves += 1;
        record.moves_in_all = record.moves_in_all.saturating_add(1);
        record.other = if to == record.home { from } else { to };
        let mut is_new_hold = false;
        if record.moves >= MOVES {
            if record.holds > 0 && now.since(record.until) > Record::hold(record.holds - 1) {
                record.holds = 0;
            }
            let until = now + Record::hold(record.holds);
            (record.is_held, record.until, record.moves) = (true, until, 0);
            record.holds = DOUBLINGS.min(record.holds) + 1;
            is_new_hold = true;
        }
        Some(Step { slot, record, is_new_hold })
    }

    /// Remembers a step that was foreseen.
    pub(super) fn take(&mut self, Step { slot, record, is_new_hold }: Step) {
        if self.records.is_empty() {
            self.records.resize(SETS * WAYS, None);
        }
        self.records[slot] = Some(record);
        if is_new_hold {
            self.deadline = Some(self.deadline.map_or(record.until, |deadline| deadline.min(record.until)));
            if self.untold.len() < UNTOLD {
                self.untold.push(record.flapping());
            }
        }
    }

    /// Where the record of `key` stands, or the place it would take; `None` where all that could make room are held.
    fn slot(&self, key: Key, hash: u64) -> Option<(usize, Option<Record>)> {
        let set = set(hash);
        let Some(ways) = self.records.get(set..set + WAYS) else { return Some((set, None)) };
        if let Some(way) = ways.iter().position(|record| record.is_some_and(|record| record.key == key)) {
            return Some((set + way, ways[way]));
        }
        let is_free = |record: &Option<Record>| record.is_none_or(|record| !record.is_held);
        let free = ways.iter().enumerate().filter(|(_, record)| is_free(record));
        free.min_by_key(|(_, record)| record.map(|record| record.moved)).map(|(way, _)| (set + way, None))
    }

    /// How often `key` moved since `learned`, when last and from where; `None` where it did not, or longer ago than is
    /// remembered.
    pub(super) fn moved(&self, key: Key, hash: u64, learned: Instant) -> Option<Moved> {
        let (_, record) = self.slot(key, hash)?;
        let Record { moves_in_all: times, moved: at, before: from, .. } = record?;
        (at >= learned).then_some(Moved { times, at, from })
    }

    /// Why `key`, which is held, is.
    pub(super) fn held(&self, key: Key, hash: u64) -> Option<Flapping> {
        let (_, record) = self.slot(key, hash)?;
        record.filter(|record| record.is_held).map(|record| record.flapping())
    }

    /// When [`Self::release`] next has something to do; may be early.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends the holds whose time has come, and tells `free` of each.
    pub(super) fn release(&mut self, now: Instant, mut free: impl FnMut(Key)) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        for record in self.records.iter_mut().flatten().filter(|record| record.is_held && record.until <= now) {
            record.is_held = false;
            free(record.key);
        }
        let held = self.records.iter().flatten().filter(|record| record.is_held);
        self.deadline = held.map(|record| record.until).min();
    }

    /// Forgets what is no longer `wanted`: of each address, with the port it was on before it moved.
    pub(super) fn retain(&mut self, wanted: impl Fn(Key, PortId) -> bool) {
        for slot in &mut self.records {
            *slot = slot.filter(|record| wanted(record.key, record.home));
        }
    }

    /// The addresses held since the last call, the first few of them.
    pub(super) fn take_untold(&mut self) -> Vec<Flapping> {
        core::mem::take(&mut self.untold)
    }
}

/// The first place of the set of `hash`.
fn set(hash: u64) -> usize {
    usize::try_from(hash % SETS as u64).unwrap_or(0) * WAYS
}

#[cfg(test)]
mod tests {
    use super::super::{Counters, Fdb, FdbEntry, Limits};
    use super::*;

    const PORTS: [PortId; 3] = [PortId::new(0), PortId::new(1), PortId::new(2)];
    const LIMITS: Limits = Limits { entries: 100_000, per_port: 100_000 };

    /// Moves an address from the first port to the second; where it is held instead.
    fn moves(flaps: &mut Flaps, now: Instant, key: Key, hash: u64) -> Option<PortId> {
        let step = flaps.foresee(now, key, hash, PORTS[0], PORTS[1])?;
        flaps.take(step);
        step.home()
    }

    fn vlan() -> VlanId {
        VlanId::new(7).unwrap()
    }

    fn mac(n: u64) -> MacAddr {
        MacAddr::from_u64(0x0200_0000_0000 | n)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos((1_000_000 + millis) * 1_000_000)
    }

    /// A station on port 0.
    fn known() -> Fdb {
        let mut fdb = Fdb::new(LIMITS, 7);
        assert!(sees(&mut fdb, 0, 0));
        fdb
    }

    /// Whether a frame of station 0 may pass.
    fn sees(fdb: &mut Fdb, millis: u64, port: usize) -> bool {
        fdb.expire(at(millis));
        fdb.learn(at(millis), fdb.probe(vlan(), mac(0).to_u64()), PORTS[port]).is_ok()
    }

    fn entry(fdb: &Fdb) -> FdbEntry {
        fdb.get(vlan(), mac(0)).unwrap()
    }

    #[test]
    fn what_moves_seldom_is_followed_and_what_flaps_is_held() {
        // When it is seen on which port, and where it is then; held where the last is true.
        type Sight = (u64, usize);
        let table: [(&str, &[Sight], usize, bool); 7] = [
            ("one migration", &[(20_000, 1)], 1, false),
            ("there and back, twice", &[(20_000, 1), (20_100, 0), (20_200, 1), (20_300, 0)], 0, false),
            (
                "slowly",
                &[(20_000, 1), (20_300, 0), (20_600, 1), (20_900, 0), (21_200, 1), (21_500, 0), (21_800, 1)],
                1,
                false,
            ),
            ("five in a second", &[(20_000, 1), (20_001, 0), (20_002, 1), (20_003, 0), (21_000, 1)], 0, true),
            ("five in more", &[(20_000, 1), (20_001, 0), (20_002, 1), (20_003, 0), (21_001, 1)], 1, false),
            ("between two others", &[(20_000, 1), (20_001, 2), (20_002, 1), (20_003, 2), (20_004, 1)], 0, true),
            // Borrowed for a moment, and fought for: the station keeps it.
            ("after a theft", &[(20_000, 2), (23_000, 0), (23_001, 2), (23_002, 0), (23_003, 2), (23_004, 0)], 0, true),
        ];
        for (name, sights, port, held) in table {
            let mut fdb = known();
            for &(millis, port) in sights {
                sees(&mut fdb, millis, port);
            }
            let entry = entry(&fdb);
            assert_eq!((entry.port, entry.flapping.is_some()), (PORTS[port], held), "{name}");
            assert_eq!(fdb.counters().flapping, u64::from(held), "{name}");
        }
    }

    /// Makes station 0 flap at `millis`; whether it was held then.
    fn flap(fdb: &mut Fdb, millis: u64) -> bool {
        let held = fdb.counters().flapping;
        for port in [1, 0, 1, 0, 1] {
            sees(fdb, millis, port);
        }
        fdb.counters().flapping > held
    }

    #[test]
    fn a_held_address_stays_in_touch_at_home_only() {
        let mut fdb = known();
        assert!(flap(&mut fdb, 20_000));
        let flapping = Flapping { mac: mac(0), vlan: vlan(), port: PORTS[0], other: PORTS[1], until: at(30_000) };
        assert_eq!((entry(&fdb).flapping, fdb.deadline()), (Some(flapping), Some(at(30_000))));
        assert_eq!((fdb.take_flapping(), fdb.take_flapping()), (alloc::vec![flapping], alloc::vec![]));
        for millis in [20_001, 25_000, 29_999] {
            assert_eq!([1, 2, 0].map(|port| sees(&mut fdb, millis, port)), [false, false, true], "{millis}");
            assert_eq!(fdb.lookup(fdb.probe(vlan(), mac(0).to_u64())), Some(PORTS[0]));
        }
        assert_eq!(fdb.counters(), Counters { learned: 1, moved: 4, flapping: 1, ..Counters::default() });
        assert!(sees(&mut fdb, 30_000, 1));
        assert_eq!((entry(&fdb).port, entry(&fdb).flapping), (PORTS[1], None));
    }

    #[test]
    fn each_hold_is_longer_until_it_was_quiet() {
        let mut fdb = known();
        let mut millis = 20_000;
        for secs in [10, 20, 40, 80, 160, 160] {
            assert!(flap(&mut fdb, millis));
            assert_eq!(entry(&fdb).flapping.map(|flapping| flapping.until), Some(at(millis + secs * 1_000)));
            millis += secs * 1_000;
        }
        millis += 161_000; // longer than it was held
        sees(&mut fdb, millis, 0);
        assert!(flap(&mut fdb, millis));
        assert_eq!(entry(&fdb).flapping.map(|flapping| flapping.until), Some(at(millis + 10_000)));
    }

    #[test]
    fn what_takes_the_address_away_ends_the_hold() {
        type End = fn(&mut Fdb);
        let ends: [(&str, End); 4] = [
            ("removed", |fdb| assert!(fdb.remove(vlan(), mac(0)).is_some())),
            ("flushed", |fdb| assert_eq!(fdb.flush(None, Some(PORTS[0])), 1)),
            ("its port removed", |fdb| fdb.retain(PORTS[0], |_| false)),
            ("made static", |fdb| fdb.add_static(vlan(), mac(0), PORTS[1]).unwrap()),
        ];
        for (name, end) in ends {
            let mut fdb = known();
            assert!(flap(&mut fdb, 20_000));
            end(&mut fdb);
            assert!(sees(&mut fdb, 20_001, 1), "{name}");
            assert_eq!((entry(&fdb).port, entry(&fdb).flapping), (PORTS[1], None), "{name}");
        }
    }

    #[test]
    fn a_held_address_ages_and_is_renewed_as_any_other() {
        let mut fdb = known();
        fdb.set_ageing(Some(Duration::from_secs(5)));
        assert!(flap(&mut fdb, 1_000));
        assert!(sees(&mut fdb, 4_000, 0));
        fdb.expire(at(8_000));
        assert!(entry(&fdb).flapping.is_some());
        fdb.expire(at(9_100));
        assert_eq!((fdb.len(), fdb.counters().aged), (0, 1));
    }

    #[test]
    fn siblings_agree_on_who_is_held() {
        let mut fdb = known();
        let mut sibling = fdb.sibling();
        for (place, port) in [1, 0, 1, 0, 1].into_iter().enumerate() {
            sees(if place % 2 == 0 { &mut fdb } else { &mut sibling }, 20_000, port);
        }
        for fdb in [&mut fdb, &mut sibling] {
            assert_eq!([1, 0].map(|port| sees(fdb, 20_001, port)), [false, true]);
        }
        assert!(sees(&mut sibling, 30_000, 1));
        assert!(sees(&mut fdb, 30_000, 1));
    }

    #[test]
    fn memory_is_bounded_whatever_moves() {
        let mut flaps = Flaps::new();
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut flap = |n: u64, now| {
            let key = Key::new(vlan(), mac(n).to_u64());
            (0..MOVES).filter_map(|_| moves(&mut flaps, now, key, hash(n))).count()
        };
        let held: usize = (0..100_000).map(|n| flap(n, at(0))).sum();
        assert_eq!(held, SETS * WAYS, "each place is taken once, and kept");
        assert_eq!(flaps.take_untold().len(), UNTOLD);
        let mut freed = 0;
        flaps.release(at(10_000), |_| freed += 1);
        assert_eq!((freed, flaps.deadline()), (SETS * WAYS, None));
        assert_eq!(flaps.records.len(), SETS * WAYS);
        assert!(moves(&mut flaps, at(20_000), Key::new(vlan(), 1), 0).is_none());
    }
}
