use std::net::IpAddr;

use ipnet::IpNet;
use netns_tests::openvswitch::complete_checksums;
use netns_tests::traffic::{ping, tcp};
use netns_tests::{Host, Lab, Node, OpenVswitch, Result, SuperFrames, UPLINK, Underlay, ensure_eq};

use crate::Tests;

pub(crate) const TESTS: Tests = &[("over_ipv4", over_ipv4)];

const C1: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const C2: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// Why these tests cannot run.
pub(crate) fn hindrance() -> Option<String> {
    let missing = OpenVswitch::installed(SuperFrames::Cut).err()?;
    Some(format!("Open vSwitch is {missing}"))
}

struct Mixed {
    ours: Node,
    c1: Host,
    c2: Host,
    _theirs: OpenVswitch,
    _underlay: Underlay,
}

/// Container `c1` on our switch, `c2` on Open vSwitch.
fn mixed(lab: &Lab) -> Result<Mixed> {
    let underlay = Underlay::new(lab, 1500)?;
    let ours = Node::v4(lab, &underlay, "h1")?;
    // It reads what arrives as it stands on a wire: no partial checksum, nothing uncut.
    complete_checksums(&ours.host, UPLINK)?;
    let host = lab.quiet_host("ovs")?;
    let local = underlay.plug(&host)?.v4;
    ours.join(10, 100, &[local])?;
    let theirs = OpenVswitch::start(lab, host, SuperFrames::Cut)?;
    theirs.join(IpNet::new(local, 24)?, ours.ip, 100)?;
    let c1 = ours.attach(lab, "c1", &format!("--address {C1}/24 --access 10"))?;
    let c2 = theirs.attach(lab.host("c2")?, &[IpNet::new(C2, 24)?], 1450)?;
    ensure_eq!(c1.link("eth0")?.mtu, 1450, "MTU on our side");
    Ok(Mixed { ours, c1, c2, _theirs: theirs, _underlay: underlay })
}

fn over_ipv4(lab: &Lab) -> Result {
    let Mixed { ours, c1, c2, .. } = &mixed(lab)?;
    for size in [0, 56, 1450 - 28] {
        ping::ping(c1, C2, size)?;
        ping::ping(c2, C1, size)?;
    }
    let seed = lab.random().next_u64();
    tcp::Connection::open(c1, c2, C2)?.both_ways(8 << 20, 100_000, seed)?;
    tcp::Connection::open(c2, c1, C1)?.both_ways(8 << 20, 100_000, seed)?;
    let drops = ours.stats()?.drops.into_iter();
    let tunnel: Vec<_> = drops.filter(|((port, why), _)| port == "tunnel" && why != "no_member").collect();
    ensure_eq!(tunnel, vec![], "drops of the tunnel");
    Ok(())
}
