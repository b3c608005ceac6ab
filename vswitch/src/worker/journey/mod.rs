//! The way of a frame through a worker, in the order it goes: read, decide, gather, write. One turn is one batch.
//!
//! What came in on a TAP port passes [`read`], [`decide`], [`to_taps`] and [`to_remotes`]. What came through the tunnel lies
//! in other buffers, and passes [`from_tunnel`] alone. What nobody sent here, [`own`] sends.

mod decide;
mod from_tunnel;
mod own;
mod read;
mod to_remotes;
mod to_taps;

use vswitch_core::switch::PortId;
use vswitch_core::{Frame, Instant};
use vtep::Run;

pub(super) use own::Answer;
pub(super) use read::Served;

use super::datapath::Datapath;
use super::outbox::Outgoing;
use super::oversize::refuse;
use super::ports::{Device, Port};
use crate::port::tunnel::TunnelPort;

impl Datapath {
    /// Reads one batch from a TAP port, one of `waiting` sources, and sends it on its way.
    pub(crate) fn serve_tap(&mut self, now: Instant, ingress: PortId, waiting: usize) -> Served {
        let served = self.read(now, ingress, waiting);
        self.forward(now, ingress);
        served
    }

    /// Sends the batch, which came in on a TAP port, on its way.
    fn forward(&mut self, now: Instant, ingress: PortId) {
        match self.observer {
            None => self.forward_all::<false>(now, ingress),
            Some(_) => self.forward_all::<true>(now, ingress),
        }
    }

    /// The same, for those who look on where `SEEN`: asked once a batch, so that frames nobody looks at pay nothing for it.
    fn forward_all<const SEEN: bool>(&mut self, now: Instant, ingress: PortId) {
        if self.batch.frames().is_empty() {
            return;
        }
        self.load.read_at_once(self.batch.frames().len());
        self.decide::<SEEN>(now, ingress);
        self.write_out::<SEEN>(now);
        self.outbox.clear();
        let mut answers = Vec::new();
        for oversize in self.oversize.drain(..) {
            let frame = &self.batch.frames()[oversize.frame];
            if let Some(observer) = &mut self.observer {
                observer.see_whole(oversize.seen(ingress, frame));
            }
            answers.extend(refuse(&mut self.ports, now, ingress, &oversize, frame));
        }
        self.deliver(now, answers);
    }

    fn write_out<const SEEN: bool>(&mut self, now: Instant) {
        self.write_to_taps::<SEEN>(now);
        self.send_to_remotes::<SEEN>(now);
    }

    /// Sends what was read on its way, where a turn left some of it, and reads nothing new: of the tunnel what was received
    /// at once, of a port the parts of one super-frame, 16 at most.
    pub(crate) fn finish(&mut self, now: Instant) {
        while self.tunnel.as_mut().is_some_and(TunnelPort::has_inbound) {
            self.serve_inbound(now);
        }
        let is_cut = |port: &Port| matches!(&port.device, Device::Tap(tap) if tap.has_parts());
        let cut: Vec<_> = self.ports.iter().filter(|(_, port)| is_cut(port)).map(|(id, _)| id).collect();
        for port in cut {
            while self.read_parts(port) {
                self.forward(now, port);
            }
        }
        self.let_all_out(now);
    }
}

/// Begins a run with `first`; returns how many of the `others` leave in one super-frame with it.
#[inline]
fn join(run: &mut Run, first: &Outgoing, others: &[Outgoing], frames: &[Frame]) -> usize {
    if others.is_empty() {
        return 0;
    }
    run.begin(first.frame, &frames[first.frame]);
    let same_way = others.iter().take_while(|out| out.egress == first.egress);
    same_way.take_while(|out| run.takes(out.frame, &frames[out.frame])).count()
}
