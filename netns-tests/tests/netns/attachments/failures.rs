//! What fails or is refused: nothing is left of it, and nothing else is lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd as _;
use std::process::Command;

use netns_tests::traffic::ping::ping;
use netns_tests::{Context, Daemon, DaemonSpec, Failure, Lab, Result, SOON, ensure, ensure_eq, eventually};
use serde_json::{Value, json};
use vswitch_api::ClientError;

use super::{Plugin, SUBNET, attach, daemon};

/// Of two copies that a deletion takes at most one can be made: the port goes all the same, and its number with it.
pub(super) fn deleted_without_a_descriptor_left(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let config = "workers = 2\n".to_owned();
    let daemon = Daemon::start(lab, &host, &DaemonSpec { config, ..DaemonSpec::default() })?;
    let mut plugin = Plugin::of(&daemon)?;
    let [gone, stays, new] = ["gone", "stays", "new"].map(|name| lab.quiet_host(name));
    let (gone, stays, new) = (gone?, stays?, new?);
    plugin.add("gone", &gone, json!({}))?;
    plugin.add("stays", &stays, json!({}))?;
    ping(&gone, "10.0.0.3".parse()?, 56)?;
    let limit = |descriptors: usize| {
        let pid = daemon.pid().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={descriptors}:")]).status()?;
        ensure!(status.success(), "prlimit (util-linux) says {status}");
        Ok::<_, Failure>(())
    };
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?;
    let open: BTreeSet<usize> =
        open.map(|entry| Ok::<_, Failure>(entry?.file_name().to_string_lossy().parse()?)).collect::<Result<_>>()?;
    let free = (0..).find(|number| !open.contains(number)).context("all numbers are used")?;
    limit(free + 1)?; // the state takes it
    let deleted = plugin.del("gone");
    limit(1024)?;
    ensure_eq!(deleted?["name"], "gone:eth0", "what is deleted");
    ensure_eq!(plugin.list()?, "stays up", "attachments");
    eventually(SOON, "its interface goes", || {
        ensure!(gone.netlink().link("eth0")?.is_none(), "it is there");
        Ok(())
    })?;
    plugin.add("new", &new, json!({}))?;
    ping(&new, "10.0.0.3".parse()?, 1000)
}

pub(super) fn what_fails_leaves_nothing(lab: &Lab) -> Result {
    let (_host, daemon) = daemon(lab)?;
    let mut plugin = Plugin::of(&daemon)?;
    let (c1, taken) = (lab.quiet_host("c1")?, lab.quiet_host("taken")?);
    plugin.add("c1", &c1, json!({}))?;
    taken.netlink().add_bridge("eth0")?;
    let state = lab.folder("h1")?.join("state/state.json");
    let before = (daemon.vsctl().everything()?, fs::read_to_string(&state)?);
    let params = |more| attach("c2", &taken.path(), more);
    // A name that is taken in the namespace, and a gateway that the kernel does not take.
    let table = [
        (json!({"vni": 700, "port": {"access": 70}}), "eth0"),
        (json!({"vni": 700, "port": {"access": 70, "ifname": "e1", "gateway": "fe80::1"}}), "fe80::1"),
    ];
    for (more, part) in table {
        let said = plugin.say("attachment.add", params(more), &[taken.netns().as_fd()]).err();
        let said = said.context("it was done")?.to_string();
        ensure!(said.contains(part), "{part:?} is not in: {said}");
        ensure_eq!(daemon.vsctl().everything()?, before.0, "everything after what was refused");
        ensure_eq!(fs::read_to_string(&state)?, before.1, "the state on disk");
        ensure_eq!(taken.netlink().links()?.len(), 2, "interfaces in the namespace");
        ensure_eq!(plugin.used()?, 1, "addresses used");
    }
    fs::remove_file(&state)?;
    fs::create_dir(&state)?;
    let more = json!({"vni": 700, "port": {"access": 70, "ifname": "e1"}});
    let said = plugin.say("attachment.add", params(more.clone()), &[taken.netns().as_fd()]).err();
    let said = said.context("it was done")?.to_string();
    ensure!(said.contains("state.json") && said.contains("--state-dir"), "{said}");
    ensure_eq!(daemon.vsctl().everything()?, before.0, "everything after a state that cannot be saved");
    ensure_eq!(taken.netlink().links()?.len(), 2, "interfaces in the namespace");
    fs::remove_dir(&state)?;
    // And the way is free.
    let port = plugin.say("attachment.add", params(more), &[taken.netns().as_fd()])?["port"].take();
    ensure_eq!(
        (&port["name"], &port["addresses"]),
        (&json!("c2:eth0"), &json!(["10.0.0.2/24"])),
        "the port in the end"
    );
    ensure_eq!(daemon.vsctl().ok("vlan list")?[1]["vni"], 700, "VNI of VLAN 70");
    Ok(())
}

/// An attachment that is lost knows whose its addresses are: it goes when another takes its place, and not before.
pub(super) fn what_fails_leaves_what_was_lost(lab: &Lab) -> Result {
    let (_host, daemon) = daemon(lab)?;
    let mut plugin = Plugin::of(&daemon)?;
    let state = lab.folder("h1")?.join("state/state.json");
    let (gone, alive, taken) = (lab.quiet_host("gone")?, lab.quiet_host("alive")?, lab.quiet_host("taken")?);
    let theirs = json!({"pools": [], "port": {"address": "10.0.0.200/24", "attachment": {"delegated": true}}});
    plugin.add("gone", &gone, theirs.clone())?;
    plugin.add("alive", &alive, json!({}))?;
    daemon.vsctl().ok("fdb add 02:00:00:00:00:99 --vlan 10 --port gone:eth0")?;
    ping(&alive, "10.0.0.200".parse()?, 56)?;
    drop(gone);
    plugin.wait_for("alive up, gone lost")?;
    let row = || daemon.vsctl().ok("stats gone:eth0");
    let everything = |plugin: &mut Plugin| -> Result<_> {
        let files = fs::read_to_string(&state)?;
        Ok((daemon.vsctl().ok("port list")?, row()?, plugin.ask("attachment.list", json!({}))?, files))
    };
    let before = everything(&mut plugin)?;
    ensure!(before.1[0]["rx_frames"].as_u64() > Some(0), "nothing was counted");
    taken.netlink().add_bridge("eth0")?;
    for name in ["gone:eth0", "other"] {
        let mut params = theirs.clone();
        params["port"]["name"] = json!(name);
        let refused = plugin.add("gone", &taken, params).err().context("it was done")?.to_string();
        ensure!(refused.contains("eth0"), "{refused}");
        ensure_eq!(everything(&mut plugin)?, before, "everything after what was refused");
    }
    let away = state.with_file_name("away");
    fs::rename(&state, &away)?;
    fs::create_dir(&state)?;
    let next = lab.quiet_host("next")?;
    let refused = plugin.add("gone", &next, theirs.clone()).err().context("it was done")?.to_string();
    ensure!(refused.contains("state.json"), "{refused}");
    fs::remove_dir(&state)?;
    fs::rename(&away, &state)?;
    ensure_eq!(everything(&mut plugin)?, before, "everything after a state that cannot be saved");
    ensure!(next.netlink().link("eth0")?.is_none(), "an interface stayed");

    let port = plugin.add("gone", &next, theirs)?;
    ensure_eq!((&port["name"], &port["state"]), (&json!("gone:eth0"), &json!("up")), "attached in the end");
    ensure_eq!(row()?[0]["rx_frames"], 0, "it begins to count anew");
    ping(&alive, "10.0.0.200".parse()?, 56)?;
    plugin.wait_for("alive up, gone up")
}

pub(super) fn nothing_is_looked_for_that_was_never_made(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let args = vec!["--no-enter-namespaces".to_owned()];
    let daemon = Daemon::start(lab, &host, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let c1 = lab.quiet_host("c1")?;
    let refused = Plugin::of(&daemon)?.add("c1", &c1, json!({})).err().context("it was done")?.to_string();
    ensure!(refused.contains("hands over port c1:eth0"), "{refused}");
    let log = daemon.log()?;
    ensure!(
        !log.contains("WARN") && !log.contains("ERROR"),
        "what it says of an attachment that it may not make: {log}"
    );
    Ok(())
}

pub(super) fn what_is_refused(lab: &Lab) -> Result {
    let (_host, daemon) = daemon(lab)?;
    let mut plugin = Plugin::of(&daemon)?;
    let (c1, free) = (lab.quiet_host("c1")?, lab.quiet_host("free")?);
    plugin.add("c1", &c1, json!({"vni": 100}))?;
    let before = (daemon.vsctl().everything()?, plugin.ask("attachment.list", json!({}))?);
    let with = |more| attach("c2", &free.path(), more);
    let bare = |params: Value| params;
    #[rustfmt::skip]
    let table = [
        ("attachment.add", with(json!({"port": {"attachment": null}})), "network and container"),
        ("attachment.add", with(json!({"port": {"attachment": {"container": "c1"}}})), "there already"),
        ("attachment.add", with(json!({"port": {"attachment": {"container": "../c"}}})), "ID of a container"),
        ("attachment.add", with(json!({"port": {"attachment": {"network": ""}}})), "name of a network"),
        ("attachment.add", with(json!({"port": {"address": "10.0.0.2/24"}})), "port c1:eth0"),
        ("attachment.add", with(json!({"port": {"address": "10.0.0.1/24"}})), "without the gateway"),
        ("attachment.add", with(json!({"port": {"address": "10.0.1.1/24"}})), "10.0.0.1 to 10.0.0.254"),
        ("attachment.add", with(json!({"port": {"access": null, "trunk": "7"}})), "native"),
        ("attachment.add", with(json!({"vni": 101})), "VNI 100"),
        ("attachment.add", with(json!({"vni": 16_777_216})), "1 to 16777215"),
        ("attachment.add", with(json!({"pools": [{"subnet": "10.0.0.9/24"}]})), "10.0.0.0/24"),
        ("attachment.add", with(json!({"pools": [{"subnet": SUBNET, "first": "10.9.0.1"}]})), "10.0.0.254"),
        ("attachment.add", with(json!({"pools": [{"subnet": SUBNET, "colour": 1}]})), "colour"),
        ("attachment.add", with(json!({"pools": 7})), "sequence"),
        ("attachment.add", with(json!({"port": {"netns": "/nowhere/ns"}})), "/nowhere/ns"),
        ("attachment.add", with(json!({"port": {"name": "tunnel"}})), "tunnel"),
        ("attachment.plan", with(json!({"pools": [{"subnet": "ff00::/64"}]})), "multicast"),
        ("attachment.del", bare(json!({"container": "c1"})), "ifname"),
        ("attachment.del", bare(json!({"container": "c1", "ifname": "a b"})), "1 to 15"),
        ("attachment.del", bare(json!({"container": "", "ifname": "eth0"})), "ID of a container"),
        ("attachment.list", bare(json!({"network": "a/b"})), "name of a network"),
        ("attachment.list", bare(json!({"container": "c1"})), "container"),
        ("port.add", bare(json!({"name": "g", "netns": "/proc/self/ns/net", "gateway-of": "another"})), "no container on this host"),
        ("pool.show", bare(json!({"vlan": 0, "pools": []})), "1 to 4094"),
        ("pool.show", bare(json!({"vlan": 1, "pools": vec![json!({"subnet": SUBNET}); 65]})), "at most 64"),
        ("pool.show", bare(json!({"vlan": 1, "pools": [{"subnet": SUBNET, "first": "10.0.0.9", "last": "10.0.0.8"}]})), "backwards"),
    ];
    for (method, params, part) in table {
        let fine = format!("{method} {params} was done");
        let said = plugin.say(method, params.clone(), &[]).err().context(fine)?;
        ensure!(said.to_string().contains(part), "{method} {params}: {part:?} is not in: {said}");
        ensure!(matches!(said, ClientError::Refused(_)), "{method} {params}: {said:?}");
    }
    // Descriptors that are neither a namespace nor queues, and too many.
    let null = fs::File::open("/dev/null")?;
    let (ns, other) = (free.netns().as_fd(), null.as_fd());
    for fds in [&[other][..], &[ns, ns], &[ns, other]] {
        for method in ["attachment.add", "port.add"] {
            let mut params = with(json!({}));
            let params = if method == "port.add" { params["port"].take() } else { params };
            let said = plugin.say(method, params, fds).err().context("such descriptors were taken")?.to_string();
            ensure!(said.contains("/dev/net/tun") || said.contains("queues"), "{method} with {fds:?}: {said}");
        }
    }
    // A port without attachment is opened by its name at the next start: the name must lead there.
    let port = json!({"name": "p", "netns": c1.path(), "ifname": "e9"});
    let said = plugin.say("port.add", port, &[free.netns().as_fd()]).err().context("it was added")?.to_string();
    ensure!(said.contains("another namespace"), "{said}");
    ensure_eq!((daemon.vsctl().everything()?, plugin.ask("attachment.list", json!({}))?), before, "everything");
    ensure!(free.netlink().link("eth0")?.is_none(), "an interface came of it");
    // Where it does, a descriptor is as good.
    plugin.say("port.add", json!({"name": "p", "netns": free.path()}), &[ns])?;
    ensure!(free.netlink().link("eth0")?.is_some(), "the port of a namespace by descriptor");
    Ok(())
}
