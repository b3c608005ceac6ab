//! Answers to requests, in the fields that scripts rely on.

use std::collections::BTreeMap;
use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::Token;
use serde::Serialize;
use serde_json::Value;
use vswitch_api::monitor::Place;
use vswitch_api::reply::TUNNEL;
use vswitch_api::request::FdbFilter;
use vswitch_api::{
    Change as Wish, Code, Desired, FdbInfo, FdbTarget, FlappingInfo, Flushed, LimitsInfo, Mac, ModeInfo, Offload,
    PeerInfo, PeerStats, PeerVlans, PortInfo, PortName, PortSpec, PortState, Query, Request, RpcError, Stats, Status,
    Vid, VlanInfo, VtepInfo, WorkerInfo, rpc,
};
use vswitch_core::switch::{FdbKind, History, PortId};

use super::access::{Access, Peer};
use super::server::{End, Line, Server, ServerError, Service};
use super::{Control, ControlError};
use crate::clock;
use crate::counters::Counters;
use crate::drops::Drop as DropReason;
use crate::network::{PortSetup, vlan_id};
use crate::worker::{Load, PortStats as WorkerStats};

pub(super) type Answer = Result<Value, RpcError>;

/// The control thread, and who may ask what of it.
struct Desk<'a>(&'a mut Control, Access);

impl Service for Desk<'_> {
    fn answer(&mut self, client: Token, line: Line<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        let Self(control, access) = self;
        let mut sent = Vec::new();
        let (id, answer) = match rpc::read_request(line.bytes) {
            Ok((id, Request::Takeover(word))) => {
                (id, access.check_takeover(line.peer).and_then(|()| control.hand_over(client, word, &mut sent)))
            }
            Ok((id, request)) => {
                let answer = control.answer_to(access, line.peer, &request, line.fds);
                control.tell_changes();
                (id, answer)
            }
            Err((id, error)) => (id, Err(error)),
        };
        let answer = rpc::write_answer(id, answer).unwrap_or_else(|error| {
            tracing::error!(%error, "an answer could not be written");
            Vec::new()
        });
        (answer, sent)
    }

    fn tend(&mut self, news: bool) -> Option<Duration> {
        let control = &mut *self.0;
        control.lost.has_news |= news;
        control.tell_metrics();
        let left = control.tend_takeover();
        if control.is_handed_over {
            return None; // lost ports are another's to look after
        }
        let probes = control.tend_probes();
        let left = left.or_else(|| control.tend_lost_ports());
        left.into_iter().chain(probes).chain(control.tend_monitors()).min()
    }

    fn heir(&self) -> Option<Token> {
        self.0.heir()
    }

    fn heir_left(&mut self) {
        self.0.decide_who_serves("the other left");
    }

    fn lets_in(&self) -> bool {
        !self.0.is_paused() && !self.0.is_handed_over
    }

    fn is_handed_over(&self) -> bool {
        self.0.is_handed_over
    }
}

impl Control {
    /// Answers every client of `server` until a signal comes or another daemon serves.
    pub(crate) fn serve(&mut self, server: &mut Server) -> Result<End, ServerError> {
        self.listener =
            server.listener().map_err(|error| tracing::warn!(%error, "the control socket cannot be handed over")).ok();
        self.removes_socket = server.removes_file();
        self.manager.ready();
        let access = server.access().clone();
        match server.run(&mut Desk(self, access))? {
            End::Signal => self.decide_who_serves("a signal ends this one"),
            End::HandedOver => {}
        }
        if self.is_handed_over {
            return Ok(End::HandedOver);
        }
        self.end_feeds("vswitchd ends", "vswitchd ends");
        self.manager.stopping();
        if let Err(error) = self.leave() {
            tracing::warn!(%error, "what was learned and counted cannot be left to the next daemon");
        }
        Ok(End::Signal)
    }

    fn answer_to(&mut self, access: &Access, peer: Peer, request: &Request, fds: &mut Vec<OwnedFd>) -> Answer {
        if request.writes() {
            access.check(peer)?;
            self.not_under_way()?;
        }
        if self.not_under_way().is_ok() {
            match request {
                // Of the dead it needs to know only where one is in its way.
                Request::Change(Wish::AttachmentAdd(_)) => {}
                Request::Query(Query::AttachmentList { .. } | Query::PoolShow { .. }) => {
                    self.look_after_lost_ports().map_err(RpcError::from)?;
                }
                // Those that no worker has told of yet.
                _ => self.let_lost_ports_go().map_err(RpcError::from)?,
            }
        }
        match request {
            Request::Change(Wish::PortAdd(spec)) => json(self.add_port(spec, mem::take(fds)).map_err(RpcError::from)?),
            Request::Change(Wish::AttachmentAdd(attach)) => {
                json(self.attach(attach, mem::take(fds)).map_err(RpcError::from)?)
            }
            Request::Change(wish @ Wish::AttachmentDel { container, ifname, lost, .. }) => {
                json(self.detach(wish, (container, ifname), *lost).map_err(RpcError::from)?)
            }
            Request::Query(Query::AttachmentPlan(attach)) => {
                json(self.plan_attachment(attach).map_err(RpcError::from)?)
            }
            Request::Query(Query::Why(ask)) => json(self.why(ask)?),
            Request::Query(Query::Monitor(asks)) => self.listen(asks, peer.uid, mem::take(fds)),
            Request::Query(Query::PeerProbe(ask)) => json(self.probe(ask)?),
            Request::Change(wish) => json(self.change(wish).map_err(RpcError::from)?),
            Request::Flush(filter) => json(self.flush(filter)?),
            Request::Query(query) => self.query(query),
            Request::Observe(observe) => self.observe(observe, mem::take(fds)),
            Request::Takeover(_) => Err(RpcError::new(Code::Internal, "a takeover is answered elsewhere")),
        }
    }

    fn query(&self, query: &Query) -> Answer {
        match query {
            Query::PortList {} => json(self.desired.ports().map(|spec| self.port_info(spec)).collect::<Vec<_>>()),
            Query::PortShow { name } => json(self.port_info(self.port(name)?)),
            Query::PortPlan(spec) => json(self.plan_port(spec).map_err(RpcError::from)?),
            Query::AttachmentPlan(_) => Err(RpcError::new(Code::Internal, "a plan is answered elsewhere")),
            Query::AttachmentList { network } => json(self.attachments(network.as_ref())),
            Query::PoolShow { vlan, pools } => json(self.pools(*vlan, pools)?),
            Query::VlanList {} => {
                json(self.desired.known_vlans().into_iter().map(|vlan| self.vlan_info(vlan)).collect::<Vec<_>>())
            }
            Query::VtepShow {} => json(self.vtep_info()?),
            Query::PeerList {} => json(self.peers()),
            Query::FdbList(filter) => json(self.fdb(filter)?),
            Query::Trace(ask) => json(self.trace(ask)?),
            Query::Why(_) => Err(RpcError::new(Code::Internal, "why is answered elsewhere")),
            Query::PeerProbe(_) => Err(RpcError::new(Code::Internal, "a probe is answered elsewhere")),
            Query::Monitor(_) => Err(RpcError::new(Code::Internal, "who listens is answered elsewhere")),
            Query::NeighbourList {} => json(self.neighbours()?),
            Query::Stats { port } => json(self.stats(port.as_deref())?),
            Query::WorkerList {} => json(self.loads()?),
            Query::Status {} => json(self.status()?),
        }
    }

    pub(super) fn port(&self, name: &PortName) -> Result<&PortSpec, RpcError> {
        self.desired.port(name).ok_or_else(|| no_port(name.as_str()))
    }

    /// Asks one worker, for all know the same of it.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut crate::worker::Worker) -> R + Send + 'static,
    ) -> Result<R, RpcError> {
        self.workers.one(work).map_err(|error| ControlError::from(error).into())
    }

    pub(super) fn port_info(&self, spec: &PortSpec) -> PortInfo {
        let setup = self.network.ports.get(&spec.name).map(AsRef::as_ref);
        port_info(spec, setup, self.live.get(&spec.name).map(|port| port.offloads))
    }

    pub(super) fn vlan_info(&self, vlan: Vid) -> VlanInfo {
        vlan_info(&self.desired, vlan)
    }

    fn vtep_info(&self) -> Result<VtepInfo, RpcError> {
        Ok(VtepInfo {
            ip: self.vtep_ip(),
            port: self.vtep_port,
            underlay_mtu: self.site.underlay.map(|underlay| underlay.mtu.into()),
            overlay_mtu: self.site.underlay.map(|underlay| underlay.inner_mtu().into()),
            underlay: self.ask(|worker| worker.datapath.carried_by())?,
            peers: self.desired.peers().count(),
        })
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        self.desired.peers().map(|peer| self.peer_info(peer)).collect()
    }

    pub(super) fn peer_info(&self, peer: &vswitch_api::PeerSpec) -> PeerInfo {
        let vlans = self.desired.vlans().map(|spec| spec.vlan);
        PeerInfo {
            ip: peer.ip,
            all_vlans: peer.vlans == PeerVlans::All,
            vlans: vlans.filter(|&vlan| self.desired.is_peer_in(peer.ip, vlan)).collect(),
            health: self.health(peer.ip),
        }
    }

    fn fdb(&self, filter: &FdbFilter) -> Result<Vec<FdbInfo>, RpcError> {
        let port = self.filtered_port(filter)?;
        if filter.port.is_some() && port.is_none() {
            return Ok(Vec::new());
        }
        let vlan = filter.vlan.map(vlan_id);
        let wanted = |(entry, _): &(vswitch_core::switch::FdbEntry, Option<History>)| {
            vlan.is_none_or(|vlan| entry.vlan == vlan) && port.is_none_or(|port| entry.port == port)
        };
        let entries = self.addresses.fdb_histories().filter(wanted);
        let now = self.ask(|worker| worker.now())?;
        let targets = self.targets();
        let info = |(entry, history): (vswitch_core::switch::FdbEntry, Option<History>)| {
            let age = match entry.kind {
                FdbKind::Static => None,
                FdbKind::Learned { last_seen } => Some(now.since(last_seen).as_secs()),
            };
            let (mac, vlan) = (Mac::new(entry.mac.0).ok()?, Vid::new(entry.vlan.get()).ok()?);
            let flapping = entry.flapping.map(|flapping| {
                let held_s = flapping.until.since(now).as_millis().div_ceil(1000);
                FlappingInfo::new(targets.get(&flapping.other).cloned(), u64::try_from(held_s).unwrap_or(u64::MAX))
            });
            let moved = history.and_then(|history| history.moved);
            let moves = moved.map_or(0, |moved| moved.times);
            let moved_from = moved.and_then(|moved| targets.get(&moved.from)).map(ToString::to_string);
            let learned_s = history.map(|history| now.since(history.learned).as_secs());
            Some(FdbInfo {
                flapping,
                moves,
                moved_from,
                learned_s,
                ..FdbInfo::new(mac, vlan, targets.get(&entry.port)?.clone(), age)
            })
        };
        let mut fdb: Vec<_> = entries.filter_map(info).collect();
        fdb.sort_unstable_by_key(|entry| (entry.vlan, entry.mac));
        Ok(fdb)
    }

    /// What each number stands for.
    pub(super) fn targets(&self) -> BTreeMap<PortId, FdbTarget> {
        let ports = self.live.iter().map(|(name, port)| (port.id, FdbTarget::Port(name.clone())));
        let remotes = self.remotes.iter().map(|(address, id)| (*id, FdbTarget::Remote(*address)));
        ports.chain(remotes).collect()
    }

    /// The number of the port that `filter` names; `None` where it names none, or a lost one.
    fn filtered_port(&self, filter: &FdbFilter) -> Result<Option<PortId>, RpcError> {
        let Some(name) = &filter.port else { return Ok(None) };
        self.port(name)?;
        Ok(self.live.get(name).map(|port| port.id))
    }

    fn flush(&self, filter: &FdbFilter) -> Result<Flushed, RpcError> {
        let port = self.filtered_port(filter)?;
        if filter.port.is_some() && port.is_none() {
            return Ok(Flushed { flushed: 0 });
        }
        let vlan = filter.vlan.map(vlan_id);
        let flushed = self.ask(move |worker| worker.datapath.switch_mut().fdb_flush(vlan, port))?;
        Ok(Flushed { flushed: flushed.into() })
    }

    /// What all workers counted.
    pub(super) fn counted(&self) -> Result<WorkerStats, ControlError> {
        let mut counted = WorkerStats::default();
        self.workers.each(|worker| worker.datapath.stats())?.iter().for_each(|stats| counted.add(stats));
        Ok(counted)
    }

    pub(super) fn stats(&self, only: Option<&str>) -> Result<Stats, RpcError> {
        let counted = self.counted()?;
        let row = |name: &str, counters: &Counters| counters.shown(name);
        let mut ports: Vec<_> = self
            .desired
            .ports()
            .map(|spec| {
                let mut all = self.counted_before.get(&spec.name).cloned().unwrap_or_default();
                if let Some(live) = self.live.get(&spec.name).and_then(|port| counted.ports.get(&port.id)) {
                    all.add(live);
                }
                row(spec.name.as_str(), &all)
            })
            .collect();
        ports.push(row(TUNNEL, &counted.tunnel));
        let mut peers = self.peer_stats(&counted);
        if let Some(only) = only {
            peers.clear();
            ports.retain(|row| row.port == only);
            if ports.is_empty() {
                return Err(no_port(only));
            }
        }
        let seen = |name: &str| ports.iter().any(|row| row.drops.contains_key(name));
        let reasons = DropReason::all().filter(|drop| seen(drop.name()));
        let reasons = reasons.map(|drop| (drop.name().to_owned(), drop.explanation().to_owned())).collect();
        Ok(Stats { ports, peers, reasons })
    }

    /// What each remote VTEP sent and was sent, as `counted`.
    fn peer_stats(&self, counted: &WorkerStats) -> Vec<PeerStats> {
        let of = |ip| self.remotes.get(&ip).and_then(|id| counted.remotes.get(id)).cloned().unwrap_or_default();
        self.desired.peers().map(|peer| of(peer.ip).shown_of(peer.ip)).collect()
    }

    /// How busy each worker is.
    fn loads(&self) -> Result<Vec<WorkerInfo>, RpcError> {
        Ok(self.worker_loads()?.iter().enumerate().map(|(number, load)| load.shown(number)).collect())
    }

    pub(super) fn status(&self) -> Result<Status, RpcError> {
        let fdb = self.ask(|worker| worker.datapath.fdb_usage())?;
        let ports = self.desired.ports().count();
        let (full, targets) = (self.addresses.fdb_full_ports(clock::now()), self.targets());
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            user: self.rights.user.clone(),
            capabilities: self.rights.privileges.names(),
            sandbox: self.rights.sandbox,
            uptime_s: self.started.elapsed().as_secs(),
            workers: self.workers.count().get(),
            workers_busy: self.worker_loads()?.iter().map(Load::share).collect(),
            ports,
            ports_lost: ports - self.live.len(),
            fdb_used: fdb.used,
            fdb_limit: fdb.bounds.fdb.entries.into(),
            fdb_limit_per_port: fdb.bounds.fdb.per_port.into(),
            fdb_learned: fdb.counters.learned,
            fdb_moved: fdb.counters.moved,
            fdb_aged: fdb.counters.aged,
            fdb_evicted: fdb.counters.evicted,
            fdb_limited: fdb.counters.limited,
            fdb_flapping: fdb.counters.flapping,
            fdb_full_ports: full.iter().filter_map(|port| targets.get(port)).cloned().map(Place::from).collect(),
            storm_limit: fdb.bounds.storm.map_or(0, std::num::NonZeroU32::get),
            vtep: self.vtep_info()?,
        })
    }
}

/// A port that comes to `setup`; `granted` is what the kernel leaves to us, `None` where it is lost.
pub(super) fn port_info(
    spec: &PortSpec,
    setup: Option<&PortSetup>,
    granted: Option<vswitch_sys::Offloads>,
) -> PortInfo {
    PortInfo {
        name: spec.name.clone(),
        netns: spec.netns.clone(),
        ifname: spec.ifname.clone(),
        mac: setup.and_then(|setup| Mac::new(setup.mac.0).ok()),
        addresses: spec.addresses.clone(),
        mtu: setup.map_or(0, |setup| setup.mtu),
        mode: ModeInfo::from(&spec.mode),
        state: if granted.is_some() { PortState::Up } else { PortState::Lost },
        offloads: granted.map(offloads).unwrap_or_default(),
        allow_mac: setup.and_then(|setup| setup.allow_macs.clone()),
        allow_ip: setup.and_then(|setup| setup.allow_ips.clone()),
        limits: LimitsInfo::of(&spec.limits),
        attachment: spec.attachment.clone(),
        gateway_of: spec.gateway_of.clone(),
    }
}

/// A VLAN of `desired`.
pub(super) fn vlan_info(desired: &Desired, vlan: Vid) -> VlanInfo {
    let spec = desired.vlan(vlan);
    VlanInfo {
        vlan,
        vni: spec.and_then(|spec| spec.vni),
        name: spec.and_then(|spec| spec.name.clone()),
        learning: spec.is_none_or(|spec| spec.learning),
        ports: desired.ports_in(vlan).map(|port| port.name.clone()).collect(),
        peers: desired.peers_in(vlan).collect(),
    }
}

pub(super) fn json(value: impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| RpcError::new(Code::Internal, error.to_string()))
}

pub(super) fn no_port(name: &str) -> RpcError {
    RpcError::new(Code::NotFound, format!("there is no port {name:?}; `vsctl port list` shows those there are"))
}

pub(super) fn offloads(granted: vswitch_sys::Offloads) -> Vec<Offload> {
    let vswitch_sys::Offloads { checksum, tso4, tso6, tso_ecn, uso } = granted;
    let named = [
        (checksum, Offload::Checksum),
        (tso4, Offload::Tso4),
        (tso6, Offload::Tso6),
        (tso_ecn, Offload::TsoEcn),
        (uso, Offload::Uso),
    ];
    named.into_iter().filter_map(|(on, offload)| on.then_some(offload)).collect()
}
