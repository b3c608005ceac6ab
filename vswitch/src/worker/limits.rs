//! What ports may carry: frames from a port beyond its rate stay in the queue of its device, frames to it wait here.
//!
//! A device's queue is the kernel's, as long as the container set it, and tells senders that it is full; reading it later
//! is all it takes, so nothing is dropped here. What comes for a port must be taken at once for the sake of the others: it
//! waits in a queue of its own, and what finds no room there is dropped.
//!
//! The rate is the port's and not a worker's: all spend from one budget. Each worker has a queue of its own for each
//! port, for the flows that it carries, so that none waits for another.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use vswitch_core::limit::wire_bytes;
use vswitch_core::switch::PortId;
use vswitch_core::{Frame, Instant, Offload, RateLimit};

use super::alarms::Alarm;
use super::backlog::Backlog;
use super::batch::BYTES;
use super::datapath::Datapath;
use super::ports::{Device, Port};
use crate::drops::PortDrop;
use crate::observe::{Fate, Sight, vlan_of};
use crate::port::tap::{FRAME_CAPACITY, Scissors, TapPort};

/// How long frames wait at a port's rate before further ones are dropped, in thousandths of a second.
const WAIT: u64 = 25;
/// What may wait at the least: some super-frames, or TCP would lose all it sends at once; and at the most.
const WAITING: (u64, u64) = (4 << 16, 4 << 20);
/// Below this rate, in bit/s, super-frames wait in segments: whole, one would keep all behind it for 5 ms and more, and one
/// that finds no room would be a hole of 64 KiB in its connection.
const CUTS: u64 = 100_000_000;
/// How often a device whose queue is left alone for longer is looked at: it may be gone, and nobody waits on it.
const LOOK: Duration = Duration::from_millis(500);

/// The limits of one port, which all workers share. Setting them anew begins with whole budgets.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedLimits {
    rx: Option<Arc<RateLimit>>,
    /// With the bytes that may wait, and whether super-frames wait in segments.
    tx: Option<(Arc<RateLimit>, usize, bool)>,
}

impl SharedLimits {
    pub(crate) fn new(limits: &vswitch_api::Limits) -> Self {
        let shared = |limit: vswitch_api::RateLimit| {
            let rate = NonZeroU64::new(limit.rate()).unwrap_or(NonZeroU64::MIN); // it is at least 1000
            Arc::new(RateLimit::new(rate, limit.burst_bytes()))
        };
        let waiting = |limit: vswitch_api::RateLimit| (limit.rate() / 8 * WAIT / 1_000).clamp(WAITING.0, WAITING.1);
        Self {
            rx: limits.rx.map(shared),
            tx: limits.tx.map(|limit| {
                (shared(limit), usize::try_from(waiting(limit)).unwrap_or(usize::MAX), limit.rate() < CUTS)
            }),
        }
    }
}

/// The limits of one port as one worker keeps them.
#[derive(Debug)]
pub(super) struct Limited {
    pub(super) rx: Option<Arc<RateLimit>>,
    /// Whether its device is left alone until an alarm goes off.
    pub(super) is_held: bool,
    pub(super) tx: Option<Shaper>,
}

/// Frames to a port on their way through its limit.
#[derive(Debug)]
pub(super) struct Shaper {
    rate: Arc<RateLimit>,
    backlog: Backlog,
    /// Whether super-frames wait in segments.
    cuts: bool,
    /// Whether an alarm is set for those that wait.
    is_told: bool,
}

/// What became of a frame that is not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Left,
    /// It waits, but for so many of its segments that found no room.
    Waits {
        refused: u64,
    },
}

impl Limited {
    fn new(SharedLimits { rx, tx }: SharedLimits) -> Option<Box<Self>> {
        if rx.is_none() && tx.is_none() {
            return None;
        }
        let shaper = |(rate, room, cuts)| Shaper { rate, backlog: Backlog::new(room), cuts, is_told: false };
        Some(Box::new(Self { rx, is_held: false, tx: tx.map(shaper) }))
    }
}

impl Shaper {
    /// Writes `head`, and `tail` behind it, as one frame where the rate allows it, else has it wait.
    pub(super) fn offer<'a>(
        &mut self,
        now: Instant,
        tap: &mut TapPort,
        head: &mut Frame,
        tail: impl Iterator<Item = &'a [u8]> + Clone,
        scissors: &mut Scissors,
    ) -> Result<Passage, PortDrop> {
        let payload = tail.clone().map(<[u8]>::len).sum::<usize>();
        if self.backlog.is_empty() && self.rate.check(now).is_ok() {
            let bytes = wire_bytes(head.len() + payload, &head.offload);
            tap.write(head, tail, scissors)?;
            self.rate.charge(now, bytes);
            return Ok(Passage::Left);
        }
        tap.accepts(head, payload)?; // its sender is told of a frame that is too big
        let Self { backlog, cuts, .. } = self;
        let mut refused = 0;
        if *cuts && head.offload.gso.is_some() {
            scissors.cut(head, tail, |headers, payload| {
                refused += u64::from(!backlog.push(Offload::default(), [headers, payload].into_iter()));
                Ok(())
            })?;
        } else {
            let pieces = std::iter::once(head.bytes()).chain(tail.map(|piece| -> &[u8] { piece }));
            if !backlog.push(head.offload, pieces) {
                return Err(PortDrop::RateLimited);
            }
        }
        Ok(Passage::Waits { refused })
    }

    /// When frames that wait may leave, where no alarm is set for that yet.
    pub(super) fn alarm(&mut self, now: Instant) -> Option<Instant> {
        if self.is_told || self.backlog.is_empty() {
            return None;
        }
        self.is_told = true;
        Some(self.rate.check(now).err().unwrap_or(now))
    }
}

impl Datapath {
    /// Sets what port `id` may carry. What waits leaves at once.
    pub(super) fn set_limits(&mut self, now: Instant, id: PortId, limits: SharedLimits) {
        self.let_out(now, id);
        self.alarms.forget(id);
        let Some(port) = self.ports.get_mut(id) else { return };
        let before = std::mem::replace(&mut port.limits, Limited::new(limits));
        if before.is_some_and(|limited| limited.is_held) {
            self.let_in.push(id);
        }
    }

    /// Leaves the frames of `id` in its device, until `until` as its limit says.
    pub(super) fn hold(&mut self, now: Instant, id: PortId, until: Instant) {
        let Some(Port { limits: Some(limits), .. }) = self.ports.get_mut(id) else { return };
        limits.is_held = true;
        self.alarms.set(until.min(now + LOOK), Alarm::LetIn(id));
    }

    /// Does what is due for limits.
    #[cold]
    pub(super) fn heed_alarms(&mut self, now: Instant) {
        while let Some(alarm) = self.alarms.due(now) {
            match alarm {
                Alarm::Release(port) => self.release(now, port),
                Alarm::LetIn(port) => self.end_hold(now, port),
            }
        }
    }

    /// Has port `id` read again, where its limit allows it.
    fn end_hold(&mut self, now: Instant, id: PortId) {
        let Some(Port { limits: Some(limits), device: Device::Tap(tap), .. }) = self.ports.get_mut(id) else { return };
        match limits.rx.as_ref().map(|rate| rate.check(now)) {
            // Asked only where it is long: the kernel has one lock for all that concerns interfaces.
            Some(Err(until)) if until.since(now) >= LOOK && tap.is_gone() => {
                (limits.rx, limits.is_held) = (None, false); // reading tells
                self.let_in.push(id);
            }
            Some(Err(until)) => self.hold(now, id, until),
            _ => {
                limits.is_held = false;
                self.let_in.push(id);
            }
        }
    }

    /// Sends frames that wait for port `id` on their way, as many as its rate allows and a turn takes.
    fn release(&mut self, now: Instant, id: PortId) {
        self.send_waiting(now, id, |rate, written| written < BYTES && rate.check(now).is_ok());
    }

    /// Sends all that wait for port `id` on their way, whatever its rate.
    fn let_out(&mut self, now: Instant, id: PortId) {
        self.send_waiting(now, id, |_, _| true);
    }

    /// Sends frames that wait for port `id` on their way while `may_leave` says so, told how many bytes have left. An alarm
    /// is set for the rest.
    fn send_waiting(&mut self, now: Instant, id: PortId, may_leave: impl Fn(&RateLimit, usize) -> bool) {
        let Self { switch, ports, scissors, spare, alarms, observer, .. } = self;
        let Some(Port { limits: Some(limits), device: Device::Tap(tap), counters, .. }) = ports.get_mut(id) else {
            return;
        };
        let Some(shaper) = &mut limits.tx else { return };
        let spare = spare.get_or_insert_with(|| Frame::with_capacity(FRAME_CAPACITY));
        let mut written = 0;
        shaper.is_told = false;
        while may_leave(&shaper.rate, written) && shaper.backlog.pop(spare) {
            let (len, bytes) = (spare.len(), wire_bytes(spare.len(), &spare.offload));
            let outcome = tap.write(spare, std::iter::empty(), scissors);
            if let Some(observer) = observer {
                let fate = outcome.map_or_else(|why| Fate::Dropped(why.into()), |()| Fate::Left);
                observer.see_whole(Sight::departure(id, vlan_of(switch, id, spare.bytes()), fate, spare.bytes()));
            }
            match outcome {
                Ok(()) => {
                    counters.sent(len);
                    shaper.rate.charge(now, bytes);
                }
                Err(why) => counters.dropped(why),
            }
            written += len;
        }
        if let Some(at) = shaper.alarm(now) {
            // Not in this turn: others have frames too.
            alarms.set(at.max(now + Duration::from_nanos(1)), Alarm::Release(id));
        }
    }

    /// As [`Self::let_out`] of all ports: nobody is there to do it later.
    pub(super) fn let_all_out(&mut self, now: Instant) {
        let waits = |port: &Port| {
            let shaper = port.limits.as_ref().and_then(|limits| limits.tx.as_ref());
            shaper.is_some_and(|shaper| !shaper.backlog.is_empty())
        };
        let waiting: Vec<_> = self.ports.iter().filter(|(_, port)| waits(port)).map(|(id, _)| id).collect();
        waiting.into_iter().for_each(|id| self.let_out(now, id));
    }

    /// Drops, and counts, what waits for a port whose device is gone.
    pub(crate) fn drop_waiting(&mut self, id: PortId) {
        let Self { switch, ports, spare, observer, .. } = self;
        let Some(Port { limits: Some(limits), counters, .. }) = ports.get_mut(id) else { return };
        let Some(shaper) = &mut limits.tx else { return };
        let spare = spare.get_or_insert_with(|| Frame::with_capacity(FRAME_CAPACITY));
        while shaper.backlog.pop(spare) {
            counters.dropped(PortDrop::PortLost);
            if let Some(observer) = observer {
                let fate = Fate::Dropped(PortDrop::PortLost.into());
                observer.see_whole(Sight::departure(id, vlan_of(switch, id, spare.bytes()), fate, spare.bytes()));
            }
        }
    }
}
