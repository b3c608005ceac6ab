//! What is refused, and how the desired state changes where it is not.
//!
//! Everything here needs only the state, the change and the own VTEP address; what needs the host (does the namespace
//! exist, is the interface name free) is the daemon's to refuse, with [`Code::Host`].

mod attachment;
mod fdb;
mod peer;
mod port;
mod refusal;
mod vlan;

pub use attachment::Held;
pub use refusal::Refusal;

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Attachment, Desired};
use crate::error::{Code, RpcError};
use crate::request::Change;
use crate::types::PortName;

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// False where all was as wanted before.
    pub changed: bool,
    /// What else happened, in sentences for people.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Outcome {
    const UNCHANGED: Self = Self { changed: false, notes: Vec::new() };
    const CHANGED: Self = Self { changed: true, notes: Vec::new() };
}

/// The state after a change, and what the change did.
type Applied = Result<(Desired, Outcome), Refusal>;

impl Desired {
    /// The state after `change`, on a switch whose VTEP has the address `vtep` (`None` where it has no VTEP).
    ///
    /// # Errors
    /// Where the change is refused; the state is then as it was.
    pub fn apply(&self, change: &Change, vtep: Option<IpAddr>) -> Applied {
        if let Change::PeerAdd(peer) = change {
            peer::reachable(peer.ip, vtep)?;
        }
        self.clone().apply_unbound(change)
    }

    /// Whether a port may be called `name`: one that is there already may, whatever older versions took.
    ///
    /// # Errors
    /// Where the name means something else wherever a port is named.
    pub fn may_be_named(&self, name: &PortName) -> Result<(), Refusal> {
        if self.port(name).is_some() { Ok(()) } else { port::nameable(name) }
    }

    /// As [`Self::apply`] for a state that is not bound to a VTEP yet, as one read from a file, and without a copy.
    pub(crate) fn apply_unbound(self, change: &Change) -> Applied {
        match change {
            Change::PortAdd(spec) => port::add(self, spec),
            Change::PortSet(set) => port::set(self, set),
            Change::PortDel { name } => port::del(self, name),
            Change::VlanAdd(spec) => vlan::add(self, spec),
            Change::VlanDel { vlan } => vlan::del(self, *vlan),
            Change::PeerAdd(spec) => peer::add(self, spec),
            Change::PeerDel { ip, vlan } => peer::del(self, *ip, *vlan),
            Change::FdbAdd(entry) => fdb::add(self, entry),
            Change::FdbDel { mac, vlan } => fdb::del(self, *mac, *vlan),
            Change::AttachmentAdd(attach) => attachment::add(self, attach, &Held::default()),
            // Whether it is lost the daemon knows.
            Change::AttachmentDel { container, ifname, network, lost: _ } => {
                attachment::del(self, container, ifname, network.as_ref())
            }
        }
    }

    /// The state without `ports`, and without the static addresses behind them.
    #[must_use]
    pub fn without_ports<'a>(&self, ports: impl IntoIterator<Item = &'a PortName>) -> Self {
        ports.into_iter().fold(self.clone(), port::without)
    }

    /// The state where port `name`, if there is one, has `attachment`.
    #[must_use]
    pub fn with_attachment(mut self, name: &PortName, attachment: Attachment) -> Self {
        if let Some(spec) = self.ports.get_mut(name) {
            Arc::make_mut(spec).attachment = Some(attachment);
        }
        self
    }

    /// Whether this state, read from a file, suits a switch whose VTEP has the address `vtep`.
    ///
    /// # Errors
    /// Where a peer cannot be reached from it: it is the address itself, of the other family, or there is no VTEP.
    pub fn suits(&self, vtep: Option<IpAddr>) -> Result<(), Refusal> {
        self.peers().try_for_each(|peer| peer::reachable(peer.ip, vtep))
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

impl Refusal {
    /// Its kind on the socket.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Exhausted { .. } => Code::Exhausted,
            _ if self.is_not_found() => Code::NotFound,
            _ => Code::Conflict,
        }
    }
}

#[cfg(test)]
mod attachment_tests;
#[cfg(test)]
mod tests;
