//! Ports of containers that are gone. Not every runtime says so: `ctr run -d` never does.
//!
//! A port with an attachment goes with its container: where it is lost and the name of its namespace leads nowhere, or to
//! another one; or where the host was started anew since. Its addresses are free with it. One whose addresses are somebody else's to give stays lost, and told of,
//! until that somebody was told.
//!
//! The gateway of a network on this host goes with the network's last container.

use vswitch_api::PortName;

use super::Control;
use crate::host::{self, Whereabouts};
use crate::network::PortSetup;

impl Control {
    /// Deletes the lost ports of containers that are gone.
    pub(super) fn reap(&mut self) {
        let gone: Vec<_> = self.vanishing().filter(|(name, setup)| self.is_gone(name, setup)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(name, _)| name.clone()).collect();
        for name in gone {
            tracing::info!(port = %name, "the port's container is gone");
            self.lost.note_gone(&name);
        }
        let dead: Vec<_> = self.dead().cloned().collect();
        if dead.is_empty() {
            return;
        }
        let living = self.desired.without_ports(&dead);
        let unused: Vec<_> = living.unused_gateways().map(|port| port.name.clone()).collect();
        let outcome = self.make(living.without_ports(&unused));
        for name in dead.into_iter().chain(unused) {
            match &outcome {
                Ok(()) => tracing::info!(port = %name, "the port is deleted with its container"),
                Err(error) if self.lost.is_news(&name, error.to_string()) => {
                    tracing::warn!(port = %name, %error, "the port of a container that is gone cannot be deleted yet");
                }
                Err(_) => {}
            }
        }
    }

    /// Whether there is something to look at again later.
    pub(super) fn may_reap(&self) -> bool {
        self.vanishing().next().is_some() || self.dead().next().is_some()
    }

    /// Lost ports whose container may be found to be gone.
    fn vanishing(&self) -> impl Iterator<Item = (&PortName, &PortSetup)> {
        let seen = |setup: &PortSetup| setup.attachment.as_ref().is_some_and(|attachment| attachment.seen);
        self.lost_ports().filter(move |(name, setup)| seen(setup) && !self.lost.is_gone(name))
    }

    /// Lost ports to delete: their container is gone, and nobody else has a say in their addresses.
    fn dead(&self) -> impl Iterator<Item = &PortName> {
        let own = |setup: &PortSetup| setup.attachment.as_ref().is_some_and(|attachment| !attachment.delegated);
        self.lost_ports().filter(move |(name, setup)| own(setup) && self.lost.is_gone(name)).map(|(name, _)| name)
    }

    fn is_gone(&self, name: &PortName, setup: &PortSetup) -> bool {
        let is_gone = match host::whereabouts(&setup.netns) {
            Whereabouts::Namespace(found) => self.lost.netns(name).is_some_and(|was| was != found),
            Whereabouts::Gone => true,
            Whereabouts::Unknown => false,
        };
        is_gone && self.follows(setup)
    }
}
