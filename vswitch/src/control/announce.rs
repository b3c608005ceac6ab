//! Which ports make themselves known to their neighbours, and when: those that come up, and those whose addresses change.
//! Not those that a daemon before this one had: their neighbours know them.

use vswitch_api::PortName;
use vswitch_core::switch::PortMode;

use super::Control;
use crate::announce;
use crate::network::{Network, PortSetup};

impl Control {
    /// Makes known what ports have become of what they were in `before`.
    pub(super) fn announce_since(&self, before: &Network) {
        let is_same =
            |was: &PortSetup, is: &PortSetup| (was.mac, &was.addresses, &was.mode) == (is.mac, &is.addresses, &is.mode);
        for (name, is) in &self.network.ports {
            if !before.ports.get(name).is_some_and(|was| is_same(was, is)) {
                self.announce_port(name, is);
            }
        }
    }

    /// Makes the addresses of a port known in the VLAN of its untagged frames. Whom it does not reach finds out later.
    pub(super) fn announce_port(&self, name: &PortName, setup: &PortSetup) {
        let Some(port) = self.live.get(name) else { return };
        if matches!(setup.mode, PortMode::Trunk { native: None, .. }) || setup.addresses.is_empty() {
            return;
        }
        let (id, frames) = (port.id, announce::frames(setup.mac, setup.addresses.iter().map(|address| address.ip())));
        if let Err(error) = self.workers.one(move |worker| worker.announce(id, &frames)) {
            tracing::warn!(port = %name, %error, "its neighbours are not told of its addresses");
        }
    }
}
