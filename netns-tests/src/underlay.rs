//! The network between hosts.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::{Host, Lab, Result};

/// The interface of a host to the underlay.
pub const UPLINK: &str = "uplink";

/// The addresses of a host on the underlay.
#[derive(Clone, Copy, Debug)]
pub struct Vtep {
    /// IPv4.
    pub v4: IpAddr,
    /// IPv6.
    pub v6: IpAddr,
}

/// An Ethernet that joins hosts, of one MTU: a kernel bridge in a namespace of its own.
#[derive(Debug)]
pub struct Underlay {
    host: Host,
    bridge: u32,
    mtu: u32,
    joined: Cell<u8>,
}

impl Underlay {
    /// An underlay that carries packets of `mtu` bytes.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn new(lab: &Lab, mtu: u32) -> Result<Self> {
        let host = lab.quiet_host("underlay")?;
        host.bridge_without_netfilter()?;
        host.netlink().add_bridge("br")?;
        let bridge = host.link("br")?.index;
        host.netlink().set_mtu(bridge, mtu)?;
        host.up("br")?;
        Ok(Self { host, bridge, mtu, joined: Cell::new(0) })
    }

    /// What lies between the hosts: a bridge `br`, and an interface `toN` to the host that joined as number N.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Connects `host` by an interface [`UPLINK`] with an address of either family.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn join(&self, host: &Host) -> Result<Vtep> {
        let vtep = self.plug(host)?;
        host.address(UPLINK, &[IpNet::new(vtep.v4, 24)?, IpNet::new(vtep.v6, 64)?])?;
        Ok(vtep)
    }

    /// Connects `host` by an interface [`UPLINK`] without an address; returns those that are kept for it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn plug(&self, host: &Host) -> Result<Vtep> {
        let number = self.joined.get() + 1;
        self.joined.set(number);
        let port = format!("to{number}");
        self.host.netlink().add_veth(&port, UPLINK, Some(host.netns()))?;
        let inside = self.host.link(&port)?.index;
        let outside = host.link(UPLINK)?.index;
        self.host.netlink().set_mtu(inside, self.mtu)?;
        host.netlink().set_mtu(outside, self.mtu)?;
        self.host.netlink().set_master(inside, Some(self.bridge))?;
        let v4 = IpAddr::from(Ipv4Addr::new(192, 0, 2, number));
        let v6 = IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()));
        self.host.up(&port)?;
        host.up(UPLINK)?;
        Ok(Vtep { v4, v6 })
    }

    /// Cuts off, or connects again, the host that joined as number `number` (from 1).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn connect(&self, number: u8, connected: bool) -> Result {
        let port = self.host.link(&format!("to{number}"))?;
        Ok(self.host.netlink().set_up(port.index, connected)?)
    }
}
