//! Frames of one's own making, and captures of them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

mod common;

use std::time::Duration;

use common::Host;
use vswitch_sys::{PacketError, PacketSocket, VNET_HDR_LEN, VnetHdr, vnet};

/// Two hosts joined by veth devices called `eth0`, and a socket on each.
fn joined() -> (Host, PacketSocket, Host, PacketSocket) {
    let (a, b) = common::joined(&[], &[]);
    let open = |host: &Host| host.thread.call(|| PacketSocket::open("eth0").unwrap());
    let (near, far) = (open(&a), open(&b));
    (a, near, b, far)
}

/// A broadcast with these bytes behind the addresses, filled up to `len`.
fn frame(behind: &[u8], len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(behind);
    frame.extend((frame.len()..len).map(|at| u8::try_from(at & 0xff).unwrap()));
    frame
}

#[test]
fn a_tagged_frame_comes_back_with_its_tag() {
    require!(common::no_netns());
    let (_a, near, _b, far) = joined();
    let mut buf = [0; 2000];
    for frame in [
        frame(&[0x88, 0xb5], 60),
        frame(&[0x81, 0x00, 0x60, 0x0a, 0x88, 0xb5], 64),
        frame(&[0x81, 0x00, 0x0f, 0xff, 0x88, 0xb5], 1518),
        frame(&[0x88, 0xa8, 0x00, 0x14, 0x88, 0xb5], 64),
        frame(&[0x81, 0x00, 0x00, 0x0a, 0x81, 0x00, 0x00, 0x14, 0x88, 0xb5], 68),
    ] {
        near.send(&frame).unwrap();
        let len = far.recv(&mut buf, common::PATIENCE).unwrap().unwrap();
        assert_eq!(buf[..len], frame);
    }
    assert_eq!(near.recv(&mut buf, Duration::ZERO).unwrap(), None, "a socket does not see its own frames");
}

#[test]
fn what_goes_out_can_be_seen_or_left_out() {
    require!(common::no_netns());
    let (a, near, _b, far) = joined();
    let (seeing, blind) = a.thread.call(|| (PacketSocket::open("eth0").unwrap(), PacketSocket::open("eth0").unwrap()));
    blind.ignore_outgoing().unwrap();
    let (out, back) = (frame(&[0x88, 0xb5], 60), frame(&[0x88, 0xb6], 60));
    near.send(&out).unwrap();
    far.send(&back).unwrap();
    let mut buf = [0; 100];
    assert_eq!(seeing.recv(&mut buf, common::PATIENCE).unwrap(), Some(60));
    assert_eq!(buf[..60], out);
    assert_eq!(blind.recv(&mut buf, common::PATIENCE).unwrap(), Some(60));
    assert_eq!(buf[..60], back);
}

#[test]
fn other_peoples_frames_need_promiscuity() {
    require!(common::no_netns());
    let (_a, near, b, far) = joined();
    let mut stranger = frame(&[0x88, 0xb5], 60);
    stranger[0] = 2;
    // A packet socket sees it even so on veth, which has no address filter; the flag is what bridges and NICs look at.
    far.promiscuous().unwrap();
    near.send(&stranger).unwrap();
    assert_eq!(far.recv(&mut [0; 100], common::PATIENCE).unwrap(), Some(60));
    assert!(b.netlink.link("eth0").unwrap().unwrap().up);
}

#[test]
fn super_frames_behind_a_virtio_header() {
    require!(common::no_netns());
    let (_a, near, _b, far) = joined();
    near.virtio_headers().unwrap();
    far.virtio_headers().unwrap();
    // 20 datagrams of 100 bytes in one UDP super-frame: Ethernet, IPv4, UDP.
    let payload = 20 * 100;
    let mut super_frame = frame(&[0x08, 0x00], 14);
    let total = u16::try_from(20 + 8 + payload).unwrap().to_be_bytes();
    super_frame.extend([0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
    let length = u16::try_from(8 + payload).unwrap().to_be_bytes();
    super_frame.extend([0, 1, 0, 2, length[0], length[1], 0, 0]);
    super_frame.extend(std::iter::repeat_n(7, payload));
    let header = VnetHdr {
        flags: vnet::F_NEEDS_CSUM,
        gso_type: vnet::GSO_UDP_L4,
        hdr_len: 42,
        gso_size: 100,
        csum_start: 34,
        csum_offset: 6,
    };
    let whole = [&header.to_bytes()[..], &super_frame].concat();
    near.send(&whole).unwrap();
    let mut buf = [0; 4000];
    let len = far.recv(&mut buf, common::PATIENCE).unwrap().unwrap();
    let seen = VnetHdr::decode(&buf).unwrap();
    assert_eq!((len, seen.gso_type, seen.gso_size), (whole.len(), vnet::GSO_UDP_L4, 100));
    assert_eq!(buf[VNET_HDR_LEN..len], super_frame);
}

#[test]
fn an_interface_that_is_not_there() {
    require!(common::no_netns());
    let host = Host::new();
    for name in ["nowhere0", "", "a\0b", "a-name-longer-than-fifteen-bytes"] {
        let error = host.thread.call(move || PacketSocket::open(name)).unwrap_err();
        assert!(matches!(&error, PacketError::NoInterface(asked) if asked == name), "{error}");
    }
}

#[test]
fn a_frame_above_the_mtu_is_refused() {
    require!(common::no_netns());
    let (_a, near, _b, _far) = joined();
    let error = near.send(&frame(&[0x88, 0xb5], 1600)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
}
