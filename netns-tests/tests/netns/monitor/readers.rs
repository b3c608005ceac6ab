//! Who listens: what each asked for, slow ones, many, strangers, and people.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use netns_tests::frames::{BROADCAST, text};
use netns_tests::traffic::flood::{Flood, Kind};
use netns_tests::traffic::paced::Paced;
use netns_tests::traffic::ping::ping;
use netns_tests::{
    Account, Context, Daemon, DaemonSpec, Lab, Monitoring, Node, Result, SOON, Station, ensure, ensure_eq, eventually,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vswitch_api::{Client, Request};
use vswitch_sys::fdpass;

use super::{alone, words};

pub(super) fn only_what_was_asked_for(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let start = |name: &str, words: &str| Monitoring::start(lab, node.vsctl(), name, words);
    // A port that is not there yet, a VLAN, kinds; and all of it, to know when all was told.
    let (port, vlan, kinds) = (start("p", "--port b")?, start("v", "--vlan 20")?, start("k", "--kind vlan,fdb")?);
    let both = start("b", "--port b --kind fdb")?;
    let all = start("a", "")?;
    let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(node.attach_quiet(lab, "b", "--access 20")?)?;
    node.ok("vlan add 20 --name lab")?;
    a.probe(BROADCAST)?;
    b.probe(BROADCAST)?;
    for station in [&a, &b] {
        all.find("learned", |event| event["event"] == "fdb.learned" && event["mac"] == text(station.mac))?;
    }
    node.ok("vlan del 20")?;
    all.named("vlan.deleted")?;
    let (of_a, of_b) = (format!("fdb.learned {} 10 a", text(a.mac)), format!("fdb.learned {} 20 b", text(b.mac)));
    let (vlan_added, vlan_deleted) = ("vlan.added 20".to_owned(), "vlan.deleted 20".to_owned());
    let (added_a, added_b) = ("port.added a".to_owned(), "port.added b".to_owned());
    let table = [
        ("port", port, vec![added_b.clone(), of_b.clone()]),
        ("vlan", vlan, vec![added_b.clone(), vlan_added.clone(), of_b.clone(), vlan_deleted.clone()]),
        ("kinds", kinds, vec![vlan_added.clone(), of_a.clone(), of_b.clone(), vlan_deleted.clone()]),
        ("both", both, vec![of_b.clone()]),
        ("all", all, vec![added_a, added_b, vlan_added, of_a, of_b, vlan_deleted]),
    ];
    for (name, monitoring, expected) in table {
        let mut told: Vec<_> = exactly_many(&monitoring, expected.len())?.iter().map(words).collect();
        let mut expected = expected;
        // Two queues are read in no order.
        told.sort();
        expected.sort();
        ensure_eq!(told, expected, "{name}");
    }
    node.vsctl().refused(2, "monitor --kind frames")?;
    let again = start("again", "--port a")?.stop()?;
    ensure_eq!(again.events[0]["ports"].as_array().map(Vec::len), Some(1), "ports of the snapshot");
    Ok(())
}

/// The events behind the snapshot once there are so many.
fn exactly_many(monitoring: &Monitoring, many: usize) -> Result<Vec<Value>> {
    eventually(SOON, "all is told", || {
        let events = monitoring.events()?;
        ensure!(events.len() > many, "{events:?}");
        Ok(events.into_iter().skip(1).collect())
    })
}

/// What the switch counted of addresses, by the name of its event.
fn counted(node: &Node) -> Result<BTreeMap<&'static str, u64>> {
    let status = node.ok("status")?;
    let count = |name: &str| status[name].as_u64().context(name.to_owned());
    let all = [("fdb.learned", "fdb_learned"), ("fdb.evicted", "fdb_evicted"), ("fdb.moved", "fdb_moved")];
    all.into_iter().map(|(event, name)| Ok((event, count(name)?))).collect()
}

pub(super) fn a_reader_who_sleeps(lab: &Lab) -> Result {
    let node = alone(lab, "fdb-limit-per-port = 1000\n")?;
    let attach = |name: &str, number: u8| node.attach_quiet(lab, name, &format!("--address 10.0.0.{number}/24"));
    let (client, server) = (attach("client", 1)?, attach("server", 2)?);
    let (flooder, sink) = (attach("flooder", 3)?, attach("sink", 4)?);
    for other in [&server, &flooder, &sink] {
        ping(other, "10.0.0.1".parse()?, 56)?;
    }
    let before = counted(&node)?;
    let (awake, asleep) = (
        Monitoring::start(lab, node.vsctl(), "awake", "--kind fdb")?,
        Monitoring::start(lab, node.vsctl(), "asleep", "--kind fdb")?,
    );
    asleep.signal(Signal::SIGSTOP)?;
    let flood = Flood::start(&flooder, "eth0", Kind::RandomSources(sink.mac("eth0")?), 10_000)?;
    let paced = Paced::start((&client, "10.0.0.1".parse()?), (&server, "10.0.0.2".parse()?), Duration::from_millis(2))?;
    // Learned, and soon evicted again: more than there is room for.
    eventually(SOON * 3, "enough happens", || {
        let learned = counted(&node)?["fdb.learned"] - before["fdb.learned"];
        ensure!(learned > 30_000, "{learned} addresses");
        Ok(())
    })?;
    let (_, trips) = (flood.stop(), paced.stop()?);
    ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
    let after = eventually(SOON, "all is counted", || {
        let one = counted(&node)?;
        std::thread::sleep(Duration::from_millis(50)); // longer than a frame waits
        ensure_eq!(counted(&node)?, one, "counters");
        Ok(one)
    })?;
    asleep.signal(Signal::SIGCONT)?;
    let happened: u64 = after.iter().map(|(name, count)| count - before[name]).sum();
    for (name, monitoring) in [("awake", &awake), ("asleep", &asleep)] {
        let (told, lost) = eventually(SOON, "all is told, or said to be lost", || {
            let events = monitoring.events()?;
            let lost: u64 = events.iter().filter_map(|event| event["events"].as_u64()).sum();
            let told = events.iter().filter(|event| before.contains_key(event["event"].as_str().unwrap_or_default()));
            let told = told.count() as u64;
            ensure_eq!(told + lost, happened, "events told ({told}) and lost ({lost})");
            Ok((told, lost))
        })?;
        println!("{name}: {told} events, {lost} lost");
        ensure!(name == "awake" || lost > 0, "none is lost: the flood was too small to prove anything");
    }
    Ok(())
}

/// Threads of the daemon that serve those who listen.
fn threads(node: &Node) -> Result<usize> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.daemon.pid()))?;
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    Ok(names.filter(|name| name.trim() == "monitor").count())
}

pub(super) fn too_many(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let names: Vec<_> = (0..8).map(|number| format!("m{number}")).collect();
    let start = |name: &String| Monitoring::start(lab, node.vsctl(), name, "");
    let running: Vec<_> = names.iter().map(start).collect::<Result<_>>()?;
    let said = node.vsctl().refused(1, "monitor")?;
    ensure!(said.contains("8 of a user"), "{said}");
    ensure_eq!(threads(&node)?, 8, "threads");
    drop(running);
    eventually(SOON, "threads end with those who listen", || {
        ensure_eq!(threads(&node)?, 0, "threads");
        Ok(())
    })?;
    // Nobody listens: nothing is kept for anybody. And one may listen again.
    node.ok("vlan add 10")?;
    Monitoring::start(lab, node.vsctl(), "again", "")?.stop()?;
    // What is no socket, or none at all, is refused.
    let listen = || Request::decode("monitor.start", json!({})).map_err(|error| error.to_string()).context("a request");
    let mut client = Client::connect(node.daemon.socket(), SOON)?;
    let nothing = fs::File::open("/dev/null")?;
    let refused = client.call_sending(&listen()?, |stream, bytes| fdpass::send(stream, bytes, &[nothing.as_fd()]));
    ensure!(refused.is_err_and(|error| error.to_string().contains("Unix socket")), "a file is no socket");
    ensure!(client.call_value(&listen()?).is_err_and(|error| error.to_string().contains("Unix socket")), "no socket");
    // A program of another's making: the answer is the snapshot, each line an object.
    let (ours, theirs) = UnixStream::pair()?;
    let answer = client.call_sending(&listen()?, |stream, bytes| fdpass::send(stream, bytes, &[theirs.as_fd()]))?;
    drop(theirs);
    ensure_eq!(answer["snapshot"]["event"], "snapshot", "the answer");
    ensure!(answer["reasons"]["queue_full"].is_string(), "reasons");
    node.ok("vlan add 11")?;
    let mut line = String::new();
    BufReader::new(ours).read_line(&mut line)?;
    ensure_eq!(serde_json::from_str::<Value>(&line).context("a line")?["event"], "vlan.added", "the first event");
    Ok(())
}

pub(super) fn who_may_only_look(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let args = ["--socket-mode", "0666"].map(str::to_owned).to_vec();
    let daemon = Daemon::start(lab, &host, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let stranger = daemon.vsctl().by(&Account::user(65_533));
    ensure_eq!(stranger.run("vlan add 10")?.code, 1, "exit code of a change");
    let monitoring = Monitoring::start(lab, &stranger, "m", "")?;
    // As many as he likes, and still there is room for others.
    let names: Vec<_> = (0..7).map(|number| format!("m{number}")).collect();
    let more: Vec<_> = names.iter().map(|name| Monitoring::start(lab, &stranger, name, "")).collect::<Result<_>>()?;
    stranger.refused(1, "monitor")?;
    let own = Monitoring::start(lab, daemon.vsctl(), "own", "")?;
    daemon.vsctl().ok("vlan add 10")?;
    for monitoring in more.iter().chain([&monitoring, &own]) {
        monitoring.named("vlan.added")?;
    }
    Ok(())
}

pub(super) fn lines_for_people(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let mut child = node.vsctl().command()?.arg("monitor").stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let mut next = |part: &str| -> Result {
        let line = lines.next().context("a line")??;
        ensure!(line.contains(part), "{line}: not {part}");
        Ok(())
    };
    next("0 ports, 0 VLANs, 0 peers, 0 addresses")?;
    node.ok("vlan add 10 --name lab")?;
    next("Z vlan.added         10: local, called lab")?;
    let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
    next("Z port.added         a: VLAN 10, eth0 in ")?;
    a.probe(BROADCAST)?;
    next(&format!("Z fdb.learned        {} VLAN 10 at port a", text(a.mac)))?;
    next("Z drops              port a: 1 frames: no_member: The frame is for many")?;
    // Its reader goes: so does it.
    drop(lines);
    node.ok("vlan del 10")?;
    let status = eventually(SOON, "vsctl ends with its reader", || child.try_wait()?.context("it runs"))?;
    ensure_eq!(status.code(), Some(0), "exit code");
    Ok(())
}
