//! Ports whose interface goes under us, most often with its namespace, and comes back when that does.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::{Duration, Instant};

use vswitch_api::PortName;
use vswitch_core::switch::PortId;

use super::{Control, ControlError};
use crate::counters::Counters;
use crate::host::{self, HostError, Whereabouts};
use crate::network::PortSetup;
use crate::takeover::Name;
use crate::worker::Worker;

/// How often namespaces are looked at that nobody tells of: those of lost ports, and those that only we keep alive.
const EVERY: Duration = Duration::from_millis(500);
/// From one look at the names of namespaces to the next, however often something is mounted.
const APART: Duration = Duration::from_millis(50);

/// What is known of lost ports.
#[derive(Debug, Default)]
pub(super) struct LostPorts {
    /// A worker found a port gone since they were looked after.
    pub(super) has_news: bool,
    /// Something was mounted or unmounted since names were looked at: one may lead elsewhere.
    pub(super) names_may_differ: bool,
    last_names: Option<Instant>,
    next_look: Option<Instant>,
    /// Why one could not come back: said once, not twice a second.
    hindrances: BTreeMap<PortName, String>,
    /// The namespaces of containers whose ports are lost, where they were told from others.
    netns: BTreeMap<PortName, (u64, u64)>,
    /// Ports of containers that are gone.
    gone: BTreeSet<PortName>,
}

/// What is known of one.
#[derive(Debug)]
pub(super) struct Known {
    netns: Option<(u64, u64)>,
    is_gone: bool,
}

impl LostPorts {
    /// The container of port `name` is gone.
    pub(super) fn note_gone(&mut self, name: &PortName) -> bool {
        self.gone.insert(name.clone())
    }

    /// Whether the container of port `name` is known to be gone.
    pub(super) fn is_gone(&self, name: &PortName) -> bool {
        self.gone.contains(name)
    }

    /// The namespace of port `name`, where it was told from others.
    pub(super) fn netns(&self, name: &PortName) -> Option<(u64, u64)> {
        self.netns.get(name).copied()
    }

    /// Whether `why` is a new reason for what cannot be done with port `name`.
    pub(super) fn is_news(&mut self, name: &PortName, why: String) -> bool {
        self.hindrances.insert(name.clone(), why.clone()) != Some(why)
    }

    /// Forgets port `name`: it is there, or no longer wanted. Says what was known.
    pub(super) fn forget(&mut self, name: &PortName) -> Known {
        self.hindrances.remove(name);
        Known { netns: self.netns.remove(name), is_gone: self.gone.remove(name) }
    }

    /// Knows of port `name` what was known before.
    pub(super) fn remember(&mut self, name: &PortName, known: Known) {
        self.netns.extend(known.netns.map(|netns| (name.clone(), netns)));
        self.gone.extend(known.is_gone.then(|| name.clone()));
    }
}

impl Control {
    /// Lets go of ports whose namespace is gone and brings back those whose namespace is there. Says how long until it is
    /// time to look again.
    pub(super) fn tend_lost_ports(&mut self) -> Option<Duration> {
        if mem::take(&mut self.lost.has_news) {
            if let Err(error) = self.let_lost_ports_go() {
                tracing::error!(%error, "lost ports could not be let go");
            }
            self.reap();
        }
        let names = self.tend_names();
        let look = self.tend_unannounced();
        names.into_iter().chain(look).min()
    }

    /// Has ports follow the names of their namespaces where one may lead elsewhere, as after `ip netns delete` and `add`
    /// while a process lives in the old one. Says how long until it is time to.
    fn tend_names(&mut self) -> Option<Duration> {
        if !self.lost.names_may_differ {
            return None;
        }
        let now = Instant::now();
        if let Some(next) = self.lost.last_names.map(|last| last + APART).filter(|next| now < *next) {
            return Some(next - now);
        }
        self.lost.names_may_differ = false;
        self.lost.last_names = Some(now);
        self.follow_names(None);
        self.bring_ports_back();
        None
    }

    /// As [`Self::tend_lost_ports`], of what nobody tells.
    fn tend_unannounced(&mut self) -> Option<Duration> {
        let pinned = self.live.values().any(|port| port.pinned.is_some());
        if !pinned && self.returning().next().is_none() && !self.may_reap() {
            self.lost.next_look = None;
            return None;
        }
        let now = Instant::now();
        let next = *self.lost.next_look.get_or_insert(now + EVERY);
        if now < next {
            return Some(next - now);
        }
        self.let_namespaces_go();
        self.reap();
        self.bring_ports_back();
        self.lost.next_look = Some(now + EVERY);
        Some(EVERY)
    }

    /// Lets go of the ports whose device is gone. They stay wanted.
    pub(super) fn let_lost_ports_go(&mut self) -> Result<(), ControlError> {
        // Each worker finds out for itself; the device is gone for all.
        let lost = self.workers.each(|worker| worker.datapath.lost())?.into_iter().flatten().collect();
        self.lose(&lost, "its interface went, as with its namespace")
    }

    /// Lets go of ports, or of port `only`, whose namespace is no longer the one that they were given by name. Its interface
    /// stays there, without carrier: the name may lead there again.
    pub(super) fn follow_names(&mut self, only: Option<&PortName>) {
        let mut gone = BTreeSet::new();
        for (name, port) in self.live.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
            let (Some(followed), Some(setup)) = (port.followed, self.network.ports.get(name)) else { continue };
            if followed.is_elsewhere(&setup.netns) {
                gone.insert(port.id);
            }
        }
        if let Err(error) = self.lose(&gone, "the name of its namespace is gone, or another's") {
            tracing::error!(%error, "ports whose namespaces are gone could not be let go");
        }
    }

    /// As [`Self::tend_lost_ports`] at once, but for what could come back.
    pub(super) fn look_after_lost_ports(&mut self) -> Result<(), ControlError> {
        self.let_lost_ports_go()?;
        self.let_namespaces_go();
        self.reap();
        Ok(())
    }

    fn lose(&mut self, lost: &BTreeSet<PortId>, why: &str) -> Result<(), ControlError> {
        if lost.is_empty() {
            return Ok(());
        }
        let gone = lost.clone();
        let remove =
            move |worker: &mut Worker| gone.into_iter().map(|id| (id, worker.remove_tap(id))).collect::<Vec<_>>();
        let mut counted: BTreeMap<_, Counters> = BTreeMap::new();
        for (id, counters) in self.workers.each(remove)?.into_iter().flatten() {
            counted.entry(id).or_default().add(&counters);
        }
        self.tell_addresses(); // while it is known whose the numbers are
        for (name, port) in self.live.extract_if(.., |_, port| lost.contains(&port.id)) {
            self.manager.forget(&Name::Tap(name.clone()));
            tracing::warn!(port = %name, "the port is lost: {why}");
            let counters = counted.remove(&port.id).unwrap_or_default();
            if let Some(netns) = port.netns {
                self.lost.netns.insert(name.clone(), netns);
            }
            self.counted_before.entry(name).or_default().add(&counters);
        }
        self.tell_changes();
        Ok(())
    }

    /// A namespace that a port's own descriptors keep alive ends when what the port was given no longer leads there.
    fn let_namespaces_go(&mut self) {
        let mut gone = BTreeSet::new();
        for (name, port) in self.live.iter().filter(|(_, port)| port.pinned.is_some()) {
            let Some(setup) = self.network.ports.get(name) else { continue };
            let is_gone = match host::whereabouts(&setup.netns) {
                Whereabouts::Namespace(found) => Some(found) != port.pinned,
                Whereabouts::Gone => true,
                Whereabouts::Unknown => false, // what cannot be told is not taken for gone
            };
            if is_gone && (setup.attachment.is_none() || self.follows(setup)) {
                gone.insert(port.id);
            }
        }
        if let Err(error) = self.lose(&gone, "its container is gone") {
            tracing::error!(%error, "ports whose namespaces are gone could not be let go");
        }
    }

    /// Ports that have no interface.
    pub(super) fn lost_ports(&self) -> impl Iterator<Item = (&PortName, &PortSetup)> {
        let all = self.network.ports.iter().map(|(name, setup)| (name, setup.as_ref()));
        let lost = all.filter(|(name, _)| !self.live.contains_key(*name));
        lost.take(self.network.ports.len() - self.live.len()) // none, most of the time
    }

    /// Lost ports that may come back by themselves.
    fn returning(&self) -> impl Iterator<Item = &PortName> {
        let lost = self.lost_ports();
        // Who may not enter namespaces waits for somebody to hand them over.
        let enters = self.rights.privileges.enters();
        let lost = lost.filter(move |(name, _)| enters && !self.lost.is_gone(name));
        // A container's comes back where it was, or to what is left of it, and nowhere else.
        let returns = |name: &PortName, setup: &PortSetup| match &setup.attachment {
            Some(attachment) if self.lost.netns(name).is_none() => attachment.seen,
            _ => host::is_lasting(&setup.netns),
        };
        lost.filter(move |(name, setup)| returns(name, setup)).map(|(name, _)| name)
    }

    fn bring_ports_back(&mut self) {
        let there = |name: &&PortName| {
            let setup = self.network.ports.get(*name);
            let found = setup.and_then(|setup| host::netns_identity(&setup.netns).ok().flatten());
            found.is_some_and(|found| self.lost.netns(name).is_none_or(|was| was == found))
        };
        let back: Vec<_> = self.returning().filter(there).cloned().collect();
        let is_back = !back.is_empty();
        for name in back {
            // Of a container that this daemon never met only what is left is taken up, as at the start.
            self.is_restoring = self.lost.netns(&name).is_none();
            let outcome = self.bring_back(&name);
            self.is_restoring = false;
            match outcome {
                Ok(_) => tracing::info!(port = %name, "the port is back"),
                Err(ControlError::Host(HostError::ContainerGone(_))) => {
                    self.lost.note_gone(&name);
                }
                Err(error) => {
                    if self.lost.is_news(&name, error.to_string()) {
                        tracing::warn!(port = %name, %error, "the port's namespace is there, and the port cannot come back");
                    }
                }
            }
        }
        if is_back {
            self.note_sights();
        }
    }
}
