//! The table for people, and all samples for programs.

use std::fmt;

use netns_tests::SuperFrames;
use serde_json::{Value, json};

use crate::idle::{self, Idle};
use crate::machine::Machine;
use crate::peer::Peer;
use crate::poll::Poll;
use crate::row::{CoreEach, Figures, Row, of};
use crate::watched::Watched;

/// Everything measured.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    pub(crate) rows: Vec<Row>,
    pub(crate) poll: Option<Poll>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) skipped: Vec<String>,
}

const COLUMNS: usize = 10;
const HEADINGS: [&str; COLUMNS] = [
    "work",
    "carried by",
    "median (least-most)",
    "x kernel",
    "x OVS, off",
    "x OVS, TSO",
    "core each",
    "CPU",
    "of it the switch",
    "loss",
];

impl Report {
    pub(crate) const fn new(machine: Machine) -> Self {
        Self { machine, rows: Vec::new(), poll: None, watched: Vec::new(), idle: Vec::new(), skipped: Vec::new() }
    }

    pub(crate) fn json(&self) -> Value {
        let Machine { kernel, cpu, cores, load, congestion } = &self.machine;
        json!({
            "machine": {"kernel": kernel, "cpu": cpu, "cores": cores, "load": load, "congestion": congestion},
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "poll": self.poll.as_ref().map(Poll::json),
            "watched": self.watched.iter().map(Watched::json).collect::<Vec<_>>(),
            "idle": self.idle.iter().map(Idle::json).collect::<Vec<_>>(),
            "skipped": self.skipped,
        })
    }

    fn lines(&self) -> Vec<[String; COLUMNS]> {
        self.rows.iter().flat_map(lines).collect()
    }
}

/// One line a peer.
fn lines(row: &Row) -> Vec<[String; COLUMNS]> {
    let all = row.figures();
    let kernel = of(&all, Peer::Kernel);
    let [off, tso] = [SuperFrames::Cut, SuperFrames::Whole].map(|kind| of(&all, Peer::OpenVswitch(kind)));
    let line = |(peer, figures): &(_, Figures)| {
        let (low, high) = figures.range;
        let ratio = |other: Option<&Figures>| {
            other.map_or_else(|| "-".to_owned(), |other| format!("{:.2}", figures.ratio(other)))
        };
        let core_each = match kernel.and_then(|kernel| figures.core_each(kernel, row.work)) {
            Some(CoreEach::Measured(ratio)) => format!("{ratio:.2}"),
            Some(CoreEach::Computed(ratio)) => format!("{ratio:.2} computed"),
            None => "-".to_owned(),
        };
        let cost = |cost: f64| format!("{cost:.2} {}", row.work.cost_unit());
        [
            row.name(),
            format!("{peer}"),
            format!("{:.1} ({low:.1}-{high:.1}) {}", figures.rate, row.work.unit()),
            ratio(kernel),
            ratio(off),
            ratio(tso),
            core_each,
            cost(figures.cost),
            figures.daemon_cost.map_or_else(|| "-".to_owned(), cost),
            figures.loss.map_or_else(|| "-".to_owned(), |loss| format!("{:.2} %", loss * 100.0)),
        ]
    };
    all.iter().map(line).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", self.machine)?;
        if !self.rows.is_empty() {
            table(f, &HEADINGS, &self.lines())?;
        }
        let trips: Vec<_> = self.rows.iter().flat_map(trips).collect();
        if !trips.is_empty() {
            writeln!(f)?;
            table(f, &["round trip, us", "carried by", "p50", "p99", "p99.9", "mean"], &trips)?;
        }
        if let Some(poll) = &self.poll {
            writeln!(f)?;
            table(f, &Poll::HEADINGS, &poll.lines())?;
        }
        if !self.watched.is_empty() {
            let lines: Vec<_> = self.watched.iter().flat_map(Watched::lines).collect();
            writeln!(f)?;
            table(f, &Watched::HEADINGS, &lines)?;
        }
        if !self.idle.is_empty() {
            let line = |idle: &Idle| {
                let cpu = format!("{:.1} %", idle.percent());
                [idle::name(idle.ports), cpu, format!("{:.1} MiB", idle.mebibytes())]
            };
            writeln!(f)?;
            table(f, &["vswitchd", "CPU", "resident"], &self.idle.iter().map(line).collect::<Vec<_>>())?;
        }
        for row in &self.rows {
            let (samples, disturbed) = row.disturbed();
            if disturbed > 0 {
                writeln!(
                    f,
                    "\ndisturbed: {}: others used the machine in {disturbed} of {samples} samples",
                    row.name()
                )?;
            }
        }
        for skipped in &self.skipped {
            writeln!(f, "\nskipped: {skipped}")?;
        }
        Ok(())
    }
}

fn trips(row: &Row) -> Vec<[String; 6]> {
    let line = |(peer, figures): (_, Figures)| {
        let latency = figures.latency?;
        let [p50, p99, p999, mean] =
            [latency.p50, latency.p99, latency.p999, latency.mean].map(|time| format!("{time:.1}"));
        Some([row.name(), format!("{peer}"), p50, p99, p999, mean])
    };
    row.figures().into_iter().filter_map(line).collect()
}

/// A Markdown table with aligned columns: it reads in a terminal, and goes into README.md as it is.
fn table<const N: usize>(f: &mut fmt::Formatter<'_>, headings: &[&str; N], lines: &[[String; N]]) -> fmt::Result {
    let width = |column: usize| {
        lines.iter().map(|line| line[column].len()).chain([headings[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut line = |cells: &[&str; N]| {
        cells.iter().zip(widths).try_for_each(|(cell, width)| write!(f, "| {cell:width$} "))?;
        writeln!(f, "|")
    };
    line(headings)?;
    let rules = widths.map(|width| "-".repeat(width));
    line(&std::array::from_fn(|column| rules[column].as_str()))?;
    lines.iter().try_for_each(|cells| line(&std::array::from_fn(|column| cells[column].as_str())))
}
