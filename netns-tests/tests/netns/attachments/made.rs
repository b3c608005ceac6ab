//! Attachments that work: how a container comes by one, and what it is worth to whom.

use std::os::fd::AsFd;

use netns_tests::traffic::ping::ping;
use netns_tests::{Context, Daemon, DaemonSpec, Failure, Lab, Node, Result, SOON, ensure, ensure_eq, eventually};
use nix::sys::signal::Signal;
use serde_json::json;
use vswitch_api::{ClientError, Code};
use vswitch_sys::InterfaceSpec;

use super::{Plugin, SUBNET, attach, boot, daemon};

/// The daemon makes the interface in what it was given, and its name for it means nothing.
pub(super) fn a_namespace_without_a_name(lab: &Lab) -> Result {
    let (host, daemon) = daemon(lab)?;
    let mut plugin = Plugin::of(&daemon)?;
    let (c1, c2) = (lab.quiet_host("c1")?, lab.quiet_host("c2")?);
    let elsewhere = lab.quiet_host("elsewhere")?;
    // Nothing is there, and somebody else is there: a daemon in another mount or PID namespace meets both.
    let nowhere = json!({"port": {"netns": "/run/netns/cni-of-another-mount-namespace"}});
    let other = json!({"port": {"netns": elsewhere.path()}});
    let first = plugin.add("c1", &c1, nowhere.clone())?;
    let second = plugin.add("c2", &c2, other)?;
    ensure_eq!(
        (&first["addresses"], &second["addresses"]),
        (&json!(["10.0.0.2/24"]), &json!(["10.0.0.3/24"])),
        "addresses"
    );
    let attachment = json!({"network": "net", "container": "c1", "sight": {"boot": boot()?}});
    ensure_eq!(first["attachment"], attachment, "attachment, of a namespace that the daemon does not see");
    ping(&c1, "10.0.0.3".parse()?, 1000)?;
    ensure!(elsewhere.netlink().link("eth0")?.is_none(), "an interface is where the name leads");

    // Its end tells of nothing but itself.
    drop(c1);
    plugin.wait_for("c1 lost, c2 up")?;
    daemon.end(Signal::SIGKILL)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&daemon)?;
    ensure_eq!(plugin.list()?, "c1 lost, c2 lost", "attachments whose names the daemon cannot follow");
    ensure!(elsewhere.netlink().link("eth0")?.is_none(), "an interface is where the name leads");
    // The interface was left in the container; the runtime attaches it again.
    let again = plugin.add("c2", &c2, nowhere)?;
    ensure_eq!((&again["addresses"], &again["state"]), (&json!(["10.0.0.4/24"]), &json!("up")), "attached again");
    ensure_eq!(plugin.del("c1")?["state"], "lost", "state of what is deleted");
    ensure_eq!(plugin.list()?, "c2 up", "attachments at the end");
    Ok(())
}

pub(super) fn shown_by_vsctl(lab: &Lab) -> Result {
    let (_host, daemon) = daemon(lab)?;
    let (mut plugin, vsctl) = (Plugin::of(&daemon)?, daemon.vsctl());
    ensure_eq!(vsctl.ok("attachment list")?, json!([]), "attachments at first");
    let (c1, c2) = (lab.quiet_host("c1")?, lab.quiet_host("c2")?);
    plugin.add("c1", &c1, json!({}))?;
    plugin.add("c2", &c2, json!({"port": {"attachment": {"network": "other"}}}))?;
    let all = vsctl.ok("attachment list")?;
    ensure_eq!(all, plugin.ask("attachment.list", json!({}))?, "attachments");
    ensure_eq!(all.as_array().map(Vec::len), Some(2), "attachments, counted");
    let others = vsctl.ok("attachment list --network other")?;
    ensure_eq!(others.as_array().map(Vec::len), Some(1), "attachments of a network");
    let one = &others[0];
    ensure_eq!((&one["container"], &one["addresses"]), (&json!("c2"), &json!(["10.0.0.3/24"])), "that of a network");
    let pool = vsctl.ok(&format!("pool show {SUBNET} --vlan 10"))?;
    let whole = json!([{"subnet": SUBNET, "first": "10.0.0.1", "last": "10.0.0.254", "used": 2, "free": 251}]);
    ensure_eq!(pool, whole, "the pool");
    let part = vsctl.ok(&format!("pool show {SUBNET} --vlan 10 --first 10.0.0.3 --last 10.0.0.10"))?;
    ensure_eq!((&part[0]["used"], &part[0]["free"]), (&json!(1), &json!(7)), "a part of it");
    let said = vsctl.refused(1, &format!("pool show {SUBNET} --vlan 10 --first 10.0.0.9 --last 10.0.0.8"))?;
    ensure!(said.contains("backwards"), "a range the wrong way round: {said}");
    Ok(())
}

pub(super) fn two_hosts_share_a_subnet(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let range =
        |first: &str, last: &str| json!({"pools": [{"subnet": SUBNET, "first": first, "last": last}], "vni": 100});
    let mut all = Vec::new();
    let mut containers = Vec::new();
    for (node, first, last) in [(&h1, "10.0.0.2", "10.0.0.99"), (&h2, "10.0.0.100", "10.0.0.103")] {
        let mut plugin = Plugin::of(&node.daemon)?;
        for number in 0..4 {
            let container = lab.quiet_host(&format!("{first}-{number}"))?;
            let port = plugin.add(&format!("c{number}"), &container, range(first, last))?;
            ensure_eq!(port["mtu"], 1450, "MTU beside VXLAN");
            all.push(port["addresses"][0].as_str().unwrap_or_default().to_owned());
            containers.push(container);
        }
    }
    let expected = [2, 3, 4, 5, 100, 101, 102, 103].map(|number| format!("10.0.0.{number}/24"));
    ensure_eq!(all, expected, "addresses");
    ping(&containers[0], "10.0.0.103".parse()?, 1400)?;
    ping(&containers[7], "10.0.0.5".parse()?, 1400)?;
    // The second is full, and says so in a way that programs understand.
    let more = lab.quiet_host("more")?;
    let params = attach("more", &more.path(), range("10.0.0.100", "10.0.0.103"));
    match Plugin::of(&h2.daemon)?.say("attachment.add", params, &[more.netns().as_fd()]) {
        Err(ClientError::Refused(error)) => {
            ensure_eq!(error.code, Code::Exhausted, "code of {}", error.message);
            ensure!(error.message.contains("10.0.0.100 to 10.0.0.103"), "{}", error.message);
        }
        other => return Err(Failure::new(format!("a full pool gives {other:?}"))),
    }
    ensure!(more.netlink().link("eth0")?.is_none(), "an interface without an address");
    Ok(())
}

/// Who makes the interface itself learns first what it will be, and nobody else gets that.
pub(super) fn handed_over_as_planned(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&daemon)?;
    let (c1, c2) = (lab.quiet_host("c1")?, lab.quiet_host("c2")?);
    let params = attach("c1", &c1.path(), json!({"port": {"name": "web"}}));
    let plan = plugin.say("attachment.plan", params.clone(), &[])?;
    ensure_eq!((&plan["name"], &plan["addresses"]), (&json!("web"), &json!(["10.0.0.2/24"])), "the plan");
    ensure_eq!(plugin.used()?, 1, "addresses used or held");
    ensure_eq!(plugin.say("attachment.plan", params.clone(), &[])?, plan, "planned again");
    let other = plugin.add("c2", &c2, json!({"port": {"name": "web"}}))?;
    ensure_eq!(
        (&other["name"], &other["addresses"]),
        (&json!("web-2"), &json!(["10.0.0.3/24"])),
        "another one meanwhile"
    );

    let mac: vswitch_api::Mac = plan["mac"].as_str().context("no MAC")?.parse()?;
    let interface = InterfaceSpec {
        name: "eth0".to_owned(),
        mac: mac.octets(),
        mtu: u16::try_from(plan["mtu"].as_u64().context("no MTU")?)?,
        addresses: vec!["10.0.0.2/24".parse()?],
        gateways: Vec::new(),
        mark: plan["mark"].as_str().context("no mark")?.to_owned(),
    };
    let tap = interface.create(c1.netns(), 1)?;
    let queues: Vec<_> = tap.queues().iter().map(AsFd::as_fd).collect();
    let port = plugin.say("attachment.add", params, &queues)?["port"].take();
    ensure_eq!((&port["name"], &port["addresses"]), (&json!("web"), &json!(["10.0.0.2/24"])), "as planned");
    ensure_eq!(
        (&port["mac"], &port["attachment"]["seen"]),
        (&plan["mac"], &json!(true)),
        "its address, and whether its name is seen"
    );
    drop(tap);
    ping(&c1, "10.0.0.3".parse()?, 1000)?;
    ensure_eq!(plugin.used()?, 2, "addresses used");
    // Reaped as any other.
    drop(c1);
    plugin.wait_for("c2 up")
}

pub(super) fn a_takeover_keeps_them(lab: &Lab) -> Result {
    let (host, daemon) = daemon(lab)?;
    let mut plugin = Plugin::of(&daemon)?;
    let [a, b, gone] = ["a", "b", "gone"].map(|name| lab.quiet_host(name));
    let (a, b, gone) = (a?, b?, gone?);
    plugin.add("a", &a, json!({}))?;
    plugin.add("b", &b, json!({"port": {"netns": "/run/netns/unseen"}}))?;
    plugin.add("gone", &gone, json!({"port": {"attachment": {"delegated": true}}}))?;
    let last = lab.quiet_host("last")?;
    plugin.add("last", &last, json!({}))?;
    plugin.del("last")?;
    drop(gone);
    plugin.wait_for("a up, b up, gone lost")?;
    let before = plugin.ask("attachment.list", json!({}))?;
    let daemon = daemon.taken_over(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&daemon)?;
    ensure_eq!(plugin.ask("attachment.list", json!({}))?, before, "attachments after a takeover");
    ping(&a, "10.0.0.3".parse()?, 1000)?;
    // 10.0.0.5 was freed just before: it rests still.
    ensure_eq!(plugin.add("last", &last, json!({}))?["addresses"], json!(["10.0.0.6/24"]), "the next address");
    drop((a, b));
    plugin.wait_for("b lost, gone lost, last up")?;
    Ok(())
}

/// The host's own port, as a gateway is one: its namespace means the same at every start.
pub(super) fn the_daemons_own_namespace(lab: &Lab) -> Result {
    let (host, mut daemon) = daemon(lab)?;
    let c1 = lab.quiet_host("c1")?;
    let own = "port add gateway:net --netns /proc/self/ns/net --ifname vsw-net --address 10.0.0.1/24 --access 10";
    daemon.vsctl().ok(own)?;
    Plugin::of(&daemon)?.add("c1", &c1, json!({}))?;
    ping(&c1, "10.0.0.1".parse()?, 1000)?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        daemon.end(signal)?;
        daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
        ensure_eq!(daemon.vsctl().ok("status")?["ports_lost"], 0, "lost ports after {signal}");
        ping(&c1, "10.0.0.1".parse()?, 1000)?;
    }
    // Deleted by somebody: it comes back.
    host.netlink().delete_link(host.link("vsw-net")?.index)?;
    eventually(SOON, "the gateway is back", || {
        ensure_eq!(daemon.vsctl().ok("port show gateway:net")?["state"], "up", "state");
        ping(&c1, "10.0.0.1".parse()?, 1000)
    })
}
