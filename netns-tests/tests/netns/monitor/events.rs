//! Events of ports, VLANs, peers and containers.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::time::{SystemTime, UNIX_EPOCH};

use netns_tests::frames::text;
use netns_tests::{Context, Daemon, DaemonSpec, Lab, Monitoring, Node, Result, SOON, Underlay, ensure, ensure_eq};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vswitch_api::{Client, Request};
use vswitch_sys::fdpass;

use super::{ROAMER, SECOND, alone, exactly};

pub(super) fn what_people_do(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let h1 = Node::v4(lab, &underlay, "h1")?;
    let _a = h1.attach_quiet(lab, "a", "--access 30")?;
    let start = SystemTime::now();
    let monitoring = Monitoring::start(lab, h1.vsctl(), "m", "")?;
    let mac = text(ROAMER);
    h1.ok("vlan add 10 --vni 100 --name lab")?;
    h1.ok("vtep peer add 192.0.2.9 --vlan 10")?;
    h1.ok("vlan add 20 --vni 200")?;
    h1.ok("vtep peer add 192.0.2.9 --vlan 20")?;
    h1.ok("vlan add 20 --vni 200")?; // so already: nothing happens
    h1.vsctl().refused(1, "vlan add 20 --vni 300")?;
    let b = h1.attach_quiet(lab, "b", "--access 10")?;
    h1.ok("port set b --mtu 1300 --access 20")?;
    h1.ok(&format!("fdb add {mac} --vlan 20 --port b"))?;
    h1.ok(&format!("fdb add {} --vlan 20 --remote 192.0.2.9", text(SECOND)))?;
    h1.ok(&format!("fdb del {mac} --vlan 20"))?;
    h1.ok(&format!("fdb add {mac} --vlan 20 --port b"))?;
    h1.ok("port del b")?;
    h1.ok(&format!("fdb del {} --vlan 20", text(SECOND)))?;
    h1.ok("vtep peer del 192.0.2.9")?;
    h1.ok("vlan del 20")?;
    let peer = "192.0.2.9";
    // What is told of addresses comes up to a tenth of a second later, and in any case before what they are behind goes.
    let expected = [
        "vlan.added 10 100".to_owned(),
        format!("peer.added {peer} [10]"),
        "vlan.added 20 200".to_owned(),
        format!("peer.changed {peer} [10,20]"),
        "port.added b".to_owned(),
        "port.changed b".to_owned(),
        format!("fdb.added {mac} 20 b"),
        format!("fdb.added {} 20 {peer}", text(SECOND)),
        format!("fdb.removed {mac} 20 b"),
        format!("fdb.added {mac} 20 b"),
        format!("fdb.removed {mac} 20 b"),
        "port.deleted b".to_owned(),
        format!("fdb.removed {} 20 {peer}", text(SECOND)),
        format!("peer.deleted {peer} [10,20]"),
        "vlan.deleted 20 200".to_owned(),
    ];
    let events = exactly(&monitoring, &expected)?;
    drop(b);
    let end = SystemTime::now();
    let snapshot = &events[0];
    ensure_eq!(snapshot["status"]["pid"], h1.daemon.pid(), "process");
    ensure_eq!((&snapshot["ports"][0]["name"], &snapshot["ports"][1]), (&json!("a"), &Value::Null), "ports");
    ensure_eq!((&snapshot["vlans"], &snapshot["peers"]), (&json!([]), &json!([])), "VLANs and peers");
    let changed = events.iter().find(|event| event["event"] == "port.changed").context("told")?;
    ensure_eq!(changed["changed"], json!(["mtu", "vlan"]), "what changed");
    ensure_eq!((&changed["mtu"], &changed["vlan"]), (&1300.into(), &20.into()), "to what");
    // As lists have it.
    let added = events.iter().find(|event| event["event"] == "port.added").context("told")?;
    let mut listed = h1.ok("port show a")?;
    for field in listed.as_object_mut().context("a port")?.keys() {
        ensure!(added.get(field).is_some(), "{field} is not in {added}");
    }
    let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_nanos());
    let (start, end) = (nanos(start).context("now")?, nanos(end).context("now")?);
    for event in &events {
        ensure!((start..end).contains(&event["at"].as_u64().unwrap_or(0).into()), "{event}: not from {start} to {end}");
    }
    let ended = monitoring.stop()?;
    ensure_eq!((ended.code, ended.said.as_str()), (Some(0), ""), "how it ended");
    Ok(())
}

/// Once each time that it changes, however often peers are probed.
pub(super) fn how_the_way_to_a_peer_is(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let probing = DaemonSpec { config: "probe-interval = \"100ms\"\n".to_owned(), ..DaemonSpec::default() };
    let h1 = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, probing)?;
    let h2 = Node::v4(lab, &underlay, "h2")?;
    h1.join(10, 100, &[])?;
    h2.join(10, 100, &[h1.ip])?;
    let monitoring = Monitoring::start(lab, h1.vsctl(), "m", "--kind peer")?;
    h1.ok(&format!("vtep peer add {} --vlan 10", h2.ip))?;
    let told = |state: &str, count: usize| -> Result<Value> {
        let (_, event) = monitoring.find_after(count, state, |event| event["health"]["state"] == state)?;
        ensure_eq!(event["event"], "peer.health", "{event}");
        ensure_eq!(event["ip"], h2.ip.to_string(), "{event}");
        Ok(event)
    };
    told("healthy", 0)?;
    let before = monitoring.events()?.len();
    h2.daemon.end(Signal::SIGTERM)?;
    let event = told("unreachable", before)?;
    ensure_eq!(event["health"]["findings"][0]["name"], "port_blocked", "{event}");
    let before = monitoring.events()?.len();
    let _again = Daemon::start(lab, &h2.host, &DaemonSpec { vtep_ip: Some(h2.ip), ..DaemonSpec::default() })?;
    told("healthy", before)?;
    let events = monitoring.stop()?.events;
    let states: Vec<_> = events.iter().filter_map(|event| event["health"]["state"].as_str()).collect();
    let said = |event: &Value| {
        let findings = event["health"]["findings"].as_array().into_iter().flatten();
        (event["health"]["state"].clone(), findings.map(|finding| finding["name"].clone()).collect::<Vec<_>>())
    };
    let repeated = events
        .windows(2)
        .filter(|two| two.iter().all(|event| event["event"] == "peer.health") && said(&two[0]) == said(&two[1]));
    ensure_eq!(repeated.count(), 0, "told twice: {states:?}");
    Ok(())
}

pub(super) fn a_port_that_is_lost_and_back(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let name = lab.folder("names")?.join("c");
    let (first, second) = (lab.quiet_host("first")?, lab.quiet_host("second")?);
    symlink(first.path(), &name)?;
    node.ok(&format!("port add c --netns {}", name.display()))?;
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--kind port")?;
    fs::remove_file(&name)?;
    drop(first);
    let lost = monitoring.named("port.lost")?;
    ensure_eq!((&lost["name"], &lost["state"]), (&json!("c"), &json!("lost")), "what is lost");
    symlink(second.path(), &name)?;
    let back = monitoring.named("port.back")?;
    ensure_eq!((&back["name"], &back["state"]), (&json!("c"), &json!("up")), "what is back");
    exactly(&monitoring, &["port.lost c".to_owned(), "port.back c".to_owned()])?;
    Ok(())
}

pub(super) fn containers(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--kind attachment,port")?;
    let mut plugin = Client::connect(node.daemon.socket(), SOON)?;
    let c1 = lab.quiet_host("c1")?;
    let params = json!({
        "port": {"name": "c1:eth0", "netns": c1.path(), "access": 10, "attachment": {"network": "net", "container": "c1"}},
        "pools": [{"subnet": "10.0.0.0/24"}],
    });
    let request = Request::decode("attachment.add", params).map_err(|error| error.to_string()).context("a request")?;
    plugin.call_sending(&request, |stream, bytes| fdpass::send(stream, bytes, &[c1.netns().as_fd()]))?;
    let params = json!({"container": "c1", "ifname": "eth0"});
    let request = Request::decode("attachment.del", params).map_err(|error| error.to_string()).context("a request")?;
    plugin.call_value(&request)?;
    let expected =
        ["port.added c1:eth0", "attachment.added c1 c1:eth0", "attachment.deleted c1 c1:eth0", "port.deleted c1:eth0"];
    let events = exactly(&monitoring, &expected.map(str::to_owned))?;
    ensure_eq!((&events[2]["network"], &events[2]["addresses"]), (&json!("net"), &json!(["10.0.0.2/24"])), "fields");
    Ok(())
}
