//! The turns every system call takes: errno to `io::Error`, retry after a signal, socket options, waiting.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// What a call returned, or the error it left in errno.
pub(crate) fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// What a call that counts returned, or the error it left in errno.
pub(crate) fn count(returned: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// Calls again for as long as a signal interrupts.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// `size_of::<T>()` as the kernel wants lengths of small structures.
#[allow(clippy::cast_possible_truncation, reason = "asserted at compile time")]
pub(crate) const fn socklen<T>() -> libc::socklen_t {
    const { assert!(size_of::<T>() <= 0xffff) };
    size_of::<T>() as libc::socklen_t
}

/// Types whose every byte is data, so that the kernel may read and write them as plain memory.
///
/// # Safety
/// No padding, and every bit pattern is valid.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: an integer has no padding and no invalid pattern.
unsafe impl Plain for libc::c_int {}
// SAFETY: three 32-bit integers; size 12, so no padding.
unsafe impl Plain for libc::ucred {}
// SAFETY: an integer, two 16-bit integers and eight bytes; size 16, so no padding.
unsafe impl Plain for libc::packet_mreq {}
// SAFETY: an array of integers.
unsafe impl<const N: usize> Plain for [u32; N] {}

/// Sets a socket option.
pub(crate) fn set_option<T: Plain>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow; the kernel reads size_of::<T>() bytes of `value`, which lives
    // until the call returns and is all initialised, being Plain.
    check(unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), socklen::<T>())
    })?;
    Ok(())
}

/// Reads a socket option.
pub(crate) fn get_option<T: Plain>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    // SAFETY: all zero is a value of T, being Plain.
    let mut value: T = unsafe { mem::zeroed() };
    let mut len = socklen::<T>();
    // SAFETY: the descriptor is open for the borrow; the kernel writes at most `len` bytes, which is the size of
    // `value`, and any bytes make a T, being Plain.
    check(unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) })?;
    Ok(value)
}

/// Waits until `fd` can be read, or has failed, for at most `timeout`. False when time ran out.
///
/// # Errors
/// What poll(2) answers; an interruption is not one.
pub fn wait_readable(fd: &impl AsFd, timeout: Duration) -> io::Result<bool> {
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Rounded up: a wait cut to zero would spin through the last millisecond.
        let millis = left.map_or(-1, |left| i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, as the count says, which lives through the call.
        match check(unsafe { libc::poll(&raw mut poll, 1, millis) }) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) => {}
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
