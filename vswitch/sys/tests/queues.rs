//! What workers believe of the queues of a TAP device: which one a flow comes by (`tun_automq_select_queue` and
//! `tun_flow_update` in drivers/net/tun.c).
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

mod common;

use std::net::UdpSocket;

use common::Host;
use vswitch_sys::{Tap, TapQueue, VNET_HDR_LEN};

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const QUEUES: u16 = 4;

/// A host with address 10.1.0.1 on a TAP, which knows 10.1.0.2 without asking.
fn ready() -> (Host, Vec<TapQueue>) {
    let host = Host::new();
    let tap = Tap::open("eth0", QUEUES, Some(&host.netns)).unwrap();
    let index = host.set_up("eth0", &["10.1.0.1/24"]);
    host.netlink.add_neighbour(index, "10.1.0.2".parse().unwrap(), PEER).unwrap();
    (host, tap.into_queues())
}

/// The next datagram of a flow by this queue, header and all.
fn next(queue: &TapQueue) -> Option<Vec<u8>> {
    let mut buf = vec![0; 2048];
    loop {
        let len = queue.read(&mut buf).ok()?;
        let frame = &buf[VNET_HDR_LEN..len];
        if frame.starts_with(&PEER) && frame.ends_with(b"flow") {
            return Some(buf[..len].to_vec());
        }
    }
}

/// The same datagram on its way back, which leaves its sum as it is.
fn answer(datagram: &[u8]) -> Vec<u8> {
    let mut back = datagram.to_vec();
    for (a, b, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        let (left, right) = back[VNET_HDR_LEN..].split_at_mut(b);
        left[a..a + len].swap_with_slice(&mut right[..len]);
    }
    back
}

#[test]
fn a_flow_comes_by_the_queue_it_was_last_answered_on() {
    require!(common::no_tap());
    let (host, queues) = ready();
    let mut used = [0; QUEUES as usize];
    for port in 1..=40 {
        let socket = host.thread.call(move || UdpSocket::bind(("10.1.0.1", port)).unwrap());
        socket.connect("10.1.0.2:2").unwrap();
        let say = || assert_eq!(socket.send(b"flow").unwrap(), 4);
        // A TAP hands over what is sent before the call returns: it is there.
        say();
        let found: Vec<_> = queues.iter().map(next).collect();
        let first = found.iter().position(Option::is_some).unwrap();
        used[first] += 1;
        assert_eq!(found.iter().flatten().count(), 1, "port {port}: one frame comes by one queue");
        say();
        let datagram = next(&queues[first]).unwrap_or_else(|| panic!("port {port}: an unanswered flow stays"));
        for step in 1..=queues.len() {
            let other = &queues[(first + step) % queues.len()];
            other.write(&answer(&datagram)).unwrap();
            for _ in 0..3 {
                say();
                assert!(next(other).is_some(), "port {port}: the flow follows its answer, step {step}");
            }
        }
    }
    assert!(used.iter().all(|&flows| flows > 0), "flows are spread: {used:?}");
}

#[test]
fn a_namespace_that_goes_wakes_every_queue() {
    require!(common::no_tap());
    let (host, queues) = ready();
    drop(host);
    for queue in &queues {
        common::wait(queue);
        let gone = loop {
            match queue.read(&mut [0; 2048]) {
                Ok(_) => {} // what the namespace said at its end
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => common::wait(queue),
                Err(error) => break error,
            }
        };
        assert_eq!(gone.raw_os_error(), Some(libc::EBADFD));
    }
}
