//! GC: every attachment of the network that the runtime does not list goes.

use super::{Call, attachments, release, tidy};
use crate::daemon::{Daemon, PATIENCE};
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
    // Ports are what remembers which addresses are to be given back: they stay where nobody can be told.
    let unknown = !failures.is_empty();
    for attachment in attachments(&mut daemon, &name)? {
        if valid.iter().any(|valid| valid.is(&attachment.container, &attachment.ifname)) {
            continue;
        }
        if unknown && attachment.delegated {
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
    failures.extend(tidy(call, &mut daemon, &name).err());
    match Failure::joined(failures) {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}
