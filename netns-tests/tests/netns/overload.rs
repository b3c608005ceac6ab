use std::fs;

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns_tests::frames::{Mac, text};
use netns_tests::traffic::flood::{Flood, Kind};
use netns_tests::traffic::paced::Paced;
use netns_tests::traffic::ping::ping;
use netns_tests::traffic::tcp::Connection;
use netns_tests::{
    Context, Daemon, DaemonSpec, Drops, Host, Lab, Node, Result, SOON, Stats, drops, ensure, ensure_eq, eventually,
};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("frames_to_one", frames_to_one),
    ("broadcasts", broadcasts),
    ("multicasts", multicasts),
    ("frames_to_nobody", frames_to_nobody),
    ("addresses_without_end", addresses_without_end),
    ("broadcasts_with_two_workers", broadcasts_with_two_workers),
    ("without_a_limit", without_a_limit),
    ("a_process_that_is_stopped", a_process_that_is_stopped),
    ("an_interface_that_is_down", an_interface_that_is_down),
    ("bounds_are_shown", bounds_are_shown),
];

/// With VXLAN between.
pub(crate) const ACROSS: Tests = &[("broadcasts_by_a_remote", broadcasts_by_a_remote)];

/// Frames a second that the flooder offers, and how many have come in before the test is content.
const OFFERED: u32 = 50_000;
const ENOUGH: u64 = 40_000;
/// `--storm-limit`, and what passes at once: a tenth.
const STORM: u64 = 1_000;
/// `--fdb-limit-per-port`.
const PER_PORT: u64 = 500;
/// Between two datagrams of those who are not to feel anything.
const PACE: Duration = Duration::from_millis(2);
/// Bytes that they send each other beside.
const BYTES: u64 = 16 << 20;

/// A switch without VXLAN and four containers: two that talk, one that floods, one that the flood is for.
struct Scene {
    node: Node,
    client: Host,
    server: Host,
    flooder: Host,
    sink: Host,
}

impl Scene {
    fn new(lab: &Lab, config: &str) -> Result<Self> {
        let host = lab.host("h1")?;
        let config = format!("storm-limit = {STORM}\nfdb-limit-per-port = {PER_PORT}\n{config}");
        let daemon = Daemon::start(lab, &host, &DaemonSpec { config, ..DaemonSpec::default() })?;
        let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
        let attach = |name: &str, number: u8| node.attach_quiet(lab, name, &format!("--address 10.0.0.{number}/24"));
        let (client, server) = (attach("client", 1)?, attach("server", 2)?);
        let (flooder, sink) = (attach("flooder", 3)?, attach("sink", 4)?);
        for other in [&server, &flooder, &sink] {
            ping(other, [10, 0, 0, 1].into(), 56)?;
        }
        Ok(Self { node, client, server, flooder, sink })
    }

    /// Where the stations are that do not flood.
    fn places(&self) -> Result<Vec<Option<(String, String)>>> {
        let place = |host: &Host| self.node.place_of(1, &text(host.mac("eth0")?));
        [&self.client, &self.server, &self.sink].into_iter().map(place).collect()
    }

    /// Lets the flooder flood while others talk, who are to feel nothing of it. Returns what was counted before and after,
    /// and how long it took.
    fn flood(&self, lab: &Lab, kind: Kind) -> Result<(Stats, Stats, Duration)> {
        let (a, b) = ((&self.client, [10, 0, 0, 1].into()), (&self.server, [10, 0, 0, 2].into()));
        let (places, before, start) = (self.places()?, self.node.stats()?, Instant::now());
        let flood = Flood::start(&self.flooder, "eth0", kind, OFFERED)?;
        let paced = Paced::start(a, b, PACE)?;
        Connection::open(a.0, b.0, b.1)?.forth(BYTES, 1 << 16, lab.random().next_u64())?;
        let came = |stats: &Stats| stats.count("flooder", "rx_frames") - before.count("flooder", "rx_frames");
        eventually(SOON, "enough frames of the flood have come in", || {
            let came = came(&self.node.stats()?);
            ensure!(came >= ENOUGH, "{came} of {ENOUGH}");
            Ok(())
        })?;
        let (sent, trips) = (flood.stop(), paced.stop()?);
        lab.note(format!("{sent} frames sent; {} round trips, half within {:?}", trips.sent, trips.quantile(50)));
        ensure!(trips.sent > 50, "{} datagrams are too few to prove anything", trips.sent);
        ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
        let after = self.settled()?;
        ensure!(came(&after) <= sent, "{} frames came in, of {sent}", came(&after));
        ensure_eq!(self.places()?, places, "where the stations are");
        Ok((before, after, start.elapsed()))
    }

    /// The counters once nothing moves any more.
    fn settled(&self) -> Result<Stats> {
        let mut last = self.node.stats()?;
        eventually(SOON, "the counters come to rest", || {
            let now = self.node.stats()?;
            let moved = std::mem::replace(&mut last, now.clone()) != now;
            ensure!(!moved, "they move");
            Ok(now)
        })
    }

    fn sink_mac(&self) -> Result<Mac> {
        self.sink.mac("eth0")
    }
}

fn grown(before: &Stats, after: &Stats, port: &str, name: &str) -> u64 {
    after.count(port, name) - before.count(port, name)
}

fn frames_to_one(lab: &Lab) -> Result {
    let scene = Scene::new(lab, "")?;
    let (before, after, _) = scene.flood(lab, Kind::KnownUnicast(scene.sink_mac()?))?;
    // The limits have nothing to say about it: it all arrives.
    ensure_eq!(after.drops_since(&before), drops([]), "drops");
    let (came, left) = (grown(&before, &after, "flooder", "rx_frames"), grown(&before, &after, "sink", "tx_frames"));
    ensure_eq!(left, came, "frames to the sink");
    Ok(())
}

fn broadcasts(lab: &Lab) -> Result {
    is_limited(lab, "", Kind::Broadcast, "storm_broadcast")
}

fn multicasts(lab: &Lab) -> Result {
    is_limited(lab, "", Kind::Multicast, "storm_multicast")
}

fn frames_to_nobody(lab: &Lab) -> Result {
    is_limited(lab, "", Kind::UnknownUnicast, "storm_unknown_unicast")
}

/// The budget is the port's, however many workers its frames are spread over.
fn broadcasts_with_two_workers(lab: &Lab) -> Result {
    is_limited(lab, "workers = 2\n", Kind::Broadcast, "storm_broadcast")
}

fn is_limited(lab: &Lab, config: &str, kind: Kind, reason: &str) -> Result {
    let scene = Scene::new(lab, config)?;
    let (before, after, took) = scene.flood(lab, kind)?;
    let came = grown(&before, &after, "flooder", "rx_frames");
    let passed = grown(&before, &after, "sink", "tx_frames");
    within_limit(passed, took)?;
    ensure_eq!(after.drops_since(&before), drops([("flooder", reason, came - passed)]), "drops");
    // What passed went to all alike; the others sent each other what they sent beside.
    for other in ["client", "server"] {
        let sent = grown(&before, &after, other, "tx_frames");
        ensure!(sent >= passed, "{passed} frames to all, and {sent} to {other}");
    }
    Ok(())
}

fn within_limit(passed: u64, took: Duration) -> Result {
    let most = STORM / 10 + STORM * u64::try_from(took.as_millis())?.div_ceil(1000);
    ensure!((STORM / 10..=most).contains(&passed), "{passed} frames passed in {took:?}, {most} may");
    Ok(())
}

fn addresses_without_end(lab: &Lab) -> Result {
    let scene = Scene::new(lab, "")?;
    let (before, after, _) = scene.flood(lab, Kind::RandomSources(scene.sink_mac()?))?;
    ensure_eq!(after.drops_since(&before), drops([]), "drops");
    let (came, left) = (grown(&before, &after, "flooder", "rx_frames"), grown(&before, &after, "sink", "tx_frames"));
    ensure_eq!(left, came, "frames to the sink");
    // The flooder has pushed out its own, down to the limit.
    let list = scene.node.ok("fdb list --port flooder")?;
    ensure_eq!(list.as_array().map(Vec::len), Some(usize::try_from(PER_PORT)?), "addresses of the flooder");
    let status = scene.node.ok("status")?;
    let (learned, evicted) = (&status["fdb_learned"], &status["fdb_evicted"]);
    ensure_eq!(status["fdb_limited"], 0, "addresses there was no room for");
    let (learned, evicted) = (learned.as_u64().context("learned")?, evicted.as_u64().context("evicted")?);
    let used = status["fdb_used"].as_u64().context("used")?;
    ensure_eq!(learned - evicted, used, "addresses learned and not evicted");
    ensure!(evicted >= ENOUGH - PER_PORT, "{evicted} evicted");
    Ok(())
}

/// A remote has budgets too: a loop or a flood may stand behind its host, whose own switch lets it through.
fn broadcasts_by_a_remote(lab: &Lab) -> Result {
    const RATE: u32 = 10_000;
    let underlay = netns_tests::Underlay::new(lab, 1500)?;
    let node = |name, limit: u64| {
        let config = format!("storm-limit = {limit}\n");
        Node::with(lab, &underlay, name, |vtep| vtep.v4, DaemonSpec { config, ..DaemonSpec::default() })
    };
    let (h1, h2) = (node("h1", STORM)?, node("h2", 0)?);
    h1.join(10, 100, &[h2.ip])?;
    h2.join(10, 100, &[h1.ip])?;
    let client = h1.attach_quiet(lab, "client", "--address 10.0.0.1/24 --access 10")?;
    let server = h1.attach_quiet(lab, "server", "--address 10.0.0.2/24 --access 10")?;
    let sink = h1.attach_quiet(lab, "sink", "--address 10.0.0.4/24 --access 10")?;
    let flooder = h2.attach_quiet(lab, "flooder", "--address 10.0.0.3/24 --access 10")?;
    for other in [&server, &sink, &flooder] {
        ping(other, [10, 0, 0, 1].into(), 56)?;
    }
    let (before, there, start) = (h1.stats()?, h2.stats()?, Instant::now());
    let flood = Flood::start(&flooder, "eth0", Kind::Broadcast, RATE)?;
    let paced = Paced::start((&client, [10, 0, 0, 1].into()), (&server, [10, 0, 0, 2].into()), PACE)?;
    eventually(SOON, "a second of frames has come in", || {
        let came = grown(&before, &h1.stats()?, "tunnel", "rx_frames");
        ensure!(came >= RATE.into(), "{came}");
        Ok(())
    })?;
    let trips = paced.stop()?;
    let sent = flood.stop();
    ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
    let mut after = h1.stats()?;
    eventually(SOON, "the counters come to rest", || {
        let now = h1.stats()?;
        ensure!(std::mem::replace(&mut after, now.clone()) == now, "they move");
        Ok(())
    })?;
    let (came, passed) = (grown(&before, &after, "tunnel", "rx_frames"), grown(&before, &after, "sink", "tx_frames"));
    ensure!(came <= sent, "{came} of {sent}");
    within_limit(passed, start.elapsed())?;
    ensure_eq!(after.drops_since(&before), drops([("tunnel", "storm_broadcast", came - passed)]), "drops");
    ensure_eq!(h2.stats()?.drops_since(&there), Drops::new(), "drops of the other host, which has no limit");
    Ok(())
}

fn without_a_limit(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon =
        Daemon::start(lab, &host, &DaemonSpec { config: "storm-limit = 0\n".to_owned(), ..Default::default() })?;
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let flooder = node.attach_quiet(lab, "flooder", "")?;
    let _sink = node.attach_quiet(lab, "sink", "")?;
    let flood = Flood::start(&flooder, "eth0", Kind::Broadcast, OFFERED)?;
    eventually(SOON, "many more than any default have passed", || {
        let stats = node.stats()?;
        ensure!(stats.count("sink", "tx_frames") >= ENOUGH, "{stats:?}");
        Ok(())
    })?;
    drop(flood);
    ensure_eq!(node.stats()?.drops, Drops::new(), "drops");
    Ok(())
}

/// A process that does not read holds up nobody but itself: what its sockets have no room for is lost in its own kernel.
fn a_process_that_is_stopped(lab: &Lab) -> Result {
    let scene = Scene::new(lab, "")?;
    ping(&scene.flooder, [10, 0, 0, 4].into(), 56)?;
    let (to_cat, cat) = sleeper(&scene.sink)?;
    let stats = fs::read_to_string(format!("/proc/{}/stat", cat.0.id()))?;
    ensure!(stats.contains(") T "), "the process is stopped: {stats}");
    let source = scene.flooder.call(|| UdpSocket::bind("10.0.0.3:0"))?;
    let before = scene.node.stats()?;
    let paced = Paced::start((&scene.client, [10, 0, 0, 1].into()), (&scene.server, [10, 0, 0, 2].into()), PACE)?;
    let sent = 20_000_u64;
    for number in 0..sent {
        source.send_to(&[0x5a; 1000], to_cat)?;
        if number % 200 == 199 {
            // As fast as the switch takes them, lest its own device's queue be what is full.
            eventually(SOON, "the switch takes what was sent", || {
                let came = grown(&before, &scene.node.stats()?, "flooder", "rx_frames");
                ensure!(came > number, "{came} of {number}");
                Ok(())
            })?;
        }
    }
    let trips = paced.stop()?;
    let after = scene.settled()?;
    ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
    ensure_eq!(after.drops_since(&before), drops([]), "drops");
    ensure!(grown(&before, &after, "sink", "tx_frames") >= sent, "frames to the sink");
    Ok(())
}

/// A child, killed with this.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process in `host` that has a UDP socket as its input and is stopped; returns where that is.
fn sleeper(host: &Host) -> Result<(std::net::SocketAddr, Child)> {
    let socket = host.call(|| UdpSocket::bind("10.0.0.4:0"))?;
    let to = socket.local_addr()?;
    let input = Stdio::from(std::os::fd::OwnedFd::from(socket));
    let mut command = Command::new("cat");
    command.stdin(input).stdout(Stdio::null());
    let child = Child(host.spawn(command)?);
    let pid = nix::unistd::Pid::from_raw(child.0.id().try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP)?;
    eventually(SOON, "the process is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        ensure!(stat.contains(") T "), "{stat}");
        Ok(())
    })?;
    Ok((to, child))
}

fn an_interface_that_is_down(lab: &Lab) -> Result {
    let scene = Scene::new(lab, "")?;
    let to = scene.sink_mac()?;
    // Static, for a switch that hears nothing of the station would take it for unknown in the end.
    scene.node.ok(&format!("fdb add {} --vlan 1 --port sink", text(to)))?;
    scene.sink.netlink().set_up(scene.sink.link("eth0")?.index, false)?;
    let (before, after, _) = scene.flood(lab, Kind::KnownUnicast(to))?;
    let came = grown(&before, &after, "flooder", "rx_frames");
    ensure_eq!(after.drops_since(&before), drops([("sink", "interface_down", came)]), "drops");
    ensure_eq!(grown(&before, &after, "sink", "tx_frames"), 0, "frames to the sink");
    scene.sink.netlink().set_up(scene.sink.link("eth0")?.index, true)?;
    ping(&scene.client, [10, 0, 0, 4].into(), 56)
}

fn bounds_are_shown(lab: &Lab) -> Result {
    let scene = Scene::new(lab, "fdb-limit = 2000\n")?;
    let status = scene.node.ok("status")?;
    let shown = ["storm_limit", "fdb_limit", "fdb_limit_per_port"].map(|name| status[name].as_u64());
    ensure_eq!(shown, [Some(STORM), Some(2000), Some(PER_PORT)], "bounds in {status}");
    Ok(())
}
