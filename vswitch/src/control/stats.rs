//! What was counted, and how the daemon is, as `vsctl stats`, `status` and `top` show it.

use vswitch_api::monitor::Place;
use vswitch_api::reply::TUNNEL;
use vswitch_api::{PeerStats, RpcError, Stats, Status, WorkerInfo};

use super::answer::no_port;
use super::{Control, ControlError};
use crate::clock;
use crate::counters::Counters;
use crate::drops::Drop as DropReason;
use crate::worker::{Load, PortStats as WorkerStats};

impl Control {
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
    pub(super) fn loads(&self) -> Result<Vec<WorkerInfo>, RpcError> {
        Ok(self.worker_loads()?.iter().enumerate().map(|(number, load)| load.shown(number)).collect())
    }

    /// Why changes cannot be written down now, where they cannot.
    fn refuses_changes(&self) -> Option<String> {
        // What is on disk is another's while a takeover is under way.
        self.not_under_way().ok()?;
        self.store.refusal(&self.desired, self.was_not_kept).map(|error| error.to_string())
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
            shared: self.shared(),
            refuses_changes: self.refuses_changes(),
            vtep: self.vtep_info()?,
        })
    }
}
