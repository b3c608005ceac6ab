//! How a port comes by its interface: found where a daemon left it, made, kept by a service manager, or handed over.

use std::os::fd::OwnedFd;

use vswitch_api::{IfName, PortName};
use vswitch_sys::interface::takes_advertisements;
use vswitch_sys::{InterfaceError, InterfaceSpec, Netlink, NetlinkError, Netns, Origin, Tap};

use super::namespace::{Whereabouts, netns_identity, open_netns, whereabouts};
use super::{HostError, place};
use crate::network::PortSetup;

/// What the interface of a port shall be. `mark` tells ours from others'.
pub(super) fn spec(setup: &PortSetup, mark: &str) -> InterfaceSpec {
    InterfaceSpec {
        name: setup.ifname.as_str().to_owned(),
        mac: setup.mac.0,
        mtu: setup.mtu,
        addresses: setup.addresses.iter().map(|address| address.net()).collect(),
        gateways: setup.gateways.clone(),
        mark: mark.to_owned(),
    }
}

/// The interface of a port, with `queues` queues: the one that a daemon before this one left in its namespace, as it is
/// there, or a new one. The namespace is the one that `netns` is of, where somebody else opened it.
///
/// A new one is made outside and moved in, so that our descriptors do not keep the namespace alive. That takes the kernel
/// (6.18) two grace periods of RCU, milliseconds on a busy machine; a container's port whose end its name tells is made
/// inside.
pub(crate) fn obtain_interface(
    setup: &PortSetup,
    mark: &str,
    queues: u16,
    netns: Option<Netns>,
) -> Result<Tap, HostError> {
    let netns = netns.map_or_else(|| open_netns(&setup.netns), Ok)?;
    let spec = spec(setup, mark);
    let ends_by_name = setup.attachment.as_ref().is_some_and(|attachment| attachment.seen);
    let (tap, origin) = if ends_by_name { spec.obtain_inside(&netns, queues)? } else { spec.obtain(&netns, queues)? };
    let own = Netns::current().and_then(|own| own.identity());
    if own.is_ok_and(|own| netns.identity().is_ok_and(|its| its == own)) && takes_advertisements(&spec.name) {
        let key = format!("net.ipv6.conf.{}.accept_ra", spec.name);
        tracing::warn!(
            ifname = spec.name,
            "this host takes containers for routers: /proc/sys is read-only for vswitchd; set {key}=0 by sysctl(8)"
        );
    }
    tell_origin(setup, queues, origin);
    Ok(tap)
}

/// The interface that a daemon before this one left for the port of a container. Where there is none the container is
/// gone: after a restart of the host its name may be that of another one.
pub(crate) fn left_interface(setup: &PortSetup, mark: &str, queues: u16) -> Result<Tap, HostError> {
    let gone = || HostError::ContainerGone(setup.netns.clone());
    let netns = match open_netns(&setup.netns) {
        Err(HostError::Netns(_)) if whereabouts(&setup.netns) == Whereabouts::Gone => return Err(gone()),
        outcome => outcome?,
    };
    let (tap, origin) = spec(setup, mark).obtain_left(&netns, queues)?.ok_or_else(gone)?;
    tell_origin(setup, queues, origin);
    Ok(tap)
}

fn tell_origin(setup: &PortSetup, queues: u16, origin: Origin) {
    let ifname = setup.ifname.as_str();
    match origin {
        Origin::New => {}
        Origin::Left(error) => unmended(ifname, error),
        Origin::Remade => {
            tracing::warn!(ifname, queues, "made anew, for it had one queue: what its container had set there is gone");
        }
    }
}

/// The interface of a port behind `descriptors`, which nobody looked after for a while: a change may have been half-made, or
/// written down and not made. What the container added stays. An interface that cannot be the port's is deleted; where it
/// is tells only where the namespace `is_named`.
pub(crate) fn kept_interface(
    setup: &PortSetup,
    mark: &str,
    descriptors: Vec<OwnedFd>,
    (workers, is_named): (u16, bool),
) -> Result<Tap, HostError> {
    let tap = Tap::adopt_all(descriptors)?;
    let (queue, ifname) = (tap.queues().first(), setup.ifname.as_str());
    let vanished = || InterfaceError::Vanished(ifname.to_owned());
    let (netns, name) = queue.map(place).transpose()?.flatten().ok_or_else(vanished)?;
    let netlink = Netlink::open_in(&netns)?;
    let link = netlink.link(&name)?.ok_or_else(vanished)?;
    let is_there = !is_named || netns_identity(&setup.netns)? == Some(netns.identity()?);
    if !is_there || name != ifname || tap.queues().len() != usize::from(workers) {
        netlink.delete_link(link.index)?;
        let there = if is_there { name } else { format!("{name} in another namespace") };
        return Err(HostError::Elsewhere { there, wanted: ifname.to_owned(), queues: tap.queues().len(), workers });
    }
    tap.set_persistent(true)?;
    unmended(ifname, spec(setup, mark).mend(&netlink, link.index).err());
    Ok(tap)
}

/// Tells of what an interface lacks and could not be given: what the container has there is in the way.
fn unmended(ifname: &str, error: Option<NetlinkError>) {
    if let Some(error) = error {
        tracing::warn!(ifname, %error, "the interface stays as its container has it");
    }
}

/// Takes the queues of an interface that a client made for `port`, one for each of `workers`.
pub(crate) fn adopt_interface(
    port: &PortName,
    ifname: &IfName,
    fds: Vec<OwnedFd>,
    workers: usize,
) -> Result<Tap, HostError> {
    if fds.len() != workers {
        return Err(HostError::Queues { port: port.clone(), given: fds.len(), workers });
    }
    let tap = Tap::adopt_all(fds)?;
    if tap.name() != ifname.as_str() {
        let (given, wanted) = (tap.name().to_owned(), ifname.clone());
        return Err(HostError::OtherName { port: port.clone(), given, wanted });
    }
    Ok(tap)
}
