//! Who gets a copy of a frame that goes to many.

use alloc::vec;
use alloc::vec::Vec;

use super::port::PortId;
use super::storm::FloodKind;
use super::verdict::Egress;
use super::vlan::{Classified, PortMode};
use crate::wire::vlan::VlanId;

/// A frame to flood: stands for the set of its ways out, which
/// [`flood_targets`](super::Switch::flood_targets) enumerates. It holds until ports change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    pub(crate) ingress: PortId,
    pub(crate) from_remote: bool,
    pub(crate) frame: Classified,
    pub(crate) kind: FloodKind,
}

impl Flood {
    /// The VLAN it travels in.
    #[must_use]
    pub const fn vlan(&self) -> VlanId {
        self.frame.vlan
    }

    /// Why it goes to many.
    #[must_use]
    pub const fn kind(&self) -> FloodKind {
        self.kind
    }

    /// The port it came in on.
    #[must_use]
    pub const fn ingress(&self) -> PortId {
        self.ingress
    }
}

/// The ports of every VLAN, in ascending order.
#[derive(Clone, Debug)]
pub(crate) struct Members(Vec<Vec<Member>>);

/// A port's part in one VLAN.
#[derive(Clone, Copy, Debug)]
struct Member {
    port: PortId,
    remote: bool,
    tagged: bool,
}

impl Members {
    pub(crate) fn new() -> Self {
        Self(vec![Vec::new(); usize::from(VlanId::MAX.get()) + 1])
    }

    /// Enters `port` in the VLANs of `mode`.
    pub(crate) fn add(&mut self, port: PortId, mode: &PortMode) {
        for vlan in mode.vlans() {
            let members = &mut self.0[usize::from(vlan.get())];
            let place = members.partition_point(|member| member.port < port);
            members.insert(place, Member { port, remote: mode.is_remote(), tagged: mode.is_tagged(vlan) });
        }
    }

    /// Takes `port` out of the VLANs of `mode`, which it was entered with.
    pub(crate) fn remove(&mut self, port: PortId, mode: &PortMode) {
        for vlan in mode.vlans() {
            self.0[usize::from(vlan.get())].retain(|member| member.port != port);
        }
    }

    /// The ways out of `flood`: every member but the ingress port, all remotes where that is one, and those
    /// that would bare a second tag.
    pub(crate) fn targets(&self, flood: Flood) -> impl Iterator<Item = Egress> + '_ {
        let Flood { ingress, from_remote, frame: Classified { vlan, tag, is_double }, kind: _ } = flood;
        let wanted = move |member: &&Member| {
            member.port != ingress && !(member.remote && from_remote) && (!is_double || member.tagged)
        };
        self.0[usize::from(vlan.get())].iter().filter(wanted).map(move |member| Egress {
            port: member.port,
            vlan,
            tag: member.tagged.then_some(tag),
        })
    }
}
