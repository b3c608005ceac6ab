//! What the kernel has for ports and tunnels, by trying.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use vswitch_sys::{Netlink, Netns, NetnsError, Offloads, Tap, TapError, UdpEndpoint, UdpOptions, Uplink, UplinkError};

use super::Check;

const TUN: &str = "/dev/net/tun";

pub(super) fn checks() -> Vec<Check> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim();
    let mut checks = vec![tun(Path::new(TUN))];
    // Tried where nobody sees it: an interface on the host would wake network managers.
    match Netns::create() {
        Ok(netns) => {
            let tried = netns.run(|| (Tap::open("try", 1, None).map(|tap| tap.offloads()), uplink()));
            match tried {
                Ok((tap, uplink)) => {
                    checks.push(offloads(tap, kernel));
                    checks.push(super_frames(uplink, kernel));
                }
                Err(error) => checks.push(untried(&error)),
            }
        }
        Err(error) => checks.push(untried(&error)),
    }
    checks.push(batches(vswitch_sys::udp::probe_gso(), receives_batches(), kernel));
    checks
}

fn untried(error: &NetnsError) -> Check {
    Check::note("offloads", format!("what the kernel grants cannot be tried: {error}")).mended("run it as root")
}

/// The device that makes ports.
pub(super) fn tun(path: &Path) -> Check {
    const NAME: &str = "tun";
    let at = path.display();
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Check::ok(NAME, format!("{at} can be opened")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Check::wrong(NAME, format!("there is no {at}")).mended(
            "modprobe tun (and echo tun > /etc/modules-load.d/vswitch.conf); a container gets it by --device /dev/net/tun",
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Check::wrong(NAME, format!("{at} is closed to this user: {error}"))
                .mended(format!("chmod 0666 {at}, as most systems have it, or DeviceAllow={at} rw in the unit"))
        }
        Err(error) => Check::wrong(NAME, format!("{at} does not work: {error}")).mended("modprobe tun"),
    }
}

pub(super) fn offloads(tap: Result<Offloads, TapError>, kernel: &str) -> Check {
    const NAME: &str = "offloads";
    match tap {
        Ok(Offloads { checksum: true, tso4: true, tso6: true, uso: true, .. }) => {
            Check::ok(NAME, format!("TAP devices carry TCP and UDP super-frames (Linux {kernel})"))
        }
        Ok(Offloads { checksum: true, tso4: true, tso6: true, .. }) => {
            Check::warning(NAME, format!("TAP devices of Linux {kernel} carry no UDP super-frames: QUIC is slower"))
                .mended("Linux 6.2 or later")
        }
        Ok(_) => {
            Check::warning(NAME, format!("TAP devices of Linux {kernel} carry no super-frames: TCP is much slower"))
                .mended("a kernel whose TUNSETOFFLOAD grants TUN_F_CSUM, TSO4 and TSO6")
        }
        Err(error) => Check::wrong(NAME, format!("no TAP device can be made: {error}"))
            .mended("modprobe tun; where this is a container, give it /dev/net/tun and CAP_NET_ADMIN"),
    }
}

/// Opens an uplink on an interface of a namespace of our own.
fn uplink() -> Result<(), UplinkError> {
    let netlink = Netlink::open()?;
    netlink.add_veth("below", "wire", None)?;
    let index = netlink.link("below")?.map_or(0, |link| link.index);
    Uplink::open(index, SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 4789)), 1).map(drop)
}

pub(super) fn super_frames(uplink: Result<(), UplinkError>, kernel: &str) -> Check {
    const NAME: &str = "uplink";
    match uplink {
        Ok(()) => Check::ok(NAME, format!("super-frames can leave for peers uncut (Linux {kernel})")),
        Err(UplinkError::TooOld(_)) => {
            Check::note(NAME, format!("Linux {kernel} has no tunnel GSO for TAP devices: VXLAN goes by sockets"))
                .mended("Linux 6.17 or later, if it is to go uncut")
        }
        Err(error) => Check::note(NAME, format!("no uplink: {error}; VXLAN goes by sockets"))
            .mended("give vswitchd CAP_NET_ADMIN and CAP_BPF, if it is to go uncut"),
    }
}

fn receives_batches() -> bool {
    let options = UdpOptions { gro: true, ..UdpOptions::default() };
    UdpEndpoint::open((Ipv4Addr::LOCALHOST, 0).into(), &options).is_ok()
}

pub(super) fn batches(sends: bool, receives: bool, kernel: &str) -> Check {
    const NAME: &str = "udp";
    let lacking = match (sends, receives) {
        (true, true) => {
            return Check::ok(
                NAME,
                "UDP datagrams of one flow leave and come many in one call: GSO and GRO (UDP_SEGMENT, UDP_GRO)",
            );
        }
        (false, true) => "UDP_SEGMENT",
        (true, false) => "UDP_GRO",
        (false, false) => "UDP_SEGMENT and UDP_GRO",
    };
    Check::warning(NAME, format!("Linux {kernel} has no {lacking}: VXLAN by sockets is slow, one datagram a call"))
        .mended("Linux 5.0 or later")
}
