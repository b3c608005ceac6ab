//! What the kernel does: TAP devices, UDP trains, uplinks and their programs, netlink, namespaces, descriptor passing, huge
//! pages.
//!
//! The only crate of the workspace with unsafe code, and none of it leaves: what is public is safe, owns its
//! descriptors ([`std::os::fd::OwnedFd`]), and says in its errors which object the kernel refused and why.
#![allow(unsafe_code, reason = "this is the room for system calls; every block argues its case")]

pub mod bpf;
pub mod clock;
pub mod fdpass;
mod huge;
pub mod interface;
pub mod listen;
pub mod netlink;
pub mod netns;
pub mod packet;
pub mod process;
mod syscall;
pub mod tap;
pub mod terminal;
pub mod udp;
mod uplink;
pub mod vnet;

pub use bpf::{BpfError, Ingress};
pub use huge::HugePages;
pub use interface::{InterfaceError, InterfaceSpec, Origin};
pub use netlink::{Link, Neighbour, Netlink, NetlinkError, Route, RouteEntry, VxlanSpec};
pub use netns::{Netns, NetnsError, NetnsThread};
pub use packet::{PacketError, PacketSocket};
pub use syscall::wait_readable;
pub use tap::{Offloads, Tap, TapError, TapQueue};
pub use udp::{
    Complaint, Inbox, PingSocket, ProbeSocket, Received, Sent, Train, Trouble, UdpEndpoint, UdpError, UdpOptions,
};
pub use uplink::{Uplink, UplinkError};
pub use vnet::{TUNNEL_HDR_LEN, TunnelHdr, VNET_HDR_LEN, VnetHdr};
