//! What happens to addresses, one by one: written down while somebody listens, and taken away by him.
//!
//! It is bounded. What finds no room is counted: who listens too slowly loses events, and knows how many.

use alloc::vec::Vec;

use super::table::Key;
use crate::addr::MacAddr;
use crate::switch::port::PortId;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// Events that wait to be taken.
const ROOM: usize = 4096;

/// Something that happened to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEvent {
    /// When; `None` where the caller did it, who knows.
    pub at: Option<Instant>,
    /// The address.
    pub mac: MacAddr,
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The port it is behind, or was last.
    pub port: PortId,
    /// What happened.
    pub change: FdbChange,
}

/// What can happen to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdbChange {
    /// It was seen for the first time.
    Learned,
    /// It showed up here.
    Moved {
        /// Where it was.
        from: PortId,
    },
    /// It was made static.
    Fixed,
    /// It was not seen for the ageing time.
    Aged,
    /// It made room for another.
    Evicted,
    /// It was removed: by the operator, with its port, or because it may not be there.
    Removed,
    /// It was not learned, or not moved here, for want of room.
    Limited,
    /// It moved so often that it is held here.
    Held {
        /// Where else it showed up.
        other: PortId,
        /// Until when.
        until: Instant,
    },
    /// It may move again.
    Released,
}

/// The events since they were last taken, the first of them.
#[derive(Debug, Default)]
pub(super) struct Journal {
    events: Vec<FdbEvent>,
    lost: u64,
}

impl Journal {
    /// Gives `events`, which are empty, for those there are; how many more there were.
    pub(super) fn take(&mut self, events: &mut Vec<FdbEvent>) -> u64 {
        core::mem::swap(&mut self.events, events);
        core::mem::take(&mut self.lost)
    }
}

/// Writes down what happened to `key` on `port`, where somebody listens.
pub(super) fn note(journal: &mut Option<Journal>, at: Option<Instant>, key: Key, port: PortId, change: FdbChange) {
    if let Some(journal) = journal {
        if journal.events.len() < ROOM {
            journal.events.push(FdbEvent { at, mac: key.mac(), vlan: key.vlan(), port, change });
        } else {
            journal.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::super::{Counters, Fdb, Limits};
    use super::*;

    const PORTS: [PortId; 3] = [PortId::new(0), PortId::new(1), PortId::new(2)];

    fn vlan() -> VlanId {
        VlanId::new(7).unwrap()
    }

    fn mac(n: u64) -> MacAddr {
        MacAddr::from_u64(0x0200_0000_0000 | n)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos((1_000_000 + millis) * 1_000_000)
    }

    fn listened(entries: u32, per_port: u32) -> Fdb {
        let fdb = Fdb::new(Limits { entries, per_port }, 7);
        fdb.listen(true);
        fdb
    }

    fn sees(fdb: &mut Fdb, millis: u64, n: u64, port: usize) {
        let _ = fdb.learn(at(millis), fdb.probe(vlan(), mac(n).to_u64()), PORTS[port]);
    }

    /// What happened to which station at which port since the last call, and when in milliseconds.
    fn events(fdb: &Fdb) -> Vec<(Option<u64>, u64, usize, FdbChange)> {
        let mut events = Vec::new();
        assert_eq!(fdb.take_events(&mut events), 0);
        let told = |FdbEvent { at, mac, vlan: of, port, change }| {
            assert_eq!(of, vlan());
            let millis = at.map(|at: Instant| at.as_nanos() / 1_000_000 - 1_000_000);
            (millis, mac.to_u64() & 0xffff, port.index(), change)
        };
        events.into_iter().map(told).collect()
    }

    #[test]
    fn all_that_can_happen_is_written_down() {
        use FdbChange::{Aged, Evicted, Fixed, Held, Learned, Limited, Moved, Released, Removed};
        let mut fdb = listened(3, 2);
        fdb.set_ageing(Some(Duration::from_secs(60)));
        sees(&mut fdb, 0, 0, 0);
        sees(&mut fdb, 1, 0, 0);
        sees(&mut fdb, 2, 1, 0);
        assert_eq!(events(&fdb), [(Some(0), 0, 0, Learned), (Some(2), 1, 0, Learned)]);
        // Its port has as many as it may.
        sees(&mut fdb, 3, 2, 0);
        assert_eq!(events(&fdb), [(Some(3), 0, 0, Evicted), (Some(3), 2, 0, Learned)]);
        sees(&mut fdb, 4, 1, 1);
        assert_eq!(events(&fdb), [(Some(4), 1, 1, Moved { from: PORTS[0] })]);
        // To and fro.
        [0, 1, 0, 1].iter().zip(5..).for_each(|(port, millis)| sees(&mut fdb, millis, 1, *port));
        let mut told = events(&fdb);
        let held = Held { other: PORTS[1], until: at(10_008) };
        assert_eq!(told.pop(), Some((Some(8), 1, 0, held)));
        assert_eq!(told.len(), 3);
        fdb.expire(at(10_007));
        assert_eq!(events(&fdb), []);
        fdb.expire(at(10_008));
        assert_eq!(events(&fdb), [(Some(10_008), 1, 0, Released)]);
        // By the operator: who knows when.
        fdb.add_static(vlan(), mac(9), PORTS[2]).unwrap();
        fdb.add_static(vlan(), mac(8), PORTS[2]).unwrap();
        assert_eq!(events(&fdb), [(None, 9, 2, Fixed), (None, 2, 0, Evicted), (None, 8, 2, Fixed)]);
        fdb.add_static(vlan(), mac(1), PORTS[2]).unwrap();
        sees(&mut fdb, 20_000, 3, 1);
        assert_eq!(events(&fdb), [(None, 1, 2, Fixed), (Some(20_000), 3, 1, Limited)]);
        assert!(fdb.remove(vlan(), mac(9)).is_some());
        fdb.retain(PORTS[2], |_| false);
        let mut told = events(&fdb);
        told.sort_by_key(|(_, station, ..)| *station);
        assert_eq!(told, [(None, 1, 2, Removed), (None, 8, 2, Removed), (None, 9, 2, Removed)]);
        sees(&mut fdb, 21_000, 4, 1);
        assert_eq!(fdb.flush(None, None), 1);
        sees(&mut fdb, 22_000, 5, 1);
        fdb.expire(at(82_100));
        let expected = [
            (Some(21_000), 4, 1, Learned),
            (None, 4, 1, Removed),
            (Some(22_000), 5, 1, Learned),
            (Some(82_100), 5, 1, Aged),
        ];
        assert_eq!(events(&fdb), expected);
        assert_eq!(fdb.len(), 0);
    }

    #[test]
    fn nothing_is_kept_for_nobody_and_not_without_end() {
        let mut fdb = listened(100_000, 100_000);
        let stations = ROOM as u64 + 50;
        (0..stations).for_each(|n| sees(&mut fdb, n, n, 0));
        let (sibling, mut events) = (fdb.sibling(), Vec::new());
        assert_eq!((sibling.take_events(&mut events), events.len()), (50, ROOM));
        assert_eq!((fdb.take_events(&mut events), events.len()), (0, 0));
        sees(&mut fdb, 0, stations, 0);
        fdb.listen(false);
        sees(&mut fdb, 0, stations + 1, 0);
        assert_eq!((fdb.take_events(&mut events), events.len()), (0, 0));
        assert_eq!(fdb.counters(), Counters { learned: stations + 2, ..Counters::default() });
    }
}
