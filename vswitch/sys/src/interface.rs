//! The interface of a port: a TAP device in somebody's namespace, with all it needs there.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::{Netlink, NetlinkError};
use crate::netns::{Netns, NetnsError};
use crate::tap::{Tap, TapError};

/// What an interface shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Its name in its namespace.
    pub name: String,
    /// Its address.
    pub mac: [u8; 6],
    /// Largest packet, in bytes.
    pub mtu: u16,
    /// Its addresses, with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Next hops of default routes.
    pub gateways: Vec<IpAddr>,
}

/// Why an interface could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// Its namespace cannot be had.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The device cannot be had.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The kernel refused a setting.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Somebody renamed or deleted it meanwhile.
    #[error("interface {0} vanished while it was set up; try again")]
    Vanished(String),
}

impl InterfaceError {
    /// Whether the caller lacks the right to it.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        let errno = match self {
            Self::Netns(NetnsError::System { source, .. }) | Self::Tap(TapError::System { source, .. }) => {
                source.raw_os_error()
            }
            Self::Tap(TapError::Netlink(error)) | Self::Netlink(error) => error.errno(),
            _ => None,
        };
        matches!(errno, Some(libc::EPERM | libc::EACCES))
    }
}

impl InterfaceSpec {
    /// Makes the interface in `netns`, with `queues` queues (1 to 256): MAC, MTU, addresses, up, default routes, in that
    /// order. On failure nothing stays: the device goes with its descriptors.
    ///
    /// # Errors
    /// A name that is taken, a setting the kernel refuses, and without the right to do so: `CAP_NET_ADMIN` where the
    /// caller is, `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` over `netns`.
    pub fn create(&self, netns: &Netns, queues: u16) -> Result<Tap, InterfaceError> {
        let tap = Tap::open(&self.name, queues, Some(netns))?;
        self.set_up(netns)?;
        Ok(tap)
    }

    /// As [`Self::create`] for a caller with rights over `netns` alone, as root of a container without root: the device is
    /// made inside. It keeps the namespace alive for as long as its descriptors are open.
    ///
    /// # Errors
    /// As [`Self::create`], but for the rights where the caller is.
    pub fn create_inside(&self, netns: &Netns, queues: u16) -> Result<Tap, InterfaceError> {
        let tap = netns.run(|| Tap::open(&self.name, queues, None))??;
        self.set_up(netns)?;
        Ok(tap)
    }

    fn set_up(&self, netns: &Netns) -> Result<(), InterfaceError> {
        let netlink = Netlink::open_in(netns)?;
        let index = netlink.link(&self.name)?.ok_or_else(|| InterfaceError::Vanished(self.name.clone()))?.index;
        netlink.set_mac(index, self.mac)?;
        netlink.set_mtu(index, u32::from(self.mtu))?;
        for &address in &self.addresses {
            netlink.add_address(index, address)?;
        }
        netlink.set_up(index, true)?;
        for &gateway in &self.gateways {
            netlink.add_route(None, Some(gateway), index)?;
        }
        Ok(())
    }
}
