//! ADD: an interface in the container, with addresses and routes, or nothing at all.

mod port;

use std::fs::File;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};
use vswitch_api::PortSpec;
use vswitch_sys::Netns;

use self::port::Addressed;
use super::sweep::sweep;
use super::{Call, detach, gateway_spec, routed};
use crate::args::Args;
use crate::attach;
use crate::daemon::{Daemon, PATIENCE};
use crate::gateway;
use crate::ipam::Delegate;
use crate::network::Network;
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
    let wish = port::wish(&network, attachment, &args, path)?;
    let delegate = call.delegate()?;
    let held = delegate.as_ref().map(|delegate| sweep(&mut daemon, &network, delegate, attachment)).transpose()?;
    let mut made =
        Made { daemon, network: &network, attachment, delegate, held, port: false, ipam: false, gateway: false };
    match made.make(wish, &netns, path) {
        Ok(own) => combined(previous, own).to_json(call.version),
        Err(failure) => Err(made.undo(failure)),
    }
}

/// An attachment in the making, and what of it there is.
struct Made<'a> {
    daemon: Daemon,
    network: &'a Network,
    attachment: &'a Attachment,
    delegate: Option<Delegate<'a>>,
    /// What keeps others from giving back its addresses, until its port is up.
    held: Option<File>,
    /// Whether the port may be there.
    port: bool,
    /// Whether the IPAM plugin may have given addresses.
    ipam: bool,
    /// Whether the gateway may have been made for it.
    gateway: bool,
}

impl Made<'_> {
    /// Makes all of it: addresses, interface, routes, and what the host does for it.
    fn make(&mut self, wish: PortSpec, netns: &Netns, path: &str) -> Result<Success, Failure> {
        let Addressed { port, ips, brought } = self.addressed(wish, netns)?;
        let routes = self.routes(&ips, brought.routes);
        let gateways: Vec<_> = ips.iter().filter_map(|ip| ip.gateway).collect();
        let inside: Vec<_> = routes.iter().map(|route| routed(route, &gateways)).collect();
        let there = routes::add(netns, port.ifname.as_str(), &inside)
            .map_err(|error| Failure::new(Code::Inside, error.to_string()))?;
        // What another network of the container has already is not by this interface: CHECK would look for it in vain.
        let routes = routes.into_iter().zip(there).filter_map(|(route, there)| there.then_some(route)).collect();
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
        let by_interface = self.delegate.as_ref().is_some_and(Delegate::needs_interface);
        if by_interface {
            failure = self.give_back(failure);
        }
        if self.port
            && let Err(error) = detach(&mut self.daemon, &self.network.name, self.attachment)
        {
            // It has its addresses still: they are DEL's to give back.
            return failure.and(format!("and the port could not be removed: {error}"));
        }
        let masquerades = self.network.gateway.is_some_and(|gateway| gateway.masquerade);
        if self.gateway
            && let Err(error) = gateway::remove_unused(&mut self.daemon, &self.network.name, masquerades)
        {
            failure = failure.and(format!("and the network's gateway could not be removed: {error}"));
        }
        if by_interface { failure } else { self.give_back(failure) }
    }

    fn give_back(&self, failure: Failure) -> Failure {
        let outcome = self.delegate.as_ref().filter(|_| self.ipam).map_or(Ok(()), |delegate| delegate.del(None));
        match outcome {
            Ok(()) => failure,
            Err(error) => failure.and(format!("and the addresses could not be given back: {error}")),
        }
    }
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
