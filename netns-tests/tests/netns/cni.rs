use std::net::IpAddr;

use ipnet::IpNet;
use netns_tests::cni::{Cni, addresses};
use netns_tests::{Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, ensure_eq, eventually};
use serde_json::{Value, json};

use crate::Tests;

#[path = "cni/attach.rs"]
mod attach;
#[path = "cni/crowd.rs"]
mod crowd;
#[path = "cni/delegated.rs"]
mod delegated;
#[path = "cni/dhcp.rs"]
mod dhcp;
#[path = "cni/failures.rs"]
mod failures;

pub(crate) const TESTS: Tests = &[
    ("two_containers", attach::two_containers),
    ("each_version_has_its_result", attach::each_version_has_its_result),
    ("across_vxlan", attach::across_vxlan),
    ("trunk", attach::trunk),
    ("what_is_asked_for", attach::what_is_asked_for),
    ("dual_stack", attach::dual_stack),
    ("check_finds_what_is_missing", attach::check_finds_what_is_missing),
    ("gateway", attach::gateway),
    ("chained_after_another", attach::chained_after_another),
    ("handed_over", attach::handed_over),
    ("two_networks", attach::two_networks),
    ("a_name_that_is_taken", failures::a_name_that_is_taken),
    ("added_twice", failures::added_twice),
    ("a_route_that_is_refused", failures::a_route_that_is_refused),
    ("no_address_left", failures::no_address_left),
    ("no_daemon", failures::no_daemon),
    ("daemon_killed_in_the_middle", failures::daemon_killed_in_the_middle),
    ("taken_over_in_the_middle", failures::taken_over_in_the_middle),
    ("plugin_killed_at_any_point", failures::plugin_killed_at_any_point),
    ("a_thousand_at_once", crowd::a_thousand_at_once),
];

/// Those that need plugins of Debian's package containernetworking-plugins.
pub(crate) const DELEGATED: Tests = &[
    ("host_local", delegated::host_local),
    ("static_addresses", delegated::static_addresses),
    ("delegated_failures_are_undone", delegated::failures_are_undone),
    ("an_address_without_del_is_given_back", delegated::an_address_without_del_is_given_back),
    ("gc_gives_addresses_back", delegated::gc_gives_addresses_back),
    ("delegated_killed_at_any_point", delegated::killed_at_any_point),
    ("a_lease_that_cannot_be_returned", delegated::a_lease_that_cannot_be_returned),
    ("the_dead_and_the_living_of_one_name", delegated::the_dead_and_the_living_of_one_name),
];

/// Those that need a DHCP server and Debian's plugin too.
pub(crate) const DHCP: Tests = &[
    ("dhcp", dhcp::leased),
    ("dhcp_guarded", dhcp::guarded),
    ("dhcp_handed_over", dhcp::handed_over),
    ("dhcp_without_its_daemon", dhcp::without_its_daemon),
];

pub(crate) use dhcp::hindrance as no_dhcp;

/// Why the tests of [`DELEGATED`] cannot run here.
pub(crate) fn hindrance() -> Option<String> {
    let missing = |name: &&str| !std::path::Path::new(netns_tests::cni::STOCK).join(name).exists();
    let missing: Vec<_> = ["host-local", "static"].into_iter().filter(missing).collect();
    (!missing.is_empty()).then(|| format!("needs {} (Debian: containernetworking-plugins)", missing.join(", ")))
}

/// A host with a daemon and no underlay.
fn alone(lab: &Lab) -> Result<Node> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { underlay: Some("udp"), ..DaemonSpec::default() })?;
    Ok(Node { daemon, host, ip: IpAddr::from([127, 0, 0, 1]) })
}

/// The network `net` of `node` with these keys.
fn network(node: &Node, keys: Value) -> Cni<'_> {
    Cni::new(&node.host, node.daemon.socket(), "net", keys)
}

/// The one address in the result of ADD.
fn address(result: &Value) -> Result<IpAddr> {
    let all = addresses(result)?;
    ensure_eq!(all.len(), 1, "addresses in {result}");
    Ok(all[0])
}

/// Fails where anything is left: ports, addresses in the FDB, interfaces in the containers or on the host.
fn nothing_left(node: &Node, containers: &[&Host]) -> Result {
    ensure_eq!(node.ok("port list")?, json!([]), "ports");
    // What was learned from other hosts ages.
    let behind_ports = || -> Result {
        let mut fdb = node.fdb()?;
        fdb.retain(|entry| entry.place.as_ref().is_none_or(|place| place.parse::<IpAddr>().is_err()));
        ensure_eq!(fdb, Vec::new(), "addresses behind ports");
        Ok(())
    };
    eventually(SOON, "the FDB is empty", behind_ports)?;
    for host in containers.iter().copied().chain([&node.host]) {
        let links = host.netlink().links()?;
        // The underlay's are there before and after.
        let ours = |name: &String| name != "lo" && name != "uplink" && !name.starts_with("vswitch-up");
        let ours: Vec<_> = links.into_iter().map(|link| link.name).filter(ours).collect();
        ensure_eq!(ours, Vec::<String>::new(), "interfaces in {}", host.name());
    }
    Ok(())
}

/// Whether interface `name` of `host` has `address`.
fn has(host: &Host, name: &str, address: &str) -> Result<bool> {
    let (index, address): (_, IpNet) = (host.link(name)?.index, address.parse()?);
    Ok(host.netlink().addresses()?.contains(&(index, address)))
}
