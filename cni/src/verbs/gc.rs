//! GC: every attachment of the network that the runtime does not list goes.

use super::{Call, attachments, release};
use crate::daemon::{Daemon, PATIENCE};
use crate::gateway;
use crate::protocol::{Command, Failure};

/// Removes what it can, and reports what it could not.
pub(super) fn gc(call: &Call<'_>) -> Result<(), Failure> {
    let name = call.config.name()?;
    let valid = call.config.valid_attachments()?;
    let mut daemon = Daemon::connect(call.config, PATIENCE)?;
    let mut failures = Vec::new();
    let delegate = call.delegate().unwrap_or_else(|failure| {
        failures.push(failure);
        None
    });
    // Before ports go: they are what remembers which addresses of an older IPAM plugin are to be given back.
    for attachment in attachments(&mut daemon, &name)? {
        if valid.iter().any(|valid| valid.is(&attachment.container, &attachment.ifname)) {
            continue;
        }
        failures.extend(release(&mut daemon, delegate.as_ref(), &attachment).err());
    }
    if let Some(delegate) = delegate {
        match delegate.is_recent() {
            // It may know of more than we do.
            Ok(true) => failures.extend(delegate.forward(Command::Gc).err()),
            Ok(false) => {}
            Err(failure) => failures.push(failure),
        }
    }
    failures.extend(gateway::remove_unused(&mut daemon, &name).err().map(Failure::from));
    match Failure::joined(failures) {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}
