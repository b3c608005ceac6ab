//! Descriptors that another process opened: what they should be is used, anything else is refused.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

mod common;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use common::Host;
use vswitch_sys::{Inbox, Offloads, Tap, UdpEndpoint, UdpOptions, Uplink};

/// Other descriptors of the queues of `tap`.
fn copies(tap: &Tap) -> Vec<OwnedFd> {
    tap.queues().iter().map(|queue| queue.try_clone().unwrap().into()).collect()
}

#[test]
fn queues_of_one_device_outlive_who_opened_them() {
    require!(common::no_tap());
    let host = Host::new();
    let open = |name: &str, queues| Tap::open(name, queues, Some(&host.netns)).unwrap();
    let (first, other) = (open("eth0", 2), open("eth1", 1));
    let strangers = copies(&first).into_iter().chain(copies(&other));
    let error = Tap::adopt_all(strangers).unwrap_err().to_string();
    assert!(error.contains("two devices, eth0 and eth1"), "{error}");
    assert!(Tap::adopt_all(Vec::new()).is_err());

    let handed = copies(&first);
    let granted = first.offloads();
    drop((first, other));
    assert!(host.netlink.link("eth1").unwrap().is_none(), "nobody has a queue of it");
    let index = host.index("eth0");
    let adopted = Tap::adopt_all(handed).unwrap();
    assert_eq!((adopted.name(), adopted.queues().len(), adopted.offloads()), ("eth0", 2, granted));
    // What is known is not asked.
    let few = Offloads { checksum: true, ..Offloads::default() };
    assert_eq!(Tap::adopt_granted(copies(&adopted), few).unwrap().offloads(), few);
    assert_eq!(host.index("eth0"), index, "the same interface");
}

#[test]
fn a_socket_keeps_its_address_and_what_waits() {
    require!(common::no_netns());
    let host = Host::new();
    let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let options = UdpOptions { gro: true, ..UdpOptions::default() };
    let first = host.thread.call(move || UdpEndpoint::open(local, &options)).unwrap();
    let to = first.local_addr();
    let sender = host.thread.call(move || UdpSocket::bind(local)).unwrap();
    sender.send_to(b"waits", to).unwrap();
    let handed = first.try_clone().unwrap();
    drop(first);
    let mut second = UdpEndpoint::adopt(handed).unwrap();
    assert_eq!(second.local_addr(), to);
    let mut inbox = Inbox::new(4, 2048);
    common::wait(&second);
    assert_eq!((second.recv(&mut inbox).unwrap(), inbox.bytes(0)), (1, &b"waits"[..]));

    let others: [(&str, OwnedFd); 3] = [
        ("TCP", TcpListener::bind("127.0.0.1:0").unwrap().into()),
        ("unix", UnixDatagram::unbound().unwrap().into()),
        ("a file", File::open("/dev/null").unwrap().into()),
    ];
    for (what, descriptor) in others {
        assert!(UdpEndpoint::adopt(descriptor).is_err(), "{what}");
    }
}

/// Why no uplink can be had here.
fn no_uplink() -> Option<String> {
    common::no_tap().or_else(|| {
        let (host, _peer) = common::joined(&["192.0.2.1/24"], &["192.0.2.2/24"]);
        let index = host.index("eth0");
        let local = SocketAddr::from(([192, 0, 2, 1], 4789));
        host.thread.call(move || Uplink::open(index, local, 1).err().map(|error| error.to_string()))
    })
}

#[test]
fn an_uplink_outlives_who_opened_it() {
    require!(no_uplink());
    let (host, peer) = common::joined(&["192.0.2.1/24"], &["192.0.2.2/24"]);
    let index = host.index("eth0");
    let local = SocketAddr::from(([192, 0, 2, 1], 4789));
    let first = host.thread.call(move || Uplink::open(index, local, 2)).unwrap();
    let name = first[0].name().to_owned();
    let handed = || {
        let parts = first.iter().map(|uplink| uplink.try_clone().unwrap());
        let (queues, mut programs): (Vec<_>, Vec<_>) = parts.unzip();
        (queues, programs.pop().unwrap())
    };
    let adopt = |index, (queues, programs)| host.thread.call(move || Uplink::adopt(index, queues, programs));

    let (queues, [divert, forward]) = handed();
    assert!(adopt(index, (queues, [forward, divert])).is_err(), "the one for the other");
    let (queues, [divert, _]) = handed();
    let null = File::open("/dev/null").unwrap().into();
    assert!(adopt(index, (queues, [divert, null])).is_err(), "a file for a program");
    assert!(adopt(1, handed()).is_err(), "on another interface");

    let second = adopt(index, handed()).unwrap();
    drop(first);
    assert_eq!((second.len(), second[0].name()), (2, &*name));
    let sender = peer.thread.call(|| UdpSocket::bind(("192.0.2.2", 0))).unwrap();
    sender.send_to(b"to the VTEP", local).unwrap();
    // Which of the queues it comes by is the kernel's choice.
    let mut room = vec![0; 2048];
    common::eventually(|| {
        second.iter().any(|uplink| uplink.read(&mut room).is_ok_and(|len| room[..len].ends_with(b"VTEP")))
    });
    drop(second);
    assert!(host.netlink.link(&name).unwrap().is_none(), "it stays although nobody has it");
}
