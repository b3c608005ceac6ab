//! Carrying a plan out: the host's interfaces here, the rest in every worker; what the switches share in one of them.

use std::net::SocketAddr;

use vswitch_api::{FdbTarget, Mac, PortName, Vid};
use vswitch_core::MacAddr;
use vswitch_core::switch::{PortId, PortMode};
use vswitch_sys::{Netns, TapQueue};

use super::{Control, ControlError, LivePort};
use crate::host::{self, Followed, HostError};
use crate::network::{Change, Diff, Network, PortSetup, RemoteSetup, VlanSetup, plan, vlan_id};
use crate::port::tap::TapPort;
use crate::takeover::Name;
use crate::worker::SharedLimits;

impl Control {
    /// Makes `target` of what is, or leaves what is.
    pub(super) fn migrate(&mut self, target: Network) -> Result<(), ControlError> {
        let mut done = Vec::new();
        let steps = plan(&self.network, &target);
        let is_new_directory = steps.iter().any(|step| matches!(step, Change::Vlan(_) | Change::Remote(_)));
        let outcome = steps.into_iter().try_for_each(|change| {
            let outcome = self.take(&change);
            done.push(change); // a port that was changed half-way is changed back as well
            outcome
        });
        let outcome = outcome.and_then(|()| if is_new_directory { self.publish(&target) } else { Ok(()) });
        match outcome {
            Ok(()) => {
                self.network = target;
                self.probes_follow();
            }
            Err(_) => self.take_back(done.into_iter().rev().map(Change::inverse)),
        }
        outcome
    }

    /// Takes those of `steps` that can be taken, back to the network there was. A port that cannot be made again is lost.
    pub(super) fn take_back(&mut self, steps: impl IntoIterator<Item = Change>) {
        for step in steps {
            if let Err(error) = self.take(&step) {
                tracing::error!(%error, ?step, "a step of a refused change could not be taken back");
            }
        }
        // A remote that came back may have another number.
        if let Err(error) = self.publish(&self.network) {
            tracing::error!(%error, "the directory of a refused change could not be taken back");
        }
    }

    /// Undoes what a daemon before this one did for a change and never acknowledged, being killed in the middle:
    /// `abandoned` is what it was making, `target` what there was and is to be.
    pub(super) fn take_back_abandoned(&self, abandoned: &Network, target: &Network) {
        for change in plan(abandoned, target) {
            let Change::Port(diff) = change else { continue };
            let Some(before) = &diff.before else { continue };
            let mark = self.site.mark(&diff.key);
            let outcome = match &diff.after {
                Some(after) if (&before.netns, &before.ifname) == (&after.netns, &after.ifname) => {
                    host::restore_interface(before, after, &mark)
                }
                _ => host::remove_interface(before, &mark),
            };
            match outcome {
                Ok(()) => tracing::info!(port = %diff.key, "a change that was never acknowledged is taken back"),
                Err(error) => {
                    tracing::warn!(port = %diff.key, %error, "a change that was never acknowledged stays half made")
                }
            }
        }
    }

    /// Makes `target` from nothing. What the host refuses is logged and left out: the port is lost.
    pub(super) fn restore(&mut self, target: Network) -> Result<(), ControlError> {
        for change in plan(&Network::default(), &target) {
            if let Change::Port(diff) = &change
                && diff.after.as_ref().is_some_and(|setup| self.is_of_another_boot(setup))
            {
                self.lost.note_gone(&diff.key);
                continue;
            }
            let meant = match &change {
                // What is there already need not be looked for.
                Change::Port(diff) if !self.estate.has(&diff.key) => {
                    diff.after.iter().try_for_each(|setup| host::still_meant(&setup.netns))
                }
                _ => Ok(()),
            };
            match (meant.map_err(ControlError::from).and_then(|()| self.take(&change)), &change) {
                (Err(ControlError::Host(HostError::ContainerGone(_))), Change::Port(diff)) => {
                    self.lost.note_gone(&diff.key);
                }
                (Err(error @ ControlError::Host(_)), Change::Port(diff)) => {
                    tracing::warn!(port = %diff.key, %error, "the port is lost");
                }
                (result, _) => result?,
            }
        }
        self.publish(&target)?;
        self.network = target;
        self.probes_follow();
        Ok(())
    }

    fn publish(&self, network: &Network) -> Result<(), ControlError> {
        let directory = self.directory(network)?;
        self.workers.each(move |worker| worker.datapath.set_directory(directory))?;
        Ok(())
    }

    fn take(&mut self, change: &Change) -> Result<(), ControlError> {
        match change {
            Change::Ageing { after, .. } => {
                let after = *after;
                self.workers.each(move |worker| worker.datapath.switch_mut().set_ageing(after))?;
                Ok(())
            }
            Change::Vlan(diff) => self.take_vlan(diff),
            Change::Remote(diff) => self.take_remote(diff),
            Change::Port(diff) => match (&diff.before, &diff.after) {
                (before, None) => self.delete_port(&diff.key, before.as_deref()),
                (None, Some(after)) => self.create_port(&diff.key, after),
                (Some(before), Some(after)) => self.change_port(&diff.key, before, after),
            },
            Change::Static(diff) => self.take_static(diff),
        }
    }

    fn take_vlan(&self, diff: &Diff<Vid, VlanSetup>) -> Result<(), ControlError> {
        let (vlan, learning) = (vlan_id(diff.key), diff.after.as_ref().is_none_or(|setup| setup.learning));
        self.workers.each(move |worker| worker.datapath.switch_mut().set_learning(vlan, learning))?;
        Ok(())
    }

    fn take_remote(&mut self, diff: &Diff<std::net::IpAddr, RemoteSetup>) -> Result<(), ControlError> {
        let address = diff.key;
        match &diff.after {
            None => {
                if let Some(&id) = self.remotes.get(&address) {
                    self.workers.each(move |worker| worker.datapath.remove(id))?;
                    self.tell_addresses(); // while it is known whose the number is
                    self.remotes.remove(&address);
                }
            }
            Some(setup) => {
                let id = match self.remotes.get(&address) {
                    Some(&id) => id,
                    None => self.estate.remote(address).map_or_else(|| self.free_id(), Ok)?,
                };
                let to = SocketAddr::new(address, self.vtep_port);
                let mode = PortMode::Remote { vlans: setup.vlans.clone() };
                self.workers.each(move |worker| worker.datapath.set_remote(id, to, mode))?;
                self.remotes.insert(address, id);
            }
        }
        Ok(())
    }

    fn create_port(&mut self, name: &PortName, setup: &PortSetup) -> Result<(), ControlError> {
        let queues = u16::try_from(self.workers.count().get()).unwrap_or(u16::MAX);
        let brought = self.brought.as_ref().filter(|(port, _)| port == name);
        let brought = brought.and_then(|(_, brought)| brought.netns());
        let told = brought.filter(|_| setup.attachment.is_some());
        let (id, tap) = self.interface(name, setup, queues)?;
        // What the kernel does not tell us, whoever handed the interface over did: it may be that we keep the namespace alive.
        let told = told.filter(|_| !self.rights.privileges.enters());
        let (offloads, pinned) = (tap.offloads(), host::pinned(&tap)?.or(told));
        let place = pinned.or_else(|| host::tap_netns(&tap)).or(brought);
        let (netns, followed) = match &setup.attachment {
            Some(_) => (place, None),
            None => (None, place.and_then(|place| Followed::new(&setup.netns, place))),
        };
        let (mtu, mode, guard, title) = (setup.mtu, setup.mode.clone(), setup.guard(), name.clone());
        let limits = SharedLimits::new(&setup.limits);
        let watched = self.workers.each_with(tap.into_queues(), move |worker, queue| {
            worker.datapath.add_tap(id, &title, TapPort::new(queue, offloads, mtu), mode, guard);
            worker.set_limits(id, limits);
            worker.watch_tap(id)
        })?;
        if let Err(error) = watched.into_iter().collect::<Result<(), _>>() {
            // It stays in its namespace, where the next try finds it.
            self.manager.forget(&Name::Tap(name.clone()));
            self.workers.each(move |worker| worker.remove_tap(id))?;
            return Err(error.into());
        }
        tracing::info!(port = %name, ?offloads, mtu, "port added");
        self.live.insert(name.clone(), LivePort { id, offloads, pinned, netns, followed });
        self.lost.forget(name);
        Ok(())
    }

    /// Deletes a port with its interface.
    fn delete_port(&mut self, name: &PortName, setup: Option<&PortSetup>) -> Result<(), ControlError> {
        let mut counted = self.counted_before.remove(name).unwrap_or_default();
        self.lost.forget(name);
        let Some(&LivePort { id, .. }) = self.live.get(name) else {
            // Lost, and its interface may be where this daemon could not reach it before; or never made, as the port of a
            // change that is taken back, of which only who makes interfaces has something to look for.
            let may_be = self.rights.privileges.enters() || self.network.ports.contains_key(name);
            let setup = setup.filter(|_| may_be);
            let removed = setup.map_or(Ok(()), |setup| host::remove_interface(setup, &self.site.mark(name)));
            if let Err(error) = removed {
                tracing::warn!(port = %name, %error, "the lost port's interface may have stayed in its namespace");
            }
            self.tell_last_drops(name, &counted);
            return Ok(());
        };
        // The last descriptor to be closed takes the interface along, which takes the kernel a while: not a worker's.
        let queues = self.let_interface_go(name, id)?;
        self.workers.each(move |worker| worker.remove_tap(id))?.iter().for_each(|part| counted.add(part));
        self.tell_addresses(); // while it is known whose the number is
        self.tell_last_drops(name, &counted);
        // Not before: its number is free with it.
        self.live.remove(name);
        drop(queues);
        tracing::info!(port = %name, "port deleted");
        Ok(())
    }

    fn change_port(&self, name: &PortName, before: &PortSetup, after: &PortSetup) -> Result<(), ControlError> {
        let Some(&LivePort { id, .. }) = self.live.get(name) else { return Ok(()) };
        // First, lest an address that the container gets says so in vain.
        let guard = after.guard();
        self.workers.each(move |worker| worker.datapath.switch_mut().set_guard(id, guard))?;
        if !host::is_same_interface(before, after) {
            if !self.rights.privileges.enters() {
                return Err(HostError::NotOurs(name.clone()).into());
            }
            // Gone, and the worker may not have noticed yet: no reason to refuse a change that concerns others as well.
            let Some((netns, ifname)) = self.place(id)? else { return Ok(()) };
            host::change_interface(&netns, &ifname, before, after)?;
        }
        let (mtu, mode) = (after.mtu, after.mode.clone());
        let limits = (before.limits != after.limits).then(|| SharedLimits::new(&after.limits));
        self.workers.each(move |worker| {
            worker.datapath.set_tap(id, mtu, mode);
            if let Some(limits) = limits {
                worker.set_limits(id, limits);
            }
        })?;
        Ok(())
    }

    /// Where the interface of port `id` is now; `None` where it is gone.
    pub(super) fn place(&self, id: PortId) -> Result<Option<(Netns, String)>, ControlError> {
        // Asked here: a worker has no right to.
        let queue = self.workers.one(move |worker| worker.datapath.tap(id).map(TapQueue::try_clone))?;
        let place = queue.transpose().map_err(HostError::Descriptor)?.map(|queue| host::place(&queue)).transpose();
        Ok(place.map_err(HostError::from)?.flatten())
    }

    /// Tells the containers whose interfaces were taken up again that they have a network: what they asked meanwhile
    /// nobody heard.
    pub(crate) fn wake_containers(&self) {
        for (name, port) in self.live.iter().filter(|(_, port)| port.pinned.is_some()) {
            let woken = self.place(port.id).and_then(|place| {
                let woken = place.map_or(Ok(()), |(netns, ifname)| host::wake(&netns, &ifname));
                woken.map_err(ControlError::from)
            });
            if let Err(error) = woken {
                tracing::warn!(port = %name, %error, "its neighbours may take a second to be found again");
            }
        }
    }

    /// Makes a port that is lost again, and what points to it. Where that fails all stays as it is: its interface, where
    /// there is one, is not ours to delete for that.
    pub(super) fn revive(&mut self, name: &PortName, setup: &PortSetup) -> Result<(), ControlError> {
        self.create_port(name, setup)?;
        let target = FdbTarget::Port(name.clone());
        let statics: Vec<_> =
            self.network.statics.iter().filter(|(_, at)| **at == target).map(|(key, _)| *key).collect();
        for key in statics {
            self.take_static(&Diff { key, before: None, after: Some(target.clone()) })?;
        }
        Ok(())
    }

    fn take_static(&self, diff: &Diff<(Vid, Mac), FdbTarget>) -> Result<(), ControlError> {
        let (vlan, mac) = (vlan_id(diff.key.0), MacAddr(diff.key.1.octets()));
        let id = match &diff.after {
            None => None,
            Some(FdbTarget::Port(name)) => match self.live.get(name) {
                Some(port) => Some(port.id),
                None => return Ok(()), // the port is lost, its addresses wait with it
            },
            Some(FdbTarget::Remote(address)) => self.remotes.get(address).copied(),
        };
        self.workers.one(move |worker| {
            let switch = worker.datapath.switch_mut();
            match id {
                Some(id) => switch.fdb_add_static(vlan, mac, id),
                None => {
                    switch.fdb_remove(vlan, mac);
                    Ok(())
                }
            }
        })??;
        Ok(())
    }

    /// The least number that neither a port nor a remote has.
    pub(super) fn free_id(&self) -> Result<PortId, ControlError> {
        let mut used: Vec<_> = self.live.values().map(|port| port.id).chain(self.remotes.values().copied()).collect();
        used.extend(self.estate.promised());
        used.sort_unstable();
        let gap = used.iter().enumerate().position(|(place, id)| id.index() != place).unwrap_or(used.len());
        u16::try_from(gap).map(PortId::new).map_err(|_| ControlError::NoPortId)
    }
}
