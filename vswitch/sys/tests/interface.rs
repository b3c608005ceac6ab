//! Interfaces of ports: found, made, and what they are told before they are up.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

mod common;

use common::Host;
use vswitch_sys::interface::{Origin, takes_advertisements};
use vswitch_sys::{InterfaceError, InterfaceSpec, Netns, TapError};

fn spec(mark: &str) -> InterfaceSpec {
    InterfaceSpec {
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1400,
        addresses: vec!["10.1.0.1/24".parse().unwrap()],
        gateways: Vec::new(),
        mark: mark.to_owned(),
    }
}

#[test]
fn inside_it_is_new_or_what_was_left_and_never_anothers() {
    require!(common::no_tap());
    for queues in [1, 3] {
        let host = Host::new();
        let (tap, origin) = spec("ours").obtain_inside(&host.netns, queues).unwrap();
        assert!(matches!(origin, Origin::New), "{origin:?}");
        let index = host.index("eth0");
        let taken = |mark: &str| match spec(mark).obtain_inside(&host.netns, queues) {
            Err(InterfaceError::Tap(TapError::NameTaken(name))) => name,
            other => panic!("{other:?}"),
        };
        if queues == 1 {
            // Of several queues the kernel lets more be opened beside those that are.
            assert_eq!(taken("ours"), "eth0", "somebody serves it");
        }
        drop(tap);
        assert_eq!(taken("another's"), "eth0", "it bears another's mark");
        let (tap, origin) = spec("ours").obtain_inside(&host.netns, queues).unwrap();
        assert!(matches!(origin, Origin::Left(None)), "{origin:?}");
        assert_eq!((tap.queues().len(), host.index("eth0")), (usize::from(queues), index));
    }
    let host = Host::new();
    host.netlink.add_bridge("eth0").unwrap();
    let refused = spec("ours").obtain_inside(&host.netns, 1).unwrap_err();
    assert!(matches!(refused, InterfaceError::Tap(TapError::NameTaken(_))), "{refused}");
    assert_eq!(host.netlink.link("eth0").unwrap().unwrap().kind.as_deref(), Some("bridge"));
}

#[test]
fn among_its_own_a_host_believes_in_no_router() {
    require!(common::no_tap());
    let settings = |host: &Host| {
        let keys = ["ipv6/conf/eth0/accept_ra", "ipv6/conf/eth0/autoconf", "ipv6/conf/eth0/accept_redirects"];
        let keys = keys.into_iter().chain(["ipv4/conf/eth0/accept_redirects"]).map(str::to_owned);
        let read = move || {
            let read = |key| std::fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap().trim().to_owned();
            (keys.map(read).collect::<Vec<_>>().join(" "), takes_advertisements("eth0"))
        };
        host.netns.run(read).unwrap()
    };
    let (own, container) = (Host::new(), Host::new());
    for host in [&own, &container] {
        host.netns.set_sysctl("ipv4/conf/default/accept_redirects", "1").unwrap();
        for key in ["accept_ra", "autoconf", "accept_redirects"] {
            host.netns.set_sysctl(&format!("ipv6/conf/default/{key}"), "1").unwrap();
        }
    }
    type Make = fn(&InterfaceSpec, &Netns) -> vswitch_sys::Tap;
    let ways: [Make; 3] = [
        |spec, netns| spec.create(netns, 1).unwrap(),
        |spec, netns| spec.create_inside(netns, 1).unwrap(),
        |spec, netns| spec.obtain_inside(netns, 1).unwrap().0,
    ];
    for make in ways {
        let mine = own.netns.run(|| make(&spec("ours"), &Netns::current().unwrap())).unwrap();
        let theirs = own.netns.run(|| make(&spec("theirs"), &container.netns)).unwrap();
        assert_eq!(settings(&own), ("0 0 0 0".to_owned(), false));
        assert_eq!(settings(&container), ("1 1 1 1".to_owned(), true), "what a container believes is its own business");
        for tap in [mine, theirs] {
            tap.set_persistent(false).unwrap();
        }
    }
    container.netlink.add_bridge("eth0").unwrap();
    container.netns.set_sysctl("ipv6/conf/eth0/forwarding", "1").unwrap();
    assert!(!settings(&container).1, "a router believes in no other");
    container.netns.set_sysctl("ipv6/conf/eth0/accept_ra", "2").unwrap();
    assert!(settings(&container).1, "unless it is told to");
}
