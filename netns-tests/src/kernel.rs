//! The other implementation: the kernel's bridge and VXLAN device.

use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_sys::VxlanSpec;

use crate::{Host, Lab, Result};

/// The port of VXLAN (RFC 7348 5).
const VXLAN_PORT: u16 = 4789;

/// A host whose switch is the kernel's: one VLAN, a bridge with a VXLAN device in it.
#[derive(Debug)]
pub struct KernelSwitch {
    host: Host,
    bridge: u32,
    mtu: u32,
}

impl KernelSwitch {
    /// Makes `host`, which has the address `local` on the underlay, a switch of network `vni` that floods to `remotes`.
    /// `mtu` is what its containers may send.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn new(host: Host, vni: u32, local: IpAddr, remotes: &[IpAddr], mtu: u32) -> Result<Self> {
        host.bridge_without_netfilter()?;
        let netlink = host.netlink();
        netlink.add_bridge("br0")?;
        let bridge = host.link("br0")?.index;
        let spec = VxlanSpec { name: "vx0", vni, local, remote: None, port: VXLAN_PORT, learning: true };
        netlink.add_vxlan(&spec)?;
        let vxlan = host.link("vx0")?.index;
        netlink.set_mtu(vxlan, mtu)?;
        netlink.set_master(vxlan, Some(bridge))?;
        for &remote in remotes {
            netlink.fdb_append(vxlan, [0; 6], remote)?;
        }
        host.up("br0")?;
        host.up("vx0")?;
        Ok(Self { host, bridge, mtu })
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// A container on the bridge, with an `eth0` of these addresses.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn attach(&self, lab: &Lab, name: &str, addresses: &[IpNet]) -> Result<Host> {
        let container = lab.host(name)?;
        let netlink = self.host.netlink();
        netlink.add_veth(name, "eth0", Some(container.netns()))?;
        let port = self.host.link(name)?.index;
        netlink.set_mtu(port, self.mtu)?;
        netlink.set_master(port, Some(self.bridge))?;
        self.host.up(name)?;
        container.netlink().set_mtu(container.link("eth0")?.index, self.mtu)?;
        container.address("eth0", addresses)?;
        container.up("eth0")?;
        Ok(container)
    }
}
