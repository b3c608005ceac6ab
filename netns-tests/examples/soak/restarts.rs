//! A daemon that is ended and started again, and who may blame it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use netns_tests::{Daemon, DaemonSpec, Lab, Node, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// How long after a restart a new try may still fail: neighbours are found again, TCP waits for its timer.
const GRACE: Duration = Duration::from_secs(5);

/// Restarts so far.
#[derive(Debug)]
pub(crate) struct Restarts {
    count: AtomicUsize,
    /// When the last one began and ended; `None` for the end while it is under way.
    last: Mutex<Option<(Instant, Option<Instant>)>>,
}

impl Restarts {
    pub(crate) const fn new() -> Self {
        Self { count: AtomicUsize::new(0), last: Mutex::new(None) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends the daemon of `node` by `signal` and starts it again on the same state.
    pub(crate) fn restart(&self, lab: &Lab, node: &Node, signal: Signal) -> Result<Daemon> {
        self.set(Some((Instant::now(), None)));
        let pid = Pid::from_raw(node.daemon.pid().try_into()?);
        kill(pid, signal)?;
        // Left to be waited for by whoever owns it: only then all of its threads are gone, and what they held.
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
        let daemon = Daemon::start(lab, &node.host, &DaemonSpec { vtep_ip: Some(node.ip), ..DaemonSpec::default() })?;
        let began = self.last().map_or_else(Instant::now, |(began, _)| began);
        self.set(Some((began, Some(Instant::now()))));
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(daemon)
    }

    /// Has another daemon take over from that of `node`, which excuses nothing.
    pub(crate) fn take_over(&self, lab: &Lab, node: &Node) -> Result<Daemon> {
        let spec = DaemonSpec { vtep_ip: Some(node.ip), ..DaemonSpec::default() };
        let next = node.daemon.successor(lab, &node.host, &spec)?;
        netns_tests::eventually(netns_tests::SOON, "the other daemon serves", || {
            netns_tests::ensure_eq!(next.vsctl().ok("status")?["pid"], next.pid(), "process that answers");
            Ok(())
        })?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(next)
    }

    /// Whether something that began at `began` and failed just now met a restart.
    pub(crate) fn excuse(&self, began: Instant) -> bool {
        match self.last() {
            None => false,
            Some((_, None)) => true,
            Some((_, Some(ended))) => ended + GRACE >= began,
        }
    }

    fn last(&self) -> Option<(Instant, Option<Instant>)> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, last: Option<(Instant, Option<Instant>)>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}
