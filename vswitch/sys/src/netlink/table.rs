//! Routing tables: what `ip route` adds with attributes, and shows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags, RouteProtocol,
    RouteScope, RouteType,
};

use super::address::family;
use super::route::plain;
use super::{Netlink, NetlinkError};

/// A unicast route as it stands in a table, or shall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Where it leads; a length of 0 is a default route.
    pub dst: IpNet,
    /// The router to hand packets to; `None` where the destinations are on the link.
    pub gateway: Option<IpAddr>,
    /// The link to leave by.
    pub index: u32,
    /// Largest packet, in bytes; `None`: the link's.
    pub mtu: Option<u32>,
    /// The TCP segment size to ask peers for, in bytes; `None`: what the MTU leaves.
    pub advmss: Option<u32>,
    /// Of several, the least wins. `None`: the kernel's choice, 0 for IPv4 and 1024 for IPv6.
    pub priority: Option<u32>,
    /// Its table, 1 to 2^32 - 1; `None`: the main one, 254.
    pub table: Option<u32>,
    /// How far its destinations are: 0 anywhere, 253 on the link, 254 here. `None`: what the gateway implies. IPv6 has no
    /// such thing and ignores it.
    pub scope: Option<u8>,
    /// Whether the gateway is taken to be on the link, though no address of the link covers it.
    pub onlink: bool,
    /// Whether it came by a router's advertisement. Only read.
    pub advertised: bool,
}

impl RouteEntry {
    /// The route to `dst` by link `index` without more attributes.
    #[must_use]
    pub const fn new(dst: IpNet, gateway: Option<IpAddr>, index: u32) -> Self {
        let (mtu, advmss, priority, table, scope) = (None, None, None, None, None);
        Self { dst, gateway, index, mtu, advmss, priority, table, scope, onlink: false, advertised: false }
    }
}

/// `10.9.0.0/16 via 10.1.0.1 mtu 1400 table 100`: as `ip route` writes it, without the interface.
impl fmt::Display for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst.trunc())?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        let scope = self.scope.map(u32::from);
        let table = self.table.filter(|&table| table != u32::from(RouteHeader::RT_TABLE_MAIN));
        let (priority, mtu, advmss) = (self.priority, self.mtu, self.advmss);
        for (word, value) in
            [("table", table), ("metric", priority), ("scope", scope), ("mtu", mtu), ("advmss", advmss)]
        {
            if let Some(value) = value {
                write!(f, " {word} {value}")?;
            }
        }
        f.write_str(if self.onlink { " onlink" } else { "" })
    }
}

impl Netlink {
    /// Adds a route.
    ///
    /// # Errors
    /// EEXIST where there is one to the same destination with the same priority in the same table, ENETUNREACH (IPv6: EHOSTUNREACH) where the gateway is not on the link.
    pub fn add_route_entry(&self, entry: &RouteEntry) -> Result<(), NetlinkError> {
        let operation = format_args!("add the route {entry} by interface {}", entry.index);
        self.change(operation, RouteNetlinkMessage::NewRoute(message(entry)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// All unicast routes of the namespace, of all tables and both families; one with several next hops once for each.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn routes(&self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let mut entries = Vec::new();
        for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let mut request = RouteMessage::default();
            request.header.address_family = family(any);
            let answers = self.dump(format_args!("list routes"), &RouteNetlinkMessage::GetRoute(request))?;
            entries.extend(answers.into_iter().flat_map(|answer| read(answer, any)));
        }
        Ok(entries)
    }
}

fn message(entry: &RouteEntry) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(entry.dst.addr());
    header.destination_prefix_length = entry.dst.prefix_len();
    header.protocol = RouteProtocol::Static;
    header.kind = RouteType::Unicast;
    let implied = if entry.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    header.scope = entry.scope.map_or(implied, RouteScope::from);
    if entry.onlink {
        header.flags |= RouteFlags::Onlink;
    }
    // The header has a byte for the table, the attribute four.
    let table = entry.table.unwrap_or_else(|| RouteHeader::RT_TABLE_MAIN.into());
    header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    let metrics = [entry.mtu.map(RouteMetric::Mtu), entry.advmss.map(RouteMetric::Advmss)];
    let metrics: Vec<_> = metrics.into_iter().flatten().collect();
    message.attributes = vec![
        RouteAttribute::Destination(entry.dst.network().into()),
        RouteAttribute::Oif(entry.index),
        RouteAttribute::Table(table),
    ];
    message.attributes.extend(entry.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.extend(entry.priority.map(RouteAttribute::Priority));
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

/// What the kernel says about a route of the family of `any`; nothing where it is no unicast route.
fn read(answer: RouteNetlinkMessage, any: IpAddr) -> Vec<RouteEntry> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return Vec::new() };
    let header = &message.header;
    if header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut entry = RouteEntry::new(any.into(), None, 0);
    entry.table = Some(header.table.into());
    entry.scope = Some(header.scope.into());
    entry.onlink = header.flags.contains(RouteFlags::Onlink);
    entry.advertised = header.protocol == RouteProtocol::Ra;
    // A default route comes without a destination.
    let mut dst = any;
    let mut hops = Vec::new();
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = plain(&address).unwrap_or(dst),
            RouteAttribute::MultiPath(next_hops) => hops = next_hops,
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(mtu) => entry.mtu = Some(mtu),
                        RouteMetric::Advmss(advmss) => entry.advmss = Some(advmss),
                        _ => {}
                    }
                }
            }
            RouteAttribute::Priority(priority) => entry.priority = Some(priority),
            RouteAttribute::Table(table) => entry.table = Some(table),
            other => next_hop(&mut entry, &other),
        }
    }
    let Ok(dst) = IpNet::new(dst, header.destination_prefix_length) else { return Vec::new() };
    entry.dst = dst;
    if hops.is_empty() { vec![entry] } else { hops.iter().map(|hop| by(entry, hop)).collect() }
}

/// Notes what says where a packet goes next.
fn next_hop(entry: &mut RouteEntry, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Oif(index) => entry.index = *index,
        RouteAttribute::Gateway(address) => entry.gateway = plain(address),
        _ => {}
    }
}

/// The part of a route that goes by `hop`.
fn by(mut entry: RouteEntry, hop: &RouteNextHop) -> RouteEntry {
    entry.index = hop.interface_index;
    entry.onlink = hop.flags.contains(RouteNextHopFlags::Onlink);
    hop.attributes.iter().for_each(|attribute| next_hop(&mut entry, attribute));
    entry
}
