//! What the daemon knows at one moment, and its metrics.

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
        let probed = || self.peers.iter().filter_map(|(peer, _)| Some((peer.ip, peer.health.as_ref()?)));
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
        probed().for_each(|(ip, health)| family.sample(&[&ip], health.loss_share));
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

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;
    use vswitch_core::switch::FdbKind;
    use vswitch_core::{Instant, MacAddr, VlanId};

    use super::super::table::ALL;
    use super::super::text::Format;
    use super::*;
    use crate::drops::PortDrop;

    /// A switch with an attached port, a lost trunk and a peer.
    pub(in crate::metrics) fn reading() -> Reading {
        let mut counters = Counters::default();
        counters.received(100);
        counters.received(60);
        counters.sent(1514);
        counters.dropped(PortDrop::TooBig);
        let port = |name: &str, state: &str, mode: serde_json::Value, attachment: serde_json::Value| {
            let mut port = json!({
                "name": name, "netns": "/run/netns/x", "ifname": "eth0", "mac": null, "addresses": [], "mtu": 1450,
                "state": state, "offloads": [], "attachment": attachment,
            });
            port.as_object_mut().unwrap().extend(mode.as_object().unwrap().clone());
            serde_json::from_value(port).unwrap()
        };
        let access = json!({"mode": "access", "vlan": 10, "vlans": [], "native": null});
        let trunk = json!({"mode": "trunk", "vlan": null, "vlans": [10, 11], "native": null});
        let attachment = json!({"network": "net", "container": "c1", "delegated": false, "seen": true});
        let status = json!({
            "version": "0.1.0", "pid": 42, "user": "vswitch", "capabilities": [], "sandbox": "workers",
            "uptime_s": 3700, "workers": 1, "ports": 2, "ports_lost": 1, "fdb_used": 3, "fdb_limit": 131072,
            "fdb_limit_per_port": 65536, "storm_limit": 10000, "fdb_learned": 20, "fdb_moved": 3, "fdb_aged": 8,
            "fdb_evicted": 1, "fdb_limited": 4, "fdb_flapping": 2,
            "vtep": {"ip": null, "port": 4789, "underlay_mtu": null, "overlay_mtu": null, "underlay": null, "peers": 1},
        });
        let health = json!({
            "round_trip_us": {"last": 210, "p50": 200, "p99": 900}, "loss_share": 0.25, "jitter_us": 12, "path_mtu": 1400,
            "state": "degraded", "findings": [{"name": "mtu_smaller", "text": "", "mend": null}],
        });
        let peer = json!({"ip": "192.0.2.2", "all_vlans": false, "vlans": [10], "health": health});
        let vlan = json!({"vlan": 10, "vni": 100, "name": "lab", "learning": true, "ports": ["web", "up"], "peers": ["192.0.2.2"]});
        Reading {
            status: serde_json::from_value(status).unwrap(),
            ports: vec![port("web", "up", access, attachment), port("up", "lost", trunk, json!(null))],
            stats: Stats {
                ports: vec![counters.shown("web"), Counters::default().shown("up"), counters.shown(TUNNEL)],
                peers: Vec::new(),
                reasons: BTreeMap::new(),
            },
            vlans: vec![serde_json::from_value(vlan).unwrap()],
            peers: vec![(serde_json::from_value(peer).unwrap(), counters)],
            probes: (5, OamCounters { answered: 6, answers: 4, ignored: 1 }),
            loads: vec![Load::default()],
            targets: [
                (PortId::new(1), FdbTarget::Port("web".parse().unwrap())),
                (PortId::new(2), FdbTarget::Remote([192, 0, 2, 2].into())),
            ]
            .into(),
        }
    }

    fn told() -> String {
        let entry = |number, port| FdbEntry {
            mac: MacAddr([2, 0, 0, 0, 0, number]),
            vlan: VlanId::new(10).unwrap(),
            port: PortId::new(port),
            kind: FdbKind::Learned { last_seen: Instant::default() },
            flapping: None,
        };
        let addresses = Addresses::count([entry(1, 1), entry(2, 2), entry(3, 2)].into_iter());
        let mut text = Text::new(Format::Prometheus);
        reading().tell(&addresses, &mut text);
        super::super::process::Process::open().tell(&mut text);
        text.finish()
    }

    #[test]
    fn every_metric_is_told_once_in_the_order_declared_but_for_attachments() {
        let text = told();
        let mut told: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut declared: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        told.sort_unstable();
        declared.sort_unstable();
        // Older kernels do not tell the number of descriptors.
        declared.retain(|name| *name != "process_open_fds" || told.contains(name));
        assert_eq!(told, declared);
    }

    #[test]
    fn series_bear_the_labels_that_are_declared() {
        let text = told();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let metric = ALL.iter().find(|metric| {
                let suffix = name.strip_prefix(metric.name);
                suffix.is_some_and(|suffix| ["", "_bucket", "_sum", "_count"].contains(&suffix))
            });
            let metric = metric.unwrap_or_else(|| panic!("{name} is not declared"));
            let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            let labels: Vec<_> = labels.map(|(name, _)| name).filter(|name| *name != "le").collect();
            assert_eq!(labels, metric.labels, "{line}");
        }
        for line in [
            "vswitch_port_info{port=\"web\",netns=\"/run/netns/x\",ifname=\"eth0\",mode=\"access\",vlan=\"10\",network=\"net\",container=\"c1\"} 1",
            "vswitch_port_info{port=\"up\",netns=\"/run/netns/x\",ifname=\"eth0\",mode=\"trunk\",vlan=\"\",network=\"\",container=\"\"} 1",
            "vswitch_port_up{port=\"web\"} 1",
            "vswitch_port_up{port=\"up\"} 0",
            "vswitch_port_receive_bytes_total{port=\"web\"} 160",
            "vswitch_port_transmit_frames_total{port=\"up\"} 0",
            "vswitch_port_drops_total{port=\"web\",reason=\"too_big\"} 1",
            "vswitch_port_fdb_entries{port=\"web\"} 1",
            "vswitch_port_fdb_entries{port=\"up\"} 0",
            "vswitch_peer_fdb_entries{peer=\"192.0.2.2\"} 2",
            "vswitch_tunnel_transmit_bytes_total 1514",
            "vswitch_peer_receive_frames_total{peer=\"192.0.2.2\"} 2",
            "vswitch_peer_health{peer=\"192.0.2.2\",state=\"degraded\"} 1",
            "vswitch_peer_health{peer=\"192.0.2.2\",state=\"healthy\"} 0",
            "vswitch_peer_finding{peer=\"192.0.2.2\",finding=\"mtu_smaller\"} 1",
            "vswitch_peer_round_trip_seconds{peer=\"192.0.2.2\",statistic=\"p99\"} 0.0009",
            "vswitch_peer_jitter_seconds{peer=\"192.0.2.2\"} 0.000012",
            "vswitch_peer_probe_loss_ratio{peer=\"192.0.2.2\"} 0.25",
            "vswitch_peer_path_mtu_bytes{peer=\"192.0.2.2\"} 1400",
            "vswitch_probes_sent_total 5",
            "vswitch_probe_answers_total 4",
            "vswitch_probes_answered_total 6",
            "vswitch_vlan_fdb_entries{vlan=\"10\"} 3",
            "vswitch_vlan_ports{vlan=\"10\"} 2",
            "vswitch_vlan_info{vlan=\"10\",vni=\"100\",name=\"lab\"} 1",
            "vswitch_attachments{network=\"net\"} 1",
            "vswitch_fdb_unlearned_frames_total 4",
            "vswitch_worker_batch_frames_bucket{worker=\"0\",le=\"64.0\"} 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in {text}");
        }
        assert!(!text.contains("port=\"tunnel\""), "the tunnel has metrics of its own");
    }
}
