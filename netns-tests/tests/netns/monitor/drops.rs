//! Events of what is dropped, and of storms.

use netns_tests::frames::BROADCAST;
use netns_tests::traffic::flood::{Flood, Kind};
use netns_tests::{Context, Lab, Monitoring, Result, SOON, Station, ensure, ensure_eq, eventually};
use serde_json::{Value, json};

use super::alone;

pub(super) fn drops_and_storms(lab: &Lab) -> Result {
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
pub(super) fn drops_of_ports_that_go(lab: &Lab) -> Result {
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
