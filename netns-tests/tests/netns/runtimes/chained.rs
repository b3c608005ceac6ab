use std::time::{Duration, Instant};

use netns_tests::runtimes::{Containerd, Podman};
use netns_tests::traffic::{ping::ping as ping_from, tcp};
use netns_tests::{Lab, Result, SOON, ensure, ensure_eq, eventually};
use serde_json::json;

use super::{FAR, Site, ours, ping, published};
use crate::Tests;

pub(super) const PODMAN: Tests = &[("podman_with_portmap_tuning_and_firewall", portmap_tuning_and_firewall)];
pub(super) const CONTAINERD: Tests = &[
    ("containerd_with_tuning", tuning),
    ("containerd_with_limits", limits),
    ("containerd_with_host_local", host_local),
];

fn portmap_tuning_and_firewall(lab: &Lab) -> Result {
    let plugins = json!([
        ours(json!({ "isDefaultGateway": true, "ipMasq": true })),
        { "type": "portmap", "capabilities": { "portMappings": true } },
        { "type": "tuning", "sysctl": { "net.ipv4.conf.eth0.rp_filter": "0" } },
        { "type": "firewall" },
    ]);
    let site = Site::joined(lab, &plugins)?;
    // Nothing is forwarded but what `firewall` lets pass.
    site.machine.ok("iptables -P FORWARD DROP")?;
    let podman = Podman::start(lab, &site.machine, "vsw")?;
    let before = site.remains()?;
    podman.run("c1", "-p 8080:80", "")?;
    podman.run("c2", "", "")?;
    let (c1, c2) = (podman.container("c1")?, podman.container("c2")?);
    let outside = (site.h1.ip, 8080).into();
    let peer = published(&site.h2.host, outside, &c1, 80)?;
    ensure_eq!(peer.ip(), site.h2.ip, "whom the container saw behind the other host");
    published(&site.h1.host, outside, &c1, 80)?;
    published(&c2, outside, &c1, 80)?;
    drop((c1, c2));
    ensure_eq!(podman.exec("c1", "cat /proc/sys/net/ipv4/conf/eth0/rp_filter")?, "0", "sysctl of the container");
    eventually(SOON, "c1 reaches c2", || podman.exec("c1", &ping("10.20.0.3")))?;
    eventually(SOON, "c2 reaches the underlay", || podman.exec("c2", &ping(&site.h2.ip.to_string())))?;
    podman.ok("rm -f -t 0 c1 c2")?;
    site.nothing_left(&before)
}

/// `tuning` changes the MAC address after us: the switch follows, and the neighbours too.
fn tuning(lab: &Lab) -> Result {
    let plugins = json!([
        ours(json!({})),
        { "type": "tuning", "mac": "02:00:00:00:00:99", "mtu": 1400, "sysctl": { "net.ipv4.ip_default_ttl": "33" } },
    ]);
    let site = Site::joined(lab, &plugins)?;
    let containerd = Containerd::start(lab, &site.machine)?;
    let before = site.remains()?;
    containerd.run("c1")?;
    let c1 = containerd.container("c1")?;
    ensure_eq!(c1.mac("eth0")?, [2, 0, 0, 0, 0, 0x99], "MAC");
    ensure_eq!(c1.link("eth0")?.mtu, 1400, "MTU");
    ensure_eq!(containerd.exec("c1", "cat /proc/sys/net/ipv4/ip_default_ttl")?, "33", "sysctl of the container");
    ping_from(&site.far, "10.20.0.2".parse()?, 56)?;
    tcp::Connection::open(&c1, &site.far, FAR.parse()?)?.both_ways(1 << 20, 1 << 16, 1)?;
    drop(c1);
    containerd.kill("c1")?;
    site.nothing_left(&before)
}

/// 16 Mbit/s into the container, 8 out of it, measured.
fn limits(lab: &Lab) -> Result {
    const BURST: u32 = 64_000;
    let bandwidth = json!({
        "ingressRate": 16_000_000, "ingressBurst": BURST * 8, "egressRate": 8_000_000, "egressBurst": BURST * 8,
    });
    let site = Site::joined(lab, &json!([ours(json!({ "bandwidth": bandwidth }))]))?;
    let containerd = Containerd::start(lab, &site.machine)?;
    containerd.run("c1")?;
    let c1 = containerd.container("c1")?;
    ping_from(&site.far, "10.20.0.2".parse()?, 56)?;
    let took = |bytes: u64, from, to, ip: &str| -> Result<Duration> {
        let connection = tcp::Connection::open(from, to, ip.parse()?)?;
        let start = Instant::now();
        connection.forth(bytes, 1 << 16, 1)?;
        Ok(start.elapsed())
    };
    // One second's worth each way. Headers count too; what a full bucket and the buffers on the way hold comes early.
    let into = took(2_000_000, &site.far, &c1, "10.20.0.2")?;
    let out = took(1_000_000, &c1, &site.far, FAR)?;
    println!("2 MB into the container took {into:?}, 1 MB out of it {out:?}");
    for (way, took) in [("into", into), ("out of", out)] {
        ensure!(took > Duration::from_millis(800), "{way} the container: one second's worth took {took:?}");
        ensure!(took < Duration::from_millis(4000), "{way} the container: one second's worth took {took:?}");
    }
    Ok(())
}

/// Addresses that another plugin gives are given back, also where nobody calls DEL: at the network's next ADD.
fn host_local(lab: &Lab) -> Result {
    let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.20.0.0/24", "rangeEnd": "10.20.0.127" }]] });
    let mut plugin = ours(json!({ "ipam": ipam }));
    for key in ["subnet", "rangeEnd"] {
        plugin.as_object_mut().map(|plugin| plugin.remove(key));
    }
    let site = Site::joined(lab, &json!([plugin]))?;
    let containerd = Containerd::start(lab, &site.machine)?;
    let leases = || {
        let mut leases = site.machine.list("/var/lib/cni/networks/vsw");
        leases.retain(|name| name.starts_with("10."));
        leases
    };
    containerd.run("c1")?;
    containerd.run("doomed")?;
    ensure_eq!(leases(), ["10.20.0.2", "10.20.0.3"], "addresses that host-local gave");
    eventually(SOON, "c1 reaches the other one", || containerd.exec("c1", &ping("10.20.0.3")))?;
    containerd.kill("doomed")?;
    eventually(SOON, "it is noticed", || {
        ensure_eq!(site.attachment(&format!("{}-doomed", site.machine.cgroup()))?["state"], "lost", "state");
        Ok(())
    })?;
    containerd.run("c2")?;
    ensure_eq!(leases(), ["10.20.0.2", "10.20.0.4"], "addresses that host-local gave");
    eventually(SOON, "c1 reaches c2", || containerd.exec("c1", &ping("10.20.0.4"))).map(drop)
}
