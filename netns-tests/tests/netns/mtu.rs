use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

use netns_tests::traffic::{self, tcp::Connection, udp};
use netns_tests::{Capture, Context, Host, Lab, Node, Result, SOON, Underlay, ensure, ensure_eq, eventually};
use vswitch_sys::{Train, UdpEndpoint};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("oversize_ipv4_across_the_tunnel", |lab| across(lab, "10.0.0.1", "10.0.0.2", true)),
    ("oversize_ipv6_across_the_tunnel", |lab| across(lab, "fd00::1", "fd00::2", true)),
    ("oversize_ipv4_across_an_ipv6_tunnel", |lab| across(lab, "10.0.0.1", "10.0.0.2", false)),
    ("oversize_ipv6_across_an_ipv6_tunnel", |lab| across(lab, "fd00::1", "fd00::2", false)),
    ("oversize_for_a_port_of_the_same_host", oversize_for_a_port_of_the_same_host),
    ("oversize_for_a_port_of_the_other_host", oversize_for_a_port_of_the_other_host),
    ("ipv6_underlay", ipv6_underlay),
    ("jumbo_underlay", jumbo_underlay),
    ("jumbo_ipv6_underlay", jumbo_ipv6_underlay),
];

/// The MTU that an ICMP answer to `frame`'s sender names: fragmentation needed (RFC 1191 4), packet too big (RFC 4443 3.2).
fn told(frame: &[u8]) -> Option<u32> {
    let packet = etherparse::SlicedPacket::from_ethernet(frame).ok()?;
    match packet.transport? {
        etherparse::TransportSlice::Icmpv4(icmp) if (icmp.type_u8(), icmp.code_u8()) == (3, 4) => {
            let [_, _, high, low] = icmp.bytes5to8();
            Some(u16::from_be_bytes([high, low]).into())
        }
        etherparse::TransportSlice::Icmpv6(icmp) if (icmp.type_u8(), icmp.code_u8()) == (2, 0) => {
            Some(u32::from_be_bytes(icmp.bytes5to8()))
        }
        _ => None,
    }
}

/// Sends one datagram of `size` bytes that must not be fragmented.
fn send_whole(sender: &mut UdpEndpoint, to: IpAddr, size: u32) -> Result<std::io::Result<()>> {
    let bytes = vec![7; usize::try_from(size)?];
    let slices = [IoSlice::new(&bytes)];
    let train = Train { to: SocketAddr::new(to, 9), tos: 0, segment: None, slices: &slices };
    Ok(sender.send(&[train]).error.map_or(Ok(()), Err))
}

/// The path from `from` to `to` carries `mtu`, less than `from`'s interface does: a datagram as large as that is answered,
/// the answer is believed, and TCP goes on.
fn is_told(from: (&Host, IpAddr), to: (&Host, IpAddr), mtu: u32, seed: u64) -> Result {
    let headers = if to.1.is_ipv4() { 28 } else { 48 };
    let own = from.0.link("eth0")?.mtu;
    traffic::ping::ping(from.0, to.1, 56)?;
    let heard = Capture::open(from.0, "eth0")?;
    // Open through it all: the kernel believes an answer only if it is to a socket that there is.
    let mut sender = udp::sender(from)?;
    send_whole(&mut sender, to.1, own - headers)?.context("the first oversize datagram")?;
    ensure_eq!(heard.find("the ICMP answer", told)?, mtu, "MTU in the answer");
    eventually(SOON, "the sender learns the path's MTU", || {
        let route = from.0.netlink().route_to(to.1)?;
        ensure_eq!(route.mtu, Some(mtu), "MTU of the route to {}", to.1);
        Ok(())
    })?;
    let refused = send_whole(&mut sender, to.1, mtu - headers + 1)?;
    let errno = refused.err().and_then(|error| error.raw_os_error());
    ensure_eq!(errno, Some(nix::libc::EMSGSIZE), "answer of the sender's socket to one byte too many");
    send_whole(&mut sender, to.1, mtu - headers)?.context("the largest that fits")?;
    Connection::open(from.0, to.0, to.1)?.both_ways(4 << 20, 100_000, seed)
}

fn across(lab: &Lab, own: &str, other: &str, v4: bool) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let make = if v4 { Node::v4 } else { Node::v6 };
    let (h1, h2) = (make(lab, &underlay, "h1")?, make(lab, &underlay, "h2")?);
    h1.join(10, 100, &[h2.ip])?;
    h2.join(10, 100, &[h1.ip])?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64 --access 10 --mtu 1500")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --address fd00::2/64 --access 10 --mtu 1500")?;
    let (own, other): (IpAddr, IpAddr) = (own.parse()?, other.parse()?);
    // TCP first: nobody knows anything yet, and its first super-frames do not fit.
    Connection::open(&c2, &c1, own)?.both_ways(4 << 20, 100_000, lab.random().next_u64())?;
    ensure!(h2.stats()?.dropped("c2", "too_big") > 0, "oversize frames are counted on the port they came in on");
    let seed = lab.random().next_u64();
    // A container that has said nothing yet, so that nothing is known of the path.
    let fresh = h1.attach(lab, "fresh", "--address 10.0.0.3/24 --address fd00::3/64 --access 10 --mtu 1500")?;
    let third: IpAddr = if own.is_ipv4() { "10.0.0.3".parse()? } else { "fd00::3".parse()? };
    let before = h1.stats()?.dropped("fresh", "too_big");
    is_told((&fresh, third), (&c2, other), if v4 { 1450 } else { 1430 }, seed)?;
    ensure!(h1.stats()?.dropped("fresh", "too_big") > before, "the oversize datagram is counted");
    Ok(())
}

fn oversize_for_a_port_of_the_same_host(lab: &Lab) -> Result {
    let (_underlay, h1, _h2) = Node::pair(lab, 1500)?;
    let wide = h1.attach(lab, "wide", "--address 10.0.0.1/24 --address fd00::1/64 --access 30")?;
    let narrow = h1.attach(lab, "narrow", "--address 10.0.0.2/24 --address fd00::2/64 --access 30 --mtu 1300")?;
    let seed = lab.random().next_u64();
    for (own, other) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        is_told((&wide, own.parse()?), (&narrow, other.parse()?), 1300, seed)?;
    }
    Ok(())
}

fn oversize_for_a_port_of_the_other_host(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let wide = h1.attach(lab, "wide", "--address 10.0.0.1/24 --address fd00::1/64 --access 10")?;
    let narrow = h2.attach(lab, "narrow", "--address 10.0.0.2/24 --address fd00::2/64 --access 10 --mtu 1300")?;
    let seed = lab.random().next_u64();
    for (own, other) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        is_told((&wide, own.parse()?), (&narrow, other.parse()?), 1300, seed)?;
    }
    Ok(())
}

/// Two hosts of one family on an underlay of `underlay_mtu`, whose ports get `mtu` by themselves.
fn fits(lab: &Lab, underlay_mtu: u32, v4: bool, mtu: u16) -> Result {
    let underlay = Underlay::new(lab, underlay_mtu)?;
    let make = if v4 { Node::v4 } else { Node::v6 };
    let (h1, h2) = (make(lab, &underlay, "h1")?, make(lab, &underlay, "h2")?);
    h1.join(10, 100, &[h2.ip])?;
    h2.join(10, 100, &[h1.ip])?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --address fd00::2/64 --access 10")?;
    ensure_eq!(c1.link("eth0")?.mtu, u32::from(mtu), "MTU of the interface");
    ensure_eq!(h1.ok("port show c1")?["mtu"], mtu, "MTU of the port");
    let vtep = h1.ok("vtep show")?;
    ensure_eq!((&vtep["underlay_mtu"], &vtep["overlay_mtu"]), (&underlay_mtu.into(), &mtu.into()), "MTUs of the VTEP");
    let local = h1.attach(lab, "local", "--access 30")?;
    ensure_eq!(local.link("eth0")?.mtu, 1500, "MTU of a port on a VLAN without VNI");
    let seed = lab.random().next_u64();
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        traffic::everything((&c1, a.parse()?), (&c2, b.parse()?), mtu, 16 << 20, seed)?;
        traffic::everything((&c2, b.parse()?), (&c1, a.parse()?), mtu, 1 << 20, seed)?;
    }
    for node in [&h1, &h2] {
        let too_big: Vec<_> = node.stats()?.drops.into_iter().filter(|((_, why), _)| why == "too_big").collect();
        ensure_eq!(too_big, vec![], "frames that did not fit");
    }
    Ok(())
}

fn ipv6_underlay(lab: &Lab) -> Result {
    fits(lab, 1500, false, 1430)
}

fn jumbo_underlay(lab: &Lab) -> Result {
    fits(lab, 9000, true, 8950)
}

fn jumbo_ipv6_underlay(lab: &Lab) -> Result {
    fits(lab, 9000, false, 8930)
}
