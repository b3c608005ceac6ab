//! What this worker has to do at a moment, and not when a frame comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use vswitch_core::Instant;
use vswitch_core::switch::PortId;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// Frames that wait for a port's rate may leave.
    Release(PortId),
    /// A port whose frames were left in its queue may be read again.
    LetIn(PortId),
}

impl Alarm {
    const fn port(self) -> PortId {
        match self {
            Self::Release(port) | Self::LetIn(port) => port,
        }
    }
}

/// All of it, the next first. A port has at most one of each kind.
#[derive(Debug, Default)]
pub(super) struct Alarms(BinaryHeap<Reverse<(Instant, Alarm)>>);

impl Alarms {
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.0.push(Reverse((at, alarm)));
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the next, where it is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, alarm))| alarm)
    }

    /// Forgets those of `port`.
    pub(super) fn forget(&mut self, port: PortId) {
        self.0.retain(|Reverse((_, alarm))| alarm.port() != port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goes_off_once_in_order_of_time() {
        let at = Instant::from_nanos;
        let [a, b, c] = [3, 1, 2].map(PortId::new);
        let mut alarms = Alarms::default();
        assert_eq!((alarms.next(), alarms.due(at(u64::MAX))), (None, None));
        let all = [(30, Alarm::LetIn(a)), (10, Alarm::Release(b)), (20, Alarm::LetIn(b)), (20, Alarm::Release(c))];
        all.into_iter().for_each(|(moment, alarm)| alarms.set(at(moment), alarm));
        assert_eq!(alarms.next(), Some(at(10)));
        assert_eq!((alarms.due(at(9)), alarms.due(at(10)), alarms.due(at(19))), (None, Some(Alarm::Release(b)), None));
        alarms.forget(b);
        assert_eq!(alarms.next(), Some(at(20)));
        assert_eq!(
            [25, 25, 30, 30].map(|now| alarms.due(at(now))),
            [Some(Alarm::Release(c)), None, Some(Alarm::LetIn(a)), None]
        );
    }
}
