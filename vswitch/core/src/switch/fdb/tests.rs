use alloc::vec;
use alloc::vec::Vec;

use super::bucket::Place;
use super::store::Store;
use super::table::STAMP_SHIFT;
use super::*;

const PORTS: [PortId; 3] = [PortId::new(0), PortId::new(1), PortId::new(2)];

fn vlan(vid: u16) -> VlanId {
    VlanId::new(vid).unwrap()
}

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | n)
}

fn at(secs: u64) -> Instant {
    Instant::from_nanos(secs * 1_000_000_000)
}

/// What an entry remembers of `at(secs)`.
fn stamp(secs: u64) -> Instant {
    Instant::from_nanos(at(secs).as_nanos() >> STAMP_SHIFT << STAMP_SHIFT)
}

impl Fdb {
    fn sees(&mut self, now: Instant, vlan: VlanId, mac: MacAddr, port: PortId) -> bool {
        self.learn(now, self.probe(vlan, mac.to_u64()), port).is_ok()
    }

    fn port_of(&self, vlan: VlanId, mac: MacAddr) -> Option<PortId> {
        self.lookup(self.probe(vlan, mac.to_u64()))
    }
}

fn fdb(entries: u32, per_port: u32) -> Fdb {
    Fdb::new(Limits { entries, per_port }, 7)
}

/// Where each of the addresses 0.. of VLAN 1 is.
fn whereabouts(fdb: &Fdb, addresses: u64) -> Vec<Option<usize>> {
    (0..addresses).map(|n| fdb.port_of(vlan(1), mac(n)).map(PortId::index)).collect()
}

#[test]
fn learns_by_vlan_and_moves_at_once() {
    let mut fdb = fdb(10, 10);
    fdb.sees(at(1), vlan(1), mac(0), PORTS[0]);
    fdb.sees(at(1), vlan(2), mac(0), PORTS[1]);
    fdb.sees(at(1), vlan(1), mac(0), PORTS[0]);
    assert_eq!(fdb.port_of(vlan(1), mac(0)), Some(PORTS[0]));
    assert_eq!(fdb.port_of(vlan(2), mac(0)), Some(PORTS[1]));
    assert_eq!(fdb.port_of(vlan(3), mac(0)), None);
    fdb.sees(at(1), vlan(1), mac(0), PORTS[2]);
    assert_eq!(fdb.port_of(vlan(1), mac(0)), Some(PORTS[2]));
    assert_eq!(fdb.counters(), Counters { learned: 2, moved: 1, ..Counters::default() });
    assert_eq!(fdb.len(), 2);
}

#[test]
fn ages_what_is_not_seen() {
    let mut fdb = fdb(10, 10);
    assert_eq!(fdb.deadline(), None);
    fdb.sees(at(0), vlan(1), mac(0), PORTS[0]);
    fdb.sees(at(0), vlan(1), mac(1), PORTS[1]);
    fdb.add_static(vlan(1), mac(2), PORTS[1]).unwrap();
    assert_eq!(fdb.deadline(), Some(at(0) + DEFAULT_AGEING));
    fdb.sees(at(100), vlan(1), mac(0), PORTS[0]);
    fdb.expire(at(299));
    assert_eq!(fdb.len(), 3);
    fdb.expire(at(300));
    assert_eq!(whereabouts(&fdb, 3), [Some(0), None, Some(1)]);
    assert_eq!(fdb.deadline(), Some(stamp(100) + DEFAULT_AGEING));
    fdb.expire(at(401));
    assert_eq!(whereabouts(&fdb, 3), [None, None, Some(1)]);
    assert_eq!(fdb.deadline(), None);
    assert_eq!(fdb.counters().aged, 2);
}

#[test]
fn ageing_can_change_or_cease() {
    let mut fdb = fdb(10, 10);
    fdb.set_ageing(None);
    fdb.sees(at(0), vlan(1), mac(0), PORTS[0]);
    assert_eq!(fdb.deadline(), None);
    fdb.expire(at(1_000_000));
    assert_eq!(fdb.len(), 1);
    fdb.set_ageing(Some(Duration::from_secs(10)));
    assert_eq!(fdb.deadline(), Some(at(10)));
    fdb.expire(at(10));
    assert_eq!(fdb.len(), 0);
}

#[test]
fn expiry_is_done_in_portions() {
    let mut fdb = fdb(10_000, 10_000);
    for n in 0..3_000 {
        fdb.sees(at(1), vlan(1), mac(n), PORTS[0]);
    }
    let mut calls = 0;
    while fdb.deadline().is_some_and(|deadline| deadline <= at(400)) {
        fdb.expire(at(400));
        calls += 1;
    }
    assert_eq!((fdb.len(), calls), (0, 3));
}

#[test]
fn static_addresses_stay() {
    let mut fdb = fdb(3, 3);
    fdb.add_static(vlan(1), mac(0), PORTS[0]).unwrap();
    fdb.sees(at(1), vlan(1), mac(0), PORTS[1]);
    fdb.sees(at(1), vlan(1), mac(1), PORTS[1]);
    fdb.add_static(vlan(1), mac(1), PORTS[2]).unwrap(); // learned before
    for n in 10..20 {
        fdb.sees(at(2), vlan(1), mac(n), PORTS[1]);
    }
    assert_eq!(fdb.flush(None, None), 1);
    fdb.expire(at(1000));
    assert_eq!(whereabouts(&fdb, 2), [Some(0), Some(2)]);
    fdb.add_static(vlan(1), mac(1), PORTS[0]).unwrap(); // the operator moves it
    assert_eq!(whereabouts(&fdb, 2), [Some(0), Some(0)]);
    assert_eq!(fdb.remove(vlan(1), mac(1)).map(|entry| entry.kind), Some(FdbKind::Static));
    assert_eq!(fdb.remove(vlan(1), mac(1)), None);
}

#[test]
fn full_of_static_addresses() {
    let mut fdb = fdb(2, 2);
    fdb.sees(at(1), vlan(1), mac(9), PORTS[0]);
    fdb.add_static(vlan(1), mac(0), PORTS[0]).unwrap();
    fdb.add_static(vlan(1), mac(1), PORTS[0]).unwrap(); // in place of the learned one
    assert_eq!(fdb.add_static(vlan(1), mac(2), PORTS[0]), Err(FdbError::Full { limit: 2 }));
    assert_eq!(fdb.add_static(vlan(1), mac(1), PORTS[1]), Ok(()));
    fdb.sees(at(1), vlan(1), mac(3), PORTS[2]);
    assert_eq!(fdb.counters(), Counters { learned: 1, evicted: 1, limited: 1, ..Counters::default() });
    assert_eq!(whereabouts(&fdb, 4), [Some(0), Some(1), None, None]);
}

#[test]
fn a_flood_of_addresses_hurts_its_own_port() {
    let mut fdb = fdb(100, 1000);
    for n in 0..10 {
        fdb.sees(at(1), vlan(1), mac(n), PORTS[0]);
    }
    for n in 1_000..5_000 {
        fdb.sees(at(2), vlan(1), mac(n), PORTS[1]);
    }
    assert!(whereabouts(&fdb, 10).iter().all(|port| *port == Some(0)));
    assert_eq!((fdb.len(), fdb.counters().evicted), (100, 4_000 - 90));
    // The flooding port keeps the newest, and others still find room.
    assert_eq!(fdb.port_of(vlan(1), mac(4_909)), None);
    assert_eq!(fdb.port_of(vlan(1), mac(4_910)), Some(PORTS[1]));
    fdb.sees(at(3), vlan(1), mac(10), PORTS[2]);
    assert_eq!(fdb.port_of(vlan(1), mac(10)), Some(PORTS[2]));
    assert_eq!(fdb.port_of(vlan(1), mac(4_910)), None);
}

#[test]
fn among_equals_the_ingress_port_makes_room() {
    let mut fdb = fdb(4, 4);
    for n in 0..4 {
        fdb.sees(at(1), vlan(1), mac(n), PORTS[if n < 2 { 0 } else { 1 }]);
    }
    fdb.sees(at(1), vlan(1), mac(4), PORTS[0]);
    assert_eq!(whereabouts(&fdb, 5), [None, Some(0), Some(1), Some(1), Some(0)]);
}

#[test]
fn a_port_has_its_own_limit() {
    let mut fdb = fdb(100, 2);
    for n in 0..3 {
        fdb.sees(at(n), vlan(1), mac(n), PORTS[0]);
    }
    assert_eq!(whereabouts(&fdb, 3), [None, Some(0), Some(0)]);
    fdb.sees(at(9), vlan(1), mac(1), PORTS[0]); // now the newest
    for n in 3..5 {
        fdb.sees(at(10), vlan(1), mac(n), PORTS[1]);
    }
    fdb.sees(at(11), vlan(1), mac(3), PORTS[0]); // moves in place of the oldest
    assert_eq!(whereabouts(&fdb, 5), [None, Some(0), None, Some(0), Some(1)]);
    assert_eq!(fdb.counters(), Counters { learned: 5, moved: 1, evicted: 2, ..Counters::default() });

    let mut none = Fdb::new(Limits { entries: 100, per_port: 0 }, 7);
    none.sees(at(1), vlan(1), mac(0), PORTS[0]);
    assert_eq!((none.len(), none.counters().limited), (0, 1));
}

#[test]
fn ports_that_had_an_address_too_many() {
    let mut fdb = fdb(100, 2);
    let full = |fdb: &Fdb, secs| fdb.full_ports(at(secs)).into_iter().map(PortId::index).collect::<Vec<_>>();
    for n in 0..2 {
        fdb.sees(at(1), vlan(1), mac(n), PORTS[0]);
        fdb.sees(at(1), vlan(1), mac(10 + n), PORTS[1]);
    }
    assert_eq!(full(&fdb, 1), [0; 0]); // both at their limit, and no address too many
    fdb.sees(at(5), vlan(1), mac(2), PORTS[0]);
    fdb.sees(at(6), vlan(1), mac(2), PORTS[0]); // known
    fdb.sees(at(7), vlan(1), mac(11), PORTS[0]); // moves here in place of another
    assert_eq!(full(&fdb, 7), [0]);
    assert_eq!((full(&fdb, 306), full(&fdb, 307)), (vec![0], vec![])); // for the ageing time
    fdb.sees(at(400), vlan(1), mac(20), PORTS[1]);
    fdb.sees(at(400), vlan(1), mac(21), PORTS[1]);
    assert_eq!(full(&fdb, 400), [1]);
    fdb.set_ageing(None);
    assert_eq!(full(&fdb, 10_000), [0, 1]);
    fdb.flush(None, Some(PORTS[1])); // as when it goes
    assert_eq!(full(&fdb, 400), [0]);

    // One address is none too many, however often it is seen; and one that is full of a table's is not at its own limit.
    let mut one = self::fdb(3, 1);
    one.sees(at(1), vlan(1), mac(0), PORTS[0]);
    one.sees(at(9), vlan(1), mac(0), PORTS[0]);
    assert_eq!(full(&one, 9), [0; 0]);
    one.sees(at(10), vlan(1), mac(1), PORTS[0]);
    one.sees(at(20), vlan(1), mac(1), PORTS[0]);
    assert_eq!(full(&one, 20), [0]);
    let mut table = self::fdb(2, 9);
    for n in 0..5 {
        table.sees(at(1), vlan(1), mac(n), PORTS[0]);
    }
    assert_eq!((table.counters().evicted, full(&table, 1)), (3, vec![]));
}

#[test]
fn flush_by_vlan_and_port() {
    let table = [
        (None, None, 4),
        (Some(vlan(1)), None, 2),
        (None, Some(PORTS[0]), 2),
        (Some(vlan(2)), Some(PORTS[1]), 1),
        (Some(vlan(3)), None, 0),
        (None, Some(PORTS[2]), 0),
    ];
    for (of_vlan, of_port, flushed) in table {
        let mut fdb = fdb(10, 10);
        for vid in 1..=2 {
            for port in 0..2_u8 {
                fdb.sees(at(1), vlan(vid), mac(u64::from(port)), PORTS[usize::from(port)]);
            }
            fdb.add_static(vlan(vid), mac(7), PORTS[0]).unwrap();
        }
        assert_eq!(fdb.flush(of_vlan, of_port), flushed, "{of_vlan:?} {of_port:?}");
        assert_eq!(fdb.len(), 6 - usize::try_from(flushed).unwrap());
    }
}

#[test]
fn grows_shrinks_and_loses_nothing() {
    const MANY: u64 = 20_000;
    let mut fdb = fdb(u32::try_from(MANY).unwrap(), u32::try_from(MANY).unwrap());
    for n in 0..MANY {
        fdb.sees(at(n / 100), vlan(1), mac(n * 0x1_0001), PORTS[usize::try_from(n % 3).unwrap()]);
    }
    for n in (0..MANY).step_by(2) {
        assert!(fdb.remove(vlan(1), mac(n * 0x1_0001)).is_some(), "{n}");
    }
    for n in 0..MANY {
        assert_eq!(fdb.port_of(vlan(1), mac(n * 0x1_0001)).is_some(), n % 2 == 1, "{n}");
    }
    assert_eq!(fdb.len(), fdb.entries().len());
    assert_eq!(fdb.flush(None, None), u32::try_from(MANY / 2).unwrap());
    assert_eq!((fdb.len(), fdb.entries().len()), (0, 0));
}

/// Thousands of random changes to a table that is kept as full as it gets, so that buckets overflow and gaps close:
/// entries and the order of every list must be those of plain vectors.
#[test]
fn a_crowded_table_keeps_its_entries_and_their_order() {
    const LIMIT: usize = 300;
    for seed in 1..=20 {
        let mut chance: u64 = seed;
        let mut draw = |below: u64| {
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (chance >> 33) % below
        };
        let mut store = Store::with_limit(u32::try_from(LIMIT).unwrap(), seed);
        let mut plain: Vec<(Key, Place)> = Vec::new();
        for step in 0..6_000 {
            let port = PORTS[usize::try_from(draw(3)).unwrap()];
            let place = if draw(4) == 0 { Place::fixed(port) } else { Place::learned(port, at(step)) };
            let key = Key::new(vlan(1), mac(draw(400)).to_u64());
            let known = plain.iter().position(|(other, _)| *other == key);
            assert_eq!(store.find(key).map(|(_, place)| place), known.map(|known| plain[known].1), "seed {seed}");
            match (store.find(key), known) {
                (Some((id, _)), Some(known)) => {
                    plain.remove(known);
                    if draw(3) == 0 {
                        store.remove(id);
                    } else {
                        store.set_place(id, place);
                        plain.push((key, place));
                    }
                }
                _ if plain.len() < LIMIT => {
                    store.insert(key, place);
                    plain.push((key, place));
                }
                _ => {}
            }
            if step % 50 == 0 {
                for port in PORTS {
                    for kind in [Kind::Learned, Kind::Static] {
                        let mut have = Vec::new();
                        store.remove_where(port, kind, |key| {
                            have.push(key);
                            false
                        });
                        let want = plain.iter().filter(|(_, place)| place.port() == port && place.kind == kind);
                        assert!(
                            have.iter().eq(want.map(|(key, _)| key)),
                            "seed {seed}, step {step}, {port:?}, {kind:?}"
                        );
                    }
                }
                assert_eq!(store.len(), plain.len(), "seed {seed}");
                assert_eq!(store.entries().count(), plain.len(), "seed {seed}");
            }
        }
        assert!(plain.len() > LIMIT / 2, "seed {seed}: not crowded");
    }
}
