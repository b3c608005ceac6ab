//! What a path carries, found by sizes: whether hosts on the way complain of what is too long or not (RFC 8899 does the same for
//! transports).

use std::collections::BTreeMap;

/// Sizes of one round.
const STEPS: u16 = 15;
/// How often each is sent in a round: one may be lost for another reason than its size.
const COPIES: usize = 2;
/// How often the size that decides is sent.
const DECIDING: usize = 3;
/// Rounds until it ends with what it knows.
const ROUNDS: u8 = 10;

/// A search for the largest packet that gets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    /// What gets through.
    low: u16,
    /// What does not, as far as is known.
    high: u16,
    /// What the interface carries; no packet is longer.
    ceiling: u16,
    /// The sizes of this round, and whether they got through.
    round: BTreeMap<u16, bool>,
    rounds: u8,
    result: Option<u16>,
}

impl Search {
    /// A search between `low`, which gets through, and `ceiling`.
    pub(super) fn new(low: u16, ceiling: u16) -> Self {
        let result = (ceiling <= low).then_some(ceiling);
        let round = BTreeMap::from([(ceiling, false)]);
        Self { low, high: ceiling.saturating_add(1), ceiling, round, rounds: 0, result }
    }

    /// What to send in this round: sizes, some of them more than once.
    pub(super) fn sizes(&self) -> Vec<u16> {
        let copies = if self.round.len() == 1 { DECIDING } else { COPIES };
        (0..copies).flat_map(|_| self.round.keys().copied()).collect()
    }

    /// A packet of `size` got through.
    pub(super) fn passed(&mut self, size: u16) {
        if let Some(passed) = self.round.get_mut(&size) {
            *passed = true;
        }
        self.low = self.low.max(size);
    }

    /// Whether there is nothing to wait for in this round: what decides got through.
    pub(super) fn is_round_over(&self) -> bool {
        self.round.values().all(|passed| *passed)
    }

    /// Ends a round; the largest packet that gets through, where that is known now.
    pub(super) fn end_round(&mut self) -> Option<u16> {
        self.rounds += 1;
        let decided = self.round.len() == 1;
        let failed = self.round.iter().find(|(size, _)| **size > self.low).map(|(size, _)| *size);
        self.high = match failed {
            Some(failed) => failed,
            None if self.low < self.high => self.high,
            None => self.ceiling.saturating_add(1), // what was believed not to pass did
        };
        let is_least = self.high == self.low.saturating_add(1);
        if self.low >= self.ceiling || is_least && decided && failed.is_some() || self.rounds >= ROUNDS {
            self.result = Some(self.low);
            return self.result;
        }
        let gap = self.high - self.low;
        self.round = if is_least {
            [(self.high, false)].into()
        } else {
            let steps = STEPS.min(gap - 1);
            let size = |step: u16| {
                self.low + u16::try_from(u32::from(gap) * u32::from(step) / u32::from(steps + 1)).unwrap_or(1)
            };
            (1..=steps).map(|step| (size(step), false)).collect()
        };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a search finds on a path that carries `mtu`, where `lost` says which packet, counted from 0, is lost anyway; and
    /// how many rounds and packets that took.
    fn search(ceiling: u16, mtu: u16, lost: impl Fn(usize) -> bool) -> (u16, u8, usize) {
        let mut search = Search::new(400, ceiling);
        let mut sent = 0;
        loop {
            for size in search.sizes() {
                assert!(size <= ceiling && size > 400);
                if size <= mtu && !lost(sent) {
                    search.passed(size);
                }
                sent += 1;
            }
            if let Some(found) = search.end_round() {
                return (found, search.rounds, sent);
            }
        }
    }

    #[test]
    fn every_size_is_found_in_few_rounds() {
        for ceiling in [1500, 9000, 65_535] {
            for mtu in (576..=ceiling).step_by(7).chain([ceiling, ceiling - 1, 1280, 1400]) {
                let (found, rounds, sent) = search(ceiling, mtu, |_| false);
                assert_eq!(found, mtu);
                assert!(rounds <= 7 && sent <= 130, "{mtu} of {ceiling}: {rounds} rounds, {sent} packets");
            }
        }
        assert_eq!(search(1500, 1500, |_| false), (1500, 1, 3));
    }

    #[test]
    fn what_is_lost_for_another_reason_misleads_it_seldom() {
        for nth in 3..20 {
            assert_eq!(search(1500, 1400, |sent| sent % nth == 0).0, 1400, "each {nth}th lost");
            assert_eq!(search(1500, 1500, |sent| sent % nth == 0).0, 1500, "each {nth}th lost");
        }
    }

    #[test]
    fn it_ends_where_nothing_gets_through() {
        assert_eq!(search(1500, 0, |_| false).0, 400);
        assert_eq!(Search::new(400, 300).end_round(), Some(400));
    }
}
