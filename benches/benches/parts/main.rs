//! The parts in memory, each beside the figure of the limit it is held against.
#![allow(clippy::unwrap_used, reason = "constants that a type checks at run time")]

mod checksum;
mod fdb;
mod parse;
mod pipeline;
mod segments;
mod workers;

use std::time::Duration;

use criterion::Criterion;
use vswitch_sys::HugePages;

/// As in `vswitchd`.
#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() {
    // Short: all of it has to end within a minute, and the figures wanted are whole nanoseconds.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(20)
        .without_plots()
        .configure_from_args();
    parse::benches(&mut criterion);
    checksum::benches(&mut criterion);
    fdb::benches(&mut criterion);
    pipeline::benches(&mut criterion);
    workers::benches(&mut criterion);
    segments::benches(&mut criterion);
    criterion.final_summary();
}
