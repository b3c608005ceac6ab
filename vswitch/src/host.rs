//! The host's side of a port and of the underlay: namespaces, interfaces, addresses, routes.

use std::net::IpAddr;
use std::path::Path;

use thiserror::Error;
use vswitch_api::NetnsRef;
use vswitch_sys::{Netlink, NetlinkError, Netns, NetnsError, Tap, TapError};

use crate::network::PortSetup;

/// Why the host refused.
#[derive(Debug, Error)]
pub(crate) enum HostError {
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Tap(#[from] TapError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("interface {0} vanished while it was set up; try again")]
    Vanished(String),
    #[error("underlay address {address} is not on this host; its addresses are {}", list(.present))]
    NoUnderlay { address: IpAddr, present: Vec<IpAddr> },
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// The namespace that `reference` names.
fn open_netns(reference: &NetnsRef) -> Result<Netns, HostError> {
    Ok(match reference {
        NetnsRef::Name(name) => Netns::open_name(name)?,
        NetnsRef::Path(path) => Netns::open_path(Path::new(path))?,
        NetnsRef::Pid(pid) => Netns::open_pid(*pid)?,
    })
}

/// A port's interface, made and set up; and the MAC address it has.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) tap: Tap,
    pub(crate) mac: [u8; 6],
}

/// Makes the interface of a port in its namespace: MAC, MTU, addresses, up, default route, in that order.
/// On failure nothing stays: the device goes with its descriptor.
pub(crate) fn create_interface(setup: &PortSetup) -> Result<Interface, HostError> {
    let netns = open_netns(&setup.netns)?;
    let ifname = setup.ifname.as_str();
    let tap = Tap::open(ifname, 1, Some(&netns))?;
    let netlink = Netlink::open_in(&netns)?;
    let vanished = || HostError::Vanished(ifname.to_owned());
    let index = netlink.link(ifname)?.ok_or_else(vanished)?.index;
    if let Some(mac) = setup.mac {
        netlink.set_mac(index, mac.octets())?;
    }
    netlink.set_mtu(index, u32::from(setup.mtu))?;
    for address in &setup.addresses {
        netlink.add_address(index, address.net())?;
    }
    netlink.set_up(index, true)?;
    for &gateway in &setup.gateways {
        netlink.add_route(None, Some(gateway), index)?;
    }
    let mac = netlink.link(ifname)?.ok_or_else(vanished)?.mac.unwrap_or_default();
    Ok(Interface { tap, mac })
}

/// Changes what may change of a living interface: MTU, addresses and gateway.
pub(crate) fn change_interface(before: &PortSetup, after: &PortSetup) -> Result<(), HostError> {
    if (before.mtu, &before.addresses, &before.gateways) == (after.mtu, &after.addresses, &after.gateways) {
        return Ok(());
    }
    let netlink = Netlink::open_in(&open_netns(&after.netns)?)?;
    let link = netlink.link(after.ifname.as_str())?.ok_or_else(|| HostError::Vanished(after.ifname.to_string()))?;
    if before.mtu != after.mtu {
        netlink.set_mtu(link.index, u32::from(after.mtu))?;
    }
    for gone in before.gateways.iter().filter(|gateway| !after.gateways.contains(gateway)) {
        netlink.delete_route(None, Some(*gone), link.index)?;
    }
    for gone in before.addresses.iter().filter(|address| !after.addresses.contains(address)) {
        netlink.delete_address(link.index, gone.net())?;
    }
    for new in after.addresses.iter().filter(|address| !before.addresses.contains(address)) {
        netlink.add_address(link.index, new.net())?;
    }
    for new in after.gateways.iter().filter(|gateway| !before.gateways.contains(gateway)) {
        netlink.add_route(None, Some(*new), link.index)?;
    }
    Ok(())
}

/// The underlay as the host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    /// The VTEP's address.
    pub(crate) address: IpAddr,
    /// MTU of the interface that holds it, in bytes.
    pub(crate) mtu: u16,
}

impl Underlay {
    /// Bytes that encapsulation adds to a packet: outer IP, UDP 8, VXLAN 8, inner Ethernet 14.
    pub(crate) const fn overhead(&self) -> u16 {
        match self.address {
            IpAddr::V4(_) => 20 + 30,
            IpAddr::V6(_) => 40 + 30,
        }
    }

    /// The largest packet inside that fits uncut.
    pub(crate) const fn inner_mtu(&self) -> u16 {
        self.mtu.saturating_sub(self.overhead())
    }

    /// Finds the interface of this host that holds `address`.
    pub(crate) fn find(address: IpAddr) -> Result<Self, HostError> {
        let netlink = Netlink::open()?;
        let addresses = netlink.addresses()?;
        let Some((index, _)) = addresses.iter().find(|(_, net)| net.addr() == address) else {
            let present = addresses.iter().map(|(_, net)| net.addr()).collect();
            return Err(HostError::NoUnderlay { address, present });
        };
        let mtu = netlink.link_by_index(*index)?.map_or(1500, |link| link.mtu);
        Ok(Self { address, mtu: u16::try_from(mtu).unwrap_or(u16::MAX) })
    }
}
