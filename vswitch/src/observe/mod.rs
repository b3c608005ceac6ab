//! Who looks on: every frame that comes in, leaves or is dropped, for those who watch now ([`stream`]) and for those who
//! ask later ([`recorder`]).
//!
//! A worker has an [`Observer`] while somebody watches or the flight recorder runs; else it has none, and a frame pays for
//! that with one branch. The rules, which make what is seen add up to the counters:
//!
//! - a frame that comes in on a port is seen there once, with where it goes or why it goes nowhere;
//! - a frame that leaves is seen at the port it leaves on, with the tag it leaves with, once it has left;
//! - a frame that is dropped later than on its way in is seen once more, at the port that counts the drop. That is the one
//!   it was to leave on, but for `too_big`, which its sender's port counts;
//! - a datagram that does not become a frame of a remote is seen at the tunnel, outer headers and all.

mod feed;
mod filter;
mod names;
mod outer;
mod recorder;
mod stream;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use vswitch_api::record::Direction;
use vswitch_core::switch::{Egress, PortId, PortMode, Switch, Verdict};
use vswitch_core::wire::vlan::TAG_LEN;
use vswitch_core::{Frame, Instant, VlanId};
use vtep::Inbound;

pub(crate) use feed::{Feed, Outlet};
pub(crate) use filter::Filter;
pub(crate) use names::NameTable;
pub(crate) use outer::Ends;
pub(crate) use recorder::{Memory, NoRecorder, RecorderSpec, Slot};
pub(crate) use stream::Subscription;

use crate::drops::Drop;
use filter::View;
use names::Names;
use recorder::Recorder;
use stream::Capture;

/// Where the tag stands in a frame.
const MACS: usize = 12;
/// How long the distance between the workers' clock and the time of day is believed.
const EPOCH: Duration = Duration::from_secs(1);

/// Where a frame is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Port(PortId),
    /// No remote's in particular.
    Tunnel,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is to leave on that port.
    To(PortId),
    /// It is to leave in so many copies.
    Flood(u32),
    /// It has left.
    Left,
    Dropped(Drop),
}

/// A frame as it is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) place: Place,
    pub(crate) direction: Direction,
    pub(crate) fate: Fate,
    pub(crate) vlan: Option<VlanId>,
    /// Its bytes, or the first of them.
    pub(crate) bytes: &'a [u8],
    /// Whether the tag among them is none of it.
    pub(crate) untagged: bool,
}

impl<'a> Sight<'a> {
    /// A frame that came in.
    pub(crate) const fn arrival(port: PortId, vlan: Option<VlanId>, fate: Fate, bytes: &'a [u8]) -> Self {
        Self { place: Place::Port(port), direction: Direction::In, fate, vlan, bytes, untagged: false }
    }

    /// A frame that leaves.
    pub(crate) const fn departure(port: PortId, vlan: Option<VlanId>, fate: Fate, bytes: &'a [u8]) -> Self {
        Self { place: Place::Port(port), direction: Direction::Out, fate, vlan, bytes, untagged: false }
    }

    /// A frame that came from a remote, and is to leave as `verdict` says, in `copies`.
    pub(crate) fn of_remote(frame: &'a Inbound, (verdict, copies): (&Verdict, usize)) -> Self {
        let (_, fate) = fate(verdict, copies);
        Self::arrival(frame.remote, Some(frame.vlan), fate, frame.head.bytes())
    }

    /// The same frame on its way to a remote, where it bears no tag.
    const fn to_remote(self) -> Self {
        Self { untagged: true, ..self }
    }
}

/// One worker's view for others.
#[derive(Debug)]
pub(crate) struct Observer {
    now: Instant,
    epoch: Epoch,
    names: Names,
    captures: Vec<Capture>,
    recorder: Option<Recorder>,
    /// Frames on their way to remotes, of which it is not known yet whether they leave.
    sending: Vec<Sending>,
    /// For headers that are written anew.
    scratch: Vec<u8>,
    /// Drops that were told, by reason.
    #[cfg(test)]
    pub(crate) told: std::collections::BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    frame: usize,
    egress: Egress,
}

/// What the workers' clock is in the time of day.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epoch {
    /// Nanoseconds from 1970 to the workers' zero.
    start: u64,
    /// When that was looked up.
    at: Option<Instant>,
}

impl Epoch {
    /// As of now.
    pub(crate) fn now() -> Self {
        let mut epoch = Self::default();
        epoch.refresh(crate::clock::now());
        epoch
    }

    fn refresh(&mut self, now: Instant) {
        if self.at.is_none_or(|at| now.since(at) >= EPOCH) {
            let day = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default();
            let run = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
            self.start = u64::try_from(day.saturating_sub(run).as_nanos()).unwrap_or(u64::MAX);
            self.at = Some(now);
        }
    }

    /// Nanoseconds since 1970.
    pub(crate) const fn of(&self, moment: Instant) -> u64 {
        self.start.saturating_add(moment.as_nanos())
    }
}

impl Observer {
    /// One that knows the ports `named`: number, name, whether it is a remote.
    pub(crate) fn new<'a>(now: Instant, named: impl Iterator<Item = (PortId, &'a str, bool)>) -> Box<Self> {
        let mut names = Names::default();
        named.for_each(|(port, name, is_remote)| names.set(now, port, name, is_remote));
        let mut observer = Self {
            now,
            epoch: Epoch::default(),
            names,
            captures: Vec::new(),
            recorder: None,
            sending: Vec::new(),
            scratch: Vec::new(),
            #[cfg(test)]
            told: std::collections::BTreeMap::new(),
        };
        observer.epoch.refresh(now);
        Box::new(observer)
    }

    /// Port `id` is called `name` from now on.
    pub(crate) fn name(&mut self, id: PortId, name: &str, is_remote: bool) {
        self.names.set(self.now, id, name, is_remote);
    }

    /// There is no port `id` any more.
    pub(crate) fn forget(&mut self, id: PortId) {
        self.names.remove(self.now, id);
    }

    /// Adds one who watches.
    pub(crate) fn add(&mut self, subscription: Subscription) {
        self.captures.push(Capture::new(subscription, self.now));
    }

    /// Records from now on.
    pub(crate) fn record(&mut self, spec: RecorderSpec) {
        self.recorder = Some(Recorder::new(spec));
    }

    /// What was recorded since `since`, from number `from` on; at most some thousand. `None` where nothing is recorded.
    pub(crate) fn recorded(&self, since: Instant, from: Option<u64>) -> Option<Memory> {
        Some(self.recorder.as_ref()?.recall(since, from))
    }

    /// What the numbers in a [`Memory`] stand for.
    pub(crate) fn name_table(&self) -> NameTable {
        self.names.table()
    }

    /// A frame passes, or not. More of its bytes lie in `tail`.
    #[inline(never)]
    pub(crate) fn see<'a>(&mut self, sight: Sight<'a>, tail: impl Iterator<Item = &'a [u8]> + Clone) {
        let tag = if sight.untagged && has_tag(sight.bytes) { TAG_LEN } else { 0 };
        let (macs, rest) = if tag > 0 { sight.bytes.split_at(MACS) } else { (&[][..], sight.bytes) };
        let rest = &rest[tag..];
        let len = macs.len() + rest.len() + tail.clone().map(<[u8]>::len).sum::<usize>();
        let pieces = [macs, rest].into_iter().filter(|piece| !piece.is_empty()).chain(tail);
        self.count(&sight);
        if let Some(recorder) = &mut self.recorder {
            recorder.note(self.now, &self.names, &sight, len, pieces.clone());
        }
        if self.captures.is_empty() {
            return;
        }
        let view = if self.captures.iter().any(Capture::looks_inside) {
            View::new(&self.names, &sight, pieces.clone())
        } else {
            View::new(&self.names, &sight, std::iter::empty())
        };
        for capture in &mut self.captures {
            capture.offer(self.now, &self.epoch, &self.names, &view, len, pieces.clone());
        }
    }

    /// A whole frame passes, or not.
    #[inline]
    pub(crate) fn see_whole(&mut self, sight: Sight<'_>) {
        match &mut self.recorder {
            // The one that runs all the time.
            Some(recorder) if self.captures.is_empty() && !sight.untagged => {
                recorder.note_whole(self.now, &self.names, &sight);
                self.count(&sight);
            }
            _ => self.see(sight, std::iter::empty()),
        }
    }

    /// For tests: that all drops are told.
    #[inline]
    fn count(&mut self, _sight: &Sight<'_>) {
        #[cfg(test)]
        if let Fate::Dropped(drop) = _sight.fate {
            *self.told.entry(drop.name()).or_default() += 1;
        }
    }

    /// A frame came in on a port, and is to leave as `verdict` says, in `copies`.
    pub(crate) fn see_arrival(
        &mut self,
        (switch, port): (&Switch, PortId),
        (verdict, copies): (&Verdict, usize),
        bytes: &[u8],
    ) {
        let (vlan, fate) = fate(verdict, copies);
        let vlan = vlan.or_else(|| vlan_of(switch, port, bytes));
        self.see_whole(Sight::arrival(port, vlan, fate, bytes));
    }

    /// A datagram is dropped that did not become a frame: it came from `from` to `to`, marked `tos`.
    pub(crate) fn see_datagram(&mut self, ends: Ends, datagram: &[u8], why: Drop) {
        let mut headers = std::mem::take(&mut self.scratch);
        outer::write(&mut headers, &ends, datagram.len());
        self.see_tunnel(&headers, std::iter::once(datagram), why);
        self.scratch = headers;
    }

    /// What concerns no remote is dropped.
    pub(crate) fn see_tunnel<'a>(
        &mut self,
        bytes: &'a [u8],
        tail: impl Iterator<Item = &'a [u8]> + Clone,
        why: impl Into<Drop>,
    ) {
        let fate = Fate::Dropped(why.into());
        let place = Place::Tunnel;
        self.see(Sight { place, direction: Direction::In, fate, vlan: None, bytes, untagged: false }, tail);
    }

    /// Frame number `frame` of the batch is about to leave by the tunnel.
    pub(crate) fn sends(&mut self, frame: usize, egress: Egress) {
        self.sending.push(Sending { frame, egress });
    }

    /// It did not leave to remote `port` after all, but was dropped for `why`; `None` where that is told elsewhere.
    pub(crate) fn failed(&mut self, frames: &[Frame], frame: usize, port: PortId, why: Option<Drop>) {
        let is_it = |sending: &Sending| (sending.frame, sending.egress.port) == (frame, port);
        let Some(place) = self.sending.iter().position(is_it) else { return };
        let Sending { egress, .. } = self.sending.swap_remove(place);
        if let Some(why) = why {
            self.see_sent(frames, frame, egress, Fate::Dropped(why));
        }
    }

    /// A frame leaves to a remote, or is dropped on the way.
    pub(crate) fn see_sent(&mut self, frames: &[Frame], frame: usize, egress: Egress, fate: Fate) {
        let bytes = frames[frame].bytes();
        self.see_whole(Sight::departure(egress.port, Some(egress.vlan), fate, bytes).to_remote());
    }

    /// All others have left.
    pub(crate) fn settle(&mut self, frames: &[Frame]) {
        let mut sending = std::mem::take(&mut self.sending);
        for Sending { frame, egress } in sending.drain(..) {
            self.see_sent(frames, frame, egress, Fate::Left);
        }
        self.sending = sending;
    }

    /// Does what is due; to be called with every turn's moment before its frames.
    pub(crate) fn tend(&mut self, now: Instant) {
        self.now = now;
        self.epoch.refresh(now);
        if self.deadline().is_some_and(|at| at <= now) {
            self.flush();
        }
    }

    /// When [`Self::tend`] has something to do although no frame comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.captures.iter().filter_map(Capture::deadline).min()
    }

    /// Sends what was seen to those who watch; false where nobody does any more.
    pub(crate) fn flush(&mut self) -> bool {
        let Self { captures, names, now, .. } = self;
        captures.retain_mut(|capture| capture.flush(*now, names));
        !self.captures.is_empty() || self.recorder.is_some()
    }
}

/// What becomes of a frame as `verdict` says, in `copies`, and its VLAN where that says it.
fn fate(verdict: &Verdict, copies: usize) -> (Option<VlanId>, Fate) {
    match verdict {
        Verdict::Unicast(egress) => (Some(egress.vlan), Fate::To(egress.port)),
        Verdict::Flood(flood) => (Some(flood.vlan()), Fate::Flood(u32::try_from(copies).unwrap_or(u32::MAX))),
        Verdict::Drop(why) => (None, Fate::Dropped((*why).into())),
    }
}

/// The VLAN that a frame from `port` was in as far as can be told of one that is dropped.
pub(crate) fn vlan_of(switch: &Switch, port: PortId, bytes: &[u8]) -> Option<VlanId> {
    let tag = if has_tag(bytes) { bytes.get(MACS + 2..MACS + TAG_LEN) } else { None };
    let tagged = tag.and_then(|tci| VlanId::new(u16::from_be_bytes([tci[0], tci[1]]) & 0xfff));
    tagged.or_else(|| match switch.port_mode(port)? {
        PortMode::Access(vlan) => Some(*vlan),
        PortMode::Trunk { native, .. } => *native,
        PortMode::Remote { .. } => None,
    })
}

fn has_tag(bytes: &[u8]) -> bool {
    bytes.get(MACS..MACS + 2) == Some(&vswitch_core::wire::vlan::ETHERTYPE[..]) && bytes.len() >= MACS + TAG_LEN
}
