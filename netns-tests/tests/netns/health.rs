use std::net::IpAddr;

use netns_tests::{DaemonSpec, Lab, Node, Result, SOON, Underlay, Vsctl, ensure, ensure_eq, eventually};
use serde_json::Value;

use crate::Tests;

pub(crate) const TESTS: Tests = &[];

pub(crate) const ACROSS: Tests = &[
    ("over_ipv4", |lab| healthy(lab, true, 1)),
    ("over_ipv6", |lab| healthy(lab, false, 1)),
    ("with_two_workers", |lab| healthy(lab, true, 2)),
];

/// A daemon that probes so often.
fn probing(interval: &str, workers: usize) -> DaemonSpec {
    let args = ["--probe-interval", interval, "--workers", &workers.to_string()].map(str::to_owned).to_vec();
    DaemonSpec { args, ..DaemonSpec::default() }
}

/// The row of a peer.
fn row(vsctl: &Vsctl, peer: IpAddr) -> Result<Value> {
    let list = vsctl.ok("vtep peer list")?;
    let row = list.as_array().into_iter().flatten().find(|row| row["ip"] == peer.to_string()).cloned();
    Ok(row.unwrap_or_default())
}

fn names(findings: &Value) -> Vec<String> {
    let all = findings.as_array().into_iter().flatten();
    all.filter_map(|finding| finding["name"].as_str().map(str::to_owned)).collect()
}

fn healthy(lab: &Lab, v4: bool, workers: usize) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let pick: fn(netns_tests::Vtep) -> IpAddr = if v4 { |vtep| vtep.v4 } else { |vtep| vtep.v6 };
    let join = |name: &str, spec| Node::with(lab, &underlay, name, pick, spec);
    let (h1, h2) = (join("h1", probing("100ms", workers))?, join("h2", probing("off", workers))?);
    h1.join(10, 100, &[h2.ip])?;
    h2.join(10, 100, &[h1.ip])?;
    eventually(SOON, "the path is healthy", || {
        let health = &row(h1.vsctl(), h2.ip)?["health"];
        ensure_eq!(health["state"], "healthy", "state: {health}");
        ensure_eq!(health["path_mtu"], 1500, "path MTU: {health}");
        ensure!(
            health["round_trip_us"]["p50"].as_u64().is_some_and(|micros| (1..900_000).contains(&micros)),
            "{health}"
        );
        ensure_eq!(health["loss_share"], 0.0, "loss: {health}");
        ensure!(health["jitter_us"].is_u64(), "jitter: {health}");
        Ok(())
    })?;
    // The other does not probe by itself, and does when it is asked to.
    ensure!(row(h2.vsctl(), h1.ip)?["health"].is_null(), "probes are off");
    let probe = h2.ok(&format!("vtep peer probe {} --vlan 10", h1.ip))?;
    ensure_eq!((&probe["answered"], &probe["state"]), (&true.into(), &"healthy".into()), "on demand: {probe}");
    ensure_eq!((&probe["path_mtu"], &probe["vnis"]), (&1500.into(), &serde_json::json!([100])), "on demand: {probe}");
    ensure_eq!(names(&probe["findings"]), Vec::<String>::new(), "findings");
    for node in [&h1, &h2] {
        let stats = node.stats()?;
        ensure!(stats.drops.is_empty(), "probes are no drops: {:?}", stats.drops);
        ensure!(node.fdb()?.is_empty(), "and are learned by nobody");
    }
    Ok(())
}
