//! What ADD does before it asks an IPAM plugin: addresses of containers that went without DEL are given back.
//!
//! Whoever attaches holds a lock that it shares, from its look at what is there until its port is up; whoever gives back
//! holds it alone, and looks again. So nobody gives back what another has got meanwhile under the same name.

use std::fs::File;
use std::time::{Duration, Instant};

use vswitch_api::{AttachmentInfo, PortState};
use vswitch_sys::{Netlink, Netns};

use super::{attachments, release};
use crate::daemon::Daemon;
use crate::ipam::Delegate;
use crate::lock::{self, Kind, LockError};
use crate::names;
use crate::network::Network;
use crate::protocol::{Attachment, Code, Failure};

/// How long others may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long those that attach may keep us from addresses that somebody else can give back as well.
const BRIEFLY: Duration = Duration::from_millis(500);

/// How long all addresses, and one of them, may take.
const BUDGET: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Gives back the addresses of containers that are gone, and refuses an attachment that is there: its addresses would be
/// asked for twice, and given back when the second attempt fails. The file is to be held until the port is up.
///
/// # Errors
/// Where the attachment is there, or cannot be freed. What cannot be given back for others stays for the next.
pub(super) fn sweep(
    daemon: &mut Daemon,
    network: &Network,
    delegate: &Delegate<'_>,
    attachment: &Attachment,
) -> Result<File, Failure> {
    let path = daemon.path().with_file_name(names::sweep_file(network.name.as_str()));
    let held = lock::take(&path, Kind::Shared, PATIENCE)?;
    let there = attachments(daemon, &network.name)?;
    refuse_twice(&there, attachment)?;
    let own = there.iter().any(|there| is_same(there, attachment));
    if !own && !there.iter().any(is_dead) {
        return Ok(held);
    }
    drop(held);
    match lock::take(&path, Kind::Exclusive, if own { PATIENCE } else { BRIEFLY }) {
        Ok(_alone) => give_back(daemon, network, delegate, attachment)?,
        Err(LockError::Held { .. }) if !own => {}
        Err(error) => return Err(error.into()),
    }
    let held = lock::take(&path, Kind::Shared, PATIENCE)?;
    refuse_twice(&attachments(daemon, &network.name)?, attachment)?;
    Ok(held)
}

fn give_back(
    daemon: &mut Daemon,
    network: &Network,
    delegate: &Delegate<'_>,
    attachment: &Attachment,
) -> Result<(), Failure> {
    let end = Instant::now() + BUDGET.0;
    let delegate = delegate.within(BUDGET.1);
    for there in attachments(daemon, &network.name)? {
        if is_same(&there, attachment) && there.state == PortState::Lost {
            release(daemon, Some(&delegate), &there)?;
        } else if Instant::now() < end && is_dead(&there) {
            // One that fails stays as it is, for the next ADD, for its DEL or for GC.
            let _ = release(daemon, Some(&delegate), &there);
        }
    }
    Ok(())
}

fn is_same(there: &AttachmentInfo, Attachment { container, ifname, .. }: &Attachment) -> bool {
    there.container == *container && there.ifname == *ifname
}

fn refuse_twice(all: &[AttachmentInfo], attachment: &Attachment) -> Result<(), Failure> {
    let is_there = |there: &&AttachmentInfo| is_same(there, attachment) && there.state != PortState::Lost;
    let Some(there) = all.iter().find(is_there) else { return Ok(()) };
    let Attachment { container, ifname, .. } = attachment;
    let why = format!("interface {ifname} of container {container} is there already, as port {}", there.port);
    Err(Failure::new(Code::Refused, why))
}

/// Whether an attachment is lost and its container gone, as far as can be seen from here: no namespace under its name, or
/// another by now, without our interface.
fn is_dead(attachment: &AttachmentInfo) -> bool {
    use vswitch_sys::NetnsError::{NoProcess, NotFound, NotNamespace};
    if attachment.state != PortState::Lost {
        return false;
    }
    let netns = match Netns::open_path(&attachment.netns.path()) {
        Ok(netns) => netns,
        Err(error) => return matches!(error, NotFound(_) | NoProcess(_) | NotNamespace(_)),
    };
    // What the daemon makes bears the name of its port.
    let mark = format!(" port {}", attachment.port);
    let link = Netlink::open_in(&netns).and_then(|netlink| netlink.link(attachment.ifname.as_str()));
    link.is_ok_and(|link| !link.is_some_and(|link| link.alias.is_some_and(|alias| alias.ends_with(&mark))))
}
