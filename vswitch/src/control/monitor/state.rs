//! What there is, as people know it; and what happened to it, from two of these.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use vswitch_api::monitor::What;
use vswitch_api::{Desired, PeerInfo, PortInfo, PortName, PortSpec, PortState, Vid};
use vswitch_sys::Offloads;

use super::Control;
use crate::control::answer::{port_info, vlan_info};
use crate::control::attach::attachment_info;
use crate::network::PortSetup;

/// Fields of a port that tell something else than what was asked for: its state, and what the daemon notes for itself.
const NOT_TOLD: [&str; 3] = ["state", "offloads", "attachment"];

/// What there is.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    desired: Desired,
    setups: BTreeMap<PortName, Arc<PortSetup>>,
    /// Ports that are not lost.
    live: BTreeMap<PortName, Offloads>,
    peers: BTreeMap<IpAddr, PeerInfo>,
}

impl Control {
    pub(super) fn state(&self) -> State {
        State {
            desired: self.desired.clone(),
            setups: self.network.ports.clone(),
            live: self.live.iter().map(|(name, port)| (name.clone(), port.offloads)).collect(),
            peers: self.peers().into_iter().map(|peer| (peer.ip, peer)).collect(),
        }
    }
}

impl State {
    /// Whether it is still that of `control`.
    pub(super) fn is_of(&self, control: &Control) -> bool {
        self.live.keys().eq(control.live.keys())
            && self.desired == control.desired
            && self.setups == control.network.ports
    }

    /// Whether there is a port `name`.
    pub(super) fn has_port(&self, name: &PortName) -> bool {
        self.desired.port(name).is_some()
    }

    /// Whether a port, or a remote where that is given, is in `vlan`.
    pub(super) fn is_in(&self, port: &str, remote: Option<IpAddr>, vlan: Vid) -> bool {
        match remote {
            Some(ip) => self.desired.is_peer_in(ip, vlan),
            None => {
                let name = port.parse::<PortName>().ok();
                name.and_then(|name| self.desired.port(&name)).is_some_and(|spec| spec.mode.contains(vlan))
            }
        }
    }

    fn port(&self, spec: &PortSpec) -> PortInfo {
        port_info(spec, self.setups.get(&spec.name).map(AsRef::as_ref), self.live.get(&spec.name).copied())
    }

    /// What happened since it was `before`.
    pub(super) fn since(&self, before: &Self) -> Vec<What> {
        let mut told = Vec::new();
        self.tell_vlans(before, &mut told);
        self.tell_peers(before, &mut told);
        for was in before.desired.ports().filter(|was| self.desired.port(&was.name).is_none()) {
            let info = before.port(was);
            told.extend(attachment_info(was, info.state).map(What::AttachmentDeleted));
            told.push(What::PortDeleted(info));
        }
        for spec in self.desired.ports() {
            match before.desired.port(&spec.name) {
                None => {
                    let info = self.port(spec);
                    let state = info.state;
                    told.push(What::PortAdded(info));
                    told.extend(attachment_info(spec, state).map(What::AttachmentAdded));
                }
                Some(was) => self.tell_port((before, was), spec, &mut told),
            }
        }
        told
    }

    fn tell_port(&self, (before, was): (&Self, &PortSpec), is: &PortSpec, told: &mut Vec<What>) {
        let name = &is.name;
        if was == is
            && before.setups.get(name) == self.setups.get(name)
            && before.live.contains_key(name) == self.live.contains_key(name)
        {
            return;
        }
        let (old, new) = (before.port(was), self.port(is));
        let (was_in, is_in) = (old.state, new.state);
        let changed = differing(&old, &new);
        let whose = |spec: &PortSpec| spec.attachment.as_ref().map(|of| (of.network.clone(), of.container.clone()));
        let is_of_another = whose(was) != whose(is);
        if is_of_another {
            told.extend(attachment_info(was, was_in).map(What::AttachmentDeleted));
        }
        if !changed.is_empty() {
            told.push(What::PortChanged { changed, port: new.clone() });
        }
        match (was_in, is_in) {
            (PortState::Up, PortState::Lost) => told.push(What::PortLost(new)),
            (PortState::Lost, PortState::Up) => told.push(What::PortBack(new)),
            _ => {}
        }
        if is_of_another {
            told.extend(attachment_info(is, is_in).map(What::AttachmentAdded));
        }
    }

    fn tell_vlans(&self, before: &Self, told: &mut Vec<What>) {
        // Settings do not change: they go, and others come.
        let gone = before.desired.vlans().filter(|was| self.desired.vlan(was.vlan) != Some(was));
        told.extend(gone.map(|was| What::VlanDeleted(vlan_info(&before.desired, was.vlan))));
        let new = self.desired.vlans().filter(|is| before.desired.vlan(is.vlan) != Some(is));
        told.extend(new.map(|is| What::VlanAdded(vlan_info(&self.desired, is.vlan))));
    }

    fn tell_peers(&self, before: &Self, told: &mut Vec<What>) {
        let gone = before.peers.iter().filter(|(ip, _)| !self.peers.contains_key(*ip));
        told.extend(gone.map(|(_, was)| What::PeerDeleted(was.clone())));
        for (ip, is) in &self.peers {
            match before.peers.get(ip) {
                None => told.push(What::PeerAdded(is.clone())),
                Some(was) if (was.all_vlans, &was.vlans) != (is.all_vlans, &is.vlans) => {
                    told.push(What::PeerChanged(is.clone()));
                }
                Some(_) => {}
            }
        }
    }
}

/// The names of fields in which ports differ, in the words of their lists.
fn differing(old: &PortInfo, new: &PortInfo) -> Vec<String> {
    let object = |info| match serde_json::to_value(info) {
        Ok(Value::Object(object)) => object,
        _ => serde_json::Map::new(), // it is an object
    };
    let (old, new) = (object(old), object(new));
    let is_told = |name: &&String| !NOT_TOLD.contains(&name.as_str());
    let names = new.keys().chain(old.keys().filter(|name| !new.contains_key(*name)));
    names.filter(is_told).filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use vswitch_api::Change;

    use super::*;
    use crate::network::{Network, Site};

    /// The state that `changes` lead to, with some ports lost.
    fn state(changes: &[&str], lost: &[&str]) -> State {
        let vtep = "192.0.2.1".parse().ok();
        let mut desired = Desired::default();
        for change in changes {
            let change: Change = serde_json::from_str(change).unwrap();
            desired = desired.apply(&change, vtep).unwrap().0;
        }
        let network = Network::derive(&desired, &Site::default());
        let live = desired.ports().filter(|spec| !lost.contains(&spec.name.as_str()));
        let peer = |spec: &vswitch_api::PeerSpec| {
            let vlans = desired.vlans().map(|spec| spec.vlan).filter(|&vlan| desired.is_peer_in(spec.ip, vlan));
            let info = serde_json::json!({"ip": spec.ip, "all_vlans": false, "vlans": vlans.collect::<Vec<_>>()});
            (spec.ip, serde_json::from_value(info).unwrap())
        };
        State {
            live: live.map(|spec| (spec.name.clone(), Offloads::default())).collect(),
            setups: network.ports,
            peers: desired.peers().map(peer).collect(),
            desired,
        }
    }

    const A: &str = r#"{"method": "port.add", "params": {"name": "a", "netns": "a", "access": 10}}"#;
    const OF_C1: &str = r#"{"method": "port.add", "params": {"name": "c", "netns": "c",
        "attachment": {"network": "net", "container": "c1"}}}"#;
    const OF_C2: &str = r#"{"method": "port.add", "params": {"name": "c", "netns": "c",
        "attachment": {"network": "net", "container": "c2"}}}"#;
    const SEEN_C1: &str = r#"{"method": "port.add", "params": {"name": "c", "netns": "c",
        "attachment": {"network": "net", "container": "c1", "seen": true}}}"#;
    const NARROW: &str = r#"{"method": "port.set", "params": {"name": "a", "mtu": 1400, "access": 20}}"#;
    const VLAN: &str = r#"{"method": "vlan.add", "params": {"vlan": 10, "vni": 100}}"#;
    const NO_LEARNING: &str = r#"{"method": "vlan.add", "params": {"vlan": 10, "vni": 100, "learning": false}}"#;
    const PEER: &str = r#"{"method": "peer.add", "params": {"ip": "192.0.2.2", "all-vlans": true}}"#;

    #[test]
    fn what_happened_follows_from_before_and_after() {
        type Side<'a> = (&'a [&'a str], &'a [&'a str]);
        let table: [(Side<'_>, Side<'_>, &[&str]); 14] = [
            ((&[A], &[]), (&[A], &[]), &[]),
            ((&[], &[]), (&[A], &[]), &["port.added a"]),
            ((&[A], &[]), (&[], &[]), &["port.deleted a"]),
            ((&[A], &[]), (&[A], &["a"]), &["port.lost a"]),
            ((&[A], &["a"]), (&[A], &[]), &["port.back a"]),
            ((&[A], &[]), (&[A, NARROW], &[]), &["port.changed a mtu,vlan"]),
            ((&[A], &["a"]), (&[A, NARROW], &[]), &["port.changed a mtu,vlan", "port.back a"]),
            ((&[], &[]), (&[OF_C1], &[]), &["port.added c", "attachment.added c1"]),
            ((&[OF_C1], &["c"]), (&[], &[]), &["attachment.deleted c1", "port.deleted c"]),
            ((&[OF_C1], &["c"]), (&[OF_C2], &[]), &["attachment.deleted c1", "port.back c", "attachment.added c2"]),
            // What the daemon notes for itself.
            ((&[OF_C1], &[]), (&[SEEN_C1], &[]), &[]),
            ((&[A], &[]), (&[A, VLAN], &[]), &["vlan.added 10"]),
            ((&[VLAN, PEER], &[]), (&[NO_LEARNING, PEER], &[]), &["vlan.deleted 10", "vlan.added 10"]),
            ((&[PEER], &[]), (&[PEER, VLAN], &[]), &["vlan.added 10", "peer.changed 192.0.2.2 [10]"]),
        ];
        for ((before, were_lost), (after, are_lost), expected) in table {
            let (before, after) = (state(before, were_lost), state(after, are_lost));
            let told: Vec<_> = after.since(&before).iter().map(words).collect();
            assert_eq!(told, expected);
        }
        let told: Vec<_> = State::default().since(&state(&[VLAN, PEER], &[])).iter().map(words).collect();
        assert_eq!(told, ["vlan.deleted 10", "peer.deleted 192.0.2.2 [10]"]);
    }

    /// An event in a few words.
    fn words(what: &What) -> String {
        let event = serde_json::to_value(what).unwrap();
        let word = |name: &str| event.get(name).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
        let name = ["container", "name", "ip", "vlan"].into_iter().find_map(word).unwrap();
        let name = if word("event").unwrap().starts_with("vlan") { word("vlan").unwrap() } else { name };
        let changed = event["changed"].as_array().map(|all| {
            let all: Vec<_> = all.iter().filter_map(|name| name.as_str()).collect();
            " ".to_owned() + &all.join(",")
        });
        let vlans =
            if event.get("ip").is_some() { " ".to_owned() + &event["vlans"].to_string() } else { String::new() };
        format!("{} {name}{}{vlans}", word("event").unwrap(), changed.unwrap_or_default())
    }
}
