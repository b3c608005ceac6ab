use netns_tests::{Lab, Node, Result, Station, Underlay, drops, ensure_eq, frames::BROADCAST, traffic};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("isolation", isolation),
    ("the_same_addresses_in_two_vlans", the_same_addresses_in_two_vlans),
    ("a_tag_on_an_access_port", a_tag_on_an_access_port),
    ("a_port_moves_to_another_vlan", a_port_moves_to_another_vlan),
];

/// Two hosts joined in VLAN 10 (VNI 100) and VLAN 20 (VNI 200).
fn two_vlans(lab: &Lab) -> Result<(Underlay, Node, Node)> {
    let (underlay, h1, h2) = Node::pair(lab, 1500)?;
    h1.join(20, 200, &[h2.ip])?;
    h2.join(20, 200, &[h1.ip])?;
    Ok((underlay, h1, h2))
}

fn isolation(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = two_vlans(lab)?;
    let station = |node: &Node, name, vlan| Station::new(node.attach_quiet(lab, name, &format!("--access {vlan}"))?);
    let (a10, b10, a20, b20) =
        (station(&h1, "a10", 10)?, station(&h1, "b10", 10)?, station(&h1, "a20", 20)?, station(&h1, "b20", 20)?);
    let (c10, c20) = (station(&h2, "c10", 10)?, station(&h2, "c20", 20)?);
    // Broadcast, multicast, an unknown station, and the very address of a station in the other VLAN.
    for to in [BROADCAST, [0x01, 0, 0x5e, 0, 0, 5], [2, 0xff, 0, 0, 0, 1], a20.mac, c20.mac] {
        let cookie = a10.probe(to)?;
        for inside in [&b10, &c10] {
            inside.expect(cookie, 1, &a10, "in the same VLAN")?;
        }
        a20.expect(cookie, 0, &b20, "in the other VLAN, same host")?;
        b20.expect(cookie, 0, &a20, "in the other VLAN, same host")?;
        c20.expect(cookie, 0, &a20, "in the other VLAN, other host")?;
    }
    Ok(())
}

fn the_same_addresses_in_two_vlans(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = two_vlans(lab)?;
    let words = |number, vlan| format!("--address 10.0.0.{number}/24 --mac 02:00:00:00:00:0{number} --access {vlan}");
    let pair = |vlan| -> Result<_> {
        let a = h1.attach(lab, &format!("a{vlan}"), &words(1, vlan))?;
        Ok((a, h2.attach(lab, &format!("b{vlan}"), &words(2, vlan))?))
    };
    let pairs = [pair(10)?, pair(20)?];
    let seed = lab.random().next_u64();
    for (a, b) in &pairs {
        traffic::everything((a, "10.0.0.1".parse()?), (b, "10.0.0.2".parse()?), 1450, 4 << 20, seed)?;
    }
    for vlan in [10, 20] {
        let place = h1.place_of(vlan, "02:00:00:00:00:01")?.map(|(place, _)| place);
        ensure_eq!(place, Some(format!("a{vlan}")), "place of the same address in VLAN {vlan}");
    }
    Ok(())
}

fn a_tag_on_an_access_port(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = two_vlans(lab)?;
    let a = Station::new(h1.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(h1.attach_quiet(lab, "b", "--access 10")?)?;
    let c = Station::new(h2.attach_quiet(lab, "c", "--access 10")?)?;
    let before = h1.stats()?;
    // Other VLANs, and its own too; 4095 is reserved.
    for vlan in [10, 20, 4094, 4095] {
        let cookie = a.probe_tagged(a.mac, BROADCAST, Some(vlan))?;
        b.expect(cookie, 0, &a, "a tagged frame from an access port")?;
        c.expect(cookie, 0, &a, "a tagged frame from an access port, other host")?;
    }
    ensure_eq!(h1.stats()?.drops_since(&before), drops([("a", "vlan_not_allowed", 4)]), "drops");
    // A priority tag names no VLAN: the frame belongs to the port's, and leaves access ports without tag.
    let cookie = a.probe_tagged(a.mac, BROADCAST, Some(0xa000))?;
    for listener in [&b, &c] {
        let copies = listener.copies(cookie, &a)?;
        let tags: Vec<_> = copies.iter().map(|frame| netns_tests::frames::tag_of(frame)).collect();
        ensure_eq!(tags, vec![None], "tags of the copies of a frame with a priority tag");
    }
    ensure_eq!(h1.stats()?.drops_since(&before), drops([("a", "vlan_not_allowed", 4)]), "drops, still");
    Ok(())
}

fn a_port_moves_to_another_vlan(lab: &Lab) -> Result {
    let (_underlay, h1, _h2) = two_vlans(lab)?;
    let a = Station::new(h1.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(h1.attach_quiet(lab, "b", "--access 10")?)?;
    let c = Station::new(h1.attach_quiet(lab, "c", "--access 20")?)?;
    let cookie = a.probe(BROADCAST)?;
    b.expect(cookie, 1, &a, "in VLAN 10")?;
    h1.ok("port set a --access 20")?;
    ensure_eq!(h1.place_of(10, &netns_tests::frames::text(a.mac))?, None, "its address in the VLAN it left");
    let cookie = a.probe(BROADCAST)?;
    c.expect(cookie, 1, &a, "in VLAN 20")?;
    let d = Station::new(h1.attach_quiet(lab, "d", "--access 10")?)?;
    b.expect(cookie, 0, &d, "in VLAN 10, after it left")
}
