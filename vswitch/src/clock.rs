//! The one clock of all workers: the kernel's, so that moments mean the same in the daemon before this one and after it.

use nix::time::{ClockId, clock_gettime};
use vswitch_core::Instant;

/// The moment on `CLOCK_MONOTONIC`, which is one for all processes and never goes back. It stands still while the machine
/// is suspended: nobody sends then.
pub(crate) fn now() -> Instant {
    // It cannot fail: every kernel has this clock.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    Instant::default() + now
}
