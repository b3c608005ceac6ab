//! What the switch believes of TAP devices.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]
#![allow(unsafe_code, reason = "asks the kernel what the crate itself never asks")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;

use common::Host;
use vswitch_sys::tap::PIECES_MAX;
use vswitch_sys::{Netlink, Netns, Offloads, Tap, TapError, TapQueue, VNET_HDR_LEN, VnetHdr, fdpass, vnet};

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ALL: Offloads = Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true };

fn open_device() -> File {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun").unwrap()
}

/// TUNSETIFF as anybody may call it.
fn attach(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: an ifreq is integers and bytes; all zero is one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (room, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *room = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap();
    // SAFETY: the file is /dev/net/tun and `request` the ifreq that TUNSETIFF reads and writes.
    let returned = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A TAP called `eth0` in a host with address 10.1.0.1, which knows 10.1.0.2 without asking.
fn ready(queues: u16) -> (Host, Tap) {
    let host = Host::new();
    let tap = Tap::open("eth0", queues, Some(&host.netns)).unwrap();
    let index = host.set_up("eth0", &["10.1.0.1/24"]);
    host.netlink.add_neighbour(index, "10.1.0.2".parse().unwrap(), PEER).unwrap();
    (host, tap)
}

/// Lets the host send `payload` to 10.1.0.2.
fn say(host: &Host, payload: &'static [u8]) {
    host.thread.call(|| UdpSocket::bind("10.1.0.1:1").unwrap().send_to(payload, "10.1.0.2:2")).unwrap();
}

/// The next frame for us, header apart.
fn hear(queue: &TapQueue) -> (VnetHdr, Vec<u8>) {
    let mut buf = vec![0; 70_000];
    loop {
        common::wait(queue);
        let len = queue.read(&mut buf).unwrap();
        let frame = &buf[VNET_HDR_LEN..len];
        if frame.starts_with(&PEER) {
            return (VnetHdr::decode(&buf).unwrap(), frame.to_vec());
        }
    }
}

fn errno<T>(outcome: io::Result<T>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

#[test]
fn the_namespace_is_that_of_whoever_opens_the_device() {
    require!(common::no_tap());
    let (a, b) = (Host::new(), Host::new());
    let file = b.thread.call(open_device);
    let file = a.thread.call(move || {
        attach(&file, "tap0", libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR).unwrap();
        file
    });
    assert!(a.netlink.link("tap0").unwrap().is_none());
    assert!(b.netlink.link("tap0").unwrap().is_some());
    drop(file);
    assert!(b.netlink.link("tap0").unwrap().is_none(), "a device ends with its last queue");
}

#[test]
fn opened_in_a_namespace_it_is_there() {
    require!(common::no_tap());
    let host = Host::new();
    let tap = Tap::open("eth0", 1, Some(&host.netns)).unwrap();
    assert_eq!(tap.name(), "eth0");
    assert!(host.netlink.link("eth0").unwrap().is_some());
    assert_eq!(tap.queues()[0].netns().unwrap().identity().unwrap(), host.netns.identity().unwrap());
    host.netlink.set_name(host.index("eth0"), "other").unwrap();
    assert_eq!(tap.queues()[0].interface().unwrap(), "other");

    // It keeps working where it is moved.
    let elsewhere = Host::new();
    host.netlink.set_netns(host.index("other"), &elsewhere.netns).unwrap();
    assert_eq!(tap.queues()[0].netns().unwrap().identity().unwrap(), elsewhere.netns.identity().unwrap());
}

#[test]
fn a_taken_name_is_refused() {
    require!(common::no_tap());
    let host = Host::new();
    for queues in [1, 4] {
        let _tap = Tap::open("eth0", queues, Some(&host.netns)).unwrap();
        for (name, queues) in [("eth0", 1), ("eth0", 4), ("lo", 1)] {
            let error = Tap::open(name, queues, Some(&host.netns)).unwrap_err();
            assert!(matches!(&error, TapError::NameTaken(taken) if taken == name), "{error}");
        }
    }
    for queues in [0, 257] {
        let error = Tap::open("eth1", queues, Some(&host.netns)).unwrap_err();
        assert!(matches!(error, TapError::BadQueues(_)) && error.to_string().contains("1 to 256"), "{error}");
    }
}

#[test]
fn offloads_are_granted_in_steps() {
    require!(common::no_tap());
    let (_host, tap) = ready(1);
    let queue = &tap.queues()[0];
    let ask = |bits: libc::c_uint| {
        // SAFETY: TUNSETOFFLOAD takes the bits as its argument and touches no memory; the file is /dev/net/tun.
        let returned = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(bits)) };
        returned == 0
    };
    assert!(ask(0) && ask(0x01) && ask(0x0f));
    // All of a request or nothing: that is why there are steps.
    assert!(!ask(0x8000_0001));
    assert!(!ask(libc::TUN_F_USO4), "UDP super-frames for one IP only, without checksums");
    // Linux 6.2 brought UDP super-frames; before, the second step is what is granted.
    let expected = Offloads { uso: ask(0x6f), ..ALL };
    assert_eq!(tap.offloads(), expected);
}

#[test]
fn datagrams_leave_a_container_as_one_super_frame() {
    require!(common::no_tap());
    let (host, tap) = ready(1);
    require!((!tap.offloads().uso).then(|| "this kernel has no UDP super-frames on TAP".to_owned()));
    host.thread.call(|| {
        let socket = UdpSocket::bind("10.1.0.1:1").unwrap();
        let size: libc::c_int = 1400;
        // SAFETY: the kernel reads an int, which lives through the call.
        let returned = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), 4)
        };
        assert_eq!(returned, 0);
        socket.send_to(&[7; 40 * 1400], "10.1.0.2:2").unwrap();
    });
    let (header, frame) = hear(&tap.queues()[0]);
    assert_eq!((header.gso_type, header.gso_size, frame.len()), (vnet::GSO_UDP_L4, 1400, 42 + 40 * 1400));
    assert_eq!((header.flags, header.csum_start, header.csum_offset), (vnet::F_NEEDS_CSUM, 34, 6));
}

#[test]
fn frames_pass_both_ways_whole_and_in_pieces() {
    require!(common::no_tap());
    let (host, tap) = ready(1);
    let queue = &tap.queues()[0];
    assert_eq!(queue.read(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    say(&host, b"ping");
    let (header, mut frame) = hear(queue);
    assert!(frame.ends_with(b"ping"));
    assert_eq!((header.flags, header.csum_start, header.csum_offset), (vnet::F_NEEDS_CSUM, 34, 6));

    // Back to where it came from: addresses and ports exchanged, which leaves the sum as it is.
    let back = |frame: &mut [u8]| {
        for (a, b, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
            let (left, right) = frame.split_at_mut(b);
            left[a..a + len].swap_with_slice(&mut right[..len]);
        }
    };
    back(&mut frame);
    let socket = host.thread.call(|| UdpSocket::bind("10.1.0.1:1").unwrap());
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let whole = [&header.to_bytes()[..], &frame].concat();
    let mut buf = [0; 100];
    assert_eq!(queue.write(&whole).unwrap(), whole.len());
    assert_eq!(socket.recv(&mut buf).unwrap(), 4);
    assert_eq!(buf[..4], *b"ping");

    let pieces: Vec<IoSlice<'_>> = whole.chunks(1).map(IoSlice::new).collect();
    assert_eq!(queue.write_vectored(&pieces).unwrap(), whole.len());
    assert_eq!(socket.recv(&mut buf).unwrap(), 4);

    let many = vec![IoSlice::new(&whole[..1]); PIECES_MAX + 1];
    assert_eq!(errno(queue.write_vectored(&many)), Some(libc::EINVAL), "never part of a frame");
    assert_eq!(errno(queue.write(&whole[..VNET_HDR_LEN - 1])), Some(libc::EINVAL));
    let beyond = VnetHdr { csum_start: 60_000, ..header };
    assert_eq!(errno(queue.write(&[&beyond.to_bytes()[..], &frame].concat())), Some(libc::EINVAL));
}

#[test]
fn any_queue_carries_any_frame_in() {
    require!(common::no_tap());
    let (host, tap) = ready(4);
    assert_eq!(tap.queues().len(), 4);
    assert_eq!(host.netlink.links().unwrap().iter().filter(|link| link.name == "eth0").count(), 1);
    let mut queues = tap.into_queues();
    // The kernel chooses the queue by flow.
    say(&host, b"out");
    let mut buf = [0; 200];
    let heard =
        queues.iter().filter(|queue| queue.read(&mut buf).is_ok_and(|len| buf[..len].ends_with(b"out"))).count();
    assert_eq!(heard, 1);

    while let Some(queue) = queues.pop() {
        let socket = host.thread.call(|| {
            let raw = vswitch_sys::PacketSocket::open("eth0").unwrap();
            raw.ignore_outgoing().unwrap();
            raw
        });
        let mut frame = [0; VNET_HDR_LEN + 60];
        frame[VNET_HDR_LEN..][..14]
            .copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
        queue.write(&frame).unwrap();
        assert_eq!(socket.recv(&mut buf, common::PATIENCE).unwrap(), Some(60));
        drop(queue);
        assert_eq!(host.netlink.link("eth0").unwrap().is_some(), !queues.is_empty());
    }
}

#[test]
fn a_descriptor_from_elsewhere_is_adopted() {
    require!(common::no_tap());
    let (host, tap) = ready(1);
    let (near, far) = UnixStream::pair().unwrap();
    fdpass::send(&near, b"tap", &[tap.queues()[0].as_fd()]).unwrap();
    drop(tap);
    assert!(host.netlink.link("eth0").unwrap().is_some(), "a descriptor on its way keeps the device");
    let (_, mut fds) = fdpass::recv(&far, &mut [0; 8]).unwrap();
    let tap = Tap::adopt(fds.pop().unwrap()).unwrap();
    assert_eq!((tap.name(), tap.offloads().checksum), ("eth0", true));
    say(&host, b"still here");
    assert!(hear(&tap.queues()[0]).1.ends_with(b"still here"));

    // One that blocks, and without offloads, as others open it.
    let file = host.thread.call(|| {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
        attach(&file, "eth1", libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR).unwrap();
        file
    });
    let tap = Tap::adopt(file.into()).unwrap();
    assert!(tap.offloads().tso4);
    assert_eq!(tap.queues()[0].read(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn descriptors_that_are_no_port() {
    require!(common::no_tap());
    let host = Host::new();
    let attached = |name: &'static str, flags| {
        host.thread.call(move || {
            let file = open_device();
            attach(&file, name, flags).unwrap();
            file
        })
    };
    let cases: [(OwnedFd, &str); 5] = [
        (File::open("/dev/null").unwrap().into(), "not /dev/net/tun"),
        (File::open("/proc/self/status").unwrap().into(), "not /dev/net/tun"),
        (open_device().into(), "not attached"),
        (attached("tun0", libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR).into(), "tun0 lacks IFF_TAP"),
        (attached("tap0", libc::IFF_TAP | libc::IFF_NO_PI).into(), "tap0 lacks IFF_VNET_HDR"),
    ];
    for (fd, text) in cases {
        let error = Tap::adopt(fd).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn an_interface_that_is_down_refuses_frames() {
    require!(common::no_tap());
    let (host, tap) = ready(1);
    host.netlink.set_up(host.index("eth0"), false).unwrap();
    let queue = &tap.queues()[0];
    assert_eq!(errno(queue.write(&[0; VNET_HDR_LEN + 60])), Some(libc::EIO));
    assert_eq!(queue.read(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    host.netlink.set_up(host.index("eth0"), true).unwrap();
    assert_eq!(queue.write(&[0; VNET_HDR_LEN + 60]).unwrap(), VNET_HDR_LEN + 60);
}

#[test]
fn a_deleted_namespace_is_an_error_and_not_a_silence() {
    require!(common::no_tap());
    let netns = Netns::create().unwrap();
    let tap = Tap::open("eth0", 2, Some(&netns)).unwrap();
    let netlink = Netlink::open_in(&netns).unwrap();
    netlink.set_up(netlink.link("eth0").unwrap().unwrap().index, true).unwrap();
    // The port itself must not keep the namespace alive: containers just disappear.
    drop((netlink, netns));
    for queue in tap.queues() {
        assert_eq!(outlive(queue).raw_os_error(), Some(libc::EBADFD));
        assert_eq!(errno(queue.write(&[0; VNET_HDR_LEN + 60])), Some(libc::EBADFD));
        assert!(queue.interface().is_err() && queue.netns().is_err());
    }
}

#[test]
fn a_device_opened_inside_keeps_its_namespace() {
    require!(common::no_tap());
    let netns = Netns::create().unwrap();
    let inside = netns.run(open_device).unwrap();
    attach(&inside, "eth0", libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR).unwrap();
    drop(netns);
    // Namespaces are taken down in the order in which they end: when a later one is gone, this one would be.
    let later = Netns::create().unwrap();
    let moved = Tap::open("eth0", 1, Some(&later)).unwrap();
    drop(later);
    outlive(&moved.queues()[0]);
    let tap = Tap::adopt(inside.into()).unwrap();
    assert!(Netlink::open_in(&tap.queues()[0].netns().unwrap()).unwrap().link("eth0").unwrap().is_some());
}

/// Reads until the interface is gone; the error says how that looks.
fn outlive(queue: &TapQueue) -> io::Error {
    loop {
        // The kernel takes namespaces down in its own time; what the interface still said is read up before.
        common::wait(queue);
        match queue.read(&mut [0; 2000]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return error,
            Ok(_) => {}
        }
    }
}

#[test]
fn the_flag_for_packet_information_cannot_be_asked() {
    require!(common::no_tap());
    let host = Host::new();
    let flags = host.thread.call(|| {
        let file = open_device();
        attach(&file, "tap0", libc::IFF_TAP | libc::IFF_VNET_HDR).unwrap();
        // SAFETY: an ifreq is integers and bytes; all zero is one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: the file is /dev/net/tun and `request` the ifreq that TUNGETIFF writes; the flags are an integer.
        unsafe {
            assert_eq!(libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF, &raw mut request), 0);
            request.ifr_ifru.ifru_flags
        }
    });
    assert_ne!(libc::c_int::from(flags) & libc::IFF_NO_PI, 0, "it was not asked for");
}

#[test]
fn a_short_buffer_gets_the_beginning() {
    require!(common::no_tap());
    let (host, tap) = ready(1);
    say(&host, b"a payload that does not fit");
    let queue = &tap.queues()[0];
    common::wait(queue);
    assert_eq!(queue.read(&mut [0; 30]).unwrap(), 30);
    assert_eq!(queue.read(&mut [0; 30]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// What a container notices of its interface: number, addresses, routes.
fn inside(host: &Host) -> (u32, Vec<String>, Option<u32>) {
    let addresses = host.netlink.addresses().unwrap().into_iter().map(|(_, net)| net.to_string());
    let addresses = addresses.filter(|net| net.starts_with("10.")).collect();
    let route = host.netlink.route_to("198.51.100.1".parse().unwrap()).ok().map(|route| route.index);
    (host.index("eth0"), addresses, route)
}

#[test]
fn a_persistent_device_outlives_its_queues_and_is_attached_again() {
    require!(common::no_tap());
    // (queues it was made for, queues attached later)
    for (made, later) in [(1, 1), (2, 2), (3, 1)] {
        let (host, tap) = ready(made);
        tap.set_persistent(true).unwrap();
        assert!(!tap.queues()[0].pins_netns().unwrap());
        host.netlink.add_route(None, Some("10.1.0.2".parse().unwrap()), host.index("eth0")).unwrap();
        let before = inside(&host);
        if made == 1 {
            let taken = Tap::attach("eth0", later, &host.netns);
            assert!(matches!(taken, Err(TapError::NameTaken(_))), "somebody serves it: {taken:?}");
        }
        drop(tap);
        assert_eq!(inside(&host), before, "{made} and {later} queues");
        assert!(!host.netlink.link("eth0").unwrap().unwrap().running, "no carrier while nobody serves it");

        let tap = Tap::attach("eth0", later, &host.netns).unwrap();
        assert_eq!((tap.queues().len(), tap.offloads()), (usize::from(later), ALL));
        assert_eq!(inside(&host), before, "{made} and {later} queues");
        assert!(tap.queues()[0].pins_netns().unwrap());
        say(&host, b"again");
        let heard = tap.queues().iter().find_map(|queue| {
            let mut buf = vec![0; 70_000];
            std::iter::from_fn(|| queue.read(&mut buf).ok().map(|len| buf[VNET_HDR_LEN..len].to_vec()))
                .find(|frame| frame.starts_with(&PEER))
        });
        assert!(heard.is_some_and(|frame| frame.ends_with(b"again")), "{made} and {later} queues");

        tap.queues()[0].set_persistent(false).unwrap();
        drop(tap);
        assert!(host.netlink.link("eth0").unwrap().is_none(), "it goes with its queues again");
    }
}

#[test]
fn a_device_that_cannot_be_attached_is_named() {
    require!(common::no_tap());
    let (host, tap) = ready(1);
    tap.set_persistent(true).unwrap();
    drop(tap);
    let message = Tap::attach("eth0", 2, &host.netns).unwrap_err().to_string();
    assert!(message.contains("eth0") && message.contains("cannot get 2"), "{message}");
    let message = Tap::attach("eth1", 1, &host.netns).unwrap_err().to_string();
    assert!(message.contains("no TAP device eth1"), "{message}");
    assert!(host.netlink.link("eth1").unwrap().is_none());
    assert!(Tap::attach("lo", 1, &host.netns).is_err());
}

#[test]
fn a_link_tells_what_was_noted_on_it() {
    require!(common::no_tap());
    let (host, _tap) = ready(1);
    let alias = || host.netlink.link("eth0").unwrap().unwrap().alias;
    assert_eq!(alias(), None);
    host.netlink.set_alias(host.index("eth0"), "port red").unwrap();
    assert_eq!(alias().as_deref(), Some("port red"));
    assert!(host.netlink.set_alias(host.index("eth0"), &"x".repeat(256)).is_err());
}
