//! Attachments that fail, at every step: nothing of them stays.

use std::thread;
use std::time::{Duration, Instant};

use netns_tests::cni::{Attachment, finish};
use netns_tests::{Daemon, DaemonSpec, Lab, Node, Result, SOON, ensure, ensure_eq, eventually, traffic};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{address, alone, network, nothing_left};

/// "If an interface of the requested name already exists in the container, the CNI plugin MUST return with an error."
pub(super) fn a_name_that_is_taken(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = network(&node, json!({"vlan": 9, "vni": 900, "subnet": "10.1.0.0/24"}));
    let a = lab.host("a")?;
    a.netlink().add_bridge("eth0")?;
    let refused = net.refused(100, "ADD", Some(&Attachment::of(&a)))?;
    ensure!(refused.contains("eth0"), "refused: {refused}");
    ensure_eq!(node.ok("port list")?, json!([]), "ports");
    ensure_eq!(a.link("eth0")?.kind.as_deref(), Some("bridge"), "the interface that was there");
    // DEL after a failed ADD is a runtime's duty, and takes nothing that is not ours.
    net.del(&Attachment::of(&a))?;
    ensure_eq!(a.link("eth0")?.kind.as_deref(), Some("bridge"), "the interface that was there, after DEL");
    // The address was not used up.
    let other = Attachment { ifname: "eth1".to_owned(), ..Attachment::of(&a) };
    net.add(&other)?;
    ensure_eq!(node.ok("port list")?.as_array().map(Vec::len), Some(1), "ports");
    Ok(())
}

/// "A runtime should not call ADD twice": the second is refused, and harms the first in nothing.
pub(super) fn added_twice(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = network(&node, json!({"subnet": "10.1.0.0/24"}));
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let attachment = Attachment::of(&a);
    let result = net.add(&attachment)?;
    let refused = net.refused(100, "ADD", Some(&attachment))?;
    ensure!(refused.contains("there already"), "refused: {refused}");
    net.check(&attachment, &result)?;
    net.add(&Attachment::of(&b))?;
    traffic::ping::ping(&b, address(&result)?, 56)
}

pub(super) fn a_route_that_is_refused(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let a = lab.host("a")?;
    for (route, text) in [
        (json!({"dst": "10.9.0.0/16", "gw": "fd00::1"}), "10.9.0.0/16"),
        (json!({"dst": "10.9.0.0/16", "scope": 999}), "999"),
        (json!({"dst": "10.9.0.0/16", "gw": "127.0.0.1"}), "127.0.0.1"),
    ] {
        let net = network(&node, json!({"subnet": "10.1.0.0/24", "isGateway": true, "routes": [route]}));
        let refused = net.refused(102, "ADD", Some(&Attachment::of(&a)))?;
        ensure!(refused.contains(text), "refused: {refused}");
        nothing_left(&node, &[&a])?;
    }
    Ok(())
}

pub(super) fn no_address_left(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = network(&node, json!({"subnet": "10.1.0.0/30"}));
    net.ok("STATUS", None)?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    net.add(&Attachment::of(&a))?;
    let refused = net.refused(11, "ADD", Some(&Attachment::of(&b)))?;
    ensure!(refused.contains("10.1.0.0/30"), "refused: {refused}");
    net.refused(50, "STATUS", None)?;
    net.del(&Attachment::of(&b))?;
    net.gc(&[])?;
    net.ok("STATUS", None)?;
    net.add(&Attachment::of(&b))?;
    net.del(&Attachment::of(&b))?;
    nothing_left(&node, &[&a, &b])
}

/// Each verb says so, and DEL loses nothing: the state has what the next DEL removes.
pub(super) fn no_daemon(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let spec = DaemonSpec { underlay: Some("udp"), ..DaemonSpec::default() };
    let daemon = Daemon::start(lab, &host, &spec)?;
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (first, second) = (Attachment::of(&a), Attachment::of(&b));
    let keys = json!({"subnet": "10.1.0.0/24"});
    let result = network(&node, keys.clone()).add(&first)?;
    let Node { daemon, host, ip } = node;
    let socket = daemon.socket().to_owned();
    daemon.end(Signal::SIGKILL)?;
    let net = netns_tests::cni::Cni::new(&host, &socket, "net", keys);
    for verb in ["ADD", "DEL"] {
        let refused = net.refused(11, verb, Some(if verb == "ADD" { &second } else { &first }))?;
        ensure!(refused.contains("is vswitchd running"), "{verb} refused: {refused}");
    }
    net.refused(51, "STATUS", None)?;
    net.with(json!({"cni.dev/valid-attachments": []})).refused(11, "GC", None)?;
    net.with(json!({"prevResult": result})).refused(11, "CHECK", Some(&first))?;
    net.ok("VERSION", None)?;
    ensure!(b.netlink().link("eth0")?.is_none(), "an interface of the ADD that failed");
    // It comes back while a plugin waits for it.
    let waits = net.start("ADD", Some(&second))?;
    let daemon = Daemon::start(lab, &host, &spec)?;
    ensure_eq!(finish(waits)?.code, Some(0), "exit code of the ADD that waited");
    let node = Node { daemon, host: host.twin("h1")?, ip };
    net.check(&first, &result)?;
    net.del(&first)?;
    net.del(&second)?;
    nothing_left(&node, &[&a, &b])
}

/// SIGKILL for the daemon at any point of an ADD: what was answered is there, and DEL takes all else away.
pub(super) fn daemon_killed_in_the_middle(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let spec = DaemonSpec { underlay: Some("udp"), ..DaemonSpec::default() };
    let mut daemon = Daemon::start(lab, &host, &spec)?;
    let a = lab.host("a")?;
    let attachment = Attachment::of(&a);
    let socket = daemon.socket().to_owned();
    let net = netns_tests::cni::Cni::new(&host, &socket, "net", json!({"subnet": "10.1.0.0/24"}));
    let mut random = lab.random();
    for _ in 0..12 {
        let child = net.start("ADD", Some(&attachment))?;
        thread::sleep(Duration::from_micros(u64::try_from(random.below(15_000))?));
        daemon.end(Signal::SIGKILL)?;
        daemon = Daemon::start(lab, &host, &spec)?;
        let outcome = finish(child)?;
        if outcome.code == Some(0) {
            net.check(&attachment, &outcome.json)?;
        } else {
            ensure_eq!(outcome.json["code"], 11, "error of an ADD whose daemon was killed: {outcome:?}");
        }
        net.del(&attachment)?;
        ensure!(a.netlink().link("eth0")?.is_none(), "the interface is left after {outcome:?}");
    }
    let node = Node { daemon, host: host.twin("h1")?, ip: [127, 0, 0, 1].into() };
    nothing_left(&node, &[&a])
}

/// Another daemon takes over while containers come and go: none of them notices.
pub(super) fn taken_over_in_the_middle(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let Node { mut daemon, host, ip } = node;
    let socket = daemon.socket().to_owned();
    let net = netns_tests::cni::Cni::new(&host, &socket, "net", json!({"subnet": "10.1.0.0/24"}));
    let containers: Vec<_> = (0..4).map(|number| lab.host(&format!("c{number}"))).collect::<Result<_>>()?;
    let attachments: Vec<_> = containers.iter().map(Attachment::of).collect();
    let spec = DaemonSpec { underlay: Some("udp"), ..DaemonSpec::default() };
    for _ in 0..3 {
        let mut running = Vec::new();
        for attachment in &attachments {
            running.push(net.start("ADD", Some(attachment))?);
        }
        daemon = daemon.taken_over(lab, &host, &spec)?;
        for child in running {
            let outcome = finish(child)?;
            ensure_eq!(outcome.code, Some(0), "exit code of an ADD during a takeover: {outcome:?}");
        }
        let mut running = Vec::new();
        for attachment in &attachments {
            running.push(net.start("DEL", Some(attachment))?);
        }
        daemon = daemon.taken_over(lab, &host, &spec)?;
        for child in running {
            let outcome = finish(child)?;
            ensure_eq!(outcome.code, Some(0), "exit code of a DEL during a takeover: {outcome:?}");
        }
    }
    let node = Node { daemon, host: host.twin("h1")?, ip };
    nothing_left(&node, &containers.iter().collect::<Vec<_>>())
}

/// SIGKILL for the plugin, from before it starts to after it has ended; then DEL, as a runtime does.
pub(super) fn plugin_killed_at_any_point(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = network(&node, json!({"subnet": "10.1.0.0/24", "isDefaultGateway": true}));
    let a = lab.host("a")?;
    let attachment = Attachment::of(&a);
    let start = Instant::now();
    net.add(&attachment)?;
    let whole = start.elapsed();
    net.del(&attachment)?;
    let mut random = lab.random();
    let mut killed = 0;
    for _ in 0..40 {
        let mut child = net.start("ADD", Some(&attachment))?;
        let span = usize::try_from(whole.as_micros())?;
        thread::sleep(Duration::from_micros(u64::try_from(random.below(span))?));
        child.kill()?;
        killed += u32::from(finish(child)?.code.is_none());
        net.del(&attachment)?;
        eventually(SOON, "nothing is left", || nothing_left(&node, &[&a]))?;
    }
    ensure!(killed >= 10, "only {killed} of 40 were killed before their end");
    Ok(())
}
