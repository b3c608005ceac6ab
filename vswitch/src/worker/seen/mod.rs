//! What is told of drops is what is counted of them: every reason that can be made is made, on real TAP devices and a
//! tunnel that does as it is told.

mod scene;

use std::collections::BTreeSet;
use std::io;

use vtep::oam::{Kind, Message};
use vtep::{EncapDrop, SendDrop};

use scene::{A, ALL, GUARDED, LONELY, NARROW, REMOTE, Scene, TRUNK, frame, mac, udp, vxlan};

use super::SharedLimits;
use crate::drops::Drop;

/// What cannot be made here, and why not.
const NOT_MADE: [(&str, &str); 3] = [
    ("queue_full", "a TAP's write (Linux 6.18) fails so for want of memory only"),
    ("refused", "the kernel refuses headers that we never write"),
    ("receive_queue_full", "the kernel drops it, and nobody sees what"),
];

const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

#[test]
fn every_drop_is_told_as_often_as_it_is_counted() {
    let mut scene = match Scene::new() {
        Ok(scene) => scene,
        Err(why) => {
            use std::io::Write as _;
            let _ = writeln!(io::stderr(), "\nSKIPPED every_drop_is_told_as_often_as_it_is_counted: {why}");
            return;
        }
    };
    let plain = |to: u8, from: u8| frame(mac(to), mac(from), &EXPERIMENTAL, 60);
    from_ports(&mut scene, plain);
    from_the_tunnel(&mut scene, plain);
    on_the_way_out(&mut scene, plain);
    let expected: BTreeSet<_> = Drop::all().map(Drop::name).collect();
    let not_made = NOT_MADE.map(|(name, _)| name);
    let all: BTreeSet<_> = scene.made.iter().copied().chain(not_made).collect();
    assert_eq!(all, expected, "reasons that were made, and those that cannot be");
}

fn from_ports(scene: &mut Scene, plain: impl Fn(u8, u8) -> Vec<u8>) {
    scene.makes("bad_source", |scene| scene.send(A, &frame(mac(2), ALL, &EXPERIMENTAL, 60)));
    scene.makes("reserved_address", |scene| {
        scene.send(A, &frame([1, 0x80, 0xc2, 0, 0, 0], mac(1), &EXPERIMENTAL, 60));
    });
    scene.makes("same_port", |scene| scene.send(A, &plain(1, 1)));
    scene.makes("double_tag", |scene| {
        scene.send(TRUNK, &frame(mac(1), mac(3), &[0x81, 0, 0, 10, 0x81, 0, 0, 20, 0x88, 0xb5], 60));
    });
    scene.makes("no_member", |scene| scene.send(LONELY, &frame(ALL, mac(9), &EXPERIMENTAL, 60)));
    scene.makes("vlan_not_allowed", |scene| scene.send(A, &frame(mac(2), mac(1), &[0x81, 0, 0, 30, 0x88, 0xb5], 60)));
    scene.makes("untagged_not_allowed", |scene| scene.send(TRUNK, &plain(1, 3)));
    scene.makes("spoofed_mac", |scene| scene.send(GUARDED, &plain(1, 0x61)));
    scene.makes("spoofed_ip", |scene| scene.send(GUARDED, &udp(mac(1), mac(0x60), 60)));
    scene.makes("truncated", |scene| scene.send(A, &frame(mac(2), mac(1), &[0x81, 0], 15)));
    for (reason, to) in
        [("storm_broadcast", ALL), ("storm_multicast", [1, 0, 0x5e, 0, 0, 1]), ("storm_unknown_unicast", mac(0x70))]
    {
        scene.makes(reason, |scene| (0..50).for_each(|_| scene.send(A, &frame(to, mac(1), &EXPERIMENTAL, 60))));
    }
    scene.makes("mac_flapping", |scene| {
        for turn in 0..200 {
            scene.now = scene.now + std::time::Duration::from_millis(1);
            scene.send(if turn % 2 == 0 { A } else { NARROW }, &plain(3, 0x71));
        }
    });
}

fn from_the_tunnel(scene: &mut Scene, plain: impl Fn(u8, u8) -> Vec<u8>) {
    scene.makes("split_horizon", |scene| scene.datagram(2, 0, None, vxlan(100, &plain(6, 5))));
    scene.makes("vxlan_truncated", |scene| scene.datagram(2, 0, None, vxlan(100, &[0; 13])));
    scene.makes("vxlan_truncated", |scene| scene.datagram(2, 0, None, Vec::new()));
    scene.makes("vxlan_flags", |scene| scene.datagram(2, 0, None, [&[0; 8][..], &plain(1, 5)].concat()));
    scene.makes("unknown_vni", |scene| scene.datagram(2, 0, None, vxlan(101, &plain(1, 5))));
    scene.makes("unknown_vtep", |scene| scene.datagram(9, 0, None, vxlan(100, &plain(1, 5))));
    // Messages between VTEPs: one that is none, an answer to nothing that was asked, and more than one peer may send.
    let none = [&[9, 0, 0, 0, 0, 0, 0, 0][..], &plain(1, 5)].concat();
    scene.makes("oam_malformed", |scene| scene.datagram(2, 0, None, none.clone()));
    scene.makes("unknown_vtep", |scene| scene.datagram(9, 0, None, none.clone()));
    scene.makes("oam_unasked", |scene| {
        let answer = Message {
            kind: Kind::Answer { was_damaged: false, is_stranger: false },
            key: 1,
            sequence: 1,
            time: 0,
            asked: [192, 0, 2, 2].into(),
            sender: [192, 0, 2, 1].into(),
            port: 1,
            networks: Vec::new(),
        };
        scene.datagram(2, 0, None, answer.write(0));
    });
    scene.makes("oam_rate_limited", |scene| (0..500).for_each(|_| scene.datagram(2, 0, None, none.clone())));
    scene.makes("inner_tag", |scene| {
        scene.datagram(2, 0, None, vxlan(100, &frame(mac(1), mac(5), &[0x81, 0, 0, 10], 60)));
    });
    scene.makes("ecn_ce", |scene| scene.datagram(2, 3, None, vxlan(100, &udp(mac(1), mac(5), 60))));
    scene.makes("uncut_super_frame", |scene| scene.datagram(2, 0, Some(500), vxlan(100, &udp(mac(1), mac(5), 1400))));
    scene.makes("bad_offload", |scene| {
        scene.script.lock().unwrap().malformed.push(plain(1, 5));
        scene.datagram(2, 0, None, vxlan(100, &plain(1, 5)));
    });
    scene.makes("path_mtu", |scene| {
        // The answer to a frame that is too big for its port, which is too big for its way.
        scene.script.lock().unwrap().fails = Some(SendDrop::PathMtu);
        scene.datagram(2, 0, None, vxlan(100, &udp(mac(2), mac(5), 300)));
    });
}

fn on_the_way_out(scene: &mut Scene, plain: impl Fn(u8, u8) -> Vec<u8>) {
    scene.makes("too_big", |scene| scene.send(A, &udp(mac(2), mac(1), 300)));
    scene.makes("too_big", |scene| {
        scene.script.lock().unwrap().refuses = Some(EncapDrop::TooBig);
        scene.send(A, &udp(mac(5), mac(1), 300));
    });
    scene.makes("too_big", |scene| {
        scene.script.lock().unwrap().fails = Some(SendDrop::PathMtu);
        scene.send(A, &udp(mac(5), mac(1), 300));
    });
    scene.makes("bad_offload", |scene| {
        scene.script.lock().unwrap().refuses = Some(EncapDrop::BadOffload);
        scene.send(A, &plain(5, 1));
    });
    for (reason, why) in [
        ("underlay_queue_full", SendDrop::QueueFull),
        ("underlay_unreachable", SendDrop::Unreachable),
        ("underlay_refused", SendDrop::Refused),
    ] {
        scene.makes(reason, |scene| {
            scene.script.lock().unwrap().fails = Some(why);
            scene.send(A, &plain(5, 1));
        });
    }
    scene.makes("interface_down", |scene| {
        let index = scene.netlink.link("narrow").unwrap().unwrap().index;
        scene.netlink.set_up(index, false).unwrap();
        scene.send(A, &plain(2, 1));
    });
    scene.makes("rate_limited", |scene| {
        let limits = vswitch_api::Limits { rx: None, tx: Some("1k,1k".parse().unwrap()) };
        scene.datapath.set_limits(scene.now, TRUNK, SharedLimits::new(&limits));
        (0..300).for_each(|_| scene.send(A, &udp(mac(3), mac(1), 1400)));
    });
    scene.makes("port_lost", |scene| scene.datapath.drop_waiting(TRUNK));
    scene.makes("port_lost", |scene| {
        let index = scene.netlink.link("narrow").unwrap().unwrap().index;
        scene.netlink.delete_link(index).unwrap();
        scene.send(A, &plain(2, 1));
    });
    scene.makes("unknown_vtep", |scene| {
        // Received, and not handed out when its remote goes.
        let train = vxlan(100, &frame(mac(1), mac(5), &EXPERIMENTAL, 60)).repeat(600);
        scene.datagram(2, 0, Some(68), train);
        scene.datapath.remove(REMOTE);
    });
    scene.makes("unknown_port", |scene| {
        scene.datapath.switch_mut().remove_port(A);
        scene.send(A, &plain(5, 1));
    });
}
