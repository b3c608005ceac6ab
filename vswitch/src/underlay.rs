//! The underlay as the host has it: the VTEP's address, and how much a packet there may hold.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use vswitch_sys::{Link, Netlink, NetlinkError};

use crate::health::OwnFault;

/// Why there is no underlay.
#[derive(Debug, Error)]
pub(crate) enum UnderlayError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("underlay address {address} is not on this host; its addresses are {}", list(.present))]
    NotHere { address: IpAddr, present: Vec<IpAddr> },
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// Whether `ip` is the broadcast address of a subnet that this host is in; not where that cannot be told.
pub(crate) fn is_broadcast(ip: IpAddr) -> bool {
    let addresses = Netlink::open().and_then(|netlink| netlink.addresses()).unwrap_or_default();
    addresses.iter().any(|(_, net)| is_broadcast_of(ip, *net))
}

/// Whether `ip` is the broadcast address of `net`. IPv6 has none, nor have two hosts, or one (RFC 3021).
fn is_broadcast_of(ip: IpAddr, net: IpNet) -> bool {
    matches!(net, IpNet::V4(net) if net.prefix_len() < 31 && IpAddr::V4(net.broadcast()) == ip)
}

/// The underlay as the host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    /// The VTEP's address.
    pub(crate) address: IpAddr,
    /// The number of the interface that holds it.
    pub(crate) index: u32,
    /// Bits of its prefix there, where that is known.
    pub(crate) prefix: Option<u8>,
    /// MTU of the interface that holds it, in bytes.
    pub(crate) mtu: u16,
}

impl Underlay {
    /// Bytes that encapsulation adds to a packet: outer IP, UDP 8, VXLAN 8, inner Ethernet 14.
    pub(crate) const fn overhead(&self) -> u16 {
        match self.address {
            IpAddr::V4(_) => 20 + 30,
            IpAddr::V6(_) => 40 + 30,
        }
    }

    /// The largest packet inside that fits uncut.
    pub(crate) const fn inner_mtu(&self) -> u16 {
        self.mtu.saturating_sub(self.overhead())
    }

    /// Finds the interface of this host that holds `address`.
    pub(crate) fn find(address: IpAddr) -> Result<Self, UnderlayError> {
        let netlink = Netlink::open()?;
        let addresses = netlink.addresses()?;
        let Some((index, net)) = addresses.iter().find(|(_, net)| net.addr() == address) else {
            let present = addresses.iter().map(|(_, net)| net.addr()).collect();
            return Err(UnderlayError::NotHere { address, present });
        };
        let mtu = netlink.link_by_index(*index)?.map_or(1500, |link| link.mtu);
        Ok(Self { address, index: *index, prefix: Some(net.prefix_len()), mtu: u16::try_from(mtu).unwrap_or(u16::MAX) })
    }

    /// What keeps this host from sending, as it is now; `None` also where that cannot be told.
    pub(crate) fn fault(&self) -> Option<OwnFault> {
        let netlink = Netlink::open().ok()?;
        let holder = netlink.addresses().ok()?.into_iter().find(|(_, net)| net.addr() == self.address);
        let link = netlink.link_by_index(holder.map_or(self.index, |(index, _)| index)).ok()?;
        let Some(Link { name: link, up, running, .. }) = link else { return Some(OwnFault::LinkGone) };
        match holder {
            // An IPv6 address may have gone with the interface's being up.
            _ if !up => Some(OwnFault::LinkDown { link }),
            None => Some(OwnFault::AddressGone { link, prefix: self.prefix }),
            Some(_) if !running => Some(OwnFault::NoCarrier { link }),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_addresses() {
        let table = [
            ("192.0.2.255", "192.0.2.1/24", true),
            ("192.0.2.255", "192.0.2.1/23", false),
            ("192.0.3.255", "192.0.2.1/23", true),
            ("192.0.2.1", "192.0.2.0/31", false),
            ("192.0.2.1", "192.0.2.1/32", false),
            ("2001:db8::ffff", "2001:db8::1/112", false),
        ];
        for (ip, net, expected) in table {
            assert_eq!(is_broadcast_of(ip.parse().unwrap(), net.parse().unwrap()), expected, "{ip} in {net}");
        }
    }
}
