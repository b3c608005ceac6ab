use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use netns_tests::traffic::ping::ping;
use netns_tests::{
    Context, Daemon, DaemonSpec, Failure, Host, Lab, Node, Result, SOON, ServiceManager, ensure, ensure_eq, eventually,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use vswitch_api::{Client, ClientError, Code, Request};
use vswitch_sys::{InterfaceSpec, fdpass};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("a_namespace_without_a_name", a_namespace_without_a_name),
    ("reaped_with_its_container", reaped_with_its_container),
    ("reaped_at_the_next_start", reaped_at_the_next_start),
    ("what_cannot_be_seen_is_not_gone", what_cannot_be_seen_is_not_gone),
    ("another_folder_tells_nothing", another_folder_tells_nothing),
    ("a_reboot_ends_all", a_reboot_ends_all),
    ("deleted_without_a_descriptor_left", deleted_without_a_descriptor_left),
    ("a_thousand_at_once", a_thousand_at_once),
    ("two_hosts_share_a_subnet", two_hosts_share_a_subnet),
    ("a_takeover_keeps_them", a_takeover_keeps_them),
    ("what_fails_leaves_nothing", what_fails_leaves_nothing),
    ("what_fails_leaves_what_was_lost", what_fails_leaves_what_was_lost),
    ("planned_with_the_address_of_the_dead", planned_with_the_address_of_the_dead),
    ("nothing_is_looked_for_that_was_never_made", nothing_is_looked_for_that_was_never_made),
    ("what_is_refused", what_is_refused),
    ("handed_over_as_planned", handed_over_as_planned),
    ("nothing_of_the_dead_is_kept", nothing_of_the_dead_is_kept),
    ("the_daemons_own_namespace", the_daemons_own_namespace),
    ("shown_by_vsctl", shown_by_vsctl),
];

/// An answer, or why there is none.
type Said = std::result::Result<Value, ClientError>;

/// A container runtime's plugin, as the daemon sees it.
struct Plugin(Client);

impl Plugin {
    fn of(daemon: &Daemon) -> Result<Self> {
        Ok(Self(Client::connect(daemon.socket(), SOON)?))
    }

    /// The answer to `method`, or the refusal; `fds` go along.
    fn say(&mut self, method: &str, params: Value, fds: &[BorrowedFd<'_>]) -> Said {
        let request = Request::decode(method, params).map_err(ClientError::Refused)?;
        self.0.call_sending(&request, |stream, bytes| fdpass::send(stream, bytes, fds))
    }

    /// Attaches `container`, whose namespace `host` goes along; `more` is merged into the request.
    fn add(&mut self, container: &str, host: &Host, more: Value) -> Result<Value> {
        Ok(self.say("attachment.add", attach(container, &host.path(), more), &[host.netns().as_fd()])?["port"].take())
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        Ok(self.say(method, params, &[])?)
    }

    fn del(&mut self, container: &str) -> Result<Value> {
        Ok(self.ask("attachment.del", json!({"container": container, "ifname": "eth0"}))?["port"].take())
    }

    /// How many addresses of the pool are used.
    fn used(&mut self) -> Result<Value> {
        Ok(self.ask("pool.show", json!({"vlan": 10, "pools": [{"subnet": SUBNET}]}))?[0]["used"].take())
    }

    /// Each attachment with its state.
    fn list(&mut self) -> Result<String> {
        let all = self.ask("attachment.list", json!({}))?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = all.as_array().into_iter().flatten();
        Ok(all.map(|one| word(&one["container"]) + " " + &word(&one["state"])).collect::<Vec<_>>().join(", "))
    }

    /// Waits until [`Self::list`] is this.
    fn wait_for(&mut self, list: &str) -> Result {
        eventually(SOON, "attachments are as they should be", || {
            ensure_eq!(self.list()?, list, "attachments");
            Ok(())
        })
    }
}

const SUBNET: &str = "10.0.0.0/24";

/// `attachment.add` of a port in VLAN 10 with an address from [`SUBNET`].
fn attach(container: &str, netns: &Path, more: Value) -> Value {
    let mut params = json!({
        "port": {
            "name": format!("{container}:eth0"), "netns": netns, "access": 10,
            "attachment": {"network": "net", "container": container},
        },
        "pools": [{"subnet": SUBNET}],
    });
    merge(&mut params, more);
    params
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, more) => *into = more,
    }
}

fn daemon(lab: &Lab) -> Result<(Host, Daemon)> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    Ok((host, daemon))
}

/// A name by which the daemon finds the namespace of `host`, and which can go.
fn named(lab: &Lab, name: &str, host: &Host) -> Result<std::path::PathBuf> {
    let path = lab.folder("names")?.join(name);
    symlink(host.path(), &path)?;
    Ok(path)
}

/// The daemon makes the interface in what it was given, and its name for it means nothing.
fn a_namespace_without_a_name(lab: &Lab) -> Result {
    let (_host, daemon) = daemon(lab)?;
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
    let daemon = Daemon::start(lab, &_host, &DaemonSpec::default())?;
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

fn shown_by_vsctl(lab: &Lab) -> Result {
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

fn reaped_with_its_container(lab: &Lab) -> Result {
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

fn reaped_at_the_next_start(lab: &Lab) -> Result {
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

fn what_cannot_be_seen_is_not_gone(lab: &Lab) -> Result {
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
fn another_folder_tells_nothing(lab: &Lab) -> Result {
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

/// What the kernel says.
fn boot() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

fn a_reboot_ends_all(lab: &Lab) -> Result {
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

/// Of two copies that a deletion takes at most one can be made: the port goes all the same, and its number with it.
fn deleted_without_a_descriptor_left(lab: &Lab) -> Result {
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

/// 16 clients attach 1,000 interfaces, and the daemon is killed in the middle: no address is given twice, and each that
/// was acknowledged is there.
fn a_thousand_at_once(lab: &Lab) -> Result {
    const CLIENTS: usize = 16;
    const ALL: usize = 1000;
    let (host, first) = daemon(lab)?;
    let containers = (0..8).map(|number| lab.quiet_host(&format!("c{number}"))).collect::<Result<Vec<_>>>()?;
    let (next, socket) = (AtomicUsize::new(0), first.socket().to_owned());
    let namespaces: Vec<_> = containers.iter().map(|container| (container.netns(), container.path())).collect();
    // One client's work: what was acknowledged, until all is done or nobody answers.
    let work = || {
        let mut given = BTreeMap::new();
        let mut plugin = Plugin(Client::connect(&socket, SOON)?);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= ALL {
                return Ok::<_, Failure>(given);
            }
            let (netns, path) = &namespaces[number % namespaces.len()];
            let more = json!({"port": {"ifname": format!("e{number}")}, "pools": [{"subnet": "10.0.0.0/20"}]});
            let params = attach(&format!("c{number}"), path, more);
            match plugin.say("attachment.add", params, &[netns.as_fd()]) {
                Ok(answer) => given.insert(number, answer["port"]["addresses"].clone()),
                Err(ClientError::Refused(error)) => return Err(Failure::new(error.message)),
                Err(_) => return Ok(given), // it was killed
            };
        }
    };
    let crowd = |killed: Option<u32>| {
        thread::scope(|scope| {
            let all: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
            if let Some(pid) = killed {
                eventually(SOON * 3, "half of them are asked for", || {
                    ensure!(next.load(Ordering::Relaxed) > ALL / 2, "they are not");
                    Ok(())
                })?;
                kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
            }
            let mut given = BTreeMap::new();
            for one in all {
                given.extend(one.join().map_err(|_| Failure::new("a client panicked"))??);
            }
            Ok::<_, Failure>(given)
        })
    };
    let start = Instant::now();
    let mut given = crowd(Some(first.pid()))?;
    let (half, took) = (given.len(), start.elapsed());
    drop(first);
    let second = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&second)?;
    let check = |plugin: &mut Plugin, given: &BTreeMap<usize, Value>| {
        let list = plugin.ask("attachment.list", json!({}))?;
        let list = list.as_array().context("no list")?;
        let mut found = BTreeMap::new();
        for one in list {
            let number: usize = one["container"].as_str().unwrap_or_default().trim_start_matches('c').parse()?;
            ensure_eq!(one["state"], "up", "state of {number}");
            found.insert(number, one["addresses"].clone());
        }
        for (number, address) in given {
            ensure_eq!(found.get(number), Some(address), "address of {number}");
        }
        let each: BTreeSet<_> = found.values().map(Value::to_string).collect();
        ensure_eq!(each.len(), list.len(), "addresses, each of one attachment");
        Ok(list.len())
    };
    let there = check(&mut plugin, &given)?;
    ensure!(half > 0 && there <= half + CLIENTS, "{there} are there and {half} were acknowledged");
    let again = Instant::now();
    given.extend(crowd(None)?);
    println!(
        "{half} attached by {CLIENTS} clients in {took:?}, SIGKILL, {} more in {:?}",
        given.len() - half,
        again.elapsed()
    );
    check(&mut plugin, &given)?;
    // Each is where it belongs, with its address and no other.
    for (number, addresses) in given.iter().step_by(97) {
        let inside = &containers[number % containers.len()];
        let index = inside.link(&format!("e{number}"))?.index;
        let own = inside.netlink().addresses()?.into_iter().filter(|(at, _)| *at == index);
        let own: Vec<_> = own.map(|(_, net)| net.to_string()).collect();
        ensure_eq!(&json!(own), addresses, "addresses of e{number} in its namespace");
    }
    Ok(())
}

fn two_hosts_share_a_subnet(lab: &Lab) -> Result {
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

fn a_takeover_keeps_them(lab: &Lab) -> Result {
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

fn what_fails_leaves_nothing(lab: &Lab) -> Result {
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
fn what_fails_leaves_what_was_lost(lab: &Lab) -> Result {
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

/// Who plans is told of the dead as who attaches is.
fn planned_with_the_address_of_the_dead(lab: &Lab) -> Result {
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

fn nothing_is_looked_for_that_was_never_made(lab: &Lab) -> Result {
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

fn what_is_refused(lab: &Lab) -> Result {
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

/// Who makes the interface itself learns first what it will be, and nobody else gets that.
fn handed_over_as_planned(lab: &Lab) -> Result {
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

fn nothing_of_the_dead_is_kept(lab: &Lab) -> Result {
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

/// The host's own port, as a gateway is one: its namespace means the same at every start.
fn the_daemons_own_namespace(lab: &Lab) -> Result {
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
