//! The way out through the tunnel, and what the kernel says of it.

use vswitch_core::Instant;
use vtep::{EncapDrop, Failure, SendDrop};

use super::super::datapath::Datapath;
use super::join;
use crate::drops::Drop;
use crate::observe::Fate;
use crate::port::carrier::Pushed;

impl Datapath {
    pub(super) fn send_to_remotes<const SEEN: bool>(&mut self, now: Instant) {
        let Some(tunnel) = self.tunnel.as_mut().filter(|_| !self.outbox.to_remotes().is_empty()) else { return };
        let frames = self.batch.frames();
        let mut waiting = self.outbox.to_remotes();
        // Frames that could not leave joined: to be pushed one by one.
        let mut single = 0_usize;
        while let [out, others @ ..] = waiting {
            waiting = others;
            let Some((remote, counters)) = self.ports.remote_mut(out.egress.port) else { continue };
            let frame = &frames[out.frame];
            let joined = if single == 0 && tunnel.joins() { join(&mut self.run, out, others, frames) } else { 0 };
            single = single.saturating_sub(1);
            if joined > 0 {
                let (head, tail) = self.run.finish();
                if tunnel.push_joined(now, out.frame, (head, tail), out.egress.vlan, remote) {
                    counters.sent(frame.len());
                    let (gone, rest) = others.split_at(joined);
                    gone.iter().for_each(|out| counters.sent(frames[out.frame].len()));
                    if SEEN && let Some(observer) = &mut self.observer {
                        [out].into_iter().chain(gone).for_each(|out| observer.sends(out.frame, out.egress));
                    }
                    waiting = rest;
                    continue;
                }
                single = joined;
            }
            let mut pushed = tunnel.push(now, out.frame, frame, out.egress.vlan, remote);
            if let Ok(Pushed::FlushFirst) = pushed {
                tunnel.flush(frames, &mut self.failures);
                pushed = tunnel.push(now, out.frame, frame, out.egress.vlan, remote);
            }
            match pushed {
                Ok(_) => counters.sent(frame.len()),
                Err(Drop::Encap(EncapDrop::TooBig)) => {
                    let tag = self.batch.tag(out.frame);
                    self.oversize.push(out.oversize(tag, tunnel.inner_mtu(now, remote)));
                }
                Err(why) => counters.dropped(why),
            }
            if SEEN && let Some(observer) = &mut self.observer {
                match pushed {
                    Ok(_) => observer.sends(out.frame, out.egress),
                    Err(Drop::Encap(EncapDrop::TooBig)) => {} // seen when it is counted
                    Err(why) => observer.see_sent(frames, out.frame, out.egress, Fate::Dropped(why)),
                }
            }
            if tunnel.is_full() {
                tunnel.flush(frames, &mut self.failures);
            }
        }
        tunnel.flush(frames, &mut self.failures);
        let mut asked = None;
        for Failure { frame, to, why } in self.failures.drain(..) {
            let Some(id) = self.ports.remote_at(to) else { continue };
            let Some((remote, counters)) = self.ports.remote_mut(id) else { continue };
            counters.not_sent(frames[frame].len());
            if SEEN && let Some(observer) = &mut self.observer {
                observer.failed(frames, frame, id, (why != SendDrop::PathMtu).then_some(why.into()));
            }
            if why != SendDrop::PathMtu {
                counters.dropped(why);
                continue;
            }
            // The kernel has just learned that the path there is narrower than the device.
            if asked.replace(to) != Some(to) {
                tunnel.learn_way(now, remote);
            }
            let sent = self.outbox.to_remotes().iter().find(|out| out.frame == frame && out.egress.port == id);
            if let Some(out) = sent {
                self.oversize.push(out.oversize(self.batch.tag(frame), tunnel.inner_mtu(now, remote)));
            }
        }
        if SEEN && let Some(observer) = &mut self.observer {
            observer.settle(frames);
        }
    }
}
