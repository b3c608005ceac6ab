//! What the host has just now: interfaces in containers, and commands that mend them.

use std::net::IpAddr;

use vswitch_api::{LimitsInfo, NetnsRef, PortMode, PortName, PortSpec};
use vswitch_core::MacAddr;
use vswitch_sys::Netlink;

use super::super::Control;

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
