//! What the switch believes of UDP trains.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

mod common;

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;

use common::Host;
use vswitch_sys::udp::{BATCH, SEGMENTS_MAX};
use vswitch_sys::{Inbox, Train, UdpEndpoint, UdpError, UdpOptions};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const GRO: UdpOptions =
    UdpOptions { reuse_port: false, gro: true, send_only: false, receive_buffer: Some(4 << 20), send_buffer: None };
const LANE: UdpOptions =
    UdpOptions { reuse_port: false, gro: false, send_only: true, receive_buffer: None, send_buffer: Some(4 << 20) };

fn open(host: &Host, ip: IpAddr, options: UdpOptions) -> UdpEndpoint {
    host.thread.call(move || UdpEndpoint::open(SocketAddr::new(ip, 0), &options)).unwrap()
}

fn segment(bytes: u16) -> Option<NonZeroU16> {
    NonZeroU16::new(bytes)
}

/// Bytes of which no two stretches look alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at ^ (at >> 8) ^ (at >> 15)) & 0xff).unwrap()).collect()
}

/// Sends all of `trains`, which must succeed.
fn send(lane: &mut UdpEndpoint, trains: &[Train<'_>]) {
    let sent = lane.send(trains);
    assert!(sent.error.is_none() && sent.sent == trains.len(), "{sent:?}");
}

#[test]
fn a_train_arrives_whole_with_stride_tos_and_source_port() {
    require!(common::no_netns());
    let host = Host::new();
    for ip in [V4, V6] {
        let mut inbound = open(&host, ip, GRO);
        let mut lane = open(&host, ip, LANE);
        let bytes = pattern(45 * 1400 + 77);
        // In two pieces that share no boundary with a datagram.
        let slices = [IoSlice::new(&bytes[..1]), IoSlice::new(&bytes[1..])];
        for tos in [0, 1, 2, 3, 0xb8, 0xff] {
            send(&mut lane, &[Train { to: inbound.local_addr(), tos, segment: segment(1400), slices: &slices }]);
            common::wait(&inbound);
            let mut inbox = Inbox::new(4, 65536);
            assert_eq!(inbound.recv(&mut inbox).unwrap(), 1);
            let got = inbox.get(0).unwrap();
            assert_eq!(
                (got.from, got.tos, got.stride, got.len, got.truncated),
                (lane.local_addr(), tos, 1400, bytes.len(), false)
            );
            assert!(inbox.bytes(0) == bytes, "the bytes differ");
            inbox.bytes_mut(0)[0] ^= 1;
            assert_ne!(inbox.bytes(0)[0], bytes[0]);
            assert_eq!(inbound.recv(&mut inbox).unwrap(), 0);
            assert!(inbox.is_empty() && inbox.get(0).is_none() && inbox.bytes(0).is_empty());
            assert!(inbox.bytes_mut(0).is_empty());
        }
    }
}

#[test]
fn a_single_datagram_is_its_own_stride_and_may_be_empty() {
    require!(common::no_netns());
    let host = Host::new();
    for ip in [V4, V6] {
        let mut inbound = open(&host, ip, GRO);
        let mut lane = open(&host, ip, LANE);
        let bytes = pattern(9000);
        for (len, size, tos) in
            [(9000, None, 0), (9000, segment(9000), 2), (1, segment(1), 0), (1, None, 1), (0, None, 3)]
        {
            let slices = [IoSlice::new(&bytes[..len])];
            send(&mut lane, &[Train { to: inbound.local_addr(), tos, segment: size, slices: &slices }]);
            common::wait(&inbound);
            let mut inbox = Inbox::new(4, 65536);
            assert_eq!(inbound.recv(&mut inbox).unwrap(), 1);
            let got = inbox.get(0).unwrap();
            // A stride is never 0: whoever cuts by it would not end.
            assert_eq!((got.len, got.stride, got.tos), (len, len.max(1), tos));
        }
    }
}

#[test]
fn without_gro_a_train_arrives_in_datagrams() {
    require!(common::no_netns());
    let host = Host::new();
    let mut inbound = open(&host, V4, UdpOptions { gro: false, ..GRO });
    let mut lane = open(&host, V4, LANE);
    let bytes = pattern(10 * 1000 + 1);
    let slices = [IoSlice::new(&bytes)];
    send(&mut lane, &[Train { to: inbound.local_addr(), tos: 2, segment: segment(1000), slices: &slices }]);
    common::wait(&inbound);
    let mut inbox = Inbox::new(BATCH, 2048);
    let mut whole = Vec::new();
    while whole.len() < bytes.len() {
        common::wait(&inbound);
        for slot in 0..inbound.recv(&mut inbox).unwrap() {
            let got = inbox.get(slot).unwrap();
            assert_eq!((got.stride, got.tos), (got.len, 2));
            whole.extend_from_slice(inbox.bytes(slot));
        }
    }
    assert!(whole == bytes, "the bytes differ");
}

#[test]
fn more_trains_than_one_call_takes() {
    require!(common::no_netns());
    let host = Host::new();
    let mut inbound = open(&host, V4, GRO);
    let mut lane = open(&host, V4, LANE);
    let count = 2 * BATCH + 7;
    let bytes: Vec<[u8; 4]> = (0..u32::try_from(count).unwrap()).map(u32::to_be_bytes).collect();
    let slices: Vec<[IoSlice<'_>; 1]> = bytes.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
    let trains: Vec<Train<'_>> = slices
        .iter()
        .zip(0u8..)
        .map(|(slices, at)| Train { to: inbound.local_addr(), tos: at % 4, segment: None, slices })
        .collect();
    send(&mut lane, &trains);
    let mut inbox = Inbox::new(BATCH, 64);
    let mut seen = 0;
    while seen < count {
        common::wait(&inbound);
        for slot in 0..inbound.recv(&mut inbox).unwrap() {
            assert_eq!(inbox.bytes(slot), bytes[seen]);
            assert_eq!(usize::from(inbox.get(slot).unwrap().tos), seen % 4);
            seen += 1;
        }
    }
}

#[test]
fn one_hundred_and_twenty_eight_segments_and_no_more() {
    require!(common::no_netns());
    let host = Host::new();
    let mut inbound = open(&host, V4, GRO);
    let mut lane = open(&host, V4, LANE);
    let bytes = pattern((SEGMENTS_MAX + 1) * 100);
    let to = inbound.local_addr();
    let most = [IoSlice::new(&bytes[..SEGMENTS_MAX * 100])];
    let more = [IoSlice::new(&bytes)];
    let good = Train { to, tos: 0, segment: segment(100), slices: &most };
    let bad = Train { to, tos: 0, segment: segment(100), slices: &more };

    // The train behind the failed one is still to be sent, and the caller knows which it was.
    let sent = lane.send(&[good, bad, good]);
    assert_eq!(sent.sent, 1);
    assert_eq!(sent.error.unwrap().raw_os_error(), Some(libc::EINVAL));
    send(&mut lane, &[good]);
    let mut inbox = Inbox::new(2, 65536);
    for _ in 0..2 {
        common::wait(&inbound);
        for slot in 0..inbound.recv(&mut inbox).unwrap() {
            assert_eq!((inbox.get(slot).unwrap().stride, inbox.bytes(slot).len()), (100, SEGMENTS_MAX * 100));
        }
        if inbox.len() == 2 {
            break;
        }
    }
}

#[test]
fn nothing_larger_than_the_mtu_or_64_kib_leaves() {
    require!(common::no_netns());
    let host = Host::new();
    host.netlink.set_mtu(1, 1500).unwrap();
    for (ip, fits) in [(V4, 1472), (V6, 1452)] {
        let inbound = open(&host, ip, GRO);
        let mut lane = open(&host, ip, LANE);
        let bytes = pattern(66_000);
        for (len, size, good) in [
            (fits, None, true),
            (fits + 1, None, false),
            (3 * fits, segment(u16::try_from(fits).unwrap()), true),
            (3 * fits, segment(u16::try_from(fits + 1).unwrap()), false),
            (66_000, segment(1000), false),
        ] {
            let slices = [IoSlice::new(&bytes[..len])];
            let sent = lane.send(&[Train { to: inbound.local_addr(), tos: 0, segment: size, slices: &slices }]);
            let errno = sent.error.and_then(|error| error.raw_os_error());
            match (good, errno) {
                (true, None) => {}
                // A train whose segments do not fit is EMSGSIZE on some kernels, EINVAL on others.
                (false, Some(libc::EMSGSIZE)) => {}
                (false, Some(libc::EINVAL)) if size.is_some() => {}
                other => panic!("{ip}, {len} bytes in segments of {size:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_lane_receives_nothing_and_answers_nothing() {
    require!(common::no_netns());
    let host = Host::new();
    for ip in [V4, V6] {
        let mut lane = open(&host, ip, LANE);
        let to = lane.local_addr();
        host.thread.call(move || {
            let other = UdpSocket::bind((ip, 0)).unwrap();
            other.connect(to).unwrap();
            for _ in 0..3 {
                // A refused port would answer with ICMP, and this would fail from the second time on.
                other.send(b"unasked").unwrap();
            }
        });
        assert_eq!(lane.recv(&mut Inbox::new(1, 100)).unwrap(), 0);
        assert_eq!(lane.dropped().unwrap(), 3);
    }
}

#[test]
fn a_slot_too_small_says_so() {
    require!(common::no_netns());
    let host = Host::new();
    let mut inbound = open(&host, V4, GRO);
    let mut lane = open(&host, V4, LANE);
    let bytes = pattern(300);
    let slices = [IoSlice::new(&bytes)];
    send(&mut lane, &[Train { to: inbound.local_addr(), tos: 0, segment: None, slices: &slices }]);
    common::wait(&inbound);
    let mut inbox = Inbox::new(1, 200);
    assert_eq!(inbound.recv(&mut inbox).unwrap(), 1);
    let got = inbox.get(0).unwrap();
    assert_eq!((got.len, got.truncated), (200, true));
}

#[test]
fn addresses_that_cannot_be_had() {
    require!(common::no_netns());
    let host = Host::new();
    host.thread.call(|| {
        let elsewhere: SocketAddr = "192.0.2.1:4789".parse().unwrap();
        let error = UdpEndpoint::open(elsewhere, &UdpOptions::default()).unwrap_err();
        assert!(matches!(error, UdpError::NotLocal(_)) && error.to_string().contains("192.0.2.1"), "{error}");

        let here = SocketAddr::new(V4, 4789);
        let shared = UdpOptions { reuse_port: true, ..UdpOptions::default() };
        let first = UdpEndpoint::open(here, &shared).unwrap();
        let second = UdpEndpoint::open(here, &shared).unwrap();
        let error = UdpEndpoint::open(here, &UdpOptions::default()).unwrap_err();
        assert!(matches!(error, UdpError::InUse(_)) && error.to_string().contains("4789"), "{error}");
        drop((first, second));
        // An IPv6 socket leaves IPv4 to others.
        let wide = UdpEndpoint::open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 4789), &UdpOptions::default());
        let narrow = UdpEndpoint::open(here, &UdpOptions::default());
        assert!(wide.is_ok() && narrow.is_ok());
    });
}

#[test]
fn no_route_is_that_trains_error() {
    require!(common::no_netns());
    let host = Host::new();
    let mut lane = open(&host, Ipv4Addr::UNSPECIFIED.into(), LANE);
    let slices = [IoSlice::new(b"lost")];
    let sent = lane.send(&[Train { to: "192.0.2.1:4789".parse().unwrap(), tos: 0, segment: None, slices: &slices }]);
    assert_eq!((sent.sent, sent.error.unwrap().raw_os_error()), (0, Some(libc::ENETUNREACH)));
    assert!(vswitch_sys::udp::probe_gso());
}
