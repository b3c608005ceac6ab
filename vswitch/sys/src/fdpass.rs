//! Descriptors and credentials over Unix sockets (unix(7)).

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::syscall::{check, count, get_option, uninterrupted};

/// Most descriptors in one message (`SCM_MAX_FD` in the kernel).
pub const FDS_MAX: usize = 253;

/// Room for a control message with [`FDS_MAX`] descriptors, aligned as its header must be.
#[repr(C)]
union Control {
    bytes: [u8; CONTROL_LEN],
    _align: libc::cmsghdr,
}

/// `CMSG_SPACE(FDS_MAX * 4)`.
const CONTROL_LEN: usize = {
    #[allow(clippy::cast_possible_truncation, reason = "1012")]
    let payload = (FDS_MAX * size_of::<RawFd>()) as libc::c_uint;
    // SAFETY: CMSG_SPACE only computes.
    unsafe { libc::CMSG_SPACE(payload) as usize }
};

/// Who is at the other end of a socket, as the kernel noted it when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Process; `None` where it is not visible from our PID namespace.
    pub pid: Option<u32>,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Asks who is at the other end.
///
/// # Errors
/// Where the socket is not connected.
pub fn peer_credentials(stream: &impl AsFd) -> io::Result<Credentials> {
    let ucred: libc::ucred = get_option(stream, libc::SOL_SOCKET, libc::SO_PEERCRED)?;
    let pid = u32::try_from(ucred.pid).ok().filter(|&pid| pid != 0);
    Ok(Credentials { pid, uid: ucred.uid, gid: ucred.gid })
}

/// The supplementary groups of who is at the other end, as the kernel noted them when the connection was made. None
/// where the kernel does not tell (before Linux 4.13).
///
/// # Errors
/// Where the socket is not connected.
pub fn peer_groups(stream: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = Vec::<libc::gid_t>::new();
    // The kernel answers with the room it wants; who has none has no groups. Noted once, they do not change.
    loop {
        let mut len = libc::socklen_t::try_from(size_of_val(&groups[..])).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open for the borrow; the kernel writes at most `len` bytes, the size of `groups`, and
        // only whole integers, and the length it wants to `len`.
        let outcome = check(unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        });
        let wanted = usize::try_from(len).map_err(io::Error::other)? / size_of::<libc::gid_t>();
        match outcome {
            Ok(_) => {
                groups.truncate(wanted);
                return Ok(groups);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && wanted > groups.len() => {
                groups.resize(wanted, 0);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
}

/// Sends `bytes` with copies of `fds` over a Unix socket; returns how many of the bytes went. The descriptors go with the first of them.
///
/// # Errors
/// No bytes, more than [`FDS_MAX`] descriptors, and what the socket answers.
pub fn send(stream: &impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if bytes.is_empty() || fds.len() > FDS_MAX {
        let message = format!("{} bytes with {} descriptors; 1 or more with 0 to {FDS_MAX}", bytes.len(), fds.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut control = Control { bytes: [0; CONTROL_LEN] };
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr is integers and pointers; all zero is one.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut iov, 1);
    if !fds.is_empty() {
        let payload = libc::c_uint::try_from(size_of_val(fds)).map_err(io::Error::other)?;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: CMSG_SPACE only computes.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(payload) as usize };
        // SAFETY: msg_controllen is at least one header, so CMSG_FIRSTHDR is the start of `control`: aligned for a
        // header by the union, and with room for FDS_MAX descriptors behind it, of which there are at most that many.
        // A BorrowedFd is a transparent RawFd, so the copy takes `payload` bytes from a slice that has them.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
            ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), size_of_val(fds));
        }
    }
    uninterrupted(|| {
        // SAFETY: `message` points to `iov`, and that to `bytes`, and to `control`, all alive and initialised; the kernel
        // reads them only.
        count(unsafe { libc::sendmsg(stream.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
    })
}

/// Receives bytes and the descriptors that came with them, close-on-exec. No bytes: the other side has closed.
///
/// # Errors
/// What the socket answers, and a message whose descriptors we could not all take in (too many open files); those that
/// came are closed then.
pub fn recv(stream: &impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = MaybeUninit::<Control>::uninit();
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr is integers and pointers; all zero is one.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut iov, 1);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN;
    let received = uninterrupted(|| {
        // SAFETY: `message` points to `iov`, that to `bytes` we hold exclusively, and to `control` of CONTROL_LEN bytes;
        // the kernel writes no more than the lengths beside them. An interrupted call has changed none of them.
        count(unsafe { libc::recvmsg(stream.as_fd().as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) })
    })?;
    // SAFETY: the kernel has written msg_controllen bytes of well-formed control messages to `control`, which is still
    // where msg_control points.
    let fds = unsafe { take_fds(&message) };
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::other("descriptors were lost on the way: too many, or too many files are open here"));
    }
    Ok((received, fds))
}

/// Makes the descriptors in `message` ours.
///
/// # Safety
/// The control part of `message` is as recvmsg left it, and nobody has taken the descriptors yet.
unsafe fn take_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the caller vouches for the control part, so the CMSG_ walk stays inside it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so the walk found a whole header at it.
        let (level, kind, len) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: CMSG_LEN only computes.
            let payload = len.saturating_sub(unsafe { libc::CMSG_LEN(0) as usize });
            for index in 0..payload / size_of::<RawFd>() {
                // SAFETY: `index` is within the message's payload; descriptors stand there unaligned as far as Rust
                // knows. Each is a fresh one that only this message names, as the caller vouches.
                fds.push(unsafe {
                    OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().add(index).read_unaligned())
                });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    fds
}
