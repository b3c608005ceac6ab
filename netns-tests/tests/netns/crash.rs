use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::traffic::{ping::ping, tcp::Connection};
use netns_tests::{Context, Daemon, DaemonSpec, Failure, Host, Lab, Node, Result, SOON, ensure, ensure_eq, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::Tests;

/// Whichever way VXLAN goes.
pub(crate) const ACROSS: Tests = &[("connections_live_on", connections_live_on)];

pub(crate) const TESTS: Tests = &[
    ("a_hundred_ports", a_hundred_ports),
    ("nothing_acknowledged_is_lost", nothing_acknowledged_is_lost),
    ("half_made_changes_are_taken_back", half_made_changes_are_taken_back),
    ("a_refused_change_is_forgotten", a_refused_change_is_forgotten),
    ("a_namespace_that_comes_back", a_namespace_that_comes_back),
    ("what_is_in_the_way_stays", what_is_in_the_way_stays),
    ("more_workers_after_a_crash", more_workers_after_a_crash),
    ("an_interface_of_somebody_else", an_interface_of_somebody_else),
];

/// Kills the daemon and starts another on the same state.
fn crash(lab: &Lab, node: Node) -> Result<Node> {
    let Node { daemon, host, ip } = node;
    daemon.end(Signal::SIGKILL)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..DaemonSpec::default() })?;
    Ok(Node { daemon, host, ip })
}

/// What a container would miss: its interface's number, its addresses, and a route that it made itself.
fn inside(host: &Host) -> Result<(u32, Vec<String>, Option<u32>)> {
    let link = host.link("eth0")?;
    let own = host.netlink().addresses()?.into_iter().filter(|(index, _)| *index == link.index);
    let route = host.netlink().route_to("203.0.113.1".parse()?).ok().map(|route| route.index);
    Ok((link.index, own.map(|(_, net)| net.to_string()).collect(), route))
}

fn connections_live_on(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64 --access 10")?;
    let c2 = h1.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let c3 = h2.attach(lab, "c3", "--address 10.0.0.3/24 --address fd00::3/64 --access 10")?;
    // What the container set by itself is not in any state of ours.
    let eth0 = c1.link("eth0")?.index;
    c1.netlink().add_route(Some("203.0.113.0/24".parse()?), Some("10.0.0.77".parse()?), eth0)?;
    c1.netlink().add_address(eth0, "192.168.7.7/24".parse()?)?;
    ping(&c1, "fd00::3".parse()?, 56)?; // addresses of the kernel's making are there
    let before = inside(&c1)?;
    let open = |to: &Host, ip: &str| Connection::open(&c1, to, ip.parse::<IpAddr>()?);
    let all = [open(&c2, "10.0.0.2")?, open(&c3, "10.0.0.3")?, open(&c3, "fd00::3")?];
    let crashing = AtomicBool::new(true);
    let flow = |flow: &Connection| {
        let mut rounds = 0_u64;
        while crashing.load(Ordering::Relaxed) || rounds < 2 {
            flow.both_ways(4 << 20, 100_000, rounds)?;
            rounds += 1;
        }
        Ok::<_, Failure>(rounds)
    };
    let crashes = |mut h1: Node| {
        for round in 1..=3 {
            eventually(SOON, "the connections carry load", || {
                let frames = h1.ok("stats c1")?[0]["rx_frames"].as_u64();
                ensure!(frames > Some(500), "{frames:?} frames are few");
                Ok(())
            })?;
            h1 = crash(lab, h1)?;
            ensure_eq!(inside(&c1)?, before, "inside the container after crash {round}");
            ensure_eq!(h1.ok("status")?["ports_lost"], 0, "lost ports after crash {round}");
        }
        Ok::<_, Failure>(h1)
    };
    let h1 = thread::scope(|scope| {
        let flows: Vec<_> = all.iter().map(|connection| scope.spawn(|| flow(connection))).collect();
        let crashed = crashes(h1);
        crashing.store(false, Ordering::Relaxed);
        for flow in flows {
            let rounds = flow.join().map_err(|_| Failure::new("a connection's thread panicked"))??;
            lab.note(format!("a connection carried {} MiB over three crashes", rounds * 8));
        }
        crashed
    })?;
    h1.ok("port del c1")?;
    ensure!(c1.netlink().link("eth0")?.is_none(), "the interface stays without its port");
    Ok(())
}

/// How long containers are without a network once the new daemon starts. Printed, for it is the machine's affair too.
fn a_hundred_ports(lab: &Lab) -> Result {
    const PORTS: u8 = 100;
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let node = Node { daemon, host, ip: "192.0.2.1".parse()? };
    let containers = (1..=PORTS)
        .map(|number| node.attach_quiet(lab, &format!("c{number}"), &format!("--address 10.0.0.{number}/24")));
    let containers = containers.collect::<Result<Vec<_>>>()?;
    let Node { daemon, host, .. } = node;
    // Ports are restored in order of their names: c99 is the last.
    let (first, last) = (&containers[0], &containers[98]);
    ping(first, "10.0.0.99".parse()?, 56)?;
    let socket = |host: &Host, ip: &'static str| host.call(move || UdpSocket::bind((ip, 0)));
    let (from, to) = (socket(first, "10.0.0.1")?, socket(last, "10.0.0.99")?);
    from.connect(to.local_addr()?)?;
    to.set_read_timeout(Some(Duration::from_millis(1)))?;
    let heard = |to: &UdpSocket| match to.recv(&mut [0; 8]) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(Failure::from(error)),
    };
    daemon.end(Signal::SIGKILL)?;
    while heard(&to)? {}
    let start = Instant::now();
    let (daemon, outage) = thread::scope(|scope| {
        // A datagram each millisecond, until the first arrives.
        let outage = scope.spawn(|| {
            while start.elapsed() < SOON {
                let _ = from.send(b"anybody?"); // refused while nobody serves the interface
                if heard(&to)? {
                    return Ok(start.elapsed());
                }
            }
            Err(Failure::new("nothing arrives any more"))
        });
        let daemon = Daemon::start(lab, &host, &DaemonSpec::default());
        (daemon, outage.join())
    });
    let (daemon, outage) = (daemon?, outage.map_err(|_| Failure::new("the sender panicked"))??);
    println!("{PORTS} ports after SIGKILL: the first datagram arrives {outage:?} after the new daemon's start");
    ensure!(outage < Duration::from_secs(5), "containers were without a network for {outage:?}");
    ensure_eq!(daemon.vsctl().ok("status")?["ports_lost"], 0, "lost ports");
    Ok(())
}

/// A client that speaks to the socket itself: a thousand changes in a second or two.
struct Client(Option<BufReader<UnixStream>>);

impl Client {
    /// The answer's result or error; `None` where the daemon ended before it answered.
    fn ask(&mut self, daemon: &Daemon, method: &str, params: &Value) -> Result<Option<Value>> {
        let stream = match &mut self.0 {
            Some(stream) => stream,
            none => none.insert(BufReader::new(UnixStream::connect(daemon.socket())?)),
        };
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut line = String::new();
        let asked = stream.get_mut().write_all(format!("{request}\n").as_bytes());
        // A line cut short is no answer.
        if asked.and_then(|()| stream.read_line(&mut line)).is_err() || !line.ends_with('\n') {
            self.0 = None;
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

/// What was acknowledged: VLANs by number, ports by name, static addresses, each with what was said of it.
type Settings = BTreeMap<String, String>;

fn set(settings: &mut Settings, key: String, value: Option<String>) {
    if let Some(value) = value {
        settings.insert(key, value);
        return;
    }
    settings.remove(&key);
    if let Some(port) = key.strip_prefix("port.list ") {
        // It takes its static addresses along.
        settings.retain(|key, at| !key.starts_with("fdb.list") || at != port);
    }
}

/// The same, as the daemon lists it.
fn listed(daemon: &Daemon) -> Result<Settings> {
    let mut client = Client(None);
    let mut settings = Settings::new();
    for (method, key, value) in
        [("vlan.list", "vlan", "name"), ("port.list", "name", "mtu"), ("fdb.list", "mac", "port")]
    {
        let answer = client.ask(daemon, method, &json!({}))?.context("no answer")?;
        for entry in answer["result"].as_array().context("no list")? {
            if !(method == "vlan.list" && entry["name"].is_null()) {
                settings.insert(format!("{method} {}", entry[key]), entry[value].to_string());
            }
        }
    }
    Ok(settings)
}

/// SIGKILL at random moments during 1,000 changes: what was answered is there afterwards, what was not is there whole or
/// not at all, and containers have the interfaces that ports say and no others.
fn nothing_acknowledged_is_lost(lab: &Lab) -> Result {
    const CHANGES: u32 = 1000;
    const CONTAINERS: usize = 6;
    let mut random = lab.random();
    let mut pick = move |from: u64, count: u64| from + random.next_u64() % count;
    let host = lab.host("h1")?;
    let containers = (0..CONTAINERS).map(|number| lab.quiet_host(&format!("c{number}"))).collect::<Result<Vec<_>>>()?;
    let mut daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let (mut client, mut settings, mut crashes, mut done) = (Client(None), Settings::new(), 0, 0);
    while done < CHANGES {
        let pid = Pid::from_raw(daemon.pid().try_into()?);
        let pause = Duration::from_micros(pick(0, 100_000));
        let killer = thread::spawn(move || {
            thread::sleep(pause); // a moment that nobody can foresee is what this is about
            kill(pid, Signal::SIGKILL)
        });
        let unanswered = loop {
            let (method, params, key, value) = change(&containers, &mut pick);
            let Some(answer) = client.ask(&daemon, method, &params)? else { break (key, value) };
            done += 1;
            if answer["error"].is_null() {
                set(&mut settings, key, value);
            }
        };
        killer.join().map_err(|_| Failure::new("the killer panicked"))??;
        drop(daemon);
        crashes += 1;
        daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
        let found = listed(&daemon)?;
        let (key, value) = unanswered;
        let meant = (settings.get(&key).cloned(), value);
        let is = found.get(&key).cloned();
        ensure!(
            is == meant.0 || is == meant.1,
            "{key}: {is:?} is neither what it was nor what it should be, {meant:?}"
        );
        set(&mut settings, key, is);
        ensure_eq!(found, settings, "after crash {crashes}, {done} changes");
        for (number, container) in containers.iter().enumerate() {
            let wanted = settings.get(&format!("port.list \"p{number}\""));
            let link = container.netlink().link("eth0")?;
            let mtu = link.as_ref().map(|link| link.mtu.to_string());
            ensure_eq!(mtu.as_ref(), wanted, "interface of p{number} after crash {crashes}, {done} changes");
        }
    }
    lab.note(format!("{done} changes, {crashes} crashes"));
    ensure!(crashes >= 5, "only {crashes} crashes");
    Ok(())
}

/// A change: its method and parameters, which setting it makes, and what it makes of it.
fn change(
    containers: &[Host],
    pick: &mut impl FnMut(u64, u64) -> u64,
) -> (&'static str, Value, String, Option<String>) {
    let number = usize::try_from(pick(0, containers.len() as u64)).unwrap_or_default();
    let (port, vlan, mtu) = (format!("p{number}"), pick(2, 20), pick(1300, 200));
    let named = |kind: &str, key: &str| format!("{kind}.list {}", json!(key));
    let netns = containers[number].path();
    match pick(0, 8) {
        0 | 1 => {
            let name = format!("n{mtu}");
            let value = Some(json!(name).to_string());
            ("vlan.add", json!({"vlan": vlan, "name": name}), format!("vlan.list {vlan}"), value)
        }
        2 => ("vlan.del", json!({"vlan": vlan}), format!("vlan.list {vlan}"), None),
        3 => {
            ("port.add", json!({"name": port, "netns": netns, "mtu": mtu}), named("port", &port), Some(mtu.to_string()))
        }
        4 => ("port.set", json!({"name": port, "mtu": mtu}), named("port", &port), Some(mtu.to_string())),
        5 => ("port.del", json!({"name": port}), named("port", &port), None),
        6 => {
            let mac = format!("02:00:00:00:00:{vlan:02x}");
            let params = json!({"mac": mac, "vlan": 1, "port": port});
            ("fdb.add", params, named("fdb", &mac), Some(json!(port).to_string()))
        }
        _ => {
            let mac = format!("02:00:00:00:00:{vlan:02x}");
            ("fdb.del", json!({"mac": mac, "vlan": 1}), named("fdb", &mac), None)
        }
    }
}

/// A daemon killed between making a change and keeping it: the interface is as the state says, not as it was being made.
fn half_made_changes_are_taken_back(lab: &Lab) -> Result {
    let (host, c1, c2) = (lab.host("h1")?, lab.quiet_host("c1")?, lab.quiet_host("c2")?);
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    daemon.vsctl().ok(&format!("port add c1 --netns {} --address 10.0.0.1/24", c1.path().display()))?;
    let state = lab.folder("h1")?.join("state/state.json");
    let before = (fs::read(&state)?, daemon.vsctl().settings()?, inside(&c1)?);
    daemon.vsctl().ok("port set c1 --mtu 1400 --address 10.9.9.9/24")?;
    daemon.vsctl().ok(&format!("port add c2 --netns {}", c2.path().display()))?;
    daemon.end(Signal::SIGKILL)?;
    // As the disk is when both were one change that was never committed.
    fs::rename(&state, state.with_file_name("state.json.new"))?;
    fs::write(&state, before.0)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    ensure_eq!(daemon.vsctl().settings()?, before.1, "settings");
    ensure_eq!(inside(&c1)?, before.2, "inside the container whose port was being changed");
    ensure_eq!(c1.link("eth0")?.mtu, 1500, "its MTU");
    ensure!(c2.netlink().link("eth0")?.is_none(), "the interface of a port that was never there");
    Ok(())
}

/// What a container has by now is not taken away for a change that was refused before.
fn a_refused_change_is_forgotten(lab: &Lab) -> Result {
    let (host, c1) = (lab.host("h1")?, lab.quiet_host("c1")?);
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    daemon.vsctl().ok(&format!("port add c1 --netns {} --address 10.0.0.1/24", c1.path().display()))?;
    let eth0 = c1.link("eth0")?.index;
    c1.netlink().add_route(None, Some("10.0.0.254".parse()?), eth0)?;
    let words = "port set c1 --address 10.0.0.1/24 --address 10.0.0.5/24 --gateway 10.0.0.253";
    daemon.vsctl().refused(1, words)?;
    c1.netlink().add_address(eth0, "10.0.0.5/24".parse()?)?;
    let before = inside(&c1)?;
    daemon.end(Signal::SIGKILL)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    ensure_eq!(inside(&c1)?, before, "inside the container");
    ensure!(!daemon.log()?.contains("taken back"), "it is taken back once more");
    Ok(())
}

/// What a container made of its interface, or has instead of it, is neither deleted nor a reason to forget what was counted.
fn what_is_in_the_way_stays(lab: &Lab) -> Result {
    let (host, c1) = (lab.host("h1")?, lab.quiet_host("c1")?);
    let name = Name::of(lab, &c1, "c1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let words = "--address 10.0.0.1/24 --gateway 10.0.0.254";
    daemon.vsctl().ok(&format!("port add c1 --netns {} {words}", name.0.display()))?;
    let socket = c1.packet_socket("eth0")?;
    socket.send(&netns_tests::frames::probe([0xff; 6], c1.mac("eth0")?, None, 1))?;
    let counted = |daemon: &Daemon| Ok::<_, Failure>(daemon.vsctl().ok("stats c1")?[0]["rx_frames"].as_u64());
    eventually(SOON, "a frame is counted", || {
        ensure_eq!(counted(&daemon)?, Some(1), "frames");
        Ok(())
    })?;
    // Down, the interface takes no route: the port has its interface all the same, as it is.
    let eth0 = c1.link("eth0")?.index;
    c1.netlink().add_address(eth0, "10.9.9.9/24".parse()?)?;
    c1.netlink().set_up(eth0, false)?;
    let before = inside(&c1)?;
    daemon.end(Signal::SIGTERM)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    ensure_eq!(daemon.vsctl().ok("port show c1")?["state"], "up", "state with an interface that is down");
    ensure_eq!(inside(&c1)?, before, "inside the container");
    c1.netlink().set_up(eth0, true)?;
    let socket = c1.packet_socket("eth0")?;
    socket.send(&netns_tests::frames::probe([0xff; 6], c1.mac("eth0")?, None, 2))?;
    eventually(SOON, "a frame is counted", || {
        ensure_eq!(counted(&daemon)?, Some(1), "frames");
        Ok(())
    })?;
    // Another interface has the name in the namespace that comes instead.
    drop(name);
    eventually(SOON, "the port is lost", || {
        ensure_eq!(daemon.vsctl().ok("port show c1")?["state"], "lost", "state");
        Ok(())
    })?;
    let other = lab.quiet_host("other")?;
    other.netlink().add_bridge("eth0")?;
    let bridge = other.link("eth0")?;
    let _name = Name::of(lab, &other, "c1")?;
    eventually(SOON, "it is tried", || {
        ensure!(daemon.log()?.contains("cannot come back"), "not yet");
        Ok(())
    })?;
    ensure_eq!(other.link("eth0")?.index, bridge.index, "the other interface");
    ensure_eq!(counted(&daemon)?, Some(1), "what the port had counted");
    Ok(())
}

/// A name for a namespace that lasts: a descriptor's path is used again for others.
struct Name(PathBuf);

impl Name {
    fn of(lab: &Lab, host: &Host, name: &str) -> Result<Self> {
        let path = lab.folder("names")?.join(name);
        std::os::unix::fs::symlink(host.path(), &path)?;
        Ok(Self(path))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // a failure shows in the test
    }
}

/// The port goes with its namespace and comes back with it; others feel nothing. After a crash too, when the daemon's own
/// descriptors would keep the namespace alive.
fn a_namespace_that_comes_back(lab: &Lab) -> Result {
    let (_underlay, mut h1, h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let others = Connection::open(&c1, &c2, "10.0.0.2".parse()?)?;
    for crashed in [false, true] {
        let doomed = lab.host("doomed")?;
        let name = Name::of(lab, &doomed, "doomed")?;
        h1.ok(&format!("port add doomed --netns {} --address 10.0.0.9/24 --access 10", name.0.display()))?;
        if crashed {
            h1 = crash(lab, h1)?;
        }
        ping(&doomed, "10.0.0.2".parse()?, 56)?;
        let mac = doomed.mac("eth0")?;
        let mac = netns_tests::frames::text(mac);
        let frames = h1.ok("stats doomed")?[0]["rx_frames"].as_u64();
        ensure_eq!(h1.place_of(10, &mac)?, Some(("doomed".to_owned(), "learned".to_owned())), "place before");
        // A wire into the namespace ends with it.
        let witness = lab.host("witness")?;
        witness.netlink().add_veth("wire", "wire", Some(doomed.netns()))?;
        drop(name);
        drop(doomed);
        eventually(SOON, "the namespace ends", || {
            ensure!(witness.netlink().link("wire")?.is_none(), "the wire is there");
            Ok(())
        })?;
        eventually(SOON, "the port is lost", || {
            ensure_eq!(h1.ok("port show doomed")?["state"], "lost", "state");
            Ok(())
        })?;
        ensure_eq!(h1.place_of(10, &mac)?, None, "place of what was behind it");
        others.both_ways(1 << 20, 10_000, 1)?;
        let again = lab.host("again")?;
        let name = Name::of(lab, &again, "doomed")?;
        eventually(SOON, "the port comes back", || {
            ensure_eq!(h1.ok("port show doomed")?["state"], "up", "state");
            Ok(())
        })?;
        ping(&again, "10.0.0.2".parse()?, 56)?;
        ping(&c2, "10.0.0.9".parse()?, 56)?;
        let now = h1.ok("stats doomed")?[0]["rx_frames"].as_u64();
        ensure!(now > frames, "its counters ran backwards: {frames:?}, now {now:?}");
        others.both_ways(1 << 20, 10_000, 2)?;
        h1.ok("port del doomed")?;
        drop(name);
    }
    Ok(())
}

/// A device made for one worker cannot get queues for two: it is made anew, and only then.
fn more_workers_after_a_crash(lab: &Lab) -> Result {
    let (host, c1) = (lab.host("h1")?, lab.quiet_host("c1")?);
    let spec = |workers| DaemonSpec { config: format!("workers = {workers}\n"), ..DaemonSpec::default() };
    let daemon = Daemon::start(lab, &host, &spec(1))?;
    daemon.vsctl().ok(&format!("port add c1 --netns {} --address 10.0.0.1/24", c1.path().display()))?;
    let (mut before, mut made_anew) = (inside(&c1)?, 0);
    daemon.end(Signal::SIGKILL)?;
    for (workers, kept) in [(1, true), (2, false), (3, true), (1, true), (2, true)] {
        let daemon = Daemon::start(lab, &host, &spec(workers))?;
        ensure_eq!(daemon.vsctl().ok("port show c1")?["state"], "up", "state with {workers} workers");
        let now = inside(&c1)?;
        ensure_eq!(now.1, before.1, "addresses with {workers} workers");
        ensure_eq!(now.0 == before.0, kept, "the same interface with {workers} workers");
        made_anew += usize::from(!kept);
        ensure_eq!(daemon.log()?.matches("made anew").count(), made_anew, "warnings");
        before = now;
        daemon.end(Signal::SIGKILL)?;
    }
    Ok(())
}

/// What does not bear our mark is not ours, though it has the name of a port's interface.
fn an_interface_of_somebody_else(lab: &Lab) -> Result {
    let (host, c1) = (lab.host("h1")?, lab.quiet_host("c1")?);
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let add = format!("port add c1 --netns {} --address 10.0.0.1/24", c1.path().display());
    daemon.vsctl().ok(&add)?;
    daemon.end(Signal::SIGKILL)?;
    // A daemon with a state of its own finds the interface that another one's port left.
    fs::remove_dir_all(lab.folder("h1")?.join("state"))?;
    let before = c1.link("eth0")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let said = daemon.vsctl().refused(1, &add)?;
    ensure!(said.contains("eth0") && said.contains("taken"), "{said}");
    let now = c1.link("eth0")?;
    ensure_eq!((now.index, now.alias), (before.index, before.alias), "the other's interface");
    Ok(())
}
