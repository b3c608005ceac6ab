//! Changes of remote VTEPs.

use std::net::{IpAddr, Ipv4Addr};

use super::{Applied, Outcome, Refusal};
use crate::config::{Desired, FdbTarget, PeerSpec, PeerVlans};
use crate::types::Vid;

/// Whether the VTEP at `own` can send to `ip`.
pub(super) fn reachable(ip: IpAddr, own: Option<IpAddr>) -> Result<(), Refusal> {
    let Some(own) = own else { return Err(Refusal::NoVtep { ip }) };
    if ip == own {
        return Err(Refusal::PeerIsOwn { ip });
    }
    if ip.is_ipv4() != own.is_ipv4() {
        return Err(Refusal::PeerFamily { ip, own });
    }
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Err(Refusal::PeerLinkLocal { ip });
    }
    if ip.is_loopback() && !own.is_loopback() {
        return Err(Refusal::PeerLoopback { ip });
    }
    Ok(())
}

pub(super) fn add(mut desired: Desired, spec: &PeerSpec) -> Applied {
    let ip = spec.ip;
    unicast(ip)?;
    if let PeerVlans::Listed(vlans) = &spec.vlans {
        let local = vlans.iter().find(|&vlan| desired.vlan(vlan).is_none_or(|spec| spec.vni.is_none()));
        if let Some(vlan) = local {
            return Err(Refusal::PeerWithoutVni { ip, vlan });
        }
    }
    let vlans = match (desired.peer(ip).map(|peer| &peer.vlans), &spec.vlans) {
        (Some(PeerVlans::All), _) | (_, PeerVlans::All) => PeerVlans::All,
        (Some(PeerVlans::Listed(there)), PeerVlans::Listed(more)) => PeerVlans::Listed(there.with(more)),
        (None, PeerVlans::Listed(vlans)) => PeerVlans::Listed(vlans.clone()),
    };
    let next = PeerSpec { ip, vlans };
    if desired.peer(ip) == Some(&next) {
        return Ok((desired, Outcome::UNCHANGED));
    }
    desired.peers.insert(ip, next);
    Ok((desired, Outcome::CHANGED))
}

pub(super) fn del(mut desired: Desired, ip: IpAddr, vlan: Option<Vid>) -> Applied {
    let Some(peer) = desired.peer(ip) else { return Err(Refusal::NoPeer { ip }) };
    let left = match (&peer.vlans, vlan) {
        (_, None) => None,
        (PeerVlans::All, Some(vlan)) => return Err(Refusal::PeerInAll { ip, vlan }),
        (PeerVlans::Listed(vlans), Some(vlan)) if !vlans.contains(vlan) => {
            return Err(Refusal::PeerNotInVlan { ip, vlan, vlans: vlans.clone() });
        }
        (PeerVlans::Listed(vlans), Some(vlan)) => vlans.without(vlan),
    };
    let behind = FdbTarget::Remote(ip);
    let concerned = |at: Vid| vlan.is_none_or(|vlan| vlan == at);
    if let Some(entry) = desired.statics().find(|e| e.target == behind && concerned(e.vlan)) {
        return Err(Refusal::PeerHasStatic { ip, mac: entry.mac, vlan: entry.vlan });
    }
    match left {
        Some(vlans) => desired.peers.insert(ip, PeerSpec { ip, vlans: PeerVlans::Listed(vlans) }),
        None => desired.peers.remove(&ip),
    };
    Ok((desired, Outcome::CHANGED))
}

/// Flooding copies to each peer, so each must be one host.
fn unicast(ip: IpAddr) -> Result<(), Refusal> {
    let what = match ip {
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_multicast() => "a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        _ if ip.to_canonical() != ip => "an IPv4 address written as IPv6",
        _ => return Ok(()),
    };
    Err(Refusal::PeerNotUnicast { ip, what })
}
