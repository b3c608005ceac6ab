//! The interface of a port: a TAP device in somebody's namespace, with all it needs there.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::{Netlink, NetlinkError};
use crate::netns::{Netns, NetnsError};
use crate::tap::{Tap, TapError};

/// The settings of the namespace of whoever looks.
const SETTINGS: &str = "/proc/sys/net";

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
    /// What it bears, as its alias, for its owner to know it again.
    pub mark: String,
}

/// Where an interface came from.
#[derive(Debug)]
pub enum Origin {
    /// It was made.
    New,
    /// It was there, with our mark and without anybody who served it; with what could not be given to it, if anything.
    Left(Option<NetlinkError>),
    /// It was there, made for a single queue, which cannot change: it was made again, and what the container had set on
    /// the first is gone.
    Remade,
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
    /// The interface in `netns`, with `queues` queues (1 to 256): the one that was left there, with our mark, as it is, or
    /// a new one.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn obtain(&self, netns: &Netns, queues: u16) -> Result<(Tap, Origin), InterfaceError> {
        match self.obtain_left(netns, queues)? {
            Some(left) => Ok(left),
            None => Ok((self.create(netns, queues)?, Origin::New)),
        }
    }

    /// The interface that was left in `netns` with our mark, with `queues` queues; `None` where there is none.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn obtain_left(&self, netns: &Netns, queues: u16) -> Result<Option<(Tap, Origin)>, InterfaceError> {
        match self.left(netns)? {
            Some((netlink, index)) => self.take_up(&netlink, index, netns, queues).map(Some),
            None => Ok(None),
        }
    }

    /// As [`Self::obtain`], where a new interface is made inside as by [`Self::create_inside`]: its descriptors keep the
    /// namespace alive.
    ///
    /// # Errors
    /// As [`Self::obtain`].
    pub fn obtain_inside(&self, netns: &Netns, queues: u16) -> Result<(Tap, Origin), InterfaceError> {
        // One thread for all that has to be done over there: a busy machine lets each wait for its turn.
        let (netlink, made) = netns.run(|| {
            let netlink = Netlink::open()?;
            // Most often there is none yet; to look for it first would take a turn among all who change links.
            let made = match Tap::open(&self.name, queues, None) {
                Err(TapError::NameTaken(name)) => {
                    let left = netlink.link(&self.name)?.filter(|link| link.alias.as_ref() == Some(&self.mark));
                    Err(left.ok_or(TapError::NameTaken(name))?.index)
                }
                outcome => Ok(outcome?),
            };
            Ok::<_, InterfaceError>((netlink, made))
        })??;
        match made {
            Ok(tap) => {
                self.set_up(&tap, &netlink, netns)?;
                Ok((tap, Origin::New))
            }
            Err(index) => self.take_up(&netlink, index, netns, queues),
        }
    }

    /// The interface with number `index`, which was left.
    fn take_up(
        &self,
        netlink: &Netlink,
        index: u32,
        netns: &Netns,
        queues: u16,
    ) -> Result<(Tap, Origin), InterfaceError> {
        let tap = match Tap::attach(&self.name, queues, netns) {
            Err(TapError::OneQueue(..)) => {
                netlink.delete_link(index)?;
                return Ok((self.create(netns, queues)?, Origin::Remade));
            }
            outcome => outcome?,
        };
        tap.set_persistent(true)?;
        Ok((tap, Origin::Left(self.mend(netlink, index).err())))
    }

    /// Gives interface `index`, which was left or kept, what it may lack where its owner ended in the middle of a change.
    /// All else is the container's by now.
    ///
    /// # Errors
    /// The first that the kernel refuses; the others are given all the same.
    pub fn mend(&self, netlink: &Netlink, index: u32) -> Result<(), NetlinkError> {
        let mtu = netlink.set_mtu(index, u32::from(self.mtu));
        let addresses = self.addresses.iter().map(|&address| or_there(netlink.add_address(index, address)));
        // Perhaps there is another route, the container's.
        let routes = self.gateways.iter().map(|&gateway| or_there(netlink.add_route(None, Some(gateway), index)));
        addresses.chain(routes).fold(mtu, Result::and)
    }

    /// Removes the interface that was left in `netns`; returns whether there was one with our mark.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove(&self, netns: &Netns) -> Result<bool, InterfaceError> {
        let Some((netlink, index)) = self.left(netns)? else { return Ok(false) };
        netlink.delete_link(index)?;
        Ok(true)
    }

    /// The number of the interface with our name and mark, where it is in `netns`, and a socket there.
    ///
    /// # Errors
    /// What the kernel answers, and without the right to enter `netns`.
    pub fn left(&self, netns: &Netns) -> Result<Option<(Netlink, u32)>, InterfaceError> {
        let netlink = Netlink::open_in(netns)?;
        let link = netlink.link(&self.name)?.filter(|link| link.alias.as_ref() == Some(&self.mark));
        Ok(link.map(|link| (netlink, link.index)))
    }

    /// Makes the interface in `netns`, with `queues` queues (1 to 256): MAC, MTU, addresses, up, default routes, in that
    /// order. On failure nothing stays: only once it is whole it may outlive its descriptors.
    ///
    /// In the caller's own namespace it is the host's among containers, none of which is to be its router: before it is up,
    /// router advertisements and redirects are refused there, as far as `/proc/sys` can be written
    /// ([`takes_advertisements`]).
    ///
    /// # Errors
    /// A name that is taken, a setting the kernel refuses, and without the right to do so: `CAP_NET_ADMIN` where the
    /// caller is, `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` over `netns`.
    pub fn create(&self, netns: &Netns, queues: u16) -> Result<Tap, InterfaceError> {
        let tap = Tap::open(&self.name, queues, Some(netns))?;
        self.set_up(&tap, &Netlink::open_in(netns)?, netns)?;
        Ok(tap)
    }

    /// As [`Self::create`] for a caller with rights over `netns` alone, as root of a container without root: the device is
    /// made inside. It keeps the namespace alive for as long as its descriptors are open.
    ///
    /// # Errors
    /// As [`Self::create`], but for the rights where the caller is.
    pub fn create_inside(&self, netns: &Netns, queues: u16) -> Result<Tap, InterfaceError> {
        let tap = netns.run(|| Tap::open(&self.name, queues, None))??;
        self.set_up(&tap, &Netlink::open_in(netns)?, netns)?;
        Ok(tap)
    }

    fn set_up(&self, tap: &Tap, netlink: &Netlink, netns: &Netns) -> Result<(), InterfaceError> {
        let index = netlink.index(&self.name)?.ok_or_else(|| InterfaceError::Vanished(self.name.clone()))?;
        netlink.dress(index, self.mac, u32::from(self.mtu), &self.mark)?;
        for &address in &self.addresses {
            netlink.add_address(index, address)?;
        }
        if netns.identity()? == Netns::current()?.identity()? {
            refuse_routers(&self.name);
        }
        netlink.set_up(index, true)?;
        for &gateway in &self.gateways {
            netlink.add_route(None, Some(gateway), index)?;
        }
        tap.set_persistent(true)?;
        Ok(())
    }
}

/// Whether interface `name`, of the namespace of the calling thread, believes in routers on its link that say so
/// (RFC 4861 6.3.4): Linux does unless told otherwise, or where it is a router itself. Not where there is no IPv6.
#[must_use]
pub fn takes_advertisements(name: &str) -> bool {
    let is = |key: &str, value: &str| {
        fs::read_to_string(format!("{SETTINGS}/ipv6/conf/{name}/{key}")).is_ok_and(|found| found.trim() == value)
    };
    is("accept_ra", "2") || is("accept_ra", "1") && is("forwarding", "0")
}

/// Has interface `name`, of the namespace of the calling thread, believe in no router on its link.
fn refuse_routers(name: &str) {
    let keys = ["ipv6/conf/{}/accept_ra", "ipv6/conf/{}/autoconf", "ipv6/conf/{}/accept_redirects"];
    for key in keys.into_iter().chain(["ipv4/conf/{}/accept_redirects"]) {
        // There may be no IPv6, and /proc/sys may be read-only, its settings made beforehand.
        let _ = fs::write(format!("{SETTINGS}/{}", key.replace("{}", name)), "0");
    }
}

/// Success, too, where it was there before.
fn or_there(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    outcome.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}
