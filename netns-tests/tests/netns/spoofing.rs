use std::net::{IpAddr, Ipv6Addr};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use netns_tests::frames::{BROADCAST, Mac, ethernet, probe, text};
use netns_tests::{
    Context, Daemon, DaemonSpec, Lab, Node, Result, Station, Underlay, ensure, ensure_eq, frames, traffic,
};
use nix::sys::signal::Signal;

use crate::Tests;
use crate::moves::{Counters, moves, received, sent};

pub(crate) const TESTS: Tests = &[
    ("every_kind_of_claim", |lab| every_kind_of_claim(lab, 1)),
    ("every_kind_of_claim_with_two_workers", |lab| every_kind_of_claim(lab, 2)),
    ("real_stacks_pass", real_stacks_pass),
    ("an_address_that_lives_on_a_port_does_not_move", an_address_does_not_move),
    ("takes_effect_at_once_and_is_kept", takes_effect_at_once_and_is_kept),
];

const OWN: Mac = [0x02, 0, 0, 0, 0, 0x0a];
const OTHER: Mac = [0x02, 0, 0, 0, 0, 0x0b];
const OWN_V4: [u8; 4] = [10, 0, 0, 1];
const OTHER_V4: [u8; 4] = [10, 0, 0, 9];
const OWN_V6: &str = "fd00::1";
const OTHER_V6: &str = "fd00::9";
const OWN_LINK_LOCAL: &str = "fe80::ff:fe00:a";

fn workers(count: u16, more: &str) -> DaemonSpec {
    DaemonSpec { config: format!("workers = {count}\n{more}"), ..DaemonSpec::default() }
}

fn udp4(from: Mac, ip: [u8; 4], ports: (u16, u16)) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(from, BROADCAST).ipv4(ip, [255; 4], 64).udp(ports.0, ports.1);
    builder.write(&mut frame, &[7; 40]).context("build a frame")?;
    Ok(frame)
}

fn udp6(from: Mac, ip: &str) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let ip: Ipv6Addr = ip.parse()?;
    PacketBuilder::ethernet2(from, BROADCAST)
        .ipv6(ip.octets(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets(), 64)
        .udp(7, 7)
        .write(&mut frame, &[7; 40])
        .context("build a frame")?;
    Ok(frame)
}

fn arp(from: Mac, operation: ArpOperation, sender: Mac, ip: [u8; 4]) -> Result<Vec<u8>> {
    let (hardware, to) = (ArpHardwareId::ETHERNET, [0; 6]);
    let packet = ArpPacket::new(hardware, EtherType::IPV4, operation, &sender, &ip, &to, &[10, 0, 0, 7]);
    let mut frame = Vec::new();
    let packet = packet.context("build an ARP packet")?;
    PacketBuilder::ethernet2(from, BROADCAST).arp(packet).write(&mut frame).context("build a frame")?;
    Ok(frame)
}

/// A message of neighbour discovery with a link-layer address option of `kind`, behind `extension`.
fn discovery(source: &str, kind: u8, target: &str, option: (u8, Mac), extension: &[u8]) -> Result<Vec<u8>> {
    let (source, target): (Ipv6Addr, Ipv6Addr) = (source.parse()?, target.parse()?);
    let link = [&[option.0, 1][..], &option.1].concat();
    let message = [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &link].concat();
    let next = if extension.is_empty() { 58 } else { 60 };
    let len = u16::try_from(extension.len() + message.len())?;
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
    let header = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[next, 255], &source.octets(), &all].concat();
    Ok(ethernet(BROADCAST, OWN, None, 0x86dd, &[&header, extension, &message].concat()))
}

fn tagged(frame: &[u8], tag: [u8; 4]) -> Vec<u8> {
    [&frame[..12], &tag, &frame[12..]].concat()
}

/// What a container says that makes its frames itself: each kind passes from its own address and from no other.
fn every_kind_of_claim(lab: &Lab, count: u16) -> Result {
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &workers(count, ""))?;
    let guard = format!("--allow-mac {} --allow-ip 10.0.0.1 {OWN_V6}", text(OWN));
    let a = Station::new(h1.attach_quiet(lab, "a", &format!("--mac {} --access 10 {guard}", text(OWN)))?)?;
    let near = Station::new(h1.attach_quiet(lab, "near", "--access 10")?)?;
    let far = Station::new(h2.attach_quiet(lab, "far", "--access 10")?)?;
    let (mac, ip) = (Some("spoofed_mac"), Some("spoofed_ip"));
    let (solicitation, advertisement) = (135, 136);
    let own = udp4(OWN, OWN_V4, (7, 7))?;
    let table = [
        ("IPv4", own.clone(), None),
        ("IPv4 from another MAC", udp4(OTHER, OWN_V4, (7, 7))?, mac),
        ("IPv4 from another IP", udp4(OWN, OTHER_V4, (7, 7))?, ip),
        ("a DHCP request", udp4(OWN, [0; 4], (68, 67))?, None),
        ("a DHCP answer from nobody", udp4(OWN, [0; 4], (67, 68))?, ip),
        ("IPv4 cut short", own[..30].to_vec(), ip),
        ("ARP request", arp(OWN, ArpOperation::REQUEST, OWN, OWN_V4)?, None),
        ("ARP probe", arp(OWN, ArpOperation::REQUEST, OWN, [0; 4])?, None),
        ("ARP reply of another MAC", arp(OWN, ArpOperation::REPLY, OTHER, OWN_V4)?, mac),
        ("ARP reply of another IP", arp(OWN, ArpOperation::REPLY, OWN, OTHER_V4)?, ip),
        ("ARP request of another IP", arp(OWN, ArpOperation::REQUEST, OWN, OTHER_V4)?, ip),
        ("ARP cut short", arp(OWN, ArpOperation::REPLY, OWN, OWN_V4)?[..41].to_vec(), ip),
        ("IPv6", udp6(OWN, OWN_V6)?, None),
        ("IPv6 from its link-local address", udp6(OWN, OWN_LINK_LOCAL)?, None),
        ("IPv6 from another IP", udp6(OWN, OTHER_V6)?, ip),
        ("IPv6 from a router's link-local address", udp6(OWN, "fe80::1")?, ip),
        ("solicitation", discovery(OWN_V6, solicitation, OTHER_V6, (1, OWN), &[])?, None),
        ("solicitation of another MAC", discovery(OWN_V6, solicitation, OTHER_V6, (1, OTHER), &[])?, mac),
        ("advertisement", discovery(OWN_V6, advertisement, OWN_V6, (2, OWN), &[])?, None),
        ("advertisement of another MAC", discovery(OWN_V6, advertisement, OWN_V6, (2, OTHER), &[])?, mac),
        ("advertisement of another IP", discovery(OWN_V6, advertisement, OTHER_V6, (2, OWN), &[])?, ip),
        (
            "the same behind options",
            discovery(OWN_V6, advertisement, OTHER_V6, (2, OWN), &[58, 0, 1, 4, 0, 0, 0, 0])?,
            ip,
        ),
        ("with a priority tag", tagged(&own, [0x81, 0, 0xe0, 0]), None),
        ("another IP with a priority tag", tagged(&udp4(OWN, OTHER_V4, (7, 7))?, [0x81, 0, 0xe0, 0]), ip),
        ("a service tag", tagged(&own, [0x88, 0xa8, 0, 5]), ip),
        ("IPv4 in SNAP", ethernet(BROADCAST, OWN, None, 60, &[&[0xaa, 0xaa, 3, 0, 0, 0], &own[12..]].concat()), ip),
        ("what is neither", probe(BROADCAST, OWN, None, frames::cookie()), None),
        ("what is neither, from another MAC", probe(BROADCAST, OTHER, None, frames::cookie()), mac),
    ];
    let (mut here, mut there) = (Counters::of(&h1)?, Counters::of(&h2)?);
    for (what, frame, dropped) in &table {
        a.wire.send(frame).context(what)?;
        // The tag of a priority stays behind: the others are access ports.
        let len = if frame[12..14] == [0x81, 0] { frame.len() - 4 } else { frame.len() };
        let (expected, at_peer) = match dropped {
            Some(reason) => ([received("a", frame.len()), vec![("a", *reason, 1)]].concat(), vec![]),
            None => {
                let copies = [("near", "tx_frames", 1), ("tunnel", "tx_frames", 1)];
                let size = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
                let bytes = [("near", "tx_bytes", size(len)), ("tunnel", "tx_bytes", size(frame.len()))];
                let arrived = [received("tunnel", len), sent("far", len)].concat();
                ([received("a", frame.len()), copies.to_vec(), bytes.to_vec()].concat(), arrived)
            }
        };
        here.expect(&moves(&expected), what)?;
        there.expect(&moves(&at_peer), what)?;
    }
    // None of it taught anybody where somebody else is.
    for node in [&h1, &h2] {
        ensure_eq!(node.place_of(10, &text(OTHER))?, None, "place of an address that nobody has");
    }
    // The others are believed as before.
    let cookie = far.probe_as(OTHER, BROADCAST)?;
    near.expect(cookie, 1, &far, "another address, from who may use it")
}

/// Everything that real stacks say of their own accord passes where their own addresses alone are allowed.
fn real_stacks_pass(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &workers(1, "source-guard = true\n"))?;
    let words = |n| format!("--address 10.0.0.{n}/24 --address fd00::{n}/64 --access 10");
    let (c1, c2) = (h1.attach(lab, "c1", &words(1))?, h1.attach(lab, "c2", &words(2))?);
    let c3 = h2.attach(lab, "c3", &words(3))?;
    let shown = h1.ok("port show c1")?;
    ensure_eq!(shown["allow_mac"][0], text(c1.mac("eth0")?), "allow_mac of c1");
    ensure_eq!(shown["allow_ip"], serde_json::json!(["10.0.0.1/32", "fd00::1/128"]), "allow_ip of c1");
    let seed = lab.random().next_u64();
    for net in ["10.0.0.", "fd00::"] {
        let [a, b, c]: [std::result::Result<IpAddr, _>; 3] = [1, 2, 3].map(|n| format!("{net}{n}").parse());
        let (a, b, c) = (a?, b?, c?);
        traffic::everything((&c1, a), (&c2, b), 1450, 1 << 20, seed)?;
        traffic::everything((&c1, a), (&c3, c), 1450, 1 << 20, seed)?;
    }
    for node in [&h1, &h2] {
        let drops = node.stats()?.drops;
        ensure!(!drops.keys().any(|(_, reason)| reason.starts_with("spoofed")), "drops: {drops:?}");
    }
    // An address that a container is given is believed from its first packet on, and one that was taken is not: its kernel
    // may still end connections from there, which is dropped.
    h1.ok("port set c1 --address 10.0.0.11/24 --address fd00::11/64")?;
    traffic::everything((&c1, "10.0.0.11".parse()?), (&c3, "10.0.0.3".parse()?), 1450, 1 << 16, seed)?;
    traffic::everything((&c1, "fd00::11".parse()?), (&c3, "fd00::3".parse()?), 1450, 1 << 16, seed)?;
    let c1 = Station::new(c1)?;
    let before = h1.stats()?;
    c1.wire.send(&udp4(c1.mac, [10, 0, 0, 1], (7, 7))?)?;
    netns_tests::eventually(netns_tests::SOON, "the address it had is not believed", || {
        let dropped = h1.stats()?.dropped("c1", "spoofed_ip") - before.dropped("c1", "spoofed_ip");
        ensure!(dropped > 0, "spoofed_ip: {dropped}");
        Ok(())
    })
}

/// Neither a neighbour nor a remote takes the address of a port from it, before it spoke or after.
fn an_address_does_not_move(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &workers(2, ""))?;
    let words = format!("--mac {} --access 10 --allow-mac {}", text(OWN), text(OWN));
    let a = Station::new(h1.attach_quiet(lab, "a", &words)?)?;
    let near = Station::new(h1.attach_quiet(lab, "near", "--access 10")?)?;
    let far = Station::new(h2.attach_quiet(lab, "far", "--access 10")?)?;
    let mut counters = Counters::of(&h1)?;
    for has_spoken in [false, true] {
        for (thief, row) in [(&near, "near"), (&far, "tunnel")] {
            let claim = probe(BROADCAST, OWN, None, frames::cookie());
            thief.wire.send(&claim)?;
            let expected = [received(row, claim.len()), vec![(row, "spoofed_mac", 1)]].concat();
            counters.expect(&moves(&expected), &format!("a claim by {row}"))?;
            let place = has_spoken.then(|| ("a".to_owned(), "learned".to_owned()));
            ensure_eq!(h1.place_of(10, &text(OWN))?, place, "place of the address after a claim by {row}");
        }
        let cookie = near.probe(OWN)?;
        a.expect(cookie, 1, &near, "a frame to the address")?;
        far.expect(cookie, 0, &near, "a frame to the address, elsewhere")?;
        a.probe(near.mac)?;
        near.wire.until("a frame from the address", |frame| frames::addresses(frame) == Some((near.mac, OWN)))?;
        counters = Counters::of(&h1)?;
    }
    Ok(())
}

fn takes_effect_at_once_and_is_kept(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let h1 = Node::v4(lab, &underlay, "h1")?;
    let a = Station::new(h1.attach_quiet(lab, "a", &format!("--mac {} --access 10", text(OWN)))?)?;
    let near = Station::new(h1.attach_quiet(lab, "near", "--access 10")?)?;
    let passes = |from: Mac, what: &str| {
        let cookie = a.probe_as(from, BROADCAST)?;
        near.expect(cookie, 1, &a, what)
    };
    passes(OTHER, "another address, without a guard")?;
    ensure_eq!(
        h1.place_of(10, &text(OTHER))?.map(|(port, _)| port),
        Some("a".to_owned()),
        "place of the other address"
    );
    h1.ok(&format!("port set a --allow-mac {} --allow-ip 10.0.0.0/24", text(OWN)))?;
    ensure_eq!(h1.place_of(10, &text(OTHER))?, None, "place of an address that is no longer allowed");

    let shown = h1.ok("port show a")?;
    let refused = |node: &Node, frame: &[u8], reason: &str| {
        let mut counters = Counters::of(node)?;
        a.wire.send(frame)?;
        counters.expect(&moves(&[received("a", frame.len()), vec![("a", reason, 1)]].concat()), reason)
    };
    let claims = [
        (probe(BROADCAST, OTHER, None, frames::cookie()), "spoofed_mac"),
        (udp4(OWN, [10, 0, 1, 1], (7, 7))?, "spoofed_ip"),
    ];
    for (frame, reason) in &claims {
        refused(&h1, frame, reason)?;
    }
    // Over a restart, with another number of workers too.
    let Node { daemon, host, ip } = h1;
    daemon.end(Signal::SIGTERM)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..workers(2, "") })?;
    let h1 = Node { daemon, host, ip };
    ensure_eq!(h1.ok("port show a")?, shown, "port a after a restart");
    let a = Station::new(a.host.twin("a")?)?;
    for (frame, reason) in &claims {
        let mut counters = Counters::of(&h1)?;
        a.wire.send(frame)?;
        counters.expect(&moves(&[received("a", frame.len()), vec![("a", *reason, 1)]].concat()), reason)?;
    }
    h1.ok("port set a --allow-mac any --allow-ip any")?;
    ensure!(h1.ok("port show a")?["allow_mac"].is_null(), "allow_mac after any");
    let near = Station::new(near.host.twin("near")?)?;
    let cookie = a.probe_as(OTHER, BROADCAST)?;
    near.expect(cookie, 1, &a, "another address, once all are allowed")
}
