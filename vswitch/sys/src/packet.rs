//! Packet sockets: frames as an interface sends and receives them, for captures and for frames of one's own making.

use std::ffi::CString;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::syscall::{check, count, set_option, uninterrupted, wait_readable};

/// Both addresses; a tag stands behind them.
const MACS: usize = 12;
/// Bytes of an 802.1Q tag.
const TAG_LEN: usize = 4;

/// Why a packet socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// No such interface.
    #[error("there is no interface {0:?} in this network namespace")]
    NoInterface(String),
    /// The kernel refused.
    #[error("cannot {operation} a packet socket on {interface}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// A socket that sees every frame of one interface, sent and received, but for its own.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    interface: String,
    index: libc::c_int,
}

impl PacketSocket {
    /// Opens a socket on an interface of the calling thread's namespace.
    ///
    /// # Errors
    /// No such interface, or no `CAP_NET_RAW`.
    pub fn open(interface: &str) -> Result<Self, PacketError> {
        let failed =
            |operation| move |source| PacketError::System { operation, interface: interface.to_owned(), source };
        let index = index_of(interface).ok_or_else(|| PacketError::NoInterface(interface.to_owned()))?;
        // Protocol 0 receives nothing until bind names protocol and interface: no frame of another gets in between.
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket takes integers and touches no memory.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) }).map_err(failed("open"))?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Tags that the kernel has taken off a frame arrive beside it.
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1).map_err(failed("set options of"))?;
        let this = Self { fd, interface: interface.to_owned(), index };
        let address = this.address();
        // SAFETY: `address` is a sockaddr_ll of the length given, alive through the call.
        check(unsafe {
            libc::bind(this.fd.as_raw_fd(), (&raw const address).cast(), crate::syscall::socklen::<libc::sockaddr_ll>())
        })
        .map_err(failed("bind"))?;
        Ok(this)
    }

    /// Lets the interface receive what is not addressed to it, for as long as the socket lives.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn promiscuous(&self) -> Result<(), PacketError> {
        #[allow(clippy::cast_possible_truncation, reason = "1")]
        let mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
        let request = libc::packet_mreq { mr_ifindex: self.index, mr_type, mr_alen: 0, mr_address: [0; 8] };
        set_option(&self.fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, request)
            .map_err(|source| self.failed("make promiscuous", source))
    }

    /// Stops showing frames that the interface sends.
    ///
    /// # Errors
    /// Before Linux 4.20.
    pub fn ignore_outgoing(&self) -> Result<(), PacketError> {
        set_option(&self.fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)
            .map_err(|source| self.failed("ignore outgoing frames on", source))
    }

    /// Puts a virtio-net header ([`crate::VnetHdr`]) before every frame, both ways: super-frames and partial checksums.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn virtio_headers(&self) -> Result<(), PacketError> {
        set_option(&self.fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)
            .map_err(|source| self.failed("turn on virtio headers of", source))
    }

    /// Sends one frame, from the destination address on.
    ///
    /// # Errors
    /// EMSGSIZE above the interface's MTU, ENETDOWN where it is down, ENOBUFS where a queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        uninterrupted(|| {
            // SAFETY: the kernel reads frame.len() bytes of `frame`, which is borrowed through the call.
            count(unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_NOSIGNAL) })
        })?;
        Ok(())
    }

    /// Receives one frame, tag included, waiting up to `timeout`; `None` when time runs out.
    ///
    /// The returned length is that of the frame; what did not fit into `buf` is lost.
    ///
    /// # Errors
    /// ENETDOWN once when the interface goes down.
    pub fn recv(&self, buf: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            match self.try_recv(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome.map(Some),
            }
            let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            if !wait_readable(&self.fd, left)? {
                return Ok(None);
            }
        }
    }

    /// Receives one frame without waiting.
    fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut control = MaybeUninit::<Control>::uninit();
        let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        // SAFETY: a msghdr is integers and pointers; all zero is one.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut iov, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>();
        let len = uninterrupted(|| {
            // SAFETY: `message` points to `iov`, that to `buf`, held exclusively, and to `control`; the kernel writes no more
            // than the lengths beside them. An interrupted call has changed none of them.
            count(unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) })
        })?;
        // SAFETY: the kernel has written well-formed control messages to `control`, which msg_control points to.
        let Some(tag) = (unsafe { stripped_tag(&message) }) else { return Ok(len) };
        Ok(put_back(buf, len, tag))
    }

    /// The interface as a socket address, all protocols.
    fn address(&self) -> libc::sockaddr_ll {
        // SAFETY: a sockaddr_ll is integers and bytes; all zero is one.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        #[allow(clippy::cast_possible_truncation, reason = "17 and 3")]
        {
            address.sll_family = libc::AF_PACKET as libc::c_ushort;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        }
        address.sll_ifindex = self.index;
        address
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> PacketError {
        PacketError::System { operation, interface: self.interface.clone(), source }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The number of `interface` in the calling thread's namespace.
fn index_of(interface: &str) -> Option<libc::c_int> {
    let name = CString::new(interface).ok()?;
    // SAFETY: `name` ends in a zero and lives through the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // 0: there is none.
    libc::c_int::try_from(index).ok().filter(|&index| index != 0)
}

/// Room for one PACKET_AUXDATA message, aligned as its header must be.
#[repr(C)]
union Control {
    _bytes: [u8; CONTROL_LEN],
    _align: libc::cmsghdr,
}

#[allow(clippy::cast_possible_truncation, reason = "20")]
const CONTROL_LEN: usize =
    // SAFETY: CMSG_SPACE only computes.
    unsafe { libc::CMSG_SPACE(size_of::<libc::tpacket_auxdata>() as libc::c_uint) as usize };

/// The tag the kernel took off, EtherType first.
///
/// # Safety
/// The control part of `message` is as recvmsg left it.
unsafe fn stripped_tag(message: &libc::msghdr) -> Option<[u8; TAG_LEN]> {
    // SAFETY: the caller vouches for the control part, so the CMSG_ walk stays inside it; PACKET_AUXDATA carries one
    // tpacket_auxdata, of integers only, read unaligned.
    let auxdata = unsafe {
        let mut at = libc::CMSG_FIRSTHDR(message);
        loop {
            if at.is_null() {
                return None;
            }
            if ((*at).cmsg_level, (*at).cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                break libc::CMSG_DATA(at).cast::<libc::tpacket_auxdata>().read_unaligned();
            }
            at = libc::CMSG_NXTHDR(message, at);
        }
    };
    if auxdata.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let known = auxdata.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let [a, b] = if known { auxdata.tp_vlan_tpid.to_be_bytes() } else { [0x81, 0x00] };
    let [c, d] = auxdata.tp_vlan_tci.to_be_bytes();
    Some([a, b, c, d])
}

/// Puts `tag` behind the addresses of the frame of `len` bytes; returns the new length, bounded by the buffer's.
fn put_back(buf: &mut [u8], len: usize, tag: [u8; TAG_LEN]) -> usize {
    if len < MACS || buf.len() < MACS + TAG_LEN {
        return len;
    }
    let tagged = (len + TAG_LEN).min(buf.len());
    buf.copy_within(MACS..tagged - TAG_LEN, MACS + TAG_LEN);
    buf[MACS..MACS + TAG_LEN].copy_from_slice(&tag);
    tagged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_put_back() {
        let tag = [0x81, 0x00, 0x00, 0x0a];
        let mut buf = [0; 20];
        buf[..16].copy_from_slice(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0, 3, 4]);
        assert_eq!(put_back(&mut buf, 16, tag), 20);
        assert_eq!(buf, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x81, 0, 0, 10, 8, 0, 3, 4]);
        assert_eq!(put_back(&mut [0; 16], 14, tag), 16);
        assert_eq!(put_back(&mut [0; 14], 14, tag), 14);
        assert_eq!(put_back(&mut [0; 20], 11, tag), 11);
    }
}
