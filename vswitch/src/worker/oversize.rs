//! Frames that did not fit where they were to leave, and how often their senders are told.

use std::time::Duration;

use vswitch_core::switch::PortId;
use vswitch_core::{Frame, Instant, Tag, VlanId};

use super::journey::Answer;
use super::outbox::Outgoing;
use super::ports::Ports;
use crate::drops::PortDrop;
use crate::observe::{Fate, Sight};
use crate::too_big;

/// A frame that did not fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oversize {
    /// Its place in the batch.
    pub(super) frame: usize,
    pub(super) vlan: VlanId,
    /// The tag it came with, which the answer carries.
    pub(super) tag: Option<Tag>,
    /// The largest packet that would have fitted; `None` where its sender is not to be told.
    pub(super) mtu: Option<u16>,
}

impl Oversize {
    /// As it is seen at `ingress`, where it came in as `frame` and is counted.
    pub(super) fn seen<'a>(&self, ingress: PortId, frame: &'a Frame) -> Sight<'a> {
        Sight::arrival(ingress, Some(self.vlan), Fate::Dropped(PortDrop::TooBig.into()), frame.bytes())
    }
}

impl Outgoing {
    /// This frame as one that did not fit: its sender is told, unless other copies of it went elsewhere.
    pub(super) fn oversize(&self, tag: Option<Tag>, mtu: u16) -> Oversize {
        let mtu = (!self.is_flooded).then_some(mtu);
        Oversize { frame: self.frame, vlan: self.egress.vlan, tag, mtu }
    }
}

/// Counts a frame from `ingress` that did not fit, and answers its sender where that may be.
pub(super) fn refuse(
    ports: &mut Ports,
    now: Instant,
    ingress: PortId,
    oversize: &Oversize,
    frame: &Frame,
) -> Option<Answer> {
    let port = ports.get_mut(ingress)?;
    port.counters.dropped(PortDrop::TooBig);
    let mtu = oversize.mtu.filter(|_| port.answers.allows(now))?;
    let mut answer = too_big::answer(frame, mtu)?;
    answer.retag(oversize.tag);
    Some((ingress, oversize.vlan, answer))
}

/// How often the senders behind one port are told: one answer is enough for a flow, and a flood of oversize frames earns
/// no flood back. Each port has its own, so that none can use up another's.
#[derive(Debug)]
pub(crate) struct AnswerRate {
    tokens: u32,
    refilled: Instant,
}

impl AnswerRate {
    const PER_SECOND: u32 = 1000;
    const BURST: u32 = 100;

    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let every = Duration::from_secs(1) / Self::PER_SECOND;
        let due = now.since(self.refilled).as_nanos() / every.as_nanos();
        if due > 0 {
            self.tokens = u32::try_from(due).unwrap_or(Self::BURST).saturating_add(self.tokens).min(Self::BURST);
            self.refilled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }
}

impl Default for AnswerRate {
    fn default() -> Self {
        Self { tokens: Self::BURST, refilled: Instant::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_bursts_and_then_at_a_rate() {
        let mut rate = AnswerRate::default();
        let mut allowed = |millis: u64| {
            let now = Instant::from_nanos(millis * 1_000_000);
            (0..1000).filter(|_| rate.allows(now)).count()
        };
        assert_eq!(allowed(0), 100);
        assert_eq!(allowed(0), 0);
        assert_eq!(allowed(5), 5);
        assert_eq!(allowed(60_000), 100);
    }
}
