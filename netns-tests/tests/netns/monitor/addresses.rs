//! Events of addresses: learned, moved, aged, evicted, held.

use netns_tests::frames::{BROADCAST, text};
use netns_tests::{Context, Lab, Monitoring, Result, SOON, Station, ensure, ensure_eq, eventually};
use serde_json::{Value, json};

use super::{ROAMER, SECOND, THIRD, two, words};

pub(super) fn what_frames_do_to_addresses(lab: &Lab) -> Result {
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

pub(super) fn addresses_without_room(lab: &Lab) -> Result {
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

pub(super) fn an_address_that_flaps(lab: &Lab) -> Result {
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
