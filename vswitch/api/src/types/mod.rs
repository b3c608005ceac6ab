//! The values users write, each checked where it is read: whoever holds one need not check again.

mod allowed;
mod boot;
mod cidr;
mod mac;
mod name;
mod net;
mod netns;
mod number;
mod rate;
mod vlan_list;

pub use allowed::{Allowed, AllowedWord};
pub use boot::BootId;
pub use cidr::Cidr;
pub use mac::Mac;
pub use name::{ContainerId, IfName, NetworkName, PortName, VlanName};
pub use net::Net;
pub use netns::NetnsRef;
pub use number::{Mtu, Vid, Vni};
pub use rate::{LimitWord, Limits, RateLimit};
pub use vlan_list::VlanList;

/// A value nobody may write, and what may be written instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Not a VLAN.
    #[error("VLAN {0} does not exist: VLANs are numbers from 1 to 4094")]
    Vid(String),
    /// Not a VNI.
    #[error("VNI {0} does not exist: VNIs are numbers from 1 to 16777215")]
    Vni(String),
    /// Not an MTU a TAP device takes.
    #[error("MTU {0} is out of range: it may be 68 to 65521")]
    Mtu(String),
    /// Not a rate.
    #[error("{0:?} is not a rate: write bits a second from 1k to 1T, like 500k, 10M or 1.5G")]
    Rate(String),
    /// Not a number of bytes.
    #[error("{0:?} is not a burst: write bytes from 1 to 4294967295, like 1500 or 64k, which is 65536")]
    Burst(String),
    /// A range of VLANs that runs backwards.
    #[error("VLAN range {0} runs backwards: write the lower VLAN first")]
    VlanRange(String),
    /// A list without a VLAN.
    #[error("the VLAN list {0:?} names no VLAN: write VLANs from 1 to 4094 and ranges of them, like 10-20,30")]
    NoVlans(String),
    /// Not written as a MAC address.
    #[error("{0:?} is not a MAC address: write six pairs of hexadecimal digits, like 02:00:00:00:00:01")]
    MacSyntax(String),
    /// A MAC address with the group bit.
    #[error(
        "MAC address {0} is a multicast address, which no interface can own: write one with an even first octet, \
         like 02:00:00:00:00:01"
    )]
    MacMulticast(String),
    /// All zero.
    #[error("MAC address 00:00:00:00:00:00 belongs to nobody: write a unicast one, like 02:00:00:00:00:01")]
    MacZero,
    /// Not a name for a port.
    #[error(
        "{0:?} is not a port name: it has 1 to 128 letters, digits and any of . _ : - and begins with a letter or digit"
    )]
    PortName(String),
    /// The one name that stands for something else.
    #[error("no port can be named \"tunnel\": statistics show the VXLAN side under that name; choose another")]
    PortNameReserved,
    /// Not a name for a network.
    #[error(
        "{0:?} is not the name of a network: it has 1 to 255 letters, digits and any of . _ - and begins with a letter \
         or digit"
    )]
    NetworkName(String),
    /// Not an identifier of a container.
    #[error(
        "{0:?} is not the ID of a container: it has 1 to 255 letters, digits and any of . _ - and begins with a letter \
         or digit"
    )]
    ContainerId(String),
    /// Not what a kernel calls a boot.
    #[error("{0:?} is not the ID of a boot: it is a UUID in small letters, as in /proc/sys/kernel/random/boot_id")]
    BootId(String),
    /// Too long for the kernel.
    #[error("interface name {0:?} is too long: it has {len} characters, 1 to 15 are allowed", len = .0.len())]
    IfNameLong(String),
    /// Characters the kernel refuses or expands.
    #[error("{0:?} is not an interface name: it has 1 to 15 printable characters, none of them a space or / : %")]
    IfName(String),
    /// What sysctl(8) calls all interfaces, and those to come.
    #[error("no interface can be named {0:?}, which stands for many in /proc/sys/net: choose another name")]
    IfNameReserved(String),
    /// Not printable, or too long.
    #[error("{0:?} is not a VLAN name: it has 1 to 64 characters, no control characters among them")]
    VlanName(String),
    /// Neither name, absolute path nor pid.
    #[error(
        "{0:?} is not a network namespace: write a name below /run/netns, an absolute path, or pid:N with N from 1 \
         to 4194304"
    )]
    Netns(String),
    /// An address that does not say its subnet.
    #[error("address {0} has no prefix length: write it as {0}/{1}, with the length your subnet has (0 to {2})")]
    NoPrefix(std::net::IpAddr, u8, u8),
    /// Not an address with a prefix.
    #[error("{0:?} is not an address: write one with its prefix length, like 10.0.0.2/24 or fd00::2/64")]
    AddressSyntax(String),
    /// An address that no interface can have.
    #[error("address {0} is {1}, which no interface can have: write a host's address, like 10.0.0.2/24")]
    NotHost(ipnet::IpNet, &'static str),
    /// Neither a prefix nor an address.
    #[error("{0:?} is no prefix of addresses: write one like 10.0.0.0/24 or fd00::/64, or one address")]
    NetSyntax(String),
    /// An address inside a subnet, where either could be meant.
    #[error("prefix {0} has bits behind its length: write {1} for the whole subnet, or {2} for that address alone")]
    BitsBehindPrefix(ipnet::IpNet, ipnet::IpNet, std::net::IpAddr),
    /// An empty list.
    #[error("an empty list allows nothing: give 1 to 64 values, any to allow all, or default for what vswitchd says")]
    NothingAllowed,
    /// A list that is too long.
    #[error("{0} values are too many to compare each frame with: give 1 to 64, or prefixes that cover more")]
    TooManyAllowed(usize),
    /// A word that stands for a whole list.
    #[error("any and default stand alone: give one of them, or 1 to 64 values")]
    AllowedNotAlone,
}

#[cfg(test)]
mod tests;
