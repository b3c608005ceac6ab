use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use netns_tests::{
    Context, Daemon, DaemonSpec, Failure, Host, Lab, Node, Result, SOON, ensure, ensure_eq, eventually, frames, traffic,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("after_sigterm", |lab| restored_after(lab, Signal::SIGTERM)),
    ("after_sigkill", |lab| restored_after(lab, Signal::SIGKILL)),
    ("what_was_deleted_stays_deleted", what_was_deleted_stays_deleted),
    ("state_wins_over_the_config_file", state_wins_over_the_config_file),
    ("a_namespace_gone_at_start", a_namespace_gone_at_start),
    ("a_namespace_gone_while_running", a_namespace_gone_while_running),
    ("a_namespace_with_a_name", a_namespace_with_a_name),
    ("a_name_given_to_another", a_name_given_to_another),
    ("a_damaged_state", a_damaged_state),
    ("a_full_disk", a_full_disk),
    ("a_restart_on_a_full_disk", a_restart_on_a_full_disk),
];

/// Ends the daemon and starts another on the same state.
fn restart(lab: &Lab, node: Node, signal: Signal) -> Result<Node> {
    let Node { daemon, host, ip } = node;
    let status = daemon.end(signal)?;
    if signal == Signal::SIGTERM {
        ensure_eq!(status.code(), Some(0), "exit code after SIGTERM");
    }
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..DaemonSpec::default() })?;
    Ok(Node { daemon, host, ip })
}

/// All that a container sees of its interfaces, but for their numbers: restored ones get others.
fn inside(host: &Host) -> Result<Vec<String>> {
    let netlink = host.netlink();
    let addresses = netlink.addresses()?;
    let links = netlink.links()?.into_iter().map(|link| {
        let own = addresses.iter().filter(|(index, _)| *index == link.index).map(|(_, net)| net.to_string());
        let mut own: Vec<_> = own.filter(|net| !net.starts_with("fe80")).collect();
        own.sort();
        format!("{} {:?} mtu {} up {} {own:?}", link.name, link.mac, link.mtu, link.up)
    });
    Ok(links.collect())
}

/// A name for a namespace that stays the same, whatever it leads to: a descriptor's path is used again for others.
struct Name(PathBuf);

impl Name {
    fn new(lab: &Lab, name: &str) -> Result<Self> {
        Ok(Self(lab.folder("names")?.join(name)))
    }

    fn lead_to(&self, host: &Host) -> Result {
        std::os::unix::fs::symlink(host.path(), &self.0).context("symlink")
    }

    fn remove(&self) -> Result {
        Ok(fs::remove_file(&self.0)?)
    }
}

fn restored_after(lab: &Lab, signal: Signal) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    h1.ok("vlan add 20 --vni 200 --name storage --no-learning")?;
    h1.ok("vlan add 30 --name local")?;
    h1.ok("vtep peer add 192.0.2.77 --all-vlans")?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64 --gateway 10.0.0.254 --access 10")?;
    let given = h1.attach(lab, "given", "--mac 02:00:00:00:00:aa --ifname net7 --mtu 1300 --access 20")?;
    let trunk = h1.attach(lab, "trunk", "--trunk 10,20-22 --native 30")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --address fd00::2/64 --access 10")?;
    h1.ok("fdb add 02:00:00:00:00:99 --vlan 10 --port trunk")?;
    h1.ok("fdb add 02:00:00:00:00:98 --vlan 10 --remote 192.0.2.2")?;
    let flows = || {
        let seed = lab.random().next_u64();
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            traffic::everything((&c1, a.parse()?), (&c2, b.parse()?), 1450, 2 << 20, seed)?;
        }
        Ok::<_, Failure>(())
    };
    flows()?;
    let containers = || [&c1, &given, &trunk].into_iter().map(inside).collect::<Result<Vec<_>>>();
    let (before, before_inside, mac) = (h1.vsctl().settings()?, containers()?, c1.mac("eth0")?);

    // A second restart shows that the first did not change what is kept.
    let mut node = h1;
    for round in 1..=2 {
        node = restart(lab, node, signal)?;
        ensure_eq!(node.vsctl().settings()?, before, "settings after restart {round}");
        ensure_eq!(containers()?, before_inside, "inside the containers after restart {round}");
        ensure_eq!(c1.mac("eth0")?, mac, "address of c1 after restart {round}");
        let route = c1.netlink().route_to("198.51.100.1".parse()?)?;
        ensure_eq!(route.index, c1.link("eth0")?.index, "where c1's default route leads after restart {round}");
        flows()?;
        let place = node.place_of(10, &frames::text(mac))?.map(|(place, _)| place);
        ensure_eq!(place, Some("c1".to_owned()), "place of c1 after restart {round}");
    }
    Ok(())
}

fn what_was_deleted_stays_deleted(lab: &Lab) -> Result {
    let (_underlay, h1, _h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h1.attach_quiet(lab, "c2", "--access 10")?;
    h1.ok("fdb add 02:00:00:00:00:99 --vlan 10 --port c1")?;
    for words in ["fdb del 02:00:00:00:00:99 --vlan 10", "port del c1", "vtep peer del 192.0.2.2", "vlan del 10"] {
        h1.ok(words)?;
    }
    h1.ok("port set c2 --trunk 5-7 --mtu 1400")?;
    let before = h1.vsctl().settings()?;
    let h1 = restart(lab, h1, Signal::SIGKILL)?;
    ensure_eq!(h1.vsctl().settings()?, before, "settings after a restart");
    ensure!(c1.netlink().link("eth0")?.is_none(), "the deleted port came back");
    Ok(())
}

fn state_wins_over_the_config_file(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let spec = |vlan| DaemonSpec { config: format!("[[vlan]]\nvlan = {vlan}\n"), ..DaemonSpec::default() };
    let vlans = |daemon: &Daemon| {
        let list = daemon.vsctl().ok("vlan list")?;
        Ok::<_, Failure>(list.as_array().into_iter().flatten().map(|vlan| vlan["vlan"].clone()).collect::<Vec<_>>())
    };
    let daemon = Daemon::start(lab, &host, &spec(10))?;
    ensure_eq!(vlans(&daemon)?, vec![Value::from(10)], "VLANs of the config file at the first start");
    daemon.vsctl().ok("vlan add 20")?;
    daemon.vsctl().ok("vlan del 10")?;
    daemon.end(Signal::SIGTERM)?;
    let daemon = Daemon::start(lab, &host, &spec(10))?;
    ensure_eq!(vlans(&daemon)?, vec![Value::from(20)], "VLANs at the second start");
    Ok(())
}

fn a_namespace_gone_at_start(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let doomed = lab.host("doomed")?;
    let name = Name::new(lab, "doomed")?;
    name.lead_to(&doomed)?;
    h1.ok(&format!("port add doomed --netns {} --address 10.0.0.9/24 --access 10", name.0.display()))?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    h1.ok("fdb add 02:00:00:00:00:99 --vlan 10 --port doomed")?;
    let Node { daemon, host, ip } = h1;
    daemon.end(Signal::SIGTERM)?;
    name.remove()?;
    drop(doomed);
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..DaemonSpec::default() })?;
    let h1 = Node { daemon, host, ip };
    ensure_eq!(h1.ok("port show doomed")?["state"], "lost", "state of the port without namespace");
    ensure_eq!(h1.ok("port show c1")?["state"], "up", "state of the other port");
    ensure_eq!(h1.ok("status")?["ports_lost"], 1, "lost ports");
    ensure!(h1.daemon.log()?.contains("doomed"), "the log names the lost port");
    traffic::everything((&c1, "10.0.0.1".parse()?), (&c2, "10.0.0.2".parse()?), 1450, 2 << 20, 1)?;
    h1.ok("fdb del 02:00:00:00:00:99 --vlan 10")?;
    h1.ok("port del doomed")?;
    ensure_eq!(h1.ok("status")?["ports_lost"], 0, "lost ports after the deletion");
    Ok(())
}

fn a_namespace_gone_while_running(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let doomed = h1.attach(lab, "doomed", "--address 10.0.0.9/24 --access 10")?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    traffic::ping::ping(&doomed, "10.0.0.1".parse()?, 56)?;
    let mac = frames::text(doomed.mac("eth0")?);
    ensure_eq!(h1.place_of(10, &mac)?, Some(("doomed".to_owned(), "learned".to_owned())), "place before");
    // Traffic of the others goes on while it happens.
    let others = traffic::tcp::Connection::open(&c1, &c2, "10.0.0.2".parse()?)?;
    others.echo(100_000, 1)?;
    drop(doomed);
    eventually(SOON, "the port is lost", || {
        ensure_eq!(h1.ok("port show doomed")?["state"], "lost", "state");
        ensure_eq!(h1.place_of(10, &mac)?, None, "place of what was behind it");
        Ok(())
    })?;
    others.both_ways(4 << 20, 100_000, 2)?;
    traffic::everything((&c1, "10.0.0.1".parse()?), (&c2, "10.0.0.2".parse()?), 1450, 2 << 20, 3)?;
    ensure_eq!(h1.ok("port show c1")?["state"], "up", "state of the other port");
    // A lost port spins nobody and can be replaced by one of the same name.
    h1.ok("port del doomed")?;
    let again = h1.attach(lab, "doomed", "--address 10.0.0.9/24 --access 10")?;
    traffic::ping::ping(&again, "10.0.0.2".parse()?, 56)
}

/// A name that leads to another namespace after a restart: the port is made there.
fn a_namespace_with_a_name(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let (first, second) = (lab.host("first")?, lab.host("second")?);
    let name = Name::new(lab, "c1")?;
    name.lead_to(&first)?;
    h1.ok(&format!("port add c1 --netns {} --address 10.0.0.1/24 --access 10", name.0.display()))?;
    traffic::ping::ping(&first, "10.0.0.2".parse()?, 56)?;
    let mac = first.mac("eth0")?;
    let Node { daemon, host, ip } = h1;
    daemon.end(Signal::SIGTERM)?;
    name.remove()?;
    name.lead_to(&second)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..DaemonSpec::default() })?;
    ensure_eq!(daemon.vsctl().ok("port show c1")?["state"], "up", "state");
    ensure_eq!(second.mac("eth0")?, mac, "the same address in the other namespace");
    traffic::ping::ping(&second, "10.0.0.2".parse()?, 56)?;
    traffic::ping::ping(&c2, "10.0.0.1".parse()?, 56)
}

fn a_damaged_state(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    daemon.vsctl().ok("vlan add 10")?;
    daemon.end(Signal::SIGTERM)?;
    let file = lab.folder("h1")?.join("state/state.json");
    let good = fs::read(&file)?;
    // Cut short, and damaged in the middle: said plainly, and never overwritten.
    let mut damaged = good.clone();
    damaged[good.len() / 2] = 0;
    for bytes in [&good[..good.len() / 2], &damaged] {
        fs::write(&file, bytes)?;
        let ended = Daemon::refused(lab, &host, &DaemonSpec::default())?;
        ensure_eq!(ended.status.code(), Some(1), "exit code: {}", ended.output);
        ensure!(ended.output.contains(&*file.to_string_lossy()), "the file is not named: {}", ended.output);
        ensure!(fs::read(&file)? == *bytes, "a damaged state was written over");
    }
    // What a crash leaves of a change that was not done is no harm.
    fs::write(&file, &good)?;
    fs::write(file.with_file_name("state.json.new"), "{")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    ensure_eq!(daemon.vsctl().ok("vlan list")?[0]["vlan"], 10, "VLAN after the restart");
    Ok(())
}

/// A disk of 64 KiB that only a host's daemons see, at their state directory.
struct SmallDisk<'a> {
    host: &'a Host,
    dir: PathBuf,
}

/// Gives the thread that starts programs in `host` mounts of its own, which end with it.
fn own_mounts(host: &Host) -> Result {
    let own = host.call(|| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
    });
    own.context("a mount namespace")
}

/// `ip netns delete` and `add` while something lives in the old namespace: the port goes with the name, and comes back where
/// that leads to.
fn a_name_given_to_another(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    own_mounts(&host)?;
    let (old, new, c2) = (lab.host("old")?, lab.host("new")?, lab.host("c2")?);
    let name = lab.folder("names")?.join("red");
    // As ip-netns(8) does it.
    let give = |to: &Host| {
        let (name, to) = (name.clone(), to.path());
        host.call(move || {
            File::create(&name)?;
            Ok::<_, Failure>(mount(Some(&to), &name, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
        })
    };
    let take = || {
        let name = name.clone();
        host.call(move || {
            umount2(&name, MntFlags::MNT_DETACH)?;
            Ok::<_, Failure>(fs::remove_file(&name)?)
        })
    };
    give(&old)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let vsctl = daemon.vsctl();
    let add = format!("port add red --netns {} --address 10.0.0.1/24", name.display());
    vsctl.ok(&add)?;
    vsctl.ok(&format!("port add c2 --netns {} --address 10.0.0.2/24", c2.path().display()))?;
    traffic::ping::ping(&c2, "10.0.0.1".parse()?, 56)?;
    let state = |wanted: &str| {
        eventually(SOON, &format!("the port is {wanted}"), || {
            ensure_eq!(vsctl.ok("port show red")?["state"], wanted, "state");
            Ok(())
        })
    };
    take()?;
    state("lost")?;
    ensure_eq!(vsctl.ok("status")?["healthy"], false, "health without the name");
    give(&new)?;
    state("up")?;
    ensure!(new.netlink().link("eth0")?.is_some(), "no interface where the name leads to");
    traffic::ping::ping(&new, "10.0.0.2".parse()?, 56)?;
    // At one go, and back to where the first interface was left: with what its container has there.
    let left = old.link("eth0")?.index;
    old.address("eth0", &["10.9.9.9/24".parse()?])?;
    take()?;
    give(&old)?;
    eventually(SOON, "the port is back where it was", || traffic::ping::ping(&old, "10.0.0.2".parse()?, 56))?;
    ensure_eq!(old.link("eth0")?.index, left, "the interface that was left");
    traffic::ping::ping(&c2, "10.0.0.1".parse()?, 56)?;
    // Who adds it again need not wait for it.
    take()?;
    give(&new)?;
    vsctl.ok(&add)?;
    traffic::ping::ping(&new, "10.0.0.2".parse()?, 56)?;
    // Mounts of others are nobody's business.
    let pid = daemon.pid();
    let other = lab.folder("other")?;
    let target = other.clone();
    host.call(move || mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), None::<&str>))?;
    traffic::ping::ping(&new, "10.0.0.2".parse()?, 56)?;
    ensure_eq!((vsctl.ok("port show red")?["state"].clone(), daemon.pid()), (Value::from("up"), pid), "state");
    host.call(move || umount2(&other, MntFlags::MNT_DETACH))?;
    Ok(())
}

impl<'a> SmallDisk<'a> {
    /// Mounts it.
    fn mount(lab: &Lab, host: &'a Host) -> Result<Self> {
        let dir = lab.folder(host.name())?.join("state");
        fs::create_dir_all(&dir)?;
        let target = dir.clone();
        own_mounts(host)?;
        let mounted =
            host.call(move || mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), Some("size=64k")));
        mounted.context("mount a tmpfs of 64 KiB")?;
        Ok(Self { host, dir })
    }

    fn with<T: Send + 'static>(&self, work: impl FnOnce(&Path) -> T + Send + 'static) -> T {
        let dir = self.dir.clone();
        self.host.call(move || work(&dir))
    }

    /// Writes until nothing fits any more.
    fn fill(&self) -> Result {
        self.with(|dir| {
            let mut file = File::create(dir.join("filler"))?;
            // From large to small: no byte of the last page stays free.
            for len in [4096, 1] {
                while file.write_all(&vec![0; len]).map_or_else(
                    |error| if error.kind() == ErrorKind::StorageFull { Ok(false) } else { Err(error) },
                    |()| Ok(true),
                )? {}
            }
            Ok::<_, Failure>(())
        })
    }

    fn empty(&self) -> Result {
        Ok(self.with(|dir| fs::remove_file(dir.join("filler")))?)
    }
}

fn a_full_disk(lab: &Lab) -> Result {
    let (host, c1, free) = (lab.host("h1")?, lab.quiet_host("c1")?, lab.quiet_host("free")?);
    let disk = SmallDisk::mount(lab, &host)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    daemon.vsctl().ok("vlan add 10")?;
    daemon.vsctl().ok(&format!("port add c1 --netns {} --address 10.0.0.1/24", c1.path().display()))?;
    let (before, before_inside) = (daemon.vsctl().settings()?, inside(&c1)?);
    let findings = || {
        let status = daemon.vsctl().ok("status")?;
        let findings = status["findings"].as_array().into_iter().flatten();
        let names: Vec<_> = findings.map(|finding| format!("{} {}", finding["name"], finding["text"])).collect();
        ensure_eq!(status["healthy"], names.is_empty(), "whether it is healthy");
        Ok::<_, Failure>(names.join("; "))
    };
    ensure_eq!(findings()?, "", "findings on a small disk with room");
    disk.fill()?;
    let refusing = findings()?;
    ensure!(refusing.contains("changes_refused") && refusing.contains("space"), "before any change: {refusing}");
    let add = format!("port add free --netns {}", free.path().display());
    for words in [
        add.as_str(),
        "port set c1 --mtu 1400",
        "port del c1",
        "vlan add 20 --vni 7",
        "vlan del 10",
        "fdb add 02:00:00:00:00:01 --vlan 1 --port c1",
    ] {
        let said = daemon.vsctl().refused(1, words)?;
        for part in [&*disk.dir.to_string_lossy(), "disk has room", "--state-dir"] {
            ensure!(said.contains(part), "{words}: {part:?} is not in: {said}");
        }
        ensure_eq!(daemon.vsctl().settings()?, before, "everything after {words} on a full disk");
        ensure_eq!(inside(&c1)?, before_inside, "inside the container after {words} on a full disk");
        ensure!(free.netlink().link("eth0")?.is_none(), "an interface of a refused port is there after {words}");
    }
    ensure_eq!(findings()?, refusing, "findings after refused changes");
    ensure_eq!(daemon.vsctl().settings()?, before, "everything after a look at how it is");
    // Room again: the same words work, and what was refused before leaves no trace.
    disk.empty()?;
    ensure_eq!(findings()?, "", "findings on a disk with room again");
    daemon.vsctl().ok(&add)?;
    let after = daemon.vsctl().settings()?;
    daemon.end(Signal::SIGKILL)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    ensure_eq!(daemon.vsctl().settings()?, after, "everything after a restart");
    Ok(())
}

/// Nothing has changed, so nothing must be written: a full disk is no reason to cut containers off.
fn a_restart_on_a_full_disk(lab: &Lab) -> Result {
    let (host, c1) = (lab.host("h1")?, lab.quiet_host("c1")?);
    let disk = SmallDisk::mount(lab, &host)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    daemon.vsctl().ok(&format!("port add c1 --netns {} --address 10.0.0.1/24", c1.path().display()))?;
    let before = daemon.vsctl().settings()?;
    disk.fill()?;
    daemon.end(Signal::SIGKILL)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    ensure_eq!(daemon.vsctl().settings()?, before, "everything after a restart on a full disk");
    Ok(())
}
