//! What is done as it was asked, and may not be as it was meant.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vswitch_api::{Mac, PortName, SharedAddress, Vid};
use vswitch_core::switch::PortMode;
use vswitch_core::{MacAddr, VlanId};

use super::{Control, Wish};
use crate::network::PortSetup;

impl Control {
    /// What is to be said of a change that was made.
    pub(super) fn notes(&self, wish: &Wish) -> Vec<String> {
        let (name, is_new_place, is_new_mtu) = match wish {
            Wish::PortAdd(spec) => (&spec.name, true, true),
            Wish::PortSet(set) => {
                let moves = set.access.is_some() || set.trunk.is_some() || set.native.is_some();
                (&set.name, moves || set.address.is_some(), moves || set.mtu.is_some())
            }
            _ => return Vec::new(),
        };
        let shared = if is_new_place { self.shared_with(name) } else { Vec::new() };
        let mut notes: Vec<_> = shared.iter().map(|address| said(address, name)).collect();
        notes.extend(is_new_mtu.then(|| self.too_wide(name)).flatten());
        notes
    }

    /// Addresses that port `name` shares.
    fn shared_with(&self, name: &PortName) -> Vec<SharedAddress> {
        let Some(own) = self.network.ports.get(name) else { return Vec::new() };
        let has = |setup: &PortSetup, ip: IpAddr| setup.addresses.iter().any(|address| address.ip() == ip);
        let all = self.network.ports.iter().map(|(name, setup)| (name, setup.as_ref()));
        let alike = all
            .filter(|(_, setup)| setup.mac == own.mac || own.addresses.iter().any(|address| has(setup, address.ip())));
        shared(alike).into_iter().filter(|address| address.ports.contains(name)).collect()
    }

    /// Addresses that more than one port has that is up.
    pub(super) fn shared(&self) -> Vec<SharedAddress> {
        let up = self.network.ports.iter().filter(|(name, _)| self.live.contains_key(*name));
        shared(up.map(|(name, setup)| (name, setup.as_ref())))
    }

    /// Where port `name` was given a greater MTU than VXLAN leaves it.
    fn too_wide(&self, name: &PortName) -> Option<String> {
        let (spec, underlay) = (self.desired.port(name)?, self.site.underlay?);
        let (mtu, fits) = (spec.mtu?.get(), underlay.inner_mtu());
        let vlan = self.desired.vlans().find(|vlan| vlan.vni.is_some() && spec.mode.contains(vlan.vlan))?.vlan;
        (mtu > fits).then(|| {
            format!(
                "MTU {mtu} is more than the {fits} that VXLAN leaves in VLAN {vlan}: to other hosts, what is larger is dropped, \
                 and its sender told by ICMP"
            )
        })
    }
}

fn said(address: &SharedAddress, name: &PortName) -> String {
    let SharedAddress { vlan, address, ports } = address;
    let others: Vec<_> = ports.iter().filter(|port| *port != name).map(|port| format!("port {port}")).collect();
    format!(
        "{address} is the address of {} too, in VLAN {vlan}: unless both share it by a protocol such as VRRP, give another",
        others.join(", ")
    )
}

/// IP addresses that ports share in the VLAN of their untagged frames, and MAC addresses in the first of their VLANs.
fn shared<'a>(ports: impl Iterator<Item = (&'a PortName, &'a PortSetup)>) -> Vec<SharedAddress> {
    let mut ips: BTreeMap<(VlanId, IpAddr), Vec<&PortName>> = BTreeMap::new();
    let mut macs: BTreeMap<MacAddr, Vec<(&PortName, &PortMode)>> = BTreeMap::new();
    for (name, setup) in ports {
        macs.entry(setup.mac).or_default().push((name, &setup.mode));
        let untagged = match setup.mode {
            PortMode::Access(vlan) => Some(vlan),
            PortMode::Trunk { native, .. } => native,
            PortMode::Remote { .. } => None,
        };
        for address in untagged.iter().flat_map(|vlan| setup.addresses.iter().map(|address| (*vlan, address.ip()))) {
            ips.entry(address).or_default().push(name);
        }
    }
    let ips = ips.into_iter().map(|((vlan, ip), names)| (vlan, ip.to_string(), names));
    let macs = macs.into_iter().filter(|(_, ports)| ports.len() > 1).filter_map(|(mac, ports)| {
        let members = |vlan| ports.iter().filter(move |(_, mode)| mode.is_member(vlan)).map(|(name, _)| *name);
        let vlan = VlanId::all().find(|&vlan| members(vlan).nth(1).is_some())?;
        Some((vlan, Mac::new(mac.0).ok()?.to_string(), members(vlan).collect()))
    });
    let shared = ips.chain(macs).filter(|(.., names)| names.len() > 1).filter_map(|(vlan, address, names)| {
        Some(SharedAddress { vlan: Vid::new(vlan.get()).ok()?, address, ports: names.into_iter().cloned().collect() })
    });
    shared.collect()
}
