//! What the daemon knows at one moment, and its metrics.

#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use vswitch_api::reply::TUNNEL;
use vswitch_api::{FdbTarget, HealthState, PeerInfo, PortInfo, PortState, PortStats, Stats, Status, VlanInfo};
use vswitch_core::switch::{FdbEntry, PortId};

use super::table::{self, Metric};
use super::text::Text;
use crate::counters::Counters;
use crate::port::OamCounters;
use crate::worker::Load;

/// A metric, and where its value is.
type Counted<T> = (&'static Metric, fn(&T) -> u64);

/// All that one answer tells, as the control thread knows it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) status: Status,
    pub(crate) ports: Vec<PortInfo>,
    pub(crate) stats: Stats,
    pub(crate) vlans: Vec<VlanInfo>,
    pub(crate) peers: Vec<(PeerInfo, Counters)>,
    /// Probes sent, and what workers counted of them.
    pub(crate) probes: (u64, OamCounters),
    pub(crate) loads: Vec<Load>,
    /// What the numbers in the forwarding table stand for.
    pub(crate) targets: BTreeMap<PortId, FdbTarget>,
}

/// How many addresses there are where.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    ports: BTreeMap<PortId, u64>,
    vlans: BTreeMap<u16, u64>,
    held: u64,
}

impl Addresses {
    pub(super) fn count(entries: impl Iterator<Item = FdbEntry>) -> Self {
        let mut addresses = Self::default();
        for entry in entries {
            *addresses.ports.entry(entry.port).or_default() += 1;
            *addresses.vlans.entry(entry.vlan.get()).or_default() += 1;
            addresses.held += u64::from(entry.flapping.is_some());
        }
        addresses
    }
}

impl Reading {
    /// Tells it all.
    pub(super) fn tell(&self, addresses: &Addresses, text: &mut Text) {
        text.family(&table::BUILD).sample(&[&self.status.version], 1);
        self.tell_ports(addresses, text);
        self.tell_tunnel(text);
        self.tell_peers(addresses, text);
        self.tell_health(text);
        self.tell_vlans(addresses, text);
        self.tell_fdb(addresses, text);
        self.tell_workers(text);
    }

    fn tell_ports(&self, addresses: &Addresses, text: &mut Text) {
        text.single(&table::PORTS, self.status.ports);
        text.single(&table::PORTS_LOST, self.status.ports_lost);
        let mut family = text.family(&table::PORT_INFO);
        for port in &self.ports {
            let mode = match port.mode.vlans.as_slice() {
                [] => "access",
                _ => "trunk",
            };
            let untagged = text_of(port.mode.vlan.or(port.mode.native));
            let network = text_of(port.attachment.as_ref().map(|attachment| &attachment.network));
            let container = text_of(port.attachment.as_ref().map(|attachment| &attachment.container));
            family.sample(&[&port.name, &port.netns, &port.ifname, &mode, &untagged, &network, &container], 1);
        }
        let mut family = text.family(&table::PORT_UP);
        for port in &self.ports {
            family.sample(&[&port.name], u8::from(port.state == PortState::Up));
        }
        let rows: Vec<_> = self.stats.ports.iter().filter(|row| row.port != TUNNEL).collect();
        let counts: [Counted<PortStats>; 4] = [
            (&table::PORT_RX_FRAMES, |row| row.rx_frames),
            (&table::PORT_RX_BYTES, |row| row.rx_bytes),
            (&table::PORT_TX_FRAMES, |row| row.tx_frames),
            (&table::PORT_TX_BYTES, |row| row.tx_bytes),
        ];
        for (metric, count) in counts {
            let mut family = text.family(metric);
            rows.iter().for_each(|row| family.sample(&[&row.port], count(row)));
        }
        let mut family = text.family(&table::PORT_DROPS);
        for row in &rows {
            row.drops.iter().for_each(|(reason, count)| family.sample(&[&row.port, reason], count));
        }
        let behind: BTreeMap<_, _> = self.behind(addresses, |target| match target {
            FdbTarget::Port(name) => Some(name),
            FdbTarget::Remote(_) => None,
        });
        let mut family = text.family(&table::PORT_FDB);
        for port in &self.ports {
            family.sample(&[&port.name], behind.get(&port.name).copied().unwrap_or(0));
        }
        let mut networks: BTreeMap<_, u64> = BTreeMap::new();
        for attachment in self.ports.iter().filter_map(|port| port.attachment.as_ref()) {
            *networks.entry(attachment.network.to_string()).or_default() += 1;
        }
        let mut family = text.family(&table::ATTACHMENTS);
        networks.iter().for_each(|(network, count)| family.sample(&[network], count));
    }

    /// How many addresses are behind each of those that `which` takes.
    fn behind<'a, T: Ord>(
        &'a self,
        addresses: &Addresses,
        which: impl Fn(&'a FdbTarget) -> Option<T>,
    ) -> BTreeMap<T, u64> {
        let known = addresses.ports.iter().filter_map(|(id, count)| Some((self.targets.get(id)?, *count)));
        known.filter_map(|(target, count)| Some((which(target)?, count))).collect()
    }

    fn tell_tunnel(&self, text: &mut Text) {
        let Some(row) = self.stats.ports.iter().find(|row| row.port == TUNNEL) else { return };
        text.single(&table::TUNNEL_RX_FRAMES, row.rx_frames);
        text.single(&table::TUNNEL_RX_BYTES, row.rx_bytes);
        text.single(&table::TUNNEL_TX_FRAMES, row.tx_frames);
        text.single(&table::TUNNEL_TX_BYTES, row.tx_bytes);
        let mut family = text.family(&table::TUNNEL_DROPS);
        row.drops.iter().for_each(|(reason, count)| family.sample(&[reason], count));
    }

    fn tell_peers(&self, addresses: &Addresses, text: &mut Text) {
        text.single(&table::PEERS, self.peers.len());
        let counts: [Counted<Counters>; 4] = [
            (&table::PEER_RX_FRAMES, |counters| counters.rx_frames),
            (&table::PEER_RX_BYTES, |counters| counters.rx_bytes),
            (&table::PEER_TX_FRAMES, |counters| counters.tx_frames),
            (&table::PEER_TX_BYTES, |counters| counters.tx_bytes),
        ];
        for (metric, count) in counts {
            let mut family = text.family(metric);
            self.peers.iter().for_each(|(peer, counters)| family.sample(&[&peer.ip], count(counters)));
        }
        let mut family = text.family(&table::PEER_DROPS);
        for (peer, counters) in &self.peers {
            counters.drops().iter().for_each(|(reason, count)| family.sample(&[&peer.ip, reason], count));
        }
        let behind: BTreeMap<IpAddr, _> = self.behind(addresses, |target| match target {
            FdbTarget::Port(_) => None,
            FdbTarget::Remote(ip) => Some(*ip),
        });
        let mut family = text.family(&table::PEER_FDB);
        for (peer, _) in &self.peers {
            family.sample(&[&peer.ip], behind.get(&peer.ip).copied().unwrap_or(0));
        }
    }

    fn tell_health(&self, text: &mut Text) {
        // What somebody asked once is no series: it would stay as it is for ever.
        let probed = || {
            let known = self.peers.iter().filter_map(|(peer, _)| Some((peer.ip, peer.health.as_ref()?)));
            known.filter(|(_, health)| health.is_present())
        };
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        let mut family = text.family(&table::PEER_HEALTH);
        for (ip, health) in probed() {
            for state in HealthState::ALL {
                family.sample(&[&ip, &state.name()], u8::from(state == health.state));
            }
        }
        let mut family = text.family(&table::PEER_FINDING);
        for (ip, health) in probed() {
            let names: BTreeSet<_> = health.findings.iter().map(|finding| finding.name.as_str()).collect();
            names.iter().for_each(|name| family.sample(&[&ip, name], 1));
        }
        let mut family = text.family(&table::PEER_TRIP);
        for (ip, trip) in probed().filter_map(|(ip, health)| Some((ip, health.round_trip_us?))) {
            for (statistic, micros) in [("last", trip.last), ("p50", trip.p50), ("p99", trip.p99)] {
                family.sample(&[&ip, &statistic], seconds(micros));
            }
        }
        let mut family = text.family(&table::PEER_JITTER);
        probed()
            .filter_map(|(ip, health)| Some((ip, health.jitter_us?)))
            .for_each(|(ip, micros)| family.sample(&[&ip], seconds(micros)));
        let mut family = text.family(&table::PEER_LOSS);
        probed()
            .filter_map(|(ip, health)| Some((ip, health.loss_share?)))
            .for_each(|(ip, share)| family.sample(&[&ip], share));
        let mut family = text.family(&table::PEER_PATH_MTU);
        probed()
            .filter_map(|(ip, health)| Some((ip, health.path_mtu?)))
            .for_each(|(ip, mtu)| family.sample(&[&ip], mtu));
        let (sent, OamCounters { answered, answers, ignored }) = self.probes;
        text.single(&table::PROBES_SENT, sent);
        text.single(&table::PROBE_ANSWERS, answers);
        text.single(&table::PROBES_ANSWERED, answered);
        text.single(&table::PROBES_IGNORED, ignored);
    }

    fn tell_vlans(&self, addresses: &Addresses, text: &mut Text) {
        let mut family = text.family(&table::VLAN_INFO);
        for vlan in &self.vlans {
            family.sample(&[&vlan.vlan, &text_of(vlan.vni), &text_of(vlan.name.as_ref())], 1);
        }
        let counts: [Counted<VlanInfo>; 2] = [
            (&table::VLAN_PORTS, |vlan| vlan.ports.len() as u64),
            (&table::VLAN_PEERS, |vlan| vlan.peers.len() as u64),
        ];
        for (metric, count) in counts {
            let mut family = text.family(metric);
            self.vlans.iter().for_each(|vlan| family.sample(&[&vlan.vlan], count(vlan)));
        }
        let mut family = text.family(&table::VLAN_FDB);
        for VlanInfo { vlan, .. } in &self.vlans {
            family.sample(&[vlan], addresses.vlans.get(&vlan.get()).copied().unwrap_or(0));
        }
    }

    fn tell_fdb(&self, addresses: &Addresses, text: &mut Text) {
        let status = &self.status;
        text.single(&table::FDB, status.fdb_used);
        text.single(&table::FDB_LIMIT, status.fdb_limit);
        text.single(&table::FDB_PORT_LIMIT, status.fdb_limit_per_port);
        text.single(&table::FDB_HELD, addresses.held);
        text.single(&table::FDB_LEARNED, status.fdb_learned);
        text.single(&table::FDB_MOVED, status.fdb_moved);
        text.single(&table::FDB_AGED, status.fdb_aged);
        text.single(&table::FDB_EVICTED, status.fdb_evicted);
        text.single(&table::FDB_UNLEARNED, status.fdb_limited);
        text.single(&table::FDB_FLAPS, status.fdb_flapping);
        text.single(&table::STORM_LIMIT, status.storm_limit);
    }

    fn tell_workers(&self, text: &mut Text) {
        let mut family = text.family(&table::WORKER_BUSY);
        for (number, load) in self.loads.iter().enumerate() {
            family.sample(&[&number], load.busy().as_secs_f64());
        }
        let shown: Vec<_> = self.loads.iter().enumerate().map(|(number, load)| load.shown(number)).collect();
        let mut family = text.family(&table::WORKER_SLEEPS);
        shown.iter().for_each(|worker| family.sample(&[&worker.worker], worker.sleeps));
        let mut family = text.family(&table::WORKER_TURN);
        for (worker, load) in shown.iter().zip(&self.loads) {
            let seconds = |us| Duration::from_micros(us).as_secs_f64();
            family.histogram(&[&worker.worker], &worker.loop_us, seconds, load.busy().as_secs_f64());
        }
        let mut family = text.family(&table::WORKER_BATCH);
        for worker in &shown {
            let frames = |frames| f64::from(u32::try_from(frames).unwrap_or(u32::MAX));
            // A sum of frames: exact as long as it is written as a whole number.
            family.histogram(&[&worker.worker], &worker.batch, frames, worker.batch.sum);
        }
    }
}

/// What a label says, nothing where there is none.
fn text_of(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
