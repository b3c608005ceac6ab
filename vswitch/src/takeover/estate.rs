//! What a daemon that starts has from the one before it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use vswitch_api::PortName;
use vswitch_core::switch::PortId;
use vswitch_sys::Offloads;

use super::{Name, Snapshot};
use crate::port::handed::VxlanDescriptors;

/// What there is to inherit; each thing is given once.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    taps: BTreeMap<PortName, Vec<OwnedFd>>,
    ids: BTreeMap<PortName, PortId>,
    offloads: BTreeMap<PortName, Offloads>,
    remotes: BTreeMap<IpAddr, PortId>,
    /// Whether it is all there was: a port that is not in it was lost.
    is_whole: bool,
}

/// What there is of a port.
#[derive(Debug)]
pub(crate) enum Heirloom {
    /// Its queues, at work until just now, and its number: nothing else is to be done.
    Working { queues: Vec<OwnedFd>, id: PortId, offloads: Offloads },
    /// Its queues. Nobody looked after the interface for a while.
    Waiting { queues: Vec<OwnedFd>, id: Option<PortId> },
    /// It was lost.
    Lost,
    /// Nothing: it is to be made.
    Nothing { id: Option<PortId> },
}

impl Estate {
    /// What a running daemon hands over.
    pub(crate) fn working(snapshot: &Snapshot, descriptors: Vec<(Name, OwnedFd)>) -> (Self, VxlanDescriptors) {
        let (mut estate, vxlan) = Self::waiting(Some(snapshot), descriptors);
        let granted = |port: &super::PortRecord| (port.name.clone(), crate::control::granted(&port.offloads));
        estate.offloads = snapshot.ports.iter().map(granted).collect();
        estate.is_whole = true;
        (estate, vxlan)
    }

    /// What was kept while no daemon ran.
    pub(crate) fn waiting(snapshot: Option<&Snapshot>, descriptors: Vec<(Name, OwnedFd)>) -> (Self, VxlanDescriptors) {
        let mut estate = Self::default();
        if let Some(snapshot) = snapshot {
            estate.ids = snapshot.ports.iter().map(|port| (port.name.clone(), PortId::new(port.id))).collect();
            estate.remotes = snapshot.remotes.iter().map(|(ip, &id)| (*ip, PortId::new(id))).collect();
        }
        let mut vxlan = VxlanDescriptors::default();
        for (name, descriptor) in descriptors {
            match name {
                Name::Tap(port) => estate.taps.entry(port).or_default().push(descriptor),
                name => vxlan.add(&name, descriptor),
            }
        }
        (estate, vxlan)
    }

    /// Whether it is all there was: a daemon that runs hands it over.
    pub(crate) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether there are queues of port `name`.
    pub(crate) fn has(&self, name: &PortName) -> bool {
        self.taps.contains_key(name)
    }

    /// Takes what there is of port `name`.
    pub(crate) fn port(&mut self, name: &PortName) -> Heirloom {
        let id = self.ids.remove(name);
        match (self.taps.remove(name), id, self.offloads.remove(name)) {
            (Some(queues), Some(id), Some(offloads)) => Heirloom::Working { queues, id, offloads },
            (Some(queues), id, _) => Heirloom::Waiting { queues, id },
            (None, ..) if self.is_whole => Heirloom::Lost,
            (None, id, _) => Heirloom::Nothing { id },
        }
    }

    /// Takes the number of the remote at `address`.
    pub(crate) fn remote(&mut self, address: IpAddr) -> Option<PortId> {
        self.remotes.remove(&address)
    }

    /// Numbers that are promised to what was not taken yet.
    pub(crate) fn promised(&self) -> BTreeSet<PortId> {
        self.ids.values().chain(self.remotes.values()).copied().collect()
    }

    /// Ports that are not wanted any more, and what there is of them.
    pub(crate) fn unwanted(&mut self) -> Vec<(PortName, Vec<OwnedFd>)> {
        std::mem::take(&mut self.taps).into_iter().collect()
    }
}
