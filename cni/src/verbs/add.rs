//! ADD: an interface in the container, with addresses and routes, or nothing at all.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};
use vswitch_api::{Allowed, Attach, Attachment as Owner, Cidr, PortInfo, PortPlan, PortSpec, PortState, Query};
use vswitch_sys::Netns;

use super::{Call, attachments, detach, gateway_spec, is_dead, port_name, release, routed};
use crate::args::Args;
use crate::attach::{self, AttachError};
use crate::daemon::{Daemon, DaemonError, PATIENCE};
use crate::gateway;
use crate::ipam::Delegate;
use crate::network::{Ipam, Network, first_host};
use crate::protocol::{Attachment, Code, Failure, Interface, Ip, Route, Success};
use crate::routes;

/// Attaches the container; the result is what the runtime keeps.
pub(super) fn add(call: &Call<'_>, attachment: &Attachment) -> Result<Value, Failure> {
    let args = Args::read(&attachment.args)?;
    let network = Network::read(call.config, &args)?;
    let previous = call.config.prev_result()?.unwrap_or_default();
    let path = attachment.netns.as_deref().unwrap_or_default();
    let netns = attach::open(path)?;
    let mut daemon = Daemon::connect(call.config, PATIENCE)?;
    let port = port_spec(&network, attachment, &args, path)?;
    let delegate = call.delegate()?;
    if let Some(delegate) = &delegate {
        prepare(&mut daemon, &network, delegate, attachment)?;
    }
    let mut made = Made { daemon, network: &network, attachment, delegate, port: false, ipam: false, gateway: false };
    match made.make(port, &netns, path) {
        Ok(own) => combined(previous, own).to_json(call.version),
        Err(failure) => Err(made.undo(failure)),
    }
}

/// Gives back the addresses of containers that are gone without DEL, and refuses an attachment that is there: its addresses
/// would be asked for twice, and given back when the second attempt fails.
fn prepare(
    daemon: &mut Daemon,
    network: &Network,
    delegate: &Delegate<'_>,
    Attachment { container, ifname, .. }: &Attachment,
) -> Result<(), Failure> {
    for there in attachments(daemon, &network.name)? {
        let same = there.container == *container && there.ifname == *ifname;
        if there.state == PortState::Lost && (same || is_dead(&there)) {
            release(daemon, Some(delegate), &there)?;
        } else if same {
            let why = format!("interface {ifname} of container {container} is there already, as port {}", there.port);
            return Err(Failure::new(Code::Refused, why));
        }
    }
    Ok(())
}

/// The port as far as the configuration says.
fn port_spec(
    network: &Network,
    Attachment { container, ifname, .. }: &Attachment,
    args: &Args,
    path: &str,
) -> Result<PortSpec, Failure> {
    let owner = Owner {
        network: network.name.clone(),
        container: container.clone(),
        delegated: matches!(network.ipam, Ipam::Delegated(_)),
        seen: false,
    };
    let attachment =
        Attachment { container: container.clone(), ifname: ifname.clone(), netns: None, args: String::new() };
    Ok(PortSpec {
        name: port_name(&attachment, args.pod.as_ref())?,
        netns: attach::named(path)?,
        ifname: ifname.clone(),
        mac: network.mac,
        addresses: network.addresses.clone(),
        // Routes are added when the interface is there: where a container has a default route already, by another of its
        // networks, that one stays.
        gateways: Vec::new(),
        mtu: network.mtu,
        mode: network.mode.clone(),
        allow_mac: Allowed::Unsaid,
        allow_ip: Allowed::Unsaid,
        limits: network.limits,
        attachment: Some(owner),
        gateway_of: None,
    })
}

/// An attachment in the making, and what of it there is.
struct Made<'a> {
    daemon: Daemon,
    network: &'a Network,
    attachment: &'a Attachment,
    delegate: Option<Delegate<'a>>,
    /// Whether the port may be there.
    port: bool,
    /// Whether the IPAM plugin may have given addresses.
    ipam: bool,
    /// Whether the gateway may have been made for it.
    gateway: bool,
}

impl Made<'_> {
    /// Makes all of it: addresses, interface, routes, and what the host does for it.
    fn make(&mut self, port: PortSpec, netns: &Netns, path: &str) -> Result<Success, Failure> {
        let (ips, mut attach, brought) = self.addresses(port)?;
        if let Some(guarded) = self.guarded(&attach)? {
            attach.port = guarded;
        }
        let attached = attach::attach(&mut self.daemon, netns, &attach);
        // What was refused was not made: a port of that attachment is another's, of an ADD before.
        self.port = !matches!(attached, Err(AttachError::Daemon(DaemonError::Refused(_))));
        let port = attached?;
        let ips = ips.unwrap_or_else(|| given(&port, &attach));
        let routes = self.routes(&ips, brought.routes);
        let gateways: Vec<_> = ips.iter().filter_map(|ip| ip.gateway).collect();
        let inside: Vec<_> = routes.iter().map(|route| routed(route, &gateways)).collect();
        routes::add(netns, port.ifname.as_str(), &inside)
            .map_err(|error| Failure::new(Code::Inside, error.to_string()))?;
        let host = gateway_spec(self.network, &ips).map(|spec| {
            self.gateway = true;
            gateway::ensure(&mut self.daemon, &spec)
        });
        let host = host.transpose()?.map(|host| Interface {
            name: host.name,
            mac: hex(host.mac),
            mtu: Some(host.mtu),
            sandbox: String::new(),
            other: Map::new(),
        });
        let dns = if self.network.dns.is_empty() { brought.dns } else { self.network.dns.clone() };
        let interface = Interface {
            name: port.ifname.to_string(),
            mac: port.mac.map_or_else(String::new, |mac| mac.to_string()),
            mtu: Some(port.mtu.into()),
            sandbox: path.to_owned(),
            other: Map::new(),
        };
        let before = usize::from(host.is_some());
        let ips = ips.into_iter().map(|ip| Ip { interface: Some(before), ..ip }).collect();
        let interfaces = host.into_iter().chain([interface]).collect();
        Ok(Success { interfaces, ips, routes, dns, other: Map::new() })
    }

    /// What the daemon is asked for; the addresses, where they are known before; and routes and DNS that came with them.
    fn addresses(&mut self, port: PortSpec) -> Result<(Option<Vec<Ip>>, Attach, Success), Failure> {
        let vni = self.network.vni;
        let Some(delegate) = &self.delegate else {
            let pools = match &self.network.ipam {
                Ipam::Embedded(pools) => pools.clone(),
                _ => Vec::new(),
            };
            return Ok((None, Attach { port, pools, vni }, Success::default()));
        };
        // One that fails may have reserved something all the same.
        self.ipam = true;
        let mut result = delegate.add()?;
        if result.ips.is_empty() {
            return Err(Failure::new(Code::Ipam, "the IPAM plugin succeeded and gave no address"));
        }
        let mut addresses = Vec::new();
        for ip in &mut result.ips {
            let address = Cidr::new(ip.address);
            addresses.push(address.map_err(|error| Failure::new(Code::Ipam, format!("the IPAM plugin: {error}")))?);
            ip.interface = Some(0);
            if self.network.gateway.is_some() {
                ip.gateway = ip.gateway.or_else(|| Some(first_host(ip.address)));
            }
        }
        let attach = Attach { port: PortSpec { addresses, ..port }, pools: Vec::new(), vni };
        Ok((Some(std::mem::take(&mut result.ips)), attach, result))
    }

    /// The port with the lists of what it may send from, where the configuration says that they be its own addresses: those
    /// are known only once the daemon has chosen them, and held for it then.
    fn guarded(&mut self, attach: &Attach) -> Result<Option<PortSpec>, Failure> {
        let port = match self.network.source_guard {
            None => return Ok(None),
            Some(false) => PortSpec { allow_mac: Allowed::Any, allow_ip: Allowed::Any, ..attach.port.clone() },
            Some(true) => {
                let plan: PortPlan = self.daemon.call(&Query::AttachmentPlan(attach.clone()).into())?;
                let (allow_mac, allow_ip) = self.network.allowed(plan.mac, &plan.addresses);
                let (mac, addresses) = (Some(plan.mac), plan.addresses);
                PortSpec { mac, addresses, allow_mac, allow_ip, ..attach.port.clone() }
            }
        };
        Ok(Some(port))
    }

    /// The routes of the configuration, those that came with the addresses, and the way out.
    fn routes(&self, ips: &[Ip], brought: Vec<Route>) -> Vec<Route> {
        let mut routes = self.network.routes.clone();
        routes.extend(brought);
        if self.network.gateway.is_some_and(|gateway| gateway.default_route) {
            for gateway in ips.iter().filter_map(|ip| ip.gateway) {
                let everywhere = everywhere(gateway);
                let there = |route: &Route| route.dst == everywhere && route.table.is_none();
                if !routes.iter().any(there) {
                    routes.push(Route::new(everywhere, Some(gateway)));
                }
            }
        }
        routes
    }

    /// Undoes what was done, in reverse; what cannot be undone is said with the failure.
    fn undo(&mut self, mut failure: Failure) -> Failure {
        if self.port
            && let Err(error) = detach(&mut self.daemon, &self.network.name, self.attachment)
        {
            failure = failure.and(format!("and the port could not be removed: {error}"));
        }
        if self.gateway
            && let Err(error) = gateway::remove_unused(&mut self.daemon, &self.network.name)
        {
            failure = failure.and(format!("and the network's gateway could not be removed: {error}"));
        }
        if self.ipam
            && let Some(delegate) = &self.delegate
            && let Err(error) = delegate.del(None)
        {
            failure = failure.and(format!("and the addresses could not be given back: {error}"));
        }
        failure
    }
}

/// The addresses that the port was given, with the routers of their pools.
fn given(port: &PortInfo, attach: &Attach) -> Vec<Ip> {
    let ip = |address: &Cidr| {
        let pool = attach.pools.iter().find(|pool| pool.subnet.net().contains(&address.ip()));
        let gateway = pool.map(|pool| pool.gateway.unwrap_or_else(|| first_host(pool.subnet.net())));
        Ip { address: address.net(), gateway, interface: Some(0), other: Map::new() }
    };
    port.addresses.iter().map(ip).collect()
}

fn hex(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// All addresses of the family of `ip`.
fn everywhere(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// What the plugins before us made, and what we made.
fn combined(mut previous: Success, own: Success) -> Success {
    let before = previous.interfaces.len();
    let Success { interfaces, ips, routes, dns, other: _ } = own;
    previous.interfaces.extend(interfaces);
    let moved = ips.into_iter().map(|ip| Ip { interface: ip.interface.map(|index| index + before), ..ip });
    previous.ips.extend(moved);
    previous.routes.extend(routes);
    if !dns.is_empty() {
        previous.dns = dns;
    }
    previous
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_goes_on_with_the_one_before() {
        let read = |json| Success::read(json, "it").unwrap();
        let own = json!({
            "interfaces": [{"name": "eth1", "sandbox": "/n"}],
            "ips": [{"address": "10.1.0.2/24", "interface": 0}],
            "routes": [{"dst": "10.2.0.0/16"}],
            "dns": {},
        });
        let before = json!({
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [{"address": "10.0.0.2/24", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"nameservers": ["10.0.0.1"]},
            "later": 1,
        });
        assert_eq!(combined(Success::default(), read(own.clone())), read(own.clone()));
        let both = combined(read(before), read(own));
        let expected = json!({
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/n"}, {"name": "eth1", "sandbox": "/n"}],
            "ips": [{"address": "10.0.0.2/24", "interface": 1}, {"address": "10.1.0.2/24", "interface": 2}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.2.0.0/16"}],
            "dns": {"nameservers": ["10.0.0.1"]},
            "later": 1,
        });
        assert_eq!(both, read(expected));
    }
}
