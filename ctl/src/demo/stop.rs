//! Waiting that Ctrl-C and SIGTERM end at once, so that everything can be removed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::DemoError;

/// Becomes readable when somebody wants the demo to end.
#[derive(Debug)]
pub(super) struct Stop(SignalFd);

impl Stop {
    /// Takes SIGINT, SIGTERM and SIGHUP. To be called before the first thread starts: threads inherit who takes them.
    pub(super) fn watch() -> io::Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Waits for `time`.
    pub(super) fn pause(&self, time: Duration) -> Result<(), DemoError> {
        self.wait(None, Instant::now() + time).map(|_| ())
    }

    /// Waits until `fd` is readable, but no longer than until `deadline`; says whether it is.
    pub(super) fn readable(&self, fd: BorrowedFd<'_>, deadline: Instant) -> Result<bool, DemoError> {
        self.wait(Some(fd), deadline)
    }

    fn wait(&self, fd: Option<BorrowedFd<'_>>, deadline: Instant) -> Result<bool, DemoError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Whole milliseconds, rounded up: rounded down, the last one would spin.
            let millis = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
            let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            fds.extend(fd.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::from(millis)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(DemoError::Wait(errno.into())),
            }
            let ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
            if ready(0) {
                return Err(DemoError::Interrupted);
            }
            if ready(1) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_waited_for_ends_the_wait() {
        let stop = Stop::watch().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        assert!(!stop.readable(theirs.as_fd(), Instant::now()).unwrap());
        ours.write_all(b"x").unwrap();
        assert!(stop.readable(theirs.as_fd(), Instant::now() + Duration::from_secs(60)).unwrap());
        stop.pause(Duration::from_millis(1)).unwrap();

        // To this thread alone: others of this process do not block it.
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert!(matches!(stop.pause(Duration::from_secs(60)), Err(DemoError::Interrupted)));
    }
}
