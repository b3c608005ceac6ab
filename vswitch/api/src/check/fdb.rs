//! Changes of static addresses.

use super::{Applied, Outcome, Refusal};
use crate::config::{Desired, FdbTarget, StaticEntry};
use crate::types::{Mac, Vid};

pub(super) fn add(mut desired: Desired, entry: &StaticEntry) -> Applied {
    let StaticEntry { mac, vlan, target } = entry;
    match target {
        FdbTarget::Port(name) => match desired.port(name) {
            None => return Err(Refusal::NoPort { name: name.clone() }),
            Some(port) if !port.mode.contains(*vlan) => {
                return Err(Refusal::PortNotInVlan { name: name.clone(), vlan: *vlan, mode: port.mode.clone() });
            }
            Some(_) => {}
        },
        FdbTarget::Remote(ip) if !desired.is_peer_in(*ip, *vlan) => {
            return Err(Refusal::RemoteNotPeer { ip: *ip, vlan: *vlan });
        }
        FdbTarget::Remote(_) => {}
    }
    match desired.fdb.get(&(*vlan, *mac)) {
        Some(there) if there == entry => Ok((desired, Outcome::UNCHANGED)),
        Some(there) => Err(Refusal::StaticExists { mac: *mac, vlan: *vlan, target: there.target.clone() }),
        None => {
            desired.fdb.insert((*vlan, *mac), entry.clone());
            Ok((desired, Outcome::CHANGED))
        }
    }
}

pub(super) fn del(mut desired: Desired, mac: Mac, vlan: Vid) -> Applied {
    match desired.fdb.remove(&(vlan, mac)) {
        Some(_) => Ok((desired, Outcome::CHANGED)),
        None => Err(Refusal::NoStatic { mac, vlan }),
    }
}
