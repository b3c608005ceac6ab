use std::net::IpAddr;

use netns_tests::frames::{BROADCAST, Mac, text};
use netns_tests::{DaemonSpec, Lab, Node, Result, SOON, Station, Underlay, drops, ensure, ensure_eq, eventually};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("static_behind_a_port", static_behind_a_port),
    ("static_behind_a_remote", static_behind_a_remote),
    ("learning_off", learning_off),
    ("ageing", ageing),
    ("a_moved_address", a_moved_address),
    ("flush_and_delete", flush_and_delete),
];

/// An address that no interface has.
const ROAMER: Mac = [2, 0xaa, 0, 0, 0, 1];
const SECOND_ROAMER: Mac = [0x02, 0, 0, 0, 0x7e, 0x02];

/// Stations a and b on one host, c on the other, all in VLAN 10.
struct Three {
    a: Station,
    b: Station,
    c: Station,
    h1: Node,
    h2: Node,
    _underlay: Underlay,
}

fn three(lab: &Lab) -> Result<Three> {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let a = Station::new(h1.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(h1.attach_quiet(lab, "b", "--access 10")?)?;
    let c = Station::new(h2.attach_quiet(lab, "c", "--access 10")?)?;
    Ok(Three { a, b, c, h1, h2, _underlay })
}

fn place(name: &str, kind: &str) -> Option<(String, String)> {
    Some((name.to_owned(), kind.to_owned()))
}

fn static_behind_a_port(lab: &Lab) -> Result {
    let Three { a, b, c, h1, h2, _underlay } = &three(lab)?;
    h1.ok(&format!("fdb add {} --vlan 10 --port a", text(ROAMER)))?;
    ensure_eq!(h1.place_of(10, &text(ROAMER))?, place("a", "static"), "place of the static address");
    // It does not move, though its frames come from elsewhere; the frame itself passes.
    for other in [b, c] {
        let cookie = other.probe_as(ROAMER, BROADCAST)?;
        a.expect(cookie, 1, other, "a frame from a static address at another place")?;
        ensure_eq!(h1.place_of(10, &text(ROAMER))?, place("a", "static"), "place of the static address, still");
    }
    let cookie = b.probe(ROAMER)?;
    a.expect(cookie, 1, b, "a frame to the static address")?;
    c.expect(cookie, 0, b, "a frame to the static address, other host")?;
    // In another VLAN it is unknown.
    ensure_eq!(h1.place_of(20, &text(ROAMER))?, None, "place in another VLAN");
    h1.ok("fdb flush")?;
    ensure_eq!(h1.place_of(10, &text(ROAMER))?, place("a", "static"), "place after a flush");
    h1.ok(&format!("fdb del {} --vlan 10", text(ROAMER)))?;
    ensure_eq!(h1.place_of(10, &text(ROAMER))?, None, "place after it was deleted");
    ensure!(h2.place_of(10, &text(ROAMER))?.is_some(), "the other host has learned it");
    Ok(())
}

fn static_behind_a_remote(lab: &Lab) -> Result {
    let Three { a, b, c, h1, h2, .. } = &three(lab)?;
    h1.ok(&format!("fdb add {} --vlan 10 --remote {}", text(ROAMER), h2.ip))?;
    ensure_eq!(h1.place_of(10, &text(ROAMER))?, place(&h2.ip.to_string(), "static"), "place");
    let cookie = a.probe(ROAMER)?;
    c.expect(cookie, 1, a, "a frame to an address behind the remote")?;
    b.expect(cookie, 0, a, "the same, at another port of the host")
}

fn learning_off(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let (h1, h2) = (Node::v4(lab, &underlay, "h1")?, Node::v4(lab, &underlay, "h2")?);
    h1.ok("vlan add 10 --vni 100 --no-learning")?;
    h1.ok(&format!("vtep peer add {} --vlan 10", h2.ip))?;
    h2.join(10, 100, &[h1.ip])?;
    let a = Station::new(h1.attach_quiet(lab, "a", "--access 10")?)?;
    let c = Station::new(h2.attach_quiet(lab, "c", "--access 10")?)?;
    let cookie = c.probe(BROADCAST)?;
    a.expect(cookie, 1, &c, "a frame from the remote")?;
    ensure_eq!(h1.place_of(10, &text(c.mac))?, None, "an address behind a remote, learning off");
    let cookie = a.probe(BROADCAST)?;
    c.expect(cookie, 1, &a, "a frame to the remote")?;
    ensure_eq!(h1.place_of(10, &text(a.mac))?, place("a", "learned"), "an address behind a port");
    ensure_eq!(h1.ok("vlan list")?[0]["learning"], false, "learning");
    Ok(())
}

fn ageing(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let v4: fn(netns_tests::Vtep) -> IpAddr = |vtep| vtep.v4;
    let spec = DaemonSpec { config: "ageing = 1\n".to_owned(), ..DaemonSpec::default() };
    let h1 = Node::with(lab, &underlay, "h1", v4, spec)?;
    let h2 = Node::v4(lab, &underlay, "h2")?;
    h1.join(10, 100, &[h2.ip])?;
    h2.join(10, 100, &[h1.ip])?;
    let a = Station::new(h1.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(h1.attach_quiet(lab, "b", "--access 10")?)?;
    let c = Station::new(h2.attach_quiet(lab, "c", "--access 10")?)?;
    h1.ok(&format!("fdb add {} --vlan 10 --port a", text(ROAMER)))?;
    for station in [&a, &c] {
        let cookie = station.probe(BROADCAST)?;
        b.expect(cookie, 1, station, "a broadcast")?;
    }
    // Nothing is said from here on.
    eventually(SOON, "learned addresses age", || {
        let learned: Vec<_> = h1.fdb()?.into_iter().filter(|entry| entry.kind == "learned").collect();
        ensure!(learned.is_empty(), "learned: {learned:?}");
        Ok(())
    })?;
    ensure_eq!(h1.place_of(10, &text(ROAMER))?, place("a", "static"), "a static address");
    ensure!(h2.place_of(10, &text(c.mac))?.is_some(), "the other host keeps its own for 300 s");
    // What is to an aged address goes to everybody. The other host knows where it is, and hands nothing back.
    let d = Station::new(h1.attach_quiet(lab, "d", "--access 10")?)?;
    let cookie = b.probe(a.mac)?;
    for listener in [&a, &d] {
        listener.expect(cookie, 1, &b, "a frame to an address that has aged")?;
    }
    Ok(())
}

fn a_moved_address(lab: &Lab) -> Result {
    let Three { a, b, c, h1, h2, .. } = &three(lab)?;
    let remote = h2.ip.to_string();
    let (at_a, at_b, at_c) = ((a, "a"), (b, "b"), (c, remote.as_str()));
    // From port to port, to the remote, and back: at once, every time. An address of its own each way, for one that moves
    // five times in a second is held.
    for (mac, way) in [(ROAMER, &[at_a, at_b, at_c, at_a][..]), (SECOND_ROAMER, &[at_a, at_c, at_b][..])] {
        for &(at, seen) in way {
            let cookie = at.probe_as(mac, BROADCAST)?;
            let listener = if seen == "a" { b } else { a };
            listener.expect(cookie, 1, at, "a broadcast from the address that moves")?;
            ensure_eq!(h1.place_of(10, &text(mac))?, place(seen, "learned"), "place of the address that moves");
            let cookie = listener.probe(mac)?;
            at.expect(cookie, 1, listener, "a frame to the address that moves")?;
            for elsewhere in [a, b, c] {
                if elsewhere.mac != at.mac && elsewhere.mac != listener.mac {
                    elsewhere.expect(cookie, 0, listener, "a frame to the address that moves, elsewhere")?;
                }
            }
        }
    }
    ensure_eq!(h1.ok("status")?["fdb_flapping"], 0, "addresses held");
    Ok(())
}

fn flush_and_delete(lab: &Lab) -> Result {
    let Three { a, b, c, h1, .. } = &three(lab)?;
    for station in [a, b, c] {
        let cookie = station.probe(BROADCAST)?;
        let listener = if station.mac == a.mac { b } else { a };
        listener.expect(cookie, 1, station, "a broadcast")?;
    }
    let before = h1.stats()?;
    // A frame to an address on the port that it comes from goes nowhere.
    a.probe(a.mac)?;
    eventually(SOON, "the frame is dropped", || {
        ensure_eq!(h1.stats()?.drops_since(&before), drops([("a", "same_port", 1)]), "drops");
        Ok(())
    })?;
    h1.ok(&format!("fdb del {} --vlan 10", text(a.mac)))?;
    ensure_eq!(h1.place_of(10, &text(a.mac))?, None, "a learned address, deleted");
    h1.ok("fdb flush --vlan 10 --port b")?;
    ensure_eq!(h1.place_of(10, &text(b.mac))?, None, "address behind b after its flush");
    ensure!(h1.place_of(10, &text(c.mac))?.is_some(), "address behind the remote, still there");
    h1.ok("fdb flush --vlan 20")?;
    ensure!(h1.place_of(10, &text(c.mac))?.is_some(), "address of VLAN 10 after a flush of VLAN 20");
    ensure!(h1.ok("fdb flush")?["flushed"].as_u64() >= Some(1), "the number of addresses flushed");
    ensure_eq!(h1.fdb()?, vec![], "FDB after a flush");
    Ok(())
}
