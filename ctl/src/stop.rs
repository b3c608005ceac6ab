//! Ctrl-C and the like, which end what lasts and leave it whole; and readers who have gone.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What ends a program that shows what comes.
pub(crate) struct Stop(SignalFd);

/// Why the wait is over.
pub(crate) struct Woken {
    pub(crate) is_readable: bool,
    /// Somebody wants it to end.
    pub(crate) is_stopped: bool,
    /// Nobody reads the output any more.
    pub(crate) is_unread: bool,
}

impl Stop {
    /// To be called before the first thread starts that shall not be interrupted.
    pub(crate) fn watch() -> io::Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Takes the signal: the next one is another.
    pub(crate) fn forget(&self) -> io::Result<()> {
        Ok(self.0.read_signal().map(drop)?)
    }

    /// Waits until `stream`, where there is one, is readable, somebody wants it to end, nobody reads the output any more,
    /// or `deadline`.
    pub(crate) fn wait(&self, stream: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> io::Result<Woken> {
        let out = io::stdout();
        let interest = if stream.is_some() { PollFlags::POLLIN } else { PollFlags::empty() };
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = match left {
                // Whole milliseconds, rounded up: rounded down, the last one would spin.
                Some(left) => PollTimeout::from(u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX)),
                None => PollTimeout::NONE,
            };
            let mut fds = [
                PollFd::new(stream.unwrap_or(out.as_fd()), interest),
                PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
                PollFd::new(out.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [is_readable, is_stopped, is_unread] = fds.map(|fd| fd.any().unwrap_or(false));
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_readable || is_stopped || is_unread || is_late {
                return Ok(Woken { is_readable, is_stopped, is_unread });
            }
        }
    }
}
