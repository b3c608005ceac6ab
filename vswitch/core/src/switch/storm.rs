//! Storm control: how many frames for many a port may bring in.
//!
//! A frame for one station costs one copy, a frame for many costs one for each member of its VLAN, and where a loop
//! stands behind the switch it comes back. So each port, a remote too, has a budget of broadcasts, one of multicasts and
//! one of frames to unknown stations, each so many frames a second. They are apart from each other so that a flood of one
//! kind leaves the others: a container whose video floods keeps its ARP.
//!
//! A budget is the port's and not a worker's: siblings share it, in one word each, which only frames for many touch.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;

use super::port::PortId;
use crate::addr::MacAddr;
use crate::time::Instant;

crate::drop_reasons! {
    /// Why a frame for many goes to nobody.
    pub enum StormDrop {
        /// The port brought in more broadcasts than --storm-limit lets it, as where a loop stands behind it.
        Broadcast => "storm_broadcast",
            "Find the loop or the flooding program behind the port; raise --storm-limit only where so many \
             broadcasts are meant.",
        /// The port brought in more multicasts than --storm-limit lets it.
        Multicast => "storm_multicast",
            "Raise --storm-limit where a multicast stream is meant to be so fast; else find the loop or the flooding \
             program behind the port.",
        /// The port brought in more frames to stations that nobody knows than --storm-limit lets it.
        UnknownUnicast => "storm_unknown_unicast",
            "Look why the destination never answers: a static neighbour entry to nobody, a station that only listens \
             (`vsctl fdb add` makes it known), or a scan.",
    }
}

/// For how long a port may bring in what it likes, after it was quiet for as long: a start-up is a burst.
const BURST: u64 = SECOND / 10;

/// The longest that a super-frame's rest can keep a budget used up.
const DEBT: u64 = SECOND;

const SECOND: u64 = 1_000_000_000;

/// Why a frame is for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// To everybody.
    Broadcast,
    /// To a group.
    Multicast,
    /// To a station that nobody knows.
    UnknownUnicast,
}

impl FloodKind {
    /// The kind of a frame to `destination`, which is behind no port that is known.
    pub(super) fn of(destination: MacAddr) -> Self {
        if destination.is_broadcast() {
            Self::Broadcast
        } else if destination.is_multicast() {
            Self::Multicast
        } else {
            Self::UnknownUnicast
        }
    }

    fn drop(self) -> StormDrop {
        match self {
            Self::Broadcast => StormDrop::Broadcast,
            Self::Multicast => StormDrop::Multicast,
            Self::UnknownUnicast => StormDrop::UnknownUnicast,
        }
    }
}

/// One switch's hold on the budgets of all ports, which siblings share.
#[derive(Debug)]
pub(super) struct Storm {
    /// Nanoseconds that a frame takes of its budget; `None` where there is no limit.
    interval: Option<u64>,
    /// By port: those it has been told of.
    mine: Vec<Option<Arc<Budgets>>>,
    /// By port, for good: a number that is given out again finds what the port before it left, a second's worth at most.
    shared: Arc<Mutex<Vec<Arc<Budgets>>>>,
}

/// When each budget is whole again, in nanoseconds since the epoch. A cache line of its own, for workers to take in turns.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Budgets([AtomicU64; 3]);

impl Storm {
    pub(super) fn new() -> Self {
        Self { interval: None, mine: Vec::new(), shared: Arc::default() }
    }

    pub(super) fn sibling(&self) -> Self {
        Self { interval: self.interval, mine: self.mine.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Sets how many frames of each kind a port may bring in a second.
    pub(super) fn set_limit(&mut self, limit: Option<NonZeroU32>) {
        self.interval = limit.map(|limit| SECOND / u64::from(limit.get()));
    }

    pub(super) fn add_port(&mut self, port: PortId) {
        let place = port.index();
        if self.mine.len() <= place {
            self.mine.resize(place + 1, None);
        }
        let mut shared = self.shared.lock();
        while shared.len() <= place {
            shared.push(Arc::default());
        }
        self.mine[place] = Some(Arc::clone(&shared[place]));
    }

    /// Takes one frame of `kind` from the budget of `port`, or says that it is used up.
    #[cold]
    pub(super) fn admit(&self, now: Instant, port: PortId, kind: FloodKind) -> Result<(), StormDrop> {
        let Some((interval, whole_at)) = self.budget(port, kind) else { return Ok(()) };
        let (now, latest) = (now.as_nanos(), latest(now, interval));
        let take = |whole_at: u64| (whole_at <= latest).then(|| whole_at.max(now) + interval);
        // Relaxed: the number stands for nothing but itself.
        let taken = whole_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| kind.drop())
    }

    /// What [`Self::admit`] would say; nothing is taken.
    pub(super) fn would_admit(&self, now: Instant, port: PortId, kind: FloodKind) -> Result<(), StormDrop> {
        let Some((interval, whole_at)) = self.budget(port, kind) else { return Ok(()) };
        if whole_at.load(Ordering::Relaxed) <= latest(now, interval) { Ok(()) } else { Err(kind.drop()) }
    }

    /// Takes `frames` more, whatever is left: the next ones wait for longer.
    pub(super) fn charge(&self, now: Instant, port: PortId, kind: FloodKind, frames: u32) {
        let Some((interval, whole_at)) = self.budget(port, kind) else { return };
        let now = now.as_nanos();
        let taken = interval.saturating_mul(frames.into());
        let charge = |whole_at: u64| Some(whole_at.max(now).saturating_add(taken).min(now + DEBT).max(whole_at));
        let _ = whole_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
    }

    fn budget(&self, port: PortId, kind: FloodKind) -> Option<(u64, &AtomicU64)> {
        let interval = self.interval?;
        let budgets = self.mine.get(port.index())?.as_ref()?;
        Some((interval, &budgets.0[kind as usize]))
    }
}

/// The latest moment at which a budget may be whole again for one more frame of it to pass at `now`. A limit so low that
/// the burst holds no frame still lets one through.
fn latest(now: Instant, interval: u64) -> u64 {
    now.as_nanos() + BURST.max(interval) - interval
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId::new(3);
    const MILLI: u64 = 1_000_000;

    fn storm(limit: u32) -> Storm {
        let mut storm = Storm::new();
        storm.set_limit(NonZeroU32::new(limit));
        storm.add_port(PORT);
        storm
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(60 * SECOND + millis * MILLI)
    }

    /// How many of 100,000 frames at one moment pass.
    fn passed(storm: &Storm, millis: u64, kind: FloodKind) -> usize {
        (0..100_000).filter(|_| storm.admit(at(millis), PORT, kind).is_ok()).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        // The limit, and what passes at 0 ms, 0 ms again, after 5 ms, 20 ms, 1 s and an hour.
        let table: [(u32, [usize; 6]); 5] = [
            (10_000, [1_000, 0, 50, 150, 1_000, 1_000]),
            (1_000, [100, 0, 5, 15, 100, 100]),
            (10, [1, 0, 0, 0, 1, 1]),
            (1, [1, 0, 0, 0, 1, 1]),
            (0, [100_000; 6]),
        ];
        for (limit, expected) in table {
            let storm = storm(limit);
            let passed = [0, 0, 5, 20, 1_000, 3_600_000].map(|millis| passed(&storm, millis, FloodKind::Broadcast));
            assert_eq!(passed, expected, "{limit} a second");
        }
    }

    #[test]
    fn a_second_of_flood_is_the_limit_and_a_burst() {
        let storm = storm(5_000);
        let passed: usize = (0..1_000).map(|millis| passed(&storm, millis, FloodKind::Multicast)).sum();
        assert_eq!(passed, 500 + 4_995);
    }

    #[test]
    fn kinds_and_ports_are_apart() {
        let mut storm = storm(1_000);
        assert_eq!(passed(&storm, 0, FloodKind::Broadcast), 100);
        assert_eq!(storm.admit(at(0), PORT, FloodKind::Broadcast), Err(StormDrop::Broadcast));
        assert_eq!(passed(&storm, 0, FloodKind::Multicast), 100);
        assert_eq!(storm.admit(at(0), PORT, FloodKind::Multicast), Err(StormDrop::Multicast));
        assert_eq!(passed(&storm, 0, FloodKind::UnknownUnicast), 100);
        assert_eq!(storm.admit(at(0), PORT, FloodKind::UnknownUnicast), Err(StormDrop::UnknownUnicast));
        storm.add_port(PortId::new(0));
        assert_eq!(storm.admit(at(0), PortId::new(0), FloodKind::Broadcast), Ok(()));
    }

    #[test]
    fn siblings_share_a_budget_whichever_hears_of_the_port_first() {
        let mut first = storm(1_000);
        let mut second = first.sibling();
        let later = PortId::new(9);
        second.add_port(later);
        first.add_port(later);
        for port in [PORT, later] {
            let admit = |storm: &Storm| storm.admit(at(0), port, FloodKind::Broadcast).is_ok();
            let passed = (0..1_000).filter(|n| admit(if n % 2 == 0 { &first } else { &second })).count();
            assert_eq!(passed, 100, "{port}");
        }
    }

    #[test]
    fn a_super_frame_is_paid_for_afterwards() {
        let storm = storm(1_000);
        assert_eq!(storm.admit(at(0), PORT, FloodKind::Broadcast), Ok(()));
        storm.charge(at(0), PORT, FloodKind::Broadcast, 44);
        assert_eq!(passed(&storm, 0, FloodKind::Broadcast), 55);
        // More than a burst: owed, for a second at most.
        storm.charge(at(0), PORT, FloodKind::Broadcast, 65_535);
        assert_eq!(passed(&storm, 900, FloodKind::Broadcast), 0);
        assert_eq!(passed(&storm, 1_000, FloodKind::Broadcast), 100);
    }

    #[test]
    fn a_kind_follows_from_the_destination() {
        for (destination, kind) in [
            ([0xff; 6], FloodKind::Broadcast),
            ([1, 0, 0x5e, 0, 0, 1], FloodKind::Multicast),
            ([0x33, 0x33, 0, 0, 0, 1], FloodKind::Multicast),
            ([2, 0, 0, 0, 0, 1], FloodKind::UnknownUnicast),
            ([0; 6], FloodKind::UnknownUnicast),
        ] {
            assert_eq!(FloodKind::of(MacAddr(destination)), kind, "{destination:x?}");
        }
    }
}
