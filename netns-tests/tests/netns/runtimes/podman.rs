use netns_tests::runtimes::Podman;
use netns_tests::traffic::ping::ping as ping_from;
use netns_tests::{Context as _, Lab, Result, SOON, ensure_eq, eventually};
use serde_json::json;

use super::{FAR, Site, ours, ping};
use crate::Tests;

pub(super) const TESTS: Tests = &[
    ("podman_on_two_hosts", on_two_hosts),
    ("podman_asks_for_addresses", asks_for_addresses),
    ("podman_restarts_and_reloads", restarts_and_reloads),
    ("podman_on_two_networks", on_two_networks),
];

fn on_two_hosts(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let podman = Podman::start(lab, &site.machine, "vsw")?;
    let before = site.remains()?;
    podman.run("c1", "", "")?;
    podman.run("c2", "", "")?;
    eventually(SOON, "c1 reaches c2", || podman.exec("c1", &ping("10.20.0.3")))?;
    eventually(SOON, "c2 reaches the other host", || podman.exec("c2", &ping(FAR)))?;
    ping_from(&site.far, "10.20.0.2".parse()?, 56)?;
    let told = podman.networks("c2")?;
    ensure_eq!(told["vsw"]["IPAddress"], "10.20.0.3", "what Podman was told");
    let mac = podman.container("c2")?.mac("eth0")?.map(|byte| format!("{byte:02x}")).join(":");
    ensure_eq!(told["vsw"]["MacAddress"], mac.as_str(), "what Podman was told");
    podman.ok("rm -f -t 0 c1 c2")?;
    site.nothing_left(&before)?;
    ensure_eq!(site.kept_results(), Vec::<String>::new(), "results");
    Ok(())
}

fn asks_for_addresses(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let podman = Podman::start(lab, &site.machine, "vsw")?;
    let before = site.remains()?;
    let mac = "02:00:00:00:00:77";
    podman.run("c1", &format!("--ip 10.20.0.77 --mac-address {mac}"), "")?;
    let inside = podman.container("c1")?;
    ensure_eq!(inside.mac("eth0")?, [2, 0, 0, 0, 0, 0x77], "MAC");
    drop(inside);
    ping_from(&site.far, "10.20.0.77".parse()?, 56)?;
    // What another has is refused, and nothing stays of the attempt.
    let one = site.remains()?;
    let parent = site.machine.cgroup();
    let run = format!("podman run -d --name c2 --cgroup-parent /{parent} --ip 10.20.0.77 localhost/busybox:latest");
    let said = site.machine.refused(&run)?;
    netns_tests::ensure!(said.contains("10.20.0.77"), "what is said: {said}");
    podman.ok("rm -f -t 0 c2")?;
    site.nothing_left(&one)?;
    podman.ok("rm -f -t 0 c1")?;
    site.nothing_left(&before)?;
    ensure_eq!(site.kept_results(), Vec::<String>::new(), "results");
    Ok(())
}

fn restarts_and_reloads(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let podman = Podman::start(lab, &site.machine, "vsw")?;
    let before = site.remains()?;
    podman.run("c1", "--ip 10.20.0.50 --mac-address 02:00:00:00:00:50", "")?;
    podman.run("c2", "", "")?;
    let other = podman.networks("c2")?;
    let address = |name: &str| {
        let address = podman.networks(name)?["vsw"]["IPAddress"].as_str().map(str::to_owned);
        address.context(format_args!("{name} has no address"))
    };
    let reaches = |from: &str, to: &str| {
        let words = ping(&address(to)?);
        eventually(SOON, "containers reach each other", || podman.exec(from, &words)).map(drop)
    };
    // A reload is DEL and ADD with what the container had, in a namespace that lives on.
    for what in ["network reload --all", "network reload c2"] {
        podman.ok(what)?;
        ensure_eq!(podman.networks("c2")?, other, "c2 after {what}");
        ensure_eq!(address("c1")?, "10.20.0.50", "address of c1 after {what}");
        reaches("c1", "c2")?;
        ping_from(&site.far, "10.20.0.50".parse()?, 56)?;
    }
    // A restart is DEL and ADD with a new namespace.
    podman.ok("restart -t 0 c1 c2")?;
    ensure_eq!(address("c1")?, "10.20.0.50", "address of c1 after a restart");
    ensure_eq!(podman.container("c1")?.mac("eth0")?, [2, 0, 0, 0, 0, 0x50], "MAC of c1 after a restart");
    reaches("c1", "c2")?;
    eventually(SOON, "c2 reaches the other host", || podman.exec("c2", &ping(FAR)))?;
    ensure_eq!(site.attachments()?.as_array().map(Vec::len), Some(2), "attachments");
    podman.ok("stop -t 0 c1")?;
    podman.ok("start c1")?;
    ping_from(&site.far, "10.20.0.50".parse()?, 56)?;
    podman.ok("rm -f -t 0 c1 c2")?;
    site.nothing_left(&before)?;
    ensure_eq!(site.kept_results(), Vec::<String>::new(), "results");
    Ok(())
}

/// Each network is an interface; they come and go while the container runs.
fn on_two_networks(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let second = json!({ "vlan": 20, "vni": 200, "subnet": "10.21.0.0/24", "rangeEnd": null });
    let conflist = json!({ "cniVersion": "1.0.0", "name": "second", "plugins": [ours(second)] });
    site.machine.write("/etc/cni/net.d/20-second.conflist", &conflist.to_string())?;
    let podman = Podman::start(lab, &site.machine, "vsw")?;
    let before = site.remains()?;
    podman.run("c1", "--network vsw --network second", "")?;
    podman.run("c2", "--network second", "")?;
    eventually(SOON, "c1 reaches c2", || podman.exec("c1", &ping("10.21.0.3")))?;
    eventually(SOON, "c1 reaches the other host", || podman.exec("c1", &ping(FAR)))?;
    podman.ok("network connect vsw c2")?;
    eventually(SOON, "c2 reaches the other host", || podman.exec("c2", &ping(FAR)))?;
    ensure_eq!(site.attachments()?.as_array().map(Vec::len), Some(4), "attachments");
    podman.ok("network disconnect second c1")?;
    let inside = podman.container("c1")?;
    let left: Vec<_> =
        inside.netlink().links()?.into_iter().map(|link| link.name).filter(|name| name != "lo").collect();
    ensure_eq!(left.len(), 1, "interfaces of c1: {left:?}");
    drop(inside);
    eventually(SOON, "c1 reaches the other host still", || podman.exec("c1", &ping(FAR)))?;
    podman.ok("rm -f -t 0 c1 c2")?;
    site.nothing_left(&before)?;
    ensure_eq!(site.kept_results(), Vec::<String>::new(), "results");
    Ok(())
}
