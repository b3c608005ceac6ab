//! An event in a line, for people.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use vswitch_api::monitor::{Address, Event, Place, What};
use vswitch_api::reply::TUNNEL;
use vswitch_api::{AttachmentInfo, ModeKind, PeerInfo, PortInfo, PortState, Status, VlanInfo};

use crate::capture::clock;
use crate::render::{self, option};

/// When it happened (UTC), the event's name, and what programs find in fields; `reasons` are what those for drops mean.
pub(super) fn line(event: &Event, reasons: &BTreeMap<String, String>) -> String {
    let name = serde_json::to_value(&event.what).ok().and_then(|what| Some(what["event"].as_str()?.to_owned()));
    format!("{} {:<18} {}", clock(event.at), name.unwrap_or_default(), text(&event.what, reasons))
}

fn text(what: &What, reasons: &BTreeMap<String, String>) -> String {
    let meaning = |reason: &str| match reasons.get(reason) {
        Some(meaning) => format!("{reason}: {meaning}"),
        None => reason.to_owned(),
    };
    match what {
        What::Snapshot { status, ports, vlans, peers } => snapshot(status, ports, vlans.len(), peers.len()),
        What::PortAdded(port) => port_text(port),
        What::PortChanged { changed, port } => format!("{}: {}", port.name, changes(changed, port)),
        What::PortDeleted(port) => port.name.to_string(),
        What::PortLost(port) => format!("{}: its interface {} in {} is gone", port.name, port.ifname, port.netns),
        What::PortBack(port) => format!("{}: {} in {}", port.name, port.ifname, port.netns),
        What::VlanAdded(vlan) => vlan_text(vlan),
        What::VlanDeleted(vlan) => vlan.vlan.to_string(),
        What::PeerAdded(peer) | What::PeerChanged(peer) => peer_text(peer),
        What::PeerDeleted(peer) => peer.ip.to_string(),
        What::AttachmentAdded(attachment) | What::AttachmentDeleted(attachment) => attachment_text(attachment),
        What::FdbLearned(address) | What::FdbAdded(address) | What::FdbReleased(address) => at(address),
        What::FdbAged(address) | What::FdbRemoved(address) => at(address),
        What::FdbEvicted(address) => format!("{}: it made room for another", at(address)),
        What::FdbLimited(address) => format!("{}: there is no room", at(address)),
        What::FdbMoved { address, from } => format!("{} from {}", at(address), place(from)),
        What::FdbHeld { address, flapping } => {
            let other = Place { port: flapping.port.clone(), remote: flapping.remote };
            let held_s = flapping.held_s;
            format!("{} for {held_s} s: it moves to and fro, and is seen at {} too", at(address), place(&other))
        }
        What::StormBegun { port, remote, reason } => format!("{}: {}", whose(port, *remote), meaning(reason)),
        What::StormEnded { port, remote, reason, frames, lasted_s } => {
            format!("{}: {reason}: {frames} frames were dropped in {lasted_s} s", whose(port, *remote))
        }
        What::Drops { port, remote, reason, frames } => {
            format!("{}: {frames} frames: {}", whose(port, *remote), meaning(reason))
        }
        What::TakeoverBegun {} => "another vswitchd is about to take over".to_owned(),
        What::TakeoverFailed { why } => format!("{why}: this vswitchd serves on"),
        What::TakeoverDone {} => "another vswitchd serves from here on".to_owned(),
        What::Lost { events } => format!("{events} events were lost: more happened than could be told"),
        What::Disconnected { why } => format!("{why}: what happens now is not seen"),
        What::Reconnected {} => "a vswitchd serves, what happens is seen again".to_owned(),
    }
}

fn snapshot(status: &Status, ports: &[PortInfo], vlans: usize, peers: usize) -> String {
    let lost: Vec<_> =
        ports.iter().filter(|port| port.state == PortState::Lost).map(|port| port.name.as_str()).collect();
    let lost = if lost.is_empty() { String::new() } else { format!(" (lost: {})", lost.join(", ")) };
    let (version, pid, used) = (&status.version, status.pid, status.fdb_used);
    let ports = ports.len();
    format!("vswitchd {version}, process {pid}: {ports} ports{lost}, {vlans} VLANs, {peers} peers, {used} addresses")
}

fn port_text(port: &PortInfo) -> String {
    let is_access = port.mode.mode == ModeKind::Access;
    let mode = format!("{}{}", if is_access { "VLAN " } else { "" }, render::mode(&port.mode));
    let addresses: String = port.addresses.iter().map(|address| format!(", {address}")).collect();
    let lost = if port.state == PortState::Lost { ", lost" } else { "" };
    format!("{}: {mode}, {} in {}, MTU {}{addresses}{lost}", port.name, port.ifname, port.netns, port.mtu)
}

/// The fields that changed, with what is there now.
fn changes(changed: &[String], port: &PortInfo) -> String {
    let port = serde_json::to_value(port).unwrap_or_default();
    let value = |name: &String| match &port[name.as_str()] {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    changed.iter().map(|name| format!("{name} {}", value(name))).collect::<Vec<_>>().join(", ")
}

fn vlan_text(vlan: &VlanInfo) -> String {
    let vni = vlan.vni.map_or_else(|| "local".to_owned(), |vni| format!("VNI {vni}"));
    let name = vlan.name.as_ref().map(|name| format!(", called {name}")).unwrap_or_default();
    let learning = if vlan.learning { "" } else { ", no learning from peers" };
    format!("{}: {vni}{name}{learning}", vlan.vlan)
}

fn peer_text(peer: &PeerInfo) -> String {
    let vlans = option(vswitch_api::VlanList::new(peer.vlans.iter().copied()));
    let all = if peer.all_vlans { " (all that have a VNI)" } else { "" };
    format!("{}: VLANs {vlans}{all}", peer.ip)
}

fn attachment_text(attachment: &AttachmentInfo) -> String {
    let AttachmentInfo { network, container, ifname, port, addresses, .. } = attachment;
    let addresses: String = addresses.iter().map(|address| format!(", {address}")).collect();
    format!("{container}: {ifname} in network {network}, port {port}{addresses}")
}

fn at(address: &Address) -> String {
    format!("{} VLAN {} at {}", address.mac, address.vlan, place(&address.place))
}

fn place(place: &Place) -> String {
    match (&place.port, place.remote) {
        (Some(port), _) => format!("port {port}"),
        (None, Some(ip)) => format!("remote {ip}"),
        (None, None) => "a port that is gone".to_owned(),
    }
}

fn whose(port: &str, remote: Option<IpAddr>) -> String {
    match remote {
        Some(ip) => format!("remote {ip}"),
        None if port == TUNNEL => TUNNEL.to_owned(),
        None => format!("port {port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_where() {
        let reasons = BTreeMap::from([("queue_full".to_owned(), "The device took no more.".to_owned())]);
        let table = [
            (
                r#""event":"fdb.moved","mac":"02:00:00:00:00:01","vlan":10,"port":"a","remote":null,"from":{"port":null,"remote":"192.0.2.2"}"#,
                "fdb.moved          02:00:00:00:00:01 VLAN 10 at port a from remote 192.0.2.2",
            ),
            (
                r#""event":"fdb.held","mac":"02:00:00:00:00:01","vlan":10,"port":"a","remote":null,"flapping":{"port":"b","remote":null,"held_s":10}"#,
                "fdb.held           02:00:00:00:00:01 VLAN 10 at port a for 10 s: it moves to and fro, and is seen at port b too",
            ),
            (
                r#""event":"drops","port":"a","remote":null,"reason":"queue_full","frames":7"#,
                "drops              port a: 7 frames: queue_full: The device took no more.",
            ),
            (
                r#""event":"drops","port":"tunnel","remote":"192.0.2.2","reason":"other","frames":7"#,
                "drops              remote 192.0.2.2: 7 frames: other",
            ),
            (
                r#""event":"port.changed","changed":["mtu","vlan","native"],"name":"a","netns":"a","ifname":"eth0","mac":null,"addresses":[],"mtu":1400,"mode":"access","vlan":10,"vlans":[],"native":null,"state":"up","offloads":[]"#,
                "port.changed       a: mtu 1400, vlan 10, native none",
            ),
            (
                r#""event":"peer.added","ip":"192.0.2.2","all_vlans":true,"vlans":[10,11,20]"#,
                "peer.added         192.0.2.2: VLANs 10-11,20 (all that have a VNI)",
            ),
            (
                r#""event":"lost","events":1234"#,
                "lost               1234 events were lost: more happened than could be told",
            ),
        ];
        for (fields, text) in table {
            let event = serde_json::from_str(&format!(r#"{{"at":3661000001000,{fields}}}"#)).unwrap();
            assert_eq!(line(&event, &reasons), format!("01:01:01.000001Z {text}"));
        }
    }
}
