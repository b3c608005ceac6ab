//! Links: what `ip link` does.

use std::fmt;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};

use super::{Netlink, NetlinkError};
use crate::netns::Netns;
use crate::syscall::{check, wait_readable};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Largest payload of a frame.
    pub mtu: u32,
    /// Whether it is meant to be up.
    pub up: bool,
    /// Whether it is up, has a carrier, and the kernel has begun to send what it is given.
    pub running: bool,
    /// Its address, where it has one of Ethernet's.
    pub mac: Option<[u8; 6]>,
    /// The bridge, or other device, it belongs to.
    pub master: Option<u32>,
    /// What it is (`veth`, `bridge`, `tun`, `vxlan`), where the driver says so.
    pub kind: Option<String>,
    /// What somebody noted on it: `ip link` shows it as `alias`.
    pub alias: Option<String>,
    /// Frames on their way out that it has dropped: what a TAP's reader was too slow for.
    pub tx_dropped: u64,
}

/// A VXLAN device of the kernel's.
#[derive(Clone, Debug)]
pub struct VxlanSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its network, 0 to 2^24 - 1.
    pub vni: u32,
    /// The address it sends from; says also which IP it speaks.
    pub local: IpAddr,
    /// Where frames go that no entry sends elsewhere.
    pub remote: Option<IpAddr>,
    /// UDP port, here and there.
    pub port: u16,
    /// Whether it learns addresses from what it receives.
    pub learning: bool,
}

impl Netlink {
    /// The link called `name`.
    ///
    /// # Errors
    /// What the kernel answers, but for "there is none".
    pub fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(format_args!("look up interface {name}"), message)
    }

    /// The number of the link called `name`. Unlike all else here it does not wait for who is changing links, in whatever
    /// namespace: the kernel (6.18) reads names under RCU. For a link that is there: for another, and a caller with
    /// `CAP_NET_ADMIN`, the kernel starts modprobe to find a module of that name, and waits for it (`dev_load`).
    ///
    /// # Errors
    /// What the kernel answers, but for "there is none".
    pub fn index(&self, name: &str) -> Result<Option<u32>, NetlinkError> {
        match interface_index(&self.socket, name) {
            Ok(index) => Ok(Some(index)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(source) => {
                Err(NetlinkError::Refused { operation: format!("look up the number of interface {name}"), source })
            }
        }
    }

    /// The link with number `index`.
    ///
    /// # Errors
    /// What the kernel answers, but for "there is none".
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>, NetlinkError> {
        self.get_link(format_args!("look up interface {index}"), at(index))
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let answers =
            self.dump(format_args!("list interfaces"), &RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// Waits until link `index` runs, for at most `timeout`; false when time ran out.
    ///
    /// A veth device that is set up before its peer loses what it is given until the kernel has noticed the peer, which
    /// may take a second.
    ///
    /// # Errors
    /// What the kernel answers, and ENODEV where there is no such link.
    pub fn wait_running(&self, index: u32, timeout: Duration) -> Result<bool, NetlinkError> {
        let operation = format_args!("wait for interface {index} to run");
        let failed = |source| NetlinkError::Refused { operation: operation.to_string(), source };
        let deadline = Instant::now().checked_add(timeout);
        // First listen, then look: a change in between is heard.
        self.socket.add_membership(libc::RTNLGRP_LINK).map_err(failed)?;
        let outcome = loop {
            match self.link_by_index(index) {
                Ok(Some(link)) if link.running => break Ok(true),
                Ok(Some(_)) => {}
                Ok(None) => break Err(failed(io::Error::from_raw_os_error(libc::ENODEV))),
                Err(error) => break Err(error),
            }
            let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            match wait_readable(&self.socket, left) {
                Ok(true) => {}
                Ok(false) => break Ok(false),
                Err(error) => break Err(failed(error)),
            }
            // Which link changed is looked up above. An overrun (ENOBUFS) says as much: something did.
            let _ = self.socket.recv_from_full();
        };
        self.socket.drop_membership(libc::RTNLGRP_LINK).map_err(failed)?;
        // A queue full of news would have no room for the next answer.
        while wait_readable(&self.socket, Duration::ZERO).map_err(failed)? {
            let _ = self.socket.recv_from_full();
        }
        outcome
    }

    /// Sets the link up or down.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_up(&self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let mut message = at(index);
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        let direction = if up { "up" } else { "down" };
        self.set_link(format_args!("set interface {index} {direction}"), message)
    }

    /// Sets the MTU.
    ///
    /// # Errors
    /// EINVAL outside what the driver allows.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.set(index, LinkAttribute::Mtu(mtu), format_args!("set the MTU of interface {index} to {mtu}"))
    }

    /// Sets the MAC address.
    ///
    /// # Errors
    /// EADDRNOTAVAIL for a group address.
    pub fn set_mac(&self, index: u32, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let operation = format_args!("set the address of interface {index} to {}", Mac(mac));
        self.set(index, LinkAttribute::Address(mac.to_vec()), operation)
    }

    /// Sets how many frames the kernel queues towards the device.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_queue_length(&self, index: u32, frames: u32) -> Result<(), NetlinkError> {
        let operation = format_args!("set the queue length of interface {index} to {frames}");
        self.set(index, LinkAttribute::TxQueueLen(frames), operation)
    }

    /// Notes `alias`, at most 255 bytes, on the link for people and programs to read.
    ///
    /// # Errors
    /// EINVAL where it is longer.
    pub fn set_alias(&self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        let operation = format_args!("note {alias:?} on interface {index}");
        self.set(index, LinkAttribute::IfAlias(alias.to_owned()), operation)
    }

    /// Sets MAC address and MTU, and notes `alias`, in one change: each would wait for all others who change links.
    ///
    /// # Errors
    /// As those of the three by themselves; what was set before the one refused stays.
    pub fn dress(&self, index: u32, mac: [u8; 6], mtu: u32, alias: &str) -> Result<(), NetlinkError> {
        let mut message = at(index);
        message.attributes = vec![
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::IfAlias(alias.to_owned()),
        ];
        let mac = Mac(mac);
        self.set_link(
            format_args!("give interface {index} the address {mac}, MTU {mtu} and the note {alias:?}"),
            message,
        )
    }

    /// Keeps the kernel from giving the link an IPv6 address of its own making once it is up.
    ///
    /// # Errors
    /// What the kernel answers, but for "there is no IPv6 here".
    pub fn set_no_link_local(&self, index: u32) -> Result<(), NetlinkError> {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let operation = format_args!("keep IPv6 addresses off interface {index}");
        match self.set(index, LinkAttribute::AfSpecUnspec(vec![none]), operation) {
            Err(error) if error.errno() == Some(libc::EAFNOSUPPORT) => Ok(()),
            outcome => outcome,
        }
    }

    /// Renames the link.
    ///
    /// # Errors
    /// EEXIST where the name is taken, EINVAL where it is none.
    pub fn set_name(&self, index: u32, name: &str) -> Result<(), NetlinkError> {
        self.set(index, LinkAttribute::IfName(name.to_owned()), format_args!("rename interface {index} to {name}"))
    }

    /// Moves the link to another namespace.
    ///
    /// # Errors
    /// EEXIST where its name is taken there.
    pub fn set_netns(&self, index: u32, netns: &Netns) -> Result<(), NetlinkError> {
        let fd = netns.as_fd().as_raw_fd();
        self.set(index, LinkAttribute::NetNsFd(fd), format_args!("move interface {index} to another namespace"))
    }

    /// Moves link `here` to another namespace, where it is called `there`, in one step.
    ///
    /// # Errors
    /// EEXIST where that name is taken; the link may then be on either side, under its old name.
    pub(crate) fn hand_over(&self, here: &str, netns: &Netns, there: &str) -> Result<(), NetlinkError> {
        let operation = format_args!("move interface {here} to its namespace as {there}");
        let link = self.link(here)?.ok_or_else(|| NetlinkError::bad(operation, "it is gone"))?;
        let mut message = at(link.index);
        message.attributes =
            vec![LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()), LinkAttribute::IfName(there.to_owned())];
        self.set_link(operation, message)
    }

    /// Makes the link a port of bridge `master`, or of none.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_master(&self, index: u32, master: Option<u32>) -> Result<(), NetlinkError> {
        // 0 is how the kernel spells "none".
        let attribute = LinkAttribute::Controller(master.unwrap_or(0));
        self.set(index, attribute, format_args!("change the bridge of interface {index}"))
    }

    /// Deletes the link.
    ///
    /// # Errors
    /// ENODEV where it is not there, EOPNOTSUPP for what only its driver can delete.
    pub fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        let operation = format_args!("delete interface {index}");
        self.change(operation, RouteNetlinkMessage::DelLink(at(index)), 0)
    }

    /// Creates a pair of connected links, the peer here or in another namespace.
    ///
    /// # Errors
    /// EEXIST where a name is taken.
    pub fn add_veth(&self, name: &str, peer_name: &str, peer_ns: Option<&Netns>) -> Result<(), NetlinkError> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(peer_name.to_owned()));
        peer.attributes.extend(peer_ns.map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())));
        let operation = format_args!("create the veth pair {name} and {peer_name}");
        self.add_link(operation, name, InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(peer))))
    }

    /// Creates a bridge.
    ///
    /// # Errors
    /// EEXIST where the name is taken.
    pub fn add_bridge(&self, name: &str) -> Result<(), NetlinkError> {
        self.add_link(format_args!("create bridge {name}"), name, InfoKind::Bridge, None)
    }

    /// Creates a VXLAN device.
    ///
    /// # Errors
    /// EEXIST where the name, or the VNI on that port, is taken.
    pub fn add_vxlan(&self, spec: &VxlanSpec<'_>) -> Result<(), NetlinkError> {
        let local = match spec.local {
            IpAddr::V4(ip) => InfoVxlan::Local(ip),
            IpAddr::V6(ip) => InfoVxlan::Local6(ip),
        };
        // "Group" is the kernel's word for the default destination, multicast or not.
        let remote = spec.remote.map(|remote| match remote {
            IpAddr::V4(ip) => InfoVxlan::Group(ip),
            IpAddr::V6(ip) => InfoVxlan::Group6(ip),
        });
        let fixed = [InfoVxlan::Id(spec.vni), local, InfoVxlan::Port(spec.port), InfoVxlan::Learning(spec.learning)];
        let data = InfoData::Vxlan(fixed.into_iter().chain(remote).collect());
        let operation = format_args!("create VXLAN device {} (VNI {})", spec.name, spec.vni);
        self.add_link(operation, spec.name, InfoKind::Vxlan, Some(data))
    }

    fn add_link(
        &self,
        operation: fmt::Arguments<'_>,
        name: &str,
        kind: InfoKind,
        data: Option<InfoData>,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        let info = [LinkInfo::Kind(kind)].into_iter().chain(data.map(LinkInfo::Data)).collect();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(info)];
        self.change(operation, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn get_link(&self, operation: fmt::Arguments<'_>, message: LinkMessage) -> Result<Option<Link>, NetlinkError> {
        match self.get(operation, RouteNetlinkMessage::GetLink(message)) {
            Ok(answer) => read(answer).map(Some).ok_or_else(|| NetlinkError::bad(operation, "it is no interface")),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set(&self, index: u32, attribute: LinkAttribute, operation: fmt::Arguments<'_>) -> Result<(), NetlinkError> {
        let mut message = at(index);
        message.attributes.push(attribute);
        self.set_link(operation, message)
    }

    fn set_link(&self, operation: fmt::Arguments<'_>, message: LinkMessage) -> Result<(), NetlinkError> {
        self.change(operation, RouteNetlinkMessage::SetLink(message), 0)
    }
}

/// The number of the interface called `name` in the namespace of `socket`.
fn interface_index(socket: &impl AsRawFd, name: &str) -> io::Result<u32> {
    // SAFETY: an ifreq is integers and bytes; all zero is one.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays the end mark.
    let room = request.ifr_name.len() - 1;
    if name.len() > room {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (room, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *room = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: SIOCGIFINDEX on a socket of whatever family reads and writes one ifreq; `request` is one, its name ends in a
    // zero, and it outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request) })?;
    // SAFETY: SIOCGIFINDEX leaves the number in the union; it is an integer, and any bits are one.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    u32::try_from(index).map_err(io::Error::other)
}

/// A message about the link with number `index`.
fn at(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// What the kernel says about a link; `None` where it says it about something else.
fn read(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        mac: None,
        master: None,
        kind: None,
        alias: None,
        tx_dropped: 0,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(address) => link.mac = address.try_into().ok(),
            LinkAttribute::Stats64(stats) => link.tx_dropped = stats.tx_dropped,
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            // The queue that throws all away: the kernel has yet to notice the carrier, which it does from a work queue.
            LinkAttribute::Qdisc(qdisc) => link.running &= qdisc != "noop",
            LinkAttribute::LinkInfo(info) => {
                link.kind = info.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(link)
}

/// A MAC address as people write it.
pub(super) struct Mac(pub(super) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d, e, g]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
