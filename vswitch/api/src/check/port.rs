//! Changes of ports.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Applied, Outcome, Refusal};
use crate::config::{Attachment, Desired, FdbTarget, PortMode, PortSpec};
use crate::request::PortSet;
use crate::types::{Mac, PortName};

/// The least MTU of a link that carries IPv6 (RFC 8200 5).
const IPV6_MTU: u16 = 1280;

/// What stands for something else wherever a port is named: the sum in `stats`, and where `capture` looks.
const WORDS: [&str; 2] = ["total", "drops"];

/// Whether a port that is new may be called `name`. One that has such a name already keeps it.
pub(super) fn nameable(name: &PortName) -> Result<(), Refusal> {
    let is_address = name.as_str().parse::<IpAddr>().is_ok() || name.as_str().parse::<Mac>().is_ok();
    let what = match name.as_str() {
        text if WORDS.contains(&text) => "a word of vsctl",
        _ if is_address => "an address",
        _ => return Ok(()),
    };
    Err(Refusal::PortNameReserved { name: name.clone(), what })
}

pub(super) fn add(mut desired: Desired, spec: &PortSpec) -> Applied {
    consistent(spec)?;
    if let Some(there) = desired.port(&spec.name) {
        return if is_same(there, spec) {
            Ok((desired, Outcome::UNCHANGED))
        } else {
            Err(Refusal::PortExists { name: spec.name.clone(), differs: differences(there, spec) })
        };
    }
    let place = spec.netns.path();
    // What the daemon does not find by its name may be called as another: the kernel keeps interfaces apart then.
    let same_place = |port: &&PortSpec| port.ifname == spec.ifname && is_named(port) && port.netns.path() == place;
    if is_named(spec)
        && let Some(by) = desired.ports().find(same_place)
    {
        let (netns, ifname) = (spec.netns.clone(), spec.ifname.clone());
        return Err(Refusal::IfNameTaken { ifname, netns, by: by.name.clone() });
    }
    if let Some(attachment) = &spec.attachment
        && let Some(by) = desired.attached(&attachment.container, &spec.ifname)
    {
        let (container, ifname, by) = (attachment.container.clone(), spec.ifname.clone(), by.name.clone());
        return Err(Refusal::AttachmentExists { container, ifname, by });
    }
    desired.ports.insert(spec.name.clone(), Arc::new(spec.clone()));
    Ok((desired, Outcome::CHANGED))
}

/// Whether the name of the port's namespace is one for the daemon too.
fn is_named(spec: &PortSpec) -> bool {
    spec.attachment.as_ref().is_none_or(|attachment| attachment.seen)
}

/// Whether `asked` is the port that is `there`, whatever the daemon saw of its namespace either time.
fn is_same(there: &PortSpec, asked: &PortSpec) -> bool {
    let mut asked = asked.clone();
    if let (Some(there), Some(asked)) = (&there.attachment, &mut asked.attachment) {
        (asked.seen, asked.sight) = (there.seen, there.sight);
    }
    *there == asked
}

pub(super) fn set(mut desired: Desired, set: &PortSet) -> Applied {
    let PortSet { name, mtu, access, trunk, native, address, gateway, allow_mac, allow_ip, rx_limit, tx_limit } = set;
    let Some(there) = desired.port(name) else { return Err(Refusal::NoPort { name: name.clone() }) };
    if set.is_empty() {
        return Err(Refusal::NothingToSet { name: name.clone() });
    }
    let mut spec = there.clone();
    let mode = match (access, trunk, native, &there.mode) {
        (None, None, Some(native), PortMode::Trunk { vlans, .. }) => {
            Some(PortMode::Trunk { vlans: vlans.clone(), native: Some(*native) })
        }
        _ => PortMode::from_words(*access, trunk.clone(), *native)?,
    };
    spec.mtu = mtu.or(spec.mtu);
    spec.mode = mode.unwrap_or(spec.mode);
    spec.addresses = address.clone().unwrap_or(spec.addresses);
    spec.gateways = gateway.clone().unwrap_or(spec.gateways);
    spec.allow_mac = allow_mac.clone().unwrap_or(spec.allow_mac);
    spec.allow_ip = allow_ip.clone().unwrap_or(spec.allow_ip);
    spec.limits.rx = rx_limit.map_or(spec.limits.rx, |word| word.0);
    spec.limits.tx = tx_limit.map_or(spec.limits.tx, |word| word.0);
    consistent(&spec)?;
    let behind = FdbTarget::Port(name.clone());
    if let Some(entry) = desired.statics().find(|e| e.target == behind && !spec.mode.contains(e.vlan)) {
        return Err(Refusal::PortHasStatic { name: name.clone(), mac: entry.mac, vlan: entry.vlan });
    }
    if *there == spec {
        return Ok((desired, Outcome::UNCHANGED));
    }
    desired.ports.insert(name.clone(), Arc::new(spec));
    Ok((desired, Outcome::CHANGED))
}

/// A port goes with its container, whose runtime has no answer to a refusal: static addresses behind it go too.
pub(super) fn del(desired: Desired, name: &PortName) -> Applied {
    if desired.port(name).is_none() {
        return Err(Refusal::NoPort { name: name.clone() });
    }
    let behind = FdbTarget::Port(name.clone());
    let notes = desired.statics().filter(|entry| entry.target == behind);
    let notes = notes.map(|e| format!("static address {} in VLAN {} went with the port", e.mac, e.vlan)).collect();
    Ok((without(desired, name), Outcome { changed: true, notes }))
}

pub(super) fn without(mut desired: Desired, name: &PortName) -> Desired {
    let behind = FdbTarget::Port(name.clone());
    desired.ports.remove(name);
    desired.fdb.retain(|_, entry| entry.target != behind);
    desired
}

/// What a port's settings say must hold together.
fn consistent(spec: &PortSpec) -> Result<(), Refusal> {
    for (at, address) in spec.addresses.iter().enumerate() {
        if spec.addresses[..at].iter().any(|before| before.ip() == address.ip()) {
            return Err(Refusal::AddressTwice { ip: address.ip() });
        }
        if let Some(mtu) = spec.mtu.filter(|mtu| address.ip().is_ipv6() && mtu.get() < IPV6_MTU) {
            return Err(Refusal::MtuForIpv6 { mtu, address: *address });
        }
    }
    for (at, &gateway) in spec.gateways.iter().enumerate() {
        if spec.gateways[..at].iter().any(|before| before.is_ipv4() == gateway.is_ipv4()) {
            return Err(Refusal::GatewayTwice { gateway });
        }
        if spec.addresses.iter().any(|address| address.ip() == gateway) {
            return Err(Refusal::GatewayIsAddress { gateway });
        }
        // Routers announce themselves by link-local addresses, which are on every link.
        let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !spec.addresses.iter().any(|address| address.net().contains(&gateway)) {
            return Err(Refusal::GatewayOutside { gateway });
        }
    }
    Ok(())
}

fn described(attachment: &Attachment) -> String {
    let Attachment { network, container, delegated, seen: _, sight: _ } = attachment;
    format!("{container} in {network}{}", if *delegated { " with addresses of another's" } else { "" })
}

/// What `asked` has otherwise than `there`: for the eye of who asks why.
fn differences(there: &PortSpec, asked: &PortSpec) -> String {
    fn list<T: ToString>(items: &[T]) -> String {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
    fn option<T: ToString>(item: Option<T>) -> String {
        item.map_or_else(String::new, |item| item.to_string())
    }
    let words = |spec: &PortSpec| {
        [
            ("netns", spec.netns.to_string()),
            ("ifname", spec.ifname.to_string()),
            ("MAC", option(spec.mac)),
            ("address", list(&spec.addresses)),
            ("gateway", list(&spec.gateways)),
            ("MTU", option(spec.mtu)),
            ("VLANs", spec.mode.to_string()),
            ("allow-mac", spec.allow_mac.to_string()),
            ("allow-ip", spec.allow_ip.to_string()),
            ("rx-limit", option(spec.limits.rx)),
            ("tx-limit", option(spec.limits.tx)),
            ("attachment", spec.attachment.as_ref().map_or_else(String::new, described)),
            ("gateway-of", option(spec.gateway_of.as_ref())),
        ]
    };
    let said = |text: String| if text.is_empty() { "none given".to_owned() } else { text };
    let pairs = words(there).into_iter().zip(words(asked)).filter(|(a, b)| a != b);
    let pairs = pairs.map(|((word, a), (_, b))| format!("{word}: {}, asked: {}", said(a), said(b)));
    pairs.collect::<Vec<_>>().join("; ")
}
