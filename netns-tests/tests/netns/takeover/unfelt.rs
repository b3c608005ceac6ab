//! What nobody feels: frames, connections, clients.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use netns_tests::traffic::ping::ping;
use netns_tests::traffic::stream::{Probes, Stream, tcp_counter};
use netns_tests::{Context, Daemon, Failure, Lab, Result, SOON, ensure, ensure_eq, eventually};

use super::{Site, Speaker};

/// What the log says of the last takeover.
fn told(daemon: &Daemon) -> Result<String> {
    let log = daemon.log()?;
    let line = log.lines().rev().find(|line| line.contains("took over in")).context("no takeover in the log")?;
    Ok(line[line.find("took over").unwrap_or(0)..].to_owned())
}

pub(super) fn no_frame_is_lost(lab: &Lab, workers: u16) -> Result {
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

pub(super) fn tcp_feels_nothing(lab: &Lab, workers: u16) -> Result {
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

/// Whoever asks at the very moment of a takeover is answered, by one of the two.
pub(super) fn clients_feel_nothing(lab: &Lab) -> Result {
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

pub(super) fn a_hundred_ports(lab: &Lab) -> Result {
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
