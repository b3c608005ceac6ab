//! Settings of the network namespace that matter.

use std::fs;
use std::net::IpAddr;

use vswitch_api::PortInfo;
use vswitch_sys::Netlink;

use super::{Check, Patient};

/// What the daemon asks for as queue of its VXLAN sockets.
const QUEUE: u64 = 8 << 20;

pub(super) fn checks(patient: &Patient) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(reverse_path(patient));
    let gateway = patient.daemon().and_then(|daemon| daemon.ports.iter().find(|port| port.gateway_of.is_some()));
    checks.extend(gateway.map(|port| forwarding(port, number("ipv4/ip_forward"), number("ipv6/conf/all/forwarding"))));
    checks.push(receive_queue(patient, number("core/rmem_max")));
    checks.extend(bridges(number("bridge/bridge-nf-call-iptables")));
    checks
}

fn number(key: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/net/{key}")).ok()?.trim().parse().ok()
}

/// Strict reverse path filtering where datagrams to a peer leave by another interface than the VTEP's.
fn reverse_path(patient: &Patient) -> Option<Check> {
    const NAME: &str = "rp_filter";
    let (Some(vtep @ IpAddr::V4(_)), Some(daemon)) = (patient.vtep().0, patient.daemon()) else { return None };
    let netlink = Netlink::open().ok()?;
    let (index, _) = netlink.addresses().ok()?.into_iter().find(|(_, net)| net.addr() == vtep)?;
    let name = netlink.link_by_index(index).ok()??.name;
    // The greater of the two counts (ip-sysctl).
    let filter = number(&format!("ipv4/conf/{name}/rp_filter"))?.max(number("ipv4/conf/all/rp_filter")?);
    if filter != 1 {
        return Some(Check::ok(NAME, format!("{filter} on {name}")));
    }
    let peers = daemon.peers.iter().map(|peer| peer.ip).filter(IpAddr::is_ipv4);
    let mut others = peers.filter(|ip| netlink.route_to(*ip).is_ok_and(|route| route.index != index));
    Some(match others.next() {
        Some(peer) => {
            let text =
                format!("{name} takes datagrams only from where it would send them (1), and {peer} is elsewhere");
            Check::wrong(NAME, text).mended(format!("sysctl -w net/ipv4/conf/{name}/rp_filter=2, or mend the route"))
        }
        None => Check::ok(NAME, format!("1 on {name}: all peers are behind it")),
    })
}

/// Whether the host forwards what the router of a CNI network, which is `port`, is given.
pub(super) fn forwarding(port: &PortInfo, v4: Option<u64>, v6: Option<u64>) -> Check {
    const NAME: &str = "forwarding";
    let has = |is_v6: bool| port.addresses.iter().any(|address| address.net().addr().is_ipv6() == is_v6);
    let off = |family, setting| {
        let text = format!("this host does not forward {family}: containers reach nothing behind port {}", port.name);
        Check::wrong(NAME, text).mended(format!("sysctl -w {setting}=1"))
    };
    match (has(false) && v4 == Some(0), has(true) && v6 == Some(0)) {
        (true, _) => off("IPv4", "net.ipv4.ip_forward"),
        (_, true) => off("IPv6", "net.ipv6.conf.all.forwarding"),
        _ => Check::ok(NAME, format!("on, for the router at port {}", port.name)),
    }
}

pub(super) fn receive_queue(patient: &Patient, rmem_max: Option<u64>) -> Check {
    const NAME: &str = "rmem_max";
    let Some(most) = rmem_max else { return Check::note(NAME, "net.core.rmem_max cannot be read in this namespace") };
    // With the right it goes above the limit (SO_RCVBUFFORCE).
    let capabilities = patient.daemon().map(|daemon| daemon.status.capabilities.as_slice());
    let is_forced = capabilities.is_none_or(|names| names.iter().any(|name| name == "CAP_NET_ADMIN"));
    if most >= QUEUE || is_forced {
        return Check::ok(NAME, format!("{most} bytes: enough, or passed over by CAP_NET_ADMIN"));
    }
    Check::warning(NAME, format!("VXLAN sockets get queues of {most} bytes: bursts are lost as receive_queue_full"))
        .mended(format!(
            "sysctl -w net.core.rmem_max={QUEUE} net.core.wmem_max={QUEUE}, or give vswitchd CAP_NET_ADMIN"
        ))
}

pub(super) fn bridges(calls: Option<u64>) -> Option<Check> {
    (calls? != 0).then(|| {
        let text = "frames that a kernel bridge carries pass iptables here (bridge-nf-call-iptables); ours do not, unless \
                    the underlay is such a bridge";
        Check::note("bridge-nf", text)
    })
}
