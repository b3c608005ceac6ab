use std::net::IpAddr;

use netns_tests::traffic::{ping::ping, tcp::Connection, udp};
use netns_tests::{Host, KernelSwitch, Lab, Result, Station, Underlay};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("kernel_to_kernel_over_ipv4", over_ipv4),
    ("kernel_to_kernel_over_ipv6", over_ipv6),
    ("copies_are_counted", copies_are_counted),
];

/// Two containers behind two kernel switches, on an underlay of 1500 bytes.
fn hosts(lab: &Lab, v4: bool) -> Result<(Underlay, [KernelSwitch; 2], [Host; 2])> {
    let underlay = Underlay::new(lab, 1500)?;
    let (k1, k2) = (lab.host("k1")?, lab.host("k2")?);
    let (a, b) = (underlay.join(&k1)?, underlay.join(&k2)?);
    let (a, b, mtu) = if v4 { (a.v4, b.v4, 1450) } else { (a.v6, b.v6, 1430) };
    let k1 = KernelSwitch::new(k1, 100, a, &[b], mtu)?;
    let k2 = KernelSwitch::new(k2, 100, b, &[a], mtu)?;
    let c1 = k1.attach(lab, "c1", &["10.0.0.1/24".parse()?, "fd00::1/64".parse()?])?;
    let c2 = k2.attach(lab, "c2", &["10.0.0.2/24".parse()?, "fd00::2/64".parse()?])?;
    Ok((underlay, [k1, k2], [c1, c2]))
}

fn traffic(c1: &Host, c2: &Host, seed: u64) -> Result {
    for ip in ["10.0.0.2", "fd00::2"] {
        let ip: IpAddr = ip.parse()?;
        ping(c1, ip, 56)?;
        let tcp = Connection::open(c1, c2, ip)?;
        tcp.echo(1, seed)?;
        tcp.both_ways(8 << 20, 100_000, seed)?;
        let udp = udp::Pair::open(c1, c2, ip)?;
        for size in [0, 1, 1400, 9000, 65_000] {
            udp.echo(size, seed)?;
        }
        let own = if ip.is_ipv4() { "10.0.0.1".parse()? } else { "fd00::1".parse()? };
        udp::train((c1, own), (c2, ip), 20_001, 1000, seed)?;
    }
    Ok(())
}

fn over_ipv4(lab: &Lab) -> Result {
    let (_underlay, _kernels, [c1, c2]) = hosts(lab, true)?;
    traffic(&c1, &c2, lab.random().next_u64())
}

fn over_ipv6(lab: &Lab) -> Result {
    let (_underlay, _kernels, [c1, c2]) = hosts(lab, false)?;
    traffic(&c1, &c2, lab.random().next_u64())
}

fn copies_are_counted(lab: &Lab) -> Result {
    let (_underlay, _kernels, [c1, c2]) = hosts(lab, true)?;
    ping(&c1, "10.0.0.2".parse()?, 56)?;
    let (s1, s2) = (Station::new(c1)?, Station::new(c2)?);
    let cookie = s1.probe(s2.mac)?;
    s2.expect(cookie, 1, &s1, "a unicast frame")?;
    let cookie = s1.probe([0x01, 0x80, 0xc2, 0, 0, 1])?;
    s2.expect(cookie, 0, &s1, "a pause frame, which bridges keep")
}
