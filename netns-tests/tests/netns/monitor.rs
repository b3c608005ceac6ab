use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netns_tests::frames::{BROADCAST, Mac, text};
use netns_tests::traffic::flood::{Flood, Kind};
use netns_tests::traffic::paced::Paced;
use netns_tests::traffic::ping::ping;
use netns_tests::{
    Account, Context, Daemon, DaemonSpec, Lab, Monitoring, Node, Result, SOON, Station, Underlay, ensure, ensure_eq,
    eventually,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vswitch_api::{Client, Request};
use vswitch_sys::fdpass;

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("what_people_do", what_people_do),
    ("how_the_way_to_a_peer_is", how_the_way_to_a_peer_is),
    ("what_frames_do_to_addresses", what_frames_do_to_addresses),
    ("addresses_without_room", addresses_without_room),
    ("an_address_that_flaps", an_address_that_flaps),
    ("drops_and_storms", drops_and_storms),
    ("drops_of_ports_that_go", drops_of_ports_that_go),
    ("a_port_that_is_lost_and_back", a_port_that_is_lost_and_back),
    ("containers", containers),
    ("only_what_was_asked_for", only_what_was_asked_for),
    ("a_takeover_and_restarts", a_takeover_and_restarts),
    ("a_takeover_that_fails", a_takeover_that_fails),
    ("a_reader_who_sleeps", a_reader_who_sleeps),
    ("too_many", too_many),
    ("who_may_only_look", who_may_only_look),
    ("lines_for_people", lines_for_people),
];

/// Addresses that no interface has.
const ROAMER: Mac = [2, 0xaa, 0, 0, 0, 1];
const SECOND: Mac = [2, 0xaa, 0, 0, 0, 2];
const THIRD: Mac = [2, 0xaa, 0, 0, 0, 3];

/// A switch without VXLAN.
fn alone(lab: &Lab, config: &str) -> Result<Node> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { config: config.to_owned(), ..DaemonSpec::default() })?;
    Ok(Node { daemon, host, ip: [127, 0, 0, 1].into() })
}

/// An event in words: its name, and what it is about.
fn words(event: &Value) -> String {
    let word =
        |name: &str| event[name].as_str().map(str::to_owned).or_else(|| event[name].as_u64().map(|n| n.to_string()));
    let about: Vec<_> = match event["event"].as_str().unwrap_or_default() {
        name if name.starts_with("fdb") => vec![word("mac"), word("vlan"), word("port"), word("remote")],
        name if name.starts_with("port") => vec![word("name")],
        name if name.starts_with("vlan") => vec![word("vlan"), word("vni")],
        name if name.starts_with("peer") => vec![word("ip"), Some(event["vlans"].to_string())],
        name if name.starts_with("attachment") => vec![word("container"), word("port")],
        _ => vec![word("why")],
    };
    about.into_iter().flatten().fold(word("event").unwrap_or_default(), |text, word| text + " " + &word)
}

/// Waits until exactly this was told behind the snapshot, in this order.
fn exactly(monitoring: &Monitoring, expected: &[String]) -> Result<Vec<Value>> {
    let all = || Ok::<_, netns_tests::Failure>(monitoring.events()?.iter().skip(1).map(words).collect::<Vec<_>>());
    eventually(SOON, "all is told", || {
        let told = all()?;
        ensure!(told.len() >= expected.len(), "{told:?}");
        Ok(())
    })?;
    ensure_eq!(all()?, expected, "events");
    monitoring.events()
}

fn what_people_do(lab: &Lab) -> Result {
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

/// Two stations in VLAN 10 of one switch.
fn two(lab: &Lab, config: &str) -> Result<(Node, Station, Station)> {
    let node = alone(lab, config)?;
    let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(node.attach_quiet(lab, "b", "--access 10")?)?;
    Ok((node, a, b))
}

/// Once each time that it changes, however often peers are probed.
fn how_the_way_to_a_peer_is(lab: &Lab) -> Result {
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

fn what_frames_do_to_addresses(lab: &Lab) -> Result {
    let (node, a, b) = two(lab, "ageing = 1\nworkers = 2\n")?;
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--kind fdb")?;
    let mac = text(ROAMER);
    a.probe_as(ROAMER, BROADCAST)?;
    let learned = monitoring.named("fdb.learned")?;
    ensure_eq!(words(&learned), format!("fdb.learned {mac} 10 a"), "learned");
    b.probe_as(ROAMER, BROADCAST)?;
    let moved = monitoring.named("fdb.moved")?;
    ensure_eq!(words(&moved), format!("fdb.moved {mac} 10 b"), "moved");
    ensure_eq!(moved["from"], json!({"port": "a", "remote": null}), "from where");
    let aged = monitoring.named("fdb.aged")?;
    ensure_eq!(words(&aged), format!("fdb.aged {mac} 10 b"), "aged");
    let silent = aged["at"].as_u64().context("at")? - moved["at"].as_u64().context("at")?;
    ensure!((900_000_000..10_000_000_000).contains(&silent), "aged after {silent} ns");
    // Of each port once: addresses of a port go with it, whoever has its number next.
    a.probe_as(SECOND, BROADCAST)?;
    monitoring.find("learned", |event| words(event) == format!("fdb.learned {} 10 a", text(SECOND)))?;
    node.ok("port del a")?;
    let c = Station::new(node.attach_quiet(lab, "c", "--access 10")?)?;
    let gone =
        |event: &Value| event["event"] == "fdb.removed" || event["mac"] == text(SECOND) && event["event"] == "fdb.aged";
    let removed = monitoring.find("it goes with its port", gone)?;
    ensure_eq!(removed["port"], "a", "whose it was");
    c.probe_as(THIRD, BROADCAST)?;
    monitoring.find("learned", |event| words(event) == format!("fdb.learned {} 10 c", text(THIRD)))?;
    node.ok("fdb flush")?;
    let third = |event: &Value| {
        event["mac"] == text(THIRD) && ["fdb.removed", "fdb.aged"].contains(&event["event"].as_str().unwrap_or(""))
    };
    ensure_eq!(monitoring.find("it is flushed", third)?["port"], "c", "whose it was");
    let kinds = monitoring.stop()?.events;
    ensure!(kinds.iter().skip(1).all(|event| words(event).starts_with("fdb.")), "{kinds:?}");
    Ok(())
}

fn addresses_without_room(lab: &Lab) -> Result {
    let (node, a, _b) = two(lab, "fdb-limit = 3\nfdb-limit-per-port = 2\n")?;
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--kind fdb")?;
    for mac in [ROAMER, SECOND, THIRD] {
        a.probe_as(mac, BROADCAST)?;
    }
    let evicted = monitoring.named("fdb.evicted")?;
    ensure_eq!(words(&evicted), format!("fdb.evicted {} 10 a", text(ROAMER)), "evicted");
    node.ok("fdb flush")?;
    for mac in [ROAMER, SECOND, THIRD] {
        node.ok(&format!("fdb add {} --vlan 10 --port b", text(mac)))?;
    }
    a.probe(BROADCAST)?;
    let limited = monitoring.named("fdb.limited")?;
    ensure_eq!(words(&limited), format!("fdb.limited {} 10 a", text(a.mac)), "not learned");
    ensure_eq!(node.ok("status")?["fdb_limited"], 1, "as counted");
    Ok(())
}

fn an_address_that_flaps(lab: &Lab) -> Result {
    let (node, a, b) = two(lab, "")?;
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--kind fdb --vlan 10")?;
    let mut turns = [&a, &b].into_iter().cycle();
    let held = eventually(SOON, "it is held", || {
        turns.next().context("without end")?.probe_as(ROAMER, BROADCAST)?;
        let events = monitoring.events()?;
        events.into_iter().find(|event| event["event"] == "fdb.held").context("not yet")
    })?;
    let listed = node.ok("fdb list")?;
    let entry = listed.as_array().into_iter().flatten().find(|entry| entry["mac"] == text(ROAMER)).context("known")?;
    ensure_eq!((&held["port"], &held["flapping"]["port"]), (&entry["port"], &entry["flapping"]["port"]), "where");
    ensure_eq!(held["flapping"]["held_s"], 10, "for how long");
    let released = monitoring.named("fdb.released")?;
    ensure_eq!((&released["mac"], &released["port"]), (&held["mac"], &held["port"]), "what is released");
    let lasted = released["at"].as_u64().context("at")? - held["at"].as_u64().context("at")?;
    ensure!((9_900_000_000..20_000_000_000).contains(&lasted), "held for {lasted} ns");
    Ok(())
}

fn drops_and_storms(lab: &Lab) -> Result {
    let node = alone(lab, "storm-limit = 100\n")?;
    let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
    let _b = node.attach_quiet(lab, "b", "--access 10")?;
    a.wire.send(&netns_tests::frames::probe(BROADCAST, a.mac, Some(30), 1))?;
    eventually(SOON, "a drop is counted", || {
        ensure_eq!(node.stats()?.dropped("a", "vlan_not_allowed"), 1, "drops");
        Ok(())
    })?;
    let before = node.stats()?;
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--port a")?;
    a.wire.send(&netns_tests::frames::probe(BROADCAST, a.mac, Some(30), 1))?;
    let drop = monitoring.named("drops")?;
    let expected = json!({"port": "a", "remote": null, "reason": "vlan_not_allowed", "frames": 1});
    for (name, value) in expected.as_object().context("an object")? {
        ensure_eq!(&drop[name], value, "{name} of what is dropped since");
    }
    let flood = Flood::start(&a.host, "eth0", Kind::Broadcast, 5_000)?;
    let begun = monitoring.named("storm.begun")?;
    let seen = |count: usize| {
        let told = |event: &&Value| event["event"] == "drops" && event["reason"] == "storm_broadcast";
        eventually(SOON, "drops are told while it lasts", || {
            let events = monitoring.events()?;
            ensure!(events.iter().filter(told).count() >= count, "{events:?}");
            Ok(())
        })
    };
    seen(3)?;
    let _ = flood.stop();
    let ended = monitoring.named("storm.ended")?;
    let all = monitoring.stop()?.events;
    let storm: Vec<_> =
        all.iter().filter(|event| event["event"] == "drops" && event["reason"] == "storm_broadcast").collect();
    let sum: u64 = storm.iter().filter_map(|event| event["frames"].as_u64()).sum();
    let counted = node.stats()?.dropped("a", "storm_broadcast") - before.dropped("a", "storm_broadcast");
    ensure_eq!((sum, &ended["frames"]), (counted, &counted.into()), "frames of the storm");
    ensure!(counted > 1_000, "{counted} are too few to prove anything");
    for two in storm.windows(2) {
        let [earlier, later] = [two[0], two[1]].map(|event| event["at"].as_u64().unwrap_or(0));
        // The clock of who looks is not that of day.
        ensure!(later - earlier > 950_000_000, "{} ns between two", later - earlier);
    }
    for event in [&begun, &ended] {
        ensure_eq!((&event["port"], &event["reason"]), (&json!("a"), &json!("storm_broadcast")), "whose storm");
    }
    let times = |name: &str| all.iter().filter(|event| event["event"] == name).count();
    ensure_eq!([times("storm.begun"), times("storm.ended")], [1, 1], "storms");
    ensure!(ended["lasted_s"].as_u64() >= Some(2), "{ended}");
    Ok(())
}

/// What was dropped since drops were told last is told before the port is: whoever adds it up has what was counted.
fn drops_of_ports_that_go(lab: &Lab) -> Result {
    let node = alone(lab, "storm-limit = 100\n")?;
    let attach = |name: &str| Station::new(node.attach_quiet(lab, name, "--access 10")?);
    let (a, b, c, _d) = (attach("a")?, attach("b")?, attach("c")?, attach("d")?);
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--vlan 10 --kind drops,storm,port")?;
    let wrong = |station: &Station, name: &str, frames: u64| -> Result {
        let before = node.stats()?.dropped(name, "vlan_not_allowed");
        for _ in 0..frames {
            station.wire.send(&netns_tests::frames::probe(BROADCAST, station.mac, Some(30), 1))?;
        }
        eventually(SOON, "they are counted", || {
            ensure_eq!(node.stats()?.dropped(name, "vlan_not_allowed"), before + frames, "drops of {name}");
            Ok(())
        })
    };
    let told = |events: &[Value], name: &str, reason: &str| -> u64 {
        let of = events
            .iter()
            .filter(|event| event["event"] == "drops" && event["port"] == name && event["reason"] == reason);
        of.filter_map(|event| event["frames"].as_u64()).sum()
    };
    // The first drop is told once a second has passed; those behind it would be a second later.
    wrong(&a, "a", 1)?;
    wrong(&b, "b", 1)?;
    monitoring.find("drops of b", |event| event["event"] == "drops" && event["port"] == "b")?;
    wrong(&a, "a", 5)?;
    node.ok("port del a")?;
    monitoring.named("port.deleted")?;
    wrong(&b, "b", 7)?;
    drop(b); // its namespace goes with it
    monitoring.named("port.lost")?;
    node.ok("port del b")?;
    let flood = Flood::start(&c.host, "eth0", Kind::Broadcast, 5_000)?;
    monitoring.named("storm.begun")?;
    eventually(SOON, "the storm goes on", || {
        let count = node.stats()?.dropped("c", "storm_broadcast");
        ensure!(count > 1_000, "{count} frames");
        Ok(())
    })?;
    node.ok("port del c")?;
    let gone = |event: &Value| event["event"] == "port.deleted" && event["name"] == "c";
    let (end, _) = monitoring.find_after(0, "c is gone", gone)?;
    let _ = flood.stop();
    let events = monitoring.stop()?.events;
    for (name, frames) in [("a", 6), ("b", 8)] {
        let deleted = |event: &Value| event["event"] == "port.deleted" && event["name"] == name;
        let end = events.iter().position(deleted).context("told")?;
        ensure_eq!(told(&events[..end], name, "vlan_not_allowed"), frames, "drops of {name} before it is gone");
        ensure_eq!(told(&events[end..], name, "vlan_not_allowed"), 0, "drops of {name} afterwards");
    }
    let ended =
        events[..end].iter().find(|event| event["event"] == "storm.ended").context("the storm ended with it")?;
    ensure_eq!(ended["frames"], told(&events[..end], "c", "storm_broadcast"), "frames of the storm");
    ensure!(ended["frames"].as_u64() > Some(1_000), "{ended}: too few to prove anything");
    Ok(())
}

fn a_port_that_is_lost_and_back(lab: &Lab) -> Result {
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

fn containers(lab: &Lab) -> Result {
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

fn only_what_was_asked_for(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let start = |name: &str, words: &str| Monitoring::start(lab, node.vsctl(), name, words);
    // A port that is not there yet, a VLAN, kinds; and all of it, to know when all was told.
    let (port, vlan, kinds) = (start("p", "--port b")?, start("v", "--vlan 20")?, start("k", "--kind vlan,fdb")?);
    let both = start("b", "--port b --kind fdb")?;
    let all = start("a", "")?;
    let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(node.attach_quiet(lab, "b", "--access 20")?)?;
    node.ok("vlan add 20 --name lab")?;
    a.probe(BROADCAST)?;
    b.probe(BROADCAST)?;
    for station in [&a, &b] {
        all.find("learned", |event| event["event"] == "fdb.learned" && event["mac"] == text(station.mac))?;
    }
    node.ok("vlan del 20")?;
    all.named("vlan.deleted")?;
    let (of_a, of_b) = (format!("fdb.learned {} 10 a", text(a.mac)), format!("fdb.learned {} 20 b", text(b.mac)));
    let (vlan_added, vlan_deleted) = ("vlan.added 20".to_owned(), "vlan.deleted 20".to_owned());
    let (added_a, added_b) = ("port.added a".to_owned(), "port.added b".to_owned());
    let table = [
        ("port", port, vec![added_b.clone(), of_b.clone()]),
        ("vlan", vlan, vec![added_b.clone(), vlan_added.clone(), of_b.clone(), vlan_deleted.clone()]),
        ("kinds", kinds, vec![vlan_added.clone(), of_a.clone(), of_b.clone(), vlan_deleted.clone()]),
        ("both", both, vec![of_b.clone()]),
        ("all", all, vec![added_a, added_b, vlan_added, of_a, of_b, vlan_deleted]),
    ];
    for (name, monitoring, expected) in table {
        let mut told: Vec<_> = exactly_many(&monitoring, expected.len())?.iter().map(words).collect();
        let mut expected = expected;
        // Two queues are read in no order.
        told.sort();
        expected.sort();
        ensure_eq!(told, expected, "{name}");
    }
    node.vsctl().refused(2, "monitor --kind frames")?;
    let again = start("again", "--port a")?.stop()?;
    ensure_eq!(again.events[0]["ports"].as_array().map(Vec::len), Some(1), "ports of the snapshot");
    Ok(())
}

/// The events behind the snapshot once there are so many.
fn exactly_many(monitoring: &Monitoring, many: usize) -> Result<Vec<Value>> {
    eventually(SOON, "all is told", || {
        let events = monitoring.events()?;
        ensure!(events.len() > many, "{events:?}");
        Ok(events.into_iter().skip(1).collect())
    })
}

fn a_takeover_and_restarts(lab: &Lab) -> Result {
    let spec = DaemonSpec::default();
    let Node { daemon, host, ip } = alone(lab, "")?;
    let monitoring = Monitoring::start(lab, daemon.vsctl(), "m", "")?;
    let brief = Monitoring::start(lab, daemon.vsctl(), "brief", "--kind takeover --no-reconnect")?;
    let daemon = daemon.taken_over(lab, &host, &spec)?;
    let expected =
        ["takeover.begun", "takeover.done", "disconnected another vswitchd has taken over", "reconnected", "snapshot"];
    let events = exactly(&monitoring, &expected.map(str::to_owned))?;
    ensure_eq!(events[5]["status"]["pid"], daemon.pid(), "who tells now");
    let brief = brief.ended()?;
    ensure_eq!(brief.code, Some(3), "exit code: {}", brief.said);
    ensure!(brief.said.contains("another vswitchd has taken over"), "{}", brief.said);
    ensure_eq!(brief.events.last().map(words), Some(expected[2].to_owned()), "its last event");
    // It listens.
    daemon.vsctl().ok("vlan add 10")?;
    let (mut place, _) = monitoring.find_after(5, "a VLAN", |event| words(event) == "vlan.added 10")?;
    // And goes on, however the next one ends.
    let mut daemon = daemon;
    for (signal, why) in [(Signal::SIGTERM, "vswitchd ends"), (Signal::SIGKILL, "vswitchd has gone")] {
        daemon.end(signal)?;
        let is_told = |event: &Value| words(event) == format!("disconnected {why}");
        (place, _) = monitoring.find_after(place, "its end", is_told)?;
        daemon = Daemon::start(lab, &host, &spec)?;
        let (again, _) = monitoring.find_after(place, "its return", |event| event["event"] == "reconnected")?;
        let events = eventually(SOON, "a snapshot", || {
            let events = monitoring.events()?;
            ensure!(events.len() > again + 1, "{events:?}");
            Ok(events)
        })?;
        ensure_eq!(events[again + 1]["status"]["pid"], daemon.pid(), "who tells now");
        ensure_eq!(again, place + 1, "what is told in between");
        place = again + 1;
    }
    daemon.vsctl().ok("vlan add 11")?;
    monitoring.find_after(place, "a VLAN", |event| words(event) == "vlan.added 11")?;
    // Who waits for a daemon can be told to end; who never met one does not wait.
    let vsctl = daemon.vsctl().clone();
    daemon.end(Signal::SIGTERM)?;
    monitoring.find_after(place, "its end", |event| event["event"] == "disconnected")?;
    ensure_eq!(monitoring.stop()?.code, Some(0), "exit code");
    vsctl.refused(3, "monitor")?;
    drop((host, ip));
    Ok(())
}

fn a_takeover_that_fails(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--kind takeover")?;
    let mut heir = Client::connect(node.daemon.socket(), SOON)?;
    let begin = Request::decode("takeover.begin", json!({"format": 1})).map_err(|error| error.to_string());
    heir.call_value(&begin.context("a request")?)?;
    monitoring.named("takeover.begun")?;
    // Somebody may begin to listen meanwhile.
    let late = Monitoring::start(lab, node.vsctl(), "late", "")?;
    drop(heir);
    let failed = ["takeover.begun".to_owned(), "takeover.failed the other left".to_owned()];
    exactly(&monitoring, &failed)?;
    exactly(&late, &failed[1..])?;
    Ok(())
}

/// What the switch counted of addresses, by the name of its event.
fn counted(node: &Node) -> Result<BTreeMap<&'static str, u64>> {
    let status = node.ok("status")?;
    let count = |name: &str| status[name].as_u64().context(name.to_owned());
    let all = [("fdb.learned", "fdb_learned"), ("fdb.evicted", "fdb_evicted"), ("fdb.moved", "fdb_moved")];
    all.into_iter().map(|(event, name)| Ok((event, count(name)?))).collect()
}

fn a_reader_who_sleeps(lab: &Lab) -> Result {
    let node = alone(lab, "fdb-limit-per-port = 1000\n")?;
    let attach = |name: &str, number: u8| node.attach_quiet(lab, name, &format!("--address 10.0.0.{number}/24"));
    let (client, server) = (attach("client", 1)?, attach("server", 2)?);
    let (flooder, sink) = (attach("flooder", 3)?, attach("sink", 4)?);
    for other in [&server, &flooder, &sink] {
        ping(other, "10.0.0.1".parse()?, 56)?;
    }
    let before = counted(&node)?;
    let (awake, asleep) = (
        Monitoring::start(lab, node.vsctl(), "awake", "--kind fdb")?,
        Monitoring::start(lab, node.vsctl(), "asleep", "--kind fdb")?,
    );
    asleep.signal(Signal::SIGSTOP)?;
    let flood = Flood::start(&flooder, "eth0", Kind::RandomSources(sink.mac("eth0")?), 10_000)?;
    let paced = Paced::start((&client, "10.0.0.1".parse()?), (&server, "10.0.0.2".parse()?), Duration::from_millis(2))?;
    // Learned, and soon evicted again: more than there is room for.
    eventually(SOON * 3, "enough happens", || {
        let learned = counted(&node)?["fdb.learned"] - before["fdb.learned"];
        ensure!(learned > 30_000, "{learned} addresses");
        Ok(())
    })?;
    let (_, trips) = (flood.stop(), paced.stop()?);
    ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
    let after = eventually(SOON, "all is counted", || {
        let one = counted(&node)?;
        std::thread::sleep(Duration::from_millis(50)); // longer than a frame waits
        ensure_eq!(counted(&node)?, one, "counters");
        Ok(one)
    })?;
    asleep.signal(Signal::SIGCONT)?;
    let happened: u64 = after.iter().map(|(name, count)| count - before[name]).sum();
    for (name, monitoring) in [("awake", &awake), ("asleep", &asleep)] {
        let (told, lost) = eventually(SOON, "all is told, or said to be lost", || {
            let events = monitoring.events()?;
            let lost: u64 = events.iter().filter_map(|event| event["events"].as_u64()).sum();
            let told = events.iter().filter(|event| before.contains_key(event["event"].as_str().unwrap_or_default()));
            let told = told.count() as u64;
            ensure_eq!(told + lost, happened, "events told ({told}) and lost ({lost})");
            Ok((told, lost))
        })?;
        println!("{name}: {told} events, {lost} lost");
        ensure!(name == "awake" || lost > 0, "none is lost: the flood was too small to prove anything");
    }
    Ok(())
}

/// Threads of the daemon that serve those who listen.
fn threads(node: &Node) -> Result<usize> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.daemon.pid()))?;
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    Ok(names.filter(|name| name.trim() == "monitor").count())
}

fn too_many(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let names: Vec<_> = (0..8).map(|number| format!("m{number}")).collect();
    let start = |name: &String| Monitoring::start(lab, node.vsctl(), name, "");
    let running: Vec<_> = names.iter().map(start).collect::<Result<_>>()?;
    let said = node.vsctl().refused(1, "monitor")?;
    ensure!(said.contains("8 of a user"), "{said}");
    ensure_eq!(threads(&node)?, 8, "threads");
    drop(running);
    eventually(SOON, "threads end with those who listen", || {
        ensure_eq!(threads(&node)?, 0, "threads");
        Ok(())
    })?;
    // Nobody listens: nothing is kept for anybody. And one may listen again.
    node.ok("vlan add 10")?;
    Monitoring::start(lab, node.vsctl(), "again", "")?.stop()?;
    // What is no socket, or none at all, is refused.
    let listen = || Request::decode("monitor.start", json!({})).map_err(|error| error.to_string()).context("a request");
    let mut client = Client::connect(node.daemon.socket(), SOON)?;
    let nothing = fs::File::open("/dev/null")?;
    let refused = client.call_sending(&listen()?, |stream, bytes| fdpass::send(stream, bytes, &[nothing.as_fd()]));
    ensure!(refused.is_err_and(|error| error.to_string().contains("Unix socket")), "a file is no socket");
    ensure!(client.call_value(&listen()?).is_err_and(|error| error.to_string().contains("Unix socket")), "no socket");
    // A program of another's making: the answer is the snapshot, each line an object.
    let (ours, theirs) = UnixStream::pair()?;
    let answer = client.call_sending(&listen()?, |stream, bytes| fdpass::send(stream, bytes, &[theirs.as_fd()]))?;
    drop(theirs);
    ensure_eq!(answer["snapshot"]["event"], "snapshot", "the answer");
    ensure!(answer["reasons"]["queue_full"].is_string(), "reasons");
    node.ok("vlan add 11")?;
    let mut line = String::new();
    BufReader::new(ours).read_line(&mut line)?;
    ensure_eq!(serde_json::from_str::<Value>(&line).context("a line")?["event"], "vlan.added", "the first event");
    Ok(())
}

fn who_may_only_look(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let args = ["--socket-mode", "0666"].map(str::to_owned).to_vec();
    let daemon = Daemon::start(lab, &host, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let stranger = daemon.vsctl().by(&Account::user(65_533));
    ensure_eq!(stranger.run("vlan add 10")?.code, 1, "exit code of a change");
    let monitoring = Monitoring::start(lab, &stranger, "m", "")?;
    // As many as he likes, and still there is room for others.
    let names: Vec<_> = (0..7).map(|number| format!("m{number}")).collect();
    let more: Vec<_> = names.iter().map(|name| Monitoring::start(lab, &stranger, name, "")).collect::<Result<_>>()?;
    stranger.refused(1, "monitor")?;
    let own = Monitoring::start(lab, daemon.vsctl(), "own", "")?;
    daemon.vsctl().ok("vlan add 10")?;
    for monitoring in more.iter().chain([&monitoring, &own]) {
        monitoring.named("vlan.added")?;
    }
    Ok(())
}

fn lines_for_people(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let mut child = node.vsctl().command()?.arg("monitor").stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let mut next = |part: &str| -> Result {
        let line = lines.next().context("a line")??;
        ensure!(line.contains(part), "{line}: not {part}");
        Ok(())
    };
    next("0 ports, 0 VLANs, 0 peers, 0 addresses")?;
    node.ok("vlan add 10 --name lab")?;
    next("Z vlan.added         10: local, called lab")?;
    let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
    next("Z port.added         a: VLAN 10, eth0 in ")?;
    a.probe(BROADCAST)?;
    next(&format!("Z fdb.learned        {} VLAN 10 at port a", text(a.mac)))?;
    next("Z drops              port a: 1 frames: no_member: The frame is for many")?;
    // Its reader goes: so does it.
    drop(lines);
    node.ok("vlan del 10")?;
    let status = eventually(SOON, "vsctl ends with its reader", || child.try_wait()?.context("it runs"))?;
    ensure_eq!(status.code(), Some(0), "exit code");
    Ok(())
}
