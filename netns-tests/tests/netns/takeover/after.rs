//! What the next daemon knows and can do.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use netns_tests::traffic::ping::ping;
use netns_tests::traffic::tcp::Connection;
use netns_tests::{Context, Daemon, Lab, Node, Result, SOON, ensure, ensure_eq, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::Site;

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

pub(super) fn what_was_learned_and_counted(lab: &Lab) -> Result {
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

pub(super) fn changes_after_it(lab: &Lab) -> Result {
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
    let Site { node: Node { daemon, host, .. }, spec } = h1;
    let before = daemon.vsctl().everything()?;
    daemon.end(Signal::SIGTERM)?;
    let daemon = Daemon::start(lab, &host, &spec)?;
    let after = daemon.vsctl().everything()?;
    for list in 0..4 {
        ensure_eq!(after[list], before[list], "list {list} after a restart");
    }
    ping(&c2, "10.0.0.3".parse()?, 1000)
}

/// A port named by a process that is gone: its queues are handed over, and nothing need be looked for.
pub(super) fn a_process_that_ended(lab: &Lab) -> Result {
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
