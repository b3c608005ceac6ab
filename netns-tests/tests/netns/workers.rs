use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use netns_tests::frames::{self, BROADCAST, Mac, text};
use netns_tests::traffic::ping::ping;
use netns_tests::traffic::tcp::Connection;
use netns_tests::{
    Context, Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, Station, Stats, drops, ensure, ensure_eq, eventually,
    traffic,
};
use nix::sys::signal::Signal;
use socket2::{Domain, Type};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("streams", streams),
    ("flows_on_one_host_keep_their_order", |lab| flows_keep_their_order(lab, false)),
    ("flows_across_keep_their_order", |lab| flows_keep_their_order(lab, true)),
    ("all_know_what_one_learned", all_know_what_one_learned),
    ("ports_come_go_and_are_lost", ports_come_go_and_are_lost),
    ("after_a_restart", after_a_restart),
    ("a_port_that_another_holds", a_port_that_another_holds),
    ("many", many),
];

/// So many that no queue goes without.
const FLOWS: u16 = 32;
/// What one flow sends before the others' turn comes, and before all is waited for: much less than a queue holds.
const WINDOW: u32 = 4;
const ROUNDS: u32 = 60;
const FIRST_PORT: u16 = 20_000;

fn two() -> DaemonSpec {
    workers(2)
}

fn workers(count: u16) -> DaemonSpec {
    DaemonSpec { config: format!("workers = {count}\n"), ..DaemonSpec::default() }
}

fn streams(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &two())?;
    ensure_eq!(h1.ok("status")?["workers"], 2, "workers in status");
    let words = |n| format!("--address 10.0.0.{n}/24 --address fd00::{n}/64 --access 10");
    let (c1, c2) = (h1.attach(lab, "c1", &words(1))?, h1.attach(lab, "c2", &words(2))?);
    let c3 = h2.attach(lab, "c3", &words(3))?;
    let seed = lab.random().next_u64();
    for net in ["10.0.0.", "fd00::"] {
        let [a, b, c] = [1, 2, 3].map(|n| format!("{net}{n}").parse());
        let a = a?;
        traffic::everything((&c1, a), (&c2, b?), 1450, 4 << 20, seed)?;
        traffic::everything((&c1, a), (&c3, c?), 1450, 4 << 20, seed)?;
    }
    // Many at once, on all queues, each way.
    let to = [(&c2, "10.0.0.2"), (&c3, "10.0.0.3")];
    thread::scope(|scope| {
        let streams: Vec<_> = (0..8_u64)
            .map(|number| {
                let (host, ip) = to[usize::from(number % 2 == 0)];
                let connection = Connection::open(&c1, host, ip.parse()?)?;
                Ok(scope.spawn(move || connection.both_ways(8 << 20, 100_000, seed + number)))
            })
            .collect::<Result<_>>()?;
        streams.into_iter().try_for_each(|stream| stream.join().ok().context("a stream panicked")?)
    })
}

/// Frame `number` of a UDP flow from 10.0.0.1 to 10.0.0.2.
fn datagram(to: Mac, from: Mac, flow: u16, number: u32) -> Vec<u8> {
    let payload = number.to_be_bytes();
    let udp =
        [&(FIRST_PORT + 1000 + flow).to_be_bytes()[..], &(FIRST_PORT + flow).to_be_bytes(), &[0, 12, 0, 0], &payload];
    let mut ip = [&[0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], &udp.concat()[..]].concat();
    let sum: u32 = ip[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0);
    ip[10..12].copy_from_slice(&folded.to_be_bytes());
    let mut frame = frames::ethernet(to, from, None, 0x0800, &ip);
    frame.resize(60, 0);
    frame
}

/// A socket for each flow.
fn listeners(host: &Host) -> Result<Vec<UdpSocket>> {
    let ip = IpAddr::from(Ipv4Addr::new(10, 0, 0, 2));
    let listen = |flow| {
        let socket = host.socket(Domain::IPV4, Type::DGRAM, None)?;
        socket.bind(&SocketAddr::new(ip, FIRST_PORT + flow).into())?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(socket.into())
    };
    (0..FLOWS).map(listen).collect()
}

/// Nanoseconds that each worker of a daemon ran so far.
fn ran(daemon: &Daemon) -> Result<Vec<u64>> {
    let mut ran = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?;
        if let Some(number) = name.trim().strip_prefix("worker-") {
            let nanos = fs::read_to_string(task.join("schedstat"))?;
            ran.push((number.parse::<u16>()?, nanos.split_whitespace().next().context("schedstat")?.parse()?));
        }
    }
    ran.sort_unstable();
    Ok(ran.into_iter().map(|(_, nanos)| nanos).collect())
}

/// What the counters of `node` for `port` did since `before`.
fn moved(before: &Stats, after: &Stats, port: &str) -> (u64, u64) {
    let moved = |name| after.count(port, name) - before.count(port, name);
    (moved("rx_frames"), moved("tx_frames"))
}

/// Each flow's frames arrive in the order they were sent, whatever worker carries it, and the sum over workers counts each once.
fn flows_keep_their_order(lab: &Lab, is_across: bool) -> Result {
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &two())?;
    let a = Station::new(h1.attach_quiet(lab, "a", "--address 10.0.0.1/24 --access 10")?)?;
    let other = if is_across { &h2 } else { &h1 };
    let b = Station::new(other.attach_quiet(lab, "b", "--address 10.0.0.2/24 --access 10")?)?;
    let bystander = Station::new(h1.attach_quiet(lab, "bystander", "--access 10")?)?;
    // One frame of one flow teaches all workers where b is.
    let cookie = b.probe(BROADCAST)?;
    a.wire.until("b's broadcast", |frame| frames::cookie_of(frame) == Some(cookie))?;
    bystander.wire.until("b's broadcast", |frame| frames::cookie_of(frame) == Some(cookie))?;
    let listeners = listeners(&b.host)?;
    let before = (h1.stats()?, h2.stats()?);
    let ran_before = (ran(&h1.daemon)?, ran(&h2.daemon)?);

    let mut next = vec![0_u32; usize::from(FLOWS)];
    for round in 0..ROUNDS {
        for flow in 0..FLOWS {
            for number in round * WINDOW..(round + 1) * WINDOW {
                a.wire.send(&datagram(b.mac, a.mac, flow, number))?;
            }
        }
        for (flow, (listener, next)) in listeners.iter().zip(&mut next).enumerate() {
            for _ in 0..WINDOW {
                let mut number = [0; 4];
                let len = listener.recv(&mut number).context(format_args!("flow {flow}, waiting for number {next}"))?;
                ensure_eq!((len, u32::from_be_bytes(number)), (4, *next), "length and number of flow {flow}");
                *next += 1;
            }
        }
    }

    let all = u64::from(FLOWS) * u64::from(ROUNDS * WINDOW);
    let after = (h1.stats()?, h2.stats()?);
    ensure_eq!(moved(&before.0, &after.0, "a"), (all, 0), "frames from and to a");
    ensure_eq!(moved(&before.0, &after.0, "bystander"), (0, 0), "frames from and to the bystander");
    let (there, tunnel) = if is_across { ((&before.1, &after.1), all) } else { ((&before.0, &after.0), 0) };
    ensure_eq!(moved(there.0, there.1, "b"), (0, all), "frames from and to b");
    ensure_eq!(moved(&before.0, &after.0, "tunnel"), (0, tunnel), "frames into the tunnel");
    ensure_eq!(moved(&before.1, &after.1, "tunnel"), (tunnel, 0), "frames out of the tunnel");
    ensure_eq!(after.0.drops_since(&before.0), drops([]), "drops");

    let busy = if is_across { vec![(&h1, ran_before.0), (&h2, ran_before.1)] } else { vec![(&h1, ran_before.0)] };
    for (node, before) in busy {
        let took: Vec<_> = ran(&node.daemon)?.iter().zip(&before).map(|(now, then)| now - then).collect();
        let all: u64 = took.iter().sum();
        ensure!(
            took.len() == 2 && took.iter().all(|nanos| nanos * 20 > all),
            "a worker had nothing to do: {took:?} ns"
        );
    }
    Ok(())
}

/// Static addresses, and what was forgotten, are so for frames of all flows, whichever worker they come to.
fn all_know_what_one_learned(lab: &Lab) -> Result {
    let roamer = [2, 0xaa, 0, 0, 0, 1];
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &two())?;
    let node = Node { daemon, host, ip: IpAddr::from([127, 0, 0, 1]) };
    let [a, b, c] = ["a", "b", "c"].map(|name| Station::new(node.attach_quiet(lab, name, "")?));
    let (a, b, c) = (a?, b?, c?);
    // How many frames of as many flows to the roamer arrive at b and at c.
    let arrive = || {
        let before = node.stats()?;
        (0..FLOWS).try_for_each(|flow| a.wire.send(&datagram(roamer, a.mac, flow, 0)))?;
        let all = u64::from(FLOWS);
        eventually(SOON, "all frames have come in", || {
            let now = node.stats()?;
            ensure_eq!(moved(&before, &now, "a").0, all, "frames from a");
            ensure!(moved(&before, &now, "b").1 + moved(&before, &now, "c").1 >= all, "they have not left yet");
            Ok((moved(&before, &now, "b").1, moved(&before, &now, "c").1))
        })
    };
    let all = u64::from(FLOWS);
    node.ok(&format!("fdb add {} --vlan 1 --port b", text(roamer)))?;
    ensure_eq!(arrive()?, (all, 0), "frames to a static address");
    node.ok(&format!("fdb del {} --vlan 1", text(roamer)))?;
    for (station, expected) in [(&c, (0, all)), (&b, (all, 0))] {
        let cookie = station.probe_as(roamer, BROADCAST)?;
        a.wire.until("the roamer's broadcast", |frame| frames::cookie_of(frame) == Some(cookie))?;
        ensure_eq!(arrive()?, expected, "frames to where the roamer was last seen");
    }
    ensure_eq!(node.ok("status")?["fdb_moved"], 1, "moves");
    node.ok("fdb flush")?;
    eventually(SOON, "the frames are flooded", || {
        node.ok("fdb flush")?;
        ensure_eq!(arrive()?, (all, all), "frames to an address that was forgotten");
        Ok(())
    })
}

fn ports_come_go_and_are_lost(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &two())?;
    let c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    for turn in 0..3 {
        let c1 = h1.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
        ping(&c1, "10.0.0.2".parse()?, 56).context(format_args!("turn {turn}"))?;
        ping(&c2, "10.0.0.1".parse()?, 1000)?;
        h1.ok("port set c1 --access 20")?;
        h1.ok("port set c1 --access 10 --mtu 1400")?;
        ensure_eq!(c1.link("eth0")?.mtu, 1400, "MTU after port set");
        ping(&c2, "10.0.0.1".parse()?, 1000)?;
        h1.ok("port del c1")?;
        ensure!(c1.netlink().link("eth0")?.is_none(), "the interface goes with the port");
    }
    let doomed = h1.attach(lab, "doomed", "--address 10.0.0.9/24 --access 10")?;
    let c3 = h1.attach_quiet(lab, "c3", "--address 10.0.0.3/24 --access 10")?;
    ping(&doomed, "10.0.0.2".parse()?, 56)?;
    h1.ok(&format!("fdb add {} --vlan 10 --port doomed", text([2, 0xaa, 0, 0, 0, 2])))?;
    drop(doomed);
    eventually(SOON, "the port is lost", || {
        ensure_eq!(h1.ok("port show doomed")?["state"], "lost", "state");
        Ok(())
    })?;
    ensure_eq!(h1.place_of(10, &text([2, 0xaa, 0, 0, 0, 2]))?, None, "place of an address on the lost port");
    let seed = lab.random().next_u64();
    traffic::everything((&c3, "10.0.0.3".parse()?), (&c2, "10.0.0.2".parse()?), 1450, 1 << 20, seed)?;
    h1.ok("port del doomed").map(drop)
}

fn after_a_restart(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &two())?;
    let c1 = h1.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let before = h1.ok("port list")?;
    let Node { mut daemon, host, ip } = h1;
    // The same state serves any number of workers.
    for count in [2, 1, 3] {
        daemon.end(Signal::SIGTERM)?;
        daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..workers(count) })?;
        ensure_eq!(daemon.vsctl().ok("port list")?, before, "ports with {count} workers");
        ensure_eq!(daemon.vsctl().ok("status")?["workers"], count, "workers in status");
        let seed = lab.random().next_u64();
        traffic::everything((&c1, "10.0.0.1".parse()?), (&c2, "10.0.0.2".parse()?), 1450, 1 << 20, seed)?;
    }
    Ok(())
}

/// Sockets that share their port must not share it with another program, nor get only a part of what comes.
fn a_port_that_another_holds(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let other = host.socket(Domain::IPV4, Type::DGRAM, None)?;
    other.set_reuse_port(true)?;
    other.bind(&SocketAddr::from(([127, 0, 0, 1], 4789)).into())?;
    let spec = DaemonSpec { vtep_ip: Some(IpAddr::from([127, 0, 0, 1])), ..two() };
    let ended = Daemon::refused(lab, &host, &spec)?;
    ensure!(ended.output.contains("4789") && ended.output.contains("in use"), "{}", ended.output);
    Ok(())
}

fn many(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &workers(64))?;
    let c1 = h1.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    ensure_eq!(ran(&h1.daemon)?.len(), 64, "threads");
    let seed = lab.random().next_u64();
    traffic::everything((&c1, "10.0.0.1".parse()?), (&c2, "10.0.0.2".parse()?), 1450, 1 << 20, seed)
}
