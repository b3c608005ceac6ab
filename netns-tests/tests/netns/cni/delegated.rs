//! Addresses by IPAM plugins as Debian ships them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::cni::{Attachment, Cni, finish};
use netns_tests::{Lab, Node, Result, SOON, ensure, ensure_eq, eventually, traffic};
use serde_json::{Value, json};

use super::{address, alone, has, network, nothing_left};

/// The network with addresses by host-local, which keeps them in a folder of the lab.
fn by_host_local<'a>(lab: &Lab, node: &'a Node, subnet: &str, keys: Value) -> Result<Cni<'a>> {
    let ranges = json!([[{"subnet": subnet}]]);
    let folder = lab.folder("leases")?;
    let ipam = json!({"type": "host-local", "dataDir": folder, "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]});
    Ok(network(node, json!({"cniVersion": "1.0.0", "ipam": ipam})).with(keys))
}

/// The addresses that host-local keeps.
fn leases(lab: &Lab) -> Result<Vec<String>> {
    let folder = lab.folder("leases")?.join("net");
    if !Path::new(&folder).exists() {
        return Ok(Vec::new());
    }
    let names = fs::read_dir(folder)?.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect::<Result<_>>()?;
    names.retain(|name| name.parse::<std::net::IpAddr>().is_ok());
    names.sort();
    Ok(names)
}

pub(super) fn host_local(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = by_host_local(lab, &node, "10.1.0.0/24", json!({}))?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (first, second) = (Attachment::of(&a), Attachment::of(&b));
    let (one, two) = (net.add(&first)?, net.add(&second)?);
    ensure_eq!(one["ips"], json!([{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 0}]), "addresses");
    ensure_eq!(one["routes"], json!([{"dst": "0.0.0.0/0"}]), "routes");
    ensure!(has(&a, "eth0", "10.1.0.2/24")?, "the container has the address");
    ensure!(a.netlink().has_route(None, Some("10.1.0.1".parse()?), a.link("eth0")?.index)?, "the default route");
    traffic::ping::ping(&a, address(&two)?, 1000)?;
    net.check(&first, &one)?;
    ensure_eq!(leases(lab)?, ["10.1.0.2", "10.1.0.3"], "leases");
    // Twice: the lease of the first stays.
    net.refused(100, "ADD", Some(&first))?;
    ensure_eq!(leases(lab)?, ["10.1.0.2", "10.1.0.3"], "leases after an ADD too many");
    net.check(&first, &one)?;
    // A lease that is gone is found, by the plugin whose it is.
    fs::remove_file(lab.folder("leases")?.join("net/10.1.0.2"))?;
    let found = net.with(json!({"prevResult": one})).run("CHECK", Some(&first))?;
    ensure!(found.code != Some(0), "CHECK without a lease: {found:?}");
    net.del(&first)?;
    net.del(&first)?;
    drop(b);
    net.del(&second)?;
    ensure_eq!(leases(lab)?, Vec::<String>::new(), "leases after DEL");
    nothing_left(&node, &[&a])
}

pub(super) fn static_addresses(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let addresses = json!([{"address": "10.1.0.9/24", "gateway": "10.1.0.1"}, {"address": "fd00:1::9/64"}]);
    let ipam =
        json!({"type": "static", "addresses": addresses, "routes": [{"dst": "10.8.0.0/16"}], "dns": {"domain": "lab"}});
    let net = network(&node, json!({"cniVersion": "0.4.0", "ipam": ipam}));
    let a = lab.host("a")?;
    let attachment = Attachment::of(&a);
    let result = net.add(&attachment)?;
    let expected = json!([
        {"version": "4", "address": "10.1.0.9/24", "gateway": "10.1.0.1", "interface": 0},
        {"version": "6", "address": "fd00:1::9/64", "interface": 0},
    ]);
    ensure_eq!(result["ips"], expected, "addresses");
    ensure_eq!(result["dns"]["domain"], "lab", "dns");
    ensure!(has(&a, "eth0", "10.1.0.9/24")? && has(&a, "eth0", "fd00:1::9/64")?, "the container has the addresses");
    net.check(&attachment, &result)?;
    net.del(&attachment)?;
    nothing_left(&node, &[&a])
}

/// "If, on ADD, a delegated plugin fails, the upper plugin should execute again with DEL", and what fails later gives back
/// what it gave.
pub(super) fn failures_are_undone(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let net = by_host_local(lab, &node, "10.1.0.0/29", json!({}))?;
    a.netlink().add_bridge("eth0")?;
    net.refused(100, "ADD", Some(&Attachment::of(&a)))?;
    ensure_eq!(leases(lab)?, Vec::<String>::new(), "leases after a name that is taken");
    let bad = net.with(json!({"routes": [{"dst": "10.9.0.0/16", "scope": 999}]}));
    bad.refused(102, "ADD", Some(&Attachment::of(&b)))?;
    ensure_eq!(leases(lab)?, Vec::<String>::new(), "leases after a route that is refused");
    // Five addresses beside the gateway's.
    for number in 1..=5 {
        net.add(&Attachment { ifname: format!("net{number}"), ..Attachment::of(&b) })?;
    }
    let outcome = net.run("ADD", Some(&Attachment::of(&b)))?;
    ensure!(outcome.code != Some(0), "a sixth address: {outcome:?}");
    let details = outcome.json["details"].as_str().unwrap_or_default();
    ensure!(details.contains("host-local") && details.contains("no IP addresses available"), "it says {outcome:?}");
    ensure_eq!(leases(lab)?.len(), 5, "leases");
    ensure_eq!(node.ok("port list")?.as_array().map(Vec::len), Some(5), "ports");
    Ok(())
}

/// A container that ends without DEL, as those of `ctr run -d` do: the next ADD of the network gives its address back.
pub(super) fn an_address_without_del_is_given_back(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = by_host_local(lab, &node, "10.1.0.0/30", json!({}))?;
    for number in 0..3 {
        let container = lab.host(&format!("c{number}"))?;
        let attachment = Attachment::of(&container);
        // The kernel tells the daemon of the end of the last one's namespace in its own time.
        eventually(SOON, "the only address is given again", || net.add(&attachment).map(drop))?;
        ensure_eq!(leases(lab)?, ["10.1.0.2"], "leases");
        ensure_eq!(node.ok("port list")?.as_array().map(Vec::len), Some(1), "ports");
    }
    net.del(&Attachment::named("c2", "eth0", None))?;
    ensure_eq!(leases(lab)?, Vec::<String>::new(), "leases after DEL");
    nothing_left(&node, &[])
}

/// One lease that its plugin does not take back is nobody else's trouble.
pub(super) fn a_lease_that_cannot_be_returned(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let folder = lab.folder("plugins")?;
    let refuses = r#"[ "$CNI_COMMAND $CNI_CONTAINERID" != "DEL dead" ] || { echo '{"code":11,"msg":"no"}'; exit 1; }"#;
    let script = format!("#!/bin/sh\n{refuses}\nexec {}/host-local\n", netns_tests::cni::STOCK);
    fs::write(folder.join("host-local"), script)?;
    fs::set_permissions(folder.join("host-local"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let net = by_host_local(lab, &node, "10.1.0.0/24", json!({}))?.path(&folder.display().to_string());
    let dead = lab.host("dead")?;
    net.add(&Attachment::of(&dead))?;
    // Before the other ends, lest its namespace be found by the same path.
    let a = lab.host("a")?;
    drop(dead);
    eventually(SOON, "the port is lost", || {
        ensure_eq!(node.ok("port show dead:eth0")?["state"], "lost", "state");
        Ok(())
    })?;
    net.add(&Attachment::of(&a))?;
    ensure_eq!(leases(lab)?, ["10.1.0.2", "10.1.0.3"], "leases");
    // Its own name is not free.
    let again = lab.host("dead")?;
    let refused = net.refused(11, "ADD", Some(&Attachment::of(&again)))?;
    ensure!(refused.contains("host-local"), "refused: {refused}");
    ensure_eq!(node.ok("port list")?.as_array().map(Vec::len), Some(2), "ports: the lost one remembers its lease");
    Ok(())
}

/// Containers that come again by the same names, all at once, while the leases of those before are given back: nobody gives
/// back what another has got meanwhile.
pub(super) fn the_dead_and_the_living_of_one_name(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = by_host_local(lab, &node, "10.1.0.0/24", json!({}))?;
    for _ in 0..3 {
        let containers: Vec<_> = (0..6).map(|number| lab.host(&format!("c{number}"))).collect::<Result<_>>()?;
        let attachments: Vec<_> = containers.iter().map(Attachment::of).collect();
        let running: Vec<_> = attachments.iter().map(|own| net.start("ADD", Some(own))).collect::<Result<_>>()?;
        let mut given = Vec::new();
        for (child, attachment) in running.into_iter().zip(&attachments) {
            let outcome = finish(child)?;
            ensure_eq!(outcome.code, Some(0), "exit code: {outcome:?}");
            given.push(address(&outcome.json)?.to_string());
            net.check(attachment, &outcome.json)?;
        }
        given.sort();
        let mut kept = leases(lab)?;
        kept.sort();
        ensure_eq!(kept, given, "leases");
        ensure_eq!(node.ok("port list")?.as_array().map(Vec::len), Some(6), "ports");
        drop(containers);
        eventually(SOON, "all ports are lost", || {
            let ports = node.ok("port list")?;
            let lost = ports.as_array().into_iter().flatten().filter(|port| port["state"] == "lost").count();
            ensure_eq!(lost, 6, "lost ports");
            Ok(())
        })?;
    }
    net.with(json!({"cniVersion": "1.1.0"})).gc(&[])?;
    ensure_eq!(leases(lab)?, Vec::<String>::new(), "leases after GC");
    nothing_left(&node, &[])
}

/// host-local 1.1.1 knows no GC: it is told of each that is gone.
pub(super) fn gc_gives_addresses_back(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = by_host_local(lab, &node, "10.1.0.0/24", json!({}))?;
    let latest = net.with(json!({"cniVersion": "1.1.0"}));
    let containers: Vec<_> = ["a", "b", "c"].iter().map(|name| lab.host(name)).collect::<Result<_>>()?;
    let attachments: Vec<_> = containers.iter().map(Attachment::of).collect();
    for attachment in &attachments {
        net.add(attachment)?;
    }
    // In the form of the newest version, whose STATUS and GC it has not.
    latest.ok("STATUS", None)?;
    latest.gc(&[&attachments[1]])?;
    ensure_eq!(leases(lab)?, ["10.1.0.3"], "leases after GC");
    ensure_eq!(node.ok("port list")?.as_array().map(Vec::len), Some(1), "ports after GC");
    latest.gc(&[])?;
    ensure_eq!(leases(lab)?, Vec::<String>::new(), "leases after GC with an empty list");
    nothing_left(&node, &containers.iter().collect::<Vec<_>>())
}

/// SIGKILL for the plugin at any point, then DEL: no lease, no port.
pub(super) fn killed_at_any_point(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = by_host_local(lab, &node, "10.1.0.0/24", json!({}))?;
    let a = lab.host("a")?;
    let attachment = Attachment::of(&a);
    let start = Instant::now();
    net.add(&attachment)?;
    let whole = usize::try_from(start.elapsed().as_micros())?;
    net.del(&attachment)?;
    let mut random = lab.random();
    for _ in 0..15 {
        let mut child = net.start("ADD", Some(&attachment))?;
        thread::sleep(Duration::from_micros(u64::try_from(random.below(whole))?));
        child.kill()?;
        finish(child)?;
        // The IPAM plugin, if one was running, ends by itself: a runtime that kills the one cannot know of the other.
        eventually(SOON, "nothing is left", || {
            net.del(&attachment)?;
            ensure_eq!(leases(lab)?, Vec::<String>::new(), "leases");
            nothing_left(&node, &[&a])
        })?;
    }
    Ok(())
}
