//! Neighbours and the address tables of VXLAN devices: what `ip neighbour` and `bridge fdb` do.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::address::family;
use super::link::Mac;
use super::{Netlink, NetlinkError};

/// What the kernel knows of a neighbour that it asked who has its address (arp(7); RFC 4861 7.3.2 for IPv6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// It answered, so long ago: reachable, for 15 to 45 s (half to one and a half of `base_reachable_time_ms`).
    Reachable(Duration),
    /// It answered, so long ago, and that says nothing of now: stale, until something is sent to it; then delay, for 5 s
    /// (`delay_first_probe_time`); then it is asked again (probe), and given up after three times a second without an answer.
    Unproven(Duration),
    /// It does not answer: incomplete, failed.
    Silent,
}

impl Neighbour {
    fn read(entry: &NeighbourMessage) -> Option<Self> {
        // In clock_t, of which a second has a hundred on all but long gone machines.
        const TICK: Duration = Duration::from_millis(10);
        let confirmed = entry.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::CacheInfo(info) => Some(TICK.saturating_mul(info.confirmed)),
            _ => None,
        });
        let confirmed = confirmed.unwrap_or(Duration::MAX);
        match entry.header.state {
            NeighbourState::Reachable => Some(Self::Reachable(confirmed)),
            NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => Some(Self::Unproven(confirmed)),
            NeighbourState::Incomplete | NeighbourState::Failed => Some(Self::Silent),
            _ => None, // permanent and without ARP: nobody asks
        }
    }
}

impl Netlink {
    /// Adds `remote` to where VXLAN device `index` sends frames for `mac`; all zero: frames for everybody.
    ///
    /// # Errors
    /// EEXIST where it is there.
    pub fn fdb_append(&self, index: u32, mac: [u8; 6], remote: IpAddr) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Own;
        message.header.state =
            NeighbourState::Other(u16::from(NeighbourState::Permanent) | u16::from(NeighbourState::Noarp));
        message.attributes =
            vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec()), NeighbourAttribute::Destination(remote.into())];
        let operation = format_args!("let VXLAN device {index} send {} to {remote}", Mac(mac));
        self.change(operation, RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_APPEND)
    }

    /// Makes `mac` the lasting answer to who has `ip` on link `index`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add_neighbour(&self, index: u32, ip: IpAddr, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(ip);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes =
            vec![NeighbourAttribute::Destination(ip.into()), NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        let operation = format_args!("make {} the neighbour {ip} on interface {index}", Mac(mac));
        self.change(operation, RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// What the kernel knows of the neighbour `ip` on link `index`; `None` where it never asked for it, as for one behind a
    /// router or one that was given by hand.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn neighbour(&self, index: u32, ip: IpAddr) -> Result<Option<Neighbour>, NetlinkError> {
        let operation = format_args!("look up the neighbour {ip} on interface {index}");
        let mut question = NeighbourMessage::default();
        question.header.family = family(ip);
        question.header.ifindex = index;
        question.attributes.push(NeighbourAttribute::Destination(ip.into()));
        match self.get(operation, RouteNetlinkMessage::GetNeighbour(question)) {
            Ok(RouteNetlinkMessage::NewNeighbour(entry)) => Ok(Neighbour::read(&entry)),
            Ok(_) => Err(NetlinkError::bad(operation, "it is no neighbour")),
            Err(error) if error.is_missing() => Ok(None),
            // Before Linux 5.0 one is not told without all.
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => self.neighbour_of_all(index, ip),
            Err(error) => Err(error),
        }
    }

    fn neighbour_of_all(&self, index: u32, ip: IpAddr) -> Result<Option<Neighbour>, NetlinkError> {
        let operation = format_args!("list the neighbours");
        let all = self.dump(operation, &RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
        let is_it = |entry: &NeighbourMessage| {
            entry.header.ifindex == index && entry.attributes.contains(&NeighbourAttribute::Destination(ip.into()))
        };
        Ok(all.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(entry) if is_it(&entry) => Neighbour::read(&entry),
            _ => None,
        }))
    }

    /// Forgets the neighbours that link `index` asked for and has no answer of: the next packet asks at once, where the
    /// kernel would wait up to a second (`retrans_time_ms`) with asking again. Returns how many.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn forget_unanswered_neighbours(&self, index: u32) -> Result<usize, NetlinkError> {
        let operation = format_args!("forget the unanswered neighbours of interface {index}");
        let all = self.dump(operation, &RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
        let unanswered = all.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message)
                if message.header.ifindex == index
                    && matches!(message.header.state, NeighbourState::Incomplete | NeighbourState::Failed) =>
            {
                Some(message)
            }
            _ => None,
        });
        let mut forgotten = 0;
        for mut message in unanswered {
            message.attributes.retain(|attribute| matches!(attribute, NeighbourAttribute::Destination(_)));
            match self.change(operation, RouteNetlinkMessage::DelNeighbour(message), 0) {
                Ok(()) => forgotten += 1,
                Err(error) if error.is_missing() => {} // gone by itself meanwhile
                Err(error) => return Err(error),
            }
        }
        Ok(forgotten)
    }
}
