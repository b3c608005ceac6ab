use netns_tests::{Host, KernelSwitch, Lab, Node, Result, Station, Underlay, drops, ensure_eq, frames, traffic};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("over_ipv4", over_ipv4),
    ("over_ipv6", over_ipv6),
    ("jumbo", jumbo),
    ("udp_trains_from_the_kernel", udp_trains_from_the_kernel),
    ("each_sees_the_others_frames_unchanged", each_sees_the_others_frames_unchanged),
];

struct Mixed {
    ours: Node,
    c1: Host,
    c2: Host,
    _kernel: KernelSwitch,
    _underlay: Underlay,
}

/// Container `c1` on our switch, `c2` on the kernel's.
fn mixed(lab: &Lab, underlay_mtu: u32, v4: bool) -> Result<Mixed> {
    let underlay = Underlay::new(lab, underlay_mtu)?;
    let host = lab.host("k")?;
    let kernel = underlay.join(&host)?;
    let (ours, local, overhead) = if v4 {
        (Node::v4(lab, &underlay, "h1")?, kernel.v4, 50)
    } else {
        (Node::v6(lab, &underlay, "h1")?, kernel.v6, 70)
    };
    ours.join(10, 100, &[local])?;
    let kernel = KernelSwitch::new(host, 100, local, &[ours.ip], underlay_mtu - overhead)?;
    let c1 = ours.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64 --access 10")?;
    let c2 = kernel.attach(lab, "c2", &["10.0.0.2/24".parse()?, "fd00::2/64".parse()?])?;
    ensure_eq!(c1.link("eth0")?.mtu, c2.link("eth0")?.mtu, "MTU on our side, and on the kernel's");
    Ok(Mixed { ours, c1, c2, _kernel: kernel, _underlay: underlay })
}

fn traffic(lab: &Lab, underlay_mtu: u32, v4: bool) -> Result {
    let Mixed { ours, c1, c2, .. } = &mixed(lab, underlay_mtu, v4)?;
    let mtu = u16::try_from(c1.link("eth0")?.mtu)?;
    let seed = lab.random().next_u64();
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        traffic::everything((c1, a.parse()?), (c2, b.parse()?), mtu, 32 << 20, seed)?;
    }
    // The kernel's own bridge speaks before our side has a container.
    let drops = ours.stats()?.drops.into_iter();
    let tunnel: Vec<_> = drops.filter(|((port, why), _)| port == "tunnel" && why != "no_member").collect();
    ensure_eq!(tunnel, vec![], "drops of the tunnel");
    Ok(())
}

fn over_ipv4(lab: &Lab) -> Result {
    traffic(lab, 1500, true)
}

fn over_ipv6(lab: &Lab) -> Result {
    traffic(lab, 1500, false)
}

fn jumbo(lab: &Lab) -> Result {
    traffic(lab, 9000, true)
}

/// Over a veth the kernel cuts such a train nowhere: our UDP socket gets the super-frame inside whole.
fn udp_trains_from_the_kernel(lab: &Lab) -> Result {
    let Mixed { ours, c1, c2, .. } = &mixed(lab, 1500, true)?;
    let before = ours.stats()?;
    let seed = lab.random().next_u64();
    let outcome = traffic::udp::train((c2, "10.0.0.2".parse()?), (c1, "10.0.0.1".parse()?), 20_001, 1000, seed);
    ensure_eq!(ours.stats()?.drops_since(&before), drops([]), "drops");
    outcome
}

fn each_sees_the_others_frames_unchanged(lab: &Lab) -> Result {
    let Mixed { c1, c2, _kernel, _underlay, ours: _ours } = mixed(lab, 1500, true)?;
    // Raw frames are sent once: by now all that lies between is up and knows its neighbours.
    traffic::ping::ping(&c1, "10.0.0.2".parse()?, 56)?;
    let (s1, s2) = (Station::new(c1)?, Station::new(c2)?);
    let mut random = lab.random();
    // From the least that Ethernet has (the kernel pads nothing) to the largest that fits.
    for size in [0, 1, 46, 1449, 1450] {
        let mut payload = vec![0; size];
        random.fill(&mut payload);
        for (from, to) in [(&s1, &s2), (&s2, &s1)] {
            let frame = frames::ethernet(to.mac, from.mac, None, 0x88b6, &payload);
            from.wire.send(&frame)?;
            to.wire.until(&format!("the frame with {size} bytes"), |got| got == frame)?;
        }
    }
    Ok(())
}
