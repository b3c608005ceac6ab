use std::net::IpAddr;

use netns_tests::frames::{BROADCAST, Mac, addresses, ethernet};
use netns_tests::traffic::{ping::ping, tcp::Connection};
use netns_tests::{Capture, Lab, Node, Result, Station, UPLINK, Underlay, drops, ensure, ensure_eq};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("each_gets_one_copy", each_gets_one_copy),
    ("a_peer_in_all_vlans", a_peer_in_all_vlans),
    ("addresses_that_bridges_keep", addresses_that_bridges_keep),
    ("sources_that_no_station_has", sources_that_no_station_has),
    ("arp", arp),
    ("neighbour_discovery", neighbour_discovery),
];

/// Three hosts, each a peer of the others, two stations on each.
struct Mesh {
    nodes: Vec<Node>,
    stations: Vec<Station>,
    _underlay: Underlay,
}

fn mesh(lab: &Lab) -> Result<Mesh> {
    let underlay = Underlay::new(lab, 1500)?;
    let nodes: Vec<_> = ["h1", "h2", "h3"].iter().map(|name| Node::v4(lab, &underlay, name)).collect::<Result<_>>()?;
    let mut stations = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let peers: Vec<IpAddr> = nodes.iter().map(|other| other.ip).filter(|ip| *ip != node.ip).collect();
        node.join(10, 100, &peers)?;
        for side in ["a", "b"] {
            let container = node.attach_quiet(lab, &format!("{side}{}", number + 1), "--access 10")?;
            stations.push(Station::new(container)?);
        }
    }
    Ok(Mesh { nodes, stations, _underlay: underlay })
}

/// Groups that pass a switch: all hosts, OSPF, VRRP, IS-IS, DHCPv6, and the first one after those that bridges keep.
const GROUPS: &[Mac] = &[
    BROADCAST,
    [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01],
    [0x01, 0x00, 0x5e, 0x00, 0x00, 0x05],
    [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x14],
    [0x33, 0x33, 0x00, 0x01, 0x00, 0x02],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x10],
    // An unknown station, and nobody.
    [0x02, 0xff, 0x00, 0x00, 0x00, 0x01],
    [0x00; 6],
];

fn each_gets_one_copy(lab: &Lab) -> Result {
    let Mesh { nodes, stations, .. } = &mesh(lab)?;
    let before: Vec<_> = nodes.iter().map(Node::stats).collect::<Result<_>>()?;
    for &to in GROUPS {
        let sender = &stations[0];
        let cookie = sender.probe(to)?;
        for (number, listener) in stations.iter().enumerate().skip(1) {
            listener.expect(cookie, 1, sender, &format!("a frame to {}", netns_tests::frames::text(to)))?;
            ensure!(number < 6, "six stations");
        }
        // Nothing comes back to where it came from.
        sender.expect(cookie, 0, &stations[1], "the sender itself")?;
    }
    // Among remotes nothing was handed on, and so nothing dropped.
    for (node, before) in nodes.iter().zip(&before) {
        ensure_eq!(node.stats()?.drops_since(before), drops([]), "drops of {}", node.host.name());
    }
    Ok(())
}

/// `--all-vlans` means those with a VNI, those that come later too.
fn a_peer_in_all_vlans(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let (h1, h2) = (Node::v4(lab, &underlay, "h1")?, Node::v4(lab, &underlay, "h2")?);
    for (node, peer) in [(&h1, &h2), (&h2, &h1)] {
        node.ok(&format!("vtep peer add {} --all-vlans", peer.ip))?;
        node.ok("vlan add 10 --vni 100")?;
    }
    let a = Station::new(h1.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(h2.attach_quiet(lab, "b", "--access 10")?)?;
    let cookie = a.probe(BROADCAST)?;
    b.expect(cookie, 1, &a, "a broadcast")?;
    // A second VLAN without a VNI stays on its host.
    let local = Station::new(h1.attach_quiet(lab, "local", "--access 30")?)?;
    let neighbour = Station::new(h1.attach_quiet(lab, "neighbour", "--access 30")?)?;
    let wire = Capture::open(&h2.host, UPLINK)?;
    let cookie = local.probe(BROADCAST)?;
    neighbour.expect(cookie, 1, &local, "a broadcast in a local VLAN")?;
    let marker = a.probe(BROADCAST)?;
    b.expect(marker, 1, &a, "a broadcast")?;
    let needle = |cookie: u64| move |frame: &[u8]| frame.windows(8).any(|bytes| bytes == cookie.to_be_bytes());
    let on_the_wire = wire.until("the broadcast of VLAN 10", needle(marker))?;
    ensure!(!on_the_wire.iter().any(|frame| needle(cookie)(frame)), "a local VLAN is on the underlay");
    h1.ok(&format!("vtep peer del {}", h2.ip))?;
    ensure_eq!(h1.ok("vtep peer list")?, serde_json::json!([]), "peers");
    Ok(())
}

fn addresses_that_bridges_keep(lab: &Lab) -> Result {
    let Mesh { nodes, stations, .. } = &mesh(lab)?;
    let before = nodes[0].stats()?;
    for last in 0..16 {
        let cookie = stations[0].probe([0x01, 0x80, 0xc2, 0, 0, last])?;
        stations[1].expect(cookie, 0, &stations[0], "a frame that bridges keep")?;
        stations[2].expect(cookie, 0, &stations[0], "a frame that bridges keep, other host")?;
    }
    ensure_eq!(nodes[0].stats()?.drops_since(&before), drops([("a1", "reserved_address", 16)]), "drops");
    Ok(())
}

fn sources_that_no_station_has(lab: &Lab) -> Result {
    let Mesh { nodes, stations, .. } = &mesh(lab)?;
    let before = nodes[0].stats()?;
    for from in [[0; 6], BROADCAST, [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        let cookie = stations[0].probe_as(from, BROADCAST)?;
        stations[1].expect(cookie, 0, &stations[0], "a frame from nobody")?;
        let learned = nodes[0].place_of(10, &netns_tests::frames::text(from))?;
        ensure_eq!(learned, None, "the place of a source that no station has");
    }
    ensure_eq!(nodes[0].stats()?.drops_since(&before), drops([("a1", "bad_source", 4)]), "drops");
    Ok(())
}

/// Who has 10.0.0.N? Everybody is asked, and one answers.
fn arp(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let asker = Station::new(h1.attach_quiet(lab, "asker", "--address 10.0.0.1/24 --access 10")?)?;
    let asked = h2.attach_quiet(lab, "asked", "--address 10.0.0.2/24 --access 10")?;
    let third = Station::new(h2.attach_quiet(lab, "third", "--address 10.0.0.3/24 --access 10")?)?;
    let mac = asked.mac("eth0")?;
    // RFC 826: Ethernet, IPv4, request.
    let request = |kind: u8, from: &Station, own: u8, asked: u8| {
        let head = [0, 1, 8, 0, 6, 4, 0, kind];
        let body = [&head[..], &from.mac, &[10, 0, 0, own], &[0; 6], &[10, 0, 0, asked]].concat();
        ethernet(BROADCAST, from.mac, None, 0x0806, &body)
    };
    let question = request(1, &asker, 1, 2);
    asker.wire.send(&question)?;
    let answer = asker.wire.until("the answer", |frame| frame.get(12..14) == Some(&[8, 6]) && frame[21] == 2)?;
    let (to, from) = answer.last().and_then(|frame| addresses(frame)).unwrap_or_default();
    ensure_eq!((to, from), (asker.mac, mac), "the answer goes to who asked");
    // The third sees the question once, and not the answer, whose receiver is known by then.
    let last = asker.probe(BROADCAST)?;
    let seen = third.wire.until("a later broadcast", |frame| netns_tests::frames::cookie_of(frame) == Some(last))?;
    let arp: Vec<_> = seen.iter().filter(|frame| frame.get(12..14) == Some(&[8, 6])).collect();
    ensure!(arp.len() == 1 && arp[0].starts_with(&question), "the third saw {} ARP frames", arp.len());
    ping(&asker.host, "10.0.0.2".parse()?, 56)
}

fn neighbour_discovery(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let a = h1.attach(lab, "a", "--address fd00::1/64 --access 10")?;
    let b = h2.attach(lab, "b", "--address fd00::2/64 --access 10")?;
    let c = h1.attach(lab, "c", "--address fd00::3/64 --access 10")?;
    let heard = Capture::open(&b, "eth0")?;
    ping(&a, "fd00::2".parse()?, 56)?;
    // The question goes to the solicited-node group of the address asked for (RFC 4861 4.3).
    let group = [0x33, 0x33, 0xff, 0, 0, 2];
    let questions = heard.until("a neighbour solicitation", |frame| frame.starts_with(&group))?;
    ensure_eq!(questions.iter().filter(|frame| frame.starts_with(&group)).count(), 1, "solicitations");
    ping(&c, "fd00::2".parse()?, 56)?;
    ping(&b, "fd00::3".parse()?, 56)?;
    Connection::open(&c, &b, "fd00::2".parse()?)?.both_ways(1 << 20, 5000, lab.random().next_u64())
}
