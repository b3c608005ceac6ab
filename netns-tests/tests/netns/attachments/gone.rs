//! What becomes of an attachment when its container is gone, and when that only seems so.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use netns_tests::traffic::ping::ping;
use netns_tests::{
    Context, Daemon, DaemonSpec, Failure, Lab, Result, SOON, ServiceManager, ensure, ensure_eq, eventually,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Plugin, attach, boot, daemon, named};

pub(super) fn reaped_with_its_container(lab: &Lab) -> Result {
    let (_host, daemon) = daemon(lab)?;
    let mut plugin = Plugin::of(&daemon)?;
    let [own, delegated, alive] = ["own", "delegated", "alive"].map(|name| lab.quiet_host(name));
    let (own, delegated, alive) = (own?, delegated?, alive?);
    plugin.add("own", &own, json!({}))?;
    let theirs = json!({"pools": [], "port": {"address": "10.0.0.200/24", "attachment": {"delegated": true}}});
    plugin.add("delegated", &delegated, theirs.clone())?;
    plugin.add("alive", &alive, json!({}))?;
    daemon.vsctl().ok("fdb add 02:00:00:00:00:99 --vlan 10 --port own:eth0")?;
    ping(&own, "10.0.0.3".parse()?, 56)?;
    ping(&alive, "10.0.0.200".parse()?, 56)?;
    ensure_eq!(plugin.used()?, 3, "addresses used");
    let before = daemon.vsctl().ok("fdb list")?;
    ensure_eq!(before.as_array().map(Vec::len), Some(4), "addresses of stations, one of them static");
    ensure!(daemon.vsctl().ok("stats own:eth0")?[0]["rx_frames"].as_u64() > Some(0), "nothing was counted");

    drop(own);
    drop(delegated);
    plugin.wait_for("alive up, delegated lost")?;
    let names = |list: Value, key: &str| {
        let names = list.as_array().into_iter().flatten().map(|one| one[key].as_str().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    ensure_eq!(names(daemon.vsctl().ok("port list")?, "name"), "alive:eth0 delegated:eth0", "ports");
    ensure_eq!(names(daemon.vsctl().ok("fdb list")?, "port"), "alive:eth0", "ports with stations");
    ensure_eq!(names(daemon.vsctl().ok("stats")?, "port"), "alive:eth0 delegated:eth0 tunnel", "ports with counters");
    ensure_eq!(plugin.used()?, 2, "addresses used");
    let info = plugin.ask("attachment.list", json!({"network": "net"}))?;
    ensure_eq!(
        (&info[1]["delegated"], &info[1]["addresses"]),
        (&json!(true), &json!(["10.0.0.200/24"])),
        "what is told"
    );
    ensure_eq!(
        plugin.ask("attachment.list", json!({"network": "another"}))?,
        json!([]),
        "attachments of another network"
    );

    // What was lost is replaced, under its own name; what is up is not.
    let again = lab.quiet_host("again")?;
    let port = plugin.add("delegated", &again, theirs.clone())?;
    ensure_eq!((&port["name"], &port["state"]), (&json!("delegated:eth0"), &json!("up")), "attached again");
    ping(&alive, "10.0.0.200".parse()?, 56)?;
    let refused = plugin.add("delegated", &again, theirs.clone()).err().context("attached twice")?.to_string();
    ensure!(refused.contains("there already"), "{refused}");
    // Who tidies up by an old list takes nothing from those who are back.
    let only_lost = |container: &str| json!({"container": container, "ifname": "eth0", "lost": true});
    for container in ["delegated", "alive", "nobody"] {
        ensure_eq!(plugin.ask("attachment.del", only_lost(container))?["port"], Value::Null, "{container} is not lost");
    }
    plugin.wait_for("alive up, delegated up")?;
    ping(&alive, "10.0.0.200".parse()?, 56)?;
    drop(again);
    plugin.wait_for("alive up, delegated lost")?;
    let wrong = json!({"container": "delegated", "ifname": "eth0", "network": "another", "lost": true});
    ensure_eq!(plugin.ask("attachment.del", wrong)?["port"], Value::Null, "of another network");
    ensure_eq!(
        plugin.ask("attachment.del", only_lost("delegated"))?["port"]["state"],
        "lost",
        "what is deleted because it is lost"
    );
    let more = lab.quiet_host("more")?;
    plugin.add("delegated", &more, theirs)?;
    drop(more);
    plugin.wait_for("alive up, delegated lost")?;
    ensure_eq!(plugin.del("delegated")?["name"], "delegated:eth0", "what is deleted");
    ensure_eq!(plugin.del("delegated")?, Value::Null, "deleted twice");
    ensure_eq!(plugin.list()?, "alive up", "attachments");
    // Addresses of the dead are free, and rest while others are.
    let next = lab.quiet_host("next")?;
    ensure_eq!(plugin.add("next", &next, json!({}))?["addresses"], json!(["10.0.0.4/24"]), "the next address");
    Ok(())
}

pub(super) fn reaped_at_the_next_start(lab: &Lab) -> Result {
    let (host, mut daemon) = daemon(lab)?;
    for (round, signal) in [Signal::SIGTERM, Signal::SIGKILL].into_iter().enumerate() {
        let mut plugin = Plugin::of(&daemon)?;
        let container = |name: &str| lab.quiet_host(&format!("{name}{round}"));
        let (stays, gone, reused, theirs) = (container("a")?, container("b")?, container("c")?, container("d")?);
        let names = [("a", &stays), ("b", &gone), ("c", &reused), ("d", &theirs)];
        let mut paths = BTreeMap::new();
        for (name, host) in names {
            let path = named(lab, &format!("{name}{round}"), host)?;
            let delegated = json!({"port": {"netns": path, "attachment": {"delegated": name == "d"}}});
            let port = plugin.add(name, host, delegated)?;
            ensure_eq!(port["attachment"]["seen"], true, "whether the daemon follows the name of {name}");
            paths.insert(name, path);
        }
        let before = plugin.ask("attachment.list", json!({}))?[0].clone();
        daemon.end(signal)?;
        for name in ["b", "c", "d"] {
            fs::remove_file(&paths[name])?;
        }
        let other = container("other")?;
        symlink(other.path(), &paths["c"])?; // as after a reboot, when names are given again
        daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
        let mut plugin = Plugin::of(&daemon)?;
        ensure_eq!(plugin.list()?, "a up, d lost", "attachments after {signal}");
        ensure_eq!(plugin.ask("attachment.list", json!({}))?[0], before, "the one whose container lives");
        ensure!(other.netlink().link("eth0")?.is_none(), "an interface in another's namespace");
        ensure_eq!(plugin.used()?, 2, "addresses used");
        // What was lost at the start does not come to another's namespace later either.
        symlink(other.path(), &paths["d"])?;
        ensure_eq!(plugin.list()?, "a up, d lost", "attachments whose name is another's");
        plugin.del("d")?;
        // After a crash the daemon's own descriptors keep a namespace alive: the name tells.
        fs::remove_file(&paths["a"])?;
        drop(stays);
        plugin.wait_for("")?;
    }
    Ok(())
}

pub(super) fn what_cannot_be_seen_is_not_gone(lab: &Lab) -> Result {
    let (host, daemon) = daemon(lab)?;
    let c1 = lab.quiet_host("c1")?;
    let path = named(lab, "c1", &c1)?;
    Plugin::of(&daemon)?.add("c1", &c1, json!({"port": {"netns": path}}))?;
    daemon.end(Signal::SIGTERM)?;
    // A daemon that is started without the runtime's folder sees none of its names.
    let (folder, away) = (lab.folder("names")?, lab.folder("h1")?.join("away"));
    fs::rename(&folder, &away)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&daemon)?;
    ensure_eq!(plugin.list()?, "c1 lost", "attachments without a view of names");
    ensure_eq!(plugin.used()?, 1, "addresses used");
    ensure!(c1.netlink().link("eth0")?.is_some(), "the container's interface went");
    // Once names are seen again, and by nobody's doing.
    fs::rename(away, folder)?;
    plugin.wait_for("c1 up")?;
    ping(&c1, "10.0.0.2".parse()?, 56)
}

/// As in another mount namespace, where a folder of that name is there and empty, or has others' names.
pub(super) fn another_folder_tells_nothing(lab: &Lab) -> Result {
    let (host, daemon) = daemon(lab)?;
    let [c1, c2, other] = ["c1", "c2", "other"].map(|name| lab.quiet_host(name));
    let (c1, c2, other) = (c1?, c2?, other?);
    for (name, container) in [("c1", &c1), ("c2", &c2)] {
        let path = named(lab, name, container)?;
        Plugin::of(&daemon)?.add(name, container, json!({"port": {"netns": path}}))?;
    }
    // Looks at them as it does twice a second, and before it refuses.
    let look = |plugin: &mut Plugin, list: &str| {
        let taken = json!({"port": {"name": "c2:eth0", "address": "10.0.0.2/24"}});
        let said = plugin.add("c3", &other, taken).err().context("an address was given twice")?.to_string();
        ensure!(said.contains("10.0.0.2"), "{said}");
        ensure_eq!(plugin.list()?, list, "attachments");
        ensure_eq!(plugin.used()?, 2, "addresses used");
        ensure!(other.netlink().link("eth0")?.is_none(), "an interface in another's namespace");
        Ok::<_, Failure>(())
    };
    let (folder, away) = (lab.folder("names")?, lab.folder("h1")?.join("away"));
    let hide = || {
        fs::rename(&folder, &away)?;
        fs::create_dir(&folder)?;
        symlink(other.path(), folder.join("c2"))
    };
    let show = || fs::remove_dir_all(&folder).and_then(|()| fs::rename(&away, &folder));
    daemon.end(Signal::SIGKILL)?;
    hide()?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&daemon)?;
    look(&mut plugin, "c1 lost, c2 lost")?;
    let log = daemon.log()?;
    ensure!(
        log.contains("vsctl port del c1:eth0") && !log.contains("vsctl port add"),
        "what can be done is not told: {log}"
    );
    show()?;
    plugin.wait_for("c1 up, c2 up")?;
    ping(&c1, "10.0.0.3".parse()?, 56)?;
    // Now that the daemon's own descriptors keep the namespaces alive, it is the name that tells of their end.
    hide()?;
    look(&mut plugin, "c1 up, c2 up")?;
    let daemon = daemon.taken_over(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&daemon)?;
    look(&mut plugin, "c1 up, c2 up")?;
    ping(&c1, "10.0.0.3".parse()?, 56)?;
    show()?;
    fs::remove_file(folder.join("c1"))?;
    plugin.wait_for("c2 up")
}

pub(super) fn a_reboot_ends_all(lab: &Lab) -> Result {
    let (host, daemon) = daemon(lab)?;
    let [seen, unseen, theirs, old] = ["seen", "unseen", "theirs", "old"].map(|name| lab.quiet_host(name));
    let (seen, unseen, theirs, old) = (seen?, unseen?, theirs?, old?);
    let nowhere =
        |delegated: bool| json!({"port": {"netns": "/run/netns/unseen", "attachment": {"delegated": delegated}}});
    let mut plugin = Plugin::of(&daemon)?;
    plugin.add("seen", &seen, json!({"port": {"netns": named(lab, "seen", &seen)?}}))?;
    plugin.add("unseen", &unseen, nowhere(false))?;
    plugin.add("theirs", &theirs, nowhere(true))?;
    plugin.add("old", &old, json!({"port": {"netns": named(lab, "old", &old)?}}))?;
    let state = lab.folder("h1")?.join("state/state.json");
    let rewrite = |change: &dyn Fn(&str, &mut Value)| {
        let mut text: Value = serde_json::from_str(&fs::read_to_string(&state)?)?;
        for port in text["port"].as_array_mut().context("no ports")? {
            let container = port["attachment"]["container"].as_str().context("no container")?.to_owned();
            change(&container, &mut port["attachment"]["sight"]);
        }
        fs::write(&state, text.to_string())?;
        Ok::<_, Failure>(())
    };
    // As a daemon wrote it that did not know: what is there is there, and what it sees it knows from now on.
    daemon.end(Signal::SIGKILL)?;
    rewrite(&|_, sight| *sight = Value::Null)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&daemon)?;
    ensure_eq!(plugin.list()?, "old up, seen up, theirs lost, unseen lost", "attachments of an old state");
    ensure_eq!(plugin.used()?, 4, "addresses used");
    let port = daemon.vsctl().ok("port show seen:eth0")?;
    ensure_eq!(port["attachment"]["sight"]["boot"], boot()?, "boot in which it was seen");
    daemon.end(Signal::SIGKILL)?;
    // Namespaces and names are given again after a reboot: that these are the same tells nothing.
    let another = json!("00000000-0000-4000-8000-000000000001");
    rewrite(&|container, sight| {
        if container != "old" {
            *sight = json!({ "boot": another });
        }
    })?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&daemon)?;
    plugin.wait_for("old up, theirs lost")?;
    ensure_eq!(plugin.used()?, 2, "addresses used");
    Ok(())
}

/// Who plans is told of the dead as who attaches is.
pub(super) fn planned_with_the_address_of_the_dead(lab: &Lab) -> Result {
    let (_host, daemon) = daemon(lab)?;
    let mut plugin = Plugin::of(&daemon)?;
    for method in ["attachment.add", "attachment.plan"] {
        let (c1, c2) = (lab.quiet_host("c1")?, lab.quiet_host("c2")?);
        let path = named(lab, method, &c1)?;
        let wish = json!({"port": {"address": "10.0.0.7/24"}});
        let mut first = wish.clone();
        first["port"]["netns"] = json!(path);
        plugin.add("c1", &c1, first)?;
        // A name that is gone is news to nobody: it is found by looking.
        fs::remove_file(path)?;
        let said = plugin.say(method, attach("c2", &c2.path(), wish), &[])?;
        let addresses = if method == "attachment.add" { &said["port"]["addresses"] } else { &said["addresses"] };
        ensure_eq!(addresses, &json!(["10.0.0.7/24"]), "addresses of {method}");
        plugin.del("c2")?;
        plugin.wait_for("")?;
    }
    Ok(())
}

pub(super) fn nothing_of_the_dead_is_kept(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let manager = ServiceManager::new(lab, "h1")?;
    let spec = DaemonSpec::default();
    let mut daemon = manager.start(lab, &host, &spec, None)?;
    let kept = |name: &str, count: usize| {
        eventually(SOON, "the service manager has heard", || {
            ensure_eq!(manager.count(name), count, "descriptors of {name} that are kept");
            Ok(())
        })
    };
    let mut plugin = Plugin::of(&daemon)?;
    let [alive, dying, unseen] = ["alive", "dying", "unseen"].map(|name| lab.quiet_host(name));
    let (alive, dying, unseen) = (alive?, dying?, unseen?);
    let path = named(lab, "dying", &dying)?;
    plugin.add("alive", &alive, json!({}))?;
    plugin.add("dying", &dying, json!({"port": {"netns": path}}))?;
    plugin.add("unseen", &unseen, json!({"port": {"netns": "/run/netns/unseen"}}))?;
    let gone = lab.quiet_host("gone")?;
    plugin.add("gone", &gone, json!({}))?;
    kept("tap.gone/eth0", 1)?;
    drop(gone);
    plugin.wait_for("alive up, dying up, unseen up")?;
    kept("tap.gone/eth0", 0)?;
    // What is kept needs no name: also a container that the daemon cannot find lives through a restart.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        daemon.end(signal)?;
        daemon = manager.start(lab, &host, &spec, None)?;
        ensure_eq!(Plugin::of(&daemon)?.list()?, "alive up, dying up, unseen up", "attachments after {signal}");
        ping(&alive, "10.0.0.4".parse()?, 56)?;
    }
    daemon.end(Signal::SIGTERM)?;
    drop(dying);
    fs::remove_file(path)?;
    let daemon = manager.start(lab, &host, &spec, None)?;
    let mut plugin = Plugin::of(&daemon)?;
    plugin.wait_for("alive up, unseen up")?;
    kept("tap.dying/eth0", 0)?;
    kept("tap.unseen/eth0", 1)?;
    ping(&alive, "10.0.0.4".parse()?, 56)
}
