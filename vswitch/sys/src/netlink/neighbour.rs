//! Neighbours and the address tables of VXLAN devices: what `ip neighbour` and `bridge fdb` do.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::address::family;
use super::link::Mac;
use super::{Netlink, NetlinkError};

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

    /// Whether the neighbour `ip` answered to who has its address, as the kernel knows: true where it did, of late or once,
    /// false where it does not. `None` where it was not asked, as for one behind a router.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn is_neighbour_there(&self, ip: IpAddr) -> Result<Option<bool>, NetlinkError> {
        let operation = format_args!("list the neighbours");
        let all = self.dump(operation, &RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
        let states = all.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => {
                let is_it = |attribute: &NeighbourAttribute| *attribute == NeighbourAttribute::Destination(ip.into());
                message.attributes.iter().any(is_it).then_some(message.header.state)
            }
            _ => None,
        });
        let answers = states.filter_map(|state| match state {
            NeighbourState::Incomplete | NeighbourState::Failed => Some(false),
            NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe | NeighbourState::Stale => {
                Some(true)
            }
            _ => None,
        });
        Ok(answers.max())
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
