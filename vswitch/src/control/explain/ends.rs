//! Who A and B are: ports by name, stations by an address that a port was given or that was heard.

use std::net::IpAddr;
use std::sync::Arc;

use vswitch_api::{Code, FdbTarget, NeighbourInfo, PortName, RpcError};
use vswitch_core::switch::PortMode;
use vswitch_core::{MacAddr, VlanId};

use super::super::Control;
use super::host::Inside;
use crate::network::vlan_id;

/// Where a station is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Port(PortName),
    Remote(IpAddr),
    /// Nobody heard of it.
    Unknown,
}

/// One of the two.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) text: String,
    pub(super) place: Place,
    pub(super) mac: Option<MacAddr>,
    /// That which was asked for first.
    pub(super) ips: Vec<IpAddr>,
    /// The VLAN it was seen in, where that does not follow from its port.
    pub(super) vlan: Option<VlanId>,
}

impl End {
    /// What it is, in words.
    pub(super) fn words(&self) -> String {
        let mut text = match &self.place {
            Place::Port(name) => format!("port {name}"),
            Place::Remote(ip) => format!("{}, behind remote {ip}", self.text),
            Place::Unknown => format!("{}, not seen so far", self.text),
        };
        if let (Some(mac), Place::Port(_)) = (self.mac, &self.place) {
            text += &format!(", {mac}");
        }
        if let (Some(ip), Place::Port(_)) = (self.ips.first(), &self.place) {
            text += &format!(", {ip}");
        }
        text
    }

    /// What to call it.
    pub(super) fn name(&self) -> &str {
        match &self.place {
            Place::Port(name) => name.as_str(),
            Place::Remote(_) | Place::Unknown => &self.text,
        }
    }

    pub(super) fn port(&self) -> Option<&PortName> {
        match &self.place {
            Place::Port(name) => Some(name),
            Place::Remote(_) | Place::Unknown => None,
        }
    }
}

/// The VLAN of a port's untagged frames.
pub(super) fn untagged(mode: &PortMode) -> Option<VlanId> {
    match mode {
        PortMode::Access(vlan) => Some(*vlan),
        PortMode::Trunk { native, .. } => *native,
        PortMode::Remote { .. } => None,
    }
}

impl Control {
    /// Whom `text` means, a port's name, an IP address or a MAC address.
    pub(super) fn end(&self, text: &str) -> Result<End, RpcError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return self.end_by_ip(text, ip, None);
        }
        if let Ok(mac) = text.parse::<vswitch_api::Mac>() {
            return self.end_by_mac(text, MacAddr(mac.octets()));
        }
        let name: PortName = text.parse().map_err(|_| unknown(text))?;
        let setup = self.network.ports.get(&name).ok_or_else(|| unknown(text))?;
        let inside = self.inside(&name);
        let mut ips: Vec<_> = setup.addresses.iter().map(|address| address.ip()).collect();
        ips.extend(inside.iter().flat_map(Inside::addresses).filter(|ip| !is_link_local(*ip)));
        // Such as of VLANs on a trunk.
        let others = inside.iter().filter(|inside| inside.nets.is_empty()).flat_map(|inside| &inside.others);
        ips.extend(others.copied().filter(|ip| !is_link_local(*ip)));
        let heard = self.neighbours()?.into_iter();
        ips.extend(heard.filter(|info| info.port.as_ref() == Some(&name)).map(|info| info.ip));
        let mut seen = std::collections::BTreeSet::new();
        ips.retain(|ip| seen.insert(*ip));
        // What it has comes before what it was given or was heard of it, and others before link-local ones.
        ips.sort_by_key(|ip| (inside.as_ref().is_some_and(|inside| !inside.has(*ip)), is_link_local(*ip)));
        Ok(End { text: text.to_owned(), mac: Some(setup.mac), place: Place::Port(name), ips, vlan: None })
    }

    /// Who has an address; of several, one in VLANs of `mode`.
    pub(super) fn end_by_ip(&self, text: &str, ip: IpAddr, mode: Option<&PortMode>) -> Result<End, RpcError> {
        // What a port was given is there before what was heard; of that, the latest.
        let mut all: Vec<_> = self.neighbours()?.into_iter().filter(|info| info.ip == ip).collect();
        let is_apart = |vlan: VlanId| mode.is_some_and(|mode| !mode.is_member(vlan));
        all.sort_by_key(|info| (is_apart(vlan_id(info.vlan)), info.port.is_none(), info.age_s));
        if let Some(info) = all.into_iter().next() {
            return Ok(heard(text, &info));
        }
        // A port that is lost has addresses too.
        let named = |(_, setup): &(&PortName, &Arc<crate::network::PortSetup>)| {
            setup.addresses.iter().any(|address| address.ip() == ip)
        };
        let lost = self.network.ports.iter().find(named);
        let (place, mac) =
            lost.map_or((Place::Unknown, None), |(name, setup)| (Place::Port(name.clone()), Some(setup.mac)));
        Ok(End { text: text.to_owned(), place, mac, ips: vec![ip], vlan: None })
    }

    fn end_by_mac(&self, text: &str, mac: MacAddr) -> Result<End, RpcError> {
        let ips =
            self.neighbours()?.into_iter().filter(|info| info.mac.octets() == mac.0).map(|info| info.ip).collect();
        let unknown = End { text: text.to_owned(), place: Place::Unknown, mac: Some(mac), ips, vlan: None };
        if let Some((name, _)) = self.network.ports.iter().find(|(_, setup)| setup.mac == mac) {
            return Ok(End { place: Place::Port(name.clone()), ..unknown });
        }
        let Some(entry) = self.addresses.fdb_entries().find(|entry| entry.mac == mac) else { return Ok(unknown) };
        let place = match self.targets().remove(&entry.port) {
            Some(FdbTarget::Port(name)) => Place::Port(name),
            Some(FdbTarget::Remote(ip)) => Place::Remote(ip),
            None => Place::Unknown,
        };
        Ok(End { place, vlan: Some(entry.vlan), ..unknown })
    }
}

fn heard(text: &str, info: &NeighbourInfo) -> End {
    let place = match (&info.port, info.remote) {
        (Some(name), _) => Place::Port(name.clone()),
        (None, Some(ip)) => Place::Remote(ip),
        (None, None) => Place::Unknown,
    };
    let mac = Some(MacAddr(info.mac.octets()));
    End { text: text.to_owned(), place, mac, ips: vec![info.ip], vlan: Some(vlan_id(info.vlan)) }
}

fn unknown(text: &str) -> RpcError {
    let message = format!(
        "{text:?} is no port: say a port's name (`vsctl port list`), an IP address (`vsctl neighbour list` shows those \
         seen) or a MAC address"
    );
    RpcError::new(Code::NotFound, message)
}

pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
