//! What each way to wait for frames costs: the time of a round trip against CPU, under traffic and without.

use std::thread;
use std::time::Duration;

use netns_tests::{Context as _, Result};
use serde_json::{Value, json};

use crate::args::Args;
use crate::meter::process_cpu;
use crate::network::Network;
use crate::peer::{Peer, Place};
use crate::row::{Figures, Row, median};
use crate::work::{Plan, Work};

/// Until the kernel's own announcements on fresh interfaces have ended.
const SETTLE: Duration = Duration::from_secs(1);

/// All modes: their round trips, and how much of a core each takes without traffic.
#[derive(Debug)]
pub(crate) struct Poll {
    row: Row,
    idle: Vec<(Peer, Vec<f64>)>,
}

/// Measures the modes in turn. Their networks stand one at a time: a daemon that never sleeps would take a core from the
/// others.
pub(crate) fn measure(plan: &Plan, args: &Args) -> Result<Poll> {
    let (peers, _) = Place::Poll.peers(false);
    let row = Row::new(Place::Poll, Work::PingPong, peers.iter().copied());
    let mut poll = Poll { row, idle: peers.iter().map(|&peer| (peer, Vec::new())).collect() };
    for turn in 1..=args.pairs {
        eprintln!("{} {turn}/{} ...", poll.row.name(), args.pairs);
        for (peer, idle) in &mut poll.idle {
            let name = format!("{}: {peer}", poll.row.name());
            crate::machine::wait_until_quiet(Duration::from_secs_f64(args.patience))?;
            let network = Network::build(Place::Poll, *peer, None).context(&name)?;
            thread::sleep(SETTLE);
            let cpu = || network.daemons.iter().map(|&daemon| process_cpu(daemon)).sum::<Result<f64>>();
            let before = cpu()?;
            thread::sleep(plan.window);
            idle.push((cpu()? - before) / plan.window.as_secs_f64());
            poll.row.add(*peer, Work::PingPong.run(&network, plan).context(&name)?);
        }
    }
    eprint!("{}", poll.row);
    Ok(poll)
}

impl Poll {
    pub(crate) const HEADINGS: [&str; 8] =
        ["round trip, us", "carried by", "mean", "p50", "p99", "p99.9", "CPU s/M trips (of it vswitchd)", "idle CPU"];

    pub(crate) fn lines(&self) -> Vec<[String; 8]> {
        let line = |((peer, figures), (_, idle)): ((Peer, Figures), &(Peer, Vec<f64>))| {
            let latency = figures.latency?;
            let [mean, p50, p99, p999] =
                [latency.mean, latency.p50, latency.p99, latency.p999].map(|time| format!("{time:.1}"));
            let cpu = format!("{:.1} ({:.1})", figures.cost, figures.daemon_cost.unwrap_or_default());
            let idle = format!("{:.1} %", median(idle.clone()) * 100.0);
            Some([self.row.name(), peer.to_string(), mean, p50, p99, p999, cpu, idle])
        };
        self.row.figures().into_iter().zip(&self.idle).filter_map(line).collect()
    }

    pub(crate) fn json(&self) -> Value {
        let idle = self.idle.iter().map(|(peer, idle)| json!({"peer": peer.to_string(), "cores": idle}));
        json!({"row": self.row.json(), "idle": idle.collect::<Vec<_>>()})
    }
}
