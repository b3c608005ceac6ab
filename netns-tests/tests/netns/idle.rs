use std::fs;
use std::time::{Duration, Instant};

use netns_tests::{Context, Daemon, DaemonSpec, Host, Lab, Node, Result, ensure, eventually, traffic};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("ten_ports", ten_ports),
    ("after_traffic", after_traffic),
    ("two_workers_after_traffic", two_workers_after_traffic),
];

/// How long a daemon is watched: it may use no tick of CPU time (10 ms), nor wake up, in all of it.
const WATCHED: Duration = Duration::from_secs(3);
/// Until it has to have come to rest; the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
/// Resident memory at rest: two workers have each touched the buffers of a whole turn by then.
const MEMORY_KIB: u64 = 20 * 1024;
const PORTS: u8 = 10;

/// A host with ten ports, to containers that say nothing of their own accord, and a peer.
fn ten(lab: &Lab, spec: &DaemonSpec) -> Result<(netns_tests::Underlay, Node, Node, Vec<Host>)> {
    let (underlay, h1, h2) = Node::pair_with(lab, 1500, spec)?;
    let attach =
        |number| h1.attach_quiet(lab, &format!("c{number}"), &format!("--address 10.0.0.{number}/24 --access 10"));
    let containers = (1..=PORTS).map(attach).collect::<Result<_>>()?;
    Ok((underlay, h1, h2, containers))
}

fn ten_ports(lab: &Lab) -> Result {
    let (_underlay, h1, _h2, _containers) = ten(lab, &DaemonSpec::default())?;
    comes_to_rest(&h1.daemon)?;
    small(&h1.daemon)
}

fn after_traffic(lab: &Lab) -> Result {
    rests_after_traffic(lab, &DaemonSpec::default())
}

fn two_workers_after_traffic(lab: &Lab) -> Result {
    rests_after_traffic(lab, &DaemonSpec { config: "workers = 2\n".to_owned(), ..DaemonSpec::default() })
}

fn rests_after_traffic(lab: &Lab, spec: &DaemonSpec) -> Result {
    let (_underlay, h1, h2, containers) = ten(lab, spec)?;
    let away = h2.attach_quiet(lab, "away", "--address 10.0.0.100/24 --access 10")?;
    let [first, second, ..] = &containers[..] else { unreachable!("there are ten") };
    let seed = lab.random().next_u64();
    traffic::everything((first, "10.0.0.1".parse()?), (second, "10.0.0.2".parse()?), 1450, 32 << 20, seed)?;
    traffic::everything((first, "10.0.0.1".parse()?), (&away, "10.0.0.100".parse()?), 1450, 32 << 20, seed)?;
    for container in &containers[1..] {
        traffic::ping::ping(container, "10.0.0.100".parse()?, 56)?;
    }
    comes_to_rest(&h1.daemon)?;
    small(&h1.daemon)?;
    // A port whose namespace is gone does not keep it awake either.
    drop(containers);
    comes_to_rest(&h1.daemon)?;
    small(&h1.daemon)
}

/// What a daemon has used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    /// Clock ticks of CPU time, in user space and in the kernel.
    ticks: u64,
    /// How often its threads fell asleep.
    sleeps: u64,
}

impl Used {
    fn by(daemon: &Daemon) -> Result<Self> {
        let process = format!("/proc/{}", daemon.pid());
        let stat = fs::read_to_string(format!("{process}/stat"))?;
        // Fields 14 and 15 of proc_pid_stat(5); the second, the name, may hold spaces.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).context("no name in stat")?;
        let times: Vec<u64> = fields.skip(11).take(2).map(str::parse).collect::<std::result::Result<_, _>>()?;
        let mut sleeps = 0;
        for task in fs::read_dir(format!("{process}/task"))? {
            sleeps += status(&format!("{}/status", task?.path().display()), "voluntary_ctxt_switches:")?;
        }
        Ok(Self { ticks: times.iter().sum(), sleeps })
    }
}

/// The number behind `field` in a file like `/proc/PID/status`.
fn status(path: &str, field: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context(format_args!("no {field} in {path}"))?;
    line.trim().trim_end_matches(" kB").parse().context(format_args!("{field} in {path}"))
}

/// Waits for a stretch of [`WATCHED`] in which the daemon does nothing at all.
pub(crate) fn comes_to_rest(daemon: &Daemon) -> Result {
    let (mut last, mut since) = (Used::by(daemon)?, Instant::now());
    eventually(PATIENCE, "the daemon rests", || {
        let used = Used::by(daemon)?;
        if used != last {
            let before = std::mem::replace(&mut last, used);
            since = Instant::now();
            ensure!(false, "{before:?} became {used:?}");
        }
        ensure!(since.elapsed() >= WATCHED, "nothing for {:?} so far", since.elapsed());
        Ok(())
    })
}

fn small(daemon: &Daemon) -> Result {
    let resident = status(&format!("/proc/{}/status", daemon.pid()), "VmRSS:")?;
    ensure!(resident < MEMORY_KIB, "resident memory is {resident} KiB, and may be {MEMORY_KIB}");
    Ok(())
}
