//! Answers in the fields that scripts rely on: ports, VLANs, the VTEP and its peers.

use serde::Serialize;
use serde_json::Value;
use vswitch_api::{
    Code, Desired, LimitsInfo, Mac, ModeInfo, Offload, PeerInfo, PeerSpec, PeerVlans, PortInfo, PortName, PortSpec,
    PortState, RpcError, Vid, VlanInfo, VtepInfo,
};

use super::{Control, ControlError};
use crate::network::PortSetup;

pub(super) type Answer = Result<Value, RpcError>;

impl Control {
    pub(super) fn port(&self, name: &PortName) -> Result<&PortSpec, RpcError> {
        self.desired.port(name).ok_or_else(|| no_port(name.as_str()))
    }

    /// Asks one worker, for all know the same of it.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut crate::worker::Worker) -> R + Send + 'static,
    ) -> Result<R, RpcError> {
        self.workers.one(work).map_err(|error| ControlError::from(error).into())
    }

    pub(super) fn port_info(&self, spec: &PortSpec) -> PortInfo {
        let setup = self.network.ports.get(&spec.name).map(AsRef::as_ref);
        port_info(spec, setup, self.live.get(&spec.name).map(|port| port.offloads))
    }

    pub(super) fn vlan_info(&self, vlan: Vid) -> VlanInfo {
        vlan_info(&self.desired, vlan)
    }

    pub(super) fn vtep_info(&self) -> Result<VtepInfo, RpcError> {
        Ok(VtepInfo {
            ip: self.vtep_ip(),
            port: self.vtep_port,
            underlay_mtu: self.site.underlay.map(|underlay| underlay.mtu.into()),
            overlay_mtu: self.site.underlay.map(|underlay| underlay.inner_mtu().into()),
            underlay: self.ask(|worker| worker.datapath.carried_by())?,
            peers: self.desired.peers().count(),
        })
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        self.desired.peers().map(|peer| self.peer_info(peer)).collect()
    }

    pub(super) fn peer_info(&self, peer: &PeerSpec) -> PeerInfo {
        let vlans = self.desired.vlans().map(|spec| spec.vlan);
        PeerInfo {
            ip: peer.ip,
            all_vlans: peer.vlans == PeerVlans::All,
            vlans: vlans.filter(|&vlan| self.desired.is_peer_in(peer.ip, vlan)).collect(),
            health: self.health(peer.ip),
        }
    }
}

/// A port that comes to `setup`; `granted` is what the kernel leaves to us, `None` where it is lost.
pub(super) fn port_info(
    spec: &PortSpec,
    setup: Option<&PortSetup>,
    granted: Option<vswitch_sys::Offloads>,
) -> PortInfo {
    PortInfo {
        name: spec.name.clone(),
        netns: spec.netns.clone(),
        ifname: spec.ifname.clone(),
        mac: setup.and_then(|setup| Mac::new(setup.mac.0).ok()),
        addresses: spec.addresses.clone(),
        mtu: setup.map_or(0, |setup| setup.mtu),
        mode: ModeInfo::from(&spec.mode),
        state: if granted.is_some() { PortState::Up } else { PortState::Lost },
        offloads: granted.map(offloads).unwrap_or_default(),
        allow_mac: setup.and_then(|setup| setup.allow_macs.clone()),
        allow_ip: setup.and_then(|setup| setup.allow_ips.clone()),
        limits: LimitsInfo::of(&spec.limits),
        attachment: spec.attachment.clone(),
        gateway_of: spec.gateway_of.clone(),
    }
}

/// A VLAN of `desired`.
pub(super) fn vlan_info(desired: &Desired, vlan: Vid) -> VlanInfo {
    let spec = desired.vlan(vlan);
    VlanInfo {
        vlan,
        vni: spec.and_then(|spec| spec.vni),
        name: spec.and_then(|spec| spec.name.clone()),
        learning: spec.is_none_or(|spec| spec.learning),
        ports: desired.ports_in(vlan).map(|port| port.name.clone()).collect(),
        peers: desired.peers_in(vlan).collect(),
    }
}

pub(super) fn json(value: impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| RpcError::new(Code::Internal, error.to_string()))
}

pub(super) fn no_port(name: &str) -> RpcError {
    RpcError::new(Code::NotFound, format!("there is no port {name:?}; `vsctl port list` shows those there are"))
}

pub(super) fn offloads(granted: vswitch_sys::Offloads) -> Vec<Offload> {
    let vswitch_sys::Offloads { checksum, tso4, tso6, tso_ecn, uso } = granted;
    let named = [
        (checksum, Offload::Checksum),
        (tso4, Offload::Tso4),
        (tso6, Offload::Tso6),
        (tso_ecn, Offload::TsoEcn),
        (uso, Offload::Uso),
    ];
    named.into_iter().filter_map(|(on, offload)| on.then_some(offload)).collect()
}
