//! The host's side of a port: its namespace, interface, addresses, routes.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use ipnet::IpNet;
use nix::errno::Errno;
use thiserror::Error;
use vswitch_api::NetnsRef;
use vswitch_sys::{Netlink, NetlinkError, Netns, NetnsError, Tap, TapError, TapQueue};

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
    #[error("process {0} is one of this host's own, not of a container: its number may have been used again since")]
    PidReused(u32),
    #[error("interface {0} vanished while it was set up; try again")]
    Vanished(String),
    #[error("the interface is {there} with {queues} queues, and the port's would be {wanted} with {workers}")]
    Elsewhere { there: String, wanted: String, queues: usize, workers: u16 },
    #[error("it was lost when this daemon took over; `vsctl port add` brings it back once its namespace is there")]
    LostBefore,
}

/// The namespace that `reference` names.
fn open_netns(reference: &NetnsRef) -> Result<Netns, HostError> {
    Ok(match reference {
        NetnsRef::Name(name) => Netns::open_name(name)?,
        NetnsRef::Path(path) => Netns::open_path(Path::new(path))?,
        NetnsRef::Pid(pid) => Netns::open_pid(*pid)?,
    })
}

/// Whether `reference`, given to a daemon before this one, may still mean the same. A process number that leads into the
/// daemon's own namespace would let the port change the host's interfaces.
pub(crate) fn still_meant(reference: &NetnsRef) -> Result<(), HostError> {
    match reference {
        NetnsRef::Pid(pid) if Netns::open_pid(*pid)?.identity()? == Netns::current()?.identity()? => {
            Err(HostError::PidReused(*pid))
        }
        _ => Ok(()),
    }
}

/// Makes the interface of a port in its namespace: MAC, MTU, addresses, up, default route, in that order.
/// It has `queues` queues. On failure nothing stays: the device goes with its descriptors.
pub(crate) fn create_interface(setup: &PortSetup, queues: u16) -> Result<Tap, HostError> {
    let netns = open_netns(&setup.netns)?;
    let ifname = setup.ifname.as_str();
    let tap = Tap::open(ifname, queues, Some(&netns))?;
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

/// Goes on with the interface of a port behind `descriptors`, which nobody looked after for a while: a change may have been
/// half-made, or written down and not made. What the container added stays.
///
/// An interface that cannot be the port's is deleted.
pub(crate) fn adopt_interface(setup: &PortSetup, descriptors: Vec<OwnedFd>, workers: u16) -> Result<Tap, HostError> {
    let tap = Tap::adopt_all(descriptors, None)?;
    let (queue, ifname) = (tap.queues().first(), setup.ifname.as_str());
    let vanished = || HostError::Vanished(ifname.to_owned());
    let (netns, name) = queue.map(place).transpose()?.flatten().ok_or_else(vanished)?;
    let netlink = Netlink::open_in(&netns)?;
    let link = netlink.link(&name)?.ok_or_else(vanished)?;
    let is_there = open_netns(&setup.netns).is_ok_and(|wanted| wanted.identity().ok() == netns.identity().ok());
    if !is_there || name != ifname || tap.queues().len() != usize::from(workers) {
        netlink.delete_link(link.index)?;
        let there = if is_there { name } else { format!("{name} in another namespace") };
        return Err(HostError::Elsewhere { there, wanted: ifname.to_owned(), queues: tap.queues().len(), workers });
    }
    if link.mac != Some(setup.mac.0) {
        netlink.set_mac(link.index, setup.mac.0)?;
    }
    if link.mtu != u32::from(setup.mtu) {
        netlink.set_mtu(link.index, u32::from(setup.mtu))?;
    }
    for address in &setup.addresses {
        give_address(&netlink, link.index, address.net())?;
    }
    netlink.set_up(link.index, true)?;
    for &gateway in &setup.gateways {
        give_gateway(&netlink, link.index, gateway)?;
    }
    Ok(tap)
}

/// Deletes the interface behind `queue`, whoever else has descriptors of it.
pub(crate) fn delete_interface(queue: &TapQueue) -> Result<(), HostError> {
    let Some((netns, name)) = place(queue)? else { return Ok(()) };
    let netlink = Netlink::open_in(&netns)?;
    if let Some(link) = netlink.link(&name)? {
        absent(netlink.delete_link(link.index))?;
    }
    Ok(())
}

/// The namespace and the name that the interface behind `queue` has now; `None` where it is gone.
pub(crate) fn place(queue: &TapQueue) -> Result<Option<(Netns, String)>, TapError> {
    match queue.netns() {
        Ok(netns) => Ok(queue.interface().ok().map(|ifname| (netns, ifname))),
        Err(TapError::System { source, .. }) if is_gone(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    // EINVAL: nobody holds the namespace any more, and the kernel is about to take it down with the interface.
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EBADFD | Errno::EINVAL))
}

/// Changes what may change of the interface `ifname` in `netns`: MTU, addresses and gateway.
pub(crate) fn change_interface(
    netns: &Netns,
    ifname: &str,
    before: &PortSetup,
    after: &PortSetup,
) -> Result<(), HostError> {
    if (before.mtu, &before.addresses, &before.gateways) == (after.mtu, &after.addresses, &after.gateways) {
        return Ok(());
    }
    let netlink = Netlink::open_in(netns)?;
    let index = netlink.link(ifname)?.ok_or_else(|| HostError::Vanished(ifname.to_owned()))?.index;
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
