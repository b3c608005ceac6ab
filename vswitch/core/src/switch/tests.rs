use alloc::vec::Vec;

use super::*;
use crate::wire::vlan::Tag;

const LIMITS: Limits = Limits { entries: 100, per_port: 50 };
const NOW: Instant = Instant::from_nanos(1 << 30);

/// Ports 0 and 1 access VLAN 10; 2 a trunk of 10 and 20; 3 a trunk of 20 with native 10; 4 and 5 remotes in VLAN 10;
/// 6 alone in VLAN 30; 7 missing.
fn switch() -> Switch {
    let mut switch = Switch::new(LIMITS, 7);
    let trunk = |vids: &[u16], native| PortMode::Trunk { vlans: set(vids), native };
    let modes = [
        PortMode::Access(vlan(10)),
        PortMode::Access(vlan(10)),
        trunk(&[10, 20], None),
        trunk(&[20], Some(vlan(10))),
        PortMode::Remote { vlans: set(&[10]) },
        PortMode::Remote { vlans: set(&[10]) },
        PortMode::Access(vlan(30)),
    ];
    for (port, mode) in (0..).zip(modes) {
        switch.add_port(PortId::new(port), mode);
    }
    switch
}

fn vlan(vid: u16) -> VlanId {
    VlanId::new(vid).unwrap()
}

fn set(vids: &[u16]) -> VlanSet {
    vids.iter().copied().map(vlan).collect()
}

/// A station's address.
fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn frame(to: MacAddr, from: MacAddr, tag: Option<u16>) -> Vec<u8> {
    let mut bytes = [to.0, from.0].concat();
    if let Some(bits) = tag {
        bytes.extend([0x81, 0x00]);
        bytes.extend(bits.to_be_bytes());
    }
    bytes.extend([0x08, 0x00, 0x45]);
    bytes
}

/// A frame with a second tag, of VLAN 20, behind its first.
fn double(to: MacAddr, from: MacAddr, first: u16) -> Vec<u8> {
    let mut bytes = frame(to, from, Some(first));
    bytes.splice(16.., [0x81, 0x00, 0x00, 0x14, 0x08, 0x00]);
    bytes
}

/// Ports and tags a verdict means, or the name of the reason for none.
fn ways(switch: &Switch, verdict: Verdict) -> Result<Vec<(u16, Option<u16>)>, &'static str> {
    let way = |egress: Egress| (egress.port.get(), egress.tag.map(Tag::bits));
    match verdict {
        Verdict::Unicast(egress) => Ok([way(egress)].into()),
        Verdict::Flood(flood) => Ok(switch.flood_targets(&flood).map(way).collect()),
        Verdict::Drop(reason) => Err(reason.name()),
    }
}

#[test]
fn floods_reach_the_vlan_and_no_second_remote() {
    let everyone = MacAddr::BROADCAST;
    let local = |port, tag| (port, None, frame(everyone, mac(1), tag));
    let remote = |port, vid| (port, Some(vid), frame(everyone, mac(1), None));
    type Ways = &'static [(u16, Option<u16>)];
    let table: [(_, Ways); 7] = [
        (local(0, None), &[(1, None), (2, Some(10)), (3, None), (4, None), (5, None)]),
        (local(0, Some(0xb000)), &[(1, None), (2, Some(0xb00a)), (3, None), (4, None), (5, None)]),
        (local(2, Some(0x6014)), &[(3, Some(0x6014))]),
        // A second tag must not be bared: not to an access port, not to a native VLAN, not to a remote.
        ((0, None, double(everyone, mac(1), 0xa000)), &[(2, Some(0xa00a))]),
        (local(3, None), &[(0, None), (1, None), (2, Some(10)), (4, None), (5, None)]),
        (remote(4, 10), &[(0, None), (1, None), (2, Some(10)), (3, None)]),
        (remote(5, 10), &[(0, None), (1, None), (2, Some(10)), (3, None)]),
    ];
    for ((port, vid, bytes), expected) in table {
        let mut switch = switch();
        let verdict = match vid {
            None => switch.ingress(NOW, PortId::new(port), &bytes),
            Some(vid) => switch.ingress_remote(NOW, PortId::new(port), vlan(vid), &bytes),
        };
        assert_eq!(ways(&switch, verdict), Ok(expected.to_vec()), "port {port}, {bytes:02x?}");
    }
}

#[test]
fn what_is_flooded_and_what_is_not() {
    let table = [
        ([0xff; 6], true),
        ([0; 6], true),
        ([0x02, 0, 0, 0, 0, 0x99], true),        // unknown station
        ([0x01, 0x00, 0x5e, 0, 0, 0x12], true),  // VRRP over IPv4
        ([0x33, 0x33, 0, 0, 0, 1], true),        // router advertisement
        ([0x01, 0x80, 0xc2, 0, 0, 0x14], true),  // IS-IS
        ([0x01, 0x80, 0xc2, 0, 0, 0x10], true),  // all LANs bridge management
        ([0x01, 0x80, 0xc2, 0, 0, 0x00], false), // spanning tree
        ([0x01, 0x80, 0xc2, 0, 0, 0x02], false), // LACP
        ([0x01, 0x80, 0xc2, 0, 0, 0x0e], false), // LLDP
        ([0x01, 0x80, 0xc2, 0, 0, 0x0f], false),
    ];
    for (to, flooded) in table {
        let mut switch = switch();
        let local = switch.ingress(NOW, PortId::new(0), &frame(MacAddr(to), mac(1), None));
        let remote = switch.ingress_remote(NOW, PortId::new(4), vlan(10), &frame(MacAddr(to), mac(2), None));
        for verdict in [local, remote] {
            if flooded {
                assert!(matches!(verdict, Verdict::Flood(_)), "{to:02x?}: {verdict:?}");
            } else {
                assert_eq!(ways(&switch, verdict), Err("reserved_address"), "{to:02x?}");
            }
        }
        assert_eq!(switch.counters().learned, 2, "a reserved destination does not spoil the source");
    }
}

#[test]
fn every_reason_has_a_frame() {
    let one = mac(1);
    let bad_source = |source| frame(mac(9), source, None);
    type Case = (u16, Option<u16>, Vec<u8>, &'static str, u64);
    let table: [Case; 27] = [
        (7, None, frame(mac(9), one, None), "unknown_port", 0),
        (700, None, frame(mac(9), one, None), "unknown_port", 0),
        (4, None, frame(mac(9), one, None), "unknown_port", 0),
        (0, Some(10), frame(mac(9), one, None), "unknown_port", 0),
        (0, None, frame(mac(9), one, None)[..13].to_vec(), "truncated", 0),
        (2, None, frame(mac(9), one, Some(10))[..17].to_vec(), "truncated", 0),
        (4, Some(10), Vec::new(), "truncated", 0),
        (0, None, frame(mac(9), one, Some(10)), "vlan_not_allowed", 0),
        (2, None, frame(mac(9), one, Some(4095)), "vlan_not_allowed", 0),
        (4, Some(20), frame(mac(9), one, None), "vlan_not_allowed", 0),
        (4, Some(10), frame(mac(9), one, Some(10)), "vlan_not_allowed", 0),
        (2, None, frame(mac(9), one, None), "untagged_not_allowed", 0),
        (0, None, bad_source(MacAddr::ZERO), "bad_source", 0),
        (0, None, bad_source(MacAddr::BROADCAST), "bad_source", 0),
        (0, None, bad_source(MacAddr([1, 0, 0x5e, 0, 0, 1])), "bad_source", 0),
        (4, Some(10), bad_source(MacAddr::ZERO), "bad_source", 0),
        (0, None, frame(MacAddr([1, 0x80, 0xc2, 0, 0, 0]), one, None), "reserved_address", 1),
        (0, None, frame(one, one, None), "same_port", 1),
        (4, Some(10), frame(mac(50), one, None), "split_horizon", 1),
        (0, None, double(mac(50), one, 0), "double_tag", 1),
        (6, None, frame(mac(9), one, None), "no_member", 1),
        (0, None, frame(one, mac(60), None), "mac_flapping", 0),
        (1, None, frame(MacAddr::BROADCAST, one, None), "storm_broadcast", 1),
        (1, None, frame(MacAddr([0x33, 0x33, 0, 0, 0, 1]), one, None), "storm_multicast", 1),
        (1, None, frame(mac(9), one, None), "storm_unknown_unicast", 1),
        (1, None, frame(mac(9), one, None), "spoofed_mac", 0),
        (1, None, frame(mac(9), mac(60), None), "spoofed_ip", 0),
    ];
    for (port, vid, bytes, reason, learned) in &table {
        let mut switch = switch();
        switch.fdb_add_static(vlan(10), mac(50), PortId::new(5)).unwrap();
        // Port 1 has used its budgets up, and station 60 is held there.
        switch.set_storm_limit(NonZeroU32::new(1));
        for to in [MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1]), mac(9)] {
            let verdict = switch.ingress(NOW, PortId::new(1), &frame(to, mac(60), None));
            assert!(ways(&switch, verdict).is_ok(), "{to}");
        }
        for port in [0, 1, 0, 1, 0] {
            switch.ingress(NOW, PortId::new(port), &frame(mac(50), mac(60), None));
        }
        if reason.starts_with("spoofed") {
            switch.set_guard(PortId::new(1), Guard::new(Some([mac(60)].into()), Some(Vec::new())));
        }
        let before = switch.counters().learned;
        let verdict = match *vid {
            None => switch.ingress(NOW, PortId::new(*port), bytes),
            Some(vid) => switch.ingress_remote(NOW, PortId::new(*port), vlan(vid), bytes),
        };
        assert_eq!(ways(&switch, verdict), Err(*reason), "port {port}, {bytes:02x?}");
        assert_eq!(switch.counters().learned - before, *learned, "{reason}");
    }
    for reason in Reason::all() {
        assert!(table.iter().any(|case| case.3 == reason.name()), "no frame for {reason:?}");
    }
}

#[test]
fn unicast_carries_the_tag_of_its_way_out() {
    let mut switch = switch();
    for (port, n, tag) in [(0, 1, None), (2, 2, Some(10)), (3, 3, None), (2, 4, Some(20)), (3, 5, Some(20))] {
        switch.ingress(NOW, PortId::new(port), &frame(MacAddr::BROADCAST, mac(n), tag));
    }
    switch.ingress_remote(NOW, PortId::new(4), vlan(10), &frame(MacAddr::BROADCAST, mac(6), None));
    let table = [
        (0, 1, None, 2, Ok((2, Some(0x000a)))),
        (0, 1, Some(0xd000), 2, Ok((2, Some(0xd00a)))),
        (0, 1, Some(0xd000), 3, Ok((3, None))),
        (0, 1, None, 6, Ok((4, None))),
        (2, 2, Some(0x700a), 1, Ok((0, None))),
        (2, 4, Some(0x7014), 5, Ok((3, Some(0x7014)))),
        (2, 2, Some(0x000a), 2, Err("same_port")),
    ];
    for (port, from, tag, to, expected) in table {
        let verdict = switch.ingress(NOW, PortId::new(port), &frame(mac(to), mac(from), tag));
        assert_eq!(ways(&switch, verdict), expected.map(|way| [way].into()), "{from} to {to}");
    }
    let verdict = switch.ingress_remote(NOW, PortId::new(4), vlan(10), &frame(mac(2), mac(6), None));
    assert_eq!(ways(&switch, verdict), Ok([(2, Some(0x000a))].into()));
}

#[test]
fn learning_from_remotes_can_be_off() {
    let mut switch = switch();
    switch.set_learning(vlan(10), false);
    switch.ingress_remote(NOW, PortId::new(4), vlan(10), &frame(MacAddr::BROADCAST, mac(1), None));
    switch.ingress(NOW, PortId::new(0), &frame(MacAddr::BROADCAST, mac(2), None));
    assert_eq!(switch.fdb_get(vlan(10), mac(1)), None);
    assert!(switch.fdb_get(vlan(10), mac(2)).is_some());
    switch.set_learning(vlan(10), true);
    switch.ingress_remote(NOW, PortId::new(4), vlan(10), &frame(MacAddr::BROADCAST, mac(1), None));
    assert_eq!(switch.fdb_get(vlan(10), mac(1)).map(|entry| entry.port), Some(PortId::new(4)));
}

#[test]
fn addresses_go_with_the_port_or_its_membership() {
    let known = |switch: &Switch| switch.fdb_entries().map(|entry| entry.vlan.get()).collect::<Vec<_>>();
    let mut switch = switch();
    let trunk = PortId::new(2);
    for vid in [10, 20] {
        switch.ingress(NOW, trunk, &frame(MacAddr::BROADCAST, mac(1), Some(vid)));
        switch.fdb_add_static(vlan(vid), mac(2), trunk).unwrap();
    }
    assert!(switch.set_port_mode(trunk, PortMode::Access(vlan(20))));
    assert_eq!(known(&switch), [20, 20]);
    assert!(switch.set_port_mode(trunk, PortMode::Remote { vlans: set(&[20]) }));
    assert_eq!(known(&switch), [0; 0]);
    switch.ingress(NOW, PortId::new(0), &frame(MacAddr::BROADCAST, mac(1), None));
    assert!(switch.remove_port(PortId::new(0)));
    assert_eq!(known(&switch), [0; 0]);

    assert!(!switch.remove_port(PortId::new(0)) && !switch.remove_port(PortId::new(99)));
    assert!(!switch.set_port_mode(PortId::new(0), PortMode::Access(vlan(10))));
    let verdict = switch.ingress(NOW, PortId::new(1), &frame(MacAddr::BROADCAST, mac(3), None));
    assert_eq!(ways(&switch, verdict), Ok([(3, None), (4, None), (5, None)].into()));
}

#[test]
fn static_addresses_are_checked() {
    let mut switch = switch();
    let port = PortId::new(0);
    let table = [
        (10, MacAddr::ZERO, port, Err(FdbError::NotStation(MacAddr::ZERO))),
        (10, MacAddr::BROADCAST, port, Err(FdbError::NotStation(MacAddr::BROADCAST))),
        (10, mac(1), PortId::new(7), Err(FdbError::NoPort(PortId::new(7)))),
        (20, mac(1), port, Err(FdbError::NotMember { port, vlan: vlan(20) })),
        (10, mac(1), port, Ok(())),
        (10, mac(1), port, Ok(())),
        (10, mac(1), PortId::new(4), Ok(())),
    ];
    for (vid, mac, port, expected) in table {
        assert_eq!(switch.fdb_add_static(vlan(vid), mac, port), expected);
    }
    assert_eq!(switch.fdb_len(), 1);
}

#[test]
fn what_a_port_may_flood() {
    let everyone = frame(MacAddr::BROADCAST, mac(1), None);
    let mut switch = switch();
    switch.set_storm_limit(NonZeroU32::new(100));
    let mut sibling = switch.sibling();
    // A known destination, and a flood that nobody would get, cost nothing.
    switch.fdb_add_static(vlan(10), mac(50), PortId::new(5)).unwrap();
    for _ in 0..100 {
        assert!(matches!(switch.ingress(NOW, PortId::new(0), &frame(mac(50), mac(1), None)), Verdict::Unicast(_)));
        let verdict = switch.ingress(NOW, PortId::new(6), &everyone);
        assert_eq!(ways(&switch, verdict), Err("no_member"));
    }
    let mut floods = |turn: usize, port: u16| {
        let switch = if turn.is_multiple_of(2) { &mut switch } else { &mut sibling };
        let verdict = match port {
            4 => switch.ingress_remote(NOW, PortId::new(4), vlan(10), &everyone),
            _ => switch.ingress(NOW, PortId::new(port), &everyone),
        };
        if let Verdict::Flood(flood) = verdict
            && turn == 0
        {
            switch.charge_flood(NOW, &flood, 4);
        }
        matches!(verdict, Verdict::Flood(_))
    };
    // Ten at once, of which the first, a super-frame, is five.
    for port in [0, 1, 4] {
        assert_eq!((0..50).filter(|&turn| floods(turn, port)).count(), 6, "port {port}");
    }
}

/// Behind the only remote of a VLAN that does not learn, every station is unknown: that is no flood, and who sent it hears
/// where it does not fit.
#[test]
fn what_can_only_be_in_one_place_is_no_flood() {
    let one_peer = || {
        let mut switch = Switch::new(LIMITS, 7);
        switch.set_storm_limit(NonZeroU32::new(1));
        switch.set_learning(vlan(10), false);
        switch.add_port(PortId::new(0), PortMode::Access(vlan(10)));
        switch.add_port(PortId::new(1), PortMode::Remote { vlans: set(&[10]) });
        switch
    };
    let mut switch = one_peer();
    let to = |switch: &mut Switch, to| switch.ingress(NOW, PortId::new(0), &frame(to, mac(1), None));
    let way = Verdict::Unicast(Egress { port: PortId::new(1), vlan: vlan(10), tag: None });
    for _ in 0..100 {
        assert_eq!(to(&mut switch, mac(2)), way);
    }
    // All else floods once, and has then used up its budget: a broadcast, which may meet many there; a station that
    // would be known if it ever spoke; and one that may be in two places.
    type Change = fn(&mut Switch);
    let changes: [(&str, MacAddr, Change); 4] = [
        ("storm_broadcast", MacAddr::BROADCAST, |_| {}),
        ("storm_unknown_unicast", mac(2), |switch| switch.set_learning(vlan(10), true)),
        ("storm_unknown_unicast", mac(2), |switch| switch.add_port(PortId::new(1), PortMode::Access(vlan(10)))),
        ("storm_unknown_unicast", mac(2), |switch| switch.add_port(PortId::new(2), PortMode::Access(vlan(10)))),
    ];
    for (why, destination, change) in changes {
        let mut switch = one_peer();
        change(&mut switch);
        assert!(matches!(to(&mut switch, destination), Verdict::Flood(_)), "{why}");
        let verdict = to(&mut switch, destination);
        assert_eq!(ways(&switch, verdict), Err(why));
    }
}

#[test]
fn another_switch_goes_on_with_what_was_learned() {
    let mut first = switch();
    let at = |seconds| NOW + Duration::from_secs(seconds);
    // In this order: 2 is the oldest, and 1 was seen again last.
    let from = |station| frame(MacAddr::BROADCAST, mac(station), None);
    for (seconds, station, port) in [(0, 1, 0), (1, 2, 0), (3, 1, 1)] {
        first.ingress(at(seconds), PortId::new(port), &from(station));
    }
    first.ingress_remote(at(2), PortId::new(4), vlan(10), &from(3));
    first.fdb_add_static(vlan(10), mac(9), PortId::new(0)).unwrap();
    let (entries, counters) = (first.fdb_entries().collect::<Vec<_>>(), first.counters());
    assert_eq!((entries.len(), counters.learned, counters.moved), (4, 2 + 1, 1));

    let mut next = switch();
    next.remove_port(PortId::new(4));
    next.fdb_restore(entries.clone(), counters);
    assert_eq!(next.counters(), counters, "restoring is not learning");
    assert_eq!(next.fdb_get(vlan(10), mac(9)), None, "static addresses come from elsewhere");
    assert_eq!(next.fdb_get(vlan(10), mac(3)), None, "its port is not here");
    for station in [1, 2] {
        assert_eq!(next.fdb_get(vlan(10), mac(station)), first.fdb_get(vlan(10), mac(station)));
    }
    // What was seen meanwhile makes younger, and moves.
    let seen = FdbEntry { port: PortId::new(1), kind: FdbKind::Learned { last_seen: at(9) }, ..entries[0] };
    let seen = FdbEntry { mac: mac(2), ..seen };
    next.fdb_restore(Vec::from([seen]), counters);
    assert_eq!(next.fdb_lookup(vlan(10), mac(2)), Some(PortId::new(1)));
    // And ages go on: 1 was last seen three seconds after NOW, 2 nine.
    let aged = |switch: &mut Switch, seconds| {
        switch.handle_timeout(at(seconds));
        [1, 2].map(|station| switch.fdb_get(vlan(10), mac(station)).is_none())
    };
    assert_eq!(aged(&mut next, 302), [false, false]);
    assert_eq!(aged(&mut next, 304), [true, false]);
    assert_eq!(aged(&mut next, 310), [true, true]);
}
