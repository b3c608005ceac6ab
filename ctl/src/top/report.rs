//! What passed in an interval, for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use vswitch_api::Health;

use super::network::{Flow, Network, Worker};

/// Rates are a second's; null where a thing was counted once only.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    /// Whether nothing is wrong.
    healthy: bool,
    /// What is, in words.
    ailments: Vec<String>,
    /// The daemon's.
    uptime_s: Option<u64>,
    /// All ports together.
    total: Rates<'a>,
    /// The tunnel is the last.
    ports: Vec<Port<'a>>,
    peers: Vec<Peer<'a>>,
    workers: Vec<Load>,
}

#[derive(Debug, Serialize)]
struct Rates<'a> {
    rx_frames: Option<f64>,
    rx_bits: Option<f64>,
    tx_frames: Option<f64>,
    tx_bits: Option<f64>,
    /// By reason; none that did not occur.
    drops: BTreeMap<&'a str, f64>,
}

#[derive(Debug, Serialize)]
struct Port<'a> {
    port: &'a str,
    lost: bool,
    #[serde(flatten)]
    rates: Rates<'a>,
}

#[derive(Debug, Serialize)]
struct Peer<'a> {
    peer: &'a str,
    #[serde(flatten)]
    rates: Rates<'a>,
    health: Option<&'a Health>,
}

#[derive(Debug, Serialize)]
struct Load {
    worker: usize,
    busy_share: f64,
    /// The mean.
    batch: Option<f64>,
    turn_p99_us: Option<u64>,
    turns: Option<f64>,
    sleeps: Option<f64>,
}

impl<'a> Rates<'a> {
    fn of(flow: &'a Flow) -> Self {
        let rate = flow.rate.as_ref();
        let drops = rate.into_iter().flat_map(|rate| &rate.drops);
        Self {
            rx_frames: rate.map(|rate| rate.rx_frames),
            rx_bits: rate.map(|rate| rate.rx_bits),
            tx_frames: rate.map(|rate| rate.tx_frames),
            tx_bits: rate.map(|rate| rate.tx_bits),
            drops: drops.map(|(reason, rate)| (reason.as_str(), *rate)).collect(),
        }
    }
}

impl<'a> Report<'a> {
    pub(super) fn of(network: &'a Network) -> Self {
        let ailments = super::ailments(network);
        let port = |flow: &'a Flow| Port { port: &flow.name, lost: flow.is_lost, rates: Rates::of(flow) };
        let peer = |flow: &'a Flow| Peer { peer: &flow.name, rates: Rates::of(flow), health: flow.health.as_ref() };
        let load = |worker: &Worker| {
            let &Worker { number, busy, batch, turn_us, turns, sleeps, history: _ } = worker;
            Load { worker: number, busy_share: busy, batch, turn_p99_us: turn_us, turns, sleeps }
        };
        Self {
            healthy: ailments.is_empty(),
            ailments,
            uptime_s: network.status.as_ref().map(|status| status.uptime_s),
            total: Rates::of(&network.total),
            ports: network.ports.iter().map(port).collect(),
            peers: network.peers.iter().map(peer).collect(),
            workers: network.workers.iter().map(load).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::network::tests::{network, sample};
    use super::*;

    #[test]
    fn fields_are_those_promised() {
        let network = network([sample(1), sample(2)]);
        let report = serde_json::to_value(Report::of(&network)).unwrap();
        let rates = |port: &str, lost: bool, [rx, rx_bits, tx, tx_bits]: [f64; 4], drops: Value| {
            json!({"port": port, "lost": lost, "rx_frames": rx, "rx_bits": rx_bits, "tx_frames": tx,
                "tx_bits": tx_bits, "drops": drops})
        };
        let storm = json!({"storm_broadcast": 25.0});
        let expected = json!({
            "healthy": false, "ailments": ["drops 25/s (storm_broadcast)"], "uptime_s": 3702,
            "total": {"rx_frames": 1_210.0, "rx_bits": 1_208_000.0, "tx_frames": 1_210.0, "tx_bits": 12_008_000.0,
                "drops": storm},
            "ports": [
                rates("red", false, [1_200.0, 1_200_000.0, 10.0, 8_000.0], json!({})),
                rates("blue", false, [10.0, 8_000.0, 1_200.0, 12_000_000.0], storm),
                rates("tunnel", false, [0.0, 0.0, 100.0, 80_000.0], json!({})),
            ],
            "peers": [{"peer": "192.0.2.2", "rx_frames": 0.0, "rx_bits": 0.0, "tx_frames": 100.0, "tx_bits": 80_000.0,
                "drops": {}, "health": null}],
            "workers": [{"worker": 0, "busy_share": 0.25, "batch": 12.6, "turn_p99_us": 32, "turns": 100.0,
                "sleeps": 50.0}],
        });
        assert_eq!(report, expected);
    }

    #[test]
    fn what_was_counted_once_is_null() {
        let network = network([sample(1)]);
        let report = serde_json::to_value(Report::of(&network)).unwrap();
        assert_eq!((&report["ports"][0]["rx_bits"], &report["total"]["tx_frames"]), (&Value::Null, &Value::Null));
    }
}
