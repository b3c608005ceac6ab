//! DEL: everything of the attachment goes, whatever of it is there.

use super::{Call, detach, tidy};
use crate::daemon::{Daemon, PATIENCE};
use crate::protocol::{Attachment, Failure};

/// Removes the port, then gives its addresses back: nobody else shall have them while it is there. A DHCP client says by
/// the interface that it needs them no more. Neither the namespace nor `prevResult` is needed.
///
/// Where vswitchd cannot be reached the answer is "try again": its state has the port, and the address with it. The
/// kubelet asks again, and whoever does not leaves a port whose namespace is gone, which vswitchd removes when it starts.
pub(super) fn del(call: &Call<'_>, attachment: &Attachment) -> Result<(), Failure> {
    let name = call.config.name()?;
    let delegate = call.delegate();
    let mut daemon = Daemon::connect(call.config, PATIENCE)?;
    let mut failures = Vec::new();
    let delegate = delegate.unwrap_or_else(|failure| {
        failures.push(failure);
        None
    });
    if let Some(delegate) = delegate.as_ref().filter(|delegate| delegate.needs_interface()) {
        failures.extend(delegate.del(None).err());
    }
    detach(&mut daemon, &name, attachment)?;
    if let Some(delegate) = delegate.as_ref().filter(|delegate| !delegate.needs_interface()) {
        failures.extend(delegate.del(None).err());
    }
    failures.extend(tidy(call, &mut daemon, &name).err());
    match Failure::joined(failures) {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}
