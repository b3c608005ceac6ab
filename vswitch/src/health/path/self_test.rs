//! The self-test: a few probes in a row, and then what the path carries.

use std::mem;
use std::time::Duration;

use vswitch_core::Instant;

use super::{Ask, Path};
use crate::health::window::Window;

/// A self-test asks so often in a row, and has enough with so many answers.
const ASKED: u8 = 12;
const ENOUGH: u8 = 4;
const SPACING: Duration = Duration::from_millis(60);
/// A self-test ends after so long, however it stands; without any answer, a little earlier.
const LONGEST: Duration = Duration::from_millis(1800);
const SILENT: Duration = Duration::from_millis(900);

/// How a self-test stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct SelfTest {
    pub(super) started: Instant,
    next: Instant,
    asked: u8,
    pub(super) answered: u8,
    /// The shortest round trip.
    best: Option<Duration>,
    searches: bool,
}

impl SelfTest {
    /// One that begins now.
    const fn new(now: Instant) -> Self {
        Self { started: now, next: now, asked: 0, answered: 0, best: None, searches: false }
    }

    /// When it asks again, or ends.
    pub(super) fn deadline(&self) -> Instant {
        let longest = if self.answered == 0 { SILENT } else { LONGEST };
        self.next.min(self.started + longest)
    }

    /// A probe was answered after `round_trip`.
    pub(super) fn answered(&mut self, round_trip: Duration) {
        self.answered = self.answered.saturating_add(1);
        self.best = Some(self.best.map_or(round_trip, |best| best.min(round_trip)));
    }
}

impl Path {
    /// Begins a self-test, unless one is under way.
    pub(crate) fn begin_test(&mut self, now: Instant) {
        if self.test.is_none() {
            self.test = Some(SelfTest::new(now));
            self.tested = None;
            // What was said and found before says nothing of now.
            (self.complaint, self.host, self.host_asked, self.own) = (None, None, None, None);
            self.test_window = Window::new(Duration::MAX);
            if self.interval.is_none() {
                (self.damaged_there, self.damaged_here) = (None, None);
            }
        }
    }

    /// What the last self-test found, its shortest round trip; `None` while it lasts, or before.
    pub(crate) const fn tested(&self) -> Option<Option<Duration>> {
        self.tested
    }

    /// Whether a self-test ended at this moment.
    pub(crate) fn ended(&self, now: Instant) -> bool {
        self.test.is_none() && self.tested_at == Some(now)
    }

    /// What a self-test sends now.
    pub(super) fn poll_test(&mut self, now: Instant, asks: &mut Vec<Ask>) {
        let Some(mut test) = self.test else { return };
        let passed = now.since(test.started);
        let has_searched = test.searches && self.search.is_none();
        let is_over = test.answered == 0 && passed >= SILENT
            || passed >= LONGEST
            || has_searched && (test.answered >= ENOUGH || test.asked >= ASKED && self.open.is_empty());
        if is_over {
            self.test = None;
            if self.search.take().is_some() {
                self.path_mtu = None; // that of an earlier search may be wrong by now
            }
            if test.answered == 0 {
                // What is late by now is as good as lost.
                mem::take(&mut self.open).values().for_each(|open| self.lost(now, open));
            }
            self.tested = Some(test.best);
            self.tested_at = Some(now);
            return;
        }
        if test.next <= now && test.asked < ASKED && test.answered < ENOUGH {
            test.asked += 1;
            asks.push(self.ask(now, None));
        }
        if test.next <= now {
            test.next = now + SPACING;
        }
        if test.answered > 0 && !test.searches {
            test.searches = true;
            if self.is_stranger {
                self.path_mtu = None; // so often it answers no stranger
            } else {
                self.begin_search(now);
            }
        }
        self.test = Some(test);
    }
}
