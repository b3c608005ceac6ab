//! The host's side of a port: its namespace, interface, addresses, routes.

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
}

/// The namespace that `reference` names.
fn open_netns(reference: &NetnsRef) -> Result<Netns, HostError> {
    Ok(match reference {
        NetnsRef::Name(name) => Netns::open_name(name)?,
        NetnsRef::Path(path) => Netns::open_path(Path::new(path))?,
        NetnsRef::Pid(pid) => Netns::open_pid(*pid)?,
    })
}

/// Makes the interface of a port in its namespace: MAC, MTU, addresses, up, default route, in that order.
/// On failure nothing stays: the device goes with its descriptor.
pub(crate) fn create_interface(setup: &PortSetup) -> Result<Tap, HostError> {
    let netns = open_netns(&setup.netns)?;
    let ifname = setup.ifname.as_str();
    let tap = Tap::open(ifname, 1, Some(&netns))?;
    let netlink = Netlink::open_in(&netns)?;
    let vanished = || HostError::Vanished(ifname.to_owned());
    let index = netlink.link(ifname)?.ok_or_else(vanished)?.index;
    netlink.set_mac(index, setup.mac.0)?;
    netlink.set_mtu(index, u32::from(setup.mtu))?;
    for address in &setup.addresses {
        netlink.add_address(index, address.net())?;
    }
    netlink.set_up(index, true)?;
    for &gateway in &setup.gateways {
        netlink.add_route(None, Some(gateway), index)?;
    }
    Ok(tap)
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
