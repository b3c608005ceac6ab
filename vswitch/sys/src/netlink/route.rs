//! Routes: what `ip route` does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};

use super::address::family;
use super::{Netlink, NetlinkError};

/// The way to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The link to leave by.
    pub index: u32,
    /// The router to hand it to; `None` where the address is on the link.
    pub gateway: Option<IpAddr>,
    /// The address to send from.
    pub source: Option<IpAddr>,
    /// What is known of the path's MTU, by a route's setting or by ICMP; `None`: the link's.
    pub mtu: Option<u32>,
    /// Whether the address is this host's own.
    pub local: bool,
}

/// The question for the way to `ip`.
fn to(ip: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(ip.into()));
    message
}

/// A route in words.
struct Way {
    dst: Option<IpNet>,
    gateway: Option<IpAddr>,
    index: u32,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dst {
            Some(dst) => write!(f, "the route to {dst}")?,
            None => f.write_str("the default route")?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " by interface {}", self.index)
    }
}

fn message(dst: Option<IpNet>, gateway: Option<IpAddr>, index: u32) -> RouteMessage {
    let ip = dst.map(|dst| dst.addr()).or(gateway).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    if let Some(dst) = dst {
        message.header.destination_prefix_length = dst.prefix_len();
        message.attributes.push(RouteAttribute::Destination(dst.network().into()));
    }
    message.attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

impl Netlink {
    /// Adds a route to `dst` (`None`: everything, of IPv4 where no gateway says otherwise) by link `index`.
    ///
    /// # Errors
    /// EEXIST where there is one, ENETUNREACH where the gateway is not on the link.
    pub fn add_route(&self, dst: Option<IpNet>, gateway: Option<IpAddr>, index: u32) -> Result<(), NetlinkError> {
        let operation = format_args!("add {}", Way { dst, gateway, index });
        let message = message(dst, gateway, index);
        self.change(operation, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Whether there is the route that [`Self::add_route`] would add, whoever added it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn has_route(&self, dst: Option<IpNet>, gateway: Option<IpAddr>, index: u32) -> Result<bool, NetlinkError> {
        let wanted = message(dst, gateway, index);
        let mut request = RouteMessage::default();
        request.header.address_family = wanted.header.address_family;
        let routes = self.dump(format_args!("list routes"), &RouteNetlinkMessage::GetRoute(request))?;
        Ok(routes.into_iter().any(|route| {
            let RouteNetlinkMessage::NewRoute(route) = route else { return false };
            let key = |header: &RouteHeader| (header.table, header.kind, header.destination_prefix_length);
            key(&route.header) == key(&wanted.header)
                && wanted.attributes.iter().all(|attribute| route.attributes.contains(attribute))
        }))
    }

    /// Removes the route that [`Self::add_route`] would add, whoever added it.
    ///
    /// # Errors
    /// ESRCH where there is none.
    pub fn delete_route(&self, dst: Option<IpNet>, gateway: Option<IpAddr>, index: u32) -> Result<(), NetlinkError> {
        let operation = format_args!("remove {}", Way { dst, gateway, index });
        let mut message = message(dst, gateway, index);
        message.header.protocol = RouteProtocol::Unspec; // any
        self.change(operation, RouteNetlinkMessage::DelRoute(message), 0)
    }

    /// How a packet to `ip` would leave that has no sender yet.
    ///
    /// # Errors
    /// ENETUNREACH where there is no way.
    pub fn route_to(&self, ip: IpAddr) -> Result<Route, NetlinkError> {
        self.route(format_args!("find the route to {ip}"), to(ip))
    }

    /// How a packet from `own`, an address of this host, to `ip` would leave: rules may tell senders apart.
    ///
    /// # Errors
    /// ENETUNREACH where there is no way.
    pub fn route_from(&self, own: IpAddr, ip: IpAddr) -> Result<Route, NetlinkError> {
        let mut message = to(ip);
        message.header.source_prefix_length = message.header.destination_prefix_length;
        message.attributes.push(RouteAttribute::Source(own.into()));
        self.route(format_args!("find the route from {own} to {ip}"), message)
    }

    fn route(&self, operation: fmt::Arguments<'_>, message: RouteMessage) -> Result<Route, NetlinkError> {
        let RouteNetlinkMessage::NewRoute(answer) = self.get(operation, RouteNetlinkMessage::GetRoute(message))? else {
            return Err(NetlinkError::bad(operation, "it is no route"));
        };
        let (mut index, mut gateway, mut source, mut mtu) = (None, None, None, None);
        for attribute in answer.attributes {
            match attribute {
                RouteAttribute::Oif(oif) => index = Some(oif),
                RouteAttribute::Gateway(address) => gateway = plain(&address),
                RouteAttribute::PrefSource(address) => source = plain(&address),
                RouteAttribute::Metrics(metrics) => {
                    mtu = metrics.into_iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let index = index.ok_or_else(|| NetlinkError::bad(operation, "it names no interface"))?;
        Ok(Route { index, gateway, source, mtu, local: answer.header.kind == RouteType::Local })
    }
}

/// The address, where it is one of IP.
pub(super) fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match *address {
        RouteAddress::Inet(ip) => Some(ip.into()),
        RouteAddress::Inet6(ip) => Some(ip.into()),
        _ => None,
    }
}
