//! What becomes of a port's interface later: it is changed, changed back, woken, or removed.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use vswitch_sys::{InterfaceError, Netlink, NetlinkError, Netns};

use super::HostError;
use super::namespace::found_netns;
use super::obtain::spec;
use crate::network::PortSetup;

/// Whether a port's interface needs no change.
pub(crate) fn is_same_interface(before: &PortSetup, after: &PortSetup) -> bool {
    (before.mtu, &before.addresses, &before.gateways) == (after.mtu, &after.addresses, &after.gateways)
}

/// Changes what may change of the interface `ifname` in `netns`: MTU, addresses and gateway.
pub(crate) fn change_interface(
    netns: &Netns,
    ifname: &str,
    before: &PortSetup,
    after: &PortSetup,
) -> Result<(), HostError> {
    let netlink = Netlink::open_in(netns)?;
    let index = netlink.link(ifname)?.ok_or_else(|| InterfaceError::Vanished(ifname.to_owned()))?.index;
    if before.mtu != after.mtu {
        netlink.set_mtu(index, u32::from(after.mtu))?;
    }
    if (&before.addresses, &before.gateways) == (&after.addresses, &after.gateways) {
        return Ok(());
    }
    for &gone in before.gateways.iter().filter(|gateway| !after.gateways.contains(gateway)) {
        absent(netlink.delete_route(None, Some(gone), index))?;
    }
    for gone in before.addresses.iter().filter(|address| !after.addresses.contains(address)) {
        absent(netlink.delete_address(index, gone.net()))?;
    }
    // Those that stay as well: the kernel takes the secondary addresses of a subnet away with its first one, and the
    // routes with the last address. Each is tried whatever became of the others: a way back goes as far as it can.
    let addresses = after.addresses.iter().map(|address| give_address(&netlink, index, address.net()));
    let addresses = addresses.fold(Ok(()), Result::and);
    let gateways = after.gateways.iter().map(|&gateway| give_gateway(&netlink, index, gateway));
    let gateways = gateways.fold(Ok(()), Result::and);
    Ok(addresses.and(gateways)?)
}

/// Lets the container with interface `ifname`, which was without carrier, ask for its neighbours at once. To be called
/// when frames are served again.
pub(crate) fn wake(netns: &Netns, ifname: &str) -> Result<(), HostError> {
    /// The kernel acts on a carrier from a work queue, at once where nothing else is in its way.
    const CARRIER: Duration = Duration::from_millis(100);
    let netlink = Netlink::open_in(netns)?;
    let Some(link) = netlink.link(ifname)?.filter(|link| link.up) else { return Ok(()) };
    netlink.wait_running(link.index, CARRIER)?;
    netlink.forget_unanswered_neighbours(link.index)?;
    Ok(())
}

/// Makes of an interface that a daemon left as `before` says one as `after` says, where it is there.
pub(crate) fn restore_interface(before: &PortSetup, after: &PortSetup, mark: &str) -> Result<(), HostError> {
    let Some(netns) = found_netns(&after.netns)? else { return Ok(()) };
    match spec(after, mark).left(&netns)? {
        Some(_) => change_interface(&netns, after.ifname.as_str(), before, after),
        None => Ok(()),
    }
}

/// Removes the interface that a daemon left for a port, where it did and its namespace is there.
pub(crate) fn remove_interface(setup: &PortSetup, mark: &str) -> Result<(), HostError> {
    if let Some(netns) = found_netns(&setup.netns)? {
        spec(setup, mark).remove(&netns)?;
    }
    Ok(())
}

/// Deletes interface `ifname` in `netns`, whoever has descriptors of it.
pub(crate) fn delete_interface(netns: &Netns, ifname: &str) -> Result<(), HostError> {
    let netlink = Netlink::open_in(netns)?;
    match netlink.link(ifname)? {
        Some(link) => Ok(absent(netlink.delete_link(link.index))?),
        None => Ok(()),
    }
}

/// The container may have removed it before us.
fn absent(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    outcome.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
}

/// The container may have added it before us.
fn give_address(netlink: &Netlink, index: u32, address: IpNet) -> Result<(), NetlinkError> {
    netlink.add_address(index, address).or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}

/// As [`give_address`]. Another default route is in the way too, and is not ours to replace.
fn give_gateway(netlink: &Netlink, index: u32, gateway: IpAddr) -> Result<(), NetlinkError> {
    match netlink.add_route(None, Some(gateway), index) {
        Err(error) if error.is_exists() && netlink.has_route(None, Some(gateway), index)? => Ok(()),
        outcome => outcome,
    }
}
