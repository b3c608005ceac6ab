use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use netns_tests::binaries::binaries;
use netns_tests::traffic::ping::ping;
use netns_tests::traffic::stream::{Probes, Stream, tcp_counter};
use netns_tests::traffic::tcp::Connection;
use netns_tests::{
    Context, Daemon, DaemonSpec, Failure, Host, Lab, Node, Result, SOON, UPLINK, Underlay, ensure, ensure_eq,
    eventually,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("no_frame_is_lost", |lab| no_frame_is_lost(lab, 1)),
    ("no_frame_is_lost_with_two_workers", |lab| no_frame_is_lost(lab, 2)),
    ("tcp_feels_nothing", |lab| tcp_feels_nothing(lab, 1)),
    ("tcp_feels_nothing_with_two_workers", |lab| tcp_feels_nothing(lab, 2)),
    ("what_was_learned_and_counted", what_was_learned_and_counted),
    ("clients_feel_nothing", clients_feel_nothing),
    ("changes_after_it", changes_after_it),
    ("one_that_is_killed", one_that_is_killed),
    ("one_that_falls_silent", one_that_falls_silent),
    ("who_holds_the_state_directory_serves", who_holds_the_state_directory_serves),
    ("an_ordinary_user", an_ordinary_user),
    ("words_out_of_place", words_out_of_place),
    ("other_settings", other_settings),
    ("an_underlay_made_anew", an_underlay_made_anew),
    ("a_stopped_daemon", a_stopped_daemon),
    ("another_state_directory", another_state_directory),
    ("a_process_that_ended", a_process_that_ended),
    ("nobody_to_take_over_from", nobody_to_take_over_from),
    ("a_hundred_ports", a_hundred_ports),
];

/// A node whose daemon can be replaced.
struct Site {
    node: Node,
    spec: DaemonSpec,
}

impl Site {
    fn pair(lab: &Lab, workers: u16) -> Result<(Underlay, Self, Node)> {
        let spec = DaemonSpec { config: format!("workers = {workers}\n"), ..DaemonSpec::default() };
        let (underlay, node, other) = Node::pair_with(lab, 1500, &spec)?;
        let spec = DaemonSpec { vtep_ip: Some(node.ip), ..spec };
        Ok((underlay, Self { node, spec }, other))
    }

    /// Puts another daemon in the place of the one that serves.
    fn take_over(self, lab: &Lab) -> Result<Self> {
        let Self { node: Node { daemon, host, ip }, spec } = self;
        let daemon = daemon.taken_over(lab, &host, &spec)?;
        Ok(Self { node: Node { daemon, host, ip }, spec })
    }
}

/// What the log says of the last takeover.
fn told(daemon: &Daemon) -> Result<String> {
    let log = daemon.log()?;
    let line = log.lines().rev().find(|line| line.contains("took over in")).context("no takeover in the log")?;
    Ok(line[line.find("took over").unwrap_or(0)..].to_owned())
}

fn no_frame_is_lost(lab: &Lab, workers: u16) -> Result {
    const TAKEOVERS: usize = 3;
    let (_underlay, mut h1, h2) = Site::pair(lab, workers)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c3 = h1.node.attach(lab, "c3", "--address 10.0.0.3/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let local = Probes::start(&c1, &c3, "10.0.0.3".parse()?)?;
    let across = Probes::start(&c1, &c2, "10.0.0.2".parse()?)?;
    let first = h1.node.daemon.pid();
    for _ in 0..TAKEOVERS {
        across.go_on(100)?;
        h1 = h1.take_over(lab)?;
        println!("{}", told(&h1.node.daemon)?);
    }
    across.go_on(100)?;
    ensure!(h1.node.daemon.pid() != first, "the same process serves");
    for (way, probes) in [("local", local), ("across", across)] {
        let answered = probes.stop()?;
        println!("{way}: {} probes, the longest took {:?}", answered.sent, answered.longest);
        ensure!(answered.sent >= 400, "{way}: only {} probes", answered.sent);
        ensure_eq!(answered.lost, Vec::<u32>::new(), "{way}: probes lost of {}", answered.sent);
    }
    Ok(())
}

fn tcp_feels_nothing(lab: &Lab, workers: u16) -> Result {
    let (_underlay, mut h1, h2) = Site::pair(lab, workers)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c3 = h1.node.attach(lab, "c3", "--address 10.0.0.3/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let seed = lab.random().next_u64();
    // One path after the other: two streams at full rate on few cores are late by themselves.
    for (other, ip) in [(&c3, "10.0.0.3"), (&c2, "10.0.0.2")] {
        let counted = |name| Ok::<_, Failure>(tcp_counter(&c1, name)? + tcp_counter(other, name)?);
        let stream = Stream::start(&c1, other, ip.parse()?, seed)?;
        let (timeouts, segments) = (counted("TCPTimeouts")?, counted("RetransSegs")?);
        for _ in 0..3 {
            h1 = h1.take_over(lab)?;
            stream.go_on(10 << 20)?;
        }
        let bytes = stream.stop()?;
        println!("{ip}: {bytes} bytes, {} segments sent again", counted("RetransSegs")? - segments);
        ensure_eq!(counted("TCPTimeouts")? - timeouts, 0, "retransmission time-outs to {ip}");
    }
    Ok(())
}

/// Ages by address and counters by port and name.
type Seen = (BTreeMap<String, Value>, BTreeMap<(String, String), u64>);

fn seen(node: &Node) -> Result<Seen> {
    let fdb = node.ok("fdb list")?;
    let entry = |entry: &Value| {
        let place = if entry["port"].is_null() { &entry["remote"] } else { &entry["port"] };
        (format!("{} {} {place}", entry["mac"], entry["vlan"]), entry["age_s"].clone())
    };
    let ages = fdb.as_array().into_iter().flatten().map(entry).collect();
    let stats = node.stats()?;
    let drops = stats.drops.iter().map(|((port, reason), count)| ((port.clone(), format!("drop {reason}")), *count));
    let mut counts: BTreeMap<_, _> = stats.counts.clone().into_iter().chain(drops).collect();
    let status = node.ok("status")?;
    for name in ["fdb_used", "fdb_learned", "fdb_moved", "fdb_aged", "fdb_evicted", "fdb_limited"] {
        counts.insert((String::new(), name.to_owned()), status[name].as_u64().context(name)?);
    }
    Ok((ages, counts))
}

fn what_was_learned_and_counted(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 2)?;
    let c1 = h1.node.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c3 = h1.node.attach_quiet(lab, "c3", "--address 10.0.0.3/24 --access 10")?;
    let c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    h1.node.ok("fdb add 02:00:00:00:00:99 --vlan 10 --port c1")?;
    h1.node.ok("fdb add 02:00:00:00:00:98 --vlan 10 --remote 192.0.2.2")?;
    Connection::open(&c1, &c2, "10.0.0.2".parse()?)?.both_ways(1 << 20, 50_000, 1)?;
    Connection::open(&c1, &c3, "10.0.0.3".parse()?)?.both_ways(1 << 20, 50_000, 2)?;
    // A drop, so that there is one to be carried over.
    h1.node.ok("port set c3 --access 20")?;
    h1.node.ok("port set c3 --access 10")?;
    let packets = c3.packet_socket("eth0")?;
    packets.send(&netns_tests::frames::ethernet([2, 0, 0, 0, 0, 1], [3, 0, 0, 0, 0, 1], None, 0x0800, &[0; 46]))?;
    // Old enough to tell an age that goes on from one that begins.
    let old = |seen: &Seen| seen.0.values().filter_map(Value::as_u64).max().unwrap_or(0);
    let before = eventually(SOON, "an address is 3 s old, and all is at rest", || {
        let (first, second) = (seen(&h1.node)?, seen(&h1.node)?);
        ensure!(old(&second) >= 3, "the oldest is {} s old", old(&second));
        ensure_eq!(first.1, second.1, "counters");
        Ok(second)
    })?;
    ensure!(before.1.contains_key(&("c3".to_owned(), "drop bad_source".to_owned())), "no drop in {:?}", before.1);
    let everything = h1.node.vsctl().everything()?;
    let h1 = h1.take_over(lab)?;
    let after = seen(&h1.node)?;
    ensure_eq!(h1.node.vsctl().everything()?, everything, "all that can be listed");
    for (counter, count) in &before.1 {
        let now = after.1.get(counter).copied().unwrap_or(0);
        // Containers that are quiet still look for their neighbours now and then.
        ensure!(now >= *count && now <= count + 5000, "{counter:?} was {count} and is {now}");
    }
    for (address, age) in &before.0 {
        let now = after.0.get(address).context(format_args!("{address} is gone"))?;
        ensure_eq!(age.is_null(), now.is_null(), "static or learned: {address}");
        let is_refreshed = now.as_u64() == Some(0); // it has just sent
        ensure!(now.as_u64() >= age.as_u64() || is_refreshed, "{address} was {age} s old and is {now}");
    }
    ensure!(old(&after) >= 3, "the oldest is only {} s old", old(&after));
    // Both go on from there.
    let sums = |seen: &Seen, name: &str| seen.1.get(&("c1".to_owned(), name.to_owned())).copied().unwrap_or(0);
    Connection::open(&c1, &c3, "10.0.0.3".parse()?)?.forth(1 << 20, 50_000, 3)?;
    let later = seen(&h1.node)?;
    let more = sums(&later, "rx_bytes") - sums(&after, "rx_bytes");
    ensure!(more >= 1 << 20, "rx_bytes of c1 went on by {more} only");
    Ok(())
}

/// Whoever asks at the very moment of a takeover is answered, by one of the two.
fn clients_feel_nothing(lab: &Lab) -> Result {
    let (_underlay, mut h1, _h2) = Site::pair(lab, 1)?;
    let socket = h1.node.daemon.socket().to_owned();
    let (over, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let ask = || -> Result<BTreeSet<u64>> {
            let mut pids = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let answer = Speaker::status(&socket).context(format_args!("after {} answers", pids.len()))?;
                pids.insert(answer["result"]["pid"].as_u64().context(format_args!("{answer}"))?);
                asked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(pids)
        };
        let clients = [scope.spawn(ask), scope.spawn(ask)];
        let taken_over = (0..5).try_for_each(|_| {
            let start = asked.load(Ordering::Relaxed);
            let is_enough = || {
                let more = asked.load(Ordering::Relaxed) - start;
                ensure!(more >= 20 || clients.iter().any(thread::ScopedJoinHandle::is_finished), "{more} answers");
                Ok(())
            };
            eventually(SOON, "clients are answered", is_enough)?;
            let (node, spec) = (&h1.node, &h1.spec);
            let next = node.daemon.successor(lab, &node.host, spec)?;
            eventually(SOON, "it took over", || {
                ensure_eq!(Speaker::status(&socket)?["result"]["pid"], next.pid(), "process that answers");
                Ok(())
            })?;
            std::mem::replace(&mut h1.node.daemon, next).ended()?;
            Ok::<_, Failure>(())
        });
        over.store(true, Ordering::Relaxed);
        for client in clients {
            let pids = client.join().ok().context("a client panicked")??;
            ensure!(pids.len() >= 3, "only {} processes have answered", pids.len());
        }
        println!("{} were answered", asked.load(Ordering::Relaxed));
        taken_over
    })
}

fn changes_after_it(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 2)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let h1 = h1.take_over(lab)?;
    h1.node.ok("port set c1 --mtu 1400")?;
    ensure_eq!(c1.link("eth0")?.mtu, 1400, "MTU after port set");
    let c3 = h1.node.attach(lab, "c3", "--address 10.0.0.3/24 --access 10")?;
    for ip in ["10.0.0.1", "10.0.0.2"] {
        ping(&c3, ip.parse()?, 1000)?;
    }
    h1.node.ok("port del c1")?;
    ensure!(c1.netlink().link("eth0")?.is_none(), "the interface goes with the port");
    // And it is all on disk, and can be taken over again.
    let h1 = h1.take_over(lab)?;
    ping(&c2, "10.0.0.3".parse()?, 1000)?;
    let Site { node: Node { daemon, host, ip }, spec } = h1;
    let before = daemon.vsctl().everything()?;
    daemon.end(Signal::SIGTERM)?;
    let daemon = Daemon::start(lab, &host, &spec)?;
    let (before, after) = (before, daemon.vsctl().everything()?);
    for list in 0..4 {
        ensure_eq!(after[list], before[list], "list {list} after a restart");
    }
    let _ = ip;
    ping(&c2, "10.0.0.3".parse()?, 1000)
}

/// Somebody who speaks to the daemon as another one would.
struct Speaker(BufReader<UnixStream>);

impl Speaker {
    fn new(daemon: &Daemon) -> Result<Self> {
        let stream = UnixStream::connect(daemon.socket())?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Says a word; descriptors that come along are closed by the kernel, which has nowhere to put them.
    fn say(&mut self, method: &str, params: &Value) -> Result<Value> {
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.0.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Asks a question that anybody may ask.
    fn status(socket: &Path) -> Result<Value> {
        let mut speaker = Self(BufReader::new(UnixStream::connect(socket)?));
        speaker.say("status", &json!({}))
    }

    fn begin(&mut self) -> Result<Value> {
        let answer = self.say("takeover.begin", &json!({"format": 1}))?;
        ensure!(answer["result"]["descriptors"].is_array(), "takeover.begin: {answer}");
        Ok(answer)
    }

    fn pause(&mut self) -> Result<Value> {
        let answer = self.say("takeover.pause", &json!({}))?;
        ensure!(answer["result"]["paused_at"].is_u64(), "takeover.pause: {answer}");
        Ok(answer)
    }
}

/// The daemon of `node` serves: changes are accepted, frames move.
fn serves(node: &Node, from: &Host, to: &str) -> Result {
    eventually(SOON, "changes are accepted again", || node.ok("vlan add 77"))?;
    node.ok("vlan del 77")?;
    ping(from, to.parse()?, 56)
}

fn one_that_is_killed(lab: &Lab) -> Result {
    const ROUNDS: usize = 24;
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let pid = h1.node.daemon.pid();
    // Before it has said anything, while it prepares itself, and while frames wait: whenever it stops, the other serves.
    for words in 0..3 {
        let mut speaker = Speaker::new(&h1.node.daemon)?;
        if words > 0 {
            speaker.begin()?;
            let said = h1.node.vsctl().refused(1, "vlan add 77")?;
            ensure!(said.contains("takeover is under way"), "a change meanwhile: {said}");
            h1.node.ok("port list")?;
        }
        if words > 1 {
            speaker.pause()?;
        }
        drop(speaker);
        serves(&h1.node, &c1, "10.0.0.2").context(format_args!("after {words} words"))?;
    }
    // A real one, killed at any moment.
    let mut node = h1.node;
    let mut random = lab.random();
    let mut done = 0;
    for round in 0..ROUNDS {
        let Node { daemon, host, ip } = node;
        let next = daemon.successor(lab, &host, &h1.spec)?;
        // Early moments and late ones, on a machine that is fast and on one that is busy: up to 1 to 32 ms.
        let moment = Duration::from_micros(u64::try_from(random.below(1 << (10 + round % 6)))?);
        let start = std::time::Instant::now();
        while start.elapsed() < moment {
            std::thread::yield_now();
        }
        // What it is at that moment decides who serves: one of the two does.
        kill(Pid::from_raw(next.pid().try_into()?), Signal::SIGKILL)?;
        next.ended()?;
        let is_old_there =
            eventually(SOON, "somebody or nobody answers", || match daemon.vsctl().run("status")?.code {
                0 => Ok(true),
                3 => Ok(false),
                code => Err(Failure::new(format!("vsctl status: exit code {code}"))),
            })?;
        let daemon = if is_old_there {
            daemon
        } else {
            // It had taken over, and was the daemon that was killed.
            done += 1;
            let status = daemon.ended()?;
            ensure!(status.success(), "the old daemon ended by itself, {status}");
            let next = Daemon::start(lab, &host, &h1.spec)?;
            // Its word, not that of the one killed, which may not have come so far as to say that it serves.
            let handed_over = next.log()?.matches("ending: another vswitchd has taken over").count();
            ensure_eq!(handed_over, done, "the old daemon is gone without having handed over");
            next
        };
        node = Node { daemon, host, ip };
        serves(&node, &c1, "10.0.0.2")?;
    }
    println!("{done} of {ROUNDS} had taken over when they were killed; the first process was {pid}");
    Ok(())
}

fn one_that_falls_silent(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 2)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let mut speaker = Speaker::new(&h1.node.daemon)?;
    speaker.begin()?;
    // Frames move while it prepares itself.
    ping(&c1, "10.0.0.2".parse()?, 56)?;
    // They wait while it is silent, and are not lost.
    let probes = Probes::start(&c2, &c1, "10.0.0.1".parse()?)?;
    speaker.pause()?;
    eventually(SOON, "the daemon serves on", || h1.node.ok("vlan add 77"))?;
    let said = speaker.say("takeover.commit", &json!({}))?;
    ensure_eq!(said["error"]["code"], 1, "a word that comes too late: {said}");
    let log = h1.node.daemon.log()?;
    ensure!(log.contains("takeover was not completed") && log.contains("silent"), "the log says nothing of it");
    h1.node.ok("vlan del 77")?;
    let answered = probes.stop()?;
    println!("{} probes, {} lost, the longest took {:?}", answered.sent, answered.lost.len(), answered.longest);
    ensure!(answered.longest >= Duration::from_millis(300), "nothing has waited: {answered:?}");
    serves(&h1.node, &c1, "10.0.0.2")
}

/// The lock decides, at the moments when words cannot: between the pause and the last word.
fn who_holds_the_state_directory_serves(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let lock = || Ok::<_, Failure>(std::fs::File::open(lab.folder("h1")?.join("state"))?);
    let paused = || {
        let mut speaker = Speaker::new(&h1.node.daemon)?;
        speaker.begin()?;
        ensure!(lock()?.try_lock().is_err(), "the lock can be had before the pause");
        speaker.pause()?;
        let lock = lock()?;
        lock.try_lock()?;
        Ok::<_, Failure>((speaker, lock))
    };
    // It dies with the lock: its connection may close a moment before.
    let (speaker, held) = paused()?;
    drop(speaker);
    drop(held);
    serves(&h1.node, &c1, "10.0.0.2")?;
    // It gives up, and leaves in an orderly way.
    let (speaker, held) = paused()?;
    drop(held);
    drop(speaker);
    serves(&h1.node, &c1, "10.0.0.2")?;
    // It has the lock and does not say so: it serves all the same, as far as the old one can tell.
    let (speaker, held) = paused()?;
    let socket = h1.node.daemon.socket().to_owned();
    ensure_eq!(h1.node.daemon.ended()?.code(), Some(0), "exit code of the old daemon");
    ensure!(socket.exists(), "it removed the socket, which is the other's by now");
    drop((speaker, held));
    Ok(())
}

/// Who may only look gets no descriptor.
fn an_ordinary_user(lab: &Lab) -> Result {
    const NOBODY: u32 = 65_534;
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let folder = lab.folder("h1")?;
    for (path, mode) in [(folder.parent().context("lab")?, 0o755), (&folder, 0o755), (daemon.socket(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    let mut command = Command::new(&binaries()?.vswitchd);
    command.arg("--takeover").arg("--socket").arg(daemon.socket()).arg("--state-dir").arg(folder.join("none"));
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = match host.spawn(command) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied) => {
            println!("SKIPPED: no process can be started here as user {NOBODY}: {error}");
            return Ok(());
        }
        child => child?,
    };
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure_eq!(output.status.code(), Some(1), "exit code: {said}");
    for part in ["refuses to be taken over", &format!("user {NOBODY} may not take over")] {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }
    daemon.vsctl().ok("vlan add 10").map(drop)
}

fn words_out_of_place(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let (mut one, mut other) = (Speaker::new(&h1.node.daemon)?, Speaker::new(&h1.node.daemon)?);
    let refused = |answer: Value, part: &str| {
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        ensure!(message.contains(part), "{part:?} is not in {answer}");
        Ok(())
    };
    refused(one.say("takeover.pause", &json!({}))?, "in this order")?;
    refused(one.say("takeover.commit", &json!({}))?, "in this order")?;
    refused(one.say("takeover.begin", &json!({"format": 99}))?, "99")?;
    refused(one.say("takeover.begin", &json!({}))?, "format")?;
    one.begin()?;
    refused(other.say("takeover.begin", &json!({"format": 1}))?, "under way")?;
    refused(other.say("takeover.pause", &json!({}))?, "in this order")?;
    refused(one.say("takeover.commit", &json!({}))?, "in this order")?;
    one.pause()?;
    refused(one.say("takeover.pause", &json!({}))?, "in this order")?;
    // Who does not hold the state directory does not serve, whatever it says.
    refused(one.say("takeover.commit", &json!({}))?, "lock")?;
    serves(&h1.node, &c1, "10.0.0.2")
}

fn other_settings(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let other_way = if lab.underlay() == Some("udp") { "uplink" } else { "udp" };
    let table = [
        (DaemonSpec { config: "workers = 2\n".to_owned(), ..h1.spec.clone() }, "--workers 1"),
        (DaemonSpec { vtep_ip: None, ..h1.spec.clone() }, "--vtep-ip 192.0.2.1"),
        (DaemonSpec { vtep_ip: Some("192.0.2.9".parse()?), ..h1.spec.clone() }, "192.0.2.9"),
        (DaemonSpec { config: "vtep-port = 8472\n".to_owned(), ..h1.spec.clone() }, "--vtep-port 4789"),
        (DaemonSpec { underlay: Some(other_way), ..h1.spec.clone() }, "--underlay"),
    ];
    for (spec, part) in table {
        let next = h1.node.daemon.successor(lab, &h1.node.host, &spec)?;
        ensure_eq!(next.ended()?.code(), Some(1), "exit code with {spec:?}");
        let log = h1.node.daemon.log()?;
        let said = log.lines().rev().find(|line| line.starts_with("vswitchd:")).unwrap_or_default();
        for part in [part, "without --takeover"] {
            ensure!(said.contains(part), "{part:?} is not in: {said}");
        }
        serves(&h1.node, &c1, "10.0.0.2")?;
    }
    // What may be otherwise.
    let spec = DaemonSpec { config: "ageing = 77\npoll = \"sleep\"\n".to_owned(), underlay: Some("auto"), ..h1.spec };
    let Node { daemon, host, ip } = h1.node;
    let daemon = daemon.taken_over(lab, &host, &spec)?;
    serves(&Node { daemon, host, ip }, &c1, "10.0.0.2")
}

/// The underlay's interface was deleted and made again: VXLAN goes on by the address, and so does a takeover.
fn an_underlay_made_anew(lab: &Lab) -> Result {
    let (underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    ping(&c1, "10.0.0.2".parse()?, 56)?;
    let (bridge, host) = (underlay.host(), &h1.node.host);
    let was = host.link(UPLINK)?.index;
    host.netlink().delete_link(was)?;
    host.netlink().add_veth("other", "away", None)?; // it gets another number
    bridge.netlink().add_veth("anew", UPLINK, Some(host.netns()))?;
    bridge.netlink().set_master(bridge.link("anew")?.index, Some(bridge.link("br")?.index))?;
    bridge.up("anew")?;
    host.up(UPLINK)?;
    host.address(UPLINK, &["192.0.2.1/24".parse()?])?;
    ensure!(host.link(UPLINK)?.index != was, "the interface has the number it had");
    let reaches = || eventually(SOON, "the other host is reached", || ping(&c1, "10.0.0.2".parse()?, 56));
    reaches()?;
    if lab.underlay() == Some("uplink") {
        let next = h1.node.daemon.successor(lab, &h1.node.host, &h1.spec)?;
        ensure_eq!(next.ended()?.code(), Some(1), "exit code with an uplink that is gone");
        let log = h1.node.daemon.log()?;
        ensure!(log.contains("the uplink went with it") && log.contains("--underlay auto"), "{log}");
        serves(&h1.node, &c1, "10.0.0.2")?;
    }
    let Site { node, spec } = h1;
    let h1 = Site { node, spec: DaemonSpec { underlay: Some("auto"), ..spec } }.take_over(lab)?;
    reaches()?;
    // What it handed on is as good as what it was told.
    let h1 = h1.take_over(lab)?;
    reaches()?;
    serves(&h1.node, &c1, "10.0.0.2")
}

/// It is left as it is, and who wanted to take over says why.
fn a_stopped_daemon(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let pid = Pid::from_raw(h1.node.daemon.pid().try_into()?);
    kill(pid, Signal::SIGSTOP)?;
    let next = h1.node.daemon.successor(lab, &h1.node.host, &h1.spec)?;
    let ended = next.ended();
    kill(pid, Signal::SIGCONT)?;
    ensure_eq!(ended?.code(), Some(1), "exit code");
    let log = h1.node.daemon.log()?;
    let said = log.lines().rev().find(|line| line.starts_with("vswitchd:")).unwrap_or_default();
    for part in ["did not answer within 10 s", "stopped"] {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }
    serves(&h1.node, &c1, "10.0.0.2")
}

/// With a directory of its own each would hold a lock, and both would serve.
fn another_state_directory(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let state = lab.folder("h1")?.join("state");
    fs::rename(&state, state.with_file_name("moved"))?;
    let next = h1.node.daemon.successor(lab, &h1.node.host, &h1.spec)?;
    ensure_eq!(next.ended()?.code(), Some(1), "exit code");
    ensure!(h1.node.daemon.log()?.contains("--state-dir another directory"), "what differs is not said");
    fs::remove_dir_all(&state)?;
    fs::rename(state.with_file_name("moved"), &state)?;
    serves(&h1.node, &c1, "10.0.0.2")
}

/// A port named by a process that is gone: its queues are handed over, and nothing need be looked for.
fn a_process_that_ended(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = lab.host("c1")?;
    let mut command = Command::new("cat");
    let mut process = c1.spawn({
        command.stdin(Stdio::piped());
        command
    })?;
    h1.node.ok(&format!("port add c1 --netns pid:{} --address 10.0.0.1/24 --access 10", process.id()))?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let before = c1.link("eth0")?.index;
    process.kill()?;
    process.wait()?;
    let h1 = h1.take_over(lab)?;
    ensure_eq!(h1.node.ok("port show c1")?["state"], "up", "state");
    ensure_eq!(c1.link("eth0")?.index, before, "the interface");
    ping(&c1, "10.0.0.2".parse()?, 56)
}

fn nobody_to_take_over_from(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let spec = DaemonSpec { takeover: true, ..DaemonSpec::default() };
    // None was ever there; one ended; one was killed, and its socket is still there.
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
        let daemon = Daemon::start(lab, &host, &spec)?;
        daemon.vsctl().ok("vlan add 10")?;
        daemon.end(signal)?;
    }
    let log = std::fs::read_to_string(lab.folder("h1")?.join("log"))?;
    ensure_eq!(log.matches("no vswitchd to take over from").count(), 3, "starts as usual");
    Ok(())
}

fn a_hundred_ports(lab: &Lab) -> Result {
    const PORTS: usize = 100;
    let (_underlay, h1, _h2) = Site::pair(lab, 2)?;
    let containers: Vec<_> = (0..PORTS)
        .map(|number| {
            h1.node.attach_quiet(lab, &format!("c{number}x"), &format!("--address 10.0.1.{number}/16 --access 10"))
        })
        .collect::<Result<_>>()?;
    let first = containers.first().context("no container")?;
    let probes = Probes::start(first, &containers[1], "10.0.1.1".parse()?)?;
    let h1 = h1.take_over(lab)?;
    let answered = probes.stop()?;
    println!("{PORTS} ports: {}", told(&h1.node.daemon)?);
    ensure_eq!(answered.lost, Vec::<u32>::new(), "probes lost of {}", answered.sent);
    ensure_eq!(h1.node.ok("status")?["ports_lost"], 0, "lost ports");
    for container in &containers {
        ping(container, "10.0.1.1".parse()?, 56)?;
    }
    Ok(())
}
