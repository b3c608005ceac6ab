//! Ports for people.

use std::fmt::Write as _;

use vswitch_api::{Attachment, ModeInfo, ModeKind, Offload, PortInfo, PortState, RateInfo, RateLimit};

use super::{bytes, option, vlan_list, words};
use crate::style::Tone;
use crate::table::{Table, fields};

pub(crate) fn ports(ports: &Vec<PortInfo>, out: &mut String) {
    if ports.is_empty() {
        out.push_str("no ports\n");
        return;
    }
    let head = ["NAME", "NETNS", "IFNAME", "MAC", "ADDRESSES", ">MTU", "VLANS", "STATE"];
    let row = |port: &PortInfo| {
        [
            port.name.to_string(),
            port.netns.to_string(),
            port.ifname.to_string(),
            option(port.mac),
            words(&port.addresses),
            port.mtu.to_string(),
            mode(&port.mode),
            state(port.state),
        ]
    };
    // Most switches have ports of one kind only: made by hand, or for a container runtime.
    if ports.iter().all(|port| port.attachment.is_none()) {
        let mut table = Table::new(head);
        ports.iter().for_each(|port| table.row(row(port)));
        return table.write(out);
    }
    let [a, b, c, d, e, f, g, h] = head;
    let mut table = Table::new([a, b, c, d, e, f, g, h, "CONTAINER"]);
    for port in ports {
        let [a, b, c, d, e, f, g, h] = row(port);
        let container = port.attachment.as_ref().map(|attachment| {
            let Attachment { network, container, .. } = attachment;
            format!("{} in {network}", short(container.as_str()))
        });
        table.row([a, b, c, d, e, f, g, h, option(container)]);
    }
    table.write(out);
}

/// A container's ID as runtimes list it: the first 12 of 64 hexadecimal digits.
fn short(container: &str) -> &str {
    let is_hash = container.len() == 64 && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { &container[..12] } else { container }
}

pub(crate) fn port(port: &PortInfo, out: &mut String) {
    let offloads = port.offloads.iter().map(|&offload| offload_name(offload)).collect::<Vec<_>>();
    let mut rows = vec![
        ("name", port.name.to_string()),
        ("state", state(port.state)),
        ("netns", port.netns.to_string()),
        ("ifname", port.ifname.to_string()),
        ("mac", option(port.mac)),
        ("addresses", words(&port.addresses)),
        ("mtu", port.mtu.to_string()),
        ("vlans", mode(&port.mode)),
        ("offloads", offloads.join(" ")),
        ("allow mac", allowed(port.allow_mac.as_deref())),
        ("allow ip", allowed(port.allow_ip.as_deref())),
        ("limit rx", limit(port.limits.and_then(|limits| limits.rx))),
        ("limit tx", limit(port.limits.and_then(|limits| limits.tx))),
    ];
    if let Some(Attachment { network, container, delegated, seen: _, sight: _ }) = &port.attachment {
        rows.push(("container", container.to_string()));
        rows.push(("network", network.to_string()));
        let whose =
            if *delegated { "the network's IPAM plugin, which has to be told to free them" } else { "vswitchd" };
        rows.push(("addresses by", whose.to_owned()));
    }
    fields(&rows, out);
}

/// What a port may carry one way.
fn limit(info: Option<RateInfo>) -> String {
    // What a daemon has is in range.
    let text = info.and_then(|RateInfo { rate, burst }| Some((RateLimit::new(rate, None).ok()?, bytes(burst))));
    text.map_or_else(|| "none".to_owned(), |(rate, burst)| format!("{rate}bit/s, {burst} at once"))
}

/// What a port may send from.
fn allowed<T: ToString>(values: Option<&[T]>) -> String {
    values
        .map_or_else(|| "any".to_owned(), |values| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

pub(crate) fn mode(mode: &ModeInfo) -> String {
    match mode.mode {
        ModeKind::Access => option(mode.vlan),
        ModeKind::Trunk => {
            let mut text = format!("trunk {}", vlan_list(&mode.vlans));
            if let Some(native) = mode.native {
                let _ = write!(text, " native {native}");
            }
            text
        }
    }
}

fn state(state: PortState) -> String {
    match state {
        PortState::Up => Tone::Good.on("up"),
        PortState::Lost => Tone::Bad.on("lost"),
    }
}

const fn offload_name(offload: Offload) -> &'static str {
    match offload {
        Offload::Checksum => "checksum",
        Offload::Tso4 => "tso4",
        Offload::Tso6 => "tso6",
        Offload::TsoEcn => "tso_ecn",
        Offload::Uso => "uso",
    }
}

#[cfg(test)]
mod tests {
    use super::super::rendered;
    use super::*;
    use serde_json::{Value, json};

    fn web() -> Value {
        json!({
            "name": "web", "netns": "blue", "ifname": "eth0", "mac": "02:00:00:00:00:01",
            "addresses": ["10.0.0.2/24", "fd00::2/64"], "mtu": 1450, "mode": "access", "vlan": 10, "vlans": [],
            "native": null, "state": "up", "offloads": ["checksum", "tso4"],
        })
    }

    fn router() -> Value {
        json!({
            "name": "router", "netns": "pid:7", "ifname": "lan0", "mac": null, "addresses": [], "mtu": 1500,
            "mode": "trunk", "vlan": null, "vlans": [10, 11, 12, 30], "native": 5, "state": "lost", "offloads": [],
        })
    }

    #[test]
    fn ports_in_a_table() {
        let expected = "\
NAME    NETNS  IFNAME  MAC                ADDRESSES                MTU  VLANS                    STATE
web     blue   eth0    02:00:00:00:00:01  10.0.0.2/24 fd00::2/64  1450  10                       up
router  pid:7  lan0    -                  -                       1500  trunk 10-12,30 native 5  lost
";
        assert_eq!(rendered(ports, json!([web(), router()])), expected);
        assert_eq!(rendered(ports, json!([])), "no ports\n");
    }

    #[test]
    fn ports_of_containers() {
        let mut c1 = web();
        c1["attachment"] = json!({"network": "podman", "container": "0123456789ab".repeat(6)[..64], "seen": true});
        let expected = "\
NAME    NETNS  IFNAME  MAC                ADDRESSES                MTU  VLANS                    STATE  CONTAINER
web     blue   eth0    02:00:00:00:00:01  10.0.0.2/24 fd00::2/64  1450  10                       up     0123456789ab in podman
router  pid:7  lan0    -                  -                       1500  trunk 10-12,30 native 5  lost   -
";
        assert_eq!(rendered(ports, json!([c1.clone(), router()])), expected);
        let said = |port_: Value| rendered(port, port_).lines().skip(13).map(str::to_owned).collect::<Vec<_>>();
        let id = format!("container     {}", &"0123456789ab".repeat(6)[..64]);
        assert_eq!(said(c1.clone()), [id.as_str(), "network       podman", "addresses by  vswitchd"]);
        c1["attachment"]["delegated"] = json!(true);
        assert!(said(c1)[2].contains("IPAM plugin"));
    }

    #[test]
    fn one_port() {
        let expected = "\
name       web
state      up
netns      blue
ifname     eth0
mac        02:00:00:00:00:01
addresses  10.0.0.2/24 fd00::2/64
mtu        1450
vlans      10
offloads   checksum tso4
allow mac  any
allow ip   10.0.0.2/32 fd00::/64
limit rx   1.5Gbit/s, 64.0 KiB at once
limit tx   none
";
        let mut web = web();
        web["allow_ip"] = json!(["10.0.0.2/32", "fd00::/64"]);
        web["limits"] = json!({"rx": {"rate": 1_500_000_000_u64, "burst": 65_536}, "tx": null});
        assert_eq!(rendered(port, web), expected);
    }
}
