//! Which peers are probed, and in which networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vswitch_api::{Vid, Vni};
use vswitch_core::Instant;

use super::super::Control;
use crate::health::{Ends, Path};

/// From one peer's first self-test to the next one's.
const STAGGER: Duration = Duration::from_millis(20);

impl Control {
    /// The network is another one now.
    pub(in crate::control) fn probes_follow(&mut self) {
        self.probes.is_stale = true;
    }

    /// Has a path for each peer that is to be probed, and none for others.
    pub(super) fn follow_peers(&mut self, now: Instant) {
        let remotes = &self.network.remotes;
        self.probes.paths.retain(|ip, _| remotes.contains_key(ip));
        self.probes.said.retain(|ip, _| remotes.contains_key(ip));
        self.probes.frames.retain(|ip, _| remotes.contains_key(ip));
        if self.probes.interval.is_some() && self.probes.paths.len() < remotes.len() {
            let new: Vec<_> = remotes.keys().copied().filter(|ip| !self.probes.paths.contains_key(ip)).collect();
            for (number, ip) in (0_u32..).zip(new) {
                self.follow(ip, now + STAGGER * number);
            }
        }
        let networks: Vec<_> = self.probes.paths.keys().map(|ip| (*ip, self.networks_of(*ip))).collect();
        for (ip, networks) in networks {
            if let Some(path) = self.probes.paths.get_mut(&ip) {
                path.set_networks(networks);
            }
        }
    }

    /// The networks in which `ip` is a peer.
    pub(super) fn networks_of(&self, ip: IpAddr) -> BTreeMap<Vni, Vid> {
        let Some(remote) = self.network.remotes.get(&ip) else { return BTreeMap::new() };
        let vlans = self.network.vlans.iter();
        let shared = vlans.filter(|(vlan, _)| remote.vlans.contains(crate::network::vlan_id(**vlan)));
        shared.filter_map(|(vlan, setup)| Some((setup.vni?, *vlan))).collect()
    }

    /// Has a path to `ip`, with a self-test `first` at the earliest.
    pub(super) fn follow(&mut self, ip: IpAddr, first: Instant) {
        let Some(underlay) = self.site.underlay else { return };
        let ends = Ends {
            own: underlay.address,
            peer: ip,
            port: self.vtep_port,
            mtu: underlay.mtu,
            overhead: underlay.overhead(),
        };
        let interval = self.probes.interval;
        self.probes.paths.entry(ip).or_insert_with(|| Path::new(ends, interval, first));
    }
}
