//! The way out on TAP ports, each through its limit where it has one.

use vswitch_core::{Frame, Instant};

use super::super::alarms::Alarm;
use super::super::datapath::Datapath;
use super::super::limits::{Passage, Shaper};
use super::super::outbox::Outgoing;
use super::join;
use crate::drops::PortDrop;
use crate::observe::{Fate, Observer, Sight};
use crate::port::tap::{Scissors, TapPort};

impl Datapath {
    pub(super) fn write_to_taps<const SEEN: bool>(&mut self, now: Instant) {
        for &target in self.outbox.taps() {
            let Some((tap, counters, limits)) = self.ports.limited_tap_mut(target) else { continue };
            let mut shaper = limits.and_then(|limits| limits.tx.as_mut());
            let joins = shaper.is_none() && tap.takes_super_frames();
            let queue = self.outbox.to_tap(target);
            for out in queue {
                self.batch.frames_mut()[out.frame].retag(out.egress.tag);
            }
            let mut waiting = queue;
            while let [first, others @ ..] = waiting {
                let frames = self.batch.frames_mut();
                let joined = if joins { join(&mut self.run, first, others, frames) } else { 0 };
                let sent = if joined == 0 {
                    let frame = &mut frames[first.frame];
                    leave(now, tap, shaper.as_deref_mut(), frame, std::iter::empty(), &mut self.scissors)
                } else {
                    let (head, pieces) = self.run.finish();
                    let payload = pieces.iter().map(|(index, range)| &frames[*index].bytes()[range.clone()]);
                    tap.write(head, payload, &mut self.scissors).map(|()| Passage::Left)
                };
                let (gone, rest) = waiting.split_at(1 + joined);
                for out in gone {
                    let frame = &self.batch.frames()[out.frame];
                    match sent {
                        Ok(Passage::Left) => counters.sent(frame.len()),
                        // The rest is counted when it leaves.
                        Ok(Passage::Waits { refused }) => counters.dropped_many(PortDrop::RateLimited, refused),
                        Err(PortDrop::TooBig) => {
                            let tag = self.batch.tag(out.frame);
                            self.oversize.push(out.oversize(tag, tap.mtu()));
                        }
                        Err(why) => counters.dropped(why),
                    }
                    if SEEN
                        && let Some(observer) = &mut self.observer
                        && let Some(sight) = departure(out, sent, frame.bytes())
                    {
                        observer.see_whole(sight);
                    }
                }
                waiting = rest;
            }
            if let Some(at) = shaper.and_then(|shaper| shaper.alarm(now)) {
                self.alarms.set(at, Alarm::Release(target));
            }
            // The next port, and the answer to its sender, want the frame as it came.
            for out in queue {
                let tag = self.batch.tag(out.frame);
                self.batch.frames_mut()[out.frame].retag(tag);
            }
        }
    }
}

/// Writes a frame to a TAP port, through its limit where it has one.
#[inline]
pub(super) fn leave<'a>(
    now: Instant,
    tap: &mut TapPort,
    shaper: Option<&mut Shaper>,
    head: &mut Frame,
    tail: impl Iterator<Item = &'a [u8]> + Clone,
    scissors: &mut Scissors,
) -> Result<Passage, PortDrop> {
    match shaper {
        None => tap.write(head, tail, scissors).map(|()| Passage::Left),
        Some(shaper) => shaper.offer(now, tap, head, tail, scissors),
    }
}

/// What became of a frame that was to leave on a TAP port, as it is seen; `None` where it is seen when it is counted.
fn departure<'a>(out: &Outgoing, sent: Result<Passage, PortDrop>, bytes: &'a [u8]) -> Option<Sight<'a>> {
    let fate = match sent {
        Ok(Passage::Left) => Fate::Left,
        Ok(Passage::Waits { refused: 0 }) | Err(PortDrop::TooBig) => return None,
        // Seen once, however many of its segments found no room.
        Ok(Passage::Waits { .. }) => Fate::Dropped(PortDrop::RateLimited.into()),
        Err(why) => Fate::Dropped(why.into()),
    };
    Some(Sight::departure(out.egress.port, Some(out.egress.vlan), fate, bytes))
}

/// Shows it, where more of its bytes lie in `tail`.
pub(super) fn see_departure<'a>(
    observer: &mut Observer,
    out: &Outgoing,
    sent: Result<Passage, PortDrop>,
    bytes: &'a [u8],
    tail: impl Iterator<Item = &'a [u8]> + Clone,
) {
    if let Some(sight) = departure(out, sent, bytes) {
        observer.see(sight, tail);
    }
}
