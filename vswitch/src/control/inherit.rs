//! Interfaces that were there before this daemon, and those that must outlive it.

use std::os::fd::AsFd as _;

use vswitch_api::PortName;
use vswitch_core::switch::PortId;
use vswitch_sys::{Tap, TapQueue};

use super::{Control, ControlError};
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
                return Ok((id, Tap::adopt_all(queues, Some(offloads)).map_err(HostError::from)?));
            }
            Heirloom::Waiting { queues: waiting, id } => match host::adopt_interface(setup, waiting, queues) {
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
        let tap = host::create_interface(setup, queues)?;
        let descriptors: Vec<_> = tap.queues().iter().map(TapQueue::as_fd).collect();
        self.manager.keep(&Name::Tap(name.clone()), &descriptors);
        Ok((id, tap))
    }

    /// Makes the interface of port `id` go where closing our descriptors would not: the service manager has others.
    pub(super) fn let_interface_go(&mut self, name: &PortName, id: PortId) -> Result<(), ControlError> {
        if self.manager.is_there() {
            let gone =
                self.workers.one(move |worker| worker.datapath.tap(id).map(host::delete_interface).transpose())?;
            if let Err(error) = gone {
                tracing::warn!(port = %name, %error, "the interface of a port that is deleted stays for now");
            }
            self.manager.forget(&Name::Tap(name.clone()));
        }
        Ok(())
    }

    /// Makes interfaces go that were kept for ports that are no longer wanted.
    pub(super) fn let_unwanted_go(&mut self) {
        for (name, queues) in self.estate.unwanted() {
            let gone = Tap::adopt_all(queues, None).map_err(HostError::from);
            let gone = gone.and_then(|tap| tap.queues().first().map_or(Ok(()), host::delete_interface));
            if let Err(error) = gone {
                tracing::warn!(port = %name, %error, "an interface that was kept for a deleted port stays for now");
            }
            self.manager.forget(&Name::Tap(name));
        }
        self.estate = crate::takeover::Estate::default();
    }
}
