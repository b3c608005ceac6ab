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
    /// Where to write every sample as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// What `cargo bench` says to every bench
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Args {
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| row.contains(filter.as_str()))
    }
}
