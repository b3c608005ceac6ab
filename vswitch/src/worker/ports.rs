//! The ports of a worker, by number.

use std::net::SocketAddr;

use vswitch_core::switch::PortId;

use super::limits::Limited;
use super::oversize::AnswerRate;
use crate::counters::Counters;
use crate::drops::Drop;
use crate::port::tap::TapPort;
use crate::port::tunnel::Remote;

/// What stands behind a port's number.
#[derive(Debug)]
pub(super) enum Device {
    Tap(TapPort),
    Remote(Remote),
}

#[derive(Debug)]
pub(super) struct Port {
    /// For the log: `port red`, `remote 192.0.2.2`.
    pub(super) name: String,
    pub(super) device: Device,
    pub(super) counters: Counters,
    pub(super) spread: Spread,
    /// How many of its senders may be told that a frame was too big.
    pub(super) answers: AnswerRate,
    /// What it may carry, where that is limited.
    pub(super) limits: Option<Box<Limited>>,
}

/// Copies that each of a port's frames went out in, when it last had such; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    /// To groups; `None` until there was one.
    pub(super) group: Option<usize>,
    /// To stations.
    pub(super) other: usize,
}

impl Spread {
    /// Notes that `frames` to groups went out in `copies`.
    pub(super) fn note_groups(&mut self, frames: usize, copies: usize) {
        if frames > 0 {
            self.group = Some(copies.div_ceil(frames).max(1));
        }
    }

    /// Notes that `frames` to stations went out in `copies`.
    pub(super) fn note_others(&mut self, frames: usize, copies: usize) {
        if frames > 0 {
            self.other = copies.div_ceil(frames).max(1);
        }
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self { group: None, other: 1 }
    }
}

/// The ports by number.
#[derive(Debug, Default)]
pub(super) struct Ports(Vec<Option<Port>>);

impl Ports {
    pub(super) fn get(&self, id: PortId) -> Option<&Port> {
        self.0.get(id.index())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.0.get_mut(id.index())?.as_mut()
    }

    /// Ports there can be: more than a frame for many goes to.
    pub(super) fn most(&self) -> usize {
        self.0.len()
    }

    pub(super) fn tap_mut(&mut self, id: PortId) -> Option<(&mut TapPort, &mut Counters)> {
        match self.get_mut(id)? {
            Port { device: Device::Tap(tap), counters, .. } => Some((tap, counters)),
            Port { device: Device::Remote(_), .. } => None,
        }
    }

    /// The same with what it may carry.
    pub(super) fn limited_tap_mut(
        &mut self,
        id: PortId,
    ) -> Option<(&mut TapPort, &mut Counters, Option<&mut Limited>)> {
        match self.get_mut(id)? {
            Port { device: Device::Tap(tap), counters, limits, .. } => Some((tap, counters, limits.as_deref_mut())),
            Port { device: Device::Remote(_), .. } => None,
        }
    }

    pub(super) fn remote_mut(&mut self, id: PortId) -> Option<(&mut Remote, &mut Counters)> {
        match self.get_mut(id)? {
            Port { device: Device::Remote(remote), counters, .. } => Some((remote, counters)),
            Port { device: Device::Tap(_), .. } => None,
        }
    }

    pub(super) fn is_remote(&self, id: PortId) -> bool {
        matches!(self.get(id), Some(Port { device: Device::Remote(_), .. }))
    }

    /// The number of the remote at `address`.
    pub(super) fn remote_at(&self, address: SocketAddr) -> Option<PortId> {
        let is_it = |port: &Port| matches!(&port.device, Device::Remote(remote) if remote.to == address);
        self.iter().find(|(_, port)| is_it(port)).map(|(id, _)| id)
    }

    /// Puts `device` at `id`; what was counted there stays.
    pub(super) fn set(&mut self, id: PortId, name: String, device: Device) {
        if self.0.len() <= id.index() {
            self.0.resize_with(id.index() + 1, || None);
        }
        let slot = &mut self.0[id.index()];
        let counters = slot.take().map(|port| port.counters).unwrap_or_default();
        let (spread, answers) = (Spread::default(), AnswerRate::default());
        *slot = Some(Port { name, device, spread, counters, answers, limits: None });
    }

    pub(super) fn remove(&mut self, id: PortId) -> Option<Port> {
        self.0.get_mut(id.index())?.take()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PortId, &Port)> {
        let numbered = (0..=u16::MAX).map(PortId::new).zip(&self.0);
        numbered.filter_map(|(id, port)| Some((id, port.as_ref()?)))
    }

    /// Counts a drop at `id`.
    pub(super) fn dropped(&mut self, id: PortId, why: impl Into<Drop>) {
        if let Some(port) = self.get_mut(id) {
            port.counters.dropped(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_cost_is_known_by_kind() {
        let mut spread = Spread::default();
        let mut note = |(groups, to_groups), (others, to_others)| {
            spread.note_groups(groups, to_groups);
            spread.note_others(others, to_others);
            (spread.group, spread.other)
        };
        // Frames and copies of either kind, and what is believed then.
        let table = [
            ((0, 0), (64, 64), (None, 1)),
            ((4, 4), (60, 60), (Some(1), 1)),
            ((3, 10), (0, 0), (Some(4), 1)),
            ((0, 0), (2, 1000), (Some(4), 500)),
            ((64, 0), (64, 0), (Some(1), 1)),
        ];
        for (groups, others, believed) in table {
            assert_eq!(note(groups, others), believed, "{groups:?}, {others:?}");
        }
    }
}
