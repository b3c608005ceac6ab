//! Interfaces that were there before this daemon, and those that must outlive it.

use std::os::fd::{AsFd as _, OwnedFd};

use vswitch_api::PortName;
use vswitch_core::switch::PortId;
use vswitch_sys::{Tap, TapQueue};

use super::{Brought, Control, ControlError};
use crate::host::{self, HostError};
use crate::network::PortSetup;
use crate::takeover::{Heirloom, Name};

impl Control {
    /// The interface of port `name` with `queues` queues, and the port's number: inherited, or made.
    pub(super) fn interface(
        &mut self,
        name: &PortName,
        setup: &PortSetup,
        queues: u16,
    ) -> Result<(PortId, Tap), ControlError> {
        let id = match self.estate.port(name) {
            Heirloom::Lost => return Err(HostError::LostBefore.into()),
            Heirloom::Working { queues, id, offloads } => {
                return Ok((id, Tap::adopt_granted(queues, offloads).map_err(HostError::from)?));
            }
            Heirloom::Waiting { queues: waiting, id } => match self.kept_interface(name, setup, waiting, queues) {
                Ok(tap) => return Ok((id.map_or_else(|| self.free_id(), Ok)?, tap)),
                Err(error) => {
                    tracing::warn!(port = %name, %error, "the interface that was kept cannot be used; it is made anew");
                    self.manager.forget(&Name::Tap(name.clone()));
                    id
                }
            },
            Heirloom::Nothing { id } => id,
        };
        let id = id.map_or_else(|| self.free_id(), Ok)?;
        let mark = self.site.mark(name);
        let netns = match self.brought.take_if(|(port, _)| port == name).map(|(_, brought)| brought) {
            Some(Brought::Interface(tap)) => return Ok((id, self.kept_by_manager(name, tap))),
            Some(Brought::Namespace(netns)) => Some(netns),
            None => None,
        };
        if !self.rights.privileges.enters() {
            return Err(HostError::NoEntry(name.clone()).into());
        }
        if netns.is_none() && !setup.is_named() {
            return Err(HostError::Unnamed(setup.netns.clone()).into());
        }
        let tap = if self.is_restoring && setup.attachment.is_some() {
            host::left_interface(setup, &mark, queues)?
        } else {
            host::obtain_interface(setup, &mark, queues, netns)?
        };
        Ok((id, self.kept_by_manager(name, tap)))
    }

    /// `tap`, whose descriptors the service manager keeps from now on.
    fn kept_by_manager(&mut self, name: &PortName, tap: Tap) -> Tap {
        let descriptors: Vec<_> = tap.queues().iter().map(TapQueue::as_fd).collect();
        self.manager.keep(&Name::Tap(name.clone()), &descriptors);
        tap
    }

    /// The interface behind queues that were kept while nobody served them.
    fn kept_interface(
        &self,
        name: &PortName,
        setup: &PortSetup,
        waiting: Vec<OwnedFd>,
        queues: u16,
    ) -> Result<Tap, HostError> {
        if self.rights.privileges.enters() {
            host::kept_interface(setup, &self.site.mark(name), waiting, queues)
        } else {
            host::adopt_interface(name, &setup.ifname, waiting, queues.into())
        }
    }

    /// Makes the interface of port `id` go with our descriptors, of which these are copies, and those that the service
    /// manager has.
    pub(super) fn let_interface_go(&mut self, name: &PortName, id: PortId) -> Result<Vec<TapQueue>, ControlError> {
        let queues = self.workers.each(move |worker| worker.datapath.tap(id).map(TapQueue::try_clone))?;
        let queues = queues.into_iter().flatten().collect::<Result<Vec<_>, _>>().map_err(HostError::Descriptor)?;
        // Gone already where the namespace is.
        let _ = queues.first().map(|queue| queue.set_persistent(false));
        if self.manager.is_there() {
            self.manager.forget(&Name::Tap(name.clone()));
            // The manager's copies go later; a port of that name that is added before would find the interface.
            match self.place(id)? {
                Some((netns, ifname)) if self.rights.privileges.enters() => {
                    if let Err(error) = host::delete_interface(&netns, &ifname) {
                        tracing::warn!(port = %name, %error, "the interface of a port that is deleted stays for now");
                    }
                }
                _ => self.manager.settle(),
            }
        }
        Ok(queues)
    }

    /// Makes interfaces go that were kept for ports that are no longer wanted.
    pub(super) fn let_unwanted_go(&mut self) {
        for (name, queues) in self.estate.unwanted() {
            if self.network.ports.contains_key(&name) {
                self.manager.forget(&Name::Tap(name)); // wanted, and lost for now: its interface waits
                continue;
            }
            if let Err(error) = Tap::adopt_all(queues).and_then(|tap| tap.set_persistent(false)) {
                tracing::warn!(port = %name, %error, "an interface that was kept for a deleted port stays for now");
            }
            self.manager.forget(&Name::Tap(name));
        }
        self.estate = crate::takeover::Estate::default();
    }
}
