//! The host's side of a port: its namespace, interface, addresses, routes.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

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

/// Where the namespace that `reference` names is: equal for two if and only if they are the same. `None` where there is
/// none.
pub(crate) fn netns_identity(reference: &NetnsRef) -> Result<Option<(u64, u64)>, HostError> {
    match open_netns(reference) {
        Ok(netns) => Ok(Some(netns.identity()?)),
        Err(HostError::Netns(NetnsError::NotFound(_) | NetnsError::NoProcess(_) | NetnsError::NotNamespace(_))) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The interface of a port, with `queues` queues: the one that a daemon before this one left in its namespace, as it is
/// there, or a new one. `mark` tells ours from others'.
pub(crate) fn interface(setup: &PortSetup, mark: &str, queues: u16) -> Result<Tap, HostError> {
    let netns = open_netns(&setup.netns)?;
    let netlink = Netlink::open_in(&netns)?;
    let ifname = setup.ifname.as_str();
    let Some(left) = marked(&netlink, ifname, mark)? else {
        return create_interface(&netns, &netlink, setup, mark, queues);
    };
    let tap = match Tap::attach(ifname, queues, &netns) {
        Err(TapError::OneQueue(..)) => {
            tracing::warn!(ifname, queues, "made anew, for it had one queue: what its container had set there is gone");
            netlink.delete_link(left)?;
            return create_interface(&netns, &netlink, setup, mark, queues);
        }
        outcome => outcome?,
    };
    // All else is the container's by now. These may be missing where the daemon ended in the middle of a change.
    netlink.set_mtu(left, u32::from(setup.mtu))?;
    setup.addresses.iter().try_for_each(|address| give_address(&netlink, left, address.net()))?;
    setup.gateways.iter().try_for_each(|&gateway| give_gateway(&netlink, left, gateway)).or_else(|error| {
        tracing::warn!(ifname, %error, "its default route stays as the container has it");
        Ok::<_, HostError>(())
    })?;
    Ok(tap)
}

/// Removes the interface that a daemon left for a port, where it did and its namespace is there.
pub(crate) fn remove_interface(setup: &PortSetup, mark: &str) -> Result<(), HostError> {
    if netns_identity(&setup.netns)?.is_none() {
        return Ok(());
    }
    let netlink = Netlink::open_in(&open_netns(&setup.netns)?)?;
    match marked(&netlink, setup.ifname.as_str(), mark)? {
        Some(index) => Ok(netlink.delete_link(index)?),
        None => Ok(()),
    }
}

/// The number of interface `ifname`, where it bears `mark`.
fn marked(netlink: &Netlink, ifname: &str, mark: &str) -> Result<Option<u32>, NetlinkError> {
    let link = netlink.link(ifname)?;
    Ok(link.filter(|link| link.alias.as_deref() == Some(mark)).map(|link| link.index))
}

/// Makes the interface of a port in its namespace: MAC, MTU, addresses, up, default route, in that order. On failure
/// nothing stays: only once it is whole, and bears its mark, it may outlive its descriptors.
fn create_interface(
    netns: &Netns,
    netlink: &Netlink,
    setup: &PortSetup,
    mark: &str,
    queues: u16,
) -> Result<Tap, HostError> {
    let ifname = setup.ifname.as_str();
    let tap = Tap::open(ifname, queues, Some(netns))?;
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
    netlink.set_alias(index, mark)?;
    tap.set_persistent(true)?;
    Ok(tap)
}

/// The namespace that the descriptors of `tap` keep alive, where they do.
pub(crate) fn pinned(tap: &Tap) -> Result<Option<(u64, u64)>, HostError> {
    match tap.queues().first() {
        Some(queue) if queue.pins_netns()? => Ok(Some(queue.netns()?.identity()?)),
        _ => Ok(None),
    }
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

/// Makes of an interface that was left as `before` says one as `after` says, where it is there.
pub(crate) fn restore_interface(before: &PortSetup, after: &PortSetup, mark: &str) -> Result<(), HostError> {
    if netns_identity(&after.netns)?.is_none() {
        return Ok(());
    }
    let netns = open_netns(&after.netns)?;
    match marked(&Netlink::open_in(&netns)?, after.ifname.as_str(), mark)? {
        Some(_) => change_interface(&netns, after.ifname.as_str(), before, after),
        None => Ok(()),
    }
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
