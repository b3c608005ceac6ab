//! Frames that did not fit where they were to leave, and the answers their senders get.

use std::time::Duration;

use vswitch_core::{Frame, Instant, Tag, VlanId};

use crate::too_big;

/// Answers a second, and how many at once: one is enough for a flow, and a flood of oversize frames earns no flood back.
const ANSWERS_PER_SECOND: u32 = 1000;
const BURST: u32 = 100;

/// A frame that did not fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    /// Its place in the batch.
    pub(super) frame: usize,
    pub(super) vlan: VlanId,
    /// The tag it came with, which the answer carries.
    pub(super) tag: Option<Tag>,
    /// The largest packet that would have fitted.
    pub(super) mtu: u16,
}

/// What did not fit in this turn. Empty between turns.
#[derive(Debug)]
pub(super) struct Oversize {
    refused: Vec<Refused>,
    tokens: u32,
    refilled: Instant,
}

impl Default for Oversize {
    fn default() -> Self {
        Self { refused: Vec::new(), tokens: BURST, refilled: Instant::default() }
    }
}

impl Oversize {
    pub(super) fn push(&mut self, refused: Refused) {
        self.refused.push(refused);
    }

    /// The next frame that did not fit.
    pub(super) fn pop(&mut self) -> Option<Refused> {
        self.refused.pop()
    }

    /// What to tell the sender of `frame`, unless it may not be answered or too many were.
    pub(super) fn answer(&mut self, now: Instant, refused: &Refused, frame: &Frame) -> Option<Frame> {
        let mut answer = too_big::answer(frame, refused.mtu)?;
        answer.retag(refused.tag);
        self.allows(now).then_some(answer)
    }

    fn allows(&mut self, now: Instant) -> bool {
        let every = Duration::from_secs(1) / ANSWERS_PER_SECOND;
        let due = now.since(self.refilled).as_nanos() / every.as_nanos();
        if due > 0 {
            self.tokens = u32::try_from(due).unwrap_or(BURST).saturating_add(self.tokens).min(BURST);
            self.refilled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_bursts_and_then_at_a_rate() {
        let mut oversize = Oversize::default();
        let mut allowed = |millis: u64| {
            let now = Instant::from_nanos(millis * 1_000_000);
            (0..1000).filter(|_| oversize.allows(now)).count()
        };
        assert_eq!(allowed(0), 100);
        assert_eq!(allowed(0), 0);
        assert_eq!(allowed(5), 5);
        assert_eq!(allowed(60_000), 100);
    }
}
