use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use netns_tests::frames::{self, BROADCAST, Mac, tag_of, text};
use netns_tests::traffic::ping::ping;
use netns_tests::{
    Capture, Context, Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, Underlay, ensure, ensure_eq, eventually,
};
use nix::sys::signal::Signal;

use crate::Tests;
use crate::moves::{Counters, Moves, moves, sum};

pub(crate) const TESTS: Tests = &[
    ("a_neighbour_learns_at_once", a_neighbour_learns_at_once),
    ("addresses_that_change", addresses_that_change),
    ("in_the_vlan_of_untagged_frames", in_the_vlan_of_untagged_frames),
    ("not_over_a_restart_or_a_takeover", not_over_a_restart_or_a_takeover),
    ("a_port_that_comes_back", a_port_that_comes_back),
    ("as_its_guard_lets_it", as_its_guard_lets_it),
];

/// With VXLAN between.
pub(crate) const ACROSS: Tests = &[("other_hosts_learn_at_once", other_hosts_learn_at_once)];

/// Length of a gratuitous ARP.
const ARP: u64 = 14 + 28;
/// Much less than a neighbour that is believed lasts (15 s and more), much more than a busy machine takes.
const AT_ONCE: Duration = Duration::from_secs(5);

fn node(lab: &Lab) -> Result<Node> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    Ok(Node { daemon, host, ip: [127, 0, 0, 1].into() })
}

/// Frames that leave on `port`, as counters tell.
fn sent<const N: usize>(port: &str, lengths: [u64; N]) -> Moves {
    moves(&[(port, "tx_frames", N as u64), (port, "tx_bytes", lengths.iter().sum())])
}

/// What a frame says of `mac`: an address and that it is there.
fn announced(frame: &[u8], mac: Mac) -> Option<IpAddr> {
    let (to, from) = frames::addresses(frame)?;
    let behind = if tag_of(frame).is_some() { 16 } else { 12 };
    let (ethertype, packet) = frame.get(behind..)?.split_at_checked(2)?;
    match ethertype {
        [0x08, 0x06] if to == BROADCAST && from == mac => {
            let (sender, target) = (packet.get(14..18)?, packet.get(24..28)?);
            let is_gratuitous = sender == target && packet.get(8..14)? == mac && packet.get(6..8)? == [0, 1];
            is_gratuitous.then(|| <[u8; 4]>::try_from(sender).ok().map(IpAddr::from))?
        }
        [0x86, 0xdd] if to == [0x33, 0x33, 0, 0, 0, 1] && from == mac => {
            let (source, target) = (packet.get(8..24)?, packet.get(48..64)?);
            let overrides = packet.get(40)? == &136 && packet.get(44)? == &0x20 && packet.get(66..72)? == mac;
            (overrides && source == target).then(|| <[u8; 16]>::try_from(source).ok().map(IpAddr::from))?
        }
        _ => None,
    }
}

/// An address that another container has from now on: who had the old one in its cache reaches the new one at once.
fn a_neighbour_learns_at_once(lab: &Lab) -> Result {
    let node = node(lab)?;
    let neighbour = node.attach(lab, "neighbour", "--address 10.0.0.1/24 --address fd00::1/64")?;
    let words = "--address 10.0.0.2/24 --address fd00::2/64";
    let all: [IpAddr; 2] = ["10.0.0.2".parse()?, "fd00::2".parse()?];
    let old = node.attach(lab, "old", words)?;
    all.iter().try_for_each(|&ip| ping(&neighbour, ip, 56))?;
    let before = old.mac("eth0")?;
    node.ok("port del old")?;

    // It says nothing of its own accord that would tell.
    let new = lab.host("new")?;
    new.netns().set_sysctl("ipv6/conf/default/router_solicitations", "0")?;
    let wire = Capture::open(&neighbour, "eth0")?;
    node.ok(&format!("port add new --netns {} {words}", new.path().display()))?;
    let mac = new.mac("eth0")?;
    ensure!(mac != before, "both have the address {}", text(mac));
    let start = Instant::now();
    for ip in all {
        wire.find(&format!("{ip} announced"), |frame| announced(frame, mac).filter(|said| *said == ip))?;
        ping(&neighbour, ip, 56)?;
    }
    ensure!(start.elapsed() < AT_ONCE, "it took {:?}", start.elapsed());
    ensure_eq!(node.place_of(1, &text(mac))?, Some(("new".to_owned(), "learned".to_owned())), "place");
    Ok(())
}

fn addresses_that_change(lab: &Lab) -> Result {
    let node = node(lab)?;
    let others = [node.attach_quiet(lab, "one", "")?, node.attach_quiet(lab, "other", "")?];
    let port = node.attach_quiet(lab, "port", "")?;
    let (mac, wire) = (port.mac("eth0")?, Capture::open(&others[0], "eth0")?);
    let mut counters = Counters::of(&node)?;
    node.ok("port set port --address 10.0.0.7/24 --address 10.0.0.8/24")?;
    counters.expect(&sum(&sent("one", [ARP, ARP]), &sent("other", [ARP, ARP])), "new addresses")?;
    for number in [7, 8] {
        let found = wire.find("an address announced", |frame| announced(frame, mac))?;
        ensure_eq!(found, IpAddr::from([10, 0, 0, number]), "the address announced");
    }
    node.ok("port set port --mtu 1400 --tx-limit 10M")?;
    counters.expect_rest("what concerns no neighbour")
}

/// Where a station was on one host and is on another with the same addresses, switches move it and nobody asks anew.
fn other_hosts_learn_at_once(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let nodes = ["h1", "h2", "h3"].map(|name| Node::v4(lab, &underlay, name));
    let [h1, h2, h3] = nodes;
    let (h1, h2, h3) = (h1?, h2?, h3?);
    for node in [&h1, &h2, &h3] {
        let peers: Vec<_> = [h1.ip, h2.ip, h3.ip].into_iter().filter(|&ip| ip != node.ip).collect();
        node.join(10, 100, &peers)?;
    }
    let client = h1.attach_quiet(lab, "client", "--address 10.0.0.1/24 --access 10")?;
    let words = "--mac 02:00:00:00:00:aa --address 10.0.0.2/24 --access 10";
    let roamer = h2.attach_quiet(lab, "roamer", words)?;
    ping(&client, "10.0.0.2".parse()?, 56)?;
    let place =
        |node: &Node| Ok::<_, netns_tests::Failure>(node.place_of(10, "02:00:00:00:00:aa")?.map(|place| place.0));
    ensure_eq!(place(&h1)?, Some(h2.ip.to_string()), "the roamer on h1");
    h2.ok("port del roamer")?;
    drop(roamer);
    ensure_eq!(place(&h1)?, Some(h2.ip.to_string()), "the roamer on h1 when it is gone");

    let mut counters = [Counters::of(&h1)?, Counters::of(&h2)?];
    let _roamer = h3.attach_quiet(lab, "roamer", words)?;
    let heard = moves(&[("tunnel", "rx_frames", 1), ("tunnel", "rx_bytes", ARP)]);
    counters[0].expect(&sum(&heard, &sent("client", [ARP])), "on h1")?;
    // Nobody is there to tell.
    let alone = moves(&[("tunnel", "no_member", 1)]);
    counters[1].expect(&sum(&heard, &alone), "on h2")?;
    ensure_eq!(place(&h1)?, Some(h3.ip.to_string()), "the roamer on h1 when it has come to h3");
    ensure_eq!(place(&h3)?, Some("roamer".to_owned()), "the roamer on h3");
    ensure_eq!(h1.ok("status")?["fdb_moved"], 1, "moves on h1");

    // The first packet arrives, by the way that h1 knows now: h2 hears the roamer ask for the client, and nothing else.
    ping(&client, "10.0.0.2".parse()?, 56)?;
    counters[1].expect(&sum(&heard, &alone), "on h2 afterwards")?;
    Ok(())
}

fn in_the_vlan_of_untagged_frames(lab: &Lab) -> Result {
    let node = node(lab)?;
    let attach = |name: &str, words: &str| node.attach_quiet(lab, name, words);
    let (access, other) = (attach("access", "--access 5")?, attach("other", "--access 6")?);
    let trunk = attach("trunk", "--trunk 5-6")?;
    let wires = [Capture::open(&access, "eth0")?, Capture::open(&trunk, "eth0")?];
    let mut counters = Counters::of(&node)?;
    let native = attach("native", "--trunk 6 --native 5 --address 10.0.0.1/24")?;
    let mac = native.mac("eth0")?;
    for (wire, tag) in wires.iter().zip([None, Some(5)]) {
        let found = wire.find("the address announced", |frame| announced(frame, mac).map(|ip| (ip, tag_of(frame))))?;
        ensure_eq!(found, ([10, 0, 0, 1].into(), tag), "the address, and the tag it comes with");
    }
    let expected = sum(&sent("access", [ARP]), &sent("trunk", [ARP + 4]));
    counters.expect(&expected, "the native VLAN")?;
    // In VLAN 6 it is announced too, once it is there.
    node.ok("port set native --access 6")?;
    let expected = sum(&sent("other", [ARP]), &sent("trunk", [ARP + 4]));
    counters.expect(&expected, "another VLAN")?;
    // Without a VLAN for untagged frames the addresses are in none.
    let _tagged = attach("tagged", "--trunk 5-6 --address 10.0.0.2/24")?;
    counters.expect_rest("a trunk without a native VLAN")?;
    drop(other);
    Ok(())
}

fn not_over_a_restart_or_a_takeover(lab: &Lab) -> Result {
    let node = node(lab)?;
    let first = node.attach_quiet(lab, "first", "--address 10.0.0.1/24")?;
    // Alone in its VLAN, and no drop for that.
    ensure_eq!(node.stats()?.drops, netns_tests::drops([]), "drops where a port is alone");
    let mut counters = Counters::of(&node)?;
    let _second = node.attach_quiet(lab, "second", "--address 10.0.0.2/24")?;
    counters.expect(&sent("first", [ARP]), "the second port")?;
    let Node { daemon, host, .. } = node;
    let wire = Capture::open(&first, "eth0")?;
    let spec = DaemonSpec::default();
    let daemon = daemon.taken_over(lab, &host, &spec)?;
    daemon.end(Signal::SIGKILL)?;
    let daemon = Daemon::start(lab, &host, &spec)?;
    // Whatever was announced would have come before the next one's.
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let third = node.attach_quiet(lab, "third", "--address 10.0.0.3/24")?;
    let mac = third.mac("eth0")?;
    let all = wire.until("the third port's address", |frame| announced(frame, mac).is_some())?;
    ensure_eq!(all.len(), 1, "frames to the first port");
    Ok(())
}

fn a_port_that_comes_back(lab: &Lab) -> Result {
    let node = node(lab)?;
    let witness = node.attach_quiet(lab, "witness", "--address 10.0.0.1/24")?;
    let (old, name) = (lab.quiet_host("old")?, lab.folder("names")?.join("roamer"));
    symlink(old.path(), &name)?;
    node.ok(&format!("port add roamer --netns {} --address 10.0.0.2/24", name.display()))?;
    let mac = old.mac("eth0")?;
    fs::remove_file(&name)?;
    drop(old);
    eventually(SOON, "the port is lost", || {
        ensure_eq!(node.ok("port show roamer")?["state"], "lost", "state");
        Ok(())
    })?;
    let wire = Capture::open(&witness, "eth0")?;
    let mut counters = Counters::of(&node)?;
    let new = lab.quiet_host("new")?;
    symlink(new.path(), &name)?;
    wire.find("the address announced", |frame| announced(frame, mac))?;
    counters.expect(&sent("witness", [ARP]), "the port comes back")?;
    reaches(&witness, &new, "10.0.0.2".parse()?)
}

/// One datagram arrives.
fn reaches(from: &Host, to: &Host, ip: IpAddr) -> Result {
    let (server, client) = (to.call(move || UdpSocket::bind((ip, 0)))?, from.call(|| UdpSocket::bind("0.0.0.0:0"))?);
    server.set_read_timeout(Some(SOON))?;
    client.send_to(b"hello", server.local_addr()?)?;
    server.recv(&mut [0; 5]).map(drop).context("a datagram")
}

/// A port that may not send from an address does not say that it has it.
fn as_its_guard_lets_it(lab: &Lab) -> Result {
    let node = node(lab)?;
    let _witness = node.attach_quiet(lab, "witness", "")?;
    let mut counters = Counters::of(&node)?;
    let _guarded =
        node.attach_quiet(lab, "guarded", "--address 10.0.0.2/24 --address 10.0.0.3/24 --allow-ip 10.0.0.3")?;
    counters.expect(&sent("witness", [ARP]), "the address that it may use")
}
