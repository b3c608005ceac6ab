//! TAP devices with virtio-net headers: the ports of the switch.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use crate::netlink::{Netlink, NetlinkError};
use crate::netns::{Netns, NetnsError};
use crate::syscall::check;
use crate::vnet::VNET_HDR_LEN;

/// Most bytes of an interface name; the kernel's 16 include the end mark.
const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// Most queues of one device (`MAX_TAP_QUEUES` in the kernel).
const QUEUES_MAX: u16 = 256;

/// Most pieces of one write (`UIO_MAXIOV` in the kernel).
pub const PIECES_MAX: usize = 1024;

/// What every device of ours is: Ethernet, no packet information, virtio-net headers.
const KIND: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Device number of `/dev/net/tun`: misc, 200 (Documentation/admin-guide/devices.txt).
const TUN_DEVICE: u64 = libc::makedev(10, 200);

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

/// What the kernel may leave to us on frames it sends to the TAP, as it granted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums left to be completed.
    pub checksum: bool,
    /// TCP super-frames over IPv4.
    pub tso4: bool,
    /// TCP super-frames over IPv6.
    pub tso6: bool,
    /// TCP super-frames whose first segment carries CWR.
    pub tso_ecn: bool,
    /// UDP super-frames over both IPs (Linux 6.2).
    pub uso: bool,
}

impl Offloads {
    /// What to ask for, most first. The kernel takes all of a request or refuses all of it.
    pub(crate) const STEPS: [Self; 4] = [
        Self { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true },
        Self { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: false },
        Self { checksum: true, tso4: false, tso6: false, tso_ecn: false, uso: false },
        Self { checksum: false, tso4: false, tso6: false, tso_ecn: false, uso: false },
    ];

    /// The first step that `ask` grants. The last, nothing at all, needs no grant: it is how a device starts.
    fn negotiate(mut ask: impl FnMut(libc::c_uint) -> bool) -> Self {
        Self::STEPS.into_iter().find(|step| ask(step.bits())).unwrap_or_default()
    }

    /// As `TUNSETOFFLOAD` wants it.
    pub(crate) fn bits(self) -> libc::c_uint {
        [
            (self.checksum, libc::TUN_F_CSUM),
            (self.tso4, libc::TUN_F_TSO4),
            (self.tso6, libc::TUN_F_TSO6),
            (self.tso_ecn, libc::TUN_F_TSO_ECN),
            (self.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6),
        ]
        .into_iter()
        .filter_map(|(on, bit)| on.then_some(bit))
        .fold(0, |bits, bit| bits | bit)
    }
}

/// A TAP device: it lasts until its last queue is closed.
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
        Self::set_up(name.to_owned(), all)
    }

    /// Takes over a queue that somebody else opened, for instance received over a socket.
    ///
    /// It keeps alive the namespace in which /dev/net/tun was opened for it. `IFF_NO_PI` is taken on trust: where the
    /// kernel would tell it, it tells `IFF_NOFILTER`, the same bit.
    ///
    /// # Errors
    /// What is not a TAP device attached with `IFF_NO_PI | IFF_VNET_HDR`.
    pub fn adopt(fd: OwnedFd) -> Result<Self, TapError> {
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|source| system("inspect", "(unnamed)", source))?;
        // An ioctl means one thing per driver: never send ours to another's.
        if !metadata.file_type().is_char_device() || metadata.rdev() != TUN_DEVICE {
            return Err(TapError::NotTap("not /dev/net/tun"));
        }
        let queue = TapQueue(file);
        let (name, flags) = queue.attached().map_err(|_| TapError::NotTap("not attached to a device"))?;
        for (flag, what) in [(libc::IFF_TAP, "IFF_TAP (it is a TUN device)"), (libc::IFF_VNET_HDR, "IFF_VNET_HDR")] {
            if flags & flag == 0 {
                return Err(TapError::WrongKind(name, what));
            }
        }
        queue.set_nonblocking().map_err(|source| system("make non-blocking", &name, source))?;
        Self::set_up(name, vec![queue])
    }

    /// Fixes header size and byte order and asks for offloads; all three belong to the device, not the queue.
    fn set_up(name: String, queues: Vec<TapQueue>) -> Result<Self, TapError> {
        let Some(first) = queues.first() else { return Err(TapError::BadQueues(0)) };
        first.set_header(VNET_HDR_LEN).map_err(|source| system("set the virtio header of", &name, source))?;
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

/// One queue of a TAP device. Every frame, both ways, stands behind [`VNET_HDR_LEN`] bytes of header.
///
/// Never blocks: nothing to read, or no room, is [`io::ErrorKind::WouldBlock`]. EIO on a write means the interface is
/// down, EBADFD on either that it is gone with its namespace.
#[derive(Debug)]
pub struct TapQueue(File);

impl TapQueue {
    /// Reads one frame. What does not fit into `buf` is lost.
    ///
    /// # Errors
    /// As above.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buf)
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// As above; EINVAL where the header contradicts the frame.
    pub fn write(&self, frame: &[u8]) -> io::Result<usize> {
        (&self.0).write(frame)
    }

    /// Writes one frame that lies in pieces, at most [`PIECES_MAX`] of them.
    ///
    /// # Errors
    /// As [`Self::write`]; EINVAL for more pieces.
    pub fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // The standard library would write the first 1024: part of a frame, as if it were whole.
        if pieces.len() > PIECES_MAX {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        (&self.0).write_vectored(pieces)
    }

    /// The name the interface has now.
    ///
    /// # Errors
    /// Where the interface is gone.
    pub fn interface(&self) -> io::Result<String> {
        Ok(self.attached()?.0)
    }

    /// The namespace the interface is in now.
    ///
    /// # Errors
    /// Where the interface is gone, or without `CAP_NET_ADMIN` over the namespace.
    pub fn netns(&self) -> Result<Netns, TapError> {
        // SAFETY: TUNGETDEVNETNS takes no argument and writes no memory; the file is /dev/net/tun, checked or opened by
        // us, so the number means this.
        let fd = check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETDEVNETNS) })
            .map_err(|source| system("find the namespace of", "(gone)", source))?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
        Ok(Netns::from_kernel(unsafe { OwnedFd::from_raw_fd(fd) })?)
    }

    /// Name and flags of the device.
    fn attached(&self) -> io::Result<(String, libc::c_int)> {
        // SAFETY: an ifreq is integers and bytes; all zero is one.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        // SAFETY: the file is /dev/net/tun, for which TUNGETIFF writes one ifreq; `request` is one and outlives the call.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
        let name = request.ifr_name.map(libc::c_char::cast_unsigned);
        let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?.to_string_lossy().into_owned();
        // SAFETY: TUNGETIFF leaves the flags in the union; they are an integer, and any bits are one.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        Ok((name, libc::c_int::from(flags.cast_unsigned())))
    }

    /// Fixes size and byte order of the header before every frame.
    pub(crate) fn set_header(&self, len: usize) -> io::Result<()> {
        self.set_int(libc::TUNSETVNETHDRSZ, libc::c_int::try_from(len).unwrap_or(libc::c_int::MAX))?;
        self.set_int(libc::TUNSETVNETLE, 1)
    }

    /// Calls one of the ioctls that read an integer through a pointer.
    fn set_int(&self, operation: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
        // SAFETY: private, called with TUNSETVNETHDRSZ and TUNSETVNETLE only, which read one int through the pointer;
        // `value` lives through the call.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), operation, &raw const value) })?;
        Ok(())
    }

    /// Asks the kernel to leave the work in `bits` to us.
    pub(crate) fn set_offload(&self, bits: libc::c_uint) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes the bits as its argument, not through a pointer, and writes no memory.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(bits)) })?;
        Ok(())
    }

    /// Sets O_NONBLOCK, which is a property of the open file: whoever shares it sees it too.
    fn set_nonblocking(&self) -> io::Result<()> {
        // SAFETY: F_GETFL takes no argument and touches no memory.
        let flags = check(unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETFL) })?;
        // SAFETY: F_SETFL takes an integer and touches no memory.
        check(unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
        Ok(())
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for TapQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<TapQueue> for OwnedFd {
    fn from(queue: TapQueue) -> Self {
        queue.0.into()
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
    let first = attach(name, queues > 1, true)?;
    let (name, _) = first.attached().map_err(|source| system("inspect", name, source))?;
    let mut all = vec![first];
    for _ in 1..queues {
        all.push(attach(&name, true, false)?);
    }
    Ok((name, all))
}

/// Opens one queue: of a new device, or of the one that an earlier call has made.
fn attach(name: &str, multi_queue: bool, new: bool) -> Result<TapQueue, TapError> {
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
    Ok(TapQueue(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_are_asked_for_in_steps() {
        let uso = libc::TUN_F_USO4 | libc::TUN_F_USO6;
        let tso = libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        type Kernel = fn(libc::c_uint) -> bool;
        let table: [(&str, Kernel, libc::c_uint); 4] = [
            ("6.2 and later", |_| true, 0x6f),
            ("before 6.2", |bits| bits & 0x60 == 0, 0x0f),
            ("checksums only", |bits| bits & !0x01 == 0, 0x01),
            ("nothing", |_| false, 0),
        ];
        assert_eq!((uso, tso), (0x60, 0x06));
        for (kernel, grants, bits) in table {
            assert_eq!(Offloads::negotiate(grants).bits(), bits, "{kernel}");
        }
    }

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
