use netns_tests::frames::{BROADCAST, tag_of};
use netns_tests::{Lab, Node, Result, Station, drops, ensure_eq};

use crate::Tests;

pub(crate) const TESTS: Tests =
    &[("tagged_frames", tagged_frames), ("native", native), ("trunk_to_trunk", trunk_to_trunk)];

/// Priority 5, DEI set.
const PRIORITY: u16 = 0xb000;

fn tagged_frames(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let trunk = Station::new(h1.attach_quiet(lab, "trunk", "--trunk 10,20-30")?)?.in_vlan(10);
    let access = Station::new(h1.attach_quiet(lab, "access", "--access 10")?)?;
    let other = Station::new(h1.attach_quiet(lab, "other", "--access 20")?)?;
    let remote = Station::new(h2.attach_quiet(lab, "remote", "--access 10")?)?;
    let before = h1.stats()?;

    // From the trunk: each VLAN gets its own, without tag.
    let cookie = trunk.probe_tagged(trunk.mac, BROADCAST, Some(PRIORITY | 10))?;
    for listener in [&access, &remote] {
        let tags: Vec<_> = listener.copies(cookie, &trunk)?.iter().map(|frame| tag_of(frame)).collect();
        ensure_eq!(tags, vec![None], "tags on an access port");
    }
    let friend = Station::new(h1.attach_quiet(lab, "friend", "--access 20")?)?;
    other.expect(cookie, 0, &friend, "in another VLAN of the trunk")?;
    let cookie = trunk.probe_tagged(trunk.mac, BROADCAST, Some(20))?;
    other.expect(cookie, 1, &friend, "in VLAN 20")?;
    access.expect(cookie, 0, &trunk, "in VLAN 10")?;

    // To the trunk: with the tag of the VLAN, and the priority if there was one.
    for (sender, tag, seen) in [(&access, None, 10), (&remote, None, 10), (&access, Some(PRIORITY), PRIORITY | 10)] {
        let cookie = sender.probe_tagged(sender.mac, trunk.mac, tag)?;
        let tags: Vec<_> = trunk.copies(cookie, sender)?.iter().map(|frame| tag_of(frame)).collect();
        ensure_eq!(tags, vec![Some(seen)], "tags on the trunk, from {}", sender.host.name());
    }
    ensure_eq!(h1.stats()?.drops_since(&before), drops([]), "drops");

    // What is not in its list, and what has no VLAN.
    for tag in [Some(11), Some(31), Some(4095), None, Some(PRIORITY)] {
        let cookie = trunk.probe_tagged(trunk.mac, BROADCAST, tag)?;
        access.expect(cookie, 0, &trunk, "a VLAN that the trunk does not carry")?;
    }
    let expected = drops([("trunk", "vlan_not_allowed", 3), ("trunk", "untagged_not_allowed", 2)]);
    ensure_eq!(h1.stats()?.drops_since(&before), expected, "drops");
    Ok(())
}

fn native(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let trunk = Station::new(h1.attach_quiet(lab, "trunk", "--trunk 20 --native 10")?)?;
    let access = Station::new(h1.attach_quiet(lab, "access", "--access 10")?)?;
    let remote = Station::new(h2.attach_quiet(lab, "remote", "--access 10")?)?;
    let cookie = trunk.probe(BROADCAST)?;
    access.expect(cookie, 1, &trunk, "an untagged frame of the native VLAN")?;
    remote.expect(cookie, 1, &trunk, "an untagged frame of the native VLAN, other host")?;
    for sender in [&access, &remote] {
        let cookie = sender.probe(trunk.mac)?;
        let tags: Vec<_> = trunk.copies(cookie, sender)?.iter().map(|frame| tag_of(frame)).collect();
        ensure_eq!(tags, vec![None], "tags of the native VLAN on the trunk, from {}", sender.host.name());
    }
    Ok(())
}

fn trunk_to_trunk(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    h1.join(20, 200, &[h2.ip])?;
    h2.join(20, 200, &[h1.ip])?;
    let a = Station::new(h1.attach_quiet(lab, "a", "--trunk 10,20")?)?.in_vlan(20);
    let b = Station::new(h1.attach_quiet(lab, "b", "--trunk 10,20")?)?.in_vlan(20);
    let c = Station::new(h2.attach_quiet(lab, "c", "--trunk 20 --native 10")?)?.in_vlan(20);
    // The priority survives where the frame stays tagged all the way; the tunnel has no place for it.
    let cookie = a.probe_tagged(a.mac, BROADCAST, Some(PRIORITY | 20))?;
    for (listener, seen) in [(&b, PRIORITY | 20), (&c, 20)] {
        let tags: Vec<_> = listener.copies(cookie, &a)?.iter().map(|frame| tag_of(frame)).collect();
        ensure_eq!(tags, vec![Some(seen)], "tags at {}", listener.host.name());
    }
    let cookie = a.probe_tagged(a.mac, BROADCAST, Some(10))?;
    let tags: Vec<_> = c.copies(cookie, &a)?.iter().map(|frame| tag_of(frame)).collect();
    ensure_eq!(tags, vec![None], "tags of VLAN 10, native there");
    Ok(())
}
