//! The switch decides on a batch, and what leaves is gathered by where it leaves.

use vswitch_core::switch::{Egress, PortId, Switch, Verdict};
use vswitch_core::{Frame, Instant, Offload};

use super::super::batch::is_to_group;
use super::super::datapath::Datapath;
use super::super::outbox::{Outbox, Outgoing};
use super::super::ports::Ports;

impl Datapath {
    pub(super) fn decide<const SEEN: bool>(&mut self, now: Instant, ingress: PortId) {
        let frames = self.batch.frames().iter().map(Frame::bytes);
        let mut to_groups = 0;
        self.switch.ingress_batch(now, ingress, frames, |switch, index, verdict| {
            let copies = self.outbox.copies();
            match verdict {
                Verdict::Drop(why) => self.ports.dropped(ingress, why),
                verdict => {
                    let frame = &self.batch.frames()[index];
                    charge(switch, now, &verdict, &frame.offload, frame.len());
                    if let Verdict::Flood(flood) = &verdict {
                        self.neighbours.listen(now, ingress, false, flood.vlan(), frame.bytes());
                    }
                    gather(switch, &self.ports, &mut self.outbox, &verdict, index);
                    if is_to_group(frame) {
                        to_groups += self.outbox.copies() - copies;
                    }
                }
            }
            if SEEN && let Some(observer) = &mut self.observer {
                let copies = self.outbox.copies() - copies;
                let bytes = self.batch.frames()[index].bytes();
                observer.see_arrival((switch, ingress), (&verdict, copies), bytes);
            }
        });
        if !self.watches.is_empty() {
            self.look_for_answers(now, ingress);
        }
        if let Some(port) = self.ports.get_mut(ingress) {
            let groups = self.batch.groups();
            port.spread.note_groups(groups, to_groups);
            port.spread.note_others(self.batch.frames().len() - groups, self.outbox.copies() - to_groups);
        }
    }
}

/// A flooded super-frame of `len` bytes costs its port as much as the frames that it is cut to.
#[inline]
pub(super) fn charge(switch: &Switch, now: Instant, verdict: &Verdict, offload: &Offload, len: usize) {
    if let (Verdict::Flood(flood), Some(gso)) = (verdict, offload.gso) {
        switch.charge_flood(now, flood, gso.frames(len) - 1);
    }
}

/// What leaves, by where it leaves.
#[inline]
pub(super) fn gather(switch: &Switch, ports: &Ports, outbox: &mut Outbox, verdict: &Verdict, frame: usize) {
    let mut push = |egress: Egress, is_flooded| {
        let out = Outgoing { frame, egress, is_flooded };
        if ports.is_remote(egress.port) { outbox.push_to_remote(out) } else { outbox.push_to_tap(out) }
    };
    match verdict {
        Verdict::Unicast(egress) => push(*egress, false),
        Verdict::Flood(flood) => switch.flood_targets(flood).for_each(|egress| push(egress, true)),
        Verdict::Drop(_) => {}
    }
}
