//! What the switch asks of rtnetlink, and what it gets.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

mod common;

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use common::Host;
use ipnet::IpNet;
use vswitch_sys::{Neighbour, Netlink, PacketSocket, RouteEntry, VxlanSpec};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two hosts joined by veth devices called `eth0`.
fn joined(left: &str, right: &str) -> (Host, Host) {
    common::joined(&[left], &[right])
}

#[test]
fn a_new_namespace_has_loopback() {
    require!(common::no_netns());
    let host = Host::new();
    let links = host.netlink.links().unwrap();
    let lo = links.iter().find(|link| link.name == "lo").unwrap();
    assert_eq!((lo.index, lo.mtu, lo.up, lo.mac, lo.master), (1, 65536, true, Some([0; 6]), None));
    assert_eq!(host.netlink.link_by_index(1).unwrap().as_ref(), Some(lo));
    assert_eq!(host.netlink.link("nowhere0").unwrap(), None);
    assert_eq!(host.netlink.link_by_index(4711).unwrap(), None);
}

#[test]
fn links_change_as_told() {
    require!(common::no_netns());
    let (a, b) = (Host::new(), Host::new());
    a.netlink.add_veth("left", "right", Some(&b.netns)).unwrap();
    assert_eq!(a.netlink.link("right").unwrap(), None);
    let index = a.index("left");

    a.netlink.set_mtu(index, 9000).unwrap();
    a.netlink.set_mac(index, [2, 0, 0, 0, 0, 7]).unwrap();
    a.netlink.set_queue_length(index, 4096).unwrap();
    a.netlink.set_name(index, "renamed").unwrap();
    a.netlink.set_up(index, true).unwrap();
    let link = a.netlink.link("renamed").unwrap().unwrap();
    assert_eq!((link.index, link.mtu, link.mac, link.up), (index, 9000, Some([2, 0, 0, 0, 0, 7]), true));
    assert_eq!(link.kind.as_deref(), Some("veth"));
    assert!(!a.netlink.wait_running(index, Duration::ZERO).unwrap(), "the other end is down");
    assert_eq!(a.netlink.wait_running(4711, Duration::ZERO).unwrap_err().errno(), Some(libc::ENODEV));
    b.netlink.set_up(b.index("right"), true).unwrap();
    assert!(a.netlink.wait_running(index, common::PATIENCE).unwrap());
    a.netlink.set_up(index, false).unwrap();
    assert!(!a.netlink.link("renamed").unwrap().unwrap().up);

    a.netlink.set_netns(index, &b.netns).unwrap();
    assert_eq!(a.netlink.link("renamed").unwrap(), None);
    let moved = b.index("renamed");
    b.netlink.delete_link(moved).unwrap();
    assert_eq!(b.netlink.link("right").unwrap(), None, "veth ends go together");
}

#[test]
fn refusals_name_operation_and_object() {
    require!(common::no_netns());
    let host = Host::new();
    host.netlink.add_bridge("br0").unwrap();
    let bridge = host.index("br0");
    for (error, errno, text) in [
        (host.netlink.add_bridge("br0"), libc::EEXIST, "create bridge br0: File exists"),
        (host.netlink.set_mtu(bridge, 1_000_000), libc::EINVAL, "set the MTU of interface 2 to 1000000"),
        (host.netlink.set_mac(bridge, [1, 0, 0, 0, 0, 1]), libc::EADDRNOTAVAIL, "to 01:00:00:00:00:01"),
        (host.netlink.set_up(4711, true), libc::ENODEV, "set interface 4711 up"),
        (host.netlink.delete_link(4711), libc::ENODEV, "delete interface 4711"),
        (host.netlink.add_address(4711, "10.0.0.1/24".parse().unwrap()), libc::ENODEV, "10.0.0.1/24"),
        (
            host.netlink.add_route(None, Some(ip("192.0.2.1")), bridge),
            libc::ENETUNREACH,
            "add the default route via 192.0.2.1 by interface 2",
        ),
        (host.netlink.route_to(ip("192.0.2.1")).map(drop), libc::ENETUNREACH, "find the route to 192.0.2.1"),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.errno(), Some(errno), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    // The socket is still in step after refusals.
    assert_eq!(host.netlink.link("br0").unwrap().unwrap().kind.as_deref(), Some("bridge"));
}

#[test]
fn addresses_may_be_used_at_once() {
    require!(common::no_netns());
    let (a, _b) = joined("10.1.0.1/24", "10.1.0.2/24");
    let index = a.index("eth0");
    let (c, _d) = joined("2001:db8::1/64", "2001:db8::2/64");
    let index6 = c.index("eth0");
    assert!(a.netlink.addresses().unwrap().contains(&(index, "10.1.0.1/24".parse().unwrap())));
    assert!(c.netlink.addresses().unwrap().contains(&(index6, "2001:db8::1/64".parse().unwrap())));
    // Without duplicate address detection: no second in which bind says EADDRNOTAVAIL.
    c.thread.call(|| UdpSocket::bind("[2001:db8::1]:1").map(drop)).unwrap();

    let error = a.netlink.add_address(index, "10.1.0.1/24".parse().unwrap()).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EEXIST));
    a.netlink.delete_address(index, "10.1.0.1/24".parse().unwrap()).unwrap();
    assert!(!a.netlink.addresses().unwrap().iter().any(|(at, _)| *at == index));
    let error = a.netlink.delete_address(index, "10.1.0.1/24".parse().unwrap()).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EADDRNOTAVAIL));
}

#[test]
fn routes_of_both_families() {
    require!(common::no_netns());
    for (left, right, gateway, net, beyond, own) in [
        ("10.1.0.1/24", "10.1.0.2/24", "10.1.0.2", "10.9.0.0/16", "10.9.1.1", "10.1.0.1"),
        ("2001:db8::1/64", "2001:db8::2/64", "2001:db8::2", "2001:db8:9::/48", "2001:db8:9::1", "2001:db8::1"),
    ] {
        let (a, _b) = joined(left, right);
        let index = a.index("eth0");
        let near = a.netlink.route_to(ip(gateway)).unwrap();
        assert_eq!((near.index, near.gateway, near.source, near.local), (index, None, Some(ip(own)), false));
        // The kernel adds the route of an own IPv6 address from a work queue, a moment after the address.
        common::eventually(|| a.netlink.route_to(ip(own)).unwrap().local);

        assert!(a.netlink.route_to(ip(beyond)).is_err());
        a.netlink.add_route(Some(net.parse().unwrap()), Some(ip(gateway)), index).unwrap();
        let far = a.netlink.route_to(ip(beyond)).unwrap();
        assert_eq!((far.index, far.gateway, far.source), (index, Some(ip(gateway)), Some(ip(own))));
        let error = a.netlink.add_route(Some(net.parse().unwrap()), Some(ip(gateway)), index).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST));

        let elsewhere = if ip(own).is_ipv4() { "198.51.100.1" } else { "2001:db8:ffff::1" };
        assert!(a.netlink.route_to(ip(elsewhere)).is_err());
        a.netlink.add_route(None, Some(ip(gateway)), index).unwrap();
        assert_eq!(a.netlink.route_to(ip(elsewhere)).unwrap().gateway, Some(ip(gateway)));
        a.netlink.delete_route(None, Some(ip(gateway)), index).unwrap();
        assert!(a.netlink.route_to(ip(elsewhere)).is_err());
        assert_eq!(a.netlink.delete_route(None, Some(ip(gateway)), index).unwrap_err().errno(), Some(libc::ESRCH));
    }
}

#[test]
fn many_objects_in_one_dump() {
    require!(common::no_netns());
    let host = Host::new();
    // More than one datagram's worth, so that a dump comes in parts.
    for number in 0..60 {
        host.netlink.add_bridge(&format!("br{number}")).unwrap();
    }
    for number in 1..200u8 {
        host.netlink.add_address(1, format!("10.0.0.{number}/32").parse().unwrap()).unwrap();
    }
    assert_eq!(host.netlink.links().unwrap().iter().filter(|link| link.name.starts_with("br")).count(), 60);
    let ours = |address: &ipnet::IpNet| address.prefix_len() == 32;
    assert_eq!(host.netlink.addresses().unwrap().iter().filter(|(_, address)| ours(address)).count(), 199);
}

#[test]
fn bridge_ports_come_and_go() {
    require!(common::no_netns());
    let host = Host::new();
    host.netlink.add_bridge("br0").unwrap();
    host.netlink.add_veth("a", "b", None).unwrap();
    let (bridge, port) = (host.index("br0"), host.index("a"));
    host.netlink.set_master(port, Some(bridge)).unwrap();
    assert_eq!(host.netlink.link("a").unwrap().unwrap().master, Some(bridge));
    host.netlink.set_master(port, None).unwrap();
    assert_eq!(host.netlink.link("a").unwrap().unwrap().master, None);
}

/// Frames for everybody reach the remote in a UDP datagram with the VNI; frames for a known address too.
#[test]
fn vxlan_sends_where_the_fdb_says() {
    require!(common::no_netns());
    for (left, right, local, first, second) in [
        ("10.1.0.1/24", "10.1.0.2/24", "10.1.0.1", "10.1.0.2", "10.1.0.3"),
        ("2001:db8::1/64", "2001:db8::2/64", "2001:db8::1", "2001:db8::2", "2001:db8::3"),
    ] {
        let (a, b) = joined(left, right);
        b.netlink
            .add_address(b.index("eth0"), format!("{second}{}", &right[right.len() - 3..]).parse().unwrap())
            .unwrap();
        let spec =
            VxlanSpec { name: "vx0", vni: 0x0012_3456, local: ip(local), remote: None, port: 4789, learning: false };
        a.netlink.add_vxlan(&spec).unwrap();
        let error = a.netlink.add_vxlan(&VxlanSpec { name: "vx1", ..spec }).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST));
        let index = a.set_up("vx0", &[]);
        a.netlink.fdb_append(index, [0; 6], ip(first)).unwrap();
        a.netlink.fdb_append(index, [0; 6], ip(second)).unwrap();
        a.netlink.fdb_append(index, [2, 0, 0, 0, 0, 9], ip(second)).unwrap();
        assert_eq!(a.netlink.link("vx0").unwrap().unwrap().kind.as_deref(), Some("vxlan"));

        let (first, second) = (ip(first), ip(second));
        let (one, two) = b.thread.call(move || {
            let bind = |ip| UdpSocket::bind((ip, 4789)).unwrap();
            (bind(first), bind(second))
        });
        for to in [[0xff; 6], [2, 0, 0, 0, 0, 9]] {
            let mut frame = [0; 60];
            frame[..6].copy_from_slice(&to);
            frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
            a.thread.call(move || PacketSocket::open("vx0").unwrap().send(&frame)).unwrap();
            let known = to != [0xff; 6];
            for (socket, expected) in [(&one, !known), (&two, true)] {
                let mut buf = [0; 200];
                socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
                if expected {
                    let len = socket.recv(&mut buf).unwrap();
                    assert_eq!(buf[..8], [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
                    assert_eq!(buf[8..len], frame);
                }
            }
        }
        // What was not expected would have come before what was.
        one.set_nonblocking(true).unwrap();
        assert_eq!(one.recv(&mut [0; 200]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[test]
fn a_lasting_neighbour_needs_no_arp() {
    require!(common::no_netns());
    let (a, b) = joined("10.1.0.1/24", "10.1.0.2/24");
    let index = a.index("eth0");
    a.netlink.add_neighbour(index, ip("10.1.0.77"), [2, 0, 0, 0, 0, 0x77]).unwrap();
    // Again, with another address: replaced.
    a.netlink.add_neighbour(index, ip("10.1.0.77"), [2, 0, 0, 0, 0, 0x78]).unwrap();
    let tap = b.thread.call(|| PacketSocket::open("eth0").unwrap());
    tap.promiscuous().unwrap();
    a.thread.call(|| UdpSocket::bind("10.1.0.1:1").unwrap().send_to(b"hello", "10.1.0.77:2")).unwrap();
    let mut buf = [0; 200];
    let len = tap.recv(&mut buf, common::PATIENCE).unwrap().unwrap();
    assert_eq!(buf[..6], [2, 0, 0, 0, 0, 0x78]);
    assert!(buf[..len].ends_with(b"hello"));
    assert_eq!(tap.recv(&mut buf, Duration::ZERO).unwrap(), None);
}

#[test]
fn a_socket_belongs_to_the_namespace_it_was_opened_in() {
    require!(common::no_netns());
    let host = Host::new();
    let netlink = Netlink::open_in(&host.netns).unwrap();
    netlink.add_bridge("here").unwrap();
    assert!(host.netlink.link("here").unwrap().is_some());
    assert!(Netlink::open().unwrap().link("here").unwrap().is_none());
}

#[test]
fn an_unanswered_neighbour_is_asked_again_at_once() {
    require!(common::no_netns());
    let (a, b) = joined("10.1.0.1/24", "10.1.0.2/24");
    let index = a.index("eth0");
    a.netlink.add_neighbour(index, ip("10.1.0.2"), [2, 0, 0, 0, 0, 2]).unwrap();
    let tap = b.thread.call(|| PacketSocket::open("eth0").unwrap());
    let say = || a.thread.call(|| UdpSocket::bind("10.1.0.1:1").unwrap().send_to(b"hello", "10.1.0.77:2")).unwrap();
    let mut buf = [0; 200];
    let mut asked = |patience| {
        while let Some(len) = tap.recv(&mut buf, patience).unwrap() {
            if buf[12..14] == [8, 6] && buf[38..42] == [10, 1, 0, 77] && len >= 42 {
                return true;
            }
        }
        false
    };
    say();
    assert!(asked(common::PATIENCE));
    say();
    assert!(!asked(Duration::ZERO), "the kernel would ask again in a second");
    assert_eq!(a.netlink.forget_unanswered_neighbours(index).unwrap(), 1, "and not the one it knows");
    say();
    assert!(asked(common::PATIENCE));
}

#[test]
fn what_is_known_of_a_neighbour() {
    require!(common::no_netns());
    for (own, peer, nobody, given, port) in [
        ("10.1.0.1/24", "10.1.0.2/24", "10.1.0.77", "10.1.0.78", "ipv4"),
        ("2001:db8::1/64", "2001:db8::2/64", "2001:db8::77", "2001:db8::78", "ipv6"),
    ] {
        let (a, _b) = joined(own, peer);
        let index = a.index("eth0");
        let bare = |text: &str| ip(text.split('/').next().unwrap());
        let (own, peer) = (bare(own), bare(peer));
        let known = |who| a.netlink.neighbour(index, who).unwrap();
        assert_eq!(known(peer), None, "nothing was sent yet");
        let say = |to: IpAddr| {
            a.thread.call(move || UdpSocket::bind((own, 0)).unwrap().send_to(b"hello", (to, 2))).unwrap();
        };
        // The kernel draws the time anew where it is written: half to one and a half of it.
        a.netns.set_sysctl(&format!("{port}/neigh/eth0/base_reachable_time_ms"), "1000").unwrap();
        say(peer);
        common::eventually(|| matches!(known(peer), Some(Neighbour::Reachable(ago)) if ago < Duration::from_secs(2)));
        say(ip(nobody));
        common::eventually(|| known(ip(nobody)) == Some(Neighbour::Silent));
        a.netlink.add_neighbour(index, ip(given), [2, 0, 0, 0, 0, 0x78]).unwrap();
        assert_eq!(known(ip(given)), None, "nobody asks for it");
        // Trusted for half a second at least, and then neither asked nor sent to.
        common::eventually(|| match known(peer) {
            Some(Neighbour::Unproven(ago)) => {
                assert!(ago >= Duration::from_millis(490), "{peer} is unproven after {ago:?}");
                ago > Duration::from_secs(1)
            }
            _ => false,
        });
        assert_eq!(a.netlink.neighbour(index + 7, peer).unwrap_err().errno(), Some(libc::ENODEV));
    }
}

/// The entries that leave by `index`, but for those the kernel makes itself.
fn made(host: &Host, index: u32) -> Vec<RouteEntry> {
    let own = |entry: &RouteEntry| entry.index == index && (entry.gateway.is_some() || entry.table != Some(254));
    host.netlink.routes().unwrap().into_iter().filter(own).collect()
}

#[test]
fn routes_keep_their_attributes() {
    require!(common::no_netns());
    for (left, right, gateway, net, priority) in [
        ("10.1.0.1/24", "10.1.0.2/24", "10.1.0.2", "10.9.0.0/16", 0),
        ("2001:db8::1/64", "2001:db8::2/64", "2001:db8::2", "2001:db8:9::/48", 1024),
    ] {
        let (a, _b) = joined(left, right);
        let index = a.index("eth0");
        let bare = RouteEntry::new(net.parse().unwrap(), Some(ip(gateway)), index);
        let whole = RouteEntry { mtu: Some(1400), advmss: Some(1300), priority: Some(7), table: Some(100_000), ..bare };
        let near = RouteEntry { gateway: None, table: Some(100), ..bare };
        for entry in [&bare, &whole, &near] {
            a.netlink.add_route_entry(entry).unwrap();
            let error = a.netlink.add_route_entry(entry).unwrap_err();
            assert!(error.is_exists(), "{error}");
        }
        let found = made(&a, index);
        assert_eq!(found.len(), 3, "{found:?}");
        // What was left to the kernel is as documented.
        let priority = (priority != 0).then_some(priority);
        let scope = |of: u8| if left.contains(':') { 0 } else { of };
        let bare = RouteEntry { priority, table: Some(254), scope: Some(0), ..bare };
        let near = RouteEntry { priority, scope: Some(scope(253)), ..near };
        for entry in [bare, RouteEntry { scope: Some(0), ..whole }, near] {
            assert!(found.contains(&entry), "no {entry:?} in {found:?}");
        }
        assert_eq!(whole.to_string(), format!("{net} via {gateway} table 100000 metric 7 mtu 1400 advmss 1300"));
    }
}

#[test]
fn a_default_route_is_listed_with_its_family() {
    require!(common::no_netns());
    for (left, right, gateway, all) in [
        ("10.1.0.1/24", "10.1.0.2/24", "10.1.0.2", "0.0.0.0/0"),
        ("2001:db8::1/64", "2001:db8::2/64", "2001:db8::2", "::/0"),
    ] {
        let (a, _b) = joined(left, right);
        let index = a.index("eth0");
        a.netlink.add_route(None, Some(ip(gateway)), index).unwrap();
        let found = made(&a, index);
        let [entry] = found[..] else { panic!("{found:?}") };
        assert_eq!((entry.dst, entry.gateway, entry.advertised), (all.parse().unwrap(), Some(ip(gateway)), false));
    }
}

#[test]
fn a_gateway_beyond_the_subnet_is_taken_on_link() {
    require!(common::no_netns());
    for (left, right, gateway, errno) in [
        ("10.1.0.1/32", "10.1.0.2/32", "169.254.1.1", libc::ENETUNREACH),
        ("2001:db8::1/128", "2001:db8::2/128", "2001:db8:5::1", libc::EHOSTUNREACH),
    ] {
        let (a, _b) = joined(left, right);
        let index = a.index("eth0");
        let all = IpNet::new(if ip(gateway).is_ipv4() { ip("0.0.0.0") } else { ip("::") }, 0).unwrap();
        let entry = RouteEntry::new(all, Some(ip(gateway)), index);
        assert_eq!(a.netlink.add_route_entry(&entry).unwrap_err().errno(), Some(errno));
        a.netlink.add_route_entry(&RouteEntry { onlink: true, ..entry }).unwrap();
        let found = made(&a, index);
        assert!(found.iter().any(|entry| entry.onlink && entry.gateway == Some(ip(gateway))), "{found:?}");
    }
}

#[test]
fn two_routes_to_one_destination() {
    require!(common::no_netns());
    for (left, right, first, second, far) in [
        ("10.1.0.1/24", "10.1.0.2/24", "10.1.0.2", "10.1.0.3", "10.9.0.0/16"),
        ("2001:db8::1/64", "2001:db8::2/64", "2001:db8::2", "2001:db8::3", "2001:db8:9::/48"),
    ] {
        let (a, _b) = joined(left, right);
        let index = a.index("eth0");
        let dst: IpNet = far.parse().unwrap();
        let by = |gateway| RouteEntry::new(dst, Some(ip(gateway)), index);
        a.netlink.add_route_entry(&by(first)).unwrap();
        assert!(a.netlink.add_route_entry(&by(second)).unwrap_err().is_exists(), "neither beside the first nor for it");
        a.netlink.add_route_entry(&RouteEntry { priority: Some(2000), ..by(second) }).unwrap();
        let gateways: Vec<_> = made(&a, index).into_iter().filter_map(|entry| entry.gateway).collect();
        assert_eq!(gateways, [ip(first), ip(second)], "each is listed");
        if dst.addr().is_ipv4() {
            assert_eq!(a.netlink.route_to(dst.addr()).unwrap().gateway, Some(ip(first)), "the first goes on");
        }
    }
}
