//! What CHECK looks at in a namespace: an interface, its addresses and routes.

use std::fmt;

use ipnet::IpNet;
use vswitch_sys::{Netlink, NetlinkError, Netns, RouteEntry};

use crate::routes::Route;

/// The main routing table.
const MAIN: u32 = 254;

/// What a namespace shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Its interface.
    pub(crate) ifname: String,
    /// The interface's MAC address; any where none is given.
    pub(crate) mac: Option<[u8; 6]>,
    /// Addresses the interface has, with the lengths of their prefixes. It may have more.
    pub(crate) addresses: Vec<IpNet>,
    /// Routes by the interface. There may be more. What a route leaves unsaid may be anything.
    pub(crate) routes: Vec<Route>,
}

/// What is not as it shall be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InsideError {
    /// The namespace's network settings cannot be had.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// No such interface.
    #[error("there is no interface {ifname}, only {there}")]
    NoInterface { ifname: String, there: List<String> },
    /// It is down.
    #[error("interface {0} is down; it was set up")]
    Down(String),
    /// It has another address.
    #[error("interface {ifname} has the MAC address {found}; {} was expected", Mac(Some(*expected)))]
    Mac { ifname: String, expected: [u8; 6], found: Mac },
    /// It lacks an address.
    #[error("interface {ifname} lacks the address {expected}: it has {found}")]
    Address { ifname: String, expected: IpNet, found: List<IpNet> },
    /// It lacks a route.
    #[error("there is no route {expected} by {ifname}: to there is {found}")]
    Route { ifname: String, expected: String, found: List<RouteEntry> },
}

/// Some things in a row, or "none".
#[derive(Debug)]
pub(crate) struct List<T>(Vec<T>);

impl<T: fmt::Display> fmt::Display for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return f.write_str("none") };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|other| write!(f, ", {other}"))
    }
}

/// A MAC address as people write it, where there is one.
#[derive(Debug)]
pub(crate) struct Mac(Option<[u8; 6]>);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some([a, b, c, d, e, g]) = self.0 else { return f.write_str("none") };
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Looks whether `netns` has what is expected.
///
/// # Errors
/// The first thing that is missing or otherwise.
pub(crate) fn check(netns: &Netns, expected: &Expected) -> Result<(), InsideError> {
    let Expected { ifname, mac, addresses, routes } = expected;
    let ifname = || ifname.clone();
    let netlink = Netlink::open_in(netns)?;
    let Some(link) = netlink.link(&expected.ifname)? else {
        let there = List(netlink.links()?.into_iter().map(|link| link.name).collect());
        return Err(InsideError::NoInterface { ifname: ifname(), there });
    };
    if !link.up {
        return Err(InsideError::Down(ifname()));
    }
    if let Some(expected) = *mac
        && link.mac != Some(expected)
    {
        return Err(InsideError::Mac { ifname: ifname(), expected, found: Mac(link.mac) });
    }
    let there = netlink.addresses()?.into_iter().filter(|(index, _)| *index == link.index);
    let there: Vec<_> = there.map(|(_, address)| address).collect();
    if let Some(&missing) = addresses.iter().find(|address| !there.contains(address)) {
        return Err(InsideError::Address { ifname: ifname(), expected: missing, found: List(there) });
    }
    if routes.is_empty() {
        return Ok(());
    }
    let mut there = netlink.routes()?;
    there.retain(|entry| entry.index == link.index);
    match routes.iter().find(|route| !there.iter().any(|entry| is(route, entry))) {
        None => Ok(()),
        Some(missing) => {
            there.retain(|entry| entry.dst.trunc() == missing.dst.trunc());
            Err(InsideError::Route { ifname: ifname(), expected: missing.to_string(), found: List(there) })
        }
    }
}

/// Whether `entry` is what `route` says.
pub(crate) fn is(route: &Route, entry: &RouteEntry) -> bool {
    let Route { dst, gw, mtu, advmss, priority, table, scope } = route;
    let as_said = |said: &Option<u32>, is: Option<u32>| said.is_none_or(|said| is.unwrap_or_default() == said);
    let is_ipv4 = dst.addr().is_ipv4();
    // IPv6 knows no scope, and lists every route as universal.
    let scope = scope.filter(|_| is_ipv4);
    // Of IPv6, 0 is the kernel's word for its own choice, IP6_RT_PRIO_USER.
    let priority = &priority.map(|priority| if priority == 0 && !is_ipv4 { 1024 } else { priority });
    dst.trunc() == entry.dst
        && *gw == entry.gateway
        && entry.table == Some(table.filter(|&table| table != 0).unwrap_or(MAIN))
        && as_said(mtu, entry.mtu)
        && as_said(advmss, entry.advmss)
        && as_said(priority, entry.priority)
        && as_said(&scope, entry.scope.map(u32::from))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "so a test fails")]
mod tests {
    use super::*;
    use crate::routes;
    use crate::testing::{Container, no_container};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

    fn route(dst: &str, gw: Option<&str>) -> Route {
        Route::new(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()))
    }

    fn attached() -> (Container, Expected) {
        let addresses = ["10.1.0.2/24", "fd00:1::2/64"];
        let container = Container::new(&addresses);
        container.netlink.set_mac(container.index, MAC).unwrap();
        let expected = Expected {
            ifname: "eth0".to_owned(),
            mac: Some(MAC),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            routes: vec![
                route("0.0.0.0/0", Some("10.1.0.1")),
                Route { mtu: Some(1400), table: Some(100), scope: Some(0), ..route("10.9.8.7/16", Some("10.1.0.1")) },
                Route { priority: Some(5), scope: Some(253), ..route("10.8.0.0/16", None) },
                Route { advmss: Some(1300), scope: Some(253), ..route("fd00:9::/48", Some("fd00:1::1")) },
                route("::/0", Some("fd00:1::1")),
                Route { priority: Some(0), ..route("fd00:7::/48", Some("fd00:1::1")) },
                Route { priority: Some(0), ..route("10.7.0.0/16", None) },
            ],
        };
        routes::add(&container.netns, "eth0", &expected.routes).unwrap();
        (container, expected)
    }

    #[test]
    fn what_was_given_is_found() {
        crate::require!(no_container());
        let (container, expected) = attached();
        check(&container.netns, &expected).unwrap();
        check(&container.netns, &Expected { mac: None, addresses: vec![], routes: vec![], ..expected }).unwrap();
    }

    /// Each way to differ, and what is said.
    #[test]
    fn what_differs_is_named() {
        crate::require!(no_container());
        let (container, right) = attached();
        let with = |route| Expected { routes: vec![route], ..right.clone() };
        let via = Some("10.1.0.1");
        for (expected, text) in [
            (Expected { ifname: "net1".into(), ..right.clone() }, "there is no interface net1, only lo, eth0"),
            (
                Expected { mac: Some([2, 0, 0, 0, 0, 6]), ..right.clone() },
                "interface eth0 has the MAC address 02:00:00:00:00:05; 02:00:00:00:00:06 was expected",
            ),
            (
                Expected { addresses: vec!["10.1.0.2/16".parse().unwrap()], ..right.clone() },
                "interface eth0 lacks the address 10.1.0.2/16: it has 10.1.0.2/24, fd00:1::2/64",
            ),
            (with(route("10.77.0.0/16", via)), "there is no route 10.77.0.0/16 via 10.1.0.1 by eth0: to there is none"),
            (
                with(route("0.0.0.0/0", Some("10.1.0.9"))),
                "there is no route 0.0.0.0/0 via 10.1.0.9 by eth0: to there is 0.0.0.0/0 via 10.1.0.1",
            ),
            (with(route("10.9.0.0/16", via)), "10.9.0.0/16 via 10.1.0.1 table 100 scope 0 mtu 1400"),
            (with(Route { mtu: Some(1399), table: Some(100), ..route("10.9.0.0/16", via) }), "no route 10.9.0.0/16"),
            (with(Route { advmss: Some(1), ..route("fd00:9::/48", Some("fd00:1::1")) }), "no route fd00:9::/48"),
            (with(Route { priority: Some(6), ..route("10.8.0.0/16", None) }), "no route 10.8.0.0/16 metric 6"),
            (with(Route { scope: Some(0), ..route("10.8.0.0/16", None) }), "no route 10.8.0.0/16 scope 0"),
        ] {
            let message = check(&container.netns, &expected).unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
        container.netlink.set_up(container.index, false).unwrap();
        let message = check(&container.netns, &right).unwrap_err().to_string();
        assert_eq!(message, "interface eth0 is down; it was set up");
    }
}
