//! The table for people, and all samples for programs.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use netns_tests::{Context as _, Result};
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::peer::{Peer, Task};

/// Everything measured.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    containers: u16,
    pub(crate) rows: Vec<Row>,
    pub(crate) skipped: Vec<String>,
}

impl Report {
    pub(crate) const fn new(machine: Machine, containers: u16) -> Self {
        Self { machine, containers, rows: Vec::new(), skipped: Vec::new() }
    }

    pub(crate) fn json(&self) -> Value {
        let Machine { kernel, cpu, cores, load, .. } = &self.machine;
        json!({
            "machine": {"kernel": kernel, "cpu": cpu, "cores": cores, "load": load},
            "containers": self.containers,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "skipped": self.skipped,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}; {} containers present\n", self.machine, self.containers)?;
        writeln!(f, "| ms | plugin | least | p50 | p90 | p99 | most | p50 x bridge | p99 x bridge |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| row.fmt(f))?;
        self.skipped.iter().try_for_each(|skipped| writeln!(f, "\nskipped: {skipped}"))
    }
}

/// All samples of one task.
#[derive(Debug)]
pub(crate) struct Row {
    task: Task,
    peers: Vec<Samples>,
}

/// All samples of one plugin.
#[derive(Debug)]
struct Samples {
    peer: Peer,
    /// ADD while the network fills.
    filling: Times,
    add: Times,
    del: Times,
}

/// Samples of one verb.
type Verb = fn(&Samples) -> &Times;

/// How long something took, again and again.
#[derive(Debug)]
struct Times {
    /// Microseconds, in order of time.
    samples: Vec<u64>,
    histogram: Histogram<u32>,
}

/// A figure of each histogram.
type Figure = fn(&Histogram<u32>) -> f64;

/// What the table shows of it, in microseconds.
const FIGURES: [Figure; 5] = [
    |times| micros(times.min()),
    |times| micros(times.value_at_quantile(0.5)),
    |times| micros(times.value_at_quantile(0.9)),
    |times| micros(times.value_at_quantile(0.99)),
    |times| micros(times.max()),
];

/// Those of [`FIGURES`] that are held against the bridge's: p50 and p99.
const COMPARED: [usize; 2] = [1, 3];

impl Row {
    pub(crate) fn new(task: Task, peers: impl Iterator<Item = Peer>) -> Result<Self> {
        let samples = |peer| Ok(Samples { peer, filling: Times::new()?, add: Times::new()?, del: Times::new()? });
        Ok(Self { task, peers: peers.map(samples).collect::<Result<_>>()? })
    }

    /// Notes an ADD while the network fills.
    pub(crate) fn filling(&mut self, peer: Peer, took: Duration) -> Result {
        self.of(peer)?.filling.note(took)
    }

    /// Notes an ADD beside all containers.
    pub(crate) fn add(&mut self, peer: Peer, took: Duration) -> Result {
        self.of(peer)?.add.note(took)
    }

    /// Notes a DEL beside all containers.
    pub(crate) fn del(&mut self, peer: Peer, took: Duration) -> Result {
        self.of(peer)?.del.note(took)
    }

    fn of(&mut self, peer: Peer) -> Result<&mut Samples> {
        self.peers.iter_mut().find(|samples| samples.peer == peer).context(format_args!("{peer} is not measured"))
    }

    fn json(&self) -> Value {
        let peer = |samples: &Samples| {
            let Samples { peer, filling, add, del } = samples;
            json!({
                "plugin": peer.to_string(),
                "filling_us": filling.samples,
                "add_us": add.samples,
                "del_us": del.samples,
            })
        };
        json!({"task": self.task.name(), "plugins": self.peers.iter().map(peer).collect::<Vec<_>>()})
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verbs: [(&str, Verb); 2] = [("ADD", |samples| &samples.add), ("DEL", |samples| &samples.del)];
        for (verb, times) in verbs {
            let bridge = self.peers.iter().find(|samples| samples.peer == Peer::Bridge);
            let bridge = bridge.map(|samples| &times(samples).histogram);
            for samples in &self.peers {
                let histogram = &times(samples).histogram;
                write!(f, "| {verb}, {} | {} |", self.task.name(), samples.peer)?;
                FIGURES.iter().try_for_each(|figure| write!(f, " {:.1} |", figure(histogram) / 1e3))?;
                for figure in COMPARED.map(|place| FIGURES[place]) {
                    match bridge {
                        Some(bridge) => write!(f, " {:.2} |", figure(histogram) / figure(bridge))?,
                        None => f.write_str(" - |")?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl Times {
    fn new() -> Result<Self> {
        // Three digits: no figure is off by more than a thousandth.
        Ok(Self { samples: Vec::new(), histogram: Histogram::new(3)? })
    }

    fn note(&mut self, took: Duration) -> Result {
        let micros = u64::try_from(took.as_micros())?;
        self.samples.push(micros);
        Ok(self.histogram.record(micros)?)
    }
}

fn micros(value: u64) -> f64 {
    crate::machine::float(value)
}
