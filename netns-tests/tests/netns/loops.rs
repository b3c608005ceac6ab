use std::time::Duration;

use netns_tests::frames::{BROADCAST, Mac, probe, text};
use netns_tests::traffic::paced::{Paced, Trips};
use netns_tests::traffic::ping::ping;
use netns_tests::{Capture, Context, Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, ensure, ensure_eq, eventually};
use serde_json::Value;

use crate::{Tests, idle};

/// On one host.
pub(crate) const TESTS: Tests = &[
    ("two_ports_bridged", two_ports_bridged),
    ("two_ports_bridged_with_two_workers", two_ports_bridged_with_two_workers),
    ("more_stations_than_can_be_held", more_stations_than_can_be_held),
    ("a_station_that_moves", a_station_that_moves),
];

/// With VXLAN between.
pub(crate) const ACROSS: Tests = &[("two_hosts_bridged", two_hosts_bridged)];

/// `--storm-limit`.
const STORM: u64 = 1_000;
/// Between two datagrams of those who are to reach each other all along.
const PACE: Duration = Duration::from_millis(2);

/// A container that joins its `eth0` and `eth1` by a bridge, once that is up.
struct Looper {
    host: Host,
}

impl Looper {
    fn new(host: Host) -> Result<Self> {
        host.bridge_without_netfilter()?;
        host.netlink().add_bridge("br")?;
        let bridge = host.link("br")?.index;
        for port in ["eth0", "eth1"] {
            host.netlink().set_master(host.link(port)?.index, Some(bridge))?;
        }
        Ok(Self { host })
    }

    fn close(&self, closed: bool) -> Result {
        Ok(self.host.netlink().set_up(self.host.link("br")?.index, closed)?)
    }
}

/// One host: two stations that talk, one that broadcasts, and a container with two ports that may make a loop.
struct Scene {
    node: Node,
    a: Host,
    b: Host,
    talker: Host,
    wire: Capture,
    looper: Looper,
}

impl Scene {
    fn new(lab: &Lab, config: &str) -> Result<Self> {
        let host = lab.host("h1")?;
        let config = format!("storm-limit = {STORM}\n{config}");
        let daemon = Daemon::start(lab, &host, &DaemonSpec { config, ..DaemonSpec::default() })?;
        let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
        let attach = |name: &str, number: u8| node.attach_quiet(lab, name, &format!("--address 10.0.0.{number}/24"));
        let (a, b, talker) = (attach("a", 1)?, attach("b", 2)?, attach("talker", 3)?);
        let looper = lab.quiet_host("looper")?;
        for (port, ifname) in [("left", "eth0"), ("right", "eth1")] {
            node.ok(&format!("port add {port} --netns {} --ifname {ifname}", looper.path().display()))?;
        }
        for other in [&b, &talker] {
            ping(other, [10, 0, 0, 1].into(), 56)?;
        }
        let wire = Capture::open(&talker, "eth0")?;
        Ok(Self { node, a, b, talker, wire, looper: Looper::new(looper)? })
    }

    fn pace(&self) -> Result<Paced> {
        Paced::start((&self.a, [10, 0, 0, 1].into()), (&self.b, [10, 0, 0, 2].into()), PACE)
    }
}

fn whole(trips: &Trips) -> Result {
    ensure!(trips.sent > 20, "{} datagrams are too few to prove anything", trips.sent);
    ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
    Ok(())
}

/// Waits for `more` round trips.
fn some_more(paced: &Paced, more: u64) -> Result {
    let before = paced.done();
    eventually(SOON, "round trips", || {
        let done = paced.done();
        ensure!(done >= before + more, "{done} after {before}");
        Ok(())
    })
}

/// The entry of `mac` once it is held.
fn held(node: &Node, vlan: u64, mac: Mac) -> Result<Value> {
    let wanted = text(mac);
    eventually(SOON, "the address is held", || {
        let list = node.ok("fdb list")?;
        let entry =
            list.as_array().into_iter().flatten().find(|entry| entry["mac"] == *wanted && entry["vlan"] == vlan);
        let entry = entry.context(format_args!("{wanted} in {list}"))?;
        ensure!(!entry["flapping"].is_null(), "{entry}");
        Ok(entry.clone())
    })
}

fn two_ports_bridged(lab: &Lab) -> Result {
    held_where_it_was(lab, "")
}

fn two_ports_bridged_with_two_workers(lab: &Lab) -> Result {
    held_where_it_was(lab, "workers = 2\n")
}

fn held_where_it_was(lab: &Lab, config: &str) -> Result {
    let scene = Scene::new(lab, config)?;
    let Scene { node, talker, wire, looper, .. } = &scene;
    let (before, mac) = (node.stats()?, talker.mac("eth0")?);
    let paced = scene.pace()?;
    looper.close(true)?;
    // Broadcasts, until one has gone round: the bridge may take its time to come up.
    let entry = eventually(SOON, "the loop is noticed", || {
        wire.send(&probe(BROADCAST, mac, None, 0))?;
        let status = node.ok("status")?;
        ensure!(status["fdb_flapping"].as_u64() >= Some(1), "{status}");
        held(node, 1, mac)
    })?;
    ensure_eq!(entry["port"], "talker", "where it is held: {entry}");
    let (other, held_s) = (entry["flapping"]["port"].as_str(), entry["flapping"]["held_s"].as_u64());
    ensure!(matches!(other, Some("left" | "right")), "the other port in {entry}");
    ensure!(matches!(held_s, Some(1..=160)), "how long it is held in {entry}");
    // People are told, with both names.
    let log = node.daemon.log()?;
    let line = log.lines().find(|line| line.contains("to and fro") && line.contains(&text(mac)));
    let line = line.context("a line of the log about it")?;
    ensure!(line.contains("WARN") && line.contains("at=port talker"), "{line}");
    ensure!(line.contains("also_at=port left") || line.contains("also_at=port right"), "{line}");
    ensure!(line.contains("vlan=1 "), "{line}");
    // Held, the station is in touch, and so are all others, and its broadcasts go round no more.
    ping(&scene.a, [10, 0, 0, 3].into(), 56)?;
    some_more(&paced, 100)?;
    whole(&paced.stop()?)?;
    let after = node.stats()?;
    let since = after.drops_since(&before);
    let named: Vec<_> = since.keys().map(|(port, reason)| (port.as_str(), reason.as_str())).collect();
    ensure!(named.iter().any(|(_, reason)| *reason == "mac_flapping"), "drops: {since:?}");
    // What the container's bridge sends of its own accord comes back by the port it is held at: the limit alone ends that.
    let reasons = ["mac_flapping", "storm_broadcast", "storm_multicast", "same_port"];
    let expected = |name: &(&str, &str)| matches!(name.0, "left" | "right") && reasons.contains(&name.1);
    ensure!(named.iter().all(expected), "drops: {since:?}");
    idle::comes_to_rest(&node.daemon)?;
    // The loop stands still; cut, and the hold over, the address may move again.
    looper.close(false)
}

/// Broadcasts of more stations than can be held go round for as long as the loop stands, at the pace of the storm limit.
fn more_stations_than_can_be_held(lab: &Lab) -> Result {
    let scene = Scene::new(lab, "")?;
    let Scene { node, wire, looper, .. } = &scene;
    looper.close(true)?;
    let paced = scene.pace()?;
    let before = node.stats()?;
    let mut number = 0_u16;
    eventually(SOON, "the storm is held", || {
        for _ in 0..50 {
            let [high, low] = number.to_be_bytes();
            number = (number + 1) % 3_000;
            wire.send(&probe(BROADCAST, [0x02, 0xaa, 0, 0, high, low], None, 0))?;
        }
        let since = node.stats()?.drops_since(&before);
        for port in ["left", "right"] {
            let dropped = since.get(&(port.to_owned(), "storm_broadcast".to_owned())).copied().unwrap_or(0);
            ensure!(dropped > 1_000, "{port}: {dropped}");
        }
        Ok(())
    })?;
    // It goes round, and the others feel nothing.
    some_more(&paced, 200)?;
    whole(&paced.stop()?)?;
    // Ten lines at most, however many flap.
    let log = node.daemon.log()?;
    let lines = log.lines().filter(|line| line.contains("to and fro") && line.contains("mac=")).count();
    ensure!((1..=40).contains(&lines), "{lines} lines of the log about it");
    looper.close(false)?;
    idle::comes_to_rest(&node.daemon)
}

/// A station that moves once, as a container does that is started elsewhere, is found there at once and not held.
fn a_station_that_moves(lab: &Lab) -> Result {
    let scene = Scene::new(lab, "")?;
    let Scene { node, a, b, talker, .. } = &scene;
    let (mac, wires) = ([0x02, 0xbb, 0, 0, 0, 1], [Capture::open(a, "eth0")?, Capture::open(b, "eth0")?]);
    for (turn, wire) in wires.iter().cycle().take(3).enumerate() {
        wire.send(&probe(talker.mac("eth0")?, mac, None, 0))?;
        let port = ["a", "b"][turn % 2];
        eventually(SOON, "the station is found where it is", || {
            ensure_eq!(node.place_of(1, &text(mac))?.context("known")?.0, port, "where it is");
            Ok(())
        })?;
    }
    let status = node.ok("status")?;
    ensure_eq!((&status["fdb_moved"], &status["fdb_flapping"]), (&2.into(), &0.into()), "moves");
    Ok(())
}

fn two_hosts_bridged(lab: &Lab) -> Result {
    let spec = DaemonSpec { config: format!("storm-limit = {STORM}\n"), ..DaemonSpec::default() };
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &spec)?;
    let a = h1.attach_quiet(lab, "a", "--address 10.0.0.1/24 --access 10")?;
    let b = h2.attach_quiet(lab, "b", "--address 10.0.0.2/24 --access 10")?;
    let talker = h1.attach_quiet(lab, "talker", "--address 10.0.0.3/24 --access 10")?;
    for other in [&b, &talker] {
        ping(other, [10, 0, 0, 1].into(), 56)?;
    }
    let looper = lab.quiet_host("looper")?;
    for (node, port, ifname) in [(&h1, "left", "eth0"), (&h2, "right", "eth1")] {
        let netns = looper.path();
        node.ok(&format!("port add {port} --netns {} --ifname {ifname} --access 10", netns.display()))?;
    }
    let looper = Looper::new(looper)?;
    let paced = Paced::start((&a, [10, 0, 0, 1].into()), (&b, [10, 0, 0, 2].into()), PACE)?;
    let (wire, mac) = (Capture::open(&talker, "eth0")?, talker.mac("eth0")?);
    looper.close(true)?;
    let entry = eventually(SOON, "the loop is noticed", || {
        wire.send(&probe(BROADCAST, mac, None, 0))?;
        let status = h1.ok("status")?;
        ensure!(status["fdb_flapping"].as_u64() >= Some(1), "{status}");
        held(&h1, 10, mac)
    })?;
    ensure_eq!(entry["port"], "talker", "where it is held: {entry}");
    let other = (entry["flapping"]["port"].as_str(), entry["flapping"]["remote"].as_str());
    ensure!(other.0 == Some("left") || other.1 == Some(&h2.ip.to_string()), "the other place in {entry}");
    let log = h1.daemon.log()?;
    let line = log.lines().find(|line| line.contains("to and fro") && line.contains(&text(mac)));
    let line = line.context("a line of the log about it")?;
    let names = ["also_at=port left".to_owned(), format!("also_at=remote {}", h2.ip)];
    ensure!(line.contains("at=port talker") && names.iter().any(|name| line.contains(name)), "{line}");
    ping(&a, [10, 0, 0, 3].into(), 56)?;
    some_more(&paced, 100)?;
    whole(&paced.stop()?)?;
    looper.close(false)?;
    idle::comes_to_rest(&h1.daemon)?;
    idle::comes_to_rest(&h2.daemon)
}
