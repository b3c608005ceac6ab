//! What the host has just now: interfaces in containers, what `why` makes of them, and commands that mend them.

use std::net::IpAddr;

use vswitch_api::{ExplainStep, LimitsInfo, NetnsRef, PortMode, PortName, PortSpec};
use vswitch_core::MacAddr;
use vswitch_sys::Netlink;

use super::super::Control;
use super::why::{Walked, stop};

/// An interface in its container.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    pub(super) ifname: String,
    pub(super) is_up: bool,
    pub(super) is_running: bool,
    pub(super) mac: Option<MacAddr>,
    pub(super) mtu: u32,
    pub(super) addresses: Vec<IpAddr>,
}

impl Control {
    /// The interface of a port as it is in its container; `None` where it is gone, or may not be looked at.
    pub(super) fn inside(&self, name: &PortName) -> Option<Inside> {
        let id = self.live_id(name)?;
        let (netns, ifname) = self.place(id).ok()??;
        let netlink = Netlink::open_in(&netns).ok()?;
        let link = netlink.link(&ifname).ok()??;
        let all = netlink.addresses().unwrap_or_default();
        let addresses = all.into_iter().filter(|(index, _)| *index == link.index).map(|(_, net)| net.addr()).collect();
        Some(Inside {
            ifname,
            is_up: link.up,
            is_running: link.running,
            mac: link.mac.map(MacAddr),
            mtu: link.mtu,
            addresses,
        })
    }

    /// Whether a port and its interface can carry frames.
    pub(super) fn walk_port(&self, name: &PortName, steps: &mut Vec<ExplainStep>) -> Walked {
        if !self.live.contains_key(name) {
            let text = format!("port {name} is lost: its interface or its namespace is gone");
            return stop(steps, ExplainStep::stop("port", "port_lost", text, self.add_again(name)));
        }
        let Some(inside) = self.inside(name) else {
            let text = format!("port {name} is there; its container may not be looked into");
            steps.push(ExplainStep::note("port", text));
            return Ok(());
        };
        let ifname = &inside.ifname;
        if !inside.is_up {
            let text = format!("interface {ifname} of port {name} is down in its container");
            return stop(steps, ExplainStep::stop("interface", "interface_down", text, self.set_up(name, ifname)));
        }
        if !inside.is_running {
            let text = format!("interface {ifname} of port {name} has no carrier in its container");
            return stop(steps, ExplainStep::stop("interface", "no_carrier", text, None));
        }
        steps.push(ExplainStep::ok(
            "port",
            format!("port {name} is up, {ifname} in its container too, MTU {}", inside.mtu),
        ));
        let given = self.network.ports.get(name).map(|setup| setup.mac);
        if let (Some(mac), Some(given)) = (inside.mac.filter(|mac| Some(*mac) != given), given) {
            let text = format!("the container of port {name} changed its address from {given} to {mac}");
            steps.push(ExplainStep::note("interface", text));
        }
        Ok(())
    }

    /// The command that sets the interface of a port up.
    pub(super) fn set_up(&self, name: &PortName, ifname: &str) -> Option<String> {
        Some(match &self.desired.port(name)?.netns {
            NetnsRef::Name(netns) => format!("ip -n {netns} link set {ifname} up"),
            NetnsRef::Pid(pid) => format!("nsenter --target {pid} --net ip link set {ifname} up"),
            NetnsRef::Path(path) => format!("nsenter --net={path} ip link set {ifname} up"),
        })
    }

    /// The command that adds a port that is lost again, as it was.
    pub(super) fn add_again(&self, name: &PortName) -> Option<String> {
        let PortSpec {
            netns,
            ifname,
            mac,
            addresses,
            gateways,
            mtu,
            mode,
            allow_mac,
            allow_ip,
            limits,
            attachment,
            ..
        } = self.desired.port(name)?;
        if attachment.is_some() {
            return None; // its runtime's to attach again
        }
        let mut words = format!("vsctl port add {name} --netns {netns}");
        let mut say = |word: &str, value: String| words += &format!(" --{word} {value}");
        if ifname.as_str() != "eth0" {
            say("ifname", ifname.to_string());
        }
        mac.iter().for_each(|mac| say("mac", mac.to_string()));
        addresses.iter().for_each(|address| say("address", address.to_string()));
        gateways.iter().for_each(|gateway| say("gateway", gateway.to_string()));
        mtu.iter().for_each(|mtu| say("mtu", mtu.to_string()));
        match mode {
            PortMode::Access(vlan) => say("access", vlan.to_string()),
            PortMode::Trunk { vlans, native } => {
                say("trunk", vlans.to_string());
                native.iter().for_each(|native| say("native", native.to_string()));
            }
        }
        if !allow_mac.is_unsaid() {
            say("allow-mac", allow_mac.to_string());
        }
        if !allow_ip.is_unsaid() {
            say("allow-ip", allow_ip.to_string());
        }
        if LimitsInfo::of(limits).is_some() {
            limits.rx.iter().for_each(|limit| say("rx-limit", limit.to_string()));
            limits.tx.iter().for_each(|limit| say("tx-limit", limit.to_string()));
        }
        Some(words)
    }
}
