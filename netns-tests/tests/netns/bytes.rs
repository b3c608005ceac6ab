use std::net::IpAddr;

use netns_tests::traffic::{tcp::Connection, udp};
use netns_tests::{Context, Host, KernelSwitch, Lab, Node, Result, Underlay};

use crate::Tests;

pub(crate) const TESTS: Tests =
    &[("on_one_host", on_one_host), ("across_the_tunnel", across_the_tunnel), ("to_the_kernel", to_the_kernel)];

/// What all containers may send here.
const MTU: usize = 1450;
const C1: &str = "--address 10.0.0.1/24 --address fd00::1/64 --access 10";
const C2: &str = "--address 10.0.0.2/24 --address fd00::2/64 --access 10";

/// Sizes around every boundary that `unit` bytes a packet make: one packet, two, as many as a super-frame holds.
fn around(unit: usize) -> Vec<usize> {
    let edges = [unit, 2 * unit, 3 * unit, 43 * unit, 44 * unit, 45 * unit, 46 * unit, 64 * unit, 1 << 16, 1 << 17];
    let around = edges.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]);
    [1, 2, 3, 7, 8, 63, 64].into_iter().chain(around).collect()
}

/// Each size forth and back, over TCP and UDP, over IPv4 and IPv6.
fn compare(lab: &Lab, c1: &Host, c2: &Host) -> Result {
    let mut random = lab.random();
    for (own, other) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let (own, other): (IpAddr, IpAddr) = (own.parse()?, other.parse()?);
        let ip = if own.is_ipv4() { 20 } else { 40 };
        // With and without the timestamp option, which takes 12 bytes.
        let mss = MTU - ip - 20;
        let odd = (0..20).map(|_| 1 + random.below(200_000)).collect::<Vec<_>>();
        let tcp = Connection::open(c1, c2, other)?;
        for size in around(mss - 12).into_iter().chain(around(mss)).chain(odd) {
            tcp.echo(size, random.next_u64()).context(format_args!("TCP to {other}, {size} bytes"))?;
        }
        let largest = MTU - ip - 8;
        let datagrams = udp::Pair::open(c1, c2, other)?;
        // Above the largest, IP fragments: 8 bytes of UDP header are in the first, and each but the last has a multiple of 8.
        let fragment = (MTU - ip) / 8 * 8;
        let edges = [largest, 2 * fragment - 8, 3 * fragment - 8, 1 << 15, 65_506];
        let sizes = edges.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]);
        for size in [0, 1, 2, 17, 18, 19].into_iter().chain(sizes) {
            let size = size.min(if own.is_ipv4() { 65_507 } else { 65_487 });
            datagrams.echo(size, random.next_u64()).context(format_args!("UDP to {other}, {size} bytes"))?;
        }
        // Datagrams that leave in one call: full and short ones last, many and few.
        let largest = u16::try_from(largest)?;
        for (segment, bytes) in [
            (1, 60),
            (7, 64 * 7 - 1),
            (100, 6001),
            (1000, 64_000),
            (largest - 1, 45 * usize::from(largest - 1)),
            (largest, usize::from(largest) * 2),
            (largest, usize::from(largest) * 44 + 1),
            (largest, usize::from(largest) * 45 - 1),
        ] {
            let what = format!("UDP to {other}, {bytes} bytes in segments of {segment}");
            udp::train((c1, own), (c2, other), bytes, segment, random.next_u64()).context(what)?;
        }
    }
    Ok(())
}

fn on_one_host(lab: &Lab) -> Result {
    let (_underlay, h1, _h2) = Node::pair(lab, 1500)?;
    compare(lab, &h1.attach(lab, "c1", C1)?, &h1.attach(lab, "c2", C2)?)
}

fn across_the_tunnel(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    compare(lab, &h1.attach(lab, "c1", C1)?, &h2.attach(lab, "c2", C2)?)
}

fn to_the_kernel(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let h1 = Node::v4(lab, &underlay, "h1")?;
    let host = lab.host("k")?;
    let local = underlay.join(&host)?.v4;
    h1.join(10, 100, &[local])?;
    let kernel = KernelSwitch::new(host, 100, local, &[h1.ip], 1450)?;
    let c2 = kernel.attach(lab, "c2", &["10.0.0.2/24".parse()?, "fd00::2/64".parse()?])?;
    compare(lab, &h1.attach(lab, "c1", C1)?, &c2)
}
