//! What became of the latest probes.

use std::collections::VecDeque;
use std::time::Duration;

use vswitch_api::RoundTrip;

/// Probes that are looked back on.
const PROBES: usize = 100;

/// The latest probes, and what they say.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// The round trip of each in microseconds; `None` of one that stayed unanswered.
    probes: VecDeque<Option<u64>>,
    /// The last of those answered.
    last: Option<u64>,
    /// In sixteenths of a microsecond, as RFC 3550 A.8 counts it.
    jitter: Option<u64>,
    /// Those since the last that was answered.
    lost_in_row: u32,
}

impl Window {
    fn push(&mut self, outcome: Option<u64>) {
        if self.probes.len() == PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back(outcome);
    }

    /// A probe was answered after `round_trip`.
    pub(super) fn answered(&mut self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        if let Some(last) = self.last {
            let jitter = self.jitter.unwrap_or(0);
            self.jitter = Some(jitter + last.abs_diff(micros) - (jitter + 8) / 16);
        }
        self.last = Some(micros);
        self.lost_in_row = 0;
        self.push(Some(micros));
    }

    /// A probe stayed unanswered.
    pub(super) fn lost(&mut self) {
        self.lost_in_row = self.lost_in_row.saturating_add(1);
        self.push(None);
    }

    /// How many of the latest probes in a row stayed unanswered.
    pub(super) const fn lost_in_row(&self) -> u32 {
        self.lost_in_row
    }

    /// The part that stayed unanswered, 0 to 1; and how many those are.
    pub(super) fn loss(&self) -> (f64, usize) {
        let lost = self.probes.iter().filter(|probe| probe.is_none()).count();
        #[allow(clippy::cast_precision_loss, reason = "at most a hundred")]
        let share = lost as f64 / self.probes.len().max(1) as f64;
        (share, lost)
    }

    /// Round trips; `None` where no probe was answered.
    pub(super) fn round_trip(&self) -> Option<RoundTrip> {
        let mut all: Vec<u64> = self.probes.iter().flatten().copied().collect();
        all.sort_unstable();
        // The nearest rank: the smallest that so many are no greater than.
        let rank = |percent: usize| all.get((all.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(RoundTrip { last: self.last?, p50: rank(50)?, p99: rank(99)? })
    }

    /// By how much round trips differ from one to the next, in microseconds; `None` where fewer than two were answered.
    pub(super) fn jitter(&self) -> Option<u64> {
        self.jitter.map(|jitter| jitter / 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(outcomes: impl IntoIterator<Item = Option<u64>>) -> Window {
        let mut window = Window::default();
        for outcome in outcomes {
            match outcome {
                Some(micros) => window.answered(Duration::from_micros(micros)),
                None => window.lost(),
            }
        }
        window
    }

    #[test]
    fn round_trips_and_loss() {
        let trip = |last, p50, p99| Some(RoundTrip { last, p50, p99 });
        let table = [
            (vec![], None, 0.0, 0, 0),
            (vec![None, None], None, 1.0, 2, 2),
            (vec![Some(300)], trip(300, 300, 300), 0.0, 0, 0),
            (vec![Some(300), None, Some(100), Some(200)], trip(200, 200, 300), 0.25, 1, 0),
            (vec![Some(300), None], trip(300, 300, 300), 0.5, 1, 1),
        ];
        for (outcomes, expected, share, lost, in_row) in table {
            let window = window(outcomes.clone());
            assert_eq!(window.round_trip(), expected, "{outcomes:?}");
            assert!((window.loss().0 - share).abs() < 1e-9 && window.loss().1 == lost, "{outcomes:?}");
            assert_eq!(window.lost_in_row(), in_row, "{outcomes:?}");
        }
    }

    #[test]
    fn only_the_latest_hundred_count() {
        let window = window((0..100).map(|_| None).chain((1..=100).map(Some)));
        assert_eq!(window.loss().1, 0);
        assert_eq!(window.round_trip(), Some(RoundTrip { last: 100, p50: 50, p99: 99 }));
    }

    #[test]
    fn jitter_settles_at_the_mean_difference() {
        assert_eq!(window([Some(100)]).jitter(), None);
        assert_eq!(window([Some(100), Some(100)]).jitter(), Some(0));
        assert_eq!(window([Some(100), Some(260)]).jitter(), Some(10)); // a sixteenth of 160
        let swinging = window((0..500).map(|number| Some(if number % 2 == 0 { 100 } else { 260 })));
        assert!((155..=160).contains(&swinging.jitter().unwrap()), "{:?}", swinging.jitter());
    }
}
