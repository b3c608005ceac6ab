//! The way of a frame through a worker, in the order it goes: read, decide, gather, write. One turn is one batch.

use vswitch_core::limit::wire_bytes;
use vswitch_core::switch::{Egress, PortId, Switch, Verdict};
use vswitch_core::{Frame, Instant, Offload, VlanId};
use vswitch_sys::Inbox;
use vtep::{DecapDrop, EncapDrop, Failure, Run, SendDrop, Tail};

use super::alarms::Alarm;
use super::asking;
use super::batch::{FEWEST, SEGMENTS, Share, is_to_group};
use super::datapath::Datapath;
use super::limits::{Limited, Passage, Shaper};
use super::outbox::{Outbox, Outgoing};
use super::oversize::Oversize;
use super::ports::{Device, Port, Ports};
use crate::drops::{Drop, PortDrop};
use crate::observe::{Fate, Observer, Sight, vlan_of};
use crate::port::carrier::{Entrance, Pushed};
use crate::port::tap::{Read, Scissors, TapPort};
use crate::port::tunnel::TunnelPort;
use crate::too_big;

/// Frames taken from the tunnel at once, before it is known what they cost.
const CHUNK: usize = 32;

/// What reading once leaves of a port's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Nothing, until the poll says so.
    Empty,
    /// More may wait.
    More,
    /// What the port's limit keeps there until an alarm goes off: nobody needs to wait on it.
    Held,
}

/// A frame of the switch's own, where it goes.
type Answer = (PortId, VlanId, Frame);

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

    fn read(&mut self, now: Instant, ingress: PortId, waiting: usize) -> Served {
        self.begin(ingress, waiting);
        let Some((tap, counters, limits)) = self.ports.limited_tap_mut(ingress) else { return Served::Empty };
        let rate = match limits {
            Some(Limited { is_held: true, .. }) => return Served::Empty, // an alarm is set
            Some(limits) => limits.rx.as_deref(),
            None => None,
        };
        while let Some(frame) = self.batch.next() {
            if let Some(Err(until)) = rate.map(|rate| rate.check(now)) {
                self.hold(now, ingress, until);
                return Served::Held;
            }
            match tap.read(frame) {
                Read::Frame => {
                    counters.received(frame.len());
                    if let Some(rate) = rate {
                        rate.charge(now, wire_bytes(frame.len(), &frame.offload));
                    }
                    self.batch.keep();
                }
                Read::Malformed => {
                    counters.received(frame.len());
                    counters.dropped(PortDrop::BadOffload);
                    if let Some(observer) = &mut self.observer {
                        let vlan = vlan_of(&self.switch, ingress, frame.bytes());
                        let fate = Fate::Dropped(PortDrop::BadOffload.into());
                        observer.see_whole(Sight::arrival(ingress, vlan, fate, frame.bytes()));
                    }
                }
                Read::Empty => return Served::Empty,
                Read::Lost => {
                    self.switch.remove_port(ingress);
                    self.has_news = true;
                    return Served::Empty;
                }
            }
        }
        Served::More
    }

    fn begin(&mut self, ingress: PortId, waiting: usize) {
        let spread = self.ports.get(ingress).map(|port| port.spread).unwrap_or_default();
        self.batch.begin(Share::new(waiting, spread.group.unwrap_or(self.ports.most()), spread.other));
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

    /// Takes the parts of the super-frame that a TAP port has begun, as many as one turn takes; false where there are none.
    fn read_parts(&mut self, ingress: PortId) -> bool {
        self.begin(ingress, 1);
        let Some((tap, counters)) = self.ports.tap_mut(ingress) else { return false };
        while let Some(frame) = self.batch.next()
            && tap.read_part(frame)
        {
            counters.received(frame.len());
            self.batch.keep();
        }
        !self.batch.frames().is_empty()
    }

    fn decide<const SEEN: bool>(&mut self, now: Instant, ingress: PortId) {
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

    fn write_to_taps<const SEEN: bool>(&mut self, now: Instant) {
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

    fn send_to_remotes<const SEEN: bool>(&mut self, now: Instant) {
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

    /// Takes frames from the tunnel and sends them on their way, until they went out in [`SEGMENTS`] copies; false once
    /// nothing is left to receive. What a turn leaves of a batch the next one takes, by whichever entrance it came.
    pub(crate) fn serve_tunnel(&mut self, now: Instant, entrance: Entrance) -> bool {
        let Some(tunnel) = &mut self.tunnel else { return false };
        // Where some was left nothing is known of the entrance.
        let more = tunnel.has_inbound() || tunnel.receive(entrance, self.observer.as_deref_mut());
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
    fn serve_inbound(&mut self, now: Instant) -> usize {
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

    /// Sends `frames` on their way as if `port` had sent them, between two turns. They are counted where they leave, and
    /// not as the port's, whose container sent nothing; nor are those that go nowhere, as where it is alone in its VLAN.
    pub(super) fn announce(&mut self, now: Instant, port: PortId, frames: &[Frame]) {
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
    pub(super) fn deliver(&mut self, now: Instant, answers: Vec<Answer>) {
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

impl Outgoing {
    /// This frame as one that did not fit: its sender is told, unless other copies of it went elsewhere.
    fn oversize(&self, tag: Option<vswitch_core::Tag>, mtu: u16) -> Oversize {
        let mtu = (!self.is_flooded).then_some(mtu);
        Oversize { frame: self.frame, vlan: self.egress.vlan, tag, mtu }
    }
}

/// Counts a frame from `ingress` that did not fit, and answers its sender where that may be.
fn refuse(ports: &mut Ports, now: Instant, ingress: PortId, oversize: &Oversize, frame: &Frame) -> Option<Answer> {
    let port = ports.get_mut(ingress)?;
    port.counters.dropped(PortDrop::TooBig);
    let mtu = oversize.mtu.filter(|_| port.answers.allows(now))?;
    let mut answer = too_big::answer(frame, mtu)?;
    answer.retag(oversize.tag);
    Some((ingress, oversize.vlan, answer))
}

/// Writes a frame to a TAP port, through its limit where it has one.
#[inline]
fn leave<'a>(
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
fn see_departure<'a>(
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

/// The payload that lies in `inbox` as `pieces` say.
fn tail<'a>(inbox: &'a Inbox, pieces: &'a [Tail]) -> impl Iterator<Item = &'a [u8]> + Clone {
    pieces.iter().map(|piece| &inbox.bytes(piece.buffer)[piece.range.clone()])
}

/// Begins a run with `first`; returns how many of the `others` leave in one super-frame with it.
fn join(run: &mut Run, first: &Outgoing, others: &[Outgoing], frames: &[Frame]) -> usize {
    if others.is_empty() {
        return 0;
    }
    run.begin(first.frame, &frames[first.frame]);
    let same_way = others.iter().take_while(|out| out.egress == first.egress);
    same_way.take_while(|out| run.takes(out.frame, &frames[out.frame])).count()
}

/// A flooded super-frame of `len` bytes costs its port as much as the frames that it is cut to.
fn charge(switch: &Switch, now: Instant, verdict: &Verdict, offload: &Offload, len: usize) {
    if let (Verdict::Flood(flood), Some(gso)) = (verdict, offload.gso) {
        switch.charge_flood(now, flood, gso.frames(len) - 1);
    }
}

/// Step 8: what leaves, by where it leaves.
fn gather(switch: &Switch, ports: &Ports, outbox: &mut Outbox, verdict: &Verdict, frame: usize) {
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
