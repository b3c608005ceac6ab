//! Descriptors that a service manager starts a process with (sd_listen_fds(3)).

use std::env;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::syscall::check;

/// The first of them.
pub(crate) const START: RawFd = 3;

/// Takes the descriptors that the service manager handed to this process, each with its name; none where it did not. They
/// are close-on-exec from here on, and given once.
#[must_use]
pub fn inherited() -> Vec<(String, OwnedFd)> {
    let said = |name| env::var(name).ok();
    let is_us = said("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let count: RawFd = said("LISTEN_FDS").filter(|_| is_us).and_then(|count| count.parse().ok()).unwrap_or(0);
    let names = said("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    (START..START.saturating_add(count)).zip(names).filter_map(|(fd, name)| Some((name, take(fd)?))).collect()
}

/// Makes descriptor `fd` ours, if this process was started with it and nobody took it yet.
fn take(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD takes no argument and touches no memory; a number that is not open answers EBADF.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).ok()?;
    // What this process has opened is close-on-exec, as all that the standard library and this crate open; what survived
    // exec(2) is not.
    if flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: F_SETFD takes an integer and touches no memory.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: the descriptor is open, was inherited, and is named as ours by who started us. Nobody else in this process
    // owns it: it was not opened here, and the flag just set keeps a second call from taking it again.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
