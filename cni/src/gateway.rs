//! The host's side of a network with `isGateway`: a port of the switch in the daemon's own namespace, with the addresses
//! that containers have for their router.
//!
//! It belongs to the network and not to a container: the first ADD makes it, and it goes with the last attachment. Two
//! plugins that do this at once take turns by a lock. ADD adds its attachment before it ensures the gateway, so who holds
//! the lock and sees no attachment may remove it: whoever comes later ensures it again.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use vswitch_api::{
    Allowed, AttachmentInfo, BadValue, Change, Cidr, Client, ClientError, Code as Refused, IfName, Mac, Mtu, NetnsRef,
    NetworkName, PortInfo, PortMode, PortName, PortPlan, PortSet, PortSpec, PortState, Query, Vid,
};
use vswitch_sys::{Link, Netlink, NetlinkError, Netns, NetnsError};

use crate::attach::{self, AttachError};
use crate::daemon::{Daemon, DaemonError};
use crate::forwarding::{self, ForwardingError};
use crate::inside::{self, Expected, InsideError};
use crate::lock::{self, LockError};
use crate::masquerade::{self, Masquerade, MasqueradeError};
use crate::names;

/// How the daemon finds its own namespace, now and after a restart.
const OWN: &str = "/proc/self/ns/net";

/// How long others may take to make or to remove a gateway.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a network's gateway shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewaySpec {
    /// The network.
    pub(crate) network: NetworkName,
    /// Its VLAN.
    pub(crate) vlan: Vid,
    /// The addresses of the gateway, with the lengths of their subnets.
    pub(crate) addresses: Vec<IpNet>,
    /// Its MTU, where not what the underlay leaves.
    pub(crate) mtu: Option<Mtu>,
    /// Whether what leaves the host from these subnets leaves with the host's address.
    pub(crate) masquerade: bool,
}

/// The gateway's interface on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostInterface {
    /// Its name.
    pub(crate) name: String,
    /// Its MAC address.
    pub(crate) mac: [u8; 6],
    /// Its MTU.
    pub(crate) mtu: u32,
}

/// Why a network has no gateway, or not the one it should have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    /// The daemon refused, or is not there.
    #[error("the gateway of network {network}: {error}")]
    Daemon { network: NetworkName, error: DaemonError },
    /// The interface was to be made by us.
    #[error("the gateway of network {network}: {error}")]
    Attach { network: NetworkName, error: AttachError },
    /// No host can have the address.
    #[error("the gateway of network {network}: {error}")]
    Value { network: NetworkName, error: BadValue },
    /// Another configuration has the network in another VLAN.
    #[error(
        "network {network} has its gateway in VLAN {there} by another configuration, and this one says VLAN {asked}: give \
         networks of different VLANs different names"
    )]
    OtherVlan { network: NetworkName, there: String, asked: Vid },
    /// The daemon's host is not ours.
    #[error(
        "vswitchd made {ifname}, the gateway of network {network}, and it is not in the network namespace that vswitch-cni \
         runs in: isGateway needs both in the host's own; start vswitchd there"
    )]
    Elsewhere { network: NetworkName, ifname: IfName },
    /// The lock cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The host's network settings cannot be had.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Our namespace cannot be had.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The host does not forward.
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    /// The host does not masquerade.
    #[error(transparent)]
    Masquerade(#[from] MasqueradeError),
    /// CHECK found no gateway.
    #[error("network {network} has no gateway: vswitchd has no port {port} that is up; the next ADD makes it anew")]
    Missing { network: NetworkName, port: PortName },
    /// CHECK found another.
    #[error("the gateway of network {network} on the host: {error}")]
    Other { network: NetworkName, error: InsideError },
}

impl GatewayError {
    /// Whether it may go by itself.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Daemon { error, .. } | Self::Attach { error: AttachError::Daemon(error), .. } => error.is_passing(),
            Self::Lock(LockError::Held { .. }) => true,
            _ => false,
        }
    }
}

/// Has the network's gateway be there, with at least the addresses of `spec`; then forwarding, and masquerading where
/// asked for. On failure what was made stays: [`remove_unused`] removes it.
///
/// # Errors
/// What the daemon, the kernel or `nft` refuses.
pub(crate) fn ensure(daemon: &mut Daemon, spec: &GatewaySpec) -> Result<HostInterface, GatewayError> {
    let _lock = lock(daemon.path(), &spec.network)?;
    let port = port(daemon, spec)?;
    let (netlink, link, mac) = here(&port, &spec.network)?;
    if forwarding::ignore_advertisements(&link.name)? {
        // It listened for a moment.
        for route in netlink.routes()?.into_iter().filter(|route| route.advertised && route.index == link.index) {
            netlink.delete_route(Some(route.dst), route.gateway, route.index)?;
        }
    }
    mend(&netlink, &link, &port)?;
    forwarding::switch_on(&spec.addresses)?;
    if spec.masquerade {
        masquerade_of(&port, spec).ensure()?;
    }
    Ok(HostInterface { name: link.name, mac, mtu: link.mtu })
}

/// Looks whether the gateway is as [`ensure`] makes it.
///
/// # Errors
/// What is missing or otherwise.
pub(crate) fn check(daemon: &mut Daemon, spec: &GatewaySpec) -> Result<(), GatewayError> {
    let network = || spec.network.clone();
    let name = name(&spec.network)?;
    let port = show(daemon, &spec.network, &name)?.filter(|port| port.state == PortState::Up);
    let port = port.ok_or_else(|| GatewayError::Missing { network: network(), port: name })?;
    in_vlan(&port, spec)?;
    let (_, link, mac) = here(&port, &spec.network)?;
    let expected =
        Expected { ifname: link.name, mac: Some(mac), addresses: spec.addresses.clone(), routes: Vec::new() };
    inside::check(&Netns::current()?, &expected).map_err(|error| GatewayError::Other { network: network(), error })?;
    forwarding::check(&spec.addresses)?;
    if spec.masquerade {
        masquerade_of(&port, spec).check()?;
    }
    Ok(())
}

/// Removes the gateway of `network`, and its masquerading, if it has one and no container is attached to the network on
/// this host. Forwarding stays on. `masquerades` says whether it is meant to: else an `nft` that does not work is nothing
/// to it.
///
/// # Errors
/// What the daemon or `nft` refuses.
pub(crate) fn remove_unused(daemon: &mut Daemon, network: &NetworkName, masquerades: bool) -> Result<(), GatewayError> {
    // Without the lock first: most DELs are not the last, and whoever is the last finds nobody.
    if is_used(daemon, network)? {
        return Ok(());
    }
    let name = name(network)?;
    // The lock file says that a gateway was made since this host started, the port that it was at all.
    let made = daemon.path().with_file_name(names::lock_file(network.as_str())).symlink_metadata().is_ok();
    if !made && show(daemon, network, &name)?.is_none() {
        return Ok(());
    }
    let _lock = lock(daemon.path(), network)?;
    if is_used(daemon, network)? {
        return Ok(());
    }
    let removed = remove(daemon, network, name);
    // Rules without a gateway concern nobody, and yet they shall not stay for a daemon that is gone.
    masquerade::remove(network.as_str(), masquerades)?;
    removed
}

/// Whether a container is attached to `network` on this host.
fn is_used(daemon: &mut Daemon, network: &NetworkName) -> Result<bool, GatewayError> {
    let question = Query::AttachmentList { network: Some(network.clone()) };
    let attachments: Vec<AttachmentInfo> = daemon.call(&question.into()).map_err(refused(network))?;
    Ok(!attachments.is_empty())
}

/// The gateway's port, with all addresses of `spec`; it keeps those that another configuration of the network gave it.
fn port(daemon: &mut Daemon, spec: &GatewaySpec) -> Result<PortInfo, GatewayError> {
    let name = name(&spec.network)?;
    let value = |error| GatewayError::Value { network: spec.network.clone(), error };
    let asked: Vec<_> = spec.addresses.iter().map(|net| Cidr::new(*net)).collect::<Result<_, _>>().map_err(value)?;
    let Some(there) = show(daemon, &spec.network, &name)? else { return add(daemon, spec, name, asked) };
    in_vlan(&there, spec)?;
    let mut addresses = there.addresses.clone();
    if !asked.iter().all(|address| addresses.contains(address)) {
        // A subnet that changed its length has its gateway once.
        addresses.retain(|address| asked.iter().all(|other| other.ip() != address.ip()));
        addresses.extend(&asked);
    }
    if there.state == PortState::Lost {
        remove(daemon, &spec.network, name.clone())?;
        return add(daemon, spec, name, addresses);
    }
    let mtu = spec.mtu.filter(|mtu| mtu.get() != there.mtu);
    if mtu.is_none() && addresses == there.addresses {
        return Ok(there);
    }
    let address = (addresses != there.addresses).then(|| addresses.clone());
    let set = PortSet {
        name: name.clone(),
        mtu,
        access: None,
        trunk: None,
        native: None,
        address,
        gateway: None,
        allow_mac: None,
        allow_ip: None,
        rx_limit: None,
        tx_limit: None,
    };
    match daemon.call::<Value>(&Change::PortSet(set).into()) {
        Ok(_) => {}
        // The interface was handed over, and its maker's business: it is made again.
        Err(DaemonError::Refused(refusal)) if refusal.code == Refused::Host && !enters(daemon, spec)? => {
            remove(daemon, &spec.network, name.clone())?;
            return add(daemon, spec, name, addresses);
        }
        Err(error) => return Err(refused(&spec.network)(error)),
    }
    shown(daemon, &spec.network, name)
}

/// Makes the gateway's port: by the daemon, or by us where it may not.
fn add(
    daemon: &mut Daemon,
    spec: &GatewaySpec,
    name: PortName,
    addresses: Vec<Cidr>,
) -> Result<PortInfo, GatewayError> {
    let network = &spec.network;
    let value = |error| GatewayError::Value { network: network.clone(), error };
    let mut port = PortSpec {
        ifname: names::interface(network.as_str()).parse().map_err(value)?,
        addresses,
        mtu: spec.mtu,
        mode: PortMode::Access(spec.vlan),
        // A router sends what others sent, whatever the daemon's --source-guard says of containers.
        allow_ip: Allowed::Any,
        gateway_of: Some(network.clone()),
        ..PortSpec::new(name.clone(), NetnsRef::Path(OWN.to_owned()))
    };
    let plan: PortPlan = daemon.call(&Query::PortPlan(port.clone()).into()).map_err(refused(network))?;
    // It lives on this port: no container can pass for the router.
    (port.mac, port.allow_mac) = (Some(plan.mac), Allowed::Only(vec![plan.mac]));
    let request = Change::PortAdd(port.clone()).into();
    match daemon.call::<Value>(&request) {
        Ok(_) => {}
        Err(DaemonError::Refused(refusal)) if refusal.code == Refused::Host && !enters(daemon, spec)? => {
            // Nobody else makes it: we have the lock.
            let del = Change::PortDel { name: name.clone() }.into();
            let forget = |client: &mut Client| match client.call_value(&del) {
                Err(ClientError::Refused(refusal)) if refusal.code == Refused::NotFound => Ok(()),
                outcome => outcome.map(drop),
            };
            attach::hand_over::<Value>(daemon, &Netns::current()?, &port, &plan, &request, forget)
                .map_err(|error| GatewayError::Attach { network: network.clone(), error })?;
        }
        Err(error) => return Err(refused(network)(error)),
    }
    shown(daemon, network, name)
}

fn enters(daemon: &mut Daemon, spec: &GatewaySpec) -> Result<bool, GatewayError> {
    attach::enters(daemon).map_err(refused(&spec.network))
}

/// Removes the gateway's port, where there is one.
fn remove(daemon: &mut Daemon, network: &NetworkName, name: PortName) -> Result<(), GatewayError> {
    match daemon.call::<Value>(&Change::PortDel { name }.into()) {
        Ok(_) => Ok(()),
        Err(DaemonError::Refused(refusal)) if refusal.code == Refused::NotFound => Ok(()),
        Err(error) => Err(refused(network)(error)),
    }
}

/// The gateway's port, where there is one.
fn show(daemon: &mut Daemon, network: &NetworkName, name: &PortName) -> Result<Option<PortInfo>, GatewayError> {
    match daemon.call(&Query::PortShow { name: name.clone() }.into()) {
        Ok(port) => Ok(Some(port)),
        Err(DaemonError::Refused(refusal)) if refusal.code == Refused::NotFound => Ok(None),
        Err(error) => Err(refused(network)(error)),
    }
}

/// The gateway's port, which was there a moment ago.
fn shown(daemon: &mut Daemon, network: &NetworkName, name: PortName) -> Result<PortInfo, GatewayError> {
    let port = show(daemon, network, &name)?;
    port.ok_or_else(|| GatewayError::Missing { network: network.clone(), port: name })
}

fn name(network: &NetworkName) -> Result<PortName, GatewayError> {
    let value = |error| GatewayError::Value { network: network.clone(), error };
    names::port(network.as_str()).parse().map_err(value)
}

/// Says for which network the daemon refused.
fn refused(network: &NetworkName) -> impl Fn(DaemonError) -> GatewayError {
    |error| GatewayError::Daemon { network: network.clone(), error }
}

fn in_vlan(port: &PortInfo, spec: &GatewaySpec) -> Result<(), GatewayError> {
    if port.mode.vlan == Some(spec.vlan) {
        return Ok(());
    }
    let there = port.mode.vlan.map_or_else(|| "none".to_owned(), |vlan| vlan.to_string());
    Err(GatewayError::OtherVlan { network: spec.network.clone(), there, asked: spec.vlan })
}

/// The interface of `port`, which is to be in our own namespace, where packets are forwarded and masqueraded.
fn here(port: &PortInfo, network: &NetworkName) -> Result<(Netlink, Link, [u8; 6]), GatewayError> {
    let netlink = Netlink::open()?;
    let mac = port.mac.map(Mac::octets);
    match (netlink.link(port.ifname.as_str())?, mac) {
        (Some(link), Some(mac)) if link.mac == Some(mac) => Ok((netlink, link, mac)),
        _ => Err(GatewayError::Elsewhere { network: network.clone(), ifname: port.ifname.clone() }),
    }
}

/// Gives the interface what somebody took from it.
fn mend(netlink: &Netlink, link: &Link, port: &PortInfo) -> Result<(), GatewayError> {
    let there = netlink.addresses()?;
    let missing = |address: &IpNet| !there.contains(&(link.index, *address));
    for address in port.addresses.iter().map(|address| address.net()).filter(missing) {
        match netlink.add_address(link.index, address) {
            Err(error) if error.is_exists() => {}
            outcome => outcome?,
        }
    }
    if !link.up {
        netlink.set_up(link.index, true)?;
    }
    Ok(())
}

/// The masquerading of all subnets that `port` is the gateway of.
fn masquerade_of(port: &PortInfo, spec: &GatewaySpec) -> Masquerade {
    let subnets: Vec<_> = port.addresses.iter().map(|address| address.net()).collect();
    Masquerade::new(spec.network.as_str(), port.ifname.as_str(), &subnets)
}

/// Waits for the lock of `network`, held until it is dropped.
fn lock(socket: &Path, network: &NetworkName) -> Result<File, LockError> {
    lock::take(&socket.with_file_name(names::lock_file(network.as_str())), lock::Kind::Exclusive, PATIENCE)
}
