//! One worker's switch: its queues of all ports, its tunnel, and the buffers of one turn. What happens in a turn is in `journey`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use crossbeam_channel::Sender;
use vswitch_api::{Carried, PortName};
use vswitch_core::switch::{Guard, PortId, PortMode, Switch};
use vswitch_core::{Frame, Instant};
use vswitch_sys::TapQueue;
use vtep::{Directory, Failure, Run};

use super::alarms::Alarms;
use super::asking::Watch;
use super::batch::Batch;
use super::flaps::FlapLog;
use super::load::Load;
use super::neighbours::Neighbours;
use super::outbox::Outbox;
use super::oversize::Oversize;
use super::ports::{Device, Port, Ports};
use crate::bounds::Bounds;
use crate::counters::Counters;
use crate::health::{Heard, Keys};
use crate::observe::Observer;
use crate::port::OamCounters;
use crate::port::carrier::Entrance;
use crate::port::tap::{Scissors, TapPort};
use crate::port::tunnel::{Remote, TunnelPort};
use crate::takeover::Name;

/// The switch with its ports, and the buffers of one turn.
#[derive(Debug)]
pub(crate) struct Datapath {
    pub(super) switch: Switch,
    pub(super) ports: Ports,
    pub(super) tunnel: Option<TunnelPort>,
    pub(super) batch: Batch,
    pub(super) outbox: Outbox,
    pub(super) oversize: Vec<Oversize>,
    pub(super) failures: Vec<Failure>,
    pub(super) scissors: Scissors,
    pub(super) run: Run,
    /// Copies that each of the frames last taken from the tunnel went out in; at least 1.
    pub(super) tunnel_spread: usize,
    /// A port was lost since the control thread was last told.
    pub(super) has_news: bool,
    /// What limits have this worker do later.
    pub(super) alarms: Alarms,
    /// Ports to wait on again, which were left alone for a limit.
    pub(super) let_in: Vec<PortId>,
    /// For frames that waited.
    pub(super) spare: Option<Frame>,
    /// Who looks on, where anybody does.
    pub(super) observer: Option<Box<Observer>>,
    /// Who was heard where.
    pub(super) neighbours: Neighbours,
    /// Answers that are waited for.
    pub(super) watches: Vec<Watch>,
    flap_log: FlapLog,
    pub(super) load: Load,
    bounds: Bounds,
}

/// What was counted, by port and for the VXLAN side.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortStats {
    pub(crate) ports: BTreeMap<PortId, Counters>,
    /// The part of the VXLAN side's that is each remote's; it begins again with a takeover.
    pub(crate) remotes: BTreeMap<PortId, Counters>,
    pub(crate) tunnel: Counters,
}

/// Descriptors of what one worker has, for another process to go on with.
#[derive(Debug)]
pub(crate) struct WorkerDescriptors {
    pub(crate) taps: Vec<(PortId, OwnedFd)>,
    pub(crate) vxlan: Vec<(Name, OwnedFd)>,
}

/// The FDB: how many addresses there are and may be, and what happened to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FdbUsage {
    pub(crate) used: u64,
    pub(crate) bounds: Bounds,
    pub(crate) counters: vswitch_core::switch::Counters,
}

impl PortStats {
    /// Adds what another worker counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (&id, counters) in &other.ports {
            self.ports.entry(id).or_default().add(counters);
        }
        for (&id, counters) in &other.remotes {
            self.remotes.entry(id).or_default().add(counters);
        }
        self.tunnel.add(&other.tunnel);
    }
}

impl Datapath {
    /// One for each worker, each with its tunnel: switches without ports that share their addresses. `seed` makes their
    /// hashing unforeseeable.
    pub(crate) fn siblings(tunnels: Vec<Option<TunnelPort>>, bounds: Bounds, seed: u64) -> Vec<Self> {
        let mut first = Switch::new(bounds.fdb, seed);
        first.set_storm_limit(bounds.storm);
        tunnels.into_iter().map(|tunnel| Self::new(first.sibling(), bounds, tunnel)).collect()
    }

    fn new(switch: Switch, bounds: Bounds, tunnel: Option<TunnelPort>) -> Self {
        Self {
            switch,
            ports: Ports::default(),
            tunnel,
            batch: Batch::new(),
            outbox: Outbox::default(),
            oversize: Vec::new(),
            failures: Vec::new(),
            scissors: Scissors::default(),
            run: Run::default(),
            tunnel_spread: 1,
            has_news: false,
            alarms: Alarms::default(),
            let_in: Vec::new(),
            spare: None,
            observer: None,
            neighbours: Neighbours::default(),
            watches: Vec::new(),
            flap_log: FlapLog::default(),
            load: Load::default(),
            bounds,
        }
    }

    /// The switch, for what concerns no device: FDB entries, ageing, learning.
    pub(crate) fn switch_mut(&mut self) -> &mut Switch {
        &mut self.switch
    }

    pub(crate) fn add_tap(&mut self, id: PortId, name: &PortName, tap: TapPort, mode: PortMode, guard: Guard) {
        self.ports.set(id, format!("port {name}"), Device::Tap(tap));
        if let Some(observer) = &mut self.observer {
            observer.name(id, name.as_str(), false);
        }
        self.switch.add_port(id, mode);
        self.switch.set_guard(id, guard);
    }

    pub(crate) fn set_tap(&mut self, id: PortId, mtu: u16, mode: PortMode) {
        if let Some((tap, _)) = self.ports.tap_mut(id) {
            tap.set_mtu(mtu);
            // A lost port stays out of the switch: nothing can be sent to it.
            self.switch.set_port_mode(id, mode);
        }
    }

    pub(crate) fn set_remote(&mut self, id: PortId, to: SocketAddr, mode: PortMode) {
        self.ports.set(id, format!("remote {}", to.ip()), Device::Remote(Remote::new(to)));
        if let Some(observer) = &mut self.observer {
            observer.name(id, &format!("remote {}", to.ip()), true);
        }
        self.switch.add_port(id, mode);
    }

    /// Removes a port with what waits for it; returns what a TAP's counted in all, with that.
    pub(crate) fn remove(&mut self, id: PortId) -> Counters {
        self.drop_waiting(id);
        self.switch.remove_port(id);
        self.alarms.forget(id);
        self.neighbours.forget(id);
        self.let_in.retain(|&port| port != id);
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.forget(id, self.observer.as_deref_mut());
        }
        if let Some(observer) = &mut self.observer {
            observer.forget(id);
        }
        match (self.ports.remove(id), &mut self.tunnel) {
            (Some(Port { device: Device::Tap(_), counters, .. }), _) => return counters,
            // What a remote counted stays with the tunnel: its row must never run backwards.
            (Some(Port { device: Device::Remote(_), counters, .. }), Some(tunnel)) => {
                tunnel.counters_mut().add(&counters);
            }
            _ => {}
        }
        Counters::default()
    }

    /// Makes `directory` the one that says which VNI and which sender is whose.
    pub(crate) fn set_directory(&mut self, directory: Arc<Directory>) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.set_directory(directory);
        }
    }

    pub(crate) fn tap(&self, id: PortId) -> Option<&TapQueue> {
        match &self.ports.get(id)?.device {
            Device::Tap(tap) => Some(tap.queue()),
            Device::Remote(_) => None,
        }
    }

    /// Has what is heard of our probes passed on.
    pub(crate) fn pass_on(&mut self, keys: Keys, heard: Sender<Heard>) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.desk_mut().pass_on(keys, heard);
        }
    }

    /// Messages between VTEPs.
    pub(crate) fn oam_counters(&self) -> OamCounters {
        self.tunnel.as_ref().map(|tunnel| tunnel.desk().counters()).unwrap_or_default()
    }

    /// How VXLAN leaves and enters the host, where it does.
    pub(crate) fn carried_by(&self) -> Option<Carried> {
        self.tunnel.as_ref().map(TunnelPort::carried_by)
    }

    /// Where the tunnel's datagrams come in, each to be waited on.
    pub(crate) fn entrances(&self) -> Vec<(Entrance, RawFd)> {
        self.tunnel.as_ref().map(TunnelPort::entrances).unwrap_or_default()
    }

    /// The ports whose device is gone.
    pub(crate) fn lost(&self) -> Vec<PortId> {
        let lost = self.ports.iter().filter(|(_, port)| matches!(&port.device, Device::Tap(tap) if tap.is_lost()));
        lost.map(|(id, _)| id).collect()
    }

    /// How busy this worker is, as of `now`.
    pub(crate) fn load(&mut self, now: Instant) -> Load {
        self.load.read(now)
    }

    pub(crate) fn fdb_usage(&self) -> FdbUsage {
        FdbUsage { used: self.switch.fdb_len() as u64, bounds: self.bounds, counters: self.switch.counters() }
    }

    pub(crate) fn stats(&self) -> PortStats {
        self.stats_with(self.tunnel.as_ref().map(TunnelPort::counters))
    }

    /// Frames that came from each of `remotes`, in their order; none from one that is not there.
    pub(crate) fn received_from(&self, remotes: &[PortId]) -> Vec<u64> {
        let frames =
            |id: &PortId| self.ports.get(*id).map_or(0, |port| port.counters.rx_frames - port.counters.messages());
        remotes.iter().map(frames).collect()
    }

    fn stats_with(&self, tunnel: Option<Counters>) -> PortStats {
        let mut stats = PortStats { tunnel: tunnel.unwrap_or_default(), ..PortStats::default() };
        for (id, port) in self.ports.iter() {
            match port.device {
                Device::Tap(_) => {
                    stats.ports.insert(id, port.counters.clone());
                }
                Device::Remote(_) => {
                    stats.tunnel.add(&port.counters);
                    stats.remotes.insert(id, port.counters.clone());
                }
            }
        }
        stats
    }

    /// Other descriptors of this worker's queues and of what carries VXLAN for it, worker number `worker`.
    pub(crate) fn descriptors(&self, worker: u16) -> io::Result<WorkerDescriptors> {
        let tap = |(id, port): (PortId, &Port)| match &port.device {
            Device::Tap(tap) => Some(tap.queue().try_clone().map(|queue| (id, queue.into()))),
            Device::Remote(_) => None,
        };
        let taps = self.ports.iter().filter_map(tap).collect::<io::Result<_>>()?;
        let vxlan = self.tunnel.as_ref().map(|tunnel| tunnel.descriptors(worker)).transpose()?.unwrap_or_default();
        Ok(WorkerDescriptors { taps, vxlan })
    }

    /// What [`Self::stats`] tells, without what the tunnel's descriptors tell themselves: for another process that goes on
    /// with them.
    pub(crate) fn own_stats(&self) -> PortStats {
        let tunnel = self.tunnel.as_ref().map(TunnelPort::own_counters);
        self.stats_with(tunnel)
    }

    /// Goes on counting from `stats`.
    pub(crate) fn restore_stats(&mut self, stats: &PortStats) {
        for (&id, counters) in &stats.ports {
            if let Some(port) = self.ports.get_mut(id) {
                port.counters.add(counters);
            }
        }
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.counters_mut().add(&stats.tunnel);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let observer = self.observer.as_ref().and_then(|observer| observer.deadline());
        [self.switch.poll_timeout(), self.alarms.next(), observer].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(observer) = &mut self.observer {
            observer.tend(now);
        }
        self.switch.handle_timeout(now);
        if self.alarms.next().is_some_and(|at| at <= now) {
            self.heed_alarms(now);
        }
    }

    /// Tells the log what frames have shown that people should know, and those who look on what they saw.
    pub(crate) fn tell(&mut self, now: Instant) {
        self.flap_log.tell(now, &self.switch, &self.ports);
        self.tell_observers();
    }

    /// Tells those who look on what they saw.
    pub(crate) fn tell_observers(&mut self) {
        if let Some(observer) = &mut self.observer
            && !observer.flush()
        {
            self.observer = None;
        }
    }

    /// Who looks on, one who is new to it where nobody did.
    pub(crate) fn observer(&mut self, now: Instant) -> &mut Observer {
        let named = self.ports.iter().map(|(id, port)| {
            let (is_remote, name) = (matches!(port.device, Device::Remote(_)), port.name.as_str());
            (id, name.strip_prefix("port ").unwrap_or(name), is_remote)
        });
        self.observer.get_or_insert_with(|| Observer::new(now, named))
    }

    /// Who looks on, where anybody does.
    pub(crate) fn observed(&self) -> Option<&Observer> {
        self.observer.as_deref()
    }
}
