//! The part of `why` inside containers: whether A's own IP stack has a way to B, straight or by a router, and B's one back.
//!
//! The containers' kernels are asked, as they are now. Where the daemon may not look into them, what the ports were given
//! stands in, and that is said.

use std::net::IpAddr;

use vswitch_api::{ExplainStep, PortName};
use vswitch_sys::NetlinkError;

use super::super::Control;
use super::ends::{Place, is_link_local};
use super::host::Inside;
use super::why::{Pair, Walked, stop};
use crate::network::PortSetup;

/// What a container does with packets to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    /// It asks for the address on the link.
    Straight,
    /// It hands them to a router.
    By(IpAddr),
    /// The address is its own.
    ToItself,
    /// It has none to send from.
    NoAddress,
    /// It knows no way; in the kernel's words.
    NoRoute(String),
}

/// A container's way to an address.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) sends: Sends,
    /// The address that it sends from.
    pub(super) source: Option<IpAddr>,
    /// The interface, where it is not the port's.
    pub(super) elsewhere: Option<Elsewhere>,
    /// Whether the container could not be looked into.
    is_assumed: bool,
}

/// An interface of a container that is not the port's.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    pub(super) ifname: String,
    /// Whether it may send by that of the port.
    is_above: bool,
}

/// Interfaces that send by another one.
const ABOVE: [&str; 5] = ["vlan", "macvlan", "ipvlan", "bridge", "bond"];

impl Route {
    fn to(sends: Sends, source: Option<IpAddr>) -> Self {
        Self { sends, source, elsewhere: None, is_assumed: false }
    }

    /// The best first.
    pub(super) const fn rank(&self) -> u8 {
        match self.sends {
            Sends::Straight => 0,
            Sends::By(_) => 1,
            Sends::ToItself => 2,
            Sends::NoRoute(_) => 3,
            Sends::NoAddress => 4,
        }
    }

    const fn how(&self) -> &'static str {
        if self.is_assumed { " (by what it was given: its container may not be looked into)" } else { "" }
    }
}

/// What the container of a port, as it is `inside`, does with packets to `ip`.
pub(super) fn route(inside: Option<&Inside>, setup: &PortSetup, ip: IpAddr) -> Route {
    let Some(inside) = inside else { return assumed(setup, ip) };
    let is_near = |own: &IpAddr| own.is_ipv4() == ip.is_ipv4();
    let first = inside.addresses().filter(is_near).chain(inside.others.iter().copied().filter(is_near)).next();
    match inside.netlink.route_to(ip) {
        Ok(route) if route.local => Route::to(Sends::ToItself, route.source),
        Ok(route) => {
            let source = route.source.or(first);
            let sends = match (source, route.gateway) {
                (None, _) => Sends::NoAddress,
                (Some(_), Some(router)) => Sends::By(router),
                (Some(_), None) => Sends::Straight,
            };
            let is_own = route.index == inside.index || Some(route.index) == inside.master;
            let elsewhere = (!is_own).then(|| inside.netlink.link_by_index(route.index).ok().flatten()).flatten();
            let elsewhere = elsewhere.map(|link| Elsewhere {
                is_above: link.kind.is_some_and(|kind| ABOVE.contains(&kind.as_str())),
                ifname: link.name,
            });
            Route { elsewhere, ..Route::to(sends, source) }
        }
        Err(_) if first.is_none() => Route::to(Sends::NoAddress, None),
        Err(NetlinkError::Refused { source, .. }) => Route::to(Sends::NoRoute(said(&source)), first),
        Err(_) => assumed(setup, ip),
    }
}

/// What the kernel said, without its number.
fn said(error: &std::io::Error) -> String {
    let said = error.to_string();
    said.split(" (os error").next().unwrap_or_default().to_owned()
}

fn assumed(setup: &PortSetup, ip: IpAddr) -> Route {
    let is_near = |own: &IpAddr| own.is_ipv4() == ip.is_ipv4();
    let covering = setup.addresses.iter().find(|address| address.net().contains(&ip)).map(|address| address.ip());
    let first = setup.addresses.iter().map(|address| address.ip()).find(is_near);
    let router = setup.gateways.iter().copied().find(is_near);
    let (sends, source) = match (covering, first, router) {
        (Some(source), _, _) => (Sends::Straight, Some(source)),
        (None, Some(source), Some(router)) => (Sends::By(router), Some(source)),
        (None, Some(source), None) => (Sends::NoRoute("no gateway was given".to_owned()), Some(source)),
        // Nothing is known of it.
        (None, None, _) => (Sends::Straight, None),
    };
    Route { is_assumed: true, ..Route::to(sends, source) }
}

impl Control {
    /// Whether the near one's container has a way to the far one, and that one back.
    pub(super) fn walk_route(&self, pair: &Pair, steps: &mut Vec<ExplainStep>) -> Walked {
        let (Some(route), Some(target)) = (&pair.route, pair.target) else { return Ok(()) };
        let name = &pair.port;
        match &route.sends {
            Sends::ToItself => {
                let other = pair.end().port().map(|port| format!(", and of port {port}")).unwrap_or_default();
                let text = format!("{target} is an address of the container of port {name} itself{other}");
                return stop(steps, ExplainStep::stop("route", "duplicate_address", text, None));
            }
            Sends::NoAddress => return stop(steps, self.no_address("route", name, target)),
            Sends::NoRoute(said) => {
                let text = format!("{} has no route to {target}{}: {said}", self.has(name), route.how());
                return stop(steps, ExplainStep::stop("route", "no_route", text, self.mend_route(pair)));
            }
            Sends::Straight | Sends::By(_) => {}
        }
        let source = route.source.map(|source| format!(", from {source}")).unwrap_or_default();
        let by = route.elsewhere.as_ref().map(|Elsewhere { ifname, .. }| format!(", by {ifname}")).unwrap_or_default();
        if let Some(Elsewhere { ifname, is_above: false }) = &route.elsewhere {
            let text = format!(
                "the container of port {name} sends to {target} by its interface {ifname}, which is no port of this switch"
            );
            return stop(steps, ExplainStep::stop("route", "other_interface", text, None));
        }
        let text = match &route.sends {
            Sends::By(router) => {
                let at = match &pair.far.place {
                    Place::Port(port) => format!(", port {port}"),
                    Place::Remote(remote) => format!(", behind remote {remote}"),
                    Place::Unknown => String::new(),
                };
                format!("{target} is routed by {router}{at}: port {name} sends there{source}{by}{}", route.how())
            }
            _ => format!("port {name} sends to {target} on its link{source}{by}{}", route.how()),
        };
        let step = if route.is_assumed || route.elsewhere.is_some() { ExplainStep::note } else { ExplainStep::ok };
        steps.push(step("route", text));
        self.walk_back(pair, target, route.source, steps)
    }

    /// Whether the far one has the address that is asked for, and a way back to `source`.
    fn walk_back(&self, pair: &Pair, target: IpAddr, source: Option<IpAddr>, steps: &mut Vec<ExplainStep>) -> Walked {
        let Some((name, setup)) = pair.end().port().and_then(|name| Some((name, self.network.ports.get(name)?))) else {
            return Ok(());
        };
        let Some(inside) = self.inside(name) else { return Ok(()) };
        if !inside.has(target) {
            return stop(steps, self.no_address("back", name, target));
        }
        let Some(source) = source else { return Ok(()) };
        let back = route(Some(&inside), setup, source);
        let at = &pair.port;
        match &back.sends {
            Sends::Straight => {}
            Sends::By(router) => {
                steps.push(ExplainStep::ok("back", format!("port {name} answers by the router {router}")));
            }
            Sends::ToItself => {
                let text =
                    format!("{source}, which port {at} sends from, is an address of the container of port {name} too");
                return stop(steps, ExplainStep::stop("route", "duplicate_address", text, None));
            }
            Sends::NoAddress => return stop(steps, self.no_address("back", name, source)),
            Sends::NoRoute(said) => {
                let text = format!("{} has no way back to {source} of port {at}: {said}", self.has(name));
                let mend = match (&pair.beyond, setup.gateways.iter().find(|ip| ip.is_ipv4() == source.is_ipv4())) {
                    (_, Some(gateway)) => self.route_in(name, &format!("default via {gateway}")),
                    (None, None) => self.route_in(name, &source.to_string()),
                    (Some(_), None) => {
                        let gateway = self.exit(pair).and_then(|(_, exit)| exit.source);
                        gateway.and_then(|gateway| self.route_in(name, &format!("{source} via {gateway}")))
                    }
                };
                return stop(steps, ExplainStep::stop("back", "no_route_back", text, mend));
            }
        }
        Ok(())
    }

    /// A port and the addresses of its interface, in words.
    fn has(&self, name: &PortName) -> String {
        let nets = self.inside(name).map(|inside| inside.nets);
        let nets = nets.iter().flatten().filter(|net| !is_link_local(net.addr()));
        let nets: Vec<_> = nets.map(ToString::to_string).collect();
        if nets.is_empty() { format!("port {name}") } else { format!("port {name}, with {},", nets.join(" ")) }
    }

    /// The container of a port has no address to speak to `ip`, or not that one.
    fn no_address(&self, stage: &str, name: &PortName, ip: IpAddr) -> ExplainStep {
        let inside = self.inside(name);
        let ifname = inside.as_ref().map_or("its interface", |inside| &inside.ifname);
        let given = self.network.ports.get(name).into_iter().flat_map(|setup| &setup.addresses);
        let missing = |own: IpAddr| inside.as_ref().is_none_or(|inside| !inside.has(own));
        let mut given: Vec<_> = given.filter(|own| own.ip().is_ipv4() == ip.is_ipv4() && missing(own.ip())).collect();
        given.sort_by_key(|own| (own.ip() != ip, !own.net().contains(&ip)));
        let (what, mend) = match given.first() {
            Some(own) => (
                format!("{}, which it was given", own.ip()),
                self.ip_in(name, &format!("address add {own} dev {ifname}")),
            ),
            None => (
                format!("an address for {}, such as one to reach {ip}", if ip.is_ipv4() { "IPv4" } else { "IPv6" }),
                None,
            ),
        };
        let text = format!("the container of port {name} does not have {what}, on {ifname}");
        ExplainStep::stop(stage, "no_address", text, mend)
    }

    /// The command that adds a route in the container of a port.
    fn route_in(&self, name: &PortName, to: &str) -> Option<String> {
        let inside = self.inside(name)?;
        self.ip_in(name, &format!("route add {to} dev {}", inside.ifname))
    }

    /// The command that gives the near one a route: to its gateway, or where both are on one link, to each other.
    fn mend_route(&self, pair: &Pair) -> Option<String> {
        let (name, target) = (&pair.port, pair.target?);
        if let Some(gateway) = pair.setup.gateways.iter().find(|ip| ip.is_ipv4() == target.is_ipv4()) {
            return self.route_in(name, &format!("default via {gateway}"));
        }
        self.shared_vlan(pair).ok()?;
        let far = pair.end().port()?;
        let there = self.route_in(name, &target.to_string())?;
        let (inside, setup) = (self.inside(far)?, self.network.ports.get(far)?);
        let own = pair.route.as_ref()?.source?;
        match route(Some(&inside), setup, own).sends {
            Sends::NoRoute(_) => Some(format!("{there} && {}", self.route_in(far, &own.to_string())?)),
            _ => Some(there),
        }
    }
}
