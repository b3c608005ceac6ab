//! TAP devices with virtio-net headers: the ports of the switch.

mod offloads;
mod queue;

use std::fs::OpenOptions;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::netlink::{Netlink, NetlinkError};
use crate::netns::{Netns, NetnsError};
use crate::syscall::check;
use crate::vnet::VNET_HDR_LEN;

pub use offloads::Offloads;
use queue::name_of;
pub use queue::{PIECES_MAX, TapQueue};

/// Most bytes of an interface name; the kernel's 16 include the end mark.
const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// Most queues of one device (`MAX_TAP_QUEUES` in the kernel).
const QUEUES_MAX: u16 = 256;

/// What every device of ours is: Ethernet, no packet information, virtio-net headers.
const KIND: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Whether a device that was just made has the header we want: it has the older one of 10 bytes, in the machine's own byte
/// order (`drivers/net/tun.c`). Every ioctl waits for all who change an interface of the machine.
const FRESH_IS_RIGHT: bool = VNET_HDR_LEN == 10 && cfg!(target_endian = "little");

/// Why a TAP device could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name cannot be an interface name.
    #[error(
        "interface name {0:?} is not usable: 1 to {NAME_MAX} bytes, no '/', ':', '%' or space, neither \".\" nor \"..\""
    )]
    BadName(String),
    /// The name is in use in that namespace.
    #[error("interface name {0:?} is taken in that namespace; choose another or delete the interface")]
    NameTaken(String),
    /// The device was made with another number of queues, which cannot change.
    #[error("TAP device {0} was made for one queue and cannot get {1}; delete it to have it made anew")]
    OneQueue(String, u16),
    /// The device is not there.
    #[error("there is no TAP device {0} in that namespace")]
    Gone(String),
    /// A number of queues out of range.
    #[error("{0} queues asked for; a TAP device has 1 to {QUEUES_MAX}")]
    BadQueues(u16),
    /// `/dev/net/tun` cannot be opened.
    #[error("cannot open /dev/net/tun: {0}; load the module `tun`, or give this process the device")]
    NoDevice(#[source] io::Error),
    /// The descriptor is of another kind.
    #[error("the descriptor is no TAP device: {0}; open /dev/net/tun and attach it with TUNSETIFF first")]
    NotTap(&'static str),
    /// The descriptor's device was set up in a way that loses super-frames.
    #[error("TAP device {0} lacks {1}; open it with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR")]
    WrongKind(String, &'static str),
    /// The descriptors are of more than one device.
    #[error("the descriptors are queues of two devices, {0} and {1}; hand over those of one")]
    Several(String, String),
    /// The kernel refused.
    #[error("cannot {operation} TAP device {name}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The device.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The device could not be moved to its namespace.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The namespace could not be told.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// A TAP device: it lasts until its last queue is closed, or longer where it is [persistent](Self::set_persistent).
#[derive(Debug)]
pub struct Tap {
    name: String,
    offloads: Offloads,
    queues: Vec<TapQueue>,
}

impl Tap {
    /// Creates device `name` with `queues` queues, in `netns` or where the calling thread is.
    ///
    /// # Errors
    /// A name that is none or is taken, queues out of 1 to 256, `/dev/net/tun` missing, no `CAP_NET_ADMIN` here or there.
    pub fn open(name: &str, queues: u16, netns: Option<&Netns>) -> Result<Self, TapError> {
        check_name(name)?;
        // A descriptor of /dev/net/tun keeps the namespace alive in which it was opened. Opened over there, a container's
        // namespace would never end while we hold its port. So the device is made here, under a name the kernel
        // numbers, and moved once all queues are attached: they look for it here.
        let (here, all) = attach_all(if netns.is_some() { "vswitch%d" } else { name }, queues)?;
        if let Some(netns) = netns {
            Netlink::open()?.hand_over(&here, netns, name).map_err(|error| match error.errno() {
                Some(libc::EEXIST) => TapError::NameTaken(name.to_owned()),
                _ => error.into(),
            })?;
        }
        if FRESH_IS_RIGHT { Self::negotiate(name.to_owned(), all) } else { Self::set_up(name.to_owned(), all) }
    }

    /// Attaches `queues` queues to the persistent device `name` in `netns`, which nobody has attached to. The interface
    /// keeps what it had: addresses, routes, MTU. Its carrier comes back.
    ///
    /// The descriptors keep `netns` alive, for the kernel (6.18) finds devices only where `/dev/net/tun` was opened:
    /// whoever holds them has to notice that the namespace is meant to go ([`TapQueue::pins_netns`]).
    ///
    /// # Errors
    /// No such device, one made for a single queue where more are asked for, one in use, and as [`Self::open`].
    pub fn attach(name: &str, queues: u16, netns: &Netns) -> Result<Self, TapError> {
        check_name(name)?;
        if !(1..=QUEUES_MAX).contains(&queues) {
            return Err(TapError::BadQueues(queues));
        }
        let gone = || TapError::Gone(name.to_owned());
        let index = |netlink: &Netlink| Ok::<_, TapError>(netlink.link(name)?.ok_or_else(gone)?.index);
        let netlink = Netlink::open_in(netns)?;
        let before = index(&netlink)?;
        let all = netns.run(|| attach_again(name, queues))??;
        // Had it gone just before, the kernel would have made another, which goes with its descriptors.
        if index(&netlink)? != before {
            return Err(gone());
        }
        Self::set_up(name.to_owned(), all)
    }

    /// Lets the device outlive its queues, or go with them. Whoever made it may have it kept: a persistent device whose
    /// owner crashed stays in its namespace, with addresses and routes, without carrier.
    ///
    /// # Errors
    /// Where the interface is gone.
    pub fn set_persistent(&self, persistent: bool) -> Result<(), TapError> {
        let [first, ..] = self.queues.as_slice() else { return Err(TapError::BadQueues(0)) };
        first.set_persistent(persistent).map_err(|source| system("keep", &self.name, source))
    }

    /// Takes over a device with one queue; see [`Self::adopt_all`].
    ///
    /// # Errors
    /// As there.
    pub fn adopt(fd: OwnedFd) -> Result<Self, TapError> {
        Self::adopt_all([fd])
    }

    /// Takes over the queues of a device that somebody else opened, for instance received over a socket.
    ///
    /// They keep alive the namespace in which /dev/net/tun was opened for them. `IFF_NO_PI` is taken on trust: where the
    /// kernel would tell it, it tells `IFF_NOFILTER`, the same bit.
    ///
    /// # Errors
    /// No descriptor, what is not a TAP device attached with `IFF_NO_PI | IFF_VNET_HDR`, and queues of several devices.
    pub fn adopt_all(fds: impl IntoIterator<Item = OwnedFd>) -> Result<Self, TapError> {
        let (name, queues) = TapQueue::adopt_all(fds)?;
        Self::set_up(name, queues)
    }

    /// As [`Self::adopt_all`], where it is known what the kernel granted: nothing is asked again, for whoever owns the
    /// interface may have switched some of it off since.
    ///
    /// # Errors
    /// As there.
    pub fn adopt_granted(fds: impl IntoIterator<Item = OwnedFd>, offloads: Offloads) -> Result<Self, TapError> {
        let (name, queues) = TapQueue::adopt_all(fds)?;
        Ok(Self { name, offloads, queues })
    }

    /// Fixes header size and byte order and asks for offloads; all three belong to the device, not the queue.
    fn set_up(name: String, queues: Vec<TapQueue>) -> Result<Self, TapError> {
        let Some(first) = queues.first() else { return Err(TapError::BadQueues(0)) };
        first.set_header(VNET_HDR_LEN).map_err(|source| system("set the virtio header of", &name, source))?;
        Self::negotiate(name, queues)
    }

    /// Asks for offloads.
    fn negotiate(name: String, queues: Vec<TapQueue>) -> Result<Self, TapError> {
        let Some(first) = queues.first() else { return Err(TapError::BadQueues(0)) };
        let offloads = Offloads::negotiate(|bits| first.set_offload(bits).is_ok());
        Ok(Self { name, offloads, queues })
    }

    /// The interface's name when it was opened or adopted; its namespace may have renamed it since.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel granted.
    #[must_use]
    pub const fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// The queues, one for each worker.
    #[must_use]
    pub fn queues(&self) -> &[TapQueue] {
        &self.queues
    }

    /// The queues to be handed out. The device lives in them.
    #[must_use]
    pub fn into_queues(self) -> Vec<TapQueue> {
        self.queues
    }
}

/// An error of the kernel's about a device.
pub(crate) fn system(operation: &'static str, name: &str, source: io::Error) -> TapError {
    TapError::System { operation, name: name.to_owned(), source }
}

/// Refuses what the kernel would refuse or number.
fn check_name(name: &str) -> Result<(), TapError> {
    let odd = |byte: u8| matches!(byte, 0 | 0x0b | b'/' | b':' | b'%') || byte.is_ascii_whitespace();
    let usable = (1..=NAME_MAX).contains(&name.len()) && name != "." && name != ".." && !name.bytes().any(odd);
    if usable { Ok(()) } else { Err(TapError::BadName(name.to_owned())) }
}

/// Makes a device with `queues` queues where the calling thread is; returns the name it got, which the kernel numbers
/// where `name` has a `%d`.
pub(crate) fn attach_all(name: &str, queues: u16) -> Result<(String, Vec<TapQueue>), TapError> {
    if !(1..=QUEUES_MAX).contains(&queues) {
        return Err(TapError::BadQueues(queues));
    }
    let (first, name) = attach(name, queues > 1, true)?;
    let mut all = vec![first];
    for _ in 1..queues {
        all.push(attach(&name, true, false)?.0);
    }
    Ok((name, all))
}

/// Attaches `queues` queues to device `name` where the calling thread is.
fn attach_again(name: &str, queues: u16) -> Result<Vec<TapQueue>, TapError> {
    let one = |multi_queue| attach(name, multi_queue, false).map(|(queue, _)| queue);
    match one(queues > 1) {
        // One queue where many are meant, or many possible where one is.
        Err(TapError::System { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => match queues {
            1 => Ok(vec![one(true)?]),
            _ => Err(TapError::OneQueue(name.to_owned(), queues)),
        },
        first => std::iter::once(first).chain((1..queues).map(|_| one(true))).collect(),
    }
}

/// Opens one queue: of a new device, or of the one that an earlier call has made; with the device's name.
fn attach(name: &str, multi_queue: bool, new: bool) -> Result<(TapQueue, String), TapError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(TapError::NoDevice)?;
    // Without IFF_TUN_EXCL the kernel would let us in as one more queue of somebody's device.
    let flags = KIND | if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 } | if new { libc::IFF_TUN_EXCL } else { 0 };
    #[allow(clippy::cast_possible_truncation, reason = "the kernel's 16 flag bits; IFF_TUN_EXCL is the sign bit")]
    let flags = flags as libc::c_short;
    // SAFETY: an ifreq is integers and bytes; all zero is one.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (room, byte) in request.ifr_name[..NAME_MAX].iter_mut().zip(name.bytes()) {
        *room = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: the file is /dev/net/tun, for which TUNSETIFF reads and writes one ifreq; `request` is one, and its name
    // ends in a zero, being at most NAME_MAX bytes in a zeroed array.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) }).map_err(
        |source| match source.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => TapError::NameTaken(name.to_owned()),
            _ => system("create", name, source),
        },
    )?;
    // Filled in by the kernel, with its number where there was a `%d`.
    let name = name_of(&request).map_err(|source| system("inspect", name, source))?;
    Ok((TapQueue(file), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "eth0", "tap-0.1_x", "fifteen-bytes-x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "sixteen-bytes-xy", "a/b", "a:1", "a b", "tap%d", ".", "..", "a\0b", "a\tb"] {
            let error = check_name(bad).unwrap_err();
            assert!(error.to_string().contains("1 to 15 bytes"), "{error}");
        }
    }
}
