//! The state an operator wants.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::pool::Cursor;
use super::{Ageing, PeerSpec, PeerVlans, PortSpec, StaticEntry, VlanSpec};
use crate::check::Refusal;
use crate::request::Change;
use crate::types::{ContainerId, IfName, Mac, Net, NetworkName, PortName, Vid};

/// The state an operator wants. It is consistent: the only ways to one are [`Desired::apply`] and reading a file, which
/// applies entry after entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "Tables")]
pub struct Desired {
    pub(crate) ageing: Ageing,
    pub(crate) vlans: BTreeMap<Vid, VlanSpec>,
    /// Shared with the states before and after it: of a thousand ports a change concerns one.
    pub(crate) ports: BTreeMap<PortName, Arc<PortSpec>>,
    pub(crate) peers: BTreeMap<IpAddr, PeerSpec>,
    pub(crate) fdb: BTreeMap<(Vid, Mac), StaticEntry>,
    /// The address last chosen in a VLAN's subnet.
    pub(crate) cursors: BTreeMap<(Vid, Net), IpAddr>,
}

impl Desired {
    /// How long learned addresses are kept.
    #[must_use]
    pub const fn ageing(&self) -> Ageing {
        self.ageing
    }

    /// The same state with another ageing.
    #[must_use]
    pub fn with_ageing(self, ageing: Ageing) -> Self {
        Self { ageing, ..self }
    }

    /// The same state, where the search for free addresses goes on as in `other`.
    #[must_use]
    pub fn with_cursors_of(self, other: &Self) -> Self {
        Self { cursors: other.cursors.clone(), ..self }
    }

    /// VLANs that have settings, in ascending order.
    pub fn vlans(&self) -> impl Iterator<Item = &VlanSpec> {
        self.vlans.values()
    }

    /// Ports by name.
    pub fn ports(&self) -> impl Iterator<Item = &PortSpec> {
        self.ports.values().map(AsRef::as_ref)
    }

    /// Remote VTEPs by address.
    pub fn peers(&self) -> impl Iterator<Item = &PeerSpec> {
        self.peers.values()
    }

    /// Static addresses by VLAN and MAC.
    pub fn statics(&self) -> impl Iterator<Item = &StaticEntry> {
        self.fdb.values()
    }

    /// The settings of `vlan`.
    #[must_use]
    pub fn vlan(&self, vlan: Vid) -> Option<&VlanSpec> {
        self.vlans.get(&vlan)
    }

    /// The port `name`.
    #[must_use]
    pub fn port(&self, name: &PortName) -> Option<&PortSpec> {
        self.ports.get(name).map(AsRef::as_ref)
    }

    /// The port that is interface `ifname` of `container`.
    #[must_use]
    pub fn attached(&self, container: &ContainerId, ifname: &IfName) -> Option<&PortSpec> {
        let is_it = |port: &&PortSpec| {
            port.ifname == *ifname
                && port.attachment.as_ref().is_some_and(|attachment| attachment.container == *container)
        };
        self.ports().find(is_it)
    }

    /// Whether a container is attached to `network`.
    #[must_use]
    pub fn is_attached_to(&self, network: &NetworkName) -> bool {
        self.ports().any(|port| port.attachment.as_ref().is_some_and(|attachment| attachment.network == *network))
    }

    /// Gateways of networks that no container is attached to.
    pub fn unused_gateways(&self) -> impl Iterator<Item = &PortSpec> {
        self.ports().filter(|port| port.gateway_of.as_ref().is_some_and(|network| !self.is_attached_to(network)))
    }

    /// The remote VTEP `ip`.
    #[must_use]
    pub fn peer(&self, ip: IpAddr) -> Option<&PeerSpec> {
        self.peers.get(&ip)
    }

    /// The VLANs there are: those with settings and those of untagged frames of some port. A trunk's list is a
    /// permission and makes no VLAN.
    #[must_use]
    pub fn known_vlans(&self) -> Vec<Vid> {
        let mut vlans: Vec<_> = self.ports().filter_map(|port| port.mode.untagged()).collect();
        vlans.extend(self.vlans.keys());
        vlans.sort_unstable();
        vlans.dedup();
        vlans
    }

    /// The members of `vlan` on this switch.
    pub fn ports_in(&self, vlan: Vid) -> impl Iterator<Item = &PortSpec> {
        self.ports().filter(move |port| port.mode.contains(vlan))
    }

    /// The remote VTEPs that get the frames of `vlan`; none where it has no VNI.
    pub fn peers_in(&self, vlan: Vid) -> impl Iterator<Item = IpAddr> {
        self.peers.keys().copied().filter(move |&ip| self.is_peer_in(ip, vlan))
    }

    /// Whether `ip` is a remote VTEP that gets the frames of `vlan`.
    #[must_use]
    pub fn is_peer_in(&self, ip: IpAddr, vlan: Vid) -> bool {
        let has_vni = self.vlan(vlan).is_some_and(|spec| spec.vni.is_some());
        has_vni
            && self.peer(ip).is_some_and(|peer| match &peer.vlans {
                PeerVlans::All => true,
                PeerVlans::Listed(vlans) => vlans.contains(vlan),
            })
    }

    /// The changes that lead from nothing to this state, each valid after those before it; but for the ageing and where
    /// the search for free addresses goes on.
    pub fn additions(&self) -> impl Iterator<Item = Change> {
        let vlans = self.vlans().cloned().map(Change::VlanAdd);
        let ports = self.ports().cloned().map(Change::PortAdd);
        let peers = self.peers().cloned().map(Change::PeerAdd);
        let fdb = self.statics().cloned().map(Change::FdbAdd);
        vlans.chain(ports).chain(peers).chain(fdb)
    }
}

impl Serialize for Desired {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cursor = |(&(vlan, subnet), &last): (&(Vid, Net), &IpAddr)| Cursor { vlan, subnet, last };
        let written = Written {
            ageing: self.ageing,
            vlan: self.vlans().collect(),
            port: self.ports().collect(),
            peer: self.peers().collect(),
            fdb: self.statics().collect(),
            cursor: self.cursors.iter().map(cursor).collect(),
        };
        written.serialize(serializer)
    }
}

/// The state as it is written.
#[derive(Serialize)]
struct Written<'a> {
    ageing: Ageing,
    vlan: Vec<&'a VlanSpec>,
    port: Vec<&'a PortSpec>,
    peer: Vec<&'a PeerSpec>,
    fdb: Vec<&'a StaticEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cursor: Vec<Cursor>,
}

/// The same as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tables {
    #[serde(default)]
    pub(super) ageing: Ageing,
    #[serde(default)]
    pub(super) vlan: Vec<VlanSpec>,
    #[serde(default)]
    pub(super) port: Vec<PortSpec>,
    #[serde(default)]
    pub(super) peer: Vec<PeerSpec>,
    #[serde(default)]
    pub(super) fdb: Vec<StaticEntry>,
    #[serde(default)]
    pub(super) cursor: Vec<Cursor>,
}

impl TryFrom<Tables> for Desired {
    type Error = Refusal;
    fn try_from(tables: Tables) -> Result<Self, Refusal> {
        let Tables { ageing, vlan, port, peer, fdb, cursor } = tables;
        let vlans = vlan.into_iter().map(Change::VlanAdd);
        let ports = port.into_iter().map(Change::PortAdd);
        let peers = peer.into_iter().map(Change::PeerAdd);
        let statics = fdb.into_iter().map(Change::FdbAdd);
        let mut desired = Self::default().with_ageing(ageing);
        for change in vlans.chain(ports).chain(peers).chain(statics) {
            (desired, _) = desired.apply_unbound(&change)?;
        }
        desired.cursors = cursor.into_iter().map(|Cursor { vlan, subnet, last }| ((vlan, subnet), last)).collect();
        Ok(desired)
    }
}
