//! The table for people, and all samples for programs.

use std::fmt;

use serde_json::{Value, json};

use crate::idle::{self, Idle};
use crate::meter::Machine;
use crate::row::{Figures, Row, reference};

/// Everything measured.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    pub(crate) rows: Vec<Row>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) skipped: Vec<String>,
}

const HEADINGS: [&str; 8] =
    ["work", "carried by", "median (least-most)", "x kernel", "core each", "CPU", "of it vswitchd", "loss"];

impl Report {
    pub(crate) const fn new(machine: Machine) -> Self {
        Self { machine, rows: Vec::new(), idle: Vec::new(), skipped: Vec::new() }
    }

    pub(crate) fn json(&self) -> Value {
        let Machine { kernel, cpu, cores, load } = &self.machine;
        json!({
            "machine": {"kernel": kernel, "cpu": cpu, "cores": cores, "load": load},
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "idle": self.idle.iter().map(Idle::json).collect::<Vec<_>>(),
            "skipped": self.skipped,
        })
    }

    fn lines(&self) -> Vec<[String; 8]> {
        self.rows.iter().flat_map(lines).collect()
    }
}

/// One line a peer.
fn lines(row: &Row) -> Vec<[String; 8]> {
    let all = row.figures();
    let kernel = reference(&all);
    let line = |(peer, figures): &(_, Figures)| {
        let (low, high) = figures.range;
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let cost = |cost: f64| format!("{cost:.2} {}", row.work.cost_unit());
        [
            row.name(),
            format!("{peer}"),
            format!("{:.1} ({low:.1}-{high:.1}) {}", figures.rate, row.work.unit()),
            ratio(kernel.map(|kernel| figures.ratio(kernel))),
            ratio(kernel.and_then(|kernel| figures.ratio_core_each(kernel, row.work))),
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
