//! The way in from the tunnel, and on: frames are decided on as others are, and leave on TAP ports alone.

use vswitch_core::Instant;
use vswitch_core::switch::Verdict;
use vswitch_sys::Inbox;
use vtep::{DecapDrop, Tail};

use super::super::alarms::Alarm;
use super::super::asking;
use super::super::batch::SEGMENTS;
use super::super::datapath::Datapath;
use super::super::limits::Passage;
use super::super::oversize::refuse;
use super::decide::{charge, gather};
use super::to_taps::{leave, see_departure};
use crate::drops::PortDrop;
use crate::observe::Sight;
use crate::port::carrier::Entrance;
use crate::port::tunnel::TunnelPort;

/// Frames taken from the tunnel at once, before it is known what they cost.
const CHUNK: usize = 32;

impl Datapath {
    /// Takes frames from the tunnel and sends them on their way, until they went out in [`SEGMENTS`] copies; false once
    /// nothing is left to receive. What a turn leaves of a batch the next one takes, by whichever entrance it came.
    pub(crate) fn serve_tunnel(&mut self, now: Instant, entrance: Entrance) -> bool {
        let Some(tunnel) = &mut self.tunnel else { return false };
        // Where some was left nothing is known of the entrance.
        let more = tunnel.has_inbound() || tunnel.receive(entrance, self.observer.as_deref_mut());
        for (remote, why, count) in tunnel.refused() {
            if let Some((_, counters)) = self.ports.remote_mut(remote) {
                counters.rx_frames += count;
                counters.dropped_many(why, count);
            }
        }
        let mut copies = 0;
        while self.tunnel.as_mut().is_some_and(TunnelPort::has_inbound) {
            if copies >= SEGMENTS {
                return true;
            }
            copies += self.serve_inbound(now);
        }
        more
    }

    /// Sends the next few frames from the tunnel on their way; returns in how many copies.
    pub(super) fn serve_inbound(&mut self, now: Instant) -> usize {
        match self.observer {
            None => self.serve_all_inbound::<false>(now),
            Some(_) => self.serve_all_inbound::<true>(now),
        }
    }

    fn serve_all_inbound<const SEEN: bool>(&mut self, now: Instant) -> usize {
        let Some(tunnel) = &mut self.tunnel else { return 0 };
        let mut unknown = 0;
        let (inbound, inbox) = tunnel.inbound((SEGMENTS / self.tunnel_spread).clamp(1, CHUNK));
        self.load.read_at_once(inbound.len());
        let frames = inbound.iter().map(|frame| (frame.remote, frame.vlan, frame.head.bytes()));
        self.switch.ingress_remote_batch(now, frames, |switch, index, verdict| {
            let frame = &inbound[index];
            let Some((_, counters)) = self.ports.remote_mut(frame.remote) else {
                unknown += 1; // unknown to the switch as well
                if SEEN && let Some(observer) = &mut self.observer {
                    observer.see_tunnel(frame.head.bytes(), tail(inbox, frame.tail()), DecapDrop::UnknownVtep);
                }
                return;
            };
            let before = self.outbox.copies();
            counters.received(frame.len());
            match verdict {
                Verdict::Drop(why) => counters.dropped(why),
                verdict => {
                    charge(switch, now, &verdict, &frame.head.offload, frame.len());
                    if let Verdict::Flood(flood) = &verdict {
                        self.neighbours.listen(now, frame.remote, true, flood.vlan(), frame.head.bytes());
                    }
                    gather(switch, &self.ports, &mut self.outbox, &verdict, index);
                }
            }
            if SEEN && let Some(observer) = &mut self.observer {
                let copies = self.outbox.copies() - before;
                let sight = Sight::of_remote(frame, (&verdict, copies));
                observer.see(sight, tail(inbox, frame.tail()));
            }
        });
        if !self.watches.is_empty() {
            inbound.iter().for_each(|frame| asking::look(&mut self.watches, now, frame.remote, frame.head.bytes()));
        }
        for &target in self.outbox.taps() {
            let Some((tap, counters, limits)) = self.ports.limited_tap_mut(target) else { continue };
            let mut shaper = limits.and_then(|limits| limits.tx.as_mut());
            for out in self.outbox.to_tap(target) {
                let len = inbound[out.frame].len();
                let (head, pieces) = inbound[out.frame].parts();
                let payload = tail(inbox, pieces);
                head.retag(out.egress.tag);
                let sent = leave(now, tap, shaper.as_deref_mut(), head, payload.clone(), &mut self.scissors);
                if SEEN && let Some(observer) = &mut self.observer {
                    see_departure(observer, out, sent, head.bytes(), payload);
                }
                match sent {
                    Ok(Passage::Left) => counters.sent(len),
                    // The rest is counted when it leaves.
                    Ok(Passage::Waits { refused }) => counters.dropped_many(PortDrop::RateLimited, refused),
                    Err(PortDrop::TooBig) => self.oversize.push(out.oversize(None, tap.mtu())),
                    Err(why) => counters.dropped(why),
                }
                head.retag(None);
            }
            if let Some(at) = shaper.and_then(|shaper| shaper.alarm(now)) {
                self.alarms.set(at, Alarm::Release(target));
            }
        }
        let copies = self.outbox.copies();
        self.tunnel_spread = copies.div_ceil(inbound.len().max(1)).max(1);
        self.outbox.clear();
        let mut answers = Vec::new();
        for oversize in self.oversize.drain(..) {
            let frame = &inbound[oversize.frame];
            if SEEN && let Some(observer) = &mut self.observer {
                observer.see(oversize.seen(frame.remote, &frame.head), tail(inbox, frame.tail()));
            }
            answers.extend(refuse(&mut self.ports, now, frame.remote, &oversize, &frame.head));
        }
        if unknown > 0 {
            tunnel.counters_mut().dropped_many(DecapDrop::UnknownVtep, unknown);
        }
        self.deliver(now, answers);
        copies
    }
}

/// The payload that lies in `inbox` as `pieces` say.
fn tail<'a>(inbox: &'a Inbox, pieces: &'a [Tail]) -> impl Iterator<Item = &'a [u8]> + Clone {
    pieces.iter().map(|piece| &inbox.bytes(piece.buffer)[piece.range.clone()])
}
