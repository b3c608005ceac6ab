use std::net::IpAddr;

use netns_tests::{Lab, Node, Result, ensure, ensure_eq, frames, traffic};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("containers_on_two_hosts", containers_on_two_hosts),
    ("containers_on_one_host", containers_on_one_host),
    ("a_network_without_vxlan", a_network_without_vxlan),
    ("ports_come_and_go", ports_come_and_go),
    ("a_namespace_that_disappears", a_namespace_that_disappears),
];

fn containers_on_two_hosts(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --address fd00::2/64 --access 10")?;
    let seed = lab.random().next_u64();
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        traffic::everything((&c1, a.parse()?), (&c2, b.parse()?), 1450, 32 << 20, seed)?;
    }
    // Each switch knows where both containers are.
    let (m1, m2) = (frames::text(c1.mac("eth0")?), frames::text(c2.mac("eth0")?));
    let learned = |place: &str| Some((place.to_owned(), "learned".to_owned()));
    ensure_eq!(h1.place_of(10, &m1)?, learned("c1"), "own container, as h1 sees it");
    ensure_eq!(h1.place_of(10, &m2)?, learned(&h2.ip.to_string()), "other container, as h1 sees it");
    ensure_eq!(h2.place_of(10, &m1)?, learned(&h1.ip.to_string()), "other container, as h2 sees it");
    ensure_eq!(h2.place_of(10, &m2)?, learned("c2"), "own container, as h2 sees it");
    for node in [&h1, &h2] {
        ensure!(node.stats()?.count("tunnel", "rx_frames") > 0, "the tunnel counts what it receives");
        ensure!(node.stats()?.count("tunnel", "tx_frames") > 0, "the tunnel counts what it sends");
    }
    Ok(())
}

fn containers_on_one_host(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64 --access 10")?;
    let c2 = h1.attach(lab, "c2", "--address 10.0.0.2/24 --address fd00::2/64 --access 10")?;
    let seed = lab.random().next_u64();
    let before = h2.stats()?.count("tunnel", "rx_bytes");
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        traffic::everything((&c1, a.parse()?), (&c2, b.parse()?), 1450, 32 << 20, seed)?;
    }
    let spilled = h2.stats()?.count("tunnel", "rx_bytes") - before;
    ensure!(spilled < 100_000, "what two containers of one host say to each other stays there: h2 got {spilled} bytes");
    Ok(())
}

fn a_network_without_vxlan(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = netns_tests::Daemon::start(lab, &host, &netns_tests::DaemonSpec::default())?;
    let node = Node { daemon, host, ip: IpAddr::from([127, 0, 0, 1]) };
    let c1 = node.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64")?;
    let c2 = node.attach(lab, "c2", "--address 10.0.0.2/24 --address fd00::2/64")?;
    ensure_eq!(c1.link("eth0")?.mtu, 1500, "MTU of a port on a local VLAN");
    let seed = lab.random().next_u64();
    traffic::everything((&c1, "10.0.0.1".parse()?), (&c2, "10.0.0.2".parse()?), 1500, 8 << 20, seed)?;
    let said = node.vsctl().refused(1, "vtep peer add 192.0.2.9 --all-vlans")?;
    ensure!(said.contains("--vtep-ip"), "a peer without a VTEP: {said}");
    Ok(())
}

fn ports_come_and_go(lab: &Lab) -> Result {
    let (_underlay, h1, _h2) = Node::pair(lab, 1500)?;
    let words = "--address 10.0.0.1/24 --access 10 --mac 02:00:00:00:00:aa --ifname net0";
    let c1 = h1.attach(lab, "c1", words)?;
    let link = c1.link("net0")?;
    ensure!(link.up && link.running, "the interface is up: {link:?}");
    ensure_eq!(link.mac, Some([2, 0, 0, 0, 0, 0xaa]), "the address asked for");
    ensure_eq!(link.mtu, 1450, "MTU of a port whose VLAN has a VNI");
    let port = h1.ok("port show c1")?;
    for (field, value) in [("name", "c1"), ("ifname", "net0"), ("mac", "02:00:00:00:00:aa"), ("mode", "access")] {
        ensure_eq!(port[field], value, "{field} of the port");
    }
    ensure_eq!((&port["vlan"], &port["mtu"]), (&10.into(), &1450.into()), "VLAN and MTU of the port");

    // The same again is no error, and changes nothing.
    let before = h1.vsctl().everything()?;
    let again = h1.ok(&format!("port add c1 --netns {} {words}", c1.path().display()))?;
    ensure_eq!(again["changed"], false, "the same port again");
    ensure_eq!(h1.vsctl().everything()?, before, "everything after adding the same again");

    h1.ok("port set c1 --mtu 1400 --access 20")?;
    ensure_eq!(c1.link("net0")?.mtu, 1400, "MTU after port set");
    ensure_eq!(h1.ok("port show c1")?["vlan"], 20, "VLAN after port set");
    h1.ok("port del c1")?;
    ensure!(c1.netlink().link("net0")?.is_none(), "the interface goes with the port");
    h1.vsctl().refused(1, "port del c1").map(drop)
}

fn a_namespace_that_disappears(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let doomed = h1.attach(lab, "doomed", "--address 10.0.0.9/24 --access 10")?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    traffic::ping::ping(&doomed, "10.0.0.2".parse()?, 56)?;
    drop(doomed);
    netns_tests::eventually(netns_tests::SOON, "the port is lost", || {
        ensure_eq!(h1.ok("port show doomed")?["state"], "lost", "state");
        Ok(())
    })?;
    // The others do not notice.
    traffic::everything((&c1, "10.0.0.1".parse()?), (&c2, "10.0.0.2".parse()?), 1450, 1 << 20, 1)?;
    h1.ok("port del doomed").map(drop)
}
