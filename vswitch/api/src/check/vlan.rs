//! Changes of VLANs.

use super::{Applied, Outcome, Refusal};
use crate::config::{Desired, FdbTarget, PeerVlans, VlanSpec};
use crate::types::Vid;

pub(super) fn add(mut desired: Desired, spec: &VlanSpec) -> Applied {
    if let Some(there) = desired.vlan(spec.vlan) {
        return if there == spec {
            Ok((desired, Outcome::UNCHANGED))
        } else {
            Err(Refusal::VlanExists { vlan: spec.vlan, there: describe(there), asked: describe(spec) })
        };
    }
    if let Some(vni) = spec.vni
        && let Some(by) = desired.vlans().find(|other| other.vni == Some(vni))
    {
        return Err(Refusal::VniTaken { vni, by: by.vlan, vlan: spec.vlan });
    }
    desired.vlans.insert(spec.vlan, spec.clone());
    Ok((desired, Outcome::CHANGED))
}

/// Ports do not stand in the way, since a port needs no settings of its VLAN; whatever needs the VNI does.
pub(super) fn del(mut desired: Desired, vlan: Vid) -> Applied {
    if desired.vlan(vlan).is_none() {
        let ports = names(&desired, vlan);
        return Err(if ports.is_empty() { Refusal::NoVlan { vlan } } else { Refusal::VlanImplicit { vlan, ports } });
    }
    let listed = |vlans: &PeerVlans| matches!(vlans, PeerVlans::Listed(list) if list.contains(vlan));
    if let Some(peer) = desired.peers().find(|peer| listed(&peer.vlans)) {
        return Err(Refusal::VlanHasPeer { vlan, ip: peer.ip });
    }
    let remote = desired.statics().find(|e| e.vlan == vlan && matches!(e.target, FdbTarget::Remote(_)));
    if let Some(entry) = remote {
        return Err(Refusal::VlanHasStatic { vlan, mac: entry.mac, target: entry.target.clone() });
    }
    desired.vlans.remove(&vlan);
    let ports = names(&desired, vlan);
    let note = format!("VLAN {vlan} still joins {ports} on this switch; move or delete them to empty it");
    let notes = if ports.is_empty() { Vec::new() } else { vec![note] };
    Ok((desired, Outcome { changed: true, notes }))
}

/// The ports whose untagged frames are in `vlan`, for a sentence.
fn names(desired: &Desired, vlan: Vid) -> String {
    let ports = desired.ports().filter(|port| port.mode.untagged() == Some(vlan));
    ports.map(|port| format!("port {}", port.name)).collect::<Vec<_>>().join(", ")
}

fn describe(spec: &VlanSpec) -> String {
    let vni = spec.vni.map_or_else(|| "no VNI".to_owned(), |vni| format!("VNI {vni}"));
    let name =
        spec.name.as_ref().map_or_else(|| "no name".to_owned(), |name| format!("name {name:?}", name = name.as_str()));
    format!("{vni}, {name}, learning {}", if spec.learning { "on" } else { "off" })
}
