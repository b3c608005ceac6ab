//! The side of a takeover that is taken over: it serves until another daemon surely does (`takeover` tells how).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use mio::Token;
use serde_json::Value;
use vswitch_api::monitor::What;
use vswitch_api::{Code, Offload, PortName, RpcError, Takeover};

use super::answer::{Answer, json};
use super::{Control, ControlError};
use crate::clock;
use crate::counters::Counters;
use crate::store::StoreError;
use crate::takeover::{FORMAT, Kept, Learned, Name, PortRecord, Snapshot, TakeoverError, Tally, VtepRecord};
use crate::worker::PortStats;

/// How long the other may take to prepare itself; frames move meanwhile.
const PREPARING: Duration = Duration::from_secs(10);
/// How long frames may wait for it.
const PAUSED: Duration = Duration::from_secs(2);
/// How long a process that is killed may take to let go of what it held.
const DYING: Duration = Duration::from_millis(500);
/// How much older than the snapshot a stamp may be that was set after it: stamps are rounded down, to 17 ms.
const STAMP: Duration = Duration::from_millis(100);

/// A takeover under way.
#[derive(Debug)]
pub(super) struct Handover {
    heir: Token,
    begun: vswitch_core::Instant,
    /// When the next word must have come.
    until: Instant,
    is_paused: bool,
}

impl Control {
    /// What another daemon's words come to; the descriptors go to `descriptors`.
    pub(super) fn hand_over(&mut self, client: Token, word: Takeover, descriptors: &mut Vec<OwnedFd>) -> Answer {
        match (word, &self.handover) {
            (Takeover::Begin { .. }, _) if self.not_under_way().is_err() => Err(under_way()),
            (Takeover::Begin { format }, _) => {
                let (snapshot, sent) = self.begin(client, format)?;
                *descriptors = sent;
                Ok(snapshot)
            }
            (Takeover::Pause {}, Some(handover)) if handover.heir == client && !handover.is_paused => self.pause(),
            (Takeover::Commit {}, Some(handover)) if handover.heir == client && handover.is_paused => self.commit(),
            (Takeover::Pause {} | Takeover::Commit {}, _) => {
                let message = "takeover.begin, takeover.pause and takeover.commit come in this order, from one client";
                Err(RpcError::new(Code::Conflict, message))
            }
        }
    }

    /// Refuses changes while a takeover is under way: they would be lost.
    pub(super) fn not_under_way(&self) -> Result<(), RpcError> {
        if self.handover.is_some() || self.is_handed_over { Err(under_way()) } else { Ok(()) }
    }

    pub(super) fn heir(&self) -> Option<Token> {
        self.handover.as_ref().map(|handover| handover.heir)
    }

    /// Whether another daemon is about to serve.
    pub(super) fn is_paused(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.is_paused)
    }

    /// Gives up a takeover whose other side fell silent; says how long it may be silent yet. `None` where none is under way.
    pub(super) fn tend_takeover(&mut self) -> Option<Duration> {
        let left = self.handover.as_ref()?.until.saturating_duration_since(Instant::now());
        if left > Duration::ZERO {
            return Some(left);
        }
        self.decide_who_serves("the other fell silent");
        None
    }

    fn begin(&mut self, heir: Token, format: u32) -> Result<(Value, Vec<OwnedFd>), RpcError> {
        if format != FORMAT {
            let message = format!(
                "this vswitchd hands over in form {FORMAT}, not {format}: stop it and start the other without --takeover, \
                 which keeps the interfaces too"
            );
            return Err(RpcError::new(Code::Conflict, message));
        }
        let begun = clock::now();
        let (names, sent) = self.descriptors()?.into_iter().unzip();
        let snapshot = json(self.snapshot(names)?)?;
        self.handover = Some(Handover { heir, begun, until: Instant::now() + PREPARING, is_paused: false });
        self.tell(What::TakeoverBegun {});
        tracing::info!("another daemon is about to take over");
        Ok((snapshot, sent))
    }

    fn pause(&mut self) -> Answer {
        let Some(handover) = &mut self.handover else { return Err(under_way()) };
        handover.until = Instant::now() + PAUSED;
        handover.is_paused = true;
        let since = handover.begun - STAMP;
        self.let_metrics_in(false);
        let paused_at = clock::now();
        self.workers.pause().map_err(ControlError::from)?;
        let tally = json(Tally { paused_at: paused_at.as_nanos(), ..self.tally(Some(since))? })?;
        // Last, so that the other cannot have it before it was told what to do with it.
        self.store.release().map_err(ControlError::from)?;
        Ok(tally)
    }

    fn commit(&mut self) -> Answer {
        if !self.is_other_in_charge(Duration::ZERO) {
            self.go_on("it said that it serves, and does not hold the state directory");
            let message = "take the lock on the state directory before takeover.commit; this vswitchd serves on";
            return Err(RpcError::new(Code::Conflict, message));
        }
        self.handover = None;
        self.hand_on();
        Ok(Value::Null)
    }

    /// From here on the other serves.
    fn hand_on(&mut self) {
        self.is_handed_over = true;
        self.tell(What::TakeoverDone {});
        let capture = "another vswitchd has taken over: capture again to see what it does";
        self.end_feeds(capture, "another vswitchd has taken over");
    }

    /// The other left, or fell silent: whoever holds the state directory serves.
    pub(super) fn decide_who_serves(&mut self, why: &'static str) {
        match &self.handover {
            Some(handover) if handover.is_paused && self.is_other_in_charge(DYING) => {
                self.handover = None;
                self.hand_on();
            }
            Some(_) => self.go_on(why),
            None => {}
        }
    }

    /// Whether another process holds the state directory, which may take a while to tell of one that dies just now. Where
    /// none does, this one holds it again.
    fn is_other_in_charge(&self, patience: Duration) -> bool {
        let start = Instant::now();
        loop {
            match self.store.take() {
                Ok(()) => return false,
                Err(StoreError::Taken(_)) if start.elapsed() >= patience => return true,
                Err(StoreError::Taken(_)) => thread::sleep(Duration::from_millis(1)),
                Err(error) => {
                    tracing::error!(%error, "the state directory cannot be locked again");
                    return false;
                }
            }
        }
    }

    fn go_on(&mut self, why: &'static str) {
        self.handover = None;
        self.tell(What::TakeoverFailed { why: why.to_owned() });
        self.let_metrics_in(true);
        if let Err(error) = self.workers.resume() {
            tracing::error!(%error, "the workers do not go on");
        }
        tracing::warn!(why, "a takeover was not completed: this vswitchd serves on");
    }

    /// Leaves all that cannot be told from descriptors to the next daemon, by the service manager. No frame moves after it.
    pub(super) fn leave(&mut self) -> Result<(), RpcError> {
        if !self.manager.is_there() {
            return Ok(());
        }
        self.workers.pause().map_err(ControlError::from)?;
        let kept = Kept { snapshot: self.snapshot(Vec::new())?, tally: self.tally(None)? };
        self.manager.leave(&kept);
        Ok(())
    }

    /// All descriptors of the switch.
    fn descriptors(&self) -> Result<Vec<(Name, OwnedFd)>, RpcError> {
        let failed = |error| RpcError::new(Code::Host, format!("descriptors cannot be handed over: {error}"));
        let names: BTreeMap<_, _> = self.live.iter().map(|(name, port)| (port.id, name)).collect();
        let mut all = Vec::new();
        let numbers = 0_u16..;
        let workers = self.workers.each_with(numbers, |worker, number| worker.datapath.descriptors(number));
        for worker in workers.map_err(ControlError::from)? {
            let worker = worker.map_err(failed)?;
            let taps = worker.taps.into_iter();
            all.extend(taps.filter_map(|(id, queue)| Some((Name::Tap((*names.get(&id)?).clone()), queue))));
            all.extend(worker.vxlan);
        }
        if let Some(listener) = &self.listener {
            all.push((Name::Control, listener.try_clone().map_err(failed)?));
        }
        if let Some(metrics) = &self.metrics {
            all.push((Name::Metrics, metrics.listener().map_err(failed)?));
        }
        Ok(all)
    }

    fn snapshot(&self, descriptors: Vec<Name>) -> Result<Snapshot, RpcError> {
        let learned = self.ask(|worker| {
            let entries = worker.datapath.switch_mut().fdb_entries();
            entries.filter_map(|entry| Learned::new(&entry)).collect()
        })?;
        let carried = self.ask(|worker| worker.datapath.carried_by())?;
        let vtep = self.site.underlay.zip(carried).map(|(underlay, carried)| VtepRecord {
            ip: underlay.address,
            port: self.vtep_port,
            index: underlay.index,
            mtu: underlay.mtu,
            carried,
        });
        let port = |(name, port): (&vswitch_api::PortName, &super::LivePort)| PortRecord {
            name: name.clone(),
            id: port.id.get(),
            offloads: super::answer::offloads(port.offloads),
        };
        Ok(Snapshot {
            format: FORMAT,
            state_dir: self.store.place().map_err(ControlError::from)?,
            workers: u16::try_from(self.workers.count().get()).unwrap_or(u16::MAX),
            desired: self.desired.clone(),
            ports: self.live.iter().map(port).collect(),
            vtep,
            remotes: self.remotes.iter().map(|(ip, id)| (*ip, id.get())).collect(),
            learned,
            removes_socket: self.removes_socket,
            descriptors,
        })
    }

    /// What was counted, and the addresses seen `since`, of workers that are paused.
    fn tally(&self, since: Option<vswitch_core::Instant>) -> Result<Tally, RpcError> {
        let mut counted = PortStats::default();
        for stats in self.workers.each(|worker| worker.datapath.own_stats()).map_err(ControlError::from)? {
            counted.add(&stats);
        }
        let seen = self.ask(move |worker| {
            let Some(since) = since else { return Vec::new() };
            let entries = worker.datapath.switch_mut().fdb_entries().filter_map(|entry| Learned::new(&entry));
            entries.filter(|learned| learned.is_seen_since(since)).collect()
        })?;
        let names: BTreeMap<_, _> = self.live.iter().map(|(name, port)| (port.id, name.as_str())).collect();
        let shown = |id| names.get(id).copied().unwrap_or_default();
        let ports = counted.ports.iter().map(|(id, counters)| (id.get(), counters.shown(shown(id))));
        Ok(Tally {
            paused_at: 0,
            ports: ports.collect(),
            before: self.counted_before.iter().map(|(name, counters)| counters.shown(name.as_str())).collect(),
            tunnel: counted.tunnel.shown(""),
            fdb: self.ask(|worker| worker.datapath.fdb_usage().counters)?.into(),
            seen,
        })
    }

    /// Learns what the daemon before had learned.
    pub(crate) fn restore_learned(&mut self, learned: Vec<Learned>) -> Result<(), ControlError> {
        self.restore_all(learned, Tally::default())
    }

    /// Goes on from where the daemon before stopped; its addresses and those of `tally` are learned here.
    pub(crate) fn restore_tally(&mut self, tally: Tally) -> Result<(), ControlError> {
        self.restore_all(Vec::new(), tally)
    }

    fn restore_all(&mut self, learned: Vec<Learned>, tally: Tally) -> Result<(), ControlError> {
        let Tally { paused_at: _, ports, before, tunnel, fdb, seen } = tally;
        // Those of a port that is lost here wait for it.
        let is_live = |id: &u16| self.live.values().any(|port| port.id.get() == *id);
        let (ports, lost): (Vec<_>, Vec<_>) = ports.into_iter().partition(|(id, _)| is_live(id));
        for shown in before.into_iter().chain(lost.into_iter().map(|(_, shown)| shown)) {
            if let Ok(name) = shown.port.parse::<PortName>() {
                self.counted_before.entry(name).or_default().add(&Counters::from_shown(&shown));
            }
        }
        let ports =
            ports.iter().map(|(id, shown)| (vswitch_core::switch::PortId::new(*id), Counters::from_shown(shown)));
        let stats = PortStats { ports: ports.collect(), tunnel: Counters::from_shown(&tunnel), ..PortStats::default() };
        let entries = learned.into_iter().chain(seen).filter_map(Learned::entry).collect();
        Ok(self.workers.one(move |worker| {
            worker.datapath.switch_mut().fdb_restore(entries, fdb.into());
            worker.datapath.restore_stats(&stats);
        })?)
    }

    /// Tells the service manager that this process serves, and waits until it has heard it.
    pub(crate) fn announce(&self) {
        self.manager.ready();
        self.manager.settle();
    }

    /// Lets the workers, which were started paused, read their first frame.
    pub(crate) fn let_frames_in(&self) -> Result<(), ControlError> {
        Ok(self.workers.resume()?)
    }

    /// Takes the state directory, and lets the workers read their first frame.
    pub(crate) fn take_charge(&self) -> Result<(), TakeoverError> {
        self.store.take().map_err(|_| TakeoverError::TooLate)?;
        Ok(self.workers.resume()?)
    }
}

pub(super) fn under_way() -> RpcError {
    RpcError::new(Code::Busy, "a takeover is under way: try again in a moment")
}

/// What the kernel granted, from how it is shown.
pub(crate) fn granted(shown: &[Offload]) -> vswitch_sys::Offloads {
    let has = |offload| shown.contains(&offload);
    vswitch_sys::Offloads {
        checksum: has(Offload::Checksum),
        tso4: has(Offload::Tso4),
        tso6: has(Offload::Tso6),
        tso_ecn: has(Offload::TsoEcn),
        uso: has(Offload::Uso),
    }
}
