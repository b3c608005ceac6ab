//! Routes inside a container.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use vswitch_sys::{Netlink, NetlinkError, Netns, RouteEntry};

use crate::inside;

/// A route of a network configuration or of a result, with the attributes of specification 1.1.0. Times and sizes are as
/// in `ip route`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    /// Where it leads.
    pub(crate) dst: IpNet,
    /// The next hop; on the link without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    /// Largest packet, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// TCP segment size to ask for, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) advmss: Option<u32>,
    /// Of several, the least wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    /// Its table; 254, the main one, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<u32>,
    /// 0 anywhere, 253 on the link, 254 this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<u32>,
}

/// As `ip route` writes it.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst.trunc())?;
        if let Some(gw) = self.gw {
            write!(f, " via {gw}")?;
        }
        let Self { table, priority, scope, mtu, advmss, .. } = *self;
        for (word, value) in
            [("table", table), ("metric", priority), ("scope", scope), ("mtu", mtu), ("advmss", advmss)]
        {
            if let Some(value) = value {
                write!(f, " {word} {value}")?;
            }
        }
        Ok(())
    }
}

/// Why a route could not be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    /// The container's network settings cannot be had.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Somebody renamed or deleted the interface.
    #[error("there is no interface {0} in the container to add routes to; was it renamed by another plugin?")]
    NoInterface(String),
    /// No byte, which is what the kernel has for it.
    #[error(
        "the route to {dst} has scope {scope}: a scope is 0 (anywhere), 253 (on the link), 254 (this host), and at most 255"
    )]
    Scope { dst: IpNet, scope: u32 },
    /// IPv4 by IPv6, or the other way round.
    #[error("the route to {dst} names the gateway {gw}: both must be IPv4, or both IPv6")]
    Family { dst: IpNet, gw: IpAddr },
    /// The kernel refused.
    #[error("cannot add the route {route} by {ifname}: {}", reason(source))]
    Refused { route: String, ifname: String, source: NetlinkError },
}

/// What the kernel said, and what that means for a route.
fn reason(error: &NetlinkError) -> String {
    let meaning = match error.errno().map(Errno::from_raw) {
        Some(Errno::EINVAL) => " (its gateway, scope or table does not go with the rest)",
        _ if is_unreachable(error) => " (its gateway is not on the container's subnets)",
        _ => "",
    };
    match error {
        NetlinkError::Refused { source, .. } => format!("{source}{meaning}"),
        other => other.to_string(),
    }
}

/// Whether the gateway is not on the link: so says IPv4, or IPv6.
fn is_unreachable(error: &NetlinkError) -> bool {
    matches!(error.errno().map(Errno::from_raw), Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH))
}

impl Route {
    /// The route to `dst` without more attributes.
    pub(crate) const fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }

    /// What the kernel is told.
    ///
    /// # Errors
    /// Where no route is like this.
    fn entry(&self, index: u32) -> Result<RouteEntry, RouteError> {
        let &Self { dst, gw, mtu, advmss, priority, table, scope } = self;
        if let Some(gw) = gw.filter(|gw| gw.is_ipv4() != dst.addr().is_ipv4()) {
            return Err(RouteError::Family { dst, gw });
        }
        let byte = |scope| u8::try_from(scope).map_err(|_| RouteError::Scope { dst, scope });
        let scope = scope.map(byte).transpose()?;
        // 0 is how some write "none in particular".
        let table = table.filter(|&table| table != 0);
        Ok(RouteEntry { mtu, advmss, priority, table, scope, ..RouteEntry::new(dst, gw, index) })
    }
}

/// Adds `routes`, in this order, by interface `ifname` of `netns`; says of each whether it is there then. One that is just
/// there is no error, and neither is another one to the same destination: of a container's networks the first has the
/// default route, and it stays. A gateway that none of the interface's subnets covers is taken to be on the link.
///
/// # Errors
/// The first that cannot be added; those before it stay, and go with the interface.
pub(crate) fn add(netns: &Netns, ifname: &str, routes: &[Route]) -> Result<Vec<bool>, RouteError> {
    if routes.is_empty() {
        return Ok(Vec::new());
    }
    let mut there = Vec::with_capacity(routes.len());
    let netlink = Netlink::open_in(netns)?;
    let index = netlink.link(ifname)?.ok_or_else(|| RouteError::NoInterface(ifname.to_owned()))?.index;
    for route in routes {
        let entry = route.entry(index)?;
        let added = match netlink.add_route_entry(&entry) {
            Err(error) if entry.gateway.is_some() && is_unreachable(&error) => {
                netlink.add_route_entry(&RouteEntry { onlink: true, ..entry })
            }
            outcome => outcome,
        };
        there.push(match added {
            Ok(()) => true,
            Err(error) if error.is_exists() => {
                netlink.routes()?.iter().any(|entry| entry.index == index && inside::is(route, entry))
            }
            Err(source) => {
                return Err(RouteError::Refused { route: route.to_string(), ifname: ifname.to_owned(), source });
            }
        });
    }
    Ok(there)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "so a test fails")]
mod tests {
    use super::*;
    use crate::testing::{Container, no_container};

    fn route(dst: &str, gw: Option<&str>) -> Route {
        Route::new(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()))
    }

    #[test]
    fn routes_are_added_as_they_are_written() {
        crate::require!(no_container());
        let container = Container::new(&["10.1.0.2/24", "fd00:1::2/64"]);
        let table = [
            route("0.0.0.0/0", Some("10.1.0.1")),
            // Host bits are no error: the specification calls it a CIDR.
            Route { mtu: Some(1400), advmss: Some(1300), ..route("10.9.8.7/16", Some("10.1.0.1")) },
            Route { priority: Some(7), table: Some(1000), ..route("10.9.0.0/16", Some("10.1.0.1")) },
            Route { scope: Some(253), ..route("10.8.0.0/16", None) },
            Route { table: Some(0), ..route("10.7.0.0/16", None) },
            route("::/0", Some("fd00:1::1")),
            Route { mtu: Some(1400), ..route("fd00:9::/48", Some("fd00:1::1")) },
            route("fd00:8::/48", None),
        ];
        add(&container.netns, "eth0", &table).unwrap();
        // Once more: what is just there is no error.
        add(&container.netns, "eth0", &table).unwrap();
        let routes = container.netlink.routes().unwrap();
        for (dst, gateway, mtu, advmss, priority, number, scope) in [
            ("0.0.0.0/0", Some("10.1.0.1"), None, None, None, 254, 0),
            ("10.9.0.0/16", Some("10.1.0.1"), Some(1400), Some(1300), None, 254, 0),
            ("10.9.0.0/16", Some("10.1.0.1"), None, None, Some(7), 1000, 0),
            ("10.8.0.0/16", None, None, None, None, 254, 253),
            ("10.7.0.0/16", None, None, None, None, 254, 253),
            ("::/0", Some("fd00:1::1"), None, None, Some(1024), 254, 0),
            ("fd00:9::/48", Some("fd00:1::1"), Some(1400), None, Some(1024), 254, 0),
            ("fd00:8::/48", None, None, None, Some(1024), 254, 0),
        ] {
            let wanted = RouteEntry {
                mtu,
                advmss,
                priority,
                table: Some(number),
                scope: Some(scope),
                ..RouteEntry::new(dst.parse().unwrap(), gateway.map(|ip| ip.parse().unwrap()), container.index)
            };
            assert_eq!(routes.iter().filter(|route| **route == wanted).count(), 1, "{wanted:?} in {routes:?}");
        }
    }

    #[test]
    fn a_gateway_may_lie_outside_the_subnet() {
        crate::require!(no_container());
        let container = Container::new(&["10.1.0.2/32", "fd00:1::2/128"]);
        let table = [route("0.0.0.0/0", Some("169.254.1.1")), route("::/0", Some("fd00:5::1"))];
        add(&container.netns, "eth0", &table).unwrap();
        let routes = container.netlink.routes().unwrap();
        assert_eq!(routes.iter().filter(|route| route.onlink).count(), 2, "{routes:?}");
    }

    /// Of both versions: neither a second path nor a second gateway.
    #[test]
    fn the_first_default_route_stays() {
        crate::require!(no_container());
        let container = Container::new(&["10.1.0.2/24", "fd00:1::2/64"]);
        container.netlink.add_veth("eth1", "eth1", Some(&container.peer)).unwrap();
        let second = container.netlink.link("eth1").unwrap().unwrap().index;
        for address in ["10.2.0.2/24", "fd00:2::2/64"] {
            container.netlink.add_address(second, address.parse().unwrap()).unwrap();
        }
        container.netlink.set_up(second, true).unwrap();
        let by = |v4, v6| [route("0.0.0.0/0", Some(v4)), route("::/0", Some(v6))];
        let first = by("10.1.0.1", "fd00:1::1");
        assert_eq!(add(&container.netns, "eth0", &first).unwrap(), [true, true]);
        let mut more = by("10.2.0.1", "fd00:2::1").to_vec();
        more.push(route("10.9.0.0/16", Some("10.2.0.1")));
        assert_eq!(add(&container.netns, "eth1", &more).unwrap(), [false, false, true]);
        assert_eq!(add(&container.netns, "eth0", &first).unwrap(), [true, true]);
        let defaults = container.netlink.routes().unwrap();
        let defaults: Vec<_> = defaults.iter().filter(|entry| entry.dst.prefix_len() == 0).collect();
        assert!(defaults.len() == 2 && defaults.iter().all(|entry| entry.index == container.index), "{defaults:?}");
    }

    #[test]
    fn what_is_refused_is_named() {
        crate::require!(no_container());
        let container = Container::new(&["10.1.0.2/24"]);
        let refused = |ifname, route| add(&container.netns, ifname, &[route]).unwrap_err().to_string();
        for (ifname, route, text) in [
            ("eth7", route("10.9.0.0/16", None), "there is no interface eth7 in the container"),
            (
                "eth0",
                route("10.9.0.0/16", Some("fd00::1")),
                "the route to 10.9.0.0/16 names the gateway fd00::1: both must be",
            ),
            (
                "eth0",
                Route { scope: Some(256), ..route("10.9.0.0/16", None) },
                "has scope 256: a scope is 0 (anywhere), 253",
            ),
            (
                "eth0",
                Route { scope: Some(254), ..route("10.9.0.0/16", Some("10.1.0.1")) },
                "cannot add the route 10.9.0.0/16 via 10.1.0.1 scope 254 by eth0: Invalid argument (os error 22) (its gateway",
            ),
            (
                "eth0",
                route("fd00:9::/48", Some("ff02::1")),
                "cannot add the route fd00:9::/48 via ff02::1 by eth0: Invalid argument (os error 22) (its gateway",
            ),
        ] {
            let message = refused(ifname, route);
            assert!(message.contains(text), "{message}");
        }
        add(&container.netns, "eth7", &[]).unwrap();
    }
}
