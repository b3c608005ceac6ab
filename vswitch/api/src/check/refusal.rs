//! The sentences of refusal: what, why, and the way out.

use std::net::IpAddr;

use crate::config::{FdbTarget, PortMode};
use crate::types::{Cidr, ContainerId, IfName, Mac, Mtu, Net, NetnsRef, NetworkName, PortName, Vid, VlanList, Vni};

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error(
        "port {name} is there already with other settings ({differs}): `vsctl port set {name}` changes MTU, VLANs, \
         addresses, gateways, allow-mac, allow-ip and limits; for the rest `vsctl port del {name}` first"
    )]
    PortExists { name: PortName, differs: String },
    #[error("there is no port {name}: `vsctl port list` shows those there are")]
    NoPort { name: PortName },
    #[error(
        "interface {ifname} in network namespace {netns} belongs to port {by} already: choose another name with \
         --ifname, or `vsctl port del {by}` first"
    )]
    IfNameTaken { ifname: IfName, netns: NetnsRef, by: PortName },
    #[error(
        "a port is either in one VLAN or a trunk of several, and access {access} with trunk {trunk} is both: give one \
         of them"
    )]
    AccessAndTrunk { access: Vid, trunk: VlanList },
    #[error("native VLAN {native} needs a trunk: give trunk with it, or access {native} for a port in one VLAN")]
    NativeWithoutTrunk { native: Vid },
    #[error("address {ip} is given twice: give each once")]
    AddressTwice { ip: IpAddr },
    #[error("MTU {mtu} is too small for IPv6 address {address}: IPv6 needs 1280 to 65521")]
    MtuForIpv6 { mtu: Mtu, address: Cidr },
    #[error("gateway {gateway} is in the subnet of no address of the port: give an --address whose prefix covers it")]
    GatewayOutside { gateway: IpAddr },
    #[error("gateway {gateway} is an address of the port itself: give the router's address")]
    GatewayIsAddress { gateway: IpAddr },
    #[error("gateway {gateway} is the second one for its address family: give at most one IPv4 and one IPv6 gateway")]
    GatewayTwice { gateway: IpAddr },
    #[error(
        "nothing to set on port {name}: give mtu, access, trunk, native, address, gateway, allow-mac, \
         allow-ip, rx-limit or tx-limit"
    )]
    NothingToSet { name: PortName },
    #[error(
        "static address {mac} in VLAN {vlan} is behind port {name}, which would leave that VLAN: `vsctl fdb del {mac} \
         --vlan {vlan}` first"
    )]
    PortHasStatic { name: PortName, mac: Mac, vlan: Vid },

    #[error("port {name} is to be attached and nobody says to what: give its attachment, with network and container")]
    NoAttachment { name: PortName },
    #[error(
        "interface {ifname} of container {container} is there already, as port {by}: the runtime's DEL, or `vsctl port \
         del {by}`, removes it"
    )]
    AttachmentExists { container: ContainerId, ifname: IfName, by: PortName },
    #[error(
        "port {name} has no VLAN of untagged frames (it is {mode}), to which pools and vni would apply: make it an \
         access port, or give the trunk a native VLAN"
    )]
    NoUntagged { name: PortName, mode: PortMode },
    #[error(
        "VLAN {vlan} has VNI {}, not {asked}: give that one, choose another VLAN, or `vsctl vlan del {vlan}` first",
        .there.map_or_else(String::new, |vni| vni.to_string())
    )]
    OtherVni { vlan: Vid, there: Option<Vni>, asked: Vni },
    #[error(
        "port {name} is to be the gateway of network {network}, which no container on this host is attached to: it \
         would go with the last one; attach one first"
    )]
    GatewayUnused { name: PortName, network: NetworkName },
    #[error("{given} pools are too many: give at most {most}, one for each address of a port")]
    TooManyPools { given: usize, most: usize },
    #[error("pool {subnet} is none: {why}")]
    BadPool { subnet: Net, why: String },
    #[error(
        "address {address} is none of those to be given ({ranges}, without the gateway): give one of them, or none"
    )]
    AddressOutside { address: Cidr, ranges: String },
    #[error("address {address} in VLAN {vlan} is that of port {by} already: give another, or none")]
    AddressTaken { address: Cidr, vlan: Vid, by: PortName },
    #[error(
        "all {size} addresses of {subnet} from {first} to {last} are taken in VLAN {vlan}: remove containers, or give a larger \
         range or subnet"
    )]
    Exhausted { vlan: Vid, subnet: Net, first: IpAddr, last: IpAddr, size: u64 },

    #[error(
        "VLAN {vlan} is there already with other settings ({there}; asked: {asked}): `vsctl vlan del {vlan}` first"
    )]
    VlanExists { vlan: Vid, there: String, asked: String },
    #[error("there is no VLAN {vlan}: `vsctl vlan list` shows those there are")]
    NoVlan { vlan: Vid },
    #[error("VLAN {vlan} has no settings to delete; it exists while {ports} uses it")]
    VlanImplicit { vlan: Vid, ports: String },
    #[error(
        "VNI {vni} is that of VLAN {by} already, and each VLAN needs its own: choose another from 1 to 16777215 for \
         VLAN {vlan}, or `vsctl vlan del {by}` first"
    )]
    VniTaken { vni: Vni, by: Vid, vlan: Vid },
    #[error("VLAN {vlan} has peer {ip}: `vsctl vtep peer del {ip} --vlan {vlan}` first")]
    VlanHasPeer { vlan: Vid, ip: IpAddr },
    #[error("VLAN {vlan} has the static address {mac} behind {target}: `vsctl fdb del {mac} --vlan {vlan}` first")]
    VlanHasStatic { vlan: Vid, mac: Mac, target: FdbTarget },

    #[error("peer {ip} is refused since this switch has no VTEP: start vswitchd with --vtep-ip IP")]
    NoVtep { ip: IpAddr },
    #[error("peer {ip} is this switch's own VTEP address: give the address of another host")]
    PeerIsOwn { ip: IpAddr },
    #[error("peer {ip} cannot be reached from VTEP address {own}: both must be IPv4 or both IPv6")]
    PeerFamily { ip: IpAddr, own: IpAddr },
    #[error("peer {ip} is {what}: give the unicast address of one host")]
    PeerNotUnicast { ip: IpAddr, what: &'static str },
    #[error("peer {ip} is link-local and means another host on each link: give its global or unique local address")]
    PeerLinkLocal { ip: IpAddr },
    #[error("peer {ip} is a loopback address, which means this host: give the address of another host")]
    PeerLoopback { ip: IpAddr },
    #[error("peer {ip} needs its VLANs: give either vlan or all-vlans")]
    PeerVlansUnclear { ip: IpAddr },
    #[error(
        "VLAN {vlan} has no VNI, so no frame of it can go to peer {ip}: `vsctl vlan add {vlan} --vni VNI` first, with \
         a VNI from 1 to 16777215"
    )]
    PeerWithoutVni { ip: IpAddr, vlan: Vid },
    #[error("there is no peer {ip}: `vsctl vtep peer list` shows those there are")]
    NoPeer { ip: IpAddr },
    #[error("peer {ip} is not in VLAN {vlan}, only in {vlans}")]
    PeerNotInVlan { ip: IpAddr, vlan: Vid, vlans: VlanList },
    #[error(
        "peer {ip} is in all VLANs and cannot leave VLAN {vlan} alone: `vsctl vtep peer del {ip}`, then add it to \
         those VLANs it shall be in"
    )]
    PeerInAll { ip: IpAddr, vlan: Vid },
    #[error("static address {mac} in VLAN {vlan} is behind peer {ip}: `vsctl fdb del {mac} --vlan {vlan}` first")]
    PeerHasStatic { ip: IpAddr, mac: Mac, vlan: Vid },

    #[error("address {mac} in VLAN {vlan} needs its place: give either port or remote")]
    TargetUnclear { mac: Mac, vlan: Vid },
    #[error(
        "address {mac} in VLAN {vlan} is static behind {target} already: `vsctl fdb del {mac} --vlan {vlan}` first"
    )]
    StaticExists { mac: Mac, vlan: Vid, target: FdbTarget },
    #[error("there is no address {mac} in VLAN {vlan}: `vsctl fdb list --vlan {vlan}` shows those there are")]
    NoStatic { mac: Mac, vlan: Vid },
    #[error(
        "port {name} is not in VLAN {vlan} (it is {mode}): give a VLAN it is in, or change it with `vsctl port set`"
    )]
    PortNotInVlan { name: PortName, vlan: Vid, mode: PortMode },
    #[error("remote {ip} is no peer in VLAN {vlan}: `vsctl vtep peer add {ip} --vlan {vlan}` first")]
    RemoteNotPeer { ip: IpAddr, vlan: Vid },
}

impl Refusal {
    /// Whether it is because something named is not there.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NoPort { .. }
                | Self::NoVlan { .. }
                | Self::VlanImplicit { .. }
                | Self::NoPeer { .. }
                | Self::PeerNotInVlan { .. }
                | Self::NoStatic { .. }
                | Self::RemoteNotPeer { .. }
        )
    }
}
