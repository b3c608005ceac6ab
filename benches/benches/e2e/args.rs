//! What the command line says.

use std::path::PathBuf;

use clap::Parser;

/// Compares the switch with the kernel's bridge and VXLAN, end to end.
#[derive(Debug, Parser)]
#[command(name = "e2e")]
pub(crate) struct Args {
    /// Measure only rows whose name contains one of these, as `local/`, `tcp-1` or `idle`
    filters: Vec<String>,
    /// How often each peer has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pairs: u32,
    /// How long one measurement lasts
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// How long an idle daemon is watched
    #[arg(long, default_value_t = 5.0)]
    pub(crate) idle_seconds: f64,
    /// How long to wait, before each measurement, for a machine that has nothing else to do
    #[arg(long, default_value_t = 10.0)]
    pub(crate) patience: f64,
    /// TCP congestion control of the containers, where not the machine's own
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Have TCP send at once what does not fill a segment (TCP_NODELAY), as servers do and iperf3 does not
    #[arg(long)]
    pub(crate) no_delay: bool,
    /// Measure a daemon with two workers too
    #[arg(long)]
    pub(crate) workers: bool,
    /// Measure `core each` on fewer than four cores too, where some share one
    #[arg(long)]
    pub(crate) apart: bool,
    /// Where to write every sample as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where to draw the ratios as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
    /// Measure nothing: draw what an earlier run wrote by --json
    #[arg(long, value_name = "FILE", requires = "chart")]
    pub(crate) from: Option<PathBuf>,
    /// What `cargo bench` says to every bench
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Args {
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| row.contains(filter.as_str()))
    }
}
