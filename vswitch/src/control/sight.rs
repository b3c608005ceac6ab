//! What the daemon sees of containers by the names of their namespaces, and what one before it saw.
//!
//! A name that is gone tells of a container that is gone to a daemon that saw it, and to later ones that look into the same
//! folder: in another mount namespace a folder of that name may be there, and empty. No container outlives the host.

use vswitch_api::{Attachment, Desired, NetnsRef, Sight};

use super::{Brought, Control};
use crate::host::{self, Whereabouts};
use crate::network::PortSetup;

impl Control {
    /// Notes in `attachment` whether `reference` leads this daemon to the namespace of the port that `brought` came for.
    pub(super) fn look_at(&self, attachment: &mut Attachment, reference: &NetnsRef, brought: Option<&Brought>) {
        attachment.seen = match (host::whereabouts(reference), brought) {
            (Whereabouts::Namespace(seen), Some(brought)) => brought.netns() == Some(seen),
            (_, None) => true, // it is opened by that name
            (Whereabouts::Gone | Whereabouts::Unknown, Some(_)) => false,
        };
        let folder = if attachment.seen { host::folder_of(reference) } else { None };
        attachment.sight = Some(Sight { boot: self.site.boot, folder });
    }

    /// Whether the name of the port's namespace tells what became of its container: it is looked for where it was seen.
    pub(super) fn follows(&self, setup: &PortSetup) -> bool {
        let Some(attachment) = &setup.attachment else { return false };
        let seen_in = attachment.sight.and_then(|sight| sight.folder);
        attachment.seen && seen_in.is_some() && seen_in == host::folder_of(&setup.netns)
    }

    /// Whether the port's container was there in another run of the host.
    pub(super) fn is_of_another_boot(&self, setup: &PortSetup) -> bool {
        let was = setup.attachment.as_ref().and_then(|attachment| attachment.sight).and_then(|sight| sight.boot);
        was.zip(self.site.boot).is_some_and(|(was, is)| was != is)
    }

    /// Writes down what it sees of containers now that daemons before it did not, or saw from elsewhere.
    pub(crate) fn note_sights(&mut self) {
        let Some(desired) = self.sighted() else { return };
        if let Err(error) = self.make(desired) {
            tracing::warn!(%error, "ports of containers that end unseen are kept: what is seen could not be written down");
        }
    }

    /// The state with what it sees of containers whose ports are up; `None` where that is nothing new.
    fn sighted(&self) -> Option<Desired> {
        let mut sighted = None;
        for spec in self.desired.ports() {
            let (Some(attachment), Some(live)) = (&spec.attachment, self.live.get(&spec.name)) else { continue };
            let mut now = attachment.clone();
            let sight = now.sight.get_or_insert_default();
            sight.boot = self.site.boot.or(sight.boot);
            if let Whereabouts::Namespace(found) = host::whereabouts(&spec.netns)
                && live.netns == Some(found)
            {
                (now.seen, sight.folder) = (true, host::folder_of(&spec.netns));
            }
            if now != *attachment {
                sighted = Some(sighted.unwrap_or_else(|| self.desired.clone()).with_attachment(&spec.name, now));
            }
        }
        sighted
    }
}
