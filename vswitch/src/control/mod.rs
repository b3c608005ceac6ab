//! The control thread: it owns the desired state, makes it so, and answers for it.

pub(crate) mod access;
mod announce;
mod answer;
mod apply;
mod attach;
mod explain;
mod fdb;
mod feeds;
mod handover;
mod inherit;
mod lost;
mod metrics;
mod monitor;
mod notes;
mod observe;
mod probes;
mod reap;
mod requests;
mod server;
mod sight;
mod stats;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use vswitch_api::{BadValue, Change as Wish, Code, Desired, Outcome, PortName, PortPlan, PortSpec, Refusal, RpcError};
use vswitch_core::switch::{FdbError, PortId, Switch};
use vswitch_sys::{Netns, Tap};
use vtep::DirectoryError;

pub(crate) use handover::granted;
pub(crate) use server::{End, Server};

use attach::Holds;
use handover::Handover;
use lost::LostPorts;
use monitor::Monitors;
use observe::Watchers;

use crate::counters::Counters;
use crate::host::{self, Followed, HostError, Whereabouts};
use crate::metrics::Metrics;
use crate::network::{Network, Site, TooNarrowForIpv6, plan};
use crate::privileges::Rights;
use crate::store::{Store, StoreError};
use crate::systemd::ServiceManager;
use crate::takeover::Estate;
use crate::underlay;
use crate::worker::{WorkerError, Workers};

/// Why a change could not be made.
#[derive(Debug, Error)]
pub(crate) enum ControlError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    TooNarrow(#[from] TooNarrowForIpv6),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error(transparent)]
    Fdb(#[from] FdbError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Value(#[from] BadValue),
    #[error("the switch has 65536 ports and peers already, as many as it can; delete some first")]
    NoPortId,
}

impl From<ControlError> for RpcError {
    fn from(error: ControlError) -> Self {
        let code = match &error {
            ControlError::Refused(refusal) => refusal.code(),
            ControlError::Host(_) | ControlError::Store(_) => Code::Host,
            ControlError::TooNarrow(_) | ControlError::Fdb(_) | ControlError::NoPortId => Code::Conflict,
            ControlError::Worker(_) | ControlError::Directory(_) | ControlError::Value(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// A port that has an interface.
#[derive(Debug)]
struct LivePort {
    id: PortId,
    offloads: vswitch_sys::Offloads,
    /// The namespace that its descriptors keep alive, where they do.
    pinned: Option<(u64, u64)>,
    /// The namespace its interface was in when it was made or found; of a container's port, and where that can be told.
    netns: Option<(u64, u64)>,
    /// Where its namespace's name leads, if that is where its interface is; but of a container's port.
    followed: Option<Followed>,
}

/// What came with a request for a port.
#[derive(Debug)]
enum Brought {
    /// Its interface, and the namespace that is in, where that came along.
    Interface(Tap, Option<Netns>),
    /// The namespace in which to make it.
    Namespace(Netns),
}

impl Brought {
    /// The namespace of the port, told from others, where that can be told.
    fn netns(&self) -> Option<(u64, u64)> {
        match self {
            // The kernel tells those with rights over it only.
            Self::Interface(tap, netns) => {
                host::tap_netns(tap).or_else(|| netns.as_ref().and_then(|netns| netns.identity().ok()))
            }
            Self::Namespace(netns) => netns.identity().ok(),
        }
    }
}

/// The state wanted, the state made, and the hands that make it.
#[derive(Debug)]
pub(crate) struct Control {
    desired: Desired,
    network: Network,
    site: Site,
    vtep_port: u16,
    store: Store,
    workers: Workers,
    /// Ports whose interface could be made. The others are lost.
    live: BTreeMap<PortName, LivePort>,
    remotes: BTreeMap<IpAddr, PortId>,
    lost: LostPorts,
    /// What ports counted before they were lost: their counters never run backwards.
    counted_before: BTreeMap<PortName, Counters>,
    rights: Rights,
    /// A switch without ports that knows the addresses the workers' know: to list them takes no time from a worker.
    addresses: Switch,
    /// What a client brought for the port it is about to add.
    brought: Option<(PortName, Brought)>,
    /// Whether ports are those of the daemon before: a container's is found or gone, and not made.
    is_restoring: bool,
    holds: Holds,
    watchers: Watchers,
    monitors: Monitors,
    /// What was asked in a port's name.
    questions: explain::Questions,
    probes: probes::Probes,
    /// The last change was refused since it could not be written down.
    was_not_kept: bool,
    started: Instant,
    /// What is left to inherit; nothing once it has started.
    estate: Estate,
    manager: ServiceManager,
    /// The control socket, to hand it over, and whether its file is ours.
    listener: Option<OwnedFd>,
    removes_socket: bool,
    handover: Option<Handover>,
    is_handed_over: bool,
    metrics: Option<Metrics>,
}

impl Control {
    /// Makes `desired` so, as far as the host allows: ports whose namespace is gone are lost, not fatal. What is in
    /// `estate` is used and not made.
    pub(crate) fn start(
        desired: Desired,
        (site, vtep_port): (Site, u16),
        rights: Rights,
        store: Store,
        workers: Workers,
        (estate, manager): (Estate, ServiceManager),
    ) -> Result<Self, ControlError> {
        let addresses = workers.one(|worker| worker.datapath.switch_mut().sibling())?;
        let mut control = Self {
            desired: Desired::default(),
            network: Network::default(),
            site,
            vtep_port,
            store,
            workers,
            live: BTreeMap::new(),
            remotes: BTreeMap::new(),
            lost: LostPorts::default(),
            counted_before: BTreeMap::new(),
            rights,
            addresses,
            brought: None,
            is_restoring: true,
            holds: Holds::default(),
            watchers: Watchers::default(),
            monitors: Monitors::default(),
            questions: explain::Questions::default(),
            probes: probes::Probes::default(),
            was_not_kept: false,
            started: Instant::now(),
            estate,
            manager,
            listener: None,
            removes_socket: false,
            handover: None,
            is_handed_over: false,
            metrics: None,
        };
        desired.suits(control.vtep_ip())?;
        let network = Network::derive(&desired, &control.site);
        if !control.estate.is_whole()
            && let Some(abandoned) = control.store.abandoned::<Desired>()
        {
            control.take_back_abandoned(&Network::derive(&abandoned, &control.site), &network);
            control.store.forget_pending();
        }
        control.restore(network)?;
        control.let_unwanted_go();
        control.desired = desired;
        control.is_restoring = false;
        Ok(control)
    }

    /// Writes down what it started with.
    pub(crate) fn write_down(&self) -> Result<(), StoreError> {
        // A disk that is full must not keep a restart from serving what it has.
        if self.store.load()?.as_ref() != Some(&self.desired) {
            self.store.prepare(&self.desired)?.commit()?;
        }
        Ok(())
    }

    fn vtep_ip(&self) -> Option<IpAddr> {
        self.site.underlay.map(|underlay| underlay.address)
    }

    /// `port.add`; the port's interface, or its namespace, may have come with the request.
    fn add_port(&mut self, spec: &PortSpec, fds: Vec<OwnedFd>) -> Result<Outcome, ControlError> {
        if let Some(network) = spec.gateway_of.as_ref().filter(|network| !self.desired.is_attached_to(network)) {
            return Err(Refusal::GatewayUnused { name: spec.name.clone(), network: network.clone() }.into());
        }
        self.desired.may_be_named(&spec.name)?;
        self.follow_names(Some(&spec.name));
        let brought = self.brought(spec, fds)?;
        let mut spec = spec.clone();
        match (&mut spec.attachment, &brought) {
            (Some(attachment), _) => self.look_at(attachment, &spec.netns, brought.as_ref()),
            // By this name the next daemon would take another namespace for the port's.
            (None, Some(Brought::Namespace(netns))) => {
                let given = netns.identity().map_err(HostError::from)?;
                if matches!(host::whereabouts(&spec.netns), Whereabouts::Namespace(found) if found != given) {
                    return Err(HostError::OtherNamespace(spec.netns).into());
                }
            }
            (None, _) => {}
        }
        self.brought = brought.map(|brought| (spec.name.clone(), brought));
        let outcome = self.change(&Wish::PortAdd(spec));
        self.brought = None;
        outcome
    }

    /// What `fds` are, which came with a request for `port`.
    fn brought(&self, port: &PortSpec, mut fds: Vec<OwnedFd>) -> Result<Option<Brought>, ControlError> {
        let netns = match fds.pop().map(Netns::from_descriptor) {
            None => return Ok(None),
            Some(Ok(netns)) if fds.is_empty() => return Ok(Some(Brought::Namespace(netns))),
            Some(Ok(netns)) => Some(netns),
            Some(Err(fd)) => {
                fds.push(fd);
                None
            }
        };
        let tap = host::adopt_interface(&port.name, &port.ifname, fds, self.workers.count().get())?;
        Ok(Some(Brought::Interface(tap, netns)))
    }

    /// What the interface of such a port would be.
    fn plan_port(&self, spec: &PortSpec) -> Result<PortPlan, ControlError> {
        self.desired.may_be_named(&spec.name)?;
        let (desired, _) = self.desired.apply(&Wish::PortAdd(spec.clone()), self.vtep_ip())?;
        self.planned(&desired, spec)
    }

    /// What the interface of port `spec`, which is in `desired`, would be.
    fn planned(&self, desired: &Desired, spec: &PortSpec) -> Result<PortPlan, ControlError> {
        let network = Network::derive(desired, &self.site);
        network.carries_ipv6(&self.network)?;
        let setup = network.ports.get(&spec.name).ok_or_else(|| Refusal::NoPort { name: spec.name.clone() })?;
        Ok(PortPlan {
            name: spec.name.clone(),
            addresses: spec.addresses.clone(),
            up: self.live.contains_key(&spec.name),
            mac: vswitch_api::Mac::new(setup.mac.0).map_err(ControlError::Value)?,
            mtu: setup.mtu,
            queues: u16::try_from(self.workers.count().get()).unwrap_or(u16::MAX),
            mark: self.site.mark(&spec.name),
        })
    }

    /// Makes one change whole, or leaves everything as it was. On return it is safe on disk.
    fn change(&mut self, wish: &Wish) -> Result<Outcome, ControlError> {
        let (desired, mut outcome) = match self.desired.apply(wish, self.vtep_ip()) {
            Err(refusal @ Refusal::NoStatic { .. }) => return self.forget_learned(wish, refusal),
            applied => applied?,
        };
        if !outcome.changed {
            return match wish {
                Wish::PortAdd(spec) if !self.live.contains_key(&spec.name) => self.bring_back(&spec.name),
                _ => Ok(outcome),
            };
        }
        if let Wish::PeerAdd(peer) = wish
            && underlay::is_broadcast(peer.ip)
        {
            let what = "the broadcast address of a subnet of this host";
            return Err(Refusal::PeerNotUnicast { ip: peer.ip, what }.into());
        }
        self.make(desired)?;
        outcome.notes.extend(self.notes(wish));
        Ok(outcome)
    }

    /// Makes what is so, whole, or leaves everything as it was. On return it is safe on disk.
    fn make(&mut self, desired: Desired) -> Result<(), ControlError> {
        let outcome = self.make_and_keep(desired);
        match &outcome {
            Ok(()) => self.was_not_kept = false,
            Err(ControlError::Store(_)) => self.was_not_kept = true,
            Err(_) => {}
        }
        outcome
    }

    fn make_and_keep(&mut self, desired: Desired) -> Result<(), ControlError> {
        let network = Network::derive(&desired, &self.site);
        network.carries_ipv6(&self.network)?;
        let pending = self.store.prepare(&desired)?;
        let before = self.network.clone();
        if let Err(error) = self.migrate(network) {
            self.store.forget_pending();
            return Err(error);
        }
        if let Err(error) = pending.commit() {
            let steps = plan(&self.network, &before);
            self.network = before;
            self.probes_follow();
            self.take_back(steps);
            self.store.forget_pending();
            return Err(error.into());
        }
        self.desired = desired;
        self.announce_since(&before);
        self.tell_changes();
        Ok(())
    }

    /// `port add` of a port that is lost: it is made again, and what points to it.
    fn bring_back(&mut self, name: &PortName) -> Result<Outcome, ControlError> {
        let setup = self.network.ports.get(name).cloned().ok_or_else(|| Refusal::NoPort { name: name.clone() })?;
        self.revive(name, &setup)?;
        self.announce_port(name, &setup);
        Ok(Outcome { changed: true, notes: vec![format!("port {name} was lost and is back")] })
    }

    /// `fdb del` of an address that is not static: a learned one is forgotten.
    fn forget_learned(&self, wish: &Wish, refusal: Refusal) -> Result<Outcome, ControlError> {
        let Wish::FdbDel { mac, vlan } = wish else { return Err(refusal.into()) };
        let (mac, vlan) = (vswitch_core::MacAddr(mac.octets()), crate::network::vlan_id(*vlan));
        match self.workers.one(move |worker| worker.datapath.switch_mut().fdb_remove(vlan, mac))? {
            Some(_) => Ok(Outcome { changed: true, notes: Vec::new() }),
            None => Err(refusal.into()),
        }
    }

    /// The directory of `network`'s underlay, as the tunnel needs it.
    fn directory(&self, network: &Network) -> Result<Arc<vtep::Directory>, ControlError> {
        let mut directory = vtep::Directory::new();
        for (&vlan, setup) in &network.vlans {
            if let Some(vni) = setup.vni.and_then(|vni| vtep::Vni::new(vni.get())) {
                directory.add_network(crate::network::vlan_id(vlan), vni)?;
            }
        }
        for (address, setup) in &network.remotes {
            if let Some(&id) = self.remotes.get(address) {
                directory.add_remote(*address, id, setup.vlans.clone())?;
            }
        }
        Ok(Arc::new(directory))
    }
}
