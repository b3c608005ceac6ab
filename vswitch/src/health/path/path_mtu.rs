//! Searches for what the path carries: in each self-test, and again and again while an interval has it probed.

use std::time::Duration;

use vswitch_core::Instant;
use vtep::oam;

use super::{Ask, Path};
use crate::health::search::Search;

/// A round of a search lasts a few round trips, but no longer and no shorter; less where nothing is missing. Shorter, and a busy
/// host passes for a narrow path.
const ROUND_LEAST: Duration = Duration::from_millis(200);
const ROUND_MOST: Duration = Duration::from_millis(800);
/// From one search to the next, while probes go on.
const SEARCH_AGAIN: Duration = Duration::from_secs(30);

impl Path {
    /// Begins a search anew.
    pub(super) fn begin_search(&mut self, now: Instant) {
        let longest = oam::SHORTEST + 4 * oam::NETWORKS_MAX + usize::from(self.ends.headers());
        let low = u16::try_from(longest).unwrap_or(u16::MAX);
        self.search = Some((Search::new(low, self.ends.mtu), now));
        self.searched = Some(now);
    }

    /// What a search sends now.
    pub(super) fn poll_search(&mut self, now: Instant, asks: &mut Vec<Ask>) {
        if self.search.is_none()
            && !self.is_stranger
            && self.interval.is_some_and(|_| self.answers())
            && self.searched.is_none_or(|at| now.since(at) >= SEARCH_AGAIN)
        {
            self.begin_search(now);
        }
        let Some((mut search, until)) = self.search.take() else { return };
        let is_first = self.searched == Some(until);
        if now < until && !search.is_round_over() {
            self.search = Some((search, until));
            return;
        }
        if !is_first && let Some(found) = search.end_round() {
            self.path_mtu = Some(found);
            return;
        }
        for size in search.sizes() {
            asks.push(self.ask(now, Some(size)));
        }
        let trip = self.recent().round_trip(now).map_or(0, |trip| trip.p99);
        let wait = (Duration::from_micros(trip) * 4).clamp(ROUND_LEAST, ROUND_MOST);
        self.search = Some((search, now + wait));
    }
}
