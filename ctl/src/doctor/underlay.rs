//! The underlay: the VTEP's address, what fits through, and who else wants the port.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use vswitch_api::{PortInfo, VlanInfo};
use vswitch_sys::{Link, Netlink};

use super::{Check, Daemon, Patient};

pub(super) fn checks(patient: &Patient) -> Vec<Check> {
    let (Some(ip), port) = patient.vtep() else {
        let text = "no VTEP address: all VLANs are local";
        return vec![match patient.daemon() {
            Some(_) => Check::ok("underlay", text),
            None => Check::note("underlay", text).mended("say --vtep-ip IP, to look at that too"),
        }];
    };
    let link = match holder(ip) {
        Ok(link) => link,
        Err(check) => return vec![check],
    };
    let mut checks = vec![interface(&link, ip)];
    checks.push(mtu(&link, ip, patient.daemon()));
    checks.push(taken(port, patient.daemon()));
    checks
}

/// The interface that has the address.
fn holder(ip: IpAddr) -> Result<Link, Check> {
    const NAME: &str = "underlay";
    let look = || {
        let netlink = Netlink::open()?;
        let index = netlink.addresses()?.into_iter().find(|(_, net)| net.addr() == ip).map(|(index, _)| index);
        index.map_or(Ok(None), |index| netlink.link_by_index(index))
    };
    let gone = || {
        Check::wrong(NAME, format!("no interface here has the VTEP's address {ip}"))
            .mended(format!("ip address add {ip}/PREFIX dev INTERFACE, or start vswitchd with an address it has"))
    };
    look().map_err(|error| Check::note(NAME, format!("interfaces cannot be listed: {error}")))?.ok_or_else(gone)
}

fn interface(link: &Link, ip: IpAddr) -> Check {
    const NAME: &str = "underlay";
    let name = &link.name;
    if !link.up {
        return Check::wrong(NAME, format!("{name}, which has {ip}, is down")).mended(format!("ip link set {name} up"));
    }
    if !link.running {
        return Check::wrong(NAME, format!("{name}, which has {ip}, has no carrier"))
            .mended("look at the cable, the switch, or the other end of the veth or bond");
    }
    Check::ok(NAME, format!("{name} has {ip} and is up"))
}

/// Whether what ports send fits through.
fn mtu(link: &Link, ip: IpAddr, daemon: Option<&Daemon>) -> Check {
    const NAME: &str = "mtu";
    // Outer IP, UDP 8, VXLAN 8, inner Ethernet 14.
    let overhead = if ip.is_ipv4() { 50 } else { 70 };
    let fits = link.mtu.saturating_sub(overhead);
    let Link { name, mtu, .. } = link;
    let Some(daemon) = daemon else {
        return match fits {
            0..1280 => {
                Check::warning(NAME, format!("{name} carries {mtu} bytes: {fits} for containers, too few for IPv6"))
                    .mended(format!("ip link set {name} mtu {}, where the network carries that", 1500 + overhead))
            }
            _ => Check::ok(NAME, format!("{name} carries {mtu} bytes: {fits} for containers")),
        };
    };
    if daemon.status.vtep.underlay_mtu.is_some_and(|known| known != *mtu) {
        let known = daemon.status.vtep.underlay_mtu.unwrap_or(0);
        return Check::warning(NAME, format!("{name} carries {mtu} bytes by now, and vswitchd counts on {known}"))
            .mended("systemctl restart vswitchd: containers stay attached");
    }
    let wide = too_wide(&daemon.ports, &daemon.vlans, fits);
    match wide.as_slice() {
        [] => Check::ok(NAME, format!("{name} carries {mtu} bytes, and ports at most {fits}")),
        [first, ..] => {
            let names: Vec<_> = wide.iter().take(5).map(|port| port.name.as_str()).collect();
            let text = format!(
                "{} ports have a greater MTU than the {fits} that fit through {name}: {}; senders are told by ICMP",
                wide.len(),
                names.join(" ")
            );
            Check::warning(NAME, text).mended(format!("vsctl port set {} --mtu {fits}", first.name))
        }
    }
}

/// The ports in VLANs with a VNI whose packets may not fit.
pub(super) fn too_wide<'a>(ports: &'a [PortInfo], vlans: &[VlanInfo], fits: u32) -> Vec<&'a PortInfo> {
    let carried: BTreeSet<_> = vlans.iter().filter(|vlan| vlan.vni.is_some()).map(|vlan| vlan.vlan).collect();
    let is_carried = |port: &&PortInfo| {
        let mode = &port.mode;
        mode.vlan.iter().chain(&mode.vlans).chain(&mode.native).any(|vlan| carried.contains(vlan))
    };
    ports.iter().filter(is_carried).filter(|port| u32::from(port.mtu) > fits).collect()
}

/// Who has the VXLAN port.
fn taken(port: u16, daemon: Option<&Daemon>) -> Check {
    const NAME: &str = "vxlan-port";
    let inodes: BTreeSet<u64> = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| holders(&table, port))
        .collect();
    let ours = match daemon.map(|daemon| sockets_of(daemon.status.pid)) {
        Some(None) => return Check::note(NAME, "cannot see which sockets vswitchd has").mended("run it as root"),
        Some(Some(ours)) => ours,
        None => BTreeSet::new(),
    };
    let Some(other) = inodes.difference(&ours).next() else {
        let text = if daemon.is_some() { "nobody else has" } else { "nobody has" };
        return Check::ok(NAME, format!("{text} UDP port {port}"));
    };
    if let Some(process) = owner(*other) {
        return Check::wrong(NAME, format!("process {process} has UDP port {port} too"))
            .mended("stop it, or give vswitchd and its peers another --vtep-port");
    }
    // No process has it: it is the kernel's own, or of one that we may not look at.
    let is_device = |link: &Link| link.up && link.kind.as_deref() == Some("vxlan");
    let links = Netlink::open().and_then(|netlink| netlink.links()).unwrap_or_default();
    let device = links.into_iter().find(is_device);
    match device {
        Some(device) => {
            let text = format!("the kernel has UDP port {port}: perhaps {}, a VXLAN device of its own", device.name);
            Check::wrong(NAME, text).mended(
                "`ip -d link show type vxlan` tells each one's dstport: give it, or vswitchd and its peers, another port",
            )
        }
        None => Check::wrong(NAME, format!("somebody has UDP port {port} too"))
            .mended(format!("ss -ulnp 'sport = :{port}' says who, to root: stop it, or choose another --vtep-port")),
    }
}

/// The inodes of the sockets bound to `port`, by `/proc/net/udp`.
pub(super) fn holders(table: &str, port: u16) -> Vec<u64> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let local = u16::from_str_radix(words.nth(1)?.rsplit_once(':')?.1, 16).ok()?;
        // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
        let inode = words.nth(7)?.parse().ok()?;
        (local == port).then_some(inode)
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The process that has the socket open, by number and name.
fn owner(inode: u64) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = numbers.into_iter().find(|pid| sockets_of(*pid).is_some_and(|sockets| sockets.contains(&inode)))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{pid} ({})", name.trim()))
}

/// The inodes of the sockets that process `pid` has open; `None` where it may not be looked at.
fn sockets_of(pid: u32) -> Option<BTreeSet<u64>> {
    let inode = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().filter_map(inode).collect())
}
