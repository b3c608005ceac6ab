//! What became of the latest probes.

use std::collections::VecDeque;
use std::time::Duration;

use vswitch_api::RoundTrip;
use vswitch_core::Instant;

/// Probes that are looked back on.
const PROBES: usize = 100;

/// The latest probes, and what they say.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// How long a probe counts.
    age: Duration,
    /// When it was known what became of each, and its round trip in microseconds; `None` of one that stayed unanswered.
    probes: VecDeque<(Instant, Option<u64>)>,
    /// The last of those answered.
    last: Option<u64>,
    /// In sixteenths of a microsecond, as RFC 3550 A.8 counts it.
    jitter: Option<u64>,
    /// Those since the last that was answered.
    lost_in_row: u32,
}

impl Window {
    /// One in which a probe counts for so long.
    pub(super) const fn new(age: Duration) -> Self {
        Self { age, probes: VecDeque::new(), last: None, jitter: None, lost_in_row: 0 }
    }

    fn push(&mut self, now: Instant, outcome: Option<u64>) {
        if self.probes.len() == PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back((now, outcome));
    }

    fn recent(&self, now: Instant) -> impl Iterator<Item = Option<u64>> {
        self.probes.iter().filter(move |(at, _)| now.since(*at) < self.age).map(|(_, outcome)| *outcome)
    }

    /// A probe was answered after `round_trip`.
    pub(super) fn answered(&mut self, now: Instant, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        if let Some(last) = self.last {
            let jitter = self.jitter.unwrap_or(0);
            self.jitter = Some(jitter + last.abs_diff(micros) - (jitter + 8) / 16);
        }
        self.last = Some(micros);
        self.lost_in_row = 0;
        self.push(now, Some(micros));
    }

    /// A probe stayed unanswered.
    pub(super) fn lost(&mut self, now: Instant) {
        self.lost_in_row = self.lost_in_row.saturating_add(1);
        self.push(now, None);
    }

    /// How many of the latest probes in a row stayed unanswered.
    pub(super) const fn lost_in_row(&self) -> u32 {
        self.lost_in_row
    }

    /// The part that stayed unanswered, 0 to 1; and how many those are.
    pub(super) fn loss(&self, now: Instant) -> (f64, usize) {
        let lost = self.recent(now).filter(Option::is_none).count();
        #[allow(clippy::cast_precision_loss, reason = "at most a hundred")]
        let share = lost as f64 / self.recent(now).count().max(1) as f64;
        (share, lost)
    }

    /// Round trips; `None` where no probe was answered.
    pub(super) fn round_trip(&self, now: Instant) -> Option<RoundTrip> {
        let mut all: Vec<u64> = self.recent(now).flatten().collect();
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

    const NOW: Instant = Instant::from_nanos(0);

    fn window(outcomes: impl IntoIterator<Item = Option<u64>>) -> Window {
        let mut window = Window::new(Duration::from_secs(60));
        for outcome in outcomes {
            match outcome {
                Some(micros) => window.answered(NOW, Duration::from_micros(micros)),
                None => window.lost(NOW),
            }
        }
        window
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut window = window([None, None, Some(300)]);
        let at = |secs| NOW + Duration::from_secs(secs);
        window.answered(at(30), Duration::from_micros(100));
        for (secs, lost, trips) in [(59, 2, Some(300)), (60, 0, Some(100)), (90, 0, None)] {
            assert_eq!(window.loss(at(secs)).1, lost, "{secs}");
            assert_eq!(window.round_trip(at(secs)).map(|trip| trip.p99), trips, "{secs}");
        }
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
            assert_eq!(window.round_trip(NOW), expected, "{outcomes:?}");
            assert!((window.loss(NOW).0 - share).abs() < 1e-9 && window.loss(NOW).1 == lost, "{outcomes:?}");
            assert_eq!(window.lost_in_row(), in_row, "{outcomes:?}");
        }
    }

    #[test]
    fn only_the_latest_hundred_count() {
        let window = window((0..100).map(|_| None).chain((1..=100).map(Some)));
        assert_eq!(window.loss(NOW).1, 0);
        assert_eq!(window.round_trip(NOW), Some(RoundTrip { last: 100, p50: 50, p99: 99 }));
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
