//! What the daemon tells of what it does: the journey of a frame, and why two stations do or do not reach each other.
//!
//! What frames meet is asked of a worker's switch, which goes the way it goes for frames; what surrounds it (interfaces,
//! routes, who answers) is looked at as it is now.

mod address;
mod answer;
mod ends;
mod frames;
mod host;
mod peers;
mod question;
mod route;
mod router;
mod storms;
mod switch;
mod trace;
mod tunnel;
mod vlan;
mod why;
mod words;

pub(super) use question::Questions;

use std::net::IpAddr;

use vswitch_api::{Mac, NeighbourInfo, PortName, RpcError, Vid};
use vswitch_core::switch::PortId;

use super::Control;
use crate::worker::Remembered;

impl Control {
    /// Who was heard, and the addresses that ports were given, by VLAN and address.
    pub(super) fn neighbours(&self) -> Result<Vec<NeighbourInfo>, RpcError> {
        let now = crate::clock::now();
        let targets = self.targets();
        let mut all: Vec<NeighbourInfo> = Vec::new();
        for (name, setup) in self.network.ports.iter().filter(|(name, _)| self.live.contains_key(*name)) {
            let vlan = ends::untagged(&setup.mode).and_then(|vlan| Vid::new(vlan.get()).ok());
            let (Some(vlan), Ok(mac)) = (vlan, Mac::new(setup.mac.0)) else { continue };
            let port = Some(name.clone());
            let info = |ip| NeighbourInfo { ip, mac, vlan, port: port.clone(), remote: None, age_s: None };
            all.extend(setup.addresses.iter().map(|address| info(address.ip())));
        }
        for (port, heard) in self.remembered()?.heard {
            let (Some(target), Ok(mac)) = (targets.get(&port), Mac::new(heard.mac.0)) else { continue };
            let Ok(vlan) = Vid::new(heard.vlan.get()) else { continue };
            let (port, remote) = match target.clone() {
                vswitch_api::FdbTarget::Port(name) => (Some(name), None),
                vswitch_api::FdbTarget::Remote(ip) => (None, Some(ip)),
            };
            let age_s = Some(now.since(heard.at).as_secs());
            all.push(NeighbourInfo { ip: heard.ip, mac, vlan, port, remote, age_s });
        }
        // Of what several workers heard, the latest; what was given counts as heard now.
        all.sort_by(|one, other| {
            let key = |info: &NeighbourInfo| (info.vlan, info.ip, info.mac, info.port.clone(), info.remote);
            (key(one), one.age_s).cmp(&(key(other), other.age_s))
        });
        all.dedup_by(|later, first| {
            (later.vlan, later.ip, later.mac, &later.port, later.remote)
                == (first.vlan, first.ip, first.mac, &first.port, first.remote)
        });
        Ok(all)
    }

    /// What all workers remember.
    fn remembered(&self) -> Result<Remembered, RpcError> {
        let all = self.workers.each(|worker| worker.datapath.remembered()).map_err(super::ControlError::from)?;
        let mut sum = Remembered::default();
        for Remembered { heard, strangers } in all {
            sum.heard.extend(heard);
            sum.strangers.extend(strangers);
        }
        Ok(sum)
    }

    /// What people call a port.
    fn title(&self, id: PortId) -> String {
        self.targets().get(&id).map_or_else(|| "a port that is gone".to_owned(), ToString::to_string)
    }

    /// The number of a port that has an interface.
    fn live_id(&self, name: &PortName) -> Option<PortId> {
        self.live.get(name).map(|port| port.id)
    }

    /// The number of a remote.
    fn remote_id(&self, ip: IpAddr) -> Option<PortId> {
        self.remotes.get(&ip).copied()
    }
}
