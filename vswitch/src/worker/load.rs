//! How busy a worker is: plain words of its own, counted once a turn or batch and never for a frame.

use std::time::Duration;

use vswitch_api::{Histogram, WorkerInfo};
use vswitch_core::Instant;

/// Steps of a batch: up to 64 frames ([`super::batch::FRAMES`]), and more.
const BATCH_STEPS: usize = 8;
/// Steps of a turn: up to 65.536 ms, and more.
const TURN_STEPS: usize = 18;
/// How long a share is looked at, at least.
const WINDOW: Duration = Duration::from_secs(1);

/// How often a value was so great: step `n` counts those up to 2^n and above the step before, the last one all above.
#[derive(Clone, Copy, Debug)]
struct Steps<const N: usize> {
    counts: [u64; N],
    sum: u64,
}

impl<const N: usize> Steps<N> {
    const NONE: Self = Self { counts: [0; N], sum: 0 };

    fn note(&mut self, value: u64) {
        // 2^step is the first power of two that is not below the value.
        let step = u64::BITS - value.saturating_sub(1).leading_zeros();
        self.counts[usize::try_from(step).unwrap_or(N).min(N - 1)] += 1;
        self.sum += value;
    }

    fn shown(&self) -> Histogram {
        Histogram { le: (0..N - 1).map(|step| 1 << step).collect(), counts: self.counts.to_vec(), sum: self.sum }
    }
}

/// What one worker did since it started.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    batches: Steps<BATCH_STEPS>,
    /// In microseconds, begun ones in full.
    turns: Steps<TURN_STEPS>,
    sleeps: u64,
    busy: Duration,
    /// When the turn began whose end is not known yet.
    turn: Option<Instant>,
    /// When the turn before ended, where it left frames to read: the next one begins there.
    left: Option<Instant>,
    /// Since when the share is counted, what was busy until then, and the share of the time before.
    window: Option<(Instant, Duration)>,
    share: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            batches: Steps::NONE,
            turns: Steps::NONE,
            sleeps: 0,
            busy: Duration::ZERO,
            turn: None,
            left: None,
            window: None,
            share: 0.0,
        }
    }
}

impl Load {
    /// So many frames were read at once.
    pub(super) fn read_at_once(&mut self, frames: usize) {
        self.batches.note(frames as u64);
    }

    /// Sources have frames, and are served from `now` on.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.turn = Some(self.left.unwrap_or(now));
    }

    /// What the turn was to do, if there was one, is done; whether it left frames to read.
    pub(super) fn end_turn(&mut self, now: Instant, is_left: bool) {
        let Some(began) = self.turn.take() else { return };
        let took = now.since(began);
        self.turns.note(u64::try_from(took.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX));
        self.busy += took;
        self.left = is_left.then_some(now);
        self.look(now);
    }

    /// Nothing was to be done.
    pub(super) fn sleep(&mut self) {
        self.sleeps += 1;
        self.left = None;
    }

    /// Begins a new window where the last one is over.
    fn look(&mut self, now: Instant) {
        let (since, before) = *self.window.get_or_insert((now, self.busy));
        let lasted = now.since(since);
        if lasted >= WINDOW {
            self.share = ((self.busy - before).as_secs_f64() / lasted.as_secs_f64()).min(1.0);
            self.window = Some((now, self.busy));
        }
    }

    /// What it is at `now`.
    pub(super) fn read(&mut self, now: Instant) -> Self {
        self.look(now);
        self.clone()
    }

    /// The time that turns with frames took.
    pub(crate) const fn busy(&self) -> Duration {
        self.busy
    }

    /// The part of the last window that such turns took, 0 to 1, in thousandths.
    pub(crate) fn share(&self) -> f64 {
        (self.share * 1_000.0).round() / 1_000.0
    }

    /// As it is shown, as that of `worker`.
    pub(crate) fn shown(&self, worker: usize) -> WorkerInfo {
        let loop_us = self.turns.shown();
        WorkerInfo {
            worker,
            busy_share: self.share(),
            turns: loop_us.count(),
            sleeps: self.sleeps,
            batch: self.batches.shown(),
            loop_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::FRAMES;
    use super::*;

    const fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1_000)
    }

    /// Where the only value of a histogram is: its upper bound, 0 for none.
    fn step(histogram: &Histogram) -> u64 {
        let place = histogram.counts.iter().position(|&count| count == 1).unwrap();
        histogram.le.get(place).copied().unwrap_or(0)
    }

    #[test]
    fn values_fall_into_the_step_they_do_not_exceed() {
        for (frames, le) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (33, 64), (64, 64), (65, 0), (1 << 40, 0)]
        {
            let mut load = Load::default();
            load.read_at_once(frames);
            let WorkerInfo { batch, .. } = load.shown(0);
            assert_eq!((step(&batch), batch.count(), batch.sum), (le, 1, frames as u64), "{frames}");
            assert_eq!(batch.counts.len(), batch.le.len() + 1);
        }
        let WorkerInfo { batch, loop_us, .. } = Load::default().shown(0);
        assert_eq!((batch.le.last(), loop_us.le.last()), (Some(&(FRAMES as u64)), Some(&65_536)));
    }

    #[test]
    fn a_turn_ends_with_the_next_look_at_the_clock() {
        let mut load = Load::default();
        load.end_turn(at(5), true); // none had begun
        load.begin_turn(at(10));
        load.end_turn(at(13), false);
        // Nothing was left: what passes until the next one is not busy.
        load.begin_turn(at(100));
        load.end_turn(at(140), true);
        // Frames were left: looking for more was part of the work.
        load.begin_turn(at(150));
        load.end_turn(at(160), false);
        let WorkerInfo { turns, loop_us, sleeps, .. } = load.shown(0);
        assert_eq!((turns, sleeps, load.busy()), (3, 0, Duration::from_micros(3 + 40 + 20)));
        assert_eq!((loop_us.sum, loop_us.counts[2], loop_us.counts[5], loop_us.counts[6]), (63, 1, 1, 1));
    }

    #[test]
    fn the_share_is_that_of_the_last_second_or_more() {
        let mut load = Load::default();
        // A turn of 250 us each millisecond.
        for ms in 0..1_500 {
            load.begin_turn(at(ms * 1_000));
            load.end_turn(at(ms * 1_000 + 250), false);
        }
        assert!((load.read(at(1_500_000)).share() - 0.25).abs() < 0.002, "{}", load.share());
        // Then an hour of nothing, which nobody looked at, and a turn.
        let later = 3_600_000_000;
        load.sleep();
        load.begin_turn(at(later));
        load.end_turn(at(later + 1_000), true);
        assert!(load.share() < 0.001, "{}", load.share());
        // Saturated.
        for ms in 1..2_000 {
            load.begin_turn(at(later + ms * 1_000 + 300));
            load.end_turn(at(later + ms * 1_000 + 1_000), true);
        }
        assert!((load.share() - 1.0).abs() < 0.001, "{}", load.share());
        // And idle again, with nobody but the reader to look.
        load.sleep();
        let idle = load.read(at(later + 12_000_000)).share();
        assert!(idle < 0.1, "{idle}");
        assert_eq!(load.shown(3).sleeps, 2);
        assert_eq!(load.shown(3).worker, 3);
    }
}
