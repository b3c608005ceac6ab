//! The way of a frame through a worker, in the order it goes: read, decide, gather, write. One turn is one batch.

use vswitch_core::switch::{PortId, Switch, Verdict};
use vswitch_core::{Frame, Instant};

use super::datapath::Datapath;
use super::outbox::{Outbox, Outgoing};
use super::oversize::Refused;
use crate::drops::{Drop, PortDrop};
use crate::port::tap::Read;
use vtep::{EncapDrop, Inbound, Run};

impl Datapath {
    /// Reads one batch from a TAP port and sends it on its way; false once nothing is left to read.
    pub(crate) fn serve_tap(&mut self, now: Instant, ingress: PortId) -> bool {
        let more = self.read(ingress);
        if self.batch.frames().is_empty() {
            return more;
        }
        self.decide(now, ingress);
        self.write_to_taps();
        self.send_to_remotes(now);
        self.outbox.clear();
        self.answer_oversize(now, ingress);
        more
    }

    fn read(&mut self, ingress: PortId) -> bool {
        self.batch.clear();
        let Some((tap, counters)) = self.ports.tap_mut(ingress) else { return false };
        while let Some(frame) = self.batch.next() {
            match tap.read(frame) {
                Read::Frame => {
                    counters.received(frame.len());
                    self.batch.keep();
                }
                Read::Malformed => {
                    counters.received(frame.len());
                    counters.dropped(PortDrop::BadOffload);
                }
                Read::Empty => return false,
                Read::Lost => {
                    tracing::warn!(port = %ingress, "the interface is gone: the port is lost");
                    self.switch.remove_port(ingress);
                    return false;
                }
            }
        }
        true
    }

    fn decide(&mut self, now: Instant, ingress: PortId) {
        for (index, frame) in self.batch.frames().iter().enumerate() {
            match self.switch.ingress(now, ingress, frame.bytes()) {
                Verdict::Drop(why) => self.ports.dropped(ingress, why),
                verdict => gather(&self.switch, &mut self.outbox, &verdict, index),
            }
        }
    }

    fn write_to_taps(&mut self) {
        for &target in self.outbox.touched() {
            let Some((tap, counters)) = self.ports.tap_mut(target) else { continue };
            let queue = self.outbox.queue(target);
            for out in queue {
                self.batch.frames_mut()[out.frame].retag(out.egress.tag);
            }
            let mut waiting = queue;
            while let [first, others @ ..] = waiting {
                let frames = self.batch.frames_mut();
                let joined = if tap.takes_super_frames() { join(&mut self.run, first, others, frames) } else { 0 };
                let sent = if joined == 0 {
                    tap.write(&mut frames[first.frame], std::iter::empty(), &mut self.scissors)
                } else {
                    let (head, pieces) = self.run.finish();
                    let payload = pieces.iter().map(|(index, range)| &frames[*index].bytes()[range.clone()]);
                    tap.write(head, payload, &mut self.scissors)
                };
                let (gone, rest) = waiting.split_at(1 + joined);
                for out in gone {
                    match sent {
                        Ok(()) => counters.sent(self.batch.frames()[out.frame].len()),
                        Err(PortDrop::TooBig) => {
                            let (frame, vlan, tag) = (out.frame, out.egress.vlan, self.batch.tag(out.frame));
                            self.oversize.push(Refused { frame, vlan, tag, mtu: tap.mtu() });
                        }
                        Err(why) => counters.dropped(why),
                    }
                }
                waiting = rest;
            }
            // The next port, and the answer to its sender, want the frame as it came.
            for out in queue {
                let tag = self.batch.tag(out.frame);
                self.batch.frames_mut()[out.frame].retag(tag);
            }
        }
    }

    fn send_to_remotes(&mut self, now: Instant) {
        let Some(tunnel) = &mut self.tunnel else { return };
        for &target in self.outbox.touched() {
            let Some((remote, counters)) = self.ports.remote_mut(target) else { continue };
            for out in self.outbox.queue(target) {
                let frame = &self.batch.frames()[out.frame];
                match tunnel.push(now, out.frame, frame, out.egress.vlan, remote) {
                    Ok(()) => counters.sent(frame.len()),
                    Err(Drop::Encap(EncapDrop::TooBig)) => {
                        let mtu = tunnel.inner_mtu(now, remote);
                        let (vlan, tag) = (out.egress.vlan, self.batch.tag(out.frame));
                        self.oversize.push(Refused { frame: out.frame, vlan, tag, mtu });
                    }
                    Err(why) => counters.dropped(why),
                }
            }
        }
        let mut too_big = Vec::new();
        tunnel.flush(self.batch.frames(), |frame| too_big.push(frame));
        if too_big.is_empty() {
            return;
        }
        // The kernel has just learned that a path is narrower than the device. Rare, so looking again costs nothing.
        for &target in self.outbox.touched() {
            let Some((remote, _)) = self.ports.remote_mut(target) else { continue };
            tunnel.learn_path_mtu(now, remote);
            let mtu = tunnel.inner_mtu(now, remote);
            for out in self.outbox.queue(target).iter().filter(|out| too_big.contains(&out.frame)) {
                let tag = self.batch.tag(out.frame);
                self.oversize.push(Refused { frame: out.frame, vlan: out.egress.vlan, tag, mtu });
            }
        }
    }

    fn answer_oversize(&mut self, now: Instant, ingress: PortId) {
        while let Some(refused) = self.oversize.pop() {
            let frame = &self.batch.frames()[refused.frame];
            self.ports.dropped(ingress, PortDrop::TooBig);
            if let Some(answer) = self.oversize.answer(now, &refused, frame) {
                self.deliver(now, ingress, refused.vlan, answer);
            }
        }
    }

    /// Takes one batch from the tunnel and sends it on its way; false once nothing is left to receive.
    pub(crate) fn serve_tunnel(&mut self, now: Instant) -> bool {
        let Some(tunnel) = &mut self.tunnel else { return false };
        let more = tunnel.receive();
        let (inbound, inbox) = tunnel.inbound();
        for (index, frame) in inbound.iter().enumerate() {
            let Some((_, counters)) = self.ports.remote_mut(frame.remote) else { continue };
            counters.received(frame.len());
            match self.switch.ingress_remote(now, frame.remote, frame.vlan, frame.head.bytes()) {
                Verdict::Drop(why) => counters.dropped(why),
                verdict => gather(&self.switch, &mut self.outbox, &verdict, index),
            }
        }
        for &target in self.outbox.touched() {
            let Some((tap, counters)) = self.ports.tap_mut(target) else { continue };
            for out in self.outbox.queue(target) {
                let frame = &mut inbound[out.frame];
                let len = frame.len();
                let (head, tail) = frame.parts();
                let tail =
                    tail.iter().map(|piece| inbox.bytes(piece.buffer).get(piece.range.clone()).unwrap_or_default());
                head.retag(out.egress.tag);
                match tap.write(head, tail, &mut self.scissors) {
                    Ok(()) => counters.sent(len),
                    Err(PortDrop::TooBig) => {
                        let vlan = out.egress.vlan;
                        self.oversize.push(Refused { frame: out.frame, vlan, tag: None, mtu: tap.mtu() });
                    }
                    Err(why) => counters.dropped(why),
                }
                head.retag(None);
            }
        }
        self.outbox.clear();
        let mut answers = Vec::new();
        while let Some(refused) = self.oversize.pop() {
            let Inbound { remote, head, .. } = &inbound[refused.frame];
            self.ports.dropped(*remote, PortDrop::TooBig);
            if let Some(answer) = self.oversize.answer(now, &refused, head) {
                answers.push((*remote, refused.vlan, answer));
            }
        }
        for (remote, vlan, answer) in answers {
            self.deliver(now, remote, vlan, answer);
        }
        more
    }

    /// Sends a frame of the switch's own to `port`.
    fn deliver(&mut self, now: Instant, port: PortId, vlan: vswitch_core::VlanId, mut frame: Frame) {
        let len = frame.len();
        if let Some((tap, counters)) = self.ports.tap_mut(port) {
            match tap.write(&mut frame, std::iter::empty(), &mut self.scissors) {
                Ok(()) => counters.sent(len),
                Err(why) => counters.dropped(why),
            }
        } else if let (Some((remote, counters)), Some(tunnel)) = (self.ports.remote_mut(port), &mut self.tunnel) {
            match tunnel.push(now, 0, &frame, vlan, remote) {
                Ok(()) => counters.sent(len),
                Err(why) => counters.dropped(why),
            }
            tunnel.flush(core::slice::from_ref(&frame), |_| {});
        }
    }
}

/// Begins a run with `first`; returns how many of the `others` leave in one super-frame with it.
fn join(run: &mut Run, first: &Outgoing, others: &[Outgoing], frames: &[Frame]) -> usize {
    if others.is_empty() {
        return 0;
    }
    run.begin(first.frame, &frames[first.frame]);
    others.iter().take_while(|out| run.takes(out.frame, &frames[out.frame])).count()
}

/// Step 8: what leaves, by the port it leaves on.
fn gather(switch: &Switch, outbox: &mut Outbox, verdict: &Verdict, frame: usize) {
    match verdict {
        Verdict::Unicast(egress) => outbox.push(frame, *egress),
        Verdict::Flood(flood) => switch.flood_targets(flood).for_each(|egress| outbox.push(frame, egress)),
        Verdict::Drop(_) => {}
    }
}
