//! One queue of a TAP device: frames in and out, and what the kernel tells of its device.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::{TapError, system};
use crate::netns::Netns;
use crate::syscall::check;

/// Most pieces of one write (`UIO_MAXIOV` in the kernel).
pub const PIECES_MAX: usize = 1024;

/// Gives a descriptor of the namespace a socket, here a TAP's queue, was made in (`linux/sockios.h`).
const SIOCGSKNS: libc::Ioctl = 0x894c;

/// Device number of `/dev/net/tun`: misc, 200 (Documentation/admin-guide/devices.txt).
const TUN_DEVICE: u64 = libc::makedev(10, 200);

/// One queue of a TAP device. Every frame, both ways, stands behind [`VNET_HDR_LEN`] bytes of header.
///
/// Never blocks: nothing to read, or no room, is [`io::ErrorKind::WouldBlock`]. EIO on a write means the interface is
/// down, EBADFD on either that it is gone with its namespace.
#[derive(Debug)]
pub struct TapQueue(pub(super) File);

impl TapQueue {
    /// The queues of one device behind `fds`, and its name.
    pub(super) fn adopt_all(fds: impl IntoIterator<Item = OwnedFd>) -> Result<(String, Vec<Self>), TapError> {
        let (mut name, mut queues) = (None::<String>, Vec::new());
        for fd in fds {
            let (queue, attached) = Self::adopt(fd)?;
            match &name {
                Some(first) if *first != attached => return Err(TapError::Several(first.clone(), attached)),
                _ => name = Some(attached),
            }
            queues.push(queue);
        }
        Ok((name.ok_or(TapError::BadQueues(0))?, queues))
    }

    /// The queue behind `fd`, and the name of its device.
    fn adopt(fd: OwnedFd) -> Result<(Self, String), TapError> {
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|source| system("inspect", "(unnamed)", source))?;
        // An ioctl means one thing per driver: never send ours to another's.
        if !metadata.file_type().is_char_device() || metadata.rdev() != TUN_DEVICE {
            return Err(TapError::NotTap("not /dev/net/tun"));
        }
        let queue = Self(file);
        let (name, flags) = queue.attached().map_err(|_| TapError::NotTap("not attached to a device"))?;
        for (flag, what) in [(libc::IFF_TAP, "IFF_TAP (it is a TUN device)"), (libc::IFF_VNET_HDR, "IFF_VNET_HDR")] {
            if flags & flag == 0 {
                return Err(TapError::WrongKind(name, what));
            }
        }
        queue.set_nonblocking().map_err(|source| system("make non-blocking", &name, source))?;
        Ok((queue, name))
    }

    /// Another handle on the same queue: what one reads, the other does not.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

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

    /// Whether this descriptor keeps alive the namespace the interface is in: it was opened there.
    ///
    /// # Errors
    /// As [`Self::netns`].
    pub fn pins_netns(&self) -> Result<bool, TapError> {
        // SAFETY: on /dev/net/tun SIOCGSKNS takes no argument and writes no memory; the file is that, checked or opened
        // by us.
        let fd = check(unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCGSKNS) })
            .map_err(|source| system("find the namespace of the descriptor of", "(gone)", source))?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
        let opened_in = Netns::from_kernel(unsafe { OwnedFd::from_raw_fd(fd) })?;
        Ok(opened_in.identity()? == self.netns()?.identity()?)
    }

    /// As [`Tap::set_persistent`]: of the device, by any of its queues.
    ///
    /// # Errors
    /// Where the interface is gone.
    pub fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        // SAFETY: TUNSETPERSIST takes a truth value as its argument, not through a pointer, and writes no memory.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETPERSIST, libc::c_ulong::from(persistent)) })?;
        Ok(())
    }

    /// Name and flags of the device.
    pub(super) fn attached(&self) -> io::Result<(String, libc::c_int)> {
        // SAFETY: an ifreq is integers and bytes; all zero is one.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        // SAFETY: the file is /dev/net/tun, for which TUNGETIFF writes one ifreq; `request` is one and outlives the call.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
        let name = name_of(&request)?;
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

/// The name that the kernel wrote into `request`.
pub(super) fn name_of(request: &libc::ifreq) -> io::Result<String> {
    let name = request.ifr_name.map(libc::c_char::cast_unsigned);
    Ok(CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?.to_string_lossy().into_owned())
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
