//! Frames of the switch's own: what it announces, and what it answers.

use vswitch_core::switch::{Egress, PortId};
use vswitch_core::{Frame, Instant, VlanId};

use super::super::batch::{FEWEST, Share};
use super::super::datapath::Datapath;
use super::decide::gather;
use crate::observe::{Fate, Sight};

/// A frame of the switch's own, where it goes.
pub(in super::super) type Answer = (PortId, VlanId, Frame);

impl Datapath {
    /// Sends `frames` on their way as if `port` had sent them, between two turns. They are counted where they leave, and
    /// not as the port's, whose container sent nothing; nor are those that go nowhere, as where it is alone in its VLAN.
    pub(in super::super) fn announce(&mut self, now: Instant, port: PortId, frames: &[Frame]) {
        for some in frames.chunks(FEWEST) {
            self.batch.begin(Share::new(1, 1, 1));
            for frame in some {
                if self.batch.next().is_some_and(|room| room.assign(frame.bytes())) {
                    self.batch.keep();
                }
            }
            let bytes = self.batch.frames().iter().map(Frame::bytes);
            self.switch.ingress_batch(now, port, bytes, |switch, index, verdict| {
                gather(switch, &self.ports, &mut self.outbox, &verdict, index);
            });
            match self.observer {
                None => self.write_out::<false>(now),
                Some(_) => self.write_out::<true>(now),
            }
            self.outbox.clear();
            self.oversize.clear();
        }
    }

    /// Sends frames of the switch's own.
    pub(in super::super) fn deliver(&mut self, now: Instant, answers: Vec<Answer>) {
        for (port, vlan, mut frame) in answers {
            let len = frame.len();
            if let Some((tap, counters)) = self.ports.tap_mut(port) {
                let sent = tap.write(&mut frame, std::iter::empty(), &mut self.scissors);
                match sent {
                    Ok(()) => counters.sent(len),
                    Err(why) => counters.dropped(why),
                }
                if let Some(observer) = &mut self.observer {
                    let fate = sent.map_or_else(|why| Fate::Dropped(why.into()), |()| Fate::Left);
                    observer.see_whole(Sight::departure(port, Some(vlan), fate, frame.bytes()));
                }
            } else if let (Some((remote, counters)), Some(tunnel)) = (self.ports.remote_mut(port), &mut self.tunnel) {
                let mut fate = Fate::Left;
                match tunnel.push(now, 0, &frame, vlan, remote) {
                    Ok(_) => counters.sent(len), // nothing waits that it could overtake
                    Err(why) => {
                        counters.dropped(why);
                        fate = Fate::Dropped(why);
                    }
                }
                tunnel.flush(core::slice::from_ref(&frame), &mut self.failures);
                for failure in self.failures.drain(..) {
                    counters.not_sent(len);
                    counters.dropped(failure.why);
                    fate = Fate::Dropped(failure.why.into());
                }
                if let Some(observer) = &mut self.observer {
                    let egress = Egress { port, vlan, tag: None };
                    observer.see_sent(core::slice::from_ref(&frame), 0, egress, fate);
                }
            }
        }
    }
}
