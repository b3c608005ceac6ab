use netns_tests::frames::Mac;
use netns_tests::{Daemon, DaemonSpec, Lab, Monitoring, Node, Result, SOON, Station, ensure, ensure_eq, eventually};
use serde_json::Value;

use crate::Tests;

#[path = "monitor/addresses.rs"]
mod addresses;
#[path = "monitor/drops.rs"]
mod drops;
#[path = "monitor/ends.rs"]
mod ends;
#[path = "monitor/events.rs"]
mod events;
#[path = "monitor/readers.rs"]
mod readers;

pub(crate) const TESTS: Tests = &[
    ("what_people_do", events::what_people_do),
    ("how_the_way_to_a_peer_is", events::how_the_way_to_a_peer_is),
    ("what_frames_do_to_addresses", addresses::what_frames_do_to_addresses),
    ("addresses_without_room", addresses::addresses_without_room),
    ("an_address_that_flaps", addresses::an_address_that_flaps),
    ("drops_and_storms", drops::drops_and_storms),
    ("drops_of_ports_that_go", drops::drops_of_ports_that_go),
    ("a_port_that_is_lost_and_back", events::a_port_that_is_lost_and_back),
    ("containers", events::containers),
    ("only_what_was_asked_for", readers::only_what_was_asked_for),
    ("a_takeover_and_restarts", ends::a_takeover_and_restarts),
    ("a_takeover_that_fails", ends::a_takeover_that_fails),
    ("a_reader_who_sleeps", readers::a_reader_who_sleeps),
    ("too_many", readers::too_many),
    ("who_may_only_look", readers::who_may_only_look),
    ("lines_for_people", readers::lines_for_people),
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

/// Two stations in VLAN 10 of one switch.
fn two(lab: &Lab, config: &str) -> Result<(Node, Station, Station)> {
    let node = alone(lab, config)?;
    let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(node.attach_quiet(lab, "b", "--access 10")?)?;
    Ok((node, a, b))
}
