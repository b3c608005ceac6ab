use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use netns_tests::traffic::ping::ping;
use netns_tests::traffic::stream::{Probes, Stream};
use netns_tests::{
    Context, DaemonSpec, Failure, Host, Lab, Node, Result, SOON, ServiceManager, Underlay, ensure, ensure_eq,
    eventually,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("queues_outlive_a_crash", |lab| queues_outlive(lab, Signal::SIGKILL, 1)),
    ("queues_outlive_a_crash_with_two_workers", |lab| queues_outlive(lab, Signal::SIGKILL, 2)),
    ("queues_outlive_a_restart", |lab| queues_outlive(lab, Signal::SIGTERM, 2)),
    ("addresses_and_counters_outlive_a_restart", addresses_and_counters_outlive_a_restart),
    ("what_is_deleted_is_not_kept", what_is_deleted_is_not_kept),
    ("other_settings_after_a_restart", other_settings_after_a_restart),
    ("a_control_socket_that_is_handed_in", a_control_socket_that_is_handed_in),
    ("a_reload", a_reload),
];

/// A daemon under a service manager, and one without on another host.
struct Site {
    manager: ServiceManager,
    spec: DaemonSpec,
    node: Node,
}

impl Site {
    fn pair(lab: &Lab, workers: u16) -> Result<(Underlay, Self, Node)> {
        let underlay = Underlay::new(lab, 1500)?;
        let host = lab.host("h1")?;
        let ip = underlay.join(&host)?.v4;
        let manager = ServiceManager::new(lab, "h1")?;
        let config = format!("workers = {workers}\n");
        let spec = DaemonSpec { vtep_ip: Some(ip), config, ..DaemonSpec::default() };
        let daemon = manager.start(lab, &host, &spec, None)?;
        let node = Node { daemon, host, ip };
        let other = Node::v4(lab, &underlay, "h2")?;
        node.join(10, 100, &[other.ip])?;
        other.join(10, 100, &[node.ip])?;
        Ok((underlay, Self { manager, spec, node }, other))
    }

    fn restart(self, lab: &Lab, signal: Signal) -> Result<Self> {
        let Self { manager, spec, node: Node { daemon, host, ip } } = self;
        daemon.end(signal)?;
        let daemon = manager.start(lab, &host, &spec, None)?;
        Ok(Self { manager, spec, node: Node { daemon, host, ip } })
    }
}

/// The number the kernel gave the interface, and whether somebody holds its queues.
fn interface(host: &Host) -> Result<(u32, bool)> {
    let index = host.link("eth0")?.index;
    let is_running = host.netlink().wait_running(index, Duration::ZERO)?;
    Ok((index, is_running))
}

/// How long a TAP's queue of 1,000 frames has room, with two probes a millisecond and some TCP: a machine that starts no
/// daemon within that says nothing about who loses frames.
const QUEUE_LASTS: Duration = Duration::from_millis(300);

fn queues_outlive(lab: &Lab, signal: Signal, workers: u16) -> Result {
    let (_underlay, mut h1, h2) = Site::pair(lab, workers)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c3 = h1.node.attach(lab, "c3", "--address 10.0.0.3/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    ensure_eq!(h1.manager.count("tap.c1"), usize::from(workers), "queues of c1 that are kept");
    let local = Probes::start(&c1, &c3, "10.0.0.3".parse()?)?;
    let across = Probes::start(&c1, &c2, "10.0.0.2".parse()?)?;
    let stream = Stream::start(&c2, &c3, "10.0.0.3".parse()?, lab.random().next_u64())?;
    let before = interface(&c1)?;
    ensure!(before.1, "the interface is not running");
    let mut late = false;
    for _ in 0..2 {
        across.go_on(100)?;
        let Site { manager, spec, node: Node { daemon, host, ip } } = h1;
        let start = Instant::now();
        daemon.end(signal)?;
        ensure_eq!(interface(&c1)?, before, "the interface while no daemon runs");
        let daemon = manager.start(lab, &host, &spec, None)?;
        late |= start.elapsed() > QUEUE_LASTS;
        h1 = Site { manager, spec, node: Node { daemon, host, ip } };
        ensure_eq!(interface(&c1)?, before, "the interface afterwards");
        ensure_eq!(h1.manager.count("tap.c1"), usize::from(workers), "queues of c1 that are kept afterwards");
    }
    across.go_on(100)?;
    stream.go_on(1 << 20)?;
    let bytes = stream.stop()?;
    println!("{bytes} bytes of TCP arrived");
    for (way, probes) in [("local", local), ("across", across)] {
        let answered = probes.stop()?;
        let (sent, lost) = (answered.sent, answered.lost.len());
        println!("{way}: {sent} probes, {lost} lost, the longest took {:?}", answered.longest);
        // Those the daemon had read when it was killed; a request and an answer for each of two crashes, and as many more
        // where this machine was late. All others waited.
        let most = if signal == Signal::SIGKILL { 8 } else { 0 };
        ensure!(late || lost <= most, "{way}: {lost} of {sent} lost");
    }
    Ok(())
}

fn addresses_and_counters_outlive_a_restart(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 2)?;
    let c1 = h1.node.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    h1.node.ok("fdb add 02:00:00:00:00:99 --vlan 10 --port c1")?;
    ping(&c1, "10.0.0.2".parse()?, 1000)?;
    let ages = |node: &Node| {
        let list = node.ok("fdb list")?;
        let aged = |entry: &serde_json::Value| Some((entry["mac"].to_string(), entry["age_s"].as_u64()?));
        Ok::<_, Failure>(list.as_array().into_iter().flatten().filter_map(aged).collect::<Vec<_>>())
    };
    let before = eventually(SOON, "addresses are 2 s old", || {
        let before = ages(&h1.node)?;
        ensure!(before.len() == 2 && before.iter().all(|(_, age)| *age >= 2), "{before:?}");
        Ok(before)
    })?;
    let counters = h1.node.stats()?;
    let h1 = h1.restart(lab, Signal::SIGTERM)?;
    ensure!(!h1.manager.kept().contains(&"kept".to_owned()), "what was read once is kept still");
    for ((mac, before), (again, after)) in before.iter().zip(ages(&h1.node)?) {
        ensure!(*mac == again && after >= *before, "{mac} was {before} s old, and {again} is {after}");
    }
    for (counter, count) in &counters.counts {
        let now = h1.node.stats()?.count(&counter.0, &counter.1);
        ensure!(now >= *count, "{counter:?} was {count} and is {now}");
    }
    ensure!(h1.node.stats()?.count("c1", "rx_frames") > 0, "nothing was counted");
    // A crash leaves nothing of the kind: it learns anew, and works.
    let h1 = h1.restart(lab, Signal::SIGKILL)?;
    ping(&c1, "10.0.0.2".parse()?, 1000)?;
    ensure_eq!(ages(&h1.node)?.len(), 2, "addresses learned anew");
    Ok(())
}

fn what_is_deleted_is_not_kept(lab: &Lab) -> Result {
    let (_underlay, h1, _h2) = Site::pair(lab, 2)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let doomed = h1.node.attach(lab, "doomed:1", "--access 10")?;
    let kept = |site: &Site, name: &str, count: usize| {
        eventually(SOON, "the service manager has heard", || {
            ensure_eq!(site.manager.count(name), count, "descriptors of {name} that are kept");
            Ok(())
        })
    };
    kept(&h1, "tap.c1", 2)?;
    kept(&h1, "tap.doomed/1", 2)?;
    h1.node.ok("port del c1")?;
    ensure!(c1.netlink().link("eth0")?.is_none(), "the interface stays although its port is deleted");
    kept(&h1, "tap.c1", 0)?;
    // Made again at once, and lost with its namespace.
    h1.node.ok(&format!("port add c1 --netns {}", c1.path().display()))?;
    kept(&h1, "tap.c1", 2)?;
    drop(doomed);
    eventually(SOON, "the port is lost", || {
        ensure_eq!(h1.node.ok("port show doomed:1")?["state"], "lost", "state");
        Ok(())
    })?;
    kept(&h1, "tap.doomed/1", 0)?;
    // Deleted behind the back of what is kept: the state on disk wins.
    let Site { manager, spec, node: Node { daemon, host, ip } } = h1;
    daemon.end(Signal::SIGKILL)?;
    std::fs::remove_file(lab.folder("h1")?.join("state/state.json"))?;
    let daemon = manager.start(lab, &host, &spec, None)?;
    let h1 = Site { manager, spec, node: Node { daemon, host, ip } };
    ensure!(c1.netlink().link("eth0")?.is_none(), "the interface of a port that is not wanted stays");
    kept(&h1, "tap.c1", 0)
}

fn other_settings_after_a_restart(lab: &Lab) -> Result {
    let (_underlay, mut h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let other_way = if lab.underlay() == Some("udp") { "auto" } else { "udp" };
    let by = |workers: u16| format!("workers = {workers}\n");
    for (workers, underlay) in [(3, None), (1, None), (1, Some(other_way)), (2, None)] {
        h1.spec = DaemonSpec { config: by(workers), underlay, ..h1.spec };
        h1 = h1.restart(lab, Signal::SIGTERM)?;
        ping(&c1, "10.0.0.2".parse()?, 1000).context(format_args!("{workers} workers, underlay {underlay:?}"))?;
        ensure_eq!(h1.node.ok("status")?["workers"], workers, "workers");
        ensure_eq!(h1.manager.count("tap.c1"), usize::from(workers), "queues that are kept");
        ensure_eq!(h1.manager.count("vxlan.0"), 1, "sockets of the first worker that are kept");
    }
    // What changed on disk alone is made so.
    let file = lab.folder("h1")?.join("state/state.json");
    let Site { manager, spec, node: Node { daemon, host, ip } } = h1;
    daemon.end(Signal::SIGKILL)?;
    let state = std::fs::read_to_string(&file)?;
    ensure!(state.contains("10.0.0.1/24"), "no address in {state}");
    std::fs::write(&file, state.replace("10.0.0.1/24\"", "10.0.0.1/24\", \"10.0.0.7/24\""))?;
    let daemon = manager.start(lab, &host, &spec, None)?;
    let _node = Node { daemon, host, ip };
    let addresses = c1.netlink().addresses()?;
    ensure!(addresses.iter().any(|(_, net)| net.to_string() == "10.0.0.7/24"), "addresses: {addresses:?}");
    ping(&c1, "10.0.0.2".parse()?, 1000)
}

fn a_control_socket_that_is_handed_in(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let manager = ServiceManager::new(lab, "h1")?;
    let path = lab.folder("h1")?.join("socket");
    let listener = UnixListener::bind(&path)?;
    let spec = DaemonSpec::default();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let daemon = manager.start(lab, &host, &spec, Some(&listener))?;
        daemon.vsctl().ok("vlan add 10")?;
        ensure_eq!(manager.main_pid()?, daemon.pid(), "main process");
        daemon.end(signal)?;
        ensure!(path.exists(), "the daemon removed a socket that is not its own");
        ensure_eq!(manager.said("STOPPING=1"), signal == Signal::SIGTERM, "said that it stops");
    }
    // One that takes over leaves it as well.
    let daemon = manager.start(lab, &host, &spec, Some(&listener))?;
    let daemon = daemon.taken_over(lab, &host, &spec)?;
    daemon.end(Signal::SIGTERM)?;
    ensure!(path.exists(), "the daemon that took over removed a socket that is not its own");
    Ok(())
}

fn a_reload(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 2)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let probes = Probes::start(&c1, &c2, "10.0.0.2".parse()?)?;
    let Site { manager, spec: _, node: Node { daemon, host: _host, ip: _ } } = h1;
    let vsctl = daemon.vsctl().clone();
    let first = daemon.pid();
    ensure_eq!(manager.main_pid()?, first, "main process");
    kill(Pid::from_raw(first.try_into()?), Signal::SIGHUP)?;
    ensure_eq!(daemon.ended()?.code(), Some(0), "exit code of the one taken over from");
    // It was told of the next before the first ended.
    let second = manager.main_pid()?;
    let ended = Ended(second);
    ensure!(second != first, "the main process is still {first}");
    ensure_eq!(vsctl.ok("status")?["pid"], second, "process that answers");
    vsctl.ok("port set c1 --mtu 1400")?;
    probes.go_on(100)?;
    ensure_eq!(probes.stop()?.lost, Vec::<u32>::new(), "probes lost");
    // The second knows what the first had kept.
    vsctl.ok("port del c1")?;
    ensure!(c1.netlink().link("eth0")?.is_none(), "the interface stays although its port is deleted");
    eventually(SOON, "its queues are let go", || {
        ensure_eq!(manager.count("tap.c1"), 0, "queues that are kept");
        Ok(())
    })?;
    drop(ended);
    Ok(())
}

/// Ends a process that is nobody's child here.
struct Ended(u32);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(pid) = self.0.try_into() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The unit files are what systemd understands.
pub(crate) fn units(_: &Lab) -> Result {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/systemd");
    let copies = tempfile::tempdir()?;
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for unit in ["vswitchd.service", "vswitchd.socket"] {
        // It looks for the program, which need not be installed here.
        let text = std::fs::read_to_string(folder.join(unit))?.replace("/usr/bin/vswitchd", "/bin/true");
        let copy = copies.path().join(unit);
        std::fs::write(&copy, text)?;
        command.arg(copy);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("vswitchd")).collect();
    ensure!(output.status.success() && ours.is_empty(), "systemd-analyze verify ({}): {said}", output.status);
    Ok(())
}

/// Why unit files cannot be looked at here.
pub(crate) fn hindrance() -> Option<String> {
    let asked = Command::new("systemd-analyze").arg("--version").output();
    asked.err().map(|error| format!("systemd-analyze: {error}"))
}
