//! The host's side of a port: its namespace, interface, addresses, routes.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use nix::errno::Errno;
use thiserror::Error;
use vswitch_api::{BootId, IfName, NetnsRef, PortName};
use vswitch_sys::interface::takes_advertisements;
use vswitch_sys::{
    InterfaceError, InterfaceSpec, Netlink, NetlinkError, Netns, NetnsError, Origin, Tap, TapError, TapQueue,
};

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
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    #[error(
        "this vswitchd may not enter network namespaces (it has no CAP_SYS_ADMIN and CAP_NET_ADMIN, or gave them up): \
         `vsctl port add {0} --hand-over ...` makes the interface with the caller's rights"
    )]
    NoEntry(PortName),
    #[error(
        "this vswitchd may not enter network namespaces (it has no CAP_SYS_ADMIN and CAP_NET_ADMIN, or gave them up): \
         restart the container, so that its runtime hands over port {0} again, or `vsctl port del {0}`"
    )]
    NoEntryToContainer(PortName),
    #[error(
        "the interface of port {0} was handed over, and this vswitchd may not enter its namespace to change MTU, \
         addresses or gateways: `vsctl port del {0}`, then `vsctl port add {0} --hand-over ...` with what it shall have"
    )]
    NotOurs(PortName),
    #[error(
        "vswitchd may not look at the namespace {} (another user's process takes CAP_SYS_PTRACE, a file its owner's \
         rights): name it under /run/netns, or let `vsctl port add --hand-over` make the interface", .0.display()
    )]
    Hidden(PathBuf),
    #[error(
        "{} is a plain file to vswitchd: the namespace mounted there does not reach the mount namespace it runs in (systemd: \
         MountFlags=slave; Kubernetes: mountPropagation: HostToContainer), or ended; else let `vsctl port add --hand-over` \
         make the interface", .0.display()
    )]
    NotMounted(PathBuf),
    #[error("cannot duplicate the descriptor of a port: {0}")]
    Descriptor(io::Error),
    #[error("port {port} came with {given} queues, and this vswitchd has {workers} workers: hand over one for each")]
    Queues { port: PortName, given: usize, workers: usize },
    #[error("port {port} came with interface {given}, and was to have {wanted}: say --ifname {given}, or rename it")]
    OtherName { port: PortName, given: String, wanted: IfName },
    #[error("process {0} is one of this host's own, not of a container: its number may have been used again since")]
    PidReused(u32),
    #[error("the interface is {there} with {queues} queues, and the port's would be {wanted} with {workers}")]
    Elsewhere { there: String, wanted: String, queues: usize, workers: u16 },
    #[error("its container is gone: the interface is no more in the namespace that {0} leads to, if to any")]
    ContainerGone(NetnsRef),
    #[error(
        "{netns} does not lead to its container, and was seen in another folder of that name, as in another mount \
         namespace: the port comes back once it does; else restart the container, or `vsctl port del {port}`"
    )]
    OutOfSight { port: PortName, netns: NetnsRef },
    #[error(
        "{netns} does not lead this vswitchd to its namespace, which it was given by descriptor: restart the container, so \
         that its runtime attaches it again, or `vsctl port del {port}`"
    )]
    Unnamed { port: PortName, netns: NetnsRef },
    #[error(
        "{0} leads this vswitchd to another namespace than its caller: name it under /run/netns, or by a path that both see"
    )]
    OtherNamespace(NetnsRef),
    #[error("it was lost when this daemon took over; `vsctl port add` brings it back once its namespace is there")]
    LostBefore,
    #[error(
        "it was lost when this daemon took over, and comes back where its interface is left in {netns}; else restart the \
         container, or `vsctl port del {port}`"
    )]
    ContainerLostBefore { port: PortName, netns: NetnsRef },
}

/// The namespace that `reference` names.
fn open_netns(reference: &NetnsRef) -> Result<Netns, HostError> {
    let opened = match reference {
        NetnsRef::Name(name) => Netns::open_name(name),
        NetnsRef::Path(path) => Netns::open_path(Path::new(path)),
        NetnsRef::Pid(pid) => Netns::open_pid(*pid),
    };
    opened.map_err(|error| match error {
        NetnsError::NotNamespace(_) | NetnsError::System { .. } if is_mount_point(&reference.path()) => {
            HostError::NotMounted(reference.path())
        }
        NetnsError::System { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            HostError::Hidden(reference.path())
        }
        error => error.into(),
    })
}

/// Whether `path` is what a namespace is mounted on, as ip-netns(8) and container runtimes make it, and none is here. The
/// former may not even be opened: its mode is 0, and the daemon keeps no CAP_DAC_OVERRIDE.
fn is_mount_point(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0) && !path.starts_with("/proc")
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

/// Where the name of a namespace leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// To the one that is told from others so.
    Namespace((u64, u64)),
    /// Nowhere, in a folder that is there: the namespace has ended, or nobody will find it by that name.
    Gone,
    /// That cannot be told.
    Unknown,
}

/// Where `reference` leads. Nothing is opened, so it takes few rights and no time.
pub(crate) fn whereabouts(reference: &NetnsRef) -> Whereabouts {
    let path = reference.path();
    match fs::metadata(&path) {
        // What a process has open under that number now is something else. Elsewhere, a plain file is what is left of the
        // name where the mount on it did not get to.
        Ok(file) if !is_namespace(&file) && path.starts_with("/proc") => Whereabouts::Gone,
        Ok(file) if !is_namespace(&file) => Whereabouts::Unknown,
        Ok(file) => Whereabouts::Namespace((file.dev(), file.ino())),
        // A folder that is not there tells of another mount namespace as well as of a container that is gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder(&path).is_dir() => Whereabouts::Gone,
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Whereabouts::Gone,
        Err(_) => Whereabouts::Unknown,
    }
}

/// Whether a file is of the filesystem of namespaces, of which there is one.
fn is_namespace(file: &fs::Metadata) -> bool {
    fs::metadata("/proc/self/ns/net").is_ok_and(|own| own.dev() == file.dev())
}

/// The folder in which the name `path` comes and goes.
fn folder(path: &Path) -> &Path {
    if path.starts_with("/proc") { Path::new("/proc") } else { path.parent().unwrap_or(path) }
}

/// The folder in which the name `reference` comes and goes, told from others by device and inode, where it is there.
pub(crate) fn folder_of(reference: &NetnsRef) -> Option<(u64, u64)> {
    let folder = fs::metadata(folder(&reference.path())).ok()?;
    Some((folder.dev(), folder.ino()))
}

/// The boot of the host, where it is told.
pub(crate) fn boot() -> Option<BootId> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim_end().parse().ok()
}

/// The namespace that `reference` names, told from others; `None` where there is none.
pub(crate) fn netns_identity(reference: &NetnsRef) -> Result<Option<(u64, u64)>, HostError> {
    found_netns(reference)?.map(|netns| netns.identity()).transpose().map_err(HostError::from)
}

/// The namespace that `reference` names, where there is one.
fn found_netns(reference: &NetnsRef) -> Result<Option<Netns>, HostError> {
    match open_netns(reference) {
        Ok(netns) => Ok(Some(netns)),
        Err(
            HostError::Netns(NetnsError::NotFound(_) | NetnsError::NoProcess(_) | NetnsError::NotNamespace(_))
            | HostError::NotMounted(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the interface of a port shall be. `mark` tells ours from others'.
fn spec(setup: &PortSetup, mark: &str) -> InterfaceSpec {
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

/// Deletes interface `ifname` in `netns`, whoever has descriptors of it.
pub(crate) fn delete_interface(netns: &Netns, ifname: &str) -> Result<(), HostError> {
    let netlink = Netlink::open_in(netns)?;
    match netlink.link(ifname)? {
        Some(link) => Ok(absent(netlink.delete_link(link.index))?),
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

/// Makes of an interface that a daemon left as `before` says one as `after` says, where it is there.
pub(crate) fn restore_interface(before: &PortSetup, after: &PortSetup, mark: &str) -> Result<(), HostError> {
    let Some(netns) = found_netns(&after.netns)? else { return Ok(()) };
    match spec(after, mark).left(&netns)? {
        Some(_) => change_interface(&netns, after.ifname.as_str(), before, after),
        None => Ok(()),
    }
}

/// The namespace that the descriptors of `tap` keep alive, where they do and we may ask.
pub(crate) fn pinned(tap: &Tap) -> Result<Option<(u64, u64)>, HostError> {
    let Some(queue) = tap.queues().first() else { return Ok(None) };
    match queue.pins_netns() {
        Ok(true) => Ok(Some(queue.netns()?.identity()?)),
        Err(TapError::System { source, .. }) if source.kind() != io::ErrorKind::PermissionDenied => {
            Err(TapError::System { operation: "inspect", name: tap.name().to_owned(), source }.into())
        }
        _ => Ok(None),
    }
}

/// The namespace of the interface behind `tap`, told from others; `None` where that cannot be told.
pub(crate) fn tap_netns(tap: &Tap) -> Option<(u64, u64)> {
    let (netns, _) = place(tap.queues().first()?).ok().flatten()?;
    netns.identity().ok()
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

/// Whether a port's interface needs no change.
pub(crate) fn is_same_interface(before: &PortSetup, after: &PortSetup) -> bool {
    (before.mtu, &before.addresses, &before.gateways) == (after.mtu, &after.addresses, &after.gateways)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_mount_that_does_not_reach_us_is_told_from_a_wrong_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("mount-point"), "").unwrap();
        fs::write(path("text"), "text").unwrap();
        let table = [
            (path("mount-point"), "does not reach the mount namespace"),
            (path("text"), "is not a network namespace"),
            (path("gone"), "there is no"),
            ("/proc/self/maps".to_owned(), "is not a network namespace"),
        ];
        for (reference, expected) in table {
            let error = open_netns(&reference.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(expected), "{reference}: {error}");
        }
    }

    #[test]
    fn a_name_leads_somewhere_nowhere_or_nobody_knows() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        symlink("/proc/self/ns/net", path("own")).unwrap();
        symlink("/nowhere", path("broken")).unwrap();
        fs::write(path("plain"), "").unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap();
        let here = Whereabouts::Namespace((own.dev(), own.ino()));
        let other = fs::File::open("/dev/null").unwrap();
        let open = |number: i32| format!("/proc/{}/fd/{number}", std::process::id());
        let table = [
            ("/proc/self/ns/net".to_owned(), here),
            (open(other.as_raw_fd()), Whereabouts::Gone),
            (open(i32::MAX), Whereabouts::Gone),
            (format!("pid:{}", std::process::id()), here),
            (path("own"), here),
            (path("broken"), Whereabouts::Gone),
            (path("plain"), Whereabouts::Unknown),
            (path("gone"), Whereabouts::Gone),
            ("pid:4194304".to_owned(), Whereabouts::Gone),
            (path("no-such-folder/gone"), Whereabouts::Unknown),
            (path("own") + "/gone", Whereabouts::Unknown),
        ];
        for (reference, expected) in table {
            assert_eq!(whereabouts(&reference.parse().unwrap()), expected, "{reference}");
        }
    }
}
