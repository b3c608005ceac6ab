use std::collections::BTreeMap;

use netns_tests::{Node, Result, SOON, Stats, ensure_eq, eventually};

/// Counters that move, by port and name; everything else stays.
pub(crate) type Moves = BTreeMap<(String, String), u64>;

/// The counters of a daemon, and what may have moved since the last look.
pub(crate) struct Counters<'a> {
    node: &'a Node,
    pub(crate) last: Stats,
}

impl<'a> Counters<'a> {
    pub(crate) fn of(node: &'a Node) -> Result<Self> {
        Ok(Self { node, last: node.stats()? })
    }

    pub(crate) fn moved(&self, now: &Stats) -> Moves {
        let all = now.counts.iter().chain(&now.drops);
        let moved = all.map(|(key, count)| {
            let before = self.last.counts.get(key).or_else(|| self.last.drops.get(key)).copied().unwrap_or(0);
            (key.clone(), count - before)
        });
        moved.filter(|&(_, count)| count > 0).collect()
    }

    /// Waits until exactly `expected` has moved. What moves later is the next step's surprise.
    pub(crate) fn expect(&mut self, expected: &Moves, what: &str) -> Result {
        self.last = eventually(SOON, what, || {
            let now = self.node.stats()?;
            ensure_eq!(self.moved(&now), *expected, "counters that moved");
            Ok(now)
        })?;
        Ok(())
    }

    /// Checks that nothing at all has moved.
    pub(crate) fn expect_rest(&mut self, what: &str) -> Result {
        let now = self.node.stats()?;
        ensure_eq!(self.moved(&now), Moves::new(), "counters that moved: {what}");
        Ok(())
    }

    /// Waits until `total` of the counters called `name` have moved.
    pub(crate) fn expect_total(&mut self, port: &str, name: &str, total: u64) -> Result<Moves> {
        eventually(SOON, "everything is counted", || {
            let now = self.node.stats()?;
            let moved = self.moved(&now);
            ensure_eq!(now.count(port, name) - self.last.count(port, name), total, "{name} of {port}: {moved:?}");
            Ok(moved)
        })
    }
}

pub(crate) fn moves(expected: &[(&str, &str, u64)]) -> Moves {
    expected.iter().map(|&(port, name, count)| ((port.to_owned(), name.to_owned()), count)).collect()
}

/// All that moved in two steps.
pub(crate) fn sum(one: &Moves, other: &Moves) -> Moves {
    let mut sum = one.clone();
    for (key, count) in other {
        *sum.entry(key.clone()).or_default() += count;
    }
    sum
}

pub(crate) fn received(port: &str, bytes: usize) -> Vec<(&str, &'static str, u64)> {
    vec![(port, "rx_frames", 1), (port, "rx_bytes", u64::try_from(bytes).unwrap_or(u64::MAX))]
}

pub(crate) fn sent(port: &str, bytes: usize) -> Vec<(&str, &'static str, u64)> {
    vec![(port, "tx_frames", 1), (port, "tx_bytes", u64::try_from(bytes).unwrap_or(u64::MAX))]
}
