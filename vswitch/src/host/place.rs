//! Where the interface behind a descriptor is now, whatever it was called when the descriptor was opened.

use std::io;

use nix::errno::Errno;
use vswitch_sys::{Netns, Tap, TapError, TapQueue};

use super::HostError;

/// The namespace and the name that the interface behind `queue` has now; `None` where it is gone.
pub(crate) fn place(queue: &TapQueue) -> Result<Option<(Netns, String)>, TapError> {
    match queue.netns() {
        Ok(netns) => Ok(queue.interface().ok().map(|ifname| (netns, ifname))),
        Err(TapError::System { source, .. }) if is_gone(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    // EINVAL: nobody holds the namespace any more, and the kernel is about to take it down with the interface.
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EBADFD | Errno::EINVAL))
}

/// The namespace of the interface behind `tap`, told from others; `None` where that cannot be told.
pub(crate) fn tap_netns(tap: &Tap) -> Option<(u64, u64)> {
    let (netns, _) = place(tap.queues().first()?).ok().flatten()?;
    netns.identity().ok()
}

/// The namespace that the descriptors of `tap` keep alive, where they do and we may ask.
pub(crate) fn pinned(tap: &Tap) -> Result<Option<(u64, u64)>, HostError> {
    let Some(queue) = tap.queues().first() else { return Ok(None) };
    match queue.pins_netns() {
        Ok(true) => Ok(Some(queue.netns()?.identity()?)),
        Err(TapError::System { source, .. }) if source.kind() != io::ErrorKind::PermissionDenied => {
            Err(TapError::System { operation: "inspect", name: tap.name().to_owned(), source }.into())
        }
        _ => Ok(None),
    }
}
