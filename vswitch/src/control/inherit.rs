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
            Heirloom::Lost if setup.attachment.is_some() => {
                let (port, netns) = (name.clone(), setup.netns.clone());
                return Err(HostError::ContainerLostBefore { port, netns }.into());
            }
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
            Some(Brought::Interface(tap, _)) => return Ok((id, self.kept_by_manager(name, tap))),
            Some(Brought::Namespace(netns)) => Some(netns),
            None => None,
        };
        if !self.rights.privileges.enters() {
            let name = name.clone();
            let is_container = setup.attachment.is_some();
            return Err(
                if is_container { HostError::NoEntryToContainer(name) } else { HostError::NoEntry(name) }.into()
            );
        }
        if netns.is_none() && !setup.is_named() {
            return Err(HostError::Unnamed { port: name.clone(), netns: setup.netns.clone() }.into());
        }
        let tap = if self.is_restoring && setup.attachment.is_some() {
            self.left_interface(name, setup, queues)?
        } else {
            host::obtain_interface(setup, &mark, queues, netns)?
        };
        Ok((id, self.kept_by_manager(name, tap)))
    }

    /// The interface that is left in a container, which is gone where there is none, as far as this daemon can tell.
    fn left_interface(&self, name: &PortName, setup: &PortSetup, queues: u16) -> Result<Tap, HostError> {
        host::left_interface(setup, &self.site.mark(name), queues).map_err(|error| match error {
            HostError::ContainerGone(netns) if !self.follows(setup) => {
                HostError::OutOfSight { port: name.clone(), netns }
            }
            error => error,
        })
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
            let is_named = setup.attachment.is_none() || self.follows(setup);
            host::kept_interface(setup, &self.site.mark(name), waiting, (queues, is_named))
        } else {
            host::adopt_interface(name, &setup.ifname, waiting, queues.into())
        }
    }

    /// Makes the interface of port `id` go with our descriptors, of which these are copies as far as there can be any, and
    /// those that the service manager has.
    pub(super) fn let_interface_go(&mut self, name: &PortName, id: PortId) -> Result<Vec<TapQueue>, ControlError> {
        let queues = self.workers.each(move |worker| worker.datapath.tap(id).map(TapQueue::try_clone))?;
        // Without a descriptor left for a copy a worker closes the last one: a port that is deleted has to go.
        let queues: Vec<_> = queues.into_iter().flatten().filter_map(Result::ok).collect();
        // Gone already where the namespace is.
        let persists_not = |queue: &TapQueue| drop(queue.set_persistent(false));
        match queues.first() {
            Some(queue) => persists_not(queue),
            None => self.workers.one(move |worker| worker.datapath.tap(id).map_or((), persists_not))?,
        }
        if self.manager.is_there() {
            self.manager.forget(&Name::Tap(name.clone()));
            // The manager's copies go later; a port of that name that is added before would find the interface.
            match self.place(id).ok().flatten() {
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
