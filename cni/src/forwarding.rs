//! Forwarding: what makes a host a router.
//!
//! Only a network with `isGateway` switches it on, for the whole host and for good: who else relies on it is not known, so
//! nothing switches it off again.

use std::fs;
use std::io;
use std::path::PathBuf;

use ipnet::IpNet;
use vswitch_sys::{Netlink, NetlinkError};

/// Where the settings are of the namespace that this process runs in.
const SETTINGS: &str = "/proc/sys/net";

/// Why the host does not forward.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardingError {
    /// The routes cannot be read.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting cannot be read or written.
    #[error(
        "cannot {} {key}: {source}; isGateway needs it: set it by sysctl(8), or let this plugin write to /proc/sys",
        .value.map_or("read".to_owned(), |value| format!("write {value} to"))
    )]
    Setting { key: String, value: Option<&'static str>, source: io::Error },
    /// CHECK found it off.
    #[error("the host does not forward {version}: {key} is {found}; the next ADD of this network switches it on")]
    Off { version: &'static str, key: String, found: String },
}

/// Of one IP version.
#[derive(Clone, Copy)]
struct Version {
    name: &'static str,
    key: &'static str,
}

const V4: Version = Version { name: "IPv4", key: "ipv4/ip_forward" };
const V6: Version = Version { name: "IPv6", key: "ipv6/conf/all/forwarding" };

/// The versions that `gateways` are of.
fn versions(gateways: &[IpNet]) -> impl Iterator<Item = Version> {
    let of = |v4| gateways.iter().any(move |gateway| gateway.addr().is_ipv4() == v4);
    [of(true).then_some(V4), of(false).then_some(V6)].into_iter().flatten()
}

fn path(key: &str) -> PathBuf {
    PathBuf::from(SETTINGS).join(key)
}

fn read(key: &str) -> Result<String, ForwardingError> {
    let failed = |source| ForwardingError::Setting { key: key.to_owned(), value: None, source };
    Ok(fs::read_to_string(path(key)).map_err(failed)?.trim().to_owned())
}

fn write(key: &str, value: &'static str) -> Result<(), ForwardingError> {
    let failed = |source| ForwardingError::Setting { key: key.to_owned(), value: Some(value), source };
    fs::write(path(key), value).map_err(failed)
}

/// Has the host forward packets of the versions that `gateways` are of. What is on is not written, so that a host whose
/// `/proc/sys` is read-only can be set up beforehand.
///
/// # Errors
/// The setting that cannot be made.
pub(crate) fn switch_on(gateways: &[IpNet]) -> Result<(), ForwardingError> {
    for version in versions(gateways) {
        if read(version.key)? != "0" {
            continue;
        }
        if version.name == V6.name {
            keep_advertised_routes()?;
        }
        write(version.key, "1")?;
    }
    Ok(())
}

/// Has interfaces whose router is known by its advertisements go on listening to them. A host that forwards takes none
/// (`accept_ra` 1), and Linux drops the default routes it had of them in the moment it begins to forward, unless
/// `accept_ra` is 2.
fn keep_advertised_routes() -> Result<(), ForwardingError> {
    let netlink = Netlink::open()?;
    let mut advertised: Vec<_> = netlink.routes()?.into_iter().filter(|route| route.advertised).collect();
    advertised.dedup_by_key(|route| route.index);
    for route in advertised {
        let Some(link) = netlink.link_by_index(route.index)? else { continue };
        let key = format!("ipv6/conf/{}/accept_ra", link.name);
        // 0: a program in user space listens, and goes on doing so.
        if read(&key)? == "1" {
            write(&key, "2")?;
        }
    }
    Ok(())
}

/// Has interface `name` take no router advertisements: those of a container must not change the host's routes. Returns
/// whether it did take them.
///
/// # Errors
/// Where that cannot be set; not where there is no IPv6.
pub(crate) fn ignore_advertisements(name: &str) -> Result<bool, ForwardingError> {
    let key = format!("ipv6/conf/{name}/accept_ra");
    match read(&key) {
        Err(ForwardingError::Setting { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(value) if value == "0" => Ok(false),
        Ok(_) => write(&key, "0").map(|()| true),
    }
}

/// Looks whether the host forwards packets of the versions that `gateways` are of.
///
/// # Errors
/// The first that it does not forward.
pub(crate) fn check(gateways: &[IpNet]) -> Result<(), ForwardingError> {
    for Version { name, key } in versions(gateways) {
        let found = read(key)?;
        if found == "0" {
            return Err(ForwardingError::Off { version: name, key: key.to_owned(), found });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "so a test fails")]
mod tests {
    use std::time::{Duration, Instant};

    use vswitch_sys::PacketSocket;

    use super::*;
    use crate::testing::{Container, no_container};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_is_asked_for_is_switched_on() {
        crate::require!(no_container());
        for (gateways, v4, v6) in [
            (&[][..], "0", "0"),
            (&["10.1.0.1/24"], "1", "0"),
            (&["fd00::1/64"], "0", "1"),
            (&["10.1.0.1/24", "10.2.0.1/24", "fd00::1/64"], "1", "1"),
        ] {
            let host = Container::new(&[]);
            let gateways = nets(gateways);
            let off = nets(&["192.0.2.1/24", "2001:db8::1/64"]);
            host.netns
                .run(|| {
                    // As on a host that boots: a namespace has this of the one it was made in.
                    for version in [V4, V6] {
                        write(version.key, "0").unwrap();
                    }
                    let error = check(&off).unwrap_err().to_string();
                    assert!(error.contains("the host does not forward IPv4: ipv4/ip_forward is 0"), "{error}");
                    switch_on(&gateways).unwrap();
                    switch_on(&gateways).unwrap();
                    check(&gateways).unwrap();
                    assert_eq!((read(V4.key).unwrap().as_str(), read(V6.key).unwrap().as_str()), (v4, v6));
                    assert_eq!(check(&off).is_ok(), v4 == "1" && v6 == "1");
                })
                .unwrap();
        }
    }

    /// An advertisement of the router fe80::1, for half an hour (RFC 4861 4.2), as a frame.
    fn advertisement() -> Vec<u8> {
        let (from, to) =
            ("fe80::1".parse::<std::net::Ipv6Addr>().unwrap(), "ff02::1".parse::<std::net::Ipv6Addr>().unwrap());
        let mut icmp = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        let pseudo = [&from.octets()[..], &to.octets(), &[0, 0, 0, 16, 0, 0, 0, 58], &icmp].concat();
        let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let ethernet = [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
        let ip = [0x60, 0, 0, 0, 0, 16, 58, 255];
        [&ethernet[..], &ip, &from.octets(), &to.octets(), &icmp].concat()
    }

    /// Sends `host` advertisements until it has a default route by one.
    fn advertise(host: &Container) {
        let socket = host.peer.run(|| PacketSocket::open("eth0").unwrap()).unwrap();
        let start = Instant::now();
        while !has_advertised_route(host) {
            assert!(start.elapsed() < PATIENCE, "no route in {PATIENCE:?}");
            socket.send(&advertisement()).unwrap();
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn has_advertised_route(host: &Container) -> bool {
        host.netlink.routes().unwrap().iter().any(|route| route.advertised && route.dst.prefix_len() == 0)
    }

    #[test]
    fn a_default_route_by_advertisement_stays() {
        crate::require!(no_container());
        for (ours, accept_ra, stays) in [(true, "2", true), (false, "1", false)] {
            let host = Container::new(&[]);
            advertise(&host);
            host.netns
                .run(|| if ours { switch_on(&nets(&["fd00::1/64"])) } else { write(V6.key, "1") })
                .unwrap()
                .unwrap();
            assert_eq!(host.netns.run(|| read("ipv6/conf/eth0/accept_ra").unwrap()).unwrap(), accept_ra);
            assert_eq!(has_advertised_route(&host), stays, "as Linux does it, and so this is needed");
        }
    }

    #[test]
    fn a_gateway_listens_to_no_router() {
        crate::require!(no_container());
        let host = Container::new(&[]);
        let ignore = |name| host.netns.run(|| ignore_advertisements(name)).unwrap().unwrap();
        assert!(ignore("eth0"), "Linux has it listen");
        assert_eq!(host.netns.run(|| read("ipv6/conf/eth0/accept_ra").unwrap()).unwrap(), "0");
        assert!(!ignore("eth0"));
        assert!(!ignore("nowhere0"));
    }
}
