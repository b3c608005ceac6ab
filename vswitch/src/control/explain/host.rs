//! What the host has just now: interfaces in containers, what `why` makes of them, and commands that mend them.

use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::{ExplainStep, LimitsInfo, NetnsRef, PortMode, PortName, PortSpec};
use vswitch_core::MacAddr;
use vswitch_sys::{Netlink, Netns};

use super::super::Control;
use super::why::{Walked, stop};
use crate::host::Whereabouts;

/// An interface in its container.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) ifname: String,
    pub(super) index: u32,
    /// The bridge that it belongs to there.
    pub(super) master: Option<u32>,
    pub(super) is_up: bool,
    pub(super) is_running: bool,
    pub(super) mac: Option<MacAddr>,
    pub(super) mtu: u32,
    /// Its own addresses.
    pub(super) nets: Vec<IpNet>,
    /// Those of the container's other interfaces.
    pub(super) others: Vec<IpAddr>,
    pub(super) netns: Netns,
    pub(super) netlink: Netlink,
}

impl Inside {
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.nets.iter().map(IpNet::addr)
    }

    /// Whether the container has an address, by whatever interface.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.addresses().any(|own| own == ip) || self.others.contains(&ip)
    }
}

impl Control {
    /// The interface of a port as it is in its container; `None` where it is gone, or may not be looked at.
    pub(super) fn inside(&self, name: &PortName) -> Option<Inside> {
        let id = self.live_id(name)?;
        let (netns, ifname) = self.place(id).ok()??;
        let netlink = Netlink::open_in(&netns).ok()?;
        let link = netlink.link(&ifname).ok()??;
        let (own, others): (Vec<_>, Vec<_>) =
            netlink.addresses().unwrap_or_default().into_iter().partition(|(index, _)| *index == link.index);
        Some(Inside {
            ifname,
            index: link.index,
            master: link.master,
            is_up: link.up,
            is_running: link.running,
            mac: link.mac.map(MacAddr),
            mtu: link.mtu,
            nets: own.into_iter().map(|(_, net)| net).collect(),
            others: others.into_iter().map(|(_, net)| net.addr()).filter(|ip| !ip.is_loopback()).collect(),
            netns,
            netlink,
        })
    }

    /// Whether the interface of a port is in another namespace than the one that the port names.
    fn is_moved(&self, name: &PortName, inside: &Inside) -> bool {
        let named = self.network.ports.get(name).filter(|setup| setup.is_named());
        let named = named.map(|setup| crate::host::whereabouts(&setup.netns));
        match (named, inside.netns.identity()) {
            (Some(Whereabouts::Namespace(named)), Ok(own)) => named != own,
            _ => false,
        }
    }

    /// The port whose interface is `ifname` in the namespace that `netns` is.
    pub(super) fn port_at(&self, netns: &Netns, ifname: &str) -> Option<PortName> {
        let own = Whereabouts::Namespace(netns.identity().ok()?);
        let is_it = |setup: &crate::network::PortSetup| {
            setup.ifname.as_str() == ifname && crate::host::whereabouts(&setup.netns) == own
        };
        let ports = self.network.ports.iter().filter(|(name, _)| self.live.contains_key(*name));
        ports.filter(|(_, setup)| is_it(setup)).map(|(name, _)| name.clone()).next()
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
        if self.is_moved(name, &inside) {
            let text =
                format!("interface {ifname} of port {name} is in another namespace than the one of its container");
            if !inside.is_up || inside.nets.is_empty() {
                let text = format!("{text}, where it is down or has no address");
                let again = self.add_again(name).map(|add| format!("vsctl port del {name} && {add}"));
                return stop(steps, ExplainStep::stop("interface", "interface_moved", text, again));
            }
            steps.push(ExplainStep::note("interface", text));
        }
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
    fn set_up(&self, name: &PortName, ifname: &str) -> Option<String> {
        self.ip_in(name, &format!("link set {ifname} up"))
    }

    /// The command that does `words` of ip(8) in the container of a port.
    pub(super) fn ip_in(&self, name: &PortName, words: &str) -> Option<String> {
        Some(match &self.desired.port(name)?.netns {
            NetnsRef::Name(netns) => format!("ip -n {netns} {words}"),
            netns => format!("{} ip {words}", nsenter(netns)),
        })
    }

    /// The command that sets a sysctl in the container of a port.
    pub(super) fn sysctl_in(&self, name: &PortName, setting: &str) -> Option<String> {
        Some(match &self.desired.port(name)?.netns {
            NetnsRef::Name(netns) => format!("ip netns exec {netns} sysctl -w {setting}"),
            netns => format!("{} sysctl -w {setting}", nsenter(netns)),
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

fn nsenter(netns: &NetnsRef) -> String {
    match netns {
        NetnsRef::Pid(pid) => format!("nsenter --target {pid} --net"),
        netns => format!("nsenter --net={}", netns.path().display()),
    }
}
