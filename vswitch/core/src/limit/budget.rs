//! What is left of a rate, in one word that all workers share.
//!
//! The word is the moment at which the budget is whole again (the theoretical arrival time of GCRA, ITU-T I.371 annex A):
//! what is spent moves it on, time catches up with it by itself. Nobody fills anything up, so an idle port costs nothing.
//!
//! This file stands alone, with its atomics from `super::atomic`: the test `loom` builds it with loom's.

use super::atomic::{AtomicU64, Ordering};

/// A budget; moments and amounts are in ticks of the caller's.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    /// One that is whole.
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether less than `burst` is spent at `now`; else the last moment at which that is not so.
    pub(super) fn check(&self, now: u64, burst: u64) -> Result<(), u64> {
        // Relaxed, here and below: the word stands for nothing but itself.
        let whole_at = self.0.load(Ordering::Relaxed);
        if whole_at < now.saturating_add(burst) { Ok(()) } else { Err(whole_at - burst) }
    }

    /// Spends `amount`, whatever is left.
    pub(super) fn spend(&self, now: u64, amount: u64) {
        let spend = |whole_at: u64| Some(whole_at.max(now).saturating_add(amount));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
    }
}
