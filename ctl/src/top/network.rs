//! What the switch does now, and did of late: made of samples, and of nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vswitch_api::reply::TUNNEL;
use vswitch_api::{Health, HealthState, PortState, Status, WorkerInfo};

use super::number::{float, percent, si};
use super::rate::{Counts, History, Rate, mean, p99, since};
use super::sample::Sample;

/// A worker that is busy for so much of its time has none left.
const SATURATED: f64 = 0.95;
/// So much of a table is full.
const FULL: f64 = 0.9;
/// Of all frames that came in, so many dropped are worth a word.
const DROPPED: f64 = 0.01;

/// Whether a port, a peer or all of it is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    #[default]
    Fine,
    /// Worth a look.
    Odd,
    Bad,
}

/// A port, the tunnel or a peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Flow {
    pub(super) name: String,
    pub(super) is_lost: bool,
    /// `None` until it was counted twice.
    pub(super) rate: Option<Rate>,
    /// Bits a second, both ways.
    pub(super) history: History,
    /// How the way to a peer is, where it is probed.
    pub(super) health: Option<Health>,
}

impl Flow {
    /// What is to be said of it in a word: that it is lost, or why it drops most.
    pub(super) fn note(&self) -> &str {
        let reason = || self.rate.as_ref().and_then(|rate| rate.drops.first()).map_or("", |(reason, _)| reason);
        if self.is_lost { "lost" } else { reason() }
    }

    pub(super) fn tone(&self) -> Tone {
        let health = self.health.as_ref().map_or(Tone::Fine, |health| match health.state {
            HealthState::Healthy | HealthState::Foreign => Tone::Fine,
            HealthState::Degraded => Tone::Odd,
            HealthState::Unreachable => Tone::Bad,
        });
        let drops = self.rate.as_ref().is_some_and(|rate| !rate.drops.is_empty());
        if self.is_lost { Tone::Bad } else { health.max(if drops { Tone::Odd } else { Tone::Fine }) }
    }

    fn count(&mut self, before: Option<&Counts>, after: &Counts, seconds: f64) {
        self.rate = before.and_then(|before| Rate::between(before, after, seconds));
        if let Some(rate) = &self.rate {
            self.history.push(rate.bits());
        }
    }
}

/// A thread that moves frames.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Worker {
    pub(super) number: usize,
    /// The part of its time it moves frames in, 0 to 1.
    pub(super) busy: f64,
    /// Frames read at once, on average.
    pub(super) batch: Option<f64>,
    /// Microseconds that 99 of 100 turns do not exceed.
    pub(super) turn_us: Option<u64>,
    /// Turns that found frames, a second.
    pub(super) turns: Option<f64>,
    /// Times it went to sleep, a second.
    pub(super) sleeps: Option<f64>,
    /// Of `busy`.
    pub(super) history: History,
}

impl Worker {
    fn count(&mut self, before: Option<&WorkerInfo>, after: &WorkerInfo, seconds: f64) {
        self.busy = after.busy_share;
        self.history.push(after.busy_share);
        let before = before.filter(|_| seconds > 0.0);
        let rate = |before: Option<u64>, after: u64| Some(float(after.checked_sub(before?)?) / seconds);
        self.turns = rate(before.map(|before| before.turns), after.turns);
        self.sleeps = rate(before.map(|before| before.sleeps), after.sleeps);
        self.batch = before.and_then(|before| mean(&since(&before.batch, &after.batch)?));
        self.turn_us = before.and_then(|before| p99(&since(&before.loop_us, &after.loop_us)?));
    }

    pub(super) fn tone(&self) -> Tone {
        if self.busy >= SATURATED { Tone::Bad } else { Tone::Fine }
    }
}

/// The counters of the last sample.
#[derive(Clone, Debug)]
struct Before {
    at: Duration,
    pid: u32,
    ports: BTreeMap<String, Counts>,
    peers: BTreeMap<String, Counts>,
    workers: Vec<WorkerInfo>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    /// `None` before the first sample.
    pub(super) status: Option<Status>,
    /// In the daemon's order, the tunnel last.
    pub(super) ports: Vec<Flow>,
    pub(super) peers: Vec<Flow>,
    pub(super) workers: Vec<Worker>,
    /// All ports together, without the tunnel: `rx` is what containers send.
    pub(super) total: Flow,
    /// What reasons mean.
    pub(super) reasons: BTreeMap<String, String>,
    before: Option<Before>,
}

impl Network {
    /// Goes on to the next sample. Counters of another process may have begun anew: there is no rate from one to the next.
    pub(super) fn take(&mut self, sample: &Sample) {
        let before = self.before.take().filter(|before| before.pid == sample.status.pid);
        let seconds = before.as_ref().map_or(0.0, |before| sample.at.saturating_sub(before.at).as_secs_f64());
        let lost: BTreeSet<_> =
            sample.ports.iter().filter(|port| port.state == PortState::Lost).map(|port| port.name.as_str()).collect();

        let ports: BTreeMap<_, _> =
            sample.stats.ports.iter().map(|stats| (stats.port.clone(), Counts::from(stats))).collect();
        let names = sample.stats.ports.iter().map(|stats| stats.port.clone());
        let earlier = before.as_ref().map(|before| &before.ports);
        self.ports = flows(std::mem::take(&mut self.ports), names, earlier, &ports, seconds);
        for port in &mut self.ports {
            port.is_lost = lost.contains(port.name.as_str());
        }

        let peers: BTreeMap<_, _> =
            sample.stats.peers.iter().map(|stats| (stats.peer.to_string(), Counts::from(stats))).collect();
        let names = sample.peers.iter().map(|peer| peer.ip.to_string());
        let earlier = before.as_ref().map(|before| &before.peers);
        self.peers = flows(std::mem::take(&mut self.peers), names, earlier, &peers, seconds);
        for (peer, info) in self.peers.iter_mut().zip(&sample.peers) {
            peer.health = info.health.clone().filter(Health::is_present);
        }

        let mut workers = std::mem::take(&mut self.workers);
        workers.resize(sample.workers.len(), Worker::default());
        for (worker, info) in workers.iter_mut().zip(&sample.workers) {
            let earlier = before.iter().flat_map(|before| &before.workers).find(|other| other.worker == info.worker);
            worker.number = info.worker;
            worker.count(earlier, info, seconds);
        }
        self.workers = workers;

        let mut total: Option<Rate> = None;
        for rate in self.ports.iter().filter(|port| port.name != TUNNEL).filter_map(|port| port.rate.as_ref()) {
            total.get_or_insert_default().add(rate);
        }
        // What the tunnel drops is dropped too, and counted at no port.
        if let Some(tunnel) = self.ports.iter().find(|port| port.name == TUNNEL).and_then(|port| port.rate.as_ref()) {
            let drops = Rate { drops: tunnel.drops.clone(), ..Rate::default() };
            total.get_or_insert_default().add(&drops);
        }
        if let Some(rate) = &total {
            self.total.history.push(rate.bits());
        }
        self.total.rate = total;

        self.reasons.extend(sample.stats.reasons.clone());
        self.before =
            Some(Before { at: sample.at, pid: sample.status.pid, ports, peers, workers: sample.workers.clone() });
        self.status = Some(sample.status.clone());
    }

    /// What is wrong, the worst first; nothing where all is well.
    pub(super) fn ailments(&self) -> Vec<(Tone, String)> {
        let mut found = Vec::new();
        let Some(status) = &self.status else { return found };
        if status.ports_lost > 0 {
            let ports = if status.ports_lost == 1 { "port" } else { "ports" };
            found.push((Tone::Bad, format!("{} {ports} lost", status.ports_lost)));
        }
        for peer in &self.peers {
            let Some(health) = &peer.health else { continue };
            let tone = Flow { health: Some(health.clone()), ..Flow::default() }.tone();
            if tone > Tone::Fine {
                let finding = health.findings.first().map(|finding| format!(" ({})", finding.name));
                found.push((tone, format!("{} {}{}", peer.name, health.state.name(), finding.unwrap_or_default())));
            }
        }
        for worker in self.workers.iter().filter(|worker| worker.tone() > Tone::Fine) {
            found.push((Tone::Bad, format!("worker {} saturated", worker.number)));
        }
        let full = float(status.fdb_used) / float(status.fdb_limit.max(1));
        if full >= FULL {
            found.push((Tone::Odd, format!("FDB {} full", percent(full))));
        }
        if let Some(rate) = &self.total.rate
            && rate.dropped() > DROPPED * rate.rx_frames
            && let Some((reason, _)) = rate.drops.first()
        {
            found.push((Tone::Odd, format!("drops {}/s ({reason})", si(rate.dropped()))));
        }
        found.sort_by_key(|(tone, _)| std::cmp::Reverse(*tone));
        found
    }
}

/// The flows called `names`: what was known of them goes on.
fn flows(
    known: Vec<Flow>,
    names: impl Iterator<Item = String>,
    before: Option<&BTreeMap<String, Counts>>,
    after: &BTreeMap<String, Counts>,
    seconds: f64,
) -> Vec<Flow> {
    let mut known: BTreeMap<_, _> = known.into_iter().map(|flow| (flow.name.clone(), flow)).collect();
    let flow = |name: String| {
        let earlier = before.and_then(|before| before.get(&name));
        let none = Counts::default();
        let mut flow = known.remove(&name).unwrap_or_else(|| Flow { name: name.clone(), ..Flow::default() });
        flow.count(earlier, after.get(&name).unwrap_or(&none), seconds);
        flow
    };
    names.map(flow).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A moment of a switch with ports `red` and `blue`, a peer and a worker: `n` seconds after the first.
    pub(in crate::top) fn sample(n: u64) -> Sample {
        sample_of(n, 42, &json!([]))
    }

    /// The same of another process, with more ports.
    pub(in crate::top) fn sample_of(n: u64, pid: u32, more: &Value) -> Sample {
        let stats = |name: &str, value: &str, each: [u64; 4], drops: Value| {
            let [rx_frames, rx_bytes, tx_frames, tx_bytes] = each.map(|each| each * n);
            json!({name: value, "rx_frames": rx_frames, "rx_bytes": rx_bytes, "tx_frames": tx_frames,
                "tx_bytes": tx_bytes, "drops": drops})
        };
        let mut ports = vec![
            stats("port", "red", [1_200, 150_000, 10, 1_000], json!({})),
            stats("port", "blue", [10, 1_000, 1_200, 1_500_000], json!({"too_big": 3, "storm_broadcast": 25 * n})),
        ];
        ports.extend(more.as_array().unwrap().clone());
        ports.push(stats("port", "tunnel", [0, 0, 100, 10_000], json!({})));
        let peers = [stats("peer", "192.0.2.2", [0, 0, 100, 10_000], json!({}))];
        let port = |name: &str, state: &str| {
            json!({"name": name, "netns": name, "ifname": "eth0", "mac": null, "addresses": [], "mtu": 1450,
                "mode": "access", "vlan": 10, "vlans": [], "native": null, "state": state, "offloads": []})
        };
        let status = json!({
            "version": "0.1.0", "pid": pid, "user": "root", "capabilities": [], "sandbox": null, "uptime_s": 3700 + n,
            "workers": 1, "workers_busy": [0.25], "ports": 2, "ports_lost": 0, "fdb_used": 3, "fdb_limit": 131_072,
            "fdb_limit_per_port": 16_384, "storm_limit": 10_000, "fdb_learned": 3, "fdb_moved": 0, "fdb_aged": 0,
            "fdb_evicted": 0, "fdb_limited": 0, "fdb_flapping": 0,
            "vtep": {"ip": "192.0.2.1", "port": 4789, "underlay_mtu": 1500, "overlay_mtu": 1450, "underlay": "udp",
                "peers": 1},
        });
        let histogram =
            |each: [u64; 3], sum: u64| json!({"le": [1, 32], "counts": each.map(|each| each * n), "sum": sum * n});
        let worker = json!({"worker": 0, "busy_share": 0.25, "turns": 100 * n, "sleeps": 50 * n,
            "batch": histogram([60, 40, 0], 1_260), "loop_us": histogram([0, 100, 0], 2_000)});
        let value = |value: Value| value;
        Sample {
            at: Duration::from_secs(n),
            status: serde_json::from_value(status).unwrap(),
            stats: serde_json::from_value(json!({"ports": ports, "peers": peers,
                "reasons": {"storm_broadcast": "more broadcasts than the storm limit lets pass"}}))
            .unwrap(),
            ports: serde_json::from_value(value(json!([port("red", "up"), port("blue", "up")]))).unwrap(),
            peers: serde_json::from_value(
                json!([{"ip": "192.0.2.2", "all_vlans": true, "vlans": [10], "health": null}]),
            )
            .unwrap(),
            workers: serde_json::from_value(json!([worker])).unwrap(),
        }
    }

    pub(in crate::top) fn health(state: &str, findings: Value) -> Health {
        serde_json::from_value(json!({"round_trip_us": {"last": 210, "p50": 200, "p99": 900}, "loss_share": 0.1,
            "jitter_us": 12, "path_mtu": 1500, "state": state, "findings": findings}))
        .unwrap()
    }

    /// What a network knows after `samples`.
    pub(in crate::top) fn network(samples: impl IntoIterator<Item = Sample>) -> Network {
        let mut network = Network::default();
        samples.into_iter().for_each(|sample| network.take(&sample));
        network
    }

    fn said(network: &Network) -> Vec<String> {
        network.ailments().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn rates_are_those_between_two_samples() {
        let network = network([sample(1), sample(3)]);
        let names: Vec<_> = network.ports.iter().map(|port| port.name.as_str()).collect();
        assert_eq!(names, ["red", "blue", "tunnel"]);
        let red = network.ports[0].rate.as_ref().unwrap();
        assert_eq!((red.rx_frames, red.rx_bits, red.tx_frames), (1_200.0, 1_200_000.0, 10.0));
        // Drops that were there before are none now.
        let blue = network.ports[1].rate.as_ref().unwrap();
        assert_eq!(
            (blue.drops.as_slice(), network.ports[1].note()),
            (&[("storm_broadcast".to_owned(), 25.0)][..], "storm_broadcast")
        );
        let peer = network.peers[0].rate.as_ref().unwrap();
        assert_eq!((peer.rx_bits, peer.tx_bits), (0.0, 80_000.0));
        // The tunnel's frames are its ports' too.
        let total = network.total.rate.as_ref().unwrap();
        assert_eq!((total.rx_frames, total.tx_frames, total.dropped()), (1_210.0, 1_210.0, 25.0));
        let Worker { busy, batch, turn_us, turns, sleeps, .. } = network.workers[0];
        assert_eq!((busy, batch, turn_us, turns, sleeps), (0.25, Some(12.6), Some(32), Some(100.0), Some(50.0)));
    }

    #[test]
    fn one_sample_has_no_rate() {
        let network = network([sample(1)]);
        assert!(network.ports.iter().chain(&network.peers).all(|flow| flow.rate.is_none()));
        assert_eq!((network.total.rate.as_ref(), network.workers[0].turns), (None, None));
    }

    #[test]
    fn another_process_begins_anew() {
        let mut network = network([sample(1), sample(2)]);
        // Its counters are greater, and mean nothing beside those of before.
        network.take(&sample_of(9, 43, &json!([])));
        assert_eq!(network.ports[0].rate, None);
        assert_eq!((network.peers[0].rate.as_ref(), network.workers[0].batch), (None, None));
        network.take(&sample_of(10, 43, &json!([])));
        assert_eq!(network.ports[0].rate.as_ref().unwrap().rx_frames, 1_200.0);
        // The history went on.
        assert_eq!(network.ports[0].history.last(9).count(), 2);
    }

    #[test]
    fn ports_come_and_go() {
        let green =
            json!([{"port": "green", "rx_frames": 5000, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0, "drops": {}}]);
        let mut network = network([sample(1), sample_of(2, 42, &green)]);
        let green = &network.ports[2];
        assert_eq!((green.name.as_str(), green.rate.as_ref()), ("green", None), "counted once");
        network.take(&sample(3));
        assert_eq!(network.ports.len(), 3);
        assert!(network.ports[0].rate.is_some());
    }

    #[test]
    fn what_is_wrong() {
        let mut ill = sample(2);
        let quiet = |sample: &mut Sample| sample.stats.ports[1].drops.clear();
        let mut well = [sample(1), sample(2)];
        well.iter_mut().for_each(quiet);
        assert_eq!(said(&network(well.clone())), [""; 0]);
        assert_eq!(said(&Network::default()), [""; 0]);

        // 25 of 1,210 frames are more than one in a hundred.
        assert_eq!(said(&network([sample(1), sample(2)])), ["drops 25/s (storm_broadcast)"]);
        quiet(&mut ill);
        ill.status.ports_lost = 2;
        ill.status.fdb_used = 130_000;
        ill.workers[0].busy_share = 0.97;
        ill.peers[0].health = Some(health("degraded", json!([{"name": "mtu_smaller", "text": "", "mend": null}])));
        let expected = ["2 ports lost", "worker 0 saturated", "192.0.2.2 degraded (mtu_smaller)", "FDB 99 % full"];
        assert_eq!(said(&network([well[0].clone(), ill.clone()])), expected);
        ill.peers[0].health = Some(health("foreign", json!([])));
        assert!(!said(&network([ill.clone()])).iter().any(|text| text.contains("192.0.2.2")));
        ill.peers[0].health = Some(health("unreachable", json!([])));
        assert_eq!(said(&network([ill]))[1], "192.0.2.2 unreachable");
    }

    #[test]
    fn a_lost_port_is_noted() {
        let mut lost = sample(2);
        lost.ports[1].state = PortState::Lost;
        let network = network([sample(1), lost]);
        assert_eq!((network.ports[1].note(), network.ports[1].tone()), ("lost", Tone::Bad));
        assert_eq!((network.ports[0].note(), network.ports[0].tone()), ("", Tone::Fine));
    }
}
