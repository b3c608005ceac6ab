//! DEL: everything of the attachment goes, whatever of it is there.

use super::{Call, detach};
use crate::daemon::{Daemon, PATIENCE};
use crate::gateway;
use crate::protocol::{Attachment, Failure};

/// Removes the port, then gives its addresses back: nobody else shall have them while it is there. Neither the namespace
/// nor `prevResult` is needed.
///
/// Where vswitchd cannot be reached the answer is "try again": its state has the port, and the address with it. The
/// kubelet asks again, and whoever does not leaves a port whose namespace is gone, which vswitchd removes when it starts.
pub(super) fn del(call: &Call<'_>, attachment: &Attachment) -> Result<(), Failure> {
    let name = call.config.name()?;
    let delegate = call.delegate();
    let mut daemon = Daemon::connect(call.config, PATIENCE)?;
    detach(&mut daemon, &name, attachment)?;
    let mut failures = Vec::new();
    match delegate {
        Ok(Some(delegate)) => failures.extend(delegate.del(None).err()),
        Ok(None) => {}
        Err(failure) => failures.push(failure),
    }
    // Whatever this configuration says: the one that made the gateway may have been another.
    failures.extend(gateway::remove_unused(&mut daemon, &name).err().map(Failure::from));
    match Failure::joined(failures) {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}
