//! The host's side of a port: its namespace, interface, addresses, routes.

mod change;
mod namespace;
mod obtain;
mod place;

use std::fs;
use std::io;
use std::path::PathBuf;

use thiserror::Error;
use vswitch_api::{BootId, IfName, NetnsRef, PortName};
use vswitch_sys::{InterfaceError, NetlinkError, NetnsError, TapError};

pub(crate) use change::{
    change_interface, delete_interface, is_same_interface, remove_interface, restore_interface, wake,
};
pub(crate) use namespace::{Followed, Whereabouts, folder_of, is_lasting, netns_identity, still_meant, whereabouts};
pub(crate) use obtain::{adopt_interface, kept_interface, left_interface, obtain_interface};
pub(crate) use place::{pinned, place, tap_netns};

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

/// The boot of the host, where it is told.
pub(crate) fn boot() -> Option<BootId> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim_end().parse().ok()
}
