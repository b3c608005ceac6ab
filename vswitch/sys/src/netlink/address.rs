//! IP addresses of links: what `ip address` does.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError};

impl Netlink {
    /// Gives link `index` an address; it may be used at once.
    ///
    /// # Errors
    /// EEXIST where the link has it already; [`NetlinkError::Ipv6Off`].
    pub fn add_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut message = message(index, address);
        if let IpNet::V4(net) = address {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        // The address is assigned, not guessed: no second in which it cannot be bound (RFC 4862 5.4).
        message.header.flags = AddressHeaderFlags::Nodad;
        let operation = format_args!("give interface {index} the address {address}");
        let outcome = self.change(operation, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL);
        outcome.map_err(|error| match error.errno() {
            // Who may not is told EPERM.
            Some(libc::EACCES) if address.addr().is_ipv6() => NetlinkError::Ipv6Off { index, address },
            _ => error,
        })
    }

    /// Takes an address from link `index`.
    ///
    /// # Errors
    /// EADDRNOTAVAIL where the link does not have it.
    pub fn delete_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let operation = format_args!("take the address {address} from interface {index}");
        self.change(operation, RouteNetlinkMessage::DelAddress(message(index, address)), 0)
    }

    /// All addresses of the namespace, each with the number of its link.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn addresses(&self) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump(format_args!("list addresses"), &request)?;
        Ok(answers.into_iter().filter_map(read).collect())
    }
}

fn message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.header.family = family(address.addr());
    message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    message
}

fn read(message: RouteNetlinkMessage) -> Option<(u32, IpNet)> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    // On a point-to-point link `Address` is the other end; without `Local` it is ours (IPv6).
    let own = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    };
    let other = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    };
    let ip = message.attributes.iter().find_map(own).or_else(|| message.attributes.iter().find_map(other))?;
    Some((message.header.index, IpNet::new(ip, message.header.prefix_len).ok()?))
}

/// The address family of `ip`.
pub(super) const fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
