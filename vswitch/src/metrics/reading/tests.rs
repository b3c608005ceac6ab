//! Metrics of one switch that has one of everything.

use serde_json::json;
use vswitch_core::switch::FdbKind;
use vswitch_core::{Instant, MacAddr, VlanId};

use super::*;
use crate::drops::PortDrop;
use crate::metrics::table::ALL;
use crate::metrics::text::Format;

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
        "round_trip_us": {"last": 210, "p50": 200, "p99": 900}, "loss_share": 0.25, "jitter_us": 12, "path_mtu": 1400, "asked_s": null,
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
    crate::metrics::process::Process::open().tell(&mut text);
    text.finish()
}

#[test]
fn every_metric_is_told_once_in_the_order_declared_but_for_attachments() {
    let text = told();
    let mut told: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
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
