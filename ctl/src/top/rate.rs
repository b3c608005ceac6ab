//! From counters at two moments to what passed in a second between them.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use vswitch_api::{Histogram, PeerStats, PortStats};

use super::number::float;

/// Moments that are remembered: as many as any screen has columns for.
const REMEMBERED: usize = 240;

/// Counters of a port or a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    rx_frames: u64,
    rx_bytes: u64,
    tx_frames: u64,
    tx_bytes: u64,
    drops: BTreeMap<String, u64>,
}

impl From<&PortStats> for Counts {
    fn from(stats: &PortStats) -> Self {
        let &PortStats { port: _, rx_frames, rx_bytes, tx_frames, tx_bytes, ref drops } = stats;
        Self { rx_frames, rx_bytes, tx_frames, tx_bytes, drops: drops.clone() }
    }
}

impl From<&PeerStats> for Counts {
    fn from(stats: &PeerStats) -> Self {
        let &PeerStats { peer: _, rx_frames, rx_bytes, tx_frames, tx_bytes, ref drops } = stats;
        Self { rx_frames, rx_bytes, tx_frames, tx_bytes, drops: drops.clone() }
    }
}

/// What passes in a second. Bits are those of frames, without preamble and checksum.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) rx_frames: f64,
    pub(super) rx_bits: f64,
    pub(super) tx_frames: f64,
    pub(super) tx_bits: f64,
    /// Frames dropped, by reason, the most first; only reasons there were.
    pub(super) drops: Vec<(String, f64)>,
}

impl Rate {
    /// The rate between two moments `seconds` apart; `None` where the counters began anew between them, or no time passed.
    pub(super) fn between(before: &Counts, after: &Counts, seconds: f64) -> Option<Self> {
        if seconds <= 0.0 {
            return None;
        }
        let rate = |before: u64, after: u64| Some(float(after.checked_sub(before)?) / seconds);
        let mut drops = Vec::new();
        for (reason, &count) in &after.drops {
            let dropped = rate(before.drops.get(reason).copied().unwrap_or(0), count)?;
            if dropped > 0.0 {
                drops.push((reason.clone(), dropped));
            }
        }
        // Stable: reasons of the same rate stay in order of their names.
        drops.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        Some(Self {
            rx_frames: rate(before.rx_frames, after.rx_frames)?,
            rx_bits: rate(before.rx_bytes, after.rx_bytes)? * 8.0,
            tx_frames: rate(before.tx_frames, after.tx_frames)?,
            tx_bits: rate(before.tx_bytes, after.tx_bytes)? * 8.0,
            drops,
        })
    }

    /// Both ways.
    pub(super) fn bits(&self) -> f64 {
        self.rx_bits + self.tx_bits
    }

    /// Frames dropped for any reason.
    pub(super) fn dropped(&self) -> f64 {
        self.drops.iter().map(|(_, rate)| rate).sum()
    }

    /// Adds what `other` says.
    pub(super) fn add(&mut self, other: &Self) {
        self.rx_frames += other.rx_frames;
        self.rx_bits += other.rx_bits;
        self.tx_frames += other.tx_frames;
        self.tx_bits += other.tx_bits;
        for (reason, rate) in &other.drops {
            match self.drops.iter_mut().find(|(known, _)| known == reason) {
                Some((_, sum)) => *sum += rate,
                None => self.drops.push((reason.clone(), *rate)),
            }
        }
        self.drops.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    }
}

/// What `after` counted since `before`; `None` where it began anew.
pub(super) fn since(before: &Histogram, after: &Histogram) -> Option<Histogram> {
    if before.le != after.le || before.counts.len() != after.counts.len() {
        return None;
    }
    let counts = before.counts.iter().zip(&after.counts).map(|(before, after)| after.checked_sub(*before));
    Some(Histogram {
        le: after.le.clone(),
        counts: counts.collect::<Option<_>>()?,
        sum: after.sum.checked_sub(before.sum)?,
    })
}

/// The mean of all values; `None` where there were none.
pub(super) fn mean(values: &Histogram) -> Option<f64> {
    let count = values.count();
    (count > 0).then(|| float(values.sum) / float(count))
}

/// The step that 99 of 100 values do not exceed: `None` where there were none, the last bound for those that exceed all.
pub(super) fn p99(values: &Histogram) -> Option<u64> {
    let count = values.count();
    let enough = count - count / 100;
    let mut seen = 0;
    let step = values.counts.iter().position(|step| {
        seen += step;
        seen >= enough
    });
    let bound = step.and_then(|step| values.le.get(step)).or(values.le.last());
    bound.copied().filter(|_| count > 0)
}

/// A value at the last moments, the newest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History(VecDeque<f64>);

impl History {
    pub(super) fn push(&mut self, value: f64) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The newest `count` of them, the newest last.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().skip(self.0.len().saturating_sub(count)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(numbers: [u64; 4], drops: &[(&str, u64)]) -> Counts {
        let [rx_frames, rx_bytes, tx_frames, tx_bytes] = numbers;
        let drops = drops.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        Counts { rx_frames, rx_bytes, tx_frames, tx_bytes, drops }
    }

    #[test]
    fn what_passes_in_a_second() {
        let before = counts([10, 1000, 5, 500], &[("a", 1), ("b", 7)]);
        let after = counts([30, 3000, 5, 600], &[("a", 3), ("b", 7), ("c", 40)]);
        let rate = Rate::between(&before, &after, 2.0).unwrap();
        let drops = vec![("c".to_owned(), 20.0), ("a".to_owned(), 1.0)];
        let expected = Rate { rx_frames: 10.0, rx_bits: 8000.0, tx_frames: 0.0, tx_bits: 400.0, drops };
        assert_eq!(rate, expected);
        assert_eq!((rate.bits(), rate.dropped()), (8400.0, 21.0));
        // Nothing passed: all is zero, and no reason is named.
        assert_eq!(Rate::between(&after, &after, 1.0), Some(Rate::default()));
    }

    #[test]
    fn counters_that_begin_anew_have_no_rate() {
        let before = counts([10, 1000, 5, 500], &[("a", 2)]);
        let table = [
            counts([9, 2000, 6, 600], &[("a", 2)]),
            counts([11, 999, 6, 600], &[("a", 2)]),
            counts([11, 2000, 4, 600], &[("a", 2)]),
            counts([11, 2000, 6, 499], &[("a", 2)]),
            counts([11, 2000, 6, 600], &[("a", 1)]),
        ];
        for after in table {
            assert_eq!(Rate::between(&before, &after, 1.0), None, "{after:?}");
        }
        assert_eq!(Rate::between(&before, &before, 0.0), None);
    }

    #[test]
    fn sums_name_each_reason_once() {
        let rate = |rx_bits, drops: &[(&str, f64)]| Rate {
            rx_bits,
            drops: drops.iter().map(|(reason, rate)| ((*reason).to_owned(), *rate)).collect(),
            ..Rate::default()
        };
        let mut sum = rate(1.0, &[("a", 5.0)]);
        sum.add(&rate(2.0, &[("b", 7.0), ("a", 1.0)]));
        assert_eq!(sum, rate(3.0, &[("b", 7.0), ("a", 6.0)]));
    }

    #[test]
    fn histograms() {
        let histogram = |counts: [u64; 4], sum| Histogram { le: vec![1, 2, 4], counts: counts.to_vec(), sum };
        let before = histogram([5, 0, 0, 0], 5);
        let values = since(&before, &histogram([5, 98, 1, 1], 5 + 196 + 4 + 9)).unwrap();
        assert_eq!(values, histogram([0, 98, 1, 1], 209));
        assert_eq!((mean(&values), p99(&values)), (Some(2.09), Some(4)));
        assert_eq!(p99(&histogram([0, 0, 0, 9], 90)), Some(4), "beyond all steps");
        assert_eq!(p99(&histogram([1, 0, 0, 0], 1)), Some(1));
        let none = since(&before, &before).unwrap();
        assert_eq!((mean(&none), p99(&none)), (None, None));
        assert_eq!(since(&values, &before), None, "begun anew");
        assert_eq!(since(&Histogram::default(), &before), None, "other steps");
    }

    #[test]
    fn a_history_ends() {
        let mut history = History::default();
        for value in 0..u32::try_from(REMEMBERED).unwrap() + 2 {
            history.push(value.into());
        }
        assert_eq!(history.last(2).collect::<Vec<_>>(), [240.0, 241.0]);
        assert_eq!(history.last(1000).next(), Some(2.0));
    }
}
